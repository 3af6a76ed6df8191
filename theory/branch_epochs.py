"""Does it matter when the one perturbation acted? Predictions for P use residuals measured at P*.

Eq. (9) and the renewal predictor need residuals that do not depend on the epoch of the perturbation. With two or more
branch epochs that is measured; with one, a constant hazard has to vouch for it, as a quasi-steady state demands
(docs/decisions/005-what-validates-a-prediction.md).
"""

import math
from collections.abc import Sequence

from theory.hazard import HazardTest
from theory.predicted_time import Prediction

APPROXIMATION_MARGIN = 0.05
"""Model error granted to Eq. (9) and to the renewal predictor inside their regimes; full resetting is exact."""

TRANSFER_MARGIN = 0.25
"""Predictions from two branch epochs that are shown to differ by less than this waive the test of a constant hazard."""


def transfer_reasons(
    prediction: Prediction, others: Sequence[Prediction], *, branch_epoch: int, hazard_test: HazardTest | None
) -> list[str]:
    """Why residuals measured at P* may not be those at P.

    Args:
        prediction: for P, from residuals at P*.
        others: for the same P, from residuals at other epochs; their errors may be shared with the prediction's.
        branch_epoch: P* [epochs].
        hazard_test: of a constant hazard in the quasi-steady state, if there was one to test.

    Returns:
        Reasons; none at P = P*, where nothing is transferred.
    """
    if prediction.interval == branch_epoch:
        return []
    value, error = prediction.restricted_mean.value, prediction.restricted_mean.standard_error
    shown = bool(others)
    for other in others:
        difference = abs(other.restricted_mean.value - value)
        # Both rest on the same unperturbed runs, so this is more than the error of the difference.
        half_width = 1.96 * math.hypot(error, other.restricted_mean.standard_error)
        if difference - half_width > APPROXIMATION_MARGIN * value:
            return ["the epoch of the one perturbation matters: predictions from the branch epochs differ"]
        shown = shown and difference + half_width <= TRANSFER_MARGIN * value
    if shown or hazard_test is None or not hazard_test.is_rejected:
        return []
    return [hazard_test.describe()]
