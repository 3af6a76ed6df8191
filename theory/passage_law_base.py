"""What every law of a first-passage time T in continuous time can answer: the class `PassageLaw`.

A law needs only its survival Psi(t) = Pr(T > t); integrals, transforms, moments, quantiles and samples follow by
quadrature and root finding, and laws with closed forms override them. T may be infinite with positive probability.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory import positive_quadrature as quadrature
from theory.absorbing import Floats, whole_number
from theory.law_arguments import (
    Complexes,
    integral_arguments,
    nonnegative,
    probabilities_of_quantiles,
    right_half_plane,
)
from theory.root_finding import increasing_root


class PassageLaw(ABC):
    """The law of a first-passage time T > 0.

    Only `survival` must be given, so that a law of one's own takes ten lines. Time has any unit, rates its inverse.
    Where runs may never arrive, override `arrival_probability` too. A law whose Psi(t) is close to 1 at the times that
    matter should override `arrived`, which is 1 - Psi(t) without the subtraction.

    Example:
        >>> class Rayleigh(PassageLaw):
        ...     def survival(self, time):
        ...         return np.exp(-nonnegative("time", time) ** 2 / 2)
        >>> round(Rayleigh().mean, 12) == round(math.sqrt(math.pi / 2), 12)
        True
    """

    @abstractmethod
    def survival(self, time: npt.ArrayLike) -> Floats:
        """Psi(t) = Pr(T > t), with Psi(0) = 1.

        Args:
            time: t >= 0, any shape [time].

        Returns:
            The shape of ``time``.

        Raises:
            ValueError: for a negative or infinite time.
        """

    @property
    def arrival_probability(self) -> float:
        """Pr(T < inf); 1 unless overridden."""
        return 1.0

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """Pr(T <= t) = 1 - Psi(t); by that subtraction unless overridden.

        Args:
            time: t >= 0, any shape [time].

        Returns:
            The shape of ``time``.
        """
        return 1 - self.survival(time)

    @property
    def survival_error(self) -> float:
        """Absolute error of Psi beyond rounding; above 0 where it is an inverted transform."""
        return 0.0

    def density(self, time: npt.ArrayLike) -> Floats:
        """f(t) = -Psi'(t), by default through differences of Psi of sixth order, on the scale of ln t.

        Where Psi is smooth and known to rounding, the error is below 1e-9 / t.

        Args:
            time: t > 0, any shape [time].

        Returns:
            >= 0, the shape of ``time`` [1 / time].

        Raises:
            ValueError: for a time that is not positive.
        """
        t = nonnegative("time", time)
        if (t == 0).any():
            raise ValueError("time=0: the density is found by differences of Psi around a positive time")
        estimates = np.array([self._difference(t, 2.0**-k) for k in range(2, 14)])
        changes = np.abs(np.diff(estimates, axis=0))
        best = changes.argmin(axis=0)
        return np.maximum(np.take_along_axis(estimates[1:], best[None], axis=0)[0], 0.0) / t

    def _difference(self, time: Floats, step: float) -> Floats:
        """-d Psi / d ln t from six values at distances of ``step`` in ln t."""
        result = np.zeros_like(time)
        for k, coefficient in ((1, 45), (2, -9), (3, 1)):
            result += coefficient * (
                self.survival(time * math.exp(-k * step)) - self.survival(time * math.exp(k * step))
            )
        return result / (60 * step)

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """h(t) = f(t) / Psi(t).

        Args:
            time: t > 0, any shape [time].

        Returns:
            The shape of ``time`` [1 / time]; ``inf`` where Psi is zero as a number.
        """
        survival = self.survival(time)
        result = np.full(survival.shape, np.inf)
        return np.divide(self.density(time), survival, out=result, where=survival > 0)[()]

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """int_0^upper t^order e^{-rate t} Psi(t) dt, the quantity behind every mean.

        All terms are positive, so that it is relatively accurate (1e-12 by quadrature) however small or large.

        Args:
            order: power of t, >= 0.
            rate: >= 0 [1 / time].
            upper: >= 0, possibly ``inf`` [time].

        Returns:
            [time^(order + 1)]; ``inf`` where it diverges.

        Raises:
            ValueError: for arguments out of range, or if the quadrature does not converge.
        """
        order, rate, upper = integral_arguments(order, rate, upper)
        if upper == 0:
            return 0.0
        if upper == math.inf and rate == 0 and self.arrival_probability < 1:
            return math.inf
        with np.errstate(all="ignore"):  # at 1e300 a survival may overflow on its way to 0
            return quadrature.survival_integral(self.survival, order, rate, upper, self.time_scale)

    def laplace(self, rate: float) -> float:
        """T~(r) = E[e^{-r T}], where runs that never arrive count zero.

        Args:
            rate: r >= 0 [1 / time].

        Returns:
            0..1. Relatively accurate where `arrived` is; 1 - Psi by subtraction leaves about 1e-16 / T~(r).

        Raises:
            ValueError: for a negative rate, or if the quadrature does not converge.

        Reference: Derived for jostle: by parts, T~(r) = 1 - r D = r int_0^inf e^{-rt} (1 - Psi) dt with
        D = `survival_integral` (0, r)
        """
        rate = float(nonnegative("rate", rate))
        if rate == 0:
            return self.arrival_probability
        missing = rate * self.survival_integral(0, rate)
        if missing < 0.5:
            return 1 - missing
        with np.errstate(all="ignore"):
            return quadrature.laplace_integral(self.arrived, rate)

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """int_0^inf e^{-s t} Psi(t) dt for complex s, for the inversion of Laplace transforms.

        By default with the panels that resolve the integrand for real s, cut so that each holds at most a few
        oscillations. Absolute accuracy about 1e-12 of the value at Re s.

        Args:
            rates: s with Re s > 0, any shape [1 / time].

        Returns:
            The shape of ``rates`` [time].

        Raises:
            ValueError: unless Re s > 0.
        """
        s = right_half_plane(rates)
        result = np.empty(s.shape, dtype=complex)
        for decay in np.unique(s.real):
            chosen = s.real == decay
            turning = float(np.abs(s.imag[chosen]).max())
            with np.errstate(all="ignore"):
                nodes, weights = quadrature.oscillating_nodes(self.survival, float(decay), turning, self.time_scale)
                psi = weights * self.survival(nodes)
            result[chosen] = [psi @ np.exp(-value * nodes) for value in s[chosen]]
        return result

    def moment(self, order: int) -> float:
        """E[T^m] = m int_0^inf t^(m-1) Psi(t) dt.

        Args:
            order: m >= 1.

        Returns:
            [time^m]; ``inf`` where it diverges.

        Raises:
            ValueError: unless the order is a whole number >= 1, or if the quadrature does not converge.
        """
        order = whole_number("order", order, 1)
        return order * self.survival_integral(order - 1)

    @property
    def mean(self) -> float:
        """E[T] [time], possibly ``inf``."""
        return self.moment(1)

    @property
    def variance(self) -> float:
        """E[T^2] - E[T]^2 [time^2], possibly ``inf``; to 1e-12 of E[T^2] unless a law knows it in closed form."""
        mean, square = self.mean, self.moment(2)
        return math.inf if square == math.inf else max(square - mean**2, 0.0)

    @property
    def coefficient_of_variation(self) -> float:
        """CV = standard deviation / mean; ``inf`` where the variance is."""
        variance = self.variance
        return math.inf if variance == math.inf else math.sqrt(variance) / self.mean

    def restricted_mean(self, time: float) -> float:
        """E[min(T, t)] = int_0^t Psi, finite for every law.

        Args:
            time: t >= 0 [time].

        Returns:
            [time].
        """
        return self.survival_integral(0, 0.0, float(nonnegative("time", time)))

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """The time t at which Pr(T <= t) = p, by bisection on ln t; rounding of Psi decides its accuracy.

        Args:
            probability: p from 0 to 1, any shape.

        Returns:
            The shape of ``probability`` [time]; ``inf`` for p >= Pr(T < inf), and where t would exceed 1e300.

        Raises:
            ValueError: for a probability outside [0, 1].
        """
        p = probabilities_of_quantiles(probability)
        result = np.where(p == 0, 0.0, np.inf)
        inside = (p > 0) & (p < self.arrival_probability)
        wanted = p[inside]
        # Each side of the median is known best from its own tail.
        early = wanted < 0.5

        def excess(log_time: Floats, index: npt.NDArray[np.intp]) -> Floats:
            time, first = np.exp(log_time), early[index]
            values = np.empty(time.shape)
            values[first] = self.arrived(time[first]) - wanted[index][first]
            values[~first] = (1 - wanted[index][~first]) - self.survival(time[~first])
            return values

        # A table leaves little of the 1400 e-folds to search.
        table = np.linspace(math.log(quadrature.EARLIEST), math.log(quadrature.LATEST), 1382)
        with np.errstate(all="ignore"):
            arrived, survival = self.arrived(np.exp(table)), self.survival(np.exp(table))
            if not np.isfinite(arrived + survival).all():
                raise ValueError("survival is nan or infinite between t=1e-300 and t=1e300; it must be from 0 to 1")
            above = np.where(early, np.searchsorted(arrived, wanted), np.searchsorted(-survival, wanted - 1))
            reached = above < len(table)
            above = np.clip(above, 1, len(table) - 1)
            time = np.exp(increasing_root(excess, table[above - 1], table[above]))
        result[inside] = np.where(reached, time, np.inf)
        return result[()]

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times; by default the quantiles of uniform numbers.

        Args:
            n: how many, >= 0.
            rng: generator.

        Returns:
            Shape (n,) [time]; ``inf`` for runs that never arrive.

        Raises:
            ValueError: for a negative n.
        """
        return np.asarray(self.quantile(rng.random(whole_number("n", n, 0))))

    @cached_property
    def time_scale(self) -> float:
        """The median of the runs that arrive, a typical T to scale searches and quadratures [time]."""
        return float(self.quantile(self.arrival_probability / 2))
