"""A toy model of perturbed training: a coordinate in a potential, whose exact answers test every prediction.

The first figure is that of the paper, the speed-up against the perturbation interval; the second shows why a prediction
from one perturbation may work: what survivors look like, and where a perturbation puts them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.perturbation import plot_measured
from figures.resetting import positive_axis
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
from theory.absorbing import Floats
from theory.estimate import Estimate

MOST = 1000
"""The axis of speed-ups spans at most this factor."""

VISIBLE = 1e-3
"""Densities below this fraction of the highest one do not widen the axes."""

BULK = 0.05
"""The potential is shown where a density exceeds this fraction of its highest value."""

_CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("with the perturbation, exact", {"color": COLOURS[0], "zorder": 3.1}),
    "rare": ("predicted: rare (Eq. 9)", {"color": COLOURS[1], "linestyle": "--", "zorder": 3.2}),
    "renewal": (
        "predicted: renewal",
        {"color": COLOURS[2], "linestyle": (0, (1, 1.6)), "linewidth": 2.6, "zorder": 3.3},
    ),
    "full_reset": ("full resetting, exact", {"color": GREY, "linestyle": (0, (6, 1.5, 1.2, 1.5)), "zorder": 3}),
}


@styled()
def figure_toy_speed_up(
    title: str,
    intervals: npt.ArrayLike,
    *,
    exact: npt.ArrayLike,
    rare: npt.ArrayLike | None = None,
    renewal: npt.ArrayLike | None = None,
    full_reset: npt.ArrayLike | None = None,
    simulated: Sequence[tuple[float, Estimate]] = (),
) -> Figure:
    """Speed-up E[T] / E[T_P] against P: exact, predicted from one perturbation, and simulated.

    Args:
        title: names the model and its perturbation.
        intervals: P, >= 1 and ascending, shape (n,) [epochs].
        exact: speed-up by the perturbation, shape (n,); 0 where E[T_P] is infinite, as in those that follow.
        rare: predicted by Eq. (9).
        renewal: predicted by renewal of the residuals.
        full_reset: exact, with full resetting in place of the perturbation.
        simulated: (P, speed-up of simulated runs).

    Returns:
        The figure; its y-axis is logarithmic if the speed-ups differ much.

    Raises:
        ValueError: for fewer than two intervals, intervals out of order, or speed-ups that do not fit them.

    Example:
        >>> figure = figure_toy_speed_up("double well", [1, 5, 10], exact=[0.8, 1.9, 1.6], rare=[0.5, 1.6, 1.5])
        >>> len(figure.axes)
        1

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6, for a model with exact answers
    """
    at = np.asarray(intervals, dtype=float)
    if at.ndim != 1 or len(at) < 2 or not np.isfinite(at).all() or at[0] < 1 or not (np.diff(at) > 0).all():
        raise ValueError(f"intervals of shape {at.shape} must be at least two finite numbers >= 1, ascending")
    given = {"exact": exact, "rare": rare, "renewal": renewal, "full_reset": full_reset}
    curves = {name: _checked(name, curve, at.shape) for name, curve in given.items() if curve is not None}
    figure, (ax,) = panels(1, extra_height=0.9)
    finite = [(interval, estimate) for interval, estimate in simulated if math.isfinite(estimate.value)]
    values = np.array([1.0, *np.concatenate(list(curves.values())), *(estimate.value for _, estimate in finite)])
    bars = [high for _, high in (estimate.interval() for _, estimate in finite) if math.isfinite(high)]
    highest = max([float(values.max()), *bars])
    positive_axis(ax, max(float(values[values > 0].min()), highest / MOST), highest)
    ax.axhline(1, color=GREY, linewidth=1.2, linestyle="--", zorder=0.9)
    entries: Entries = []
    for name, curve in curves.items():
        words, style = _CURVES[name]
        (line,) = ax.plot(at, curve, **style)
        entries.append((line, words))
    plot_measured(ax, simulated)
    if finite:
        entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
    entries.append((Line2D([], [], color=GREY, linewidth=1.2, linestyle="--"), "as fast as unperturbed"))
    shown = [*at[[0, -1]], *(interval for interval, _ in finite)]
    epoch_axis(ax, min(shown), max(shown))
    ax.set_title(title)
    ax.set_xlabel("perturbation interval P [epochs]")
    ax.set_ylabel("speed-up E[T] / E[T_P]")
    legend_below(figure, entries, columns=3)
    return figure


@styled()
def figure_quasi_stationary(
    title: str,
    x: npt.ArrayLike,
    *,
    potential: npt.ArrayLike,
    quasi_stationary: npt.ArrayLike,
    initial: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    target: float,
    perturbation: str,
) -> Figure:
    """The potential, and below it where runs begin, where survivors are, and where the perturbation puts these.

    Args:
        title: names the model.
        x: the coordinate, ascending, shape (n,).
        potential: U(x), shape (n,).
        quasi_stationary: density of long survivors, shape (n,), as those that follow; of a chain on a grid, the
            probabilities of its cells divided by their width.
        initial: density of the runs at the start.
        perturbed: density of the survivors right after the perturbation.
        target: met there or beyond, as seen from the initial law.
        perturbation: its name.

    Returns:
        The figure; its x-axis shows where there is any density, and the target, and the y-axis of the potential what
        it is where most of the runs are.

    Raises:
        ValueError: for fewer than two points, points out of order, a target that is not finite, or a potential or
            densities that do not fit the points.
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise ValueError(f"x of shape {x.shape} must be at least two finite numbers, ascending")
    if not math.isfinite(target):
        raise ValueError(f"target={target} must be finite")
    height = np.asarray(potential, dtype=float)
    if height.shape != x.shape or not np.isfinite(height).all():
        raise ValueError(f"potential of shape {height.shape} must be finite numbers, one for each of {x.shape} points")
    given = {"quasi_stationary": quasi_stationary, "initial": initial, "perturbed": perturbed}
    survivors, start, moved = (_checked(name, density, x.shape) for name, density in given.items())
    peak = max(survivors.max(), start.max(), moved.max())
    if not peak > 0:
        raise ValueError("quasi_stationary, initial and perturbed are zero everywhere: there is no density to draw")
    figure = Figure(figsize=(WIDTH, 1.5 * PANEL_HEIGHT), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    inhabited = x[(survivors > VISIBLE * peak) | (start > VISIBLE * peak) | (moved > VISIBLE * peak)]
    left, right = min(inhabited[0], target), max(inhabited[-1], target)
    room = 0.06 * (right - left)
    below.set_xlim(left - room, right + room)
    # Elsewhere the potential leaves the panel, or the barrier between runs would be too small to see.
    shown = height[(survivors > BULK * survivors.max()) | (start > BULK * start.max()) | (moved > BULK * moved.max())]
    margin = 0.2 * (np.ptp(shown) or 1.0)
    above.set_ylim(shown.min() - margin, shown.max() + margin)
    above.plot(x, height, color=INK)
    below.fill_between(x, survivors, color=tint(COLOURS[0], 0.35), linewidth=0, zorder=2)
    below.plot(x, start, color=GREY, linestyle="--", zorder=3)
    below.plot(x, moved, color=COLOURS[1], zorder=3)
    below.set_ylim(0, 1.08 * peak)
    # What is met lies on the other side than where runs begin.
    beyond = (target, right + room) if float(np.average(x, weights=start)) < target else (left - room, target)
    for ax in (above, below):
        ax.axvspan(*beyond, color=tint(COLOURS[2], 0.14), linewidth=0, zorder=0.2)
        ax.axvline(target, color=COLOURS[2], linewidth=1.4, zorder=2.5)
        ax.grid(visible=False, axis="x")
    above.set_title(title)
    above.set_ylabel("potential U(x)")
    below.set_ylabel("density")
    below.set_xlabel("x")
    target_handles = (Line2D([], [], color=COLOURS[2], linewidth=1.4), Patch(facecolor=tint(COLOURS[2], 0.14)))
    entries: Entries = [
        (Line2D([], [], color=GREY, linestyle="--"), "at the start"),
        (Patch(facecolor=tint(COLOURS[0], 0.35)), "survivors, quasi-stationary"),
        (Line2D([], [], color=COLOURS[1]), f"survivors after {perturbation}"),
        (target_handles, f"target {target:g}, and beyond"),
    ]
    legend_below(figure, entries, columns=2)
    return figure


def _checked(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    numbers = np.asarray(values, dtype=float)
    if numbers.shape != shape or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(f"{name} of shape {numbers.shape} must be finite numbers >= 0 of shape {shape}")
    return numbers
