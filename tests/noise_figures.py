"""Figures of five noises of mini-batches, and what is read off their axes."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.weight_variance import NoiseAutocovariance, figure_autocovariance
from tests.figure_checks import x_of, y_of
from theory.estimate import Estimate
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ShuffledOnce,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import ModeVariances, stationary_variances
from theory.weight_variance_limits import crossover_curvature

M = 50
CURVATURE = np.geomspace(1e-4, 3, 60)
LAGS = np.arange(121)
CROSSOVER = crossover_curvature(1.0, M, 0.9)
QUANTITIES = ("weight", "velocity", "correlation_time")
NOISES: dict[str, GradientNoise] = {
    "with replacement": WhiteNoise(),
    "a new order every epoch": Reshuffled(M),
    "one order for all epochs": ShuffledOnce(M),
    "persistent": Persistent(0.9),
    "anti-correlated increments": AntiCorrelatedIncrements(),
}
WHITE, RESHUFFLED, ONCE, *_ = NOISES


def exact(label: str, curvature: npt.ArrayLike) -> ModeVariances:
    return stationary_variances(HeavyBall(1.0, curvature, 0.9), NOISES[label])


def autocovariance(label: str, lags: npt.NDArray[np.int64] = LAGS) -> NoiseAutocovariance:
    values = NOISES[label].autocovariance(lags)
    measured = [(float(h), Estimate(c + 0.001, 0.002, 400)) for h, c in zip(lags[1::9], values[1::9], strict=True)]
    return NoiseAutocovariance(lags, values, measured)


def in_time(*labels: str, lags: npt.NDArray[np.int64] = LAGS, batches_per_epoch: int | None = M) -> Figure:
    noises = {label: autocovariance(label, lags) for label in labels}
    return figure_autocovariance("a noise", noises, batches_per_epoch=batches_per_epoch)


# ---- what is drawn --------------------------------------------------------------------------------------------------


def line_of(ax: Axes, colour: str) -> Line2D:
    """The curve in that colour: not a straight line or points."""
    lines = [line for line in ax.lines if same_color(line.get_color(), colour) and line.get_linestyle() in ("-", "--")]
    (line,) = [line for line in lines if len(x_of(line)) > 2]
    return line


def points_of(bars: ErrorbarContainer) -> list[tuple[float, float]]:
    line = bars.lines[0]
    assert line is not None
    return list(zip(x_of(line), y_of(line), strict=True))


def straight_of(ax: Axes, style: str) -> list[tuple[list[float], list[float]]]:
    return [(x_of(line), y_of(line)) for line in ax.lines if line.get_linestyle() == style]
