"""What a recording of projected weights is: its config, its files, its result. See nnval.measure.weight_recording."""

import dataclasses
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnval.engine import run_directory as disk
from nnval.measure.batch_orders import BatchOrder
from sim.batch_order import batches_per_epoch
from theory.absorbing import Floats, whole_number
from theory.heavy_ball import HeavyBall

LEAST_EPOCHS = 20
"""Shorter recordings are refused."""


@dataclass(frozen=True, kw_only=True)
class RecordingConfig:
    """What is recorded.

    Attributes:
        order: of the batches.
        batch_size: S.
        learning_rate: > 0, constant.
        momentum: in [0, 1).
        weight_decay: >= 0.
        burn_in: epochs before the recording.
        epochs: that are recorded, at least ``LEAST_EPOCHS``.
        runs: independent ones, R.
        seed: of the orders of batches.
        full_gradients: of each run in each recorded epoch, at phases that are spread over it; 0: none. They are what
            nnval.measure.restoring_force needs, and each costs what an epoch does.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> config = RecordingConfig(order=BatchOrder("reshuffled"), batch_size=20, learning_rate=0.1, runs=4)
        >>> config.momentum, config.epochs
        (0.0, 20)
    """

    order: BatchOrder
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    burn_in: int = 10
    epochs: int = LEAST_EPOCHS
    runs: int = 8
    seed: int = 0
    full_gradients: int = 0

    def __post_init__(self) -> None:
        HeavyBall(self.learning_rate, 0.0, self.momentum)
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay} must be finite and >= 0")
        for name, least in (
            ("batch_size", 1),
            ("burn_in", 0),
            ("epochs", 1),
            ("runs", 1),
            ("seed", 0),
            ("full_gradients", 0),
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.epochs < LEAST_EPOCHS:
            raise ValueError(
                f"epochs={self.epochs} must be >= {LEAST_EPOCHS}: a shorter recording does not show what the slow "
                "directions do"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not self.full_gradients:
            del values["full_gradients"]  # recordings are what they were before there were any
        return values | {"order": self.order.label}

    def measured_updates(self, epoch: int, batches: int) -> list[int]:
        """After which updates of an epoch full gradients are taken.

        Args:
            epoch: of the recording, counted from 0.
            batches: M.

        Returns:
            Numbers from 0 to M - 1, ascending, others in each epoch.

        Raises:
            ValueError: for more full gradients than updates.

        Example:
            >>> config = RecordingConfig(order=BatchOrder(), batch_size=5, learning_rate=0.1, full_gradients=2)
            >>> [config.measured_updates(epoch, batches=10) for epoch in range(3)]
            [[0, 5], [3, 8], [1, 6]]
        """
        if self.full_gradients > batches:
            raise ValueError(
                f"full_gradients={self.full_gradients} must be at most {batches}, the updates of an epoch: there are "
                "no more weights than that"
            )
        # Multiples of the golden mean are spread evenly, however many there are.
        first = epoch * (math.sqrt(5) - 1) / 2 % 1
        return [math.floor((each + first) * batches / self.full_gradients) for each in range(self.full_gradients)]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RecordingConfig":
        """The config of these fields."""
        return cls(order=BatchOrder.parsed(values["order"]), **{k: v for k, v in values.items() if k != "order"})


@dataclass(frozen=True)
class RecordedEpoch:
    """Projections during one epoch.

    Attributes:
        before: (R, k), of the weights before its first update.
        velocity_before: (R, k), of the velocity of the update before.
        weights: (M, R, k), after each update.
    """

    before: Floats
    velocity_before: Floats
    weights: Floats

    @property
    def velocities(self) -> Floats:
        """(M, R, k), v_k = theta_k - theta_{k-1}."""
        return np.diff(self.weights, axis=0, prepend=self.before[None])


@dataclass(frozen=True)
class WeightRecording:
    """A finished recording on disk.

    Attributes:
        config: what was recorded.
        directory: where.
        batches: M, updates in an epoch.
        directions: k.
        before: (R, k), projections when the recording began.
        velocity_before: (R, k), of the velocities then.
        mean_weights: (R, d), of each run over all recorded updates, float64, on the CPU.
        final_weights: (R, d), in the type they were trained in, on the CPU.
        sampled_weights: (R, d), likewise, of each run once in its last epoch, at phases that are spread over the epoch:
            at the ends of epochs weights fluctuate less.
        gradients: (E, n, R, k), full gradients along the directions, weight decay included, after the updates of
            ``config.measured_updates``; None without any.
        seconds: how long each part took: ``"gradients"`` and ``"projections"``, burn-in included; of the processes that
            recorded, so it may differ from call to call.
        chunks: the files, in order.

    Example:
        >>> import tempfile, torch
        >>> from nnval.measure.batch_gradients import BatchGradients
        >>> from nnval.measure.weight_recording import record_weights
        >>> config = RecordingConfig(order=BatchOrder("reshuffled"), batch_size=2, learning_rate=0.1, burn_in=0, runs=2)
        >>> gradients = BatchGradients(torch.nn.Linear(4, 2, bias=False), torch.eye(4), torch.tensor([0, 1, 0, 1]))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     recording = record_weights(config, gradients, torch.zeros(8), torch.eye(8)[:2], directory)
        >>> recording.batches, recording.mean_weights.shape  # runs, weights
        (2, torch.Size([2, 8]))
    """

    config: RecordingConfig
    directory: Path
    batches: int
    directions: int
    before: Floats
    velocity_before: Floats
    mean_weights: torch.Tensor
    final_weights: torch.Tensor
    sampled_weights: torch.Tensor
    seconds: dict[str, float]
    chunks: tuple[Path, ...]
    gradients: Floats | None = None

    def epochs(self) -> Iterator[RecordedEpoch]:
        """The recorded epochs, one by one; projections are of the distance from the weights of the beginning."""
        before, velocity = self.before, self.velocity_before
        for path in self.chunks:
            for weights in np.load(path, allow_pickle=False, mmap_mode="r"):
                epoch = RecordedEpoch(before, velocity, np.array(weights))
                yield epoch
                last = epoch.weights[-2] if len(weights) > 1 else before
                before, velocity = epoch.weights[-1], epoch.weights[-1] - last

    def weights(self, direction: int) -> Floats:
        """(R, T), all projections on one direction."""
        chunks = [np.load(path, allow_pickle=False, mmap_mode="r")[..., direction] for path in self.chunks]
        together = np.concatenate(chunks)
        return together.reshape(-1, together.shape[-1]).T


@dataclass
class RecordingState:
    """All that a recording needs to go on, between two epochs.

    Attributes:
        epoch: completed, burn-in included.
        weights, buffer: (R, d), on the device; the buffer is torch's, -v / learning_rate.
        summed: (R, d), of the recorded weights, float64.
        sampled: (R, d), of each run at one phase of the last epoch.
        begun, begun_velocity: (R, k), projections when the recording began.
        latest: (R, k), projections of the weights.
        chunks: the first epoch of each chunk on disk.
        seconds: spent on gradients and on projections.
        gradients: (E, n, R, k), full gradients so far; None without any.
    """

    epoch: int
    weights: torch.Tensor
    buffer: torch.Tensor
    summed: torch.Tensor
    sampled: torch.Tensor
    begun: torch.Tensor
    begun_velocity: torch.Tensor
    latest: torch.Tensor
    chunks: list[int]
    seconds: list[float]
    gradients: torch.Tensor | None = None

    def to_bytes(self) -> bytes:
        """A file that ``torch.load(weights_only=True)`` reads."""
        target = io.BytesIO()
        torch.save({name: _plain(value) for name, value in vars(self).items()}, target)
        return target.getvalue()

    @classmethod
    def read(cls, path: Path) -> "RecordingState":
        """The state in a file, on the CPU.

        Raises:
            RunDirectoryError: if it cannot be read.
        """
        try:
            content = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if archive.testzip() is not None:
                    raise ValueError("a check sum is wrong")
            return cls(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise disk.RunDirectoryError(f"cannot read {path}: {error}; remove {path.parent} to record anew") from error


def _plain(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value


def saved_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays in an ``.npz`` file.

    Args:
        path: of the file.

    Returns:
        By name.

    Raises:
        RunDirectoryError: if it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise disk.RunDirectoryError(f"cannot read {path}: {error}; remove it to measure that anew") from error


def chunk_name(epoch: int) -> str:
    """Name of the file that begins with an epoch."""
    return f"chunk_{epoch:06d}.npy"


def _epochs_of(chunk: Path, *shape: int) -> int:
    """Epochs in a file of projections, which must be whole and of this shape."""
    try:
        found = np.load(chunk, allow_pickle=False, mmap_mode="r").shape
    except FileNotFoundError:
        raise disk.RunDirectoryError(f"{chunk.parent} lacks {chunk.name}; remove it to record anew") from None
    except (OSError, ValueError, EOFError) as error:
        raise disk.RunDirectoryError(f"cannot read {chunk}: {error}; remove {chunk.parent} to record anew") from error
    if found[1:] != shape:
        raise disk.RunDirectoryError(
            f"{chunk} has the shape {found}, which is not that of its recording; remove {chunk.parent} to record anew"
        )
    return found[0]


def load_recording(directory: str | Path) -> WeightRecording:
    """A finished recording.

    Args:
        directory: where it is.

    Returns:
        The recording; its projections stay on disk until they are asked for.

    Raises:
        RunDirectoryError: if there is none, or it is not finished, or parts are missing.

    Example:
        >>> load_recording("runs/absent")
        Traceback (most recent call last):
        nnval.engine.run_directory.RunDirectoryError: ...
    """
    directory = Path(directory)
    plain = disk.read_description(directory)["config"]
    if not (directory / disk.DONE).exists():
        raise disk.RunDirectoryError(f"{directory} holds an unfinished recording; run its command again to go on")
    fields = {field.name for field in dataclasses.fields(RecordingConfig)}
    config = RecordingConfig.from_dict({name: value for name, value in plain.items() if name in fields})
    state = RecordingState.read(directory / disk.CHECKPOINT)
    batches = batches_per_epoch(plain["samples"], config.batch_size)
    epochs = sum(
        _epochs_of(directory / chunk_name(each), batches, config.runs, plain["directions"]) for each in state.chunks
    )
    if epochs != config.epochs:
        raise disk.RunDirectoryError(f"{directory} has {epochs} of {config.epochs} epochs; remove it to record anew")
    return WeightRecording(
        config,
        directory,
        batches,
        plain["directions"],
        state.begun.numpy(),
        state.begun_velocity.numpy(),
        state.summed / (batches * config.epochs),
        state.weights,
        state.sampled,
        {"gradients": state.seconds[0], "projections": state.seconds[1]},
        tuple(directory / chunk_name(first) for first in state.chunks),
        None if state.gradients is None else state.gradients.numpy(),
    )
