"""Networks beside each other on random images and on digits; for the tests of the engine's numerics."""

import functools

import numpy as np
import torch
from torch import nn

from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.images import Images
from nnval.engine.loop import InitialWeights, TrainingLoop
from nnval.engine.member_stack import MemberStack
from nnval.engine.models import build_model
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import Epoch, executions
from tests.torch_helpers import generator_from

CPU = torch.device("cpu")
SGD = Optimizer()
CONFIG = TrainingConfig(
    train_size=60, validation_size=50, hidden=(8,), batch_size=10, epochs=5, learning_rate=0.1, execution="loop"
)


def random_images():
    generator = generator_from(0)
    return Images(torch.randn(60, 1, 8, 8, generator=generator), torch.randint(0, 5, (60,), generator=generator))


def noisy():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))


def stack_of(module, members, optimizer=SGD):
    initial = InitialWeights(module, "torch_default", CPU)
    return MemberStack.of(members, [initial(member) for member in members], slots=optimizer.slots)


def epoch_of(members, steps=4, size=10, **options):
    rows = [np.random.default_rng(member).integers(60, size=(steps, size)) for member in members]
    return Epoch(torch.from_numpy(np.stack(rows)), [0.1] * steps, **options)


@functools.cache
def digits():
    """None of the configs here differ in their data."""
    return load_data(CONFIG)


def loop_of(config, module=None, members=(0, 1, 2)):
    data = digits()
    module = build_model(config, data.shape, data.classes) if module is None else module
    way = executions(module, config)["stacked" if config.execution == "stacked" else "loop"]
    loop = TrainingLoop(config, data, module, way, None, CPU)
    return loop, loop.initial_state(list(members))
