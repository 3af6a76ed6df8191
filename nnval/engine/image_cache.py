"""Decoded images on disk, so that they are decoded once: an array that is mapped into memory and checked by its hash.

::

    CACHE/images/<key>/  images.npy, labels.npy, meta.json
    CACHE/archives/      hashes of archives, by path, size and time of change

CACHE is ``$JOSTLE_CACHE``, or ``jostle`` in ``$XDG_CACHE_HOME``, or ``~/.cache/jostle``; it may be deleted at any time.
The key says where the images come from. Entries are written beside their place and renamed to it, so several processes
may do so at once: one of them wins, and all have the same content.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnval.engine.config import canonical_json, fingerprint_of
from nnval.engine.image_files import FolderListing
from nnval.engine.labelled_images import LabelledImages

_FORMAT = 1
_ABANDONED_SECONDS = 24 * 3600.0  # what a killed process left half-written is removed by the next one after so long


def cache_directory() -> Path:
    """Where decoded images and downloads go; it need not exist.

    Raises:
        OSError: if there is no home directory and no variable says another place.
    """
    for variable, rest in (("JOSTLE_CACHE", "."), ("XDG_CACHE_HOME", "jostle")):
        if os.environ.get(variable):
            return Path(os.environ[variable], rest).absolute()
    try:
        return Path.home() / ".cache" / "jostle"
    except RuntimeError as error:
        raise OSError(f"{error}: set JOSTLE_CACHE to a directory") from error


def folder_identity(listing: FolderListing) -> dict[str, Any]:
    """What decoded images of a folder are kept under: its path, and names, sizes and times of change of its files."""
    digest = hashlib.sha256()
    for file in listing.files:
        digest.update(canonical_json([*file.parts, file.size, file.modified_ns]).encode())
    for folder in sorted(listing.folders):
        digest.update(canonical_json(folder).encode())
    return {"folder": str(listing.path.resolve()), "files": digest.hexdigest()}


def archive_identity(path: Path) -> dict[str, Any]:
    """What decoded images of an archive are kept under: the SHA-256 of its bytes.

    Reading a large archive takes a while, so its hash is kept until path, size or time of change are other ones.

    Raises:
        OSError: if it cannot be read.
    """
    status = path.stat()
    stamp = {"path": str(path.resolve()), "size": status.st_size, "modified_ns": status.st_mtime_ns}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(_note_of(path).read_text())
        if known["stamp"] == stamp and isinstance(known["sha256"], str):
            return {"archive": known["sha256"]}
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # a cache that cannot be written says so when the images are stored
        note = _note_of(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.parent / _unique()
        try:
            temporary.write_text(json.dumps({"stamp": stamp, "sha256": sha256}))
            os.replace(temporary, note)
        finally:
            temporary.unlink(missing_ok=True)
    return {"archive": sha256}


def _note_of(path: Path) -> Path:
    return cache_directory() / "archives" / f"{fingerprint_of({'path': str(path.resolve())})[:32]}.json"


def through_cache(
    identity: Mapping[str, Any], decode: Callable[[], LabelledImages]
) -> tuple[LabelledImages, tuple[str, ...]]:
    """The images of a source, from the cache if they are there.

    Args:
        identity: plain JSON that says which images they are, such as ``folder_identity``.
        decode: makes them from the source.

    Returns:
        The images, read-only where they come from the cache; and sentences for the user: about a damaged entry, or a
        cache that cannot be written, neither of which keeps anyone from training.
    """
    notices = []
    try:
        target = cache_directory() / "images" / fingerprint_of({"format": _FORMAT, **identity})[:32]
    except OSError as error:
        return decode(), (_not_kept(error),)
    try:
        return _load(target), ()
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        notices.append(f"the decoded images in {target} are damaged ({error}) and are decoded again")
    whole = decode()
    try:
        _store(target, whole, identity, replace=bool(notices))
    except OSError as error:
        notices.append(_not_kept(error))
    return whole, tuple(notices)


def _not_kept(error: OSError) -> str:
    where = "" if error.filename is None else f" {error.filename}"
    return (
        f"decoded images could not be kept for the next time ({error.strerror or error}{where}); JOSTLE_CACHE names "
        "another directory for them"
    )


def _load(target: Path) -> LabelledImages:
    if not target.exists():
        raise FileNotFoundError(target)
    try:
        meta = json.loads((target / "meta.json").read_text())
        images, labels = (
            np.asarray(np.lib.format.open_memmap(target / name, mode="r")) for name in ("images.npy", "labels.npy")
        )
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from None
    whole = LabelledImages(images, labels, meta["classes"], meta["test_images"])
    if whole.sha256 != meta["sha256"]:
        raise ValueError("their hash is another one")
    return whole


def _store(target: Path, whole: LabelledImages, identity: Mapping[str, Any], *, replace: bool) -> None:
    meta = {
        "identity": dict(identity),
        "classes": whole.classes,
        "test_images": whole.test_images,
        "sha256": whole.sha256,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    temporary = target.parent / _unique()
    try:
        temporary.mkdir()  # not by tempfile: other users of a common cache should be able to read it
        _write_array(temporary / "images.npy", whole.images)
        _write_array(temporary / "labels.npy", whole.labels)
        _write(temporary / "meta.json", json.dumps(meta, indent=2).encode())
        if replace:  # aside first: a directory cannot be renamed over another one
            with contextlib.suppress(OSError):  # another process has done so
                os.rename(target, temporary / "damaged")
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
        shutil.rmtree(target / "damaged", ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unique() -> str:
    return f"writing-{uuid.uuid4().hex}"


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    header, body = np.lib.format.header_data_from_array_1_0(array), np.ascontiguousarray(array).data
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(body)  # unlike np.save, says why where the disk is full
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sweep(directory: Path) -> None:
    for path in directory.glob("writing-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
