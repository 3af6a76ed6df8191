"""A small run that uses all that a state is made of, and its files."""

from pathlib import Path

from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble

# Blocks, members that complete, velocity, a schedule and perturbations that restart it: all that a state is made of.
CONFIG = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0.1, hidden=(8,), batch_size=10, epochs=7, members=5, stack_size=3,
    learning_rate=0.1, momentum=0.8, schedule="cosine", perturbation={"name": "full_reset"}, interval=3, target=0.5,
    snapshots=(0, 3, 5), execution="stacked",
)  # fmt: skip


def train(directory, **options):
    return train_ensemble(CONFIG, directory, **{"checkpoint_seconds": 0, **options})


def contents(directory):
    """All files but the record of the machine and the locks; names and bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file() and path.name not in ("environment.json", ".lock")
    }


def uninterrupted(directory):
    """Contents of the run, trained in one go."""
    result = train(directory)
    assert {"reached", "horizon"} == set(result.status)
    return contents(directory)
