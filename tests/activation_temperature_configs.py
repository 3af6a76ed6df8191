"""A tiny experiment on activation-pattern temperatures."""

from typing import Any

from nnval.activation_temperature_study import (
    CoolingStudyConfig,
)
from nnval.engine.config import TrainingConfig

TRAINING = {"model": "mlp", "hidden": [12], "train_size": 100, "batch_size": 20, "members": 2}
TINY = {"schedules": ["step", "actcoolr"], "budgets": [5], "every": 4, "samples": 20, "swept": ["step"], "sweeps": 3}


def tiny(**changes: Any) -> CoolingStudyConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in vars(TrainingConfig())}
    return CoolingStudyConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})
