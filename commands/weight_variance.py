"""``jostle predict weight-variance`` and ``jostle simulate weight-variance``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.shared import (
    comparison_row,
    emit_json,
    end_simulation,
    estimate_json,
    output_options,
    parse_perturbation,
    print_table,
    simulation_options,
    simulation_progress,
    write_csv,
)

if TYPE_CHECKING:
    from theory.estimate import Estimate
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

ORDERS = "reshuffled, with_replacement, shuffled_once, reshuffled_every:epochs=E, persistent:correlation=R, anti_pgd"

UNITS = "in units of (learning rate)^2 times the variance of a batch gradient"


def mode_options(*, learning_rate: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that name SGD with momentum on a quadratic, and the orders of its batches.

    Args:
        learning_rate: the default.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--order", "orders", multiple=True, help=f"Of the batches; repeatable: {ORDERS}."),
            click.option("--curvature", "curvatures", multiple=True, type=float, help="Of a direction; repeatable."),
            click.option("--batches", default=50, show_default=True, help="M, batches in an epoch."),
            click.option("--momentum", default=0.9, show_default=True),
            click.option("--learning-rate", default=learning_rate, show_default=True),
        ):
            command = option(command)
        return command

    return decorate


def parse_orders(orders: Sequence[str], batches: int) -> dict[str, GradientNoise]:
    """The noise of each order, of unit variance, by the text that names it.

    Args:
        orders: as given.
        batches: M, of an epoch.

    Returns:
        Text -> noise.

    Raises:
        ValueError: for an unknown order, or options that it does not have.
    """
    from theory import gradient_noise

    makers: dict[str, tuple[Callable[..., GradientNoise], set[str]]] = {
        "reshuffled": (lambda: gradient_noise.Reshuffled(batches), set()),
        "with_replacement": (gradient_noise.WhiteNoise, set()),
        "shuffled_once": (lambda: gradient_noise.ShuffledOnce(batches), set()),
        "reshuffled_every": (lambda epochs: gradient_noise.ReshuffledEvery(batches, epochs), {"epochs"}),
        "persistent": (gradient_noise.Persistent, {"correlation"}),
        "anti_pgd": (gradient_noise.AntiCorrelatedIncrements, set()),
    }
    noises = {}
    for text in orders:
        options = parse_perturbation(text)
        name = str(options.pop("name")).replace("-", "_")
        if name not in makers or set(options) != makers[name][1]:
            raise ValueError(f"order {text!r} is unknown or misses its option; choose from {ORDERS}")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in options.values()):
            raise ValueError(f"order {text!r}: its option must be a number")
        noises[text] = makers[name][0](**options)
    return noises


def parse_modes(learning_rate: float, momentum: float, curvatures: Sequence[float]) -> HeavyBall:
    """The directions that the options name.

    Args:
        learning_rate, momentum: of SGD.
        curvatures: in any order, possibly repeated.

    Returns:
        The modes, by ascending curvature.

    Raises:
        ValueError: where SGD has no stationary state.
    """
    from theory.heavy_ball import HeavyBall

    return HeavyBall(learning_rate, sorted(set(curvatures)), momentum)


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
        _write(out, modes, noises, crossover, {})
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


def mode_parameters(
    learning_rate: float, momentum: float, batches: int, modes: HeavyBall, noises: dict[str, GradientNoise]
) -> dict[str, Any]:
    """The options as ``--json`` repeats them.

    Args:
        learning_rate, momentum, batches: as given.
        modes: whose curvatures were used.
        noises: the orders.

    Returns:
        Name -> value.
    """
    import numpy as np

    return {
        "learning_rate": learning_rate,
        "momentum": momentum,
        "batches": batches,
        "curvatures": np.ravel(modes.curvature).tolist(),
        "orders": list(noises),
    }


def _write(
    out: Path,
    modes: HeavyBall,
    noises: dict[str, GradientNoise],
    crossover: float,
    simulated: dict[str, list[list[Estimate]]],
) -> None:
    """``variances.csv`` over the whole range of curvatures, ``variances.png`` and ``autocovariance.png``."""
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
    drawn, lines = {}, [("order", "curvature", "weight_variance", "velocity_variance")]
    for order, noise in noises.items():
        exact = stationary_variances(fine, noise).scaled(unit)
        points = [list(zip(given.tolist(), column, strict=True)) for column in simulated.get(order, [])]
        drawn[order] = NoiseVariances(np.ravel(fine.curvature), exact, *points)
        lines += [(order, *row) for row in np.stack((fine.curvature, exact.weight, exact.velocity), axis=-1).tolist()]
    batches = [b for noise in noises.values() if (b := getattr(noise, "batches_per_epoch", None)) is not None]
    lags = np.arange(2 * max(batches, default=10) + 1)
    correlations = {order: NoiseAutocovariance(lags, noise.autocovariance(lags)) for order, noise in noises.items()}
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
    for name, figure in figures.items():
        write_whole(out / f"{name}.png", png_bytes(figure))


@click.command("weight-variance")
@mode_options(learning_rate=0.01)
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(1, 10**6), help="Recorded; M steps each.")
@click.option("--burn-in", type=click.IntRange(0, 10**7), help="Epochs before; default: 12 relaxation times.")
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
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate SGD with momentum on a quadratic, beside the theory of its variances. Exit code 3 if they disagree.

    \b
    jostle simulate weight-variance --batches 50 --curvature 1 --curvature 10 --order reshuffled
    """
    import dataclasses

    import numpy as np

    from sim import weight_variance
    from sim.random_streams import stream
    from theory.estimate import Estimate, compare, holm
    from theory.weight_variance import stationary_variances
    from theory.weight_variance_limits import crossover_curvature

    noises = parse_orders(orders or ("reshuffled", "with_replacement"), batches)
    crossover = crossover_curvature(learning_rate, batches, momentum)
    modes = parse_modes(learning_rate, momentum, curvatures or [crossover * 3.0**k for k in (-1, 0, 1, 2)])
    unit = learning_rate**2
    directions = np.ravel(modes.curvature).tolist()
    comparisons, points, done = [], {}, runs
    with simulation_progress(quiet) as progress:
        for number, (order, noise) in enumerate(noises.items()):
            predicted = stationary_variances(modes, noise)
            simulated = weight_variance.simulate_weight_variance(
                modes,
                noise,
                stream(seed, "simulate weight-variance", number),
                steps=epochs * batches,
                burn_in=None if burn_in is None else burn_in * batches,
                replicas=runs,
                threads=threads,
                progress=progress,
            )
            done = simulated.replicas
            points[order] = []
            for name, values, estimates in (
                ("weight", predicted.weight, simulated.weight_variance),
                ("velocity", predicted.velocity, simulated.velocity_variance),
            ):
                scaled = [
                    dataclasses.replace(e, value=e.value / unit, standard_error=e.standard_error / unit)
                    for e in estimates
                ]
                points[order].append(scaled)
                for curvature, value, estimate in zip(directions, values.tolist(), scaled, strict=True):
                    what = f"{order}, curvature {curvature:.4g}, {name}"
                    if math.isfinite(value):
                        comparisons.append(compare(what, Estimate(value / unit, 0.0, 1), estimate))
            if done < runs:
                break
    comparisons = holm(comparisons)
    if out is not None:
        _write(out, modes, noises, crossover, points)
    if as_json:
        rows = [
            {
                "quantity": c.quantity,
                "predicted": c.predicted.value,
                "simulated": estimate_json(c.measured),
                "z": c.z,
                "p_value": c.p_value,
                "verdict": c.verdict,
            }
            for c in comparisons
        ]
        parameters = mode_parameters(learning_rate, momentum, batches, modes, noises) | {
            "epochs": epochs,
            "replicas": runs,
        }
        emit_json("simulate weight-variance", parameters, seed, {"comparisons": rows, "stopped_early": done < runs})
    else:
        click.echo(f"variances {UNITS}")
        rows = [comparison_row(c) for c in comparisons]
        print_table(("variance", "theory", "simulated", "z", "verdict"), rows, left=(0, 4))
        click.echo(f"{done} replicas of {epochs} epochs; seed {seed}")
    end_simulation(comparisons, done < runs)
