"""Small networks to perturb, trained and compared; shared by the tests of perturbations."""

import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.drop_in.perturbations import (
    FullReset,
    GaussianNoise,
    PartialReset,
    ShrinkPerturb,
    WarmRestart,
)
from tests.torch_helpers import generator_from


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def lenet() -> nn.Module:
    """Like LeNet, with batch norm: convolutions without and with bias, counters and running statistics."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def initialised(build, seed: int) -> nn.Module:
    model = build()
    initialise(model, "torch_default", generator_from(seed))
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    generator = generator_from(7)
    shape = (8, 1, 16, 16) if isinstance(model[0], nn.Conv2d) else (8, 64)
    inputs, labels = torch.randn(shape, generator=generator), torch.arange(8)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def trained_lenet(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = initialised(lenet, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, optimizer, 5)
    return model, optimizer


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def never():
    raise AssertionError("a fresh network was built without need")


ALL = [ShrinkPerturb(), PartialReset(), FullReset(), WarmRestart(), GaussianNoise(0.1)]
