"""The restart rate and the restart interval with the smallest mean first-passage time, and whether there is one.

Often the best is at the edge: never to restart, or all the time. That is reported as such. Inside, the condition of
stationarity is solved instead of searching for the lowest value, whose position would be known to half the digits only:

    rate      D_0^2 - D_1 + <W> D_0 T~ / (1 + r <W>) = 0;    for W = 0: CV(T_r*) = 1
    interval  f(P) (int_0^P Psi + <W>) = Psi(P) (1 - Psi(P));    for W = 0: h(P*) E[T_P*] = 1

Reference: [reuveni2016] CV = 1 at the best rate; [pal2017] no law of the timer beats the best sharp restart
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from theory.absorbing import Floats
from theory.law_arguments import nonnegative
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic, EmpiricalLaw, Mixture

Boundary = Literal["zero", "infinite", "neutral"]

DECADES = 9
"""The scan covers this many decades on both sides of the law's time scale, and more while the mean falls."""

LARGEST_SCALE = 1e140
"""Times beyond this, or below its inverse, are not examined: their squares leave the range of numbers."""

PER_DECADE = 4
UNDECIDED = 1e-11
"""A derivative smaller than this fraction of its terms has no known sign."""

LEAST_PROBABILITY = 1e-5
"""Of a survival with an error of its own, smaller probabilities than this (and their complements) are not trusted."""

SAME = 1e-10
"""Means that differ by less than this fraction are equal; an edge is then preferred to the inside."""


class NoOptimumFound(ValueError):
    """Every mean that was examined is infinite, or too few of them are known."""


@dataclass(frozen=True)
class Optimum:
    """The best rate or interval of restarts.

    Attributes:
        value: the rate [1 / time] or the interval [time]; 0 or ``inf`` at an edge.
        mean: E[T] there [time]; the limit at an edge.
        boundary: None for an optimum inside; ``"zero"`` or ``"infinite"`` where the mean falls towards that edge;
            ``"neutral"`` where it depends on nothing (value 0 for a rate, ``inf`` for an interval: no restart).
    """

    value: float
    mean: float
    boundary: Boundary | None


def optimal_rate(law: PassageLaw, overhead: float | PassageLaw = 0.0) -> Optimum:
    """The rate of Poisson restart with the smallest E[T_r] = (1 / r + <W>) (1 - T~(r)) / T~(r).

    All local minima in 18 decades around 1 / time scale are compared, and beyond for as long as the mean falls.

    Args:
        law: of T without restarts.
        overhead: W, the time lost by each restart: a number >= 0 or its law [time].

    Returns:
        The optimum. ``"zero"``: never restart. ``"infinite"``: the more often the better; the mean is then 1 / f(0), or
        0 where the density of T is infinite at 0.

    Raises:
        ValueError: for a negative overhead, or if every mean is infinite.

    Example:
        >>> from theory.waiting_times import Exponential, erlang
        >>> optimal_rate(erlang(2, 1.0))
        Optimum(value=0.0, mean=2.0, boundary='zero')
        >>> optimal_rate(Exponential(0.5))
        Optimum(value=0.0, mean=2.0, boundary='neutral')
    """
    lost = _mean_overhead(overhead)

    def mean(rate: float) -> float:
        arrived = law.laplace(rate)
        return math.inf if arrived == 0 else (1 + rate * lost) * law.survival_integral(0, rate) / arrived

    def rises(log_rate: float) -> float:
        rate = math.exp(log_rate)
        d0, d1 = law.survival_integral(0, rate), law.survival_integral(1, rate)
        if d0 == 0:
            return 0.0
        price = lost * law.laplace(rate) / d0 / (1 + rate * lost) if lost > 0 else 0.0
        return 1 - d1 / d0 / d0 + price

    grid = _while_it_falls(rises, _around(-_log_time_scale(law)), math.log(10))
    undisturbed = law.mean
    inside, first, last = _turning_points(rises, grid)
    if first == 0 and math.isfinite(undisturbed):
        return Optimum(0.0, undisturbed, "neutral")
    # Beyond the last decided sign the mean is flat within rounding.
    limit = _limit(lambda small: mean(1 / small), math.exp(-float(grid[-1]))) if last < 0 else math.inf
    return _best(mean, [math.exp(x) for x in inside], [(0.0, undisturbed, "zero"), (math.inf, limit, "infinite")])


def optimal_interval(law: PassageLaw, overhead: float | PassageLaw = 0.0) -> Optimum:
    """The interval of sharp restart with the smallest E[T_P] = (int_0^P Psi + <W> Psi(P)) / (1 - Psi(P)).

    All local minima in 18 decades around the time scale, and between quantiles of the law, are compared, and below for
    as long as the mean falls. For measured times the best interval is one of them, and is found exactly.

    Args:
        law: of T without restarts; it needs a density, or to be an ``EmpiricalLaw``.
        overhead: W, the time lost by each restart: a number >= 0 or its law [time].

    Returns:
        The optimum. ``"zero"``: the shorter the better; the mean is then 1 / f(0), or 0 where the density of T is
        infinite at 0. ``"infinite"``: never restart.

    Raises:
        ValueError: for a negative overhead, or a law with jumps other than an ``EmpiricalLaw``.

    Example:
        >>> from theory.waiting_times import Hyperexponential, erlang
        >>> optimal_interval(erlang(2, 1.0))
        Optimum(value=inf, mean=2.0, boundary='infinite')
        >>> optimal_interval(Hyperexponential((0.5, 0.5), (10.0, 0.1))).boundary
        'zero'
    """
    lost = _mean_overhead(overhead)

    def mean(interval: float) -> float:
        arrived = float(law.arrived(interval))
        return math.inf if arrived == 0 else (law.restricted_mean(interval) + lost * (1 - arrived)) / arrived

    undisturbed = law.mean
    if isinstance(law, Deterministic):
        return Optimum(math.inf, undisturbed, "infinite")
    if isinstance(law, EmpiricalLaw):
        # Between two of the times only the numerator grows. The largest of them is no restart at all.
        return _best(mean, np.unique(law.times)[:-1].tolist(), [(math.inf, undisturbed, "infinite")])

    def rises(log_interval: float) -> float:
        interval = math.exp(log_interval)
        survival, arrived = float(law.survival(interval)), float(law.arrived(interval))
        if survival == 0 or arrived == 0:
            return 0.0
        ends = float(law.density(interval)) * (law.restricted_mean(interval) + lost)
        return (survival * arrived - ends) / max(survival * arrived, ends)

    grid = _interval_grid(law)
    if _knows_early_arrivals(law):
        grid = _while_it_falls(rises, grid, -math.log(10))
    # Where survival has an error, so has the slope, which divides by the probabilities of having arrived and not.
    undecided = max(UNDECIDED, 10 * law.survival_error / LEAST_PROBABILITY)
    if law.survival_error > 0 and len(grid) < PER_DECADE:
        raise NoOptimumFound(
            f"{law}: Psi is an inverted transform, and hardly anywhere between {LEAST_PROBABILITY:g} and 1 minus that: "
            "the best interval is not known"
        )
    inside, first, _ = _turning_points(rises, grid, undecided)
    if first == 0 and math.isfinite(undisturbed):
        return Optimum(math.inf, undisturbed, "neutral")
    limit = _limit(mean, math.exp(float(grid[0]))) if first > 0 and lost == 0 else math.inf
    return _best(mean, [math.exp(x) for x in inside], [(math.inf, undisturbed, "infinite"), (0.0, limit, "zero")])


def _interval_grid(law: PassageLaw) -> Floats:
    """Values of ln P, dense where the law has its probability, from times with a known Pr(T <= P) on."""
    around = _around(_log_time_scale(law))
    if law.survival_error > 0:
        times = np.exp(around)
        return around[(law.arrived(times) > LEAST_PROBABILITY) & (law.survival(times) > LEAST_PROBABILITY)]
    odds = np.linspace(-14, 14, 141)
    quantiles = np.asarray(law.quantile(law.arrival_probability / (1 + np.exp(-odds))))
    grid = np.unique(np.concatenate([around, np.log(quantiles[np.isfinite(quantiles) & (quantiles > 0)])]))
    return grid[law.arrived(np.exp(grid)) > 1e-11]


def _log_time_scale(law: PassageLaw) -> float:
    scale = law.time_scale
    if not 1 / LARGEST_SCALE < scale < LARGEST_SCALE:
        raise ValueError(
            f"the typical time {scale:g} of {law} must lie between {1 / LARGEST_SCALE:g} and {LARGEST_SCALE:g}: "
            "take another unit of time"
        )
    return math.log(scale)


def _around(centre: float) -> Floats:
    return centre + np.linspace(-1, 1, 2 * DECADES * PER_DECADE + 1) * DECADES * math.log(10)


def _knows_early_arrivals(law: PassageLaw) -> bool:
    """Whether Pr(T <= t) is relatively accurate however small, and not 1 - Psi or an inverted transform."""
    if isinstance(law, Mixture):
        return all(_knows_early_arrivals(part) for part in law.laws)
    return type(law).arrived is not PassageLaw.arrived and law.survival_error == 0


def _while_it_falls(rises: Callable[[float], float], grid: Floats, step: float) -> Floats:
    """The grid and more points beyond its end in the direction of the step, for as long as the mean falls that way."""
    edge, further = float(grid[-1] if step > 0 else grid[0]), list[float]()
    while abs(edge) < math.log(LARGEST_SCALE) and rises(edge) * step < -UNDECIDED * abs(step):
        edge += step
        further.append(edge)
    return np.sort(np.concatenate([grid, further]))


def _turning_points(
    rises: Callable[[float], float], grid: Floats, undecided: float = UNDECIDED
) -> tuple[list[float], float, float]:
    """Minima of a function of known slope, and the first and the last decided value of the slope (0 for none)."""
    from scipy.optimize import brentq

    slopes = np.array([rises(float(x)) for x in grid])
    decided = np.flatnonzero(np.abs(slopes) > undecided)
    if len(decided) == 0:
        return [], 0.0, 0.0
    roots = [
        float(brentq(rises, grid[i], grid[j], xtol=1e-14, rtol=1e-14))  # pyright: ignore[reportArgumentType]
        for i, j in itertools.pairwise(decided)
        if slopes[i] < 0 < slopes[j]
    ]
    return roots, float(slopes[decided[0]]), float(slopes[decided[-1]])


def _limit(mean: Callable[[float], float], small: float) -> float:
    """The limit of a mean for x -> 0 from points near it, to second order; 0 where it falls as a power does."""
    near, middle, far = mean(small), mean(10 * small), mean(100 * small)
    settles = near > (1 - 1e-5) * far or math.log(middle / near) < 0.5 * math.log(far / middle)
    return 2 * near - mean(2 * small) if settles else 0.0


def _best(mean: Callable[[float], float], inside: list[float], edges: list[tuple[float, float, Boundary]]) -> Optimum:
    value, lowest, boundary = min(edges, key=lambda edge: edge[1])
    found = [(mean(x), x) for x in inside]
    if found and min(found)[0] < (1 - SAME) * lowest:
        return Optimum(min(found)[1], min(found)[0], None)
    if lowest == math.inf:
        raise NoOptimumFound("the mean is infinite without restarts, and at every rate or interval that was examined")
    return Optimum(value, lowest, boundary)


def _mean_overhead(overhead: float | PassageLaw) -> float:
    return overhead.mean if isinstance(overhead, PassageLaw) else float(nonnegative("overhead", overhead))
