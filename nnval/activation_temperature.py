"""The activation-pattern temperature of real networks under schedules of the learning rate, and ActCooLR among them.

The same networks (initial weights, data, batches) are trained with each schedule and budget. In all of them T is
measured alike, every few steps on a small part of the batch that the step was made with; in some of them learning rates
are swept: what would the same step have done at other learning rates? At the end schedules are compared seed by seed by
their test errors. No epoch is chosen by them: the last one counts.

Files are those of nnval.paired_trainings, such as ``seeds/0003/10/one_cycle.json``: seed, budget and schedule. Seeds
and schedules can be added later: they are no part of ``config.json``.

Reference: [actcoolr2021] for temperatures, sweeps and ActCooLR
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnval.activation_temperature_schedules import Schedule
from nnval.activation_temperature_study import (
    SWEPT_RATES,
    CoolingStudy,
    CoolingStudyConfig,
    ScheduleRuns,
    StageSweeps,
    error_differences,
)
from nnval.activation_temperature_training import MEASURED, ScheduledTraining
from nnval.measure.pattern_counts import RateSweep
from nnval.paired_trainings import PairedTrainings, Progress, SharedSeed, Task, described, seeds_of, settled
from sim.batch_order import batches_per_epoch

ADDED_LATER = ("schedules", "epochs")
"""Fields of the config that a run's directory does not fix; budgets say how many epochs there are."""


def run_cooling_study(
    config: CoolingStudyConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 30.0,
    threads: int | None = 1,
) -> CoolingStudy:
    """Train with all schedules from all seeds, measure and compare; or go on with that, or read what is finished.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very experiment, maybe with other seeds or schedules.
        progress, checkpoint_seconds, threads: see ``PairedTrainings.records``.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data, networks or schedules that this can't be done with.
        RunDirectoryError, StorageError, Interrupted: see ``PairedTrainings.records``.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=2, members=2)
        >>> config = CoolingStudyConfig(training=training, schedules=["constant", "cosine"], every=2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_cooling_study(config, directory)
        >>> [each.schedule.label for each in result.runs], result.runs[0].test_accuracy.shape  # seeds, epochs
        (['constant', 'cosine'], (2, 2))
    """
    directory = Path(directory)
    training, data = settled(config.training, directory)
    batches = batches_per_epoch(len(data.train), training.batch_size)
    steps = config.budgets[0] * batches
    if steps < 2 * config.every:
        raise ValueError(
            f"the smallest budget of {config.budgets[0]} epochs has {steps} steps, fewer than two intervals of "
            f"every={config.every}: train longer, or measure more often"
        )
    for schedule, budget in config.settings:
        schedule.check(training.learning_rate, budget * batches, config.every)
    config = dataclasses.replace(config, training=training)
    seed_of = seeds_of(training)
    tasks = {
        (member, *setting): _task(config, seed_of, member, *setting, batches)
        for member in config.members
        for setting in config.settings
    }
    trainings = PairedTrainings(
        directory,
        described("activation-temperature", config.to_dict(), without=ADDED_LATER),
        list(tasks.values()),
        training,
        lambda record: "log" in record,
    )
    records = trainings.records(progress=progress, checkpoint_seconds=checkpoint_seconds, threads=threads)
    found = dict(zip(tasks, records, strict=True))
    runs = [
        _runs(*setting, batches, config.every, [found[member, *setting] for member in config.members])
        for setting in config.settings
    ]
    return CoolingStudy(
        config=config,
        directory=directory,
        parameters=records[0]["parameters"],
        classes=records[0]["classes"],
        layers=max(record["layers"] or 0 for record in records),
        runs=tuple(runs),
        differences=error_differences(runs),
    )


def _task(
    config: CoolingStudyConfig,
    seed_of: Callable[[int], SharedSeed],
    member: int,
    schedule: Schedule,
    budget: int,
    batches: int,
) -> Task:
    return Task(
        f"seeds/{member:04d}/{budget}/{schedule.file_name}",
        f"seed {member}, {schedule.label}, {budget}",
        budget,
        lambda: _SeededTraining(config, seed_of(member), schedule, budget, batches),
    )


class _SeededTraining:
    """A network at the beginning of its training with a schedule, on what its seed draws."""

    def __init__(
        self, config: CoolingStudyConfig, seed: SharedSeed, schedule: Schedule, budget: int, batches: int
    ) -> None:
        training, self._seed, self._budget = config.training, seed, budget
        self._training = ScheduledTraining(
            seed.network(),
            seed.data,
            schedule,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            nesterov=training.nesterov,
            weight_decay=training.weight_decay,
            epochs=budget,
            steps_per_epoch=batches,
            every=config.every,
            samples=config.samples,
            sweep_steps=config.sweep_steps(schedule, budget, budget * batches),
        )

    @property
    def epoch(self) -> int:
        return self._training.epoch

    @property
    def is_over(self) -> bool:
        return self.epoch >= self._budget or self._training.diverged

    def train_epoch(self) -> None:
        self._training.train_epoch(*self._seed.epoch(self.epoch + 1))

    def state_dict(self) -> dict[str, Any]:
        return self._training.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state)

    def record(self) -> dict[str, Any]:
        def number(value: float | None) -> float | None:
            return None if value is None or not np.isfinite(value) else value

        training = self._training
        return {
            "parameters": sum(each.numel() for each in training.module.parameters()),
            "classes": self._seed.data.classes,
            **training.summary(),
            "log": [[number(loss), accuracy] for loss, accuracy in training.epochs_log],
            "measured": [list(row) for row in training.measured],
            "swept": training.swept,
        }


def _runs(schedule: Schedule, budget: int, batches: int, every: int, records: list[dict[str, Any]]) -> ScheduleRuns:
    steps = np.arange(every // 2, budget * batches + 1, every)
    steps = steps[steps > 0]
    columns = np.full((len(records), len(steps), len(MEASURED)), np.nan)
    log = np.full((len(records), budget, 2), np.nan)
    sweeps = []
    for k, record in enumerate(records):
        if record["measured"]:
            rows = np.array(record["measured"], dtype=float)
            columns[k, np.searchsorted(steps, rows[:, 0])] = rows
        log[k, : len(record["log"])] = np.array(record["log"], dtype=float)
        log[k, len(record["log"]) :, 1] = 1 / record["classes"]
        if record["swept"]:
            sweeps.append(_stages(record["swept"]))
    numbers = {
        name: np.array([record[name] for record in records], dtype=float)
        for name in ("coldest", "share_at_cap", "sigma", "overhead")
    }
    return ScheduleRuns(
        schedule,
        budget,
        batches,
        log[:, :, 1],
        log[:, :, 0],
        steps,
        **{name: columns[:, :, place] for place, name in enumerate(MEASURED) if name != "step"},
        diverged=np.array([record["diverged"] for record in records]),
        sweeps=tuple(sweeps),
        **numbers,
    )


def _stages(records: list[dict[str, Any]]) -> StageSweeps:
    return StageSweeps(
        np.array([each["step"] for each in records]),
        np.array([each["used"] for each in records]),
        tuple(
            RateSweep(
                np.array(each["changed"]), np.array(each["patterns"]), np.array(each["finite"]), rates=SWEPT_RATES
            )
            for each in records
        ),
    )
