"""The mean loss of a network as a function of its weights: its derivatives, and the networks that have none."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.measure.batch_gradients import summed_cross_entropy
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian import eigenpairs
from sim.random_streams import stream
from tests.loss_networks import IMAGES, naive_value, network, trained_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained() -> tuple[FullLoss, torch.Tensor, np.ndarray]:
    return trained_network()


def test_value_gradient_and_product_are_those_of_the_naive_loss(trained) -> None:
    loss, weights, dense = trained
    module = network()
    assert loss.size == len(weights) == 280
    assert loss.samples == len(IMAGES)
    assert torch.equal(loss.weights, torch.cat([p.detach().double().reshape(-1) for p in module.parameters()]))
    np.testing.assert_allclose(loss.value(weights), float(naive_value(module, weights)), rtol=1e-12)
    expected = torch.autograd.functional.jacobian(lambda at: naive_value(module, at), weights)
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(loss.gradient(weights), expected, atol=1e-14)
    vectors = torch.from_numpy(stream(0, "vectors").standard_normal((37, 280)))  # more than are taken at once
    np.testing.assert_allclose(loss.product(weights, vectors), vectors.numpy() @ dense, atol=1e-12)


@pytest.mark.parametrize("model", ["relu", "convolution"])
def test_products_are_finite_differences_of_gradients(model: str) -> None:
    layers = (nn.Conv2d(1, 3, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 10))
    module = network(nn.ReLU()) if model == "relu" else nn.Sequential(*layers)
    initialise(module, "kaiming_fan_out", torch.Generator().manual_seed(1))
    loss = FullLoss(module, IMAGES, IMAGES.labels)
    weights, vector = loss.weights, torch.from_numpy(stream(0, "direction").standard_normal(loss.size))
    vector, step = vector / vector.norm(), 1e-6
    difference = (loss.gradient(weights + step * vector) - loss.gradient(weights - step * vector)) / (2 * step)
    product = loss.product(weights, vector[None])[0]
    # At a kink of ReLU the difference sees what the derivative does not; few samples have one within the step.
    assert float((product - difference).norm()) < (1e-3 if model == "relu" else 1e-8) * float(product.norm())


def test_chunks_and_single_precision_change_rounding_only(trained) -> None:
    loss, weights, _ = trained
    vectors = torch.from_numpy(stream(0, "vectors").standard_normal((5, 280)))
    for chunk in (17, 10**6):
        other = FullLoss(network(), IMAGES, IMAGES.labels, chunk=chunk)
        np.testing.assert_allclose(other.product(weights, vectors[:2]), loss.product(weights, vectors[:2]), atol=1e-12)
        np.testing.assert_allclose(other.gradient(weights), loss.gradient(weights), atol=1e-14)
    single = FullLoss(network(), IMAGES, IMAGES.labels, dtype=torch.float32)
    assert single.product(weights, vectors).dtype == torch.float32
    np.testing.assert_allclose(single.product(weights, vectors), loss.product(weights, vectors), atol=1e-4)


def test_gradient_of_some_samples_is_the_mean_of_theirs(trained) -> None:
    loss, weights, _ = trained
    each = torch.cat(list(loss.example_gradients(weights)))
    assert each.shape == (len(IMAGES), 280)
    samples = torch.tensor([3, 3, 8])
    np.testing.assert_allclose(loss.gradient(weights, samples), each[samples].mean(0), atol=1e-13)
    np.testing.assert_allclose(loss.gradient(weights), each.mean(0), atol=1e-13)


def test_parameters_without_gradient_are_constants() -> None:
    module = network()
    module[2].requires_grad_(False)
    loss = FullLoss(module, IMAGES, IMAGES.labels)
    whole = FullLoss(network(), IMAGES, IMAGES.labels)
    assert loss.size == 110
    np.testing.assert_allclose(loss.gradient(loss.weights), whole.gradient(whole.weights)[-110:], atol=1e-14)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn(x.shape, dtype=x.dtype)


class OnlyInTraining(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x if self.training else x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dropout(0.3), r"layer '3' is Dropout\(p=0.3.*set p=0"),
        (nn.AlphaDropout(0.2), "layer '3' is AlphaDropout"),
        (nn.BatchNorm1d(10), "layer '3' is BatchNorm1d.*depends on the batch.*frozen_statistics=True"),
        (Noisy(), "draws random numbers"),
        (nn.RReLU(), "draws random numbers"),
        (OnlyInTraining(), "computes other outputs in training"),
    ],
)
def test_refuses_networks_whose_loss_is_no_function_of_the_weights(layer: nn.Module, message: str) -> None:
    module = network(layer)
    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=message):
        FullLoss(module, IMAGES, IMAGES.labels)
    assert torch.equal(before, torch.random.get_rng_state())


def test_takes_dropout_of_zero_and_batch_norm_if_asked() -> None:
    FullLoss(network(nn.Dropout(0.0)), IMAGES, IMAGES.labels)
    module = network(nn.BatchNorm1d(10))
    loss = FullLoss(module, IMAGES, IMAGES.labels, frozen_statistics=True)
    with torch.no_grad():
        expected = F.cross_entropy(module.double().eval()(IMAGES.all_inputs().double()), IMAGES.labels)
    assert math.isclose(loss.value(loss.weights), float(expected), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": F.cross_entropy}, "must be summed over the samples"),
        ({"loss": lambda out, labels: F.cross_entropy(out, labels, reduction="none")}, "must be one number"),
        ({"dtype": torch.float16}, "dtype=torch.float16 must be"),
        ({"chunk": 0}, "chunk=0 must be a whole number >= 1"),
        ({"labels": IMAGES.labels[:5]}, "inputs and 5 labels must be as many"),
        ({"module": nn.Flatten()}, "no weights to differentiate by"),
    ],
)
def test_refuses_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FullLoss(**({"module": network(), "inputs": IMAGES, "labels": IMAGES.labels} | options))


def test_refuses_a_loss_that_is_not_deterministic() -> None:
    calls = iter(range(10**6))

    def drifting(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return summed_cross_entropy(outputs, labels) * (1 + 1e-4 * next(calls))

    # Of one sample there is no sum to check.
    loss = FullLoss(network(), IMAGES.all_inputs()[:1], IMAGES.labels[:1], loss=drifting)
    with pytest.raises(ValueError, match=r"is not deterministic: two evaluations .* differ by"):
        eigenpairs(loss, loss.weights, 2, rng=stream(0, "start"))

    def jittered(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return summed_cross_entropy(outputs, labels) + 0 * torch.rand(())

    loss = FullLoss(network(), IMAGES, IMAGES.labels, loss=jittered)
    with pytest.raises(ValueError, match="draws random numbers"):
        eigenpairs(loss, loss.weights, 2, rng=stream(0, "start"))


def test_refuses_shapes_and_weights_without_a_finite_loss(trained) -> None:
    loss, weights, _ = trained
    with pytest.raises(ValueError, match=r"weights of shape \(279,\) must have shape \(280,\)"):
        loss.value(weights[1:])
    with pytest.raises(ValueError, match=r"vectors of shape \(280,\) must have shape \(k, 280\)"):
        loss.product(weights, weights)
    with pytest.raises(ValueError, match="samples is empty"):
        loss.gradient(weights, torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="not finite at these weights"):
        eigenpairs(loss, weights * math.nan, 2, rng=stream(0, "start"))
