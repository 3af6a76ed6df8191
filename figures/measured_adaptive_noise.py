"""Noise that follows the phase of training, as measured: time to the target, training curves, and phases.

Reference: [satybaldiev2025] figure 1 for the distribution of the phases
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from figures.batch_orders import looks_of
from figures.style import COLOURS, INK, PALE, WIDTH, Entries, legend_below, styled, tint, title_above
from theory.absorbing import Floats
from theory.survival import FirstPassages, Survival
from theory.training_phases import PHASES

Looks = dict[str, tuple[str, Literal["-", "--"]]]

_PHASE_COLOURS = dict(zip(PHASES, (COLOURS[1], COLOURS[4], COLOURS[0]), strict=True))


@dataclass(frozen=True, eq=False)
class MethodCurves:
    """What one method did, of one or more seeds.

    Attributes:
        label: names it.
        loss: validation loss after epochs 1, 2, ..., shape (seeds, epochs); nan where there is none.
        error: 1 - validation accuracy, likewise.
        passages: epochs to the target.
        phases: share of the steps of each epoch in each of ``PHASES``, shape (seeds, epochs, 3); nan if not told.
        equal: whether its noise is rescaled to the budget.
    """

    label: str
    loss: Floats
    error: Floats
    passages: FirstPassages
    phases: Floats
    equal: bool = False

    def __post_init__(self) -> None:
        shape = np.shape(self.loss)
        if len(shape) != 2 or np.shape(self.error) != shape or np.shape(self.phases) != (*shape, len(PHASES)):
            raise ValueError(f"{self.label}: loss and error must be (seeds, epochs), phases (seeds, epochs, 3)")
        if self.passages.n != shape[0]:
            raise ValueError(f"{self.label}: {self.passages.n} first passages must be {shape[0]}, one for each seed")


def _groups(curves: Sequence[MethodCurves], order: Sequence[str]) -> dict[str, list[MethodCurves]]:
    """The ablation; and the rest, with what both are to be compared with."""
    if not curves:
        raise ValueError("curves is empty: give at least one method")
    ablation = [each for each in curves if not each.equal and each.label in order[:5]]
    others = [each for each in curves if each not in ablation]
    groups = {"ablation": ablation}
    if others:
        reference = [each for each in ablation if each.label in order[:2]]
        groups["equal noise and usual optimizers" if any(e.equal for e in others) else "usual optimizers"] = [
            *reference,
            *others,
        ]
    return {name: found for name, found in groups.items() if found}


def _looks(curves: Sequence[MethodCurves], order: Sequence[str]) -> Looks:
    """Colour and line style of each label; equal noises are dashed, in the colour of their own."""
    colours = {label: look.colour for label, look in looks_of(order).items()}
    found: Looks = {}
    for each in curves:
        own = next((label for label in order if each.equal and each.label.startswith(label)), each.label)
        found[each.label] = (colours.get(own, INK), "--" if each.equal else "-")
    return found


@styled()
def figure_times(title: str, curves: Sequence[MethodCurves], order: Sequence[str], target: float) -> Figure:
    """Share of the runs that have not reached the target, against the epoch: a panel for each group of methods.

    Args:
        title: names the training.
        curves: of the methods.
        order: of all labels, which gives colours; the first five are the ablation, the first two its references.
        target: validation accuracy.

    Returns:
        The figure.

    Raises:
        ValueError: without any method.
    """
    groups, looks = _groups(curves, order), _looks(curves, order)
    figure = Figure(figsize=(WIDTH, 3.0 + 0.2 * math.ceil(len(curves) / 4)), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    title_above(figure, title)
    last = max(each.passages.horizon for each in curves)
    for ax, (heading, found) in zip(axes, groups.items(), strict=True):
        for number, each in enumerate(found):
            colour, style = looks[each.label]
            survival = Survival.of(each.passages)
            values = survival.padded(last) if survival.is_complete else survival.values
            # Lines that lie upon each other would look like one.
            shift = 0.006 * (number - (len(found) - 1) / 2)
            ax.step(np.arange(len(values)), values + shift, where="post", color=colour, linestyle=style, linewidth=1.5)
        ax.set_title(heading, fontweight="normal")
        ax.set_xlabel("epoch")
        ax.set_xlim(0, last)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0].set_ylim(-0.04, 1.04)
    axes[0].set_ylabel(f"runs below an accuracy of {target:g}")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    _legend(figure, curves, looks)
    return figure


def _legend(figure: Figure, curves: Sequence[MethodCurves], looks: Looks, *more: tuple[Artist, str]) -> None:
    entries: Entries = [
        (Line2D([], [], color=looks[each.label][0], linestyle=looks[each.label][1]), each.label) for each in curves
    ]
    legend_below(figure, [*entries, *more], columns=4)


@styled()
def figure_noise_training(title: str, curves: Sequence[MethodCurves], order: Sequence[str], last_epochs: int) -> Figure:
    """Validation loss and error against the epoch: a column for each group of methods.

    Args:
        title: names the training.
        curves: of the methods, equally long.
        order: see ``figure_times``.
        last_epochs: over which stability was measured.

    Returns:
        The figure; lines are medians over seeds, bands the range.

    Raises:
        ValueError: without any method.
    """
    groups, looks = _groups(curves, order), _looks(curves, order)
    figure = Figure(figsize=(WIDTH, 4.6 + 0.2 * math.ceil(len(curves) / 4)), layout="constrained")
    grid = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey="row")
    title_above(figure, title)
    epochs = np.shape(curves[0].loss)[1]
    for column, (heading, found) in enumerate(groups.items()):
        for ax, name in zip(grid[:, column], ("loss", "error"), strict=True):
            ax.axvspan(epochs - last_epochs + 0.5, epochs + 0.5, color=tint(PALE, 0.45), linewidth=0, zorder=0)
            for each in found:
                _band(ax, getattr(each, name), *looks[each.label])
        grid[0, column].set_title(heading, fontweight="normal")
        grid[1, column].set_xlabel("epoch")
        grid[1, column].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        grid[1, column].set_xlim(1, epochs + 0.5)
    for row, (name, words) in enumerate((("loss", "validation loss"), ("error", "validation error"))):
        _logarithmic(grid[row, 0], np.concatenate([getattr(each, name).ravel() for each in curves]))
        grid[row, 0].set_ylabel(words)
    _legend(figure, curves, looks, (Patch(color=tint(INK, 0.2), linewidth=0), "range over seeds; lines: median"))
    return figure


def _band(ax: Axes, values: Floats, colour: str, style: Literal["-", "--"]) -> None:
    known = np.ma.masked_invalid(values)
    some = ~np.ma.getmaskarray(known).all(axis=0)
    if not some.any():
        return
    epochs = np.arange(1, values.shape[1] + 1)[some]
    known = known[:, some]
    if len(values) > 1:
        low, high = known.min(axis=0).filled(np.nan), known.max(axis=0).filled(np.nan)
        ax.fill_between(epochs, low, high, color=colour, alpha=0.1, linewidth=0, zorder=2)
    ax.plot(epochs, np.ma.median(known, axis=0).filled(np.nan), color=colour, linestyle=style, linewidth=1.3, zorder=3)


def _logarithmic(ax: Axes, values: Floats) -> None:
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size and positive.max() > 4 * positive.min():
        ax.set_yscale("log")
        ax.set_ylim(positive.min() / 1.2, positive.max() * 1.2)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        ax.yaxis.set_minor_locator(NullLocator())


@styled()
def figure_phases(title: str, curves: Sequence[MethodCurves]) -> Figure:
    """Shares of the phases against the epoch, mean over seeds: a panel for each method whose phases were told.

    Args:
        title: names the training.
        curves: of the methods.

    Returns:
        The figure.

    Raises:
        ValueError: if no phases were told.
    """
    told = [each for each in curves if np.isfinite(each.phases).any()]
    if not told:
        raise ValueError("curves have no phases: give at least one method whose phases were told")
    columns = min(len(told), 4)
    rows = math.ceil(len(told) / columns)
    figure = Figure(figsize=(WIDTH, 1.55 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    title_above(figure, title)
    for ax in grid.ravel()[len(told) :]:
        ax.remove()
    for ax, each in zip(grid.ravel(), told, strict=False):
        shares = np.ma.masked_invalid(each.phases).mean(axis=0).filled(0.0)
        below = np.zeros(len(shares))
        for phase, share in zip(PHASES, shares.T, strict=True):
            places = np.arange(1, len(share) + 1)
            ax.bar(places, share, 1.0, below, color=tint(_PHASE_COLOURS[phase], 0.75), linewidth=0)
            below = below + share
        ax.set_title(each.label, fontweight="normal", fontsize=9)
        ax.set_xlim(0.5, len(shares) + 0.5)
        ax.set_ylim(0, 1)
        ax.grid(False)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    for number in range(max(len(told) - columns, 0), len(told)):
        grid.ravel()[number].tick_params(labelbottom=True)
        grid.ravel()[number].set_xlabel("epoch")
    for ax in grid[:, 0]:
        ax.set_ylabel("steps")
    entries: Entries = [
        (Patch(color=tint(colour, 0.75), linewidth=0), phase.replace("_", "-"))
        for phase, colour in _PHASE_COLOURS.items()
    ]
    legend_below(figure, entries, columns=3)
    return figure
