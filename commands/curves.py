"""Predictions from training curves, for ``predict resetting`` and ``predict perturbation``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.shared import emit_json, estimate_json, hint, print_table

if TYPE_CHECKING:
    from theory.estimate import Estimate
    from theory.prediction import Prediction


def curve_options(*, interval_type: click.ParamType | type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options of predictions from curves; the command says what happens without ``--curves``.

    Args:
        interval_type: of ``--interval``: other predictions of the same command may count time, not epochs.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--out", type=click.Path(path_type=Path), help="Directory for a CSV file and a figure."),
            click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the bootstrap."),
            click.option(
                "--replicates", default=2000, show_default=True, type=click.IntRange(min=100), help="Bootstrap."
            ),
            click.option("--interval", "-P", "intervals", multiple=True, type=interval_type, help="P, repeatable."),
            click.option("--horizon", type=click.IntRange(min=1), help="Of the restricted means; default: the data's."),
            click.option("--direction", type=click.Choice(["up", "down"]), default="up", show_default=True),
            click.option("--zero-based", is_flag=True, help="The file counts its epochs from 0."),
            click.option("--metric", help="Column to read, if the file has several."),
            click.option("--target", type=float, help="Value of the metric at which training is over."),
            click.option("--curves", type=click.Path(), help="CSV (run,epoch,metric) or a run directory."),
        ):
            command = option(command)
        return command

    return decorate


def _target(target: float | None) -> float:
    if target is None:
        raise ValueError("--target is missing: give the value of the metric at which training is over")
    return target


def _epochs(intervals: Sequence[float]) -> list[int]:
    for interval in intervals:
        if interval < 1 or interval != int(interval):
            raise ValueError(f"--interval {interval:g} must be a whole number of epochs, at least 1")
    return [int(interval) for interval in intervals]


def _prediction_json(prediction: Prediction) -> dict[str, Any]:
    return {
        "predictor": prediction.predictor,
        "interval": prediction.interval,
        "horizon": prediction.horizon,
        "restricted_mean": estimate_json(prediction.restricted_mean),
        "mean": estimate_json(prediction.mean),
        "speed_up": estimate_json(prediction.speed_up),
        "valid": prediction.valid,
        "reasons": list(prediction.reasons),
    }


def _print_predictions(predictions: Sequence[Prediction], horizon: int) -> None:
    def mean(p: Prediction) -> str:
        return "-" if p.mean is None else f"{p.mean.value:.2f}"

    rows = []
    for p in predictions:
        low, high = p.restricted_mean.interval()
        restricted = f"{p.restricted_mean.value:.2f} ({low:.2f} to {high:.2f})"
        note = "" if p.horizon == horizon else f"horizon {p.horizon}; "
        verdict = note + ("; ".join(p.reasons) or "valid")
        rows.append((p.interval, p.predictor, mean(p), restricted, f"{p.speed_up.value:.2f}", verdict))
    header = ("P", "predictor", "E[T_P]", f"E[min(T_P,{horizon})], 95 %", "speed-up", "validity")
    print_table(header, rows, left=(1, 5))


def _horizon(asked: int | None, known: int) -> int:
    """The horizon asked for, which may exceed that of runs that all finished, but not absurdly."""
    if asked is not None and asked > max(10 * known, 1000):
        raise ValueError(f"horizon={asked} is more than ten times the {known} epochs of the data")
    return asked or known


def _intervals(asked: Sequence[int], special: int, longest: int) -> list[int]:
    """Those asked for, or a few round ones and a special one for a table."""
    steps = [p * 10**k for k in range(7) for p in (1, 2, 3, 5, 7)]
    return sorted(set(asked) or {*(p for p in steps if p <= longest), special})


def _with_curve(intervals: Sequence[int], longest: int, out: Path | None) -> list[int]:
    """The intervals of a table and, if a figure is wanted, enough between them for a smooth curve."""
    curve = {round(longest ** (k / 200)) for k in range(201)} if out is not None else set()
    return sorted({*intervals, *curve})


def _write_predictions(
    out: Path, label: str, predictions: Sequence[Prediction], unperturbed: Estimate, horizon: int
) -> None:
    """``predictions.csv`` and ``training_time.png``, into a directory that is made if it isn't there."""
    from figures.perturbation import figure_training_time
    from figures.style import png_bytes
    from nnval.engine.run_directory import make_directory, write_whole
    from nnval.tables import PREDICTION_COLUMNS, Table, prediction_rows

    by_predictor = {p.predictor: [q for q in predictions if q.predictor == p.predictor] for p in predictions}
    figure = figure_training_time(unperturbed, {label: by_predictor}, {}, horizon=horizon)
    make_directory(out)
    table = Table(PREDICTION_COLUMNS, tuple(prediction_rows(label, predictions)))
    write_whole(out / "predictions.csv", table.to_csv().encode())
    write_whole(out / "training_time.png", png_bytes(figure))


def resetting_from_curves(
    curves: str,
    *,
    target: float | None,
    metric: str | None,
    zero_based: bool,
    direction: str,
    horizon: int | None,
    intervals: Sequence[float],
    replicates: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Training time if every run began anew every P epochs (Eq. 5, exact): compute, print and write it.

    Args:
        curves: file or directory of unperturbed runs.
        target, metric, zero_based, direction, horizon, intervals, replicates, seed, out, as_json, quiet: the options.
    """
    from nnval.measure.curves import read_curves
    from sim.random_streams import stream
    from theory.discrete_resetting import optimal_restart_interval
    from theory.prediction import PerturbationData, speed_up_lower_bound
    from theory.survival import Survival

    target, asked = _target(target), _epochs(intervals)
    data = read_curves(curves, metric=metric, zero_based=zero_based)
    first_passages = data.first_passages(target, direction=direction)
    survival = Survival.of(first_passages)
    last = _horizon(horizon, first_passages.horizon)
    study = PerturbationData(first_passages, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    best = optimal_restart_interval(study.psi)
    shown = _intervals(asked, best.interval, last)
    predictions = [study.predict("restart", interval) for interval in _with_curve(shown, last, out)]
    unperturbed = survival.restricted_mean(last)
    unfinished = survival.at(last)
    bound = speed_up_lower_bound(survival, study.predict("restart", best.interval))
    if out is not None:
        _write_predictions(out, "full_reset", predictions, unperturbed, last)
        predictions = [p for p in predictions if p.interval in shown]
    if as_json:
        result = {
            "metric": data.metric,
            "runs": survival.n,
            "unfinished": unfinished,
            "unperturbed_restricted_mean": estimate_json(unperturbed),
            "best": dataclasses.asdict(best) | {"speed_up_lower_bound": bound},
            "predictions": [_prediction_json(p) for p in predictions],
        }
        parameters = {"curves": curves, "metric": metric, "zero_based": zero_based, "target": target}
        parameters |= {"direction": direction, "horizon": last, "intervals": shown, "replicates": replicates}
        emit_json("predict resetting", parameters, seed, result)
        return
    click.echo(f"{survival.n} runs, {data.metric}, target {target:g}: {unfinished:.1%} unfinished at epoch {last}")
    click.echo(f"unperturbed: E[min(T,{last})] = {unperturbed.value:.2f} +- {unperturbed.standard_error:.2f} epochs")
    _print_predictions(predictions, last)
    where = " (the last known interval: the optimum may lie beyond)" if best.is_boundary else ""
    click.echo(f"best: restart every {best.interval} epochs{where}, E[T_P] = {best.mean:.2f}; seed {seed}")
    if bound is not None and bound > 1:
        click.echo(f"speed-up of the unrestricted means: E[T] / E[T_P] >= {bound:.2f}")
    if study.predict("restart", best.interval).restricted_mean.value >= unperturbed.value:
        hint("restarting does not help within this horizon", quiet)


def perturbation_from_curves(
    curves: str,
    *,
    target: float | None,
    metric: str | None,
    zero_based: bool,
    direction: str,
    horizon: int | None,
    intervals: Sequence[int],
    replicates: int,
    seed: int,
    out: Path | None,
    perturbed_once: str | None,
    branch_epoch: int | None,
    tolerance: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Training time under a perturbation every P epochs, from runs perturbed once: compute, print and write it.

    Args:
        curves: file or directory of unperturbed runs.
        target, metric, zero_based, direction, horizon, intervals, replicates, seed, out, as_json, quiet: the options.
        perturbed_once: file or directory of runs from their perturbation on.
        branch_epoch: P*, where they were perturbed.
        tolerance: of the quasi-steady state.
    """
    if perturbed_once is None or branch_epoch is None:
        raise ValueError(
            "--curves needs --perturbed-once, runs from their perturbation on, and its epoch --branch-epoch"
        )
    from nnval.measure.curves import read_curves
    from sim.random_streams import stream
    from theory.hazard import constant_hazard_test
    from theory.prediction import PerturbationData, PerturbedOnce
    from theory.quasi_steady_state import stationarity
    from theory.survival import Survival

    target = _target(target)
    data = read_curves(curves, metric=metric, zero_based=zero_based)
    children = read_curves(perturbed_once, metric=metric, zero_based=zero_based)
    first_passages = data.first_passages(target, direction=direction)
    survival = Survival.of(first_passages)
    last = _horizon(horizon, first_passages.horizon)
    if not branch_epoch < data.horizon:
        raise ValueError(f"branch-epoch={branch_epoch} must be < {data.horizon}, the last epoch of {curves}")
    steady = stationarity(
        data.values,
        first_passages,
        reference=((branch_epoch + 1) // 2, branch_epoch),
        tolerance=tolerance,
        rng=stream(seed, "stationarity"),
    )
    relaxed = steady.relaxation_epoch
    hazard = constant_hazard_test(survival, relaxed) if relaxed and relaxed < survival.horizon else None
    once = PerturbedOnce(children.first_passages(target, direction=direction), branch_epoch, children.horizon)
    study = PerturbationData(first_passages, once, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    longest = min(branch_epoch, children.horizon, last)
    shown = _intervals(intervals, longest, longest)
    predictions = [
        study.predict(predictor, interval, relaxation_epoch=relaxed, hazard_test=hazard)
        for interval in _with_curve(shown, longest, out)
        for predictor in ("rare", "renewal")
    ]
    if out is not None:
        _write_predictions(out, "perturbation", predictions, survival.restricted_mean(last), last)
        predictions = [p for p in predictions if p.interval in shown]
    if as_json:
        result = {
            "runs": survival.n,
            "perturbed_runs": once.residuals.n,
            "relaxation_epoch": relaxed,
            "hazard": None if hazard is None else hazard.describe(),
            "predictions": [_prediction_json(p) for p in predictions],
        }
        parameters = {"curves": curves, "perturbed_once": perturbed_once, "branch_epoch": branch_epoch}
        parameters |= {"metric": metric, "zero_based": zero_based, "target": target, "direction": direction}
        parameters |= {"horizon": last, "intervals": shown, "replicates": replicates, "tolerance": tolerance}
        emit_json("predict perturbation", parameters, seed, result)
        return
    click.echo(f"{survival.n} runs and {once.residuals.n} perturbed once at epoch {branch_epoch}; target {target:g}")
    click.echo(f"quasi-steady state: {'none found' if relaxed is None else f'from epoch {relaxed}'}")
    if hazard is not None:
        click.echo(f"hazard: {hazard.describe()}")
    _print_predictions(predictions, last)
    click.echo(f"seed {seed}")
