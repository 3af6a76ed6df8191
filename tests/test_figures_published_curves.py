"""Figures of the published curves of [meir2025]: what is drawn is what the tables say."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from figures.published_curves import intervals, residual_time
from figures.published_perturbations import (
    figure_published_residual_time,
    figure_published_speed_up,
    figure_published_trajectories,
)
from figures.published_quasi_steady_state import LEAST_P_VALUE, STYLES, figure_published_quasi_steady_state


def points(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """(x, y) of each set of measured points."""
    found = [container[0] for container in ax.containers if isinstance(container, ErrorbarContainer)]
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in found]


def legend(figure: Figure) -> list[str]:
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def test_quasi_steady_state() -> None:
    figure = figure_published_quasi_steady_state()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "target 75 %",
        "target 72 %",
        "unfinished runs, Ψ(t)",
        "published: p > 0.05",
        "ours: distance ≤ 0.25",
    ]
    assert "target 72 %: relaxed at 29, by ours 14 (13 to 15, 95 %)" in legend(figure)
    survival, p_values = figure.axes[2], figure.axes[3]
    assert [np.asarray(line.get_ydata())[100] for line in survival.get_lines()] == pytest.approx([1, 0.331, 0.082])
    for line in p_values.get_lines()[:3]:
        assert np.asarray(line.get_ydata()).min() >= LEAST_P_VALUE
    assert len({str(style) for _, style in STYLES.values()}) == 3  # told apart without colours


def test_trajectories() -> None:
    figure = figure_published_trajectories()
    assert [ax.get_title(loc="left") for ax in figure.axes[:5]] == ["P = 100", "P = 50", "P = 20", "P = 10", "all P"]
    first = figure.axes[0].get_lines()[0]
    epochs, mean = np.asarray(first.get_xdata()), np.asarray(first.get_ydata())
    assert (epochs[0], epochs[-1]) == (94, 110)
    assert mean[epochs == 100] > mean[epochs == 101]  # it acts after the evaluation of epoch P
    assert "first to ninth decile" in legend(figure)


def test_residual_time() -> None:
    figure = figure_published_residual_time()
    (ax,) = figure.axes
    drawn = points(ax)
    for (at, value), perturbation in zip(drawn, ("shrink_perturb", "partial_reset"), strict=True):
        assert at == intervals(perturbation)
        assert value == [residual_time(perturbation, interval).value for interval in intervals(perturbation)]
    assert "mean of those below P: 3.75 epochs" in legend(figure)
    assert max(max(value) for _, value in drawn) < ax.get_ylim()[1]


def test_speed_up() -> None:
    figure = figure_published_speed_up()
    trained = [points(ax) for ax in figure.axes]
    assert [len(found) for found in trained] == [1, 1, 0]  # full resets were not published
    at, value = trained[0][0]
    assert at[int(np.argmax(value))] == 2
    assert max(value) == pytest.approx(13.2, abs=0.05)
    shrunk = {
        line.get_linestyle(): np.asarray(line.get_ydata())
        for line in figure.axes[0].get_lines()
        if np.size(line.get_xdata()) == 100
    }
    rare, renewal = shrunk["--"], shrunk["-"]
    assert rare[2] == pytest.approx(10.7, abs=0.05)
    assert rare[6:] == pytest.approx(renewal[6:], rel=1e-9)  # no residual exceeds 6 epochs
    assert renewal[1] < rare[1]
    exact = next(
        np.asarray(line.get_ydata()) for line in figure.axes[2].get_lines() if np.size(line.get_xdata()) == 100
    )
    assert int(np.argmax(exact)) + 1 == 18
    assert "predicted: renewal (ours)" in legend(figure)
