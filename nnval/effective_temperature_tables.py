"""The finished experiment of nnval.effective_temperature as tables and sentences: for terminal, page and files."""

from typing import Any

import numpy as np

from nnval.effective_temperature_study import (
    MEASURED,
    STOPS,
    TEMPERATURES,
    WIDTHS,
    ConditionResult,
    EffectiveTemperature,
    Finding,
)
from nnval.experiment_words import network_words
from nnval.tables import Table
from theory.absorbing import Floats
from theory.estimate import Comparison, Estimate

STOP_NAMES = {
    "early": "equal time, early",
    "late": "equal time, late",
    "equal_loss": "equal training loss",
    "zero_error": "first zero training error",
    "at_rest": "at rest, without noise",
}
WIDTH_NAMES = {"margin": "normalised margin", "input_distance": "distance along the gradient"}
QUESTIONS = {
    "replicas": "Does the distance of replicas rise with the temperature?",
    "margin": "Are boundaries wider where it is hotter (normalised margin)?",
    "input_distance": "Are boundaries wider where it is hotter (distance along the gradient)?",
}


def facts(result: EffectiveTemperature) -> list[tuple[str, str]]:
    """What was trained, and what is the same for all conditions.

    Args:
        result: finished.

    Returns:
        (name, sentence) pairs.
    """
    config, training = result.config, result.config.training
    updates = result.samples // training.batch_size
    lines = [
        ("network", network_words(training, result.weights, training.train_size)),
        (
            "training",
            f"{training.epochs * updates} updates with learning rate {training.learning_rate:g}, momentum "
            f"{training.momentum:g}, weight decay {training.weight_decay:g}; an epoch is {updates} updates for all",
        ),
        ("replicas", f"two for each condition and seed; {training.members} seeds, which all conditions share"),
        (
            "temperature",
            f"along {config.directions} eigenvectors of the Hessian; {config.runs} runs with twins in a field, "
            f"{config.windows} windows of {config.window} updates",
        ),
        (
            "boundary width",
            f"{100 * config.quantile:g} % of the training points are nearer, or on the wrong side; rest: "
            f"{config.rest} updates with all samples",
        ),
    ]
    if "persistent" in config.orders:
        lines.append(("persistent", f"samples stay in a batch for {config.stay:g} updates on average"))
    return lines


def short(estimate: Estimate) -> str:
    """Value and standard error with three digits, whatever their size."""
    return f"{estimate.value:.3g} +- {estimate.standard_error:.1g}"


def temperatures_table(result: EffectiveTemperature) -> Table:
    """Temperatures and responses of each condition, beside theory.

    Args:
        result: finished.

    Returns:
        A row for each condition; means over the seeds with a direction that responds, see `silence`.
    """
    rows = []
    for each in result.conditions:
        found: list[str] = []
        for place in range(len(TEMPERATURES)):
            found.append(_of_known(each.slope[:, place]))
            found.append(f"{each.predicted_slope[each.responds, place].mean():.3g}" if each.responds.any() else "-")
        found.append(_of_known(each.response))
        rows.append((*_key(each), *found, f"{each.drift.mean():.2g}"))
    header = ("order", "S", "n", "T fast", "theory", "T slow", "theory", "response / theory", "drift")
    return Table(header, tuple(rows))


def replicas_table(result: EffectiveTemperature) -> Table:
    """Replicas of each condition at the end of training.

    Args:
        result: finished.

    Returns:
        A row for each condition; means over seeds.
    """
    names = ("distance", "cosine", "disagreement", "train_loss", "train_error", "test_accuracy")
    rows = [
        (*_key(each), *(short(Estimate.from_samples(each.curves[name][:, -1])) for name in names))
        for each in result.conditions
    ]
    header = ("order", "S", "n", "distance", "cosine", "predictions differ", "loss", "training error", "test accuracy")
    return Table(header, tuple(rows))


def _key(condition: ConditionResult) -> tuple[str, int, int]:
    return condition.order.replace("_", " "), condition.batch_size, len(condition.drift)


def _of_seeds(values: Floats) -> tuple[str, int]:
    there = values[np.isfinite(values)]
    return (short(Estimate.from_samples(there)) if len(there) > 1 else "-", len(there))


def _of_known(values: Floats) -> str:
    text, n = _of_seeds(values)
    return text if n in (0, len(values)) else f"{text} (n={n})"


def silence(result: EffectiveTemperature) -> str:
    """Where there is no temperature, in words; empty if there is one everywhere.

    Args:
        result: finished.

    Returns:
        A sentence.
    """
    rows = ", ".join(
        f"{each.order.replace('_', ' ')}, S={each.batch_size} ({(~each.responds).sum()} of {len(each.responds)} seeds)"
        for each in result.conditions
        if not each.responds.all()
    )
    return f"No direction with the response of a minimum, and so no temperature: {rows}." if rows else ""


def widths_table(result: EffectiveTemperature, width: str) -> Table:
    """One width of each condition at all stops.

    Args:
        result: finished.
        width: one of ``WIDTHS``.

    Returns:
        A row for each condition; means over the seeds that got there, whose number stands beside zero error.
    """
    rows = []
    for place, each in enumerate(result.conditions):
        cells = []
        for stop in STOPS:
            text, n = _of_seeds(result.stops[stop, width][place])
            cells.append(text if n == len(each.drift) else f"{text} (n={n})")
        rows.append((*_key(each), *cells))
    return Table(("order", "S", "n", "early", "late", "equal loss", "zero error", "at rest"), tuple(rows))


def verdict(finding: Finding) -> str:
    """Whether two things rise together, in words; at 1 % for all of the experiment together.

    Args:
        finding: one of the experiment.

    Returns:
        ``"yes"``, ``"no: opposite"`` or ``"not shown"``.
    """
    if not finding.shown:
        return "not shown"
    return "yes" if finding.estimate.value > 0 else "no: opposite"


def findings_table(result: EffectiveTemperature, question: str) -> Table:
    """The rank correlations that belong to a question.

    Args:
        result: finished.
        question: one of ``QUESTIONS``.

    Returns:
        A row for each; verdicts hold together at 1 %.
    """
    rows = []
    for each in result.findings:
        if each.question == question:
            low, high = each.estimate.interval()
            interval = f"{max(low, -1):+.2f} to {min(high, 1):+.2f}"
            words = STOP_NAMES.get(each.quantity, each.quantity)
            rows.append((words, f"{each.estimate.value:+.2f}", interval, each.estimate.n, verdict(each)))
    return Table(("rank correlation with T slow", "mean", "95 % interval", "n", "rises with it"), tuple(rows))


def theory_table(result: EffectiveTemperature) -> Table:
    """Measured over predicted.

    Args:
        result: finished.

    Returns:
        A row for each comparison; verdicts hold together at 1 %, beyond the tolerance.
    """
    rows = []
    for each in result.comparisons:
        low, high = each.measured.interval()
        rows.append((each.quantity.replace("_", " "), short(each.measured), f"{low:.3f} to {high:.3f}",
                     each.measured.n, each.verdict))  # fmt: skip
    return Table(("measured / expected", "mean", "95 % interval", "n", "verdict"), tuple(rows))


def conclusions(result: EffectiveTemperature) -> list[str]:
    """What came out, in plain words.

    Args:
        result: finished.

    Returns:
        A sentence for each question, and one about theory.
    """
    lines = []
    for question, words in QUESTIONS.items():
        answers: dict[str, list[str]] = {}
        for each in result.findings:
            if each.question == question:
                answers.setdefault(verdict(each), []).append(STOP_NAMES.get(each.quantity, each.quantity))
        if answers:
            lines.append(" ".join([words, *(f"{how.capitalize()}: {'; '.join(of)}." for how, of in answers.items())]))
    away = [each.quantity.replace("_", " ") for each in result.comparisons if each.verdict == "disagrees"]
    judged = [each for each in result.comparisons if each.verdict != "outside regime"]
    granted = f"within {100 * result.tolerance:g} %"
    if away:
        lines.append(f"Of {len(judged)} comparisons with linear theory, {granted}, {len(away)} disagree.")
    elif judged:
        lines.append(f"No disagreement with linear theory is shown in {len(judged)} comparisons, {granted}.")
    if len(judged) < len(result.comparisons):
        lines.append("The others are outside its regime, as those networks were still on their way or did not respond.")
    if nowhere := silence(result):
        lines.append(nowhere)
    silent = [each for each in result.conditions if each.unanswered.any() and each.responds.all()]
    if silent:
        rows = ", ".join(
            f"{each.order.replace('_', ' ')}, S={each.batch_size} ({each.unanswered.sum()})" for each in silent
        )
        lines.append(f"Directions without the response of a minimum, or beyond stability, are left out of {rows}.")
    return lines


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON."""
    return {
        "quantity": comparison.quantity,
        "value": comparison.measured.value,
        "standard_error": comparison.measured.standard_error,
        "n": comparison.measured.n,
        "interval95": list(comparison.measured.interval()),
        "p_value": comparison.p_value,
        "verdict": comparison.verdict,
    }


def findings_json(result: EffectiveTemperature) -> list[dict[str, Any]]:
    """The rank correlations as plain JSON.

    Args:
        result: finished.

    Returns:
        One record for each.
    """
    return [
        {"question": each.question}
        | comparison_json(each.comparison)
        | {"quantity": each.quantity, "verdict": verdict(each)}
        for each in result.findings
    ]


def _cells(*numbers: float) -> list[float | None]:
    """Of a table; empty where there is no number."""
    return [None if np.isnan(value) else float(value) for value in numbers]


def arrays(result: EffectiveTemperature) -> dict[str, Table]:
    """Every number of the experiment: file name -> table.

    Args:
        result: finished.

    Returns:
        ``curves``, ``temperatures``, ``seeds``, ``findings`` and ``theory``.
    """
    members, lags = list(result.config.members), result.config.lags
    curves, temperatures, seeds = [], [], []
    for place, each in enumerate(result.conditions):
        for row, member in enumerate(members):
            key = (each.order, each.batch_size, member)
            for column, epoch in enumerate(result.config.epochs):
                curves.append((*key, epoch, *(float(each.curves[name][row, column]) for name in MEASURED)))
            for column, lag in enumerate(lags):
                numbers = each.temperature[row, column], each.predicted_temperature[row, column]
                temperatures.append((*key, lag, *_cells(*numbers)))
            widths = [float(result.stops[stop, width][place, row]) for width in WIDTHS for stop in STOPS]
            seeds.append(
                (
                    *key,
                    *_cells(*each.slope[row], *each.predicted_slope[row], each.response[row], each.linearity[row]),
                    *_cells(each.drift[row], *widths),
                )
            )
    key = ("order", "batch_size", "seed")
    temperature_columns = tuple(f"{kind}{name}" for kind in ("", "predicted_") for name in TEMPERATURES)
    records = {
        "findings": findings_json(result),
        "theory": [comparison_json(each) for each in result.comparisons],
    }
    tables = {
        "curves": Table((*key, "epoch", *MEASURED), tuple(curves)),
        "temperatures": Table((*key, "lag", "temperature", "predicted"), tuple(temperatures)),
        "seeds": Table(
            (*key, *temperature_columns, "response", "linearity", "drift",
             *(f"{width}_{stop}" for width in WIDTHS for stop in STOPS)),
            tuple(seeds),
        ),
    }  # fmt: skip
    for name, found in records.items():
        for record in found:
            record["low"], record["high"] = record.pop("interval95")
        header = tuple(found[0]) if found else ("quantity",)
        tables[name] = Table(header, tuple(tuple(record.values()) for record in found))
    return tables
