"""First passages that begin anew: their mean against the restart rate and against the restart interval.

Means are drawn as given. Where they are infinite, or far above the others, the line leaves through the top; where they
are infinite the panel is shaded too. An optimum inside is a dot with its numbers; one at an edge is told in the legend.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from figures.perturbation import plot_measured
from figures.style import (
    COLOURS,
    GREY,
    INK,
    Entries,
    first_column,
    legend_below,
    panels,
    plain,
    stretches,
    styled,
    tint,
    title_above,
)
from theory.absorbing import Floats
from theory.estimate import Estimate
from theory.optimal_restart import Optimum

HIGHEST = 100
"""The axis ends at this multiple of the lowest mean, unless a simulated mean or the one without restarts is higher."""

LINEAR = 6
"""The y-axis is linear if the highest mean shown is at most this multiple of the lowest."""

_SHADE = tint(GREY, 0.16)


@dataclass(frozen=True, eq=False)
class RestartMeans:
    """What one panel shows.

    Attributes:
        values: restart rates [1 / time] or intervals [time], > 0 and ascending, shape (n,).
        means: E[T] there, > 0, possibly ``inf``, but not everywhere, shape (n,) [time].
        optimum: the best rate or interval; None to say nothing of it.
        simulated: (rate or interval, mean of simulated runs); those with an infinite value are not drawn.

    Example:
        >>> rates = np.geomspace(0.1, 10, 30)
        >>> content = RestartMeans(rates, (np.exp(np.sqrt(rates)) - 1) / rates)
        >>> content.means.shape
        (30,)
    """

    values: Floats
    means: Floats
    optimum: Optimum | None = None
    simulated: Sequence[tuple[float, Estimate]] = ()

    def __post_init__(self) -> None:
        values, means = np.asarray(self.values, dtype=float), np.asarray(self.means, dtype=float)
        if values.ndim != 1 or values.shape != means.shape or len(values) < 2:
            raise ValueError(
                f"values of shape {values.shape} and means of shape {means.shape}: give one mean for each of at least "
                "two rates or intervals"
            )
        if not (np.isfinite(values).all() and values[0] > 0 and (np.diff(values) > 0).all()):
            raise ValueError("values must be finite, > 0 and ascending")
        if not (means > 0).all() or not np.isfinite(means).any():
            raise ValueError("means must be > 0, inf where infinite, and finite somewhere: else there is no line")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "means", means)


@styled()
def figure_restart_mean(
    title: str, *, rate: RestartMeans | None, interval: RestartMeans | None, undisturbed: float
) -> Figure:
    """E[T] against the rate of Poisson restart, and against the interval of sharp restart.

    Args:
        title: names the law of T without restarts.
        rate: the left panel; None to leave it out.
        interval: the right panel; None to leave it out.
        undisturbed: E[T] without restarts, possibly ``inf`` [time].

    Returns:
        The figure; its panels share the y-axis, which is logarithmic if the means differ much.

    Raises:
        ValueError: if both panels are left out, or the mean without restarts is not > 0.

    Example:
        >>> rates = np.geomspace(0.1, 10, 30)
        >>> content = RestartMeans(rates, (np.exp(np.sqrt(rates)) - 1) / rates)
        >>> figure = figure_restart_mean("Brownian motion", rate=content, interval=None, undisturbed=np.inf)
        >>> len(figure.axes)
        1
    """
    if not undisturbed > 0:
        raise ValueError(f"undisturbed={undisturbed} must be > 0, inf where infinite")
    given = [
        (content, *words)
        for content, *words in (
            (rate, COLOURS[0], "Poisson restart", "restart rate r", "r"),
            (interval, COLOURS[1], "sharp restart", "restart interval P", "P"),
        )
        if content is not None
    ]
    if not given:
        raise ValueError("rate and interval are both None: give at least one panel")
    figure, axes = panels(len(given), sharex=False, extra_height=0.9)
    title_above(figure, title)
    _mean_axis(axes[0], [content for content, *_ in given], undisturbed)
    entries: Entries = []
    for ax, (content, colour, heading, axis_label, symbol) in zip(axes, given, strict=True):
        _value_axis(ax, content)
        plot_means(ax, content, colour=colour)
        if math.isfinite(undisturbed):
            ax.axhline(undisturbed, color=GREY, linewidth=1.2, linestyle="--", zorder=2)
        if content.optimum is not None:
            entries += _mark_optimum(ax, content.optimum, symbol, colour)
        plot_measured(ax, content.simulated)
        ax.set_title(heading, color=colour)
        ax.set_xlabel(axis_label)
    for ax in first_column(axes):
        ax.set_ylabel("mean first-passage time E[T]")
    legend_below(
        figure, [*_legend([(content, colour) for content, colour, *_ in given], undisturbed), *entries], columns=2
    )
    return figure


def plot_means(ax: Axes, content: RestartMeans, *, colour: str) -> None:
    """E[T] as a line that leaves through the top where the mean is infinite, and that region shaded.

    Args:
        ax: to draw on, with its final y-axis.
        content: the means.
        colour: of the line.
    """
    x, y = content.values, content.means
    finite = np.isfinite(y)
    # A line ends at the last finite mean; the next point, far above, takes it through the top.
    beside = ~finite & (np.append(finite[1:], False) | np.append(False, finite[:-1]))
    far = 1e3 * max(ax.get_ylim()[1], float(y[finite].max()))
    ax.plot(x, np.where(finite, y, np.where(beside, far, np.nan)), color=colour, zorder=3)
    for begin, end, infinite in stretches(~finite):
        if infinite:
            left = ax.get_xlim()[0] if begin == 0 else x[begin]
            right = ax.get_xlim()[1] if end == len(x) else x[end - 1]
            ax.axvspan(left, right, color=_SHADE, linewidth=0, zorder=0.2)


def _mark_optimum(ax: Axes, optimum: Optimum, symbol: str, colour: str) -> Entries:
    """A dot and its numbers for an optimum inside, words for the legend for one at an edge."""
    if optimum.boundary is not None:
        style = {"zero": "<", "infinite": ">"}.get(optimum.boundary)
        handle = Line2D([], [], color=colour, marker=style, markersize=5, linestyle="" if style else "-")
        return [(handle, _edge(optimum, symbol))]
    # Larger than a simulated point, which may lie on it.
    ax.plot(optimum.value, optimum.mean, "o", color=colour, markersize=9, markeredgecolor="white", zorder=3.5)
    low, high = np.log(ax.get_xlim())
    place = (math.log(optimum.value) - low) / (high - low)
    ax.annotate(
        f"optimum {symbol}* = {optimum.value:.3g}, E[T] = {optimum.mean:.4g}",
        (optimum.value, optimum.mean),
        xytext=(0, -9),  # nothing is drawn below the lowest mean
        textcoords="offset points",
        ha="left" if place < 0.35 else "right" if place > 0.65 else "center",
        va="top",
        fontsize=8.5,
        color=colour,
    )
    return []


def _edge(optimum: Optimum, symbol: str) -> str:
    """An optimum at an edge, in words."""
    if optimum.boundary == "neutral":
        return f"any {symbol} is as good: E[T] = {optimum.mean:.4g}"
    edge = "0" if optimum.boundary == "zero" else "∞"
    if optimum.boundary == ("zero" if symbol == "r" else "infinite"):
        return f"best {symbol} = {edge}: never restart, E[T] = {optimum.mean:.4g}"
    return f"best {symbol} → {edge}: ever more often, E[T] → {optimum.mean:.4g}"


def _legend(contents: Sequence[tuple[RestartMeans, str]], undisturbed: float) -> Entries:
    """What was drawn in all panels, of (content, colour) each."""
    words = "with restarts, exact" + ("" if math.isfinite(undisturbed) else " (without: E[T] is infinite)")
    entries: Entries = [(tuple(Line2D([], [], color=colour) for _, colour in contents), words)]
    if any(math.isfinite(estimate.value) for content, _ in contents for _, estimate in content.simulated):
        points = Line2D([], [], color=INK, marker="o", markersize=5, linestyle="")
        entries.append((points, "simulated (95 %)"))
    if math.isfinite(undisturbed):
        line = Line2D([], [], color=GREY, linewidth=1.2, linestyle="--")
        entries.append((line, f"without restarts: E[T] = {undisturbed:.4g}"))
    if not all(np.isfinite(content.means).all() for content, _ in contents):
        entries.append((Patch(facecolor=_SHADE), "E[T] is infinite"))
    return entries


def _mean_axis(ax: Axes, contents: Sequence[RestartMeans], undisturbed: float) -> None:
    """Scale the y-axis: it shows what is needed to judge the optimum, and where lines are too high they leave it."""
    drawn = np.concatenate([content.means[np.isfinite(content.means)] for content in contents])
    simulated = [estimate for content in contents for _, estimate in content.simulated]
    inside = [c.optimum.mean for c in contents if c.optimum is not None and c.optimum.boundary is None]
    needed = [value for value in (undisturbed, *inside, *(s.value for s in simulated)) if math.isfinite(value)]
    low = min([float(drawn.min()), *(value for value in needed if value > 0)])
    bars = [high for _, high in (estimate.interval() for estimate in simulated) if math.isfinite(high)]
    high = max([min(float(drawn.max()), HIGHEST * low), *needed, *bars])
    positive_axis(ax, low, high, below=0.2 if inside else 0.04)  # room for the numbers of an optimum


def _value_axis(ax: Axes, content: RestartMeans) -> None:
    """Scale the x-axis, which is logarithmic."""
    shown = [*content.values[[0, -1]], *(at for at, _ in content.simulated)]
    if content.optimum is not None and content.optimum.boundary is None:
        shown.append(content.optimum.value)
    low, high = min(shown), max(shown)
    room = (high / low) ** 0.02
    ax.set_xscale("log")
    ax.set_xlim(low / room, high * room)
    _logarithmic_ticks(ax.xaxis, low, high)


def positive_axis(ax: Axes, low: float, high: float, *, below: float = 0.04) -> None:
    """Scale a y-axis of positive numbers: linear from zero if they are of one size, else logarithmic.

    Args:
        ax: whose y-axis it is.
        low: lowest number shown, > 0.
        high: highest number shown.
        below: room under the lowest one on a logarithmic axis, as a fraction of the range.
    """
    if high <= LINEAR * low:
        ax.set_ylim(0, 1.08 * high)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_major_formatter(FuncFormatter(plain))
        return
    ax.set_yscale("log")
    bottom, top = low / (high / low) ** below, high * (high / low) ** 0.04
    ax.set_ylim(bottom, top)
    _logarithmic_ticks(ax.yaxis, bottom, top)


def _logarithmic_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks without exponents, as dense as the range allows."""
    decades = math.log10(high / low)
    subs = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(MaxNLocator(5) if decades < 0.5 else LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
