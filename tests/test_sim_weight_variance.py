"""SGD on a quadratic, simulated, against the closed forms; white-noise theory must be rejected by the same data."""

import math

import numpy as np
import pytest

from sim.random_streams import stream
from sim.weight_variance import SimulatedVariances, chunk_of_recursions, relaxation_steps, simulate_weight_variance
from theory.estimate import Estimate
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
from theory.weight_variance import stationary_variances, window_variances

CURVATURES = [0.02, 0.1, 0.5, 1.5]
REPLICAS = 320


def t_value(estimate: Estimate, prediction: float) -> float:
    return (estimate.value - prediction) / estimate.standard_error


def largest_t(simulated: SimulatedVariances, noise: GradientNoise) -> float:
    """Of the weight and velocity variances of all directions."""
    predicted = stationary_variances(simulated.modes, noise)
    values = [*np.ravel(predicted.weight), *np.ravel(predicted.velocity)]
    return max(
        abs(t_value(estimate, float(value)))
        for estimate, value in zip(simulated.weight_variance + simulated.velocity_variance, values, strict=True)
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("batches", [2, 7, 10])
def test_reshuffled_batches_have_the_exact_variances_and_not_those_of_white_noise(
    seed: int, momentum: float, batches: int
) -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=CURVATURES, momentum=momentum)
    simulated = simulate_weight_variance(
        modes, Reshuffled(batches), stream(seed, "reshuffled", batches), steps=400 * batches, replicas=REPLICAS
    )
    assert simulated.replicas == simulated.requested == REPLICAS
    assert largest_t(simulated, Reshuffled(batches)) < 5
    assert largest_t(simulated, WhiteNoise()) > 20  # the same noise variance, drawn with replacement
    assert largest_t(simulated, Reshuffled(batches + 1)) > 5


@pytest.mark.parametrize(
    ("noise", "wrong"),
    [
        (WhiteNoise(2.0), WhiteNoise(2.2)),
        (AntiCorrelatedIncrements(), WhiteNoise()),
        (Persistent(0.8), Persistent(0.75)),
        (Persistent(-0.5), WhiteNoise()),
        (ShuffledOnce(6), Reshuffled(6)),
        (ReshuffledEvery(6, 1), WhiteNoise()),
        (ReshuffledEvery(6, 4), Reshuffled(6)),
        (ReshuffledEvery(5, 2), ShuffledOnce(5)),
    ],
)
def test_every_other_noise(seed: int, noise: GradientNoise, wrong: GradientNoise) -> None:
    modes = HeavyBall(learning_rate=0.5, curvature=[0.1, 0.5, 2.0], momentum=0.4)
    simulated = simulate_weight_variance(
        modes, noise, stream(seed, "noise", CURVATURES.index(0.5)), steps=4800, replicas=REPLICAS
    )
    assert largest_t(simulated, noise) < 5
    assert largest_t(simulated, wrong) > 20


def test_a_window_that_is_short_for_a_mode_sees_less_of_it(seed: int) -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=[0.005, 0.05], momentum=0.5)
    for noise in (WhiteNoise(), Reshuffled(10)):
        steps = 200
        simulated = simulate_weight_variance(modes, noise, stream(seed, "window"), steps=steps, replicas=2000)
        predicted = window_variances(modes, noise, steps).weight
        for estimate, value in zip(simulated.window_variance, predicted, strict=True):
            assert abs(t_value(estimate, float(value))) < 5
        if isinstance(noise, WhiteNoise):
            assert abs(t_value(simulated.window_variance[0], float(stationary_variances(modes, noise).weight[0]))) > 20


def test_results_depend_on_neither_threads_nor_the_number_of_replicas() -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=np.linspace(0.1, 1.0, 7), momentum=0.3)

    def run(threads: int, replicas: int) -> SimulatedVariances:
        return simulate_weight_variance(
            modes, Reshuffled(5), stream(0, "bits"), steps=55, burn_in=10, replicas=replicas, threads=threads
        )

    one, two = run(1, 500), run(2, 500)
    assert one.weight_variance == two.weight_variance
    assert one.window_variance == two.window_variance
    assert one.weight_variance != run(1, 499).weight_variance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 12}, "steps=12 must be a whole number of epochs .*, 5 steps"),
        ({"steps": 10, "burn_in": 3}, "burn_in=3 must be a whole number of epochs"),
        ({"steps": 10, "replicas": 1}, "replicas=1 must be a whole number >= 2"),
        ({"steps": 10, "curvature": [0.0]}, "curvature=0 is so flat .* give burn_in, or leave it out"),
        ({"steps": 10, "curvature": [1e-9]}, "give burn_in"),
        ({"steps": 10, "noise": WhiteNoise() + Reshuffled(5)}, "has no Gaussian simulation"),
        ({"steps": 10, "noise": ReshuffledEvery(5, 4)}, "steps=10 must be a whole number of epochs .*, 20 steps"),
    ],
)
def test_refuses(settings: dict, message: str) -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=settings.pop("curvature", [0.1]), momentum=0.3)
    noise = settings.pop("noise", Reshuffled(5))
    with pytest.raises(ValueError, match=message):
        simulate_weight_variance(modes, noise, stream(0, "refused"), **settings)


def test_flat_directions_need_a_burn_in_of_ones_own() -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=[0.0], momentum=0.0)
    simulated = simulate_weight_variance(
        modes, Reshuffled(10), stream(0, "flat"), steps=2000, burn_in=0, replicas=REPLICAS
    )
    # (M + 1) / 6, of a bridge that returns to 0 at the end of each epoch.
    assert abs(t_value(simulated.weight_variance[0], 11 / 6)) < 5
    assert math.isclose(simulated.weight_variance[0].value, 11 / 6, rel_tol=0.02)


def test_noise_that_remembers_for_long_is_stationary_from_the_beginning(seed: int) -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=[0.5], momentum=0.0)
    for noise in (Persistent(0.9999), Persistent(-0.9999)):
        simulated = simulate_weight_variance(modes, noise, stream(seed, "memory"), steps=20, burn_in=60, replicas=4000)
        predicted = float(stationary_variances(modes, noise).weight[0])
        assert abs(t_value(simulated.weight_variance[0], predicted)) < 5
        assert simulated.weight_variance[0].standard_error < 0.05 * predicted
        forgetful = float(stationary_variances(modes, WhiteNoise()).weight[0])
        assert abs(t_value(simulated.weight_variance[0], forgetful)) > 10


def test_steps_to_forget() -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=[0.0, 0.01, 0.5, 1.0], momentum=0.0)
    expected = [math.inf, 12 / -math.log(0.99), 12 / -math.log(0.5)]
    np.testing.assert_allclose(relaxation_steps(modes)[:3], expected, rtol=1e-12)
    assert relaxation_steps(modes)[3] < 1
    # Below critical damping, both roots have the modulus sqrt(beta).
    damped = HeavyBall(learning_rate=1.0, curvature=[0.5], momentum=0.81)
    np.testing.assert_allclose(relaxation_steps(damped), 12 / -math.log(0.9), rtol=1e-12)
    # Flat directions with momentum relax at the rate curvature / (1 - beta); those near the edge of stability alike.
    flat = HeavyBall(learning_rate=1.0, curvature=[0.0, 1e-12, 3.8 - 1e-9], momentum=0.9)
    steps = relaxation_steps(flat)
    assert steps[0] == math.inf
    np.testing.assert_allclose(steps[1:], [12 * 0.1 / 1e-12, 12 * 0.1 / 1e-9], rtol=1e-6)


@pytest.mark.parametrize("steps", [100, 10**9])
def test_chunks_are_whole_groups_of_lanes(steps: int) -> None:
    assert chunk_of_recursions(steps, 1024) == (1024 if steps == 100 else 64)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scaled_curvature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("batches", [2, 10, 50])
def test_reshuffled_variances_to_a_thousandth(
    seed: int, batches: int, scaled_curvature: float, momentum: float
) -> None:
    modes = HeavyBall(learning_rate=1.0, curvature=[scaled_curvature], momentum=momentum)
    predicted = stationary_variances(modes, Reshuffled(batches))
    memory = max(float(predicted.correlation_time[0]), 4 / (1 - momentum))  # of an underdamped mode, the envelope
    epochs = math.ceil(700 * memory / batches)
    simulated = simulate_weight_variance(
        modes, Reshuffled(batches), stream(seed, "thousandth", batches), steps=epochs * batches, replicas=6400
    )
    pairs = [
        (simulated.weight_variance[0], float(predicted.weight[0])),
        (simulated.velocity_variance[0], float(predicted.velocity[0])),
    ]
    for estimate, value in pairs:
        assert estimate.standard_error < 1.2e-3 * value
        assert abs(t_value(estimate, value)) < 4
    assert largest_t(simulated, WhiteNoise()) > 10
