"""A random walk of pre-activations, in which the share of patterns that change is known exactly.

A pre-activation a and its change b per unit of learning rate are independent Gaussians of mean 0; a step of rate lambda
makes it a + lambda b. With d = sd(b) / sd(a) the two have the correlation rho = (1 + lambda^2 d^2)^(-1/2), and a
Gaussian pair has different signs with probability arccos(rho) / pi. A ReLU flips with probability

    p = arctan(lambda d) / pi,

and a pattern of c independent channels changes unless none of them flips:

    P = 1 - (1 - p)^c,    T = -c log2(1 - arctan(lambda d) / pi).

Batch normalisation doesn't matter: it divides by a positive number. Consequences, which real networks show too:

- lambda -> 0: T = c d lambda / (pi ln 2), in proportion to the learning rate: the link CloglogLink with k = 1.
- lambda -> inf: T -> c. One channel (patterns of single bits) has T < 1 at any learning rate.
- c -> inf at fixed c d: P = 1 - e^(-c d lambda / pi) exactly. ln(lambda) then has a Gumbel law of standard deviation
  pi / sqrt(6) = 1.28. An ErfLink fitted to it by least squares on rates from 1e-4 to 1e2 has sigma = 1.17 and an error
  of 0.019 (root mean square, in P): the sigma of 1.0 to 1.5 and errors of 0.012 to 0.024 seen in networks are those of
  plain proportionality, not of a normal law of ln(lambda).

Derived for jostle.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.flip_rate_link import CloglogLink
from theory.noise_arguments import checked_count, checked_rate
from theory.pattern_temperature import LN2, checked_log_rates, checked_temperatures


@dataclass(frozen=True)
class GaussianFlips:
    """Patterns of independent Gaussian pre-activations that make a step of a random walk.

    Attributes:
        channels: c, ReLUs in a pattern.
        displacement: d, standard deviation of the change of a pre-activation over that of the pre-activation itself
            [1 / learning rate].

    Example:
        >>> flips = GaussianFlips(channels=2, displacement=1.0)
        >>> flips.bit_share(0.0).round(12), flips.share(0.0).round(12)  # arctan(1) = pi / 4
        (np.float64(0.25), np.float64(0.4375))
    """

    channels: int
    displacement: float

    def __post_init__(self) -> None:
        checked_count("channels", self.channels, 1)
        checked_rate("displacement", self.displacement)

    @property
    def small_steps(self) -> CloglogLink:
        """What T tends to for small learning rates: proportionality, T = 1 at the rate pi ln 2 / (c d)."""
        return CloglogLink(math.log(math.pi * LN2 / self.channels) - math.log(self.displacement))

    def bit_share(self, log_rate: npt.ArrayLike) -> Floats:
        """The share of single ReLUs that flip, p = arctan(lambda d) / pi.

        Args:
            log_rate: ln(learning rate), any shape; ``-inf`` for a rate of 0.

        Returns:
            In the same shape, at most 1 / 2.

        Raises:
            ValueError: for nan.
        """
        with np.errstate(over="ignore"):
            ratio = np.exp(checked_log_rates("log_rate", log_rate) + math.log(self.displacement))
        return np.arctan(ratio) / math.pi

    def temperature(self, log_rate: npt.ArrayLike) -> Floats:
        """T = -c log2(1 - p).

        Args:
            log_rate: ln(learning rate), any shape; ``-inf`` for a rate of 0.

        Returns:
            In the same shape, at most c [bits].

        Raises:
            ValueError: for nan.
        """
        return self.channels * np.abs(np.log1p(-self.bit_share(log_rate))) / LN2

    def share(self, log_rate: npt.ArrayLike) -> Floats:
        """P = 1 - (1 - p)^c, the share of patterns that change.

        Args:
            log_rate: ln(learning rate), any shape; ``-inf`` for a rate of 0.

        Returns:
            In the same shape.

        Raises:
            ValueError: for nan.
        """
        return np.abs(np.expm1(-LN2 * self.temperature(log_rate)))

    def log_rate(self, temperature: npt.ArrayLike) -> Floats:
        """The learning rate of a temperature: tan(pi (1 - 2^(-T / c))) / d.

        Args:
            temperature: T, 0 .. c, any shape [bits].

        Returns:
            ln(learning rate), in the same shape; ``-inf`` for T = 0, ``inf`` for T = c.

        Raises:
            ValueError: for a temperature below 0 or above c.
        """
        flipped, missing = self._flips(self._reachable(temperature))
        with np.errstate(divide="ignore"):
            near = np.log(np.tan(math.pi * np.minimum(flipped, 0.25)))
            far = -np.log(np.tan(math.pi * np.minimum(missing, 0.25)))
        return np.where(flipped < 0.25, near, far) - math.log(self.displacement)

    def slope(self, temperature: npt.ArrayLike) -> Floats:
        """The slope dT / d ln(learning rate) at a temperature: T for small ones, 0 at T = c.

        Args:
            temperature: T, 0 .. c, any shape [bits].

        Returns:
            In the same shape [bits per unit of ln(learning rate)].

        Raises:
            ValueError: for a temperature below 0 or above c.
        """
        t = self._reachable(temperature)
        # With p the share of flips, u / (1 + u^2) = sin(2 pi p) / 2 for u = tan(pi p).
        sine = np.sin(math.tau * np.minimum(*self._flips(t)))
        return self.channels / (math.tau * LN2) * sine * np.exp2(t / self.channels)

    def _flips(self, temperature: Floats) -> tuple[Floats, Floats]:
        """The share p of channels that flip, and 1 / 2 - p, both without cancellation."""
        flipped = np.abs(np.expm1(-LN2 * temperature / self.channels))
        return flipped, np.expm1(LN2 * (1 - temperature / self.channels)) / 2

    def _reachable(self, temperature: npt.ArrayLike) -> Floats:
        t = checked_temperatures("temperature", temperature)
        bad = t[t > self.channels]
        if bad.size:
            raise ValueError(
                f"temperature={bad.flat[0]} must be at most {self.channels}, the number of channels: independent flips "
                "never do more than fair coins"
            )
        return t
