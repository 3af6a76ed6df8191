"""Restart in discrete time: the first-passage time of a process that begins anew, every P epochs or by chance.

A sharp restart acts after the evaluation of epochs P, 2P, ...; a run with T = P is complete and is not restarted.
Restarted cycles are independent copies, so that Psi_P(k P + s) = Psi(P)^k Psi(s) exactly, for any unperturbed law. With
intervals R that are independent and equally distributed,

    E[T_R] = E[min(T, R)] / Pr(T <= R).

Continuous time is theory.resetting; any other perturbation of a known chain is theory.markov_chain.
"""

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, distributions
from theory.restart_criterion import CvCriterion, geometric_restart_criterion
from theory.survival import restricted_mean

UNKNOWN_TAIL = 1e-12
"""Share of a mean that may lie beyond the last known survival before it is refused."""


Epochs = int | npt.NDArray[np.integer]
"""One number of epochs, or several at once."""


ROUNDING = 1e-6
"""By so much a survival may leave 0 to 1."""


def last_epoch(survival: npt.NDArray) -> int:
    """The last epoch H of a known survival.

    Args:
        survival: Psi(0..H), shape (..., H + 1).

    Returns:
        H.

    Raises:
        ValueError: unless H >= 1 and all are probabilities.
    """
    if survival.ndim == 0 or survival.shape[-1] < 2:
        raise ValueError(f"survival has shape {survival.shape}; it must hold Psi(0), Psi(1), ..., one epoch at least")
    wrong = survival[~((np.real(survival) >= -ROUNDING) & (np.real(survival) <= 1 + ROUNDING))]
    if wrong.size:
        raise ValueError(f"survival holds {wrong.flat[0]}; it must be probabilities, from 0 to 1")
    return survival.shape[-1] - 1


@overload
def check_interval(survival: npt.NDArray, interval: int) -> int: ...
@overload
def check_interval(survival: npt.NDArray, interval: Epochs) -> Epochs: ...
def check_interval(survival: npt.NDArray, interval: Epochs) -> Epochs:
    """Refuse perturbation intervals outside the known survival.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P [epochs], or several, shape (k,).

    Returns:
        The interval as an int, or the intervals as an array of them.

    Raises:
        ValueError: unless each is a whole number with 1 <= P <= H.
    """
    horizon, intervals = last_epoch(survival), np.asarray(interval)
    wrong = (intervals != np.floor(intervals)) | ~((intervals >= 1) & (intervals <= horizon))
    if intervals.ndim > 1 or wrong.any():
        which = intervals[wrong].flat[0] if wrong.any() else f"array of shape {intervals.shape}"
        raise ValueError(f"interval={which} must be a whole number of epochs from 1 to {horizon}, the last known one")
    return intervals.astype(np.int64) if intervals.ndim else int(intervals)


def sharp_restart_mean(survival: npt.NDArray, interval: Epochs, overhead: float = 0.0) -> npt.NDArray:
    """E[T_P] = (sum_{t<P} Psi(t) + c Psi(P)) / (1 - Psi(P)) under restart every P epochs.

    Exact for independent restarts of any process. Infinite where Psi(P) = 1: no run ever finishes within P. Note that
    the sum ends at P - 1 and the denominator is taken at P; from times that count from 0, both would be one less.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs]; or several, shape (k,).
        overhead: c >= 0, the time lost by each restart [epochs].

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: if the interval is out of range, or the overhead negative.

    Example:
        >>> psi = np.array([1.0, 1.0, 0.5, 0.25])
        >>> float(sharp_restart_mean(psi, 3)), float(sharp_restart_mean(psi, 1))
        (3.3333333333333335, inf)

    Reference: [meir2025] arXiv 2502.04121 v1, Eq. (5)
    """
    interval, overhead = check_interval(survival, interval), _check_overhead(overhead)
    psi_end = survival[..., interval]
    return _divide(restricted_mean(survival, interval) + overhead * psi_end, 1 - psi_end)


def sharp_restart_second_moment(survival: npt.NDArray, interval: int, overhead: float = 0.0) -> npt.NDArray:
    """E[T_P^2] under restart every P epochs.

    E[T_P^2] = (sum_{t<P} (2t + 1) Psi(t) + Psi(P) (2 P c + c^2 + 2 (P + c) E[T_P])) / (1 - Psi(P)).

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs].
        overhead: c >= 0, the time lost by each restart [epochs].

    Returns:
        Shape (...) [epochs^2].

    Raises:
        ValueError: if the interval is out of range, or the overhead negative.

    Reference: Derived for jostle; see docs/decisions/003-laws-not-only-means.md
    """
    interval, mean = check_interval(survival, interval), sharp_restart_mean(survival, interval, overhead)
    psi_end = survival[..., interval]
    cycle = ((2 * np.arange(interval) + 1) * survival[..., :interval]).sum(axis=-1)
    finite = np.where(np.isfinite(mean), mean, 0)
    failed = overhead * (2 * interval + overhead) + 2 * (interval + overhead) * finite
    return _divide(cycle + psi_end * failed, 1 - psi_end)


def sharp_restart_survival(survival: npt.NDArray, interval: int, horizon: int) -> npt.NDArray:
    """Pr(T_P > t) for t = 0..horizon under restart every P epochs: Psi(P)^k Psi(s) at t = k P + s.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs].
        horizon: last epoch wanted; may exceed H.

    Returns:
        Shape (..., horizon + 1).

    Raises:
        ValueError: if the interval is out of range.
    """
    interval = check_interval(survival, interval)
    cycle, phase = np.divmod(np.arange(horizon + 1), interval)
    return survival[..., interval, None] ** cycle * survival[..., phase]


def sharp_restart_restricted_mean(survival: npt.NDArray, interval: Epochs, horizon: Epochs) -> npt.NDArray:
    """E[min(T_P, H)] under restart every P epochs, finite even where E[T_P] is not.

    With H = k P + s: sum_{t<P} Psi(t) (1 + Psi(P) + ... + Psi(P)^(k-1)) + Psi(P)^k sum_{t<s} Psi(t).

    Args:
        survival: Psi(0..), shape (..., at least P + 1).
        interval: P [epochs]; or several, shape (k,).
        horizon: H >= 0 [epochs], or one for each interval; may exceed the survival's end.

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: if an interval or a horizon is out of range.

    Example:
        >>> psi = np.array([1.0, 1.0, 0.5, 0.25])
        >>> float(sharp_restart_restricted_mean(psi, 3, 12))  # 10 / 3 without the end at 12
        3.3203125
        >>> float(sharp_restart_restricted_mean(psi, 1, 12))  # no run succeeds within one epoch
        12.0
    """
    interval = check_interval(survival, interval)
    if np.any(np.asarray(horizon) < 0):
        raise ValueError(f"horizon={np.min(horizon)} must be >= 0")
    cycles, rest = np.divmod(horizon, interval)
    powers_sum, power = _geometric_sum(survival[..., interval], cycles)
    return restricted_mean(survival, interval) * powers_sum + power * restricted_mean(survival, rest)


def _geometric_sum(ratio: npt.NDArray, terms: Epochs) -> tuple[npt.NDArray, npt.NDArray]:
    """(1 + z + ... + z^(m-1), z^m), term by term: (1 - z^m) / (1 - z) has no complex-step derivative at z = 1."""
    several = np.ndim(terms) > 0
    counts, z = np.atleast_1d(terms), ratio if several else ratio[..., None]
    total, power = np.zeros_like(z), np.ones_like(z)
    for done in range(int(counts.max(initial=0))):
        going_on = np.flatnonzero(counts > done)
        total[..., going_on] += power[..., going_on]
        power[..., going_on] *= z[..., going_on]
    return (total, power) if several else (total[..., 0], power[..., 0])


@dataclass(frozen=True)
class OptimalInterval:
    """The restart interval with the smallest mean first-passage time.

    Attributes:
        interval: P* [epochs].
        mean: E[T_P*] [epochs].
        is_boundary: whether P* is the last interval examined, so that the optimum may lie beyond it, or restarting may
            not help at all. (P* = 1, the other end, is an optimum: there is no shorter interval.)
    """

    interval: int
    mean: float
    is_boundary: bool


def optimal_restart_interval(survival: npt.NDArray, overhead: float = 0.0) -> OptimalInterval:
    """The interval P in 1..H that minimises E[T_P] under sharp restart, the shortest of several equal ones.

    Args:
        survival: Psi(0..H), shape (H + 1,).
        overhead: c >= 0, the time lost by each restart [epochs].

    Returns:
        The optimum; at P = H it is reported as a boundary, not as an optimum that was found.

    Raises:
        ValueError: if no run finishes by H: then E[T_P] is infinite at every known interval; or for a negative
            overhead.

    Example:
        >>> optimal_restart_interval(np.array([1.0, 1.0, 0.5, 0.45, 0.4]))
        OptimalInterval(interval=2, mean=4.0, is_boundary=False)
    """
    horizon = last_epoch(survival)
    if survival.ndim != 1:
        raise ValueError(f"survival has shape {survival.shape}; it must have one dimension")
    means = sharp_restart_mean(survival, np.arange(1, horizon + 1), overhead)
    if not math.isfinite(means.min()):
        raise ValueError(f"no run finishes by epoch {horizon}: every restart interval up to there has E[T_P] = inf")
    # Without memory all intervals are equal, and rounding must not choose among them.
    best = int(np.flatnonzero(means <= means.min() + 1e-12 * abs(means.min()))[0])
    return OptimalInterval(best + 1, float(means[best]), best + 1 == horizon)


# ---- Random intervals ------------------------------------------------------------------------------------------------


def random_interval_mean(survival: npt.NDArray, interval_law: npt.ArrayLike) -> npt.NDArray:
    """E[T_R] = E[min(T, R)] / Pr(T <= R), restarted at random intervals, a new R after each restart.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval_law: Pr(R = k) for k = 1..m, m <= H, shape (m,), sum 1.

    Returns:
        Shape (...) [epochs]; ``inf`` where no run ever finishes before its restart.

    Raises:
        ValueError: if the law is none, or longer than the known survival.

    Example:
        >>> psi = np.array([1.0, 1.0, 0.5, 0.25])
        >>> float(random_interval_mean(psi, [0.0, 0.5, 0.5])), float(random_interval_mean(psi, [0.0, 0.0, 1.0]))
        (3.6, 3.3333333333333335)

    Reference: Derived for jostle: sharp restart averaged over the interval of each cycle.
    """
    law, waiting = _interval_law(survival, interval_law)
    return _divide(survival[..., : len(law)] @ waiting, (1 - survival[..., 1 : len(law) + 1]) @ law)


def random_interval_second_moment(survival: npt.NDArray, interval_law: npt.ArrayLike) -> npt.NDArray:
    """E[T_R^2] = (E[min(T, R)^2] + 2 E[R 1{R < T}] E[T_R]) / Pr(T <= R).

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval_law: Pr(R = k) for k = 1..m, m <= H, shape (m,), sum 1.

    Returns:
        Shape (...) [epochs^2].

    Raises:
        ValueError: if the law is none, or longer than the known survival.

    Reference: Derived for jostle; sharp_restart_second_moment is the special case of one interval.
    """
    law, waiting = _interval_law(survival, interval_law)
    mean = random_interval_mean(survival, law)
    t, psi_after = np.arange(len(law)), survival[..., 1 : len(law) + 1]
    lost = psi_after @ ((t + 1) * law)
    squares = survival[..., : len(law)] @ ((2 * t + 1) * waiting)
    return _divide(squares + 2 * lost * np.where(np.isfinite(mean), mean, 0), (1 - psi_after) @ law)


def geometric_restart_mean(survival: npt.NDArray, probability: float, *, consumes_epoch: bool) -> npt.NDArray:
    """E[T] when chance restarts the process with probability p after each epoch, q = 1 - p.

    ``consumes_epoch=False``: after an unsuccessful epoch, E = sum_t q^t Psi(t) / sum_t q^(t - 1) Pr(T = t), which is
    q (1 - G(q)) / (p G(q)) with G(q) = E[q^T]. ``consumes_epoch=True``: in place of an epoch, which cannot succeed
    then, E = (1 - G(q)) / (p G(q)), larger by 1 / q. The sums have no cancellation for small p.

    Args:
        survival: Psi(0..H), shape (..., H + 1), to an H where Psi vanishes or q^H is negligible.
        probability: p, 0 < p <= 1.
        consumes_epoch: which of the two conventions, as in theory.perturbed_chain.geometric_mean.

    Returns:
        Shape (...) [epochs]; ``inf`` where the restarts prevent every success.

    Raises:
        ValueError: for a probability outside (0, 1], or a survival that ends too early to know the mean.

    Example:
        >>> psi = 0.75 ** np.arange(200)  # without memory a restart changes nothing, unless it costs an epoch
        >>> round(float(geometric_restart_mean(psi, 0.5, consumes_epoch=False)), 12)
        4.0
        >>> round(float(geometric_restart_mean(psi, 0.5, consumes_epoch=True)), 12)
        8.0

    Reference: Derived for jostle by the renewal argument of [meir2025].
    """
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability} must be > 0 and <= 1; without restarts take the mean of T itself")
    horizon = last_epoch(survival)
    stays = (1 - probability) ** np.arange(horizon + 1)
    duration, success = survival[..., :horizon] @ stays[:-1], (survival[..., :-1] - survival[..., 1:]) @ stays[:-1]
    # With this probability a cycle goes on beyond H; it then lasts 1 / p more at the most, and may end in success.
    beyond = survival[..., horizon] * stays[horizon]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        unknown = np.max(beyond / probability / duration + np.where(beyond > 0, _divide(beyond, success), 0))
    if not unknown <= UNKNOWN_TAIL:
        raise ValueError(
            f"survival ends at epoch {horizon}, too early for restarts of probability={probability}: a share of up to "
            f"{unknown:.3g} of the mean is unknown; extend the survival or restart more often"
        )
    return _divide(duration, (1 - probability) * success if consumes_epoch else success)


def geometric_restart_helps(survival: npt.NDArray) -> CvCriterion:
    """Does rare random restart, after unsuccessful epochs, shorten the mean? It does where CV^2 > 1 - 1 / E[T].

    Not where CV > 1, as in continuous time: the geometric law, which has no memory, has CV^2 = 1 - 1 / E[T].

    Args:
        survival: Psi(0..H) with Psi(H) = 0, shape (H + 1,).

    Returns:
        The criterion.

    Raises:
        ValueError: if Psi(H) is not 0: then the moments are unknown.

    Example:
        >>> geometric_restart_helps(np.array([1.0, 1.0, 0.5, 0.0]))
        CvCriterion(cv_squared=0.04, threshold=0.6, helps=False)
    """
    if survival[-1] != 0:
        raise ValueError(
            f"survival ends at epoch {len(survival) - 1} with Psi={survival[-1]}: the moments of T are unknown; "
            "extend it until all runs have finished"
        )
    weights = 2 * np.arange(len(survival)) + 1
    return geometric_restart_criterion(float(survival.sum()), float(weights @ survival))


def _interval_law(survival: npt.NDArray, interval_law: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Pr(R = 1..m) checked, and Pr(R > t) for t = 0..m - 1."""
    law = distributions("interval_law", interval_law, np.shape(interval_law))
    horizon = survival.shape[-1] - 1
    if law.ndim != 1 or len(law) > horizon:
        raise ValueError(
            f"interval_law has shape {law.shape}; it must give Pr(R = 1), ..., Pr(R = m) with m <= {horizon}, "
            "the last epoch with a known survival"
        )
    return law, np.cumsum(law[::-1])[::-1]


def _check_overhead(overhead: float) -> float:
    if not (overhead >= 0 and math.isfinite(overhead)):
        raise ValueError(f"overhead={overhead} must be finite and >= 0")
    return overhead


def _divide(numerator: npt.NDArray, denominator: npt.NDArray) -> npt.NDArray:
    """Ratio of two arrays, inf where the denominator vanishes; works for complex-step derivatives too."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, np.inf, dtype=np.result_type(numerator, denominator))
    return np.divide(numerator, denominator, out=result, where=denominator != 0)[()]
