"""The perceptron in finite dimensions: its pieces, what a result does not depend on, and what is refused."""

import itertools

import numpy as np
import pytest

from sim.perceptron import SimulatedPerceptron, cost, simulate_perceptron
from sim.perceptron_temperature import simulated_temperature
from sim.perceptron_training import SharedTraining, batches, draw_data, draw_start
from sim.random_streams import stream
from tests.small_perceptrons import DOOR, LOGISTIC, RIDGE, SGD, TRAINING
from theory.batch_selection import (
    BatchSelection,
    BernoulliBatches,
    FullBatch,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.estimate import agreement
from theory.mixture_model import ACTIVATIONS, LOSSES, MixturePerceptron, PerceptronTraining

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
