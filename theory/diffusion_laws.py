"""First-passage laws of diffusions dx = (drift) dt + sqrt(2 D) dW: free, with drift, in an interval.

`Brownian` and `DriftDiffusion` (the inverse Gaussian) have one target, `Interval` two; `OrnsteinUhlenbeck` is in
theory.ornstein_uhlenbeck and importable from here. The printed forms of these laws overflow for strong drift and cancel
for weak drift, late times and small rates; the forms used here do neither.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.law_arguments import (
    LARGEST,
    Complexes,
    check_diffusion_scale,
    integral_arguments,
    keep_positive,
    nonnegative,
    right_half_plane,
)
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck
from theory.passage_law_base import PassageLaw
from theory.passage_laws import power_exponential_integral

__all__ = ["Brownian", "DriftDiffusion", "Interval", "OrnsteinUhlenbeck"]

CLOSE = 0.5
"""Two erfcx closer than this are subtracted under the integral."""


@dataclass(frozen=True)
class DriftDiffusion(PassageLaw):
    """Diffusion with drift v to a target at distance L: the inverse Gaussian law.

    With v < 0, away from the target, a run arrives with probability e^{-|v|L/D} only, and if it does then by the law
    of drift |v|. CV^2 = 2D / (Lv) for v > 0.

    Attributes:
        distance: L > 0, from the start to the target [length].
        drift: v, positive toward the target [length / time].
        diffusivity: D > 0 [length^2 / time].

    Example:
        >>> law = DriftDiffusion(distance=1.0, drift=1.0, diffusivity=1.0)
        >>> law.mean, law.variance, law.moment(2)
        (1.0, 2.0, 3.0)

    Reference: [ray2019] J. Phys. A 52, 255002 (2019); forms without cancellation derived for jostle
    """

    distance: float
    drift: float
    diffusivity: float

    def __post_init__(self) -> None:
        keep_positive(self, "distance", "diffusivity")
        check_diffusion_scale("distance", self.distance, self.diffusivity)
        if not math.isfinite(self.drift):
            raise ValueError(f"drift={self.drift} must be finite; positive is toward the target")
        if abs(self.drift) > LARGEST:
            raise ValueError(f"drift={self.drift} must be at most {LARGEST:g} in size; choose other units")

    @property
    def arrival_probability(self) -> float:
        """1 for v >= 0, else e^{-|v|L/D}."""
        return math.exp(min(self.drift * self.distance / self.diffusivity, 0.0))

    def _scaled(self, time: Floats) -> tuple[Floats, Floats]:
        """L / sqrt(4Dt) and (abs v) t / sqrt(4Dt), of positive times."""
        root, width = np.sqrt(time), 2 * math.sqrt(self.diffusivity)
        return self.distance / width / root, abs(self.drift) / width * root

    def survival(self, time: npt.ArrayLike) -> Floats:
        """For v >= 0 (erfc(q - p) - e^{vL/D} erfc(q + p)) / 2 with p = L / sqrt(4Dt) and q = vt / sqrt(4Dt)."""
        t = nonnegative("time", time)
        p, q = self._scaled(np.where(t > 0, t, 1.0))
        late = _half_difference(q - p, 2 * p)
        missing = -math.expm1(min(self.drift * self.distance / self.diffusivity, 0.0))
        return np.where(t > 0, missing + self.arrival_probability * late, 1.0)[()]

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """For v >= 0 (erfc(p - q) + e^{vL/D} erfc(p + q)) / 2."""
        from scipy.special import erfc, erfcx

        t = nonnegative("time", time)
        p, q = self._scaled(np.where(t > 0, t, 1.0))
        sum_of_both = (erfc(p - q) + _gaussian(p - q) * erfcx(p + q)) / 2
        return np.where(t > 0, self.arrival_probability * sum_of_both, 0.0)[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """L / sqrt(4 pi D t^3) e^{-(L - vt)^2 / 4Dt}."""
        t = nonnegative("time", time)
        late = np.where(t > 0, t, 1.0)
        p, q = self._scaled(late)
        # In the exponent, since p / t may overflow where the Gaussian is zero.
        exponent = np.log(p / math.sqrt(math.pi)) - np.log(late) - np.minimum(np.abs(p - q), 1e150) ** 2
        return np.where(t > 0, self.arrival_probability * np.exp(exponent), 0.0)[()]

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The ratio f / Psi, also where both are too small for a number; v^2 / 4D at late times for v > 0."""
        t = nonnegative("time", time)
        if self.drift < 0:
            return (self.density(t) / self.survival(t))[()]
        late = np.where(t > 0, t, 1.0)
        p, q = self._scaled(late)
        tail = q - p > -CLOSE
        after, fall = np.where(tail, late, 1.0), _fall_of_erfcx(np.maximum(q - p, -CLOSE), 2 * p)
        far = 1 / (math.sqrt(math.pi) * after * np.where(tail, fall, 1.0))
        near = self.density(t) / np.where(tail, 1.0, self.survival(t))
        return np.where(tail & (t > 0), far, np.where(tail, 0.0, near))[()]

    def _exponent(self, rate: float) -> tuple[float, float, float]:
        """The exponent phi with T~ = e^{-phi}, sqrt(v^2 + 4Dr), and their sum with v (each without cancellation)."""
        root = math.hypot(self.drift, 2 * math.sqrt(self.diffusivity) * math.sqrt(rate))
        total = root + self.drift
        if self.drift < 0:
            total = 4 * self.diffusivity * rate / (root - self.drift)
            return self.distance * (root - self.drift) / (2 * self.diffusivity), root, total
        return 2 * self.distance * rate / total, root, total

    def laplace(self, rate: float) -> float:
        """The exponential e^{-phi}, phi = (L / 2D) (sqrt(v^2 + 4Dr) - v) = 2Lr / (sqrt(v^2 + 4Dr) + v)."""
        rate = float(nonnegative("rate", rate))
        return self.arrival_probability if rate == 0 else math.exp(-self._exponent(rate)[0])

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Closed for orders 0 and 1 with a rate, for every order without, and for order 0 up to an end without a rate.

        (1 - e^{-phi}) / r for order 0; (phi - r phi') e^{-phi} / r^2 + gamma(2, phi) / r^2 for order 1, where
        phi - r phi' = 4DLr^2 / (h (h + v)^2), h = sqrt(v^2 + 4Dr), and gamma is the lower incomplete gamma function.
        """
        order, rate, upper = integral_arguments(order, rate, upper)
        if rate == 0 and upper == math.inf:
            return self._moment(order + 1) / (order + 1)
        if rate == 0 and order == 0:
            return self._restricted_mean(upper)
        if upper < math.inf or order > 1:
            return super().survival_integral(order, rate, upper)
        phi, root, total = self._exponent(rate)
        slope = 2 * self.distance / total  # phi / r
        # 1 - e^{-phi} = phi int_0^1 e^{-phi u} du, gamma(2, phi) = phi^2 int_0^1 u e^{-phi u} du
        share = float(power_exponential_integral(order, phi, np.array(1.0)))
        if order == 0:
            return slope * share
        curved = 4 * self.diffusivity * self.distance / root / total / total
        return curved * math.exp(-phi) + slope * (slope * share)

    def _moment(self, order: int) -> float:
        """E[T^m] = (L/v)^m sum_{k<m} (m-1+k)! / (k! (m-1-k)!) (D / Lv)^k for v > 0, else infinite."""
        if self.drift <= 0:
            return math.inf
        # numpy's numbers become inf where Python's raise
        with np.errstate(over="ignore"):
            spread = np.float64(self.diffusivity / self.distance) / self.drift
            terms = [math.perm(order - 1 + k, 2 * k) / math.factorial(k) * spread**k for k in range(order)]
            return float(np.float64(self.distance / self.drift) ** order * sum(terms))

    def _restricted_mean(self, end: float) -> float:
        """E[min(T, P)] = P Psi(P) + E[T; T <= P], where the last is (L/v) (erfc(p-q) - e^{vL/D} erfc(p+q)) / 2."""
        from scipy.special import erfc

        if end == 0:
            return 0.0
        p, q = self._scaled(np.array(end))
        if self.drift == 0:
            early = end * p * (2 / math.sqrt(math.pi) * _gaussian(p) - 2 * p * erfc(p))
        else:
            early = self.distance / abs(self.drift) * _half_difference(p - q, 2 * q)
        return end * float(self.survival(end)) + self.arrival_probability * float(early)

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """(1 - e^{-phi}) / s."""
        s = right_half_plane(rates)
        root = np.sqrt(self.drift**2 + 4 * self.diffusivity * s)
        if self.drift < 0:
            phi = self.distance * (root - self.drift) / (2 * self.diffusivity)
        else:
            phi = 2 * self.distance * s / (root + self.drift)
        return (-np.expm1(-phi) / s)[()]

    @property
    def variance(self) -> float:
        """2DL / v^3 for v > 0, else infinite."""
        if self.drift <= 0:
            return math.inf
        return 2 * (self.diffusivity / self.drift) / self.drift * (self.distance / self.drift)

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Exact: one of the two times that share a squared normal number, in a form that holds for v = 0 too.

        Args:
            n: how many, >= 0.
            rng: generator.

        Returns:
            Shape (n,) [time]; ``inf`` for runs that never arrive.

        Reference: [michael1976] The American Statistician 30, 88 (1976)
        """
        n = whole_number("n", n, 0)
        speed, drawn = abs(self.drift), rng.standard_normal(n) ** 2 * (self.diffusivity / self.distance)
        # The two roots of (L - vt)^2 / (2Dt) = (the squared normal number); the smaller is never zero.
        smaller = self.distance / (speed + drawn + np.sqrt(drawn * (2 * speed + drawn)))
        times = smaller
        if speed > 0:
            small = rng.random(n) * (self.distance + speed * smaller) < self.distance
            times = np.where(small, smaller, (self.distance / speed) ** 2 / smaller)
        return np.where(rng.random(n) < self.arrival_probability, times, np.inf) if self.drift < 0 else times

    @cached_property
    def time_scale(self) -> float:
        """The median of the runs that arrive."""
        if self.drift < 0:
            return DriftDiffusion(self.distance, -self.drift, self.diffusivity).time_scale
        return float(self.quantile(0.5))


@dataclass(frozen=True)
class Brownian(DriftDiffusion):
    """Free diffusion to a target at distance L: the Levy law, Psi(t) = erf(L / sqrt(4Dt)), whose mean is infinite.

    Attributes:
        distance: L > 0, from the start to the target [length].
        diffusivity: D > 0 [length^2 / time].

    Example:
        >>> law = Brownian(distance=1.0, diffusivity=1.0)
        >>> law.mean, round(law.survival_integral(0, 1.0) / law.laplace(1.0), 12)
        (inf, 1.718281828459)

    Reference: [evans2011] Phys. Rev. Lett. 106, 160601 (2011)
    """

    drift: float = field(default=0.0, init=False, repr=False)


@dataclass(frozen=True)
class Interval(PassageLaw):
    """Free diffusion in (0, L) until it meets either end.

    Attributes:
        length: L > 0 [length].
        start: x0, 0 < x0 < L [length].
        diffusivity: D > 0 [length^2 / time].

    Example:
        >>> law = Interval(length=1.0, start=0.5, diffusivity=1.0)
        >>> law.mean, round(law.coefficient_of_variation ** 2, 12)
        (0.125, 0.666666666667)

    Reference: [pal2019] Phys. Rev. E 99, 032123 (2019)
    """

    length: float
    start: float
    diffusivity: float

    def __post_init__(self) -> None:
        keep_positive(self, "length", "diffusivity")
        check_diffusion_scale("length", self.length, self.diffusivity)
        if not 0 < self.start < self.length:
            raise ValueError(f"start={self.start} must be inside the interval, > 0 and < length={self.length}")

    @property
    def _near(self) -> float:
        """Distance to the nearer end, as a fraction of L."""
        return min(self.start, self.length - self.start) / self.length

    @property
    def _diffusion_time(self) -> float:
        return self.length**2 / self.diffusivity

    def _modes(self, tau: Floats, power: int) -> Floats:
        """The sum over odd n of (4 / n pi) (n pi)^power sin(n pi u) e^{-n^2 pi^2 tau}, for tau >= 0.01."""
        n = math.pi * np.arange(1, 31, 2)
        amplitudes = 4 * n ** (power - 1) * np.sin(n * self._near)
        return np.asarray(np.exp(-np.multiply.outer(np.maximum(tau, 0.01), n**2)) @ amplitudes, dtype=float)

    def _images(self, tau: Floats) -> Floats:
        """Pr(T <= t) by reflected paths, for tau <= 0.1."""
        from scipy.special import erfc

        width = 2 * np.sqrt(np.clip(tau, 1e-300, 0.1))
        u, total = self._near, np.zeros(tau.shape)
        for k in range(5):
            total += (-1) ** k * (erfc((k + u) / width) + erfc((k + 1 - u) / width))
        return total

    def survival(self, time: npt.ArrayLike) -> Floats:
        """The sine series for Dt > 0.01 L^2, and the sum over reflected paths before."""
        from scipy.special import erf, erfc

        tau = nonnegative("time", time) / self._diffusion_time
        width = 2 * np.sqrt(np.clip(tau, 1e-300, 0.01))
        u = self._near
        early = erf(u / width) - erfc((1 - u) / width) + erfc((1 + u) / width)
        return np.where(tau == 0, 1.0, np.where(tau < 0.01, early, self._modes(tau, 0)))[()]

    def arrived(self, time: npt.ArrayLike) -> Floats:
        """The sum over reflected paths for Dt < 0.1 L^2, and 1 - Psi after."""
        tau = nonnegative("time", time) / self._diffusion_time
        return np.where(tau < 0.1, self._images(tau), 1 - self.survival(time))[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """The derivative of either series."""
        tau = nonnegative("time", time) / self._diffusion_time
        safe = np.clip(tau, 1e-300, 0.01)
        width, early = 2 * np.sqrt(safe), np.zeros(tau.shape)
        for sign, distance in ((1, self._near), (1, 1 - self._near), (-1, 1 + self._near), (-1, 2 - self._near)):
            x = distance / width
            early += sign * np.exp(np.log(x / math.sqrt(math.pi)) - np.minimum(x, 1e100) ** 2 - np.log(safe))
        late = self._modes(tau, 2)
        return (np.where(tau == 0, 0.0, np.where(tau < 0.01, early, late)) / self._diffusion_time)[()]

    def hazard(self, time: npt.ArrayLike) -> Floats:
        """The ratio f / Psi; pi^2 D / L^2 where both are too small for a number."""
        t = nonnegative("time", time)
        late = math.pi**2 / self._diffusion_time
        survival = self.survival(t)
        alive = survival > 1e-300
        return np.where(alive, self.density(t) / np.where(alive, survival, 1.0), late)[()]

    def _factors(self, rate: npt.NDArray | float) -> tuple[npt.NDArray, npt.NDArray]:
        """T~ and 1 - T~ at r > 0: with q = L sqrt(r / D) (e^{-qu} + e^{-q(1-u)}) / (1 + e^{-q}), and a product."""
        q = np.sqrt(np.asarray(rate) / self.diffusivity) * self.length
        near, far = -q * self._near, -q * (1 - self._near)
        both = 1 + np.exp(-q)
        return (np.exp(near) + np.exp(far)) / both, np.expm1(near) * np.expm1(far) / both

    def laplace(self, rate: float) -> float:
        """The ratio cosh(sqrt(r/D) (x0 - L/2)) / cosh(sqrt(r/D) L/2)."""
        rate = float(nonnegative("rate", rate))
        return float(self._factors(rate)[0])

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """Without an end closed for order 0, and without a rate too for order 1: x0 (L-x0) / 2D and E[T^2] / 2."""
        order, rate, upper = integral_arguments(order, rate, upper)
        if upper < math.inf or order > 1 or (order == 1 and rate > 0):
            return super().survival_integral(order, rate, upper)
        w = self._near * (1 - self._near)
        if order == 1:
            return self._diffusion_time**2 * w * (1 + w) / 24
        mean = self._diffusion_time * w / 2
        # Below this, rate times mean square over mean is less than a digit; the product may underflow.
        if rate * self._diffusion_time < 1e-17:
            return mean
        return float(self._factors(rate)[1]) / rate

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """(1 - T~(s)) / s."""
        s = right_half_plane(rates)
        return (self._factors(s)[1] / s)[()]

    @property
    def variance(self) -> float:
        """(L^4 / 12 D^2) w (1 - 2w), w = x0 (L-x0) / L^2."""
        w = self._near * (1 - self._near)
        return self._diffusion_time**2 * w * (1 - 2 * w) / 12


def _gaussian(x: Floats) -> Floats:
    """e^{-x^2} without an overflow on the way to zero."""
    return np.exp(-(np.minimum(np.abs(x), 40.0) ** 2))


def _fall_of_erfcx(x: Floats, distance: Floats) -> Floats:
    """(erfcx(x) - erfcx(x + distance)) / distance for x >= -0.5, relatively accurate for every distance > 0.

    erfcx(x) = (2 / sqrt(pi)) int_0^inf e^{-u^2 - 2xu} du, so that the difference of two close ones has the positive
    integrand e^{-u^2 - 2xu} (1 - e^{-2 u distance}).
    """
    from scipy.special import erfcx, exprel

    from theory.positive_quadrature import panel_nodes

    nodes, weights = (values.ravel() for values in panel_nodes(np.array([0.0, 1, 2.5, 5, 9, 14, 20])))
    far = distance >= CLOSE * (1 + np.maximum(x, 0.0))
    result = np.asarray(np.where(far, erfcx(x) - erfcx(x + distance), 0.0) / distance)
    if not far.all():
        # The integrand ends at about u = 20 / (1 + x).
        near, d = x[~far], distance[~far]
        scale = 1 / (1 + np.maximum(near, 0.0))
        u = np.multiply.outer(scale, nodes)
        integrand = np.exp(-(u**2) - 2 * near[:, None] * u) * 2 * u * exprel(-2 * d[:, None] * u)
        result[~far] = 2 / math.sqrt(math.pi) * scale * (integrand @ weights)
    return result


def _half_difference(x: Floats, distance: Floats) -> Floats:
    """(erfc(x) - e^{(x + distance)^2 - x^2} erfc(x + distance)) / 2 for distance > 0 and 2x >= -distance."""
    from scipy.special import erfc, erfcx

    tail = x > -CLOSE
    plain = erfc(x) - _gaussian(x) * erfcx(x + distance)
    return np.where(tail, _gaussian(x) * distance * _fall_of_erfcx(np.maximum(x, -CLOSE), distance), plain) / 2
