"""What a user should know about curves before trusting an answer: ends, gaps, runs that diverged, mixed units."""

from collections.abc import Sequence

import numpy as np

from nnval.measure.curve_columns import shown
from nnval.measure.curve_numbers import Floats, Whole


def _ranges(epochs: Whole) -> str:
    """3, 5-7 for 3, 5, 6, 7."""
    pieces = np.split(epochs, np.flatnonzero(np.diff(epochs) > 1) + 1)
    return shown((str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in pieces), 3)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def notes_on(values: Floats, runs: Sequence[str], last_row: Whole, clock: str) -> list[str]:
    """Sentences on runs that begin late, have gaps, diverged or were never evaluated.

    Args:
        values: shape (n, H).
        runs: names.
        last_row: (n,), last column for which a run has a row, even if without a value; -1 without any.
        clock: "epoch" or "step"; sentences count columns from 1, and call them evaluations if those are of steps.
    """
    word = "epoch" if clock == "epoch" else "evaluation"
    known = ~np.isnan(values)
    horizon = values.shape[1]
    some = known.any(axis=1)
    first = np.where(some, known.argmax(axis=1), horizon)
    last = np.where(some, horizon - 1 - known[:, ::-1].argmax(axis=1), -1)
    ever = known.any(axis=0)
    notes = []
    if not some.all():
        never = np.flatnonzero(~some).tolist()
        notes.append(
            f"{_runs(len(never))} without a value (run {shown((runs[i] for i in never), 5)}): they tell nothing"
        )
    if not ever.all():
        notes.append(
            f"nobody was evaluated at {word}s {_ranges(np.flatnonzero(~ever) + 1)}: a target met there is seen at the "
            "next evaluation"
        )
    ends_infinite = np.isinf(np.take_along_axis(values, last[:, None], axis=1)[:, 0])
    numberless = np.flatnonzero(some & (last_row > last) & ~ends_infinite)
    if len(numberless):
        i = int(numberless[0])
        notes.append(
            f"run {runs[i]} has rows up to {word} {last_row[i] + 1} but no value after {last[i] + 1}"
            + (f", and {_runs(len(numberless) - 1)} more are like it" if len(numberless) > 1 else "")
            + ": read as stopped there; write inf (a loss) or -inf if it diverged"
        )
    late = np.flatnonzero(some & (first > int(ever.argmax())))
    if len(late):
        i = int(late[0])
        notes.append(
            f"run {runs[i]} begins at {word} {first[i] + 1}"
            + (f", and {_runs(len(late) - 1)} more begin late" if len(late) > 1 else "")
            + ": a target met before would not be seen"
        )
    # Between a run's first and last evaluation, where others were evaluated.
    column = np.arange(horizon)
    gaps = ~known & ever & (column > first[:, None]) & (column < last[:, None])
    for i in np.flatnonzero(gaps.any(axis=1))[:3].tolist():
        notes.append(f"run {runs[i]} lacks {word}s {_ranges(np.flatnonzero(gaps[i]) + 1)}: the target is not met there")
    if (more := int(gaps.any(axis=1).sum()) - 3) > 0:
        notes.append(f"{_runs(more)} more lack evaluations")
    infinite = np.flatnonzero(np.isinf(values).any(axis=1))
    if len(infinite):
        i = int(infinite[0])
        since = int(np.isinf(values[i]).argmax()) + 1
        notes.append(
            f"{_runs(len(infinite))} with infinite values (run {runs[i]} from {word} {since}): followed, and not at "
            "the target there"
        )
    return notes


def refuse_mixed_units(values: Floats, runs: Sequence[str], metric: str, where: str) -> None:
    """Refuses percentages of some runs beside fractions of others.

    A run is suspected if it stays between 0 and 1 where others are above, and a hundred times its best is what the
    others reach by the same epoch, within a factor of 2.

    Args:
        values: shape (n, H), of a metric that gets better upwards.
        runs: names.
        metric: its name.
        where: the source, for messages.

    Raises:
        ValueError: it names a run of each.
    """
    finite = np.where(np.isfinite(values), values, -np.inf)
    best, lowest = finite.max(axis=1), np.where(np.isfinite(values), values, np.inf).min(axis=1)
    small = np.flatnonzero((best > 0) & (best <= 1) & (lowest >= 0))
    large = np.flatnonzero((best > 1.5) & (best <= 100) & (lowest >= 0))
    if not len(small) or not len(large):
        return
    reached = np.median(np.maximum.accumulate(finite[large], axis=1), axis=0)
    last = values.shape[1] - 1 - np.isfinite(values[small])[:, ::-1].argmax(axis=1)
    ratio = 100 * best[small] / np.where(reached[last] > 0, reached[last], np.inf)
    mixed = np.flatnonzero((ratio >= 0.5) & (ratio <= 2))
    if len(mixed):
        fraction, percent = int(small[mixed[0]]), int(large[0])
        raise ValueError(
            f"{where}: {metric} of run {runs[fraction]} looks like a fraction (up to {best[fraction]:g}) and that of "
            f"run {runs[percent]} like percent (up to {best[percent]:g}): bring them to one unit"
        )
