"""``jostle predict activation-temperature`` and ``jostle simulate activation-temperature``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.activation_temperature_comparisons import (
    FEWEST,
    LARGEST_GAIN,
    LEAST_GAIN,
    MEASUREMENTS,
    Setting,
    boundary_comparisons,
    channels_in_words,
    flip_comparisons,
    loop_comparisons,
)
from commands.files import prepared_directory, write_comparisons, write_figure, write_records
from commands.options import out_option, output_options, simulation_options, with_options
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
    from sim.activation_temperature import SimulatedFlips
    from sim.ensemble import Progress
    from theory.estimate import Comparison

TEMPERATURES = (0.1, 0.5, 1.0, 2.0, 3.0, 3.17, 5.0, 8.0)
GAMMAS = (0.5, 1.0, 2.0)
RATIOS = (0.5, 1.0, 1.5, 2.5)
CHANNELS = (1, 16, 64)
STRIDES = (0.01, 0.1, 1.0)
PROGRESS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


_options = with_options(
    click.option("--rate-at-one", default=0.1, show_default=True, help="The learning rate at which T = 1, e^mu: > 0."),
    click.option("--sigma", default=1.2, show_default=True, help="Of the network's erf link, > 0."),
    click.option("--t-start", default=3.17, show_default=True, help="T at which cooling begins [bits]."),
    click.option(
        "--sigma-ratio",
        "ratios",
        multiple=True,
        type=float,
        default=RATIOS,
        show_default=True,
        help="The controller's sigma over the network's, repeatable; from 2 on the loop is unstable.",
    ),
    click.option(
        "--patterns", default=8192, show_default=True, type=click.IntRange(1, 10**9), help="N, counted for each T."
    ),
    click.option(
        "--drift", default=0.02, show_default=True, help="Of the network's link between two measurements, in ln(rate)."
    ),
)


def _setting(
    rate_at_one: float, sigma: float, t_start: float, ratios: Sequence[float], patterns: int, drift: float
) -> Setting:
    from theory.activation_temperature import hottest_temperature

    if not 1e-50 <= rate_at_one <= 1e50:
        raise ValueError(f"--rate-at-one {rate_at_one:g} must lie between 1e-50 and 1e+50")
    if not 0.01 <= sigma <= 10:
        raise ValueError(f"--sigma {sigma:g} must lie between 0.01 and 10")
    if not 0 < t_start < hottest_temperature(patterns):
        raise ValueError(
            f"--t-start {t_start:g} must be > 0 and below {hottest_temperature(patterns):.4g}, the hottest that "
            f"{patterns} patterns can show"
        )
    if not math.isfinite(drift):
        raise ValueError(f"--drift {drift} must be finite")
    for ratio in ratios:
        if not 0.001 <= ratio <= 1000:
            raise ValueError(f"--sigma-ratio {ratio:g} must lie between 0.001 and 1000")
    return Setting(rate_at_one, sigma, t_start, tuple(dict.fromkeys(ratios)), patterns, drift)


# ---- predict ---------------------------------------------------------------------------------------------------------


def _temperature_rows(setting: Setting, temperatures: Sequence[float]) -> list[dict[str, float]]:
    """T, P, learning rates by both links, and the loop of the paper where T is proportional to the rate."""
    from theory.activation_temperature import (
        CloglogLink,
        critical_stretch,
        loop_gain,
        measurement_deviation,
        share_of,
    )

    erf, cloglog = setting.truth, CloglogLink(math.log(setting.rate_at_one))
    rows = []
    for t in temperatures:
        if not 0 < t < math.inf:
            raise ValueError(f"--temperature {t:g} must be finite and > 0, in bits")
        rows.append(
            {
                "temperature": t,
                "share": float(share_of(t)),
                "rate_erf": _exponential(float(erf.log_rate(t))),
                "rate_cloglog": _exponential(float(cloglog.log_rate(t))),
                "gain": float(loop_gain(erf, cloglog, t)),
                "critical_stretch": float(critical_stretch(erf, cloglog, t)),
                "deviation": float(measurement_deviation(erf, t, setting.patterns)),
            }
        )
    return rows


def _exponential(log_rate: float) -> float:
    """The learning rate; inf beyond all floats."""
    try:
        return math.exp(log_rate)
    except OverflowError:
        return math.inf


def _target_rows(setting: Setting, gammas: Sequence[float], progress: Sequence[float]) -> list[dict[str, float]]:
    from theory.activation_temperature import target_curve

    rows = []
    for gamma in gammas:
        targets = target_curve(progress, gamma, setting.t_start)
        log_rates = setting.truth.log_rate(targets)
        for s, target, log_rate in zip(progress, targets.tolist(), log_rates.tolist(), strict=True):
            rows.append({"gamma": gamma, "progress": s, "target": target, "rate": _exponential(log_rate)})
    return rows


def _loop_rows(setting: Setting) -> list[dict[str, Any]]:
    from theory.activation_temperature import CoolingLoop, measurement_deviation

    rows = []
    for ratio in setting.ratios:
        loop, link = CoolingLoop(ratio), setting.truth.stretched(ratio)
        noise = float(measurement_deviation(link, setting.t_start, setting.patterns)) ** 2
        rows.append(
            {
                "sigma_ratio": ratio,
                "multiplier": loop.multiplier,
                "stable": loop.is_stable,
                "measurements_to_1_percent": max(loop.measurements_until(0.01), 1.0),
                "drift_error": loop.error_of_drift(setting.drift) if loop.is_stable else None,
                "noise_deviation": math.sqrt(loop.variance_of_noise(noise)) if loop.is_stable else None,
            }
        )
    return rows


def _write_predictions(out: Path, setting: Setting, gammas: Sequence[float], tables: dict[str, Any]) -> None:
    import numpy as np

    from figures.activation_temperature import CoolingPlan, figure_cooling_plan
    from theory.activation_temperature import CloglogLink, CoolingLoop, target_curve

    for name, rows in tables.items():
        write_records(out / f"{name}.csv", rows)
    rates = setting.rate_at_one * np.geomspace(1e-3, 1e3, 121)
    progress = np.linspace(0.0, 1.0, 101)
    steps = np.arange(16)
    plan = CoolingPlan(
        rates,
        {
            f"erf, $\\sigma$ = {setting.sigma:g}": setting.truth.temperature(np.log(rates)),
            "cloglog, $T\\propto\\lambda$": CloglogLink(math.log(setting.rate_at_one)).temperature(np.log(rates)),
        },
        setting.t_start,
        progress,
        {f"{gamma:g}": target_curve(progress, gamma, setting.t_start) for gamma in gammas},
        {f"{ratio:g}": CoolingLoop(ratio).error_after(1.0, steps) for ratio in setting.ratios},
    )
    write_figure(out / "activation_temperature.png", figure_cooling_plan(plan))


@click.command(
    "activation-temperature",
    short_help="Temperatures and learning rates, targets to cool along, stability of the loop.",
)
@_options
@click.option(
    "--temperature",
    "temperatures",
    multiple=True,
    type=float,
    default=TEMPERATURES,
    show_default=True,
    help="T [bits], repeatable.",
)
@click.option(
    "--gamma",
    "gammas",
    multiple=True,
    type=float,
    default=GAMMAS,
    show_default=True,
    help="Exponent of a target C = t-start (1 - s^gamma), repeatable.",
)
@out_option
@output_options
def predict_activation_temperature(
    temperatures: Sequence[float],
    gammas: Sequence[float],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Temperatures of activation patterns and learning rates, targets to cool along, and the stability of the loop.

    \b
    jostle predict activation-temperature --sigma 1.2 --rate-at-one 0.05
    jostle predict activation-temperature --t-start 1 --gamma 1 --gamma 2 --sigma-ratio 1.5 --out cooling
    """
    from theory.activation_temperature import coldest_temperature, hottest_temperature

    setting = _setting(**given)
    tables = {
        "temperatures": _temperature_rows(setting, temperatures),
        "targets": _target_rows(setting, gammas, PROGRESS),
        "loops": _loop_rows(setting),
    }
    directory = None if out is None else prepared_directory(out)
    coldest, hottest = coldest_temperature(setting.patterns), hottest_temperature(setting.patterns)
    if as_json:
        parameters = setting.parameters() | {"temperatures": list(temperatures), "gammas": list(gammas)}
        result = {"coldest": coldest, "hottest": hottest, **tables}
        emit_json("predict activation-temperature", parameters, None, result)
    else:
        click.echo(f"T of {setting.patterns} patterns: {coldest:.3g} to {hottest:.4g} bits can be seen")
        header = ("T", "P", "rate, erf", "rate, cloglog", "gain r", "critical stretch", "deviation")
        print_table(header, record_cells(tables["temperatures"], 5))
        click.echo("P: share of patterns that change; rate: learning rate, by the paper's link and by T ~ rate")
        click.echo("gain r, critical stretch: of the paper's controller where T ~ rate: unstable from r = 2 on, or if")
        click.echo("sigma were so many times larger; deviation: of a correction of ln(rate), from counting")
        click.echo(f"\ntarget C = {setting.t_start:g} (1 - s^gamma), and the learning rate for it by the erf link:")
        print_table(("gamma", "s", "C", "rate"), record_cells(tables["targets"], 5))
        click.echo(f"\nloops at T = {setting.t_start:g}; errors are of ln(rate):")
        header = ("sigma / true", "multiplier", "stable", "to 1 %", "error by drift", "deviation by counting")
        print_table(header, record_cells(tables["loops"], 5))
    if directory is not None:
        _write_predictions(directory, setting, gammas, tables)


# ---- simulate --------------------------------------------------------------------------------------------------------


def _write_simulation(out: Path, results: dict[str, SimulatedFlips], comparisons: Sequence[Comparison]) -> None:
    import numpy as np

    from figures.activation_temperature import SimulatedShares, figure_flip_shares

    write_comparisons(out / "comparisons.csv", comparisons)
    found = next(iter(results.values()))
    grid = np.geomspace(found.learning_rates.min() / 3, found.learning_rates.max() * 3, 100)
    strides = np.unique(np.concatenate([grid, found.learning_rates]))
    contents = [
        SimulatedShares(
            channels_in_words(each.flips.channels),
            strides,
            each.flips.share(np.log(strides)),
            tuple(zip(each.learning_rates.tolist(), each.shares, strict=True)),
        )
        for each in results.values()
    ]
    write_figure(out / "flips.png", figure_flip_shares(contents))


@click.command("activation-temperature", short_help="Flips of random walks, and cooling in closed loop, beside theory.")
@_options
@click.option(
    "--channels",
    multiple=True,
    type=click.IntRange(1, 10**4),
    default=CHANNELS,
    show_default=True,
    help="ReLUs in a pattern of the random walk, repeatable.",
)
@click.option(
    "--step",
    "strides",
    multiple=True,
    type=float,
    default=STRIDES,
    show_default=True,
    help="Of the walk, in standard deviations of a pre-activation, repeatable.",
)
@click.option("--volatility", default=0.02, show_default=True, help="Standard deviation of a random drift, >= 0.")
@simulation_options(runs=400)
@output_options
def simulate_activation_temperature(
    channels: Sequence[int],
    strides: Sequence[float],
    volatility: float,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Flips of random walks, cooling in closed loop, and its stability, beside theory. Exit code 3 if they disagree.

    \b
    jostle simulate activation-temperature --channels 16 --step 0.05
    jostle simulate activation-temperature --sigma-ratio 0.7 --drift 0.05 --volatility 0 --out loops
    """
    from sim.activation_temperature import simulate_flips
    from sim.random_streams import stream
    from theory.activation_temperature import GaussianFlips, coldest_temperature
    from theory.estimate import holm

    setting = _setting(**given)
    if not all(0 < stride < math.inf for stride in strides):
        raise ValueError(f"--step {', '.join(f'{each:g}' for each in strides)} must be finite and > 0")
    if volatility and not 1e-6 <= volatility < math.inf:
        raise ValueError(f"--volatility {volatility:g} must be finite and >= 1e-06, or 0")
    coldest = coldest_temperature(setting.patterns)
    if setting.t_start < coldest:
        raise ValueError(
            f"--t-start {setting.t_start:g} must be at least {coldest:.3g}, the coldest that {setting.patterns} "
            "patterns can show: a loop cannot be closed below"
        )
    directory = None if out is None else prepared_directory(out)
    chosen = {str(count): count for count in channels}

    def simulate(name: str, progress: Progress | None) -> SimulatedFlips:
        return simulate_flips(
            GaussianFlips(chosen[name], 1.0),
            sorted(set(strides)),
            stream(seed, "simulate activation-temperature flips", chosen[name]),
            replicas=runs,
            threads=threads,
            progress=progress,
        )

    results = simulate_each(list(chosen), simulate, quiet=quiet)
    left, done, stopped = completeness(list(chosen), results)
    missing = [channels_in_words(chosen[name]) for name in left]
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for found in results.values():
        compared, others = flip_comparisons(found)
        comparisons += compared
        left_out += others
    if not stopped:
        comparisons += loop_comparisons(setting, volatility, runs, seed) + boundary_comparisons(setting)
    comparisons = holm(comparisons)
    skipped = [ratio for ratio in setting.ratios if not LEAST_GAIN <= ratio <= LARGEST_GAIN]
    if as_json:
        parameters = setting.parameters() | {"channels": list(channels), "steps": list(strides)}
        rows = [comparison_json(comparison) for comparison in comparisons]
        result = {"comparisons": rows, "not_simulated": missing, "stopped_early": stopped}
        result |= {"not_compared": left_out, "no_steady_state": skipped}
        emit_json(
            "simulate activation-temperature", parameters | {"volatility": volatility, "replicas": runs}, seed, result
        )
    else:
        print_comparisons("quantity", comparisons)
        click.echo(Z_FOOTER)
        if skipped:
            words = ", ".join(f"{ratio:g}" for ratio in skipped)
            click.echo(f"no steady state within {MEASUREMENTS} measurements is compared for sigma x {words}")
        if left_out:
            few = f"fewer than {FEWEST:g} patterns are expected to change, or to stay"
            click.echo(f"not compared, as {few}: {'; '.join(left_out)}")
        print_remarks(comparisons, (), missing)
        click.echo(f"{done} runs; seed {seed}")
    if directory is not None:
        _write_simulation(directory, results, comparisons)
    end_simulation(comparisons, stopped)
