"""The activation-pattern temperature of real networks under schedules of the learning rate, and ActCooLR among them.

The same networks (initial weights, data, batches) are trained with each schedule and budget. In all of them T is
measured alike, every few steps on a small part of the batch that the step was made with; in some of them learning rates
are swept: what would the same step have done at other learning rates? At the end schedules are compared seed by seed by
their test errors. No epoch is chosen by them: the last one counts.

    RUN/config.json, environment.json   see nnval.engine.run_directory; no done.json: a run is complete when all are
        seeds/0003/10/one_cycle.json    seed, budget and schedule: written when that training is over
        seeds/0003/10/one_cycle.pt      its checkpoint before that

Seeds and schedules can be added later: they are no part of ``config.json``.

Reference: [actcoolr2021] for temperatures, sweeps and ActCooLR
"""

import copy
import dataclasses
import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from nnval.engine import run_directory as disk
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import load_data
from nnval.engine.device import deterministic_algorithms, environment, resolve_device, thread_count
from nnval.engine.images import AUGMENTATIONS
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.stopping import Stop, stop_on_interrupt
from nnval.measure.pattern_counts import RateSweep
from sim.batch_order import batches_per_epoch, reshuffled
from sim.random_streams import CountedStream

Progress = Callable[[int, int, str], None]

SEEDS = "seeds"

ADDED_LATER = ("schedules",)
"""Fields of the config that a run's directory does not fix."""


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
        progress: called with completed and all trainings' epochs, and a text. It may raise Interrupted.
        checkpoint_seconds: at least so far apart are checkpoints within a training; 0 saves after each epoch. It does
            not affect the result.
        threads: of torch; None leaves torch's setting.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data, networks or schedules that this can't be done with.
        RunDirectoryError: (a ValueError) if the directory holds something else, or is in use.
        StorageError: (an OSError) if a file cannot be written; the run can be resumed.
        Interrupted: after Ctrl-C, when the epoch was completed and saved; the run can be resumed.
    """
    experiment = _Experiment(config, Path(directory), progress, checkpoint_seconds)
    if disk.check_run(experiment.directory, experiment.description) and experiment.complete:
        return experiment.result()
    with (
        thread_count(threads),
        stop_on_interrupt() as stop,
        disk.opened(experiment.directory, experiment.description, environment(experiment.device)),
        deterministic_algorithms(config.training.deterministic, experiment.device),
    ):
        try:
            experiment.run(stop)
        except KeyboardInterrupt:
            raise disk.Interrupted(
                "stopped at once; run the same command again to go on from the last checkpoint"
            ) from None
    return experiment.result()


class _Experiment:
    """One run directory and what belongs into it."""

    def __init__(
        self, config: CoolingStudyConfig, directory: Path, progress: Progress | None, checkpoint_seconds: float
    ) -> None:
        if not checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds={checkpoint_seconds} must be >= 0; 0 saves after each epoch")
        training, self.device, self._batches = _settled(config.training, directory)
        steps = config.budgets[0] * self._batches
        if steps < 2 * config.every:
            raise ValueError(
                f"the smallest budget of {config.budgets[0]} epochs has {steps} steps, fewer than two intervals of "
                f"every={config.every}: train longer, or measure more often"
            )
        self.config = dataclasses.replace(config, training=training)
        self.directory = directory
        self._progress, self._checkpoint_seconds = progress, checkpoint_seconds
        plain = {name: value for name, value in self.config.to_dict().items() if name not in ADDED_LATER}
        fields = {name: value for name, value in plain.pop("training").items() if name not in disk.OF_MEMBERS}
        fields.pop("epochs")  # budgets say it
        described = {"experiment": "activation-temperature", **fields, **plain}
        affecting = {name: value for name, value in described.items() if name not in disk.WITHOUT_EFFECT}
        self.description = {
            "schema": disk.SCHEMA,
            "fingerprint": fingerprint_of(affecting),
            "config": described,
            "branch": None,
        }

    def path(self, member: int, schedule: Schedule, budget: int, ending: str = "json") -> Path:
        return self.directory / SEEDS / f"{member:04d}" / str(budget) / f"{schedule.file_name}.{ending}"

    @property
    def complete(self) -> bool:
        return all(self.path(m, *setting).exists() for m in self.config.members for setting in self.config.settings)

    def run(self, stop: Stop) -> None:
        done = 0
        # The cheap budgets of all seeds first: something can be seen early.
        for member in self.config.members:
            missing = [setting for setting in self.config.settings if not self.path(member, *setting).exists()]
            done += sum(budget for setting in self.config.settings if setting not in missing for budget in setting[1:])
            seed = _Seed(self.config, member, self.device) if missing else None
            for schedule, budget in missing:
                assert seed is not None
                disk.make_directory(self.path(member, schedule, budget).parent)
                self._train(seed, schedule, budget, done, stop)
                done += budget

    def _train(self, seed: "_Seed", schedule: Schedule, budget: int, done: int, stop: Stop) -> None:
        total = len(self.config.members) * sum(budget for _, budget in self.config.settings)
        checkpoint = self.path(seed.member, schedule, budget, "pt")
        training = seed.training(schedule, budget, self._batches)
        if checkpoint.exists():
            training.load_state_dict(_read(checkpoint))

        def save() -> None:
            content = io.BytesIO()
            torch.save(training.state_dict(), content)
            disk.write_whole(checkpoint, content.getvalue())

        due = time.monotonic() + self._checkpoint_seconds
        while training.epoch < budget and not training.diverged:
            training.train_epoch(*seed.epoch(training.epoch + 1))
            try:
                if self._progress is not None:
                    self._progress(done + training.epoch, total, f"seed {seed.member}, {schedule.label}, {budget}")
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.request()
            if stop.requested:
                save()
                raise disk.Interrupted(
                    f"stopped after epoch {training.epoch} of {schedule.label}, seed {seed.member}; run the same "
                    "command again to go on"
                )
            if time.monotonic() >= due:
                save()
                due = time.monotonic() + self._checkpoint_seconds
        disk.write_json(self.path(seed.member, schedule, budget), seed.record(training))
        disk.remove(checkpoint)

    def result(self) -> CoolingStudy:
        """What the files say."""
        runs, found, layers = [], {}, 0
        for schedule, budget in self.config.settings:
            records = []
            for member in self.config.members:
                path = self.path(member, schedule, budget)
                found = disk.read_json(path)
                if not isinstance(found, dict) or "log" not in found:
                    raise disk.RunDirectoryError(f"{path} is damaged: remove it to train that network again")
                records.append(found)
                layers = layers or found["layers"] or 0
            runs.append(_runs(schedule, budget, self._batches, self.config.every, records))
        return CoolingStudy(
            config=self.config,
            directory=self.directory,
            parameters=found["parameters"],
            classes=found["classes"],
            layers=layers,
            runs=tuple(runs),
            differences=error_differences(runs),
        )


def _settled(training: TrainingConfig, directory: Path) -> tuple[TrainingConfig, torch.device, int]:
    """The training with device and check sum of the data filled in, the device, and the batches in an epoch."""
    name = training.device
    if name == "auto" and (directory / disk.CONFIG).is_file():  # another device would round otherwise
        name = disk.read_description(directory)["config"].get("device", name)
    device = resolve_device(name)
    data = load_data(training)
    batches = batches_per_epoch(len(data.train), training.batch_size)
    return dataclasses.replace(training, device=str(device), data_sha256=data.sha256), device, batches


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(checkpoint.read_bytes()), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise disk.RunDirectoryError(
            f"cannot read {checkpoint}: {error}; remove it to train that network anew"
        ) from error


class _Seed:
    """Initial weights, data and batches that all schedules share."""

    def __init__(self, config: CoolingStudyConfig, member: int, device: torch.device) -> None:
        self._config, self.member, self._device = config, member, device
        training = config.training
        data = load_data(dataclasses.replace(training, data_seed=training.data_seed + member))
        self._data = data.to(device)
        self._module = build_model(training, data.shape, data.classes)
        self._streams = {
            purpose: CountedStream(training.seed, f"{training.stream}/{purpose}", member)
            for purpose in ("initialisation", "batch_order", "augmentation", "network_noise")
        }

    def training(self, schedule: Schedule, budget: int, batches: int) -> ScheduledTraining:
        """A network at the beginning of its training."""
        training = self._config.training
        draw = self._streams["initialisation"].seed_at(0)
        parameters, buffers = InitialWeights(self._module, training.initialisation, self._device)(draw)
        module = copy.deepcopy(self._module).to(self._device)
        module.load_state_dict({**parameters, **buffers})
        if training.channels_last:
            module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- missing in the stubs
        return ScheduledTraining(
            module,
            self._data,
            schedule,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            nesterov=training.nesterov,
            weight_decay=training.weight_decay,
            epochs=budget,
            steps_per_epoch=batches,
            every=self._config.every,
            samples=self._config.samples,
            sweep_steps=self._config.sweep_steps(schedule, budget, budget * batches),
        )

    def epoch(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        """What ``train_epoch`` takes."""
        training, streams = self._config.training, self._streams
        order = reshuffled(len(self._data.train), training.batch_size, streams["batch_order"].at(number))
        augmentations = None
        if training.augmentation != "none":
            codes = streams["augmentation"].at(number).integers(AUGMENTATIONS, size=order.shape)
            augmentations = torch.from_numpy(codes).to(self._device)
        return torch.from_numpy(order).to(self._device), augmentations, streams["network_noise"].seed_at(number)

    def record(self, training: ScheduledTraining) -> dict[str, Any]:
        """A finished training as plain JSON."""

        def number(value: float | None) -> float | None:
            return None if value is None or not np.isfinite(value) else value

        return {
            "parameters": sum(each.numel() for each in training.module.parameters()),
            "classes": self._data.classes,
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
