"""What one parent and one child contribute to the variance of a prediction: for theory.study_design."""

import numpy as np
import numpy.typing as npt

from theory.discrete_resetting import check_interval
from theory.perturbation import predicted_restricted_mean
from theory.survival import Floats


def run_variances(
    predictor: str,
    survival: npt.ArrayLike,
    residual_survival: npt.ArrayLike | None,
    interval: int,
    horizon: int,
) -> tuple[float, float]:
    """Variances a and b that one parent and one child contribute to a predicted E[min(T_P, H)].

    With n runs followed to P and m independent children its standard error is sqrt(a / n + b / m).

    Args:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        survival: Psi(0..), shape (at least P + 1,).
        residual_survival: Psi_res(0..F), shape (F + 1,); not used by ``"restart"``.
        interval: P [epochs].
        horizon: H >= 1 [epochs]; for ``"rare"`` at most P + F.

    Returns:
        (a, b) [epochs^2]; b = 0 for ``"restart"``.

    Raises:
        ValueError: for an unknown predictor, missing residuals, or an interval or horizon out of range.

    Example:
        >>> run_variances("rare", [1.0, 0.5, 0.5], [1.0, 0.5, 0.0], 1, 3)  # phi(T) = 1 or 2.5; res = 1 or 2
        (0.5625, 0.0625)

    Reference: Derived for jostle
    """
    psi = np.asarray(survival, dtype=float)
    psi = psi[: int(check_interval(psi, interval)) + 1]
    residual_psi = None if residual_survival is None else np.asarray(residual_survival, dtype=float)

    def slopes(of: Floats, is_residual: bool) -> Floats:
        step = 1e-30
        moved = of + 1j * step * np.eye(len(of))
        arguments = (psi, moved) if is_residual else (moved, residual_psi)
        value = predicted_restricted_mean(predictor, *arguments, interval, horizon)
        return np.broadcast_to(np.imag(value) / step, of.shape)

    a = _variance(slopes(psi, False), psi)
    if predictor == "restart" or residual_psi is None:
        return a, 0.0
    return a, _variance(slopes(residual_psi, True), residual_psi)


def _variance(slopes: Floats, survival: Floats) -> float:
    """Variance of sum_{t<T} slope(t) if T has this survival; what survives its end counts as T = H + 1."""
    law = np.append(survival[:-1] - survival[1:], survival[-1])
    phi = np.cumsum(slopes)
    return float(law @ (phi - law @ phi) ** 2)
