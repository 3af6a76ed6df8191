"""``jostle predict perturbation`` and ``jostle simulate perturbation``; for advice from curves see commands.advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.advice import Asked, advise_from_curves, scan_from_curves
from commands.curves import CURVE_ONLY, curve_options
from commands.files import prepared_directory, write_figure, write_records
from commands.options import output_options, refuse_options, simulation_options
from commands.shared import emit_json, hint, noted_interrupts, print_table, simulation_progress
from commands.simulations import comparison_json, comparison_row, end_simulation, print_remarks
from commands.toys import TOY_ONLY, Toy, make_toy, toy_options

if TYPE_CHECKING:
    from theory.estimate import Estimate
    from theory.perturbed_means import PerturbedMeans

ADVICE_ONLY = ("once", "every", "scan", "precision", "tolerance")

INTERVALS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Perturbation intervals of a table, unless others are asked for."""


@click.command(
    "perturbation", short_help="Which perturbation, how often? From training curves, or exactly of a toy process."
)
@toy_options(with_target=False)
@curve_options(interval_type=click.IntRange(min=1))
@click.option(
    "--once",
    multiple=True,
    metavar="[NAME:EPOCH=]PATH",
    help="Curves of runs perturbed once after EPOCH, from the perturbation on (epoch 1); runs of jostle know NAME and "
    "EPOCH. Repeatable.",
)
@click.option(
    "--every",
    multiple=True,
    metavar="[NAME[:P]=]PATH",
    help="Curves of runs perturbed every P epochs, from the beginning. PATH may be a pattern with * or ?; P is read "
    "off names such as run_P20.csv. Runs of jostle know NAME and P. Repeatable.",
)
@click.option("--scan", metavar="LOW:HIGH:STEP", help="Targets: which protocol is best at each?")
@click.option(
    "--precision",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Relative standard error to plan further runs for.",
)
@click.option("--branch-epoch", type=click.IntRange(min=1), help="Toys: P* of the one perturbation; default: 100.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True, max=100),
    help="Of the quasi-steady state, in standard deviations; default: 0.25.",
)
@output_options
@click.pass_context
def predict_perturbation(
    context: click.Context,
    curves: str | None,
    chain: str | None,
    potential: str | None,
    branch_epoch: int | None,
    scan: str | None,
    intervals: tuple[int, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    target: float | None,
    **settings: Any,
) -> None:
    """Which perturbation, how often? Advice from training curves; or the training time of a toy process, exactly.

    Unperturbed curves decide about restarting from scratch. Curves perturbed once predict other perturbations at every
    interval P, curves perturbed every P epochs measure them. -P prints predictions beside measurements at these P.

    \b
    jostle predict perturbation --curves curves.csv --target 0.72
    jostle predict perturbation --curves plain.csv --target 0.72 --once shuffle:100=once.csv -P 20 -P 50
    jostle predict perturbation --curves plain.csv --target 0.72 --every 'shuffle=logs/shuffle_P*.csv' --out advice
    jostle predict perturbation --curves logs/tensorboard --metric val/loss --scan 0.5:1.5:0.1
    jostle predict perturbation --curves runs/demo/unperturbed --target 0.9425 \\
        --once 'runs/demo/perturbed_once/shrink_perturb/P0040' --every 'runs/demo/periodic/*/P*'
    jostle predict perturbation --chain trap_with_barrier --perturbation shrink_perturb:shrink=0.4,noise=0.1
    jostle predict perturbation --potential '(x**2 - 1)**2' --diffusivity 0.15 --epoch 0.2 --time-step 0.02 \\
        --initial-mean 0 --initial-deviation 0.6 --target 0.9 --limits -2.6 2.6 --perturbation full_reset
    """
    toy_settings = {key: settings.pop(key) for key in TOY_ONLY}
    if curves is not None:
        refuse_options(context, ("chain", "potential", "branch_epoch"), "toy processes, not with --curves")
        refuse_options(context, TOY_ONLY, "--chain or --potential")
        asked = Asked(curves=curves, intervals=intervals, out=out, as_json=as_json, quiet=quiet, **settings)
        if scan is None:
            advise_from_curves(asked, target)
            return
        refuse_options(context, ("target", "intervals"), "one target, not with --scan")
        scan_from_curves(asked, scan)
        return
    if chain is None and potential is None:
        raise ValueError("give --curves, for measured training curves, or --chain or --potential, for a toy process")
    refuse_options(context, CURVE_ONLY + ADVICE_ONLY, "--curves")
    toy = make_toy(chain=chain, potential=potential, target=target, **toy_settings)
    _predict_toy(toy, sorted(set(intervals)) or INTERVALS, branch_epoch or 100, out, as_json)


def _predict_toy(toy: Toy, intervals: Sequence[int], branch_epoch: int, out: Path | None, as_json: bool) -> None:
    from theory.markov_chain import mean_first_passage_time

    unperturbed = mean_first_passage_time(toy.chain)
    directory = None if out is None else _prepared(out, toy, unperturbed)
    rows = _toy_rows(_toy_means(toy, intervals, branch_epoch))
    steady = _quasi_stationary(toy)
    if as_json:
        result = {"unperturbed_mean": unperturbed, "quasi_steady_state": steady, "intervals": rows}
        parameters = {"process": toy.name, "perturbation": toy.perturbation, "branch_epoch": branch_epoch}
        emit_json("predict perturbation", parameters, None, result)
    else:
        _print_toy(toy, unperturbed, steady, rows, branch_epoch)
    if directory is not None:
        _write_toy(directory, toy, branch_epoch, {})


def _print_toy(
    toy: Toy,
    unperturbed: float,
    steady: dict[str, float] | None,
    rows: Sequence[dict[str, float]],
    branch_epoch: int,
) -> None:
    click.echo(f"{toy.name}: E[T] = {unperturbed:.6g} epochs without perturbation")
    if toy.grid is not None:
        from theory.markov_chain import mean_first_passage_time

        coarser = mean_first_passage_time(toy.coarser().chain)
        click.echo(f"on a grid (--cells); on one of half as many cells E[T] = {coarser:.6g}")
    if steady is not None:
        click.echo(
            f"survivors: hazard {steady['hazard']:.4g} per epoch, relaxation {steady['relaxation_epochs']:.3g} epochs"
        )
    click.echo(f"{toy.perturbation} every P epochs; predictions from survivors perturbed at epoch {branch_epoch}:")
    table = [
        (
            row["interval"],
            f"{row['mean']:.6g}",
            f"{unperturbed / row['mean']:.3g}",
            *_with_error(row["rare"], row["mean"]),
            *_with_error(row["renewal"], row["mean"]),
            f"{row['full_reset']:.6g}",
        )
        for row in rows
    ]
    print_table(("P", "E[T_P]", "speed-up", "Eq. (9)", "error", "renewal", "error", "full reset"), table, left=())


def _with_error(predicted: float, exact: float) -> tuple[str, str]:
    if math.isinf(predicted) or math.isinf(exact):
        return f"{predicted:.6g}", "-"
    error = round(predicted / exact - 1, 4) + 0.0  # no -0.00 %
    return f"{predicted:.6g}", f"{error:+.2%}" if error < 10 else f"x {predicted / exact:.0f}"


def _toy_means(toy: Toy, intervals: Sequence[int], branch_epoch: int) -> PerturbedMeans:
    """The exact mean, both approximations and that of full resetting, for each interval."""
    from theory.markov_chain import survival
    from theory.perturbed_means import perturbed_means

    if survival(toy.chain, branch_epoch)[-1] == 0:
        raise ValueError(f"--branch-epoch {branch_epoch}: no run survives that long; take an earlier epoch")
    return perturbed_means(toy.chain, toy.kernel, intervals, branch_epoch=branch_epoch)


def _toy_rows(means: PerturbedMeans) -> list[dict[str, float]]:
    names = {"interval": "intervals", "mean": "exact", "rare": "rare", "renewal": "renewal", "full_reset": "full_reset"}
    columns = [getattr(means, name).tolist() for name in names.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _quasi_stationary(toy: Toy) -> dict[str, float] | None:
    """Hazard and relaxation of the long survivors; None if they have no single quasi-stationary law."""
    from theory.quasi_stationary import quasi_stationary_state

    try:
        law = quasi_stationary_state(toy.chain)
    except ValueError:
        return None
    return {
        "survival_rate": law.survival_rate,
        "hazard": law.hazard,
        "relaxation_epochs": law.relaxation_epochs,
    }


@click.command("perturbation", short_help="A toy process perturbed every P epochs, beside the exact chain.")
@toy_options(with_target=True)
@click.option(
    "--interval",
    "-P",
    "intervals",
    multiple=True,
    type=click.IntRange(min=1),
    help="The perturbation acts every P epochs, repeatable.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Runs are stopped then, and E[min(T, H)] is compared.")
@simulation_options(runs=20_000)
@output_options
def simulate_perturbation(
    chain: str | None,
    potential: str | None,
    intervals: tuple[int, ...],
    horizon: int | None,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Simulate a toy process under a perturbation every P epochs, beside the exact chain. Exit code 3 if they disagree.

    \b
    jostle simulate perturbation --chain trap_with_barrier -P 3 -P 10
    jostle simulate perturbation --chain double_well --perturbation full_reset -P 10 --runs 100000
    """
    from sim.random_streams import stream
    from theory.estimate import compare, holm
    from theory.markov_chain import mean_first_passage_time

    toy = make_toy(chain=chain, potential=potential, **settings)
    unperturbed = mean_first_passage_time(toy.chain) if out is not None else math.nan
    directory = None if out is None else _prepared(out, toy, unperturbed)
    chosen = sorted(set(intervals)) or [2, 5, 10, 20]
    comparisons, points = [], {}
    done = runs
    with noted_interrupts() as interrupted, simulation_progress(quiet) as progress:
        for interval in chosen:
            predicted, grid_error = _exact(toy, interval, horizon)
            if math.isinf(predicted):
                raise ValueError(f"P = {interval}: the mean is infinite; give a --horizon at which runs are stopped")
            passages = _simulate(
                toy, interval, horizon, runs, stream(seed, "simulate perturbation", interval), threads, progress
            )
            done = len(passages)
            measured = _estimate(passages)
            comparisons.append(compare(f"P = {interval}", _exactly(predicted), measured, margin=grid_error))
            points[interval] = measured
            if interrupted() or done < runs:
                break
    stopped = done < runs or len(points) < len(chosen)
    comparisons = holm(comparisons)
    if as_json:
        rows = [
            {"interval": interval, "grid_error": c.margin * c.predicted.value, **comparison_json(c)}
            for interval, c in zip(points, comparisons, strict=True)
        ]
        parameters = {"process": toy.name, "perturbation": toy.perturbation, "horizon": horizon, "runs": runs}
        emit_json("simulate perturbation", parameters, seed, {"comparisons": rows, "stopped_early": stopped})
    else:
        quantity = "E[T_P]" if horizon is None else f"E[min(T_P, {horizon})]"
        click.echo(f"{toy.name}, {toy.perturbation} every P epochs: {quantity}")
        print_table(("", "exact", "simulated", "z", "verdict"), [comparison_row(c) for c in comparisons], left=(0, 4))
        print_remarks(comparisons, (), ())
        click.echo(f"{done} runs each; seed {seed}")
        if toy.walk is not None:
            worst = max(c.margin for c in comparisons)
            hint(
                f"the grid's error, up to {worst:.2%} of the exact value, is granted; z counts what is beyond it", quiet
            )
    if directory is not None:
        _write_toy(directory, toy, 100, points if horizon is None else {})
    end_simulation(comparisons, stopped)


def _exactly(value: float) -> Estimate:
    from theory.estimate import Estimate

    return Estimate(value, 0.0, 1)


def _estimate(times: Any) -> Estimate:
    from theory.estimate import Estimate

    return Estimate.from_samples(times)


def _exact(toy: Toy, interval: int, horizon: int | None) -> tuple[float, float]:
    """The exact mean, and the relative error that it owes to its grid: what half as many cells would change."""
    from theory.perturbed_chain import periodic_mean, periodic_survival

    def mean(of: Toy) -> float:
        if horizon is None:
            return periodic_mean(of.chain, of.kernel, interval)
        return float(periodic_survival(of.chain, of.kernel, interval, horizon)[:-1].sum())

    exact = mean(toy)
    if toy.grid is None or math.isinf(exact):
        return exact, 0.0
    return exact, abs(mean(toy.coarser()) / exact - 1)


def _simulate(
    toy: Toy, interval: int, horizon: int | None, runs: int, rng: Any, threads: int | None, progress: Any
) -> Any:
    """Times of the runs, or the horizon of those stopped there, in epochs."""
    from sim.perturbation import simulate_perturbed
    from theory.chain_sampling import sample_first_passages

    last = horizon or 10**9
    if toy.walk is None:
        return sample_first_passages(
            toy.chain, runs, rng, horizon=last, perturbation=toy.kernel, interval=interval
        ).times
    return simulate_perturbed(
        toy.walk,
        runs,
        rng,
        horizon=last,
        perturbation=toy.change,
        interval=interval,
        threads=threads,
        progress=progress,
    ).times


def _prepared(out: Path, toy: Toy, unperturbed: float) -> Path:
    """The directory, if there will be something to write."""
    if math.isinf(unperturbed):
        raise ValueError(f"{toy.name} may never meet its target without perturbation: there is no speed-up to draw")
    return prepared_directory(out)


def _write_toy(out: Path, toy: Toy, branch_epoch: int, simulated: dict[int, Estimate]) -> None:
    """``perturbed_mean.csv``, ``speed_up.png`` and, for a coordinate, ``quasi_steady_state.png``."""
    from figures.toy_processes import figure_speed_ups, figure_survivors

    intervals = sorted({*range(1, 11), *(12, 15, 20, 30, 50, 70, 100), *simulated})
    means = _toy_means(toy, intervals, branch_epoch)
    write_records(out / "perturbed_mean.csv", _toy_rows(means))
    figure = figure_speed_ups(f"{toy.name}, {toy.perturbation}", means, list(simulated.items()))
    write_figure(out / "speed_up.png", figure)
    if toy.walk is not None and toy.grid is not None:
        survivors = figure_survivors(toy.name, toy.walk, toy.grid, toy.kernel, toy.perturbation)
        write_figure(out / "quasi_steady_state.png", survivors)
