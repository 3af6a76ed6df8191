"""The instrument: variances from recordings, with honest errors; theory reproduced and the wrong one rejected."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.example_variance import example_variance
from nnval.measure.fluctuations import EpochSums, epoch_sums, fluctuations, noise_in_motion, pooled, pooled_ratio
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian import eigenpairs
from nnval.measure.weight_recording import RecordingConfig, WeightRecording, record_weights
from nnval.weight_variance_comparison import OrderResult, Spectrum, compared
from sim.random_streams import stream
from theory.estimate import AGREEMENT_P_VALUE, agreement

SAMPLES = 1000

ORDERS = ("reshuffled", "with_replacement", "shuffled_once", "reshuffled:every=3")

Part = tuple[WeightRecording, EpochSums, Spectrum]


def squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((outputs - labels) ** 2).sum() / 2


def regression(
    seed: int, variances: Sequence[float], samples: int = SAMPLES
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear network, inputs that mix directions of these variances, and labels that are mostly noise."""
    rng = stream(seed, "regression")
    basis = np.linalg.qr(rng.standard_normal((len(variances), len(variances))))[0]
    inputs = rng.standard_normal((samples, len(variances))) * np.sqrt(variances) @ basis
    labels = inputs.sum(1, keepdims=True) + rng.standard_normal((samples, 1))
    module = nn.Sequential(nn.Flatten(), nn.Linear(len(variances), 1))
    return module, torch.from_numpy(inputs), torch.from_numpy(labels)


def measured(
    directory: Path,
    seed: int,
    orders: Sequence[str],
    *,
    runs: int,
    variances: Sequence[float] = (4, 2, 1, 0.5, 0.25),
    samples: int = SAMPLES,
    epochs: int = 20,
    burn_in: int = 10,
    batch_size: int = 50,
    learning_rate: float = 0.01,
) -> dict[str, Part]:
    """Everything by the instruments alone: eigenpairs by Lanczos, noise from gradients of samples, recordings."""
    module, inputs, labels = regression(seed, variances, samples)
    loss = FullLoss(module, inputs, labels, loss=squared_error)
    start = torch.linalg.lstsq(torch.cat([inputs, torch.ones(samples, 1)], 1), labels)[0].flatten()
    found = eigenpairs(loss, start, loss.size, rng=stream(seed, "eigenpairs"))
    function = BatchGradients(module, inputs, labels, loss=squared_error, dtype=torch.float64)
    results = {}
    for order in orders:
        config = RecordingConfig(
            order=BatchOrder.parsed(order),
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=0.9,
            burn_in=burn_in,
            epochs=epochs,
            runs=runs,
            seed=seed,
        )
        recording = record_weights(config, function, start, found.directions, directory / order)
        mean = recording.mean_weights.mean(0)
        curvature = (loss.product(mean, found.directions) * found.directions).sum(1).numpy()
        spectrum = Spectrum(
            curvature=curvature,
            before=found.curvatures,
            residuals=found.residuals,
            converged=found.converged,
            at_mean=example_variance(loss, mean, found.directions),
            at_runs=np.stack([example_variance(loss, at, found.directions) for at in recording.sampled_weights]),
        )
        results[order] = recording, epoch_sums(recording), spectrum
    return results


def held(part: Part, theory: str | None = None, drift: str = "mean", tolerance: float = 0.0) -> OrderResult:
    recording, sums, spectrum = part
    order = None if theory is None else BatchOrder.parsed(theory)
    rng, samples = np.random.default_rng(0), recording.batches * recording.config.batch_size
    return compared(recording.config, samples, sums, spectrum, rng, drift=drift, theory=order, tolerance=tolerance)


def z_values(result: OrderResult) -> np.ndarray:
    return np.array([[c.z for c in kind] for kind in (result.weight, result.velocity, result.correlation_time)])


def check_the_controls(parts: dict[str, Part]) -> None:
    """The wrong order's theory must be rejected by the same data, in each of the flat directions, where they differ."""
    for order, part in parts.items():
        right = held(part)
        for wrong in {*parts} - {order}:
            control = held(part, wrong, tolerance=0.1)  # what networks are granted does not hide a wrong order
            flat = control.spectrum.curvature < control.crossover
            assert flat.sum() >= 2
            assert right.below is not None
            assert control.below is not None
            assert abs(control.below.median.value) > 4 * control.below.median.standard_error
            # Orders that are kept for three epochs are much like their neighbours close to the crossover.
            if "reshuffled:every=3" not in (order, wrong) or "with_replacement" in (order, wrong):
                assert abs(right.below.median.value) < abs(control.below.median.value) / 2
                assert np.abs(z_values(control)[0, flat]).min() > 4
                assert {c.verdict for c, below in zip(control.weight, flat, strict=True) if below} == {"disagrees"}


def check_the_noise_in_motion(parts: dict[str, Part]) -> None:
    for order, (recording, sums, spectrum) in parts.items():
        config = recording.config
        noise = noise_in_motion(sums, spectrum.curvature, config.learning_rate, config.momentum)
        expected = spectrum.at_runs.mean(0) * config.order.noise(SAMPLES, config.batch_size).variance
        own = order in ("reshuffled", "with_replacement")  # not of few batches that come again and again
        assert [each.value for each in noise.variance] == pytest.approx(expected, rel=0.05 if own else 0.2)
        shares = [each.value for each in noise.zero_frequency_share]
        if order != "with_replacement":
            assert max(shares) < 0.04
        else:
            assert shares == pytest.approx(np.ones(len(shares)), rel=0.4)


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Part]]:
    """Recorded once for all tests that look at them."""
    return functools.cache(lambda seed: measured(tmp_path_factory.mktemp("parts"), seed, ORDERS, runs=24))


@pytest.fixture
def parts(parts_of: Callable[[int], dict[str, Part]], seed: int) -> dict[str, Part]:
    return parts_of(seed)


def test_theory_is_reproduced(parts: dict[str, Part]) -> None:
    for part in parts.values():
        for drift in ("mean", "line"):
            result = held(part, drift=drift)
            assert result.stationary.all()
            comparisons = (*result.weight, *result.velocity, *result.correlation_time)
            assert min(c.p_value for c in comparisons) > AGREEMENT_P_VALUE


def test_theories_of_wrong_orders_are_rejected(parts: dict[str, Part]) -> None:
    check_the_controls(parts)


def test_the_noise_in_motion(parts: dict[str, Part]) -> None:
    check_the_noise_in_motion(parts)


@pytest.mark.slow
def test_theory_is_reproduced_within_four_errors_in_every_direction(tmp_path: Path) -> None:
    parts = measured(tmp_path, 0, ORDERS[:2], runs=400, samples=2000)
    parts |= measured(tmp_path, 0, ORDERS[2:], runs=200, samples=2000)
    for order, part in parts.items():
        for drift in ("mean", "line"):
            result = held(part, drift=drift)
            assert np.abs(z_values(result)).max() < 4
            assert {c.verdict for c in (*result.weight, *result.velocity, *result.correlation_time)} == {"agrees"}
            # Small enough to see a theory that is wrong by an eighth; of an order for each run, by a third.
            largest = {"reshuffled": 0.02, "with_replacement": 0.02, "shuffled_once": 0.08}.get(order, 0.04)
            assert max(c.measured.standard_error / c.measured.value for c in result.weight) < largest
            assert result.below is not None
            assert abs(result.below.median.value) < 4 * result.below.median.standard_error
    check_the_controls(parts)


def toy_sums(values: np.ndarray, tmp_path: Path) -> EpochSums:
    """Sums of weights (R, E, M, k) as if they had been recorded, beginning at 0 and at rest."""
    runs, epochs, batches, size = values.shape
    np.save(tmp_path / "chunk.npy", np.moveaxis(values, 0, 2))
    config = RecordingConfig(
        order=BatchOrder(), batch_size=1, learning_rate=0.1, momentum=0.3, runs=runs, epochs=epochs
    )
    nothing, none = np.zeros((runs, size)), torch.zeros(runs, 1)
    files = (tmp_path / "chunk.npy",)
    return epoch_sums(WeightRecording(config, tmp_path, batches, size, nothing, nothing, none, none, none, {}, files))


def test_sums_and_variances_by_hand(tmp_path: Path, seed: int) -> None:
    rng = stream(seed, "toy")
    values = rng.standard_normal((5, 20, 6, 2)).cumsum(2) + np.linspace(0, 50, 120).reshape(20, 6)[None, :, :, None]
    sums = toy_sums(values, tmp_path)
    flat = values.reshape(5, 120, 2)
    mean, line = fluctuations(sums), fluctuations(sums, "line")
    time = np.arange(120.0)
    for i in range(2):
        runs = flat[:, :, i]
        velocity = np.diff(runs, axis=1, prepend=0)
        assert mean.weight[i].value == pytest.approx(runs.var(axis=1).mean(), rel=1e-10)
        residuals = [run - np.polyval(np.polyfit(time, run, 1), time) for run in runs]
        assert line.weight[i].value == pytest.approx(np.mean(np.square(residuals)), rel=1e-9)
        assert mean.velocity[i].value == pytest.approx(velocity.var(axis=1).mean(), rel=1e-10)
        assert mean.correlation_time[i].value == pytest.approx(2 * mean.weight[i].value / mean.velocity[i].value)
        # The noise that drives: v_t - beta v_{t-1} + eta lambda theta_{t-1}, about its mean in each run.
        noise = noise_in_motion(sums, [2.0, 2.0], 0.1, 0.3)
        before = np.concatenate([np.zeros((5, 1)), runs[:, :-1]], axis=1)
        push = velocity - 0.3 * np.concatenate([np.zeros((5, 1)), velocity[:, :-1]], axis=1) + 0.2 * before
        push -= push.mean(axis=1, keepdims=True)
        assert noise.variance[i].value == pytest.approx((push**2).mean() / 0.01, rel=1e-9)
        of_epochs = push.reshape(5, 20, 6).sum(2)
        assert noise.zero_frequency[i].value == pytest.approx((of_epochs**2).mean() * 20 / 19 / 6 / 0.01, rel=1e-9)
    assert (mean.slope > 2).all()


@pytest.mark.parametrize(("runs", "memory"), [(32, 0.0), (32, 0.98), (6, 0.0), (6, 0.7)])
def test_errors_are_honest(seed: int, runs: int, memory: float) -> None:
    """Squared errors of many data sets, in units of what was claimed: not above 1, however long epochs remember."""
    rng = stream(seed, "errors", runs, int(100 * memory))
    sets, epochs = 400, 40
    steps = rng.standard_normal((runs, epochs, sets))
    values = np.empty_like(steps)
    values[:, 0] = steps[:, 0]
    for k in range(1, epochs):
        values[:, k] = memory * values[:, k - 1] + np.sqrt(1 - memory**2) * steps[:, k]
    found = pooled(values)
    squares = np.array([(each.value / each.standard_error) ** 2 for each in found])
    assert squares.mean() < 1.25 if runs == 32 else squares.mean() < 1.6
    naive = values.reshape(-1, sets).std(0, ddof=1) / np.sqrt(runs * epochs)
    blind = np.array([each.value for each in found]) / naive
    if memory:  # the negative control: errors that take epochs as independent
        assert not agreement(blind**2, 1.0)
        assert (blind**2).mean() > 2.5
    assert {each.n for each in found} == ({32} if runs == 32 else {each.n for each in found})


def test_few_runs_have_wider_errors_and_fewer_are_refused(tmp_path: Path, seed: int) -> None:
    rng = stream(seed, "few runs")
    # Runs differ from one another by more than epochs of a run do.
    values = rng.standard_normal((8, 20, 4, 3)) * rng.exponential(size=(8, 1, 1, 3))
    measured_few = fluctuations(toy_sums(values, tmp_path))
    of_runs = values.reshape(8, -1, 3).var(axis=1)
    for i, each in enumerate(measured_few.weight):
        assert each.standard_error >= of_runs[:, i].std(ddof=1) / np.sqrt(8) * (1 - 1e-9)
    with pytest.raises(ValueError, match="runs=3 must be >= 4"):
        fluctuations(toy_sums(values[:3], tmp_path))
    with pytest.raises(ValueError, match="drift='curve' must be one of"):
        fluctuations(toy_sums(values, tmp_path), "curve")
    with pytest.raises(ValueError, match="a direction does not move at all"):
        fluctuations(toy_sums(0 * values, tmp_path))


def test_ratios_know_common_fluctuations() -> None:
    values = stream(0, "ratio").exponential(size=(20, 20, 2))
    for each in pooled_ratio(3 * values, values):
        assert each.value == pytest.approx(3)
        assert each.standard_error < 1e-12


def test_what_theory_does_not_describe_is_said(parts: dict[str, Part]) -> None:
    recording, sums, spectrum = parts["with_replacement"]
    odd = dataclasses.replace(
        spectrum,
        curvature=np.concatenate([[-0.5, 1e-5], spectrum.curvature[2:]]),
        converged=np.array([True, True, False, *spectrum.converged[3:]]),
    )
    result = compared(recording.config, SAMPLES, sums, odd, np.random.default_rng(0))
    assert not result.stationary[0]  # a negative curvature has no stationary state, and no comparison
    assert len(result.weight) == len(spectrum.curvature) - 1
    assert result.weight[0].verdict == "outside regime"
    assert "the burn-in of 10 epochs is shorter than 3 relaxation times" in result.weight[0].reasons[0]
    assert result.weight[1].verdict == "outside regime"
    assert "no eigenvector: its residual is" in result.weight[1].reasons[0]
    assert result.second_crossover is None
    with pytest.raises(ValueError, match="spectrum has 2 directions, the recording 6"):
        compared(
            recording.config,
            SAMPLES,
            sums,
            dataclasses.replace(odd, curvature=odd.curvature[:2]),
            np.random.default_rng(0),
        )
