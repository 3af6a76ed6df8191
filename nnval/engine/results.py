"""What an ensemble measured: the files of its blocks, merged, and read back."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnval.engine import run_directory as disk
from nnval.engine.blocks import Block, children_of, planned_blocks
from nnval.engine.checkpoint import Outcome
from nnval.engine.config import TrainingConfig
from nnval.engine.loop import EpochRecord

METRICS = ("train_loss", "validation_accuracy")
CURVES_HEADER = "run,epoch," + ",".join(METRICS) + "\n"


@dataclass(frozen=True)
class EnsembleResult:
    """What an ensemble measured.

    Attributes:
        config: what was trained; its ``members`` and ``first_member`` are the number and the first of these members.
        directory: of the run.
        members: (n,), ids in increasing order.
        parents: (n,), ids in the run that these were branched from; None if they were not.
        status: (n,), ``"reached"`` the target, got to the ``"horizon"``, or ``"diverged"``.
        epochs: (n,), last epoch of each curve; of a diverged member the last good one, which may be 0.
        curves: ``train_loss`` and ``validation_accuracy``, each (n, horizon): column t - 1 is epoch t; nan after a
            member's end.
        test_accuracy: (n,), at the end; nan for a diverged member.

    Example:
        >>> import tempfile
        >>> from nnval.engine.ensemble import train_ensemble
        >>> config = TrainingConfig(train_size=40, hidden=(4,), epochs=2, members=2, execution="loop")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = train_ensemble(config, directory)
        >>> times, reached = result.completion(0.99)  # no network is that good after two epochs
        >>> times.tolist(), reached.tolist()
        ([2, 2], [False, False])
    """

    config: TrainingConfig
    directory: Path
    members: npt.NDArray[np.int64]
    parents: npt.NDArray[np.int64] | None
    status: npt.NDArray[np.str_]
    epochs: npt.NDArray[np.int64]
    curves: dict[str, npt.NDArray[np.float64]]
    test_accuracy: npt.NDArray[np.float64]

    def completion(self, target: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """First epoch with a validation accuracy >= target, as ``theory.survival.FirstPassages`` takes it.

        Args:
            target: accuracy in (0, 1], at most the one at which members stopped.

        Returns:
            Times (n,) [epochs] and whether the target was reached (n,); a time that was not is the member's last epoch.

        Raises:
            ValueError: if members were stopped before they could reach the target: that censoring would depend on how
                close they were.
        """
        if not 0 < target <= 1:
            raise ValueError(f"target={target} must lie in (0, 1]: it is an accuracy")
        if self.config.target is not None and target > self.config.target:
            raise ValueError(
                f"target={target} must be <= {self.config.target}, where members stopped; train with a higher target"
            )
        there = self.curves["validation_accuracy"] >= target  # nan is not
        observed = np.asarray(there.any(axis=1))
        return np.where(observed, there.argmax(axis=1) + 1, self.epochs), observed


def curve_lines(record: EpochRecord) -> str:
    """The lines of one epoch: nine digits of a loss, whose terms are float32; accuracies exactly, so that >= is too."""
    return "".join(
        f"{member},{record.epoch},{loss:.9g},{accuracy!r}\n"
        for member, loss, accuracy in zip(
            record.members.tolist(), record.train_loss.tolist(), record.validation_accuracy.tolist(), strict=True
        )
    )


def member_table(outcomes: Iterable[Outcome], children_per_parent: int | None) -> bytes:
    """``members.csv``; a diverged member has no test accuracy.

    Args:
        outcomes: in any order.
        children_per_parent: of a branch, which has a column ``parent``; None for a run from scratch.
    """
    lines = [f"run,{'' if children_per_parent is None else 'parent,'}status,epoch,test_accuracy\n"]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.member):
        parent = "" if children_per_parent is None else f"{outcome.member // children_per_parent},"
        accuracy = "" if math.isnan(outcome.test_accuracy) else repr(outcome.test_accuracy)
        lines.append(f"{outcome.member},{parent}{outcome.status},{outcome.epoch},{accuracy}\n")
    return "".join(lines).encode()


def merge(directory: Path, blocks: Sequence[Block]) -> None:
    """Merges the files of all blocks and marks the run as done; the directory is held by the caller.

    Args:
        directory: of the run.
        blocks: finished, in the order of their members.

    Raises:
        StorageError: if they cannot be written.
    """
    members, curves = [], []
    for block in blocks:
        members += (block.path / disk.MEMBERS).read_text(encoding="ascii").splitlines(keepends=True)[bool(members) :]
        lines = (block.path / disk.CURVES).read_text(encoding="ascii").splitlines(keepends=True)[1:]
        # By member and epoch: the file does not depend on the size of the blocks.
        curves += sorted(lines, key=lambda line: tuple(map(int, line.split(",", 2)[:2])))
    disk.write_whole(directory / disk.CURVES, (CURVES_HEADER + "".join(curves)).encode())
    disk.write_whole(directory / disk.MEMBERS, "".join(members).encode())
    statuses = [line.split(",")[-3] for line in members[1:]]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    disk.write_json(directory / disk.DONE, {"members": len(statuses), **counts})


def load_ensemble(directory: str | Path) -> EnsembleResult:
    """The result of a finished run: all members that were trained there.

    Args:
        directory: of the run.

    Returns:
        The result.

    Raises:
        RunDirectoryError: if it holds no run of jostle, or one that is not finished.

    Example:
        >>> import tempfile
        >>> from nnval.engine.ensemble import train_ensemble
        >>> config = TrainingConfig(train_size=40, hidden=(4,), epochs=1, members=2, execution="loop")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = train_ensemble(config, directory)
        ...     load_ensemble(directory).members.tolist()
        [0, 1]
    """
    directory = Path(directory)
    disk.read_description(directory)
    if not (directory / disk.DONE).exists():
        raise disk.RunDirectoryError(f"{directory} is not finished; train it to its end first")
    return _read(directory, [directory], None)


def finished_members(directory: Path, members: Sequence[int]) -> EnsembleResult | None:
    """The result of these members, if the run is finished and holds them all.

    Args:
        directory: of the run.
        members: ids.
    """
    if not (directory / disk.DONE).exists() or lacks_blocks(directory):
        return None
    result = _read(directory, [directory], members)
    return result if len(result.members) == len(members) else None


def lacks_blocks(directory: Path) -> bool:
    """Whether members of a finished run have no finished block: somebody removed it, to train them anew.

    Args:
        directory: of the run.
    """
    blocks = planned_blocks(directory, children_of(disk.read_description(directory)["branch"]))
    there = {member for block in blocks if block.done for member in block.members}
    return not there.issuperset(int(row["run"]) for row in _table(directory / disk.MEMBERS))


def read_members(directory: Path, blocks: Sequence[Block], members: Sequence[int]) -> EnsembleResult:
    """The result of these members from their finished blocks, whatever the others do.

    Args:
        directory: of the run.
        blocks: that hold them.
        members: ids.
    """
    return _read(directory, [block.path for block in blocks], members)


def _read(directory: Path, sources: Sequence[Path], wanted: Sequence[int] | None) -> EnsembleResult:
    # Members before curves: if another process merges at this moment, there are curves of all members at least.
    rows = [row for source in sources for row in _table(source / disk.MEMBERS)]
    if wanted is not None:
        chosen = set(wanted)
        rows = [row for row in rows if int(row["run"]) in chosen]
    rows.sort(key=lambda row: int(row["run"]))
    members = np.array([int(row["run"]) for row in rows], np.int64)
    about = {"members": max(1, len(members)), "first_member": int(members[0]) if len(members) else 0}
    config = TrainingConfig.from_dict(disk.read_description(directory)["config"] | about)
    curves = {metric: np.full((len(members), config.epochs), np.nan) for metric in METRICS}
    for source in sources:
        with (source / disk.CURVES).open(encoding="ascii", newline="") as file:
            points = np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])
        if len(points):  # nobody may have survived the first epoch
            points = points[np.isin(points[:, 0], members)]
            where = np.searchsorted(members, points[:, 0].astype(np.int64)), points[:, 1].astype(np.int64) - 1
            for column, metric in enumerate(METRICS, start=2):
                curves[metric][where] = points[:, column]
    return EnsembleResult(
        config=config,
        directory=directory,
        members=members,
        parents=np.array([int(row["parent"]) for row in rows]) if rows and "parent" in rows[0] else None,
        status=np.array([row["status"] for row in rows]),
        epochs=np.array([int(row["epoch"]) for row in rows]),
        curves=curves,
        test_accuracy=np.array([float(row["test_accuracy"] or "nan") for row in rows]),
    )


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))
