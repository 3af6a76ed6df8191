"""Adaptive noise in loops of all kinds: closures, accumulated gradients, scalers, steps that fail."""

import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnval.drop_in.adaptive_noise import AdaptiveNoise
from tests.noisy_networks import FIXED, backward, network, quick, step
from tests.torch_helpers import generator_from, generator_state, weights
from theory.estimate import agreement
from theory.noise_schedule import NoiseSchedule


@pytest.mark.parametrize("keyword", [False, True])
def test_closures(keyword: bool) -> None:
    def trained(closure: bool) -> tuple[torch.Tensor, dict[str, float]]:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        noise = AdaptiveNoise(optimizer, seed=0)
        for number in range(5):

            def evaluate(number: int = number) -> torch.Tensor:
                optimizer.zero_grad()
                return backward(model, number)

            if not closure:
                evaluate()
                optimizer.step()
            elif keyword:
                optimizer.step(closure=evaluate)
            else:
                optimizer.step(evaluate)
        return weights(model), noise.metrics

    assert torch.equal(trained(True)[0], trained(False)[0])
    assert trained(True)[1] == trained(False)[1]


def test_lbfgs() -> None:
    """Its step evaluates a closure several times; what counts is where it leads."""

    def trained(schedule: NoiseSchedule | None) -> tuple[torch.Tensor, float]:
        weight = nn.Parameter(torch.full((30, 30), 3.0, dtype=torch.float64))
        optimizer = torch.optim.LBFGS([weight], lr=0.5, max_iter=4)
        noise = None if schedule is None else AdaptiveNoise(optimizer, schedule, seed=0)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (weight**2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return weight.detach(), 0.0 if noise is None else noise.metrics["noise/update_size"]

    plain = trained(None)[0]
    noisy, update = trained(FIXED)
    assert update == pytest.approx(float((plain - 3.0).norm()), rel=1e-12)
    assert agreement((noisy - plain).numpy().ravel() ** 2, (0.1 * update) ** 2 / 900)
    assert not agreement((noisy - plain).numpy().ravel() ** 2, 0.01)


def test_accumulated_gradients_are_one_step() -> None:
    def trained(parts: int) -> tuple[int, float, torch.Tensor]:
        model = nn.Linear(5, 3)
        model.load_state_dict({"weight": torch.ones(3, 5), "bias": torch.zeros(3)})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        noise = AdaptiveNoise(optimizer, seed=0)
        for number in range(6):
            optimizer.zero_grad()
            inputs = torch.randn(8, 5, generator=generator_from(number), dtype=torch.float32)
            for part in inputs.chunk(parts):
                (model(part).square().mean() / parts).backward()
            optimizer.step()
        return noise.steps, noise.metrics["noise/gradient_variance"], weights(model)

    whole, halves = trained(1), trained(2)
    assert whole[0] == halves[0] == 6
    assert halves[1] == pytest.approx(whole[1], rel=1e-4)
    assert torch.allclose(halves[2], whole[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips(fused: bool, every: int) -> None:
    """They are none: no noise, no count, no warning; and what is measured is unscaled."""

    def trained(scale: float | None, skips: bool) -> tuple[torch.Tensor, dict[str, Any], AdaptiveNoise]:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        noise = AdaptiveNoise(optimizer, machine=quick(), every=every, seed=0)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for number in range(7):
            for factor in (math.inf, 1.0) if skips and number in (0, 3, 4) else (1.0,):
                before, was = weights(model), noise.state_dict()["generator"]
                optimizer.zero_grad()
                inputs = torch.randn(8, 5, generator=generator_from(100 + number))
                if factor == 1.0:
                    loss = nn.functional.cross_entropy(model.train()(inputs), torch.arange(8) % 3)
                else:  # without the batch statistics, which are not to be compared
                    loss = factor * nn.functional.cross_entropy(model.eval()(inputs), torch.arange(8) % 3)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                if factor != 1.0:
                    assert torch.equal(weights(model), before)
                    assert torch.equal(generator_state(noise), was)
        assert noise.steps == 7
        assert noise.skipped == 0
        return weights(model), noise.metrics, noise

    plain = trained(None, skips=False)
    for found in (trained(8.0, skips=False), trained(64.0, skips=True)):
        assert torch.equal(found[0], plain[0])  # powers of two
        assert found[1] == plain[1]


@pytest.mark.parametrize("every", [1, 2])
def test_gradients_that_are_not_finite(every: int) -> None:
    """An optimizer that goes on nevertheless: no noise at that step, one warning, and the averages are as before."""

    class Careful(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if all(p.grad.isfinite().all() for p in self.param_groups[0]["params"]):
                return super().step(closure)
            return None

    model = network()
    optimizer = Careful(model.parameters(), lr=0.1)
    noise = AdaptiveNoise(optimizer, FIXED, machine=quick(), every=every, seed=0)

    def spoilt_step() -> None:
        optimizer.zero_grad()
        backward(model.eval(), 0, math.nan)
        optimizer.step()

    for number in range(4):
        step(model, optimizer, number)
    before, measured, drawn = weights(model), noise.metrics, generator_state(noise)
    with pytest.warns(RuntimeWarning, match="gradients or weights at step 5 are not finite: no noise is added then"):
        spoilt_step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            spoilt_step()
    assert torch.equal(weights(model), before)
    assert torch.equal(generator_state(noise), drawn)
    assert (noise.steps, noise.skipped, noise.machine.ignored) == (8, 4, 4 // every)
    assert noise.scale == 0.0
    assert noise.metrics["noise/gradient_variance"] == measured["noise/gradient_variance"]
    assert noise.metrics["noise/skipped"] == 4.0
    step(model.train(), optimizer, 9)
    assert noise.scale == 0.1
    assert noise.skipped == 4
    assert not torch.equal(generator_state(noise), drawn)
    assert math.isfinite(noise.metrics["noise/gradient_variance"])


def test_subclasses_that_call_their_parents_step() -> None:
    """Torch calls the hooks twice then; noise is added once."""
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)  # whose step has hooks from now on

    class Child(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    def trained(kind: type[torch.optim.SGD]) -> tuple[torch.Tensor, int]:
        model = network()
        optimizer = kind(model.parameters(), lr=0.1)
        noise = AdaptiveNoise(optimizer, seed=0)
        for number in range(4):
            step(model, optimizer, number)
        return weights(model), noise.steps

    child, parent = trained(Child), trained(torch.optim.SGD)
    assert torch.equal(child[0], parent[0])
    assert child[1] == parent[1] == 4


def test_a_network_that_is_frozen_meanwhile() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AdaptiveNoise(optimizer, seed=0)
    model.requires_grad_(False)
    optimizer.step()
    assert noise.steps == 0
    model.requires_grad_(True)
    step(model, optimizer)
    assert noise.steps == 1


def test_a_step_that_fails_is_none() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AdaptiveNoise(optimizer, seed=0)

    def fails() -> float:
        with torch.no_grad():
            next(model.parameters()).add_(100.0)  # somebody reloads the weights after it
        raise ArithmeticError

    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ArithmeticError):
        optimizer.step(fails)
    model.load_state_dict(before)
    assert noise.steps == 0
    optimizer.step()  # no gradients yet: nothing moves
    assert noise.steps == 0
    step(model, optimizer)
    assert noise.steps == 1
    assert noise.metrics["noise/update_size"] < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    weight, other = nn.Parameter(torch.zeros(40, 50, dtype=dtype)), nn.Parameter(torch.ones(3, 3))
    optimizer = torch.optim.SGD([weight, other], lr=0.1)
    AdaptiveNoise(optimizer, FIXED, mode="absolute", seed=0)
    weight.grad, other.grad = torch.zeros_like(weight), torch.zeros_like(other)
    optimizer.step()
    assert weight.dtype == dtype
    drawn = weight.detach().double().numpy()
    assert agreement(drawn.ravel() ** 2, 0.01)
    assert not agreement(drawn.ravel() ** 2, 0.013)
    assert np.unique(drawn).size > 500
