"""Which operations are seen as ReLUs, and which are not; and bits packed into bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.measure.relu_calls import ReluCalls, packed, unpacked

RELUS: dict[str, Callable[[torch.Tensor], Any]] = {
    "F.relu": F.relu,
    "F.relu inplace": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "F.relu6": lambda x: F.relu6(x, inplace=True),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": lambda x: x.clamp_min_(0.0),
    "clamp min": lambda x: x.clamp(min=0),
    "clamp_ both": lambda x: x.clamp_(0, 6),
    "nn.Threshold": nn.Threshold(0, 0),
    "nn.LeakyReLU": nn.LeakyReLU(),
    "nn.LeakyReLU inplace": nn.LeakyReLU(inplace=True),
    "nn.PReLU": nn.PReLU(),
    "nn.RReLU": nn.RReLU(),
    "aten": lambda x: torch.ops.aten.relu(x),
}
NO_RELUS: dict[str, Callable[[torch.Tensor], Any]] = {
    "clamp at another": lambda x: x.clamp(min=1e-6),
    "clamp max": lambda x: x.clamp(max=0),
    "clamp by tensor": lambda x: x.clamp(min=torch.zeros(())),
    "hardtanh": F.hardtanh,
    "threshold at another": nn.Threshold(0.5, 0),
    "tanh": torch.tanh,
    "one dimension": lambda x: x[0].relu(),
    "whole numbers": lambda x: x.long().clamp(min=0),
    "SiLU": F.silu,
}


@pytest.mark.parametrize("name", RELUS)
def test_each_way_to_write_a_relu_is_seen_before_it_acts(name: str) -> None:
    inputs = torch.tensor([[-1.0, 2.0, -3.0], [0.5, -0.5, 0.0]])
    seen: list[torch.Tensor] = []
    with torch.no_grad(), ReluCalls(lambda x: seen.append(x.clone())):
        RELUS[name](inputs.clone())
    assert len(seen) == 1
    assert torch.equal(seen[0], inputs)


@pytest.mark.parametrize("name", NO_RELUS)
def test_what_is_no_relu_of_activations_is_not_seen(name: str) -> None:
    seen: list[torch.Tensor] = []
    with torch.no_grad(), ReluCalls(seen.append) as calls:
        NO_RELUS[name](torch.tensor([[-1.0, 2.0, -3.0], [0.5, -0.5, 0.0]]))
    assert not seen
    assert calls.calls == ({"silu": 1} if name == "SiLU" else {})


@pytest.mark.parametrize("smooth", [F.silu, F.gelu, F.mish, F.elu, F.selu, F.celu, F.hardswish])
def test_smooth_ones_are_seen_if_asked_for(smooth: Callable[[torch.Tensor], torch.Tensor]) -> None:
    seen: list[torch.Tensor] = []
    with torch.no_grad(), ReluCalls(seen.append, smooth=True):
        smooth(torch.zeros(2, 3))
    assert len(seen) == 1


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 1001])
def test_packing_is_that_of_numpy(size: int, seed: int) -> None:
    bits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) > 0
    assert np.array_equal(packed(bits).numpy(), np.packbits(bits.numpy(), bitorder="little"))
    assert torch.equal(unpacked(packed(bits))[:size].bool(), bits)
