"""The share of patterns that a step changes against the learning rate: Eq. (5) and Fig. 2 of [actcoolr2021].

Measured in trainings of ours, where the same step was made with 25 learning rates; and simulated, where the law is
known.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from figures.actcoolr_trainings import STEPS_PER_EPOCH, WHAT, WORDS
from figures.batch_orders import power
from figures.gallery_figure import rows_of
from figures.measured_activation_temperature import SweptSchedule, figure_rate_sweeps
from figures.perturbation import plot_measured
from figures.style import COLOURS, GREY, INK, WIDTH, legend_below, styled, title_above
from theory.absorbing import Floats
from theory.activation_temperature import CloglogLink, ErfLink, GaussianFlips, fit_link_to_shares, share_of

SWEEPS = "activation_temperature_digits_sweeps"
LEVELS = 21
"""Of colours in a map."""

# ---- Figure 2 --------------------------------------------------------------------------------------------------------


@cache
def _rows() -> list[dict[str, str]]:
    return rows_of(SWEEPS)


class Sweep(NamedTuple):
    """The same step at several learning rates.

    Attributes:
        step: of the training, from 1.
        used: the learning rate of the training there.
        rates: ascending, shape (r,).
        temperature: T at these, shape (r,) [bits]; nan where activations are no finite numbers.
    """

    step: int
    used: float
    rates: Floats
    temperature: Floats


def sweeps_of(schedule: str, seed: int, layer: str) -> list[Sweep]:
    """Sweeps of the learning rate in a training, from the first step to the last.

    Args:
        schedule: ``"one_cycle"`` or ``"step"``.
        seed: 0 to 3.
        layer: ``"network"`` or ``"first"``.

    Returns:
        Twelve.

    Raises:
        ValueError: if the table has none.

    Example:
        >>> [sweep.step for sweep in sweeps_of("step", 0, "first")][:3]
        [1, 28, 55]
    """
    wanted = (schedule, str(seed), layer)
    rows = [row for row in _rows() if (row["schedule"], row["seed"], row["layer"]) == wanted]
    if not rows:
        raise ValueError(f"no sweeps of {schedule!r}, seed {seed}, layer {layer!r} in figures/data/{SWEEPS}.csv")
    names = list(rows[0])[5:]
    rates = np.array([float(name) for name in names])
    return [
        Sweep(int(row["step"]), float(row["used"]), rates, np.array([float(row[name] or "nan") for name in names]))
        for row in rows
    ]


@cache
def fitted_links(schedule: str, seed: int, layer: str, link: str) -> tuple[tuple[float, float, float], ...]:
    """A link fitted to each sweep by least squares in P, as in the paper.

    Args:
        schedule: as above.
        seed: 0 to 3.
        layer: ``"network"`` or ``"first"``.
        link: ``"erf"``, the paper's Eq. (5), or ``"cloglog"``.

    Returns:
        Location, scale and root mean square of the residuals in P, for each sweep.
    """
    found = []
    for sweep in sweeps_of(schedule, seed, layer):
        known = np.isfinite(sweep.temperature)
        fit = fit_link_to_shares(np.log(sweep.rates[known]), share_of(sweep.temperature[known]), link)
        found.append((fit.link.location, fit.link.scale, fit.error))
    return tuple(found)


def swept_schedule(schedule: str) -> SweptSchedule:
    """Means over the seeds, for the map of temperatures.

    Args:
        schedule: ``"one_cycle"`` or ``"step"``.

    Returns:
        With the erf link fitted for each seed.
    """
    temperatures, residuals, links, used = [], [], [], []
    for seed in range(4):
        sweeps, fits = sweeps_of(schedule, seed, "network"), fitted_links(schedule, seed, "network", "erf")
        temperatures.append([sweep.temperature for sweep in sweeps])
        residuals.append(
            [
                share_of(sweep.temperature) - ErfLink(location, scale).share(np.log(sweep.rates))
                for sweep, (location, scale, _) in zip(sweeps, fits, strict=True)
            ]
        )
        links.append([fit[:2] for fit in fits])
        used.append([sweep.used for sweep in sweeps])
    location, sigma = np.mean(links, axis=0).T
    sweeps = sweeps_of(schedule, 0, "network")
    return SweptSchedule(
        WORDS[schedule],
        np.array([sweep.step for sweep in sweeps]) / STEPS_PER_EPOCH,
        sweeps[0].rates,
        np.mean(temperatures, axis=0),
        np.mean(used, axis=0),
        np.mean(residuals, axis=0),
        location,
        sigma,
    )


def draw_rate_sweeps() -> Figure:
    """Fig. 2: temperature against epoch and learning rate, what the erf link leaves, its mu and sigma.

    Returns:
        The figure.
    """
    figure = figure_rate_sweeps(
        f"{WHAT}, network; white: the learning rate used", [swept_schedule("one_cycle"), swept_schedule("step")]
    )
    for ax in figure.axes[:4]:  # the maps
        for mesh in ax.collections:
            assert isinstance(mesh, QuadMesh)
            mesh.set_cmap(mesh.get_cmap().resampled(LEVELS))  # steps can be told apart in print
    return figure


STAGES = (("first", 0), ("first", 5), ("first", 11), ("network", 5))
"""Layers and numbers of the sweeps in ``draw_links``."""


def draw_links() -> Figure:
    """Fig. 2, one sweep at a time: share of patterns that change, with the paper's link and ours; and what they leave.

    Returns:
        The figure.
    """
    looks = {"erf": (COLOURS[1], "--", "s"), "cloglog": (COLOURS[0], "-", "o")}
    with styled():
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        grid = figure.subplots(2, len(STAGES), sharex=True, sharey="row", height_ratios=(1.25, 1), squeeze=False)
        title_above(figure, "Shares of patterns that change: 1-cycle, convnet4 on digits, seed 0")
        for column, (layer, stage) in enumerate(STAGES):
            upper, lower = grid[:, column]
            sweep = sweeps_of("one_cycle", 0, layer)[stage]
            shares, grid_of_rates = share_of(sweep.temperature), np.geomspace(1e-4, 1e2, 121)
            upper.plot(sweep.rates, shares, "o", color=INK, markersize=3.5, zorder=4)
            lower.axhline(0, color=GREY, linewidth=1, zorder=1)
            for place, (name, (colour, dashes, marker)) in enumerate(looks.items()):
                location, scale, error = fitted_links("one_cycle", 0, layer, name)[stage]
                link = ErfLink(location, scale) if name == "erf" else CloglogLink(location, 1 / scale)
                upper.plot(grid_of_rates, link.share(np.log(grid_of_rates)), color=colour, linestyle=dashes, zorder=3)
                lower.plot(
                    sweep.rates, shares - link.share(np.log(sweep.rates)), color=colour, linestyle=dashes,
                    linewidth=1.1, marker=marker, markersize=3.2, zorder=3 + place,
                )  # fmt: skip
                lower.text(
                    0.03, 0.97 - 0.11 * place, f"{name}: rms {error:.3f}", transform=lower.transAxes, fontsize=8,
                    color=colour, va="top",
                )  # fmt: skip
            upper.axvline(sweep.used, color=GREY, linewidth=1, linestyle=":", zorder=1)
            words = "first ReLU" if layer == "first" else "network"
            upper.set_title(f"{words}, step {sweep.step}", fontweight="normal", fontsize=9)
            lower.set_xscale("log")
            lower.set_xlim(1e-4, 1e2)
            lower.xaxis.set_major_locator(LogLocator(numticks=4))
            lower.xaxis.set_minor_locator(NullLocator())
            lower.xaxis.set_major_formatter(FuncFormatter(power))
            lower.set_xlabel("learning rate")
        grid[0, 0].set_ylabel("share $P$")
        grid[1, 0].set_ylabel("measured $-$ link")
        grid[1, 0].set_ylim(-0.075, 0.1)
        entries = [
            (Line2D([], [], color=INK, marker="o", markersize=3.5, linestyle=""), "measured"),
            (Line2D([], [], color=COLOURS[1], linestyle="--", marker="s", markersize=3.2), "erf link, Eq. (5)"),
            (Line2D([], [], color=COLOURS[0], marker="o", markersize=3.2), "cloglog link, ours"),
            (Line2D([], [], color=GREY, linewidth=1, linestyle=":"), "rate of the training"),
        ]
        legend_below(figure, [*entries], columns=4)
    return figure


# ---- Equation (5) ----------------------------------------------------------------------------------------------------

CHANNELS, REPLICAS, SEED = 16, 200, 0


def draw_flip_law() -> Figure:
    """Eq. (5) beside simulated flips of a Gaussian walk, the exact law of these, and proportionality.

    Returns:
        The figure.
    """
    from sim.activation_temperature import simulate_flips
    from sim.random_streams import stream

    flips = GaussianFlips(CHANNELS, 1.0)
    strides = np.geomspace(1e-3, 10.0, 13)
    found = simulate_flips(flips, strides, stream(SEED, "gallery flips"), replicas=REPLICAS, threads=1)
    wide = np.geomspace(1e-4, 1e2, 25)
    laws = {
        "Eq. (5), erf, fitted": (
            fit_link_to_shares(np.log(wide), flips.share(np.log(wide)), "erf").link,
            COLOURS[1],
            "--",
        ),
        "small steps, cloglog": (flips.small_steps, COLOURS[0], (0, (1, 1.4))),
        "exact law of the walk": (flips, INK, "-"),
    }
    fine = np.geomspace(strides[0] / 2, strides[-1] * 2, 160)
    with styled():
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        entries = []
        for words, (law, colour, dashes) in laws.items():
            (line,) = left.plot(fine, law.share(np.log(fine)), color=colour, linestyle=dashes, zorder=2)
            right.plot(
                fine, law.share(np.log(fine)) - flips.share(np.log(fine)), color=colour, linestyle=dashes, zorder=2
            )
            entries.append((line, words))
        points = list(zip(strides.tolist(), found.shares, strict=True))
        plot_measured(left, points, colour=GREY)
        exact = flips.share(np.log(strides)).tolist()
        moved = [
            (stride, type(share)(share.value - p, share.standard_error, share.n))
            for (stride, share), p in zip(points, exact, strict=True)
        ]
        plot_measured(right, moved, colour=GREY)
        entries.append((Line2D([], [], color=GREY, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
        left.set_xscale("log")
        left.set_xlim(fine[0], fine[-1])
        left.set_ylabel("share $P$ of patterns that change")
        right.set_ylabel("$P$ $-$ exact $P$")
        left.set_title(f"patterns of {CHANNELS} channels", fontweight="normal")
        right.set_title("distance from the exact law", fontweight="normal")
        for ax in (left, right):
            ax.set_xlabel("step [standard deviations]")
        legend_below(figure, entries, columns=4)
    return figure
