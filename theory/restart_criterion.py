"""Do rare restarts shorten the mean first-passage time? The coefficient of variation tells.

A restart swaps the mean rest of a run that is under way, E[T^2] / (2 E[T]) for a run met at random, for E[T] and what
the restart costs. It pays if the runs are uneven enough. For perturbations other than restarts see
theory.linear_response.

Reference: [reuveni2016] and [pal2017] CV > 1; [reuveni2014] with overhead
"""

import math
from dataclasses import dataclass

from theory.law_arguments import nonnegative
from theory.passage_law_base import PassageLaw


@dataclass(frozen=True)
class CvCriterion:
    """Whether rare restarts shorten the mean first-passage time: they do where CV^2 exceeds a threshold.

    Attributes:
        cv_squared: variance / mean^2 of the law without restarts; ``inf`` for an infinite mean or variance.
        threshold: what it is held against.
        helps: cv_squared > threshold, by more than rounding. If not, frequent restarts may help all the same.
    """

    cv_squared: float
    threshold: float
    helps: bool

    @classmethod
    def of(cls, cv_squared: float, threshold: float) -> "CvCriterion":
        """The criterion of these two numbers.

        Args:
            cv_squared: variance / mean^2, possibly ``inf``.
            threshold: finite.

        Returns:
            The criterion; what exceeds the threshold by less than 1e-12 of 1 + threshold does not exceed it.
        """
        return cls(cv_squared, threshold, cv_squared > threshold + 1e-12 * (1 + threshold))


def poisson_restart_criterion(mean: float, second_moment: float, overhead: float = 0.0) -> CvCriterion:
    """In continuous time: CV^2 > 1 + 2 <W> / E[T], with W the time lost by a restart.

    Args:
        mean: E[T] > 0 [time]; ``inf`` is allowed: then restarts help.
        second_moment: E[T^2] [time^2]; ``inf`` is allowed.
        overhead: <W> >= 0 [time].

    Returns:
        The criterion; the threshold is 1 for an infinite mean.

    Raises:
        ValueError: for moments that no law has, or a negative overhead.

    Example:
        >>> poisson_restart_criterion(1.0, 3.0, overhead=0.4)
        CvCriterion(cv_squared=2.0, threshold=1.8, helps=True)

    Reference: [reuveni2014]
    """
    if not mean > 0:
        raise ValueError(f"mean={mean} must be > 0")
    overhead = float(nonnegative("overhead", overhead))
    return _criterion(mean, second_moment, 1 + 2 * overhead / mean)


def geometric_restart_criterion(mean: float, second_moment: float) -> CvCriterion:
    """In discrete time, restarted by chance after unsuccessful epochs: CV^2 > 1 - 1 / E[T].

    Args:
        mean: E[T] >= 1 [epochs]; ``inf`` is allowed: then restarts help.
        second_moment: E[T^2] [epochs^2]; ``inf`` is allowed.

    Returns:
        The criterion; the threshold is 1 for an infinite mean.

    Raises:
        ValueError: for moments that no law of T >= 1 has.

    Reference: Derived for jostle; the geometric law, which has no memory, is exactly neutral.
    """
    if not mean >= 1:
        raise ValueError(f"mean={mean} must be >= 1: a run takes at least one epoch")
    return _criterion(mean, second_moment, 1 - 1 / mean)


def restart_helps(law: PassageLaw, overhead: float | PassageLaw = 0.0) -> CvCriterion:
    """Does rare Poisson restart shorten the mean? It does where CV^2 > 1 + 2 <W> / E[T].

    Args:
        law: of T without restarts.
        overhead: W, the time lost by each restart: a number >= 0 or its law [time].

    Returns:
        The criterion. For W = 0, CV > 1 also means that some sharp restart helps.

    Raises:
        ValueError: for a negative overhead.

    Example:
        >>> from theory import Hyperexponential, erlang
        >>> restart_helps(Hyperexponential((0.5, 0.5), (10.0, 0.1))).helps  # some runs are slow from the start
        True
        >>> restart_helps(erlang(2, 1.0)).helps  # two stages: a restart loses the first
        False

    Reference: [reuveni2014]
    """
    mean, variance = law.mean, law.variance
    lost = overhead.mean if isinstance(overhead, PassageLaw) else float(nonnegative("overhead", overhead))
    cv_squared = math.inf if math.inf in (mean, variance) else variance / mean / mean
    return CvCriterion.of(cv_squared, 1.0 if mean == math.inf else 1 + 2 * lost / mean)


def _criterion(mean: float, second_moment: float, threshold: float) -> CvCriterion:
    if not second_moment >= mean**2 * (1 - 1e-12):
        raise ValueError(f"second_moment={second_moment} must be >= mean^2={mean**2}")
    # Both moments may be infinite, and a ratio of squares may overflow.
    cv_squared = math.inf if math.isinf(second_moment) else max(second_moment / mean / mean - 1, 0.0)
    return CvCriterion.of(cv_squared, threshold)
