"""SGD on the Gaussian mixture in finite dimensions, simulated: beside theory.mean_field, whose limit is N to infinity.

Each replica has a start, data and batches of its own. At chosen times it gives

    m(t) = w . v* / N,    C(t, t') = w(t) . w(t') / N,    losses, errors and margins of the training samples,
    R(t, t') = f . [w_f(t) - w(t)] / (N h)  from a twin of equal batches to whose weights h f was added in step t',
    distance(t) = |w_1 - w_2|^2 / N         of two trajectories of equal start and data with independent batches.

The field f has random signs, so that R is an estimate of (1 / N) times a trace. A second twin with h / 2 shows whether
h is small enough. Means differ from the limit by terms of order 1 / N: measured, at most 0.6 / N of the value with the
square loss, and 3 / N with others.

Reference: [mignacco2022] the model
"""

import math
from collections.abc import Sequence
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

FIELD = 2.0**-13
"""On the twins: h, the size of each of its components; weights are of order 1."""

LARGEST_NONLINEARITY = 0.01
"""Most that a field half as strong may change the response, in units of the largest response."""

SECONDS_PER_TIME = 5e-4
"""What a recorded time takes."""


@dataclass(frozen=True, eq=False)
class SimulatedPerceptron:
    """What R replicas gave at m times; all arrays have R first. Names are those of ``MeanFieldSolution``.

    Attributes:
        model: the perceptron and its data.
        training: how it starts and moves.
        selection: which samples are in the batch.
        dimensions: N.
        times: recorded ones, rising, in updates.
        field_times: t' of the twins.
        requested: replicas asked for; more than R after Ctrl-C.
        overlap: m(t), shape (R, m).
        correlation: C(t, t'), shape (R, m, m).
        response: R(t, t'), 0 for t <= t', shape (R, m, field times).
        halved_response: the same with half the field, for the first of the field times, shape (R, m); or None.
        replica_distance: shape (R, m); None for one replica of each.
        train_loss: mean over the training samples, without weight decay, shape (R, m).
        train_accuracy: part of the training samples with v > 0, shape (R, m).
        squared_slope: <l'^2> over the training samples, shape (R, m).
        test_error: probability that a new sample has v < 0, by m and C(t, t), shape (R, m).
        margin_quantiles: of v / sqrt(C(t, t)) over the training samples, at ``QUANTILE_LEVELS``: the width of the
            boundary, shape (R, m, levels).
    """

    model: MixturePerceptron
    training: PerceptronTraining
    selection: BatchSelection
    dimensions: int
    times: tuple[int, ...]
    field_times: tuple[int, ...]
    requested: int
    overlap: Floats
    correlation: Floats
    response: Floats
    halved_response: Floats | None
    replica_distance: Floats | None
    train_loss: Floats
    train_accuracy: Floats
    squared_slope: Floats
    test_error: Floats
    margin_quantiles: Floats

    @property
    def replicas(self) -> int:
        """R, those that are complete."""
        return len(self.overlap)

    @property
    def nonlinearity(self) -> float:
        """Largest change over the times, in the mean over replicas, of the response to half the field; relative.

        Raises:
            ValueError: without a field.
        """
        if self.halved_response is None:
            raise ValueError("nonlinearity needs a field: simulate with field_times")
        whole = self.response[:, :, 0].mean(axis=0)
        largest = float(np.abs(whole).max())
        change = float(np.abs(whole - self.halved_response.mean(axis=0)).max())
        return change / largest if largest else 0.0

    def samples(self, quantity: str, *times: int) -> Floats:
        """A quantity in each replica.

        Args:
            quantity: the name of an array.
            times: t for most; t, t' for the correlation; t and a field time for the response; t and the number of the
                level for the margin quantiles.

        Returns:
            Shape (R,).

        Raises:
            ValueError: for another name, for what was not simulated or recorded, or for the response to a field that
                was too strong.

        Example:
            >>> from theory.batch_selection import BernoulliBatches
            >>> model, rng = MixturePerceptron(2.0, 0.5, weight_decay=0.5), np.random.default_rng(0)
            >>> found = simulate_perceptron(
            ...     model, PerceptronTraining(0.4), BernoulliBatches(0.25), rng, dimensions=50, times=[5], replicas=2
            ... )
            >>> found.samples("correlation", 5, 5).shape
            (2,)
        """
        if quantity not in _QUANTITIES:
            raise ValueError(f"quantity={quantity!r} must be one of {', '.join(_QUANTITIES)}")
        values = getattr(self, quantity)
        if values is None:
            raise ValueError("replica_distance needs two replicas: simulate with two_replicas=True")
        second: Sequence[int] = ()
        if quantity == "correlation":
            second = self.times
        elif quantity == "response":
            second = self.field_times
            if second and self.nonlinearity > LARGEST_NONLINEARITY:
                raise ValueError(
                    f"half the field changes the response by {self.nonlinearity:.2g} of it, more than "
                    f"{LARGEST_NONLINEARITY:g}: simulate with a smaller field_strength, or earlier times"
                )
        elif quantity == "margin_quantiles":
            second = range(len(QUANTILE_LEVELS))
        axes = (self.times, second) if values.ndim == 3 else (self.times,)
        if len(times) != len(axes):
            raise ValueError(f"{quantity} needs {len(axes)} indices, not {len(times)}")
        place = tuple(_place(quantity, t, known) for t, known in zip(times, axes, strict=True))
        return values[(slice(None), *place)]

    def estimate(self, quantity: str, *times: int) -> Estimate:
        """One number with its error from the replicas.

        Args:
            quantity: as in ``samples``.
            times: as in ``samples``.

        Returns:
            The mean over the replicas.

        Raises:
            ValueError: as ``samples``.
        """
        return Estimate.from_samples(self.samples(quantity, *times))


_QUANTITIES = (
    "overlap",
    "correlation",
    "response",
    "replica_distance",
    "train_loss",
    "train_accuracy",
    "squared_slope",
    "test_error",
    "margin_quantiles",
)


def _place(quantity: str, time: int, known: Sequence[int]) -> int:
    if time not in known:
        listed = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "") if known else "none at all"
        raise ValueError(f"{quantity} at {time} was not recorded; there are: {listed}")
    return known.index(time)


def cost(
    model: MixturePerceptron,
    selection: BatchSelection,
    *,
    dimensions: int,
    times: Sequence[int],
    replicas: int,
    two_replicas: bool = False,
    field_times: Sequence[int] = (),
    threads: int | None = None,
) -> SimulationCost:
    """Memory and time of `simulate_perceptron`, before it starts.

    Args:
        model: the perceptron and its data.
        selection: how batches are made.
        dimensions: N.
        times: recorded ones.
        replicas: number of them.
        two_replicas: whether each has a second trajectory.
        field_times: t' of the twins.
        threads: by default one for each processor.

    Returns:
        The cost.

    Raises:
        ValueError: for arguments out of range, as in `simulate_perceptron`.

    Example:
        >>> from theory.batch_selection import BernoulliBatches
        >>> model = MixturePerceptron(2.0, 0.5)
        >>> cost(model, BernoulliBatches(0.25), dimensions=800, times=[100], replicas=64, threads=1).memory / 1e6
        5.2
    """
    recorded, pushed = _checked_times(times, field_times)
    sizes = Sizes.of(model, selection, dimensions=dimensions, replicas=replicas, threads=threads)
    size, count, steps, pairs = sizes.dimensions, sizes.replicas, recorded[-1], sizes.pairs
    trajectories = 1 + two_replicas + len(pushed) + bool(pushed)
    results = 8.0 * count * (len(recorded) * (len(recorded) + len(pushed) + 12))
    each = 4 * pairs + 8.0 * size * (len(recorded) + 3 * trajectories) + 8.0 * sizes.samples * 10
    moves = (1 + two_replicas) * steps + sum(steps - t for t in pushed) + (steps - pushed[0] if pushed else 0)
    products = pairs * (8 + moves * selection.batch_fraction + len(recorded))
    seconds = products / PRODUCTS_PER_SECOND + SECONDS_PER_STEP * steps + SECONDS_PER_TIME * len(recorded)
    return SimulationCost(results + sizes.at_once * each, seconds * count / sizes.at_once)


def _checked_times(times: Sequence[int], field_times: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    recorded = tuple(sorted({whole_number("times", t, 0) for t in times}))
    pushed = tuple(sorted({whole_number("field_times", t, 0) for t in field_times}))
    if not recorded or recorded[-1] < 1:
        raise ValueError(f"times={list(times)} must have at least one that is >= 1")
    if pushed and pushed[-1] >= recorded[-1]:
        raise ValueError(f"field_times={list(pushed)} must be below {recorded[-1]}, the last of the times")
    return recorded, pushed


def simulate_perceptron(
    model: MixturePerceptron,
    training: PerceptronTraining,
    selection: BatchSelection,
    rng: np.random.Generator,
    *,
    dimensions: int,
    times: Sequence[int],
    replicas: int = 256,
    two_replicas: bool = False,
    field_times: Sequence[int] = (),
    field_strength: float = FIELD,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedPerceptron:
    """Train perceptrons on data of their own.

    The first trajectory of a replica does not depend on whether others are simulated beside it.

    Args:
        model: the perceptron and its data.
        training: how the weights start and move.
        selection: how batches are made; b times the number of samples must be whole.
        rng: source of randomness: two draws make the key of all replicas.
        dimensions: N >= 2; there are round(alpha N) samples.
        times: recorded ones, in updates; the last one ends the simulation.
        replicas: >= 2.
        two_replicas: whether each has a second trajectory with batches of its own, for the distance.
        field_times: each t' costs a twin that starts there, the first one two.
        field_strength: h > 0.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each replica.

    Returns:
        The replicas; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for arguments out of range, batches that cannot be, too much memory, or weights that diverge.
        KeyboardInterrupt: if fewer than two replicas were complete.

    Example:
        >>> from theory.batch_selection import BernoulliBatches
        >>> model, rng = MixturePerceptron(2.0, 0.5, weight_decay=0.5), np.random.default_rng(0)
        >>> found = simulate_perceptron(
        ...     model, PerceptronTraining(0.2), BernoulliBatches(0.5), rng, dimensions=20, times=[0, 5], replicas=4
        ... )
        >>> found.train_loss.shape, bool(found.train_loss[:, 1].mean() < found.train_loss[:, 0].mean())
        ((4, 2), True)
    """
    recorded, pushed = _checked_times(times, field_times)
    strength = number("field_strength", field_strength)
    if not 1e-9 <= strength <= 1e3:
        raise ValueError(f"field_strength={field_strength} must lie between 1e-09 and 1000")
    selection.check(training.learning_rate)
    cost(
        model,
        selection,
        dimensions=dimensions,
        times=recorded,
        replicas=replicas,
        two_replicas=two_replicas,
        field_times=pushed,
        threads=threads,
    ).refuse_too_large(
        f"dimensions={dimensions} and {len(recorded)} times of replicas={replicas}",
        "dimensions, times, replicas or threads",
    )
    dimensions, replicas = int(dimensions), int(replicas)  # whole, but maybe 200.0
    points, levels = len(recorded), len(QUANTILE_LEVELS)
    correlation, response = np.zeros((replicas, points, points)), np.zeros((replicas, points, len(pushed)))
    halved, quantiles = np.zeros((replicas, points)), np.zeros((replicas, points, levels))
    overlap, distance, loss, accuracy, slopes = np.zeros((5, replicas, points))
    # Trajectories: the first, the second replica, the twin with half the field, the twins.
    selected = [0] + [1] * two_replicas + [0] * (bool(pushed) + len(pushed))
    half, twins = 1 + two_replicas, 2 + two_replicas

    def observe(replica: int, place: int, shared: SharedTraining, field: Floats) -> None:
        norm, weights = shared.norm(0), shared.weights
        overlap[replica, place] = weights[0].mean()
        if two_replicas:
            shared.norm(1)  # refuses weights that diverge
            distance[replica, place] = np.mean((weights[0] - weights[1]) ** 2)
        if pushed:
            answers = (weights[half:] - weights[0]) @ field / (dimensions * strength**2)
            begun = np.array(pushed) < recorded[place]
            response[replica, place] = np.where(begun, answers[1:], 0.0)
            halved[replica, place] = 2 * answers[0] if begun[0] else 0.0
        u = shared.fields(0)
        margins = model.margins(shared.labels, u)
        slope, _ = model.derivatives(shared.labels, u)
        loss[replica, place], accuracy[replica, place] = model.losses(margins).mean(), (margins > 0).mean()
        slopes[replica, place] = slope @ slope / len(slope)
        quantiles[replica, place] = np.quantile(margins, QUANTILE_LEVELS) / math.sqrt(norm or 1.0)

    def run(replica: int, own: np.random.Generator, cancel: npt.NDArray[np.bool_]) -> None:
        shared = SharedTraining(model, training, selection, dimensions, selected, own)
        shared.active = np.arange(1 + two_replicas)
        field = strength * own.spawn(1)[0].choice([-1.0, 1.0], size=dimensions)
        visited = np.empty((points, dimensions))
        place = 0
        for t in range(recorded[-1] + 1):
            if cancel[0]:
                return
            if t:
                shared.step()
            if t and t - 1 in pushed:
                number_of_field = pushed.index(t - 1)
                shared.push(twins + number_of_field, field)
                if number_of_field == 0:
                    shared.push(half, field / 2)
            if t == recorded[place]:
                observe(replica, place, shared, field)
                visited[place] = shared.weights[0]
                place += 1
        correlation[replica] = visited @ visited.T / dimensions

    done = run_replicas(run, replicas, rng, threads=threads, progress=progress)
    norms = np.diagonal(correlation[:done], axis1=1, axis2=2)
    return SimulatedPerceptron(
        model,
        training,
        selection,
        dimensions,
        recorded,
        pushed,
        replicas,
        overlap=overlap[:done],
        correlation=correlation[:done],
        response=response[:done],
        halved_response=halved[:done] if pushed else None,
        replica_distance=distance[:done] if two_replicas else None,
        train_loss=loss[:done],
        train_accuracy=accuracy[:done],
        squared_slope=slopes[:done],
        test_error=model.test_error(overlap[:done], np.maximum(norms, np.finfo(float).tiny)),
        margin_quantiles=quantiles[:done],
    )
