"""Advice as the result of ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from commands.curves import prediction_json
from commands.shared import estimate_json

if TYPE_CHECKING:
    from nnval.advice import Advice
    from nnval.protocol_evidence import Measured, PredictedAndMeasured, ProtocolEvidence
    from nnval.target_scan import TargetScan
    from theory.protocol_choice import ProtocolChoice
    from theory.study_design import Design
    from theory.survival import Survival


def advice_json(advice: Advice, intervals: Sequence[int]) -> dict[str, Any]:
    """All numbers and sentences of the advice.

    Args:
        advice: the advice.
        intervals: P whose predictions are wanted, beside those measured; none: all.

    Returns:
        Dictionaries, lists, texts and numbers.
    """
    from nnval.advice_text import diagnosis, recommendation, survival_sentence

    return {
        **_data(advice),
        "summary": survival_sentence(advice),
        "recommendation": recommendation(advice),
        "choices": [_choice_json(choice) for choice in advice.choices],
        "unproven": [{"perturbation": label, **prediction_json(p)} for label, p in advice.unproven],
        "perturbations": [_evidence_json(e, advice.horizon, intervals) for e in advice.evidence],
        "diagnosis": {"sentences": diagnosis(advice), **_steady_json(advice)},
        "survival": _survival_json(advice.survival),
        "design": _design_json(advice.design),
        "needs": list(advice.needs),
        "assumptions": list(advice.assumptions),
    }


def scan_json(scan: TargetScan, assumptions: Sequence[str]) -> dict[str, Any]:
    """The rankings at all targets.

    Args:
        scan: of targets.
        assumptions: of all of them.

    Returns:
        Dictionaries, lists, texts and numbers.
    """
    from nnval.advice_text import recommendation

    targets = [
        {
            **_data(advice),
            "unfinished": float(advice.survival.values[-1]),
            "recommendation": recommendation(advice),
            "choices": [_choice_json(choice) for choice in advice.choices],
        }
        for advice in scan.advice
    ]
    return {"targets": targets, "assumptions": list(assumptions)}


def _data(advice: Advice) -> dict[str, Any]:
    curves = advice.curves
    return {
        "metric": curves.metric,
        "direction": curves.direction,
        "unit": curves.unit,
        "runs": curves.n,
        "target": advice.target,
        "horizon": advice.horizon,
    }


def _choice_json(choice: ProtocolChoice) -> dict[str, Any]:
    return {
        "perturbation": choice.label,
        "interval": choice.interval or None,
        "interval95": [choice.low, choice.high] if choice.interval else None,
        "source": choice.source,
        "restricted_mean": estimate_json(choice.restricted_mean),
        "speed_up": estimate_json(choice.speed_up),
        "probability_helps": choice.helps if choice.interval else None,
        "probability_best": choice.best,
        "is_boundary": bool(choice.is_boundary),
    }


def _evidence_json(evidence: ProtocolEvidence, horizon: int, intervals: Sequence[int]) -> dict[str, Any]:
    wanted = {*intervals, *(m.interval for m in evidence.measured)}
    predictions = [
        prediction_json(p)
        for several in evidence.predictions.values()
        for p in several
        if not intervals or p.interval in wanted
    ]
    return {
        "perturbation": evidence.label,
        "branch_epoch": evidence.branch_epoch,
        "once": [{"epoch": epoch, **_survival_json(residuals)} for epoch, residuals in evidence.once],
        "predictions": predictions,
        "measured": [_measured_json(m, horizon) for m in evidence.measured],
        "comparisons": [_compared_json(c) for c in evidence.compared],
    }


def _measured_json(measured: Measured, horizon: int) -> dict[str, Any]:
    from nnval.advice_tables import measured_mean

    last, mean = measured_mean(measured, horizon)
    survival = measured.survival
    return {
        "interval": measured.interval,
        "runs": measured.first_passages.n,
        "horizon": last,
        "restricted_mean": estimate_json(mean),
        "mean": estimate_json(survival.mean()) if survival.is_complete else None,
        "unfinished": survival.at(last),
        "residual_mean": estimate_json(measured.residual_mean),
    }


def _compared_json(compared: PredictedAndMeasured) -> dict[str, Any]:
    prediction, comparison = compared.prediction, compared.comparison
    return {
        "predictor": prediction.predictor,
        "interval": prediction.interval,
        "horizon": prediction.horizon,
        "predicted": estimate_json(comparison.predicted),
        "measured": estimate_json(comparison.measured),
        "relative_difference": compared.relative_difference,
        "z": compared.z,
        "granted_model_error": comparison.margin,
        "z_beyond_it": comparison.z,
        "p_value": comparison.p_value,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
    }


def _survival_json(survival: Survival) -> dict[str, Any]:
    low, high = survival.band()
    return {
        "runs": survival.n,
        "epoch": list(range(len(survival.values))),
        "survival": survival.values.tolist(),
        "standard_error": survival.standard_error.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _steady_json(advice: Advice) -> dict[str, Any]:
    steady, hazard = advice.stationarity, advice.hazard_test
    result: dict[str, Any] = {"relaxation_epoch": advice.relaxation_epoch, "stationarity": None, "hazard": None}
    if steady is not None:
        result["stationarity"] = {
            "kind": steady.kind,
            "tolerance": steady.tolerance,
            "reference": list(steady.reference),
            "relaxation_interval95": list(steady.relaxation_interval),
            "epoch": steady.epochs.tolist(),
            "distance": [_number(value) for value in steady.distance.tolist()],
        }
    if hazard is not None:
        result["hazard"] = {
            "start": hazard.start,
            "stop": hazard.stop,
            "per_epoch": estimate_json(hazard.hazard),
            "events": hazard.events,
            "p_value": float(hazard.p_value),
            "is_decidable": bool(hazard.is_decidable),
            "is_constant": bool(hazard.is_constant),
        }
    return result


def _number(value: float) -> float | None:
    return None if value != value else value


def _design_json(design: Design | None) -> dict[str, Any] | None:
    if design is None:
        return None
    return {
        "sentence": design.describe(),
        "predictor": design.predictor,
        "branch_epoch": design.branch_epoch,
        "parents": design.parents,
        "children": dict(design.children),
        "followed": design.followed,
        "epochs": design.epochs,
        "brute_force_epochs": design.brute_force_epochs,
        "pilot_epochs": design.pilot_epochs,
        "saving": design.saving,
        "points": [
            {
                "perturbation": point.label,
                "interval": point.interval,
                "restricted_mean": point.restricted_mean,
                "standard_error": point.standard_error,
                "wanted_error": point.wanted_error,
                "brute_force_runs": point.brute_force_runs,
                "brute_force_epochs": point.brute_force_epochs,
            }
            for point in design.points
        ],
        "limits": list(design.limits),
    }
