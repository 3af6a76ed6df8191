"""What ``weight-variance --out`` writes: tables of all curvatures and points, and figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.files import write_csv, write_figure

if TYPE_CHECKING:
    import numpy as np

    from commands.batch_orders import Quadratic
    from theory.absorbing import Floats
    from theory.estimate import Estimate
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

QUANTITIES = ("weight_variance", "velocity_variance", "correlation_time")

Points = dict[str, list[tuple[float, "Estimate"]]]
"""Order -> (curvature or lag, what was measured there)."""

MOST_RESONANCES = 200
"""So many are drawn sharp; more could not be told apart."""

MOST_EPOCHS = 100
"""Of an autocovariance, that are drawn at most."""


def write_variances(
    directory: Path, quadratic: Quadratic, crossover: float | None, simulated: dict[str, Points], measured: Points
) -> None:
    """``variances.csv`` over all curvatures, ``simulated.csv`` and ``noise.csv`` of the points, and both figures.

    Args:
        directory: which exists.
        quadratic: what the options name.
        crossover: the crossover curvature; None to leave it out.
        simulated: quantity -> points; empty for a prediction.
        measured: autocovariances of real batches.
    """
    import numpy as np

    from figures.weight_variance import NoiseAutocovariance, NoiseVariances, figure_autocovariance, figure_variances
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances

    modes, noises, batches = quadratic.modes, quadratic.noises, quadratic.batches
    fine = HeavyBall(modes.learning_rate, _drawn_curvatures(modes, noises, crossover), modes.momentum)
    unit = modes.learning_rate**-2
    drawn, lines = {}, [("order", "curvature", *QUANTITIES)]
    for order, noise in noises.items():
        exact = stationary_variances(fine, noise).scaled(unit)
        points = (simulated[name].get(order, []) for name in QUANTITIES) if simulated else ()
        drawn[order] = NoiseVariances(np.ravel(fine.curvature), exact, *points)
        columns = (fine.curvature, exact.weight, exact.velocity, exact.correlation_time)
        lines += [(order, *row) for row in np.stack(columns, axis=-1).tolist()]
    epochs = quadratic.has_epochs
    lags = _drawn_lags(noises, batches if epochs else 10)
    correlations = {
        order: NoiseAutocovariance(lags, noise.autocovariance(lags), measured.get(order, []))
        for order, noise in noises.items()
    }
    title = f"learning rate {modes.learning_rate:g}, momentum {modes.momentum:g}"
    labels = ("weight variance / (η²σ²)", "velocity variance / (η²σ²)", "correlation time [updates]")
    epoch = f"epochs of {batches} batches" if epochs else ""
    figures = {
        "variances": figure_variances(
            f"{title}, {epoch}".removesuffix(", "), drawn, crossover=crossover, x_label="curvature λ", y_labels=labels
        ),
        "autocovariance": figure_autocovariance(
            f"gradient noise of unit variance, {epoch}".removesuffix(", "),
            correlations,
            batches_per_epoch=batches if epochs else None,
        ),
    }
    write_csv(directory / "variances.csv", lines)
    if simulated:
        _write_points(directory / "simulated.csv", ("quantity", "order", "curvature"), simulated)
        _write_points(directory / "noise.csv", ("quantity", "order", "lag"), {"autocovariance": measured})
    for name, figure in figures.items():
        write_figure(directory / f"{name}.png", figure)


def _drawn_curvatures(modes: HeavyBall, noises: dict[str, GradientNoise], crossover: float | None) -> Floats:
    """On a logarithmic grid, and at the resonances of batches that are repeated, which are narrow."""
    import numpy as np

    eta, beta = modes.learning_rate, modes.momentum
    steepest, given = 2 * (1 + beta) / eta, np.ravel(modes.curvature)
    flattest = min(1e-6 * steepest, float(given[given > 0].min(initial=steepest)), (crossover or steepest) / 100)
    # Closer to the bound everything diverges, and would leave no room on the axis for the rest.
    highest = max(0.95 * steepest, float(given.max(initial=0.0)))
    grid = np.geomspace(flattest, highest, 241)
    # A mode rings with the frequency phi if eta lambda = 1 + beta - 2 sqrt(beta) cos(phi), damped at the rate below.
    damping = -math.log(beta) / 2 if beta > 0 else math.inf
    for noise in noises.values():
        if not (spacing := _line_spacing(noise)) or damping > spacing:
            continue
        lines = spacing * np.arange(1, min(int(math.pi / spacing), MOST_RESONANCES) + 1)
        around = damping * np.array([-4, -2, -1, -0.5, 0, 0.5, 1, 2, 4])
        angles = (lines[:, np.newaxis] + around).ravel()
        angles = angles[(angles > 0) & (angles < math.pi)]
        grid = np.append(grid, (1 + beta - 2 * math.sqrt(beta) * np.cos(angles)) / eta)
    return np.unique(grid[(grid >= flattest) & (grid <= highest)])


def _line_spacing(noise: GradientNoise) -> float | None:
    """Distance of the lines or peaks in the spectrum of batches that are repeated; None for the others."""
    from theory.gradient_noise import ReshuffledEvery, ShuffledOnce

    return math.tau / noise.batches_per_epoch if isinstance(noise, ReshuffledEvery | ShuffledOnce) else None


def _drawn_lags(noises: dict[str, GradientNoise], batches: int) -> np.ndarray:
    """Two epochs, or one more than share an order: all lags, or some if they are many, and the ends of epochs."""
    import numpy as np

    shared = max((getattr(noise, "epochs", 1) for noise in noises.values()), default=1)
    epochs = min(shared + 1, MOST_EPOCHS)
    last = batches * epochs
    ends = batches * np.arange(1, epochs + 1)
    some = np.linspace(0, last, 2000).round().astype(np.int64)
    lags = np.concatenate([np.arange(min(last, 500) + 1), some, ends - 1, ends, ends[:-1] + 1])
    return np.unique(lags)


def _write_points(path: Path, keys: tuple[str, str, str], points: dict[str, Points]) -> None:
    rows: list[tuple[Any, ...]] = [(*keys, "value", "standard_error", "replicas")]
    for quantity, of_orders in points.items():
        for order, found in of_orders.items():
            rows += [(quantity, order, at, e.value, e.standard_error, e.n) for at, e in found]
    write_csv(path, rows)
