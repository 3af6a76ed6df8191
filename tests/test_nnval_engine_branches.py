"""Snapshots of members, and branches that go on from them."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from nnval.drop_in.perturbations import make_perturbation
from nnval.engine import run_directory as disk
from nnval.engine.branch import Branch, snapshot_members
from nnval.engine.checkpoint import read_state
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.loop import learning_rate_at
from nnval.engine.run_directory import RunDirectoryError
from tests.small_trainings import RESET, loop_of, rows, small


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    """A run with some members complete at epoch 4, in blocks, with momentum."""
    directory = tmp_path_factory.mktemp("parents") / "run"
    config = small(members=7, stack_size=3, momentum=0.5, epochs=8, snapshots=(0, 4, 8), target=0.58, learning_rate=0.1)
    return train_ensemble(config, directory)


def state_of(directory, epoch):
    """Member -> view, from all blocks of a run."""
    views = {}
    for path in directory.rglob(f"snapshot_{epoch:04d}.pt"):
        stack = read_state(path).stack
        views |= {member: stack.member(row) for row, member in enumerate(stack.members.tolist())}
    return views


def test_snapshots_hold_the_survivors(parents):
    assert 0 < (parents.epochs <= 4).sum() < 7
    survivors = parents.members[~((parents.status == "reached") & (parents.epochs <= 4))]
    assert snapshot_members(parents.directory, 4).tolist() == survivors.tolist()
    assert snapshot_members(parents.directory, 0).tolist() == list(range(7))
    horizon = parents.members[parents.status == "horizon"]
    assert snapshot_members(parents.directory, 8).tolist() == horizon.tolist()
    fresh = loop_of(parents.config).initial_state(list(range(7))).stack
    for member, view in state_of(parents.directory, 0).items():
        assert torch.equal(view.parameters["1.weight"], fresh.parameters["1.weight"][member])


def test_a_snapshot_is_taken_before_the_perturbation(tmp_path):
    plain = train_ensemble(small(snapshots=(2,)), tmp_path / "plain")
    reset = train_ensemble(small(snapshots=(2,), perturbation=RESET, interval=2), tmp_path / "reset")
    for member, view in state_of(plain.directory, 2).items():
        other = state_of(reset.directory, 2)[member]
        assert all(torch.equal(view.parameters[name], other.parameters[name]) for name in view.parameters)


def test_children_begin_as_their_parents(parents, tmp_path):
    config = small(momentum=0.5, epochs=3, stream="control", snapshots=(0,), stack_size=2)
    result = train_ensemble(config, tmp_path / "run", parents=Branch(parents.directory, 4, children_per_parent=2))
    survivors = snapshot_members(parents.directory, 4)
    assert result.members.tolist() == [2 * parent + child for parent in survivors for child in (0, 1)]
    assert result.parents.tolist() == np.repeat(survivors, 2).tolist()
    assert result.config.members == 2 * len(survivors)
    assert list(rows(tmp_path / "run" / "members.csv")[0]) == ["run", "parent", "status", "epoch", "test_accuracy"]
    before = state_of(parents.directory, 4)
    for member, view in state_of(result.directory, 0).items():
        parent = before[member // 2]
        for name in view.parameters:
            assert torch.equal(view.parameters[name], parent.parameters[name])
            assert torch.equal(view.slots["velocity"][name], parent.slots["velocity"][name])
            assert parent.slots["velocity"][name].abs().max() > 0
    loss = result.curves["train_loss"][:, 0]
    assert len(set(loss)) == len(loss)  # siblings see different shuffles
    # Children of trained parents begin better than fresh networks.
    assert loss.max() < parents.curves["train_loss"][:, 0].min()


def test_the_perturbation_of_a_branch_acts_at_once(parents, tmp_path):
    perturbation = {"name": "shrink_perturb", "shrink": 0.5, "noise": 0}
    config = small(momentum=0.5, epochs=2, stream="branch", snapshots=(0,), perturbation=perturbation)
    branch = Branch(parents.directory, 4)
    members = snapshot_members(parents.directory, 4).tolist()
    loop = loop_of(config, make_perturbation(**perturbation))
    from nnval.engine.branch import look_up

    state = look_up(branch, config, make_perturbation(**perturbation)).initial_state(members, config)
    loop.perturb(state)
    before = state_of(parents.directory, 4)
    for row, member in enumerate(members):
        assert torch.equal(state.stack.parameters["1.weight"][row], 0.5 * before[member].parameters["1.weight"])
        assert state.stack.slots["velocity"]["1.weight"][row].eq(0).all()
    records = list(loop.epochs(state, lambda state: None))
    result = train_ensemble(config, tmp_path / "run", parents=branch)
    assert result.curves["train_loss"][:, 1] == pytest.approx(records[1].train_loss, rel=1e-8)


def test_some_parents_only(parents, tmp_path):
    some = snapshot_members(parents.directory, 4)[[2, 0]].tolist()
    config = small(epochs=1, stream="branch", perturbation=RESET)
    result = train_ensemble(config, tmp_path / "run", parents=Branch(parents.directory, 4, some))
    assert result.members.tolist() == sorted(some)
    # Momentum need not be that of the parents: without it their velocity is forgotten.
    assert read_state(next((tmp_path / "run").rglob("checkpoint.pt"))).stack.slots == {}


def test_branch_errors(parents, tmp_path):
    config = small(stream="branch", epochs=2)
    complete = int(parents.members[parents.epochs <= 4][0])
    cases = [
        (config, {"members": [complete]}, rf"members {complete} of .* cannot be branched at epoch 4: they had ended"),
        (config, {"members": [99]}, r"members 99 of .* or never were"),
        (config, {"members": []}, r"nobody survived|nothing to branch"),
        (config, {"epoch": 5}, r"has no snapshot of epoch 5: .* snapshots=\[5\]"),
        (config, {"run": tmp_path}, r"holds no run"),
        (small(epochs=2), {}, r"stream='unperturbed' is the one of the parents"),
        (
            small(stream="branch", hidden=(9,)),
            {},
            r"needs its parents' data and model; .* differs:\n  hidden: \[8\] there",
        ),
        (small(stream="branch", data_seed=1), {}, r"data_seed: 0 there, 1 asked for"),
        (small(stream="branch", perturbation=RESET, interval=2), {}, r"interval=2 must be None in a branch"),
    ]
    for config, changes, message in cases:
        branch = Branch(**{"run": parents.directory, "epoch": 4, **changes})
        with pytest.raises(ValueError, match=message):
            train_ensemble(config, tmp_path / "run", parents=branch)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"children_per_parent=0 must be >= 1"):
        Branch(parents.directory, 4, children_per_parent=0)
    assert hash(Branch("runs/plain", 4, [0, 2])) == hash(Branch("runs/plain", 4, (0, 2)))  # workers keep them by it
    with pytest.raises(ValueError, match=r"must be different ones"):
        Branch(parents.directory, 4, members=[1, 1])


def test_a_run_from_scratch_is_not_a_branch(parents, tmp_path):
    config = small(stream="branch", epochs=1, members=7)
    train_ensemble(config, tmp_path / "run", parents=Branch(parents.directory, 0))
    with pytest.raises(RunDirectoryError, match=r"branch.epoch: 0 there, nothing asked for"):
        train_ensemble(config, tmp_path / "run")


def test_a_branch_carries_on_the_cosine_schedule(tmp_path):
    config = small(schedule="cosine", epochs=6, snapshots=(2, 4))
    train_ensemble(config, tmp_path / "parents")
    child = small(schedule="cosine", epochs=2, stream="child", snapshots=(1,))
    train_ensemble(child, tmp_path / "child", parents=Branch(tmp_path / "parents", 4))
    state = read_state(next((tmp_path / "child").rglob("checkpoint.pt")))
    assert (state.schedule_origin, state.schedule_length) == (-4, 6)
    # A grandchild, from the child's epoch 1, is where the parents were after epoch 5.
    grandchild = small(schedule="cosine", epochs=1, stream="grandchild")
    train_ensemble(grandchild, tmp_path / "grandchild", parents=Branch(tmp_path / "child", 1))
    state = read_state(next((tmp_path / "grandchild").rglob("checkpoint.pt")))
    assert learning_rate_at(grandchild, 1, state.schedule_origin, state.schedule_length) == learning_rate_at(config, 6)
    with pytest.raises(ValueError, match=r"epochs=3 must be <= 2: then the cosine schedule"):
        train_ensemble(
            dataclasses.replace(child, epochs=3), tmp_path / "longer", parents=Branch(tmp_path / "parents", 4)
        )
    restarted = dataclasses.replace(child, epochs=5, perturbation={"name": "warm_restart"})
    train_ensemble(restarted, tmp_path / "restarted", parents=Branch(tmp_path / "parents", 4))
    state = read_state(next((tmp_path / "restarted").rglob("checkpoint.pt")))
    assert (state.schedule_origin, state.schedule_length) == (0, 5)


def test_a_block_that_was_removed_is_trained_anew(tmp_path):
    config = small(members=6, stack_size=2, snapshots=(1,), epochs=2)
    whole = train_ensemble(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "members" / "0002-0003")
    with pytest.raises(disk.RunDirectoryError, match="lacks blocks that it once had"):
        snapshot_members(tmp_path / "run", 1)
    again = train_ensemble(config, tmp_path / "run")
    assert snapshot_members(tmp_path / "run", 1).tolist() == list(range(6))
    for metric in whole.curves:
        np.testing.assert_array_equal(again.curves[metric], whole.curves[metric])
    np.testing.assert_array_equal(load_ensemble(tmp_path / "run").curves["train_loss"], whole.curves["train_loss"])


def test_what_was_not_merged_is_merged_although_a_mark_of_completion_is_there(tmp_path):
    # As a power failure may leave it: a block was planned, and the removal of the mark was lost.
    run = tmp_path / "run"
    train_ensemble(small(members=2, stack_size=2, epochs=2), run)
    (run / "members" / "0002-0003").mkdir()
    train_ensemble(small(members=4, stack_size=2, epochs=2), run)
    assert load_ensemble(run).members.tolist() == [0, 1, 2, 3]


def test_curves_that_are_shorter_than_their_checkpoint_are_not_filled_with_zeros(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_bytes(b"12345")
    with pytest.raises(disk.RunDirectoryError, match="is shorter than its checkpoint says"):
        disk.write_from(path, 6, b"more")
    assert path.read_bytes() == b"12345"
