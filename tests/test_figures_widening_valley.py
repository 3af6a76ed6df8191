"""What the figure of the valley shows, on small synthetic results."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from figures.style import COLOURS, png_bytes
from figures.widening_valley import MOST, SharpnessPath, figure_widening_valley
from theory.estimate import Estimate

STEPS = np.geomspace(10, 10_000, 30)
RISING = SharpnessPath("PGD", STEPS, 400 - 300 * np.exp(-STEPS / 500), None, ((100, Estimate(150.0, 5.0, 64)),))
FALLING = SharpnessPath(
    "Anti-PGD", STEPS, 100 * np.exp(-STEPS / 4000), 100 * np.exp(-STEPS / 5000), ((1000, Estimate(78.0, 0.1, 64)),)
)


def path(
    steps: Sequence[float],
    predicted: Sequence[float],
    regulariser: Sequence[float] | None = None,
    simulated: Sequence[tuple[float, Estimate]] = (),
) -> SharpnessPath:
    alone = None if regulariser is None else np.array(regulariser)
    return SharpnessPath("PGD", np.array(steps, dtype=float), np.array(predicted), alone, simulated)


def both(**options: Any) -> Figure:
    return figure_widening_valley("a valley", [RISING, FALLING], **options)


def test_every_kind_has_its_line_and_its_points_in_one_colour() -> None:
    (ax,) = both(edge=400.0).axes
    assert FALLING.regulariser is not None
    rising, falling, regulariser = (
        next(line for line in ax.lines if np.array_equal(line.get_ydata(), values))
        for values in (RISING.predicted, FALLING.predicted, FALLING.regulariser)
    )
    assert same_color(rising.get_color(), COLOURS[0])
    assert same_color(falling.get_color(), COLOURS[1])
    assert same_color(regulariser.get_color(), COLOURS[1])
    assert regulariser.get_linestyle() != falling.get_linestyle()
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [same_color(bar.lines[0].get_color(), colour) for bar, colour in zip(bars, COLOURS, strict=False)] == [
        True
    ] * 2
    assert np.array_equal(bars[1].lines[0].get_xydata(), [[1000, 78.0]])
    assert any(np.array_equal(line.get_ydata(), [400.0, 400.0]) for line in ax.lines)


def test_the_legend_tells_what_is_there_and_no_more() -> None:
    def words(figure: Figure) -> list[str]:
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert words(both(edge=400.0)) == [
        "PGD, predicted",
        "Anti-PGD, predicted",
        "effective regulariser alone",
        "simulated (95 %)",
        r"edge of stability $2/\eta$",
    ]
    bare = SharpnessPath("PGD", STEPS, np.full(30, 3.0))
    assert words(figure_widening_valley("a valley", [bare])) == ["PGD, predicted"]


def test_a_prediction_outside_its_regime_is_dashed() -> None:
    late = STEPS > 1000
    doubted = SharpnessPath("reshuffled", STEPS, FALLING.predicted, outside=late)
    figure = figure_widening_valley("a valley", [RISING, doubted])
    (ax,) = figure.axes
    lines = [line for line in ax.lines if same_color(line.get_color(), COLOURS[1])]
    trusted, dashed = (np.isfinite(np.asarray(line.get_ydata(), dtype=float)) for line in lines)
    assert (trusted == ~late).all()
    assert dashed[late].all()
    assert dashed.sum() == late.sum() + 1, "so that the lines meet"
    assert lines[0].get_linestyle() == "-" != lines[1].get_linestyle()
    assert "prediction outside its regime" in [text.get_text() for text in figure.legends[0].get_texts()]
    with pytest.raises(ValueError, match="PGD: outside must be one truth value for each step"):
        SharpnessPath("PGD", STEPS, FALLING.predicted, outside=np.array([True]))


def test_kinds_have_markers_and_ticks_are_of_one_sort() -> None:
    points = ((100, Estimate(78.0, 0.1, 64)),)
    paths = [SharpnessPath(label, STEPS, FALLING.predicted, None, points) for label in ("a", "b", "c")]
    (ax,) = figure_widening_valley("a valley", paths).axes
    bars = [c.lines[0] for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [line.get_marker() for line in bars if line is not None] == ["o", "s", "D"]
    (ax,) = figure_widening_valley("a valley", [path([2e5, 4e5, 1e6], [1.0, 1.0, 1.0])]).axes
    assert all("10^" in ax.xaxis.get_major_formatter()(tick) for tick in (2e5, 5e5, 1e6))


def test_axes_hold_what_is_shown() -> None:
    (ax,) = both(edge=500.0).axes
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low < FALLING.predicted.min()
    assert high > 500
    (flat,) = figure_widening_valley("a valley", [path([1, 2, 3], [3.0, 3.1, 3.2])]).axes
    assert flat.get_yscale() == "linear"
    assert flat.get_xscale() == "linear"
    (deep,) = figure_widening_valley("a valley", [path([1, 10, 1000], [1.0, 1e-30, 0.0])]).axes
    assert 0.5 / MOST < deep.get_ylim()[0] < 1 / MOST


def test_a_single_step_can_be_drawn() -> None:
    one = path([1], [3.0], simulated=((1, Estimate(3.1, 0.1, 8)),))
    assert png_bytes(figure_widening_valley("a valley", [one])).startswith(b"\x89PNG")


def test_equal_figures_have_equal_bytes() -> None:
    assert png_bytes(both(edge=400.0)) == png_bytes(both(edge=400.0))


@pytest.mark.parametrize(
    ("steps", "predicted", "regulariser", "message"),
    [
        ([], [], None, "steps must be finite numbers >= 1"),
        ([0, 1], [1.0, 1.0], None, "steps must be finite numbers >= 1"),
        ([2, 1], [1.0, 1.0], None, "steps must be finite numbers >= 1"),
        ([1, math.inf], [1.0, 1.0], None, "steps must be finite numbers >= 1"),
        ([1, 2], [1.0], None, "predicted must be finite and >= 0"),
        ([1, 2], [1.0, math.nan], None, "predicted must be finite and >= 0"),
        ([1, 2], [1.0, 1.0], [1.0, -1.0], "regulariser must be finite and >= 0"),
    ],
)
def test_paths_that_make_no_sense(steps: Any, predicted: Any, regulariser: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"PGD: {message}"):
        path(steps, predicted, regulariser)


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="paths must hold at least one"):
        figure_widening_valley("a valley", [])
    with pytest.raises(ValueError, match="predicted sharpness must be > 0 somewhere"):
        figure_widening_valley("a valley", [path([1, 2], [0.0, 0.0])])


def test_imports_neither_pyplot_nor_compiled_kernels() -> None:
    code = """
import sys
import figures.widening_valley
print([name for name in ("matplotlib.pyplot", "torch", "numba", "click", "nnval") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
