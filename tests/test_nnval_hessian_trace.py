"""The trace of the Hessian of a network's mean loss, estimated."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian_trace import estimate_hessian_trace
from sim.random_streams import stream
from theory.estimate import agreement

IMAGES = load_data(TrainingConfig()).train


def test_trace_agrees_and_its_error_is_honest(seed: int) -> None:
    # Small, as the test wants many estimates; two classes.
    labels = (IMAGES.labels[:60] % 2).long()
    module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    initialise(module, "kaiming_fan_out", torch.Generator().manual_seed(3))
    loss = FullLoss(module, IMAGES.all_inputs()[:60], labels)
    dense = loss.product(loss.weights, torch.eye(loss.size, dtype=torch.float64)).numpy()
    rng = stream(seed, "probes")
    estimates = [estimate_hessian_trace(loss, loss.weights, 16, rng) for _ in range(220)]
    values = [estimate.value for estimate in estimates]
    trace = float(np.trace(dense))
    assert agreement(values, trace, detects=0.3)
    assert not agreement(values, 1.3 * trace)  # the control
    # Rademacher probes: the variance of one is twice the sum of squares off the diagonal.
    variance = 2 * ((dense**2).sum() - (np.diag(dense) ** 2).sum())
    reported = [16 * estimate.standard_error**2 for estimate in estimates]
    assert agreement(reported, variance, detects=0.5)
    assert not agreement(reported, variance / 2)  # H_ij and H_ji are the same number
    assert all(estimate.n == 16 for estimate in estimates)


def test_trace_of_a_diagonal_hessian_is_exact() -> None:
    squares = {"loss": lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2}
    loss = FullLoss(
        nn.Linear(3, 1, bias=False), torch.diag(torch.tensor([1.0, 2.0, 3.0])), torch.zeros(3, 1), **squares
    )
    estimate = estimate_hessian_trace(loss, loss.weights, 20, stream(0, "probes"))
    assert math.isclose(estimate.value, 14 / 3, rel_tol=1e-12)
    assert estimate.standard_error < 1e-12


def test_trace_refuses_fewer_than_two_probes() -> None:
    loss = FullLoss(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), IMAGES, IMAGES.labels)
    weights = loss.weights
    with pytest.raises(ValueError, match="probes=1 must be a whole number >= 2"):
        estimate_hessian_trace(loss, weights, 1, stream(0, "probes"))
    with pytest.raises(ValueError, match="not finite"):
        estimate_hessian_trace(loss, weights * math.inf, 2, stream(0, "probes"))
