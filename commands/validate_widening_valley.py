"""``jostle validate widening-valley``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import ExperimentRun, experiment_options
from commands.experiment_report import Shown, finish, print_findings, report_figures, report_table, write_run
from commands.options import output_options
from commands.shared import estimate_json, progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nnval.widening_valley_study import WideningValley

EXPERIMENT = "widening-valley"
LAWS = ("gaussian", "rademacher")
METHODS = ("with_replacement", "reshuffled", "pgd", "anti_pgd")


@click.command(EXPERIMENT, short_help="Trace of the Hessian and test accuracy under four noises.")
@experiment_options(EXPERIMENT, preset="digits", example="runs/valley")
@click.option("--seeds", type=int, help="Networks of each method, >= 2; more can be added later.")
@click.option(
    "--noise-scale", "--sigma", "noise_scale", type=float, help="Standard deviation of each weight's injected noise."
)
@click.option("--law", "--distribution", "distribution", type=click.Choice(LAWS), help="Of the injected noise.")
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), help="Repeatable. Default: all four.")
@click.option("--measure-every", type=int, help="Epochs between measurements.")
@click.option("--probes", type=int, help="Random vectors for each trace.")
@output_options
def validate_widening_valley(
    run: ExperimentRun,
    seeds: int | None,
    **options: Any,
) -> None:
    """Trace of the Hessian and test accuracy under four noises: does anti-correlated noise lead to flatter networks?

    SGD with batches drawn with replacement or reshuffled, and full-batch descent with white (PGD) or anti-correlated
    (Anti-PGD) noise on the weights, from the same initial weights and on the same data; differences are those of pairs.
    There is no closed form for the trace of a network, so nothing can disagree with theory: the exit code is 0.

    \b
    jostle validate widening-valley --out runs/valley
    jostle validate widening-valley --sigma 0.02 --seeds 16 --method pgd --method anti_pgd --out runs/sigma002
    jostle validate widening-valley --show-preset > my.toml
    """
    fields = run.fields(options, members=seeds)
    from nnval.widening_valley import run_widening_valley
    from nnval.widening_valley_study import WideningValleyConfig

    config = WideningValleyConfig.from_dict(fields)
    with progress_bar(run.quiet) as progress:
        result = run_widening_valley(config, run.directory, progress=progress, threads=run.threads)
    config = result.config
    finish(run, result, _record(result), config, config.training.seed, write=_write, show=_show)


def _show(result: WideningValley) -> None:
    """Tables and conclusions of a finished experiment."""
    from nnval.widening_valley_tables import conclusions, differences_table, facts, methods_table

    together = "Seed by seed (verdicts hold at 1 % for all rows together):"
    tables = (
        Shown(f"After {result.epochs[-1]} epochs, means over seeds:", methods_table(result)),
        Shown(together, differences_table(result), (0, 1, 5)),
    )
    print_findings(facts(result), tables, conclusions(result), result.config.training.seed)


def _record(result: WideningValley) -> dict[str, Any]:
    """The result as plain JSON."""
    from nnval.widening_valley_tables import QUANTITY_NAMES, comparisons_json

    return {
        "weights": result.weights,
        "seeds": list(result.config.members),
        "epochs": list(result.epochs),
        "methods": [
            {"method": each.method}
            | {name: [estimate_json(estimate) for estimate in each.estimates(name)] for name in QUANTITY_NAMES}
            for each in result.curves
        ],
        "differences": comparisons_json(result),
    }


def _write(result: WideningValley, record: dict[str, Any]) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportSection
    from nnval.widening_valley_tables import arrays, conclusions, differences_table, facts, methods_table

    figures = report_figures(_figures(result))
    methods, differences = report_table(methods_table(result)), report_table(differences_table(result))
    sections = [ReportSection(f"After {result.epochs[-1]} epochs", [_MEANS], table=methods)]
    if result.differences:
        sections.append(ReportSection("Seed by seed", [_DIFFERENCES], figure=figures["differences"], table=differences))
    write_run(
        result.directory,
        record,
        arrays=arrays(result),
        title="Noise and the flatness of a network",
        conclusions=conclusions(result),
        sections=[*sections, ReportSection("Over training", figure=figures["training"])],
        facts=facts(result),
        figures=figures,
        seed=result.config.training.seed,
    )


def _figures(result: WideningValley) -> dict[str, tuple[Figure, str, str]]:
    """Name -> figure, caption, and what it shows in words."""
    import numpy as np

    from figures.measured_widening_valley import NoiseCurves, figure_noise_curves
    from figures.paired_differences import PairedDifferences, figure_paired_differences
    from nnval.experiment_words import data_name
    from nnval.widening_valley_tables import METHOD_NAMES, QUANTITY_NAMES

    training = result.config.training
    noises = [
        NoiseCurves(METHOD_NAMES[each.method], np.array(result.epochs), *map(each.estimates, QUANTITY_NAMES))
        for each in result.curves
    ]
    title = f"{training.model}, {result.weights} weights, on {data_name(training)}; {training.members} seeds"
    drawn = {"training": (figure_noise_curves(title, noises), _CURVES, "trace, loss and accuracy against the epoch")}
    pairs = {
        name: [
            PairedDifferences(
                f"{METHOD_NAMES[each.method]} - {METHOD_NAMES[each.reference]}",
                getattr(result.of(each.method), each.quantity)[:, -1]
                - getattr(result.of(each.reference), each.quantity)[:, -1],
                each.difference,
                each.shown,
            )
            for each in result.differences
            if each.quantity == quantity
        ]
        for quantity, name in QUANTITY_NAMES.items()
    }
    if any(pairs.values()):
        figure = figure_paired_differences(f"after {result.epochs[-1]} epochs", pairs)
        drawn["differences"] = (figure, _PAIRS, "differences of methods with their intervals")
    return drawn


_MEANS = (
    "Means over networks. The trace is that of the mean training loss, without weight decay, and for Anti-PGD at the "
    "weights without the noise. It is a minimum's only where the training loss is low."
)
_DIFFERENCES = (
    "Networks of a pair share initial weights and data. Intervals are Student's, of single differences; verdicts hold "
    "at 1 % for all differences together."
)
_CURVES = (
    "Trace of the Hessian, training loss and test accuracy. Methods differ in nothing but their noise; an epoch is "
    "equally many updates for all."
)
_PAIRS = "Each dot is one seed; diamonds are means with 95 % intervals, grey where no difference is shown."
