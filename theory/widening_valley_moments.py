"""The valley of theory.widening_valley step by step: the sharpness q = E|u|^2 and p = E v^2 under PGD and Anti-PGD.

Each step is exact for Gaussian v, sharp |u|^2 and u independent of v; over many steps that is good to 0.5 % for
Anti-PGD and a few per cent for PGD near the edge of stability, at d = 100. In lengths, q, p and s^2 are squares and eta
is 1 / length^2.

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD, the valley and the regulariser; maps derived for jostle
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.law_arguments import nonnegative
from theory.noise_arguments import checked_count, checked_rate, checked_scale, number, real_numbers

FOURTH_MOMENTS = {"gaussian": 3.0, "rademacher": 1.0}
"""E xi^4 / s^4 of one coordinate, by the law of the noise."""


@dataclass(frozen=True)
class Valley:
    """The valley L = v^2 |u|^2 / 2 under gradient descent.

    Attributes:
        dimension: d >= 1, of u; the theory is for large d.
        learning_rate: eta, 1e-100 <= eta <= 1e100 [length^-2].

    Example:
        >>> valley = Valley(dimension=100, learning_rate=0.005)
        >>> valley.edge_of_stability, round(valley.pgd_saturation, 9)
        (400.0, 396.0)
    """

    dimension: int
    learning_rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", checked_count("dimension", self.dimension, 1))
        object.__setattr__(self, "learning_rate", checked_rate("learning_rate", self.learning_rate))

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
        q, bound = real_numbers("sharpness", sharpness), self.edge_of_stability - margin
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
    square = checked_scale("noise_scale", noise_scale) ** 2

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
    square, fourth = checked_scale("noise_scale", noise_scale) ** 2, _fourth_moment(law, noise_scale)

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
    square, fourth = checked_scale("noise_scale", noise_scale) ** 2, _fourth_moment(law, noise_scale)
    if not square:
        raise ValueError(f"noise_scale={noise_scale} must be > 0: without noise every sharpness is a fixed point")
    q = 0.0
    for _ in range(1000):
        b_1 = q + d * square
        b_2 = b_1 * b_1 + 4 * q * square + d * (fourth - square * square)
        p = eta * square * b_2 / (2 * b_1 - eta * b_2) if eta * b_2 < 2 * b_1 else math.inf
        a_2 = 3 * p * p + 6 * p * square + fourth
        restoring = 2 * (p + square) - eta * a_2
        if not restoring > 0:
            break
        before, q = q, eta * a_2 * d * square / restoring
        if abs(q - before) <= 1e-15 * q:
            return q
    raise ValueError(
        f"noise_scale={noise_scale} is too strong for a fixed point: learning_rate * dimension * noise_scale^2 = "
        f"{eta * d * square:g} must be well below 2"
    )


def _iterate(
    step: Callable[[float, float], tuple[float, float]], sharpness: float, across: float, steps: int
) -> Moments:
    q = float(nonnegative("sharpness", number("sharpness", sharpness)))
    p = float(nonnegative("across", number("across", across)))
    path = np.empty((2, whole_number("steps", steps, 0) + 1))
    path[:, 0] = q, p
    for n in range(1, path.shape[1]):
        q, p = step(q, p)
        if not q + p < math.inf:
            raise ValueError(f"the moments diverge at step {n}; lower the learning rate or the noise, or start flatter")
        path[:, n] = q, p
    return Moments(path[0], path[1])


def _fourth_moment(law: str, noise_scale: float) -> float:
    if law not in tuple(FOURTH_MOMENTS):
        raise ValueError(f"law={law!r} must be one of {', '.join(FOURTH_MOMENTS)}")
    return FOURTH_MOMENTS[law] * checked_scale("noise_scale", noise_scale) ** 4
