"""What every stationary gradient noise can tell, and the general cases: noise of finite range, tables and sums.

dg_k is the noise of the k-th gradient along one direction, c_h = Cov(dg_k, dg_{k+h}) its autocovariance averaged over
the phase within an epoch (exact for variances averaged likewise), S(omega) = sum_h c_h e^{-i omega h} its spectrum. The
noises themselves are in theory.gradient_noise.
"""

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.heavy_ball import HeavyBall, LagPolynomial


@dataclass(frozen=True, eq=False)
class LagSums:
    """What a noise contributes to the variances of a filtered process, as polynomials in the delay D.

    Attributes:
        tail: sum_{h>=1} c_h D^{h-1}.
        contrast: sum_{h>=1} c_h (1 - D^h) / (1 - D).
    """

    tail: LagPolynomial
    contrast: LagPolynomial


class GradientNoise(abc.ABC):
    """Stationary gradient noise; ``a + b`` are independent sources, ``2.0 * a`` is a of twice the variance.

    Attributes:
        variance: c_0 [gradient^2].
    """

    variance: float

    @property
    @abc.abstractmethod
    def sum_of_autocovariance(self) -> float:
        """S(0) = sum_h c_h [gradient^2]: what diffusion along a flat direction is made of."""

    @abc.abstractmethod
    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h at the given lags.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.

        Raises:
            ValueError: for lags that are not of an integer type.
        """

    @abc.abstractmethod
    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without the lines of a periodic part (see ``lines``).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies; (1 / 2 pi) int_-pi^pi S plus the lines is the variance.
        """

    @property
    def lines(self) -> tuple[Floats, Floats]:
        """Frequencies in (0, 2 pi) and variances of a periodic part: c_h = sum_n w_n cos(omega_n h); mostly none."""
        return np.empty(0), np.empty(0)

    @abc.abstractmethod
    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """The sums over lags that determine stationary variances.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials.
        """

    @abc.abstractmethod
    def forcing(self, modes: HeavyBall) -> Iterator[Floats]:
        """phi_h = sum_j g_j c_{h+j} for h = 0, 1, ...: covariance of the noise with the response h updates before.

        Args:
            modes: the modes with impulse response g_j.

        Returns:
            Endless; each phi_h has the shape of the curvature [gradient^2].
        """

    def scaled(self, factor: float) -> "GradientNoise":
        """The same noise with its variance multiplied.

        Args:
            factor: finite and >= 0.

        Returns:
            The noise.

        Raises:
            ValueError: for a factor out of range.
        """
        variance = checked_variance("factor", factor) * self.variance
        return replace(self, variance=variance)  # pyright: ignore[reportArgumentType]

    def normalised(self) -> "GradientNoise":
        """The same noise with c_0 = 1.

        Returns:
            The noise.

        Raises:
            ValueError: if its variance is zero.
        """
        if self.variance == 0:
            raise ValueError("variance=0 must be > 0: without noise there is nothing to normalise")
        return self.scaled(1 / self.variance)

    def __add__(self, other: "GradientNoise") -> "GradientNoise":
        return SumOfNoises((self, other))

    def __mul__(self, factor: float) -> "GradientNoise":
        return self.scaled(factor)

    __rmul__ = __mul__


class FiniteRangeNoise(GradientNoise):
    """Noise whose autocovariance vanishes beyond a number of lags."""

    @property
    @abc.abstractmethod
    def reach(self) -> int:
        """The largest lag h with c_h != 0."""

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = c_0 + 2 sum_{h>=1} c_h [gradient^2]."""
        values = self.autocovariance(np.arange(self.reach + 1))
        return float(values[0] + 2 * math.fsum(values[1:]))

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = c_0 + 2 sum_{h>=1} c_h cos(omega h).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.
        """
        total = np.full(np.shape(frequency), self.variance)
        for lag, value in enumerate(self.autocovariance(np.arange(self.reach + 1))[1:], 1):
            total = total + 2 * value * np.cos(lag * np.asarray(frequency))
        return total

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """The sums over lags, by Horner's rule.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials.
        """
        tail = contrast = modes.one * 0.0
        remaining = 0.0
        # (1 - D^h) / (1 - D) = 1 + D + ... + D^{h-1}: D^j is there once for each h > j.
        for value in self.autocovariance(np.arange(self.reach + 1))[:0:-1]:
            remaining += float(value)
            tail = tail.delayed() + modes.one * float(value)
            contrast = contrast.delayed() + modes.one * remaining
        return LagSums(tail, contrast)

    def forcing(self, modes: HeavyBall) -> Iterator[Floats]:
        """phi_h = sum_j g_j c_{h+j} for h = 0, 1, ..., from the largest lag backwards.

        Args:
            modes: the modes with impulse response g_j.

        Yields:
            phi_h, in the shape of the curvature [gradient^2]; zeros beyond the reach.
        """
        beta, values = modes.momentum, self.autocovariance(np.arange(self.reach + 1))
        phi = np.zeros((self.reach + 3, *modes.contraction.shape))
        for h in range(self.reach, -1, -1):
            phi[h] = values[h] + (1 + beta - modes.contraction) * phi[h + 1] - beta * phi[h + 2]
        for past in phi:
            yield np.asarray(past)
        while True:
            yield np.zeros_like(modes.contraction)


@dataclass(frozen=True, eq=False)
class TabulatedNoise(FiniteRangeNoise):
    """Noise given by its autocovariance, such as a measured one. Costs grow with the length of the table.

    Attributes:
        values: c_0, c_1, ..., c_K; zero beyond [gradient^2].
        variance: c_0.

    Example:
        >>> noise = TabulatedNoise([1.0, -0.5])
        >>> noise.sum_of_autocovariance, noise.autocovariance([-1, 0, 2]).tolist()
        (0.0, [-0.5, 1.0, 0.0])
    """

    values: npt.ArrayLike
    variance: float = field(init=False)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=float)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(f"values of shape {values.shape} must be finite numbers c_0, c_1, ... in one dimension")
        if (np.abs(values) > checked_variance("values[0]", values[0])).any():
            raise ValueError(
                f"values has an entry {values[np.abs(values).argmax()]}; none may exceed c_0 = {values[0]}"
            )
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "variance", float(values[0]))

    @property
    def reach(self) -> int:
        """K, the last lag of the table."""
        return len(np.asarray(self.values)) - 1

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h from the table.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.

        Raises:
            ValueError: for lags that are not of an integer type.
        """
        h = whole_lags(lags)
        return np.where(h <= self.reach, np.asarray(self.values)[np.minimum(h, self.reach)], 0.0)

    def scaled(self, factor: float) -> "TabulatedNoise":
        """The same noise with its variance multiplied.

        Args:
            factor: finite and >= 0.

        Returns:
            The noise.

        Raises:
            ValueError: for a factor out of range.
        """
        return TabulatedNoise(checked_variance("factor", factor) * np.asarray(self.values))


@dataclass(frozen=True)
class SumOfNoises(GradientNoise):
    """Independent sources, whose autocovariances and spectra add.

    Attributes:
        sources: the noises, at least one.
        variance: the sum of theirs [gradient^2].
    """

    sources: tuple[GradientNoise, ...]
    variance: float = field(init=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources=() must hold at least one noise")
        object.__setattr__(self, "variance", math.fsum(source.variance for source in self.sources))

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0), the sum over the sources [gradient^2]."""
        return math.fsum(source.sum_of_autocovariance for source in self.sources)

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, the sum over the sources.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.

        Raises:
            ValueError: for lags that are not of an integer type.
        """
        return np.sum([source.autocovariance(lags) for source in self.sources], axis=0)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), the sum over the sources.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.
        """
        return np.sum([source.spectrum(frequency) for source in self.sources], axis=0)

    @property
    def lines(self) -> tuple[Floats, Floats]:
        """Frequencies and variances of the lines of all sources."""
        lines = [source.lines for source in self.sources]
        return np.concatenate([line[0] for line in lines]), np.concatenate([line[1] for line in lines])

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """The sums over lags, added.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials.
        """
        total = self.sources[0].lag_sums(modes)
        for source in self.sources[1:]:
            sums = source.lag_sums(modes)
            total = LagSums(total.tail + sums.tail, total.contrast + sums.contrast)
        return total

    def forcing(self, modes: HeavyBall) -> Iterator[Floats]:
        """phi_h, the sum over the sources.

        Args:
            modes: the modes with impulse response g_j.

        Yields:
            phi_h, in the shape of the curvature [gradient^2].
        """
        for parts in zip(*(source.forcing(modes) for source in self.sources), strict=True):
            yield np.sum(parts, axis=0)

    def scaled(self, factor: float) -> "SumOfNoises":
        """All sources with their variances multiplied.

        Args:
            factor: finite and >= 0.

        Returns:
            The noise.

        Raises:
            ValueError: for a factor out of range.
        """
        return SumOfNoises(tuple(source.scaled(factor) for source in self.sources))


def checked_variance(name: str, value: float) -> float:
    """Check a variance.

    Args:
        name: what the message calls it.
        value: the number.

    Returns:
        The number as a float.

    Raises:
        ValueError: unless it is finite and >= 0.
    """
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value} must be finite and >= 0")
    return float(value)


def checked_batch_size(samples: int, batch_size: int) -> int:
    """Check a batch size.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.

    Returns:
        S.

    Raises:
        ValueError: unless 1 <= batch_size <= samples.
    """
    if not 1 <= batch_size <= samples:
        raise ValueError(f"batch_size={batch_size} must lie between 1 and the {samples} training samples")
    return batch_size


def whole_lags(lags: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Check lags and drop their signs.

    Args:
        lags: whole numbers of updates, any shape.

    Returns:
        |h|, in the same shape.

    Raises:
        ValueError: for lags that are not of an integer type.
    """
    h = np.asarray(lags)
    if h.dtype.kind not in "iu":
        raise ValueError(f"lags of type {h.dtype} must be whole numbers of updates: pass integers")
    return np.abs(h.astype(np.int64))
