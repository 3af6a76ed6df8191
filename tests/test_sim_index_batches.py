"""Autocovariance of the noise that real batches of indices make, against theory.gradient_noise, for every order."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from sim.batch_order import (
    persistent_epochs,
    reshuffled_epochs,
    shuffled_once_epochs,
    with_replacement_epochs,
)
from sim.random_streams import stream
from theory.estimate import agreement
from theory.gradient_noise import GradientNoise, Persistent, Reshuffled, ReshuffledEvery, ShuffledOnce, WhiteNoise

SAMPLES, BATCH_SIZE, BATCHES = 30, 6, 5
EPOCHS = 6  # a whole number of those that share an order, in all tests
REPLICAS = 2500
LAGS = (0, 1, 2, 4, 5, 7, 10)

Order = Callable[[int, int, np.random.Generator], Iterator]


def gradients(seed: int, samples: int = SAMPLES) -> np.ndarray:
    """Of single samples at a minimum, C_0 = 1: skewed, as real ones are."""
    values = stream(seed, "gradients").exponential(size=samples)
    return (values - values.mean()) / values.std()


def noise_of(order: Order, values: np.ndarray, rng: np.random.Generator, epochs: int) -> np.ndarray:
    """Batch gradients, update by update; divided by the mean size of a batch."""
    drawn = itertools.islice(order(len(values), BATCH_SIZE, rng), epochs)
    return np.array([values[batch].sum() for epoch in drawn for batch in epoch]) / BATCH_SIZE


def products(order: Order, seed: int, values: np.ndarray, replicas: int = REPLICAS) -> np.ndarray:
    """Mean of dg_k dg_{k+h} over the updates k of EPOCHS epochs, for each replica and each of LAGS."""
    span = EPOCHS * (len(values) // BATCH_SIZE)
    result = np.empty((replicas, len(LAGS)))
    for replica in range(replicas):
        noise = noise_of(order, values, stream(seed, "order", replica), 2 * EPOCHS)
        result[replica] = [noise[:span] @ noise[lag : lag + span] / span for lag in LAGS]
    return result


@pytest.mark.parametrize(
    ("order", "noise", "wrong"),
    [
        (
            with_replacement_epochs,
            WhiteNoise.with_replacement(1.0, SAMPLES, BATCH_SIZE),
            Reshuffled.of_examples(1.0, SAMPLES, BATCH_SIZE),
        ),
        (
            reshuffled_epochs,
            Reshuffled.of_examples(1.0, SAMPLES, BATCH_SIZE),
            ShuffledOnce.of_examples(1.0, SAMPLES, BATCH_SIZE),
        ),
        (
            partial(reshuffled_epochs, every=2),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, 2),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, 3),
        ),
        (
            partial(reshuffled_epochs, every=3),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, 3),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, 2),
        ),
        (
            shuffled_once_epochs,
            ShuffledOnce.of_examples(1.0, SAMPLES, BATCH_SIZE),
            ReshuffledEvery.of_examples(1.0, SAMPLES, BATCH_SIZE, EPOCHS),
        ),
        (
            partial(persistent_epochs, entry_probability=0.06),
            Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.06),
            Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.08),
        ),
        (
            partial(persistent_epochs, entry_probability=0.22),  # samples leave faster than the batch is mixed
            Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.22),
            WhiteNoise.with_replacement(1.0, SAMPLES, BATCH_SIZE),
        ),
    ],
    ids=["with replacement", "reshuffled", "every two", "every three", "shuffled once", "persistent", "evasive"],
)
def test_autocovariance_of_every_order(seed: int, order: Order, noise: GradientNoise, wrong: GradientNoise) -> None:
    # Persistent batches cost more, and differ more.
    seen = products(order, seed, gradients(seed), 600 if isinstance(noise, Persistent) else REPLICAS)
    for lag, predicted, samples in zip(LAGS, noise.autocovariance(np.array(LAGS)), seen.T, strict=True):
        if (
            np.ptp(samples) < 1e-12
        ):  # of one order the sum over an epoch and its repetition are the same in all replicas
            assert samples.mean() == pytest.approx(predicted, rel=1e-12), lag
        else:
            assert agreement(samples, float(predicted)), lag
    controls = zip(wrong.autocovariance(np.array(LAGS)), seen.T, strict=True)
    assert not all(agreement(samples, float(predicted)) for predicted, samples in controls)


def test_persistent_batches_are_as_noisy_as_the_second_moment_of_the_gradients(seed: int) -> None:
    # Away from a minimum: the size of the batch fluctuates, so that the mean gradient makes noise too.
    values = gradients(seed) + 1.0
    order = partial(persistent_epochs, entry_probability=0.06)
    noise = np.array([noise_of(order, values, stream(seed, "moment", r), 6) for r in range(800)]) - 1.0
    moment = float((values**2).mean())
    assert moment == pytest.approx(2.0)
    for lag in (0, 1, 5):
        samples = (noise[:, : -lag or None] * noise[:, lag:]).mean(axis=1)
        assert agreement(samples, float(Persistent.two_state(moment, SAMPLES, BATCH_SIZE, 0.06).autocovariance(lag)))
        wrong = Persistent.two_state(1.0, SAMPLES, BATCH_SIZE, 0.06)  # from the variance of the gradients
        assert lag == 5 or not agreement(samples, float(wrong.autocovariance(lag)))


@pytest.mark.parametrize("order", [reshuffled_epochs, shuffled_once_epochs, partial(reshuffled_epochs, every=3)])
def test_whole_epochs_without_replacement_sum_to_zero(order: Order) -> None:
    noise = noise_of(order, gradients(0), stream(0, "order"), 12)
    np.testing.assert_allclose(noise.reshape(12, BATCHES).sum(axis=1), 0, atol=1e-14)


def test_samples_that_are_left_over_spoil_the_sum(seed: int) -> None:
    # N = 33: three samples of each epoch are dropped. Within it Cov(dg_i, dg_j) is still -C_0 / (N - 1).
    values = gradients(seed, 33)
    seen = products(reshuffled_epochs, seed, values)
    variance, sharing = (33 - BATCH_SIZE) / (32 * BATCH_SIZE), 1 / 32
    for lag, samples in zip(LAGS, seen.T, strict=True):
        within = sharing * max(BATCHES - lag, 0) / BATCHES
        assert agreement(samples, variance if lag == 0 else -within), lag
    # As if the epoch were complete: of this variance, but of zero sum.
    assert not agreement(seen[:, 1], float(Reshuffled(BATCHES, variance).autocovariance(1)))


def test_sgd_noise_anchor(seed: int) -> None:
    # sgd_noise.md, 2.1: N = 60, S = 6, lags 0, 1, 3, 9, 10, and 59 / 54 between the variances of both kinds of batches.
    values = gradients(seed, 60)
    assert WhiteNoise.with_replacement(1.0, 60, 6).variance / Reshuffled.of_examples(
        1.0, 60, 6
    ).variance == pytest.approx(59 / 54, rel=1e-14)
    noise = np.array([noise_of(reshuffled_epochs, values, stream(seed, "anchor", r), 4) for r in range(4000)])
    unit = Reshuffled.of_examples(1.0, 60, 6).variance
    for lag, expected in ((0, 1.0), (1, -0.1), (3, -7 / 90), (9, -1 / 90), (10, 0.0)):
        samples = (noise[:, :20] * noise[:, lag : lag + 20]).mean(axis=1) / unit
        assert agreement(samples, expected), lag
    replaced = np.array([noise_of(with_replacement_epochs, values, stream(seed, "white", r), 4) for r in range(4000)])
    assert agreement((replaced**2).mean(axis=1) / unit, 59 / 54)
    assert not agreement((replaced**2).mean(axis=1) / unit, 1.0)
