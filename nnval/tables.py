"""Numbers as tables of text and CSV; needs no torch."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from theory.estimate import Comparison, Estimate
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
    return "-" if estimate is None else str(estimate)


def median_text(values: npt.NDArray[np.float64], digits: str = ".2g") -> str:
    """The median of the finite values, ``-`` without any.

    Args:
        values: any shape.
        digits: how it is formatted.

    Returns:
        Text.
    """
    known = values[np.isfinite(values)]
    return f"{np.median(known):{digits}}" if known.size else "-"


LOOSE = 1.0
"""An agreement that would also have been found this far from the prediction, relatively, says little."""

LOOSE_WORDS = "too few runs to tell: a prediction that is off by 100 % would agree, too"


def is_loose(comparison: Comparison) -> bool:
    """Whether "agrees" is all that so few runs could say.

    Args:
        comparison: with its verdict.

    Returns:
        Whether it agrees, and would with a prediction that is off by 100 %.

    Example:
        >>> from theory.estimate import compare
        >>> two, many = Estimate(11.0, 1.0, 2), Estimate(11.0, 1.0, 200)
        >>> [is_loose(compare("E[T]", Estimate(10.0, 0.0, 1), measured)) for measured in (two, many)]
        [True, False]
    """
    seen_from = comparison.seen_from()
    return comparison.verdict == "agrees" and seen_from is not None and seen_from > LOOSE


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
