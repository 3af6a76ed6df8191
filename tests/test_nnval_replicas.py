"""How far replicas are apart: identities, the random walk, and networks."""

import numpy as np
import pytest
import torch

from nnval.measure.replicas import ReplicaDistance, replica_distance
from sim.random_streams import stream
from theory.estimate import agreement

LABELS = torch.tensor([0, 1, 2, 1])


def distance(first: torch.Tensor, second: torch.Tensor, start: torch.Tensor | None = None) -> ReplicaDistance:
    return replica_distance(torch.zeros_like(first) if start is None else start, first, second, LABELS, LABELS)


def test_identities() -> None:
    start, way = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, 0.1, -0.2])
    assert distance(start, start, start) == ReplicaDistance(0.0, 1.0, 0.0)
    same = distance(start + way, start + way, start)
    assert (same.distance, same.disagreement) == (0.0, 0.0)
    assert same.cosine == pytest.approx(1.0)
    opposite = distance(start + way, start - way, start)
    assert opposite.cosine == pytest.approx(-1.0)
    assert opposite.distance == pytest.approx(float((2 * way).square().mean()), rel=1e-6)
    # A cosine of one that has not moved and one that has is none.
    assert distance(start, start + way, start).cosine == 0.0
    assert replica_distance(start, start, start, LABELS, torch.tensor([0, 1, 0, 0])).disagreement == 0.5


def test_distance_and_angle_are_about_the_start() -> None:
    """|w1 - w2|^2 = a^2 + b^2 - 2 a b cos."""
    first, second, start = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).double()
    found = distance(first, second, start)
    a, b = (float((each - start).norm()) for each in (first, second))
    assert found.distance * 50 == pytest.approx(a**2 + b**2 - 2 * a * b * found.cosine, rel=1e-12)
    shifted = distance(first + 7, second + 7, start + 7)
    assert shifted.distance == pytest.approx(found.distance)
    assert shifted.cosine == pytest.approx(found.cosine)


def test_random_walks_come_apart_as_twice_their_variance(seed: int) -> None:
    """In 300 pairs of 20 independent steps; the variance of one alone is rejected."""
    walks = stream(seed, "walks").normal(0, 0.1, size=(300, 2, 20, 40)).sum(2)
    found = [distance(*(torch.from_numpy(each) for each in pair)) for pair in walks]
    distances = [each.distance for each in found]
    assert agreement(distances, 2 * 20 * 0.1**2)
    assert not agreement(distances, 20 * 0.1**2)
    assert agreement([each.cosine for each in found], 0.0)


def test_bad_input() -> None:
    good = torch.zeros(3)
    with pytest.raises(ValueError, match=r"weights of shapes \(3,\), \(3,\), \(2,\) must all be \(d,\)"):
        replica_distance(good, good, torch.zeros(2), LABELS, LABELS)
    with pytest.raises(ValueError, match=r"labels of shapes \(4,\), \(3,\) must both be \(n,\)"):
        replica_distance(good, good, good, LABELS, LABELS[:3])
    with pytest.raises(ValueError, match="n >= 1"):
        replica_distance(good, good, good, LABELS[:0], LABELS[:0])
    with pytest.raises(ValueError, match="weights are not finite"):
        replica_distance(good, good, good + np.nan, LABELS, LABELS)
