r"""Activation patterns of a network, how many of them a step changes, and the temperature that this makes.

A pattern says which ReLUs are on, for one batch. Three definitions of one:

- ``"position"``: the channels at one position of one sample (of a linear layer: one sample). B H W in a layer. The
  default, as only it makes the paper's numbers possible for networks of the paper's kind and says the same for any
  size of the batch.
- ``"sample"``: the whole layer for one sample. B in a layer; soon all of them change.
- ``"bit"``: one channel at one position of one sample. B C H W in a layer; hardly reaches :math:`T = 1`.

:math:`T_l = -\log_2(1 - P_l)` of a layer, where :math:`P_l` is the share that changed (half a pattern where none or all
did). A layer is one call of a ReLU, see ``nnval.measure.relu_calls``. The network's T is the mean over the layers, or
that of the mean share.

The two passes differ in weights alone: they see the same batch in training mode, in which layers normalise by the batch
(evaluation mode gives another number), and draw the same random numbers. Nothing is left behind, see
``nnval.measure.pattern_passes``.

Reference: [actcoolr2021] section 3; which definition it means is not said there
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnval.measure.pattern_counts import PATTERNS, REDUCTIONS, PatternChanges, PatternRule, RateSweep
from nnval.measure.pattern_passes import Weights, as_inputs, kept_modes, patterns_of, sweep_of

__all__ = [
    "PATTERNS",
    "REDUCTIONS",
    "PatternChanges",
    "PatternRule",
    "RateSweep",
    "lr_sweep",
    "pattern_temperature",
    "step_direction",
]


def pattern_temperature(
    model: nn.Module,
    batch: Any,
    before: Weights,
    after: Weights,
    pattern: str = "position",
    reduce: str = "temperature",
    *,
    channel_dim: int = 1,
    smooth: bool = False,
    train_mode: bool = True,
) -> PatternChanges:
    """How many activation patterns differ between two sets of weights, and the temperature of that.

    Args:
        model: the network, whose own weights are neither used for what is given nor changed. Wrappers for parallel
            training and compilation are looked through.
        batch: what it is called with: a tensor, a tuple or list of arguments, or a mapping of arguments by name.
        before: tensors by the names of parameters (or buffers); what is missing is taken from the model as it is.
        after: likewise: ``{}`` is the model as it is.
        pattern, reduce, channel_dim, smooth: see ``PatternRule``.
        train_mode: measure in training mode, as steps are made; if False, each module is left in the mode it is in.

    Returns:
        The counts; their ``temperature`` is T of the network.

    Raises:
        ValueError: for a choice out of range, a network without ReLU, weights of other names or shapes, or passes that
            call other ReLUs.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> before = {"0.weight": torch.tensor([[1.0], [1.0]])}
        >>> after = {"0.weight": torch.tensor([[1.0], [-1.0]])}
        >>> changes = pattern_temperature(model, torch.tensor([[1.0], [2.0], [0.0], [0.0]]), before, after)
        >>> changes.changed.tolist(), changes.patterns.tolist(), float(changes.temperature)
        ([2], [4], 1.0)
    """
    rule, inputs = PatternRule(pattern, reduce, channel_dim, smooth), as_inputs(batch)
    with kept_modes(model):
        if train_mode:
            model.train()
        reference = patterns_of(model, inputs, rule, before)
        return reference.changes_to([patterns_of(model, inputs, rule, after)]).row(0)


def step_direction(before: Weights, after: Weights, rate: float) -> dict[str, Tensor]:
    """What a step changed, for a learning rate of 1: (after - before) / rate.

    Args:
        before, after: tensors of the same names and shapes.
        rate: the learning rate of the step, > 0.

    Returns:
        The direction, by the same names.

    Raises:
        ValueError: for a rate out of range.

    Example:
        >>> import torch
        >>> step_direction({"weight": torch.tensor([1.0])}, {"weight": torch.tensor([0.5])}, 0.1)
        {'weight': tensor([-5.])}
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"rate={rate} must be finite and > 0")
    return {name: (after[name] - start) / rate for name, start in before.items()}


def lr_sweep(
    model: nn.Module,
    batch: Any,
    before: Weights,
    direction: Weights,
    rates: Sequence[float],
    pattern: str = "position",
    reduce: str = "temperature",
    *,
    channel_dim: int = 1,
    smooth: bool = False,
    train_mode: bool = True,
) -> RateSweep:
    """The temperature of the same step at other learning rates: before + rate * direction for each.

    Args:
        before: weights at which the step is made, by name; the parameters that it moves at least.
        direction: of the step for a learning rate of 1, see ``step_direction``, for names in ``before``.
        rates: all finite and > 0.
        model, batch, pattern, reduce, channel_dim, smooth, train_mode: see ``pattern_temperature``.

    Returns:
        One row for each rate.

    Raises:
        ValueError: as ``pattern_temperature`` does; for rates out of range or a direction of other names.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> before, direction = {"0.weight": torch.ones(2, 1)}, {"0.weight": torch.tensor([[-1.0], [0.0]])}
        >>> lr_sweep(model, torch.ones(3, 1), before, direction, [0.5, 2.0]).changed.tolist()
        [[0], [3]]
    """
    rule, inputs = PatternRule(pattern, reduce, channel_dim, smooth), as_inputs(batch)
    with kept_modes(model):
        if train_mode:
            model.train()
        return sweep_of(model, inputs, rule, before, direction, rates)
