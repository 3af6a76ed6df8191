"""Anchors are from reference/first_passage.md, section 4.6; the rest is held against mpmath and the quadrature."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.random_streams import stream
from theory.estimate import agreement
from theory.heavy_tailed_times import LogNormal, Pareto, Weibull
from theory.passage_laws import PassageLaw
from theory.waiting_times import Exponential, Gamma, Hyperexponential, erlang

FAMILIES = [
    Exponential(2.0),
    Hyperexponential((0.5, 0.3, 0.2), (10.0, 1.0, 0.1)),
    Gamma(0.4, 3.0),
    erlang(5, 2.0),
    Weibull(0.5, 1.0),
    Weibull(3.0, 2.0),
    LogNormal(0.3, 0.7),
    Pareto(2.5, 1.5),
]
HYPEREXPONENTIAL = Hyperexponential((0.5, 0.5), (10.0, 0.1))


def poisson_restart(law: PassageLaw, rate: float) -> float:
    return law.survival_integral(0, rate) / law.laplace(rate)


def sharp_restart(law: PassageLaw, interval: float) -> float:
    return law.restricted_mean(interval) / float(law.arrived(interval))


# ---- Anchors ---------------------------------------------------------------------------------------------------------


def test_hyperexponential_anchors() -> None:
    law = HYPEREXPONENTIAL
    assert law.mean == pytest.approx(5.05, rel=1e-15)
    assert law.coefficient_of_variation**2 == pytest.approx(2.921576316, rel=1e-9)
    for rate, mean in ((0.1, 3.421926910299003), (1.0, 1.0), (10.0, 0.2922330097087379), (1e12, 0.19801980198)):
        assert poisson_restart(law, rate) == pytest.approx(mean, rel=1e-11)
    assert float(law.density(0.0)) == pytest.approx(1 / 0.19801980198, rel=1e-11)
    for interval, mean in ((0.2, 0.3216400908925732), (1.0, 0.9602819651628035)):
        assert sharp_restart(law, interval) == pytest.approx(mean, rel=1e-13)


def test_erlang_anchor_and_the_law_without_memory() -> None:
    for rate in (1e-9, 0.1, 1.0, 100.0):
        assert poisson_restart(erlang(2, 1.0), rate) == pytest.approx(rate + 2, rel=1e-13)
        assert poisson_restart(Exponential(4.0), rate) == pytest.approx(0.25, rel=1e-14)
        assert sharp_restart(Exponential(4.0), rate) == pytest.approx(0.25, rel=1e-14)


def test_weibull_anchors() -> None:
    law = Weibull(0.5, 1.0)
    assert (law.mean, law.moment(2)) == (pytest.approx(2, rel=1e-14), pytest.approx(24, rel=1e-14))
    assert law.laplace(1.0) == pytest.approx(0.545641360765047, rel=1e-14)
    assert poisson_restart(law, 1.0) == pytest.approx(0.8327056412986994, rel=1e-14)
    for interval, mean in ((1.0, 0.8360465862613472), (0.01, 0.09833361104499008)):
        root = math.sqrt(interval)
        assert law.restricted_mean(interval) == pytest.approx(2 - 2 * math.exp(-root) * (1 + root), rel=1e-12)
        assert sharp_restart(law, interval) == pytest.approx(mean, rel=1e-13)


def test_lognormal_anchors() -> None:
    law = LogNormal(0.0, 1.0)
    assert law.mean == pytest.approx(math.exp(0.5), rel=1e-15)
    assert law.coefficient_of_variation**2 == pytest.approx(math.e - 1, rel=1e-14)
    for interval, mean in ((1.0, 1.523156583730247), (2.0, 1.473584886603993), (1.731644546117761, 1.471025418506487)):
        assert sharp_restart(law, interval) == pytest.approx(mean, rel=1e-14)
    # At the optimum the hazard is one over the mean.
    assert float(law.hazard(1.731644546117761)) * 1.471025418506487 == pytest.approx(1, rel=1e-12)
    for rate, mean in ((0.1, 1.590436142689298), (0.5, 1.560572575002218), (0.3671892426302198, 1.556271562912724)):
        assert poisson_restart(law, rate) == pytest.approx(mean, rel=1e-13)


def test_gamma_transform_and_lomax_without_a_mean() -> None:
    assert Gamma(2.0, 0.8).laplace(1.5) == pytest.approx(2.2**-2, rel=1e-15)
    lomax = Pareto(0.7, 1.0)
    assert (lomax.mean, lomax.variance, lomax.coefficient_of_variation) == (math.inf, math.inf, math.inf)
    assert 0 < poisson_restart(lomax, 1e-6) < 1e6


# ---- Closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", FAMILIES, ids=lambda law: type(law).__name__)
def test_closed_forms_are_what_the_survival_gives(law: PassageLaw) -> None:
    t = np.array([[1e-3, 0.3], [1.0, 7.0]])
    assert law.arrived(t) + law.survival(t) == pytest.approx(np.ones((2, 2)), rel=1e-14)
    assert (law.arrived(0.0), law.survival(0.0)) == (0, 1)
    assert law.density(t) * t == pytest.approx(PassageLaw.density(law, t) * t, abs=1e-10)
    assert law.hazard(t) == pytest.approx(law.density(t) / law.survival(t), rel=1e-11)
    for order in (0, 1, 2):
        for rate, upper in ((0.0, math.inf), (0.0, 0.8), (1e-3, math.inf), (2.0, math.inf), (2.0, 0.8)):
            by_quadrature = PassageLaw.survival_integral(law, order, rate, upper)
            assert law.survival_integral(order, rate, upper) == pytest.approx(by_quadrature, rel=1e-11)
    assert law.survival_integral(1, 1.0, 0.0) == 0
    assert law.variance == pytest.approx(law.moment(2) - law.mean**2, rel=1e-11)
    for rate in (1e-9, 0.5, 1e5):
        assert law.laplace(rate) == pytest.approx(PassageLaw.laplace(law, rate), rel=1e-11)
    assert law.laplace(0.0) == 1
    rates = np.array([0.5 + 3j, 11.5 - 40j])
    assert np.abs(law.transform(rates) - PassageLaw.transform(law, rates)).max() < 1e-13
    p = np.array([1e-9, 0.2, 0.9])
    assert law.quantile(p) == pytest.approx(PassageLaw.quantile(law, p), rel=1e-12)
    assert law.quantile(np.array([0.0, 1.0])).tolist() == [0, math.inf]


@pytest.mark.parametrize("law", FAMILIES, ids=lambda law: type(law).__name__)
def test_samples_follow_the_law(law: PassageLaw, seed: int) -> None:
    times = law.sample(40_000, stream(seed, type(law).__name__))
    assert times.shape == (40_000,)
    assert (times > 0).all()
    values = np.exp(-times / law.time_scale)
    assert agreement(values, law.laplace(1 / law.time_scale), detects=0.1)
    # The same law on a scale of time 25 % off, and the exponential law of the same mean.
    assert not agreement(values, law.laplace(1.25 / law.time_scale), detects=0.1)
    if not isinstance(law, Exponential):
        assert not agreement(values, Exponential(1 / law.mean).laplace(1 / law.time_scale))


@given(st.floats(-2, 4), st.floats(-8, 8), st.integers(0, 3), st.floats(-12, 8))
def test_gamma_integrals_against_mpmath(log_shape: float, log_scale: float, order: int, log_rate: float) -> None:
    shape, scale = 10**log_shape, 10**log_scale
    rate = 10**log_rate / (shape * scale)
    law = Gamma(shape, scale)
    with mpmath.workdps(120):
        k, x = mpmath.mpf(shape), mpmath.mpf(scale) * mpmath.mpf(rate)
        laplace = (1 + x) ** -k
        lower = sum(mpmath.rf(k, j) / mpmath.factorial(j) * (x / (1 + x)) ** j for j in range(order + 1))
        integral = mpmath.factorial(order) / mpmath.mpf(rate) ** (order + 1) * (1 - laplace * lower)
    assert law.survival_integral(order, rate) == pytest.approx(float(integral), rel=1e-11)
    if laplace > 1e-300:
        assert law.laplace(rate) == pytest.approx(float(laplace), rel=1e-11)


@settings(max_examples=30)
@given(st.floats(0.3, 5), st.floats(-6, 6))
def test_lomax_transform_against_mpmath(shape: float, log_rate: float) -> None:
    law, rate = Pareto(shape, 3.0), 10**log_rate
    with mpmath.workdps(40):
        z = 3 * mpmath.mpf(rate)
        assert law.laplace(rate) == pytest.approx(float(shape * mpmath.hyperu(1, 1 - shape, z)), rel=1e-12)
        integral = 3 * mpmath.hyperu(1, 2 - mpmath.mpf(shape), z)
    assert law.survival_integral(0, rate) == pytest.approx(float(integral), rel=1e-12)


@pytest.mark.parametrize("rate", [1.0, 1e3, 1e6])
def test_lognormal_transform_against_mpmath(rate: float) -> None:
    with mpmath.workdps(20):
        size = mpmath.mpf(10) ** 50  # mpmath's error is absolute
        pieces = list(range(-20, 6))
        exact = mpmath.quad(lambda y: size * mpmath.exp(-rate * mpmath.exp(y) - y * y / 2), pieces)
        exact /= size * mpmath.sqrt(2 * mpmath.pi)
    assert LogNormal(0.0, 1.0).laplace(rate) == pytest.approx(float(exact), rel=1e-12)


def test_restricted_mean_of_lomax_at_shape_one_and_near_it() -> None:
    for shape in (1 - 1e-12, 1.0, 1 + 1e-12):
        assert Pareto(shape, 2.0).restricted_mean(6.0) == pytest.approx(2 * math.log(4), rel=1e-11)
    assert Pareto(0.5, 2.0).restricted_mean(1e-200) == pytest.approx(1e-200, rel=1e-14)


def test_hazards_live_where_survivals_vanish() -> None:
    assert float(HYPEREXPONENTIAL.hazard(1e6)) == pytest.approx(0.1, rel=1e-15)
    assert float(Weibull(3.0, 1.0).hazard(100.0)) == pytest.approx(3e4, rel=1e-14)
    assert float(LogNormal(0.0, 0.1).hazard(100.0)) == pytest.approx(4.60734, rel=1e-6)
    assert Hyperexponential((1.0, 0.0), (10.0, 0.1)).hazard(1e6) == 10
    assert [law.hazard(0.0) for law in (Weibull(0.5, 1.0), Weibull(2.0, 1.0), LogNormal(0.0, 1.0))] == [math.inf, 0, 0]
    assert [law.density(0.0) for law in (Gamma(0.5, 1.0), Gamma(2.0, 1.0), Weibull(0.5, 1.0))] == [
        math.inf,
        0,
        math.inf,
    ]
    assert Weibull(3.0, 1.0).density(1e5) == 0


def test_no_warning_at_either_end_of_the_scale() -> None:
    times = np.array([0.0, 1e-300, 1e300])
    for law in FAMILIES:
        assert law.survival(times)[0] == 1
        assert law.survival(times)[-1] < 1e-100
        assert law.density(times[1:])[-1] < 1e-100
        assert law.hazard(times[2]) >= 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exponential(0.0), r"rate=0\.0 must be finite and > 0"),
        (lambda: Exponential(math.nan), "rate=nan must be finite and > 0"),
        (lambda: Hyperexponential((0.5, 0.4), (1.0, 2.0)), r"weights sums to 0\.9; it must be 1"),
        (lambda: Hyperexponential((0.5, 0.5), (1.0, -2.0)), r"rates=-2\.0 must be finite and > 0"),
        (lambda: Hyperexponential((1.0,), (1.0, 2.0)), r"weights has shape \(1,\); it must be \(2,\)"),
        (lambda: Gamma(-1.0, 1.0), r"shape=-1\.0 must be finite and > 0"),
        (lambda: Gamma(1.0, math.inf), "scale=inf must be finite and > 0"),
        (lambda: erlang(0, 1.0), "stages=0 must be a whole number >= 1"),
        (lambda: Weibull(0.0, 1.0), r"shape=0\.0 must be finite and > 0"),
        (lambda: LogNormal(math.inf, 1.0), "location=inf must be finite"),
        (lambda: LogNormal(0.0, 0.0), r"deviation=0\.0 must be finite and > 0"),
        (lambda: Pareto(1.0, 0.0), r"scale=0\.0 must be finite and > 0"),
        (lambda: Exponential(1.0).survival(-1.0), r"time=-1\.0 must be finite and >= 0"),
        (lambda: Exponential(1.0).quantile(2.0), r"probability=2\.0 must be from 0 to 1"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [1e-3, 0.01, 0.3, 2.5])
@pytest.mark.parametrize("rate", [1e-12, 0.5, 2.0, 1e10, 1e30])
def test_gamma_under_frequent_restarts(shape: float, rate: float) -> None:
    """Of a small shape T~ is far from 0 even at rates where 1 - rate / (1 + rate) is lost."""
    with mpmath.workdps(50):
        r, k = mpmath.mpf(rate), mpmath.mpf(shape)
        mean = (1 - (1 + r) ** -k) / r
        square = mean / r - k * (1 + r) ** (-k - 1) / r
    law = Gamma(shape, 1.0)
    assert law.survival_integral(0, rate) == pytest.approx(float(mean), rel=1e-12, abs=0)
    assert law.survival_integral(1, rate) == pytest.approx(float(square), rel=1e-12, abs=0)
