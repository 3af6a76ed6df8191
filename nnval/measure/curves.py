"""Training curves from CSV files: one metric of many runs over epochs. Needs pandas, not torch.

Long format has the columns ``run, epoch, <metric>...``; wide format has ``epoch`` and one column per run. Epochs are
counted from 1, in completed epochs; files that count from 0 must be declared: a shift by one epoch changes every
answer.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from theory.survival import FirstPassages

if TYPE_CHECKING:
    import pandas as pd

PREFERRED_METRICS = ("validation_accuracy", "val_accuracy", "val_acc", "test_accuracy", "accuracy")


@dataclass(frozen=True)
class Curves:
    """One metric of n runs, epoch by epoch.

    Attributes:
        metric: name of the metric.
        runs: name of each run.
        values: shape (n, H); column t - 1 is the evaluation after epoch t; nan after a run's last epoch.
    """

    metric: str
    runs: tuple[str, ...]
    values: npt.NDArray[np.float64]

    @property
    def horizon(self) -> int:
        """Last epoch of the longest run."""
        return self.values.shape[1]

    def first_passages(self, target: float, *, direction: str = "up") -> FirstPassages:
        """First epoch at which each run meets the target; runs that do not are censored at their last epoch.

        Args:
            target: the criterion, value >= target (``"up"``) or value <= target (``"down"``).
            direction: ``"up"`` for accuracies, ``"down"`` for losses.

        Returns:
            The first passages.

        Raises:
            ValueError: for an unknown direction, or a fractional target of a metric that is in percent.
        """
        largest = float(np.nanmax(self.values))
        if direction == "up" and target <= 1 and largest > 1.5:
            raise ValueError(f"target={target} is a fraction but {self.metric} reaches {largest:g}: give it in percent")
        if direction == "up" and target > 1.5 and 0 <= largest <= 1:
            raise ValueError(f"target={target} is above 1 but {self.metric} is a fraction, up to {largest:g}")
        return FirstPassages.from_curves(self.values, target, direction=direction)


def read_curves(path: str | Path, *, metric: str | None = None, zero_based: bool = False) -> Curves:
    """Read training curves from a CSV file (also gzipped) or from a run directory of jostle.

    Args:
        path: the file, or a run directory, whose ``curves.csv`` is read.
        metric: the column to read from a long file; by default the only metric, or the first that exists of
            validation_accuracy, val_accuracy, val_acc, test_accuracy, accuracy.
        zero_based: the file counts its epochs from 0.

    Returns:
        The curves.

    Raises:
        ValueError: for a missing or unreadable file, missing columns, text among the numbers, duplicated, fractional or
            negative epochs, or epochs that begin at 0 without ``zero_based``.
    """
    import pandas as pd

    file = Path(path)
    if file.is_dir():
        file = file / "curves.csv"
    if not file.exists():
        raise ValueError(f"{file} does not exist: give a CSV file of curves, or the directory of a finished run")
    try:
        table = pd.read_csv(file)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} can't be read as CSV: {error}") from error
    except (UnicodeDecodeError, OSError, EOFError, ImportError) as error:
        raise ValueError(f"{file} can't be read as CSV: {error}") from error
    if len(table) == 0:
        raise ValueError(f"{file} has no rows")
    table.columns = [str(column).strip() for column in table.columns]
    if "epoch" not in table.columns:
        raise ValueError(f"{file} has no column 'epoch'; it has {', '.join(table.columns)}")
    epochs = _whole_epochs(_numbers(table, "epoch", file), file, zero_based)
    if "run" in table.columns:
        nameless = np.flatnonzero(np.asarray(table["run"].isna()))
        if len(nameless):
            raise ValueError(f"{file}: row {nameless[0] + 2} names no run")
        name = _chosen_metric([c for c in table.columns if c not in ("run", "epoch")], metric, file)
        runs, rows = np.unique(table["run"].astype(str).to_numpy(), return_inverse=True)
        order = np.argsort([int(run) for run in runs]) if all(map(str.isdecimal, runs)) else np.arange(len(runs))
        values = _matrix(rows, epochs, _numbers(table, name, file), len(runs), file)
        return Curves(name, tuple(map(str, runs[order])), values[order])
    names = [column for column in table.columns if column != "epoch"]
    if not names:
        raise ValueError(f"{file} has a column 'epoch' but no runs beside it")
    if metric is not None or any("loss" in name.lower() or "acc" in name.lower() for name in names):
        raise ValueError(
            f"{file} has no column 'run', so its columns {', '.join(names)} would be runs of one metric. If they are "
            "metrics of one run, add a column 'run'; if they are runs, leave out --metric and name them otherwise"
        )
    columns = np.stack([_numbers(table, column, file) for column in names])
    rows = np.repeat(np.arange(len(names)), len(table))
    values = _matrix(rows, np.tile(epochs, len(names)), columns.ravel(), len(names), file)
    return Curves("value", tuple(names), values)


def _whole_epochs(numbers: npt.NDArray[np.float64], file: Path, zero_based: bool) -> npt.NDArray[np.int64]:
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        raise ValueError(f"{file}: epochs must be whole numbers")
    if numbers.max() > 10**6:
        raise ValueError(f"{file}: epoch {numbers.max():.6g} is beyond 1,000,000; are these optimizer steps?")
    first = int(numbers.min())
    if zero_based:
        if first != 0:
            raise ValueError(f"{file}: epochs begin at {first}, not at 0; leave out the zero-based option")
        return numbers.astype(np.int64) + 1
    if first == 0:
        raise ValueError(
            f"{file}: epochs begin at 0. If epoch 0 is the evaluation after the first epoch, read the file as "
            "zero-based (--zero-based); if it is the untrained network, delete it"
        )
    if first < 0:
        raise ValueError(f"{file}: epoch {first} is negative")
    return numbers.astype(np.int64)


def _numbers(table: "pd.DataFrame", name: str, file: Path) -> npt.NDArray[np.float64]:
    import pandas as pd

    column = np.asarray(table[name])
    result = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=float)
    text = [row for row in np.flatnonzero(np.isnan(result)) if not pd.isna(column[row])]
    if text:
        row = int(text[0])
        raise ValueError(f"{file}: {column[row]!r} in column {name!r}, row {row + 2}, is not a number")
    if np.isinf(result).any():
        raise ValueError(f"{file}: column {name!r} has infinite values; leave such epochs out")
    return result


def _chosen_metric(available: list[str], metric: str | None, file: Path) -> str:
    if metric is not None:
        if metric not in available:
            raise ValueError(f"{file} has no metric {metric!r}; it has {', '.join(available) or 'none'}")
        return metric
    if len(available) == 1:
        return available[0]
    for name in PREFERRED_METRICS:
        if name in available:
            return name
    raise ValueError(f"{file} has the metrics {', '.join(available) or 'none'}: say which (--metric)")


def _matrix(
    rows: npt.NDArray, epochs: npt.NDArray, numbers: npt.NDArray, runs: int, file: Path
) -> npt.NDArray[np.float64]:
    horizon = int(epochs.max())
    counts = np.zeros((runs, horizon), dtype=np.int64)
    np.add.at(counts, (rows, epochs - 1), 1)
    if counts.max() > 1:
        row, epoch = np.argwhere(counts > 1)[0]
        raise ValueError(f"{file}: run number {row} has epoch {epoch + 1} {counts[row, epoch]} times")
    values = np.full((runs, horizon), np.nan)
    values[rows, epochs - 1] = numbers
    if not np.isfinite(values).any():
        raise ValueError(f"{file} has no finite values")
    return values
