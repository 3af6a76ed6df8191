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


# ---- Links of every page ---------------------------------------------------------------------------------------------


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(markdown: str) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, markdown: str) -> list[str]:
    """Relative links to a file or heading that is not there."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", markdown)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" not in link and (
            not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8")))
        ):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_broken_links_are_found() -> None:
    page = ROOT / "README.md"
    assert broken_links(page, "[a](docs/none.md) [b](docs/limits.md#nowhere) [c](#nowhere)") == [
        "docs/none.md",
        "docs/limits.md#nowhere",
        "#nowhere",
    ]
    assert broken_links(page, "[a](docs/limits.md#of-the-theory) [b](https://example.org/x) [c](#install)") == []


def test_the_readme_links_to_tutorials_gallery_and_claims() -> None:
    for page in ("tutorials/practitioner", "tutorials/physicist", "tutorials/pytorch", "gallery", "claims", "README"):
        assert f"(docs/{page}.md" in README
