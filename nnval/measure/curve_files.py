"""Files with curves as tables: CSV in its dialects, JSON lines, Parquet; only the columns that are needed."""

import csv
import io
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnval.measure.curve_bytes import as_text, content
from nnval.measure.curve_columns import Layout, layout, shown
from nnval.measure.curve_numbers import Table
from nnval.measure.curve_tables import curves_of
from nnval.measure.curves import Curves
from nnval.measure.tensorboard_events import is_event_file

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")

_SEPARATORS = ",;\t|"
_MISSING = ["", "-", "--", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "None", "none", "null", "NULL"]
_LARGEST_TABLE = 2 * 10**8
_MOST_COLUMNS = 2 * 10**5
_LINES = 20_000
_BLOCK = 2**22


def curves_at(path: Path, *, metric: str | None, count: str, direction: str | None) -> Curves:
    """The curves in a file or directory.

    Args:
        path: of it.
        metric, count, direction: see ``nnval.measure.curves.read_curves``.

    Raises:
        ValueError: see there.
    """
    try:
        exists, is_directory, is_link = path.exists(), path.is_dir(), path.is_symlink()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not exists:
        what = "is a symbolic link that leads nowhere" if is_link else "does not exist"
        raise ValueError(f"{path} {what}: give a file of curves, or the directory of a run")
    if is_directory or is_event_file(path.name):
        from nnval.measure.curve_directories import curves_in

        return curves_in(path, metric=metric, count=count, direction=direction)
    return curves_of([table_at(path, metric)], metric=metric, count=count, direction=direction)


def is_table(name: str) -> bool:
    """Whether a file in a directory is taken for one with curves; notes and settings end in .txt and .json.

    Args:
        name: without directories.
    """
    lower = name.lower()
    for suffix in COMPRESSED:
        lower = lower.removesuffix(suffix)
    return lower.endswith(SUFFIXES)


def stem(name: str) -> str:
    """The name of a file without what says how it is written.

    Args:
        name: without directories.

    Example:
        >>> stem("seed.3.csv.gz")
        'seed.3'
    """
    for suffixes in (COMPRESSED, SUFFIXES):
        suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(suffix)]
    return name


def table_at(path: Path, metric: str | None, *, whole: bool = False) -> Table:
    """The table in a file.

    Args:
        path: of the file.
        metric: the one that was asked for, if any.
        whole: all columns, not only those that hold runs, epochs and the metric.

    Raises:
        ValueError: if the file cannot be read as a table, or has no such metric.
    """
    data = content(path)
    if not data:
        raise ValueError(f"{path} is empty: nothing was logged, or it is still being written")
    if data.startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq"):
        return _parquet(data, path, metric, whole)
    text = as_text(data, path)
    del data  # twice a large file is too much
    written = text.lstrip(b"\n")
    skipped = len(text) - len(written)
    if not written or written.isspace():
        raise ValueError(f"{path} is empty but for white space")
    name = path.name.lower()
    if written.startswith((b"{", b"[")) or any(f"{suffix}." in f"{name}." for suffix in (".jsonl", ".ndjson", ".json")):
        return _json_lines(written, path, skipped)
    return _csv(written, path, metric, whole, skipped)


def _place(names: Sequence[str], metric: str | None, where: str, whole: bool) -> tuple[Layout | None, tuple[int, ...]]:
    """The layout of the table that is read, unless that is the whole one, and the columns of the file that it takes."""
    if whole:
        return None, tuple(range(len(names)))
    place = layout(names, metric, where)
    return place.within(place.columns), place.columns


# ---- CSV -----------------------------------------------------------------------------------------------------------


def _csv(text: bytes, path: Path, metric: str | None, whole: bool, skipped: int) -> Table:
    import pandas as pd

    header, separator = _header(text, path)
    notes: tuple[str, ...] = ()
    if not text.endswith(b"\n"):
        last = text[text.rfind(b"\n") + 1 :]
        if b'"' not in last and last.count(separator.encode()) < len(header) - 1 and b"\n" in text:
            text = text[: -len(last)]
            notes = (f"the last row of {path.name} is cut off (still being written?): left out",)
    place, columns = _place(header, metric, str(path), whole)
    # Own names, because those in the file may be there twice; a run may be called "NA" or "007".
    texts = [] if place is None else [columns[i] for i in (place.run, place.parent) if i is not None]
    own = [str(column) for column in range(len(header))]
    missing = {own[column]: [""] if column in texts else _MISSING for column in columns} if texts else _MISSING
    options: dict[str, Any] = {}
    if tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1):
        options["float_precision"] = "round_trip"  # later versions are exact without, and object to it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row is too long, and would be cut
            frame = pd.read_csv(
                io.BytesIO(text),
                sep=separator,
                header=0,
                names=own,
                usecols=[own[column] for column in columns],
                index_col=False,
                dtype={own[column]: "category" for column in texts},
                na_values=missing,
                keep_default_na=False,
                skipinitialspace=True,
                decimal=_decimal(text, separator),
                low_memory=False,
                encoding="utf-8",
                **options,
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise ValueError(
            _ragged(text, separator, header, path, skipped) or f"{path} can't be read as CSV: {error}"
        ) from error
    # Rows that are too short are filled up without a word, and those too long are cut if few columns are wanted.
    if b'"' in text or not _is_even(text, separator, len(header)):
        complaint = _ragged(text, separator, header, path, skipped)
        if complaint:
            raise ValueError(complaint)
    frame = frame[[own[column] for column in columns]]
    frame.columns = [header[column] for column in columns]
    return Table(frame, str(path), 2 + skipped, stem(path.name), notes, place)


def _header(text: bytes, path: Path) -> tuple[list[str], str]:
    """Cells of the first row, and the separator: the one that makes most cells of it."""
    end = text.find(b"\n")
    line = text[: end if end >= 0 else len(text)].decode()
    found: list[tuple[list[str], str]] = []
    for separator in _SEPARATORS:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except (csv.Error, StopIteration):  # long rows have, without the right one, a cell too long to be a name
            continue
        found.append((cells, separator))
    if not found:
        limit = csv.field_size_limit()
        raise ValueError(f"{path}: its first row can't be read as CSV: a name has more than {limit:,} characters")
    cells, separator = max(found, key=lambda each: len(each[0]))
    if len(cells) > _MOST_COLUMNS:
        raise ValueError(
            f"{path} has {len(cells):,} columns, more than {_MOST_COLUMNS:,}: write a row for each run and epoch, with "
            "the columns run, epoch and the metric"
        )
    if len(cells) < 2:
        raise ValueError(
            f"{path}: its first row {line[:60]!r} has one cell; it must name the columns, separated by , ; tab or |"
        )
    return cells, separator


def _decimal(text: bytes, separator: str) -> str:
    """A comma if numbers are written so, as in some countries, where semicolons separate cells."""
    if separator == ",":
        return "."
    start = text.find(b"\n") + 1
    sample = text[start : start + 20_000].decode(errors="ignore")
    cells = re.split(rf'[\n"{re.escape(separator)}]', sample)
    commas = any(re.fullmatch(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*", cell) for cell in cells)
    points = any(re.fullmatch(r"\s*[-+]?\d+\.\d+([eE][-+]?\d+)?\s*", cell) for cell in cells)
    return "," if commas and not points else "."


def _is_even(text: bytes, separator: str, cells: int) -> bool:
    """Whether each line of a text without quotes has so many cells, or nothing at all."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + _BLOCK) + 1 or len(text)
        block = np.frombuffer(text, np.uint8, end - start, start)
        breaks = np.flatnonzero(block == ord("\n"))
        if not len(breaks) or breaks[-1] < len(block) - 1:
            breaks = np.append(breaks, len(block))
        counts = np.diff(np.searchsorted(np.flatnonzero(block == ord(separator)), breaks), prepend=0)
        lengths = np.diff(breaks, prepend=-1) - 1
        if ((counts != cells - 1) & (lengths > 0)).any():
            return False
        start = end
    return True


def _ragged(text: bytes, separator: str, header: Sequence[str], path: Path, skipped: int) -> str | None:
    """What is wrong with the first row that has more or fewer cells than the header."""
    rows = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for row in rows:
            if len(row) != len(header) and any(cell.strip() for cell in row):
                return (
                    f"{path}: row {rows.line_num + skipped} has {len(row)} cells, but the header has {len(header)} "
                    f"({shown(header)}); mend that row, or write all with one separator"
                )
    except csv.Error as error:
        return f"{path}: row {rows.line_num + skipped} can't be read as CSV: {error}"
    return None


# ---- JSON lines, Parquet -------------------------------------------------------------------------------------------


def _json_lines(text: bytes, path: Path, skipped: int) -> Table:
    import pandas as pd

    if text.startswith(b"["):
        raise ValueError(f"{path} is a JSON array: write one object per line (jq -c '.[]' {path.name})")
    lines = text.split(b"\n")
    notes: tuple[str, ...] = ()
    if lines[-1].strip() and len(lines) > 1 and not lines[-1].rstrip().endswith(b"}"):
        lines.pop()
        notes = (f"the last row of {path.name} is cut off (still being written?): left out",)
    frames = []
    for start in range(0, len(lines), _LINES):
        records = _objects(lines[start : start + _LINES], start + 1 + skipped, path)
        frames.append(pd.DataFrame.from_records(records) if records else pd.DataFrame())
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return Table(frame, str(path), 1 + skipped, stem(path.name), notes)


def _objects(lines: list[bytes], first: int, path: Path) -> list[dict[str, Any]]:
    filled = [line for line in lines if line.strip()]
    try:
        objects = json.loads(b"[" + b",".join(filled) + b"]")  # one call is faster than one per line
        if len(objects) == len(filled) and all(type(item) is dict for item in objects):
            return objects
    except (ValueError, RecursionError):
        pass
    for number, line in enumerate(lines, first):
        try:
            item = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not JSON: {error}") from error
        if type(item) is not dict:
            raise ValueError(f'{path}: line {number} is not a JSON object such as {{"epoch": 1, "val_acc": 0.7}}')
    raise ValueError(f"{path} is not JSON lines: write one object per line")


def _parquet(data: bytes, path: Path, metric: str | None, whole: bool) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            f"{path} is Parquet, which needs the package pyarrow: pip install 'jostle[logs]', or write it as CSV"
        ) from error
    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        names, rows = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}; copy or write it again") from error
    place, columns = _place(names, metric, str(path), whole)
    if rows * len(columns) > _LARGEST_TABLE:
        raise ValueError(f"{path} has {rows:,} rows, more than {_LARGEST_TABLE // len(columns):,}: keep what is needed")
    try:
        table = file.read(columns=[names[column] for column in columns], use_threads=False)
        frame = table.to_pandas(ignore_metadata=True)[[names[column] for column in columns]]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}; copy or write it again") from error
    return Table(frame, str(path), 0, stem(path.name), place=place)
