"""What is known of each perturbation: predictions at every interval, and measurements at some of them.

Runs perturbed once at P* predict; runs perturbed every P epochs measure. Each of the latter is perturbed once before it
is perturbed again, and so it predicts as well, up to its second perturbation.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nnval.measure.curves import Curves
from sim.random_streams import stream
from theory.branch_epochs import APPROXIMATION_MARGIN, transfer_reasons
from theory.estimate import Comparison, Estimate, compare, holm
from theory.hazard import HazardTest
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import Prediction
from theory.prediction import MINIMUM_COMPLETIONS, PerturbationData
from theory.survival import FirstPassages, Survival

UNPERTURBED, FULL_RESET = "none", "full_reset"
"""Labels of the protocols that need no perturbed runs."""

MOST_INTERVALS = 200
"""Intervals at which predictions are made; more are thinned out to about equal ratios."""


@dataclass(frozen=True, eq=False)
class PerturbedCurves:
    """Curves of runs to which a perturbation was done.

    Attributes:
        label: name of the perturbation.
        epoch: P, after whose evaluation it was done.
        repeated: whether it was done after epochs P, 2 P, ... (and curves begin with training), or once (and curves
            begin with the perturbation: their epoch 1 is the first one after it).
        curves: of the runs.
    """

    label: str
    epoch: int
    repeated: bool
    curves: Curves

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.label} {'every' if self.repeated else 'once at epoch'} {self.epoch}"


@dataclass(frozen=True, eq=False)
class Measured:
    """Runs perturbed every P epochs.

    Attributes:
        interval: P [epochs].
        survival: Pr(T_P > t).
        first_passages: of the runs.
    """

    interval: int
    survival: Survival
    first_passages: FirstPassages

    def restricted_mean(self, horizon: int) -> Estimate | None:
        """E[min(T_P, H)].

        Args:
            horizon: H [epochs].

        Returns:
            The estimate; None if unfinished runs were not followed that long.
        """
        if horizon > self.survival.horizon and not self.survival.is_complete:
            return None
        return self.survival.restricted_mean(horizon)

    @property
    def residual_mean(self) -> Estimate | None:
        """Mean residual time after the first perturbation; None unless all runs finished, and two outlived it."""
        residuals = self.first_passages.times[self.first_passages.times > self.interval] - self.interval
        if len(residuals) < 2 or not self.first_passages.observed.all():
            return None
        return Estimate.from_samples(residuals)


@dataclass(frozen=True, eq=False)
class PredictedAndMeasured:
    """A prediction beside runs that were trained with the perturbation every P epochs.

    Attributes:
        prediction: with its regime.
        comparison: of restricted means at the prediction's horizon; Eq. (9) and renewal are granted 5 % of model error,
            and verdicts hold at 1 % for all comparisons together.
    """

    prediction: Prediction
    comparison: Comparison

    @property
    def relative_difference(self) -> float:
        """Predicted / measured - 1."""
        return self.comparison.predicted.value / self.comparison.measured.value - 1

    @property
    def z(self) -> float:
        """(predicted - measured) / combined standard error, nothing granted."""
        predicted, measured = self.comparison.predicted, self.comparison.measured
        error = float(np.hypot(predicted.standard_error, measured.standard_error))
        difference = predicted.value - measured.value
        return difference / error if error > 0 else float(np.copysign(np.inf, difference)) if difference else 0.0


@dataclass(frozen=True, eq=False)
class ProtocolEvidence:
    """What is known of one perturbation.

    Attributes:
        label: its name.
        branch_epoch: P*, from whose residuals predictions are made; None without any.
        once: (epoch, survival of residuals) of the runs perturbed once.
        predictions: predictor -> predictions, one per interval.
        measured: runs perturbed every P epochs, by P.
        compared: predictions beside measurements.
    """

    label: str
    branch_epoch: int | None
    once: tuple[tuple[int, Survival], ...]
    predictions: Mapping[str, tuple[Prediction, ...]]
    measured: tuple[Measured, ...]
    compared: tuple[PredictedAndMeasured, ...]


@dataclass(eq=False)
class PerturbedRuns:
    """The perturbed runs of one label, by how they were perturbed.

    Attributes:
        measured: perturbed every P epochs.
        first: the same runs from their first perturbation to their second.
        once: perturbed once and no more.
    """

    measured: list[Measured] = field(default_factory=list)
    first: list[PerturbedOnce] = field(default_factory=list)
    once: list[PerturbedOnce] = field(default_factory=list)

    @property
    def branch_epochs(self) -> list[int]:
        """Epochs at which runs were perturbed once, or for the first time if all were perturbed again."""
        return [o.epoch for o in self.once or self.first]


def runs_by_label(
    unperturbed: Curves, first_passages: FirstPassages, perturbed: Sequence[PerturbedCurves], target: float
) -> dict[str, PerturbedRuns]:
    """Perturbed curves as first passages, checked against the unperturbed ones.

    Args:
        unperturbed: curves without perturbation.
        first_passages: of them.
        perturbed: the others.
        target: value of the metric at which training is over.

    Returns:
        The runs of each label.

    Raises:
        ValueError: for another metric or unit, a label or epoch used twice, or parents that do not fit.
    """
    runs: dict[str, PerturbedRuns] = {}
    for given in perturbed:
        if given.label == UNPERTURBED:
            raise ValueError(f"label {UNPERTURBED!r} stands for training without perturbation: use another name")
        if given.epoch < 1:
            raise ValueError(f"{given.name}: the perturbation must act after epoch 1 or later")
        for what in ("metric", "direction", "unit"):
            theirs, ours = getattr(given.curves, what), getattr(unperturbed, what)
            if theirs != ours:
                raise ValueError(f"{given.name}: its {what} is {theirs!r}, that of the unperturbed runs is {ours!r}")
        of_label, times = runs.setdefault(given.label, PerturbedRuns()), given.curves.first_passages(target)
        same = [m.interval for m in of_label.measured] if given.repeated else [o.epoch for o in of_label.once]
        if given.epoch in same:
            raise ValueError(f"{given.name} is given twice: put its runs into one file")
        if not given.repeated:
            parents = _parents(given, unperturbed, first_passages)
            of_label.once.append(PerturbedOnce(times, given.epoch, given.curves.horizon, parents))
            continue
        of_label.measured.append(Measured(given.epoch, Survival.of(times), times))
        if (times.times > given.epoch).any():
            of_label.first.append(PerturbedOnce.from_periodic(times, given.epoch))
    for of_label in runs.values():
        of_label.measured.sort(key=lambda measured: measured.interval)
    return runs


def _parents(
    given: PerturbedCurves, unperturbed: Curves, first_passages: FirstPassages
) -> npt.NDArray[np.int64] | None:
    """Numbers of the unperturbed runs that perturbed ones came from; None if they have others, or it is not said."""
    names = given.curves.parents
    if names is None:
        return None
    number = {name: i for i, name in enumerate(unperturbed.runs)}
    unknown = [name for name in names if name not in number]
    if len(unknown) == len(names):
        return None
    if unknown:
        raise ValueError(
            f"{given.name}: its parents {', '.join(unknown[:3])} are not among the unperturbed runs, but others are; "
            "give all of them"
        )
    parents = np.array([number[name] for name in names], dtype=np.int64)
    finished = first_passages.times[parents] < given.epoch + first_passages.observed[parents]
    if finished.any():
        raise ValueError(
            f"{given.name}: its parent {unperturbed.runs[parents[finished][0]]} had reached the target by then, or was "
            "not followed that long; leave out its children, or give the target for which they were branched"
        )
    return parents


def full_reset_evidence(data: PerturbationData, runs: PerturbedRuns, special: Iterable[int]) -> ProtocolEvidence:
    """Full resetting: predicted exactly by the unperturbed runs, and perhaps measured.

    Args:
        data: the unperturbed runs.
        runs: those that were restarted, if any.
        special: intervals that must be among those examined.

    Returns:
        The evidence.
    """
    grid = _grid(data.horizon, [*special, *(m.interval for m in runs.measured)])
    predictions = {"restart": data.predictions("restart", grid)}
    return ProtocolEvidence(
        FULL_RESET, None, (), predictions, tuple(runs.measured), _compared(FULL_RESET, predictions, runs.measured, None)
    )


def perturbation_evidence(
    label: str,
    runs: PerturbedRuns,
    data: PerturbationData,
    *,
    relaxation_epoch: int | None,
    hazard_test: HazardTest | None,
    special: Iterable[int],
    seed: int,
) -> tuple[ProtocolEvidence, PerturbationData | None]:
    """Any other perturbation.

    Predictions rest on the runs perturbed once (first those perturbed only once), at the latest epoch with ten
    finished residuals; earlier epochs tell whether that matters.

    Args:
        label: its name.
        runs: the perturbed ones.
        data: the unperturbed ones.
        relaxation_epoch: t_r of the unperturbed runs.
        hazard_test: of a constant hazard after it.
        special: intervals that must be among those examined.
        seed: of the bootstrap.

    Returns:
        The evidence, and the data behind its predictions, if there are any.
    """
    measured = tuple(runs.measured)
    known = [
        (is_once, _completions(o) >= MINIMUM_COMPLETIONS, o.epoch, o)
        for is_once, several in ((False, runs.first), (True, runs.once))
        for o in several
        if _completions(o) >= 2
    ]
    if not known:
        return ProtocolEvidence(label, None, (), {}, measured, ()), None
    known.sort(key=lambda entry: entry[:3])
    studies = [
        (o, data.with_perturbed_once(o, stream(seed, f"bootstrap of {label}, {is_once}", o.epoch)))
        for is_once, _, _, o in known
    ]
    *others, (once, study) = studies
    grid = _grid(min(once.epoch, followed_epochs(study), data.horizon), [*special, *(m.interval for m in measured)])
    predictions = {
        predictor: study.predictions(predictor, grid, relaxation_epoch=relaxation_epoch)
        for predictor in ("rare", "renewal")
    }
    of_others = [
        {p.interval: p for p in other.predictions("renewal", _up_to(grid, min(o.epoch, followed_epochs(other))))}
        for o, other in others
        if o.epoch != once.epoch
    ]
    transfer = {
        p.interval: transfer_reasons(
            p,
            [of_other[p.interval] for of_other in of_others if p.interval in of_other],
            branch_epoch=once.epoch,
            hazard_test=hazard_test,
        )
        for p in predictions["renewal"]
    }
    judged = {
        predictor: tuple(dataclasses.replace(p, reasons=(*p.reasons, *transfer[p.interval])) for p in several)
        for predictor, several in predictions.items()
    }
    residuals = tuple(sorted(((o.epoch, Survival.of(o.residuals)) for *_, o in known), key=lambda entry: entry[0]))
    compared = _compared(label, judged, measured, None if known[-1][0] else once.epoch)
    return ProtocolEvidence(label, once.epoch, residuals, judged, measured, compared), study


def with_verdicts(evidence: Sequence[ProtocolEvidence]) -> list[ProtocolEvidence]:
    """Verdicts at one error rate for all comparisons together (Holm).

    Args:
        evidence: of all protocols.

    Returns:
        The same with corrected verdicts.
    """
    verdicts = iter(holm([c.comparison for e in evidence for c in e.compared]))
    return [
        dataclasses.replace(e, compared=tuple(PredictedAndMeasured(c.prediction, next(verdicts)) for c in e.compared))
        for e in evidence
    ]


def followed_epochs(study: PerturbationData) -> int:
    """F, the last epoch after the perturbation about which residuals say anything.

    Args:
        study: with residuals.

    Returns:
        Epochs.
    """
    assert study.residual_psi is not None
    return len(study.residual_psi) - 1


def _completions(once: PerturbedOnce) -> int:
    return int(once.residuals.observed.sum())


def _up_to(grid: Sequence[int], longest: int) -> list[int]:
    return [interval for interval in grid if interval <= longest]


def _grid(longest: int, special: Iterable[int]) -> list[int]:
    """All intervals up to the longest, or about equal ratios of them, and special ones."""
    if longest <= MOST_INTERVALS:
        return list(range(1, longest + 1))
    half = MOST_INTERVALS // 2
    ratios = {round(half * (longest / half) ** (k / half)) for k in range(half + 1)}
    return sorted({*range(1, half), *ratios, *_up_to([p for p in special if p >= 1], longest)})


def _compared(
    label: str,
    predictions: Mapping[str, Sequence[Prediction]],
    measured: Sequence[Measured],
    same_runs: int | None,
) -> tuple[PredictedAndMeasured, ...]:
    """Predictions beside measurements at the same interval; ``same_runs``: where both rest on the same runs."""
    result = []
    for runs in measured:
        for predictor, several in predictions.items():
            prediction = next((p for p in several if p.interval == runs.interval), None)
            brute = prediction and runs.restricted_mean(prediction.horizon)
            if prediction is None or brute is None:
                continue
            same = ["measured with the very runs that the prediction rests on"] if runs.interval == same_runs else []
            comparison = compare(
                f"E[min(T_P, {prediction.horizon})], {label}, P={runs.interval}, {predictor}",
                prediction.restricted_mean,
                brute,
                margin=0.0 if predictor == "restart" else APPROXIMATION_MARGIN,
                reasons=[*prediction.reasons, *same],
            )
            result.append(PredictedAndMeasured(prediction, comparison))
    return tuple(result)
