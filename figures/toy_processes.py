"""What the figures of toy processes show, computed from the process: for the gallery and for the command line."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from figures.resetting import RestartMeans
from figures.toy_perturbation import figure_quasi_stationary, figure_toy_speed_up
from theory.absorbing import Floats
from theory.epoch_walk import EpochWalk
from theory.estimate import Estimate
from theory.fokker_planck import GridChain
from theory.optimal_restart import Optimum
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic
from theory.perturbed_means import PerturbedMeans
from theory.quasi_stationary import quasi_stationary_state
from theory.resetting import Restarted
from theory.restart_attempt import least_success


def restart_means(
    law: PassageLaw,
    timer: Callable[[float], PassageLaw],
    optimum: Optimum | None,
    *,
    overhead: float = 0.0,
    simulated: Sequence[tuple[float, Estimate]] = (),
) -> RestartMeans:
    """E[T] with restarts, over four decades around the best rate or interval.

    Args:
        law: of a single attempt.
        timer: ``Exponential``, of a rate, or ``Deterministic``, of an interval.
        optimum: of the rate or the interval; one at an edge, or None, leaves the scale to the law.
        overhead: time lost by each restart.
        simulated: (rate or interval, mean of simulated runs).

    Returns:
        What ``figure_restart_mean`` draws; without intervals that are too short for a mean to be known.

    Example:
        >>> from theory.diffusion_laws import Brownian
        >>> means = restart_means(Brownian(distance=1.0, diffusivity=1.0), Deterministic, None)
        >>> len(means.values), round(float(np.log10(means.values[-1] / means.values[0])), 9)
        (161, 4.0)
    """
    is_sharp = timer is Deterministic
    scale = law.time_scale if is_sharp else 1 / law.time_scale
    if optimum is not None and 0 < optimum.value < np.inf:
        scale = optimum.value
    values = (scale * np.logspace(-2, 2, 161)).tolist()
    if is_sharp:
        values = [value for value in values if float(law.arrived(value)) >= least_success(law)]
    means = np.array([Restarted(law, timer(value), overhead=overhead).mean for value in values])
    return RestartMeans(np.array(values), means, optimum, simulated)


def figure_speed_ups(title: str, means: PerturbedMeans, simulated: Sequence[tuple[int, Estimate]]) -> Figure:
    """Speed-up by a perturbation against its interval.

    Args:
        title: names the model and its perturbation.
        means: exact and predicted.
        simulated: (P, mean time of simulated runs).

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6, for a model with exact answers
    """
    points = []
    for interval, mean in simulated:
        ratio = means.unperturbed / mean.value
        points.append((interval, Estimate(ratio, ratio * mean.standard_error / mean.value, mean.n)))
    return figure_toy_speed_up(title, means.intervals, **means.speed_ups(), simulated=points)


def figure_survivors(title: str, walk: EpochWalk, grid: GridChain, kernel: Floats, perturbation: str) -> Figure:
    """Where survivors of a walk in a potential are, and where a perturbation puts them.

    Args:
        title: names the walk.
        walk: with its potential and target.
        grid: of the walk.
        kernel: of the perturbation, on the grid.
        perturbation: in words.

    Returns:
        The figure.
    """
    x, survivors = grid.centres, quasi_stationary_state(grid.chain).distribution
    cell = x[1] - x[0]
    return figure_quasi_stationary(
        title,
        x,
        potential=walk.potential.value(x),
        quasi_stationary=survivors / cell,
        initial=grid.chain.initial / cell,
        perturbed=survivors @ kernel / cell,
        target=walk.target,
        perturbation=perturbation,
    )
