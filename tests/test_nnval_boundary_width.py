"""Boundary widths: what makes them scale-free, exact distances of linear networks, and quantiles of Gaussian points."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from nnval.engine.feedforward_networks import mlp
from nnval.engine.images import Images
from nnval.measure.boundary_width import boundary_distances, margins, measure_boundary_width, output_scale
from sim.random_streams import stream
from theory.estimate import agreement


def some_images(count: int = 60, classes: int = 4) -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randn(count, 1, 3, 3, generator=generator), torch.arange(count) % classes)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return mlp((1, 3, 3), 4, (8,))


def test_margins() -> None:
    outputs = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    assert margins(outputs, torch.tensor([0, 2, 1])).tolist() == [1.0, -1.0, 0.0]
    assert margins(outputs + 5, torch.tensor([0, 2, 1])).tolist() == [1.0, -1.0, 0.0]
    assert output_scale(torch.tensor([[1.0, -1.0], [8.0, 6.0]])) == 1.0


def test_widths_do_not_depend_on_scale_and_offset_of_the_outputs() -> None:
    """But the loss does, and so does the margin without its norm."""
    module, images = network(), some_images()
    scaled = copy.deepcopy(module)
    last = [each for each in scaled.modules() if isinstance(each, nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= 10
        last.bias.mul_(10).add_(3)
    first, second = (measure_boundary_width(each, images, 0.3) for each in (module, scaled))
    assert second.margin == pytest.approx(first.margin, rel=1e-5)
    assert second.distance == pytest.approx(first.distance, rel=1e-5)
    assert second.error == first.error
    assert second.loss > 2 * first.loss


def test_distances_of_a_linear_network_are_those_to_its_boundaries() -> None:
    """A point that far along the gradient is on the boundary: its two highest outputs have become equal."""
    linear = nn.Linear(5, 3).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.normal_(linear.weight)
    inputs = torch.randn(40, 5, generator=torch.Generator().manual_seed(3)).double().requires_grad_()
    outputs = linear(inputs)
    labels = outputs.argmax(1)
    found = boundary_distances(outputs, inputs, labels)
    assert (found > 0).all()
    (slopes,) = torch.autograd.grad(margins(linear(inputs), labels).sum(), inputs)
    moved = inputs - found[:, None] * slopes / slopes.norm(dim=1, keepdim=True)
    top = linear(moved).gather(1, outputs.topk(2).indices)
    assert torch.allclose(top[:, 0], top[:, 1])
    # It is the distance to one of the boundaries, each by itself, and mostly to the nearest.
    weight = linear.weight.detach()
    for n in range(40):
        own = int(labels[n])
        others = [j for j in range(3) if j != own]
        each = [float((outputs[n, own] - outputs[n, j]).detach() / (weight[own] - weight[j]).norm()) for j in others]
        assert min(each) <= float(found[n]) * (1 + 1e-9)
        assert any(math.isclose(one, float(found[n]), rel_tol=1e-9) for one in each)


def test_quantile_of_gaussian_points(seed: int) -> None:
    """Two classes on a line: the margin is 2 x, the distance x; in 250 samples. Another quantile is rejected."""
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0], [-1.0]])
    rng, found, spread = stream(seed, "points"), [], []
    for _ in range(250):
        x = torch.from_numpy(rng.normal(1.0, 0.5, size=(401, 1))).float()
        width = measure_boundary_width(linear, Images(x, torch.zeros(401, dtype=torch.int64)), 0.25)
        found.append(width.distance)
        spread.append(width.margin * float(x.square().mean().sqrt()) / 2)
    expected = 1 + 0.5 * float(norm.ppf(0.25))
    assert agreement(found, expected, detects=0.1)
    assert not agreement(found, 1 + 0.5 * float(norm.ppf(0.35)))
    assert np.allclose(found, spread, rtol=1e-5)


def test_error_and_loss_are_those_of_the_points() -> None:
    module, images = network(), some_images(2500)  # more than are computed at once
    with torch.no_grad():
        outputs = module(images.pixels)
    found = measure_boundary_width(module, images)
    assert found.error == pytest.approx(float((outputs.argmax(1) != images.labels).double().mean()))
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(outputs, images.labels)), rel=1e-6)
    assert found.margin < 0
    assert found.distance < 0


def test_bad_input() -> None:
    images = some_images()
    for quantile in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="must lie strictly between 0 and 1"):
            measure_boundary_width(network(), images, quantile)
    with pytest.raises(ValueError, match="two classes or more"):
        margins(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    last = nn.Linear(9, 4)
    constant = nn.Sequential(nn.Flatten(), last)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.arange(4.0))
    with pytest.raises(ValueError, match="constant around all points"):
        measure_boundary_width(constant, images)
    with torch.no_grad():
        last.bias.zero_()
    with pytest.raises(ValueError, match="there is no boundary"):
        measure_boundary_width(constant, Images(images.pixels, images.labels), 0.5)
