"""Recordings of finite length: anchors, quadratic forms by brute force, and limits."""

import numpy as np
import pytest

from theory.gradient_noise import GradientNoise, Persistent, Reshuffled, ShuffledOnce, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import DRIFTS, recorded_variances, removed_share
from theory.weight_variance import stationary_variances, weight_autocovariance, window_variances

NOISES = (Reshuffled(5), WhiteNoise(), ShuffledOnce(5), Persistent(0.8))


@pytest.mark.parametrize(
    ("noise", "shares"),
    [(Reshuffled(50), (0.97401, 0.99585, 0.99956)), (WhiteNoise(), (0.25927, 0.81815, 0.98006))],
    ids=["reshuffled", "white"],
)
def test_windows_of_the_reference(noise: GradientNoise, shares: tuple[float, ...]) -> None:
    modes = HeavyBall(1.0, [1e-4, 1e-3, 1e-2], 0.9)
    seen = recorded_variances(modes, noise, 1000).weight / stationary_variances(modes, noise).weight
    assert seen == pytest.approx(shares, abs=5e-6)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
@pytest.mark.parametrize("drift", ["mean", "line"])
def test_residuals_of_a_projection_by_brute_force(noise: GradientNoise, drift: str) -> None:
    updates, modes = 37, HeavyBall(0.5, [0.02, 0.4, 2.0], 0.6)
    covariance = weight_autocovariance(modes, noise, updates)
    columns = np.vander(np.arange(updates), 1 if drift == "mean" else 2)
    basis = np.linalg.qr(columns)[0]
    residual = np.eye(updates) - basis @ basis.T
    lags = np.abs(np.subtract.outer(np.arange(updates), np.arange(updates)))
    expected = [np.sum(residual * covariance[lags, i]) / updates for i in range(3)]
    assert recorded_variances(modes, noise, updates, drift).weight == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
def test_the_mean_is_that_of_window_variances(noise: GradientNoise) -> None:
    modes = HeavyBall(0.5, np.array([[0.02, 0.4], [1.0, 2.0]]), 0.6)
    here, there = recorded_variances(modes, noise, 100), window_variances(modes, noise, 100)
    assert here.weight == pytest.approx(there.weight, rel=1e-12)
    assert here.velocity == pytest.approx(there.velocity, rel=1e-12)
    assert here.weight.shape == (2, 2)


def test_a_random_walk_about_its_line() -> None:
    # Var of a walk of T steps about its mean is (T^2 - 1) / (6 T), about its line (T^2 - 4) / (15 T).
    walk = HeavyBall(1.0, 0.0)
    for updates in (3, 10, 1000):
        mean, line = (recorded_variances(walk, WhiteNoise(), updates, drift).weight for drift in ("mean", "line"))
        assert mean == pytest.approx((updates**2 - 1) / (6 * updates), rel=1e-12)
        assert line == pytest.approx((updates**2 - 4) / (15 * updates), rel=1e-12)


def test_a_line_takes_away_more_than_a_mean_and_nothing_of_long_recordings() -> None:
    modes = HeavyBall(1.0, [1e-3, 0.1], 0.5)
    for noise in NOISES[:2]:
        true = stationary_variances(modes, noise).weight
        mean, line = (recorded_variances(modes, noise, 500, drift).weight for drift in ("mean", "line"))
        assert (line < mean).all()
        assert (mean < true).all()
    # A line has two coefficients, a mean one: of long recordings they take 2 and 1 times as little.
    true = stationary_variances(modes, WhiteNoise()).weight
    by_mean, by_line = (1 - recorded_variances(modes, WhiteNoise(), 50_000, drift).weight / true for drift in DRIFTS)
    assert by_line == pytest.approx(2 * by_mean, rel=0.02)
    assert (by_line < 0.05).all()


def test_modes_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = HeavyBall(1.0, np.linspace(0, 1, 7), 0.5)
    whole = recorded_variances(modes, Reshuffled(5), 60, "line")
    monkeypatch.setattr("theory.recording_window._VALUES", 150)
    parts = recorded_variances(modes, Reshuffled(5), 60, "line")
    assert parts.weight == pytest.approx(whole.weight, rel=1e-13)
    assert parts.velocity == pytest.approx(whole.velocity, rel=1e-13)


def test_no_modes() -> None:
    assert recorded_variances(HeavyBall(1.0, np.empty(0)), WhiteNoise(), 10).weight.shape == (0,)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="drift='curve' must be one of mean, line"):
        removed_share(10, "curve")
    with pytest.raises(ValueError, match="updates=2 must be"):
        recorded_variances(HeavyBall(1.0, 0.1), WhiteNoise(), 2)
    with pytest.raises(ValueError, match="updates=1 must be"):
        removed_share(1)
