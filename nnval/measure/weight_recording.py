"""Training on at a frozen learning rate, with the weights projected on given directions after every single update.

::

    RECORDING/config.json       what is recorded, with hashes of the weights it begins from and of the directions
              environment.json
              checkpoint.pt     all that is needed to go on
              chunk_000012.npy  projections (E, M, R, k) of E whole epochs, the first of which is epoch 12
              done.json         the only sign of completion

SGD with momentum as torch has it: b = momentum b + gradient, theta = theta - learning_rate b, so that the velocity
v_k = theta_k - theta_{k-1} is -learning_rate b. Weight decay is part of the gradient: it adds its value to every
curvature. Every run has its own order of batches, from a stream of its own. There is no generator state in a checkpoint
(what was drawn is drawn again when a recording goes on), and a recording that was killed at any instant goes on to the
same bits, where the device has deterministic algorithms.

Weights are collected in blocks, and what they have moved since the last block is projected by one matrix product for
the whole block. Single precision is enough for that; the projections themselves are summed up in double precision.
"""

import hashlib
import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnval.engine import run_directory as disk
from nnval.engine.config import fingerprint_of
from nnval.engine.device import environment, thread_count
from nnval.engine.stopping import Stop, stop_on_interrupt
from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import Batches
from nnval.measure.recording_files import (
    Floats,
    RecordedEpoch,
    RecordingConfig,
    RecordingState,
    WeightRecording,
    chunk_name,
    load_recording,
)
from sim.batch_order import batches_per_epoch
from sim.ensemble import Progress
from sim.random_streams import stream

__all__ = ["RecordedEpoch", "RecordingConfig", "WeightRecording", "load_recording", "record_weights"]

_BLOCK_VALUES = 2**24
"""Weights in a block; it affects rounding, so it is no option."""

_PENDING_BYTES = 2**28
"""Projections in memory that are not on disk yet."""

_SAMPLES_AT_ONCE = 2**12
"""Samples of a full gradient that are computed together, those of all runs counted; it affects rounding as well."""


def record_weights(
    config: RecordingConfig,
    gradients: BatchGradients,
    weights: torch.Tensor,
    directions: torch.Tensor,
    directory: str | Path,
    *,
    velocity: torch.Tensor | None = None,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
) -> WeightRecording:
    """Trains R runs on, all from the same weights, and records their projections; or goes on with that, or reads it.

    Args:
        config: what to record.
        gradients: of the batches.
        weights: (d,), where all runs begin.
        directions: (k, d), orthonormal rows.
        directory: absent, empty, or holding this very recording.
        velocity: (d,), v_0 of all runs; None: 0.
        progress: called after each epoch with epochs done and in all, and a text; it may raise Interrupted.
        checkpoint_seconds: at least so far apart are what is written to disk. It does not affect any result.
        threads: of torch.

    Returns:
        The recording.

    Raises:
        ValueError: if shapes do not fit, the directions are not orthonormal, there are no two batches in an epoch, more
            full gradients than updates are asked for, the disk is too small, or a run diverges.
        StorageError: if a file cannot be written; the recording can go on.
        Interrupted: after Ctrl-C, when the epoch was completed and saved; the recording can go on.

    Example:
        >>> from nnval.measure.batch_orders import BatchOrder
        >>> import tempfile
        >>> config = RecordingConfig(order=BatchOrder("reshuffled"), batch_size=2, learning_rate=0.1, burn_in=0, runs=2)
        >>> gradients = BatchGradients(torch.nn.Linear(4, 2, bias=False), torch.eye(4), torch.tensor([0, 1, 0, 1]))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     recording = record_weights(config, gradients, torch.zeros(8), torch.eye(8)[:2], directory)
        ...     projections = [epoch.weights for epoch in recording.epochs()]
        >>> len(projections), projections[0].shape  # updates of an epoch, runs, directions
        (20, (2, 2, 2))
    """
    directory, total = Path(directory), config.burn_in + config.epochs
    config.order.noise(gradients.samples, config.batch_size)  # refuses what has no theory
    config.measured_updates(0, batches_per_epoch(gradients.samples, config.batch_size))
    device, dtype = gradients.device, gradients.dtype
    weights, directions = weights.detach().to(device, dtype), directions.detach().to(device, dtype)
    _check(weights, directions, gradients.size)
    velocity = torch.zeros_like(weights) if velocity is None else velocity.detach().to(device, dtype)
    plain = config.to_dict() | {
        "samples": gradients.samples,
        "stacked": gradients.stacked,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
        "weights_sha256": _digest(weights),
        "velocity_sha256": _digest(velocity),
        "directions": len(directions),
        "directions_sha256": _digest(directions),
    }
    description = {"schema": disk.SCHEMA, "fingerprint": fingerprint_of(plain), "config": plain, "branch": None}
    if not (disk.check_run(directory, description) and (directory / disk.DONE).exists()):
        held = disk.opened(directory, description, environment(device))
        with thread_count(threads), stop_on_interrupt() as stop, held:
            recorder = _Recorder(config, gradients, weights, velocity, directions, directory)
            recorder.check_room()
            recorder.run(total, progress, checkpoint_seconds, stop)
    return load_recording(directory)


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _check(weights: torch.Tensor, directions: torch.Tensor, size: int) -> None:
    if weights.shape != (size,):
        raise ValueError(f"weights of shape {tuple(weights.shape)} must be ({size},), one for each parameter")
    if directions.ndim != 2 or not len(directions) or directions.shape[1] != size:
        raise ValueError(f"directions of shape {tuple(directions.shape)} must be (k, {size}), k >= 1")
    # All products of two directions would take longer than the recording; random combinations betray wrong ones too.
    signs = torch.randint(2, (4, len(directions)), generator=torch.Generator().manual_seed(0)).to(directions) * 2 - 1
    missed = float(((signs @ directions) @ directions.T - signs).abs().max())
    if not missed < 1e-3:
        raise ValueError(f"directions miss orthonormality by {missed:.2g}; orthonormalise their rows")


class _Recorder:
    def __init__(
        self,
        config: RecordingConfig,
        gradients: BatchGradients,
        weights: torch.Tensor,
        velocity: torch.Tensor,
        directions: torch.Tensor,
        directory: Path,
    ) -> None:
        self._config, self._gradients, self._directory = config, gradients, directory
        self._origin, self._velocity, self._directions = weights, velocity, directions
        self._batches = batches_per_epoch(gradients.samples, config.batch_size)
        self._phases = (2 * torch.arange(config.runs) + 1) * self._batches // (2 * config.runs)
        self._pending: list[Floats] = []

    def check_room(self) -> None:
        """Refuses to begin what the disk cannot hold."""
        config = self._config
        needed = 8 * config.epochs * self._batches * config.runs * len(self._directions)
        there = sum(path.stat().st_size for path in self._directory.glob("chunk_*.npy"))
        free = shutil.disk_usage(self._directory).free
        if needed - there > 0.95 * free:
            raise ValueError(
                f"the recording needs {needed / 2**30:.1f} GiB of disk, of which {free / 2**30:.1f} are free in "
                f"{self._directory}; record fewer directions, epochs or runs, or make room"
            )

    def _begin(self) -> RecordingState:
        runs, directions = self._config.runs, len(self._directions)
        if (self._directory / disk.CHECKPOINT).exists():
            state = RecordingState.read(self._directory / disk.CHECKPOINT)
            state.weights, state.buffer = state.weights.to(self._origin), state.buffer.to(self._origin)
            state.summed, state.sampled = state.summed.to(self._origin.device), state.sampled.to(self._origin)
            return state
        start = self._origin.repeat(runs, 1)
        buffer = (self._velocity / -self._config.learning_rate).repeat(runs, 1)
        nothing = torch.zeros(runs, directions, dtype=torch.float64)
        full = self._config.full_gradients
        return RecordingState(
            epoch=0,
            weights=start,
            buffer=buffer,
            summed=torch.zeros_like(start, dtype=torch.float64),
            sampled=start.clone(),
            begun=nothing,
            begun_velocity=nothing,
            latest=nothing,
            chunks=[],
            seconds=[0.0, 0.0],
            gradients=nothing.repeat(self._config.epochs, full, 1, 1) if full else None,
        )

    def _orders(self, epochs_passed: int) -> list[Batches]:
        config = self._config
        orders = [
            config.order.epochs(
                self._gradients.samples, config.batch_size, stream(config.seed, f"recording/{config.order.label}", run)
            )
            for run in range(config.runs)
        ]
        for order in orders:
            for _ in range(epochs_passed):
                next(order)
        return orders

    def run(self, total: int, progress: Progress | None, checkpoint_seconds: float, stop: Stop) -> None:
        """Epoch by epoch to the end."""
        state = self._begin()
        orders = self._orders(state.epoch)
        due = time.monotonic() + checkpoint_seconds
        while state.epoch < total:
            recorded = state.epoch >= self._config.burn_in
            if state.epoch == self._config.burn_in:
                state.begun = self._project_exactly(state.weights - self._origin)
                state.begun_velocity = self._project_exactly(state.buffer) * -self._config.learning_rate
                state.latest = state.begun.clone()
            self._epoch(state, [next(order) for order in orders], recorded)
            if not bool(torch.isfinite(state.weights).all()):
                raise ValueError(
                    f"a run diverged in epoch {state.epoch + 1}: lower learning_rate={self._config.learning_rate:g}"
                )
            state.epoch += 1
            pending = sum(chunk.nbytes for chunk in self._pending)
            what = "recording" if recorded else "burn-in"
            try:
                if progress is not None:
                    progress(state.epoch, total, f"{what}: epoch {state.epoch} of {total}")
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.request()
            if stop.requested or time.monotonic() >= due or pending > _PENDING_BYTES or state.epoch == total:
                self._save(state)
                due = time.monotonic() + checkpoint_seconds
            if stop.requested and state.epoch < total:
                raise disk.Interrupted(f"stopped after epoch {state.epoch}; run the same command again to go on")
        disk.write_json(self._directory / disk.DONE, {"epochs": self._config.epochs, "chunks": len(state.chunks)})

    def _save(self, state: RecordingState) -> None:
        """Chunk first: a checkpoint knows which chunks belong to it."""
        if self._pending:
            first = state.epoch - len(self._pending)
            target = io.BytesIO()
            np.save(target, np.stack(self._pending), allow_pickle=False)
            disk.write_whole(self._directory / chunk_name(first), target.getvalue())
            self._pending.clear()
            state.chunks.append(first)
        disk.write_whole(self._directory / disk.CHECKPOINT, state.to_bytes())

    def _epoch(self, state: RecordingState, epochs: list[Any], recorded: bool) -> None:
        """M updates of all runs."""
        config, device = self._config, self._gradients.device
        runs, size = state.weights.shape
        if self._gradients.stacked:
            together = torch.from_numpy(np.stack(epochs, axis=1)).to(device)  # (M, R, S)
            batches = list(together)
        else:
            batches = [
                [torch.from_numpy(np.asarray(of_run[k])).to(device) for of_run in epochs] for k in range(len(epochs[0]))
            ]
        length = max(1, min(_BLOCK_VALUES // (runs * size), self._batches))
        block = torch.empty(length if recorded else 0, runs, size, dtype=state.weights.dtype, device=device)
        projected, filled = [], 0
        measured = config.measured_updates(state.epoch - config.burn_in, self._batches) if recorded else []
        anchor = state.weights.clone()
        begin, spent = time.perf_counter(), 0.0
        for number, samples in enumerate(batches):
            gradient = self._gradients(state.weights, list(samples), config.batch_size)
            if config.weight_decay:
                gradient = gradient + config.weight_decay * state.weights
            state.buffer.mul_(config.momentum).add_(gradient)
            state.weights.add_(state.buffer, alpha=-config.learning_rate)
            if not recorded:
                continue
            sampled = self._phases == number
            state.sampled[sampled] = state.weights[sampled]
            if number in measured:
                assert state.gradients is not None
                along = self._full_gradient(state.weights)
                state.gradients[state.epoch - config.burn_in, measured.index(number)] = along
            block[filled] = state.weights
            filled += 1
            if filled == length or number == self._batches - 1:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)  # so that each part gets the time that it took
                start = time.perf_counter()
                projected.append(self._project(state, anchor, block[:filled]))
                anchor.copy_(block[filled - 1])
                state.summed += block[:filled].sum(0, dtype=torch.float64)
                filled = 0
                spent += time.perf_counter() - start
        if recorded:
            self._pending.append(np.concatenate(projected))
        state.seconds[0] += time.perf_counter() - begin - spent
        state.seconds[1] += spent

    def _full_gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """(R, k), the gradient of the mean loss at the weights of each run, with weight decay, along the directions."""
        few = max(1, _SAMPLES_AT_ONCE // len(weights))
        total = self._config.weight_decay * weights.double()
        samples = self._gradients.samples
        for some in torch.arange(samples, device=weights.device).split(few):
            total += self._gradients(weights, [some] * len(weights), samples)
        return self._project_exactly(total)

    def _project(self, state: RecordingState, anchor: torch.Tensor, block: torch.Tensor) -> Floats:
        """(B, R, k) of the block's weights, where those of the anchor are known; the last ones are known then."""
        moved = (block - anchor) @ self._directions.T
        projected = state.latest.numpy() + moved.cpu().numpy().astype(np.float64)
        state.latest = torch.from_numpy(projected[-1].copy())
        return projected

    def _project_exactly(self, vectors: torch.Tensor) -> torch.Tensor:
        """(R, k) of (R, d), float64, on the CPU; a few directions at a time, so that no double copy of all is made."""
        few = max(1, _BLOCK_VALUES // self._directions.shape[1])
        parts = [vectors.double() @ some.double().T for some in self._directions.split(few)]
        return torch.cat(parts, dim=1).cpu()
