"""Perceptrons followed until all training samples are right: what they find, and what is refused."""

import itertools

import numpy as np
import pytest

from sim.perceptron_convergence import ConvergedPerceptrons, simulate_to_convergence
from sim.perceptron_training import SharedTraining
from sim.random_streams import kernel_key, stream
from theory.batch_selection import BatchSelection, BernoulliBatches, FullBatch, PersistentBatches, ReshuffledBatches
from theory.mixture_model import MixturePerceptron, PerceptronTraining

HINGE = MixturePerceptron(sample_ratio=1.5, noise_variance=1.0, loss="squared_hinge")
"""Training goes on until all samples have v > 1."""
CONSTRAINTS = MixturePerceptron(1.5, 1.0, "perceptron", margin=0.0, smoothing=0.05)
"""Training ends as soon as all samples are right."""
TRAINING = PerceptronTraining(learning_rate=0.4)
ORDERS = (FullBatch(0.25), ReshuffledBatches(4), BernoulliBatches(0.25), PersistentBatches(0.25, 6.4))
BY_NOISE = tuple(order.label for order in ORDERS)


def followed(model: MixturePerceptron, selection: BatchSelection, seed: int, **options: object) -> ConvergedPerceptrons:
    chosen: dict = {"dimensions": 120, "most_steps": 3000, "replicas": 24, "loss_bound": 1e-3, "threads": 1} | options
    return simulate_to_convergence(model, TRAINING, selection, stream(seed, "followed"), **chosen)


@pytest.fixture(scope="module")
def hinge() -> list[ConvergedPerceptrons]:
    return [followed(HINGE, order, 0) for order in ORDERS]


@pytest.fixture(scope="module")
def constraints() -> list[ConvergedPerceptrons]:
    return [followed(CONSTRAINTS, order, 0, loss_bound=1.0) for order in ORDERS]


def changes(found: list[ConvergedPerceptrons], quantity: str, *level: int) -> list[float]:
    """From each order to the noisier one, replica by replica as they share their data, in standard errors."""
    samples = [one.samples(quantity, *level) for one in found]
    differences = [b - a for a, b in itertools.pairwise(samples)]
    return [float(d.mean() / d.std(ddof=1) * np.sqrt(len(d))) for d in differences]


def test_noisier_orders_end_further_apart(
    hinge: list[ConvergedPerceptrons], constraints: list[ConvergedPerceptrons]
) -> None:
    for found in (hinge, constraints):
        assert [one.converged.value for one in found] == [1.0] * 4, BY_NOISE
        assert found[0].samples("replica_distance").max() == 0
        assert min(changes(found, "relative_distance")) > 4
        # The other way round it would be wrong, with the same data.
        assert max(changes(found[::-1], "relative_distance")) < -4


def test_the_boundary_is_wider_or_narrower_by_the_loss(
    hinge: list[ConvergedPerceptrons], constraints: list[ConvergedPerceptrons]
) -> None:
    # A loss that wants a margin is nearest to the largest one without noise; a loss that is content with none leaves
    # the samples near the boundary as they are unless noise drives the weights on.
    for calm, noisy in ((0, 3), (2, 3)):
        assert changes([hinge[calm], hinge[noisy]], "margin_quantiles", 1)[0] < -4
        assert changes([hinge[calm], hinge[noisy]], "margin_quantiles", 2)[0] > 2
    for noisy in (1, 2, 3):
        assert changes([constraints[0], constraints[noisy]], "margin_quantiles", 1)[0] > 8


def test_it_stops_at_the_first_step_within_the_bound() -> None:
    found = followed(HINGE, BernoulliBatches(0.5), 0, dimensions=40, replicas=2)
    for replica in range(2):
        own = np.random.default_rng([*kernel_key(stream(0, "followed")).tolist(), replica])
        shared = SharedTraining(HINGE, TRAINING, BernoulliBatches(0.5), 40, [0, 1], own)
        states = []
        for t in range(int(found.steps[replica].max()) + 1):
            if t:
                shared.step()
            margins = [HINGE.margins(shared.labels, shared.fields(k).copy()) for k in (0, 1)]
            states.append([HINGE.losses(v).mean() <= 1e-3 and bool((v > 0).all()) for v in margins])
        for k in (0, 1):
            assert [row[k] for row in states].index(True) == found.steps[replica, k]
    assert (found.train_loss <= 1e-3).all()
    assert (found.train_accuracy == 1).all()


def test_what_has_not_converged_is_no_mean() -> None:
    found = followed(HINGE, PersistentBatches(0.25, 6.4), 0, most_steps=80, replicas=6)
    assert 0 <= found.converged.value < 1
    assert found.restricted_steps.value <= 80
    assert np.isinf(found.steps).any()
    with pytest.raises(ValueError, match=r"of 12 trajectories had not converged after most_steps=80"):
        found.estimate("margin_quantiles", 1)


def test_neither_threads_nor_how_often_it_looks_change_the_path() -> None:
    one = followed(CONSTRAINTS, BernoulliBatches(0.5), 0, dimensions=40, replicas=4, loss_bound=1.0)
    two = followed(
        CONSTRAINTS, BernoulliBatches(0.5), 0, dimensions=40, replicas=4, loss_bound=1.0, threads=2, check_every=10
    )
    # Weights stand still once no sample is wrong or within the width of the kink.
    assert (two.steps >= one.steps).all()
    assert (two.steps - one.steps < 10).all()


def test_interrupted_replicas_are_kept() -> None:
    def stop(done: int, asked: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    found = followed(CONSTRAINTS, BernoulliBatches(0.5), 0, dimensions=40, replicas=4, progress=stop)
    assert (found.replicas, found.requested) == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_bound": 0.0}, "loss_bound=0.0 must be finite and > 0"),
        ({"most_steps": 0}, "most_steps=0"),
        ({"check_every": 0}, "check_every=0"),
        ({"replicas": 1}, "replicas=1"),
        ({"dimensions": 46}, "not a whole number"),
        ({"dimensions": 200_000}, "GB, more than 16"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        followed(HINGE, BernoulliBatches(0.25), 0, **options)


def test_names_and_levels() -> None:
    found = followed(CONSTRAINTS, BernoulliBatches(0.5), 0, dimensions=40, replicas=2, loss_bound=1.0)
    for quantity, level in (("weights", ()), ("margin_quantiles", ()), ("norm", (1,))):
        with pytest.raises(ValueError, match="must be one of steps"):
            found.estimate(quantity, *level)
    with pytest.raises(ValueError, match="level=3 must be a number below 3"):
        found.estimate("margin_quantiles", 3)
