"""The tutorials run, and print what they show.

Blocks of a file are executed in order, in one temporary directory and one Python namespace: ``python`` by exec; of
``console`` each ``$ jostle`` in this process, ``$ python`` as a process. What they print on stdout is held against the
lines below a command, or the ``text`` block behind a ``python`` block:

- ``...`` alone in a line stands for any number of lines. Spaces and rules of dashes may be longer or shorter.
- Words must be equal. Numbers may differ by one unit of the last digit shown: they come from numpy and numba with
  given seeds, and differ between processors by rounding only.
- ``<!-- varies -->`` before a block: torch's training is in it, which is chaotic, so that another processor gives other
  numbers. Any number may stand in place of another then, any verdict (agrees, disagrees, outside regime) in place of
  another, and exit code 3 (theory and measurement disagree) is as good as 0. Other words and lines must be there.
- ``<!-- slow -->`` before a block: run by the slow test only. Blocks behind it don't need it.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from tests.markdown_blocks import Block, markdown_blocks

DOCS = Path(cli.__file__).parent / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
VERDICT = re.compile(r"\b(agrees|disagrees|outside regime( \[[\d,]+\])?)$")
NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
LIGHTNINGS_OWN = "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning:lightning"


def blocks_of(path: Path) -> list[Block]:
    return markdown_blocks(path.read_text(encoding="utf-8"), "python", "console", "text")


# ---- Is what was printed what is shown? -----------------------------------------------------------------------------


def last_digit(number: str) -> float:
    """One unit of it: 0.01 of 3.14, 1 of 1,234, 1e-5 of 2.5e-4."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def are_alike(shown: str, printed: str, *, varies: bool) -> bool:
    def words(line: str) -> str:
        line = VERDICT.sub("?", line) if varies else line
        return re.sub(r"-{3,}", "---", " ".join(NUMBER.sub(" # ", line).split()))

    if words(shown) != words(printed):
        return False
    if varies:
        return True
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 1.001 * last_digit(a) for a, b in pairs)


def is_shown(shown: Sequence[str], printed: Sequence[str], *, varies: bool = False) -> bool:
    if not shown:
        return not printed
    if shown[0].strip() == "...":
        return any(is_shown(shown[1:], printed[k:], varies=varies) for k in range(len(printed) + 1))
    return (
        bool(printed)
        and are_alike(shown[0], printed[0], varies=varies)
        and is_shown(shown[1:], printed[1:], varies=varies)
    )


def test_what_is_not_printed_is_found() -> None:
    table = ["restart  E[T]", "-------  -----------", "sharp    1.54 +- 0.01", "", "seed 0"]
    assert is_shown(table, table)
    assert is_shown(["...", "sharp 1.54 +- 0.01", "..."], table)
    assert is_shown(["...", "sharp 1.53 +- 0.01", "", "seed 0"], table)  # one unit of the last digit
    assert not is_shown(["...", "sharp 1.56 +- 0.01", "..."], table)
    assert is_shown(["...", "sharp 2 +- 1", "..."], table, varies=True)
    assert not is_shown(["...", "agrees 1.54 +- 0.01", "..."], table, varies=True)
    assert is_shown(["P = 10  agrees"], ["P = 10  outside regime [1,2]"], varies=True)
    assert not is_shown(["P = 10  agrees"], ["P = 10  outside regime [1,2]"])
    assert not is_shown(table[:-1], table)
    assert not is_shown([*table, "..."], table[:-1])
    assert not is_shown(["P20  0.5"], ["P30  0.5"])  # a name, not a number


# ---- Running --------------------------------------------------------------------------------------------------------


def run_command(command: str) -> tuple[str, int]:
    program, *words = shlex.split(command)
    if program == "jostle":
        result = CliRunner().invoke(cli.main, words, env={"COLUMNS": "100"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.stdout, result.exit_code
    assert program == "python", f"{command}: neither jostle nor python"
    found = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False)
    return found.stdout, found.returncode


def run_python(block: Block, namespace: dict, path: Path) -> str:
    code = "\n" * block.line + block.text  # so that tracebacks name lines of the tutorial
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(path), "exec"), namespace)
    return printed.getvalue()


def run_tutorial(path: Path, *, slow: bool) -> None:
    def compare(block: Block, shown: Sequence[str], printed: str, where: str) -> None:
        if shown and not is_shown(shown, printed.splitlines(), varies="varies" in block.notes):
            pytest.fail(
                f"{path.name}:{block.line}: {where} printed\n\n{printed}\n\nnot, as is shown,\n\n" + "\n".join(shown)
            )

    namespace: dict = {"__name__": "tutorial"}
    for block, following in pairwise([*blocks_of(path), Block("", "", frozenset(), 0)]):
        if block.language == "text" or ("slow" in block.notes and not slow):
            continue
        if block.language == "python":
            printed = run_python(block, namespace, path)
            if following.language == "text":
                compare(following, following.text.splitlines(), printed, "the Python above")
            else:
                assert not printed, f"{path.name}:{block.line}: what this prints is not shown"
            continue
        for command, shown in block.commands:
            printed, code = run_command(command)
            assert code == 0 or (code == 3 and "varies" in block.notes), f"{command}: exit code {code}\n{printed}"
            compare(block, shown, printed, command)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_prints_what_it_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_tutorial(path, slow=False)


@pytest.mark.slow
@pytest.mark.filterwarnings(LIGHTNINGS_OWN)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_slow_blocks_too(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_tutorial(path, slow=True)


# ---- What they say of themselves ------------------------------------------------------------------------------------


def test_there_are_three() -> None:
    assert [path.stem for path in TUTORIALS] == ["physicist", "practitioner", "pytorch"]


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md")) if path != DOCS / "README.md"]
    assert [page for page in pages if f"({page})" not in index and not page.startswith("decisions/")] == []
