"""Figures of the gallery that show processes with an exact answer, beside a seeded simulation of them."""

import numpy as np
from matplotlib.figure import Figure

from figures.resetting import RestartMeans, figure_restart_mean
from figures.toy_perturbation import figure_quasi_stationary, figure_toy_speed_up
from theory.estimate import Estimate

SEED = 0

RESTARTED_RUNS = 200_000
RATES = (0.1, 0.5, 2.54, 10.0, 30.0)
INTERVALS = (0.1, 0.2, 0.459, 3.0, 15.0)

WALKS = 20_000
PERTURBED_EVERY = (1, 2, 5, 10, 20, 50, 100)
CURVE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50, 70, 100)
BRANCH_EPOCH = 100
SHRINK, NOISE = 0.4, 0.1
CELLS = 800
"""Of the grid: E[T] = 1447.7; half as many would make it 4 % too small, while perturbed means change by 0.01 %."""


def _complete(n: int, wanted: int) -> None:
    """A simulation that Ctrl-C cut short has no figure."""
    if n < wanted:
        raise KeyboardInterrupt


def draw_brownian_restart_mean() -> Figure:
    """E[T] of Brownian motion against the rate and the interval of restarts: closed forms and 200,000 runs a point.

    Returns:
        The figure.

    Reference: [evans2011] Diffusion with stochastic resetting
    """
    from sim.random_streams import stream
    from sim.resetting import simulate_restarted
    from theory.diffusion_laws import Brownian
    from theory.optimal_restart import optimal_interval, optimal_rate
    from theory.passage_laws import Deterministic
    from theory.resetting import Restarted
    from theory.waiting_times import Exponential

    law = Brownian(distance=1.0, diffusivity=1.0)
    contents = []
    for kind, timer, optimum, simulated_at in (
        (0, Exponential, optimal_rate(law), RATES),
        (1, Deterministic, optimal_interval(law), INTERVALS),
    ):
        values = optimum.value * np.logspace(-2, 2, 161)
        means = np.array([Restarted(law, timer(value)).mean for value in values.tolist()])
        points = []
        for number, value in enumerate(simulated_at):
            rng = stream(SEED, "gallery brownian restart", kind, number)
            runs = simulate_restarted(law, timer(value), RESTARTED_RUNS, rng)
            _complete(runs.n, RESTARTED_RUNS)
            points.append((value, runs.mean()))
        contents.append(RestartMeans(values, means, optimum, points))
    title = "Brownian motion to a target at distance 1, diffusivity 1"
    return figure_restart_mean(title, rate=contents[0], interval=contents[1], undisturbed=law.mean)


def draw_trap_speed_up() -> Figure:
    """Speed-up by shrink and perturb in a trap with a barrier: exact, predicted from one perturbation, simulated.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6, for a model with exact answers
    """
    from sim.perturbation import shrink_and_perturb, simulate_perturbed
    from sim.random_streams import stream
    from theory import markov_chain, perturbed_chain
    from theory.epoch_walk import TRAP_WITH_BARRIER
    from theory.perturbation import perturbed_mean, renewal_mean

    grid = TRAP_WITH_BARRIER.chain(CELLS)
    chain, kernel = grid.chain, grid.shrink_and_perturb(SHRINK, NOISE)
    unperturbed, at = markov_chain.mean_first_passage_time(chain), np.array(CURVE)
    survival = markov_chain.survival(chain, CURVE[-1])
    residuals = perturbed_chain.residual_survival_once(chain, kernel, BRANCH_EPOCH, CURVE[-1])
    residual_mean = perturbed_chain.residual_mean(chain, kernel, BRANCH_EPOCH)
    reset = markov_chain.restart_kernel(chain)
    change = shrink_and_perturb(SHRINK, NOISE, TRAP_WITH_BARRIER.initial_deviation)
    points = []
    for interval in PERTURBED_EVERY:
        rng = stream(SEED, "gallery trap with barrier", interval)
        times = simulate_perturbed(
            TRAP_WITH_BARRIER, WALKS, rng, horizon=10**9, perturbation=change, interval=interval
        ).times
        _complete(len(times), WALKS)
        mean = Estimate.from_samples(times)
        ratio = unperturbed / mean.value
        points.append((interval, Estimate(ratio, ratio * mean.standard_error / mean.value, mean.n)))
    return figure_toy_speed_up(
        f"Trap with a barrier, shrink and perturb ({SHRINK:g}, {NOISE:g})",
        at,
        exact=unperturbed / np.array([perturbed_chain.periodic_mean(chain, kernel, p) for p in CURVE]),
        rare=unperturbed / perturbed_mean(survival, at, residual_mean),
        renewal=unperturbed / renewal_mean(survival, residuals, at),
        full_reset=unperturbed / np.array([perturbed_chain.periodic_mean(chain, reset, p) for p in CURVE]),
        simulated=points,
    )


def draw_trap_quasi_steady_state() -> Figure:
    """Where survivors of the trap with a barrier are, and where a perturbation puts them: exact densities.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 2, which is a schematic
    """
    from theory.epoch_walk import TRAP_WITH_BARRIER
    from theory.quasi_stationary import quasi_stationary_state

    grid = TRAP_WITH_BARRIER.chain(CELLS)
    x, survivors = grid.centres, quasi_stationary_state(grid.chain).distribution
    cell = x[1] - x[0]
    return figure_quasi_stationary(
        "Trap with a barrier",
        x,
        potential=TRAP_WITH_BARRIER.potential.value(x),
        quasi_stationary=survivors / cell,
        initial=grid.chain.initial / cell,
        perturbed=survivors @ grid.shrink_and_perturb(SHRINK, NOISE) / cell,
        target=TRAP_WITH_BARRIER.target,
        perturbation=f"shrink and perturb ({SHRINK:g}, {NOISE:g})",
    )
