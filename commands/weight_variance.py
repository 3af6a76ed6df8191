"""``jostle predict weight-variance`` and ``jostle simulate weight-variance``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.batch_orders import Quadratic, check_flattest, mode_options, quadratic_of, simulate_orders, window_options
from commands.files import prepared_directory
from commands.options import out_option, output_options, refuse_options, simulation_options
from commands.shared import emit_json, print_derivations, print_table
from commands.simulations import (
    Z_FOOTER,
    NotCompared,
    comparison_json,
    completeness,
    end_simulation,
    not_compared_json,
    print_comparisons,
    print_remarks,
)
from commands.weight_variance_files import QUANTITIES, Points, write_variances

if TYPE_CHECKING:
    from sim.weight_variance import SimulatedVariances
    from theory.estimate import Comparison

UNITS = "in units of (learning rate)^2 times the variance of a batch gradient"

FEW_BATCHES = 1000
"""In an epoch, up to which the noise of persistent batches is measured: they are drawn sample by sample."""

NUMBERS_ONLY = ("learning_rate", "momentum", "batches", "curvatures", "orders", "out", "as_json")


@click.command(
    "weight-variance", short_help="Variance of weights and velocities of SGD at a minimum, for any order of batches."
)
@mode_options(batches=10**7, curvatures="six decades below that bound")
@click.option("--latex", is_flag=True, help="Print only the derivation of the closed forms, in LaTeX.")
@out_option
@output_options
@click.pass_context
def predict_weight_variance(
    context: click.Context, latex: bool, out: Path | None, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Variance of weights and velocities of SGD with momentum at a minimum, exactly, for any order of the batches.

    Along each direction of the Hessian, gradient noise shakes the weights about the minimum. How much depends on how
    the batches are drawn, for directions flatter than about the crossover curvature 3 (1 - beta) / (eta M).

    \b
    jostle predict weight-variance --learning-rate 0.01 --momentum 0.9 --batches 50
    jostle predict weight-variance --curvature 0.1 --order reshuffled --order shuffled_once
    jostle predict weight-variance --latex
    """
    if latex:
        refuse_options(context, NUMBERS_ONLY, "numbers, without --latex")
        from theory.derivations import derivation_names

        print_derivations(derivation_names("weight_variance"))
        return
    import numpy as np

    from theory.weight_variance import stationary_variances

    quadratic = quadratic_of(**given, default=_six_decades, most=10**10)
    modes, crossover = quadratic.modes, _crossover(quadratic)
    directory = None if out is None else prepared_directory(out)
    unit = modes.learning_rate**2
    rows = []
    for order, noise in quadratic.noises.items():
        variances = stationary_variances(modes, noise)
        columns = (modes.curvature, variances.weight / unit, variances.velocity / unit, variances.correlation_time)
        rows += [(order, *row) for row in np.stack(columns, axis=-1).tolist()]
    if as_json:
        keys = ("order", "curvature", "weight_variance", "velocity_variance", "correlation_time")
        result = {
            "crossover_curvature": crossover,
            "units": UNITS,
            "directions": [dict(zip(keys, r, strict=True)) for r in rows],
        }
        emit_json("predict weight-variance", quadratic.parameters(), None, result)
    else:
        click.echo(f"variances {UNITS}")
        if crossover is not None:
            click.echo(f"weight variance without replacement is suppressed below a curvature of about {crossover:.4g}")
        table = [(order, *(f"{value:.6g}" for value in row)) for order, *row in rows]
        print_table(("order", "curvature", "weight variance", "velocity variance", "correlation time"), table)
        _print_footer(quadratic)
        if any(math.isinf(row[2]) for row in rows):
            click.echo("inf: without curvature, noise that does not cancel makes the weight diffuse")
    if directory is not None:
        write_variances(directory, quadratic, crossover, {}, {})


def _six_decades(learning_rate: float, momentum: float, batches: int) -> list[float]:
    """Curvatures of which the steepest is a tenth of the bound of stability."""
    return [2 * (1 + momentum) / learning_rate * 10.0**-k for k in (6, 5, 4, 3, 2, 1)]


def _crossover(quadratic: Quadratic) -> float | None:
    """The crossover curvature, if an order has one."""
    from theory.weight_variance_limits import crossover_curvature

    modes = quadratic.modes
    return crossover_curvature(modes.learning_rate, quadratic.batches, modes.momentum) if quadratic.has_epochs else None


def _print_footer(quadratic: Quadratic) -> None:
    click.echo(
        "velocity: change of the weight in an update; correlation time = 2 Var(weight) / Var(velocity), in updates"
    )
    if quadratic.footer:
        click.echo(quadratic.footer)


@click.command("weight-variance", short_help="SGD with momentum on a quadratic, beside the theory of its variances.")
@mode_options()
@window_options
@click.option(
    "--batch-size",
    default=4,
    show_default=True,
    type=click.IntRange(1, 10**4),
    help="Samples in the real batches whose noise is measured beside; no influence on the variances.",
)
@simulation_options(runs=256)
@output_options
def simulate_weight_variance(
    epochs: int,
    burn_in: int | None,
    batch_size: int,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Simulate SGD with momentum on a quadratic, beside the theory of its variances. Exit code 3 if they disagree.

    The noise of the simulation is Gaussian, correlated as the order of the batches makes it. That real batches of
    indices make noise of this correlation is measured too, at fixed weights.

    \b
    jostle simulate weight-variance --batches 50 --curvature 1 --curvature 10 --order reshuffled
    """
    from sim.weight_variance import simulate_weight_variance
    from theory.estimate import holm

    quadratic = quadratic_of(**given)
    crossover = _crossover(quadratic)
    if burn_in is None:
        check_flattest(quadratic.modes)
    directory = None if out is None else prepared_directory(out)
    results = simulate_orders(
        quadratic,
        simulate_weight_variance,
        name="simulate weight-variance",
        seed=seed,
        epochs=epochs,
        burn_in=burn_in,
        quiet=quiet,
        replicas=runs,
        threads=threads,
    )
    comparisons, not_compared, points = _compare_variances(quadratic, results, quadratic.forgets_too_late(burn_in))
    missing, done, stopped = completeness(list(quadratic.noises), results)
    measured: Points = {}
    if not stopped:
        try:
            _measure_noise(measured, quadratic, batch_size, seed)
        except KeyboardInterrupt:
            stopped = True
    if stopped:
        missing.append("noise of real batches" if not measured else "noise of the real batches of other orders")
    comparisons = holm(comparisons + _compare_noise(quadratic, measured))
    if as_json:
        parameters = quadratic.parameters()
        parameters |= {"epochs": epochs, "burn_in": burn_in, "batch_size": batch_size, "replicas": runs}
        result = {
            "units": UNITS,
            "comparisons": [comparison_json(c) for c in comparisons],
            "not_compared": not_compared_json(not_compared),
            "not_simulated": missing,
            "stopped_early": stopped,
        }
        emit_json("simulate weight-variance", parameters, seed, result)
    else:
        click.echo(f"variances {UNITS}")
        click.echo(f"noise in units of its variance, of real batches of {batch_size} samples")
        print_comparisons("variance", comparisons)
        _print_footer(quadratic)
        click.echo(Z_FOOTER)
        print_remarks(comparisons, not_compared, missing)
        click.echo(f"{done} runs of {epochs} epochs; seed {seed}")
    if directory is not None:
        write_variances(directory, quadratic, crossover, points, measured)
    end_simulation(comparisons, stopped)


def _compare_variances(
    quadratic: Quadratic,
    results: dict[str, SimulatedVariances],
    reasons: dict[str, list[tuple[str, ...]]],
) -> tuple[list[Comparison], NotCompared, dict[str, Points]]:
    """Theory beside simulation; what is infinite in theory; and all that was simulated, by quantity and order."""
    from theory.estimate import Estimate, compare
    from theory.weight_variance import stationary_variances

    modes, directions = quadratic.modes, quadratic.curvatures
    unit = modes.learning_rate**-2
    comparisons: list[Comparison] = []
    not_compared: NotCompared = []
    points: dict[str, Points] = {name: {} for name in QUANTITIES}
    for order, found in results.items():
        exact = stationary_variances(modes, quadratic.noises[order]).scaled(unit)
        columns = (
            ("weight_variance", exact.weight, [e.scaled(unit) for e in found.weight_variance]),
            ("velocity_variance", exact.velocity, [e.scaled(unit) for e in found.velocity_variance]),
        )
        for name, values, estimates in columns:
            points[name][order] = list(zip(directions, estimates, strict=True))
            rows = zip(directions, values.tolist(), estimates, reasons[order], strict=True)
            for curvature, value, estimate, why in rows:
                what = f"{order}, curvature {curvature:.4g}, {name.removesuffix('_variance')}"
                if math.isfinite(value):
                    comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate, reasons=why))
                else:
                    not_compared.append((what, value, estimate))
        points["correlation_time"][order] = list(zip(directions, found.correlation_time, strict=True))
    return comparisons, not_compared, points


def _measure_noise(measured: Points, quadratic: Quadratic, batch_size: int, seed: int) -> None:
    """Autocovariance of the noise of real batches, for the orders that batches have; order by order into a dictionary.

    What was there at Ctrl-C stays there.
    """
    import numpy as np

    from sim.noise_autocovariance import measured_autocovariance
    from sim.random_streams import stream
    from theory.gradient_noise import AntiCorrelatedIncrements, Persistent

    batches = quadratic.batches
    lags = sorted({*np.linspace(0, 2 * batches, 25).round().astype(int).tolist(), 1, batches - 1, batches})
    for number, (order, noise) in enumerate(quadratic.noises.items()):
        if isinstance(noise, AntiCorrelatedIncrements):
            continue  # added to the weights, not made by batches
        persistent = isinstance(noise, Persistent)
        if persistent and ((1 - noise.correlation) * (1 - 1 / batches) > 1 or batches > FEW_BATCHES):
            continue  # samples cannot leave a batch so fast; or it would take too long
        # Persistent batches are drawn sample by sample, and cost more; so do epochs of few batches.
        epochs = 400 // batches if persistent else min(400, 4000 // batches)
        replicas = 200 if batches <= (200 if persistent else 10 * FEW_BATCHES) else 20
        found = measured_autocovariance(
            noise,
            stream(seed, "measured noise", number),
            batches_per_epoch=batches,
            batch_size=batch_size,
            lags=lags,
            epochs=max(1, epochs),
            replicas=replicas,
        )
        measured[order] = list(zip(lags, found, strict=True))


def _compare_noise(quadratic: Quadratic, measured: Points) -> list[Comparison]:
    """At the lags where orders differ: next to no lag, and an epoch."""
    from theory.estimate import Estimate, compare

    def predicted(order: str, lag: float) -> Estimate:
        return Estimate(float(quadratic.noises[order].autocovariance(lag)), 0.0, 1)

    return [
        compare(f"{order}, noise at lag {lag}", predicted(order, lag), estimate)
        for order, found in measured.items()
        for lag, estimate in found
        if lag in (0, 1, quadratic.batches - 1, quadratic.batches)
    ]
