"""The one definition of an epoch, shared by theory, simulators and training.

An epoch is M = N // S full batches of S distinct samples; the last N - M S samples of the epoch's order are dropped.
``with_replacement`` and ``reshuffled`` draw one epoch. Runs of epochs are endless iterators, all of one kind:
``epochs = order(samples, batch_size, rng)``, then each epoch is M index arrays, the batches.

    order                         next epoch
    with_replacement_epochs       each batch drawn independently of all others
    reshuffled_epochs             a new order; with ``every=E`` only every E epochs
    shuffled_once_epochs          the first order again
    persistent_epochs             samples enter and leave the batch at random; its size fluctuates around S

The noise that they make is in theory.gradient_noise.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from theory.absorbing import whole_number
from theory.noise_arguments import checked_batch_size, checked_entry_probability

Indices = npt.NDArray[np.int64]


def batches_per_epoch(samples: int, batch_size: int) -> int:
    """M = N // S, the number of full batches in an epoch.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.

    Returns:
        M >= 1.

    Raises:
        ValueError: unless both are whole numbers and 1 <= batch_size <= samples.

    Example:
        >>> batches_per_epoch(500, 32)
        15
    """
    total, size = checked_batch_size(samples, batch_size)
    return total // size


def reshuffled(samples: int, batch_size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """One epoch drawn without replacement, in a new random order.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the epoch's generator.

    Returns:
        Indices of shape (M, S): row m is batch m.

    Raises:
        ValueError: unless both are whole numbers and 1 <= batch_size <= samples.

    Example:
        >>> batches = reshuffled(10, 3, np.random.default_rng(0))
        >>> batches.shape, len(np.unique(batches))
        ((3, 3), 9)
    """
    total, size = checked_batch_size(samples, batch_size)
    return rng.permutation(total)[: total // size * size].reshape(-1, size)


def with_replacement(samples: int, batch_size: int, rng: np.random.Generator) -> Indices:
    """One epoch whose M S samples are all drawn independently; even a batch may hold one twice.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the epoch's generator.

    Returns:
        Indices of shape (M, S): row m is batch m.

    Raises:
        ValueError: unless both are whole numbers and 1 <= batch_size <= samples.

    Example:
        >>> with_replacement(10, 3, np.random.default_rng(0)).shape
        (3, 3)
    """
    total, size = checked_batch_size(samples, batch_size)
    return rng.integers(total, size=(total // size, size))


def with_replacement_epochs(samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Epochs whose samples are all drawn independently.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the run's generator.

    Returns:
        Indices of shape (M, S), epoch by epoch without end.

    Raises:
        ValueError: unless both are whole numbers and 1 <= batch_size <= samples.

    Example:
        >>> epochs = with_replacement_epochs(10, 3, np.random.default_rng(0))
        >>> next(epochs).shape, next(epochs).shape
        ((3, 3), (3, 3))
    """
    total, size = checked_batch_size(samples, batch_size)
    return (with_replacement(total, size, rng) for _ in itertools.count())


def reshuffled_epochs(samples: int, batch_size: int, rng: np.random.Generator, *, every: int = 1) -> Iterator[Indices]:
    """Epochs without replacement, in an order that is drawn anew every E epochs.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the run's generator.
        every: E >= 1, epochs that share an order.

    Returns:
        Indices of shape (M, S), epoch by epoch without end; repeated epochs are the same array.

    Raises:
        ValueError: unless all are whole numbers, 1 <= batch_size <= samples and every >= 1.

    Example:
        >>> epochs = reshuffled_epochs(6, 2, np.random.default_rng(0), every=2)
        >>> first, second, third = (next(epochs) for _ in range(3))
        >>> bool((first == second).all()), bool((second == third).all())
        (True, False)
    """
    repetitions, (total, size) = whole_number("every", every, 1), checked_batch_size(samples, batch_size)
    orders = (reshuffled(total, size, rng) for _ in itertools.count())
    return itertools.chain.from_iterable(itertools.repeat(order, repetitions) for order in orders)


def shuffled_once_epochs(samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Epochs without replacement, all in the same random order. The dropped samples are never seen.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the run's generator.

    Returns:
        Indices of shape (M, S), the same array for each epoch without end.

    Raises:
        ValueError: unless both are whole numbers and 1 <= batch_size <= samples.

    Example:
        >>> epochs = shuffled_once_epochs(6, 2, np.random.default_rng(0))
        >>> bool((next(epochs) == next(epochs)).all())
        True
    """
    return itertools.repeat(reshuffled(samples, batch_size, rng))


def persistent_masks(
    samples: int, batch_size: int, rng: np.random.Generator, *, entry_probability: float
) -> Iterator[npt.NDArray[np.bool_]]:
    """Which samples are in the batch, update by update, when each enters and leaves independently of the others.

    A sample is in the batch a fraction b = S / N of the time, from the beginning. Out of it, it enters with probability
    p (eta / tau in the literature); in it, it leaves with probability p (1 - b) / b. Membership has the autocovariance
    b (1 - b) r^|h| with r = 1 - p / b; at p = b each batch is drawn afresh.

    Args:
        samples: N, the number of training samples.
        batch_size: S, the mean number of samples in a batch, S < N.
        rng: the run's generator.
        entry_probability: p, 0 < p <= min(1, b / (1 - b)).

    Returns:
        Masks of shape (N,), update by update without end.

    Raises:
        ValueError: for arguments out of range.

    Reference: [mignacco2022] persistent SGD
    """
    total, size, entering = checked_entry_probability(samples, batch_size, entry_probability)
    fraction = size / total
    stay_probability = 1 - entering * (1 - fraction) / fraction

    def masks() -> Iterator[npt.NDArray[np.bool_]]:
        members = rng.random(total) < fraction
        while True:
            yield members
            members = rng.random(total) < np.where(members, stay_probability, entering)

    return masks()


def persistent_epochs(
    samples: int, batch_size: int, rng: np.random.Generator, *, entry_probability: float
) -> Iterator[list[Indices]]:
    """Epochs of M = N // S updates whose batches come from ``persistent_masks``.

    Gradients of such batches are sums divided by the mean size S, not by the size: a batch may even be empty.

    Args:
        samples: N, the number of training samples.
        batch_size: S, the mean number of samples in a batch, S < N.
        rng: the run's generator.
        entry_probability: p, 0 < p <= min(1, b / (1 - b)) with b = S / N.

    Returns:
        M index arrays of different lengths, in rising order, epoch by epoch without end.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> epochs = persistent_epochs(100, 20, np.random.default_rng(0), entry_probability=0.02)
        >>> first, second = next(epochs)[:2]
        >>> len(np.intersect1d(first, second)) >= 0.7 * len(first)  # most stay
        True
    """
    masks = persistent_masks(samples, batch_size, rng, entry_probability=entry_probability)
    batches = batches_per_epoch(samples, batch_size)
    return ([np.flatnonzero(mask) for mask in itertools.islice(masks, batches)] for _ in itertools.count())
