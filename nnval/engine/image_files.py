"""Images in class folders, as a directory or a tar archive, decoded to one uint8 array.

``train/<class>/<image>`` and ``test/<class>/<image>``, or ``<class>/<image>`` throughout for data in one piece; one
folder around all that is tolerated. Classes are numbered by their sorted names, and images sorted by name within a
class, so a folder and an archive of it give the same array.

The files may come from strangers. Nothing of an archive is written to disk, its links and devices are refused, and
Pillow is given a short list of formats: it would run another program on an EPS file.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nnval.engine.image_layout import LAYOUT, ImageFilesError, Parts, by_class, parts_of, shown
from nnval.engine.labelled_images import LabelledImages
from sim.ensemble import Progress

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may decode; of several frames the first."""

MOST_BYTES = 2**28
"""No image file is larger."""

_GREY, _COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_CHUNK = 64  # images per task: handing one over costs as much as decoding a small image
_PIXELS_WORTH_A_THREAD = 96 * 96  # of smaller images most time goes to Python, which threads only fight over


@dataclass(frozen=True)
class FolderFile:
    """A file in an image folder: its name there, in parts, and what changes when its content does."""

    parts: Parts
    size: int
    modified_ns: int


@dataclass(frozen=True)
class FolderListing:
    """What is in an image folder, without hidden files.

    Attributes:
        path: the folder.
        files: sorted by name.
        folders: those in it, empty ones too.
    """

    path: Path
    files: tuple[FolderFile, ...]
    folders: tuple[Parts, ...]


def list_folder(path: Path) -> FolderListing:
    """All files in a folder and its folders; links are followed.

    Raises:
        ImageFilesError: if it cannot be read, is nested too deeply, or holds something else than files and folders.
    """
    files: list[FolderFile] = []
    folders: list[Parts] = []

    def scan(folder: Path, parts: Parts) -> None:
        if len(parts) > 4:  # a link may lead back up
            raise ImageFilesError(f"{path}: {shown(parts)} is nested too deeply; expected {LAYOUT}")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                here = (*parts, entry.name)
                if entry.is_dir():
                    folders.append(here)
                    scan(Path(entry.path), here)
                elif entry.is_file():
                    status = entry.stat()
                    files.append(FolderFile(here, status.st_size, status.st_mtime_ns))
                else:
                    raise ImageFilesError(
                        f"{path}: {shown(here)} is no regular file (a broken link, a pipe or a device)"
                    )

    try:
        scan(path, ())
    except OSError as error:
        raise ImageFilesError(f"cannot read the image folder {path}: {error}") from error
    return FolderListing(path, tuple(sorted(files, key=lambda file: file.parts)), tuple(folders))


def read_folder(listing: FolderListing, *, progress: Progress | None = None) -> LabelledImages:
    """All images of a folder.

    Args:
        listing: of ``list_folder``.
        progress: called with the images that are decoded and all of them.

    Raises:
        ImageFilesError: if the folders are not laid out as above, or if a file is not an image that can be read, or of
            another size than the others; it names the file.
    """
    where = str(listing.path)
    names = [file.parts for file in listing.files]
    by_class(names, listing.folders, where)  # complains before the work
    sources = ((parts, listing.path.joinpath(*parts)) for parts in names)

    def advance(count: int) -> None:
        if progress is not None:
            progress(count, len(names), f"{count} images decoded")

    return _assembled(dict(_decoded(sources, where, advance)), listing.folders, where)


def read_archive(path: Path, *, progress: Progress | None = None) -> LabelledImages:
    """All images of a tar archive, plain or compressed by gzip, bzip2 or xz, read once from beginning to end.

    Args:
        path: the archive.
        progress: called with the bytes of the archive that are read and all of them.

    Raises:
        ImageFilesError: as ``read_folder`` does; or if the archive is cut short or damaged, or holds links, devices, or
            names outside itself.
    """
    folders: list[Parts] = []
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ImageFilesError(f"cannot read the archive {path}: {error}") from error
    with raw:
        size = os.fstat(raw.fileno()).st_size

        def advance(count: int) -> None:
            if progress is not None:
                progress(raw.tell(), size, f"{count} images decoded")

        images = dict(_decoded(_archive_members(raw, folders, str(path)), str(path), advance))
    return _assembled(images, folders, str(path))


# ---- Archives -------------------------------------------------------------------------------------------------------


class _StrictTarInfo(tarfile.TarInfo):
    """Complains where ``tarfile`` would take a damaged or missing header, other than the first, for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictTarInfo":
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)  # which says that this is the end
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise EOFError(f"{error} where a file or the end should be") from None


def _decompressed(raw: IO[bytes]) -> Any:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if magic == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    return contextlib.nullcontext(raw)


def _archive_members(raw: IO[bytes], folders: list[Parts], where: str) -> Iterator[tuple[Parts, bytes]]:
    """Names and contents of the files in order; names of folders are appended to ``folders``."""
    seen: set[Parts] = set()
    try:
        with (
            _decompressed(raw) as content,
            tarfile.open(fileobj=content, mode="r|", bufsize=1 << 16, tarinfo=_StrictTarInfo) as archive,
        ):
            for member in archive:
                parts = parts_of(member.name, where)
                if any(part.startswith(".") for part in parts):
                    continue
                if member.isdir():
                    if parts:
                        folders.append(parts)
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    kind = "a link" if member.issym() or member.islnk() else "a device or a pipe"
                    raise ImageFilesError(f"{where}: {shown(parts)} is {kind}; an archive of images holds files only")
                if parts in seen:
                    raise ImageFilesError(f"{where}: {shown(parts)} is in the archive twice")
                if member.size > MOST_BYTES:
                    raise ImageFilesError(f"{where}: {shown(parts)} has more than {MOST_BYTES} bytes, as no image does")
                seen.add(parts)
                yield parts, file.read()
            while content.read(1 << 16):  # to the checksum at the end
                pass
    except ImageFilesError:
        raise
    except Exception as error:  # of tarfile and of four decompressors
        if not seen and not folders:
            raise ImageFilesError(
                f"{where} is neither a folder nor a tar archive (.tar, .tar.gz, .tar.bz2, .tar.xz), or its beginning "
                f"is damaged ({error})"
            ) from error
        raise ImageFilesError(
            f"{where} is damaged or cut short after {len(seen)} files ({error}): fetch or copy it again"
        ) from error


# ---- Decoding -------------------------------------------------------------------------------------------------------


def _decode(content: bytes | Path, parts: Parts, where: str) -> npt.NDArray[np.uint8]:
    """(1 or 3, height, width)."""
    from PIL import Image, UnidentifiedImageError  # here, because the embedded data set does without

    name = f"{where}: {shown(parts)}"
    try:
        if isinstance(content, Path):
            if content.stat().st_size > MOST_BYTES:
                raise ImageFilesError(f"{name} has more than {MOST_BYTES} bytes, as no image does")
            content = content.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format == "PNG":  # its checksums are not looked at otherwise
                with Image.open(io.BytesIO(content), formats=FORMATS) as copy:
                    copy.verify()
            if image.mode not in _GREY + _COLOUR:
                raise ImageFilesError(
                    f"{name} has pixels of kind {image.mode}, which 8 bits cannot hold; convert it to 8 bits first"
                )
            if image.mode in _GREY:
                return np.asarray(image.convert("L"))[np.newaxis]
            if "transparency" in image.info:
                image = image.convert("RGBA")  # Pillow warns about the direct way
            colour = image if image.mode == "RGB" else image.convert("RGB")
            return np.ascontiguousarray(np.asarray(colour).transpose(2, 0, 1))
    except ImageFilesError:
        raise
    except UnidentifiedImageError:
        raise ImageFilesError(f"{name} is not an image of {', '.join(FORMATS)}, or its beginning is damaged") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageFilesError(f"{name} is refused: {error}") from None
    except Exception as error:  # whatever a decoder makes of a broken file
        raise ImageFilesError(f"{name} cannot be decoded ({error}); is it cut short or damaged?") from error


def _decoded(
    sources: Iterable[tuple[Parts, bytes | Path]], where: str, advance: Callable[[int], None]
) -> Iterator[tuple[Parts, npt.NDArray[np.uint8]]]:
    """Names and images in the order of the sources, all of the size of the first."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImageFilesError("reading images needs Pillow, which is missing: pip install 'jostle[nn]'") from error
    sources = iter(sources)
    first = next(sources, None)
    if first is None:
        return
    with warnings.catch_warnings():
        # Broken notes in a file (EXIF) do not matter, an image of more pixels than Pillow thinks reasonable does.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        first_image = _decode(first[1], first[0], where)
        size = first_image.shape[1:]

        def decode(chunk: list[tuple[Parts, bytes | Path]]) -> list[tuple[Parts, npt.NDArray[np.uint8]]]:
            return [(parts, _decode(content, parts, where)) for parts, content in chunk]

        threads = 1 if first_image[0].size < _PIXELS_WORTH_A_THREAD else min(8, os.cpu_count() or 1)
        count = 0
        for parts, image in chain([(first[0], first_image)], _in_threads(decode, sources, threads)):
            if image.shape[1:] != size:
                raise ImageFilesError(
                    f"{where}: {shown(parts)} has {_size(image.shape[1:])} pixels, but {shown(first[0])} has "
                    f"{_size(size)}: all images must be of one size, so resize them first"
                )
            count += 1
            if count % _CHUNK == 0:
                advance(count)
            yield parts, image
        advance(count)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"  # width first, as every image viewer says it


def _in_threads(function: Callable[[list[Any]], list[Any]], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """Results in order; no more than a few chunks are in memory before they are asked for."""
    items = iter(items)
    pending: deque[Future[list[Any]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while chunk := list(islice(items, _CHUNK)):
                pending.append(pool.submit(function, chunk))
                if len(pending) > 2 * threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _assembled(images: dict[Parts, npt.NDArray[np.uint8]], folders: Sequence[Parts], where: str) -> LabelledImages:
    train, test = by_class(list(images), folders, where)
    order = [(label, parts) for split in (train, test) for label, files in enumerate(split.values()) for parts in files]
    channels = max(image.shape[0] for image in images.values())
    pixels = np.empty((len(order), channels, *images[order[0][1]].shape[1:]), np.uint8)
    for place, (_, parts) in zip(pixels, order, strict=True):
        place[:] = images.pop(parts)  # grey among colour goes to all three channels
    labels = np.array([label for label, _ in order], np.int64)
    return LabelledImages(pixels, labels, len(train), test_images=sum(map(len, test.values())))
