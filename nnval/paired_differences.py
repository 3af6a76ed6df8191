"""Differences between methods that trained networks with the same initial weights and data, seed by seed.

What the seeds have in common cancels in the pairs. Differences are compared with zero by Student's t, and corrected
together (Holm).
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.absorbing import Floats
from theory.estimate import Comparison, Estimate, compare, holm

_ROUNDING = 1e-12
"""Of a difference, as a part of the values: accuracies are counts of images, and equal differences of theirs must not
have a spread by rounding."""


@dataclass(frozen=True)
class PairedDifference:
    """One method against another, over networks that share initial weights and data.

    Attributes:
        quantity: what was measured of both.
        method, reference: the two.
        difference: mean of method - reference over the seeds of which both are known; ``difference.interval()`` is
            Student's.
        comparison: of the difference with zero, corrected for all that were compared together (Holm, 1 %).

    Example:
        >>> (found,) = paired_differences([("test_accuracy", "anti_pgd", "pgd", [0.9, 0.8, 0.7], [0.8, 0.7, 0.7])])
        >>> found.difference
        Estimate(value=0.067, standard_error=0.033, n=3, interval95=None)
        >>> found.verdict
        'no difference shown'
    """

    quantity: str
    method: str
    reference: str
    difference: Estimate
    comparison: Comparison

    @property
    def shown(self) -> bool:
        """Whether there is a difference, at a family-wise error rate of 1 %."""
        return self.comparison.verdict == "disagrees"

    @property
    def verdict(self) -> str:
        """In words: the method is ``"higher"`` or ``"lower"``, or there is ``"no difference shown"``."""
        if not self.shown:
            return "no difference shown"
        return "higher" if self.difference.value > 0 else "lower"

    def numbers(self) -> dict[str, Any]:
        """The difference and its verdict, for JSON."""
        return {
            "difference": self.difference.value,
            "standard_error": self.difference.standard_error,
            "n": self.difference.n,
            "interval95": list(self.difference.interval()),
            "p_value": self.comparison.p_value,
            "verdict": self.verdict,
        }


def paired_differences(
    measured: Iterable[tuple[str, str, str, Floats, Floats]],
) -> tuple[PairedDifference, ...]:
    """All differences, with verdicts that hold together.

    Differences that are all the same and not 0 (such as of epochs, which are whole) have no standard error, and
    Student's t knows no bounds. Their p-value is that of the signs, 2^(1 - n).

    Args:
        measured: quantity, method, reference, and one number of each of the two for each seed, nan where there is none.

    Returns:
        One for each with at least two seeds of which both are known.

    Example:
        >>> pairs = [("epochs", "full", "sgd", np.arange(8.0), np.arange(8.0) + 1)]
        >>> (found,) = paired_differences(pairs)
        >>> found.verdict, found.comparison.p_value
        ('lower', 0.0078125)
    """
    nothing = Estimate(0.0, 0.0, 1)
    found: list[tuple[str, str, str, Estimate]] = []
    compared: list[Comparison] = []
    for quantity, method, reference, values, others in measured:
        first, second = np.asarray(values, dtype=float), np.asarray(others, dtype=float)
        known = np.isfinite(first) & np.isfinite(second)
        each = (first - second)[known]
        if len(each) < 2:
            continue
        rounding = _ROUNDING * max(np.abs(first[known]).max(), np.abs(second[known]).max())
        each = np.where(np.abs(each) <= rounding, 0.0, each)
        alike = np.ptp(each) <= rounding
        difference = Estimate(float(each[0]), 0.0, len(each)) if alike else Estimate.from_samples(each)
        comparison = compare(f"{quantity}, {method} - {reference}", nothing, difference)
        if alike and difference.value:
            comparison = dataclasses.replace(comparison, z=0.0, p_value=2.0 ** (1 - len(each)))
        found.append((quantity, method, reference, difference))
        compared.append(comparison)
    return tuple(PairedDifference(*each, verdict) for each, verdict in zip(found, holm(compared), strict=True))
