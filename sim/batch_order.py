"""The one definition of an epoch, shared by theory, simulators and training.

An epoch is M = N // S full batches of S distinct samples; the last N - M S samples of the epoch's order are dropped.
"""

import numpy as np
import numpy.typing as npt


def batches_per_epoch(samples: int, batch_size: int) -> int:
    """M = N // S, the number of full batches in an epoch.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.

    Returns:
        M >= 1.

    Raises:
        ValueError: unless 1 <= batch_size <= samples.
    """
    if not 1 <= batch_size <= samples:
        raise ValueError(f"batch_size={batch_size} must lie between 1 and the {samples} training samples")
    return samples // batch_size


def reshuffled(samples: int, batch_size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """One epoch drawn without replacement, in a new random order.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.
        rng: the epoch's generator.

    Returns:
        Indices of shape (M, S): row m is batch m.

    Raises:
        ValueError: unless 1 <= batch_size <= samples.

    Example:
        >>> batches = reshuffled(10, 3, np.random.default_rng(0))
        >>> batches.shape, len(np.unique(batches))
        ((3, 3), 9)
    """
    batches = batches_per_epoch(samples, batch_size)
    return rng.permutation(samples)[: batches * batch_size].reshape(batches, batch_size)
