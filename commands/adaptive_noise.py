"""``jostle predict adaptive-noise`` and ``jostle simulate adaptive-noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.adaptive_noise_comparisons import (
    Loop,
    loop_cells,
    loop_rows,
    passage_comparison,
    quadratic_comparisons,
    train_in_closed_loop,
    write_simulation,
)
from commands.adaptive_noise_predictions import (
    RELATIVE,
    Setting,
    curvature_rows,
    epsilon_rows,
    phase_words,
    schedule_rows,
    write_predictions,
)
from commands.files import prepared_directory
from commands.noise_options import decay_option, min_dwell_option, mode_option, phase_epsilons_option
from commands.options import learning_rate_option, momentum_option, out_option, output_options, simulation_options
from commands.shared import emit_json, print_table, record_cells
from commands.simulations import (
    Z_FOOTER,
    comparison_json,
    completeness,
    end_simulation,
    print_comparisons,
    print_remarks,
    simulate_each,
)

if TYPE_CHECKING:
    from sim.adaptive_noise import SimulatedTrainings
    from sim.ensemble import Progress
    from theory.estimate import Comparison

EPSILONS = {
    "absolute": (1e-5, 1e-4, 1e-3, 1e-2),
    "relative_update": (0.03, 0.1, 0.3, 1.0, 3.0),
    "relative_weight": (1e-4, 1e-3, 1e-2, 3e-2),
    "sgld": (1e-9, 1e-8, 1e-7, 1e-6),
}
PHASE_EPSILONS = {
    "absolute": (3e-4, 1e-4, 3e-5),
    "relative_update": (0.3, 0.1, 0.03),
    "relative_weight": (3e-3, 1e-3, 3e-4),
    "sgld": (1e-7, 1e-8, 1e-9),
}
"""Without options."""

CURVATURES = (0.0, 0.1, 1.0, 10.0)
MOST_MOMENTUM = 0.99
"""Of a simulation: time to forget the start is in inverse proportion to the rest."""

SCHEDULES = ("none", "constant", "adaptive", "equal noise")


# ---- predict ---------------------------------------------------------------------------------------------------------


def _print_predictions(setting: Setting, tables: dict[str, list[dict[str, Any]]]) -> None:
    from theory.adaptive_noise import he_deviation

    click.echo(
        f"{setting.mode} noise on {setting.weights} weights, {setting.steps} steps; learning rate "
        f"{setting.learning_rate:g}, momentum {setting.momentum:g}, weight decay {setting.weight_decay:g}"
    )
    if setting.mode == "relative_update":
        header = ("epsilon", "|noise| / |update|", "std of flat weights, times", "feeds itself from curvature")
        print_table(header, record_cells(tables["epsilons"], 4), left=())
        click.echo("times: what batch noise of any size makes of weights is so many times larger; momentum works on")
        click.echo("batch noise, not on this; from that curvature in all directions on, updates and noise drive each")
        click.echo("other up")
    elif setting.mode == "relative_weight":
        header = ("epsilon", "|noise| / |weights|", "growth without decay", "gain with decay", "stationary")
        print_table(header, record_cells(tables["epsilons"], 4), left=())
        click.echo(
            "growth: of flat weights by the end; gain: share of their variance that comes back by noise relative"
        )
        click.echo("to them, if weight decay alone holds them: from 1 on they grow for ever")
    else:
        header = (
            "epsilon",
            "noise std",
            "norm of a step",
            "std at the end",
            "std with decay",
            "end / He",
            "decay / He",
        )
        print_table(header, record_cells(tables["epsilons"], 4), left=())
        click.echo("noise std: of a weight in a step; std at the end: of a random walk, without curvature and decay;")
        click.echo("with decay: in the long run, where decay alone holds the weight;")
        click.echo(f"He: std {he_deviation(setting.fan_in):.4g} of He's initialisation, {setting.fan_in} inputs")
    click.echo(f"\nalong a direction, gradient noise of std {setting.gradient_noise:g} in each step:")
    header = ("curvature", "epsilon", "weight, batches", "weight, both", "update, batches", "update, both")
    print_table(header, record_cells(tables["curvatures"], 4), left=())
    click.echo("std of weight and update (before noise) by the noise of batches alone, and with that of epsilon")
    click.echo(f"\nschedules of epsilon {' '.join(f'{e:g}' for e in setting.phase_epsilons)} (high, medium, low)")
    click.echo(f"decaying by {setting.decay:g} a step, if the phases were: {phase_words(setting)}")
    header = ("schedule", "noise in all", "per step", "std at the end", "std with decay", "factor to equal fixed")
    print_table(header, record_cells(tables["schedules"], 4))
    unit = f" (relative to {setting.mode.removeprefix('relative_')}s)" if setting.mode in RELATIVE else ""
    click.echo(f"noise: variance of a weight's noise{unit}, summed over the steps; times the factor, epsilons")
    click.echo("inject as much as the fixed one's: without that, better may mean no more than stronger")


@click.command(
    "adaptive-noise", short_help="Noise on the weights before training: its size, their spread, schedules' noise."
)
@mode_option(default="absolute", show_default=True)
@click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    type=float,
    help="As --mode says, repeatable; for sgld a temperature. Default: the decades around what is in use.",
)
@click.option(
    "--curvature",
    "curvatures",
    multiple=True,
    type=float,
    default=CURVATURES,
    show_default=True,
    help="Of the loss, without decay, repeatable.",
)
@click.option(
    "--weights", default=11_173_962, show_default=True, type=click.IntRange(1, 10**15), help="d; ResNet-18 has so many."
)
@click.option("--steps", default=78_200, show_default=True, type=click.IntRange(1, 10**6), help="Of the training.")
@learning_rate_option(0.1)
@momentum_option(0.9)
@click.option("--weight-decay", default=1e-4, show_default=True, help="As SGD has it, part of the gradient.")
@click.option(
    "--fan-in", default=4608, show_default=True, type=click.IntRange(1, 10**12), help="Inputs of a unit: 3 x 3 x 512."
)
@click.option("--gradient-noise", default=0.01, show_default=True, help="Std of a weight's batch gradient, >= 0.")
@phase_epsilons_option(more=" Default: as the mode needs them; 0.3 0.1 0.03 for relative_update.")
@decay_option(default=0.0, show_default=True)
@click.option(
    "--phase-shares",
    nargs=3,
    type=float,
    default=(1.0, 1.0, 1.0),
    show_default=True,
    metavar="FIRST SECOND THIRD",
    help="How long the phases would last, relative to each other: nobody knows before the training.",
)
@out_option
@output_options
def predict_adaptive_noise(
    mode: str,
    epsilons: tuple[float, ...],
    curvatures: tuple[float, ...],
    phase_epsilons: tuple[float, float, float] | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """What noise on the weights does to them, before training: its size, their spread, and schedules' noise in all.

    \b
    jostle predict adaptive-noise --epsilon 1e-4 --learning-rate 0.1 --weight-decay 5e-4
    jostle predict adaptive-noise --mode relative_update --momentum 0.9
    jostle predict adaptive-noise --phase-epsilons 1e-3 3e-4 1e-4 --decay 1e-4 --phase-shares 1 2 2 --out plan
    """
    setting = Setting(mode=mode, phase_epsilons=phase_epsilons or PHASE_EPSILONS[mode], **given)
    chosen = epsilons or EPSILONS[mode]
    tables = {
        "epsilons": epsilon_rows(setting, chosen),
        "curvatures": curvature_rows(setting, chosen, curvatures),
        "schedules": schedule_rows(setting),
    }
    directory = None if out is None else prepared_directory(out)
    if as_json:
        parameters = setting.parameters() | {"epsilons": list(chosen), "curvatures": list(curvatures)}
        emit_json("predict adaptive-noise", parameters, None, tables)
    else:
        _print_predictions(setting, tables)
    if directory is not None:
        write_predictions(directory, setting, chosen, tables)


# ---- simulate --------------------------------------------------------------------------------------------------------


@click.command("adaptive-noise", short_help="Noise on toy landscapes: constant beside theory, adaptive in closed loop.")
@learning_rate_option(0.002)
@momentum_option(0.5)
@phase_epsilons_option(more=" Absolute; constant noise has the second.", default=(0.08, 0.03, 0.01), show_default=True)
@decay_option(default=0.0, show_default=True)
@click.option("--barrier", default=1.0, show_default=True, help="Of the double well, > 0.")
@click.option("--tilt", default=0.1, show_default=True, help="Half of how much better the other well is, >= 0.")
@click.option(
    "--coordinates",
    default=7,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Quadratic ones beside the double well.",
)
@click.option("--noise-gain", default=300.0, show_default=True, help="How gradient noise grows with the loss, >= 0.")
@click.option("--steps", default=20_000, show_default=True, type=click.IntRange(10, 10**7), help="Of a training.")
@click.option(
    "--horizon", default=20, show_default=True, type=click.IntRange(1, 10**6), help="Steps that averages remember."
)
@min_dwell_option(default=50, show_default=True, type=click.IntRange(0, 10**9))
@click.option("--monotone", is_flag=True, help="Phases only go forward.")
@simulation_options(runs=256)
@output_options
def simulate_adaptive_noise(
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Noise on toy landscapes, constant beside theory and adaptive in closed loop. Exit code 3 if theory disagrees.

    The loop's landscape is made so that noise can help: a barrier is between the start and the better well, and only
    early noise crosses it in time. What it shows is how the loop works; it says nothing about networks.

    \b
    jostle simulate adaptive-noise --runs 512 --out loop
    jostle simulate adaptive-noise --phase-epsilons 0.05 0.02 0 --decay 0.001 --monotone
    """
    from theory.estimate import holm

    if not given["momentum"] <= MOST_MOMENTUM:
        raise ValueError(f"--momentum {given['momentum']:g} must be at most {MOST_MOMENTUM}: more would take too long")
    loop = Loop(**given)
    directory = None if out is None else prepared_directory(out)
    results: dict[str, SimulatedTrainings] = {}

    def simulate(name: str, progress: Progress | None) -> SimulatedTrainings:
        results[name] = train_in_closed_loop(loop, name, results, runs, seed, threads, progress)
        return results[name]

    trained = simulate_each(SCHEDULES, simulate, quiet=quiet)
    missing, done, stopped = completeness(SCHEDULES, trained)
    comparisons: list[Comparison] = []
    passage: list[Comparison] = []
    if not stopped:
        passage = passage_comparison(loop, runs, seed, threads)
        comparisons = holm(quadratic_comparisons(loop, runs, seed, threads) + passage)
    rows = loop_rows(trained)
    if as_json:
        result = {"comparisons": [comparison_json(comparison) for comparison in comparisons], "loop": rows}
        result |= {"not_simulated": missing, "stopped_early": stopped}
        emit_json("simulate adaptive-noise", loop.parameters() | {"replicas": runs}, seed, result)
    else:
        if comparisons:
            print_comparisons("constant noise", comparisons)
            click.echo(Z_FOOTER)
            if not passage:
                click.echo(
                    "mean steps to the better well: not compared, without high noise or with too many to simulate"
                )
            click.echo("")
        click.echo(f"closed loop, {loop.steps} steps from the worse of two wells, barrier {loop.barrier:g}:")
        header = ("noise", "rms epsilon", "found", "mean of min(T, steps)", "loss at the end", "phases, % of steps")
        print_table(header, loop_cells(rows))
        click.echo("found: share of runs in the better well after T steps; loss: above the bottom, last tenth;")
        click.echo("phases: exploration, convergence, fine-tuning; equal noise: constant, as much in all as adaptive")
        print_remarks(comparisons, (), missing)
        click.echo(f"{done} runs; seed {seed}")
    if directory is not None:
        write_simulation(directory, trained, comparisons)
    end_simulation(comparisons, stopped)
