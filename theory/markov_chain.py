"""The exact first-passage time on a finite Markov chain, for any perturbation map: what other modules are held against.

A chain has a kernel W for one epoch, a target set B and an initial law mu. Q is W with the columns of B set to zero.
The rows of B are kept: a perturbation may land in the target, but that counts only at the next evaluation. Vectors are
rows, 1 is the vector of ones, N = (I - Q)^-1, S_P = sum_{t<P} Q^t. A perturbation is a row-stochastic matrix K.

Epochs count from 1: T = k means that the target was first met at the evaluation after epoch k. Psi(t) = Pr(T > t). A
perturbation with interval P acts after the evaluation of epochs P, 2P, ...; a run with T = P is complete and is not
perturbed. A mean is ``inf`` where the target may never be reached.

All formulas were derived for jostle, as the matrix form of the exact identity

    E[T_P] = sum_{t<P} Psi(t) + Psi(P) taubar_P.

Reference: [meir2025] arXiv 2502.04121 v1, Eq. (3)
"""

import math
from collections.abc import Sequence
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
        sums = transient.sum(axis=1, keepdims=True)
        if sums.max() > 1 + SUM_TOLERANCE:
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
    """
    return np.tile(chain.initial, (chain.states, 1))


# ---- The unperturbed chain -------------------------------------------------------------------------------------------


def survival(chain: Chain, epochs: int) -> Floats:
    """Psi(t) = mu Q^t 1 for t = 0..epochs.

    Args:
        chain: the chain.
        epochs: last t, >= 0.

    Returns:
        Shape (epochs + 1,), beginning with 1.

    Raises:
        ValueError: if epochs is not a whole number >= 0.
    """
    return _survival(chain, epochs)


def mean_first_passage_time(chain: Chain) -> float:
    """E[T] = mu N 1, the expected number of epochs; infinite if the target may never be reached.

    Args:
        chain: the chain.

    Returns:
        [epochs].
    """
    return rising_factorial_moment(chain, 1)


def second_moment(chain: Chain) -> float:
    """E[T^2] = 2 mu N N 1 - mu N 1.

    Args:
        chain: the chain.

    Returns:
        [epochs^2].
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


# ---- A perturbation every P epochs -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Stretch:
    """P epochs without a perturbation, from each state."""

    power: Floats  # Q^P
    duration: Floats  # S_P 1 = E[min(T, P)]
    duration_squared: Floats  # sum_{t<P} (2t + 1) Q^t 1 = E[min(T, P)^2]
    exits: Floats  # S_P e = Pr(T <= P), not 1 - Q^P 1, which would cancel


def _stretch(chain: Chain, interval: int) -> _Stretch:
    interval = whole_number("interval", interval, 1)
    alive, exits = np.ones(chain.states), chain.exits
    duration, duration_squared, total_exits = (np.zeros(chain.states) for _ in range(3))
    for t in range(interval):
        duration += alive
        duration_squared += (2 * t + 1) * alive
        total_exits += exits
        alive, exits = chain.transient @ alive, chain.transient @ exits
    return _Stretch(np.linalg.matrix_power(chain.transient, interval), duration, duration_squared, total_exits)


def periodic_mean(chain: Chain, perturbation: npt.ArrayLike, interval: int) -> float:
    """E[T_P] = mu (I - Q^P K)^-1 S_P 1 under the perturbation K after epochs P, 2P, ...

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        [epochs]; ``inf`` if the perturbed chain may never meet the target, such as a restart before the earliest
        possible success.

    Raises:
        ValueError: for an invalid perturbation or interval.

    Example:
        >>> coin = Chain([[0.75]], [1.0])  # without memory a restart changes nothing
        >>> round(periodic_mean(coin, restart_kernel(coin), 3), 12)
        4.0
    """
    return cyclic_mean(chain, [perturbation], interval)


def cyclic_mean(chain: Chain, perturbations: Sequence[npt.ArrayLike], interval: int) -> float:
    """E[T] under K_1 after epoch P, K_2 after 2P, ..., and the list of maps once more when it ends.

    Args:
        chain: the chain.
        perturbations: K_1, K_2, ..., each row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        [epochs], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or interval, or no perturbation at all.
    """
    if len(perturbations) == 0:
        raise ValueError("perturbations is empty; give at least one map (the identity matrix changes nothing)")
    stretch = _stretch(chain, interval)
    cycle, duration, exits = np.eye(chain.states), np.zeros(chain.states), np.zeros(chain.states)
    for perturbation in perturbations:
        duration, exits = duration + cycle @ stretch.duration, exits + cycle @ stretch.exits
        cycle = cycle @ stretch.power @ chain.checked(perturbation)
    return float(average(chain.initial, Absorption(cycle, exits).expected_total(duration)))


def periodic_second_moment(chain: Chain, perturbation: npt.ArrayLike, interval: int) -> float:
    """E[T_P^2] = mu y,  y = sum_{t<P} (2t + 1) Q^t 1 + 2 P Q^P K x + Q^P K y,  x = S_P 1 + Q^P K x.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        [epochs^2], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or interval.
    """
    stretch = _stretch(chain, interval)
    cycle = stretch.power @ chain.checked(perturbation)
    absorption = Absorption(cycle, stretch.exits)
    mean = absorption.expected_total(stretch.duration)
    squares = absorption.expected_total(stretch.duration_squared + 2 * interval * average(cycle, mean))
    return float(average(chain.initial, squares))


def periodic_survival(chain: Chain, perturbation: npt.ArrayLike, interval: int, epochs: int) -> Floats:
    """Pr(T_P > t) for t = 0..epochs; E[min(T_P, H)] is the sum of its first H values.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].
        epochs: last t, >= 0.

    Returns:
        Shape (epochs + 1,), beginning with 1.

    Raises:
        ValueError: for an invalid perturbation, interval or number of epochs.
    """
    interval = whole_number("interval", interval, 1)
    return _survival(chain, epochs, chain.checked(perturbation), interval)


def geometric_mean(
    chain: Chain, perturbation: npt.ArrayLike, probability: npt.ArrayLike, *, consumes_epoch: bool
) -> float:
    """E[T] when chance decides after each epoch whether the perturbation acts.

    ``consumes_epoch=False``: after an unsuccessful epoch, Q' = Q ((1 - p) I + p K).
    ``consumes_epoch=True``: in place of an epoch, which cannot succeed then, Q' = (1 - p) Q + p K.
    The probability may depend on the state.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        probability: p in [0, 1], one number or shape (n,).
        consumes_epoch: which of the two conventions; they differ by a factor 1 - p for restarts.

    Returns:
        [epochs], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation, or a probability outside [0, 1].
    """
    p = np.asarray(probability, dtype=float)
    if p.shape not in ((), (chain.states,)) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"probability={probability} must lie in [0, 1], one number or one for each state")
    p = np.broadcast_to(p, chain.states)[:, None]
    perturbation = chain.checked(perturbation)
    if consumes_epoch:
        moves, exits = (1 - p) * chain.transient + p * perturbation, (1 - p[:, 0]) * chain.exits
    else:
        moves, exits = chain.transient @ ((1 - p) * np.eye(chain.states) + p * perturbation), chain.exits
    return float(average(chain.initial, Absorption(moves, exits).expected_total(np.ones(chain.states))))


# ---- After the first perturbation ------------------------------------------------------------------------------------


def residual_mean(chain: Chain, perturbation: npt.ArrayLike, interval: int) -> float:
    """taubar_P = mu Q^P K x / Psi(P), the mean remaining time after P, with the perturbation repeated every P epochs.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        [epochs], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or interval, or if no run survives P epochs.
    """
    return periodic_mean(perturbed_survivors(chain, perturbation, interval), perturbation, interval)


def residual_mean_once(chain: Chain, perturbation: npt.ArrayLike, interval: int) -> float:
    """Mean remaining time after P of runs that are perturbed at P and never again: mu Q^P K N 1 / Psi(P).

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        [epochs], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or interval, or if no run survives P epochs.
    """
    return mean_first_passage_time(perturbed_survivors(chain, perturbation, interval))


def residual_survival_once(chain: Chain, perturbation: npt.ArrayLike, interval: int, epochs: int) -> Floats:
    """Psi_res(t): survival t epochs after P, of runs that are perturbed at P and never again.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].
        epochs: last t, >= 0.

    Returns:
        Shape (epochs + 1,), beginning with 1.

    Raises:
        ValueError: for an invalid perturbation, interval or number of epochs, or if no run survives P epochs.
    """
    return survival(perturbed_survivors(chain, perturbation, interval), epochs)


def perturbed_survivors(chain: Chain, perturbation: npt.ArrayLike, interval: int) -> Chain:
    """The chain that begins where the perturbation leaves those that survived P epochs: mu Q^P K / Psi(P).

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P >= 1 [epochs].

    Returns:
        The same chain with that initial law; its T is the residual.

    Raises:
        ValueError: for an invalid perturbation or interval, or if no run survives P epochs.
    """
    interval = whole_number("interval", interval, 1)
    law = chain.initial
    for epoch in range(1, interval + 1):
        law = law @ chain.transient
        if law.sum() == 0:
            raise ValueError(f"interval={interval}: no run survives epoch {epoch}, so none is perturbed; take less")
        law = law / law.sum()  # each epoch, so that a survival below 1e-308 is none the worse
    return Chain(chain.transient, law @ chain.checked(perturbation))


def _survival(chain: Chain, epochs: int, perturbation: Floats | None = None, interval: int = 1) -> Floats:
    epochs = whole_number("epochs", epochs, 0)
    result = np.empty(epochs + 1)
    law = chain.initial
    for t in range(epochs + 1):
        result[t] = law.sum()
        if perturbation is not None and t > 0 and t % interval == 0:
            law = law @ perturbation
        law = law @ chain.transient
    return result
