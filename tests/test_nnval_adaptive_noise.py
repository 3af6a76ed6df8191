"""Adaptive noise as a drop-in: how much of it, in which phase, on what, and that nothing else is touched."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnval.drop_in.adaptive_noise import AdaptiveNoise
from tests.noisy_networks import FIXED, OPTIMIZERS, backward, network, quick, step
from tests.torch_helpers import generator_from, weights
from theory.adaptive_noise import MODES, injected_variances, noise_deviation
from theory.estimate import agreement
from theory.heavy_ball import HeavyBall
from theory.noise_schedule import NoiseSchedule, injected, scales, with_budget
from theory.training_phases import PhaseMachine, smoothness

# ---- How much noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_size_of_the_noise_in_each_mode(mode: str, seed: int) -> None:
    """Against what theory says an epsilon is; all other modes are the negative controls."""
    large, small = (nn.Parameter(torch.full(shape, size)) for shape, size in (((40, 50), 2.0), ((20, 30), 0.5)))
    groups = [{"params": [large], "lr": 0.5}, {"params": [small], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    noise = AdaptiveNoise(optimizer, FIXED, mode=mode, generator=generator_from(seed))
    large.grad, small.grad = torch.full((40, 50), 0.3), torch.full((20, 30), -0.4)
    update = math.sqrt(2000 * 0.15**2 + 600 * 0.04**2)
    optimizer.step()
    for weight, after, rate in ((large, 1.85, 0.5), (small, 0.54, 0.1)):
        squares = (weight.detach().double() - after).numpy().ravel() ** 2
        for other in MODES:
            given = {"learning_rate": rate, "update_norm": update, "weights": 2600, "weight_rms": after}
            predicted = noise_deviation(other, 0.1, **given)
            assert bool(agreement(squares, predicted**2)) == (other == mode)
    assert noise.metrics["noise/update_size"] == pytest.approx(update, rel=1e-6)


def test_the_weights_of_all_steps_walk_by_what_was_injected(seed: int) -> None:
    """Without gradients: the variance of a weight is the sum of epsilon^2 along the recorded path of phases."""
    schedule = NoiseSchedule("full", (0.5, 0.2, 0.1), decay=0.05)
    weight = nn.Parameter(torch.zeros(20, 50))
    optimizer = torch.optim.SGD([weight], lr=1e-30)
    noise = AdaptiveNoise(optimizer, schedule, mode="absolute", machine=quick(), generator=generator_from(seed))
    for number in range(40):
        weight.grad = torch.randn(20, 50, generator=generator_from(number)) * math.exp(-0.2 * number)
        optimizer.step()
    assert set(noise.phase_path) == {"exploration", "convergence", "fine_tuning"}
    assert noise.injected == pytest.approx(injected(schedule, noise.phase_path), rel=1e-12)
    assert noise.scale == pytest.approx(scales(schedule, noise.phase_path)[-1], rel=1e-12)
    squares = weight.detach().double().numpy().ravel() ** 2
    assert agreement(squares, noise.injected)
    assert not agreement(squares, injected(NoiseSchedule("phase_only", schedule.epsilon), noise.phase_path))


def test_the_control_with_equal_noise_reaches_its_budget(seed: int) -> None:
    def trained(schedule: NoiseSchedule) -> AdaptiveNoise:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        noise = AdaptiveNoise(optimizer, schedule, mode="absolute", machine=quick(), seed=seed)
        for number in range(30):
            step(model, optimizer, number)
        return noise

    full = trained(NoiseSchedule("full", (1e-2, 5e-3, 1e-3), decay=0.02))
    budget = full.injected / full.steps
    assert full.metrics["noise/mean_square_epsilon"] == budget
    for kind in ("fixed", "schedule_only"):
        control = with_budget(NoiseSchedule(kind, (0.3, 0.1, 0.03), decay=0.05), full.phase_path, budget)
        found = trained(control)
        assert found.injected / found.steps == pytest.approx(budget, rel=1e-12)
        assert found.scale != full.scale


def test_stationary_variance_under_momentum(seed: int) -> None:
    """The noise stays out of the momentum: as predicted, and not by far what noise in the velocity would leave."""
    modes, count = HeavyBall(learning_rate=0.1, curvature=0.5, momentum=0.6), 3000
    weight = nn.Parameter(torch.zeros(60, 50, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.6)
    AdaptiveNoise(optimizer, FIXED, mode="absolute", seed=seed)
    for _ in range(200):
        weight.grad = 0.5 * weight.detach()
        optimizer.step()
    squares = weight.detach().numpy().ravel() ** 2
    predicted = float(injected_variances(modes, 0.1).weight)
    assert len(squares) == count
    assert agreement(squares, predicted)
    assert not agreement(squares, predicted / (1 - 0.6) ** 2)


@pytest.mark.parametrize("include_norm", [False, True])
def test_which_parameters_get_noise(include_norm: bool) -> None:
    model = network()
    unused, frozen = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3), requires_grad=False)
    optimizer = torch.optim.SGD([*model.parameters(), unused, frozen], lr=0.0)
    AdaptiveNoise(optimizer, FIXED, mode="absolute", include_norm=include_norm, seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model, optimizer)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == (set(before) if include_norm else {"0.weight", "3.weight"})
    assert torch.equal(unused, torch.ones(3, 3))
    assert torch.equal(frozen, torch.ones(3, 3))
    # Frozen later, as when layers are thawed one by one, and back again.
    model[0].requires_grad_(False)
    before = weights(model[0])
    step(model, optimizer, 1)
    assert torch.equal(weights(model[0]), before)
    model[0].requires_grad_(True)
    step(model, optimizer, 2)
    assert not torch.equal(weights(model[0]), before)


def test_groups_added_later_take_part() -> None:
    first, second = nn.Parameter(torch.zeros(20, 20)), nn.Parameter(torch.zeros(20, 20))
    optimizer = torch.optim.SGD([first], lr=0.0)
    noise = AdaptiveNoise(optimizer, FIXED, mode="absolute", seed=0)
    first.grad = second.grad = torch.ones(20, 20)
    optimizer.step()
    optimizer.add_param_group({"params": [second]})
    optimizer.step()
    assert float(second.detach().std()) == pytest.approx(0.1, rel=0.2)
    assert noise.steps == 2


# ---- Phases ----------------------------------------------------------------------------------------------------------


def test_updates_are_measured_before_the_noise() -> None:
    """The negative control: by updates with the noise in them, another machine never sees training slow down."""
    weight = nn.Parameter(torch.zeros(30, 30))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = NoiseSchedule("fixed", (0.1, 0.5, 0.1))
    noise = AdaptiveNoise(optimizer, schedule, mode="absolute", machine=quick(), seed=0)
    deceived = quick()
    for number in range(40):
        weight.grad = torch.randn(30, 30, generator=generator_from(number)) * math.exp(-0.2 * number)
        before = weight.detach().clone()
        optimizer.step()
        assert noise.metrics["noise/update_size"] == pytest.approx(float(weight.grad.norm()), rel=1e-4, abs=1e-4)
        deceived.update(noise.metrics["noise/gradient_variance"], float((weight.detach() - before).norm()))
    assert noise.phase == "fine_tuning"
    assert noise.metrics["noise/phase"] == 2.0
    assert deceived.phase == "convergence"


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("metric", ["gradient_variance", "gradient_norm"])
def test_the_path_of_phases_and_its_counts(metric: str, every: int) -> None:
    weight = nn.Parameter(torch.zeros(10, 10))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule, machine, seen = NoiseSchedule("full", (0.3, 0.1, 0.03), decay=0.1), quick(), []
    noise = AdaptiveNoise(optimizer, schedule, machine=machine, metric=metric, horizon=3, every=every, seed=0)
    assert noise.metrics == {}
    for number in range(60):
        size = math.exp(-0.2 * number) * (1 + number % 2)
        weight.grad = torch.randn(10, 10, generator=generator_from(number)) * size
        optimizer.step()
        seen.append((noise.phase, noise.scale))
    assert [phase for phase, _ in seen] == noise.phase_path
    assert [epsilon for _, epsilon in seen] == pytest.approx(scales(schedule, noise.phase_path), rel=1e-12)
    assert noise.phase_counts == {name: noise.phase_path.count(name) for name in noise.phase_counts}
    assert sum(noise.phase_counts.values()) == noise.steps == 60
    assert machine.steps == 60 / every
    assert len(noise.changes) >= 2
    assert all((number - 1) % every == 0 for number, _ in noise.changes)


def test_numbers_for_a_log() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AdaptiveNoise(optimizer, horizon=2, seed=0)
    losses = []
    for number in range(8):
        optimizer.zero_grad()
        loss = backward(model, number)
        optimizer.step()
        noise.report(loss)
        losses.append(loss.item())
        assert ("noise/loss_smoothness" in noise.metrics) == (number >= 5)
    assert all(type(value) is float for value in noise.metrics.values())
    assert noise.metrics["noise/loss_smoothness"] == smoothness(losses, 2)
    assert noise.metrics["noise/epsilon"] == noise.scale == 0.3
    noise.report(math.nan)
    assert "noise/loss_smoothness" not in noise.metrics
    assert "noise/gradient_norm_variance" not in noise.metrics


# ---- Nothing else is touched -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_noise_training_is_bit_by_bit_as_it_was(name: str) -> None:
    def trained(schedule: NoiseSchedule | None) -> torch.Tensor:
        model, drawn = network(), generator_from(0)
        optimizer = OPTIMIZERS[name](model.parameters())
        if schedule is not None:
            AdaptiveNoise(optimizer, schedule, mode="relative_weight", generator=drawn)
        before = torch.get_rng_state()
        for number in range(6):
            step(model, optimizer, number)
        assert torch.equal(drawn.get_state(), generator_from(0).get_state()) == (schedule is not FIXED)
        assert torch.equal(torch.get_rng_state(), before)
        return weights(model)

    plain = trained(None)
    assert torch.equal(trained(NoiseSchedule("none")), plain)
    assert not torch.equal(trained(FIXED), plain)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_removal_leaves_training_as_any_other(name: str, mode: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    noise = AdaptiveNoise(optimizer, FIXED, mode=mode, seed=0)
    shared = torch.get_rng_state()
    for number in range(4):
        step(model, optimizer, number)
    assert torch.equal(torch.get_rng_state(), shared)
    twin = copy.deepcopy(model)
    plain = OPTIMIZERS[name](twin.parameters())
    plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = weights(model)
    noise.remove()
    noise.remove()
    assert torch.equal(weights(model), before)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert set(optimizer.state_dict()["param_groups"][0]) == set(plain.state_dict()["param_groups"][0])
    for number in range(4, 8):
        step(model, optimizer, number)
        step(twin, plain, number)
    assert torch.equal(weights(model), weights(twin))
    assert noise.steps == 4
    AdaptiveNoise(optimizer, seed=0)  # another one may follow


class CountedWaits(TorchFunctionMode):
    """Counts what makes the host wait for a GPU."""

    def __init__(self) -> None:
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = ("tolist", "item", "__bool__", "__float__", "__int__", "numpy", "nonzero")
        self.count += getattr(func, "__name__", "") in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", MODES)
def test_one_wait_for_the_device_at_a_measured_step(mode: str) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    AdaptiveNoise(optimizer, mode=mode, every=3, seed=0)
    counts = []
    for number in range(4):
        optimizer.zero_grad()
        backward(model, number)
        with CountedWaits() as waits:
            optimizer.step()
        counts.append(waits.count)
    assert counts == [1, 0, 0, 1]


# ---- What cannot work ------------------------------------------------------------------------------------------------


class RateFree(torch.optim.Optimizer):
    """Has no learning rate."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


def test_what_cannot_work_is_refused_with_the_reason() -> None:
    def refused(match: str, *, of: Any = None, **options: Any) -> None:
        optimizer: Any = torch.optim.SGD(network().parameters(), lr=0.1) if of is None else of
        hooks = dict(getattr(optimizer, "_optimizer_step_post_hooks", {}))
        with pytest.raises(ValueError, match=match):
            AdaptiveNoise(optimizer, **{"seed": 0, **options})
        assert dict(getattr(optimizer, "_optimizer_step_post_hooks", {})) == hooks

    refused("mode='relative' must be one of absolute, relative_update, relative_weight, sgld", mode="relative")
    refused("metric='loss' must be one of gradient_variance, gradient_norm", metric="loss")
    refused("horizon=1 must be a whole number >= 2", horizon=1)
    refused("every=0 must be a whole number >= 1", every=0)
    refused("every=1.5 must be a whole number >= 1", every=1.5)
    refused("seed=-1 must be a whole number >= 0", seed=-1)
    refused("seed='' must be a whole number >= 0", seed="")
    refused("seed=18446744073709551616 must be below 2.64", seed=2**64)
    refused("give exactly one of generator and seed", seed=None)
    refused("generator=Generator must be a torch.Generator", generator=np.random.default_rng(0), seed=None)
    refused("give exactly one of generator and seed", generator=generator_from(0))
    refused("schedule must be a theory.noise_schedule.NoiseSchedule", schedule="full")
    used = PhaseMachine()
    used.update(1.0, 1.0)
    refused("machine has seen 1 steps of another training: give a new one", machine=used)
    refused("optimizer=Sequential must be a torch.optim.Optimizer", of=network())
    refused("mode='sgld' takes its unit from the learning rate, but RateFree has none", mode="sgld",
            of=RateFree(network().parameters()))  # fmt: skip
    flat = [nn.Parameter(torch.ones(5))]
    refused("no parameter of two or more dimensions.*include_norm=True", of=torch.optim.SGD(flat, lr=0.1))
    turning = [nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))]
    refused("parameters of type torch.complex64 cannot get noise", of=torch.optim.SGD(turning, lr=0.1))
    spread = nn.Parameter(torch.ones(2, 2))
    spread.device_mesh = "of torch.distributed.tensor"  # pyright: ignore[reportAttributeAccessIssue]
    refused("spread over processes .DTensor, FSDP. cannot be measured", of=torch.optim.SGD([spread], lr=0.1))
    taken = torch.optim.SGD(network().parameters(), lr=0.1)
    AdaptiveNoise(taken, seed=0)
    refused("has an AdaptiveNoise already, whose noise would be taken for updates", of=taken)
    AdaptiveNoise(torch.optim.SGD(flat, lr=0.1), include_norm=True, seed=0)
    AdaptiveNoise(RateFree(network().parameters()), mode="absolute", seed=0)
