"""Commands of jostle as a user calls them, and what the tests of several commands ask of each of them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli

NETWORKS = """
from torch import nn

def dropping(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.1), nn.Linear(8, classes))

def normalising(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
"""
"""Whose loss is no function of their weights."""


def jostle(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def files_of(directory: Path) -> dict[Path, int]:
    """When each file was written, but for the locks."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


def rows_of(path: Path) -> list[dict[str, str]]:
    """Of a table in a .csv file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def text_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def own_networks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """NETWORKS as a module of the user, beside whom the command is started; its name."""
    (directory / "networks_of_the_user.py").write_text(NETWORKS)
    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(directory)
    return "networks_of_the_user"


def record_of(result: Result) -> dict[str, Any]:
    """The one object that --json and --quiet leave."""
    assert result.stderr == ""
    return json.loads(result.stdout)


def check_help(*command: str, examples: int = 1) -> None:
    """It names the command at least that often."""
    result = jostle(*command, "-h")
    assert result.exit_code == 0, result.output
    assert result.output.count(" ".join(["jostle", *command])) >= examples


def check_finished(result: Result, codes: tuple[int, ...] = (0,)) -> None:
    """An experiment came to its end and wrote its report."""
    assert result.exit_code in codes, result.output
    assert "report.html" in result.stderr


def check_only_read(directory: Path, again: Callable[[], Result]) -> None:
    """The same command again trains and writes nothing, and shows the same."""
    before = files_of(directory)
    first = again()
    assert "finished already; nothing was trained" in first.stderr
    assert files_of(directory) == before
    assert again().stdout == first.stdout


def check_refused(result: Result, message: str, out: Path) -> None:
    """A usage error before anything is written."""
    assert result.exit_code == cli.USAGE == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


def check_bad_presets(command: Callable[..., Result], directory: Path, messages: dict[str, str]) -> None:
    """Of the text of each: the message."""
    for text, message in messages.items():
        preset = text_file(directory / "bad.toml", text)
        check_refused(command("--preset", preset, "--out", directory / "run"), message, directory / "run")


def stopped_when(experiment: Callable[..., Any], when: Callable[[int, int, str], bool]) -> Callable[..., Any]:
    """The experiment, at which somebody presses Ctrl-C when its progress is such."""

    def stopping(*arguments: Any, **options: Any) -> Any:
        def report(done: int, total: int, text: str) -> None:
            if when(done, total, text):
                raise KeyboardInterrupt

        return experiment(*arguments, **options | {"progress": report})

    return stopping


def check_stopped(result: Result, out: Path) -> None:
    """Ctrl-C ended it with the advice to go on, and before there were results."""
    assert result.exit_code == cli.STOPPED == 4
    assert "run the same command again" in result.output
    assert not (out / "comparisons.json").exists()
