"""Training as a first-passage process: accuracy curves, their quasi-steady state, survival.

Epochs are 1-based and completed: column t - 1 of an accuracy array is the evaluation after epoch t, and a run with
T = t is unfinished up to epoch t - 1. Protocols keep their colour by their order in the mapping, so every figure of a
study should be given all of them, those without data with an empty entry.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from figures.style import (
    COLOURS,
    GREY,
    INK,
    PANEL_HEIGHT,
    WIDTH,
    Entries,
    colours_of,
    epoch_axis,
    first_column,
    last_row,
    legend_below,
    panels,
    plain,
    styled,
    tint,
)
from theory.absorbing import Floats
from theory.hazard import HazardTest
from theory.quasi_steady_state import Stationarity, survivors
from theory.survival import FirstPassages, Survival

SINGLE_RUNS = 12
"""Single runs drawn in a panel of curves: the first ones, which is as random a choice as any."""

MOST_MARKS = 25
"""More perturbations than this are not marked one by one: they would hide the curves."""

VIOLINS = 12
_ACCURACY_TICKS = (0.9, 0.5, 0.99, 0, 0.8, 0.7, 0.95, 0.6, 0.999, 0.98, 0.4, 0.2, 0.93, 0.97, 0.995, 0.998)
"""Ticks in the order in which they are wanted; those too close to an earlier one are left out."""

_SMALL: dict[str, Any] = {"fontsize": 7.5, "color": GREY}

SMALLEST_VIOLIN = 10
"""Fewer survivors than this are drawn as points: a density of them would be invented."""


def plot_curves(ax: Axes, accuracy: Floats, target: float, *, colour: str, interval: int | None = None) -> None:
    """Single runs up to the target, and mean and central 80 % of all runs, finished ones at their last accuracy.

    A mean over the runs still in training would fall whenever good runs finish. Keeping finished runs at the accuracy
    they stopped with, every epoch's mean is over the same runs. A run that ends without the target (it diverged) counts
    up to its end.

    Args:
        ax: to draw on.
        accuracy: shape (n, H); nan after a run's end.
        target: accuracy at which training is over.
        colour: of the panel.
        interval: P [epochs], to mark the perturbations; None without any.
    """
    n, horizon = accuracy.shape
    epochs = np.arange(1, horizon + 1)
    stopped, passage = _stopped(accuracy, target)
    if interval is not None and horizon / interval <= MOST_MARKS:
        for epoch in range(interval, horizon, interval):
            ax.axvline(epoch, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0.5)
    for run in range(min(SINGLE_RUNS, n)):
        stop = passage[run] if passage[run] else horizon
        ax.plot(epochs[:stop], stopped[run, :stop], color=tint(GREY, 0.45), linewidth=0.6, zorder=1)
        if passage[run]:
            ax.plot(stop, stopped[run, stop - 1], ".", color=GREY, markersize=4, zorder=1.5)
    counted = np.isfinite(stopped).any(axis=0)
    low, high = np.nanquantile(stopped[:, counted], [0.1, 0.9], axis=0)
    ax.fill_between(epochs[counted], low, high, color=colour, alpha=0.22, linewidth=0, zorder=2)
    ax.plot(epochs[counted], np.nanmean(stopped[:, counted], axis=0), color=colour, linewidth=1.5, zorder=3)
    ax.axhline(target, color=INK, linewidth=1, linestyle="--", zorder=2.5)
    words = f"{(passage > 0).sum()} of {n} runs reach the target"
    ax.annotate(words, (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", **_SMALL)


def _stopped(accuracy: Floats, target: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The curves with finished runs kept at the accuracy of their first passage, and its epoch (0: none)."""
    meets = accuracy >= target
    passage = np.where(meets.any(axis=1), meets.argmax(axis=1) + 1, 0)
    after = (passage[:, None] > 0) & (np.arange(1, accuracy.shape[1] + 1) > passage[:, None])
    final = accuracy[np.arange(len(accuracy)), passage - 1][:, None]
    return np.where(after, final, accuracy), passage


@styled()
def figure_curves(accuracy: Floats, target: float, *, perturbed: Mapping[str, tuple[int, Floats]]) -> Figure:
    """Accuracy against epochs: unperturbed, and with each perturbation every P epochs.

    Args:
        accuracy: of the unperturbed runs, shape (n, H); nan after a run's end.
        target: accuracy at which training is over.
        perturbed: protocol -> (P, accuracy of shape (m, H)).

    Returns:
        The figure.

    Example:
        >>> accuracy = np.array([[0.5, 0.7, 0.9], [0.4, 0.6, 0.7]])
        >>> figure = figure_curves(accuracy, 0.9, perturbed={"shrink": (1, accuracy[::-1])})
    """
    figure, axes = panels(1 + len(perturbed))
    colours = colours_of(perturbed)
    plot_curves(axes[0], accuracy, target, colour=INK)
    axes[0].set_title("unperturbed", pad=17)
    for ax, (label, (interval, curves)) in zip(axes[1:], perturbed.items(), strict=True):
        plot_curves(ax, curves, target, colour=colours[label], interval=interval)
        ax.set_title(f"{label}, P = {interval}", color=colours[label], pad=17)
    horizon = max([accuracy.shape[1], *(curves.shape[1] for _, curves in perturbed.values())])
    axes[0].set_xlim(0, horizon * 1.02)
    shown = [_stopped(curves, target)[0].ravel() for curves in (accuracy, *(c for _, c in perturbed.values()))]
    for ax in axes:
        accuracy_axis(ax, np.append(np.concatenate(shown), target))
        ax.grid(visible=False, axis="x")
    for ax in first_column(axes):
        ax.set_ylabel("validation accuracy")
    for ax in last_row(axes):
        ax.set_xlabel("epoch")
    shades = tuple(Line2D([], [], color=colour) for colour in [INK, *colours.values()])
    bands = tuple(Patch(facecolor=tint(colour, 0.25)) for colour in [INK, *colours.values()])
    entries: Entries = [
        (shades, "mean of all runs, finished ones kept at their last accuracy"),
        (bands, "central 80 % of them"),
        (
            Line2D([], [], color=tint(GREY, 0.6), linewidth=0.8, marker=".", markersize=4),
            "single runs, up to the target",
        ),
        (Line2D([], [], color=INK, linewidth=1, linestyle="--"), f"target {target:.4g}"),
    ]
    if any(curves.shape[1] / interval <= MOST_MARKS for interval, curves in perturbed.values()):
        dotted = Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        entries.append((dotted, "perturbation, every P epochs"))
    legend_below(figure, entries, columns=2)
    return figure


def accuracy_axis(ax: Axes, shown: Floats) -> None:
    """Scale a y-axis of accuracies: even in the logarithm of the error 1 - accuracy, which spreads what lies near 1.

    Args:
        ax: whose y-axis it is.
        shown: the values that it should show; nan is ignored.
    """
    shown = shown[np.isfinite(shown)]
    # An accuracy of 1 has no logarithm: it is drawn half as far beyond the highest one below 1.
    highest = float(shown[shown < 1].max(initial=0.5))
    least_error = (1 - highest) / 2

    def stretched(accuracy: Floats) -> Floats:
        return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), least_error))

    ax.set_yscale("function", functions=(stretched, lambda y: 1 - 10 ** -np.asarray(y, dtype=float)))
    low, high = stretched(np.array([shown.min(), shown.max()]))
    room = 0.05 * max(high - low, 1e-3)
    bottom, top = 1 - 10 ** -(low - room), 1 - 10 ** -(high + room)
    ticks: list[float] = []
    for tick in _ACCURACY_TICKS:
        y = stretched(np.array(tick))
        if bottom <= tick <= top and all(abs(y - stretched(np.array(t))) >= 0.08 * (high - low) for t in ticks):
            ticks.append(tick)
    ax.yaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom, top)


def violin_epochs(horizon: int, count: int = VIOLINS) -> list[int]:
    """Epochs from the first to the last in about equal steps on a logarithmic axis.

    Args:
        horizon: the last one.
        count: at most so many, if there are as many.

    Returns:
        Increasing epochs.

    Example:
        >>> violin_epochs(100)
        [1, 2, 3, 5, 8, 12, 18, 27, 41, 62, 100]
    """
    ratio = horizon ** (1 / max(count - 1, 1))
    epochs = [1]
    while epochs[-1] < horizon:
        epochs.append(min(max(round(epochs[-1] * ratio), epochs[-1] + 1), horizon))
    # The last step must leave room for a violin.
    return epochs if len(epochs) < 3 or horizon >= 1.3 * epochs[-2] else [*epochs[:-2], horizon]


def plot_violins(ax: Axes, accuracy: Floats, alive: npt.NDArray[np.bool_], epochs: Sequence[int]) -> None:
    """Distributions of the survivors' accuracy at some epochs, with their means and how many they are.

    Args:
        ax: to draw on; its x-axis is logarithmic.
        accuracy: shape (n, H).
        alive: which runs are unfinished, shape (n, H).
        epochs: at which to draw.
    """
    for epoch in epochs:
        sample = accuracy[alive[:, epoch - 1], epoch - 1]
        if len(sample) >= SMALLEST_VIOLIN and np.ptp(sample) > 0:
            parts = ax.violinplot([sample], [epoch], widths=0.24 * epoch, showextrema=False)
            for body in cast("list[Collection]", parts["bodies"]):  # the stubs promise a single one
                body.set(facecolor=tint(COLOURS[0], 0.35), edgecolor=COLOURS[0], linewidth=0.6, alpha=1)
        else:
            ax.plot(np.full(len(sample), epoch), sample, ".", color=COLOURS[0], markersize=3)
        if len(sample):
            ax.plot(epoch, sample.mean(), "o", color=INK, markersize=3.2, zorder=3)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(f"{len(sample)}", (epoch, 1), xytext=(0, 3), ha="center", **place, **_SMALL)


def plot_distance(ax: Axes, stationarity: Stationarity) -> None:
    """Distance of the survivors from their late distribution, with its bootstrap band and the tolerance.

    Args:
        ax: to draw on.
        stationarity: the distances.
    """
    s = stationarity
    ax.fill_between(s.epochs, s.low, s.high, color=tint(COLOURS[0], 0.25), linewidth=0)
    ax.plot(s.epochs, s.distance, color=COLOURS[0])
    ax.axhline(s.tolerance, color=INK, linewidth=1, linestyle="--")
    finite = s.high[np.isfinite(s.high)]
    top = max(float(finite.max(initial=0.0)), 2 * s.tolerance)
    # Corrected distances may be exactly zero, which a logarithmic axis can't show.
    ax.set_yscale("symlog", linthresh=s.tolerance, linscale=1.0)
    decades = [10.0**k for k in range(-3, 4) if 2.5 * s.tolerance < 10.0**k <= top]
    ax.yaxis.set_major_locator(FixedLocator([0, s.tolerance, *decades]))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(0, top * 1.15)


@styled()
def figure_quasi_steady_state(
    accuracy: Floats,
    first_passages: FirstPassages,
    stationarity: Stationarity,
    *,
    target: float | None = None,
    published_relaxation_epoch: int | None = None,
) -> Figure:
    """Do the survivors stop changing? Their accuracy at a dozen epochs above its distance from the late distribution.

    Args:
        accuracy: of the unperturbed runs, shape (n, H).
        first_passages: of the same runs.
        stationarity: the distances.
        target: accuracy at which training is over.
        published_relaxation_epoch: first epoch with p > 0.05 in a Kolmogorov-Smirnov test, for comparison.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 3
    """
    figure = Figure(figsize=(WIDTH, 1.9 * PANEL_HEIGHT), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    horizon = accuracy.shape[1]
    alive = survivors(accuracy, first_passages)
    epoch_axis(below, 1, horizon)
    below.set_xlim(0.84, horizon * 1.2)
    epochs = violin_epochs(horizon)
    plot_violins(above, accuracy, alive, epochs)
    plot_distance(below, stationarity)
    entries: Entries = [
        (Patch(facecolor=tint(COLOURS[0], 0.35), edgecolor=COLOURS[0]), "accuracy of the unfinished runs (mean: dot)"),
        (
            (Line2D([], [], color=COLOURS[0]), Patch(facecolor=tint(COLOURS[0], 0.25))),
            "distance from the reference, 95 % bootstrap band",
        ),
    ]
    first, last = stationarity.reference
    entries.append((Patch(facecolor=tint(GREY, 0.16)), f"reference: epochs {first} to {last}"))
    entries.append((Line2D([], [], color=INK, linewidth=1, linestyle="--"), f"tolerance {stationarity.tolerance:g}"))
    relaxation, (low, high) = stationarity.relaxation_epoch, stationarity.relaxation_interval
    for ax in (above, below):
        ax.axvspan(first, last, color=tint(GREY, 0.16), linewidth=0, zorder=0.2)
        if relaxation is not None:
            ax.axvline(relaxation, color=COLOURS[1], linewidth=1.4)
            if low is not None:
                ax.axvspan(
                    low, horizon if high is None else high, color=COLOURS[1], alpha=0.12, linewidth=0, zorder=0.3
                )
        if published_relaxation_epoch is not None:
            ax.axvline(published_relaxation_epoch, color=GREY, linewidth=1.2, linestyle=":")
    found = "none"
    if relaxation is not None:
        found = f"{relaxation} (95 %: {low} to {'never' if high is None else high})"
    entries.append((Line2D([], [], color=COLOURS[1], linewidth=1.4), f"relaxation epoch: {found}"))
    if published_relaxation_epoch is not None:
        words = f"by the published criterion (KS test): {published_relaxation_epoch}"
        entries.append((Line2D([], [], color=GREY, linewidth=1.2, linestyle=":"), words))
    shown = np.concatenate([accuracy[alive[:, epoch - 1], epoch - 1] for epoch in epochs])
    if target is not None:
        above.axhline(target, color=INK, linewidth=1)
        entries.append((Line2D([], [], color=INK, linewidth=1), f"target {target:.4g}"))
        shown = np.append(shown, target)
    if len(shown):
        accuracy_axis(above, shown)
    above.set_ylabel("validation accuracy\nof unfinished runs")
    above.set_title("number of unfinished runs", fontweight="normal", pad=13, **_SMALL)
    unit = "standard deviations" if stationarity.kind == "wasserstein" else "Kolmogorov-Smirnov"
    below.set_ylabel(f"distance from reference\n[{unit}]")
    below.set_xlabel("epoch")
    legend_below(figure, entries, columns=2)
    return figure


def plot_survival(ax: Axes, survival: Survival, *, colour: str, label: str, linestyle: str = "-") -> None:
    """Psi(t) as steps, with its 95 % band.

    Args:
        ax: to draw on.
        survival: the estimate.
        colour: of line and band.
        label: for the legend.
        linestyle: of the line.
    """
    t = np.arange(survival.horizon + 1)
    low, high = survival.band()
    ax.fill_between(t, low, high, step="post", color=colour, alpha=0.16 if linestyle == "-" else 0.07, linewidth=0)
    ax.step(t, survival.values, where="post", color=colour, label=label, linestyle=linestyle, linewidth=1.5)


@styled()
def figure_survival(
    survival: Survival,
    *,
    residuals: Mapping[str, Sequence[tuple[int, Survival]]],
    relaxation_epoch: int | None = None,
    hazard_test: HazardTest | None = None,
) -> Figure:
    """How many runs are unfinished: unperturbed, and after one perturbation of those that were unfinished then.

    Args:
        survival: of the unperturbed runs.
        residuals: protocol -> (epoch of the perturbation, survival of the residuals), the last of them the one that
            predictions are made from; empty for a protocol that needs none.
        relaxation_epoch: start of the quasi-steady state.
        hazard_test: of a constant hazard after it; draws the survival with that hazard.

    Returns:
        The figure.

    Example:
        >>> passages = FirstPassages(np.array([2, 3, 3, 8, 10]), np.array([True, True, True, True, False]))
        >>> len(figure_survival(Survival.of(passages), residuals={}).axes)
        1
    """
    perturbed = any(residuals.values())
    figure, axes = panels(2 if perturbed else 1, sharex=False, extra_height=0.8)
    ax = axes[0]
    plot_survival(ax, survival, colour=INK, label=f"unperturbed, {survival.n} runs (95 % band)")
    if relaxation_epoch is not None:
        ax.axvline(
            relaxation_epoch, color=GREY, linewidth=1.2, linestyle=":", label=f"relaxation epoch {relaxation_epoch}"
        )
    if hazard_test is not None and hazard_test.start < survival.horizon:
        t = np.arange(hazard_test.start, hazard_test.stop + 1)
        tail = survival.values[hazard_test.start] * (1 - hazard_test.hazard.value) ** (t - hazard_test.start)
        outcome = "rejected" if hazard_test.is_rejected else "not rejected" if hazard_test.is_decidable else "undecided"
        p_value = "p < 0.001" if hazard_test.p_value < 0.001 else f"p = {hazard_test.p_value:.2g}"
        words = f"a constant hazard after it: {outcome} ({p_value})"
        ax.plot(t, tail, color=COLOURS[1], linewidth=1.2, linestyle="--", label=words)
    ax.set_title("unperturbed")
    ax.set_xlabel("epoch t")
    ax.set_ylabel("share of runs unfinished, Ψ(t)")
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    if perturbed:
        colours = colours_of(residuals)
        for label, branches in residuals.items():
            for i, (epoch, residual) in enumerate(branches):
                style = "-" if i == len(branches) - 1 else ":"
                words = f"{label} at epoch {epoch}, {residual.n} runs"
                plot_survival(axes[1], residual, colour=colours[label], label=words, linestyle=style)
        axes[1].set_title("perturbed once")
        axes[1].set_xlabel("epochs after the perturbation")
    for ax in axes:
        ax.set_xlim(left=0)
    # Below, as curves and bands may lie anywhere in the panels.
    entries: Entries = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    legend_below(figure, entries, columns=2)
    return figure
