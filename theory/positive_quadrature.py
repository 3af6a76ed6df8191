"""Integrals of nonnegative functions of time, relatively accurate over hundreds of decades, and honest where they fail.

A first-passage law may hold time scales from 1e-8 to 1e8 at once, a tail of a power, and kinks where a restart acts.
On the logarithmic axis y = ln t all of these have a width of about one, so that panels of 16 nodes resolve them; a
panel is halved until its two halves agree with the whole. Nothing is subtracted, so nothing cancels. The nodes are
those of Gauss and Lobatto, which include the ends of a panel: from Gauss's own, a jump just inside an end is hidden.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from theory.absorbing import Floats

TOLERANCE = 2e-14
"""A panel is accepted when its halves change it by less than this fraction of the whole integral."""

EARLIEST, LATEST = 1e-300, 1e300
"""Times that are looked at; beyond them integrands of floating-point numbers overflow."""

LARGEST_EXPONENT = 750.0
"""exp(-750) is zero."""

NODES = 16
MOST_PANELS = 40_000


@cache
def _rule() -> tuple[Floats, Floats]:
    """Nodes, with both ends, and weights of Gauss-Lobatto quadrature on -1..1."""
    last = np.polynomial.legendre.Legendre.basis(NODES - 1)
    nodes = np.concatenate([[-1.0], np.sort(last.deriv().roots().real), [1.0]])
    weights = 2 / (NODES * (NODES - 1) * last(nodes) ** 2)
    return (nodes - nodes[::-1]) / 2, (weights + weights[::-1]) / 2


def panel_nodes(edges: Floats) -> tuple[Floats, Floats]:
    """Nodes and weights of 16-point Gauss-Lobatto quadrature on consecutive panels.

    Args:
        edges: increasing ends of the panels, shape (panels + 1,).

    Returns:
        (nodes, weights), each of shape (panels, 16).
    """
    nodes, weights = _rule()
    half = np.diff(edges)[:, None] / 2
    return edges[:-1, None] + half * (1 + nodes), half * weights


def integrate(function: Callable[[Floats], Floats], edges: Floats, what: str = "the integral") -> tuple[float, Floats]:
    """Integral of a nonnegative function by panels that are halved until they converge.

    Jumps and kinks are allowed: the panel that holds one is halved until it no longer matters.

    Args:
        function: maps an array to finite nonnegative values of its shape.
        edges: ends of the first panels, shape (panels + 1,); the function should be resolved by about 16 nodes each.
        what: what the error message calls the integral.

    Returns:
        The integral, to about 1e-13 of it, and the ends of the panels that were needed.

    Raises:
        ValueError: if the function returns nan, inf or something negative, or the panels do not converge.

    Example:
        >>> value, edges = integrate(lambda x: np.where(x < 1 / 3, 1.0, 0.0), np.array([0.0, 1.0]))
        >>> round(value, 12)
        0.333333333333
    """
    low, high = edges[:-1], edges[1:]
    whole = _panels(function, low, high, what)
    kept, total, count = [], 0.0, len(low)
    while len(low):
        middle = (low + high) / 2
        left, right = _panels(function, low, middle, what), _panels(function, middle, high, what)
        halves = left + right
        scale = total + float(halves.sum())
        narrow = (middle <= low) | (middle >= high)
        done = (np.abs(halves - whole) <= TOLERANCE * scale) | narrow
        total += float(halves[done].sum())
        kept += [low[done], middle[done]]
        low, high = np.concatenate([low[~done], middle[~done]]), np.concatenate([middle[~done], high[~done]])
        whole = np.concatenate([left[~done], right[~done]])
        count += len(low)
        if count > MOST_PANELS:
            raise ValueError(f"{what} did not converge: the function is rough, or known to too few digits")
    return total, np.append(np.unique(np.concatenate(kept)), edges[-1])


def _panels(function: Callable[[Floats], Floats], low: Floats, high: Floats, what: str) -> Floats:
    """Gauss-Lobatto integral of each panel."""
    nodes, weights = _rule()
    half = (high - low)[:, None] / 2
    values = function(low[:, None] + half * (1 + nodes))
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{what} met a value that is negative or not finite; the integrand must be >= 0")
    return (half * weights * values).sum(axis=1)


def logarithmic_panels(first: float, last: float) -> Floats:
    """Ends of panels of at most one e-fold, evenly spaced in ln t.

    Args:
        first, last: times, 0 < first < last.

    Returns:
        Values of ln t, shape (panels + 1,).
    """
    low, high = math.log(first), math.log(last)
    return np.linspace(low, high, max(math.ceil(high - low), 1) + 1)


def survival_integral(
    survival: Callable[[Floats], Floats], order: int, rate: float, upper: float, time_scale: float
) -> float:
    """int_0^upper t^order e^{-rate t} Psi(t) dt for a survival function Psi.

    Args:
        survival: Psi, nonincreasing from Psi(0) = 1; takes positive times of any shape.
        order: power of t, >= 0.
        rate: >= 0 [1 / time].
        upper: > 0, possibly ``inf`` [time].
        time_scale: a time that about half of the runs exceed.

    Returns:
        [time^(order + 1)], to about 1e-12 of it; ``inf`` where it diverges.

    Raises:
        ValueError: if the quadrature cannot give the integral, or cannot tell whether it is finite.
    """
    what = f"the integral of t^{order} exp(-{rate:g} t) Psi(t)"
    # Half of the runs outlive the reference, so that times 45 e-folds of t^(order + 1) below it hold less than 1e-18.
    reference = min(upper, time_scale, 1 / rate if rate > 1 / LATEST else LATEST)
    first = reference * math.exp(-max(45 / (order + 1), 5))
    last = min(upper, LATEST, LARGEST_EXPONENT / rate if rate > LARGEST_EXPONENT / LATEST else LATEST)
    if not first > EARLIEST:
        raise ValueError(f"{what} lives at times below {EARLIEST:g}: choose another unit of time")

    def logarithm(log_time: Floats) -> Floats:
        # t^(order + 1) alone may overflow where Psi is tiny.
        with np.errstate(divide="ignore"):
            psi = np.log(survival(np.exp(log_time)))
        return (order + 1) * (log_time - math.log(reference)) - rate * np.exp(log_time) + psi

    def integrand(log_time: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.exp(logarithm(log_time))

    edges = logarithmic_panels(first, last)
    alive = _last_alive(survival, edges)
    tail = 0.0
    slowly = alive == len(edges) - 1 or float(survival(np.exp(edges[alive]))) < 1e-280
    if upper == math.inf and last == LATEST and slowly:
        apart = min(alive // 2, 20)
        points = edges[[alive - 2 * apart, alive - apart, alive]]
        tail = _power_tail(logarithm(points), points[2] - points[1], what)
        if tail == math.inf:
            return math.inf
    edges = edges[: alive + 1] if tail else edges[: alive + 2]
    total, _ = integrate(integrand, edges, what)
    return (total + tail) * reference ** (order + 1)


def _power_tail(logarithms: Floats, distance: float, what: str) -> float:
    """Integral over ln t beyond the last of three equally distant points, from the integrand's logarithms there."""
    before, slope = np.diff(logarithms) / distance
    if slope > -1e-9:
        return math.inf
    # A power of t is a straight line here, and its integral is exact.
    if abs(slope - before) > 1e-6 * abs(slope) and logarithms[-1] > -35:
        raise ValueError(f"{what} converges too slowly: part of it is beyond t={LATEST:g}")
    return math.exp(logarithms[-1]) / -slope


def _last_alive(survival: Callable[[Floats], Floats], log_times: Floats) -> int:
    """The last of increasing times at which Psi is a normal number; 0 if there is none."""
    return int(np.append(0, np.flatnonzero(survival(np.exp(log_times)) > 1e-290))[-1])


def laplace_integral(arrived: Callable[[Floats], Floats], rate: float) -> float:
    """E[e^{-rate T}] = rate int_0^inf e^{-rate t} Pr(T <= t) dt, relatively accurate however small it is.

    Args:
        arrived: Pr(T <= t), as accurate relatively as the result is to be; takes positive times of any shape.
        rate: > 0 [1 / time].

    Returns:
        The transform.

    Raises:
        ValueError: if the quadrature does not converge.
    """
    scale = math.log(rate)

    def integrand(log_time: Floats) -> Floats:
        return np.exp(log_time + scale - rate * np.exp(log_time)) * arrived(np.exp(log_time))

    edges = logarithmic_panels(max(EARLIEST, 1e-40 / rate), min(LARGEST_EXPONENT / rate, LATEST))
    return integrate(integrand, edges, f"the integral of exp(-{rate:g} t) Pr(T <= t)")[0]


def oscillating_nodes(
    survival: Callable[[Floats], Floats], decay: float, turning: float, time_scale: float
) -> tuple[Floats, Floats]:
    """Nodes and weights for int_0^inf e^{-st} Psi(t) dt at all s with Re s = decay and |Im s| <= turning.

    Args:
        survival: Psi, takes positive times of any shape.
        decay: > 0 [1 / time].
        turning: >= 0 [1 / time].
        time_scale: a time that about half of the runs exceed.

    Returns:
        (times, weights), each of shape (nodes,).

    Raises:
        ValueError: if there are too many oscillations, or the quadrature does not converge.
    """
    what = f"the transform at Re s = {decay:g}"
    # Beyond 45 / Re s there is less than 1e-19.
    last = min(45 / decay, LATEST)
    edges = logarithmic_panels(max(min(time_scale, 1 / decay) * 1e-18, EARLIEST), last)
    edges = edges[: _last_alive(survival, edges) + 2]

    def integrand(log_time: Floats) -> Floats:
        return np.exp(log_time - decay * np.exp(log_time)) * survival(np.exp(log_time))

    times = np.append(0.0, np.exp(integrate(integrand, edges, what)[1]))
    pieces = np.maximum(np.ceil(np.diff(times) * turning / 4), 1)
    if pieces.sum() > MOST_PANELS:
        raise ValueError(f"{what} has {pieces.sum():.3g} oscillations up to Im s = {turning:g}: use a larger Re s")
    count = pieces.astype(int)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    starts = np.repeat(times[:-1], count) + within * np.repeat(np.diff(times) / pieces, count)
    nodes, weights = panel_nodes(np.append(starts, times[-1]))
    return nodes.ravel(), weights.ravel()
