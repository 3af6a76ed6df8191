"""Passage laws of diffusions that have closed forms, and what all of them refuse.

Anchors are from reference/first_passage.md, sections 4.2 to 4.5; the rest is held against mpmath, which evaluates the
printed forms with as many digits as they cancel.
"""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from sim.random_streams import stream
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval, OrnsteinUhlenbeck
from theory.estimate import agreement
from theory.passage_laws import PassageLaw

CLOSED = 1e-11
EXPONENTS = st.floats(-8, 8)
LAWS = [
    Brownian(1.0, 0.5),
    DriftDiffusion(1.0, 0.7, 1.0),
    DriftDiffusion(1.0, -0.7, 1.0),
    DriftDiffusion(2.0, 8.0, 0.1),
    Interval(1.0, 0.1, 1.0),
    Interval(2.0, 1.3, 0.7),
    OrnsteinUhlenbeck(-1.5, 0.0, 2.0, 0.7),
]


def poisson_restart(law: PassageLaw, rate: float) -> float:
    return law.survival_integral(0, rate) / law.laplace(rate)


def poisson_second_moment(law: PassageLaw, rate: float) -> float:
    return 2 * law.survival_integral(1, rate) / law.laplace(rate) ** 2


# ---- Anchors ---------------------------------------------------------------------------------------------------------


def test_brownian_anchors() -> None:
    law = Brownian(distance=1.0, diffusivity=1.0)
    assert poisson_restart(law, 1.0) == pytest.approx(1.71828182845904524, rel=1e-14)
    assert poisson_second_moment(law, 1.0) == pytest.approx(6.62326671248416475, rel=1e-14)
    assert poisson_restart(law, 2.0) == pytest.approx(1.55662518939146376, rel=1e-14)
    assert poisson_restart(Brownian(1.0, 0.5), 1.0) == pytest.approx(3.11325037878292752, rel=1e-14)
    assert law.survival_integral(0, 1.0) / Brownian(2.0, 1.0).laplace(1.0) == pytest.approx(
        4.67077427047160499, rel=1e-14
    )
    # The optimum under Poisson restart: 2 - 2 e^{-z} = z at z = L sqrt(r / D).
    assert poisson_restart(law, 2.53963828218816532) == pytest.approx(1.54413865237087009, rel=1e-14)
    for interval, mean in (
        (0.5, 1.33831123184767913),
        (1.0, 1.50185802435836428),
        (2.0, 1.88217447493503442),
        (0.45850276945959186, 1.33588566954930544),
    ):
        assert law.restricted_mean(interval) / float(law.arrived(interval)) == pytest.approx(mean, rel=1e-14)
    assert float(law.hazard(0.45850276945959186)) * 1.33588566954930544 == pytest.approx(1, rel=1e-13)
    assert [law.mean, law.variance, law.coefficient_of_variation, law.moment(2)] == [math.inf] * 4


@pytest.mark.parametrize(
    ("peclet", "y", "rate", "mean"),
    [
        (-0.5, 1.95628765889609269, 3.57706140434915512, 2.98050232772179331),
        (0.25, 1.42795103000375774, 1.97654414408879264, 1.13719337927973784),
        (0.5, 1.27358070118872643, 1.37200780244036808, 0.850952590413319475),
        (0.75, 1.13088685922444558, 0.716405088366530984, 0.647094797017269054),
        (0.9, 1.05093961383653814, 0.29447407193089191, 0.553279377799143597),
    ],
)
def test_drift_diffusion_at_its_optimum(peclet: float, y: float, rate: float, mean: float) -> None:
    law = DriftDiffusion(distance=3.0, drift=peclet * 2 * 0.5 / 3.0, diffusivity=0.5)
    unit = 9 / 0.5
    assert y**2 - peclet**2 == pytest.approx(rate, rel=1e-14)
    assert poisson_restart(law, rate / unit) == pytest.approx(mean * unit, rel=1e-13)
    # At the optimum the restarted time has CV = 1.
    assert poisson_second_moment(law, rate / unit) == pytest.approx(2 * (mean * unit) ** 2, rel=1e-12)


def test_drift_diffusion_anchors() -> None:
    for parameters, rate, mean in (
        ((1.0, 1.0, 1.0), 1.0, 0.855276958614304728),
        ((1.0, 0.5, 1.0), 1.0, 1.18316663220965636),
        ((1.0, -1.0, 1.0), 1.0, 4.04316564336002865),
        ((2.0, 0.5, 1.0), 0.1, 3.5828893938578527),
    ):
        assert poisson_restart(DriftDiffusion(*parameters), rate) == pytest.approx(mean, rel=1e-14)
    law = DriftDiffusion(1.0, 0.5, 1.0)
    for rate, mean, square in ((0.5, 1.2974425414, 4.15989441), (5.0, 1.2778112198, 3.11992253)):
        assert poisson_restart(law, rate) == pytest.approx(mean, rel=1e-10)
        assert poisson_second_moment(law, rate) == pytest.approx(square, rel=1e-9)
    assert (law.mean, law.variance) == (2, 16)
    assert law.coefficient_of_variation**2 == pytest.approx(1 / 0.25, rel=1e-14)
    assert law.moment(2) == pytest.approx(4 + 16, rel=1e-14)


def test_interval_anchors() -> None:
    law = Interval(length=1.0, start=0.1, diffusivity=1.0)
    assert law.mean == pytest.approx(0.045, rel=1e-14)
    assert law.coefficient_of_variation**2 == pytest.approx(3.037037037, rel=1e-9)
    assert poisson_restart(law, 253.9443514162387) == pytest.approx(0.01544133253423609, rel=1e-13)
    assert poisson_second_moment(law, 253.9443514162387) == pytest.approx(2 * 0.01544133253423609**2, rel=1e-11)
    assert Interval(1.0, 0.25, 1.0).coefficient_of_variation ** 2 == pytest.approx(10 / 9, rel=1e-14)
    assert Interval(1.0, 0.5, 1.0).coefficient_of_variation ** 2 == pytest.approx(2 / 3, rel=1e-14)
    assert Interval(1.0, 0.2763932022500210, 1.0).coefficient_of_variation == pytest.approx(1, rel=1e-14)
    for start in (0.1, 0.25, 0.9):
        u, law = start / 2, Interval(2.0, start, 0.3)
        assert law.moment(2) == pytest.approx(16 / (12 * 0.09) * u * (1 - 2 * u**2 + u**3), rel=1e-13)


# ---- The closed forms are one law ------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_closed_forms_are_what_the_survival_gives(law: PassageLaw) -> None:
    t = np.array([[1e-3, 0.05], [0.4, 3.0]])
    assert law.arrived(t) + law.survival(t) == pytest.approx(np.ones((2, 2)), rel=1e-14)
    assert (law.survival(0.0), law.arrived(0.0), law.density(0.0)) == (1, 0, 0)
    assert law.density(t) * t == pytest.approx(PassageLaw.density(law, t) * t, abs=1e-10)
    assert law.hazard(t) == pytest.approx(law.density(t) / law.survival(t), rel=1e-11)
    assert law.hazard(0.0) == 0
    for order in (0, 1, 2):
        for rate, upper in ((0.0, math.inf), (0.0, 0.8), (1e-3, math.inf), (2.0, math.inf), (2.0, 0.8)):
            by_quadrature = PassageLaw.survival_integral(law, order, rate, upper)
            assert law.survival_integral(order, rate, upper) == pytest.approx(by_quadrature, rel=1e-11)
    assert law.survival_integral(1, 1.0, 0.0) == 0
    for rate in (1e-9, 0.5, 300.0):
        assert law.laplace(rate) == pytest.approx(PassageLaw.laplace(law, rate), rel=1e-11)
    assert law.laplace(0.0) == law.arrival_probability
    rates = np.array([0.5 + 3j, 11.5 - 40j])
    assert np.abs(law.transform(rates) - PassageLaw.transform(law, rates)).max() < 1e-13
    p = np.array([1e-9, 0.2, 0.3]) * law.arrival_probability
    assert law.quantile(p) == pytest.approx(PassageLaw.quantile(law, p), rel=1e-12)
    if law.mean < math.inf:
        assert law.variance == pytest.approx(law.moment(2) - law.mean**2, rel=1e-11)


def test_drift_of_zero_is_brownian() -> None:
    brownian, drifting = Brownian(2.0, 0.3), DriftDiffusion(2.0, 0.0, 0.3)
    slow = DriftDiffusion(2.0, 1e-13, 0.3)
    t = np.geomspace(1e-2, 1e6, 7)
    for law in (drifting, slow):
        assert law.survival(t) == pytest.approx(brownian.survival(t), rel=1e-9)
        assert law.restricted_mean(5.0) == pytest.approx(brownian.restricted_mean(5.0), rel=1e-11)
        assert law.survival_integral(1, 0.1) == pytest.approx(brownian.survival_integral(1, 0.1), rel=1e-11)
    assert brownian.survival(t) == pytest.approx(erf(2 / np.sqrt(1.2 * t)), rel=1e-14)
    assert drifting.mean == math.inf
    assert slow.mean == pytest.approx(2e13, rel=1e-14)


def test_drift_away_from_the_target() -> None:
    law = DriftDiffusion(1.0, -0.5, 1.0)
    toward = DriftDiffusion(1.0, 0.5, 1.0)
    assert law.arrival_probability == math.exp(-0.5)
    assert (law.mean, law.variance, law.coefficient_of_variation) == (math.inf, math.inf, math.inf)
    assert float(law.survival(1e9)) == pytest.approx(1 - math.exp(-0.5), rel=1e-14)
    assert law.quantile([0.3, 0.61]) == pytest.approx([float(toward.quantile(0.3 * math.exp(0.5))), math.inf])
    assert law.time_scale == toward.time_scale
    assert law.restricted_mean(1e9) == pytest.approx(1e9 * (1 - math.exp(-0.5)) + 2 * math.exp(-0.5), rel=1e-14)


# ---- Against mpmath, over many scales --------------------------------------------------------------------------------


@given(EXPONENTS, EXPONENTS, st.floats(-9, 2.5), st.sampled_from([1, -1]), st.floats(-20, 4))
def test_drift_diffusion_transforms(distance: float, diffusivity: float, peclet: float, sign: int, rate: float) -> None:
    length, d = 10**distance, 10**diffusivity
    v, s = sign * 10**peclet * 2 * d / length, 10**rate * d / length**2
    law = DriftDiffusion(length, v, d)
    with mpmath.workdps(80):
        big_v, big_d, big_s = mpmath.mpf(v), mpmath.mpf(d), mpmath.mpf(s)
        root = mpmath.sqrt(big_v**2 + 4 * big_d * big_s)
        laplace = mpmath.exp(-length * (root - big_v) / (2 * big_d))
        first = (1 - laplace) / big_s
        second = (first - laplace * length / root) / big_s
    assert law.survival_integral(0, s) == pytest.approx(float(first), rel=CLOSED)
    assert law.survival_integral(1, s) == pytest.approx(float(second), rel=CLOSED)
    if laplace > 1e-300:
        assert law.laplace(s) == pytest.approx(float(laplace), rel=CLOSED)


@given(EXPONENTS, EXPONENTS, st.floats(-9, 2), st.sampled_from([1, -1]), st.floats(-2.5, 6))
def test_drift_diffusion_law(distance: float, diffusivity: float, peclet: float, sign: int, time: float) -> None:
    length, d, t = 10**distance, 10**diffusivity, 10 ** (time + 2 * distance - diffusivity)
    v = sign * 10**peclet * 2 * d / length
    law = DriftDiffusion(length, v, d)
    with mpmath.workdps(80):
        big_l, big_v, big_d, big_t = (mpmath.mpf(x) for x in (length, v, d, t))
        root = mpmath.sqrt(4 * big_d * big_t)
        early, late = (big_l - big_v * big_t) / root, (big_l + big_v * big_t) / root
        mirrored = mpmath.exp(big_v * big_l / big_d) * mpmath.erfc(late)
        survival, arrived = (mpmath.erfc(-early) - mirrored) / 2, (mpmath.erfc(early) + mirrored) / 2
        restricted = big_t * survival + big_l / big_v * (mpmath.erfc(early) - mirrored) / 2
        density = big_l / (root * big_t * mpmath.sqrt(mpmath.pi)) * mpmath.exp(-(early**2))
        hazard = density / survival
    # A Gaussian knows its exponent to rounding, not itself.
    tolerance = 1e-13 * max(1.0, float(early**2))
    assert law.restricted_mean(t) == pytest.approx(float(restricted), rel=1e-13)
    for found, exact in ((law.survival(t), survival), (law.arrived(t), arrived), (law.density(t), density)):
        if exact > 1e-290:
            assert float(found) == pytest.approx(float(exact), rel=tolerance)
    if v > 0 or density > 1e-290:
        assert float(law.hazard(t)) == pytest.approx(float(hazard), rel=tolerance)


@given(st.floats(-6, -0.302), st.booleans(), EXPONENTS, EXPONENTS, st.floats(-20, 5))
def test_interval_transforms(share: float, mirror: bool, length: float, diffusivity: float, rate: float) -> None:
    size, d = 10**length, 10**diffusivity
    start = size * (1 - 10**share if mirror else 10**share)
    s = 10**rate * d / size**2
    law = Interval(size, start, d)
    with mpmath.workdps(80):
        q = mpmath.sqrt(mpmath.mpf(s) / d) * size
        laplace = mpmath.cosh(q * (mpmath.mpf(start) / size - 0.5)) / mpmath.cosh(q / 2)
        integral = (1 - laplace) / s
    assert law.survival_integral(0, s) == pytest.approx(float(integral), rel=CLOSED)
    if laplace > 1e-290:
        assert law.laplace(s) == pytest.approx(float(laplace), rel=CLOSED)


@settings(max_examples=40)
@given(st.floats(-6, -0.302), st.floats(-3.5, 1.3))
def test_interval_law(share: float, time: float) -> None:
    u, tau = 10**share, 10**time
    law = Interval(2.0, 2 * u, 0.5)
    t = tau * 4 / 0.5
    with mpmath.workdps(40):
        orders = [mpmath.pi * n for n in range(1, int(14 / math.sqrt(tau)) + 6, 2)]
        terms = [mpmath.sin(k * u) * mpmath.exp(-k * k * tau) for k in orders]
        survival = sum(4 / k * term for k, term in zip(orders, terms, strict=True))
        density = sum(4 * k * term for k, term in zip(orders, terms, strict=True)) / 8
        arrived = 1 - survival
    assert float(law.survival(t)) == pytest.approx(float(survival), rel=3e-13)
    assert float(law.arrived(t)) == pytest.approx(float(arrived), rel=3e-13, abs=1e-25)
    assert float(law.density(t)) == pytest.approx(float(density), rel=3e-13, abs=1e-25)


# ---- Samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_samples_follow_the_law(law: PassageLaw, seed: int) -> None:
    times = law.sample(40_000, stream(seed, repr(law)))
    assert times.shape == (40_000,)
    assert (times > 0).all()
    values = np.exp(-times / law.time_scale)
    assert agreement(values, law.laplace(1 / law.time_scale), detects=0.15)
    assert not agreement(values, law.laplace(1.25 / law.time_scale))  # a diffusivity and a drift 25 % off
    if law.arrival_probability < 1:
        missing = np.isinf(times).astype(float)
        assert agreement(missing, 1 - law.arrival_probability, detects=0.1)
        assert not agreement(missing, 1 - law.arrival_probability**1.2)


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Brownian(0.0, 1.0), r"distance=0\.0 must be finite and > 0"),
        (lambda: Brownian(1.0, -1.0), r"diffusivity=-1\.0 must be finite and > 0"),
        (lambda: DriftDiffusion(1.0, math.nan, 1.0), "drift=nan must be finite; positive is toward the target"),
        (lambda: Interval(1.0, 1.0, 1.0), r"start=1\.0 must be inside the interval, > 0 and < length=1\.0"),
        (lambda: Interval(1.0, 0.0, 1.0), r"start=0\.0 must be inside the interval"),
        (lambda: OrnsteinUhlenbeck(1.0, 1.0, 1.0, 1.0), r"start=1\.0 is the target"),
        (lambda: OrnsteinUhlenbeck(0.0, math.inf, 1.0, 1.0), r"target=inf must be finite"),
        (lambda: OrnsteinUhlenbeck(0.0, 1.0, 0.0, 1.0), r"stiffness=0\.0 must be finite and > 0"),
        (lambda: OrnsteinUhlenbeck(0.0, 40.0, 1.0, 1.0), r"target=40\.0 is 40 standard deviations up the potential"),
        (lambda: OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0).quantile(0.5), "quantiles of .* simulate paths with sim.first"),
        (
            lambda: OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0).sample(2, np.random.default_rng(0)),
            r"target=1\.0: samples of .* simulate paths with sim.first_passage",
        ),
        (lambda: OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0).hazard(100.0), "hazard is unknown where fewer than 1e-05 surv"),
        (lambda: Brownian(1.0, 1.0).survival(-1.0), r"time=-1\.0 must be finite and >= 0"),
        (lambda: Brownian(1.0, 1.0).laplace(-1.0), r"rate=-1\.0 must be finite and >= 0"),
    ],
)
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_no_warning_at_either_end_of_the_scale() -> None:
    times = np.array([1e-300, 1e-30, 1e30, 1e300])
    for law in LAWS:
        for function in (law.survival, law.arrived, law.density, law.hazard):
            assert np.isfinite(function(times)).all()
        for rate in (1e-300, 1e-30, 1e30, 1e300):
            assert 0 <= law.laplace(rate) <= 1
            assert 0 < law.survival_integral(0, rate) < math.inf
