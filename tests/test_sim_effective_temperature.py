"""The fluctuation-dissipation theorem of SGD, simulated; white noise and forward differences must be rejected."""

import numpy as np
import pytest

from sim.effective_temperature import SimulatedTemperatures, simulate_effective_temperature
from sim.fluctuation_response import run_fluctuation_response
from sim.gaussian_noise import bridge_filter
from sim.random_streams import kernel_key, stream
from theory.absorbing import Floats
from theory.effective_temperature import lag_temperature, mass, response, spectral_temperature, static_temperatures
from theory.estimate import AGREEMENT_P_VALUE, Estimate, agreement, compare
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
from theory.weight_variance import stationary_variances, weight_autocovariance

LAGS = [1, 2, 4, 7]
REPLICAS = 400
STEPS = 6000

# eta lambda = 0.05 and beta = 0.8, for eta = sigma = 1: (configurational, kinetic) temperature.
ANCHORS: dict[GradientNoise, tuple[float, float]] = {
    WhiteNoise(): (2.53521126761, 2.53521126761),
    Reshuffled(20): (1.56000858298, 2.40366346657),
    Persistent(0.9): (18.3021416168, 5.97337449354),
    AntiCorrelatedIncrements(2.0): (0.140845070423, 1.14084507042),  # increments of independent noise of variance 1
}


def reference(
    noise: GradientNoise, seed: int, *, curvature: tuple[float, ...] = (0.05,), momentum: float = 0.8
) -> SimulatedTemperatures:
    modes = HeavyBall(learning_rate=1.0, curvature=curvature, momentum=momentum)
    rng = stream(seed, "effective temperature", list(ANCHORS).index(noise) if noise in ANCHORS else 9)
    return simulate_effective_temperature(modes, noise, rng, lags=LAGS, steps=STEPS, replicas=REPLICAS)


def agrees(prediction: float, estimate: Estimate) -> bool:
    return compare("temperature", Estimate(prediction, 0.0, 1), estimate).p_value > AGREEMENT_P_VALUE


@pytest.mark.parametrize("noise", ANCHORS, ids=lambda noise: type(noise).__name__)
def test_static_temperatures_are_those_of_theory_and_not_of_white_noise(seed: int, noise: GradientNoise) -> None:
    simulated = reference(noise, seed)
    assert simulated.replicas == simulated.requested == REPLICAS
    for estimates, anchor in zip((simulated.configurational, simulated.kinetic), ANCHORS[noise], strict=True):
        assert agrees(anchor, estimates[0])
        assert estimates[0].standard_error < 0.01 * anchor
        if not isinstance(noise, WhiteNoise):
            assert not agrees(ANCHORS[WhiteNoise()][0] * noise.variance, estimates[0])


@pytest.mark.parametrize("noise", ANCHORS, ids=lambda noise: type(noise).__name__)
def test_the_equipartition_index_is_a_correlation_time(seed: int, noise: GradientNoise) -> None:
    simulated = reference(noise, seed, curvature=(0.05, 0.4))
    variances = stationary_variances(simulated.modes, noise)
    indices = simulated.modes.contraction * variances.correlation_time / (1 + simulated.modes.momentum)
    for estimate, index in zip(simulated.equipartition_index, indices, strict=True):
        assert agrees(float(index), estimate)
        assert agrees(1.0, estimate) == isinstance(noise, WhiteNoise)
    # The ratio fluctuates less than either: a common error cancels.
    together = simulated.equipartition_index[0].standard_error / simulated.equipartition_index[0].value
    alone = simulated.configurational[0].standard_error / simulated.configurational[0].value
    assert together < 1.1 * alone


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize(
    "noise", [*ANCHORS, ShuffledOnce(6), ReshuffledEvery(6, 4)], ids=lambda noise: type(noise).__name__
)
def test_temperatures_at_all_lags(seed: int, noise: GradientNoise, momentum: float) -> None:
    simulated = reference(noise, seed, curvature=(0.05, 0.3), momentum=momentum)
    predicted = lag_temperature(simulated.modes, noise, LAGS)
    white = float(spectral_temperature(simulated.modes, WhiteNoise(noise.variance), 0.0))
    rejected = []
    for lag, values in zip(LAGS, predicted, strict=True):
        samples = simulated.temperature_samples(lag)
        for mode, value in enumerate(values):
            assert agreement(samples[:, mode], float(value))
            assert simulated.temperature(lag)[mode] == Estimate.from_samples(samples[:, mode])
            rejected.append(not agreement(samples[:, mode], white))
    # With momentum, not far from the time of a mode's oscillation, answers change their sign and errors are large.
    assert sum(rejected) >= (0 if isinstance(noise, WhiteNoise) else 3)


@pytest.mark.parametrize("noise", [WhiteNoise(), Reshuffled(20)], ids=lambda noise: type(noise).__name__)
def test_forward_differences_violate_the_theorem(seed: int, noise: GradientNoise) -> None:
    modes = HeavyBall(learning_rate=0.5, curvature=[0.6], momentum=0.0)
    lags = [1, 2, 3]
    simulated = simulate_effective_temperature(
        modes, noise, stream(seed, "forward"), lags=lags, steps=STEPS, replicas=REPLICAS
    )
    exact = lag_temperature(modes, noise, lags)[:, 0]
    for lag, value in zip(lags, exact, strict=True):
        assert agreement(simulated.temperature_samples(lag)[:, 0], float(value), detects=0.1)
        c, chi = simulated.autocovariance[:, 0], simulated.response[:, 0, lag]
        assert not agreement((c[:, lag - 1] - c[:, lag]) / chi, float(value), detects=0.1)
        assert not agreement((c[:, lag] - c[:, lag + 1]) / chi, float(value), detects=0.1)


def test_twins_answer_as_linear_response_says(seed: int) -> None:
    modes = HeavyBall(learning_rate=0.2, curvature=[0.1, 1.0, 9.0], momentum=0.6)
    simulated = simulate_effective_temperature(
        modes, Reshuffled(5, 3.0), stream(seed, "twins"), lags=[30], steps=200, replicas=200
    )
    expected = response(modes, np.arange(32)).T
    np.testing.assert_allclose(simulated.response, np.broadcast_to(expected, (200, 3, 32)), rtol=0, atol=1e-12)


def test_autocovariances_and_units(seed: int) -> None:
    modes = HeavyBall(learning_rate=0.2, curvature=[0.5, 2.0], momentum=0.6)
    noise = Reshuffled(5, 3.0)
    simulated = simulate_effective_temperature(
        modes, noise, stream(seed, "units"), lags=[12], steps=STEPS, replicas=REPLICAS
    )
    predicted = weight_autocovariance(modes, noise, 13)
    for lag in range(14):
        for mode in range(2):
            assert agreement(simulated.autocovariance[:, mode, lag], float(predicted[lag, mode]))
    assert not agreement(simulated.autocovariance[:, 0, 5], float(predicted[6, 0]))  # one lag off
    temperatures = static_temperatures(modes, noise)
    for mode in range(2):
        assert agrees(float(temperatures.configurational[mode]), simulated.configurational[mode])
        assert agrees(float(temperatures.kinetic[mode]), simulated.kinetic[mode])
        # A particle of half the mass: eta is in it once.
        assert not agrees(float(temperatures.kinetic[mode]) / 2, simulated.kinetic[mode])
    assert mass(modes) == pytest.approx(4.0, rel=1e-15)


def kernel(curvature: Floats, *, first: int = 0, force: float = 0.5) -> tuple[Floats, Floats, Floats]:
    n, lags = len(curvature), 7
    products, answers, velocities = np.empty((n, lags)), np.empty((n, lags)), np.empty(n)
    key, never = kernel_key(stream(3, "kernel")), np.zeros(1, np.bool_)
    run_fluctuation_response(
        products, answers, velocities, key, first, curvature, 0.7, bridge_filter(3), force, 9, 12, never
    )
    return products, answers, velocities


def test_a_recursion_does_not_depend_on_its_lane_or_on_the_force() -> None:
    curvature = np.linspace(0.1, 1.0, 70)
    together = kernel(curvature)
    alone = kernel(curvature[65:], first=65)
    for all_of_them, some in zip(together, alone, strict=True):
        np.testing.assert_array_equal(all_of_them[65:], some)
    pushed = kernel(curvature, force=2.0)
    np.testing.assert_array_equal(pushed[0], together[0])
    np.testing.assert_array_equal(pushed[2], together[2])
    np.testing.assert_allclose(pushed[1], 4 * together[1], rtol=0, atol=1e-13)


def test_results_depend_on_neither_threads_nor_the_number_of_replicas() -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=np.linspace(0.1, 1.0, 7), momentum=0.3)

    def run(threads: int, replicas: int) -> SimulatedTemperatures:
        return simulate_effective_temperature(
            modes,
            Reshuffled(5),
            stream(0, "bits"),
            lags=(1, 3),
            steps=55,
            burn_in=10,
            replicas=replicas,
            threads=threads,
        )

    one, two, fewer = run(1, 300), run(2, 300), run(1, 299)
    for name in ("autocovariance", "response", "squared_velocity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name)[:299], getattr(fewer, name))


def test_ctrl_c_keeps_whole_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.effective_temperature as module

    def interrupted(kernel, runs, **_settings):  # type: ignore[no-untyped-def]
        kernel(0, runs)
        return 8  # of three modes: two replicas and two thirds of one

    monkeypatch.setattr(module, "run_in_chunks", interrupted)
    modes = HeavyBall(learning_rate=1.0, curvature=[0.1, 0.2, 0.3])
    simulated = simulate_effective_temperature(modes, WhiteNoise(), stream(0, "stop"), lags=[1], steps=20, replicas=5)
    assert (simulated.replicas, simulated.requested) == (2, 5)
    assert simulated.autocovariance.shape == simulated.response.shape == (2, 3, 3)
    monkeypatch.setattr(module, "run_in_chunks", lambda _kernel, _runs, **_settings: 5)
    with pytest.raises(KeyboardInterrupt):
        simulate_effective_temperature(modes, WhiteNoise(), stream(0, "stop"), lags=[1], steps=20, replicas=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 12}, "steps=12 must be a whole number of epochs .*, 5 steps"),
        ({"burn_in": 8}, "burn_in=8 must be a whole number of epochs"),
        ({"burn_in": 0}, "burn_in=0 must be >= 3, two more than the largest lag"),
        ({"steps": 10, "lags": [9]}, "steps=10 must be >= 11"),
        ({"lags": []}, r"lags=\(\) must hold at least one lag"),
        ({"lags": [0]}, "lags=0 must be a whole number >= 1"),
        ({"lags": [1.5]}, "lags=1.5 must be a whole number >= 1"),
        ({"replicas": 1}, "replicas=1 must be a whole number >= 2"),
        ({"curvature": [0.1, 0.0]}, "curvature=0.0 must be > 0: a flat mode"),
        ({"curvature": [1e-9]}, "give burn_in"),
        ({"curvature": [1.0], "momentum": 0.0, "lags": [1, 2]}, "lags=2: a mode does not answer"),
        ({"noise": WhiteNoise() + Reshuffled(5)}, "has no Gaussian simulation"),
        ({"noise": ReshuffledEvery(5, 4)}, "steps=10 must be a whole number of epochs .*, 20 steps"),
        ({"threads": 0}, "threads=0 must be >= 1"),
    ],
)
def test_refuses(settings: dict, message: str) -> None:
    modes = HeavyBall(1.0, settings.pop("curvature", [0.1]), settings.pop("momentum", 0.3))
    noise = settings.pop("noise", Reshuffled(5))
    with pytest.raises(ValueError, match=message):
        simulate_effective_temperature(modes, noise, stream(0, "refused"), **{"lags": [1], "steps": 10, **settings})


def test_lags_that_were_not_simulated_are_refused() -> None:
    modes = HeavyBall(1.0, [1.0], 0.0)
    simulated = simulate_effective_temperature(
        modes, WhiteNoise(), stream(0, "lags"), lags=[1], steps=10, burn_in=10, replicas=2
    )
    for lag, message in ((2, "lag=2 must lie between 1 and 1"), (0, "lag=0 must be a whole number >= 1")):
        with pytest.raises(ValueError, match=message):
            simulated.temperature(lag)
