"""Processes that train blocks: joblib's loky on this machine, or the workers of a Dask cluster.

Both are executors of ``concurrent.futures``. Dask is used through its own executor and not through joblib's backend,
which waits forever for a task that Dask has given up.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from nnval.engine.run_directory import Interrupted

_CONNECT_SECONDS = 10


class Pool(Protocol):
    """Processes that train blocks."""

    size: int
    """Blocks at once."""

    slots: int | None
    """Tasks to hand over at once; None for all."""

    def submit(self, function: Callable[..., bool], *arguments: Any) -> "Future[bool]":
        """Hands over a task."""
        ...

    def renew(self, error: BaseException) -> None:
        """Goes on after workers were lost.

        Raises:
            Interrupted: if there is no use in it.
        """
        ...

    def close(self) -> None:
        """Ends the workers, or what binds them to this process."""
        ...


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int, threads: int | None) -> Iterator[Pool | None]:
    """The processes that were asked for; None for this one.

    Raises:
        ValueError: if the scheduler needs what is not installed.
        ConnectionError: if it cannot be reached.
    """
    if scheduler is None and workers == 1:
        yield None
        return
    pool = _LokyPool(workers, threads) if scheduler is None else _DaskPool(scheduler)
    try:
        yield pool
    finally:
        pool.close()


class _LokyPool:
    """Fresh interpreters on this machine, which end with this process and know nothing of Ctrl-C."""

    def __init__(self, workers: int, threads: int | None) -> None:
        self.size = workers
        self.slots: int | None = workers
        self._threads = threads
        self._executor: Executor | None = None

    def _started(self) -> Executor:
        if self._executor is None:
            from joblib.externals.loky import ProcessPoolExecutor  # here, because one process does without it

            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            self._executor = ProcessPoolExecutor(
                self.size,
                env={} if self._threads is None else dict.fromkeys(names, str(self._threads)),
                initializer=_initialise_worker,
                initargs=(os.getpid(),),
            )
        return self._executor

    def submit(self, function: Callable[..., bool], *arguments: Any) -> "Future[bool]":
        executor = self._started()
        # Workers begin here, and inherit that the signal is blocked: Ctrl-C, which goes to the whole group of
        # processes, would kill one that is just importing torch.
        with _interrupts_blocked():
            return executor.submit(function, *arguments)

    def renew(self, error: BaseException) -> None:
        self.close()

    def close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:  # killed: what they have is on disk, and leaving Python in good order takes a second
            executor.shutdown(wait=True, kill_workers=True)  # pyright: ignore[reportCallIssue] -- loky has it


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _initialise_worker(parent: int) -> None:
    """In a worker: if the process that gave the tasks is killed, so is this one: it would hold its block."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # runs on disk survive this at any instant

    threading.Thread(target=watch, daemon=True).start()


class _DaskPool:
    """The workers of a Dask cluster; a task whose worker is lost goes to another one."""

    slots: int | None = None

    def __init__(self, address: str) -> None:
        if "://" not in address:
            raise ValueError(f"scheduler={address!r} must be an address such as tcp://host:8786")
        try:
            from distributed import Client
        except ImportError:
            raise ValueError(
                f"scheduler={address!r} needs dask.distributed, which is missing: pip install 'jostle[cluster]'"
            ) from None
        try:
            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"no Dask scheduler answers at {address} ({error}); start one with 'dask scheduler', and workers with "
                "'dask worker ADDRESS'"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except OSError:
            self._client.close()
            raise ConnectionError(f"{address} has no workers; start some with 'dask worker {address}'") from None
        self.size = sum(self._client.nthreads().values())  # pyright: ignore[reportAttributeAccessIssue] -- a dict
        self._executor = self._client.get_executor(pure=False)

    def submit(self, function: Callable[..., bool], *arguments: Any) -> "Future[bool]":
        return self._executor.submit(function, *arguments)

    def renew(self, error: BaseException) -> None:
        raise Interrupted(
            f"Dask gave up a block ({error}): its workers died (out of memory?) or the scheduler has gone; run the "
            "same command again to go on, with fewer workers or threads per worker"
        ) from error

    def close(self) -> None:
        self._executor.shutdown(wait=False)
        self._client.close()
