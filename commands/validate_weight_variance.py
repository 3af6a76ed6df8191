"""``jostle validate weight-variance``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import (
    TRAINING_FIELDS,
    echo_facts,
    experiment_fields,
    experiment_options,
    is_written,
    prepared,
)
from commands.shared import DISAGREES, emit_json, estimate_json, hint, output_options, print_table, progress_bar

if TYPE_CHECKING:
    from nnval.weight_variance_config import VarianceConfig
    from nnval.weight_variance_study import VarianceStudy

EXPERIMENT = "weight-variance"

SCANNED = {"learning_rate": "learning_rates", "momentum": "momenta", "batch_size": "batch_sizes"}
"""Hyper-parameters of a scan, and what nnval.weight_variance_scan calls several of them."""


@click.command(EXPERIMENT)
@experiment_options(EXPERIMENT, preset="digits")
@click.option("--order", "orders", multiple=True, help="Of batches, such as shuffled_once; repeatable.")
@click.option("--runs", type=int, help="Recorded runs of each order, >= 4; from 16 on errors are those of runs.")
@click.option("--recorded", type=int, help="Epochs of each run that are recorded, >= 20.")
@click.option("--burn-in", type=int, help="Epochs of each run before that.")
@click.option("--directions", type=int, help="Eigenvectors of the largest curvatures.")
@click.option("--full-gradients", type=int, help="Of each run per epoch, for the curvature in motion; 0: none.")
@click.option("--drift", type=click.Choice(("mean", "line")), help="What is subtracted from the weights of a run.")
@click.option(
    "--tolerance",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Model error that theory is granted along each direction: no network is quadratic.",
)
@click.option("--pairs", type=click.IntRange(min=0), help="Networks trained with each of two orders; 0: none.")
@click.option("--scan", "scans", multiple=True, help="Such as momentum=0,0.5, learning-rate=..., batch-size=...")
@output_options
def validate_weight_variance(
    out: Path | None,
    preset: str,
    data: str | None,
    threads: int,
    recorded: int | None,
    tolerance: float,
    pairs: int | None,
    scans: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Fluctuations of a network's weights along the eigenvectors of its Hessian, beside theory. Exit code 3 if they
    disagree by more than the tolerance.

    A network is trained, its learning rate frozen, and its weights recorded after every update, for several orders of
    batches: variances of weights and velocities, correlation times, loss fluctuations; the noise of batches at fixed
    weights; and test accuracies with and without replacement, in pairs of networks that begin alike.

    \b
    jostle validate weight-variance --out runs/fluctuations
    jostle validate weight-variance --scan momentum=0,0.5 --scan batch-size=10,40 --pairs 0 --out runs/scan
    jostle validate weight-variance --preset lenet-cifar10 --data cifar10-jpeg.tar.xz --out runs/lenet
    jostle validate weight-variance --show-preset > my.toml
    """
    directory = prepared(out, "runs/fluctuations")
    training = {name: options.pop(name) for name in TRAINING_FIELDS}
    options |= {"epochs": recorded, "seed": training["seed"], "pairs": pairs}
    fields = experiment_fields(EXPERIMENT, preset, data, training, options)
    number, scanned = fields.pop("pairs", 0), _scans(scans, fields.pop("scan", {}))
    if isinstance(number, bool) or not isinstance(number, int) or number < 0 or number == 1:
        raise ValueError(f"pairs={number!r} must be 0, or a whole number >= 2: an interval needs pairs")
    from nnval.weight_variance_config import VarianceConfig

    config = VarianceConfig.from_dict(fields)
    begin = time.monotonic()
    execution = fields["training"].get("execution", "auto")  # the config settles it for one network alone
    study = _run(config, directory, execution, number, scanned, tolerance=tolerance, threads=threads, quiet=quiet)
    if is_written(directory, _record(study)):
        hint(f"{directory} was finished already; nothing was trained", quiet)
    else:
        from commands.validate_weight_variance_report import write_report

        write_report(study, _record(study))
    print_variance(study, as_json)
    hint(f"report: {directory / 'report.html'} ({time.monotonic() - begin:.0f} s)", quiet)
    if not study.agrees:
        sys.exit(DISAGREES)


def _scans(given: Sequence[str], of_preset: Any) -> dict[str, list[float]]:
    """Hyper-parameter -> values; those of the command line, or else those of the preset.

    Raises:
        ValueError: if a text has another form, or a name is none of ``SCANNED``.
    """
    if not isinstance(of_preset, dict):
        raise ValueError("the preset's [scan] must be a table, such as momentum = [0.0, 0.5]")
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            raise ValueError(f"--scan {text!r} must have the form momentum=0,0.5") from None
        found.setdefault(name.strip().replace("-", "_"), []).extend(numbers)
    scanned = found or of_preset
    if unknown := [name for name in scanned if name not in SCANNED]:
        raise ValueError(f"scan over {unknown[0]!r} is none of {', '.join(SCANNED)}")
    for name, values in scanned.items():
        if not isinstance(values, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
            raise ValueError(f"scan over {name}={values!r}: values must be a list of finite numbers")
        if len({f"{value:g}" for value in values}) < len(values):
            raise ValueError(f"scan over {name}={values}: values must be different ones, in six digits")
        if name == "batch_size" and any(value != int(value) for value in values):
            raise ValueError(f"scan over batch_size={values}: values must be whole numbers")
    return {name: sorted(map(int if name == "batch_size" else float, v)) for name, v in scanned.items()}


def _run(
    config: VarianceConfig,
    directory: Path,
    execution: str,
    pairs: int,
    scanned: dict[str, list[float]],
    *,
    tolerance: float,
    threads: int,
    quiet: bool,
) -> VarianceStudy:
    """All that is asked for; what is there is only read."""
    import dataclasses

    from nnval.engine.datasets import load_data
    from nnval.replacement_accuracy import compare_orders
    from nnval.weight_variance import measure_weight_variance
    from nnval.weight_variance_scan import scan
    from nnval.weight_variance_study import VarianceStudy, frozen_noise

    first = dataclasses.replace(config, orders=config.orders[:1])
    points_asked = [dataclasses.replace(first, **{n: value}) for n, values in scanned.items() for value in values]
    with progress_bar(quiet) as progress:
        data = load_data(config.training, progress=progress)
    for each in points_asked:  # a batch size that does not fit is refused before anything is trained
        recording = each.recording(each.orders[0])
        recording.order.noise(len(data.train), recording.batch_size)
    for notice in data.notices:
        hint(notice, quiet)
    with progress_bar(quiet) as progress:
        result = measure_weight_variance(
            config, directory, progress=progress, threads=threads, data=data, tolerance=tolerance
        )
    # All of one run is done on one device.
    first = dataclasses.replace(first, training=result.config.training)
    paired = dataclasses.replace(first.training, members=max(pairs, 1), snapshots=(), execution=execution)
    with progress_bar(quiet) as progress:
        noise = frozen_noise(result, data, progress=progress, threads=threads)
    accuracy = None
    if pairs:
        with progress_bar(quiet) as progress:
            accuracy = compare_orders(paired, directory / "accuracy", progress=progress, threads=threads, data=data)
    points = ()
    if scanned:
        values = {SCANNED[name]: found for name, found in scanned.items()}
        with progress_bar(quiet) as progress:
            points = scan(first, directory, progress=progress, threads=threads, tolerance=tolerance, **values)  # pyright: ignore[reportArgumentType]
    return VarianceStudy(result, noise, accuracy, points)


def print_variance(study: VarianceStudy, as_json: bool) -> None:
    """Print the tables and conclusions of a finished study.

    Args:
        study: finished.
        as_json: as one JSON object instead.
    """
    from nnval import weight_variance_tables as tables

    config = study.result.config
    if as_json:
        found = {"directory": str(study.result.directory), **_record(study)}
        emit_json("validate weight-variance", config.to_dict(), config.seed, found)
        return
    echo_facts(tables.facts(study))
    granted = f", beyond {100 * study.result.tolerance:g} %" if study.result.tolerance else ""
    for title, found, left in (
        ("Weight variances beside theory (measured / theory - 1):", tables.deviation_table(study), (0, 1)),
        ("Stiffness where the weights move, beside the Hessian:", tables.force_table(study), (0, 1)),
        (f"Directions (verdicts hold at 1 % for a row together{granted}):", tables.verdict_table(study), (0, 1)),
        ("Loss fluctuations, (1/2) sum of lambda Var(theta):", tables.loss_table(study), (0,)),
        ("Noise that comes with the weights:", tables.second_crossover_table(study), (0, 6)),
        ("Noise of batches at fixed weights, c_h / c_0:", tables.noise_table(study), (0, 5)),
        ("Test accuracy:", tables.accuracy_table(study), (0,)),
        ("Scan (deviations as above):", tables.scan_table(study), (0, 1)),
    ):
        if found.rows:
            click.echo(f"\n{title}")
            print_table(found.header, found.rows, left=left)
    click.echo()
    for line in tables.conclusions(study):
        click.echo(line)
    click.echo(f"seed {config.seed}")


def _record(study: VarianceStudy) -> dict[str, Any]:
    """The study as plain JSON."""
    from nnval.weight_variance_arrays import comparisons_json
    from nnval.weight_variance_tables import QUANTITIES, verdicts

    result = study.result
    orders = []
    for changed, of in ({}, result), *(({point.name: point.value}, point.result) for point in study.scan):
        for order in of.orders:
            moving = order.in_motion
            deviations = {
                "above": order.above,
                "below": order.below,
                "driven_above": order.driven_above,
                "driven_below": order.driven_below,
                "stiffer_above": moving and moving.stiffer_above,
                "stiffer_below": moving and moving.stiffer_below,
                "moving_above": moving and moving.above,
                "moving_below": moving and moving.below,
            }
            sides = {
                name: None
                if side is None
                else {
                    "directions": side.directions,
                    "median": estimate_json(side.median),
                    "median_absolute": estimate_json(side.median_absolute),
                }
                for name, side in deviations.items()
            }
            loss, second = order.loss, order.second_crossover
            orders.append(
                {
                    "order": order.order.label,
                    **changed,
                    "batches_per_epoch": order.batches_per_epoch,
                    "crossover_curvature": order.crossover,
                    "not_compared": int((~order.stationary).sum()),
                    "verdicts": {
                        name: dict(
                            zip(("agree", "disagree", "outside_regime"), verdicts(getattr(order, name)), strict=True)
                        )
                        for name in QUANTITIES
                    },
                    "deviation": sides,
                    "loss_fluctuation": None
                    if loss is None
                    else {
                        "measured": estimate_json(loss.measured),
                        "isotropic": estimate_json(loss.isotropic),
                        "reduction": estimate_json(loss.reduction),
                        "predicted_reduction": loss.predicted.reduction_to_constant,
                        "predicted_reduction_to_replacement": loss.predicted.reduction,
                    },
                    "second_crossover": None
                    if second is None
                    else {
                        "share": estimate_json(second.share),
                        "curvature": second.curvature,
                        "directions_below": second.below,
                        "directions_between": second.plateau,
                        "amplitude": estimate_json(second.amplitude),
                        "step": second.step and estimate_json(second.step),
                        "verdict": second.verdict,
                    },
                }
            )
    accuracy = study.accuracy
    return {
        "weights": result.weights,
        "samples": result.samples,
        "training_loss": result.training_loss,
        "test_accuracy": result.test_accuracy,
        "orders": orders,
        "accuracy": None
        if accuracy is None
        else {
            accuracy.orders[0]: estimate_json(accuracy.first),
            accuracy.orders[1]: estimate_json(accuracy.second),
            "difference": estimate_json(accuracy.difference),
            "diverged_pairs": accuracy.diverged,
        },
        "tolerance": result.tolerance,
        "comparisons": comparisons_json(study),
        "agrees": study.agrees,
    }
