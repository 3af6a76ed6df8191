"""Layers that draw random numbers, and augmentation: each member's own, and resumed with the same bits."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from nnval.engine.checkpoint import from_bytes, to_bytes
from nnval.engine.device import seeded_generators
from nnval.engine.images import AUGMENTATIONS, Images
from nnval.engine.models import mlp
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import ChainExecution, LoopExecution
from tests.stacked_networks import CONFIG, CPU, digits, epoch_of, loop_of, noisy, random_images, stack_of


@pytest.fixture(scope="module")
def images():
    return random_images()


# ---- Random numbers of layers --------------------------------------------------------------------------------------


def train(loop, state, until=None):
    for record in loop.epochs(state, lambda state: None):
        if record.epoch == until:
            break
    return state


def test_generators_are_seeded_for_a_while():
    before = torch.random.get_rng_state()
    with seeded_generators(3, CPU):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with contextlib.suppress(KeyError), seeded_generators(3, CPU):
        assert torch.equal(torch.rand(3), first)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)


TRAININGS = {
    "momentum": {"momentum": 0.9, "nesterov": True, "schedule": "step", "milestones": (2, 4)},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "schedule": "one_cycle"},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "execution": "stacked"},
    "sgdr": {"schedule": "sgdr", "cycle_epochs": 2, "execution": "stacked", "augmentation": "crop_flip"},
    "augmented": {"augmentation": "crop_flip", "momentum": 0.5},
    "bfloat16": {"precision": "bfloat16", "momentum": 0.5},
}


@pytest.mark.parametrize("values", [*TRAININGS.values(), "dropout"], ids=[*TRAININGS, "dropout"])
def test_resuming_and_companions_do_not_change_a_bit(values):
    """Each stopped after epoch 3 and read back from its bytes; some members alone and in another order."""
    module = noisy() if values == "dropout" else None
    config = CONFIG if values == "dropout" else dataclasses.replace(CONFIG, **values)
    whole = train(*loop_of(config, module))
    loop, state = loop_of(config, module)
    middle = to_bytes(train(loop, state, until=3))
    state = from_bytes(middle)
    assert state.stack.steps == 18
    assert to_bytes(state) == middle
    assert set(state.stack.slots) == set(Optimizer.of(config).slots)
    torch.manual_seed(8)  # what else happens in the process does not matter
    state = train(loop_of(config, module)[0], state)
    assert to_bytes(state) == to_bytes(whole)
    others = train(*loop_of(config, module, members=(2, 0)))
    for row, member in enumerate((2, 0)):
        here, there = others.stack.member(row), whole.stack.member(member)
        assert here.parameters.keys() == there.parameters.keys()
        for name in here.parameters:
            assert torch.equal(here.parameters[name], there.parameters[name])
            for slot in here.slots:
                assert torch.equal(here.slots[slot][name], there.slots[slot][name])


def test_dropout_differs_between_members_epochs_and_streams():
    """With equal weights and equal batches only the noise is left."""

    def losses(epoch, **changes):
        config = dataclasses.replace(CONFIG, learning_rate=1e-30, **changes)
        loop, state = loop_of(config, noisy())
        state.stack = stack_of(noisy(), [0, 0, 0])
        state.stack.members = np.arange(3)
        state.epoch = epoch - 1
        epoch = loop._epoch(state, epoch)
        same = dataclasses.replace(epoch, batches=loop.batches(np.zeros(3, np.int64), 1))
        return loop._execution.train_epoch(state.stack, digits().train, Optimizer(), same).tolist()

    assert losses(1) == losses(1)
    assert len({*losses(1), *losses(2), *losses(1, stream="other"), *losses(1, seed=1)}) == 12


def test_evaluation_does_not_drop_out(images):
    module = noisy()
    stack = stack_of(module, [0])
    way = LoopExecution(module)
    before = torch.random.get_rng_state()
    assert len({int(way.correct(stack, images)[0]) for _ in range(5)}) == 1
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- Augmentation --------------------------------------------------------------------------------------------------


def test_augmentations_are_the_members_own():
    config = dataclasses.replace(CONFIG, augmentation="crop_flip")
    loop, _ = loop_of(config)
    codes = loop.augmentations(np.array([0, 1]), 1)
    assert codes.shape == loop.batches(np.array([0, 1]), 1).shape
    assert codes.min() >= 0
    assert codes.max() < AUGMENTATIONS
    assert torch.equal(loop.augmentations(np.array([1]), 1)[0], codes[1])
    for members, epoch in (([1, 0], 1), ([0, 1], 2)):
        assert not torch.equal(loop.augmentations(np.array(members), epoch), codes)
    assert loop_of(CONFIG)[0].augmentations(np.array([0, 1]), 1) is None
    # The shuffles are what they are without it.
    assert torch.equal(loop.batches(np.array([0]), 1), loop_of(CONFIG)[0].batches(np.array([0]), 1))


@pytest.mark.parametrize("way", [ChainExecution, LoopExecution])
def test_training_sees_augmented_images_and_evaluation_does_not(way, images):
    module = mlp((1, 8, 8), 5, (16,))
    codes = torch.from_numpy(np.random.default_rng(0).integers(AUGMENTATIONS, size=(2, 4, 10)))
    augmented, plain = stack_of(module, [4, 2]), stack_of(module, [4, 2])
    epoch = epoch_of([4, 2], augmentations=codes)
    way(module).train_epoch(augmented, images, Optimizer(), epoch)
    # The same training on images that were augmented before.
    ready = Images(
        images.inputs(epoch.batches.reshape(-1), codes.reshape(-1)), images.labels[epoch.batches.reshape(-1)]
    )
    others = dataclasses.replace(epoch, batches=torch.arange(80).view(2, 4, 10), augmentations=None)
    way(module).train_epoch(plain, ready, Optimizer(), others)
    for name, tensor in plain.parameters.items():
        assert torch.equal(augmented.parameters[name], tensor)
