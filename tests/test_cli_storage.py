"""Commands that write: a full disk, Ctrl-C and another writer leave whole files, and what was computed is printed."""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import cli
from nnval.engine import run_directory
from tests.command_line import jostle
from tests.writing_commands import COMMANDS, OTHERS, SIMULATIONS, contents, workplace

each_command = pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
some_commands = pytest.mark.parametrize("words", [COMMANDS["predict widening-valley"], *OTHERS.values()])
each_simulation = pytest.mark.parametrize("words", SIMULATIONS.values(), ids=SIMULATIONS)


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    with workplace(tmp_path) as directory:
        yield directory


def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """So many files fit, and half of the next."""
    right, written = run_directory._write, []

    def write(descriptor: int, content: bytes) -> None:
        if len(written) == room:
            right(descriptor, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(descriptor)
        right(descriptor, content)

    monkeypatch.setattr(run_directory, "_write", write)


@each_command
def test_full_disk(words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = jostle(*words)
    assert first.exit_code in (0, cli.DISAGREES), first.output
    assert contents(place / "out")
    if words[0] == "generate":  # it refuses to write again what is there
        (place / "out" / "train.py").write_text("# mine\n")
        words = (*words, "--overwrite")
    before = contents(place / "out")
    with monkeypatch.context() as patch:
        full_disk(patch, 0)
        run = jostle(*words)
    assert run.exit_code == cli.FAILED, run.output
    assert "Error: could not write out/" in run.stderr
    assert "(No space left on device); make room or choose another --out, and run it again" in run.stderr
    assert contents(place / "out") == before, "an earlier result was lost, or half of a new one is there"
    if words[0] in ("predict", "simulate"):
        assert run.stdout == first.stdout, "what was computed must be printed before it is written"


@some_commands
def test_ctrl_c_while_files_are_written(words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(descriptor: int, content: bytes) -> NoReturn:
        os.write(descriptor, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(run_directory, "_write", pressed)
    run = jostle(*words)
    assert run.exit_code == cli.STOPPED, run.output
    assert run.stderr.splitlines()[-1].startswith("stopped")
    assert contents(place / "out") == {}
    assert (run.stdout != "") == (words[0] in ("predict", "simulate"))


@contextlib.contextmanager
def bar_that_stops(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar that presses Ctrl-C when it is told of the first progress."""
    assert not quiet
    yield lambda done, total, text: signal.raise_signal(signal.SIGINT)


@each_simulation
def test_ctrl_c_in_a_simulation(words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import shared

    monkeypatch.setattr(shared, "progress_bar", bar_that_stops)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # parallel test processes ignore the signal
    try:
        more = ("--order", "with_replacement") if "--order" in words else ()  # else all is complete by then
        run = jostle("simulate", *words, *more, "--threads", 1, "--out", "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.exit_code == cli.STOPPED, run.output
    assert run.stderr.splitlines()[-1].startswith("stopped")
    assert bool(contents(place / "out")) == bool(run.stdout), "what is printed is written, and nothing else"
    if run.stdout:
        assert "stopped early; the table holds the runs that were complete" in run.stderr


def test_two_writers_of_one_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both have the file open at the same time; whoever is last wins, whole.
    right, both = run_directory._write, threading.Barrier(2, timeout=10)

    def write(descriptor: int, content: bytes) -> None:
        right(descriptor, content[:3])
        both.wait()
        right(descriptor, content[3:])
        both.wait()

    monkeypatch.setattr(run_directory, "_write", write)
    writers = [
        threading.Thread(target=run_directory.write_whole, args=(place / "file", text)) for text in (b"a" * 9, b"b" * 5)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (place / "file").read_bytes() in (b"a" * 9, b"b" * 5)
    assert not list(place.glob(".file.*"))


@each_command
def test_an_unusable_place_is_noticed_before_anything_is_computed(
    words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "out").write_bytes(b"mine")
    run = jostle(*words)
    assert run.exit_code in (cli.FAILED, cli.USAGE), run.output
    assert "Error: " in run.stderr
    assert "out" in run.stderr
    assert run.stdout == ""
    assert (place / "out").read_bytes() == b"mine"
