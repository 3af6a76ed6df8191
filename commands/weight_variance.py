"""``jostle predict weight-variance`` and ``jostle simulate weight-variance``."""

from __future__ import annotations

import math
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
    output_options,
    print_table,
    simulation_options,
    write_csv,
)

if TYPE_CHECKING:
    import numpy as np

    from sim.ensemble import Progress
    from sim.weight_variance import SimulatedVariances
    from theory.estimate import Comparison, Estimate
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

UNITS = "in units of (learning rate)^2 times the variance of a batch gradient"

QUANTITIES = ("weight_variance", "velocity_variance", "correlation_time")

Points = dict[str, list[tuple[float, "Estimate"]]]
"""Order -> (curvature or lag, what was measured there)."""


@click.command("weight-variance")
@mode_options(learning_rate=0.01)
@click.option("--latex", is_flag=True, help="Print the derivation of the closed forms, in LaTeX.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for a CSV file and a figure.")
@output_options
def predict_weight_variance(
    learning_rate: float,
    momentum: float,
    batches: int,
    curvatures: tuple[float, ...],
    orders: tuple[str, ...],
    latex: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Variance of weights and velocities of SGD with momentum at a minimum, exactly, for any order of the batches.

    \b
    jostle predict weight-variance --learning-rate 0.01 --momentum 0.9 --batches 50
    jostle predict weight-variance --curvature 0.1 --order reshuffled --order shuffled_once
    jostle predict weight-variance --latex
    """
    if latex:
        from theory.symbolic_weight_variance import derivation_names, derive

        for name in derivation_names():
            click.echo(f"% {name}")
            click.echo(derive(name).latex())
        return
    import numpy as np

    from theory.weight_variance import stationary_variances
    from theory.weight_variance_limits import crossover_curvature

    noises = parse_orders(orders or ("reshuffled", "with_replacement"), batches)
    parse_modes(learning_rate, momentum, ())  # refuses what would divide by zero
    steepest = 2 * (1 + momentum) / learning_rate
    chosen = curvatures or [steepest * 10.0**-k for k in (6, 5, 4, 3, 2, 1)]
    modes = parse_modes(learning_rate, momentum, chosen)
    crossover = crossover_curvature(learning_rate, batches, momentum)
    unit = learning_rate**2
    rows = []
    for order, noise in noises.items():
        variances = stationary_variances(modes, noise)
        columns = (modes.curvature, variances.weight / unit, variances.velocity / unit, variances.correlation_time)
        rows += [(order, *row) for row in np.stack(columns, axis=-1).tolist()]
    if out is not None:
        _write(out, modes, noises, crossover, {}, {})
    if as_json:
        keys = ("order", "curvature", "weight_variance", "velocity_variance", "correlation_time")
        result = {
            "crossover_curvature": crossover,
            "units": UNITS,
            "directions": [dict(zip(keys, r, strict=True)) for r in rows],
        }
        emit_json(
            "predict weight-variance", mode_parameters(learning_rate, momentum, batches, modes, noises), None, result
        )
        return
    click.echo(f"variances {UNITS}; correlation time in updates")
    click.echo(f"reshuffling suppresses weight variance below a curvature of about {crossover:.4g}")
    table = [(order, *(f"{value:.6g}" for value in row)) for order, *row in rows]
    print_table(("order", "curvature", "weight variance", "velocity variance", "correlation time"), table)


def _write(
    out: Path,
    modes: HeavyBall,
    noises: dict[str, GradientNoise],
    crossover: float,
    simulated: dict[str, Points],
    measured: Points,
) -> None:
    """``variances.csv`` over all curvatures, ``simulated.csv`` and ``noise.csv`` of the points, and both figures."""
    import numpy as np

    from figures.style import png_bytes
    from figures.weight_variance import NoiseAutocovariance, NoiseVariances, figure_autocovariance, figure_variances
    from nnval.engine.run_directory import make_directory, write_whole
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances

    steepest = 2 * (1 + modes.momentum) / modes.learning_rate
    given = np.ravel(modes.curvature)
    flattest = min(1e-6 * steepest, float(given[given > 0].min(initial=steepest)))
    fine = HeavyBall(modes.learning_rate, np.geomspace(flattest, 0.95 * steepest, 241), modes.momentum)
    unit = modes.learning_rate**-2
    drawn, lines = {}, [("order", "curvature", *QUANTITIES)]
    for order, noise in noises.items():
        exact = stationary_variances(fine, noise).scaled(unit)
        points = (simulated[name].get(order, []) for name in QUANTITIES) if simulated else ()
        drawn[order] = NoiseVariances(np.ravel(fine.curvature), exact, *points)
        columns = (fine.curvature, exact.weight, exact.velocity, exact.correlation_time)
        lines += [(order, *row) for row in np.stack(columns, axis=-1).tolist()]
    batches = [b for noise in noises.values() if (b := getattr(noise, "batches_per_epoch", None)) is not None]
    lags = np.arange(2 * max(batches, default=10) + 1)
    correlations = {
        order: NoiseAutocovariance(lags, noise.autocovariance(lags), measured.get(order, []))
        for order, noise in noises.items()
    }
    title = f"learning rate {modes.learning_rate:g}, momentum {modes.momentum:g}"
    labels = ("weight variance / (η²σ²)", "velocity variance / (η²σ²)", "correlation time [updates]")
    figures = {
        "variances": figure_variances(title, drawn, crossover=crossover, x_label="curvature λ", y_labels=labels),
        "autocovariance": figure_autocovariance(
            "gradient noise of unit variance", correlations, batches_per_epoch=batches[0] if batches else None
        ),
    }
    make_directory(out)
    write_csv(out / "variances.csv", lines)
    if simulated:
        _write_points(out / "simulated.csv", ("quantity", "order", "curvature"), simulated)
        _write_points(out / "noise.csv", ("quantity", "order", "lag"), {"autocovariance": measured})
    for name, figure in figures.items():
        write_whole(out / f"{name}.png", png_bytes(figure))


def _write_points(path: Path, keys: tuple[str, str, str], points: dict[str, Points]) -> None:
    rows: list[tuple[Any, ...]] = [(*keys, "value", "standard_error", "replicas")]
    for quantity, of_orders in points.items():
        for order, found in of_orders.items():
            rows += [(quantity, order, at, e.value, e.standard_error, e.n) for at, e in found]
    write_csv(path, rows)


@click.command("weight-variance")
@mode_options(learning_rate=0.01)
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(1, 10**6), help="Recorded; M steps each.")
@click.option("--burn-in", type=click.IntRange(0, 10**7), help="Epochs before; default: 12 relaxation times.")
@click.option(
    "--batch-size",
    default=4,
    show_default=True,
    type=click.IntRange(1, 10**4),
    help="S, of real batches of indices, whose noise is measured beside.",
)
@simulation_options(runs=256)
@output_options
def simulate_weight_variance(
    learning_rate: float,
    momentum: float,
    batches: int,
    curvatures: tuple[float, ...],
    orders: tuple[str, ...],
    epochs: int,
    burn_in: int | None,
    batch_size: int,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate SGD with momentum on a quadratic, beside the theory of its variances. Exit code 3 if they disagree.

    The noise of the simulation is Gaussian, correlated as the order of the batches makes it. That real batches of
    indices make noise of this correlation is measured too, at fixed weights.

    \b
    jostle simulate weight-variance --batches 50 --curvature 1 --curvature 10 --order reshuffled
    """
    from sim.weight_variance import simulate_weight_variance
    from theory.estimate import holm
    from theory.weight_variance_limits import crossover_curvature

    noises = parse_orders(orders or ("reshuffled", "with_replacement"), batches)
    crossover = crossover_curvature(learning_rate, batches, momentum)
    modes = parse_modes(learning_rate, momentum, curvatures or [crossover * 3.0**k for k in (-1, 0, 1, 2)])

    def simulate(noise: GradientNoise, rng: np.random.Generator, progress: Progress | None) -> SimulatedVariances:
        return simulate_weight_variance(
            modes,
            noise,
            rng,
            steps=recorded_steps(noise, epochs, batches),
            burn_in=None if burn_in is None else recorded_steps(noise, burn_in, batches),
            replicas=runs,
            threads=threads,
            progress=progress,
        )

    results = simulate_orders(noises, simulate, name="simulate weight-variance", seed=seed, quiet=quiet)
    stopped = len(results) < len(noises) or any(found.replicas < runs for found in results.values())
    comparisons, points = _compare_variances(modes, noises, results)
    measured = {} if stopped else _measured_noise(noises, batches, batch_size, seed)
    compared_lags = {0, 1, batches - 1, batches}
    comparisons = holm(comparisons + _compare_noise(noises, measured, compared_lags))
    if out is not None:
        _write(out, modes, noises, crossover, points, measured)
    done = min(found.replicas for found in results.values())
    if as_json:
        parameters = mode_parameters(learning_rate, momentum, batches, modes, noises)
        parameters |= {"epochs": epochs, "burn_in": burn_in, "batch_size": batch_size, "replicas": runs}
        rows = [comparison_json(c) for c in comparisons]
        emit_json("simulate weight-variance", parameters, seed, {"comparisons": rows, "stopped_early": stopped})
    else:
        click.echo(f"variances {UNITS}; noise in units of its variance, of real batches of {batch_size} samples")
        rows = [comparison_row(c) for c in comparisons]
        print_table(("variance", "theory", "simulated", "z", "verdict"), rows, left=(0, 4))
        click.echo(f"{done} replicas of {epochs} epochs; seed {seed}")
    end_simulation(comparisons, stopped)


def _compare_variances(
    modes: HeavyBall, noises: dict[str, GradientNoise], results: dict[str, SimulatedVariances]
) -> tuple[list[Comparison], dict[str, Points]]:
    """Theory beside simulation where theory is finite; and all that was simulated, by quantity and order."""
    import numpy as np

    from theory.estimate import Estimate, compare
    from theory.weight_variance import stationary_variances

    directions = np.ravel(modes.curvature).tolist()
    unit = modes.learning_rate**-2
    comparisons: list[Comparison] = []
    points: dict[str, Points] = {name: {} for name in QUANTITIES}
    for order, found in results.items():
        exact = stationary_variances(modes, noises[order]).scaled(unit)
        columns = (
            ("weight_variance", exact.weight, [e.scaled(unit) for e in found.weight_variance]),
            ("velocity_variance", exact.velocity, [e.scaled(unit) for e in found.velocity_variance]),
        )
        for name, values, estimates in columns:
            points[name][order] = list(zip(directions, estimates, strict=True))
            for curvature, value, estimate in zip(directions, values.tolist(), estimates, strict=True):
                what = f"{order}, curvature {curvature:.4g}, {name.removesuffix('_variance')}"
                if math.isfinite(value):
                    comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate))
        points["correlation_time"][order] = list(zip(directions, found.correlation_time, strict=True))
    return comparisons, points


def _measured_noise(noises: dict[str, GradientNoise], batches: int, batch_size: int, seed: int) -> Points:
    """Autocovariance of the noise of real batches, for the orders that batches have."""
    import numpy as np

    from sim.noise_autocovariance import measured_autocovariance
    from sim.random_streams import stream
    from theory.gradient_noise import AntiCorrelatedIncrements, Persistent

    lags = sorted({*np.linspace(0, 2 * batches, 25).round().astype(int).tolist(), 1, batches - 1, batches})
    measured: Points = {}
    for number, (order, noise) in enumerate(noises.items()):
        if isinstance(noise, AntiCorrelatedIncrements):
            continue  # added to the weights, not made by batches
        persistent = isinstance(noise, Persistent)
        if persistent and (1 - noise.correlation) * (1 - 1 / batches) > 1:
            continue  # samples cannot leave a batch so fast
        # Persistent batches are drawn sample by sample, and cost more.
        epochs = max(1, (400 if persistent else 4000) // batches)
        replicas = 200 if not persistent or batches <= 200 else 20
        found = measured_autocovariance(
            noise,
            stream(seed, "measured noise", number),
            batches_per_epoch=batches,
            batch_size=batch_size,
            lags=lags,
            epochs=epochs,
            replicas=replicas,
        )
        measured[order] = list(zip(lags, found, strict=True))
    return measured


def _compare_noise(noises: dict[str, GradientNoise], measured: Points, lags: set[int]) -> list[Comparison]:
    from theory.estimate import Estimate, compare

    return [
        compare(f"{order}, noise at lag {lag}", Estimate(float(noises[order].autocovariance(lag)), 0.0, 1), estimate)
        for order, found in measured.items()
        for lag, estimate in found
        if lag in lags
    ]
