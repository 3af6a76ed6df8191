"""The bootstrap: which runs are drawn again, and intervals from what they give."""

import numpy as np
import numpy.typing as npt

LARGEST_SIZE = 5 * 10**8
"""Runs times replicates; their counts are 4 GB."""


def bootstrap_weights(n: int, replicates: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each of n runs is drawn in each bootstrap replicate.

    Args:
        n: number of runs.
        replicates: number of replicates B.
        rng: generator of the bootstrap.

    Returns:
        Counts of shape (B, n); each row sums to n.

    Raises:
        ValueError: if n or replicates is below 1, or both are so large that memory would not do.
    """
    if n < 1 or replicates < 1:
        raise ValueError(f"n={n} and replicates={replicates} must both be >= 1")
    if n * replicates > LARGEST_SIZE:
        raise ValueError(
            f"replicates={replicates} of {n:,} runs take {8e-9 * n * replicates:.3g} GB: take at most "
            f"{LARGEST_SIZE // n:,} replicates"
        )
    return rng.multinomial(n, np.full(n, 1.0 / n), size=replicates)


def percentile_interval(replicates: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates, which may include ``inf``.

    Args:
        replicates: shape (B,); ``inf`` is allowed, nan is not.
        level: coverage probability, strictly between 0 and 1.

    Returns:
        (low, high): order statistics, never an interpolation between a finite and an infinite replicate.

    Raises:
        ValueError: for a nan, no replicates, or a level outside (0, 1).

    Example:
        >>> percentile_interval([1.0, 2.0, 3.0, np.inf], level=0.5)
        (1.0, inf)
    """
    x = np.asarray(replicates, dtype=float)
    if x.ndim != 1 or len(x) == 0 or np.isnan(x).any():
        raise ValueError(
            f"replicates of shape {x.shape} must be numbers (or inf) in one dimension, at least one, no nan"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie strictly between 0 and 1")
    low = np.quantile(x, (1 - level) / 2, method="lower")
    high = np.quantile(x, (1 + level) / 2, method="higher")
    return float(low), float(high)
