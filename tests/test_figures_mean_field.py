"""Figures of the mixture perceptron: what is drawn where, what is left out, and what is refused."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from figures.mean_field import MOST_ORDERS, Relaxation, figure_lag_temperatures, figure_relaxation
from figures.replica_distance import ASIDE, OrderPoint, figure_replicas, figure_temperature_distance
from figures.style import png_bytes
from theory.estimate import Estimate


def known(value: float, error: float = 0.0) -> Estimate:
    return Estimate(value, error, 8)


def relaxation(temperature: float, **more: Any) -> Relaxation:
    lags = range(1, 8)
    return Relaxation(
        fluctuation=[(n, known(temperature * (1 - 0.8**n), 1e-4)) for n in lags],
        response=[(n, known(0.8 ** (n - 1))) for n in lags],
        temperature=[(n, known(temperature, 1e-3)) for n in lags if n < 6],
        **more,
    )


def point(kind: str, b: float, tau: float | None = None, **more: Any) -> OrderPoint:
    level = (tau or 1.0) * b
    values: dict[str, Any] = {
        "temperature": known(0.01 * level, 1e-4),
        "distance": known(0.1 * level, 1e-3),
        "margin": known(0.3 - b),
    }
    return OrderPoint(kind, b, tau, **(values | more))


def lines_of(ax: Axes) -> dict[str, np.ndarray]:
    """Colour -> data of the longest line in it."""
    found: dict[str, np.ndarray] = {}
    for line in ax.get_lines():
        data = np.asarray(line.get_xydata(), dtype=float)
        colour = str(line.get_color())
        if len(data) > len(found.get(colour, ())):
            found[colour] = data
    return found


def legend_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


ORDERS = {"bernoulli:b=0.25": relaxation(0.01), "persistent:b=0.25,tau=6.4": relaxation(0.03)}


def test_relaxation_shows_both_functions_and_one_against_the_other() -> None:
    figure = figure_relaxation("title", ORDERS)
    left, middle, right = figure.axes
    lost, answer, both = (next(iter(lines_of(ax).values())) for ax in (left, middle, right))
    assert lost[:, 1] == pytest.approx([0.01 * (1 - 0.8**n) for n in range(1, 8)])
    assert answer[:, 1] == pytest.approx([0.8**n for n in range(7)])
    # At one temperature the curve is a straight line: its slope is 0.2 T, for R sums to (1 - 0.8^n) / 0.2.
    assert both[0].tolist() == [0, 0]
    assert np.diff(both[:, 1]) / np.diff(both[:, 0]) == pytest.approx([0.002] * 7)
    assert left.get_ylabel() == "C(0) \N{MINUS SIGN} C(n)"
    assert legend_of(figure) == [*ORDERS, "lines: theory, shaded 95 %"]


def test_temperatures_have_bands_points_and_the_exact_line() -> None:
    simulated = [(1.0, known(0.011, 2e-3)), (5.0, known(0.009, 2e-3)), (7.0, known(5.0, 4.0))]
    orders = {
        "bernoulli:b=0.25": relaxation(0.01, exact=[(1.0, 0.0101), (2.0, 0.0099)], simulated_temperature=simulated),
        "gd:b=1": Relaxation([(1, known(0.0))], [(1, known(1.0))], []),
    }
    figure = figure_lag_temperatures("title", orders)
    (ax,) = figure.axes
    words = legend_of(figure)
    assert words[:2] == ["bernoulli:b=0.25", "gd:b=1 (unknown: too few particles)"]
    assert "lines: theory, shaded 95 %; points: simulated (95 %)" in words
    assert words[-2:] == ["exact", "1 simulated points beyond the lines not drawn"]
    assert ax.get_ylim()[1] < 0.02  # the hidden point makes no room for itself
    assert len(ax.collections) >= 1
    exact = next(line for line in ax.get_lines() if line.get_linestyle() == ":")
    assert exact.get_ydata() == pytest.approx([0.0101, 0.0099])


def test_more_orders_than_colours_are_counted() -> None:
    many = {f"bernoulli:b={k / 20:g}": relaxation(0.01 * k) for k in range(1, MOST_ORDERS + 3)}
    for draw in (figure_relaxation, figure_lag_temperatures):
        figure = draw("title", many)
        assert figure.get_suptitle() == f"title; {MOST_ORDERS} of {MOST_ORDERS + 2} orders"
        assert len(legend_of(figure)) == MOST_ORDERS + 1


def test_replicas_have_panels_for_what_changes() -> None:
    scan = [point("persistent", b, tau) for b in (0.25, 0.5) for tau in (3.2, 6.4)]
    figure = figure_replicas("title", [*scan, point("bernoulli", 0.25)])
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == [
        (x, y) for y in ("replica distance", "10 % margin / |w|") for x in ("batch fraction b", "persistence time τ")
    ]
    assert legend_of(figure)[:-1] == [
        *("persistent, τ = 3.2", "persistent, τ = 6.4", "bernoulli"),
        *("persistent, b = 0.25", "persistent, b = 0.5"),
    ]
    against_time = [data for data in lines_of(figure.axes[1]).values() if data[0, 0] == 3.2]
    assert sorted(data[:, 1].tolist() for data in against_time) == [
        pytest.approx([0.1 * b * tau for tau in (3.2, 6.4)]) for b in (0.25, 0.5)
    ]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert list(figure.axes[0].get_xticks()) == [0.25, 0.5]
    # One fraction and one time: nothing to put on a second axis.
    assert len(figure_replicas("title", [point("persistent", 0.25, 6.4)]).axes) == 2
    assert len(figure_replicas("title", [point("bernoulli", 0.25, distance=None)]).axes) == 1
    only_time = figure_replicas("title", [point("persistent", 0.25, tau) for tau in (3.2, 6.4)])
    assert [ax.get_xlabel() for ax in only_time.axes] == ["persistence time τ"] * 2


def test_simulated_points_stand_beside_theory() -> None:
    orders = [point("bernoulli", 0.25, simulated_distance=known(0.03, 0.001), simulated_margin=known(0.04, 0.001))]
    figure = figure_replicas("title", orders)
    assert "filled: theory; hollow: simulated (95 %)" in legend_of(figure)
    ax = figure.axes[0]
    at = {float(np.asarray(line.get_xdata())[0]) for line in ax.get_lines() if len(np.asarray(line.get_xdata())) == 1}
    assert at == {0.25, 0.25 * ASIDE}
    low, high = ax.get_ylim()
    assert low < 0 < 0.03 + 3 * 0.001 < high


def test_simulated_points_alone_are_joined() -> None:
    alone = {"temperature": None, "distance": None, "margin": None}
    orders = [
        point("bernoulli", b, **alone, simulated_distance=known(b), simulated_margin=known(1 - b)) for b in (0.25, 0.5)
    ]
    figure = figure_replicas("title", orders)
    assert legend_of(figure) == ["bernoulli", "simulated (95 %)"]
    (ax, other) = figure.axes
    assert [[0.25, 0.25], [0.5, 0.5]] in [data.tolist() for data in lines_of(ax).values()]
    assert [[0.25, 0.75], [0.5, 0.5]] in [data.tolist() for data in lines_of(other).values()]


def test_temperature_against_distance() -> None:
    orders = {f"persistent:b=0.25,tau={tau:g}": point("persistent", 0.25, tau) for tau in (1.6, 6.4, 25.6)}
    orders |= {"gd:b=1": point("gd", 1.0, distance=known(0.0), temperature=known(0.0))}
    orders |= {"bernoulli:b=0.5": point("bernoulli", 0.5, temperature=None)}
    figure = figure_temperature_distance("title", orders)
    (ax,) = figure.axes
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert legend_of(figure) == ["persistent, b = 0.25", "not drawn, zero or unknown: gd:b=1, bernoulli:b=0.5"]
    assert [text.get_text() for text in ax.texts] == ["τ = 1.6", "τ = 6.4", "τ = 25.6"]
    near = {f"bernoulli:b={b:g}": point("bernoulli", b) for b in (0.2, 0.25)} | {"gd:b=1": orders["gd:b=1"]}
    figure = figure_temperature_distance("title", near)
    (ax,) = figure.axes
    assert ax.get_xscale() == ax.get_yscale() == "linear"
    assert ax.get_xlim()[0] == 0
    assert legend_of(figure) == ["bernoulli", "gd"]


def test_all_can_be_drawn() -> None:
    scan = [point("persistent", b, tau) for b in (0.25, 0.5) for tau in (3.2, 6.4)]
    figures = [figure_relaxation("title", ORDERS), figure_replicas("title", scan)]
    figures.append(figure_temperature_distance("title", {str(k): one for k, one in enumerate(scan)}))
    for figure in figures:
        assert png_bytes(figure).startswith(b"\x89PNG")
    assert png_bytes(figure_lag_temperatures("title", ORDERS)) == png_bytes(figure_lag_temperatures("title", ORDERS))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="orders is empty"):
        figure_relaxation("title", {})
    with pytest.raises(ValueError, match="orders is empty"):
        figure_lag_temperatures("title", {})
    with pytest.raises(ValueError, match="orders is empty"):
        figure_replicas("title", [])
    with pytest.raises(ValueError, match="orders is empty: give at least one order of which everything is known"):
        figure_temperature_distance("title", {"a": point("gd", 1.0, distance=None)})
    with pytest.raises(ValueError, match="response must have rising lags, at least 1"):
        Relaxation([(1, known(0.0))], [], [])
    with pytest.raises(ValueError, match="temperature must have rising lags"):
        Relaxation([(1, known(0.0))], [(1, known(1.0))], [(2, known(1.0)), (1, known(1.0))])
    with pytest.raises(ValueError, match="fraction=0 must be > 0 and at most 1"):
        point("gd", 0)
    with pytest.raises(ValueError, match="persistence_time=-1 must be > 0"):
        point("persistent", 0.5, -1)
