"""Noise added to the weights after each optimizer step: what it does to them, before any training.

With learning rate eta, momentum beta, curvature lambda, weight decay w and c = eta (lambda + w) a direction obeys

    p_k = beta p_{k-1} - c theta_{k-1} - eta dg_k,    theta_k = theta_{k-1} + p_k + epsilon xi_k.

The noise moves the weight, not the momentum p (what the optimizer calls its update, and what the phase machine sees).
Momentum makes gradients act for 1 / (1 - beta) steps, and gradient noise too, but not this noise. Its part of the
variances is

    Var(theta) = epsilon^2 ((1 - beta)^2 kappa(0) + 2 beta (kappa(0) - kappa(1))),    Var(p) = (epsilon c)^2 kappa(0)

with the autocorrelation kappa of the impulse response (theory.heavy_ball): epsilon^2 / (c (2 - c)) without momentum,
about epsilon^2 (1 - beta) / (2 c) for small c. Noise that entered the velocity instead would leave
epsilon^2 kappa(0), larger by 1 / (1 - beta)^2. Batch noise of any kind adds its own part (theory.weight_variance). A
direction of c = 0 makes a random walk, epsilon^2 k after k steps. Epsilon is the standard deviation of a weight's noise
in a step here; theory.noise_modes says what it is in other units.

Measured after the noise, an update would have the variance Var(p) + epsilon^2: a floor that hides from the phase
machine that training slows down.

Reference: [satybaldiev2025] the noise; all variances derived for jostle
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.finite_range_noise import TabulatedNoise
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import LARGEST_SCALE, checked_scale, real_numbers
from theory.noise_modes import MODES, averaged_variance_share, he_deviation, noise_deviation, noise_norm
from theory.potentials import Potential
from theory.weight_variance import ModeVariances, stationary_variances

__all__ = [
    "MODES",
    "NoisyVariances",
    "as_gradient_noise",
    "averaged_variance_share",
    "final_variance",
    "he_deviation",
    "injected_variances",
    "mean_passage_steps",
    "noise_deviation",
    "noise_norm",
    "noise_temperature",
    "noisy_variances",
    "relative_gain",
    "relative_variances",
    "self_feeding_curvature",
    "weight_responses",
]

# ---- Variances -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NoisyVariances:
    """Variances in the stationary state, in the shape of the curvature.

    Attributes:
        weight: Var(theta); ``inf`` where a direction diffuses [weight^2].
        update: Var(p), of the optimizer's step before the noise is added [weight^2].
    """

    weight: Floats
    update: Floats

    def __add__(self, other: "NoisyVariances") -> "NoisyVariances":
        return NoisyVariances(self.weight + other.weight, self.update + other.update)


def injected_variances(modes: HeavyBall, epsilon: float) -> NoisyVariances:
    """What noise of a constant standard deviation, added after each step, does in the stationary state: see the module.

    Args:
        modes: directions of the loss; add weight decay to their curvature (decay as in SGD, part of the gradient).
        epsilon: standard deviation of the noise of a step, 0 or from 1e-40 to 1e40 [weight].

    Returns:
        The variances, without any batch noise; of the weight ``inf`` at zero curvature.

    Raises:
        ValueError: for an epsilon out of range.

    Example:
        >>> decay = HeavyBall(learning_rate=0.1, curvature=1e-4)  # weight decay only
        >>> float(np.sqrt(injected_variances(decay, 1e-3).weight).round(4))
        0.2236
        >>> float(np.sqrt(injected_variances(HeavyBall(0.1, 1e-4, 0.9), 1e-3).weight).round(4))
        0.0707
    """
    square = checked_scale("epsilon", epsilon) ** 2
    if square == 0:
        return NoisyVariances(np.zeros_like(modes.contraction), np.zeros_like(modes.contraction))
    beta = modes.momentum
    with np.errstate(over="ignore"):  # nearly flat directions
        weight = square * ((1 - beta) ** 2 * modes.level + 2 * beta * modes.drop)
        return NoisyVariances(weight, square * modes.contraction * modes.scaled_level)


def noisy_variances(modes: HeavyBall, epsilon: float, batches: GradientNoise) -> NoisyVariances:
    """The same with the noise of batches, of whatever order: parts of independent noises add.

    Args:
        modes: directions of the loss, weight decay in their curvature.
        epsilon: standard deviation of the noise of a step [weight].
        batches: noise of the gradient in each direction.

    Returns:
        The variances.

    Raises:
        ValueError: for an epsilon out of range.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> found = noisy_variances(HeavyBall(0.1, 1.0, 0.9), 0.01, WhiteNoise(1.0))
        >>> float(found.weight.round(6)), float(found.update.round(6))
        (0.514051, 0.054105)
    """
    return injected_variances(modes, epsilon) + _of_batches(stationary_variances(modes, batches))


def _of_batches(found: ModeVariances) -> NoisyVariances:
    """Without injected noise a weight moves by its update."""
    return NoisyVariances(found.weight, found.velocity)


def as_gradient_noise(modes: HeavyBall, epsilon: float) -> GradientNoise:
    """The gradient noise that would move the weights alike: -(epsilon / eta) (xi_k - beta xi_{k-1}).

    With it all of theory.weight_variance holds for weights under injected noise, recordings and phases of an epoch
    included; velocities there are those of the weights, theta_k - theta_{k-1} = p_k + epsilon xi_k.

    Args:
        modes: whose learning rate and momentum count.
        epsilon: standard deviation of the noise of a step [weight].

    Returns:
        The noise.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> modes = HeavyBall(0.1, [0.01, 1.0], 0.9)
        >>> weight = stationary_variances(modes, as_gradient_noise(modes, 0.01)).weight
        >>> bool(np.allclose(weight, injected_variances(modes, 0.01).weight, rtol=1e-12))
        True
    """
    variance, beta = (checked_scale("epsilon", epsilon) / modes.learning_rate) ** 2, modes.momentum
    return TabulatedNoise([variance * (1 + beta**2), -variance * beta])


def relative_gain(modes: HeavyBall, mode: str, epsilon: float) -> float:
    """How much of the variance behind noise relative to updates or weights comes back by that noise itself: below 1.

    The noise has the variance s^2 = epsilon^2 times the mean over all directions of Var(p), or of Var(theta) - s^2 (of
    the weights when the optimizer has moved them), and adds its own part to these. Directions count alike: give as many
    curvatures as there are weights, or a sample.

    Args:
        modes: directions, weight decay in their curvature.
        mode: relative_update or relative_weight.
        epsilon: of that mode.

    Returns:
        The gain; from 1 on noise feeds itself and nothing is stationary. ``inf`` for noise relative to weights if a
        direction has neither curvature nor decay.

    Raises:
        ValueError: for another mode, or an epsilon out of range.

    Example:
        >>> relative_gain(HeavyBall(0.1, 1e-4), "relative_weight", 0.0045) > 1  # decay cannot hold this
        True
    """
    if mode not in ("relative_update", "relative_weight"):
        raise ValueError(f"mode={mode!r} must be relative_update or relative_weight: others do not feed themselves")
    own = injected_variances(modes, _behind(mode, epsilon))
    return float(np.mean(own.update if mode == "relative_update" else own.weight))


def _behind(mode: str, epsilon: float) -> float:
    """Standard deviation of the noise over that of what it is relative to, of weights those after the noise."""
    scale = checked_scale("epsilon", epsilon)
    return scale / math.hypot(1.0, scale) if mode == "relative_weight" else scale


def relative_variances(modes: HeavyBall, mode: str, epsilon: float, batches: GradientNoise) -> NoisyVariances:
    """Stationary variances under batch noise and noise relative to updates or weights.

    Exact for any number of directions: what the noise's size depends on was drawn before. For small c and white batch
    noise, noise relative to updates multiplies the weight variance by about 1 + epsilon^2 (1 - beta) / (1 + beta)
    only: with momentum 0.9 even epsilon = 1 adds 5 %.

    Args:
        modes: directions, weight decay in their curvature.
        mode: relative_update or relative_weight.
        epsilon: of that mode.
        batches: noise of the gradient in each direction.

    Returns:
        The variances; ``inf`` if the gain is 1 or more.

    Raises:
        ValueError: for another mode, or an epsilon out of range.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> modes, noise = HeavyBall(0.01, 0.01, 0.9), WhiteNoise()
        >>> plain = stationary_variances(modes, noise).weight
        >>> float((relative_variances(modes, "relative_update", 1.0, noise).weight / plain).round(4))
        1.0532
    """
    gain = relative_gain(modes, mode, epsilon)
    plain = _of_batches(stationary_variances(modes, batches))
    if gain == 0:
        return plain  # no noise
    if gain >= 1:
        return NoisyVariances(np.full_like(plain.weight, np.inf), np.full_like(plain.update, np.inf))
    behind = plain.update if mode == "relative_update" else plain.weight
    square = _behind(mode, epsilon) ** 2 * float(np.mean(behind)) / (1 - gain)
    own = injected_variances(modes, 1.0)
    with np.errstate(over="ignore"):
        return plain + NoisyVariances(square * own.weight, square * own.update)


def self_feeding_curvature(learning_rate: float, momentum: float, epsilon: float) -> float:
    """The curvature from which noise relative to updates feeds itself, if all directions have it.

    Where the gain of `relative_gain` is 1: 2 (1 - beta^2) / (eta ((1 + beta) epsilon^2 + 1 - beta)).

    Args:
        learning_rate: eta.
        momentum: beta, 0 <= beta < 1.
        epsilon: noise over update, 0 or from 1e-40 to 1e40.

    Returns:
        Curvature and weight decay together [loss / weight^2]; without noise the stability bound 2 (1 + beta) / eta.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> round(self_feeding_curvature(0.1, 0.9, 1.0), 9), round(self_feeding_curvature(0.1, 0.9, 0.0), 9)
        (1.9, 38.0)
    """
    modes = HeavyBall(learning_rate, 0.0, momentum)
    square, beta = checked_scale("epsilon", epsilon) ** 2, modes.momentum
    return 2 * (1 - beta**2) / ((1 + beta) * square + 1 - beta) / modes.learning_rate


# ---- Before the stationary state -------------------------------------------------------------------------------------


def weight_responses(modes: HeavyBall, steps: int) -> Floats:
    """Where a weight is 0, 1, 2, ... steps after a push of length 1: r_j, which is 1 for c = 0 at all times.

    Args:
        modes: directions, weight decay in their curvature.
        steps: how many, >= 1.

    Returns:
        Shape (steps, ...) with the shape of the curvature at the end.

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> weight_responses(HeavyBall(1.0, 0.5, 0.5), 4).tolist()  # it comes back, and passes the minimum
        [1.0, 0.5, 0.0, -0.25]
    """
    steps = whole_number("steps", steps, 1)
    contraction, beta = modes.contraction, np.full_like(modes.contraction, modes.momentum)
    power = np.array([[1 - contraction, beta], [-contraction, beta]])
    found = np.array([np.ones_like(contraction), np.zeros_like(contraction)])[:, None]
    while found.shape[1] < steps:  # each time twice as many
        found = np.concatenate([found, np.einsum("ij...,jn...->in...", power, found)], axis=1)
        power = np.einsum("ij...,jk...->ik...", power, power)
    return found[0, :steps]


def final_variance(modes: HeavyBall, epsilons: npt.ArrayLike) -> Floats:
    """Variance of a weight by the injected noise at the end of a training whose epsilon changes from step to step.

    sum_k epsilon_k^2 r_{n-k}^2 with the responses of `weight_responses`.

    Args:
        modes: directions, weight decay in their curvature; the same at all steps.
        epsilons: standard deviation of the noise of each step, such as `theory.noise_schedule.scales` of absolute
            noise, at least one, each from 0 to 1e40.

    Returns:
        [weight^2], in the shape of the curvature.

    Raises:
        ValueError: for an epsilon out of range, or none.

    Example:
        >>> float(np.sqrt(final_variance(HeavyBall(0.1, 0.0, 0.9), [1e-3] * 10_000)).round(6))  # a random walk
        0.1
    """
    deviations = real_numbers("epsilons", epsilons)
    if deviations.ndim != 1 or not deviations.size:
        raise ValueError(f"epsilons of shape {deviations.shape} must be a list of at least one number")
    bad = deviations[~((deviations >= 0) & (deviations <= LARGEST_SCALE))]
    if bad.size:
        raise ValueError(f"epsilons has an entry {bad[0]}: all must lie between 0 and {LARGEST_SCALE:g}")
    responses = weight_responses(modes, len(deviations))
    return np.tensordot(deviations[::-1] ** 2, responses**2, axes=1)


# ---- Out of a well ---------------------------------------------------------------------------------------------------


def noise_temperature(learning_rate: float, momentum: float, epsilon: float, gradient_noise: float = 0.0) -> float:
    """The temperature of noisy training, T = epsilon^2 (1 - beta) / (2 eta) + eta s^2 / (2 (1 - beta)).

    Smooth directions move as dx = -U'(x) dt + sqrt(2 T) dW with eta / (1 - beta) of the time t in a step. Momentum
    cools the injected noise, and heats that of batches.

    Args:
        learning_rate: eta.
        momentum: beta, 0 <= beta < 1.
        epsilon: standard deviation of the injected noise of a step [weight].
        gradient_noise: s >= 0, standard deviation of independent gradient noise [gradient].

    Returns:
        T [loss]; Var(theta) is T / lambda where c is small against (1 - beta)^2.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> round(noise_temperature(0.1, 0.9, 0.01), 9), round(noise_temperature(0.1, 0.9, 0.0, 0.01), 9)
        (5e-05, 5e-05)
    """
    modes = HeavyBall(learning_rate, 0.0, momentum)
    rate, friction = modes.learning_rate, 1 - modes.momentum
    kicks, shaken = checked_scale("epsilon", epsilon) ** 2, checked_scale("gradient_noise", gradient_noise) ** 2
    return kicks * friction / (2 * rate) + rate * shaken / (2 * friction)


def mean_passage_steps(
    potential: Potential,
    *,
    learning_rate: float,
    momentum: float,
    epsilon: float,
    gradient_noise: float = 0.0,
    start: float,
    target: float,
) -> float:
    """Mean number of steps until constant noise has carried a weight to a target, such as out of a well.

    By the mean first-passage time of dx = -U'(x) dt + sqrt(2 T) dW at the temperature of `noise_temperature`. It holds
    for small steps: eta |U''| far below (1 - beta)^2 on the way.

    Args:
        potential: U, the loss.
        learning_rate: eta.
        momentum: beta, 0 <= beta < 1.
        epsilon: standard deviation of the injected noise of a step [weight].
        gradient_noise: s >= 0, standard deviation of independent gradient noise [gradient].
        start: where the weight is at first.
        target: where it is to be.

    Returns:
        [steps]; ``inf`` beyond the largest float.

    Raises:
        ValueError: for numbers out of range, or without any noise.

    Example:
        >>> well = Potential("(x**2 - 1)**2")
        >>> wanted = {"learning_rate": 0.002, "momentum": 0.5, "start": -1.0, "target": 1.0}
        >>> round(mean_passage_steps(well, epsilon=0.06, **wanted))
        3177
    """
    from theory.escape import mean_escape_time

    temperature = noise_temperature(learning_rate, momentum, epsilon, gradient_noise)
    if temperature == 0:
        raise ValueError("epsilon and gradient_noise are both 0: a passage needs noise")
    time = mean_escape_time(potential, diffusivity=temperature, start=start, target=target)
    return time * (1 - float(momentum)) / float(learning_rate)
