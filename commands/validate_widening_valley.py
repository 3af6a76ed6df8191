"""``jostle validate widening-valley``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import (
    TRAINING_FIELDS,
    carry_out,
    echo_facts,
    experiment_fields,
    experiment_options,
    prepared,
    typeset,
    write_files,
)
from commands.shared import emit_json, estimate_json, output_options, print_table

if TYPE_CHECKING:
    from nnval.widening_valley_study import WideningValley

EXPERIMENT = "widening-valley"
METHODS = ("with_replacement", "reshuffled", "pgd", "anti_pgd")


@click.command(EXPERIMENT)
@experiment_options(EXPERIMENT, preset="digits")
@click.option("--seeds", type=int, help="Networks of each method, >= 2; more can be added to a finished run.")
@click.option("--sigma", "noise_scale", type=float, help="Standard deviation of each weight's injected noise.")
@click.option("--distribution", type=click.Choice(("gaussian", "rademacher")), help="Of the injected noise.")
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), help="Repeatable; default: all four.")
@click.option("--measure-every", type=int, help="Epochs between measurements.")
@click.option("--probes", type=int, help="Random vectors for each trace.")
@output_options
def validate_widening_valley(
    out: Path | None,
    preset: str,
    data: str | None,
    threads: int,
    seeds: int | None,
    as_json: bool,
    quiet: bool,
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
    directory = prepared(out, "runs/valley")
    training = {name: options.pop(name) for name in TRAINING_FIELDS} | {"members": seeds}
    fields = experiment_fields(EXPERIMENT, preset, data, training, options)
    from nnval.widening_valley import run_widening_valley
    from nnval.widening_valley_study import WideningValleyConfig

    config = WideningValleyConfig.from_dict(fields)
    carry_out(
        directory,
        quiet,
        run=lambda progress: run_widening_valley(config, directory, progress=progress, threads=threads),
        record=_record,
        write=_write,
        show=lambda result: print_valley(result, as_json),
    )


def print_valley(result: WideningValley, as_json: bool) -> None:
    """Print the tables and conclusions of a finished experiment.

    Args:
        result: finished.
        as_json: as one JSON object instead.
    """
    from nnval.widening_valley_tables import conclusions, differences_table, facts, methods_table

    config = result.config
    if as_json:
        found = {"directory": str(result.directory), **_record(result)}
        emit_json("validate widening-valley", config.to_dict(), config.training.seed, found)
        return
    echo_facts(facts(result))
    click.echo(f"\nAfter {result.epochs[-1]} epochs, means over seeds:")
    methods = methods_table(result)
    print_table(methods.header, methods.rows)
    if result.differences:
        click.echo("\nSeed by seed (verdicts hold at 1 % for all rows together):")
        differences = differences_table(result)
        print_table(differences.header, differences.rows, left=(0, 1, 5))
    click.echo()
    for line in conclusions(result):
        click.echo(line)
    click.echo(f"seed {config.training.seed}")


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


def _write(result: WideningValley) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportFigure, ReportSection, ReportTable, render_report
    from nnval.engine.run_directory import ENVIRONMENT, read_json
    from nnval.experiment_files import save_tables
    from nnval.widening_valley_tables import arrays, conclusions, differences_table, facts, methods_table

    save_tables(result.directory, arrays(result))
    figures = {name: ReportFigure(*content) for name, content in _figures(result).items()}
    methods, differences = methods_table(result), differences_table(result)

    def table(found: Any) -> ReportTable:
        return ReportTable(found.header, [[typeset(str(cell)) for cell in row] for row in found.rows])

    sections = [
        ReportSection(
            f"After {result.epochs[-1]} epochs",
            [
                "Means over networks. The trace is that of the mean training loss, without weight decay, and for "
                "Anti-PGD at the weights without the noise. It is a minimum's only where the training loss is low."
            ],
            table=table(methods),
        ),
    ]
    if result.differences:
        how = (
            "Networks of a pair share initial weights and data. Intervals are Student's, of single differences; "
            "verdicts hold at 1 % for all differences together."
        )
        sections.append(ReportSection("Seed by seed", [how], figure=figures["differences"], table=table(differences)))
    sections += [
        ReportSection("Over training", figure=figures["training"]),
        ReportSection(
            "What was done",
            table=ReportTable(("what", "finding"), [[typeset(cell) for cell in row] for row in facts(result)]),
        ),
    ]
    page = render_report(
        title="Noise and the flatness of a network",
        lead=" ".join(typeset(line) for line in conclusions(result)),
        sections=sections,
        environment={"seed": result.config.training.seed, **read_json(result.directory / ENVIRONMENT)},
    )
    write_files(result.directory, {name: figure.png for name, figure in figures.items()}, page, _record(result))


def _figures(result: WideningValley) -> dict[str, tuple[bytes, str, str]]:
    """File name -> (PNG, caption, what it shows in words)."""
    import numpy as np

    from figures.measured_widening_valley import NoiseCurves, figure_noise_curves
    from figures.paired_differences import PairedDifferences, figure_paired_differences
    from figures.style import png_bytes
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
    return {name: (png_bytes(figure), caption, words) for name, (figure, caption, words) in drawn.items()}


_CURVES = (
    "Trace of the Hessian, training loss and test accuracy. Methods differ in nothing but their noise; an epoch is "
    "equally many updates for all."
)
_PAIRS = "Each dot is one seed; diamonds are means with 95 % intervals, grey where no difference is shown."
