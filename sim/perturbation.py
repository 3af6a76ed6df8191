"""Training as a coordinate in a potential, perturbed every P epochs and watched at their ends: simulated.

The counterpart of ``EpochWalk.chain``, whose answers are exact up to its grid.
"""

import math
from dataclasses import dataclass

import numpy as np

from sim.ensemble import Progress, run_in_chunks
from sim.first_passage import Diffusion
from sim.random_streams import kernel_key
from theory.absorbing import whole_number
from theory.epoch_walk import EpochWalk
from theory.law_arguments import nonnegative
from theory.survival import FirstPassages


@dataclass(frozen=True)
class Perturbation:
    """x -> factor x + shift + spread N(0, 1).

    Attributes:
        factor: of the present state.
        shift: added.
        spread: standard deviation of what is drawn anew, >= 0.

    Example:
        >>> Perturbation(factor=0.5, spread=0.1)  # half of the way to 0, and noise
        Perturbation(factor=0.5, shift=0.0, spread=0.1)
    """

    factor: float
    shift: float = 0.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and math.isfinite(self.shift)):
            raise ValueError(f"factor={self.factor} and shift={self.shift} must be finite")
        nonnegative("spread", self.spread)


def shrink_and_perturb(shrink: float, perturb: float, fresh_deviation: float) -> Perturbation:
    """X -> shrink x + perturb xi with xi a fresh draw from N(0, fresh_deviation^2).

    Args:
        shrink: factor of the state.
        perturb: factor of the fresh draw.
        fresh_deviation: its standard deviation.

    Returns:
        The map.

    Example:
        >>> shrink_and_perturb(0.7, 0.3, fresh_deviation=2.0)
        Perturbation(factor=0.7, shift=0.0, spread=0.6)
    """
    return Perturbation(shrink, 0.0, abs(perturb) * fresh_deviation)


def full_reset(initial_mean: float, initial_deviation: float) -> Perturbation:
    """Begin anew from the initial law.

    Args:
        initial_mean: of the normal law.
        initial_deviation: of the normal law.

    Returns:
        The map.

    Example:
        >>> full_reset(-1.0, 0.6)
        Perturbation(factor=0.0, shift=-1.0, spread=0.6)
    """
    return Perturbation(0.0, initial_mean, initial_deviation)


def simulate_perturbed(
    walk: EpochWalk,
    runs: int,
    rng: np.random.Generator,
    *,
    horizon: int,
    perturbation: Perturbation | None = None,
    interval: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> FirstPassages:
    """First passages, in epochs, under a perturbation after epochs P, 2P, ... of the unfinished runs.

    Args:
        walk: the process.
        runs: number of runs.
        rng: source of randomness.
        horizon: runs are stopped after this epoch, and censored there.
        perturbation: the map; None for none.
        interval: P, together with the perturbation.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of runs.

    Returns:
        The first passages; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for an invalid number, or one of perturbation and interval without the other.

    Example:
        >>> from theory.potentials import double_well
        >>> walk = EpochWalk(double_well(), 0.15, 0.2, 0.02, 0.0, 0.6, 0.9, (-2.6, 2.6))
        >>> def mean_epochs(**protocol):
        ...     return simulate_perturbed(walk, 500, np.random.default_rng(0), horizon=40, **protocol).times.mean()
        >>> reset = full_reset(0.0, 0.6)
        >>> bool(mean_epochs(perturbation=reset, interval=5) < 0.6 * mean_epochs())  # half begin in the wrong well
        True
    """
    from sim.epochs import perturbed_passages

    runs, horizon = whole_number("runs", runs, 1), whole_number("horizon", horizon, 1)
    if (perturbation is None) != (interval is None):
        raise ValueError(f"interval={interval} and perturbation belong together: give both or neither")
    change = perturbation or Perturbation(1.0)
    diffusion = Diffusion.of_potential(
        walk.potential,
        diffusivity=walk.diffusivity,
        start=walk.initial_mean,
        target=walk.target,
        limits=walk.limits,
    )
    force = np.pad(diffusion.force, (0, max(4 - len(diffusion.force), 0))) * walk.time_step
    # The process is seen in a mirror if it starts above its target.
    side = 1.0 if walk.initial_mean < walk.target else -1.0
    # Floats: for an integer the kernel would be compiled once more.
    initial = side * walk.initial_mean, float(walk.initial_deviation)
    key, noise = kernel_key(rng), math.sqrt(2 * walk.diffusivity * walk.time_step)
    epochs, arrived = np.empty(runs, np.int64), np.empty(runs, np.bool_)

    cancel = np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        perturbed_passages(
            epochs[first:stop],
            arrived[first:stop],
            key,
            first,
            initial,
            diffusion.upper,
            force,
            diffusion.window,
            noise,
            walk.substeps,
            0 if interval is None else whole_number("interval", interval, 1),
            (float(change.factor), side * change.shift, float(change.spread)),
            horizon,
            cancel,
        )

    n = run_in_chunks(kernel, runs, threads=threads, progress=progress, cancel=cancel)
    if (epochs[:n] < 0).any():
        raise ValueError(
            f"time_step={walk.time_step} is too long for this force: runs left for infinity; take a shorter one"
        )
    return FirstPassages(epochs[:n], arrived[:n])
