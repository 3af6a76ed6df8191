"""``--once`` and ``--every``: which file holds the curves of which perturbation, done when."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnval.protocol_evidence import PerturbedCurves

MOST_FILES = 1000
"""A pattern that fits more files than this is taken for a mistake."""

_NAMED = re.compile(r"(?P<label>[^/\\=:]+)(?::(?P<epoch>[^/\\=:]*))?=(?P<path>.*)", re.DOTALL)
_PLACE_IN_STUDY = re.compile(r"(?:perturbed_once|periodic)/([^/]+)/P\d+")
_EPOCH_IN_NAME = re.compile(r"(?<![A-Z])P(\d{1,9})(?!\d)")
"""MLP20 is no epoch."""


@dataclass(frozen=True)
class PerturbedFile:
    """Where curves of perturbed runs are, and what was done to them.

    Attributes:
        label: name of the perturbation.
        epoch: P or P*.
        repeated: whether it was done every P epochs.
        path: of the file or directory.
    """

    label: str
    epoch: int
    repeated: bool
    path: Path

    def read(self, **reading: Any) -> PerturbedCurves:
        """Read the curves.

        Args:
            **reading: options of ``read_curves``.

        Returns:
            What ``advise`` takes.

        Raises:
            ValueError: as ``read_curves``, beginning with the file.
        """
        from nnval.advice import every, once

        try:
            return (every if self.repeated else once)(self.label, self.epoch, self.path, **reading)
        except ValueError as error:
            text, name = str(error), str(self.path)
            raise ValueError(text if name in text else f"{name}: {text}") from None


def perturbed_files(once: Sequence[str], every: Sequence[str]) -> list[PerturbedFile]:
    """The files behind all ``--once`` and ``--every``.

    Args:
        once: ``[NAME:EPOCH=]PATH`` each.
        every: ``NAME[:P]=PATH`` each; ``PATH`` alone will do for runs of jostle.

    Returns:
        The files, in the order given; those that fit a pattern by P.

    Raises:
        ValueError: for text of another form, files that are not there, or one whose label or epoch is not known.
    """
    return [
        file
        for repeated, texts in ((False, once), (True, every))
        for text in texts
        for file in _files(text, repeated=repeated)
    ]


def _files(text: str, *, repeated: bool) -> list[PerturbedFile]:
    option = "--every" if repeated else "--once"
    match = None if Path(text).exists() else _NAMED.fullmatch(text)
    label, epoch, pattern = (match["label"].strip(), match["epoch"], match["path"]) if match else (None, None, text)
    if not pattern:
        raise ValueError(f"{option} {text!r} names no file: write {option} {_form(repeated)}")
    if label == "":
        raise ValueError(f"{option} {text!r} has an empty name: write {option} {_form(repeated)}")
    given = None if epoch is None else _whole(epoch, f"{option} {text!r}")
    found = [_file(option, path, label, given, repeated=repeated) for path in _paths(option, pattern)]
    return sorted(found, key=lambda file: file.epoch)


def _form(repeated: bool) -> str:
    return "NAME:P=PATH, such as shuffle:20=every20.csv" if repeated else "NAME:EPOCH=PATH, such as shuffle:20=once.csv"


def _whole(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
        raise ValueError(f"{where}: epoch {text!r} must be a whole number, at least 1")
    return int(text)


def _paths(option: str, pattern: str) -> list[Path]:
    """The path itself if it is there, or all that fit it; * and ? are wild, brackets are not."""
    path = Path(pattern)
    if path.exists():
        return [path]
    if "*" not in pattern and "?" not in pattern:
        raise ValueError(f"{option}: {pattern} does not exist")
    found = sorted(glob.glob(pattern.replace("[", "[[]")))
    if not found:
        raise ValueError(f"{option}: no file fits {pattern}")
    if len(found) > MOST_FILES:
        raise ValueError(f"{option}: {len(found):,} files fit {pattern}; give a pattern that fits {MOST_FILES} at most")
    return [Path(name) for name in found]


def _file(option: str, path: Path, label: str | None, epoch: int | None, *, repeated: bool) -> PerturbedFile:
    """One file, with what its config or its name tells where nothing was said."""
    known = _of_jostle(path)
    if known is not None:
        its_label, its_epoch, is_repeated = known
        if is_repeated is None:
            raise ValueError(f"{option}: {path} is a run of jostle that was perturbed neither once nor every P epochs")
        if is_repeated != repeated:
            what, other = ("every", "--every") if is_repeated else ("once, at epoch", "--once")
            raise ValueError(f"{option}: the runs of {path} were perturbed {what} {its_epoch}; they belong to {other}")
        if epoch is not None and epoch != its_epoch:
            raise ValueError(f"{option}: epoch {epoch} was given for {path}, but its config says {its_epoch}")
        return PerturbedFile(label or its_label, its_epoch, repeated, path)
    if repeated and epoch is None:
        marks = _EPOCH_IN_NAME.findall(path.name) or _EPOCH_IN_NAME.findall(path.parent.name)
        epoch = int(marks[-1]) if marks else None
    if label is None or epoch is None:
        lacks = "the name of the perturbation" if label is None else "P" if repeated else "the epoch"
        raise ValueError(
            f"{option}: {path} does not say {lacks}; write {option} {_form(repeated)}"
            + (", or call the file ..._P20.csv" if repeated and label is not None else "")
        )
    if epoch < 1:
        raise ValueError(f"{option}: the name of {path} says P={epoch}, which must be at least 1")
    return PerturbedFile(label, epoch, repeated, path)


def _of_jostle(path: Path) -> tuple[str, int, bool | None] | None:
    """Label, epoch, and whether they were perturbed again and again (None: never), of a run of jostle; else None."""
    file = path / "config.json"
    if not file.is_file():
        return None
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        config, branch = description["config"], description["branch"]
        perturbation, interval = config["perturbation"], config["interval"]
        if perturbation is None or (branch is None) == (interval is None):
            return "", 0, None
        label, place = str(perturbation["name"]), _PLACE_IN_STUDY.fullmatch(str(config["stream"]))
        if place is not None and label != "full_reset":
            label = place[1]  # a study may have several perturbations of one kind
        return label, int(interval if branch is None else branch["epoch"]), branch is None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # somebody else's config.json
