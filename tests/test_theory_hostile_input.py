"""Hostile numbers into the public theory of first passages: a finite answer (or an infinite one), or a ValueError.

Nothing else: warnings are errors here. A line of `CASES` names a function, the strategies of its arguments, and what
must hold of its answer. test_theory_hostile_noise.py has gradient noise, weights and activation patterns;
test_theory_hostile_predictions.py what is predicted from data, and mean-field theory.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from tests.hostile_arguments import (
    CENTRAL,
    CHAIN,
    COMPARISON,
    EPOCHS,
    ESTIMATE,
    FEW,
    INVERTED,
    KERNEL,
    LAW,
    POSITIVE,
    POTENTIAL,
    QUICK_LAW,
    RESTARTED,
    SHARE,
    SIGNED,
    SURVIVAL,
    TIMER,
    TIMES,
    TWO_STATES,
    Case,
    array,
    at_most,
    calls,
    case,
    check,
    count,
    falls_in_time,
    is_share,
    law_case,
    made,
    not_negative,
    number,
)
from theory import continuous_chain

OU = st.one_of(CENTRAL, INVERTED)
MIXED = made(theory.Mixture, st.tuples(QUICK_LAW, QUICK_LAW), st.one_of(st.just((0.5, 0.5)), st.tuples(SHARE, SHARE)))
OF_A_FUNCTION = made(
    theory.SurvivalLaw,
    st.sampled_from(
        [lambda t: np.exp(-t), lambda t: 1 / (1 + t) ** 3, lambda t: 0.5 + 0.5 * np.exp(-t), np.zeros_like]
    ),
    number(1.0, 0.5),
)
TWO_STATES_CHAIN = theory.Chain(np.array([[0.5, 0.3], [0.2, 0.6]]), np.array([0.5, 0.5]))
RATE = number(0.1, 0.5, 1.0, 2.0)
START = st.one_of(st.just([0.5, 0.5]), array(SHARE, (2,)))
CONTINUOUS = st.tuples(RATE, RATE, number(3.0, 5.0), RATE).flatmap(
    lambda r: made(
        theory.ContinuousChain,
        st.just([[-float(r[2]), r[0]], [r[1], -float(r[2])]]),
        st.one_of(st.just([0.5, 0.5]), array(SHARE, (2,))),
    )
)

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
    # Estimates
    "Estimate.from_samples": case(theory.Estimate.from_samples, array(SIGNED)),
    "Estimate.scaled": case(calls("scaled"), ESTIMATE, SIGNED),
    "agreement": case(theory.agreement, array(number(0.1, 0.2, 0.5), (200,)), SIGNED),
    "compare": case(lambda comparison: comparison, COMPARISON, holds=lambda r, _: 0 <= r.p_value <= 1),
    "holm": case(theory.holm, st.lists(COMPARISON, max_size=3), number(0.01, 0.05)),
    # Ornstein-Uhlenbeck
    "OU.survival": case(calls("survival"), OU, TIMES, holds=is_share),
    "OU.survival at the centre": case(calls("survival"), CENTRAL, TIMES, holds=falls_in_time),
    "OU.arrived": case(calls("arrived"), OU, TIMES, holds=is_share),
    "OU.density": case(calls("density"), OU, TIMES, holds=not_negative),
    "OU.hazard": case(calls("hazard"), OU, TIMES, holds=not_negative),
    "OU.laplace": case(calls("laplace"), OU, number(0.0, 0.1, 1.0), holds=is_share),
    "OU.moment": case(calls("moment"), OU, FEW, holds=not_negative),
    "OU.mean": case(calls("mean"), OU, holds=not_negative),
    "OU.variance": case(calls("variance"), OU, holds=not_negative),
    "OU.restricted_mean": case(calls("restricted_mean"), OU, number(0.1, 1.0, 3.0), holds=lambda r, _, h: 0 <= r <= h),
    "OU.quantile": case(calls("quantile"), CENTRAL, array(SHARE), holds=not_negative),
    "OU.time_scale": case(calls("time_scale"), OU, holds=not_negative),
    "restart_helps, OU": case(theory.restart_helps, OU, number(0.0, 0.1)),
    "Restarted.mean, OU": case(calls("mean"), made(theory.Restarted, OU, TIMER, number(0.0, 0.1)), holds=not_negative),
    # Laws of a function, mixtures, more of restart
    "Mixture.mean": case(calls("mean"), MIXED, holds=not_negative),
    "Mixture.variance": case(calls("variance"), MIXED, holds=not_negative),
    "Mixture.survival": case(calls("survival"), MIXED, TIMES, holds=falls_in_time),
    "Mixture.quantile": case(calls("quantile"), MIXED, number(0.1, 0.9), holds=not_negative),
    "SurvivalLaw.mean": case(calls("mean"), OF_A_FUNCTION, holds=not_negative),
    "SurvivalLaw.survival": case(calls("survival"), OF_A_FUNCTION, TIMES, holds=is_share),
    "SurvivalLaw.laplace": case(calls("laplace"), OF_A_FUNCTION, number(0.0, 0.1, 1.0), holds=is_share),
    "michaelis_menten": case(theory.michaelis_menten, POSITIVE, QUICK_LAW, TIMER, holds=not_negative),
    # More of chains and coordinates
    "ContinuousChain": case(
        lambda chain: (chain.rates, chain.exits), CONTINUOUS, holds=lambda r, _: not_negative(r[1])
    ),
    "chain_poisson_slope": case(theory.chain_poisson_slope, CONTINUOUS, KERNEL),
    "continuous moment": case(continuous_chain.moment, CONTINUOUS, FEW, holds=not_negative),
    "continuous poisson_mean": case(continuous_chain.poisson_mean, CONTINUOUS, KERNEL, POSITIVE, holds=not_negative),
    "continuous periodic_mean": case(continuous_chain.periodic_mean, CONTINUOUS, KERNEL, POSITIVE, holds=not_negative),
    "sample_first_passages": case(
        lambda n, h, p: theory.sample_first_passages(
            TWO_STATES_CHAIN, n, np.random.default_rng(0), horizon=h, perturbation=np.eye(2), interval=p
        ),
        *(count(1, 5, largest=1000), EPOCHS, count(1, 3)),
    ),
    "grid_chain": case(
        lambda u, d, e, low, x, s, dt: (
            theory.grid_chain(
                u,
                diffusivity=d,
                epoch=e,
                limits=(low, 2.0),
                cells=8,
                initial_mean=x,
                initial_deviation=s,
                target=1.0,
                time_step=dt,
            ).chain.transient
        ),
        *(POTENTIAL, POSITIVE, POSITIVE, number(-2.0, -1.0), number(0.0, 0.5), number(0.1, 0.3)),
        st.one_of(st.none(), number(0.01, 0.1)),
        holds=is_share,
    ),
    "EpochWalk": case(
        lambda u, d, e, dt, x, s, a, low: theory.EpochWalk(u, d, e, dt, x, s, a, (low, 2.0)).chain(8).chain.transient,
        *(POTENTIAL, POSITIVE, number(0.1, 0.2), number(0.01, 0.1), number(0.0, 0.5), number(0.1, 0.3)),
        *(number(1.0, 0.9), number(-2.0, -1.0)),
        holds=is_share,
    ),
    "mean_passage_steps": case(
        lambda u, eta, beta, eps, g, x, a: theory.mean_passage_steps(
            u, learning_rate=eta, momentum=beta, epsilon=eps, gradient_noise=g, start=x, target=a
        ),
        *(POTENTIAL, number(0.1, 0.01), number(0.0, 0.9), POSITIVE, number(0.0, 1.0), SIGNED, number(1.0, 2.0)),
        holds=not_negative,
    ),
    "reweighted_mean": case(
        lambda rows, p: theory.reweighted_mean(rows, lambda state, epoch: np.full(np.shape(epoch), p)),
        *(st.lists(array(SIGNED, (1, 2, 3)), min_size=0, max_size=4), SHARE),
    ),
}


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


WITHOUT_NUMBERS = {
    "PassageLaw",
    "GradientNoise",
    "Comparison",
    "rational_chain",
    "hidden_label_chain",
    "derivation_names",
    "derive",
}
"""Base classes, a record that `theory.compare` makes, and what takes names or nothing."""


def test_every_public_name_is_tried() -> None:
    public = {name for name in dir(theory) if callable(getattr(theory, name)) and not name.startswith("_")}
    assert len(public) > 100
    files = Path(__file__).parent.glob("*hostile*.py")
    words = set(re.findall(r"\w+", "".join(file.read_text() for file in files)))
    assert public <= words | WITHOUT_NUMBERS


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
