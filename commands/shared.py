"""What several commands share: options, tables, JSON, progress, and the way they end."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from theory.estimate import Comparison, Estimate

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


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--json`` and ``--quiet``, for every command.

    Args:
        command: to be decorated.

    Returns:
        The command with the options.
    """
    for option in (
        click.option("--quiet", is_flag=True, help="No progress and no hints on stderr."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."),
    ):
        command = option(command)
    return command


def simulation_options(*, runs: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options of all simulations.

    Args:
        runs: the default number of runs.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--out", type=click.Path(path_type=Path), help="Directory for CSV files and figures."),
            click.option(
                "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all random numbers."
            ),
            click.option(
                "--threads", type=click.IntRange(1, 1024), help="Default: one per core; no influence on results."
            ),
            click.option(
                "--runs",
                default=runs,
                show_default=True,
                type=click.IntRange(2, 10**9),
                help="Independent runs behind each row; errors fall with their square root.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def refuse_options(context: click.Context, names: Sequence[str], belong_to: str) -> None:
    """Refuse options that would be ignored.

    Args:
        context: of the command.
        names: of its parameters.
        belong_to: the option without which they mean nothing.

    Raises:
        ValueError: if one of them was given.
    """
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise ValueError(f"{', '.join(given)} can only be used with {belong_to}")


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


@contextmanager
def simulation_progress(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
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
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
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
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
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


def parse_perturbation(text: str, *, option: str = "perturbation option") -> dict[str, Any]:
    """``shrink_perturb:shrink=0.7,noise=0.3`` as a dictionary; values are JSON, or text if they are not.

    Args:
        text: a name and what belongs to it.
        option: what a message calls that.

    Returns:
        ``name`` and the values.

    Raises:
        ValueError: for a value without a name, or a second one of a name.
    """
    name, _, options = text.partition(":")
    result: dict[str, Any] = {"name": name.strip()}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{option} {item!r} must have the form name=value")
        key = key.strip()
        if key in result:
            raise ValueError(f"{option} {item!r}: {key} is given twice in {text!r}")
        try:
            result[key] = json.loads(value)
        except ValueError:  # no JSON, or a number of thousands of digits
            result[key] = value.strip()
    return result


def comparison_row(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """A comparison of a closed form with a simulation, as cells of a table.

    Args:
        comparison: with its verdict.

    Returns:
        (quantity, theory, simulated, z, verdict).
    """
    measured = comparison.measured
    simulated = f"{measured.value:.6g} +- {measured.standard_error:.2g}"
    return (
        comparison.quantity,
        f"{comparison.predicted.value:.6g}",
        simulated,
        f"{comparison.z:+.1f}",
        comparison.verdict,
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison of a closed form with a simulation, for ``--json``.

    Args:
        comparison: with its verdict.

    Returns:
        Quantity, prediction, measurement, z, p-value, verdict and reasons.
    """
    return {
        "quantity": comparison.quantity,
        "predicted": comparison.predicted.value,
        "simulated": estimate_json(comparison.measured),
        "z": comparison.z,
        "p_value": comparison.p_value,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
    }


def end_simulation(comparisons: Sequence[Comparison], stopped: bool) -> None:
    """Leave with the exit code of what was found, if it is not 0.

    Args:
        comparisons: with their verdicts.
        stopped: whether Ctrl-C came before all runs were done.
    """
    if stopped:
        fail("stopped early; the table holds the runs that were complete", STOPPED)
    if any(comparison.verdict == "disagrees" for comparison in comparisons):
        sys.exit(DISAGREES)


def prepared_directory(path: Path) -> Path:
    """Create the directory of ``--out`` before anything is computed: one that cannot be used is noticed then.

    Args:
        path: of the directory.

    Returns:
        The path.

    Raises:
        ValueError: if a file is in the way.
        OSError: if it cannot be created.
    """
    from nnval.engine.run_directory import StorageError, make_directory

    try:
        make_directory(path)
    except StorageError as error:
        raise _unwritable(path, error) from None
    return path


def write_file(path: Path, content: bytes) -> None:
    """Replace a file, whole.

    Args:
        path: of the file.
        content: of it.

    Raises:
        OSError: if that fails, with advice for commands that do not go on from what is there.
    """
    from nnval.engine.run_directory import StorageError, write_whole

    try:
        write_whole(path, content)
    except StorageError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> OSError:
    cause = error.__cause__
    reason = getattr(cause, "strerror", None) or cause
    return OSError(
        error.errno, f"could not write {path} ({reason}); make room or choose another --out, and run it again"
    )


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, the first row its header.

    Args:
        path: of the file.
        rows: of cells; numbers are written so that reading gives the same number.
    """
    text = "".join(",".join(_csv_cell(cell) for cell in row) + "\n" for row in rows)
    write_file(path, text.encode())


def _csv_cell(cell: Any) -> str:
    text = repr(float(cell)) if isinstance(cell, float) else str(cell)
    return f'"{text}"' if "," in text else text
