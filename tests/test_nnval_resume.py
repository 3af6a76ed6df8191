"""A run that is stopped at any instant, in any way, resumes to the same bytes."""

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nnval.engine import checkpoint
from nnval.engine.branch import Branch
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.run_directory import Interrupted, RunDirectoryError, StorageError
from tests.resumable_run import CONFIG, contents, train, uninterrupted


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return uninterrupted(tmp_path_factory.mktemp("reference") / "run")


def test_two_runs_have_the_same_bytes(reference, tmp_path):
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference


def test_the_interval_of_checkpoints_does_not_matter(reference, tmp_path):
    train(tmp_path / "run", checkpoint_seconds=1e6)
    assert contents(tmp_path / "run") == reference


# ---- Killed --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Fuse:
    """Lets so many calls through; the next one does half of its work, or none, and then the run is dead."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, function, half=None):
        def fused(*arguments, **options):
            if self.left == 0:
                if half is not None:
                    half(*arguments)
                raise Killed
            self.left -= 1
            return function(*arguments, **options)

        return fused


def burn(monkeypatch, directory, calls):
    """Trains until the fuse has burnt; whether it has."""
    fuse = Fuse(calls)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fuse(write, half=lambda file, view: write(file, view[: len(view) // 2])))
        for name in ("open", "fsync", "replace", "ftruncate"):
            patch.setattr(os, name, fuse(getattr(os, name)))
        try:
            train(directory)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_single_write(reference, tmp_path, monkeypatch, stride):
    """Each call to the operating system that changes the directory is the last one, once, or does half of its work."""
    for calls in range(0, 10_000, stride):
        directory = tmp_path / str(calls)
        killed = burn(monkeypatch, directory, calls)
        train(directory)
        assert contents(directory) == reference, f"killed after {calls} calls"
        if not killed:
            break
    assert calls > 100


def test_killed_again_and_again(reference, tmp_path, monkeypatch):
    kills = 0
    while burn(monkeypatch, tmp_path / "run", 25):
        kills += 1
    assert kills > 5
    assert contents(tmp_path / "run") == reference


SERVER = """
import json, os, random, signal, sys, time
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import train_ensemble
import sklearn.datasets

config, base, seed = TrainingConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)

def child(directory):
    pid = os.fork()
    if pid == 0:
        try:
            train_ensemble(config, directory, checkpoint_seconds=0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid

begin = time.monotonic()
assert os.waitpid(child(base + "/whole"), 0)[1] == 0
whole = time.monotonic() - begin
killed = 0
for number in range(10):
    directory = f"{base}/{number}"
    pid = child(directory)
    time.sleep(rng.uniform(0, whole))
    os.kill(pid, signal.SIGKILL)  # a child that has ended is still there to be waited for
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert os.waitpid(child(directory), 0)[1] == 0
print(killed)
"""


@pytest.mark.slow
def test_kill_9_at_ten_random_instants(reference, tmp_path, seed):
    """Real processes. One that has ended before its instant is no failure; the fuse above leaves none out."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVER, json.dumps(CONFIG.to_dict()), str(tmp_path), str(seed)],
        cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for number in range(10):
        assert contents(tmp_path / str(number)) == reference


def test_a_killed_branch_resumes(tmp_path, monkeypatch):
    train(tmp_path / "parents")
    child = dataclasses.replace(CONFIG, stream="child", interval=None, epochs=3, snapshots=(0,))
    branch = Branch(tmp_path / "parents", 3, children_per_parent=2)

    def branched(directory, **options):
        train_ensemble(child, directory, parents=branch, checkpoint_seconds=0, **options)
        return contents(directory)

    whole = branched(tmp_path / "whole")
    for calls in range(0, 200, 5):
        directory, killed = tmp_path / str(calls), False
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Fuse(calls)(os.fsync))
            try:
                branched(directory)
            except Killed:
                killed = True
        assert branched(directory) == whole
        if not killed:
            break
    assert calls > 20


# ---- Stopped by the user -------------------------------------------------------------------------------------------


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def keyboard_interrupt():
    raise KeyboardInterrupt


def progress_stops():
    raise Interrupted("enough")


@pytest.mark.parametrize("how", [ctrl_c, keyboard_interrupt, progress_stops])
def test_stopping_saves_the_epoch_and_resumes(reference, tmp_path, how):
    def interrupt(done, total, text):
        if "block 2 of 2: epoch 4" in text:
            how()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"stopped after epoch 4; run the same command again to go on"):
        train(tmp_path / "run", progress=interrupt, checkpoint_seconds=1e6)
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.read_state(tmp_path / "run" / "members" / "0003-0004" / "checkpoint.pt").epoch == 4
    assert not (tmp_path / "run" / "done.json").exists()
    with pytest.raises(RunDirectoryError, match=r"is not finished"):
        load_ensemble(tmp_path / "run")
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference


def test_the_second_ctrl_c_stops_at_once(reference, tmp_path):
    def interrupt(done, total, text):
        if "block 1 of 2: epoch 2" in text:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=r"run the same command again"):
        train(tmp_path / "run", progress=interrupt)
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference


def test_other_threads_can_train(reference, tmp_path):
    failures = []

    def work():
        try:
            train(tmp_path / "run")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert contents(tmp_path / "run") == reference


# ---- Storage -------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_grow(reference, tmp_path):
    """The operating system itself refuses: the first block's checkpoint fits, its curves soon don't."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = {name: len(content) for name, content in reference.items()}
    limit = sizes["members/0000-0002/checkpoint.pt"] - 1
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(
            StorageError, match=r"could not write .*(File too large).* make room .* run the same command"
        ):
            train(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "run").rglob("*.tmp"))
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference


@pytest.mark.parametrize("call", [0, 1, 3, 10, 17, 30])
def test_full_disk(reference, tmp_path, monkeypatch, call):
    write, left = os.write, [call]

    def full(file, view):
        left[0] -= 1
        if left[0] < 0:
            write(file, view[: len(view) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, view)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"No space left on device.*what was saved before is intact") as caught:
            train(tmp_path / "run")
    assert caught.value.errno == errno.ENOSPC
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference


def test_short_writes_are_completed(reference, tmp_path, monkeypatch):
    """The operating system may take less than it is given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, view: write(file, view[:1000]))
    train(tmp_path / "run")
    assert contents(tmp_path / "run") == reference
