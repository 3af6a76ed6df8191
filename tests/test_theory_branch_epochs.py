"""When residuals measured at one epoch may stand for those at another."""

import math

import numpy as np
import pytest

from theory.branch_epochs import APPROXIMATION_MARGIN, TRANSFER_MARGIN, transfer_reasons
from theory.estimate import Estimate
from theory.hazard import HazardTest
from theory.predicted_time import Prediction

REJECTED = HazardTest(2, 12, Estimate(0.1, 0.01, 24), np.array([0.3, 0.01]), 1e-9, 30)


def like(value: float, error: float, interval: int = 4) -> Prediction:
    mean = Estimate(value, error, 24)
    return Prediction("renewal", interval, 12, mean, mean, Estimate(1.0, 0.1, 24), ())


def test_one_branch_epoch_leaves_the_verdict_to_the_hazard() -> None:
    """And two waive it only if their predictions are shown to agree, not if they are too noisy to tell."""

    def reasons(prediction: Prediction, others: list[Prediction], hazard: HazardTest | None = REJECTED) -> list[str]:
        return transfer_reasons(prediction, others, branch_epoch=8, hazard_test=hazard)

    assert "hazard is not constant" in reasons(like(10, 0.1), [])[0]
    assert reasons(like(10, 0.1), [like(10.5, 0.1)]) == []
    assert "hazard is not constant" in reasons(like(10, 2), [like(10.5, 2)])[0]
    assert "branch epochs differ" in reasons(like(10, 0.1), [like(14, 0.1)])[0]
    assert reasons(like(10, 2), [like(10.5, 2)], None) == []
    assert reasons(like(10, 0.1, interval=8), [like(14, 0.1)]) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_differences_are_judged_by_intervals_of_95_percent(sign: int) -> None:
    mean, error = 10.0, 0.4
    half_width = 1.96 * math.sqrt(2) * error
    within, beyond = TRANSFER_MARGIN * mean - half_width, APPROXIMATION_MARGIN * mean + half_width
    for difference, told in (
        (0.999 * within, []),
        (1.001 * within, ["hazard is not constant"]),
        (0.999 * beyond, ["hazard is not constant"]),
        (1.001 * beyond, ["branch epochs differ"]),
    ):
        other = like(mean + sign * difference, error)
        found = transfer_reasons(like(mean, error), [other], branch_epoch=8, hazard_test=REJECTED)
        assert len(found) == len(told)
        assert all(words in reason for words, reason in zip(told, found, strict=True))
