"""Which class and which split a file belongs to, by the folders it lies in."""

from collections import Counter
from collections.abc import Sequence

Parts = tuple[str, ...]
"""A name within a folder or an archive: ``("train", "cat", "1.png")``."""

LAYOUT = "train/<class>/<image> and test/<class>/<image>, or <class>/<image> throughout"


class ImageFilesError(ValueError):
    """A folder or archive of images cannot be used; the message names it and the file in it."""


def shown(parts: Parts) -> str:
    """A name as it may be printed: what a stranger called a file may hold anything."""
    return repr("/".join(parts))


def parts_of(name: str, where: str) -> Parts:
    """The parts of the name of an archive's member.

    Raises:
        ImageFilesError: if it leads out of the archive.

    Example:
        >>> parts_of("./train/cat/1.png", "cats.tar")
        ('train', 'cat', '1.png')
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise ImageFilesError(f"{where}: {name!r} leads out of the archive; pack it again with relative names")
    return parts


def by_class(
    files: Sequence[Parts], folders: Sequence[Parts], where: str
) -> tuple[dict[str, list[Parts]], dict[str, list[Parts]]]:
    """Files by class, everything sorted by name, of the training and of the official test images.

    Args:
        files: all image files.
        folders: those that are known, so that an empty one is seen.
        where: name of the whole, for errors.

    Returns:
        Training and test files; no test classes if the data comes in one piece.

    Raises:
        ImageFilesError: if a file lies elsewhere, a class is empty or only in one of train and test, or if there is one
            class only.

    Example:
        >>> by_class([("dog", "1.png"), ("cat", "2.png"), ("cat", "1.png")], [], "pets")
        ({'cat': [('cat', '1.png'), ('cat', '2.png')], 'dog': [('dog', '1.png')]}, {})
    """
    if not files:
        raise ImageFilesError(f"{where} holds no images; expected {LAYOUT}")
    around = _folders_around(files, folders)
    tops = sorted({name[around] for name in (*files, *folders) if len(name) > around})
    split = tops == ["test", "train"]
    if files[0][:around][-1:] == ("test",) or tops == ["test"]:
        raise ImageFilesError(f"{where} has a folder test and no folder train; expected {LAYOUT}")
    depth = around + split  # of the names of classes
    misplaced = [file for file in files if len(file) != depth + 2]
    if misplaced:
        depths = Counter(map(len, files))
        odd = min(misplaced, key=lambda file: depths[len(file)])  # a stray file and not the many that it confuses
        raise ImageFilesError(
            f"{where}: {shown(odd)} is not where an image is expected: {LAYOUT}; at the top there are "
            f"{', '.join(map(repr, tops[:5]))}{' and more' * (len(tops) > 5)}"
        )
    if not split:
        return _classes(files, folders, depth, where), {}
    train, test = (
        _classes(
            [name for name in files if name[around] == top],
            [name for name in folders if name[around : around + 1] == (top,)],
            depth,
            f"{where}, {top}",
        )
        for top in ("train", "test")
    )
    for name in sorted(train.keys() ^ test.keys()):
        there, lacking = ("train", "test") if name in train else ("test", "train")
        raise ImageFilesError(f"{where}: the class {name!r} is in {there}, but not in {lacking}")
    return train, test


def _folders_around(files: Sequence[Parts], folders: Sequence[Parts]) -> int:
    """How many folders are around classes, or around train and test; a lone train is one of them."""
    around = 0
    for _ in range(2):
        tops = {name[around] for name in (*files, *folders) if len(name) > around}
        if len(tops) == 1 and all(len(file) > around + 2 for file in files) and (around == 0 or tops == {"train"}):
            around += 1
    return around


def _classes(files: Sequence[Parts], folders: Sequence[Parts], depth: int, where: str) -> dict[str, list[Parts]]:
    names = {name[depth] for name in (*files, *folders) if len(name) > depth}
    of_class: dict[str, list[Parts]] = {name: [] for name in sorted(names)}
    for file in sorted(files):
        of_class[file[depth]].append(file)
    for name, members in of_class.items():
        if not members:
            raise ImageFilesError(f"{where}: the class {name!r} is an empty folder")
    if len(of_class) < 2:
        raise ImageFilesError(f"{where}: classes {list(of_class)} are too few, two are needed; expected {LAYOUT}")
    return of_class
