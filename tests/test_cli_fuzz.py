"""Random words on the command line: an answer or one line that says what is wrong; never a traceback, never nan.

The vectors are made of the commands' own options. What would train is given a place that it must refuse.
"""

import random
import re
import string
import traceback
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import cli
from commands.model_choice import ModelCommand

INTEGERS = ("0", "-1", "1", "2", "3", "7", "1_0", "1e9", "9" * 30, "2.5", "nan", "abc", "", "²", "0x10")
FLOATS = ("0", "-0.0", "-1", "0.1", "0.5", "1", "2", "10", "0.999999", "1.0000001", "1e-9", "1e9", "1e308", "5e-324")
FLOATS += ("nan", "inf", "-inf", "abc", "", "٣")
TEXTS = ("", "a", "nan", "a=b", "1:2", "0.7:0.9:0.1", "a:100=x.csv", "=", ":", ",", "\x00", "\u202e", "-", "x" * 500)
TEXTS += (
    "brownian",
    "brownian:distance=1,diffusivity=1",
    "brownian:distance=-1,diffusivity=1",
    "gamma:shape=2,scale=nan",
)
TEXTS += ("exponential:rate=1", "weibull:shape=0.5,scale=1", "interval:length=1,start=2,diffusivity=1", "gamma:1,2")
TEXTS += ("log_normal:location=0,deviation=1", "ornstein_uhlenbeck:start=0,target=1,stiffness=1,diffusivity=1")
TEXTS += ("x**2", "(x**2-1)**2", "x**", "__import__('os')", "x**x**x", "1/x", "double_well", "trap_with_barrier", "y")
TEXTS += (
    "rational",
    "hidden_label",
    "full_reset",
    "shrink_perturb",
    "shrink_perturb:0.4,0.1",
    "shrink_perturb:shrink=0",
)
TEXTS += ("reshuffled", "with_replacement", "shuffled_once", "persistent:tau=3", "reshuffled_every:epochs=3")
TEXTS += (
    "bernoulli:b=0.25",
    "bernoulli:b=2",
    "linear",
    "door",
    "square",
    "full:high=nan",
    "digits-demo",
    "digits",
    "tiny",
)
FILES = {
    "empty.csv": b"",
    "binary.csv": bytes(range(256)) * 8,
    "two rows.csv": b"0.1,0.5,0.9\n0.2,0.3,0.95\n",
    "text.csv": b"run,epoch,accuracy\na,1,high\na,2,higher\n",
    "cut off.csv": b"run,epoch,accuracy\na,1,0.5\na,2",
    "Läufe ü.csv": "run,epoch,précision\nä,1,0.5\nä,2,0.9\nb,1,0.2\nb,2,0.95\n".encode(),
    "nan.csv": b"nan,nan\nnan,nan\n",
    "long.csv": b"run,epoch,accuracy\n"
    + b"".join(b"%d,%d,%.3f\n" % (r, e, e / 40) for r in range(6) for e in range(40)),
    "not.json": b'{"schema": 1, ',
    "not.npz": b"PK\x03\x04 and no more",
}
SMALL = {"runs": "4", "epochs": "4", "steps": "10", "burn_in": "4", "replicates": "100", "coordinates": "2"}
SMALL |= {"cells": "10", "dimension": "10", "batches": "4", "patterns": "100"}
"""Given where the vector does not say otherwise, so that a simulation takes a moment."""

NEVER = {"help", "latex", "download", "scheduler", "compile", "threads", "workers", "device"}
"""Minutes of algebra, the network, other machines and processes."""

TRAINS = ("train", "validate")
GIVEN_NAN = re.compile(r"nan", re.IGNORECASE)
PRINTED_NAN = re.compile(r"(?<![a-z])nan(?![a-z])", re.IGNORECASE)


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words that choose a command, and what has its options."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif isinstance(command, ModelCommand):
            yield from (((*path, name, "--model", model), each) for model, each in command.models.items())
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(cli.main))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that nobody should trust, a directory, and what is in the way."""
    directory = tmp_path_factory.mktemp("fuzz")
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    (directory / "directory").mkdir()
    return directory


def word(kind: click.ParamType, chance: random.Random, places: Path) -> str:
    """A value, mostly of the right kind."""
    if isinstance(kind, click.Choice) and chance.random() < 0.8:
        return str(chance.choice(list(kind.choices)))
    if isinstance(kind, click.Path) and chance.random() < 0.9:
        return str(places / chance.choice([*FILES, "directory", "missing.csv", "empty.csv/below"]))
    odd = chance.random()
    if odd < 0.05:
        return "".join(chance.choices(string.printable + "äπ²", k=chance.randrange(12)))
    if odd < 0.1:
        return chance.choice(INTEGERS + FLOATS + TEXTS)
    if isinstance(kind, click.types.IntParamType):
        return chance.choice(INTEGERS)
    return chance.choice(FLOATS if isinstance(kind, click.types.FloatParamType) else TEXTS)


def vector(path: tuple[str, ...], chance: random.Random, places: Path) -> list[str]:
    """Words for a command."""
    command, words, given = COMMANDS[path], list(path), set()
    options = [option for option in command.params if isinstance(option, click.Option) and option.name not in NEVER]
    for option in chance.sample(options, min(chance.choice((0, 1, 1, 2, 2, 3, 4, 6)), len(options))):
        given.add(option.name)
        name = max(chance.choice((option.opts, option.secondary_opts or option.opts)), key=len)
        if option.is_flag:
            words.append(name)
        elif option.name == "out":
            words += [name, str(places / chance.choice([*FILES, "directory", f"new {chance.randrange(10**9)}"]))]
        else:
            types = option.type.types if isinstance(option.type, click.Tuple) else [option.type] * max(option.nargs, 1)
            words += [name, *(word(kind, chance, places) for kind in types)]
    for option in options:
        if path[:2] == ("simulate", "weight-variance") and option.opts[0] == "--order" and option.name not in given:
            words += ["--order", "anti_pgd"]  # of other orders the noise of batches is measured, for seconds
        cheap = SMALL.get(option.name or "")
        if cheap and option.name not in given and path[0] not in ("generate", *TRAINS):
            words += [option.opts[0], cheap]
    if any(isinstance(parameter, click.Argument) for parameter in command.params):
        words.append(word(click.Path(), chance, places) if path[0] != "figures" else chance.choice(TEXTS))
    if path[0] in TRAINS and "show_preset" not in given:
        words += ["--out", str(places / "empty.csv")]  # the last --out counts
    if path[0] == "figures":
        words += chance.choice((["--list"], ["--out", str(places / "empty.csv")]))
    if path == ("generate",) and "out" not in given:
        words += ["--out", str(places / f"script {chance.randrange(10**9)}.py")]
    return words


def complaint(words: list[str], result: Result) -> str | None:
    """What is wrong with the answer to some words."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))
    allowed = (0, cli.FAILED, cli.USAGE, cli.DISAGREES)
    if result.exit_code not in allowed:
        return f"exit code {result.exit_code}"
    if result.exit_code in (cli.FAILED, cli.USAGE) and "Error: " not in result.stderr:
        return "no line that begins with Error"
    if result.exit_code == cli.FAILED and not re.search("could not|cannot|[Ff]ile|[Dd]irectory", result.stderr):
        return "failed, and not by a file"
    if "Traceback" in result.output:
        return "a traceback was printed"
    if PRINTED_NAN.search(result.stdout) and not GIVEN_NAN.search(" ".join(words[2:])):
        return "nan was printed"
    return None


def complaints(path: tuple[str, ...], number: int, seed: int, places: Path) -> list[str]:
    runner, found = CliRunner(), []
    for index in range(number):
        words = vector(path, random.Random(f"{seed} {path} {index}"), places)
        if wrong := complaint(words, result := runner.invoke(cli.main, words)):
            found.append(f"{words}\n{wrong}\n{result.output[-500:]}")
    return found


@pytest.mark.parametrize("path", COMMANDS, ids="-".join)
def test_random_words_give_an_answer_or_an_error(path: tuple[str, ...], places: Path) -> None:
    assert not complaints(path, 4, 0, places)
    assert {name: (places / name).read_bytes() for name in FILES} == FILES, "a file that was in the way was changed"


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids="-".join)
def test_many_random_words_give_an_answer_or_an_error(path: tuple[str, ...], places: Path, seed: int) -> None:
    assert not complaints(path, 60, seed + 1, places)
    assert {name: (places / name).read_bytes() for name in FILES} == FILES, "a file that was in the way was changed"


def test_the_check_finds_what_it_looks_for() -> None:
    @click.command()
    @click.option("--how")
    def wrong(how: str) -> None:
        if how == "raise":
            raise KeyError(how)
        click.echo(f"the mean is {how}")

    outcomes = {how: complaint(["x", "y"], CliRunner().invoke(wrong, ["--how", how])) for how in ("raise", "nan", "1")}
    assert "KeyError" in str(outcomes["raise"])
    assert outcomes["nan"] == "nan was printed"
    assert outcomes["1"] is None
