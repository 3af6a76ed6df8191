"""Differences measured in pairs, beside the sizes that a paper claims: each pair, the mean, its interval, the claims.

All rows of a quantity have one axis, so that sizes can be compared; those of `figures.paired_differences` have their
own. Claims are marked as such: they are the paper's, with its data and networks, and have no interval.
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

from figures.paired_differences import plot_mean
from figures.style import COLOURS, GREY, INK, PALE, WIDTH, Entries, legend_below, styled, tint, title_above
from theory.estimate import Estimate

ROW = 0.46
"""Height of a difference [inch]."""

_CLAIM, _MEAN, _PAIRS = -0.28, -0.02, 0.27
"""Where they are in a row; the axis points down."""


@dataclass(frozen=True, eq=False)
class ClaimedDifference:
    """One difference.

    Attributes:
        label: such as ``"full - SGD"``.
        pairs: the difference of each pair, finite, shape (n,), n >= 2.
        shown: whether it is different from zero, by whatever test.
        claims: sizes that the paper has, in the unit of the pairs; none if it has none.
    """

    label: str
    pairs: npt.NDArray[np.float64]
    shown: bool = False
    claims: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        pairs = np.asarray(self.pairs, dtype=float)
        if pairs.ndim != 1 or len(pairs) < 2 or not np.isfinite(pairs).all():
            raise ValueError(f"{self.label}: pairs of shape {pairs.shape} must be at least two finite numbers")
        if not all(math.isfinite(claim) for claim in self.claims):
            raise ValueError(f"{self.label}: claims={self.claims} must be finite")
        object.__setattr__(self, "pairs", pairs)

    @property
    def mean(self) -> Estimate:
        """Of the pairs."""
        return Estimate.from_samples(self.pairs)


@styled()
def figure_claimed_differences(
    title: str, quantities: Mapping[str, Sequence[ClaimedDifference]], *, claim: str = "the paper's claim"
) -> Figure:
    """A panel for each quantity, a row for each difference.

    Args:
        title: of the figure.
        quantities: label of the axis -> differences, the same in the same order for all.
        claim: what the marks of claims are, for the legend.

    Returns:
        The figure.

    Raises:
        ValueError: without any quantity or difference, or if the quantities do not have the same differences.
    """
    rows = [each.label for each in next(iter(quantities.values()), ())]
    if not rows:
        raise ValueError("quantities is empty: give at least one, with at least one difference")
    if any([each.label for each in found] != rows for found in quantities.values()):
        raise ValueError("quantities must have the same differences, in the same order")
    figure = Figure(figsize=(WIDTH, ROW * len(rows) + 1.35), layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False, sharey=True)[0]
    title_above(figure, title)
    for ax, (words, found) in zip(axes, quantities.items(), strict=True):
        plot_claimed_differences(ax, found)
        ax.set_xlabel(words)
    everything = [each for found in quantities.values() for each in found]
    legend_below(figure, claimed_entries(everything, claim=claim), columns=2)
    return figure


def plot_claimed_differences(ax: Axes, differences: Sequence[ClaimedDifference]) -> None:
    """The rows of one quantity.

    Args:
        ax: to draw on; its y-axis becomes that of the rows.
        differences: from above.
    """
    ax.axvline(0, color=GREY, linewidth=1, zorder=1)
    for row, each in enumerate(differences):
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color=tint(PALE, 0.3), linewidth=0, zorder=0)
        # The golden ratio spreads the dots evenly, however many they are.
        places = row + _PAIRS + 0.26 * (np.arange(len(each.pairs)) * 0.618034 % 1 - 0.5)
        ax.plot(each.pairs, places, "o", color=tint(INK, 0.4), markersize=3.2, markeredgewidth=0, zorder=2)
        plot_mean(ax, each.mean, row + _MEAN, shown=each.shown)
        if each.claims:
            heights = np.full(len(each.claims), row + _CLAIM)
            ax.plot(sorted(each.claims), heights, "v", **_CLAIM_LOOK, zorder=3)
    ax.set_yticks(range(len(differences)), [each.label.replace(" - ", " \N{MINUS SIGN} ") for each in differences])
    ax.set_ylim(len(differences) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ends = [0.0]
    for each in differences:
        ends += [*each.pairs.tolist(), *each.mean.interval(), *each.claims]
    room = 0.04 * (max(ends) - min(ends)) or 1.0
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


_CLAIM_LOOK = {"color": COLOURS[1], "markersize": 6.5, "markerfacecolor": "white", "markeredgewidth": 1.5}


def claimed_entries(differences: Sequence[ClaimedDifference], *, claim: str = "the paper's claim") -> Entries:
    """What the legend needs for these.

    Args:
        differences: of all panels.
        claim: what the marks of claims are.

    Returns:
        Handles and words.
    """
    dot = Line2D([], [], color=tint(INK, 0.4), marker="o", markersize=3.2, linestyle="")
    entries: Entries = [(dot, "one pair")]
    flags = [each.shown for each in differences]
    for shown, words in ((True, "mean, 95 %: a difference (Holm, 1 %)"), (False, "mean, 95 %: not decided")):
        if shown in flags:
            colour = COLOURS[0] if shown else GREY
            face = colour if shown else "white"
            entries.append((Line2D([], [], color=colour, marker="D", markersize=5.5, markerfacecolor=face), words))
    if any(each.claims for each in differences):
        entries.append((Line2D([], [], marker="v", linestyle="", **_CLAIM_LOOK), claim))
    return entries
