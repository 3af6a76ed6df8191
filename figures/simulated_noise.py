"""The noise of mini-batches, drawn from theory and from simulations with a fixed seed.

Reference: [kuhn2023] the noise, its autocovariance, and what it does to weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.weight_trajectory import Trajectory
    from theory.absorbing import Floats
    from theory.gradient_noise import GradientNoise

SEED = 0
"""Of all simulations."""

TOY_CURVATURE = (0.1, 1.0)
"""Of the toy loss; 0.5 is the crossover."""

TOY_RATE = 0.3

COLLAPSED = ((0.0025, 0.9, 1000), (0.01, 0.9, 1000), (0.01, 0.0, 1000), (0.01, 0.5, 400), (0.01, 0.9, 100))
"""(learning rate, momentum, batches in an epoch)."""


def draw_noise_autocovariance() -> Figure:
    """Autocovariance of the noise of batches, theory beside real batches of indices.

    Returns:
        The figure.
    """
    from figures.weight_variance import NoiseAutocovariance, figure_autocovariance
    from sim.noise_autocovariance import measured_autocovariance
    from sim.random_streams import stream
    from theory.gradient_noise import Reshuffled, WhiteNoise

    batches, lags = 10, np.arange(25)
    noises: dict[str, GradientNoise] = {"without replacement": Reshuffled(batches), "with replacement": WhiteNoise()}
    drawn = {}
    for number, (words, noise) in enumerate(noises.items()):
        rng = stream(SEED, "gallery noise", number)
        found = measured_autocovariance(
            noise, rng, batches_per_epoch=batches, batch_size=6, lags=lags.tolist(), epochs=120, replicas=100
        )
        drawn[words] = NoiseAutocovariance(
            lags, noise.autocovariance(lags), list(zip(lags.tolist(), found, strict=True))
        )
    title = f"Noise of mini-batches at fixed weights, epochs of {batches} batches of 6"
    return figure_autocovariance(title, drawn, batches_per_epoch=batches, y_label="autocovariance $c_h / c_0$")


def least_squares_trajectory(order: str, updates: int) -> Trajectory:
    """SGD without momentum on a linear regression of two inputs, with real batches of indices.

    Args:
        order: ``"reshuffled"`` or ``"with_replacement"``.
        updates: whole epochs of 20.

    Returns:
        The weights from the minimum on, seen from there.
    """
    from figures.weight_trajectory import Trajectory
    from sim.batch_order import reshuffled, with_replacement
    from sim.random_streams import stream
    from theory.gradient_noise import Reshuffled, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances

    samples, size, learning_rate, curvature = 400, 20, TOY_RATE, np.array(TOY_CURVATURE)
    rng = stream(SEED, "gallery toy data")
    inputs = rng.standard_normal((samples, 2))
    # Inputs with exactly this Hessian, labels whose errors have nothing in common with the inputs.
    inputs = np.linalg.qr(inputs)[0] * np.sqrt(samples * curvature)
    errors = rng.standard_normal(samples)
    errors -= inputs @ ((inputs.T @ errors) / (samples * curvature))
    # Noise of the gradient at the minimum, of one sample.
    variance = ((inputs * errors[:, np.newaxis]) ** 2).mean(axis=0)
    if order == "reshuffled":
        draw, noise = reshuffled, Reshuffled.of_examples(1.0, samples, size)
    else:
        draw, noise = with_replacement, WhiteNoise.with_replacement(1.0, samples, size)
    weights, path = np.zeros(2), []
    batches = stream(SEED, f"gallery toy batches {order}")
    while len(path) < updates:
        for batch in draw(samples, size, batches):
            gradient = inputs[batch].T @ (inputs[batch] @ weights - errors[batch]) / size
            weights = weights - learning_rate * gradient
            path.append(weights)
    stationary = stationary_variances(HeavyBall(learning_rate, curvature, 0.0), noise).weight * variance
    return Trajectory(np.array(path), np.sqrt(stationary))


def draw_weight_trajectory() -> Figure:
    """Weights in a toy loss, reshuffled and with replacement.

    Returns:
        The figure.
    """
    from figures.weight_trajectory import figure_trajectories

    orders = {
        order.replace("_", " "): least_squares_trajectory(order, 800) for order in ("reshuffled", "with_replacement")
    }
    title = f"SGD on a linear regression of two inputs, 20 batches of 20, learning rate {TOY_RATE:g}"
    return figure_trajectories(title, TOY_CURVATURE, orders)


def draw_weight_variance() -> Figure:
    """Variances of weights and velocities and the correlation time, theory and simulation.

    Returns:
        The figure.
    """
    from figures.weight_variance import NoiseVariances, figure_variances
    from sim.random_streams import stream
    from sim.weight_variance import simulate_weight_variance
    from theory.gradient_noise import Reshuffled, ShuffledOnce, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances
    from theory.weight_variance_limits import crossover_curvature

    learning_rate, momentum, batches = 0.01, 0.9, 50
    crossover = crossover_curvature(learning_rate, batches, momentum)
    fine = HeavyBall(learning_rate, np.geomspace(4e-4, 361, 1200), momentum)
    coarse = HeavyBall(learning_rate, crossover * np.array([1 / 3, 1, 3, 9]), momentum)
    unit = learning_rate**-2
    drawn = {}
    orders: dict[str, tuple[GradientNoise, int]] = {
        "reshuffled": (Reshuffled(batches), 48),
        "with replacement": (WhiteNoise(), 48),
        "shuffled once": (ShuffledOnce(batches), 200),  # each replica has one order: they differ more
    }
    for number, (words, (noise, replicas)) in enumerate(orders.items()):
        rng = stream(SEED, "gallery weight variance", number)
        found = simulate_weight_variance(coarse, noise, rng, steps=100 * batches, replicas=replicas)
        places = np.ravel(coarse.curvature).tolist()
        points = [
            list(zip(places, [each.scaled(scale) for each in estimates], strict=True))
            for estimates, scale in (
                (found.weight_variance, unit),
                (found.velocity_variance, unit),
                (found.correlation_time, 1.0),
            )
        ]
        drawn[words] = NoiseVariances(np.ravel(fine.curvature), stationary_variances(fine, noise).scaled(unit), *points)
    labels = (
        r"weight variance / ($\eta^2\sigma^2$)",
        r"velocity variance / ($\eta^2\sigma^2$)",
        "correlation time [updates]",
    )
    title = f"SGD at a minimum: learning rate {learning_rate:g}, momentum {momentum:g}, epochs of {batches} batches"
    return figure_variances(title, drawn, crossover=crossover, x_label=r"curvature $\lambda$", y_labels=labels)


def draw_variance_collapse() -> Figure:
    """Theory for several learning rates, momenta and epochs, as it is and scaled.

    Returns:
        The figure.
    """
    from figures.variance_collapse import ScaledVariances, figure_collapse
    from theory.gradient_noise import Reshuffled, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances

    settings = {}
    for learning_rate, momentum, batches in COLLAPSED:
        scaled = np.geomspace(0.03, 300, 80)
        curvature = scaled * (1 - momentum) / (learning_rate * batches)
        modes = HeavyBall(learning_rate, curvature, momentum)
        found, white = (stationary_variances(modes, noise).weight for noise in (Reshuffled(batches), WhiteNoise()))
        words = rf"$\eta$ = {learning_rate:g}, $\beta$ = {momentum:g}, M = {batches}"
        settings[words] = ScaledVariances(curvature, scaled, _exact(found), _exact(found / white))
    title = "Theory: one curve for all learning rates, momenta and epochs"
    label = r"weight variance / $\sigma^2$"
    return figure_collapse(title, settings, y_label=label, measured=False)


def _exact(values: Floats) -> list[Estimate]:
    return [Estimate(value, 0.0, 1) for value in values.tolist()]


def draw_widening_valley() -> Figure:
    """Sharpness in the widening valley under independent and anti-correlated noise.

    Returns:
        The figure.
    """
    from figures.widening_valley import SharpnessPath, figure_widening_valley
    from sim.random_streams import stream
    from sim.widening_valley import simulate_valley
    from theory.gradient_noise import AntiCorrelatedIncrements, Reshuffled
    from theory.widening_valley import Valley, anti_pgd_moments, pgd_moments, sharpness_flow, smoothing_variance

    valley, scale, start, batches = Valley(100, 0.005), 0.05, 100.0, 20
    steps = [100, 1000, 10_000, 40_000]
    grid = np.unique(np.geomspace(30, 40_000, 80).round().astype(int))
    anti = AntiCorrelatedIncrements.of_weights(scale, valley.learning_rate)
    epochs = Reshuffled(batches, (scale / valley.learning_rate) ** 2)
    kinds: dict[str, tuple[str, Floats, GradientNoise | None]] = {
        "pgd": ("independent (PGD)", pgd_moments(valley, scale, start, int(grid[-1])).sharpness[grid], None),
        "anti_pgd": (
            "anti-correlated (Anti-PGD)",
            anti_pgd_moments(valley, scale, start, int(grid[-1])).sharpness[grid],
            anti,
        ),
        "reshuffled": (
            f"reshuffled, {batches} batches",
            sharpness_flow(valley, epochs, start, grid.tolist()),
            epochs,
        ),
    }
    paths = []
    for kind, (words, predicted, noise) in kinds.items():
        alone = outside = None
        if noise is not None:
            alone = start * np.exp(-2 * valley.learning_rate * smoothing_variance(valley, noise) * grid)
        if kind == "reshuffled":
            # What the noise adds within an epoch, the flow neglects; 5 % of the sharpness and more is outside.
            outside = 0.75 * valley.dimension * smoothing_variance(valley, epochs) > 0.045 * predicted
        found = simulate_valley(
            valley,
            kind,
            stream(SEED, f"gallery valley {kind}"),
            noise_scale=scale,
            sharpness=start,
            steps=steps,
            replicas=8,
            batches_per_epoch=batches if kind == "reshuffled" else None,
        )
        points = list(zip(steps, found.sharpness, strict=True))
        paths.append(SharpnessPath(words, grid.astype(float), predicted, alone, points, outside))
    title = r"Noise in the valley $v^2|u|^2/2$, d = 100, $\eta$ = 0.005, s = 0.05"
    return figure_widening_valley(title, paths, edge=valley.edge_of_stability)


def draw_second_crossover() -> Figure:
    """Weight variances in linear regression where the noise depends on the weights, and the rise in networks.

    Returns:
        The figure.
    """
    from figures.beyond_fixed_noise import figure_second_crossover
    from figures.gallery_figure import rows_of
    from sim.least_squares import LeastSquares, simulate_least_squares
    from sim.random_streams import stream
    from theory.gradient_noise import Reshuffled
    from theory.heavy_ball import HeavyBall
    from theory.state_dependent_noise import residual_noise, second_crossover_curvature, state_dependent_variances
    from theory.weight_variance import stationary_variances
    from theory.weight_variance_limits import crossover_curvature

    samples, size, learning_rate, momentum = 500, 10, 0.02, 0.9
    batches = samples // size
    rng = stream(SEED, "gallery second crossover data")
    inputs = rng.standard_normal((samples, 8)) * np.sqrt(np.geomspace(1, 6e-4, 8))
    problem = LeastSquares.of_data(inputs, inputs.sum(axis=1) + 0.5 * rng.standard_normal(samples))
    modes = HeavyBall(learning_rate, problem.curvature, momentum)
    single = ((problem.inputs * problem.residuals[:, np.newaxis]) ** 2).mean(axis=0)
    noise = Reshuffled.of_examples(1.0, samples, size).variance * single
    fixed = stationary_variances(modes, Reshuffled(batches)).scaled(noise).weight
    residual = residual_noise(problem.inputs, fixed, size)
    # How much of that noise is at zero frequency, theory knows within a factor of two.
    least, most = (state_dependent_variances(modes, batches, noise, residual, c).weight / fixed for c in (0.5, 1.0))
    simulated = {}
    for words, frozen in (("simulated SGD (95 %)", False), ("simulated with the noise at the minimum", True)):
        found = simulate_least_squares(
            problem,
            size,
            stream(SEED, f"gallery second crossover {words}"),
            learning_rate=learning_rate,
            momentum=momentum,
            epochs=800,
            frozen=frozen,
            replicas=16,
        )
        ratios = [each.scaled(1 / of) for each, of in zip(found.weight_variance, fixed.tolist(), strict=True)]
        simulated[words] = list(zip(problem.curvature.tolist(), ratios, strict=True))
    networks = {
        {"relu": "ReLUs", "tanh": "tanh"}[row["network"]]: Estimate(
            float(row["rise_over_theory"]), float(row["rise_over_theory_error"]), 32
        )
        for row in rows_of("second_crossover_digits")
    }
    rho = 0.75 * float(np.median(residual / noise))
    crossovers = (
        crossover_curvature(learning_rate, batches, momentum),
        second_crossover_curvature(rho, learning_rate, batches, momentum),
    )
    title = "Below a second crossover, the variance of flat directions rises again"
    rising = np.argsort(problem.curvature)
    return figure_second_crossover(
        title, problem.curvature[rising], (least[rising], most[rising]), simulated, networks, crossovers=crossovers
    )
