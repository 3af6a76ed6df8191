"""``jostle predict effective-temperature --model mixture`` and the same of ``simulate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import prepared_directory
from commands.mixture_files import write_mixture
from commands.mixture_options import Setting, mixture_options, setting_of
from commands.mixture_results import (
    FINAL,
    FINITE_SIZE,
    OrderResult,
    announce_theory,
    at_time,
    compare_order,
    estimate_of,
    relaxation,
    solve_order,
    unsettled,
)
from commands.mixture_simulations import (
    ConvergencePlan,
    SimulationPlan,
    learned_json,
    print_learned,
    write_learned,
)
from commands.model_choice import model_option
from commands.options import out_option, output_options, seed_option, simulation_options
from commands.shared import STOPPED, emit_json, estimate_json, fail, print_table
from commands.simulations import Z_FOOTER, comparison_json, end_simulation, print_remarks, simulate_each
from commands.words import brief

if TYPE_CHECKING:
    from sim.ensemble import Progress
    from sim.perceptron_convergence import ConvergedPerceptrons
    from theory.estimate import Comparison

MODELS = ("quadratic", "mixture")
"""Of ``effective-temperature``."""

LEARNT = ("overlap m", "norm C", "train loss", "train error", "test error")

SPREAD = ("replica distance", "margin, 1 %", "margin, 10 %", "margin, 50 %")


# ---- predict ---------------------------------------------------------------------------------------------------------


@click.command("effective-temperature")
@model_option(MODELS)
@mixture_options
@seed_option
@out_option
@output_options
def predict_mixture(seed: int, out: Path | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """How hot SGD on a Gaussian mixture is, how far its replicas get apart and how wide its boundaries are.

    Dynamical mean-field theory: exact for infinitely many dimensions, sampled with particles, with errors.

    \b
    jostle predict effective-temperature --model mixture
    jostle predict effective-temperature --model mixture --loss square --order gd:b=0.25 --order bernoulli:b=0.25
    jostle predict effective-temperature --model mixture --loss squared_hinge --sample-ratio 1.5 --noise-variance 1 \\
        --weight-decay 0 --steps 100 --out hinge
    """
    setting = setting_of(**given)
    announce_theory(setting, quiet)
    directory = None if out is None else prepared_directory(out)

    def solve(text: str, progress: Progress | None) -> OrderResult:
        return _solved(setting, text, seed, "predict", progress)

    results = simulate_each(list(setting.orders), solve, quiet=quiet)
    missing = [text for text in setting.orders if text not in results]
    stopped = bool(missing) or any(result.stopped for result in results.values())
    if as_json:
        orders = {text: _order_json(setting, result) for text, result in results.items()}
        record = {"orders": orders, "not_solved": missing, "stopped_early": stopped}
        emit_json("predict effective-temperature", setting.parameters(), seed, record)
    else:
        _print_predictions(setting, results)
        if missing:
            click.echo(f"not solved: {', '.join(missing)}")
        complete = min(len(result.solution.overlap) for result in results.values())
        click.echo(f"{complete} populations of {setting.particles} particles; seed {seed}")
    if directory is not None:
        write_mixture(directory, setting, results)
    if stopped:
        fail("stopped early; the tables hold the populations that were complete", STOPPED)


def _solved(setting: Setting, text: str, seed: int, verb: str, progress: Progress | None) -> OrderResult:
    from sim.random_streams import stream

    rng = stream(seed, f"{verb} effective-temperature mixture theory", list(setting.orders).index(text))
    return solve_order(setting, setting.orders[text], rng, progress)


def _print_predictions(setting: Setting, results: Mapping[str, OrderResult]) -> None:
    click.echo(f"{setting.title}; after {setting.steps} steps:")
    print_table(("order", *LEARNT), _rows(setting, results, LEARNT))
    click.echo("")
    spread = SPREAD[setting.replicas == 1 :]
    print_table(("order", *spread), _rows(setting, results, spread))
    click.echo("margin: so much of the samples has a smaller margin over |w|: the width of the boundary")
    if setting.replicas == 2:
        click.echo("replica distance: |w1 - w2|^2 / N of two trainings of equal start and data, independent batches")
    click.echo(f"\neffective temperature by lag and by slope, from step {setting.start} on:")
    table = []
    for text, result in results.items():
        found = result.temperature
        by_lag = [] if found is None else [brief(temperature) for temperature in found.by_lag]
        slope = "?" if found is None else brief(found.by_slope)
        table.append((text, *by_lag, *["?"] * (len(setting.lags) - len(by_lag)), slope))
        if result.exact is not None:
            exact = _exact_temperature(setting, result)
            table.append(("  exact", *(f"{e.value:.6g}" for e in (*exact.by_lag, exact.by_slope))))
    print_table(("order", *(f"T_eff({n})" for n in setting.lags), "slope"), table)
    click.echo("0.123(4) means 0.123 with a standard error of 0.004")
    for text, result in results.items():
        if result.refusal is not None:
            click.echo(f"? {text}: {result.refusal}")
        _print_stationarity(text, result)
        slow = None if result.temperature is None else unsettled(setting, result)
        if slow is not None:
            click.echo(f"{text}: {slow}")


def _print_stationarity(text: str, result: OrderResult) -> None:
    for reason in () if result.temperature is None else result.temperature.reasons:
        click.echo(f"{text}: {reason}")


def _rows(setting: Setting, results: Mapping[str, OrderResult], names: tuple[str, ...]) -> list[tuple[str, ...]]:
    rows = []
    for text, result in results.items():
        found = [at_time(result.solution, name, setting.steps) for name in names]
        rows.append((text, *(brief(estimate) for estimate in found if estimate is not None)))
        if result.exact is not None:
            known = [at_time(result.exact, name, setting.steps) for name in names]
            rows.append(("  exact", *("" if estimate is None else f"{estimate.value:.6g}" for estimate in known)))
    return rows


def _exact_temperature(setting: Setting, result: OrderResult) -> Any:
    from theory.mean_field_temperature import temperature_of_solution

    assert result.exact is not None
    return temperature_of_solution(result.exact, setting.lags, start=setting.start)


def _order_json(setting: Setting, result: OrderResult) -> dict[str, Any]:
    found, exact = result.temperature, None if result.exact is None else _exact_temperature(setting, result)
    starts = setting.starts(result.selection)
    lags = list(range(1, setting.longest_lag))
    averages = [relaxation(result.solution, starts, n) for n in lags]
    record: dict[str, Any] = {
        "populations": len(result.solution.overlap),
        "final": {name: estimate_json(at_time(result.solution, name, setting.steps)) for name in FINAL},
        "temperature_by_lag": {} if found is None else _by_lag(found.lags, found.by_lag),
        "temperature_by_slope": None if found is None else estimate_json(found.by_slope),
        "drift": None if found is None else estimate_json(found.drift),
        "not_stationary": [] if found is None else list(found.reasons),
        "unsettled": None if found is None else unsettled(setting, result),
        "refused": result.refusal,
        "correlation_lost": _by_lag(lags, [estimate_of(lost) for lost, _, _ in averages]),
        "response": _by_lag(lags, [estimate_of(answer) for _, _, answer in averages]),
        "exact": None,
    }
    if exact is not None:
        final = {name: at_time(result.exact, name, setting.steps) for name in FINAL}
        record["exact"] = {
            "final": {name: estimate.value for name, estimate in final.items() if estimate is not None},
            "temperature_by_lag": {str(n): e.value for n, e in zip(exact.lags, exact.by_lag, strict=True)},
            "temperature_by_slope": exact.by_slope.value,
        }
    return record


def _by_lag(lags: Any, estimates: Any) -> dict[str, Any]:
    return {str(n): estimate_json(estimate) for n, estimate in zip(lags, estimates, strict=True)}


# ---- simulate --------------------------------------------------------------------------------------------------------


@click.command("effective-temperature")
@model_option(MODELS)
@mixture_options
@click.option(
    "--dimensions",
    default=800,
    show_default=True,
    type=click.IntRange(8, 10**5),
    help="N, of the simulation; batches must be whole numbers of the alpha N samples.",
)
@click.option(
    "--until-learned",
    type=click.IntRange(1, 10**7),
    help="Also train until all training samples are right and their mean loss is 1e-4, so many steps at most, and "
    "tell the width of boundaries then: noisier batches take longer.",
)
@simulation_options(runs=48)
@output_options
def simulate_mixture(
    dimensions: int,
    until_learned: int | None,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train perceptrons on a Gaussian mixture and hold them against mean-field theory. Exit code 3 if they disagree.

    \b
    jostle simulate effective-temperature --model mixture
    jostle simulate effective-temperature --model mixture --loss square --order bernoulli:b=0.25 --runs 256
    jostle simulate effective-temperature --model mixture --order persistent:b=0.25,tau=12.8 --dimensions 2000
    jostle simulate effective-temperature --model mixture --loss squared_hinge --sample-ratio 1 --noise-variance 1 \\
        --weight-decay 0 --dimensions 400 --until-learned 5000 --out widths
    """
    from sim.random_streams import stream
    from theory.estimate import holm

    setting = setting_of(**given)
    plan = SimulationPlan(setting, dimensions, runs, threads)
    plan.announce(quiet)
    convergence = None if until_learned is None else ConvergencePlan(setting, dimensions, runs, until_learned, threads)
    if convergence is not None:
        convergence.announce(quiet)
    announce_theory(setting, quiet)
    directory = None if out is None else prepared_directory(out)
    theories: dict[str, OrderResult] = {}

    def run(stage: str, progress: Progress | None) -> OrderResult | ConvergedPerceptrons:
        text, _, what = stage.rpartition(", ")
        if what == "until learned":
            assert convergence is not None
            # The same numbers for all orders: data and starts are the same, and differences know it.
            rng = stream(seed, "simulate effective-temperature mixture until learned", 0)
            return convergence.simulate(setting.orders[text], rng, progress)
        if what == "theory":
            theories[text] = _solved(setting, text, seed, "simulate", progress)
            return theories[text]
        place = list(setting.orders).index(text)
        rng = stream(seed, "simulate effective-temperature mixture", place)
        return theories[text].with_simulation(plan.simulate(setting.orders[text], rng, progress))

    stages = [f"{text}, {what}" for text in setting.orders for what in ("theory", "simulation")]
    if convergence is not None:
        stages += [f"{text}, until learned" for text in setting.orders]
    reached = simulate_each(stages, run, quiet=quiet)
    results: dict[str, OrderResult] = {}
    ended: dict[str, ConvergedPerceptrons] = {}
    for stage, found in reached.items():
        text, _, what = stage.rpartition(", ")
        if not isinstance(found, OrderResult):
            ended[text] = found
        elif what == "simulation":
            results[text] = found
    if not results:
        raise KeyboardInterrupt
    left = [stage for stage in stages if stage not in reached and not stage.endswith(", theory")]
    missing = [stage.removesuffix(", simulation") for stage in left]
    stopped = (
        bool(missing)
        or any(result.stopped for result in results.values())
        or any(found.replicas < found.requested for found in ended.values())
    )
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for text, result in results.items():
        rows, without = compare_order(text, setting, result)
        comparisons += rows
        left_out += without
    comparisons = holm(comparisons)
    if as_json:
        parameters = setting.parameters() | {"dimensions": dimensions, "runs": runs, "until_learned": until_learned}
        record = {"comparisons": [comparison_json(c) for c in comparisons], "not_compared": left_out}
        record |= {"learned": learned_json(ended), "not_simulated": missing, "stopped_early": stopped}
        emit_json("simulate effective-temperature", parameters, seed, record)
    else:
        click.echo(f"{setting.title}; after {setting.steps} steps, temperatures from step {setting.start} on")
        table = [(c.quantity, brief(c.predicted), brief(c.measured), f"{c.z:+.1f}", c.verdict) for c in comparisons]
        print_table(("quantity", "theory", "simulated", "z", "verdict"), table, left=(0, 4))
        click.echo(Z_FOOTER)
        click.echo(
            f"beyond {FINITE_SIZE:g} / N = {FINITE_SIZE / dimensions:.2g} of the value (T_eff: of the highest one): "
            "theory is of infinitely many dimensions"
        )
        click.echo("0.123(4) means 0.123 with a standard error of 0.004")
        print_remarks(comparisons, (), missing)
        for line in left_out:
            click.echo(f"not compared: {line}")
        for text, result in results.items():
            _print_stationarity(text, result)
        if ended:
            print_learned(ended)
        click.echo(f"{min(result.replicas for result in results.values())} runs; seed {seed}")
    if directory is not None:
        write_mixture(directory, setting, results)
        if ended:
            write_learned(directory, setting, ended)
    end_simulation(comparisons, stopped)
