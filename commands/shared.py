"""What several commands share: exit codes, tables, JSON, and progress."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from theory.estimate import Estimate

Progress = Callable[[int, int, str], None]
"""Told of work that is done, of all work, and what it is."""

FAILED, USAGE, DISAGREES, STOPPED = 1, 2, 3, 4
"""Exit codes: failed; wrong usage; theory and measurement disagree; stopped early, resumable. 0: done or agreed."""


def fail(message: str, code: int) -> NoReturn:
    """End with a line on stderr.

    Args:
        message: the line.
        code: the exit code.
    """
    click.echo(f"Error: {message}" if code != STOPPED else message, err=True)
    sys.exit(code)


def failure_in_words(error: ModuleNotFoundError | OSError) -> str:
    """What went wrong outside of jostle, and what to do.

    Args:
        error: of the installation or the operating system.

    Returns:
        A line.
    """
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; training needs the extra 'nn': pip install 'jostle[nn]'"
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def emit_json(command: str, parameters: dict[str, Any], seed: int | None, result: Any) -> None:
    """Print the one JSON object of ``--json``.

    Args:
        command: its words.
        parameters: as given.
        seed: of its random numbers; None if there are none.
        result: dictionaries, lists, texts and numbers.
    """
    import platform

    import numpy
    import scipy

    environment = {"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__}
    record = {
        "schema": 1,
        "command": command,
        "parameters": parameters,
        "seed": seed,
        "result": result,
        "environment": environment,
    }
    click.echo(json.dumps(_plain(record), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no infinity: it is written as text."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: Sequence[int] = (0,)) -> None:
    """Plain aligned columns: they can be read, piped and copied."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        line = "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo(line.rstrip())
        if number == 0:
            click.echo("  ".join("-" * width for width in widths))


def record_cells(records: Sequence[dict[str, Any]], digits: int) -> list[tuple[str, ...]]:
    """Records as cells of a table.

    Args:
        records: rows whose values are numbers, texts, yes or no, or None.
        digits: of numbers.

    Returns:
        A row for each; "-" for None.

    Example:
        >>> record_cells([{"order": "reshuffled", "variance": 0.123456, "stable": True, "drift": None}], 3)
        [('reshuffled', '0.123', 'yes', '-')]
    """

    def cell(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else f"{value:.{digits}g}"

    return [tuple(map(cell, record.values())) for record in records]


def print_derivations(names: Sequence[str]) -> None:
    """Print derivations for ``--latex``.

    Args:
        names: of ``theory.derivations``.
    """
    from theory.derivations import derive

    for name in names:
        click.echo(f"% {name}")
        click.echo(derive(name).latex())


@contextmanager
def simulation_progress(quiet: bool) -> Iterator[Progress | None]:
    """As ``progress_bar``, and a line if kernels have to be compiled first.

    Args:
        quiet: neither.

    Yields:
        What to call with (done, total, text); None if quiet.
    """
    from sim.compilation import announced_compilation

    with announced_compilation(lambda text: hint(text, quiet)), progress_bar(quiet) as progress:
        yield progress


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Notices Ctrl-C, also where it came when a simulation was just complete, and so did not cut it short.

    Yields:
        Tells whether Ctrl-C came.
    """
    happened: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    # Python delivers signals to the main thread; who ignores them, or does not use Python's handlers, goes on doing so.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:
        happened.append(True)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(happened)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """A bar with the time left on a terminal, a line every 15 seconds elsewhere, nothing with --quiet."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        begin = last = time.monotonic()
        first: list[int] = []

        def lines(done: int, total: int, text: str) -> None:
            nonlocal last
            now = time.monotonic()
            first[:] = first or [done]  # what was there before a resume took no time now
            if now - last >= 15 and done > first[0]:
                left = (now - begin) / (done - first[0]) * (total - done)
                click.echo(f"{done / total:4.0%}, about {left:.0f} s left: {text}", err=True)
                last = now

        yield lines
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


def hint(message: str, quiet: bool) -> None:
    """A line on stderr.

    Args:
        message: the line.
        quiet: leave it out.
    """
    if not quiet:
        click.echo(message, err=True)


def estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate for ``--json``.

    Args:
        estimate: the estimate, or None.

    Returns:
        Value, standard error, n and 95 % interval; None for None.
    """
    if estimate is None:
        return None
    values = {"value": estimate.value, "standard_error": estimate.standard_error, "n": estimate.n}
    return values | {"interval95": list(estimate.interval())}
