"""Published trainings with a perturbation every P epochs: trajectories, residual times and speed-ups, beside theory.

Epochs are 1-based and completed. Speed-ups are ratios of means restricted to 200 epochs, because 29 % of the
unperturbed runs never reach the target and E[T] is not identified.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from figures.gallery_figure import rows_of
from figures.perturbation import plot_measured
from figures.published_curves import (
    HORIZON,
    NAMES,
    intervals,
    measured_speed_up,
    prediction_data,
    residual_time,
)
from figures.style import (
    COLOURS,
    GREY,
    INK,
    PANEL_HEIGHT,
    WIDTH,
    Entries,
    epoch_axis,
    legend_below,
    panels,
    styled,
    tint,
)
from theory.survival import Floats

TARGET = 0.72
COLOUR = {"full_reset": COLOURS[0], "shrink_perturb": COLOURS[1], "partial_reset": COLOURS[2]}
MARKER = {"shrink_perturb": "o", "partial_reset": "^"}
MEAN_LINE = {"shrink_perturb": (0, (6, 1.5, 1.2, 1.5)), "partial_reset": (0, (5, 1.8))}
TRAINED = ("shrink_perturb", "partial_reset")

TRAJECTORIES = {100: "-", 50: (0, (5, 1.6)), 20: (0, (1.2, 1.2)), 10: (0, (6, 1.5, 1.2, 1.5))}
"""P and its line."""

BEFORE, AFTER = -6, 10
"""Epochs shown around the perturbation: the next one of P = 10 acts at 10."""

LARGEST = 100
"""Of the intervals that are drawn."""

_RARE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 1.5, 1, 1.5)), "zorder": 3.2}
_UNTIL_TARGET = tint(GREY, 0.13)
_SMALL: dict[str, Any] = {"fontsize": 7.5, "color": GREY}


def _trajectory(perturbation: str, interval: int) -> dict[str, Floats]:
    rows = [
        row
        for row in rows_of("meir2025_trajectories")
        if row["perturbation"] == perturbation
        and int(row["interval"]) == interval
        and BEFORE <= int(row["after"]) <= AFTER
    ]
    return {
        name: np.array([float(row[name]) for row in rows]) for name in ("after", "n", "mean", "decile_1", "decile_9")
    }


def _plot_trajectory(ax: Axes, perturbation: str, interval: int) -> None:
    c, colour = _trajectory(perturbation, interval), COLOUR[perturbation]
    epochs = c["after"] + interval
    arrival = c["after"][(c["after"] > 0) & (c["mean"] >= TARGET)][0]
    ax.axvspan(interval, interval + arrival, color=_UNTIL_TARGET, linewidth=0, zorder=0.2)
    ax.fill_between(epochs, c["decile_1"], c["decile_9"], color=tint(colour, 0.5), linewidth=0, zorder=1)
    ax.plot(epochs, c["mean"], color=colour, linewidth=1.6, zorder=3)
    ax.set_xlim(interval + BEFORE, interval + AFTER)
    ax.xaxis.set_major_locator(FixedLocator([interval - 5, interval, interval + 5]))
    ax.annotate(f"n = {c['n'][0]:.0f}", (0.96, 0.04), xycoords="axes fraction", ha="right", **_SMALL)


@styled()
def figure_published_trajectories() -> Figure:
    """Mean accuracy and deciles around the first perturbation, of the runs that were unfinished then.

    Returns:
        The figure: shrink and perturb above, partial resets below; on the right all P, counted from the perturbation.

    Example:
        >>> len(figure_published_trajectories().axes)
        10

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 4
    """
    figure = Figure(figsize=(WIDTH, 1.5 * PANEL_HEIGHT + 0.6), layout="constrained")
    grid = figure.subplots(2, len(TRAJECTORIES) + 1, sharey=True, width_ratios=[*[1.0] * len(TRAJECTORIES), 1.25])
    for row, perturbation in zip(grid, TRAINED, strict=True):
        for ax, interval in zip(row, TRAJECTORIES, strict=False):
            _plot_trajectory(ax, perturbation, interval)
        for interval, style in TRAJECTORIES.items():
            c = _trajectory(perturbation, interval)
            row[-1].plot(c["after"], c["mean"], color=COLOUR[perturbation], linestyle=style, linewidth=1.4)
        row[-1].axvline(0, color=GREY, linewidth=0.8, zorder=0.5)
        row[-1].set_xlim(BEFORE, AFTER)
        row[-1].xaxis.set_major_locator(FixedLocator([-5, 0, 5, 10]))
        row[0].set_ylabel(f"{NAMES[perturbation]}\ntest accuracy", color=COLOUR[perturbation])
        for ax in row:
            ax.axhline(TARGET, color=INK, linewidth=1, linestyle="--", zorder=2)
            ax.grid(visible=False, axis="x")
    grid[0, 0].set_ylim(0.595, 0.815)
    grid[0, 0].yaxis.set_major_locator(MaxNLocator(5))
    for ax, interval in zip(grid[0], TRAJECTORIES, strict=False):
        ax.set_title(f"P = {interval}")
    grid[0, -1].set_title("all P")
    for ax in grid[1, :-1]:
        ax.set_xlabel("epoch")
    grid[1, -1].set_xlabel("epochs after P")
    shades = [COLOUR[perturbation] for perturbation in TRAINED]
    entries: Entries = [
        (tuple(Line2D([], [], color=shade) for shade in shades), "mean of the n runs unfinished at epoch P"),
        (tuple(Patch(facecolor=tint(shade, 0.5)) for shade in shades), "first to ninth decile"),
        (Patch(facecolor=_UNTIL_TARGET), "from the perturbation to the target (mean curve)"),
        (Line2D([], [], color=INK, linewidth=1, linestyle="--"), f"target {100 * TARGET:g} %"),
    ]
    entries += [
        (Line2D([], [], color=INK, linestyle=style, linewidth=1.4), f"P = {interval} (right)")
        for interval, style in TRAJECTORIES.items()
    ]
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_published_residual_time() -> Figure:
    """Mean epochs from the first perturbation to the target, against P.

    Returns:
        The figure, with the mean of those below P, which Eq. (9) takes for all.

    Example:
        >>> len(figure_published_residual_time().axes)
        1

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 5
    """
    figure, (ax,) = panels(1, extra_height=0.75)
    epoch_axis(ax, 1, LARGEST)
    left, right = ax.get_xlim()
    at, top = np.geomspace(left, right, 200), 13.0
    ax.fill_between(at, at, top, where=at <= top, color=tint(COLOURS[4], 0.22), linewidth=0, zorder=0.2)
    points_drawn: Entries = []
    lines_drawn: Entries = []
    for perturbation in TRAINED:
        points = [(interval, residual_time(perturbation, interval)) for interval in intervals(perturbation)]
        colour, marker = COLOUR[perturbation], MARKER[perturbation]
        below = [estimate.value for interval, estimate in points if estimate.value < interval]
        style = MEAN_LINE[perturbation]
        ax.axhline(float(np.mean(below)), color=colour, linewidth=1.2, linestyle=style, zorder=1)
        plot_measured(ax, points, colour=colour, marker=marker)
        mark = Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6)
        points_drawn.append((mark, f"{NAMES[perturbation]}, trained (95 %)"))
        line = Line2D([], [], color=colour, linewidth=1.2, linestyle=style)
        lines_drawn.append((line, f"mean of those below P: {np.mean(below):.2f} epochs"))
    shade = Patch(facecolor=tint(COLOURS[4], 0.22))
    entries: Entries = [*points_drawn, (shade, "mean above P: runs meet further perturbations"), *lines_drawn]
    ax.set_xlim(left, right)
    ax.set_ylim(0, top)
    ax.set_xlabel("perturbation interval P [epochs]")
    ax.set_ylabel("mean residual time after the\nfirst perturbation [epochs]")
    legend_below(figure, entries, columns=2)
    return figure


def _plot_prediction(ax: Axes, perturbation: str, predictor: str) -> None:
    found = prediction_data(perturbation).predictions(predictor, range(1, LARGEST + 1))
    at = np.array([p.interval for p in found])
    value = np.array([p.speed_up.value for p in found])
    if predictor == "rare":
        ax.plot(at, value, **_RARE)
        return
    low, high = np.array([p.speed_up.interval() for p in found]).T
    colour = COLOUR[perturbation]
    ax.fill_between(at, low, high, color=tint(colour, 0.3), linewidth=0, zorder=1)
    ax.plot(at, value, color=colour, linewidth=1.8, zorder=3)


@styled()
def figure_published_speed_up() -> Figure:
    """Ratio of means restricted to 200 epochs against P: predicted from runs perturbed at epoch 100, and trained.

    Returns:
        The figure, one panel for each perturbation.

    Example:
        >>> len(figure_published_speed_up().axes)
        3

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6; a ratio of restricted means, where they extrapolated
    """
    relaxation = next(row for row in rows_of("meir2025_relaxation") if float(row["target"]) == TARGET)
    ours, published = int(relaxation["relaxation"]), int(relaxation["published"])
    figure, axes = panels(3, extra_height=1.05)
    for ax, perturbation in zip(axes, ("shrink_perturb", "partial_reset", "full_reset"), strict=True):
        ax.axhline(1, color=GREY, linewidth=1, zorder=0.9)
        if perturbation == "full_reset":
            _plot_prediction(ax, perturbation, "restart")
            ax.annotate("no trained runs\nwere published", (0.04, 0.96), xycoords="axes fraction", va="top", **_SMALL)
        else:
            ax.axvspan(0.5, ours, color=tint(GREY, 0.12), linewidth=0, zorder=0.2)
            ax.axvline(published, color=GREY, linewidth=1.1, linestyle=":", zorder=0.9)
            for predictor in ("rare", "renewal"):
                _plot_prediction(ax, perturbation, predictor)
            points = [(interval, measured_speed_up(perturbation, interval)) for interval in intervals(perturbation)]
            plot_measured(ax, points, marker=MARKER[perturbation])
        ax.set_title(NAMES[perturbation], color=COLOUR[perturbation])
        epoch_axis(ax, 1, LARGEST)
        ax.set_xlabel("perturbation interval P [epochs]")
    axes[0].set_ylim(0, 17)
    axes[0].set_ylabel(f"speed-up: mean epochs to {100 * TARGET:g} %\nwithout / with, both up to {HORIZON}")
    shades = [COLOUR[name] for name in TRAINED]
    marks = tuple(Line2D([], [], color=INK, marker=marker, linestyle="", markersize=5) for marker in MARKER.values())
    entries: Entries = [
        (Line2D([], [], **_RARE), "predicted: rare (Eq. 9)"),
        (tuple(Line2D([], [], color=shade) for shade in shades), "predicted: renewal (ours)"),
        (Line2D([], [], color=COLOUR["full_reset"]), "predicted: full reset, exact (Eq. 5)"),
        (tuple(Patch(facecolor=tint(shade, 0.3)) for shade in COLOUR.values()), "95 % bands (bootstrap)"),
        (marks, "trained, perturbed every P epochs (95 %)"),
        (Patch(facecolor=tint(GREY, 0.12)), f"before the relaxation epoch, {ours}"),
        (Line2D([], [], color=GREY, linewidth=1.1, linestyle=":"), f"by the published criterion: {published}"),
        (Line2D([], [], color=GREY, linewidth=1), "as fast as unperturbed"),
    ]
    legend_below(figure, entries, columns=2)
    return figure
