"""Several ensembles side by side, one process each, with one progress."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnval.engine.branch import Branch
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import EnsembleResult, Progress, train_ensemble
from nnval.engine.run_directory import Interrupted


@dataclass(frozen=True)
class EnsembleTask:
    """An ensemble to train.

    Attributes:
        config: what to train.
        directory: of the run.
        name: for the progress.
        work: member-epochs expected; its weight in the progress.
        parents: survivors of another run to begin with.
    """

    config: TrainingConfig
    directory: Path
    name: str
    work: int
    parents: Branch | None = None


def train_all(
    tasks: Sequence[EnsembleTask], *, workers: int = 1, threads: int | None = 1, progress: Progress | None = None
) -> list[EnsembleResult]:
    """Train several ensembles, in this process or in several.

    The results do not depend on the number of workers.

    Args:
        tasks: what to train; what is finished is read.
        workers: processes; 1 trains in this one.
        threads: of torch in each process.
        progress: called with completed and all member-epochs and a text, from another thread if there are workers.

    Returns:
        The results, in the order of the tasks.

    Raises:
        ValueError: if workers is below 1, or as ``train_ensemble``.
        StorageError: if a file cannot be written; everything can be resumed.
        Interrupted: after Ctrl-C, or if a worker was killed; everything can be resumed.
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be >= 1")
    board = _ProgressBoard(tasks, progress)
    if workers == 1 or len(tasks) < 2:
        return [_train(task, threads, board.reporter(number)) for number, task in enumerate(tasks)]
    context = prepare_workers()
    queue, stop = context.SimpleQueue(), context.Event()
    reader = threading.Thread(target=board.follow, args=(queue,), daemon=True)
    reader.start()
    try:
        with ProcessPoolExecutor(min(workers, len(tasks)), context, _initialise_worker, (queue, stop)) as executor:
            futures = [executor.submit(_train_in_worker, task, n, threads) for n, task in enumerate(tasks)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop.set()  # the others save their epoch and end
                executor.shutdown(wait=True, cancel_futures=True)
                raise
    except KeyboardInterrupt:
        raise Interrupted("stopped; run the same command again to go on from there") from None
    except BrokenProcessPool:
        raise Interrupted(
            "a worker process was killed (out of memory?); run the same command again to go on, with fewer workers"
        ) from None
    finally:
        queue.put(None)
        reader.join()


def prepare_workers() -> Any:
    """How worker processes are started; called early, it lets them import torch while something else is done.

    Returns:
        The multiprocessing context: a fork server, which imports torch once for all workers and, unlike a plain fork,
        is safe beside threads; fresh interpreters where there is none.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nnval.engine.ensemble", "sklearn.datasets"])
    forkserver.ensure_running()
    return context


class _ProgressBoard:
    """Adds up the progress of all tasks."""

    def __init__(self, tasks: Sequence[EnsembleTask], progress: Progress | None) -> None:
        self._tasks, self._progress = tasks, progress
        self._done = [0] * len(tasks)

    def report(self, number: int, done: int, total: int, text: str) -> None:
        # A branch has as many members as there are survivors, which is known only now: scaled to the work announced.
        self._done[number] = round(self._tasks[number].work * done / max(total, 1))
        if self._progress is not None:
            whole = sum(task.work for task in self._tasks)
            self._progress(sum(self._done), whole, f"{self._tasks[number].name}: {text}")

    def reporter(self, number: int) -> Progress:
        return lambda done, total, text: self.report(number, done, total, text)

    def follow(self, queue: Any) -> None:
        """Reports what the workers put into the queue until there comes a None."""
        while (item := queue.get()) is not None:
            try:
                self.report(*item)
            except Exception:  # the reader of a pipe has gone, say: losing the bar must not stop the training
                self._progress = None


def _train(task: EnsembleTask, threads: int | None, progress: Progress) -> EnsembleResult:
    result = train_ensemble(task.config, task.directory, parents=task.parents, progress=progress, threads=threads)
    progress(1, 1, "done")
    return result


_worker: dict[str, Any] = {}
"""What a worker process was given when it was started."""


def _initialise_worker(queue: Any, stop: Any) -> None:
    _worker.update(queue=queue, stop=stop)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """If the process that asked for the runs is killed, so are its workers: they would hold the directories."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # runs on disk survive this at any instant


def _train_in_worker(task: EnsembleTask, number: int, threads: int | None) -> EnsembleResult:
    def progress(done: int, total: int, text: str) -> None:
        if _worker["stop"].is_set():
            raise Interrupted("stopped; run the same command again to go on from there")
        _worker["queue"].put((number, done, total, text))

    return _train(task, threads, progress)
