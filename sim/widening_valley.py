"""Gradient descent with noise in the valley L = v^2 |u|^2 / 2, simulated: the counterpart of theory.widening_valley.

The noise on the weights is independent from step to step (PGD), the increments of such noise (Anti-PGD), or of zero sum
in each epoch, as that of reshuffled batches. Every replica has random numbers of its own (sim.valley).

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD in the valley
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from theory.absorbing import whole_number
from theory.estimate import Estimate
from theory.law_arguments import nonnegative
from theory.widening_valley import FOURTH_MOMENTS, Valley

KINDS = ("pgd", "anti_pgd", "reshuffled")
"""Of noise."""

CHUNK = 4
"""Replicas in a chunk, at least the two that an error needs. A step of 127 dimensions takes half a microsecond."""

DIVERGED = 1e100
"""Weights beyond it never come back."""


@dataclass(frozen=True, eq=False)
class SimulatedValley:
    """What replicas of a valley gave.

    Attributes:
        valley: d and eta.
        kind: of the noise.
        steps: that were recorded, shape (n,).
        sharpness: E|u|^2 at each of them [length^2].
        across: E v^2, likewise.
        replicas: that are complete.
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> valley, rng = Valley(10, 0.01), np.random.default_rng(0)
        >>> found = simulate_valley(valley, "pgd", rng, noise_scale=0.01, sharpness=3.0, steps=[0, 5], replicas=2)
        >>> found.steps.tolist(), len(found.across)
        ([0, 5], 2)
    """

    valley: Valley
    kind: str
    steps: npt.NDArray[np.int64]
    sharpness: tuple[Estimate, ...]
    across: tuple[Estimate, ...]
    replicas: int
    requested: int


def simulate_valley(
    valley: Valley,
    kind: str,
    rng: np.random.Generator,
    *,
    noise_scale: float,
    sharpness: float,
    steps: Sequence[int],
    replicas: int = 200,
    law: str = "gaussian",
    batches_per_epoch: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedValley:
    """Sharpness |u|^2 and v^2 of gradient descent with noise, from v = 0 and a given sharpness.

    For Anti-PGD they are those of z_n = w_n - xi_n, as in `theory.widening_valley.anti_pgd_moments`; w_n has d s^2 and
    s^2 more.

    Args:
        valley: d and eta.
        kind: ``"pgd"``, ``"anti_pgd"`` or ``"reshuffled"``.
        rng: source of randomness: two draws make the key of all replicas.
        noise_scale: standard deviation of each coordinate [length]: of xi for the first two, of the noise of a step for
            reshuffled batches.
        sharpness: |u|^2 at the start, below the edge of stability 2 / eta [length^2].
        steps: at which to record, >= 0 and ascending; whole epochs for reshuffled batches, since between them the
            weights carry a part of the noise that the end of the epoch takes away.
        replicas: independent runs, >= 2.
        law: of xi, ``"gaussian"`` or ``"rademacher"`` (each coordinate +-s); the first for reshuffled batches.
        batches_per_epoch: M >= 2, for reshuffled batches and only for them.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of replicas.

    Returns:
        The averages; of fewer replicas than asked for after Ctrl-C.

    Raises:
        ValueError: for arguments out of range or that do not belong to the kind of noise, or if a replica diverges.

    Example:
        >>> valley, rng = Valley(10, 0.01), np.random.default_rng(0)
        >>> simulated = simulate_valley(
        ...     valley, "pgd", rng, noise_scale=0.0, sharpness=3.0, steps=[0, 5], replicas=2
        ... )
        >>> [round(estimate.value, 12) for estimate in simulated.sharpness]
        [3.0, 3.0]
    """
    from sim.gaussian_noise import bridge_filter, stationary_filter
    from sim.valley import run_valley

    replicas = whole_number("replicas", replicas, 2)
    scale, start = float(nonnegative("noise_scale", noise_scale)), float(valley.checked_sharpness(sharpness))
    batches = _checked_kind(kind, law, batches_per_epoch)
    recorded = _checked_steps(steps, batches)
    noise = bridge_filter(batches) if batches > 1 else stationary_filter(1.0, 0.0, 0.0, 0.0)
    if kind == "anti_pgd":
        noise = stationary_filter(1.0, -1.0, 1.0, 0.0)
    noise = noise._replace(fresh=scale * noise.fresh)
    squares, across = np.empty((replicas, len(recorded))), np.empty((replicas, len(recorded)))
    key, cancel = kernel_key(rng), np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        run_valley(
            squares[first:stop],
            across[first:stop],
            key,
            first,
            valley.dimension,
            start,
            valley.learning_rate,
            noise,
            law == "rademacher",
            kind == "anti_pgd",
            recorded,
            cancel,
        )

    done = run_in_chunks(kernel, replicas, threads=threads, chunk=CHUNK, progress=progress, cancel=cancel)
    squares, across = squares[:done], across[:done]
    bad = ~((squares < DIVERGED) & (across < DIVERGED)).all(axis=0)
    if bad.any():
        raise ValueError(
            f"noise_scale={noise_scale}: replicas diverge by step {recorded[bad][0]}; lower the learning rate or the "
            "noise, or start flatter"
        )
    means, means_across = (Estimate.from_columns(values) for values in (squares, across))
    return SimulatedValley(valley, kind, recorded, means, means_across, done, replicas)


def _checked_kind(kind: str, law: str, batches_per_epoch: int | None) -> int:
    """Batches in an epoch, 1 if there are no epochs."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    if law not in FOURTH_MOMENTS:
        raise ValueError(f"law={law!r} must be one of {', '.join(FOURTH_MOMENTS)}")
    if kind != "reshuffled":
        if batches_per_epoch is not None:
            raise ValueError(f"batches_per_epoch={batches_per_epoch} belongs to kind='reshuffled', not to {kind!r}")
        return 1
    if law != "gaussian":
        raise ValueError(f"law={law!r} must be 'gaussian' for kind='reshuffled'")
    if batches_per_epoch is None:
        raise ValueError("batches_per_epoch=None must be a whole number >= 2 for kind='reshuffled'")
    return whole_number("batches_per_epoch", batches_per_epoch, 2)


def _checked_steps(steps: Sequence[int], batches: int) -> npt.NDArray[np.int64]:
    recorded = np.array([whole_number("steps", step, 0) for step in steps], dtype=np.int64)
    if not len(recorded) or (np.diff(recorded) <= 0).any():
        raise ValueError(f"steps={list(steps)} must be at least one number >= 0, ascending")
    broken = recorded[recorded % batches != 0]
    if len(broken):
        raise ValueError(f"steps={broken[0]} must be a whole number of epochs, each of {batches} steps")
    return recorded
