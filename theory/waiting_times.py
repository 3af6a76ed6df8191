"""Waiting times made of exponential stages: first-passage laws without a process behind them, and timers of restarts.

Exponential, hyperexponential and gamma (Erlang) laws with their closed forms. What is not written here comes from the
quadrature of theory.passage_law_base. Weibull, lognormal and Pareto laws are in theory.heavy_tailed_times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, distributions, whole_number
from theory.law_arguments import (
    Complexes,
    integral_arguments,
    keep_positive,
    nonnegative,
    positive,
    probabilities_of_quantiles,
    right_half_plane,
)
from theory.passage_law_base import PassageLaw
from theory.passage_laws import power_exponential_integral


@dataclass(frozen=True)
class Hyperexponential(PassageLaw):
    """A mixture of exponential laws: Psi(t) = sum_i w_i e^{-a_i t}. CV >= 1, and the hazard falls.

    Attributes:
        weights: w, probabilities that sum to one, shape (n,).
        rates: a > 0, shape (n,) [1 / time].

    Example:
        >>> Hyperexponential(weights=(0.5, 0.5), rates=(10.0, 0.1)).mean
        5.05
    """

    weights: Sequence[float]
    rates: Sequence[float]

    def __post_init__(self) -> None:
        rates = tuple(positive("rates", rate) for rate in self.rates)
        object.__setattr__(self, "rates", rates)
        weights = distributions("weights", self.weights, (len(rates),))
        object.__setattr__(self, "weights", tuple(weights.tolist()))

    def _sum(self, values: Floats | Complexes) -> npt.NDArray:
        """Weighted sum over the last axis."""
        return (values @ np.array(self.weights))[()]

    def survival(self, time: npt.ArrayLike) -> Floats:
        """sum_i w_i e^{-a_i t}."""
        return self._sum(np.exp(-np.multiply.outer(nonnegative("time", time), self.rates)))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """sum_i w_i (1 - e^{-a_i t})."""
        return self._sum(-np.expm1(-np.multiply.outer(nonnegative("time", time), self.rates)))

    def density(self, time: npt.ArrayLike) -> Floats:
        """sum_i w_i a_i e^{-a_i t}."""
        return self._sum(np.exp(-np.multiply.outer(nonnegative("time", time), self.rates)) * np.array(self.rates))

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The ratio f / Psi with the slowest exponential divided out, so that neither vanishes."""
        rates = np.array(self.rates)
        slowest = rates[np.array(self.weights) > 0].min()
        # A faster one of weight zero must not overflow.
        factors = np.exp(-np.multiply.outer(nonnegative("time", time), np.maximum(rates - slowest, 0.0)))
        return (self._sum(factors * rates) / self._sum(factors))[()]

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """sum_i w_i int_0^upper t^n e^{-(rate + a_i) t} dt; n! sum_i w_i / (rate + a_i)^(n+1) without an end."""
        order, rate, upper = integral_arguments(order, rate, upper)
        end = np.array(upper)
        return float(self._sum(np.array([power_exponential_integral(order, rate + a, end) for a in self.rates])))

    def laplace(self, rate: float) -> float:
        """sum_i w_i a_i / (a_i + r)."""
        rates, r = np.array(self.rates), float(nonnegative("rate", rate))
        return float(self._sum(rates / (rates + r)))

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """sum_i w_i / (a_i + s)."""
        return self._sum(1 / np.add.outer(right_half_plane(rates), np.array(self.rates)))

    @property
    def variance(self) -> float:
        """sum_i w_i / a_i^2 plus the variance of the means 1 / a_i."""
        means = 1 / np.array(self.rates)
        return float(self._sum(means**2) + self._sum((means - self.mean) ** 2))

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Exponential times, each with a rate chosen at random."""
        n = whole_number("n", n, 0)
        return rng.exponential(size=n) / rng.choice(np.array(self.rates), size=n, p=np.array(self.weights))


@dataclass(frozen=True)
class Exponential(PassageLaw):
    """The law without memory, Psi(t) = e^{-a t}; as a timer, Poisson restart.

    Attributes:
        rate: a > 0 [1 / time].

    Example:
        >>> law = Exponential(rate=2.0)
        >>> law.mean, law.coefficient_of_variation, law.laplace(2.0)
        (0.5, 1.0, 0.5)
    """

    rate: float

    def __post_init__(self) -> None:
        keep_positive(self, "rate")

    def survival(self, time: npt.ArrayLike) -> Floats:
        """e^{-a t}."""
        return np.exp(-self.rate * nonnegative("time", time))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """1 - e^{-a t}."""
        return -np.expm1(-self.rate * nonnegative("time", time))

    def density(self, time: npt.ArrayLike) -> Floats:
        """The derivative a e^{-a t}."""
        return self.rate * self.survival(time)

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The rate a, at every time."""
        return np.full(nonnegative("time", time).shape, float(self.rate))[()]

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """int_0^upper t^n e^{-(rate + a) t} dt; n! / (rate + a)^(n+1) without an end."""
        order, rate, upper = integral_arguments(order, rate, upper)
        return float(power_exponential_integral(order, rate + self.rate, np.array(upper)))

    def laplace(self, rate: float) -> float:
        """The ratio a / (a + r)."""
        return float(self.rate / (self.rate + nonnegative("rate", rate)))

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """1 / (a + s)."""
        return (1 / (right_half_plane(rates) + self.rate))[()]

    @property
    def variance(self) -> float:
        """1 / a^2."""
        return 1 / self.rate**2

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """-ln(1 - p) / a."""
        with np.errstate(divide="ignore"):
            return -np.log1p(-probabilities_of_quantiles(probability)) / self.rate

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times."""
        return rng.exponential(1 / self.rate, whole_number("n", n, 0))


@dataclass(frozen=True)
class Gamma(PassageLaw):
    """The gamma law, f(t) = t^(k-1) e^{-t / c} / (c^k Gamma(k)). CV^2 = 1 / k.

    Attributes:
        shape: k > 0.
        scale: c > 0 [time].

    Example:
        >>> law = Gamma(shape=2.0, scale=1.0)
        >>> law.mean, law.variance, round(law.laplace(1.0), 12)
        (2.0, 2.0, 0.25)
    """

    shape: float
    scale: float

    def __post_init__(self) -> None:
        keep_positive(self, "shape", "scale")

    def _scaled(self, time: npt.ArrayLike) -> Floats:
        with np.errstate(over="ignore"):  # infinite where nothing is left
            return nonnegative("time", time) / self.scale

    def survival(self, time: npt.ArrayLike) -> Floats:
        """Q(k, t / c), the regularised upper incomplete gamma function."""
        from scipy.special import gammaincc

        return gammaincc(self.shape, self._scaled(time))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """P(k, t / c), the regularised lower incomplete gamma function."""
        from scipy.special import gammainc

        return gammainc(self.shape, self._scaled(time))

    def density(self, time: npt.ArrayLike) -> Floats:
        """t^(k-1) e^{-t / c} / (c^k Gamma(k)); ``inf`` at 0 for k < 1."""
        from scipy.special import gammaln, xlogy

        x = np.minimum(self._scaled(time), 1e300)  # where the density is 0, and xlogy - x a number
        with np.errstate(divide="ignore"):
            return np.exp(xlogy(self.shape - 1, x) - x - gammaln(self.shape)) / self.scale

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Without an end n! / r^(n+1) I_p(n+1, k), p = c r / (1 + c r); without a rate by incomplete gamma functions.

        I is the regularised incomplete beta function: the probability that a negative binomial number exceeds n.
        """
        from scipy.special import betainc, betaincc, gammainc, poch

        order, rate, upper = integral_arguments(order, rate, upper)
        p, q = self.scale * rate / (1 + self.scale * rate), 1 / (1 + self.scale * rate)
        moment = self.scale ** (order + 1) * float(poch(self.shape, order + 1)) / (order + 1)
        if upper == math.inf:
            if p * (self.shape + order + 1) < 1e-17:
                return moment
            share = betainc(order + 1, self.shape, p) if p < q else betaincc(self.shape, order + 1, q)
            return math.factorial(order) * float(share) / rate / rate**order
        if rate == 0:
            # By parts: what survives until the end, and what arrives before.
            early = float(gammainc(self.shape + order + 1, upper / self.scale))
            return upper ** (order + 1) / (order + 1) * float(self.survival(upper)) + moment * early
        return super().survival_integral(order, rate, upper)

    def laplace(self, rate: float) -> float:
        """(1 + c r)^-k."""
        return math.exp(-self.shape * math.log1p(self.scale * float(nonnegative("rate", rate))))

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """(1 - (1 + c s)^-k) / s."""
        s = right_half_plane(rates)
        return (-np.expm1(-self.shape * np.log1p(self.scale * s)) / s)[()]

    @property
    def variance(self) -> float:
        """The variance k c^2."""
        return self.shape * self.scale**2

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times."""
        return rng.gamma(self.shape, self.scale, whole_number("n", n, 0))


def erlang(stages: int, rate: float) -> Gamma:
    """The law of a number of exponential stages one after the other.

    Args:
        stages: how many, >= 1.
        rate: of each stage, > 0 [1 / time].

    Returns:
        The gamma law of whole shape.

    Raises:
        ValueError: for a number of stages that is not whole or below 1, or a rate that is not positive.

    Example:
        >>> erlang(2, 1.0).mean
        2.0
    """
    return Gamma(float(whole_number("stages", stages, 1)), 1 / positive("rate", rate))
