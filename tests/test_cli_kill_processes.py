"""Commands in real processes: killed by SIGKILL at random instants, and two at once in one directory."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.writing_commands import COMMANDS, EXPERIMENTS

CHILDREN = """
import os, random, signal, sys, time
from pathlib import Path
from tests.command_line import jostle
from tests.writing_commands import COMMANDS, EXPERIMENTS, contents, workplace

name, base, seed, ends = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
words, rng = {**COMMANDS, **EXPERIMENTS}[name], random.Random(seed)

def child():
    pid = os.fork()
    if pid == 0:
        result = jostle(*words)
        crashed = not isinstance(result.exception, SystemExit | None)
        if crashed or result.exit_code not in (0, 2, 3):  # 2: another process is working there
            print(result.exit_code, repr(result.exception), result.output, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def place(name):
    return workplace(base / name)

def names(found):
    return {each for each in found if not each.endswith(".tmp")}

with place("whole"):
    begin = time.monotonic()
    assert ended(child()) == 0
    duration, whole = time.monotonic() - begin, contents(Path("out"))
killed = 0
for number in range(ends):
    with place(f"killed{number}"):
        pid = child()
        time.sleep(rng.uniform(0.1, 1) * duration)
        os.kill(pid, signal.SIGKILL)  # a child that has ended is still there to be waited for
        killed += ended(pid) == -signal.SIGKILL
        assert ended(child()) == 0
        assert names(contents(Path("out"))) == names(whole)
with place("two"):
    pids = [child(), child()]
    assert [ended(pid) for pid in pids] == [0, 0]
    assert ended(child()) == 0
    found = contents(Path("out"))
    assert names(found) == names(whole)
    differ = {each for each in whole if found[each] != whole[each]}
    assert not differ or name in EXPERIMENTS, differ
print(killed)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict widening-valley", "simulate widening-valley", "figures", *EXPERIMENTS])
def test_kill_9_and_two_at_once(name: str, tmp_path: Path, seed: int) -> None:
    assert name in {**COMMANDS, **EXPERIMENTS}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, name, str(tmp_path), str(random.Random(seed).randrange(10**6)), "3"],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
