"""The noise of mini-batches: what it does to the weights in each direction of the loss, and its correlation in time.

Variances are drawn as given, on logarithmic axes: a line ends where they are infinite, and directions without curvature
have no place there. Noises keep their colour and marker by their order in the mapping.
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
from matplotlib.ticker import MaxNLocator

from figures.batch_orders import Look, logarithmic_ticks, looks_of
from figures.perturbation import plot_measured
from figures.style import GREY, INK, Entries, legend_below, panels, styled, title_above
from theory.absorbing import Floats
from theory.estimate import Estimate
from theory.weight_variance import ModeVariances

Points = Sequence[tuple[float, Estimate]]

ENLARGED = 0.25
"""A noise whose correlations all stay below this fraction of the highest is shown a second time, enlarged."""

MOST_EPOCHS = 25
"""More ends of epochs than this are not marked: they would hide the lines."""

NEGLIGIBLE = 1e-9
"""Correlations below this fraction of the highest are rounding errors."""

_LONG, _THIN = 300, 0.6
"""Lines over more lags than this are thinner by this factor: what alternates would be a block."""

_BAR = 10
"""Of a bar, what is lower than its point by more than this factor is not shown."""

_QUANTITIES = ("weight", "velocity", "correlation_time")
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

    Example:
        >>> from theory.epoch_noise import Reshuffled
        >>> from theory.heavy_ball import HeavyBall
        >>> from theory.weight_variance import stationary_variances
        >>> curvature = np.geomspace(0.01, 1, 20)
        >>> content = NoiseVariances(curvature, stationary_variances(HeavyBall(0.1, curvature, 0.9), Reshuffled(50)))
        >>> content.curvature.shape, content.exact.weight.shape
        ((20,), (20,))
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
        weight, velocity = np.asarray(self.exact.weight), np.asarray(self.exact.velocity)
        if not (weight > 0).all() or not ((velocity > 0) & np.isfinite(velocity)).all():
            raise ValueError("exact variances must be > 0, those of velocities finite: a mode needs noise to be drawn")
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

    Example:
        >>> content = NoiseAutocovariance(np.arange(20), np.append(1.0, np.full(19, -1 / 19)))
        >>> bool(abs(content.exact.sum()) < 1e-12)  # reshuffled batches sum to zero
        True
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
    crossover: float | None = None,
    x_label: str = "curvature",
    y_labels: tuple[str, str, str] = ("weight variance", "velocity variance", "correlation time [updates]"),
) -> Figure:
    """Weight variance, velocity variance and correlation time against the curvature, one line for each noise.

    Args:
        title: names the training.
        noises: label -> its variances.
        crossover: the curvature, > 0, where the plateau of batches without replacement ends; None to leave it out.
        x_label: with its unit.
        y_labels: of the three panels, with their units.

    Returns:
        The figure.

    Raises:
        ValueError: without any noise, or for a crossover curvature that is not finite and > 0.

    Example:
        >>> from theory.epoch_noise import Reshuffled
        >>> from theory.heavy_ball import HeavyBall
        >>> from theory.weight_variance import stationary_variances
        >>> curvature = np.geomspace(0.01, 1, 20)
        >>> content = NoiseVariances(curvature, stationary_variances(HeavyBall(0.1, curvature, 0.9), Reshuffled(50)))
        >>> len(figure_variances("SGD with momentum", {"reshuffled": content}).axes)
        3

    Reference: [kuhn2023] the three quantities against the curvature, in shuffled epochs and with white noise
    """
    if not noises:
        raise ValueError("noises is empty: give at least one")
    if crossover is not None and not (crossover > 0 and math.isfinite(crossover)):
        raise ValueError(f"crossover={crossover} must be finite and > 0")
    figure, axes = panels(3, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(noises)
    for ax, quantity, y_label in zip(axes, _QUANTITIES, y_labels, strict=True):
        lines = [_line(noise, quantity) for noise in noises.values()]
        points = [point for noise in noises.values() for point in _points(noise, quantity)]
        _scale(ax, lines, points, crossover)
        for label, noise in noises.items():
            look = looks[label]
            ax.plot(*_line(noise, quantity), **look.line, zorder=3)
            plot_measured(ax, _points(noise, quantity), colour=look.colour, marker=look.marker)
        if crossover:
            ax.axvline(crossover, **_VERTICAL, zorder=2)
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
    simulated = [any(_points(noise, quantity) for quantity in _QUANTITIES) for noise in noises.values()]
    hidden = sum(len(getattr(n, q)) - len(_points(n, q)) for n in noises.values() for q in _QUANTITIES)
    entries = _noise_entries(looks, simulated, "points: simulated (95 %)")
    if hidden:
        words = f"{hidden} simulated points not drawn: curvature or value not > 0"
        entries.append((Line2D([], [], linestyle=""), words))
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

    Example:
        >>> content = NoiseAutocovariance(np.arange(20), np.append(1.0, np.full(19, -1 / 19)))
        >>> len(figure_autocovariance("gradient noise", {"reshuffled": content}, batches_per_epoch=20).axes)
        2

    Reference: [kuhn2023] the autocovariance of the noise in shuffled epochs
    """
    if not noises:
        raise ValueError("noises is empty: give at least one")
    if batches_per_epoch is not None and batches_per_epoch < 2:
        raise ValueError(f"batches_per_epoch={batches_per_epoch} must be >= 2")
    enlarged = _enlarged(list(noises.values()))
    figure, axes = panels(2 if enlarged else 1, sharey=False, wspace=0.05, extra_height=0.9)
    title_above(figure, title)
    looks = looks_of(noises)
    last = max(int(noise.lags[-1]) for noise in noises.values())
    epochs = range(batches_per_epoch, last + 1, batches_per_epoch) if batches_per_epoch else range(0)
    if len(epochs) > MOST_EPOCHS:
        epochs = range(0)
    for ax in axes:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        for epoch in epochs:
            ax.axvline(epoch, **_VERTICAL, zorder=1)
        for label, noise in noises.items():
            look = looks[label]
            width = look.width * (_THIN if last > _LONG else 1)
            ax.plot(noise.lags, noise.exact, color=look.colour, linewidth=width, linestyle=look.style, zorder=3)
            plot_measured(ax, noise.measured, colour=look.colour, marker=look.marker)
        ax.set_xlim(-0.03 * last, 1.03 * last)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        ax.set_xlabel(x_label)
    axes[0].set_ylabel(y_label)
    if enlarged:
        axes[1].set_ylim(-enlarged, enlarged)
        axes[1].set_title("enlarged", fontweight="normal")
    measured = [bool(noise.measured) for noise in noises.values()]
    entries = _noise_entries(looks, measured, "points: measured (95 %)")
    if epochs:
        entries.append((Line2D([], [], **_VERTICAL), f"epochs of {batches_per_epoch} updates"))
    legend_below(figure, entries, columns=2)
    return figure


def _line(noise: NoiseVariances, quantity: str) -> tuple[Floats, Floats]:
    """Positive curvatures and a quantity there, nan where it is infinite."""
    values = np.asarray(getattr(noise.exact, quantity), dtype=float)
    return noise.curvature[noise.curvature > 0], np.where(np.isfinite(values), values, np.nan)[noise.curvature > 0]


def _points(noise: NoiseVariances, quantity: str) -> list[tuple[float, Estimate]]:
    """The simulated points that have a place on the axes."""
    return [(at, e) for at, e in getattr(noise, quantity) if at > 0 and 0 < e.value < math.inf]


def _scale(ax: Axes, lines: Sequence[tuple[Floats, Floats]], points: Points, crossover: float | None) -> None:
    """Scale both axes of a panel, for everything that is drawn in it."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    # Lower ends of bars may be negative, and leave through the bottom.
    ends = [end for _, e in points for end in (e.value, max(e.interval()[0], e.value / _BAR), e.interval()[1])]
    curvatures = [
        *np.concatenate([x for x, _ in lines]),
        *(at for at, _ in points),
        *([crossover] if crossover else []),
    ]
    ax.set_xlim(*logarithmic_ticks(ax.xaxis, curvatures, most=6))
    ax.set_ylim(*logarithmic_ticks(ax.yaxis, [*np.concatenate([y for _, y in lines]), *ends]))


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


def _noise_entries(looks: Mapping[str, Look], with_points: Sequence[bool], words: str) -> Entries:
    """A line for each noise, with its marker if it has points; then what the points are."""
    entries: Entries = []
    for (label, look), marked in zip(looks.items(), with_points, strict=True):
        marker = look.marker if marked else ""
        style: dict[str, Any] = {"marker": marker, "markersize": 5.5, "markeredgecolor": "white"}
        entries.append((Line2D([], [], **look.line, **style), label))
    if any(with_points):
        marker = next(look.marker for look, marked in zip(looks.values(), with_points, strict=True) if marked)
        entries.append((Line2D([], [], color=INK, marker=marker, markersize=5, linestyle=""), words))
    return entries
