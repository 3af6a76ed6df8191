"""Many trainings in one directory, each resumable: what the experiments that compare networks seed by seed share.

A training is over when its record is written; until then it may have a checkpoint. Trainings can be added to a run that
is finished, as far as its ``config.json`` does not fix them.

::

    RUN/config.json, environment.json   see nnval.engine.run_directory; no done.json: a run is complete when all are
        seeds/0003/anti_pgd.json        the record of one training: plain JSON
        seeds/0003/anti_pgd.pt          its checkpoint before that
"""

import copy
import dataclasses
import functools
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from nnval.engine import run_directory as disk
from nnval.engine.checkpoint import UNREADABLE, loaded
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import deterministic_algorithms, environment, resolve_device, thread_count
from nnval.engine.images import AUGMENTATIONS
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.stopping import Stop, stop_on_interrupt
from sim.batch_order import reshuffled
from sim.ensemble import Progress
from sim.random_streams import CountedStream


class Training(Protocol):
    """What can be trained here. Between two epochs, ``state_dict`` is all that is needed to go on."""

    @property
    def epoch(self) -> int:
        """Completed ones."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether there is no epoch to come."""
        ...

    def train_epoch(self) -> None:
        """One epoch, and what is measured after it."""

    def state_dict(self) -> dict[str, Any]:
        """Readable by ``torch.load(weights_only=True)``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""

    def record(self) -> dict[str, Any]:
        """What was measured in all epochs, as plain JSON without nan."""
        ...


@dataclass(frozen=True)
class Task:
    """One training of a run.

    Attributes:
        path: of its files, without an ending, relative to the directory.
        label: for messages.
        epochs: that it takes.
        begin: makes the training, at its beginning.
    """

    path: str
    label: str
    epochs: int
    begin: Callable[[], Training]


class PairedTrainings:
    """The directory of a run and its trainings.

    Args:
        directory: absent, empty, or holding this very experiment.
        description: from ``described``.
        tasks: in the order in which they are trained.
        training: from ``settled``.
        is_whole: whether a record is one of this experiment.
    """

    def __init__(
        self,
        directory: Path,
        description: Mapping[str, Any],
        tasks: Sequence[Task],
        training: TrainingConfig,
        is_whole: Callable[[dict[str, Any]], bool],
    ) -> None:
        self._directory, self._description, self._tasks = directory, description, tasks
        self._training, self._is_whole = training, is_whole

    def records(
        self,
        *,
        progress: Progress | None = None,
        checkpoint_seconds: float = 5.0,
        threads: int | None = 1,
    ) -> list[dict[str, Any]]:
        """Train what is missing, and read what all trainings gave; what is finished is only read.

        Args:
            progress: called with completed and all trainings' epochs, and a text. It may raise Interrupted.
            checkpoint_seconds: at least so far apart are checkpoints within a training; 0 saves after each epoch. It
                does not affect the result.
            threads: of torch; None leaves torch's setting.

        Returns:
            The records, in the order of the tasks.

        Raises:
            ValueError: for ``checkpoint_seconds`` out of range, or from a training.
            RunDirectoryError: (a ValueError) if the directory holds something else, or is in use, or damaged.
            StorageError: (an OSError) if a file cannot be written; the run can be resumed.
            Interrupted: after Ctrl-C, when the epoch was completed and saved; the run can be resumed.
        """
        if not checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds={checkpoint_seconds} must be >= 0; 0 saves after each epoch")
        if disk.check_run(self._directory, self._description) and all(map(self._is_tidy, self._tasks)):
            return [self._record(task) for task in self._tasks]
        device = torch.device(self._training.device)
        with (
            thread_count(threads),
            stop_on_interrupt() as stop,
            disk.opened(self._directory, self._description, environment(device)),
            deterministic_algorithms(self._training.deterministic, device),
        ):
            try:
                self._train_missing(stop, progress, checkpoint_seconds)
            except KeyboardInterrupt:
                raise disk.Interrupted(
                    "stopped at once; run the same command again to go on from the last checkpoint"
                ) from None
        return [self._record(task) for task in self._tasks]

    def _path(self, task: Task, ending: str) -> Path:
        return self._directory / f"{task.path}.{ending}"

    def _is_done(self, task: Task) -> bool:
        return self._path(task, "json").exists()

    def _is_tidy(self, task: Task) -> bool:
        """Whether it is done and its checkpoint gone: a killed process may have had no time for that."""
        return self._is_done(task) and not self._path(task, "pt").exists()

    def _record(self, task: Task) -> dict[str, Any]:
        path = self._path(task, "json")
        found = disk.read_json(path)
        if not isinstance(found, dict) or not self._is_whole(found):
            raise disk.RunDirectoryError(f"{path} is damaged: remove it to train that network again")
        return found

    def _train_missing(self, stop: Stop, progress: Progress | None, checkpoint_seconds: float) -> None:
        total = sum(task.epochs for task in self._tasks)
        missing = [task for task in self._tasks if not self._is_done(task)]
        for task in self._tasks:
            if task not in missing:
                disk.remove(self._path(task, "pt"))
        done = total - sum(task.epochs for task in missing)
        for task in missing:
            disk.make_directory(self._path(task, "json").parent)
            before = done

            def tell(epoch: int, task: Task = task, before: int = before) -> None:
                if progress is not None:
                    progress(before + epoch, total, task.label)

            self._train(task, stop, tell, checkpoint_seconds)
            done += task.epochs

    def _train(self, task: Task, stop: Stop, tell: Callable[[int], None], checkpoint_seconds: float) -> None:
        checkpoint, training = self._path(task, "pt"), task.begin()
        if checkpoint.exists():
            _restore(training, checkpoint)

        def save() -> None:
            content = io.BytesIO()
            torch.save(training.state_dict(), content)
            disk.write_whole(checkpoint, content.getvalue())

        due = time.monotonic() + checkpoint_seconds
        while not training.is_over:
            training.train_epoch()
            try:
                tell(training.epoch)
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.request()
            if stop.requested:
                save()
                raise disk.Interrupted(
                    f"stopped after epoch {training.epoch} of {task.label}; run the same command again to go on"
                )
            if time.monotonic() >= due:
                save()
                due = time.monotonic() + checkpoint_seconds
        disk.write_json(self._path(task, "json"), training.record())
        disk.remove(checkpoint)


def _restore(training: Training, checkpoint: Path) -> None:
    try:
        training.load_state_dict(loaded(checkpoint.read_bytes()))
    except UNREADABLE as error:
        raise disk.RunDirectoryError(
            f"cannot read {checkpoint}: {error or 'it is empty'}; remove it to train that network anew"
        ) from error


def settled(training: TrainingConfig, directory: Path) -> tuple[TrainingConfig, ImageData]:
    """A training whose device and data are those of the run in the directory, if there is one.

    Args:
        training: with any device and data.
        directory: of the run, may be absent.

    Returns:
        The training with device and check sum of the data filled in, and the data.
    """
    name = training.device
    if name == "auto" and (directory / disk.CONFIG).is_file():  # another device would round otherwise
        name = disk.read_description(directory)["config"].get("device", name)
    device = resolve_device(name)
    data = load_data(training)
    return dataclasses.replace(training, device=str(device), data_sha256=data.sha256), data


def described(experiment: str, fields: Mapping[str, Any], *, without: Sequence[str] = ()) -> dict[str, Any]:
    """What ``config.json`` says of an experiment.

    Args:
        experiment: its name.
        fields: of its config as plain JSON; those of ``training`` among them.
        without: fields, of the training too, that a run does not fix: they can be changed in a finished one.
    """
    own = {name: value for name, value in fields.items() if name != "training"}
    config = {"experiment": experiment, **fields["training"], **own}
    config = {name: value for name, value in config.items() if name not in (*disk.OF_MEMBERS, *without)}
    affecting = {name: value for name, value in config.items() if name not in disk.WITHOUT_EFFECT}
    return {"schema": disk.SCHEMA, "fingerprint": fingerprint_of(affecting), "config": config, "branch": None}


class SharedSeed:
    """The data, initial weights and batches that all networks of a seed share: those of the member of an ensemble.

    Args:
        training: settled; the seed's data are split with ``data_seed`` + member.
        member: the seed.

    Attributes:
        member: likewise.
        data: on the device.
        module: the network, to be copied; its weights are of no meaning.
    """

    def __init__(self, training: TrainingConfig, member: int) -> None:
        self._training, self.member = training, member
        self._device = torch.device(training.device)
        data = load_data(dataclasses.replace(training, data_seed=training.data_seed + member))
        self.data = data.to(self._device)
        self.module = build_model(training, data.shape, data.classes)

    def stream(self, purpose: str) -> CountedStream:
        """The random numbers of one purpose."""
        return CountedStream(self._training.seed, f"{self._training.stream}/{purpose}", self.member)

    def network(self) -> nn.Module:
        """A copy of the network with the initial weights of this seed, on the device."""
        draw = self.stream("initialisation").seed_at(0)
        parameters, buffers = InitialWeights(self.module, self._training.initialisation, self._device)(draw)
        module = copy.deepcopy(self.module).to(self._device)
        module.load_state_dict({**parameters, **buffers})
        if self._training.channels_last:
            module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- missing in the stubs
        return module

    def epoch(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        """What is drawn for an epoch.

        Args:
            number: of the epoch, from 1.

        Returns:
            Indices of the samples in reshuffled batches, shape (M, S); their augmentations, likewise, or None; and a
            seed for layers such as dropout.
        """
        training = self._training
        order = reshuffled(len(self.data.train), training.batch_size, self.stream("batch_order").at(number))
        augmentations = None
        if training.augmentation != "none":
            codes = self.stream("augmentation").at(number).integers(AUGMENTATIONS, size=order.shape)
            augmentations = torch.from_numpy(codes).to(self._device)
        return torch.from_numpy(order).to(self._device), augmentations, self.stream("network_noise").seed_at(number)

    @torch.no_grad()
    def test_accuracy(self, module: nn.Module) -> float:
        """Of a network in the mode that it is in; in [0, 1]."""
        right = sum(int((module(inputs).argmax(1) == labels).sum()) for inputs, labels in self.data.test.chunks(1024))
        return right / len(self.data.test)


def seeds_of(training: TrainingConfig) -> Callable[[int], SharedSeed]:
    """``SharedSeed`` by member; the last one is kept, as its data are large.

    Args:
        training: settled.
    """
    return functools.lru_cache(maxsize=1)(lambda member: SharedSeed(training, member))
