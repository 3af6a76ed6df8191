"""What many tests of networks need: seeded generators, weights in a row, states that went through a file."""

import io
from typing import Any

import torch
from torch import nn


def generator_from(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def generator_state(noise: Any) -> torch.Tensor:
    """Of a drop-in that draws noise."""
    return noise.state_dict()["generator"]


def through_file(state: Any) -> Any:
    """The state as torch.load gives it back when it runs no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
