"""``jostle validate weight-variance``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import ExperimentRun, experiment_options
from commands.experiment_report import Shown, finish, print_findings
from commands.options import output_options, tolerance_option
from commands.shared import DISAGREES, estimate_json, hint, progress_bar

if TYPE_CHECKING:
    from nnval.weight_variance_config import VarianceConfig
    from nnval.weight_variance_study import VarianceStudy

EXPERIMENT = "weight-variance"

SCANNED = {"learning_rate": "learning_rates", "momentum": "momenta", "batch_size": "batch_sizes"}
"""Hyper-parameters of a scan, and what nnval.weight_variance_scan calls several of them."""


@click.command(EXPERIMENT, short_help="Fluctuations of a network's weights along its Hessian, beside theory.")
@experiment_options(EXPERIMENT, preset="digits", example="runs/fluctuations")
@click.option(
    "--order", "orders", multiple=True, help="How batches are drawn, repeatable: such as reshuffled or shuffled_once."
)
@click.option("--runs", type=int, help="Recorded runs of each order, >= 4; from 16 on errors are those of runs.")
@click.option("--recorded", type=int, help="Epochs of each run that are recorded, >= 20.")
@click.option("--burn-in", type=int, help="Epochs of each run before that.")
@click.option("--directions", type=int, help="Eigenvectors of the largest curvatures.")
@click.option("--full-gradients", type=int, help="Of each run per epoch, for the curvature in motion; 0: none.")
@click.option("--drift", type=click.Choice(("mean", "line")), help="What is subtracted from the weights of a run.")
@tolerance_option(0.1)
@click.option("--pairs", type=click.IntRange(min=0), help="Networks trained with each of two orders; 0: none.")
@click.option(
    "--scan",
    "scans",
    multiple=True,
    help="Other values of one parameter, repeatable: momentum=0,0.5, learning-rate=... or batch-size=...",
)
@output_options
def validate_weight_variance(
    run: ExperimentRun,
    recorded: int | None,
    tolerance: float,
    pairs: int | None,
    scans: tuple[str, ...],
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
    options |= {"epochs": recorded, "seed": run.training["seed"], "pairs": pairs}
    fields = run.fields(options)
    number, scanned = fields.pop("pairs", 0), _scans(scans, fields.pop("scan", {}))
    if isinstance(number, bool) or not isinstance(number, int) or number < 0 or number == 1:
        raise ValueError(f"pairs={number!r} must be 0, or a whole number >= 2: an interval needs pairs")
    from nnval.weight_variance_config import VarianceConfig

    config = VarianceConfig.from_dict(fields)
    execution = fields["training"].get("execution", "auto")  # the config settles it for one network alone
    study = _run(run, config, execution, number, scanned, tolerance)
    from commands.validate_weight_variance_report import write_report

    config = study.result.config
    finish(run, study, _record(study), config, config.seed, write=write_report, show=_show)
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
    run: ExperimentRun,
    config: VarianceConfig,
    execution: str,
    pairs: int,
    scanned: dict[str, list[float]],
    tolerance: float,
) -> VarianceStudy:
    """All that is asked for; what is there is only read."""
    import dataclasses

    from nnval.engine.datasets import load_data
    from nnval.replacement_accuracy import compare_orders
    from nnval.weight_variance import measure_weight_variance
    from nnval.weight_variance_scan import scan
    from nnval.weight_variance_study import VarianceStudy, frozen_noise

    directory, threads = run.directory, run.threads
    first = dataclasses.replace(config, orders=config.orders[:1])
    points_asked = [dataclasses.replace(first, **{n: value}) for n, values in scanned.items() for value in values]
    with progress_bar(run.quiet) as progress:
        data = load_data(config.training, progress=progress)
    for each in points_asked:  # a batch size that does not fit is refused before anything is trained
        recording = each.recording(each.orders[0])
        recording.order.noise(len(data.train), recording.batch_size)
    for notice in data.notices:
        hint(notice, run.quiet)
    with progress_bar(run.quiet) as progress:
        result = measure_weight_variance(
            config, directory, progress=progress, threads=threads, data=data, tolerance=tolerance
        )
    # All of one run is done on one device.
    first = dataclasses.replace(first, training=result.config.training)
    paired = dataclasses.replace(first.training, members=max(pairs, 1), snapshots=(), execution=execution)
    with progress_bar(run.quiet) as progress:
        noise = frozen_noise(result, data, progress=progress, threads=threads)
    accuracy = None
    if pairs:
        with progress_bar(run.quiet) as progress:
            accuracy = compare_orders(paired, directory / "accuracy", progress=progress, threads=threads, data=data)
    points = ()
    if scanned:
        values = {SCANNED[name]: found for name, found in scanned.items()}
        with progress_bar(run.quiet) as progress:
            points = scan(first, directory, progress=progress, threads=threads, tolerance=tolerance, **values)  # pyright: ignore[reportArgumentType]
    return VarianceStudy(result, noise, accuracy, points)


def _show(study: VarianceStudy) -> None:
    """Tables and conclusions of a finished study."""
    from nnval import weight_variance_tables as tables

    granted = f", beyond {100 * study.result.tolerance:g} %" if study.result.tolerance else ""
    shown = (
        Shown("Weight variances beside theory (measured / theory - 1):", tables.deviation_table(study), (0, 1)),
        Shown("Stiffness where the weights move, beside the Hessian:", tables.force_table(study), (0, 1)),
        Shown(f"Directions (verdicts hold at 1 % for a row together{granted}):", tables.verdict_table(study), (0, 1)),
        Shown(
            "Loss fluctuations, (1/2) sum of lambda Var(theta):",
            tables.loss_table(study),
            note="if isotropic: if all had the variance of the one where theory expects the largest; spared has the "
            "deviation of that one",
        ),
        Shown("Noise that comes with the weights:", tables.second_crossover_table(study), (0, 6)),
        Shown("Noise of batches at fixed weights, c_h / c_0:", tables.noise_table(study), (0, 5)),
        Shown("Test accuracy:", tables.accuracy_table(study)),
        Shown("Scan (deviations as above):", tables.scan_table(study), (0, 1)),
    )
    print_findings(tables.facts(study), shown, tables.conclusions(study), study.result.config.seed)


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
