"""MNIST, Fashion-MNIST and CIFAR through torchvision, which checks the files of CIFAR before it unpickles them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnval.engine.image_cache import cache_directory
from nnval.engine.labelled_images import LabelledImages
from nnval.engine.torchvision_pair import import_torchvision


@dataclass(frozen=True)
class PublishedSet:
    """A data set of torchvision.

    Attributes:
        loader: name of its class in ``torchvision.datasets``.
        folder: where that looks, in the data directory.
        classes: number of classes.
    """

    loader: str
    folder: str
    classes: int


PUBLISHED = {
    "cifar10": PublishedSet("CIFAR10", "cifar-10-batches-py", 10),
    "cifar100": PublishedSet("CIFAR100", "cifar-100-python", 100),
    "fashion-mnist": PublishedSet("FashionMNIST", "FashionMNIST/raw", 10),
    "mnist": PublishedSet("MNIST", "MNIST/raw", 10),
}


def published_directory(data_dir: str | None) -> Path:
    """Where torchvision's data sets lie, and where downloads go: in the cache, unless one says otherwise."""
    if data_dir is not None:
        return Path(data_dir)
    try:
        return cache_directory() / "downloads"
    except OSError as error:
        raise ValueError(f"data_dir=None needs a place for data sets ({error}), or use --data-dir") from error


def read_published(name: str, directory: Path, *, download: bool = False) -> LabelledImages:
    """A data set of torchvision, whose official test images come last.

    Args:
        name: one of PUBLISHED.
        directory: where its folder lies.
        download: whether torchvision fetches what is missing.

    Raises:
        ValueError: if it is not there, damaged, or cannot be fetched; or if torchvision cannot be imported.
    """
    published = PUBLISHED[name]
    remedy = (
        f"give the directory that holds {published.folder} by --data-dir, or have it fetched to there by --download"
    )
    if not download and not (directory / published.folder).is_dir():
        raise ValueError(f"data={name!r} is not in {directory}: {remedy}")
    loader = getattr(import_torchvision("torchvision.datasets"), published.loader)
    try:
        # The pickles of CIFAR could run code. Its class always compares all files with the MD5 sums of the official
        # ones first, and refuses others.
        splits = [loader(directory, train=train, download=download) for train in (True, False)]
        images = np.concatenate([np.asarray(split.data) for split in splits])
        labels = np.concatenate([np.asarray(split.targets, np.int64) for split in splits])
        if images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(f"{images.dtype} images {images.shape}, labels {labels.shape}")
        if labels.min() < 0 or labels.max() >= published.classes:
            raise ValueError(f"labels from {labels.min()} to {labels.max()}")
    except (RuntimeError, ValueError, AssertionError, TypeError, LookupError, OSError) as error:
        raise ValueError(
            f"data={name!r} in {directory} is incomplete, damaged or could not be fetched ({error}): {remedy}"
        ) from error
    pixels = images[:, np.newaxis] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return LabelledImages(pixels, labels, published.classes, test_images=len(splits[1].targets))
