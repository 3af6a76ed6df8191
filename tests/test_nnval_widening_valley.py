"""Four noises beside each other: paired differences, and runs on disk."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from nnval import paired_trainings
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.noisy_descent import METHODS
from nnval.widening_valley import run_widening_valley
from nnval.widening_valley_study import MethodCurves, WideningValley, WideningValleyConfig, end_differences
from sim.random_streams import stream

TRAINING = {
    "train_size": 60,
    "validation_size": 10,
    "hidden": [4],
    "learning_rate": 0.05,
    "momentum": 0.5,
    "epochs": 4,
    "members": 2,
}
TINY = {"training": TRAINING, "noise_scale": 0.02, "measure_every": 3, "probes": 3}


def tiny(**changes: Any) -> WideningValleyConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in vars(WideningValleyConfig().training)}
    return WideningValleyConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})


# ---- Paired differences ----------------------------------------------------------------------------------------------


def curves_of(method: str, trace: np.ndarray, accuracy: np.ndarray) -> MethodCurves:
    both = [np.stack([np.ones_like(trace), each], axis=1) for each in (trace, accuracy)]
    return MethodCurves(method, both[0], 0.1 * both[0], 2 * both[0], both[1])


def test_differences_are_paired_t_tests() -> None:
    rng = stream(0, "paired")
    common = rng.normal(100, 30, size=12)  # what the seeds have in common, far more than the effect
    noise = {method: rng.normal(0, 1, size=12) for method in METHODS}
    shift = {"with_replacement": 0.0, "reshuffled": 0.0, "pgd": 0.0, "anti_pgd": -10.0}
    curves = [curves_of(each, common + noise[each] + shift[each], noise[each]) for each in METHODS]
    differences = {(each.quantity, each.method, each.reference): each for each in end_differences(curves)}
    assert len(differences) == 12
    for (quantity, method, reference), each in differences.items():
        ends = [getattr(next(c for c in curves if c.method == name), quantity)[:, -1] for name in (method, reference)]
        test = scipy.stats.ttest_rel(*ends)
        assert each.difference.value == pytest.approx(np.mean(ends[0] - ends[1]))
        assert each.comparison.p_value == pytest.approx(test[1])
        interval = test.confidence_interval(0.95)
        assert each.difference.interval() == pytest.approx((interval.low, interval.high))
        effect = quantity != "test_accuracy" and method == "anti_pgd"
        assert each.shown == effect
        assert not effect or each.difference.value < 0
    # Without the pairing this effect would not be seen.
    ends = [next(c for c in curves if c.method == name).trace[:, -1] for name in ("anti_pgd", "pgd")]
    assert np.asarray(scipy.stats.ttest_ind(*ends))[1] > 0.01


def test_seeds_that_happen_to_differ_alike_show_nothing() -> None:
    """Two accuracies on 100 samples may well be 0.01 apart in both seeds: an error of zero is no certainty."""
    trace, accuracy = np.array([1.0, 2.0]), np.array([0.5, 0.25])
    curves = [curves_of("reshuffled", trace, accuracy + 0.125), curves_of("with_replacement", trace, accuracy)]
    found = {each.quantity: each for each in end_differences(curves)}["test_accuracy"]
    assert (found.difference.value, found.difference.standard_error) == (0.125, 0.0)
    assert not found.shown


def test_only_methods_that_were_trained_are_compared() -> None:
    ones = np.arange(3.0)
    found = end_differences([curves_of("reshuffled", ones, ones), curves_of("with_replacement", ones, ones)])
    assert [(each.quantity, each.method, each.reference) for each in found] == [
        (quantity, "reshuffled", "with_replacement") for quantity in ("trace", "train_loss", "test_accuracy")
    ]
    assert all(each.difference.value == each.difference.standard_error == 0 and not each.shown for each in found)


# ---- The experiment --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> WideningValley:
    return run_widening_valley(tiny(), tmp_path_factory.mktemp("valley") / "run")


def everything(result: WideningValley) -> dict[str, np.ndarray]:
    names = ("trace", "probe_error", "train_loss", "test_accuracy")
    return {f"{each.method} {name}": getattr(each, name) for each in result.curves for name in names}


def same(first: WideningValley, second: WideningValley) -> bool:
    one, other = everything(first), everything(second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_what_is_measured(result: WideningValley) -> None:
    assert result.epochs == (0, 3, 4)
    assert [each.method for each in result.curves] == list(METHODS)
    assert result.weights == 64 * 4 + 4 + 40 + 10
    for each in result.curves:
        assert each.trace.shape == each.probe_error.shape == each.train_loss.shape == (2, 3)
        assert (each.probe_error > 0).all()
        assert ((each.test_accuracy >= 0) & (each.test_accuracy <= 1)).all()
        assert (each.train_loss[:, 2] < each.train_loss[:, 0]).all()
    # Methods share initial weights, data and probes; seeds do not; and noises differ.
    first = result.curves[0]
    for each in result.curves[1:]:
        for name in ("trace", "train_loss", "test_accuracy"):
            assert np.array_equal(getattr(each, name)[:, 0], getattr(first, name)[:, 0])
    assert first.trace[0, 0] != first.trace[1, 0]
    assert len({each.train_loss[0, 2] for each in result.curves}) == 4
    estimate = result.of("pgd").estimates("trace")[2]
    assert (estimate.value, estimate.n) == (pytest.approx(result.of("pgd").trace[:, 2].mean()), 2)
    assert len(result.differences) == 12
    with pytest.raises(ValueError, match="method='sgd' must be one of with_replacement"):
        result.of("sgd")


def test_anti_pgd_is_measured_without_its_noise(tmp_path: Path) -> None:
    """With a learning rate that moves nothing its clean weights are the initial ones; those of PGD wander off."""
    config = tiny(learning_rate=1e-30, momentum=0.0, noise_scale=0.5, methods=["pgd", "anti_pgd"])
    found = run_widening_valley(config, tmp_path / "run")
    for name in ("train_loss", "test_accuracy"):
        anti, white = (getattr(found.of(method), name) for method in ("anti_pgd", "pgd"))
        assert np.array_equal(anti, np.repeat(anti[:, :1], 3, axis=1))
        assert (white[:, 0] == anti[:, 0]).all()
        assert (white[:, 1:] != anti[:, 1:]).all()


def test_a_finished_run_is_only_read(result: WideningValley, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path: path.stat().st_mtime_ns for path in result.directory.rglob("*")}
    assert not any(path.suffix == ".pt" for path in files)
    for name in ("write_whole", "write_json", "make_directory", "opened"):
        monkeypatch.setattr(paired_trainings.disk, name, lambda *_, **__: pytest.fail("wrote"))
    assert same(run_widening_valley(tiny(), result.directory), result)
    assert {path: path.stat().st_mtime_ns for path in result.directory.rglob("*")} == files


@pytest.mark.parametrize("interruption", [Interrupted, KeyboardInterrupt])
def test_interrupted_runs_go_on_to_the_same_bits(
    result: WideningValley, tmp_path: Path, interruption: type[BaseException]
) -> None:
    seen: list[tuple[int, int, str]] = []

    def stop(done: int, total: int, text: str) -> None:
        seen.append((done, total, text))
        if done % 5 == 3:  # in the first, middle and last epochs, of all methods
            raise interruption("asked to")

    for _ in range(6):
        with pytest.raises(Interrupted, match=r"stopped after epoch .* run the same command again"):
            run_widening_valley(tiny(), tmp_path / "run", progress=stop)
    again = run_widening_valley(tiny(), tmp_path / "run", progress=stop)
    assert [done for done, _, _ in seen] == list(range(1, 33))  # none twice
    assert seen[0] == (1, 32, "seed 0, with_replacement")
    assert same(again, result)


def test_killed_runs_go_on_from_the_last_checkpoint(result: WideningValley, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    seen: list[int] = []

    def kill(done: int, total: int, text: str) -> None:
        seen.append(done)
        if done in (7, 19) and seen.count(done) == 1:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            run_widening_valley(tiny(), tmp_path / "run", progress=kill, checkpoint_seconds=0)
    again = run_widening_valley(tiny(), tmp_path / "run", progress=kill, checkpoint_seconds=0)
    assert seen == [*range(1, 8), *range(7, 20), *range(19, 33)]  # what was not saved is done again
    assert same(again, result)


def test_seeds_are_added(result: WideningValley, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    run_widening_valley(tiny(members=2, first_member=1), directory)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*.json")}
    trained: list[str] = []
    longer = run_widening_valley(tiny(members=3), directory, progress=lambda *each: trained.append(each[2]))
    assert {text.partition(",")[0] for text in trained} == {"seed 0"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name, values in everything(result).items():
        assert np.array_equal(everything(longer)[name][:2], values)


def test_other_runs_and_damage_are_refused(result: WideningValley, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"noise_scale: 0\.02 there, 0\.03 asked for"):
        run_widening_valley(tiny(noise_scale=0.03), result.directory)
    directory = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_widening_valley(tiny(), directory, progress=_interrupt)
    checkpoint = directory / "seeds" / "0000" / "with_replacement.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunDirectoryError, match=r"cannot read .*with_replacement\.pt"):
        run_widening_valley(tiny(), directory)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # in a tensor, where torch alone would not see it
    checkpoint.write_bytes(flipped)
    with pytest.raises(RunDirectoryError, match=r"cannot read .*check sum"):
        run_widening_valley(tiny(), directory)
    os.remove(checkpoint)
    again = run_widening_valley(tiny(), directory)
    assert same(again, result)
    damaged = directory / "seeds" / "0001" / "pgd.json"
    values = json.loads(damaged.read_text())
    without = {name: value for name, value in values.items() if name != "trace"}
    for wrong in ({**values, "epoch": [0, 3]}, without, {**values, "trace": [1.0, 2.0]}, {**values, "trace": None}):
        damaged.write_text(json.dumps(wrong))
        with pytest.raises(RunDirectoryError, match=r"pgd\.json is damaged: remove it"):
            run_widening_valley(tiny(), directory)
    os.remove(damaged)
    torch.save({"of": "something else"}, damaged.with_suffix(".pt"))
    with pytest.raises(RunDirectoryError, match=r"cannot read .*pgd\.pt"):
        run_widening_valley(tiny(), directory)
    os.remove(damaged.with_suffix(".pt"))
    assert same(run_widening_valley(tiny(), directory), result)


def _interrupt(*_: Any) -> None:
    raise Interrupted("asked to")


def test_networks_and_trainings_that_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BatchNorm2d, whose output in training depends on the batch"):
        run_widening_valley(tiny(model="resnet20"), tmp_path / "batch_norm")
    assert not (tmp_path / "batch_norm").exists()
    with pytest.raises(ValueError, match="diverged in epoch 1 from seed 0: lower learning_rate"):
        run_widening_valley(tiny(noise_scale=1e38, methods=["reshuffled", "pgd"]), tmp_path / "diverging")
    with pytest.raises(ValueError, match="batch_size=40 of 60 training samples gives one batch per epoch"):
        run_widening_valley(tiny(batch_size=40), tmp_path / "one_batch")
    assert not (tmp_path / "one_batch").exists()
    with pytest.raises(ValueError, match="checkpoint_seconds=-1 must be >= 0"):
        run_widening_valley(tiny(), tmp_path / "negative", checkpoint_seconds=-1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "crop_flip"}, "augmentation='crop_flip' must be 'none' here"),
        ({"optimizer": "adam", "momentum": 0.0}, "optimizer='adam' must be 'sgd' here"),
        ({"schedule": "cosine"}, "schedule='cosine' must be 'constant' here"),
        ({"target": 0.9}, "target=0.9 must be None here"),
        ({"members": 1}, "members must be >= 2"),
        ({"noise_scale": 0.0}, "noise_scale=0 must be > 0"),
        ({"noise_scale": -1.0}, "noise_scale=-1.0 must be finite and >= 0"),
        ({"distribution": "cauchy"}, "distribution='cauchy' must be one of"),
        ({"methods": ["pgd"]}, "must be two or more of"),
        ({"methods": ["pgd", "sgd"]}, "must be two or more of"),
        ({"methods": "pgd"}, "must be two or more of"),
        ({"methods": 3}, "must be two or more of"),
        ({"methods": [["pgd"], ["anti_pgd"]]}, "must be two or more of"),
        ({"measure_every": 5}, "measure_every=5 must be at most epochs=4"),
        ({"probes": 1}, "probes=1"),
        ({"probe": 1}, "unknown field 'probe'; the experiment has training, noise_scale"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_config_round_trip() -> None:
    config = tiny(methods=["anti_pgd", "pgd"], distribution="rademacher")
    assert config.methods == ("pgd", "anti_pgd")
    assert WideningValleyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert WideningValleyConfig.from_dict({}) == WideningValleyConfig()
    assert dataclasses.replace(config, measure_every=2).epochs == (0, 2, 4)


@pytest.mark.slow
def test_anti_pgd_flattens_a_real_network(tmp_path: Path) -> None:
    """Twice as flat as SGD at the same number of updates. The two orders of batches are the control: no such effect."""
    values = {
        "training": {"members": 4, "epochs": 80, "batch_size": 100, "learning_rate": 0.3},
        "noise_scale": 0.12,
        "measure_every": 80,
        "methods": ["with_replacement", "reshuffled", "anti_pgd"],
    }
    found = run_widening_valley(WideningValleyConfig.from_dict(values), tmp_path / "run")
    by_name = {(each.quantity, each.method): each for each in found.differences}
    assert by_name["trace", "anti_pgd"].shown
    ratio = by_name["trace", "anti_pgd"].difference.value / found.of("reshuffled").estimates("trace")[1].value
    assert ratio < -0.5
    assert not by_name["trace", "reshuffled"].shown
    assert (found.of("anti_pgd").train_loss[:, 1] < 0.5 * found.of("anti_pgd").train_loss[:, 0]).all()
