"""Numbers as tables of text and CSV; needs no torch."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from theory.estimate import Estimate
from theory.predicted_time import Prediction


@dataclass(frozen=True)
class Table:
    """Rows of equal length under a header.

    Attributes:
        header: names of the columns.
        rows: numbers and text; None for a number that the data do not identify.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_csv(self) -> str:
        """The table as CSV; empty cells for None, ``inf`` for infinite numbers."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([["" if cell is None else cell for cell in row] for row in self.rows])
        return text.getvalue()


def plus_minus(estimate: Estimate | None) -> str:
    """``28.7 +- 1.1``, with the digits that the error leaves.

    Args:
        estimate: the number; None if it is not identified.

    Returns:
        Text.
    """
    if estimate is None:
        return "-"
    if not math.isfinite(estimate.value):
        return "inf"
    error = estimate.standard_error
    digits = 1 if error == 0 else max(0, 1 - math.floor(math.log10(error)))
    return f"{estimate.value:.{min(digits, 4)}f} +- {error:.{min(digits, 4)}f}"


PREDICTION_COLUMNS = (
    "perturbation",
    "predictor",
    "interval",
    "horizon",
    "restricted_mean",
    "standard_error",
    "low",
    "high",
    "mean",
    "mean_standard_error",
    "speed_up",
    "speed_up_low",
    "speed_up_high",
    "valid",
    "reasons",
)


def prediction_rows(label: str, predictions: Sequence[Prediction]) -> Iterable[tuple[Any, ...]]:
    """Predictions as rows under ``PREDICTION_COLUMNS``.

    Args:
        label: of the perturbation.
        predictions: in any order.

    Yields:
        A row for each.
    """
    for p in predictions:
        restricted, mean = p.restricted_mean, p.mean
        yield (
            label,
            p.predictor,
            p.interval,
            p.horizon,
            restricted.value,
            restricted.standard_error,
            *restricted.interval(),
            mean.value if mean else None,
            mean.standard_error if mean else None,
            p.speed_up.value,
            *p.speed_up.interval(),
            p.valid,
            "; ".join(p.reasons),
        )
