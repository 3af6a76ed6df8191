"""What the figures of measured weight variances and their scans show, on synthetic results."""

import dataclasses

import numpy as np
import pytest

from figures.measured_weight_variance import (
    Limits,
    MeasuredVariances,
    figure_measured_variances,
    figure_ratios,
    figure_scaled_variances,
)
from figures.style import png_bytes
from figures.variance_scan import ScannedPoint, figure_scanned_deviations, figure_scanned_times
from tests.figure_checks import check_drawn, words_of
from theory.estimate import Estimate
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance import ModeVariances, stationary_variances
from theory.weight_variance_limits import crossover_curvature

ETA, BETA, M = 0.001, 0.9, 1000
CURVATURE = np.geomspace(0.02, 50, 30)[::-1]
CROSSOVER = crossover_curvature(ETA, M, BETA)
LIMITS = Limits(ETA, BETA, M, CROSSOVER)
NOISES = {"reshuffled": Reshuffled(M), "with replacement": WhiteNoise()}
INSIDE = CURVATURE > 0.05


def exact(label: str, curvature: np.ndarray, factor: np.ndarray | float) -> ModeVariances:
    return stationary_variances(HeavyBall(ETA, curvature, BETA), NOISES[label]).scaled(factor)


def measured(label: str) -> MeasuredVariances:
    """Noise proportional to the curvature; measured are 1.1 times theory, with an error of 5 %."""
    theory = exact(label, CURVATURE, CURVATURE)
    weight, velocity = (
        [Estimate(1.1 * v, 0.05 * v, 16) for v in values] for values in (theory.weight, theory.velocity)
    )
    times = [Estimate(t, 0.05 * t, 16) for t in theory.correlation_time]
    left_out = 2 if label == "reshuffled" else 0
    return MeasuredVariances(
        label, CURVATURE, weight, velocity, times, theory, ETA**2 * CURVATURE, INSIDE, left_out=left_out
    )


ORDERS = [measured(label) for label in NOISES]
GRID = np.geomspace(0.01, 80, 50)
LINES = {label: (GRID, exact(label, GRID, ETA**-2)) for label in NOISES}


def point(value: float, *, below: Estimate | None = None) -> ScannedPoint:
    times = [Estimate(value * t.value, t.standard_error, 16) for t in ORDERS[0].correlation_time]
    line = (GRID, value * LINES["reshuffled"][1].correlation_time)
    return ScannedPoint(value, CURVATURE, times, line, Estimate(-0.02, 0.01, 16), below)


SCANS = {
    "momentum": [point(value, below=Estimate(0.1, 0.02, 16)) for value in (0.1, 0.5, 0.9)],
    "batch size": [point(10.0), point(20.0), point(100.0)],
}

FIGURES = {
    "variances": lambda: figure_measured_variances("a network", ORDERS, crossover=CROSSOVER),
    "scaled": lambda: figure_scaled_variances("a network", ORDERS, LINES, LIMITS),
    "ratios": lambda: figure_ratios("a network", ORDERS, crossover=CROSSOVER, second_crossovers={"reshuffled": 0.04}),
    "times": lambda: figure_scanned_times("a network", SCANS),
    "deviations": lambda: figure_scanned_deviations("a network", SCANS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_its_legend_fits(name: str) -> None:
    assert png_bytes(FIGURES[name]()) == check_drawn(FIGURES[name]())


def test_limits_are_those_of_the_slides() -> None:
    """Eqs. (18)-(20), which the exact line reaches on either side of the crossover where M (1 - beta) is large."""
    steep = np.array([40 * CROSSOVER])
    white, reshuffled = (exact(label, steep, ETA**-2) for label in ("with replacement", "reshuffled"))
    for quantity in ("weight", "velocity", "correlation_time"):
        assert LIMITS.steep(quantity, steep) == pytest.approx(getattr(white, quantity), rel=0.02)
        assert LIMITS.steep(quantity, steep) == pytest.approx(getattr(reshuffled, quantity), rel=0.05)
        there = exact("reshuffled", np.array([1e-3 * CROSSOVER]), ETA**-2)
        assert LIMITS.flat(quantity) == pytest.approx(getattr(there, quantity)[0], rel=0.05)
    assert LIMITS.flat("correlation_time") == pytest.approx(LIMITS.steep("correlation_time", np.array([CROSSOVER]))[0])


def test_points_and_lines_are_as_given() -> None:
    figure = figure_measured_variances("a network", ORDERS, crossover=CROSSOVER)
    ax = figure.axes[0]
    rising = np.argsort(CURVATURE)
    assert any(
        np.array_equal(line.get_xydata(), np.column_stack([CURVATURE[rising], ORDERS[0].predicted.weight[rising]]))
        for line in ax.lines
    )
    drawn = np.concatenate([line.get_xdata() for line in ax.lines if line.get_marker() == "o"])
    assert sorted(drawn) == pytest.approx(sorted(CURVATURE))
    assert any("reshuffled (2 left out)" in words for words in words_of(figure))
    assert "outside the regime of theory" in words_of(figure)
    assert any(f"{CROSSOVER:.3g}" in words for words in words_of(figure))


def test_scaled_points_are_in_units_of_the_noise() -> None:
    ax = figure_scaled_variances("a network", ORDERS, LINES, LIMITS).axes[0]
    points = [line for line in ax.lines if line.get_marker() == "s"]
    drawn = np.concatenate([line.get_xydata() for line in points])
    white = exact("with replacement", CURVATURE, ETA**-2).weight
    assert sorted(drawn[:, 1]) == pytest.approx(sorted(1.1 * white))


def test_a_second_crossover_beyond_the_axis_is_left_out() -> None:
    assert any("second" in words for words in words_of(FIGURES["ratios"]()))
    far = figure_ratios("a network", ORDERS, crossover=CROSSOVER, second_crossovers={"reshuffled": 1e-9})
    assert not any("second" in words for words in words_of(far))


def test_scans_show_what_there_is() -> None:
    axes = FIGURES["deviations"]().axes
    assert [len(ax.containers) for ax in axes] == [2, 1]  # below the crossover there is nothing for batch sizes
    assert axes[1].get_xscale() == "log"
    assert axes[0].get_xlabel() == "momentum"


def test_what_cannot_be_drawn_is_refused() -> None:
    one = ORDERS[0]
    for change, message in (
        ({"curvature": -CURVATURE}, "curvature must be finite and > 0"),
        ({"unit": np.zeros(30)}, "unit must be > 0"),
        ({"inside": INSIDE[1:]}, "give one of each for every one of 30 directions"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(one, **change)
    with pytest.raises(ValueError, match="orders is empty"):
        figure_measured_variances("a network", [], crossover=1.0)
    with pytest.raises(ValueError, match="lines has none for with replacement"):
        figure_scaled_variances("a network", ORDERS, {"reshuffled": LINES["reshuffled"]}, LIMITS)
    with pytest.raises(ValueError, match="scans is empty"):
        figure_scanned_times("a network", {})
    with pytest.raises(ValueError, match="give a curvature > 0 for each correlation time"):
        dataclasses.replace(SCANS["momentum"][0], curvature=CURVATURE[1:])
