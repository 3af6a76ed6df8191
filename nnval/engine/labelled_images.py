"""A whole data set in memory, as it comes, and the hash that says which one it is."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nnval.engine.config import canonical_json


@dataclass(frozen=True)
class LabelledImages:
    """A data set before it is split.

    Attributes:
        images: (n, channels, height, width), uint8; or float32 in [0, 1].
        labels: (n,), int64 in [0, classes).
        classes: number of classes.
        test_images: the last so many are its official test images; 0: it comes in one piece.
    """

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    classes: int
    test_images: int = 0

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of pixels, labels, shape, classes and the number of test images; file names play no part.

        Example:
            >>> images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.arange(2)
            >>> LabelledImages(images, labels, 2).sha256[:16]
            'fa4262339db9d9ba'
        """
        header = {
            "classes": self.classes,
            "pixels": self.images.dtype.name,
            "shape": list(self.images.shape),
            "test_images": self.test_images,
        }
        digest = hashlib.sha256(canonical_json(header).encode())
        # Little-endian whatever the processor, and without a copy where it is so already.
        digest.update(np.ascontiguousarray(self.images, self.images.dtype.newbyteorder("<")).data)
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        return digest.hexdigest()
