"""Which protocol is fastest: measured training times, and predictions inside their regime, in one ranking."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from nnval.protocol_evidence import UNPERTURBED, Measured, ProtocolEvidence
from sim.random_streams import stream
from theory.bootstrap import bootstrap_weights
from theory.perturbation import predicted_restricted_mean
from theory.predicted_time import Prediction
from theory.prediction import PerturbationData
from theory.protocol_choice import ProtocolChoice, ProtocolMeans, choose_protocol
from theory.survival import Floats, restricted_mean, survival_from_counts


def rank(
    data: PerturbationData,
    evidence: Sequence[ProtocolEvidence],
    pilots: Mapping[str, PerturbationData],
    *,
    seed: int,
) -> tuple[ProtocolChoice, ...]:
    """Rank training without perturbation and every protocol of which something is known.

    Known are measurements that reach the horizon and predictions inside their regime. Intervals above half of the
    horizon are left out: runs would be stopped before one perturbed cycle is over.

    Args:
        data: the unperturbed runs.
        evidence: of the protocols.
        pilots: data behind their predictions; ``data`` where a label is missing.
        seed: of the bootstrap of measurements.

    Returns:
        The ranking; empty if neither unperturbed runs nor any protocol ever reach the target.
    """
    means = [m for e in evidence if (m := _means(e, data, pilots.get(e.label, data), seed)) is not None]
    if not data.unperturbed.observed.any() and all((m.means >= data.horizon).all() for m in means):
        return ()

    def unperturbed(psi: npt.NDArray, residual_psi: npt.NDArray | None) -> npt.NDArray:
        return restricted_mean(psi, np.array([data.horizon]))

    none = ProtocolMeans(
        label=UNPERTURBED,
        intervals=np.array([0]),
        sources=("unperturbed",),
        means=unperturbed(data.psi, None),
        replicates=data.replicates(unperturbed),
        n=data.unperturbed.n,
    )
    return choose_protocol(none, means)


def unproven(
    evidence: Sequence[ProtocolEvidence], choices: Sequence[ProtocolChoice]
) -> tuple[tuple[str, Prediction], ...]:
    """Predictions outside their regime that promise more than the best protocol inside one: worth measuring.

    Args:
        evidence: of the protocols.
        choices: the ranking.

    Returns:
        (label, prediction): of each label the fastest of those with the fewest reasons for doubt; none that rests on
        too few runs, or was measured.
    """
    if not choices:
        return ()
    best, _ = choices[0].restricted_mean.interval()
    found = []
    for e in evidence:
        measured = {m.interval for m in e.measured}
        doubtful = [
            p
            for several in e.predictions.values()
            for p in several
            if not p.valid
            and p.interval not in measured
            and math.isfinite(p.restricted_mean.value)
            and not any("too few for its standard error" in reason for reason in p.reasons)
        ]
        better = [p for p in doubtful if p.restricted_mean.value < best]
        if better:
            found.append((e.label, min(better, key=lambda p: (len(p.reasons), p.restricted_mean.value))))
    return tuple(found)


def _means(
    evidence: ProtocolEvidence, data: PerturbationData, study: PerturbationData, seed: int
) -> ProtocolMeans | None:
    """Training times that are known at the full horizon, with their replicates."""
    horizon, longest = data.horizon, data.horizon // 2
    columns: dict[int, tuple[str, float, Floats]] = {}
    for predictor in ("rare", "renewal", "restart"):  # renewal contains rare, and replaces it
        valid = [
            p.interval
            for p in evidence.predictions.get(predictor, ())
            if p.valid and p.horizon == horizon and p.interval <= longest
        ]
        if not valid:
            continue

        mean = partial(_predicted, predictor, np.array(valid), horizon)
        values, replicates = mean(study.psi, study.residual_psi), study.replicates(mean)
        columns |= {p: (predictor, float(values[i]), replicates[:, i]) for i, p in enumerate(valid)}
    n = data.unperturbed.n
    for runs in evidence.measured:
        if runs.interval <= longest and runs.first_passages.n > 1 and runs.restricted_mean(horizon) is not None:
            rng = stream(seed, f"bootstrap of measured {evidence.label}", runs.interval)
            columns[runs.interval] = ("measured", *_measured(runs, horizon, data.resamples, rng))
            n = min(n, runs.first_passages.n)
    if not columns:
        return None
    intervals = sorted(columns)
    return ProtocolMeans(
        label=evidence.label,
        intervals=np.array(intervals),
        sources=tuple(columns[p][0] for p in intervals),
        means=np.array([columns[p][1] for p in intervals]),
        replicates=np.stack([columns[p][2] for p in intervals], axis=1),
        n=n,
    )


def _predicted(
    predictor: str, intervals: npt.NDArray, horizon: int, psi: npt.NDArray, residual_psi: npt.NDArray | None
) -> npt.NDArray:
    return predicted_restricted_mean(predictor, psi, residual_psi, intervals, horizon)


def _measured(runs: Measured, horizon: int, resamples: int, rng: np.random.Generator) -> tuple[float, Floats]:
    """E[min(T_P, H)] of the runs and of resamples of them."""
    times = runs.first_passages
    weights = bootstrap_weights(times.n, resamples, rng)
    mean, replicates = (
        restricted_mean(survival_from_counts(*times.counts(w, horizon)), horizon) for w in (None, weights)
    )
    return float(mean), replicates
