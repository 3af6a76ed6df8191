"""The README keeps its promises: commands parse, Python runs, files exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

import cli
from tests.markdown_blocks import markdown_blocks

ROOT = Path(cli.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return [block.text for block in markdown_blocks(README, language)]


COMMANDS = [command for block in markdown_blocks(README, "console") for command, _ in block.commands]


def test_there_is_something_to_test():
    assert len(COMMANDS) >= 4
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("jostle")])
def test_commands_have_the_options_that_they_use(command):
    _, *words = shlex.split(command)
    group = cli.main
    while isinstance(group, click.Group):
        group = group.commands[words.pop(0)]
    group.make_context("jostle", words)  # parses, and would raise for an unknown option


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(command):
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run_and_say_the_truth(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    promised = [line.split("  # ")[1] for line in code.splitlines() if line.startswith("print(")]
    for output, promise in zip(printed, promised, strict=True):
        for number in re.findall(r"\d+(?:\.\d+)?", promise):
            assert number in output


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
