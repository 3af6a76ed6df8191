"""The end of an experiment with networks: what it found as tables on the terminal, as JSON, and as a page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from commands.shared import emit_json, hint, print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from commands.experiment_options import ExperimentRun
    from figures.report import ReportFigure, ReportSection, ReportTable
    from nnval.tables import Table

Result = TypeVar("Result")

SIGNS = {"+-": "±", ">=": "≥", "<=": "≤", "sigma^2": "σ²", "(theta)": "(θ)"}
LETTERS = {"sigma": "σ", "lambda": "λ", "rho": "ρ", "beta": "β"}
"""What a terminal is shown, and a page; letters as whole words only, not in names of columns, protocols and files."""

COMPARISONS, REPORT = "comparisons.json", "report.html"


def finish(
    run: ExperimentRun,
    result: Result,
    record: dict[str, Any],
    config: Any,
    seed: int,
    *,
    write: Callable[[Result, dict[str, Any]], None],
    show: Callable[[Result], None],
) -> None:
    """Write the files of an experiment unless they are there, and print what it found.

    Args:
        run: what the command was told.
        result: what it found.
        record: the same as plain JSON.
        config: of the experiment, as it was carried out.
        seed: of its random numbers.
        write: all files.
        show: prints tables.
    """
    if is_written(run.directory, record):
        hint(f"{run.directory} was finished already; nothing was trained", run.quiet)
    else:
        write(result, record)
    if run.as_json:
        found = {"directory": str(run.directory), **record}
        emit_json(f"validate {run.experiment}", config.to_dict(), seed, found)
    else:
        show(result)
    hint(f"report: {run.directory / REPORT} ({time.monotonic() - run.begin:.0f} s)", run.quiet)


# ---- On the terminal -------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A table of what was found.

    Attributes:
        title: above it.
        table: left out if it has no rows.
        left: columns that are aligned on the left.
        note: below it; none if empty.
    """

    title: str
    table: Table
    left: tuple[int, ...] = (0,)
    note: str = ""


def print_findings(
    facts: Sequence[tuple[str, str]], tables: Sequence[Shown], conclusions: Sequence[str], seed: int
) -> None:
    """Print what was done, what was found, and what follows.

    Args:
        facts: (name, sentence).
        tables: of what was found.
        conclusions: sentences.
        seed: of the random numbers.
    """
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        click.echo(f"{name.ljust(width)}  {text}")
    for title, table, left, note in tables:
        if table.rows:
            click.echo(f"\n{title}")
            print_table(table.header, table.rows, left=left)
            if note:
                click.echo(note)
    click.echo()
    for line in conclusions:
        click.echo(line)
    click.echo(f"seed {seed}")


# ---- On the page -----------------------------------------------------------------------------------------------------


def typeset(text: str) -> str:
    """What a terminal can't be trusted with.

    Args:
        text: for a terminal.

    Returns:
        The same for a page.

    Example:
        >>> typeset("sigma^2 = 1 +- 0.1, >= 0")
        'σ² = 1 ± 0.1, ≥ 0'
        >>> typeset("1 - beta; beta_accuracy of runs/rho")
        '1 - β; beta_accuracy of runs/rho'
    """
    for plain, sign in SIGNS.items():
        text = text.replace(plain, sign)
    return re.sub(rf"(?<![\w/.])(?:{'|'.join(LETTERS)})(?!\w)", lambda found: LETTERS[found[0]], text)


def report_table(table: Table, verdicts: str | None = None) -> ReportTable:
    """A table as a page shows it.

    Args:
        table: for a terminal.
        verdicts: name of the column that is marked by what it says.

    Returns:
        The same for a page.
    """
    from figures.report import ReportTable

    cells = [[typeset(str(cell)) for cell in row] for row in table.rows]
    return ReportTable([typeset(name) for name in table.header], cells, verdicts)


def report_figures(drawn: Mapping[str, tuple[Figure, str, str]]) -> dict[str, ReportFigure]:
    """Figures as a page shows them.

    Args:
        drawn: name -> figure, caption, and what it shows in words.

    Returns:
        The same as PNG.
    """
    from figures.report import ReportFigure
    from figures.style import png_bytes

    return {name: ReportFigure(png_bytes(figure), *words) for name, (figure, *words) in drawn.items()}


def write_run(
    directory: Path,
    record: dict[str, Any],
    *,
    arrays: Mapping[str, Table],
    title: str,
    conclusions: Sequence[str],
    sections: Sequence[ReportSection],
    facts: Sequence[tuple[str, str]],
    figures: Mapping[str, ReportFigure],
    seed: int,
) -> None:
    """All files of a finished run.

    Args:
        directory: of the run.
        record: what ``comparisons.json`` says.
        arrays: name -> numbers, for ``arrays/NAME.csv``.
        title, conclusions, sections: of the page.
        facts: (name, sentence) of what was done, the last section.
        figures: name -> PNG.
        seed: of the random numbers.

    Raises:
        StorageError: if a file can't be written; the run is intact.
    """
    from figures.report import ReportSection, ReportTable, render_report
    from nnval.engine.run_directory import ENVIRONMENT, read_json
    from nnval.experiment_files import save_tables

    save_tables(directory, arrays)
    done = ReportTable(("what", "finding"), [[typeset(cell) for cell in row] for row in facts])
    page = render_report(
        title=title,
        lead=" ".join(typeset(line) for line in conclusions),
        sections=[*sections, ReportSection("What was done", table=done)],
        environment={"seed": seed, **read_json(directory / ENVIRONMENT)},
    )
    write_files(directory, {name: figure.png for name, figure in figures.items()}, page, record)


def is_written(directory: Path, record: Any) -> bool:
    """Whether the files of exactly these results are there.

    Args:
        directory: of the run.
        record: what ``comparisons.json`` must say; it is written last.

    Returns:
        True if they are.
    """
    from nnval.engine.run_directory import read_json

    path = directory / COMPARISONS
    return path.exists() and (directory / REPORT).exists() and read_json(path) == record


def write_files(directory: Path, pictures: Mapping[str, bytes], page: str, record: Any) -> None:
    """Figures, the page, and ``comparisons.json`` last: where it is, everything else is there.

    Args:
        directory: of the run.
        pictures: name -> PNG.
        page: HTML.
        record: plain JSON.

    Raises:
        StorageError: if a file can't be written; the run is intact.
    """
    from nnval.engine.run_directory import write_json, write_whole

    for name, content in pictures.items():
        write_whole(directory / f"{name}.png", content)
    write_whole(directory / REPORT, page.encode())
    write_json(directory / COMPARISONS, record)
