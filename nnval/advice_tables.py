"""Advice as tables: on the terminal, in the report and in CSV files."""

import math
import re
from collections.abc import Sequence

from nnval.advice import Advice
from nnval.protocol_evidence import UNPERTURBED, Measured, PredictedAndMeasured, ProtocolEvidence
from nnval.tables import LOOSE_WORDS, PREDICTION_COLUMNS, Table, is_loose, plus_minus, prediction_rows
from nnval.target_scan import TargetScan
from theory.estimate import Comparison, Estimate
from theory.prediction import MINIMUM_COMPLETIONS

SOURCES = {
    "unperturbed": "unperturbed",
    "restart": "Eq. (5), exact",
    "rare": "Eq. (9)",
    "renewal": "renewal",
    "measured": "measured",
}
"""How a number is known, in words."""


def ranking_table(advice: Advice) -> Table:
    """The protocols at their best intervals, the fastest first.

    Args:
        advice: with a ranking.

    Returns:
        Text, with 95 % intervals that allow for the choice of P.
    """
    rows = [
        (
            c.label,
            "-" if c.label == UNPERTURBED else f"{c.interval}{_span(c.low, c.high, c.interval)}",
            with_interval(c.restricted_mean),
            "1" if c.label == UNPERTURBED else with_interval(c.speed_up),
            "-" if c.label == UNPERTURBED else percent(c.helps),
            percent(c.best),
            SOURCES[c.source],
        )
        for c in advice.choices
    ]
    header = (
        "protocol",
        "best P",
        f"E[min(T_P,{advice.horizon})], 95 %",
        "speed-up, 95 %",
        "helps",
        "best",
        "known by",
    )
    return Table(header, tuple(rows))


def _span(low: int, high: int, interval: int) -> str:
    return "" if low == high == interval else f" ({low} to {high})"


def interval_table(advice: Advice, intervals: Sequence[int]) -> tuple[Table, tuple[str, ...]]:
    """Predictions beside measurements at some intervals, and why some are outside their regime.

    Args:
        advice: with its evidence.
        intervals: P of interest; measured ones are always shown.

    Returns:
        The table, whose last column carries numbers of notes, and the notes; one of them is about times that are known
        up to an earlier epoch than the horizon. ``z`` counts standard errors of the difference, with nothing granted;
        verdicts grant Eq. (9) and renewal 5 % of model error.
    """
    notes: list[str] = []

    def numbered(reasons: Sequence[str]) -> str:
        texts = [_for_any_interval(reason) for reason in reasons]
        notes.extend(text for text in dict.fromkeys(texts) if text not in notes)
        marks = sorted({notes.index(text) + 1 for text in texts})
        return f" [{','.join(map(str, marks))}]" if marks else ""

    rows = [
        (*row, verdict + numbered(reasons))
        for e in advice.evidence
        for interval in _shown(e, intervals)
        for *row, verdict, reasons in _interval_rows(e, interval, advice.horizon)
    ]
    texts = [f"[{number + 1}] {note}" for number, note in enumerate(notes)]
    if any("(H=" in row[3] + row[4] for row in rows):
        texts.append(
            f"(H=...): runs behind this row were not followed long enough to know E[min(T_P,{advice.horizon})]; "
            "all its numbers are about E[min(T_P,H)] with this smaller H"
        )
    header = ("protocol", "P", "source", "predicted", "measured", "difference", "z", "validity")
    return Table(header, tuple(rows)), tuple(texts)


def _for_any_interval(reason: str) -> str:
    """A reason such that those at other intervals, which differ in a number, share a note."""
    text = re.sub(r"P=\d+\b", "P", reason)
    text = re.sub(r"^\d+% of the residuals", "too many residuals", text)
    return re.sub(r"^only \d+ (perturbed )?runs finish", rf"fewer than {MINIMUM_COMPLETIONS} \1runs finish", text)


def _shown(evidence: ProtocolEvidence, intervals: Sequence[int]) -> list[int]:
    known = {p.interval for several in evidence.predictions.values() for p in several}
    return sorted({m.interval for m in evidence.measured} | (set(intervals) & known))


def _interval_rows(evidence: ProtocolEvidence, interval: int, horizon: int) -> list[tuple]:
    """Protocol, P, source, predicted, measured, difference, z, verdict, reasons; predictors that agree share a row."""
    measured = next((m for m in evidence.measured if m.interval == interval), None)
    rows: list[tuple] = []
    for several in evidence.predictions.values():
        for p in (q for q in several if q.interval == interval):
            compared = next((c for c in evidence.compared if c.prediction is p), None)
            brute = None if compared is None else compared.comparison.measured
            row = (
                evidence.label,
                interval,
                SOURCES[p.predictor],
                plus_minus(p.restricted_mean) + _up_to(p.horizon, horizon),
                plus_minus(brute),
                "-" if compared is None else _difference(compared.relative_difference),
                "-" if compared is None else _z(compared.z),
                ("valid" if p.valid else "outside regime") if compared is None else compared.comparison.verdict,
                p.reasons if compared is None else _reasons(compared.comparison),
            )
            if rows and rows[-1][3:] == row[3:]:
                row = (*row[:2], f"{rows.pop()[2]}, {row[2]}", *row[3:])
            rows.append(row)
    if measured is not None and all(row[4] == "-" for row in rows):
        last, mean = measured_mean(measured, horizon)
        count = f"n = {measured.first_passages.n}"
        rows.append((evidence.label, interval, "-", "-", plus_minus(mean) + _up_to(last, horizon), "-", "-", count, ()))
    return rows


def _reasons(comparison: Comparison) -> tuple[str, ...]:
    return (*comparison.reasons, *([LOOSE_WORDS] if is_loose(comparison) else []))


def _up_to(last: int, horizon: int) -> str:
    return "" if last == horizon else f" (H={last})"


def _difference(ratio: float) -> str:
    return f"{ratio:+.1%}" if abs(ratio) < 1 else f"{ratio:+.0%}"


def _z(z: float) -> str:
    return f"{z:+.1f}" if abs(z) < 99.95 else f"{z:+.0f}"


def measured_mean(measured: Measured, horizon: int) -> tuple[int, Estimate]:
    """The restricted mean of runs perturbed every P epochs, at the wanted horizon or as far as they were followed.

    Args:
        measured: the runs.
        horizon: H, if they were followed that long [epochs].

    Returns:
        The horizon, and the mean.
    """
    mean = measured.restricted_mean(horizon)
    last = measured.survival.horizon
    return (last, measured.survival.restricted_mean(last)) if mean is None else (horizon, mean)


def target_table(scan: TargetScan) -> Table:
    """The best protocol at each target.

    Args:
        scan: of targets.

    Returns:
        Text.
    """
    rows = []
    for advice in scan.advice:
        known = (f"{advice.target:g}", f"{float(advice.survival.values[-1]):.0%}", str(advice.horizon))
        best = advice.best
        if best is None:
            rows.append((*known, "nobody gets there", "-", "-", "-", "-"))
            continue
        rows.append(
            (
                *known,
                best.label,
                "-" if best.label == UNPERTURBED else str(best.interval),
                with_interval(best.restricted_mean),
                "1" if best.label == UNPERTURBED else with_interval(best.speed_up),
                percent(best.best),
            )
        )
    header = ("target", "unfinished", "H", "best protocol", "P", "E[min(T_P,H)], 95 %", "speed-up, 95 %", "best")
    return Table(header, tuple(rows))


def target_rows(scan: TargetScan) -> Table:
    """All protocols at all targets, in numbers.

    Args:
        scan: of targets.

    Returns:
        The rows of every ranking, beginning with the target.
    """
    rankings = [(advice.target, arrays(advice)["ranking"]) for advice in scan.advice]
    rows = tuple((target, *row) for target, ranking in rankings for row in ranking.rows)
    return Table(("target", *rankings[0][1].header), rows)


def arrays(advice: Advice) -> dict[str, Table]:
    """Every number of the advice: file name -> table.

    Args:
        advice: the advice.

    Returns:
        ``survival``, ``predictions``, ``measured``, ``comparisons``, ``ranking`` and, if it was looked for,
        ``quasi_steady_state``.
    """
    survival, (low, high) = advice.survival, advice.survival.band()
    columns = (survival.values, survival.standard_error, low, high)
    result = {
        "survival": Table(
            ("epoch", "survival", "standard_error", "low", "high"),
            tuple(zip(range(len(survival.values)), *(column.tolist() for column in columns), strict=True)),
        ),
        "predictions": Table(
            PREDICTION_COLUMNS,
            tuple(
                r
                for e in advice.evidence
                for several in e.predictions.values()
                for r in prediction_rows(e.label, several)
            ),
        ),
        "measured": Table(
            (
                "perturbation",
                "interval",
                "n",
                "horizon",
                "restricted_mean",
                "standard_error",
                "unfinished",
                "residual_mean",
                "residual_standard_error",
            ),
            tuple(_measured_row(e.label, m, advice.horizon) for e in advice.evidence for m in e.measured),
        ),
        "comparisons": Table(
            (
                "perturbation",
                "predictor",
                "interval",
                "horizon",
                "predicted",
                "predicted_standard_error",
                "measured",
                "measured_standard_error",
                "difference",
                "z",
                "verdict",
            ),
            tuple(_compared_row(e.label, c) for e in advice.evidence for c in e.compared),
        ),
        "ranking": Table(
            (
                "protocol",
                "interval",
                "interval_low",
                "interval_high",
                "source",
                "restricted_mean",
                "standard_error",
                "low",
                "high",
                "speed_up",
                "speed_up_low",
                "speed_up_high",
                "helps",
                "best",
            ),
            tuple(
                (
                    c.label,
                    c.interval,
                    c.low,
                    c.high,
                    c.source,
                    c.restricted_mean.value,
                    c.restricted_mean.standard_error,
                    *c.restricted_mean.interval(),
                    c.speed_up.value,
                    *c.speed_up.interval(),
                    c.helps,
                    c.best,
                )
                for c in advice.choices
            ),
        ),
    }
    steady = advice.stationarity
    if steady is not None:
        numbers = (steady.epochs, steady.distance, steady.low, steady.high)
        result["quasi_steady_state"] = Table(
            ("epoch", f"{steady.kind}_distance", "low", "high"),
            tuple(zip(*(column.tolist() for column in numbers), strict=True)),
        )
    return result


def _compared_row(label: str, c: PredictedAndMeasured) -> tuple:
    p, predicted, measured = c.prediction, c.comparison.predicted, c.comparison.measured
    errors = (predicted.value, predicted.standard_error, measured.value, measured.standard_error)
    return (label, p.predictor, p.interval, p.horizon, *errors, c.relative_difference, c.z, c.comparison.verdict)


def _measured_row(label: str, m: Measured, horizon: int) -> tuple:
    (last, mean), residual = measured_mean(m, horizon), m.residual_mean
    return (
        label,
        m.interval,
        mean.n,
        last,
        mean.value,
        mean.standard_error,
        m.survival.at(last),
        residual.value if residual else None,
        residual.standard_error if residual else None,
    )


def with_interval(estimate: Estimate) -> str:
    """``30.6 (28.6 to 32.6)``, with the digits that the error leaves.

    Args:
        estimate: the number.

    Returns:
        Text.
    """
    if not math.isfinite(estimate.value):
        return "inf"
    error = estimate.standard_error
    # Two digits of an error that begins with 1 or 2, one of a larger one.
    digits = min(max(0, math.ceil(-math.log10(error / 3))), 3) if error > 0 else 1
    low, high = estimate.interval()
    return f"{estimate.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def percent(probability: float) -> str:
    """A probability as a whole percentage, never 0 or 100 where it is not.

    Args:
        probability: from a bootstrap.

    Returns:
        Text.
    """
    if probability <= 0.005:
        return "<1%"
    return ">99%" if probability >= 0.995 else f"{probability:.0%}"
