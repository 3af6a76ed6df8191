"""Choosing learning rates so that the activation-pattern temperature follows a curve: the loop and its stability.

At measurement n the rate is e^(x_n) and T_n is measured; the rate of the next one aims at its target C_(n+1) through
the controller's link,

    x_(n+1) = x_n + scale (score(C_(n+1)) - score(T_n)),

an integral controller in the logarithm of the rate with gain ``scale``. Let x*_n be the rate that would meet the
target, and e_n = x_n - x*_n. If T really rises by S = dT / dx at the target where the link has S_link, then

    e_(n+1) = (1 - r) e_n + (r - 1) dx*_C - dmu - w_n,    r = S / S_link

with dx*_C the change of x* that the falling target asks for and dmu its change by the drift of the network, both in one
interval, and w_n the error of the measurement, as a change of x. For two links of one kind r is sigma over the true
sigma and this is exact for errors of any size; else it holds near the target. So

    r = 1            one correction suffices
    1 < r < 2        overshoots, and comes back
    r > 2            unstable; a limit on the step makes it an oscillation
    constant drift   leaves the error ((r - 1) dx*_C - dmu) / r
    noise            of variance v a measurement leaves v / (r (2 - r))

An ErfLink in a network whose T is proportional to the rate (`CloglogLink`, k = 1) has an r that depends on T. With
sigma = 1.2 it is 0.53 at T = 0.05, 1 at T = 0.87 and 1.55 at the paper's start T = 3.17; it reaches 2 at T = 6.09. A
CloglogLink has r = 1 there at all T.

Derived for jostle; the update itself is [actcoolr2021] Eqs. (6) and (7).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.flip_rate_link import CloglogLink, ErfLink, FlipCurve
from theory.noise_arguments import number
from theory.pattern_temperature import LN2, checked_log_rates, checked_temperatures

# ---- The controller --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoolingController:
    """Turns a measured temperature and a target into the next learning rate, within limits.

    Attributes:
        link: whose scale is the gain; its location does not matter.
        lowest_rate: > 0; rates never fall below it, not even for a target of 0.
        highest_rate: the cap, above the lowest; ``inf`` for none.
        largest_change: of ln(rate) from one measurement to the next, > 0; ``inf`` for no limit. It yields to the other
            two limits.

    Example:
        >>> controller = CoolingController(ErfLink(0.0, 1.2), highest_rate=0.3)
        >>> location = controller.link.located(np.log(0.1), 0.287)
        >>> np.exp(controller.next_log_rate(np.log(0.1), location, 3.17)).round(6)
        np.float64(0.3)
    """

    link: ErfLink | CloglogLink
    lowest_rate: float = 1e-8
    highest_rate: float = math.inf
    largest_change: float = math.inf

    def __post_init__(self) -> None:
        lowest, highest = number("lowest_rate", self.lowest_rate), number("highest_rate", self.highest_rate)
        if not 0 < lowest < math.inf:
            raise ValueError(f"lowest_rate={self.lowest_rate} must be finite and > 0")
        if not highest > lowest:
            raise ValueError(f"highest_rate={self.highest_rate} must be above the lowest rate, {self.lowest_rate}")
        if not number("largest_change", self.largest_change) > 0:
            raise ValueError(
                f"largest_change={self.largest_change} must be > 0, in units of ln(rate); inf for no limit"
            )

    def next_log_rate(self, log_rate: npt.ArrayLike, location: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
        """The next ln(rate) for a target, with the link where the last good measurement has put it.

        Args:
            log_rate: the present one, finite, any shape.
            location: ``link.located(log_rate, measured)``, or that of an earlier measurement if the target is below
                what can be measured (`theory.pattern_temperature.coldest_temperature`), any shape.
            target: C >= 0, any shape [bits].

        Returns:
            In the common shape.

        Raises:
            ValueError: for arguments out of range.
        """
        x, m = checked_log_rates("log_rate", log_rate), checked_log_rates("location", location)
        if not (np.isfinite(x).all() and np.isfinite(m).all()):
            raise ValueError("log_rate and location must be finite")
        wanted = m + self.link.scale * self.link.score(target)
        limited = np.clip(wanted, x - self.largest_change, x + self.largest_change)
        return np.clip(limited, math.log(self.lowest_rate), self._cap)

    def is_capped(self, log_rate: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether rates are at the cap: the temperature is not under control there.

        Args:
            log_rate: as ``next_log_rate`` returned it, any shape.

        Returns:
            In the same shape.
        """
        return checked_log_rates("log_rate", log_rate) >= self._cap

    @property
    def _cap(self) -> float:
        return math.log(self.highest_rate) if self.highest_rate < math.inf else math.inf


# ---- The loop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoolingLoop:
    """The error e of ln(rate) as a recursion, e' = (1 - r) e + ...

    Attributes:
        gain: r > 0, by `loop_gain`.

    Example:
        >>> loop = CoolingLoop(1.55)
        >>> loop.is_stable, loop.overshoots, round(loop.multiplier, 9)
        (True, True, -0.55)
    """

    gain: float

    def __post_init__(self) -> None:
        if not 0 < (gain := number("gain", self.gain)) < math.inf:
            raise ValueError(f"gain={self.gain} must be finite and > 0")
        object.__setattr__(self, "gain", gain)

    @property
    def multiplier(self) -> float:
        """1 - r, by which an error is multiplied from one measurement to the next."""
        return 1.0 - self.gain

    @property
    def is_stable(self) -> bool:
        """Whether errors die out: r < 2."""
        return self.gain < 2

    @property
    def overshoots(self) -> bool:
        """Whether errors change sign: r > 1."""
        return self.gain > 1

    def error_after(self, error: float, measurements: npt.ArrayLike) -> Floats:
        """An error of ln(rate) later, without drift and noise.

        Args:
            error: at first.
            measurements: how many later, whole numbers >= 0, any shape.

        Returns:
            In the shape of the measurements.

        Raises:
            ValueError: for arguments out of range.
        """
        n = np.array([float(whole_number("measurements", value, 0)) for value in np.ravel(measurements)])
        if not math.isfinite(number("error", error)):
            raise ValueError(f"error={error} must be finite")
        with np.errstate(over="ignore"):
            factors = np.float_power(self.multiplier, n).reshape(np.shape(measurements))
            return error * factors if error else np.zeros(factors.shape)

    def measurements_until(self, part: float) -> float:
        """How many measurements until only a part of an error is left, ln(part) / ln|1 - r|, not rounded.

        Args:
            part: 0 < part < 1.

        Returns:
            0 for r = 1 but at least one measurement is always needed; ``inf`` for r >= 2.

        Raises:
            ValueError: for a part out of range.
        """
        if not 0 < number("part", part) < 1:
            raise ValueError(f"part={part} must lie strictly between 0 and 1")
        if not self.is_stable:
            return math.inf
        if not self.multiplier:
            return 0.0
        # The logarithm of abs(multiplier), with the digits of a small gain.
        return math.log(part) / math.log1p(-self.gain if self.gain < 1 else self.gain - 2)

    def error_of_drift(self, drift: float, target_drift: float = 0.0) -> float:
        """The error of ln(rate) that constant drifts leave: ((r - 1) target_drift - drift) / r.

        Args:
            drift: change of the link's true location in an interval.
            target_drift: change of ln(rate) in an interval that the target asks for, < 0 in cooling.

        Returns:
            e; its sign is that of a rate too high.

        Raises:
            ValueError: if the loop is unstable or a drift is not finite.
        """
        self._check_stable()
        if not (math.isfinite(number("drift", drift)) and math.isfinite(number("target_drift", target_drift))):
            raise ValueError(f"drift={drift} and target_drift={target_drift} must be finite")
        return ((self.gain - 1) * target_drift - drift) / self.gain

    def variance_of_noise(self, variance: float) -> float:
        """The variance of e that noise leaves: variance / (r (2 - r)).

        Args:
            variance: of what is added to ln(rate) in an interval, >= 0: the square of `measurement_deviation`, and that
                of a random drift of the network.

        Returns:
            Var(e); ``inf`` beyond the largest float.

        Raises:
            ValueError: if the loop is unstable or the variance out of range.
        """
        self._check_stable()
        if not 0 <= (checked := number("variance", variance)) < math.inf:
            raise ValueError(f"variance={variance} must be finite and >= 0")
        return checked / (self.gain * (2 - self.gain))

    def oscillation_bound(self, largest_change: float) -> float:
        """The largest error that an unstable loop keeps if ln(rate) may change by so much only: (1 - 1 / r) of it.

        Errors first fall by the limit at each measurement; once inside they never leave again, and end in an
        oscillation of period two that swings by exactly the limit. For links of one kind.

        Args:
            largest_change: of ln(rate) from one measurement to the next, > 0.

        Returns:
            The bound of abs(e), without drift and noise.

        Raises:
            ValueError: if the loop is stable, where errors vanish, or the limit is not finite and > 0.
        """
        if self.gain <= 2:
            raise ValueError(f"gain={self.gain} must be above 2: other loops do not oscillate for ever")
        if not 0 < number("largest_change", largest_change) < math.inf:
            raise ValueError(f"largest_change={largest_change} must be finite and > 0")
        return (1 - 1 / self.gain) * largest_change

    def _check_stable(self) -> None:
        if not self.is_stable:
            raise ValueError(f"gain={self.gain} must be below 2: the loop is unstable and has no steady state")


def loop_gain(link: ErfLink | CloglogLink, truth: FlipCurve, temperature: npt.ArrayLike) -> Floats:
    """r, the loop's gain: the true dT / d ln(rate) over the link's, at a temperature.

    Args:
        link: of the controller.
        truth: what relates T to ln(rate) really.
        temperature: the target, finite and > 0, any shape [bits].

    Returns:
        In the same shape.

    Raises:
        ValueError: for a temperature out of range.

    Example:
        >>> loop_gain(ErfLink(0.0, 1.2), CloglogLink(0.0), [0.05, 1.0, 3.17]).round(3).tolist()
        [0.532, 1.043, 1.547]
        >>> float(loop_gain(ErfLink(0.0, 3.0), ErfLink(-2.0, 1.2), 2.0).round(12))
        2.5
    """
    t = checked_temperatures("temperature", temperature)
    if not ((t > 0) & np.isfinite(t)).all():
        raise ValueError(f"temperature={temperature} must be finite and > 0: a loop needs a slope")
    return truth.slope(t) / link.slope(t)


def critical_stretch(link: ErfLink | CloglogLink, truth: FlipCurve, temperature: npt.ArrayLike) -> Floats:
    """The factor on the link's scale at which the loop becomes unstable: 2 / r.

    Args:
        link: of the controller.
        truth: what relates T to ln(rate) really.
        temperature: the target, finite and > 0, any shape [bits].

    Returns:
        In the same shape; ``inf`` where the truth is flat.

    Raises:
        ValueError: for a temperature out of range.

    Example:
        >>> float(critical_stretch(ErfLink(0.0, 1.2), ErfLink(0.0, 1.2), 3.17))
        2.0
    """
    with np.errstate(divide="ignore"):
        return 2 / loop_gain(link, truth, temperature)


def measurement_deviation(link: ErfLink | CloglogLink, temperature: npt.ArrayLike, patterns: int) -> Floats:
    """Standard deviation of a correction of ln(rate) by the finite number of patterns, if they change independently.

    T itself has sqrt((2^T - 1) / N) / ln 2; over the slope of the link.

    Args:
        link: of the controller.
        temperature: T measured, finite and > 0, any shape [bits].
        patterns: N >= 1.

    Returns:
        In the same shape; to first order in 1 / sqrt(N).

    Raises:
        ValueError: for arguments out of range.
    """
    t = checked_temperatures("temperature", temperature)
    if not ((t > 0) & np.isfinite(t)).all():
        raise ValueError(f"temperature={temperature} must be finite and > 0")
    count = whole_number("patterns", patterns, 1)
    with np.errstate(over="ignore"):
        return np.sqrt(np.expm1(LN2 * t) / count) / (LN2 * link.slope(t))
