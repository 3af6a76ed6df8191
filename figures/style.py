"""One look for all figures: sizes, colours, axes, and PNG bytes that depend on nothing but the figure.

Nothing is set on import and pyplot is never used: figures are ``matplotlib.figure.Figure`` objects, made and saved
inside ``styled()``, which overrides the user's matplotlibrc and puts it back.
"""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerTuple
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

WIDTH = 8.4
"""Width of a full figure [inch]: 840 pixels at the size at which a README shows it, where 9 pt are still readable."""

PANEL_HEIGHT = 3.1
"""Height of one row of panels [inch]."""

DOTS_PER_INCH = 200
"""Twice the size shown, so that screens with small pixels stay sharp."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#A5508A", "#B8860B", "#3A9BC9")
"""Of protocols, by their order: Okabe and Ito's, which the colour-blind can tell apart, the light ones darkened."""

INK, GREY, PALE = "#1f2328", "#6b7280", "#d9dde3"
"""Of measured points and text; of references and secondary lines; of grids and single runs."""

Entries = list[tuple[Artist | tuple[Artist, ...], str]]
"""Of a legend: (handle, words); a tuple of handles is drawn side by side."""

# DejaVu Sans comes with matplotlib: the same letters, and the same bytes, on every machine.
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
}


@contextmanager
def styled() -> Iterator[None]:
    """The house style, for as long as the context lasts; also a decorator.

    Yields:
        Nothing.

    Example:
        >>> before = matplotlib.rcParams["axes.grid"]
        >>> with styled():
        ...     inside = matplotlib.rcParams["axes.grid"]
        >>> inside, matplotlib.rcParams["axes.grid"] == before
        (True, True)
    """
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, without date and version: equal figures have equal bytes.

    Args:
        figure: to be drawn.

    Returns:
        The file's content.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure(figsize=(1, 1))
        >>> png_bytes(figure)[1:4], png_bytes(figure) == png_bytes(figure)
        (b'PNG', True)
    """
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each protocol, by its place in the order.

    Args:
        labels: of the protocols, all of them in every figure of a study.

    Returns:
        Label -> colour; colours repeat after six.
    """
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white: opaque, so that what lies below does not change it.

    Args:
        colour: the full one.
        strength: 1 for the colour itself, 0 for white.

    Returns:
        Red, green and blue.
    """
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def panels(
    count: int, *, sharex: bool = True, sharey: bool = True, wspace: float | None = None, extra_height: float = 0.7
) -> tuple[Figure, list[Axes]]:
    """A figure with equal panels: up to three in a row, four in two rows.

    Args:
        count: number of panels, >= 1.
        sharex: whether all have one x-axis.
        sharey: whether all have one y-axis.
        wspace: between panels, as a part of their width; by default matplotlib's, which is little for y-labels.
        extra_height: for legends and titles [inch].

    Returns:
        The figure and its axes; those that share an axis are labelled at the outer ones.
    """
    columns = count if count <= 3 else math.ceil(count / math.ceil(count / 3))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * PANEL_HEIGHT + extra_height))
    figure.set_layout_engine("constrained", wspace=wspace)
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    axes: list[Axes] = list(grid.ravel())
    for spare in axes[count:]:
        spare.remove()
    if sharex:
        for ax in axes[max(count - columns, 0) : count]:  # above a gap in the last row
            ax.tick_params(labelbottom=True)
    return figure, axes[:count]


def first_column(axes: Sequence[Axes]) -> list[Axes]:
    """The panels at the left edge, which carry the y-label.

    Args:
        axes: of one figure.

    Returns:
        Those in column 0.
    """
    return [ax for ax in axes if (place := ax.get_subplotspec()) is None or place.is_first_col()]


def last_row(axes: Sequence[Axes]) -> list[Axes]:
    """The panels with none below them, which carry the x-label.

    Args:
        axes: of one figure, from left to right and from top to bottom.

    Returns:
        One of each column.
    """
    by_column = {place.colspan.start if (place := ax.get_subplotspec()) else 0: ax for ax in axes}
    return list(by_column.values())


def plain(value: float, _position: int | None = None) -> str:
    """A tick label without exponents or trailing zeros.

    Args:
        value: of the tick.

    Returns:
        Such as ``"0.1"`` or ``"20"``.
    """
    return f"{value:g}"


def epoch_axis(ax: Axes, first: float, last: float, *, ticks: Sequence[float] | None = None) -> None:
    """Scale an x-axis of epochs: logarithmic if they span a factor of five or more.

    Args:
        ax: whose x-axis it is.
        first: smallest epoch, > 0.
        last: largest epoch.
        ticks: where to put the ticks on a logarithmic axis, by default 1, 2, 5, 10, ...
    """
    if last < 5 * first:
        room = max(0.06 * (last - first), 0.08 * last)  # points of several protocols stand side by side
        ax.set_xlim(first - room, last + room)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if ticks is None else FixedLocator(list(ticks)))
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(first / 1.12, last * 1.12)


def title_above(figure: Figure, title: str) -> None:
    """One title for all panels, above them.

    Args:
        figure: which gets it.
        title: one line.
    """
    figure.suptitle(title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")


def legend_below(figure: Figure, entries: Sequence[tuple[Artist | tuple[Artist, ...], str]], *, columns: int) -> Legend:
    """One legend for all panels, below them.

    Args:
        figure: which it explains.
        entries: (handle, words); a tuple of handles is drawn side by side.
        columns: number of columns.

    Returns:
        The legend.
    """
    handles: list[Any] = [handle for handle, _ in entries]  # the stubs do not know of tuples, which HandlerTuple draws
    return figure.legend(
        handles,
        [words for _, words in entries],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
        loc="outside lower left",
        ncols=columns,
    )


def stretches(flags: Sequence[bool] | np.ndarray) -> list[tuple[int, int, bool]]:
    """Maximal runs of equal flags.

    Args:
        flags: shape (n,).

    Returns:
        (first, last + 1, flag) of each run.

    Example:
        >>> stretches([True, True, False])
        [(0, 2, True), (2, 3, False)]
    """
    edges = [0, *(i for i in range(1, len(flags)) if flags[i] != flags[i - 1]), len(flags)]
    return [(a, b, bool(flags[a])) for a, b in pairwise(edges) if b > a]
