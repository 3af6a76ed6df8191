"""A finished study as tables and sentences: the same words on the terminal, in the report and in its CSV files."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from nnval.engine import run_directory as disk
from nnval.experiment_words import data_words, network_name
from nnval.study import PeriodicRun, Protocol, Study, measured_speed_up
from nnval.tables import LOOSE_WORDS, PREDICTION_COLUMNS, Table, is_loose, plus_minus, prediction_rows
from theory.estimate import Comparison, Estimate
from theory.predicted_time import Prediction, best_prediction

PREDICTOR_NAMES = {
    "restart": "restart (Eq. 5, exact)",
    "rare": "rare (Eq. 9)",
    "renewal": "renewal",
}


def comparison_table(study: Study) -> tuple[Table, tuple[str, ...]]:
    """Predictions beside measurements, and the reasons why some are outside their regime.

    Args:
        study: the study.

    Returns:
        The table, whose verdicts carry numbers of notes, and the notes.
    """
    notes: list[str] = []

    def verdict(comparison: Comparison) -> str:
        numbers = []
        for reason in (*comparison.reasons, *([LOOSE_WORDS] if is_loose(comparison) else [])):
            text = _without_interval(reason)
            if text not in notes:
                notes.append(text)
            numbers.append(str(notes.index(text) + 1))
        return comparison.verdict + (f" [{','.join(numbers)}]" if numbers else "")

    rows = [
        (
            label,
            interval,
            PREDICTOR_NAMES[predictor] + ("" if horizon == study.config.training.epochs else f" up to {horizon}"),
            plus_minus(comparison.predicted),
            plus_minus(comparison.measured),
            f"{comparison.z:+.1f}",
            verdict(comparison),
        )
        for (label, predictor, interval, horizon), comparison in zip(study.rows, study.comparisons, strict=True)
    ]
    header = ("perturbation", "P", "predictor", "predicted", "measured", "z", "verdict")
    return Table(header, tuple(rows)), tuple(f"[{number + 1}] {note}" for number, note in enumerate(notes))


def measurement_table(study: Study) -> Table:
    """What was measured: training time, speed-up, and the test accuracy that the validation split did not choose.

    Args:
        study: the study.

    Returns:
        A row for unperturbed training (test accuracy at the horizon) and one for each measured interval (test accuracy
        where the target was reached).
    """
    horizon = study.config.training.epochs
    tested = study.unperturbed.test_accuracy[np.isfinite(study.unperturbed.test_accuracy)]
    rows: list[tuple[Any, ...]] = [
        (
            "none",
            "-",
            study.survival.n,
            f"{study.survival.at(horizon):.0%}",
            plus_minus(study.survival.restricted_mean(horizon)),
            "1",
            plus_minus(Estimate.from_samples(tested)),
        )
    ]
    rows += [
        (
            protocol.label,
            run.interval,
            run.survival.n,
            f"{run.survival.at(horizon):.0%}",
            plus_minus(run.survival.restricted_mean(horizon)),
            plus_minus(measured_speed_up(study, run)),
            plus_minus(run.test_accuracy),
        )
        for protocol in study.protocols
        for run in protocol.periodic
    ]
    header = ("perturbation", "P", "n", "unfinished", f"E[min(T_P, {horizon})]", "speed-up", "test accuracy")
    return Table(header, tuple(rows))


def _without_interval(reason: str) -> str:
    """A reason such that equal ones at different P share a note."""
    return re.sub(r"P=\d+", "P", reason)


def facts(study: Study) -> list[tuple[str, str]]:
    """What the unperturbed runs and the perturbed survivors are like.

    Args:
        study: the study.

    Returns:
        (name, sentence) pairs.
    """
    training, horizon = study.config.training, study.config.training.epochs
    mean = study.survival.restricted_mean(horizon)
    unfinished = float(study.survival.at(horizon))
    runs = f"{training.members} x {network_name(training)} on {data_words(training, training.train_size)}"
    lines = [
        ("training", runs),
        ("target", f"validation accuracy >= {study.target:g} within {horizon} epochs"),
        ("unperturbed", f"{unfinished:.0%} of the runs do not get there; E[min(T, {horizon})] = {plus_minus(mean)}"),
    ]
    steady = study.quasi_steady_state
    if steady is None or steady.relaxation_epoch is None:
        lines.append(("quasi-steady state", "none was found: only full resetting is inside its regime"))
    else:
        low, high = steady.relaxation_interval
        lines.append(
            (
                "quasi-steady state",
                f"from epoch {steady.relaxation_epoch} (95 %: {low} to {'none' if high is None else high}); published "
                f"criterion: {study.published_relaxation_epoch}",
            )
        )
        late = np.flatnonzero(steady.distance > steady.tolerance) + 1
        if len(late) and late[-1] > steady.reference[1]:
            first = int(late[late > steady.reference[1]][0])
            lines.append(("quasi-steady state", f"it drifts: from epoch {first} survivors leave the tolerance again"))
    if study.hazard_test is not None:
        lines.append(("hazard", study.hazard_test.describe()))
    for protocol in study.protocols:
        for once in protocol.once:
            followed = study.config.follow
            text = f"{plus_minus(once.survival.restricted_mean(followed))} epochs (restricted to {followed})"
            text += f", {once.survival.at(followed):.0%} unfinished; n = {once.data.residuals.n}"
            lines.append((f"{protocol.label} once at {once.epoch}", text))
    once = [(f"{p.label} once at {o.epoch}", o.ensemble) for p in study.protocols for o in p.once]
    periodic = [(f"{p.label} every {r.interval}", r.ensemble) for p in study.protocols for r in p.periodic]
    for name, ensemble in [("unperturbed", study.unperturbed), *once, *periodic]:
        if diverged := int((ensemble.status == "diverged").sum()):
            lines.append((name, f"{diverged} networks diverged; they count as never reaching the target"))
    return lines


def conclusions(study: Study) -> list[str]:
    """What to do, in plain words.

    Args:
        study: the study.

    Returns:
        Sentences: the best measured and the best predicted protocol, and how the predictions fared.
    """
    measured = [(run, protocol) for protocol in study.protocols for run in protocol.periodic]
    horizon = study.config.training.epochs
    run, protocol = min(measured, key=lambda pair: pair[0].survival.restricted_mean(horizon).value)
    ratio = measured_speed_up(study, run)
    # The best of many is chosen by its errors too: the interval is one for all of them together.
    low, high = ratio.interval(1 - 0.05 / len(measured))
    lines = [
        f"Fastest of the {len(measured)} measured: {protocol.label} every {run.interval} epochs, "
        f"{plus_minus(run.survival.restricted_mean(horizon))} epochs, {ratio.value:.2f} times as fast as unperturbed "
        f"training ({low:.2f} to {high:.2f}, allowing for the choice; ratio of means restricted to {horizon} epochs)."
    ]
    if high <= 1:
        lines = ["No measured perturbation makes training faster."]
    best = best_of_all(study)
    if best is None:
        lines.append("No prediction is inside its regime.")
    else:
        label, prediction = best
        low, high = prediction.restricted_mean.interval()
        lines.append(
            f"Fastest predicted within a regime: {label} every {prediction.interval} epochs, "
            f"{prediction.restricted_mean.value:.1f} epochs ({low:.1f} to {high:.1f}, by {prediction.predictor})."
        )
    tested = [c for c in study.comparisons if not c.reasons]
    agreeing = sum(c.verdict == "agrees" for c in tested)
    outside = len(study.comparisons) - len(tested)
    if tested:
        lines.append(
            f"{agreeing} of {len(tested)} predictions inside their regime agree with training; {outside} are outside."
        )
    else:
        lines.append(f"Nothing could be tested: all {outside} predictions of measurements are outside their regime.")
    return lines


def best_of_all(study: Study) -> tuple[str, Prediction] | None:
    """The valid prediction with the smallest restricted mean at the full horizon, over all protocols.

    Args:
        study: the study.

    Returns:
        Its label and the prediction; None if none is valid.
    """
    horizon = study.config.training.epochs
    candidates = [
        (protocol.label, best)
        for protocol in study.protocols
        for predictions in protocol.predictions.values()
        if (best := best_prediction([p for p in predictions if p.horizon == horizon])) is not None
    ]
    return min(candidates, key=lambda pair: pair[1].restricted_mean.value, default=None)


def arrays(study: Study) -> dict[str, Table]:
    """Every number of the study: file name -> table.

    Args:
        study: the study.

    Returns:
        ``survival``, ``residual_survival``, ``predictions``, ``measurements`` and ``quasi_steady_state``.
    """
    low, high = study.survival.band()
    result = {
        "survival": Table(
            ("epoch", "survival", "standard_error", "low", "high"),
            tuple(
                zip(
                    range(len(study.survival.values)),
                    *(x.tolist() for x in (study.survival.values, study.survival.standard_error, low, high)),
                    strict=True,
                )
            ),
        ),
        "residual_survival": Table(
            ("perturbation", "branch_epoch", "epoch", "survival", "standard_error"),
            tuple(
                (protocol.label, once.epoch, epoch, value, error)
                for protocol in study.protocols
                for once in protocol.once
                for epoch, (value, error) in enumerate(
                    zip(once.survival.values.tolist(), once.survival.standard_error.tolist(), strict=True)
                )
            ),
        ),
        "predictions": Table(
            PREDICTION_COLUMNS,
            tuple(
                row
                for protocol in study.protocols
                for predictions in protocol.predictions.values()
                for row in prediction_rows(protocol.label, predictions)
            ),
        ),
        "measurements": Table(
            _MEASUREMENT_COLUMNS,
            tuple(_measurement_row(study, p, run) for p in study.protocols for run in p.periodic),
        ),
    }
    steady = study.quasi_steady_state
    if steady is not None:
        columns = (steady.epochs, steady.distance, steady.low, steady.high)
        rows = tuple(zip(*(column.tolist() for column in columns), strict=True))
        result["quasi_steady_state"] = Table(("epoch", f"{steady.kind}_distance", "low", "high"), rows)
    return result


_MEASUREMENT_COLUMNS = (
    "perturbation",
    "interval",
    "n",
    "horizon",
    "restricted_mean",
    "standard_error",
    "unfinished",
    "residual_mean",
    "residual_standard_error",
    "speed_up",
    "speed_up_standard_error",
    "test_accuracy",
    "test_accuracy_standard_error",
)


def _measurement_row(study: Study, protocol: Protocol, run: PeriodicRun) -> tuple[Any, ...]:
    horizon = study.config.training.epochs
    mean, ratio = run.survival.restricted_mean(horizon), measured_speed_up(study, run)
    residual, accuracy = run.residual_mean, run.test_accuracy
    return (
        protocol.label,
        run.interval,
        mean.n,
        horizon,
        mean.value,
        mean.standard_error,
        run.survival.at(horizon),
        residual.value if residual else None,
        residual.standard_error if residual else None,
        ratio.value,
        ratio.standard_error,
        accuracy.value if accuracy else None,
        accuracy.standard_error if accuracy else None,
    )


def comparisons_json(study: Study) -> list[dict[str, Any]]:
    """The comparisons as plain JSON.

    Args:
        study: the study.

    Returns:
        One record per comparison.
    """
    return [
        {
            "perturbation": label,
            "predictor": predictor,
            "interval": interval,
            "horizon": horizon,
            "quantity": c.quantity,
            "predicted": c.predicted.value,
            "predicted_standard_error": c.predicted.standard_error,
            "predicted_interval95": list(c.predicted.interval()),
            "measured": c.measured.value,
            "measured_standard_error": c.measured.standard_error,
            "n": c.measured.n,
            "margin": c.margin,
            "z": c.z if math.isfinite(c.z) else None,
            "p_value": c.p_value,
            "verdict": c.verdict,
            "reasons": list(c.reasons),
        }
        for (label, predictor, interval, horizon), c in zip(study.rows, study.comparisons, strict=True)
    ]


def save(study: Study) -> None:
    """Write ``comparisons.json`` and ``arrays/*.csv`` into the study's directory.

    Args:
        study: the study.

    Raises:
        StorageError: if a file can't be written; the runs are intact.
    """
    disk.make_directory(study.directory / "arrays")
    for name, table in arrays(study).items():
        disk.write_whole(study.directory / "arrays" / f"{name}.csv", table.to_csv().encode())
    disk.write_json(study.directory / "comparisons.json", comparisons_json(study))


def is_saved(directory: Path) -> bool:
    """Whether a study in this directory was finished and saved.

    Args:
        directory: of the study.

    Returns:
        True if its comparisons are there.
    """
    return (directory / "comparisons.json").exists()
