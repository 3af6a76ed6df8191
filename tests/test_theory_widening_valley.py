"""The valley that widens: maps against exact averages and simulation, flows against maps, the law against flows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.random_streams import stream
from theory.estimate import agreement
from theory.gradient_noise import AntiCorrelatedIncrements, Persistent, Reshuffled, WhiteNoise
from theory.widening_valley import (
    Valley,
    anti_pgd_floor,
    anti_pgd_flow,
    anti_pgd_moments,
    pgd_flow,
    pgd_moments,
    sharpness_flow,
    sharpness_rate,
    smoothing_variance,
)

VALLEY = Valley(dimension=100, learning_rate=0.005)
SCALE = 0.05
ANTI_STEPS = [1000, 10_000, 40_000, 120_000]
ANTI_CLOSURE = [96.73741109, 72.73358626, 30.93030062, 3.90725143]
NAIVE = [97.53, 77.88, 36.79, 4.98]  # exp(-2 eta s^2 n)


# ---- Moment maps -----------------------------------------------------------------------------------------------------


def nodes(law: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A quadrature for one coordinate of the noise, exact for all the moments that occur."""
    if law == "rademacher":
        return np.array([-scale, scale]), np.array([0.5, 0.5])
    points, weights = np.polynomial.hermite_e.hermegauss(4)
    return scale * points, weights / weights.sum()


def averaged_step(kind: str, law: str, q: float, p: float, eta: float, scale: float, d: int) -> tuple[float, float]:
    """E|u'|^2 and E v'^2 after one step from v ~ N(0, p) and a fixed u of length sqrt(q), by brute force."""
    across, noise = nodes("gaussian", math.sqrt(p)), nodes(law, scale)
    start = np.sqrt(q) * np.arange(1, d + 1) / np.linalg.norm(np.arange(1, d + 1))
    total_q = total_p = 0.0
    for (v, v_weight), *kicks in itertools.product(
        zip(*across, strict=True), *[list(zip(*noise, strict=True))] * (d + 1)
    ):
        weight = v_weight * math.prod(kick[1] for kick in kicks)
        xi_v, xi_u = kicks[0][0], np.array([kick[0] for kick in kicks[1:]])
        # PGD adds the noise after the step, Anti-PGD's z feels it in the gradient only.
        at_v, at_u = (v + xi_v, start + xi_u) if kind == "anti" else (v, start)
        new_u = start - eta * at_v**2 * at_u + (0 if kind == "anti" else xi_u)
        new_v = v - eta * at_v * at_u @ at_u + (0 if kind == "anti" else xi_v)
        total_q += weight * (new_u @ new_u)
        total_p += weight * new_v**2
    return total_q, total_p


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
@pytest.mark.parametrize(("q", "p", "eta", "scale", "d"), [(1.3, 0.4, 0.3, 0.6, 2), (0.2, 1.5, 0.1, 1.1, 3)])
def test_one_step_is_exact(law: str, q: float, p: float, eta: float, scale: float, d: int) -> None:
    valley = Valley(d, eta)
    anti = anti_pgd_moments(valley, scale, q, 1, across=p, law=law)
    assert (anti.sharpness[1], anti.across[1]) == pytest.approx(averaged_step("anti", law, q, p, eta, scale, d))
    plain = pgd_moments(valley, scale, q, 1, across=p)
    assert (plain.sharpness[1], plain.across[1]) == pytest.approx(averaged_step("plain", law, q, p, eta, scale, d))


def test_anti_pgd_anchors() -> None:
    moments = anti_pgd_moments(VALLEY, SCALE, 100.0, 120_000)
    assert moments.sharpness.shape == moments.across.shape == (120_001,)
    assert moments.sharpness[[0, *ANTI_STEPS]] == pytest.approx([100.0, *ANTI_CLOSURE], rel=1e-9)
    # Simulated, 8 runs each: the closure is good to 0.5 %, the naive exponential is not.
    simulated = np.array([96.746, 72.648, 30.923, 3.883])
    rademacher = anti_pgd_moments(VALLEY, SCALE, 100.0, 40_000, law="rademacher").sharpness
    assert moments.sharpness[ANTI_STEPS] == pytest.approx(simulated, rel=7e-3)
    assert rademacher[ANTI_STEPS[:3]] == pytest.approx([96.741, 72.823, 30.966], rel=5e-3)
    naive = 100 * np.exp(-2 * 0.005 * SCALE**2 * np.array(ANTI_STEPS))
    assert naive == pytest.approx(NAIVE, abs=5e-3)
    assert (np.abs(naive / simulated - 1) > 7e-3).all()


def test_pgd_anchors() -> None:
    moments = pgd_moments(VALLEY, SCALE, 100.0, 20_000)
    assert moments.sharpness[[100, 600, 2000]] == pytest.approx([124.656189, 247.252849, 396.001896], abs=5e-7)
    for steps, simulated, error in ((100, 123.5, 2.3), (600, 243.4, 8.5), (2000, 381, 4)):
        assert moments.sharpness[steps] == pytest.approx(simulated, abs=4 * error)
    assert moments.sharpness[-1] == pytest.approx(VALLEY.pgd_saturation, rel=1e-5)
    assert VALLEY.pgd_saturation == pytest.approx(396)
    # The fixed point of v.
    q = moments.sharpness[-1]
    assert moments.across[-1] == pytest.approx(SCALE**2 / (0.005 * q * (2 - 0.005 * q)), rel=1e-10)


@pytest.mark.parametrize(("law", "factor"), [("gaussian", 1.5), ("rademacher", 0.5)])
def test_floor(law: str, factor: float) -> None:
    floor = anti_pgd_floor(VALLEY, SCALE, law=law)
    across = 0.005 * 100 * SCALE**4 / (2 - 0.005 * 100 * SCALE**2)
    at_floor = anti_pgd_moments(VALLEY, SCALE, floor, 3000, across=across, law=law)
    assert at_floor.sharpness[-1] == pytest.approx(floor, rel=1e-7)
    # From below and from above, in a valley that is quick.
    quick = Valley(5, 0.2)
    end = anti_pgd_floor(quick, 0.4, law=law)
    for start in (0.0, 1.0):
        assert anti_pgd_moments(quick, 0.4, start, 2000, law=law).sharpness[-1] == pytest.approx(end, rel=1e-9)
    for scale in (0.01, 0.001):
        weak = anti_pgd_floor(VALLEY, scale, law=law)
        assert weak == pytest.approx(factor * 0.005 * 100 * scale**4, rel=2 * 0.005 * 100 * scale**2)


def simulated_square(
    kind: str, valley: Valley, start: float, steps: int, runs: int, rng: np.random.Generator
) -> np.ndarray:
    """|u|^2 of z at the end, run by run, with noise of scale 0.1."""
    d, eta, scale = valley.dimension, valley.learning_rate, 0.1
    u, v = np.full((runs, d), math.sqrt(start / d)), np.zeros(runs)
    for _ in range(steps):
        xi_u, xi_v = scale * rng.standard_normal((runs, d)), scale * rng.standard_normal(runs)
        at_u, at_v = (u + xi_u, v + xi_v) if kind == "anti" else (u, v)
        u = u - eta * (at_v**2)[:, None] * at_u + (0 if kind == "anti" else xi_u)
        v = v - eta * at_v * (at_u**2).sum(axis=1) + (0 if kind == "anti" else xi_v)
    return (u**2).sum(axis=1)


def test_simulated_valleys(seed: int) -> None:
    wide, narrow = Valley(30, 0.02), Valley(4, 0.02)
    anti = simulated_square("anti", wide, 30.0, 600, 300, stream(seed, "anti"))
    expected = anti_pgd_moments(wide, 0.1, 30.0, 600).sharpness[-1]
    assert agreement(anti, expected)
    assert not agreement(anti, 30.0 * math.exp(-2 * 0.02 * 0.1**2 * 600))  # the regulariser alone
    assert not agreement(anti, expected + 30 * 0.1**2)  # that of the weights instead of z
    plain = simulated_square("plain", narrow, 50.0, 100, 8000, stream(seed, "plain"))
    assert agreement(plain, pgd_moments(narrow, 0.1, 50.0, 100).sharpness[-1])
    assert not agreement(plain, 50.0 + 100 * 4 * 0.1**2)  # diffusion without flattening


# ---- Closed flows ----------------------------------------------------------------------------------------------------


def test_flows_are_close_to_the_maps() -> None:
    assert anti_pgd_flow(VALLEY, SCALE, 100.0, ANTI_STEPS) == pytest.approx(ANTI_CLOSURE, rel=1e-4)
    maps = pgd_moments(VALLEY, SCALE, 100.0, 2000).sharpness
    assert pgd_flow(VALLEY, SCALE, 100.0, [100, 600, 2000]) == pytest.approx(maps[[100, 600, 2000]], rel=5e-5)
    # Second order in the noise: with weaker noise they are closer.
    weak = anti_pgd_moments(VALLEY, SCALE / 4, 100.0, 16_000).sharpness[-1]
    assert anti_pgd_flow(VALLEY, SCALE / 4, 100.0, 16_000) == pytest.approx(weak, rel=1e-6)
    weak = pgd_moments(VALLEY, SCALE / 4, 100.0, 1600).sharpness[-1]
    assert pgd_flow(VALLEY, SCALE / 4, 100.0, 1600) == pytest.approx(weak, rel=5e-5)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-3, 30), st.integers(1, 1000), st.floats(1e-4, 0.1))
def test_flows_solve_their_equations(level: float, rate: float, d: int, scale: float) -> None:
    valley = Valley(d, rate)
    steps = np.array([0.0, 0.3, 10.0, 1e3])
    room = 2 - rate * d * scale**2
    if room > 0:
        start = level * room / rate
        q = anti_pgd_flow(valley, scale, start, steps)
        assert q[0] == pytest.approx(start, rel=1e-10)
        assert (np.diff(q) <= 0).all()
        left = q > 1e-200 * start
        gone = room * np.log(start / q[left]) - rate * (start - q[left])
        assert gone == pytest.approx((4 * rate * scale**2 * steps)[left], rel=1e-9, abs=1e-13)
    start, end = level * 2 / rate, valley.pgd_saturation
    q = pgd_flow(valley, scale, start, steps)
    assert ((np.diff(q) >= 0) if start < end else (np.diff(q) <= 0)).all()
    between = np.abs(q - end) > 1e-6 * valley.edge_of_stability
    if abs(start - end) > 1e-6 * valley.edge_of_stability:
        time = rate * (q - start) / d + 2 / d**2 * np.log((end - start) / np.where(between, end - q, end - start))
        assert time[between] == pytest.approx((rate * scale**2 * steps)[between], rel=1e-8, abs=1e-8 / d)


def test_ends_of_the_flows() -> None:
    assert anti_pgd_flow(VALLEY, SCALE, 100.0, 1e9) == pytest.approx(0, abs=1e-200)
    assert anti_pgd_flow(VALLEY, SCALE, 0.0, [0, 5]).tolist() == [0, 0]
    assert anti_pgd_flow(VALLEY, 0.0, 7.0, [0, 5]) == pytest.approx([7, 7], rel=1e-14)
    for start in (0.0, 100.0, 396.0, 399.9999):
        assert pgd_flow(VALLEY, SCALE, start, 1e7) == pytest.approx(396, rel=1e-14)
        assert pgd_flow(VALLEY, SCALE, start, [[0.0]]) == pytest.approx(np.array([[start]]), abs=1e-9)
    # In the flat part of the valley (d - 1) s^2 per step.
    assert pgd_flow(VALLEY, 1e-4, 1e-3, 1000.0) - 1e-3 == pytest.approx(99 * 1e-8 * 1000, rel=1e-4)
    # With one dimension u and v are alike, and nothing drives u away.
    assert pgd_flow(Valley(1, 0.1), 0.1, 10.0, 1e7) == pytest.approx(0, abs=1e-12)
    at_the_edge = anti_pgd_flow(Valley(1, 1.0), 0.0, np.nextafter(2.0, 0), [0.0, 1.0])
    assert at_the_edge == pytest.approx([2.0, 2.0], rel=1e-7)


# ---- Any stationary noise --------------------------------------------------------------------------------------------


def test_law_with_the_noise_of_both_methods() -> None:
    sharpness = np.array([0.0, 1e-6, 1.0, 100.0, 395.0])
    eta, square = VALLEY.learning_rate, SCALE**2
    white = sharpness_rate(VALLEY, WhiteNoise(square / eta**2), sharpness)
    assert white == pytest.approx(square * (100 - 2 / (2 - eta * sharpness)), rel=1e-11)
    anti = sharpness_rate(VALLEY, AntiCorrelatedIncrements.of_weights(SCALE, eta), sharpness)
    assert anti == pytest.approx(-4 * eta * square * sharpness / (2 - eta * sharpness), rel=1e-11)
    persistent = sharpness_rate(VALLEY, Persistent(0.8, square / eta**2), sharpness)
    assert persistent[:2] == pytest.approx([99 * square * 9] * 2, rel=1e-5)


def test_law_integrated() -> None:
    eta, steps = VALLEY.learning_rate, np.array([[600, 0], [100, 2000]])
    white = sharpness_flow(VALLEY, WhiteNoise((SCALE / eta) ** 2), 100.0, steps)
    assert white == pytest.approx(pgd_flow(VALLEY, SCALE, 100.0, steps), rel=1e-9)
    for start in (0.0, 399.9):
        later = sharpness_flow(VALLEY, WhiteNoise((SCALE / eta) ** 2), start, [1, 1e5])
        assert later == pytest.approx(pgd_flow(VALLEY, SCALE, start, [1, 1e5]), rel=1e-9)
    # The flow of Anti-PGD without d s^2, which the law neglects.
    anti = sharpness_flow(VALLEY, AntiCorrelatedIncrements.of_weights(SCALE, eta), 100.0, [4e4, 1e7])
    exact = 2 * math.log(100 / anti[0]) - eta * (100 - anti[0])
    assert exact == pytest.approx(4 * eta * SCALE**2 * 4e4, rel=1e-9)
    assert anti[1] == pytest.approx(0, abs=1e-12)
    assert anti[1] >= 0


@pytest.mark.parametrize(
    ("batches", "law", "simulated"),
    [
        (5, [98.531, 95.655, 91.495, 86.221], [98.534, 95.684, 91.508, 86.200]),
        (20, [98.079, 94.295, 88.763, 81.650], [98.079, 94.312, 88.742, 81.591]),
    ],
)
def test_reshuffled_batches_flatten(batches: int, law: list[float], simulated: list[float]) -> None:
    noise = Reshuffled(batches, (0.02 / VALLEY.learning_rate) ** 2)
    flow = sharpness_flow(VALLEY, noise, 100.0, [4000, 12_000, 24_000, 40_000])
    assert flow == pytest.approx(law, abs=1e-3)
    assert flow == pytest.approx(simulated, rel=1e-3)
    smoothing = smoothing_variance(VALLEY, noise)
    assert smoothing == pytest.approx(0.02**2 * (batches + 1) / 6, rel=1e-12)
    regularised = 100 * math.exp(-2 * VALLEY.learning_rate * smoothing * 40_000)
    assert regularised < flow[-1] - 0.9
    if batches == 20:
        assert regularised == pytest.approx(57.1, abs=0.05)
    # In the flat part of the valley only the regulariser is left.
    flat = sharpness_rate(VALLEY, noise, [0.0, 1e-3])
    assert flat == pytest.approx([0, -2 * VALLEY.learning_rate * smoothing * 1e-3], rel=1e-4)


@pytest.mark.parametrize(
    ("scale", "steps", "simulated", "error"),
    [
        (0.02, [2000, 10_000], [98.966, 94.874], [0.006, 0.013]),
        (0.05, [400, 2000, 12_000], [98.743, 93.742, 64.533], [0.019, 0.033, 0.089]),
        (0.1, [400, 2000], [95.327, 77.608], [0.066, 0.112]),
    ],
)
def test_error_of_the_law_for_reshuffled_batches(
    scale: float, steps: list[int], simulated: list[float], error: list[float]
) -> None:
    # 40 replicas each, M = 100; d Var(zeta) / q is below 0.01 everywhere, d s_eff^2 / q 0.007 to 0.22.
    noise = Reshuffled(100, (scale / VALLEY.learning_rate) ** 2)
    flow = sharpness_flow(VALLEY, noise, 100.0, steps)
    added = 100 * smoothing_variance(VALLEY, noise)
    assert (flow < np.array(simulated)).all()
    assert flow[-1] < simulated[-1] - 3 * error[-1]
    corrected = flow * (1 + 0.7 * added * (1 / flow - 1 / 100))
    assert (np.abs(corrected - simulated) < 4 * np.array(error) + 0.25 * np.abs(corrected - flow)).all()
    # Of the decrease; with d Var(zeta) in its place the error would be 17 times smaller.
    share = (100 - flow[-1]) / (100 - simulated[-1]) - 1
    assert 0.4 < share / (added / 100) < 1.6


def test_smoothing_variance() -> None:
    anti = AntiCorrelatedIncrements.of_weights(SCALE, VALLEY.learning_rate)
    assert smoothing_variance(VALLEY, anti) == pytest.approx(SCALE**2, rel=1e-13)
    assert smoothing_variance(VALLEY, anti + WhiteNoise(1e-3)) == math.inf


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"dimension=0 must be a whole number >= 1"):
        Valley(0, 0.1)
    with pytest.raises(ValueError, match=r"learning_rate=0 must be finite and > 0"):
        Valley(3, 0)
    with pytest.raises(ValueError, match=r"sharpness=400.0 must be >= 0 and below the edge of stability, here 400"):
        pgd_flow(VALLEY, SCALE, 400.0, 1)
    with pytest.raises(ValueError, match=r"sharpness=399.9 must be .* below the edge of stability, here 399.75"):
        anti_pgd_flow(VALLEY, SCALE, 399.9, 1)
    with pytest.raises(ValueError, match=r"sharpness=nan must be >= 0"):
        sharpness_rate(VALLEY, WhiteNoise(), math.nan)
    with pytest.raises(ValueError, match=r"sharpness=500.0 must be .*; lower the learning rate or the noise"):
        sharpness_flow(VALLEY, WhiteNoise(), 500.0, 1)
    with pytest.raises(ValueError, match=r"steps.*must be"):
        pgd_flow(VALLEY, SCALE, 1.0, -1)
    with pytest.raises(ValueError, match=r"steps=-1 must be a whole number >= 0"):
        pgd_moments(VALLEY, SCALE, 1.0, -1)
    with pytest.raises(ValueError, match=r"noise_scale=-1.0 must be finite and >= 0"):
        anti_pgd_moments(VALLEY, -1.0, 1.0, 1)
    with pytest.raises(ValueError, match=r"law='cauchy' must be one of gaussian, rademacher"):
        anti_pgd_moments(VALLEY, SCALE, 1.0, 1, law="cauchy")
    with pytest.raises(ValueError, match=r"the moments diverge at step \d+; lower the learning rate or the noise"):
        pgd_moments(VALLEY, SCALE, 4000.0, 1000, across=1.0)
    with pytest.raises(
        ValueError, match=r"noise_scale=2.0 is too strong for a fixed point: .* = 2 must be well below 2"
    ):
        anti_pgd_floor(VALLEY, 2.0)
