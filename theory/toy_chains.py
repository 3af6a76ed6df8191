"""Ready-made chains with known answers: for tests, the documentation, and to see where a prediction must refuse.

Derived for jostle; none of them is from a paper.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, distributions
from theory.epoch_walk import DOUBLE_WELL, TRAP_WITH_BARRIER
from theory.fokker_planck import GridChain
from theory.markov_chain import Chain


@dataclass(frozen=True, eq=False)
class ToyChain:
    """A chain and a perturbation of it.

    Attributes:
        chain: the chain, n states.
        perturbation: K, shape (n, n).
    """

    chain: Chain
    perturbation: Floats


def rational_chain() -> ToyChain:
    """Three states in a row, the last a slow one: E[T] = 59/2, and E[T_2] = 4345/413 where restarts take 20 epochs.

    The residual mean of 27 epochs exceeds most P: a case in which the rare-perturbation approximation must be refused.

    Returns:
        The chain and its perturbation, with rational entries.

    Example:
        >>> from theory import mean_first_passage_time, periodic_mean, restart_kernel
        >>> toy = rational_chain()
        >>> restart = restart_kernel(toy.chain)
        >>> round(mean_first_passage_time(toy.chain), 9), round(periodic_mean(toy.chain, restart, 2), 9)
        (29.5, 20.0)
    """
    transient = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.3], [0.0, 0.01, 0.97]])
    perturbation = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])
    return ToyChain(Chain(transient, np.array([1.0, 0.0, 0.0])), perturbation)


def hidden_label_chain() -> ToyChain:
    """Runs of two kinds that no observation tells apart: hazards 0.1 and 0.001 per epoch, half of the runs each.

    Whatever else is observed of a run may be drawn anew each epoch, and so be stationary from the first on, while the
    survivors turn into slow runs. The perturbation leaves the kind and makes the rest geometric with mean 2 or 20, so
    that taubar_P drifts from 11.5 (P = 1) to 20 (P = 100): what is stationary need not certify a constant taubar_P.

    Returns:
        The chain with states (fast, slow, perturbed fast, perturbed slow), and its perturbation.

    Example:
        >>> from theory import mean_first_passage_time
        >>> round(mean_first_passage_time(hidden_label_chain().chain), 9)  # (10 + 1000) / 2
        505.0
    """
    perturbation = np.zeros((4, 4))
    perturbation[[0, 1, 2, 3], [2, 3, 2, 3]] = 1
    return ToyChain(Chain(np.diag([0.9, 0.999, 0.5, 0.95]), np.array([0.5, 0.5, 0.0, 0.0])), perturbation)


MOST_STATES = 10**4
"""Of a chain; its matrix has the square of it."""


def waiting_time_chain(times: npt.ArrayLike, probabilities: npt.ArrayLike) -> Chain:
    """A chain with any given finite law of T; the state is the number of epochs since the start.

    Args:
        times: possible values of T, whole numbers >= 1, shape (m,) [epochs].
        probabilities: of these values, shape (m,).

    Returns:
        A chain of max(times) states that begins in state 0.

    Raises:
        ValueError: for times that are not whole numbers >= 1, or probabilities that do not fit them.

    Example:
        >>> from theory.markov_chain import survival
        >>> survival(waiting_time_chain([1, 3], [0.25, 0.75]), 3).tolist()
        [1.0, 0.75, 0.75, 0.0]
    """
    t = np.asarray(times, dtype=float)
    if t.ndim == 1 and t.size and t.max() > MOST_STATES:
        raise ValueError(f"times={times} must be {MOST_STATES} at most: the chain has as many states")
    if t.ndim != 1 or t.size == 0 or not (np.floor(t) == t).all() or t.min() < 1:
        raise ValueError(f"times={times} must be whole numbers >= 1, one for each probability")
    p = distributions("probabilities", probabilities, t.shape)
    law = np.bincount(t.astype(int), p)[1:]  # law[a] = Pr(T = a + 1)
    alive = np.cumsum(law[::-1])[::-1]  # alive[a] = Pr(T > a)
    survive = np.divide(alive[1:], alive[:-1])
    return Chain(np.diag(survive, 1), np.eye(len(law))[0])


def trap_with_barrier(*, cells: int = 801) -> GridChain:
    """A fast fraction, a plateau, and slow escapes: the shape of survival that training to a hard target shows.

    Drift -4 (x + 1)(x + 0.55)(x - 1.2), D = 0.02, 10 steps of 0.02 per epoch, start N(-0.5, 0.2^2), target x >= 0.9.
    Runs that begin left of the barrier at -0.55 are trapped around -1. Of shrink-and-perturb (0.2, 0.1) nearly no run
    fails, and the rare-perturbation approximation holds; of (0.4, 0.1) 2.4 % do, and it does not.

    Args:
        cells: of the grid on [-2, 2].

    Returns:
        The chain on its grid.
    """
    return TRAP_WITH_BARRIER.chain(cells)


def double_well(*, cells: int = 1041) -> GridChain:
    """The symmetric potential (x^2 - 1)^2 at D = 0.15: a perturbation traps runs again as easily as it frees them.

    10 steps of 0.02 per epoch, start N(0, 0.6^2), target x >= 0.9. After a single shrink-and-perturb (0.4, 0.1) the
    residual mean is 4363 epochs, above E[T] = 2281: the rare-perturbation approximation must be refused.

    Args:
        cells: of the grid on [-2.6, 2.6].

    Returns:
        The chain on its grid.
    """
    return DOUBLE_WELL.chain(cells)
