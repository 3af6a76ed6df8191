"""Commands that write: a full disk, Ctrl-C and another writer leave whole files, and what was computed is printed."""

import contextlib
import errno
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

import cli
from figures.gallery_figure import GalleryFigure
from nnval.engine import run_directory

BROWNIAN = ("--law", "brownian:distance=1,diffusivity=1")
CURVES = "run,epoch,accuracy\n" + "".join(
    f"{run},{epoch},{min(0.9, epoch / (10 + run)):.3f}\n" for run in range(12) for epoch in range(1, 25)
)
VALLEY = ("--dimension", "5", "--steps", "5")
MIXTURE = ("effective-temperature", "--model", "mixture", "--steps", "10")
PREDICTIONS = {
    "resetting": ("resetting", *BROWNIAN, "--rate", "1"),
    "resetting of curves": ("resetting", "--curves", "curves.csv", "--target", "0.8", "--replicates", "100"),
    "perturbation": ("perturbation", "--chain", "rational", "-P", "2"),
    "advice": ("perturbation", "--curves", "curves.csv", "--target", "0.8", "--replicates", "100"),
    "scan": ("perturbation", "--curves", "curves.csv", "--scan", "0.7:0.8:0.1", "--replicates", "100"),
    "weight-variance": ("weight-variance", "--batches", "4"),
    "effective-temperature": ("effective-temperature", "--batches", "4"),
    "mixture": MIXTURE,
    "widening-valley": ("widening-valley", "--kind", "pgd", *VALLEY),
    "activation-temperature": ("activation-temperature",),
    "adaptive-noise": ("adaptive-noise", "--steps", "50"),
}
WELL = (
    "--potential (x**2-1)**2 --diffusivity 0.15 --epoch 0.2 --time-step 0.02 --initial-mean 0 --initial-deviation 0.3"
)
WELL += " --target 0.8 --limits -2 2 --cells 20"
ORDER = ("--batches", "4", "--order", "anti_pgd", "--runs", "8")
"""Noise that is not of batches, so that none is measured."""

SIMULATIONS = {
    "resetting": ("resetting", *BROWNIAN, "--rate", "1", "-P", "0.5", "--runs", "64"),
    "perturbation": ("perturbation", *WELL.split(), "-P", "2", "-P", "5", "--runs", "64"),
    "weight-variance": ("weight-variance", *ORDER, "--epochs", "20", "--burn-in", "20"),
    "effective-temperature": ("effective-temperature", *ORDER, "--epochs", "20", "--burn-in", "20"),
    "mixture": (*MIXTURE, "--runs", "4", "--dimensions", "40"),
    "widening-valley": ("widening-valley", "--kind", "pgd", "--kind", "anti_pgd", *VALLEY, "--runs", "8"),
    "activation-temperature": ("activation-temperature", "--channels", "1", "--channels", "2", "--runs", "8"),
    "adaptive-noise": ("adaptive-noise", "--steps", "50", "--coordinates", "2", "--runs", "8"),
}
OTHERS = {
    "generate": ("generate", "--out", "out/train.py"),
    "figures": ("figures", "--out", "out"),
    "figures, the page": ("figures", "--list", "--out", "out", "--markdown", "out/gallery.md"),
}
COMMANDS = {f"predict {name}": ("predict", *words, "--out", "out") for name, words in PREDICTIONS.items()}
COMMANDS |= {f"simulate {name}": ("simulate", *words, "--out", "out") for name, words in SIMULATIONS.items()}
COMMANDS |= OTHERS
each_command = pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
some_commands = pytest.mark.parametrize("words", [COMMANDS["predict widening-valley"], *OTHERS.values()])
each_simulation = pytest.mark.parametrize("words", SIMULATIONS.values(), ids=SIMULATIONS)


@functools.cache
def tiny_image() -> bytes:
    from figures.style import png_bytes

    return png_bytes(Figure(figsize=(0.1, 0.1)))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with curves; images cost nothing."""
    import figures.style

    image = tiny_image()
    entries = tuple(
        GalleryFigure(name, "ours", "", "", ("theory",), (), lambda: Figure(figsize=(1, 1)), "All.")
        for name in ("one", "two")
    )
    monkeypatch.setattr("figures.catalogue.catalogue", lambda: entries)
    monkeypatch.setattr(figures.style, "png_bytes", lambda figure: image)
    monkeypatch.chdir(tmp_path)
    Path("curves.csv").write_text(CURVES)
    return tmp_path


def jostle(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


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
    assert set(contents(place)) == {"curves.csv", "file"}


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
