"""Temperatures, links, flips of a random walk and the loop, against anchors, mpmath, scipy and brute force."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any, cast

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.activation_temperature import (
    LINKS,
    PAPER_START,
    CloglogLink,
    CoolingController,
    CoolingLoop,
    ErfLink,
    GaussianFlips,
    coldest_temperature,
    critical_stretch,
    hottest_temperature,
    loop_gain,
    measurement_deviation,
    share_of,
    target_curve,
    temperature_of,
    temperature_of_counts,
)

ERF, CLOGLOG = ErfLink(-3.0, 1.2), CloglogLink(-2.0, 0.9)
SWEEP = np.linspace(math.log(1e-4), math.log(1e2), 37)


# ---- P and T ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "share", "score", "ratio"),
    [
        (0.1, 0.06697, -1.4988, 0.1655),
        (0.5, 0.29289, -0.5450, 0.5200),
        (1, 0.5, 0, 1),
        (2, 0.75, 0.6745, 2.247),
        (3, 0.875, 1.1503, 3.977),
        (math.log2(9), 0.88889, 1.2206, 4.327),
        (5, 0.96875, 1.8627, 9.349),
        (8, 0.99609, 2.6601, 24.34),
        (10, 0.99902, 3.0973, 41.13),
    ],
)
def test_anchors(temperature: float, share: float, score: float, ratio: float) -> None:
    assert share_of(temperature) == pytest.approx(share, abs=5.1e-6)
    assert temperature_of(share_of(temperature)) == pytest.approx(temperature, rel=1e-12)
    assert ErfLink.score(temperature) == pytest.approx(score, abs=5.1e-5)
    assert np.exp(ErfLink(0.0, 1.2).log_rate(temperature)) == pytest.approx(ratio, rel=3e-4)
    assert ErfLink(0.0, 1.2).inverse(share_of(temperature)) == pytest.approx(1.2 * score, abs=7e-5)


@pytest.mark.parametrize(
    ("rate", "target", "new"), [(0.1, 3.17, 0.21541368), (0.02, 1.0, 0.04978707), (0.5, 0.2, 0.01284505)]
)
def test_corrections_by_the_paper_link_are_those_of_the_anchors(rate: float, target: float, new: float) -> None:
    x = math.log(rate)
    measured = ERF.temperature(x)
    # The location of the controller's link doesn't matter: the measurement replaces it.
    for link in (ERF, ERF.moved(7.0)):
        assert math.exp(link.corrected(x, measured, target)) == pytest.approx(new, abs=5e-9)
    assert ERF.located(x, measured) == pytest.approx(-3.0, rel=1e-12)
    assert ERF.temperature(math.log(new)) == pytest.approx(target, rel=1e-6)
    # Eqs. (6) and (7) as printed have mu of the other sign, and give the same rate.
    printed_mu = 1.2 * ErfLink.score(measured) - x
    assert printed_mu == pytest.approx(3.0, rel=1e-12)
    assert math.exp(1.2 * ErfLink.score(target) - printed_mu) == pytest.approx(new, abs=5e-9)


def test_the_paper_starts_at_eight_patterns_of_nine() -> None:
    assert pytest.approx(math.log2(9), abs=5e-3) == PAPER_START
    assert share_of(math.log2(9)) == pytest.approx(8 / 9, rel=1e-14)


def test_limits_of_counts() -> None:
    assert [hottest_temperature(n) for n in (128, 8192, 131072)] == [8, 14, 18]
    for n in (1, 2, 7, 128, 8192):
        assert temperature_of_counts(n, n) == pytest.approx(hottest_temperature(n), rel=1e-14)
        assert temperature_of_counts(0, n) == pytest.approx(coldest_temperature(n), rel=1e-14)
        assert coldest_temperature(n) == pytest.approx(-math.log1p(-0.5 / n) / math.log(2), rel=1e-14)
    # Half a pattern acts at the ends only, and is less than one pattern.
    counts = temperature_of_counts(np.arange(129), 128)
    assert (np.diff(counts) > 0).all()
    assert counts[1:-1] == pytest.approx(temperature_of(np.arange(1, 128) / 128), rel=1e-12)
    assert temperature_of_counts([1, 10**15 - 1], 10**15).tolist() == pytest.approx(
        [1e-15 / math.log(2), 15 * math.log2(10)], rel=1e-14, abs=0
    )
    assert temperature_of_counts([[3], [5]], [6, 10]).shape == (2, 2)


@given(st.floats(1e-300, 40.0))
def test_shares_and_temperatures_are_inverse(temperature: float) -> None:
    assert temperature_of(share_of(temperature)) == pytest.approx(
        temperature, rel=1e-14 + 4e-16 * 2**temperature / temperature, abs=0
    )


def test_ends_of_shares_and_temperatures() -> None:
    assert temperature_of([0.0, 1.0]).tolist() == [0.0, math.inf]
    assert share_of([0.0, math.inf]).tolist() == [0.0, 1.0]
    assert share_of(1e-20) == pytest.approx(1e-20 * math.log(2), rel=1e-14, abs=0)
    assert temperature_of(1e-20) == pytest.approx(1e-20 / math.log(2), rel=1e-14, abs=0)


# ---- Links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-200, 1e-12, 1e-3, 0.5, 1.0, 3.17, 50.0, 900.0])
def test_the_score_of_the_erf_link_has_all_digits_at_both_ends(temperature: float) -> None:
    score = float(ErfLink.score(temperature))
    with mpmath.workdps(320):
        exact = 1 - mpmath.mpf(2) ** -mpmath.mpf(temperature)
        below = mpmath.ncdf(mpmath.mpf(score)) if score < 0 else 1 - mpmath.ncdf(-mpmath.mpf(score))
        # An error of the score, as a part of it.
        error = (below - exact) / (mpmath.npdf(mpmath.mpf(score)) * max(abs(mpmath.mpf(score)), 1))
    assert abs(float(error)) < 1e-13  # of the score
    assert ErfLink(0.0, 1.0).temperature(score) == pytest.approx(temperature, rel=1e-11, abs=0)


@given(st.sampled_from([ERF, CLOGLOG]), st.floats(1e-100, 1e4))
def test_links_are_inverted(link: ErfLink | CloglogLink, temperature: float) -> None:
    x = link.log_rate(temperature)
    assert link.temperature(x) == pytest.approx(temperature, rel=1e-11, abs=0)
    assert link.share(x) == pytest.approx(share_of(temperature), rel=1e-11, abs=0)
    assert link.stretched(2.5).moved(1.0).log_rate(temperature) == pytest.approx(
        1.0 + 2.5 * (x - link.location), rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("link", [ERF, CLOGLOG, GaussianFlips(8, 3.0), GaussianFlips(1, 3.0)])
@pytest.mark.parametrize("part", [1e-3, 0.1, 0.5, 0.9, 3.17])
def test_slopes_are_derivatives(link: Any, part: float) -> None:
    if isinstance(link, GaussianFlips) and part > link.channels:
        part = 0.99
    x, h = float(link.log_rate(part)), 1e-5
    rise = (link.temperature(x + h) - link.temperature(x - h)) / (2 * h)
    assert link.slope(part) == pytest.approx(rise, rel=1e-8)
    if not isinstance(link, GaussianFlips):
        score = np.array((x - link.location) / link.scale)
        density = (link.share(x + h) - link.share(x - h)) / (2 * h) * link.scale
        assert np.exp(link.log_density(score)) == pytest.approx(density, rel=1e-8)
        assert np.exp(link.log_changed(score)) + np.exp(link.log_unchanged(score)) == pytest.approx(1, rel=1e-12)


def test_ends_of_links() -> None:
    for link in (ERF, CLOGLOG, GaussianFlips(3, 1.0)):
        assert link.temperature(-math.inf) == 0
        assert link.share(-math.inf) == 0
        assert link.log_rate(0.0) == -math.inf
        assert link.slope(0.0) == 0
    for link in (ERF, CLOGLOG):
        assert link.temperature(math.inf) == math.inf == link.log_rate(math.inf) == link.inverse(1.0)
        assert link.share(math.inf) == 1
        assert link.temperature(link.location) == pytest.approx(1.0, rel=1e-14)
        assert link.share([link.location, -1e5]).tolist() == pytest.approx([0.5, 0.0])
        assert link.corrected(-1.0, 0.3, 0.0) == -math.inf
    assert CLOGLOG.temperature(-1000.0) == pytest.approx(math.exp(0.9 * -998.0), rel=1e-11, abs=0)
    assert CloglogLink(0.0).share(-720.0) == pytest.approx(math.log(2) * math.exp(-720.0), rel=1e-9, abs=0)
    assert CloglogLink(0.0).corrected(0.5, 2.0, 1.0) == pytest.approx(0.5 - math.log(2), rel=1e-14)
    assert CloglogLink(0.0, 0.9).slope([1e10, 1e300]).tolist() == pytest.approx([0.9e10, 0.9e300], rel=1e-14)
    far = ErfLink(1e308, 1e-6)
    assert far.share([-1e308, 0.0]).tolist() == [0.0, 0.0]


# ---- Targets ---------------------------------------------------------------------------------------------------------


def test_target_curves() -> None:
    s = np.array([0.0, 0.25, 0.5, 1.0])
    assert target_curve(s, 1.0, 3.17).tolist() == pytest.approx([3.17, 2.3775, 1.585, 0.0], rel=1e-14)
    assert target_curve(s, 2.0, 4.0, 1.0).tolist() == pytest.approx([4.0, 3.8125, 3.25, 1.0], rel=1e-14)
    assert target_curve(s, 0.5, 4.0).tolist() == pytest.approx([4.0, 2.0, 4 * (1 - math.sqrt(0.5)), 0.0], rel=1e-14)
    assert target_curve(1 - 2.0**-40, 3.0, 1.0) == pytest.approx(3 * 2.0**-40, rel=1e-11, abs=0)
    assert target_curve(0.5, 1.0, 1.0, 3.0) == pytest.approx(2.0)  # heating
    assert target_curve([0.0, 1e-300, 0.5, 1.0], 1e308, 2.0).tolist() == [2.0, 2.0, 2.0, 0.0]
    assert (target_curve(s[1:3], 2.0, 3.0) > target_curve(s[1:3], 1.0, 3.0)).all()  # gamma > 1 is hot for longer


# ---- The random walk of pre-activations ------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1e-3, 0.3, 1.0, 20.0])
def test_bits_flip_as_an_integral_over_the_pre_activation_says(stride: float) -> None:
    flips = GaussianFlips(3, 2.0)
    x = math.log(stride / 2.0)
    # A pre-activation a > 0 flips if the change is below -a.
    scale = mpmath.mpf(stride)
    quadrature = mpmath.quad(lambda a: 2 * mpmath.npdf(a) * mpmath.ncdf(-a / scale), [0, stride, 3 * stride, 10, 40])
    integral = float(cast(Any, quadrature))
    assert flips.bit_share(x) == pytest.approx(integral, rel=1e-10)
    assert flips.bit_share(x) == pytest.approx(math.acos((1 + stride**2) ** -0.5) / math.pi, rel=1e-9)
    assert flips.share(x) == pytest.approx(1 - (1 - integral) ** 3, rel=1e-10)
    assert flips.temperature(x) == pytest.approx(temperature_of(flips.share(x)), rel=1e-10)


@given(st.integers(1, 10_000), st.floats(1e-12, 1 - 1e-12))
def test_the_random_walk_is_inverted(channels: int, part: float) -> None:
    flips = GaussianFlips(channels, 0.2)
    x = flips.log_rate(part * channels)
    assert flips.channels - flips.temperature(x) == pytest.approx((1 - part) * channels, rel=1e-3, abs=1e-12 * channels)
    assert flips.temperature(x) == pytest.approx(part * channels, rel=1e-11)


def test_limits_of_the_random_walk() -> None:
    flips = GaussianFlips(16, 5.0)
    small = flips.small_steps
    assert small.exponent == 1
    assert flips.temperature(-20.0) == pytest.approx(small.temperature(-20.0), rel=1e-6, abs=0)
    assert small.log_rate(1.0) == pytest.approx(math.log(math.pi * math.log(2) / 80), rel=1e-14)
    assert flips.temperature(50.0) == pytest.approx(16, rel=1e-12)
    assert flips.log_rate(16.0) == math.inf
    assert GaussianFlips(1, 5.0).temperature(SWEEP).max() < 1  # bits can't be hot
    many = GaussianFlips(10**7, 5e-7)
    assert many.share(SWEEP) == pytest.approx(-np.expm1(-np.exp(SWEEP) * 5 / math.pi), abs=1e-5)


# ---- The loop --------------------------------------------------------------------------------------------------------


def test_the_gain_of_links_of_one_kind_is_the_ratio_of_their_scales() -> None:
    for factor, temperature in itertools.product((0.5, 1.0, 2.5), (1e-4, 0.3, 3.17, 12.0)):
        for truth in (ERF, CLOGLOG):
            assert loop_gain(truth.stretched(factor).moved(9.0), truth, temperature) == pytest.approx(factor, rel=1e-9)
            assert critical_stretch(truth.stretched(factor), truth, temperature) == pytest.approx(2 / factor, rel=1e-9)


def test_the_gain_of_the_paper_link_where_flips_are_proportional() -> None:
    erf, flips = ErfLink(0.0, 1.2), CloglogLink(-4.0)
    temperatures = [0.05, 0.8716, PAPER_START, 6.0875]
    assert loop_gain(erf, flips, temperatures).tolist() == pytest.approx([0.5316, 1.0, 1.5469, 2.0], abs=6e-5)
    assert loop_gain(CloglogLink(0.0), flips, temperatures).tolist() == pytest.approx([1.0] * 4, rel=1e-12)
    # Where a pattern has few channels T saturates, which calms the loop.
    assert (loop_gain(erf, GaussianFlips(16, 1.0), [3.17, 6.0875, 10.0, 16.0]) < 1.6).all()
    assert critical_stretch(erf, GaussianFlips(16, 1.0), 16.0) == math.inf


def recursion(gain: float, error: float, steps: int, push: float = 0.0, limit: float = math.inf) -> list[float]:
    errors = [error]
    for _ in range(steps):
        errors.append(errors[-1] - max(-limit, min(limit, gain * errors[-1])) + push)
    return errors


def test_gains_at_both_ends() -> None:
    assert CoolingLoop(1e-20).measurements_until(0.5) == pytest.approx(math.log(2) * 1e20, rel=1e-14)
    assert CoolingLoop(1e300).error_after(0.0, [1, 2000]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("gain", [0.4, 1.0, 1.6, 1.99, 2.5])
def test_errors_of_the_loop(gain: float) -> None:
    loop = CoolingLoop(gain)
    path = recursion(gain, 0.3, 12)
    assert loop.error_after(0.3, range(13)) == pytest.approx(path, rel=1e-10)
    assert loop.is_stable == (abs(path[-1]) < abs(path[0]))
    assert loop.overshoots == (path[1] < 0)
    needed = loop.measurements_until(0.01)
    if gain == 1:
        assert needed == 0
    elif loop.is_stable:
        assert abs(loop.multiplier) ** needed == pytest.approx(0.01, rel=1e-10)
    else:
        assert needed == math.inf
    if loop.is_stable:
        drift, target_drift = 0.07, -0.02
        ends = recursion(gain, 0.3, 4000, (gain - 1) * target_drift - drift)[-2:]
        assert [loop.error_of_drift(drift, target_drift)] * 2 == pytest.approx(ends, rel=1e-9)
        # The variance as the sum of squares of what one push leaves behind.
        pushes = np.sum(loop.error_after(1.0, range(3000)) ** 2)
        assert loop.variance_of_noise(0.01) == pytest.approx(0.01 * pushes, rel=1e-9)
    else:
        for call in (lambda: loop.error_of_drift(0.1), lambda: loop.variance_of_noise(0.1)):
            with pytest.raises(ValueError, match=r"gain=2.5 must be below 2: the loop is unstable"):
                call()


@pytest.mark.parametrize("gain", [2.1, 2.5, 4.0])
@pytest.mark.parametrize("start", [1e-3, 0.4, 7.3])
def test_a_limited_step_makes_an_oscillation_of_an_unstable_loop(gain: float, start: float) -> None:
    limit = 0.7
    path = recursion(gain, start, 300, limit=limit)
    bound = CoolingLoop(gain).oscillation_bound(limit)
    assert max(map(abs, path[-50:])) <= bound * (1 + 1e-12)
    assert path[-1] == pytest.approx(path[-3], rel=1e-9)
    assert abs(path[-1] - path[-2]) == pytest.approx(limit, rel=1e-9)
    # The bound is reached, from just inside the linear part.
    worst = max(abs(e) for e in recursion(gain, limit / gain, 3, limit=limit))
    assert worst == pytest.approx(max(bound, limit / gain), rel=1e-9)


@pytest.mark.parametrize(("temperature", "link"), [(0.2, ERF), (1.0, CLOGLOG), (3.17, ERF), (3.17, CLOGLOG)])
def test_the_deviation_of_a_correction_is_that_of_all_possible_counts(
    temperature: float, link: ErfLink | CloglogLink
) -> None:
    from scipy.stats import binom

    patterns = 100_000
    counts = np.arange(patterns + 1)
    weight = binom.pmf(counts, patterns, share_of(temperature))
    corrections = link.corrected(0.0, temperature_of_counts(counts, patterns), temperature)
    mean = weight @ corrections
    deviation = math.sqrt(weight @ (corrections - mean) ** 2)
    assert measurement_deviation(link, temperature, patterns) == pytest.approx(deviation, rel=2e-3)
    assert measurement_deviation(link.stretched(2.0), temperature, 4 * patterns) == pytest.approx(deviation, rel=2e-3)


def test_a_controller_keeps_its_limits() -> None:
    free = CoolingController(ERF)
    x, location = math.log(0.1), ERF.located(math.log(0.1), 0.3)
    wanted = ERF.corrected(x, 0.3, 3.17)
    assert free.next_log_rate(x, location, 3.17) == pytest.approx(wanted, rel=1e-14)
    assert not free.is_capped(1e4)
    capped = CoolingController(ERF, highest_rate=0.3)
    assert capped.next_log_rate(x, location, 3.17) == math.log(0.3)
    assert capped.is_capped(capped.next_log_rate(x, location, [3.17, 0.3])).tolist() == [True, False]
    slow = CoolingController(ERF, largest_change=0.2)
    assert slow.next_log_rate(x, location, [3.17, 0.001]).tolist() == pytest.approx([x + 0.2, x - 0.2], rel=1e-14)
    # The cap holds even where the limit would not let the rate come down at once.
    assert CoolingController(ERF, highest_rate=0.05, largest_change=0.2).next_log_rate(x, location, 3.0) == math.log(
        0.05
    )
    assert free.next_log_rate(x, location, 0.0) == math.log(1e-8)


# ---- Refusals --------------------------------------------------------------------------------------------------------

LOOP = CoolingLoop(1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: temperature_of(1.1), "share=1.1 must lie between 0 and 1"),
        (lambda: temperature_of([math.nan]), "share=nan must lie between 0 and 1"),
        (lambda: share_of(-0.1), "temperature=-0.1 must be >= 0"),
        (lambda: temperature_of_counts(5, 4), "changed=5 must lie between 0 and the 4 patterns"),
        (lambda: temperature_of_counts(0, 0), "patterns=0 must be finite and >= 1"),
        (lambda: coldest_temperature(0), "patterns=0 must be a whole number >= 1"),
        (lambda: hottest_temperature(2.5), "patterns=2.5 must be a whole number >= 1"),  # pyright: ignore[reportArgumentType]
        (lambda: ErfLink(math.nan, 1.0), "mu=nan must be finite"),
        (lambda: ErfLink(0.0, 0.0), "sigma=0.0 must lie between 1e-06 and 1e+06"),
        (lambda: CloglogLink(0.0, -1.0), "exponent=-1.0 must lie between"),
        (lambda: ERF.stretched(0.0), "factor=0.0 must lie between"),
        (lambda: ERF.temperature(math.nan), "log_rate=nan must be the logarithm of a learning rate"),
        (lambda: ERF.corrected(-math.inf, 1.0, 1.0), "log_rate=-inf must be finite: nothing is measured"),
        (lambda: ERF.corrected(0.0, 0.0, 1.0), "measured=0.0 must be > 0 and finite: count half a pattern"),
        (lambda: ERF.corrected(0.0, math.inf, 1.0), "measured=inf must be > 0 and finite"),
        (lambda: CLOGLOG.slope(math.inf), "temperature=inf must be finite"),
        (lambda: target_curve(1.01, 1.0, 3.0), "progress=1.01 must lie between 0 and 1"),
        (lambda: target_curve(0.5, 0.0, 3.0), "gamma=0.0 must be finite and > 0"),
        (lambda: target_curve(0.5, 1.0, math.inf), "start=inf must be finite and > 0"),
        (lambda: target_curve(0.5, 1.0, 3.0, -1.0), "end=-1.0 must be finite and >= 0"),
        (lambda: GaussianFlips(0, 1.0), "channels=0 must be a whole number >= 1"),
        (lambda: GaussianFlips(1, 0.0), "displacement=0.0 must be finite and > 0"),
        (lambda: GaussianFlips(4, 1.0).log_rate(4.5), "temperature=4.5 must be at most 4, the number of channels"),
        (lambda: CoolingController(ERF, lowest_rate=0.0), "lowest_rate=0.0 must be finite and > 0"),
        (lambda: CoolingController(ERF, 0.1, 0.1), "highest_rate=0.1 must be above the lowest rate, 0.1"),
        (lambda: CoolingController(ERF, largest_change=0.0), "largest_change=0.0 must be > 0"),
        (lambda: CoolingController(ERF).next_log_rate(-math.inf, 0.0, 1.0), "log_rate and location must be finite"),
        (lambda: CoolingLoop(0.0), "gain=0.0 must be finite and > 0"),
        (lambda: LOOP.error_after(math.inf, 1), "error=inf must be finite"),
        (lambda: LOOP.error_after(1.0, [-1]), "measurements=-1 must be a whole number >= 0"),
        (lambda: LOOP.measurements_until(1.0), "part=1.0 must lie strictly between 0 and 1"),
        (lambda: LOOP.error_of_drift(math.nan), "drift=nan and target_drift=0.0 must be finite"),
        (lambda: LOOP.variance_of_noise(-1.0), "variance=-1.0 must be finite and >= 0"),
        (lambda: LOOP.oscillation_bound(0.1), "gain=1.5 must be above 2"),
        (lambda: CoolingLoop(3.0).oscillation_bound(0.0), "largest_change=0.0 must be finite and > 0"),
        (lambda: loop_gain(ERF, ERF, 0.0), "temperature=0.0 must be finite and > 0: a loop needs a slope"),
        (lambda: measurement_deviation(ERF, 0.0, 10), "temperature=0.0 must be finite and > 0"),
        (lambda: measurement_deviation(ERF, 1.0, 0), "patterns=0 must be a whole number >= 1"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_links_have_names() -> None:
    assert {"erf": ErfLink, "cloglog": CloglogLink} == LINKS
