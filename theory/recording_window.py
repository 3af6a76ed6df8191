"""What a recording of T updates shows of a stationary variance, after its own mean or its own straight line is removed.

With the residual r_t of an orthogonal projection, sum_t r_t^2 is a quadratic form of the T weights that does not change
when all of them are shifted, so that its mean is made of squared displacements alone, which are finite even where a
mode diffuses. With n = T - h and q(h) = E[(theta_{k+h} - theta_k)^2],

    mean removed:  E[(1 / T) sum_t r_t^2] = (1 / T) sum_{h=1}^{T-1} q(h) n / T,
    line removed:  E[(1 / T) sum_t r_t^2] = (1 / T) sum_{h=1}^{T-1} q(h) [n / T + n (n^2 - 1 - 3 h^2) / (T (T^2 - 1))].

The second bracket is the autocorrelation of the normalised line. A velocity loses its mean in both cases: a weight that
drifts along a line has a velocity with a mean. Windows may begin at any phase of an epoch; for windows of n whole
epochs, all from the beginning of one, the error is of the order 1 / n^2. Derived for jostle.
"""

import numpy as np

from theory.absorbing import Floats, whole_number
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance import ModeVariances, squared_displacements

DRIFTS = ("mean", "line")
"""What can be removed from a recording."""

_VALUES = 2**22
"""Displacements in memory at once; 32 MiB, and as much again for what they are made of."""


def removed_share(updates: int, drift: str = "mean") -> Floats:
    """Weights w(h) for which E[(1 / T) sum_t r_t^2] = (1 / T) sum_{h=1}^{T-1} w(h) E[(theta_{k+h} - theta_k)^2].

    Args:
        updates: T >= 2, for ``"line"`` T >= 3.
        drift: ``"mean"`` or ``"line"``, what is removed.

    Returns:
        w(1), ..., w(T - 1).

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> removed_share(3, "mean").round(6).tolist(), removed_share(3, "line").round(6).tolist()
        ([0.666667, 0.333333], [0.666667, -0.166667])
    """
    if drift not in DRIFTS:
        raise ValueError(f"drift={drift!r} must be one of {', '.join(DRIFTS)}")
    total = whole_number("updates", updates, 2 if drift == "mean" else 3)
    lag = np.arange(1.0, total)
    left = total - lag
    share = left / total
    if drift == "line":
        share += left / total * (left**2 - 1 - 3 * lag**2) / (float(total) ** 2 - 1)
    return share


def recorded_variances(modes: HeavyBall, noise: GradientNoise, updates: int, drift: str = "mean") -> ModeVariances:
    """Expected variances of weights and velocities within a recording, after its mean or its line is removed.

    ``theory.weight_variance.window_variances`` for many modes and long recordings, in little memory; 1,000 modes and
    T = 20,000 take about 2 s.

    Args:
        modes: the modes, curvature of any shape.
        noise: the noise in each of them.
        updates: T >= 3.
        drift: ``"mean"`` or ``"line"``.

    Returns:
        The variances, in the shape of the curvature; finite even where a mode diffuses.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> from theory.gradient_noise import Reshuffled, WhiteNoise
        >>> modes = HeavyBall(learning_rate=1.0, curvature=[1e-4, 1e-3], momentum=0.9)
        >>> for noise in (Reshuffled(50), WhiteNoise()):
        ...     true = 512.7905383747577 if noise == Reshuffled(50) else 1.9 / 1e-4 / 0.1 / (3.8 - 1e-4)
        ...     shown = [recorded_variances(modes, noise, 1000, drift).weight[0] / true for drift in ("mean", "line")]
        ...     [round(float(share), 5) for share in shown]
        [0.97401, 0.93647]
        [0.25927, 0.12282]
    """
    total = whole_number("updates", updates, 3)
    share = removed_share(total, drift) / total
    flat = np.ravel(modes.curvature)
    weight, velocity = np.empty((2, flat.size))
    size = max(1, _VALUES // (total + 1))
    for first in range(0, flat.size, size):
        some = slice(first, first + size)
        displaced = squared_displacements(HeavyBall(modes.learning_rate, flat[some], modes.momentum), noise, total)
        weight[some] = share @ displaced[1:-1]
        velocity[some] = np.maximum(displaced[1] - displaced[-1] / total**2, 0.0)
    shape = modes.contraction.shape
    return ModeVariances(weight.reshape(shape), velocity.reshape(shape))
