"""What the figures of the noise of mini-batches show, on closed forms and synthetic points."""

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.batch_orders import COLOURS, MARKERS
from figures.style import png_bytes, styled
from figures.weight_variance import (
    MOST_EPOCHS,
    NoiseAutocovariance,
    NoiseVariances,
    figure_autocovariance,
    figure_variances,
)
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

# ---- results --------------------------------------------------------------------------------------------------------

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


def points(values: npt.ArrayLike) -> list[tuple[float, Estimate]]:
    """One at every tenth place, 3 % too high and with an error of 2 %."""
    return [
        (float(at), Estimate(1.03 * value, 0.02 * value, 400))
        for at, value in zip(CURVATURE[5::10], np.asarray(values)[5::10], strict=True)
    ]


def variances(label: str, *, simulated: bool = True, zero: bool = False) -> NoiseVariances:
    there = exact(label, CURVATURE)
    given = [points(getattr(there, quantity)) for quantity in QUANTITIES] if simulated else []
    curvature = np.append(0.0, CURVATURE) if zero else CURVATURE
    return NoiseVariances(curvature, exact(label, curvature), *given)


def one() -> Figure:
    return figure_variances(
        "a training",
        {RESHUFFLED: variances(RESHUFFLED)},
        crossover=CROSSOVER,
        x_label="curvature λ",
        y_labels=("weight variance / (η² σ²)", "velocity variance / (η² σ²)", "correlation time [updates]"),
    )


def all_noises(*, simulated: bool = True, zero: bool = False) -> Figure:
    noises = {label: variances(label, simulated=simulated, zero=zero) for label in NOISES}
    return figure_variances("a training", noises, crossover=CROSSOVER)


def autocovariance(label: str, lags: npt.NDArray[np.int64] = LAGS) -> NoiseAutocovariance:
    values = NOISES[label].autocovariance(lags)
    measured = [(float(h), Estimate(c + 0.001, 0.002, 400)) for h, c in zip(lags[1::9], values[1::9], strict=True)]
    return NoiseAutocovariance(lags, values, measured)


def in_time(*labels: str, lags: npt.NDArray[np.int64] = LAGS, batches_per_epoch: int | None = M) -> Figure:
    noises = {label: autocovariance(label, lags) for label in labels}
    return figure_autocovariance("a noise", noises, batches_per_epoch=batches_per_epoch)


def odd_points() -> Figure:
    """Infinite, negative and at zero curvature, with bars that are infinite or reach below zero."""
    odd = [
        (0.0, Estimate(1.0, 0.1, 9)),
        (0.01, Estimate(math.inf, math.inf, 9)),
        (0.02, Estimate(-1.0, 0.1, 9)),
        (0.1, Estimate(50.0, 40.0, 9)),
        (0.2, Estimate(40.0, 1.0, 9, (30.0, math.inf))),
    ]
    noise = NoiseVariances(CURVATURE, exact(RESHUFFLED, CURVATURE), odd)
    return figure_variances("a training", {RESHUFFLED: noise})


def eight() -> Figure:
    return figure_variances(
        "a training", {f"noise {i}": variances(label) for i, label in enumerate((*NOISES, *NOISES)[:8])}
    )


def wide() -> Figure:
    curvature = np.geomspace(1e-17, 1, 60)
    noises = {RESHUFFLED: NoiseVariances(curvature, exact(RESHUFFLED, curvature))}
    return figure_variances("a training", noises, crossover=CROSSOVER)


FIGURES: dict[str, Callable[[], Figure]] = {
    "one noise": one,
    "eight noises": eight,
    "eighteen decades": wide,
    "five noises": all_noises,
    "five noises without points": lambda: all_noises(simulated=False),
    "five noises and zero curvature": lambda: all_noises(zero=True),
    "odd points": odd_points,
    "narrow range": lambda: figure_variances(
        "a training", {WHITE: NoiseVariances(np.array([0.9, 1.0]), exact(WHITE, [0.9, 1.0]))}
    ),
    "in time": lambda: in_time(RESHUFFLED),
    "in time, all": lambda: in_time(*NOISES),
    "in time, white": lambda: in_time(WHITE),
    "in time, two lags": lambda: in_time(RESHUFFLED, lags=np.array([0, 1])),
    "in time, without lag 0": lambda: in_time(RESHUFFLED, lags=LAGS[1:]),
    "in time, zero": lambda: figure_autocovariance("nothing", {"none": NoiseAutocovariance(LAGS, np.zeros(len(LAGS)))}),
}


# ---- what is drawn --------------------------------------------------------------------------------------------------


def words_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def x_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), dtype=float).tolist()


def y_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def line_of(ax: Axes, colour: str) -> Line2D:
    """The curve in that colour: not a straight line or points."""
    lines = [line for line in ax.lines if same_color(line.get_color(), colour) and line.get_linestyle() in ("-", "--")]
    (line,) = [line for line in lines if len(x_of(line)) > 2]
    return line


def bars_of(ax: Axes) -> list[ErrorbarContainer]:
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def points_of(bars: ErrorbarContainer) -> list[tuple[float, float]]:
    line = bars.lines[0]
    assert line is not None
    return list(zip(x_of(line), y_of(line), strict=True))


def straight_of(ax: Axes, style: str) -> list[tuple[list[float], list[float]]]:
    return [(x_of(line), y_of(line)) for line in ax.lines if line.get_linestyle() == style]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_its_legend_fits(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    with styled():
        figure.draw_without_rendering()
        (legend,) = figure.legends
        place = legend.get_window_extent()
    assert dict(matplotlib.rcParams) == before
    assert place.x1 <= figure.bbox.x1
    assert all(place.y1 < ax.get_window_extent().y0 for ax in figure.axes)
    for ax in figure.axes:
        low, high = ax.get_ylim()
        assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 2, "without two ticks an axis has no scale"
        low, high = ax.get_xlim()
        ticks = [tick for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert all(one.x1 + 2 < other.x0 for one, other in pairwise(boxes)), "labels overlap"


@pytest.mark.parametrize("draw", [one, lambda: in_time(RESHUFFLED)])
def test_equal_figures_have_equal_bytes(draw: Callable[[], Figure]) -> None:
    assert png_bytes(draw()) == png_bytes(draw())


def test_imports_neither_pyplot_nor_compiled_kernels() -> None:
    code = """
import sys
import figures.weight_variance
print([name for name in ("matplotlib.pyplot", "torch", "numba", "nnval", "scipy.stats") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert (process.stdout, process.stderr) == ("[]\n", "")


# ---- against the curvature ------------------------------------------------------------------------------------------


def test_variances_and_points_are_drawn_as_given() -> None:
    figure = one()
    there = exact(RESHUFFLED, CURVATURE)
    assert figure.get_suptitle() == "a training"
    assert [ax.get_xlabel() for ax in figure.axes] == ["curvature λ"] * 3
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "weight variance / (η² σ²)",
        "velocity variance / (η² σ²)",
        "correlation time [updates]",
    ]
    for ax, quantity in zip(figure.axes, QUANTITIES, strict=True):
        values = getattr(there, quantity)
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert x_of(line_of(ax, COLOURS[0])) == CURVATURE.tolist()
        assert y_of(line_of(ax, COLOURS[0])) == values.tolist()
        (bars,) = bars_of(ax)
        assert points_of(bars) == [(at, estimate.value) for at, estimate in points(values)]
        ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
        assert ends == [pytest.approx(estimate.interval()) for _, estimate in points(values)]
        low, high = ax.get_ylim()
        assert low < values.min()
        assert values.max() < high


def test_the_crossover_is_a_straight_line_with_its_number_in_the_legend() -> None:
    figure = one()
    assert all(straight_of(ax, ":") == [([CROSSOVER] * 2, [0, 1])] for ax in figure.axes)
    assert words_of(figure) == ["a new order every epoch", "points: simulated (95 %)", "crossover curvature 0.006"]


def test_eight_noises_have_eight_looks() -> None:
    for ax in eight().axes:
        bars = [bar.lines[0] for bar in bars_of(ax)]
        assert [line.get_marker() for line in bars if line is not None] == list(MARKERS)
        assert len({str(line.get_color()) for line in bars if line is not None}) == len(set(COLOURS)) == 8


def test_plateau_and_white_noise_meet_at_the_crossover() -> None:
    """The picture's message, in the panel of the correlation time: within 15 %, as the crossover is a leading order."""
    *_, ax = all_noises().axes
    level = float(exact(RESHUFFLED, 0.0).correlation_time)
    white = line_of(ax, COLOURS[0])
    meet = np.exp(np.interp(-math.log(level), -np.log(y_of(white)), np.log(x_of(white))))
    assert meet == pytest.approx(CROSSOVER, rel=0.15)


def test_bars_are_whole_unless_they_are_long() -> None:
    short, long = ([(0.1, Estimate(2.0, error, 400))] for error in (0.3, 5.0))
    for points_there, low in ((short, 2 - 1.97 * 0.3), (long, 0.2)):
        noise = NoiseVariances(CURVATURE, exact(WHITE, CURVATURE), (), points_there)
        ax = figure_variances("a training", {WHITE: noise}).axes[1]
        assert 0.05 < ax.get_ylim()[0] < low


def test_every_noise_has_its_colour_marker_and_width() -> None:
    figure = all_noises()
    for ax in figure.axes:
        lines = [line_of(ax, colour) for colour in COLOURS[: len(NOISES)]]
        widths = [line.get_linewidth() for line in lines]
        assert widths == sorted(widths, reverse=True), "the first stay visible below the last"
        assert len(set(widths)) == len(widths)
        markers = [bars.lines[0].get_marker() for bars in bars_of(ax) if bars.lines[0] is not None]
        assert markers == list(MARKERS[: len(NOISES)])
    assert words_of(figure) == [*NOISES, "points: simulated (95 %)", "crossover curvature 0.006"]


def test_legend_names_only_what_is_drawn() -> None:
    assert words_of(figure_variances("a training", {RESHUFFLED: variances(RESHUFFLED, simulated=False)})) == [
        RESHUFFLED
    ]


def test_zero_curvature_is_left_out() -> None:
    for with_zero, without in zip(all_noises(zero=True).axes, all_noises().axes, strict=True):
        assert with_zero.get_xlim() == without.get_xlim()
        assert with_zero.get_ylim() == without.get_ylim()
        for colour in COLOURS[: len(NOISES)]:
            assert x_of(line_of(with_zero, colour)) == x_of(line_of(without, colour))


def test_a_line_ends_where_its_variance_is_infinite() -> None:
    given = exact(RESHUFFLED, CURVATURE)
    weight = np.where(CURVATURE < 1e-3, np.inf, given.weight)
    noise = NoiseVariances(CURVATURE, ModeVariances(weight, given.velocity))
    weights, velocities, times = figure_variances("a training", {RESHUFFLED: noise}).axes
    for ax in (weights, times):
        assert np.isnan(y_of(line_of(ax, COLOURS[0]))).tolist() == (CURVATURE < 1e-3).tolist()
        assert ax.get_ylim()[1] < 1e4
    assert y_of(line_of(velocities, COLOURS[0])) == given.velocity.tolist()


def test_points_without_a_place_on_the_axes_are_left_out() -> None:
    ax, *others = odd_points().axes
    (bars,) = bars_of(ax)
    assert points_of(bars) == [(0.1, 50.0), (0.2, 40.0)]
    assert all(bars_of(other) == [] for other in others)
    assert words_of(odd_points())[-1] == "3 simulated points not drawn: curvature or value not > 0"
    low, high = ax.get_ylim()
    assert low > 1
    assert 50 + 2.3 * 40 < high < 2000


def test_variances_refuse_what_they_cannot_draw() -> None:
    here = variances(RESHUFFLED)
    with pytest.raises(ValueError, match="noises is empty"):
        figure_variances("a training", {})
    for crossover in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"crossover={crossover} must be finite and > 0"):
            figure_variances("a training", {RESHUFFLED: here}, crossover=crossover)


@pytest.mark.parametrize(
    ("curvature", "weight", "velocity", "message"),
    [
        ([1.0, 2.0], [1.0], [1.0, 1.0], r"variances of shapes \(2,\), \(1,\) and \(2,\): give one of each"),
        (1.0, 1.0, 1.0, r"shapes \(\), \(\) and \(\): give one"),
        ([2.0, 1.0], [1.0, 1.0], [1.0, 1.0], "curvature must be finite, >= 0 and ascending"),
        ([-1.0, 1.0], [1.0, 1.0], [1.0, 1.0], "curvature must be finite, >= 0 and ascending"),
        ([1.0, math.inf], [1.0, 1.0], [1.0, 1.0], "curvature must be finite, >= 0 and ascending"),
        ([1.0, 2.0], [1.0, 0.0], [1.0, 1.0], "exact variances must be > 0, those of velocities finite"),
        ([1.0, 2.0], [1.0, math.nan], [1.0, 1.0], "exact variances must be > 0"),
        ([1.0, 2.0], [1.0, 1.0], [1.0, math.inf], "those of velocities finite"),
        ([1.0, 2.0], [1.0, math.inf], [1.0, 1.0], "finite at two curvatures > 0: else there is no line"),
        ([0.0, 2.0], [1.0, 1.0], [1.0, 1.0], "finite at two curvatures > 0"),
    ],
)
def test_noise_variances_check_themselves(
    curvature: npt.ArrayLike, weight: npt.ArrayLike, velocity: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseVariances(np.asarray(curvature), ModeVariances(np.asarray(weight), np.asarray(velocity)))


# ---- in time --------------------------------------------------------------------------------------------------------


def test_autocovariances_are_drawn_as_given() -> None:
    figure = in_time(*NOISES)
    whole, enlarged = figure.axes
    assert figure.get_suptitle() == "a noise"
    assert [ax.get_xlabel() for ax in figure.axes] == ["lag h [updates]"] * 2
    assert whole.get_ylabel() == "autocovariance of the gradient noise"
    assert enlarged.get_title(loc="left") == "enlarged"
    for ax in figure.axes:
        assert straight_of(ax, ":") == [([50, 50], [0, 1]), ([100, 100], [0, 1])]
        for label, colour, bars in zip(NOISES, COLOURS[: len(NOISES)], bars_of(ax), strict=True):
            noise = autocovariance(label)
            assert x_of(line_of(ax, colour)) == LAGS.tolist()
            assert y_of(line_of(ax, colour)) == noise.exact.tolist()
            assert points_of(bars) == [(at, estimate.value) for at, estimate in noise.measured]
    assert words_of(figure) == [*NOISES, "points: measured (95 %)", "epochs of 50 updates"]


def test_small_correlations_are_enlarged_together_with_their_bars() -> None:
    whole, enlarged = in_time(RESHUFFLED).axes
    low, high = enlarged.get_ylim()
    assert low == -high
    assert 1 / (M - 1) < high < 2 / (M - 1)
    assert whole.get_ylim()[1] > 1
    noisy = NoiseAutocovariance(LAGS, Reshuffled(M).autocovariance(LAGS), [(5.0, Estimate(-0.02, 0.03, 400))])
    assert figure_autocovariance("a noise", {RESHUFFLED: noisy}).axes[1].get_ylim()[0] < -0.02 - 1.9 * 0.03


@pytest.mark.parametrize("labels", [["persistent"], ["anti-correlated increments"], [ONCE], [WHITE]])
def test_large_correlations_need_no_second_panel(labels: list[str]) -> None:
    (ax,) = in_time(*labels).axes
    assert ax.get_ylim()[1] > 1


def test_rounding_errors_are_not_enlarged() -> None:
    nearly_white = WhiteNoise().autocovariance(LAGS) + 1e-17 * LAGS
    assert len(figure_autocovariance("a noise", {"white": NoiseAutocovariance(LAGS, nearly_white)}).axes) == 1


def test_epochs_are_marked_unless_they_are_many() -> None:
    assert straight_of(in_time(WHITE, batches_per_epoch=None).axes[0], ":") == []
    for batches, marked in ((200, 0), (5, 24), (4, 0)):
        figure = in_time(WHITE, batches_per_epoch=batches)
        assert len(straight_of(figure.axes[0], ":")) == marked <= MOST_EPOCHS
        assert (f"epochs of {batches} updates" in words_of(figure)) == bool(marked)


def test_autocovariance_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="noises is empty"):
        figure_autocovariance("a noise", {})
    with pytest.raises(ValueError, match="batches_per_epoch=1 must be >= 2"):
        in_time(WHITE, batches_per_epoch=1)
    for lags in ([0], [0.0, 1.0], [1, 1], [-1, 0], [[0, 1]]):
        with pytest.raises(ValueError, match=r"lags of shape .* must be at least two whole numbers >= 0, ascending"):
            NoiseAutocovariance(np.array(lags), np.zeros(np.shape(lags)))
    for values in ([1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match=r"exact of shape .* must be finite numbers, one for each of 2 lags"):
            NoiseAutocovariance(np.array([0, 1]), np.array(values))
