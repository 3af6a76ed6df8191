"""Blocks trained by other processes, one block per task.

What is done is on disk; a task only says whether it could have its block, so that nothing is lost with it.
"""

import contextlib
import dataclasses
import platform
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnval.engine import run_directory as disk
from nnval.engine.block_training import train_block
from nnval.engine.blocks import Block
from nnval.engine.branch import Branch
from nnval.engine.config import TrainingConfig, canonical_json
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import environment, resolve_device, thread_count
from nnval.engine.executors import Pool
from nnval.engine.loop import TrainingLoop
from nnval.engine.planning import Plan, make_plan, recorded_execution
from nnval.engine.stopping import POLL_SECONDS, Stop

_MOST_LOSSES = 3
_BUSY_SECONDS = 1.0
_SESSION = ".session-"
_OF_DATA = (
    "data", "data_dir", "data_sha256", "train_size", "validation_size", "validation_from", "label_noise", "data_seed",
)  # fmt: skip


# ---- The process that hands over tasks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What a worker needs to know about the ensemble."""

    config: TrainingConfig
    parents: Branch | None
    directory: Path
    session: str
    checkpoint_seconds: float
    threads: int | None


@contextlib.contextmanager
def _session(directory: Path, stop: Stop) -> Iterator[str]:
    """A locked file in the directory, whose name tasks carry: they stop when it has gone or nobody holds it any more.

    It works across machines, and when this process is killed.
    """
    name = f"{_SESSION}{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        with disk.locked(directory, pause=stop.pause):
            for left_over in directory.glob(f"{_SESSION}*"):
                if not disk.is_held(directory, left_over.name):
                    left_over.unlink(missing_ok=True)
            stack.enter_context(disk.trying(directory, name=name))
        stack.callback(_end_session, directory, name)
        yield name


def _end_session(directory: Path, name: str) -> None:
    (directory / name).unlink(missing_ok=True)


def _everywhere(path: str | Path | None) -> Any:
    """An absolute path: workers may have been started in another directory."""
    return None if path is None else Path(path).absolute()


def train_in_workers(
    pool: Pool,
    plan: Plan,
    directory: Path,
    blocks: Sequence[Block],
    look: Callable[[], None],
    checkpoint_seconds: float,
    threads: int | None,
    stop: Stop,
) -> None:
    """Trains blocks in other processes, until all are done; those that others train are waited for.

    Args:
        pool: the processes.
        plan: of the ensemble.
        directory: of the run.
        blocks: planned.
        look: called several times a second. It may raise Interrupted to stop the run, like Ctrl-C.
        checkpoint_seconds, threads: see ``train_ensemble``.
        stop: whether to stop.

    Raises:
        Interrupted: if that was asked for, and all workers have saved, or if workers are lost again and again.
        OSError, ValueError: what a worker met; the others have saved then.
    """
    directory = directory.absolute()
    config = dataclasses.replace(plan.config, data_dir=_everywhere(plan.config.data_dir))
    branch = None if plan.origin is None else plan.origin.branch
    parents = None if branch is None else dataclasses.replace(branch, run=_everywhere(branch.run))
    with _session(directory, stop) as session:
        task = _Task(config, parents, directory, session, checkpoint_seconds, threads)
        _Dispatch(pool, task, blocks, stop).run(look)


class _Dispatch:
    """Who trains what at this moment."""

    def __init__(self, pool: Pool, task: _Task, blocks: Sequence[Block], stop: Stop) -> None:
        self._pool, self._task, self._stop = pool, task, stop
        self._ready = deque(Block(task.directory / disk.BLOCKS / b.path.name, b.members) for b in blocks if not b.done)
        self._busy: deque[tuple[float, Block]] = deque()
        self._running: dict[Future[bool], Block] = {}
        self._lost: Counter[Path] = Counter()
        self._failure: Exception | None = None

    def run(self, look: Callable[[], None]) -> None:
        while self._ready or self._busy or self._running:
            if self._stop.requested or self._failure is not None:
                self._end()
            self._hand_over()
            self._take_back()
            try:
                look()
            except (KeyboardInterrupt, disk.Interrupted):
                self._stop.request()
        if self._failure is not None:
            raise self._failure
        if self._stop.requested:
            raise disk.Interrupted("stopped, and everything is saved; run the same command again to go on")

    def _end(self) -> None:
        """Workers save their epoch and end; what waits is not begun."""
        _end_session(self._task.directory, self._task.session)
        self._ready.clear()
        self._busy.clear()
        for future, block in list(self._running.items()):
            # To Dask's futures, which do not know whether they run, a cancellation always succeeds.
            if not disk.is_held(block.path) and future.cancel():
                del self._running[future]

    def _hand_over(self) -> None:
        while self._busy and self._busy[0][0] <= time.monotonic():
            self._ready.append(self._busy.popleft()[1])
        while self._ready and (self._pool.slots is None or len(self._running) < self._pool.slots):
            block = self._ready.popleft()
            try:
                self._running[self._pool.submit(_train_task, self._task, block)] = block
            except BrokenExecutor:  # a worker died between two tasks
                self._ready.appendleft(block)
                return

    def _take_back(self) -> None:
        if not self._running:
            time.sleep(POLL_SECONDS)
            return
        finished, _ = wait(self._running, POLL_SECONDS, FIRST_COMPLETED)
        broken = None
        for future in finished:
            block = self._running.pop(future)
            try:
                if not future.result():
                    self._busy.append((time.monotonic() + _BUSY_SECONDS, block))
            except (BrokenExecutor, CancelledError) as error:
                broken = error
                self._ready.append(block)
                self._lost[block.path] += 1
            except Exception as error:  # whatever a task met: kept, and raised when the others have saved
                if type(error).__name__ == "KilledWorker":  # of dask, which need not be installed
                    broken = error
                elif not (isinstance(error, disk.Interrupted) and self._stop.requested):
                    self._failure = self._failure or error
        if broken is not None and not self._stop.requested and self._failure is None:
            self._go_on_after(broken)

    def _go_on_after(self, error: BaseException) -> None:
        """The tasks of all workers are lost with one of them; their blocks are not."""
        for block in self._running.values():
            self._ready.append(block)
            self._lost[block.path] += 1
        self._running.clear()
        for path, times in self._lost.items():
            if times >= _MOST_LOSSES:
                reason = str(error).partition("\n")[0]
                raise disk.Interrupted(
                    f"worker processes were killed {times} times while they trained block {path.name} (out of "
                    f"memory?): {reason}\nRun the same command again to go on, with fewer workers"
                ) from error
        self._pool.renew(error)


# ---- A worker ------------------------------------------------------------------------------------------------------


class _SessionStop(Stop):
    """Asks to stop when the session of the task has ended."""

    def __init__(self, task: _Task) -> None:
        super().__init__()
        self._task = task
        self._next = 0.0

    @property
    def requested(self) -> bool:
        if not self._requested and time.monotonic() >= self._next:
            self._requested = not disk.is_held(self._task.directory, self._task.session)
            self._next = time.monotonic() + POLL_SECONDS
        return self._requested


_one_at_a_time = threading.Lock()
"""Held while a block is trained: a Dask worker may have several threads, but torch's generators, its number of threads
and its choice of algorithms belong to the process."""

_datasets: dict[str, ImageData] = {}
_prepared: dict[tuple[Any, ...], tuple[Plan, TrainingLoop]] = {}
"""What the last task of this process needed."""


def _data(config: TrainingConfig) -> ImageData:
    """Loaded once in a process."""
    values = config.to_dict()
    key = canonical_json({name: values[name] for name in (*_OF_DATA, "device")})
    data = _datasets.get(key)
    if data is None:
        data = load_data(config).to(resolve_device(config.device))
        _datasets.clear()
        _datasets[key] = data
    return data


def _prepare(task: _Task, stop: Stop) -> tuple[Plan, TrainingLoop]:
    # A directory may be made anew while a worker lives, and then be computed in another way.
    how = canonical_json(disk.read_json(task.directory / disk.EXECUTION))
    key = (task.directory, canonical_json(task.config.to_dict()), task.parents, how)
    if key not in _prepared:
        plan = make_plan(task.config, task.parents, task.directory, _data(task.config))
        disk.check_run(task.directory, plan.description)
        with disk.locked(task.directory, pause=stop.pause):
            disk.record_environment(task.directory, environment(plan.device))
        execution, _ = recorded_execution(plan, task.directory)
        _prepared.clear()
        _prepared[key] = plan, plan.loop(execution)
    return _prepared[key]


def _train_task(task: _Task, block: Block) -> bool:
    """In a worker: trains a block, if it is free. See ``train_block``."""
    if not (task.directory / disk.CONFIG).exists():
        raise disk.RunDirectoryError(
            f"{task.directory} is not there on the worker {platform.node()}: all workers need the same file system, "
            "under the same path"
        )
    stop = _SessionStop(task)
    if stop.requested:
        if not (task.directory / task.session).exists():
            raise disk.Interrupted("stopped before it began")
        raise disk.RunDirectoryError(
            f"the worker {platform.node()} does not see the locks of {task.directory}: the file system must lock files "
            "across machines; use a directory elsewhere, or workers on one machine"
        )
    with _one_at_a_time, thread_count(task.threads):
        plan, loop = _prepare(task, stop)
        return train_block(plan, loop, block, lambda state: None, checkpoint_seconds=task.checkpoint_seconds, stop=stop)
