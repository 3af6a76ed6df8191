"""Hostile numbers into the public theory of noise and weights; see test_theory_hostile_input.py."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import theory
from tests.hostile_arguments import (
    EPOCHS,
    FEW,
    LINK,
    LOOP,
    MODES,
    NOISE,
    POSITIVE,
    SHARE,
    SIGNED,
    TWO_MODES,
    USUAL_NOISE,
    VALLEY,
    array,
    calls,
    case,
    check,
    count,
    is_share,
    made,
    not_negative,
    number,
)

SCHEDULE = made(
    theory.NoiseSchedule,
    st.sampled_from(["none", "fixed", "schedule_only", "phase_only", "full", 3]),
    st.one_of(st.tuples(POSITIVE, POSITIVE, POSITIVE), st.tuples(POSITIVE)),
    number(0.0, 0.1),
)
PHASE = st.sampled_from(["exploration", "convergence", "fine_tuning", "exploration", "convergence", "other"])


def phases_passed(thresholds: Any, horizon: Any, dwell: Any, monotone: bool, metrics: list[Any]) -> list[Any]:
    machine = theory.PhaseMachine(thresholds, horizon=horizon, min_dwell=dwell, monotone=monotone)
    return [(machine.update(*pair), machine.smoothed, machine.relative) for pair in metrics]


CASES = {
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
    "phase_variances": case(theory.phase_variances, MODES, made(theory.Reshuffled, FEW, POSITIVE)),
    "relative_variances": case(
        theory.relative_variances,
        TWO_MODES,
        st.sampled_from(["absolute", "relative_weight", "sgld", 3]),
        POSITIVE,
        NOISE,
    ),
    "NoiseSchedule.scale": case(calls("scale"), SCHEDULE, PHASE, count(0, 1, 5), count(0, 1, 5), holds=not_negative),
    "with_budget": case(
        lambda schedule, phases, budget: theory.with_budget(schedule, phases, budget).epsilon,
        *(SCHEDULE, st.lists(PHASE, max_size=3), POSITIVE),
        holds=not_negative,
    ),
    "PhaseMachine": case(
        phases_passed,
        *(st.one_of(st.none(), made(theory.PhaseThresholds, POSITIVE, POSITIVE)), count(1, 5), count(0, 2)),
        *(st.booleans(), st.lists(st.tuples(POSITIVE, POSITIVE), max_size=5)),
    ),
    "CoolingController.next_log_rate": case(
        calls("next_log_rate"),
        made(theory.CoolingController, LINK, number(1e-8, 1e-3), number(1.0, math.inf), number(1.0, math.inf)),
        *(array(SIGNED, (1,)), SIGNED, POSITIVE),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses(name: str) -> None:
    check(CASES[name], 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses_much_more(name: str) -> None:
    check(CASES[name], 150)
