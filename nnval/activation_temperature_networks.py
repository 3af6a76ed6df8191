"""Small networks for small images, to see how a temperature depends on the kind of network: with and without BatchNorm.

Functions of (shape, classes) for ``--model nnval.activation_temperature_networks:convnet_bn``.
"""

from torch import nn

from nnval.engine.feedforward_networks import Shape
from nnval.engine.residual_networks import thin_resnet


def _convnet(shape: Shape, classes: int, normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = shape[0]
    for outputs, stride in ((16, 1), (32, 2), (32, 2)):
        layers.append(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=not normalised))
        layers += [nn.BatchNorm2d(outputs)] if normalised else []
        layers.append(nn.ReLU())
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def convnet_bn(shape: Shape, classes: int) -> nn.Sequential:
    """Three 3x3 convolutions (16, 32 and 32 channels), each with batch normalisation and ReLU, and an average.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Example:
        >>> sum(weights.numel() for weights in convnet_bn((1, 8, 8), 10).parameters())
        14458
    """
    return _convnet(shape, classes, normalised=True)


def convnet_plain(shape: Shape, classes: int) -> nn.Sequential:
    """The same without normalisation.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Example:
        >>> sum(weights.numel() for weights in convnet_plain((1, 8, 8), 10).parameters())
        14378
    """
    return _convnet(shape, classes, normalised=False)


def resnet8(shape: Shape, classes: int) -> nn.Sequential:
    """The thinnest of the ResNets for CIFAR, one block in each stage.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Example:
        >>> sum(weights.numel() for weights in resnet8((1, 8, 8), 10).parameters())
        75002
    """
    return thin_resnet(shape, classes, blocks=1)
