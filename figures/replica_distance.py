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
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from figures.batch_orders import Look, logarithmic_ticks, looks_of, tick_labels
from figures.mean_field import Points, check_orders, linear_ticks
from figures.perturbation import plot_measured
from figures.style import GREY, Entries, legend_below, panels, plain, styled, tint, title_above
from theory.estimate import Estimate

WIDE = 8.0
"""Temperatures and distances that span more than this factor get logarithmic axes."""

WORDS = 0.08
"""Of an axis, that the words beside a point need."""

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
def figure_replicas(
    title: str, orders: Sequence[OrderPoint], *, margin_label: str = "10 % margin", temperature: bool = False
) -> Figure:
    """Distance of replicas and boundary width against the batch fraction, and against the persistence time if any has.

    Args:
        title: names model and training.
        orders: at least one.
        margin_label: which quantile of the normalised margins.
        temperature: whether their temperature has panels of its own.

    Returns:
        The figure. If neither batch fraction nor persistence time varies, orders stand side by side.

    Raises:
        ValueError: without any order, or without anything known of them.
    """
    check_orders(orders)
    quantities: list[tuple[str, _Quantity, _Quantity]] = []
    if any(point.margin is not None or point.simulated_margin is not None for point in orders):
        quantities.append((f"{margin_label} / |w|", lambda point: point.margin, lambda point: point.simulated_margin))
    if any(point.distance is not None or point.simulated_distance is not None for point in orders):
        quantities.insert(0, ("replica distance", lambda point: point.distance, lambda point: point.simulated_distance))
    if temperature:
        quantities.insert(0, ("effective temperature", lambda point: point.temperature, lambda _: None))
    check_orders([label for label, _, _ in quantities])
    persistent = [point for point in orders if point.persistence_time is not None]
    columns: list[tuple[str, Sequence[OrderPoint], Callable[[OrderPoint], str], Callable[[OrderPoint], float]]] = []
    kinds = list(dict.fromkeys(map(_kind_and_time, orders)))
    if len({point.persistence_time for point in persistent}) > 1:
        columns.append(("persistence time τ", persistent, _kind_and_fraction, lambda p: p.persistence_time or 0.0))
    if len({point.fraction for point in orders}) > 1:
        columns.insert(0, ("batch fraction b", orders, _kind_and_time, lambda point: point.fraction))
    side_by_side = not columns and len(kinds) > 1
    if side_by_side:
        label = f"orders with b = {orders[0].fraction:g}"
        columns.append((label, orders, _kind_and_time, lambda point: kinds.index(_kind_and_time(point)) + 1.0))
    elif not columns:
        columns.append(("batch fraction b", orders, _kind_and_time, lambda point: point.fraction))
    figure, axes = panels(len(quantities) * len(columns), sharex=False, sharey=False, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(dict.fromkeys(family(point) for _, points, family, _ in columns for point in points))
    for number, (label, theory, simulated) in enumerate(quantities):
        shown = [
            end for point in orders for e in (theory(point), simulated(point)) if e is not None for end in e.interval()
        ]
        shown += [0.0]
        room = 0.06 * (max(shown) - min(shown)) or 1.0
        for row, (x_label, points, family, position) in enumerate(columns):
            # Three in a row, or two: quantities from left to right where all of them fit.
            place = row * len(quantities) + number if len(quantities) > 2 else number * len(columns) + row
            ax = axes[place]
            for name in dict.fromkeys(map(family, points)):
                members = sorted((point for point in points if family(point) == name), key=position)
                line = [(position(point), e) for point in members if (e := theory(point)) is not None]
                found = [(position(point), e) for point in members if (e := simulated(point)) is not None]
                _scanned(ax, line, found, looks[name])
            if side_by_side:
                ax.set_xlim(0.5, len(kinds) + 0.5)
                ax.xaxis.set_major_locator(FixedLocator(range(1, len(kinds) + 1)))
                ax.xaxis.set_major_formatter(NullFormatter())
            else:
                ax.set_xscale("log")
                _value_ticks(ax, sorted({position(point) for point in points}))
            ax.set_ylim(min(shown) - room, max(shown) + room)
            ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
            ax.set_xlabel(x_label)
            ax.set_ylabel(label)
            _y_ticks(ax)
    has_theory = any(theory(point) is not None for _, theory, _ in quantities for point in orders)
    has_simulated = any(simulated(point) is not None for _, _, simulated in quantities for point in orders)
    entries: Entries = [(_legend_line(looks[name]), name) for name in looks]
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
    title_above(figure, title)
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
        ax.plot(*path.T, color=tint(looks[name].colour, 0.5), linewidth=1.2, linestyle=looks[name].style, zorder=2)
        for text in members:
            _cross(ax, *drawn[text], looks[name])
    ends = [
        [end for pair in drawn.values() for end in pair[axis].interval() if end > 0 or not logarithmic]
        for axis in (0, 1)
    ]
    if logarithmic:
        left, right = logarithmic_ticks(ax.xaxis, ends[0], most=8)
        bottom, top = logarithmic_ticks(ax.yaxis, ends[1], most=6)
        # Room for the words beside the outermost points.
        ax.set_xlim(left, right * (right / left) ** WORDS)
        ax.set_ylim(bottom / (top / bottom) ** WORDS, top)
    else:
        ax.set_xlim(0, (1.06 + WORDS) * max(ends[0]) or 1.0)
        low, high = min(0.0, *ends[1]), max(0.0, *ends[1])
        room = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)
        ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        linear_ticks(ax)
    entries: Entries = [(_legend_line(look), name) for name, look in looks.items()]
    ax.set_xlabel("replica distance")
    ax.set_ylabel("effective temperature, slope")
    if hidden:
        entries.append((Line2D([], [], linestyle=""), f"not drawn, zero or unknown: {', '.join(hidden)}"))
    legend_below(figure, entries, columns=2)
    places = {text: (distance.value, temperature.value) for text, (distance, temperature) in drawn.items()}
    _name_points(ax, [(places[text], _changing(orders[text]), looks[_family(orders[text])]) for text in places])
    return figure


def _name_points(ax: Axes, points: Sequence[tuple[tuple[float, float], str, Look]]) -> None:
    """A few words beside each point, where they cover neither a point nor other words, if there is such a place."""
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale)
        for x, y in ax.transData.transform([at for at, _, _ in points])
    ]
    inside = ax.get_window_extent()
    for at, words, look in points:
        boxes = []
        for sideways, up, align in _BESIDE:
            text = ax.annotate(words, at, (sideways, up), textcoords="offset points", fontsize=7.5, color=look.colour)
            text.set(ha=align, va="center", zorder=6, path_effects=[withStroke(linewidth=2, foreground="white")])
            box = text.get_window_extent()
            covered = sum(box.overlaps(other) for other in taken)
            covered += not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
            boxes.append((covered, text, box))
        best = min(boxes, key=lambda found: found[0])
        for found in boxes:
            if found is not best:
                found[1].remove()
        taken.append(best[2])


_BESIDE = ((8, -9, "left"), (8, 9, "left"), (-8, 9, "right"), (-8, -9, "right"), (0, 12, "center"), (0, -12, "center"))
"""Where words stand from their point: to the right and up [points], and how they are aligned; the first one is best."""


def _cross(ax: Axes, distance: Estimate, temperature: Estimate, look: Look) -> None:
    """A point with both intervals."""
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


def _legend_line(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, linestyle=look.style, linewidth=1.6, marker=look.marker, markersize=5.5)


def _scanned(ax: Axes, line: Points, found: Points, look: Look) -> None:
    """A line through theory's points, which have bars; simulated points are hollow."""
    if line:
        ax.plot(
            [at for at, _ in line],
            [e.value for _, e in line],
            color=look.colour,
            linewidth=1.6,
            linestyle=look.style,
            zorder=3,
        )
        plot_measured(ax, line, colour=look.colour, marker=look.marker)
    elif found:
        ax.plot(
            [at for at, _ in found],
            [e.value for _, e in found],
            color=look.colour,
            linewidth=1.6,
            linestyle=look.style,
            zorder=3,
        )
    beside = [(at * ASIDE if line else at, estimate) for at, estimate in found]
    plot_measured(ax, beside, colour=look.colour, marker=look.marker, filled=False)


def _y_ticks(ax: Axes) -> None:
    """Few, all with exponents or none."""
    low, high = ax.get_ylim()
    size = max(abs(low), abs(high))
    ax.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(tick_labels(size, size)))


def _value_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each value, if they are few."""
    ax.set_xlim(*logarithmic_ticks(ax.xaxis, values, most=6))
    if len(values) <= FEW and all(after > NEAR * before for before, after in pairwise(values)):
        ax.xaxis.set_major_locator(FixedLocator(list(values)))
        ax.xaxis.set_major_formatter(FuncFormatter(plain))
