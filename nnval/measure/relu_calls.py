"""Every ReLU that a forward pass calls, and on what; and bits, packed into bytes.

A dispatch mode sees the operations that all ways of writing a ReLU end in: ``nn.ReLU``, ``F.relu``, ``torch.relu``,
``Tensor.relu``, their in-place forms, ``clamp(min=0)`` and ``clamp_min(0)``; ReLU6 (``hardtanh`` or ``clamp`` from 0),
``threshold`` at 0, and LeakyReLU, PReLU and RReLU, whose kink is at 0 too. It sees each call: a module that is used
twice counts twice. What is compiled or scripted is seen as well (torch runs it eagerly meanwhile), and so are the ReLUs
in ``nn.TransformerEncoderLayer`` and, on a CPU, those in ``nn.RNN``. Not seen: ``maximum`` with a tensor of zeros,
``where``, ReLUs inside of kernels of somebody's own, and those of cuDNN's RNN.

Inputs of one dimension, and of whole numbers, are no activations and are left out.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

_aten: Any = torch.ops.aten  # its operations are found at run time

_Arguments = tuple[Any, ...]


def _always(_: _Arguments, __: dict[str, Any]) -> bool:
    return True


def _lower_bound_is_zero(name: str, default: float | None) -> Callable[[_Arguments, dict[str, Any]], bool]:
    def check(arguments: _Arguments, keywords: dict[str, Any]) -> bool:
        bound = arguments[1] if len(arguments) > 1 else keywords.get(name, default)
        return isinstance(bound, (int, float)) and bound == 0

    return check


def _threshold_of_relu(arguments: _Arguments, _: dict[str, Any]) -> bool:
    return arguments[1] == 0 == arguments[2]


_KINK_AT_ZERO: dict[Any, Callable[[_Arguments, dict[str, Any]], bool]] = {
    getattr(_aten, name + underscore): check
    for name, check in {
        "relu": _always,
        "leaky_relu": _always,
        "rrelu_with_noise": _always,
        "clamp_min": _lower_bound_is_zero("min", None),
        "clamp": _lower_bound_is_zero("min", None),
        "hardtanh": _lower_bound_is_zero("min_val", -1.0),
        "threshold": _threshold_of_relu,
    }.items()
    for underscore in ("", "_")
} | {_aten._prelu_kernel: _always}

_SMOOTH = {
    getattr(_aten, name + underscore): name
    for name in ("silu", "gelu", "mish", "elu", "celu", "hardswish")
    for underscore in ("", "_")
}


class ReluCalls(TorchDispatchMode):
    """While it is entered, hands the input of each ReLU to a function, before the ReLU acts.

    Args:
        see: gets the input. What it computes is not seen itself.
        smooth: see SiLU, GELU, Mish, ELU (SELU), CELU and Hardswish as well: they have no kink, but are off below 0.

    Attributes:
        calls: how often each smooth one was called, by name, whether or not it is to be seen.

    Example:
        >>> seen = []
        >>> with torch.no_grad(), ReluCalls(lambda inputs: seen.append(inputs.tolist())):
        ...     below = torch.nn.ReLU(inplace=True)(torch.tensor([[-1.0, 2.0]])) + F.relu(torch.tensor([[3.0, -4.0]]))
        >>> seen
        [[[-1.0, 2.0]], [[3.0, -4.0]]]
    """

    def __init__(self, see: Callable[[torch.Tensor], None], *, smooth: bool = False) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._see, self._smooth = see, smooth

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation, keywords = func.overloadpacket, kwargs or {}
        name = _SMOOTH.get(operation)
        if name is not None:
            self.calls[name] += 1
        check = _KINK_AT_ZERO.get(operation)
        seen = check(args, keywords) if check is not None else self._smooth and name is not None
        if seen and args[0].dim() > 1 and args[0].is_floating_point():
            self._see(args[0])
        return func(*args, **keywords)

    def __enter__(self) -> "ReluCalls":
        # Fused inference kernels of attention layers would hide their ReLU.
        self._fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        torch.backends.mha.set_fastpath_enabled(self._fused)


_GATHER = 0x0102040810204080
"""Times eight bytes of 0 or 1, it has them as the bits of its highest byte, the first one lowest."""


def packed(bits: torch.Tensor) -> torch.Tensor:
    """Truth values, eight in a byte.

    Args:
        bits: of one dimension.

    Returns:
        Bytes, the first bit of each is its lowest; 0 beyond the end.

    Example:
        >>> packed(torch.tensor([True, False, True, False, True, False])).tolist()
        [21]
    """
    if bits.numel() % 8:
        bits = F.pad(bits, (0, -bits.numel() % 8))
    return (bits.view(torch.int64) * _GATHER >> 56).to(torch.uint8)


def unpacked(bytes_of_bits: torch.Tensor) -> torch.Tensor:
    """What was ``packed``, as bytes of 0 or 1, with what was added at the end.

    Example:
        >>> unpacked(torch.tensor([21], dtype=torch.uint8)).tolist()
        [1, 0, 1, 0, 1, 0, 0, 0]
    """
    places = torch.arange(8, dtype=torch.uint8, device=bytes_of_bits.device)
    return (bytes_of_bits.unsqueeze(1) >> places & 1).flatten()
