"""A run on disk: files that are whole or absent, one process at a time, and no mixing of different runs.

::

    RUN/config.json         what the run is, without its members; written first, never changed
        environment.json    versions and processor; no host name, user or path
        execution.json      choices made at the start that affect rounding; never changed
        members/0000-0255/  a block: curves.csv, checkpoint.pt, snapshot_0050.pt, members.csv, done.json
        curves.csv          all blocks merged, by member and epoch
        members.csv         how each member ended
        done.json           the only sign that all blocks are complete

Any number of processes, on any machines that share the directory, may work in it. ``RUN/.lock`` is held for moments,
to write what is common to all; ``.lock`` of a block by whoever trains it. Files are locked, not directories: over NFS a
lock on a directory would be seen on one machine only.
"""

import contextlib
import errno
import glob
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nnval.engine.config import WITHOUT_EFFECT

try:
    import fcntl
except ImportError:  # not on Windows: there the user has to see that a directory has one process
    fcntl = None

SCHEMA = 2
CONFIG, ENVIRONMENT, EXECUTION = "config.json", "environment.json", "execution.json"
CURVES, MEMBERS, DONE, CHECKPOINT = "curves.csv", "members.csv", "done.json", "checkpoint.pt"
BLOCKS = "members"
LOCK = ".lock"
OF_MEMBERS = ("members", "first_member")
"""Fields of a training config that ``config.json`` leaves out: a run can be extended, and trained in parts."""


class RunDirectoryError(ValueError):
    """A directory cannot be used for this run; nothing in it has been changed."""


class StorageError(OSError):
    """Writing failed; what was saved before is intact and the run can be resumed."""


class Interrupted(RuntimeError):
    """Training was stopped by the user and can be resumed."""


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            error.errno,
            f"could not write {path} ({error.strerror or error}); what was saved before is intact: make room or mend "
            "the disk, then run the same command again to go on from there",
        ) from error


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    # Makes a rename survive a power failure; not every system can open a directory.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file: at any instant the old or the new content is there, whole.

    It is written beside ``path``, under a name of this call's own: others may write the same file at the same time.

    Raises:
        StorageError: if it cannot be written; the old file is then still there.
    """
    with _storing(path):
        _remove_left_over(path)
        descriptor, temporary = _open_temporary(path)
        try:
            try:
                _write(descriptor, content)
                if fcntl is not None:  # before the lock is given up: from then on it would be taken for left over
                    os.replace(temporary, path)
            finally:
                os.close(descriptor)
            if fcntl is None:  # Windows renames no open file
                os.replace(temporary, path)
        except BaseException:  # Ctrl-C too
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # on a full disk its room is needed
            raise
    _sync_directory(path.parent)


def _open_temporary(path: Path) -> tuple[int, Path]:
    """A new file for a new ``path``: open, and locked, where files can be, until it is closed or its writer dies."""
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # no locks here: then left-over files stay
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if fcntl is None or os.fstat(descriptor).st_nlink > 0:  # else it was taken for left over before it was locked
            return descriptor, temporary
        os.close(descriptor)


def _remove_left_over(path: Path) -> None:
    """Removes temporary files of ``path`` whose writer is dead, which is to say that their lock is free."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        with contextlib.suppress(OSError):  # gone by now, somebody else's, or locked: its writer lives
            descriptor = os.open(temporary, os.O_WRONLY)  # over NFS it must be open for writing
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    temporary.unlink()
            finally:
                os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by indented JSON; see ``write_whole``."""
    write_whole(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        RunDirectoryError: if it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error


def write_from(path: Path, offset: int, content: bytes) -> int:
    """Cuts a file to ``offset`` bytes, appends, and returns the new length.

    Raises:
        StorageError: if that fails; a half-written end is cut off by the next call with this offset.
    """
    with _storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            if os.fstat(descriptor).st_size < offset:  # the system would fill the gap with zeros
                raise RunDirectoryError(
                    f"{path} is shorter than its checkpoint says: somebody changed it; remove {path.parent} to train "
                    "these members anew"
                )
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
            _write(descriptor, content)
        finally:
            os.close(descriptor)
    return offset + len(content)


def remove(path: Path) -> None:
    """Removes a file, if it is there, so that a power failure does not bring it back.

    Raises:
        StorageError: if that fails.
    """
    if path.exists():
        with _storing(path):
            path.unlink(missing_ok=True)
        _sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Creates a directory and its parents, if it isn't there.

    Raises:
        RunDirectoryError: if a file is in the way.
        StorageError: if it cannot be created.
    """
    try:
        with _storing(path):
            path.mkdir(parents=True, exist_ok=True)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError | NotADirectoryError):
            raise RunDirectoryError(f"{path} cannot be a directory: a file is in the way; choose another one") from None
        raise


def differing(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Lines like ``seed: 0 there, 1 asked for``, one per differing field."""
    absent = object()

    def shown(value: Any) -> str:
        text = "nothing" if value is absent else json.dumps(value)
        return text if len(text) <= 60 else text[:57] + "..."

    return [
        f"{name}: {shown(there.get(name, absent))} there, {shown(asked.get(name, absent))} asked for"
        for name in dict.fromkeys((*there, *asked))
        if there.get(name, absent) != asked.get(name, absent)
    ]


def _compared(description: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in description["config"].items() if name not in WITHOUT_EFFECT}
    return config | {f"branch.{name}": value for name, value in (description["branch"] or {}).items()}


def read_description(directory: Path) -> dict[str, Any]:
    """What ``config.json`` holds: schema, fingerprint, config and branch (None for a run from scratch).

    Raises:
        RunDirectoryError: if the directory holds no run of jostle.
    """
    if not (directory / CONFIG).is_file():
        raise RunDirectoryError(f"{directory} holds no run: it has no {CONFIG}; give the directory of a run")
    there = read_json(directory / CONFIG)
    if not isinstance(there, dict) or not {"fingerprint", "config", "branch"} <= there.keys():
        raise RunDirectoryError(f"{directory / CONFIG} was not written by jostle; choose another directory")
    if there.get("schema") != SCHEMA:
        raise RunDirectoryError(
            f"{directory} has schema {there.get('schema')!r}; this version of jostle reads {SCHEMA}: choose another "
            "directory, or remove it"
        )
    return there


def check_run(directory: Path, description: Mapping[str, Any]) -> bool:
    """Whether a directory already holds this very run; False if it is new.

    Args:
        directory: may be absent.
        description: what ``config.json`` shall hold.

    Raises:
        RunDirectoryError: if it holds something else.
    """
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise RunDirectoryError(f"{directory} cannot be a directory: a file is in the way; choose another one")
    if not (directory / CONFIG).exists():
        names = sorted(entry.name for entry in directory.iterdir())
        if foreign := [name for name in names if name != LOCK and not re.fullmatch(r"\..*\.tmp", name)]:  # left over
            raise RunDirectoryError(
                f"{directory} is not empty and holds no run (it has {', '.join(foreign[:3])}); choose a new directory"
            )
        return False
    lines = differing(_compared(read_description(directory)), _compared(description))
    if lines:
        raise RunDirectoryError(
            f"{directory} holds a run with another config; choose another directory, or train what is there:\n  "
            + "\n  ".join(lines)
        )
    return True


_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_held(directory: Path, name: str = LOCK) -> bool:
    """Whether a process, here or on another machine, holds a directory, or another lock file in it, at this moment."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY)
    except OSError:  # nobody ever held it
        return False
    try:
        return fcntl is not None and not _flock(descriptor, directory, shared=True)
    except RunDirectoryError:  # no locks here: nobody can tell
        return False
    finally:
        os.close(descriptor)


def _flock(descriptor: int, directory: Path, *, shared: bool = False) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise RunDirectoryError(
            f"the file system of {directory} cannot lock files ({error.strerror}), so nothing would keep two processes "
            "from training the same members; use a directory elsewhere, or --no-lock (lock=False) and see to it that "
            "one process alone trains there"
        ) from error
    return True


@contextlib.contextmanager
def trying(directory: Path, *, name: str = LOCK, lock: bool = True) -> Iterator[bool]:
    """Holds a directory for this process, if nobody else does; that ends with the process, however that ends.

    Args:
        directory: exists.
        name: of the lock file.
        lock: False holds nothing, for file systems without locks.

    Yields:
        Whether it is held; False if another process, or another call in this one, holds it.

    Raises:
        RunDirectoryError: if the file system cannot lock.
        StorageError: if the lock file cannot be written.
    """
    if fcntl is None or not lock:
        yield True
        return
    with _storing(directory / name):
        descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o666)  # over NFS it must be open for writing
    try:
        yield _flock(descriptor, directory)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path, *, pause: Callable[[], None] | None = None, lock: bool = True) -> Iterator[None]:
    """Holds a directory for this process.

    Args:
        directory: exists.
        pause: is called as long as another process holds it, and then it is tried again; None refuses instead.
        lock: see ``trying``.

    Raises:
        RunDirectoryError: if another process, or another call in this one, holds it and there is no ``pause``.
    """
    while True:
        with trying(directory, lock=lock) as held:
            if held:
                yield
                return
        if pause is None:
            raise RunDirectoryError(
                f"another process is working in {directory}; wait for it, or choose another directory"
            )
        pause()


@contextlib.contextmanager
def opened(
    directory: Path,
    description: Mapping[str, Any],
    environment: Mapping[str, Any],
    *,
    pause: Callable[[], None] | None = None,
    lock: bool = True,
) -> Iterator[None]:
    """Holds the directory of a run, which is created or, if it holds this very run, continued.

    Args:
        directory: created if absent.
        description: what ``config.json`` holds.
        environment: what ``environment.json`` holds; if a run is continued in another one, that is added.
        pause, lock: see ``locked``.

    Raises:
        RunDirectoryError: if the directory holds something else or is in use.
        StorageError: if it cannot be written.
    """
    check_run(directory, description)  # before anything is created
    make_directory(directory)
    with locked(directory, pause=pause, lock=lock):
        if not check_run(directory, description):  # another process may have been faster
            write_json(directory / CONFIG, description)
        record_environment(directory, environment)
        yield


def record_environment(directory: Path, environment: Mapping[str, Any]) -> None:
    """Adds an environment to ``environment.json``, unless it is there; the directory is held by the caller."""
    recorded = read_json(directory / ENVIRONMENT) if (directory / ENVIRONMENT).exists() else None
    if recorded is None:
        write_json(directory / ENVIRONMENT, environment)
        return
    first = {name: value for name, value in recorded.items() if name != "continued_in"}
    if environment not in (first, *recorded.get("continued_in", [])):
        more = [*recorded.get("continued_in", []), environment]
        write_json(directory / ENVIRONMENT, {**first, "continued_in": more})
