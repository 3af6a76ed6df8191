"""The experiment of `validate weight-variance` in small: stages, resumption, refusals; accuracies in pairs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnval import weight_variance
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.run_directory import Interrupted, RunDirectoryError, read_description
from nnval.replacement_accuracy import compare_orders
from nnval.weight_variance import VarianceResult, measure_weight_variance
from nnval.weight_variance_comparison import _loss
from nnval.weight_variance_config import VarianceConfig
from nnval.weight_variance_scan import scan
from sim.random_streams import stream
from theory.estimate import agreement
from theory.gradient_noise import WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance_limits import crossover_curvature

TRAINING = TrainingConfig(
    train_size=200,
    validation_size=100,
    hidden=(8,),
    learning_rate=0.05,
    momentum=0.5,
    weight_decay=0.001,
    batch_size=20,
    epochs=30,
)
CONFIG = VarianceConfig(training=TRAINING, runs=5, directions=6, burn_in=3)


def numbers(result: VarianceResult) -> list[float]:
    """All that was measured and predicted, in one list."""
    values = []
    for order in result.orders:
        for comparison in (*order.weight, *order.velocity, *order.correlation_time):
            values += [comparison.measured.value, comparison.measured.standard_error, comparison.predicted.value]
        values += [*order.spectrum.curvature.tolist(), *order.spectrum.at_runs.ravel().tolist()]
    return values


def snapshot_of(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> VarianceResult:
    return measure_weight_variance(CONFIG, tmp_path_factory.mktemp("variance") / "run")


def test_the_experiment_end_to_end(finished: VarianceResult) -> None:
    assert [order.order.label for order in finished.orders] == ["reshuffled", "with_replacement"]
    assert finished.samples == 200
    assert 0.5 < finished.test_accuracy <= 1
    for order in finished.orders:
        assert order.batches_per_epoch == 10
        assert order.crossover == pytest.approx(crossover_curvature(0.05, 10, 0.5))
        # Weight decay is in the curvatures that theory gets, and not in those of the Hessian.
        assert order.spectrum.before == pytest.approx(finished.eigenpairs.curvatures + 0.001)
        assert order.spectrum.converged.all()
        assert len(order.weight) == order.stationary.sum() == 6
        assert [
            c.quantity.partition(",")[0] for c in (order.weight[0], order.velocity[0], order.correlation_time[0])
        ] == [
            "Var(theta)",
            "Var(v)",
            "correlation time",
        ]
        for comparison in order.velocity:  # the least that a recording of a real network must give
            assert 0.5 < comparison.measured.value / comparison.predicted.value < 2
        assert order.loss is not None
        error = order.loss.isotropic.standard_error
        assert 0 < order.loss.measured.value <= order.loss.isotropic.value + 3 * error
        assert all(each.value > 0 for each in order.noise.variance)
    reshuffled, replaced = finished.orders
    assert sum(c.measured.value for c in reshuffled.weight) < 0.8 * sum(c.measured.value for c in replaced.weight)
    assert replaced.second_crossover is None


def test_a_finished_run_is_only_read(finished: VarianceResult) -> None:
    before = snapshot_of(finished.directory)
    again = measure_weight_variance(CONFIG, finished.directory)
    assert snapshot_of(finished.directory) == before
    assert numbers(again) == numbers(finished)
    with pytest.raises(RunDirectoryError, match="burn_in: 3 there, 4 asked for"):
        measure_weight_variance(dataclasses.replace(CONFIG, burn_in=4), finished.directory)


def test_where_the_data_lie_has_no_effect_and_what_they_are_has(finished: VarianceResult, tmp_path: Path) -> None:
    before = snapshot_of(finished.directory)
    moved = dataclasses.replace(CONFIG, training=dataclasses.replace(TRAINING, data_dir=str(tmp_path)))
    assert numbers(measure_weight_variance(moved, finished.directory)) == numbers(finished)
    assert snapshot_of(finished.directory) == before
    sha256 = load_data(TRAINING).sha256
    assert finished.config.training.data_sha256 == sha256
    found = read_description(finished.directory)["config"]
    assert found["training"]["data_sha256"] == sha256
    assert "data_dir" not in found["training"]
    others = dataclasses.replace(load_data(TRAINING), sha256="0" * 64)
    with pytest.raises(RunDirectoryError, match="another config"):
        measure_weight_variance(CONFIG, finished.directory, data=others)
    assert snapshot_of(finished.directory) == before


def test_a_run_stays_on_its_device(finished: VarianceResult, monkeypatch: pytest.MonkeyPatch) -> None:
    automatic = dataclasses.replace(CONFIG, training=dataclasses.replace(TRAINING, device="auto"))
    assert finished.config.training.device == "cpu"
    asked = []
    resolve = weight_variance.resolve_device

    def on_a_machine_with_a_gpu(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cuda") if name == "auto" else resolve(name)

    monkeypatch.setattr(weight_variance, "resolve_device", on_a_machine_with_a_gpu)
    assert numbers(measure_weight_variance(automatic, finished.directory)) == numbers(finished)
    assert asked == ["cpu"]


def test_a_tolerance_is_no_part_of_the_run(finished: VarianceResult) -> None:
    before = snapshot_of(finished.directory)
    generous = measure_weight_variance(CONFIG, finished.directory, tolerance=0.9)
    assert snapshot_of(finished.directory) == before
    assert (generous.tolerance, finished.tolerance) == (0.9, 0.0)
    assert numbers(generous) == numbers(finished)
    for order, strict in zip(generous.orders, finished.orders, strict=True):
        for comparison, other in zip(order.weight, strict.weight, strict=True):
            assert comparison.margin == 0.9
            assert comparison.p_value >= other.p_value


def test_curvatures_in_motion(finished: VarianceResult, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, orders=("with_replacement",), full_gradients=1)
    (order,) = measure_weight_variance(config, tmp_path / "run", trained=finished.directory / "training").orders
    moving = order.in_motion
    assert moving is not None
    assert finished.orders[0].in_motion is None
    for each, curvature in zip(moving.curvature, order.spectrum.curvature, strict=True):
        assert 0.7 < each.value / curvature < 3  # it is none of the mere noise
        assert each.standard_error < each.value / 2
    with pytest.raises(ValueError, match="full_gradients=11 must be at most 10, the updates of an epoch"):
        measure_weight_variance(dataclasses.replace(CONFIG, full_gradients=11), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_interrupted_in_every_stage(finished: VarianceResult, tmp_path: Path) -> None:
    def stopping(at: str) -> Callable[[int, int, str], None]:
        def progress(done: int, total: int, text: str) -> None:
            assert 0 <= done <= total
            if at in text:
                raise KeyboardInterrupt

        return progress

    for at in ("epoch 7 of 30", "recording: epoch 9 of 20", "burn-in: epoch 2 of 23", "recording: epoch 11 of 23"):
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            measure_weight_variance(CONFIG, tmp_path / "run", progress=stopping(at))
    assert numbers(measure_weight_variance(CONFIG, tmp_path / "run")) == numbers(finished)


def test_other_directions_and_a_line(finished: VarianceResult, tmp_path: Path) -> None:
    middle = float(finished.eigenpairs.curvatures[4])
    config = dataclasses.replace(
        CONFIG, orders=("reshuffled", "shuffled_once"), directions=3, near=(middle,), near_directions=3, drift="line"
    )
    result = measure_weight_variance(config, tmp_path / "run", trained=finished.directory / "training")
    order = result.orders[1]
    found = order.spectrum.before - 0.001
    assert (np.diff(found) <= 0).all()
    # The ones around the middle overlap with the largest, and count once.
    assert np.isclose(found, middle, rtol=1e-6).sum() == 1
    assert 4 <= len(found) <= 6
    assert order.measured.drift == "line"
    assert len(order.weight) == order.stationary.sum()


def test_scans_share_the_training(finished: VarianceResult, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, orders=("reshuffled",), directions=2)
    told = []
    points = scan(
        config, tmp_path, momenta=[0.0], batch_sizes=[50], progress=lambda done, total, text: told.append((done, total))
    )
    assert [(point.name, point.value) for point in points] == [("momentum", 0.0), ("batch_size", 50)]
    assert points[0].result.orders[0].recording.momentum == 0
    assert points[1].result.orders[0].batches_per_epoch == 4
    assert told == sorted(told)
    assert told[-1] == (2000, 2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan", "training"]
    with pytest.raises(ValueError, match="nothing to scan"):
        scan(config, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentation": "crop_flip"}, "augmentation='crop_flip' must be 'none': with random images"),
        ({"optimizer": "adam", "momentum": 0.0}, "optimizer='adam', nesterov=False: theory is about plain SGD"),
        ({"nesterov": True}, "nesterov=True: theory is about plain SGD"),
        ({"precision": "bfloat16"}, "precision='bfloat16' must be 'float32'"),
    ],
)
def test_trainings_that_theory_is_not_about(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, training=dataclasses.replace(TRAINING, **change))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": 3}, "runs=3 must be"),
        ({"epochs": 10}, "epochs=10 must be >= 20"),
        ({"settle": 5}, "settle=5 must be"),
        ({"orders": ("reshuffled", "reshuffled")}, "must be different ones"),
        ({"orders": "reshuffled"}, "orders='reshuffled' must be a list of names"),
        ({"orders": 3}, "orders=3 must be a list"),
        ({"orders": [3]}, r"orders=\[3\] must be a list of names"),
        ({"near": 3}, "near=3 must be a list"),
        ({"near": ["a"]}, "near='a' must be a number"),
        ({"near": [float("nan")]}, "must be finite curvatures"),
        ({"drift": "curve"}, "drift='curve' must be one of"),
        ({"hessian_dtype": "float16"}, "hessian_dtype='float16' must be"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
    ],
)
def test_bad_configs(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)  # pyright: ignore[reportArgumentType]


def test_configs_as_json() -> None:
    config = dataclasses.replace(CONFIG, near=(1, 2), orders=("reshuffled:every=2",))
    assert VarianceConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown field 'colour'"):
        VarianceConfig.from_dict({"colour": "red"})


NETWORKS = """
from torch import nn

def dropping(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.1), nn.Linear(8, classes))

def normalising(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
"""


@pytest.mark.parametrize(("name", "layer"), [("dropping", "Dropout"), ("normalising", "BatchNorm1d")])
def test_networks_that_are_no_function_of_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layer: str
) -> None:
    (tmp_path / "networks_of_variance.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    training = dataclasses.replace(TRAINING, model=f"networks_of_variance:{name}")
    with pytest.raises(ValueError, match=layer):
        measure_weight_variance(dataclasses.replace(CONFIG, training=training), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # before anything is trained


def test_orders_without_a_theory_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives 1 batch per epoch"):
        measure_weight_variance(dataclasses.replace(CONFIG, batch_size=150), tmp_path / "run")
    with pytest.raises(ValueError, match="batch_size=30 must divide the 200 samples"):
        measure_weight_variance(dataclasses.replace(CONFIG, batch_size=30, orders=("shuffled_once",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


PAIRS = dataclasses.replace(TRAINING, members=20, epochs=3, weight_decay=0.0)


def test_accuracies_in_pairs(tmp_path: Path) -> None:
    result = compare_orders(PAIRS, tmp_path / "run")
    assert result.accuracy.shape == (20, 2)
    assert result.diverged == 0
    difference = result.accuracy[:, 1] - result.accuracy[:, 0]
    assert result.difference.value == pytest.approx(difference.mean())
    assert result.difference.standard_error == pytest.approx(difference.std(ddof=1) / np.sqrt(20))
    low, high = result.interval
    assert high - low == pytest.approx(2 * 2.093024 * result.difference.standard_error, rel=1e-6)
    # After three epochs accuracies depend mostly on the initial weights, which a pair has in common.
    assert np.asarray(np.corrcoef(result.accuracy.T))[0, 1] > 0.5
    before = snapshot_of(tmp_path / "run")
    again = compare_orders(PAIRS, tmp_path / "run", progress=lambda *_: pytest.fail("nothing was to be done"))
    assert np.array_equal(again.accuracy, result.accuracy)
    assert snapshot_of(tmp_path / "run") == before

    def stop_in_the_second_block(done: int, total: int, text: str) -> None:
        assert total == 120
        if "members 16 to 19, epoch 2" in text:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="go on from the last block"):
        compare_orders(PAIRS, tmp_path / "parts", progress=stop_in_the_second_block)
    resumed = compare_orders(PAIRS, tmp_path / "parts")
    assert np.array_equal(resumed.accuracy, result.accuracy)


def test_diverging_pairs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of 2 pairs diverged: lower learning_rate=1e\+30"):
        compare_orders(dataclasses.replace(PAIRS, members=2, learning_rate=1e30, momentum=0.0), tmp_path / "run")


def test_pairs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be two different ones"):
        compare_orders(PAIRS, tmp_path / "run", orders=("reshuffled", "reshuffled"))
    with pytest.raises(ValueError, match="must be two different ones, with batches of one size"):
        compare_orders(PAIRS, tmp_path / "run", orders=("reshuffled", "persistent:entry_probability=0.02"))
    with pytest.raises(ValueError, match="members=1 must be >= 2"):
        compare_orders(dataclasses.replace(PAIRS, members=1), tmp_path / "run")
    with pytest.raises(ValueError, match="target, perturbation and augmentation must be left out"):
        compare_orders(dataclasses.replace(PAIRS, target=0.9), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_largest_variance_is_not_the_largest_error(seed: int) -> None:
    """Equal variances, 60 of them, of 8 runs: nothing is spared, though one of them is always the largest."""
    curvature, unit, rng = np.full(60, 0.1), WhiteNoise(), stream(seed, "loss")
    modes = HeavyBall(0.01, curvature, 0.5)
    spared, chosen_by_measurement = [], []
    for _ in range(300):
        runs = 1 + 0.3 * rng.standard_normal((8, 60))
        share = _loss(runs, curvature, np.ones(60), modes, unit, np.ones(60))
        assert share is not None
        spared.append(share.isotropic.value)
        chosen_by_measurement.append(runs.mean(0).max() * curvature.sum() / 2)
    assert agreement(spared, 3.0)
    assert not agreement(chosen_by_measurement, 3.0)
