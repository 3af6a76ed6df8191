"""Training curves from anybody's logs: one metric of many runs over epochs. Needs pandas, not torch.

Epochs are counted from 1, in completed epochs: column t - 1 is the evaluation after epoch t. Logs count from 0 or from
1, in epochs or in steps, as a table with a row per evaluation or a column per run, with gaps, with duplicates, and some
end early. Whatever had to be guessed to read one is in ``Curves.assumptions``, as sentences: a shift by one epoch
changes every answer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nnval.measure.curve_columns import shown
from nnval.measure.curve_time import COUNTS
from theory.survival import FirstPassages

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Curves:
    """One metric of n runs, epoch by epoch.

    Attributes:
        metric: name of the metric.
        runs: name of each run.
        values: shape (n, H); column t - 1 is the evaluation after epoch t; nan after a run's last evaluation, and where
            an evaluation is missing. Infinite values are of runs that diverged but were followed.
        direction: which way the metric gets better: ``"up"`` for accuracies, ``"down"`` for losses.
        unit: what one column is: ``"epoch"``, or for example ``"391 steps"``.
        parents: the unperturbed run that each run was branched from, where the source says so.
        assumptions: what was guessed when the source was read, and what to know before trusting it; sentences.
        stopped_at: value of the metric at which runs were stopped, where the source says so. Targets beyond it are
            refused: the censoring would depend on how close a run was.

    Example:
        >>> curves = Curves("loss", ("a", "b"), np.array([[2.0, 0.5], [2.0, np.nan]]), direction="down")
        >>> curves.n, curves.horizon, curves.unit
        (2, 2, 'epoch')
    """

    metric: str
    runs: tuple[str, ...]
    values: npt.NDArray[np.float64]
    direction: str = "up"
    unit: str = "epoch"
    parents: tuple[str, ...] | None = None
    assumptions: tuple[str, ...] = ()
    stopped_at: float | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=float)
        if values.ndim != 2 or len(values) != len(self.runs) or values.size == 0:
            raise ValueError(f"values {values.shape} of {len(self.runs)} runs must have the shape (runs, epochs)")
        if self.parents is not None and len(self.parents) != len(self.runs):
            raise ValueError(f"{len(self.parents)} parents of {len(self.runs)} runs: each run must have one")
        if len(set(self.runs)) < len(self.runs):
            raise ValueError("runs must have different names")
        _check_direction(self.direction)
        object.__setattr__(self, "values", values)

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.runs)

    @property
    def horizon(self) -> int:
        """Last epoch of the longest run."""
        return self.values.shape[1]

    def first_passages(self, target: float, *, direction: str | None = None) -> FirstPassages:
        """First epoch at which each run meets the target; runs that do not are censored at their last epoch.

        Args:
            target: the criterion, value >= target if the metric gets better upwards, else value <= target.
            direction: the curves' own by default.

        Returns:
            The first passages.

        Raises:
            ValueError: for an unknown direction, a target that is not finite, a fractional target of a metric that is
                in percent or the reverse, one beyond the value at which runs were stopped, or infinite values on the
                target's side.
        """
        direction = self.direction if direction is None else direction
        _check_direction(direction)
        infinite = np.argwhere(self.values == (np.inf if direction == "up" else -np.inf))
        if len(infinite):
            run, column = infinite[0]
            raise ValueError(
                f"{self.metric} of run {self.runs[run]} is {self.values[run, column]} at epoch {column + 1}, which "
                f"would meet any target in the direction {direction!r}; give the other direction, or remove such values"
            )
        finite = self.values[np.isfinite(self.values)]
        if direction == "up" and len(finite):
            largest = float(finite.max())
            if target <= 1 and largest > 1.5:
                raise ValueError(
                    f"target={target} is a fraction but {self.metric} reaches {largest:g}: give it in percent"
                )
            if target > 1.5 and 0 <= largest <= 1:
                raise ValueError(
                    f"target={target} is above 1 but {self.metric} is a fraction, up to {largest:g}: give one, too"
                )
        stop = self.stopped_at
        if stop is not None and (target > stop if direction == "up" else target < stop):
            raise ValueError(
                f"target={target} is beyond {stop:g}, where runs were stopped: nobody knows when they would have met "
                f"it; choose one up to {stop:g}, or train to a higher one"
            )
        return FirstPassages.from_curves(self.values, target, direction=direction)


def early_stops(curves: Curves, first_passages: FirstPassages) -> list[str]:
    """What to know about runs that ended before the others without meeting the target.

    Args:
        curves: of the runs.
        first_passages: of them.

    Returns:
        One sentence, or none.
    """
    early = ~first_passages.observed & (first_passages.times < curves.horizon)
    if not early.any():
        return []
    ends = shown((int(time) for time in first_passages.times[early]), 5)
    runs = "1 run stopped" if early.sum() == 1 else f"{early.sum():,} runs stopped"
    return [
        f"{runs} before the others without the target (epoch {ends}): censored there, which is right if why they "
        "stopped has nothing to do with how they went"
    ]


def _check_direction(direction: str) -> None:
    if direction not in ("up", "down"):
        raise ValueError(f"direction={direction!r} must be 'up' (accuracy) or 'down' (loss)")


def read_curves(
    source: "str | Path | pd.DataFrame",
    *,
    metric: str | None = None,
    count: str = "auto",
    direction: str | None = None,
) -> Curves:
    """Read training curves from a log.

    The source may be

    - a CSV file, separated by commas, semicolons (then decimal commas will do), tabs or bars; Parquet; JSON lines. They
      may be compressed by gzip, bzip2, xz or zip;
    - a directory of a jostle run, of files of one run each, or of TensorBoard events, where each folder is a run;
    - a DataFrame.

    A table has a row per evaluation (columns ``run, epoch, <metric>...`` or synonyms such as ``seed`` and ``step``), or
    a column per run beside ``epoch``, or it is a chart exported from Weights & Biases, or the log of a single run. Rows
    without a value are no evaluations. Steps must be on a regular grid, whose spacing becomes the unit.

    Args:
        source: path or DataFrame.
        metric: column or tag to read; by default the only one, or a validation accuracy, or else an accuracy.
        count: what the first evaluation is. ``"from_one"``: epoch 1 is the first. ``"from_zero"``: epoch 0 is the
            evaluation after the first epoch. ``"untrained_first"``: epoch 0 is the untrained network, which is left
            out. ``"auto"``: from 0 if epochs begin there, and an assumption says so; else from 1.
        direction: which way the metric gets better; by default what its name says, or else up.

    Returns:
        The curves.

    Raises:
        ValueError: for a source that is missing, damaged, or can be read in two ways: columns that are missing or
            there twice, text among the numbers, two values for one epoch, epochs that are negative or no whole numbers,
            irregular steps, runs that begin at 0 beside others that begin at 1, percent beside fractions. It says what,
            where, and what to do.

    Example:
        >>> import pandas as pd
        >>> log = pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1], "val_acc": [0.2, 0.7, 0.6]})
        >>> curves = read_curves(log)
        >>> curves.first_passages(0.7)
        FirstPassages(times=array([2, 1]), observed=array([ True, False]))
        >>> curves.assumptions[0]
        'direction up because the name says acc'
    """
    if count not in COUNTS:
        raise ValueError(f"count={count!r} must be one of {', '.join(COUNTS)}")
    if direction is not None:
        _check_direction(direction)
    if isinstance(source, str | Path):
        from nnval.measure.curve_files import curves_at

        return curves_at(Path(source), metric=metric, count=count, direction=direction)
    import pandas as pd

    from nnval.measure.curve_tables import curves_of, table_of_frame

    if not isinstance(source, pd.DataFrame):
        raise ValueError(f"source is a {type(source).__name__}; it must be a path or a pandas DataFrame")
    return curves_of([table_of_frame(source)], metric=metric, count=count, direction=direction)
