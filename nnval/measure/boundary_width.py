"""How wide the decision boundary of a network is: how much room it leaves to the points that it was trained on.

The margin of a point is m = f_y - max_{j != y} f_j, with the output f_y for its own label: negative where the network
is wrong. Outputs grow as long as one trains, and the margin with them, so that the width is taken of one of two numbers
that do not:

- the normalised margin, m divided by the root mean square of f_j - mean_j f_j over all outputs and points: the same
  for f and a f + b, a > 0. It is the network's y phi(u) / sqrt(C(t, t)) of the perceptron (theory.mean_field);
- the distance to the boundary along the gradient to first order, m / |dm / dx| with the Euclidean norm, in the unit of
  the network's inputs. For a linear network it is the distance to the nearest boundary between the two classes.

The width is a quantile over the points: the distance of the q-th share of them that are nearest, or on the wrong side.
Points around which a network is constant, as where all ReLUs are off, have no distance along a gradient, and do not
count in that one.

Reference: [mignacco2022] the width of decision boundaries; the definitions here are ours
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from nnval.engine.images import Images
from theory.noise_arguments import number

_POINTS_AT_ONCE = 1024


@dataclass(frozen=True)
class BoundaryWidth:
    """Quantiles over points.

    Attributes:
        margin: of the normalised margin.
        distance: of the distance along the gradient [input].
        error: share of points with a margin <= 0.
        loss: mean cross entropy of the points, which is had for nothing.

    Example:
        >>> BoundaryWidth(margin=0.2, distance=1.5, error=0.0, loss=0.1).distance
        1.5
    """

    margin: float
    distance: float
    error: float
    loss: float


def margins(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """M = f_y - max_{j != y} f_j.

    Args:
        outputs: f, shape (n, classes), classes >= 2.
        labels: y, shape (n,).

    Returns:
        Shape (n,).

    Raises:
        ValueError: for other shapes.

    Example:
        >>> margins(torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]]), torch.tensor([1, 0])).tolist()
        [2.0, -3.0]
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or labels.shape != outputs.shape[:1]:
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} and labels of shape {tuple(labels.shape)} must be (n, classes) "
            "and (n,), with two classes or more"
        )
    own = torch.zeros_like(outputs, dtype=torch.bool).scatter_(1, labels[:, None], True)
    return outputs[own] - outputs.masked_fill(own, -math.inf).amax(1)


def output_scale(outputs: torch.Tensor) -> float:
    """The root mean square of f_j - mean_j f_j, over all outputs and points.

    Args:
        outputs: f, shape (n, classes).

    Returns:
        The scale by which margins are divided.

    Raises:
        ValueError: if all outputs of each point are the same: there is no boundary.
    """
    scale = float((outputs - outputs.mean(1, keepdim=True)).double().square().mean().sqrt())
    if not scale > 0 or not math.isfinite(scale):
        raise ValueError(f"outputs have the scale {scale}, which must be finite and > 0: there is no boundary")
    return scale


def boundary_distances(outputs: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """M / |dm / dx|.

    Args:
        outputs: f of the inputs, with a graph; each point's own outputs only depend on its own input.
        inputs: x, shape (n, ...), with ``requires_grad``.
        labels: y, shape (n,).

    Returns:
        Shape (n,); infinite where a network does not depend on its input, and 0 for m = 0.
    """
    found = margins(outputs, labels)
    (slopes,) = torch.autograd.grad(found.sum(), inputs)
    steepness = slopes.reshape(len(inputs), -1).norm(dim=1)
    found = found.detach()
    return torch.where(found == 0, torch.zeros_like(found), found / steepness)


def measure_boundary_width(module: nn.Module, images: Images, quantile: float = 0.1) -> BoundaryWidth:
    """The width that a network leaves to points.

    Args:
        module: as it evaluates, on the device of the images; its mode is not changed.
        images: the points, mostly those of the training, with the labels that it was trained with.
        quantile: q in (0, 1); of n points that nearest to rank q n is taken, one that is there.

    Returns:
        Both widths.

    Raises:
        ValueError: for a quantile out of range, or a network that is constant, everywhere or around all points.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
        >>> network[1].weight.data = torch.tensor([[1.0], [-1.0]])  # the boundary is at 0
        >>> images = Images(torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64))
        >>> width = measure_boundary_width(network, images, quantile=0.4)
        >>> width.distance, width.error
        (2.0, 0.0)
    """
    share = number("quantile", quantile)
    if not 0 < share < 1:
        raise ValueError(f"quantile={quantile} must lie strictly between 0 and 1")
    all_outputs, all_distances = [], []
    for inputs, labels in images.chunks(_POINTS_AT_ONCE):
        points = inputs.detach().clone().requires_grad_()
        outputs = module(points)
        all_distances.append(boundary_distances(outputs, points, labels))
        all_outputs.append(outputs.detach())
    outputs, labels = torch.cat(all_outputs), images.labels
    found = margins(outputs, labels)
    distances = torch.cat(all_distances)
    distances = distances[torch.isfinite(distances)]
    if not len(distances):
        raise ValueError("the network is constant around all points, so that its boundary is nowhere: units are dead")
    return BoundaryWidth(
        margin=_quantile(found, share) / output_scale(outputs),
        distance=_quantile(distances, share),
        error=float((found <= 0).double().mean()),
        loss=float(nn.functional.cross_entropy(outputs.double(), labels)),
    )


def _quantile(values: torch.Tensor, share: float) -> float:
    return float(values.double().sort().values[min(round(share * len(values)), len(values) - 1)])
