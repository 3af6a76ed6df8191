"""Labelled images, split into training, validation and test by a seed, with label noise on the training labels only.

A validation split decides (when a target is reached), a test split reports. Whatever is drawn is stratified: it holds
every class in proportion to its frequency, to within one sample.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from nnval.engine.config import TrainingConfig
from nnval.engine.image_cache import archive_identity, folder_identity, through_cache
from nnval.engine.image_files import Progress, list_folder, read_archive, read_folder
from nnval.engine.images import Images
from nnval.engine.labelled_images import LabelledImages
from nnval.engine.torchvision_data import PUBLISHED, published_directory, read_published
from sim.random_streams import stream


@dataclass(frozen=True)
class ImageData:
    """The three splits, normalised by mean and standard deviation of the training images, per channel.

    Attributes:
        train: their labels may be wrong on purpose.
        validation: decides when a target is reached.
        test: reports.
        classes: number of classes.
        sha256: of the decoded whole, before it was split; see ``LabelledImages.sha256``.
        notices: sentences for the user, such as that decoded images could not be kept.
    """

    train: Images
    validation: Images
    test: Images
    classes: int
    sha256: str
    notices: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.shape

    def to(self, device: torch.device) -> Self:
        """The same data on a device."""
        splits = (images.to(device) for images in (self.train, self.validation, self.test))
        return type(self)(*splits, classes=self.classes, sha256=self.sha256, notices=self.notices)


@dataclass
class Loading:
    """How a data set is loaded, and what there was to say about it.

    Attributes:
        download: whether torchvision may fetch a data set that is missing.
        progress: called while images are decoded.
        notices: filled with sentences for the user.
    """

    download: bool = False
    progress: Progress | None = None
    notices: list[str] = field(default_factory=list)

    def through_cache(self, identity: dict[str, Any], decode: Callable[[], LabelledImages]) -> LabelledImages:
        """See ``image_cache.through_cache``; notices are collected."""
        whole, notices = through_cache(identity, decode)
        self.notices.extend(notices)
        return whole


def _digits(config: TrainingConfig, loading: Loading) -> LabelledImages:
    try:
        from sklearn.datasets import load_digits  # here, because it costs a second
    except ImportError as error:
        raise ValueError("data='digits' comes with scikit-learn, which is missing: pip install 'jostle[nn]'") from error
    images, labels = load_digits(return_X_y=True)
    pixels = np.asarray(images, np.float32).reshape(-1, 1, 8, 8) / np.float32(16)
    return LabelledImages(pixels, np.asarray(labels, np.int64), classes=10)


def _published(name: str, config: TrainingConfig, loading: Loading) -> LabelledImages:
    directory = published_directory(config.data_dir)
    read = partial(read_published, name, directory, download=loading.download)
    folder = directory / PUBLISHED[name].folder
    if not folder.is_dir():
        return read()  # fetches it, or complains
    return loading.through_cache({"data": name, **folder_identity(list_folder(folder))}, read)


def _image_folder(config: TrainingConfig, loading: Loading) -> LabelledImages:
    if config.data_dir is None:
        raise ValueError("data='image_folder' needs data_dir, the path of a folder or a tar archive (--data PATH)")
    path = Path(config.data_dir).expanduser()
    if path.is_dir():
        listing = list_folder(path)
        return loading.through_cache(folder_identity(listing), partial(read_folder, listing, progress=loading.progress))
    if not path.is_file():
        raise ValueError(f"data_dir={config.data_dir!r} must be an existing folder or tar archive of images")
    try:
        identity = archive_identity(path)
    except OSError as error:
        raise ValueError(f"cannot read the archive {path}: {error}") from error
    return loading.through_cache(identity, partial(read_archive, path, progress=loading.progress))


DATASETS: dict[str, Callable[[TrainingConfig, Loading], LabelledImages]] = {
    "digits": _digits,
    **{name: partial(_published, name) for name in PUBLISHED},
    "image_folder": _image_folder,
}


def data_options(text: str) -> dict[str, Any]:
    """The fields of a config for what a user calls data: a name, or the path of a folder or tar archive of images.

    Raises:
        ValueError: if it is neither.

    Example:
        >>> data_options("digits")
        {'data': 'digits'}
    """
    if text in DATASETS:
        return {"data": text}
    path = Path(text).expanduser()
    if not text or not path.exists():
        raise ValueError(
            f"data={text!r} must be one of {', '.join(DATASETS)}, or an existing path of a folder or a tar archive of "
            "images: train/<class>/* and test/<class>/*, or <class>/*"
        )
    return {"data": "image_folder", "data_dir": str(path.absolute())}


def _shares(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """``size`` samples in proportion to ``counts``, by largest remainder; the smaller class index wins a tie."""
    scaled = counts * size
    shares = scaled // counts.sum()
    largest = np.argsort(-(scaled % counts.sum()), kind="stable")[: size - shares.sum()]
    shares[largest] += 1
    return shares


def _split(
    labels: npt.NDArray[np.int64], classes: int, sizes: tuple[int, ...], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Indices of the samples of each size, and of all others, each in random order."""
    order = rng.permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(classes)]
    parts = []
    for size in sizes:
        shares = _shares(np.array([len(indices) for indices in of_class]), size)
        taken = np.concatenate([indices[:share] for indices, share in zip(of_class, shares, strict=True)])
        parts.append(rng.permutation(taken))
        of_class = [indices[share:] for indices, share in zip(of_class, shares, strict=True)]
    return [*parts, rng.permutation(np.concatenate(of_class))]


def _splits(config: TrainingConfig, whole: LabelledImages) -> list[npt.NDArray[np.int64]]:
    """Indices of the training, validation and test samples."""
    name, train, validation, tests = config.data, config.train_size, config.validation_size, whole.test_images
    images = len(whole.labels) - tests  # the training images, or all of them
    labels, rng = whole.labels[:images], stream(config.data_seed, "split")
    if not tests:
        if train is None or train + validation >= images:
            raise ValueError(
                f"train_size={train} and validation_size={validation} must leave test samples: {name} has {images} "
                f"images in one piece, so train_size + validation_size must be <= {images - 1}"
            )
        return _split(labels, whole.classes, (train, validation), rng)
    if config.validation_from == "train":
        train = images - validation if train is None else train
        if train < 1 or train + validation > images:
            raise ValueError(
                f"train_size={config.train_size} and validation_size={validation} must fit into the {images} training "
                f"images of {name}; its {tests} test images report, and validation_from='test' draws from them"
            )
        return [*_split(labels, whole.classes, (train, validation), rng)[:2], images + np.arange(tests)]
    train = images if train is None else train
    if train > images:
        raise ValueError(f"train_size={train} must be <= {images}, the training images of {name}")
    if validation > tests:
        raise ValueError(f"validation_size={validation} must be <= {tests}, the test images of {name}")
    drawn, others = _split(
        whole.labels[images:], whole.classes, (validation,), stream(config.data_seed, "validation_from_test")
    )
    return [
        _split(labels, whole.classes, (train,), rng)[0],
        images + drawn,
        images + (others if len(others) else drawn),
    ]


def _with_label_noise(
    labels: npt.NDArray[np.int64], classes: int, fraction: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Exactly ``round(fraction * n)`` labels replaced by another one, uniformly."""
    wrong = rng.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
    return noisy


def _scale_and_offset(pixels: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """What takes bytes to mean 0 and standard deviation 1 per channel; sums are exact."""
    channels, count = pixels.shape[1], pixels[:, 0].size
    sums, squares = np.zeros((2, channels), np.int64)
    for begin in range(0, len(pixels), 64):  # as many as stay in the processor's cache
        some = pixels[begin : begin + 64].astype(np.uint32)
        sums += some.sum((0, 2, 3), dtype=np.int64)
        squares += np.square(some).sum((0, 2, 3), dtype=np.int64)
    scale, offset = np.empty((2, channels, 1, 1), np.float32)
    for channel, (total, square) in enumerate(zip(sums.tolist(), squares.tolist(), strict=True)):
        # Python's integers: the difference of the products may need more than 64 bits.
        deviation = math.sqrt((count * square - total * total) / count**2) or 1.0
        scale[channel], offset[channel] = 1 / deviation, -total / count / deviation
    return torch.from_numpy(scale), torch.from_numpy(offset)


def _images(
    whole: LabelledImages, parts: Sequence[npt.NDArray[np.int64]], labels: Sequence[npt.NDArray[np.int64]]
) -> list[Images]:
    """The splits, training images first; a constant channel carries nothing, and stays at 0."""
    pixels: list[npt.NDArray[Any]] = [whole.images[part] for part in parts]
    scale = offset = None
    if whole.images.dtype == np.uint8:
        scale, offset = _scale_and_offset(pixels[0])
    else:
        mean = pixels[0].mean((0, 2, 3), dtype=np.float64, keepdims=True)
        deviation = pixels[0].std((0, 2, 3), dtype=np.float64, keepdims=True)
        deviation[deviation == 0] = 1
        pixels = [((part - mean) / deviation).astype(np.float32) for part in pixels]
    return [
        Images(torch.from_numpy(part), torch.from_numpy(of_part), scale, offset)
        for part, of_part in zip(pixels, labels, strict=True)
    ]


def load_data(config: TrainingConfig, *, download: bool = False, progress: Progress | None = None) -> ImageData:
    """The splits that a config asks for, on the CPU.

    Args:
        config: its fields about data matter, and ``batch_size``, which must not exceed the training samples.
        download: whether a data set of torchvision that is missing is fetched.
        progress: called while images are decoded, which happens once; see ``image_cache``.

    Returns:
        Splits that depend on nothing else; label noise leaves the choice of samples as it is.

    Raises:
        ValueError: if the data set is unknown, missing, damaged, another one than ``data_sha256`` says, or too small
            for the splits.
    """
    if config.data not in DATASETS:
        raise ValueError(f"data={config.data!r} must be one of {', '.join(DATASETS)}")
    loading = Loading(download, progress)
    whole = DATASETS[config.data](config, loading)
    sha256 = whole.sha256
    if config.data_sha256 not in (None, sha256):
        place = "" if config.data_dir is None else f" in {config.data_dir}"
        raise ValueError(
            f"data_sha256={config.data_sha256} was expected of {config.data}{place}, but found {sha256}: other images "
            "or labels, or JPEG files that another version of Pillow decodes differently"
        )
    train, validation, test = _splits(config, whole)
    if config.batch_size > len(train):
        raise ValueError(
            f"batch_size={config.batch_size} must be <= {len(train)}, the training samples: an epoch has full batches "
            "only"
        )
    labels = _with_label_noise(
        whole.labels[train], whole.classes, config.label_noise, stream(config.data_seed, "label_noise")
    )
    parts, label_parts = (train, validation, test), (labels, whole.labels[validation], whole.labels[test])
    return ImageData(
        *_images(whole, parts, label_parts), classes=whole.classes, sha256=sha256, notices=tuple(loading.notices)
    )
