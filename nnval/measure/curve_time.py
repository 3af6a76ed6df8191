"""Which column of the curves an evaluation belongs to: epochs from 0 or from 1, and steps on a regular grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.curve_columns import shown
from nnval.measure.curve_numbers import Whole

COUNTS = ("auto", "from_zero", "from_one", "untrained_first")
"""What the first evaluation of a source may be; see ``nnval.measure.curves.read_curves``."""

_LARGEST = 10**6


@dataclass(frozen=True, eq=False)
class Time:
    """Where evaluations belong.

    Attributes:
        column: from 0, of each row that is kept.
        kept: a mask over the rows; None if all of them are.
        unit: what one column is: "epoch", or "391 steps".
        clock: what the source counts: "epoch" or "step".
        notes: what was guessed, as sentences.
    """

    column: Whole
    kept: npt.NDArray[np.bool_] | None
    unit: str
    clock: str
    notes: tuple[str, ...]


def columns_of(
    run: Whole,
    clock: Whole,
    evaluated: npt.NDArray[np.bool_],
    runs: Sequence[str],
    count: str,
    in_epochs: bool,
    where: str,
) -> Time:
    """Columns of rows, each with a run, an epoch or step, and perhaps an evaluation.

    Args:
        run, clock, evaluated: one per row.
        runs: names of runs.
        count: how the source counts.
        in_epochs: whether it counts epochs, not steps.
        where: the source, for messages.

    Raises:
        ValueError: if steps are not on a regular grid, or the source does not begin as ``count`` says, or runs differ.
    """
    if in_epochs:
        return _counted(run, clock, None, runs, count, ("epoch", "epoch"), where)
    # Rows of other metrics are at other steps.
    left = None if evaluated.all() else evaluated
    if left is not None:
        run, clock = run[left], clock[left]
    if not len(clock):
        raise ValueError(f"{where} has no values of the metric: nothing was evaluated")
    every, shift = _grid(clock, where)
    unit = "step" if every == 1 else f"{every} steps"
    notes: tuple[str, ...] = ()
    if every == 1:
        notes = ("there is no column of epochs, and steps advance by 1: one step is read as one epoch",)
    if shift == 0:
        time = _counted(run, clock // every, left, runs, count, (unit, "step"), where)
        return Time(time.column, time.kept, unit, "step", notes + time.notes)
    if count == "untrained_first":
        raise ValueError(f"{where} has no evaluation at step 0, before training: leave out count='untrained_first'")
    notes += (
        f"evaluations at steps {every - 1}, {2 * every - 1}, ...: steps count from 0, so the first is after {every}",
    )
    return Time((clock + 1) // every - 1, left, unit, "step", notes)


def _grid(clock: Whole, where: str) -> tuple[int, int]:
    """Steps between evaluations, and 0 if they are at multiples of that or 1 if one before."""
    steps = np.unique(clock)
    if len(steps) == 1:
        return max(1, int(steps[0])), 0
    gaps, counts = np.unique(np.diff(steps), return_counts=True)
    every = int(gaps[counts.argmax()])
    rest = steps % every
    shift = 0 if 2 * np.count_nonzero(rest == 0) >= len(steps) else every - 1
    off = steps[rest != shift]
    if len(off):
        on = steps[rest == shift]
        grid = f"multiples of {every}" + ("" if shift == 0 else " less one")
        raise ValueError(
            f"{where}: step {off[0]} is not on the grid of the others, {grid}"
            + (f" ({shown(on, 3)})" if len(on) else "")
            + ": evaluate at regular steps, or give a column 'epoch'"
        )
    return every, int(shift > 0)


def _counted(
    run: Whole,
    clock: Whole,
    left: npt.NDArray[np.bool_] | None,
    runs: Sequence[str],
    count: str,
    names: tuple[str, str],
    where: str,
) -> Time:
    unit, word = names
    if int(clock.max()) > _LARGEST:
        raise ValueError(f"{where} has {clock.max():,} times {unit}: more than {_LARGEST:,}; is that a mistake?")
    begins = np.full(len(runs), np.iinfo(np.int64).max)
    np.minimum.at(begins, run, clock)
    first = int(begins.min())
    shown_first = f"{word}s begin at {first}"
    if count == "from_zero":
        if first == 1:
            raise ValueError(f"{where}: {shown_first}, not at 0; leave out count='from_zero' (--count from-zero)")
        return Time(clock, left, unit, word, ())
    if count == "untrained_first":
        if first > 0:
            raise ValueError(
                f"{where}: {shown_first}: there is no evaluation of the untrained network at 0; leave out "
                "count='untrained_first' (--count untrained-first)"
            )
        trained = clock > 0
        if not trained.any():
            raise ValueError(f"{where} has no evaluation but that of the untrained network")
        if left is not None:
            left = left.copy()
            left[left] = trained
        return Time(clock[trained] - 1, trained if left is None else left, unit, word, ())
    if first > 0:
        return Time(clock - 1, left, unit, word, _suspected(clock, word))
    if count == "from_one":
        raise ValueError(
            f"{where}: {word}s begin at 0, not at 1. If the first evaluation is the one after the first {unit}: "
            "count='from_zero' (--count from-zero); if it is the untrained network: count='untrained_first' "
            "(--count untrained-first)"
        )
    from_one = np.flatnonzero(begins == 1)
    if len(from_one):
        zero, one = runs[int(begins.argmin())], runs[int(from_one[0])]
        raise ValueError(
            f"{where}: run {zero} begins at {word} 0 and run {one} at 1; if all count from 0, say count='from_zero' "
            "(--count from-zero), else shift some of them"
        )
    return Time(
        clock,
        left,
        unit,
        word,
        (
            f"{word}s begin at 0: read as zero-based, so that {word} 0 is the evaluation after the first {unit} (if it "
            "is the untrained network: --count untrained-first, in Python count='untrained_first')",
        ),
    )


def _suspected(clock: Whole, word: str) -> tuple[str, ...]:
    """A word on evaluations at epochs 4, 9, 14, which are every fifth, counted from 0."""
    found = np.unique(clock)
    every = int(np.gcd.reduce(np.diff(found))) if len(found) > 1 else 1
    if every > 1 and found[0] % every == every - 1:
        return (
            f"evaluations at {word}s {shown(found, 3)}: read as counted from 1, though they look like every {every} "
            f"{word}s counted from 0 (then --count from-zero, in Python count='from_zero')",
        )
    return ()
