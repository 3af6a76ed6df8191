"""The variance of the gradients of single samples along directions, which the noise of all batch orders is made of."""

import numpy as np
import torch

from nnval.measure.full_loss import FullLoss
from theory.absorbing import Floats


def example_variance(
    loss: FullLoss, weights: torch.Tensor, directions: torch.Tensor, *, about_zero: bool = False
) -> Floats:
    """C_0, the variance of the gradients of single samples along directions, exactly, from all samples.

    Args:
        loss: of the samples.
        weights: (d,).
        directions: (k, d), orthonormal rows.
        about_zero: the mean of squares instead, which is what counts where the sizes of batches fluctuate.

    Returns:
        Shape (k,) [gradient^2].
    """
    total = torch.zeros(2, len(directions), dtype=torch.float64)
    for gradients in loss.example_gradients(weights):
        along = (gradients @ directions.T).double()
        total += torch.stack([along.sum(0), (along**2).sum(0)]).cpu()
    mean, square = (total / loss.samples).numpy()
    return square if about_zero else np.maximum(square - mean**2, 0.0)
