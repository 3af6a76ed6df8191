"""From training data to predicted training times with intervals and validity.

Two data sets go in: unperturbed runs, and runs perturbed once at epoch P* and followed (the children of survivors). Out
come E[T_P] and E[min(T_P, H)] for any perturbation interval P by the predictors of ``theory.perturbation``, each with

- a delta-method standard error: the infinitesimal jackknife, sum over runs of their squared influence, with a run and
  its perturbed children as one unit;
- a percentile interval from a bootstrap over runs, in which children go wherever their parent goes;
- the reasons, if any, why the predictor is outside its regime, or why its intervals cannot be trusted.

How often the intervals cover the truth was measured: docs/decisions/004-intervals.md.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from theory.absorbing import whole_number
from theory.bootstrap import bootstrap_weights, percentile_interval
from theory.discrete_resetting import check_interval
from theory.estimate import Estimate
from theory.hazard import HazardTest
from theory.influence import influence
from theory.perturbation import predicted_mean, predicted_restricted_mean
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import BestInterval, Prediction
from theory.survival import (
    FirstPassages,
    Floats,
    Survival,
    restricted_mean,
    survival_from_counts,
)

LONG_RESIDUALS = 0.05
"""Eq. (9) counts as valid while at most this share of residuals exceeds P (those would be perturbed again)."""

MINIMUM_COMPLETIONS = 10
"""Below this many first passages behind the rate of success within P the delta-method error is too small; percentile
intervals cover down to about four (docs/decisions/004-intervals.md)."""


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

    Example:
        >>> from theory import rational_chain
        >>> from theory.chain_sampling import sample_branched
        >>> toy, rng = rational_chain(), np.random.default_rng(0)
        >>> runs = sample_branched(toy.chain, toy.perturbation, 10, 500, rng, horizon=60, follow=20)
        >>> once = PerturbedOnce(runs.residual, epoch=10, followed=20, parents=runs.parent)
        >>> data = PerturbationData(runs.unperturbed, once, replicates=100, rng=rng)
        >>> time = data.predict("renewal", 10, relaxation_epoch=8).restricted_mean  # E[min(T_10, 60)]
        >>> abs(time.value - 14.284913) < 2 * time.standard_error  # theory.perturbed_chain.periodic_survival
        True
        >>> data.predict("rare", 10, relaxation_epoch=8).reasons
        ('46% of the residuals exceed P=10 and would be perturbed again',)
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
        self.horizon = whole_number("horizon", unperturbed.horizon if horizon is None else horizon, 1)
        Survival.of(unperturbed).at(self.horizon)  # refuses a horizon that the data do not reach
        self._weights = bootstrap_weights(unperturbed.n, replicates, rng)
        self._counts = unperturbed.counts(horizon=self.horizon)
        self.psi = survival_from_counts(*self._counts)
        self._psi_replicates = survival_from_counts(*unperturbed.counts(self._weights, self.horizon))
        self.residual_psi: Floats | None = None
        self._residual_replicates: Floats | None = None
        if perturbed_once is not None:
            self._add(perturbed_once, rng)

    def with_perturbed_once(self, perturbed_once: PerturbedOnce, rng: np.random.Generator) -> "PerturbationData":
        """The same unperturbed runs and resamples of them, with other residuals.

        Args:
            perturbed_once: residuals after one perturbation.
            rng: generator of the bootstrap of residuals without parents.

        Returns:
            New data; what it shares with these cancels in comparisons.

        Raises:
            ValueError: if the children's parents do not exist or had already finished.
        """
        data = copy.copy(self)
        data._add(perturbed_once, rng)
        return data

    def _add(self, perturbed_once: PerturbedOnce, rng: np.random.Generator) -> None:
        self.perturbed_once = perturbed_once
        children, parents = perturbed_once.residuals, perturbed_once.parents
        if parents is None:
            child_weights = bootstrap_weights(children.n, len(self._weights), rng)
        else:
            self._check_parents(parents, perturbed_once.epoch)
            child_weights = self._weights[:, parents]
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

    @property
    def resamples(self) -> int:
        """Number of bootstrap replicates."""
        return len(self._weights)

    def estimate(self, functional: Functional) -> Estimate:
        """A functional of the two survivals with delta-method error and bootstrap interval.

        Args:
            functional: maps (Psi, Psi_res) to a number; evaluated on arrays with leading axes.

        Returns:
            The estimate; where it is infinite so is its standard error. Its n is that of the smaller of the samples
            behind it: the unperturbed runs, and the families of perturbed ones.
        """

        def one(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return np.asarray(functional(psi, residual_psi))[..., None]

        return self.estimates(one)[0]

    def estimates(self, functional: Functional) -> tuple[Estimate, ...]:
        """``estimate`` of several numbers at once, such as the means at many intervals.

        Args:
            functional: maps (Psi, Psi_res) of shapes (..., H + 1) and (..., F + 1) to numbers of shape (..., k).

        Returns:
            The k estimates.
        """
        values = functional(self.psi, self.residual_psi)
        replicates = self.replicates(functional)
        with np.errstate(invalid="ignore"):  # infinite ones have no derivative, and need none
            errors, sizes = self._delta_errors(functional)
        return tuple(
            Estimate(value, error, int(size), percentile_interval(column))
            if math.isfinite(value)
            else Estimate(value, math.inf, self.unperturbed.n, percentile_interval(column))
            for value, error, size, column in zip(values.tolist(), errors.tolist(), sizes, replicates.T, strict=True)
        )

    def replicates(self, functional: Functional) -> Floats:
        """A functional of the bootstrap replicates.

        Args:
            functional: of the two survivals, evaluated on arrays with leading axes.

        Returns:
            Shape (B, ...). Two data sets made with equal generators have equal resamples of equal unperturbed runs.
        """
        return functional(self._psi_replicates, self._residual_replicates)

    def influence(self, functional: Functional) -> tuple[Floats, Floats | None]:
        """First-order effect of each run on a functional: what the estimate owes to it, times 1 / n.

        Args:
            functional: maps (Psi, Psi_res) to numbers of shape (..., k); evaluated with complex steps.

        Returns:
            Influence of each unperturbed run, shape (n, k), and of each perturbed one, shape (m, k), or None without
            them. The squares of independent units add up to the variance of the estimate.
        """
        of_runs = influence(self.unperturbed, self._counts, lambda psi: functional(psi, self.residual_psi))
        if self.perturbed_once is None:
            return of_runs, None
        of_children = influence(
            self.perturbed_once.residuals, self._residual_counts, lambda residuals: functional(self.psi, residuals)
        )
        return of_runs, of_children

    def _delta_errors(self, functional: Functional) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Root of the sum over independent units of their squared influence, and the size of the smaller sample."""
        of_units, of_children = self.influence(functional)
        sizes, once = np.full(of_units.shape[1], len(of_units)), self.perturbed_once
        if once is None or of_children is None:
            return np.sqrt((of_units**2).sum(axis=0)), sizes
        families = len(of_children) if once.parents is None else len(np.unique(once.parents))
        sizes = np.where(of_children.any(axis=0), np.minimum(sizes, families), sizes)
        if once.parents is None:
            of_units = np.concatenate([of_units, of_children])
        else:
            np.add.at(of_units, once.parents, of_children)
        return np.sqrt((of_units**2).sum(axis=0)), sizes

    def predict(
        self,
        predictor: str,
        interval: int,
        *,
        relaxation_epoch: int | None = None,
        hazard_test: HazardTest | None = None,
    ) -> Prediction:
        """``predictions`` at one interval.

        Args:
            predictor: ``"restart"`` (full resetting, exact), ``"rare"`` (Eq. 9) or ``"renewal"``.
            interval: P, 1 <= P <= H [epochs].
            relaxation_epoch: t_r, from which on survivors look stationary; None if no such epoch was found.
            hazard_test: test of a constant hazard after t_r.

        Returns:
            The prediction.

        Raises:
            ValueError: for an interval out of range, or missing residuals.
        """
        (prediction,) = self.predictions(
            predictor, [interval], relaxation_epoch=relaxation_epoch, hazard_test=hazard_test
        )
        return prediction

    def predictions(
        self,
        predictor: str,
        intervals: Sequence[int],
        *,
        relaxation_epoch: int | None = None,
        hazard_test: HazardTest | None = None,
    ) -> tuple[Prediction, ...]:
        """The training time with a perturbation every P epochs, for several P at once.

        Args:
            predictor: ``"restart"`` (full resetting, exact), ``"rare"`` (Eq. 9) or ``"renewal"``.
            intervals: P, each from 1 to H [epochs].
            relaxation_epoch: t_r, from which on survivors look stationary; None if no such epoch was found.
            hazard_test: test of a constant hazard after t_r.

        Returns:
            A prediction for each, with ``reasons`` where the predictor is outside its regime. With ``"rare"`` its
            horizon is lowered to P + F if not all perturbed runs were followed to the target.

        Raises:
            ValueError: for an interval out of range, or missing residuals.
        """
        if len(intervals) == 0:
            return ()
        chosen = check_interval(self.psi, np.asarray(intervals))
        followed = self.horizon if self.residual_psi is None else len(self.residual_psi) - 1
        if predictor == "renewal" and np.max(chosen) > followed:
            raise ValueError(
                f"interval={np.max(chosen)} exceeds the {followed} epochs for which perturbed runs were followed: "
                "follow them longer"
            )
        identified = predictor != "rare" or (self.residual_psi is not None and self.residual_psi[-1] == 0)
        horizons = np.full(len(intervals), self.horizon)
        if predictor == "rare":
            horizons = np.minimum(horizons, chosen + followed)

        def restricted(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return predicted_restricted_mean(predictor, psi, residual_psi, chosen, horizons)

        def speed_up(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return restricted_mean(psi, horizons) / restricted(psi, residual_psi)

        def mean(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
            return predicted_mean(predictor, psi, residual_psi, chosen)

        restricted_means, speed_ups = self.estimates(restricted), self.estimates(speed_up)
        means = self.estimates(mean) if identified else [None] * len(intervals)
        return tuple(
            Prediction(
                predictor=predictor,
                interval=interval,
                horizon=horizon,
                restricted_mean=restricted_means[i],
                mean=means[i],
                speed_up=speed_ups[i],
                reasons=tuple(self._reasons(predictor, interval, relaxation_epoch, hazard_test)),
            )
            for i, (interval, horizon) in enumerate(zip(intervals, horizons.tolist(), strict=True))
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
            means = predicted_restricted_mean(predictor, psi, residual_psi, np.asarray(intervals), horizon)
            return np.asarray(intervals)[np.argmin(means, axis=-1)]

        interval = int(best(self.psi, self.residual_psi))
        low, high = percentile_interval(best(self._psi_replicates, self._residual_replicates))
        is_boundary = interval == intervals[-1] or (interval == intervals[0] and interval > 1)
        return BestInterval(interval, int(low), int(high), horizon, is_boundary)
