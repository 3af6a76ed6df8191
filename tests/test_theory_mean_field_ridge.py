"""The exact mean-field solution for the square loss: anchors, its static limit, momentum, and identities."""

import numpy as np
import pytest

from sim.random_streams import stream
from theory.batch_selection import BernoulliBatches, FullBatch, ReshuffledBatches
from theory.mean_field_ridge import RidgeMeanField, solve_ridge, static_limit
from theory.mixture_model import MixturePerceptron, PerceptronTraining

MODEL = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
TRAINING = PerceptronTraining(learning_rate=0.4)
# Digits as printed: half a unit of the twelfth decimal.
DECIMALS = 5.1e-13


@pytest.fixture(scope="module")
def stationary() -> RidgeMeanField:
    return solve_ridge(MODEL, TRAINING, BernoulliBatches(0.25), steps=200)


def test_anchors(stationary: RidgeMeanField) -> None:
    s = stationary
    found = {
        "m(1)": (s.overlap[1], 0.2),
        "m(5)": (s.overlap[5], 0.361101250000),
        "m(10)": (s.overlap[10], 0.372366463214),
        "C(5,5)": (s.correlation[5, 5], 0.232831561305),
        "C(10,5)": (s.correlation[10, 5], 0.186388322418),
        "C(10,10)": (s.correlation[10, 10], 0.202947167724),
        "R(3,0)": (s.response[3, 0], 0.495),
        "R(10,5)": (s.response[10, 5], 0.2541625),
        "loss(0)": (s.train_loss[0], 0.75),
        "loss(5)": (s.train_loss[5], 0.198253017434),
        "dist(5)": (s.replica_distance[5], 0.052522372152),
        "dist(10)": (s.replica_distance[10], 0.040355339730),
        "m": (s.overlap[-1], 0.373777207068),
        "C": (s.correlation[-1, -1], 0.202360646813),
        "plateau": (s.correlation[-1, 100], 0.182776249425),
        "loss": (s.train_loss[-1], 0.181763319267),
    }
    for name, (value, anchor) in found.items():
        assert value == pytest.approx(anchor, abs=DECIMALS, rel=0), name
    assert s.replica_distance[-1] == pytest.approx(0.03916879, abs=5.1e-9)


@pytest.mark.parametrize(
    ("fraction", "overlap"),
    [(0.1, 0.2374692131), (0.25, 0.3737772071), (0.5, 0.4672049671), (0.75, 0.5122857019), (1.0, 0.5395042868)],
)
def test_overlap_of_the_static_limit(fraction: float, overlap: float) -> None:
    assert static_limit(MODEL, fraction).overlap == pytest.approx(overlap, abs=5.1e-11)


@pytest.mark.parametrize(
    ("fraction", "learning_rate", "momentum"),
    [(0.1, 0.4, 0.0), (0.25, 0.2, 0.0), (0.5, 0.4, 0.0), (0.75, 0.2, 0.5), (1.0, 0.4, 0.0)],
)
def test_static_limit(fraction: float, learning_rate: float, momentum: float) -> None:
    limit = static_limit(MODEL, fraction)
    training = PerceptronTraining(learning_rate, momentum=momentum)
    solved = solve_ridge(MODEL, training, BernoulliBatches(fraction), steps=400)
    assert solved.overlap[-1] == pytest.approx(limit.overlap, rel=1e-10)
    assert solved.correlation[-1, 200] == pytest.approx(limit.norm, rel=1e-10)
    assert solved.correlation[-1, -1] - solved.replica_distance[-1] / 2 == pytest.approx(limit.norm, rel=1e-10)
    integrated = learning_rate * fraction * solved.response[-1].sum()
    assert integrated == pytest.approx(limit.susceptibility, rel=1e-10)
    without_noise = solve_ridge(MODEL, training, FullBatch(fraction), steps=200)
    assert without_noise.train_loss[-1] == pytest.approx(limit.loss, rel=1e-10)
    assert without_noise.correlation[-1, -1] == pytest.approx(limit.norm, rel=1e-10)


def test_static_limit_of_an_actual_ridge_regression(seed: int) -> None:
    """A sample of 1500 dimensions solved by linear algebra: off by 1 / sqrt(N) at most."""
    rng = stream(seed, "ridge regression")
    dimensions, samples = 1500, 3000
    direction = rng.standard_normal(dimensions)
    direction *= np.sqrt(dimensions) / np.linalg.norm(direction)
    label = np.where(rng.random(samples) < 0.5, -1.0, 1.0)
    noise = rng.standard_normal((samples, dimensions), dtype=np.float32)
    data = np.sqrt(0.5) * noise + np.outer(label, direction / np.sqrt(dimensions)).astype(np.float32)
    data /= np.sqrt(dimensions).astype(np.float32)
    weights = np.linalg.solve(data.T @ data + (0.5 / 0.25) * np.eye(dimensions, dtype=np.float32), data.T @ label)
    limit = static_limit(MODEL, 0.25)
    assert weights @ direction / dimensions == pytest.approx(limit.overlap, rel=0.03)
    assert weights @ weights / dimensions == pytest.approx(limit.norm, rel=0.05)
    assert ((data @ weights - label) ** 2).mean() / 2 == pytest.approx(limit.loss, rel=0.05)


def test_momentum() -> None:
    solved = solve_ridge(MODEL, PerceptronTraining(0.2, momentum=0.6), BernoulliBatches(0.25), steps=60)
    assert solved.overlap[[5, 60]] == pytest.approx([0.451686132813, 0.373777239821], abs=DECIMALS, rel=0)
    assert solved.correlation[60, 60] == pytest.approx(0.204310434641, abs=DECIMALS, rel=0)
    assert solved.response[10, 5] == pytest.approx(1.009347656250, abs=DECIMALS, rel=0)


def test_over_parametrised() -> None:
    """Fewer samples than dimensions, no weight decay: replicas end at one point, the projection of the start."""
    model = MixturePerceptron(sample_ratio=0.5, noise_variance=0.5)
    solved = solve_ridge(model, PerceptronTraining(0.6), BernoulliBatches(0.3), steps=300)
    assert solved.replica_distance[[10, 50, 300]] == pytest.approx([0.07080964, 0.00906718, 0.00002089], abs=5.1e-9)
    assert solved.train_loss[-1] < 1e-4
    assert solved.correlation[-1, -1] > 0.5  # the start outside the data stays


def test_gradient_descent_is_sgd_with_all_samples() -> None:
    full = solve_ridge(MODEL, TRAINING, FullBatch(1.0), steps=20)
    sgd = solve_ridge(MODEL, TRAINING, BernoulliBatches(1.0), steps=20)
    for name in ("overlap", "correlation", "response", "train_loss", "test_error"):
        np.testing.assert_allclose(getattr(full, name), getattr(sgd, name), rtol=1e-13)
    assert abs(full.replica_distance).max() < 1e-15


def test_mean_dynamics_do_not_know_the_noise(stationary: RidgeMeanField) -> None:
    descent = solve_ridge(MODEL, TRAINING, FullBatch(0.25), steps=200)
    np.testing.assert_allclose(descent.overlap, stationary.overlap, rtol=1e-12)
    np.testing.assert_allclose(descent.response, stationary.response, rtol=1e-12)
    # Independent batches: what two replicas share is what descent does.
    np.testing.assert_allclose(stationary.replica_correlation, descent.correlation, rtol=1e-12)


def test_two_time_functions(stationary: RidgeMeanField) -> None:
    assert (stationary.correlation == stationary.correlation.T).all()
    assert (np.linalg.eigvalsh(stationary.correlation) > -1e-12).all()
    assert (stationary.response == np.tril(stationary.response, -1)).all()
    assert (np.diagonal(stationary.response, -1) == 1).all()
    assert stationary.squared_slope == pytest.approx(2 * stationary.train_loss)


def test_progress_and_interruption() -> None:
    told: list[tuple[int, int, str]] = []
    solve_ridge(MODEL, TRAINING, BernoulliBatches(0.25), 5, progress=lambda *now: told.append(now))
    assert told == [(k, 5, "ridge mean field") for k in range(1, 6)]

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve_ridge(MODEL, TRAINING, BernoulliBatches(0.25), 5, progress=stop)


def test_what_is_refused() -> None:
    for wrong in (
        MixturePerceptron(2.0, 0.5, loss="logistic"),
        MixturePerceptron(2.0, 0.5, clusters=3),
        MixturePerceptron(2.0, 0.5, activation="door"),
    ):
        with pytest.raises(ValueError, match="only the square loss with 2 clusters and a linear activation closes"):
            solve_ridge(wrong, TRAINING, BernoulliBatches(0.25), 5)
        with pytest.raises(ValueError, match="the static limit is known for the square loss"):
            static_limit(wrong)
    with pytest.raises(ValueError, match=r"selection='reshuffled, M=4' must be Bernoulli or full ones"):
        solve_ridge(MODEL, TRAINING, ReshuffledBatches(4), 5)
    with pytest.raises(ValueError, match="steps=0 must be a whole number >= 1"):
        solve_ridge(MODEL, TRAINING, BernoulliBatches(0.25), 0)
    with pytest.raises(ValueError, match="steps=6000 must be at most 5000"):
        solve_ridge(MODEL, TRAINING, BernoulliBatches(0.25), 6000)
    with pytest.raises(ValueError, match=r"learning_rate=4: the weights diverge by step \d+; take a smaller one"):
        solve_ridge(MODEL, PerceptronTraining(4.0), BernoulliBatches(0.25), 2000)
    with pytest.raises(ValueError, match=r"weight_decay=0 with sample_ratio=0\.5 <= 1: the minimum is not unique"):
        static_limit(MixturePerceptron(0.5, 1.0))


def test_static_limit_without_weight_decay() -> None:
    limit = static_limit(MixturePerceptron(3.0, 1.0))
    assert limit.susceptibility == pytest.approx(1 / 2)
    assert limit.overlap == pytest.approx(3 / (3 + 3))
    little = static_limit(MixturePerceptron(0.5, 1.0, weight_decay=1e-6))
    assert little.overlap == pytest.approx(0.5 / 1.5, rel=1e-4)
    assert little.loss == pytest.approx(0, abs=1e-9)
