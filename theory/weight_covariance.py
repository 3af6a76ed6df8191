"""Weight covariance of SGD at a minimum when the noise covariance C does not commute with the Hessian H.

In the eigenbasis of H the modes i and j share noise C_ij c_h, where c_h is the autocovariance of the batch order. With
the impulse responses g of the modes and kappa_ij(h) = sum_k g_i(k) g_j(k+h),

    Cov(theta_i, theta_j) = eta^2 C_ij [S(0) kappa_ij(0) - sum_{h>=1} c_h (2 kappa_ij(0) - kappa_ij(h) - kappa_ji(h))].

kappa_ij(h) obeys the equation of mode j, so each mode needs its sums over lags once (theory.heavy_ball), and each pair,
with x = eta lambda_i and y = eta lambda_j,

    kappa_ij(0) = (1 - beta^2) / [(1 - beta)^2 ((1 + beta)(x + y) - x y) + beta (x - y)^2].

No Lyapunov equation of size 2 d has to be solved. Derived for jostle; for C that commutes with H this is
theory.weight_variance.

Reference: [kuhn2023] the commuting case
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall, LagPolynomial
from theory.noise_arguments import real_numbers

SYMMETRY_TOLERANCE = 1e-9
"""Matrices may miss symmetry, and the Hessian and C positivity, by this much of their largest entry."""

LARGEST_ENTRY = 1e150
"""Of a matrix; products of larger ones are no floats."""


@dataclass(frozen=True, eq=False)
class WeightCovariance:
    """Covariances in the stationary state, averaged over the phase within an epoch.

    Attributes:
        weight: Cov(theta), shape (d, d) [weight^2].
        velocity: Cov(v), v_k = theta_k - theta_{k-1}, shape (d, d) [weight^2].
    """

    weight: Floats
    velocity: Floats


def stationary_covariance(
    hessian: npt.ArrayLike,
    noise_covariance: npt.ArrayLike,
    noise: GradientNoise,
    learning_rate: float,
    momentum: float = 0.0,
) -> WeightCovariance:
    """Stationary weight and velocity covariance for any Hessian and noise covariance.

    Near the stability bound, and for `Persistent` noise of r -> 1, it loses digits that theory.weight_variance keeps.

    Args:
        hessian: H of the mean loss, symmetric and positive semidefinite, shape (d, d).
        noise_covariance: C = Cov(dg_k), symmetric and positive semidefinite, shape (d, d) [gradient^2].
        noise: the batch order; only the shape of its autocovariance counts.
        learning_rate: eta > 0.
        momentum: beta, 0 <= beta < 1.

    Returns:
        The covariances in the basis of the arguments.

    Raises:
        ValueError: for arguments out of range, or where a flat direction diffuses (S(0) > 0 and an eigenvalue zero).

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> hessian, noise_covariance = np.diag([0.1, 0.2]), np.array([[1.0, 0.5], [0.5, 1.0]])
        >>> stationary_covariance(hessian, noise_covariance, Reshuffled(10), learning_rate=1.0).weight.round(6).tolist()
        [[1.592859, 0.72364], [0.72364, 1.410649]]
    """
    curvature, basis = np.linalg.eigh(_symmetric("hessian", hessian))
    curvature = np.where(np.abs(curvature) <= SYMMETRY_TOLERANCE * np.abs(curvature).max(initial=0.0), 0.0, curvature)
    covariance = _symmetric("noise_covariance", noise_covariance)
    least = np.linalg.eigvalsh(covariance).min()
    if least < -SYMMETRY_TOLERANCE * np.abs(covariance).max():
        raise ValueError(f"noise_covariance has an eigenvalue {least:g}; it must be positive semidefinite")
    if covariance.shape != basis.shape:
        raise ValueError(f"noise_covariance has shape {covariance.shape}; the hessian's is {basis.shape}")
    modes = HeavyBall(learning_rate, curvature, momentum)
    unit = noise.normalised()
    if unit.sum_of_autocovariance > 0 and (curvature == 0).any():
        raise ValueError("hessian has an eigenvalue 0: with noise of S(0) > 0 that direction diffuses; leave it out")
    weight, velocity = _pair_variances(modes, unit)
    shared = basis.T @ covariance @ basis * modes.learning_rate**2
    return WeightCovariance(basis @ (shared * weight) @ basis.T, basis @ (shared * velocity) @ basis.T)


def _pair_variances(modes: HeavyBall, noise: GradientNoise) -> tuple[Floats, Floats]:
    """Covariances of all pairs of modes for C_ij = eta = 1: rows i, columns j, whose polynomials act."""
    beta, y = modes.momentum, modes.contraction
    total, halves = y[:, None] + y, np.full((len(y), len(y)), 0.5)
    share = np.divide(np.broadcast_to(y, total.shape), total, out=halves, where=total > 0)
    # (x + y) kappa_ij(0), finite for flat pairs, where the shares of x and y count as equal.
    scaled_level = (1 - beta**2) / (
        (1 - beta) ** 2 * (1 + beta - share * y[:, None]) + beta * np.abs(y[:, None] - y) * np.abs(1 - 2 * share)
    )
    own, other = scaled_level * share, scaled_level * (1 - share)
    drop = (own - beta * other) / (1 - beta**2)
    second = (1 - beta + y) * drop - own
    third = (1 - beta + y) * second - y * drop

    def first_difference(polynomial: LagPolynomial) -> Floats:
        return polynomial.constant * drop + polynomial.slope * second

    def second_difference(polynomial: LagPolynomial) -> Floats:
        return polynomial.constant * second + polynomial.slope * third

    sums = noise.lag_sums(modes)
    half_weight = -first_difference(sums.contrast)
    half_velocity = noise.variance * drop - second_difference(sums.tail)
    weight = half_weight + half_weight.T
    if noise.sum_of_autocovariance > 0:
        weight = weight + noise.sum_of_autocovariance * scaled_level / total
    return weight, half_velocity + half_velocity.T


def _symmetric(name: str, matrix: npt.ArrayLike) -> Floats:
    result = real_numbers(name, matrix)
    if result.ndim != 2 or result.shape != result.T.shape or not result.size or not np.isfinite(result).all():
        raise ValueError(f"{name} has shape {result.shape}; it must be a square matrix of finite numbers")
    if np.abs(result).max() > LARGEST_ENTRY:
        raise ValueError(f"{name} has entries of {np.abs(result).max():g}; they must be {LARGEST_ENTRY:g} at most")
    if np.abs(result - result.T).max() > SYMMETRY_TOLERANCE * np.abs(result).max():
        raise ValueError(f"{name} misses symmetry by {np.abs(result - result.T).max():g}; symmetrise it")
    return (result + result.T) / 2
