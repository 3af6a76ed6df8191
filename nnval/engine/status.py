"""How far a run has come, from its files alone: of a run that is at work, was killed or is finished, here or elsewhere.

Training is what holds its lock, so that runs on a file system without locks, and copies of runs, are never at work.
"""

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnval.engine import run_directory as disk
from nnval.engine.blocks import Block, children_of, ends_of, planned_blocks, progress_of
from nnval.engine.checkpoint import STATUSES
from nnval.engine.config import TrainingConfig


@dataclass(frozen=True)
class RunStatus:
    """How far a run has come.

    Attributes:
        directory: of the run.
        state: ``"finished"``, ``"running"`` or ``"stopped"``.
        planned: members that were asked for so far.
        done: of these, in blocks that are complete.
        training: in blocks that a process is training at this moment.
        waiting: in all other blocks.
        ended: members by how they ended; of a block that is not complete, as far as its curves tell.
        work: member-epochs done; of a member that has ended, all epochs count.
        total_work: of all planned members.
        rate: member-epochs per second of those who are training, since each began; None if none has saved yet.
        seconds_left: at that rate; None without it.
        last_written: seconds since a curve or a block was last written; None if there is none.

    Example:
        >>> status = RunStatus(Path("runs/plain"), "stopped", 8, 4, 0, 4, {"reached": 4}, 400, 800, None, None, 60.0)
        >>> status.planned - status.done
        4
    """

    directory: Path
    state: str
    planned: int
    done: int
    training: int
    waiting: int
    ended: dict[str, int]
    work: int
    total_work: int
    rate: float | None
    seconds_left: float | None
    last_written: float | None

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        return asdict(self) | {"directory": str(self.directory)}


def run_status(directory: str | Path) -> RunStatus:
    """How far a run has come; nothing is changed.

    Args:
        directory: of the run.

    Returns:
        The status.

    Raises:
        RunDirectoryError: if it holds no run of an ensemble.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> from nnval.engine.ensemble import train_ensemble
        >>> config = TrainingConfig(train_size=40, hidden=(4,), epochs=1, members=2, execution="loop")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = train_ensemble(config, directory)
        ...     status = run_status(directory)
        >>> status.state, status.done, status.planned
        ('finished', 2, 2)
    """
    directory = Path(directory)
    description = disk.read_description(directory)
    if "perturbations" in description["config"]:
        raise disk.RunDirectoryError(f"{directory} holds a study; its runs are the directories in it")
    config = TrainingConfig.from_dict(description["config"])
    blocks = planned_blocks(directory, children_of(description["branch"]))
    finished = (directory / disk.DONE).exists()
    members = {"done": 0, "training": 0, "waiting": 0}
    ended: dict[str, int] = dict.fromkeys(STATUSES, 0)
    work, rate, last = 0, 0.0, 0.0
    for block in blocks:
        work += progress_of(block, config.epochs).work
        for status, count in ends_of(block, config.target).items():
            ended[status] += count
        state = "done" if block.done else "training" if disk.is_held(block.path) else "waiting"
        members[state] += len(block.members)
        if state == "training":
            rate += _rate_of(block, config.epochs)
        last = max(last, _written(block.path / disk.CURVES), _written(block.path / disk.DONE))
    planned = sum(members.values())
    total = planned * config.epochs
    return RunStatus(
        directory=directory,
        state="finished" if finished else "running" if members["training"] else "stopped",
        planned=planned,
        **members,
        ended=ended,
        work=work,
        total_work=total,
        rate=rate or None,
        seconds_left=(total - work) / rate if rate else None,
        last_written=max(0.0, time.time() - last) if last else None,
    )


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _rate_of(block: Block, epochs: int) -> float:
    """Member-epochs per second since the holder of a block began, until it last saved; 0 if it has not."""
    with contextlib.suppress(OSError, ValueError):  # the note of who began is not there, or just being written
        before = int((block.path / disk.LOCK).read_text(encoding="ascii"))
        # Both times are the file system's: clocks of two machines need not agree.
        seconds = _written(block.path / disk.CURVES) - _written(block.path / disk.LOCK)
        if seconds > 0:
            return max(0.0, (progress_of(block, epochs).work - before) / seconds)
    return 0.0
