"""A tiny study of noises and optimizers."""

from typing import Any

from nnval.adaptive_noise_study import NoiseStudyConfig
from nnval.engine.config import TrainingConfig

TRAINING = {
    "train_size": 100,
    "validation_size": 100,
    "model": "mlp",
    "hidden": [8],
    "learning_rate": 0.05,
    "batch_size": 20,
    "epochs": 5,
    "members": 2,
}
TINY: dict[str, Any] = {
    "methods": ["baseline", "fixed", "schedule_only", "full", "adam"],
    "equal_noise": True,
    "rate_factors": [0.5, 1.0],
    "tuning_seeds": 1,
    "target_accuracy": 0.5,
    "last_epochs": 3,
    "noise": {"min_dwell": 3, "horizon": 3, "decay": 0.05},
}


def tiny(**changes: Any) -> NoiseStudyConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in vars(TrainingConfig())}
    return NoiseStudyConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})
