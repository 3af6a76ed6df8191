"""Weight variance for all learning rates, momenta and batch sizes on one curve, theory and measurement.

In units of what independent batches would do, the variance depends on the scaled curvature alone.

Reference: [kuhn2023] the scans over batch size, learning rate and momentum; the one curve is derived for jostle
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.batch_orders import Look, logarithmic_ticks, looks_of
from figures.style import GREY, INK, Entries, legend_below, panels, styled, tint, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate
from theory.weight_variance_limits import crossover_function

CROSSOVER = 3.0
"""Scaled curvature at the crossover curvature."""

FEW = 3
"""Every so manieth point is drawn with its interval: all of them would hide each other."""

_CURVE: dict[str, Any] = {"color": INK, "linewidth": 2.2, "linestyle": "-"}
_VERTICAL: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": ":"}


@dataclass(frozen=True, eq=False)
class ScaledVariances:
    """What one setting of the hyper-parameters did.

    Attributes:
        curvature: lambda > 0, ascending, shape (n,).
        scaled: x = 3 lambda / lambda_cross, shape (n,).
        variance: Var(theta), in any unit, theory or measured, n of them.
        ratio: over that of independent batches, n of them.
        theory: scaled curvatures, ascending, and the exact ratio there; None to leave it out.
    """

    curvature: Floats
    scaled: Floats
    variance: Sequence[Estimate]
    ratio: Sequence[Estimate]
    theory: tuple[Floats, Floats] | None = None

    def __post_init__(self) -> None:
        curvature, scaled = np.asarray(self.curvature, dtype=float), np.asarray(self.scaled, dtype=float)
        sizes = {len(curvature), len(scaled), len(self.variance), len(self.ratio)}
        if len(sizes) > 1 or not len(curvature):
            raise ValueError(f"give as many curvatures, scaled ones, variances and ratios, not {sorted(sizes)}")
        if not (curvature > 0).all() or not (scaled > 0).all() or (np.diff(curvature) <= 0).any():
            raise ValueError("curvature and scaled must be > 0, curvature ascending")
        object.__setattr__(self, "curvature", curvature)
        object.__setattr__(self, "scaled", scaled)


@styled()
def figure_collapse(title: str, settings: Mapping[str, ScaledVariances], *, y_label: str, measured: bool) -> Figure:
    """Variances against curvature as they are, and in the units in which they are one curve.

    Args:
        title: names what was done.
        settings: words -> variances.
        y_label: of the variances as they are, with their unit.
        measured: whether they are points with errors, or exact lines.

    Returns:
        The figure; the second panel has Phi(x) and the crossover.

    Raises:
        ValueError: without any setting.
    """
    if not settings:
        raise ValueError("settings is empty: give at least one")
    figure, (left, right) = panels(2, sharex=False, sharey=False, wspace=0.05, extra_height=1.3)
    title_above(figure, title)
    looks = looks_of(settings)
    for ax, across, up in ((left, "curvature", "variance"), (right, "scaled", "ratio")):
        ends: list[float] = []
        for words, each in settings.items():
            ends += _drawn(ax, getattr(each, across), getattr(each, up), looks[words], measured)
        places = np.concatenate([getattr(each, across) for each in settings.values()])
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(*logarithmic_ticks(ax.xaxis, places.tolist(), most=6))
        ax.set_ylim(*logarithmic_ticks(ax.yaxis, ends))
    for words, each in settings.items():
        if each.theory is not None:
            look = looks[words]
            right.plot(*each.theory, color=look.colour, linewidth=1.1, linestyle=look.style, zorder=2.2)
    x = np.geomspace(*right.get_xlim(), 200)
    right.plot(x, crossover_function(x), **_CURVE, zorder=2 if measured else 2.5)
    right.axvline(CROSSOVER, **_VERTICAL, zorder=1.5)
    left.set_xlabel(r"curvature $\lambda$")
    left.set_ylabel(y_label)
    left.set_title("as they are")
    right.set_xlabel(r"scaled curvature $x = \eta\lambda M / (1 - \beta)$")
    right.set_ylabel("over that of independent batches")
    right.set_title("scaled")
    entries: Entries = []
    for words, look in looks.items():
        style: dict[str, Any] = {"linestyle": look.style, "linewidth": look.width}
        if measured:
            style = {"linestyle": "", "marker": look.marker, "markersize": 5}
        entries.append((Line2D([], [], color=look.colour, **style), words))
    entries.append((Line2D([], [], **_CURVE), r"$\Phi(x)$, no parameters"))
    entries.append((Line2D([], [], **_VERTICAL), "crossover curvature, x = 3"))
    if any(each.theory is not None for each in settings.values()):
        entries.append((Line2D([], [], color=GREY, linewidth=1.1, linestyle="--"), "thin: exact, for these epochs"))
    legend_below(figure, entries, columns=3)
    return figure


def _drawn(ax: Axes, at: Floats, estimates: Sequence[Estimate], look: Look, measured: bool) -> list[float]:
    """Draw one setting; what has to be seen of it."""
    values = np.array([each.value for each in estimates])
    if not measured:
        ax.plot(at, values, **look.line, zorder=3)
        return values.tolist()
    low, high = np.array([each.interval() for each in estimates]).T
    low = np.maximum(low, values / 3)
    some = slice(None, None, FEW)
    style: dict[str, Any] = {"fmt": look.marker, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.3}
    bars = [(values - low)[some], (high - values)[some]]
    ecolor = tint(look.colour, 0.5)
    ax.errorbar(at[some], values[some], yerr=bars, color=look.colour, ecolor=ecolor, elinewidth=0.8, zorder=3, **style)
    return [*values[some], *low[some], *high[some]]
