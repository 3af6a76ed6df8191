"""The directory of a run: not mixed up with others, held by one process at a time, its files whole."""

import dataclasses
import errno
import json
import os
import threading

import numpy as np
import pytest

from nnval.engine import run_directory
from nnval.engine.ensemble import load_ensemble, train_ensemble
from nnval.engine.run_directory import Interrupted, RunDirectoryError, write_whole
from tests.resumable_run import CONFIG, contents, train, uninterrupted


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return uninterrupted(tmp_path_factory.mktemp("reference") / "run")


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


# ---- Files that are whole -------------------------------------------------------------------------------------------


def test_what_killed_writers_left_goes_with_the_next_writer(tmp_path):
    for name in (".curves.csv.0123abcd.tmp", ".members.csv.0123abcd.tmp", ".curves.csv.0123abcd.tmp.mine", "mine.tmp"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "curves.csv", b"whole")
    assert contents(tmp_path) == {
        "curves.csv": b"whole",
        ".members.csv.0123abcd.tmp": b"half",  # of another file, whose writer will remove it
        ".curves.csv.0123abcd.tmp.mine": b"half",
        "mine.tmp": b"half",
    }


def test_a_writer_that_lives_keeps_its_file(tmp_path, monkeypatch):
    write, inside = run_directory._write, []

    def twice(descriptor, content):  # while the first is in the middle of writing, a second comes and goes
        if not inside:
            inside.append(descriptor)
            write_whole(tmp_path / "file", b"second")
            assert len(list(tmp_path.glob(".file.*.tmp"))) == 1
            assert (tmp_path / "file").read_bytes() == b"second"
        write(descriptor, content)

    monkeypatch.setattr(run_directory, "_write", twice)
    write_whole(tmp_path / "file", b"first")
    assert contents(tmp_path) == {"file": b"first"}


def test_a_file_taken_for_left_over_before_it_was_locked_is_opened_anew(tmp_path, monkeypatch):
    flock, taken = run_directory.fcntl.flock, []

    def late(descriptor, operation):  # another process is faster
        if not taken:
            taken.extend(tmp_path.glob(".file.*.tmp"))
            taken[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(run_directory.fcntl, "flock", late)
    write_whole(tmp_path / "file", b"whole")
    assert len(taken) == 1
    assert contents(tmp_path) == {"file": b"whole"}


def test_without_locks_files_are_whole_all_the_same(tmp_path, monkeypatch):
    def none(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".file.0123abcd.tmp").write_text("half")
    monkeypatch.setattr(run_directory.fcntl, "flock", none)
    write_whole(tmp_path / "file", b"whole")
    assert contents(tmp_path) == {"file": b"whole", ".file.0123abcd.tmp": b"half"}  # its writer may be alive
    monkeypatch.setattr(run_directory, "fcntl", None)
    write_whole(tmp_path / "file", b"again")
    assert contents(tmp_path) == {"file": b"again", ".file.0123abcd.tmp": b"half"}
