"""Noise in a valley that widens along its floor: its sharpness against the steps, climbing or flattening."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.perturbation import plot_measured
from figures.resetting import positive_axis
from figures.style import GREY, INK, colours_of, epoch_axis, legend_below, panels, styled
from theory.estimate import Estimate

Floats = npt.NDArray[np.float64]

MOST = 10_000
"""The axis of the sharpness spans at most this factor."""

_DECADES = 3
"""Of steps, beyond which only powers of ten have ticks."""


@dataclass(frozen=True, eq=False)
class SharpnessPath:
    """The sharpness under one kind of noise.

    Attributes:
        label: names the noise.
        steps: >= 1 and ascending, shape (n,).
        predicted: |u|^2 at these, finite and >= 0, shape (n,) [length^2].
        regulariser: what an effective regulariser alone would do, likewise; None where there is none.
        simulated: (step, |u|^2 of simulated runs).
    """

    label: str
    steps: Floats
    predicted: Floats
    regulariser: Floats | None = None
    simulated: Sequence[tuple[float, Estimate]] = ()

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps, dtype=float)
        ascending = steps.ndim == 1 and len(steps) > 0 and steps[0] >= 1 and (np.diff(steps) > 0).all()
        if not ascending or not np.isfinite(steps).all():
            raise ValueError(f"{self.label}: steps must be finite numbers >= 1 in one dimension, ascending")
        object.__setattr__(self, "steps", steps)
        for name in ("predicted", "regulariser"):
            if getattr(self, name) is None:
                continue
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != steps.shape or not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"{self.label}: {name} must be finite and >= 0, one number for each step")
            object.__setattr__(self, name, values)


@styled()
def figure_widening_valley(title: str, paths: Sequence[SharpnessPath], *, edge: float | None = None) -> Figure:
    """The sharpness |u|^2 against the steps for several kinds of noise: predicted, and simulated.

    Args:
        title: names the valley and the noise.
        paths: a colour for each, at most six.
        edge: the edge of stability 2 / eta, to be marked [length^2]; None to leave it out.

    Returns:
        The figure; the steps are logarithmic, and so is the sharpness where it changes much.

    Raises:
        ValueError: without a path, or if no prediction is > 0.

    Reference: [orvieto2022] arXiv 2202.02831 for the valley
    """
    if not paths:
        raise ValueError("paths must hold at least one kind of noise")
    predicted = np.concatenate([path.predicted for path in paths])
    points = [estimate for path in paths for _, estimate in path.simulated if math.isfinite(estimate.value)]
    values = np.array([*predicted, *(estimate.value for estimate in points)])
    highest = max(float(values.max()), edge or 0.0)
    if not predicted.max() > 0:
        raise ValueError("predicted sharpness must be > 0 somewhere: else there is nothing to draw")
    figure, (ax,) = panels(1, extra_height=0.9)
    positive_axis(ax, max(float(values[values > 0].min()), highest / MOST), highest)
    entries: list[tuple[Artist | tuple[Artist, ...], str]] = []
    colours = colours_of(path.label for path in paths)
    for path in paths:
        colour = colours[path.label]
        (line,) = ax.plot(path.steps, path.predicted, color=colour, zorder=3)
        entries.append((line, f"{path.label}, predicted"))
        if path.regulariser is not None:
            ax.plot(path.steps, path.regulariser, color=colour, linewidth=1.2, linestyle=(0, (1, 1.6)), zorder=2.5)
        plot_measured(ax, path.simulated, colour=colour)
    if any(path.regulariser is not None for path in paths):
        dotted = Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (1, 1.6)))
        entries.append((dotted, "effective regulariser alone"))
    if points:
        entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
    if edge is not None:
        ax.axhline(edge, color=GREY, linewidth=1.2, linestyle="--", zorder=0.9)
        entries.append((Line2D([], [], color=GREY, linewidth=1.2, linestyle="--"), r"edge of stability $2/\eta$"))
    shown = np.concatenate([np.append(path.steps, [step for step, _ in path.simulated]) for path in paths])
    first, last = float(shown.min()), float(shown.max())
    wide = last > 10**_DECADES * first
    decades = [10.0**k for k in range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)]
    epoch_axis(ax, first, last, ticks=decades if wide else None)
    ax.set_title(title)
    ax.set_xlabel("step")
    ax.set_ylabel(r"sharpness $|u|^2$")
    legend_below(figure, entries, columns=3)
    return figure
