"""The cheapest way to learn what a perturbation every P epochs would do: how many runs to train, perturb and follow.

A pilot tells the laws of T and of the residual roughly. The study that it helps to plan trains n parents to the branch
epoch P*, perturbs m_l of the survivors once with perturbation l, follows them for F epochs, and predicts from the two
survivals E[min(T_P, H)] for every interval P of interest. Its error, derived for jostle by the delta method:

    error^2(l, P) = a_l(P) / n + b_l(P) / m_l,
    a = Var(phi(T)),        phi(k) = sum_{t<k} dE / dPsi(t)          (E = E[min(T_P, H)] as the predictor has it),
    b = Var(phi_res(res)),  phi_res(k) = sum_{t<k} dE / dPsi_res(t).

The parts (theory.predictor_variance) simply add: a child's influence has mean zero whatever its parent did up to P*.
For ``rare`` and ``renewal`` phi(T) = min(T, P) + 1{T > P} R with R = E[min(tau, H - P)], and only epochs up to P
matter: parents may stop at P*.

Each run costs the epochs that it is trained, so that the study costs

    n E[min(T, P*)] + sum_l m_l E[min(res_l, F)],

subject to error(l, P) <= epsilon(l, P) for all l and P, and to m_l <= n Psi(P*): each survivor has at most one child of
each perturbation. More children of one parent would be cheaper than more parents, but they start from one state and are
correlated, by how much the pilot cannot tell: two may be worth hardly more than one. They are not planned with.

P* is the smallest branch epoch allowed: a and b do not depend on it (what is predicted does not, in the quasi-steady
state), while the cost of a parent grows with P* and the survivors become fewer. The whole numbers n and m_l are then
the exact optimum (theory.study_size).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from theory.discrete_resetting import check_interval
from theory.perturbation import PREDICTORS, predicted_survival
from theory.prediction import LONG_RESIDUALS, MINIMUM_COMPLETIONS, PerturbationData
from theory.predictor_variance import run_variances
from theory.study_size import ROUNDING, TOO_PRECISE, StudySize
from theory.survival import FirstPassages, Floats

MINIMUM_TO_PLAN_WITH = 50
"""First passages of the pilot within P below which its report is that the errors of the study are uncertain: they are
known to about 1 / sqrt(first passages) of themselves, as measured for the renewal predictor on the rational chain."""

SMALLEST_RELATIVE_ERROR = 1e-9
"""A wanted error below this share of the mean is refused."""


@dataclass(frozen=True)
class DesignPoint:
    """One number that a study is to find, and what it takes to measure it by brute force instead.

    Attributes:
        label: the perturbation.
        interval: P [epochs].
        restricted_mean: E[min(T_P, H)], predicted from the pilot [epochs].
        wanted_error: the standard error asked for [epochs].
        standard_error: the one expected of the study, at most the wanted one [epochs].
        brute_force_runs: runs perturbed every P epochs and trained to H that have the wanted error: Var(min(T_P, H)) /
            epsilon^2, but ten at least.
        brute_force_epochs: what they cost, E[min(T_P, H)] each [epochs].
    """

    label: str
    interval: int
    restricted_mean: float
    wanted_error: float
    standard_error: float
    brute_force_runs: int
    brute_force_epochs: float


@dataclass(frozen=True)
class Design:
    """The cheapest study of its kind for wanted errors, beside brute force.

    Attributes:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        horizon: H of the restricted means [epochs].
        branch_epoch: P*, to which parents are trained [epochs].
        parents: n, unperturbed runs.
        children: (label, m) for each perturbation: survivors of P* to perturb once. If by chance fewer survive, there
            are fewer children; with ``survivors_limit`` that happens in half of the studies and costs some precision.
        followed: F, epochs for which children are trained; 0 if there are none.
        epochs: expected cost.
        points: the wanted numbers, for each perturbation and interval.
        brute_force_epochs: expected cost of separate runs perturbed every P epochs for each of the points. Its results
            contain no model error, those of a predictor do.
        pilot_epochs: what the pilot has cost, which is in neither.
        survivors_limit: whether the design would be cheaper if each survivor could have several independent children.
        limits: why the numbers may be off.
    """

    predictor: str
    horizon: int
    branch_epoch: int
    parents: int
    children: tuple[tuple[str, int], ...]
    followed: int
    epochs: float
    points: tuple[DesignPoint, ...]
    brute_force_epochs: float
    pilot_epochs: float
    survivors_limit: bool
    limits: tuple[str, ...]

    @property
    def saving(self) -> float:
        """1 - epochs of this design / epochs of brute force; negative if brute force is cheaper."""
        return 1 - self.epochs / self.brute_force_epochs

    @property
    def saves(self) -> bool:
        """Whether the design is cheaper than brute force."""
        return self.saving > 0

    def describe(self) -> str:
        """The design in words.

        Returns:
            One or two sentences.
        """
        what = f"Train {self.parents:,} runs to epoch {self.branch_epoch}"
        if self.followed:
            children = " and ".join(f"{m:,} of the survivors by {label}" for label, m in self.children)
            what += f", perturb {children} once and follow them for {self.followed} epochs"
        costs = f"{what}: about {self.epochs:,.0f} epochs, where brute force takes {self.brute_force_epochs:,.0f}"
        if self.saves:
            return f"{costs} ({self.saving:.0%} saved)."
        return f"{costs}. Nothing is saved: train with the perturbation every P epochs instead."


def cheapest_design(
    pilots: Mapping[str, PerturbationData],
    intervals: Sequence[int],
    *,
    error: float | None = None,
    relative_error: float | None = None,
    predictor: str = "renewal",
    relaxation_epoch: int | None = None,
    branch_epochs: Iterable[int] | None = None,
) -> Design:
    """The study that finds E[min(T_P, H)] with the wanted errors in the fewest epochs of training.

    Two requirements are added to those above: ten children of each perturbation are expected to finish within the
    shortest P (ten parents, for ``"restart"``), since with fewer the error would be too small (MINIMUM_COMPLETIONS).

    Args:
        pilots: data by perturbation, all with the same unperturbed runs and horizon H. Children of all perturbations
            will have the same parents.
        intervals: P of interest [epochs].
        error: wanted standard error [epochs]; or
        relative_error: the same as a fraction of E[min(T_P, H)].
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        relaxation_epoch: t_r, before which runs must not be perturbed, if it is known.
        branch_epochs: P* to choose from [epochs]; those before the longest interval or t_r are left out. By default
            any epoch up to H.

    Returns:
        The design. It saves nothing where perturbed runs finish long before P*, and then says so.

    Raises:
        ValueError: for pilots that do not belong together, or do not know what is needed: P or P* beyond their horizon,
            residuals followed too briefly, nobody left at P*, none finishing within P; for a wanted error that is
            missing, given twice, or not > 0; or for no allowed branch epoch.

    Example:
        >>> left = np.repeat(np.arange(1, 101), 10)  # a pilot of 1000 runs that need 1 to 100 epochs
        >>> runs = FirstPassages(left, left > 0)
        >>> pilot = PerturbationData(runs, replicates=2, rng=np.random.default_rng(0))
        >>> design = cheapest_design({"full_reset": pilot}, [60], relative_error=0.05, predictor="restart")
        >>> design.describe()
        'Train 181 runs to epoch 60: about 7,656 epochs, where brute force takes 8,387 (9% saved).'
    """
    first = _checked_pilots(pilots, predictor)
    labels, horizon, psi = list(pilots), first.horizon, first.psi
    intervals = sorted({int(check_interval(psi, p)) for p in intervals})
    if not intervals:
        raise ValueError("intervals is empty: there is nothing to find out")
    branch_epoch = _branch_epoch(psi, intervals, relaxation_epoch, branch_epochs)
    followed = {"restart": 0, "renewal": intervals[-1], "rare": max(horizon - intervals[0], 1)}[predictor]
    residuals = {label: _checked_residuals(label, pilots[label], followed, intervals[0]) for label in labels}

    laws = np.array(
        [[predicted_survival(predictor, psi, residuals[label], p, horizon - 1) for p in intervals] for label in labels]
    )
    means = laws.sum(axis=-1)
    wanted = _wanted_errors(means, error, relative_error)
    a, b = np.array(
        [[run_variances(predictor, psi, residuals[label], p, horizon) for p in intervals] for label in labels]
    ).transpose(2, 0, 1)

    soon = [float((psi if x is None else x)[min(intervals[0], followed or horizon)]) for x in residuals.values()]
    fewest = MINIMUM_COMPLETIONS / (1 - np.array(soon))
    size = StudySize(
        parent_variances=a,
        child_variances=b,
        squared_errors=wanted**2,
        fewest_parents=float(fewest.max()) if followed == 0 else 1.0,
        fewest_children=np.zeros(len(labels)) if followed == 0 else fewest,
        parent_cost=float(psi[:branch_epoch].sum()),
        child_costs=np.array([0.0 if x is None else float(x[:followed].sum()) for x in residuals.values()]),
        survival=float(psi[branch_epoch]),
    )
    parents = size.cheapest()
    children = size.children(parents)
    errors = np.sqrt(a / parents + np.divide(b, children[:, None], out=np.zeros_like(b), where=b > 0))
    variances = laws @ (2 * np.arange(horizon) + 1) - means**2
    runs = np.maximum(np.ceil(variances / wanted**2 - ROUNDING), MINIMUM_COMPLETIONS)
    columns = [x.ravel().tolist() for x in (means, wanted, errors, runs.astype(np.int64), runs * means)]
    points = tuple(
        DesignPoint(label, p, *numbers)
        for (label, p), numbers in zip(product(labels, intervals), zip(*columns, strict=True), strict=True)
    )
    return Design(
        predictor=predictor,
        horizon=horizon,
        branch_epoch=branch_epoch,
        parents=parents,
        children=tuple(zip(labels, children.astype(int).tolist(), strict=True)),
        followed=followed,
        epochs=size.cost(parents),
        points=points,
        brute_force_epochs=sum(point.brute_force_epochs for point in points),
        pilot_epochs=_pilot_epochs(pilots),
        survivors_limit=size.cost(size.cheapest(limited=False)) < size.cost(parents) * (1 - 1e-12),
        limits=tuple(_limits(pilots, intervals, branch_epoch, predictor, relaxation_epoch)),
    )


def _checked_pilots(pilots: Mapping[str, PerturbationData], predictor: str) -> PerturbationData:
    if predictor not in PREDICTORS:
        raise ValueError(f"predictor={predictor!r} is unknown; choose from {', '.join(PREDICTORS)}")
    if not pilots:
        raise ValueError("pilots is empty: give data of one perturbation at least")
    first_label, first = next(iter(pilots.items()))
    for label, pilot in pilots.items():
        runs, others = first.unperturbed, pilot.unperturbed
        if not (np.array_equal(runs.times, others.times) and np.array_equal(runs.observed, others.observed)):
            raise ValueError(
                f"pilots {first_label!r} and {label!r} have different unperturbed runs; perturbations that share "
                "parents need one set of them"
            )
        if pilot.horizon != first.horizon:
            raise ValueError(
                f"pilots {first_label!r} and {label!r} have horizons {first.horizon} and {pilot.horizon}: their "
                "restricted means cannot be compared; give both one horizon"
            )
    return first


def _branch_epoch(
    psi: Floats, intervals: Sequence[int], relaxation_epoch: int | None, branch_epochs: Iterable[int] | None
) -> int:
    earliest, horizon = max(intervals[-1], relaxation_epoch or 1), len(psi) - 1
    allowed = [p for p in (range(1, horizon + 1) if branch_epochs is None else branch_epochs) if p >= earliest]
    if not allowed:
        raise ValueError(
            f"no branch epoch is left: it must be >= {earliest}, the longest interval and the relaxation epoch, and "
            f"<= {horizon}, the pilot's horizon"
        )
    branch_epoch = int(check_interval(psi, min(allowed)))
    if psi[branch_epoch] == 0:
        raise ValueError(
            f"no run of the pilot survives epoch {branch_epoch}, where runs would be perturbed: ask for shorter "
            "intervals"
        )
    return branch_epoch


def _checked_residuals(label: str, pilot: PerturbationData, followed: int, shortest: int) -> Floats | None:
    """Psi_res(0..F) of a pilot; None where the predictor (F = 0) needs none."""
    psi = pilot.psi if followed == 0 else pilot.residual_psi
    if psi is None:
        raise ValueError(f"{label}: the pilot has no runs perturbed once")
    if len(psi) <= followed:
        raise ValueError(
            f"{label}: the pilot followed perturbed runs for {len(psi) - 1} epochs, and {followed} are needed; follow "
            "them longer, or ask for a lower horizon or shorter intervals"
        )
    soon = min(shortest, followed or shortest)
    if psi[soon] == 1:
        raise ValueError(
            f"{label}: no run of the pilot finishes within {soon} epochs of a perturbation, so that P={shortest} is "
            "too short for this predictor"
        )
    return None if followed == 0 else psi[: followed + 1]


def _wanted_errors(means: Floats, error: float | None, relative_error: float | None) -> Floats:
    if (error is None) == (relative_error is None):
        raise ValueError(f"error={error} and relative_error={relative_error}: give one of the two")
    name, value = ("error", error) if error is not None else ("relative_error", relative_error)
    assert value is not None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value} must be finite and > 0")
    wanted = np.full(means.shape, value) if error is not None else value * means
    if (wanted < SMALLEST_RELATIVE_ERROR * means).any():
        raise ValueError(TOO_PRECISE)
    return wanted


def _pilot_epochs(pilots: Mapping[str, PerturbationData]) -> float:
    """Epochs trained, at least: children with parents of their own had to be trained to P*, and others failed to."""
    total = float(next(iter(pilots.values())).unperturbed.times.sum())
    for once in (pilot.perturbed_once for pilot in pilots.values()):
        if once is not None:
            total += float(once.residuals.times.sum())
            total += once.epoch * once.residuals.n if once.parents is None else 0
    return total


def _limits(
    pilots: Mapping[str, PerturbationData],
    intervals: Sequence[int],
    branch_epoch: int,
    predictor: str,
    relaxation_epoch: int | None,
) -> Iterator[str]:
    """Why the numbers of a design may be off."""
    shortest = intervals[0]
    if predictor == "restart":
        runs = next(iter(pilots.values())).unperturbed
        yield from _few_completions("restart", runs, np.arange(runs.n), shortest)
        return
    early = [p for p in intervals if relaxation_epoch is not None and p < relaxation_epoch]
    if early:
        which = ", ".join(map(str, early))
        yield f"P={which} before the quasi-steady state, which begins at epoch {relaxation_epoch}: model error"
    for label, pilot in pilots.items():
        once, residual_psi = pilot.perturbed_once, pilot.residual_psi
        assert once is not None
        assert residual_psi is not None
        families = np.arange(once.residuals.n) if once.parents is None else once.parents
        yield from _few_completions(label, once.residuals, families, shortest)
        if once.epoch != branch_epoch:
            yield (
                f"{label}: the pilot perturbed after epoch {once.epoch}; residuals after epoch {branch_epoch} are "
                "taken to be like those"
            )
        beyond = float(residual_psi[min(shortest, len(residual_psi) - 1)])
        if predictor == "rare" and beyond > LONG_RESIDUALS:
            yield f"{label}: {beyond:.0%} of the residuals exceed P={shortest}, to be perturbed again: model error"


def _few_completions(label: str, runs: FirstPassages, families: npt.NDArray[np.int64], interval: int) -> Iterator[str]:
    completions = len(np.unique(families[runs.observed & (runs.times <= interval)]))
    if completions < MINIMUM_TO_PLAN_WITH:
        yield (
            f"{label}: only {completions} runs of the pilot finish within P={interval}: planned errors are known to "
            f"about {1 / math.sqrt(completions):.0%}"
        )
