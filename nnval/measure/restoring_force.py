"""How stiff a loss is where the weights are moving: the slope of its full gradient against the displacement.

The Hessian at one point says how the gradient changes along an infinitesimal step. Theory is about a quadratic loss,
where that is all there is. What holds fluctuating weights together is the mean gradient at displacements as large as
theirs, and the slope of a straight line through it,

    lambda_eff = sum_t (theta_t - <theta>) (g_t - <g>) / sum_t (theta_t - <theta>)^2,

with the gradient g_t of the mean loss of *all* samples (and weight decay) along the direction, taken at weights that a
recording went through, and the means of each run. A quadratic loss gives its curvature exactly, whatever the noise was,
if the directions are eigenvectors. A smooth loss gives the mean Hessian, as long as weights are Gaussian. A network of
ReLUs gives more than either: its gradient jumps wherever a sample switches a unit. Second derivatives do not see these
jumps anywhere, and displacements of finite size do. Derived for jostle.
"""

from dataclasses import dataclass

import numpy as np

from nnval.measure.fluctuations import pooled_ratio
from nnval.measure.recording_files import Floats, WeightRecording
from theory.estimate import Estimate


@dataclass(frozen=True, eq=False)
class RestoringForce:
    """The slope of the gradient along each of k directions.

    Attributes:
        curvature: lambda_eff, with errors as those of nnval.measure.fluctuations.
        products: (R, k), mean of displacement times gradient, of each run.
        squares: (R, k), of the squared displacement.
    """

    curvature: tuple[Estimate, ...]
    products: Floats
    squares: Floats


def restoring_force(recording: WeightRecording) -> RestoringForce:
    """Curvatures in motion, from the full gradients of a recording.

    Args:
        recording: finished, of a config with ``full_gradients``.

    Returns:
        The slopes.

    Raises:
        ValueError: if the recording has no full gradients.
    """
    gradients = recording.gradients
    if gradients is None:
        raise ValueError(
            f"{recording.directory} was recorded with full_gradients=0; record with 1 or more in each epoch"
        )
    config = recording.config
    taken = [
        epoch.weights[config.measured_updates(number, recording.batches)]
        for number, epoch in enumerate(recording.epochs())
    ]
    weights = np.stack(taken)  # (E, n, R, k), as the gradients
    displaced = weights - weights.mean((0, 1))
    force = gradients - gradients.mean((0, 1))
    products, squares = ((displaced * each).mean(1).swapaxes(0, 1) for each in (force, displaced))  # (R, E, k)
    return RestoringForce(pooled_ratio(products, squares), products.mean(1), squares.mean(1))
