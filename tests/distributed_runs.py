"""An ensemble that trains within seconds, in parts or as a whole, and workers for it; for the tests of distribution."""

import contextlib
import dataclasses
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

from nnval.engine import ensemble
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble

CONFIG = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0, hidden=(8,), batch_size=10, epochs=40, members=6, stack_size=1,
    learning_rate=0.1, momentum=0.5, target=0.75, execution="stacked",
)  # fmt: skip
MERGED = ("curves.csv", "members.csv", "done.json")


def part(first, members, **changes):
    return dataclasses.replace(CONFIG, first_member=first, members=members, **changes)


def train(directory, config=CONFIG, **options):
    return train_ensemble(config, directory, **{"checkpoint_seconds": 0, **options})


def merged(directory):
    return {name: (directory / name).read_bytes() for name in MERGED}


class Threads:
    """Workers that are threads of this process, some of which are lost."""

    size = slots = 2

    def __init__(self, losses=()):
        self._executor = ThreadPoolExecutor(2)
        self._losses = list(losses)
        self.renewed = 0

    def submit(self, function, *arguments):
        if self._losses and self._losses.pop(0):
            lost = Future()
            lost.set_exception(BrokenExecutor("exit code -9"))
            return lost
        return self._executor.submit(function, *arguments)

    def renew(self, error):
        self.renewed += 1

    def close(self):
        self._executor.shutdown()


def train_by(monkeypatch, pool):
    """Makes ``train_ensemble`` use these workers."""
    monkeypatch.setattr(ensemble, "connect", lambda *_: contextlib.closing(pool))
    return pool
