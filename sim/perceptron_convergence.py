"""How wide the boundary is once training has ended: perceptrons followed until all training samples are right.

A trajectory has converged when every training sample has v > 0 and the mean loss, without weight decay, is at most a
bound. Runs of noisy algorithms that are stopped at one time have not come equally far: their margins then compare
progress, and not solutions. What does not converge within the steps given is censored, and no mean over the others
stands in for it.

Reference: [mignacco2022] wider boundaries of noisier algorithms
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress
from sim.perceptron_replicas import PRODUCTS_PER_SECOND, SECONDS_PER_STEP, SimulationCost, Sizes, run_replicas
from sim.perceptron_training import SharedTraining
from theory.absorbing import Floats, whole_number
from theory.batch_selection import BatchSelection
from theory.estimate import Estimate
from theory.mean_field_solution import QUANTILE_LEVELS
from theory.mixture_model import MixturePerceptron, PerceptronTraining
from theory.noise_arguments import number

LOSS_BOUND = 1e-4
"""Mean loss at which training has ended."""

_LOOK = 100
"""Steps between two looks whether the weights diverge."""


@dataclass(frozen=True, eq=False)
class ConvergedPerceptrons:
    """What R replicas gave, of two trajectories each with equal start and data and independent batches.

    Attributes:
        model: the perceptron and its data.
        training: how it starts and moves.
        selection: which samples are in the batch.
        dimensions: N.
        loss_bound: at which training has ended.
        most_steps: after which a trajectory is given up.
        requested: replicas asked for; more than R after Ctrl-C.
        steps: until convergence, found to within ``check_every``; ``inf`` if given up; shape (R, 2).
        overlap: m where a trajectory ended, converged or given up, shape (R, 2), as all that follow.
        norm: |w|^2 / N.
        train_loss: mean over the training samples.
        train_accuracy: part of the training samples with v > 0.
        test_error: probability that a new sample has v < 0.
        margin_quantiles: of v sqrt(N) / |w| over the training samples, at ``QUANTILE_LEVELS``, shape (R, 2, levels).
        replica_distance: |w_1 - w_2|^2 / N of where both ended, shape (R,).

    Example:
        >>> from theory.batch_selection import FullBatch
        >>> model = MixturePerceptron(sample_ratio=0.5, noise_variance=1.0, loss="squared_hinge")
        >>> rng = np.random.default_rng(0)
        >>> found = simulate_to_convergence(
        ...     model, PerceptronTraining(0.4), FullBatch(), rng, dimensions=40, most_steps=500, replicas=2
        ... )
        >>> found.steps.shape, bool((found.replica_distance < 1e-12).all())  # without noise both end in one place
        ((2, 2), True)
    """

    model: MixturePerceptron
    training: PerceptronTraining
    selection: BatchSelection
    dimensions: int
    loss_bound: float
    most_steps: int
    requested: int
    steps: Floats
    overlap: Floats
    norm: Floats
    train_loss: Floats
    train_accuracy: Floats
    test_error: Floats
    margin_quantiles: Floats
    replica_distance: Floats

    @property
    def replicas(self) -> int:
        """R, those that are complete."""
        return len(self.steps)

    @property
    def converged(self) -> Estimate:
        """The share of trajectories that converged."""
        return Estimate.from_samples(np.isfinite(self.steps).mean(axis=1))

    @property
    def restricted_steps(self) -> Estimate:
        """The mean of min(steps to convergence, most_steps), which trajectories given up do not spoil."""
        return Estimate.from_samples(np.minimum(self.steps, self.most_steps).mean(axis=1))

    def samples(self, quantity: str, *level: int) -> Floats:
        """A number at convergence, of each replica.

        Args:
            quantity: ``steps``, ``overlap``, ``norm``, ``train_loss``, ``test_error``, ``margin_quantiles``,
                ``replica_distance``, or ``relative_distance``: the distance over the mean of both norms.
            level: for the margin quantiles, the number of the level.

        Returns:
            The mean of both trajectories, shape (R,).

        Raises:
            ValueError: for another quantity, or if a trajectory was given up.
        """
        if quantity not in _QUANTITIES or len(level) != (quantity == "margin_quantiles"):
            raise ValueError(
                f"quantity={quantity!r} with {len(level)} levels must be one of {', '.join(_QUANTITIES)}, with one for "
                f"margin_quantiles"
            )
        if level and level[0] not in range(len(QUANTILE_LEVELS)):
            raise ValueError(f"level={level[0]} must be a number below {len(QUANTILE_LEVELS)}, that of a quantile")
        given_up = int(np.isinf(self.steps).sum())
        if given_up:
            raise ValueError(
                f"{given_up} of {self.steps.size} trajectories had not converged after most_steps={self.most_steps}, "
                f"and the others alone would mislead: take more steps, fewer samples per dimension or a larger "
                f"loss_bound"
            )
        if quantity == "relative_distance":
            return self.replica_distance / self.norm.mean(axis=1)
        if quantity == "replica_distance":
            return self.replica_distance
        return getattr(self, quantity)[(slice(None), slice(None), *level)].mean(axis=1)

    def estimate(self, quantity: str, *level: int) -> Estimate:
        """The mean of ``samples`` with its error.

        Args:
            quantity: as in ``samples``.
            level: as in ``samples``.

        Returns:
            The mean over the replicas.

        Raises:
            ValueError: as ``samples``.
        """
        return Estimate.from_samples(self.samples(quantity, *level))


_QUANTITIES = (
    "steps",
    "overlap",
    "norm",
    "train_loss",
    "test_error",
    "margin_quantiles",
    "replica_distance",
    "relative_distance",
)


def cost_at_most(
    model: MixturePerceptron,
    selection: BatchSelection,
    *,
    dimensions: int,
    most_steps: int,
    check_every: int = 1,
    replicas: int = 64,
    threads: int | None = None,
) -> SimulationCost:
    """Memory of `simulate_to_convergence`, and its time if nothing converged, before it starts.

    Args:
        model: the perceptron and its data.
        selection: how batches are made.
        dimensions: N.
        most_steps: after which a trajectory is given up.
        check_every: steps between two looks at all training samples.
        replicas: number of them.
        threads: by default one for each processor.

    Returns:
        The cost.

    Raises:
        ValueError: for arguments out of range, as in `simulate_to_convergence`.

    Example:
        >>> from theory.batch_selection import BernoulliBatches
        >>> model = MixturePerceptron(1.5, 1.0, loss="squared_hinge")
        >>> most = cost_at_most(model, BernoulliBatches(0.25), dimensions=400, most_steps=1000, replicas=16, threads=1)
        >>> round(most.seconds)
        9
    """
    sizes = Sizes.of(model, selection, dimensions=dimensions, replicas=replicas, threads=threads)
    most, every = whole_number("most_steps", most_steps, 1), whole_number("check_every", check_every, 1)
    size, count, samples, width, pairs = sizes.dimensions, sizes.replicas, sizes.samples, sizes.at_once, sizes.pairs
    products = pairs * (8 + 2 * most * (selection.batch_fraction + 0.5 / every))
    memory = width * (4 * pairs + 48.0 * size + 80.0 * samples) + 150.0 * count
    seconds = products / PRODUCTS_PER_SECOND + SECONDS_PER_STEP * most * (1 + 1 / every)
    return SimulationCost(memory, seconds * count / width)


def simulate_to_convergence(
    model: MixturePerceptron,
    training: PerceptronTraining,
    selection: BatchSelection,
    rng: np.random.Generator,
    *,
    dimensions: int,
    most_steps: int,
    loss_bound: float = LOSS_BOUND,
    check_every: int = 1,
    replicas: int = 64,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ConvergedPerceptrons:
    """Train perceptrons until they have learned all training samples.

    Generators of equal state give equal data and starts whatever the training and the selection, so that differences
    between two of them can be taken replica by replica.

    Args:
        model: the perceptron and its data.
        training: how the weights start and move.
        selection: how batches are made; b times the number of samples must be whole.
        rng: source of randomness: two draws make the key of all replicas.
        dimensions: N >= 2; there are round(alpha N) samples.
        most_steps: after which a trajectory is given up.
        loss_bound: > 0.
        check_every: steps between two looks at all training samples, each of which costs about 1 / (2 b) steps; more
            than one lets trajectories go on beyond the bound, each by its own speed.
        replicas: >= 2, of two trajectories.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each replica.

    Returns:
        The replicas; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for arguments out of range, batches that cannot be, too much memory, or weights that diverge.
        KeyboardInterrupt: if fewer than two replicas were complete.

    Example:
        >>> from theory.batch_selection import BernoulliBatches
        >>> model = MixturePerceptron(sample_ratio=0.5, noise_variance=1.0, loss="squared_hinge")
        >>> training, rng = PerceptronTraining(learning_rate=0.4), np.random.default_rng(0)
        >>> found = simulate_to_convergence(
        ...     model, training, BernoulliBatches(0.5), rng, dimensions=40, most_steps=500, replicas=2
        ... )
        >>> found.converged.value
        1.0
    """
    bound = number("loss_bound", loss_bound)
    if not 0 < bound < math.inf:
        raise ValueError(f"loss_bound={loss_bound} must be finite and > 0")
    selection.check(training.learning_rate)
    cost_at_most(
        model,
        selection,
        dimensions=dimensions,
        most_steps=most_steps,
        check_every=check_every,
        replicas=replicas,
        threads=threads,
    ).refuse_too_large(f"dimensions={dimensions}", "dimensions or threads")
    size, count, most = int(dimensions), int(replicas), int(most_steps)
    steps = np.full((count, 2), math.inf)
    overlap, norm, loss, accuracy = np.zeros((4, count, 2))
    quantiles, distance = np.zeros((count, 2, len(QUANTILE_LEVELS))), np.zeros(count)

    def run(replica: int, own: np.random.Generator, cancel: npt.NDArray[np.bool_]) -> None:
        shared = SharedTraining(model, training, selection, size, [0, 1], own)
        for t in range(most + 1):
            if cancel[0]:
                return
            if t:
                shared.step()
            if t % check_every and t < most:
                continue
            running = []
            for k in shared.active.tolist():
                if t % _LOOK == 0:
                    shared.norm(k)  # refuses weights that diverge
                margins = model.margins(shared.labels, shared.fields(k))
                right = margins.min() > 0
                if right or t == most:
                    loss[replica, k], accuracy[replica, k] = model.losses(margins).mean(), (margins > 0).mean()
                done = right and loss[replica, k] <= bound
                if done:
                    steps[replica, k] = t
                else:
                    running.append(k)
                if done or t == most:
                    overlap[replica, k], norm[replica, k] = shared.weights[k].mean(), shared.norm(k)
                    quantiles[replica, k] = np.quantile(margins, QUANTILE_LEVELS) / math.sqrt(norm[replica, k] or 1.0)
            shared.active = np.array(running, np.int64)
            if not running:
                break
        distance[replica] = np.mean((shared.weights[0] - shared.weights[1]) ** 2)

    done = run_replicas(run, count, rng, threads=threads, progress=progress)
    return ConvergedPerceptrons(
        model,
        training,
        selection,
        size,
        bound,
        most,
        count,
        steps=steps[:done],
        overlap=overlap[:done],
        norm=norm[:done],
        train_loss=loss[:done],
        train_accuracy=accuracy[:done],
        test_error=model.test_error(overlap[:done], np.maximum(norm[:done], np.finfo(float).tiny)),
        margin_quantiles=quantiles[:done],
        replica_distance=distance[:done],
    )
