"""``jostle validate effective-temperature``."""

from __future__ import annotations

import sys
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
from commands.shared import DISAGREES, emit_json, estimate_json, output_options, print_table

if TYPE_CHECKING:
    from nnval.effective_temperature_study import EffectiveTemperature
    from theory.absorbing import Floats
    from theory.estimate import Estimate

EXPERIMENT = "effective-temperature"


@click.command(EXPERIMENT)
@experiment_options(EXPERIMENT, preset="digits")
@click.option("--seeds", type=int, help="Networks of each condition, >= 2; more can be added to a finished run.")
@click.option("--order", "orders", multiple=True, help="Of batches, repeatable; such as reshuffled or persistent.")
@click.option("--sizes", "batch_sizes", help="Batch sizes that are compared, such as 20,80. An epoch stays as it is.")
@click.option("--stay", type=float, help="Updates that a sample stays in a persistent batch.")
@click.option("--measure-every", type=int, help="Epochs between measurements.")
@click.option("--directions", type=int, help="Eigenvectors of the Hessian.")
@click.option("--windows", type=int, help="Windows of fluctuation and response.")
@click.option("--field", type=float, help="Displacement by the field, in standard deviations.")
@click.option(
    "--tolerance", default=0.1, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="Model error that linear theory is granted.",
)  # fmt: skip
@output_options
def validate_effective_temperature(
    out: Path | None,
    preset: str,
    data: str | None,
    threads: int,
    seeds: int | None,
    batch_sizes: str | None,
    tolerance: float,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Temperature of the noise of batches, distance of replicas, width of boundaries: do they rise together?

    Every order of batches and batch size trains the same networks, each twice, with independent batches. Temperatures
    are those of fluctuation against the response to a small field. Differences between conditions are those of paired
    seeds. Exit code 3: temperature or response disagree with linear theory by more than the tolerance.

    \b
    jostle validate effective-temperature --out runs/heat
    jostle validate effective-temperature --weight-decay 0.001 --seeds 12 --out runs/less-decay
    jostle validate effective-temperature --preset lenet-cifar10 --data cifar10-jpeg.tar.xz --out runs/lenet
    jostle validate effective-temperature --show-preset > my.toml
    """
    directory = prepared(out, "runs/heat")
    training = {name: options.pop(name) for name in TRAINING_FIELDS} | {"members": seeds}
    options["batch_sizes"] = None if batch_sizes is None else _sizes(batch_sizes)
    fields = experiment_fields(EXPERIMENT, preset, data, training, options)
    from nnval.effective_temperature import run_effective_temperature
    from nnval.effective_temperature_study import EffectiveTemperatureConfig

    config = EffectiveTemperatureConfig.from_dict(fields)
    result = carry_out(
        directory,
        quiet,
        run=lambda progress: run_effective_temperature(
            config, directory, tolerance=tolerance, progress=progress, threads=threads
        ),
        record=_record,
        write=_write,
        show=lambda result: print_heat(result, as_json),
    )
    if not result.all_agree:
        sys.exit(DISAGREES)


def _sizes(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--sizes {text!r} must be whole numbers with commas between them, such as 20,80") from None


def print_heat(result: EffectiveTemperature, as_json: bool) -> None:
    """Print the tables and conclusions of a finished experiment.

    Args:
        result: finished.
        as_json: as one JSON object instead.
    """
    from nnval.effective_temperature_tables import (
        QUESTIONS,
        WIDTH_NAMES,
        conclusions,
        facts,
        findings_table,
        replicas_table,
        temperatures_table,
        theory_table,
        widths_table,
    )

    config = result.config
    if as_json:
        found = {"directory": str(result.directory), **_record(result)}
        emit_json("validate effective-temperature", config.to_dict(), config.training.seed, found)
        return
    echo_facts(facts(result))
    for words, table in (
        ("Temperatures after training, means over seeds, beside linear theory:", temperatures_table(result)),
        ("Two replicas at the end of training, means over seeds:", replicas_table(result)),
    ):
        click.echo(f"\n{words}")
        print_table(table.header, table.rows)
    for width, name in WIDTH_NAMES.items():
        click.echo(f"\nWidth of the boundary, {name}, by when one stops:")
        table = widths_table(result, width)
        print_table(table.header, table.rows)
    click.echo(f"\nMeasured over theory (verdicts hold at 1 % for all rows together, beyond {result.tolerance:.0%}):")
    table = theory_table(result)
    print_table(table.header, table.rows, left=(0, 4))
    for question, words in QUESTIONS.items():
        table = findings_table(result, question)
        if table.rows:
            click.echo(f"\n{words} (verdicts hold at 1 % for all questions together)")
            print_table(table.header, table.rows, left=(0, 2, 4))
    click.echo()
    for line in conclusions(result):
        click.echo(line)
    click.echo(f"seed {config.training.seed}")


def _record(result: EffectiveTemperature) -> dict[str, Any]:
    """The result as plain JSON."""
    from nnval.effective_temperature_study import REPLICA_COLUMNS, TEMPERATURES
    from nnval.effective_temperature_tables import comparison_json, findings_json
    from theory.estimate import Estimate

    conditions = []
    for place, each in enumerate(result.conditions):
        ends = {
            name: estimate_json(Estimate.from_samples(each.curves[name][:, -1]))
            for name in (*REPLICA_COLUMNS, "train_loss", "train_error", "test_accuracy")
        }
        heat = {
            f"temperature_{name}": estimate_json(Estimate.from_samples(each.slope[:, column]))
            for column, name in enumerate(TEMPERATURES)
        }
        widths = {
            f"{width}_{stop}": None if (found := _known(values[place])) is None else estimate_json(found)
            for (stop, width), values in result.stops.items()
        }
        conditions.append({"order": each.order, "batch_size": each.batch_size, **heat, **ends, **widths})
    return {
        "weights": result.weights,
        "seeds": list(result.config.members),
        "epochs": list(result.config.epochs),
        "tolerance": result.tolerance,
        "conditions": conditions,
        "findings": findings_json(result),
        "theory": [comparison_json(each) for each in result.comparisons],
    }


def _known(values: Floats) -> Estimate | None:
    """The mean over the seeds that got there, if there are two."""
    import numpy as np

    from theory.estimate import Estimate

    there = values[np.isfinite(values)]
    return Estimate.from_samples(there) if len(there) > 1 else None


def _write(result: EffectiveTemperature) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportFigure, ReportSection, ReportTable, render_report
    from nnval.effective_temperature_tables import (
        QUESTIONS,
        WIDTH_NAMES,
        arrays,
        conclusions,
        facts,
        findings_table,
        replicas_table,
        temperatures_table,
        theory_table,
        widths_table,
    )
    from nnval.engine.run_directory import ENVIRONMENT, read_json
    from nnval.experiment_files import save_tables

    save_tables(result.directory, arrays(result))
    figures = {name: ReportFigure(*content) for name, content in _figures(result).items()}

    def table(found: Any) -> ReportTable:
        return ReportTable(found.header, [[typeset(str(cell)) for cell in row] for row in found.rows])

    sections = [
        ReportSection("Temperatures", [_HEAT], figure=figures["heat"], table=table(temperatures_table(result))),
        ReportSection("Replicas", [_REPLICAS], table=table(replicas_table(result))),
    ]
    for width, name in WIDTH_NAMES.items():
        sections.append(
            ReportSection(
                f"Boundary: {name}", [_STOPS], figure=figures[width], table=table(widths_table(result, width))
            )
        )
    for question, words in QUESTIONS.items():
        found = findings_table(result, question)
        if found.rows:
            sections.append(ReportSection(words, [_RANKS], table=table(found)))
    facts_table = ReportTable(("what", "finding"), [[typeset(cell) for cell in row] for row in facts(result)])
    sections += [
        ReportSection("Beside linear theory", [_THEORY], table=table(theory_table(result))),
        ReportSection("What was done", table=facts_table),
    ]
    page = render_report(
        title="How hot is the noise of batches, and does heat widen the boundary?",
        lead=" ".join(typeset(line) for line in conclusions(result)),
        sections=sections,
        environment={"seed": result.config.training.seed, **read_json(result.directory / ENVIRONMENT)},
    )
    write_files(result.directory, {name: figure.png for name, figure in figures.items()}, page, _record(result))


def _figures(result: EffectiveTemperature) -> dict[str, tuple[bytes, str, str]]:
    """File name -> (PNG, caption, what it shows in words)."""
    import numpy as np

    from figures.measured_effective_temperature import HotNetworks, figure_heat, figure_rises_with_heat
    from figures.style import png_bytes
    from nnval.effective_temperature_study import STOPS, TEMPERATURES
    from nnval.effective_temperature_tables import STOP_NAMES, WIDTH_NAMES
    from nnval.experiment_words import data_name
    from theory.estimate import Estimate

    training, slow = result.config.training, TEMPERATURES.index("slow")

    def networks(width: str) -> list[HotNetworks]:
        return [
            HotNetworks(
                order=each.order.replace("_", " "),
                batch_size=each.batch_size,
                lags=np.array(result.config.lags),
                temperature=Estimate.from_columns(each.temperature),
                predicted=each.predicted_temperature.mean(0),
                slow=Estimate.from_samples(each.slope[:, slow]),
                epochs=np.array(result.config.epochs),
                distance=Estimate.from_columns(each.curves["distance"]),
                disagreement=Estimate.from_samples(each.curves["disagreement"][:, -1]),
                widths={STOP_NAMES[stop]: _known(result.stops[stop, width][place]) for stop in STOPS},
            )
            for place, each in enumerate(result.conditions)
        ]

    title = f"{training.model}, {result.weights} weights, on {data_name(training)}; {training.members} seeds"
    drawn = {"heat": (figure_heat(title, networks("margin")), _HEAT_CAPTION, "temperatures and distances of replicas")}
    for width, name in WIDTH_NAMES.items():
        figure = figure_rises_with_heat(title, networks(width), name)
        drawn[width] = (figure, _RISES_CAPTION, f"distance of replicas and {name} against the temperature")
    return {name: (png_bytes(figure), caption, words) for name, (figure, caption, words) in drawn.items()}


_HEAT = (
    "Means over networks, at the end of training. T fast is the temperature of one update, T slow that of fluctuation "
    "against response over an epoch of lags. Drift far below 1 says that the networks were stationary."
)
_REPLICAS = (
    "Two networks with the same start and data and independent batches, at the end of training: the squared distance "
    "per weight, the cosine between the ways they went, and the share of test images to which they give other labels."
)
_STOPS = "Quantiles over the training points, means over networks; negative where networks are wrong."
_RANKS = (
    "Rank correlations over conditions, one for each seed; +1 where the order is the same. Intervals are Student's "
    "over seeds, of single rows; verdicts hold at 1 % for all questions together."
)
_THEORY = (
    "Slow temperature and response over those of linear theory, with the Hessian and the noise of single samples where "
    "the runs were; linearity is the response to the whole field over that to half of it."
)
_HEAT_CAPTION = (
    "Temperature up to a lag, from fluctuation against response, with lines of linear theory; and the squared distance "
    "of two replicas in training."
)
_RISES_CAPTION = "Each mark is one order and batch size: mean over seeds with 95 % intervals."
