"""Every number of the finished experiment of nnval.activation_temperature: as plain JSON, and as files."""

import math
from typing import Any

import numpy as np

from nnval.activation_temperature_study import CoolingStudy, ScheduleRuns
from nnval.activation_temperature_tables import fitted, layers_of
from nnval.tables import Table
from theory.absorbing import Floats


def results_json(result: CoolingStudy) -> dict[str, Any]:
    """The result as plain JSON.

    Args:
        result: finished.

    Returns:
        A record; what is not defined is None.
    """
    return {
        "parameters": result.parameters,
        "layers": result.layers,
        "seeds": list(result.config.members),
        "schedules": [_runs_json(result, runs) for runs in result.runs],
        "differences": [
            {
                "budget": each.budget,
                "schedule": each.method,
                "reference": each.reference,
                **each.numbers(),
            }
            for each in result.differences
        ],
    }


def _runs_json(result: CoolingStudy, runs: ScheduleRuns) -> dict[str, Any]:
    def numbers(values: Floats) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values.tolist()]

    return {
        "schedule": runs.schedule.label,
        "budget": runs.budget,
        "error": runs.error.value,
        "standard_error": runs.error.standard_error,
        "interval95": list(runs.error.interval()),
        "errors": runs.errors.tolist(),
        "trained": result.trained(runs).tolist(),
        "diverged": runs.diverged.tolist(),
        "start": numbers(runs.starts),
        "tracking_error": numbers(runs.tracking_errors),
        "share_at_cap": numbers(runs.share_at_cap),
        "sigma": numbers(runs.sigma),
        "overhead": numbers(runs.overhead),
    }


def arrays(result: CoolingStudy) -> dict[str, Table]:
    """Every number of the experiment: file name -> table.

    Args:
        result: finished.

    Returns:
        ``results``, a row for each training; ``epochs``; ``steps``, every measurement; ``sweeps`` with T of network,
        first and last ReLU; ``links``, fitted to them.
    """
    members = result.config.members
    results, epochs, steps, sweeps, links = [], [], [], [], []
    for runs in result.runs:
        head = (runs.schedule.label, runs.budget)
        trained, tracking = result.trained(runs), runs.tracking_errors
        for k, member in enumerate(members):
            own = (runs.starts, tracking, runs.share_at_cap, runs.sigma, runs.overhead)
            highest = np.nanmax(runs.rate[k]) if np.isfinite(runs.rate[k]).any() else math.nan
            columns = (_cell(highest), *(_cell(each[k]) for each in own))
            results.append((*head, member, float(runs.errors[k]), bool(trained[k]), bool(runs.diverged[k]), *columns))
            for epoch, (loss, accuracy) in enumerate(zip(runs.train_loss[k], runs.test_accuracy[k], strict=True), 1):
                epochs.append((*head, member, epoch, _cell(loss), float(accuracy)))
            names = (runs.rate, runs.temperature, runs.target, runs.first, runs.last, runs.gradient, runs.weights)
            for place, step in enumerate(runs.steps.tolist()):
                if math.isfinite(runs.rate[k, place]):
                    steps.append((*head, member, step, *(_cell(each[k, place]) for each in names)))
        for member, stages in zip(members, runs.sweeps, strict=False):
            for step, used, sweep in zip(stages.steps.tolist(), stages.used.tolist(), stages.sweeps, strict=True):
                columns = (sweep.rates, sweep.temperature, sweep.layers[:, 0], sweep.layers[:, -1], sweep.finite)
                for rate, *found, finite in zip(*columns, strict=True):
                    cells = (float(each) if finite else None for each in found)
                    sweeps.append((*head, member, step, used, float(rate), *cells))
        for name, layer in layers_of(result).items() if runs.sweeps else ():
            fit = fitted(runs.sweeps, layer)
            quantities = (fit.location, fit.sigma, fit.error, fit.exponent, fit.cloglog_error)
            for k, member in enumerate(members):
                for stage, step in enumerate(runs.sweeps[k].steps.tolist()):
                    links.append((*head, member, name, step, *(_cell(each[k, stage]) for each in quantities)))
    head = ("schedule", "budget", "seed")
    of_steps = ("learning_rate", "temperature", "target", "first_relu", "last_relu", "gradient_norm", "weight_norm")
    of_runs = ("highest_learning_rate", "start", "tracking_error", "share_at_cap", "sigma", "overhead")
    of_links = ("mu", "sigma", "error", "exponent", "error_cloglog")
    swept = ("used_learning_rate", "learning_rate", "temperature", "first_relu", "last_relu")
    return {
        "results": Table((*head, "test_error", "trained", "diverged", *of_runs), tuple(results)),
        "epochs": Table((*head, "epoch", "train_loss", "test_accuracy"), tuple(epochs)),
        "steps": Table((*head, "step", *of_steps), tuple(steps)),
        "sweeps": Table((*head, "step", *swept), tuple(sweeps)),
        "links": Table((*head, "layer", "step", *of_links), tuple(links)),
    }


def _cell(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
