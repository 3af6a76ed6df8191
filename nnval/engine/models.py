"""The networks by name. All give logits of shape (batch, classes)."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

from nnval.engine.config import TrainingConfig

Shape = tuple[int, int, int]


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
    channels, height, width = shape
    side = min(height, width)
    if side < 4:
        raise ValueError(f"model='lenet' needs images of at least 4x4 pixels, not {height}x{width}; use model='mlp'")
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


MODELS: dict[str, Callable[[TrainingConfig, Shape, int], nn.Module]] = {
    "mlp": lambda config, shape, classes: mlp(shape, classes, config.hidden),
    "lenet": lambda _, shape, classes: lenet(shape, classes),
}


def build_model(config: TrainingConfig, data_shape: Shape, classes: int) -> nn.Module:
    """The network that a config names, on the CPU; its weights are arbitrary until ``initialise`` draws them.

    Args:
        config: its ``model`` and ``hidden`` matter.
        data_shape: (channels, height, width) of the images.
        classes: number of logits.

    Raises:
        ValueError: if the model is unknown or the images do not suit it.
    """
    if config.model not in MODELS:
        raise ValueError(f"model={config.model!r} must be one of {', '.join(MODELS)}")
    # The constructors of torch's layers draw from the global generator, which must stay as it was.
    with torch.random.fork_rng(devices=[]):
        return MODELS[config.model](config, data_shape, classes)
