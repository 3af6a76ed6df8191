"""The cache of decoded images: what it keeps, damage, a full disk, many processes at once."""

import errno
import json
import os
import stat
import threading
import time

import numpy as np
import pytest

from nnval.engine import image_cache
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.image_cache import archive_identity, cache_directory, folder_identity, through_cache
from nnval.engine.image_files import list_folder
from nnval.engine.labelled_images import LabelledImages

pytestmark = pytest.mark.usefixtures("own_cache")


def small(number=0):
    return LabelledImages(np.full((4, 1, 2, 2), number, np.uint8), np.arange(4) % 2, 2, test_images=2)


def entry(cache):
    (path,) = (cache / "images").iterdir()
    return path


def never():
    raise AssertionError("decoded again")


def test_decoded_once(own_cache):
    first, notices = through_cache({"x": 1}, small)
    second, more = through_cache({"x": 1}, never)
    assert (notices, more) == ((), ())
    assert first.sha256 == second.sha256 == small().sha256
    assert (second.classes, second.test_images) == (2, 2)
    assert not second.images.flags.writeable
    assert sorted(path.name for path in entry(own_cache).iterdir()) == ["images.npy", "labels.npy", "meta.json"]
    assert through_cache({"x": 2}, lambda: small(2))[0].sha256 == small(2).sha256
    assert through_cache({"x": 1}, never)[0].sha256 == small().sha256


def pickled(path):
    np.save(path, np.array([print], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "images.npy").write_bytes((path / "images.npy").read_bytes()[:-1] + b"\x07"),
        lambda path: (path / "images.npy").write_bytes((path / "images.npy").read_bytes()[:-1]),
        lambda path: (path / "images.npy").write_bytes(b""),
        lambda path: (path / "images.npy").unlink(),
        lambda path: pickled(path / "labels.npy"),
        lambda path: (path / "labels.npy").write_bytes((path / "labels.npy").read_bytes()[:-1] + b"\x01"),
        lambda path: (path / "meta.json").write_text("{}"),
        lambda path: (path / "meta.json").write_text("[]"),
        lambda path: (path / "meta.json").write_text("nonsense"),
        lambda path: (path / "meta.json").unlink(),
    ],
)
def test_damaged_entry_is_rebuilt_and_said(own_cache, damage):
    through_cache({}, small)
    damage(entry(own_cache))
    whole, notices = through_cache({}, small)
    assert whole.sha256 == small().sha256
    assert len(notices) == 1
    assert "are damaged (" in notices[0]
    assert "decoded again" in notices[0]
    assert through_cache({}, never)[1] == ()
    assert entry(own_cache)  # nothing is left beside it


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JOSTLE_CACHE", str(tmp_path / "file" / "cache"))
    whole, notices = through_cache({}, small)
    assert whole.sha256 == small().sha256
    assert notices[-1].startswith("decoded images could not be kept for the next time (Not a directory")
    assert "JOSTLE_CACHE names another directory" in notices[-1]


def test_full_disk_leaves_nothing(own_cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        whole, notices = through_cache({}, small)
    assert whole.sha256 == small().sha256
    assert notices == (
        "decoded images could not be kept for the next time (No space left on device); JOSTLE_CACHE names another "
        "directory for them",
    )
    assert list((own_cache / "images").iterdir()) == []


def test_no_home_directory(monkeypatch):
    for variable in ("JOSTLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(image_cache.Path, "home", homeless)
    whole, notices = through_cache({}, small)
    assert whole.sha256 == small().sha256
    assert "set JOSTLE_CACHE to a directory" in notices[0]
    with pytest.raises(ValueError, match=r"data_dir=None needs a place for data sets .*--data-dir"):
        load_data(TrainingConfig(data="mnist"))


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.setenv("JOSTLE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "jostle"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "jostle"


@pytest.mark.parametrize("damaged", [False, True])
def test_many_at_once(own_cache, damaged):
    if damaged:
        through_cache({}, small)
        (entry(own_cache) / "meta.json").unlink()
    barrier, found = threading.Barrier(8), []

    def work():
        barrier.wait()
        for _ in range(20):
            found.append(through_cache({}, small)[0].sha256)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [small().sha256] * 160
    assert through_cache({}, never)[1] == ()
    assert entry(own_cache)


def test_abandoned_directories_are_swept(own_cache):
    old, new = own_cache / "images" / "writing-old", own_cache / "images" / "writing-new"
    for path in (old, new):
        path.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    through_cache({}, small)
    assert (old.exists(), new.exists()) == (False, True)


def test_entries_are_readable_by_others(own_cache):
    through_cache({}, small)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(entry(own_cache).stat().st_mode) == 0o777 & ~mask


def test_archive_is_hashed_once_and_known_by_content(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "x.tar"
    path.write_bytes(b"any")
    identity = archive_identity(path)
    with monkeypatch.context() as patch:
        patch.setattr(image_cache.hashlib, "file_digest", never)
        assert archive_identity(path) == identity
    elsewhere = tmp_path / "y.tar"
    elsewhere.write_bytes(path.read_bytes())
    assert archive_identity(elsewhere) == identity
    path.write_bytes(path.read_bytes() + b"\0")
    assert archive_identity(path) != identity
    for note in (own_cache / "archives").iterdir():
        note.write_text(json.dumps({"stamp": 1}))
    assert archive_identity(elsewhere) == identity


def test_folder_is_known_by_names_sizes_times_and_place(tmp_path):
    path = tmp_path / "x"
    (path / "train/cat").mkdir(parents=True)
    (path / "train/cat/000.png").write_bytes(b"any")
    identities = [folder_identity(list_folder(path))]
    assert folder_identity(list_folder(path)) == identities[0]
    os.utime(path / "train/cat/000.png", ns=(0, 0))
    identities.append(folder_identity(list_folder(path)))
    (path / "train/cat/000.png").rename(path / "train/cat/0.png")
    identities.append(folder_identity(list_folder(path)))
    (path / "train/fox").mkdir()
    identities.append(folder_identity(list_folder(path)))
    path.rename(tmp_path / "y")
    identities.append(folder_identity(list_folder(tmp_path / "y")))
    assert len({json.dumps(identity) for identity in identities}) == 5
