"""Gaussian gradient noise of every batch order, as one filter of standard normal numbers z, for kernels.

    xi = fresh z + pull m,    m' = kept m + xi

The three coefficients may depend on the place in the epoch. Independent noise has no
pull; increments of independent noise subtract the last number; persistent noise keeps a part of the last xi. Reshuffled
batches have noise that sums to zero over an epoch, in Gaussian numbers a bridge, and it is drawn without storing the
epoch: with j numbers of M drawn, m their sum,

    fresh = sqrt(M / (M - 1)) sqrt((M - j - 1) / (M - j)),    pull = -1 / (M - j).

Reference: Derived for jostle: this has exactly the law of (M normal numbers minus their mean) sqrt(M / (M - 1)).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.lanes import KERNEL, LANES, aligned_floats, normal_pairs
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)

FOREVER = 2**62
"""Epochs: more than anybody trains."""


class NoiseFilter(NamedTuple):
    """Coefficients for each place in the epoch; noise of unit variance.

    Attributes:
        fresh: of the normal number, shape (M,); M = 1 for noise that knows no epochs.
        pull: of the memory in xi, likewise.
        kept: of the memory in the next memory, likewise.
        start: standard deviation of the memory before the first step: noise is stationary from the beginning.
        epochs: so many share one draw, which is kept; 1 for noise that is drawn step by step.
    """

    fresh: npt.NDArray[np.float64]
    pull: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]
    start: float = 0.0
    epochs: int = 1

    @property
    def batches(self) -> int:
        """M, or 1 for noise that knows no epochs."""
        return len(self.fresh)

    @property
    def period(self) -> int:
        """Steps over which noise is to be averaged: an epoch, or all that share a draw and then make way for others."""
        return self.batches * (self.epochs if self.epochs < FOREVER else 1)


def stationary_filter(fresh: float, pull: float, kept: float, start: float) -> NoiseFilter:
    """A filter that does not depend on the place in the epoch.

    Args:
        fresh, pull, kept: its coefficients.
        start: standard deviation of the memory at first.

    Returns:
        The filter, with M = 1.
    """
    return NoiseFilter(np.array([fresh]), np.array([pull]), np.array([kept]), start)


def bridge_filter(batches: int, *, epochs: int = 1) -> NoiseFilter:
    """Noise of zero sum in each epoch.

    Args:
        batches: M >= 2, of an epoch.
        epochs: that share one draw.

    Returns:
        The filter.
    """
    left = batches - np.arange(batches, dtype=float)
    later = np.arange(batches) > 0  # at the first place, what the last epoch left in the memory is dropped
    fresh = np.sqrt(batches / (batches - 1.0) * (left - 1) / left)
    return NoiseFilter(fresh, np.where(later, -1 / left, 0.0), later.astype(np.float64), 0.0, epochs)


def filter_of(noise: GradientNoise) -> NoiseFilter:
    """The filter whose noise has the autocovariance of a batch order.

    Args:
        noise: WhiteNoise, Reshuffled, ReshuffledEvery, ShuffledOnce, AntiCorrelatedIncrements or Persistent; of any
            variance.

    Returns:
        The filter, of unit variance.

    Raises:
        ValueError: for any other noise.

    Example:
        >>> filter_of(Reshuffled(2)).fresh.tolist()
        [1.0, 0.0]
    """
    if isinstance(noise, WhiteNoise):
        return stationary_filter(1.0, 0.0, 0.0, 0.0)
    if isinstance(noise, Reshuffled):
        return bridge_filter(noise.batches_per_epoch)
    if isinstance(noise, ReshuffledEvery):
        return bridge_filter(noise.batches_per_epoch, epochs=noise.epochs)
    if isinstance(noise, ShuffledOnce):
        return bridge_filter(noise.batches_per_epoch, epochs=FOREVER)
    if isinstance(noise, AntiCorrelatedIncrements):
        return stationary_filter(0.5**0.5, -1.0, 1.0, 0.5**0.5)
    if isinstance(noise, Persistent):
        fresh = ((1 - noise.correlation) * (1 + noise.correlation)) ** 0.5
        return stationary_filter(fresh, noise.correlation, 0.0, 1.0)
    raise ValueError(f"noise={noise} has no Gaussian simulation; draw batches of indices with sim.batch_order")


@njit(**KERNEL)
def draw_epoch(epoch, state, normals, noise):
    """The noise of an epoch for all lanes, for filters whose epochs share draws.

    Args:
        epoch: filled, shape (M * LANES,).
        state: of the generators, uint64, shape (4 * LANES,).
        normals: overwritten, shape (2 * LANES,).
        noise: the filter.
    """
    memory = aligned_floats(LANES)
    for batch in range(len(noise.fresh)):
        if batch % 2 == 0:
            normal_pairs(state, normals)
        for i in range(LANES):
            xi = noise.fresh[batch] * normals[(batch % 2) * LANES + i] + noise.pull[batch] * memory[i]
            memory[i] = noise.kept[batch] * memory[i] + xi
            epoch[batch * LANES + i] = xi


@njit(**KERNEL, inline="always")
def redraw(epoch, state, normals, noise, uses):
    """To be called at the beginning of each epoch: draws the one that is kept, if its time has come.

    Args:
        epoch: as ``draw_epoch`` fills it.
        state: of the generators.
        normals: overwritten when an epoch is drawn, shape (2 * LANES,).
        noise: the filter.
        uses: epochs that have begun with what is kept; 0 before the first.

    Returns:
        ``uses``, this epoch included.
    """
    uses = uses + 1 if 0 < uses < noise.epochs else 1
    if uses == 1:
        draw_epoch(epoch, state, normals, noise)
    return uses
