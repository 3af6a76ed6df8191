"""Labelled images, split into training, validation and test by a seed, with label noise on the training labels only.

A validation split decides (when a target is reached), a test split reports. All splits are stratified: each holds every
class in proportion to its frequency, to within one sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from nnval.engine.config import TrainingConfig
from nnval.engine.images import Images
from sim.random_streams import stream


@dataclass(frozen=True)
class LabelledImages:
    """A data set as it comes, before it is split.

    Attributes:
        images: (n, channels, height, width), float32 in [0, 1].
        labels: (n,), int64 in [0, classes).
        classes: number of classes.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    classes: int


@dataclass(frozen=True)
class ImageData:
    """The three splits, normalised by mean and standard deviation of the training images, per channel.

    Attributes:
        train: their labels may be wrong on purpose.
        validation: decides when a target is reached.
        test: reports.
        classes: number of classes.
    """

    train: Images
    validation: Images
    test: Images
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.shape

    def to(self, device: torch.device) -> Self:
        """The same data on a device."""
        splits = (images.to(device) for images in (self.train, self.validation, self.test))
        return type(self)(*splits, classes=self.classes)


def _digits(_: TrainingConfig) -> LabelledImages:
    try:
        from sklearn.datasets import load_digits  # here, because it costs a second
    except ImportError as error:
        raise ValueError("data='digits' comes with scikit-learn, which is missing: pip install 'jostle[nn]'") from error
    images, labels = load_digits(return_X_y=True)
    pixels = np.asarray(images, np.float32).reshape(-1, 1, 8, 8) / np.float32(16)
    return LabelledImages(pixels, np.asarray(labels, np.int64), classes=10)


DATASETS: dict[str, Callable[[TrainingConfig], LabelledImages]] = {"digits": _digits}


def _shares(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """``size`` samples in proportion to ``counts``, by largest remainder; the smaller class index wins a tie."""
    scaled = counts * size
    shares = scaled // counts.sum()
    largest = np.argsort(-(scaled % counts.sum()), kind="stable")[: size - shares.sum()]
    shares[largest] += 1
    return shares


def _split(
    labels: npt.NDArray[np.int64], classes: int, sizes: tuple[int, int], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Indices of the training, validation and test samples, each in random order."""
    order = rng.permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(classes)]
    parts = []
    for size in (*sizes, len(labels) - sum(sizes)):
        shares = _shares(np.array([len(indices) for indices in of_class]), size)
        taken = np.concatenate([indices[:share] for indices, share in zip(of_class, shares, strict=True)])
        parts.append(rng.permutation(taken))
        of_class = [indices[share:] for indices, share in zip(of_class, shares, strict=True)]
    return parts


def _with_label_noise(
    labels: npt.NDArray[np.int64], classes: int, fraction: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Exactly ``round(fraction * n)`` labels replaced by another one, uniformly."""
    wrong = rng.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
    return noisy


def load_data(config: TrainingConfig) -> ImageData:
    """The splits that a config asks for, on the CPU.

    Args:
        config: its ``data``, ``train_size``, ``validation_size``, ``label_noise`` and ``data_seed`` matter.

    Returns:
        Splits that depend on nothing else; label noise leaves the choice of samples as it is.

    Raises:
        ValueError: if the data set is unknown or too small for the splits.
    """
    if config.data not in DATASETS:
        raise ValueError(f"data={config.data!r} must be one of {', '.join(DATASETS)}")
    whole = DATASETS[config.data](config)
    sizes = (config.train_size, config.validation_size)
    if sum(sizes) >= len(whole.labels):
        raise ValueError(
            f"train_size={sizes[0]} and validation_size={sizes[1]} must leave test samples: "
            f"{config.data} has {len(whole.labels)} images"
        )
    train, validation, test = _split(whole.labels, whole.classes, sizes, stream(config.data_seed, "split"))
    labels = _with_label_noise(
        whole.labels[train], whole.classes, config.label_noise, stream(config.data_seed, "label_noise")
    )
    axes = (0, 2, 3)
    mean = whole.images[train].mean(axes, dtype=np.float64, keepdims=True)
    deviation = whole.images[train].std(axes, dtype=np.float64, keepdims=True)
    deviation[deviation == 0] = 1  # a constant channel carries nothing, and stays at 0

    def ready(indices: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> Images:
        inputs = ((whole.images[indices] - mean) / deviation).astype(np.float32)
        return Images(torch.from_numpy(inputs), torch.from_numpy(labels))

    return ImageData(
        train=ready(train, labels),
        validation=ready(validation, whole.labels[validation]),
        test=ready(test, whole.labels[test]),
        classes=whole.classes,
    )
