"""What the figures of networks under different batches show, on synthetic results."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures.measured_effective_temperature import HotNetworks, figure_heat, figure_rises_with_heat
from tests.figure_checks import check_drawn
from theory.estimate import Estimate

LAGS, EPOCHS = np.array([1, 3, 10, 30, 98]), np.array([0, 10, 20])
STOPS = ("early", "late", "at equal training loss", "at zero error", "at rest")


def network(order: str, size: int, factor: float) -> HotNetworks:
    heat = [factor * value for value in (1.0, 0.8, 0.5, 0.3, 0.2)]
    return HotNetworks(
        order=order,
        batch_size=size,
        lags=LAGS,
        temperature=[Estimate(value, 0.1 * value, 6) for value in heat],
        predicted=np.array(heat) * 1.05,
        slow=Estimate(heat[-1], 0.01 * factor, 6),
        epochs=EPOCHS,
        distance=[Estimate(value, 0.1 * value, 6) for value in (0.0, 0.01 * factor, 0.02 * factor)],
        disagreement=Estimate(0.1, 0.01, 6),
        widths={stop: Estimate(0.3 + 0.1 * factor, 0.02, 6) for stop in STOPS},
    )


NETWORKS = [
    network(order, size, factor / size)
    for order, factor in (("with replacement", 2.0), ("reshuffled", 1.0), ("persistent", 20.0))
    for size in (20, 80)
]
COLD = dataclasses.replace(
    network("shuffled once", 20, 1e-3),
    temperature=[Estimate(value, 1e-5, 6) for value in (1e-3, 1e-4, -1e-5, 0.0, 1e-4)],
    predicted=np.array([1e-3, 1e-4, 0.0, 0.0, 1e-4]),
    widths=dict.fromkeys(STOPS),
)

FIGURES: dict[str, Callable[[], Figure]] = {
    "heat": lambda: figure_heat("a network", [*NETWORKS, COLD]),
    "rises": lambda: figure_rises_with_heat("a network", [*NETWORKS, COLD], "normalised margin"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_its_legend_fits(name: str) -> None:
    check_drawn(FIGURES[name]())


def test_temperatures_are_drawn_beside_theory_for_each_batch_size() -> None:
    figure = FIGURES["heat"]()
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "temperature, batches of 20",
        "temperature, batches of 80",
        "squared distance of replicas, batches of 20",
        "squared distance of replicas, batches of 80",
    ]
    first = figure.axes[0]
    assert np.array_equal(first.lines[0].get_ydata(), NETWORKS[0].predicted)
    assert np.array_equal(first.lines[1].get_ydata(), [each.value for each in NETWORKS[0].temperature])
    # What is not positive is left out: the distance before training, and cold lags.
    assert list(np.asarray(figure.axes[2].lines[0].get_xdata())) == [10, 20]
    lengths = [len(np.asarray(line.get_ydata())) for line in first.lines]
    assert 3 in lengths  # of the five temperatures of the cold one, two are not positive
    assert first.get_ylim()[0] > 0


def test_everything_is_drawn_against_the_temperature() -> None:
    figure = FIGURES["rises"]()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["distance of replicas", *STOPS]
    for ax in figure.axes:
        # The cold one has no widths.
        assert len(ax.containers) == len(NETWORKS) + (ax is figure.axes[0])
        assert ax.get_xscale() == "log"
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[1].get_yscale() == "linear"


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="networks is empty"):
        figure_heat("nothing", [])
    other = dataclasses.replace(NETWORKS[0], widths={"late": None})
    with pytest.raises(ValueError, match="same stops"):
        figure_rises_with_heat("a network", [NETWORKS[1], other], "width")
    with pytest.raises(ValueError, match="predicted must have one number for each of 5 lags"):
        dataclasses.replace(NETWORKS[0], predicted=np.ones(4))
