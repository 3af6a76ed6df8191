"""The bytes of a file that somebody else wrote: read whole, decompressed within limits, as UTF-8 text."""

import bz2
import gzip
import lzma
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MAXIMUM = 2**31
"""Bytes of uncompressed content that are read at most: about 10^8 rows."""

LARGEST_RATIO = 100
"""Of uncompressed to compressed size; logs have 3 to 50, a file that is made to fill the memory 200 and more."""

FLOOR = 2**26
"""Bytes below which any ratio will do."""

_CHUNK = 2**20
_OPENED: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_KINDS = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"%PDF": "a PDF", b"\x7fELF": "a program",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file", b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"7z\xbc\xaf": "a 7z archive", b"SQLite format 3": "a SQLite data base", b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array", b"\x80\x04": "a pickle", b"\x80\x05": "a pickle",
}  # fmt: skip


def content(path: Path) -> bytes:
    """What a file holds, decompressed if it is compressed by gzip, bzip2 or xz, or a zip archive of one file.

    What it is compressed by is read off its first bytes, whatever its name says. Sizes are checked while it is
    decompressed, so that a small file that expands to a huge one fails early.

    Args:
        path: of a regular file.

    Raises:
        ValueError: if it cannot be read, is damaged, too large or a special file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{path} is not a regular file: give a file of curves, or a directory")
        with path.open("rb") as file:
            magic = file.read(8)
            file.seek(0)
            if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                return _unzipped(file, path)
            for beginning, opened in _OPENED.items():
                if magic.startswith(beginning):
                    return _bounded(opened(file), file.tell, path)
            return _bounded(file, None, path)
    except ValueError:
        raise
    except EOFError as error:
        raise ValueError(f"{path} ends early: it is not all there; copy it again") from error
    except Exception as error:  # what decompressors raise on damaged data is no closed list; a password: RuntimeError
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _bounded(stream: IO[bytes], position: Callable[[], int] | None, path: Path) -> bytes:
    chunks, size = [], 0
    while chunk := stream.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if position is not None and size > max(FLOOR, LARGEST_RATIO * position()):
            raise ValueError(
                f"{path} expands to more than {LARGEST_RATIO} times its size, which logs do not: it seems made to fill "
                "the memory. If you trust it, decompress it yourself and give the result"
            )
        if size > MAXIMUM:
            raise ValueError(
                f"{path} has more than {MAXIMUM / 2**30:.0f} GiB of text: keep the columns of the run, the epoch and "
                "one metric, or write it as Parquet"
            )
    return b"".join(chunks)


def _unzipped(file: IO[bytes], path: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            raise ValueError(f"{path} holds {len(members)} files: it must hold one; unpack it and give the directory")
        start = members[0].header_offset
        with archive.open(members[0]) as stream:
            return _bounded(stream, lambda: max(1, file.tell() - start), path)


def as_text(data: bytes, path: Path) -> bytes:
    """Text as UTF-8 with line feeds, whether it was that or UTF-16, or had a byte order mark.

    Args:
        data: what a file holds.
        path: of the file, for messages.

    Raises:
        ValueError: if it is not text.
    """
    for magic, kind in _KINDS.items():
        if data.startswith(magic):
            raise ValueError(f"{path} is {kind}, not a log: give CSV, JSON lines, Parquet or TensorBoard events")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise ValueError(f"{path} is not the UTF-16 that it begins as: save it as UTF-8") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        raise ValueError(f"{path} is binary (byte {data.index(0)} is zero), not text: give CSV, JSON lines or Parquet")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8: byte {data[error.start]:#04x} at position {error.start}; save it as UTF-8"
            ) from error
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
