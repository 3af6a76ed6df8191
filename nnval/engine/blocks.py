"""Blocks of members on disk: which there are, how they are planned, and how far each has come, from its files alone.

A block is the directory ``members/<first>-<last>``; that it exists means that it is planned. Members of a run from
scratch are the numbers from first to last, those of a branch the children among them.
"""

import csv
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from nnval.engine import run_directory as disk

_MOST_BYTES_IN_LINE = 64


@dataclass(frozen=True)
class Block:
    """Members that train as one stack and share their files.

    Attributes:
        path: its directory.
        members: ids, in increasing order.
    """

    path: Path
    members: tuple[int, ...]

    @property
    def done(self) -> bool:
        """Whether it is trained to its end."""
        return (self.path / disk.DONE).exists()


@dataclass(frozen=True)
class BlockProgress:
    """How far a block had come when it was last written.

    Attributes:
        epoch: the last one in its curves; 0 before the first.
        training: members that took part in it and go on; 0 at the end.
        work: member-epochs that are done; of a member that has ended, all epochs count.
    """

    epoch: int
    training: int
    work: int


def children_of(branch: Mapping[str, Any] | None) -> list[int] | None:
    """Members of a branch, from its record in ``config.json``; None for a run from scratch."""
    if branch is None:
        return None
    count = branch["children_per_parent"]
    return [parent * count + child for parent in branch["members"] for child in range(count)]


def block_name(members: Sequence[int]) -> str:
    """Name of the directory of a block."""
    first, last = members[0], members[-1]
    return f"{first:04d}" if first == last else f"{first:04d}-{last:04d}"


def planned_blocks(directory: Path, children: Iterable[int] | None) -> list[Block]:
    """All blocks of a run, by their first members.

    Args:
        directory: of the run.
        children: see ``children_of``.
    """
    blocks = []
    for path in (directory / disk.BLOCKS).glob("[0-9]*"):
        if (match := re.fullmatch(r"(\d+)(?:-(\d+))?", path.name)) is None:
            continue
        range_ = range(int(match[1]), int(match[2] or match[1]) + 1)
        members = tuple(range_) if children is None else tuple(child for child in children if child in range_)
        blocks.append(Block(path, members))
    return sorted(blocks, key=lambda block: block.members)


def plan_blocks(
    directory: Path, members: Sequence[int], children: Sequence[int] | None, *, most: int, workers: int
) -> list[Block]:
    """Plans those of the members that no block has yet; the directory of the run is held by the caller.

    Args:
        directory: of the run.
        members: wanted, in increasing order: a range, or all children.
        children: see ``children_of``.
        most: members in a block.
        workers: there shall be at least as many new blocks, if there are as many members.

    Returns:
        All blocks, old and new, that hold any of the members.
    """
    planned = planned_blocks(directory, children)
    owned = {member for block in planned for member in block.members}
    missing = sum(member not in owned for member in members)
    if missing or not all(block.done for block in planned):
        # First of all: from now on, what is merged is not everything.
        disk.remove(directory / disk.DONE)
    if missing:
        rounds = math.ceil(missing / (most * workers))
        size = most if workers == 1 else math.ceil(missing / (rounds * workers))
        # A block is named by its first and last member, so that it must not reach across one that has a block.
        for has_block, neighbours in groupby(members, key=owned.__contains__):
            stretch = [] if has_block else list(neighbours)
            for begin in range(0, len(stretch), size):
                disk.make_directory(directory / disk.BLOCKS / block_name(stretch[begin : begin + size]))
    wanted = set(members)
    return [block for block in planned_blocks(directory, children) if not wanted.isdisjoint(block.members)]


def progress_of(block: Block, epochs: int) -> BlockProgress:
    """How far a block has come; reads the end of its curves only.

    Args:
        block: planned.
        epochs: the horizon.
    """
    count = len(block.members)
    if block.done:
        return BlockProgress(epochs, 0, count * epochs)
    try:
        with (block.path / disk.CURVES).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (count + 1) * _MOST_BYTES_IN_LINE))
            lines = file.read().split(b"\n")[1:-1]  # without the header, or a line cut at its beginning, or at its end
    except FileNotFoundError:
        return BlockProgress(0, count, 0)
    if not lines:
        return BlockProgress(0, count, 0)
    last = lines[-1].split(b",")[1]
    training = len(list(takewhile(lambda line: line.split(b",")[1] == last, reversed(lines))))
    epoch = int(last)
    return BlockProgress(epoch, training if epoch < epochs else 0, (count - training) * epochs + training * epoch)


def ends_of(block: Block, target: float | None) -> dict[str, int]:
    """How many members of a block have ended in each way; of an unfinished one, as far as its curves tell.

    Args:
        block: planned.
        target: validation accuracy at which members stop.
    """
    counts: dict[str, int] = {}
    if block.done:
        with (block.path / disk.MEMBERS).open(encoding="ascii", newline="") as file:
            for row in csv.DictReader(file):
                counts[row["status"]] = counts.get(row["status"], 0) + 1
        return counts
    try:
        lines = (block.path / disk.CURVES).read_text(encoding="ascii").split("\n")[1:-1]
    except FileNotFoundError:
        return counts
    last = {cells[0]: cells for cells in (line.split(",") for line in lines)}
    latest = max((int(cells[1]) for cells in last.values()), default=0)
    for cells in last.values():
        if target is not None and float(cells[3]) >= target:
            counts["reached"] = counts.get("reached", 0) + 1
        elif int(cells[1]) < latest:
            counts["diverged"] = counts.get("diverged", 0) + 1
    return counts
