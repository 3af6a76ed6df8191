"""What the figures of restarts and of the toy model show, on small synthetic results."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from figures.resetting import HIGHEST, RestartMeans, figure_restart_mean
from figures.style import COLOURS, GREY, png_bytes, styled
from figures.toy_perturbation import MOST, figure_quasi_stationary, figure_toy_speed_up
from tests.figure_checks import bars_of, words_of, x_of, y_of
from theory.estimate import Estimate
from theory.optimal_restart import Optimum

# ---- synthetic results ----------------------------------------------------------------------------------------------

RATES = np.geomspace(0.01, 100, 41)
BROWNIAN = np.expm1(np.sqrt(RATES)) / RATES
SIMULATED = ((0.1, Estimate(3.72, 0.05, 2000)), (2.5, Estimate(1.55, 0.02, 2000)))
INTERVALS = np.arange(1.0, 9.0)
DEAD_TIME = np.array([math.inf, math.inf, 8.0, 5.0, 4.5, 4.8, 5.2, 5.5])
BEST_RATE = Optimum(2.5396, 1.5441, None)
BEST_INTERVAL = Optimum(5.0, 4.5, None)

P = np.array([1, 2, 5, 10, 20])
EXACT = np.array([40.0, 30.0, 12.0, 6.0, 2.0])
X = np.linspace(-2, 2, 161)


def restarts(
    *, rate: RestartMeans | None = None, interval: RestartMeans | None = None, undisturbed: float = math.inf
) -> Figure:
    return figure_restart_mean("a law", rate=rate, interval=interval, undisturbed=undisturbed)


def brownian(optimum: Optimum | None = BEST_RATE) -> RestartMeans:
    return RestartMeans(RATES, BROWNIAN, optimum, SIMULATED)


def both() -> Figure:
    dead_time = RestartMeans(INTERVALS, DEAD_TIME, BEST_INTERVAL)
    return restarts(rate=brownian(), interval=dead_time, undisturbed=6.0)


def speed_up() -> Figure:
    simulated = [(5, Estimate(12.3, 0.4, 500)), (40, Estimate(1.4, 0.1, 500))]
    return figure_toy_speed_up(
        "a model", P, exact=EXACT, rare=EXACT / 3, renewal=0.9 * EXACT, full_reset=EXACT / 2, simulated=simulated
    )


def normal(mean: float, deviation: float) -> np.ndarray:
    return np.exp(-((X - mean) ** 2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi))


def survivors(*, mirrored: bool = False) -> Figure:
    side = -1 if mirrored else 1
    return figure_quasi_stationary(
        "a well",
        X,
        potential=(X**2 - 1) ** 2,
        quasi_stationary=normal(-1 * side, 0.1),
        initial=normal(-0.5 * side, 0.2),
        perturbed=normal(-0.4 * side, 0.05),
        target=0.9 * side,
        perturbation="shrink-and-perturb (0.4, 0.1)",
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "both panels": both,
    "one panel, linear": lambda: restarts(interval=RestartMeans(INTERVALS[2:], DEAD_TIME[2:]), undisturbed=6.0),
    "narrow range": lambda: restarts(rate=RestartMeans(np.array([1.0, 1.1]), np.array([2.0, 2.1]))),
    "infinite on both sides": lambda: restarts(
        interval=RestartMeans(np.array([1.0, 2, 3, 4]), np.array([math.inf, 2.0, math.inf, 3.0]))
    ),
    "edge optima": lambda: restarts(
        rate=brownian(Optimum(0.0, 2.0, "zero")),
        interval=RestartMeans(INTERVALS, DEAD_TIME, Optimum(0.0, 1.0, "zero")),
        undisturbed=2.0,
    ),
    "an infinite error": lambda: restarts(
        rate=RestartMeans(RATES, BROWNIAN, None, ((1.0, Estimate(2.0, 0.1, 9, (1.8, math.inf))),))
    ),
    "speed-up": speed_up,
    "speed-up, exact alone": lambda: figure_toy_speed_up("a model", [1, 2], exact=[1.2, 1.1]),
    "speed-up, infinite means": lambda: figure_toy_speed_up("a model", P, exact=[0, 0, 0.1, 1, 2], rare=[0] * 5),
    "survivors": survivors,
    "flat potential": lambda: figure_quasi_stationary(
        "free", X, potential=0 * X, quasi_stationary=normal(0, 1), initial=normal(0, 1), perturbed=normal(0, 1),
        target=3.0, perturbation="nothing",
    ),
}  # fmt: skip


# ---- what is drawn --------------------------------------------------------------------------------------------------


def line_of(ax: Axes, colour: str) -> Line2D:
    """The curve in that colour, not a reference or a dot."""
    (line,) = [line for line in ax.lines if same_color(line.get_color(), colour) and len(x_of(line)) > 2]
    return line


def points_of(ax: Axes) -> list[tuple[float, float]]:
    """Simulated points."""
    data = [bars.lines[0] for bars in bars_of(ax)]
    return [point for line in data if line is not None for point in zip(x_of(line), y_of(line), strict=True)]


def dots_of(ax: Axes) -> list[tuple[float, float]]:
    return [(x_of(line)[0], y_of(line)[0]) for line in ax.lines if line.get_marker() == "o" and len(x_of(line)) == 1]


def spans_of(ax: Axes) -> list[tuple[float, float]]:
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    with styled():
        figure.draw_without_rendering()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("draw", [both, survivors])
def test_equal_figures_have_equal_bytes(draw: Callable[[], Figure]) -> None:
    assert png_bytes(draw()) == png_bytes(draw())


def test_imports_neither_pyplot_nor_compiled_kernels() -> None:
    code = """
import sys
import figures.resetting, figures.toy_perturbation
print([name for name in ("matplotlib.pyplot", "torch", "numba", "click", "nnval") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert (process.stdout, process.stderr) == ("[]\n", "")


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_means_and_simulations_are_drawn_as_given() -> None:
    figure = both()
    rate, interval = figure.axes
    assert figure.get_suptitle() == "a law"
    assert [ax.get_xlabel() for ax in figure.axes] == ["restart rate r", "restart interval P"]
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "log"]
    assert rate.get_ylim() == interval.get_ylim()
    assert x_of(line_of(rate, COLOURS[0])) == RATES.tolist()
    assert y_of(line_of(rate, COLOURS[0])) == BROWNIAN.tolist()
    assert y_of(line_of(interval, COLOURS[1]))[2:] == DEAD_TIME[2:].tolist()
    assert points_of(rate) == [(at, estimate.value) for at, estimate in SIMULATED]
    assert points_of(interval) == []
    assert all(any(y_of(line) == [6.0, 6.0] for line in ax.lines) for ax in figure.axes)
    assert words_of(figure) == [
        "with restarts, exact",
        "simulated (95 %)",
        "without restarts: E[T] = 6",
        "E[T] is infinite",
    ]


def test_error_bars_are_95_percent_intervals() -> None:
    (ax,) = restarts(rate=brownian()).axes
    (bars,) = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert ends == [pytest.approx(estimate.interval()) for _, estimate in SIMULATED]


def test_an_optimum_inside_is_a_dot_with_its_numbers() -> None:
    rate, interval = both().axes
    assert dots_of(rate) == [(2.5396, 1.5441)]
    assert dots_of(interval) == [(5.0, 4.5)]
    assert [text.get_text() for text in rate.texts] == ["optimum r* = 2.54, E[T] = 1.544"]
    assert [text.get_text() for text in interval.texts] == ["optimum P* = 5, E[T] = 4.5"]


@pytest.mark.parametrize("place", RATES[[0, 15, 40]])
def test_the_words_at_an_optimum_stay_in_the_figure(place: float) -> None:
    means = 1 + np.log(RATES / place) ** 2
    content = RestartMeans(RATES, means, Optimum(place, 1.0, None))
    figure = figure_restart_mean("a law", rate=content, interval=content, undisturbed=math.inf)
    with styled():
        figure.draw_without_rendering()
    for ax in figure.axes:
        words, panel = ax.texts[0].get_window_extent(), ax.get_window_extent()
        assert panel.x0 <= words.x0
        assert words.x1 <= panel.x1
        assert panel.y0 <= words.y0


@pytest.mark.parametrize(
    ("optimum", "rate_words", "interval_words"),
    [
        (Optimum(0.0, 2.0, "zero"), "best r = 0: never restart, E[T] = 2", "best P → 0: ever more often, E[T] → 2"),
        (
            Optimum(math.inf, 2.0, "infinite"),
            "best r → ∞: ever more often, E[T] → 2",
            "best P = ∞: never restart, E[T] = 2",
        ),
        (Optimum(0.0, 2.0, "neutral"), "any r is as good: E[T] = 2", "any P is as good: E[T] = 2"),
    ],
)
def test_an_optimum_at_an_edge_is_told_in_the_legend(optimum: Optimum, rate_words: str, interval_words: str) -> None:
    content = brownian(optimum)
    figure = restarts(rate=content, interval=content, undisturbed=2.0)
    assert words_of(figure)[-2:] == [rate_words, interval_words]
    for ax in figure.axes:
        assert dots_of(ax) == []
        assert list(ax.texts) == []


def test_an_infinite_mean_takes_the_line_through_the_top() -> None:
    _, ax = both().axes
    drawn = np.array(y_of(line_of(ax, COLOURS[1])))
    assert math.isnan(drawn[0])
    assert drawn[1] > 100 * ax.get_ylim()[1]
    (span,) = spans_of(ax)
    assert span == pytest.approx((ax.get_xlim()[0], 2.0)), "shaded up to the last infinite mean"
    assert "E[T] is infinite" not in words_of(restarts(rate=brownian()))


def test_an_infinite_mean_without_restarts_is_no_line() -> None:
    figure = restarts(rate=brownian())
    assert not any(same_color(line.get_color(), GREY) for line in figure.axes[0].lines)
    assert words_of(figure)[0] == "with restarts, exact (without: E[T] is infinite)"


def test_very_high_means_do_not_flatten_the_rest() -> None:
    rates = np.geomspace(0.01, 1e4, 41)
    content = RestartMeans(rates, np.expm1(np.sqrt(rates)) / rates, BEST_RATE)
    (ax,) = restarts(rate=content).axes
    assert ax.get_ylim()[1] < 2 * HIGHEST * content.means.min()
    assert restarts(rate=content, undisturbed=1e5).axes[0].get_ylim()[1] > 1e5


def test_similar_means_are_on_a_linear_axis() -> None:
    (ax,) = FIGURES["one panel, linear"]().axes
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim() == pytest.approx((0, 1.08 * 8))
    assert both().axes[0].get_yscale() == "log"


def test_infinite_simulated_means_are_not_drawn() -> None:
    content = RestartMeans(RATES, BROWNIAN, None, ((1.0, Estimate(math.inf, math.inf, 10)), *SIMULATED))
    assert len(points_of(restarts(rate=content).axes[0])) == 2


def test_restart_figure_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="rate and interval are both None"):
        restarts()
    with pytest.raises(ValueError, match=r"undisturbed=0\.0 must be > 0"):
        restarts(rate=brownian(), undisturbed=0.0)
    with pytest.raises(ValueError, match="at least two rates"):
        RestartMeans(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="at least two rates"):
        RestartMeans(RATES, BROWNIAN[1:])
    for values in ([1.0, 1.0], [0.0, 1.0], [1.0, math.inf]):
        with pytest.raises(ValueError, match="values must be finite, > 0 and ascending"):
            RestartMeans(np.array(values), np.array([1.0, 2.0]))
    for means in ([math.inf, math.inf], [math.nan, 1.0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="means must be > 0"):
            RestartMeans(np.array([1.0, 2.0]), np.array(means))


# ---- toy model ------------------------------------------------------------------------------------------------------


def test_speed_ups_are_drawn_as_given() -> None:
    figure = speed_up()
    (ax,) = figure.axes
    curves = {"-": EXACT, "--": EXACT / 3}
    lines = [line for line in ax.lines if len(x_of(line)) == 5]
    assert all(x_of(line) == P.tolist() for line in lines)
    assert [y_of(line) for line in lines] == [
        pytest.approx(curve) for curve in (EXACT, EXACT / 3, 0.9 * EXACT, EXACT / 2)
    ]
    assert [line.get_linestyle() for line in lines[:2]] == list(curves)
    assert same_color(lines[3].get_color(), GREY)
    assert points_of(ax) == [(5, 12.3), (40, 1.4)]
    assert ax.get_xlim()[1] > 40, "a simulated point beyond the curves is shown too"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_title(loc="left")) == ("perturbation interval P [epochs]", "a model")
    assert words_of(figure) == [
        "with the perturbation, exact",
        "predicted: rare (Eq. 9)",
        "predicted: renewal",
        "full resetting, exact",
        "simulated (95 %)",
        "as fast as unperturbed",
    ]


def test_speed_up_legend_names_only_what_is_drawn() -> None:
    figure = FIGURES["speed-up, exact alone"]()
    assert words_of(figure) == ["with the perturbation, exact", "as fast as unperturbed"]
    assert figure.axes[0].get_yscale() == "linear"


def test_speed_ups_near_zero_leave_through_the_bottom() -> None:
    (ax,) = figure_toy_speed_up("a model", P, exact=EXACT, rare=[0, 1e-200, 1e-9, 0.1, 1]).axes
    low, high = ax.get_ylim()
    assert high / low < 3 * MOST
    assert low > 0


def test_speed_up_refuses_what_it_cannot_draw() -> None:
    for intervals in ([], [5], [2, 1], [0, 1], [1, math.inf]):
        with pytest.raises(ValueError, match="at least two finite numbers >= 1, ascending"):
            figure_toy_speed_up("a model", intervals, exact=intervals)
    with pytest.raises(ValueError, match=r"rare of shape \(2,\) must be finite numbers >= 0 of shape \(5,\)"):
        figure_toy_speed_up("a model", P, exact=EXACT, rare=[1, 2])
    with pytest.raises(ValueError, match="exact of shape"):
        figure_toy_speed_up("a model", P, exact=[math.nan, 1, 1, 1, 1])


def test_densities_and_potential_are_drawn_as_given() -> None:
    figure = survivors()
    above, below = figure.axes
    (height,) = [line for line in above.lines if len(x_of(line)) == len(X)]
    assert y_of(height) == ((X**2 - 1) ** 2).tolist()
    assert y_of(line_of(below, GREY)) == normal(-0.5, 0.2).tolist()
    assert y_of(line_of(below, COLOURS[1])) == normal(-0.4, 0.05).tolist()
    (filled,) = below.collections
    corners = filled.get_paths()[0].vertices
    assert np.asarray(corners)[:, 1].max() == pytest.approx(normal(-1, 0.1).max())
    assert [ax.get_ylabel() for ax in figure.axes] == ["potential U(x)", "density"]
    assert below.get_xlabel() == "x"
    assert words_of(figure) == [
        "at the start",
        "survivors, quasi-stationary",
        "survivors after shrink-and-perturb (0.4, 0.1)",
        "target 0.9, and beyond",
    ]


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_lies_beyond_the_target_is_shaded(mirrored: bool) -> None:
    for ax in survivors(mirrored=mirrored).axes:
        assert any(x_of(line) == [-0.9 if mirrored else 0.9] * 2 for line in ax.lines)
        left, right = ax.get_xlim()
        assert left > -1.7
        assert right < 1.7
        assert spans_of(ax) == [pytest.approx((left, -0.9) if mirrored else (0.9, right))]


def test_survivors_refuses_what_it_cannot_draw() -> None:
    def draw(**changed: object) -> Figure:
        given = {"potential": X, "quasi_stationary": normal(0, 1), "initial": normal(0, 1), "perturbed": normal(0, 1)}
        given |= {"target": 1.0, "perturbation": "none", "x": X} | changed
        return figure_quasi_stationary("a well", given.pop("x"), **given)  # pyright: ignore[reportArgumentType]

    for x in ([], [1.0], X[::-1]):
        with pytest.raises(ValueError, match=r"x of shape .* must be at least two finite numbers, ascending"):
            draw(x=x)
    with pytest.raises(ValueError, match="target=inf must be finite"):
        draw(target=math.inf)
    with pytest.raises(ValueError, match="potential of shape"):
        draw(potential=X[1:])
    with pytest.raises(ValueError, match="initial of shape"):
        draw(initial=-normal(0, 1))
    with pytest.raises(ValueError, match="no density to draw"):
        draw(quasi_stationary=0 * X, initial=0 * X, perturbed=0 * X)
