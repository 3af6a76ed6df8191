"""What the data do not tell, and what it would take: more runs, longer runs, or more runs to tell two protocols apart.

All three answers extrapolate from the data at hand: errors fall as 1 / sqrt(n) with everything else kept, a hazard that
was shown to be constant stays so, a difference is as large as it was seen to be.

Derived for jostle.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.estimate import Estimate
from theory.hazard import constant_hazard_test
from theory.perturbation import predicted_restricted_mean
from theory.prediction import Functional, PerturbationData
from theory.survival import Floats, Survival

ROUNDING = 1e-9
"""Runs or epochs by which a need may be missed through rounding."""

LARGEST_RATIO = 1e100
"""Of an error to a difference; a smaller difference counts as none."""


@dataclass(frozen=True)
class RunsNeeded:
    """How many runs a wanted precision takes, if their proportions stay as they are.

    Attributes:
        estimate: what was asked for, from the present data.
        relative_error: wanted standard error / value.
        parents: unperturbed runs at present.
        children: perturbed runs at present.
        parents_needed: unperturbed runs needed in all; the present ones if they cause no error.
        children_needed: perturbed runs needed in all; likewise.
        error_of_parents: the standard error if Psi_res were known exactly.
        error_of_children: the standard error if Psi were known exactly.
        add: ``"parents"`` or ``"children"``: of which an epoch of training more lowers the variance more;
            ``"neither"`` if there is no error. Children are of survivors that have none yet.
    """

    estimate: Estimate
    relative_error: float
    parents: int
    children: int
    parents_needed: int
    children_needed: int
    error_of_parents: float
    error_of_children: float
    add: str

    @property
    def is_met(self) -> bool:
        """Whether the present data have the wanted precision."""
        return self.parents_needed <= self.parents and self.children_needed <= self.children

    def describe(self) -> str:
        """The need in words.

        Returns:
            One sentence.
        """
        error = self.estimate.standard_error / abs(self.estimate.value)
        now = f"{self.estimate.value:.4g} has an error of {_percent(error)} from {_runs(self.parents, self.children)}"
        if self.is_met:
            return f"{now}, as small as wanted ({_percent(self.relative_error)})."
        needed = f"{now}; {_percent(self.relative_error)} takes {_runs(self.parents_needed, self.children_needed)}"
        if not self.children:
            return f"{needed}."
        share = self.error_of_children**2 / (self.error_of_parents**2 + self.error_of_children**2)
        return f"{needed}, or fewer epochs with more {self.add} first ({share:.0%} of the variance is due to children)."


def runs_needed(data: PerturbationData, wanted: Functional | tuple[str, int], *, relative_error: float) -> RunsNeeded:
    """Parents and children needed for a wanted precision, in the proportion of the present ones.

    The standard error of any smooth functional of Psi and Psi_res falls as 1 / sqrt(n) if parents and children both
    grow by the factor (present error / wanted error)^2. Its variance has two parts, A / n + B / m, the squared errors
    with the other survival held fixed (and a covariance where Psi beyond the branch epoch matters, since children take
    after their parents). One parent more lowers the first by A / n^2 and costs its epochs: the part that is larger for
    each epoch spent on it so far is the one to lower.

    Args:
        data: the present runs.
        wanted: a functional of (Psi, Psi_res), or (predictor, P) for its E[min(T_P, H)].
        relative_error: wanted standard error / value.

    Returns:
        The need.

    Raises:
        ValueError: for a relative error that is not > 0, or a value that is 0 or infinite.

    Example:
        >>> from theory import FirstPassages
        >>> times = np.repeat(np.arange(1, 101), 4)  # 400 runs that need 1 to 100 epochs
        >>> data = PerturbationData(FirstPassages(times, times > 0), replicates=2, rng=np.random.default_rng(0))
        >>> runs_needed(data, ("restart", 50), relative_error=0.01).describe()
        '56.62 has an error of 3.56 % from 400 runs; 1 % takes 5,059 runs.'
    """
    _check_positive("relative_error", relative_error)
    functional = wanted if callable(wanted) else _restricted_mean(data, *wanted)
    estimate = data.estimate(functional)
    if estimate.value == 0 or not math.isfinite(estimate.value):
        raise ValueError(f"the value is {estimate.value}: it has no relative error; ask for a restricted mean")

    # The zeros give results the shape of the replicates, whichever survival is held fixed.
    def by_parents(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
        return functional(psi, data.residual_psi) + 0 * psi[..., 0]

    def by_children(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
        return functional(data.psi, residual_psi) + 0 * psi[..., 0]

    of_parents, of_children = (data.estimate(f).standard_error for f in (by_parents, by_children))
    once = data.perturbed_once
    children = 0 if once is None else once.residuals.n
    spent_on_parents = float(data.unperturbed.times.sum())
    spent_on_children = 0.0 if once is None else float(once.residuals.times.sum())
    add = "neither"
    if of_parents or of_children:
        parents_first = of_parents**2 * spent_on_children >= of_children**2 * spent_on_parents
        add = "parents" if parents_first or not children else "children"
    factor = (estimate.standard_error / (relative_error * abs(estimate.value))) ** 2
    return RunsNeeded(
        estimate=estimate,
        relative_error=relative_error,
        parents=data.unperturbed.n,
        children=children,
        parents_needed=math.ceil(data.unperturbed.n * factor - ROUNDING) if of_parents > 0 else data.unperturbed.n,
        children_needed=math.ceil(children * factor - ROUNDING) if of_children > 0 else children,
        error_of_parents=of_parents,
        error_of_children=of_children,
        add=add,
    )


@dataclass(frozen=True)
class HorizonNeeded:
    """Until which epoch runs must be followed so that at most a given share is unfinished.

    Attributes:
        unfinished: the share that may remain.
        epoch: the first such epoch.
        interval95: 95 % interval of it; its upper end is None if it lies beyond the data, and these were not continued.
        horizon: the last epoch with data.
        unfinished_now: Psi(horizon).
        hazard: the constant hazard that the data were continued with; None if they reach that far themselves.
    """

    unfinished: float
    epoch: int
    interval95: tuple[int, int | None]
    horizon: int
    unfinished_now: float
    hazard: Estimate | None

    def describe(self) -> str:
        """The need in words.

        Returns:
            One sentence.
        """
        low, high = self.interval95
        until = "or more" if high is None else f"to {high:,}"
        what = f"At most {_percent(self.unfinished)} of the runs are unfinished from epoch {self.epoch:,} on"
        where = f"{what} (95 % interval {low:,} {until})"
        if self.hazard is None:
            return f"{where}, which the data reach."
        return (
            f"{where}, if the hazard stays at {self.hazard.value:.2g} per epoch; at epoch {self.horizon:,}, where the "
            f"data end, {_percent(self.unfinished_now)} are."
        )


def horizon_needed(survival: Survival, start: int, *, unfinished: float) -> HorizonNeeded:
    """The epoch from which on at most a share u of the runs is unfinished.

    Where the data reach that far, it is read off them, with the interval at which the band of Psi crosses u. Where they
    do not, they are continued at the pooled hazard h of epochs start + 1 .. H, if that was shown to be constant:

        H + k,   k = ln(u / Psi(H)) / ln(1 - h),

    with the delta-method error from the independent errors of the hazards h(t), through Psi(H) and through h. The
    interval is symmetric in the logarithm of the epochs since ``start``.

    Args:
        survival: of the runs.
        start: t_r, after which the hazard is taken to be constant; this is tested.
        unfinished: u, 0 < u < 1.

    Returns:
        The need.

    Raises:
        ValueError: for a share outside (0, 1), or where the data have to be continued, and the hazard after ``start``
            was not shown to be constant.

    Example:
        >>> runs = Survival(1000 * 0.9 ** np.arange(20), 100 * 0.9 ** np.arange(20))
        >>> horizon_needed(runs, 0, unfinished=0.01).epoch  # 0.9^44 < 0.01
        44
    """
    if not 0 < unfinished < 1:
        raise ValueError(f"unfinished={unfinished} must lie strictly between 0 and 1")
    psi, horizon = survival.values, survival.horizon
    if psi[-1] <= unfinished:
        low, high = (_first_below(bound, unfinished) for bound in survival.band())
        epoch = _first_below(psi, unfinished)
        assert epoch is not None
        assert low is not None
        return HorizonNeeded(unfinished, epoch, (low, high), horizon, float(psi[-1]), None)
    test = constant_hazard_test(survival, start)
    if not test.is_constant:
        raise ValueError(
            f"{_percent(psi[-1])} of the runs are unfinished at epoch {horizon}, and when it will be "
            f"{_percent(unfinished)} is not known: {test.describe()}; train longer"
        )
    h, log_alive = survival.hazard, math.log1p(-test.hazard.value)
    log_share = math.log(unfinished / psi[-1])
    further = log_share / log_alive
    share = np.where(np.arange(horizon) >= start, survival.at_risk, 0) / survival.at_risk[start:].sum()
    slope = 1 / (log_alive * (1 - h)) + log_share / log_alive**2 / (1 - test.hazard.value) * share
    error = math.sqrt(float((slope**2 * h * (1 - h) / survival.at_risk).sum()))
    elapsed = horizon + further - start
    spread = math.exp(1.959963984540054 * error / elapsed)
    interval = (math.floor(start + elapsed / spread), math.ceil(start + elapsed * spread))
    epoch = horizon + math.ceil(further - ROUNDING)
    return HorizonNeeded(unfinished, epoch, interval, horizon, float(psi[-1]), test.hazard)


@dataclass(frozen=True)
class ResolutionNeeded:
    """How many runs it takes to tell two protocols apart.

    Attributes:
        difference: of their means, as seen.
        power: probability with which a difference of this size is to be found.
        significance: of the two-sided test that is to find it.
        runs: independent samples needed in all, in place of the present ``difference.n``; None if no difference was
            seen: no number of runs finds nothing.
        runs_at_least: the same if the difference is as large as the far end of its 95 % interval. A difference that
            is not significant may be much smaller than it looks, and there is no upper bound.
    """

    difference: Estimate
    power: float
    significance: float
    runs: int | None
    runs_at_least: int

    @property
    def is_met(self) -> bool:
        """Whether the present runs suffice."""
        return self.runs is not None and self.runs <= self.difference.n

    def describe(self) -> str:
        """The need in words.

        Returns:
            One sentence.
        """
        seen = f"difference of {self.difference.value:.3g} +- {self.difference.standard_error:.2g}"
        if self.runs is None:
            return f"A {seen} was seen: no number of runs tells equal protocols apart."
        if self.is_met:
            return f"A {seen} is found with probability {self.power:.0%} by the present {self.difference.n:,} runs."
        return (
            f"To find a {seen} with probability {self.power:.0%} takes {self.runs:,} runs in place of "
            f"{self.difference.n:,} ({self.runs_at_least:,} if it is as large as it may be)."
        )


def resolution_needed(difference: Estimate, *, power: float = 0.8, significance: float = 0.05) -> ResolutionNeeded:
    """Runs needed until a difference d between two protocols is significant with a given probability.

    A two-sided test finds it with probability ``power`` if its standard error is |d| / (z_(1 - significance / 2) +
    z_power), 0.357 |d| by default. Errors fall as 1 / sqrt(n), all samples growing in proportion.

    Args:
        difference: of two means with its standard error, the paired one if both rest on the same parents: it is often
            far smaller than the two errors added in squares.
        power: 0.5 <= power < 1.
        significance: 0 < significance < 1.

    Returns:
        The need.

    Raises:
        ValueError: for an infinite difference or error, or a power or significance out of range.

    Example:
        >>> resolution_needed(Estimate(1.0, 1.0, 100)).runs  # 100 (1.96 + 0.84)^2
        785
    """
    if not (math.isfinite(difference.value) and math.isfinite(difference.standard_error)):
        raise ValueError(
            f"difference={difference.value} +- {difference.standard_error} must be finite: compare restricted means"
        )
    if not 0.5 <= power < 1:
        raise ValueError(f"power={power} must be >= 0.5 and < 1")
    if not 0 < significance < 1:
        raise ValueError(f"significance={significance} must lie strictly between 0 and 1")
    from scipy.special import ndtri

    multiple = float(ndtri(1 - significance / 2) + ndtri(power))
    size, error = abs(difference.value), difference.standard_error

    def runs(true_size: float) -> int | None:
        ratio = multiple * error / true_size if true_size > 0 else math.inf
        if not ratio < LARGEST_RATIO:
            return None
        return max(math.ceil(difference.n * ratio * ratio - ROUNDING), 1)

    largest = max(abs(end) for end in difference.interval())
    return ResolutionNeeded(
        difference=difference,
        power=power,
        significance=significance,
        runs=runs(size),
        runs_at_least=runs(largest) or 1,
    )


def _restricted_mean(data: PerturbationData, predictor: str, interval: int) -> Functional:
    horizon = data.predict(predictor, interval).horizon

    def functional(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
        return predicted_restricted_mean(predictor, psi, residual_psi, interval, horizon)

    return functional


def _first_below(values: Floats, share: float) -> int | None:
    below = np.flatnonzero(values <= share)
    return int(below[0]) if len(below) else None


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value} must be finite and > 0")


def _runs(parents: int, children: int) -> str:
    return f"{parents:,} parents and {children:,} children" if children else f"{parents:,} runs"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
