"""Continuous-time laws of a first-passage time T that are put together from a function, from data or from other laws.

Closed forms are in theory.waiting_times, theory.heavy_tailed_times and theory.diffusion_laws, restarted laws in
theory.resetting. All of them, and those of one's own, are a `PassageLaw`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, distributions, whole_number
from theory.law_arguments import (
    LARGEST,
    Complexes,
    integral_arguments,
    nonnegative,
    positive,
    probabilities_of_quantiles,
    right_half_plane,
)
from theory.passage_law_base import PassageLaw

__all__ = [
    "Deterministic",
    "EmpiricalLaw",
    "Mixture",
    "PassageLaw",
    "SurvivalLaw",
    "nonnegative",
    "positive",
    "power_exponential_integral",
]


@dataclass(frozen=True, eq=False)
class SurvivalLaw(PassageLaw):
    """A law known by its survival function alone.

    Attributes:
        function: Psi, takes an array of times >= 0 and returns an array of its shape.
        probability: Pr(T < inf); below 1 if some runs never arrive.

    Example:
        >>> law = SurvivalLaw(lambda time: (1 + time) * np.exp(-time))
        >>> round(law.mean, 12), round(law.laplace(1.0), 12)
        (2.0, 0.25)
    """

    function: Callable[[Floats], Floats]
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability={self.probability} must be > 0 and <= 1: Pr(T < inf)")
        if abs(float(self.survival(0.0)) - 1) > 1e-12:
            raise ValueError(f"function gives Psi(0)={float(self.survival(0.0))}; it must be 1: no run has arrived yet")

    def survival(self, time: npt.ArrayLike) -> Floats:
        """Psi(t) as the function gives it.

        Args:
            time: t >= 0, any shape [time].

        Returns:
            The shape of ``time``.

        Raises:
            ValueError: for a bad time, or if the function returns another shape or something that is not in 0..1.
        """
        t = nonnegative("time", time)
        with np.errstate(all="ignore"):  # at 1e-300 or 1e300 a function may overflow on its way to 0 or 1
            result = np.asarray(self.function(t), dtype=float)
        if result.shape != t.shape:
            raise ValueError(f"function returns shape {result.shape} for times of shape {t.shape}; it must keep it")
        good = (result >= -1e-12) & (result <= 1 + 1e-12)
        if not good.all():
            raise ValueError(f"function gives Psi({t[~good].flat[0]})={result[~good].flat[0]}; it must be from 0 to 1")
        return np.clip(result, 0.0, 1.0)[()]

    @property
    def arrival_probability(self) -> float:
        """Pr(T < inf)."""
        return self.probability


@dataclass(frozen=True)
class Deterministic(PassageLaw):
    """T is always the same; as a timer, sharp restart.

    Attributes:
        time: T > 0.

    Example:
        >>> law = Deterministic(2.0)
        >>> law.mean, law.variance, law.survival([1.0, 2.0]).tolist()
        (2.0, 0.0, [1.0, 0.0])
    """

    time: float

    def __post_init__(self) -> None:
        time = float(self.time)
        if not (time > 0 and math.isfinite(time)):
            raise ValueError(f"time={self.time} must be finite and > 0")
        if time > LARGEST:  # an overhead may be as short as it likes
            raise ValueError(f"time={self.time} must be at most {LARGEST:g}; choose other units")
        object.__setattr__(self, "time", time)

    def survival(self, time: npt.ArrayLike) -> Floats:
        """1 before T, 0 from T on."""
        return np.where(nonnegative("time", time) < self.time, 1.0, 0.0)[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """Refused: all of the probability is at one time.

        Raises:
            ValueError: always.
        """
        raise ValueError("Deterministic has no density: all of its probability is at one time")

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """int_0^min(upper, T) t^order e^{-rate t} dt."""
        order, rate, upper = integral_arguments(order, rate, upper)
        return float(power_exponential_integral(order, rate, np.array(min(self.time, upper))))

    def laplace(self, rate: float) -> float:
        """e^{-r T}."""
        return math.exp(-float(nonnegative("rate", rate)) * self.time)

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """(1 - e^{-s T}) / s."""
        s = right_half_plane(rates)
        return (-np.expm1(-s * self.time) / s)[()]

    @property
    def variance(self) -> float:
        """0."""
        return 0.0

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """T, whatever the probability."""
        return np.full(np.shape(probabilities_of_quantiles(probability)), float(self.time))[()]

    @cached_property
    def time_scale(self) -> float:
        """T."""
        return float(self.time)


@dataclass(frozen=True, eq=False)
class EmpiricalLaw(PassageLaw):
    """The law of measured times: each of them with the same probability.

    Every integral is an exact sum, so that a mean under restart is what the samples themselves predict:
    T~(r) = mean(exp(-r T_i)), and the sharp restricted mean is mean(min(T_i, P)). Runs that were stopped before they
    arrived do not belong here: their law needs theory.survival.

    Attributes:
        times: complete first-passage times > 0, shape (n,); kept sorted and read-only.

    Example:
        >>> law = EmpiricalLaw(np.array([3.0, 1.0]))
        >>> law.mean, law.variance, law.restricted_mean(2.0), law.survival([0.0, 1.0, 3.0]).tolist()
        (2.0, 1.0, 1.5, [1.0, 0.5, 0.0])
    """

    times: Floats

    def __post_init__(self) -> None:
        times = np.sort(np.array(self.times, dtype=float), axis=None)
        if np.ndim(self.times) != 1 or len(times) == 0:
            raise ValueError(f"times has shape {np.shape(self.times)}; it must have one dimension and a time at least")
        if not (np.isfinite(times) & (times > 0)).all():
            raise ValueError(
                f"times has {times[~(np.isfinite(times) & (times > 0))][0]}; all must be finite and > 0. "
                "Runs that did not arrive need a restricted mean (theory.survival)"
            )
        times.flags.writeable = False
        object.__setattr__(self, "times", times)

    def __repr__(self) -> str:
        # Messages and headings name the law; there may be millions of times.
        return f"EmpiricalLaw({len(self.times)} times from {self.times[0]:g} to {self.times[-1]:g})"

    def survival(self, time: npt.ArrayLike) -> Floats:
        """The fraction of the times that are larger than t."""
        return 1 - self.arrived(time)

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """The fraction of the times that are at most t."""
        return (np.searchsorted(self.times, nonnegative("time", time), side="right") / len(self.times))[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """Refused: a finite number of times has no density.

        Raises:
            ValueError: always.
        """
        raise ValueError("EmpiricalLaw has no density: fit a law to the times, or smooth them, to get one")

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Mean over the times T_i of int_0^min(upper, T_i) t^order e^{-rate t} dt."""
        order, rate, upper = integral_arguments(order, rate, upper)
        return float(power_exponential_integral(order, rate, np.minimum(self.times, upper)).mean())

    def laplace(self, rate: float) -> float:
        """mean(exp(-r T_i))."""
        return float(np.exp(-float(nonnegative("rate", rate)) * self.times).mean())

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """Mean of (1 - e^{-s T_i}) / s."""
        s = right_half_plane(rates)
        means = [-np.expm1(-value * self.times).mean() / value for value in s.flat]
        return np.array(means, dtype=complex).reshape(s.shape)[()]

    @property
    def variance(self) -> float:
        """The population variance of the times; ``inf`` beyond the largest float."""
        with np.errstate(over="ignore"):
            return float(self.times.var())

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """The smallest of the times that at least the fraction p does not exceed."""
        p = probabilities_of_quantiles(probability)
        # 1e-12: 0.3 * 10 is a little more than 3.
        rank = np.ceil(p * len(self.times) * (1 - 1e-12)).astype(int) - 1
        return self.times[np.clip(rank, 0, None)][()]

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Times drawn from the measured ones, with replacement."""
        return rng.choice(self.times, whole_number("n", n, 0))

    @cached_property
    def time_scale(self) -> float:
        """The median."""
        return float(np.median(self.times))


@dataclass(frozen=True)
class Mixture(PassageLaw):
    """One of several laws, chosen at random; for a random starting point.

    Attributes:
        laws: what is mixed, at least one.
        weights: their probabilities, which sum to one; shape (laws,).

    Example:
        >>> law = Mixture((Deterministic(1.0), Deterministic(3.0)), (0.75, 0.25))
        >>> law.mean, law.variance, float(law.survival(2.0))
        (1.5, 0.75, 0.25)
    """

    laws: Sequence[PassageLaw]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "laws", tuple(self.laws))
        if not self.laws:
            raise ValueError("laws is empty; a mixture needs at least one")
        weights = distributions("weights", self.weights, (len(self.laws),))
        object.__setattr__(self, "weights", tuple(weights.tolist()))

    def _average(self, values: list[Any]) -> Any:
        """Sum of weights times values; a law of weight zero does not count, even if its value is infinite."""
        return sum(weight * value for weight, value in zip(self.weights, values, strict=True) if weight > 0)

    def survival(self, time: npt.ArrayLike) -> Floats:
        """Average of the survivals."""
        return self._average([law.survival(time) for law in self.laws])

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """Average of Pr(T <= t)."""
        return self._average([law.arrived(time) for law in self.laws])

    @property
    def arrival_probability(self) -> float:
        """Average of Pr(T < inf)."""
        return min(self._average([law.arrival_probability for law in self.laws]), 1.0)

    def density(self, time: npt.ArrayLike) -> Floats:
        """Average of the densities."""
        return self._average([law.density(time) for law in self.laws])

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Average of the integrals."""
        return float(self._average([law.survival_integral(order, rate, upper) for law in self.laws]))

    def laplace(self, rate: float) -> float:
        """Average of the transforms."""
        return float(self._average([law.laplace(rate) for law in self.laws]))

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """Average of the transforms."""
        return self._average([law.transform(rates) for law in self.laws])

    @property
    def variance(self) -> float:
        """Average of the variances plus the variance of the means."""
        mean, variance = self.mean, float(self._average([law.variance for law in self.laws]))
        if variance == math.inf or mean == math.inf:
            return math.inf
        return variance + float(self._average([(law.mean - mean) ** 2 for law in self.laws]))

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times, each from a law chosen at random."""
        counts = rng.multinomial(whole_number("n", n, 0), self.weights)
        times = [law.sample(int(count), rng) for law, count in zip(self.laws, counts, strict=True)]
        return rng.permutation(np.concatenate(times))


def power_exponential_integral(order: int, rate: float, upper: Floats) -> Floats:
    """int_0^b t^n e^{-rt} dt, to rounding for every r and b.

    Args:
        order: n >= 0.
        rate: r >= 0 [1 / time].
        upper: b >= 0, possibly ``inf``, any shape [time].

    Returns:
        The shape of ``upper`` [time^(n + 1)]; ``inf`` for b = inf without a rate, and beyond the largest number.

    Example:
        >>> float(power_exponential_integral(1, 0.0, np.array(2.0)))
        2.0
    """
    from scipy.special import gamma, gammainc

    if rate == 0:
        return upper ** (order + 1) / (order + 1)
    with np.errstate(over="ignore"):
        x = rate * upper
    small, large = np.minimum(x, 1.0), np.maximum(x, 1.0)
    series, term = np.full(x.shape, 1 / (order + 1)), np.ones(x.shape)
    for k in range(1, 25):
        term = term * -small / k
        series = series + term / (order + 1 + k)
    early = np.where(x < 1, upper, 0.0) ** (order + 1) * series
    with np.errstate(over="ignore", divide="ignore"):  # of a rate like 1e-310, not where that is the answer
        late = gamma(order + 1) * gammainc(order + 1, large) * (1 / np.float64(rate)) ** (order + 1)
    return np.where(x < 1, early, late)
