"""Gradient noise whose autocovariance vanishes beyond a number of lags, and tables of such autocovariances."""

import abc
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.gradient_noise_base import GradientNoise, LagSums
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import checked_variance, finite_frequencies, real_numbers, reduced_angle, whole_lags

SPECTRUM_TOLERANCE = 1e-9
"""A table's spectrum may be negative by this fraction of c_0, as tables are rounded."""


class FiniteRangeNoise(GradientNoise):
    """Noise whose autocovariance vanishes beyond a number of lags."""

    @property
    @abc.abstractmethod
    def reach(self) -> int:
        """The largest lag h with c_h != 0."""

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = c_0 + 2 sum_{h>=1} c_h [gradient^2]; zero if it is no more than the rounding of the c_h."""
        values = self.autocovariance(np.arange(self.reach + 1))
        total = float(values[0] + 2 * math.fsum(values[1:]))
        rounding = len(values) * np.finfo(float).eps * float(np.abs(values).sum())
        return total if total > rounding else 0.0

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = c_0 + 2 sum_{h>=1} c_h cos(omega h).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies, >= 0.

        Raises:
            ValueError: for frequencies that are not finite numbers.
        """
        omega = reduced_angle(finite_frequencies(frequency))
        total = np.full(omega.shape, self.variance)
        for lag, value in enumerate(self.autocovariance(np.arange(self.reach + 1))[1:], 1):
            total = total + 2 * value * np.cos(lag * omega)
        return np.maximum(total, 0.0)

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

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = sum_j g_j c_{h+j} for h = 0 .. count - 1, from the largest lag backwards.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end; zeros beyond the reach.
        """
        beta, values = modes.momentum, self.autocovariance(np.arange(self.reach + 1))
        result = np.zeros((count, *modes.contraction.shape))
        phi = later = np.zeros(modes.contraction.shape)
        for h in range(self.reach, -1, -1):
            phi, later = values[h] + (1 + beta - modes.contraction) * phi - beta * later, phi
            if h < count:
                result[h] = phi
        return result


@dataclass(frozen=True, eq=False)
class TabulatedNoise(FiniteRangeNoise):
    """Noise given by its autocovariance, such as a measured one. Costs grow with the length of the table.

    Only tables with a spectrum S(omega) >= 0 belong to a noise. One that is cut off often has none: multiplied by
    1 - h / (K + 1) it has.

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
        values = real_numbers("values", self.values)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(f"values of shape {values.shape} must be finite numbers c_0, c_1, ... in one dimension")
        if (np.abs(values) > checked_variance("values[0]", values[0])).any():
            raise ValueError(
                f"values has an entry {values[np.abs(values).argmax()]}; none may exceed c_0 = {values[0]}"
            )
        # At 0 and at pi, and eight times as densely as is needed to tell the c_h apart.
        grid = 16 * len(values)
        spectrum = 2 * np.fft.rfft(values, grid).real - values[0]
        lowest = int(spectrum.argmin())
        if spectrum[lowest] < -SPECTRUM_TOLERANCE * values[0]:
            raise ValueError(
                f"values has the spectrum S(omega) = {spectrum[lowest]:.3g} at omega = {math.tau * lowest / grid:.3g}; "
                "it must be >= 0, or no noise is such: multiply c_h by 1 - h / (K + 1) if the table was cut off"
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
            ValueError: for a factor, or a variance then, out of range.
        """
        return TabulatedNoise(checked_variance("factor", factor) * np.asarray(self.values))
