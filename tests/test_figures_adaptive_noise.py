"""What the figures of adaptive noise show, on small synthetic results."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from figures.adaptive_noise import PHASE_WORDS, LoopCurves, NoisePlan, figure_closed_loop, figure_noise_plan
from figures.style import COLOURS, png_bytes

EPSILONS, CURVATURES, STEPS = np.geomspace(1e-5, 1e-2, 7), np.geomspace(1e-4, 10, 9), np.arange(0.0, 90.0, 10)


def plan(**changes: Any) -> NoisePlan:
    values: dict[str, Any] = {
        "epsilons": EPSILONS,
        "deviations": {"end, no decay": 300 * EPSILONS, "long run, decay": 70 * EPSILONS},
        "deviation_words": "std",
        "reference": 0.0208,
        "reference_words": "He initialisation",
        "curvatures": CURVATURES,
        "spreads": {"batches only": CURVATURES**-0.5, "0.01": np.where(CURVATURES < 1, CURVATURES**-0.5, np.inf)},
        "steps": STEPS,
        "schedules": {"fixed": np.full(9, 0.1), "full": 0.3 * np.exp(-STEPS), "none": np.zeros(9)},
        "phases": (0.0, 30.0, 60.0),
    }
    return NoisePlan(**(values | changes))


def loop(**changes: Any) -> LoopCurves:
    recorded = np.array([10, 20, 30])
    values: dict[str, Any] = {
        "recorded": recorded,
        "losses": np.array([[10.0, 1.0, 0.1], [12.0, 2.0, 0.3], [11.0, 3.0, 0.2]]),
        "passage_steps": np.array([25.0, np.inf, 5.0]),
        "phase_shares": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.5]]),
    }
    return LoopCurves(**(values | changes))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_plan_shows_epsilons_spreads_and_schedules() -> None:
    left, middle, right = figure_noise_plan(plan()).axes
    assert np.array_equal(left.lines[0].get_ydata(), 300 * EPSILONS)
    assert left.get_xscale() == left.get_yscale() == middle.get_xscale() == right.get_yscale() == "log"
    legend = left.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-1] == "He initialisation"
    assert np.asarray(left.lines[-1].get_ydata()) == pytest.approx([0.0208, 0.0208])
    finite = np.isfinite(np.asarray(middle.lines[1].get_ydata(), dtype=float))
    assert np.array_equal(finite, CURVATURES < 1)
    low, high = right.get_ylim()
    assert low > 1e-7, "what has decayed leaves the axis"
    assert high >= 0.3
    assert right.get_xlim() == (0, 80)
    assert len(right.patches) == 3


def test_plans_of_relative_noise_and_of_no_noise_can_be_drawn() -> None:
    nothing = {"none": np.zeros(9)}
    figure = figure_noise_plan(plan(reference=None, schedules=nothing, spreads={"no noise": np.zeros(9)}))
    assert len(figure.axes[0].lines) == 2
    assert png_bytes(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deviations": {}}, r"deviations must hold curves of shape \(7,\), at least one"),
        ({"spreads": {"x": np.ones(3)}}, r"spreads must hold curves of shape \(9,\)"),
        ({"schedules": {"x": np.ones(3)}}, "schedules must hold curves"),
        ({"epsilons": -EPSILONS}, "epsilons and curvatures must be > 0"),
        ({"reference": 0.0}, r"reference=0.0 must be > 0"),
    ],
)
def test_plans_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_the_closed_loop_shows_phases_losses_and_passages() -> None:
    none = loop(passage_steps=np.full(3, np.inf))
    figure = figure_closed_loop("a landscape", {"none": none, "adaptive": loop()}, phases_of="adaptive")
    left, middle, right = figure.axes
    assert left.get_title(loc="left") == "phases, adaptive"
    assert len(left.collections) == 3
    assert np.asarray(middle.lines[0].get_ydata()) == pytest.approx([11, 2, 0.2])
    assert middle.get_yscale() == "log"
    still, found = right.lines
    assert np.asarray(still.get_ydata()).max() == 0
    assert np.asarray(found.get_xdata()).tolist() == [0, 5, 25, 30]
    assert np.asarray(found.get_ydata()) == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert [same_color(line.get_color(), c) for line, c in zip(right.lines, COLOURS, strict=False)] == [True, True]
    assert words(figure) == ["none", "adaptive", *PHASE_WORDS]


def test_loops_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"losses and phase_shares of shapes \(2, 3\) and \(3, 3\) must be \(3, 3\)"):
        loop(losses=np.ones((2, 3)))
    with pytest.raises(ValueError, match="phases_of='full' must be one of none"):
        figure_closed_loop("x", {"none": loop()}, phases_of="full")


def test_equal_figures_have_equal_bytes_and_need_neither_pyplot_nor_torch() -> None:
    assert png_bytes(figure_noise_plan(plan())) == png_bytes(figure_noise_plan(plan()))
    code = """
import sys
import figures.adaptive_noise
print([name for name in ("matplotlib.pyplot", "torch", "numba", "click", "nnval") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
