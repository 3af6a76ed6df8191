"""A small network and its steps, for the tests of adaptive noise."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.torch_helpers import generator_from
from theory.noise_schedule import NoiseSchedule
from theory.training_phases import PhaseMachine

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
}
FIXED = NoiseSchedule("fixed", (0.3, 0.1, 0.03))


def quick(**options: Any) -> PhaseMachine:
    return PhaseMachine(horizon=2, min_dwell=2, **options)


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
