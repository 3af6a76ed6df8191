"""Labelled images in memory, on the device where networks train, and the inputs that networks see.

Colour images stay what they were decoded to, bytes: a quarter of the memory, and normalising a batch costs little
beside training on it. There is no loader: a batch is a selection by index.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F

SHIFT = 4
"""Augmented images move by up to so many pixels, in both directions."""

AUGMENTATIONS = 2 * (2 * SHIFT + 1) ** 2
"""How many ways there are to mirror (or not) and shift an image."""


@dataclass(frozen=True)
class Images:
    """One split of a data set.

    Attributes:
        pixels: (n, channels, height, width), uint8; or float32, ready as inputs.
        labels: (n,), int64.
        scale, offset: (channels, 1, 1), float32: inputs are scale * pixels + offset; None for ready inputs.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    scale: torch.Tensor | None = None
    offset: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> Self:
        """The same images on a device."""
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

    def inputs(self, samples: torch.Tensor, augmentations: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised float32 images (m, channels, height, width).

        Args:
            samples: (m,), indices, int64.
            augmentations: (m,), int64 in [0, AUGMENTATIONS), one for each; None for the images as they are.
        """
        chosen = self.pixels.index_select(0, samples)
        return self._normalised(chosen if augmentations is None else augmented(chosen, augmentations))

    def chunks(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All inputs and their labels in order, ``size`` at a time."""
        for pixels, labels in zip(self.pixels.split(size), self.labels.split(size), strict=True):
            yield self._normalised(pixels), labels

    def all_inputs(self) -> torch.Tensor:
        """All inputs at once."""
        return self._normalised(self.pixels)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.scale is None or self.offset is None:
            return pixels
        return (pixels.float() * self.scale).add_(self.offset)  # addcmul took three times as long on a CPU


def augmented(pixels: torch.Tensor, augmentations: torch.Tensor) -> torch.Tensor:
    """Images mirrored or not, and shifted with zeros from outside, each in its own way.

    Args:
        pixels: (m, channels, height, width), of any type.
        augmentations: (m,), int64 in [0, AUGMENTATIONS): mirror * 81 + 9 * (shift to the left + 4) + shift up + 4.

    Returns:
        Of the same shape and type.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> augmented(image, torch.tensor([81 + 9 * 4 + 4]))  # mirrored, not shifted
        tensor([[[[1., 0.],
                  [3., 2.]]]])
    """
    count, channels, height, width = pixels.shape
    device, side = pixels.device, 2 * SHIFT + 1
    up, left, mirrored = augmentations % side, augmentations // side % side, augmentations >= side * side
    columns = torch.arange(width, device=device).expand(count, width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + left[:, None]
    rows = torch.arange(height, device=device) + up[:, None]
    places = (rows[:, :, None] * (width + 2 * SHIFT) + columns[:, None, :]).view(count, 1, -1)
    framed = F.pad(pixels, (SHIFT, SHIFT, SHIFT, SHIFT)).view(count, channels, -1)
    return framed.gather(2, places.expand(count, channels, -1)).view_as(pixels)
