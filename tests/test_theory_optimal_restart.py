"""Anchors are from reference/first_passage.md, sections 4.2 to 4.6."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.diffusion_laws import Brownian, DriftDiffusion, Interval, OrnsteinUhlenbeck
from theory.heavy_tailed_times import LogNormal, Pareto, Weibull
from theory.optimal_restart import Optimum, optimal_interval, optimal_rate
from theory.passage_laws import Deterministic, EmpiricalLaw, Mixture, PassageLaw, SurvivalLaw
from theory.resetting import Restarted
from theory.restart_criterion import restart_helps
from theory.waiting_times import Exponential, Gamma, Hyperexponential, erlang

HYPER = Hyperexponential((0.5, 0.5), (10.0, 0.1))
DRIFTING = {  # Pe: (r* L^2 / D, T* D / L^2)
    -0.5: (3.57706140434915512, 2.98050232772179331),
    0.25: (1.97654414408879264, 1.13719337927973784),
    0.5: (1.37200780244036808, 0.850952590413319475),
    0.75: (0.716405088366530984, 0.647094797017269054),
    0.9: (0.29447407193089191, 0.553279377799143597),
}


def check(optimum: Optimum, value: float, mean: float, boundary: str | None) -> None:
    assert (optimum.value, optimum.boundary) == (value, boundary)
    assert optimum.mean == pytest.approx(mean, rel=1e-9)


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "rate", "mean"),
    [
        (Brownian(1.0, 1.0), 2.53963828218816532, 1.54413865237087009),
        (Interval(1.0, 0.1, 1.0), 253.9443514162387, 0.01544133253423609),
        (LogNormal(0.0, 1.0), 0.3671892426302198, 1.556271562912724),
        *((DriftDiffusion(1.0, 2 * peclet, 1.0), *best) for peclet, best in DRIFTING.items()),
    ],
)
def test_best_rates(law: PassageLaw, rate: float, mean: float) -> None:
    optimum = optimal_rate(law)
    assert optimum.boundary is None
    assert optimum.value == pytest.approx(rate, rel=1e-11)
    assert optimum.mean == pytest.approx(mean, rel=1e-13)


@pytest.mark.parametrize(
    ("law", "interval", "mean"),
    [
        (Brownian(1.0, 1.0), 0.45850276945959186, 1.33588566954930544),
        (LogNormal(0.0, 1.0), 1.731644546117761, 1.471025418506487),
    ],
)
def test_best_intervals(law: PassageLaw, interval: float, mean: float) -> None:
    optimum = optimal_interval(law)
    assert optimum.boundary is None
    assert optimum.value == pytest.approx(interval, rel=1e-12)
    assert optimum.mean == pytest.approx(mean, rel=1e-13)


# ---- At the edge -----------------------------------------------------------------------------------------------------


def test_decreasing_hazard_wants_endless_restarts() -> None:
    often, short = optimal_rate(HYPER), optimal_interval(HYPER)
    assert (often.value, often.boundary, short.value, short.boundary) == (math.inf, "infinite", 0.0, "zero")
    assert often.mean == pytest.approx(1 / 5.05, rel=1e-10)  # 1 / f(0)
    assert short.mean == pytest.approx(1 / 5.05, rel=1e-10)
    for law, mean in (
        (Weibull(0.5, 1.0), 0.0),
        (Gamma(0.3, 2.0), 0.0),
        (Pareto(0.5, 2.0), 4.0),
        (Pareto(3.0, 2.0), 2 / 3),
    ):
        check(optimal_rate(law), math.inf, mean, "infinite")
        check(optimal_interval(law), 0.0, mean, "zero")


@pytest.mark.parametrize(
    "law", [erlang(2, 1.0), Weibull(2.0, 3.0), Interval(1.0, 0.5, 1.0), DriftDiffusion(1.0, 8.0, 1.0)]
)
def test_even_runs_want_no_restart(law: PassageLaw) -> None:
    assert optimal_rate(law) == Optimum(0.0, law.mean, "zero")
    assert not restart_helps(law).helps


@pytest.mark.parametrize("law", [erlang(2, 1.0), Weibull(2.0, 3.0), Deterministic(2.0)])
def test_increasing_hazard_wants_no_sharp_restart(law: PassageLaw) -> None:
    assert optimal_interval(law) == Optimum(math.inf, law.mean, "infinite")


@pytest.mark.parametrize("rate", [1e-7, 1 / 3, 1.0, 1e6])
def test_without_memory_every_restart_is_the_same(rate: float) -> None:
    check(optimal_rate(Exponential(rate)), 0.0, 1 / rate, "neutral")
    check(optimal_interval(Exponential(rate)), math.inf, 1 / rate, "neutral")
    # Any cost decides.
    assert optimal_rate(Exponential(rate), 0.01 / rate).boundary == "zero"
    assert optimal_interval(Exponential(rate), 0.01 / rate).boundary == "infinite"


# ---- Conditions of stationarity --------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.floats(-0.9, 0.97), st.floats(-6, 6))
def test_inside_the_coefficient_of_variation_is_one(peclet: float, log_scale: float) -> None:
    scale = 10**log_scale
    law = DriftDiffusion(1.0, 2 * peclet / scale, 1 / scale)  # time in units of `scale`
    optimum = optimal_rate(law)
    assert optimum.boundary is None
    restarted = Restarted(law, Exponential(optimum.value))
    assert restarted.coefficient_of_variation == pytest.approx(1, abs=1e-8)
    assert optimum.mean == pytest.approx(restarted.mean, rel=1e-12)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert Restarted(law, Exponential(factor * optimum.value)).mean > optimum.mean


@pytest.mark.parametrize(
    "law", [Brownian(1.0, 1.0), LogNormal(0.0, 1.0), DriftDiffusion(2.0, 0.3, 0.7), Interval(1.0, 0.1, 1.0)]
)
def test_inside_the_hazard_is_one_over_the_mean(law: PassageLaw) -> None:
    optimum = optimal_interval(law)
    assert optimum.boundary is None
    assert float(law.hazard(optimum.value)) * optimum.mean == pytest.approx(1, abs=1e-8)
    assert optimum.mean < optimal_rate(law).mean
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert Restarted(law, Deterministic(factor * optimum.value)).mean > optimum.mean


@pytest.mark.parametrize("overhead", [0.05, 0.4, Gamma(2.0, 0.1)])
@pytest.mark.parametrize("law", [HYPER, Brownian(1.0, 1.0), LogNormal(0.0, 1.2)])
def test_with_overhead_nothing_near_is_better(law: PassageLaw, overhead) -> None:
    rate, interval = optimal_rate(law, overhead), optimal_interval(law, overhead)
    assert rate.boundary is None
    assert interval.boundary is None
    assert interval.mean < rate.mean
    assert rate.mean == pytest.approx(Restarted(law, Exponential(rate.value), overhead).mean, rel=1e-12)
    assert interval.mean == pytest.approx(Restarted(law, Deterministic(interval.value), overhead).mean, rel=1e-12)
    for factor in (0.5, 0.98, 1.02, 2.0):
        assert Restarted(law, Exponential(factor * rate.value), overhead).mean > rate.mean
        assert Restarted(law, Deterministic(factor * interval.value), overhead).mean > interval.mean


# ---- Several minima --------------------------------------------------------------------------------------------------


def test_the_best_of_several_intervals() -> None:
    """Runs end near 1 with probability a, near 20 with b, else hardly ever: two minima, and which is lower depends."""

    def law(early: float, middle: float) -> Mixture:
        parts = (erlang(400, 400.0), erlang(400, 20.0), Exponential(1e-4))
        return Mixture(parts, (early, middle, 1 - early - middle))

    after_early = optimal_interval(law(0.3, 0.6))
    assert 1 < after_early.value < 1.5
    after_middle = optimal_interval(law(0.02, 0.9))
    assert 20 < after_middle.value < 25
    for optimum, known in ((after_early, law(0.3, 0.6)), (after_middle, law(0.02, 0.9))):
        grid = np.geomspace(0.5, 1e3, 400)
        assert optimum.mean <= min(Restarted(known, Deterministic(float(p))).mean for p in grid)


def test_rates_many_decades_apart() -> None:
    law = Mixture((erlang(5, 5e6), erlang(5, 5.0), Exponential(1e-7)), (0.1, 0.4, 0.5))
    optimum = optimal_rate(law)
    assert optimum.boundary is None
    grid = np.geomspace(1e-9, 1e9, 400)
    assert optimum.mean <= min(Restarted(law, Exponential(float(r))).mean for r in grid)


# ---- Data ------------------------------------------------------------------------------------------------------------


def test_measured_times() -> None:
    times = np.array([1.0, 2.0, 2.0, 3.0, 50.0, 60.0])
    law = EmpiricalLaw(times)
    means = {p: np.minimum(times, p).sum() / (times <= p).sum() for p in (1.0, 2.0, 3.0, 50.0)}
    check(optimal_interval(law), 3.0, min(means.values()), None)
    check(optimal_interval(law, 1e3), math.inf, times.mean(), "infinite")
    rate = optimal_rate(law)
    assert rate.boundary is None
    assert Restarted(law, Exponential(rate.value)).coefficient_of_variation == pytest.approx(1, abs=1e-8)
    even = EmpiricalLaw(np.array([2.0, 2.0, 2.1]))
    assert (optimal_rate(even).boundary, optimal_interval(even).boundary) == ("zero", "infinite")


def test_a_law_of_one_s_own() -> None:
    """Only its survival is known: less accurate, but the same optimum."""
    known = LogNormal(0.0, 1.0)
    law = SurvivalLaw(known.survival)
    assert optimal_rate(law).value == pytest.approx(0.3671892426302198, rel=1e-8)
    assert optimal_interval(law).value == pytest.approx(1.731644546117761, rel=1e-6)


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    for optimise in (optimal_rate, optimal_interval):
        with pytest.raises(ValueError, match=r"overhead=-1.0 must be finite and >= 0"):
            optimise(HYPER, -1.0)
    with pytest.raises(ValueError, match=r"EmpiricalLaw has no density"):
        optimal_interval(Mixture((EmpiricalLaw(np.array([1.0, 2.0])), HYPER), (0.5, 0.5)))


# ---- Far from the typical time ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_way_to_a_high_target() -> None:
    """From 5.5 to 7 the mean is 1.6e10 relaxation times, but a few attempts in 1e4 succeed at once."""
    law = OrnsteinUhlenbeck(start=5.5, target=7.0, stiffness=1.0, diffusivity=1.0)
    rate, interval = optimal_rate(law), optimal_interval(law)
    assert (rate.boundary, interval.boundary) == (None, None)
    assert 1 < rate.value < 20
    assert 0.1 < interval.value < 1
    assert interval.mean < rate.mean < 1e-6 * law.mean
    for factor in (0.9, 1.1):
        assert Restarted(law, Exponential(factor * rate.value)).mean > rate.mean
        assert Restarted(law, Deterministic(factor * interval.value)).mean > interval.mean


def test_optima_more_than_nine_decades_from_the_median() -> None:
    law = LogNormal(0.0, 5.0)
    rate, interval = optimal_rate(law), optimal_interval(law)
    assert (rate.boundary, interval.boundary) == (None, None)
    assert float(law.hazard(interval.value)) * interval.mean == pytest.approx(1, abs=1e-8)
    assert interval.value < 1e-10
    assert rate.value > 1e9
    assert Restarted(law, Exponential(rate.value)).coefficient_of_variation == pytest.approx(1, abs=1e-6)
    fast = Hyperexponential((0.1, 0.9), (1e14, 1.0))  # 1 / f(0) = 1e-13
    assert optimal_rate(fast).mean == pytest.approx(1e-13, rel=1e-4)
    assert optimal_interval(fast).mean == pytest.approx(1e-13, rel=1e-4)


@pytest.mark.parametrize("law", [Brownian(1e-100, 1.0), Brownian(1e100, 1.0), Gamma(1e-3, 1.0)])
def test_times_out_of_the_range_of_numbers(law: PassageLaw) -> None:
    for optimise in (optimal_rate, optimal_interval):
        with pytest.raises(ValueError, match=r"the typical time .* must lie between 1e-140 and 1e\+140"):
            optimise(law)
