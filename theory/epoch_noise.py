"""The noise of batches without replacement: over the M batches of an epoch it sums to zero, so it is anti-correlated.

Within an epoch Cov(dg_i, dg_j) = c_0 (M 1{i=j} - 1) / (M - 1). Averaged over the phase within an epoch, with a new
order every epoch, c_h = c_0 [1{h=0} - 1{0<|h|<M} (M - |h|) / (M (M - 1))] and S(0) = 0. The sums over lags that
variances are made of have terms of one sign (theory.heavy_ball), and cost log2(M) steps. One order for all epochs is in
theory.single_order_noise.

Reference: [kuhn2023] autocovariance of reshuffled batches; [domingoenrich2022] spectra of shuffled batches. One order
for E epochs, and all sums over lags, are derived for jostle.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.finite_range_noise import FiniteRangeNoise
from theory.gradient_noise_base import GradientNoise, LagSums
from theory.heavy_ball import HeavyBall, PowerSums, power_sums, responses, triangular_sums
from theory.noise_arguments import (
    checked_batch_size,
    checked_count,
    checked_variance,
    finite_frequencies,
    reduced_angle,
    whole_lags,
)


@dataclass(frozen=True)
class WithoutReplacement(GradientNoise):
    """What M batches per epoch have in common that leave no sample out.

    Attributes:
        batches_per_epoch: M >= 2.
        variance: c_0 [gradient^2].
    """

    batches_per_epoch: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches_per_epoch", checked_count("batches_per_epoch", self.batches_per_epoch, 2))
        object.__setattr__(self, "variance", checked_variance("variance", self.variance))

    @classmethod
    def of_examples(cls, example_variance: float, samples: int, batch_size: int) -> Self:
        """The noise of such batches at fixed weights: c_0 = C_0 (M - 1) / (N - 1), with M = N / S.

        Args:
            example_variance: C_0 = (1 / N) sum_n (gradient_n - mean)^2 along the direction [gradient^2].
            samples: N, the number of training samples.
            batch_size: S, which divides N at least twice.

        Returns:
            The noise; with replacement its variance would be (N - 1) / (N - S) times larger.

        Raises:
            ValueError: for arguments out of range.
        """
        return cls(*_without_replacement(example_variance, samples, batch_size))

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = 0: the noise of an epoch sums to zero."""
        return 0.0


@dataclass(frozen=True)
class Reshuffled(WithoutReplacement, FiniteRangeNoise):
    """A new random order every epoch: c_h = c_0 [1{h=0} - 1{0<|h|<M} (M - |h|) / (M (M - 1))].

    S(omega) = c_0 M / (M - 1) (1 - D^2 / M^2) with D = sin(M omega / 2) / sin(omega / 2); ~ c_0 M (M + 1) omega^2 / 12.

    Attributes:
        batches_per_epoch: M >= 2.
        variance: c_0 [gradient^2].

    Example:
        >>> Reshuffled(batches_per_epoch=3).autocovariance([0, 1, 2, 3]).round(6).tolist()
        [1.0, -0.333333, -0.166667, 0.0]
    """

    @property
    def reach(self) -> int:
        """M - 1."""
        return self.batches_per_epoch - 1

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, averaged over the phase within an epoch.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        h, batches = whole_lags(lags), self.batches_per_epoch
        return self.variance * np.where(h == 0, 1.0, -np.maximum(batches - h, 0) / (float(batches) * (batches - 1)))

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without cancellation at small frequencies.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.

        Raises:
            ValueError: for frequencies that are not finite numbers.
        """
        # D / M = (1 - a(M w / 2)) / (1 - a(w / 2)) with a(x) = 1 - sin(x) / x.
        batches, half = self.batches_per_epoch, reduced_angle(finite_frequencies(frequency)) / 2
        epoch, batch = _one_minus_sinc(batches * half), _one_minus_sinc(half)
        return self.variance * batches / (batches - 1) * (epoch - batch) * (2 - epoch - batch) / (1 - batch) ** 2

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """The sums over lags: those of powers of D with triangular and quadratic weights.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials.
        """
        return self._lag_sums(power_sums(modes.difference, self.batches_per_epoch))

    def _lag_sums(self, sums: PowerSums) -> LagSums:
        unit = -self.variance / (self.batches_per_epoch * (self.batches_per_epoch - 1))
        return LagSums(sums.second * unit, (sums.third + sums.second) * unit)

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = sum_j g_j c_{h+j} for h = 0 .. count - 1; costs log2(M) steps and those asked for.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """
        batches, unit = self.batches_per_epoch, -self.variance / (self.batches_per_epoch * (self.batches_per_epoch - 1))
        result = np.zeros((count, *modes.contraction.shape))
        result[: batches + 1] = unit * _triangular_responses(modes, batches, min(count, batches + 1))
        # At h = 0 the triangle has -c_0 / (M - 1).
        result[0] += self.variance * (batches / (batches - 1))
        return result


@dataclass(frozen=True)
class ReshuffledEvery(FiniteRangeNoise):
    """A new random order every E epochs; in between it is repeated.

    Two updates h apart share an order with probability 1 - |h| / (E M). Then they are the same batch if M divides h,
    and else their covariance is -c_0 / (M - 1):

        c_h = c_0 (1 - |h| / (E M))_+ (M 1{M divides h} - 1) / (M - 1),
        S(omega) = S_1(omega) F_E(M omega),   F_E(x) = sin^2(E x / 2) / (E sin^2(x / 2)),

    with the spectrum S_1 of E = 1. Variances have relative errors of up to 1e-15 E. Near the stability bound they lose
    more if M is odd, as S(pi) is 0 (E even) or c_0 (M + 1) / (E M): errors are then up to 1e-15 over the distance to
    the bound as a fraction of it (for odd E at most 1e-15 E^2), and a variance without any digit left is merely a
    number >= 0. Derived for jostle.

    Attributes:
        batches_per_epoch: M >= 2.
        epochs: E >= 1, for which an order is kept.
        variance: c_0 [gradient^2].

    Example:
        >>> ReshuffledEvery(batches_per_epoch=2, epochs=2).autocovariance([0, 1, 2, 3, 4]).tolist()
        [1.0, -0.75, 0.5, -0.25, 0.0]
    """

    batches_per_epoch: int
    epochs: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches_per_epoch", checked_count("batches_per_epoch", self.batches_per_epoch, 2))
        object.__setattr__(self, "epochs", checked_count("epochs", self.epochs, 1))
        object.__setattr__(self, "variance", checked_variance("variance", self.variance))

    @classmethod
    def of_examples(cls, example_variance: float, samples: int, batch_size: int, epochs: int) -> "ReshuffledEvery":
        """The noise of such batches at fixed weights: c_0 = C_0 (M - 1) / (N - 1), with M = N / S.

        Args:
            example_variance: C_0 = (1 / N) sum_n (gradient_n - mean)^2 along the direction [gradient^2].
            samples: N, the number of training samples.
            batch_size: S, which divides N at least twice.
            epochs: E >= 1, for which an order is kept.

        Returns:
            The noise.

        Raises:
            ValueError: for arguments out of range.
        """
        batches, variance = _without_replacement(example_variance, samples, batch_size)
        return cls(batches, epochs, variance)

    @property
    def reach(self) -> int:
        """E M - 1."""
        return self.batches_per_epoch * self.epochs - 1

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = 0: the noise of an epoch sums to zero."""
        return 0.0

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, averaged over the phase within the E epochs.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        h, period = whole_lags(lags), self.batches_per_epoch * self.epochs
        share = np.maximum(float(period) - h, 0.0) / period
        return self.variance * share * repetitions(h, self.batches_per_epoch)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without cancellation at small frequencies.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.

        Raises:
            ValueError: for frequencies that are not finite numbers.
        """
        angle = reduced_angle(self.batches_per_epoch * reduced_angle(finite_frequencies(frequency)))
        # np.sinc(x / 2 pi) = sin(x / 2) / (x / 2).
        fejer = self.epochs * (np.sinc(self.epochs * angle / math.tau) / np.sinc(angle / math.tau)) ** 2
        return Reshuffled(self.batches_per_epoch, self.variance).spectrum(frequency) * fejer

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """Those of E = 1 and what the later epochs of an order add.

        With s_k(A, n) the sums of ``power_sums`` and s_k = s_k(D, M), the tail is

            tail_1 - c_0 (1 - D)^2 b s_2(D^M, E) / (E M (M - 1)),   (1 - D)^2 b = s_1^2 - M^2 D^{M-1},

        where b = s_2^2 + 2 M s_3 - M^2 s_2(D, M - 1) has positive coefficients: without momentum (D a number, positive
        if eta lambda < 1) the variance falls with E. With momentum it may rise.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials.
        """
        batches = self.batches_per_epoch
        sums = power_sums(modes.difference, batches)
        first = Reshuffled(batches, self.variance)._lag_sums(sums)
        shorter = power_sums(modes.difference, batches - 1).second
        bracket = sums.second * sums.second + sums.third * (2.0 * batches) - shorter * float(batches**2)
        # 1 - D^M is (1 - D) s_1.
        repeats = power_sums(sums.first.differenced(), self.epochs).second
        later = (repeats * bracket * (self.variance / (self.epochs * batches * (batches - 1)))).differenced()
        return LagSums(first.tail - later.differenced(), first.contrast + later.delayed())

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = sum_j g_j c_{h+j} for h = 0 .. count - 1; costs log2(E M) steps and those asked for.

        The triangle over all lags and, at distances o from the next whole epoch, the responses of its repetitions.
        Errors are E x 1e-16 of the largest.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """
        batches, epochs, period = self.batches_per_epoch, self.epochs, self.batches_per_epoch * self.epochs
        unit = self.variance / (batches - 1)
        result = np.zeros((count, *modes.contraction.shape))
        result[: period + 1] = -unit / period * _triangular_responses(modes, period, min(count, period + 1))
        epoch = power_sums(modes.difference, batches).first.differenced()
        starts = min(-(-(count + batches - 1) // batches), epochs)
        repeats = triangular_sums(epoch, epochs - starts + 1, starts)
        for last, repeat in zip(range((starts - 1) * batches, -1, -batches), repeats, strict=True):
            nearest, furthest = max(last - count + 1, 0), min(last, batches - 1)
            values = responses(modes, repeat * (unit * batches / epochs), nearest, furthest)
            result[last - furthest : last - nearest + 1] += values[::-1]
        return result


def _triangular_responses(modes: HeavyBall, width: int, count: int) -> Floats:
    """sum_{j<n} (n - j) g_j for n = width, width - 1, ..., width - count + 1 >= 0."""
    sums = triangular_sums(modes.difference, width - count + 1, count)
    return np.array([responses(modes, triangle, 0, 0)[0] for triangle in sums])[::-1]


def _without_replacement(example_variance: float, samples: int, batch_size: int) -> tuple[int, float]:
    """M and c_0 of batches without replacement."""
    total, size = checked_batch_size(samples, batch_size)
    if total % size or total == size:
        raise ValueError(
            f"batch_size={size} must divide samples={total} into at least two batches: the noise of an epoch "
            "sums to zero only if all samples are used"
        )
    batches = total // size
    return batches, checked_variance("example_variance", example_variance) * (batches - 1) / (total - 1)


def repetitions(lags: npt.NDArray[np.int64], batches: int) -> Floats:
    """The autocovariance of one order for all epochs, (M 1{M divides h} - 1) / (M - 1).

    Args:
        lags: h, any shape.
        batches: M >= 2.

    Returns:
        In units of c_0, in the shape of the lags.
    """
    return np.where(lags % batches == 0, 1.0, -1 / (batches - 1))


def _one_minus_sinc(angle: Floats) -> Floats:
    """1 - sin(x) / x without cancellation."""
    square = np.where(np.abs(angle) < 1, angle, 1.0) ** 2
    series = np.ones_like(square)
    for k in range(9, 1, -1):
        series = 1 - square / (2 * k * (2 * k + 1)) * series
    return np.where(np.abs(angle) < 1, square / 6 * series, 1 - np.sinc(angle / math.pi))
