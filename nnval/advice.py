"""Advice from anybody's training curves: which perturbation, how often, how sure, and what is not known.

    from nnval.advice import advise
    advice = advise("curves.csv", target=0.72)
    advice                                        # a table and a recommendation, in a notebook or printed

Unperturbed curves alone decide about full resetting, exactly. Curves of runs perturbed once (``once``) predict other
perturbations at every interval, where a quasi-steady state allows it; curves of runs perturbed every P epochs
(``every``) measure it at P, and each such run is perturbed once before it is perturbed again, and counts as that too.

Needs numpy, scipy and pandas, not torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from nnval.measure.curves import Curves, early_stops, read_curves
from nnval.protocol_evidence import (
    FULL_RESET,
    PerturbedCurves,
    PerturbedRuns,
    ProtocolEvidence,
    full_reset_evidence,
    perturbation_evidence,
    runs_by_label,
    with_verdicts,
)
from nnval.protocol_ranking import rank, unproven
from sim.random_streams import stream
from theory.data_needs import horizon_needed, resolution_needed, runs_needed
from theory.hazard import HazardTest, constant_hazard_test
from theory.perturbation import PREDICTORS
from theory.predicted_time import Prediction
from theory.prediction import MINIMUM_COMPLETIONS, PerturbationData
from theory.protocol_choice import ProtocolChoice
from theory.quasi_steady_state import Stationarity, stationarity
from theory.study_design import Design, cheapest_design
from theory.survival import FirstPassages, Survival

if TYPE_CHECKING:
    import pandas as pd

Source: TypeAlias = Union[str, Path, Curves, "pd.DataFrame"]
"""What curves are read from."""

READING = ("metric", "count", "direction")
"""Options of ``read_curves``."""


def every(label: str, interval: int, source: Source, **reading: Any) -> PerturbedCurves:
    """Curves of runs perturbed every P epochs, from the beginning of training.

    Args:
        label: name of the perturbation.
        interval: P [epochs].
        source: what ``read_curves`` reads.
        **reading: its options.

    Returns:
        What ``advise`` takes.

    Raises:
        ValueError: as ``read_curves``.

    Example:
        >>> import numpy as np
        >>> curves = Curves("accuracy", ("a", "b"), np.array([[0.5, 0.95], [0.95, np.nan]]))
        >>> every("reset", 10, curves).label
        'reset'
    """
    return PerturbedCurves(label, interval, True, as_curves(source, reading))


def once(label: str, epoch: int, source: Source, **reading: Any) -> PerturbedCurves:
    """Curves of runs perturbed once, after epoch P*, that begin with the perturbation.

    Args:
        label: name of the perturbation.
        epoch: P* [epochs].
        source: what ``read_curves`` reads. Where it names each run's parent, children go with it in the bootstrap.
        **reading: its options.

    Returns:
        What ``advise`` takes.

    Raises:
        ValueError: as ``read_curves``.

    Example:
        >>> import numpy as np
        >>> curves = Curves("accuracy", ("a", "b"), np.array([[0.5, 0.95], [0.95, np.nan]]))
        >>> once("shrink", 20, curves).label
        'shrink'
    """
    return PerturbedCurves(label, epoch, False, as_curves(source, reading))


def as_curves(source: Source, reading: Mapping[str, Any]) -> Curves:
    """Curves as they are, or read from elsewhere.

    Args:
        source: what ``read_curves`` reads, or curves.
        reading: its options.

    Returns:
        The curves.

    Raises:
        ValueError: as ``read_curves``.
    """
    return source if isinstance(source, Curves) else read_curves(source, **reading)


@dataclass(frozen=True, eq=False)
class Advice:
    """What training curves say about perturbing the training.

    Attributes:
        curves: of the unperturbed runs.
        target: value of the metric at which training is over.
        horizon: H of all restricted means [epochs].
        first_passages: of the unperturbed runs.
        survival: Pr(T > t) of them.
        stationarity: distance of the survivors from their late distribution; None if too few survive.
        hazard_test: of a constant hazard after the relaxation epoch; None without one.
        evidence: of each perturbation; full resetting first.
        choices: the protocols at their best intervals, the fastest first; empty if no run reached the target.
        unproven: faster predictions that are outside their regime, one for each label and source.
        design: the cheapest study of the perturbations at hand; None without runs perturbed once, or if none can be
            planned: then ``needs`` say why.
        needs: what is not identified, and what it would take; sentences.
        precision: relative standard error that ``design`` and ``needs`` aim at.
        seed: of the bootstrap.
        assumptions: guesses made in reading the curves; sentences.

    Example:
        >>> import numpy as np
        >>> slow = np.arange(30) % 5 == 0  # a fifth of the runs never gets there, the others at once
        >>> accuracy = np.where((np.arange(1, 41) >= 4) & ~slow[:, None], 0.95, 0.5)
        >>> curves = Curves("accuracy", tuple(map(str, range(30))), accuracy)
        >>> advice = advise(curves, target=0.9, replicates=200)
        >>> advice.survival.values[[0, 4, 40]].tolist(), advice.evidence[0].label
        ([1.0, 0.2, 0.2], 'full_reset')
    """

    curves: Curves
    target: float
    horizon: int
    first_passages: FirstPassages
    survival: Survival
    stationarity: Stationarity | None
    hazard_test: HazardTest | None
    evidence: tuple[ProtocolEvidence, ...]
    choices: tuple[ProtocolChoice, ...]
    unproven: tuple[tuple[str, Prediction], ...]
    design: Design | None
    needs: tuple[str, ...]
    precision: float
    seed: int
    assumptions: tuple[str, ...]

    @property
    def relaxation_epoch(self) -> int | None:
        """t_r, from which on unfinished runs look stationary."""
        return None if self.stationarity is None else self.stationarity.relaxation_epoch

    @property
    def best(self) -> ProtocolChoice | None:
        """The fastest protocol; None if no run reached the target."""
        return self.choices[0] if self.choices else None

    def choice(self, label: str) -> ProtocolChoice | None:
        """One protocol's place in the ranking.

        Args:
            label: its name.

        Returns:
            The choice, or None if it is not ranked: nothing about it is known inside a regime.
        """
        return next((choice for choice in self.choices if choice.label == label), None)

    def __str__(self) -> str:
        from nnval.advice_text import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from nnval.advice_text import as_html

        return as_html(self)


def advise(
    curves: Source,
    *,
    target: float,
    perturbed: Iterable[PerturbedCurves] = (),
    horizon: int | None = None,
    intervals: Sequence[int] = (),
    tolerance: float | None = None,
    precision: float = 0.05,
    replicates: int = 2000,
    seed: int = 0,
    **reading: Any,
) -> Advice:
    """Which perturbation, how often, and how sure is that?

    Args:
        curves: of unperturbed runs: a file, a directory, a DataFrame (see ``read_curves``), or ``Curves``.
        target: value of the metric at which training is over.
        perturbed: curves of perturbed runs, from ``once`` and ``every``.
        horizon: H of the restricted means [epochs]; by default that of the data, twice that if all runs finished.
        intervals: P of special interest, besides those that are examined anyway.
        tolerance: of the quasi-steady state, in standard deviations; by default a quarter.
        precision: relative standard error to plan for.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        **reading: options of ``read_curves``, such as ``metric`` or ``count``.

    Returns:
        The advice.

    Raises:
        ValueError: for curves that can't be read, fewer than two runs, a horizon that the data do not reach, perturbed
            runs that do not fit the unperturbed ones, or a precision that is not within (0, 1).

    Example:
        >>> import numpy as np
        >>> slow = np.arange(30) % 5 == 0  # a fifth of the runs never gets there, the others at once
        >>> accuracy = np.where((np.arange(1, 41) >= 4) & ~slow[:, None], 0.95, 0.5)
        >>> curves = Curves("accuracy", tuple(map(str, range(30))), accuracy)
        >>> advice = advise(curves, target=0.9, replicates=200)
        >>> advice.horizon, advice.choices[0].label, advice.choices[0].interval
        (40, 'full_reset', 4)

    Reference: Derived for jostle, after [meir2025] arXiv 2502.04121 v1, section II; see docs/advice.md
    """
    if not 0 < precision < 1:
        raise ValueError(f"precision={precision} must lie strictly between 0 and 1: a relative standard error")
    unperturbed, perturbed = as_curves(curves, reading), tuple(perturbed)
    first_passages = unperturbed.first_passages(target)
    if first_passages.n < 2:
        raise ValueError(
            "there is one run: how long training takes varies from run to run, and one says nothing about that; give "
            "two at the least, twenty or more for useful intervals"
        )
    survival = Survival.of(first_passages)
    last = _horizon(horizon, survival)
    data = PerturbationData(first_passages, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    runs = runs_by_label(unperturbed, first_passages, perturbed, target)
    steady = _stationarity(unperturbed, first_passages, runs, tolerance, seed)
    relaxed = None if steady is None else steady.relaxation_epoch
    hazard = constant_hazard_test(survival, relaxed) if relaxed and relaxed < survival.horizon else None
    evidence = [full_reset_evidence(data, runs.pop(FULL_RESET, PerturbedRuns()), intervals)]
    pilots: dict[str, PerturbationData] = {}
    for label, of_label in runs.items():
        known, pilot = perturbation_evidence(
            label, of_label, data, relaxation_epoch=relaxed, hazard_test=hazard, special=intervals, seed=seed
        )
        evidence.append(known)
        if pilot is not None:
            pilots[label] = pilot
    evidence = with_verdicts(evidence)
    choices = rank(data, evidence, pilots, seed=seed)
    design, no_design = _design(pilots, evidence, relaxed, precision)
    assumptions = [*unperturbed.assumptions, *early_stops(unperturbed, first_passages)]
    assumptions += [
        f"{p.name}: {text}" for p in perturbed for text in p.curves.assumptions if text not in unperturbed.assumptions
    ]
    return Advice(
        curves=unperturbed,
        target=target,
        horizon=last,
        first_passages=first_passages,
        survival=survival,
        stationarity=steady,
        hazard_test=hazard,
        evidence=tuple(evidence),
        choices=choices,
        unproven=unproven(evidence, choices),
        design=design,
        needs=(*_needs(survival, data, pilots, relaxed, choices, precision), *no_design),
        precision=precision,
        seed=seed,
        assumptions=tuple(assumptions),
    )


def _horizon(asked: int | None, survival: Survival) -> int:
    if asked is None:
        return 2 * survival.horizon if survival.is_complete else survival.horizon
    if asked < 2:
        raise ValueError(f"horizon={asked} must be >= 2")
    if asked > max(10 * survival.horizon, 1000):
        raise ValueError(f"horizon={asked} is more than ten times the {survival.horizon} epochs of the data")
    survival.at(asked)  # refuses a horizon that the data do not reach
    return asked


def _stationarity(
    curves: Curves,
    first_passages: FirstPassages,
    runs: Mapping[str, PerturbedRuns],
    tolerance: float | None,
    seed: int,
) -> Stationarity | None:
    """Distance from the late distribution, up to the last branch epoch if there is one; None if too few survive."""
    branch_epochs = [epoch for of_label in runs.values() for epoch in of_label.branch_epochs]
    last = min(max(branch_epochs, default=curves.horizon), curves.horizon)
    followed = np.isfinite(curves.values[:, :last])
    unfinished = (first_passages.times[:, None] > np.arange(1, last + 1)) | ~first_passages.observed[:, None]
    enough = np.flatnonzero((followed & unfinished).sum(axis=0) >= 2)
    if len(enough) == 0 or enough[-1] < 1:
        return None
    last = int(enough[-1]) + 1
    try:
        return stationarity(
            np.where(np.isfinite(curves.values), curves.values, np.nan),
            first_passages,
            reference=((last + 1) // 2, last),
            tolerance=tolerance,
            rng=stream(seed, "stationarity"),
        )
    except ValueError:  # all survivors have one value: no scale to measure a distance with
        return None


def _design(
    pilots: Mapping[str, PerturbationData],
    evidence: Sequence[ProtocolEvidence],
    relaxed: int | None,
    precision: float,
) -> tuple[Design | None, list[str]]:
    """The cheapest study at a few intervals inside what the pilots know; or why none can be planned."""
    if not pilots:
        return None, []
    longest = min(e.branch_epoch for e in evidence if e.label in pilots and e.branch_epoch is not None)
    shortest = max(relaxed or 1, *(_first_known_interval(pilot) for pilot in pilots.values()))
    round_ones = [p * 10**k for k in range(5) for p in (1, 2, 3, 5, 7)]
    intervals = [p for p in round_ones if shortest <= p <= longest] or [longest]
    try:
        return cheapest_design(pilots, intervals, relative_error=precision, relaxation_epoch=relaxed), []
    except ValueError as error:
        return None, [f"No further study can be planned from these data: {error}."]


def _first_known_interval(pilot: PerturbationData) -> int:
    """The shortest P within which ten perturbed runs finish, or all that do."""
    assert pilot.perturbed_once is not None
    residuals = pilot.perturbed_once.residuals
    return int(np.sort(residuals.times[residuals.observed])[:MINIMUM_COMPLETIONS].max())


def _needs(
    survival: Survival,
    data: PerturbationData,
    pilots: Mapping[str, PerturbationData],
    relaxed: int | None,
    choices: Sequence[ProtocolChoice],
    precision: float,
) -> Iterable[str]:
    """What is not identified, and what it would take."""
    unfinished = float(survival.values[-1])
    if unfinished > 0:
        known = f"E[T] is not identified: {unfinished:.1%} of the runs are unfinished at epoch {survival.horizon}"
        try:
            need = horizon_needed(survival, relaxed or 0, unfinished=min(0.01, unfinished / 2))
            yield f"{known}. {need.describe()}"
        except ValueError:
            test = constant_hazard_test(survival, relaxed or 0)
            yield f"{known}, and nothing allows to continue them: {test.describe()}. Train some of them longer."
    else:
        unseen = 1 - 0.05 ** (1 / survival.n)
        yield f"All {survival.n:,} runs finished, but up to {unseen:.1%} of others may be far slower (95 %)."
    if not choices:
        return
    best = choices[0]
    if best.source in PREDICTORS:
        need = runs_needed(pilots.get(best.label, data), (best.source, best.interval), relative_error=precision)
        if not need.is_met:
            yield f"{best.label} every {best.interval} epochs: {need.describe()}"
    if len(choices) > 1 and best.best < 0.95:
        difference = choices[1].slower_by(best)
        if difference.standard_error > 0:  # none if no run lives to be perturbed
            yield f"{best.label} or {choices[1].label}? {resolution_needed(difference).describe()}"
