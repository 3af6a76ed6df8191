"""SGD on real least squares: exact theory for noise at the minimum, and the second crossover where it is not that."""

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from sim.batch_order import (
    Indices,
    persistent_epochs,
    reshuffled_epochs,
    shuffled_once_epochs,
    with_replacement_epochs,
)
from sim.least_squares import LeastSquares, LeastSquaresVariances, Order, simulate_least_squares
from sim.random_streams import stream
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise, Persistent, Reshuffled, ReshuffledEvery, ShuffledOnce, WhiteNoise
from theory.state_dependent_noise import residual_noise, state_dependent_variances
from theory.weight_variance import ModeVariances, stationary_variances

SAMPLES, BATCH_SIZE, BATCHES = 60, 6, 10
REPLICAS = 200


def small_problem(seed: int) -> LeastSquares:
    return LeastSquares.gaussian(SAMPLES, [1.0, 0.1, 0.01], 0.5, stream(seed, "data"))


def values(estimates: tuple[Estimate, ...]) -> np.ndarray:
    return np.array([estimate.value for estimate in estimates])


def errors(estimates: tuple[Estimate, ...]) -> np.ndarray:
    return np.array([estimate.standard_error for estimate in estimates])


def largest_t(estimates: tuple[Estimate, ...], predicted: np.ndarray) -> float:
    return float(np.abs((values(estimates) - predicted) / errors(estimates)).max())


def theory(simulated: LeastSquaresVariances, noise: GradientNoise) -> ModeVariances:
    """For the noise of unit example variance along each direction."""
    return stationary_variances(simulated.modes, noise).scaled(simulated.problem.example_variance)


# ---- The problem -----------------------------------------------------------------------------------------------------


def test_the_problem_is_diagonal_and_seen_from_its_minimum() -> None:
    rng = stream(0, "data")
    inputs, labels = rng.standard_normal((50, 4)), rng.standard_normal(50)
    problem = LeastSquares.of_data(inputs, labels)
    hessian = inputs.T @ inputs / 50
    np.testing.assert_allclose(problem.inputs.T @ problem.inputs / 50, np.diag(problem.curvature), atol=1e-14)
    np.testing.assert_allclose(problem.curvature, np.linalg.eigvalsh(hessian)[::-1], rtol=1e-12)
    np.testing.assert_allclose(problem.inputs.T @ problem.residuals, 0, atol=1e-13)
    weights = np.linalg.solve(hessian, inputs.T @ labels / 50)
    np.testing.assert_allclose(problem.residuals, labels - inputs @ weights, atol=1e-13)
    gradients = problem.inputs * problem.residuals[:, None]
    np.testing.assert_allclose(problem.example_variance, gradients.var(axis=0), rtol=1e-12)


def test_more_directions_than_samples_have_flat_ones() -> None:
    problem = LeastSquares.of_data([[1.0, 2.0, 2.0], [0.0, 1.0, 0.0]], [1.0, 1.0])
    assert problem.inputs.shape == (2, 3)
    assert problem.curvature[2] == 0
    np.testing.assert_allclose(problem.residuals, 0, atol=1e-14)


# ---- The recursion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_every_sum_is_that_of_plain_sgd_in_the_original_basis(frozen: bool) -> None:
    rng = stream(1, "data")
    inputs, labels = rng.standard_normal((30, 3)), rng.standard_normal(30)
    problem = LeastSquares.of_data(inputs, labels)
    minimum, basis = np.linalg.lstsq(inputs, labels)[0], np.linalg.svd(inputs)[2]
    hessian = inputs.T @ inputs / 30
    learning_rate, momentum, burn_in, epochs = 0.05, 0.6, 70, 65
    orders = {}

    def recorded(samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[Indices]:
        kept = list(itertools.islice(reshuffled_epochs(samples, batch_size, rng), burn_in + epochs))
        orders[len(orders)] = kept
        return iter(kept)

    simulated = simulate_least_squares(
        problem,
        7,  # which leaves two samples of each epoch over
        stream(1, "sgd"),
        learning_rate=learning_rate,
        momentum=momentum,
        epochs=epochs,
        burn_in=burn_in,
        order=recorded,
        frozen=frozen,
        replicas=2,
        threads=1,
    )
    records = np.array([[batch for epoch in orders[replica] for batch in epoch] for replica in range(2)])
    assert records.shape == (2, (burn_in + epochs) * 4, 7)
    theta, velocity, noise = (np.empty((2, epochs * 4, 3)) for _ in range(3))
    for replica, batches in enumerate(records):
        w, v = minimum.copy(), np.zeros(3)
        for step, batch in enumerate(batches):
            at = minimum if frozen else w
            gradient = inputs[batch].T @ (inputs[batch] @ at - labels[batch]) / 7 + hessian @ (w - at)
            if step >= 4 * burn_in:
                noise[replica, step - 4 * burn_in] = basis @ (gradient - hessian @ (w - minimum))
            v = momentum * v - learning_rate * gradient
            w = w + v
            if step >= 4 * burn_in:
                theta[replica, step - 4 * burn_in], velocity[replica, step - 4 * burn_in] = (
                    basis @ (w - minimum),
                    basis @ v,
                )
    means = theta.mean(axis=1)
    between = means.var(axis=0, ddof=1)
    # The basis is known up to signs, which only the means show.
    np.testing.assert_allclose(np.abs(values(simulated.mean)), np.abs(means.mean(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(values(simulated.weight_variance), theta.var(axis=1).mean(axis=0) + between, rtol=1e-10)
    np.testing.assert_allclose(values(simulated.velocity_variance), (velocity**2).mean(axis=(0, 1)), rtol=1e-10)
    np.testing.assert_allclose(values(simulated.noise_variance), (noise**2).mean(axis=(0, 1)), rtol=1e-10)
    total = noise.sum(axis=1).var(axis=0, ddof=1) / (4 * epochs)
    np.testing.assert_allclose(values(simulated.zero_frequency_noise), total, rtol=1e-9)
    share = values(simulated.zero_frequency_noise) / values(simulated.noise_variance)
    np.testing.assert_allclose(values(simulated.zero_frequency_share), share, rtol=1e-12)


RESHUFFLED = Reshuffled.of_examples(1.0, SAMPLES, BATCH_SIZE)
WHITE = WhiteNoise.with_replacement(1.0, SAMPLES, BATCH_SIZE)


@pytest.mark.parametrize(
    ("order", "noise", "wrong", "momentum"),
    [
        (reshuffled_epochs, RESHUFFLED, WHITE, 0.0),
        (reshuffled_epochs, RESHUFFLED, WHITE, 0.7),
        (with_replacement_epochs, WHITE, RESHUFFLED, 0.7),
        (shuffled_once_epochs, ShuffledOnce.of_examples(1.0, SAMPLES, BATCH_SIZE), RESHUFFLED, 0.0),
        (shuffled_once_epochs, ShuffledOnce.of_examples(1.0, SAMPLES, BATCH_SIZE), RESHUFFLED, 0.7),
        (
            partial(reshuffled_epochs, every=3),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, 3),
            RESHUFFLED,
            0.7,
        ),
        (
            partial(persistent_epochs, entry_probability=0.03),
            Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.03),
            Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.05),
            0.7,
        ),
    ],
    ids=["reshuffled-0", "reshuffled", "with replacement", "shuffled once-0", "shuffled once", "every", "persistent"],
)
def test_with_the_noise_of_the_minimum_every_order_has_the_exact_variances(
    seed: int, order: Order, noise: GradientNoise, wrong: GradientNoise, momentum: float
) -> None:
    simulated = simulate_least_squares(
        LeastSquares.gaussian(SAMPLES, [1.0, 0.4], 0.5, stream(seed, "data")),
        BATCH_SIZE,
        stream(seed, "sgd", round(10 * momentum)),
        learning_rate=0.05,
        momentum=momentum,
        epochs=40,
        order=order,
        frozen=True,
        replicas=REPLICAS,
    )
    right, other = theory(simulated, noise), theory(simulated, wrong)
    assert largest_t(simulated.weight_variance, right.weight) < 5
    assert largest_t(simulated.velocity_variance, right.velocity) < 5
    assert largest_t(simulated.weight_variance, other.weight) > 8
    assert largest_t(simulated.noise_variance, noise.variance * simulated.problem.example_variance) < 5
    if noise.sum_of_autocovariance == 0:  # whole epochs: not even at the edges is anything left
        assert values(simulated.zero_frequency_share).max() < 1e-20
    else:
        steps = 40 * BATCHES
        lags = np.arange(1, steps)
        share = 1 + 2 * float((1 - lags / steps) @ noise.autocovariance(lags)) / noise.autocovariance(0)
        assert largest_t(simulated.zero_frequency_share, np.full(2, share)) < 5
        assert largest_t(simulated.zero_frequency_share, np.full(2, share / 4)) > 5


def test_noise_that_depends_on_the_weights_lifts_flat_modes(seed: int) -> None:
    problem = small_problem(seed)
    simulated = {
        frozen: simulate_least_squares(
            problem,
            BATCH_SIZE,
            stream(seed, "sgd"),
            learning_rate=0.2,
            momentum=0.5,
            epochs=200,
            burn_in=150,
            frozen=frozen,
            replicas=REPLICAS,
        )
        for frozen in (False, True)
    }
    at_minimum = Reshuffled.of_examples(1.0, SAMPLES, BATCH_SIZE)
    exact = theory(simulated[True], at_minimum)
    assert largest_t(simulated[True].weight_variance, exact.weight) < 5
    assert largest_t(simulated[True].velocity_variance, exact.velocity) < 5
    # The same prediction, on data where batches see the weights: rejected where it is flat.
    real = simulated[False]
    excess = values(real.weight_variance) / exact.weight
    assert excess[2] > 1.2
    assert largest_t(real.weight_variance[2:], exact.weight[2:]) > 20
    residual = residual_noise(problem.inputs, values(real.weight_variance), BATCH_SIZE)
    fraction = values(real.zero_frequency_noise) / residual
    assert ((fraction > 0.3) & (fraction < 1.3)).all()
    assert values(simulated[True].zero_frequency_noise).max() < 1e-20
    # To leading order, between the shares that the theory allows.
    least, most = (
        state_dependent_variances(
            real.modes, BATCHES, at_minimum.variance * problem.example_variance, residual, share
        ).weight[2]
        for share in (0.5, 1.0)
    )
    assert 0.95 * least < real.weight_variance[2].value < 1.15 * most


@pytest.mark.slow
def test_the_second_crossover_of_500_samples_in_8_directions(seed: int) -> None:
    # sgd_noise.md, section 5, with data of its own: the ratio rises from 1 to about 5, and stays 1 with frozen noise.
    problem = LeastSquares.gaussian(500, np.logspace(0, -3, 8), 0.5, stream(seed, "data"))
    at_minimum = Reshuffled.of_examples(1.0, 500, 10)
    ratios, shares = {}, {}
    for frozen in (False, True):
        simulated = simulate_least_squares(
            problem,
            10,
            stream(seed, "sgd", int(frozen)),
            learning_rate=0.02,
            momentum=0.9,
            epochs=600,
            frozen=frozen,
            replicas=200,
        )
        exact = theory(simulated, at_minimum)
        ratios[frozen] = values(simulated.weight_variance) / exact.weight
        shares[frozen] = values(simulated.zero_frequency_share)
        if frozen:
            assert largest_t(simulated.weight_variance, exact.weight) < 5
            assert largest_t(simulated.velocity_variance, exact.velocity) < 5
        else:
            # Velocities cannot see it.
            np.testing.assert_allclose(values(simulated.velocity_variance) / exact.velocity, 1.025, atol=0.025)
            residual = residual_noise(problem.inputs, values(simulated.weight_variance), 10)
            noise_variance = at_minimum.variance * problem.example_variance
            second = state_dependent_variances(simulated.modes, 50, noise_variance, residual, 0.9)
            np.testing.assert_allclose(values(simulated.weight_variance) / second.weight, 1, atol=0.12)
    contraction = 0.02 * problem.curvature
    assert (ratios[False][contraction > 2e-3] < 1.1).all()
    assert ratios[False][-1] > 2.5
    assert (np.diff(ratios[False][contraction < 2e-3]) > 0).all()
    assert ((shares[False] > 0.003) & (shares[False] < 0.03)).all()
    assert shares[True].max() < 1e-20


# ---- The rest --------------------------------------------------------------------------------------------------------


def test_results_depend_on_neither_threads_nor_the_number_of_replicas() -> None:
    def run(threads: int, replicas: int) -> LeastSquaresVariances:
        return simulate_least_squares(
            small_problem(0),
            BATCH_SIZE,
            stream(0, "sgd"),
            learning_rate=0.1,
            epochs=5,
            burn_in=3,
            replicas=replicas,
            threads=threads,
        )

    one, two, fewer = run(1, 9), run(2, 9), run(1, 8)
    assert one.weight_variance == two.weight_variance
    assert one.zero_frequency_share == two.zero_frequency_share
    assert one.mean != fewer.mean
    told = []
    assert one.replicas == one.requested == 9
    simulate_least_squares(
        small_problem(0),
        BATCH_SIZE,
        stream(0, "sgd"),
        learning_rate=0.1,
        epochs=1,
        burn_in=0,
        replicas=9,
        threads=1,
        progress=lambda done, runs, _what: told.append((done, runs)),
    )
    assert told == [(4, 9), (8, 9), (9, 9)]


def one_epoch(_samples: int, _batch_size: int, _rng: np.random.Generator) -> Iterator[Indices]:
    return iter([np.arange(60).reshape(10, 6)])


def beyond(_samples: int, _batch_size: int, _rng: np.random.Generator) -> Iterator[Indices]:
    return itertools.repeat(np.arange(60).reshape(10, 6) + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 61}, "batch_size=61 must lie between 1 and the 60 training samples"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number >= 1"),
        ({"epochs": 0}, "epochs=0 must be a whole number >= 1"),
        ({"replicas": 1}, "replicas=1 must be a whole number >= 2"),
        ({"burn_in": -1}, "burn_in=-1 must be a whole number >= 0"),
        ({"learning_rate": 1e-9, "burn_in": None}, "give burn_in"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"order": one_epoch}, "order gives 10 batches where whole epochs have 20"),
        ({"order": beyond}, "order gives indices from 1 to 60, but there are 60 samples"),
    ],
)
def test_refuses(settings: dict, message: str) -> None:
    wanted = {"batch_size": BATCH_SIZE, "learning_rate": 0.1, "epochs": 2, "burn_in": 0, "replicas": 2} | settings
    with pytest.raises(ValueError, match=message):
        simulate_least_squares(small_problem(0), wanted.pop("batch_size"), stream(0, "sgd"), threads=1, **wanted)


def test_says_so_if_single_batches_are_unstable() -> None:
    # One large sample: the mean contracts, but by itself that sample multiplies theta by -99 in every epoch.
    problem = LeastSquares.of_data([[10.0]] + [[0.1]] * 59, stream(0, "labels").standard_normal(60))
    with pytest.raises(ValueError, match=r"replica 0 diverge: take a learning_rate below 1.0 or larger batches"):
        simulate_least_squares(problem, 1, stream(0, "sgd"), learning_rate=1.0, epochs=200, replicas=2, threads=1)


def test_refuses_data_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"inputs of shape \(3,\) must be finite numbers"):
        LeastSquares.of_data([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"inputs of shape \(2, 1\) must be finite numbers"):
        LeastSquares.of_data([[1.0], [np.inf]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) must be 2 finite numbers"):
        LeastSquares.of_data([[1.0], [2.0]], [1.0, 2.0, 3.0])
    rng = stream(0, "data")
    with pytest.raises(ValueError, match=r"samples=0 must be a whole number >= 1"):
        LeastSquares.gaussian(0, [1.0], 0.1, rng)
    with pytest.raises(ValueError, match=r"population_curvature=\[-1.0\] must be finite numbers >= 0"):
        LeastSquares.gaussian(5, [-1.0], 0.1, rng)
    with pytest.raises(ValueError, match=r"label_noise=-0.1 must be finite and >= 0"):
        LeastSquares.gaussian(5, [1.0], -0.1, rng)
