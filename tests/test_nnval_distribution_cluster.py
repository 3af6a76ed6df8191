"""Ensembles trained by the workers of a Dask cluster."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nnval.engine import executors
from tests.distributed_runs import merged, train
from tests.training_processes import ENVIRONMENT, ended, go, holders, read_or_nothing, started, wait_for


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
def test_a_dask_cluster_that_loses_a_worker(cluster, tmp_path):
    address, workers = cluster
    run, alone = tmp_path / "run", train(tmp_path / "alone")
    process = started(run, scheduler=address)
    go(process)
    victim = wait_for(lambda: [pid for pid in holders(run) if pid in {worker.pid for worker in workers}])[0]
    os.kill(victim, signal.SIGKILL)
    assert "240 240 6 of 6 blocks done" in ended(process)
    assert merged(run) == merged(alone.directory)


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
