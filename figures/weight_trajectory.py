"""Weights in a valley of two directions, under different orders of batches: where they go, and how far theory says.

Reference: [kuhn2023] the trajectory of weights in a toy loss
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from figures.batch_orders import looks_of
from figures.style import GREY, INK, PALE, Entries, legend_below, panels, styled, tint, title_above
from theory.absorbing import Floats

WITHIN = 2.0
"""Standard deviations to the edge of the ellipse, and, times this once more, to that of the panel at least."""

CONTOURS = 7
"""Of the loss."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Weights under one order of batches.

    Attributes:
        path: the weights after each update, along the flat and the steep direction, shape (n, 2).
        spread: their standard deviations by theory, > 0, shape (2,).
    """

    path: Floats
    spread: Floats

    def __post_init__(self) -> None:
        path, spread = np.asarray(self.path, dtype=float), np.asarray(self.spread, dtype=float)
        if path.ndim != 2 or path.shape[1] != 2 or len(path) < 2 or not np.isfinite(path).all():
            raise ValueError(f"path of shape {path.shape} must be finite numbers, two for each of at least two updates")
        if spread.shape != (2,) or not ((spread > 0) & np.isfinite(spread)).all():
            raise ValueError(f"spread={spread.tolist()} must be two finite numbers > 0")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "spread", spread)


@styled()
def figure_trajectories(title: str, curvature: tuple[float, float], orders: Mapping[str, Trajectory]) -> Figure:
    """A panel with the contours of the loss, the path and the ellipse of theory for each order.

    Args:
        title: names the loss and the training.
        curvature: along the flat and the steep direction, > 0.
        orders: label -> its trajectory.

    Returns:
        The figure; all panels have the same axes.

    Raises:
        ValueError: without any order, or for curvatures that are not > 0.
    """
    if not orders:
        raise ValueError("orders is empty: give at least one")
    if not min(curvature) > 0:
        raise ValueError(f"curvature={curvature} must be two numbers > 0")
    figure, axes = panels(len(orders), extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(orders)
    paths = np.concatenate([each.path for each in orders.values()])
    widest = np.max([each.spread for each in orders.values()], axis=0)
    half = np.maximum(1.08 * abs(paths).max(axis=0), 1.5 * WITHIN * widest)
    for ax, (label, each) in zip(axes, orders.items(), strict=True):
        look = looks[label]
        _contours(ax, curvature, half)
        # Smooth edges of so many lines would make the file four times as large.
        ax.plot(*each.path.T, color=tint(look.colour, 0.75), linewidth=0.8, antialiased=False, zorder=3)
        ax.plot(*each.path[-1], marker=look.marker, color=look.colour, markersize=7, markeredgecolor="white", zorder=5)
        size = 2 * WITHIN * each.spread
        edge = Ellipse((0, 0), *size, fill=False, edgecolor=INK, linewidth=1.6, linestyle="--", zorder=4)
        ax.add_patch(edge)
        ax.set_title(label, fontweight="normal")
        ax.set_xlabel(rf"flat direction, $\lambda$ = {curvature[0]:g}")
        ax.set_xlim(-half[0], half[0])
        ax.set_ylim(-half[1], half[1])
        ax.grid(visible=False)
    axes[0].set_ylabel(rf"steep direction, $\lambda$ = {curvature[1]:g}")
    entries: Entries = [
        (
            Line2D([], [], color=look.colour, marker=look.marker, markersize=6, markeredgecolor="white", linewidth=1.0),
            f"{label}, {len(orders[label].path):,} updates",
        )
        for label, look in looks.items()
    ]
    words = f"theory: {WITHIN:g} standard deviations"
    entries.append((Line2D([], [], color=INK, linewidth=1.6, linestyle="--"), words))
    entries.append((Line2D([], [], color=GREY, linewidth=0.8), "contours of the loss"))
    legend_below(figure, entries, columns=2)
    return figure


def _contours(ax: Axes, curvature: tuple[float, float], half: Floats) -> None:
    """Of the quadratic loss; evenly spaced in distance, not in loss."""
    across, up = (np.linspace(-size, size, 101) for size in half)
    loss = (curvature[0] * across**2 + curvature[1] * up[:, np.newaxis] ** 2) / 2
    levels = float(loss.max()) * (np.arange(1, CONTOURS + 1) / CONTOURS) ** 2
    ax.contour(across, up, loss, levels=levels, colors=[PALE], linewidths=0.8, zorder=1)
