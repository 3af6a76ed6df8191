"""Ensembles trained by several processes: at once, one after the other, killed, stopped.

Every result is held against that of one process, byte for byte.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from nnval.engine import run_directory
from nnval.engine.blocks import planned_blocks, progress_of
from nnval.engine.checkpoint import read_state
from nnval.engine.ensemble import load_ensemble
from nnval.engine.run_directory import Interrupted, RunDirectoryError, StorageError
from nnval.engine.status import run_status
from tests.distributed_runs import CONFIG, Threads, merged, part, train, train_by
from tests.training_processes import children_of_process, ended, go, holders, read_until, started, wait_for


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run of one process: members that complete and members that don't."""
    result = train(tmp_path_factory.mktemp("reference") / "run")
    assert set(result.status) == {"reached", "horizon"}
    return merged(result.directory)


# ---- In parts ------------------------------------------------------------------------------------------------------


def test_parts_and_extensions_are_the_whole(reference, tmp_path):
    run = tmp_path / "run"
    first = train(run, part(3, 3))
    assert first.members.tolist() == [3, 4, 5]
    assert (first.config.first_member, first.config.members) == (3, 3)
    assert load_ensemble(run).members.tolist() == [3, 4, 5]
    assert "members" not in json.loads((run / "config.json").read_text())["config"]
    kept = {path: path.stat().st_mtime_ns for path in (run / "members").rglob("*.*")}
    second = train(run, part(0, 3))
    assert second.members.tolist() == [0, 1, 2]
    assert merged(run) == reference
    whole = load_ensemble(run)
    assert whole.members.tolist() == list(range(6))
    for piece, rows in ((second, slice(0, 3)), (first, slice(3, 6))):
        assert np.array_equal(whole.curves["train_loss"][rows], piece.curves["train_loss"], equal_nan=True)
        assert np.array_equal(whole.test_accuracy[rows], piece.test_accuracy, equal_nan=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert train(run, part(2, 3)).members.tolist() == [2, 3, 4]  # read
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_another_part_that_is_not_finished_does_not_hide_this_one(tmp_path):
    def stop(done, total, text):
        raise Interrupted("enough")

    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(run, part(0, 2), progress=stop)
    assert train(run, part(2, 1)).members.tolist() == [2]
    assert not (run / "done.json").exists()
    with pytest.raises(RunDirectoryError, match="is not finished"):
        load_ensemble(run)


# ---- Two at once ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_the_work(reference, tmp_path):
    run, here = tmp_path / "run", []
    other = started(run)

    def look(*call):
        here.append(call)
        os.kill(other.pid, signal.SIGCONT)

    go(other)
    lines = read_until(other, "epoch 1 ")
    os.kill(other.pid, signal.SIGSTOP)  # or it might be done before this one has begun
    train(run, progress=look)
    there = "".join(lines) + ended(other)
    assert merged(run) == reference
    assert here[-1][:2] == (240, 240)
    assert there.splitlines()[-1].startswith("240 240 ")  # both saw the end
    beginnings = [re.findall(r"block (\d) of 6: epoch 1 ", output) for output in (there, str(here))]
    assert sorted(beginnings[0] + beginnings[1]) == list("123456")  # nobody twice
    assert beginnings[1]


def test_blocks_of_a_killed_process_are_taken_over_by_who_waits(reference, tmp_path):
    run, texts = tmp_path / "run", []
    config = dataclasses.replace(CONFIG, stack_size=6)  # a single block: the second process can only wait
    other = started(run, config)

    def look(done, total, text):
        texts.append(text)
        if "others train the rest" in text:
            other.kill()

    go(other)
    read_until(other, r"epoch 2 ")
    os.kill(other.pid, signal.SIGSTOP)
    train(run, config, progress=look)
    assert "others train the rest" in texts[0]
    assert not any("epoch 1 " in text for text in texts)  # it went on from the checkpoint
    assert merged(run) == reference
    other.communicate()


# ---- Workers -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_is_replaced(reference, tmp_path):
    run = tmp_path / "run"
    process = started(run, workers=2)
    go(process)
    victim = wait_for(lambda: [pid for pid in holders(run) if pid != process.pid])[0]
    assert victim in children_of_process(process.pid)
    os.kill(victim, signal.SIGKILL)
    output = ended(process)
    assert "240 240 6 of 6 blocks done" in output
    assert merged(run) == reference
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == [".lock"]


SLOW = dataclasses.replace(CONFIG, epochs=4000, target=None)


def begun(run):
    """A process with two workers, both of which have saved something."""
    process = started(run, SLOW, workers=2)
    before = {block.path: progress_of(block, SLOW.epochs).work for block in planned_blocks(run, None)}
    go(process)
    wait_for(lambda: len(holders(run)) == 2)
    blocks = planned_blocks(run, None)
    wait_for(lambda: sum(progress_of(b, SLOW.epochs).work > before.get(b.path, 0) for b in blocks) >= 2)
    return process


@pytest.mark.slow
def test_ctrl_c_to_the_group_saves(tmp_path):
    run = tmp_path / "run"
    process = begun(run)
    workers = holders(run)
    assert set(workers) <= set(children_of_process(process.pid))
    status = run_status(run)
    assert (status.state, status.planned, status.training, status.waiting) == ("running", 6, 2, 4)
    assert status.work > 0
    os.killpg(process.pid, signal.SIGINT)
    output = ended(process, 4)
    assert "stopped, and everything is saved; run the same command again" in output
    assert "Traceback" not in output
    status = run_status(run)
    assert (status.state, status.training, status.waiting) == ("stopped", 0, 6)
    assert not any(Path(f"/proc/{pid}/fd").exists() for pid in workers)
    for block in planned_blocks(run, None)[:2]:  # nothing was lost
        state = read_state(block.path / "checkpoint.pt")
        assert state.epoch == progress_of(block, SLOW.epochs).epoch > 0


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path):
    run = tmp_path / "run"
    process = begun(run)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: run_status(run).state == "stopped")
    process.communicate()
    before = run_status(run).work
    process = begun(run)  # and goes on from there
    assert int(process.stdout.readline().split()[0]) >= before
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_blocks_of_lost_workers_are_trained_again(reference, tmp_path, monkeypatch):
    threads = train_by(monkeypatch, Threads([True, False, False, True]))
    train(tmp_path / "run")
    assert threads.renewed == 2
    assert merged(tmp_path / "run") == reference


def test_workers_that_are_lost_again_and_again(reference, tmp_path, monkeypatch):
    train_by(monkeypatch, Threads([True] * 100))
    with pytest.raises(
        Interrupted, match=r"killed 3 times while .* \(out of memory\?\): exit .*\n.*with fewer workers"
    ):
        train(tmp_path / "run")
    train_by(monkeypatch, Threads())
    train(tmp_path / "run")
    assert merged(tmp_path / "run") == reference


def test_a_block_that_another_process_trains_is_waited_for(reference, tmp_path, monkeypatch):
    """And what the other leaves is taken."""
    run = tmp_path / "run"
    train_by(monkeypatch, Threads())
    with contextlib.ExitStack() as held:

        def look(done, total, text):
            if done >= 160:  # all but two are done
                held.close()

        train(run, part(0, 1))
        train_by(monkeypatch, Threads())
        for member in (1, 2):
            (run / "members" / f"000{member}").mkdir()
            held.enter_context(run_directory.trying(run / "members" / f"000{member}"))
        train(run, progress=look)
    assert merged(run) == reference


# ---- Storage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks(reference, tmp_path, monkeypatch, code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(run_directory.fcntl, "flock", refuse)
    with pytest.raises(RunDirectoryError, match=r"cannot lock files .* --no-lock \(lock=False\) and see to it"):
        train(tmp_path / "run")
    train(tmp_path / "run", lock=False)
    assert merged(tmp_path / "run") == reference
    assert run_status(tmp_path / "run").state == "finished"


def test_a_full_disk_while_the_whole_is_merged(reference, tmp_path, monkeypatch):
    write_whole = run_directory.write_whole

    def full(path, content):
        if path == tmp_path / "run" / "members.csv":
            raise StorageError(errno.ENOSPC, f"could not write {path}")
        write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "write_whole", full)
        with pytest.raises(StorageError):
            train(tmp_path / "run")
    assert run_status(tmp_path / "run").state == "stopped"
    calls = []
    train(tmp_path / "run", progress=lambda *call: calls.append(call))
    assert calls == [(240, 240, "6 of 6 blocks done")]
    assert merged(tmp_path / "run") == reference
