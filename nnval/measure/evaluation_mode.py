"""Networks whose loss is a function of weights and data alone, and the refusal of all others, with the reason."""

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import nn

_SAME = 1e-6


def prepare_for_evaluation(module: nn.Module, inputs: torch.Tensor, *, frozen_statistics: bool = False) -> None:
    """Put a network into the mode in which it evaluates, if it computes the same in training.

    Args:
        module: the network.
        inputs: of a few samples, on which both modes are compared.
        frozen_statistics: allow layers that normalise by statistics of the batch in training; they keep what they have.

    Raises:
        ValueError: if training and evaluation differ, by the name of the layer where that is known; or if the network
            draws random numbers.
    """
    for name, layer in module.named_modules():
        _refuse_layer(name, layer, frozen_statistics)
    training = copy.deepcopy(module).train()
    for layer in training.modules():
        if _normalises_by_batch(layer):
            layer.eval()
    module.eval()
    with torch.no_grad(), refuse_random_numbers(inputs.device):
        evaluated, trained = module(inputs), training(inputs)
    if not float((trained - evaluated).abs().max()) <= _SAME * float(evaluated.abs().max()):
        raise ValueError(
            f"module {type(module).__name__} computes other outputs in training than in evaluation, so its loss here "
            "would not be the one that is trained; leave out what makes the difference"
        )


@contextlib.contextmanager
def refuse_random_numbers(device: torch.device) -> Iterator[None]:
    """Notice whether torch's global generators were drawn from, and put them back.

    Args:
        device: where the work is done.

    Raises:
        ValueError: at the end, if they were.
    """
    before = torch.random.get_rng_state()
    before_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
        drawn = not torch.equal(before, torch.random.get_rng_state())
        drawn |= before_cuda is not None and not torch.equal(before_cuda, torch.cuda.get_rng_state(device))
    finally:
        torch.random.set_rng_state(before)
        if before_cuda is not None:
            torch.cuda.set_rng_state(before_cuda, device)
    if drawn:
        raise ValueError(
            "the network or its loss draws random numbers (dropout, augmentation, noise), so it is no function of the "
            "weights; leave them out"
        )


def _normalises_by_batch(layer: nn.Module) -> bool:
    # BatchNorm of every dimension, and InstanceNorm with running statistics.
    tracking = isinstance(layer, nn.modules.batchnorm._NormBase) and layer.track_running_stats
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) or tracking


def _refuse_layer(name: str, layer: nn.Module, frozen_statistics: bool) -> None:
    probability = getattr(layer, "p", 0.0) if isinstance(layer, nn.modules.dropout._DropoutNd) else 0.0
    if probability > 0:
        raise ValueError(
            f"layer {name!r} is {layer}: with dropout the training loss is random and no function of the weights; set "
            "p=0"
        )
    if _normalises_by_batch(layer) and not frozen_statistics:
        raise ValueError(
            f"layer {name!r} is {type(layer).__name__}, whose output in training depends on the batch, so a mean loss "
            "over samples does not exist; use a network without it, or frozen_statistics=True to keep its running "
            "statistics as constants, which is another loss than the one trained"
        )
