"""A small network on the digits, and its mean loss written down anew."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.measure.full_loss import FullLoss

IMAGES = load_data(TrainingConfig()).train


def network(*hidden: nn.Module) -> nn.Sequential:
    module = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10), *(hidden or (nn.Tanh(),)), nn.Linear(10, 10)
    )
    initialise(module, "kaiming_fan_out", torch.Generator().manual_seed(0))
    return module


def naive_value(module: nn.Module, weights: torch.Tensor) -> torch.Tensor:
    """The mean loss, written down anew."""
    shapes = [parameter.shape for parameter in module.parameters()]
    pieces = weights.split([math.prod(shape) for shape in shapes])
    values = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
    x = F.avg_pool2d(IMAGES.pixels.double() if IMAGES.scale is None else IMAGES.all_inputs().double(), 2).flatten(1)
    logits = torch.tanh(x @ values[0].T + values[1]) @ values[2].T + values[3]
    return F.cross_entropy(logits, IMAGES.labels)


def trained_network() -> tuple[FullLoss, torch.Tensor, np.ndarray]:
    """A small network after some training, and its Hessian the naive way."""
    module = network()
    loss = FullLoss(module, IMAGES, IMAGES.labels)
    weights = loss.weights
    for _ in range(100):
        weights = weights - 0.5 * loss.gradient(weights)
    dense = torch.autograd.functional.hessian(lambda at: naive_value(module, at), weights)
    assert isinstance(dense, torch.Tensor)
    return loss, weights, dense.numpy()
