"""Where and how numbers are computed: devices, precision, threads, and a record of the machine without names."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnval.engine.config import TrainingConfig

# Denormal numbers are left alone: flushing them (torch.set_flush_denormal) is a setting of each thread, so a result
# would depend on which threads had it, and ReLU networks on normalised data meet denormals only when they have died.


def resolve_device(name: str) -> torch.device:
    """The torch device of that name.

    Args:
        name: such as ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; ``"auto"`` is ``"cuda"`` if there is one, and
            ``"cpu"`` otherwise.

    Raises:
        ValueError: if torch does not know the name, or this machine has no such device.

    Example:
        >>> resolve_device("cpu").type
        'cpu'
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each from another kind of device
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device={name!r} cannot be used here ({reason}); device='cpu' always can") from None
    if device.type == "meta":
        raise ValueError("device='meta' computes no numbers; use device='cpu'")
    return device


@contextlib.contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Torch with so many threads, and as before afterwards; None leaves it as it is.

    Raises:
        ValueError: if ``threads`` is not >= 1.
    """
    if threads is None:
        yield
        return
    if threads < 1:
        raise ValueError(f"threads={threads} must be >= 1; None leaves torch's number of threads as it is")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_CUBLAS_WORKSPACES = (":4096:8", ":16:8")


@contextlib.contextmanager
def deterministic_algorithms(active: bool, device: torch.device) -> Iterator[None]:
    """Torch refuses algorithms whose result varies from call to call, and as before afterwards; only if ``active``.

    Raises:
        ValueError: on a GPU without the setting that cuBLAS reads from the environment when it starts.
    """
    if not active:
        yield
        return
    if device.type == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _CUBLAS_WORKSPACES:
        raise ValueError(
            "deterministic=True on a GPU needs the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8 when the "
            "program starts: without it matrix products may vary from call to call"
        )
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before_cudnn = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before_cudnn


@contextlib.contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators, from which layers such as dropout draw, begin at a seed, and as before afterwards.

    ``torch.manual_seed`` would do, but it takes a quarter of a millisecond.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


@dataclass(frozen=True)
class Numerics:
    """How a network is computed.

    Attributes:
        precision: of matrix products and convolutions, by torch.autocast, and of no other operation.
        channels_last: whether images lie in memory pixel by pixel.
        compiled: whether networks go through torch.compile.
    """

    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False

    @classmethod
    def of(cls, config: TrainingConfig) -> "Numerics":
        """Those of a config."""
        return cls(config.precision, config.channels_last, config.compiled)

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Where a forward pass belongs."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=getattr(torch, self.precision))

    def laid_out(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, height, width) in the wanted memory format."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def prepared(self, function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """The function as it shall be called: compiled, or itself.

        Raises:
            ValueError: when it is called, if torch cannot compile it as a whole.
        """
        if not self.compiled:
            return function
        # A whole graph or none: otherwise torch would go back to plain Python where it cannot compile, and not say so.
        whole = torch.compile(function, fullgraph=True)

        def call(*arguments: Any) -> torch.Tensor:
            try:
                return whole(*arguments)
            except Exception as error:  # the compiler's have no public base class; all others go on as they are
                if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    reason = str(error).strip().partition("\n")[0]
                    raise ValueError(f"compiled=True: torch.compile failed ({reason}); use compiled=False") from error
                raise

        return call


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and threads; no host name, user or path."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
