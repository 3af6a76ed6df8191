"""``jostle predict effective-temperature`` and ``jostle simulate effective-temperature``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.batch_orders import (
    Quadratic,
    check_flattest,
    mode_options,
    quadratic_of,
    simulate_orders,
    window_options,
)
from commands.effective_temperature_files import Points, white_temperature, write_temperatures
from commands.files import prepared_directory, write_comparisons
from commands.mixture_temperature import MODELS, predict_mixture, simulate_mixture
from commands.model_choice import ModelCommand, model_option
from commands.options import out_option, output_options, simulation_options, with_options
from commands.shared import emit_json, hint, print_table
from commands.simulations import (
    Z_FOOTER,
    comparison_json,
    completeness,
    end_simulation,
    print_comparisons,
    print_remarks,
)

if TYPE_CHECKING:
    from sim.effective_temperature import SimulatedTemperatures
    from theory.estimate import Comparison
    from theory.gradient_noise import GradientNoise

UNITS = "in units of learning rate times the variance of a batch gradient"

LAGS = (1, 2, 5, 10)
"""For the rows of a table."""

MOST_ROWS = 20
"""Of a simulation beside theory: more are shortened to those that decide."""

FREQUENCIES = (0.001, 0.01, 0.1, 1.0)

SLOW_BATCHES = 10**5
"""Temperatures at lags take time in proportion to the batches that are correlated; so many take a second."""

MOST_LINES = 1000
"""Of a spectrum, that ``--json`` lists; there are as many as batches."""

_options = with_options(
    mode_options(),
    click.option(
        "--lag",
        "lags",
        multiple=True,
        type=click.IntRange(1, 10**4),
        help="n, updates between a force and the answer, repeatable: T_eff(n) is the temperature that both would have "
        f"in equilibrium. Default: {', '.join(map(str, LAGS))}.",
    ),
)


@click.command("effective-temperature")
@model_option(MODELS)
@_options
@click.option(
    "--frequency",
    "frequencies",
    multiple=True,
    type=float,
    help="omega, of slow (0) to fast (pi) motion, in radians per update, repeatable; T_eff(omega) is the same for all "
    f"curvatures. Default: {', '.join(f'{omega:g}' for omega in FREQUENCIES)}.",
)
@out_option
@output_options
def predict_quadratic(
    lags: tuple[int, ...],
    frequencies: tuple[float, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """How hot SGD with momentum is at a minimum, for slow and for fast motion, exactly, for any order of the batches.

    \b
    jostle predict effective-temperature --learning-rate 0.01 --momentum 0.9 --batches 50
    jostle predict effective-temperature --order reshuffled --order persistent:correlation=0.9 --lag 1 --lag 5
    jostle predict effective-temperature --frequency 0.01 --frequency 1 --out temperatures
    """
    import numpy as np

    from theory.effective_temperature import lag_temperature, spectral_temperature, static_temperatures

    quadratic = quadratic_of(**given)
    modes, noises, unit = quadratic.modes, quadratic.noises, quadratic.modes.learning_rate
    chosen_lags, chosen = sorted(set(lags or LAGS)), sorted(set(frequencies or FREQUENCIES))
    wrong = [omega for omega in chosen if not 0 <= omega <= math.pi]
    if wrong:
        raise ValueError(f"--frequency {wrong[0]:g} must lie between 0 and pi radians per update")
    directory = None if out is None else prepared_directory(out)
    if quadratic.batches * max(getattr(noise, "epochs", 1) for noise in noises.values()) > SLOW_BATCHES:
        hint("temperatures at lags take seconds for so many batches", quiet)
    static, spectral, lagged = [], [], []
    for order, noise in noises.items():
        temperatures = static_temperatures(modes, noise)
        columns = (temperatures.configurational, temperatures.kinetic, temperatures.equipartition_index)
        for row in zip(quadratic.curvatures, *columns, strict=True):
            scaled = (row[0], row[1] / unit, row[2] / unit, row[3])
            static.append((order, *(float(x) for x in scaled)))
        values = spectral_temperature(modes, noise, chosen) / unit
        spectral += [(order, omega, float(value)) for omega, value in zip(chosen, values, strict=True)]
        at_lags = np.asarray(lag_temperature(modes, noise, chosen_lags)) / unit
        for i, curvature in enumerate(quadratic.curvatures):
            lagged += [(order, curvature, n, float(at_lags[k, i])) for k, n in enumerate(chosen_lags)]
    if as_json:
        keys = {
            "static": ("order", "curvature", "configurational", "kinetic", "equipartition_index"),
            "spectral": ("order", "frequency", "temperature"),
            "lags": ("order", "curvature", "lag", "temperature"),
        }
        rows = {"static": static, "spectral": spectral, "lags": lagged}
        result = {name: [dict(zip(keys[name], row, strict=True)) for row in rows[name]] for name in keys}
        result["lines"] = [line for order, noise in noises.items() if (line := _lines_json(order, noise))]
        parameters = quadratic.parameters() | {"lags": chosen_lags, "frequencies": chosen}
        emit_json("predict effective-temperature", parameters, None, {"units": UNITS, **result})
    else:
        white = white_temperature(modes.momentum)
        click.echo(f"temperatures {UNITS}; of independent batches at all frequencies: {white:.6g}")
        click.echo()
        header = ("order", "curvature", "configurational", "kinetic", "ratio", *(f"lag {n}" for n in chosen_lags))
        table = []
        for k, (order, *values) in enumerate(static):
            at = [row[3] for row in lagged[k * len(chosen_lags) : (k + 1) * len(chosen_lags)]]
            table.append((order, *(f"{value:.6g}" for value in (*values, *at))))
        print_table(header, table)
        _print_footer(quadratic)
        click.echo()
        remarks = {order: remark for order, noise in noises.items() if (remark := _lines_remark(noise))}
        table = [
            (f"{order} *" if order in remarks else order, *(f"{x:.6g}" for name, _, x in spectral if name == order))
            for order in noises
        ]
        print_table(("order, any curvature", *(f"frequency {omega:g}" for omega in chosen)), table)
        for order, remark in remarks.items():
            click.echo(f"* {order}: {remark}")
    if directory is not None:
        write_temperatures(directory, quadratic, chosen_lags, {})


def _print_footer(quadratic: Quadratic) -> None:
    click.echo(
        "configurational = curvature * Var(theta), kinetic = (1 + beta) / (2 eta) * Var(v), ratio: 1 in equilibrium\n"
        "lag n: T_eff(n), from the answer to a force n updates before; may be negative far from equilibrium"
    )
    if quadratic.footer:
        click.echo(quadratic.footer)


def _lines_remark(noise: GradientNoise) -> str | None:
    """Where a spectrum that is mostly single frequencies has them."""
    from theory.gradient_noise import ReshuffledEvery

    frequencies, variances = noise.lines
    if frequencies.size:
        where = f"{frequencies.size} lines at 2 pi k / {frequencies.size + 1}, each of variance {variances[0]:.4g}"
        return f"{where}, infinitely hot; between them is nothing"
    if isinstance(noise, ReshuffledEvery) and noise.epochs > 1:
        width = math.tau / (noise.batches_per_epoch * noise.epochs)
        return f"peaks at 2 pi k / {noise.batches_per_epoch} of width {width:.3g}, about {noise.epochs} times as hot"
    return None


def _lines_json(order: str, noise: GradientNoise) -> dict[str, Any] | None:
    """Lines in (0, 2 pi) with their variances, or peaks with those of lines in their place; the lowest of them."""
    import numpy as np

    from theory.gradient_noise import ReshuffledEvery

    frequencies, variances = noise.lines
    width = 0.0
    if isinstance(noise, ReshuffledEvery) and noise.epochs > 1:
        count = noise.batches_per_epoch - 1
        frequencies = math.tau * np.arange(1, count + 1) / noise.batches_per_epoch
        variances, width = np.full(count, noise.variance / count), math.tau / (noise.batches_per_epoch * noise.epochs)
    if not frequencies.size:
        return None
    return {
        "order": order,
        "number": frequencies.size,
        "width": width,
        "frequencies": frequencies[:MOST_LINES].tolist(),
        "variances": variances[:MOST_LINES].tolist(),
    }


@click.command("effective-temperature")
@model_option(MODELS)
@_options
@window_options
@simulation_options(runs=256)
@output_options
def simulate_quadratic(
    curvatures: tuple[float, ...],
    lags: tuple[int, ...],
    epochs: int,
    burn_in: int | None,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Measure fluctuations and answers of SGD on a quadratic and hold their ratio against the theory. Exit code 3 if
    they disagree.

    \b
    jostle simulate effective-temperature --batches 50 --curvature 1 --curvature 10 --order reshuffled
    jostle simulate effective-temperature --order persistent:correlation=0.9 --lag 1 --lag 5
    """
    from sim.effective_temperature import simulate_effective_temperature
    from theory.estimate import holm

    quadratic, chosen = quadratic_of(curvatures=curvatures, **given), sorted(set(lags or LAGS))
    if 0 in curvatures:
        raise ValueError("--curvature 0: simulated temperatures need a curvature > 0; leave it out")
    if burn_in is None:
        check_flattest(quadratic.modes)
    directory = None if out is None else prepared_directory(out)
    results = simulate_orders(
        quadratic,
        simulate_effective_temperature,
        name="simulate effective-temperature",
        seed=seed,
        epochs=epochs,
        burn_in=burn_in,
        quiet=quiet,
        lags=chosen,
        replicas=runs,
        threads=threads,
    )
    missing, done, stopped = completeness(list(quadratic.noises), results)
    comparisons, points = _compare(quadratic, chosen, results, quadratic.forgets_too_late(burn_in))
    comparisons = holm(comparisons)
    if as_json:
        parameters = quadratic.parameters()
        parameters |= {"lags": chosen, "epochs": epochs, "burn_in": burn_in, "replicas": runs}
        rows = [comparison_json(c) for c in comparisons]
        result = {"units": UNITS, "comparisons": rows, "not_simulated": missing, "stopped_early": stopped}
        emit_json("simulate effective-temperature", parameters, seed, result)
    else:
        click.echo(f"temperatures {UNITS}")
        shown = _deciding(comparisons)
        print_comparisons("temperature", shown)
        if len(shown) < len(comparisons):
            click.echo(
                f"{len(shown)} of {len(comparisons)} rows: of each order and temperature the curvature with the "
                "largest |z|,\nand all that disagree; --json and --out have all"
            )
        _print_footer(quadratic)
        click.echo(Z_FOOTER)
        print_remarks(comparisons, (), missing)
        click.echo(f"{done} runs of {epochs} epochs; seed {seed}")
    if directory is not None:
        write_temperatures(directory, quadratic, chosen, points)
        write_comparisons(directory / "comparisons.csv", comparisons)
    end_simulation(comparisons, stopped)


def _deciding(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Of each order and temperature the curvature with the largest |z| (inside its regime, if any is), and all that
    disagree; all rows, if there are few.
    """
    if len(comparisons) <= MOST_ROWS:
        return list(comparisons)
    largest: dict[str, Comparison] = {}
    for each in comparisons:
        group = re.sub(r", curvature [^,]*", "", each.quantity)
        largest[group] = max(largest.get(group, each), each, key=lambda c: (not c.reasons, abs(c.z)))
    return [each for each in comparisons if each.verdict == "disagrees" or any(each is c for c in largest.values())]


def _compare(
    quadratic: Quadratic,
    lags: Sequence[int],
    results: dict[str, SimulatedTemperatures],
    reasons: dict[str, list[tuple[str, ...]]],
) -> tuple[list[Comparison], Points]:
    """Theory beside simulation; and the temperatures at the lags, by order, curvature and lag."""
    from theory.effective_temperature import lag_temperature, static_temperatures
    from theory.estimate import Estimate, compare

    modes, noises, curvatures = quadratic.modes, quadratic.noises, quadratic.curvatures
    unit = 1 / modes.learning_rate
    comparisons: list[Comparison] = []
    points: Points = {}
    for order, found in results.items():
        exact = static_temperatures(modes, noises[order])
        quantities = [
            ("configurational", exact.configurational * unit, [e.scaled(unit) for e in found.configurational]),
            ("kinetic", exact.kinetic * unit, [e.scaled(unit) for e in found.kinetic]),
            ("ratio", exact.equipartition_index, list(found.equipartition_index)),
        ]
        points[order] = {}
        for lag, values in zip(lags, lag_temperature(modes, noises[order], lags) * unit, strict=True):
            estimates = [e.scaled(unit) for e in found.temperature(lag)]
            quantities.append((f"lag {lag}", values, estimates))
            points[order] |= {(at, lag): estimate for at, estimate in zip(curvatures, estimates, strict=True)}
        for name, values, estimates in quantities:
            rows = zip(curvatures, values.tolist(), estimates, reasons[order], strict=True)
            for curvature, value, estimate, why in rows:
                what = f"{order}, curvature {curvature:.4g}, {name}"
                comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate, reasons=why))
    return comparisons, points


predict_effective_temperature = ModelCommand(
    "effective-temperature",
    dict(zip(MODELS, (predict_quadratic, predict_mixture), strict=True)),
    short_help="How hot SGD is: at a minimum, or training a perceptron on a Gaussian mixture.",
    help="""How hot SGD is: at the minimum of a quadratic, exactly, or training a perceptron on a Gaussian mixture, by
    mean-field theory, with the distance of replicas and the width of boundaries.

    \b
    jostle predict effective-temperature --learning-rate 0.01 --momentum 0.9 --batches 50
    jostle predict effective-temperature --order reshuffled --order persistent:correlation=0.9 --out temperatures
    jostle predict effective-temperature --model mixture --out mixture
    jostle predict effective-temperature --model mixture --loss square --order bernoulli:b=0.25
    """,
)
"""Of all models."""

simulate_effective_temperature = ModelCommand(
    "effective-temperature",
    dict(zip(MODELS, (simulate_quadratic, simulate_mixture), strict=True)),
    short_help="SGD on a quadratic or a perceptron, beside the theory of its temperature.",
    help="""SGD on a quadratic, or on a perceptron and a Gaussian mixture, held against the theory of its temperature.
    Exit code 3 if they disagree.

    \b
    jostle simulate effective-temperature --batches 50 --curvature 1 --curvature 10 --order reshuffled
    jostle simulate effective-temperature --order persistent:correlation=0.9 --lag 1 --lag 5
    jostle simulate effective-temperature --model mixture
    jostle simulate effective-temperature --model mixture --order bernoulli:b=0.25 --dimensions 2000
    """,
)
"""Of all models."""
