"""Replicas of the perceptron beside mean-field theory, exact, solved and tabulated."""

import numpy as np
import pytest

from sim.perceptron import SimulatedPerceptron, simulate_perceptron
from sim.perceptron_temperature import simulated_temperature
from sim.random_streams import stream
from tests.small_perceptrons import DOOR, HINGE, LOGISTIC, RIDGE, SGD, TRAINING, WIDE
from theory.batch_selection import (
    BatchSelection,
    BernoulliBatches,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.estimate import Estimate, agreement, compare
from theory.mean_field import solve_mean_field
from theory.mean_field_ridge import solve_ridge
from theory.mean_field_temperature import temperature_of_solution
from theory.mixture_model import MixturePerceptron, PerceptronTraining

# ---- Beside the exact theory -----------------------------------------------------------------------------------------

CASES = {
    "sgd": (RIDGE, TRAINING),
    "momentum": (RIDGE, PerceptronTraining(0.2, momentum=0.6)),
    "more dimensions than samples": (WIDE, TRAINING),
}


@pytest.fixture(scope="module", params=CASES)
def beside(request: pytest.FixtureRequest) -> tuple[SimulatedPerceptron, MixturePerceptron, PerceptronTraining]:
    model, training = CASES[request.param]
    found = simulate_perceptron(
        model,
        training,
        SGD,
        stream(0, "beside"),
        dimensions=400,
        times=[0, 3, 5, 10],
        replicas=200,
        two_replicas=True,
        field_times=[0, 5],
        threads=1,
    )
    return found, model, training


def test_replicas_beside_the_ridge_closure(
    beside: tuple[SimulatedPerceptron, MixturePerceptron, PerceptronTraining],
) -> None:
    found, model, training = beside
    exact = solve_ridge(model, training, SGD, 10)
    scaled = solve_ridge(model, training, BernoulliBatches(0.3), 10)  # another fraction
    slower = solve_ridge(model, PerceptronTraining(training.learning_rate), SGD, 10)  # without momentum
    for t in (5, 10):
        for name in ("overlap", "train_loss", "test_error", "squared_slope", "replica_distance"):
            assert agreement(found.samples(name, t), getattr(exact, name)[t]), name
        assert agreement(found.samples("correlation", t, t), exact.correlation[t, t])
    assert agreement(found.samples("correlation", 10, 5), exact.correlation[10, 5])
    assert agreement(found.samples("correlation", 10, 0), exact.correlation[10, 0])
    for t, pushed in ((3, 0), (10, 0), (10, 5)):
        assert agreement(found.samples("response", t, pushed), exact.response[t, pushed])
    assert not agreement(found.samples("overlap", 5), scaled.overlap[5])
    assert not agreement(found.samples("response", 10, 5), exact.response[10, 6])
    assert not agreement(found.samples("response", 10, 5), scaled.response[10, 5])
    assert not agreement(found.samples("replica_distance", 10), exact.replica_distance[10] / 2)
    if training.momentum:
        assert not agreement(found.samples("correlation", 5, 5), slower.correlation[5, 5])


def test_what_is_linear_answers_in_proportion(
    beside: tuple[SimulatedPerceptron, MixturePerceptron, PerceptronTraining],
) -> None:
    found = beside[0]
    assert found.nonlinearity < 1e-10
    assert (found.response[:, :3, 1] == 0).all()
    assert found.samples("replica_distance", 0).max() == 0


def test_other_orders_are_told_apart(seed: int) -> None:
    # Means differ little, distances of replicas by a factor of 3 and more.
    for selection, wrong in ((ReshuffledBatches(4), SGD), (PersistentBatches(0.25, 6.4), SGD)):
        found = simulate_perceptron(
            HINGE,
            TRAINING,
            selection,
            stream(seed, "orders"),
            dimensions=240,
            times=[6, 12],
            replicas=200,
            two_replicas=True,
            field_times=[6],
            threads=1,
        )
        solved, other = (
            solve_mean_field(
                HINGE, TRAINING, order, 12, stream(seed, "theory"), particles=1000, populations=n, replicas=2
            )
            for order, n in ((selection, 6), (wrong, 2))
        )
        for name, *index in (
            ("overlap", 12),
            ("correlation", 12, 6),
            ("train_loss", 12),
            ("train_accuracy", 12),
            ("replica_distance", 12),
            ("response", 12, 6),
            ("margin_quantiles", 12, 1),
        ):
            result = compare(name, solved.estimate(name, *index), found.estimate(name, *index), margin=0.0125)
            assert result.p_value > 1e-5, name
        wrong_distance = other.estimate("replica_distance", 12).value
        assert not agreement(found.samples("replica_distance", 12), wrong_distance)


def test_temperature_of_the_ridge(seed: int) -> None:
    found = simulate_perceptron(
        RIDGE,
        TRAINING,
        SGD,
        stream(seed, "temperature"),
        dimensions=200,
        times=range(16, 41),
        replicas=100,
        field_times=[16, 20],
        threads=1,
    )
    measured = simulated_temperature(found, [1, 3], longest_lag=18)
    exact = temperature_of_solution(solve_ridge(RIDGE, TRAINING, SGD, 200), [1, 3], longest_lag=18)
    for one, other in zip((*measured.by_lag, measured.by_slope), (*exact.by_lag, exact.by_slope), strict=True):
        assert compare("T", other, one, margin=0.02).p_value > 1e-5
        assert compare("T", other.scaled(1.5), one, margin=0.02).p_value < 1e-5
    assert not measured.reasons


# ---- The tables: N = 800 and 1000, beside mean-field theory and earlier direct simulations ---------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selection", "slopes", "fluctuation"),
    [
        (SGD, (0.0065, 0.0067), (0.0115, 0.0004)),
        (PersistentBatches(0.25, 3.2), (0.0130, 0.0136), (0.0255, 0.0006)),
        (PersistentBatches(0.25, 6.4), (0.0223, 0.0224), (0.0406, 0.0012)),
        (PersistentBatches(0.25, 12.8), (0.0284, 0.0306), (0.0526, 0.0017)),
        (ReshuffledBatches(4), (0.0022, 0.0024), (0.00402, 0.00005)),
        (ShuffledOnceBatches(4), None, (0.00405, 0.00006)),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_table_of_temperatures(
    selection: BatchSelection, slopes: tuple[float, float] | None, fluctuation: tuple[float, float], seed: int
) -> None:
    found = simulate_perceptron(
        LOGISTIC,
        TRAINING,
        selection,
        stream(seed, "table"),
        dimensions=800,
        times=range(70, 141),
        replicas=24,
        field_times=range(70, 74),
        threads=1,
    )
    slope = simulated_temperature(found, longest_lag=50).by_slope
    if slopes is not None:
        # Two solutions of the theory give its own error.
        predicted = Estimate(float(np.mean(slopes)), max(float(np.ptp(slopes)) / 2, 0.00005), 2)
        assert abs(slope.value - predicted.value) < 4 * np.hypot(slope.standard_error, predicted.standard_error)
    starts = np.arange(20)
    spread = Estimate.from_samples(
        (found.correlation[:, starts, starts] - found.correlation[:, starts + 50, starts]).mean(axis=1)
    )
    value, error = fluctuation
    assert abs(spread.value - value) < 4 * np.hypot(spread.standard_error, error)
    assert abs(spread.value - 1.3 * value) > 4 * np.hypot(spread.standard_error, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selection", "distance", "margin"),
    [
        (SGD, (0.0277, 0.0010), (0.472, 0.006)),
        (BernoulliBatches(0.5), (0.0154, 0.0004), (0.484, 0.007)),
        (PersistentBatches(0.25, 6.4), (0.193, 0.008), (0.403, 0.009)),
        (ReshuffledBatches(4), (0.0047, 0.0002), (0.477, 0.007)),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_table_of_distances(
    selection: BatchSelection, distance: tuple[float, float], margin: tuple[float, float], seed: int
) -> None:
    found = simulate_perceptron(
        HINGE,
        TRAINING,
        selection,
        stream(seed, "table"),
        dimensions=1000,
        times=[100],
        replicas=24,
        two_replicas=True,
        threads=1,
    )
    measured = found.estimate("replica_distance", 100), found.estimate("margin_quantiles", 100, 1)
    for estimate, (value, error) in zip(measured, (distance, margin), strict=True):
        assert abs(estimate.value - value) < 4 * np.hypot(estimate.standard_error, error)
        assert abs(estimate.value - 1.3 * value) > 4 * np.hypot(estimate.standard_error, error)


@pytest.mark.slow
def test_door(seed: int) -> None:
    found = simulate_perceptron(
        DOOR,
        PerceptronTraining(0.4, initial_overlap=0.3),
        SGD,
        stream(seed, "door"),
        dimensions=1000,
        times=[35, 60],
        replicas=24,
        field_times=[30],
        threads=1,
    )
    overlap, response = found.estimate("overlap", 60), found.estimate("response", 35, 30)
    assert abs(overlap.value - 0.198) < 4 * np.hypot(overlap.standard_error, 0.007)
    assert abs(response.value - 0.4515) < 4 * np.hypot(response.standard_error, 0.0033)
    assert abs(response.value - found.estimate("response", 60, 30).value) > 0.1
