"""Tables of evaluations as curves: epochs or steps to columns, duplicates, gaps, runs that end early.

Nothing is filled in and nothing is thrown away in silence: what can be read in one way only is read and, where it was a
guess, said; what can be read in two ways is an error.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnval.measure.curve_columns import EPOCHS, RUNS, STEPS, Layout, direction_of, key, layout
from nnval.measure.curve_notes import notes_on, refuse_mixed_units
from nnval.measure.curve_numbers import Floats, Table, Whole, names, natural_order, numbers, whole_numbers
from nnval.measure.curve_time import columns_of
from nnval.measure.curves import Curves

if TYPE_CHECKING:
    import pandas as pd

LARGEST_EPOCH = 10**6
LARGEST_STEP = 2**53  # beyond, floating-point numbers skip whole ones
_CELLS = 10**7


@dataclass(frozen=True, eq=False)
class _Evaluations:
    """Rows of a table: run (a number), epoch or step, value.

    Attributes:
        runs: names, by number.
        code, clock, value: one per row; a value may be nan.
        parents: of each run; empty without.
        single: whether values were stored in less than double precision.
    """

    runs: list[str]
    code: Whole
    clock: Whole
    value: Floats
    parents: list[str]
    single: bool


def table_of_frame(frame: "pd.DataFrame") -> Table:
    """A DataFrame as a table: index levels named like runs or epochs become columns.

    Args:
        frame: is not changed.
    """
    wanted = {*EPOCHS, *STEPS, *RUNS}
    columns = {str(column) for column in frame.columns}
    levels = [level for level in frame.index.names if level is not None and key(str(level)) in wanted]
    levels = [level for level in levels if str(level) not in columns]
    return Table(frame.reset_index(level=levels) if levels else frame, "the DataFrame")


def curves_of(
    tables: Sequence[Table],
    *,
    metric: str | None = None,
    count: str = "auto",
    direction: str | None = None,
    where: str | None = None,
    stopped_at: float | None = None,
) -> Curves:
    """The curves in a table, or in several of one run each.

    Args:
        tables: with all their columns, or with those of their layout.
        metric, count, direction: see ``read_curves``.
        where: the source of all of them, for messages.
        stopped_at: value at which runs were stopped, if the source says so.

    Raises:
        ValueError: see ``read_curves``.
    """
    where = tables[0].where if where is None else where
    for table in tables:
        if len(table.frame) == 0:
            raise ValueError(f"{table.where} has no rows: nothing was logged, or it was cut off")
    layouts = _layouts(tables, metric, where)
    parts = [_evaluations(table, place) for table, place in zip(tables, layouts, strict=True)]
    if len(parts) > 1:
        parts = [_joined(parts, tables)]
    (rows,) = parts
    first = layouts[0]
    notes = [note for table in tables for note in table.notes]
    notes += first.notes
    if first.run is None and first.runs is None:
        notes.append(
            f"{where} has no column 'run': read as one run with several metrics"
            if len(tables) == 1
            else f"{len(tables)} files, read as one run each"
        )
    if direction is None:
        guess = direction_of(first.metric)
        direction = guess[0] if guess else "up"
        reason = f"the name says {guess[1]}" if guess else f"the name {first.metric!r} does not say (--direction)"
        notes.append(f"direction {direction} because {reason}")
    if rows.single:
        notes.append("values are stored in single precision: read as the shortest decimals that round to them")
    time = columns_of(rows.code, rows.clock, ~np.isnan(rows.value), rows.runs, count, first.in_epochs, where)
    notes += time.notes
    if time.kept is not None:
        code, clock, value = rows.code[time.kept], rows.clock[time.kept], rows.value[time.kept]
        rows = dataclasses.replace(rows, code=code, clock=clock, value=value)
    order = list(range(len(rows.runs))) if first.runs is not None else natural_order(rows.runs)
    values, repeated = _matrix(rows, time.column, order, where, time.clock)
    runs = tuple(rows.runs[i] for i in order)
    if repeated:
        notes.append(f"{repeated:,} rows written twice with equal values: read once")
    last_row = np.full(len(runs), -1)
    np.maximum.at(last_row, np.argsort(order)[rows.code], time.column)
    notes += notes_on(values, runs, last_row, time.clock)
    if direction == "up":
        refuse_mixed_units(values, runs, first.metric, where)
    return Curves(
        metric=first.metric,
        runs=runs,
        values=values,
        direction=direction,
        unit=time.unit,
        parents=tuple(rows.parents[i] for i in order) if rows.parents else None,
        assumptions=tuple(dict.fromkeys(notes)),
        stopped_at=stopped_at,
    )


def _layouts(tables: Sequence[Table], metric: str | None, where: str) -> list[Layout]:
    """Where the same metric is in each table."""
    if len(tables) == 1:
        place = tables[0].place
        return [layout(list(tables[0].frame.columns), metric, where) if place is None else place]
    columns = [list(table.frame.columns) for table in tables]
    common = [name for name in columns[0] if all(name in others for others in columns[1:])]
    first = layout(common, metric, where)
    if first.runs is not None:
        raise ValueError(f"{where} has several files with a column per run: each file must hold one run")
    return [layout(each, first.metric, table.where) for each, table in zip(columns, tables, strict=True)]


def _evaluations(table: Table, place: Layout) -> _Evaluations:
    limit = LARGEST_EPOCH if place.in_epochs else LARGEST_STEP
    if place.runs is not None:
        wide = table.frame.iloc[:, list(place.values)]
        if set(map(str, wide.dtypes)) <= {"float64", "int64"}:
            value, single = wide.to_numpy(dtype=float).T, False
        else:
            columns = [numbers(table, column) for column in place.values]
            value, single = np.stack([column for column, _ in columns]), any(is_single for _, is_single in columns)
        evaluated = np.asarray(~np.isnan(value))
        clock, _ = whole_numbers(table, place.clock, limit, np.asarray(evaluated.any(axis=0)))
        code, row = np.nonzero(evaluated)
        return _Evaluations(list(place.runs), code, clock[row], value[evaluated], [], single)
    value, single = numbers(table, place.values[0])
    evaluated = np.asarray(~np.isnan(value))
    if place.run is None:
        code, runs = np.zeros(len(value), dtype=np.int64), [table.name]
    else:
        code, runs = names(table, place.run)
        nameless = np.flatnonzero((code < 0) & evaluated)
        if len(nameless):
            raise ValueError(f"{table.where}: {table.row(int(nameless[0]))} names no run")
    clock, has_clock = whole_numbers(table, place.clock, limit, evaluated)
    parents = _parents(table, place.parent, code, runs)
    # A row without a value is no evaluation, but says where its run begins, if it has an epoch.
    keep = (code >= 0) & has_clock
    if not keep.all():
        code, clock, value = code[keep], clock[keep], value[keep]
    return _Evaluations(runs, code, clock, value, parents, single)


def _parents(table: Table, column: int | None, code: Whole, runs: list[str]) -> list[str]:
    if column is None:
        return []
    parent, texts = names(table, column)
    code, parent = code[(code >= 0) & (parent >= 0)], parent[(code >= 0) & (parent >= 0)]
    of_run = np.full(len(runs), -1)
    of_run[code] = parent
    differ = np.flatnonzero(of_run[code] != parent)
    if len(differ):
        run, other = int(code[differ[0]]), int(parent[differ[0]])
        raise ValueError(f"{table.where}: run {runs[run]} has the parents {texts[other]} and {texts[of_run[run]]}")
    if (of_run < 0).all():
        return []
    if (of_run < 0).any():
        raise ValueError(f"{table.where}: run {runs[int((of_run < 0).argmax())]} has no parent, but others have one")
    return [texts[i] for i in of_run]


def _joined(parts: Sequence[_Evaluations], tables: Sequence[Table]) -> _Evaluations:
    """Several tables of one run each; the run is called as the table is."""
    for part, table in zip(parts, tables, strict=True):
        if len(part.runs) > 1:
            raise ValueError(
                f"{table.where} holds {len(part.runs)} runs; in a directory of several files each must hold one: "
                "give the file itself, or split it"
            )
    has_parents = [bool(part.parents) for part in parts]
    if any(has_parents) and not all(has_parents):
        raise ValueError(f"{tables[has_parents.index(False)].where} has no parent, but other files have one")
    return _Evaluations(
        [table.name for table in tables],
        np.repeat(np.arange(len(parts)), [len(part.code) for part in parts]),
        np.concatenate([part.clock for part in parts]),
        np.concatenate([part.value for part in parts]),
        [part.parents[0] for part in parts] if all(has_parents) else [],
        any(part.single for part in parts),
    )


def _matrix(rows: _Evaluations, column: Whole, order: Sequence[int], where: str, clock: str) -> tuple[Floats, int]:
    """Values of runs (in this order) over epochs up to the last evaluation, and how many rows repeat another."""
    evaluated = ~np.isnan(rows.value)
    if not np.isfinite(rows.value).any():
        raise ValueError(f"{where} has no finite values of the metric: nothing was evaluated")
    row = np.argsort(order)[rows.code[evaluated]]  # argsort of a permutation is its inverse
    column, value = column[evaluated], rows.value[evaluated]
    shape = len(order), int(column.max()) + 1
    if shape[0] * shape[1] > max(_CELLS, 100 * len(value)):
        raise ValueError(
            f"{where} has {len(value):,} evaluations of {shape[0]:,} runs over {shape[1]:,} epochs, so almost all "
            f"would be missing; is {clock} {shape[1]:,} a mistake?"
        )
    values = np.full(shape[0] * shape[1], np.nan)
    cell = row * shape[1] + column
    values[cell] = value
    different = np.flatnonzero(values[cell] != value)
    if len(different):
        first = int(different[0])
        run, at = rows.runs[order[int(row[first])]], int(rows.clock[evaluated][first])
        raise ValueError(
            f"{where}: run {run} has two values at {clock} {at}: {value[first]:g} and {values[cell[first]]:g}. If it "
            "was resumed, or two runs have one name, remove or rename one of them"
        )
    repeated = len(cell) - int(np.count_nonzero(~np.isnan(values)))
    return values.reshape(shape), repeated
