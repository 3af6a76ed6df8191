"""Files that commands write: whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from theory.estimate import Comparison


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


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG.

    Args:
        path: of the file.
        figure: drawn.

    Raises:
        OSError: if that fails.
    """
    from figures.style import png_bytes

    write_file(path, png_bytes(figure))


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, the first row its header.

    Args:
        path: of the file.
        rows: of cells; numbers are written so that reading gives the same number, and None as an empty cell.

    Raises:
        OSError: if that fails.
    """
    text = "".join(",".join(_csv_cell(cell) for cell in row) + "\n" for row in rows)
    write_file(path, text.encode())


def _csv_cell(cell: Any) -> str:
    if cell is None:
        return ""
    text = repr(float(cell)) if isinstance(cell, float) else str(cell)
    return f'"{text}"' if "," in text else text


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a table of which each row names its columns.

    Args:
        path: of the file.
        records: at least one, all with the same names in the same order.

    Raises:
        OSError: if that fails.
    """
    write_csv(path, [tuple(records[0]), *(tuple(record.values()) for record in records)])


def write_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write what a simulation was held against.

    Args:
        path: of the file.
        comparisons: with their verdicts.

    Raises:
        OSError: if that fails.
    """
    header = ("quantity", "predicted", "simulated", "standard_error", "verdict")
    rows = [
        (c.quantity, c.predicted.value, c.measured.value, c.measured.standard_error, c.verdict) for c in comparisons
    ]
    write_csv(path, [header, *rows])
