"""The noise of real batches of a network, projected on directions, against theory and against gradients of batches."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.full_loss import FullLoss
from nnval.measure.gradient_noise import (
    Commutation,
    MeasuredNoise,
    _lagged_products,
    measure_gradient_noise,
    projected_gradients,
)
from nnval.measure.hessian import eigenpairs
from sim.batch_order import reshuffled_epochs
from sim.random_streams import kernel_key, stream
from theory.estimate import AGREEMENT_P_VALUE, Estimate, agreement, compare
from theory.gradient_noise import (
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)

IMAGES = load_data(TrainingConfig()).train
SAMPLES, SIZE, DIRECTIONS = 200, 20, 6
BATCHES = SAMPLES // SIZE
PERSISTENT = "persistent:entry_probability=0.03"


@pytest.fixture(scope="module")
def network() -> tuple[FullLoss, torch.Tensor, torch.Tensor, np.ndarray]:
    """A small network with its initial weights, and the steepest directions there."""
    module = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10))
    initialise(module, "kaiming_fan_out", torch.Generator().manual_seed(0))
    loss = FullLoss(module, IMAGES.all_inputs()[:SAMPLES], IMAGES.labels[:SAMPLES])
    pairs = eigenpairs(loss, loss.weights, DIRECTIONS, rng=stream(0, "start"))
    return loss, loss.weights, pairs.directions, pairs.curvatures


def measured(network, order: str, seed: int = 0, **options: Any) -> MeasuredNoise:
    loss, weights, directions, curvatures = network
    settings = {"batch_size": SIZE, "epochs": 8, "lags": [0, 1, 3, BATCHES, BATCHES + 1], "curvatures": curvatures}
    return measure_gradient_noise(
        loss, weights, directions, order=order, rng=stream(seed, "batches"), **(settings | options)
    )


def test_projected_gradients_are_those_of_single_samples(network) -> None:
    loss, weights, directions, _ = network
    told: list[tuple[int, int]] = []
    found = projected_gradients(loss, weights, directions, progress=lambda done, total, _: told.append((done, total)))
    assert told[-1] == (SAMPLES, SAMPLES)
    expected = np.stack([(directions @ loss.gradient(weights, torch.tensor([n]))).numpy() for n in range(SAMPLES)])
    np.testing.assert_allclose(found.mean, expected.mean(0), atol=1e-14)
    np.testing.assert_allclose(found.deviations, expected - expected.mean(0), atol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(expected.T, bias=True), atol=1e-13)


@pytest.mark.parametrize("order", ["reshuffled", "with_replacement", PERSISTENT])
def test_noise_is_that_of_the_gradients_of_the_very_batches(network, order: str) -> None:
    loss, weights, directions, _ = network
    found = measured(network, order, epochs=1, replicas=2, lags=[0, 2])
    key = kernel_key(stream(0, "batches")).tolist()
    products = []
    for replica in range(2):
        drawn = BatchOrder.parsed(order).epochs(SAMPLES, SIZE, np.random.default_rng([*key, replica]))
        batches = [torch.from_numpy(np.asarray(batch)) for batch in [*next(drawn), *next(drawn)]]
        # Sums over a batch, divided by its mean size.
        sums = torch.stack([loss.gradient(weights, batch) * len(batch) / SIZE for batch in batches])
        noise = ((sums - loss.gradient(weights)) @ directions.T).numpy()
        products.append([(noise[:BATCHES] * noise[lag : lag + BATCHES]).mean(0) for lag in (0, 2)])
    np.testing.assert_allclose(found.autocovariance.T, np.mean(products, axis=0), atol=1e-12)
    error = np.std(products, axis=0, ddof=1) / math.sqrt(2)
    np.testing.assert_allclose(found.autocovariance_error.T, error, atol=1e-12)


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ("with_replacement", Reshuffled(BATCHES)),
        ("reshuffled", WhiteNoise()),
        ("reshuffled:every=2", ReshuffledEvery(BATCHES, 3)),
        ("shuffled_once", ReshuffledEvery(BATCHES, 3)),
        (PERSISTENT, Persistent(0.5)),
    ],
)
def test_every_order_has_its_autocovariance_and_no_other(network, seed: int, order: str, wrong: GradientNoise) -> None:
    found = measured(network, order, seed, replicas=300)

    def agrees(predicted: np.ndarray) -> list[bool]:
        pairs = zip(found.correlation_samples.T, predicted.tolist(), strict=True)
        return [bool(agreement(samples, value)) for samples, value in pairs]

    assert all(agrees(found.predicted_correlation))
    assert not all(agrees(wrong.normalised().autocovariance(found.lags)))
    # Direction by direction, in absolute units.
    for row, errors, predicted in zip(
        found.autocovariance, found.autocovariance_error, found.predicted_autocovariance, strict=True
    ):
        for value, error, expected in zip(row.tolist(), errors.tolist(), predicted.tolist(), strict=True):
            estimate = Estimate(value, error, found.replicas)
            assert compare("c_h", Estimate(expected, 0.0, 1), estimate).p_value > AGREEMENT_P_VALUE
    assert found.replicas == 300
    assert found.batches_per_epoch == BATCHES


def test_variance_of_white_batches_is_not_that_of_reshuffled_ones(network, seed: int) -> None:
    found = measured(network, "reshuffled", seed, replicas=250)
    normalised = found.correlation_samples[:, 0]
    assert agreement(normalised, 1.0, detects=0.1)
    ratio = (SAMPLES - 1) / (SAMPLES - SIZE)  # 1.106: with replacement
    assert not agreement(normalised, ratio)
    white = measured(network, "with_replacement", seed)
    np.testing.assert_allclose(white.predicted_variance / found.predicted_variance, ratio, rtol=1e-12)
    np.testing.assert_allclose(found.predicted_variance, [estimate.value for estimate in found.variance], rtol=0.1)


def test_noise_of_an_epoch_that_leaves_samples_out(network, seed: int) -> None:
    found = measured(network, "reshuffled", seed, batch_size=30, epochs=20, replicas=400, lags=[0, 1, 2])
    assert found.batches_per_epoch == 6
    pairs = list(zip(found.correlation_samples.T, found.predicted_correlation.tolist(), strict=True))
    assert all(agreement(samples, value) for samples, value in pairs)
    as_if_all = Reshuffled(6).autocovariance(found.lags)
    assert not agreement(found.correlation_samples[:, 1], float(as_if_all[1]))


def test_errors_are_those_of_repeated_measurements(network, seed: int) -> None:
    loss, weights, directions, _ = network
    gradients = projected_gradients(loss, weights, directions[:1])
    variance = np.diag(gradients.covariance)
    noise = Reshuffled.of_examples(float(variance[0]), SAMPLES, SIZE)
    order, lags, rng = BatchOrder("reshuffled"), np.array([0, 1]), stream(seed, "batches")
    repeated = [_lagged_products(gradients, order, SIZE, lags, 2, 6, rng, variance, None)[0] for _ in range(300)]
    squares = np.array([(values[0, 1] - noise.autocovariance(1)) ** 2 for values, _ in repeated])
    claimed = np.array([errors[0, 1] ** 2 for _, errors in repeated])
    assert agreement(squares - claimed, 0.0)
    assert not agreement(squares - claimed / 4, 0.0)


def test_commutation() -> None:
    diagonal = Commutation.of(np.diag([1.0, 2.0, 0.0]), np.array([3.0, 1.0, 0.0]))
    assert diagonal == Commutation(0.0, 0.0, 0.0)
    rng = stream(0, "matrices")
    root = rng.standard_normal((5, 5))
    covariance, curvatures = root @ root.T, rng.standard_normal(5)
    found = Commutation.of(covariance, curvatures)
    hessian = np.diag(curvatures)
    commutator = np.linalg.norm(hessian @ covariance - covariance @ hessian)
    bound = math.sqrt(2) * np.linalg.norm(hessian) * np.linalg.norm(covariance)
    assert found.commutator == pytest.approx(commutator / bound, rel=1e-12)
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    expected = math.sqrt((correlation[~np.eye(5, dtype=bool)] ** 2).mean())
    assert found.rms_correlation == pytest.approx(expected, rel=1e-12)
    off_diagonal = covariance[~np.eye(5, dtype=bool)]
    assert found.off_diagonal_share == pytest.approx((off_diagonal**2).sum() / (covariance**2).sum(), rel=1e-12)
    assert Commutation.of(covariance).commutator is None
    # The worst case that there is.
    assert Commutation.of(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, -1.0])).commutator == pytest.approx(1.0)
    assert Commutation.of(np.zeros((2, 2)), np.ones(2)) == Commutation(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"curvatures of shape \(2,\) must be 5"):
        Commutation.of(covariance, np.ones(2))
    with pytest.raises(ValueError, match=r"covariance of shape \(2,\) must be square"):
        Commutation.of(np.ones(2))


def test_a_real_network_does_not_commute_and_says_how_far(network) -> None:
    found = measured(network, "reshuffled", replicas=2, epochs=1)
    commutation = found.commutation
    assert commutation.commutator is not None
    assert 0 < commutation.commutator < commutation.rms_correlation < 1
    assert 0 < commutation.off_diagonal_share < 1


def test_directions_without_noise_have_none(network) -> None:
    loss, weights, *_ = network
    # Adding a number to all logits changes no loss.
    direction = torch.zeros(1, loss.size, dtype=torch.float64)
    direction[0, -10:] = 1 / math.sqrt(10)
    found = measure_gradient_noise(
        loss, weights, direction, batch_size=SIZE, epochs=1, replicas=3, rng=stream(0, "batches")
    )
    assert found.predicted_variance[0] < 1e-30
    assert abs(found.variance[0].value) < 1e-30
    exactly = torch.zeros_like(direction)
    none = measure_gradient_noise(
        loss, weights, exactly, batch_size=SIZE, epochs=1, replicas=3, rng=stream(0, "batches")
    )
    assert none.variance[0] == Estimate(0.0, 0.0, 3)
    assert (none.correlation_samples == 0).all()
    assert none.commutation == Commutation(0.0, 0.0, None)


def test_default_lags_and_single_precision(network) -> None:
    loss, weights, directions, _ = network
    single = FullLoss(loss._module, loss._inputs, loss._labels, dtype=torch.float32)  # pyright: ignore[reportArgumentType]
    settings: dict[str, Any] = {"batch_size": SIZE, "epochs": 3, "replicas": 4}
    found = measure_gradient_noise(single, weights, directions, rng=stream(0, "batches"), **settings)
    assert found.lags.tolist() == [0, 1, 2, 3, 5, 7, 9, 10, 11]
    wide = measure_gradient_noise(loss, weights, directions, rng=stream(0, "batches"), **settings)
    np.testing.assert_allclose(
        found.autocovariance, wide.autocovariance, rtol=1e-3, atol=1e-6 * wide.autocovariance.max()
    )
    again = measure_gradient_noise(loss, weights, directions, rng=stream(0, "batches"), **settings)
    assert (again.autocovariance == wide.autocovariance).all()


def test_theory_that_is_beside(network) -> None:
    assert isinstance(measured(network, "shuffled_once", replicas=2, epochs=1).unit, ShuffledOnce)
    found = measured(network, PERSISTENT, replicas=2, epochs=1)
    # Sizes fluctuate, so that the mean gradient counts too.
    np.testing.assert_allclose(found.example_variance, np.diag(found.covariance) + found.mean_gradient**2, rtol=1e-13)
    reshuffled = measured(network, "reshuffled", replicas=2, epochs=1)
    np.testing.assert_allclose(reshuffled.example_variance, np.diag(reshuffled.covariance), rtol=1e-13)
    for row, variance in zip(reshuffled.predicted_autocovariance, reshuffled.example_variance.tolist(), strict=True):
        noise = Reshuffled.of_examples(variance, SAMPLES, SIZE)
        np.testing.assert_allclose(row, noise.autocovariance(reshuffled.lags), rtol=1e-12)
    assert next(reshuffled_epochs(SAMPLES, SIZE, stream(0, "x"))).shape == (BATCHES, SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "sorted"}, "order='sorted' must be one of with_replacement"),
        ({"order": "shuffled_once", "batch_size": 30}, "batch_size=30 must divide the 200 samples"),
        ({"batch_size": 150}, "at least 2 are needed"),
        ({"epochs": 0}, "epochs=0 must be a whole number >= 1"),
        ({"replicas": 1}, "replicas=1 must be a whole number >= 2"),
        ({"lags": [-1]}, "lags=-1 must be a whole number >= 0"),
        ({"memory": 100}, "200 samples along 6 directions need .* over memory=100 bytes: take fewer"),
        ({"directions": torch.zeros(2, 3)}, r"directions of shape \(2, 3\) must have shape \(k, 226\)"),
        ({"weights": torch.full((226,), math.nan)}, "not finite at these weights"),
    ],
)
def test_refuses(network, options: dict, message: str) -> None:
    loss, weights, directions, _ = network
    arguments = {"weights": weights, "directions": directions, "batch_size": SIZE, "epochs": 1, "rng": stream(0, "x")}
    with pytest.raises(ValueError, match=message):
        measure_gradient_noise(loss, **(arguments | options))


@pytest.mark.gpu
def test_gpu_measures_the_same_noise(network) -> None:
    loss, weights, directions, _ = network
    there = FullLoss(loss._module, loss._inputs, loss._labels, device="cuda")  # pyright: ignore[reportArgumentType]
    settings: dict[str, Any] = {"batch_size": SIZE, "epochs": 3, "replicas": 4}
    found = measure_gradient_noise(there, weights.cuda(), directions.cuda(), rng=stream(0, "batches"), **settings)
    here = measure_gradient_noise(loss, weights, directions, rng=stream(0, "batches"), **settings)
    np.testing.assert_allclose(found.autocovariance, here.autocovariance, rtol=1e-8, atol=1e-14)
