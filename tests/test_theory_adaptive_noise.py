"""What noise on the weights does: the table of the reference, Lyapunov equations, noise that feeds itself, wells."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from theory.adaptive_noise import (
    MODES,
    as_gradient_noise,
    averaged_variance_share,
    final_variance,
    he_deviation,
    injected_variances,
    mean_passage_steps,
    noise_deviation,
    noise_norm,
    noise_temperature,
    noisy_variances,
    relative_gain,
    relative_variances,
    self_feeding_curvature,
    weight_responses,
)
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.noise_schedule import NoiseSchedule, injected, scales
from theory.potentials import Potential
from theory.training_phases import PHASES
from theory.weight_variance import stationary_variances

RESNET_18, STEPS = 11_173_962, 200 * 391

MOMENTA = st.floats(0, 0.99)
PARTS = st.floats(1e-4, 0.999)


def moved(contraction: float, momentum: float) -> np.ndarray:
    """(weight, momentum) in one step."""
    return np.array([[1 - contraction, momentum], [-contraction, momentum]])


# ---- The table of the reference --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "norm", "end", "stationary"),
    [
        (1e-5, "0.033", "0.0028", "0.0022"),
        (1e-4, "0.334", "0.0280", "0.0224"),
        (1e-3, "3.34", "0.280", "0.224"),
        (1e-2, "33.4", "2.80", "2.24"),
    ],
)
def test_noise_on_resnet_18(epsilon: float, norm: str, end: str, stationary: str) -> None:
    def as_printed(value: float, like: str) -> str:
        return f"{value:.{len(like.partition('.')[2])}f}"

    assert as_printed(noise_norm(epsilon, RESNET_18), norm) == norm
    walk = final_variance(HeavyBall(0.1, 0.0), np.full(STEPS, epsilon))
    assert as_printed(math.sqrt(walk), end) == end
    assert walk == pytest.approx(STEPS * epsilon**2, rel=1e-10)
    held = injected_variances(HeavyBall(0.1, 1e-4), epsilon).weight
    assert as_printed(math.sqrt(held), stationary) == stationary
    c = 1e-5
    assert held == pytest.approx(epsilon**2 / (c * (2 - c)), rel=1e-12)


def test_he_initialisation() -> None:
    assert round(he_deviation(9 * 512), 4) == 0.0208
    # From 1e-4 on noise matches or exceeds the weights at a fixed learning rate of 0.1.
    assert final_variance(HeavyBall(0.1, 0.0), np.full(STEPS, 1e-4)) > he_deviation(9 * 512) ** 2
    with pytest.raises(ValueError, match="fan_in=0 must be"):
        he_deviation(0)


def test_a_path_of_phases_ends_with_the_injected_noise_where_nothing_holds_the_weight() -> None:
    path = [PHASES[0]] * 300 + [PHASES[1]] * 200 + [PHASES[2]] * 500
    schedule = NoiseSchedule("full", (0.3, 0.1, 0.03), 0.01)
    found = final_variance(HeavyBall(0.1, [0.0, 1e-3], 0.9), scales(schedule, path))
    assert found[0] == pytest.approx(injected(schedule, path), rel=1e-12)
    assert found[1] < found[0]


# ---- What an epsilon is ----------------------------------------------------------------------------------------------


def test_modes() -> None:
    sizes: dict[str, Any] = {"learning_rate": 0.02, "update_norm": 5.0, "weights": 400, "weight_rms": 0.1}
    found = {mode: noise_deviation(mode, 0.04, **sizes) for mode in MODES}
    assert found == pytest.approx(
        {"absolute": 0.04, "relative_update": 0.04 * 5 / 20, "relative_weight": 0.004, "sgld": 0.04}, rel=1e-12
    )
    norm = noise_norm(found["relative_update"], 400)
    assert norm == pytest.approx(0.04 * sizes["update_norm"], rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relative", 1.0), "mode='relative' must be one of absolute, relative_update"),
        (("absolute", -1.0), "epsilon=-1.0 must be finite and >= 0"),
        (("absolute", math.nan), "epsilon=nan must be"),
        (("relative_update", 1.0), "update_norm=None must be given for mode='relative_update'"),
        (("relative_weight", 1.0), "weight_rms=None must be given"),
        (("sgld", 1.0), "learning_rate=None must be given for mode='sgld'"),
    ],
)
def test_modes_out_of_range(arguments: tuple[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_deviation(*arguments)
    with pytest.raises(ValueError, match="weights=None must be given"):
        noise_deviation("relative_update", 1.0, update_norm=1.0)
    with pytest.raises(ValueError, match=r"update_norm=-1\.0 must be finite and >= 0"):
        noise_deviation("relative_update", 1.0, update_norm=-1.0, weights=1)


@pytest.mark.parametrize("horizon", [1, 2, 20, 300])
def test_the_share_of_the_variance_that_averages_see(horizon: int) -> None:
    newest = 1 / horizon
    weights = newest * (1 - newest) ** np.arange(60 * horizon)
    assert averaged_variance_share(horizon) == pytest.approx(1 - (weights**2).sum(), abs=1e-12)


# ---- Variances -------------------------------------------------------------------------------------------------------


@given(PARTS, MOMENTA)
def test_variances_solve_the_lyapunov_equation(part: float, momentum: float) -> None:
    contraction = part * 2 * (1 + momentum)
    map_ = moved(contraction, momentum)
    found = injected_variances(HeavyBall(1.0, contraction, momentum), 0.5)
    equations = np.eye(4) - np.kron(map_, map_)
    exact = np.linalg.solve(equations, [0.25, 0, 0, 0])
    assert found.weight == pytest.approx(exact[0], rel=1e-7)
    assert found.update == pytest.approx(exact[3], rel=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("contraction", [1e-4, 0.01, 0.4, 1.0, 1.9])
def test_variances_with_batches_against_scipy(contraction: float, momentum: float) -> None:
    epsilon, deviation = 0.3, 2.0
    source = np.diag([epsilon**2, 0.0]) + deviation**2 * np.ones((2, 2))  # batch noise enters the momentum as well
    exact = solve_discrete_lyapunov(moved(contraction, momentum), source)
    found = noisy_variances(HeavyBall(1.0, contraction, momentum), epsilon, WhiteNoise(deviation**2))
    assert found.weight == pytest.approx(exact[0, 0], rel=1e-8)
    assert found.update == pytest.approx(exact[1, 1], rel=1e-8)


def test_the_equivalent_gradient_noise_gives_the_same_weights() -> None:
    modes = HeavyBall(0.01, [0.1, 1.0, 30.0, 300.0], 0.9)
    injected_ = injected_variances(modes, 0.05)
    other = stationary_variances(modes, as_gradient_noise(modes, 0.05))
    assert injected_.weight == pytest.approx(other.weight, rel=1e-12)
    # Velocities of weights contain the noise, updates do not.
    assert injected_.update + 0.05**2 == pytest.approx(other.velocity, rel=1e-12)
    both = stationary_variances(modes, as_gradient_noise(modes, 0.05) + Reshuffled(100, 4.0))
    assert noisy_variances(modes, 0.05, Reshuffled(100, 4.0)).weight == pytest.approx(both.weight, rel=1e-12)


def test_limits() -> None:
    flat = HeavyBall(0.1, [0.0, 1e-8], 0.9)
    found = injected_variances(flat, 0.1)
    assert found.weight[0] == math.inf
    assert found.update[0] == 0
    assert found.weight[1] == pytest.approx(0.01 * (1 - 0.9) / (2 * 1e-9), rel=1e-6)
    still = injected_variances(flat, 0.0)
    assert still.weight.tolist() == still.update.tolist() == [0, 0]
    # Noise that entered the velocity would leave more, by 1 / (1 - beta)^2.
    velocity = stationary_variances(HeavyBall(0.1, 1e-8, 0.9), WhiteNoise(0.1**2 / 0.1**2)).weight
    assert velocity / found.weight[1] == pytest.approx(100, rel=1e-6)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=70), st.floats(0, 0.99), MOMENTA)
def test_final_variances_follow_the_covariance_step_by_step(
    epsilons: list[float], part: float, momentum: float
) -> None:
    contraction = part * 2 * (1 + momentum)
    map_, covariance = moved(contraction, momentum), np.zeros((2, 2))
    for epsilon in epsilons:
        covariance = map_ @ covariance @ map_.T + np.diag([epsilon**2, 0.0])
    modes = HeavyBall(1.0, [contraction, 0.0], momentum)
    found = final_variance(modes, epsilons)
    assert found == pytest.approx([covariance[0, 0], sum(e**2 for e in epsilons)], rel=1e-9, abs=1e-300)
    responses = weight_responses(modes, len(epsilons))
    assert responses.shape == (len(epsilons), 2)
    assert responses[:, 1].tolist() == [1.0] * len(epsilons)


def test_constant_noise_ends_in_the_stationary_state() -> None:
    modes = HeavyBall(0.1, [0.05, 1.0, 30.0], 0.9)
    assert final_variance(modes, [0.2] * 5000) == pytest.approx(injected_variances(modes, 0.2).weight, rel=1e-10)


def test_paths_out_of_range() -> None:
    modes = HeavyBall(0.1, 1.0)
    with pytest.raises(ValueError, match=r"epsilons has an entry -1\.0"):
        final_variance(modes, [0.1, -1.0])
    with pytest.raises(ValueError, match="epsilons has an entry nan"):
        final_variance(modes, [math.nan])
    with pytest.raises(ValueError, match=r"epsilons of shape \(0,\)"):
        final_variance(modes, [])


# ---- Noise that feeds itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "epsilon"), [("relative_update", 0.7), ("relative_weight", 0.05)])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_relative_noise_is_the_fixed_point_of_second_moments(mode: str, epsilon: float, momentum: float) -> None:
    contractions, deviation = np.array([0.05, 0.2, 0.6]), 0.3
    covariances = np.zeros((3, 2, 2))
    maps = [moved(c, momentum) for c in contractions]
    push = np.array([[1, 1], [1, 1]])
    # The noise of a step has epsilon^2 times the mean square of what is there once the optimizer has moved.
    for _ in range(4000):
        covariances = np.array([m @ v @ m.T + deviation**2 * push for m, v in zip(maps, covariances, strict=True)])
        behind = covariances[:, 1, 1] if mode == "relative_update" else covariances[:, 0, 0]
        covariances[:, 0, 0] += epsilon**2 * behind.mean()
    modes = HeavyBall(1.0, contractions, momentum)
    found = relative_variances(modes, mode, epsilon, WhiteNoise(deviation**2))
    assert found.weight == pytest.approx(covariances[:, 0, 0], rel=1e-9)
    assert found.update == pytest.approx(covariances[:, 1, 1], rel=1e-9)
    assert (found.weight > stationary_variances(modes, WhiteNoise(deviation**2)).weight).all()


def test_from_a_gain_of_one_nothing_is_stationary() -> None:
    for momentum in (0.0, 0.9):
        for epsilon in (0.3, 1.0, 3.0):
            edge = self_feeding_curvature(0.1, momentum, epsilon)
            assert edge < 2 * (1 + momentum) / 0.1
            assert relative_gain(HeavyBall(0.1, edge, momentum), "relative_update", epsilon) == pytest.approx(1)
            below, above = (HeavyBall(0.1, factor * edge, momentum) for factor in (0.99, 1.001))
            assert np.isfinite(relative_variances(below, "relative_update", epsilon, WhiteNoise()).weight)
            assert relative_variances(above, "relative_update", epsilon, WhiteNoise()).update == math.inf
    decay = HeavyBall(0.1, 1e-4)
    critical = 1 / math.sqrt(float(injected_variances(decay, 1.0).weight))
    assert critical == pytest.approx(math.sqrt(1e-5 * (2 - 1e-5)))
    assert (
        relative_gain(decay, "relative_weight", 1.01 * critical)
        > 1
        > relative_gain(decay, "relative_weight", 0.99 * critical)
    )
    assert relative_gain(HeavyBall(0.1, [0.0, 1.0]), "relative_weight", 0.1) == math.inf
    with pytest.raises(ValueError, match="mode='sgld' must be relative_update or relative_weight"):
        relative_gain(decay, "sgld", 1.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_flat_directions_hardly_notice_noise_relative_to_updates(momentum: float) -> None:
    modes, noise = HeavyBall(0.1, 1e-5, momentum), WhiteNoise(0.3)
    ratio = relative_variances(modes, "relative_update", 2.0, noise).weight / stationary_variances(modes, noise).weight
    assert ratio == pytest.approx(1 + 4 * (1 - momentum) / (1 + momentum), rel=1e-4)
    assert (relative_variances(modes, "relative_update", 0.0, noise).weight).tolist() == stationary_variances(
        modes, noise
    ).weight.tolist()


# ---- Out of a well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_temperature_is_that_of_flat_directions(momentum: float) -> None:
    temperature = noise_temperature(0.1, momentum, 0.02, 0.3)
    found = noisy_variances(HeavyBall(0.1, 1e-4, momentum), 0.02, WhiteNoise(0.09)).weight
    assert temperature == pytest.approx(1e-4 * float(found), rel=1e-3)
    # Langevin noise of temperature T keeps T without momentum, and less with it.
    langevin = noise_deviation("sgld", 1e-3, learning_rate=0.1)
    assert noise_temperature(0.1, momentum, langevin) == pytest.approx(1e-3 * (1 - momentum), rel=1e-12)


def test_passages_take_as_long_as_kramers_says() -> None:
    well, temperature, rate = Potential("(x**2 - 1)**2"), 0.03, 1e-3
    epsilon = math.sqrt(2 * rate * temperature)
    found = mean_passage_steps(well, learning_rate=rate, momentum=0.0, epsilon=epsilon, start=-1.0, target=1.0)
    kramers = 2 * math.pi / math.sqrt(8 * 4) * math.exp(1 / temperature) / rate
    assert found == pytest.approx(kramers, rel=0.03)
    with pytest.raises(ValueError, match="epsilon and gradient_noise are both 0"):
        mean_passage_steps(well, learning_rate=rate, momentum=0.0, epsilon=0.0, start=-1.0, target=1.0)
