"""The networks of jostle as a script writes them: layer by layer, from the very module that jostle trains."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from nnval.engine import residual_networks
from nnval.engine.config import TrainingConfig
from nnval.engine.models import build_model
from nnval.script_text import Code, source_of

_Shape = tuple[int, int, int]


@dataclass(frozen=True)
class NetworkText:
    """How a network is written.

    Attributes:
        template: of its class, if it has one of its own.
        block: source of a class of which its layers are made; may be empty.
        layers: of ``nn.Sequential``, a line each; none if the template says all.
        draws: whether it draws random numbers while training, as dropout does.
    """

    template: str | None
    block: Code
    layers: tuple[Code, ...]
    draws: bool


def _pair(value: object) -> str:
    return str(value[0]) if isinstance(value, tuple) and value[0] == value[1] else str(value)


def _convolution(layer: nn.Conv2d) -> str:
    words = [str(layer.in_channels), str(layer.out_channels), _pair(layer.kernel_size)]
    words += [f"stride={_pair(layer.stride)}"] * (layer.stride != (1, 1))
    words += [f"padding={_pair(layer.padding)}"] * (layer.padding != (0, 0))
    words += ["bias=False"] * (layer.bias is None)
    return f"nn.Conv2d({', '.join(words)})"


def _block(layer: nn.Module) -> str:
    first = layer.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    return f"Block({first.in_channels}, {first.out_channels}, stride={_pair(first.stride)})"


_LAYERS: dict[str, Callable[..., str]] = {
    "Flatten": lambda layer: "nn.Flatten()",
    "Linear": lambda layer: f"nn.Linear({layer.in_features}, {layer.out_features})",
    "ReLU": lambda layer: "nn.ReLU(inplace=True)" if layer.inplace else "nn.ReLU()",
    "Conv2d": _convolution,
    "BatchNorm2d": lambda layer: f"nn.BatchNorm2d({layer.num_features})",
    "MaxPool2d": lambda layer: f"nn.MaxPool2d({layer.kernel_size})",
    "AdaptiveAvgPool2d": lambda layer: f"nn.AdaptiveAvgPool2d({_pair(layer.output_size)})",
    "_Block": _block,
    "BasicBlock": _block,
}


def _flat(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of a chain, those of chains inside it too."""
    for layer in network.children():
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        elif not isinstance(layer, nn.Identity):
            yield layer


def network_text(config: TrainingConfig, shape: _Shape, classes: int) -> NetworkText:
    """The network of a config.

    Args:
        config: its ``model``, one of jostle's, and ``hidden`` matter.
        shape: (channels, height, width) of the images.
        classes: number of logits.

    Raises:
        ValueError: if it is unknown, or the images do not suit it.
    """
    return _text(config.model, config.hidden, shape, classes)


@functools.cache
def _text(model: str, hidden: tuple[int, ...], shape: _Shape, classes: int) -> NetworkText:
    with torch.device("meta"):  # no weights are needed
        layers = list(_flat(build_model(TrainingConfig(model=model, hidden=hidden), shape, classes)))
    if model == "efficientnet_b0":
        return NetworkText("efficientnet.j2", Code(""), (), draws=True)
    if model == "resnet18":  # torchvision's has no layer that flattens: a line of its forward pass does
        layers.insert(-1, nn.Flatten())
    lines: list[str] = []
    for line, same in groupby(_LAYERS[type(layer).__name__](layer) for layer in layers):
        count = len(list(same))
        repeated = count > 1 and line.startswith("Block")
        lines += [f"*(Block({line.removeprefix('Block(')} for _ in range({count}))"] if repeated else [line] * count
    template, block = None, Code("")
    if model == "resnet18":
        template = "residual_block.j2"
    elif model.startswith("resnet"):
        block = source_of(residual_networks._Block, _Block="Block")
    return NetworkText(template, block, tuple(map(Code, lines)), draws=False)
