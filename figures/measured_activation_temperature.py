"""Temperatures of real networks, in the manner of the paper's figures: schedules, sweeps of the learning rate, cooling.

And the errors that they end with.

Reference: [actcoolr2021] figures 1 to 3
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from figures.batch_orders import looks_of
from figures.style import GREY, INK, WIDTH, Entries, legend_below, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate

HOTTEST = 10.0
"""T at the upper end of the colour scale [bits]."""

LOWEST_RATE = 1e-5
"""Learning rates below leave the axis."""

_ROW = 1.9


@dataclass(frozen=True, eq=False)
class CooledCurves:
    """What one schedule did, of one or more seeds.

    Attributes:
        label: names it.
        epochs: at which was measured, ascending, shape (m,); epochs and parts of epochs.
        rate: learning rates there, shape (seeds, m); nan where nothing was measured, here and below.
        temperature: T there, likewise [bits].
        target: C there, likewise; nan where there is none [bits].
        error: test error after epochs 1, 2, ..., shape (seeds, budget).
    """

    label: str
    epochs: Floats
    rate: Floats
    temperature: Floats
    target: Floats
    error: Floats

    def __post_init__(self) -> None:
        for name in ("rate", "temperature", "target"):
            if np.ndim(getattr(self, name)) != 2 or np.shape(getattr(self, name))[1] != len(self.epochs):
                raise ValueError(f"{self.label}: {name} must have one column for each of {len(self.epochs)} epochs")
        if np.ndim(self.error) != 2 or len(self.error) != len(self.rate):
            raise ValueError(f"{self.label}: error must have one row for each of {len(self.rate)} seeds")


def _median_and_range(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Over seeds, where at least one is known; nan elsewhere."""
    known = np.isfinite(values)
    some = known.any(axis=0)
    middle, low, high = (np.full(values.shape[1], np.nan) for _ in range(3))
    if some.any():
        masked = np.ma.masked_array(values, ~known)[:, some]
        middle[some] = np.ma.median(masked, axis=0).filled(np.nan)
        low[some], high[some] = masked.min(axis=0).filled(np.nan), masked.max(axis=0).filled(np.nan)
    return middle, low, high


@styled()
def figure_cooled_curves(title: str, groups: Mapping[str, Sequence[CooledCurves]]) -> Figure:
    """Learning rate, temperature with its target, and test error against the epoch: a column for each group.

    Args:
        title: names the training.
        groups: heading of the column -> schedules; a colour for each, by its place among all labels.

    Returns:
        The figure; lines are medians over seeds, bands the range.

    Raises:
        ValueError: without any schedule.
    """
    labels = dict.fromkeys(each.label for curves in groups.values() for each in curves)
    if not labels:
        raise ValueError("groups is empty: give at least one schedule")
    looks = looks_of(labels)
    columns = len(groups)
    figure = Figure(figsize=(WIDTH, 3 * _ROW + 0.7 + 0.2 * math.ceil(len(labels) / 3)), layout="constrained")
    grid = figure.subplots(3, columns, squeeze=False, sharex="col", sharey="row")
    title_above(figure, title)
    for column, (heading, curves) in enumerate(groups.items()):
        for each in curves:
            colour = looks[each.label].colour
            for ax, values in zip(grid[:2, column], (each.rate, each.temperature), strict=True):
                _band(ax, each.epochs, values, colour)
            target, _, _ = _median_and_range(each.target)
            grid[1, column].plot(each.epochs, target, color=INK, linewidth=1, linestyle=(0, (3, 1.5)), zorder=4)
            _band(grid[2, column], np.arange(1, each.error.shape[1] + 1), each.error, colour)
        grid[0, column].set_title(heading, fontweight="normal")
        grid[2, column].set_xlabel("epoch")
        grid[2, column].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        grid[2, column].set_xlim(0, None)
    _scale(grid, [each for curves in groups.values() for each in curves])
    for ax, words in zip(grid[:, 0], ("learning rate", "temperature $T$ [bits]", "test error"), strict=True):
        ax.set_ylabel(words)
    entries: Entries = [(Line2D([], [], color=looks[label].colour), label) for label in labels]
    if any(np.isfinite(each.target).any() for curves in groups.values() for each in curves):
        entries.append((Line2D([], [], color=INK, linewidth=1, linestyle=(0, (3, 1.5))), "target $C$"))
    entries.append((Patch(color=tint(INK, 0.2), linewidth=0), "range over seeds; lines: median"))
    legend_below(figure, entries, columns=3)
    return figure


def _band(ax: Axes, x: npt.ArrayLike, values: Floats, colour: str) -> None:
    middle, low, high = _median_and_range(values)
    if len(values) > 1:
        ax.fill_between(np.asarray(x), low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    ax.plot(x, middle, color=colour, linewidth=1.4, marker="." if len(middle) == 1 else "", zorder=3)


def _scale(grid: npt.NDArray[np.object_], curves: Sequence[CooledCurves]) -> None:
    rates = np.concatenate([each.rate[np.isfinite(each.rate)] for each in curves])
    high = float(rates.max()) if rates.size else 1.0
    low = max(float(rates.min()) if rates.size else 1.0, LOWEST_RATE, high / 1e5)
    errors = np.concatenate([each.error[np.isfinite(each.error)] for each in curves])
    for ax in grid[0]:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.5, high * 1.5)
        ax.yaxis.set_major_locator(LogLocator(numticks=5))
        ax.yaxis.set_minor_locator(NullLocator())
    for ax in grid[1]:
        ax.set_ylim(0, None)
    positive = errors[errors > 0]
    if positive.size and positive.max() > 4 * positive.min():
        for ax in grid[2]:
            ax.set_yscale("log")
            ax.set_ylim(positive.min() / 1.3, min(positive.max() * 1.3, 1))
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
            ax.yaxis.set_minor_locator(NullLocator())


@dataclass(frozen=True, eq=False)
class SweptSchedule:
    """Sweeps of the learning rate during a training, means over seeds.

    Attributes:
        label: names the schedule.
        epochs: of the sweeps, ascending, shape (s,).
        rates: that were swept, ascending, > 0, shape (r,).
        temperature: T, shape (s, r) [bits].
        used: the learning rate of the training there, > 0, shape (s,).
        residual: measured P less that of the fitted erf link, shape (s, r); nan without a fit.
        location: mu of that link, shape (s,); nan without a fit.
        sigma: likewise.
    """

    label: str
    epochs: Floats
    rates: Floats
    temperature: Floats
    used: Floats
    residual: Floats
    location: Floats
    sigma: Floats

    def __post_init__(self) -> None:
        shape = (len(self.epochs), len(self.rates))
        if np.shape(self.temperature) != shape or np.shape(self.residual) != shape:
            raise ValueError(f"{self.label}: temperature and residual must have the shape {shape}")
        if shape[0] < 2 or shape[1] < 2 or not (np.asarray(self.rates) > 0).all():
            raise ValueError(f"{self.label}: at least two epochs and two rates > 0 are needed")


@styled()
def figure_rate_sweeps(title: str, schedules: Sequence[SweptSchedule]) -> Figure:
    """T against epoch and learning rate, what the erf link leaves of P, and its mu and sigma: a column for each.

    Args:
        title: names the training.
        schedules: that were swept.

    Returns:
        The figure.

    Raises:
        ValueError: without any schedule.
    """
    if not schedules:
        raise ValueError("schedules is empty: give at least one")
    figure = Figure(figsize=(WIDTH, 4 * _ROW), layout="constrained")
    grid = figure.subplots(4, len(schedules), squeeze=False, sharex="col", sharey="row")
    title_above(figure, title)
    heat = rest = None
    for column, each in enumerate(schedules):
        heat = _map(grid[0, column], each, each.temperature, "inferno", Normalize(0, HOTTEST))
        grid[0, column].plot(each.epochs, each.used, color="white", linewidth=1.6)
        rest = _map(grid[1, column], each, each.residual, "RdBu_r", Normalize(-0.1, 0.1))
        for ax, values, words in zip(
            grid[2:, column], (each.location, each.sigma), ("$\\mu$", "$\\sigma$"), strict=True
        ):
            ax.plot(each.epochs, values, color=INK, marker="o", markersize=3.5, linewidth=1.2)
            if column == 0:
                ax.set_ylabel(words)
        grid[0, column].set_title(each.label, fontweight="normal")
        grid[3, column].set_xlabel("epoch")
        grid[3, column].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    known = np.concatenate([each.sigma[np.isfinite(each.sigma)] for each in schedules])
    grid[3, 0].set_ylim(0, max(2.0, 1.15 * known.max()) if known.size else 2.0)
    grid[0, 0].set_ylabel("learning rate $\\lambda$")
    grid[1, 0].set_ylabel("learning rate $\\lambda$")
    assert heat is not None
    assert rest is not None
    figure.colorbar(heat, ax=grid[0, :].tolist(), label="$T$ [bits]", extend="max", pad=0.01)
    figure.colorbar(rest, ax=grid[1, :].tolist(), label="$P$ $-$ erf fit", extend="both", pad=0.01)
    return figure


def _map(ax: Axes, each: SweptSchedule, values: Floats, colours: str, scale: Normalize) -> QuadMesh:
    mesh = ax.pcolormesh(
        _edges(np.asarray(each.epochs, dtype=float)),
        np.exp(_edges(np.log(each.rates))),
        np.ma.masked_invalid(np.asarray(values).T),
        cmap=colours,
        norm=scale,
        rasterized=True,
    )
    ax.set_yscale("log")
    ax.set_xlim(each.epochs[0], each.epochs[-1])
    ax.set_ylim(each.rates[0], each.rates[-1])
    ax.yaxis.set_major_locator(LogLocator(numticks=5))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(False)
    return mesh


def _edges(centres: Floats) -> Floats:
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


@dataclass(frozen=True, eq=False)
class FinalErrors:
    """Errors at the end of one schedule.

    Attributes:
        label: names it.
        errors: of the seeds, in [0, 1], shape (n,).
        mean: of them.
        cooled: whether ActCooLR set the learning rates.
    """

    label: str
    errors: Floats
    mean: Estimate
    cooled: bool


@styled()
def figure_final_errors(title: str, budgets: Mapping[str, Sequence[FinalErrors]]) -> Figure:
    """Test errors of all schedules: each seed, and the mean with its interval; a column for each budget.

    Args:
        title: names the training.
        budgets: heading of the column -> schedules, the same in all.

    Returns:
        The figure; errors are logarithmic if they span much.

    Raises:
        ValueError: without any schedule, or if columns differ.
    """
    labels = [each.label for each in next(iter(budgets.values()), ())]
    if not labels or any([each.label for each in found] != labels for found in budgets.values()):
        raise ValueError("budgets must hold the same schedules in the same order, at least one")
    figure = Figure(figsize=(WIDTH, 0.3 * len(labels) + 1.5), layout="constrained")
    axes = figure.subplots(1, len(budgets), squeeze=False, sharey=True)[0]
    title_above(figure, title)
    looks = looks_of(("cooled", "other"))
    for ax, (heading, found) in zip(axes, budgets.items(), strict=True):
        for place, each in enumerate(found):
            colour = looks["other"].colour if each.cooled else looks["cooled"].colour
            spread = place + 0.22 * (np.arange(len(each.errors)) * 0.618034 % 1 - 0.5) + 0.2
            ax.plot(each.errors, spread, "o", color=tint(colour, 0.45), markersize=3.5, markeredgewidth=0)
            low, high = (min(max(end, 0.0), 1.0) for end in each.mean.interval())
            value = each.mean.value
            bars = [[value - low], [high - value]]
            ax.errorbar(
                value, place - 0.12, xerr=bars, fmt="D", color=colour, markersize=4.5, elinewidth=1.5, capsize=2.5
            )
        values = np.concatenate([each.errors for each in found])
        positive = values[values > 0]
        if positive.size and positive.max() > 4 * positive.min():
            ax.set_xscale("log")
            ax.set_xlim(positive.min() / 1.5, min(positive.max() * 1.3, 1.0))
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
            ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(heading, fontweight="normal")
        ax.set_xlabel("test error")
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.4, -0.6)
    axes[0].tick_params(axis="y", labelcolor=INK)
    entries: Entries = [
        (Line2D([], [], color=tint(GREY, 0.6), marker="o", markersize=3.5, linestyle=""), "one seed"),
        (Line2D([], [], color=looks["cooled"].colour, marker="D", markersize=4.5), "mean, 95 % interval"),
        (Line2D([], [], color=looks["other"].colour, marker="D", markersize=4.5), "the same, ActCooLR"),
    ]
    legend_below(figure, entries, columns=3)
    return figure
