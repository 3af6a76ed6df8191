"""How hot gradient noise is for slow and for fast motion: effective temperatures against frequency and against lag.

Spectra are drawn on logarithmic axes, where temperature zero has no place; temperatures at lags on linear ones, because
they may be negative. Orders keep their colour and marker in all panels. Where a spectrum goes up and down faster than
can be drawn, its mean and its range are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from figures.batch_orders import Look, logarithmic_ticks, looks_of, number, tick_labels
from figures.perturbation import plot_measured
from figures.style import GREY, INK, Entries, first_column, legend_below, panels, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate

COLDEST = 1e-3
"""The axis of spectra ends at this fraction of the temperature of white noise."""

FEW_LAGS = 30
"""Up to so many lags are dots on their line."""

RESOLVED = 0.015
"""Peaks and troughs of a spectrum that are nearer than this, in decades of frequency, cannot be told apart."""

BIN = 0.05
"""Width of the bins of their mean and range, in decades."""

LARGE = 1.5
"""What varies by less than this factor needs no range."""

_WHITE: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": "--", "zorder": 2}


@dataclass(frozen=True, eq=False)
class LagTemperatures:
    """Temperatures of one mode under one order.

    Attributes:
        lags: n, whole numbers >= 1, ascending, shape (n,) [updates].
        exact: T_eff(n), finite, shape (n,).
        simulated: (lag, simulated temperature); those beyond the last lag of the line are counted, not drawn.

    Example:
        >>> content = LagTemperatures(np.arange(1, 11), np.linspace(1.0, 0.1, 10))
        >>> int(content.lags[-1]), float(content.exact[-1])
        (10, 0.1)
    """

    lags: npt.NDArray[np.int64]
    exact: Floats
    simulated: Sequence[tuple[float, Estimate]] = ()

    def __post_init__(self) -> None:
        lags, exact = np.asarray(self.lags), np.asarray(self.exact, dtype=float)
        if lags.ndim != 1 or not len(lags) or lags.dtype.kind not in "iu" or lags[0] < 1 or (np.diff(lags) <= 0).any():
            raise ValueError(f"lags of shape {lags.shape} must be whole numbers >= 1, ascending, at least one")
        if exact.shape != lags.shape or not np.isfinite(exact).all():
            raise ValueError(f"exact of shape {exact.shape} must be finite numbers, one for each of {len(lags)} lags")
        object.__setattr__(self, "lags", lags)
        object.__setattr__(self, "exact", exact)


@styled()
def figure_effective_temperature(
    title: str,
    frequencies: Floats,
    spectra: Mapping[str, Floats],
    modes: Mapping[str, Mapping[str, LagTemperatures]],
    *,
    white: float,
    lines: Mapping[str, Floats] | None = None,
    y_label: str = "effective temperature",
) -> Figure:
    """T_eff against frequency, the same for all modes, and against lag, a panel for each mode.

    Args:
        title: names the training.
        frequencies: omega, > 0 and ascending, shape (n,) [radians per update]; so dense that every peak has some.
        spectra: order -> T_eff(omega) >= 0, finite, shape (n,).
        modes: heading of a panel -> order -> temperatures of that mode; orders are among those of the spectra.
        white: temperature of independent batches, > 0, a reference in all panels.
        lines: order -> frequencies of the lines of its spectrum, infinitely hot; marked at the upper edge.
        y_label: with its unit.

    Returns:
        The figure.

    Raises:
        ValueError: for frequencies or spectra out of range, an order without a spectrum, no orders, or white <= 0.

    Example:
        >>> content = LagTemperatures(np.arange(1, 11), np.linspace(1.0, 0.1, 10))
        >>> frequencies = np.linspace(0.01, np.pi, 50)
        >>> spectra, modes = {"reshuffled": frequencies / np.pi}, {"curvature 1": {"reshuffled": content}}
        >>> figure = figure_effective_temperature("SGD", frequencies, spectra, modes, white=1.0)
        >>> len(figure.axes)
        2
    """
    frequencies = np.asarray(frequencies, dtype=float)
    if frequencies.ndim != 1 or len(frequencies) < 2 or not (frequencies[0] > 0 and (np.diff(frequencies) > 0).all()):
        raise ValueError(f"frequencies of shape {frequencies.shape} must be at least two, > 0 and ascending")
    if not spectra:
        raise ValueError("spectra is empty: give at least one order")
    for order, values in spectra.items():
        y = np.asarray(values, dtype=float)
        if y.shape != frequencies.shape or not (np.isfinite(y) & (y >= 0)).all():
            raise ValueError(
                f"spectra[{order!r}] must be finite, >= 0 and one for each of {len(frequencies)} frequencies"
            )
    strangers = [order for mode in modes.values() for order in mode if order not in spectra]
    if strangers:
        raise ValueError(f"modes name the order {strangers[0]!r}, which has no spectrum")
    if not (white > 0 and math.isfinite(white)):
        raise ValueError(f"white={white} must be finite and > 0")
    figure, axes = panels(1 + len(modes), sharex=False, sharey=False, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(spectra)
    ranges = _plot_spectra(axes[0], frequencies, spectra, white, looks, lines or {})
    for ax, (heading, orders) in zip(axes[1:], modes.items(), strict=True):
        _lag_axes(ax, list(orders.values()), white)
        ax.axhline(white, **_WHITE)
        for order, content in orders.items():
            look = looks[order]
            dots: dict[str, Any] = {"marker": ".", "markersize": 4} if len(content.lags) <= FEW_LAGS else {}
            ax.plot(content.lags, content.exact, color=look.colour, linewidth=look.width, zorder=3, **dots)
            plot_measured(ax, _within(content), colour=look.colour, marker=look.marker)
        ax.set_title(heading)
        ax.set_xlabel("lag n [updates]")
    for ax in first_column(axes):
        ax.set_ylabel(y_label)
    contents = [(order, content) for mode in modes.values() for order, content in mode.items()]
    simulated = {order for order, content in contents if _within(content)}
    hidden = sum(lag > content.lags[-1] for _, content in contents for lag, _ in content.simulated)
    entries = _legend(spectra, looks, simulated, ranges, set(lines or {}), hidden, white)
    legend_below(figure, entries, columns=2)
    return figure


def _within(content: LagTemperatures) -> list[tuple[float, Estimate]]:
    """The simulated points along the line."""
    return [(lag, e) for lag, e in content.simulated if lag <= content.lags[-1] and math.isfinite(e.value)]


def _plot_spectra(
    ax: Axes,
    frequencies: Floats,
    spectra: Mapping[str, Floats],
    white: float,
    looks: Mapping[str, Look],
    lines: Mapping[str, Floats],
) -> set[str]:
    """Draw the first panel; the orders of which a range is drawn."""
    drawn = np.concatenate([np.asarray(values)[np.asarray(values) > 0] for values in spectra.values()])
    ends = [max(end, COLDEST * white) for end in (white, *drawn)]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(frequencies[0], frequencies[-1])
    ax.set_ylim(*logarithmic_ticks(ax.yaxis, [min(ends), max(ends)], most=6))
    ax.xaxis.set_major_locator(LogLocator(numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(number))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.axhline(white, **_WHITE)
    ranges = set()
    for order, values in spectra.items():
        look = looks[order]
        positive = np.where(np.asarray(values) > 0, values, np.nan)
        first = _unresolved(frequencies, np.asarray(values))
        style: dict[str, Any] = {"color": look.colour, "linewidth": look.width, "zorder": 3}
        ax.plot(frequencies[: first + 1], positive[: first + 1], **style)
        if first < len(frequencies) - 1:
            centres, mean, low, high = _in_bins(frequencies[first:], np.asarray(values)[first:])
            low = np.maximum(low, COLDEST**2 * white)  # temperature zero has no place
            ax.fill_between(centres, low, high, color=tint(look.colour, 0.18), linewidth=0, zorder=1.5)
            ax.plot(np.append(frequencies[first], centres), np.append(positive[first], mean), **style)
            ranges.add(order)
        if order in lines:
            at = np.asarray(lines[order], dtype=float)
            shown = at[(at >= frequencies[0]) & (at <= frequencies[-1])]
            marks: dict[str, Any] = {"marker": "|", "markersize": 7, "linestyle": "", "zorder": 4}
            ax.plot(shown, np.full(len(shown), 0.98), color=look.colour, transform=ax.get_xaxis_transform(), **marks)
    ax.set_title("all curvatures")
    ax.set_xlabel("frequency ω [radians per update]")
    return ranges


def _unresolved(frequencies: Floats, values: Floats) -> int:
    """Index from which on peaks and troughs are too near to be drawn; the last one if there is no such."""
    slopes = np.sign(np.diff(values))
    turns = 1 + np.flatnonzero(slopes[1:] * slopes[:-1] < 0)
    near = np.flatnonzero(np.diff(np.log10(frequencies[turns])) < RESOLVED)
    if not near.size:
        return len(frequencies) - 1
    first = int(turns[near[0]])
    rest = values[first:]
    return first if rest.max() > LARGE * rest.min() else len(frequencies) - 1


def _in_bins(frequencies: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Frequencies in the middle of bins on a logarithmic axis, the mean, and the lowest and highest value in them."""
    count = max(int(math.log10(frequencies[-1] / frequencies[0]) / BIN), 1)
    edges = np.geomspace(frequencies[0], frequencies[-1], count + 1)
    places = np.searchsorted(frequencies, edges[:-1])
    steps = np.diff(frequencies) * (values[1:] + values[:-1]) / 2
    integral = np.interp(edges, frequencies, np.append(0.0, np.cumsum(steps)))
    middle = np.sqrt(edges[1:] * edges[:-1])
    low, high = np.minimum.reduceat(values, places), np.maximum.reduceat(values, places)
    return middle, np.diff(integral) / np.diff(edges), low, high


def _lag_axes(ax: Axes, contents: Sequence[LagTemperatures], white: float) -> None:
    """Room for the lines, for white noise, and for the simulated points along the lines."""
    shown = [0.0, white, *(float(value) for content in contents for value in content.exact)]
    last = max((int(content.lags[-1]) for content in contents), default=1)
    for content in contents:
        for _, estimate in _within(content):
            shown += estimate.interval()
    low, high = min(shown), max(shown)
    room = 0.06 * (high - low)
    ax.set_ylim(low - (room if low < 0 else 0.0), high + room)
    ax.set_xlim(1 - 0.04 * last, last + 0.04 * last)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True) if last > 3 else FixedLocator([1, 2, 3]))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    size = max(high, -low)
    ax.yaxis.set_major_formatter(FuncFormatter(tick_labels(size, size)))


def _legend(
    spectra: Mapping[str, Floats],
    looks: Mapping[str, Look],
    simulated: set[str],
    ranges: set[str],
    lines: set[str],
    hidden: int,
    white: float,
) -> Entries:
    entries: Entries = []
    for order, look in looks.items():
        line = Line2D([], [], color=look.colour, linewidth=look.width)
        point = Line2D([], [], **look.points)
        words = order
        if order in lines:
            words += " (lines, infinitely hot: marks at the top)"
        elif not (np.asarray(spectra[order]) > 0).any():
            words += " (its spectrum is single lines)"
        elif order in ranges:
            words += " (peaks: mean and range)"
        entries.append(((line, point) if order in simulated else line, words))
    entries.append((Line2D([], [], **_WHITE), f"independent batches: {white:.4g}"))
    if simulated:
        entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
    if hidden:
        entries.append((Line2D([], [], linestyle=""), f"{hidden} simulated points beyond the lines not drawn"))
    return entries
