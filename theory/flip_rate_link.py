"""How often activation patterns change at a learning rate: two links between P or T and ln(rate).

A step of the optimiser changes a share P of the activation patterns of a ReLU network. The activation-pattern
temperature is T = -log2(1 - P): the bits of surprise that a pattern stayed as it was. Against x = ln(learning rate),

    ErfLink        P = Phi((x - mu) / sigma)     the paper's Eq. (5), labelled Pr(unchanged) there: it is Pr(changed)
    CloglogLink    T = exp(k (x - ln rate_1))    P = 1 - 2^-(rate / rate_1)^k, a complementary log-log link

The second has the small steps right, which change patterns in proportion to their length (k = 1, derived in
theory.gaussian_flips); Phi falls faster than any power. Both are written x = location + scale * score(T), so that one
measurement of T at x gives a new location, and the next learning rate follows from a target C as

    x' = x + scale (score(C) - score(T)),    score(T) = Phi^-1(1 - 2^-T)  or  ln T.

Nothing is formed as 1 - P, so that small and large T keep their digits.

Reference: [actcoolr2021] for T, the first link and the update (its Eqs. (6) and (7) hold for -mu of Eq. (5)); the
second link derived for jostle
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.noise_arguments import number
from theory.pattern_temperature import LN2, checked_log_rates, checked_temperatures, temperature_of

HALF_LOG_TAU = 0.5 * math.log(math.tau)


class FlipCurve(Protocol):
    """What relates T to ln(learning rate): a link, or a model such as `theory.gaussian_flips.GaussianFlips`."""

    def temperature(self, log_rate: npt.ArrayLike) -> Floats:
        """T at ln(learning rate)."""
        ...

    def log_rate(self, temperature: npt.ArrayLike) -> Floats:
        """The ln(learning rate) of T."""
        ...

    def slope(self, temperature: npt.ArrayLike) -> Floats:
        """The slope dT / d ln(learning rate) at T."""
        ...


class Link(ABC):
    """x = location + scale * score(T), with x = ln(learning rate)."""

    @property
    @abstractmethod
    def location(self) -> float:
        """The ln(learning rate) at which T = 1, half of the patterns change, and the score is 0."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Units of ln(learning rate) for a unit of the score: sigma, or 1 / k. It is the controller's gain."""

    @abstractmethod
    def moved(self, location: float) -> Self:
        """The same link elsewhere.

        Args:
            location: ln(learning rate) at which T = 1.

        Returns:
            The link.

        Raises:
            ValueError: if it is not finite.
        """

    @abstractmethod
    def stretched(self, factor: float) -> Self:
        """The same link with another scale.

        Args:
            factor: by which the scale grows, > 0.

        Returns:
            The link.

        Raises:
            ValueError: if the factor is not finite and > 0.
        """

    @staticmethod
    @abstractmethod
    def score(temperature: npt.ArrayLike) -> Floats:
        """What is linear in ln(learning rate).

        Args:
            temperature: T >= 0, any shape [bits].

        Returns:
            In the same shape; ``-inf`` for T = 0, ``inf`` for T = inf.

        Raises:
            ValueError: for a temperature below 0.
        """

    @staticmethod
    @abstractmethod
    def log_unchanged(score: Floats) -> Floats:
        """Logarithm of 1 - P, of scores."""

    @staticmethod
    @abstractmethod
    def log_changed(score: Floats) -> Floats:
        """Logarithm of P, of scores."""

    @staticmethod
    @abstractmethod
    def log_density(score: Floats) -> Floats:
        """Logarithm of dP / dscore, of scores."""

    def temperature(self, log_rate: npt.ArrayLike) -> Floats:
        """T at a learning rate.

        Args:
            log_rate: x, any shape; ``-inf`` for a rate of 0.

        Returns:
            In the same shape [bits]; ``inf`` beyond all floats.

        Raises:
            ValueError: for nan.
        """
        return np.abs(self.log_unchanged(self._scores(log_rate))) / LN2

    def share(self, log_rate: npt.ArrayLike) -> Floats:
        """P at a learning rate.

        Args:
            log_rate: x, any shape; ``-inf`` for a rate of 0.

        Returns:
            In the same shape.

        Raises:
            ValueError: for nan.
        """
        return np.exp(self.log_changed(self._scores(log_rate)))

    def log_rate(self, temperature: npt.ArrayLike) -> Floats:
        """The learning rate of a temperature: the inverse of ``temperature``.

        Args:
            temperature: T, any shape [bits].

        Returns:
            x, in the same shape; ``-inf`` for T = 0, ``inf`` for T = inf.

        Raises:
            ValueError: for a temperature below 0.
        """
        return self.location + self.scale * self.score(temperature)

    def inverse(self, share: npt.ArrayLike) -> Floats:
        """The learning rate of a share: the inverse of ``share``.

        Args:
            share: P, any shape.

        Returns:
            x, in the same shape; ``-inf`` for P = 0, ``inf`` for P = 1.

        Raises:
            ValueError: for a share outside 0 .. 1.
        """
        return self.log_rate(temperature_of(share))

    def slope(self, temperature: npt.ArrayLike) -> Floats:
        """The slope dT / dx at a temperature.

        Args:
            temperature: T, finite, any shape [bits].

        Returns:
            In the same shape [bits per unit of ln(learning rate)].

        Raises:
            ValueError: for a temperature that is infinite or below 0.
        """
        t = _finite_temperatures(temperature)
        return np.exp(self.log_density(self.score(t)) + LN2 * t) / (LN2 * self.scale)

    def located(self, log_rate: npt.ArrayLike, measured: npt.ArrayLike) -> Floats:
        """Where the link is if a temperature was measured at a learning rate: x - scale * score(T).

        Args:
            log_rate: x at the measurement, finite, any shape.
            measured: T, 0 < T < inf, any shape that goes with it [bits]: regularise counts by
                `theory.pattern_temperature.temperature_of_counts`.

        Returns:
            The location, in the common shape.

        Raises:
            ValueError: for arguments out of range.
        """
        x, t = checked_log_rates("log_rate", log_rate), checked_temperatures("measured", measured)
        if not np.isfinite(x).all():
            raise ValueError(
                f"log_rate={x[~np.isfinite(x)].flat[0]} must be finite: nothing is measured without a step"
            )
        bad = t[~((t > 0) & np.isfinite(t))]
        if bad.size:
            raise ValueError(
                f"measured={bad.flat[0]} must be > 0 and finite: count half a pattern (temperature_of_counts)"
            )
        return x - self.scale * self.score(t)

    def corrected(self, log_rate: npt.ArrayLike, measured: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
        """The learning rate expected to give a target: x + scale (score(C) - score(T)).

        It doesn't depend on the link's own location, which the measurement replaces.

        Args:
            log_rate: x at the measurement, finite, any shape.
            measured: T there, 0 < T < inf, any shape that goes with it [bits].
            target: C, any shape that goes with them [bits].

        Returns:
            The new x, in the common shape; ``-inf`` for C = 0.

        Raises:
            ValueError: for arguments out of range.

        Example:
            >>> round(float(np.exp(ErfLink(-3.0, 1.2).corrected(math.log(0.02), 0.287, 1.0))), 2)
            0.05
        """
        return self.located(log_rate, measured) + self.scale * self.score(target)

    def _scores(self, log_rate: npt.ArrayLike) -> Floats:
        with np.errstate(over="ignore"):
            return (checked_log_rates("log_rate", log_rate) - self.location) / self.scale


@dataclass(frozen=True)
class ErfLink(Link):
    """P = Phi((x - mu) / sigma), "probit".

    Attributes:
        mu: ln(learning rate) at which half of the patterns change.
        sigma: width in ln(learning rate), > 0; 1.0 to 1.5 was seen in networks, and 1.17 is the least-squares fit to
            flips in proportion to the step (the second link with k = 1) on rates from 1e-4 to 1e2.

    Example:
        >>> link = ErfLink(mu=-3.0, sigma=1.2)
        >>> link.inverse(link.share([-4.0, -3.0])).round(12).tolist()
        [-4.0, -3.0]

    Reference: [actcoolr2021] Eq. (5)
    """

    mu: float
    sigma: float

    def __post_init__(self) -> None:
        _check_location("mu", self.mu)
        _check_scale("sigma", self.sigma)

    @property
    def location(self) -> float:  # noqa: D102 -- of the base class, as all below
        return float(self.mu)

    @property
    def scale(self) -> float:  # noqa: D102
        return float(self.sigma)

    def moved(self, location: float) -> "ErfLink":  # noqa: D102
        return replace(self, mu=location)

    def stretched(self, factor: float) -> "ErfLink":  # noqa: D102
        return replace(self, sigma=_check_scale("factor", factor) * self.sigma)

    @staticmethod
    def score(temperature: npt.ArrayLike) -> Floats:  # noqa: D102
        from scipy.special import ndtri_exp

        # The quantile of 2^-T from the other side: exact for T near 0 as well as for large T.
        return np.asarray(-ndtri_exp(-LN2 * checked_temperatures("temperature", temperature)))

    @staticmethod
    def log_unchanged(score: Floats) -> Floats:  # noqa: D102
        from scipy.special import log_ndtr

        return np.asarray(log_ndtr(-score))

    @staticmethod
    def log_changed(score: Floats) -> Floats:  # noqa: D102
        from scipy.special import log_ndtr

        return np.asarray(log_ndtr(score))

    @staticmethod
    def log_density(score: Floats) -> Floats:  # noqa: D102
        return -0.5 * np.square(score) - HALF_LOG_TAU


@dataclass(frozen=True)
class CloglogLink(Link):
    """T = (rate / rate_1)^k, a complementary log-log link: ln(-ln(1 - P)) is linear in ln(rate).

    Attributes:
        log_reference_rate: ln(rate_1), at which T = 1.
        exponent: k > 0; 1 if patterns change in proportion to the length of the step.

    Example:
        >>> CloglogLink(math.log(0.1)).temperature(np.log([0.05, 0.1, 0.3])).round(12).tolist()
        [0.5, 1.0, 3.0]
    """

    log_reference_rate: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        _check_location("log_reference_rate", self.log_reference_rate)
        _check_scale("exponent", self.exponent)

    @property
    def location(self) -> float:  # noqa: D102 -- of the base class, as all below
        return float(self.log_reference_rate)

    @property
    def scale(self) -> float:  # noqa: D102
        return 1.0 / self.exponent

    def moved(self, location: float) -> "CloglogLink":  # noqa: D102
        return replace(self, log_reference_rate=location)

    def stretched(self, factor: float) -> "CloglogLink":  # noqa: D102
        return replace(self, exponent=self.exponent / _check_scale("factor", factor))

    def slope(self, temperature: npt.ArrayLike) -> Floats:  # noqa: D102
        return self.exponent * _finite_temperatures(temperature)

    @staticmethod
    def score(temperature: npt.ArrayLike) -> Floats:  # noqa: D102
        with np.errstate(divide="ignore"):
            return np.log(checked_temperatures("temperature", temperature))

    @staticmethod
    def log_unchanged(score: Floats) -> Floats:  # noqa: D102
        with np.errstate(over="ignore"):
            return -LN2 * np.exp(score)

    @staticmethod
    def log_changed(score: Floats) -> Floats:  # noqa: D102
        with np.errstate(over="ignore", divide="ignore"):
            changed = -np.expm1(-LN2 * np.exp(score))
            # Where that underflows, P is its first term.
            return np.where(score < -700, score + math.log(LN2), np.log(changed))

    @staticmethod
    def log_density(score: Floats) -> Floats:  # noqa: D102
        with np.errstate(over="ignore"):
            return score + math.log(LN2) - LN2 * np.exp(score)


LINKS: dict[str, type[Link]] = {"erf": ErfLink, "cloglog": CloglogLink}
"""By the names used in options."""


def _finite_temperatures(temperature: npt.ArrayLike) -> Floats:
    t = checked_temperatures("temperature", temperature)
    if np.isinf(t).any():
        raise ValueError("temperature=inf must be finite: a slope is asked for")
    return t


def _check_location(name: str, value: float) -> None:
    if not math.isfinite(number(name, value)):
        raise ValueError(f"{name}={value} must be finite")


def _check_scale(name: str, value: float) -> float:
    scale = number(name, value)
    if not 1e-6 <= scale <= 1e6:
        raise ValueError(f"{name}={value} must lie between 1e-06 and 1e+06")
    return scale
