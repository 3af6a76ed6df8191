"""What the figures of activation-pattern temperature show, on small synthetic results."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from figures.activation_temperature import (
    LARGEST_ERROR,
    CoolingPlan,
    SimulatedShares,
    figure_cooling_plan,
    figure_flip_shares,
)
from figures.measured_activation_temperature import (
    CooledCurves,
    FinalErrors,
    SweptSchedule,
    figure_cooled_curves,
    figure_final_errors,
    figure_rate_sweeps,
)
from figures.style import COLOURS, png_bytes
from theory.estimate import Estimate

RATES, PROGRESS = np.geomspace(1e-3, 10, 20), np.linspace(0, 1, 11)


def plan(**changes: Any) -> CoolingPlan:
    values: dict[str, Any] = {
        "rates": RATES,
        "links": {"erf": RATES**0.8, "cloglog": RATES},
        "start": 3.17,
        "progress": PROGRESS,
        "targets": {"1": 3.17 * (1 - PROGRESS)},
        "errors": {"0.5": 0.5 ** np.arange(9.0), "2.5": (-1.5) ** np.arange(9.0)},
    }
    return CoolingPlan(**(values | changes))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_plan_shows_links_targets_and_loops() -> None:
    left, middle, right = figure_cooling_plan(plan()).axes
    assert np.array_equal(left.lines[1].get_ydata(), RATES)
    assert left.get_xscale() == left.get_yscale() == "log"
    assert np.array_equal(middle.lines[0].get_ydata(), 3.17 * (1 - PROGRESS))
    stable, unstable = right.lines[:2]
    assert len(np.asarray(stable.get_ydata())) == 9
    assert np.abs(np.asarray(unstable.get_ydata())).max() <= 2 * LARGEST_ERROR
    assert right.get_ylim() == (-LARGEST_ERROR, LARGEST_ERROR)
    assert right.get_legend() is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"links": {}}, "links must hold curves of shape"),
        ({"links": {"erf": RATES[1:]}}, "links must hold curves of shape"),
        ({"targets": {"1": PROGRESS[1:]}}, "targets must hold curves"),
        ({"errors": {}}, "errors must hold equally long curves"),
        ({"errors": {"1": np.ones(2), "2": np.ones(3)}}, "errors must hold equally long curves"),
        ({"rates": -RATES}, "rates must be > 0"),
    ],
)
def test_plans_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_shares_have_lines_points_and_ratios() -> None:
    predicted = 1 - np.exp(-RATES)
    points = ((float(RATES[5]), Estimate(1.1 * float(predicted[5]), 0.001, 100)),)
    contents = [SimulatedShares(f"{count} channels", RATES, predicted, points) for count in (1, 16)]
    figure = figure_flip_shares(contents)
    left, right = figure.axes
    assert np.array_equal(left.lines[0].get_ydata(), predicted)
    bars = [c.lines[0] for c in right.containers if isinstance(c, ErrorbarContainer)]
    ends = [np.asarray(line.get_xydata())[0] for line in bars if line is not None]
    assert [end[1] for end in ends] == pytest.approx([1.1, 1.1])
    assert ends[0][0] < RATES[5] < ends[1][0], "side by side"
    assert [same_color(line.get_color(), colour) for line, colour in zip(bars, COLOURS, strict=False) if line] == [
        True,
        True,
    ]
    assert words(figure)[:2] == ["1 channels", "16 channels"]
    with pytest.raises(ValueError, match="contents is empty"):
        figure_flip_shares([])
    with pytest.raises(ValueError, match="1 channel: strides must be > 0"):
        SimulatedShares("1 channel", np.zeros(2), np.zeros(2))


EPOCHS = np.array([0.5, 1.0, 1.5, 2.0])


def curves(label: str, **changes: Any) -> CooledCurves:
    rate = np.array([[0.1, 0.08, 0.04, 1e-7], [0.1, 0.06, 0.02, 1e-7], [0.1, np.nan, np.nan, np.nan]])
    values: dict[str, Any] = {
        "epochs": EPOCHS,
        "rate": rate,
        "temperature": 10 * rate,
        "target": np.array([[np.nan, 0.7, 0.3, 0.01]] * 3),
        "error": np.array([[0.5, 0.1], [0.4, 0.05], [0.9, 0.9]]),
    }
    return CooledCurves(label, **(values | changes))


def test_curves_are_medians_with_bands_and_targets() -> None:
    plain = curves("cosine", target=np.full((3, 4), np.nan))
    figure = figure_cooled_curves("a network", {"2 epochs": [plain, curves("actcoolr")]})
    rates, temperatures, errors = figure.axes
    assert np.asarray(rates.lines[0].get_ydata())[:2] == pytest.approx([0.1, 0.07])
    assert rates.get_yscale() == "log"
    assert rates.get_ylim()[0] > 1e-6, "the end of cooling leaves the axis"
    dashed = [np.asarray(line.get_ydata(), dtype=float) for line in temperatures.lines if line.get_linestyle() != "-"]
    assert np.nanmax(dashed[1]) == pytest.approx(0.7)
    assert np.isnan(dashed[0]).all()
    assert np.asarray(errors.lines[0].get_ydata()) == pytest.approx([0.5, 0.1])
    assert words(figure) == ["cosine", "actcoolr", "target $C$", "range over seeds; lines: median"]
    assert "target $C$" not in words(figure_cooled_curves("a network", {"2 epochs": [plain]}))


def test_schedules_keep_their_colour_in_all_columns() -> None:
    figure = figure_cooled_curves("x", {"a": [curves("cosine"), curves("step")], "b": [curves("step")]})
    first, second = figure.axes[0], figure.axes[1]
    assert same_color(first.lines[1].get_color(), second.lines[0].get_color())


def test_networks_that_all_diverged_can_be_drawn() -> None:
    nothing = np.full((3, 4), np.nan)
    dead = curves("constant", rate=nothing, temperature=nothing, target=nothing, error=np.full((3, 2), 0.9))
    assert png_bytes(figure_cooled_curves("dead", {"2 epochs": [dead]})).startswith(b"\x89PNG")


def test_curves_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="groups is empty"):
        figure_cooled_curves("x", {})
    with pytest.raises(ValueError, match="step: temperature must have one column for each of 4 epochs"):
        curves("step", temperature=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="step: error must have one row for each of 3 seeds"):
        curves("step", error=np.zeros((2, 2)))


def swept(label: str, **changes: Any) -> SweptSchedule:
    values: dict[str, Any] = {
        "epochs": EPOCHS,
        "rates": RATES,
        "temperature": np.outer(1 + EPOCHS, RATES),
        "used": np.array([0.1, 0.1, 0.01, 0.001]),
        "residual": np.full((4, 20), 0.02),
        "location": np.array([-1.0, -2.0, np.nan, -3.0]),
        "sigma": np.array([1.2, 1.3, np.nan, 1.1]),
    }
    return SweptSchedule(label, **(values | changes))


def test_sweeps_are_maps_with_the_rate_that_was_used() -> None:
    figure = figure_rate_sweeps("a network", [swept("one_cycle"), swept("step")])
    axes = np.array(figure.axes[:8]).reshape(4, 2)
    (mesh,) = [each for each in axes[0, 0].collections if isinstance(each, QuadMesh)]
    assert np.asarray(mesh.get_array()).shape == (20, 4)
    assert np.asarray(mesh.get_array())[-1, 0] == pytest.approx(15.0)
    (line,) = axes[0, 0].lines
    assert np.array_equal(line.get_ydata(), [0.1, 0.1, 0.01, 0.001])
    assert same_color(line.get_color(), "white")
    assert np.array_equal(np.asarray(axes[3, 1].lines[0].get_ydata()), swept("x").sigma, equal_nan=True)
    assert axes[0, 1].get_title(loc="left") == "step"
    assert axes[0, 0].get_xlim() == (0.5, 2.0)


def test_sweeps_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="schedules is empty"):
        figure_rate_sweeps("x", [])
    with pytest.raises(ValueError, match=r"step: temperature and residual must have the shape \(4, 20\)"):
        swept("step", residual=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="at least two epochs"):
        swept("step", epochs=EPOCHS[:1], temperature=np.zeros((1, 20)), residual=np.zeros((1, 20)))


def final(label: str, errors: list[float], cooled: bool = False) -> FinalErrors:
    return FinalErrors(label, np.array(errors), Estimate.from_samples(errors), cooled)


def test_final_errors_have_dots_and_intervals() -> None:
    found = [final("step", [0.02, 0.03]), final("actcoolr", [0.02, 0.9], cooled=True)]
    (ax,) = figure_final_errors("a network", {"10 epochs": found}).axes
    assert np.array_equal(ax.lines[0].get_xdata(), [0.02, 0.03])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["step", "actcoolr"]
    assert ax.get_xscale() == "log"
    bars = [c.lines[0] for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [same_color(line.get_color(), colour) for line, colour in zip(bars, COLOURS, strict=False) if line] == [
        True,
        True,
    ]
    bottom, top = ax.get_ylim()
    assert bottom > top, "the first schedule is above"
    (flat,) = figure_final_errors("a network", {"10 epochs": found[:1]}).axes
    assert flat.get_xscale() == "linear"


def test_final_errors_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="the same schedules in the same order"):
        figure_final_errors("x", {"1": [final("step", [0.1, 0.2])], "2": [final("cosine", [0.1, 0.2])]})
    with pytest.raises(ValueError, match="at least one"):
        figure_final_errors("x", {})


def test_equal_figures_have_equal_bytes() -> None:
    assert png_bytes(figure_cooling_plan(plan())) == png_bytes(figure_cooling_plan(plan()))
    one, two = (png_bytes(figure_rate_sweeps("x", [swept("step")])) for _ in range(2))
    assert one == two


def test_imports_neither_pyplot_nor_torch() -> None:
    code = """
import sys
import figures.activation_temperature, figures.measured_activation_temperature
print([name for name in ("matplotlib.pyplot", "torch", "numba", "click", "nnval") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
