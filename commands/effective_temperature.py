"""``jostle predict effective-temperature`` and ``jostle simulate effective-temperature``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.batch_orders import (
    mode_options,
    mode_parameters,
    parse_modes,
    parse_orders,
    recorded_steps,
    simulate_orders,
)
from commands.shared import (
    comparison_json,
    comparison_row,
    emit_json,
    end_simulation,
    hint,
    output_options,
    print_table,
    simulation_options,
    write_csv,
)

if TYPE_CHECKING:
    import numpy as np

    from sim.effective_temperature import SimulatedTemperatures
    from sim.ensemble import Progress
    from theory.estimate import Comparison, Estimate
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

UNITS = "in units of learning rate times the variance of a batch gradient"

LAGS = (1, 2, 5, 10)
"""For the rows of a table."""

FREQUENCIES = (0.001, 0.01, 0.1, 1.0)

DRAWN = 5
"""The figure has panels for so many curvatures, the lowest."""

FADED = 0.1
"""Lines end where a mode's answer has fallen to this fraction of its highest: soon after, T_eff(n) may be infinite."""

lag_option = click.option("--lag", "lags", multiple=True, type=click.IntRange(1, 10**4), help="n; repeatable.")

Points = dict[str, dict[tuple[float, int], "Estimate"]]


@click.command("effective-temperature")
@mode_options(learning_rate=0.01)
@lag_option
@click.option("--frequency", "frequencies", multiple=True, type=float, help="Radians per update; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for CSV files and a figure.")
@output_options
def predict_effective_temperature(
    learning_rate: float,
    momentum: float,
    batches: int,
    curvatures: tuple[float, ...],
    orders: tuple[str, ...],
    lags: tuple[int, ...],
    frequencies: tuple[float, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """How hot SGD with momentum is at a minimum, for slow and for fast motion, exactly, for any order of the batches.

    \b
    jostle predict effective-temperature --learning-rate 0.01 --momentum 0.9 --batches 50
    jostle predict effective-temperature --order reshuffled --order persistent:correlation=0.9 --lag 1 --lag 5
    jostle predict effective-temperature --frequency 0.01 --frequency 1 --out temperatures
    """
    import math

    import numpy as np

    from theory.effective_temperature import lag_temperature, spectral_temperature, static_temperatures

    noises = parse_orders(orders or ("reshuffled", "with_replacement"), batches)
    modes = parse_modes(learning_rate, momentum, curvatures or _default_curvatures(learning_rate, momentum, batches))
    chosen_lags, chosen = sorted(set(lags or LAGS)), sorted(set(frequencies or FREQUENCIES))
    if not all(0 <= omega <= math.pi for omega in chosen):
        raise ValueError(f"frequencies={chosen} must lie between 0 and pi radians per update")
    static, spectral, lagged = [], [], []
    for order, noise in noises.items():
        temperatures = static_temperatures(modes, noise)
        columns = (temperatures.configurational, temperatures.kinetic, temperatures.equipartition_index)
        for row in zip(np.ravel(modes.curvature), *columns, strict=True):
            scaled = (row[0], row[1] / learning_rate, row[2] / learning_rate, row[3])
            static.append((order, *(float(x) for x in scaled)))
        values = spectral_temperature(modes, noise, chosen) / learning_rate
        spectral += [(order, omega, float(value)) for omega, value in zip(chosen, values, strict=True)]
        at_lags = np.asarray(lag_temperature(modes, noise, chosen_lags)) / learning_rate
        for i, curvature in enumerate(np.ravel(modes.curvature).tolist()):
            lagged += [(order, curvature, n, float(at_lags[k, i])) for k, n in enumerate(chosen_lags)]
    if out is not None:
        _write(out, modes, noises, chosen_lags, {})
    for order, noise in noises.items():
        if noise.lines[0].size:
            hint(f"{order}: the spectrum has lines, infinitely hot, between which only the rest is given", quiet)
    if as_json:
        keys = {
            "static": ("order", "curvature", "configurational", "kinetic", "equipartition_index"),
            "spectral": ("order", "frequency", "temperature"),
            "lags": ("order", "curvature", "lag", "temperature"),
        }
        rows = {"static": static, "spectral": spectral, "lags": lagged}
        result = {name: [dict(zip(keys[name], row, strict=True)) for row in rows[name]] for name in keys}
        parameters = mode_parameters(learning_rate, momentum, batches, modes, noises)
        parameters |= {"lags": chosen_lags, "frequencies": chosen}
        emit_json("predict effective-temperature", parameters, None, {"units": UNITS, **result})
        return
    click.echo(f"temperatures {UNITS}; of independent batches at all frequencies: {_white(momentum):.6g}")
    click.echo()
    header = ("order", "curvature", "configurational", "kinetic", "ratio", *(f"lag {n}" for n in chosen_lags))
    table = []
    for k, (order, *values) in enumerate(static):
        at = [row[3] for row in lagged[k * len(chosen_lags) : (k + 1) * len(chosen_lags)]]
        table.append((order, *(f"{value:.6g}" for value in (*values, *at))))
    print_table(header, table)
    click.echo()
    table = [(order, *(f"{value:.6g}" for name, _, value in spectral if name == order)) for order in noises]
    print_table(("order, any curvature", *(f"frequency {omega:g}" for omega in chosen)), table)


def _white(momentum: float) -> float:
    """Temperature of independent batches."""
    return 1 / (2 * (1 - momentum))


def _default_curvatures(learning_rate: float, momentum: float, batches: int) -> Sequence[float]:
    from theory.weight_variance_limits import crossover_curvature

    return [crossover_curvature(learning_rate, batches, momentum) * 3.0**k for k in (-1, 0, 1, 2)]


@click.command("effective-temperature")
@mode_options(learning_rate=0.01)
@lag_option
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(1, 10**6), help="Recorded; M steps each.")
@click.option("--burn-in", type=click.IntRange(0, 10**7), help="Epochs before; default: 12 relaxation times.")
@simulation_options(runs=256)
@output_options
def simulate_effective_temperature(
    learning_rate: float,
    momentum: float,
    batches: int,
    curvatures: tuple[float, ...],
    orders: tuple[str, ...],
    lags: tuple[int, ...],
    epochs: int,
    burn_in: int | None,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure fluctuations and answers of SGD on a quadratic and hold their ratio against the theory. Exit code 3 if
    they disagree.

    \b
    jostle simulate effective-temperature --batches 50 --curvature 1 --curvature 10 --order reshuffled
    jostle simulate effective-temperature --order persistent:correlation=0.9 --lag 1 --lag 5
    """
    from sim.effective_temperature import simulate_effective_temperature
    from theory.estimate import holm

    noises = parse_orders(orders or ("reshuffled", "with_replacement"), batches)
    modes = parse_modes(learning_rate, momentum, curvatures or _default_curvatures(learning_rate, momentum, batches))
    chosen = sorted(set(lags or LAGS))

    def simulate(noise: GradientNoise, rng: np.random.Generator, progress: Progress | None) -> SimulatedTemperatures:
        return simulate_effective_temperature(
            modes,
            noise,
            rng,
            lags=chosen,
            steps=recorded_steps(noise, epochs, batches),
            burn_in=None if burn_in is None else recorded_steps(noise, burn_in, batches),
            replicas=runs,
            threads=threads,
            progress=progress,
        )

    results = simulate_orders(noises, simulate, name="simulate effective-temperature", seed=seed, quiet=quiet)
    stopped = len(results) < len(noises) or any(found.replicas < runs for found in results.values())
    comparisons, points = _compare(modes, noises, chosen, results)
    comparisons = holm(comparisons)
    if out is not None:
        _write(out, modes, noises, chosen, points)
    if as_json:
        parameters = mode_parameters(learning_rate, momentum, batches, modes, noises)
        parameters |= {"lags": chosen, "epochs": epochs, "burn_in": burn_in, "replicas": runs}
        rows = [comparison_json(c) for c in comparisons]
        result = {"units": UNITS, "comparisons": rows, "stopped_early": stopped}
        emit_json("simulate effective-temperature", parameters, seed, result)
    else:
        click.echo(f"temperatures {UNITS}")
        table = [comparison_row(c) for c in comparisons]
        print_table(("temperature", "theory", "simulated", "z", "verdict"), table, left=(0, 4))
        click.echo(f"{min(found.replicas for found in results.values())} replicas of {epochs} epochs; seed {seed}")
    end_simulation(comparisons, stopped)


def _compare(
    modes: HeavyBall,
    noises: dict[str, GradientNoise],
    lags: Sequence[int],
    results: dict[str, SimulatedTemperatures],
) -> tuple[list[Comparison], Points]:
    """Theory beside simulation; and the temperatures at the lags, by order, curvature and lag."""
    import numpy as np

    from theory.effective_temperature import lag_temperature, static_temperatures
    from theory.estimate import Estimate, compare

    unit = 1 / modes.learning_rate
    curvatures = np.ravel(modes.curvature).tolist()
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
            for curvature, value, estimate in zip(curvatures, values.tolist(), estimates, strict=True):
                what = f"{order}, curvature {curvature:.4g}, {name}"
                comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate))
    return comparisons, points


def _write(
    out: Path, modes: HeavyBall, noises: dict[str, GradientNoise], lags: Sequence[int], simulated: Points
) -> None:
    """``spectra.csv`` and ``lags.csv`` of the lines, ``simulated.csv`` of the points, ``temperatures.png`` of all."""
    import numpy as np

    from figures.effective_temperature import LagTemperatures, figure_effective_temperature
    from figures.style import png_bytes
    from nnval.engine.run_directory import make_directory, write_whole
    from theory.effective_temperature import lag_temperature, response, spectral_temperature
    from theory.heavy_ball import HeavyBall

    unit = modes.learning_rate
    frequencies = np.geomspace(1e-3, np.pi, 801)
    spectra = {order: spectral_temperature(modes, noise, frequencies) / unit for order, noise in noises.items()}
    spectral_rows: list[tuple[Any, ...]] = [("order", "frequency", "temperature")]
    for order, values in spectra.items():
        spectral_rows += [(order, *row) for row in np.stack((frequencies, values), axis=-1).tolist()]
    lag_rows: list[tuple[Any, ...]] = [("order", "curvature", "lag", "temperature")]
    drawn: dict[str, dict[str, LagTemperatures]] = {}
    for place, curvature in enumerate(np.ravel(modes.curvature).tolist()):
        mode = HeavyBall(modes.learning_rate, curvature, modes.momentum)
        answers = response(mode, np.arange(1, 4 * max(lags) + 1))
        faded = np.flatnonzero(answers[answers.argmax() :] < FADED * answers.max())
        line = np.arange(1, len(answers) + 1 if not faded.size else int(answers.argmax() + faded[0]) + 1)
        panel = {}
        for order, noise in noises.items():
            values = lag_temperature(mode, noise, line) / unit
            points = [(float(n), e) for (at, n), e in simulated.get(order, {}).items() if at == curvature]
            panel[order] = LagTemperatures(line, values, points)
            lag_rows += [(order, curvature, n, v) for n, v in zip(line.tolist(), values.tolist(), strict=True)]
        if place < DRAWN:
            drawn[f"curvature {curvature:.3g}"] = panel
    title = f"learning rate {modes.learning_rate:g}, momentum {modes.momentum:g}"
    label = "effective temperature / (ησ²)"
    figure = figure_effective_temperature(
        title, frequencies, spectra, drawn, white=_white(modes.momentum), y_label=label
    )
    make_directory(out)
    write_csv(out / "spectra.csv", spectral_rows)
    write_csv(out / "lags.csv", lag_rows)
    if simulated:
        rows: list[tuple[Any, ...]] = [("order", "curvature", "lag", "temperature", "standard_error", "replicas")]
        for order, found in simulated.items():
            rows += [(order, at, n, e.value, e.standard_error, e.n) for (at, n), e in found.items()]
        write_csv(out / "simulated.csv", rows)
    write_whole(out / "temperatures.png", png_bytes(figure))
