"""How hot gradient noise is for slow and for fast motion: effective temperatures against frequency and against lag.

Spectra are drawn on logarithmic axes, where temperature zero has no place; temperatures at lags on linear ones, because
they may be negative. Orders keep their colour and marker in all panels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from figures.perturbation import plot_measured
from figures.style import GREY, INK, colours_of, first_column, legend_below, panels, plain, styled
from theory.estimate import Estimate

Floats = npt.NDArray[np.float64]

MARKERS = ("o", "s", "D", "^", "v", "P")
"""Of simulated points, by the place of their order: colours alone would not tell them apart."""

COLDEST = 1e-3
"""The axis of spectra ends at this fraction of the temperature of white noise."""

FEW_LAGS = 30
"""Up to so many lags are dots on their line."""

_WHITE: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": "--", "zorder": 2}


@dataclass(frozen=True, eq=False)
class LagTemperatures:
    """Temperatures of one mode under one order.

    Attributes:
        lags: n, whole numbers >= 1, ascending, shape (n,) [updates].
        exact: T_eff(n), finite, shape (n,).
        simulated: (lag, simulated temperature); those beyond the last lag of the line are drawn if they fit.
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
    y_label: str = "effective temperature",
) -> Figure:
    """T_eff against frequency, the same for all modes, and against lag, a panel for each mode.

    Args:
        title: names the training.
        frequencies: omega, > 0 and ascending, shape (n,) [radians per update].
        spectra: order -> T_eff(omega) >= 0, finite, shape (n,).
        modes: heading of a panel -> order -> temperatures of that mode; orders are among those of the spectra.
        white: temperature of independent batches, > 0, a reference in all panels.
        y_label: with its unit.

    Returns:
        The figure.

    Raises:
        ValueError: for frequencies or spectra out of range, an order without a spectrum, no orders, or white <= 0.
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
    figure.suptitle(title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
    colours = colours_of(spectra)
    markers = {order: MARKERS[i % len(MARKERS)] for i, order in enumerate(spectra)}
    _plot_spectra(axes[0], frequencies, spectra, white, colours)
    for ax, (heading, orders) in zip(axes[1:], modes.items(), strict=True):
        _lag_axes(ax, list(orders.values()), white)
        ax.axhline(white, **_WHITE)
        for place, (order, content) in enumerate(orders.items()):
            dots: dict[str, Any] = {"marker": ".", "markersize": 4} if len(content.lags) <= FEW_LAGS else {}
            ax.plot(
                content.lags,
                content.exact,
                color=colours[order],
                linewidth=_width(place, len(orders)),
                zorder=3,
                **dots,
            )
            plot_measured(ax, content.simulated, colour=colours[order], marker=markers[order])
        ax.set_title(heading)
        ax.set_xlabel("lag n [updates]")
    for ax in first_column(axes):
        ax.set_ylabel(y_label)
    simulated = {order for mode in modes.values() for order, content in mode.items() if content.simulated}
    legend_below(figure, _legend(spectra, colours, markers, simulated, white), columns=2)
    return figure


def _plot_spectra(
    ax: Axes, frequencies: Floats, spectra: Mapping[str, Floats], white: float, colours: Mapping[str, str]
) -> None:
    drawn = np.concatenate([np.asarray(values)[np.asarray(values) > 0] for values in spectra.values()])
    low, high = min([white, *drawn]), max([white, *drawn])
    low = max(low, COLDEST * white)
    room = max((high / low) ** 0.05, 4 / (high / low) ** 0.5)  # for more than a decade, which has ticks
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(frequencies[0], frequencies[-1])
    ax.set_ylim(low / room, high * room)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_major_formatter(FuncFormatter(plain))
        axis.set_minor_locator(NullLocator())
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    ax.axhline(white, **_WHITE)
    for place, (order, values) in enumerate(spectra.items()):
        positive = np.where(np.asarray(values) > 0, values, np.nan)
        ax.plot(frequencies, positive, color=colours[order], linewidth=_width(place, len(spectra)), zorder=3)
    ax.set_title("all curvatures")
    ax.set_xlabel("frequency ω [radians per update]")


def _lag_axes(ax: Axes, contents: Sequence[LagTemperatures], white: float) -> None:
    """Room for the lines, for white noise, and for the simulated points along the lines."""
    shown = [0.0, white, *(float(value) for content in contents for value in content.exact)]
    last = max((int(content.lags[-1]) for content in contents), default=1)
    for content in contents:
        for lag, estimate in content.simulated:
            if lag <= last and math.isfinite(estimate.value):
                shown += estimate.interval()
    low, high = min(shown), max(shown)
    room = 0.06 * (high - low)
    ax.set_ylim(low - (room if low < 0 else 0.0), high + room)
    ax.set_xlim(1 - 0.04 * last, last + 0.04 * last)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True) if last > 3 else FixedLocator([1, 2, 3]))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))


def _width(place: int, places: int) -> float:
    """Later lines are thinner: where orders do the same, all their colours are seen."""
    return 1.8 if places == 1 else 2.8 - 1.6 * place / (places - 1)


def _legend(
    spectra: Mapping[str, Floats],
    colours: Mapping[str, str],
    markers: Mapping[str, str],
    simulated: set[str],
    white: float,
) -> list[tuple[Artist | tuple[Artist, ...], str]]:
    entries: list[tuple[Artist | tuple[Artist, ...], str]] = []
    for order, values in spectra.items():
        line = Line2D([], [], color=colours[order])
        point = Line2D([], [], color=colours[order], marker=markers[order], markersize=5, linestyle="")
        words = order if (np.asarray(values) > 0).any() else f"{order} (its spectrum is single lines)"
        entries.append(((line, point) if order in simulated else line, words))
    entries.append((Line2D([], [], **_WHITE), f"independent batches: {white:.4g}"))
    if simulated:
        entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), "simulated (95 %)"))
    return entries
