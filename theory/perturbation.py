"""Training time when a perturbation acts every P epochs, from runs perturbed once at a single epoch P*.

The exact identity is Eq. (3): E[T_P] = sum_{t<P} Psi(t) + Psi(P) taubar_P, with taubar_P the mean residual time after
the first perturbation. It is closed in one of three ways, each a whole law of T_P:

``restart``
    full resetting: taubar_P = E[T_P], exact (theory.discrete_resetting).
``rare``
    Eq. (9): taubar_P is the mean residual of runs perturbed once. Right when survivors are in a quasi-steady state at P
    and (nearly) no residual exceeds P.
``renewal``
    runs that survive P epochs after a perturbation are again in the quasi-steady state, so the residual renews:
    taubar_P = sum_{t<P} Psi_res(t) / (1 - Psi_res(P)). Needs no P > taubar; contains ``restart`` (Psi_res = Psi)
    and ``rare`` (Psi_res(P) -> 0).

Arrays carry Psi(0..H) of the unperturbed runs and Psi_res(0..F) of the residuals on the last axis, so that all of this
works on bootstrap replicates and on complex-step derivatives at once.
"""

import numpy as np
import numpy.typing as npt

from theory.discrete_resetting import (
    Epochs,
    check_interval,
    sharp_restart_mean,
    sharp_restart_restricted_mean,
    sharp_restart_survival,
)
from theory.survival import restricted_mean

PREDICTORS = ("restart", "rare", "renewal")


def perturbed_mean(survival: npt.NDArray, interval: Epochs, residual_mean: npt.ArrayLike) -> npt.NDArray:
    """E[T_P] = sum_{t<P} Psi(t) + Psi(P) taubar_P.

    Exact if ``residual_mean`` is the mean residual with the perturbation repeated every P. If it is that of runs
    perturbed once, this is Eq. (9), the rare-perturbation approximation.

    From one P to the next Eq. (9) changes by Psi(P) (1 - h(P + 1) taubar): it falls only where the hazard exceeds
    1 / taubar, and if it does so nowhere its best P is merely the end of its regime.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        interval: P, 1 <= P <= H [epochs]; or several, shape (k,).
        residual_mean: taubar [epochs], broadcastable to the result.

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: if the interval is out of range.

    Example:
        >>> float(perturbed_mean(np.array([1.0, 1.0, 0.5]), 2, 4.0))
        4.0

    Reference: [meir2025] arXiv 2502.04121 v1, Eqs. (3) and (9)
    """
    interval = check_interval(survival, interval)
    # Psi(P) = 0 leaves no one to perturb, however long it would take. A complex step may be on top of that zero.
    nobody = np.real(survival[..., interval]) == 0
    return restricted_mean(survival, interval) + survival[..., interval] * np.where(nobody, 0, residual_mean)


def renewal_mean(survival: npt.NDArray, residual_survival: npt.NDArray, interval: Epochs) -> npt.NDArray:
    """E[T_P] = sum_{t<P} Psi(t) + Psi(P) sum_{t<P} Psi_res(t) / (1 - Psi_res(P)).

    Valid if survivors of the unperturbed process at P, and survivors of P epochs after a perturbation, are both in the
    quasi-steady state. Infinite where no perturbed run finishes within P.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        residual_survival: Psi_res(0..F) of runs perturbed once, shape (..., F + 1).
        interval: P, 1 <= P <= min(H, F) [epochs]; or several, shape (k,).

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: if the interval is out of range.

    Example:
        >>> epochs = np.arange(41)
        >>> psi, residual = 0.9**epochs, 0.8**epochs  # a perturbation halves the mean rest, from 10 epochs to 5
        >>> round(float(renewal_mean(psi, residual, 10)), 9), round(float(psi[:10].sum() + psi[10] * 5), 9)
        (8.2566078, 8.2566078)

    Reference: Derived for jostle; see docs/decisions/002-three-predictors.md
    """
    return perturbed_mean(survival, interval, sharp_restart_mean(residual_survival, interval))


def rare_survival(survival: npt.NDArray, residual_survival: npt.NDArray, interval: int, horizon: int) -> npt.NDArray:
    """Pr(T_P > t) when the first perturbation is the only one: Psi(P) Psi_res(t - P) at t > P.

    Its sum over all t is Eq. (9).

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        residual_survival: Psi_res(0..F), shape (..., F + 1).
        interval: P, 1 <= P <= H [epochs].
        horizon: last epoch wanted, at most P + F.

    Returns:
        Shape (..., horizon + 1).

    Raises:
        ValueError: if the interval or the horizon is out of range.
    """
    interval = check_interval(survival, interval)
    _check_horizon(residual_survival, interval, horizon)
    after = survival[..., interval, None] * residual_survival[..., : max(horizon + 1 - interval, 0)]
    before = survival[..., : min(interval, horizon + 1)]
    lead = np.broadcast_shapes(before.shape[:-1], after.shape[:-1])
    return np.concatenate([np.broadcast_to(x, (*lead, x.shape[-1])) for x in (before, after)], axis=-1)


def renewal_survival(survival: npt.NDArray, residual_survival: npt.NDArray, interval: int, horizon: int) -> npt.NDArray:
    """Pr(T_P > t) when residuals renew: Psi(P) Psi_res(P)^(k-1) Psi_res(s) at t = k P + s, k >= 1.

    Args:
        survival: Psi(0..H), shape (..., H + 1).
        residual_survival: Psi_res(0..F), shape (..., F + 1).
        interval: P, 1 <= P <= min(H, F) [epochs].
        horizon: last epoch wanted; may exceed H and F.

    Returns:
        Shape (..., horizon + 1).

    Raises:
        ValueError: if the interval is out of range.
    """
    interval = check_interval(survival, interval)
    periodic = sharp_restart_survival(residual_survival, interval, max(horizon - interval, 0))
    return rare_survival(survival, periodic, interval, horizon)


def predicted_survival(
    predictor: str, survival: npt.NDArray, residual_survival: npt.NDArray | None, interval: int, horizon: int
) -> npt.NDArray:
    """Pr(T_P > t) for t = 0..horizon by one of the three predictors.

    Args:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        survival: Psi(0..H), shape (..., H + 1).
        residual_survival: Psi_res(0..F), shape (..., F + 1); not used by ``"restart"``.
        interval: P [epochs].
        horizon: last epoch wanted.

    Returns:
        Shape (..., horizon + 1).

    Raises:
        ValueError: for an unknown predictor, missing residuals, or an interval or horizon out of range.
    """
    if predictor == "restart":
        return sharp_restart_survival(survival, interval, horizon)
    residuals = _checked_residuals(predictor, residual_survival)
    law = rare_survival if predictor == "rare" else renewal_survival
    return law(survival, residuals, interval, horizon)


def predicted_mean(
    predictor: str, survival: npt.NDArray, residual_survival: npt.NDArray | None, interval: Epochs
) -> npt.NDArray:
    """E[T_P] by one of the three predictors.

    Args:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        survival: Psi(0..H), shape (..., H + 1).
        residual_survival: Psi_res(0..F), shape (..., F + 1); for ``"rare"`` it must have fallen to zero by F. Among
            several, such as bootstrap replicates, those where it has not give ``inf``.
        interval: P [epochs]; or several, shape (k,).

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: for an unknown predictor, missing residuals, an interval out of range, or ``"rare"`` with residuals
            that were nowhere followed to the target.
    """
    if predictor == "restart":
        return sharp_restart_mean(survival, interval)
    residuals = _checked_residuals(predictor, residual_survival)
    if predictor == "renewal":
        return renewal_mean(survival, residuals, interval)
    unfinished = np.real(residuals[..., -1]) > 0
    if unfinished.all():
        raise ValueError(
            f"Psi_res({residuals.shape[-1] - 1}) > 0: some perturbed runs are unfinished, so that the mean residual is "
            "not identified; use predicted_restricted_mean"
        )
    residual_mean = np.where(unfinished, np.inf, residuals.sum(axis=-1))
    return perturbed_mean(survival, interval, residual_mean[..., None] if np.ndim(interval) else residual_mean)


def predicted_restricted_mean(
    predictor: str, survival: npt.NDArray, residual_survival: npt.NDArray | None, interval: Epochs, horizon: Epochs
) -> npt.NDArray:
    """E[min(T_P, H)] by one of the three predictors: the sum over t < H of ``predicted_survival``, in closed form.

    Args:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        survival: Psi(0..), shape (..., at least P + 1).
        residual_survival: Psi_res(0..F), shape (..., F + 1).
        interval: P [epochs]; or several, shape (k,).
        horizon: H >= 1 [epochs], or one for each interval; for ``"rare"`` at most P + F.

    Returns:
        Shape (...), or (..., k) for several intervals [epochs].

    Raises:
        ValueError: for an unknown predictor, missing residuals, or an interval or horizon out of range.

    Example:
        >>> psi, residual = 0.9 ** np.arange(61), 0.8 ** np.arange(61)
        >>> [round(float(predicted_restricted_mean(p, psi, residual, 10, 60)), 3) for p in PREDICTORS]
        [9.982, 8.257, 8.257]
    """
    if predictor == "restart":
        return sharp_restart_restricted_mean(survival, interval, horizon)
    residuals = _checked_residuals(predictor, residual_survival)
    interval = check_interval(survival, interval)
    rest = np.maximum(np.asarray(horizon) - interval, 0)
    if predictor == "renewal":
        after = sharp_restart_restricted_mean(residuals, interval, rest)
    else:
        _check_horizon(residuals, interval, horizon)
        after = restricted_mean(residuals, rest)
    return restricted_mean(survival, np.minimum(interval, horizon)) + survival[..., interval] * after


def _check_horizon(residual_survival: npt.NDArray, interval: Epochs, horizon: Epochs) -> None:
    followed = residual_survival.shape[-1] - 1
    if np.any(np.asarray(horizon) > interval + followed):
        raise ValueError(
            f"horizon={horizon} exceeds interval + {followed} = {interval + followed}: perturbed runs were followed "
            f"for {followed} epochs"
        )


def _checked_residuals(predictor: str, residual_survival: npt.NDArray | None) -> npt.NDArray:
    if predictor not in PREDICTORS:
        raise ValueError(f"predictor={predictor!r} is unknown; choose from {', '.join(PREDICTORS)}")
    if residual_survival is None:
        raise ValueError(f"predictor={predictor!r} needs residuals of runs perturbed once")
    return residual_survival
