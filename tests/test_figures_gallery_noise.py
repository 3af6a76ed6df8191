"""The gallery's figures of noise: what is drawn is what theory says and what the tables of figures/data hold."""

import csv
from importlib import resources

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from figures import gallery_kuehn, gallery_mignacco, measured_noise, simulated_noise, temperature_and_width
from figures.batch_orders import STYLES, looks_of
from figures.beyond_fixed_noise import Stiffness, figure_second_crossover, figure_stiffness
from figures.boundary_width import figure_rank_correlations, figure_width_differences
from figures.gallery_figure import SOURCES, GalleryFigure, rows_of
from figures.loss_fluctuations import SparedLoss, figure_spared_loss
from figures.replica_distance import OrderPoint, figure_replicas, figure_temperature_distance
from figures.style import png_bytes
from figures.variance_collapse import ScaledVariances, figure_collapse
from figures.weight_trajectory import Trajectory, figure_trajectories
from theory.estimate import Estimate
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance import stationary_variances
from theory.weight_variance_limits import crossover_function

ALL = (*gallery_kuehn.FIGURES, *gallery_mignacco.FIGURES)

KNOWN = Estimate(1.0, 0.1, 10)


def points_of(ax: Axes) -> list[npt.NDArray[np.float64]]:
    """Of each set of points with bars, shape (n, 2)."""
    sets = [each for each in ax.containers if isinstance(each, ErrorbarContainer)]
    return [np.asarray(each.lines[0].get_xydata()) for each in sets]


def line_of(ax: Axes, colour: str) -> npt.NDArray[np.float64]:
    """The line of a colour with the most points."""
    lines = [line for line in ax.get_lines() if line.get_color() == colour and line.get_linestyle() != "None"]
    return np.asarray(max(lines, key=lambda line: len(np.asarray(line.get_xdata()))).get_xydata(), dtype=float)


def rank_correlation(first: list[float], second: list[float]) -> float:
    ranks = np.array([np.argsort(np.argsort(values)) for values in (first, second)])
    return float(np.corrcoef(ranks).min())


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_entries_say_what_they_are_drawn_from(entry: GalleryFigure) -> None:
    assert set(entry.sources) <= set(SOURCES)
    assert entry.sources
    assert entry.title
    assert entry.agrees.endswith(".")
    assert not entry.differs or entry.differs.endswith(".")
    assert "{" not in entry.agrees + entry.differs
    for name in entry.data:
        assert rows_of(name)
    if "measured" in entry.sources:
        assert entry.data


def test_names_are_unique() -> None:
    assert len({entry.name for entry in ALL}) == len(ALL)
    assert {entry.paper for entry in ALL} == {"kuhn2023", "mignacco2022"}


@pytest.mark.parametrize(
    "name", ["variance_scan_digits", "replacement_accuracy_digits", "loss_fluctuations_digits", "mixture_noise"]
)
def test_tables_say_how_they_were_made(name: str) -> None:
    text = (resources.files("figures") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[0].startswith("# jostle ")
    assert "measured 20" in head[-1]
    rows = list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))
    assert len({len(row) for row in rows}) == 1


def test_noise_of_real_batches_is_beside_theory() -> None:
    figure = simulated_noise.draw_noise_autocovariance()
    reshuffled, independent = looks_of(["a", "b"]).values()
    ax = figure.axes[0]
    lags = np.arange(25)
    assert line_of(ax, reshuffled.colour)[:, 1] == pytest.approx(Reshuffled(10).autocovariance(lags))
    measured = points_of(ax)
    assert [len(found) for found in measured] == [25, 25]
    assert measured[0][1:10, 1] == pytest.approx(-(10 - lags[1:10]) / 90, abs=0.02)
    assert measured[1][1:, 1] == pytest.approx(0, abs=0.02)
    assert independent.marker != reshuffled.marker


def test_toy_trajectories_fill_the_ellipses_of_theory() -> None:
    orders = {
        order: simulated_noise.least_squares_trajectory(order, 4000) for order in ("reshuffled", "with_replacement")
    }
    for trajectory in orders.values():
        assert trajectory.path.std(axis=0) == pytest.approx(trajectory.spread, rel=0.25)
    flat, steep = orders["with_replacement"].spread / orders["reshuffled"].spread
    # The wrong order's ellipse is rejected in the flat direction, where it matters.
    assert flat > 2 > 1.3 > steep
    assert len(orders["reshuffled"].path) == 4000


def test_collapse_draws_theory_and_the_one_curve() -> None:
    figure = simulated_noise.draw_variance_collapse()
    left, right = figure.axes
    (learning_rate, momentum, batches), look = (
        simulated_noise.COLLAPSED[0],
        looks_of(map(str, simulated_noise.COLLAPSED)),
    )
    drawn = line_of(left, next(iter(look.values())).colour)
    expected = stationary_variances(HeavyBall(learning_rate, drawn[:, 0], momentum), Reshuffled(batches)).weight
    assert drawn[:, 1] == pytest.approx(expected)
    curve = line_of(right, "#1f2328")
    assert curve[:, 1] == pytest.approx(crossover_function(curve[:, 0]))
    scaled = line_of(right, next(iter(look.values())).colour)
    assert scaled[:, 1] == pytest.approx(crossover_function(scaled[:, 0]), rel=0.04)


def test_lenet_is_drawn_as_measured() -> None:
    table = rows_of("weight_variance_lenet")
    figure = measured_noise.draw_lenet_weight_variance()
    for ax, name in zip(figure.axes, ("weight", "velocity"), strict=True):
        for points, order in zip(points_of(ax), ("reshuffled", "with_replacement"), strict=True):
            rows = [row for row in table if row["order"] == order]
            assert points.tolist() == [[float(row["curvature"]), float(row[name])] for row in rows]


def test_lenet_in_units_of_its_noise() -> None:
    figure = measured_noise.draw_lenet_correlation_time()
    row = rows_of("weight_variance_lenet")[0]
    unit = measured_noise.LENET_RATE**2 * float(row["noise_variance"])
    weight, _, time = (points_of(ax)[0][0] for ax in figure.axes)
    assert weight == pytest.approx([float(row["curvature"]), float(row["weight"]) / unit])
    assert time == pytest.approx([float(row["curvature"]), float(row["correlation_time"])])
    # Theory of the table, which was made with the network, is on the line that is drawn.
    curve = line_of(figure.axes[2], looks_of(["reshuffled", "with replacement"])["reshuffled"].colour)
    there = np.interp(float(row["curvature"]), *curve.T)
    assert there == pytest.approx(float(row["correlation_time_theory"]), rel=0.02)


def test_scan_has_a_panel_for_each_hyper_parameter() -> None:
    figure = measured_noise.draw_variance_scan()
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        r"learning rate $\eta$",
        r"momentum $\beta$",
        "batch size S",
    ]
    assert [len(points_of(ax)) for ax in figure.axes] == [3, 3, 3]
    rows = [row for row in rows_of("variance_scan_digits") if (row["momentum"], row["batch_size"]) == ("0", "20")]
    shown = points_of(figure.axes[1])[0]
    assert sorted(shown.tolist()) == sorted([float(row["curvature"]), float(row["correlation_time"])] for row in rows)


def test_measured_collapse_is_in_units_of_independent_batches() -> None:
    figure = measured_noise.draw_variance_collapse_digits()
    left, right = points_of(figure.axes[0])[0], points_of(figure.axes[1])[0]
    rows = [row for row in rows_of("variance_scan_digits") if row["learning_rate"] == "0.0025"]
    row = min(rows, key=lambda each: float(each["curvature"]))
    curvature = float(row["curvature"])
    white = stationary_variances(HeavyBall(0.0025, curvature, 0.9), WhiteNoise()).weight
    assert left[0] == pytest.approx([curvature, float(row["weight"])])
    scaled = 0.0025 * curvature * 60 / 0.1
    assert right[0] == pytest.approx([scaled, float(row["weight"]) / float(row["noise_variance"]) / float(white)])


def test_spared_loss_of_lenet_from_its_table() -> None:
    rows = [row for row in rows_of("weight_variance_lenet") if row["order"] == "reshuffled"]
    curvature, weight, theory = (
        np.array([float(row[name]) for row in rows]) for name in ("curvature", "weight", "weight_theory")
    )
    found = measured_noise.lenet_spared(measured_noise.lenet_variances()["reshuffled"], "reshuffled")
    assert found.measured.value == pytest.approx(1 - curvature @ weight / curvature.sum() / weight[theory.argmax()])
    assert 0.2 < found.predicted < 0.3 < found.measured.value + found.measured.standard_error


def test_accuracies_in_pairs() -> None:
    rows = rows_of("replacement_accuracy_digits")
    pairs = [100 * (float(row["reshuffled"]) - float(row["with_replacement"])) for row in rows]
    low, high = Estimate.from_samples(pairs).interval()
    assert (round(low, 2), round(high, 2), len(rows)) == (0.04, 0.74, 64)  # what the entry says


def test_relaxations_of_the_mixture() -> None:
    found = temperature_and_width.relaxations()
    assert list(found)[:2] == ["reshuffled, b = 1/4", "bernoulli, b = 0.25"]
    figure = temperature_and_width.draw_mixture_temperature()
    for (words, each), look in zip(found.items(), looks_of(found).values(), strict=True):
        assert line_of(figure.axes[0], look.colour)[:, 1] == pytest.approx([t.value for _, t in each.temperature]), (
            words
        )


def test_rank_correlations_are_those_of_the_documentation() -> None:
    first, fresh = range(6), range(6, 12)
    for seeds, stop, value, low, high in (
        (first, "equal_loss", 0.65, 0.45, 0.84),
        (fresh, "equal_loss", 0.74, 0.48, 1.00),
        (first, "early", -0.83, -0.96, -0.69),
    ):
        found = temperature_and_width.rank_correlations("margin", stop, seeds)
        assert [round(x, 2) for x in (found.value, *found.interval())] == [value, low, high]


def test_noise_of_the_mixture_in_both_regimes() -> None:
    under, over = (temperature_and_width.order_points(over=over).values() for over in (False, True))
    heat = [each.temperature.value for each in under if each.temperature]
    near, far = ([each.distance.value for each in points if each.distance] for points in (under, over))
    assert (round(rank_correlation(heat, near), 2), round(rank_correlation(heat, far), 2)) == (0.99, 0.91)  # as is said
    for each in (*under, *over):
        assert each.distance
        assert each.simulated_distance
        error = 5 * np.hypot(each.distance.standard_error, each.simulated_distance.standard_error)
        allowed = error + 0.01 * each.distance.value
        assert abs(each.distance.value - each.simulated_distance.value) < allowed
        assert abs(each.distance.value - each.simulated_distance.value / 2) > allowed  # as if of one replica


def test_networks_are_drawn_once_each() -> None:
    networks = temperature_and_width.hot_networks()
    assert len({(each.order, each.batch_size) for each in networks}) == len(networks) == 8
    slow = {(each.order, each.batch_size): each.slow.value for each in networks}
    assert slow["with replacement", 80] == pytest.approx(3.9e-5, rel=0.02)
    distance = [each.distance[-1].value for each in networks]
    assert rank_correlation(list(slow.values()), distance) > 0.9


def test_orders_of_one_fraction_stand_side_by_side() -> None:
    orders = [OrderPoint(kind, 0.25, None, distance=KNOWN, margin=KNOWN) for kind in ("bernoulli", "reshuffled")]
    figure = figure_replicas("title", orders)
    ax = figure.axes[0]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("linear", "orders with b = 0.25")
    assert sorted(points[0, 0] for points in points_of(ax)) == [1, 2]
    hot = [OrderPoint("bernoulli", b, None, temperature=KNOWN, distance=KNOWN) for b in (0.25, 0.5)]
    labels = [ax.get_ylabel() for ax in figure_replicas("title", hot, temperature=True).axes]
    assert labels == ["effective temperature", "replica distance"]


def test_words_stay_inside_and_apart() -> None:
    orders = temperature_and_width.order_points(over=True)
    figure = figure_temperature_distance("title", orders)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    inside = ax.get_window_extent()
    assert len(boxes) == len(orders)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 for box in boxes)
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_lines_differ_without_colours() -> None:
    looks = looks_of("abcdef")
    assert len({look.style for look in looks.values()}) == len({look.marker for look in looks.values()}) == len(STYLES)


def test_kinks_are_those_of_the_table() -> None:
    figure = measured_noise.draw_relu_kinks()
    rows = [row for row in rows_of("weight_variance_kinks") if row["order"] == "reshuffled"]
    look = looks_of(["reshuffled", "with replacement"])["reshuffled"]
    assert line_of(figure.axes[0], look.colour)[:, 1] == pytest.approx([float(row["below"]) for row in rows])
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_boundary_widths_are_those_of_the_table() -> None:
    figure = temperature_and_width.draw_mixture_boundary_width()
    rows = [row for row in rows_of("mixture_boundary_width") if row["loss"].startswith("squared")][1:]
    ten = points_of(figure.axes[0])[1]
    assert ten[:, 1].tolist() == [float(row["margin_10_difference"]) for row in rows]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][-1] == "persistent\nτ = 25.6"


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="settings is empty: give at least one"):
        figure_collapse("title", {}, y_label="variance", measured=True)
    with pytest.raises(ValueError, match="give as many curvatures"):
        ScaledVariances(np.ones(2), np.ones(1), [KNOWN], [KNOWN])
    with pytest.raises(ValueError, match="ascending"):
        ScaledVariances(np.ones(2), np.ones(2), [KNOWN] * 2, [KNOWN] * 2)
    with pytest.raises(ValueError, match="orders is empty"):
        figure_trajectories("title", (1.0, 2.0), {})
    with pytest.raises(ValueError, match=r"path of shape \(3,\)"):
        Trajectory(np.zeros(3), np.ones(2))
    with pytest.raises(ValueError, match=r"spread=\[0.0, 1.0\] must be"):
        Trajectory(np.zeros((3, 2)), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="curvature="):
        figure_trajectories("title", (0.0, 2.0), {"a": Trajectory(np.zeros((3, 2)), np.ones(2))})
    with pytest.raises(ValueError, match="must not be empty"):
        figure_spared_loss("title", np.ones(2), {}, {}, published=0.62)
    spared = {"b": [SparedLoss(0.1, KNOWN)]}
    with pytest.raises(ValueError, match="give one reduction for each of 2 exponents"):
        figure_spared_loss("title", np.ones(2), {"a": np.ones(3)}, spared, published=0.62)
    with pytest.raises(ValueError, match="give two bounds for each curvature"):
        figure_second_crossover("t", np.ones(2), (np.ones(2), np.ones(3)), {}, {}, crossovers=(1.0, 0.1))
    with pytest.raises(ValueError, match="one shape"):
        Stiffness(np.ones(2), np.ones(2), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="orders is empty"):
        figure_stiffness("title", {})
    with pytest.raises(ValueError, match="losses is empty"):
        figure_width_differences("title", {}, label="width")
    with pytest.raises(ValueError, match="widths is empty"):
        figure_rank_correlations("title", {})
