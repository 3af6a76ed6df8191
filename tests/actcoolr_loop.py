"""A small network in a plain loop with ActCooLR, for its tests."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.actcoolr import ActCooLR
from tests.torch_helpers import generator_from


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        return nn.Sequential(*hidden, nn.Dropout(dropout), nn.Flatten(), nn.Linear(54, 24), nn.ReLU(), nn.Linear(24, 3))


def batch_of(number: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(size) % 3
    inputs = torch.randn(size, 1, 6, 6, generator=generator_from(1000 + number))
    inputs[:, 0, 0] += labels.float()[:, None]
    return inputs, labels


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)


class Loop:
    """A plain loop; ``rates`` are those with which each step was made."""

    def __init__(
        self, *, model: nn.Module | None = None, lr: float = 0.05, plain: bool = False, **options: Any
    ) -> None:
        self.model = model or network()
        self.optimizer = sgd(self.model, lr)
        options = {"total_steps": 60, "t_start": 0.5, "sigma": 1.2, "every": 5} | options
        self.scheduler = None if plain else ActCooLR(self.optimizer, self.model, **options)
        self.rates: list[float] = []
        self.number = 0

    def step(self) -> None:
        inputs, labels = batch_of(self.number)
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(inputs), labels).backward()
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.number += 1

    def run(self, steps: int) -> "Loop":
        for _ in range(steps):
            self.step()
        return self


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
