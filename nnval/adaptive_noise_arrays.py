"""Every number of the finished experiment of nnval.adaptive_noise: as plain JSON, and as files."""

import math
from typing import Any

import numpy.typing as npt

from nnval.adaptive_noise_study import QUANTITIES, MethodRuns, NoiseStudy
from nnval.adaptive_noise_tables import claims_table
from nnval.paired_differences import PairedDifference
from nnval.tables import Table
from theory.training_phases import PHASES


def results_json(result: NoiseStudy) -> dict[str, Any]:
    """The result as plain JSON.

    Args:
        result: finished.

    Returns:
        A record; what is not defined is None.
    """
    claims = claims_table(result)
    return {
        "weights": result.weights,
        "seeds": list(result.config.members),
        "tuning_seeds": list(result.config.tuning_members),
        "methods": [_runs_json(result, runs) for runs in result.runs],
        "differences": [_difference_json(each) for each in result.differences],
        "claims": [dict(zip(claims.header, row, strict=True)) for row in claims.rows],
    }


def _numbers(values: npt.ArrayLike) -> list[Any]:
    """Nested lists with None for nan."""
    return [
        _numbers(value) if hasattr(value, "__len__") else (value.item() if math.isfinite(value) else None)
        for value in values  # pyright: ignore[reportGeneralTypeIssues] -- always an array
    ]


def _runs_json(result: NoiseStudy, runs: MethodRuns) -> dict[str, Any]:
    passages = result.passages(runs)
    return {
        "method": runs.method.name,
        "optimizer": runs.method.optimizer,
        "schedule": runs.method.schedule,
        "learning_rate": runs.rate,
        "at_edge": runs.choice.at_edge,
        "grid": list(runs.choice.rates),
        "tuning_accuracy": _numbers(runs.choice.accuracies),
        "reached": passages.observed.tolist(),
        "seconds": _numbers(result.seconds_to_target(runs)),
        **{quantity: _numbers(result.values(runs, quantity)) for quantity in QUANTITIES},
        "best_epoch": runs.best_epoch.tolist(),
        "diverged": runs.diverged.tolist(),
        "thirds": _numbers(runs.thirds),
        "changes": _numbers(runs.changes),
        "mean_square_epsilon": _numbers(runs.mean_square),
        "noise_ratio": _numbers(runs.noise_ratio),
        "overhead": _numbers(runs.overhead),
    }


def _difference_json(each: PairedDifference) -> dict[str, Any]:
    return {
        "quantity": each.quantity,
        "method": each.method,
        "reference": each.reference,
        **each.numbers(),
    }


def arrays(result: NoiseStudy) -> dict[str, Table]:
    """Every number of the experiment: file name -> table.

    Args:
        result: finished.

    Returns:
        ``epochs``, every measurement; ``seeds``, a row for each training; ``rates``; ``differences``; ``claims``.
    """
    members = result.config.members
    epochs, seeds, rates = [], [], []
    for runs in result.runs:
        name, passages, seconds = runs.method.name, result.passages(runs), result.seconds_to_target(runs)
        for rate, accuracies in zip(runs.choice.rates, runs.choice.accuracies, strict=True):
            rates += [(name, rate, k, each) for k, each in zip(result.config.tuning_members, accuracies, strict=True)]
        values = {quantity: result.values(runs, quantity) for quantity in QUANTITIES}
        for k, member in enumerate(members):
            curves = (runs.train_loss, runs.validation_loss, runs.validation_accuracy, runs.seconds)
            for epoch in range(result.config.training.epochs):
                shares = runs.phases[k, epoch].tolist()
                numbers = [float(each[k, epoch]) for each in curves]
                epochs.append((name, member, epoch + 1, *map(_cell, numbers + shares)))
            seeds.append(
                (
                    name,
                    member,
                    runs.rate,
                    bool(passages.observed[k]),
                    *(_cell(float(values[quantity][k])) for quantity in QUANTITIES),
                    float(seconds[k]),
                    int(runs.best_epoch[k]),
                    bool(runs.diverged[k]),
                    *(
                        _cell(float(each[k]))
                        for each in (runs.changes, runs.mean_square, runs.noise_ratio, runs.overhead)
                    ),
                )
            )
    differences = [_difference_json(each) for each in result.differences]
    for record in differences:
        record["low"], record["high"] = record.pop("interval95")
    curve_columns = ("train_loss", "validation_loss", "validation_accuracy", "seconds", *PHASES)
    noise_columns = ("changes", "mean_square_epsilon", "noise_ratio", "overhead")
    seed_columns = ("reached", *QUANTITIES, "seconds_to_target", "best_epoch", "diverged", *noise_columns)
    return {
        "epochs": Table(("method", "seed", "epoch", *curve_columns), tuple(epochs)),
        "seeds": Table(("method", "seed", "learning_rate", *seed_columns), tuple(seeds)),
        "rates": Table(("method", "learning_rate", "seed", "validation_accuracy"), tuple(rates)),
        "differences": Table(
            tuple(differences[0]) if differences else ("quantity",),
            tuple(tuple(record.values()) for record in differences),
        ),
        "claims": claims_table(result),
    }


def _cell(value: float) -> float | None:
    return value if math.isfinite(value) else None
