"""How far apart two replicas are: networks with the same start and the same data, but independent batch noise.

Without noise they would be one network. The distance of their weights is the paper's measure of noise where training
ends at zero error, and nothing is stationary. It is measured three times: in the weights, as the angle between the ways
they went, and as the share of test points to which they give different labels. The last alone knows about symmetries
of a network; two replicas from one start are close enough for the first two to mean something.

Reference: [mignacco2022] the distance of two replicas with the same initialisation and independent noise
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ReplicaDistance:
    """Two replicas beside each other.

    Attributes:
        distance: |w_1 - w_2|^2 / d, mean over the weights [weight^2].
        cosine: of the angle between w_1 - w_0 and w_2 - w_0, where w_0 is their common start; 1 if neither has moved.
        disagreement: share of the points to which they give different labels, in [0, 1].

    Example:
        >>> ReplicaDistance(distance=0.5, cosine=0.1, disagreement=0.02).cosine
        0.1
    """

    distance: float
    cosine: float
    disagreement: float


def replica_distance(
    start: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    first_labels: torch.Tensor,
    second_labels: torch.Tensor,
) -> ReplicaDistance:
    """The distance of two replicas.

    Args:
        start: w_0, shape (d,).
        first: w_1, likewise.
        second: w_2, likewise.
        first_labels: what the first predicts for some points, shape (n,).
        second_labels: what the second predicts for the same points.

    Returns:
        The distances.

    Raises:
        ValueError: for shapes that do not fit, weights that are not finite, or no points.

    Example:
        >>> zero, labels = torch.zeros(2), torch.tensor([0, 1])
        >>> replica_distance(zero, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), labels, labels.flip(0))
        ReplicaDistance(distance=1.0, cosine=0.0, disagreement=1.0)
    """
    if start.ndim != 1 or not len(start) or not start.shape == first.shape == second.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (start, first, second))
        raise ValueError(f"weights of shapes {shapes} must all be (d,), d >= 1")
    if first_labels.shape != second_labels.shape or first_labels.ndim != 1 or not len(first_labels):
        shapes = f"{tuple(first_labels.shape)}, {tuple(second_labels.shape)}"
        raise ValueError(f"labels of shapes {shapes} must both be (n,), n >= 1")
    wide = torch.float32 if start.device.type == "mps" else torch.float64
    origin = start.detach().to(wide)
    ways = [each.detach().to(wide) - origin for each in (first, second)]
    if not all(bool(torch.isfinite(way).all()) for way in ways):
        raise ValueError("weights are not finite: a replica diverged; lower the learning rate")
    product = float(ways[0].norm() * ways[1].norm())
    moved = [bool(way.any()) for way in ways]
    cosine = float(ways[0] @ ways[1]) / product if product else (0.0 if any(moved) else 1.0)
    return ReplicaDistance(
        distance=float((ways[0] - ways[1]).square().mean()),
        cosine=min(1.0, max(-1.0, cosine)),
        disagreement=float((first_labels != second_labels).double().mean()),
    )
