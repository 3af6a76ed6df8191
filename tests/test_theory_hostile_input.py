"""Hostile numbers into the public theory: a finite answer (or an infinite one), or a ValueError; nothing else.

Warnings are errors here. A line of `CASES` names a function, the strategies of its arguments, and what must hold of its
answer. Half of the numbers are usual; the others are extreme, infinite, nan, or of another type.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import theory
from theory import ReshuffledEvery, ShuffledOnce

Strategy = st.SearchStrategy[Any]

REFUSED = object()
"""What stands for an argument that its own class refused."""

ODD = (
    0.0,
    -0.0,
    5e-324,
    1e-300,
    1e-160,
    1e-9,
    0.999999,
    1.0 + 1e-12,
    7,
    1e6,
    1e16,
    1e160,
    1e308,
    -1.0,
    -1e-300,
    -1e308,
)
ODD += (math.nan, math.inf, -math.inf, True, False, np.float32(0.5), np.int64(3), np.float64(2.5), np.bool_(True))
ODD_COUNTS = (
    0,
    -1,
    7,
    10**18 + 1,
    2**63,
    10**30,
    True,
    np.int64(4),
    np.int32(5),
    2.5,
    np.float64(3.0),
    math.nan,
    math.inf,
)


def number(*usual: float) -> Strategy:
    return st.sampled_from(usual * (len(ODD) // len(usual)) + ODD)


def count(*usual: int, largest: float = math.inf) -> Strategy:
    """A whole number; what would make large arrays is left out by ``largest``."""
    odd = tuple(value for value in ODD_COUNTS if not largest < value < math.inf)
    return st.sampled_from(usual * (2 * len(odd) // len(usual)) + odd)


def array(item: Strategy, sizes: Sequence[int] = (0, 1, 2, 3, 5)) -> Strategy:
    lists = st.sampled_from(sizes).flatmap(lambda n: st.lists(item, min_size=n, max_size=n))
    return st.one_of(lists, lists.map(partial(np.array, dtype=float)), lists, item, st.just(np.full((2, 2), 0.5)))


def made(maker: Callable[..., Any], *arguments: Strategy, **named: Strategy) -> Strategy:
    """An object, or `REFUSED`."""

    def attempt(given_arguments: tuple[Any, ...], given_names: dict[str, Any]) -> Any:
        if REFUSED in map(id_or_value, given_arguments):
            return REFUSED
        try:
            return maker(*given_arguments, **given_names)
        except ValueError:
            return REFUSED

    return st.tuples(st.tuples(*arguments), st.fixed_dictionaries(named)).map(lambda both: attempt(*both))


def id_or_value(value: Any) -> Any:
    """Arrays cannot be compared by ==."""
    return value if value is REFUSED else None


POSITIVE, SIGNED, SHARE = (
    number(0.1, 0.5, 1.0, 2.0),
    number(-1.0, -0.5, 0.0, 0.3, 1.0, 2.0),
    number(0.1, 0.25, 0.5, 0.9),
)
EPOCHS, FEW = count(1, 2, 3, 5, largest=1000), count(1, 2, 3)
TIMES = array(number(0.0, 0.1, 1.0, 3.0))

LAW = st.one_of(
    made(theory.Deterministic, POSITIVE),
    made(theory.Exponential, POSITIVE),
    made(theory.Gamma, POSITIVE, POSITIVE),
    made(theory.erlang, FEW, POSITIVE),
    made(theory.Weibull, POSITIVE, POSITIVE),
    made(theory.LogNormal, SIGNED, POSITIVE),
    made(theory.Pareto, number(0.5, 1.5, 2.5), POSITIVE),
    made(theory.Brownian, POSITIVE, POSITIVE),
    made(theory.DriftDiffusion, POSITIVE, SIGNED, POSITIVE),
    made(theory.Interval, number(1.0, 2.0), SHARE, POSITIVE),
    made(theory.Hyperexponential, st.just((0.5, 0.5)), st.tuples(POSITIVE, POSITIVE)),
    made(theory.EmpiricalLaw, array(POSITIVE)),
)
QUICK_LAW = st.sampled_from(
    [
        *(theory.Exponential(1.0), theory.Gamma(2.0, 0.5), theory.Weibull(0.5, 1.0), theory.Pareto(2.5, 1.0)),
        *(theory.Brownian(1.0, 1.0), theory.DriftDiffusion(1.0, -1.0, 1.0), theory.Deterministic(1.0)),
        theory.EmpiricalLaw(np.array([1.0, 2.0, 2.0, 5.0])),
    ]
)
TIMER = st.one_of(made(theory.Exponential, POSITIVE), made(theory.Deterministic, POSITIVE))
RESTARTED = made(theory.Restarted, QUICK_LAW, TIMER, number(0.0, 0.1))

MODES = made(theory.HeavyBall, number(0.1, 0.01), array(number(0.1, 1.0, 3.0)), number(0.0, 0.5, 0.9))
NOISE = st.one_of(
    made(theory.WhiteNoise, POSITIVE),
    made(theory.Reshuffled, FEW, POSITIVE),
    made(ReshuffledEvery, count(2, 3, largest=50), count(1, 2, largest=50), POSITIVE),
    made(ShuffledOnce, count(2, 5, largest=50), POSITIVE),
    made(theory.Persistent, SHARE, POSITIVE),
    made(theory.AntiCorrelatedIncrements, POSITIVE),
    made(theory.TabulatedNoise, array(number(1.0, 0.2, -0.1))),
)
TWO_MODES = st.sampled_from([theory.HeavyBall(0.1, [0.5, 2.0]), theory.HeavyBall(0.1, [0.5, 2.0], 0.9)])
USUAL_NOISE = st.sampled_from(
    [theory.WhiteNoise(1.0), theory.Reshuffled(5), ShuffledOnce(4), theory.Persistent(0.5), ReshuffledEvery(3, 2)]
)

SURVIVAL = st.one_of(
    st.tuples(st.sampled_from([0.5, 0.9, 1 - 1e-12, 1e-300, 1.0]), st.sampled_from([1, 4, 8])).map(
        lambda both: both[0] ** np.arange(both[1] + 1.0)
    ),
    array(SHARE).map(partial(np.asarray, dtype=float)),
)
CHAIN = made(theory.Chain, array(SHARE).map(lambda row: [row, row]), array(SHARE))
TWO_STATES = st.just(theory.Chain(np.array([[0.5, 0.3], [0.2, 0.6]]), np.array([0.5, 0.5])))
KERNEL = st.one_of(st.just(np.eye(2)), st.lists(st.lists(SHARE, min_size=2, max_size=2), min_size=2, max_size=2))
PASSAGES = st.lists(st.tuples(st.sampled_from([1, 2, 3, 5, 0, -1]), st.booleans()), min_size=0, max_size=6).flatmap(
    lambda runs: made(
        theory.FirstPassages,
        st.just(np.array([t for t, _ in runs], dtype=int)),
        st.just(np.array([o for _, o in runs])),
    )
)
SURVIVED = PASSAGES.flatmap(lambda passages: made(theory.Survival.of, st.just(passages)))
ESTIMATE = made(theory.Estimate, SIGNED, number(0.1, 1.0), count(2, 10, 200))
COMPARISON = made(partial(theory.compare, "quantity"), ESTIMATE, ESTIMATE)
POTENTIAL = st.sampled_from(["x**2", "(x**2-1)**2", "x", "1e-90*x**2", "x**4-x**2"]).map(theory.potential)
LINK = st.one_of(
    made(theory.ErfLink, number(-3.0, -1.0), number(1.0, 2.0)), made(theory.CloglogLink, SIGNED, number(1.0, 0.5))
)
VALLEY = made(theory.Valley, count(1, 2, 5), number(0.1, 0.01))
MODEL = made(theory.MixturePerceptron, number(1.0, 2.0), number(0.5, 1.0))
LOOP = made(theory.CoolingLoop, number(1.0, 0.5))


def calls(name: str) -> Callable[..., Any]:
    """A method or property of the first argument."""

    def call(owner: Any, *arguments: Any) -> Any:
        member = getattr(owner, name)
        return member(*arguments) if callable(member) else member

    return call


# ---- What must hold of answers -----------------------------------------------------------------------------------


def is_share(result: Any, *_: Any) -> bool:
    values = np.asarray(result)
    return bool(((values >= 0) & (values <= 1)).all())


def not_negative(result: Any, *_: Any) -> bool:
    return bool((np.asarray(result) >= 0).all())


def falls_in_time(result: Any, _law: Any, times: Any) -> bool:
    order = np.argsort(np.ravel(times), kind="stable")
    return is_share(result) and bool((np.diff(np.ravel(result)[order]) <= 1e-8).all())


def at_most(limit: Any, result: Any) -> bool:
    return bool(np.all(np.asarray(result) <= np.asarray(limit) * (1 + 1e-9)))


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its arguments, and what holds of (result, *arguments)."""

    call: Callable[..., Any]
    arguments: tuple[Strategy, ...]
    holds: Callable[..., bool] = lambda *_: True


def case(call: Callable[..., Any], *arguments: Strategy, holds: Callable[..., bool] = lambda *_: True) -> Case:
    return Case(call, arguments, holds)


def law_case(name: str, *arguments: Strategy, holds: Callable[..., bool] = not_negative) -> Case:
    return Case(calls(name), (LAW, *arguments), holds)


CASES = {
    # Laws
    "survival": law_case("survival", TIMES, holds=falls_in_time),
    "arrived": law_case("arrived", TIMES, holds=is_share),
    "density": law_case("density", TIMES),
    "hazard": law_case("hazard", TIMES),
    "laplace": law_case("laplace", number(0.0, 0.1, 1.0), holds=is_share),
    "moment": law_case("moment", FEW),
    "mean": law_case("mean"),
    "variance": law_case("variance"),
    "arrival_probability": law_case("arrival_probability", holds=is_share),
    "restricted_mean": law_case("restricted_mean", number(0.1, 1.0, 3.0), holds=lambda r, _, h: 0 <= r <= h),
    "quantile": law_case("quantile", array(SHARE)),
    # Restart
    "Restarted.mean": case(calls("mean"), RESTARTED, holds=lambda r, law: r >= 0),
    "Restarted.variance": case(calls("variance"), RESTARTED, holds=not_negative),
    "Restarted.laplace": case(calls("laplace"), RESTARTED, number(0.1, 1.0), holds=is_share),
    "Restarted.survival": case(calls("survival"), RESTARTED, array(number(0.5, 2.0), (1, 2)), holds=is_share),
    "restart_helps": case(theory.restart_helps, LAW, number(0.0, 0.1)),
    "optimal_rate": case(
        theory.optimal_rate, QUICK_LAW, number(0.0, 0.1), holds=lambda r, law, _: at_most(law.mean, r.mean)
    ),
    "optimal_interval": case(
        theory.optimal_interval, QUICK_LAW, number(0.0), holds=lambda r, law, _: at_most(law.mean, r.mean)
    ),
    "sharp_restart_mean": case(theory.sharp_restart_mean, SURVIVAL, FEW, number(0.0, 1.0)),
    "sharp_restart_restricted_mean": case(
        theory.sharp_restart_restricted_mean, SURVIVAL, FEW, EPOCHS, holds=lambda r, s, _, h: at_most(h, r)
    ),
    "optimal_restart_interval": case(theory.optimal_restart_interval, SURVIVAL, number(0.0, 1.0)),
    "geometric_restart_mean": case(partial(theory.geometric_restart_mean, consumes_epoch=True), SURVIVAL, SHARE),
    # Other perturbations
    "poisson_slope": case(theory.poisson_slope, POSITIVE, POSITIVE, POSITIVE),
    "cv_squared_from_slope": case(theory.cv_squared_from_slope, POSITIVE, POSITIVE, SIGNED, holds=not_negative),
    "feedback_mean": case(theory.feedback_mean, POSITIVE, SIGNED, POSITIVE, POSITIVE, holds=not_negative),
    "perturbed_variance": case(
        lambda k, d, p, s, g: theory.perturbed_variance(stiffness=k, diffusivity=d, interval=p, shrink=s, perturb=g),
        *(POSITIVE, POSITIVE, POSITIVE, SHARE, POSITIVE),
        holds=lambda r, *_: r.before >= 0 and r.after >= 0,
    ),
    # Chains
    "restart_kernel": case(theory.restart_kernel, CHAIN),
    "mean_first_passage_time": case(theory.mean_first_passage_time, CHAIN, holds=not_negative),
    "periodic_mean": case(theory.periodic_mean, TWO_STATES, KERNEL, FEW, holds=not_negative),
    "periodic_survival": case(theory.periodic_survival, TWO_STATES, KERNEL, FEW, EPOCHS, holds=is_share),
    "residual_survival_once": case(theory.residual_survival_once, TWO_STATES, KERNEL, FEW, EPOCHS, holds=is_share),
    "quasi_stationary_state": case(theory.quasi_stationary_state, CHAIN),
    "waiting_time_chain": case(theory.waiting_time_chain, array(count(1, 2, 3)), array(SHARE)),
    # A coordinate
    "mean_escape_time": case(
        lambda u, d, a, b: theory.mean_escape_time(u, diffusivity=d, start=a, target=b),
        *(POTENTIAL, POSITIVE, SIGNED, number(1.0, 2.0)),
        holds=not_negative,
    ),
    "interval_exit": case(
        lambda u, d, a, low, high: theory.interval_exit(u, diffusivity=d, start=a, lower=low, upper=high),
        *(POTENTIAL, POSITIVE, number(0.0, 0.5), number(-1.0, -2.0), number(1.0, 2.0)),
    ),
    "Potential.value": case(calls("value"), POTENTIAL, array(number(-1.0, 0.5).filter(lambda x: abs(x) < 1e30))),
    # Measured first passages
    "FirstPassages.counts": case(lambda passages: passages.counts(), PASSAGES),
    "Survival": case(lambda s: (s.values, s.standard_error, s.hazard), SURVIVED, holds=lambda r, _: is_share(r[0])),
    "Survival.band": case(
        calls("band"),
        *(SURVIVED, number(0.95, 0.5)),
        holds=lambda r, s, _: (
            is_share(r) and bool((r[0] <= s.values + 1e-12).all() and (r[1] >= s.values - 1e-12).all())
        ),
    ),
    "Survival.restricted_mean": case(
        calls("restricted_mean"), SURVIVED, EPOCHS, holds=lambda r, _, h: 0 <= r.value <= h * (1 + 1e-12)
    ),
    "Survival.padded": case(calls("padded"), SURVIVED, EPOCHS, holds=is_share),
    "Survival of counts": case(
        lambda at_risk, events: theory.Survival(np.asarray(at_risk, float), np.asarray(events, float)).standard_error,
        *(array(number(5.0, 3.0)), array(number(0.0, 1.0))),
        holds=not_negative,
    ),
    "PerturbedOnce": case(theory.PerturbedOnce, PASSAGES, FEW, FEW),
    "constant_hazard_test": case(theory.constant_hazard_test, SURVIVED, count(0, 1)),
    "renewal_mean": case(theory.renewal_mean, SURVIVAL, SURVIVAL, FEW),
    "resolution_needed": case(lambda e, p: theory.resolution_needed(e, power=p), ESTIMATE, number(0.8, 0.9)),
    # Estimates
    "Estimate.from_samples": case(theory.Estimate.from_samples, array(SIGNED)),
    "Estimate.scaled": case(calls("scaled"), ESTIMATE, SIGNED),
    "agreement": case(theory.agreement, array(number(0.1, 0.2, 0.5), (200,)), SIGNED),
    "compare": case(lambda comparison: comparison, COMPARISON, holds=lambda r, _: 0 <= r.p_value <= 1),
    "holm": case(theory.holm, st.lists(COMPARISON, max_size=3), number(0.01, 0.05)),
    # Noise and weights
    "noise.autocovariance": case(calls("autocovariance"), NOISE, array(count(0, 1, 2))),
    "noise.spectrum": case(calls("spectrum"), NOISE, array(number(0.0, 0.1, 3.14)), holds=not_negative),
    "noise.sum": case(calls("sum_of_autocovariance"), NOISE, holds=not_negative),
    "WhiteNoise.with_replacement": case(theory.WhiteNoise.with_replacement, POSITIVE, count(10, 100), FEW),
    "Reshuffled.of_examples": case(theory.Reshuffled.of_examples, POSITIVE, count(10, 100), FEW),
    "Persistent.two_state": case(theory.Persistent.two_state, POSITIVE, count(10, 100), FEW, SHARE),
    "HeavyBall.power_gain": case(calls("power_gain"), MODES, number(0.0, 0.1, 3.0), holds=not_negative),
    "stationary_variances of noise": case(
        theory.stationary_variances, TWO_MODES, NOISE, holds=lambda r, *_: not_negative(r.weight)
    ),
    "stationary_variances of modes": case(
        theory.stationary_variances, MODES, USUAL_NOISE, holds=lambda r, *_: not_negative(r.weight)
    ),
    "stationary_covariance": case(
        lambda h, c, noise, rate: theory.stationary_covariance(np.diag([h, 1.0]), np.diag([c, 1.0]), noise, rate),
        *(number(0.1, 1.0), number(0.1, 1.0), USUAL_NOISE, number(0.1)),
    ),
    "squared_displacements": case(
        theory.squared_displacements, TWO_MODES, NOISE, count(1, 5, largest=1000), holds=not_negative
    ),
    "weight_autocovariance": case(theory.weight_autocovariance, MODES, USUAL_NOISE, count(1, 5, largest=1000)),
    "loss_fluctuations": case(theory.loss_fluctuations, TWO_MODES, NOISE, array(POSITIVE)),
    "crossover_curvature": case(
        theory.crossover_curvature, number(0.1), count(2, 5), number(0.0, 0.9), holds=not_negative
    ),
    "second_crossover_curvature": case(
        theory.second_crossover_curvature, SHARE, number(0.1), count(2, 5), number(0.0, 0.9)
    ),
    "lag_temperature": case(theory.lag_temperature, MODES, USUAL_NOISE, array(count(1, 2, 5, largest=1000))),
    "spectral_temperature": case(
        theory.spectral_temperature, MODES, USUAL_NOISE, array(number(0.1, 1.0)), holds=not_negative
    ),
    "static_temperatures": case(
        theory.static_temperatures, TWO_MODES, NOISE, holds=lambda r, *_: not_negative(r.configurational)
    ),
    # Mean field
    "MixturePerceptron.test_error": case(calls("test_error"), MODEL, array(SIGNED), array(POSITIVE), holds=is_share),
    "PersistentBatches.paths": case(
        lambda b, tau, n: next(theory.PersistentBatches(b, tau).paths(n, 0.1, np.random.default_rng(0))),
        *(SHARE, POSITIVE, count(4, 8, largest=1000)),
        holds=not_negative,
    ),
    # The widening valley
    "pgd_moments": case(theory.pgd_moments, VALLEY, number(0.1, 0.01), number(0.5, 1.0), EPOCHS),
    "anti_pgd_moments": case(theory.anti_pgd_moments, VALLEY, number(0.1, 0.01), number(0.5, 1.0), EPOCHS),
    "anti_pgd_floor": case(theory.anti_pgd_floor, VALLEY, number(0.1), holds=not_negative),
    "pgd_flow": case(theory.pgd_flow, VALLEY, number(0.1), number(0.5), array(count(0, 1, 5)), holds=not_negative),
    "anti_pgd_flow": case(
        theory.anti_pgd_flow, VALLEY, number(0.1), number(0.5), array(count(0, 1, 5)), holds=not_negative
    ),
    "smoothing_variance": case(theory.smoothing_variance, VALLEY, NOISE, holds=not_negative),
    # Activation patterns
    "temperature_of": case(theory.temperature_of, array(SHARE)),
    "share_of": case(theory.share_of, array(SHARE), holds=is_share),
    "temperature_of_counts": case(theory.temperature_of_counts, count(0, 1, 3), count(5, 10)),
    "link.share": case(calls("share"), LINK, array(SIGNED), holds=is_share),
    "link.inverse": case(calls("inverse"), LINK, array(SHARE)),
    "link.temperature": case(calls("temperature"), LINK, array(SIGNED), holds=not_negative),
    "link.log_rate": case(calls("log_rate"), LINK, array(SHARE)),
    "link.slope": case(calls("slope"), LINK, array(SHARE), holds=not_negative),
    "GaussianFlips.share": case(
        lambda n, d, x: theory.GaussianFlips(n, d).share(x), count(1, 64), POSITIVE, array(SIGNED), holds=is_share
    ),
    "fit_link_to_counts": case(
        lambda x, n: theory.fit_link_to_counts(x, [2, 5, 8], n), array(number(-1.0, 0.0, 1.0), (3,)), count(10, 20)
    ),
    "fit_link_to_shares": case(
        theory.fit_link_to_shares, array(number(-1.0, 0.0, 1.0), (3,)), st.just([0.1, 0.4, 0.8])
    ),
    "CoolingLoop.error_after": case(calls("error_after"), LOOP, SIGNED, array(count(0, 1, 5))),
    "CoolingLoop.measurements_until": case(calls("measurements_until"), LOOP, SHARE, holds=not_negative),
    "CoolingLoop.variance_of_noise": case(calls("variance_of_noise"), LOOP, POSITIVE, holds=not_negative),
    "target_curve": case(theory.target_curve, array(SHARE), POSITIVE, SHARE, SHARE),
    # Noise on the weights
    "injected_variances": case(theory.injected_variances, MODES, POSITIVE),
    "noisy_variances": case(theory.noisy_variances, TWO_MODES, POSITIVE, NOISE),
    "noise_temperature": case(theory.noise_temperature, number(0.1), number(0.0, 0.9), POSITIVE, number(0.0, 1.0)),
    "PhaseThresholds": case(
        lambda v, u, a, b: theory.PhaseThresholds(v, u).phase(a, b), POSITIVE, POSITIVE, POSITIVE, POSITIVE
    ),
}


def holds_nan(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" and bool(np.isnan(value).any())
    if isinstance(value, float | complex | np.number):
        return bool(value != value)
    if isinstance(value, list | tuple):
        return any(map(holds_nan, value))
    if dataclasses.is_dataclass(value):
        return any(holds_nan(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False


def check(tried: Case, examples: int) -> None:
    @settings(
        max_examples=examples, database=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(st.tuples(*tried.arguments))
    def run(arguments: tuple[Any, ...]) -> None:
        flat = [item for value in arguments for item in (value if isinstance(value, list) else [value])]
        if any(value is REFUSED for value in flat):
            return
        try:
            result = tried.call(*arguments)
        except np.linalg.LinAlgError:
            raise  # a ValueError that does not say which argument is wrong
        except ValueError:
            return
        assert not holds_nan(result), f"nan: {result}"
        assert tried.holds(result, *arguments), result

    run()


@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses(name: str) -> None:
    check(CASES[name], 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses_much_more(name: str) -> None:
    check(CASES[name], 150)


def warned(x: float) -> float:
    return float(np.exp(np.float64(x)))


@pytest.mark.parametrize(
    "wrong",
    [
        case(lambda x: x * 0, number(1.0)),
        case(lambda x: 1 / x, number(1.0)),
        case(lambda x: int(x), number(1.0)),
        case(lambda x: [1][int(x)], st.just(3)),
        case(warned, number(1.0)),
        case(lambda x: x, number(0.5), holds=is_share),
        case(lambda n: np.linalg.inv(np.zeros((n, n))), st.just(2)),
    ],
    ids=["nan", "division by zero", "overflow", "index", "warning", "property", "linear algebra"],
)
def test_the_check_finds_what_it_looks_for(wrong: Case) -> None:
    with pytest.raises((AssertionError, ArithmeticError, IndexError, RuntimeWarning, np.linalg.LinAlgError)):
        check(wrong, 100)


# ---- Relations between answers --------------------------------------------------------------------------------

relations = settings(max_examples=30, database=None)
RATES = st.floats(1e-3, 0.5)


@relations
@given(RATES, st.floats(1e-3, 1.0), st.floats(0.0, 0.95), st.integers(2, 200))
def test_reshuffling_never_widens_the_weights(rate: float, curvature: float, momentum: float, batches: int) -> None:
    modes = theory.HeavyBall(rate, [curvature], momentum)
    white = theory.stationary_variances(modes, theory.WhiteNoise(1.0)).weight
    assert at_most(white, theory.stationary_variances(modes, theory.Reshuffled(batches)).weight)


@relations
@given(st.floats(-6.0, 2.0), st.floats(0.1, 3.0), st.lists(st.floats(-8.0, 3.0), min_size=2, max_size=6))
def test_links_rise_and_invert(location: float, scale: float, log_rates: list[float]) -> None:
    for link in (theory.ErfLink(location, scale), theory.CloglogLink(location, scale)):
        share = link.share(sorted(log_rates))
        assert bool((np.diff(share) >= 0).all())
        known = (share > 1e-6) & (share < 1 - 1e-6)
        assert link.inverse(share[known]) == pytest.approx(np.sort(log_rates)[known], abs=1e-6)


@relations
@given(st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_bonferroni_does_and_nothing_that_passes_alone(zs: list[float], significance: float) -> None:
    comparisons = [theory.compare("q", theory.Estimate(0.0, 0.0, 1), theory.Estimate(z, 1.0, 200)) for z in zs]
    for before, after in zip(comparisons, theory.holm(comparisons, significance), strict=True):
        rejected = after.verdict == "disagrees"
        assert rejected or before.p_value > significance / len(zs) * (1 - 1e-9)
        assert not rejected or before.p_value <= significance


@relations
@given(st.floats(0.1, 5.0), st.floats(0.05, 5.0), st.floats(0.1, 10.0))
def test_restarted_means_have_bounds(shape: float, interval: float, horizon: float) -> None:
    law = theory.Gamma(shape, 1.0)
    restarted = theory.Restarted(law, theory.Deterministic(interval))
    assert restarted.mean >= law.restricted_mean(interval) * (1 - 1e-9)
    assert restarted.restricted_mean(horizon) <= min(horizon, restarted.mean) * (1 + 1e-9)
