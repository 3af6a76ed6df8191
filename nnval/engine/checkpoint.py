"""All that a block of members needs to go on, and its bytes: the same state always gives the same bytes.

No generator state is in it: shuffles, initial weights and perturbations are numbered by member and epoch.
"""

import dataclasses
import io
import pickle
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnval.engine.member_stack import MemberStack, Tensors

SCHEMA = 2
STATUSES = ("reached", "horizon", "diverged")


UNREADABLE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What damage to a file of ``torch.save`` can end in."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read."""


@dataclass(frozen=True)
class Outcome:
    """How a member ended.

    Attributes:
        member: its id.
        status: ``"reached"`` the target, got to the ``"horizon"`` without it, or ``"diverged"``.
        epoch: the last one in its curve; for a diverged member the last good one, which may be 0.
        test_accuracy: then, in [0, 1]; nan for a diverged member.
    """

    member: int
    status: str
    epoch: int
    test_accuracy: float


@dataclass
class BlockState:
    """A block of members between two epochs.

    Attributes:
        epoch: completed epochs.
        stack: members still in training; at the horizon those that got there.
        schedule_origin: epoch after which the learning-rate schedule last began; negative if a branch carries on its
            parent's.
        schedule_length: epochs from there until a schedule that has an end is there.
        finished: outcomes so far.
        curve_bytes: length of the curve file that belongs to this state.
    """

    epoch: int
    stack: MemberStack
    schedule_origin: int
    schedule_length: int
    finished: list[Outcome] = field(default_factory=list)
    curve_bytes: int = 0


def _plain(tensors: Tensors) -> Tensors:
    # Interned names: pickle writes a string that it has met before as a reference, and whether two equal names are one
    # object differs between a fresh and a resumed run. Copies, since a view would be saved with all of its storage.
    return {sys.intern(name): tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def to_bytes(state: BlockState) -> bytes:
    """The state as a file of torch.save that ``torch.load(weights_only=True)`` reads."""
    finished = state.finished
    payload: dict[str, Any] = {
        "schema": SCHEMA,
        "epoch": state.epoch,
        "schedule_origin": state.schedule_origin,
        "schedule_length": state.schedule_length,
        "curve_bytes": state.curve_bytes,
        "members": torch.from_numpy(state.stack.members.copy()),
        "parameters": _plain(state.stack.parameters),
        "buffers": _plain(state.stack.buffers),
        "slots": {sys.intern(slot): _plain(tensors) for slot, tensors in state.stack.slots.items()},
        "steps": state.stack.steps,
        "finished_member": torch.tensor([outcome.member for outcome in finished], dtype=torch.int64),
        "finished_status": torch.tensor([STATUSES.index(outcome.status) for outcome in finished], dtype=torch.int64),
        "finished_epoch": torch.tensor([outcome.epoch for outcome in finished], dtype=torch.int64),
        "finished_test": torch.tensor([outcome.test_accuracy for outcome in finished], dtype=torch.float64),
    }
    target = io.BytesIO()
    torch.save(payload, target)
    return target.getvalue()


def loaded(content: bytes) -> Any:
    """What a file of ``torch.save`` holds, on the CPU, if all its check sums are right: torch does not look at them.

    Raises:
        CheckpointError: for a wrong check sum; one of ``UNREADABLE`` for other damage.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (wrong := archive.testzip()) is not None:
            raise CheckpointError(f"the check sum of its {wrong} is wrong")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def from_bytes(content: bytes) -> BlockState:
    """The state that ``to_bytes`` described, on the CPU.

    Raises:
        CheckpointError: if the bytes are not such a state.
    """
    try:
        payload = loaded(content)
        if payload["schema"] != SCHEMA:
            raise CheckpointError(f"its schema is {payload['schema']!r}, this version of jostle reads {SCHEMA}")
        columns = zip(
            payload["finished_member"].tolist(),
            (STATUSES[code] for code in payload["finished_status"].tolist()),
            payload["finished_epoch"].tolist(),
            payload["finished_test"].tolist(),
            strict=True,
        )
        stack = MemberStack(
            np.asarray(payload["members"]),
            payload["parameters"],
            payload["buffers"],
            payload["slots"],
            payload["steps"],
        )
        return BlockState(
            epoch=payload["epoch"],
            stack=stack,
            schedule_origin=payload["schedule_origin"],
            schedule_length=payload["schedule_length"],
            finished=[Outcome(*column) for column in columns],
            curve_bytes=payload["curve_bytes"],
        )
    except CheckpointError:
        raise
    except UNREADABLE as error:
        raise CheckpointError(f"it is damaged or no checkpoint of jostle: {error}") from error


def read_state(path: Path) -> BlockState:
    """The state in a file.

    Raises:
        CheckpointError: with the file's name, if it cannot be read.
    """
    try:
        return from_bytes(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(
            f"cannot read {path}: {error}; remove {path.parent} to train these members anew"
        ) from error


def snapshot_of(state: BlockState) -> BlockState:
    """What a snapshot keeps: the members still in training, without the outcomes of the others."""
    return dataclasses.replace(state, finished=[], curve_bytes=0)
