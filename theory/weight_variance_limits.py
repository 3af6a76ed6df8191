"""Limits of the weight variance of reshuffled SGD: two regimes and the crossover between them.

Steep modes relax within an epoch and see white noise: Var(theta) ~ 1 / lambda. Flat modes see that the noise of an
epoch sums to zero: their variance is finite at lambda -> 0. In units of that for white noise the crossover is

    Phi(x) = 1 - 2 (x - 1 + e^{-x}) / x^2,   x = eta lambda M / (1 - beta),

for (1 - beta) M >> 1 and eta lambda << 1. It passes 0.544 at lambda_cross (x = 3) and nears 1 slowly, as 1 - 2 / x.

Reference: [kuhn2023] the crossover curvature and the correlation time of flat modes; Phi is derived for jostle
"""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import real_numbers


def crossover_curvature(learning_rate: float, batches_per_epoch: int, momentum: float = 0.0) -> float:
    """lambda_cross = 3 (1 - beta) / (eta M), where the leading-order correlation times of both regimes meet.

    Args:
        learning_rate: eta > 0.
        batches_per_epoch: M >= 2.
        momentum: beta, 0 <= beta < 1.

    Returns:
        lambda_cross [loss / weight^2].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> round(crossover_curvature(learning_rate=0.005, batches_per_epoch=1000, momentum=0.9), 12)
        0.06
    """
    modes = HeavyBall(learning_rate, 0.0, momentum)
    batches = whole_number("batches_per_epoch", batches_per_epoch, 2)
    return 3 * (1 - modes.momentum) / (modes.learning_rate * batches)


def crossover_function(scaled_curvature: npt.ArrayLike) -> Floats:
    """Phi(x) = 1 - 2 (x - 1 + e^{-x}) / x^2: weight variance of reshuffled batches over that with replacement.

    Args:
        scaled_curvature: x = eta lambda M / (1 - beta) = 3 lambda / lambda_cross >= 0, any shape.

    Returns:
        Phi in the same shape, with full relative accuracy: x / 3 - x^2 / 12 for small x.

    Raises:
        ValueError: for negative or infinite arguments.

    Example:
        >>> crossover_function([0.0, 0.1, 3.0]).round(10).tolist()
        [0.0, 0.0325163928, 0.5444917626]
    """
    x = real_numbers("scaled_curvature", scaled_curvature)
    bad = x[~((x >= 0) & np.isfinite(x))]
    if bad.size:
        raise ValueError(f"scaled_curvature={bad[0]} must be finite and >= 0")
    # Phi = 2 sum_{k>=1} (-1)^{k+1} x^k / (k + 2)!
    small = np.where(x < 1, x, 0.0)
    series = np.zeros_like(x)
    for k in range(17, 0, -1):
        series = small * (2 / math.factorial(k + 2) - series)
    large = np.where(x < 1, 1.0, x)
    return np.where(x < 1, series, 1 - 2 * ((large + np.expm1(-large)) / large) / large)


def leading_correlation_time(modes: HeavyBall, batches_per_epoch: int) -> Floats:
    """Correlation time min((M / 3) (1 + beta) / (1 - beta), (1 + beta) / (eta lambda)) of the two regimes.

    The second is exact for white noise; the first, of leading order in M, is 26 % too long at M = 10, beta = 0.9.

    Args:
        modes: the modes.
        batches_per_epoch: M >= 2.

    Returns:
        [updates], in the shape of the curvature.

    Raises:
        ValueError: if batches_per_epoch is not a whole number >= 2.

    Example:
        >>> leading_correlation_time(HeavyBall(1.0, [0.0, 0.1]), 300).tolist()
        [100.0, 10.0]
    """
    beta, contraction = modes.momentum, modes.contraction
    flat = whole_number("batches_per_epoch", batches_per_epoch, 2) * (1 + beta) / (3 * (1 - beta))
    # As a rate, so that zero curvature is no special case.
    return 1 / np.maximum(1 / flat, contraction / (1 + beta))
