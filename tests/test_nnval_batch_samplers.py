"""Batch orders as samplers: the sequences of sim.batch_order bit by bit, resumption in mid-epoch, DataLoader."""

import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nnval.drop_in.batch_samplers import BatchOrderSampler
from sim.batch_order import (
    persistent_epochs,
    reshuffled_epochs,
    shuffled_once_epochs,
    with_replacement_epochs,
)
from sim.random_streams import stream

SAMPLES, SIZE = 23, 4  # M = 5, and three samples are dropped
EPOCHS = 5

ORDERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "with_replacement": ("with_replacement", {}, with_replacement_epochs),
    "reshuffled": ("reshuffled", {}, reshuffled_epochs),
    "reshuffled_every_3": ("reshuffled", {"every": 3}, reshuffled_epochs),
    "shuffled_once": ("shuffled_once", {}, shuffled_once_epochs),
    "persistent": ("persistent", {"entry_probability": 0.05}, persistent_epochs),
}

every_order = pytest.mark.parametrize("case", ORDERS)


def sampler_of(case: str, rng: np.random.Generator) -> BatchOrderSampler:
    order, options, _ = ORDERS[case]
    return BatchOrderSampler(order, SAMPLES, SIZE, rng=rng, **options)


def defined(case: str, rng: np.random.Generator, epochs: int = EPOCHS) -> list[list[list[int]]]:
    """What sim.batch_order says."""
    _, options, definition = ORDERS[case]
    drawn = itertools.islice(definition(SAMPLES, SIZE, rng, **options), epochs)
    return [[batch.tolist() for batch in epoch] for epoch in drawn]


@every_order
def test_batches_are_those_of_the_definition(case: str, seed: int) -> None:
    sampler = sampler_of(case, stream(seed, "orders"))
    given = [list(sampler) for _ in range(EPOCHS)]
    assert given == defined(case, stream(seed, "orders"))
    assert len(sampler) == 5
    assert all(len(epoch) == 5 for epoch in given)
    assert given != defined(case, stream(seed + 1, "orders"))
    if case not in ("persistent", "with_replacement"):
        assert all(len(set(itertools.chain.from_iterable(epoch))) == 20 for epoch in given)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file that cannot run code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_order
@pytest.mark.parametrize("through", [saved, lambda state: json.loads(json.dumps(state))], ids=["torch", "json"])
def test_resumption_is_exact_at_every_batch(case: str, through: Any, seed: int) -> None:
    whole = defined(case, stream(seed, "orders"), EPOCHS + 2)
    for epochs, position in itertools.product(range(EPOCHS), range(1, 6)):
        first = sampler_of(case, stream(seed, "orders"))
        for _ in range(epochs):
            list(first)
        batches = iter(first)
        for _ in range(position):
            next(batches)
        second = sampler_of(case, np.random.default_rng(99))
        list(second)  # whatever it did before
        second.load_state_dict(through(first.state_dict()))
        assert (second.epoch, second.position) == (epochs + 1, position)
        if position < 5:
            assert list(second) == whole[epochs][position:]
        # The rest of an epoch that was over is not an empty epoch.
        assert [list(second), list(second)] == whole[epochs + 1 : epochs + 3]


@every_order
def test_state_of_a_state_and_before_the_first_epoch(case: str, seed: int) -> None:
    whole = defined(case, stream(seed, "orders"))
    first = sampler_of(case, stream(seed, "orders"))
    second = sampler_of(case, np.random.default_rng(1))
    second.load_state_dict(first.state_dict())
    assert (second.epoch, second.position) == (0, 0)
    assert list(second) == whole[0]
    batches = iter(second)
    assert second.state_dict()["position"] == 5  # the next epoch begins with its first batch
    next(batches)
    third = sampler_of(case, np.random.default_rng(2))
    third.load_state_dict(second.state_dict())
    fourth = sampler_of(case, np.random.default_rng(3))
    fourth.load_state_dict(third.state_dict())  # loaded, and not a batch handed out
    rest = iter(fourth)
    assert next(rest) == whole[1][1]
    fifth = sampler_of(case, np.random.default_rng(4))
    fifth.load_state_dict(fourth.state_dict())  # in the rest of an epoch
    assert [list(fifth), list(fifth)] == [whole[1][2:], whole[2]]


def test_resumption_with_an_empty_persistent_batch() -> None:
    def sampler(seed: int) -> BatchOrderSampler:
        return BatchOrderSampler("persistent", 4, 1, rng=np.random.default_rng(seed), entry_probability=0.2)

    ends_empty = 0
    for seed in range(20):
        first = sampler(seed)
        epoch = list(first)
        ends_empty += epoch[-1] == []
        next(iter(first))
        second = sampler(99)
        second.load_state_dict(first.state_dict())
        expected = persistent_epochs(4, 1, np.random.default_rng(seed), entry_probability=0.2)
        wanted = [[batch.tolist() for batch in next(expected)] for _ in range(3)]
        assert [epoch, list(second), list(second)] == [wanted[0], wanted[1][1:], wanted[2]]
    assert ends_empty > 2  # or nothing was tested


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_any_generator_of_numpy(kind: str) -> None:
    def rng(seed: int) -> np.random.Generator:
        return np.random.Generator(getattr(np.random, kind)(seed))

    first, second = sampler_of("reshuffled", rng(0)), sampler_of("reshuffled", rng(1))
    batches = iter(first)
    next(batches)
    second.load_state_dict(saved(json.loads(json.dumps(first.state_dict()))))
    assert list(second) == list(batches)
    assert list(second) == list(first)


def test_each_iteration_is_a_whole_epoch() -> None:
    sampler = sampler_of("reshuffled", np.random.default_rng(0))
    whole = defined("reshuffled", np.random.default_rng(0))
    old = iter(sampler)
    assert next(old) == whole[0][0]
    new = iter(sampler)
    assert next(new) == whole[1][0]
    assert (sampler.epoch, sampler.position) == (2, 1)
    assert list(old) == whole[0][1:]  # goes on, and does not count
    assert (sampler.epoch, sampler.position) == (2, 1)
    assert list(new) == whole[1][1:]
    assert (sampler.epoch, sampler.position) == (2, 5)


def test_old_iterators_do_not_count_after_loading() -> None:
    sampler = sampler_of("shuffled_once", np.random.default_rng(0))
    old = iter(sampler)
    next(old)
    state = sampler.state_dict()
    next(old)
    sampler.load_state_dict(state)
    next(old)
    assert sampler.position == 1
    assert list(sampler) == defined("shuffled_once", np.random.default_rng(0))[0][1:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("case", ["reshuffled", "persistent"])
def test_data_loader_and_prefetching(case: str, workers: int) -> None:
    data = TensorDataset(torch.arange(SAMPLES))
    whole = defined(case, np.random.default_rng(0))
    assert all(batch for epoch in whole for batch in epoch)  # an empty one could not be collated

    def loader(sampler: BatchOrderSampler) -> DataLoader:
        return DataLoader(data, batch_sampler=sampler, num_workers=workers, prefetch_factor=1 if workers else None)

    def batches(loaded: Any) -> list[list[int]]:
        return [batch.tolist() for (batch,) in loaded]

    sampler = sampler_of(case, np.random.default_rng(0))
    training = loader(sampler)
    assert len(training) == 5
    assert batches(training) == whole[0]
    loaded = iter(training)
    assert next(loaded)[0].tolist() == whole[1][0]
    assert sampler.position == 1 + workers  # ahead by what the workers are busy with
    states = [sampler.state_dict(done=1)] + ([sampler.state_dict()] if not workers else [])
    del loaded
    for state in states:
        resumed = sampler_of(case, np.random.default_rng(9))
        resumed.load_state_dict(state)
        again = loader(resumed)
        assert [batches(again), batches(again)] == [whole[1][1:], whole[2]]
    if workers:  # what was only prefetched would be lost
        resumed = sampler_of(case, np.random.default_rng(9))
        resumed.load_state_dict(sampler.state_dict())
        assert batches(loader(resumed)) == whole[1][3:]


def test_no_other_random_numbers_are_touched() -> None:
    before = torch.get_rng_state()
    sampler = sampler_of("reshuffled", np.random.default_rng(0))
    list(sampler)
    sampler.load_state_dict(sampler.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sorted", 10, 2, {}), "order='sorted' must be one of with_replacement, reshuffled"),
        (("reshuffled", 10, 11, {}), "batch_size=11 must lie between 1 and the 10 training samples"),
        (("reshuffled", 10, 2, {"every": 0}), "every=0"),
        (("shuffled_once", 10, 2, {"every": 2}), "every=2 belongs to order='reshuffled'"),
        (("persistent", 10, 2, {}), "entry_probability=None belongs to order='persistent', which needs it"),
        (("reshuffled", 10, 2, {"entry_probability": 0.1}), "entry_probability=0.1 belongs to order='persistent'"),
        (("persistent", 10, 2, {"entry_probability": 0.5}), "entry_probability=0.5 must be > 0 and at most"),
    ],
)
def test_bad_arguments(arguments: Any, message: str) -> None:
    order, samples, size, options = arguments
    with pytest.raises(ValueError, match=message):
        BatchOrderSampler(order, samples, size, rng=np.random.default_rng(0), **options)


def test_bad_states() -> None:
    sampler = sampler_of("reshuffled", np.random.default_rng(0))
    next(iter(sampler))
    with pytest.raises(ValueError, match="done=2 must be at most 1, the batches of this epoch handed out"):
        sampler.state_dict(2)
    with pytest.raises(ValueError, match="done=0"):
        sampler.state_dict(0)
    state = sampler.state_dict()
    with pytest.raises(ValueError, match="the state has order='reshuffled', this sampler 'reshuffled:every=3'"):
        sampler_of("reshuffled_every_3", np.random.default_rng(0)).load_state_dict(state)
    with pytest.raises(ValueError, match="the state has samples=23, this sampler 24"):
        BatchOrderSampler("reshuffled", 24, SIZE, rng=np.random.default_rng(0)).load_state_dict(state)
    with pytest.raises(ValueError, match="generator PCG64, this sampler has Philox"):
        sampler_of("reshuffled", np.random.Generator(np.random.Philox(0))).load_state_dict(state)
