"""The ratio of parabolic cylinder functions that is the Laplace transform of the Ornstein-Uhlenbeck passage time.

In units of the stiffness k and of sqrt(D / k), a passage from y to a > y has T~ = H(y) / H(a) at nu = s / k with
H(y) = int_0^inf u^(nu-1) e^{-u^2/2 + yu} du = Gamma(nu) e^{y^2/4} D_{-nu}(-y). Differences of H are integrals of
positive differences, and nu H is regular at nu = 0, so that means and slow rates lose no digits. For large orders the
integral is taken through its saddle point u_s = (y + sqrt(y^2 + 4 nu)) / 2 with u = u_s e^w, where the exponent is
-nu (e^w - 1 - w) - u_s^2 (e^w - 1)^2 / 2 exactly; for complex orders along a path through it on which the integrand
hardly oscillates, since along the real axis all but e^{-pi |Im nu| / 4} of it cancels.

Reference: Derived for jostle from the integral representation of D_nu, [dlmf] 12.5.1
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.positive_quadrature import integrate, logarithmic_panels, panel_nodes

Complexes = npt.NDArray[np.complex128]

LARGE_ORDER = 1.0
"""Real orders from here on use the saddle point."""

LARGE_COMPLEX_ORDER = 4.0
PATH_POINTS = 601

_WHAT = "an integral of the Ornstein-Uhlenbeck law"
_LOGARITHMS = logarithmic_panels(1e-22, 100.0)
"""First panels of ln u."""


@dataclass(frozen=True)
class PassageTransform:
    """T~ at one real order, and what follows from it without a subtraction.

    Attributes:
        laplace: T~(nu) = H(y) / H(a).
        survival_integral: int_0^inf e^{-nu t} Psi(t) dt = (1 - T~) / nu; the mean at nu = 0.
        mean_age: int t e^{-nu t} Psi dt over int e^{-nu t} Psi dt.
    """

    laplace: float
    survival_integral: float
    mean_age: float


def passage_transform(order: float, start: float, target: float) -> PassageTransform:
    """T~ and its relatives at a real order.

    Args:
        order: nu = s / k >= 0.
        start, target: y < a, in units of sqrt(D / k); -30 to 30 is safe from overflow.

    Returns:
        The transform, each number to about 1e-12 of it.

    Example:
        >>> passage_transform(1.0, 0.0, 1.0).laplace
        0.36045310946959...

    Raises:
        ValueError: if the quadrature does not converge.
    """
    return _large(order, start, target) if order >= LARGE_ORDER else _small(order, start, target)


def _small(order: float, start: float, target: float) -> PassageTransform:
    """By integrals over u; with everything over nu that is singular at nu = 0 taken out by hand."""
    distance = target - start
    peak = _peak(target)

    def difference(u: Floats) -> Floats:
        """u^nu (e^{au} - e^{yu}) e^{-u^2/2}, over e^peak; int du / u makes it H(a) - H(y)."""
        return np.exp(order * np.log(u) + target * u - u**2 / 2 - peak) * -np.expm1(-distance * u)

    gap, gap_logarithm = _with_logarithm(difference)
    norm, norm_slope = _regular(order, target, peak)
    start_peak = _peak(start)
    ratio = _regular(order, start, start_peak)[0] / norm * math.exp(start_peak - peak)
    return PassageTransform(ratio, gap / norm, norm_slope / norm - gap_logarithm / gap)


def _regular(order: float, y: float, peak: float) -> tuple[float, float]:
    """The regular nu H(y) e^-peak, which is 1 at nu = 0 (for peak = 0), and its derivative in nu."""
    if y <= 0:
        # By parts, int u^nu (u - y) e^{-u^2/2 + yu} du, where both terms are positive.
        return _with_logarithm(lambda u: np.exp((order + 1) * np.log(u) + y * u - u**2 / 2 - peak) * (u - y))
    from scipy.special import digamma

    # nu (H(y) - H(0)) + nu H(0)
    value, slope = _with_logarithm(lambda u: np.exp(order * np.log(u) + y * u - u**2 / 2 - peak) * -np.expm1(-y * u))
    at_zero = math.exp(order / 2 * math.log(2) + math.lgamma(1 + order / 2) - peak)
    slope_at_zero = at_zero * (math.log(2) + float(digamma(1 + order / 2))) / 2
    return order * value + at_zero, value + order * slope + slope_at_zero


def _peak(y: float) -> float:
    """Maximum of yu - u^2 / 2 over u >= 0."""
    return max(y, 0.0) ** 2 / 2


def _with_logarithm(function: Callable[[Floats], Floats]) -> tuple[float, float]:
    """Integrals of f(u) / u and f(u) ln u / u over u > 0, for f that vanishes like u at 0 and like e^{-u^2/2}."""
    total, edges = integrate(lambda x: function(np.exp(x)), _LOGARITHMS, _WHAT)
    nodes, weights = panel_nodes(edges)
    return total, float((weights * function(np.exp(nodes)) * nodes).sum())


def _large(order: float, start: float, target: float) -> PassageTransform:
    """Through the saddle point, where H = e^{M} I with I = int e^{-nu (E - w) - u_s^2 E^2 / 2} dw, E = e^w - 1."""
    distance = target - start
    orders = np.array(order, dtype=complex)
    saddle = float(_saddle(orders, target).real)
    norm, age = _saddle_integral(order, saddle, lambda w: np.ones_like(w))
    gap, gap_age = _saddle_integral(order, saddle, lambda w: -np.expm1(-distance * saddle * np.exp(w)))
    start_saddle = float(_saddle(orders, start).real)
    ratio = _saddle_integral(order, start_saddle, lambda w: np.ones_like(w))[0] / norm
    change = float(_change_of_maximum(orders, start, target).real)
    return PassageTransform(math.exp(change) * ratio, gap / norm / order, 1 / order + age / norm - gap_age / gap)


def _saddle_integral(order: float, saddle: float, factor: Callable[[Floats], Floats]) -> tuple[float, float]:
    """The integral of factor(w) e^{-nu (E - w) - u_s^2 E^2 / 2}, and the same with another factor w."""

    def integrand(w: Floats) -> Floats:
        excess = np.expm1(w)
        small = np.clip(w, -0.05, 0.05)
        # E - w by its series where the subtraction would lose digits
        series = small**2 / 2 * (1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 6 * (1 + small / 7)))))
        bend = np.where(np.abs(w) < 0.05, series, excess - w)
        return factor(w) * np.exp(-order * bend - (saddle * excess) ** 2 / 2)

    # Panels that double from the width of the peak, to where the exponent is below -45.
    steps = 2.0 ** np.arange(-1, 40) / math.sqrt(order + saddle**2)
    left, right = steps[steps < 2 * (46 / order + 1)], steps[steps < 2 * 4.5]
    total, edges = integrate(integrand, np.concatenate([-left[::-1], [0.0], right]), _WHAT)
    nodes, weights = panel_nodes(edges)
    return total, float((weights * integrand(nodes) * nodes).sum())


def _saddle(order: Complexes, y: float) -> Complexes:
    """(y + sqrt(y^2 + 4 nu)) / 2, the positive solution of u^2 - yu = nu."""
    root = np.sqrt(y**2 + 4 * order)
    saddle = (y + root) / 2 if y > 0 else 2 * order / (root - y)
    return saddle.astype(np.complex128)


def _change_of_maximum(order: Complexes, start: float, target: float) -> Complexes:
    """M(y) - M(a) with M(y) = nu ln u_s + (y u_s - nu) / 2, the exponent at the saddle point."""
    first, last = _saddle(order, start), _saddle(order, target)
    roots = np.sqrt(start**2 + 4 * order) + np.sqrt(target**2 + 4 * order)
    change = (start - target) / 2 * (1 + (start + target) / roots)
    exponent = order * np.log1p(change / last) + (start * first - target * last) / 2
    return exponent.astype(np.complex128)


def complex_survival_integral(orders: Complexes, start: float, target: float) -> Complexes:
    """(1 - T~) / nu = int_0^inf e^{-nu t} Psi(t) dt at complex orders.

    Args:
        orders: nu with Re nu > 0, any shape.
        start, target: y < a, in units of sqrt(D / k).

    Returns:
        The shape of ``orders``, to about 1e-13 of the value.
    """
    return _complex(orders, start, target)[1]


def complex_laplace(orders: Complexes, start: float, target: float) -> Complexes:
    """T~ = H(y) / H(a) at complex orders.

    Args:
        orders: nu with Re nu > 0, any shape.
        start, target: y < a, in units of sqrt(D / k).

    Returns:
        The shape of ``orders``, to about 1e-13 of the value for orders up to 1e3.
    """
    return _complex(orders, start, target)[0]


def _complex(orders: Complexes, start: float, target: float) -> tuple[Complexes, Complexes]:
    """T~ and (1 - T~) / nu."""
    laplace, integral = np.empty(orders.shape, dtype=complex), np.empty(orders.shape, dtype=complex)
    small = np.abs(orders) < LARGE_COMPLEX_ORDER
    if small.any():
        laplace[small], integral[small] = _complex_small(orders[small], start, target)
    for chosen in np.array_split(np.flatnonzero(~small), max(np.count_nonzero(~small) // 500, 1)):
        nu = orders.flat[chosen]
        ratio = _path_integral(nu, start) / _path_integral(nu, target)
        values = np.exp(_change_of_maximum(nu, start, target)) * ratio
        laplace.flat[chosen], integral.flat[chosen] = values, (1 - values) / nu
    return laplace, integral


def _complex_small(orders: Complexes, start: float, target: float) -> tuple[Complexes, Complexes]:
    """As `_small`; on the panels of nu = 0, since u^nu turns slowly."""
    distance, peak, start_peak = target - start, _peak(target), _peak(start)

    def powers(function: Callable[[Floats], Floats]) -> Complexes:
        """The integral of f(u) u^nu / u."""
        edges = integrate(lambda x: function(np.exp(x)), _LOGARITHMS, _WHAT)[1]
        nodes, weights = (values.ravel() for values in panel_nodes(edges))
        weighted = (weights * function(np.exp(nodes))).astype(complex)
        return np.exp(np.multiply.outer(orders, nodes)) @ weighted

    def regular(y: float, peak: float) -> Complexes:
        """The regular nu H(y) e^-peak."""
        if y <= 0:
            return powers(lambda u: u * (u - y) * np.exp(y * u - u**2 / 2 - peak))
        from scipy.special import loggamma

        at_zero = np.exp(orders / 2 * math.log(2) + loggamma(1 + orders / 2) - peak)
        return orders * powers(lambda u: np.exp(y * u - u**2 / 2 - peak) * -np.expm1(-y * u)) + at_zero

    norm = regular(target, peak)
    gap = powers(lambda u: np.exp(target * u - u**2 / 2 - peak) * -np.expm1(-distance * u))
    return regular(start, start_peak) / norm * math.exp(start_peak - peak), gap / norm


def _path_integral(orders: Complexes, y: float) -> Complexes:
    """I along w = x - i a tanh x + i b (ln(1 + e^-x) - ln 2): through the saddle in its steepest direction.

    The last term winds around u = 0, where u^nu then decays in every direction of nu.
    """
    saddles = _saddle(orders, y)
    steepness = orders + saddles**2
    winding = (orders.imag / np.abs(orders))[:, None]
    slope = np.tan(np.angle(steepness) / 2)[:, None] - winding / 2
    width = (1 / np.sqrt(np.abs(steepness)))[:, None]
    decay = (orders.real + np.abs(orders.imag) * winding[:, 0] * np.sign(orders.imag))[:, None]
    # x = width sinh z: even steps of z hold both the peak and the tails.
    first, last = -np.arcsinh((46 / decay + 3) / width), np.arcsinh(4 / width)
    step = (last - first) / (PATH_POINTS - 1)
    z = first + step * np.arange(PATH_POINTS)
    x = width * np.sinh(z)
    w = x - 1j * slope * np.tanh(x) + 1j * winding * (np.logaddexp(0, -x) - math.log(2))
    speed = 1 - 1j * slope / np.cosh(np.minimum(np.abs(x), 300)) ** 2 - 1j * winding / (1 + np.exp(x))
    excess = np.expm1(w)
    exponent = orders[:, None] * (w - excess) - (saddles[:, None] * excess) ** 2 / 2
    return (np.exp(exponent) * speed * np.cosh(z) * width * step).sum(axis=1)
