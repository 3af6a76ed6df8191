"""Networks under different orders and sizes of batches: how hot, how far apart their replicas, how wide the boundary.

Orders have a colour and a marker, the same in all panels; the larger the batches, the smaller the markers. Bars are
95 % intervals of means over seeds. What is not > 0 has no place on a logarithmic axis and is left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from figures.batch_orders import Look, logarithmic_ticks, looks_of
from figures.style import GREY, Entries, first_column, last_row, legend_below, panels, styled, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate

SIZES = (7.5, 5.0, 3.5, 2.5)
"""Of markers, from the smallest batches to the largest."""

TWO_DECADES = 100.0
"""A range below has more than one tick in a decade."""

BESIDE = 1.12
"""Room for markers on a logarithmic axis."""

COLDEST = 1e-4
"""Of the hottest one: temperatures below are left out, such as what rounding leaves of zero."""

MOST_PANELS = 6
"""Of one figure."""


@dataclass(frozen=True, eq=False)
class HotNetworks:
    """What one order with batches of one size did; estimates are means over seeds.

    Attributes:
        order: names it.
        batch_size: S.
        lags: n, ascending, shape (m,) [updates].
        temperature: T(n), m of them [loss].
        predicted: by linear theory, shape (m,).
        slow: the temperature by which conditions are compared [loss].
        distance: of two replicas, in training, at some epochs [weight^2].
        epochs: those, ascending.
        disagreement: share of different predictions at the end, in [0, 1].
        widths: stop -> width of the boundary; None where too few networks got there.
    """

    order: str
    batch_size: int
    lags: npt.NDArray[np.int64]
    temperature: Sequence[Estimate]
    predicted: Floats
    slow: Estimate
    epochs: npt.NDArray[np.int64]
    distance: Sequence[Estimate]
    disagreement: Estimate
    widths: Mapping[str, Estimate | None]

    def __post_init__(self) -> None:
        for times, name in (("lags", "temperature"), ("lags", "predicted"), ("epochs", "distance")):
            if len(getattr(self, times)) != len(getattr(self, name)):
                raise ValueError(
                    f"{self.order}, S={self.batch_size}: {name} must have one number for each of "
                    f"{len(getattr(self, times))} {times}"
                )


def _checked(networks: Sequence[HotNetworks]) -> tuple[dict[str, Look], dict[int, float]]:
    if not networks:
        raise ValueError("networks is empty: give at least one condition")
    looks = looks_of(dict.fromkeys(each.order for each in networks))
    sizes = sorted({each.batch_size for each in networks})
    return looks, {size: SIZES[min(i, len(SIZES) - 1)] for i, size in enumerate(sizes)}


def _legend(figure: Figure, looks: Mapping[str, Look], sizes: Mapping[int, float], more: Entries) -> None:
    entries: Entries = [
        (Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, linestyle=""), order)
        for order, look in looks.items()
    ]
    entries += [
        (Line2D([], [], color=GREY, marker="o", markersize=marker, linestyle=""), f"batches of {size}")
        for size, marker in sizes.items()
        if len(sizes) > 1
    ]
    legend_below(figure, entries + more, columns=4)


def _bars(estimates: Sequence[Estimate], *, positive: bool) -> tuple[Floats, Floats]:
    """Values and lengths of bars; on logarithmic axes bars end at a tenth of the value."""
    values = np.array([each.value for each in estimates])
    low, high = np.array([each.interval() for each in estimates]).T
    if positive:
        low = np.maximum(low, values / 10)
    return values, np.abs(np.stack([values - low, high - values]))


def _logarithmic_across(ax: Axes, values: Sequence[float]) -> None:
    low, high = logarithmic_ticks(ax.xaxis, values)
    if high / low < TWO_DECADES:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
    else:
        ax.xaxis.set_major_locator(LogLocator(numticks=6))
    ax.set_xlim(low / BESIDE, high * BESIDE)


def _logarithmic_up(ax: Axes, values: Sequence[float]) -> None:
    ax.set_yscale("log")
    ax.set_ylim(*logarithmic_ticks(ax.yaxis, values))


@styled()
def figure_heat(title: str, networks: Sequence[HotNetworks]) -> Figure:
    """A panel of T(n) against the lag for each batch size, lines for theory, and the distance of replicas in training.

    Args:
        title: names the training.
        networks: all conditions.

    Returns:
        The figure; the panels of temperatures share their axes.

    Raises:
        ValueError: without any condition.
    """
    looks, sizes = _checked(networks)
    shown = list(sizes)[: MOST_PANELS // 2]
    figure, axes = panels(2 * len(shown), sharex=False, sharey=False, extra_height=1.0)
    title_above(figure, title)
    hot = [value for each in networks for value in (*each.predicted, *(t.value for t in each.temperature))]
    hot = [value for value in hot if value > COLDEST * max(hot)]
    apart = [each.value for network in networks for each in network.distance if each.value > 0]
    for size, temperatures, distances in zip(shown, axes[: len(shown)], axes[len(shown) :], strict=True):
        for each in networks:
            if each.batch_size != size:
                continue
            look = looks[each.order]
            there = np.array([t.value > 0 for t in each.temperature])
            line = np.where(each.predicted >= min(hot, default=0.0), each.predicted, np.nan)
            temperatures.plot(each.lags, line, color=look.colour, linewidth=1.3, linestyle=look.style, zorder=2)
            if there.any():
                values, bars = _bars([t for t in each.temperature if t.value > 0], positive=True)
                temperatures.errorbar(
                    each.lags[there], values, yerr=bars, fmt=look.marker, color=look.colour, markersize=4, elinewidth=1
                )
            later = [i for i, d in enumerate(each.distance) if d.value > 0]
            if later:
                values, bars = _bars([each.distance[i] for i in later], positive=True)
                distances.fill_between(
                    each.epochs[later], values - bars[0], values + bars[1], color=look.colour, alpha=0.18, linewidth=0
                )
                distances.plot(
                    each.epochs[later], values, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.3
                )
        temperatures.set_title(f"temperature, batches of {size}", fontweight="normal")
        temperatures.set_xscale("log")
        temperatures.set_xlabel("lag [updates]")
        _logarithmic_across(temperatures, networks[0].lags.tolist())
        _logarithmic_up(temperatures, hot)
        distances.set_title(f"squared distance of replicas, batches of {size}", fontweight="normal")
        distances.set_xlabel("epoch")
        if apart:
            _logarithmic_up(distances, apart)
    axes[0].set_ylabel("T(n) [loss]")
    axes[len(shown)].set_ylabel("per weight")
    _legend(figure, looks, {}, [(Line2D([], [], color=GREY, linewidth=1.3), "linear theory (temperatures)")])
    return figure


@styled()
def figure_rises_with_heat(title: str, networks: Sequence[HotNetworks], width: str) -> Figure:
    """Distance of replicas, different predictions and the width at each stop, against the slow temperature.

    Args:
        title: names the training.
        networks: all conditions.
        width: what the widths are, for the label.

    Returns:
        The figure: one panel each, at most six.

    Raises:
        ValueError: without any condition, or if conditions have different stops.
    """
    looks, sizes = _checked(networks)
    stops = list(networks[0].widths)
    if any(list(each.widths) != stops for each in networks):
        raise ValueError("networks must all have the same stops, in the same order")
    quantities: list[tuple[str, str, Callable[[HotNetworks], Estimate | None]]] = [
        ("distance of replicas", "per weight", lambda each: each.distance[-1]),
    ]
    quantities += [(stop, width, lambda each, stop=stop: each.widths[stop]) for stop in stops]
    quantities = quantities[:MOST_PANELS]
    figure, axes = panels(len(quantities), sharex=True, sharey=False, extra_height=1.0)
    title_above(figure, title)
    for place, (ax, (name, label, of)) in enumerate(zip(axes, quantities, strict=True)):
        found = [(each, value) for each in networks if each.slow.value > 0 and (value := of(each)) is not None]
        logarithmic = place == 0 and all(value.value > 0 for _, value in found)
        for each, value in found:
            _point(ax, looks[each.order], sizes[each.batch_size], each.slow, value, logarithmic)
        ax.set_xscale("log")
        if found:
            _logarithmic_across(ax, [each.slow.value for each, _ in found])
        if logarithmic and found:
            _logarithmic_up(ax, [end for _, value in found for end in (value.value, value.interval()[1])])
        ax.set_title(name, fontweight="normal")
        if ax in first_column(axes) or place == 1:
            ax.set_ylabel(label)
    for ax in last_row(axes):
        ax.set_xlabel("slow temperature [loss]")
    _legend(figure, looks, sizes, [])
    return figure


def _point(ax: Axes, look: Look, size: float, across: Estimate, up: Estimate, logarithmic: bool) -> None:
    _, horizontal = _bars([across], positive=True)
    _, vertical = _bars([up], positive=logarithmic)
    if not math.isfinite(up.value):
        return
    ax.errorbar(
        across.value, up.value, xerr=horizontal, yerr=vertical, fmt=look.marker, color=look.colour, markersize=size,
        elinewidth=1,
    )  # fmt: skip
