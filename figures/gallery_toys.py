"""Figures of the gallery that show processes with an exact answer, beside a seeded simulation of them."""

from matplotlib.figure import Figure

from figures.resetting import figure_restart_mean
from figures.toy_processes import figure_speed_ups, figure_survivors, restart_means
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
"""Of the grid, fine enough for smooth densities: E[T] = 1470.2, which half as many change by 0.003 %."""


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
    from theory.waiting_times import Exponential

    law = Brownian(distance=1.0, diffusivity=1.0)
    contents = []
    for kind, timer, optimum, simulated_at in (
        (0, Exponential, optimal_rate(law), RATES),
        (1, Deterministic, optimal_interval(law), INTERVALS),
    ):
        points = []
        for number, value in enumerate(simulated_at):
            rng = stream(SEED, "gallery brownian restart", kind, number)
            runs = simulate_restarted(law, timer(value), RESTARTED_RUNS, rng)
            _complete(runs.n, RESTARTED_RUNS)
            points.append((value, runs.mean()))
        contents.append(restart_means(law, timer, optimum, simulated=points))
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
    from theory.epoch_walk import TRAP_WITH_BARRIER
    from theory.perturbed_means import perturbed_means

    grid = TRAP_WITH_BARRIER.chain(CELLS)
    means = perturbed_means(grid.chain, grid.shrink_and_perturb(SHRINK, NOISE), CURVE, branch_epoch=BRANCH_EPOCH)
    change = shrink_and_perturb(SHRINK, NOISE, TRAP_WITH_BARRIER.initial_deviation)
    simulated = []
    for interval in PERTURBED_EVERY:
        rng = stream(SEED, "gallery trap with barrier", interval)
        times = simulate_perturbed(
            TRAP_WITH_BARRIER, WALKS, rng, horizon=10**9, perturbation=change, interval=interval
        ).times
        _complete(len(times), WALKS)
        simulated.append((interval, Estimate.from_samples(times)))
    return figure_speed_ups(f"Trap with a barrier, shrink and perturb ({SHRINK:g}, {NOISE:g})", means, simulated)


def draw_trap_quasi_steady_state() -> Figure:
    """Where survivors of the trap with a barrier are, and where a perturbation puts them: exact densities.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 2, which is a schematic
    """
    from theory.epoch_walk import TRAP_WITH_BARRIER

    grid, words = TRAP_WITH_BARRIER.chain(CELLS), f"shrink and perturb ({SHRINK:g}, {NOISE:g})"
    return figure_survivors(
        "Trap with a barrier", TRAP_WITH_BARRIER, grid, grid.shrink_and_perturb(SHRINK, NOISE), words
    )
