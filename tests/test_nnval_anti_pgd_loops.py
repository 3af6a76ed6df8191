"""Anti-PGD in loops of all kinds: closures, steps that fail, steps that a scaler skips."""

import math

import pytest
import torch
from torch import nn

from nnval.drop_in.anti_pgd import AntiPGD
from tests.anti_pgd_networks import network, noise_of
from tests.torch_helpers import generator_from, generator_state, weights


@pytest.mark.parametrize("keyword", [False, True])
def test_closures_see_the_noise(keyword: bool) -> None:
    def trained(closure: bool) -> tuple[torch.Tensor, list[float]]:
        model = network().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        AntiPGD(optimizer, 0.2, generator=generator_from(0))
        losses: list[float] = []

        def evaluate() -> torch.Tensor:
            optimizer.zero_grad()
            inputs = torch.ones(8, 5, dtype=torch.float64)
            loss = nn.functional.cross_entropy(model(inputs), torch.arange(8) % 3)
            loss.backward()
            losses.append(loss.item())
            return loss

        for _ in range(5):
            if not closure:
                evaluate()
                optimizer.step()
            elif keyword:
                optimizer.step(closure=evaluate)
            else:
                optimizer.step(evaluate)
        return weights(model), losses

    assert torch.equal(trained(True)[0], trained(False)[0])
    assert trained(True)[1] == trained(False)[1]


def test_lbfgs() -> None:
    """It evaluates its closure several times in a step, each time with the same noise."""
    weight = nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    optimizer = torch.optim.LBFGS([weight], lr=1.0, max_iter=20, line_search_fn="strong_wolfe")
    noise = AntiPGD(optimizer, 0.1, generator=generator_from(0))
    evaluations = 0

    def closure() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        xi = noise_of(noise) if noise.steps else torch.zeros(2, dtype=torch.float64)
        before = evaluations
        optimizer.step(closure)
        assert evaluations > before + 1
        with noise.without_noise():
            assert torch.allclose(weight.detach(), -xi, atol=1e-3)  # so that z + xi = 0, the minimum


def test_a_step_that_fails_loses_no_weights() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    noise = AntiPGD(optimizer, 0.2, generator=generator_from(0))
    weight.grad = torch.zeros(3)
    optimizer.step()

    def fails() -> float:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(fails)
    assert torch.equal(weight.detach(), torch.ones(3))
    with pytest.raises(RuntimeError, match="after a step that failed"):
        noise.state_dict()
    optimizer.step()
    assert not torch.equal(weight.detach(), torch.ones(3))
    noise.remove()
    assert torch.equal(weight.detach(), torch.ones(3))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("correlation", ["anti", "white"])
def test_steps_that_a_scaler_skips(correlation: str, fused: bool) -> None:
    """A fused optimizer is called all the same, and told by found_inf."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    noise = AntiPGD(optimizer, 0.2, correlation=correlation, generator=generator_from(0))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def scaled_step(number: int, factor: float) -> None:
        inputs = torch.randn(8, 5, generator=generator_from(number))
        optimizer.zero_grad()
        loss = factor * nn.functional.cross_entropy(model(inputs), torch.arange(8) % 3)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    scaled_step(0, 1.0)
    before, state = weights(model), generator_state(noise)
    scaled_step(1, math.inf)
    assert torch.equal(weights(model), before)
    assert torch.equal(generator_state(noise), state)
    assert noise.steps == 1
    scaled_step(2, 1.0)
    assert noise.steps == 2
    assert not torch.equal(weights(model), before)
