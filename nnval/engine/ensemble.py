"""Ensembles of training runs: blocks of members that train as one stack, crash-safe and resumable.

A block shares its stack and its checkpoint, because thousands of small directories, each synchronised to disk, are
slow. With ``stack_size=1`` every member is a block. A run that was killed at any instant resumes to the same bits.
"""

import contextlib
import dataclasses
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnval.drop_in.perturbations import Perturbation, make_perturbation
from nnval.engine import run_directory as disk
from nnval.engine.branch import Branch, Origin, look_up, snapshot_members
from nnval.engine.checkpoint import BlockState, read_state, snapshot_of, to_bytes
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import environment, resolve_device, thread_count
from nnval.engine.loop import InitialWeights, TrainingLoop
from nnval.engine.models import build_model
from nnval.engine.results import CURVES_HEADER, EnsembleResult, curve_lines, load_ensemble, member_table, merge
from nnval.engine.stack import Execution, executions, seconds_per_member_step

__all__ = ["Branch", "EnsembleResult", "Progress", "load_ensemble", "snapshot_members", "train_ensemble"]

Progress = Callable[[int, int, str], None]

# A stack gains little beyond 64 members and nothing beyond 256 (benchmarks/ensemble.py). Large networks gain nothing at
# all, and the checkpoint of a block must stay small.
_MOST_MEMBERS_IN_STACK = 256
_MOST_BYTES_IN_STACK = 64 * 2**20
# A checkpoint may take this fraction of the time, if that makes them rarer than asked for.
_CHECKPOINT_SHARE = 0.05


@dataclass(frozen=True)
class _Plan:
    """Everything that is known before a directory is touched."""

    config: TrainingConfig
    members: list[int]
    origin: Origin | None
    data: ImageData
    module: nn.Module
    perturbation: Perturbation | None
    device: torch.device
    description: dict[str, Any]


def _plan(config: TrainingConfig, branch: Branch | None) -> _Plan:
    perturbation = None if config.perturbation is None else make_perturbation(**config.perturbation)
    if perturbation is not None:
        # With all options spelled out: a default may change, a run may not.
        config = dataclasses.replace(config, perturbation=perturbation.to_dict())
    if branch is None:
        if perturbation is not None and config.interval is None:
            raise ValueError("interval=None needs a branch, where the perturbation acts once; give the interval P >= 1")
        origin, members = None, list(range(config.first_member, config.first_member + config.members))
    else:
        if config.interval is not None:
            raise ValueError(
                f"interval={config.interval} must be None in a branch: the perturbation acts once, at once"
            )
        origin = look_up(branch, config, perturbation)
        members = origin.children
        config = dataclasses.replace(config, members=len(members), first_member=members[0])
    device = resolve_device(config.device)
    data = load_data(config)
    module = build_model(config, data.shape, data.classes)
    InitialWeights(module, config.initialisation, device)(0)  # refuses an unknown scheme before a directory is made
    record = None if origin is None else origin.record
    fingerprint = config.fingerprint()
    description = {
        "schema": disk.SCHEMA,
        "fingerprint": fingerprint if record is None else fingerprint_of({"config": fingerprint, "branch": record}),
        "config": config.to_dict(),
        "branch": record,
    }
    return _Plan(config, members, origin, data.to(device), module, perturbation, device, description)


def _default_stack_size(plan: _Plan) -> int:
    tensors = [*plan.module.parameters(), *plan.module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return max(1, min(_MOST_MEMBERS_IN_STACK, _MOST_BYTES_IN_STACK // size))


def _choose_execution(plan: _Plan, ways: dict[str, Execution], stack_size: int) -> dict[str, Any]:
    """What ``execution.json`` holds; measured only if there is a choice."""
    asked = plan.config.execution
    choice: dict[str, Any] = {"execution": asked, "stack_size": stack_size}
    if asked != "auto":
        return choice
    if len(ways) == 1:
        return choice | {"execution": next(iter(ways))}
    data, config = plan.data, plan.config
    loop = TrainingLoop(config, data, plan.module, ways["loop"], None, plan.device)
    stack = loop.initial_state(plan.members[: min(64, stack_size)]).stack
    seconds = {name: seconds_per_member_step(way, stack, data.train, config.batch_size) for name, way in ways.items()}
    measured = {name: round(1e6 * value, 1) for name, value in seconds.items()}
    return choice | {"execution": min(seconds, key=seconds.__getitem__), "microseconds_per_member_step": measured}


def _recorded_execution(plan: _Plan, ways: dict[str, Execution], directory: Path) -> tuple[Execution, int]:
    """The choice that this run began with: another way would give other rounding, other blocks other files."""
    path = directory / disk.EXECUTION
    if not path.exists():
        size = plan.config.stack_size or _default_stack_size(plan)
        disk.write_json(path, _choose_execution(plan, ways, size))
    choice = disk.read_json(path)
    return ways[choice["execution"]], choice["stack_size"]


class _Stop:
    """Whether the user asked to stop."""

    requested = False


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[_Stop]:
    """Turns the first Ctrl-C into a request, so that the epoch is finished and saved; a second one stops at once."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def request(*_: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if before is not None:  # a handler that was not set from Python cannot be put back
        signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


class _Block:
    """The files of one block and its state in between."""

    def __init__(self, plan: _Plan, loop: TrainingLoop, directory: Path, members: Sequence[int]) -> None:
        first, last = members[0], members[-1]
        self.path = directory / disk.BLOCKS / (f"{first:04d}" if first == last else f"{first:04d}-{last:04d}")
        self.members = members
        self._plan = plan
        self._loop = loop
        self._lines: list[str] = []

    @property
    def done(self) -> bool:
        return (self.path / disk.DONE).exists()

    def _begin(self) -> BlockState:
        """The state of the last checkpoint, or that before the first epoch."""
        disk.make_directory(self.path)
        if (self.path / disk.CHECKPOINT).exists():
            state = read_state(self.path / disk.CHECKPOINT)
            state.stack = state.stack.to(self._plan.device)
            disk.write_from(self.path / disk.CURVES, state.curve_bytes, b"")
            return state
        origin = self._plan.origin
        if origin is None:
            state = self._loop.initial_state(self.members)
        else:
            state = origin.initial_state(self.members, self._plan.config)
            state.stack = state.stack.to(self._plan.device)
        if 0 in self._plan.config.snapshots:
            self._snapshot(state)
        if origin is not None:
            self._loop.perturb(state)
        state.curve_bytes = disk.write_from(self.path / disk.CURVES, 0, CURVES_HEADER.encode())
        return state

    def _snapshot(self, state: BlockState) -> None:
        disk.write_whole(self.path / f"snapshot_{state.epoch:04d}.pt", to_bytes(snapshot_of(state)))

    def _save(self, state: BlockState) -> float:
        """Curves first: a checkpoint knows how much of them belongs to it. Returns the seconds that it took."""
        begin = time.monotonic()
        content = "".join(self._lines).encode()
        state.curve_bytes = disk.write_from(self.path / disk.CURVES, state.curve_bytes, content)
        self._lines.clear()
        disk.write_whole(self.path / disk.CHECKPOINT, to_bytes(state))
        return time.monotonic() - begin

    def train(self, report: Callable[[BlockState], None], checkpoint_seconds: float, stop: _Stop) -> None:
        """Trains to the end, from wherever the block is.

        Raises:
            Interrupted: after a checkpoint, if the user asked to stop.
            StorageError: if a file cannot be written.
        """
        state = self._begin()
        due = time.monotonic() + checkpoint_seconds
        for record in self._loop.epochs(state, self._snapshot):
            self._lines.append(curve_lines(record))
            try:
                report(state)
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.requested = True
            if stop.requested:
                self._save(state)
                raise disk.Interrupted(f"stopped after epoch {state.epoch}; run the same command again to go on")
            if time.monotonic() >= due:
                took = self._save(state)
                pause = max(checkpoint_seconds, took / _CHECKPOINT_SHARE) if checkpoint_seconds else 0.0
                due = time.monotonic() + pause
        self._save(state)
        children = None if self._plan.origin is None else self._plan.origin.branch.children_per_parent
        disk.write_whole(self.path / disk.MEMBERS, member_table(state.finished, children))
        disk.write_json(self.path / disk.DONE, {"members": len(state.finished)})


def train_ensemble(
    config: TrainingConfig,
    directory: str | Path,
    *,
    parents: Branch | None = None,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
) -> EnsembleResult:
    """Trains an ensemble, or goes on with one, or reads the result of a finished one.

    Args:
        config: what to train. In a branch ``members`` and ``first_member`` are replaced by those of the children.
        directory: of the run: absent, empty, or holding this very run.
        parents: begin with survivors of another run instead of fresh weights.
        progress: called after each epoch with the completed and all member-epochs (those of members that are complete
            count as completed) and a short text. It may raise Interrupted to stop the run, like Ctrl-C.
        checkpoint_seconds: at least so far apart are the checkpoints of a block, and farther if they would take more
            than a twentieth of the time; 0 saves after each epoch. It does not affect any result.
        threads: of torch while training. One is the default because small networks waste more (they wait for each
            other) and because the bits of convolutions may depend on it; None leaves torch's setting.

    Returns:
        The result, read from the directory.

    Raises:
        ValueError: if the config, the data or the branch do not fit together.
        RunDirectoryError: (a ValueError) if the directory holds something else or another process trains in it.
        StorageError: (an OSError) if a file cannot be written; the run can be resumed.
        Interrupted: after Ctrl-C, when the epoch was completed and saved; the run can be resumed.
    """
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds={checkpoint_seconds} must be >= 0; 0 saves after each epoch")
    plan = _plan(config, parents)
    directory = Path(directory)
    if disk.check_run(directory, plan.description) and (directory / disk.DONE).exists():
        return load_ensemble(directory)
    ways = executions(plan.module)
    if plan.config.execution not in ("auto", *ways):
        raise ValueError(
            f"execution={plan.config.execution!r} cannot train model={plan.config.model!r}, which has buffers; "
            "use 'loop' or 'auto'"
        )
    with (
        thread_count(threads),
        disk.opened(directory, plan.description, environment(plan.device)),
        _stop_on_interrupt() as stop,
    ):
        try:
            _train_blocks(plan, ways, directory, progress, checkpoint_seconds, stop)
        except KeyboardInterrupt:
            raise disk.Interrupted(
                "stopped at once; run the same command again to go on from the last checkpoint"
            ) from None
    return load_ensemble(directory)


def _train_blocks(
    plan: _Plan,
    ways: dict[str, Execution],
    directory: Path,
    progress: Progress | None,
    checkpoint_seconds: float,
    stop: _Stop,
) -> None:
    execution, size = _recorded_execution(plan, ways, directory)
    loop = TrainingLoop(plan.config, plan.data, plan.module, execution, plan.perturbation, plan.device)
    chunks = [plan.members[begin : begin + size] for begin in range(0, len(plan.members), size)]
    blocks = [_Block(plan, loop, directory, chunk) for chunk in chunks]
    epochs = plan.config.epochs

    def report(number: int, state: BlockState) -> None:
        if progress is not None:
            training = len(state.stack) if state.epoch < epochs else 0
            ended = number * size + len(blocks[number].members) - training
            text = f"block {number + 1} of {len(blocks)}: epoch {state.epoch} of {epochs}, {training} members training"
            progress(ended * epochs + training * state.epoch, len(plan.members) * epochs, text)

    for number, block in enumerate(blocks):
        if not block.done:
            block.train(functools.partial(report, number), checkpoint_seconds, stop)
    merge(directory, [block.path for block in blocks])
