"""What counts as a second crossover: by hand, and in least squares with few samples beside a loss without it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.fluctuations import Fluctuations, NoiseInMotion, epoch_sums
from nnval.measure.full_loss import FullLoss
from nnval.measure.weight_recording import RecordingConfig, record_weights
from nnval.weight_variance_comparison import OrderResult, Spectrum, compared
from nnval.weight_variance_second_crossover import SecondCrossover, second_crossover
from sim.random_streams import stream
from theory.estimate import Estimate
from theory.gradient_noise import WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import recorded_variances
from theory.weight_variance_limits import crossover_curvature

ETA, BETA, BATCHES, UPDATES, RUNS = 0.05, 0.9, 50, 3000, 30
CURVATURE = np.geomspace(0.1, 0.001, 12)
SHARE = 0.05


def looked_for(seed: int, amplitude: float, keep: slice = slice(None), slope: float = 0.0) -> SecondCrossover | None:
    """Directions whose variances rise by so much of what their noise at zero frequency explains; errors of 5 %."""
    curvature = CURVATURE[keep]
    modes = HeavyBall(ETA, curvature, BETA)
    white = recorded_variances(modes, WhiteNoise(), UPDATES).weight
    plateau = np.full(len(curvature), 2.0)
    noise = 0.05 * stream(seed, "second").standard_normal((RUNS, len(curvature))) * RUNS**0.5
    runs = 1.2 * (plateau + amplitude * SHARE * white) * (1 + noise)  # all are above the plateau by a fifth
    share = tuple(Estimate(SHARE, SHARE / 20, RUNS) for _ in curvature)
    drift = np.zeros(len(curvature))
    drift[-1] = slope
    measured = Fluctuations((), (), (), runs, runs, drift, "mean", UPDATES)
    return second_crossover(
        modes,
        NoiseInMotion(share, share, share),
        runs,
        plateau,
        np.arange(len(curvature)),
        BATCHES,
        measured,
        np.random.default_rng(0),
    )


def test_a_rise_on_both_sides_is_seen(seed: int) -> None:
    found = looked_for(seed, 1.0)
    assert found is not None
    assert found.verdict == "seen"
    assert found.curvature == pytest.approx(SHARE * crossover_curvature(ETA, BATCHES, BETA))
    assert (found.below, found.plateau) == (int((found.curvature > CURVATURE).sum()), 12 - found.below)
    assert abs(found.amplitude.value - 1.2) < 5 * found.amplitude.standard_error
    assert found.step is not None
    assert found.step.value > 1


def test_a_plateau_that_is_higher_than_theory_is_none(seed: int) -> None:
    found = looked_for(seed, 0.0)
    assert found is not None
    assert found.verdict == "not seen"
    assert abs(found.amplitude.value) < 5 * found.amplitude.standard_error


def test_without_directions_on_both_sides_nothing_is_seen(seed: int) -> None:
    second = SHARE * crossover_curvature(ETA, BATCHES, BETA)
    below = int((second > CURVATURE).sum())
    for keep, sides in ((slice(0, 12 - below + 2), (2, 12 - below)), (slice(12 - below - 2, None), (below, 2))):
        found = looked_for(seed, 1.0, keep)
        assert found is not None
        assert (found.below, found.plateau) == sides
        assert found.verdict == "not reached"
        assert found.amplitude.value > 4 * found.amplitude.standard_error  # whatever they do
    steep = looked_for(seed, 1.0, slice(0, 12 - below))
    assert steep is not None
    assert steep.step is None


def test_directions_that_drift_take_no_part(seed: int) -> None:
    still, moving = looked_for(seed, 1.0), looked_for(seed, 1.0, slope=1.1)
    assert still is not None
    assert moving is not None
    assert moving.below == still.below - 1
    assert looked_for(seed, 1.0, slice(9, None), slope=1.1) is None


# ---- Least squares ---------------------------------------------------------------------------------------------------

VARIANCES = (2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.008, 0.004, 0.002, 0.001)
CONFIG = RecordingConfig(
    order=BatchOrder(), batch_size=10, learning_rate=ETA, momentum=BETA, burn_in=60, epochs=60, runs=32
)


class FrozenNoise(BatchGradients):
    """The control: the same Hessian and the same gradients of samples, which do not change with the weights."""

    def at(self, minimum: torch.Tensor, loss: FullLoss) -> "FrozenNoise":
        self._minimum, self._hessian = minimum, loss.product(minimum, torch.eye(len(minimum)))
        self._noise = torch.cat(list(loss.example_gradients(minimum)))
        return self

    def __call__(self, weights: torch.Tensor, batches: object, batch_size: int) -> torch.Tensor:
        noise = torch.stack([self._noise[some].sum(0) for some in batches])  # pyright: ignore[reportGeneralTypeIssues]
        return (weights - self._minimum) @ self._hessian + noise / batch_size


def least_squares(directory: Path, seed: int, way: type[BatchGradients]) -> OrderResult:
    rng = stream(seed, "few samples")
    inputs = torch.from_numpy(rng.standard_normal((500, len(VARIANCES))) * np.sqrt(VARIANCES))
    labels = inputs.sum(1, keepdim=True) + torch.from_numpy(rng.standard_normal((500, 1)))

    def squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return ((outputs - labels) ** 2).sum() / 2

    module = nn.Linear(len(VARIANCES), 1)
    loss = FullLoss(module, inputs, labels, loss=squared_error)
    minimum = torch.linalg.lstsq(torch.cat([inputs, torch.ones(500, 1)], 1), labels)[0].flatten()
    function = way(module, inputs, labels, loss=squared_error, dtype=torch.float64)
    if isinstance(function, FrozenNoise):
        function.at(minimum, loss)
    curvature, columns = torch.linalg.eigh(loss.product(minimum, torch.eye(loss.size)))
    directions = columns.T.flip(0).contiguous()
    config = dataclasses.replace(CONFIG, seed=seed)
    recording = record_weights(config, function, minimum, directions, directory)
    noise = (torch.cat(list(loss.example_gradients(minimum))) @ directions.T).pow(2).mean(0).numpy()
    values = curvature.flip(0).numpy()
    spectrum = Spectrum(values, values, 0 * values, values > 0, noise, np.tile(noise, (config.runs, 1)))
    return compared(config, 500, epoch_sums(recording), spectrum, np.random.default_rng(0))


@pytest.mark.slow
def test_it_is_seen_in_least_squares_with_few_samples(tmp_path: Path, seed: int) -> None:
    result = least_squares(tmp_path / "run", seed, BatchGradients)
    second = result.second_crossover
    assert second is not None
    assert second.verdict == "seen"
    assert second.below >= 3
    assert second.amplitude.value == pytest.approx(1, abs=0.4)
    ratios = [c.measured.value / c.predicted.value for c in result.weight]
    assert ratios[-1] > 3  # far above the theory of noise that does not depend on the weights
    assert result.driven_below is not None
    assert abs(result.driven_below.median.value) < 0.1


@pytest.mark.slow
def test_it_is_not_seen_with_noise_that_does_not_depend_on_the_weights(tmp_path: Path, seed: int) -> None:
    result = least_squares(tmp_path / "run", seed, FrozenNoise)
    second = result.second_crossover
    assert second is not None
    assert second.verdict != "seen"
    assert second.share.value < 0.02
    ratios = [c.measured.value / c.predicted.value for c in result.weight]
    assert max(ratios) < 1.4
