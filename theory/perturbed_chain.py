"""The exact first-passage time on a finite Markov chain that is perturbed, by any map: theory.markov_chain goes on.

A perturbation is a row-stochastic matrix K. With interval P it acts after the evaluation of epochs P, 2P, ...; a run
with T = P is complete and is not perturbed.

All formulas were derived for jostle, as the matrix form of the exact identity

    E[T_P] = sum_{t<P} Psi(t) + Psi(P) taubar_P.

Reference: [meir2025] arXiv 2502.04121 v1, Eq. (3)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Absorption, Floats, average, whole_number
from theory.markov_chain import Chain, mean_first_passage_time, survival

MOST_EPOCHS = 10**6
"""Between perturbations; they are followed one by one, a few seconds for so many."""


@dataclass(frozen=True, eq=False)
class _Stretch:
    """P epochs without a perturbation, from each state."""

    power: Floats  # Q^P
    duration: Floats  # S_P 1 = E[min(T, P)]
    duration_squared: Floats  # sum_{t<P} (2t + 1) Q^t 1 = E[min(T, P)^2]
    exits: Floats  # S_P e = Pr(T <= P), not 1 - Q^P 1, which would cancel


def _checked_interval(interval: int) -> int:
    if (interval := whole_number("interval", interval, 1)) > MOST_EPOCHS:
        raise ValueError(f"interval={interval} must be {MOST_EPOCHS} epochs at most")
    return interval


def _stretch(chain: Chain, interval: int) -> _Stretch:
    interval = _checked_interval(interval)
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
        >>> from theory.markov_chain import restart_kernel
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

    Example:
        >>> from theory import rational_chain
        >>> toy = rational_chain()
        >>> round(cyclic_mean(toy.chain, [np.eye(3)], 2), 9)  # as without any perturbation
        29.5
        >>> round(cyclic_mean(toy.chain, [toy.perturbation, toy.perturbation], 2) * 413, 6)  # 4345 / 413
        4345.0
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

    Example:
        >>> coin = Chain([[0.75]], [1.0])
        >>> round(periodic_second_moment(coin, [[1.0]], 3), 9)  # geometric: (2 - p) / p^2
        28.0
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

    Example:
        >>> from theory import rational_chain
        >>> toy = rational_chain()
        >>> periodic_survival(toy.chain, toy.perturbation, 2, 3).round(6).tolist()
        [1.0, 1.0, 0.9, 0.8275]
    """
    epochs, interval = whole_number("epochs", epochs, 0), whole_number("interval", interval, 1)
    perturbation = chain.checked(perturbation)
    result, law = np.empty(epochs + 1), chain.initial
    for t in range(epochs + 1):
        result[t] = law.sum()
        if t > 0 and t % interval == 0:
            law = law @ perturbation
        law = law @ chain.transient
    return result


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

    Example:
        >>> from theory.markov_chain import restart_kernel
        >>> coin = Chain([[0.75]], [1.0])
        >>> round(geometric_mean(coin, restart_kernel(coin), 0.2, consumes_epoch=True), 12)  # 4 / (1 - 0.2)
        5.0
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

    Example:
        >>> from theory import rational_chain
        >>> toy, psi = rational_chain(), survival(rational_chain().chain, 2)
        >>> rest = residual_mean(toy.chain, toy.perturbation, 2)
        >>> round(float(psi[:2].sum() + psi[2] * rest) * 413, 6)  # the identity above; E[T_2] = 4345 / 413
        4345.0
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

    Example:
        >>> from theory import hidden_label_chain
        >>> toy = hidden_label_chain()
        >>> [round(residual_mean_once(toy.chain, toy.perturbation, epochs), 2) for epochs in (1, 100)]
        [11.47, 20.0]
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

    Example:
        >>> from theory import hidden_label_chain
        >>> toy = hidden_label_chain()  # after 100 epochs nearly all survivors are slow: hazard 1 / 20 once perturbed
        >>> residual_survival_once(toy.chain, toy.perturbation, 100, 2).round(4).tolist()
        [1.0, 0.95, 0.9025]
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

    Example:
        >>> from theory import hidden_label_chain
        >>> toy = hidden_label_chain()
        >>> perturbed_survivors(toy.chain, toy.perturbation, 100).initial.round(6).tolist()
        [0.0, 0.0, 2.9e-05, 0.999971]
    """
    law = chain.initial
    for epoch in range(1, _checked_interval(interval) + 1):
        law = law @ chain.transient
        if law.sum() == 0:
            raise ValueError(f"interval={interval}: no run survives epoch {epoch}, so none is perturbed; take less")
        law = law / law.sum()  # each epoch, so that a survival below 1e-308 is none the worse
    return Chain(chain.transient, law @ chain.checked(perturbation))
