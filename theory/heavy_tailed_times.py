"""Waiting times whose tails may be heavier than any exponential: the Weibull, lognormal and Pareto (Lomax) laws.

Their closed forms are used where these are stable; what is not written here comes from the quadrature of
theory.passage_law_base. Laws made of exponential stages are in theory.waiting_times.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.law_arguments import integral_arguments, keep_positive, nonnegative, probabilities_of_quantiles
from theory.passage_law_base import PassageLaw

LARGEST_LOG = 709.0
"""Of a float."""

LARGEST_LOCATION = 230.0
"""Mean of ln T; e^230 is about 1e100."""


@dataclass(frozen=True)
class Weibull(PassageLaw):
    """Psi(t) = exp(-(t / c)^k). The hazard falls for k < 1, is constant for k = 1 and rises for k > 1.

    Attributes:
        shape: k > 0.
        scale: c > 0 [time].

    Example:
        >>> law = Weibull(shape=0.5, scale=1.0)
        >>> round(law.mean, 12), round(law.moment(2), 12)
        (2.0, 24.0)
    """

    shape: float
    scale: float

    def __post_init__(self) -> None:
        keep_positive(self, "shape", "scale")

    def _power(self, time: npt.ArrayLike) -> Floats:
        """(t / c)^k, at most 1e300."""
        from scipy.special import xlogy

        with np.errstate(over="ignore"):
            return np.exp(np.minimum(xlogy(self.shape, nonnegative("time", time) / self.scale), 690.0))

    def survival(self, time: npt.ArrayLike) -> Floats:
        """exp(-(t / c)^k)."""
        return np.exp(-self._power(time))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """1 - exp(-(t / c)^k)."""
        return -np.expm1(-self._power(time))

    def density(self, time: npt.ArrayLike) -> Floats:
        """h(t) Psi(t); ``inf`` at 0 for k < 1."""
        survival = self.survival(time)
        result = np.zeros(survival.shape)
        return np.multiply(self.hazard(time), survival, out=result, where=survival > 0)[()]

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """(k / c) (t / c)^(k-1); ``inf`` at 0 for k < 1."""
        from scipy.special import xlogy

        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.exp(xlogy(self.shape - 1, nonnegative("time", time) / self.scale))
            return self.shape / self.scale * ratio

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Without a rate (c^(n+1) / k) gamma((n+1) / k, (upper / c)^k), the lower incomplete gamma function."""
        from scipy.special import gammainc, gammaln

        order, rate, upper = integral_arguments(order, rate, upper)
        if rate > 0:
            return super().survival_integral(order, rate, upper)
        power = (order + 1) / self.shape
        share = 1.0 if upper == math.inf else float(gammainc(power, self._power(upper)))
        if share == 0:
            return 0.0
        # The logs of the factors are added, since either may overflow.
        log_size = (order + 1) * math.log(self.scale) + float(gammaln(power)) - math.log(self.shape)
        return math.exp(log_size) * share if log_size < LARGEST_LOG else math.inf

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """The time c (-ln(1 - p))^(1/k)."""
        with np.errstate(divide="ignore"):
            return self.scale * (-np.log1p(-probabilities_of_quantiles(probability))) ** (1 / self.shape)

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times."""
        return self.scale * rng.weibull(self.shape, whole_number("n", n, 0))


@dataclass(frozen=True)
class LogNormal(PassageLaw):
    """ln T is normal.

    Attributes:
        location: mean of ln T.
        deviation: standard deviation of ln T, > 0.

    Example:
        >>> round(LogNormal(location=0.0, deviation=1.0).mean, 12) == round(math.exp(0.5), 12)
        True
    """

    location: float
    deviation: float

    def __post_init__(self) -> None:
        keep_positive(self, "deviation")
        if not math.isfinite(self.location):
            raise ValueError(f"location={self.location} must be finite: it is the mean of ln T")
        if abs(self.location) > LARGEST_LOCATION:
            raise ValueError(
                f"location={self.location} must be {LARGEST_LOCATION:g} at most in size; choose other units"
            )

    def _standard(self, time: npt.ArrayLike) -> Floats:
        """(ln t - location) / deviation, -inf at 0."""
        with np.errstate(divide="ignore"):
            return (np.log(nonnegative("time", time)) - self.location) / self.deviation

    def survival(self, time: npt.ArrayLike) -> Floats:
        """Phi(-(ln t - location) / deviation)."""
        from scipy.special import ndtr

        return ndtr(-self._standard(time))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """Phi((ln t - location) / deviation)."""
        from scipy.special import ndtr

        return ndtr(self._standard(time))

    def density(self, time: npt.ArrayLike) -> Floats:
        """Normal density of ln t, over t; 0 at 0."""
        t = nonnegative("time", time)
        late = np.where(t > 0, t, 1.0)
        with np.errstate(over="ignore"):
            exponent = self._standard(late) ** 2 / 2 + np.log(late)
        return np.where(t > 0, np.exp(-exponent) / (self.deviation * math.sqrt(2 * math.pi)), 0.0)[()]

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The ratio f / Psi, also where both are too small for a number."""
        from scipy.special import log_ndtr

        t = nonnegative("time", time)
        late = np.where(t > 0, t, 1.0)
        z = self._standard(late)
        logarithm = -(z**2) / 2 - np.log(late * self.deviation * math.sqrt(2 * math.pi)) - log_ndtr(-z)
        return np.where(t > 0, np.exp(logarithm), 0.0)[()]

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Without a rate, by parts: (upper^m Psi(upper) + E[T^m; T < upper]) / m with m = n + 1."""
        from scipy.special import ndtr

        order, rate, upper = integral_arguments(order, rate, upper)
        if rate > 0:
            return super().survival_integral(order, rate, upper)
        m = order + 1
        with np.errstate(over="ignore"):
            moment = float(np.exp(m * self.location + (m * self.deviation) ** 2 / 2))
        if upper == math.inf:
            return moment / m
        if moment == math.inf:
            return super().survival_integral(order, rate, upper)
        early = float(ndtr(self._standard(upper) - m * self.deviation))
        return (upper**m * float(self.survival(upper)) + moment * early) / m

    @property
    def variance(self) -> float:
        """(e^{deviation^2} - 1) E[T]^2; ``inf`` where it exceeds the largest number."""
        with np.errstate(over="ignore"):
            return float(np.expm1(self.deviation**2) * np.exp(2 * self.location + self.deviation**2))

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """exp(location + deviation Phi^-1(p)); ``inf`` where it exceeds the largest number."""
        from scipy.special import ndtri

        with np.errstate(over="ignore"):
            return np.exp(self.location + self.deviation * ndtri(probabilities_of_quantiles(probability)))

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times."""
        return rng.lognormal(self.location, self.deviation, whole_number("n", n, 0))


@dataclass(frozen=True)
class Pareto(PassageLaw):
    """The Pareto law that starts at zero (Lomax), Psi(t) = (1 + t / c)^-k: moments of order k and above are infinite.

    Attributes:
        shape: k > 0.
        scale: c > 0 [time].

    Example:
        >>> law = Pareto(shape=1.5, scale=1.0)
        >>> law.mean, law.coefficient_of_variation
        (2.0, inf)
    """

    shape: float
    scale: float

    def __post_init__(self) -> None:
        keep_positive(self, "shape", "scale")

    def _logarithm(self, time: npt.ArrayLike) -> Floats:
        """ln(1 + t / c)."""
        with np.errstate(over="ignore"):
            return np.log1p(nonnegative("time", time) / self.scale)

    def survival(self, time: npt.ArrayLike) -> Floats:
        """(1 + t / c)^-k."""
        return np.exp(-self.shape * self._logarithm(time))

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """1 - (1 + t / c)^-k."""
        return -np.expm1(-self.shape * self._logarithm(time))

    def density(self, time: npt.ArrayLike) -> Floats:
        """(k / c) (1 + t / c)^-(k+1)."""
        return self.hazard(time) * self.survival(time)

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The ratio k / (c + t)."""
        return self.shape / (self.scale + nonnegative("time", time))

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Without a rate and an end c^(n+1) n! / ((k-1) ... (k-n-1)); ``inf`` for k <= n + 1."""
        from scipy.special import exprel

        order, rate, upper = integral_arguments(order, rate, upper)
        if rate == 0 and upper == math.inf:
            if self.shape <= order + 1:
                return math.inf
            falling = math.prod(self.shape - j for j in range(1, order + 2))
            return self.scale ** (order + 1) * math.factorial(order) / falling
        if rate == 0 and order == 0:
            logarithm = self._logarithm(upper)
            return float(self.scale * logarithm * exprel((1 - self.shape) * logarithm))
        return super().survival_integral(order, rate, upper)

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """The time c ((1 - p)^(-1/k) - 1)."""
        p = probabilities_of_quantiles(probability)
        with np.errstate(divide="ignore", over="ignore"):
            return self.scale * np.expm1(-np.log1p(-p) / self.shape)

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times."""
        return self.scale * rng.pareto(self.shape, whole_number("n", n, 0))
