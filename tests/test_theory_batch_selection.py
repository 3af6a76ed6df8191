"""Paths of samples in and out of batches: their law, that stratification keeps it, and what is refused."""

import itertools

import numpy as np
import pytest

from sim.random_streams import stream
from theory.batch_selection import (
    BatchSelection,
    BernoulliBatches,
    FullBatch,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.estimate import Agreement, agreement
from theory.gradient_noise import Persistent, Reshuffled


def paths(selection: BatchSelection, seed: int, samples: int, updates: int, learning_rate: float = 0.2) -> np.ndarray:
    drawn = selection.paths(samples, learning_rate, stream(seed, "batch paths"))
    return np.stack(list(itertools.islice(drawn, updates)))


def product_agrees(selection: BatchSelection, seed: int, lag: int, expected: float) -> Agreement:
    """<s(t) s(t + lag)> of independent sets of samples at a late time."""
    means = []
    for k in range(300):
        s = paths(selection, seed + 1000 * k, 200, 6 + lag)
        means.append((s[5] * s[5 + lag]).mean())
    return agreement(means, expected, detects=0.2)


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_persistence(lag: int, seed: int) -> None:
    # b = 0.3, eta = 0.2, tau = 2: covariances .21, .14, .0933, ... from lag 0.
    selection = PersistentBatches(0.3, 2.0)
    r = selection.correlation(0.2)
    assert r == pytest.approx(2 / 3)
    assert product_agrees(selection, seed, lag, 0.09 + 0.21 * r**lag)
    assert not product_agrees(
        selection, seed, lag, 0.09 + 0.21 * (1 - 0.2 / 2.0) ** lag
    )  # b tau is the memory, not tau


def test_persistence_is_that_of_the_gradient_noise() -> None:
    entry = 0.2 / 2.0
    assert Persistent.two_state(1.0, 1000, 300, entry).correlation == pytest.approx(
        PersistentBatches(0.3, 2.0).correlation(0.2)
    )
    assert PersistentBatches(0.25, 0.4 / 0.25).correlation(0.4) == 0  # Bernoulli batches


def test_bernoulli_batches_have_their_share(seed: int) -> None:
    s = paths(BernoulliBatches(0.25), seed, 400, 50)
    assert (np.abs(s.sum(axis=1) - 100) <= 1).all()  # stratified
    assert product_agrees(BernoulliBatches(0.25), seed, 1, 0.0625)


def test_full_batch() -> None:
    assert (paths(FullBatch(0.3), 0, 8, 3) == 0.3).all()
    assert FullBatch().batch_fraction == 1


def test_epochs(seed: int) -> None:
    anew, once = paths(ReshuffledBatches(5), seed, 40, 15), paths(ShuffledOnceBatches(5), seed, 40, 15)
    for s in (anew, once):
        assert (s.reshape(3, 5, 40).sum(axis=1) == 1).all()
        assert (s.sum(axis=1) == 8).all()
    assert (once[:5] == once[5:10]).all()
    assert not (anew[:5] == anew[5:10]).all()


def test_products_of_reshuffled_batches(seed: int) -> None:
    # From update 5 of an epoch of 4 on: place 1 of the second epoch against places 2 and 3, and 0 of the third.
    selection = ReshuffledBatches(4)
    s = paths(selection, seed, 200, 9)
    assert not (s[5] * s[6]).any()
    assert not (s[5] * s[7]).any()
    assert product_agrees(selection, seed, 3, 1 / 16)
    assert Reshuffled(4).batches_per_epoch == selection.period


@pytest.mark.parametrize(
    "selection",
    [
        FullBatch(0.5),
        BernoulliBatches(0.5),
        PersistentBatches(0.5, 2.0),
        ReshuffledBatches(2),
        ShuffledOnceBatches(2),
    ],
)
def test_labels_and_fractions(selection: BatchSelection) -> None:
    assert selection.batch_fraction == 0.5
    assert "2" in selection.label or "0.5" in selection.label
    assert selection.period == (2 if "M" in selection.label else 1)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_fractions_that_are_refused(fraction: float) -> None:
    with pytest.raises(
        ValueError, match=r"batch_fraction=.* must be > 0, or all batches would be empty, and at most 1"
    ):
        BernoulliBatches(fraction)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_fraction=1e-09 must be at least 1e-06: batches would be empty"):
        FullBatch(1e-9)
    with pytest.raises(ValueError, match="nothing is left out"):
        PersistentBatches(1.0, 2.0)
    with pytest.raises(ValueError, match="persistence_time=inf must be finite and > 0"):
        PersistentBatches(0.5, float("inf"))
    with pytest.raises(ValueError, match="batches_per_epoch=0 must be a whole number >= 1"):
        ReshuffledBatches(0)
    with pytest.raises(ValueError, match=r"batches_per_epoch=\d+ must be at most 1000000"):
        ShuffledOnceBatches(10**7)


def test_persistence_times_that_are_too_short() -> None:
    with pytest.raises(ValueError, match=r"must be at least 0\.4 for .* samples would enter"):
        PersistentBatches(0.5, 0.3).paths(8, 0.4, stream(0, "x"))
    with pytest.raises(ValueError, match=r"must be at least 1\.2 for .* samples would leave"):
        PersistentBatches(0.25, 1.0).check(0.4)
    PersistentBatches(0.25, 1.2).check(0.4)
    PersistentBatches(0.5, 0.4).check(0.4)
