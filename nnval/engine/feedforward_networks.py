"""Networks without shortcuts: a perceptron, LeNet, a small ConvNet and VGG-16.

Each is a function of the images' shape (channels, height, width) and the number of classes, and gives logits of shape
(batch, classes). Its weights are arbitrary until ``nnval.drop_in.initialisation`` draws them.
"""

import itertools
import math

from torch import nn

from nnval.engine.torchvision_pair import import_torchvision

Shape = tuple[int, int, int]


def _check_side(model: str, shape: Shape, least: int, instead: str) -> None:
    _, height, width = shape
    if min(height, width) < least:
        raise ValueError(
            f"model={model!r} needs images of at least {least}x{least} pixels, not {height}x{width}; use {instead}"
        )


def mlp(shape: Shape, classes: int, hidden: tuple[int, ...] = (32, 32)) -> nn.Sequential:
    """Fully connected ReLU network.

    Args:
        shape: (channels, height, width) of the images.
        classes: number of logits.
        hidden: widths of the hidden layers; none gives a linear classifier.

    Example:
        >>> sum(weights.numel() for weights in mlp((1, 8, 8), 10).parameters())
        3466
    """
    widths = (math.prod(shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def lenet(shape: Shape, classes: int) -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling: two 5x5 convolutions (6 and 16 channels), then 120, 84 and ``classes`` units.

    A side of 32 or more is not padded. Below that the first convolution pads by 2 on each side, as a 28x28 digit lies
    in LeCun's 32x32 field; below 16 the second does so too, since nothing would be left of an 8x8 image otherwise.

    Args:
        shape: (channels, height, width) of the images; the smaller side decides about padding and must be >= 4.
        classes: number of logits.

    Raises:
        ValueError: if the images are too small.

    Example:
        >>> [sum(weights.numel() for weights in lenet(shape, 10).parameters())
        ...  for shape in ((3, 32, 32), (1, 32, 32), (1, 28, 28), (1, 8, 8))]
        [62006, 61706, 61706, 21386]
    """
    _check_side("lenet", shape, 4, "model='mlp'")
    channels, height, width = shape
    side = min(height, width)
    paddings = (2 if side < 32 else 0, 2 if side < 16 else 0)
    for padding in paddings:
        height, width = (height + 2 * padding - 4) // 2, (width + 2 * padding - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=paddings[0]),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=paddings[1]),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def convnet4(shape: Shape, classes: int) -> nn.Sequential:
    """Two 3x3 convolutions (32 and 64 channels), each with ReLU and pooling, then 128 and ``classes`` units.

    The "4-layer ConvNet" that [actcoolr] trains on Fashion-MNIST is not described there; this is ours.

    Args:
        shape: (channels, height, width) of the images, at least 4x4 pixels.
        classes: number of logits.

    Raises:
        ValueError: if the images are too small.

    Example:
        >>> sum(weights.numel() for weights in convnet4((1, 28, 28), 10).parameters())
        421642
    """
    _check_side("convnet4", shape, 4, "model='mlp'")
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def vgg16(shape: Shape, classes: int) -> nn.Sequential:
    """Torchvision's thirteen convolutions of VGG-16 with batch normalisation, and one linear layer in place of three.

    What the five poolings leave (1x1 of 32x32 pixels) is averaged, so larger images have as many parameters.

    Args:
        shape: (channels, height, width) of the images, at least 32x32 pixels.
        classes: number of logits.

    Raises:
        ValueError: if the images are too small, or torchvision cannot be imported.

    Example:
        >>> sum(weights.numel() for weights in vgg16((3, 32, 32), 10).parameters())
        14728266
    """
    _check_side("vgg16", shape, 32, "model='convnet4', or 'resnet20', which has no least size")
    vgg = import_torchvision("torchvision.models.vgg")
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=True)
    features[0] = nn.Conv2d(shape[0], 64, 3, padding=1)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
