"""Networks that descend with different noises: sharpness, loss and accuracy over training, with bands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures.batch_orders import logarithmic_ticks, looks_of
from figures.style import INK, Entries, legend_below, panels, styled, tint, title_above
from theory.estimate import Estimate

QUANTITIES = {"trace": "trace of the Hessian", "train_loss": "training loss", "test_accuracy": "test accuracy"}
"""Panels and their labels."""

WIDE = 4.0
"""Quantities that change by more than this factor get a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class NoiseCurves:
    """What one noise did.

    Attributes:
        label: names it.
        epochs: when it was measured, ascending, shape (m,).
        trace: of the Hessian then, means over networks.
        train_loss: likewise.
        test_accuracy: likewise, in [0, 1].
    """

    label: str
    epochs: npt.NDArray[np.int64]
    trace: Sequence[Estimate]
    train_loss: Sequence[Estimate]
    test_accuracy: Sequence[Estimate]

    def __post_init__(self) -> None:
        epochs = np.asarray(self.epochs)
        if epochs.ndim != 1 or len(epochs) < 2 or (np.diff(epochs) <= 0).any():
            raise ValueError(f"{self.label}: epochs of shape {epochs.shape} must be at least two, ascending")
        for name in QUANTITIES:
            if len(getattr(self, name)) != len(epochs):
                raise ValueError(f"{self.label}: {name} must have one estimate for each of {len(epochs)} epochs")
        object.__setattr__(self, "epochs", epochs)


@styled()
def figure_noise_curves(title: str, noises: Sequence[NoiseCurves]) -> Figure:
    """Trace of the Hessian, training loss and test accuracy against the epoch, a line and a band for each noise.

    Args:
        title: names the training.
        noises: a colour and a marker for each, by its place.

    Returns:
        The figure; what changes much is logarithmic.

    Raises:
        ValueError: without any noise.
    """
    if not noises:
        raise ValueError("noises is empty: give at least one")
    figure, axes = panels(3, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(each.label for each in noises)
    for ax, (name, label) in zip(axes, QUANTITIES.items(), strict=True):
        for each in noises:
            look, estimates = looks[each.label], getattr(each, name)
            values = np.array([estimate.value for estimate in estimates])
            low, high = np.array([estimate.interval() for estimate in estimates]).T
            ax.fill_between(each.epochs, low, high, color=tint(look.colour, 0.22), linewidth=0, zorder=2)
            ax.plot(
                each.epochs, values, color=look.colour, linestyle=look.style, marker=look.marker, markersize=4, zorder=3
            )
        _scale(ax, noises, name)
        ax.set_title(label, fontweight="normal")
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    entries: Entries = [
        (Line2D([], [], color=look.colour, linestyle=look.style, marker=look.marker, markersize=5), label)
        for label, look in looks.items()
    ]
    entries.append((Patch(color=tint(INK, 0.22), linewidth=0), "95 % interval of the mean over networks"))
    legend_below(figure, entries, columns=3)
    return figure


def _scale(ax: Axes, noises: Sequence[NoiseCurves], name: str) -> None:
    """A logarithmic axis for what is positive and changes much; on a linear one the bands have room anyway."""
    estimates = [estimate for each in noises for estimate in getattr(each, name)]
    values = [estimate.value for estimate in estimates]
    if name == "test_accuracy" or min(values) <= 0 or max(values) < WIDE * min(values):
        return
    ax.set_yscale("log")
    # The lower end of a band may be negative, and then leaves through the bottom.
    ends = [end for e in estimates for end in e.interval() if end > e.value / 3 and math.isfinite(end)]
    ax.set_ylim(*logarithmic_ticks(ax.yaxis, [*values, *ends]))
