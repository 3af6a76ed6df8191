"""SGD on the Gaussian mixture: distance of replicas and width of boundaries against what makes batches noisy.

Filled points are theory and hollow ones simulated, with 95 % intervals. Where an axis is logarithmic, what is zero is
named in the legend, not drawn.

Reference: [mignacco2022] distance of replicas and width of boundaries against batch fraction and persistence
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter

from figures.batch_orders import Look, logarithmic_ticks, looks_of
from figures.mean_field import Entries, Points, check_orders, head, linear_ticks
from figures.perturbation import plot_measured
from figures.style import GREY, legend_below, panels, plain, styled, tint
from theory.estimate import Estimate

WIDE = 8.0
"""Temperatures and distances that span more than this factor get logarithmic axes."""

FEW, NEAR = 7, 1.2
"""So many values of an option have ticks of their own, if they are not nearer than this factor."""

ASIDE = 1.03
"""Simulated points stand beside those of theory, by this factor."""


@dataclass(frozen=True)
class OrderPoint:
    """One order at the end of training.

    Attributes:
        kind: orders of one kind are compared with each other, such as ``"persistent"``.
        fraction: b, 0 < b <= 1.
        persistence_time: tau > 0; None for batches without one.
        temperature: T_eff of theory; None where it is not known.
        distance: |w_1 - w_2|^2 / N of theory; None for one replica.
        margin: a quantile of the normalised margins of theory; None without theory.
        simulated_distance: likewise simulated.
        simulated_margin: likewise simulated.
    """

    kind: str
    fraction: float
    persistence_time: float | None
    temperature: Estimate | None = None
    distance: Estimate | None = None
    margin: Estimate | None = None
    simulated_distance: Estimate | None = None
    simulated_margin: Estimate | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction} must be > 0 and at most 1")
        if self.persistence_time is not None and not self.persistence_time > 0:
            raise ValueError(f"persistence_time={self.persistence_time} must be > 0, or None")


@styled()
def figure_replicas(title: str, orders: Sequence[OrderPoint], *, margin_label: str = "10 % margin") -> Figure:
    """Distance of replicas and boundary width against the batch fraction, and against the persistence time if any has.

    Args:
        title: names model and training.
        orders: at least one.
        margin_label: which quantile of the normalised margins.

    Returns:
        The figure.

    Raises:
        ValueError: without any order.
    """
    check_orders(orders)
    quantities: list[tuple[str, _Quantity, _Quantity]] = [
        (f"{margin_label} / |w|", lambda point: point.margin, lambda point: point.simulated_margin)
    ]
    if any(point.distance is not None or point.simulated_distance is not None for point in orders):
        quantities.insert(0, ("replica distance", lambda point: point.distance, lambda point: point.simulated_distance))
    persistent = [point for point in orders if point.persistence_time is not None]
    columns: list[tuple[str, Sequence[OrderPoint], Callable[[OrderPoint], str], Callable[[OrderPoint], float]]] = []
    if len({point.persistence_time for point in persistent}) > 1:
        columns.append(("persistence time τ", persistent, _kind_and_fraction, lambda p: p.persistence_time or 0.0))
    if len({point.fraction for point in orders}) > 1 or not columns:
        columns.insert(0, ("batch fraction b", orders, _kind_and_time, lambda point: point.fraction))
    figure, axes = panels(len(quantities) * len(columns), sharex=False, sharey=False, extra_height=0.9)
    head(figure, title)
    looks = looks_of(dict.fromkeys(family(point) for _, points, family, _ in columns for point in points))
    panel = iter(axes)
    for label, theory, simulated in quantities:
        shown = [
            end for point in orders for e in (theory(point), simulated(point)) if e is not None for end in e.interval()
        ]
        shown += [0.0]
        room = 0.06 * (max(shown) - min(shown)) or 1.0
        for x_label, points, family, position in columns:
            ax = next(panel)
            for name in dict.fromkeys(map(family, points)):
                members = sorted((point for point in points if family(point) == name), key=position)
                line = [(position(point), e) for point in members if (e := theory(point)) is not None]
                found = [(position(point), e) for point in members if (e := simulated(point)) is not None]
                _scanned(ax, line, found, looks[name])
            ax.set_xscale("log")
            _value_ticks(ax, sorted({position(point) for point in points}))
            ax.set_ylim(min(shown) - room, max(shown) + room)
            ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
            ax.set_xlabel(x_label)
            ax.set_ylabel(label)
            linear_ticks(ax)
    has_theory = any(theory(point) is not None for _, theory, _ in quantities for point in orders)
    has_simulated = any(simulated(point) is not None for _, _, simulated in quantities for point in orders)
    entries: Entries = [
        (Line2D([], [], color=looks[name].colour, marker=looks[name].marker, markersize=5, linewidth=1.6), name)
        for name in looks
    ]
    entries.append((Line2D([], [], linestyle=""), _SOURCES[has_theory, has_simulated]))
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_temperature_distance(title: str, orders: Mapping[str, OrderPoint]) -> Figure:
    """The two measures of noise against each other, a point for each order.

    Args:
        title: names model and training.
        orders: text -> the order; those without distance or temperature are counted in the legend.

    Returns:
        The figure.

    Raises:
        ValueError: without any order that has both.
    """
    both = {
        text: (point.distance, point.temperature)
        for text, point in orders.items()
        if point.distance is not None and point.temperature is not None
    }
    check_orders(both)
    figure, (ax,) = panels(1, extra_height=1.6)
    head(figure, title)
    positive = [pair for pair in both.values() if min(e.value for e in pair) > 0]
    logarithmic = len(positive) > 1 and any(
        max(values) > WIDE * min(values) for values in zip(*((d.value, t.value) for d, t in positive), strict=True)
    )
    drawn = {text: both[text] for text in both if not logarithmic or min(e.value for e in both[text]) > 0}
    hidden = [text for text in orders if text not in drawn]
    families: dict[str, list[str]] = {}
    for text in drawn:
        families.setdefault(_family(orders[text]), []).append(text)
    looks = looks_of(families)
    if logarithmic:
        ax.set_xscale("log")
        ax.set_yscale("log")
    for name, members in families.items():
        members.sort(key=lambda text: orders[text].persistence_time or orders[text].fraction)
        path = np.array([[estimate.value for estimate in drawn[text]] for text in members])
        ax.plot(*path.T, color=tint(looks[name].colour, 0.5), linewidth=1.2, zorder=2)
        for text in members:
            _cross(ax, *drawn[text], looks[name], _changing(orders[text]))
    ends = [
        [end for pair in drawn.values() for end in pair[axis].interval() if end > 0 or not logarithmic]
        for axis in (0, 1)
    ]
    if logarithmic:
        ax.set_xlim(*logarithmic_ticks(ax.xaxis, ends[0], most=8))
        ax.set_ylim(*logarithmic_ticks(ax.yaxis, ends[1], most=6))
    else:
        ax.set_xlim(0, 1.06 * max(ends[0]) or 1.0)
        low, high = min(0.0, *ends[1]), max(0.0, *ends[1])
        room = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)
        ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        linear_ticks(ax)
    entries: Entries = [
        (Line2D([], [], color=look.colour, marker=look.marker, markersize=6, linewidth=1.2), name)
        for name, look in looks.items()
    ]
    ax.set_xlabel("replica distance")
    ax.set_ylabel("effective temperature, slope")
    if hidden:
        entries.append((Line2D([], [], linestyle=""), f"not drawn, zero or unknown: {', '.join(hidden)}"))
    legend_below(figure, entries, columns=2)
    return figure


def _cross(ax: Axes, distance: Estimate, temperature: Estimate, look: Look, words: str) -> None:
    """A point with both intervals and a few words."""
    bars = []
    for estimate in (distance, temperature):
        low, high = estimate.interval()
        bars.append([[max(estimate.value - low, 0)], [max(high - estimate.value, 0)]])
    ax.errorbar(
        distance.value,
        temperature.value,
        xerr=bars[0],
        yerr=bars[1],
        fmt=look.marker,
        color=look.colour,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.7,
        elinewidth=1.2,
        zorder=4,
    )
    at = (distance.value, temperature.value)
    text = ax.annotate(words, at, xytext=(6, -11), textcoords="offset points", fontsize=7.5, color=look.colour)
    text.set(zorder=6, path_effects=[withStroke(linewidth=2, foreground="white")])


_SOURCES = {
    (True, True): "filled: theory; hollow: simulated (95 %)",
    (True, False): "theory (95 %)",
    (False, True): "simulated (95 %)",
}
"""By whether theory and whether simulated points are drawn."""

_Quantity = Callable[[OrderPoint], Estimate | None]


def _family(point: OrderPoint) -> str:
    """Orders that differ in one number only."""
    return point.kind if point.persistence_time is None else _kind_and_fraction(point)


def _changing(point: OrderPoint) -> str:
    """That number."""
    return f"b = {point.fraction:g}" if point.persistence_time is None else f"τ = {point.persistence_time:g}"


def _kind_and_time(point: OrderPoint) -> str:
    return point.kind if point.persistence_time is None else f"{point.kind}, τ = {point.persistence_time:g}"


def _kind_and_fraction(point: OrderPoint) -> str:
    return f"{point.kind}, b = {point.fraction:g}"


def _scanned(ax: Axes, line: Points, found: Points, look: Look) -> None:
    """A line through theory's points, which have bars; simulated points are hollow."""
    if line:
        ax.plot([at for at, _ in line], [e.value for _, e in line], color=look.colour, linewidth=1.6, zorder=3)
        plot_measured(ax, line, colour=look.colour, marker=look.marker)
    elif found:
        ax.plot([at for at, _ in found], [e.value for _, e in found], color=look.colour, linewidth=1.6, zorder=3)
    beside = [(at * ASIDE if line else at, estimate) for at, estimate in found]
    plot_measured(ax, beside, colour=look.colour, marker=look.marker, filled=False)


def _value_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each value, if they are few."""
    ax.set_xlim(*logarithmic_ticks(ax.xaxis, values, most=6))
    if len(values) <= FEW and all(after > NEAR * before for before, after in pairwise(values)):
        ax.xaxis.set_major_locator(FixedLocator(list(values)))
        ax.xaxis.set_major_formatter(FuncFormatter(plain))
