"""Flips of simulated random walks and the scheduler in closed loop against theory; wrong formulas must be rejected."""

import math
import re
from typing import Any

import numpy as np
import pytest

from sim.activation_temperature import CooledLoops, simulate_cooling, simulate_flips, stability_boundary
from sim.random_streams import stream
from theory.activation_temperature import (
    CloglogLink,
    CoolingController,
    CoolingLoop,
    ErfLink,
    FlipCurve,
    GaussianFlips,
    coldest_temperature,
    critical_stretch,
    fit_link_to_counts,
    loop_gain,
    measurement_deviation,
    target_curve,
)
from theory.estimate import AGREEMENT_P_VALUE, Estimate, agreement, compare

TRUTH = ErfLink(-3.0, 1.2)


def agrees(measured: Estimate, predicted: float) -> bool:
    return compare("", Estimate(float(predicted), 0.0, 1), measured).p_value > AGREEMENT_P_VALUE


# ---- Flips -----------------------------------------------------------------------------------------------------------


def test_flips_follow_from_the_angle_between_gaussians(seed: int) -> None:
    flips, rates = GaussianFlips(6, 2.0), np.array([0.01, 0.1, 0.5, 5.0])
    simulated = simulate_flips(flips, rates, stream(seed, "flips"), patterns=100, steps=4, replicas=400)
    assert simulated.replicas == simulated.requested == 400
    assert simulated.patterns == 160_000
    assert simulated.changed / simulated.patterns == pytest.approx([e.value for e in simulated.shares], rel=1e-12)
    stride = 2.0 * rates
    bits, patterns = flips.bit_share(np.log(rates)), flips.share(np.log(rates))
    assert all(map(agrees, simulated.bit_shares, bits))
    assert all(map(agrees, simulated.shares, patterns))
    # Plausible and wrong: the slope at 0 throughout; a random walk that is not normalised; channels that flip together;
    # one channel less.
    assert not agrees(simulated.bit_shares[2], stride[2] / math.pi)
    assert not agrees(simulated.bit_shares[1], math.atan(stride[1] / math.sqrt(2)) / math.pi)
    assert not agrees(simulated.shares[1], bits[1])
    assert not agrees(simulated.shares[1], 1 - (1 - bits[1]) ** 5)
    # T stays below the number of channels.
    assert -math.log2(1 - simulated.shares[3].value) < 6


def test_counts_of_one_step_are_binomial_and_those_of_a_walk_are_not(seed: int) -> None:
    flips, rate, replicas = GaussianFlips(2, 1.0), 0.05, 1000
    share = float(flips.share(math.log(rate)))

    def ratio(steps: int) -> float:
        """Variance of the replicas over that of independent patterns."""
        rng = stream(seed, "binomial", steps)
        estimate = simulate_flips(flips, [rate], rng, patterns=50, steps=steps, replicas=replicas).shares[0]
        return estimate.standard_error**2 * replicas / (share * (1 - share) / (50 * steps))

    error = math.sqrt(2 / replicas)
    assert abs(ratio(1) - 1) < 5 * error
    # A pattern that has just changed is near its boundary.
    assert ratio(20) > 1 + 10 * error


def test_the_link_is_found_in_a_simulated_sweep(seed: int) -> None:
    flips = GaussianFlips(32, 1.0)
    rates = np.geomspace(3e-4, 3e-2, 9)
    simulated = simulate_flips(flips, rates, stream(seed, "sweep"), patterns=50, steps=1, replicas=200)
    fit = fit_link_to_counts(np.log(rates), simulated.changed, simulated.patterns, "cloglog")
    assert fit.p_value > 1e-6
    assert agrees(fit.slope, 1.0)
    assert agrees(fit.location, flips.small_steps.location)
    assert not agrees(fit.location, flips.small_steps.location + math.log(2))
    assert fit.slope.standard_error < 0.05
    # The normal law is rejected by the same counts.
    assert fit_link_to_counts(np.log(rates), simulated.changed, simulated.patterns, "erf").p_value < 1e-6


def test_flips_depend_neither_on_threads_nor_on_more_replicas() -> None:
    def run(threads: int, replicas: int = 20) -> Any:
        rng = stream(0, "bits")
        return simulate_flips(GaussianFlips(3, 1.0), [0.1, 1.0], rng, patterns=7, replicas=replicas, threads=threads)

    one, three = run(1), run(3)
    assert (one.changed == three.changed).all()
    assert one.shares == three.shares
    assert (run(1, 21).changed >= one.changed).all()
    told: list[tuple[int, int]] = []
    simulate_flips(
        GaussianFlips(3, 1.0),
        [0.1],
        stream(0, "progress"),
        patterns=2,
        replicas=20,
        threads=1,
        progress=lambda done, total, _: told.append((done, total)),
    )
    assert told == [(8, 20), (16, 20), (20, 20)]


# ---- The loop without noise ------------------------------------------------------------------------------------------


def cooled(controller: CoolingController, truth: FlipCurve, n: int, seed: int = 0, **options: Any) -> CooledLoops:
    settings = {"start_log_rate": -2.5, "replicas": 1, "targets": np.full(n, 1.5)} | options
    return simulate_cooling(controller, truth, rng=stream(seed, "loop"), **settings)


@pytest.mark.parametrize("truth", [TRUTH, CloglogLink(-3.0, 0.9)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 1.9, 2.1, 2.5])
def test_planted_links_of_one_kind(truth: ErfLink | CloglogLink, factor: float) -> None:
    # Not the location: the first measurement finds it.
    controller = CoolingController(truth.stretched(factor).moved(5.0), lowest_rate=1e-100)
    start = float(truth.log_rate(1.5)) + 0.01
    loops = cooled(controller, truth, 8, start_log_rate=start)
    predicted = CoolingLoop(factor).error_after(0.01, range(8))
    assert loops.errors[0] == pytest.approx(predicted, rel=1e-8, abs=1e-13)
    # Off by one in the scale's power: what a gain of 1 / factor would do.
    if factor != 1:
        assert loops.errors[0, 1] != pytest.approx((1 - 1 / factor) * 0.01, rel=0.1)


def test_one_correction_suffices_if_sigma_is_right_and_two_and_a_half_of_it_break_the_loop() -> None:
    targets = target_curve(np.arange(30) / 30, 1.0, 3.17)
    right = cooled(CoolingController(TRUTH.moved(0.0)), TRUTH, 30, targets=targets, start_log_rate=-6.0)
    assert right.temperatures[0, 1:] == pytest.approx(targets[1:], rel=1e-10)
    assert abs(right.temperatures[0, 0] / targets[0] - 1) > 0.9
    assert right.tracking_errors[0] < 1e-10
    broken = CoolingController(TRUTH.stretched(2.5), highest_rate=10.0)
    loops = cooled(broken, TRUTH, 30, targets=targets, start_log_rate=-6.0)
    assert loops.log_rates.max() == math.log(10.0)  # the cap
    assert loops.tracking_errors[0] > 1
    assert loops.capped_shares[0] == np.mean(loops.log_rates[0] == math.log(10.0)) > 0.2


@pytest.mark.parametrize(
    ("link", "truth", "temperature"),
    [
        (ErfLink(0.0, 1.2), CloglogLink(-1.0), 0.1),
        (ErfLink(0.0, 1.2), CloglogLink(-1.0), 3.17),
        (ErfLink(0.0, 1.2), GaussianFlips(16, 10.0), 3.17),
        (ErfLink(0.0, 1.2), TRUTH.stretched(1.7), 0.3),
        (CloglogLink(0.0), TRUTH, 0.2),
        (CloglogLink(0.0, 0.5), GaussianFlips(4, 10.0), 3.9),
    ],
)
def test_the_stability_boundary_is_the_predicted_one(
    link: ErfLink | CloglogLink, truth: FlipCurve, temperature: float
) -> None:
    measured = stability_boundary(link, truth, temperature)
    assert measured == pytest.approx(critical_stretch(link, truth, temperature), rel=1e-5)
    # Overshooting, r = 1, is not instability; and r depends on the temperature.
    assert measured != pytest.approx(1 / loop_gain(link, truth, temperature), rel=0.1)
    if not (isinstance(link, ErfLink) and isinstance(truth, ErfLink)):
        assert measured != pytest.approx(critical_stretch(link, truth, temperature / 2), rel=0.05)


def test_the_boundary_separates_large_errors_too_if_a_limit_catches_them() -> None:
    temperature, truth = 3.17, CloglogLink(-1.0)
    boundary = stability_boundary(ErfLink(0.0, 1.2), truth, temperature)
    ends = []
    for factor in (0.97 * boundary, 1.03 * boundary):
        controller = CoolingController(ErfLink(0.0, 1.2).stretched(factor), largest_change=0.3)
        loops = cooled(controller, truth, 400, targets=np.full(400, temperature), start_log_rate=1.0)
        ends.append(np.abs(loops.errors[0, -20:]).max())
    assert ends[0] < 1e-4
    assert ends[1] > 0.05


@pytest.mark.parametrize("factor", [2.2, 3.0])
def test_a_rate_limit_turns_divergence_into_an_oscillation_of_its_size(factor: float) -> None:
    controller = CoolingController(TRUTH.stretched(factor), largest_change=0.5)
    loops = cooled(controller, TRUTH, 300, start_log_rate=-7.0)
    errors = loops.errors[0]
    assert (np.abs(np.diff(errors)) <= 0.5 + 1e-12).all()
    assert np.abs(np.diff(errors[-20:])) == pytest.approx([0.5] * 19, rel=1e-9)
    assert np.abs(errors[-20:]).max() <= CoolingLoop(factor).oscillation_bound(0.5) + 1e-12
    # Twice the true sigma's boundary of 2: without the limit it is gone.
    free = cooled(CoolingController(TRUTH.stretched(factor), lowest_rate=1e-10, highest_rate=1e10), TRUTH, 300)
    assert np.abs(free.errors[0, -20:]).max() > 10


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.6])
def test_drifts_leave_the_predicted_error(factor: float) -> None:
    drift, n = 0.04, 150
    # A target whose score falls by the same in each interval.
    score = np.linspace(1.0, -1.5, n)
    targets = TRUTH.temperature(-3.0 + 1.2 * score)
    target_drift = 1.2 * (score[1] - score[0])
    loops = cooled(CoolingController(TRUTH.stretched(factor)), TRUTH, n, targets=targets, drift=drift)
    predicted = CoolingLoop(factor).error_of_drift(drift, target_drift)
    assert loops.errors[0, -1] == pytest.approx(predicted, rel=1e-8)
    assert loops.errors[0, -1] != pytest.approx(-drift - target_drift, rel=0.05)
    assert (factor == 1) == (predicted == pytest.approx(-drift))
    listed = cooled(CoolingController(TRUTH.stretched(factor)), TRUTH, n, targets=targets, drift=np.full(n - 1, drift))
    assert (listed.log_rates == loops.log_rates).all()


def test_a_link_that_drifts_away_takes_the_rate_to_the_cap_and_no_further() -> None:
    # What a network does whose gradients fade while its temperature is held.
    controller = CoolingController(TRUTH, highest_rate=1.0)
    loops = cooled(controller, TRUTH, 200, drift=0.05)
    assert loops.log_rates.max() == 0.0
    first = int(np.argmax(loops.capped[0]))
    needed = (0.0 - float(TRUTH.log_rate(1.5))) / 0.05
    assert first == pytest.approx(needed, abs=2)
    assert loops.capped_shares[0] == pytest.approx(1 - first / 200)
    # From there on the temperature is not under control: it falls.
    assert (np.diff(loops.temperatures[0, first + 1 :]) < 0).all()
    assert loops.temperatures[0, first - 1] == pytest.approx(1.5, rel=0.1)
    assert loops.temperatures[0, -1] < 0.1


# ---- The loop with noise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "truth", "temperature"),
    [
        (TRUTH, TRUTH, 1.0),
        (TRUTH.stretched(1.6), TRUTH, 3.17),
        (TRUTH.stretched(0.4), TRUTH, 0.3),
        (ErfLink(0.0, 1.2), CloglogLink(-1.0), 3.17),
        (CloglogLink(0.0), GaussianFlips(16, 10.0), 1.0),
    ],
)
def test_noise_leaves_the_predicted_variance(
    link: ErfLink | CloglogLink, truth: FlipCurve, temperature: float, seed: int
) -> None:
    patterns, n, volatility = 50_000, 60, 0.01
    loops = cooled(
        CoolingController(link),
        truth,
        n,
        seed,
        targets=np.full(n, temperature),
        start_log_rate=float(truth.log_rate(temperature)),
        patterns=patterns,
        volatility=volatility,
        replicas=3000,
    )
    gain = float(loop_gain(link, truth, temperature))
    noise = float(measurement_deviation(link, temperature, patterns)) ** 2 + volatility**2
    predicted = CoolingLoop(gain).variance_of_noise(noise)
    squares = loops.errors[:, -1] ** 2
    # Beyond first order in the noise, 1 %.
    assert compare("", Estimate(predicted, 0.0, 1), Estimate.from_samples(squares), margin=0.01).p_value > 1e-6
    if abs(gain - 1) > 0.1:
        assert not agreement(squares, noise / gain**2)
        assert not agreement(squares, noise)
    assert not agreement(squares, CoolingLoop(gain).variance_of_noise(noise - volatility**2))
    assert not agreement(squares, 1.5 * predicted)


def test_below_the_coldest_temperature_the_loop_is_open() -> None:
    patterns = 1000
    targets = np.concatenate([np.full(3, 1.0), np.full(20, 0.1 * coldest_temperature(patterns))])
    controller = CoolingController(TRUTH)
    loops = cooled(controller, TRUTH, 23, targets=targets, patterns=patterns, drift=0.03)
    location = TRUTH.located(loops.log_rates[0, 2], loops.measured[0, 2])
    assert loops.log_rates[0, 3:] == pytest.approx(np.full(20, location + 1.2 * TRUTH.score(targets[-1])), rel=1e-12)
    assert loops.measured[0, 3:] == pytest.approx(np.full(20, coldest_temperature(patterns)), rel=1e-12)
    # With ten thousand times the patterns it sees the target, and follows the drift.
    seen = cooled(controller, TRUTH, 23, targets=targets, patterns=10**7, drift=0.03)
    assert seen.log_rates[0, -1] - seen.log_rates[0, 3] == pytest.approx(0.03 * 19, rel=0.2)


def test_no_pattern_or_all_patterns_do_not_stop_the_loop() -> None:
    for start in (-12.0, 4.0):  # none, and all, of 100 patterns change
        loops = cooled(CoolingController(TRUTH), TRUTH, 40, patterns=100, start_log_rate=start)
        assert np.isfinite(loops.log_rates).all()
        assert np.median(np.abs(loops.errors[0, 10:])) < 0.5


def test_networks_that_run_away_leave_infinite_tracking_errors() -> None:
    loops = cooled(CoolingController(TRUTH, highest_rate=1.0), TRUTH, 9, patterns=100, drift=1e3)
    assert (loops.tracking_errors == math.inf).all()


def test_loops_are_reproducible() -> None:
    def run(seed: int) -> CooledLoops:
        return cooled(CoolingController(TRUTH), TRUTH, 9, seed, patterns=50, volatility=0.1, replicas=3)

    one, two, other = run(0), run(0), run(1)
    assert (one.log_rates == two.log_rates).all()
    assert (one.log_rates[:, 1:] != other.log_rates[:, 1:]).any()
    assert one.log_rates.shape == one.capped.shape == (3, 9)
    assert not one.capped.any()


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rates": []}, "learning_rates=[] must be a list of finite numbers >= 0"),
        ({"learning_rates": [-1.0]}, "learning_rates=[-1.0] must be a list of finite numbers >= 0"),
        ({"patterns": 0}, "patterns=0 must be a whole number >= 1"),
        ({"steps": 0}, "steps=0 must be a whole number >= 1"),
        ({"replicas": 1}, "replicas=1 must be a whole number >= 2"),
    ],
)
def test_flips_refuse(options: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"learning_rates": [0.1]} | options
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate_flips(GaussianFlips(2, 1.0), settings.pop("learning_rates"), stream(0, "refused"), **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": [1.0]}, "targets=[1.0] must be a list of at least two finite numbers > 0"),
        ({"targets": [1.0, 0.0]}, "targets=[1.0, 0.0] must be a list of at least two finite numbers > 0"),
        ({"start_log_rate": -math.inf}, "start_log_rate=-inf must be finite"),
        ({"volatility": -0.1}, "volatility=-0.1 must be finite and >= 0"),
        ({"drift": [0.1, 0.2, 0.3]}, "drift of shape (3,) must be a finite number or one for each of the intervals"),
        ({"drift": math.nan}, "drift of shape () must be a finite number"),
        ({"patterns": 0}, "patterns=0 must be a whole number >= 1"),
        ({"replicas": 0}, "replicas=0 must be a whole number >= 1"),
        ({"start_log_rate": -700.0}, "measurement 1 of a loop is T=0: without patterns the rate must stay where"),
    ],
)
def test_cooling_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        cooled(CoolingController(TRUTH), TRUTH, 3, **options)


@pytest.mark.parametrize(
    ("truth", "temperature", "message"),
    [
        (TRUTH, 0.0, "temperature=0.0 must be finite and > 0"),
        (GaussianFlips(2, 1.0), 2.0, "temperature=2.0 must be one that a finite learning rate reaches"),
        (TRUTH.stretched(1e4), 1.0, "temperature=1.0: loops do not become unstable for any factor from 1e-3 to 1e3"),
    ],
)
def test_boundaries_refuse(truth: FlipCurve, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        stability_boundary(ErfLink(0.0, 1.2), truth, temperature)
