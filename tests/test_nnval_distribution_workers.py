"""Ensembles trained by workers that are threads here: their errors, branches, locks and random numbers."""

import dataclasses

import pytest

from nnval.engine import run_directory, workers
from nnval.engine.blocks import Block
from nnval.engine.branch import Branch
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.engine.status import run_status
from tests.distributed_runs import CONFIG, Threads, merged, train, train_by


def test_errors_of_workers_are_those_of_one_process(tmp_path, monkeypatch):
    run = tmp_path / "run"

    def stop(done, total, text):
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        train(run, progress=stop)
    checkpoint = run / "members" / "0000" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    train_by(monkeypatch, Threads())
    with pytest.raises(ValueError, match=r"cannot read .*0000/checkpoint.pt: .* remove .*0000 to train these members"):
        train(run, workers=2)
    assert run_status(run).state == "stopped"
    with pytest.raises(ValueError, match="workers=-1 must be >= 1, or 0"):
        train(run, workers=-1)
    with pytest.raises(ValueError, match="exclude each other"):
        train(run, workers=2, scheduler="tcp://localhost:1")
    with pytest.raises(ValueError, match="lock=False needs workers=1"):
        train(run, workers=2, lock=False)


def test_a_branch_is_shared_by_workers(tmp_path, monkeypatch):
    parents = train(tmp_path / "parents", dataclasses.replace(CONFIG, snapshots=(4,), stack_size=3))
    branch = Branch(parents.directory, 4, children_per_parent=2)
    child = dataclasses.replace(CONFIG, stream="child", epochs=3, target=None)
    one = train(tmp_path / "one", child, parents=branch)
    train_by(monkeypatch, Threads())
    two = train(tmp_path / "two", child, parents=branch)
    assert merged(tmp_path / "one") == merged(tmp_path / "two")
    assert one.parents.tolist() == two.parents.tolist()
    assert run_status(tmp_path / "two").planned == len(one.members)


def test_workers_that_do_not_see_the_directory_or_its_locks(tmp_path, monkeypatch):
    train_by(monkeypatch, Threads())
    is_held = run_directory.is_held
    with monkeypatch.context() as patch:
        patch.setattr(
            run_directory, "is_held", lambda path, name=".lock": "session" not in name and is_held(path, name)
        )
        with pytest.raises(RunDirectoryError, match=r"does not see the locks of .*must lock files across machines"):
            train(tmp_path / "run")
    plan, task = tmp_path / "absent", workers._Task(CONFIG, None, tmp_path / "absent", "", 0, 1)
    with pytest.raises(RunDirectoryError, match=r"absent is not there on the worker .* under the same path"):
        workers._train_task(task, Block(plan / "members" / "0000", (0,)))


def test_threads_of_a_worker_do_not_share_random_numbers(tmp_path, monkeypatch):
    # Dropout draws from torch's generator, which belongs to the process.
    (tmp_path / "dropping.py").write_text(
        "import math\nfrom torch import nn\n\ndef network(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(math.prod(shape), classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(CONFIG, model="dropping:network", execution="loop", stack_size=1)
    train(tmp_path / "serial", config)
    threads = train_by(monkeypatch, Threads())
    train(tmp_path / "threads", config, workers=2)
    assert merged(tmp_path / "threads") == merged(tmp_path / "serial")
    assert threads.renewed == 0
