"""First-passage samples with censoring: Kaplan-Meier survival, hazard, restricted mean.

Time is counted in completed epochs, 1-based: T = k means that the criterion was first met at the evaluation after epoch
k. Psi(t) = Pr(T > t). A run that stops early without meeting the criterion is censored at its last epoch: it is known
to have survived that long. Why it stopped must have nothing to do with how it went; a run given up as hopeless, or one
that diverged, has survived to the horizon and is entered as that. E[T] with unfinished runs is not a number;
``Survival.mean`` refuses it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate


@dataclass(frozen=True, eq=False)
class FirstPassages:
    """First-passage times of n independent runs, some of them censored.

    Attributes:
        times: shape (n,) [epochs]. The first-passage epoch of a finished run (>= 1), or the last epoch that an
            unfinished run is known to have survived (>= 0).
        observed: shape (n,). True for a finished run, False for a censored one.
    """

    times: npt.NDArray[np.int64]
    observed: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        times, observed = np.asarray(self.times), np.asarray(self.observed)
        if times.ndim != 1 or times.shape != observed.shape or len(times) == 0:
            raise ValueError(f"times {times.shape} and observed {observed.shape} must be equally long and not empty")
        if observed.dtype != bool:
            raise ValueError(f"observed has dtype {observed.dtype}; it must be bool (True = reached the target)")
        if not np.isfinite(times).all() or (times != np.floor(times)).any():
            raise ValueError("times must be whole epochs")
        if (times < observed.astype(int)).any():
            raise ValueError(
                f"times={times[times < observed][0]}: epochs are 1-based, the earliest first passage is 1; "
                "add 1 to times that count from 0"
            )
        object.__setattr__(self, "times", times.astype(np.int64))
        object.__setattr__(self, "observed", observed)

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.times)

    @property
    def horizon(self) -> int:
        """Last epoch about which the data say anything."""
        return int(self.times.max())

    @classmethod
    def from_curves(cls, values: npt.ArrayLike, target: float, *, direction: str = "up") -> "FirstPassages":
        """First epoch at which each curve meets the target.

        Args:
            values: shape (n, H); column t - 1 is the evaluation after epoch t. NaN after a run's last epoch; a NaN
                before it is an evaluation that was not made and cannot meet the target. Infinite values count: a run
                whose loss overflowed is followed and unfinished, where NaN would say that it was stopped.
            target: the criterion is value >= target (``"up"``) or value <= target (``"down"``).
            direction: ``"up"`` for accuracies, ``"down"`` for losses.

        Returns:
            The first passages; runs that never meet the target are censored at their last epoch.

        Raises:
            ValueError: for an unknown direction, a non-finite target or an array that is not two-dimensional.

        Example:
            >>> FirstPassages.from_curves([[0.2, 0.9, 0.8], [0.1, 0.2, 0.3]], 0.9)
            FirstPassages(times=array([2, 3]), observed=array([ True, False]))
        """
        x = np.asarray(values, dtype=float)
        if direction not in ("up", "down"):
            raise ValueError(f"direction={direction!r} must be 'up' (accuracy) or 'down' (loss)")
        if x.ndim != 2 or x.size == 0:
            raise ValueError(f"values have shape {x.shape}; they must be (runs, epochs)")
        if not math.isfinite(target):
            raise ValueError(f"target={target} must be finite")
        meets = np.asarray(x >= target if direction == "up" else x <= target)
        observed = np.asarray(meets.any(axis=1))
        known = ~np.isnan(x)
        last_epoch = np.where(known.any(axis=1), x.shape[1] - known[:, ::-1].argmax(axis=1), 0)
        return cls(np.where(observed, meets.argmax(axis=1) + 1, last_epoch), observed)

    def counts(self, weights: npt.NDArray | None = None, horizon: int | None = None) -> tuple[Floats, Floats]:
        """Runs at risk and first passages at each epoch, for any weighting of the runs.

        Args:
            weights: shape (..., n), how often each run counts, such as bootstrap counts; once each by default.
            horizon: number of epochs H of the result, by default the data's.

        Returns:
            (at_risk, events), each of shape (..., H); column t - 1 belongs to epoch t.
        """
        length = (self.horizon if horizon is None else horizon) + 1
        w = np.ones(self.n) if weights is None else np.asarray(weights, dtype=float)
        # A matrix product with one-hot columns beats bincount per replicate by an order of magnitude.
        last = np.minimum(self.times, length)[:, None] == np.arange(length + 1)
        ending = w @ last.astype(float)
        events = w @ (last & self.observed[:, None]).astype(float)
        at_risk = np.cumsum(ending[..., ::-1], axis=-1)[..., ::-1]
        return at_risk[..., 1:length], events[..., 1:length]


def survival_from_counts(at_risk: Floats, events: Floats) -> Floats:
    """Kaplan-Meier product Psi(t) = prod_{s <= t} (1 - d_s / n_s), for t = 0..H.

    Where nobody is at risk any more the last value is kept: zero if everybody finished, unidentified otherwise
    (``Survival`` refuses to go there; bootstrap replicates, which may lose their longest run, do not).

    Args:
        at_risk: shape (..., H).
        events: shape (..., H).

    Returns:
        Shape (..., H + 1), beginning with 1.
    """
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    return survival_from_hazard(hazard)


def survival_from_hazard(hazard: npt.NDArray) -> npt.NDArray:
    """Psi(t) = prod_{s <= t} (1 - h(s)) for t = 0..H, real or complex (for complex-step derivatives).

    Args:
        hazard: shape (..., H).

    Returns:
        Shape (..., H + 1), beginning with 1.
    """
    ones = np.ones((*hazard.shape[:-1], 1), dtype=hazard.dtype)
    return np.concatenate([ones, np.cumprod(1 - hazard, axis=-1)], axis=-1)


def restricted_mean(survival: npt.NDArray, horizon: int | npt.NDArray[np.integer]) -> npt.NDArray:
    """E[min(T, H)] = sum_{t=0}^{H-1} Psi(t).

    Args:
        survival: Psi(0..), shape (..., at least H).
        horizon: H >= 0 [epochs]; or several at once, shape (k,).

    Returns:
        Shape (...), or (..., k) for several [epochs].

    Raises:
        ValueError: if a horizon is negative or beyond the survival's end.
    """
    horizons, end = np.asarray(horizon), survival.shape[-1]
    if horizons.size and not 0 <= horizons.min() <= horizons.max() <= end:
        outside = horizons[(horizons < 0) | (horizons > end)].flat[0]
        raise ValueError(f"horizon={outside} must lie between 0 and {end}, where the survival ends")
    if horizons.ndim == 0:
        return survival[..., : int(horizons)].sum(axis=-1)
    nothing = np.zeros((*survival.shape[:-1], 1), dtype=survival.dtype)
    return np.concatenate([nothing, np.cumsum(survival, axis=-1)], axis=-1)[..., horizons]


MOST_RUNS = 1e15
"""Counts beyond are no exact floats."""


@dataclass(frozen=True, eq=False)
class Survival:
    """Kaplan-Meier estimate of Psi(t) = Pr(T > t) from right-censored first passages.

    Attributes:
        at_risk: n_t, runs still unfinished and followed at epoch t; shape (H,), epoch t in column t - 1.
        events: d_t, first passages at epoch t; shape (H,).
    """

    at_risk: Floats
    events: Floats

    def __post_init__(self) -> None:
        at_risk, events = self.at_risk, self.events
        if np.ndim(at_risk) != 1 or np.shape(at_risk) != np.shape(events) or not len(at_risk):
            raise ValueError(
                f"at_risk of shape {np.shape(at_risk)} and events of shape {np.shape(events)} must both be (epochs,)"
            )
        if not ((at_risk > 0) & (at_risk <= MOST_RUNS) & (events >= 0) & (events <= at_risk)).all():
            raise ValueError(
                f"at_risk={at_risk} must be > 0 and at most {MOST_RUNS:g}, and events={events} from 0 to at_risk"
            )

    @classmethod
    def of(cls, first_passages: FirstPassages) -> "Survival":
        """The estimate for a sample.

        Args:
            first_passages: the sample.

        Returns:
            Its survival up to its horizon.

        Raises:
            ValueError: if no run was followed for a single epoch.
        """
        if first_passages.horizon < 1:
            raise ValueError(
                f"none of the {first_passages.n} runs was followed for an epoch: there is nothing to estimate"
            )
        return cls(*first_passages.counts())

    @property
    def n(self) -> int:
        """Number of runs that were followed for an epoch at least."""
        return int(self.at_risk[0])

    @property
    def horizon(self) -> int:
        """Last epoch H with data."""
        return len(self.at_risk)

    @cached_property
    def values(self) -> Floats:
        """Psi(0..H), shape (H + 1,)."""
        return survival_from_counts(self.at_risk, self.events)

    @cached_property
    def hazard(self) -> Floats:
        """h(t) = Pr(T = t | T > t - 1) = d_t / n_t for t = 1..H, shape (H,)."""
        return self.events / self.at_risk

    @property
    def is_complete(self) -> bool:
        """Whether the survival falls to zero, so that the mean first-passage time is identified.

        Without censoring that is: every run finished. A run censored before the last finished one does no harm.
        """
        return self.values[-1] == 0

    @cached_property
    def standard_error(self) -> Floats:
        """Greenwood's standard error of Psi(0..H), shape (H + 1,)."""
        return self.values * np.sqrt(np.concatenate([[0.0], np.cumsum(self._log_variance_increments)]))

    @cached_property
    def _log_variance_increments(self) -> Floats:
        # d/(n (n - d)); at the last event n = d and Psi vanishes, so that the term never counts.
        remaining = self.at_risk - self.events
        return np.divide(self.events, self.at_risk * remaining, out=np.zeros_like(self.events), where=remaining > 0)

    def at(self, epoch: int) -> float:
        """Psi(epoch).

        Args:
            epoch: t >= 0.

        Returns:
            The survival probability; 0 beyond the horizon of a complete sample.

        Raises:
            ValueError: beyond the horizon of a sample with unfinished runs.
        """
        if not epoch >= 0:
            raise ValueError(f"epoch={epoch} must be >= 0")
        epoch = whole_number("epoch", epoch, 0)
        if epoch <= self.horizon:
            return float(self.values[epoch])
        if self.is_complete:
            return 0.0
        raise ValueError(
            f"epoch={epoch} lies beyond the horizon {self.horizon}, where {self.values[-1]:.1%} of the runs are "
            "unfinished: train longer"
        )

    def padded(self, horizon: int) -> Floats:
        """Psi(0..horizon), shape (horizon + 1,).

        Args:
            horizon: last epoch wanted.

        Returns:
            The values, continued by zeros if every run finished.

        Raises:
            ValueError: beyond the horizon of a sample with unfinished runs.
        """
        horizon = whole_number("horizon", horizon, 0)
        self.at(horizon)
        return np.pad(self.values, (0, max(horizon - self.horizon, 0)))[: horizon + 1]

    def restricted_mean(self, horizon: int) -> Estimate:
        """E[min(T, H)] with Greenwood's standard error.

        Args:
            horizon: H >= 1 [epochs].

        Returns:
            The estimate [epochs].

        Raises:
            ValueError: beyond the horizon of a sample with unfinished runs.

        Example:
            >>> sample = FirstPassages(np.array([1, 2, 3]), np.array([True, True, False]))
            >>> Survival.of(sample).restricted_mean(3).value
            2.0
        """
        horizon = whole_number("horizon", horizon, 1)
        psi = self.padded(horizon)
        value = float(restricted_mean(psi, horizon))
        tail = value - np.concatenate([[0.0], np.cumsum(psi)])[1 : horizon + 1]
        increments = np.pad(self._log_variance_increments, (0, max(horizon - self.horizon, 0)))[:horizon]
        return Estimate(value, math.sqrt(float((increments * tail**2).sum())), self.n)

    def mean(self) -> Estimate:
        """E[T], which is identified only if every run finished.

        Returns:
            The mean first-passage time [epochs].

        Raises:
            ValueError: with unfinished runs.
        """
        if not self.is_complete:
            bound = self.restricted_mean(self.horizon)
            raise ValueError(
                f"{self.values[-1]:.1%} of the runs are unfinished at epoch {self.horizon}: E[T] is not identified. "
                f"Use restricted_mean({self.horizon}), a lower bound: {bound.value:.4g}"
            )
        return self.restricted_mean(self.horizon)

    def band(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Pointwise confidence band of Psi(0..H) on the log(-log) scale, which stays inside [0, 1].

        Where Greenwood's error vanishes, before the first passage and after the last, exact binomial bounds for the
        runs still at risk take its place.

        Args:
            level: pointwise coverage, strictly between 0 and 1.

        Returns:
            (low, high), each of shape (H + 1,).

        Raises:
            ValueError: if the level is outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level} must lie strictly between 0 and 1")
        from scipy.special import ndtri

        z = float(ndtri(0.5 + level / 2))
        psi = self.values
        inside = (psi > 0) & (psi < 1)
        low, high = psi.copy(), psi.copy()
        log_psi = np.log(psi[inside])
        shift = z * self.standard_error[inside] / (psi[inside] * np.abs(log_psi))
        low[inside] = np.exp(log_psi * np.exp(shift))
        high[inside] = np.exp(log_psi * np.exp(-shift))
        # If all n at risk pass (or none does), the probability of that is above (1 - level) / 2 on this side of:
        bound = ((1 - level) / 2) ** (1 / self.at_risk)
        low[1:][psi[1:] == 1] = bound[psi[1:] == 1]
        if self.is_complete:
            last = int(np.flatnonzero(psi > 0)[-1])
            high[last + 1 :] = min(high[last], 1 - bound[last])
        return low, high
