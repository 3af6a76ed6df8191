"""A configuration that trains within moments, and loops that run it; for the tests of the engine."""

import csv
import dataclasses

import torch

from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.loop import TrainingLoop
from nnval.engine.models import build_model
from nnval.engine.stack import executions

SMALL = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0, hidden=(8,), batch_size=10, epochs=6, members=4,
    learning_rate=0.2, execution="stacked",
)  # fmt: skip
RESET = {"name": "full_reset"}


def small(**changes):
    return dataclasses.replace(SMALL, **changes)


def loop_of(config, perturbation=None):
    data = load_data(config)
    module = build_model(config, data.shape, data.classes)
    way = executions(module, config)[config.execution]
    return TrainingLoop(config, data, module, way, perturbation, torch.device("cpu"))


def run(loop, members, snapshot=lambda state: None):
    state = loop.initial_state(members)
    return list(loop.epochs(state, snapshot)), state


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
