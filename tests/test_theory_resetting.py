"""Means and moments of restarted passages: anchors, second routes, identities and limits.

Anchors are from reference/first_passage.md, sections 4.1 to 4.7.
"""

import functools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.continuous_chain import ContinuousChain, periodic_mean, poisson_mean
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval
from theory.enzyme_turnover import michaelis_menten
from theory.heavy_tailed_times import LogNormal, Pareto, Weibull
from theory.optimal_restart import NoOptimumFound, optimal_interval
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck
from theory.passage_laws import Deterministic, EmpiricalLaw, Mixture, PassageLaw, SurvivalLaw
from theory.resetting import Restarted
from theory.waiting_times import Exponential, Gamma, Hyperexponential, erlang

HYPER = Hyperexponential((0.5, 0.5), (10.0, 0.1))
GENERATOR = np.array([[-2.0, 1.5, 0.3], [0.2, -1.0, 0.5], [0.05, 0.0, -0.15]])


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "rate", "mean"),
    [
        (Brownian(1.0, 1.0), 1.0, 1.71828182845904524),
        (Brownian(1.0, 1.0), 2.0, 1.55662518939146376),
        (Brownian(1.0, 0.5), 1.0, 3.11325037878292752),
        (DriftDiffusion(1.0, 1.0, 1.0), 1.0, 0.855276958614304728),
        (DriftDiffusion(1.0, 0.5, 1.0), 1.0, 1.18316663220965636),
        (DriftDiffusion(1.0, -1.0, 1.0), 1.0, 4.04316564336002865),
        (DriftDiffusion(2.0, 0.5, 1.0), 0.1, 3.5828893938578527),
        (HYPER, 0.1, 3.421926910299003),
        (HYPER, 1.0, 1.0),
        (HYPER, 10.0, 0.2922330097087379),
        (erlang(2, 1.0), 0.5, 2.5),
        (erlang(2, 1.0), 40.0, 42.0),
        (Weibull(0.5, 1.0), 1.0, 0.8327056412986994),
        (LogNormal(0.0, 1.0), 0.1, 1.590436142689298),
        (LogNormal(0.0, 1.0), 0.5, 1.560572575002218),
        (Exponential(0.25), 7.0, 4.0),
    ],
)
def test_mean_under_poisson_restart(law: PassageLaw, rate: float, mean: float) -> None:
    assert Restarted(law, Exponential(rate)).mean == pytest.approx(mean, rel=2e-14)


@pytest.mark.parametrize(
    ("law", "interval", "mean"),
    [
        (Brownian(1.0, 1.0), 0.5, 1.33831123184767913),
        (Brownian(1.0, 1.0), 1.0, 1.50185802435836428),
        (Brownian(1.0, 1.0), 2.0, 1.88217447493503442),
        (HYPER, 0.2, 0.3216400908925732),
        (HYPER, 1.0, 0.9602819651628035),
        (Weibull(0.5, 1.0), 1.0, 0.8360465862613472),
        (Weibull(0.5, 1.0), 0.01, 0.09833361104499008),
        (LogNormal(0.0, 1.0), 1.0, 1.523156583730247),
        (LogNormal(0.0, 1.0), 2.0, 1.473584886603993),
        (Exponential(0.25), 0.3, 4.0),
    ],
)
def test_mean_under_sharp_restart(law: PassageLaw, interval: float, mean: float) -> None:
    assert Restarted(law, Deterministic(interval)).mean == pytest.approx(mean, rel=2e-14)


def test_second_moments() -> None:
    assert Restarted(Brownian(1.0, 1.0), Exponential(1.0)).moment(2) == pytest.approx(6.62326671248416475, rel=2e-14)
    law = DriftDiffusion(1.0, 0.5, 1.0)
    for rate, mean, square in ((0.5, 1.2974425414, 4.15989441), (5.0, 1.2778112198, 3.11992253)):
        restarted = Restarted(law, Exponential(rate))
        assert (restarted.mean, restarted.moment(2)) == pytest.approx((mean, square), rel=2e-9)


def test_overhead_and_another_place() -> None:
    assert Restarted(DriftDiffusion(1.0, 0.5, 1.0), Exponential(2.0), 0.3).mean == pytest.approx(
        1.8195357576, abs=5e-11
    )
    elsewhere = Restarted(Brownian(1.0, 1.0), Exponential(1.0), after=Brownian(2.0, 1.0))
    assert elsewhere.mean == pytest.approx(4.67077427047160499, rel=2e-14)
    # Random place: E = (1 - T~_0(r)) / (r <T~_x(r)>)
    places = Mixture((Brownian(0.5, 1.0), Brownian(3.0, 1.0)), (0.25, 0.75))
    expected = (1 - math.exp(-math.sqrt(2))) / 2 / (0.25 * math.exp(-0.5 * math.sqrt(2)) + 0.75 * math.exp(-3 * 2**0.5))
    assert Restarted(Brownian(1.0, 1.0), Exponential(2.0), after=places).mean == pytest.approx(expected, rel=1e-14)


def test_gamma_timer() -> None:
    """The notes give 1.535004838107, wrong in the eleventh digit: mpmath at 25 digits gives this."""
    restarted = Restarted(LogNormal(0.0, 1.0), Gamma(2.0, 0.8))
    assert restarted.mean == pytest.approx(1.535004838083795, rel=1e-13)


def test_michaelis_menten() -> None:
    assert michaelis_menten(1.0, Exponential(3.0), Exponential(2.0)) == pytest.approx(2.0, rel=1e-14)
    for law in (HYPER, LogNormal(0.0, 1.0), erlang(2, 1.0)):
        for binding, unbinding in ((0.4, 0.7), (2.0, 1e-3)):
            arrived = law.laplace(unbinding)
            expected = (binding + (1 - arrived) / unbinding) / arrived
            assert michaelis_menten(binding, law, Exponential(unbinding)) == pytest.approx(expected, rel=1e-11)
    # It is a restart whose cost is the binding, with a first binding more.
    turnover = Restarted(HYPER, Gamma(2.0, 0.3), 0.4).mean + 0.4
    assert michaelis_menten(0.4, HYPER, Gamma(2.0, 0.3)) == pytest.approx(turnover, rel=1e-12)
    assert michaelis_menten(0.4, Deterministic(2.0), Deterministic(1.0)) == math.inf


# ---- Second routes ---------------------------------------------------------------------------------------------------


def test_chains_know_the_same_means() -> None:
    # mu e^{Lt} 1 as a mixture of exponentials, weights of either sign
    chain = ContinuousChain(GENERATOR, np.array([1.0, 0.0, 0.0]))
    values, vectors = np.linalg.eig(GENERATOR)
    weights = np.real(vectors[0] * np.linalg.solve(vectors, np.ones(3)))
    law = SurvivalLaw(lambda t: np.exp(np.multiply.outer(t, np.real(values))) @ weights)
    restart = np.tile(chain.initial, (3, 1))
    for rate in (0.1, 1.0, 30.0):
        exact = poisson_mean(chain, restart, rate)
        assert Restarted(law, Exponential(rate)).mean == pytest.approx(exact, rel=1e-10)
    for interval in (0.2, 1.0, 5.0):
        exact = periodic_mean(chain, restart, interval)
        assert Restarted(law, Deterministic(interval)).mean == pytest.approx(exact, rel=1e-10)


@settings(max_examples=15)
@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(0, 2))
def test_poisson_formulas_in_high_precision(log_rate: float, drift: float, overhead: float) -> None:
    rate = 10**log_rate
    restarted = Restarted(DriftDiffusion(1.0, drift, 1.0), Exponential(rate), overhead)
    with mpmath.workdps(60):

        def passage(s):
            return mpmath.exp((mpmath.mpf(drift) - mpmath.sqrt(mpmath.mpf(drift) ** 2 + 4 * s)) / 2)

        def transform(s):  # T~(s + r) / [1 - W~(s) r / (s + r) (1 - T~(s + r))]
            arrived = passage(s + rate)
            return arrived / (1 - mpmath.exp(-s * overhead) * rate / (s + rate) * (1 - arrived))

        arrived = passage(mpmath.mpf(rate))
        mean = (1 - arrived) * (1 / mpmath.mpf(rate) + overhead) / arrived
        square = mpmath.diff(transform, 0, 2, h=mpmath.mpf(10) ** -20)
        exact = [float(mean), float(square), float(transform(mpmath.mpf("0.3")))]
    assert restarted.mean == pytest.approx(exact[0], rel=1e-12)
    assert restarted.moment(2) == pytest.approx(exact[1], rel=1e-11)
    assert restarted.laplace(0.3) == pytest.approx(exact[2], rel=1e-12)
    assert restarted.survival_integral(0, 0.3) == pytest.approx((1 - exact[2]) / 0.3, rel=1e-11)


@pytest.mark.parametrize("overhead", [0.0, 0.4, Gamma(2.0, 0.3)])
@pytest.mark.parametrize("after", [None, LogNormal(0.3, 0.7)])
def test_quadrature_is_the_closed_form(overhead, after) -> None:
    """Gamma of shape 1 is an exponential law that nothing recognises as one."""
    closed = Restarted(HYPER, Exponential(2.0), overhead, after)
    numeric = Restarted(HYPER, Gamma(1.0, 0.5), overhead, after)
    for quantity in (lambda x: x.mean, lambda x: x.moment(2), lambda x: x.laplace(0.7)):
        assert quantity(numeric) == pytest.approx(quantity(closed), rel=1e-11)
    assert numeric.survival_integral(1, 0.2) == pytest.approx(closed.survival_integral(1, 0.2), rel=1e-11)
    times = np.array([0.05, 0.6, 3.0])
    assert numeric.survival(times) == pytest.approx(closed.survival(times), abs=1e-8)


@pytest.mark.parametrize("overhead", [0.0, 0.4, Gamma(2.0, 0.3)])
def test_a_mixture_of_timers_averages_attempts(overhead) -> None:
    mixed = Restarted(HYPER, Mixture((Exponential(2.0), Exponential(0.5)), (0.3, 0.7)), overhead)
    one = Restarted(HYPER, SurvivalLaw(lambda t: 0.3 * np.exp(-2 * t) + 0.7 * np.exp(-0.5 * t)), overhead)
    assert mixed.mean == pytest.approx(one.mean, rel=1e-9)  # the density of the second is numerical
    assert mixed.moment(2) == pytest.approx(one.moment(2), rel=1e-8)


def test_measured_times_and_timers() -> None:
    times, timers = np.array([0.5, 1.0, 4.0]), np.array([1.0, 3.0])
    law, timer = EmpiricalLaw(times), EmpiricalLaw(timers)
    pairs = [(t, r) for t in times for r in timers]
    duration = sum(min(pair) for pair in pairs) / 6
    success = sum(t <= r for t, r in pairs) / 6  # a tie is a success
    assert Restarted(law, timer).mean == pytest.approx(duration / success, rel=1e-14)
    square = sum(min(pair) ** 2 for pair in pairs) / 6
    lost = sum(r for t, r in pairs if r < t) / 6
    expected = (square + 2 * lost * duration / success) / success
    assert Restarted(law, timer).moment(2) == pytest.approx(expected, rel=1e-14)
    # Smooth timers: each time on its own
    smooth = Restarted(law, Gamma(1.0, 0.5))
    exact = Restarted(law, Exponential(2.0))
    assert smooth.mean == pytest.approx(exact.mean, rel=1e-12)
    assert smooth.moment(2) == pytest.approx(exact.moment(2), rel=1e-12)
    assert smooth.laplace(0.3) == pytest.approx(exact.laplace(0.3), rel=1e-12)
    arrived = np.exp(-2 * times).mean()
    assert exact.mean == pytest.approx((1 - arrived) / (2 * arrived), rel=1e-14)
    both = Restarted(Mixture((law, HYPER), (0.5, 0.5)), Gamma(1.0, 0.5))
    assert both.mean == pytest.approx(Restarted(Mixture((law, HYPER), (0.5, 0.5)), Exponential(2.0)).mean, rel=1e-11)


# ---- Identities and limits -------------------------------------------------------------------------------------------


LAWS = [HYPER, LogNormal(0.0, 1.0), Brownian(1.0, 1.0), Weibull(0.7, 1.0), Interval(1.0, 0.1, 1.0)]


@functools.cache
def best_sharp_mean(which: int) -> float:
    return optimal_interval(LAWS[which]).mean


@settings(max_examples=60)
@given(st.integers(0, 1000))
def test_no_timer_beats_the_best_sharp_restart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    timer = [
        Exponential(float(rng.exponential())),
        Gamma(float(1 + rng.exponential()), float(rng.exponential() + 0.01)),
        EmpiricalLaw(rng.exponential(size=3) + 1e-3),
        Weibull(float(0.5 + rng.exponential()), 1.0),
    ][seed % 4]
    assert Restarted(LAWS[seed % 5], timer).mean >= best_sharp_mean(seed % 5) * (1 - 1e-10)


@pytest.mark.parametrize("law", [HYPER, LogNormal(0.0, 1.0), erlang(2, 3.0), DriftDiffusion(1.0, 0.5, 1.0)])
def test_rare_restarts_change_nothing(law: PassageLaw) -> None:
    for timer in (Exponential(1e-12), Deterministic(1e12), Gamma(3.0, 1e12)):
        restarted = Restarted(law, timer, 0.1)
        assert restarted.mean == pytest.approx(law.mean, rel=1e-9)
        assert restarted.moment(2) == pytest.approx(law.moment(2), rel=1e-7)
        assert restarted.laplace(0.3) == pytest.approx(law.laplace(0.3), rel=1e-9)


@given(st.floats(-6, 6))
def test_without_memory_restarts_change_nothing(log_rate: float) -> None:
    for timer in (Exponential(10**log_rate), Deterministic(10**log_rate)):
        restarted = Restarted(Exponential(0.5), timer)
        assert restarted.mean == pytest.approx(2, rel=1e-13)
        assert restarted.moment(2) == pytest.approx(8, rel=1e-12)
        assert restarted.laplace(2.0) == pytest.approx(0.2, rel=1e-12)


def test_heavy_tails_become_finite() -> None:
    law = Pareto(0.5, 1.0)
    assert law.mean == math.inf
    assert math.isfinite(Restarted(law, Exponential(1e-3)).moment(2))
    assert math.isfinite(Restarted(Brownian(1.0, 1.0), Deterministic(100.0)).moment(2))
    assert Restarted(DriftDiffusion(1.0, -1.0, 1.0), Exponential(0.5)).arrival_probability == 1


def test_infinite_answers() -> None:
    never = Restarted(EmpiricalLaw(np.array([2.0, 3.0])), Deterministic(1.0))
    assert (never.mean, never.moment(2), never.variance) == (math.inf, math.inf, math.inf)
    assert (never.arrival_probability, never.laplace(0.0), never.laplace(1.0)) == (0.0, 0.0, 0.0)
    assert never.survival([0.5, 1e6]).tolist() == [1.0, 1.0]
    assert never.sample(3, np.random.default_rng(0)).tolist() == [math.inf] * 3
    assert never.survival_integral(0, 0.5) == pytest.approx(2.0, rel=1e-14)  # int e^{-t/2} dt
    # The first attempt may succeed, the others cannot.
    once = Restarted(Exponential(1.0), Deterministic(1.0), after=EmpiricalLaw(np.array([2.0])))
    assert once.mean == math.inf
    assert once.arrival_probability == pytest.approx(1 - math.exp(-1), rel=1e-14)
    assert np.isinf(once.sample(1000, np.random.default_rng(0))).mean() == pytest.approx(math.exp(-1), abs=0.08)


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"timer=.* may never ring; its arrival probability must be 1"):
        Restarted(HYPER, DriftDiffusion(1.0, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"overhead=.* may last for ever"):
        Restarted(HYPER, Exponential(1.0), DriftDiffusion(1.0, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"overhead=-1.0 must be finite and >= 0"):
        Restarted(HYPER, Exponential(1.0), -1.0)
    with pytest.raises(ValueError, match=r"binding_mean=-1.0 must be finite and >= 0"):
        michaelis_menten(-1.0, HYPER, Exponential(1.0))
    with pytest.raises(ValueError, match=r"the law of T has jumps here.*: draw samples instead"):
        Restarted(EmpiricalLaw(np.array([1.0, 2.0])), Exponential(1.0)).survival(0.5)
    with pytest.raises(ValueError, match=r"the law of T has jumps here"):
        Restarted(HYPER, Mixture((Exponential(1.0), Deterministic(1.0)), (0.5, 0.5))).survival(0.5)
    with pytest.raises(ValueError, match=r"under sharp restart the law of T is known for a constant overhead"):
        Restarted(HYPER, Deterministic(1.0), Exponential(1.0)).survival(0.5)
    with pytest.raises(ValueError, match=r"of laws restarted at random only order 0 or 1 up to inf"):
        Restarted(HYPER, Exponential(1.0)).moment(3)
    with pytest.raises(ValueError, match=r"an attempt succeeds with probability .* only; restart later"):
        Restarted(LogNormal(0.0, 1.0), Deterministic(0.001)).sample(2, np.random.default_rng(0))
    steps = SurvivalLaw(lambda time: np.where(time < 1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match=r"timer=.*did not converge|its density and survival disagree"):
        _ = Restarted(HYPER, steps).mean


def test_numpy_numbers_as_parameters_do_not_warn() -> None:
    # The second moment overflows, the mean does not.
    law = Brownian(distance=float(np.float64(1)), diffusivity=1.0)
    same = Brownian(distance=np.float64(1), diffusivity=np.float64(1))
    timer = Exponential(630.0**2)
    assert Restarted(same, timer).mean == Restarted(law, timer).mean == pytest.approx(1.0159e268, rel=1e-4)


def test_what_an_inverted_survival_does_not_resolve_is_refused() -> None:
    # Psi is good to 1e-9 only: E[T_P] would be wrong, or a false inf.
    far = OrnsteinUhlenbeck(start=0.0, target=8.0, stiffness=1.0, diffusivity=1.0)
    with pytest.raises(ValueError, match="is lost in the error 1e-09"):
        _ = Restarted(far, Deterministic(30.0)).mean
    with pytest.raises(NoOptimumFound, match="the best interval is not known"):
        optimal_interval(far)
    near = OrnsteinUhlenbeck(start=0.0, target=1.0, stiffness=1.0, diffusivity=1.0)
    assert Restarted(near, Deterministic(0.5291056)).mean == pytest.approx(1.563154173, rel=1e-8)
