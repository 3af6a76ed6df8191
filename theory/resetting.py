"""Sharp restart in discrete time: the first-passage time of a process that begins anew every P epochs.

A restart acts after the evaluation of epochs P, 2P, ...; a run with T = P is complete and is not restarted. Restarted
cycles are independent copies, so that Psi_P(k P + s) = Psi(P)^k Psi(s) exactly, for any unperturbed law.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.survival import restricted_mean


def check_interval(survival: npt.NDArray, interval: int) -> int:
    """Refuse a perturbation interval outside the known survival.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P [epochs].

    Returns:
        The interval as an int.

    Raises:
        ValueError: unless interval is a whole number with 1 <= P <= H.
    """
    horizon = survival.shape[-1] - 1
    if interval % 1 != 0 or not 1 <= interval <= horizon:
        raise ValueError(
            f"interval={interval} must be a whole number of epochs from 1 to {horizon}, the last known one"
        )
    return int(interval)


def sharp_restart_mean(survival: npt.NDArray, interval: int) -> npt.NDArray:
    """E[T_P] = sum_{t<P} Psi(t) / (1 - Psi(P)) under restart every P epochs.

    Exact for independent restarts of any process. Infinite where Psi(P) = 1: no run ever finishes within P. Note that
    the sum ends at P - 1 and the denominator is taken at P; from times that count from 0, both would be one less.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs].

    Returns:
        Shape (...) [epochs].

    Raises:
        ValueError: if the interval is out of range.

    Example:
        >>> psi = np.array([1.0, 1.0, 0.5, 0.25])
        >>> float(sharp_restart_mean(psi, 3)), float(sharp_restart_mean(psi, 1))
        (3.3333333333333335, inf)

    Reference: [meir2025] arXiv 2502.04121 v1, Eq. (5)
    """
    interval = check_interval(survival, interval)
    return _divide(restricted_mean(survival, interval), 1 - survival[..., interval])


def sharp_restart_second_moment(survival: npt.NDArray, interval: int) -> npt.NDArray:
    """E[T_P^2] under restart every P epochs.

    E[T_P^2] = (sum_{t<P} (2t + 1) Psi(t) + 2 P Psi(P) E[T_P]) / (1 - Psi(P)).

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs].

    Returns:
        Shape (...) [epochs^2].

    Raises:
        ValueError: if the interval is out of range.

    Reference: Derived for jostle; see docs/decisions/003-laws-not-only-means.md
    """
    interval, mean = check_interval(survival, interval), sharp_restart_mean(survival, interval)
    psi_end = survival[..., interval]
    cycle = ((2 * np.arange(interval) + 1) * survival[..., :interval]).sum(axis=-1)
    finite = np.where(np.isfinite(mean), mean, 0)
    return _divide(cycle + 2 * interval * psi_end * finite, 1 - psi_end)


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


def sharp_restart_restricted_mean(survival: npt.NDArray, interval: int, horizon: int) -> npt.NDArray:
    """E[min(T_P, H)] under restart every P epochs, finite even where E[T_P] is not.

    With H = k P + s: sum_{t<P} Psi(t) (1 + Psi(P) + ... + Psi(P)^(k-1)) + Psi(P)^k sum_{t<s} Psi(t).

    Args:
        survival: Psi(0..), shape (..., at least P + 1).
        interval: P [epochs].
        horizon: H >= 0 [epochs]; may exceed the survival's end.

    Returns:
        Shape (...) [epochs].

    Raises:
        ValueError: if the interval is out of range.
    """
    interval = check_interval(survival, interval)
    cycles, rest = divmod(horizon, interval)
    psi_end = survival[..., interval]
    one_cycle = restricted_mean(survival, interval)
    powers = psi_end[..., None] ** np.arange(cycles + 1)
    return one_cycle * powers[..., :cycles].sum(axis=-1) + powers[..., cycles] * survival[..., :rest].sum(axis=-1)


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


def optimal_restart_interval(survival: npt.NDArray) -> OptimalInterval:
    """The interval P in 1..H that minimises E[T_P] under sharp restart, the shortest of several equal ones.

    Args:
        survival: Psi(0..H), shape (H + 1,).

    Returns:
        The optimum; at P = H it is reported as a boundary, not as an optimum that was found.

    Raises:
        ValueError: if no run finishes by H: then E[T_P] is infinite at every known interval.

    Example:
        >>> optimal_restart_interval(np.array([1.0, 1.0, 0.5, 0.45, 0.4]))
        OptimalInterval(interval=2, mean=4.0, is_boundary=False)
    """
    horizon = survival.shape[-1] - 1
    means = np.array([float(sharp_restart_mean(survival, p)) for p in range(1, horizon + 1)])
    if not math.isfinite(means.min()):
        raise ValueError(f"no run finishes by epoch {horizon}: every restart interval up to there has E[T_P] = inf")
    # Without memory all intervals are equal, and rounding must not choose among them.
    best = int(np.flatnonzero(means <= means.min() * (1 + 1e-12))[0])
    return OptimalInterval(best + 1, float(means[best]), best + 1 == horizon)


def _divide(numerator: npt.NDArray, denominator: npt.NDArray) -> npt.NDArray:
    """Ratio of two arrays, inf where the denominator vanishes; works for complex-step derivatives too."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, np.inf, dtype=np.result_type(numerator, denominator))
    return np.divide(numerator, denominator, out=result, where=denominator != 0)[()]
