"""Noise in a valley that widens along its floor: anti-correlated noise flattens, white noise drifts to the edge.

The loss is L = v^2 |u|^2 / 2 with u in R^d and v in R. Its minima are v = 0, where the only curvature is |u|^2, across
the valley: q = E|u|^2 is the sharpness. The Hessian's trace is Tr H = d v^2 + |u|^2. Gradient descent (rate eta) adds
noise zeta to the weights at every step, independent and alike in all coordinates:

    PGD       zeta = xi_n                   q climbs to (2 / eta) (1 - 1 / d), just below the edge of stability 2 / eta
    Anti-PGD  zeta = xi_n - xi_{n-1}        q falls, where eta q is small as under the regulariser (s^2 / 2) Tr H

xi has mean 0 and variance s^2. There are three levels of description. The moment maps of theory.widening_valley_moments
follow q and p = E v^2 step by step. The flows eliminate the fast v. The law

    dq/dn = -2 eta q Var_v(eta q) + d S_zeta(0)

is for any stationary noise. Var_v is the stationary variance of a mode of curvature q under zeta, S_zeta(0) the sum of
the noise's autocovariance. It holds while v relaxes faster than q moves and the noise adds little to q between the
times at which q is told: d Var(zeta) << q for S_zeta(0) > 0; for S_zeta(0) = 0, where it comes and goes, d s_eff^2 << q
with `smoothing_variance`, which for M reshuffled batches is s_eff^2 = Var(zeta) (M + 1) / 6. The relative error of the
decrease of q is then about 0.7 d s_eff^2 / q: 1 % measured at d s_eff^2 / q = 0.007, 3 % at 0.042, 11 % at 0.168. So q
itself comes out too low by the fraction 0.7 d s_eff^2 (1 / q - 1 / q_0). Noise with S_zeta(0) = 0 can only flatten. In
lengths, q, p and s^2 are squares and eta is 1 / length^2.

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD, the valley and the regulariser; maps, flows and the law derived
for jostle
"""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.law_arguments import nonnegative
from theory.noise_arguments import checked_scale, number, real_numbers
from theory.weight_variance import stationary_variances
from theory.widening_valley_moments import (
    FOURTH_MOMENTS,
    Moments,
    Valley,
    anti_pgd_floor,
    anti_pgd_moments,
    pgd_moments,
)

__all__ = [
    "FOURTH_MOMENTS",
    "Moments",
    "Valley",
    "anti_pgd_floor",
    "anti_pgd_flow",
    "anti_pgd_moments",
    "pgd_flow",
    "pgd_moments",
    "sharpness_flow",
    "sharpness_rate",
    "smoothing_variance",
]

LONGEST = 1e300
"""Time in units of the flow, beyond which nothing changes."""


# ---- Closed flows ----------------------------------------------------------------------------------------------------


def pgd_flow(valley: Valley, noise_scale: float, sharpness: float, steps: npt.ArrayLike) -> Floats:
    """q(n) under PGD with v eliminated: dq/dn = s^2 (d - 2 / (2 - eta q)).

    With x = eta q and its end x* = 2 (1 - 1 / d): (x - x_0) / d + (2 / d^2) ln((x* - x_0) / (x* - x)) = eta s^2 n. The
    first steps, in which v finds its variance, are missing.

    Args:
        valley: d and eta.
        noise_scale: s, standard deviation of each coordinate of xi [length].
        sharpness: q at the start, below 2 / eta [length^2].
        steps: n >= 0, any shape.

    Returns:
        q, in the shape of the steps [length^2].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> pgd_flow(Valley(100, 0.005), 0.05, 100.0, [100, 600]).round(6).tolist()
        [124.652168, 247.247692]
    """
    q, end = _start(valley, sharpness), valley.pgd_saturation
    d, eta = valley.dimension, valley.learning_rate
    rate = eta * (d * checked_scale("noise_scale", noise_scale)) ** 2 / 2
    exponent = _decay_exponent(_times(rate, steps), eta * d * (q - end) / 2)
    return q + (q - end) * np.expm1(-exponent)


def anti_pgd_flow(valley: Valley, noise_scale: float, sharpness: float, steps: npt.ArrayLike) -> Floats:
    """q(n) under Anti-PGD with v eliminated: dq/dn = -4 eta s^2 q / (2 - eta (q + d s^2)).

    That is (2 - eta d s^2) ln(q_0 / q) - eta (q_0 - q) = 4 eta s^2 n. Where eta q is small, q falls as e^{-2 eta s^2 n}
    does, by the regulariser (s^2 / 2) Tr H, and faster in a sharp valley. The floor (`anti_pgd_floor`) is neglected.

    Args:
        valley: d and eta.
        noise_scale: s, standard deviation of each coordinate of xi [length].
        sharpness: q at the start, of z_n = w_n - xi_n, below 2 / eta - d s^2 [length^2].
        steps: n >= 0, any shape.

    Returns:
        q of z_n, in the shape of the steps [length^2].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> anti_pgd_flow(Valley(100, 0.005), 0.05, 100.0, [1000, 10_000]).round(6).tolist()
        [96.736489, 72.733756]
    """
    d, eta = valley.dimension, valley.learning_rate
    square = checked_scale("noise_scale", noise_scale) ** 2
    q, room = _start(valley, sharpness, d * square), 2 - eta * d * square
    exponent = _decay_exponent(_times(4 * eta * square / room, steps), eta * q / room)
    return q * np.exp(-exponent)


def _start(valley: Valley, sharpness: float, margin: float = 0.0) -> float:
    return float(valley.checked_sharpness(number("sharpness", sharpness), margin))


def _times(rate: float, steps: npt.ArrayLike) -> Floats:
    with np.errstate(over="ignore"):
        return np.minimum(rate * nonnegative("steps", real_numbers("steps", steps)), LONGEST)


def _decay_exponent(time: Floats, start: float) -> Floats:
    """The x >= 0 with x - start (1 - e^{-x}) = time, for start < 1.

    By Newton's method from the side on which it doesn't overshoot. Lambert's W function would be as good but where
    start is close to 1, and needs three branches.
    """
    x = time + start if start > 0 else np.maximum(time / (1 - start), time + start)
    for _ in range(100):
        error = x + start * np.expm1(-x) - time
        change = error / np.maximum(1 - start - start * np.expm1(-x), 1e-300)
        x = np.maximum(x - change, 0.0)
        if (np.abs(change) <= 1e-15 * x).all():
            break
    return x


# ---- Any stationary noise --------------------------------------------------------------------------------------------


def sharpness_rate(valley: Valley, noise: GradientNoise, sharpness: npt.ArrayLike) -> Floats:
    """dq/dn = -2 eta q Var_v(eta q) + d S_zeta(0).

    Args:
        valley: d and eta.
        noise: of the gradient, so that zeta_n = -eta dg_n has eta^2 times its autocovariance.
        sharpness: q, any shape, below 2 / eta [length^2].

    Returns:
        In the shape of the sharpness [length^2 per step].

    Raises:
        ValueError: for a sharpness out of range.

    Example:
        >>> from theory.gradient_noise import AntiCorrelatedIncrements
        >>> valley = Valley(100, 0.005)
        >>> noise = AntiCorrelatedIncrements.of_weights(0.05, valley.learning_rate)
        >>> rate = -4 * 0.005 * 0.05**2 * 100 / (2 - 0.5)  # of Anti-PGD
        >>> round(float(sharpness_rate(valley, noise, 100.0)) / rate, 9)
        1.0
    """
    q = valley.checked_sharpness(sharpness)
    drift = valley.learning_rate**2 * noise.sum_of_autocovariance
    modes = HeavyBall(valley.learning_rate, np.where(q > 0, q, 1 / valley.learning_rate))
    # For q -> 0 only the sum of the autocovariance is left of the first term.
    flattening = np.where(q > 0, 2 * valley.learning_rate * q * stationary_variances(modes, noise).weight, drift)
    return valley.dimension * drift - flattening


def sharpness_flow(valley: Valley, noise: GradientNoise, sharpness: float, steps: npt.ArrayLike) -> Floats:
    """q(n), the solution of `sharpness_rate`, to nine digits.

    Args:
        valley: d and eta.
        noise: of the gradient.
        sharpness: q at the start, below 2 / eta [length^2].
        steps: n >= 0, any shape.

    Returns:
        q, in the shape of the steps [length^2].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> valley = Valley(100, 0.005)
        >>> noise = Reshuffled(batches_per_epoch=20, variance=(0.02 / valley.learning_rate) ** 2)
        >>> sharpness_flow(valley, noise, 100.0, [4000, 40_000]).round(3).tolist()
        [98.079, 81.65]
    """
    from scipy.integrate import solve_ivp

    times = nonnegative("steps", real_numbers("steps", steps))
    q, edge = _start(valley, sharpness), valley.edge_of_stability
    if not times.max(initial=0.0):
        return np.full(times.shape, q)

    # In y = -ln(1 - q / edge) >= 0 there is no edge to step over.
    def rate(_: float, y: Floats) -> Floats:
        y = np.clip(y, 0.0, 36.0)
        return sharpness_rate(valley, noise, -edge * np.expm1(-y)) / edge * np.exp(y)

    moments, where = np.unique(times, return_inverse=True)
    start = -math.log1p(-q / edge)
    solution = solve_ivp(rate, (0.0, moments[-1]), [start], "LSODA", moments, rtol=1e-11, atol=1e-13)
    return (-edge * np.expm1(-np.maximum(solution.y[0], 0.0)))[where].reshape(times.shape)


def smoothing_variance(valley: Valley, noise: GradientNoise) -> float:
    """s_eff^2 of the effective regulariser (s_eff^2 / 2) Tr H: the stationary variance of a flat mode.

    In terms of the noise on the weights it is -sum_{h>=1} h c_h: s^2 for Anti-PGD, c_0 (M + 1) / 6 for M reshuffled
    batches per epoch. The regulariser acts as dq/dn = -2 eta s_eff^2 q, which needs eta q << 1, and eta q M << 1 for
    reshuffled batches.

    Args:
        valley: d and eta.
        noise: of the gradient.

    Returns:
        s_eff^2 [length^2]; ``inf`` for noise with a sum, which diffuses along the valley.

    Example:
        >>> from theory import AntiCorrelatedIncrements, WhiteNoise
        >>> valley = Valley(10, 0.1)
        >>> noise = AntiCorrelatedIncrements.of_weights(0.05, learning_rate=0.1)
        >>> round(smoothing_variance(valley, noise), 9), smoothing_variance(valley, WhiteNoise())  # s^2
        (0.0025, inf)
    """
    return float(stationary_variances(HeavyBall(valley.learning_rate, 0.0), noise).weight)
