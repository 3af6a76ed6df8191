"""How wide decision boundaries are after noisy training: in the mixture model and in networks, by when one stops.

Reference: [mignacco2022] wider decision boundaries of noisier algorithms
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from figures.batch_orders import Look, looks_of
from figures.style import GREY, Entries, legend_below, panels, styled, title_above
from theory.estimate import Estimate

ASIDE = 0.13
"""Points at one place stand so far from each other."""


@styled()
def figure_width_differences(
    title: str, losses: Mapping[str, Mapping[str, Sequence[tuple[str, Estimate]]]], *, label: str
) -> Figure:
    """Widths beside those of full batches, for orders from the least to the most noisy one, a panel for each loss.

    Args:
        title: names the model.
        losses: words for the loss and when training stops -> quantile -> (words for the order, difference).
        label: of the differences.

    Returns:
        The figure; above zero, noise made the boundary wider.

    Raises:
        ValueError: without anything to draw.
    """
    if not losses or not all(losses.values()):
        raise ValueError("losses is empty: give at least one, with at least one quantile")
    figure, axes = panels(len(losses), sharex=False, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(dict.fromkeys(quantile for found in losses.values() for quantile in found))
    for ax, (loss, quantiles) in zip(axes, losses.items(), strict=True):
        names = [order for order, _ in next(iter(quantiles.values()))]
        for number, (quantile, found) in enumerate(quantiles.items()):
            at = [place + ASIDE * (number - (len(quantiles) - 1) / 2) for place in range(len(found))]
            _joined(ax, at, [estimate for _, estimate in found], looks[quantile])
        ax.axhline(0, color=GREY, linewidth=1.0, zorder=1.5)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.xaxis.set_major_locator(FixedLocator(range(len(names))))
        ax.set_xticklabels(names, fontsize=8)
        ax.set_title(loss, fontweight="normal")
    axes[0].set_ylabel(label)
    entries: Entries = [(_line(look), quantile) for quantile, look in looks.items()]
    entries.append((Line2D([], [], linestyle=""), "95 % intervals; above zero: wider than with full batches"))
    legend_below(figure, entries, columns=4)
    return figure


@styled()
def figure_rank_correlations(title: str, widths: Mapping[str, Mapping[str, Sequence[tuple[str, Estimate]]]]) -> Figure:
    """Rank correlation of the width with the temperature, by when one stops, a panel for each width.

    Args:
        title: names the networks.
        widths: words for the width -> set of seeds -> (when one stops, mean over seeds).

    Returns:
        The figure: right of zero, hotter networks have wider boundaries.

    Raises:
        ValueError: without anything to draw.
    """
    if not widths or not all(widths.values()):
        raise ValueError("widths is empty: give at least one, with at least one set of seeds")
    figure, axes = panels(len(widths), sharex=True, sharey=True, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(dict.fromkeys(seeds for found in widths.values() for seeds in found))
    for ax, (width, sets) in zip(axes, widths.items(), strict=True):
        stops = [stop for stop, _ in next(iter(sets.values()))]
        for number, (seeds, found) in enumerate(sets.items()):
            look = looks[seeds]
            places = [place + 2 * ASIDE * (number - (len(sets) - 1) / 2) for place in range(len(found))]
            values = [estimate.value for _, estimate in found]
            bars = [[e.value - e.interval()[0] for _, e in found], [e.interval()[1] - e.value for _, e in found]]
            ax.errorbar(values, places, xerr=bars, **_points(look))
        ax.axvline(0, color=GREY, linewidth=1.0, zorder=1.5)
        ax.set_xlim(-1.08, 1.08)
        ax.xaxis.set_major_locator(FixedLocator((-1, -0.5, 0, 0.5, 1)))
        ax.set_ylim(len(stops) - 0.5, -0.5)
        ax.yaxis.set_major_locator(FixedLocator(range(len(stops))))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda at, _, names=tuple(stops): names[round(at)]))
        ax.set_title(width, fontweight="normal")
        ax.set_xlabel("rank correlation with the temperature")
    entries: Entries = [
        (Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, linestyle=""), f"{seeds} (95 %)")
        for seeds, look in looks.items()
    ]
    legend_below(figure, entries, columns=2)
    return figure


def _points(look: Look) -> dict[str, Any]:
    return {
        "fmt": look.marker,
        "color": look.colour,
        "markersize": 5.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "elinewidth": 1.3,
        "capsize": 2.5,
        "zorder": 3,
    }


def _joined(ax: Axes, at: Sequence[float], estimates: Sequence[Estimate], look: Look) -> None:
    """Points with intervals on a thin line."""
    values = [each.value for each in estimates]
    bars = [[each.value - each.interval()[0] for each in estimates], [e.interval()[1] - e.value for e in estimates]]
    ax.plot(at, values, color=look.colour, linestyle=look.style, linewidth=1.2, zorder=2)
    ax.errorbar(at, values, yerr=bars, **_points(look))


def _line(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, linestyle=look.style, linewidth=1.2, marker=look.marker, markersize=5.5)
