"""Where the numbers are computed: devices, threads, and a record of the machine without names or paths."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Denormal numbers are left alone: flushing them (torch.set_flush_denormal) is a setting of each thread, so a result
# would depend on which threads had it, and ReLU networks on normalised data meet denormals only when they have died.


def resolve_device(name: str) -> torch.device:
    """The torch device of that name.

    Args:
        name: such as ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises:
        ValueError: if torch does not know the name, or this machine has no such device.

    Example:
        >>> resolve_device("cpu").type
        'cpu'
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
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
