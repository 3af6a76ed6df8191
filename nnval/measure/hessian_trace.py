"""The trace of a Hessian, by Hutchinson's estimator."""

from collections.abc import Callable

import numpy as np
import torch

from nnval.measure.full_loss import VECTORS_AT_ONCE, FullLoss
from theory.absorbing import whole_number
from theory.estimate import Estimate


def estimate_hessian_trace(
    loss: FullLoss,
    weights: torch.Tensor,
    probes: int,
    rng: np.random.Generator,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> Estimate:
    """Tr H = <z H z> over random signs z; the variance of a probe is 2 sum_{i != j} H_ij^2.

    Args:
        loss: of which the Hessian is taken, without weight decay: with the coefficient a it has a d more.
        weights: shape (d,).
        probes: independent z, >= 2.
        rng: where their signs come from.
        progress: called with (probes done, probes, text).

    Returns:
        The trace, with its standard error over the probes.

    Raises:
        ValueError: for arguments out of range, or a Hessian that is not finite.

    Example:
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> inputs = torch.diag(torch.tensor([2.0, 4.0]))
        >>> loss = FullLoss(torch.nn.Linear(2, 1, bias=False), inputs, torch.zeros(2, 1), loss=squares)
        >>> trace = estimate_hessian_trace(loss, loss.weights, 4, np.random.default_rng(0))
        >>> round(trace.value, 6)  # exact, as the Hessian is diagonal
        10.0

    Reference: [hutchinson1990] random signs.
    """
    probes = whole_number("probes", probes, 2)
    samples = np.empty(probes)
    for begin in range(0, probes, VECTORS_AT_ONCE):
        end = min(begin + VECTORS_AT_ONCE, probes)
        signs = rng.integers(2, size=(end - begin, loss.size), dtype=np.int8) * 2 - 1
        vectors = torch.from_numpy(signs).to(loss.device, loss.dtype)
        samples[begin:end] = (vectors * loss.product(weights, vectors)).sum(1).cpu().numpy()
        if progress is not None:
            progress(end, probes, "trace of the Hessian")
    if not np.isfinite(samples).all():
        raise ValueError("the Hessian is not finite at these weights: it has no trace")
    return Estimate.from_samples(samples)
