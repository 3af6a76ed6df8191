"""What noise on weights can be attached to, and where it comes from."""

import torch
from torch.optim import Optimizer

from theory.absorbing import whole_number


def check_optimizer(optimizer: Optimizer, *, include_norm: bool, mode: str) -> None:
    """Refuse an optimizer whose weights cannot get noise.

    Args:
        optimizer: to be checked.
        include_norm: whether parameters of one dimension get noise too.
        mode: see ``AdaptiveNoise``.

    Raises:
        ValueError: which says why.
    """
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer={type(optimizer).__name__} must be a torch.optim.Optimizer, unwrapped")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strange = {str(p.dtype) for p in parameters if not p.is_floating_point()}
    if strange:
        raise ValueError(f"parameters of type {', '.join(sorted(strange))} cannot get noise, only real floats can")
    if any(hasattr(parameter, "device_mesh") for parameter in parameters):  # DTensor, without importing it
        raise ValueError(
            "parameters that are spread over processes (DTensor, FSDP) cannot be measured: each process must hold "
            "all the weights, as with DistributedDataParallel"
        )
    if not any(include_norm or parameter.dim() > 1 for parameter in parameters):
        raise ValueError(
            "the optimizer has no parameter of two or more dimensions, the only ones that get noise: "
            "include_norm=True adds all others"
        )
    rates = [group.get("lr") for group in optimizer.param_groups]
    if mode == "sgld" and not all(isinstance(rate, (int, float, torch.Tensor)) for rate in rates):
        raise ValueError(
            f"mode='sgld' takes its unit from the learning rate, but {type(optimizer).__name__} has none: use "
            "another mode"
        )


def noise_generator(generator: torch.Generator | None, seed: int | None, device: torch.device) -> torch.Generator:
    """Where the noise comes from.

    Args:
        generator: given by the user, or None.
        seed: likewise.
        device: of a generator that is made.

    Raises:
        ValueError: unless exactly one of the two is given, and right.
    """
    if isinstance(generator, torch.Generator) and seed is None:
        return generator
    if generator is not None and seed is None:
        raise ValueError(f"generator={type(generator).__name__} must be a torch.Generator")
    if generator is not None or seed is None:
        raise ValueError("give exactly one of generator and seed: where the noise comes from")
    if whole_number("seed", seed, 0) >= 2**64:
        raise ValueError(f"seed={seed} must be below 2^64")
    return torch.Generator(device).manual_seed(int(seed))
