"""Noise in a valley that widens along its floor: its sharpness against the steps, climbing or flattening."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from figures.batch_orders import looks_of, tick_labels
from figures.perturbation import plot_measured
from figures.resetting import positive_axis
from figures.style import GREY, INK, Entries, epoch_axis, legend_below, panels, styled
from theory.absorbing import Floats
from theory.estimate import Estimate

MOST = 10_000
"""The axis of the sharpness spans at most this factor."""

_DECADES = 3
"""Of steps, beyond which only powers of ten have ticks."""

_DOTTED, _DASHED = (0, (1, 1.6)), (0, (5, 1.8))


@dataclass(frozen=True, eq=False)
class SharpnessPath:
    """The sharpness under one kind of noise.

    Attributes:
        label: names the noise.
        steps: >= 1 and ascending, shape (n,).
        predicted: |u|^2 at these, finite and >= 0, shape (n,) [length^2].
        regulariser: what an effective regulariser alone would do, likewise; None where there is none.
        simulated: (step, |u|^2 of simulated runs).
        outside: whether a prediction is outside its regime, for each step; None if none is.

    Example:
        >>> steps = np.arange(10.0, 110.0, 10.0)
        >>> path = SharpnessPath("PGD", steps, predicted=2.0 + 0.01 * steps)
        >>> path.label, float(path.predicted[0])
        ('PGD', 2.1)
    """

    label: str
    steps: Floats
    predicted: Floats
    regulariser: Floats | None = None
    simulated: Sequence[tuple[float, Estimate]] = ()
    outside: npt.NDArray[np.bool_] | None = None

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
        outside = np.zeros(steps.shape, bool) if self.outside is None else np.asarray(self.outside, dtype=bool)
        if outside.shape != steps.shape:
            raise ValueError(f"{self.label}: outside must be one truth value for each step")
        object.__setattr__(self, "outside", outside)


@styled()
def figure_widening_valley(title: str, paths: Sequence[SharpnessPath], *, edge: float | None = None) -> Figure:
    """The sharpness |u|^2 against the steps for several kinds of noise: predicted, and simulated.

    Args:
        title: names the valley and the noise.
        paths: a colour and a marker for each, by its place.
        edge: the edge of stability 2 / eta, to be marked [length^2]; None to leave it out.

    Returns:
        The figure; the steps are logarithmic, and so is the sharpness where it changes much.

    Raises:
        ValueError: without a path, or if no prediction is > 0.

    Example:
        >>> steps = np.arange(10.0, 110.0, 10.0)
        >>> path = SharpnessPath("PGD", steps, predicted=2.0 + 0.01 * steps)
        >>> len(figure_widening_valley("widening valley", [path]).axes)
        1

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
    entries: Entries = []
    looks = looks_of(path.label for path in paths)
    for path in paths:
        look = looks[path.label]
        outside = np.asarray(path.outside)
        beside = np.append(outside[1:], False) | np.append(False, outside[:-1])  # so that the lines meet
        trusted = np.where(outside, np.nan, path.predicted)
        doubted = np.where(outside | beside, path.predicted, np.nan)
        dot = "." if len(path.steps) == 1 else ""
        (line,) = ax.plot(path.steps, trusted, color=look.colour, linewidth=look.width, marker=dot, zorder=3)
        ax.plot(path.steps, doubted, color=look.colour, marker=dot, linewidth=1.2, linestyle=_DASHED, zorder=3)
        entries.append((line, f"{path.label}, predicted"))
        if path.regulariser is not None:
            ax.plot(path.steps, path.regulariser, color=look.colour, linewidth=1.2, linestyle=_DOTTED, zorder=2.5)
        plot_measured(ax, path.simulated, colour=look.colour, marker=look.marker)
        if path.simulated:
            point = Line2D([], [], **look.points)
            entries[-1] = ((line, point), entries[-1][1])
    if any(np.asarray(path.outside).any() for path in paths):
        dashed = Line2D([], [], color=INK, linewidth=1.2, linestyle=_DASHED)
        entries.append((dashed, "prediction outside its regime"))
    if any(path.regulariser is not None for path in paths):
        dotted = Line2D([], [], color=INK, linewidth=1.2, linestyle=_DOTTED)
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
    ax.xaxis.set_major_formatter(FuncFormatter(tick_labels(first, last)))
    bottom, top = ax.get_ylim()
    ax.yaxis.set_major_formatter(FuncFormatter(tick_labels(bottom if bottom > 0 else top, top)))
    ax.set_title(title)
    ax.set_xlabel("step")
    ax.set_ylabel(r"sharpness $|u|^2$")
    legend_below(figure, entries, columns=3)
    return figure
