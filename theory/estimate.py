"""Estimates that carry their error, and the one comparison of a prediction with a measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

AGREEMENT_P_VALUE = 1e-6
"""Tests reject agreement below this p-value: one false alarm in a million statistical tests."""

LARGEST_SAMPLE = 1e150
"""The squares of larger ones are no floats."""


def _check_samples(x: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(x).all():
        raise ValueError("samples must be finite: censored runs need a restricted mean (theory.survival)")
    if x.size and np.abs(x).max() > LARGEST_SAMPLE:
        raise ValueError(
            f"samples reach {np.abs(x).max():g}; they must be {LARGEST_SAMPLE:g} at most: take other units"
        )


@dataclass(frozen=True)
class Estimate:
    """A number estimated from data. Printed as ``28.7 +- 1.1``: value and standard error.

    Attributes:
        value: the estimate; ``inf`` where the estimated quantity is infinite on the data.
        standard_error: its standard error, >= 0 (``inf`` beside an infinite value).
        n: number of independent samples behind it.
        interval95: a 95 % confidence interval from a bootstrap, where there is one.
    """

    value: float
    standard_error: float
    n: int
    interval95: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("value", "standard_error"):
            object.__setattr__(self, name, float(getattr(self, name)))  # numpy's scalars warn where floats overflow
        if math.isnan(self.value) or math.isnan(self.standard_error) or self.standard_error < 0:
            raise ValueError(
                f"value={self.value}, standard_error={self.standard_error}: neither may be nan, nor the error < 0"
            )
        if not 1 <= self.n < math.inf:
            raise ValueError(f"n={self.n} must be >= 1: an estimate needs data, and a finite number of them")

    def __str__(self) -> str:
        value, error = self.value, self.standard_error
        if not (math.isfinite(value) and math.isfinite(error)):
            return f"{value:.6g}" if math.isinf(value) else f"{value:.6g} +- inf"
        if error == 0:
            return f"{value:.1f} +- 0.0" if value == round(value, 1) else f"{value:.6g} +- 0"
        digits = 1 - math.floor(math.log10(error))  # after the point, so that the error has two
        if error < 5e-5:  # zeros with fixed digits
            leading = digits + (math.floor(math.log10(abs(value))) if value else 0)
            return f"{value:.{max(leading, 0) + 1}g} +- {error:.2g}"
        return "{1:.{0}f} +- {2:.{0}f}".format(min(max(digits, 0), 4), value, error)

    @classmethod
    def from_samples(cls, samples: npt.ArrayLike) -> "Estimate":
        """Mean of independent samples with its standard error.

        Args:
            samples: finite numbers, shape (n,), n >= 2.

        Returns:
            The estimate of the mean.

        Raises:
            ValueError: for fewer than two samples, or non-finite ones.

        Example:
            >>> Estimate.from_samples([1.0, 2.0, 3.0]).value
            2.0
        """
        x = np.asarray(samples, dtype=float)
        if x.ndim != 1 or len(x) < 2:
            raise ValueError(f"samples of shape {x.shape}: need one dimension and at least two samples")
        _check_samples(x)
        return cls(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))), len(x))

    @classmethod
    def from_columns(cls, samples: npt.ArrayLike) -> "tuple[Estimate, ...]":
        """``from_samples`` of many quantities at once.

        Args:
            samples: finite numbers, a row for each independent sample, shape (n, quantities), n >= 2.

        Returns:
            The estimate of each column's mean.

        Raises:
            ValueError: for fewer than two samples, or non-finite ones.

        Example:
            >>> [estimate.value for estimate in Estimate.from_columns([[1.0, 5.0], [3.0, 7.0]])]
            [2.0, 6.0]
        """
        x = np.asarray(samples, dtype=float)
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"samples of shape {x.shape}: need two dimensions and at least two samples")
        _check_samples(x)
        rows = np.ascontiguousarray(x.T)
        errors = rows.std(axis=1, ddof=1) / math.sqrt(len(x))
        values = rows.mean(axis=1)
        return tuple(cls(*pair, len(x)) for pair in zip(values.tolist(), errors.tolist(), strict=True))

    @classmethod
    def ratio_of_columns(cls, above: npt.ArrayLike, below: npt.ArrayLike) -> "tuple[Estimate, ...]":
        """Ratios of means, with the standard error of their linear part (the delta method).

        Args:
            above: samples of the numerators, shape (n, quantities), n >= 2.
            below: those of the denominators from the same replicas; means > 0.

        Returns:
            The estimate of mean(above) / mean(below) for each column; a common fluctuation cancels.

        Raises:
            ValueError: for shapes that differ, too few samples, or a mean of ``below`` that is not > 0.

        Example:
            >>> Estimate.ratio_of_columns([[2.0], [4.0]], [[1.0], [2.0]])
            (Estimate(value=2.0, standard_error=0.0, n=2, interval95=None),)
        """
        x, y = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
        if x.shape != y.shape or x.ndim != 2:
            raise ValueError(f"above of shape {x.shape} and below of shape {y.shape} must both be (n, quantities)")
        _check_samples(x)
        _check_samples(y)
        if not len(y) or not (y.mean(axis=0) > 0).all():
            raise ValueError("below must have means > 0: it is divided by")
        with np.errstate(over="ignore", invalid="ignore"):  # refused as samples
            ratio = x.mean(axis=0) / y.mean(axis=0)
            linear = ratio + (x - ratio * y) / y.mean(axis=0)
        return cls.from_columns(linear)

    def scaled(self, factor: float) -> "Estimate":
        """The same in another unit.

        Args:
            factor: finite and > 0.

        Returns:
            Value, error and interval multiplied.

        Raises:
            ValueError: for a factor out of range.

        Example:
            >>> Estimate(2.0, 0.5, 10).scaled(10.0)
            Estimate(value=20.0, standard_error=5.0, n=10, interval95=None)
        """
        if not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"factor={factor} must be finite and > 0")
        factor = float(factor)  # numpy's short floats overflow sooner
        interval = self.interval95 and (factor * self.interval95[0], factor * self.interval95[1])
        return Estimate(factor * self.value, factor * self.standard_error, self.n, interval)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval: the bootstrap one at 95 % where there is one, else Student's t.

        Args:
            level: coverage probability, strictly between 0 and 1.

        Returns:
            (low, high).

        Raises:
            ValueError: if the level is outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level} must lie strictly between 0 and 1")
        if level == 0.95 and self.interval95 is not None:
            return self.interval95
        if not math.isfinite(self.value):
            return self.value, self.value
        from scipy.special import stdtrit

        half_width = float(stdtrit(max(self.n - 1, 1), 0.5 + level / 2)) * self.standard_error
        return self.value - half_width, self.value + half_width


@dataclass(frozen=True)
class Agreement:
    """Outcome of holding independent samples against a predicted mean.

    Attributes:
        measured: mean of the samples with its standard error.
        prediction: the predicted mean.
        t: (mean - prediction) / standard error.
        p_value: two-sided Student-t p-value with n - 1 degrees of freedom.
    """

    measured: Estimate
    prediction: float
    t: float
    p_value: float

    def __bool__(self) -> bool:
        """True unless the prediction is rejected at p < 1e-6."""
        return self.p_value > AGREEMENT_P_VALUE


def agreement(samples: npt.ArrayLike, prediction: float, *, detects: float | None = None) -> Agreement:
    """Student's t-test of a predicted mean on at least 200 independent samples.

    Args:
        samples: independent samples, shape (n,), n >= 200 (below that t has heavy tails and tests lie).
        prediction: the predicted mean.
        detects: the smallest relative error of the prediction that must be seen. The standard error then has to be
            at most a tenth of it, so that a wrong formula cannot hide in the noise.

    Returns:
        The agreement; its truth value says whether the prediction stands.

    Raises:
        ValueError: for too few samples, or a standard error too large for ``detects``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bool(agreement(rng.exponential(size=10**5), 1.0, detects=0.05))
        True
        >>> bool(agreement(rng.exponential(size=10**5), 1.05, detects=0.05))
        False
    """
    measured = Estimate.from_samples(samples)
    if measured.n < 200:
        raise ValueError(f"n={measured.n} samples: agreement needs at least 200 independent ones")
    if detects is not None and measured.standard_error > 0.1 * detects * abs(prediction):
        raise ValueError(
            f"standard error {measured.standard_error:.3g} is above a tenth of the error to be seen "
            f"({detects:.3g} x {abs(prediction):.4g}): take more samples"
        )
    t, p_value = _student_t(measured.value - prediction, measured.standard_error, measured.n - 1)
    return Agreement(measured, prediction, t, p_value)


def _student_t(difference: float, standard_error: float, degrees_of_freedom: int) -> tuple[float, float]:
    """Student's t and its two-sided p-value; without any error only equality agrees."""
    if difference == 0:
        return 0.0, 1.0
    if standard_error == 0:
        return math.copysign(math.inf, difference), 0.0
    from scipy.special import stdtr

    t = difference / standard_error
    return t, 2 * float(stdtr(degrees_of_freedom, -abs(t)))


def _combined_error(predicted: Estimate, measured: Estimate) -> tuple[float, int]:
    """Standard error of the difference and its degrees of freedom.

    The smaller sample governs the tails: never bolder than Welch's formula, and free of its corner cases. A closed form
    has no error and so no say in this, whatever its n.
    """
    sampled = [estimate.n for estimate in (predicted, measured) if estimate.standard_error > 0]
    return math.hypot(predicted.standard_error, measured.standard_error), max(min(sampled, default=2) - 1, 1)


@dataclass(frozen=True)
class Comparison:
    """One prediction beside one measurement.

    Attributes:
        quantity: what is compared, such as ``"E[min(T_P, 150)], full_reset, P=20"``.
        predicted: the prediction with its own sampling error (0 for a closed form).
        measured: the measurement.
        z: (predicted - measured) / combined standard error, beyond the margin.
        p_value: two-sided p-value of z by Student's t with the degrees of freedom of the smaller sample.
        verdict: ``"agrees"``, ``"disagrees"`` or ``"outside regime"``.
        margin: model error that the predictor is allowed, as a fraction of the prediction; 0 for an exact one.
        reasons: why the prediction is outside its regime.

    Example:
        >>> one = compare("E[T]", Estimate(10.0, 0.0, 1), Estimate(10.3, 0.1, 400))
        >>> round(one.z, 9), one.verdict
        (-3.0, 'disagrees')
    """

    quantity: str
    predicted: Estimate
    measured: Estimate
    z: float
    p_value: float
    verdict: str
    margin: float = 0.0
    reasons: tuple[str, ...] = ()

    def seen_from(self, significance: float = 0.01) -> float | None:
        """How large a deviation, beyond the margin, would have been called a disagreement with probability one half.

        "Agrees" says no more than that theory and measurement are not much farther apart than this.

        Args:
            significance: of this comparison alone; less if it is one of several.

        Returns:
            As a fraction of the prediction; None for a prediction of zero, or without any error.

        Example:
            >>> measured = Estimate(10.5, 0.1, 400)
            >>> round(compare("E[T]", Estimate(10.0, 0.0, 1), measured, margin=0.1).seen_from(), 3)
            0.026
            >>> round(compare("E[T]", Estimate(10.0, 0.0, 1), Estimate(11.0, 1.0, 2)).seen_from(), 1)  # two runs
            6.4
        """
        error, degrees_of_freedom = _combined_error(self.predicted, self.measured)
        if error == 0 or self.predicted.value == 0:
            return None
        from scipy.special import stdtrit

        return float(stdtrit(degrees_of_freedom, 1 - significance / 2)) * error / abs(self.predicted.value)


def compare(
    quantity: str, predicted: Estimate, measured: Estimate, *, margin: float = 0.0, reasons: Sequence[str] = ()
) -> Comparison:
    """Hold a prediction against an independent measurement.

    Args:
        quantity: what is compared.
        predicted: the prediction; its standard error is that of the data it was made from.
        measured: the measurement, independent of those data.
        margin: model error allowed to an approximate predictor, as a fraction of the prediction.
        reasons: why the prediction is outside its regime; empty if it is inside.

    Returns:
        The comparison with the verdict at p < 0.01; correct several of them together with ``holm``.

    Raises:
        ValueError: if the margin is negative or either value is infinite (there is nothing to compare).

    Example:
        >>> measured = Estimate(10.3, 0.1, 400)
        >>> compare("E[T]", Estimate(10.0, 0.0, 1), measured).verdict
        'disagrees'
        >>> compare("E[T]", Estimate(10.0, 0.0, 1), measured, margin=0.02).verdict
        'agrees'
    """
    if not margin >= 0:
        raise ValueError(f"margin={margin} must be >= 0")
    for name, estimate in (("predicted", predicted), ("measured", measured)):
        if not math.isfinite(estimate.value):
            raise ValueError(f"{quantity}: {name} value is {estimate.value}; compare restricted means instead")
    difference = predicted.value - measured.value
    beyond_margin = math.copysign(max(abs(difference) - margin * abs(predicted.value), 0.0), difference)
    z, p_value = _student_t(beyond_margin, *_combined_error(predicted, measured))
    verdict = "outside regime" if reasons else ("agrees" if p_value >= 0.01 else "disagrees")
    return Comparison(quantity, predicted, measured, z, p_value, verdict, margin, tuple(reasons))


def holm(comparisons: Sequence[Comparison], significance: float = 0.01) -> list[Comparison]:
    """Verdicts of several comparisons at one family-wise error rate (Holm's step-down method).

    Comparisons outside their regime keep that verdict and do not count.

    Args:
        comparisons: the family.
        significance: probability that any true prediction of the family is rejected.

    Returns:
        The comparisons in their order, with corrected verdicts.

    Raises:
        ValueError: if the significance is outside (0, 1).

    Example:
        >>> measured = Estimate(10.0, 0.1, 400)
        >>> family = [compare("E[T]", Estimate(value, 0.0, 1), measured) for value in (10.0, 10.27, 11.0)]
        >>> [one.verdict for one in family]
        ['agrees', 'disagrees', 'disagrees']
        >>> [one.verdict for one in holm(family)]  # the second is not so rare among three
        ['agrees', 'agrees', 'disagrees']
    """
    if not 0 < significance < 1:
        raise ValueError(f"significance={significance} must lie strictly between 0 and 1")
    verdicts = [c.verdict for c in comparisons]
    tested = sorted((c.p_value, i) for i, c in enumerate(comparisons) if not c.reasons)
    rejecting = True
    for rank, (p_value, i) in enumerate(tested):
        rejecting = rejecting and p_value < significance / (len(tested) - rank)
        verdicts[i] = "disagrees" if rejecting else "agrees"
    return [replace(c, verdict=v) for c, v in zip(comparisons, verdicts, strict=True)]
