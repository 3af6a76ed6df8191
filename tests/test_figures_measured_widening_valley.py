"""What the figures of networks under different noises show, on synthetic results."""

import dataclasses

import numpy as np
import pytest

from figures.measured_widening_valley import NoiseCurves, figure_noise_curves
from figures.paired_differences import MOST_DOTS, PairedDifferences, figure_paired_differences
from figures.style import png_bytes
from tests.figure_checks import check_drawn, words_of
from theory.estimate import Estimate

EPOCHS = np.array([0, 10, 20, 30])
RNG = np.random.default_rng(0)


def curves(label: str, factor: float) -> NoiseCurves:
    trace = [Estimate(factor * value, 2.0, 8) for value in (10.0, 40.0, 60.0, 70.0)]
    loss = [Estimate(value, 0.02, 8) for value in (2.3, 0.9, 0.4, 0.1)]
    accuracy = [Estimate(value, 0.01, 8) for value in (0.1, 0.8, 0.85, 0.84)]
    return NoiseCurves(label, EPOCHS, trace, loss, accuracy)


NOISES = [curves("PGD", 1.0), curves("Anti-PGD", 0.7)]


def difference(label: str, mean: float, *, n: int = 8) -> PairedDifferences:
    pairs = mean + RNG.normal(size=n)
    return PairedDifferences(label, pairs, Estimate.from_samples(pairs), abs(mean) > 3)


PAIRS = {
    name: [difference("Anti-PGD - PGD", mean), difference("SGD, reshuffled - SGD, with replacement", 0.0)]
    for name, mean in (("trace of the Hessian", -20.0), ("training loss", 0.0), ("test accuracy", 5.0))
}

FIGURES = {
    "curves": lambda: figure_noise_curves("a network", NOISES),
    "pairs": lambda: figure_paired_differences("after 30 epochs", PAIRS),
    "one pair": lambda: figure_paired_differences("in pairs", {"accuracy": [difference("a - b", 9.0)]}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_its_legend_fits(name: str) -> None:
    check_drawn(FIGURES[name]())


def test_curves_are_drawn_as_given() -> None:
    trace, loss, accuracy = FIGURES["curves"]().axes
    assert [ax.get_yscale() for ax in (trace, loss, accuracy)] == ["log", "log", "linear"]
    assert np.array_equal(trace.lines[1].get_ydata(), [estimate.value for estimate in NOISES[1].trace])
    assert len(trace.collections) == 2  # a band each
    low, high = NOISES[0].test_accuracy[1].interval()
    heights = np.asarray(accuracy.collections[0].get_paths()[0].vertices)[:, 1]
    assert np.isclose(heights, low).any()
    assert np.isclose(heights, high).any()


def test_a_difference_that_is_not_shown_is_open() -> None:
    figure = FIGURES["pairs"]()
    assert len(figure.axes) == 6
    assert "none shown" in words_of(figure)
    assert "none shown" not in words_of(FIGURES["one pair"]())
    for ax in figure.axes:  # each has its zero line within
        low, high = ax.get_xlim()
        assert low < 0 < high


def test_many_pairs_are_thinned() -> None:
    found = difference("a - b", 1.0, n=5 * MOST_DOTS)
    (ax,) = figure_paired_differences("in pairs", {"accuracy": [found]}).axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert np.asarray(dots[0].get_xdata()).shape == (MOST_DOTS,)


def test_equal_pairs_have_an_axis() -> None:
    same = PairedDifferences("a - b", np.zeros(3), Estimate(0.0, 0.0, 3), False)
    assert png_bytes(figure_paired_differences("in pairs", {"accuracy": [same]})).startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="noises is empty"):
        figure_noise_curves("a network", [])
    with pytest.raises(ValueError, match="trace must have one estimate for each of 4 epochs"):
        dataclasses.replace(NOISES[0], trace=NOISES[0].trace[1:])
    with pytest.raises(ValueError, match="must be at least two, ascending"):
        dataclasses.replace(NOISES[0], epochs=EPOCHS[::-1])
    with pytest.raises(ValueError, match="quantities is empty"):
        figure_paired_differences("in pairs", {})
    with pytest.raises(ValueError, match="the same differences"):
        figure_paired_differences("in pairs", {"a": PAIRS["training loss"], "b": PAIRS["training loss"][:1]})
    with pytest.raises(ValueError, match="at least two finite numbers"):
        PairedDifferences("a - b", np.array([1.0]), Estimate(1.0, 0.1, 2), True)
