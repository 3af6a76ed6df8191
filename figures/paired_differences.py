"""Differences between things that were measured in pairs: each pair, their mean, and its 95 % interval.

Every difference has an axis of its own: what matters is which side of zero it is on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.style import COLOURS, GREY, INK, WIDTH, Entries, legend_below, styled, tint, title_above
from theory.estimate import Estimate

ROW_HEIGHT = 0.72
"""Of one difference [inch]."""

_ABOVE, _BELOW = 0.45, -0.45
"""Where the mean is, and the middle of the dots."""

MOST_DOTS = 500
"""Pairs beyond which only every so manieth is drawn."""


@dataclass(frozen=True, eq=False)
class PairedDifferences:
    """One difference.

    Attributes:
        label: such as ``"Anti-PGD - PGD"``.
        pairs: the difference of each pair, finite, shape (n,), n >= 2.
        mean: of them.
        shown: whether it is different from zero, by whatever test.

    Example:
        >>> pairs = np.array([0.2, 0.1, 0.4, 0.3])
        >>> content = PairedDifferences("Anti-PGD - PGD", pairs, Estimate.from_samples(pairs), shown=False)
        >>> round(content.mean.value, 6)
        0.25
    """

    label: str
    pairs: npt.NDArray[np.float64]
    mean: Estimate
    shown: bool

    def __post_init__(self) -> None:
        pairs = np.asarray(self.pairs, dtype=float)
        if pairs.ndim != 1 or len(pairs) < 2 or not np.isfinite(pairs).all():
            raise ValueError(f"{self.label}: pairs of shape {pairs.shape} must be at least two finite numbers")
        if not math.isfinite(self.mean.value):
            raise ValueError(f"{self.label}: mean={self.mean.value} must be finite")
        object.__setattr__(self, "pairs", pairs)


@styled()
def figure_paired_differences(
    title: str, quantities: Mapping[str, Sequence[PairedDifferences]], *, test: str = "1 %, all together"
) -> Figure:
    """A column for each quantity, a row for each difference.

    Args:
        title: of the figure.
        quantities: label of the axis -> differences, the same ones in the same order for all.
        test: of what "shown" means, for the legend.

    Returns:
        The figure.

    Raises:
        ValueError: without any quantity or difference, or if the quantities do not have the same differences.

    Example:
        >>> pairs = np.array([0.2, 0.1, 0.4, 0.3])
        >>> content = PairedDifferences("Anti-PGD - PGD", pairs, Estimate.from_samples(pairs), shown=False)
        >>> len(figure_paired_differences("after 30 epochs", {"trace": [content], "accuracy": [content]}).axes)
        2
    """
    rows = [each.label for each in next(iter(quantities.values()), ())]
    if not rows:
        raise ValueError("quantities is empty: give at least one, with at least one difference")
    if any([each.label for each in found] != rows for found in quantities.values()):
        raise ValueError("quantities must have the same differences, in the same order")
    figure = Figure(figsize=(WIDTH, ROW_HEIGHT * len(rows) + 1.2), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.08)
    grid = figure.subplots(len(rows), len(quantities), squeeze=False)
    title_above(figure, title)
    for column, (name, found) in enumerate(quantities.items()):
        for ax, each in zip(grid[:, column], found, strict=True):
            _plot(ax, each)
        grid[0, column].set_title(name, fontweight="normal")
    for ax, label in zip(grid[:, 0], rows, strict=True):
        words = label.replace(" - ", "\n\N{MINUS SIGN} ")
        ax.set_ylabel(words, rotation=0, ha="right", va="center", labelpad=8)
    dot = Line2D([], [], color=tint(INK, 0.3), marker="o", markersize=3.5, linestyle="")
    entries: Entries = [(dot, "one pair")]
    flags = [each.shown for found in quantities.values() for each in found]
    for shown, words in ((True, f"mean with 95 % interval, a difference ({test})"), (False, "none shown")):
        if shown in flags:
            entries.append((_mark(shown), words))
    legend_below(figure, entries, columns=3)
    return figure


def plot_mean(ax: Axes, mean: Estimate, place: float, *, shown: bool) -> None:
    """A diamond with its interval, full if a difference is shown.

    Args:
        ax: to draw on.
        mean: of the pairs.
        place: its height.
        shown: whether it is different from zero.
    """
    low, high = mean.interval()
    colour = COLOURS[0] if shown else GREY
    ax.errorbar(
        mean.value,
        place,
        xerr=[[mean.value - low], [high - mean.value]],
        fmt="D",
        color=colour,
        markersize=5.5,
        markerfacecolor=colour if shown else "white",
        elinewidth=1.8,
        capsize=3.5,
        capthick=1.8,
        zorder=4,
    )


def _mark(shown: bool) -> Line2D:
    colour = COLOURS[0] if shown else GREY
    return Line2D([], [], color=colour, marker="D", markersize=6, markerfacecolor=colour if shown else "white")


def _plot(ax: Axes, each: PairedDifferences) -> None:
    ax.axvline(0, color=GREY, linewidth=1, zorder=1)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    some = each.pairs[:: math.ceil(len(each.pairs) / MOST_DOTS)]
    # The golden ratio spreads the dots evenly, however many they are.
    places = _BELOW + 0.6 * (np.arange(len(some)) * 0.618034 % 1 - 0.5)
    ax.plot(some, places, "o", color=tint(INK, 0.35), markersize=3.5, markeredgewidth=0, zorder=2)
    plot_mean(ax, each.mean, _ABOVE, shown=each.shown)
    ends = [*each.pairs.tolist(), *each.mean.interval(), 0.0]
    room = 0.08 * (max(ends) - min(ends)) or 1.0
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.set_ylim(-1, 1)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
