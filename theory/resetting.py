"""Restart in continuous time: a first-passage process that begins anew whenever a timer rings is a passage law again.

With independent attempts, the timer R, and W the time lost by each restart,

    E[T_R] = (E[min(T, R)] + Pr(T > R) E[W]) / Pr(T <= R),

where a restart simultaneous with success counts as success. The second moment, the transform and the law itself follow
from the transforms of one attempt (theory.restart_attempt), written with positive terms only: at a Poisson rate r, with
D_n = int_0^inf t^n e^{-rt} Psi(t) dt,

    E[T_r] = D_0 / T~(r),    E[T_r^2] = 2 D_1 / T~(r)^2.

Whether restarts help is told by theory.restart_criterion, how many by theory.optimal_restart. Epochs instead of time
are theory.discrete_resetting.

Reference: [reuveni2016] and [pal2017]: the mean and the law; [reuveni2014]: with overhead, and the criterion
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.laplace_inversion import invert, inverted_density, inverted_survival
from theory.law_arguments import Complexes, integral_arguments, nonnegative, right_half_plane
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic
from theory.restart_attempt import Attempt, Wait, attempt, attempt_transforms, has_jumps

RAREST_SUCCESS = 1e-5
"""Restarted laws are not sampled where fewer attempts than this succeed: a run would take too many of them."""

NEGLIGIBLE = 1e-14
"""Runs with so many restarts that this probability is left are not followed further."""


SLOWEST = 1e-290
"""Argument of a Laplace transform that counts as 0; its inverse must be a float."""


@dataclass(frozen=True, eq=False)
class Restarted(PassageLaw):
    """The time to the target when the process begins anew each time the timer rings.

    Attributes:
        law: of the time T of one attempt.
        timer: law of the time R to the next restart, which is finite. ``Exponential(rate)`` is Poisson restart,
            ``Deterministic(interval)`` sharp restart.
        overhead: W, the time lost by each restart: a number >= 0, or the law of an independent one [time].
        after: law of the attempts after the first, for restarts to another place (a ``Mixture`` for random ones).

    Example:
        >>> from theory.waiting_times import Hyperexponential
        >>> law = Hyperexponential((0.5, 0.5), (10.0, 0.1))
        >>> round(law.mean, 9), round(Restarted(law, Deterministic(0.2)).mean, 9)
        (5.05, 0.321640091)
    """

    law: PassageLaw
    timer: PassageLaw
    overhead: float | PassageLaw = 0.0
    after: PassageLaw | None = None

    def __post_init__(self) -> None:
        if self.timer.arrival_probability < 1:
            raise ValueError(f"timer={self.timer} may never ring; its arrival probability must be 1")
        if isinstance(self.overhead, PassageLaw):
            if self.overhead.arrival_probability < 1:
                raise ValueError(f"overhead={self.overhead} may last for ever; its arrival probability must be 1")
        else:
            nonnegative("overhead", self.overhead)

    @property
    def arrival_probability(self) -> float:
        """Pr(T < inf): 1, unless an attempt cannot succeed before its timer rings."""
        first = attempt(self.law, self.timer)
        return 1.0 if attempt(self._later, self.timer).success > 0 else first.success

    @property
    def time_scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mean, or if that is infinite the median of the first attempt [time]."""
        mean = self.mean
        return mean if math.isfinite(mean) else self.law.time_scale

    # ---- Moments and transforms --------------------------------------------------------------------------------------

    def survival_integral(self, order: int = 0, rate: float = 0.0, upper: float = math.inf) -> float:
        """int_0^upper t^order e^{-rate t} Psi_R(t) dt.

        To infinity and for orders 0 and 1 (mean and second moment) in closed form, and so is the restricted mean under
        sharp restart. Otherwise by quadrature of the law under sharp restart, and for smooth timers by Laplace
        inversion, only as the restricted mean.

        Args:
            order: power of t, >= 0.
            rate: >= 0 [1 / time].
            upper: >= 0, possibly ``inf`` [time].

        Returns:
            [time^(order + 1)]; ``inf`` where it diverges.

        Raises:
            ValueError: for arguments out of range, or where none of these ways is open.
        """
        order, rate, upper = integral_arguments(order, rate, upper)
        if upper == math.inf and order <= 1:
            return self._transform_and_slope(rate)[order]
        if upper == 0:
            return 0.0
        if self._is_sharp and order == 0 and rate == 0 and upper < math.inf:
            return self._sharp_restricted_mean(upper)
        if self._is_sharp:
            return super().survival_integral(order, rate, upper)
        if order == 0 and rate == 0:
            return float(invert(lambda s: self.transform(s) / s, np.array(upper)))
        raise ValueError(
            f"order={order}, rate={rate}, upper={upper}: of laws restarted at random only order 0 or 1 up to inf and "
            "order 0 with rate 0 are known"
        )

    def _sharp_restricted_mean(self, end: float) -> float:
        """The sum over attempts of Pr(it is made) E[time it takes until the end], with the overhead that follows."""
        made, _, _ = self._phase(np.array(end))
        wait = float(self._constant_overhead or 0.0)
        cycle, interval = self._interval + wait, self._interval
        number = math.floor(end / cycle)

        def spent(law: PassageLaw, until: float) -> float:
            waited = min(max(until - interval, 0.0), wait)
            return law.restricted_mean(min(until, interval)) + waited * float(law.survival(interval))

        last = spent(self.law if number == 0 else self._later, max(end - number * cycle, 0.0))
        if number == 0:
            return last
        later = self._later
        # 1 + q + ... + q^(number - 2), the number of later attempts that take their full time
        success = float(later.arrived(interval))
        if success == 0:
            complete = number - 1.0
        else:
            complete = (
                -math.expm1((number - 1) * math.log1p(-success)) / success if success < 1 else min(number - 1.0, 1.0)
            )
        failure = float(self.law.survival(interval))
        return spent(self.law, cycle) + failure * complete * spent(later, cycle) + float(made) * last

    def laplace(self, rate: float) -> float:
        """E[e^{-s T_R}] = C + B W~ C' / (1 - B' W~), primes after the first attempt.

        Args:
            rate: s >= 0 [1 / time].

        Returns:
            0..1, relatively accurate.
        """
        rate = float(nonnegative("rate", rate))
        if rate < SLOWEST:
            return self.arrival_probability
        first, later, wait = self._attempts(rate)
        again = later.success / self._unfinished(later, wait, rate) if later.success else 0.0
        return first.success + first.failure * wait.discount * again

    def transform(self, rates: npt.ArrayLike) -> Complexes:
        """int_0^inf e^{-st} Psi_R(t) dt for complex s.

        Args:
            rates: s with Re s > 0, any shape [1 / time].

        Returns:
            The shape of ``rates`` [time].

        Raises:
            ValueError: unless Re s > 0, or if the law has jumps and the timer is not sharp.
        """
        if self._is_sharp:
            return super().transform(rates)
        s = right_half_plane(rates)
        duration, failure = attempt_transforms(self._smooth(self.law), self.timer, s)
        later_duration, later_failure = attempt_transforms(self._smooth(self._later), self.timer, s)
        overhead = self.overhead
        wait = np.asarray(overhead.transform(s) if isinstance(overhead, PassageLaw) else -np.expm1(-s * overhead) / s)
        discount = 1 - s * wait
        again = (later_duration + later_failure * wait) / (1 - later_failure * discount)
        return (duration + failure * (wait + discount * again))[()]

    def _transform_and_slope(self, rate: float) -> tuple[float, float]:
        """The integrals of e^{-st} Psi_R and t e^{-st} Psi_R, by sums and products of nonnegative numbers."""
        first, later, wait = self._attempts(rate)
        if first.failure == 0:
            return first.duration, first.duration_slope
        unfinished = self._unfinished(later, wait, rate)
        if unfinished == 0:
            return math.inf, math.inf
        x = _product
        again = (later.duration + x(later.failure, wait.duration)) / unfinished
        discount_slope = x(later.failure_slope, wait.discount) + x(later.failure, wait.discount_slope)
        again_slope = later.duration_slope + x(later.failure_slope, wait.duration)
        again_slope = (again_slope + x(later.failure, wait.duration_slope) + x(again, discount_slope)) / unfinished
        rest = wait.duration + x(wait.discount, again)
        rest_slope = wait.duration_slope + x(wait.discount_slope, again) + x(wait.discount, again_slope)
        return (
            first.duration + x(first.failure, rest),
            first.duration_slope + x(first.failure_slope, rest) + x(first.failure, rest_slope),
        )

    def _attempts(self, rate: float) -> tuple[Attempt, Attempt, Wait]:
        first = attempt(self.law, self.timer, rate)
        later = first if self.after is None else attempt(self.after, self.timer, rate)
        return first, later, Wait.of(self.overhead, rate)

    @staticmethod
    def _unfinished(later: Attempt, wait: Wait, rate: float) -> float:
        """1 - B W~, without the subtraction: C + s (A + B int e^{-st} Pr(W > t) dt)."""
        if rate == 0:
            return later.success
        return later.success + rate * (later.duration + later.failure * wait.duration)

    # ---- The law -----------------------------------------------------------------------------------------------------

    def survival(self, time: npt.ArrayLike) -> Floats:
        """Pr(T_R > t).

        Exact under sharp restart, Psi(P)^k Psi(u) at t = k P + u, with plateaux for a constant overhead. Under other
        timers by Laplace inversion to about 1e-9, where all laws are smooth.

        Args:
            time: t >= 0, any shape [time].

        Returns:
            The shape of ``time``.

        Raises:
            ValueError: for a bad time; where laws have jumps, or sharp restart a random overhead: draw samples then.
        """
        t = nonnegative("time", time)
        if self._is_sharp:
            before, law, phase = self._phase(t)
            return (before * law(lambda one: one.survival(phase)))[()]
        if self._constant_overhead:
            return np.clip(1 - self._arrivals(t, integrated=True), 0.0, 1.0)[()]
        return np.clip(inverted_survival(self.transform, t), 0.0, 1.0)[()]

    def density(self, time: npt.ArrayLike) -> Floats:
        """Density of T_R, where the law of an attempt has one: as the survival, by Laplace inversion to 1e-9 / t.

        Args:
            time: t > 0, any shape [time].

        Returns:
            The shape of ``time`` [1 / time].

        Raises:
            ValueError: as for the survival, or without a density.
        """
        t = nonnegative("time", time)
        if self._is_sharp:
            before, law, phase = self._phase(t)
            waits = phase >= float(self._interval)
            return np.where(waits, 0.0, before * law(lambda one: one.density(np.where(waits, self._interval, phase))))[
                ()
            ]
        if self._constant_overhead:
            return np.maximum(self._arrivals(t, integrated=False), 0.0)[()]
        return np.maximum(inverted_density(lambda s: 1 - s * self.transform(s), t), 0.0)[()]

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Independent times, from attempts and timers as they happen.

        Args:
            n: how many, >= 0.
            rng: generator.

        Returns:
            Shape (n,) [time]; ``inf`` for runs that never arrive.

        Raises:
            ValueError: for a negative n, or if fewer than one attempt in 1e5 succeeds.
        """
        n = whole_number("n", n, 0)
        success = attempt(self._later, self.timer).success
        if 0 < success < RAREST_SUCCESS:
            raise ValueError(
                f"timer={self.timer}: an attempt succeeds with probability {success:.3g} only; restart later"
            )
        result, running, law = np.zeros(n), np.arange(n), self.law
        while len(running):
            end, restart = law.sample(len(running), rng), self.timer.sample(len(running), rng)
            failed = end > restart
            result[running[~failed]] += end[~failed]
            running = running[failed]
            result[running] += restart[failed]
            if isinstance(self.overhead, PassageLaw):
                result[running] += self.overhead.sample(len(running), rng)
            else:
                result[running] += self.overhead
            law = self._later
            if success == 0:
                result[running] = np.inf
                break
        return result

    @property
    def _later(self) -> PassageLaw:
        return self.law if self.after is None else self.after

    @property
    def _constant_overhead(self) -> float | None:
        """The overhead if it is a number, None if it is random."""
        if isinstance(self.overhead, Deterministic):
            return self.overhead.time
        return None if isinstance(self.overhead, PassageLaw) else float(self.overhead)

    @property
    def _is_sharp(self) -> bool:
        return isinstance(self.timer, Deterministic)

    @property
    def _interval(self) -> float:
        assert isinstance(self.timer, Deterministic)
        return self.timer.time

    def _phase(self, t: Floats) -> "tuple[Floats, Callable[[Callable[[PassageLaw], Floats]], Floats], Floats]":
        """Of each time under sharp restart: Pr(this attempt is made), the attempt's law applied, time since its start.

        The time since the start stops at the interval: what comes after is overhead.
        """
        wait = self._constant_overhead
        if wait is None:
            raise ValueError(
                f"overhead={self.overhead}: under sharp restart the law of T is known for a constant overhead; "
                "draw samples instead, or ask for moments and transforms"
            )
        cycle = self._interval + wait
        with np.errstate(over="ignore"):
            number = np.floor(np.minimum(t / cycle, 1e300))
        phase = np.clip(t - number * cycle, 0.0, self._interval)
        once, again = float(self.law.survival(self._interval)), float(self._later.survival(self._interval))
        before = np.where(number == 0, 1.0, once * again ** np.maximum(number - 1, 0))

        def law(of: Callable[[PassageLaw], Floats]) -> Floats:
            first = np.asarray(of(self.law))
            return first if self.after is None else np.where(number == 0, first, of(self.after))

        return before, law, np.maximum(phase, 0.0)

    def _smooth(self, law: PassageLaw) -> PassageLaw:
        """Refuse what Laplace inversion cannot do."""
        overhead = self.overhead if isinstance(self.overhead, PassageLaw) else None
        waits_by_steps = overhead is not None and self._constant_overhead is None and has_jumps(overhead)
        if has_jumps(law) or has_jumps(self.timer) or waits_by_steps:
            raise ValueError(
                "the law of T has jumps here, and cannot be found by Laplace inversion: draw samples instead, "
                "or ask for moments and real transforms"
            )
        return law

    def _arrivals(self, t: Floats, *, integrated: bool) -> Floats:
        """Density of T_R or its integral with a constant overhead W, as a sum over the number k of restarts.

        The inversion needs smooth functions, and each term B^k C is one once it is taken at t - k W.
        """
        wait = self._constant_overhead or 0.0
        first, later = attempt(self.law, self.timer), attempt(self._later, self.timer)
        result, made, k = np.zeros(t.shape), 1.0, 0

        def term(s: Complexes) -> Complexes:
            duration, failure = attempt_transforms(self._smooth(self.law), self.timer, s)
            before = np.ones_like(failure)
            if k > 0:
                before = failure
                duration, failure = attempt_transforms(self._smooth(self._later), self.timer, s)
                before = before * failure ** (k - 1)
            return before * (1 - s * duration - failure)

        while made > NEGLIGIBLE and (t > k * wait).any():
            since = np.maximum(t - k * wait, 0.0)
            if integrated:
                result += 1 - inverted_survival(lambda s: (1 - term(s)) / s, since)
            else:
                result += inverted_density(term, since)
            made, k = (first.failure if k == 0 else made * later.failure), k + 1
        return result


def _product(a: float, b: float) -> float:
    """What never happens takes no time, however long it would."""
    return 0.0 if a == 0 or b == 0 else a * b
