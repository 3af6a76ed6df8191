"""The training loop, and ensembles: their files, blocks and ways to train."""

import dataclasses
import itertools
import json
import platform

import numpy as np
import pytest
import torch
from torch import nn

from nnval.drop_in.perturbations import make_perturbation
from nnval.engine import models
from nnval.engine.checkpoint import read_state
from nnval.engine.datasets import load_data
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.loop import learning_rate_at
from nnval.engine.models import build_model
from tests.small_trainings import RESET, loop_of, rows, run, small

# ---- The loop ------------------------------------------------------------------------------------------------------


def test_a_run_is_what_plain_pytorch_computes(tmp_path):
    """The whole chain (streams, data, steps, evaluation) written out for one member with torch's own optimiser."""
    from nnval.drop_in.initialisation import initialise
    from sim.batch_order import reshuffled
    from sim.random_streams import CountedStream

    config = small(momentum=0.9, weight_decay=1e-3, schedule="cosine", seed=5, epochs=4)
    result = train_ensemble(config, tmp_path / "run")
    member = 2
    data = load_data(config)
    module = build_model(config, data.shape, data.classes)
    seed = CountedStream(5, "unperturbed/initialisation", member).seed_at(0)
    initialise(module, "torch_default", torch.Generator().manual_seed(seed))
    optimiser = torch.optim.SGD(module.parameters(), 0.2, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=4)
    order = CountedStream(5, "unperturbed/batch_order", member)
    for epoch in range(1, 5):
        losses = []
        for samples in reshuffled(60, 10, order.at(epoch)):
            loss = nn.functional.cross_entropy(module(data.train.pixels[samples]), data.train.labels[samples])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        schedule.step()
        accuracy = (module(data.validation.pixels).argmax(1) == data.validation.labels).double().mean().item()
        assert result.curves["train_loss"][member, epoch - 1] == pytest.approx(np.mean(losses), rel=1e-5)
        assert result.curves["validation_accuracy"][member, epoch - 1] == pytest.approx(accuracy, abs=1e-12)
    accuracy = (module(data.test.pixels).argmax(1) == data.test.labels).double().mean().item()
    assert result.test_accuracy[member] == pytest.approx(accuracy, abs=1e-12)


def test_cosine_restarts():
    config = small(schedule="cosine", epochs=4, learning_rate=1)
    rates = [learning_rate_at(config, epoch) for epoch in (1, 2, 3, 4)]
    assert [learning_rate_at(config, epoch, origin=2) for epoch in (3, 4)] == rates[:2]
    assert learning_rate_at(config, 1, origin=-2, length=4) == rates[2]
    assert learning_rate_at(config, 9, length=4) == 0
    assert learning_rate_at(small(), 100) == 0.2


def test_streams_are_independent_and_reproducible():
    def first_batches_and_weights(**changes):
        loop = loop_of(small(**changes))
        return loop.batches(np.array([0, 1]), 1), loop.initial_state([0, 1]).stack.parameters["1.weight"]

    here = first_batches_and_weights()
    for there, same in zip(here, first_batches_and_weights(), strict=True):
        assert torch.equal(there, same)
    for changes in ({"stream": "other"}, {"seed": 1}):
        for there, different in zip(here, first_batches_and_weights(**changes), strict=True):
            assert not torch.equal(there, different)
    assert not torch.equal(here[0][0], here[0][1])
    assert not torch.equal(loop_of(small()).batches(np.array([0]), 2)[0], here[0][0])


def test_no_global_random_state_is_used(tmp_path):
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    train_ensemble(small(perturbation=RESET, interval=2), tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before[1])  # noqa: NPY002


def test_members_stop_at_their_first_epoch_at_the_target(tmp_path):
    free = train_ensemble(small(members=12, epochs=15), tmp_path / "free")
    accuracy = free.curves["validation_accuracy"]
    target = float(np.median(accuracy.max(axis=1)))
    result = train_ensemble(small(members=12, epochs=15, target=target), tmp_path / "run")
    times, observed = free.completion(target)
    assert 0 < observed.sum() < 12
    assert len(set(times[observed])) > 2
    assert np.array_equal(result.status == "reached", observed)
    assert np.array_equal(result.epochs, times)
    for row, time in enumerate(times):
        # To the bit, although the stack of the one shrinks and that of the other does not.
        assert np.array_equal(result.curves["validation_accuracy"][row, :time], accuracy[row, :time])
        assert np.isnan(result.curves["validation_accuracy"][row, time:]).all()
    stopped = result.completion(target)
    assert np.array_equal(stopped[0], times)
    assert np.array_equal(stopped[1], observed)
    assert np.isfinite(result.test_accuracy).all()


class Spy:
    """Records on how many members a perturbation acts, and leaves them alone."""

    optimizer_state, learning_rate = "keep", "keep"

    def __init__(self):
        self.calls = 0

    def perturb(self, parameters, buffers, *, fresh, generator):
        self.calls += 1


def test_members_that_complete_at_epoch_P_are_not_perturbed():
    config = small(members=12, epochs=15)
    members = list(range(12))
    accuracy = np.stack([record.validation_accuracy for record in run(loop_of(config), members)[0]], axis=1)
    target = float(np.median(accuracy.max(axis=1)))
    there = accuracy >= target
    times = np.where(there.any(1), there.argmax(1) + 1, 99)
    interval = int(np.sort(times)[2])
    spy = Spy()
    calls = []
    loop = loop_of(small(members=12, epochs=15, target=target, perturbation=RESET, interval=interval), spy)
    for record in loop.epochs(loop.initial_state(members), lambda state: None):
        calls.append((record.epoch, spy.calls))
        spy.calls = 0
    # Nothing acts at the horizon, where all members end.
    expected = [int((times > e).sum()) if e % interval == 0 and e < 15 else 0 for e, _ in calls]
    assert [count for _, count in calls] == expected
    assert calls[interval - 1][1] < (times >= interval).sum()  # the wrong rule is told apart


def test_perturbation_acts_after_the_evaluation_of_each_Pth_epoch():
    """A full reset: the epochs after it are those of a run that begins with the fresh weights."""
    reset = make_perturbation("full_reset")
    plain, _ = run(loop_of(small()), [0, 1])
    perturbed, _ = run(loop_of(small(perturbation=RESET, interval=2), reset), [0, 1])
    for epoch, (one, other) in enumerate(zip(plain, perturbed, strict=True), start=1):
        assert np.array_equal(one.train_loss, other.train_loss) == (epoch <= 2)
    assert perturbed[2].train_loss.min() > perturbed[1].train_loss.max()
    assert perturbed[4].train_loss.min() > perturbed[3].train_loss.max()


def test_perturbation_is_the_members_own(tmp_path):
    """What it draws depends on member and epoch, not on companions."""
    noise = {"name": "gaussian_noise", "std": 0.1}
    perturbation = make_perturbation(**noise)
    config = small(perturbation=noise, interval=1)
    states = {}
    for members in ([0, 1, 2], [1, 2]):
        loop = loop_of(config, perturbation)
        state = loop.initial_state(members)
        before = state.stack.select(np.arange(len(members)))
        loop.perturb(state)
        added = {name: state.stack.parameters[name] - before.parameters[name] for name in before.parameters}
        states[len(members)] = added["1.weight"]
    assert torch.equal(states[3][1:], states[2])
    assert float(states[3].std()) == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(states[3][0], states[3][1])


@pytest.mark.parametrize(("policy", "length"), [("keep", 6), ("restart", 6)])
def test_policies_for_velocity_and_schedule(policy, length):
    options = {
        "name": "warm_restart", "optimizer_state": "clear" if policy == "restart" else "keep", "learning_rate": policy
    }  # fmt: skip
    config = small(momentum=0.9, schedule="cosine", perturbation=options, interval=2)
    loop = loop_of(config, make_perturbation(**options))
    state = loop.initial_state([0, 1])
    epochs = loop.epochs(state, lambda state: None)
    next(epochs), next(epochs)
    assert all(velocity.eq(0).all() for velocity in state.stack.slots["velocity"].values()) == (policy == "restart")
    assert (state.schedule_origin, state.schedule_length) == (2 if policy == "restart" else 0, length)


def test_a_diverging_member_is_dropped_and_the_others_do_not_notice():
    config = small()
    reference, _ = run(loop_of(config), [0, 1, 2])
    loop = loop_of(config)
    state = loop.initial_state([0, 1, 2])
    records = []
    for record in loop.epochs(state, lambda state: None):
        records.append(record)
        if record.epoch == 2:
            state.stack.member(1).parameters["1.bias"][3] = torch.inf
    assert [record.members.tolist() for record in records] == [[0, 1, 2]] * 2 + [[0, 2]] * 4
    for here, there in zip(records, reference, strict=True):
        rows = [there.members.tolist().index(member) for member in here.members]
        assert np.array_equal(here.train_loss, there.train_loss[rows])
    ends = {outcome.member: outcome for outcome in state.finished}
    assert (ends[1].status, ends[1].epoch) == ("diverged", 2)
    assert np.isnan(ends[1].test_accuracy)
    assert ends[0].status == ends[2].status == "horizon"


def test_all_members_diverge(tmp_path):
    result = train_ensemble(small(learning_rate=1e30, snapshots=(3,)), tmp_path / "run")
    assert set(result.status) == {"diverged"}
    assert result.epochs.max() < 3
    assert np.isnan(result.test_accuracy).all()
    for path in (tmp_path / "run").rglob("*.csv"):
        assert "nan" not in path.read_text()
        assert "inf" not in path.read_text()
    assert json.loads((tmp_path / "run" / "done.json").read_text()) == {"members": 4, "diverged": 4}
    times, observed = result.completion(0.9)
    assert not observed.any()
    assert np.array_equal(times, result.epochs)


# ---- Ensembles -----------------------------------------------------------------------------------------------------


def test_result_and_files(tmp_path):
    config = small(first_member=3)
    progress = []
    result = train_ensemble(config, tmp_path / "run", progress=lambda *call: progress.append(call))
    data = load_data(config)
    assert result.config == dataclasses.replace(config, data_sha256=data.sha256)
    assert result.members.tolist() == [3, 4, 5, 6]
    assert result.parents is None
    assert result.status.tolist() == ["horizon"] * 4
    assert result.epochs.tolist() == [6] * 4
    assert all(curve.shape == (4, 6) for curve in result.curves.values())
    curves = rows(tmp_path / "run" / "curves.csv")
    assert [(int(row["run"]), int(row["epoch"])) for row in curves] == list(itertools.product(range(3, 7), range(1, 7)))
    values = [float(row["validation_accuracy"]) for row in curves]
    assert np.array_equal(np.reshape(values, (4, 6)), result.curves["validation_accuracy"])
    table = rows(tmp_path / "run" / "members.csv")
    assert list(table[0]) == ["run", "status", "epoch", "test_accuracy"]
    assert [float(row["test_accuracy"]) for row in table] == result.test_accuracy.tolist()
    assert [call[0] for call in progress] == [4, 8, 12, 16, 20, 24]
    assert {call[1] for call in progress} == {24}
    assert progress[0][2] == "block 1 of 1: epoch 1 of 6, 4 members training"
    again = load_ensemble(tmp_path / "run")
    assert np.array_equal(again.curves["train_loss"], result.curves["train_loss"])


def test_environment_names_no_host_and_no_path(tmp_path):
    train_ensemble(small(epochs=1), tmp_path / "run")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    for path in (tmp_path / "run").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert platform.node() not in path.read_text()


def test_the_size_of_blocks_does_not_change_a_byte(tmp_path):
    files = []
    for size in (1, 3, None):
        config = small(members=7, stack_size=size, target=0.6, epochs=10, perturbation=RESET, interval=4)
        train_ensemble(config, tmp_path / str(size))
        files.append(
            [(tmp_path / str(size) / name).read_bytes() for name in ("curves.csv", "members.csv", "done.json")]
        )
    assert files[0] == files[1] == files[2]
    blocks = {
        size: sorted(path.name for path in (tmp_path / size / "members").iterdir()) for size in ("1", "3", "None")
    }
    assert blocks["1"] == [f"000{member}" for member in range(7)]
    assert blocks["3"] == ["0000-0002", "0003-0005", "0006"]
    assert blocks["None"] == ["0000-0006"]


def test_progress_over_blocks_reaches_the_total(tmp_path):
    calls = []
    config = small(members=5, stack_size=2, target=0.5)
    train_ensemble(config, tmp_path / "run", progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[-1] == 30
    assert calls[-1][2].startswith("block 3 of 3")


def test_auto_takes_the_faster_way_and_keeps_it(tmp_path, monkeypatch):
    config = small(execution="auto", members=3)

    def timed(way, *_):
        return {"LoopExecution": 1e-6, "ChainExecution": 2e-6}[type(way).__name__]

    monkeypatch.setattr("nnval.engine.planning.seconds_per_member_step", timed)
    train_ensemble(config, tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "execution.json").read_text())
    assert recorded == {
        "execution": "loop", "stack_size": 256, "microseconds_per_member_step": {"loop": 1.0, "stacked": 2.0}
    }  # fmt: skip
    curves = (tmp_path / "run" / "curves.csv").read_bytes()
    train_ensemble(small(execution="loop", members=3), tmp_path / "loop")
    assert (tmp_path / "loop" / "curves.csv").read_bytes() == curves
    # Resumed on a machine where the other would be faster.
    monkeypatch.setattr("nnval.engine.planning.seconds_per_member_step", lambda *_: pytest.fail("measured again"))
    for path in (tmp_path / "run").rglob("done.json"):
        path.unlink()
    (tmp_path / "run" / "members" / "0000-0002" / "checkpoint.pt").unlink()
    train_ensemble(config, tmp_path / "run")
    assert (tmp_path / "run" / "curves.csv").read_bytes() == curves


def test_auto_measures(tmp_path):
    train_ensemble(small(execution="auto", epochs=1), tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "execution.json").read_text())
    measured = recorded["microseconds_per_member_step"]
    assert set(measured) == {"loop", "stacked"}
    assert recorded["execution"] == min(measured, key=measured.get)


def with_batch_normalisation(config, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


def test_models_with_buffers_are_trained_in_a_loop(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, "normalised", with_batch_normalisation)
    config = small(model="normalised", execution="auto", perturbation=RESET, interval=3, epochs=3, snapshots=(2,))
    train_ensemble(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "execution.json").read_text())["execution"] == "loop"
    state = read_state(tmp_path / "run" / "members" / "0000-0003" / "snapshot_0002.pt")
    assert state.stack.buffers["2.num_batches_tracked"].tolist() == [12] * 4


@pytest.mark.parametrize(("limit", "size"), [(64 * 2**20, 256), (3 * 2440, 3), (3 * 2440 - 1, 2), (1, 1)])
def test_large_models_get_small_stacks(tmp_path, monkeypatch, limit, size):
    monkeypatch.setattr("nnval.engine.planning._MOST_BYTES_IN_STACK", limit)
    train_ensemble(small(epochs=1, members=5), tmp_path / "run")  # 610 weights of 4 bytes
    assert json.loads((tmp_path / "run" / "execution.json").read_text())["stack_size"] == size


def test_options_are_recorded_in_full(tmp_path):
    result = train_ensemble(small(perturbation={"name": "shrink_perturb"}, interval=2), tmp_path / "run")
    assert result.config.perturbation["shrink"] == 0.4
    spelled_out = small(perturbation={"name": "shrink_perturb", "shrink": 0.4, "noise": 0.1}, interval=2)
    assert train_ensemble(spelled_out, tmp_path / "run").config == result.config


def test_refused_before_anything_is_written(tmp_path):
    bad = [
        (small(perturbation={"name": "magic"}, interval=2), r"perturbation='magic' must be one of"),
        (small(perturbation=RESET), r"interval=None needs a branch"),
        (small(initialisation="zeros"), r"scheme='zeros' must be one of"),
        (small(data="cifar11"), r"data='cifar11'"),
        (small(model="resnet19"), r"model='resnet19'"),
        (small(device="abacus"), r"device='abacus'"),
    ]
    for config, message in bad:
        with pytest.raises(ValueError, match=message):
            train_ensemble(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"checkpoint_seconds=-1 must be >= 0"):
        train_ensemble(small(), tmp_path / "run", checkpoint_seconds=-1)
    assert not (tmp_path / "run").exists()


def test_completion_refuses_what_was_not_measured(tmp_path):
    result = train_ensemble(small(target=0.5), tmp_path / "run")
    with pytest.raises(ValueError, match=r"target=0.6 must be <= 0.5, where members stopped"):
        result.completion(0.6)
    with pytest.raises(ValueError, match=r"target=0 must lie in \(0, 1\]"):
        result.completion(0)
