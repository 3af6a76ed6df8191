"""What [satybaldiev2025] claims for its noise, beside trainings of ours: Tables I to IV and Figure 1.

The paper's numbers have no interval, no number of runs, and other data and networks than ours. They are drawn as
claims, never as expected results.
"""

from collections import defaultdict
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from figures.batch_orders import looks_of
from figures.claimed_differences import (
    ClaimedDifference,
    claimed_entries,
    figure_claimed_differences,
    plot_claimed_differences,
)
from figures.gallery_figure import rows_of
from figures.style import COLOURS, GREY, WIDTH, legend_below, styled, tint, title_above
from theory.absorbing import Floats
from theory.training_phases import PHASES

HOURS = {
    "baseline": (4.2, 8.5, 24.3),
    "adam": (3.8, 7.9, 22.1),
    "cosine": (3.6, 7.5, 21.5),
    "fixed": (3.5, 7.3, 20.8),
    "full": (3.2, 6.5, 18.7),
}
"""Table I: hours to the target on CIFAR-10, CIFAR-100 and a part of ImageNet."""

VARIATION = {
    "baseline": (3.8, 4.2, 3.5),
    "adam": (2.9, 3.3, 2.7),
    "fixed": (2.5, 2.9, 2.4),
    "full": (2.1, 2.4, 1.9),
}
"""Table II: coefficients of variation of the validation loss [%], of ResNet-18, VGG-16 and EfficientNet-B0."""

ACCURACY = {
    "baseline": (92.3, 71.5, 68.2),
    "adam": (93.1, 72.8, 69.4),
    "fixed": (93.4, 73.2, 69.8),
    "full": (93.8, 73.9, 70.3),
}
"""Table III: validation accuracies [%], of the data sets of Table I."""

ABLATION = {"baseline": 92.3, "fixed": 93.4, "phase_only": 92.9, "schedule_only": 93.2, "full": 93.8}
"""Table IV: accuracies on CIFAR-10 [%]."""

PHASE_SHARES = ((40, 0.78), (120, 0.85), (200, 0.92))
"""Figure 1: last epoch, and the share of the dominant phase, of exploration, convergence and fine-tuning."""

WORDS = {
    "baseline": "SGD",
    "adam": "Adam",
    "cosine": "SGD, cosine",
    "fixed": "fixed noise",
    "phase_only": "phases only",
    "schedule_only": "decay only",
    "full": "full method",
    "phase_only_equal": "phases, equal noise",
    "schedule_only_equal": "decay, equal noise",
    "full_equal": "full, equal noise",
}
"""Of the methods; equal noise has the mean of epsilon^2 of fixed noise."""

SUMMARY, SEEDS, EPOCHS = "adaptive_noise_digits", "adaptive_noise_digits_seeds", "adaptive_noise_digits_epochs"
TITLE = "MLP on 500 digits, 8 pairs of seeds"
PERCENTAGES = "the paper's claim, in % of our reference"
OF_THE_PAPER = ("baseline", "fixed", "adam")


# ---- Tables I to IV --------------------------------------------------------------------------------------------------


def _difference(quantity: str, method: str, reference: str, claims: tuple[float, ...]) -> ClaimedDifference:

    pairs = _seeds(quantity, method) - _seeds(quantity, reference)
    return ClaimedDifference(
        f"{WORDS[method]} - {WORDS[reference]}", pairs, _is_shown(quantity, method, reference), claims
    )


@cache
def _by_method() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows_of(SEEDS):
        found[row["method"]].append(row)
    return found


def _seeds(quantity: str, method: str) -> Floats:

    return np.array([float(row[quantity]) for row in _by_method()[method]])


def _is_shown(quantity: str, method: str, reference: str) -> bool:
    """By the verdict that holds for all differences of the quantity (Holm, 1 %)."""
    for row in rows_of(SUMMARY):
        if (row["quantity"], row["method"], row["reference"]) == (quantity, method, reference):
            return row["verdict"] in ("lower", "higher")
    raise ValueError(f"{quantity} of {method} - {reference} is not in figures/data/{SUMMARY}.csv")


def relative_claims(table: dict[str, tuple[float, ...]], reference: str) -> tuple[float, ...]:
    """What the paper's table has for the full method, as a part of its reference, one for each column.

    Args:
        table: ``HOURS`` or ``VARIATION``.
        reference: method that is compared with.

    Returns:
        full / reference - 1.

    Example:
        >>> [round(part, 3) for part in relative_claims(HOURS, "baseline")]
        [-0.238, -0.235, -0.23]
    """
    return tuple(full / other - 1 for full, other in zip(table["full"], table.get(reference, ()), strict=False))


def _relative(quantity: str, table: dict[str, tuple[float, ...]], reference: str) -> ClaimedDifference:
    """Full against a reference; the claim is the paper's percentage, of the mean of our reference."""
    scale = float(_seeds(quantity, reference).mean())
    claims = tuple(part * scale for part in relative_claims(table, reference))
    return _difference(quantity, "full", reference, claims)


def draw_time_to_target() -> Figure:
    """Table I: differences of epochs to the target, and the runs that have not reached it yet.

    Returns:
        The figure.
    """
    rows = [_relative("epochs", HOURS, reference) for reference in ("baseline", "fixed", "adam", "cosine")]
    with styled():
        figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        title_above(figure, f"Table I: time to the target. {TITLE}")
        plot_claimed_differences(left, rows)
        left.set_xlabel("epochs to an accuracy of 95 %; below 0: faster")
        _survival(right)
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        legend_below(figure, claimed_entries(rows, claim=PERCENTAGES), columns=2)
    return figure


def _survival(ax: Axes) -> None:
    """Share of the runs that have not reached the target after so many epochs."""
    looks = looks_of(HOURS)
    dashes = ("-", (0, (5, 1.6)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)))
    for place, (method, dash) in enumerate(zip(HOURS, dashes, strict=True)):
        epochs = np.sort(_seeds("epochs", method))
        below = np.concatenate([[1.0], 1 - np.arange(1, len(epochs) + 1) / len(epochs)])
        # Lines that lie upon each other would look like one.
        shifted = below + 0.008 * (place - 2)
        ax.step(
            np.concatenate([[0.0], epochs]),
            shifted,
            where="post",
            color=looks[method].colour,
            linestyle=dash,
            linewidth=1.7,
            label=WORDS[method],
        )
    ax.set_xlim(0, 24)
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("epoch")
    ax.set_ylabel("runs below 95 %")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(loc="upper right", fontsize=8)


def draw_stability() -> Figure:
    """Table II: differences of the coefficient of variation, as the paper has it and around a straight line.

    Returns:
        The figure.
    """
    references = (*OF_THE_PAPER, "cosine")
    return figure_claimed_differences(
        f"Table II: variation of the validation loss, last 20 of 40 epochs. {TITLE}",
        {
            "sd / mean [%]; below 0: steadier": [_relative("cv", VARIATION, each) for each in references],
            "the same around a straight line [%]": [
                _difference("cv_detrended", "full", each, ()) for each in references
            ],
        },
        claim=PERCENTAGES,
    )


def draw_accuracy() -> Figure:
    """Table III: differences of accuracy.

    Returns:
        The figure.
    """
    rows = []
    for reference in OF_THE_PAPER:
        claims = tuple(full - other for full, other in zip(ACCURACY["full"], ACCURACY[reference], strict=True))
        rows.append(_difference("test_accuracy", "full", reference, claims))
    rows.append(_difference("test_accuracy", "full", "cosine", ()))
    return figure_claimed_differences(
        f"Table III: accuracy. {TITLE}", {"test accuracy, percentage points; above 0: better": rows}
    )


ABLATION_PAIRS = (
    ("fixed", "baseline"),
    ("phase_only", "baseline"),
    ("schedule_only", "baseline"),
    ("full", "baseline"),
    ("full", "fixed"),
    ("full", "phase_only"),
    ("full", "schedule_only"),
    ("phase_only_equal", "fixed"),
    ("schedule_only_equal", "fixed"),
    ("full_equal", "fixed"),
)
"""Of the ablation; the last three are not in the paper."""


def draw_ablation() -> Figure:
    """Table IV: differences of accuracy between parts of the method, and of equally much noise.

    Returns:
        The figure.
    """
    rows = []
    for method, reference in ABLATION_PAIRS:
        known = method in ABLATION and reference in ABLATION
        claims = (ABLATION[method] - ABLATION[reference],) if known else ()
        rows.append(_difference("test_accuracy", method, reference, claims))
    return figure_claimed_differences(
        f"Table IV: the ablation. {TITLE}", {"test accuracy, percentage points; above 0: better": rows}
    )


# ---- Figure 1 --------------------------------------------------------------------------------------------------------

HATCHES = {"exploration": "////", "convergence": "", "fine_tuning": "...."}
"""Of the phases, for print without colours."""


def draw_phases() -> Figure:
    """Figure 1: shares of the phases over training, the paper's words beside what was told of ours.

    Returns:
        The figure.
    """
    colours = dict(zip(PHASES, (tint(COLOURS[1], 0.55), tint(COLOURS[4], 0.3), tint(COLOURS[0], 0.5)), strict=True))
    with styled():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 1, 1))
        title_above(figure, "Figure 1: phases of training")
        first = 0
        for (last, share), phase in zip(PHASE_SHARES, PHASES, strict=True):
            middle, width = (first + last) / 2, last - first
            bar = {"width": width, "edgecolor": GREY, "linewidth": 0.5}
            axes[0].bar(middle, share, color=colours[phase], hatch=HATCHES[phase], **bar)
            axes[0].bar(middle, 1 - share, bottom=share, color="white", **bar)
            axes[0].text(middle, share - 0.03, f"{share:.0%}", ha="center", va="top", fontsize=9, bbox=_BOX)
            first = last
        axes[0].set_title("the paper: ResNet-18, CIFAR-10", fontweight="normal", fontsize=9)
        axes[0].set_xlim(0, first)
        for ax, method in zip(axes[1:], ("full", "baseline"), strict=True):
            shares = phases_of(method)
            below = np.zeros(len(shares))
            for phase, share in zip(PHASES, shares.T, strict=True):
                edges = np.arange(len(share) + 1) + 0.5
                style = {"facecolor": colours[phase], "hatch": HATCHES[phase], "edgecolor": GREY, "linewidth": 0.5}
                ax.stairs(below + share, edges, baseline=below, fill=True, **style)
                below = below + share
            words = "full method" if method == "full" else "no noise"
            ax.set_title(f"digits, MLP, {words}", fontweight="normal", fontsize=9)
            ax.set_xlim(0.5, len(shares) + 0.5)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for ax in axes:
            ax.set_ylim(0, 1)
            ax.grid(False)
            ax.set_xlabel("epoch")
        axes[0].set_ylabel("steps")
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        entries = [
            (Patch(facecolor=colours[p], hatch=HATCHES[p], edgecolor=GREY, linewidth=0.5), p.replace("_", "-"))
            for p in PHASES
        ]
        entries.append((Patch(facecolor="white", edgecolor=GREY, linewidth=0.5), "the paper does not say"))
        legend_below(figure, [*entries], columns=4)
    return figure


_BOX = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}


def phases_of(method: str) -> Floats:
    """Shares of the steps of each epoch in each phase, means over the seeds.

    Args:
        method: with noise, or ``"baseline"``.

    Returns:
        Shape (epochs, 3).

    Raises:
        ValueError: if no phases were told.

    Example:
        >>> phases_of("full")[0].tolist()
        [1.0, 0.0, 0.0]
    """
    rows = [row for row in rows_of(EPOCHS) if row["method"] == method and row[PHASES[0]]]
    if not rows:
        raise ValueError(f"method={method!r} has no phases in figures/data/{EPOCHS}.csv")
    return np.array([[float(row[phase]) for phase in PHASES] for row in rows])
