"""The first-passage law of an Ornstein-Uhlenbeck process, dx = -k x dt + sqrt(2 D) dW.

Its Laplace transform is a ratio of parabolic cylinder functions (theory.parabolic_cylinder); the law itself is an
elementary function only for the target at the centre x = 0, and otherwise found by inversion of the transform.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.laplace_inversion import invert
from theory.law_arguments import (
    Complexes,
    integral_arguments,
    keep_positive,
    nonnegative,
    probabilities_of_quantiles,
    right_half_plane,
)
from theory.parabolic_cylinder import (
    PassageTransform,
    complex_laplace,
    complex_survival_integral,
    passage_transform,
)
from theory.passage_law_base import PassageLaw

HIGHEST_TARGET = 37.0
"""In units of sqrt(D / k); the mean time to climb further exceeds 1e300."""

FARTHEST = 1e7
"""In units of sqrt(D / k); of larger numbers the digits that matter are lost."""

CLOSEST = 1e-100
"""In units of sqrt(D / k): start and target are further apart."""

HIGHEST_RATE = 1e100
"""In units of k; beyond it the orders of the parabolic cylinder functions overflow."""

LEAST_SURVIVAL = 1e-5
"""A hazard from an inverted transform, which is good to 1e-9, is asked for down to this survival."""


@dataclass(frozen=True)
class OrnsteinUhlenbeck(PassageLaw):
    """Passage from x0 to a in the potential k x^2 / 2; the process is watched at every instant.

    Means, second moments and real Laplace transforms are good to 1e-12. For a target at x = 0 the rest is a closed
    form; for others the survival and the density are inverted transforms with an absolute error of 1e-9, and there is
    no sampler here: sim.first_passage simulates paths.

    Attributes:
        start: x0, on either side of the target [length].
        target: a, different from x0 [length].
        stiffness: k > 0 [1 / time].
        diffusivity: D > 0 [length^2 / time].

    Example:
        >>> law = OrnsteinUhlenbeck(start=0.0, target=1.0, stiffness=1.0, diffusivity=1.0)
        >>> round(law.mean, 12), round(law.moment(2), 10)
        (2.09340664968, 10.2243792033)

    Reference: [darling1953] Ann. Math. Stat. 24, 624 (1953), [alili2005] Stoch. Models 21, 967 (2005); forms without
    cancellation derived for jostle, see theory.parabolic_cylinder
    """

    start: float
    target: float
    stiffness: float
    diffusivity: float

    def __post_init__(self) -> None:
        keep_positive(self, "stiffness", "diffusivity")
        if not (math.isfinite(self.start) and math.isfinite(self.target)):
            raise ValueError(f"start={self.start} and target={self.target} must be finite")
        if self.start == self.target:
            raise ValueError(f"start={self.start} is the target; a passage needs a distance")
        if not max(abs(end) for end in self._ends) <= FARTHEST:
            raise ValueError(
                f"start={self.start} and target={self.target} must be at most {FARTHEST:g} standard deviations, "
                "sqrt(D / k), from the minimum of the potential"
            )
        if not self._ends[1] - self._ends[0] >= CLOSEST:
            raise ValueError(
                f"start={self.start} and target={self.target} must be at least {CLOSEST:g} standard deviations, "
                "sqrt(D / k), apart"
            )
        if self._ends[1] > HIGHEST_TARGET:
            raise ValueError(
                f"target={self.target} is {self._ends[1]:.4g} standard deviations up the potential; beyond "
                f"{HIGHEST_TARGET:g} the mean time exceeds 1e300"
            )

    @property
    def _ends(self) -> tuple[float, float]:
        """Start and target in units of sqrt(D / k), reflected so that the start is below."""
        sign = 1.0 if self.start < self.target else -1.0
        unit = math.sqrt(self.stiffness / self.diffusivity)
        return sign * self.start * unit, sign * self.target * unit

    def _age(self, time: Floats) -> Floats:
        """Time in units of 1 / k, neither zero nor infinite where t > 0."""
        with np.errstate(over="ignore"):
            return np.clip(self.stiffness * np.where(time > 0, time, 1.0), 1e-300, 1e300)

    def _shrunk(self, time: Floats) -> Floats:
        """The argument of erf for a target at 0: (x0 - a) sqrt(k / 2D) e^{-kt} / sqrt(1 - e^{-2kt})."""
        age = self._age(time)
        distance = abs(self._ends[0]) / math.sqrt(2)
        return np.where(time > 0, distance * np.exp(-age) / np.sqrt(-np.expm1(-2 * age)), np.inf)

    def survival(self, time: npt.ArrayLike) -> Floats:
        """For a = 0 erf(x0 sqrt(k / 2D) e^{-kt} / sqrt(1 - e^{-2kt})), else the inverted transform, to 1e-9."""
        from scipy.special import erf

        t = nonnegative("time", time)
        if self.target == 0:
            return erf(self._shrunk(t))[()]
        result = np.ones(t.shape)
        result[t > 0] = np.clip(invert(self.transform, t[t > 0]), 0.0, 1.0)
        return result[()]

    @property
    def survival_error(self) -> float:
        """1e-9 of the inverted transform, 0 for a target at 0."""
        return 0.0 if self.target == 0 else 1e-9

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """1 - Psi(t), for a = 0 without the subtraction."""
        from scipy.special import erfc

        t = nonnegative("time", time)
        return erfc(self._shrunk(t))[()] if self.target == 0 else (1 - self.survival(t))[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """The derivative for a = 0, else the inverted transform, to about 1e-8 of the largest density."""
        t = nonnegative("time", time)
        if self.target == 0:
            return (self.hazard(t) * self.survival(t))[()]
        result = np.zeros(t.shape)
        result[t > 0] = np.maximum(
            invert(lambda s: complex_laplace(s / self.stiffness, *self._ends), t[t > 0]),
            0.0,
        )
        return result[()]

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """h(t) = f(t) / Psi(t); k at late times for a = 0.

        Args:
            time: t >= 0, any shape [time].

        Returns:
            The shape of ``time`` [1 / time].

        Raises:
            ValueError: for a target other than 0 where Psi(t) < 1e-5, which an inverted transform does not resolve.
        """
        if self.target == 0:
            return self._central_hazard(nonnegative("time", time))
        if (self.survival(time) < LEAST_SURVIVAL).any():
            raise ValueError(f"time={np.max(time)}: the hazard is unknown where fewer than {LEAST_SURVIVAL:g} survive")
        return super().hazard(time)

    def _central_hazard(self, time: Floats) -> Floats:
        """-(dg / dt) erf'(g) / erf(g) for the argument g of erf, with dg / dt = -k g / (1 - e^{-2kt})."""
        from scipy.special import erf

        shrunk = np.clip(self._shrunk(time), 1e-20, 1e100)
        speed = np.log(self.stiffness) - np.log(-np.expm1(-2 * self._age(time)))
        # In the exponent, since the speed may overflow where the Gaussian is zero.
        logarithm = speed + np.log(2 / math.sqrt(math.pi) * shrunk / erf(shrunk)) - shrunk**2
        return np.where(time > 0, np.exp(logarithm), 0.0)[()]

    def _real(self, rate: float) -> PassageTransform:
        if rate <= HIGHEST_RATE * self.stiffness:
            return passage_transform(rate / self.stiffness, *self._ends)
        if passage_transform(HIGHEST_RATE, *self._ends).laplace > 0:
            raise ValueError(
                f"rate={rate} is {rate / self.stiffness:.4g} times the stiffness={self.stiffness}; at most "
                f"{HIGHEST_RATE:g} times is resolved"
            )
        return PassageTransform(0.0, self.stiffness / rate, self.stiffness / rate)  # nobody arrives before the clock

    def laplace(self, rate: float) -> float:
        """e^{k (x0^2 - a^2) / 4D} D_{-r/k}(-x0 sqrt(k/D)) / D_{-r/k}(-a sqrt(k/D)) for x0 < a."""
        rate = float(nonnegative("rate", rate))
        return 1.0 if rate == 0 else self._real(rate).laplace

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """To 1e-12 for orders 0 and 1 without an end; 1e-9 up to an end, by inversion, unless a = 0 (1e-7 at order 2).

        Without an end and from order 2 on the derivative of order 0 comes from a circle of complex rates around the
        rate, to about 1e-10. Up to an end P, integration by parts gives int_0^P t^n g dt as
        sum_j (-1)^j n! / (n-j)! P^(n-j) I_(j+1), where I_j is the j-fold integral of g = e^{-rt} Psi.
        """
        order, rate, upper = integral_arguments(order, rate, upper)
        if upper == 0:
            return 0.0
        if upper == math.inf and order < 2:
            found = self._real(rate)
            return found.survival_integral / self.stiffness * (found.mean_age / self.stiffness) ** order
        if upper == math.inf:
            return self._derivative(order, rate)
        if self.target == 0:
            return super().survival_integral(order, rate, upper)
        total = 0.0
        for j in range(order + 1):
            integral = float(invert(lambda s, j=j: self.transform(s + rate) / s ** (j + 1), upper))
            total += (-1) ** j * math.perm(order, j) * upper ** (order - j) * integral
        return min(max(total, 0.0), upper ** (order + 1) / (order + 1))

    def _derivative(self, order: int, rate: float) -> float:
        """(-1)^n d^n / dr^n of int e^{-rt} Psi dt by Cauchy's formula, on half of the way to the singularities."""
        start, target = self._ends
        # The slowest mode decays no slower than one over the mean time from deep inside.
        slowest = min(1 / passage_transform(0.0, min(target, 0.0) - 2, target).survival_integral, 0.5)
        centre = rate / self.stiffness
        radius = min((centre + slowest) / 2, 0.25 + centre / 2)
        turns = np.exp(2j * math.pi * np.arange(64) / 64).astype(complex)
        values = complex_survival_integral((centre + radius * turns).astype(complex), start, target)
        coefficient = float((values * turns**-order).mean().real) / radius**order
        return (-1) ** order * math.factorial(order) * coefficient / self.stiffness ** (order + 1)

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """(1 - T~(s)) / s."""
        s = right_half_plane(rates)
        return (complex_survival_integral(s / self.stiffness, *self._ends) / self.stiffness)[()]

    def _need_centre(self, what: str) -> None:
        if self.target != 0:
            raise ValueError(
                f"target={self.target}: {what} of an Ornstein-Uhlenbeck law are in closed form for target=0 only; "
                "simulate paths with sim.first_passage"
            )

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """For a = 0 the time ln(1 + x0^2 k / (2 D g^2)) / 2k with erfc(g) = p.

        Args:
            probability: p from 0 to 1, any shape.

        Returns:
            The shape of ``probability`` [time].

        Raises:
            ValueError: for a target other than 0, or a probability outside [0, 1].
        """
        from scipy.special import erfcinv, erfinv

        self._need_centre("quantiles")
        p = probabilities_of_quantiles(probability)
        shrunk = np.where(p < 0.5, erfcinv(p), erfinv(1 - p))
        with np.errstate(divide="ignore", over="ignore"):
            ratio = (self._ends[0] / shrunk) ** 2 / 2
        return (np.log1p(ratio) / (2 * self.stiffness))[()]

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """For a = 0 exact: quantiles of uniform numbers.

        Args:
            n: how many, >= 0.
            rng: generator.

        Returns:
            Shape (n,) [time].

        Raises:
            ValueError: for a target other than 0.
        """
        self._need_centre("samples")
        return np.asarray(self.quantile(rng.random(whole_number("n", n, 0))))

    @cached_property
    def time_scale(self) -> float:
        """The median for a = 0, else the shortest of the mean, the relaxation time and that of diffusion to the target.

        Only in the two latter is the law other than exponential, however long the mean.
        """
        if self.target == 0:
            return float(self.quantile(0.5))
        return min(self.mean, 1 / self.stiffness, (self.target - self.start) ** 2 / (2 * self.diffusivity))
