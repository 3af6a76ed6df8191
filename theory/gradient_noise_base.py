"""What every stationary gradient noise can tell, and sums of noises.

dg_k is the noise of the k-th gradient along one direction, c_h = Cov(dg_k, dg_{k+h}) its autocovariance averaged over
the phase within an epoch (exact for variances averaged likewise), S(omega) = sum_h c_h e^{-i omega h} its spectrum. The
noises themselves are in theory.gradient_noise; those of finite range and tables in theory.finite_range_noise.
"""

import abc
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.heavy_ball import HeavyBall, LagPolynomial
from theory.noise_arguments import checked_variance


@dataclass(frozen=True, eq=False)
class LagSums:
    """What a noise contributes to the variances of a filtered process, as polynomials in the delay D.

    Attributes:
        tail: sum_{h>=1} c_h D^{h-1}.
        contrast: sum_{h>=1} c_h (1 - D^h) / (1 - D).
    """

    tail: LagPolynomial
    contrast: LagPolynomial


@dataclass(frozen=True, eq=False)
class FilteredNoise:
    """Variances of modes that filter a noise, for a learning rate of 1, in the shape of the curvature.

    Attributes:
        weight: Var(theta) / eta^2; ``inf`` where a flat mode diffuses, or beyond the largest float [gradient^2].
        restored: eta lambda times that, finite for all modes [gradient^2].
        velocity: Var(v) / eta^2 [gradient^2].
    """

    weight: Floats
    restored: Floats
    velocity: Floats

    def __add__(self, other: "FilteredNoise") -> "FilteredNoise":
        return FilteredNoise(self.weight + other.weight, self.restored + other.restored, self.velocity + other.velocity)


class GradientNoise(abc.ABC):
    """Stationary gradient noise; ``a + b`` are independent sources, ``2.0 * a`` is a of twice the variance.

    Attributes:
        variance: c_0 [gradient^2].

    Example:
        >>> from theory import Reshuffled, WhiteNoise
        >>> noise = WhiteNoise(0.5) + 2.0 * Reshuffled(50)
        >>> noise.variance, noise.autocovariance([0, 1]).tolist(), noise.sum_of_autocovariance
        (2.5, [2.5, -0.04], 0.5)
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
            ValueError: for lags that are not of an integer type, or beyond 10^15.
        """

    @abc.abstractmethod
    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega), without the lines of a periodic part (see ``lines``).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies; (1 / 2 pi) int_-pi^pi S plus the lines is the variance.

        Raises:
            ValueError: for frequencies that are not finite numbers.
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
    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = sum_j g_j c_{h+j} for h = 0 .. count - 1: covariance of the noise with the response h updates before.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """

    def filtered(self, modes: HeavyBall) -> FilteredNoise:
        """Variances of the modes in the stationary state.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The variances for a learning rate of 1, >= 0.
        """
        if self.variance == 0:
            nothing = np.zeros(modes.contraction.shape)
            return FilteredNoise(nothing, nothing, nothing)
        with np.errstate(over="ignore"):  # nearly flat modes that diffuse
            return self._filtered(modes)

    def _filtered(self, modes: HeavyBall) -> FilteredNoise:
        """Of noise that is not zero: Var(theta) = S(0) kappa(0) - 2 sum_{h>=1} c_h (kappa(0) - kappa(h)) and so on."""
        sums, total = self.lag_sums(modes), self.sum_of_autocovariance
        spared = -2 * modes.first_difference(sums.contrast)
        diffusing = total * modes.level if total > 0 else 0.0
        velocity = 2 * self.variance * modes.drop - 2 * modes.second_difference(sums.tail)
        restored = total * modes.scaled_level + modes.contraction * spared
        # Near the stability bound all digits may be lost, and with them the sign.
        weight, restored, velocity = (np.maximum(x, 0.0) for x in (diffusing + spared, restored, velocity))
        return FilteredNoise(np.asarray(weight), np.asarray(restored), np.asarray(velocity))

    def scaled(self, factor: float) -> "GradientNoise":
        """The same noise with its variance multiplied.

        Args:
            factor: finite and >= 0.

        Returns:
            The noise.

        Raises:
            ValueError: for a factor, or a variance then, out of range.
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
        if not isinstance(other, GradientNoise):
            return NotImplemented
        return SumOfNoises((self, other))

    def __mul__(self, factor: float) -> "GradientNoise":
        return self.scaled(factor)

    __rmul__ = __mul__


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
        total = math.fsum(source.variance for source in self.sources)
        object.__setattr__(self, "variance", checked_variance("variance", total))

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

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h, the sum over the sources.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """
        return np.sum([source.forcing(modes, count) for source in self.sources], axis=0)

    def _filtered(self, modes: HeavyBall) -> FilteredNoise:
        first, *others = (source.filtered(modes) for source in self.sources)
        return sum(others, first)

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
