"""What the figures of an advice show, on small studies."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from figures.advice import figure_ranking, figure_settling, figure_targets, figure_times, figure_who_is_left
from figures.style import GREY, colours_of, png_bytes
from theory.estimate import Estimate
from theory.predicted_time import Prediction
from theory.protocol_choice import ProtocolChoice
from theory.quasi_steady_state import Stationarity, stationarity
from theory.survival import FirstPassages, Survival

HORIZON = 60


def passages(n: int = 40, seed: int = 0, horizon: int = HORIZON) -> FirstPassages:
    rng = np.random.default_rng(seed)
    times = np.where(rng.random(n) < 0.6, rng.integers(4, 10, n), rng.integers(20, 2 * horizon, n))
    return FirstPassages(np.minimum(times, horizon), times <= horizon)


def choice(label: str, interval: int, mean: float, error: float = 1.0, best: float = 0.5) -> ProtocolChoice:
    estimate = Estimate(mean, error, 40, (mean - 2 * error, mean + 2 * error))
    low, high = max(interval - 1, 1) if interval else 0, interval + 2 if interval else 0
    ratio = Estimate(30 / mean, 0.1, 40)
    return ProtocolChoice(label, interval, low, high, "restart", estimate, ratio, 0.9, best, False, np.array([mean]))


CHOICES = (choice("shuffle", 10, 9, best=0.9996), choice("full_reset", 8, 16, 3, 0.1), choice("none", 0, 26, 4, 0.0))
LABELS = ["full_reset", "shuffle"]


def prediction(interval: int, mean: float, valid: bool = True) -> Prediction:
    estimate = Estimate(mean, 1.0, 40)
    return Prediction("restart", interval, HORIZON, estimate, None, estimate, () if valid else ("no",))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def lines(figure: Figure, panel: int = 0) -> list[Line2D]:
    return list(figure.axes[panel].get_lines())


# ---- Who is left ----------------------------------------------------------------------------------------------------


def test_survival_with_censoring_and_the_best_restart() -> None:
    runs = passages()
    survival = Survival.of(runs)
    figure = figure_who_is_left(survival, runs, restart=CHOICES[1], residuals=dict.fromkeys(LABELS, ()))
    assert len(figure.axes) == 1
    step = max(lines(figure), key=lambda line: len(np.asarray(line.get_xdata())))
    np.testing.assert_allclose(np.asarray(step.get_ydata()), survival.values)
    (mark,) = [line for line in lines(figure) if line.get_marker() == "|"]
    stopped = sorted(set(runs.times[~runs.observed].tolist()))
    assert np.asarray(mark.get_xdata()).tolist() == stopped
    np.testing.assert_allclose(np.asarray(mark.get_ydata()), survival.values[stopped])
    words = " ".join(texts(figure))
    assert f"{(~runs.observed).sum()} runs stopped without the target (censored)" in words
    assert "best restart: every 8 epochs (95 %: 7 to 10)" in words


def test_nothing_is_marked_that_is_not_there() -> None:
    runs = FirstPassages(np.array([3, 5, 9]), np.ones(3, bool))
    words = " ".join(texts(figure_who_is_left(Survival.of(runs), runs, restart=None, residuals={})))
    assert "censored" not in words
    assert "restart" not in words
    assert "unperturbed, 3 runs" in words


def test_perturbed_survivors_have_their_panel_and_colour() -> None:
    runs = passages()
    several = [(epoch, Survival.of(passages(20, seed=epoch, horizon=30))) for epoch in (5, 10, 20, 25, 40)]
    residuals = {"full_reset": (), "shuffle": several, "b": several[-1:]}
    figure = figure_who_is_left(Survival.of(runs), runs, restart=None, residuals=residuals)
    colours = colours_of(residuals)
    solid = [line for line in lines(figure, 1) if line.get_linestyle() == "-"]
    assert [line.get_color() for line in solid] == [colours["shuffle"], colours["b"]]
    assert len(lines(figure, 1)) == 6
    words = texts(figure)
    assert "shuffle at 4 other epochs, 5 to 25" in words
    assert any(text.startswith("shuffle at epoch 40, 20 runs") for text in words)


# ---- Training time --------------------------------------------------------------------------------------------------


def test_times_that_span_decades_are_on_a_logarithmic_axis() -> None:
    found = [prediction(p, mean, p > 5) for p, mean in ((1, 60.0), (5, 40.0), (10, 6.0), (30, 20.0))]
    measured = {"shuffle": [(10, Estimate(5.0, 0.5, 30))]}
    figure = figure_times(Estimate(30, 2, 40), {"full_reset": {"restart": found}}, measured, horizon=HORIZON)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["full_reset", "shuffle"]
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    low, high = figure.axes[0].get_ylim()
    assert low < 5 < HORIZON < high
    close = figure_times(Estimate(30, 2, 40), {"full_reset": {"restart": [prediction(10, 25.0)]}}, {}, horizon=HORIZON)
    assert close.axes[0].get_yscale() == "linear"
    assert close.axes[0].get_ylim()[0] == 0


# ---- Ranking --------------------------------------------------------------------------------------------------------


def test_ranking_shows_order_intervals_and_probabilities() -> None:
    figure = figure_ranking(CHOICES, labels=LABELS, horizon=HORIZON)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["shuffle, P = 10", "full_reset, P = 8", "none"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the fastest is on top
    bars = [line for line in ax.get_lines() if len(np.asarray(line.get_xdata())) == 2]
    assert [tuple(np.asarray(bar.get_xdata())) for bar in bars] == [c.restricted_mean.interval() for c in CHOICES]
    colours = colours_of(LABELS)
    assert [bar.get_color() for bar in bars] == [colours["shuffle"], colours["full_reset"], GREY]
    assert [text for text in texts(figure) if text.startswith("best: ")] == ["best: >99 %", "best: 10 %", "best: <1 %"]
    assert ax.get_xlim()[1] > max(c.restricted_mean.interval()[1] for c in CHOICES)


# ---- Settling -------------------------------------------------------------------------------------------------------


def settling(values: np.ndarray, runs: FirstPassages) -> Stationarity:
    return stationarity(values, runs, reference=(30, HORIZON), rng=np.random.default_rng(0), replicates=50)


@pytest.mark.parametrize(("scale", "is_fraction"), [(1.0, True), (100.0, False), (-2.0, False)])
def test_any_metric_has_an_axis_that_shows_it(scale: float, is_fraction: bool) -> None:
    runs = passages()
    values = scale * np.random.default_rng(1).uniform(0.3, 0.7, (runs.n, HORIZON))
    figure = figure_settling(values, runs, settling(values, runs), metric="score", target=0.72 * scale)
    above = figure.axes[0]
    low, high = sorted(above.get_ylim())
    shown = np.append(values[:, 0], 0.72 * scale)  # at epoch 1 nobody is done
    assert low < shown.min()
    assert shown.max() < high
    assert (above.get_yscale() == "linear") != is_fraction
    assert any(text.startswith("score of the unfinished runs") for text in texts(figure))


# ---- Targets --------------------------------------------------------------------------------------------------------


def scan(targets: Sequence[float]) -> dict[str, list[tuple[float, ProtocolChoice]]]:
    return {
        "shuffle": [(t, choice("shuffle", 10, 12.0)) for t in targets],
        "none": [(t, choice("none", 0, 10.0 if t < 0.75 else 50.0)) for t in targets],
    }


def test_the_fastest_protocol_is_named_at_each_target() -> None:
    figure = figure_targets(
        scan([0.7, 0.72, 0.8]), labels=LABELS, metric="acc", horizons=[HORIZON, 40, HORIZON], direction="up"
    )
    (ax,) = figure.axes
    named = sorted((float(text.xy[0]), text.get_text()) for text in ax.texts if isinstance(text, Annotation))
    assert named == [(0.7, "none"), (0.72, "none"), (0.8, "P = 10")]
    assert "H = 40 to 60" in ax.get_ylabel()
    assert ax.get_xlim()[0] < ax.get_xlim()[1]
    down = figure_targets(scan([0.7, 0.8]), labels=LABELS, metric="loss", horizons=[HORIZON] * 2, direction="down")
    assert down.axes[0].get_xlim()[0] > down.axes[0].get_xlim()[1]  # harder to the right


def test_many_targets_are_not_all_named() -> None:
    targets = [round(0.5 + 0.002 * k, 3) for k in range(200)]
    figure = figure_targets(scan(targets), labels=LABELS, metric="acc", horizons=[HORIZON] * 200)
    assert 10 <= len(figure.axes[0].texts) <= 15


# ---- All ------------------------------------------------------------------------------------------------------------


def test_names_with_dollars_are_drawn_as_they_are() -> None:
    odd = r"$\frac{a"
    runs = passages()
    values = np.random.default_rng(1).uniform(0.3, 0.7, (runs.n, HORIZON))
    residuals = {odd: [(20, Survival.of(passages(20, horizon=30)))]}
    drawn = [
        figure_who_is_left(Survival.of(runs), runs, restart=None, residuals=residuals),
        figure_times(Estimate(30, 2, 40), {odd: {"restart": [prediction(10, 25.0)]}}, {odd: []}, horizon=HORIZON),
        figure_ranking([choice(odd, 5, 8.0)], labels=[odd], horizon=HORIZON),
        figure_settling(values, runs, settling(values, runs), metric=odd, target=0.72),
        figure_targets({odd: [(0.7, choice(odd, 5, 8.0))]}, labels=[odd], metric=odd, horizons=[HORIZON]),
    ]
    for figure in drawn:
        assert png_bytes(figure).startswith(b"\x89PNG")


def test_equal_figures_have_equal_bytes() -> None:
    first, second = (png_bytes(figure_ranking(CHOICES, labels=LABELS, horizon=HORIZON)) for _ in range(2))
    assert first == second


def test_extremes_are_drawn() -> None:
    runs = FirstPassages(np.ones(3, int), np.ones(3, bool))
    assert png_bytes(figure_who_is_left(Survival.of(runs), runs, restart=None, residuals={}))
    never = FirstPassages(np.full(3, 9), np.zeros(3, bool))
    assert png_bytes(figure_who_is_left(Survival.of(never), never, restart=None, residuals={}))
    sure = [choice("none", 0, 1.0, 0.0), choice("full_reset", 1, 1.0, 0.0)]
    figure = figure_ranking(sure, labels=["full_reset"], horizon=2)
    assert all(map(math.isfinite, figure.axes[0].get_xlim()))
    assert png_bytes(figure)
