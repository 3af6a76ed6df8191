"""Ensembles trained by several processes: at once, one after the other, killed, stopped, on a cluster; their status.

Every result is held against that of one process, byte for byte. Subprocesses install their own handler of Ctrl-C where
that matters: parallel test processes ignore the signal, and what is ignored is inherited.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nnval.engine import ensemble, executors, run_directory, workers
from nnval.engine.blocks import Block, children_of, plan_blocks, planned_blocks, progress_of
from nnval.engine.branch import Branch
from nnval.engine.checkpoint import read_state
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.run_directory import Interrupted, RunDirectoryError, StorageError
from nnval.engine.status import run_status

ROOT = Path(__file__).resolve().parents[1]
CONFIG = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0, hidden=(8,), batch_size=10, epochs=40, members=6, stack_size=1,
    learning_rate=0.1, momentum=0.5, target=0.75, execution="stacked",
)  # fmt: skip
MERGED = ("curves.csv", "members.csv", "done.json")


def part(first, members, **changes):
    return dataclasses.replace(CONFIG, first_member=first, members=members, **changes)


def train(directory, config=CONFIG, **options):
    return train_ensemble(config, directory, **{"checkpoint_seconds": 0, **options})


def merged(directory):
    return {name: (directory / name).read_bytes() for name in MERGED}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run of one process: members that complete and members that don't."""
    result = train(tmp_path_factory.mktemp("reference") / "run")
    assert set(result.status) == {"reached", "horizon"}
    return merged(result.directory)


TRAIN = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from nnval.engine import block_training
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble
from nnval.engine.run_directory import Interrupted

def say(done, total, text):
    print(done, total, text, flush=True)

print("ready", flush=True)
sys.stdin.readline()
try:
    train_ensemble(TrainingConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], progress=say, checkpoint_seconds=0,
                   **json.loads(sys.argv[3]))
except Interrupted as error:
    print("interrupted:", error, flush=True)
    sys.exit(4)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def started(directory, config=CONFIG, **options):
    """A process of its own group that will train when a line comes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", "-c", TRAIN, json.dumps(config.to_dict()), str(directory),
         json.dumps(options)],
        cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def go(process):
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write("\n")
    process.stdin.flush()


def read_until(process, pattern):
    """Output up to the first line that matches."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    pytest.fail(f"{pattern} did not come: {lines} {process.communicate()[1]}")


def ended(process, code=0):
    output, error = process.communicate(timeout=180)
    assert process.returncode == code, output + error
    return output


def children_of_process(pid):
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if read_or_nothing(path).rpartition(")")[2].split()[1:2] == [str(pid)]
    ]


def read_or_nothing(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def holders(directory):
    """Processes that have a lock file of a block open: they train it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link).startswith(f"{directory}/members/") and os.readlink(link).endswith("/.lock"):
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


# ---- Planning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "most", "workers", "names"),
    [
        (range(7), 3, 1, ["0000-0002", "0003-0005", "0006"]),
        (range(7), 256, 1, ["0000-0006"]),
        (range(7), 256, 2, ["0000-0003", "0004-0006"]),
        (range(10), 4, 2, ["0000-0002", "0003-0005", "0006-0008", "0009"]),
        (range(3), 256, 8, ["0000", "0001", "0002"]),
        (range(9_998, 10_002), 2, 1, ["9998-9999", "10000-10001"]),
    ],
)
def test_blocks_are_planned_for_workers(tmp_path, members, most, workers, names):
    blocks = plan_blocks(tmp_path, members, None, most=most, workers=workers)
    assert [block.path.name for block in blocks] == names
    assert [member for block in blocks for member in block.members] == list(members)


def test_blocks_that_are_there_stay_and_are_not_reached_across(tmp_path):
    (tmp_path / "done.json").write_text("{}")
    plan_blocks(tmp_path, range(4, 6), None, most=4, workers=1)
    assert not (tmp_path / "done.json").exists()  # more is planned than was merged
    (tmp_path / "done.json").write_text("{}")
    assert len(plan_blocks(tmp_path, range(5, 6), None, most=4, workers=1)) == 1
    assert not (tmp_path / "done.json").exists()  # a block is not done: a power failure may have brought the mark back
    for path in (tmp_path, tmp_path / "members" / "0004-0005"):
        (path / "done.json").write_text("{}")
    assert len(plan_blocks(tmp_path, range(5, 6), None, most=4, workers=1)) == 1
    assert (tmp_path / "done.json").exists()
    blocks = plan_blocks(tmp_path, range(11), None, most=4, workers=1)
    assert [block.path.name for block in blocks] == ["0000-0003", "0004-0005", "0006-0009", "0010"]
    (tmp_path / "members" / ".DS_Store").touch()
    (tmp_path / "members" / "0 copy").touch()
    assert planned_blocks(tmp_path, None) == blocks
    assert [block.path.name for block in plan_blocks(tmp_path, range(3, 5), None, most=1, workers=1)] == [
        "0000-0003",
        "0004-0005",
    ]


def test_blocks_of_a_branch_hold_the_children_only(tmp_path):
    children = children_of({"members": [2, 7, 8], "children_per_parent": 2})
    assert children == [4, 5, 14, 15, 16, 17]
    blocks = plan_blocks(tmp_path, children, children, most=3, workers=1)
    assert [(block.path.name, block.members) for block in blocks] == [
        ("0004-0014", (4, 5, 14)),
        ("0015-0017", (15, 16, 17)),
    ]


def test_progress_is_read_from_the_end_of_the_curves(tmp_path):
    block = Block(tmp_path, (0, 1, 2))
    assert progress_of(block, 10).work == 0
    lines = ["run,epoch,train_loss,validation_accuracy"]
    assert progress_of(block, 10).work == 0
    lines += [f"{member},{epoch},0.123456789,0.5" for epoch in range(1, 8) for member in (0, 1, 2)[epoch > 4 :]]
    (tmp_path / "curves.csv").write_text("\n".join(lines) + "\n1,8,0.1")  # just being written
    progress = progress_of(block, 10)
    assert (progress.epoch, progress.training, progress.work) == (7, 2, 10 + 2 * 7)
    (tmp_path / "done.json").touch()
    assert progress_of(block, 10).work == 30


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
"""Goes on until it is stopped."""


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


class Threads:
    """Workers that are threads of this process, some of which are lost."""

    size = slots = 2

    def __init__(self, losses=()):
        self._executor = ThreadPoolExecutor(2)
        self._losses = list(losses)
        self.renewed = 0

    def submit(self, function, *arguments):
        if self._losses and self._losses.pop(0):
            lost = Future()
            lost.set_exception(BrokenExecutor("exit code -9"))
            return lost
        return self._executor.submit(function, *arguments)

    def renew(self, error):
        self.renewed += 1

    def close(self):
        self._executor.shutdown()


@pytest.fixture
def pool(monkeypatch):
    """Makes ``train_ensemble`` use these workers."""

    def use(pool):
        monkeypatch.setattr(ensemble, "connect", lambda *_: contextlib.closing(pool))
        return pool

    return use


def test_errors_of_workers_are_those_of_one_process(tmp_path, pool):
    run = tmp_path / "run"

    def stop(done, total, text):
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        train(run, progress=stop)
    checkpoint = run / "members" / "0000" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    pool(Threads())
    with pytest.raises(ValueError, match=r"cannot read .*0000/checkpoint.pt: .* remove .*0000 to train these members"):
        train(run, workers=2)
    assert run_status(run).state == "stopped"
    with pytest.raises(ValueError, match="workers=-1 must be >= 1, or 0"):
        train(run, workers=-1)
    with pytest.raises(ValueError, match="exclude each other"):
        train(run, workers=2, scheduler="tcp://localhost:1")
    with pytest.raises(ValueError, match="lock=False needs workers=1"):
        train(run, workers=2, lock=False)


def test_a_branch_is_shared_by_workers(tmp_path, pool):
    parents = train(tmp_path / "parents", dataclasses.replace(CONFIG, snapshots=(4,), stack_size=3))
    branch = Branch(parents.directory, 4, children_per_parent=2)
    child = dataclasses.replace(CONFIG, stream="child", epochs=3, target=None)
    one = train(tmp_path / "one", child, parents=branch)
    pool(Threads())
    two = train(tmp_path / "two", child, parents=branch)
    assert merged(tmp_path / "one") == merged(tmp_path / "two")
    assert one.parents.tolist() == two.parents.tolist()
    assert run_status(tmp_path / "two").planned == len(one.members)


def test_blocks_of_lost_workers_are_trained_again(reference, tmp_path, pool):
    threads = pool(Threads([True, False, False, True]))
    train(tmp_path / "run")
    assert threads.renewed == 2
    assert merged(tmp_path / "run") == reference


def test_workers_that_are_lost_again_and_again(reference, tmp_path, pool):
    pool(Threads([True] * 100))
    with pytest.raises(
        Interrupted, match=r"killed 3 times while .* \(out of memory\?\): exit .*\n.*with fewer workers"
    ):
        train(tmp_path / "run")
    pool(Threads())
    train(tmp_path / "run")
    assert merged(tmp_path / "run") == reference


def test_workers_that_do_not_see_the_directory_or_its_locks(tmp_path, pool, monkeypatch):
    pool(Threads())
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


def test_a_block_that_another_process_trains_is_waited_for(reference, tmp_path, pool):
    """And what the other leaves is taken."""
    run = tmp_path / "run"
    pool(Threads())
    with contextlib.ExitStack() as held:

        def look(done, total, text):
            if done >= 160:  # all but two are done
                held.close()

        train(run, part(0, 1))
        pool(Threads())
        for member in (1, 2):
            (run / "members" / f"000{member}").mkdir()
            held.enter_context(run_directory.trying(run / "members" / f"000{member}"))
        train(run, progress=look)
    assert merged(run) == reference


# ---- A cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each a process of its own."""
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'jostle[cluster]'")
    processes = []

    def begin(*words):
        command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
        with (tmp_path / f"dask{len(processes)}.log").open("w") as log:
            options = {"cwd": tmp_path, "env": ENVIRONMENT, "stdout": log, "stderr": log, "start_new_session": True}
            processes.append(subprocess.Popen(command, **options))
        return processes[-1]

    place = tmp_path / "scheduler.json"
    begin("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(place))
    address = json.loads(wait_for(lambda: read_or_nothing(place)))["address"]
    words = ("dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory")
    workers = [begin(*words, str(tmp_path / f"worker{number}")) for number in range(2)]
    yield address, workers
    for process in reversed(processes):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(reference, cluster, tmp_path):
    address, workers = cluster
    run = tmp_path / "run"
    process = started(run, scheduler=address)
    go(process)
    victim = wait_for(lambda: [pid for pid in holders(run) if pid in {worker.pid for worker in workers}])[0]
    os.kill(victim, signal.SIGKILL)
    assert "240 240 6 of 6 blocks done" in ended(process)
    assert merged(run) == reference


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'jostle[cluster]'")
    with pytest.raises(ValueError, match=r"scheduler='here' must be an address such as tcp://host:8786"):
        train(tmp_path / "run", scheduler="here")
    assert executors._CONNECT_SECONDS == 10
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 1)
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*dask scheduler"):
        train(tmp_path / "run", scheduler="tcp://127.0.0.1:9")
    assert time.monotonic() - begin < 10
    assert not (tmp_path / "run").exists()


def test_dask_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'jostle\[cluster\]'"):
        train(tmp_path / "run", scheduler="tcp://127.0.0.1:9")


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


# ---- Status --------------------------------------------------------------------------------------------------------


def test_status_of_a_stopped_and_of_a_finished_run(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunDirectoryError, match="holds no run"):
        run_status(run)

    def stop(done, total, text):
        if "block 3 of 6: epoch 2 " in text:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        train(run, progress=stop)
    status = run_status(run)
    assert (status.state, status.planned, status.done, status.training, status.waiting) == ("stopped", 6, 2, 0, 4)
    assert status.work == 2 * 40 + 2
    assert status.total_work == 240
    assert sum(status.ended.values()) == 2
    assert (status.rate, status.seconds_left) == (None, None)
    assert 0 <= status.last_written < 60
    result = train(run)
    status = run_status(run)
    assert (status.state, status.done, status.work) == ("finished", 6, 240)
    assert status.ended == {name: int((result.status == name).sum()) for name in ("reached", "horizon", "diverged")}
    json.dumps(status.to_dict())


def test_status_sees_ends_in_a_block_that_goes_on(tmp_path):
    run = tmp_path / "run"

    def stop(done, total, text):
        if "epoch 30 " in text:
            raise Interrupted("enough")

    config = dataclasses.replace(CONFIG, stack_size=6)
    with pytest.raises(Interrupted):
        train(run, config, progress=stop)
    before = run_status(run)
    result = train(run, config)
    early = int(((result.status == "reached") & (result.epochs <= 30)).sum())
    assert before.ended == {"reached": early, "horizon": 0, "diverged": 0}
    assert early > 0


def test_status_of_a_run_at_work_has_a_rate(tmp_path):
    run = tmp_path / "run"
    seen = []

    def look(done, total, text):
        if "block 2 of 6: epoch 3 " in text:
            os.utime(run / "members" / "0001" / ".lock", (time.time() - 10, time.time() - 10))
            seen.append(run_status(run))

    train(run, progress=look)
    (status,) = seen
    assert (status.state, status.done, status.training, status.waiting) == ("running", 1, 1, 4)
    assert status.work == 40 + 2  # the third epoch is not saved yet
    assert status.rate == pytest.approx(2 / 10, rel=0.1)
    assert status.seconds_left == pytest.approx((240 - 42) / status.rate)


class ThreadPool:
    """A worker with several threads, as a Dask worker may be."""

    size, slots = 2, 2

    def __init__(self):
        self._executor = ThreadPoolExecutor(2)

    def submit(self, function, *arguments):
        return self._executor.submit(function, *arguments)

    def renew(self, error):
        raise error

    def close(self):
        self._executor.shutdown()


def test_threads_of_a_worker_do_not_share_random_numbers(tmp_path, monkeypatch):
    # Dropout draws from torch's generator, which belongs to the process.
    (tmp_path / "dropping.py").write_text(
        "import math\nfrom torch import nn\n\ndef network(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(math.prod(shape), classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(CONFIG, model="dropping:network", execution="loop", stack_size=1)
    train(tmp_path / "serial", config)

    @contextlib.contextmanager
    def connect(*_):
        pool = ThreadPool()
        try:
            yield pool
        finally:
            pool.close()

    monkeypatch.setattr(ensemble, "connect", connect)
    train(tmp_path / "threads", config, workers=2)
    assert merged(tmp_path / "threads") == merged(tmp_path / "serial")
