"""Do the published runs reach a quasi-steady state? Accuracies, survival, and two criteria, side by side.

The published criterion asks whether a difference can be seen (p < 0.05), ours whether it is small (a distance and a
tolerance). Epochs are 1-based and completed.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from figures.gallery_figure import rows_of
from figures.published_curves import HORIZON, first_passages
from figures.style import (
    COLOURS,
    GREY,
    INK,
    PANEL_HEIGHT,
    WIDTH,
    Entries,
    epoch_axis,
    legend_below,
    plain,
    styled,
    tint,
)
from theory.quasi_steady_state import TOLERANCES
from theory.survival import Floats, Survival

TARGETS = (0.75, 0.72, 0.715)
MAIN = 0.72
STYLES = {0.75: (COLOURS[0], "-"), 0.72: (COLOURS[1], (0, (5, 1.6))), 0.715: (COLOURS[2], (0, (1.2, 1.2)))}
"""As in the paper: blue, orange and green; the lines differ in print, too."""

SHOWN = (0.58, 0.765)
"""Accuracies on the axis: the first epochs lie below."""

LEAST_P_VALUE = 1e-6
"""Smaller ones are drawn at the edge."""


def _columns(target: float) -> dict[str, Floats]:
    rows = [row for row in rows_of("meir2025_accuracy") if float(row["target"]) == target]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _plot_accuracy(ax: Axes, target: float) -> None:
    c, colour = _columns(target), STYLES[target][0]
    for low, high, strength in (("q05", "q95", 0.22), ("q25", "q75", 0.55)):
        ax.fill_between(c["epoch"], c[low], c[high], color=tint(colour, strength), linewidth=0)
    ax.plot(c["epoch"], c["mean"], color=INK, linewidth=1.1)
    ax.axhline(target, color=INK, linewidth=1, linestyle="--")
    ax.set_ylim(*SHOWN)
    ax.set_title(f"target {100 * target:g} %", color=colour)
    left = int(c["unfinished"][-1])
    ax.annotate(
        f"{left:,} of 1,000 runs unfinished at epoch {c['epoch'][-1]:.0f}",
        (0.98, 0.04), xycoords="axes fraction", ha="right", fontsize=7.5, color=GREY,
    )  # fmt: skip


def _plot_survival(ax: Axes) -> None:
    for target in TARGETS:
        survival = Survival.of(first_passages(target=target))
        colour, style = STYLES[target]
        t = np.arange(HORIZON + 1)
        low, high = survival.band()
        ax.fill_between(t, low, high, step="post", color=tint(colour, 0.2), linewidth=0)
        ax.step(t, survival.values, where="post", color=colour, linestyle=style, linewidth=1.6)
    ax.set_ylim(0, 1.03)
    ax.set_xlim(0, HORIZON)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title("unfinished runs, Ψ(t)")


def _plot_p_value(ax: Axes) -> None:
    for target in TARGETS:
        c, (colour, style) = _columns(target), STYLES[target]
        ax.plot(c["epoch"], np.maximum(c["p_value"], LEAST_P_VALUE), color=colour, linestyle=style, linewidth=1.3)
    ax.axhline(0.05, color=INK, linewidth=1, linestyle="--")
    ax.set_yscale("log")
    ax.set_ylim(LEAST_P_VALUE, 1.6)
    ax.yaxis.set_major_locator(FixedLocator([LEAST_P_VALUE, 1e-4, 1e-2, 0.05, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"≤ {p:g}" if p == LEAST_P_VALUE else f"{p:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title("published: p > 0.05")


def _plot_distance(ax: Axes) -> None:
    tolerance = TOLERANCES["wasserstein"]
    for target in TARGETS:
        c, (colour, style) = _columns(target), STYLES[target]
        if target == MAIN:  # one band is enough to see how far noise goes; three would hide each other
            ax.fill_between(c["epoch"], c["distance_low"], c["distance_high"], color=tint(colour, 0.25), linewidth=0)
        ax.plot(c["epoch"], c["distance"], color=colour, linestyle=style, linewidth=1.3)
    ax.axhline(tolerance, color=INK, linewidth=1, linestyle="--")
    ax.set_yscale("symlog", linthresh=tolerance)
    ax.set_ylim(0, 120)
    ax.yaxis.set_major_locator(FixedLocator([0, tolerance, 1, 10, 100]))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title("ours: distance ≤ 0.25")


@styled()
def figure_published_quasi_steady_state() -> Figure:
    """Accuracy of the unfinished runs, survival for three targets, and the two criteria for their relaxation.

    Returns:
        The figure.

    Example:
        >>> len(figure_published_quasi_steady_state().axes)
        5

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 3, with bands in the place of violins, and our criterion beside
    """
    figure = Figure(figsize=(WIDTH, 1.75 * PANEL_HEIGHT + 0.9), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1.0, 0.95])
    upper: list[Axes] = list(figure.add_subfigure(grid[0]).subplots(1, 2, sharey=True))
    lower: list[Axes] = list(figure.add_subfigure(grid[1]).subplots(1, 3))
    for ax, target in zip(upper, TARGETS, strict=False):
        _plot_accuracy(ax, target)
    _plot_survival(lower[0])
    _plot_p_value(lower[1])
    _plot_distance(lower[2])
    for ax in (*upper, lower[1], lower[2]):
        epoch_axis(ax, 1, 100)
    relaxation = {float(row["target"]): row for row in rows_of("meir2025_relaxation")}
    for ax, column in ((lower[1], "published"), (lower[2], "relaxation")):
        for target in TARGETS:
            at = ax.get_xaxis_transform()
            ax.plot(int(relaxation[target][column]), 0.0, "^", color=STYLES[target][0], markersize=7, transform=at,
                    markeredgecolor="white", clip_on=False, zorder=5)  # fmt: skip
    for ax in (*upper, *lower):
        ax.set_xlabel("epoch")
    upper[0].set_ylabel("test accuracy\nof unfinished runs")
    lower[1].set_ylabel("p-value")
    lower[2].set_ylabel("standard deviations")
    entries: Entries = [
        (Line2D([], [], color=INK, linewidth=1.1), "mean of unfinished runs; bands: 50 and 90 % of them"),
        (Line2D([], [], color=INK, linewidth=1, linestyle="--"), "target, level or tolerance"),
    ]
    for target in TARGETS:
        row, (colour, style) = relaxation[target], STYLES[target]
        line = Line2D([], [], color=colour, linestyle=style, linewidth=1.6)
        ours = f"{row['relaxation']} ({row['low']} to {row['high']}, 95 %)"
        entries.append((line, f"target {100 * target:g} %: relaxed at {row['published']}, by ours {ours}"))
    triangle = Line2D([], [], color=GREY, marker="^", markersize=6, linestyle="")
    entries.append((triangle, "relaxation epoch"))
    band = Patch(facecolor=tint(GREY, 0.3))
    entries.insert(2, (band, f"95 % bands of survival, and of the distance for {100 * MAIN:g} %"))
    entries.insert(3, entries.pop())
    legend_below(figure, entries, columns=2)
    return figure
