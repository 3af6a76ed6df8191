"""Is the hazard constant, and what is E[T] if it stays so?

A quasi-steady state of a time-homogeneous Markov process has a geometric Psi(t). This is the second of two necessary
conditions for one (``theory.quasi_steady_state`` has the first), and it is what lets unfinished runs be continued.
"""

import math
from dataclasses import dataclass

import numpy as np

from theory.absorbing import whole_number
from theory.estimate import Estimate
from theory.survival import Floats, Survival

MINIMUM_EVENTS = 20
"""First passages needed to see a hazard that changes by a factor of about three."""

SIGNIFICANCE = 0.01
"""Constant hazards are rejected below this p-value."""


@dataclass(frozen=True, eq=False)
class HazardTest:
    """Is the hazard constant after some epoch, as a quasi-steady state of a Markov process demands?

    Attributes:
        start: the hazard is examined at epochs start + 1 .. stop.
        stop: last epoch examined.
        hazard: pooled hazard d / n [per epoch].
        segments: the hazard in consecutive segments of about equal exposure, shape (k,) [per epoch].
        p_value: of Pearson's chi-square for equal hazards in the segments.
        events: number of first passages examined.
    """

    start: int
    stop: int
    hazard: Estimate
    segments: Floats
    p_value: float
    events: int

    @property
    def is_decidable(self) -> bool:
        """Whether there are first passages enough (20), and two segments to compare."""
        return self.events >= MINIMUM_EVENTS and len(self.segments) > 1

    @property
    def is_rejected(self) -> bool:
        """Whether a constant hazard is rejected at p < 0.01."""
        return self.p_value < SIGNIFICANCE

    @property
    def is_constant(self) -> bool:
        """Whether the hazard was shown to be constant: events enough, and not rejected."""
        return self.is_decidable and not self.is_rejected

    def describe(self) -> str:
        """The outcome in words.

        Returns:
            One sentence.
        """
        where = f"after epoch {self.start} ({self.events} first passages, p = {self.p_value:.2g})"
        if self.is_rejected:
            least, most = self.segments.min(), self.segments.max()
            change = f"changes {most / least:.1f}-fold" if least > 0 else "vanishes in places"
            return f"the hazard is not constant {where}: it {change}"
        if not self.is_decidable:
            return f"too few first passages to tell whether the hazard is constant {where}"
        return f"a constant hazard is not rejected {where}"


def constant_hazard_test(survival: Survival, start: int, stop: int | None = None, *, segments: int = 4) -> HazardTest:
    """Pearson's test of equal hazards in consecutive segments after an epoch.

    A quasi-steady state of a time-homogeneous Markov process has Psi(t) geometric: the hazard is constant. A stationary
    distribution of one collective variable does not imply this. Segments have about equal exposure (the sum of runs at
    risk); their number is lowered until each expects at least five events.

    Args:
        survival: of the unperturbed runs.
        start: examine epochs after this one, 0 <= start < stop.
        stop: last epoch examined, by default the horizon.
        segments: number of segments, >= 2.

    Returns:
        The test.

    Raises:
        ValueError: if the epochs are out of range.

    Example:
        >>> epochs = np.arange(1, 41)
        >>> steady = Survival(1000 * 0.9 ** (epochs - 1.0), 100 * 0.9 ** (epochs - 1.0))
        >>> constant_hazard_test(steady, 0).is_constant
        True
        >>> mixed = 500 * (0.7 ** (epochs - 1.0) + 0.99 ** (epochs - 1.0))  # slow runs remain
        >>> constant_hazard_test(Survival(mixed[:-1], -np.diff(mixed)), 0).is_rejected
        True

    Reference: Derived for jostle, after the observation that the published curves of [meir2025] fail it.
    """
    stop = survival.horizon if stop is None else stop
    if not 0 <= start < stop <= survival.horizon:
        raise ValueError(f"start={start}, stop={stop} must satisfy 0 <= start < stop <= {survival.horizon}")
    start, stop = whole_number("start", start, 0), whole_number("stop", stop, 1)
    if segments < 2:
        raise ValueError(f"segments={segments} must be >= 2")
    at_risk, events = survival.at_risk[start:stop], survival.events[start:stop]
    exposure, total = float(at_risk.sum()), float(events.sum())
    pooled = total / exposure if exposure else 0.0
    hazard = Estimate(pooled, math.sqrt(pooled * (1 - pooled) / max(exposure, 1)), max(int(at_risk[0]), 1))
    k = max(min(segments, int(total // 5)), 1)
    edges = np.searchsorted(np.cumsum(at_risk), np.linspace(0, exposure, k + 1)[1:-1]) + 1
    pieces = np.split(np.stack([at_risk, events]), edges, axis=1)
    n, d = np.array([piece.sum(axis=1) for piece in pieces if piece.shape[1] and piece[0].sum()]).T
    if len(n) < 2 or pooled in (0.0, 1.0):
        return HazardTest(start, stop, hazard, d / n, 1.0, int(total))
    from scipy.special import chdtrc

    chi_square = float(((d - pooled * n) ** 2 / (n * pooled * (1 - pooled))).sum())
    return HazardTest(start, stop, hazard, d / n, float(chdtrc(len(n) - 1, chi_square)), int(total))


def geometric_tail_mean(survival: Survival, start: int) -> Estimate:
    """E[T] with the unfinished runs continued at the constant hazard seen after ``start``.

    E[T] = E[min(T, H)] + Psi(H) / h with h the pooled hazard of epochs start + 1 .. H.

    Args:
        survival: of the unperturbed runs.
        start: the hazard is constant after this epoch, which is tested here.

    Returns:
        The mean [epochs]; the standard error is the delta method's, from the independent errors of the hazards h(t). It
        takes the constant hazard beyond H for granted, which no data up to H can show.

    Raises:
        ValueError: unless ``constant_hazard_test`` shows a constant hazard after ``start``.

    Example:
        >>> left = 1000 * 0.9 ** np.arange(20)  # followed for 20 epochs only
        >>> round(geometric_tail_mean(Survival(left, 0.1 * left), 0).value, 9)
        10.0
    """
    test = constant_hazard_test(survival, start)
    if not test.is_constant:
        raise ValueError(f"no geometric tail: {test.describe()}")
    psi, at_risk, h = survival.values, survival.at_risk, survival.hazard
    tail = psi[-1] / test.hazard.value
    value = psi[:-1].sum() + tail
    # dE/dh(t) = -(what remains of E after t) / (1 - h(t)) through Psi, and -tail / h dh through the pooled hazard.
    through_survival = np.divide(value - np.cumsum(psi[:-1]), 1 - h, out=np.zeros_like(h), where=h < 1)
    share = np.where(np.arange(len(h)) >= start, at_risk, 0) / at_risk[start:].sum()
    slope = through_survival + tail / test.hazard.value * share
    variance = float((slope**2 * h * (1 - h) / at_risk).sum())
    return Estimate(float(value), math.sqrt(variance), survival.n)
