"""Recordings of projected weights: against torch's own SGD, resumed at any instant, and refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.measure.batch_gradients import BatchGradients, flat_weights
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.full_loss import FullLoss
from nnval.measure.weight_recording import RecordingConfig, WeightRecording, load_recording, record_weights
from sim.random_streams import stream
from theory.gradient_noise import Persistent, Reshuffled, ReshuffledEvery, ShuffledOnce, WhiteNoise

ORDERS = ("reshuffled", "with_replacement", "shuffled_once", "reshuffled:every=3", "persistent:entry_probability=0.02")
CONFIG = RecordingConfig(
    order=BatchOrder(),
    batch_size=8,
    learning_rate=0.05,
    momentum=0.8,
    weight_decay=0.01,
    burn_in=2,
    epochs=20,
    runs=3,
    seed=5,
)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    rng = stream(0, "recording data")
    return torch.from_numpy(rng.standard_normal((44, 2, 2))), torch.from_numpy(rng.integers(3, size=44))


def gradients(stacked: bool = True, dtype: torch.dtype = torch.float64) -> BatchGradients:
    return BatchGradients(network(), *data(), stacked=stacked, dtype=dtype)


def some_directions(count: int = 4) -> torch.Tensor:
    size = gradients().size
    matrix = torch.from_numpy(stream(0, "directions").standard_normal((size, count)))
    return torch.linalg.qr(matrix)[0].T.contiguous()


def record(directory: Path, config: RecordingConfig = CONFIG, **options: object) -> WeightRecording:
    function = gradients(stacked=config.order.same_size)
    return record_weights(config, function, flat_weights(network()), some_directions(), directory, **options)  # pyright: ignore[reportArgumentType]


def all_weights(recording: WeightRecording) -> np.ndarray:
    return np.concatenate([epoch.weights for epoch in recording.epochs()])


@pytest.mark.parametrize("label", ORDERS)
def test_the_weights_are_those_of_torchs_sgd(tmp_path: Path, label: str) -> None:
    config = dataclasses.replace(CONFIG, order=BatchOrder.parsed(label))
    if label in ("shuffled_once", "reshuffled:every=3"):  # no sample may be left out
        config = dataclasses.replace(config, batch_size=11)
    recording = record(tmp_path / "run", config)
    inputs, labels = data()
    directions = some_directions()
    projected = all_weights(recording)
    for run in range(config.runs):
        module = network()
        start = flat_weights(module)
        optimizer = torch.optim.SGD(
            module.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
        epochs = config.order.epochs(44, config.batch_size, stream(config.seed, f"recording/{label}", run))
        path, total = [], torch.zeros_like(start)
        for epoch in range(config.burn_in + config.epochs):
            for batch in next(epochs):
                some = torch.from_numpy(np.asarray(batch))
                optimizer.zero_grad()
                (F.cross_entropy(module(inputs[some]), labels[some], reduction="sum") / config.batch_size).backward()
                optimizer.step()
                if epoch >= config.burn_in:
                    path.append(directions @ (flat_weights(module) - start))
                    total += flat_weights(module)
        assert projected[:, run] == pytest.approx(torch.stack(path).numpy(), rel=1e-9, abs=1e-12)
        assert torch.allclose(recording.final_weights[run], flat_weights(module), rtol=1e-10, atol=1e-12)
        assert torch.allclose(recording.mean_weights[run], total / len(path), rtol=1e-10, atol=1e-12)


def test_velocities_are_differences_and_begin_with_the_one_before(tmp_path: Path) -> None:
    short = dataclasses.replace(CONFIG, burn_in=2)
    recording, longer = record(tmp_path / "a", short), record(tmp_path / "b", dataclasses.replace(short, burn_in=0))
    whole = all_weights(longer)  # its first two epochs are the burn-in of the other
    first = next(iter(recording.epochs()))
    start = 2 * recording.batches
    assert first.before == pytest.approx(whole[start - 1], rel=1e-9)
    assert first.velocity_before == pytest.approx(whole[start - 1] - whole[start - 2], rel=1e-6, abs=1e-12)
    assert first.velocities == pytest.approx(np.diff(whole[start - 1 : start + recording.batches], axis=0), abs=1e-12)
    assert recording.weights(2) == pytest.approx(all_weights(recording)[:, :, 2].T)


def test_a_given_velocity_goes_on(tmp_path: Path) -> None:
    function, weights = gradients(), flat_weights(network())
    velocity = torch.full_like(weights, 0.01)
    config = dataclasses.replace(CONFIG, burn_in=0, runs=1)
    recording = record_weights(config, function, weights, some_directions(), tmp_path / "a", velocity=velocity)
    still = record_weights(config, function, weights, some_directions(), tmp_path / "b")
    difference = all_weights(recording)[0, 0] - all_weights(still)[0, 0]
    assert difference == pytest.approx((config.momentum * some_directions() @ velocity).numpy(), rel=1e-9)


def test_single_precision_projections_do_not_drift(tmp_path: Path) -> None:
    function = gradients(dtype=torch.float32)
    config = dataclasses.replace(CONFIG, epochs=200, runs=2)
    recording = record_weights(config, function, flat_weights(network()), some_directions(), tmp_path / "run")
    moved = recording.final_weights.double() - flat_weights(network()).float().double()
    exact = (moved @ some_directions().float().double().T).numpy()
    assert all_weights(recording)[-1] == pytest.approx(exact, abs=1e-6 * float(moved.norm()))


def test_runs_one_after_the_other_are_the_same_as_together(tmp_path: Path) -> None:
    together = record(tmp_path / "a")
    apart = record_weights(CONFIG, gradients(False), flat_weights(network()), some_directions(), tmp_path / "b")
    assert all_weights(apart) == pytest.approx(all_weights(together), rel=1e-9, abs=1e-12)
    assert not np.allclose(all_weights(apart)[:, 0], all_weights(apart)[:, 1])  # runs have orders of their own


@pytest.mark.parametrize("label", ["reshuffled", "persistent:entry_probability=0.02"])
@pytest.mark.parametrize("stop_at", [1, 2, 9])
def test_interrupted_recordings_go_on_to_the_same_bits(tmp_path: Path, label: str, stop_at: int) -> None:
    config = dataclasses.replace(CONFIG, order=BatchOrder.parsed(label))
    whole = record(tmp_path / "whole", config)

    def interrupt(done: int, total: int, text: str) -> None:
        if done in (stop_at, stop_at + 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(Interrupted, match="run the same command again"):
            record(tmp_path / "parts", config, progress=interrupt)
    parts = record(tmp_path / "parts", config, checkpoint_seconds=0)
    assert len(parts.chunks) > len(whole.chunks)
    assert all_weights(parts).tobytes() == all_weights(whole).tobytes()
    assert parts.mean_weights.equal(whole.mean_weights)
    assert parts.sampled_weights.equal(whole.sampled_weights)


@pytest.mark.parametrize("lost", ["checkpoint.pt", "chunk"])
def test_killed_between_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    from nnval.engine import run_directory as disk

    whole = record(tmp_path / "whole")
    original, written = disk.write_whole, []

    def failing(path: Path, content: bytes) -> None:
        written.append(path.name)
        if len(written) > 20 and path.name.startswith(lost):
            raise RuntimeError("killed")
        original(path, content)

    monkeypatch.setattr(disk, "write_whole", failing)
    with pytest.raises(RuntimeError, match="killed"):
        record(tmp_path / "parts", checkpoint_seconds=0)
    monkeypatch.setattr(disk, "write_whole", original)
    with pytest.raises(RunDirectoryError, match="unfinished"):
        load_recording(tmp_path / "parts")
    assert all_weights(record(tmp_path / "parts")).tobytes() == all_weights(whole).tobytes()


def test_a_finished_recording_is_only_read(tmp_path: Path) -> None:
    first = record(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    again = record(tmp_path / "run", progress=lambda *_: pytest.fail("nothing was to be done"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before
    assert again.config == first.config == load_recording(tmp_path / "run").config


def test_another_recording_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"momentum: 0\.8 there, 0.5 asked for"):
        record(tmp_path / "run", dataclasses.replace(CONFIG, momentum=0.5))
    with pytest.raises(RunDirectoryError, match="weights_sha256"):
        record_weights(CONFIG, gradients(), torch.zeros(gradients().size), some_directions(), tmp_path / "run")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    recording = record(tmp_path / "run", checkpoint_seconds=0)
    recording.chunks[1].rename(tmp_path / "elsewhere")
    with pytest.raises(RunDirectoryError, match=r"lacks chunk_000003\.npy; remove it to record anew"):
        load_recording(tmp_path / "run")
    content = recording.chunks[0].read_bytes()
    for damaged in (content[: len(content) // 2], b""):
        recording.chunks[0].write_bytes(damaged)
        with pytest.raises(RunDirectoryError, match=r"cannot read .*chunk_000002\.npy: .* to record anew"):
            load_recording(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(RunDirectoryError, match=r"cannot read .*checkpoint\.pt"):
        load_recording(tmp_path / "run")


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs=19 must be >= 20: a shorter recording"):
        dataclasses.replace(CONFIG, epochs=19)
    with pytest.raises(ValueError, match="momentum=1"):
        dataclasses.replace(CONFIG, momentum=1.0)
    with pytest.raises(ValueError, match="weight_decay=-1 must be finite and >= 0"):
        dataclasses.replace(CONFIG, weight_decay=-1)
    with pytest.raises(ValueError, match="batch_size=44 of 44 samples gives 1 batch per epoch"):
        record(tmp_path / "run", dataclasses.replace(CONFIG, batch_size=44))
    function, weights = gradients(), flat_weights(network())
    with pytest.raises(ValueError, match=r"weights of shape \(3,\) must be \(43,\)"):
        record_weights(CONFIG, function, torch.zeros(3), some_directions(), tmp_path / "run")
    with pytest.raises(ValueError, match="directions miss orthonormality by"):
        record_weights(CONFIG, function, weights, 2 * some_directions(), tmp_path / "run")
    with pytest.raises(ValueError, match="directions miss orthonormality by"):
        record_weights(CONFIG, function, weights, some_directions(2)[[0, 0]], tmp_path / "run")
    with pytest.raises(ValueError, match="a run diverged in epoch"):
        record(tmp_path / "run", dataclasses.replace(CONFIG, learning_rate=1e80, epochs=40))
    assert not (tmp_path / "run" / "done.json").exists()


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("chain", [True, False])
def test_frozen_parameters_are_no_weights(stacked: bool, chain: bool) -> None:
    """Of FullLoss, BatchGradients and flat_weights alike; what is frozen still counts for the outputs."""

    class Branched(nn.Module):  # no chain of layers: another way of stacking runs
        def __init__(self) -> None:
            super().__init__()
            self.chain = network()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.chain(inputs)

    module = network() if chain else Branched()
    first, *_, last = module.parameters()
    for each in (first, last):
        each.requires_grad_(False)
    inputs, labels = data()
    together = BatchGradients(module, inputs, labels, stacked=stacked, dtype=torch.float64)
    loss = FullLoss(module, inputs, labels)
    weights = flat_weights(module)
    assert together.size == loss.size == len(weights) == gradients().size - first.numel() - last.numel()
    assert torch.equal(loss.weights, weights)
    at = torch.stack([weights, 2 * weights])
    some = [torch.arange(5), torch.arange(20, 25)]
    found = together(at, some, 5)
    for row, point, samples in zip(found, at, some, strict=True):
        assert torch.allclose(row, loss.gradient(point, samples), rtol=1e-10, atol=1e-14)
    # The control: a network whose frozen parameters are others has other gradients.
    with torch.no_grad():
        first.mul_(2)
    assert not torch.allclose(BatchGradients(module, inputs, labels, dtype=torch.float64)(at, some, 5), found)


def test_full_gradients_go_on_to_the_same_bits(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, full_gradients=2)
    whole = record(tmp_path / "whole", config)

    def interrupt(done: int, total: int, text: str) -> None:
        if done in (1, 8):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(Interrupted):
            record(tmp_path / "parts", config, progress=interrupt)
    parts = record(tmp_path / "parts", config)
    assert parts.gradients is not None
    assert whole.gradients is not None
    assert parts.gradients.tobytes() == whole.gradients.tobytes()
    assert parts.gradients.all()
    without = record(tmp_path / "without")
    assert without.gradients is None
    assert all_weights(without).tobytes() == all_weights(whole).tobytes()  # to look at weights does not move them


def test_stacked_batches_must_have_one_size() -> None:
    function = gradients()
    weights = flat_weights(network()).repeat(2, 1)
    with pytest.raises(ValueError, match="stacked=True needs batches of one size"):
        function(weights, [torch.tensor([0, 1]), torch.tensor([2])], 2)
    apart = gradients(False)
    empty = apart(weights, [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64)], 2)
    assert not empty[1].any()
    assert empty[0].any()


def test_orders_by_name() -> None:
    for label in ORDERS:
        assert BatchOrder.parsed(label).label == label
    noises = [BatchOrder.parsed(label).noise(60, 6) for label in ORDERS[:4]]
    assert noises == [
        Reshuffled(10, 9 / 59),
        WhiteNoise(1 / 6),
        ShuffledOnce(10, 9 / 59),
        ReshuffledEvery(10, 3, 9 / 59),
    ]
    assert isinstance(BatchOrder("persistent", entry_probability=0.02).noise(60, 6), Persistent)
    with pytest.raises(ValueError, match="order='sorted' must be one of"):
        BatchOrder("sorted")
    with pytest.raises(ValueError, match="every=2 belongs to order='reshuffled'"):
        BatchOrder("shuffled_once", every=2)
    with pytest.raises(ValueError, match="belongs to order='persistent', which needs it"):
        BatchOrder("persistent")
    with pytest.raises(ValueError, match="its option must be every=E"):
        BatchOrder.parsed("reshuffled:each=2")
    with pytest.raises(ValueError, match="batch_size=7 must divide the 60 samples"):
        BatchOrder("shuffled_once").noise(60, 7)


def test_noise_of_epochs_that_leave_samples_out(seed: int) -> None:
    """Batches of one epoch have the covariance -C_0 / (N - 1), whatever is left out, and other epochs none."""
    samples, size, replicas = 23, 5, 40_000
    values = stream(seed, "values").standard_normal(samples)
    values = (values - values.mean()) / values.std()
    epochs = BatchOrder().epochs(samples, size, stream(seed, "left out"))
    means = np.array([values[np.asarray(next(epochs))].mean(1) for _ in range(replicas)])
    noise = BatchOrder().noise(samples, size)
    measured = [np.mean(means[:, : -lag or None] * means[:, lag:]) * (4 - lag) / 4 for lag in range(4)]
    assert measured == pytest.approx(noise.autocovariance([0, 1, 2, 3]), abs=5 * 0.17 / np.sqrt(replicas))
    # An epoch does not sum to zero.
    assert np.mean(means.sum(1) ** 2) / 4 == pytest.approx(noise.sum_of_autocovariance, rel=0.05)
    assert noise.sum_of_autocovariance > 0
