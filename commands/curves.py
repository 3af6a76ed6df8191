"""Options of predictions from training curves, and ``predict resetting --curves``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import prepared_directory, write_figure, write_file
from commands.options import Decorator, out_option, seed_option, with_options
from commands.shared import emit_json, estimate_json, hint, print_table

if TYPE_CHECKING:
    from theory.estimate import Estimate
    from theory.predicted_time import Prediction

READING = ("metric", "count", "direction")
"""Options that say how to read a log."""

CURVE_ONLY = (*READING, "horizon", "replicates", "seed")
"""Options that mean nothing without ``--curves``, beside ``--target`` and ``--interval``."""

COUNTS = {"auto": "auto", "from-zero": "from_zero", "from-one": "from_one", "untrained-first": "untrained_first"}

MOST_NOTES = 12
"""Guesses made in reading that are shown on stderr; --json has all."""


def curve_options(
    *,
    interval_type: click.ParamType | type,
    interval: str = "The perturbation acts every P epochs, repeatable.",
    target: str = "Value of the metric, or of x with --potential, at which training is over.",
) -> Decorator:
    """Options of predictions from curves; the command says what happens without ``--curves``.

    Args:
        interval_type: of ``--interval``: other predictions of the same command may count time, not epochs.
        interval, target: what ``--interval`` and ``--target`` are.

    Returns:
        A decorator.
    """
    return with_options(
        click.option(
            "--curves",
            type=click.Path(),
            help="Unperturbed runs: CSV, Parquet or JSON lines (a row per evaluation, or a column per run), a "
            "directory of such files, of TensorBoard events, or of 'jostle train'.",
        ),
        click.option("--target", type=float, help=target),
        click.option("--metric", help="Column or tag to read, if there are several."),
        click.option(
            "--count",
            type=click.Choice(list(COUNTS)),
            default="auto",
            show_default=True,
            help="Number of the evaluation after the first epoch. from-one: 1. from-zero: 0. untrained-first: 1; 0 "
            "is the untrained network, which is left out. auto: 0 if epochs begin there, and a note; else 1.",
        ),
        click.option(
            "--direction",
            type=click.Choice(["up", "down"]),
            help="Which way the metric gets better. Default: what its name says (accuracy: up, loss: down).",
        ),
        click.option("--horizon", type=click.IntRange(min=1), help="Of the restricted means. Default: the data's."),
        click.option("--interval", "-P", "intervals", multiple=True, type=interval_type, help=interval),
        click.option(
            "--replicates", default=2000, show_default=True, type=click.IntRange(100, 10**6), help="Of the bootstrap."
        ),
        seed_option,
        out_option,
    )


def reading_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``read_curves``.

    Args:
        settings: those of the command that are in ``READING``.

    Returns:
        What ``read_curves`` takes.
    """
    return {**settings, "count": COUNTS[settings["count"]]}


def check_target(target: float | None) -> float:
    """The target, which curves need.

    Args:
        target: the option.

    Returns:
        The same.

    Raises:
        ValueError: if it was not given.
    """
    if target is None:
        raise ValueError("--target is missing: give the value of the metric at which training is over")
    return target


def show_assumptions(assumptions: Sequence[str], quiet: bool) -> None:
    """What was guessed in reading, on stderr.

    Args:
        assumptions: sentences.
        quiet: leave them out.
    """
    from nnval.advice_text import wrapped

    if assumptions:
        hint("Read as:", quiet)
    for sentence in assumptions[:MOST_NOTES]:
        hint("\n".join(wrapped(sentence, terminal_width(), "  ")), quiet)
    if len(assumptions) > MOST_NOTES:
        hint(f"  and {len(assumptions) - MOST_NOTES} notes more, in --json", quiet)


def terminal_width() -> int:
    """Columns that text may take: those of the terminal, within reason."""
    import shutil

    return min(max(shutil.get_terminal_size((110, 24)).columns, 60), 120)


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """A prediction for ``--json``.

    Args:
        prediction: with its regime.

    Returns:
        All its numbers.
    """
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


def _epochs(intervals: Sequence[float]) -> list[int]:
    for interval in intervals:
        if interval < 1 or interval != int(interval):
            raise ValueError(f"--interval {interval:g} must be a whole number of epochs, at least 1")
    return [int(interval) for interval in intervals]


def _print_predictions(predictions: Sequence[Prediction], horizon: int) -> None:
    def mean(p: Prediction) -> str:
        return "-" if p.mean is None else f"{p.mean.value:.2f}"

    rows = []
    for p in predictions:
        low, high = p.restricted_mean.interval()
        restricted = f"{p.restricted_mean.value:.2f} ({low:.2f} to {high:.2f})"
        verdict = "; ".join(p.reasons) or "valid"
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


def _write_predictions(out: Path, predictions: Sequence[Prediction], unperturbed: Estimate, horizon: int) -> None:
    """``predictions.csv`` and ``training_time.png``."""
    from figures.perturbation import figure_training_time
    from nnval.tables import PREDICTION_COLUMNS, Table, prediction_rows

    label = "full_reset"
    figure = figure_training_time(unperturbed, {label: {"restart": predictions}}, {}, horizon=horizon)
    table = Table(PREDICTION_COLUMNS, tuple(prediction_rows(label, predictions)))
    write_file(out / "predictions.csv", table.to_csv().encode())
    write_figure(out / "training_time.png", figure)


def resetting_from_curves(
    curves: str,
    *,
    target: float | None,
    horizon: int | None,
    intervals: Sequence[float],
    replicates: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Training time if every run began anew every P epochs (Eq. 5, exact): compute, print and write it.

    Args:
        curves: file or directory of unperturbed runs.
        target, horizon, intervals, replicates, seed, out, as_json, quiet: the options.
        **settings: those of reading.
    """
    from nnval.measure.curves import early_stops, read_curves
    from sim.random_streams import stream
    from theory.discrete_resetting import optimal_restart_interval
    from theory.predicted_time import speed_up_lower_bound
    from theory.prediction import PerturbationData
    from theory.survival import Survival

    target, asked = check_target(target), _epochs(intervals)
    data = read_curves(curves, **reading_options(settings))
    if out is not None:
        prepared_directory(out)
    first_passages = data.first_passages(target)
    assumptions = [*data.assumptions, *early_stops(data, first_passages)]
    survival = Survival.of(first_passages)
    last = _horizon(horizon, first_passages.horizon)
    study = PerturbationData(first_passages, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    best = optimal_restart_interval(study.psi)
    shown = _intervals(asked, best.interval, last)
    predictions = study.predictions("restart", _with_curve(shown, last, out))
    unperturbed = survival.restricted_mean(last)
    unfinished = survival.at(last)
    at_best = study.predict("restart", best.interval)
    bound = speed_up_lower_bound(survival, at_best)
    printed = [p for p in predictions if p.interval in shown]
    if as_json:
        result = {
            "metric": data.metric,
            "unit": data.unit,
            "direction": data.direction,
            "runs": survival.n,
            "unfinished": unfinished,
            "unperturbed_restricted_mean": estimate_json(unperturbed),
            "best": dataclasses.asdict(best) | {"speed_up_lower_bound": bound},
            "predictions": [prediction_json(p) for p in printed],
            "assumptions": assumptions,
        }
        parameters = {"curves": curves, **settings, "target": target, "horizon": last, "intervals": shown}
        emit_json("predict resetting", parameters | {"replicates": replicates}, seed, result)
    else:
        click.echo(f"{survival.n} runs, {data.metric}, target {target:g}: {unfinished:.1%} unfinished at epoch {last}")
        click.echo(
            f"unperturbed: E[min(T,{last})] = {unperturbed.value:.2f} +- {unperturbed.standard_error:.2f} epochs"
        )
        _print_predictions(printed, last)
        where = " (the last known interval: the optimum may lie beyond)" if best.is_boundary else ""
        click.echo(f"best: restart every {best.interval} epochs{where}, E[T_P] = {best.mean:.2f}; seed {seed}")
        if bound is not None and bound > 1:
            click.echo(f"speed-up of the unrestricted means: E[T] / E[T_P] >= {bound:.2f}")
        if at_best.restricted_mean.value >= unperturbed.value:
            hint("restarting does not help within this horizon", quiet)
        show_assumptions(assumptions, quiet)
    if out is not None:
        _write_predictions(out, predictions, unperturbed, last)
