"""Curvatures in motion: exact for a quadratic loss, and what a Hessian does not see of a loss with kinks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.example_variance import example_variance
from nnval.measure.fluctuations import epoch_sums
from nnval.measure.full_loss import FullLoss
from nnval.measure.restoring_force import restoring_force
from nnval.measure.weight_recording import RecordingConfig, WeightRecording, record_weights
from nnval.weight_variance_comparison import OrderResult, Spectrum, compared
from sim.random_streams import stream

CONFIG = RecordingConfig(
    order=BatchOrder(), batch_size=10, learning_rate=0.05, momentum=0.5, burn_in=5, runs=4, full_gradients=2
)


def squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((outputs - labels) ** 2).sum() / 2


def test_a_quadratic_loss_gives_its_curvatures(tmp_path: Path, seed: int) -> None:
    """Whatever the noise is: the order of batches and the weight decay make no difference to the slope."""
    rng = stream(seed, "force")
    inputs, labels = torch.from_numpy(rng.standard_normal((60, 3)) * [2, 1, 0.5]), torch.from_numpy(
        rng.standard_normal((60, 1))
    )  # fmt: skip
    function = BatchGradients(nn.Linear(3, 1), inputs, labels, loss=squared_error, dtype=torch.float64)
    loss = FullLoss(nn.Linear(3, 1), inputs, labels, loss=squared_error)
    hessian = loss.product(torch.zeros(4), torch.eye(4))
    curvatures, columns = torch.linalg.eigh(hessian)
    for order in ("reshuffled", "with_replacement"):
        config = dataclasses.replace(CONFIG, order=BatchOrder.parsed(order), weight_decay=0.1)
        recording = record_weights(config, function, torch.zeros(4), columns.T.contiguous(), tmp_path / order)
        force = restoring_force(recording)
        assert [each.value for each in force.curvature] == pytest.approx((curvatures + 0.1).tolist(), rel=1e-9)
        assert max(each.standard_error for each in force.curvature) < 1e-9
        assert recording.gradients is not None
        assert recording.gradients.shape == (20, 2, 4, 4)
        # Those of the mean of the samples, at the weights after these updates.
        last = list(recording.epochs())[-1]
        at = columns @ torch.from_numpy(last.weights[config.measured_updates(19, 6)[1], 2])
        expected = columns.T @ (loss.gradient(at) + 0.1 * at)
        assert recording.gradients[19, 1, 2] == pytest.approx(expected.numpy(), rel=1e-9)


# ---- A loss with kinks -----------------------------------------------------------------------------------------------

SAMPLES, STIFFNESS, JUMPS = 1000, 1.0, 0.5
"""The loss of sample n is STIFFNESS w^2 / 2 + JUMPS |w - c_n| - g_n w, with c_n evenly spread over (-1, 1)."""

CURVATURE = STIFFNESS + JUMPS
"""Of the mean loss: there is half a kink for each sample and unit of w, and the gradient jumps by 2 JUMPS there."""


def kinked(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    weight = outputs[..., 0]
    kink, push = labels[..., 0], labels[..., 1]
    return (STIFFNESS * weight**2 / 2 + JUMPS * (weight - kink).abs() - push * weight).sum()


@pytest.fixture(scope="module")
def kinks(tmp_path_factory: pytest.TempPathFactory) -> tuple[WeightRecording, Spectrum]:
    rng = stream(0, "kinks")
    push = rng.standard_normal(SAMPLES)
    places = rng.permutation(2 * (np.arange(SAMPLES) + 0.5) / SAMPLES - 1)
    labels = torch.from_numpy(np.stack([places, push - push.mean()], axis=1))
    inputs = torch.ones(SAMPLES, 1, dtype=torch.float64)
    module = nn.Linear(1, 1, bias=False)
    loss = FullLoss(module, inputs, labels, loss=kinked)
    function = BatchGradients(module, inputs, labels, loss=kinked, dtype=torch.float64)
    config = dataclasses.replace(
        CONFIG, order=BatchOrder("with_replacement"), batch_size=50, momentum=0.0, runs=32, full_gradients=1
    )
    direction = torch.ones(1, 1, dtype=torch.float64)
    recording = record_weights(config, function, torch.zeros(1), direction, tmp_path_factory.mktemp("kinks") / "run")
    mean = recording.mean_weights.mean(0)
    curvature = loss.product(mean, direction)[0].numpy()
    at_runs = np.stack([example_variance(loss, each, direction) for each in recording.sampled_weights])
    at_mean = example_variance(loss, mean, direction)
    return recording, Spectrum(curvature, curvature, np.zeros(1), np.ones(1, bool), at_mean, at_runs)


def held(kinks: tuple[WeightRecording, Spectrum], tolerance: float = 0.0) -> OrderResult:
    recording, spectrum = kinks
    rng, force = np.random.default_rng(0), restoring_force(recording)
    return compared(recording.config, SAMPLES, epoch_sums(recording), spectrum, rng, force=force, tolerance=tolerance)


def test_kinks_are_in_the_force_and_not_in_the_hessian(kinks: tuple[WeightRecording, Spectrum]) -> None:
    recording, spectrum = kinks
    assert spectrum.curvature == pytest.approx([STIFFNESS], rel=1e-12)
    (slope,) = restoring_force(recording).curvature
    assert slope.value == pytest.approx(CURVATURE, rel=0.02)
    assert slope.standard_error < 0.02


def test_theory_holds_with_the_force_in_motion_and_not_with_the_hessian(
    kinks: tuple[WeightRecording, Spectrum],
) -> None:
    result = held(kinks)
    assert result.in_motion is not None
    side = "above" if result.above is not None else "below"
    plain, stiffer, moving = (getattr(of, name) for of, name in (
        (result, side), (result.in_motion, f"stiffer_{side}"), (result.in_motion, side)))  # fmt: skip
    assert plain.median.value == pytest.approx(STIFFNESS / CURVATURE - 1, abs=4 * plain.median.standard_error)
    assert abs(plain.median.value) > 8 * plain.median.standard_error  # the control: this theory is wrong
    assert stiffer.median.value == pytest.approx(CURVATURE / STIFFNESS - 1, rel=0.05)
    assert abs(moving.median.value) < 4 * moving.median.standard_error
    assert moving.median.standard_error < 0.06


def test_a_tolerance_is_granted_and_no_more(kinks: tuple[WeightRecording, Spectrum]) -> None:
    missed = 1 - STIFFNESS / CURVATURE
    verdicts = {
        tolerance: held(kinks, tolerance=tolerance).weight[0].verdict for tolerance in (0.0, missed / 3, missed)
    }
    assert verdicts == {0.0: "disagrees", missed / 3: "disagrees", missed: "agrees"}
    assert held(kinks, tolerance=0.1).weight[0].margin == 0.1
    for tolerance in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"tolerance={tolerance} must be in \[0, 1\)"):
            held(kinks, tolerance=tolerance)


def test_directions_without_a_restoring_force_are_left_out(kinks: tuple[WeightRecording, Spectrum]) -> None:
    recording, spectrum = kinks
    assert recording.gradients is not None
    pushed = dataclasses.replace(recording, gradients=-recording.gradients)
    result = compared(
        recording.config,
        SAMPLES,
        epoch_sums(recording),
        spectrum,
        np.random.default_rng(0),
        force=restoring_force(pushed),
    )
    assert result.in_motion is not None
    assert result.in_motion.above is result.in_motion.below is None


def test_recordings_without_full_gradients_say_so(tmp_path: Path) -> None:
    inputs = torch.ones(20, 1, dtype=torch.float64)
    function = BatchGradients(nn.Linear(1, 1), inputs, inputs, loss=squared_error, dtype=torch.float64)
    config = dataclasses.replace(CONFIG, full_gradients=0)
    assert "full_gradients" not in config.to_dict()
    recording = record_weights(config, function, torch.zeros(2), torch.eye(2), tmp_path / "run")
    with pytest.raises(ValueError, match=r"run was recorded with full_gradients=0; record with 1 or more"):
        restoring_force(recording)
    with pytest.raises(ValueError, match="full_gradients=3 must be at most 2, the updates of an epoch"):
        record_weights(
            dataclasses.replace(config, full_gradients=3), function, torch.zeros(2), torch.eye(2), tmp_path / "other"
        )
    with pytest.raises(ValueError, match="full_gradients=-1"):
        dataclasses.replace(config, full_gradients=-1)


def test_full_gradients_are_taken_at_all_phases() -> None:
    taken = [CONFIG.measured_updates(epoch, 60) for epoch in range(30)]
    assert all(len(set(each)) == 2 and 0 <= each[0] < each[1] < 60 for each in taken)
    counts = np.bincount(np.concatenate(taken) // 10, minlength=6)
    assert counts.max() - counts.min() <= 2
