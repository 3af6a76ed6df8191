"""The state of adaptive noise: exact resumption, states of others, copies."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from nnval.drop_in.adaptive_noise import AdaptiveNoise
from tests.noisy_networks import FIXED, OPTIMIZERS, network, quick, step
from tests.torch_helpers import generator_state, through_file, weights
from theory.noise_schedule import NoiseSchedule
from theory.training_phases import PhaseMachine, PhaseThresholds


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
