"""Chunks over threads: nothing twice or missing, and what Ctrl-C leaves."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba import njit

from sim import ensemble
from sim.compilation import announced_compilation
from sim.ensemble import available_threads, run_in_chunks
from sim.first_passage import Diffusion, simulate_diffusion
from sim.random_streams import stream

Report = tuple[int, int, str]


class Counter:
    """A kernel that counts how often each run was computed."""

    def __init__(self, runs: int) -> None:
        self.times = np.zeros(runs, int)

    def __call__(self, first: int, stop: int) -> None:
        assert 0 <= first < stop <= len(self.times)
        self.times[first:stop] += 1


class InterruptedProgress:
    """Presses Ctrl-C at given reports, counted from 1."""

    def __init__(self, *at: int) -> None:
        self.at, self.reports = at, list[Report]()

    def __call__(self, done: int, runs: int, what: str) -> None:
        self.reports.append((done, runs, what))
        if len(self.reports) in self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
@pytest.mark.parametrize(("runs", "chunk"), [(1, 1), (1, 8192), (10, 3), (12, 3), (1000, 1), (8193, 8192)])
def test_each_run_is_computed_once(runs: int, chunk: int, threads: int | None) -> None:
    counter, reports = Counter(runs), list[Report]()
    done = run_in_chunks(
        counter, runs, threads=threads, chunk=chunk, progress=lambda *told: reports.append(told), what="counting"
    )
    assert done == runs
    assert (counter.times == 1).all()
    told = [report[0] for report in reports]
    assert told == sorted(set(told))
    assert reports[-1] == (runs, runs, "counting")
    assert {report[1:] for report in reports} == {(runs, "counting")}


def test_progress_is_told_after_each_chunk() -> None:
    reports: list[Report] = []
    run_in_chunks(Counter(10), 10, threads=1, chunk=4, progress=lambda *told: reports.append(told))
    assert reports == [(4, 10, "simulating"), (8, 10, "simulating"), (10, 10, "simulating")]


def test_no_more_threads_than_asked_for() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def kernel(first: int, stop: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    run_in_chunks(kernel, 30, threads=3, chunk=1)
    assert 1 < most[0] <= 3
    assert available_threads() >= 1


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_interrupt_keeps_the_first_runs(at: int, threads: int) -> None:
    counter, progress = Counter(1000), InterruptedProgress(at)
    done = run_in_chunks(counter, 1000, threads=threads, chunk=10, progress=progress)
    # What has begun is completed, and no more.
    assert 10 * at <= done <= 10 * threads * (at + 1)
    assert counter.times.tolist() == [1] * done + [0] * (1000 - done)
    assert progress.reports[-1][0] in (done, progress.reports[at - 1][0])


def test_interrupt_at_the_end_loses_nothing() -> None:
    assert run_in_chunks(Counter(20), 20, threads=1, chunk=10, progress=InterruptedProgress(2)) == 20


def test_second_interrupt_stops_at_once() -> None:
    counter = Counter(1000)
    with pytest.raises(KeyboardInterrupt):
        # Four chunks are under way at the first one, so that there is a second report.
        run_in_chunks(_slowly(counter), 1000, threads=4, chunk=10, progress=InterruptedProgress(1, 2))
    assert counter.times.sum() < 200


def _slowly(kernel: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def slow(first: int, stop: int) -> None:
        threading.Event().wait(0.002 * (first // 10 % 4))
        kernel(first, stop)

    return slow


def test_interrupt_before_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(ensemble, "ThreadPoolExecutor", Interrupted)
    counter = Counter(10)
    with pytest.raises(KeyboardInterrupt):
        run_in_chunks(counter, 10, threads=1, chunk=5)
    assert counter.times.sum() == 0


def test_interrupted_simulation_is_a_prefix(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    small = Diffusion(np.array([1.0]), 0.5, 0.0, 1.0)
    whole = simulate_diffusion(small, 20_000, stream(seed, "prefix"), threads=1)
    part = simulate_diffusion(small, 20_000, stream(seed, "prefix"), threads=1, progress=InterruptedProgress(1))
    assert (whole.n, part.n, part.requested) == (20_000, ensemble.CHUNK, 20_000)
    assert len(part.arrived) == len(part.at_upper) == len(part.restarts) == part.n
    assert part.times.tolist() == whole.times[: part.n].tolist()


# ---- Errors ----------------------------------------------------------------------------------------------------------


def test_errors_of_a_kernel_are_raised() -> None:
    def kernel(first: int, stop: int) -> None:
        if first >= 20:
            raise RuntimeError(f"run {first}")

    with pytest.raises(RuntimeError, match="run 20"):
        run_in_chunks(kernel, 100, threads=1, chunk=10)


@pytest.mark.parametrize(("runs", "threads", "chunk"), [(0, 1, 1), (1, 0, 1), (1, -1, 1), (1, 1, 0)])
def test_refuses(runs: int, threads: int, chunk: int) -> None:
    with pytest.raises(ValueError, match=r"(runs|threads|chunk)=(0|-1) must be >= 1"):
        run_in_chunks(Counter(1), runs, threads=threads, chunk=chunk)


# ---- Compilation -----------------------------------------------------------------------------------------------------


def test_compilation_is_announced_once() -> None:
    one = njit(lambda x: x + 1)
    other = njit(lambda x: x * 2)
    told: list[str] = []
    with announced_compilation(told.append):
        assert (one(1), other(1), one(1.5)) == (2, 2, 2.5)
    assert told == ["compiling the simulator for this processor, once: about ten seconds"]
    with announced_compilation(told.append):
        assert (one(2), other(2)) == (3, 4)  # compiled already
    assert other(0.5) == 1.0  # outside: nobody is told
    assert len(told) == 1


def test_second_interrupt_stops_a_kernel_that_would_never_end() -> None:
    cancel = np.zeros(1, np.bool_)
    entered = threading.Event()

    def kernel(first: int, _stop: int) -> None:
        entered.set()
        while first > 0 and not cancel[0]:  # the first chunk ends, the others never would
            time.sleep(0.001)

    def progress(_done: int, _total: int, _what: str) -> None:
        raise KeyboardInterrupt

    # Test processes that run side by side ignore Ctrl-C, each waiting to be told by the first.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in_chunks(kernel, 30, threads=2, chunk=10, progress=progress, cancel=cancel)
    finally:
        signal.signal(signal.SIGINT, before)
    assert entered.is_set()
    assert cancel[0]
