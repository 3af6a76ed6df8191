"""First passage of a continuous-time chain under Poisson and under periodic perturbations, exactly.

L is the generator's block of the states outside the target: L_ij >= 0 is the rate of i -> j, and what a row misses to
zero is the rate of meeting the target. N = (-L)^-1; K is the perturbation, row-stochastic. Time has the unit of 1 / L.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import SMALLEST_EXIT, SUM_TOLERANCE, Absorption, Floats, average, distributions, whole_number

HIGHEST_ORDER = 170
"""Of a moment; 171! is no float."""


@dataclass(frozen=True, eq=False)
class ContinuousChain:
    """A continuous-time Markov chain that is watched until it meets its target.

    Attributes:
        generator: L, shape (n, n): off-diagonal entries >= 0, row sums <= 0.
        initial: mu, the law of the first state, shape (n,).

    Example:
        >>> decay = ContinuousChain(np.array([[-2.0]]), np.array([1.0]))
        >>> moment(decay, 1), moment(decay, 2)
        (0.5, 0.5)
    """

    generator: Floats
    initial: Floats

    def __post_init__(self) -> None:
        generator = np.array(self.generator, dtype=float)
        n = len(np.atleast_1d(generator))
        if generator.shape != (n, n) or not np.isfinite(generator).all():
            raise ValueError(f"generator has shape {generator.shape}; it must be a square matrix of finite rates")
        if self._rates(generator).min() < 0:
            raise ValueError(f"generator has a rate {self._rates(generator).min()}; off the diagonal it must be >= 0")
        sums = generator.sum(axis=1)
        if (sums > SUM_TOLERANCE * np.abs(generator.diagonal())).any():
            raise ValueError(f"generator has a row that sums to {sums.max():.12g}; <= 0 is needed: minus the exit rate")
        generator.flags.writeable = False
        object.__setattr__(self, "generator", generator)
        object.__setattr__(self, "initial", distributions("initial", self.initial, (n,)))

    @staticmethod
    def _rates(generator: Floats) -> Floats:
        return generator - np.diag(generator.diagonal())

    @property
    def rates(self) -> Floats:
        """Rates of moves between states, with a zero diagonal, shape (n, n)."""
        return self._rates(self.generator)

    @cached_property
    def exits(self) -> Floats:
        """Rate of meeting the target from each state, shape (n,)."""
        exits = -self.generator.sum(axis=1)
        return np.where(exits < SMALLEST_EXIT * np.abs(self.generator.diagonal()), 0.0, exits)

    def checked(self, perturbation: npt.ArrayLike) -> Floats:
        """Check a perturbation K of this chain.

        Args:
            perturbation: K, row-stochastic, shape (n, n).

        Returns:
            K, normalised.

        Raises:
            ValueError: for another shape, negative entries, or rows that do not sum to one.
        """
        return distributions("perturbation", perturbation, self.generator.shape)


def moment(chain: ContinuousChain, order: int) -> float:
    """E[T^m] = m! mu N^m 1.

    Args:
        chain: the chain.
        order: m >= 1.

    Returns:
        [time^m]; ``inf`` if the target may never be reached.

    Raises:
        ValueError: if the order is not a whole number from 1 to ``HIGHEST_ORDER``.
    """
    absorption = Absorption(chain.rates, chain.exits)
    total = np.ones(len(chain.exits))
    order = whole_number("order", order, 1)
    if order > HIGHEST_ORDER:
        raise ValueError(f"order={order} must be {HIGHEST_ORDER} at most")
    for _ in range(order):
        total = absorption.expected_total(total)
    return math.factorial(order) * float(average(chain.initial, total))


def poisson_mean(chain: ContinuousChain, perturbation: npt.ArrayLike, rate: float) -> float:
    """E[T_r] = mu (-L + r (I - K))^-1 1, perturbed at the events of a Poisson process.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        rate: r >= 0, perturbations per unit of time.

    Returns:
        [time], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or a negative rate.

    Example:
        >>> decay = ContinuousChain(np.array([[-2.0]]), np.array([1.0]))  # without memory a restart changes nothing
        >>> poisson_mean(decay, np.array([[1.0]]), 7.0)
        0.5
    """
    if not (rate >= 0 and math.isfinite(rate)):
        raise ValueError(f"rate={rate} must be finite and >= 0")
    # In this form I - K is not needed: a move i -> i is none.
    absorption = Absorption(chain.rates + rate * chain.checked(perturbation), chain.exits)
    return float(average(chain.initial, absorption.expected_total(np.ones(len(chain.exits)))))


def periodic_mean(chain: ContinuousChain, perturbation: npt.ArrayLike, interval: float) -> float:
    """E[T_P] = mu (I - e^{LP} K)^-1 int_0^P e^{Lt} 1 dt, perturbed at P, 2P, ...

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P > 0 [time].

    Returns:
        [time], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or interval.

    Example:
        >>> decay = ContinuousChain(np.array([[-2.0]]), np.array([1.0]))
        >>> round(periodic_mean(decay, np.array([[1.0]]), 0.1), 12)
        0.5
    """
    if not (interval > 0 and math.isfinite(interval)):
        raise ValueError(f"interval={interval} must be finite and > 0")
    propagator, duration, exits = _stretch(chain, float(interval))
    absorption = Absorption(propagator @ chain.checked(perturbation), exits)
    return float(average(chain.initial, absorption.expected_total(duration)))


def survival(chain: ContinuousChain, time: float) -> float:
    """Psi(t) = mu e^{Lt} 1 = Pr(T > t).

    Args:
        chain: the chain.
        time: t >= 0 [time].

    Returns:
        The probability.

    Raises:
        ValueError: if the time is negative or infinite.

    Example:
        >>> decay = ContinuousChain(np.array([[-2.0]]), np.array([1.0]))
        >>> round(survival(decay, 1.0), 12) == round(math.exp(-2), 12)
        True
    """
    if time == 0:
        return 1.0
    return float((chain.initial @ _propagator(chain, time)).sum())


def survivors(chain: ContinuousChain, time: float, perturbation: npt.ArrayLike | None = None) -> ContinuousChain:
    """The chain that begins where its runs are that survived so far: mu e^{Lt} / Psi(t), or mu e^{Lt} K / Psi(t).

    Args:
        chain: the chain.
        time: t > 0 [time].
        perturbation: K, row-stochastic, shape (n, n), that acts at t; none by default.

    Returns:
        The same chain with that initial law; its T is the residual time.

    Raises:
        ValueError: for an invalid perturbation or time, or if no run survives until then.
    """
    law = chain.initial @ _propagator(chain, time)
    if law.sum() == 0:
        raise ValueError(f"time={time}: no run survives until then, so none is perturbed; take less")
    law = law / law.sum()
    return ContinuousChain(chain.generator, law if perturbation is None else law @ chain.checked(perturbation))


def _propagator(chain: ContinuousChain, time: float) -> Floats:
    if not (time > 0 and math.isfinite(time)):
        raise ValueError(f"time={time} must be finite and > 0")
    return _stretch(chain, float(time))[0]


def _stretch(chain: ContinuousChain, interval: float) -> tuple[Floats, Floats, Floats]:
    """e^{LP}, int_0^P e^{Lt} 1 dt and int_0^P e^{Lt} e dt, by sums and products of nonnegative numbers.

    Of scipy's expm, zeros come out as +-1e-17, and such a leak into a closed set of states would make a mean infinite.
    Here the chain jumps (or stays) at the events of a Poisson process of rate q. A short stretch h = P / 2^m is doubled
    m times, the integrals by int_0^2h = int_0^h + e^{Lh} int_0^h.
    """
    # Any q >= the fastest rate will do; one of at least 1 / P makes a chain without moves no special case.
    q = max(float(-chain.generator.diagonal().min()), 1 / interval)
    doublings = math.ceil(math.log2(q * interval))
    # e^{Lh} = sum_k Pr(k events) (1 + L / q)^k, with Poisson events of mean qh <= 1; the integral of Pr(k events) over
    # 0..h is Pr(more than k events) / q. Beyond 24 events there is less than 1e-25.
    events = _poisson(q * interval / 2**doublings, 25)
    later = np.append(np.cumsum(events[:0:-1])[::-1], 0.0)
    jump = chain.rates / q + np.diag(1 + chain.generator.diagonal() / q)
    propagator, integral = np.zeros_like(jump), np.zeros_like(jump)
    power = np.eye(len(jump))
    for k in range(len(events)):
        propagator += events[k] * power
        integral += later[k] / q * power
        power = power @ jump
    duration, exits = integral @ np.ones(len(jump)), integral @ chain.exits
    for _ in range(doublings):
        duration, exits = duration + propagator @ duration, exits + propagator @ exits
        propagator = propagator @ propagator
    return propagator, duration, exits


def _poisson(mean: float, terms: int) -> Floats:
    return np.array([math.exp(-mean) * mean**k / math.factorial(k) for k in range(terms)])
