"""Columns of somebody's table as numbers and as names of runs, exactly, with errors that name the cell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nnval.measure.curve_columns import Layout
from theory.absorbing import Floats

if TYPE_CHECKING:
    import pandas as pd

Whole = npt.NDArray[np.int64]

MISSING = {"", "-", "--", "nan", "na", "n/a", "#n/a", "<na>", "nat", "none", "null"}
"""Text of a cell without a number, in lower case."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table as somebody wrote it.

    Attributes:
        frame: the table.
        where: its source, for messages.
        first_row: how messages number its first row: 2 under the header of a file, 0 for what has no lines.
        name: of the run, if there is only one in it and the table does not name it.
        notes: what was guessed when it was read, as sentences.
        place: where the curves are in it, if that was settled when it was read.
    """

    frame: "pd.DataFrame"
    where: str
    first_row: int = 0
    name: str = "run"
    notes: tuple[str, ...] = ()
    place: Layout | None = None

    def column(self, position: int) -> "pd.Series":
        """A column by its position, whatever others are called."""
        return self.frame.iloc[:, position]

    def row(self, position: int) -> str:
        """How messages call a row.

        Args:
            position: from 0.
        """
        return f"row {position + self.first_row}"


def shortest_decimals(values: npt.NDArray[np.floating]) -> Floats:
    """Numbers in single or half precision as the shortest decimals that round to them.

    An accuracy of 0.71 that was stored in single precision is 0.70999998, which does not meet a target of 0.71.

    Args:
        values: any shape.

    Example:
        >>> shortest_decimals(np.array([0.71, 1.5], dtype=np.float32))
        array([0.71, 1.5 ])
    """
    different, inverse = np.unique(values, return_inverse=True, equal_nan=True)
    return np.array([float(str(value)) for value in different], dtype=float)[inverse].reshape(values.shape)


def numbers(table: Table, position: int) -> tuple[Floats, bool]:
    """A column as numbers, nan where a cell is empty or says so ("nan", "-", "None", ...).

    Args:
        table: the table.
        position: of the column.

    Returns:
        The numbers, and whether they were stored in less than double precision.

    Raises:
        ValueError: for anything but numbers: it names the row, the column and the value.
    """
    import pandas as pd
    from pandas.api import types

    series = table.column(position)
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        values = series.to_numpy()
        return (shortest_decimals(values), True) if dtype.itemsize < 8 else (values.astype(float), False)
    is_plain = types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype) and not types.is_complex_dtype(dtype)
    if is_plain and not isinstance(dtype, pd.CategoricalDtype):
        values = series.to_numpy(dtype=float, na_value=np.nan)
        if str(dtype).lower().startswith(("float32", "float[", "float16", "halffloat", "sparse[float32")):
            return shortest_decimals(values.astype(np.float32)), True
        return values, False
    parsed: dict[str, float | None] = {}
    result = np.empty(len(series))
    for row, item in enumerate(series.astype(object).tolist()):
        if isinstance(item, str):
            if item not in parsed:
                parsed[item] = _of_text(item)
            value = parsed[item]
        else:
            value = _of_object(item)
        if value is None:
            hint = "; is the header written again there?" if str(item).strip() == _name(table, position) else ""
            text = repr(item) if isinstance(item, str) else str(item)
            text = text if len(text) <= 60 else text[:57] + "..."
            raise ValueError(
                f"{table.where}: {text} in column {_name(table, position)!r}, {table.row(row)}, is not a number{hint}"
            )
        result[row] = value
    return result, False


def _name(table: Table, position: int) -> str:
    return str(table.frame.columns[position]).strip()


def _of_text(text: str) -> float | None:
    stripped = text.strip()
    if stripped.lower() in MISSING:
        return np.nan
    if "_" in stripped:  # a number in Python only
        return None
    try:
        return float(stripped)
    except ValueError:
        return None


def _of_object(item: object) -> float | None:
    import pandas as pd

    if item is None or item is pd.NA or item is pd.NaT:
        return np.nan
    if isinstance(item, Real | Decimal) and not isinstance(item, bool | np.bool_):
        try:
            return float(item)
        except (OverflowError, ValueError, TypeError):
            return None
    return None


def whole_numbers(
    table: Table, position: int, limit: int, needed: npt.NDArray[np.bool_]
) -> tuple[Whole, npt.NDArray[np.bool_]]:
    """Epochs or steps, as they are counted in the table.

    Args:
        table: the table.
        position: of the column.
        limit: largest number.
        needed: rows that must have one.

    Returns:
        The numbers, 0 where there is none, and where there is one.

    Raises:
        ValueError: for an empty, fractional, infinite, negative or too large number.
    """
    values, _ = numbers(table, position)
    name = _name(table, position)
    lacking = np.flatnonzero(np.isnan(values) & needed)
    if len(lacking):
        raise ValueError(f"{table.where}: {table.row(int(lacking[0]))} has a value but nothing in column {name!r}")
    known = np.where(np.isnan(values), 0, values)
    with np.errstate(invalid="ignore"):
        fractional = np.flatnonzero(known != np.floor(known))
    if np.isinf(known).any():
        fractional = np.flatnonzero(np.isinf(known))
    if len(fractional):
        row = int(fractional[0])
        raise ValueError(
            f"{table.where}: {name} {known[row]:g} in {table.row(row)}: these must be whole numbers; for evaluations "
            "within epochs leave out the column of epochs, so that a column 'step' counts"
        )
    row = int(known.argmin())
    if known[row] < 0:
        raise ValueError(f"{table.where}: {name} {known[row]:.0f} in {table.row(row)} is negative; remove that row")
    row = int(known.argmax())
    if known[row] > limit:
        raise ValueError(
            f"{table.where}: {name} {known[row]:.6g} in {table.row(row)} is beyond {limit:,}; are these optimizer "
            "steps, or times? A column 'step' may count further"
        )
    return known.astype(np.int64), ~np.isnan(values)


def names(table: Table, position: int) -> tuple[Whole, list[str]]:
    """A column of names, such as runs.

    Args:
        table: the table.
        position: of the column.

    Returns:
        For each row the number of its name, -1 if it has none, and the names in order of appearance.

    Raises:
        ValueError: for lists and the like.
    """
    import pandas as pd

    series = table.column(position)
    try:
        codes, unique = pd.factorize(series)
    except TypeError as error:
        raise ValueError(f"{table.where}: column {_name(table, position)!r} must hold names or numbers") from error
    place: dict[str, int] = {}
    # One more for code -1. Names may be equal as text only, such as 1 and "1".
    codes_of = np.full(len(unique) + 1, -1)
    for code, item in enumerate(unique):
        name = _name_of(item)
        if name.strip() and not (isinstance(item, float) and np.isnan(item)):
            codes_of[code] = place.setdefault(name, len(place))
    return codes_of[np.asarray(codes)].astype(np.int64), list(place)


def _name_of(item: object) -> str:
    if isinstance(item, float | np.floating) and np.isfinite(item) and item == int(item):
        return str(int(item))  # a column of whole numbers is one of floats if a cell is empty
    return str(item)


def natural_order(texts: Sequence[str]) -> list[int]:
    """Order in which run_2 comes before run_10.

    Args:
        texts: names.

    Example:
        >>> natural_order(["run_10", "run_2", "a"])
        [2, 1, 0]
    """

    def parts(text: str) -> list[tuple[int, int, str]]:
        pieces = [piece for piece in re.split(r"(\d+)", text, flags=re.ASCII) if piece]
        return [(0, int(p), "") if p.isascii() and p.isdecimal() and len(p) < 19 else (1, 0, p) for p in pieces]

    return sorted(range(len(texts)), key=lambda i: (parts(texts[i]), texts[i]))
