"""How fluctuations of weights follow theory when the learning rate, momentum or batch size changes.

Reference: [kuhn2023] the scans over batch size, learning rate and momentum
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from figures.batch_orders import logarithmic_ticks, looks_of, number
from figures.measured_weight_variance import plot_directions
from figures.perturbation import plot_measured
from figures.style import COLOURS, GREY, INK, Entries, first_column, legend_below, panels, plain, styled, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate

SIDES = ("above", "below")
"""Of the crossover curvature."""

WIDE = 4.0
"""Values of a hyper-parameter that span more than this factor get a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class ScannedPoint:
    """The experiment at one value of a hyper-parameter.

    Attributes:
        value: of the hyper-parameter.
        curvature: lambda > 0 of the directions, shape (k,).
        correlation_time: measured, k of them [updates].
        line: curvatures, ascending, and the correlation time that theory expects there.
        above: median of measured / predicted weight variance - 1 above the crossover curvature; None without any.
        below: likewise below it.
    """

    value: float
    curvature: Floats
    correlation_time: Sequence[Estimate]
    line: tuple[Floats, Floats]
    above: Estimate | None
    below: Estimate | None

    def __post_init__(self) -> None:
        curvature = np.asarray(self.curvature, dtype=float)
        if curvature.shape != (len(self.correlation_time),) or not (curvature > 0).all() or not len(curvature):
            raise ValueError(f"value={self.value:g}: give a curvature > 0 for each correlation time, at least one")
        if len(self.line[0]) != len(self.line[1]):
            raise ValueError(f"value={self.value:g}: line must have as many correlation times as curvatures")
        object.__setattr__(self, "curvature", curvature)


@styled()
def figure_scanned_times(title: str, scans: Mapping[str, Sequence[ScannedPoint]]) -> Figure:
    """Correlation time against the curvature, a panel for each hyper-parameter, a colour for each of its values.

    Args:
        title: names the network and the order of batches.
        scans: name of a hyper-parameter -> its values, ascending.

    Returns:
        The figure.

    Raises:
        ValueError: without any scan.
    """
    _check(scans)
    figure, axes = panels(len(scans), extra_height=0.9)
    title_above(figure, title)
    points = [point for found in scans.values() for point in found]
    times = [e.value for point in points for e in point.correlation_time if e.value > 0]
    times += [value for point in points for value in point.line[1].tolist()]
    curvatures = [at for point in points for at in point.curvature]
    for ax, (name, found) in zip(axes, scans.items(), strict=True):
        looks = looks_of(f"{point.value:g}" for point in found)
        handles = []
        for point in found:
            look = looks[f"{point.value:g}"]
            x, y = point.line
            ax.plot(x, y, **look.line, zorder=3)
            everywhere = np.ones(len(point.curvature), bool)
            plot_directions(ax, point.curvature, point.correlation_time, everywhere, look)
            line = Line2D([], [], color=look.colour, linestyle=look.style, marker=look.marker, markersize=5)
            line.set_label(f"{point.value:g}")
            handles.append(line)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(*logarithmic_ticks(ax.xaxis, curvatures, most=6))
        ax.set_ylim(*logarithmic_ticks(ax.yaxis, times))
        ax.set_title(name, fontweight="normal")
        ax.set_xlabel(r"curvature $\lambda$")
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, columnspacing=1.2)
    for ax in first_column(axes):
        ax.set_ylabel("correlation time [updates]")
    words = "points: measured (95 %); lines: theory, for recordings as long as these"
    legend_below(figure, [(Line2D([], [], color=INK, marker="o", markersize=5), words)], columns=1)
    return figure


@styled()
def figure_scanned_deviations(title: str, scans: Mapping[str, Sequence[ScannedPoint]]) -> Figure:
    """How far weight variances are from theory at each value of each hyper-parameter, above and below the crossover.

    Args:
        title: names the network and the order of batches.
        scans: name of a hyper-parameter -> its values, ascending.

    Returns:
        The figure.

    Raises:
        ValueError: without any scan.
    """
    _check(scans)
    figure, axes = panels(len(scans), sharex=False, extra_height=0.9)
    title_above(figure, title)
    for ax, (name, found) in zip(axes, scans.items(), strict=True):
        ax.axhline(0, color=GREY, linewidth=1.2, zorder=1.5)
        _value_axis(ax, [point.value for point in found])
        low, high = ax.get_xlim()
        for side, colour, marker, shift in zip(SIDES, COLOURS, "os", (-0.008, 0.008), strict=False):
            # Beside each other, by the same distance on either axis.
            logarithmic = ax.get_xscale() == "log"
            values = [point.value for point in found]
            places = [v * (high / low) ** shift if logarithmic else v + shift * (high - low) for v in values]
            medians = [(at, getattr(point, side)) for at, point in zip(places, found, strict=True)]
            plot_measured(ax, [(at, e) for at, e in medians if e is not None], colour=colour, marker=marker)
        ax.set_xlabel(name)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number(100 * value)} %"))
    for ax in first_column(axes):
        ax.set_ylabel("weight variance beside theory")
    entries: Entries = [
        (
            Line2D([], [], color=colour, marker=marker, markersize=5, linestyle=""),
            f"{side} the crossover curvature: median over directions (95 %)",
        )
        for side, colour, marker in zip(SIDES, COLOURS, "os", strict=False)
    ]
    legend_below(figure, entries, columns=1)
    return figure


def _check(scans: Mapping[str, Sequence[ScannedPoint]]) -> None:
    if not scans or not all(scans.values()):
        raise ValueError("scans is empty: give at least one hyper-parameter with at least one value")


def _value_axis(ax: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high > WIDE * low:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.3, high * 1.3)
    else:
        room = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
        ax.set_xlim(low - room, high + room)
    ax.xaxis.set_major_locator(FixedLocator(list(values)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    ax.xaxis.set_minor_formatter(NullFormatter())
