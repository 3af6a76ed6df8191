"""``jostle validate adaptive-noise``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import ExperimentRun, experiment_options
from commands.experiment_report import Shown, finish, print_findings, report_figures, report_table, typeset, write_run
from commands.noise_options import decay_option, min_dwell_option, mode_option, phase_epsilons_option
from commands.options import output_options
from commands.shared import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nnval.adaptive_noise_study import NoiseStudy

EXPERIMENT = "adaptive-noise"
METHODS = ("baseline", "fixed", "phase_only", "schedule_only", "full", "sgd", "adam", "cosine")

TIME = (
    "means over seeds with standard errors; a run that missed the target counts as long as it was followed. Seconds\n"
    "are of the processor (on a GPU, of a clock), without evaluation; of noisy methods with tracker and noise. In\n"
    "brackets: 95 % intervals of paired ratios; none if all seeds agree, as when all miss the target"
)
PHASES = (
    "exploration/convergence/fine-tuning in % of the steps; medians of: changes of the phase, time-averaged\n"
    "epsilon^2, norm of the noise over that of the update, and time of tracker and noise over that of the rest"
)
STABILITY = "100 sd / mean over the last epochs; detrended: around a straight line; n: seeds for which each is defined"
PAIRS = (
    "mean +- half of the 95 % interval, none if all seeds agree; * where a difference is shown at 1 % for all rows of\n"
    "the column together"
)


@click.command(EXPERIMENT, short_help="Noise that follows the phase of training: ablation, control, usual optimizers.")
@experiment_options(EXPERIMENT, preset="digits", example="runs/noise")
@click.option("--seeds", type=int, help="Networks of each method that are reported, >= 2; more can be added later.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(METHODS),
    metavar="METHOD",
    help=f"Repeatable: {', '.join(METHODS)}; baseline is always there.",
)
@click.option("--equal-noise/--own-noise", default=None, help="Each noise once more, with the same epsilon^2 in all.")
@click.option("--budget", type=float, help="Mean of epsilon^2 of the equal noises. Default: that of the fixed noise.")
@mode_option()
@phase_epsilons_option("--epsilon", "epsilon")
@decay_option()
@min_dwell_option(type=int)
@click.option("--factor", "rate_factors", multiple=True, type=float, help="Of the grid of learning rates, repeatable.")
@click.option("--adam-lr", "adam_learning_rate", type=float, help="Middle of Adam's grid; --lr is that of SGD's.")
@click.option("--tuning-seeds", type=int, help="Other networks, by which learning rates are chosen.")
@click.option("--target", "target_accuracy", type=float, help="Validation accuracy whose time is measured.")
@click.option("--last-epochs", type=int, help="Over which stability is measured.")
@output_options
def validate_adaptive_noise(
    run: ExperimentRun,
    seeds: int | None,
    methods: tuple[str, ...],
    **options: Any,
) -> None:
    """Noise that follows the phase of training: an ablation, its equal-noise control, and usual optimizers.

    Each method trains at the best learning rate of its own grid, chosen by validation accuracy on seeds that are not
    reported, from the same initial weights and with the same batches; differences are those of pairs. No theory
    predicts which is better, so nothing can disagree: the exit code is 0.

    \b
    jostle validate adaptive-noise --out runs/noise
    jostle validate adaptive-noise --method fixed --method full --epsilon 0.6 0.2 0.06 --seeds 16 --out runs/strong
    jostle validate adaptive-noise --show-preset > my.toml
    """
    of_noise = {name: options.pop(name) for name in ("mode", "epsilon", "decay", "min_dwell")}
    if methods:
        options["methods"] = list(dict.fromkeys(("baseline", *methods)))
    fields = run.fields(options, members=seeds)
    noise = fields.setdefault("noise", {})
    if isinstance(noise, dict):  # else the config says what is wrong
        noise |= {name: value for name, value in of_noise.items() if value is not None}
    from nnval.adaptive_noise import run_noise_study
    from nnval.adaptive_noise_arrays import results_json
    from nnval.adaptive_noise_study import NoiseStudyConfig

    config = NoiseStudyConfig.from_dict(fields)
    with progress_bar(run.quiet) as progress:
        result = run_noise_study(config, run.directory, progress=progress, threads=run.threads)
    config = result.config
    finish(run, result, results_json(result), config, config.training.seed, write=_write, show=_show)


def _show(result: NoiseStudy) -> None:
    """Tables and conclusions of a finished experiment."""
    from nnval.adaptive_noise_tables import claims_table, conclusions, facts

    claims = Shown("What the paper says, by the same verdicts:", claims_table(result), (0, 1, 5))
    print_findings(facts(result), [*_tables(result), claims], conclusions(result), result.config.training.seed)


def _tables(result: NoiseStudy) -> list[Shown]:
    """What both the terminal and the page show; notes say what columns mean."""
    from nnval.adaptive_noise_tables import (
        accuracy_table,
        differences_table,
        phases_table,
        rates_table,
        stability_table,
        time_table,
    )

    config = result.config
    time_to = f"Time to a validation accuracy of {config.target_accuracy:g} (the paper's Table I):"
    stability = f"Stability over the last {config.last_epochs} epochs (Table II):"
    found = [
        Shown(time_to, time_table(result), note=TIME),
        Shown(stability, stability_table(result), note=STABILITY),
        Shown("Accuracy (Tables III and IV):", accuracy_table(result)),
        Shown("Phases and noise (Figure 1):", phases_table(result), note=PHASES),
    ]
    if config.tuning_members:
        title = f"Learning rates, with validation accuracies of {len(config.tuning_members)} other seeds, in %:"
        found.append(Shown(title, rates_table(result)))
    return [*found, Shown("Seed by seed:", differences_table(result), note=PAIRS)]


def _write(result: NoiseStudy, record: dict[str, Any]) -> None:
    """Arrays, figures and the page."""
    from figures.report import ReportSection
    from nnval.adaptive_noise_arrays import arrays
    from nnval.adaptive_noise_tables import claims_table, conclusions, facts

    figures = report_figures(_figures(result))
    places = ("times", "training", None, "phases")
    sections = []
    for number, (title, table, _, note) in enumerate(_tables(result)):
        figure = figures.get(places[number] or "") if number < len(places) else None
        if title.startswith("Seed"):
            figure = figures.get("differences")
        paragraphs = [typeset(note[0].upper() + note[1:].replace("\n", " ")) + "."] if note else []
        sections.append(ReportSection(title.rstrip(":"), paragraphs, figure=figure, table=report_table(table)))
    claims = claims_table(result)
    if claims.rows:
        sections.append(ReportSection("What the paper says", table=report_table(claims)))
    write_run(
        result.directory,
        record,
        arrays=arrays(result),
        title="Noise that follows the phase of training",
        conclusions=conclusions(result),
        sections=sections,
        facts=facts(result),
        figures=figures,
        seed=result.config.training.seed,
    )


def _figures(result: NoiseStudy) -> dict[str, tuple[Figure, str, str]]:
    """Name -> figure, caption, and what it shows in words."""
    import numpy as np

    from figures.measured_adaptive_noise import MethodCurves, figure_noise_training, figure_phases, figure_times
    from figures.paired_differences import PairedDifferences, figure_paired_differences
    from nnval.adaptive_noise_study import QUANTITIES
    from nnval.adaptive_noise_tables import METHOD_NAMES, method_name
    from nnval.experiment_words import data_name

    training = result.config.training
    title = f"{training.model.rpartition(':')[2]} on {data_name(training)}; {training.members} seeds"
    curves = [
        MethodCurves(
            method_name(each.method.name),
            each.validation_loss,
            1 - each.validation_accuracy,
            result.passages(each),
            each.phases,
            equal=each.method.equal,
        )
        for each in result.runs
    ]
    order = list(METHOD_NAMES.values())
    drawn = {
        "times": (figure_times(title, curves, order, result.config.target_accuracy), _TIMES, "runs above the target"),
        "training": (
            figure_noise_training(title, curves, order, result.config.last_epochs),
            _TRAINING,
            "validation loss and error against the epoch",
        ),
        "phases": (figure_phases(title, curves), _PHASES, "shares of the phases against the epoch"),
    }
    pairs: dict[str, list[PairedDifferences]] = {}
    complete = _complete_pairs(result)
    for each in result.differences:
        if (each.method, each.reference) in complete and each.quantity in _DRAWN:
            values = result.values(result.of(each.method), each.quantity)
            values = values - result.values(result.of(each.reference), each.quantity)
            label = f"{method_name(each.method)} - {method_name(each.reference)}"
            one = PairedDifferences(label, values[np.isfinite(values)], each.difference, each.shown)
            pairs.setdefault(QUANTITIES[each.quantity], []).append(one)
    if pairs:
        figure = figure_paired_differences(title, pairs, test="1 %, all of a column")
        drawn["differences"] = (figure, _PAIRS, "differences of methods with their intervals")
    return drawn


_DRAWN = ("epochs", "cv_detrended", "test_accuracy")


def _complete_pairs(result: NoiseStudy) -> set[tuple[str, str]]:
    """Pairs of which all that is drawn is known."""
    found = [(each.method, each.reference) for each in result.differences if each.quantity in _DRAWN]
    return {pair for pair in found if found.count(pair) == len(_DRAWN)}


_TIMES = (
    "Share of the runs that have not reached the target yet (Kaplan and Meier); lines are a little apart. Left: the "
    "ablation; right: noises with equal epsilon^2, and usual optimizers."
)
_TRAINING = (
    "Validation loss and error: medians over seeds with their range. Stability is measured where the ground is grey."
)
_PHASES = "Share of the steps in each phase, mean over seeds. Noise moves phases, and phases the noise."
_PAIRS = "Each dot is one seed; diamonds are means with 95 % intervals, grey where no difference is shown."
