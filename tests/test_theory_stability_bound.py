"""Digits near the stability bound and for long memory, against sums of geometric series in high precision."""

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import squared_displacements, stationary_variances, weight_autocovariance, window_variances
from theory.weight_variance_phases import phase_variances

NOISES: list[GradientNoise] = [
    WhiteNoise(),
    AntiCorrelatedIncrements(),
    Reshuffled(2),
    Reshuffled(1000),
    ReshuffledEvery(7, 2),
    ReshuffledEvery(7, 3),
    ReshuffledEvery(10, 20),
    ShuffledOnce(4),
    ShuffledOnce(5),
    ShuffledOnce(1000),
    Persistent(0.9),
    Persistent(1 - 2e-16),
    Persistent(-0.999),
    Persistent(0.0),
    Reshuffled(5) + WhiteNoise(0.1),
]


def triangle(z: Any, n: int) -> Any:
    """sum_{h=1}^{n-1} (n - h) z^h."""
    return z * (z**n + n * (1 - z) - 1) / (1 - z) ** 2


def past(noise: GradientNoise, z: Any) -> Any:
    """sum_{h>=1} c_h z^h."""
    if isinstance(noise, Persistent):
        return mpmath.mpf(noise.correlation) * z / (1 - mpmath.mpf(noise.correlation) * z)
    assert isinstance(noise, Reshuffled | ReshuffledEvery | ShuffledOnce)
    m = noise.batches_per_epoch
    if isinstance(noise, Reshuffled):
        return -triangle(z, m) / (mpmath.mpf(m) * (m - 1))
    if isinstance(noise, ReshuffledEvery):
        epochs, period = mpmath.mpf(noise.epochs), m * noise.epochs
        return (m * triangle(z**m, noise.epochs) / epochs - triangle(z, period) / period) / (m - 1)
    return (m * z**m / (1 - z**m) - z / (1 - z)) / (m - 1)


def exact_variances(noise: GradientNoise, contraction: float, momentum: float) -> tuple[float, float]:
    """sum_h c_h kappa(h) for c_0 = 1, with kappa as a sum over the characteristic roots; not at critical damping."""
    with mpmath.workdps(120):
        el, beta = mpmath.mpf(contraction), mpmath.mpf(momentum)
        trace = 1 + beta - el
        root = mpmath.sqrt(mpmath.mpc(trace**2 - 4 * beta))
        larger, smaller = (trace + root) / 2, (trace - root) / 2
        start = (1 + beta) / (el * (1 - beta) * (2 * (1 + beta) - el))
        first = start * trace / (1 + beta)
        amplitude = (first - smaller * start) / (larger - smaller)
        weight, velocity = mpmath.mpc(start), mpmath.mpc(2 * (start - first))
        for size, z in ((amplitude, larger), (start - amplitude, smaller)):
            if abs(z) > 1e-100:
                weight += 2 * size * past(noise, z)
                velocity += 2 * size * (2 - z - 1 / z) * past(noise, z)
        return float(weight.real), float(velocity.real)


def errors(noise: GradientNoise, contraction: float, momentum: float) -> float:
    result = stationary_variances(HeavyBall(1.0, contraction, momentum), noise)
    weight, velocity = exact_variances(noise, contraction, momentum)
    return max(abs(float(result.weight) / weight - 1), abs(float(result.velocity) / velocity - 1))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "correlation", [0.5, 0.99, 0.999999, 0.9999999, 1 - 1e-12, -0.5, -0.99, -0.9999999, -1 + 1e-12]
)
def test_persistent_noise_has_all_digits(correlation: float, momentum: float) -> None:
    bound = 2 * (1 + momentum)
    gaps = [bound * (1 - gap) for gap in (0.4, 0.1, 1e-3, 1e-6, 1e-12)]
    for contraction in (1e-12, 1e-6, 1e-3, 0.1, *gaps):
        assert errors(Persistent(correlation), contraction, momentum) < 2e-15


def test_persistent_noise_of_flat_modes_diffuses() -> None:
    for correlation in (0.5, 1 - 1e-12, -0.9999999):
        noise = Persistent(correlation)
        result = stationary_variances(HeavyBall(1.0, [0.0, 1e-300], 0.5), noise)
        assert result.weight[0] == np.inf
        assert result.velocity[0] == pytest.approx(exact_variances(noise, 1e-30, 0.5)[1], rel=2e-15)
    # Beyond the largest float.
    assert stationary_variances(HeavyBall(1.0, 1e-300), Persistent(1 - 1e-12)).weight == np.inf


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("batches", [2, 3, 4, 5, 51, 1000])
def test_one_order_for_all_epochs_has_its_digits_up_to_the_bound(batches: int, momentum: float) -> None:
    for gap in (0.26, 0.24, 0.1, 1e-3, 1e-6, 1e-10):
        assert errors(ShuffledOnce(batches), 2 * (1 + momentum) * (1 - gap), momentum) < 1e-12


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
@pytest.mark.parametrize(("batches", "epochs"), [(2, 2), (10, 20), (3, 3), (5, 21), (5, 2), (51, 20)])
def test_one_order_for_several_epochs_has_the_digits_that_are_promised(
    batches: int, epochs: int, momentum: float
) -> None:
    for gap in (0.3, 0.1, 1e-3, 1e-6, 1e-10):
        promised = 1e-15 * epochs if batches % 2 == 0 else 1e-15 / gap if epochs % 2 == 0 else 1e-15 * epochs**2
        expected = max(promised, 1e-15 * epochs, 3e-12)
        assert errors(ReshuffledEvery(batches, epochs), 2 * (1 + momentum) * (1 - gap), momentum) < expected


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 0.999999, 1 - 1e-15])
@pytest.mark.parametrize("noise", NOISES)
def test_nothing_is_negative_or_undefined_at_the_ends(noise: GradientNoise, momentum: float) -> None:
    bound = 2 * (1 + momentum)
    for contraction in (0.0, 5e-324, 1e-300, 1e-16, np.nextafter(bound, 0), bound * (1 - 1e-13)):
        modes = HeavyBall(1.0, contraction, momentum)
        result = stationary_variances(modes, noise)
        assert result.weight >= 0
        assert result.velocity >= 0
        displacements = squared_displacements(modes, noise, 30)
        assert (displacements >= 0).all()
        assert np.isfinite(displacements).all()
        assert not np.isnan(weight_autocovariance(modes, noise, 30)).any()
        assert np.isfinite(window_variances(modes, noise, 30).weight)


def test_phases_near_the_stability_bound_have_the_digits_that_are_promised() -> None:
    for batches, momentum in ((2, 0.5), (10, 0.9), (100, 0.99), (10, 0.999), (1000, 0.0)):
        for distance in (0.1, 1e-3, 1e-6):
            modes = HeavyBall(1.0, 2 * (1 + momentum) * (1 - distance), momentum)
            average = phase_variances(modes, Reshuffled(batches)).average
            exact = stationary_variances(modes, Reshuffled(batches))
            promised = batches * 1e-15 + 1e-15 / ((1 - momentum) ** 2 * distance)
            assert average.weight == pytest.approx(exact.weight, rel=promised)
            assert average.velocity == pytest.approx(exact.velocity, rel=promised)


def test_whole_epochs_of_one_order_lead_nowhere() -> None:
    for momentum in (0.0, 0.3, 0.9):
        displacements = squared_displacements(HeavyBall(1.0, [0.0, 1e-16], momentum), ShuffledOnce(5), 30)
        assert displacements[::5] == pytest.approx(np.zeros((7, 2)), abs=1e-13)
        assert (displacements >= 0).all()


@given(st.floats(0, 0.99), st.floats(1e-6, 0.999999), st.floats(0, 3.14))
def test_power_gain_is_that_of_the_transfer_function(momentum: float, share: float, frequency: float) -> None:
    modes = HeavyBall(0.3, 2 * (1 + momentum) * share / 0.3, momentum)
    with mpmath.workdps(60):
        delay = mpmath.expj(-mpmath.mpf(frequency))
        denominator = (1 - delay) * (1 - momentum * delay) + mpmath.mpf(float(modes.contraction)) * delay
        exact = float(1 / abs(denominator) ** 2)
    assert modes.power_gain(frequency) == pytest.approx(exact, rel=1e-11)
    assert abs(modes.transfer_function(frequency)) ** 2 == pytest.approx(0.09 * exact, rel=1e-8)
    assert modes.power_gain(-frequency) == modes.power_gain(frequency)


def test_power_gain_at_the_ends() -> None:
    near = HeavyBall(1.0, 4 * (1 - 1e-13) * 0.95, 0.9)
    assert near.power_gain(np.pi) == pytest.approx(float(near.distance_to_bound) ** -2, rel=1e-6)
    assert HeavyBall(1.0, 0.5).power_gain(0.0) == 4
    with pytest.raises(ValueError, match="frequency=0 with curvature=0: the response is infinite"):
        HeavyBall(1.0, 0.0).power_gain(0.0)
    with pytest.raises(ValueError, match="frequency=nan must be finite"):
        HeavyBall(1.0, 0.5).power_gain(np.nan)
