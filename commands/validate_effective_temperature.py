"""``jostle validate effective-temperature``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import ExperimentRun, experiment_options
from commands.experiment_report import Shown, finish, print_findings, report_figures, report_table, write_run
from commands.options import output_options, tolerance_option
from commands.shared import DISAGREES, estimate_json, progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nnval.effective_temperature_study import EffectiveTemperature
    from theory.absorbing import Floats
    from theory.estimate import Estimate

EXPERIMENT = "effective-temperature"


@click.command(EXPERIMENT, short_help="Temperature of batch noise, distance of replicas, width of boundaries.")
@experiment_options(EXPERIMENT, preset="digits", example="runs/heat")
@click.option("--seeds", type=int, help="Networks of each condition, >= 2; more can be added later.")
@click.option(
    "--order", "orders", multiple=True, help="How batches are drawn, repeatable: such as reshuffled or persistent."
)
@click.option("--sizes", "batch_sizes", help="Batch sizes that are compared, such as 20,80. An epoch stays as it is.")
@click.option("--stay", type=float, help="Updates that a sample stays in a persistent batch.")
@click.option("--measure-every", type=int, help="Epochs between measurements.")
@click.option("--directions", type=int, help="Eigenvectors of the Hessian.")
@click.option("--windows", type=int, help="Windows of fluctuation and response.")
@click.option("--field", type=float, help="Displacement by the field, in standard deviations.")
@tolerance_option(0.1)
@output_options
def validate_effective_temperature(
    run: ExperimentRun,
    seeds: int | None,
    batch_sizes: str | None,
    tolerance: float,
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
    options["batch_sizes"] = None if batch_sizes is None else _sizes(batch_sizes)
    fields = run.fields(options, members=seeds)
    from nnval.effective_temperature import run_effective_temperature
    from nnval.effective_temperature_study import EffectiveTemperatureConfig

    config = EffectiveTemperatureConfig.from_dict(fields)
    with progress_bar(run.quiet) as progress:
        result = run_effective_temperature(
            config, run.directory, tolerance=tolerance, progress=progress, threads=run.threads
        )
    config = result.config
    finish(run, result, _record(result), config, config.training.seed, write=_write, show=_show)
    if not result.all_agree:
        sys.exit(DISAGREES)


def _sizes(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--sizes {text!r} must be whole numbers with commas between them, such as 20,80") from None


def _show(result: EffectiveTemperature) -> None:
    """Tables and conclusions of a finished experiment."""
    from nnval.effective_temperature_tables import (
        QUESTIONS,
        WIDTH_NAMES,
        conclusions,
        facts,
        findings_table,
        replicas_table,
        silence,
        temperatures_table,
        theory_table,
        widths_table,
    )

    together = f"Measured over theory (verdicts hold at 1 % for all rows together, beyond {result.tolerance:.0%}):"
    tables = [
        Shown(
            "Temperatures after training, means over seeds, beside linear theory:",
            temperatures_table(result),
            note="-: no direction with the response of a minimum" if silence(result) else "",
        ),
        Shown("Two replicas at the end of training, means over seeds:", replicas_table(result)),
    ]
    for width, name in WIDTH_NAMES.items():
        tables.append(Shown(f"Width of the boundary, {name}, by when one stops:", widths_table(result, width)))
    tables.append(Shown(together, theory_table(result), (0, 4)))
    for question, words in QUESTIONS.items():
        title = f"{words} (verdicts hold at 1 % for all questions together)"
        tables.append(Shown(title, findings_table(result, question), (0, 2, 4)))
    print_findings(facts(result), tables, conclusions(result), result.config.training.seed)


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
            f"temperature_{name}": estimate_json(_known(each.slope[:, column]))
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


def _write(result: EffectiveTemperature, record: dict[str, Any]) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportSection
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

    figures = report_figures(_figures(result))
    temperatures, replicas = report_table(temperatures_table(result)), report_table(replicas_table(result))
    sections = [
        ReportSection("Temperatures", [_HEAT], figure=figures["heat"], table=temperatures),
        ReportSection("Replicas", [_REPLICAS], table=replicas),
    ]
    for width, name in WIDTH_NAMES.items():
        widths = report_table(widths_table(result, width))
        sections.append(ReportSection(f"Boundary: {name}", [_STOPS], figure=figures[width], table=widths))
    for question, words in QUESTIONS.items():
        found = findings_table(result, question)
        if found.rows:
            sections.append(ReportSection(words, [_RANKS], table=report_table(found)))
    sections.append(ReportSection("Beside linear theory", [_THEORY], table=report_table(theory_table(result))))
    write_run(
        result.directory,
        record,
        arrays=arrays(result),
        title="How hot is the noise of batches, and does heat widen the boundary?",
        conclusions=conclusions(result),
        sections=sections,
        facts=facts(result),
        figures=figures,
        seed=result.config.training.seed,
    )


def _figures(result: EffectiveTemperature) -> dict[str, tuple[Figure, str, str]]:
    """Name -> figure, caption, and what it shows in words."""
    import numpy as np

    from figures.measured_effective_temperature import HotNetworks, figure_heat, figure_rises_with_heat
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
                temperature=Estimate.from_columns(each.temperature[each.responds]),
                predicted=each.predicted_temperature[each.responds].mean(0),
                slow=Estimate.from_samples(each.slope[each.responds, slow]),
                epochs=np.array(result.config.epochs),
                distance=Estimate.from_columns(each.curves["distance"]),
                disagreement=Estimate.from_samples(each.curves["disagreement"][:, -1]),
                widths={STOP_NAMES[stop]: _known(result.stops[stop, width][place]) for stop in STOPS},
            )
            for place, each in enumerate(result.conditions)
            if each.is_known
        ]

    title = f"{training.model}, {result.weights} weights, on {data_name(training)}; {training.members} seeds"
    drawn = {"heat": (figure_heat(title, networks("margin")), _HEAT_CAPTION, "temperatures and distances of replicas")}
    for width, name in WIDTH_NAMES.items():
        figure = figure_rises_with_heat(title, networks(width), name)
        drawn[width] = (figure, _RISES_CAPTION, f"distance of replicas and {name} against the temperature")
    return drawn


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
