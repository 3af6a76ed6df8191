"""Does noise on the weights that follows the phase of the training help? An ablation of it, beside usual optimizers.

The same networks (initial weights, data, batches) are trained by each method: without noise, with fixed noise, with
noise that follows the phase, that decays, and both; by Adam, and by SGD with a falling learning rate. Each method has a
grid of learning rates of its own, equally many, and trains at the one that was best on other seeds, by its validation
accuracy; test images have no say in anything. As more noise and better noise are two things, each noisy method can be
there a second time with the same noise in all: epsilons are rescaled so that their time-averaged square is the same
along the phases of the baseline of that seed; what came of it is measured, since noise may move phases.

Files are those of nnval.paired_trainings: ``tuning/1000000/full/0.1.json`` (seed, method, learning rate) and
``seeds/0003/full.json``. Seeds, methods and the equal-noise control can be added later: they are no part of
``config.json``.

Reference: [satybaldiev2025] for the methods and what its tables measure
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnval.adaptive_noise_methods import BASELINE, EQUAL, FIXED, Method
from nnval.adaptive_noise_statistics import method_differences, pairs_of
from nnval.adaptive_noise_study import (
    QUANTITIES,
    MethodRuns,
    NoiseStudy,
    NoiseStudyConfig,
    RateChoice,
    quantity_values,
)
from nnval.adaptive_noise_training import NoisyTraining
from nnval.engine.models import build_model
from nnval.paired_trainings import PairedTrainings, Progress, SharedSeed, Task, described, seeds_of, settled
from sim.batch_order import batches_per_epoch
from theory.noise_schedule import NoiseSchedule, with_budget
from theory.training_phases import PHASES, phase_path

ADDED_LATER = ("methods", "equal_noise", "target_accuracy")
"""Fields of the config that a run's directory does not fix."""

Record = dict[str, Any]
Key = TypeVar("Key")


def run_noise_study(
    config: NoiseStudyConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 30.0,
    threads: int | None = 1,
) -> NoiseStudy:
    """Choose learning rates, train all methods from all seeds and compare; or go on with that, or read what is there.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very experiment, maybe with other seeds or methods.
        progress, checkpoint_seconds, threads: see ``PairedTrainings.records``.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data or networks that this can't be done with.
        RunDirectoryError, StorageError, Interrupted: see ``PairedTrainings.records``.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=3, members=2)
        >>> config = NoiseStudyConfig(training=training, methods=["baseline", "fixed"], last_epochs=3, rate_factors=[1])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_noise_study(config, directory)
        >>> [each.method.name for each in result.runs]
        ['baseline', 'fixed']
    """
    directory = Path(directory)
    training, data = settled(config.training, directory)
    build_model(training, data.shape, data.classes)  # complains before there is a directory
    config = dataclasses.replace(config, training=training)
    batches = batches_per_epoch(len(data.train), training.batch_size)
    study = _Trainings(config, directory, batches, checkpoint_seconds=checkpoint_seconds, threads=threads)
    study.train(progress)
    runs = [study.runs(method) for method in config.trained]
    by_name = {each.method.name: each for each in runs}
    equal_fixed = FIXED + EQUAL if FIXED + EQUAL in by_name else FIXED
    values = {
        quantity: lambda name, quantity=quantity: quantity_values(by_name[name], quantity, config)
        for quantity in QUANTITIES
    }
    pairs = pairs_of(list(by_name), config.same_as("sgd"), equal_fixed)
    return NoiseStudy(
        config=config,
        directory=directory,
        weights=study.reported[config.members[0], BASELINE]["weights"],
        runs=tuple(runs),
        differences=method_differences(values, pairs),
    )


class _Trainings:
    """All trainings of a study: first those that choose learning rates, then those that are reported.

    Methods with a budget come last in each, as they need the phases of the baseline.

    Args:
        config: settled.
        directory: of the run.
        batches: in an epoch.
        options: of ``PairedTrainings.records``, without progress.
    """

    def __init__(self, config: NoiseStudyConfig, directory: Path, batches: int, **options: Any) -> None:
        self._config, self._directory, self._batches, self._options = config, directory, batches, options
        self._seed_of = seeds_of(config.training)
        self._done = 0
        self.tuned: dict[tuple[int, str, float], Record] = {}
        self.reported: dict[tuple[int, str], Record] = {}

    def train(self, progress: Progress | None) -> None:
        """Train or read all of them.

        Args:
            progress: of all of them together.
        """
        for equal in (False, True):
            methods = [method for method in self._config.trained if method.equal == equal]
            self.tuned |= self._records(self._tuning(methods), progress)
            self.reported |= self._records(self._reporting(methods), progress)

    def _records(self, tasks: Mapping[Key, Task], progress: Progress | None) -> dict[Key, Record]:
        config = self._config
        each = len(config.tuning_members) * len(config.rate_factors) + len(config.members)
        total = each * len(config.trained) * config.training.epochs

        def tell(done: int, _: int, text: str) -> None:
            if progress is not None:
                progress(self._done + done, total, text)

        trainings = PairedTrainings(
            self._directory,
            described("adaptive-noise", config.to_dict(), without=ADDED_LATER),
            list(tasks.values()),
            config.training,
            lambda record: "log" in record and "best_epoch" in record,
        )
        found = dict(zip(tasks, trainings.records(progress=tell, **self._options), strict=True))
        self._done += len(tasks) * config.training.epochs
        return found

    def _tuning(self, methods: Sequence[Method]) -> dict[tuple[int, str, float], Task]:
        # Seeds in the outer loop: their data are loaded once.
        return {
            (member, method.name, rate): self._task(f"tuning/{member}/{method.name}/{rate:g}", member, method, rate)
            for member in self._config.tuning_members
            for method in methods
            for rate in self._config.rates(method)
        }

    def _reporting(self, methods: Sequence[Method]) -> dict[tuple[int, str], Task]:
        rates = {method.name: self.choice(method).rate for method in methods}
        return {
            (member, method.name): self._task(f"seeds/{member:04d}/{method.name}", member, method, rates[method.name])
            for member in self._config.members
            for method in methods
        }

    def _task(self, path: str, member: int, method: Method, rate: float) -> Task:
        noise = None if method.noise is None else self._config.noise.schedule(method.noise)
        if noise is not None and method.equal:
            noise = self._rescaled(noise, member)
        epochs = self._config.training.epochs
        what = f"seed {member}, {method.name}, learning rate {rate:g}"
        return Task(
            path, what, epochs, lambda: _SeededTraining(self._config, self._seed_of(member), method, rate, noise)
        )

    def _rescaled(self, noise: NoiseSchedule, member: int) -> NoiseSchedule:
        """With the budget along the phases of the baseline of that seed, at the learning rate of the baseline."""
        baseline = next(method for method in self._config.trained if method.name == BASELINE)
        rate = self.choice(baseline).rate
        found = self.reported.get((member, BASELINE)) or self.tuned[member, BASELINE, rate]
        steps = self._config.training.epochs * self._batches
        return with_budget(noise, phase_path(_changes(found), steps), self._config.mean_square)

    def choice(self, method: Method) -> RateChoice:
        """The learning rate of a method, once those that choose it are there."""
        rates, last = self._config.rates(method), self._config.last_epochs
        accuracies = [
            [np.mean(_log(self.tuned[member, method.name, rate], self._config)[-last:, 2]) for rate in rates]
            for member in self._config.tuning_members
        ]
        return RateChoice(rates, np.array(accuracies, dtype=float).reshape(-1, len(rates)).T)

    def runs(self, method: Method) -> MethodRuns:
        """What a method did, from all seeds."""
        records = [self.reported[member, method.name] for member in self._config.members]
        logs = np.array([_log(record, self._config) for record in records])
        noises = np.array([_noise_numbers(record["noise"]) for record in records])
        return MethodRuns(
            method=method,
            choice=self.choice(method),
            steps_per_epoch=self._batches,
            train_loss=logs[:, :, 0],
            validation_loss=logs[:, :, 1],
            validation_accuracy=logs[:, :, 2],
            seconds=logs[:, :, 3],
            test_accuracy=np.array([record["test_accuracy"] for record in records]),
            best_epoch=np.array([record["best_epoch"] for record in records]),
            best_test_accuracy=np.array([record["best_test_accuracy"] for record in records]),
            diverged=np.array([record["diverged"] for record in records]),
            phases=np.array([self._phases(record) for record in records]),
            changes=noises[:, 0],
            mean_square=noises[:, 1],
            noise_ratio=noises[:, 2],
            overhead=np.array([record["overhead"] for record in records], dtype=float),
        )

    def _phases(self, record: Record) -> np.ndarray:
        """Share of the steps of each epoch in each phase."""
        epochs, shares = self._config.training.epochs, np.full((self._config.training.epochs, len(PHASES)), np.nan)
        if record["noise"] is not None:
            steps = record["noise"]["steps"]
            whole = min(steps // self._batches, epochs)
            path = np.array(phase_path(_changes(record), steps)[: whole * self._batches]).reshape(whole, self._batches)
            shares[:whole] = (path[:, :, None] == np.array(PHASES)).mean(axis=1)
        return shares


def _changes(record: Record) -> list[tuple[int, str]]:
    return [(step, phase) for step, phase in record["noise"]["changes"]]


def _noise_numbers(noise: Record | None) -> tuple[float, float, float]:
    """Changes of the phase, mean of epsilon^2, and norm of the noise over that of the update."""
    if noise is None:
        return np.nan, np.nan, np.nan
    mean = noise["injected"] / noise["steps"] if noise["steps"] else np.nan
    return len(noise["changes"]), mean, np.nan if noise["ratio"] is None else noise["ratio"]


def _log(record: Record, config: NoiseStudyConfig) -> np.ndarray:
    """Training loss, validation loss and accuracy, and seconds, of all epochs; after divergence nan, that of guessing,
    and the seconds up to there.
    """
    log = np.full((config.training.epochs, 4), np.nan)
    log[:, 2], log[:, 3] = 1 / record["classes"], record["seconds"]
    known = np.array(record["log"], dtype=float).reshape(-1, 4)
    log[: len(known)] = known
    return log


class _SeededTraining:
    """A network at the beginning of its training by one method, on what its seed draws."""

    def __init__(
        self, config: NoiseStudyConfig, seed: SharedSeed, method: Method, rate: float, noise: NoiseSchedule | None
    ) -> None:
        self._seed, self._epochs = seed, config.training.epochs
        training = dataclasses.replace(config.training, learning_rate=rate, schedule=method.schedule)
        self._training = NoisyTraining(
            seed.network(), seed.data, method, training, noise, config.noise, seed.stream("weight_noise").seed_at(0)
        )

    @property
    def epoch(self) -> int:
        return self._training.epoch

    @property
    def is_over(self) -> bool:
        return self.epoch >= self._epochs or self._training.diverged

    def train_epoch(self) -> None:
        self._training.train_epoch(*self._seed.epoch(self.epoch + 1))

    def state_dict(self) -> dict[str, Any]:
        return self._training.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state)

    def record(self) -> Record:
        return self._training.record()
