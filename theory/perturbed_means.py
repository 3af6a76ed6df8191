"""Mean times of a chain that is perturbed every P epochs: exact, and as runs that were perturbed once predict them.

Reference: [meir2025] arXiv 2502.04121 v1, Eq. (3) and (9)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.markov_chain import Chain, mean_first_passage_time, restart_kernel, survival
from theory.perturbation import perturbed_mean, renewal_mean
from theory.perturbed_chain import periodic_mean, residual_mean, residual_survival_once


@dataclass(frozen=True, eq=False)
class PerturbedMeans:
    """E[T_P] for several P, possibly ``inf``, shape (n,) each [epochs].

    Attributes:
        intervals: P.
        unperturbed: E[T], one number.
        exact: with the perturbation.
        rare: by Eq. (9), from runs perturbed once.
        renewal: from the same, if their residual times renew.
        full_reset: exact, with full resetting in place of the perturbation.
    """

    intervals: npt.NDArray[np.int64]
    unperturbed: float
    exact: Floats
    rare: Floats
    renewal: Floats
    full_reset: Floats

    def speed_ups(self) -> dict[str, Floats]:
        """E[T] / E[T_P] of all four, by name; E[T] must be finite."""
        names = ("exact", "rare", "renewal", "full_reset")
        return {name: self.unperturbed / getattr(self, name) for name in names}


def perturbed_means(
    chain: Chain, perturbation: npt.ArrayLike, intervals: Sequence[int], *, branch_epoch: int
) -> PerturbedMeans:
    """E[T_P] under a perturbation after epochs P, 2P, ..., beside both predictions and full resetting.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        intervals: P, >= 1 each [epochs].
        branch_epoch: P* >= 1, when the runs that predict were perturbed once.

    Returns:
        The means.

    Raises:
        ValueError: for an invalid perturbation or interval, or a branch epoch that no run survives.

    Example:
        >>> from theory import rational_chain
        >>> toy = rational_chain()
        >>> means = perturbed_means(toy.chain, toy.perturbation, [2, 4], branch_epoch=4)
        >>> means.exact.round(6).tolist(), means.rare.round(6).tolist()
        ([10.520581, 10.322787], [10.330947, 10.322787])

    Reference: [meir2025] arXiv 2502.04121 v1, Eq. (3) and (9); the renewal predictor was derived for jostle
    """
    at, longest = np.array(intervals, dtype=np.int64), max(*intervals, branch_epoch)
    alive = survival(chain, longest)
    if alive[branch_epoch] == 0:
        raise ValueError(f"branch_epoch={branch_epoch}: no run survives that long; take an earlier epoch")
    reset = restart_kernel(chain)
    return PerturbedMeans(
        at,
        mean_first_passage_time(chain),
        np.array([periodic_mean(chain, perturbation, interval) for interval in intervals]),
        perturbed_mean(alive, at, residual_mean(chain, perturbation, branch_epoch)),
        renewal_mean(alive, residual_survival_once(chain, perturbation, branch_epoch, longest), at),
        np.array([periodic_mean(chain, reset, interval) for interval in intervals]),
    )
