"""The noise of batches without replacement whose order is the same in all epochs: it is periodic, and so are its sums.

Reference: [domingoenrich2022] spectra of shuffled batches. All sums over lags are derived for jostle.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.epoch_noise import WithoutReplacement, repetitions
from theory.gradient_noise_base import FilteredNoise, LagSums
from theory.heavy_ball import HeavyBall, power_sums
from theory.noise_arguments import finite_frequencies, whole_lags

STEEP = 0.75
"""Modes beyond this fraction of the stability bound get the noise of one order as a sum over its lines."""


@dataclass(frozen=True)
class ShuffledOnce(WithoutReplacement):
    """One random order for all epochs: periodic noise, averaged over orders.

    c_h = c_0 (M 1{M divides h} - 1) / (M - 1): lines of variance c_0 / (M - 1) at omega_n = 2 pi n / M, n = 1 .. M - 1.
    Variances of modes beyond three quarters of the stability bound are sums over the lines and cost M steps each.

    Attributes:
        batches_per_epoch: M >= 2.
        variance: c_0 [gradient^2].

    Example:
        >>> noise = ShuffledOnce(batches_per_epoch=5)
        >>> noise.autocovariance([0, 1, 2, 5]).tolist(), noise.sum_of_autocovariance
        ([1.0, -0.25, -0.25, 1.0], 0.0)
    """

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h, periodic with M.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        return self.variance * repetitions(whole_lags(lags), self.batches_per_epoch)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = 0 between the lines.

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            Zeros, in the shape of the frequencies.

        Raises:
            ValueError: for frequencies that are not finite numbers.
        """
        return np.zeros_like(finite_frequencies(frequency))

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

    def _filtered(self, modes: HeavyBall) -> FilteredNoise:
        steep = modes.contraction > STEEP * (modes.contraction + modes.distance_to_bound)
        if not steep.any():
            return super()._filtered(modes)
        curvature = np.asarray(modes.curvature)
        other = super()._filtered(HeavyBall(modes.learning_rate, np.where(steep, 0.0, curvature), modes.momentum))
        result = np.array([other.weight, other.restored, other.velocity])
        frequencies, variances = self.lines
        for index in np.argwhere(steep):
            mode = HeavyBall(modes.learning_rate, curvature[*index], modes.momentum)
            gains = mode.power_gain(frequencies) * variances
            weight, velocity = gains.sum(), gains @ (4 * np.sin(frequencies / 2) ** 2)
            result[:, *index] = weight, mode.contraction * weight, velocity
        return FilteredNoise(*result)

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = sum_j g_j c_{h+j}, periodic with M, from the lines by a Fourier transform of M points.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """
        frequencies, variances = self.lines
        axes = (-1, *(1,) * modes.contraction.ndim)
        response = np.conj(modes.transfer_function(frequencies.reshape(axes))) / -modes.learning_rate
        lines = np.concatenate([np.zeros((1, *modes.contraction.shape)), variances.reshape(axes) * response])
        period = np.fft.ifft(lines, axis=0).real * self.batches_per_epoch
        return period[np.arange(count) % self.batches_per_epoch]
