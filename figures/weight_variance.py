"""The noise of mini-batches: what it does to the weights in each direction of the loss, and its correlation in time.

Variances are drawn as given, on logarithmic axes: a line ends where they are infinite, and directions without curvature
have no place there but as a horizontal line. Noises keep their colour and marker by their order in the mapping.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from figures.perturbation import plot_measured
from figures.style import GREY, INK, colours_of, legend_below, panels, plain, styled
from theory.estimate import Estimate
from theory.weight_variance import ModeVariances

Floats = npt.NDArray[np.float64]
Points = Sequence[tuple[float, Estimate]]
Entries = list[tuple[Artist | tuple[Artist, ...], str]]

MARKERS = ("o", "s", "D", "^", "v", "P")
"""Of simulated points, by the place of their noise in the order: colours alone would not tell them apart."""

ENLARGED = 0.25
"""A noise whose correlations all stay below this fraction of the highest is shown a second time, enlarged."""

MOST_EPOCHS = 25
"""More ends of epochs than this are not marked: they would hide the lines."""

NEGLIGIBLE = 1e-9
"""Correlations below this fraction of the highest are rounding errors."""

_QUANTITIES = ("weight", "velocity", "correlation_time")
_WHITE: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": "--"}
_FLAT: dict[str, Any] = {"linewidth": 1.2, "linestyle": "-."}
_VERTICAL: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": ":"}


@dataclass(frozen=True, eq=False)
class NoiseVariances:
    """What one noise does to the weights.

    Attributes:
        curvature: lambda, >= 0 and ascending, shape (n,); 0 is not drawn.
        exact: the variances there, > 0, shape (n,); those of weights possibly ``inf``, but not everywhere.
        weight: (curvature, simulated weight variance), here and below only drawn where both are finite and > 0.
        velocity: (curvature, simulated velocity variance).
        correlation_time: (curvature, simulated correlation time).
    """

    curvature: Floats
    exact: ModeVariances
    weight: Points = ()
    velocity: Points = ()
    correlation_time: Points = ()

    def __post_init__(self) -> None:
        curvature = np.asarray(self.curvature, dtype=float)
        shapes = curvature.shape, np.shape(self.exact.weight), np.shape(self.exact.velocity)
        if curvature.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(
                f"curvature, weight and velocity variances of shapes {shapes[0]}, {shapes[1]} and {shapes[2]}: give "
                "one of each for every direction"
            )
        if not np.isfinite(curvature).all() or (curvature < 0).any() or (np.diff(curvature) <= 0).any():
            raise ValueError("curvature must be finite, >= 0 and ascending")
        _checked("exact", self.exact)
        if (np.isfinite(self.exact.weight) & (curvature > 0)).sum() < 2:
            raise ValueError("exact weight variances must be finite at two curvatures > 0: else there is no line")
        object.__setattr__(self, "curvature", curvature)


@dataclass(frozen=True, eq=False)
class NoiseAutocovariance:
    """How one noise is correlated in time.

    Attributes:
        lags: h, whole numbers >= 0, ascending, shape (n,) [updates].
        exact: the autocovariance there, finite, shape (n,).
        measured: (lag, measured autocovariance); infinite ones are not drawn.
    """

    lags: npt.NDArray[np.int64]
    exact: Floats
    measured: Points = ()

    def __post_init__(self) -> None:
        lags, exact = np.asarray(self.lags), np.asarray(self.exact, dtype=float)
        if lags.ndim != 1 or len(lags) < 2 or lags.dtype.kind not in "iu" or lags[0] < 0 or (np.diff(lags) <= 0).any():
            raise ValueError(f"lags of shape {lags.shape} must be at least two whole numbers >= 0, ascending")
        if exact.shape != lags.shape or not np.isfinite(exact).all():
            raise ValueError(f"exact of shape {exact.shape} must be finite numbers, one for each of {len(lags)} lags")
        object.__setattr__(self, "lags", lags)
        object.__setattr__(self, "exact", exact)


@styled()
def figure_variances(
    title: str,
    noises: Mapping[str, NoiseVariances],
    *,
    white: NoiseVariances | None = None,
    flat: Mapping[str, ModeVariances] | None = None,
    crossover: float | None = None,
    x_label: str = "curvature",
    y_labels: tuple[str, str, str] = ("weight variance", "velocity variance", "correlation time [updates]"),
) -> Figure:
    """Weight variance, velocity variance and correlation time against the curvature, one line for each noise.

    Args:
        title: names the training.
        noises: label -> its variances.
        white: those of white noise, as a reference; its points are not drawn.
        flat: label of a noise -> its variances at zero curvature, finite numbers: the plateau.
        crossover: the curvature, > 0, where the plateau ends.
        x_label: with its unit.
        y_labels: of the three panels, with their units.

    Returns:
        The figure.

    Raises:
        ValueError: without any noise, for a plateau that is of none of them or not single finite numbers > 0, or a
            crossover curvature that is not finite and > 0.

    Reference: [kuhn2023] the three quantities against the curvature, in shuffled epochs and with white noise
    """
    if not noises:
        raise ValueError("noises is empty: give at least one")
    if crossover is not None and not (crossover > 0 and math.isfinite(crossover)):
        raise ValueError(f"crossover={crossover} must be finite and > 0")
    plateaus = {label: _plateau(label, variances, noises) for label, variances in (flat or {}).items()}
    figure, axes = _figure(title, 3)
    colours = colours_of(noises)
    for ax, quantity, y_label in zip(axes, _QUANTITIES, y_labels, strict=True):
        levels = [plateau[quantity] for plateau in plateaus.values()]
        lines = [_line(noise, quantity) for noise in (*noises.values(), *([white] if white else []))]
        points = [point for noise in noises.values() for point in _points(noise, quantity)]
        _scale(ax, lines, points, levels, crossover)
        for place, (label, noise) in enumerate(noises.items()):
            ax.plot(*_line(noise, quantity), color=colours[label], linewidth=_width(place, len(noises)), zorder=3)
            plot_measured(ax, _points(noise, quantity), colour=colours[label], marker=MARKERS[place % len(MARKERS)])
        if white:
            ax.plot(*_line(white, quantity), **_WHITE, zorder=3.5)
        for label, plateau in plateaus.items():
            ax.axhline(plateau[quantity], color=colours[label], **_FLAT, zorder=2)
        if crossover:
            ax.axvline(crossover, **_VERTICAL, zorder=2)
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
    simulated = [any(_points(noise, quantity) for quantity in _QUANTITIES) for noise in noises.values()]
    entries = _noise_entries(colours, simulated, "points: simulated (95 %)", plateaus)
    if white:
        entries.append((Line2D([], [], **_WHITE), "white noise: weight variance ∝ 1 / curvature, unless steep"))
    if crossover:
        entries.append((Line2D([], [], **_VERTICAL), f"crossover curvature {crossover:.3g}"))
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_autocovariance(
    title: str,
    noises: Mapping[str, NoiseAutocovariance],
    *,
    batches_per_epoch: int | None = None,
    x_label: str = "lag h [updates]",
    y_label: str = "autocovariance of the gradient noise",
) -> Figure:
    """Autocovariance against the lag, one line for each noise; a second panel enlarges what is small beside lag 0.

    Args:
        title: names the noise.
        noises: label -> its autocovariance.
        batches_per_epoch: M, to mark the ends of epochs; None without epochs.
        x_label: with its unit.
        y_label: with its unit.

    Returns:
        The figure; the second panel is there if the correlations of a noise would else hardly be seen.

    Raises:
        ValueError: without any noise, or for an epoch of less than two batches.

    Reference: [kuhn2023] the autocovariance of the noise in shuffled epochs
    """
    if not noises:
        raise ValueError("noises is empty: give at least one")
    if batches_per_epoch is not None and batches_per_epoch < 2:
        raise ValueError(f"batches_per_epoch={batches_per_epoch} must be >= 2")
    enlarged = _enlarged(list(noises.values()))
    figure, axes = _figure(title, 2 if enlarged else 1)
    colours = colours_of(noises)
    last = max(int(noise.lags[-1]) for noise in noises.values())
    epochs = range(batches_per_epoch, last + 1, batches_per_epoch) if batches_per_epoch else range(0)
    if len(epochs) > MOST_EPOCHS:
        epochs = range(0)
    for ax in axes:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        for epoch in epochs:
            ax.axvline(epoch, **_VERTICAL, zorder=1)
        for place, (label, noise) in enumerate(noises.items()):
            ax.plot(noise.lags, noise.exact, color=colours[label], linewidth=_width(place, len(noises)), zorder=3)
            plot_measured(ax, noise.measured, colour=colours[label], marker=MARKERS[place % len(MARKERS)])
        ax.set_xlim(-0.03 * last, 1.03 * last)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        ax.set_xlabel(x_label)
    axes[0].set_ylabel(y_label)
    if enlarged:
        axes[1].set_ylim(-enlarged, enlarged)
        axes[1].set_title("enlarged", fontweight="normal")
    measured = [bool(noise.measured) for noise in noises.values()]
    entries = _noise_entries(colours, measured, "points: measured (95 %)", {})
    if epochs:
        entries.append((Line2D([], [], **_VERTICAL), f"epochs of {batches_per_epoch} updates"))
    legend_below(figure, entries, columns=2)
    return figure


def _figure(title: str, count: int) -> tuple[Figure, list[Axes]]:
    """Panels with a y-axis each, and room for its label."""
    figure, axes = panels(count, sharey=False, extra_height=0.9)
    figure.set_layout_engine("constrained", wspace=0.05)
    figure.suptitle(title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
    return figure, axes


def _checked(name: str, variances: ModeVariances) -> None:
    """Refuse what a logarithmic axis cannot show."""
    velocity = np.asarray(variances.velocity)
    if not (np.asarray(variances.weight) > 0).all() or not ((velocity > 0) & np.isfinite(velocity)).all():
        raise ValueError(f"{name} variances must be > 0, those of velocities finite: a mode without noise has no place")


def _plateau(label: str, variances: ModeVariances, noises: Mapping[str, NoiseVariances]) -> dict[str, float]:
    """Quantity -> its value at zero curvature."""
    if label not in noises:
        raise ValueError(f"flat has {label!r}, which is none of the noises: {', '.join(map(repr, noises))}")
    if np.size(variances.weight) != 1 or np.size(variances.velocity) != 1 or not np.isfinite(variances.weight).all():
        raise ValueError(f"flat[{label!r}] must be single finite variances; leave out noise that makes weights diffuse")
    _checked(f"flat[{label!r}]", variances)
    return {quantity: np.asarray(getattr(variances, quantity)).item() for quantity in _QUANTITIES}


def _line(noise: NoiseVariances, quantity: str) -> tuple[Floats, Floats]:
    """Positive curvatures and a quantity there, nan where it is infinite."""
    values = np.asarray(getattr(noise.exact, quantity), dtype=float)
    return noise.curvature[noise.curvature > 0], np.where(np.isfinite(values), values, np.nan)[noise.curvature > 0]


def _points(noise: NoiseVariances, quantity: str) -> list[tuple[float, Estimate]]:
    """The simulated points that have a place on the axes."""
    return [(at, e) for at, e in getattr(noise, quantity) if at > 0 and 0 < e.value < math.inf]


def _width(place: int, places: int) -> float:
    """Later lines are thinner: where noises do the same, all their colours are seen."""
    return 1.8 if places == 1 else 2.8 - 1.6 * place / (places - 1)


def _scale(
    ax: Axes, lines: Sequence[tuple[Floats, Floats]], points: Points, levels: Sequence[float], crossover: float | None
) -> None:
    """Scale both axes of a panel, for everything that is drawn in it."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    # Upper ends of bars only: lower ones may be negative, and leave through the bottom.
    ends = [end for _, estimate in points for end in (estimate.value, estimate.interval()[1])]
    curvatures = [
        *np.concatenate([x for x, _ in lines]),
        *(at for at, _ in points),
        *([crossover] if crossover else []),
    ]
    ax.set_xlim(*_logarithmic_ticks(ax.xaxis, curvatures))
    ax.set_ylim(*_logarithmic_ticks(ax.yaxis, [*np.concatenate([y for _, y in lines]), *ends, *levels]))


def _logarithmic_ticks(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """Ticks as dense as the range of the finite values allows, and that range with some room."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    room = max(2 / (high / low) ** 0.5, (high / low) ** 0.04)  # for a factor of four at least
    low, high = low / room, high * room
    decades = math.log10(high / low)
    subs = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(plain if low > 5e-3 and high < 2e4 else _power))
    axis.set_minor_locator(NullLocator())
    return low, high


def _power(value: float, _position: int | None = None) -> str:
    """A tick label as a power of ten."""
    digits, exponent = f"{value:.0e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if digits == "1" else rf"${digits}\times {power}$"


def _enlarged(noises: Sequence[NoiseAutocovariance]) -> float | None:
    """Height of the axis that shows the smallest of the correlations; None if the common axis shows it."""
    highest = max(float(abs(noise.exact).max()) for noise in noises)
    correlations = [float(abs(noise.exact[noise.lags > 0]).max()) for noise in noises]
    smallest = min((height for height in correlations if height > NEGLIGIBLE * highest), default=highest)
    if smallest >= ENLARGED * highest:
        return None
    near = [e for noise in noises for at, e in noise.measured if at > 0 and abs(e.value) < 2 * smallest]
    ends = [abs(end) for estimate in near for end in estimate.interval() if math.isfinite(end)]
    return 1.08 * max([1.4 * smallest, *ends])


def _noise_entries(
    colours: Mapping[str, str],
    with_points: Sequence[bool],
    words: str,
    plateaus: Mapping[str, Mapping[str, float]],
) -> Entries:
    """A line for each noise, with its marker if it has points, and below it its plateau; then what the points are."""
    entries: Entries = []
    for place, (label, colour) in enumerate(colours.items()):
        marker = MARKERS[place % len(MARKERS)] if with_points[place] else ""
        style: dict[str, Any] = {"marker": marker, "markersize": 5.5, "markeredgecolor": "white"}
        entries.append((Line2D([], [], color=colour, linewidth=_width(place, len(colours)), **style), label))
        if label in plateaus:
            weight, velocity, time = (f"{plateaus[label][quantity]:.3g}" for quantity in _QUANTITIES)
            plateau = Line2D([], [], color=colour, **_FLAT)
            entries.append((plateau, f"at curvature 0: {weight}, {velocity} and {time}"))
    if any(with_points):
        marker = MARKERS[list(with_points).index(True) % len(MARKERS)]
        entries.append((Line2D([], [], color=INK, marker=marker, markersize=5, linestyle=""), words))
    return entries
