"""Trainings of ours beside those of [actcoolr2021]: schedules and temperatures, cooling, and errors.

The paper trains ResNets on CIFAR-10 and ImageNet; ours is a network of four layers on 8x8 digits. What can be compared
is what the paper says of temperatures and schedules, not the errors themselves.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from figures.claimed_differences import ClaimedDifference, figure_claimed_differences
from figures.gallery_figure import rows_of
from figures.measured_activation_temperature import FinalErrors, figure_final_errors
from figures.perturbation import plot_measured
from figures.style import COLOURS, GREY, INK, WIDTH, legend_below, plain, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate, compare, holm

STEPS, EPOCHS, SEEDS = (f"activation_temperature_digits_{name}" for name in ("steps", "epochs", "seeds"))
STEPS_PER_EPOCH = 12
WHAT = "convnet4 on 600 digits, 4 seeds"
BUDGET = 25
"""Epochs of the trainings that are shown in full."""

WORDS = {
    "constant": "constant",
    "step": "step decay",
    "cosine": "cosine",
    "one_cycle": "1-cycle",
    "actcoolr": "ActCooLR",
    "actcoolr:gamma=0.5": "ActCooLR, $\\gamma$ = 0.5",
    "actcoolr:gamma=2": "ActCooLR, $\\gamma$ = 2",
    "actcoolr:t_start=3.17": "ActCooLR from 3.17 bits",
    "actcoolr:t_start=3.17,lr_max=10": "the same, no cap",
}
"""Of the schedules; ActCooLR starts at 1 bit here unless said, and is capped at 3 times the learning rate."""

PAPER_ERRORS = {
    "Fashion-MNIST, 4-layer ConvNet": {"constant": 6.95, "actcoolr": 7.29},
    "CIFAR-10, VGG-16": {"step": 6.30, "actcoolr": 6.82},
    "ImageNet, ResNet-50": {"one_cycle": 27.27, "actcoolr": 27.88},
}
"""Table 1, top-1 errors [%]; AutoLRS (5.87) and ABEL (7.1, with fewer epochs) are schedules that we do not have."""

PAPER_EPOCHS = {
    10: 37.88, 30: 18.33, 50: 11.87, 70: 10.59, 90: 9.09, 110: 8.09, 130: 7.50, 150: 7.28, 170: 7.18, 190: 7.15,
    210: 6.41,
}  # fmt: skip
"""Table 2: epochs -> top-1 error of ResNet-32 on CIFAR-10, from 3.17 bits [%]."""

DASHES = ("-", (0, (5, 1.6)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))


# ---- Tables ----------------------------------------------------------------------------------------------------------


class Band(NamedTuple):
    """A quantity over a training.

    Attributes:
        epochs: at which it was measured, shape (n,).
        median: over the seeds, shape (n,).
        low: the lowest seed, shape (n,).
        high: the highest seed, shape (n,).
    """

    epochs: Floats
    median: Floats
    low: Floats
    high: Floats


_COLUMNS = {
    "rate": ("rate", "rate_low", "rate_high"),
    "first": ("first", "first_low", "first_high"),
    "network": ("network", "network_low", "network_high"),
    "target": ("target", "target", "target"),
    "error": ("error", "lowest", "highest"),
}


def band_of(quantity: str, schedule: str, budget: int) -> Band:
    """What was measured of one schedule.

    Args:
        quantity: ``"rate"``, ``"first"`` or ``"network"`` (T of the first ReLU, of the network) or ``"target"``, every
            10 steps; or ``"error"``, after every epoch.
        schedule: as ``jostle validate activation-temperature`` names it.
        budget: epochs of the training.

    Returns:
        Median and range over 4 seeds, where there is any.

    Raises:
        ValueError: if the tables have no such training.

    Example:
        >>> band_of("rate", "constant", 25).median[:2].tolist()
        [0.1, 0.1]
    """
    rows = [row for row in _table(quantity) if row["schedule"] == schedule and row["budget"] == str(budget)]
    columns = _COLUMNS[quantity]
    known = [row for row in rows if row[columns[0]]]
    if not rows or (not known and quantity != "target"):
        raise ValueError(f"schedule={schedule!r} with budget={budget} is not in figures/data/{STEPS}.csv")
    unit = [float(row["epoch"]) if quantity == "error" else int(row["step"]) / STEPS_PER_EPOCH for row in known]
    return Band(np.array(unit), *(np.array([float(row[name]) for row in known]) for name in columns))


@cache
def _rows(name: str) -> list[dict[str, str]]:
    return rows_of(name)


def _table(quantity: str) -> list[dict[str, str]]:
    return _rows(EPOCHS if quantity == "error" else STEPS)


def final_errors(schedule: str, budget: int) -> Floats:
    """Test errors after the last epoch, by seed.

    Args:
        schedule: as ``jostle validate activation-temperature`` names it.
        budget: epochs of the training.

    Returns:
        In [0, 1], shape (4,).

    Raises:
        ValueError: if the tables have no such training.

    Example:
        >>> final_errors("constant", 25).mean().round(4)
        np.float64(0.0179)
    """
    found = [
        float(row["test_error"]) for row in _rows(SEEDS) if (row["schedule"], row["budget"]) == (schedule, str(budget))
    ]
    if not found:
        raise ValueError(f"schedule={schedule!r} with budget={budget} is not in figures/data/{SEEDS}.csv")
    return np.array(found)


def _draw_band(ax: Axes, band: Band, *, colour: str, dashes: object = "-", width: float = 1.5) -> None:

    ax.fill_between(band.epochs, band.low, band.high, color=tint(colour, 0.22), linewidth=0, zorder=2)
    ax.plot(band.epochs, band.median, color=colour, linestyle=dashes, linewidth=width, zorder=3)  # pyright: ignore[reportArgumentType] -- dashes are a style


# ---- Figure 1 --------------------------------------------------------------------------------------------------------

SCHEDULES = ("constant", "step", "cosine", "one_cycle", "actcoolr")


def draw_schedules() -> Figure:
    """Fig. 1: learning rate, temperature of the first ReLU and of the network, and error, a column for each schedule.

    Returns:
        The figure.
    """
    quantities = {
        "rate": "learning rate",
        "first": "$T$, first ReLU",
        "network": "$T$, network",
        "error": "test error",
    }
    with styled():
        figure = Figure(figsize=(WIDTH, 6.3), layout="constrained")
        grid = figure.subplots(4, len(SCHEDULES), sharex=True, sharey="row", squeeze=False)
        title_above(figure, f"{WHAT}, {BUDGET} epochs")
        for column, schedule in enumerate(SCHEDULES):
            for ax, quantity in zip(grid[:, column], quantities, strict=True):
                colour = COLOURS[1] if schedule == "actcoolr" else COLOURS[0]
                _draw_band(ax, band_of(quantity, schedule, BUDGET), colour=colour)
            target = band_of("target", schedule, BUDGET)
            if len(target.epochs):
                grid[2, column].plot(target.epochs, target.median, color=INK, linewidth=1.2, linestyle="--", zorder=4)
            grid[0, column].set_title(WORDS[schedule], fontweight="normal", fontsize=9.5)
            grid[3, column].set_xlabel("epoch")
        for ax, words in zip(grid[:, 0], quantities.values(), strict=True):
            ax.set_ylabel(words + (" [bits]" if words.startswith("$T$") else ""))
            ax.yaxis.set_major_locator(MaxNLocator(4))
        for ax in grid[:3].ravel():
            ax.set_ylim(0, None)
        for ax in grid[3]:
            ax.set_yscale("log")
            ax.set_ylim(0.01, 1)
            ax.yaxis.set_major_formatter(FuncFormatter(plain))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xlim(0, BUDGET)
        figure.align_ylabels(list(grid[:, 0]))
        entries = [
            (Line2D([], [], color=COLOURS[0]), "median of 4 seeds"),
            (Line2D([], [], color=COLOURS[1]), "the same, ActCooLR"),
            (Line2D([], [], color=INK, linewidth=1.2, linestyle="--"), "its target"),
            (Patch(color=tint(GREY, 0.3), linewidth=0), "range of the seeds"),
        ]
        legend_below(figure, [*entries], columns=4)
    return figure


# ---- Figure 3, Tables 1 and 2 ----------------------------------------------------------------------------------------

COLUMNS: "dict[str, tuple[tuple[str, str, int], ...]]" = {
    "from 1 bit": (
        ("$\\gamma$ = 0.5", "actcoolr:gamma=0.5", BUDGET),
        ("$\\gamma$ = 1", "actcoolr", BUDGET),
        ("$\\gamma$ = 2", "actcoolr:gamma=2", BUDGET),
    ),
    "from 3.17 bits": (
        ("$\\gamma$ = 0.5", "actcoolr:t_start=3.17,gamma=0.5", BUDGET),
        ("$\\gamma$ = 1", "actcoolr:t_start=3.17", BUDGET),
        ("$\\gamma$ = 2", "actcoolr:t_start=3.17,gamma=2", BUDGET),
    ),
    "from 3.17 bits, $\\gamma$ = 1": tuple(
        (f"{budget} epochs", "actcoolr:t_start=3.17", budget) for budget in (10, 25, 50)
    ),
}
"""Heading -> words, schedule and budget of each line."""

HOTTEST = 5.0
"""T at the upper end of that axis: single seeds of trainings that break are above it for a moment [bits]."""


def draw_cooling() -> Figure:
    """Fig. 3: effect of gamma and of the number of epochs on temperature, learning rate and error.

    Returns:
        The figure.
    """
    rows = {"network": "$T$, network [bits]", "rate": "learning rate", "error": "test error"}
    with styled():
        figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
        grid = figure.subplots(3, len(COLUMNS), sharex="col", sharey="row", squeeze=False)
        title_above(figure, f"ActCooLR: {WHAT}")
        for column, (heading, lines) in enumerate(COLUMNS.items()):
            handles = []
            for place, (words, schedule, budget) in enumerate(lines):
                colour, dashes = COLOURS[place], DASHES[place]
                for ax, quantity in zip(grid[:, column], rows, strict=True):
                    _draw_band(ax, band_of(quantity, schedule, budget), colour=colour, dashes=dashes)
                target = band_of("target", schedule, budget)
                grid[0, column].plot(target.epochs, target.median, color=INK, linewidth=0.8, zorder=4)
                handles.append(Line2D([], [], color=colour, linestyle=dashes, label=words))
            handles.append(Line2D([], [], color=INK, linewidth=0.8, label="target"))
            legend = grid[0, column].legend(handles=handles, loc="upper right", fontsize=8, frameon=True)
            legend.get_frame().set(edgecolor="none", alpha=0.85)
            grid[0, column].set_title(heading, fontweight="normal")
            grid[-1, column].set_xlabel("epoch")
            grid[-1, column].set_xlim(0, max(budget for *_, budget in lines))
        for ax, words in zip(grid[:, 0], rows.values(), strict=True):
            ax.set_ylabel(words)
        grid[0, 0].set_ylim(0, HOTTEST)
        for ax in (grid[1, 0], grid[2, 0]):
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter(FuncFormatter(plain))
        grid[1, 0].set_ylim(1e-3, 0.5)
        grid[1, 0].yaxis.set_major_locator(LogLocator(numticks=5))
        grid[2, 0].set_ylim(0.01, 1)
        figure.align_ylabels(list(grid[:, 0]))
    return figure


def _final(schedule: str, budget: int) -> FinalErrors:

    errors = final_errors(schedule, budget)
    words = WORDS[schedule]
    return FinalErrors(words, errors, Estimate.from_samples(errors), schedule.startswith("actcoolr"))


def draw_final_errors() -> Figure:
    """Table 1: test errors of all schedules.

    Returns:
        The figure.
    """
    budgets = {f"{budget} epochs": [_final(schedule, budget) for schedule in WORDS] for budget in (10, BUDGET)}
    return figure_final_errors(WHAT, budgets)


def draw_differences() -> Figure:
    """Table 1: errors of ActCooLR less those of other schedules, seed by seed, beside the paper's.

    Returns:
        The figure.
    """
    pairs: dict[tuple[int, str, str], Floats] = {}
    for budget in (10, BUDGET):
        for schedule in ("actcoolr", "actcoolr:t_start=3.17"):
            for other in SCHEDULES[:-1]:
                errors = final_errors(schedule, budget) - final_errors(other, budget)
                pairs[budget, schedule, other] = 100 * errors
    nothing = Estimate(0.0, 0.0, 1)
    verdicts = holm([compare("errors", nothing, Estimate.from_samples(found)) for found in pairs.values()])
    quantities: dict[str, list[ClaimedDifference]] = {}
    for ((budget, schedule, other), found), verdict in zip(pairs.items(), verdicts, strict=True):
        label = f"from {'1 bit' if schedule == 'actcoolr' else '3.17 bits'} - {WORDS[other]}"
        claims = tuple(each["actcoolr"] - each[other] for each in PAPER_ERRORS.values() if other in each)
        row = ClaimedDifference(label, found, verdict.verdict == "disagrees", claims)
        quantities.setdefault(f"{budget} epochs: difference of errors [points]", []).append(row)
    return figure_claimed_differences(
        f"ActCooLR less other schedules; below 0: fewer errors. {WHAT}", quantities, claim="Table 1, other networks"
    )


def errors_by_epochs(schedule: str) -> list[tuple[int, Floats, Estimate]]:
    """Final errors of trainings of several lengths.

    Args:
        schedule: ``"actcoolr"`` or ``"actcoolr:t_start=3.17"``.

    Returns:
        Epochs, errors of the seeds, and their mean [%]; its interval ends where errors do.
    """
    found = []
    for budget in (5, 10, BUDGET, 50):
        errors = 100 * final_errors(schedule, budget)
        mean = Estimate.from_samples(errors)
        low, high = mean.interval()
        found.append((budget, errors, replace(mean, interval95=(max(low, 0.0), min(high, 100.0)))))
    return found


def draw_error_by_epochs() -> Figure:
    """Table 2: error against the number of epochs, the paper's and ours.

    Returns:
        The figure.
    """
    with styled():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(
            list(PAPER_EPOCHS), list(PAPER_EPOCHS.values()), color=COLOURS[1], marker="v", linestyle=":",
            markerfacecolor="white", markersize=6, linewidth=1.2,
        )  # fmt: skip
        left.set_title("the paper: ResNet-32, CIFAR-10", fontweight="normal")
        looks = {
            "actcoolr": (COLOURS[0], "o", "from 1 bit"),
            "actcoolr:t_start=3.17": (COLOURS[2], "s", "from 3.17 bits"),
        }
        entries = [
            (
                Line2D([], [], color=COLOURS[1], marker="v", linestyle=":", markerfacecolor="white", markersize=6),
                "Table 2, no interval given",
            )
        ]
        for place, (schedule, (colour, marker, words)) in enumerate(looks.items()):
            aside = (0.96, 1.04)[place]
            found = errors_by_epochs(schedule)
            for budget, errors, _ in found:
                right.plot(
                    [budget * aside * 1.03] * len(errors), errors, "o", color=tint(colour, 0.5), markersize=2.8,
                    markeredgewidth=0,
                )  # fmt: skip
            means = [(budget * aside, mean) for budget, _, mean in found]
            plot_measured(right, means, colour=colour, marker=marker)
            right.plot([x for x, _ in means], [mean.value for _, mean in means], color=colour, linewidth=0.9)
            entries.append((Line2D([], [], color=colour, marker=marker, markersize=5), f"{words}, mean, 95 %"))
        entries.append(
            (Line2D([], [], color=tint(COLOURS[0], 0.5), marker="o", markersize=3, linestyle=""), "one seed")
        )
        right.set_title(f"ours: {WHAT}", fontweight="normal")
        for ax, ticks, values in (
            (left, (10, 30, 100, 200), (5, 10, 20, 40)),
            (right, (5, 10, 25, 50), (1, 2, 5, 10, 20, 50)),
        ):
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel("epochs of the training")
            for axis, places in ((ax.xaxis, ticks), (ax.yaxis, values)):
                axis.set_major_locator(FixedLocator(list(places)))
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(plain))
        left.set_ylabel("test error [%]")
        legend_below(figure, [*entries], columns=4)
    return figure
