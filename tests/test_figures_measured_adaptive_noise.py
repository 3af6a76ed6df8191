"""What the figures of measured adaptive noise show, on synthetic results."""

import dataclasses

import numpy as np
import pytest

from figures.measured_adaptive_noise import MethodCurves, figure_noise_training, figure_phases, figure_times
from figures.style import png_bytes
from nnval.adaptive_noise_tables import METHOD_NAMES
from tests.figure_checks import check_drawn, words_of
from theory.survival import FirstPassages

ORDER = list(METHOD_NAMES.values())
EPOCHS, SEEDS = 9, 4
RNG = np.random.default_rng(0)


def curves(label: str, speed: float, *, equal: bool = False, told: bool = True) -> MethodCurves:
    loss = np.exp(-speed * np.arange(1, EPOCHS + 1)) + 0.05 * RNG.uniform(size=(SEEDS, EPOCHS))
    phases = np.full((SEEDS, EPOCHS, 3), np.nan)
    if told:
        phases[:] = np.repeat(np.eye(3), 3, axis=0)
    return MethodCurves(label, loss, loss / 3, FirstPassages.from_curves(1 - loss, 0.8), phases, equal=equal)


ABLATION = [curves(label, 0.3 + 0.05 * k) for k, label in enumerate(ORDER[:5])]
ALL = [*ABLATION, curves("full, equal noise", 0.4, equal=True), curves("Adam", 0.05, told=False)]

FIGURES = {
    "times": lambda: figure_times("a network", ALL, ORDER, 0.8),
    "times of the ablation": lambda: figure_times("a network", ABLATION, ORDER, 0.8),
    "training": lambda: figure_noise_training("a network", ALL, ORDER, 4),
    "phases": lambda: figure_phases("a network", ALL),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_its_legend_fits(name: str) -> None:
    check_drawn(FIGURES[name]())


def test_groups_share_their_references() -> None:
    ablation, others = FIGURES["times"]().axes
    assert len(ablation.lines) == 5
    assert len(others.lines) == 4  # no noise, fixed noise, and two more
    assert len(FIGURES["times of the ablation"]().axes) == 1
    assert "full, equal noise" in words_of(FIGURES["times"]())


def test_survival_is_drawn_as_it_is() -> None:
    _, others = FIGURES["times"]().axes
    slow = np.asarray(others.lines[3].get_ydata())  # Adam never reaches the target
    assert np.allclose(slow, 1.0, atol=0.02)
    fast = np.asarray(others.lines[0].get_ydata())
    assert fast[0] == pytest.approx(1.0, abs=0.02)
    assert fast[-1] == pytest.approx(0.0, abs=0.02)


def test_equal_noise_is_dashed_in_the_colour_of_its_own() -> None:
    ablation, others = FIGURES["times"]().axes
    assert others.lines[2].get_linestyle() == "--"
    assert others.lines[2].get_color() == ablation.lines[4].get_color()


def test_phases_add_up() -> None:
    figure = FIGURES["phases"]()
    panels = [ax for ax in figure.axes if ax.patches]
    assert len(panels) == 6  # Adam's are not told
    heights = np.array([patch.get_height() for patch in panels[0].patches]).reshape(3, EPOCHS)
    assert np.array_equal(heights, np.repeat(np.eye(3), 3, axis=0).T)


def test_diverged_runs_leave_the_lines_of_others() -> None:
    wild = dataclasses.replace(ABLATION[0], loss=np.full((SEEDS, EPOCHS), np.nan))
    assert png_bytes(figure_noise_training("a network", [wild, *ABLATION[1:]], ORDER, 4)).startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused() -> None:
    for figure in (
        lambda: figure_times("a network", [], ORDER, 0.8),
        lambda: figure_noise_training("a network", [], ORDER, 4),
    ):
        with pytest.raises(ValueError, match="curves is empty"):
            figure()
    with pytest.raises(ValueError, match="curves have no phases"):
        figure_phases("a network", [ALL[-1]])
    with pytest.raises(ValueError, match=r"phases \(seeds, epochs, 3\)"):
        dataclasses.replace(ABLATION[0], phases=np.zeros((SEEDS, EPOCHS)))
    with pytest.raises(ValueError, match="first passages must be 4"):
        dataclasses.replace(ABLATION[0], passages=FirstPassages(np.array([1]), np.array([True])))
