"""Activation-pattern temperature by theory: links and targets, loops that settle or do not, and simulated flips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from figures.batch_orders import looks_of
from figures.perturbation import plot_measured
from figures.style import GREY, INK, Entries, legend_below, panels, styled
from theory.absorbing import Floats
from theory.estimate import Estimate

LARGEST_ERROR = 3.0
"""Errors of an unstable loop leave the axis here."""

_DASHES = ("-", (0, (5, 1.8)), (0, (1, 1.6)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True, eq=False)
class CoolingPlan:
    """What is predicted for cooling.

    Attributes:
        rates: learning rates, ascending, > 0, shape (n,).
        links: label -> T at these, shape (n,) [bits].
        start: T at which cooling begins [bits].
        progress: s, part of all steps, ascending, shape (m,).
        targets: gamma in words -> C at these, shape (m,) [bits].
        errors: ratio of sigmas in words -> error of ln(rate) after 0, 1, 2, ... measurements, all equally many.
    """

    rates: Floats
    links: Mapping[str, Floats]
    start: float
    progress: Floats
    targets: Mapping[str, Floats]
    errors: Mapping[str, Floats]

    def __post_init__(self) -> None:
        for name, axis, curves in (("links", self.rates, self.links), ("targets", self.progress, self.targets)):
            if not curves or any(np.shape(values) != np.shape(axis) for values in curves.values()):
                raise ValueError(f"{name} must hold curves of shape {np.shape(axis)}, at least one")
        if not self.errors or len({len(values) for values in self.errors.values()}) > 1:
            raise ValueError("errors must hold equally long curves, at least one")
        if not (np.asarray(self.rates) > 0).all():
            raise ValueError("rates must be > 0: their axis is logarithmic")


@styled()
def figure_cooling_plan(plan: CoolingPlan) -> Figure:
    """T against the learning rate, the target against time, and errors of the loop for several sigmas.

    Args:
        plan: what is predicted.

    Returns:
        The figure.

    Reference: [actcoolr2021] Eqs. (5) and (8)
    """
    figure, (left, middle, right) = panels(3, sharex=False, sharey=False, extra_height=0.5)
    _links(left, plan)
    looks = looks_of(plan.targets)
    for (label, values), dashes in zip(plan.targets.items(), _cycled(len(plan.targets)), strict=True):
        middle.plot(
            plan.progress, values, color=looks[label].colour, linestyle=dashes, label=f"$\\gamma$ = {label}", zorder=3
        )
    middle.set_title("target")
    middle.set_xlabel("part of all steps $s$")
    middle.set_ylabel("$C$ [bits]")
    middle.set_xlim(0, 1)
    middle.set_ylim(0, None)
    looks = looks_of(plan.errors)
    for label, values in plan.errors.items():
        shown = np.abs(values) <= 2 * LARGEST_ERROR
        shown = np.logical_and.accumulate(shown)
        look = looks[label]
        steps = np.arange(len(values))[shown]
        right.plot(
            steps, values[shown], color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.2, label=label
        )
    right.axhline(0, color=GREY, linewidth=1, zorder=1)
    largest = max(float(np.abs(values).max()) for values in plan.errors.values())
    bound = min(max(largest * 1.1, 1.1), LARGEST_ERROR)
    right.set_ylim(-bound, bound)
    right.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    right.set_title("loop")
    right.set_xlabel("measurement")
    right.set_ylabel("error of $\\ln\\lambda$")
    right.legend(title="$\\sigma$ / true one", title_fontsize=8.5, fontsize=8, ncols=2, loc="upper right")
    left.legend(loc="upper left", fontsize=8)
    middle.legend(loc="lower left", fontsize=8)
    return figure


def _links(ax: Axes, plan: CoolingPlan) -> None:
    looks = looks_of(plan.links)
    for (label, values), dashes in zip(plan.links.items(), _cycled(len(plan.links)), strict=True):
        ax.plot(plan.rates, values, color=looks[label].colour, linestyle=dashes, label=label, zorder=3)
    ax.axhline(plan.start, color=GREY, linewidth=1, linestyle="--", zorder=1)
    ax.annotate(
        f"start, {plan.start:g}",
        (plan.rates[-1], plan.start),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=GREY,
    )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=7))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yscale("log")
    ax.set_ylim(min(1e-2, plan.start / 30), max(12.0, 3 * plan.start))
    ax.set_title("temperature")
    ax.set_xlabel("learning rate $\\lambda$")
    ax.set_ylabel("$T$ [bits]")


def _cycled(count: int) -> list[str | tuple[int, tuple[float, ...]]]:
    return [_DASHES[i % len(_DASHES)] for i in range(count)]


@dataclass(frozen=True, eq=False)
class SimulatedShares:
    """Shares of patterns that change, for one number of channels.

    Attributes:
        label: names it.
        strides: lengths of a step, ascending, > 0, shape (n,).
        predicted: P at these, shape (n,).
        simulated: (stride, P of simulated walks).

    Example:
        >>> content = SimulatedShares("convolution", np.geomspace(0.01, 1, 10), np.linspace(0.01, 0.9, 10))
        >>> content.label
        'convolution'
    """

    label: str
    strides: Floats
    predicted: Floats
    simulated: Sequence[tuple[float, Estimate]] = ()

    def __post_init__(self) -> None:
        if np.shape(self.strides) != np.shape(self.predicted) or not (np.asarray(self.strides) > 0).all():
            raise ValueError(f"{self.label}: strides must be > 0, and predicted one number for each")


@styled()
def figure_flip_shares(contents: Sequence[SimulatedShares]) -> Figure:
    """P against the length of a step, predicted and simulated, and how far simulations are from predictions.

    Args:
        contents: one for each number of channels.

    Returns:
        The figure.

    Raises:
        ValueError: without any content.

    Example:
        >>> content = SimulatedShares("convolution", np.geomspace(0.01, 1, 10), np.linspace(0.01, 0.9, 10))
        >>> len(figure_flip_shares([content]).axes) >= 1
        True
    """
    if not contents:
        raise ValueError("contents is empty: give at least one")
    figure, (left, right) = panels(2, sharey=False, extra_height=0.8)
    looks = looks_of(each.label for each in contents)
    entries: Entries = []
    for place, each in enumerate(contents):
        look = looks[each.label]
        (line,) = left.plot(each.strides, each.predicted, color=look.colour, linewidth=1.5, zorder=2)
        plot_measured(left, each.simulated, colour=look.colour, marker=look.marker)
        point = Line2D([], [], **look.points)
        entries.append(((line, point), each.label))
        theory = np.interp(
            np.log([stride for stride, _ in each.simulated]), np.log(each.strides), np.asarray(each.predicted)
        )
        # Between points of the line if need be: good enough to be drawn. Side by side, so that all are seen.
        aside = 1.08 ** (place - (len(contents) - 1) / 2)
        ratios = [
            (aside * stride, Estimate(found.value / p, found.standard_error / p, found.n))
            for (stride, found), p in zip(each.simulated, theory.tolist(), strict=True)
            if p > 0
        ]
        plot_measured(right, ratios, colour=look.colour, marker=look.marker)
    right.axhline(1, color=GREY, linewidth=1.2, zorder=1)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xlabel("step [standard deviations]")
    left.set_ylim(-0.03, 1.03)
    left.set_title("patterns that change")
    left.set_ylabel("$P$")
    right.set_title("simulated / predicted")
    entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
    entries.append((Line2D([], [], color=INK, linewidth=1.5), "predicted"))
    legend_below(figure, entries, columns=3)
    return figure
