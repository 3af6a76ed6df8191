"""Processes of their own that train an ensemble, and what they hold.

They install their own handler of Ctrl-C: parallel test processes ignore the signal, and what is ignored is inherited.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed_runs import CONFIG

ROOT = Path(__file__).resolve().parents[1]


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
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            for link in os.listdir(process / "fd"):
                with contextlib.suppress(OSError):  # it has closed the file
                    path = os.readlink(process / "fd" / link)
                    if path.startswith(f"{directory}/members/") and path.endswith("/.lock"):
                        found.append(int(process.name))
    return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value
