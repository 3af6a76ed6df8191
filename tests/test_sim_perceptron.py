"""The perceptron in finite dimensions: its pieces, and its replicas beside mean-field theory."""

import itertools

import numpy as np
import pytest

from sim.perceptron import SimulatedPerceptron, cost, simulate_perceptron
from sim.perceptron_temperature import simulated_temperature
from sim.perceptron_training import SharedTraining, batches, draw_data, draw_start
from sim.random_streams import stream
from theory.batch_selection import (
    BatchSelection,
    BernoulliBatches,
    FullBatch,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.estimate import Estimate, agreement, compare
from theory.mean_field import solve_mean_field
from theory.mean_field_ridge import solve_ridge
from theory.mean_field_temperature import temperature_of_solution
from theory.mixture_model import ACTIVATIONS, LOSSES, MixturePerceptron, PerceptronTraining

RIDGE = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
WIDE = MixturePerceptron(sample_ratio=0.5, noise_variance=0.5)
LOGISTIC = MixturePerceptron(2.0, 0.5, "logistic", weight_decay=0.5)
HINGE = MixturePerceptron(sample_ratio=1.5, noise_variance=1.0, loss="squared_hinge")
DOOR = MixturePerceptron(2.0, 0.5, "logistic", clusters=3, activation="door", weight_decay=0.5, door_width=0.7)
TRAINING = PerceptronTraining(learning_rate=0.4)
SGD = BernoulliBatches(0.25)

ALL = [FullBatch(0.25), SGD, PersistentBatches(0.25, 6.4), ReshuffledBatches(4), ShuffledOnceBatches(4)]


# ---- The pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "memory"),
    [(SGD, 0.0), (PersistentBatches(0.25, 3.2), 0.5), (PersistentBatches(0.4, 2.0), 0.5), (BernoulliBatches(0.4), 0.0)],
    ids=lambda value: getattr(value, "label", ""),
)
def test_batches_have_the_mean_and_covariance(selection: BatchSelection, memory: float, seed: int) -> None:
    b, samples = selection.batch_fraction, 20_000
    paths = np.array(list(itertools.islice(batches(selection, samples, 0.4, stream(seed, "paths")), 5)))
    for t in (0, 4):
        assert agreement(paths[t], b, detects=0.2)
        assert not agreement(paths[t], 1.2 * b)
    for lag in (1, 2, 3):
        product = (paths[1] - b) * (paths[1 + lag] - b)
        assert agreement(product, b * (1 - b) * memory**lag)
        assert not agreement(product, b * (1 - b) * (memory**lag + 0.1))


def test_epochs_show_each_sample_once(seed: int) -> None:
    anew, same = (
        np.array(list(itertools.islice(batches(order, 40, 0.1, stream(seed, "epochs")), 8))).reshape(2, 4, 40)
        for order in (ReshuffledBatches(4), ShuffledOnceBatches(4))
    )
    for epochs in (anew, same):
        assert (epochs.sum(axis=1) == 1).all()
        assert (epochs.sum(axis=2) == 10).all()
    assert (same[0] == same[1]).all()
    assert (anew[0] != anew[1]).any()


def test_all_samples_at_once() -> None:
    for selection in (FullBatch(0.25), FullBatch(), BernoulliBatches(1.0), ReshuffledBatches(1)):
        assert (next(batches(selection, 6, 0.1, np.random.default_rng(0))) == selection.batch_fraction).all()


@pytest.mark.parametrize("clusters", [2, 3])
def test_data_are_the_mixture(clusters: int, seed: int) -> None:
    model = MixturePerceptron(4.0, 0.5, clusters=clusters)
    inputs, labels = draw_data(model, 100, stream(seed, "data"))
    scaled = inputs.astype(float) * 10.0  # x
    centres = scaled.mean(axis=1) * 10.0  # x . v* / sqrt(N), of variance Delta
    shares = np.multiply(model.probabilities, 400).astype(int)
    assert inputs.shape == (400, 100)
    for c, y, rows in zip(model.centres, model.labels, np.split(np.arange(400), np.cumsum(shares)[:-1]), strict=True):
        assert (labels[rows] == y).all()
        # Standard deviation sqrt(Delta) over at least 100 samples.
        assert centres[rows].mean() == pytest.approx(c, abs=5 * np.sqrt(0.5 / len(rows)))
        assert abs(centres[rows].mean() - c - 1) > 0.5
    noise = scaled - np.repeat(np.divide(model.centres, 10.0), shares)[:, None]
    assert agreement((noise**2).mean(axis=1), 0.5, detects=0.1)
    assert not agreement((noise**2).mean(axis=1), 0.55)


def test_start_is_exact() -> None:
    start = draw_start(PerceptronTraining(0.1, initial_overlap=0.3, initial_spread=2.0), 50, np.random.default_rng(0))
    assert start.mean() == pytest.approx(0.3, rel=1e-12)
    assert start @ start / 50 == pytest.approx(4.09, rel=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_the_definition(loss: str, activation: str) -> None:
    model = MixturePerceptron(2.0, 0.5, loss, 3, activation, weight_decay=0.3, margin=0.8, door_width=0.7)
    training = PerceptronTraining(0.2, momentum=0.6, initial_overlap=0.5)
    shared = SharedTraining(model, training, ReshuffledBatches(2), 37, [0, 1], np.random.default_rng(3))
    data, _, first, second = np.random.default_rng(3).spawn(4)
    inputs, labels = draw_data(model, 37, data)
    orders = [batches(ReshuffledBatches(2), 74, 0.2, order) for order in (first, second)]
    weights, before = shared.weights.copy(), shared.weights.copy()
    for _ in range(3):
        shared.step()
        for k, order in enumerate(orders):
            slope, _ = model.derivatives(labels, inputs.astype(float) @ weights[k])
            force = 0.3 * weights[k] + (next(order) * slope) @ inputs.astype(float)
            before[k], weights[k] = weights[k], weights[k] + 0.6 * (weights[k] - before[k]) - 0.2 * force
    assert shared.weights == pytest.approx(weights, rel=1e-11, abs=1e-12)
    assert shared.fields(1) == pytest.approx(inputs.astype(float) @ weights[1], rel=1e-11, abs=1e-12)


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


# ---- What a result does not depend on, and what is refused -----------------------------------------------------------


def small(selection: BatchSelection = SGD, **options: object) -> SimulatedPerceptron:
    chosen: dict = {"dimensions": 48, "times": [2, 5], "replicas": 4, "threads": 1} | options
    return simulate_perceptron(LOGISTIC, TRAINING, selection, np.random.default_rng(1), **chosen)


@pytest.mark.parametrize("selection", ALL, ids=lambda s: s.label)
def test_neither_threads_nor_company_change_a_replica(selection: BatchSelection) -> None:
    alone = small(selection)
    company = small(selection, threads=2, two_replicas=True, field_times=[1, 3], times=[0, 2, 4, 5], replicas=3)
    assert (company.correlation[:, 3, 3] == alone.correlation[:3, 1, 1]).all()
    assert (company.margin_quantiles[:, 3] == alone.margin_quantiles[:3, 1]).all()
    assert company.replica_distance is not None
    without_noise = isinstance(selection, FullBatch)
    assert (company.replica_distance[:, 3] > 0).all() != without_noise


def test_selections_share_data_and_start() -> None:
    one, other = small(times=[0, 5]), small(ReshuffledBatches(4), times=[0, 5])
    assert (one.train_loss[:, 0] == other.train_loss[:, 0]).all()
    assert (one.train_loss[:, 1] != other.train_loss[:, 1]).all()


def test_interrupted_replicas_are_kept() -> None:
    def stop(done: int, asked: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    partial, whole = small(progress=stop), small()
    assert (partial.replicas, partial.requested) == (2, 4)
    assert (partial.overlap == whole.overlap[:2]).all()

    def at_once(done: int, asked: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(progress=at_once)


def test_a_strong_field_is_refused() -> None:
    found = simulate_perceptron(
        DOOR,
        TRAINING,
        SGD,
        np.random.default_rng(0),
        dimensions=48,
        times=[5],
        replicas=2,
        field_times=[1],
        field_strength=3.0,
        threads=1,
    )
    assert found.nonlinearity > 0.01
    with pytest.raises(ValueError, match="half the field changes the response"):
        found.estimate("response", 5, 1)
    assert small(field_times=[1]).nonlinearity < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": []}, "at least one that is >= 1"),
        ({"times": [0]}, "at least one that is >= 1"),
        ({"times": [-1, 3]}, "times=-1"),
        ({"field_times": [5]}, "must be below 5"),
        ({"field_strength": 0.0}, "field_strength=0.0 must lie between"),
        ({"dimensions": 1}, "dimensions=1"),
        ({"dimensions": 49}, "is 24.5, not a whole number"),
        ({"replicas": 1}, "replicas=1"),
        ({"selection": PersistentBatches(0.25, 0.5)}, "persistence_time=0.5 must be at least 1.2"),
        ({"selection": ReshuffledBatches(1000)}, "not a whole number"),
        ({"dimensions": 200_000, "threads": 2}, "GB, more than 16"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**change)


def test_divergence_is_refused() -> None:
    with pytest.raises(ValueError, match="learning_rate=60: the weights diverge"):
        simulate_perceptron(
            RIDGE,
            PerceptronTraining(60.0),
            SGD,
            np.random.default_rng(0),
            dimensions=48,
            times=[500],
            replicas=2,
            threads=1,
        )


@pytest.mark.parametrize(
    ("quantity", "times", "message"),
    [
        ("weights", (2,), "must be one of overlap"),
        ("overlap", (3,), "overlap at 3 was not recorded; there are: 2, 5"),
        ("overlap", (2, 2), "needs 1 indices, not 2"),
        ("replica_distance", (2,), "two_replicas=True"),
        ("response", (2, 1), "there are: none at all"),
    ],
)
def test_what_was_not_recorded(quantity: str, times: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small().samples(quantity, *times)
    with pytest.raises(ValueError, match="needs a field"):
        _ = small().nonlinearity


def test_temperatures_that_cannot_be_known() -> None:
    with pytest.raises(ValueError, match="simulate with field_times"):
        simulated_temperature(small())
    with pytest.raises(ValueError, match="times must have all from 1"):
        simulated_temperature(small(field_times=[1]))
    found = small(times=range(12), field_times=[1])
    with pytest.raises(ValueError, match="must be less than longest_lag=10, and that at most 10"):
        simulated_temperature(found, [10])
    epochs = small(ReshuffledBatches(4), times=range(12), field_times=[1, 2, 3])
    with pytest.raises(ValueError, match=r"equally many in each phase .* such as \[1, 2, 3, 4\]"):
        simulated_temperature(epochs, [1])


def test_costs_grow_with_what_is_asked() -> None:
    def of(**options: object) -> float:
        chosen: dict = {"dimensions": 400, "times": [100], "replicas": 8, "threads": 1} | options
        return cost(RIDGE, SGD, **chosen).seconds

    assert of(two_replicas=True) > of()
    assert of(field_times=[10]) > of()
    assert of(threads=2) == of() / 2
    assert of(replicas=16) == 2 * of()


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
