"""Correlation times, autocovariances, finite windows and phases within an epoch.

Anchors are from reference/sgd_noise.md.
"""

import mpmath
import numpy as np
import pytest

from theory.gradient_noise import (
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import (
    stationary_variances,
    weight_autocovariance,
    window_variances,
)
from theory.weight_variance_phases import phase_variances

# ---- In time ---------------------------------------------------------------------------------------------------------


def test_correlation_time_is_that_of_the_velocity() -> None:
    modes = HeavyBall(1.0, 0.03, 0.7)
    c = weight_autocovariance(modes, Reshuffled(20), 3000)
    lags = np.arange(1, 3000)
    velocity = 2 * c[1:-1] - c[:-2] - c[2:]
    result = stationary_variances(modes, Reshuffled(20))
    assert result.correlation_time == pytest.approx(23.045260625196, rel=1e-12)
    assert velocity.sum() == pytest.approx(-result.velocity / 2, rel=1e-12)
    assert lags @ velocity == pytest.approx(-result.weight, rel=1e-10)


@pytest.mark.parametrize(
    "noise", [WhiteNoise(), Reshuffled(6), ReshuffledEvery(3, 4), Persistent(0.8), ShuffledOnce(5), Persistent(-0.5)]
)
@pytest.mark.parametrize(("contraction", "momentum"), [(0.05, 0.0), (0.02, 0.8), (1.5, 0.5)])
def test_weight_autocovariance_is_the_transform_of_its_spectrum(
    noise: GradientNoise, contraction: float, momentum: float
) -> None:
    modes = HeavyBall(0.3, contraction / 0.3, momentum)
    omega = 2 * np.pi * (np.arange(40000) + 0.5) / 40000
    frequencies, weights = noise.lines
    spectrum = np.abs(modes.transfer_function(omega)) ** 2 * noise.spectrum(omega)
    lines = np.abs(modes.transfer_function(frequencies)) ** 2 * weights
    c = weight_autocovariance(modes, noise, 40)
    for h in (0, 1, 2, 7, 40):
        expected = (spectrum * np.cos(h * omega)).mean() + lines @ np.cos(h * frequencies)
        assert c[h] == pytest.approx(expected, rel=1e-10, abs=1e-12 * c[0])


@pytest.mark.parametrize(
    ("contraction", "noise", "share"),
    [
        (1e-4, Reshuffled(50), 0.97401),
        (1e-4, WhiteNoise(), 0.25927),
        (1e-3, Reshuffled(50), 0.99585),
        (1e-3, WhiteNoise(), 0.81815),
        (1e-2, Reshuffled(50), 0.99956),
        (1e-2, WhiteNoise(), 0.98006),
    ],
)
def test_finite_windows(contraction: float, noise: GradientNoise, share: float) -> None:
    modes = HeavyBall(1.0, contraction, 0.9)
    true = stationary_variances(modes, noise)
    assert window_variances(modes, noise, 1000).weight / true.weight == pytest.approx(share, abs=5e-6)
    c = weight_autocovariance(modes, noise, 1000)
    h = np.arange(1, 1000)
    expected = c[0] - (c[0] + 2 * (1 - h / 1000) @ c[1:-1]) / 1000
    assert window_variances(modes, noise, 1000).weight == pytest.approx(expected, rel=1e-11)
    displacement = 2 * (c[0] - c[1000])
    expected = true.velocity - displacement / 1000**2
    assert window_variances(modes, noise, 1000).velocity == pytest.approx(expected, rel=1e-12)


def test_windows_of_diffusing_and_periodic_modes() -> None:
    # A random walk of T points has the variance (T^2 - 1) / (6 T) about its mean.
    walk = window_variances(HeavyBall(1.0, 0.0), WhiteNoise(), 100)
    assert walk.weight == pytest.approx((100**2 - 1) / 600, rel=1e-12)
    assert walk.velocity == pytest.approx(1 - 1 / 100, rel=1e-12)
    # One order for all epochs: whole epochs show everything.
    modes = HeavyBall(1.0, [0.0, 0.01, 1.0], 0.9)
    seen, true = window_variances(modes, ShuffledOnce(10), 50), stationary_variances(modes, ShuffledOnce(10))
    assert seen.weight == pytest.approx(true.weight, rel=1e-11)
    assert seen.velocity == pytest.approx(true.velocity, rel=1e-11)


# ---- Within an epoch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [2, 5, 40])
def test_flat_modes_return_within_an_epoch(batches: int) -> None:
    j = np.arange(1, batches + 1)
    result = phase_variances(HeavyBall(1.0, 0.0), Reshuffled(batches))
    assert result.weight == pytest.approx(j * (batches - j) / (batches - 1), abs=1e-13)
    assert result.velocity == pytest.approx(1.0, rel=1e-13)


@pytest.mark.parametrize(
    ("batches", "contraction", "momentum", "least"),
    [(10, 1e-3, 0, 0.0025), (10, 0.1, 0, 0.303), (10, 0.01, 0.9, 0.723), (50, 1e-3, 0.9, 0.254), (50, 0.5, 0.5, 0.979)],
)
def test_modulation_within_an_epoch(batches: int, contraction: float, momentum: float, least: float) -> None:
    result = phase_variances(HeavyBall(1.0, contraction, momentum), Reshuffled(batches))
    assert result.weight.min() / result.weight.mean() == pytest.approx(least, abs=5e-4 if least > 0.01 else 5e-5)
    assert result.weight.argmin() == batches - 1 or momentum > 0


@pytest.mark.parametrize("batches", [2, 3, 8])
@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.95])
def test_phases_against_the_matrix_recursion(batches: int, momentum: float) -> None:
    for contraction in (1e-6, 1e-3, (1 - momentum**0.5) ** 2, 0.7, 1.9 * (1 + momentum)):
        with mpmath.workdps(50):
            b, el = mpmath.mpf(momentum), mpmath.mpf(contraction)
            d = mpmath.matrix([[1 + b - el, -b], [1, 0]])
            e1 = mpmath.matrix([1, 0])
            scale = mpmath.mpf(batches) / (batches - 1)
            a, s, q = mpmath.zeros(2), mpmath.zeros(2, 1), []
            for _ in range(batches):
                a, s = d * a * d.T + e1 * e1.T, d * s + e1
                q.append(scale * (a - s * s.T / batches))
            epoch = d**batches
            kronecker = mpmath.matrix(4)
            for i in range(4):
                for j in range(4):
                    kronecker[i, j] = (i == j) - epoch[i // 2, j // 2] * epoch[i % 2, j % 2]
            start = mpmath.lu_solve(kronecker, mpmath.matrix([q[-1][0, 0], q[-1][0, 1], q[-1][1, 0], q[-1][1, 1]]))
            p0 = mpmath.matrix([[start[0], start[1]], [start[2], start[3]]])
            exact = [d**p * p0 * (d**p).T + q[p - 1] for p in range(1, batches + 1)]
            weight = np.array([float(p[0, 0]) for p in exact])
            velocity = np.array([float(p[0, 0] - p[0, 1] - p[1, 0] + p[1, 1]) for p in exact])
        result = phase_variances(HeavyBall(1.0, contraction, momentum), Reshuffled(batches))
        assert result.weight == pytest.approx(weight, rel=1e-10, abs=1e-13 * weight.max())
        assert result.velocity == pytest.approx(velocity, rel=1e-11)
