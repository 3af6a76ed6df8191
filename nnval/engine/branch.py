"""Branches: ensembles that begin with the survivors of another run, to measure what one perturbation does to them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnval.drop_in.perturbations import Perturbation
from nnval.engine import run_directory as disk
from nnval.engine.checkpoint import BlockState, read_state
from nnval.engine.config import TrainingConfig
from nnval.engine.member_stack import MemberStack, MemberView
from nnval.engine.optimizers import Optimizer
from nnval.engine.results import lacks_blocks

_OF_DATA_AND_MODEL = (
    "data", "train_size", "validation_size", "validation_from", "label_noise", "data_seed", "model", "hidden"
)  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """Where the members of an ensemble come from: survivors of another run.

    The children go on from their parents' weights, buffers and what the optimizer remembered; what their own optimizer
    remembers and their parents' did not begins at 0. The perturbation of their config acts on them at once, at the
    children's epoch 0; then they train ``epochs`` epochs, counted from there. A schedule of the same name as the
    parents', which the perturbation does not restart, carries on where the parents' stood.

    Attributes:
        run: directory of the parents' run, which took a snapshot.
        epoch: P*, the epoch of that snapshot; it was taken before any perturbation that acted then.
        members: ids of the parents; None: all that were still in training.
        children_per_parent: c; the children of parent k are k c, ..., k c + c - 1.

    Example:
        >>> Branch("runs/plain", epoch=20, members=[0, 3]).members
        (0, 3)
    """

    run: str | Path
    epoch: int
    members: Sequence[int] | None = None
    children_per_parent: int = 1

    def __post_init__(self) -> None:
        if self.children_per_parent < 1:
            raise ValueError(f"children_per_parent={self.children_per_parent} must be >= 1: networks per survivor")
        if self.members is not None:
            if len(set(self.members)) != len(self.members):
                raise ValueError(
                    "members of a branch must be different ones; children_per_parent asks for several of each"
                )
            object.__setattr__(self, "members", tuple(self.members))  # workers look a branch up by its values


@dataclass(frozen=True)
class Origin:
    """A branch that has been looked up.

    Attributes:
        branch: what was asked for.
        parents: ids, in increasing order.
        record: the branch as ``config.json`` has it, without a path.
        schedule_origin, schedule_length: see ``BlockState``.
    """

    branch: Branch
    parents: list[int]
    record: dict[str, Any]
    schedule_origin: int
    schedule_length: int

    @property
    def children(self) -> list[int]:
        """Ids of the members of the new ensemble, in increasing order."""
        count = self.branch.children_per_parent
        return [parent * count + child for parent in self.parents for child in range(count)]

    def initial_state(self, members: Sequence[int], config: TrainingConfig) -> BlockState:
        """Children as they are before the perturbation acts, on the CPU."""
        parents = [member // self.branch.children_per_parent for member in members]
        views: dict[int, MemberView] = {}
        steps = 0  # the same for all: perturbations clear the slots of all members at once
        for state in _states(Path(self.branch.run), self.branch.epoch, parents):
            views |= {member: state.stack.member(row) for row, member in enumerate(state.stack.members.tolist())}
            steps = state.stack.steps
        of_child = [views[parent] for parent in parents]
        slots = Optimizer.of(config).slots
        stack = MemberStack.of(members, [(view.parameters, view.buffers) for view in of_child], slots=slots)
        if all(slot in of_child[0].slots for slot in slots):
            stack.steps = steps
            for slot in slots:
                for row, view in enumerate(of_child):
                    for name, tensor in view.slots[slot].items():
                        stack.slots[slot][name][row] = tensor
        return BlockState(0, stack, self.schedule_origin, self.schedule_length)


def _states(run: Path, epoch: int, members: Iterable[int] | None = None) -> Iterator[BlockState]:
    """The snapshots of the blocks that may hold these members; None for all."""
    wanted = None if members is None else np.unique(np.fromiter(members, np.int64))
    for path in sorted((run / disk.BLOCKS).glob(f"*/snapshot_{epoch:04d}.pt")):
        first, last = re.fullmatch(r"(\d+)(?:-(\d+))?", path.parent.name).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if wanted is None or ((wanted >= int(first)) & (wanted <= int(last or first))).any():
            yield read_state(path)


def snapshot_members(run: str | Path, epoch: int) -> npt.NDArray[np.int64]:
    """The survivors that a snapshot holds, members with T > epoch, in increasing order.

    Args:
        run: directory of a run that took the snapshot.
        epoch: of the snapshot.

    Raises:
        RunDirectoryError: if the directory holds no run, or that has no such snapshot.
    """
    disk.read_description(Path(run))
    if (Path(run) / disk.DONE).exists() and lacks_blocks(Path(run)):
        raise disk.RunDirectoryError(f"{run} lacks blocks that it once had; run its command again to train them anew")
    survivors = [state.stack.members for state in _states(Path(run), epoch)]
    if not survivors:
        raise disk.RunDirectoryError(
            f"{run} has no snapshot of epoch {epoch}: nobody got there, or it was not trained with snapshots=[{epoch}]"
        )
    return np.sort(np.concatenate(survivors))


def look_up(branch: Branch, config: TrainingConfig, perturbation: Perturbation | None) -> Origin:
    """Finds the parents of a branch.

    Args:
        branch: what is asked for.
        config: of the children.
        perturbation: what acts on the children at epoch 0.

    Raises:
        RunDirectoryError: if there is no such run or snapshot.
        ValueError: if a parent had ended, or the configs do not fit together.
    """
    run = Path(branch.run)
    survivors = snapshot_members(run, branch.epoch).tolist()
    parents = survivors if branch.members is None else sorted(int(member) for member in branch.members)
    ended = sorted(set(parents) - set(survivors))
    if ended:
        raise ValueError(
            f"members {', '.join(map(str, ended[:5]))}{' ...' if len(ended) > 5 else ''} of {run} cannot be branched "
            f"at epoch {branch.epoch}: they had ended, or never were; {len(survivors)} survived (see snapshot_members)"
        )
    if not parents:
        raise ValueError(f"nobody survived epoch {branch.epoch} of {run}: there is nothing to branch")
    there = disk.read_description(run)
    parent = TrainingConfig.from_dict(there["config"])
    _check_fit(parent, config, run)
    origin, length = 0, config.epochs
    restarts = perturbation is not None and perturbation.learning_rate == "restart"
    if config.schedule == parent.schedule != "constant" and not restarts:
        state = next(_states(run, branch.epoch))  # perturbations act on all members at once, so any block will do
        origin, length = state.schedule_origin - branch.epoch, state.schedule_length
        if config.schedule in ("cosine", "one_cycle") and config.epochs > origin + length:
            raise ValueError(
                f"epochs={config.epochs} must be <= {origin + length}: then the {config.schedule} schedule, which the "
                "branch carries on, has come to its end; choose schedule='constant' or a perturbation with "
                "learning_rate='restart'"
            )
    record = {
        "parent_fingerprint": there["fingerprint"],
        "epoch": branch.epoch,
        "members": parents,
        "children_per_parent": branch.children_per_parent,
    }
    return Origin(branch, parents, record, origin, length)


def _check_fit(parent: TrainingConfig, child: TrainingConfig, run: Path) -> None:
    names = _OF_DATA_AND_MODEL
    if parent.data_sha256 is not None and child.data_sha256 is not None:
        names += ("data_sha256",)
    lines = disk.differing(*({name: each.to_dict()[name] for name in names} for each in (parent, child)))
    if lines:
        raise ValueError(f"a branch needs its parents' data and model; {run} differs:\n  " + "\n  ".join(lines))
    if (child.seed, child.stream) == (parent.seed, parent.stream):
        raise ValueError(
            f"stream={child.stream!r} is the one of the parents in {run}: children would repeat their parents' "
            "shuffles; name another one"
        )
