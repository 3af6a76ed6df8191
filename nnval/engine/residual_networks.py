"""Networks with shortcuts: ResNets for small images and EfficientNet-B0.

Each is a function of the images' shape (channels, height, width) and the number of classes, and gives logits of shape
(batch, classes). Its weights are arbitrary until ``nnval.drop_in.initialisation`` draws them. All end in an average
over what is left of the image, so they take images of any size; those that end with one pixel, as 8x8 does in
``resnet18``, cannot train on batches of one image, since there is nothing to normalise then.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.feedforward_networks import Shape
from nnval.engine.torchvision_pair import import_torchvision


def resnet18(shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet-18, its first convolution 3x3 with stride 1 and no pooling after it: for 32x32 pixels.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Raises:
        ValueError: if torchvision cannot be imported.

    Example:
        >>> sum(weights.numel() for weights in resnet18((3, 32, 32), 10).parameters())
        11173962

    Reference: [he2016] arXiv 1512.03385 v1, table 1; [meir2025] arXiv 2502.04121 v1, section V (first layers).
    """
    network: Any = import_torchvision("torchvision.models").resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which skips every other pixel and adds channels of zeros if it must."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self._stride, self._added = stride, outputs - inputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shortcut = images if self._stride == 1 else images[:, :, :: self._stride, :: self._stride]
        if self._added:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self._added))
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return self.relu(residual + shortcut)


def thin_resnet(shape: Shape, classes: int, blocks: int) -> nn.Sequential:
    """The ResNet of 6 ``blocks`` + 2 layers that [he2016] has for CIFAR: 16, 32 and 64 channels, shortcuts of option A.

    Option A has no weights in its shortcuts. ResNet-20, 32, 44, 56 have 3, 5, 7, 9 blocks in each stage.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.
        blocks: in each of the three stages.

    Example:
        >>> [sum(weights.numel() for weights in thin_resnet((3, 32, 32), 10, blocks).parameters())
        ...  for blocks in (3, 5, 7, 9)]
        [269722, 464154, 658586, 853018]

    Reference: [he2016] arXiv 1512.03385 v1, section 4.2.
    """
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(blocks):
            layers.append(_Block(inputs, outputs, stride=1 if outputs == inputs else 2))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def efficientnet_b0(shape: Shape, classes: int) -> nn.Module:
    """Torchvision's EfficientNet-B0, its first convolution with stride 1: 32x32 pixels end as 2x2.

    Dropout and stochastic depth are torchvision's, 0.2 each: while training they draw from torch's global generator. It
    has no ReLU but SiLU.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Raises:
        ValueError: if torchvision cannot be imported.

    Example:
        >>> sum(weights.numel() for weights in efficientnet_b0((3, 32, 32), 10).parameters())
        4020358
    """
    network: Any = import_torchvision("torchvision.models").efficientnet_b0(num_classes=classes)
    network.features[0][0] = nn.Conv2d(shape[0], 32, 3, padding=1, bias=False)
    return network
