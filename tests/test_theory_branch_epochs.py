"""When residuals measured at one epoch may stand for those at another."""

import numpy as np

from theory.branch_epochs import transfer_reasons
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
