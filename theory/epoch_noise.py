"""The noise of batches without replacement: over the M batches of an epoch it sums to zero, so it is anti-correlated.

Within an epoch Cov(dg_i, dg_j) = c_0 (M 1{i=j} - 1) / (M - 1). Averaged over the phase within an epoch, with a new
order every epoch, c_h = c_0 [1{h=0} - 1{0<|h|<M} (M - |h|) / (M (M - 1))] and S(0) = 0. The sums over lags that
variances are made of have terms of one sign (theory.heavy_ball), and cost log2(M) steps.

Reference: [kuhn2023] autocovariance of reshuffled batches; [domingoenrich2022] spectra of shuffled batches. One order
for E epochs, and all sums over lags, are derived for jostle.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.gradient_noise_base import (
    FiniteRangeNoise,
    GradientNoise,
    LagSums,
    checked_batch_size,
    checked_variance,
    whole_lags,
)
from theory.heavy_ball import HeavyBall, PowerSums, power_sums


@dataclass(frozen=True)
class Reshuffled(FiniteRangeNoise):
    """A new random order every epoch: c_h = c_0 [1{h=0} - 1{0<|h|<M} (M - |h|) / (M (M - 1))].

    S(omega) = c_0 M / (M - 1) (1 - D^2 / M^2) with D = sin(M omega / 2) / sin(omega / 2); ~ c_0 M (M + 1) omega^2 / 12.

    Attributes:
        batches_per_epoch: M >= 2.
        variance: c_0 [gradient^2].

    Example:
        >>> Reshuffled(batches_per_epoch=3).autocovariance([0, 1, 2, 3]).round(6).tolist()
        [1.0, -0.333333, -0.166667, 0.0]
    """

    batches_per_epoch: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        whole_number("batches_per_epoch", self.batches_per_epoch, 2)
        checked_variance("variance", self.variance)

    @classmethod
    def of_examples(cls, example_variance: float, samples: int, batch_size: int) -> "Reshuffled":
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
    def reach(self) -> int:
        """M - 1."""
        return self.batches_per_epoch - 1

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = 0: the noise of an epoch sums to zero."""
        return 0.0

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, averaged over the phase within an epoch.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        h, batches = whole_lags(lags), self.batches_per_epoch
        return self.variance * np.where(h == 0, 1.0, -np.maximum(batches - h, 0) / (batches * (batches - 1)))

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without cancellation at small frequencies.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.
        """
        # D / M = (1 - a(M w / 2)) / (1 - a(w / 2)) with a(x) = 1 - sin(x) / x.
        batches, half = self.batches_per_epoch, _reduced(frequency) / 2
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


@dataclass(frozen=True)
class ReshuffledEvery(FiniteRangeNoise):
    """A new random order every E epochs; in between it is repeated.

    Two updates h apart share an order with probability 1 - |h| / (E M). Then they are the same batch if M divides h,
    and else their covariance is -c_0 / (M - 1):

        c_h = c_0 (1 - |h| / (E M))_+ (M 1{M divides h} - 1) / (M - 1),
        S(omega) = S_1(omega) F_E(M omega),   F_E(x) = sin^2(E x / 2) / (E sin^2(x / 2)),

    with the spectrum S_1 of E = 1. Derived for jostle.

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
        whole_number("batches_per_epoch", self.batches_per_epoch, 2)
        whole_number("epochs", self.epochs, 1)
        checked_variance("variance", self.variance)

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
        return self.variance * np.maximum(period - h, 0) / period * _periodic(h, self.batches_per_epoch)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without cancellation at small frequencies.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.
        """
        angle = _reduced(self.batches_per_epoch * _reduced(frequency))
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


@dataclass(frozen=True)
class ShuffledOnce(GradientNoise):
    """One random order for all epochs: periodic noise, averaged over orders.

    c_h = c_0 (M 1{M divides h} - 1) / (M - 1): lines of variance c_0 / (M - 1) at omega_n = 2 pi n / M, n = 1 .. M - 1.

    Attributes:
        batches_per_epoch: M >= 2.
        variance: c_0 [gradient^2].
    """

    batches_per_epoch: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        whole_number("batches_per_epoch", self.batches_per_epoch, 2)
        checked_variance("variance", self.variance)

    @classmethod
    def of_examples(cls, example_variance: float, samples: int, batch_size: int) -> "ShuffledOnce":
        """The noise of such batches at fixed weights: c_0 = C_0 (M - 1) / (N - 1), with M = N / S.

        Args:
            example_variance: C_0 = (1 / N) sum_n (gradient_n - mean)^2 along the direction [gradient^2].
            samples: N, the number of training samples.
            batch_size: S, which divides N at least twice.

        Returns:
            The noise.

        Raises:
            ValueError: for arguments out of range.
        """
        return cls(*_without_replacement(example_variance, samples, batch_size))

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = 0; the sum over lags is that of a periodic function of zero mean."""
        return 0.0

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, periodic with M.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        return self.variance * _periodic(whole_lags(lags), self.batches_per_epoch)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = 0 between the lines.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            Zeros, in the shape of the frequencies.
        """
        return np.zeros(np.shape(frequency))

    @property
    def lines(self) -> tuple[Floats, Floats]:
        """The M - 1 harmonics of an epoch, each with the variance c_0 / (M - 1)."""
        harmonics = np.arange(1, self.batches_per_epoch)
        return math.tau * harmonics / self.batches_per_epoch, np.full(len(harmonics), self.variance / len(harmonics))

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """The sums over lags of a periodic function: sums over one period divided by s_1 = sum_{j<M} D^j.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials; the contrast without a constant that sums to zero over a period.
        """
        batches = self.batches_per_epoch
        sums = power_sums(modes.difference, batches)
        per_period = sums.first.inverse() * (-self.variance / (batches - 1))
        return LagSums(power_sums(modes.difference, batches - 1).rising * per_period, sums.humped * per_period * 0.5)

    def forcing(self, modes: HeavyBall) -> Iterator[Floats]:
        """phi_h = sum_j g_j c_{h+j}, periodic with M, from the lines by a Fourier transform.

        Args:
            modes: the modes with impulse response g_j.

        Yields:
            phi_h, in the shape of the curvature [gradient^2].
        """
        frequencies, variances = self.lines
        axes = (-1, *(1,) * modes.contraction.ndim)
        response = np.conj(modes.transfer_function(frequencies.reshape(axes))) / -modes.learning_rate
        lines = np.concatenate([np.zeros((1, *modes.contraction.shape)), variances.reshape(axes) * response])
        period = np.fft.ifft(lines, axis=0).real * self.batches_per_epoch
        while True:
            yield from period


def _without_replacement(example_variance: float, samples: int, batch_size: int) -> tuple[int, float]:
    """M and c_0 of batches without replacement."""
    if samples % checked_batch_size(samples, batch_size) or samples == batch_size:
        raise ValueError(
            f"batch_size={batch_size} must divide samples={samples} into at least two batches: the noise of an epoch "
            "sums to zero only if all samples are used"
        )
    batches = samples // batch_size
    return batches, checked_variance("example_variance", example_variance) * (batches - 1) / (samples - 1)


def _periodic(lags: npt.NDArray[np.int64], batches: int) -> Floats:
    """(M 1{M divides h} - 1) / (M - 1)."""
    return np.where(lags % batches == 0, 1.0, -1 / (batches - 1))


def _reduced(angle: npt.ArrayLike) -> Floats:
    """An angle modulo 2 pi, in [-pi, pi]; small ones stay as they are."""
    return np.asarray(angle) - math.tau * np.rint(np.asarray(angle) / math.tau)


def _one_minus_sinc(angle: Floats) -> Floats:
    """1 - sin(x) / x without cancellation."""
    square = np.where(np.abs(angle) < 1, angle, 1.0) ** 2
    series = np.ones_like(square)
    for k in range(9, 1, -1):
        series = 1 - square / (2 * k * (2 * k + 1)) * series
    return np.where(np.abs(angle) < 1, square / 6 * series, 1 - np.sinc(angle / math.pi))
