"""What the figure of the autocovariance of gradient noise shows."""

import math

import numpy as np
import pytest

from figures.batch_orders import COLOURS
from figures.weight_variance import MOST_EPOCHS, NoiseAutocovariance, figure_autocovariance
from tests.figure_checks import bars_of, words_of, x_of, y_of
from tests.noise_figures import (
    LAGS,
    NOISES,
    ONCE,
    RESHUFFLED,
    WHITE,
    M,
    autocovariance,
    in_time,
    line_of,
    points_of,
    straight_of,
)
from theory.estimate import Estimate
from theory.gradient_noise import Reshuffled, WhiteNoise


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
