"""One attempt of a restarted process: whichever comes first, the end at T or the restart at R.

With S_R(t) = Pr(R > t), everything about restarts is made of three transforms,

    duration  A(s) = int_0^inf e^{-st} Psi(t) S_R(t) dt
    failure   B(s) = E[e^{-sR}; R < T]
    success   C(s) = E[e^{-sT}; T <= R],           A s + B + C = 1,

and the derivatives -A', -B'. A restart simultaneous with success counts as success. All five are integrals of positive
functions, here in the form that suits the timer: closed for exponential and sharp ones, sums over the atoms of measured
laws, quadrature otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory import positive_quadrature as quadrature
from theory.absorbing import Floats
from theory.law_arguments import Complexes, right_half_plane
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic, EmpiricalLaw, Mixture
from theory.waiting_times import Exponential

LOST = 1e-9
"""Most that A s + B + C may differ from one where all three come from quadrature."""


@dataclass(frozen=True)
class Attempt:
    """The three transforms at a real s >= 0.

    Attributes:
        duration: A; at s = 0 it is E[min(T, R)] [time], possibly ``inf``.
        duration_slope: -A' = int t e^{-st} Psi S_R dt; at s = 0, E[min(T, R)^2] / 2 [time^2].
        failure: B; at s = 0, Pr(T > R).
        failure_slope: -B' = E[R e^{-sR}; R < T] [time].
        success: C; at s = 0, Pr(T <= R).
    """

    duration: float
    duration_slope: float
    failure: float
    failure_slope: float
    success: float

    def __post_init__(self) -> None:
        # A numpy scalar, which a law's parameter may be, warns where a float quietly becomes inf.
        for name, value in vars(self).items():
            object.__setattr__(self, name, float(value))


def attempt(law: PassageLaw, timer: PassageLaw, rate: float = 0.0) -> Attempt:
    """The three transforms of a law under a timer.

    Args:
        law: of T.
        timer: law of R.
        rate: s >= 0 [1 / time].

    Returns:
        The transforms and their derivatives.

    Raises:
        ValueError: if a quadrature does not converge, or a timer without known density has jumps.
    """
    if isinstance(timer, Exponential):
        total = rate + timer.rate
        duration, slope = law.survival_integral(0, total), law.survival_integral(1, total)
        return Attempt(duration, slope, timer.rate * duration, timer.rate * slope, law.laplace(total))
    if (times := _atoms(timer)) is not None:
        return _average([_until(law, time, rate) for time in times.tolist()], [1 / len(times)] * len(times))
    if isinstance(timer, Mixture):
        return _average([attempt(law, part, rate) for part in timer.laws], timer.weights)
    if (times := _atoms(law)) is not None:
        return _average([_ending_at(timer, time, rate) for time in times.tolist()], [1 / len(times)] * len(times))
    if isinstance(law, Mixture):
        return _average([attempt(part, timer, rate) for part in law.laws], law.weights)
    return _by_quadrature(law, timer, rate)


def least_success(law: PassageLaw) -> float:
    """Pr(T <= P) that is known at all: 0, or a thousand times the error of an inverted survival.

    Args:
        law: of T.

    Returns:
        A probability; intervals with less are refused.
    """
    return 1e3 * law.survival_error


def attempt_transforms(law: PassageLaw, timer: PassageLaw, rates: npt.ArrayLike) -> tuple[Complexes, Complexes]:
    """A(s) and B(s) for complex s, of laws without jumps.

    Args:
        law: of T.
        timer: law of R.
        rates: s with Re s > 0, any shape [1 / time].

    Returns:
        (A, B), each of the shape of ``rates``.

    Raises:
        ValueError: unless Re s > 0, or if a quadrature does not converge.
    """
    s = right_half_plane(rates)
    if isinstance(timer, Exponential):
        duration = np.asarray(law.transform(s + timer.rate))
        return duration, timer.rate * duration
    scale = min(law.time_scale, timer.time_scale)
    failure = np.empty(s.shape, dtype=complex)
    for decay in np.unique(s.real):
        chosen = s.real == decay
        turning = float(np.abs(s.imag[chosen]).max())

        def fails(time: Floats) -> Floats:
            return timer.density(time) * law.survival(time) * scale

        with np.errstate(all="ignore"):
            nodes, weights = quadrature.oscillating_nodes(fails, float(decay), turning, scale)
            values = weights * fails(nodes) / scale
        known = np.isfinite(values) & (values != 0)  # at the very ends a density may be infinite, and counts nothing
        nodes, values = nodes[known], values[known]
        failure[chosen] = [values @ np.exp(-value * nodes) for value in s[chosen]]
    return np.asarray(_Earlier(law, timer).transform(s)), failure


@dataclass(frozen=True)
class Wait:
    """The time W lost by a restart, at a real s >= 0.

    Attributes:
        duration: int e^{-st} Pr(W > t) dt; at s = 0 it is E[W] [time].
        duration_slope: int t e^{-st} Pr(W > t) dt; at s = 0, E[W^2] / 2 [time^2].
        discount: E[e^{-sW}].
        discount_slope: E[W e^{-sW}] [time].
    """

    duration: float
    duration_slope: float
    discount: float
    discount_slope: float

    @classmethod
    def of(cls, overhead: float | PassageLaw, rate: float) -> "Wait":
        """The transforms of a constant or random overhead.

        Args:
            overhead: a number >= 0, or a law [time].
            rate: s >= 0 [1 / time].

        Returns:
            The transforms.
        """
        if not isinstance(overhead, PassageLaw):
            if overhead == 0:
                return cls(0.0, 0.0, 1.0, 0.0)
            overhead = Deterministic(overhead)
        duration, slope = overhead.survival_integral(0, rate), overhead.survival_integral(1, rate)
        # By parts, E[W e^{-sW}] is the first integral less s times the second.
        discount_slope = duration if rate == 0 else max(duration - rate * slope, 0.0)
        return cls(duration, slope, overhead.laplace(rate), discount_slope)


def has_jumps(law: PassageLaw) -> bool:
    """Whether a law is known to hold atoms: single times of positive probability.

    Args:
        law: any law.

    Returns:
        True for deterministic and empirical laws and mixtures with them.
    """
    return _atoms(law) is not None or (isinstance(law, Mixture) and any(has_jumps(part) for part in law.laws))


def _atoms(law: PassageLaw) -> Floats | None:
    """The equally probable times of a discrete law."""
    if isinstance(law, Deterministic):
        return np.array([law.time])
    return law.times if isinstance(law, EmpiricalLaw) else None


def _average(attempts: list[Attempt], weights: npt.ArrayLike) -> Attempt:
    """Transforms are linear in the law of T and in that of R."""
    pairs = [(a, w) for a, w in zip(attempts, np.asarray(weights).tolist(), strict=True) if w > 0]

    def average(quantity: Callable[[Attempt], float]) -> float:
        return sum(weight * quantity(one) for one, weight in pairs)

    return Attempt(
        average(lambda a: a.duration),
        average(lambda a: a.duration_slope),
        average(lambda a: a.failure),
        average(lambda a: a.failure_slope),
        average(lambda a: a.success),
    )


def _until(law: PassageLaw, interval: float, rate: float) -> Attempt:
    """The timer rings at one known time."""
    if float(law.arrived(interval)) < least_success(law):
        raise ValueError(
            f"interval={interval} is so short that Pr(T <= interval) is lost in the error {law.survival_error:g} of "
            f"the survival of {law}; take a longer one"
        )
    duration, slope = law.survival_integral(0, rate, interval), law.survival_integral(1, rate, interval)
    failure = math.exp(-rate * interval) * float(law.survival(interval))
    return Attempt(duration, slope, failure, interval * failure, _early(law, interval, rate, duration))


def _ending_at(timer: PassageLaw, time: float, rate: float) -> Attempt:
    """T is known; the timer has no atoms."""
    duration, slope = timer.survival_integral(0, rate, time), timer.survival_integral(1, rate, time)
    success = math.exp(-rate * time) * float(timer.survival(time))
    failure_slope = max(duration - rate * slope - time * success, 0.0)  # by parts
    return Attempt(duration, slope, _early(timer, time, rate, duration), failure_slope, success)


def _early(law: PassageLaw, time: float, rate: float, duration: float) -> float:
    """E[e^{-sX}; X <= t], given int_0^t e^{-su} Pr(X > u) du; by parts and without cancellation."""
    if (times := _atoms(law)) is not None:
        with np.errstate(over="ignore"):
            return float(np.exp(-rate * times[times <= time]).sum()) / len(times)
    if isinstance(law, Mixture):
        parts = [(part, weight) for part, weight in zip(law.laws, law.weights, strict=True) if weight > 0]
        return sum(w * _early(part, time, rate, part.survival_integral(0, rate, time)) for part, w in parts)
    at_the_end = math.exp(-rate * time) * float(law.arrived(time))
    if rate == 0:
        return at_the_end
    by_difference = 1 - rate * duration - math.exp(-rate * time) * float(law.survival(time))
    if by_difference > 0.5:
        return by_difference

    def integrand(log_time: Floats) -> Floats:
        with np.errstate(over="ignore"):  # exp(-inf) is the limit
            return rate * np.exp(log_time - rate * np.exp(log_time)) * law.arrived(np.exp(log_time))

    edges = quadrature.logarithmic_panels(time * 1e-20, time)
    return at_the_end + quadrature.integrate(integrand, edges, f"E[exp(-{rate:g} T)] of early T")[0]


@dataclass(frozen=True, eq=False)
class _Earlier(PassageLaw):
    """min(T, R), of two independent times."""

    law: PassageLaw
    timer: PassageLaw

    def survival(self, time: npt.ArrayLike) -> Floats:
        return self.law.survival(time) * self.timer.survival(time)

    @property
    def arrival_probability(self) -> float:
        return 1 - (1 - self.law.arrival_probability) * (1 - self.timer.arrival_probability)

    @property
    def time_scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return min(self.law.time_scale, self.timer.time_scale)


def _by_quadrature(law: PassageLaw, timer: PassageLaw, rate: float) -> Attempt:
    """A by that of min(T, R); B with the density of R; C by parts, so that the density of T is not needed."""
    earlier = _Earlier(law, timer)
    duration = earlier.survival_integral(0, rate)
    # Around the timer's own scale: within these 80 decades is all of its probability but for the oddest laws.
    edges = quadrature.logarithmic_panels(timer.time_scale * 1e-40, timer.time_scale * 1e40)

    def integral(weight: Callable[[Floats], Floats]) -> float:
        def integrand(log_time: Floats) -> Floats:
            time = np.exp(log_time)
            with np.errstate(all="ignore"):
                return time * np.exp(-rate * time) * weight(time)

        return quadrature.integrate(integrand, edges, "an integral over the timer's density")[0]

    failure = integral(lambda time: timer.density(time) * law.survival(time))
    failure_slope = integral(lambda time: time * timer.density(time) * law.survival(time))
    # E[e^{-sT}; T <= R] = int e^{-st} (f_R + s S_R) Pr(T <= t) dt
    success = integral(lambda time: (timer.density(time) + rate * timer.survival(time)) * law.arrived(time))
    total = rate * duration + failure + success if rate > 0 else failure + success
    if abs(total - 1) > LOST:
        raise ValueError(
            f"timer={timer}: its density and survival disagree by {total - 1:.2g}; a timer with jumps must be "
            "a Deterministic, an EmpiricalLaw or a Mixture of such"
        )
    return Attempt(duration, earlier.survival_integral(1, rate), failure, failure_slope, success)
