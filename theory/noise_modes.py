"""What an epsilon of noise on the weights is, in each mode, beside the sizes of weights and of what is measured."""

import math

from theory.absorbing import whole_number
from theory.noise_arguments import LARGEST_SCALE, checked_count, checked_rate, checked_scale, number

MODES = ("absolute", "relative_update", "relative_weight", "sgld")
"""What an epsilon is, see `noise_deviation`."""


def noise_deviation(
    mode: str,
    epsilon: float,
    *,
    learning_rate: float | None = None,
    update_norm: float | None = None,
    weights: int | None = None,
    weight_rms: float | None = None,
) -> float:
    """Standard deviation of the noise that each weight gets in a step.

        absolute          epsilon
        relative_update   epsilon D / sqrt(d): the norm of the noise is epsilon times that of the update
        relative_weight   epsilon times the root mean square of the tensor's weights
        sgld              sqrt(2 eta epsilon): epsilon is a temperature [loss]

    Args:
        mode: of ``MODES``.
        epsilon: 0, or from 1e-40 to 1e40.
        learning_rate: eta, for sgld.
        update_norm: D >= 0, the size of the update before noise, for relative_update.
        weights: d >= 1, likewise: the weights that get noise.
        weight_rms: >= 0, for relative_weight.

    Returns:
        [weight].

    Raises:
        ValueError: for numbers out of range, or if one that the mode needs is missing.

    Example:
        >>> noise_deviation("relative_update", 0.3, update_norm=2.0, weights=100)
        0.06
        >>> round(noise_deviation("sgld", 1e-6, learning_rate=0.1), 9)
        0.000447214
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} must be one of {', '.join(MODES)}")
    scale = checked_scale("epsilon", epsilon)
    if mode == "absolute":
        return scale
    if mode == "relative_update":
        size = _given(mode, "update_norm", update_norm)
        if weights is None:
            raise ValueError(f"weights=None must be given for mode={mode!r}")
        return scale * size / math.sqrt(checked_count("weights", weights, 1))
    if mode == "relative_weight":
        return scale * _given(mode, "weight_rms", weight_rms)
    if learning_rate is None:
        raise ValueError(f"learning_rate=None must be given for mode={mode!r}")
    return math.sqrt(2 * checked_rate("learning_rate", learning_rate)) * math.sqrt(scale)


def _given(mode: str, name: str, value: float | None) -> float:
    if value is None:
        raise ValueError(f"{name}=None must be given for mode={mode!r}")
    if not 0 <= number(name, value) <= LARGEST_SCALE:
        raise ValueError(f"{name}={value} must be finite and >= 0")
    return float(value)


def noise_norm(deviation: float, weights: int) -> float:
    """The length of the noise of one step, deviation sqrt(d): to be compared with that of an update.

    Args:
        deviation: of each weight, 0 or from 1e-40 to 1e40 [weight].
        weights: d >= 1.

    Returns:
        The root of its mean square; for many weights it hardly fluctuates.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> round(noise_norm(1e-3, 11_173_962), 4)  # ResNet-18
        3.3427
    """
    return checked_scale("deviation", deviation) * math.sqrt(checked_count("weights", weights, 1))


def he_deviation(fan_in: int) -> float:
    """Standard deviation of He's initialisation for ReLU networks, sqrt(2 / fan_in).

    Args:
        fan_in: inputs of a unit, >= 1; 9 times the channels for a 3x3 convolution.

    Returns:
        [weight].

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> round(he_deviation(9 * 512), 5)
        0.02083

    Reference: [he2015] Eq. (10)
    """
    return math.sqrt(2 / checked_count("fan_in", fan_in, 1))


def averaged_variance_share(horizon: int) -> float:
    """What share of the gradient variance two exponential averages see, 1 - a / (2 - a) with a = 1 / horizon.

    E[g^2] - E[g]^2 with averages over W steps: the average of g still fluctuates, and takes its part away. For
    independent gradients of constant mean, many steps after the start; 0 for W = 1, where the average is the gradient.

    Args:
        horizon: W >= 1 [steps].

    Returns:
        The share.

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> round(averaged_variance_share(20), 4)
        0.9744
    """
    newest = 1 / whole_number("horizon", horizon, 1)
    return 1 - newest / (2 - newest)
