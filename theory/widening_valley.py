"""Noise in a valley that widens along its floor: anti-correlated noise flattens, white noise drifts to the edge.

The loss is L = v^2 |u|^2 / 2 with u in R^d and v in R. Its minima are v = 0, where the only curvature is |u|^2, across
the valley: q = E|u|^2 is the sharpness. The Hessian's trace is Tr H = d v^2 + |u|^2. Gradient descent (rate eta) adds
noise zeta to the weights at every step, independent and alike in all coordinates:

    PGD       zeta = xi_n                   q climbs to (2 / eta) (1 - 1 / d), just below the edge of stability 2 / eta
    Anti-PGD  zeta = xi_n - xi_{n-1}        q falls, where eta q is small as under the regulariser (s^2 / 2) Tr H

xi has mean 0 and variance s^2. There are three levels of description. The moment maps follow q and p = E v^2 step by
step. Each step is exact for Gaussian v, sharp |u|^2 and u independent of v; over many steps that is good to 0.5 % for
Anti-PGD and a few per cent for PGD near the edge, at d = 100. The flows eliminate the fast v. The law

    dq/dn = -2 eta q Var_v(eta q) + d S_zeta(0)

is for any stationary noise. Var_v is the stationary variance of a mode of curvature q under zeta, S_zeta(0) the sum of
the noise's autocovariance. It holds while v relaxes faster than q moves and d Var(zeta) << q. Noise with S_zeta(0) = 0,
such as that of reshuffled batches, can only flatten. In lengths, q, p and s^2 are squares and eta is 1 / length^2.

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD, the valley and the regulariser; maps, flows and the law derived
for jostle
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.passage_law_base import nonnegative, positive
from theory.weight_variance import stationary_variances

FOURTH_MOMENTS = {"gaussian": 3.0, "rademacher": 1.0}
"""E xi^4 / s^4 of one coordinate, by the law of the noise."""


@dataclass(frozen=True)
class Valley:
    """The valley L = v^2 |u|^2 / 2 under gradient descent.

    Attributes:
        dimension: d >= 1, of u; the theory is for large d.
        learning_rate: eta > 0 [length^-2].

    Example:
        >>> valley = Valley(dimension=100, learning_rate=0.005)
        >>> valley.edge_of_stability, round(valley.pgd_saturation, 9)
        (400.0, 396.0)
    """

    dimension: int
    learning_rate: float

    def __post_init__(self) -> None:
        whole_number("dimension", self.dimension, 1)
        positive("learning_rate", self.learning_rate)

    @property
    def edge_of_stability(self) -> float:
        """2 / eta, the sharpness above which v diverges [length^2]."""
        return 2 / self.learning_rate

    @property
    def pgd_saturation(self) -> float:
        """(2 / eta) (1 - 1 / d), the sharpness to which weak white noise leads [length^2]."""
        return self.edge_of_stability * (1 - 1 / self.dimension)

    def checked_sharpness(self, sharpness: npt.ArrayLike, margin: float = 0.0) -> Floats:
        """Check that a sharpness lies below the edge of stability.

        Args:
            sharpness: q, any shape [length^2].
            margin: distance that it must keep from the edge [length^2].

        Returns:
            The sharpness as an array.

        Raises:
            ValueError: unless 0 <= q < 2 / eta - margin.
        """
        q, bound = np.asarray(sharpness, dtype=float), self.edge_of_stability - margin
        bad = q[~((q >= 0) & (q < bound))]
        if bad.size:
            raise ValueError(
                f"sharpness={bad[0]} must be >= 0 and below the edge of stability, here {bound:g}; lower the learning "
                "rate or the noise"
            )
        return q


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments step by step.

    Attributes:
        sharpness: q = E|u|^2, shape (steps + 1,) [length^2].
        across: p = E v^2, shape (steps + 1,) [length^2].
    """

    sharpness: Floats
    across: Floats


# ---- Moment maps -----------------------------------------------------------------------------------------------------


def pgd_moments(valley: Valley, noise_scale: float, sharpness: float, steps: int, *, across: float = 0.0) -> Moments:
    """Second moments under PGD, white noise xi_n.

        q' = q (1 - 2 eta p + 3 eta^2 p^2) + d s^2,    p' = p (1 - eta q)^2 + s^2.

    Args:
        valley: d and eta.
        noise_scale: s, standard deviation of each coordinate of xi [length].
        sharpness: q at the start [length^2].
        steps: how many, >= 0.
        across: p at the start [length^2].

    Returns:
        The moments from the start on.

    Raises:
        ValueError: for arguments out of range, or if the moments diverge.

    Example:
        >>> moments = pgd_moments(Valley(100, 0.005), 0.05, 100.0, 2000)
        >>> moments.sharpness[[100, 600, 2000]].round(6).tolist()
        [124.656189, 247.252849, 396.001896]
    """
    d, eta = valley.dimension, valley.learning_rate
    square = _nonnegative("noise_scale", noise_scale) ** 2

    def step(q: float, p: float) -> tuple[float, float]:
        drop = eta * p
        return q * (1 - 2 * drop + 3 * drop * drop) + d * square, p * (1 - eta * q) * (1 - eta * q) + square

    return _iterate(step, sharpness, across, steps)


def anti_pgd_moments(
    valley: Valley, noise_scale: float, sharpness: float, steps: int, *, across: float = 0.0, law: str = "gaussian"
) -> Moments:
    """Second moments under Anti-PGD, noise xi_n - xi_{n-1}, of z_n = w_n - xi_n.

    z is w without its last noise; w has q + d s^2 and p + s^2. A step of z is -eta times the gradient at z + xi, whose
    mean is exactly the gradient of L + (s^2 / 2) Tr H. With a_1 = p + s^2, a_2 = 3 p^2 + 6 p s^2 + E xi^4,
    b_1 = q + d s^2, b_2 = b_1^2 + 4 q s^2 + Var |xi|^2

        q' = q (1 - 2 eta a_1 + eta^2 a_2) + eta^2 a_2 d s^2,    p' = p (1 - 2 eta b_1 + eta^2 b_2) + eta^2 b_2 s^2.

    Args:
        valley: d and eta.
        noise_scale: s, standard deviation of each coordinate of xi [length].
        sharpness: q at the start [length^2].
        steps: how many, >= 0.
        across: p at the start [length^2].
        law: of xi, ``"gaussian"`` or ``"rademacher"`` (each coordinate +-s).

    Returns:
        The moments from the start on.

    Raises:
        ValueError: for arguments out of range, or if the moments diverge.

    Example:
        >>> moments = anti_pgd_moments(Valley(100, 0.005), 0.05, 100.0, 10_000)
        >>> moments.sharpness[[1000, 10_000]].round(8).tolist()
        [96.73741109, 72.73358626]
    """
    d, eta = valley.dimension, valley.learning_rate
    square, fourth = _nonnegative("noise_scale", noise_scale) ** 2, _fourth_moment(law, noise_scale)

    def step(q: float, p: float) -> tuple[float, float]:
        a_2 = eta * eta * (3 * p * p + 6 * p * square + fourth)
        b_1 = q + d * square
        b_2 = eta * eta * (b_1 * b_1 + 4 * q * square + d * (fourth - square * square))
        return (
            q * (1 - 2 * eta * (p + square) + a_2) + a_2 * d * square,
            p * (1 - 2 * eta * b_1 + b_2) + b_2 * square,
        )

    return _iterate(step, sharpness, across, steps)


def anti_pgd_floor(valley: Valley, noise_scale: float, *, law: str = "gaussian") -> float:
    """The sharpness at which Anti-PGD ends: the fixed point of `anti_pgd_moments`.

    To leading order in eta d s^2 it is (eta / 2) d E xi^4: 1.5 eta d s^4 for Gaussian, 0.5 eta d s^4 for Rademacher xi.

    Args:
        valley: d and eta.
        noise_scale: s, standard deviation of each coordinate of xi [length].
        law: of xi, ``"gaussian"`` or ``"rademacher"``.

    Returns:
        q of z_n = w_n - xi_n [length^2].

    Raises:
        ValueError: for arguments out of range, or noise so strong that there is no fixed point.

    Example:
        >>> round(anti_pgd_floor(Valley(100, 0.005), 0.05) / (1.5 * 0.005 * 100 * 0.05**4), 3)
        1.001
    """
    d, eta = valley.dimension, valley.learning_rate
    square, fourth = positive("noise_scale", noise_scale) ** 2, _fourth_moment(law, noise_scale)
    q = 0.0
    for _ in range(1000):
        b_1 = q + d * square
        b_2 = b_1**2 + 4 * q * square + d * (fourth - square**2)
        p = eta * square * b_2 / (2 * b_1 - eta * b_2)
        a_2 = 3 * p**2 + 6 * p * square + fourth
        restoring = 2 * (p + square) - eta * a_2
        before, q = q, eta * a_2 * d * square / restoring
        if p < 0 or restoring <= 0:
            break
        if abs(q - before) <= 1e-15 * q:
            return q
    raise ValueError(
        f"noise_scale={noise_scale} is too strong for a fixed point: learning_rate * dimension * noise_scale^2 = "
        f"{eta * d * square:g} must be well below 2"
    )


def _iterate(
    step: Callable[[float, float], tuple[float, float]], sharpness: float, across: float, steps: int
) -> Moments:
    q, p = _nonnegative("sharpness", sharpness), _nonnegative("across", across)
    path = np.empty((2, whole_number("steps", steps, 0) + 1))
    path[:, 0] = q, p
    for n in range(1, path.shape[1]):
        q, p = step(q, p)
        if not q + p < math.inf:
            raise ValueError(f"the moments diverge at step {n}; lower the learning rate or the noise, or start flatter")
        path[:, n] = q, p
    return Moments(path[0], path[1])


def _nonnegative(name: str, value: float) -> float:
    return float(nonnegative(name, value))


def _fourth_moment(law: str, noise_scale: float) -> float:
    if law not in FOURTH_MOMENTS:
        raise ValueError(f"law={law!r} must be one of {', '.join(FOURTH_MOMENTS)}")
    return FOURTH_MOMENTS[law] * float(noise_scale) ** 4


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
    q, end = float(valley.checked_sharpness(sharpness)), valley.pgd_saturation
    d, eta = valley.dimension, valley.learning_rate
    time = eta * (d * _nonnegative("noise_scale", noise_scale)) ** 2 / 2 * nonnegative("steps", steps)
    exponent = _decay_exponent(time, eta * d * (q - end) / 2)
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
    square = _nonnegative("noise_scale", noise_scale) ** 2
    q, room = float(valley.checked_sharpness(sharpness, margin=d * square)), 2 - eta * d * square
    exponent = _decay_exponent(4 * eta * square / room * nonnegative("steps", steps), eta * q / room)
    return q * np.exp(-exponent)


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

    times = nonnegative("steps", steps)
    q, edge = float(valley.checked_sharpness(sharpness)), valley.edge_of_stability
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
    """
    return float(stationary_variances(HeavyBall(valley.learning_rate, 0.0), noise).weight)
