"""What the figures of noise share: a look for each order of batches or kind of noise, and the ticks of their axes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from figures.style import COLOURS as SIX_COLOURS

LineStyle = Literal["-"] | tuple[int, tuple[float, ...]]

COLOURS = (*SIX_COLOURS, "#332288", "#6B4226")
"""Of orders, by their place: those of all figures, and two more that the colour-blind can tell from them."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
"""Of simulated points, by the place of their order: colours alone would not tell them apart."""

STYLES: tuple[LineStyle, ...] = (
    "-",
    (0, (4.5, 1.2)),
    (0, (7, 1.4, 1.4, 1.4)),
    (0, (1.5, 0.9)),
    (0, (4.5, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0, (10, 2)),
)
"""Of lines, by the same: in print there are no colours."""

MOST_DECADES = 250
"""On either side of 1: what is smaller or larger leaves the axis."""

PLAIN = 5e-3, 2e4
"""Axes within have ticks without exponents; the others have exponents only."""


class Look(NamedTuple):
    """How an order is drawn, the same in all panels.

    Attributes:
        colour: of line and points.
        marker: of the points.
        width: of the line; later ones are thinner: where orders do the same, all their colours are seen.
        style: of the line: whole, or its dashes.
    """

    colour: str
    marker: str
    width: float
    style: LineStyle = "-"

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of ``plot`` and ``Line2D`` for a line without points."""
        return {"color": self.colour, "linewidth": self.width, "linestyle": self.style}

    @property
    def points(self) -> dict[str, Any]:
        """Those for points without a line, in a legend."""
        return {"color": self.colour, "marker": self.marker, "markersize": 5, "linestyle": ""}


def looks_of(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each order, by its place; colours and markers repeat after eight, dashes after six.

    Args:
        labels: of the orders.

    Returns:
        Label -> look.

    Example:
        >>> looks_of(["reshuffled"])
        {'reshuffled': Look(colour='#0072B2', marker='o', width=1.8, style='-')}
    """
    names = list(labels)
    widths = [1.8 if len(names) == 1 else 2.8 - 1.6 * i / (len(names) - 1) for i in range(len(names))]
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], widths[i], STYLES[i % len(STYLES)])
        for i, name in enumerate(names)
    }


def number(value: float, _position: int | None = None) -> str:
    """A tick label without exponent.

    Args:
        value: of the tick.

    Returns:
        Such as ``"0.1"``, with the minus sign of mathematics.
    """
    return f"{value:.12g}".replace("-", "\N{MINUS SIGN}")


def power(value: float, _position: int | None = None) -> str:
    """A tick label as a power of ten.

    Args:
        value: of the tick.

    Returns:
        Mathematical text.

    Example:
        >>> power(1e-3), power(-1e6), power(0.0)
        ('$10^{-3}$', '$-10^{6}$', '0')
    """
    if value == 0:
        return "0"
    digits, exponent = f"{value:.6e}".split("e")
    digits, ten = f"{float(digits):g}", f"10^{{{int(exponent)}}}"
    return f"${digits[:-1]}{ten}$" if digits in ("1", "-1") else rf"${digits}\times {ten}$"


def tick_labels(low: float, high: float) -> Callable[[float, int | None], str]:
    """``number`` or ``power``, one of them for all ticks of an axis.

    Args:
        low: smallest size of a number on the axis, > 0; the highest on an axis from zero.
        high: largest size.

    Returns:
        The function.
    """
    return number if low > PLAIN[0] and high < PLAIN[1] else power


def logarithmic_ticks(axis: Axis, values: Sequence[float], *, most: int = 8) -> tuple[float, float]:
    """Ticks as dense as the range of the finite values allows.

    Args:
        axis: which gets them.
        values: > 0 that have to be seen; infinite ones do not count.
        most: ticks, about.

    Returns:
        The range with some room, a factor of four at least.
    """
    sizes = [min(max(math.log10(value), -MOST_DECADES), MOST_DECADES) for value in values if math.isfinite(value)]
    room = max(math.log10(2) - (max(sizes) - min(sizes)) / 2, (max(sizes) - min(sizes)) * 0.04)
    low, high = 10 ** (min(sizes) - room), 10 ** (max(sizes) + room)
    decades = max(sizes) - min(sizes) + 2 * room
    subs = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=most))
    axis.set_major_formatter(FuncFormatter(tick_labels(low, high)))
    axis.set_minor_locator(NullLocator())
    return low, high
