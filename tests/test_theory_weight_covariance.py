"""Noise that does not commute with the Hessian (sgd_noise.md 2.2) and noise that depends on the weights (section 5)."""

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import root_scalar

from sim.random_streams import stream
from theory.estimate import agreement
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
from theory.state_dependent_noise import (
    residual_noise,
    second_crossover_curvature,
    state_dependent_fraction,
    state_dependent_variances,
)
from theory.weight_covariance import stationary_covariance
from theory.weight_variance import stationary_variances


def matrices(seed: int, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    factor = rng.normal(size=(size, size))
    return basis @ np.diag([2.1, 0.3, 0.05, 1.1][:size]) @ basis.T, factor @ factor.T


def lyapunov(
    hessian: np.ndarray, covariance: np.ndarray, noise: GradientNoise, eta: float, beta: float, lags: int
) -> tuple[np.ndarray, np.ndarray]:
    """Section 2.2 for any autocovariance: P = D P D' + eta^2 C - eta (Y + Y'), Y from the noise's own past."""
    size = len(hessian)
    one = np.eye(size)
    d = np.block([[(1 + beta) * one - eta * hessian, -beta * one], [one, 0 * one]])
    push = np.vstack([covariance, 0 * one])
    x, power = np.zeros_like(push), push
    for value in noise.autocovariance(np.arange(1, lags)) / noise.variance:
        x, power = x - eta * value * power, d @ power
    y = np.hstack([d @ x, np.zeros((2 * size, size))])
    source = -eta * (y + y.T)
    source[:size, :size] += eta**2 * covariance
    p = np.array(scipy.linalg.solve_discrete_lyapunov(d, source, method="direct"))
    a, b, c = p[:size, :size], p[:size, size:], p[size:, size:]
    return a, a - b - b.T + c


@pytest.mark.parametrize(
    "noise",
    [
        WhiteNoise(),
        Reshuffled(7, 3.0),
        Reshuffled(300),
        ReshuffledEvery(4, 3),
        Persistent(0.7),
        AntiCorrelatedIncrements(),
    ],
)
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_against_the_lyapunov_equation(noise: GradientNoise, beta: float) -> None:
    hessian, covariance = matrices(1)
    result = stationary_covariance(hessian, covariance, noise, 0.4, beta)
    weight, velocity = lyapunov(hessian, covariance, noise, 0.4, beta, 300)
    assert result.weight == pytest.approx(weight, rel=1e-9, abs=1e-10 * np.abs(weight).max())
    assert result.velocity == pytest.approx(velocity, rel=1e-9, abs=1e-10 * np.abs(velocity).max())


def test_one_order_for_all_epochs_is_the_limit() -> None:
    hessian, covariance = matrices(2)
    once = stationary_covariance(hessian, covariance, ShuffledOnce(5), 0.2, 0.6)
    many = stationary_covariance(hessian, covariance, ReshuffledEvery(5, 10**8), 0.2, 0.6)
    assert once.weight == pytest.approx(many.weight, rel=1e-4)
    assert once.velocity == pytest.approx(many.velocity, rel=1e-4)


def test_a_commuting_covariance_is_the_diagonal_theory() -> None:
    hessian, _ = matrices(3)
    curvature, basis = np.linalg.eigh(hessian)
    covariance = basis @ np.diag([0.5, 1.0, 2.0, 3.0]) @ basis.T
    result = stationary_covariance(hessian, covariance, Reshuffled(20), 0.3, 0.8)
    modes = stationary_variances(HeavyBall(0.3, curvature, 0.8), Reshuffled(20)).scaled([0.5, 1.0, 2.0, 3.0])
    assert basis.T @ result.weight @ basis == pytest.approx(np.diag(modes.weight), rel=1e-11, abs=1e-12)
    assert basis.T @ result.velocity @ basis == pytest.approx(np.diag(modes.velocity), rel=1e-11, abs=1e-12)


def test_white_noise_without_momentum() -> None:
    # Sigma H + H Sigma - eta H Sigma H = eta C.
    hessian, covariance = matrices(4)
    sigma = stationary_covariance(hessian, covariance, WhiteNoise(), 0.5).weight
    left = sigma @ hessian + hessian @ sigma - 0.5 * hessian @ sigma @ hessian
    assert left == pytest.approx(0.5 * covariance, abs=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_flat_directions(momentum: float) -> None:
    covariance = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.1], [0.2, 0.1, 1.0]])
    flat = stationary_covariance(np.diag([0.0, 0.0, 1.0]), covariance, Reshuffled(10), 0.5, momentum)
    nearly = stationary_covariance(np.diag([1e-9, 1e-9, 1.0]), covariance, Reshuffled(10), 0.5, momentum)
    assert flat.weight == pytest.approx(nearly.weight, rel=1e-6)
    assert flat.velocity == pytest.approx(nearly.velocity, rel=1e-6)
    # The answer between two flat modes does not depend on which of them is flatter.
    uneven = stationary_covariance(np.diag([1e-10, 1e-9, 1.0]), covariance, Reshuffled(10), 0.5, momentum)
    assert flat.weight == pytest.approx(uneven.weight, rel=1e-6)


def test_errors_of_matrices() -> None:
    good = np.eye(2)
    with pytest.raises(ValueError, match="hessian misses symmetry by 1"):
        stationary_covariance([[1.0, 1.0], [0.0, 1.0]], good, WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match=r"hessian has shape \(2,\); it must be a square matrix"):
        stationary_covariance([1.0, 1.0], good, WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match=r"noise_covariance has shape \(3, 3\); the hessian's is \(2, 2\)"):
        stationary_covariance(good, np.eye(3), WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match="noise_covariance has an eigenvalue -1; it must be positive semidefinite"):
        stationary_covariance(good, np.diag([1.0, -1.0]), WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match=r"curvature=-1.0 must be finite and >= 0"):
        stationary_covariance(np.diag([1.0, -1.0]), good, WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match="hessian has an eigenvalue 0"):
        stationary_covariance(np.diag([1.0, 0.0]), good, WhiteNoise(), 0.1)
    with pytest.raises(ValueError, match=r"must be < 2 \(1 \+ momentum\)"):
        stationary_covariance(30 * good, good, WhiteNoise(), 0.1)


# ---- Noise that depends on the weights -------------------------------------------------------------------------------


def test_residual_noise_of_gaussian_inputs(seed: int) -> None:
    # S_res / sigma^2 = 2 <dL> / s^2, sigma^2 = s^2 lambda_i (M - 1) / (N - 1), plus a mode's own share once more.
    curvature, weight_variance = np.array([1.0, 0.3, 0.1]), np.array([0.02, 0.05, 0.2])
    label_variance, samples, batch_size = 0.25, 500, 10
    excess_loss = float(curvature @ weight_variance) / 2
    rng = stream(seed, "inputs")
    ratios = []
    for _ in range(300):
        inputs = rng.normal(size=(samples, 3)) * np.sqrt(curvature)
        residual = residual_noise(inputs, weight_variance, batch_size)
        noise = Reshuffled.of_examples(label_variance, samples, batch_size).variance * curvature
        own = (curvature * weight_variance / label_variance)[0]
        ratios.append(residual[0] / noise[0] - own)
    fraction = state_dependent_fraction(excess_loss, label_variance)
    assert agreement(ratios, fraction * (1 - 1 / samples), detects=0.2)
    assert not agreement(ratios, fraction / 2)


def test_residual_noise_is_the_variance_of_batch_hessians(seed: int) -> None:
    rng = stream(seed, "batches")
    inputs = rng.normal(size=(12, 2)) * [1.0, 2.0]
    products = inputs[:, :1] * inputs
    batches = np.array([rng.permutation(12)[:3] for _ in range(20000)])
    deviations = products[batches].mean(axis=1) - products.mean(axis=0)
    residual = residual_noise(inputs, [0.3, 0.7], 3)
    assert agreement(deviations**2 @ [0.3, 0.7], residual[0], detects=0.3)
    assert not agreement(deviations**2 @ [0.3, 0.7], residual[0] * 11 / 9)  # with replacement


def test_second_crossover() -> None:
    # N = 500, S = 10, eta = 0.02, beta = 0.9: eta lambda_cross = 0.006, rho = 0.009 .. 0.015.
    crossover = second_crossover_curvature(0.01, 0.02, 50, 0.9)
    assert 0.02 * crossover == pytest.approx(6e-5, rel=1e-12)
    modes = HeavyBall(0.02, np.array([1.8e-5, 5.5e-5, 1.4e-4, 3.8e-4, 1.0e-3]) / 0.02, 0.9)
    plateau, white = (stationary_variances(modes, noise).weight for noise in (Reshuffled(50), WhiteNoise()))
    # eta^2 c S_res kappa(0), by hand.
    x = np.array([1.8e-5, 5.5e-5, 1.4e-4, 3.8e-4, 1.0e-3])
    excess = state_dependent_variances(modes, 50, 1.0, 0.012, 0.9).weight - plateau
    assert excess == pytest.approx(0.02**2 * 0.9 * 0.012 * 1.9 / (x * 0.1 * (3.8 - x)), rel=1e-11)
    # Measured there: the variance over the plateau's, and S(0) / sigma^2 = 0.009 .. 0.014. One follows from the other.
    measured = np.array([5.37, 2.72, 1.72, 1.28, 1.10])
    implied = (measured - 1) * plateau / white
    assert (implied > 0.009 * (1 - 0.15)).all()
    assert (implied < 0.014 * (1 + 0.15)).all()
    predicted = [
        state_dependent_variances(HeavyBall(0.02, curvature, 0.9), 50, 1.0, rho).weight / flat
        for curvature, rho, flat in zip(np.asarray(modes.curvature), implied.clip(0.009, 0.014), plateau, strict=True)
    ]
    assert predicted == pytest.approx(measured, rel=0.15)
    # Where the excess overtakes the plateau; to leading order in M.
    at_crossover = HeavyBall(0.02, second_crossover_curvature(0.01, 0.02, 5000, 0.9), 0.9)
    doubled = state_dependent_variances(at_crossover, 5000, 1.0, 0.01).weight
    assert doubled / stationary_variances(at_crossover, Reshuffled(5000)).weight == pytest.approx(2.0, rel=0.01)
    sources = Reshuffled(50, 2.0) + WhiteNoise(0.006)
    same = state_dependent_variances(modes, 50, 2.0, 0.012, 0.5)
    assert same.velocity == pytest.approx(stationary_variances(modes, sources).velocity, rel=1e-12)


@pytest.mark.parametrize(
    ("momentum", "batches", "fraction", "error"),
    [
        (0.9, 50, 0.001, -0.382),
        (0.9, 100, 0.001, -0.228),
        (0.9, 500, 0.001, -0.054),
        (0.9, 5000, 0.001, -0.006),
        (0.0, 10, 0.001, 0.099),
        (0.0, 5000, 0.01, -0.007),
        (0.0, 5000, 0.1, -0.076),
    ],
)
def test_second_crossover_has_the_error_that_its_description_says(
    momentum: float, batches: int, fraction: float, error: float
) -> None:
    formula = second_crossover_curvature(fraction, 0.02, batches, momentum)

    def excess_over_plateau(curvature: float) -> float:
        modes = HeavyBall(0.02, curvature, momentum)
        plateau = stationary_variances(modes, Reshuffled(batches)).weight
        return float(state_dependent_variances(modes, batches, 1.0, fraction).weight / plateau) - 2

    exact = root_scalar(excess_over_plateau, bracket=(formula / 20, 20 * formula), rtol=1e-6).root
    assert formula / exact - 1 == pytest.approx(error, abs=6e-4)


def test_errors_of_state_dependent_noise() -> None:
    with pytest.raises(ValueError, match="batch_size=3 must divide samples=4"):
        residual_noise(np.eye(4), np.ones(4), 3)
    with pytest.raises(ValueError, match=r"weight_variance of shape \(3,\) must be 4 finite numbers"):
        residual_noise(np.eye(4), np.ones(3), 2)
    with pytest.raises(ValueError, match=r"inputs of shape \(4,\) must be finite numbers"):
        residual_noise(np.ones(4), np.ones(3), 2)
    with pytest.raises(ValueError, match=r"excess_loss=-1.0 must be finite and >= 0"):
        state_dependent_fraction(-1.0, 1.0)
    with pytest.raises(ValueError, match=r"label_variance=0.0 must be finite and > 0"):
        state_dependent_fraction(1.0, 0.0)
    with pytest.raises(ValueError, match=r"fraction=-0.1 must be finite and >= 0"):
        second_crossover_curvature(-0.1, 0.1, 10)
    with pytest.raises(ValueError, match=r"zero_frequency_share=0.4 must lie between 0.5 and 1"):
        state_dependent_variances(HeavyBall(0.1, 1.0), 10, 1.0, 0.01, 0.4)
