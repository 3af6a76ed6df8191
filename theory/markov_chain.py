"""The exact first-passage time on a finite Markov chain: what other modules are held against.

A chain has a kernel W for one epoch, a target set B and an initial law mu. Q is W with the columns of B set to zero.
The rows of B are kept: a perturbation may land in the target, but that counts only at the next evaluation. Vectors are
rows, 1 is the vector of ones, N = (I - Q)^-1, S_P = sum_{t<P} Q^t. Perturbed chains are in theory.perturbed_chain.

Epochs count from 1: T = k means that the target was first met at the evaluation after epoch k. Psi(t) = Pr(T > t). A
mean is ``inf`` where the target may never be reached. All formulas were derived for jostle.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import (
    SMALLEST_EXIT,
    SUM_TOLERANCE,
    Absorption,
    Floats,
    average,
    distributions,
    probabilities,
    whole_number,
)


@dataclass(frozen=True, eq=False)
class Chain:
    """A Markov chain that is watched until it meets its target.

    Attributes:
        transient: Q, the one-epoch kernel with the target's columns set to zero, shape (n, n). What a row misses to one
            is the probability of meeting the target; below 1e-12 it counts as rounding.
        initial: mu, the law of the state before the first epoch, shape (n,).

    Example:
        >>> coin = Chain([[0.75]], [1.0])
        >>> mean_first_passage_time(coin), float(survival(coin, 2)[2])
        (4.0, 0.5625)
    """

    transient: Floats
    initial: Floats

    def __post_init__(self) -> None:
        n = len(np.atleast_1d(self.transient))
        transient = probabilities("transient", self.transient, (n, n))
        with np.errstate(over="ignore"):
            sums = transient.sum(axis=1, keepdims=True)
        if sums.max(initial=0.0) > 1 + SUM_TOLERANCE:
            row = int(sums.argmax())
            raise ValueError(f"transient: row {row} sums to {sums[row, 0]:.12g}; probabilities sum to <= 1")
        transient = transient / np.maximum(sums, 1)
        transient.flags.writeable = False
        object.__setattr__(self, "transient", transient)
        object.__setattr__(self, "initial", distributions("initial", self.initial, (n,)))

    @classmethod
    def from_kernel(cls, kernel: npt.ArrayLike, target: npt.ArrayLike, initial: npt.ArrayLike) -> "Chain":
        """The chain of a full kernel W and a target set B.

        Args:
            kernel: W, row-stochastic, shape (n, n).
            target: True for the states of B, shape (n,).
            initial: mu, shape (n,); mass in B must take part in an epoch before it counts.

        Returns:
            The chain with the columns of B set to zero and the rows of B kept.

        Raises:
            ValueError: if the kernel is not stochastic or the target is not a mask of n states.

        Example:
            >>> mean_first_passage_time(Chain.from_kernel([[0.5, 0.5], [0.1, 0.9]], [False, True], [1.0, 0.0]))
            2.0
        """
        n = len(np.atleast_1d(np.asarray(kernel)))
        is_target = np.asarray(target)
        if is_target.shape != (n,) or is_target.dtype != bool:
            raise ValueError(
                f"target has shape {is_target.shape} and dtype {is_target.dtype}; it must be ({n},) and bool, "
                "True for the states that meet the target"
            )
        return cls(np.where(is_target, 0.0, distributions("kernel", kernel, (n, n))), np.asarray(initial, dtype=float))

    @property
    def states(self) -> int:
        """Number of states n."""
        return len(self.initial)

    @cached_property
    def exits(self) -> Floats:
        """Probability of meeting the target at the next evaluation, from each state, shape (n,)."""
        exits = 1 - self.transient.sum(axis=1)
        return np.where(exits < SMALLEST_EXIT, 0.0, exits)

    def checked(self, perturbation: npt.ArrayLike) -> Floats:
        """Check a perturbation K of this chain.

        Args:
            perturbation: K, row-stochastic, shape (n, n).

        Returns:
            K, normalised, shape (n, n).

        Raises:
            ValueError: for another shape, negative entries, or rows that do not sum to one.
        """
        return distributions("perturbation", perturbation, (self.states, self.states))


def restart_kernel(chain: Chain) -> Floats:
    """K = 1 mu: forget the state and begin anew.

    Args:
        chain: the chain.

    Returns:
        Shape (n, n).

    Example:
        >>> restart_kernel(Chain([[0.5, 0.4], [0.0, 0.9]], [1.0, 0.0])).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    return np.tile(chain.initial, (chain.states, 1))


def survival(chain: Chain, epochs: int) -> Floats:
    """Psi(t) = mu Q^t 1 for t = 0..epochs.

    Args:
        chain: the chain.
        epochs: last t, >= 0.

    Returns:
        Shape (epochs + 1,), beginning with 1.

    Raises:
        ValueError: if epochs is not a whole number >= 0.

    Example:
        >>> survival(Chain([[0.75]], [1.0]), 2).tolist()
        [1.0, 0.75, 0.5625]
    """
    epochs = whole_number("epochs", epochs, 0)
    result, law = np.empty(epochs + 1), chain.initial
    for t in range(epochs + 1):
        result[t] = law.sum()
        law = law @ chain.transient
    return result


def mean_first_passage_time(chain: Chain) -> float:
    """E[T] = mu N 1, the expected number of epochs; infinite if the target may never be reached.

    Args:
        chain: the chain.

    Returns:
        [epochs].

    Example:
        >>> from theory import rational_chain
        >>> round(mean_first_passage_time(rational_chain().chain), 9)  # 59/2
        29.5
    """
    return rising_factorial_moment(chain, 1)


def second_moment(chain: Chain) -> float:
    """E[T^2] = 2 mu N N 1 - mu N 1.

    Args:
        chain: the chain.

    Returns:
        [epochs^2].

    Example:
        >>> second_moment(Chain([[0.75]], [1.0]))  # geometric: (2 - p) / p^2
        28.0
    """
    mean = mean_first_passage_time(chain)
    return rising_factorial_moment(chain, 2) - mean if math.isfinite(mean) else mean


def rising_factorial_moment(chain: Chain, order: int) -> float:
    """E[T (T + 1) ... (T + m - 1)] = m! mu N^m 1.

    Args:
        chain: the chain.
        order: m >= 1.

    Returns:
        [epochs^m].

    Raises:
        ValueError: if the order is not a whole number >= 1.

    Example:
        >>> round(rising_factorial_moment(Chain([[0.75]], [1.0]), 3), 9)  # geometric: m! / p^m
        384.0
    """
    order = whole_number("order", order, 1)
    absorption = Absorption(chain.transient, chain.exits)
    total = np.ones(chain.states)
    for _ in range(order):
        total = absorption.expected_total(total)
    return math.factorial(order) * float(average(chain.initial, total))
