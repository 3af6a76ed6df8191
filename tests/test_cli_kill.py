"""Commands that are killed, or whose disk is full, at any write: whole files only, and the same command finishes alike.

In these tests a killed process is one in which no call to the operating system that changes files does anything any
more; test_cli_kill_processes.py kills real ones.
"""

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cli
from tests.command_line import jostle
from tests.writing_commands import COMMANDS, EXPERIMENTS, contents, workplace

CALLS = ("open", "write", "fsync", "replace", "ftruncate", "unlink", "mkdir")
QUICK = ("predict widening-valley", "simulate widening-valley", "generate", "figures", "figures, the page")


def each(commands: dict[str, tuple[Any, ...]], *quick: str) -> pytest.MarkDecorator:
    """All of them; the quick ones always."""
    marked = [
        pytest.param(words, marks=() if name in quick else pytest.mark.slow, id=name)
        for name, words in commands.items()
    ]
    return pytest.mark.parametrize("words", marked)


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Fuse:
    """Lets so many calls for files in ``out`` through; the next does half of its work or none, and then all fail."""

    def __init__(self, patch: pytest.MonkeyPatch, calls: float, names: tuple[str, ...], failure: Callable[[], Any]):
        self.done, self._calls, self._names, self._failure = 0, calls, names, failure
        self._write, self._descriptors = os.write, set[int]()
        for name in {*names, "open"}:
            patch.setattr(os, name, self._fused(name, getattr(os, name)))

    def _fused(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*arguments: Any, **options: Any) -> Any:
            target = arguments[0]
            ours = target in self._descriptors if isinstance(target, int) else Path(target).parts[:1] == ("out",)
            if ours and name in self._names:
                self.done += 1
                if self.done > self._calls:
                    if name == "write" and self.done == self._calls + 1:
                        self._write(target, arguments[1][: len(arguments[1]) // 2])
                    raise self._failure()
            answer = function(*arguments, **options)
            if name == "open":
                (self._descriptors.add if ours else self._descriptors.discard)(answer)
            return answer

        return fused


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its clocks tick when they are read: durations do not vary, and a checkpoint is always due."""
    for clock, tick in (("process_time", 1.0), ("perf_counter", 1.0), ("monotonic", 3600.0)):
        ticks = itertools.count()
        monkeypatch.setattr(time, clock, lambda ticks=ticks, tick=tick: tick * next(ticks))
    with workplace(tmp_path) as directory:
        yield directory


def uninterrupted(words: tuple[Any, ...], names: tuple[str, ...]) -> tuple[dict[str, bytes], int]:
    """What a command writes, and with how many calls."""
    with pytest.MonkeyPatch.context() as patch:
        fuse = Fuse(patch, float("inf"), names, Killed)
        result = jostle(*words)
    assert result.exit_code in (0, cli.DISAGREES), result.output
    whole = contents(Path("out"))
    assert whole
    shutil.rmtree("out")
    return whole, fuse.done


def places(calls: int, number: int) -> list[int]:
    """Calls spread over all of them, the last one with them."""
    return sorted({(calls - 1) * part // number for part in range(1, number + 1)})


def killed_and_again(words: tuple[Any, ...], number: int, *, at_once: bool) -> None:
    whole, calls = uninterrupted(words, CALLS)
    for call in places(calls, number):
        with pytest.MonkeyPatch.context() as patch:
            Fuse(patch, call, CALLS, Killed)
            with pytest.raises(Killed):
                jostle(*words)
        there = {name: content for name, content in contents(Path("out")).items() if not name.endswith(".tmp")}
        if at_once:
            assert there.items() <= whole.items(), f"half a file under its name after {call} of {calls} calls"
        result = jostle(*words)
        assert result.exit_code in (0, cli.DISAGREES), result.output
        assert contents(Path("out")) == whole, f"killed after {call} of {calls} calls"
        shutil.rmtree("out")


@each(COMMANDS, *QUICK)
def test_killed_while_it_writes(words: tuple[str, ...]) -> None:
    killed_and_again(words, 2, at_once=True)


@each(COMMANDS)
def test_killed_at_many_writes(words: tuple[str, ...]) -> None:
    killed_and_again(words, 6, at_once=True)


@each(EXPERIMENTS, "train", "validate widening-valley")
def test_an_experiment_killed_while_it_writes(words: tuple[str, ...]) -> None:
    killed_and_again(words, 2, at_once=False)


@each(EXPERIMENTS, "train")
def test_an_experiment_on_a_full_disk(words: tuple[str, ...]) -> None:
    whole, calls = uninterrupted(words, ("write",))
    for call in places(calls, 3):
        with pytest.MonkeyPatch.context() as patch:
            Fuse(patch, call, ("write",), no_space)
            result = jostle(*words)
        assert result.exit_code == cli.FAILED, result.output
        assert "could not write out" in result.stderr
        assert "No space left on device" in result.stderr
        again = jostle(*words)
        assert again.exit_code in (0, cli.DISAGREES), again.output
        assert contents(Path("out")) == whole, f"the disk was full at {call} of {calls} writes"
        shutil.rmtree("out")


@each(COMMANDS, *QUICK)
def test_another_process_writes_the_same_in_between(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = uninterrupted(words, ("write",))
    middle, done, write = calls // 2, itertools.count(), os.write

    def interrupted(descriptor: int, content: Any) -> int:
        if next(done) == middle:
            monkeypatch.setattr(os, "write", write)
            other = jostle(*words)
            assert other.exit_code in (0, cli.DISAGREES), other.output
            assert contents(Path("out")).items() >= whole.items()
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", interrupted)
    result = jostle(*words)
    assert result.exit_code in (0, cli.DISAGREES), result.output
    assert contents(Path("out")) == whole
