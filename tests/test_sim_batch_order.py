"""Batch orders: exact epoch accounting, and membership statistics of persistent batches (sgd_noise.md, section 7)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.batch_order import (
    batches_per_epoch,
    persistent_epochs,
    persistent_masks,
    reshuffled,
    reshuffled_epochs,
    shuffled_once_epochs,
    with_replacement,
    with_replacement_epochs,
)
from sim.random_streams import stream
from theory.estimate import agreement


@given(st.integers(1, 40), st.data())
def test_an_epoch_without_replacement_has_every_kept_sample_once(samples: int, data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, samples))
    every = data.draw(st.integers(1, 3))
    batches = batches_per_epoch(samples, batch_size)
    for order in (
        itertools.repeat(reshuffled(samples, batch_size, stream(0, "order"))),
        reshuffled_epochs(samples, batch_size, stream(0, "order"), every=every),
        shuffled_once_epochs(samples, batch_size, stream(0, "order")),
    ):
        for epoch in itertools.islice(order, 4):
            assert epoch.shape == (batches, batch_size)
            assert len(np.unique(epoch)) == batches * batch_size
            assert 0 <= epoch.min() <= epoch.max() < samples


def test_an_order_is_kept_for_exactly_that_many_epochs() -> None:
    epochs = list(itertools.islice(reshuffled_epochs(50, 5, stream(0, "order"), every=3), 9))
    same = [bool((a == b).all()) for a, b in itertools.pairwise(epochs)]
    assert same == [True, True, False, True, True, False, True, True]


def test_epochs_are_drawn_as_single_ones_are() -> None:
    # nnval draws its epochs one by one, from a stream addressed by the epoch.
    rng, again = stream(0, "order"), stream(0, "order")
    epochs = reshuffled_epochs(12, 4, rng)
    assert all((next(epochs) == reshuffled(12, 4, again)).all() for _ in range(3))
    rng, again = stream(0, "order"), stream(0, "order")
    epochs = with_replacement_epochs(12, 4, rng)
    assert all((next(epochs) == with_replacement(12, 4, again)).all() for _ in range(3))


def test_with_replacement_batches_repeat_samples(seed: int) -> None:
    batch = np.array([with_replacement(10, 5, stream(seed, "replacement", i))[0] for i in range(2000)])
    distinct = [len(np.unique(row)) for row in batch]
    assert agreement(distinct, 10 * (1 - 0.9**5), detects=0.05)
    assert not agreement(distinct, 5.0)


@pytest.mark.parametrize("entry_probability", [0.1, 0.3, 0.4])
def test_membership_of_persistent_batches(entry_probability: float, seed: int) -> None:
    # b (1 - b) r^h with r = 1 - entry_probability / b; b = 0.3, eta = 0.2, tau = 2 is the first of these.
    samples, fraction = 40000, 0.3
    rng = stream(seed, "persistent", round(10 * entry_probability))
    masks = np.array(
        list(itertools.islice(persistent_masks(samples, 12000, rng, entry_probability=entry_probability), 4)), float
    )
    correlation = 1 - entry_probability / fraction
    assert agreement(masks.mean(axis=0), fraction, detects=0.1)
    for lag in range(3):
        products = (masks[3] - fraction) * (masks[3 - lag] - fraction)
        assert agreement(products, fraction * (1 - fraction) * correlation**lag)
    # The continuous-time decay of the correlation, e^{-entry / b}, is another number.
    products = (masks[3] - fraction) * (masks[2] - fraction)
    assert not agreement(products, fraction * (1 - fraction) * np.exp(-entry_probability / fraction))


def test_persistent_epochs_are_the_masks_in_rows_of_an_epoch() -> None:
    epochs = persistent_epochs(30, 10, stream(0, "persistent"), entry_probability=0.2)
    masks = persistent_masks(30, 10, stream(0, "persistent"), entry_probability=0.2)
    for epoch in itertools.islice(epochs, 3):
        assert len(epoch) == 3
        for batch in epoch:
            assert batch.tolist() == np.flatnonzero(next(masks)).tolist()


@pytest.mark.parametrize("whole", [float, np.float64, np.int8, np.uint16])
def test_whole_numbers_of_any_type_are_ints(whole: type) -> None:
    assert (batches_per_epoch(whole(10), whole(3)), type(batches_per_epoch(whole(10), whole(3)))) == (3, int)
    for order in (reshuffled, with_replacement):
        plain, other = (order(size(10), size(3), stream(0, "order")) for size in (int, whole))
        assert (plain == other).all()
    for epochs in (reshuffled_epochs, with_replacement_epochs, shuffled_once_epochs):
        plain, other = (next(epochs(size(10), size(3), stream(0, "order"))) for size in (int, whole))
        assert (plain == other).all()
    twice = reshuffled_epochs(10, 3, stream(0, "order"), every=whole(2))
    assert (next(twice) == next(twice)).all()


def test_errors_name_the_bound_before_the_first_epoch_is_asked_for() -> None:
    rng = stream(0, "order")
    with pytest.raises(ValueError, match="batch_size=11 must lie between 1 and the 10"):
        with_replacement_epochs(10, 11, rng)
    with pytest.raises(ValueError, match="batch_size=0 must lie between 1 and the 10"):
        reshuffled_epochs(10, 0, rng)
    with pytest.raises(ValueError, match="batch_size=11"):
        shuffled_once_epochs(10, 11, rng)
    with pytest.raises(ValueError, match="every=0 must be a whole number >= 1"):
        reshuffled_epochs(10, 2, rng, every=0)
    with pytest.raises(ValueError, match="every=inf must be a whole number"):
        reshuffled_epochs(10, 2, rng, every=math.inf)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="every='2' must be a whole number"):
        reshuffled_epochs(10, 2, rng, every="2")  # pyright: ignore[reportArgumentType]
    for size in (2.5, math.nan, "2", None):
        for order in (reshuffled, with_replacement, reshuffled_epochs, with_replacement_epochs, shuffled_once_epochs):
            with pytest.raises(ValueError, match="batch_size="):
                order(10, size, rng)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="batch_size="):
            batches_per_epoch(10, size)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="batch_size="):
            persistent_masks(10, size, rng, entry_probability=0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"batch_size=2\.5 must be a whole number >= 1"):
        batches_per_epoch(10, 2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"samples=10\.5 must be a whole number >= 1"):
        batches_per_epoch(10.5, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="entry_probability='a' must be a number"):
        persistent_masks(10, 2, rng, entry_probability="a")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"every=1\.5 must be"):
        reshuffled_epochs(10, 2, rng, every=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"entry_probability=0.0 must be > 0"):
        persistent_epochs(10, 2, rng, entry_probability=0.0)
    with pytest.raises(ValueError, match=r"at most min\(1, b / \(1 - b\)\)"):
        persistent_masks(10, 2, rng, entry_probability=0.26)
    with pytest.raises(ValueError, match=r"batch_size / samples = 1 < 1"):
        persistent_masks(10, 10, rng, entry_probability=0.5)
