"""Runs an ensemble in chunks over threads: progress, and an honest partial result after Ctrl-C.

Kernels release Python's lock, so threads are enough. Every trajectory has random numbers of its own: neither the number
of threads nor the size of the chunks changes a result.
"""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int, str], None]
"""Called with (what is done, all that is to be done, a text); here in runs."""

CHUNK = 8192
"""Runs in a chunk: the unit of progress. Far fewer would leave lanes idle while the last runs of a chunk finish."""


def available_threads() -> int:
    """Processors that this process may use.

    Returns:
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_chunks(
    kernel: Callable[[int, int], None],
    runs: int,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
    what: str = "simulating",
    cancel: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Call ``kernel(first, last + 1)`` for all chunks of an ensemble.

    A first Ctrl-C starts no further chunk and waits for those begun: runs that take long must not be missing from what
    is kept, or the mean would be too small. What is kept is always the first so many runs. A second Ctrl-C gives up.

    Args:
        kernel: computes the runs first..last and keeps the results itself.
        runs: in the ensemble, >= 1.
        threads: at most so many chunks at a time; by default one for each processor.
        chunk: runs in a chunk.
        progress: told after each chunk.
        what: is told to it.
        cancel: set at a second Ctrl-C, shape (1,); kernels look at it and return early.

    Returns:
        Number of runs computed; less than asked for after Ctrl-C.

    Raises:
        ValueError: if a number is below 1.
        KeyboardInterrupt: if not even the first chunk was complete, or at a second Ctrl-C.

    Example:
        >>> done = []
        >>> run_in_chunks(lambda first, stop: done.append((first, stop)), 5, threads=1, chunk=2), done
        (5, [(0, 2), (2, 4), (4, 5)])
    """
    width = available_threads() if threads is None else threads
    for name, value in (("runs", runs), ("threads", width), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name}={value} must be >= 1")
    done, begun, interrupted = 0, 0, False
    waiting: dict[Future[None], int] = {}
    with ThreadPoolExecutor(width) as pool:
        while waiting or (begun < runs and not interrupted):
            try:
                while begun < runs and len(waiting) < width and not interrupted:
                    stop = min(begun + chunk, runs)
                    waiting[pool.submit(kernel, begun, stop)] = stop - begun
                    begun = stop
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done += waiting.pop(future)
                if progress is not None:
                    progress(done, runs, what)
            except KeyboardInterrupt:
                if interrupted:
                    if cancel is not None:
                        cancel[0] = True
                    raise
                interrupted = True
    if done == 0:
        raise KeyboardInterrupt
    return done
