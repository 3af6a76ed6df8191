"""Variances of SGD at a minimum: weight, velocity and correlation time for any stationary gradient noise.

Each mode of a quadratic loss filters its noise (theory.heavy_ball). With the autocovariance c_h of the noise, the
autocorrelation kappa(h) of the impulse response and S(0) = sum_h c_h, for noise that does not depend on the weights,

    Var(theta) = eta^2 [S(0) kappa(0) - 2 sum_{h>=1} c_h (kappa(0) - kappa(h))],
    Var(v) = eta^2 [2 c_0 (kappa(0) - kappa(1)) - 2 sum_{h>=1} c_h (kappa(h-1) - 2 kappa(h) + kappa(h+1))].

For anti-correlated noise the terms of the first are positive and finite at zero curvature. The printed matrix form of
the same result ([kuhn2023] Eqs. 14-16) loses all digits there, even the sign. theory.weight_variance_limits has limits,
theory.weight_variance_phases the variance at each phase of an epoch, theory.weight_covariance a noise covariance that
does not commute with the Hessian.

Reference: [kuhn2023] weight and velocity variance and correlation time of reshuffled SGD; for other noises, and in this
form, derived for jostle
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.gradient_noise import GradientNoise, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import real_numbers


@dataclass(frozen=True, eq=False)
class ModeVariances:
    """Variances of each mode, in the shape of the curvature.

    Attributes:
        weight: Var(theta), ``inf`` where a flat mode diffuses, or beyond the largest float [weight^2].
        velocity: Var(v), v_k = theta_k - theta_{k-1} [weight^2].
    """

    weight: Floats
    velocity: Floats

    @property
    def correlation_time(self) -> Floats:
        """The time 2 Var(theta) / Var(v) [updates]; ``inf`` where a flat mode diffuses.

        For any stationary weight it is sum_h h R(h) / sum_h R(h), with the autocovariance R of the velocity and h >= 1.

        Raises:
            ValueError: if a velocity has no variance.
        """
        if (np.asarray(self.velocity) == 0).any():
            raise ValueError("velocity=0 somewhere: a mode without noise has no correlation time")
        return 2 * self.weight / self.velocity

    def scaled(self, factor: npt.ArrayLike) -> "ModeVariances":
        """The variances for another noise variance in each mode.

        Args:
            factor: finite and > 0, broadcast against the curvature.

        Returns:
            The variances times the factor.

        Raises:
            ValueError: for a factor out of range.
        """
        factor = real_numbers("factor", factor)
        bad = factor[~((factor > 0) & np.isfinite(factor))]
        if bad.size:
            raise ValueError(f"factor={bad[0]} must be finite and > 0")
        return ModeVariances(factor * self.weight, factor * self.velocity)

    def __add__(self, other: "ModeVariances") -> "ModeVariances":
        return ModeVariances(self.weight + other.weight, self.velocity + other.velocity)


def stationary_variances(modes: HeavyBall, noise: GradientNoise) -> ModeVariances:
    """Weight and velocity variance of each mode in the stationary state, averaged over the phase within an epoch.

    Exact for noise that does not depend on the weights. Relative errors are below 1e-12 for beta <= 0.999 and all batch
    orders, but for `ReshuffledEvery` (there they are stated), and for tables with a small S(pi) near the stability
    bound (theory.heavy_ball). 10,000 modes and M = 1000 take some 10 ms.

    Args:
        modes: the modes.
        noise: the noise in each of them; for different variances use ``scaled``.

    Returns:
        The variances; weights ``inf`` at zero curvature if S(0) > 0.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> modes = HeavyBall(learning_rate=1.0, curvature=[0.0, 1e-3, 0.1])
        >>> stationary_variances(modes, Reshuffled(batches_per_epoch=10)).weight.round(9).tolist()
        [1.833333333, 1.830587088, 1.592858525]
        >>> stationary_variances(modes, WhiteNoise()).weight.round(9).tolist()
        [inf, 500.250125063, 5.263157895]
    """
    filtered, squared_rate = noise.filtered(modes), modes.learning_rate**2
    with np.errstate(over="ignore"):  # nearly flat modes that diffuse
        return ModeVariances(squared_rate * filtered.weight, squared_rate * filtered.velocity)


def squared_displacements(modes: HeavyBall, noise: GradientNoise, updates: int) -> Floats:
    """E[(theta_{k+h} - theta_k)^2] for h = 0 .. updates, in the stationary state: finite even for a mode that diffuses.

    With D(h) = Var(theta) - C(h): D(h) - D(h-1) = beta (D(h-1) - D(h-2)) - eta lambda D(h-1) + eta lambda Var(theta) -
    eta^2 phi_h, where phi_h is the covariance of the noise with the response h updates before. Errors are relative to
    the largest displacement; what rounding makes negative is zero. Derived for jostle.

    Args:
        modes: the modes.
        noise: the noise in each of them.
        updates: the largest h >= 1; costs grow with it, for `ShuffledOnce` with M, and for tables with their length.

    Returns:
        [weight^2], shape (updates + 1, ...) with the shape of the curvature at the end.

    Raises:
        ValueError: if updates is not a whole number >= 1.

    Example:
        >>> squared_displacements(HeavyBall(1.0, 0.0), WhiteNoise(), 3).tolist()  # a random walk
        [0.0, 1.0, 2.0, 3.0]
    """
    updates = whole_number("updates", updates, 1)
    contraction, beta, filtered = modes.contraction, modes.momentum, noise.filtered(modes)
    half = np.zeros((updates + 1, *contraction.shape))
    half[1] = increment = filtered.velocity / 2
    for h, phi in enumerate(noise.forcing(modes, updates + 1)[2:], 2):
        increment = beta * increment - contraction * half[h - 1] + filtered.restored - phi
        half[h] = half[h - 1] + increment
    return 2 * modes.learning_rate**2 * np.maximum(half, 0.0)


def weight_autocovariance(modes: HeavyBall, noise: GradientNoise, updates: int) -> Floats:
    """C(h) = Cov(theta_k, theta_{k+h}) for h = 0 .. updates, in the stationary state.

    Args:
        modes: the modes.
        noise: the noise in each of them.
        updates: the largest h >= 1; costs grow with it.

    Returns:
        [weight^2], shape (updates + 1, ...) with the shape of the curvature at the end; ``inf`` where a mode diffuses.

    Raises:
        ValueError: if updates is not a whole number >= 1.

    Example:
        >>> weight_autocovariance(HeavyBall(1.0, 0.5), WhiteNoise(), 2).round(9).tolist()
        [1.333333333, 0.666666667, 0.333333333]
    """
    return stationary_variances(modes, noise).weight - squared_displacements(modes, noise, updates) / 2


def window_variances(modes: HeavyBall, noise: GradientNoise, updates: int) -> ModeVariances:
    """Expected variances within a recording of T updates from which its own mean is subtracted.

    E[(1/T) sum_t (theta_t - mean)^2] = (1/T^2) sum_{h=1}^{T-1} (T - h) E[(theta_{k+h} - theta_k)^2], and for the
    velocity Var(v) - E[(theta_{k+T} - theta_k)^2] / T^2. Flat modes are underestimated much where they diffuse (batches
    with replacement) and little where they do not (reshuffled ones). The windows may begin at any phase of an epoch.
    Derived for jostle.

    Args:
        modes: the modes.
        noise: the noise in each of them.
        updates: T >= 2.

    Returns:
        The variances; finite even where a mode diffuses.

    Raises:
        ValueError: if updates is not a whole number >= 2.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> modes = HeavyBall(learning_rate=1.0, curvature=1e-3, momentum=0.9)
        >>> for noise in (Reshuffled(50), WhiteNoise()):
        ...     seen, true = window_variances(modes, noise, 20 * 50), stationary_variances(modes, noise)
        ...     float((seen.weight / true.weight).round(5))
        0.99585
        0.81815
    """
    updates = whole_number("updates", updates, 2)
    displacements = squared_displacements(modes, noise, updates)
    weight = np.tensordot(updates - np.arange(1.0, updates), displacements[1:-1], axes=1) / updates**2
    return ModeVariances(weight, np.maximum(displacements[1] - displacements[-1] / updates**2, 0.0))


@dataclass(frozen=True)
class LossFluctuations:
    """How much of the loss fluctuations is spared by drawing without replacement.

    Modes of zero curvature count with the limit of lambda_i Var(theta_i), which is zero if S(0) = 0.

    Attributes:
        excess_loss: (1/2) sum_i lambda_i Var(theta_i) [loss].
        white: the same with replacement.
        constant: the same if each mode had the largest weight variance of all.
    """

    excess_loss: float
    white: float
    constant: float

    @property
    def reduction(self) -> float:
        """1 - excess_loss / white."""
        return 1 - self.excess_loss / self.white

    @property
    def reduction_to_constant(self) -> float:
        """1 - excess_loss / constant."""
        return 1 - self.excess_loss / self.constant


def loss_fluctuations(modes: HeavyBall, noise: GradientNoise, noise_variance: npt.ArrayLike) -> LossFluctuations:
    """Mean loss above the minimum for a spectrum of curvatures, beside white noise and a constant weight variance.

    Args:
        modes: the modes, shape (n,).
        noise: the noise; only the shape of its autocovariance counts.
        noise_variance: sigma_i^2 > 0 of each mode, shape (n,); often taken proportional to the curvature.

    Returns:
        The three losses. Their ratios depend on the whole spectrum.

    Raises:
        ValueError: unless a curvature is positive, for variances out of range, and for modes of zero curvature that
            diffuse (S(0) > 0): no variance would be the largest.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> curvature = 10 / np.sqrt(np.arange(1, 5001))
        >>> losses = loss_fluctuations(HeavyBall(0.005, curvature, 0.9), Reshuffled(1000), curvature)
        >>> round(losses.reduction, 6), round(losses.reduction_to_constant, 6)
        (0.129793, 0.137937)
    """
    curvature = np.asarray(modes.curvature)
    if curvature.ndim != 1 or not (curvature > 0).any():
        raise ValueError(f"curvature of shape {curvature.shape} must have one dimension and a positive entry")
    noise = noise.normalised()
    if noise.sum_of_autocovariance > 0 and (curvature == 0).any():
        raise ValueError(
            f"curvature={curvature.min()} must be > 0 for noise of S(0) > 0: that mode diffuses; leave it out"
        )
    scale = np.broadcast_to(real_numbers("noise_variance", noise_variance), curvature.shape)
    weight = stationary_variances(modes, noise).scaled(scale).weight
    # lambda Var(theta), the same as restored times eta.
    excess, white = (modes.learning_rate * source.filtered(modes).restored for source in (noise, WhiteNoise()))
    return LossFluctuations(
        float(scale @ excess) / 2, float(scale @ white) / 2, math.fsum(curvature) * float(weight.max()) / 2
    )
