"""A user's own network by name, ``package.module:function``, checked before anything is trained."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from nnval.engine.feedforward_networks import Shape


def is_own(model: str) -> bool:
    """Whether a name means a user's function rather than a network of jostle's."""
    return ":" in model


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    """As under ``python -m``: a console script does not look for modules in the current directory."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()  # a file may be younger than what Python remembers of its directory
    try:
        yield
    finally:
        sys.path[:] = before


def _one_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _function(model: str) -> Callable[[Shape, int], Any]:
    name, _, attribute = model.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"model={model!r} must be package.module:function, such as my_networks:small_net")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # something that the module imports
            raise ValueError(f"model={model!r}: importing {name} failed ({_one_line(error)})") from error
        raise ValueError(
            f"model={model!r}: there is no module {error.name!r}, neither in the current directory {os.getcwd()} nor "
            "installed; change to the directory where it lies, or install it"
        ) from None
    except Exception as error:  # a stranger's code may raise anything
        raise ValueError(f"model={model!r}: importing {name} failed ({_one_line(error)})") from error
    if not hasattr(module, attribute):
        where = getattr(module, "__file__", None) or name
        raise ValueError(
            f"model={model!r}: {where} has no {attribute!r}; define it there, as def {attribute}(shape, classes)"
        )
    function = getattr(module, attribute)
    if not callable(function):
        raise ValueError(
            f"model={model!r}: {attribute} is a {type(function).__name__}, which cannot be called; it must be a "
            "function of (shape, classes) that returns a new torch.nn.Module"
        )
    return function


def _check_logits(model: str, network: nn.Module, shape: Shape, classes: int) -> None:
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, *shape))
    except Exception as error:  # a stranger's code may raise anything
        raise ValueError(
            f"model={model!r} does not take a batch of two images of (channels, height, width) = {shape} on the CPU "
            f"({_one_line(error)}); build it for the shape that it is called with"
        ) from error
    finally:
        network.train(training)
    found = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    if found != f"shape {(2, classes)}":
        raise ValueError(
            f"model={model!r} makes {found} of two images; it must return logits of shape (batch, classes), here "
            f"{(2, classes)}"
        )


def own_network(model: str, shape: Shape, classes: int) -> nn.Module:
    """The network that a user's function builds. Its weights will be drawn anew, by ``TrainingConfig.initialisation``.

    Args:
        model: ``package.module:function``; the current directory is looked in first, then what is installed.
        shape: (channels, height, width) of the images, the function's first argument.
        classes: number of logits, its second.

    Raises:
        ValueError: if there is no such module or function, it fails, or what it returns is no network that makes
            logits (batch, classes) of images, or has nothing to train.
    """
    with _current_directory_importable():
        function = _function(model)
        try:
            network = function(shape, classes)
        except Exception as error:  # a stranger's code may raise anything
            raise ValueError(
                f"model={model!r}: calling it with {shape}, {classes} failed ({_one_line(error)})"
            ) from error
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"model={model!r} returned a {type(network).__name__}; it must return a new torch.nn.Module"
            )
        _check_logits(model, network, shape, classes)
    if not any(weights.requires_grad for weights in network.parameters()):
        raise ValueError(f"model={model!r} has no parameter with requires_grad=True: there is nothing to train")
    return network
