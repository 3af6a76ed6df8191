"""What the figures of variances against the curvature show, on closed forms and synthetic points."""

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
from matplotlib.figure import Figure

from figures.batch_orders import COLOURS, MARKERS
from figures.style import png_bytes, styled
from figures.weight_variance import NoiseAutocovariance, NoiseVariances, figure_autocovariance, figure_variances
from tests.figure_checks import bars_of, words_of, x_of, y_of
from tests.noise_figures import (
    CROSSOVER,
    CURVATURE,
    LAGS,
    NOISES,
    QUANTITIES,
    RESHUFFLED,
    WHITE,
    exact,
    in_time,
    line_of,
    points_of,
    straight_of,
)
from theory.estimate import Estimate
from theory.weight_variance import ModeVariances


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
