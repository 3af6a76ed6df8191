"""Adaptive noise by theory and on toy landscapes: what an epsilon does to weights, schedules, and the closed loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures.batch_orders import logarithmic_ticks, looks_of
from figures.style import COLOURS, GREY, INK, Entries, legend_below, panels, styled, tint, title_above
from theory.absorbing import Floats

PHASE_WORDS = ("exploration", "convergence", "fine-tuning")
_PHASE_TINTS = tuple(tint(colour, 0.28) for colour in (COLOURS[1], COLOURS[4], COLOURS[0]))
_DASHES = ("-", (0, (5, 1.8)), (0, (1, 1.6)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))

DECADES = 5
"""Below the highest: what is lower leaves a logarithmic axis of epsilon or of losses."""


@dataclass(frozen=True, eq=False)
class NoisePlan:
    """What is predicted for noise on the weights.

    Attributes:
        epsilons: ascending, > 0, shape (n,).
        deviations: label -> what an epsilon does to a weight, > 0, shape (n,); what is infinite is not drawn.
        deviation_words: of that axis.
        reference: a value of it to compare with, > 0, or None.
        reference_words: what it is.
        curvatures: ascending, > 0, shape (m,).
        spreads: label -> standard deviation of a weight at these, > 0, shape (m,); likewise.
        steps: of the schedules, ascending, shape (k,).
        schedules: label -> epsilon at these, >= 0, shape (k,).
        phases: first step of each of the three phases, ascending.
    """

    epsilons: Floats
    deviations: Mapping[str, Floats]
    deviation_words: str
    reference: float | None
    reference_words: str
    curvatures: Floats
    spreads: Mapping[str, Floats]
    steps: Floats
    schedules: Mapping[str, Floats]
    phases: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, axis, curves in (
            ("deviations", self.epsilons, self.deviations),
            ("spreads", self.curvatures, self.spreads),
            ("schedules", self.steps, self.schedules),
        ):
            if not curves or any(np.shape(values) != np.shape(axis) for values in curves.values()):
                raise ValueError(f"{name} must hold curves of shape {np.shape(axis)}, at least one")
        if not (np.asarray(self.epsilons) > 0).all() or not (np.asarray(self.curvatures) > 0).all():
            raise ValueError("epsilons and curvatures must be > 0: their axes are logarithmic")
        if self.reference is not None and not self.reference > 0:
            raise ValueError(f"reference={self.reference} must be > 0")


@styled()
def figure_noise_plan(plan: NoisePlan) -> Figure:
    """What an epsilon does, the spread of weights against the curvature, and epsilon along each schedule.

    Args:
        plan: what is predicted.

    Returns:
        The figure.
    """
    figure, (left, middle, right) = panels(3, sharex=False, sharey=False, extra_height=0.5)
    _curves(left, plan.epsilons, plan.deviations, [] if plan.reference is None else [plan.reference])
    if plan.reference is not None:
        left.axhline(plan.reference, color=GREY, linewidth=1, linestyle="--", zorder=1, label=plan.reference_words)
    left.set_title("a weight")
    left.set_xlabel("$\\epsilon$")
    left.set_ylabel(plan.deviation_words)
    left.legend(fontsize=8)
    _curves(middle, plan.curvatures, plan.spreads, [])
    middle.set_title("along a direction")
    middle.set_xlabel("curvature, decay included")
    middle.set_ylabel("std of a weight")
    middle.legend(fontsize=8)
    looks = looks_of(plan.schedules)
    for place, (label, values) in enumerate(plan.schedules.items()):
        right.plot(
            plan.steps,
            np.where(values > 0, values, np.nan),
            color=looks[label].colour,
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=looks[label].width,
            label=label,
            zorder=3,
        )
    ends = [*plan.phases, float(plan.steps[-1])]
    for first, last, colour in zip(ends, ends[1:], _PHASE_TINTS, strict=False):
        right.axvspan(first, last, color=colour, linewidth=0, zorder=0)
    positive = np.concatenate([values[values > 0] for values in plan.schedules.values()])
    if positive.size:
        right.set_yscale("log")
        highest = float(positive.max())
        right.set_ylim(*logarithmic_ticks(right.yaxis, [max(float(positive.min()), highest * 10.0**-DECADES), highest]))
    right.set_xlim(0, max(float(plan.steps[-1]), 1.0))
    right.set_title("schedules")
    right.set_xlabel("step; shaded: the phases")
    right.set_ylabel("$\\epsilon$")
    right.xaxis.set_major_locator(_few_steps())
    right.legend(fontsize=8)
    return figure


def _curves(ax: Axes, x: Floats, curves: Mapping[str, Floats], more: Sequence[float]) -> None:
    """Lines on logarithmic axes that hold all that is finite."""
    looks = looks_of(curves)
    for place, (label, values) in enumerate(curves.items()):
        look = looks[label]
        ax.plot(
            x,
            np.where(np.isfinite(values) & (values > 0), values, np.nan),
            color=look.colour,
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=look.width,
            label=label,
            zorder=3,
        )
    ax.set_xscale("log")
    values = np.concatenate(list(curves.values()))
    ends = [*values[np.isfinite(values) & (values > 0)].tolist(), *more]
    ax.set_xlim(*logarithmic_ticks(ax.xaxis, x.tolist(), most=4))
    if ends:
        ax.set_yscale("log")
        ax.set_ylim(*logarithmic_ticks(ax.yaxis, ends))


def _few_steps() -> MaxNLocator:
    return MaxNLocator(3, integer=True, steps=[1, 2, 2.5, 5, 10])


@dataclass(frozen=True, eq=False)
class LoopCurves:
    """What replicas of one schedule did in closed loop.

    Attributes:
        recorded: steps, ascending, > 0, shape (m,).
        losses: above the bottom at these, shape (n, m).
        passage_steps: steps to the better well, ``inf`` for none, shape (n,).
        phase_shares: the share of replicas in each phase, shape (3, m).
    """

    recorded: npt.NDArray[np.int64]
    losses: Floats
    passage_steps: Floats
    phase_shares: Floats

    def __post_init__(self) -> None:
        count, points = len(self.passage_steps), len(self.recorded)
        if np.shape(self.losses) != (count, points) or np.shape(self.phase_shares) != (3, points) or not count * points:
            raise ValueError(
                f"losses and phase_shares of shapes {np.shape(self.losses)} and {np.shape(self.phase_shares)} must be "
                f"({count}, {points}) and (3, {points}), and not empty"
            )


@styled()
def figure_closed_loop(title: str, schedules: Mapping[str, LoopCurves], *, phases_of: str) -> Figure:
    """Phases along one schedule, and losses and the share of replicas that have found the better well for all.

    Args:
        title: names the landscape.
        schedules: label -> what its replicas did.
        phases_of: the label whose phases are shown.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no such label.
    """
    if phases_of not in schedules:
        raise ValueError(f"phases_of={phases_of!r} must be one of {', '.join(schedules) or 'the schedules (none)'}")
    figure, (left, middle, right) = panels(3, sharex=True, sharey=False, extra_height=1.0)
    title_above(figure, title)
    shown = schedules[phases_of]
    left.stackplot(shown.recorded, shown.phase_shares, colors=_PHASE_TINTS, linewidth=0)
    left.set_ylim(0, 1)
    left.set_title(f"phases, {phases_of}")
    left.set_ylabel("share of replicas")
    looks = looks_of(schedules)
    medians = {label: np.median(each.losses, axis=0) for label, each in schedules.items()}
    for label, each in schedules.items():
        look = looks[label]
        middle.plot(each.recorded, medians[label], color=look.colour, linewidth=look.width, zorder=3)
        low, high = np.quantile(each.losses, [0.25, 0.75], axis=0)
        middle.fill_between(each.recorded, low, high, color=look.colour, alpha=0.15, linewidth=0, zorder=2)
        last = float(each.recorded[-1])
        at = np.sort(each.passage_steps[np.isfinite(each.passage_steps)])
        share = np.arange(1, len(at) + 1) / len(each.passage_steps)
        end = share[-1] if len(at) else 0.0
        right.step(
            np.concatenate([[0.0], at, [last]]),
            np.concatenate([[0.0], share, [end]]),
            where="post",
            color=look.colour,
            linewidth=look.width,
            zorder=3,
        )
    middle.set_yscale("log")
    positive = np.concatenate([each.losses[each.losses > 0] for each in schedules.values()])
    if positive.size:
        lowest = max(min(float(np.quantile(each.losses, 0.25, axis=0).min()) for each in schedules.values()), 1e-300)
        highest = float(np.quantile(positive, 0.99))
        middle.set_ylim(*logarithmic_ticks(middle.yaxis, [max(lowest, highest * 10.0**-DECADES), highest]))
    middle.set_title("loss above the bottom")
    middle.set_ylabel("median, quartiles")
    right.set_ylim(-0.03, 1.03)
    right.set_title("found the better well")
    right.set_ylabel("share of replicas")
    for ax in (left, middle, right):
        ax.set_xlim(0, max(float(each.recorded[-1]) for each in schedules.values()))
        ax.xaxis.set_major_locator(_few_steps())
        ax.set_xlabel("step")
    entries: Entries = [
        (Line2D([], [], color=look.colour, linewidth=look.width), label) for label, look in looks.items()
    ]
    entries += [
        (Patch(facecolor=colour, edgecolor=INK, linewidth=0.3), words)
        for colour, words in zip(_PHASE_TINTS, PHASE_WORDS, strict=True)
    ]
    legend_below(figure, entries, columns=4)
    return figure
