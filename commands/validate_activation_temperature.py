"""``jostle validate activation-temperature``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import ExperimentRun, experiment_options
from commands.experiment_report import Shown, finish, print_findings, report_figures, report_table, write_run
from commands.options import output_options
from commands.shared import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.measured_activation_temperature import CooledCurves, SweptSchedule
    from nnval.activation_temperature_study import CoolingStudy, ScheduleRuns

EXPERIMENT = "activation-temperature"

COLUMNS = (
    "trained: accuracy closer to the best than to guessing; rate: median of the learning rate, and the highest;\n"
    "T start: first target; |ln T/C|: median distance of T from its target; at cap: share of the steps at lr_max,\n"
    "where T is not under control; overhead: CPU time of ActCooLR's measurements, over that of the training"
)


@click.command(EXPERIMENT, short_help="Cooling by activation patterns beside other schedules, and sweeps of the rate.")
@experiment_options(EXPERIMENT, preset="digits", example="runs/cooling")
@click.option("--seeds", type=int, help="Networks for each schedule and budget, >= 2; more can be added later.")
@click.option(
    "--schedule",
    "schedules",
    multiple=True,
    help="constant, step, cosine, one_cycle or actcoolr; options: actcoolr:t_start=3.17,gamma=2. Repeatable.",
)
@click.option("--budget", "budgets", multiple=True, type=int, help="Epochs of a training, repeatable.")
@click.option("--every", type=int, help="Steps between two measurements.")
@click.option("--samples", type=int, help="Of each batch to measure with.")
@click.option("--sweep", "swept", multiple=True, help="Schedule in which learning rates are swept, repeatable.")
@click.option("--sweeps", type=int, help="How many sweeps, from the first step to the last.")
@output_options
def validate_activation_temperature(
    run: ExperimentRun,
    seeds: int | None,
    **options: Any,
) -> None:
    """Activation-pattern temperature under several schedules, sweeps of the learning rate, and ActCooLR against others.

    Networks are trained with each schedule and budget from the same initial weights and with the same batches;
    differences are those of pairs. No theory predicts test errors, so nothing can disagree: the exit code is 0.
    --epochs is the budget if no --budget is given.

    \b
    jostle validate activation-temperature --out runs/cooling
    jostle validate activation-temperature --schedule one_cycle --schedule actcoolr:t_start=1 --out runs/cooling
    jostle validate activation-temperature --show-preset > my.toml
    """
    fields = run.fields(options, members=seeds)
    if run.training["epochs"] is not None and not options["budgets"]:
        fields["budgets"] = ()
    from nnval.activation_temperature import run_cooling_study
    from nnval.activation_temperature_arrays import results_json
    from nnval.activation_temperature_study import CoolingStudyConfig

    config = CoolingStudyConfig.from_dict(fields)
    if options["swept"] and (missing := [label for label in config.swept if label not in config.schedules]):
        raise ValueError(f"--sweep {missing[0]} must be one of the schedules: {', '.join(config.schedules)}")
    with progress_bar(run.quiet) as progress:
        result = run_cooling_study(config, run.directory, progress=progress, threads=run.threads)
    config = result.config
    finish(run, result, results_json(result), config, config.training.seed, write=_write, show=_show)


def _show(result: CoolingStudy) -> None:
    """Tables and conclusions of a finished experiment."""
    from nnval.activation_temperature_tables import conclusions, differences_table, facts, links_table, results_table

    tables = (
        Shown("After the last epoch, means and medians over seeds:", results_table(result), (1,), COLUMNS),
        Shown(
            "Test errors seed by seed, in percentage points (verdicts hold at 1 % for all rows together):",
            differences_table(result),
            (1, 5),
        ),
        Shown(
            "Links fitted to sweeps of the learning rate (theory of small steps: sigma 1.17, exponent 1):",
            links_table(result),
            (0, 1),
        ),
    )
    print_findings(facts(result), tables, conclusions(result), result.config.training.seed)


def _write(result: CoolingStudy, record: dict[str, Any]) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportSection
    from nnval.activation_temperature_arrays import arrays
    from nnval.activation_temperature_tables import conclusions, differences_table, facts, links_table, results_table

    figures = report_figures(_figures(result))
    results, links = report_table(results_table(result)), report_table(links_table(result))
    how = "Means of test errors with standard errors; medians over seeds of the rest. " + COLUMNS.replace("\n", " ")
    sections = [
        ReportSection("After the last epoch", [how], figure=figures["errors"], table=results),
        ReportSection("Schedules over training", figure=figures["schedules"]),
    ]
    if "cooling" in figures:
        sections.append(ReportSection("Cooling", figure=figures["cooling"]))
    if result.differences:
        how = "Networks of a pair share initial weights, data and batches. Verdicts hold at 1 % for all together."
        sections.append(ReportSection("Seed by seed", [how], table=report_table(differences_table(result))))
    if "sweeps" in figures:
        how = "Steps of the training were repeated at other learning rates. For small steps theory has σ = 1.17, k = 1."
        sections.append(ReportSection("Sweeps of the learning rate", [how], figure=figures["sweeps"], table=links))
    write_run(
        result.directory,
        record,
        arrays=arrays(result),
        title="Cooling by activation patterns",
        conclusions=conclusions(result),
        sections=sections,
        facts=facts(result),
        figures=figures,
        seed=result.config.training.seed,
    )


def _figures(result: CoolingStudy) -> dict[str, tuple[Figure, str, str]]:
    """Name -> figure, caption, and what it shows in words."""
    from figures.measured_activation_temperature import (
        FinalErrors,
        figure_cooled_curves,
        figure_final_errors,
        figure_rate_sweeps,
    )
    from nnval.activation_temperature_tables import data_name, epochs_in_words

    training = result.config.training
    title = f"{training.model.rpartition(':')[2]}, {data_name(training)}; {training.members} seeds"
    by_budget: dict[int, list[ScheduleRuns]] = {}
    for runs in result.runs:
        by_budget.setdefault(runs.budget, []).append(runs)
    errors = {
        epochs_in_words(budget): [
            FinalErrors(runs.schedule.label, runs.errors, runs.error, runs.is_cooled) for runs in some
        ]
        for budget, some in by_budget.items()
    }
    drawn = {"errors": (figure_final_errors(title, errors), _ERRORS, "test errors of all schedules")}
    first = next((runs.schedule.label for runs in result.runs if runs.is_cooled), None)
    groups = {
        epochs_in_words(budget): [_curves(runs) for runs in some if not runs.is_cooled or runs.schedule.label == first]
        for budget, some in by_budget.items()
    }
    words = "learning rate, temperature and test error against the epoch"
    drawn["schedules"] = (figure_cooled_curves(title, groups), _SCHEDULES, words)
    cooled = {
        epochs_in_words(budget): [_curves(runs) for runs in some if runs.is_cooled]
        for budget, some in by_budget.items()
    }
    if all(len(some) > 1 for some in cooled.values()):
        drawn["cooling"] = (figure_cooled_curves(title, cooled), _COOLING, words)
    swept = [_swept(runs) for runs in result.runs if runs.sweeps]
    if swept:
        drawn["sweeps"] = (figure_rate_sweeps(title, swept), _SWEEPS, "temperature against epoch and learning rate")
    return drawn


def _curves(runs: ScheduleRuns) -> CooledCurves:
    from figures.measured_activation_temperature import CooledCurves

    return CooledCurves(
        runs.schedule.label, _epochs(runs), runs.rate, runs.temperature, runs.target, 1 - runs.test_accuracy
    )


def _epochs(runs: ScheduleRuns) -> Any:
    """Measured steps in epochs."""
    return runs.steps / runs.steps_per_epoch


def _swept(runs: ScheduleRuns) -> SweptSchedule:
    import warnings

    import numpy as np

    from figures.measured_activation_temperature import SweptSchedule
    from nnval.activation_temperature_tables import fitted
    from theory.activation_temperature import ErfLink, share_of

    fits, log_rates = fitted(runs.sweeps), np.log(runs.sweeps[0].sweeps[0].rates)
    temperatures, finite = (
        np.array([[getattr(each, name) for each in stages.sweeps] for stages in runs.sweeps])
        for name in ("temperature", "finite")
    )
    residuals = np.full(temperatures.shape, np.nan)
    for place in zip(*np.nonzero(np.isfinite(fits.sigma)), strict=True):
        link = ErfLink(float(fits.location[place]), float(fits.sigma[place]))
        residuals[place] = share_of(temperatures[place]) - link.share(log_rates)
    residuals[~finite] = np.nan
    quantities = (np.where(finite, temperatures, np.nan), residuals, fits.location, fits.sigma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no seed has a fit, there is no mean
        temperature, residual, location, sigma = (np.nanmean(each, axis=0) for each in quantities)
    return SweptSchedule(
        runs.schedule.label,
        runs.sweeps[0].steps / runs.steps_per_epoch,
        np.exp(log_rates),
        temperature,
        np.mean([stages.used for stages in runs.sweeps], axis=0),
        residual,
        location,
        sigma,
    )


_ERRORS = "Test error after the last epoch: each dot is one seed, diamonds are means with 95 % intervals."
_SCHEDULES = (
    "Learning rate, temperature of the network, and test error, in the manner of the paper's Fig. 1. Measured in steps "
    "between those by which ActCooLR works."
)
_COOLING = "ActCooLR with several starts, gammas and budgets, in the manner of the paper's Fig. 3."
_SWEEPS = (
    "In the manner of the paper's Fig. 2. From above: temperature of the step at other learning rates, the white line "
    "is the one that was used; share of changed patterns less that of the fitted erf link; and that link's mu and "
    "sigma. Means over seeds."
)
