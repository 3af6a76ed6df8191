"""One perceptron on one draw of the Gaussian mixture: data, batches, and trajectories that share both.

    x_mu = c_mu v* / sqrt(N) + sqrt(Delta) z_mu,    u_mu = w . x_mu / sqrt(N),    v* = (1, ..., 1),
    w(t+1) = w(t) + beta (w(t) - w(t-1)) - eta [lambda w(t) + sum_mu s_mu(t) l'_mu x_mu / sqrt(N)].

Trajectories of one draw differ by a push or by their batches only. A step reads each sample of a batch once for all
trajectories, field and force together, and the others not at all. At b = 1/4 that is 2 to 5 times as fast as two matrix
products by BLAS; at b = 1 it is as fast, for six trajectories three quarters as fast. Inputs are kept in single
precision, which is but another draw of the noise; all that is computed from them is in double precision.

Each cluster has its exact share of the samples up to rounding; b times the number of samples must be whole.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.batch_order import persistent_masks, reshuffled_epochs, shuffled_once_epochs
from sim.lanes import KERNEL, LANES, aligned_floats, aligned_words, normal_pairs, seed_lane, wide_vectors
from sim.random_streams import kernel_key
from theory.absorbing import Floats
from theory.batch_selection import (
    BatchSelection,
    BernoulliBatches,
    FullBatch,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.mixture_model import ACTIVATIONS, LOSSES, MixturePerceptron, PerceptronTraining

Singles = npt.NDArray[np.float32]

LARGEST_NORM = 1e12
"""|w|^2 / N beyond which training counts as diverged."""

_LOGISTIC, _HINGE, _PERCEPTRON = (LOSSES.index(name) for name in ("logistic", "squared_hinge", "perceptron"))


# ---- Data and batches ------------------------------------------------------------------------------------------------


def training_samples(model: MixturePerceptron, dimensions: int) -> int:
    """P, the whole number nearest to alpha N, at least 1.

    Args:
        model: the perceptron and its data.
        dimensions: N.

    Returns:
        P.
    """
    return max(1, round(model.sample_ratio * dimensions))


def draw_data(model: MixturePerceptron, dimensions: int, rng: np.random.Generator) -> tuple[Singles, Floats]:
    """Training samples.

    Args:
        model: the perceptron and its data.
        dimensions: N.
        rng: source of randomness.

    Returns:
        x_mu / sqrt(N), shape (P, N), and the labels y, shape (P,); sorted by cluster.
    """
    samples = training_samples(model, dimensions)
    cluster = np.searchsorted(np.cumsum(model.probabilities)[:-1], (np.arange(samples) + 0.5) / samples)
    inputs = np.empty((samples, dimensions), np.float32)
    _draw(inputs.ravel(), kernel_key(rng))
    inputs *= np.float32(math.sqrt(model.noise_variance / dimensions))
    inputs += (np.array(model.centres, np.float32)[cluster] / np.float32(dimensions))[:, None]
    return inputs, np.array(model.labels, float)[cluster]


def draw_start(training: PerceptronTraining, dimensions: int, rng: np.random.Generator) -> Floats:
    """Weights of exactly the overlap and the spread that are wanted, else random.

    Args:
        training: says both.
        dimensions: N >= 2.
        rng: source of randomness.

    Returns:
        w(0), shape (N,).
    """
    across = rng.standard_normal(dimensions)
    across -= across.mean()
    return training.initial_overlap + across * (training.initial_spread / math.sqrt(across @ across / dimensions))


def mean_batch(selection: BatchSelection, samples: int) -> int:
    """The number of samples in a batch, b P; of batches whose size fluctuates, on average.

    Args:
        selection: how batches are made.
        samples: P.

    Returns:
        At least 1.

    Raises:
        ValueError: unless it is whole.
    """
    exact = selection.batch_fraction * samples
    if isinstance(selection, FullBatch):
        return samples
    if round(exact) < 1 or abs(exact - round(exact)) > 1e-9 * exact:
        raise ValueError(
            f"batch_fraction={selection.batch_fraction:g} of {samples} samples is {exact:g}, not a whole number >= 1: "
            f"take dimensions with which it is one"
        )
    return round(exact)


def batches(
    selection: BatchSelection, samples: int, learning_rate: float, rng: np.random.Generator
) -> Iterator[Floats]:
    """How much each sample counts, s_mu(t), by the definitions of sim.batch_order.

    Args:
        selection: how batches are made.
        samples: P.
        learning_rate: eta.
        rng: source of randomness.

    Returns:
        Shape (P,), update by update without end.

    Raises:
        ValueError: for batches that cannot be.

    Example:
        >>> orders = batches(ReshuffledBatches(2), 4, 0.1, np.random.default_rng(0))
        >>> (next(orders) + next(orders)).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    selection.check(learning_rate)
    size = mean_batch(selection, samples)
    if isinstance(selection, FullBatch) or size == samples:
        return _constant(np.full(samples, selection.batch_fraction))
    if isinstance(selection, BernoulliBatches):
        return _floats(persistent_masks(samples, size, rng, entry_probability=size / samples))
    if isinstance(selection, PersistentBatches):
        entering = min(learning_rate / selection.persistence_time, 1.0, size / (samples - size))  # but for rounding
        return _floats(persistent_masks(samples, size, rng, entry_probability=entering))
    if isinstance(selection, ReshuffledBatches):
        return _members(reshuffled_epochs(samples, size, rng), samples)
    if isinstance(selection, ShuffledOnceBatches):
        return _members(shuffled_once_epochs(samples, size, rng), samples)
    raise ValueError(f"selection={selection!r} is none of those of theory.batch_selection")


def _constant(counts: Floats) -> Iterator[Floats]:
    while True:
        yield counts


def _floats(masks: Iterator[npt.NDArray[np.bool_]]) -> Iterator[Floats]:
    for mask in masks:
        yield mask.astype(float)


def _members(epochs: Iterator[npt.NDArray[np.int64]], samples: int) -> Iterator[Floats]:
    for epoch in epochs:
        for batch in epoch:
            counts = np.zeros(samples)
            counts[batch] = 1.0
            yield counts


# ---- Kernels ---------------------------------------------------------------------------------------------------------

_REORDERED: dict[str, Any] = KERNEL | {"fastmath": {"contract", "nsz", "reassoc"}}
"""Lets the compiler sum in vectors, twice as fast overall: last digits depend on the processor, as they do in BLAS."""


@njit(**KERNEL)
def _draw(values, key):
    """Standard normal numbers, five times as fast as numpy's."""
    wide_vectors()
    state, tickets, normals = aligned_words(4 * LANES), aligned_words(LANES), aligned_floats(2 * LANES)
    for lane in range(LANES):
        seed_lane(state, lane, tickets, key, lane)
    for first in range(0, len(values), 2 * LANES):
        normal_pairs(state, normals)
        for j in range(min(2 * LANES, len(values) - first)):
            values[first + j] = normals[j]


@njit(**_REORDERED)
def _product(row, vector):
    """A scalar product."""
    wide_vectors()
    total = 0.0
    for j in range(len(vector)):
        total += row[j] * vector[j]
    return total


@njit(**KERNEL)
def _slope(loss, door, parameters, label, field):
    """The derivative l' of theory.mixture_model."""
    margin = label * (field * field - parameters[2] * parameters[2]) if door else label * field
    if loss == _LOGISTIC:
        small = math.exp(-abs(margin))
        slope = -small / (1.0 + small) if margin > 0.0 else -1.0 / (1.0 + small)
    elif loss == _HINGE:
        slope = -max(parameters[0] - margin, 0.0)
    elif loss == _PERCEPTRON:
        slope = -min(max(parameters[0] - margin, 0.0) / parameters[1], 1.0)
    else:
        slope = margin - 1.0
    return label * slope * (2.0 * field if door else 1.0)


@njit(**KERNEL)
def _advance(weights, before, forces, active, selected, inputs, labels, counts, loss, door, parameters, rates):
    """A step of the trajectories in ``active``; trajectory k has the batch ``counts[selected[k]]``."""
    wide_vectors()
    dimensions = weights.shape[1]
    for k in active:
        for j in range(dimensions):
            forces[k, j] = 0.0
    for sample in range(len(labels)):
        row = inputs[sample]
        for k in active:
            count = counts[selected[k], sample]
            if count == 0.0:
                continue
            strength = count * _slope(loss, door, parameters, labels[sample], _product(row, weights[k]))
            if strength == 0.0:
                continue
            force = forces[k]
            for j in range(dimensions):
                force[j] += strength * row[j]
    rate, momentum, decay = rates[0], rates[1], rates[2]
    for k in active:
        for j in range(dimensions):
            at = weights[k, j]
            weights[k, j] = at + momentum * (at - before[k, j]) - rate * (decay * at + forces[k, j])
            before[k, j] = at


@njit(**KERNEL)
def _fields(inputs, vector, fields):
    """The fields of all samples."""
    for sample in range(len(fields)):
        fields[sample] = _product(inputs[sample], vector)


# ---- Trajectories ----------------------------------------------------------------------------------------------------


class SharedTraining:
    """Trajectories from one start on one draw of the data; the batches of each are those of one of two selections.

    Attributes:
        weights: of each trajectory, shape (K, N).
        labels: y, shape (P,).
        active: numbers of the trajectories that move.
    """

    def __init__(
        self,
        model: MixturePerceptron,
        training: PerceptronTraining,
        selection: BatchSelection,
        dimensions: int,
        selected: list[int],
        rng: np.random.Generator,
    ) -> None:
        """Draw data, start and batches.

        Args:
            model: the perceptron and its data.
            training: how the weights start and move.
            selection: how both independent sequences of batches are made.
            dimensions: N.
            selected: for each trajectory 0 or 1, the sequence that it has.
            rng: source of randomness; data, start and either sequence of batches are the same whatever ``selected``.
        """
        data, start, *orders = rng.spawn(4)
        self._model, self._training = model, training
        self._inputs, self.labels = draw_data(model, dimensions, data)
        samples = len(self.labels)
        self._batches = [batches(selection, samples, training.learning_rate, order) for order in orders]
        self._batches = self._batches[: 1 + max(selected)]
        self._counts = np.zeros((len(self._batches), samples))
        self._selected = np.array(selected, np.int64)
        self.weights = np.tile(draw_start(training, dimensions, start), (len(selected), 1))
        self._before, self._forces = self.weights.copy(), np.zeros_like(self.weights)
        self._fields = np.empty(samples)
        self.active = np.arange(len(selected))
        self._kind = (
            LOSSES.index(model.loss),
            model.activation == ACTIVATIONS[1],
            np.array([model.margin, model.smoothing, model.door_width]),
            np.array([training.learning_rate, training.momentum, model.weight_decay]),
        )

    def step(self) -> None:
        """One update of the active trajectories."""
        for counts, order in zip(self._counts, self._batches, strict=True):
            counts[:] = next(order)
        _advance(
            self.weights,
            self._before,
            self._forces,
            self.active,
            self._selected,
            self._inputs,
            self.labels,
            self._counts,
            *self._kind,
        )

    def push(self, trajectory: int, field: Floats) -> None:
        """Make a trajectory that of number 0 with a field added to its weights, and let it move.

        Args:
            trajectory: its number.
            field: shape (N,).
        """
        self.weights[trajectory] = self.weights[0] + field
        self._before[trajectory] = self._before[0]
        self.active = np.append(self.active, trajectory)

    def fields(self, trajectory: int) -> Floats:
        """The fields u of all training samples.

        Args:
            trajectory: whose.

        Returns:
            Shape (P,); overwritten by the next call.
        """
        _fields(self._inputs, self.weights[trajectory], self._fields)
        return self._fields

    def norm(self, trajectory: int) -> float:
        """|w|^2 / N, refused if the weights have diverged.

        Args:
            trajectory: whose.

        Returns:
            The square of the norm over N.

        Raises:
            ValueError: if it is beyond ``LARGEST_NORM``.
        """
        vector = self.weights[trajectory]
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(vector @ vector) / len(vector)
        if not square < LARGEST_NORM:
            raise ValueError(f"learning_rate={self._training.learning_rate:g}: the weights diverge; take a smaller one")
        return square
