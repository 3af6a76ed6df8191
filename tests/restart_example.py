"""The worked example of discrete times, section 2.3 of reference/first_passage.md, checked there by Monte Carlo."""

import math

import numpy as np
import pytest

from theory.markov_chain import Chain
from theory.toy_chains import waiting_time_chain

EXAMPLE = ([2, 3, 4, 5, 6, 7, 8, 9, 10, 60], [0.05, 0.3, 0.2, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.2])
"""Times and their probabilities."""

SHARP_RESTARTS = [
    (2, 40, 3120, math.inf, 59),
    (3, 8.4285714286, 118.91836735, 59, 10.2857),
    (4, 6.5454545455, 67.02479339, 10.2857, 7.3636),
    (5, 6.2307692308, 60.24260355, 7.3636, 6.7692),
    (8, 6.4285714286, 68.19109462, 6.6, 6.7273),
]
"""Interval, mean and second moment under sharp restart, and the mean by either of two plausible mistakes."""


def example_of_2_3() -> Chain:
    return waiting_time_chain(*EXAMPLE)


def check_mistakes(psi: np.ndarray, interval: int, exact: float, restarted_there: float, summed: float) -> None:
    """To restart who arrives, and to count an epoch more, give the wrong columns of the table, not the exact one."""
    finished = 1 - psi[interval - 1]
    wrong_ending = psi[:interval].sum() / finished if finished > 1e-12 else math.inf
    wrong_sum = psi[: interval + 1].sum() / (1 - psi[interval])
    assert wrong_ending == pytest.approx(restarted_there, rel=1e-5)
    assert wrong_sum == pytest.approx(summed, rel=1e-5)
    assert min(wrong_ending, wrong_sum) > 1.02 * exact
