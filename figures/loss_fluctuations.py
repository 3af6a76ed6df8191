"""How much loss is spared by drawing without replacement: for spectra of theory, and measured beside theory.

Reference: [kuhn2023] the reduction of the loss fluctuations, 62 % in a LeNet
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from figures.batch_orders import looks_of
from figures.style import GREY, INK, Entries, legend_below, panels, styled, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate


@dataclass(frozen=True)
class SparedLoss:
    """By how much the loss above the minimum is smaller than if all directions had the largest variance.

    Attributes:
        predicted: 0.1 is 10 %.
        measured: likewise.
    """

    predicted: float
    measured: Estimate


@styled()
def figure_spared_loss(
    title: str,
    exponents: Floats,
    spectra: Mapping[str, Floats],
    measured: Mapping[str, Sequence[SparedLoss]],
    *,
    published: float,
) -> Figure:
    """The reduction against the exponent of the spectrum, and measured reductions against predicted ones.

    Args:
        title: of the figure.
        exponents: p of spectra lambda_i ~ i^-p, ascending, shape (n,).
        spectra: words for a training -> the reduction there, in [0, 1], shape (n,).
        measured: words for a network and an order -> its settings.
        published: the paper's number, marked in the first panel.

    Returns:
        The figure.

    Raises:
        ValueError: without spectra or measurements, or for shapes that do not fit.
    """
    exponents = np.asarray(exponents, dtype=float)
    if not spectra or not measured or not all(measured.values()):
        raise ValueError("spectra and measured must not be empty")
    for words, values in spectra.items():
        if np.shape(values) != exponents.shape:
            raise ValueError(f"{words}: give one reduction for each of {len(exponents)} exponents")
    figure, (left, right) = panels(2, sharex=False, sharey=False, wspace=0.05, extra_height=1.2)
    title_above(figure, title)
    entries: Entries = []
    for words, look in looks_of(spectra).items():
        style = look.line
        left.plot(exponents, spectra[words], **style, zorder=3)
        entries.append((Line2D([], [], **style), f"left: {words}"))
    left.axhline(published, color=GREY, linewidth=1.2, linestyle=":")
    words = f"in the paper's LeNet: {100 * published:.0f} %"
    left.annotate(words, (exponents[0], published), (4, 4), textcoords="offset points", fontsize=8)
    left.set_xlabel(r"exponent $p$ of the spectrum, $\lambda_i \propto i^{-p}$")
    left.set_ylabel("loss fluctuations spared")
    left.set_title("theory: it depends on the spectrum")
    ends: list[float] = []
    for words, look in looks_of(measured).items():
        for each in measured[words]:
            low, high = each.measured.interval()
            ends += [low, high]
            bars = [[each.measured.value - low], [high - each.measured.value]]
            right.errorbar(
                each.predicted,
                each.measured.value,
                yerr=bars,
                fmt=look.marker,
                color=look.colour,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.5,
                elinewidth=1.2,
                zorder=3,
            )
        marker = Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, linestyle="")
        entries.append((marker, f"right: {words}"))
    room = 0.05 * (max(ends) - min(ends))
    shown = min(ends) - room, max(ends) + room
    right.axline((0, 0), slope=1, color=INK, linewidth=1.0, linestyle="--", zorder=2)
    entries.append((Line2D([], [], color=INK, linewidth=1.0, linestyle="--"), "right: measured as predicted"))
    places = [each.predicted for found in measured.values() for each in found]
    right.set_xlim(min(places) - 0.05, max(places) + 0.05)
    right.set_ylim(*shown)
    right.set_xlabel("predicted")
    right.set_ylabel("measured (95 %)")
    right.set_title("measured, 60 directions")
    left.set_ylim(0, 1.08 * max(published, *(float(np.max(values)) for values in spectra.values())))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    legend_below(figure, entries, columns=2)
    return figure
