"""Folders and archives of a dozen small images, right and wrong ones."""

import io
import tarfile

import numpy as np
from PIL import Image

from nnval.engine.image_files import list_folder, read_archive, read_folder

COMPRESSIONS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}


def pixels_of(number, shape=(6, 5, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def contents(splits=("train", "test"), classes=("cat", "dog"), each=3, shape=(6, 5, 3)):
    """Names and bytes of a small data set; the images are numbered in the order of their names."""
    prefixes = [f"{split}/" for split in splits] or [""]
    names = [f"{prefix}{name}/{n:03}.png" for prefix in prefixes for name in classes for n in range(each)]
    return {name: encoded(pixels_of(number, shape)) for number, name in enumerate(names)}


def make_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_archive(path, files, compression="xz", extra=()):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member)
    return path


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(path, **options):
    return read_folder(list_folder(path), **options) if path.is_dir() else read_archive(path, **options)


def put(files, **changes):
    """A copy with files added, or removed where the content is None; ``__`` stands for a slash."""
    changed = files | {name.replace("__", "/"): content for name, content in changes.items()}
    return {name: content for name, content in changed.items() if content is not None}
