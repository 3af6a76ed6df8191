"""Measured fluctuations of a network's weights, direction by direction, beside theory.

Directions whose curvature is not > 0 have no place on logarithmic axes, and no stationary variance; they are left out,
and the figure says how many. What theory does not claim to describe has open markers.

Reference: [kuhn2023] the three quantities against the curvature, measured in LeNet
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

from figures.batch_orders import Look, logarithmic_ticks, looks_of
from figures.style import GREY, INK, Entries, first_column, last_row, legend_below, panels, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate
from theory.weight_variance import ModeVariances

FEW = 60
"""Directions of an order up to which points are large."""

_QUANTITIES = ("weight", "velocity", "correlation_time")
_VERTICAL: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": ":"}
_LIMIT: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": (0, (5, 2.5))}
_BAR = 10
"""Of a bar, what is lower than its point by more than this factor is not shown."""


@dataclass(frozen=True, eq=False)
class MeasuredVariances:
    """What one order of batches did, in k directions.

    Attributes:
        label: of the order.
        curvature: lambda > 0, shape (k,).
        weight: measured Var(theta).
        velocity: measured Var(v).
        correlation_time: measured 2 Var(theta) / Var(v) [updates].
        predicted: the same by theory, shape (k,).
        unit: eta^2 sigma^2 of each direction, > 0, shape (k,).
        inside: whether theory claims to describe a direction, shape (k,).
        left_out: directions that are not here.
    """

    label: str
    curvature: Floats
    weight: Sequence[Estimate]
    velocity: Sequence[Estimate]
    correlation_time: Sequence[Estimate]
    predicted: ModeVariances
    unit: Floats
    inside: npt.NDArray[np.bool_]
    left_out: int = 0

    def __post_init__(self) -> None:
        curvature = np.asarray(self.curvature, dtype=float)
        if curvature.ndim != 1 or not len(curvature) or not ((curvature > 0) & np.isfinite(curvature)).all():
            raise ValueError(f"{self.label}: curvature must be finite and > 0, at least one in one dimension")
        unit = np.asarray(self.unit, dtype=float)
        sizes = {
            *(len(getattr(self, name)) for name in _QUANTITIES),
            len(self.predicted.weight),
            len(unit),
            len(self.inside),
        }
        if sizes != {len(curvature)}:
            raise ValueError(f"{self.label}: give one of each for every one of {len(curvature)} directions")
        if not (unit > 0).all():
            raise ValueError(f"{self.label}: unit must be > 0: a direction needs noise to be drawn")
        object.__setattr__(self, "curvature", curvature)
        object.__setattr__(self, "unit", unit)
        object.__setattr__(self, "inside", np.asarray(self.inside, dtype=bool))


@dataclass(frozen=True)
class Limits:
    """What theory says of reshuffled batches far from the crossover curvature, in units of eta^2 sigma^2.

    Attributes:
        learning_rate: eta.
        momentum: beta.
        batches_per_epoch: M.
        crossover: 3 (1 - beta) / (eta M).
    """

    learning_rate: float
    momentum: float
    batches_per_epoch: int
    crossover: float

    def steep(self, quantity: str, curvature: Floats) -> Floats:
        """Above the crossover, where batches with and without replacement do the same."""
        rest = 1 - self.momentum
        values = {
            "weight": 1 / (2 * self.learning_rate * curvature * rest),
            "velocity": np.full_like(curvature, 1 / (rest * (1 + self.momentum))),
            "correlation_time": (1 + self.momentum) / (self.learning_rate * curvature),
        }
        return values[quantity]

    def flat(self, quantity: str) -> float:
        """Below the crossover: the plateau of batches without replacement."""
        rest = 1 - self.momentum
        values = {
            "weight": self.batches_per_epoch / (6 * rest**2),
            "velocity": 1 / (rest * (1 + self.momentum)),
            "correlation_time": self.batches_per_epoch * (1 + self.momentum) / (3 * rest),
        }
        return values[quantity]


@styled()
def figure_measured_variances(title: str, orders: Sequence[MeasuredVariances], *, crossover: float) -> Figure:
    """Weight and velocity variance against the curvature as they are, with theory through the points.

    Args:
        title: names the network.
        orders: of batches.
        crossover: the crossover curvature, > 0.

    Returns:
        The figure. Theory is not smooth: each direction has noise of its own strength.

    Raises:
        ValueError: without any order.
    """
    _check(orders)
    figure, axes = panels(2, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(each.label for each in orders)
    labels = (r"weight variance $\sigma_\theta^2$", r"velocity variance $\sigma_v^2$")
    for ax, quantity, label in zip(axes, _QUANTITIES, labels, strict=False):
        for each in orders:
            look, rows = looks[each.label], np.argsort(each.curvature)
            values = getattr(each.predicted, quantity)[rows]
            ax.plot(
                each.curvature[rows],
                values,
                color=look.colour,
                linewidth=0.55 * look.width,
                linestyle=look.style,
                zorder=3.5,
            )
            _points(ax, each, quantity, look)
        lines = [(each.curvature, getattr(each.predicted, quantity)) for each in orders]
        _scale(ax, orders, quantity, lines, crossover)
        ax.set_xlabel(r"curvature $\lambda$")
        ax.set_ylabel(label)
    legend_below(figure, _entries(orders, looks, crossover, "theory, with the noise of each direction"), columns=2)
    return figure


@styled()
def figure_scaled_variances(
    title: str,
    orders: Sequence[MeasuredVariances],
    lines: Mapping[str, tuple[Floats, ModeVariances]],
    limits: Limits,
) -> Figure:
    """Weight and velocity variance in units of eta^2 sigma^2 of each direction, and the correlation time.

    Args:
        title: names the network.
        orders: of batches.
        lines: label of an order -> curvatures, ascending, and what theory expects there.
        limits: of reshuffled batches.

    Returns:
        The figure: all directions fall on one line for each order.

    Raises:
        ValueError: without any order, or if one has no line.
    """
    _check(orders)
    if missing := [each.label for each in orders if each.label not in lines]:
        raise ValueError(f"lines has none for {missing[0]}")
    figure, axes = panels(3, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(each.label for each in orders)
    y_labels = (
        r"weight variance / ($\eta^2\sigma^2$)",
        r"velocity variance / ($\eta^2\sigma^2$)",
        "correlation time [updates]",
    )
    for ax, quantity, label in zip(axes, _QUANTITIES, y_labels, strict=True):
        of_quantity = [(x, np.asarray(getattr(values, quantity))) for x, values in lines.values()]
        for each in orders:
            look = looks[each.label]
            x, values = lines[each.label]
            ax.plot(x, getattr(values, quantity), **look.line, zorder=3)
            _points(ax, each, quantity, look, scaled=True)
        _scale(ax, orders, quantity, of_quantity, limits.crossover, scaled=True)
        bottom, top = ax.get_ylim()
        x = np.geomspace(*ax.get_xlim(), 50)
        steep = limits.steep(quantity, x)
        shown = (steep >= bottom) & (steep <= top)
        ax.plot(x[shown], steep[shown], **_LIMIT, zorder=3.2)
        flat = limits.flat(quantity)
        if bottom < flat < top and quantity != "velocity":
            ax.axhline(flat, **_LIMIT, zorder=3.2)
        ax.set_xlabel(r"curvature $\lambda$")
        ax.set_ylabel(label)
    entries = _entries(orders, looks, limits.crossover, "theory, for recordings as long")
    entries.append((Line2D([], [], **_LIMIT), "limits above and below the crossover"))
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_ratios(
    title: str,
    orders: Sequence[MeasuredVariances],
    *,
    crossover: float,
    second_crossovers: Mapping[str, float] | None = None,
) -> Figure:
    """Measured weight variance over theory, direction by direction; a panel for each order.

    Args:
        title: names the network.
        orders: of batches.
        crossover: the crossover curvature.
        second_crossovers: label -> curvature below which variances are expected to rise above theory.

    Returns:
        The figure.

    Raises:
        ValueError: without any order.
    """
    _check(orders)
    figure, axes = panels(len(orders), extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(each.label for each in orders)
    ends: list[float] = [0.8, 1.25]
    for ax, each in zip(axes, orders, strict=True):
        ratios = [e.scaled(1 / p) for e, p in zip(each.weight, each.predicted.weight.tolist(), strict=True)]
        ends += [end for e in ratios for end in (e.value, max(e.interval()[0], e.value / 3), e.interval()[1])]
        ax.axhline(1, color=GREY, linewidth=1.2, zorder=1.5)
        ax.axvline(crossover, **_VERTICAL, zorder=2)
        plot_directions(ax, each.curvature, ratios, each.inside, looks[each.label])
        ax.set_title(each.label, fontweight="normal")
    curvatures = [*(at for each in orders for at in each.curvature), crossover]
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(*logarithmic_ticks(ax.xaxis, curvatures, most=6))
        ax.set_ylim(*logarithmic_ticks(ax.yaxis, [end for end in ends if end > 0]))
    for ax in last_row(axes):
        ax.set_xlabel(r"curvature $\lambda$")
    for ax in first_column(axes):
        ax.set_ylabel("measured / predicted weight variance")
    low, high = axes[0].get_xlim()
    entries: Entries = [(Line2D([], [], **_VERTICAL), f"crossover curvature {crossover:.3g}")]
    for ax, each in zip(axes, orders, strict=True):
        second = (second_crossovers or {}).get(each.label, 0.0)
        if low < second < high:
            line = ax.axvline(second, color=GREY, linewidth=1.2, linestyle="-.", zorder=2)
            entries.append((line, f"second crossover {second:.3g}, below which the weights' own noise prevails"))
    if any(not each.inside.all() for each in orders):
        entries.append((_open(), "outside the regime of theory"))
    legend_below(figure, entries, columns=2)
    return figure


def _check(orders: Sequence[MeasuredVariances]) -> None:
    if not orders:
        raise ValueError("orders is empty: give at least one")


def _estimates(each: MeasuredVariances, quantity: str, scaled: bool) -> list[Estimate]:
    estimates = list(getattr(each, quantity))
    if not scaled or quantity == "correlation_time":
        return estimates
    return [estimate.scaled(1 / unit) for estimate, unit in zip(estimates, each.unit.tolist(), strict=True)]


def _points(ax: Axes, each: MeasuredVariances, quantity: str, look: Look, *, scaled: bool = False) -> None:
    plot_directions(ax, each.curvature, _estimates(each, quantity, scaled), each.inside, look)


def plot_directions(
    ax: Axes, curvature: Floats, estimates: Sequence[Estimate], inside: npt.NDArray[np.bool_], look: Look
) -> None:
    """Points with 95 % intervals; those that are not > 0 are left out.

    Args:
        ax: to draw on.
        curvature: shape (k,).
        estimates: k of them.
        inside: whether theory claims to hold; other points are open, shape (k,).
        look: of the order.
    """
    few = len(curvature) <= FEW
    for wanted in (True, False):
        rows = [
            (at, e) for at, e, flag in zip(curvature, estimates, inside, strict=True) if flag == wanted and e.value > 0
        ]
        if not rows:
            continue
        values = np.array([e.value for _, e in rows])
        low, high = np.array([e.interval() for _, e in rows]).T
        ax.errorbar(
            [at for at, _ in rows],
            values,
            yerr=[values - low, high - values],
            fmt=look.marker,
            color=look.colour,
            ecolor=tint(look.colour, 0.55),
            markersize=4.2 if few else 2.6,
            markerfacecolor=look.colour if wanted else "white",
            markeredgecolor="white" if wanted else look.colour,
            markeredgewidth=0.4 if wanted else 0.9,
            elinewidth=1.0 if few else 0.6,
            zorder=4,
        )


def _scale(
    ax: Axes,
    orders: Sequence[MeasuredVariances],
    quantity: str,
    lines: Sequence[tuple[Floats, Floats]],
    crossover: float,
    *,
    scaled: bool = False,
) -> None:
    """Scale both axes of a panel, for everything that is measured in it and theory there."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    points = [e for each in orders for e in _estimates(each, quantity, scaled) if e.value > 0]
    ends = [end for e in points for end in (e.value, max(e.interval()[0], e.value / _BAR), e.interval()[1])]
    curvatures = [*(at for each in orders for at in each.curvature), crossover]
    ax.set_xlim(*logarithmic_ticks(ax.xaxis, curvatures, most=6))
    heights = np.concatenate([np.asarray(y)[np.isfinite(y)] for _, y in lines])
    ax.set_ylim(*logarithmic_ticks(ax.yaxis, [*heights[heights > 0], *(end for end in ends if math.isfinite(end))]))
    ax.axvline(crossover, **_VERTICAL, zorder=2)


def _entries(orders: Sequence[MeasuredVariances], looks: Mapping[str, Look], crossover: float, theory: str) -> Entries:
    """Short ones first: they share a column."""
    entries: Entries = []
    for each in orders:
        look = looks[each.label]
        style: dict[str, Any] = {"marker": look.marker, "markersize": 5.5, "markeredgecolor": "white"}
        left_out = f" ({each.left_out} left out)" if each.left_out else ""
        line = Line2D([], [], **look.line, **style)
        entries.append((line, each.label + left_out))
    entries.append((Line2D([], [], **_VERTICAL), f"crossover curvature {crossover:.3g}"))
    words = f"points: measured (95 %); lines: {theory}"
    entries.append((Line2D([], [], color=INK, marker="o", markersize=5, linestyle=""), words))
    if any(not each.inside.all() for each in orders):
        entries.append((_open(), "outside the regime of theory"))
    return entries


def _open() -> Line2D:
    return Line2D([], [], color=INK, marker="o", markersize=5, markerfacecolor="white", linestyle="")
