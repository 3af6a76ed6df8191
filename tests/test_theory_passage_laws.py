"""The base class by quadrature against closed forms and mpmath; laws from a function, from data, from other laws."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.random_streams import stream
from theory.estimate import agreement
from theory.passage_laws import (
    Deterministic,
    EmpiricalLaw,
    Mixture,
    PassageLaw,
    SurvivalLaw,
    nonnegative,
    power_exponential_integral,
)
from theory.positive_quadrature import integrate
from theory.root_finding import increasing_root
from theory.waiting_times import Exponential, Gamma

NUMERIC = 1e-12


class Weibull(PassageLaw):
    """A user's law, with nothing but its survival: shape 1/2, scale 1."""

    def survival(self, time: npt.ArrayLike) -> np.ndarray:
        return np.exp(-np.sqrt(nonnegative("time", time)))


# ---- A law given by its survival alone -------------------------------------------------------------------------------


def test_anchors_of_the_weibull_law_come_from_its_survival_alone() -> None:
    law = Weibull()
    assert law.mean == pytest.approx(2, rel=NUMERIC)
    assert law.moment(2) == pytest.approx(24, rel=NUMERIC)
    assert law.variance == pytest.approx(20, rel=NUMERIC)
    assert law.coefficient_of_variation == pytest.approx(math.sqrt(5), rel=NUMERIC)
    assert law.laplace(1.0) == pytest.approx(0.545641360765047, rel=1e-13)
    assert (1 - law.laplace(1.0)) / law.laplace(1.0) == pytest.approx(0.8327056412986994, rel=1e-13)
    for interval, mean in ((1.0, 0.8360465862613472), (0.01, 0.09833361104499008)):
        sharp = law.restricted_mean(interval) / (1 - float(law.survival(interval)))
        assert sharp == pytest.approx(mean, rel=NUMERIC)
    assert law.restricted_mean(0.0) == 0
    assert law.time_scale == pytest.approx(math.log(2) ** 2, rel=1e-13)


@pytest.mark.parametrize("rate", [1e-12, 1e-3, 1.0, 1e3, 1e12])
def test_laplace_and_integrals_of_the_weibull_law(rate: float) -> None:
    with mpmath.workdps(60):
        r = mpmath.mpf(rate)
        exact = mpmath.sqrt(mpmath.pi / r) / 2 * mpmath.exp(1 / (4 * r)) * mpmath.erfc(1 / (2 * mpmath.sqrt(r)))
        integral = (1 - exact) / r
    assert Weibull().survival_integral(0, rate) == pytest.approx(float(integral), rel=NUMERIC)
    assert Weibull().laplace(rate) == pytest.approx(float(exact), rel=NUMERIC)


@pytest.mark.parametrize("order", [0, 1, 2, 7])
def test_time_scales_far_apart(order: int) -> None:
    law = SurvivalLaw(lambda t: 0.5 * np.exp(-1e8 * t) + (0.5 - 1e-9) * np.exp(-t) + 1e-9 * np.exp(-1e-8 * t))
    for rate in (0.0, 1e-5, 3.0, 1e10):
        terms = ((0.5, 1e8), (0.5 - 1e-9, 1.0), (1e-9, 1e-8))
        exact = sum(w * math.factorial(order) / (rate + a) ** (order + 1) for w, a in terms)
        assert law.survival_integral(order, rate) == pytest.approx(exact, rel=NUMERIC)


@pytest.mark.parametrize("shape", [1e-2, 1.0, 1e2, 1e6])
def test_narrow_and_wide_laws(shape: float) -> None:
    exact = Gamma(shape, 1 / shape)
    law = SurvivalLaw(exact.survival)
    assert law.mean == pytest.approx(1, rel=1e-11)
    assert law.moment(2) == pytest.approx(1 + 1 / shape, rel=1e-11)
    assert law.laplace(0.3) == pytest.approx(exact.laplace(0.3), rel=1e-11)
    assert law.restricted_mean(1.0) == pytest.approx(exact.restricted_mean(1.0), rel=1e-11)


def test_jumps_are_integrated_too() -> None:
    law = SurvivalLaw(lambda t: np.where(t < 1, 1.0, 0.0) * 0.25 + np.where(t < 3.3, 1.0, 0.0) * 0.75)
    assert law.mean == pytest.approx(0.25 + 0.75 * 3.3, rel=NUMERIC)
    assert law.laplace(2.0) == pytest.approx(0.25 * math.exp(-2) + 0.75 * math.exp(-6.6), rel=NUMERIC)
    assert law.quantile([0.1, 0.3]) == pytest.approx([1, 3.3], rel=1e-13)


@settings(max_examples=40)
@given(st.floats(-3, 3))
def test_no_jump_hides(log_time: float) -> None:
    law = SurvivalLaw(lambda t: np.where(t < 10**log_time, 1.0, 0.0))
    assert law.mean == pytest.approx(10**log_time, rel=NUMERIC)
    kink = SurvivalLaw(lambda t: np.maximum(1 - t / 10**log_time, 0.0))
    assert kink.mean == pytest.approx(10**log_time / 2, rel=NUMERIC)


def test_what_diverges_is_infinite_and_what_converges_slowly_is_right_or_refused() -> None:
    for shape in (0.5, 1.0, 1.5, 2.0, 2.5):
        law = SurvivalLaw(lambda t, shape=shape: (1 + t) ** -shape)
        assert law.mean == (pytest.approx(1 / (shape - 1), rel=NUMERIC) if shape > 1 else math.inf)
        assert (law.variance < math.inf) == (shape > 2)
        assert (law.coefficient_of_variation < math.inf) == (shape > 2)
        assert law.survival_integral(0, 1e-3) < 1000
    heavy = SurvivalLaw(lambda t: (1 + t) ** -1.001)
    assert heavy.mean == pytest.approx(1000, rel=1e-10)
    assert SurvivalLaw(lambda t: 1 / (1 + np.log1p(t))).mean == math.inf
    with pytest.raises(ValueError, match=r"converges too slowly: part of it is beyond t=1e\+300"):
        _ = SurvivalLaw(lambda t: 1 / (1 + t * np.log1p(t) ** 2)).mean


def test_defective_law() -> None:
    law = SurvivalLaw(lambda t: 0.5 + 0.5 * np.exp(-t), probability=0.5)
    assert (law.mean, law.variance, law.coefficient_of_variation) == (math.inf, math.inf, math.inf)
    assert law.laplace(0.0) == law.arrival_probability == 0.5
    assert law.laplace(1.0) == pytest.approx(0.25, rel=1e-13)
    assert law.survival_integral(0, 1.0) == pytest.approx(0.75, rel=1e-13)
    assert law.quantile([0, 0.1, 0.5, 0.9]) == pytest.approx([0, math.log(1.25), math.inf, math.inf], rel=1e-13)
    # A law that does not say that it is defective gets an infinite mean too.
    assert SurvivalLaw(lambda t: 0.5 + 0.5 * np.exp(-t)).mean == math.inf


def test_density_and_hazard_by_differences() -> None:
    t = np.geomspace(1e-6, 30, 30).reshape(5, 6)
    law = Weibull()
    exact = np.exp(-np.sqrt(t)) / (2 * np.sqrt(t))
    assert law.density(t) * t == pytest.approx(exact * t, abs=1e-9)
    assert law.hazard(t) == pytest.approx(1 / (2 * np.sqrt(t)), rel=1e-7)
    assert float(law.density(1.0)) == pytest.approx(math.exp(-1) / 2, abs=1e-9)
    with pytest.raises(ValueError, match="time=0: the density is found by differences"):
        law.density(0.0)
    gone = SurvivalLaw(lambda t: np.where(t < 1, 1.0, 0.0))
    assert gone.hazard(2.0) == math.inf


def test_transform_is_the_laplace_integral_at_complex_rates() -> None:
    rates = np.array([[0.2, 1 + 3j], [0.2 - 15j, 11.5 + 150j]])
    for law, exact in (
        (SurvivalLaw(lambda t: np.exp(-t)), 1 / (1 + rates)),
        (SurvivalLaw(lambda t: (1 + t) * np.exp(-t)), (1 - (1 + rates) ** -2) / rates),
    ):
        assert np.abs(law.transform(rates) - exact).max() < 1e-13
    with pytest.raises(ValueError, match=r"has .* oscillations up to Im s = 1e\+06: use a larger Re s"):
        Weibull().transform([1e-6 + 1e6j])


@given(st.floats(0, 1), st.floats(0.05, 20))
def test_quantile_inverts_the_survival(probability: float, shape: float) -> None:
    law = Gamma(shape, 2.0)
    time = float(law.quantile(probability))
    if probability > 1 - 1e-15:
        assert time == math.inf or float(law.survival(time)) < 1e-15
    elif time > 1e-290:
        assert float(law.arrived(time)) == pytest.approx(probability, rel=1e-12 * max(1, shape))


def test_samples_follow_the_law(seed: int) -> None:
    law = Weibull()
    times = law.sample(20_000, stream(seed, "weibull"))
    assert times.shape == (20_000,)
    assert agreement(np.exp(-times), 0.545641360765047, detects=0.1)
    assert not agreement(np.exp(-times), Gamma(0.5, 4.0).laplace(1.0), detects=0.1)  # same mean, another law
    defective = SurvivalLaw(lambda t: 0.5 + 0.5 * np.exp(-t), probability=0.5)
    missing = np.isinf(defective.sample(4000, stream(seed, "defective"))).astype(float)
    assert agreement(missing, 0.5, detects=0.2)
    assert not agreement(missing, 0.6, detects=0.2)
    assert law.sample(0, stream(seed, "none")).shape == (0,)


# ---- Data ------------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=10), st.floats(0, 10), st.integers(0, 3))
def test_empirical_law_is_sums_over_its_times(times: list[float], rate: float, order: int) -> None:
    law, t = EmpiricalLaw(np.array(times)), np.array(times)
    assert law.mean == pytest.approx(t.mean(), rel=1e-13)
    assert law.moment(3) == pytest.approx((t**3).mean(), rel=1e-13)
    assert law.variance == pytest.approx(t.var(), rel=1e-9, abs=1e-12)
    assert law.laplace(rate) == pytest.approx(np.exp(-rate * t).mean(), rel=1e-13, abs=1e-300)
    assert law.restricted_mean(2.5) == pytest.approx(np.minimum(t, 2.5).mean(), rel=1e-13)
    restricted = (np.minimum(t, 2.5) ** (order + 1)).mean() / (order + 1)
    assert law.survival_integral(order, 0.0, 2.5) == pytest.approx(restricted, rel=1e-13)
    # The step function itself, by the quadrature of the base class.
    by_quadrature = PassageLaw.survival_integral(law, order, rate)
    assert law.survival_integral(order, rate) == pytest.approx(by_quadrature, rel=1e-11)
    if rate > 1e-100:
        assert complex(law.transform(rate)) == pytest.approx(law.survival_integral(0, rate), rel=1e-12)


def test_empirical_law_of_given_times() -> None:
    law = EmpiricalLaw(np.array([5.0, 1.0, 2.0, 2.0]))
    assert law.survival([0, 1, 1.5, 2, 5]).tolist() == [1, 0.75, 0.75, 0.25, 0]
    assert law.quantile([0, 0.25, 0.26, 0.75, 1]).tolist() == [1, 1, 2, 2, 5]
    assert law.time_scale == 2
    assert set(law.sample(100, np.random.default_rng(0))) == {1, 2, 5}
    assert EmpiricalLaw(np.ones(10)).quantile(0.3) == 1
    with pytest.raises(ValueError, match="EmpiricalLaw has no density"):
        law.density(1.0)
    with pytest.raises(ValueError, match="EmpiricalLaw has no density"):
        law.hazard(1.0)
    assert not law.times.flags.writeable


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], r"times has shape \(0,\); it must have one dimension"),
        ([[1.0]], r"times has shape \(1, 1\); it must have one dimension"),
        ([1.0, 0.0], r"times has 0\.0; all must be finite and > 0"),
        ([1.0, math.inf], r"times has inf; .* Runs that did not arrive need a restricted mean"),
    ],
)
def test_empirical_law_refuses(times: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmpiricalLaw(times)  # pyright: ignore[reportArgumentType]


# ---- Mixtures and fixed times ----------------------------------------------------------------------------------------


def test_mixture_of_exponentials_is_their_average() -> None:
    law = Mixture((Exponential(10.0), Exponential(0.1)), (0.5, 0.5))
    by_hand = SurvivalLaw(lambda t: 0.5 * np.exp(-10 * t) + 0.5 * np.exp(-0.1 * t))
    assert law.mean == pytest.approx(5.05, rel=1e-15)
    assert law.coefficient_of_variation**2 == pytest.approx(2.921576316, rel=1e-9)
    assert law.laplace(10.0) == pytest.approx(by_hand.laplace(10.0), rel=1e-12)
    assert law.restricted_mean(0.2) == pytest.approx(by_hand.restricted_mean(0.2), rel=1e-12)
    assert law.transform(1 + 2j) == pytest.approx(complex(by_hand.transform(1 + 2j)), rel=1e-12)
    times = np.array([0.1, 1.0, 30.0])
    assert law.density(times) == pytest.approx(by_hand.density(times), abs=1e-8)
    assert law.survival(times) == pytest.approx(by_hand.survival(times), rel=1e-15)
    assert law.survival(law.quantile(0.75)) == pytest.approx(0.25, rel=1e-13)


def test_mixture_may_hold_laws_that_never_arrive() -> None:
    defective = SurvivalLaw(lambda t: 0.5 + 0.5 * np.exp(-t), probability=0.5)
    law = Mixture((defective, Exponential(1.0)), (0.5, 0.5))
    assert law.arrival_probability == 0.75
    assert (law.mean, law.variance) == (math.inf, math.inf)
    assert Mixture((defective, Exponential(1.0)), (0.0, 1.0)).mean == 1


def test_mixture_samples(seed: int) -> None:
    law = Mixture((Deterministic(1.0), Exponential(0.5)), (0.3, 0.7))
    times = law.sample(20_000, stream(seed, "mixture"))
    assert agreement(np.exp(-times), law.laplace(1.0), detects=0.06)
    assert not agreement(np.exp(-times), Mixture(law.laws, (0.8, 0.2)).laplace(1.0), detects=0.06)
    # In random order: the first half is a sample of the same law.
    assert agreement((times[:10_000] == 1).astype(float), 0.3, detects=0.2)


def test_deterministic_law() -> None:
    law = Deterministic(2.0)
    assert law.survival([0.0, 1.9, 2.0]).tolist() == [1, 1, 0]
    assert (law.mean, law.moment(3), law.coefficient_of_variation, law.laplace(1.0)) == (2, 8, 0, math.exp(-2))
    assert law.transform(1j + 1) == pytest.approx((1 - np.exp(-2 - 2j)) / (1 + 1j), rel=1e-15)
    assert law.quantile([0.0, 1.0]).tolist() == [2, 2]
    assert law.sample(3, np.random.default_rng(0)).tolist() == [2, 2, 2]
    assert (law.restricted_mean(5.0), law.restricted_mean(1.0)) == (2, 1)
    with pytest.raises(ValueError, match="Deterministic has no density"):
        law.density(1.0)


@given(st.integers(0, 5), st.floats(-12, 12), st.floats(-12, 12))
def test_power_times_exponential(order: int, log_rate: float, log_end: float) -> None:
    rate, end = 10**log_rate, 10**log_end
    with mpmath.workdps(150):
        r, b = mpmath.mpf(rate), mpmath.mpf(end)
        exact = float(mpmath.gammainc(order + 1, 0, r * b) / r ** (order + 1))
    assert float(power_exponential_integral(order, rate, np.array(end))) == pytest.approx(exact, rel=1e-13)
    endless = math.factorial(order) / rate ** (order + 1)
    assert float(power_exponential_integral(order, rate, np.array(math.inf))) == pytest.approx(endless, rel=1e-13)


# ---- Helpers and refusals --------------------------------------------------------------------------------------------


def test_roots_of_flat_steep_and_broken_functions() -> None:
    wanted = np.array([0.3, 2.0, 7.0])
    for function in (lambda x: x**9, np.expm1, lambda x: np.where(x < 0, -1.0, 1.0), lambda x: np.cbrt(x)):
        found = increasing_root(lambda x, which, f=function: f(x - wanted[which]), np.zeros(3), np.full(3, 10.0))
        assert found == pytest.approx(wanted, abs=1e-14)
    assert increasing_root(lambda x, which: x + 1, np.zeros(1), np.ones(1)).tolist() == [0]
    assert increasing_root(lambda x, which: x - 2, np.zeros(1), np.ones(1)).tolist() == [1]


def test_quadrature_refuses_rough_and_negative_functions() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="the integral did not converge: the function is rough"):
        integrate(lambda x: 1 + 1e-6 * rng.random(x.shape), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="met a value that is negative or not finite"):
        integrate(lambda x: x - 0.5, np.array([0.0, 1.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Weibull().laplace(-1.0), r"rate=-1\.0 must be finite and >= 0"),
        (lambda: Weibull().laplace(math.inf), "rate=inf must be finite and >= 0"),
        (lambda: Weibull().survival([1.0, -2.0]), r"time=-2\.0 must be finite and >= 0"),
        (lambda: Weibull().survival_integral(-1), "order=-1 must be a whole number >= 0"),
        (lambda: Weibull().survival_integral(0, 1.0, -1.0), r"upper=-1\.0 must be >= 0"),
        (lambda: Weibull().survival_integral(0, 1.0, math.nan), "upper=nan must be >= 0"),
        (lambda: Weibull().moment(0), "order=0 must be a whole number >= 1"),
        (lambda: Weibull().quantile(1.5), r"probability=1\.5 must be from 0 to 1"),
        (lambda: Weibull().quantile(math.nan), "probability=nan must be from 0 to 1"),
        (lambda: Weibull().transform([1j]), r"rates=1j must be finite with a real part > 0"),
        (lambda: Weibull().restricted_mean(-1.0), r"time=-1\.0 must be finite and >= 0"),
        (lambda: Weibull().sample(-1, np.random.default_rng(0)), "n=-1 must be a whole number >= 0"),
        (lambda: SurvivalLaw(lambda t: 0.9 * np.exp(-t)), r"function gives Psi\(0\)=0\.9; it must be 1"),
        (lambda: SurvivalLaw(lambda t: np.exp(-t), probability=0.0), r"probability=0\.0 must be > 0 and <= 1"),
        (lambda: SurvivalLaw(lambda t: np.exp(t)).survival(1.0), r"Psi\(1\.0\)=2\.718.*; it must be from 0 to 1"),
        (lambda: SurvivalLaw(lambda t: np.ones(2)), r"function returns shape \(2,\) for times of shape \(\)"),
        (lambda: Deterministic(0.0), r"time=0\.0 must be finite and > 0"),
        (lambda: Mixture((), ()), "laws is empty"),
        (lambda: Mixture((Deterministic(1.0),), (0.5,)), r"weights sums to 0\.5; it must be 1"),
        (lambda: Mixture((Deterministic(1.0),), (0.5, 0.5)), r"weights has shape \(2,\); it must be \(1,\)"),
    ],
)
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_survival_that_is_not_a_number_is_refused() -> None:
    class Broken(PassageLaw):
        def survival(self, time: npt.ArrayLike) -> np.ndarray:
            t = nonnegative("time", time)
            return np.where(t > 10, np.nan, np.exp(-t))

    with pytest.raises(ValueError, match="survival is nan or infinite between"):
        Broken().quantile(0.5)
