"""SGD on the Gaussian mixture: correlation, response, and effective temperature against lag.

Lines are theory and the shade around them its 95 % interval; points with bars are simulated. Orders of batches keep
their colour and marker in both figures.

Reference: [mignacco2022] the effective temperature of persistent SGD
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from figures.batch_orders import COLOURS, Look, looks_of, tick_labels
from figures.perturbation import plot_measured
from figures.style import GREY, INK, Entries, legend_below, panels, styled, tint, title_above
from theory.estimate import Estimate

Points = Sequence[tuple[float, Estimate]]
"""(lag, estimate)."""


MOST_ORDERS = len(COLOURS)
"""Lines against lag: more could not be told apart. The first ones are drawn."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """How one order forgets, in the stationary state.

    Attributes:
        fluctuation: (n, C(0) - C(n)) of theory, n rising.
        response: (n, R(n)) of theory.
        temperature: (n, T_eff(n)) of theory, at lags where it is known.
        exact: (n, T_eff(n)) where theory is exact.
        simulated_fluctuation: likewise simulated.
        simulated_response: likewise simulated.
        simulated_temperature: likewise simulated.
    """

    fluctuation: Points
    response: Points
    temperature: Points
    exact: Sequence[tuple[float, float]] = ()
    simulated_fluctuation: Points = ()
    simulated_response: Points = ()
    simulated_temperature: Points = ()

    def __post_init__(self) -> None:
        for name, least in (("fluctuation", 1), ("response", 1), ("temperature", 0)):
            lags = [lag for lag, _ in getattr(self, name)]
            if len(lags) < least or (np.diff(lags) <= 0).any():
                raise ValueError(f"{name} must have rising lags, at least {least} of them, not {lags[:4]}")

    @property
    def last_lag(self) -> float:
        """Up to which the temperature of theory is known; 0 if it is not."""
        return self.temperature[-1][0] if self.temperature else 0.0


@styled()
def figure_relaxation(title: str, orders: Mapping[str, Relaxation]) -> Figure:
    """Correlation and response against lag, and one against the other: its slope is the effective temperature.

    Args:
        title: names model and training.
        orders: text -> its relaxation.

    Returns:
        The figure.

    Raises:
        ValueError: without any order.
    """
    check_orders(orders)
    figure, (left, middle, right) = panels(3, sharex=False, sharey=False, extra_height=0.9)
    title_above(figure, title + ("" if len(orders) <= MOST_ORDERS else f"; {MOST_ORDERS} of {len(orders)} orders"))
    orders = dict(islice(orders.items(), MOST_ORDERS))
    looks = looks_of(orders)
    for text, found in orders.items():
        look = looks[text]
        _line(left, found.fluctuation, look)
        _line(middle, found.response, look)
        plot_measured(left, found.simulated_fluctuation, colour=look.colour, marker=look.marker)
        plot_measured(middle, found.simulated_response, colour=look.colour, marker=look.marker)
        integrated = np.cumsum([0.0, *(estimate.value for _, estimate in found.response)])
        lost = [0.0, *(estimate.value for _, estimate in found.fluctuation)]
        size = min(len(integrated), len(lost))
        path = {"linewidth": look.width, "linestyle": look.style, "marker": ".", "markersize": 4}
        right.plot(integrated[:size], lost[:size], color=look.colour, **path)
    headings = ("correlation lost", "response", "one against the other")
    for ax, heading in zip((left, middle, right), headings, strict=True):
        ax.set_title(heading)
        if ax is not right:
            ax.set_xlabel("lag n [updates]")
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        linear_ticks(ax)
    left.set_ylabel("C(0) \N{MINUS SIGN} C(n)")
    middle.set_ylabel("R(n)")
    right.set_xlabel("R(1) + … + R(n)")
    right.set_ylabel("C(0) \N{MINUS SIGN} C(n)")
    entries = _order_entries(looks, any(found.simulated_response for found in orders.values()))
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_lag_temperatures(title: str, orders: Mapping[str, Relaxation]) -> Figure:
    """T_eff(n) of all orders against the lag.

    Args:
        title: names model and training.
        orders: text -> its relaxation; those of unknown temperature are named in the legend only.

    Returns:
        The figure.

    Raises:
        ValueError: without any order.
    """
    check_orders(orders)
    figure, (ax,) = panels(1, extra_height=1.3)
    title_above(figure, title + ("" if len(orders) <= MOST_ORDERS else f"; {MOST_ORDERS} of {len(orders)} orders"))
    orders = dict(islice(orders.items(), MOST_ORDERS))
    looks = looks_of(orders)
    shown, hidden = [0.0], 0
    for text, found in orders.items():
        look = looks[text]
        _line(ax, found.temperature, look, markersize=4)
        within = [(lag, e) for lag, e in found.simulated_temperature if lag <= found.last_lag]
        hidden += len(found.simulated_temperature) - len(within)
        plot_measured(ax, within, colour=look.colour, marker=look.marker)
        if found.exact:
            ax.plot(*zip(*found.exact, strict=True), color=INK, linestyle=":", linewidth=1.4, zorder=5)
        for points in (found.temperature, within):
            shown += [end for _, estimate in points for end in estimate.interval()]
    low, high = min(shown), max(shown)
    room = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - (room if low < 0 else 0.0), high + room)
    ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_xlabel("lag n [updates]")
    ax.set_ylabel("effective temperature T(n)")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    linear_ticks(ax)
    unknown = {text for text, found in orders.items() if not found.temperature}
    entries = [
        (handle, words + (" (unknown: too few particles)" if words in unknown else ""))
        for handle, words in _order_entries(looks, any(found.simulated_temperature for found in orders.values()))
    ]
    if any(found.exact for found in orders.values()):
        entries.append((Line2D([], [], color=INK, linestyle=":", linewidth=1.4), "exact"))
    if hidden:
        entries.append((Line2D([], [], linestyle=""), f"{hidden} simulated points beyond the lines not drawn"))
    legend_below(figure, entries, columns=2)
    return figure


def _line(ax: Axes, points: Points, look: Look, *, markersize: float = 0.0) -> None:
    """Values and their 95 % intervals."""
    if not points:
        return
    at = [lag for lag, _ in points]
    low, high = zip(*(estimate.interval() for _, estimate in points), strict=True)
    ax.fill_between(at, low, high, color=tint(look.colour, 0.25), linewidth=0, zorder=2)
    values = [estimate.value for _, estimate in points]
    mark = {"marker": ".", "markersize": markersize} if markersize else {}
    ax.plot(at, values, **look.line, zorder=3, **mark)


def check_orders(orders: Sequence[object] | Mapping[str, object]) -> None:
    """Refuse to draw nothing.

    Args:
        orders: to be drawn.

    Raises:
        ValueError: if there are none.
    """
    if not orders:
        raise ValueError("orders is empty: give at least one order of which everything is known")


def linear_ticks(ax: Axes) -> None:
    """Few ticks on the linear ones of both axes, all with exponents or none.

    Args:
        ax: whose axes have their limits.
    """
    axes = (axis for axis, scale in ((ax.yaxis, ax.get_yscale()), (ax.xaxis, ax.get_xscale())) if scale == "linear")
    for axis in axes:
        if axis is ax.yaxis:
            axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        low, high = axis.get_view_interval()
        size = max(abs(low), abs(high))
        axis.set_major_formatter(FuncFormatter(tick_labels(size, size)))


def _order_entries(looks: Mapping[str, Look], simulated: bool) -> Entries:
    entries: Entries = []
    for text, look in looks.items():
        line = Line2D([], [], **look.line)
        point = Line2D([], [], **look.points)
        entries.append(((line, point) if simulated else line, text))
    words = "lines: theory, shaded 95 %"
    entries.append((Line2D([], [], linestyle=""), words + ("; points: simulated (95 %)" if simulated else "")))
    return entries
