"""Which samples are in the batch, for samples that are followed one by one: the paths s(t) of mean-field theory.

With infinitely many samples a batch is a fraction b of them, and each sample has a random path s(0), s(1), ... of its
own, independent of the others:

    class                    path
    ``FullBatch``            s = b, gradient descent with the mean force of the others
    ``BernoulliBatches``     s = 1 with probability b, anew in each update: SGD
    ``PersistentBatches``    enters with probability eta / tau per update, leaves with (1 - b) eta / (b tau)
    ``ReshuffledBatches``    s = 1 once in each epoch of M = 1 / b updates, at a place drawn anew for each epoch
    ``ShuffledOnceBatches``  likewise, at the same place in all epochs

Persistent batches have Cov(s(t), s(t+h)) = b (1 - b) r^|h| with r = 1 - eta / (b tau), which needs eta <= tau and
(1 - b) eta <= b tau; at tau = eta / b they are Bernoulli batches. sim.batch_order draws batches of finite data sets.

Derived for jostle.

Reference: [mignacco2022] persistent batches
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats, whole_number
from theory.noise_arguments import number

LARGEST_EPOCH = 10**6
"""Batches per epoch."""


class BatchSelection:
    """Common to all: a fraction, and paths."""

    @property
    def batch_fraction(self) -> float:
        """The part of all samples that is in a batch, b = E[s], in (0, 1]."""
        raise NotImplementedError

    @property
    def period(self) -> int:
        """Updates after which the law of the paths repeats: M for epochs, else 1."""
        return 1

    @property
    def label(self) -> str:
        """What tables call it."""
        raise NotImplementedError

    def check(self, learning_rate: float) -> None:
        """Refuse a learning rate with which the paths do not exist; only ``PersistentBatches`` has such.

        Args:
            learning_rate: eta.
        """

    def paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        """Paths of many samples, each with the right law; together stratified, so that averages fluctuate less.

        In each update the samples share out the unit interval: each gets a uniform number from another of as many equal
        parts. A batch of SGD, for example, has b times the number of samples in it, give or take one.

        Args:
            samples: to follow.
            learning_rate: eta.
            rng: source of randomness.

        Returns:
            s(t) of all samples, shape (samples,), update by update without end.

        Raises:
            ValueError: for a learning rate with which the paths do not exist, or no samples.
        """
        self.check(learning_rate)
        return self._paths(whole_number("samples", samples, 1), learning_rate, rng)

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        raise NotImplementedError


def _stratified_uniforms(samples: int, rng: np.random.Generator) -> Floats:
    """Numbers in [0, 1), one from each of as many equal parts, in random order: each is uniform (Latin hypercube)."""
    return (rng.permutation(samples) + rng.random(samples)) / samples


def checked_fraction(value: float) -> float:
    """Check the part of all samples that is in a batch.

    Args:
        value: b.

    Returns:
        It as a float.

    Raises:
        ValueError: unless 1e-6 <= b <= 1.
    """
    fraction = number("batch_fraction", value)
    if not 0 < fraction <= 1:
        raise ValueError(f"batch_fraction={value} must be > 0, or all batches would be empty, and at most 1")
    if fraction < 1 / LARGEST_EPOCH:
        raise ValueError(f"batch_fraction={fraction:g} must be at least {1 / LARGEST_EPOCH:g}: batches would be empty")
    return fraction


@dataclass(frozen=True)
class _Fraction(BatchSelection):
    """Batches that are told by the part of all samples in them."""

    fraction: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", checked_fraction(self.fraction))

    @property
    def batch_fraction(self) -> float:
        """The part of all samples that is in a batch, b."""
        return self.fraction


@dataclass(frozen=True)
class FullBatch(_Fraction):
    """Gradient descent: every sample counts b in every update.

    Attributes:
        fraction: b; less than 1 only to compare with batches of the same mean force.

    Example:
        >>> next(FullBatch(0.25).paths(4, 0.1, np.random.default_rng(0))).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    fraction: float = 1.0

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"gradient descent, b={self.fraction:g}"

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        while True:
            yield np.full(samples, self.fraction)


@dataclass(frozen=True)
class BernoulliBatches(_Fraction):
    """SGD whose batches are drawn anew: each sample is in with probability b, independently.

    Attributes:
        fraction: b.

    Example:
        >>> next(BernoulliBatches(0.25).paths(8, 0.1, np.random.default_rng(0))).sum().item()
        2.0
    """

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"sgd, b={self.fraction:g}"

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        while True:
            yield (_stratified_uniforms(samples, rng) < self.fraction).astype(float)


@dataclass(frozen=True)
class PersistentBatches(_Fraction):
    """Persistent SGD: samples enter and leave the batch at random, and stay out for a time tau on average.

    Attributes:
        fraction: b < 1.
        persistence_time: tau, in units of the learning rate: tau / eta updates.
    """

    persistence_time: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fraction == 1:
            raise ValueError("batch_fraction=1 with persistent batches: nothing is left out that could enter; take < 1")
        time = number("persistence_time", self.persistence_time)
        if not 0 < time < np.inf:
            raise ValueError(f"persistence_time={self.persistence_time} must be finite and > 0")
        object.__setattr__(self, "persistence_time", time)

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"persistent sgd, b={self.fraction:g}, tau={self.persistence_time:g}"

    def check(self, learning_rate: float) -> None:
        """Refuse probabilities above 1.

        Args:
            learning_rate: eta.

        Raises:
            ValueError: unless eta <= tau and (1 - b) eta <= b tau.
        """
        odds = (1 - self.fraction) / self.fraction
        least = learning_rate * max(1.0, odds)
        if self.persistence_time < least * (1 - 1e-12):
            reason = "enter" if odds <= 1 else "leave"
            raise ValueError(
                f"persistence_time={self.persistence_time:g} must be at least {least:g} for learning_rate="
                f"{learning_rate:g} and batch_fraction={self.fraction:g} (eta <= tau and (1 - b) eta <= b tau), or "
                f"samples would {reason} the batch with a probability above 1"
            )

    def correlation(self, learning_rate: float) -> float:
        """The r = 1 - eta / (b tau) of Cov(s(t), s(t+h)) = b (1 - b) r^|h|.

        Args:
            learning_rate: eta.

        Returns:
            r; negative for tau < eta / b.

        Raises:
            ValueError: for a learning rate with which the paths do not exist.

        Example:
            >>> round(PersistentBatches(0.3, 2.0).correlation(0.2), 12)
            0.666666666667
        """
        self.check(learning_rate)
        return 1 - learning_rate / (self.fraction * self.persistence_time)

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        enter = learning_rate / self.persistence_time
        stay = 1 - enter * (1 - self.fraction) / self.fraction
        members = _stratified_uniforms(samples, rng) < self.fraction
        while True:
            yield members.astype(float)
            members = _stratified_uniforms(samples, rng) < np.where(members, stay, enter)


@dataclass(frozen=True)
class _Epochs(BatchSelection):
    """Batches that leave no sample out in an epoch."""

    batches_per_epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches_per_epoch", checked_epoch(self.batches_per_epoch))

    @property
    def batch_fraction(self) -> float:
        """The part of all samples that is in a batch, b = 1 / M."""
        return 1 / self.batches_per_epoch

    @property
    def period(self) -> int:
        """M."""
        return self.batches_per_epoch


@dataclass(frozen=True)
class ReshuffledBatches(_Epochs):
    """Epochs without replacement, in a new order each.

    Attributes:
        batches_per_epoch: M >= 1; b = 1 / M.

    Example:
        >>> paths = ReshuffledBatches(4).paths(100, 0.1, np.random.default_rng(0))
        >>> epoch = sum(next(paths) for _ in range(4))
        >>> bool((epoch == 1).all())  # each sample is in one of the four batches
        True
    """

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"reshuffled, M={self.batches_per_epoch}"

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        while True:
            yield from _epoch(self.batches_per_epoch, samples, rng)


@dataclass(frozen=True)
class ShuffledOnceBatches(_Epochs):
    """Epochs without replacement, all in the first one's order.

    Attributes:
        batches_per_epoch: M >= 1; b = 1 / M.

    Example:
        >>> paths = ShuffledOnceBatches(4).paths(100, 0.1, np.random.default_rng(0))
        >>> first, second = ([next(paths) for _ in range(4)] for _ in range(2))
        >>> bool(np.array_equal(first, second))
        True
    """

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"shuffled once, M={self.batches_per_epoch}"

    def _paths(self, samples: int, learning_rate: float, rng: np.random.Generator) -> Iterator[Floats]:
        epoch = list(_epoch(self.batches_per_epoch, samples, rng))
        while True:
            yield from epoch


def checked_epoch(value: int) -> int:
    """Check a number of batches per epoch.

    Args:
        value: M.

    Returns:
        It as an int.

    Raises:
        ValueError: unless it is whole and 1 <= M <= 10^6.
    """
    batches = whole_number("batches_per_epoch", value, 1)
    if batches > LARGEST_EPOCH:
        raise ValueError(f"batches_per_epoch={batches} must be at most {LARGEST_EPOCH}: batches would be empty")
    return batches


def _epoch(batches: int, samples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """The M batches of one epoch."""
    place = (batches * _stratified_uniforms(samples, rng)).astype(int)
    for batch in range(batches):
        yield (place == batch).astype(float)
