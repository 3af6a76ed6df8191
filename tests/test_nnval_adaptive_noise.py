"""Adaptive noise as a drop-in: how much of it, in which phase, on what, and that it leaves nothing else behind."""

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnval.drop_in.adaptive_noise import AdaptiveNoise
from theory.adaptive_noise import MODES, injected_variances, noise_deviation
from theory.estimate import agreement
from theory.heavy_ball import HeavyBall
from theory.noise_schedule import NoiseSchedule, injected, scales, with_budget
from theory.training_phases import PhaseMachine, PhaseThresholds, smoothness

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
}
FIXED = NoiseSchedule("fixed", (0.3, 0.1, 0.03))


def quick(**options: Any) -> PhaseMachine:
    return PhaseMachine(horizon=2, min_dwell=2, **options)


def generator_from(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def backward(model: nn.Module, number: int = 0, factor: float = 1.0) -> torch.Tensor:
    inputs = torch.randn(8, 5, generator=generator_from(100 + number))
    loss = factor * nn.functional.cross_entropy(model(inputs), torch.arange(8) % 3)
    loss.backward()
    return loss


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int = 0) -> None:
    optimizer.zero_grad()
    backward(model, number)
    optimizer.step()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def generator_state(noise: AdaptiveNoise) -> torch.Tensor:
    return noise.state_dict()["generator"]


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


# ---- Loops of all kinds ----------------------------------------------------------------------------------------------


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
    assert agreement(weight.detach().double().numpy().ravel() ** 2, 0.01)
    assert np.unique(weight.detach().double().numpy()).size > 500


# ---- State -----------------------------------------------------------------------------------------------------------


def through_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", ["nesterov", "adam"])
@pytest.mark.parametrize(("mode", "metric", "every"), [
    ("absolute", "gradient_variance", 1),
    ("relative_update", "gradient_variance", 3),
    ("relative_update", "gradient_norm", 1),
    ("relative_weight", "gradient_norm", 3),
    ("relative_weight", "gradient_variance", 1),
    ("sgld", "gradient_variance", 1),
])  # fmt: skip
def test_resumption_is_exact(name: str, mode: str, metric: str, every: int) -> None:
    schedule = NoiseSchedule("full", (3e-2, 1e-2, 3e-3), decay=0.05)

    def attached(model: nn.Module, seed: int) -> tuple[torch.optim.Optimizer, AdaptiveNoise]:
        optimizer = OPTIMIZERS[name](model.parameters())
        options = {"mode": mode, "metric": metric, "every": every, "machine": quick(), "horizon": 3}
        return optimizer, AdaptiveNoise(optimizer, schedule, seed=seed, **options)

    model = network()
    optimizer, noise = attached(model, 0)
    for number in range(8):
        step(model, optimizer, number)
        noise.report(1.0 / (1 + number**2))
    saved = through_file([model.state_dict(), optimizer.state_dict(), noise.state_dict()])
    other = network(1)
    other_optimizer, other_noise = attached(other, 1)
    step(other, other_optimizer)
    for target, state in ((other_noise, saved[2]), (other, saved[0]), (other_optimizer, saved[1])):
        target.load_state_dict(state)
    assert other_noise.metrics == noise.metrics
    for number in range(8, 20):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
        noise.report(1.0)
        other_noise.report(1.0)
        assert other_noise.metrics == noise.metrics
    assert torch.equal(weights(model), weights(other))
    assert other_noise.phase_path == noise.phase_path
    assert torch.equal(generator_state(other_noise), generator_state(noise))
    assert (other_noise.steps, other_noise.injected) == (20, noise.injected)


def test_states_of_others_are_refused_and_change_nothing() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AdaptiveNoise(optimizer, FIXED, seed=0)
    step(model, optimizer)
    state = noise.state_dict()

    def refused(match: str, parameters: Any = None, *args: Any, **options: Any) -> None:
        mine = network(1)
        optimizer = torch.optim.SGD(mine.parameters() if parameters is None else parameters, lr=0.1)
        other = AdaptiveNoise(optimizer, *(args or (FIXED,)), **({"seed": 1} | options))
        before = other.state_dict()
        with pytest.raises(ValueError, match=match):
            other.load_state_dict(state)
        assert torch.equal(other.state_dict()["generator"], before["generator"])
        assert other.state_dict()["machine"] == before["machine"]
        assert other.state_dict()["tracker"] == before["tracker"]
        assert other.steps == 0

    refused("the state has mode='relative_update', this one 'sgld': make one alike", mode="sgld")
    refused("the state has every=1, this one 2", every=2)
    refused("the state has schedule=.*'kind': 'fixed'.*, this one .*'kind': 'full'", None, NoiseSchedule())
    refused("the state has machine=.*'min_dwell': 50.*, this one .*'min_dwell': 2", machine=quick())
    refused("the state has thresholds=", machine=PhaseMachine(PhaseThresholds(variance_low=0.2)))
    refused("the state is of 6 parameters, which are not the 1 of", [nn.Parameter(torch.ones(2, 2))])
    del state["machine"]["steps"]
    refused("state lacks steps: it is not that of a PhaseMachine")


def test_copies_are_refused_and_those_of_the_optimizer_are_free_of_noise() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    noise = AdaptiveNoise(optimizer, FIXED, mode="absolute", seed=0)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled: it is tied to its optimizer by hooks"):
            attempt(noise)
    twin, twins = copy.deepcopy((model, optimizer))
    pickle.loads(pickle.dumps(optimizer))
    before = weights(twin)
    step(twin, twins)
    assert torch.equal(weights(twin), before)
    AdaptiveNoise(twins, FIXED, mode="absolute", seed=0)
    step(twin, twins)
    assert not torch.equal(weights(twin), before)


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
