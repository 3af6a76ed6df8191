"""The noise of mini-batch gradients for every batch order, and other noises that are added to gradients.

All are stationary: averages over the phase within an epoch and over orders, for batch gradients at fixed weights. Those
without replacement come from theory.epoch_noise and theory.single_order_noise; sim.batch_order draws the batches. What
acts on weights instead (Anti-PGD, Langevin noise) is given as the gradient noise that would do the same.

    batch order                      class                   c_h / c_0
    with replacement                 ``WhiteNoise``          1{h=0}
    a new order every epoch          ``Reshuffled``          1{h=0} - 1{0<|h|<M} (M - |h|) / (M (M - 1))
    a new order every E epochs       ``ReshuffledEvery``     (1 - |h| / (E M))_+ (M 1{M divides h} - 1) / (M - 1)
    one order for all epochs         ``ShuffledOnce``        (M 1{M divides h} - 1) / (M - 1)
    samples enter and leave          ``Persistent``          r^|h|

Reference: [mignacco2022] persistent batches; [orvieto2022] Anti-PGD
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.epoch_noise import Reshuffled, ReshuffledEvery
from theory.finite_range_noise import FiniteRangeNoise, TabulatedNoise
from theory.gradient_noise_base import FilteredNoise, GradientNoise, LagSums, SumOfNoises
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import (
    checked_batch_size,
    checked_entry_probability,
    checked_rate,
    checked_scale,
    checked_variance,
    finite_frequencies,
    number,
    whole_lags,
)
from theory.single_order_noise import ShuffledOnce

__all__ = [
    "AntiCorrelatedIncrements",
    "GradientNoise",
    "Persistent",
    "Reshuffled",
    "ReshuffledEvery",
    "ShuffledOnce",
    "SumOfNoises",
    "TabulatedNoise",
    "WhiteNoise",
]


@dataclass(frozen=True)
class WhiteNoise(FiniteRangeNoise):
    """Uncorrelated noise: batches with replacement, or thermal noise.

    Attributes:
        variance: c_0 = S(omega) [gradient^2].

    Example:
        >>> from theory import static_temperatures
        >>> modes = HeavyBall(learning_rate=0.01, curvature=[0.1, 1.0], momentum=0.9)
        >>> noise = WhiteNoise.thermal(0.02, learning_rate=0.01, momentum=0.9)
        >>> static_temperatures(modes, noise).configurational.round(4).tolist()  # as hot as it was meant to be
        [0.02, 0.0201]
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", checked_variance("variance", self.variance))

    @classmethod
    def with_replacement(cls, example_variance: float, samples: int, batch_size: int) -> "WhiteNoise":
        """The noise of batches whose examples are drawn independently: c_0 = C_0 / S.

        Args:
            example_variance: C_0 = (1 / N) sum_n (gradient_n - mean)^2 along the direction [gradient^2].
            samples: N, the number of training samples.
            batch_size: S, samples in a batch.

        Returns:
            The noise.

        Raises:
            ValueError: for a negative variance, or unless 1 <= batch_size <= samples.
        """
        return cls(checked_variance("example_variance", example_variance) / checked_batch_size(samples, batch_size)[1])

    @classmethod
    def thermal(cls, temperature: float, learning_rate: float, momentum: float = 0.0) -> "WhiteNoise":
        """Langevin noise of temperature T: c_0 = 2 (1 - beta) T / eta.

        Without momentum it adds sqrt(2 eta T) xi to the weight. The fluctuation-dissipation theorem holds with T at all
        frequencies.

        Args:
            temperature: T >= 0 [loss].
            learning_rate: eta > 0.
            momentum: beta, 0 <= beta < 1.

        Returns:
            The noise.

        Raises:
            ValueError: for arguments out of range.
        """
        modes = HeavyBall(learning_rate, 0.0, momentum)
        return cls(2 * (1 - modes.momentum) * checked_variance("temperature", temperature) / modes.learning_rate)

    @property
    def reach(self) -> int:
        """No lag but zero."""
        return 0

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h = c_0 at h = 0, else 0.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        return np.where(whole_lags(lags) == 0, self.variance, 0.0)


@dataclass(frozen=True)
class AntiCorrelatedIncrements(FiniteRangeNoise):
    """The increments xi_{k+1} - xi_k of independent noise, as Anti-PGD adds them: S(omega) = 2 c_0 sin^2(omega / 2).

    Attributes:
        variance: c_0 = 2 Var(xi) in units of the gradient; c_1 = -c_0 / 2 [gradient^2].

    Example:
        >>> noise = AntiCorrelatedIncrements(variance=2.0)
        >>> noise.autocovariance([0, 1, 2]).tolist(), noise.sum_of_autocovariance  # no diffusion
        ([2.0, -1.0, 0.0], 0.0)
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", checked_variance("variance", self.variance))

    @classmethod
    def of_weights(cls, standard_deviation: float, learning_rate: float) -> "AntiCorrelatedIncrements":
        """Increments of noise that is added to the weights: c_0 = 2 s^2 / eta^2.

        Args:
            standard_deviation: s >= 0, of xi, not beyond 1e-40 and 1e40 [weight].
            learning_rate: eta > 0.

        Returns:
            The noise.

        Raises:
            ValueError: for arguments out of range.
        """
        scale = checked_scale("standard_deviation", standard_deviation)
        return cls(2 * (scale / checked_rate("learning_rate", learning_rate)) ** 2)

    @property
    def reach(self) -> int:
        """Neighbours only."""
        return 1

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = 0."""
        return 0.0

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_0, c_1 = -c_0 / 2, else 0.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        h = whole_lags(lags)
        return np.select([h == 0, h == 1], [self.variance, -self.variance / 2], 0.0)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = 2 c_0 sin^2(omega / 2).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.
        """
        return 2 * self.variance * np.sin(finite_frequencies(frequency) / 2) ** 2


@dataclass(frozen=True)
class Persistent(GradientNoise):
    """Noise that remembers: c_h = c_0 r^|h|, as of batches that samples enter and leave at random (persistent SGD).

    With A = (1 - r)(1 - beta r) + r eta lambda, which is (1 + r)(1 + beta r) - r (2 (1 + beta) - eta lambda), and
    kappa of theory.heavy_ball

        Var(theta) = eta^2 c_0 kappa(0) [(1 - r)(1 + beta r) + r (1 - beta) (2 - eta lambda / (1 + beta))] / A,
        Var(v) = 2 eta^2 c_0 (kappa(0) - kappa(1)) (1 - r)(1 + beta r) / A,

    where the bracket is also (1 + r)(1 - beta r) - r eta lambda (1 - beta) / (1 + beta): of each the form without
    negative terms is used. Derived for jostle.

    Attributes:
        correlation: r, -1 < r < 1; negative where samples leave faster than the batch is mixed.
        variance: c_0 [gradient^2].

    Example:
        >>> noise = Persistent(correlation=0.9)
        >>> noise.autocovariance([0, 1, 2]).round(2).tolist(), round(noise.sum_of_autocovariance, 9)  # diffuses 19-fold
        ([1.0, 0.9, 0.81], 19.0)
    """

    correlation: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", checked_variance("variance", self.variance))
        correlation = number("correlation", self.correlation)
        if not -1 < correlation < 1:
            raise ValueError(f"correlation={self.correlation} must satisfy -1 < correlation < 1")
        object.__setattr__(self, "correlation", correlation)

    @classmethod
    def two_state(
        cls, example_second_moment: float, samples: int, batch_size: int, entry_probability: float
    ) -> "Persistent":
        """The noise of persistent batches at fixed weights: c_0 = (1 - b) m / S and r = 1 - entry_probability / b.

        Each sample is in the batch (a fraction b = S / N of the time) or out, independently of the others; batch
        gradients are divided by the mean size S. With entry_probability = b each batch is drawn afresh.

        Args:
            example_second_moment: m = (1 / N) sum_n gradient_n^2 along the direction [gradient^2]. The mean counts, as
                the size of the batch fluctuates; at a minimum it is zero.
            samples: N, the number of training samples.
            batch_size: S, mean number of samples in a batch, S < N.
            entry_probability: of a sample out of the batch to enter it, per update (eta / tau in the literature); one
                in it leaves with probability entry_probability (1 - b) / b.

        Returns:
            The noise.

        Raises:
            ValueError: for arguments out of range, or a probability to leave above 1.
        """
        total, size, entering = checked_entry_probability(samples, batch_size, entry_probability)
        fraction = size / total
        moment = checked_variance("example_second_moment", example_second_moment)
        return cls(1 - entering / fraction, moment * (1 - fraction) / size)

    @property
    def sum_of_autocovariance(self) -> float:
        """S(0) = c_0 (1 + r) / (1 - r)."""
        return self.variance * (1 + self.correlation) / (1 - self.correlation)

    def autocovariance(self, lags: npt.ArrayLike) -> Floats:
        """c_h = c_0 r^|h|.

        Args:
            lags: h, whole numbers of updates of either sign, any shape.

        Returns:
            [gradient^2], in the shape of the lags.
        """
        return self.variance * self.correlation ** whole_lags(lags).astype(float)

    def spectrum(self, frequency: npt.ArrayLike) -> Floats:
        """S(omega) = c_0 (1 - r^2) / ((1 - r)^2 + 4 r sin^2(omega / 2)).

        Args:
            frequency: omega [radians per update], any shape.

        Returns:
            [gradient^2], in the shape of the frequencies.

        Raises:
            ValueError: for frequencies that are not finite numbers.
        """
        half, r = finite_frequencies(frequency) / 2, self.correlation
        # Without negative terms, as near r = -1 the spectrum is a narrow line at pi.
        distance = (1 - abs(r)) ** 2 + 4 * abs(r) * (np.sin(half) if r >= 0 else np.cos(half)) ** 2
        return self.variance * (1 - r) * (1 + r) / distance

    def lag_sums(self, modes: HeavyBall) -> LagSums:
        """Geometric series in r D.

        Args:
            modes: the modes that filter the noise.

        Returns:
            The polynomials; what is made of them loses digits as r -> 1, which ``filtered`` does not.
        """
        r = self.correlation
        tail = (self.variance * r) * (modes.one * (1 - r) + modes.difference * r).inverse()
        return LagSums(tail, tail * (1 / (1 - r)))

    def _filtered(self, modes: HeavyBall) -> FilteredNoise:
        r, beta, size = self.correlation, modes.momentum, abs(self.correlation)
        moving = (1 - r) * (1 + beta * r if r >= 0 else self._forgotten(beta))
        if r >= 0:
            bracket = moving + r * (1 - beta) * modes.distance_to_bound / (1 + beta)
        else:
            bracket = (1 + r) * (1 + beta * size) + size * modes.contraction * (1 - beta) / (1 + beta)
        scale = self.variance / self._resolvent(modes)
        return FilteredNoise(
            modes.level * bracket * scale, modes.scaled_level * bracket * scale, 2 * modes.drop * moving * scale
        )

    def _forgotten(self, beta: float) -> float:
        """1 - beta |r|."""
        return (1 - beta) + beta * (1 - abs(self.correlation))

    def _resolvent(self, modes: HeavyBall) -> Floats:
        """A = 1 / sum_j g_j r^j, without negative terms."""
        size = abs(self.correlation)
        restoring = modes.contraction if self.correlation >= 0 else modes.distance_to_bound
        return (1 - size) * self._forgotten(modes.momentum) + size * restoring

    def forcing(self, modes: HeavyBall, count: int) -> Floats:
        """phi_h = r^h c_0 sum_j g_j r^j.

        Args:
            modes: the modes with impulse response g_j.
            count: how many, >= 1.

        Returns:
            [gradient^2], shape (count, ...) with the shape of the curvature at the end.
        """
        return np.multiply.outer(self.autocovariance(np.arange(count)), 1 / self._resolvent(modes))
