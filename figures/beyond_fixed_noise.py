"""Where theory with fixed noise and the Hessian stops: flat directions that rise again, and ReLUs that stiffen.

Derived and measured for jostle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.batch_orders import logarithmic_ticks, looks_of
from figures.perturbation import plot_measured
from figures.style import GREY, INK, PALE, Entries, legend_below, panels, plain, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate


@styled()
def figure_second_crossover(
    title: str,
    curvature: Floats,
    predicted: tuple[Floats, Floats],
    simulated: Mapping[str, Sequence[tuple[float, Estimate]]],
    networks: Mapping[str, Estimate],
    *,
    crossovers: tuple[float, float],
) -> Figure:
    """Weight variances over those of fixed noise, simulated in least squares; and the rise in networks over theory.

    Args:
        title: of the figure.
        curvature: > 0, ascending, shape (n,).
        predicted: bounds of the ratio there with the noise that depends on the weights, shape (n,) each.
        simulated: words for the noise -> (curvature, ratio).
        networks: name -> measured rise over that of theory; 1 is as predicted.
        crossovers: the first and the second crossover curvature of the simulation.

    Returns:
        The figure.

    Raises:
        ValueError: for shapes that do not fit, or nothing to draw.
    """
    curvature = np.asarray(curvature, dtype=float)
    if {np.shape(bound) for bound in predicted} != {curvature.shape} or not simulated or not networks:
        raise ValueError("give two bounds for each curvature, a simulation and a network")
    figure, (left, right) = panels(2, sharex=False, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    band: dict[str, Any] = {"facecolor": PALE, "edgecolor": GREY, "linewidth": 0.8}
    left.fill_between(curvature, *predicted, **band, zorder=2)
    left.axhline(1, color=GREY, linewidth=1.0, linestyle="--", zorder=1.5)
    entries: Entries = [(Patch(**band), "theory, noise that depends on the weights")]
    ends = [1.0, *predicted[0], *predicted[1]]
    for words, look in looks_of(simulated).items():
        plot_measured(left, simulated[words], colour=look.colour, marker=look.marker)
        ends += [end for _, estimate in simulated[words] for end in estimate.interval() if end > 0]
        entries.append((Line2D([], [], **look.points), words))
    for at, style, words in zip(crossovers, (":", "-."), ("crossover", "second crossover"), strict=True):
        left.axvline(at, color=GREY, linewidth=1.2, linestyle=style, zorder=1.5)
        entries.append((Line2D([], [], color=GREY, linewidth=1.2, linestyle=style), f"{words} curvature {at:.2g}"))
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlim(*logarithmic_ticks(left.xaxis, [*curvature, *crossovers], most=6))
    left.set_ylim(*logarithmic_ticks(left.yaxis, ends))
    left.set_xlabel(r"curvature $\lambda$")
    left.set_ylabel("weight variance over that of fixed noise")
    left.set_title("linear regression, simulated")
    for place, (look, estimate) in enumerate(zip(looks_of(networks).values(), networks.values(), strict=True)):
        plot_measured(right, [(place, estimate)], colour=look.colour, marker=look.marker)
    right.axhline(1, color=GREY, linewidth=1.0, linestyle="--", zorder=1.5)
    right.set_xlim(-0.6, len(networks) - 0.4)
    right.set_ylim(0, 1.15 * max(1.0, *(estimate.interval()[1] for estimate in networks.values())))
    right.xaxis.set_major_locator(FixedLocator(range(len(networks))))
    right.xaxis.set_major_formatter(FuncFormatter(lambda at, _: list(networks)[round(at)]))
    right.set_ylabel("measured rise over that of theory")
    right.set_title("networks, measured (95 %)")
    legend_below(figure, entries, columns=2)
    return figure


@dataclass(frozen=True, eq=False)
class Stiffness:
    """Slope of the gradient over a displacement, beside the Hessian.

    Attributes:
        displacement: in standard deviations of the direction, > 0 and ascending, shape (n,).
        median: over flat directions, slope over curvature of the Hessian minus one, shape (n,).
        first_quartile: likewise.
        third_quartile: likewise.
    """

    displacement: Floats
    median: Floats
    first_quartile: Floats
    third_quartile: Floats

    def __post_init__(self) -> None:
        shapes = {np.shape(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"displacement, median and quartiles must have one shape (n,), not {sorted(shapes)}")


@styled()
def figure_stiffness(title: str, orders: Mapping[str, Stiffness]) -> Figure:
    """How much stiffer than its Hessian a network is, against the displacement over which that is asked.

    Args:
        title: names the network.
        orders: of the batches under which the weights moved -> stiffness.

    Returns:
        The figure.

    Raises:
        ValueError: without any order.
    """
    if not orders:
        raise ValueError("orders is empty: give at least one")
    figure, (ax,) = panels(1, extra_height=0.6)
    entries: Entries = []
    for words, look in looks_of(orders).items():
        each = orders[words]
        band = (100 * each.first_quartile, 100 * each.third_quartile)
        ax.fill_between(each.displacement, *band, color=tint(look.colour, 0.2), alpha=0.7, linewidth=0, zorder=2)
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.style, "marker": look.marker, "markersize": 6}
        ax.plot(each.displacement, 100 * each.median, **style, markeredgecolor="white", zorder=3)
        entries.append((Line2D([], [], **style), f"at weights of runs, batches {words}"))
    ax.axhline(0, color=GREY, linewidth=1.0, zorder=1.5)
    ax.set_xscale("log")
    places = sorted({float(at) for each in orders.values() for at in each.displacement})
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0f} %" if value else "0"))
    ax.set_xlabel("displacement [standard deviations of the weight along the direction]")
    ax.set_ylabel("stiffness beside the Hessian")
    ax.set_title(title)
    entries.append((Line2D([], [], color=tint(INK, 0.25), linewidth=7), "quartiles over directions; lines: medians"))
    legend_below(figure, entries, columns=2)
    return figure
