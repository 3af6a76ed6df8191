"""A predicted training time with its regime, and the best of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from theory.estimate import Estimate
from theory.survival import Survival


@dataclass(frozen=True)
class Prediction:
    """Predicted training time when a perturbation acts every P epochs.

    Attributes:
        predictor: ``"restart"``, ``"rare"`` or ``"renewal"``.
        interval: P [epochs].
        horizon: H of the restricted means [epochs].
        restricted_mean: E[min(T_P, H)] with delta-method error and bootstrap interval.
        mean: E[T_P], or None where the data do not identify it; ``inf`` where no run finishes between perturbations.
        speed_up: E[min(T, H)] / E[min(T_P, H)], a ratio of restricted means.
        reasons: why the predictor is outside its regime; empty if it is valid.

    Example:
        >>> soon, late = Estimate(12.0, 0.5, 400), Estimate(1.6, 0.1, 400)
        >>> Prediction("restart", 20, 100, restricted_mean=soon, mean=None, speed_up=late, reasons=()).valid
        True
    """

    predictor: str
    interval: int
    horizon: int
    restricted_mean: Estimate
    mean: Estimate | None
    speed_up: Estimate
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the predictor is inside its regime."""
        return not self.reasons


@dataclass(frozen=True)
class BestInterval:
    """The interval with the smallest predicted E[min(T_P, H)], and how sure that is.

    Attributes:
        interval: P [epochs]; the shortest of several equal ones.
        low, high: 95 % bootstrap interval of it.
        horizon: H [epochs].
        is_boundary: whether it is the end of what was examined (other than P = 1), so that the optimum may lie beyond.
    """

    interval: int
    low: int
    high: int
    horizon: int
    is_boundary: bool


def speed_up_lower_bound(unperturbed: Survival, prediction: Prediction) -> float | None:
    """E[min(T, H)] / E[T_P] at the last epoch H with data: a lower bound of E[T] / E[T_P].

    Args:
        unperturbed: survival of the unperturbed runs, some of which may be unfinished.
        prediction: the perturbed mean, from these or other runs.

    Returns:
        The bound, or None where E[T_P] is not identified.
    """
    if prediction.mean is None:
        return None
    return unperturbed.restricted_mean(unperturbed.horizon).value / prediction.mean.value


def best_prediction(predictions: Sequence[Prediction]) -> Prediction | None:
    """The valid prediction with the smallest restricted mean, or None if none is valid.

    Args:
        predictions: at one horizon.

    Returns:
        The best one.

    Raises:
        ValueError: if the valid ones differ in their horizon: their restricted means are different quantities.

    Example:
        >>> def after(epochs, reasons=()):
        ...     time, gain = Estimate(epochs, 0.5, 400), Estimate(20 / epochs, 0.05, 400)
        ...     return Prediction("renewal", 20, 100, time, None, gain, reasons)
        >>> best = best_prediction([after(12.0), after(15.0), after(9.0, ("no quasi-steady state was found",))])
        >>> best.restricted_mean.value if best else None
        12.0
    """
    valid = [p for p in predictions if p.valid]
    horizons = sorted({p.horizon for p in valid})
    if len(horizons) > 1:
        raise ValueError(f"predictions at horizons {horizons} cannot be compared; choose those at one horizon")
    return min(valid, key=lambda p: p.restricted_mean.value, default=None)
