"""The networks by name. All give logits of shape (batch, classes)."""

import functools
from collections.abc import Callable

import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.feedforward_networks import Shape, convnet4, lenet, mlp, vgg16
from nnval.engine.own_network import is_own, own_network
from nnval.engine.residual_networks import efficientnet_b0, resnet18, thin_resnet


def _of_images(network: Callable[[Shape, int], nn.Module]) -> Callable[[TrainingConfig, Shape, int], nn.Module]:
    return lambda _, shape, classes: network(shape, classes)


MODELS: dict[str, Callable[[TrainingConfig, Shape, int], nn.Module]] = {
    "mlp": lambda config, shape, classes: mlp(shape, classes, config.hidden),
    "lenet": _of_images(lenet),
    "convnet4": _of_images(convnet4),
    "resnet18": _of_images(resnet18),
    "resnet20": _of_images(functools.partial(thin_resnet, blocks=3)),
    "resnet32": _of_images(functools.partial(thin_resnet, blocks=5)),
    "resnet44": _of_images(functools.partial(thin_resnet, blocks=7)),
    "resnet56": _of_images(functools.partial(thin_resnet, blocks=9)),
    "vgg16": _of_images(vgg16),
    "efficientnet_b0": _of_images(efficientnet_b0),
}


def build_model(config: TrainingConfig, data_shape: Shape, classes: int) -> nn.Module:
    """The network that a config names, on the CPU; its weights are arbitrary until ``initialise`` draws them.

    Args:
        config: its ``model``, ``hidden`` and ``initialisation`` matter.
        data_shape: (channels, height, width) of the images.
        classes: number of logits.

    Raises:
        ValueError: if the model is unknown, the images do not suit it, torchvision is missing or does not fit torch, or
            a user's own function does not build a network that the initialisation knows.
    """
    # The constructors of torch's layers draw from the global generator, which must stay as it was.
    with torch.random.fork_rng(devices=[]):
        if not is_own(config.model):
            if config.model not in MODELS:
                raise ValueError(
                    f"model={config.model!r} must be one of {', '.join(MODELS)}, "
                    "or package.module:function for a network of your own"
                )
            return MODELS[config.model](config, data_shape, classes)
        network = own_network(config.model, data_shape, classes)
    try:
        initialise(network, config.initialisation, torch.Generator())  # pyright: ignore[reportArgumentType] -- it checks the name
    except ValueError as error:
        raise ValueError(
            f"model={config.model!r} cannot be initialised by name, as each member of an ensemble is: {error}"
        ) from None
    return network
