"""Fluctuation and dissipation of SGD: frequency, lag and static temperatures against each other and the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.random_streams import stream
from theory.effective_temperature import (
    StaticTemperatures,
    friction,
    lag_temperature,
    mass,
    response,
    spectral_temperature,
    static_temperatures,
    susceptibility,
)
from theory.estimate import agreement
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    TabulatedNoise,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import stationary_variances, weight_autocovariance

PUBLISHED = HeavyBall(learning_rate=1.0, curvature=0.05, momentum=0.8)
# Of the increments xi_{k+1} - xi_k with xi of variance 1.
ANTI = AntiCorrelatedIncrements(2.0)
MODES = [
    HeavyBall(0.1, 3.0),
    HeavyBall(0.1, 3.0, 0.9),
    HeavyBall(0.5, 0.02, 0.5),
    HeavyBall(2.0, 0.9),
    HeavyBall(1.0, 2.9, 0.6),
]
NOISES: list[GradientNoise] = [
    WhiteNoise(2.0),
    Reshuffled(7, 1.5),
    Persistent(0.9),
    Persistent(-0.4),
    ANTI,
    ReshuffledEvery(4, 3, 0.7),
    ShuffledOnce(5, 1.2),
    TabulatedNoise([1.0, 0.3, -0.2]),
    Reshuffled(6) + WhiteNoise(0.3),
]


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "configurational", "kinetic"),
    [
        (WhiteNoise(), 2.53521126761, 2.53521126761),
        (Reshuffled(20), 1.56000858298, 2.40366346657),
        (Persistent(0.9), 18.3021416168, 5.97337449354),
        (ANTI, 0.140845070423, 1.14084507042),
    ],
)
def test_static_temperatures(noise: GradientNoise, configurational: float, kinetic: float) -> None:
    temperatures = static_temperatures(PUBLISHED, noise)
    assert temperatures.configurational == pytest.approx(configurational, rel=5e-12)
    assert temperatures.kinetic == pytest.approx(kinetic, rel=5e-12)
    assert temperatures.equipartition_index == pytest.approx(configurational / kinetic, rel=1e-11)


def test_spectral_temperatures() -> None:
    frequencies = [0.0307, 0.3068, 1.841]
    assert spectral_temperature(PUBLISHED, Reshuffled(20), frequencies) == pytest.approx(
        [0.0813, 2.630, 2.630], rel=3e-3
    )
    assert spectral_temperature(PUBLISHED, Persistent(0.9), frequencies) == pytest.approx(
        [43.8, 5.05, 0.2074], rel=1e-3
    )
    assert spectral_temperature(PUBLISHED, WhiteNoise(), frequencies) == pytest.approx([2.5] * 3, rel=1e-14)
    assert spectral_temperature(PUBLISHED, ANTI, frequencies) == pytest.approx(
        10 * np.sin(np.array(frequencies) / 2) ** 2, rel=1e-13
    )
    assert spectral_temperature(PUBLISHED, Reshuffled(20), 0.0) == 0
    assert spectral_temperature(PUBLISHED, Persistent(0.9), 0.0) == pytest.approx(2.5 * 1.9 / 0.1, rel=1e-13)


def test_thermal_noise_has_its_temperature() -> None:
    noise = WhiteNoise.thermal(temperature=0.3, learning_rate=0.1, momentum=0.5)
    modes = HeavyBall(0.1, [0.0, 1e-3, 5.0], 0.5)
    assert spectral_temperature(modes, noise, [0.1, 3.0]) == pytest.approx([0.3, 0.3], rel=1e-14)
    assert lag_temperature(modes, noise, [1, 2, 17]) == pytest.approx(np.full((3, 3), 0.3), rel=1e-13)
    small = static_temperatures(modes, noise)
    assert small.configurational[:2] == pytest.approx([0.3, 0.3], rel=1e-4)
    assert small.configurational == pytest.approx(small.kinetic, rel=1e-13)


# ---- The definitions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", MODES)
def test_susceptibility_is_the_transform_of_the_response(modes: HeavyBall) -> None:
    lags = np.arange(3000)
    answers = response(modes, lags)
    assert answers[:3] == pytest.approx(
        [0, modes.learning_rate, (1 + modes.momentum - float(modes.contraction)) * modes.learning_rate]
    )
    frequencies = np.array([0.0, 0.01, 0.7, 2.0, np.pi])
    transformed = np.exp(-1j * np.multiply.outer(frequencies, lags)) @ answers
    assert susceptibility(modes, frequencies) == pytest.approx(transformed, rel=1e-10)
    assert susceptibility(modes, 0.7) == pytest.approx(-np.exp(-0.7j) * modes.transfer_function(0.7), rel=1e-12)


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("noise", NOISES)
def test_spectral_temperature_is_fluctuation_over_dissipation(modes: HeavyBall, noise: GradientNoise) -> None:
    frequencies = np.linspace(0.05, 3.1, 40)
    fluctuation = np.abs(modes.transfer_function(frequencies)) ** 2 * noise.spectrum(frequencies)
    dissipation = np.abs(susceptibility(modes, frequencies).imag)
    expected = fluctuation * np.sin(frequencies) / (2 * dissipation)
    assert spectral_temperature(modes, noise, frequencies) == pytest.approx(expected, rel=1e-10, abs=1e-13)
    assert -susceptibility(modes, frequencies).imag == pytest.approx(
        np.abs(susceptibility(modes, frequencies)) ** 2 * friction(modes) * np.sin(frequencies), rel=1e-10
    )


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("noise", NOISES)
def test_lag_temperature_is_fluctuation_over_dissipation(modes: HeavyBall, noise: GradientNoise) -> None:
    lags = np.array([1, 2, 3, 5, 8, 11])
    covariance = weight_autocovariance(modes, noise, 12)
    temperature = lag_temperature(modes, noise, lags)
    products = -(covariance[lags + 1] - covariance[lags - 1]) / 2
    assert temperature * response(modes, lags) == pytest.approx(products, rel=1e-9, abs=1e-12 * covariance[0])


def test_lag_temperature_averages_the_spectral_one() -> None:
    # chi(n) T_eff(n) = (1 / pi) int_0^pi 2 T_eff(omega) |Im chi(omega)| sin(omega n) d omega, on a periodic grid.
    modes, noise = HeavyBall(0.3, 1.0, 0.5), Reshuffled(6)
    frequencies = np.pi * (np.arange(4000) + 0.5) / 4000
    lags = np.array([1, 2, 4, 9])
    weight = 2 * spectral_temperature(modes, noise, frequencies) * np.abs(susceptibility(modes, frequencies).imag)
    averages = (np.sin(np.multiply.outer(lags, frequencies)) * weight).mean(axis=1)
    assert lag_temperature(modes, noise, lags) * response(modes, lags) == pytest.approx(averages, rel=1e-10)


def test_flat_modes() -> None:
    modes = HeavyBall(0.1, [0.0, 1e-9, 1e-4], 0.5)
    reshuffled = lag_temperature(modes, Reshuffled(5), np.arange(1, 12))
    assert reshuffled[:, 0] == pytest.approx(reshuffled[:, 1], rel=1e-6, abs=1e-9)
    # Without curvature and momentum chi(n) = eta: only the sum of the noise's autocovariance up to n counts.
    long = lag_temperature(HeavyBall(0.1, 0.0), Reshuffled(5), [4, 5, 9])
    assert long == pytest.approx([0.05 * (1 - 2 * (4 + 3 + 2) / 20 - 1 / 20), 0, 0], abs=1e-16)
    assert lag_temperature(HeavyBall(0.1, 0.0), Persistent(0.5), [1, 200]) == pytest.approx([0.075, 0.15], rel=1e-12)
    cold = static_temperatures(modes, Reshuffled(5))
    assert cold.configurational[0] == 0
    assert cold.equipartition_index[0] == 0
    hot = static_temperatures(modes, Persistent(0.5))
    assert hot.configurational[0] == pytest.approx(spectral_temperature(modes, Persistent(0.5), 0.0), rel=1e-14)
    assert hot.configurational[1] == pytest.approx(hot.configurational[0], rel=1e-7)


@given(st.floats(1e-6, 0.999), st.floats(0, 0.99), st.floats(0.01, 10), st.integers(0, len(NOISES) - 1))
def test_equipartition_index_is_the_correlation_time(stiffness: float, beta: float, eta: float, which: int) -> None:
    modes = HeavyBall(eta, stiffness * 2 * (1 + beta) / eta, beta)
    noise = NOISES[which]
    temperatures = static_temperatures(modes, noise)
    time = stationary_variances(modes, noise).correlation_time
    assert temperatures.equipartition_index == pytest.approx(modes.contraction * time / (1 + beta), rel=1e-10)
    white = static_temperatures(modes, WhiteNoise(3.0))
    expected = eta * 3 * (1 + beta) / ((1 - beta) * 2 * (1 + beta) * (1 - stiffness))
    assert white.configurational == pytest.approx(expected, rel=1e-9)
    assert white.equipartition_index == pytest.approx(1, rel=1e-12)
    assert mass(modes) * eta * 2 - friction(modes) * eta == pytest.approx(2 * beta, abs=1e-12)


# ---- Twin trajectories -----------------------------------------------------------------------------------------------


def test_twins_have_this_temperature(seed: int) -> None:
    """Reshuffled noise, many runs; the twin's answer to a force is exact, so only the fluctuations are sampled."""
    eta, curvature, beta, batches, lag, runs = 0.5, 0.4, 0.6, 5, 3, 4000
    rng, epochs = stream(seed, "twins"), 14
    # Four batches and minus their sum would be an order; exchangeable Gaussian noise of zero sum is simpler.
    noise = rng.standard_normal((epochs, batches, runs))
    noise = (noise - noise.mean(axis=1, keepdims=True)) * np.sqrt(batches / (batches - 1))
    theta = np.zeros((epochs * batches + 2, runs))
    twin = theta.copy()
    kicked = 6 * batches
    for k, kick in enumerate(noise.reshape(-1, runs), 2):
        for path, force in ((theta, 0.0), (twin, 1e-3 if k == kicked else 0.0)):
            path[k] = (1 + beta) * path[k - 1] - beta * path[k - 2] - eta * (curvature * path[k - 1] + kick - force)
    modes = HeavyBall(eta, curvature, beta)
    answer = (twin - theta)[kicked - 1 + lag] / 1e-3
    assert answer == pytest.approx(np.full(runs, response(modes, lag)), rel=1e-8)
    # Averaged over the phases of two late epochs; the transient is below 0.6^{35/2}.
    times = np.arange(8 * batches, 12 * batches) + 2
    products = (theta[times] * (theta[times + lag - 1] - theta[times + lag + 1])).mean(axis=0) / (2 * answer.mean())
    expected = float(lag_temperature(modes, Reshuffled(batches), lag))
    assert agreement(products, expected)
    assert not agreement(products, float(lag_temperature(modes, WhiteNoise(), lag)))
    forward = (theta[times] * (theta[times + lag - 1] - theta[times + lag])).mean(axis=0) / answer.mean()
    assert not agreement(forward, expected)


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_shapes_and_refusals() -> None:
    modes = HeavyBall(0.1, np.ones((2, 3)), 0.5)
    assert lag_temperature(modes, WhiteNoise(), np.ones((4, 5), dtype=int)).shape == (4, 5, 2, 3)
    assert response(modes, [-3, 0, 1]).shape == (3, 2, 3)
    assert (response(modes, -1) == 0).all()
    assert lag_temperature(modes, WhiteNoise(), np.empty(0, dtype=int)).shape == (0, 2, 3)
    with pytest.raises(ValueError, match=r"lags=0 must be >= 1"):
        lag_temperature(modes, WhiteNoise(), [0, 1])
    with pytest.raises(ValueError, match=r"lags of type float64 must be whole numbers of updates: pass integers"):
        response(modes, [1.5])
    with pytest.raises(ValueError, match=r"lags=2: a mode does not answer after so many updates"):
        lag_temperature(HeavyBall(1.0, [0.5, 1.0]), WhiteNoise(), [1, 2])
    with pytest.raises(ValueError, match=r"frequency=0 with curvature=0: the answer is infinite"):
        susceptibility(HeavyBall(1.0, 0.0), 0.0)
    with pytest.raises(ValueError, match=r"kinetic=0 somewhere: a mode without noise has no equipartition"):
        _ = StaticTemperatures(np.zeros(1), np.zeros(1)).equipartition_index
    with pytest.raises(ValueError, match=r"learning_rate \* curvature = 3.9 must be < 2 \(1 \+ momentum\) = 3.6"):
        HeavyBall(1.0, 3.9, 0.8)
