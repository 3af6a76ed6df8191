"""Scalars in TensorBoard event files: each folder with such files is a run, each tag a metric.

Records are framed as TFRecord: length, checksum of the length, an ``Event`` message, its checksum. A file that is cut
off within its last record is normal, because a run was killed or is still being written; what is damaged elsewhere is
an error, where TensorBoard itself would show the beginning only. Messages are decoded by the package ``tensorboard``,
which is imported when a file is read.
"""

import importlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnval.measure.curve_bytes import content
from nnval.measure.curve_numbers import Floats, Whole, shortest_decimals

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


@dataclass(eq=False)
class Scalars:
    """Values of one tag in all runs, one entry per event."""

    run: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    is_single: list[bool] = field(default_factory=list)

    def columns(self) -> tuple[Whole, Whole, Floats]:
        """Run (a number), step and value; those in single precision as the shortest decimals."""
        value, single = np.array(self.value, dtype=float), np.array(self.is_single, dtype=bool)
        if single.any():
            with np.errstate(over="ignore"):
                value[single] = shortest_decimals(value[single].astype(np.float32))
        return np.array(self.run, dtype=np.int64), np.array(self.step, dtype=np.int64), value


def is_event_file(name: str) -> bool:
    """Whether TensorBoard would read a file of this name."""
    return "tfevents" in name


def read_scalars(runs: Sequence[Sequence[Path]]) -> tuple[dict[str, Scalars], list[Path]]:
    """All scalars of several runs.

    Args:
        runs: the event files of each.

    Returns:
        Values by tag, and the files that are cut off in their last record.

    Raises:
        ValueError: if ``tensorboard`` is missing, or a file is damaged.
    """
    decode = _decoder()
    tags: dict[str, Scalars] = {}
    cut: list[Path] = []
    for run, paths in enumerate(runs):
        for path in paths:
            data = content(path)
            for start, end in _records(data, path, cut):
                for step, tag, value, is_single in decode(data, start, end, path):
                    scalars = tags.setdefault(tag, Scalars())
                    scalars.run.append(run)
                    scalars.step.append(step)
                    scalars.value.append(value)
                    scalars.is_single.append(is_single)
    return tags, cut


def _records(data: bytes, path: Path, cut: list[Path]) -> Iterator[tuple[int, int]]:
    """Where the messages are; a file that ends within a record is added to ``cut``."""
    at = 0
    while at < len(data):
        if len(data) < at + _HEADER.size:
            cut.append(path)
            return
        length, checksum = _HEADER.unpack_from(data, at)
        if _masked_checksum(data[at : at + 8]) != checksum:
            if not any(data[at:]):  # blocks that the system had reserved when the machine went down
                cut.append(path)
                return
            raise _damaged(path, at)
        at += _HEADER.size
        if len(data) < at + length + _CHECKSUM.size:
            cut.append(path)
            return
        yield at, at + length
        at += length + _CHECKSUM.size


def _damaged(path: Path, at: int) -> ValueError:
    return ValueError(
        f"{path} is no file of TensorBoard events, or is damaged at byte {at}: copy it again, or leave it out"
    )


def _decoder() -> Callable[[bytes, int, int, Path], Iterator[tuple[int, str, float, bool]]]:
    """A function from a message to the scalars in it: step, tag, value, whether in single precision."""
    try:
        event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2").Event()
        make_ndarray = importlib.import_module("tensorboard.util.tensor_util").make_ndarray
    except ImportError as error:
        raise ValueError(
            "reading TensorBoard events needs the package tensorboard, which is missing: pip install 'jostle[logs]'"
        ) from error

    def decode(data: bytes, start: int, end: int, path: Path) -> Iterator[tuple[int, str, float, bool]]:
        try:
            event.ParseFromString(data[start:end])
        except Exception as error:  # DecodeError is defined in another place in each version of protobuf
            raise _damaged(path, start) from error
        values = [value for value in event.summary.value if _is_scalar(value)]
        # Checked only where something is read: messages with images are long.
        if values and _masked_checksum(data[start:end]) != _CHECKSUM.unpack_from(data, end)[0]:
            raise _damaged(path, start)
        for value in values:
            if value.HasField("simple_value"):
                yield event.step, value.tag, value.simple_value, True
                continue
            try:
                array = make_ndarray(value.tensor)
            except Exception as error:  # a tensor whose shape and content disagree: TypeError, ValueError, ...
                raise _damaged(path, start) from error
            if array.size == 1 and array.dtype.kind in "fiu":
                yield event.step, value.tag, float(array.reshape(())), array.dtype.itemsize < 8

    return decode


def _is_scalar(value: Any) -> bool:
    if value.HasField("simple_value"):
        return True
    # Written by TensorFlow 2 and by torch with new_style=True; text and histograms are tensors too.
    return value.HasField("tensor") and value.metadata.plugin_data.plugin_name in ("scalars", "")


@cache
def _checksum_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def _masked_checksum(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord has it."""
    table, crc = _checksum_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
