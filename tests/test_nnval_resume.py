"""A run that is stopped at any instant, in any way, resumes to the same bytes; directories are not mixed up."""

import dataclasses
import errno
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from nnval.engine import checkpoint, run_directory
from nnval.engine.branch import Branch
from nnval.engine.config import TrainingConfig
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.run_directory import Interrupted, RunDirectoryError, StorageError

# Blocks, members that complete, velocity, a schedule and perturbations that restart it: all that a state is made of.
CONFIG = TrainingConfig(
    train_size=60, validation_size=50, label_noise=0.1, hidden=(8,), batch_size=10, epochs=7, members=5, stack_size=3,
    learning_rate=0.1, momentum=0.8, schedule="cosine", perturbation={"name": "full_reset"}, interval=3, target=0.5,
    snapshots=(0, 3, 5), execution="stacked",
)  # fmt: skip


def train(directory, **options):
    return train_ensemble(CONFIG, directory, **{"checkpoint_seconds": 0, **options})


def contents(directory):
    """All files but the record of the machine, the locks, and what a killed writer left; names and bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file() and path.name not in ("environment.json", ".lock") and path.suffix != ".tmp"
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The uninterrupted run."""
    directory = tmp_path_factory.mktemp("reference") / "run"
    result = train(directory)
    assert {"reached", "horizon"} == set(result.status)
    return contents(directory)


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


# ---- Directories ---------------------------------------------------------------------------------------------------


def test_a_finished_run_is_left_alone(tmp_path):
    first = train(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    calls = []
    second = train(tmp_path / "run", progress=lambda *call: calls.append(call))
    assert not calls
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    for name in ("members", "status", "epochs", "test_accuracy"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_another_config_is_refused_with_what_differs(tmp_path):
    train(tmp_path / "run")
    before = contents(tmp_path / "run")
    other = dataclasses.replace(CONFIG, learning_rate=0.3, hidden=(9,))
    with pytest.raises(RunDirectoryError) as caught:
        train_ensemble(other, tmp_path / "run")
    lines = str(caught.value).splitlines()
    assert "another config" in lines[0]
    assert lines[1:] == ["  hidden: [8] there, [9] asked for", "  learning_rate: 0.1 there, 0.3 asked for"]
    assert contents(tmp_path / "run") == before
    moved = dataclasses.replace(CONFIG, data_dir="elsewhere")
    assert train_ensemble(moved, tmp_path / "run").config.data_dir is None


def test_foreign_directories_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match=r"is not empty and holds no run \(it has thesis.tex\)"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match=r"a file is in the way"):
        train(tmp_path / "thesis.tex")
    with pytest.raises(RunDirectoryError, match=r"a file is in the way"):
        train(tmp_path / "thesis.tex" / "run")
    for content, message in [
        ("{}", r"was not written by jostle"),
        ("{", r"cannot read .*config.json"),
        (
            '{"schema": 99, "fingerprint": "", "config": {}, "branch": null}',
            r"schema 99; this version of jostle reads 2",
        ),
    ]:
        foreign = tmp_path / str(len(content))
        foreign.mkdir()
        (foreign / "config.json").write_text(content)
        with pytest.raises(RunDirectoryError, match=message):
            train(foreign)
    with pytest.raises(RunDirectoryError, match=r"holds no run"):
        load_ensemble(tmp_path / "absent")


def test_an_empty_directory_and_unfinished_files_are_no_obstacle(reference, tmp_path):
    (tmp_path / ".config.json.0123abcd.tmp").write_text("{")
    train(tmp_path)
    assert contents(tmp_path) == reference


def test_a_directory_that_another_process_holds_is_waited_for(reference, tmp_path):
    (tmp_path / "run").mkdir()
    with run_directory.locked(tmp_path / "run"):
        with (
            pytest.raises(RunDirectoryError, match=r"another process is working in .*choose another directory"),
            run_directory.locked(tmp_path / "run"),
        ):
            pass
        thread = threading.Thread(target=train, args=(tmp_path / "run",))
        thread.start()
        thread.join(0.7)
        assert thread.is_alive()
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    thread.join()
    assert contents(tmp_path / "run") == reference


def test_a_run_continued_elsewhere_says_so(tmp_path, monkeypatch):
    def stop(done, total, text):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnval.engine.ensemble.environment", lambda device: {"torch": "1"})
    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop)
    for version in ("2", "2", "1", "3"):
        monkeypatch.setattr("nnval.engine.ensemble.environment", lambda device, version=version: {"torch": version})
        with pytest.raises(Interrupted):
            train(tmp_path, progress=stop)
    recorded = json.loads((tmp_path / "environment.json").read_text())
    assert recorded == {"torch": "1", "continued_in": [{"torch": "2"}, {"torch": "3"}]}


# ---- Checkpoints ---------------------------------------------------------------------------------------------------


def test_a_state_read_back_has_the_same_bytes(reference):
    for name, content in reference.items():
        if name.endswith(".pt"):
            assert checkpoint.to_bytes(checkpoint.from_bytes(content)) == content


def test_damaged_checkpoints_are_named(reference, tmp_path):
    content = reference["members/0000-0002/checkpoint.pt"]
    weights = checkpoint.from_bytes(content).stack.parameters["1.weight"]
    flipped = bytearray(content)
    flipped[content.index(weights.numpy().tobytes()) + 5] ^= 1  # one bit of one weight
    for number, damaged in enumerate([b"", content[: len(content) // 2], bytes(flipped), pickle.dumps({"epoch": 3})]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError, match=rf"cannot read .*{number}.pt"):
            checkpoint.read_state(path)


def test_checkpoints_of_another_schema_are_refused(reference, tmp_path):
    payload = torch.load(io.BytesIO(reference["members/0000-0002/checkpoint.pt"]), weights_only=True)
    path = tmp_path / "checkpoint.pt"
    torch.save(payload | {"schema": 1}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"its schema is 1, this version of jostle reads 2"):
        checkpoint.read_state(path)


class RunsCode:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "was-here"
    torch.save({"schema": checkpoint.SCHEMA, "epoch": RunsCode(trace)}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"damaged or no checkpoint"):
        checkpoint.read_state(path)
    assert not trace.exists()
