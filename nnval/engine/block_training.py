"""The training of one block, from wherever it is to its end, so that it can be killed at any instant."""

import contextlib
import time
from collections.abc import Callable

from nnval.engine import run_directory as disk
from nnval.engine.blocks import Block
from nnval.engine.checkpoint import BlockState, read_state, snapshot_of, to_bytes
from nnval.engine.loop import TrainingLoop
from nnval.engine.planning import Plan
from nnval.engine.results import CURVES_HEADER, curve_lines, member_table
from nnval.engine.stopping import Stop

# A checkpoint may take this fraction of the time, if that makes them rarer than asked for.
_CHECKPOINT_SHARE = 0.05

Report = Callable[[BlockState], None]


def train_block(
    plan: Plan,
    loop: TrainingLoop,
    block: Block,
    report: Report,
    *,
    checkpoint_seconds: float,
    stop: Stop,
    lock: bool = True,
) -> bool:
    """Trains a block to its end, unless another process is training it.

    Args:
        plan: of the ensemble.
        loop: of the ensemble.
        block: planned.
        report: called after each epoch. It may raise Interrupted to stop, like Ctrl-C.
        checkpoint_seconds: see ``train_ensemble``.
        stop: is looked at after each epoch.
        lock: see ``run_directory.trying``.

    Returns:
        Whether it is done now; False if another process holds it.

    Raises:
        Interrupted: after a checkpoint, if that was asked for.
        StorageError: if a file cannot be written.
    """
    with disk.trying(block.path, lock=lock) as held:
        if held and not block.done:  # another process may have been faster
            _BlockTraining(plan, loop, block).train(report, checkpoint_seconds, stop)
        return held


class _BlockTraining:
    """The files of a block and its state in between."""

    def __init__(self, plan: Plan, loop: TrainingLoop, block: Block) -> None:
        self.path, self.members = block.path, block.members
        self._plan = plan
        self._loop = loop
        self._lines: list[str] = []

    def _begin(self) -> BlockState:
        """The state of the last checkpoint, or that before the first epoch."""
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

    def _note_beginning(self, state: BlockState) -> None:
        """The lock file says when its holder began, and with how much done: that is how others know the rate."""
        training, epochs = len(state.stack), self._plan.config.epochs
        work = (len(self.members) - training) * epochs + training * state.epoch
        with contextlib.suppress(OSError):
            (self.path / disk.LOCK).write_text(str(work), encoding="ascii")

    def train(self, report: Report, checkpoint_seconds: float, stop: Stop) -> None:
        state = self._begin()
        self._note_beginning(state)
        due = time.monotonic() + checkpoint_seconds
        for record in self._loop.epochs(state, self._snapshot):
            self._lines.append(curve_lines(record))
            try:
                report(state)
            except (KeyboardInterrupt, disk.Interrupted):  # here the state is whole
                stop.request()
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
