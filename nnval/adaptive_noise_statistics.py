"""Statistics of the experiment of nnval.adaptive_noise: stability, restricted times, paired differences, claims."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.paired_differences import PairedDifference, paired_differences
from theory.absorbing import Floats
from theory.survival import FirstPassages


def variation(values: npt.ArrayLike) -> Floats:
    """Coefficient of variation of each row, 100 sd / mean with the unbiased variance [%].

    Trend counts as variation, and near a mean of 0 the number explodes: see also ``detrended_variation``.

    Args:
        values: shape (n, k), k >= 2.

    Returns:
        Shape (n,); nan for a row that is not all finite, or whose mean is not > 0.

    Example:
        >>> variation([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
        array([50., nan])
    """
    x = np.asarray(values, dtype=float)
    return _percent(x, np.zeros_like(x) + x.mean(axis=1, keepdims=True), x.shape[1] - 1)


def detrended_variation(values: npt.ArrayLike) -> Floats:
    """The same around the straight line that fits best, with k - 2 degrees of freedom [%].

    Args:
        values: shape (n, k), k >= 3.

    Returns:
        Shape (n,); nan as there.

    Example:
        >>> detrended_variation([[1.0, 2.0, 3.0, 4.0]]).round(12), detrended_variation([[1.0, 3.0, 1.0, 3.0]]).round(2)
        (array([0.]), array([63.25]))
    """
    x = np.asarray(values, dtype=float)
    time = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2
    slope = (x * time).sum(axis=1) / (time**2).sum()
    return _percent(x, x.mean(axis=1, keepdims=True) + slope[:, None] * time, x.shape[1] - 2)


def _percent(x: Floats, centre: Floats, degrees: int) -> Floats:
    mean = x.mean(axis=1)
    known = np.isfinite(x).all(axis=1) & (mean > 0)
    found = np.full(len(x), np.nan)
    deviation = np.sqrt(((x[known] - centre[known]) ** 2).sum(axis=1) / degrees)
    found[known] = 100 * deviation / mean[known]
    return found


def accuracy_errors(accuracy: Floats, diverged: npt.NDArray[np.bool_]) -> Floats:
    """1 - accuracy; nan for networks that diverged, whose accuracy is that of guessing.

    Args:
        accuracy: shape (n, epochs).
        diverged: shape (n,).

    Returns:
        Shape (n, epochs).
    """
    return np.where(diverged[:, None], np.nan, 1 - accuracy)


def epochs_to_target(accuracy: npt.ArrayLike, target: float) -> Floats:
    """min(T, H) of each run: its first epoch at the target, or the horizon.

    All runs are followed to H, so that their mean is the restricted mean of Kaplan and Meier, and the standard error of
    the mean has n - 1 degrees of freedom where Greenwood's has none to spare.

    Args:
        accuracy: after epochs 1 to H, shape (n, H), without nan.
        target: which is reached at this or a higher accuracy.

    Returns:
        Shape (n,).

    Example:
        >>> epochs_to_target([[0.2, 0.9, 0.8], [0.1, 0.2, 0.3]], 0.9)
        array([2., 3.])
    """
    return FirstPassages.from_curves(accuracy, target).times.astype(float)


def method_differences(
    values: Mapping[str, Callable[[str], Floats]], pairs: Sequence[tuple[str, str]]
) -> tuple[PairedDifference, ...]:
    """All differences, with verdicts that hold together for each quantity.

    Args:
        values: quantity -> function from a method to one number for each seed, nan where there is none.
        pairs: (method, reference).

    Returns:
        One for each quantity and pair with at least two seeds of which both are known.
    """
    return tuple(
        difference
        for quantity, of in values.items()
        for difference in paired_differences((quantity, a, b, of(a), of(b)) for a, b in pairs)
    )


FINDINGS = ("supported", "the opposite", "not decided")
"""What a measurement can say of a claim."""


@dataclass(frozen=True)
class Claim:
    """Something the paper says of two methods.

    Attributes:
        where: in the paper.
        text: in words.
        quantity, method, reference: which difference it is about; ``"sgd"`` may be the baseline.
        sign: that the difference should have.
    """

    where: str
    text: str
    quantity: str
    method: str
    reference: str
    sign: int

    def finding(self, difference: PairedDifference) -> str:
        """What a measured difference says of it: one of ``FINDINGS``.

        Args:
            difference: of its quantity and methods.
        """
        supported, opposite, undecided = FINDINGS
        if not difference.shown:
            return undecided
        return supported if difference.difference.value * self.sign > 0 else opposite


CLAIMS = (
    Claim("Table I", "full needs fewer epochs to the target than SGD", "epochs", "full", "sgd", -1),
    Claim("Table I", "full needs fewer epochs to the target than fixed noise", "epochs", "full", "fixed", -1),
    Claim("Table I", "full needs fewer epochs to the target than Adam", "epochs", "full", "adam", -1),
    Claim("Table I", "full needs fewer epochs to the target than SGD with a cosine", "epochs", "full", "cosine", -1),
    Claim("Table II", "full is more stable than SGD", "cv", "full", "sgd", -1),
    Claim("Table II", "full is more stable than fixed noise", "cv", "full", "fixed", -1),
    Claim("Table II", "full is more stable than Adam", "cv", "full", "adam", -1),
    Claim("Table III", "full is more accurate than SGD", "test_accuracy", "full", "sgd", 1),
    Claim("Table III", "full is more accurate than fixed noise", "test_accuracy", "full", "fixed", 1),
    Claim("Table III", "full is more accurate than Adam", "test_accuracy", "full", "adam", 1),
    Claim("Table IV", "fixed noise is more accurate than none", "test_accuracy", "fixed", "baseline", 1),
    Claim("Table IV", "phases alone are more accurate than no noise", "test_accuracy", "phase_only", "baseline", 1),
    Claim("Table IV", "decay alone is more accurate than no noise", "test_accuracy", "schedule_only", "baseline", 1),
    Claim("Table IV", "full is more accurate than phases alone", "test_accuracy", "full", "phase_only", 1),
    Claim("Table IV", "full is more accurate than decay alone", "test_accuracy", "full", "schedule_only", 1),
)
"""What the paper's tables say.

Reference: [satybaldiev2025]
"""


def pairs_of(names: Sequence[str], sgd: str, equal_reference: str) -> list[tuple[str, str]]:
    """Which methods are compared.

    Args:
        names: of all that were trained.
        sgd: the one that stands for SGD at a constant rate.
        equal_reference: fixed noise with the budget of the equal-noise control.

    Returns:
        Everything against the baseline and against SGD, full against all others, and the equal noises against the
        fixed one; each pair once.

    Example:
        >>> pairs_of(["baseline", "full", "adam"], "baseline", "fixed")
        [('full', 'baseline'), ('adam', 'baseline'), ('full', 'adam')]
    """
    against = [(name, reference) for reference in ("baseline", sgd) for name in names if not name.endswith("_equal")]
    against += [("full", name) for name in names if name not in ("baseline", sgd) and not name.endswith("_equal")]
    against += [(name, equal_reference) for name in names if name.endswith("_equal")]
    found = [(name, other) for name, other in against if name != other and {name, other} <= set(names)]
    return list(dict.fromkeys(pair for pair in found if pair != ("baseline", sgd)))
