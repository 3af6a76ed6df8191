"""What the figures show, on small synthetic results; that they leave no trace but their file."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.first_passage import (
    figure_curves,
    figure_quasi_steady_state,
    figure_survival,
    violin_epochs,
)
from figures.perturbation import (
    PREDICTORS,
    Measured,
    Predictions,
    figure_residual_time,
    figure_speed_up,
    figure_training_time,
)
from figures.style import COLOURS, colours_of, png_bytes, styled
from tests.figure_checks import bars_of, words_of, x_of, y_of
from theory.estimate import Estimate
from theory.hazard import constant_hazard_test
from theory.predicted_time import Prediction
from theory.quasi_steady_state import stationarity
from theory.survival import FirstPassages, Survival

HORIZON = 60
UNPERTURBED = Estimate(45.0, 1.5, 200)


# ---- synthetic results ----------------------------------------------------------------------------------------------


def accuracies(n: int = 60, horizon: int = HORIZON, seed: int = 0) -> np.ndarray:
    """Curves that rise to about 0.72 within 20 epochs and fluctuate there."""
    rng = np.random.default_rng(seed)
    rise = 0.72 - 0.5 * np.exp(-np.arange(1, horizon + 1) / 5)
    return rise + rng.normal(0, 0.012, (n, horizon))


def cut(accuracy: np.ndarray, target: float) -> np.ndarray:
    """Curves that end where they meet the target, as those of perturbed runs do."""
    times = FirstPassages.from_curves(accuracy, target).times
    return np.where(np.arange(1, accuracy.shape[1] + 1) > times[:, None], np.nan, accuracy)


def prediction(
    predictor: str, interval: int, value: float, *, valid: bool = True, horizon: int = HORIZON, speed_up: float = 1.5
) -> Prediction:
    restricted = Estimate(value, 2.0 if math.isfinite(value) else math.inf, 200, (0.9 * value, 1.1 * value))
    ratio = Estimate(speed_up, 0.1, 200, (0.9 * speed_up, 1.1 * speed_up))
    return Prediction(predictor, interval, horizon, restricted, None, ratio, () if valid else ("outside",))


def results(labels: tuple[str, ...]) -> tuple[Predictions, Measured]:
    """Full resetting by the exact predictor, valid from P = 6; others by renewal and Eq. (9), valid from P = 20."""
    predictions: dict[str, dict[str, list[Prediction]]] = {}
    for label in labels:
        if label == "full_reset":
            found = [prediction("restart", p, min(HORIZON, 80 / p + p), valid=p > 5) for p in range(1, HORIZON + 1)]
            predictions[label] = {"restart": found}
            continue
        predictions[label] = {
            "rare": [prediction("rare", p, 10 + p, valid=p >= 20) for p in range(1, 41)],
            "renewal": [prediction("renewal", p, 12 + p, valid=p >= 20) for p in range(1, 41)],
        }
    measured = {label: [(p, Estimate(20.0 + p, 1.0, 100)) for p in (5, 10, 20, 40)] for label in labels}
    return predictions, measured


def first_passages(times: list[int], observed: list[bool]) -> FirstPassages:
    return FirstPassages(np.array(times), np.array(observed))


FOUR = ("full_reset", "shrink_perturb", "partial_reset", "warm_restart")
NOBODY = Survival.of(first_passages([30] * 20, [False] * 20))
EVERYBODY = Survival.of(first_passages(list(range(1, 21)), [True] * 20))


def training_time(labels: tuple[str, ...]) -> Figure:
    return figure_training_time(UNPERTURBED, *results(labels), horizon=HORIZON)


def infinite_predictions() -> Figure:
    found = [prediction("renewal", p, math.inf if p < 4 else 20.0 + p, valid=p > 3) for p in range(1, 31)]
    return figure_training_time(UNPERTURBED, {"a": {"renewal": found}}, {"a": []}, horizon=HORIZON)


def quasi_steady_state(target: float) -> Figure:
    accuracy = accuracies()
    passages = FirstPassages.from_curves(accuracy, target)
    found = stationarity(accuracy, passages, reference=(25, 35), rng=np.random.default_rng(0), replicates=50)
    return figure_quasi_steady_state(accuracy, passages, found, target=target, published_relaxation_epoch=14)


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: figure_curves(accuracies(), 0.74, perturbed={"a": (20, cut(accuracies(seed=1), 0.74))}),
    "curves of four protocols": lambda: figure_curves(
        accuracies(), 0.74, perturbed={label: (15, cut(accuracies(), 0.74)) for label in FOUR}
    ),
    "curves, nobody finishes": lambda: figure_curves(accuracies(), 0.99, perturbed={}),
    "curves, everybody finishes": lambda: figure_curves(cut(accuracies(), 0.5), 0.5, perturbed={}),
    "curves, a perfect accuracy": lambda: figure_curves(np.array([[0.5, 1.0], [0.6, 0.9]]), 0.95, perturbed={}),
    "quasi-steady state": lambda: quasi_steady_state(0.76),
    "quasi-steady state, few survive": lambda: quasi_steady_state(0.742),
    "survival": lambda: figure_survival(
        EVERYBODY,
        residuals={"full_reset": [], "a": [(5, EVERYBODY), (9, NOBODY)]},
        relaxation_epoch=5,
        hazard_test=constant_hazard_test(EVERYBODY, 5),
    ),
    "survival, nobody finishes": lambda: figure_survival(
        NOBODY, residuals={}, relaxation_epoch=3, hazard_test=constant_hazard_test(NOBODY, 3)
    ),
    "residual time": lambda: figure_residual_time(
        measured=results(FOUR)[1],
        once={"partial_reset": [(20, Estimate(30.0, 2.0, 50))]},
        horizon=HORIZON,
        followed=40,
    ),
    "residual time, nothing measured": lambda: figure_residual_time(measured={}, once={}, horizon=9, followed=9),
    "training time of one protocol": lambda: training_time(("shrink_perturb",)),
    "training time of two protocols": lambda: training_time(FOUR[:2]),
    "training time of four protocols": lambda: training_time(FOUR),
    "training time, infinite predictions": infinite_predictions,
    "training time, one interval": lambda: figure_training_time(
        UNPERTURBED, {}, {"a": [(10, Estimate(30.0, 1.0, 50))]}, horizon=HORIZON
    ),
    "speed-up": lambda: figure_speed_up(
        results(FOUR)[0], {"full_reset": [(5, Estimate(1.2, 0.1, 90))]}, horizon=HORIZON
    ),
    "speed-up, nothing known": lambda: figure_speed_up({}, {}, horizon=HORIZON),
}


# ---- what is drawn --------------------------------------------------------------------------------------------------


def lines_of(ax: Axes, colour: str | None = None) -> list[Line2D]:
    return [line for line in ax.lines if colour is None or same_color(line.get_color(), colour)]


def points_of(ax: Axes) -> int:
    """Number of measured points."""
    return sum(len(x_of(line)) for line in (bars.lines[0] for bars in bars_of(ax)) if line is not None)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    with styled():
        figure.draw_without_rendering()  # layout and all; rasterising would take three times as long
    assert dict(matplotlib.rcParams) == before


def test_training_time_shows_every_measurement_and_says_what_it_is() -> None:
    figure = training_time(FOUR)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(FOUR)
    assert [points_of(ax) for ax in figure.axes] == [4] * 4
    words = "\n".join(words_of(figure))
    for part in (
        "full resetting, exact (Eq. 5)",
        "renewal",
        "rare (Eq. 9)",
        "measured: trained with the perturbation every P epochs",
        "unperturbed: 45 epochs",
        "outside its regime",
    ):
        assert part in words
    limits = {ax.get_ylim() for ax in figure.axes}
    assert len(limits) == 1, "panels share the y-axis"
    assert all(any(y_of(line) == [45.0, 45.0] for line in ax.lines) for ax in figure.axes)


def test_legend_names_only_what_is_drawn() -> None:
    words = words_of(training_time(("full_reset",)))
    assert any(PREDICTORS["restart"] in text for text in words)
    assert not any(PREDICTORS["rare"] in text or "predicted above" in text for text in words)


def test_predictions_outside_their_regime_are_dashed_and_paler() -> None:
    ax = training_time(("full_reset",)).axes[0]
    solid = [line for line in lines_of(ax, COLOURS[0]) if line.get_linestyle() == "-"]
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [x_of(line)[0] for line in solid] == [6], "valid from P = 6"
    assert [(min(x_of(line)), max(x_of(line))) for line in dashed] == [(1, 6)], "joined to the valid stretch"
    assert sum(to_rgb(dashed[0].get_color())) > sum(to_rgb(COLOURS[0]))


def test_infinite_predictions_are_marked_and_leave_the_axes_alone() -> None:
    figure = infinite_predictions()
    (ax,) = figure.axes
    (marks,) = [line for line in ax.lines if line.get_marker() == "^"]
    assert x_of(marks) == [1, 2, 3]
    assert ax.get_ylim()[1] <= 1.1 * HORIZON
    assert "predicted above the axis" in words_of(figure)


def test_predictions_for_a_shorter_horizon_are_left_out_and_named() -> None:
    found = [prediction("rare", p, 20.0, horizon=HORIZON if p > 10 else HORIZON - 5) for p in range(1, 21)]
    figure = figure_training_time(UNPERTURBED, {"a": {"rare": found}}, {}, horizon=HORIZON)
    (ax,) = figure.axes
    assert min(min(x_of(line)) for line in ax.lines if len(x_of(line)) > 2) == 11
    assert any("P = 1 to 10" in text.get_text() for text in ax.texts)


def test_infinite_measurements_are_not_drawn() -> None:
    measured = {"a": [(5, Estimate(math.inf, math.inf, 10)), (6, Estimate(3.0, 1.0, 10))]}
    figure = figure_training_time(UNPERTURBED, {}, measured, horizon=HORIZON)
    assert points_of(figure.axes[0]) == 1


def test_speed_up_points_stand_side_by_side() -> None:
    same = {label: [(10, Estimate(1.0, 0.1, 50))] for label in FOUR}
    (ax,) = figure_speed_up({}, same, horizon=HORIZON).axes
    at = [x_of(c.lines[0])[0] for c in ax.containers if isinstance(c, ErrorbarContainer) and c.lines[0]]
    assert len(set(at)) == 4
    assert at == pytest.approx([10] * 4, rel=0.05)


def test_a_finished_run_keeps_counting_in_the_mean() -> None:
    accuracy = np.array([[0.5, 0.9, np.nan], [0.5, 0.6, 0.6]])
    ax = figure_curves(accuracy, 0.9, perturbed={}).axes[0]
    means = [y_of(line) for line in ax.lines if len(x_of(line)) == 3 and line.get_linewidth() > 1]
    assert [list(mean) for mean in means] == [pytest.approx([0.5, 0.75, 0.75])], "survivors alone would fall to 0.6"
    assert any("1 of 2 runs reach the target" in text.get_text() for text in ax.texts)


def test_what_follows_the_first_passage_is_not_drawn() -> None:
    figure = figure_curves(np.array([[0.5, 0.9, 0.2], [0.5, 0.6, 0.6]]), 0.9, perturbed={})
    lowest = min(np.nanmin(y_of(line)) for line in figure.axes[0].lines if len(x_of(line)) > 1)
    assert lowest == 0.5


def test_quasi_steady_state_counts_survivors_and_names_its_epochs() -> None:
    accuracy = accuracies()
    passages = FirstPassages.from_curves(accuracy, 0.742)
    found = stationarity(accuracy, passages, reference=(25, 35), rng=np.random.default_rng(0), replicates=50)
    figure = figure_quasi_steady_state(accuracy, passages, found, published_relaxation_epoch=14)
    alive = [int(((passages.times > t) | ~passages.observed).sum()) for t in violin_epochs(HORIZON)]
    assert [int(text.get_text()) for text in figure.axes[0].texts] == alive
    words = "\n".join(words_of(figure))
    assert f"relaxation epoch: {found.relaxation_epoch} (95 %" in words
    assert "epochs 25 to 35" in words
    assert "(KS test): 14" in words
    assert "tolerance 0.25" in words


def test_violin_epochs_reach_from_the_first_to_the_last() -> None:
    for horizon in (1, 2, 7, 60, 100, 1000):
        epochs = violin_epochs(horizon)
        assert epochs == sorted(set(epochs))
        assert (epochs[0], epochs[-1]) == (1, horizon)
        assert len(epochs) <= 13


def test_survival_is_drawn_with_its_residuals() -> None:
    figure = figure_survival(EVERYBODY, residuals={"full_reset": [], "a": [(5, EVERYBODY), (9, NOBODY)]})
    unperturbed, perturbed = figure.axes
    assert y_of(unperturbed.lines[0]) == pytest.approx(EVERYBODY.values)
    assert [line.get_label() for line in perturbed.lines] == ["a at epoch 5, 20 runs", "a at epoch 9, 20 runs"]
    assert {line.get_color() for line in perturbed.lines} == {COLOURS[1]}, "full_reset keeps its colour"
    assert len(figure_survival(NOBODY, residuals={"full_reset": []}).axes) == 1


def test_residuals_after_one_and_after_repeated_perturbations_are_told_apart() -> None:
    (ax,) = FIGURES["residual time"]().axes
    data = [c.lines[0] for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [line.get_marker() for line in data if line is not None] == ["o", "o", "o", "D", "o"]
    assert points_of(ax) == 17


def test_colours_are_distinct_and_follow_the_order() -> None:
    colours = colours_of(FOUR)
    assert len(set(colours.values())) == 4
    assert colours["full_reset"] == colours_of(["full_reset", "other"])["full_reset"]


# ---- files ----------------------------------------------------------------------------------------------------------


def test_png_has_the_size_of_a_readme_column() -> None:
    content = png_bytes(FIGURES["training time, one interval"]())
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1680
    assert b"Software" not in content


def test_png_bytes_do_not_depend_on_the_users_settings() -> None:
    first = png_bytes(training_time(FOUR[:1]))
    with matplotlib.rc_context(
        {"font.size": 20, "xtick.direction": "in", "savefig.bbox": "tight", "axes.titlepad": 30}
    ):
        assert png_bytes(training_time(FOUR[:1])) == first


def test_styled_puts_the_settings_back() -> None:
    before = dict(matplotlib.rcParams)
    with styled():
        assert matplotlib.rcParams["axes.grid"]
    assert dict(matplotlib.rcParams) == before


def test_import_needs_neither_pyplot_nor_torch() -> None:
    code = """
import sys
import figures.first_passage, figures.perturbation, figures.report
print([name for name in ("matplotlib.pyplot", "torch", "pandas", "click", "nnval") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert (process.stdout, process.stderr) == ("[]\n", "")
