"""Figures of advice from training curves: survival, training time, ranking, quasi-steady state, scan of targets.

Metrics are anybody's: accuracies as fractions get the axis that spreads what lies near 1, others a linear one. Times
are drawn on a logarithmic axis if they span a factor of five or more: a good protocol may be ten times as fast as none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from figures.first_passage import accuracy_axis, plot_distance, plot_survival, plot_violins, violin_epochs
from figures.perturbation import Measured, Predictions, figure_training_time
from figures.style import (
    COLOURS,
    GREY,
    INK,
    PANEL_HEIGHT,
    WIDTH,
    colours_of,
    epoch_axis,
    legend_below,
    panels,
    plain,
    styled,
    tint,
)
from theory.estimate import Estimate
from theory.protocol_choice import ProtocolChoice
from theory.quasi_steady_state import Stationarity, survivors
from theory.survival import FirstPassages, Survival

Entries = list[tuple[Artist | tuple[Artist, ...], str]]

Residuals = Mapping[str, Sequence[tuple[int, Survival]]]
"""Protocol -> (epoch of the one perturbation, survival of the residual times)."""

MOST_NAMES = 14
"""More targets than this are not all labelled."""

ROW_HEIGHT = 0.42
"""Of one protocol in a ranking [inch]."""


@styled()
def figure_who_is_left(
    survival: Survival,
    first_passages: FirstPassages,
    *,
    restart: ProtocolChoice | None,
    residuals: Residuals,
) -> Figure:
    """Psi(t) with its 95 % band, where runs were censored and where to restart; and that of perturbed survivors.

    Args:
        survival: of the unperturbed runs.
        first_passages: of the same runs.
        restart: full resetting at its best interval, to be marked; None if it does not help.
        residuals: survival after one perturbation; the last of several is the one that predictions are made from. All
            protocols are in it, full resetting first, those without data with an empty entry.

    Returns:
        The figure, with a second panel if anything was perturbed once.
    """
    colours = colours_of(residuals)
    perturbed = {label: several for label, several in residuals.items() if several}
    figure, axes = panels(2 if perturbed else 1, sharex=False, extra_height=1.0)
    entries = _plot_unperturbed(axes[0], survival, first_passages, restart)
    if not perturbed:
        legend_below(figure, entries, columns=2)
        return figure
    for label, (*others, (epoch, of_label)) in perturbed.items():
        colour = colours[label]
        for _, other in others:
            t = np.arange(other.horizon + 1)
            axes[1].step(t, other.values, where="post", color=tint(colour, 0.5), linewidth=0.7, linestyle=":", zorder=1)
        plot_survival(axes[1], of_label, colour=colour, label=label)
        line = (Line2D([], [], color=colour, linewidth=1.5), Patch(facecolor=tint(colour, 0.16)))
        entries.append((line, f"{_literal(label)} at epoch {epoch}, {_runs(of_label.n)} (95 % band)"))
        if others:
            dotted = Line2D([], [], color=tint(colour, 0.5), linewidth=0.9, linestyle=":")
            entries.append((dotted, f"{_literal(label)} at {_listed([epoch for epoch, _ in others])}"))
    axes[1].set_title("perturbed once")
    axes[1].set_xlabel("epochs after the perturbation")
    longest = max(_settled(of_label) for several in perturbed.values() for _, of_label in several)
    axes[1].set_xlim(0, 1.02 * longest)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend_below(figure, entries, columns=2)
    return figure


def _plot_unperturbed(
    ax: Axes, survival: Survival, first_passages: FirstPassages, restart: ProtocolChoice | None
) -> Entries:
    plot_survival(ax, survival, colour=INK, label="")
    entries: Entries = [
        (
            (Line2D([], [], color=INK, linewidth=1.5), Patch(facecolor=tint(INK, 0.16))),
            f"unperturbed, {_runs(survival.n)} (95 % band)",
        )
    ]
    stopped = np.unique(first_passages.times[~first_passages.observed])
    stopped = stopped[stopped >= 1]
    if len(stopped):
        ax.plot(stopped, survival.values[stopped], "|", color=INK, markersize=8, markeredgewidth=1, zorder=4)
        count = int((~first_passages.observed & (first_passages.times >= 1)).sum())
        mark = Line2D([], [], color=INK, marker="|", markersize=8, linestyle="")
        entries.append((mark, f"{_runs(count)} stopped without the target (censored)"))
    if restart is not None:
        ax.axvspan(restart.low, restart.high, color=tint(COLOURS[0], 0.25), linewidth=0, zorder=0.3)
        ax.axvline(restart.interval, color=COLOURS[0], linewidth=1.4, zorder=0.9)
        handle = (Line2D([], [], color=COLOURS[0], linewidth=1.4), Patch(facecolor=tint(COLOURS[0], 0.25)))
        span = f" (95 %: {restart.low} to {restart.high})" if restart.low < restart.high else ""
        entries.append((handle, f"best restart: every {restart.interval} epochs{span}"))
    ax.set_title("unperturbed")
    ax.set_xlabel("epoch t")
    ax.set_xlim(0, 1.02 * survival.horizon)
    ax.set_ylabel("share of runs unfinished, Ψ(t)")
    ax.set_ylim(0, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return entries


def _settled(survival: Survival) -> int:
    """Where a survival has come to its last value, with a little room: a long flat end says nothing."""
    changes = np.flatnonzero(np.diff(survival.values))
    last = int(changes[-1]) + 1 if len(changes) else survival.horizon
    return min(survival.horizon, max(2, round(1.5 * last)))


def _literal(name: str) -> str:
    """A user's name, in which dollars are no mathematics."""
    return name.replace("$", r"\$")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _listed(epochs: Sequence[int]) -> str:
    if len(epochs) > 3:
        return f"{len(epochs)} other epochs, {min(epochs)} to {max(epochs)}"
    return f"epoch {', '.join(map(str, epochs))}"


@styled()
def figure_times(unperturbed: Estimate, predictions: Predictions, measured: Measured, *, horizon: int) -> Figure:
    """E[min(T_P, H)] against P of all protocols, as ``figures.perturbation.figure_training_time``, on two log axes.

    Args:
        unperturbed: E[min(T, H)].
        predictions: protocol -> predictor -> predictions; those for a horizon below H are left out.
        measured: protocol -> (P, E[min(T_P, H)]).
        horizon: H [epochs].

    Returns:
        The figure, with one panel per protocol.
    """
    figure = figure_training_time(
        unperturbed,
        {_literal(label): found for label, found in predictions.items()},
        {_literal(label): points for label, points in measured.items()},
        horizon=horizon,
    )
    drawn = [p.restricted_mean for found in predictions.values() for ps in found.values() for p in ps]
    drawn += [mean for points in measured.values() for _, mean in points]
    _time_axis(figure.axes[0], [unperturbed, *drawn], horizon)
    return figure


@styled()
def figure_ranking(choices: Sequence[ProtocolChoice], *, labels: Sequence[str], horizon: int) -> Figure:
    """Training time of each protocol at its best interval, with 95 % intervals and the probability of being best.

    Args:
        choices: the ranking, the fastest first.
        labels: of all protocols but the unperturbed one, in the order of their colours.
        horizon: H of the restricted means [epochs].

    Returns:
        The figure.
    """
    height = 1.1 + ROW_HEIGHT * max(len(choices), 2)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    ax = figure.subplots()
    colours, names = colours_of(labels), []
    for row, choice in enumerate(choices):
        colour = colours.get(choice.label, GREY)
        low, high = choice.restricted_mean.interval()
        ax.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt", zorder=3)
        ax.plot(choice.restricted_mean.value, row, "o", color=colour, markersize=5, zorder=4)
        ax.annotate(
            f"best: {_percent(choice.best)}",
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
        )
        name = _literal(choice.label)
        names.append(name if choice.interval == 0 else f"{name}, P = {choice.interval}")
    ax.set_yticks(range(len(choices)), names)
    ax.set_ylim(len(choices) - 0.5, -0.5)
    ax.set_xlim(0, 1.05 * max([1.0, *(choice.restricted_mean.interval()[1] for choice in choices)]))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"mean training time [epochs], 95 % interval; unfinished runs count as H = {horizon}")
    return figure


def _percent(probability: float) -> str:
    if probability <= 0.005:
        return "<1 %"
    return ">99 %" if probability >= 0.995 else f"{100 * probability:.0f} %"


@styled()
def figure_settling(
    values: npt.NDArray[np.float64],
    first_passages: FirstPassages,
    stationarity: Stationarity,
    *,
    metric: str,
    target: float,
) -> Figure:
    """Do the survivors stop changing? Their metric at a dozen epochs above its distance from the late distribution.

    Args:
        values: the metric of the unperturbed runs, shape (n, H); nan where there is no evaluation.
        first_passages: of the same runs.
        stationarity: the distances.
        metric: its name.
        target: value at which training is over.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 3, for any metric
    """
    figure = Figure(figsize=(WIDTH, 1.9 * PANEL_HEIGHT), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    horizon = values.shape[1]
    alive = survivors(values, first_passages)
    epoch_axis(below, 1, horizon)
    below.set_xlim(0.84, horizon * 1.2)
    epochs = violin_epochs(horizon)
    plot_violins(above, values, alive, epochs)
    plot_distance(below, stationarity)
    first, last = stationarity.reference
    entries: Entries = [
        (
            Patch(facecolor=tint(COLOURS[0], 0.35), edgecolor=COLOURS[0]),
            f"{_literal(metric)} of the unfinished runs (mean: dot)",
        ),
        (
            (Line2D([], [], color=COLOURS[0]), Patch(facecolor=tint(COLOURS[0], 0.25))),
            "distance from the reference, 95 % bootstrap band",
        ),
        (Patch(facecolor=tint(GREY, 0.16)), f"reference: epochs {first} to {last}"),
        (Line2D([], [], color=INK, linewidth=1, linestyle="--"), f"tolerance {stationarity.tolerance:g}"),
    ]
    relaxation, (low, high) = stationarity.relaxation_epoch, stationarity.relaxation_interval
    for ax in (above, below):
        ax.axvspan(first, last, color=tint(GREY, 0.16), linewidth=0, zorder=0.2)
        if relaxation is not None:
            ax.axvline(relaxation, color=COLOURS[1], linewidth=1.4)
            until = horizon if high is None else high
            ax.axvspan(low or relaxation, until, color=COLOURS[1], alpha=0.12, linewidth=0, zorder=0.3)
    found = "none" if relaxation is None else f"{relaxation} (95 %: {low} to {'never' if high is None else high})"
    entries.append((Line2D([], [], color=COLOURS[1], linewidth=1.4), f"relaxation epoch: {found}"))
    above.axhline(target, color=INK, linewidth=1)
    entries.append((Line2D([], [], color=INK, linewidth=1), f"target {target:g}"))
    _metric_axis(above, np.append(values[:, np.array(epochs) - 1][alive[:, np.array(epochs) - 1]], target))
    above.set_ylabel(f"{_literal(metric)}\nof unfinished runs")
    above.set_title("number of unfinished runs", fontweight="normal", pad=13, fontsize=7.5, color=GREY)
    unit = "standard deviations" if stationarity.kind == "wasserstein" else "Kolmogorov-Smirnov"
    below.set_ylabel(f"distance from reference\n[{unit}]")
    below.set_xlabel("epoch")
    legend_below(figure, entries, columns=2)
    return figure


def _metric_axis(ax: Axes, shown: npt.NDArray[np.float64]) -> None:
    low, high = float(shown.min()), float(shown.max())
    if low >= 0 and 0.5 < high <= 1:
        accuracy_axis(ax, shown)
        return
    room = 0.06 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)
    ax.yaxis.set_major_formatter(FuncFormatter(plain))


@styled()
def figure_targets(
    best: Mapping[str, Sequence[tuple[float, ProtocolChoice]]],
    *,
    labels: Sequence[str],
    metric: str,
    horizons: Sequence[int],
    direction: str = "up",
) -> Figure:
    """Training time of each protocol at its best interval against the target; the fastest one's interval beside it.

    Args:
        best: protocol -> (target, its choice there), where it is known.
        labels: of all protocols but the unperturbed one, in the order of their colours.
        metric: name of the metric.
        horizons: H of the restricted means at the targets [epochs].
        direction: which way the metric gets better; targets get harder from left to right.

    Returns:
        The figure.
    """
    figure, (ax,) = panels(1, extra_height=1.3)
    colours = colours_of(labels)
    fastest: dict[float, float] = {}
    for points in best.values():
        for target, choice in points:
            fastest[target] = min(fastest.get(target, np.inf), choice.restricted_mean.value)
    entries: Entries = []
    for label, points in best.items():
        colour = colours.get(label, GREY)
        at = np.array([target for target, _ in points])
        value = np.array([choice.restricted_mean.value for _, choice in points])
        low, high = np.array([choice.restricted_mean.interval() for _, choice in points]).reshape(-1, 2).T
        ax.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0, zorder=1)
        ax.plot(at, value, color=colour, marker="o", markersize=4, zorder=3)
        entries.append((Line2D([], [], color=colour, marker="o", markersize=4), _literal(label)))
    targets = sorted(fastest)
    every = -(-len(targets) // MOST_NAMES)
    for label, points in best.items():
        for target, choice in points:
            if choice.restricted_mean.value == fastest[target] and targets.index(target) % every == 0:
                words = f"P = {choice.interval}" if choice.interval else label
                ax.annotate(
                    words, (target, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
                    ha="center", fontsize=7.5, color=colours.get(label, GREY),
                )  # fmt: skip
    ax.set_title("the fastest, and its interval", fontweight="normal", pad=15, fontsize=7.5, color=GREY)
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    _time_axis(ax, [choice.restricted_mean for points in best.values() for _, choice in points], max(horizons))
    if direction == "down":
        ax.invert_xaxis()
    several = " to ".join(map(str, sorted({min(horizons), max(horizons)})))
    ax.set_xlabel(f"target ({_literal(metric)}{' at most' if direction == 'down' else ' at least'})")
    ax.set_ylabel(f"mean training time [epochs]\n(unfinished runs count as H = {several})")
    entries.append((Patch(facecolor=tint(GREY, 0.3)), "95 % interval"))
    legend_below(figure, entries, columns=3)
    return figure


def _time_axis(ax: Axes, means: Sequence[Estimate], horizon: int) -> None:
    """Up to the horizon; logarithmic if the times span a factor of five or more."""
    smallest = min((mean.value for mean in means), default=1.0)
    if horizon < 5 * max(smallest, 0.1):
        ax.set_ylim(0, 1.05 * horizon)
        return
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(max(smallest, 0.1) / 1.3, 1.2 * horizon)
