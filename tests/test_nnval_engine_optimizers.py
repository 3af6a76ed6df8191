"""What optimizers remember, through perturbations and into branches."""

import dataclasses

import pytest
import torch

from nnval.drop_in.perturbations import make_perturbation
from nnval.engine.branch import Branch, look_up
from nnval.engine.checkpoint import read_state
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble
from nnval.engine.optimizers import Optimizer
from nnval.engine.schedules import learning_rate_at

# Six steps in an epoch.
PARENTS = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0, hidden=(8,), batch_size=10, epochs=4, members=3, stack_size=2,
    optimizer="adam", learning_rate=0.01, schedule="step", milestones=(3,), snapshots=(2,), execution="stacked",
)  # fmt: skip


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parents") / "run"
    train_ensemble(PARENTS, directory)
    return directory


def children(parents, **changes):
    config = dataclasses.replace(PARENTS, stream="child", epochs=2, snapshots=(), **changes)
    return look_up(Branch(parents, 2), config, None).initial_state([0, 1, 2], config)


def test_checkpoints_count_steps(parents):
    for block in ("0000-0001", "0002"):
        assert read_state(parents / "members" / block / "snapshot_0002.pt").stack.steps == 12
        assert read_state(parents / "members" / block / "checkpoint.pt").stack.steps == 24


def test_children_remember_what_their_parents_did(parents):
    stack = children(parents).stack
    assert stack.steps == 12
    for row, block in ((0, "0000-0001"), (2, "0002")):
        there = read_state(parents / "members" / block / "snapshot_0002.pt").stack.member(0)
        for slot in ("first_moment", "second_moment"):
            for name, tensor in there.slots[slot].items():
                assert torch.equal(stack.slots[slot][name][row], tensor)
                assert tensor.abs().max() > 0


@pytest.mark.parametrize(
    ("changes", "slots", "steps"),
    [
        ({"optimizer": "adamw"}, {"first_moment", "second_moment"}, 12),
        ({"optimizer": "sgd", "momentum": 0.9}, {"velocity"}, 0),
        ({"optimizer": "sgd"}, set(), 12),
    ],
)
def test_children_with_another_optimizer(parents, changes, slots, steps):
    stack = children(parents, **changes).stack
    assert set(stack.slots) == slots
    assert stack.steps == steps
    if not steps:
        assert all(tensor.eq(0).all() for tensor in stack.slots["velocity"].values())


def test_schedules_are_carried_on_into_branches(parents):
    state = children(parents)
    assert (state.schedule_origin, state.schedule_length) == (-2, 4)
    config = dataclasses.replace(PARENTS, stream="child", epochs=2)
    rates = [learning_rate_at(config, epoch, state.schedule_origin, state.schedule_length) for epoch in (1, 2)]
    assert rates == [learning_rate_at(PARENTS, epoch) for epoch in (3, 4)]
    assert rates[0] > rates[1]
    # Steps have no end, so that children may train longer than their parents would have.
    assert look_up(Branch(parents, 2), dataclasses.replace(config, epochs=9), None).schedule_length == 4
    assert look_up(Branch(parents, 2), dataclasses.replace(config, schedule="constant"), None).schedule_origin == 0


def test_one_cycle_ends_with_the_parents(tmp_path):
    config = dataclasses.replace(PARENTS, schedule="one_cycle", milestones=(), members=1)
    train_ensemble(config, tmp_path / "run")
    child = dataclasses.replace(config, stream="child", epochs=3, snapshots=())
    with pytest.raises(ValueError, match=r"epochs=3 must be <= 2: then the one_cycle schedule"):
        look_up(Branch(tmp_path / "run", 2), child, None)
    restart = make_perturbation("warm_restart")
    assert look_up(Branch(tmp_path / "run", 2), child, restart).schedule_origin == 0


@pytest.mark.parametrize(("policy", "steps"), [("clear", 12), ("keep", 24)])
def test_a_perturbation_that_clears_forgets_the_steps_too(tmp_path, policy, steps):
    """Otherwise the first step after it would be too small: Adam would not correct for moments that begin at 0."""
    perturbation = {"name": "gaussian_noise", "std": 0.1, "optimizer_state": policy}
    config = dataclasses.replace(PARENTS, perturbation=perturbation, interval=2, members=2)
    train_ensemble(config, tmp_path / "run")
    assert read_state(tmp_path / "run" / "members" / "0000-0001" / "checkpoint.pt").stack.steps == steps


def test_an_optimizer_is_the_one_of_the_config():
    config = TrainingConfig(momentum=0.9, nesterov=True, weight_decay=0.1)
    assert Optimizer.of(config) == Optimizer(momentum=0.9, nesterov=True, weight_decay=0.1)
    assert Optimizer.of(TrainingConfig(optimizer="adam", betas=(0.5, 0.6))).betas == (0.5, 0.6)
