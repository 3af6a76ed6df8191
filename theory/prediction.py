"""From training data to predicted training times with intervals and validity.

Two data sets go in: unperturbed runs, and runs perturbed once at epoch P* and followed (the children of survivors). Out
come E[T_P] and E[min(T_P, H)] for any perturbation interval P by the predictors of ``theory.perturbation``, each with

- a delta-method standard error: the infinitesimal jackknife, sum over runs of their squared influence, with a run and
  its perturbed children as one unit;
- a percentile interval from a bootstrap over runs, in which children go wherever their parent goes;
- the reasons, if any, why the predictor is outside its regime, or why its intervals cannot be trusted.

How often the intervals cover the truth was measured: docs/decisions/004-intervals.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.estimate import Estimate, bootstrap_weights, percentile_interval
from theory.hazard import HazardTest
from theory.perturbation import predicted_mean, predicted_restricted_mean
from theory.survival import (
    FirstPassages,
    Floats,
    Survival,
    survival_from_counts,
    survival_from_hazard,
)

LONG_RESIDUALS = 0.05
"""Eq. (9) counts as valid while at most this share of residuals exceeds P (those would be perturbed again)."""

MINIMUM_COMPLETIONS = 10
"""Below this many first passages behind the rate of success within P the delta-method error is too small; percentile
intervals cover down to about four (docs/decisions/004-intervals.md)."""


@dataclass(frozen=True, eq=False)
class PerturbedOnce:
    """Residual times of runs that survived to an epoch and were perturbed there once.

    Attributes:
        residuals: epochs from the perturbation to the target; 1 is the first epoch after it.
        epoch: P*, after whose evaluation the perturbation acted.
        followed: F, epochs for which the perturbed runs were followed. Some may have stopped earlier; if all unfinished
            ones did, residuals are known up to the last stop only.
        parents: for each residual the index of its unperturbed run, or None if the perturbed runs had parents of their
            own (they are then resampled independently).
    """

    residuals: FirstPassages
    epoch: int
    followed: int
    parents: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.epoch < 1 or self.followed < 1:
            raise ValueError(f"epoch={self.epoch} and followed={self.followed} must be >= 1")
        if self.residuals.horizon > self.followed:
            raise ValueError(f"followed={self.followed} is below the longest residual {self.residuals.horizon}")
        if self.parents is None:
            return
        parents = np.asarray(self.parents)
        if parents.shape != (self.residuals.n,) or parents.dtype.kind not in "iu":
            raise ValueError(
                f"parents of shape {parents.shape} and type {parents.dtype} for {self.residuals.n} residuals: each "
                "needs the number of its unperturbed run"
            )
        object.__setattr__(self, "parents", parents)


@dataclass(frozen=True)
class Prediction:
    """Predicted training time when a perturbation acts every P epochs.

    Attributes:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        interval: P [epochs].
        horizon: H of the restricted means [epochs].
        restricted_mean: E[min(T_P, H)] with delta-method error and bootstrap interval.
        mean: E[T_P], or None where the data do not identify it; ``inf`` where no run finishes between perturbations.
        speed_up: E[min(T, H)] / E[min(T_P, H)], a ratio of restricted means.
        reasons: why the predictor is outside its regime; empty if it is valid.
    """

    predictor: str
    interval: int
    horizon: int
    restricted_mean: Estimate
    mean: Estimate | None
    speed_up: Estimate
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the predictor is inside its regime."""
        return not self.reasons


@dataclass(frozen=True)
class BestInterval:
    """The interval with the smallest predicted E[min(T_P, H)], and how sure that is.

    Attributes:
        interval: P [epochs]; the shortest of several equal ones.
        low, high: 95 % bootstrap interval of it.
        horizon: H [epochs].
        is_boundary: whether it is the end of what was examined (other than P = 1), so that the optimum may lie beyond.
    """

    interval: int
    low: int
    high: int
    horizon: int
    is_boundary: bool


Functional = Callable[[npt.NDArray, npt.NDArray | None], npt.NDArray]
"""A number computed from Psi(0..H) and Psi_res(0..F) on the last axis, for any leading axes, real or complex."""


class PerturbationData:
    """Unperturbed runs and, if there are any, runs perturbed once, with their bootstrap replicates.

    Args:
        unperturbed: first passages of the unperturbed runs.
        perturbed_once: residuals after one perturbation; not needed for full resetting.
        horizon: H of the restricted means and the largest interval [epochs]; by default the data's.
        replicates: number of bootstrap replicates.
        rng: generator of the bootstrap. Two perturbations predicted from the same unperturbed runs get equal resamples
            of those runs if they get equal generators.

    Attributes:
        psi: Psi(0..H) of the unperturbed runs.
        residual_psi: Psi_res(0..F) of the runs perturbed once, or None.

    Raises:
        ValueError: if the horizon is below 1 or the unperturbed runs end before it, or if the children's parents do not
            exist or had already finished.
    """

    def __init__(
        self,
        unperturbed: FirstPassages,
        perturbed_once: PerturbedOnce | None = None,
        *,
        horizon: int | None = None,
        replicates: int = 2000,
        rng: np.random.Generator,
    ) -> None:
        self.unperturbed = unperturbed
        self.perturbed_once = perturbed_once
        self.horizon = unperturbed.horizon if horizon is None else horizon
        if self.horizon < 1:
            raise ValueError(f"horizon={self.horizon} must be >= 1")
        Survival.of(unperturbed).at(self.horizon)  # refuses a horizon that the data do not reach
        weights = bootstrap_weights(unperturbed.n, replicates, rng)
        self._counts = unperturbed.counts(horizon=self.horizon)
        self.psi = survival_from_counts(*self._counts)
        self._psi_replicates = survival_from_counts(*unperturbed.counts(weights, self.horizon))
        self.residual_psi: Floats | None = None
        self._residual_replicates: Floats | None = None
        if perturbed_once is None:
            return
        children, parents = perturbed_once.residuals, perturbed_once.parents
        if parents is None:
            child_weights = bootstrap_weights(children.n, replicates, rng)
        else:
            self._check_parents(parents, perturbed_once.epoch)
            child_weights = weights[:, parents]
        # Once Psi_res has fallen to zero it is known for ever; else as long as a run was followed.
        complete = Survival.of(children).is_complete
        known = max(perturbed_once.followed, self.horizon) if complete else children.horizon
        self._residual_counts = children.counts(horizon=known)
        self.residual_psi = survival_from_counts(*self._residual_counts)
        self._residual_replicates = survival_from_counts(*children.counts(child_weights, known))

    def _check_parents(self, parents: npt.NDArray[np.int64], epoch: int) -> None:
        if parents.min() < 0 or parents.max() >= self.unperturbed.n:
            raise ValueError(f"parents must lie between 0 and {self.unperturbed.n - 1}, the unperturbed runs")
        finished = self.unperturbed.times[parents] < epoch + self.unperturbed.observed[parents]
        if finished.any():
            run = parents[finished][0]
            raise ValueError(
                f"run {run} (time {self.unperturbed.times[run]}) is not known to have survived epoch {epoch}, and "
                "can't have been perturbed there"
            )

    def estimate(self, functional: Functional) -> Estimate:
        """A functional of the two survivals with delta-method error and bootstrap interval.

        Args:
            functional: maps (Psi, Psi_res) to a number; evaluated on arrays with leading axes.

        Returns:
            The estimate; where it is infinite so is its standard error. Its n is that of the smaller of the samples
            behind it: the unperturbed runs, and the families of perturbed ones.
        """
        value = float(functional(self.psi, self.residual_psi))
        interval = percentile_interval(functional(self._psi_replicates, self._residual_replicates))
        if not math.isfinite(value):
            return Estimate(value, math.inf, self.unperturbed.n, interval)
        return Estimate(value, *self._delta_error(functional), interval)

    def _delta_error(self, functional: Functional) -> tuple[float, int]:
        """Root of the sum over independent units of their squared influence, and the size of the smaller sample."""
        influence = _influence(self.unperturbed, self._counts, lambda psi: functional(psi, self.residual_psi))
        n, once = len(influence), self.perturbed_once
        if once is None:
            return math.sqrt(float((influence**2).sum())), n
        of_children = _influence(
            once.residuals, self._residual_counts, lambda residuals: functional(self.psi, residuals)
        )
        families = len(of_children) if once.parents is None else len(np.unique(once.parents))
        if of_children.any():
            n = min(n, families)
        if once.parents is None:
            influence = np.concatenate([influence, of_children])
        else:
            influence = influence + np.bincount(once.parents, of_children, minlength=len(influence))
        return math.sqrt(float((influence**2).sum())), n

    def predict(
        self,
        predictor: str,
        interval: int,
        *,
        relaxation_epoch: int | None = None,
        hazard_test: HazardTest | None = None,
    ) -> Prediction:
        """The training time with a perturbation every P epochs.

        Args:
            predictor: ``"restart"`` (full resetting, exact), ``"rare"`` (Eq. 9) or ``"renewal"``.
            interval: P, 1 <= P <= H [epochs].
            relaxation_epoch: t_r, from which on survivors look stationary; None if no such epoch was found.
            hazard_test: test of a constant hazard after t_r.

        Returns:
            The prediction, with ``reasons`` where the predictor is outside its regime. With ``"rare"`` its horizon is
            lowered to P + F if not all perturbed runs were followed to the target.

        Raises:
            ValueError: for an interval out of range, or missing residuals.
        """
        followed = self.horizon if self.residual_psi is None else len(self.residual_psi) - 1
        if predictor == "renewal" and interval > followed:
            raise ValueError(
                f"interval={interval} exceeds the {followed} epochs for which perturbed runs were followed: follow "
                "them longer"
            )
        identified = predictor != "rare" or (self.residual_psi is not None and self.residual_psi[-1] == 0)
        horizon = min(self.horizon, interval + followed) if predictor == "rare" else self.horizon

        def restricted(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return predicted_restricted_mean(predictor, psi, residual_psi, interval, horizon)

        def speed_up(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return psi[..., :horizon].sum(axis=-1) / restricted(psi, residual_psi)

        def mean(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return predicted_mean(predictor, psi, residual_psi, interval)

        return Prediction(
            predictor=predictor,
            interval=interval,
            horizon=horizon,
            restricted_mean=self.estimate(restricted),
            mean=self.estimate(mean) if identified else None,
            speed_up=self.estimate(speed_up),
            reasons=tuple(self._reasons(predictor, interval, relaxation_epoch, hazard_test)),
        )

    def _reasons(
        self, predictor: str, interval: int, relaxation_epoch: int | None, hazard_test: HazardTest | None
    ) -> list[str]:
        """Why a predictor is outside its regime at an interval."""
        if predictor == "restart":
            runs = self.unperturbed
            completions = int((runs.observed & (runs.times <= interval)).sum())
            few = f"only {completions} runs finish within P={interval}: too few for its standard error"
            return [few] if completions < MINIMUM_COMPLETIONS else []
        once, residual_psi = self.perturbed_once, self.residual_psi
        assert once is not None
        assert residual_psi is not None
        reasons = []
        if interval > once.epoch:
            reasons.append(f"P={interval} lies beyond P*={once.epoch}, where the runs were perturbed")
        if relaxation_epoch is None:
            reasons.append("no quasi-steady state was found")
        elif interval < relaxation_epoch:
            reasons.append(f"P={interval} lies before the quasi-steady state, which begins at epoch {relaxation_epoch}")
        if hazard_test is not None and hazard_test.is_rejected:
            reasons.append(hazard_test.describe())
        in_time = once.residuals.observed & (once.residuals.times <= interval)
        families = np.arange(len(in_time)) if once.parents is None else once.parents
        completions = len(np.unique(families[in_time]))
        if completions < MINIMUM_COMPLETIONS:
            reasons.append(
                f"only {completions} perturbed runs finish within P={interval}: too few for its standard error"
            )
        if predictor == "rare":
            beyond = float(residual_psi[min(interval, len(residual_psi) - 1)])
            if beyond > LONG_RESIDUALS:
                reasons.append(f"{beyond:.0%} of the residuals exceed P={interval} and would be perturbed again")
        return reasons

    def best_interval(self, predictor: str, intervals: Sequence[int]) -> BestInterval:
        """The interval with the smallest E[min(T_P, H)], with its sampling error.

        Args:
            predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
            intervals: those to choose from, such as the valid ones [epochs].

        Returns:
            The best; the mean there is slightly too good, as that of any winner is.

        Raises:
            ValueError: for no intervals, or one out of range.
        """
        if len(intervals) == 0:
            raise ValueError("intervals is empty: there is nothing to choose from")
        intervals, horizon = sorted(intervals), self.horizon
        if predictor == "rare" and self.residual_psi is not None:
            horizon = min(horizon, intervals[0] + len(self.residual_psi) - 1)

        def best(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            means = [predicted_restricted_mean(predictor, psi, residual_psi, p, horizon) for p in intervals]
            return np.asarray(intervals)[np.argmin(means, axis=0)]

        interval = int(best(self.psi, self.residual_psi))
        low, high = percentile_interval(best(self._psi_replicates, self._residual_replicates))
        is_boundary = interval == intervals[-1] or (interval == intervals[0] and interval > 1)
        return BestInterval(interval, int(low), int(high), horizon, is_boundary)


def speed_up_lower_bound(unperturbed: Survival, prediction: Prediction) -> float | None:
    """E[min(T, H)] / E[T_P] at the last epoch H with data: a lower bound of E[T] / E[T_P].

    Args:
        unperturbed: survival of the unperturbed runs, some of which may be unfinished.
        prediction: the perturbed mean, from these or other runs.

    Returns:
        The bound, or None where E[T_P] is not identified.
    """
    if prediction.mean is None:
        return None
    return unperturbed.restricted_mean(unperturbed.horizon).value / prediction.mean.value


def _influence(
    sample: FirstPassages, counts: tuple[Floats, Floats], functional: Callable[[npt.NDArray], npt.NDArray]
) -> Floats:
    """Influence of each run on a functional of Psi: sum_t dF/dh_t (dN_i(t) - h_t Y_i(t)) / n_t.

    The slopes dF/dh_t are complex-step derivatives: exact to machine precision, for any functional.
    """
    at_risk, events = counts
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    step = 1e-30
    moved = functional(survival_from_hazard(hazard + 1j * step * np.eye(len(hazard))))
    slopes = np.broadcast_to(np.imag(moved) / step, hazard.shape)
    per_event = np.divide(slopes, at_risk, out=np.zeros_like(slopes), where=at_risk > 0)
    compensator = np.concatenate([[0.0], np.cumsum(per_event * hazard)])
    last = np.minimum(sample.times, len(slopes))
    # A passage beyond the horizon is survival as far as the functional can see.
    passed = sample.observed & (sample.times <= len(slopes))
    return np.where(passed, per_event[last - 1], 0.0) - compensator[last]


def best_prediction(predictions: Sequence[Prediction]) -> Prediction | None:
    """The valid prediction with the smallest restricted mean, or None if none is valid.

    Args:
        predictions: at one horizon.

    Returns:
        The best one.

    Raises:
        ValueError: if the valid ones differ in their horizon: their restricted means are different quantities.
    """
    valid = [p for p in predictions if p.valid]
    horizons = sorted({p.horizon for p in valid})
    if len(horizons) > 1:
        raise ValueError(f"predictions at horizons {horizons} cannot be compared; choose those at one horizon")
    return min(valid, key=lambda p: p.restricted_mean.value, default=None)
