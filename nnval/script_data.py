"""The data of a script: what it can read by itself, and the library's functions by which it splits them."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnval.engine import datasets, images
from nnval.engine.config import TrainingConfig
from nnval.engine.labelled_images import LabelledImages
from nnval.script_text import Code, constant, literal, source_of

DIGITS_FILE = "digits.csv"
"""What lies beside a script that trains on the digits."""


@dataclass(frozen=True)
class _Archive:
    """An original archive of CIFAR, and what in it are the images; the last file holds the test images."""

    name: str
    sha256: str
    files: tuple[str, ...]
    labels: str
    classes: int


_ARCHIVES = {
    "cifar10": _Archive(
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        (*(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)), "cifar-10-batches-py/test_batch"),
        "labels",
        10,
    ),
    "cifar100": _Archive(
        "cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        ("cifar-100-python/train", "cifar-100-python/test"),
        "fine_labels",
        100,
    ),
}
_CIFAR_SHAPE, _CIFAR_IMAGES, _CIFAR_TESTS = (3, 32, 32), 60_000, 10_000

DATA = ("digits", *_ARCHIVES)
"""What a script can read by itself."""


@dataclass(frozen=True)
class ScriptData:
    """What a script must know about its data.

    Attributes:
        shape: (channels, height, width) of the images.
        classes: their number.
        train_size: samples to train on.
        as_bytes: whether images stay bytes in memory.
        sha256: of the decoded whole, as in ``TrainingConfig``; None if it is not at hand.
    """

    shape: tuple[int, int, int]
    classes: int
    train_size: int
    as_bytes: bool
    sha256: str | None


@functools.cache
def _digits() -> LabelledImages:
    return datasets._digits(TrainingConfig(), datasets.Loading())


@functools.cache
def digits_file() -> bytes:
    """The embedded digits as a script reads them: a line for each image, its 64 pixels from 0 to 16 and its label.

    Raises:
        ValueError: if scikit-learn is missing.
    """
    whole = _digits()
    pixels = np.rint(whole.images.reshape(len(whole.labels), -1) * 16).astype(np.int64)
    rows = np.concatenate([pixels, whole.labels[:, np.newaxis]], axis=1)
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()


def data_of(config: TrainingConfig) -> ScriptData:
    """The data of a config, whose sizes are checked as training does; those of CIFAR need not be there.

    Args:
        config: its ``data`` is one of ``DATA``.

    Raises:
        ValueError: if the sizes do not fit the data, or scikit-learn is missing.
    """
    archive = _ARCHIVES.get(config.data)
    if archive is None:
        whole, shape = _digits(), (1, 8, 8)
        if config.data_sha256 not in (None, whole.sha256):
            raise ValueError(
                f"data_sha256={config.data_sha256} was expected of {config.data}, but found {whole.sha256}"
            )
    else:
        labels = np.arange(_CIFAR_IMAGES) % archive.classes  # as balanced as the real ones
        whole = LabelledImages(np.zeros((0, *_CIFAR_SHAPE), np.uint8), labels, archive.classes, _CIFAR_TESTS)
        shape = _CIFAR_SHAPE
    train_size = len(datasets._splits(config, whole)[0])
    if config.batch_size > train_size:
        raise ValueError(
            f"batch_size={config.batch_size} must be <= {train_size}, the training samples: an epoch has full batches "
            "only"
        )
    return ScriptData(shape, whole.classes, train_size, archive is not None, None if archive else whole.sha256)


_NAMES = {
    "_split": "split",
    "_shares": "class_shares",
    "_with_label_noise": "with_label_noise",
    "_scale_and_offset": "scale_and_offset",
}


def data_values(config: TrainingConfig, data: ScriptData) -> dict[str, Any]:
    """What the templates ask about the data: truth values, names from jostle's lists, and functions of the library.

    Args:
        config: of the script.
        data: see ``data_of``.
    """
    functions: list[Callable[..., Any]] = [datasets._shares, datasets._split]
    functions += [datasets._with_label_noise] * bool(config.label_noise)
    functions += [datasets._scale_and_offset] * data.as_bytes
    augmented = config.augmentation == "crop_flip"
    chosen = "augmented(images.pixels[samples], augmentations[number])" if augmented else "images.pixels[samples]"
    return {
        "data": config.data,
        "data_word": Code(config.data),
        "bytes": data.as_bytes,
        "validation_from": config.validation_from,
        "report_part": 1 if config.validation_size < _CIFAR_TESTS else 0,
        "label_noise": bool(config.label_noise),
        "split_functions": [source_of(function, **_NAMES) for function in functions],
        "augmentation": augmented,
        "augmented": source_of(images.augmented),
        "inputs_of_samples": Code(f"images.inputs({chosen})" if data.as_bytes else chosen),
        "pixels_name": Code("pixels" if data.as_bytes else "inputs"),
    }


def data_constants(config: TrainingConfig, data: ScriptData) -> list[Code]:
    """The constants of a script about its data.

    Args:
        config: of the script.
        data: see ``data_of``.
    """
    archive = _ARCHIVES.get(config.data)
    if archive is None:
        lines = [
            Code(f"DATA = Path(__file__).with_name({literal(DIGITS_FILE)})"),
            constant("DATA_SHA256", hashlib.sha256(digits_file()).hexdigest()),
            constant("DATA_ORIGIN", "jostle generate writes it beside this script"),
        ]
    else:
        lines = [
            constant("DATA_DIRECTORY", config.data_dir or "."),
            Code(f"DATA = Path(DATA_DIRECTORY, {literal(archive.name)})"),
            constant("DATA_SHA256", archive.sha256),
            constant("DATA_ORIGIN", f"get {archive.name} from https://www.cs.toronto.edu/~kriz/cifar.html"),
            constant("DATA_FILES", archive.files),
            constant("LABELS", archive.labels),
            constant("TEST_SIZE", _CIFAR_TESTS),
        ]
    lines += [
        constant("CLASSES", data.classes),
        constant("TRAIN_SIZE", data.train_size),
        constant("VALIDATION_SIZE", config.validation_size),
        constant("DATA_SEED", config.data_seed, "of the splits: all seeds and members share them"),
    ]
    if config.label_noise:
        lines.append(constant("LABEL_NOISE", config.label_noise, "the fraction of training labels that are wrong"))
    if config.augmentation == "crop_flip":
        lines.append(constant("SHIFT", images.SHIFT, "images move by up to so many pixels"))
        lines.append(constant("AUGMENTATIONS", images.AUGMENTATIONS, "ways to mirror an image (or not) and shift it"))
    return lines
