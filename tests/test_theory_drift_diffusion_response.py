"""Anchors are from reference/first_passage.md, section 3."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.drift_diffusion_response import (
    feedback_mean,
    feedback_slope,
    logarithmic_mean,
    logarithmic_switch_mean,
    logarithmic_switch_perturbed_mean,
    logarithmic_switch_slope,
    occupation_density,
)
from theory.linear_response import poisson_slope

lengths = st.floats(0.2, 3.0)


def integral(function, low: float, high: float) -> float:
    """By 60-point Gauss-Legendre on 20 panels."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    edges = np.linspace(low, high, 21)
    half = np.diff(edges)[:, None] / 2
    return float((half * weights * function(edges[:-1, None] + half * (nodes + 1))).sum())


# ---- Anchors ---------------------------------------------------------------------------------------------------------


def test_feedback_anchors() -> None:
    assert feedback_slope(1, 1, 1) == pytest.approx(-0.6321205588285577, rel=1e-14)
    assert feedback_mean(1, 1, 1, 0.1) == pytest.approx(0.9469523055959155, rel=1e-14)
    assert feedback_mean(1, 1, 1, 1.0) == pytest.approx(0.7585514315150684, rel=1e-14)
    for threshold, slope in ((0, -0.5), (0.5, -0.5717346701436833), (1, -0.6321205588285577), (2, -0.4650883158696593)):
        assert feedback_slope(1, 1, 1, threshold) == pytest.approx(slope, rel=1e-13)


def test_logarithmic_switch_anchors() -> None:
    assert logarithmic_switch_perturbed_mean(1, 1, 1, 3) == pytest.approx(5 / 6, rel=1e-14)
    assert logarithmic_switch_slope(1, 1, 1, 3) == pytest.approx(-2 / 3, rel=1e-14)
    assert logarithmic_switch_mean(1, 1, 1, 3, 1) == pytest.approx(0.6719938345519108, rel=1e-14)
    assert logarithmic_mean(2, 1, 3) == 1.0


# ---- Second routes ---------------------------------------------------------------------------------------------------


@given(lengths, lengths, lengths)
def test_occupation_density_sums_to_its_moments(x0: float, v: float, d: float) -> None:
    def moments(weight):
        end = x0 + 40 * d / v
        return sum(
            integral(lambda x: weight(x) * occupation_density(x, x0, v, d), low, high)
            for low, high in ((0, x0), (x0, end))
        )

    assert moments(lambda x: 1.0) == pytest.approx(x0 / v, rel=1e-11)
    square = x0**2 / 3 + d * x0 / v + 2 * d**2 / v**2
    assert moments(lambda x: x**2) == pytest.approx(x0 / v * square, rel=1e-11)


@given(lengths, lengths, lengths, st.floats(0, 5))
def test_feedback_slope_is_the_integral_over_the_occupation_density(x0: float, v: float, d: float, c: float) -> None:
    def gain(x):
        return occupation_density(x, x0, v, d) * (x0 - x) / v

    end = max(x0, c) + 45 * d / v
    expected = integral(gain, min(c, x0), x0) + integral(gain, max(c, x0), end)
    assert feedback_slope(x0, v, d, c) == pytest.approx(expected, rel=1e-9, abs=1e-12 * (x0 / v) ** 2)


@given(lengths, lengths, lengths)
def test_slopes_are_the_derivatives_of_the_exact_means(x0: float, v: float, d: float) -> None:
    scale = 1 / (x0 / v + d / v**2)

    def derivative(mean):
        step = 1e-3 * scale
        values = [mean(k * step) for k in range(5)]  # one-sided, fourth order
        return (-25 * values[0] + 48 * values[1] - 36 * values[2] + 16 * values[3] - 3 * values[4]) / (12 * step)

    assert derivative(lambda r: feedback_mean(x0, v, d, r)) == pytest.approx(feedback_slope(x0, v, d), rel=1e-7)
    strength = d + 1.5
    slope = logarithmic_switch_slope(x0, v, d, strength)
    switch = derivative(lambda r: logarithmic_switch_mean(x0, v, d, strength, r))
    assert switch == pytest.approx(slope, rel=1e-7, abs=1e-7 / scale**2)


def test_switch_mean_is_the_resolvent_in_high_precision() -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        for x0, v, d, strength, r in (
            (1, 1, 1, 3, 1),
            (0.3, 2, 0.7, 0.9, 1e-9),
            (2, 0.1, 3, 40, 1e4),
            (1, 1, 1e-3, 1, 5),
        ):
            a = [mpmath.mpf(value) for value in (x0, v, d, strength, r)]
            arrived = mpmath.exp(a[0] * (a[1] - mpmath.sqrt(a[1] ** 2 + 4 * a[2] * a[4])) / (2 * a[2]))
            square = a[0] ** 2 - 2 * a[1] * a[0] / a[4] + (2 * a[2] / a[4] + 2 * a[1] ** 2 / a[4] ** 2) * (1 - arrived)
            exact = float((1 - arrived) / a[4] + square / (2 * (a[3] - a[2])))
            assert logarithmic_switch_mean(x0, v, d, strength, r) == pytest.approx(exact, rel=1e-13)
            root = mpmath.sqrt(a[1] ** 2 + 4 * a[2] * a[4])
            late = (root - a[1]) / (2 * a[2] * a[4]) - 1 / a[1]
            exact = float(a[0] / a[1] + a[2] / a[1] * (1 - mpmath.exp(-a[1] * a[0] / a[2])) * late)
            assert feedback_mean(x0, v, d, r) == pytest.approx(exact, rel=1e-13)


# ---- Limits and identities -------------------------------------------------------------------------------------------


@given(lengths, lengths, lengths, st.floats(0, 5))
def test_the_best_threshold_is_the_start(x0: float, v: float, d: float, c: float) -> None:
    best = feedback_slope(x0, v, d)
    assert best == pytest.approx(d**2 / v**4 * math.expm1(-v * x0 / d), rel=1e-12)
    assert feedback_slope(x0, v, d, c) >= best * (1 + 1e-12)
    plain = poisson_slope(x0 / v, (x0 / v) ** 2 + 2 * d * x0 / v**3, x0 / v)
    assert feedback_slope(x0, v, d, 0.0) == pytest.approx(plain, rel=1e-9, abs=1e-12 * (x0 / v) ** 2)


def test_limits_of_the_rate() -> None:
    assert feedback_mean(2, 1, 1, 0) == 2
    wall = 2 - (1 - math.exp(-2))
    assert feedback_mean(2, 1, 1, math.inf) == pytest.approx(wall, rel=1e-14)
    assert feedback_mean(2, 1, 1, 1e16) == pytest.approx(wall, rel=1e-7)
    assert logarithmic_switch_mean(2, 1, 1, 3, 0) == 2
    assert logarithmic_switch_mean(2, 1, 1, 3, 1e12) == pytest.approx(logarithmic_mean(2, 1, 3), rel=1e-5)


def test_a_weak_logarithmic_potential_may_never_bring_the_particle_home() -> None:
    assert logarithmic_mean(1, 1, 1) == math.inf
    assert logarithmic_switch_mean(1, 1, 1, 0.5, 0.1) == math.inf
    assert logarithmic_switch_perturbed_mean(1, 1, 1, 0) == math.inf
    assert logarithmic_switch_slope(1, 1, 1, 1) == math.inf
    assert logarithmic_switch_mean(1, 1, 1, 0.5, 0) == 1  # no switch, no harm


def test_refusals() -> None:
    with pytest.raises(ValueError, match="drift=0 must be finite and > 0"):
        feedback_mean(1, 0, 1, 1)
    with pytest.raises(ValueError, match="rate=-1 must be >= 0"):
        feedback_mean(1, 1, 1, -1)
    with pytest.raises(ValueError, match=r"threshold=-0.5 must be finite and >= 0"):
        feedback_slope(1, 1, 1, -0.5)
    with pytest.raises(ValueError, match=r"position=-1.0 must be finite and >= 0"):
        occupation_density([1.0, -1.0], 1, 1, 1)
    with pytest.raises(ValueError, match="strength=nan must be finite and >= 0"):
        logarithmic_switch_mean(1, 1, 1, math.nan, 1)
