"""One network under each of four noises, and the valley where theory knows the trace."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.feedforward_networks import mlp
from nnval.engine.images import Images
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian_trace import estimate_hessian_trace
from nnval.noisy_descent import METHODS, NoisyDescent
from sim.batch_order import reshuffled_epochs
from sim.random_streams import stream
from theory.estimate import agreement
from theory.widening_valley import Valley, anti_pgd_moments, pgd_moments

# ---- The valley: two linear layers without labels --------------------------------------------------------------------


class LinearValleys(nn.Module):
    """Networks x -> v u.x beside each other. With inputs sqrt(d) e_i and labels 0 each has the loss v^2 |u|^2 / 2."""

    def __init__(self, replicas: int, dimension: int, sharpness: float) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((dimension, replicas), math.sqrt(sharpness / dimension)))
        self.v = nn.Parameter(torch.zeros(replicas))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs @ self.u * self.v


def half_squares(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((outputs - labels) ** 2).sum() / 2


def test_trace_in_the_valley_is_that_of_theory(seed: int) -> None:
    """Anti-PGD lowers the trace and PGD raises it, as the moment maps say; each is rejected for the other."""
    valley, scale, start, replicas, epochs = Valley(dimension=40, learning_rate=0.01), 0.06, 60.0, 240, 50
    images = Images(math.sqrt(40) * torch.eye(40, dtype=torch.float64), torch.zeros(40, 1, dtype=torch.float64))
    predicted = {}
    for method, moments in (
        ("anti_pgd", anti_pgd_moments(valley, scale, start, 4 * epochs)),
        ("pgd", pgd_moments(valley, scale, start, 4 * epochs)),
    ):
        predicted[method] = float(moments.sharpness[-1] + 40 * moments.across[-1])
    assert predicted["anti_pgd"] < start < predicted["pgd"]
    for method, other in (("anti_pgd", "pgd"), ("pgd", "anti_pgd")):
        network = NoisyDescent(
            LinearValleys(replicas, 40, start).double(),
            images,
            method,
            batch_size=10,  # four updates in an epoch
            learning_rate=valley.learning_rate,
            noise_scale=scale,
            loss=half_squares,
            rng=stream(seed, "batches"),
            generator=torch.Generator().manual_seed(seed),
        )
        for _ in range(epochs):
            network.train_epoch()
        with network.without_injected_noise():
            u, v = (each.detach().clone() for each in network.module.parameters())
        traces = ((u**2).sum(0) + 40 * v**2).numpy()
        assert agreement(traces, predicted[method])
        assert not agreement(traces, predicted[other])
        assert not agreement(traces, start)
        # And that is what random probes measure.
        loss = FullLoss(network.module, images, images.labels, loss=half_squares)
        measured = estimate_hessian_trace(loss, torch.cat([u.reshape(-1), v]), 30, stream(seed, "probes"))
        assert measured.value == pytest.approx(traces.sum(), abs=5 * measured.standard_error)
        assert measured.standard_error < 0.05 * abs(predicted[method] - start) * replicas


# ---- One network -----------------------------------------------------------------------------------------------------


def some_images(count: int = 23) -> Images:
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randn(count, 1, 3, 3, generator=generator), torch.arange(count) % 4)


def network_of(method: str, seed: int = 0, **options: Any) -> NoisyDescent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = mlp((1, 3, 3), 4, (5,))
    given: dict[str, Any] = {"batch_size": 5, "learning_rate": 0.1, "momentum": 0.5, "noise_scale": 0.03} | options
    rng, generator = stream(seed, "batches"), torch.Generator().manual_seed(seed)
    return NoisyDescent(module, some_images(), method, rng=rng, generator=generator, **given)


def weights(network: NoisyDescent) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in network.module.parameters()])


def test_reshuffled_batches_are_plain_sgd() -> None:
    network, twin, images = network_of("reshuffled"), network_of("reshuffled").module, some_images()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.5)
    epochs = reshuffled_epochs(23, 5, stream(0, "batches"))
    for _ in range(3):
        network.train_epoch()
        for batch in next(epochs):
            optimizer.zero_grad()
            loss = F.cross_entropy(twin(images.pixels[batch]), images.labels[batch], reduction="sum") / 5
            loss.backward()
            optimizer.step()
    assert torch.equal(weights(network), torch.cat([each.detach().flatten() for each in twin.parameters()]))
    assert network.epoch == 3


def test_injected_noise_comes_on_top_of_the_full_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one epoch of four updates, with the gradient in chunks of three samples or whole."""
    for values in (27, 2**20):
        monkeypatch.setattr("nnval.noisy_descent._VALUES_AT_ONCE", values)
        images, draws = some_images(), torch.Generator().manual_seed(0)
        for method in ("pgd", "anti_pgd"):
            network, twin = network_of(method), network_of(method).module
            parameters = list(twin.parameters())
            optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.5)
            draws.manual_seed(0)
            before = [torch.zeros_like(each) for each in parameters]
            network.train_epoch()
            for _ in range(4):
                optimizer.zero_grad()
                F.cross_entropy(twin(images.pixels), images.labels).backward()
                optimizer.step()
                noise = [0.03 * torch.empty_like(each).normal_(generator=draws) for each in parameters]
                with torch.no_grad():
                    for each, new, old in zip(parameters, noise, before, strict=True):
                        each += new - old if method == "anti_pgd" else new
                before = noise
            expected = torch.cat([each.detach().flatten() for each in parameters])
            assert torch.allclose(weights(network), expected, atol=1e-6)
            with network.without_injected_noise():
                clean = expected - torch.cat([each.flatten() for each in before])
                assert torch.allclose(weights(network), clean if method == "anti_pgd" else expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_goes_on_from_its_state(method: str) -> None:
    whole, first, second = network_of(method), network_of(method), network_of(method, seed=5)
    for _ in range(4):
        whole.train_epoch()
    first.train_epoch()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.train_epoch()
    assert second.epoch == 4
    assert torch.equal(weights(second), weights(whole))


def test_bad_networks() -> None:
    with pytest.raises(ValueError, match="method='sgd' must be one of with_replacement, reshuffled, pgd, anti_pgd"):
        network_of("sgd")
    with pytest.raises(ValueError, match="must be finite and > 0"):
        network_of("pgd", learning_rate=0.0)
    with pytest.raises(ValueError, match="batch_size=24 must lie between"):
        network_of("pgd", batch_size=24)
