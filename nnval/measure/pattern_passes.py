"""Forward passes that read the activation patterns of a network and leave nothing behind.

What is compared differs in weights alone. All passes see the same batch in the same mode and draw the same random
numbers: dropout keeps the same units. Weights, buffers, modes and torch's generators, on the CPU and the GPUs in use,
are what they were before; what a network counts elsewhere, or a hook of its own keeps, is not undone. A pass takes the
memory of an inference and a byte for each input of a ReLU, of which a bit is kept.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nnval.measure.pattern_counts import PatternChanges, PatternRule, RateSweep
from nnval.measure.relu_calls import ReluCalls, packed, unpacked

_torch: Any = torch  # its type stubs leave out the operations on lists

_SEED = 2021
"""Of the random numbers that a network draws while it is measured: any, but the same for all passes."""

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a call of the network, by position and by name."""
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Patterns:
    """All patterns of one pass, packed into bits.

    Attributes:
        signs: whether the inputs of ReLUs were above 0, all layers in one, see ``relu_calls.packed``.
        shapes: of the inputs of the ReLUs.
        finite: whether all inputs were finite, a tensor of no dimension.
        rule: what a pattern is.
    """

    signs: torch.Tensor
    shapes: list[torch.Size]
    finite: torch.Tensor
    rule: PatternRule

    def changes_to(self, others: Sequence["Patterns"]) -> PatternChanges:
        """From these patterns to others of the same batch, a row for each.

        Raises:
            ValueError: if other ReLUs were called.
        """
        rows = []
        for other in others:
            if self.shapes != other.shapes:
                raise ValueError(
                    f"two passes of one batch called ReLUs on other shapes ({len(self.shapes)} and {len(other.shapes)} "
                    "calls): a network that chooses its way by its weights or by chance cannot be compared with itself"
                )
            differing = unpacked(self.signs ^ other.signs)
            sizes = [shape.numel() for shape in self.shapes]
            layers = differing[: sum(sizes)].split(sizes)
            pairs = zip(layers, self.shapes, strict=True)
            rows.append(torch.stack([self._changed(layer.view(shape)) for layer, shape in pairs]))
        return PatternChanges(
            torch.stack(rows).cpu().numpy(),
            np.array([self._count(shape) for shape in self.shapes]),
            (self.finite & torch.stack([other.finite for other in others])).cpu().numpy(),
            self.rule.reduce,
        )

    def _changed(self, differing: torch.Tensor) -> torch.Tensor:
        if self.rule.pattern == "position":
            differing = differing.amax(self.rule.channels_of(differing.shape))
        elif self.rule.pattern == "sample":
            differing = differing.flatten(1).amax(1)
        return differing.sum()

    def _count(self, shape: torch.Size) -> int:
        patterns = {"position": shape[self.rule.channels_of(shape)], "sample": shape[1:].numel(), "bit": 1}
        return shape.numel() // patterns[self.rule.pattern]


def patterns_of(model: nn.Module, inputs: Inputs, rule: PatternRule, weights: Weights | None = None) -> Patterns:
    """The patterns of a batch in one forward pass, in the modes that the modules are in; nothing is changed by it.

    Args:
        model: the network.
        inputs: of the pass, as ``as_inputs`` makes them.
        rule: what a pattern is.
        weights: by name, instead of the model's own.

    Raises:
        ValueError: for weights of names or shapes that the model lacks, or a pass without ReLU.
    """
    model, weights = unwrapped(model), weights or {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers())
    if weights:
        _check_weights(model, weights, parameters | dict(model.named_buffers(remove_duplicate=False)))
    # Passes write to copies of the buffers, which are many and small: a GPU copies them by few kernels.
    copies = {name: torch.empty_like(buffer) for name, buffer in buffers.items()}
    if copies:
        _torch._foreach_copy_(list(copies.values()), [weights.get(name, buffers[name]).detach() for name in copies])
    signs: list[torch.Tensor] = []
    shapes: list[torch.Size] = []
    sums: list[torch.Tensor] = []

    def see(activation: torch.Tensor) -> None:
        rule.channels_of(activation.shape)  # refuses what it does not have
        signs.append((activation > 0).flatten())
        shapes.append(activation.shape)
        # A sum is finite only if all of its terms are; it takes a tenth of the time of looking at each.
        sums.append(activation.sum(dtype=torch.promote_types(activation.dtype, torch.float32)))

    calls = ReluCalls(see, smooth=rule.smooth)
    with torch.no_grad(), _repeated_random_numbers(parameters.values()), calls:
        torch.func.functional_call(model, {**weights, **copies}, *inputs)
    if not signs:
        others = ", ".join(f"{name} {count} times" for name, count in calls.calls.items())
        raise ValueError(
            f"{type(model).__name__} called no ReLU on activations of shape (batch, channels, ...), and activation "
            "patterns are about ReLU networks. "
            + (f"It called {others}: smooth=True takes the signs of those inputs" if others else "Use one with ReLUs")
        )
    return Patterns(packed(torch.cat(signs)), shapes, torch.stack(sums).isfinite().all(), rule)


def _check_weights(model: nn.Module, weights: Weights, own: Weights) -> None:
    for name, tensor in weights.items():
        if name not in own:
            raise ValueError(
                f"{name!r} is no parameter of {type(model).__name__}; it has {', '.join(list(own)[:3])}, ..."
            )
        if tensor.shape != own[name].shape:
            raise ValueError(f"{name!r} has the shape {tuple(tensor.shape)}, the model's {tuple(own[name].shape)}")


def sweep_of(
    model: nn.Module, inputs: Inputs, rule: PatternRule, before: Weights, direction: Weights, rates: Sequence[float]
) -> RateSweep:
    """``lr_sweep`` in the modes that the modules are in."""
    values = np.asarray(rates, dtype=float)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"rates={rates} must be one or more finite numbers > 0")
    if missing := direction.keys() - before.keys():
        raise ValueError(f"the direction has {sorted(missing)}, which the weights before the step lack")
    reference = patterns_of(model, inputs, rule, before)
    swept = []
    for rate in values.tolist():
        with torch.no_grad():
            moved = {name: torch.add(before[name], step, alpha=rate) for name, step in direction.items()}
        swept.append(patterns_of(model, inputs, rule, {**before, **moved}))
    changes = reference.changes_to(swept)
    return RateSweep(changes.changed, changes.patterns, changes.finite, rule.reduce, rates=values)


def as_inputs(batch: Any) -> Inputs:
    """Arguments of a call from a batch: a tensor, a tuple or list of arguments, or a mapping of arguments by name."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch), {}) if isinstance(batch, (tuple, list)) else ((batch,), {})


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without wrappers for parallel training and compilation."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    original = getattr(model, "_orig_mod", None)  # of torch.compile, whose module takes seconds to import
    return unwrapped(original) if isinstance(original, nn.Module) else model


@contextlib.contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Every module is in the mode again in which it was: training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _repeated_random_numbers(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Torch's generators begin with the same numbers each time, and are what they were in the end."""
    devices = sorted({tensor.device.index for tensor in tensors if tensor.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(_SEED)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(_SEED)
        yield
