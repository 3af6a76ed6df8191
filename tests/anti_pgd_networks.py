"""A small network and its steps, for the tests of Anti-PGD."""

import torch
from torch import nn

from nnval.drop_in.anti_pgd import AntiPGD
from tests.torch_helpers import generator_from


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int = 0) -> None:
    inputs = torch.randn(8, 5, generator=generator_from(100 + number))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), torch.arange(8) % 3).backward()
    optimizer.step()


def noise_of(noise: AntiPGD) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in noise.state_dict()["noise"]])
