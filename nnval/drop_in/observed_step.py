"""Activation patterns before and after a step of anybody's optimizer, on the batch that the step was made with.

Hooks do it: one on the network keeps the batch, two on the optimizer read the patterns before the step and count the
steps that were really made. Nothing of the network, the optimizer and torch's generators is changed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from nnval.measure.activation_patterns import PatternChanges, PatternRule, RateSweep, step_direction
from nnval.measure.pattern_passes import Inputs, Patterns, as_inputs, kept_modes, patterns_of, sweep_of, unwrapped

Result = TypeVar("Result")
Changes = TypeVar("Changes", bound=PatternChanges)

REPRODUCIBLE = 1e-3
"""Share of patterns that may differ between two passes with the same weights: rounding on a GPU, but not noise."""


class ObservedStep:
    """Measures the next step of an optimizer when it is told to.

    The batch is that of the last forward pass of the network before the step, in training mode and with gradients: the
    last part of it if gradients are accumulated, the first evaluation if the optimizer has a closure. Its first samples
    are copied, and mixed precision is taken over. Other passes (evaluation, no gradients) are ignored, and so are steps
    that a ``GradScaler`` skips: the next one is measured instead.

    Where ``torch.distributed`` is in use, the counts of all processes are added up: all see the same temperature.

    Args:
        optimizer: any of torch's kind.
        model: the network that the loop calls: with its wrappers for parallel training and compilation, if any.
        rule: what a pattern is.
        samples: of each batch to look at, or None for all.
        batch: what to measure with instead of what the network is called with, see ``measure.temperature``.
    """

    def __init__(
        self, optimizer: Optimizer, model: nn.Module, rule: PatternRule, samples: int | None, batch: Any = None
    ) -> None:
        self._model, self._rule, self._samples = model, rule, samples
        self._given = None if batch is None else as_inputs(batch)
        self._network = unwrapped(model)
        self._armed = self._keep_weights = self._started = False
        self._steps = 0
        self._inputs: Inputs | None = self._given
        self._autocast: tuple[str, bool, torch.dtype] | None = None
        self._before: Patterns | None = None
        self._modes: list[bool] = []
        self._weights: dict[str, torch.Tensor] = {}
        self._hooks: list[Any] = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        if batch is None:
            self._hooks.append(model.register_forward_pre_hook(self._see_batch, with_kwargs=True))

    @property
    def is_pending(self) -> bool:
        """Whether a step was made that ``steps_made`` has not told yet."""
        return self._steps > 0

    def arm(self, *, keep_weights: bool = False) -> None:
        """Measure the next step.

        Args:
            keep_weights: keep those before it, for ``sweep``, and check that two passes agree.
        """
        self._armed, self._keep_weights = True, keep_weights
        self._before, self._inputs, self._weights = None, self._given, {}

    def steps_made(self) -> int:
        """The number of steps since the last call."""
        steps, self._steps = self._steps, 0
        return steps

    def measure(self) -> PatternChanges:
        """What the observed step changed, which must have been the last one.

        Raises:
            RuntimeError: if there was none, as an optimizer that did not call its closure makes it.
        """
        before, self._armed = self._before, False
        if before is None:
            raise RuntimeError("the step to be measured did not evaluate the network: its closure was never called")
        after = self._passes(lambda inputs: patterns_of(self._network, inputs, self._rule))
        return self._over_processes(before.changes_to([after]).row(0))

    def sweep(self, rates: Sequence[float], rate: float) -> RateSweep:
        """What the same step would have changed at other learning rates; for a step whose weights were kept.

        Args:
            rates: the others.
            rate: that of the step.
        """
        after = {name: parameter.detach() for name, parameter in self._network.named_parameters()}
        direction = step_direction(self._weights, after, rate)
        swept = self._passes(
            lambda inputs: sweep_of(self._network, inputs, self._rule, self._weights, direction, rates)
        )
        self._weights = {}
        return self._over_processes(swept)

    def remove(self) -> None:
        """Ends: network and optimizer are as they were."""
        for hook in self._hooks:
            hook.remove()

    # ---- Hooks -------------------------------------------------------------------------------------------------------

    def _see_batch(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not (self._armed and self._before is None and model.training and torch.is_grad_enabled()):
            return
        kind = next(self._network.parameters()).device.type
        self._autocast = (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        self._inputs = first_samples((args, kwargs), self._samples)

    def _before_step(self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Again if a step is not over: that one failed, or it calls the step of a parent class, which has hooks too.
        self._started = True
        if not self._armed:
            return None
        self._before = None
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._observed(kwargs["closure"])}
        if len(args) > 1 and args[1] is not None:  # the first is the optimizer
            return (args[0], self._observed(args[1]), *args[2:]), kwargs
        self._take_before()
        return None

    def _observed(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def evaluate() -> Any:
            value = closure()
            if self._before is None:
                self._take_before()
            return value

        return evaluate

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if not self._started:  # the parent's hook has told
            return
        self._started = False
        # A GradScaler lets fused optimizers find out by themselves that there is nothing to do.
        found = getattr(optimizer, "found_inf", None)
        if found is None or not bool(found):
            self._steps += 1
        else:
            self._before = None

    # ---- Passes ------------------------------------------------------------------------------------------------------

    def _take_before(self) -> None:
        if self._inputs is None:
            raise RuntimeError(
                f"no batch went through {type(self._model).__name__} in training mode since the last step: give the "
                "module that the loop calls, put it into train() mode, or name inputs to measure with by batch=..."
            )
        self._modes = [module.training for module in self._network.modules()]
        if self._keep_weights:
            parameters = self._network.named_parameters()
            self._weights = {name: p.detach().clone() for name, p in parameters if p.requires_grad}
        self._before = self._passes(lambda inputs: patterns_of(self._network, inputs, self._rule))
        if self._keep_weights:
            self._check_repeatable(self._before)

    def _check_repeatable(self, before: Patterns) -> None:
        again = before.changes_to([self._passes(lambda inputs: patterns_of(self._network, inputs, self._rule))])
        share = float((again.changed / again.patterns).max())
        if share > REPRODUCIBLE and again.finite.all():
            raise RuntimeError(
                f"two passes of one batch with the same weights differ in {share:.1%} of the patterns of a layer: the "
                "network keeps a state, or draws random numbers elsewhere than from torch's generators; draw from those"
            )

    def _passes(self, measured: Callable[[Inputs], Result]) -> Result:
        assert self._inputs is not None
        with kept_modes(self._network):
            for module, training in zip(self._network.modules(), self._modes, strict=True):
                module.training = training
            if self._autocast is None:
                return measured(self._inputs)
            kind, enabled, dtype = self._autocast
            # No cache: it could hold the weights of before the step.
            with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False):
                return measured(self._inputs)

    def _over_processes(self, changes: Changes) -> Changes:
        # Without this, each process would set learning rates of its own, and the weights drift apart.
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            return changes
        rows = [np.ravel(changes.changed), np.ravel(~changes.finite), changes.patterns]
        total = torch.from_numpy(np.concatenate(rows).astype(np.int64)).to(next(self._network.parameters()).device)
        distributed.all_reduce(total)
        summed = np.split(total.cpu().numpy(), np.cumsum([row.size for row in rows])[:-1])
        return dataclasses.replace(
            changes,
            changed=summed[0].reshape(changes.changed.shape),
            finite=summed[1].reshape(changes.finite.shape) == 0,
            patterns=summed[2],
        )


def first_samples(inputs: Inputs, samples: int | None) -> Inputs:
    """Copies of the first samples of all inputs whose first dimension is the batch, which is that of the first tensor.

    Args:
        inputs: of a call of a network: tensors, in lists or dictionaries too, are cut; all else is kept.
        samples: how many, or None for all.

    Example:
        >>> (first, mask), named = first_samples(((torch.arange(4), torch.ones(2, 2)), {"scale": 2.0}), 3)
        >>> first.tolist(), mask.shape, named
        ([0, 1, 2], torch.Size([2, 2]), {'scale': 2.0})
    """
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor) and leaf.dim()]

    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return (leaf[:samples] if leaf.dim() and leaf.shape[0] == sizes[0] else leaf).detach().clone()

    return pytree.tree_map(cut, inputs)
