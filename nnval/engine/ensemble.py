"""Ensembles of training runs: blocks of members that train as one stack, crash-safe, resumable and shared.

A block shares its stack and its checkpoint, because thousands of small directories, each synchronised to disk, are
slow. With ``stack_size=1`` every member is a block. A run that was killed at any instant resumes to the same bits, and
any number of processes may train in one directory: each takes blocks that are free.
"""

import contextlib
import time
from pathlib import Path

from nnval.engine import run_directory as disk
from nnval.engine.block_training import train_block
from nnval.engine.blocks import Block, plan_blocks, planned_blocks, progress_of
from nnval.engine.branch import Branch, snapshot_members
from nnval.engine.checkpoint import BlockState
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import ImageData
from nnval.engine.device import environment, thread_count
from nnval.engine.executors import Pool, connect
from nnval.engine.planning import Plan, choose_execution, make_plan, recorded_execution
from nnval.engine.results import EnsembleResult, finished_members, load_ensemble, merge, read_members
from nnval.engine.stopping import Stop, stop_on_interrupt
from nnval.engine.workers import train_in_workers
from sim.ensemble import Progress, available_threads

__all__ = ["Branch", "EnsembleResult", "Progress", "load_ensemble", "snapshot_members", "train_ensemble"]

_LOOK_AGAIN_SECONDS = 1.0


def train_ensemble(
    config: TrainingConfig,
    directory: str | Path,
    *,
    parents: Branch | None = None,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
    workers: int = 1,
    scheduler: str | None = None,
    pool: Pool | None = None,
    lock: bool = True,
    data: ImageData | None = None,
) -> EnsembleResult:
    """Trains an ensemble, or goes on with one, or reads the result of a finished one.

    The directory may hold other members of the same training already: these are added, in blocks of their own. Other
    processes may train in it at the same time, whatever their members, on this machine and on others: each block is
    trained by one of them, and one whose process has died is taken over.

    Args:
        config: what to train. In a branch ``members`` and ``first_member`` are replaced by those of the children.
        directory: of the run: absent, empty, or holding this very run.
        parents: begin with survivors of another run instead of fresh weights.
        progress: called with the completed and all member-epochs (those of members that are complete count as
            completed) and a short text: after each epoch, or, while others train, several times a second with what they
            have saved. It may raise Interrupted to stop the run, like Ctrl-C.
        checkpoint_seconds: at least so far apart are the checkpoints of a block, and farther if they would take more
            than a twentieth of the time; 0 saves after each epoch. It does not affect any result.
        threads: of torch in each process. One is the default because small networks waste more (they wait for each
            other) and because the bits of convolutions may depend on it; None leaves torch's setting.
        workers: processes that train blocks, by joblib's loky; 0: one per core; 1 trains in this one.
        scheduler: address of a Dask scheduler, such as ``"tcp://host:8786"``, whose workers see the directory (and the
            data) under the same path; instead of ``workers``.
        pool: processes that train several ensembles in turn, from ``executors.connect``; instead of ``workers``.
        lock: False for file systems that cannot lock files; then nothing but this process may train in the directory.
        data: what ``load_data(config)`` gave, if it was called already.

    Returns:
        The result of exactly these members, read from the directory.

    Raises:
        ValueError: if the config, the data or the branch do not fit together.
        RunDirectoryError: (a ValueError) if the directory holds something else, or cannot lock.
        StorageError: (an OSError) if a file cannot be written; the run can be resumed.
        ConnectionError: (an OSError) if the scheduler cannot be reached.
        Interrupted: after Ctrl-C, when the epoch was completed and saved, or if workers were killed again and again;
            the run can be resumed.

    Example:
        >>> import tempfile
        >>> config = TrainingConfig(train_size=40, hidden=(4,), epochs=2, members=2, execution="loop")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = train_ensemble(config, directory)
        >>> result.curves["validation_accuracy"].shape, result.status.tolist()
        ((2, 2), ['horizon', 'horizon'])
    """
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds={checkpoint_seconds} must be >= 0; 0 saves after each epoch")
    if workers < 0:
        raise ValueError(f"workers={workers} must be >= 1, or 0 for one per core")
    workers = min(workers or available_threads(), config.members)
    if scheduler is not None and workers > 1:
        raise ValueError(f"workers={workers} and scheduler={scheduler!r} exclude each other: Dask has its own workers")
    if pool is not None and (workers > 1 or scheduler is not None):
        raise ValueError(f"workers={workers} and scheduler={scheduler!r} must be left out beside a pool")
    if not lock and (workers > 1 or scheduler is not None or pool is not None):
        raise ValueError("lock=False needs workers=1 and no scheduler: one process alone may train there")
    directory = Path(directory)
    plan = make_plan(config, parents, directory, data)
    if disk.check_run(directory, plan.description) and (result := finished_members(directory, plan.members)):
        return result
    own_pool = contextlib.nullcontext(pool) if pool is not None else connect(scheduler, workers, threads)
    with thread_count(threads), stop_on_interrupt() as stop, own_pool as pool:
        try:
            blocks = _train_blocks(plan, directory, progress, checkpoint_seconds, threads, stop, pool, lock)
        except KeyboardInterrupt:
            raise disk.Interrupted(
                "stopped at once; run the same command again to go on from the last checkpoint"
            ) from None
    return read_members(directory, blocks, plan.members)


def _train_blocks(
    plan: Plan,
    directory: Path,
    progress: Progress | None,
    checkpoint_seconds: float,
    threads: int | None,
    stop: Stop,
    pool: Pool | None,
    lock: bool,
) -> list[Block]:
    """Plans, trains and merges; returns the blocks of the plan's members."""
    held = {"pause": stop.pause, "lock": lock}
    with disk.opened(directory, plan.description, environment(plan.device), **held):
        choose_execution(plan, directory)
        _, most = recorded_execution(plan, directory)
        blocks = plan_blocks(
            directory, plan.members, plan.children, most=most, workers=1 if pool is None else pool.size
        )
    board = _ProgressBoard(blocks, plan.config.epochs, progress)
    if pool is None:
        _train_here(plan, directory, blocks, board, checkpoint_seconds, stop, lock)
    else:
        train_in_workers(pool, plan, directory, blocks, board.look, checkpoint_seconds, threads, stop)
    board.finish()
    with disk.locked(directory, **held):
        everything = planned_blocks(directory, plan.children)
        if not (directory / disk.DONE).exists() and all(block.done for block in everything):
            merge(directory, everything)
    return blocks


def _train_here(
    plan: Plan,
    directory: Path,
    blocks: list[Block],
    board: "_ProgressBoard",
    checkpoint_seconds: float,
    stop: Stop,
    lock: bool,
) -> None:
    """Trains block after block in this process, and waits for those that others train."""
    execution, _ = recorded_execution(plan, directory)
    loop = plan.loop(execution)
    while True:
        elsewhere = 0
        for number, block in enumerate(blocks):
            if not block.done:
                elsewhere += not train_block(
                    plan,
                    loop,
                    block,
                    lambda state, number=number: board.report(number, state),
                    checkpoint_seconds=checkpoint_seconds,
                    stop=stop,
                    lock=lock,
                )
        if not elsewhere:
            return
        board.look(", others train the rest")
        stop.pause(_LOOK_AGAIN_SECONDS)


class _ProgressBoard:
    """Adds up what all processes have done: this one, as it says, and the others, as their files say."""

    def __init__(self, blocks: list[Block], epochs: int, progress: Progress | None) -> None:
        self._blocks, self._epochs, self._progress = blocks, epochs, progress
        self._total = sum(len(block.members) for block in blocks) * epochs
        self._work = [0] * len(blocks)
        self._unfinished = set(range(len(blocks)))
        self._last, self._read_at = 0, 0.0
        if progress is not None:
            self._read(None)

    def _read(self, here: int | None) -> None:
        """Reads the files of the blocks that are not done, but for that of this process."""
        for number in self._unfinished - {here}:
            self._work[number] = progress_of(self._blocks[number], self._epochs).work
        self._unfinished = {number for number in self._unfinished if not self._blocks[number].done}
        self._read_at = time.monotonic()

    def _tell(self, progress: Progress, text: str) -> None:
        # A process that was killed lost what it had not saved; a bar does not go back.
        self._last = max(self._last, sum(self._work))
        progress(self._last, self._total, text)

    def report(self, number: int, state: BlockState) -> None:
        """After an epoch of a block in this process."""
        if self._progress is None:
            return
        if time.monotonic() >= self._read_at + _LOOK_AGAIN_SECONDS:
            self._read(number)
        block, epochs = self._blocks[number], self._epochs
        training = len(state.stack) if state.epoch < epochs else 0
        self._work[number] = (len(block.members) - training) * epochs + training * state.epoch
        place = f"block {number + 1} of {len(self._blocks)}"
        self._tell(self._progress, f"{place}: epoch {state.epoch} of {epochs}, {training} members training")

    def finish(self) -> None:
        """When all blocks are done, whoever trained the last one."""
        if self._last < self._total:
            self.look()

    def look(self, note: str = "") -> None:
        """While other processes train."""
        if self._progress is not None:
            self._read(None)
            done = len(self._blocks) - len(self._unfinished)
            self._tell(self._progress, f"{done} of {len(self._blocks)} blocks done{note}")
