"""What the figure of effective temperatures shows, on small synthetic results."""

import math
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.effective_temperature import COLDEST, LagTemperatures, figure_effective_temperature
from figures.style import COLOURS, GREY, png_bytes
from theory.effective_temperature import lag_temperature, spectral_temperature
from theory.estimate import Estimate
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall

FREQUENCIES = np.geomspace(1e-3, math.pi, 101)
LAGS = np.arange(1, 9)
NOISES: dict[str, GradientNoise] = {
    "reshuffled": Reshuffled(10),
    "white": WhiteNoise(),
    "anti_pgd": AntiCorrelatedIncrements(),
}
MODES = {"flat": HeavyBall(1.0, 0.01, 0.0), "steep": HeavyBall(1.0, 0.4, 0.0)}
POINTS = ((2.0, Estimate(0.45, 0.02, 300)), (5.0, Estimate(math.inf, math.inf, 300)))


def spectra(noises: dict[str, GradientNoise] | None = None) -> dict[str, np.ndarray]:
    mode = MODES["flat"]
    return {name: spectral_temperature(mode, noise, FREQUENCIES) for name, noise in (noises or NOISES).items()}


def temperatures(points: Any = ()) -> dict[str, dict[str, LagTemperatures]]:
    return {
        heading: {
            name: LagTemperatures(LAGS, lag_temperature(mode, noise, LAGS), points if name == "white" else ())
            for name, noise in NOISES.items()
        }
        for heading, mode in MODES.items()
    }


def drawn(points: Any = POINTS, **settings: Any) -> Figure:
    arguments = {"frequencies": FREQUENCIES, "spectra": spectra(), "modes": temperatures(points), "white": 0.5}
    return figure_effective_temperature("SGD", **{**arguments, **settings})


def lines_of(ax: Axes, colour: str) -> list[Line2D]:
    return [line for line in ax.get_lines() if same_color(line.get_color(), colour) and line.get_linestyle() == "-"]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_lines_are_the_temperatures_in_one_colour_for_each_order() -> None:
    axes = drawn().axes
    assert [ax.get_title(loc="left") for ax in axes] == ["all curvatures", "flat", "steep"]
    for colour, (name, noise) in zip(COLOURS, NOISES.items(), strict=False):
        (line,) = lines_of(axes[0], colour)
        np.testing.assert_array_equal(line.get_data(), [FREQUENCIES, spectra()[name]])
        for ax, mode in zip(axes[1:], MODES.values(), strict=True):
            (line,) = lines_of(ax, colour)
            np.testing.assert_array_equal(line.get_data(), [LAGS, lag_temperature(mode, noise, LAGS)])
    for ax in axes:
        dashed = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
        assert [np.asarray(line.get_ydata()).tolist() for line in dashed] == [[0.5, 0.5]]
        assert same_color(dashed[0].get_color(), GREY)


def test_axes_hold_what_they_must() -> None:
    figure = drawn()
    spectral, *lagged = figure.axes
    assert spectral.get_xscale() == spectral.get_yscale() == "log"
    assert spectral.get_xlim() == pytest.approx((1e-3, math.pi))
    low, high = spectral.get_ylim()
    assert 0.5 * COLDEST / 2 < low < 0.5 * COLDEST  # what is colder leaves through the bottom
    assert high > max(values.max() for values in spectra().values())
    for ax, orders in zip(lagged, temperatures().values(), strict=True):
        values = np.concatenate([content.exact for content in orders.values()])
        assert ax.get_ylim()[0] < min(values.min(), 0) <= 0 < values.max() < ax.get_ylim()[1]
        assert ax.get_xlim()[0] < 1
        assert ax.get_xlim()[1] > 8
    assert spectral.get_ylabel() == "effective temperature"


def test_simulated_points_have_bars_and_infinite_ones_are_left_out() -> None:
    figure = drawn()
    for ax in figure.axes[1:]:
        bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
        assert len(bars) == 1
        assert np.asarray(bars[0].lines[0].get_xdata()).tolist() == [2.0]
        assert np.asarray(bars[0].lines[0].get_ydata()).tolist() == [0.45]
        assert same_color(bars[0].lines[0].get_color(), COLOURS[1])
    assert words(figure) == ["reshuffled", "white", "anti_pgd", "independent batches: 0.5", "simulated (95 %)"]
    bare = drawn(points=())
    assert words(bare)[-1] == "independent batches: 0.5"
    assert not any(isinstance(c, ErrorbarContainer) for ax in bare.axes for c in ax.containers)


def test_a_point_beyond_the_line_does_not_stretch_the_axis() -> None:
    near, far = drawn(points=()), drawn(points=((12.0, Estimate(1e6, 1.0, 300)),))
    assert far.axes[1].get_ylim() == near.axes[1].get_ylim()
    high = drawn(points=((3.0, Estimate(4.0, 0.5, 300)),))
    assert high.axes[1].get_ylim()[1] > 4.9


def test_points_beyond_the_lines_are_counted() -> None:
    points = ((2.0, Estimate(0.45, 0.02, 300)), (12.0, Estimate(0.4, 0.02, 300)))
    assert words(drawn(points=points))[-1] == "2 simulated points beyond the lines not drawn"


def test_peaks_too_near_to_be_told_apart_are_a_mean_and_a_range() -> None:
    noise = ReshuffledEvery(50, 20)
    frequencies = np.unique(np.append(FREQUENCIES, np.linspace(1e-3, math.pi, 4001)))
    values = spectral_temperature(MODES["flat"], noise, frequencies)
    figure = drawn(frequencies=frequencies, spectra={"every": values}, modes={})
    ax = figure.axes[0]
    exact, mean = lines_of(ax, COLOURS[0])
    last = float(np.asarray(exact.get_xdata())[-1])
    assert 0.01 < last < 0.5
    assert np.array_equal(exact.get_ydata(), values[frequencies <= last])
    assert len(ax.collections) == 1
    at, means = np.asarray(mean.get_xdata()), np.asarray(mean.get_ydata())
    # With whole peaks in a bin, the mean is the temperature of independent batches.
    np.testing.assert_allclose(means[at > 2].mean(), 0.5, rtol=0.1)
    assert words(figure)[0] == "every (peaks: mean and range)"
    assert len(drawn().axes[0].collections) == 0


def test_lines_are_marked_at_the_upper_edge() -> None:
    noises: dict[str, GradientNoise] = {"shuffled_once": ShuffledOnce(10), "white": WhiteNoise()}
    figure = drawn(spectra=spectra(noises), modes={}, lines={"shuffled_once": ShuffledOnce(10).lines[0]})
    (marks,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    np.testing.assert_allclose(np.asarray(marks.get_xdata()), math.tau / 10 * np.arange(1, 6), rtol=1e-12)
    assert words(figure)[0] == "shuffled_once (lines, infinitely hot: marks at the top)"


def test_an_order_of_single_lines_has_no_spectrum_to_draw() -> None:
    noises: dict[str, GradientNoise] = {"shuffled_once": ShuffledOnce(10), "white": WhiteNoise()}
    figure = drawn(spectra=spectra(noises), modes={})
    (line,) = lines_of(figure.axes[0], COLOURS[0])
    assert np.isnan(np.asarray(line.get_ydata(), dtype=float)).all()
    assert words(figure)[0] == "shuffled_once (its spectrum is single lines)"
    assert len(figure.axes) == 1
    png_bytes(figure)  # the only finite spectrum is constant


def test_one_lag_and_equal_bytes_and_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    modes = {"one lag": {"white": LagTemperatures(np.array([1]), np.array([0.5]))}}
    first, second = (png_bytes(drawn(modes=modes)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequencies": FREQUENCIES[::-1]}, "must be at least two, > 0 and ascending"),
        ({"frequencies": FREQUENCIES[:1]}, "must be at least two"),
        ({"spectra": {}}, "spectra is empty"),
        ({"spectra": {"white": FREQUENCIES[:5]}}, r"spectra\['white'\] must be finite, >= 0 and one for each of 101"),
        ({"spectra": {"white": -FREQUENCIES}}, r"spectra\['white'\] must be finite, >= 0"),
        ({"spectra": {"white": FREQUENCIES}}, "modes name the order 'reshuffled', which has no spectrum"),
        ({"white": 0.0}, "white=0.0 must be finite and > 0"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(**settings)


@pytest.mark.parametrize(
    ("lags", "exact", "message"),
    [
        ([0, 1], [1.0, 1.0], "must be whole numbers >= 1, ascending"),
        ([2, 1], [1.0, 1.0], "must be whole numbers >= 1, ascending"),
        ([1.0], [1.0], "must be whole numbers >= 1"),
        (np.zeros(0, int), [], "at least one"),
        ([1, 2], [1.0], "one for each of 2 lags"),
        ([1, 2], [1.0, math.inf], "must be finite numbers"),
    ],
)
def test_lag_temperatures_refuse(lags: Any, exact: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LagTemperatures(lags, exact)
