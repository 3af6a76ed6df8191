"""The experiment on effective temperatures: what it measures, leaves out and refuses, and its runs on disk."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnval import paired_trainings
from nnval.effective_temperature import run_effective_temperature
from nnval.effective_temperature_study import MEASURED, EffectiveTemperature, EffectiveTemperatureConfig
from nnval.effective_temperature_tables import arrays, conclusions, temperatures_table
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.measure.field_response import Heat, HeatMeasurement

TRAINING = {
    "train_size": 60,
    "validation_size": 30,
    "hidden": [8],
    "learning_rate": 0.2,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "batch_size": 12,
    "epochs": 6,
    "members": 2,
}
TINY = {
    "training": TRAINING,
    "orders": ["with_replacement", "reshuffled", "persistent"],
    "batch_sizes": [12],
    "measure_every": 4,
    "early": 4,
    "rest": 5,
    "directions": 2,
    "runs": 2,
    "burn_in": 5,
    "window": 10,
    "windows": 3,
    "field": 0.1,
}


def tiny(**changes: Any) -> EffectiveTemperatureConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in TRAINING or name == "schedule"}
    return EffectiveTemperatureConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EffectiveTemperature:
    return run_effective_temperature(tiny(), tmp_path_factory.mktemp("heat") / "run")


def same(first: EffectiveTemperature, second: EffectiveTemperature) -> bool:
    arrays = ("temperature", "predicted_temperature", "slope", "predicted_slope", "response", "linearity", "drift")
    pairs = list(zip(first.conditions, second.conditions, strict=True))
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in arrays) and all(
        np.array_equal(a.curves[name], b.curves[name]) and np.array_equal(a.rest[name], b.rest[name])
        for a, b in pairs
        for name in MEASURED
    )


def test_what_is_measured(result: EffectiveTemperature) -> None:
    assert result.config.epochs == (0, 4, 6)
    assert [(each.order, each.batch_size) for each in result.conditions] == list(result.config.conditions)
    first = result.conditions[0]
    for each in result.conditions:
        assert all(each.curves[name].shape == (2, 3) and each.rest[name].shape == (2,) for name in MEASURED)
        assert each.temperature.shape == each.predicted_temperature.shape == (2, len(result.config.lags))
        assert (each.curves["distance"][:, 0] == 0).all()
        assert (each.curves["distance"][:, 1:] > 0).all()
        assert (each.slope[:, 0] > 0).all()
        assert np.allclose(each.temperature[:, 0], each.slope[:, 0])
        # All conditions begin as one network; and the descent without noise goes on downwards.
        for name in ("margin", "input_distance", "train_loss", "test_accuracy"):
            assert np.array_equal(each.curves[name][:, 0], first.curves[name][:, 0])
        assert (each.curves["train_loss"][:, -1] < each.curves["train_loss"][:, 0]).all()
    assert len({each.curves["distance"][0, -1] for each in result.conditions}) == 3
    assert {each.quantity.split(",")[0] for each in result.comparisons} == {"temperature", "response", "linearity"}


def test_directions_that_do_not_respond_are_left_out(
    result: EffectiveTemperature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And told; where there are no others, the condition is named."""
    answers, measured = np.array([1.0, -1.0]), HeatMeasurement.result

    def turned(measurement: HeatMeasurement) -> Heat:
        heat = measured(measurement)
        return dataclasses.replace(
            heat, responses=heat.responses * answers, half_responses=heat.half_responses * answers
        )

    monkeypatch.setattr(HeatMeasurement, "result", turned)
    found = run_effective_temperature(tiny(), tmp_path / "run")
    for each, whole in zip(found.conditions, result.conditions, strict=True):
        assert (each.unanswered == 1).all()
        assert (whole.unanswered == 0).all()
        assert (each.slope > 0).all()
        assert not np.array_equal(each.slope, whole.slope)
    assert {each.verdict for each in found.comparisons} == {"outside regime"}
    assert (
        "left out of with replacement, S=12 (2), reshuffled, S=12 (2), persistent, S=12 (2)." in conclusions(found)[-1]
    )
    answers[0] = -1.0
    with pytest.raises(ValueError, match="in no condition two seeds have a direction that responds"):
        run_effective_temperature(tiny(), tmp_path / "other")


def test_a_condition_in_which_nothing_responds_is_told_and_the_others_are_compared(
    result: EffectiveTemperature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = HeatMeasurement.result
    calls: list[bool] = []

    def turned(measurement: HeatMeasurement) -> Heat:
        heat = measured(measurement)
        calls.append(True)
        sign = -1 if len(calls) in (1, 4, 6) else 1  # the first condition, and the last one of the second seed
        return dataclasses.replace(heat, responses=sign * heat.responses, half_responses=sign * heat.half_responses)

    monkeypatch.setattr(HeatMeasurement, "result", turned)
    found = run_effective_temperature(tiny(), tmp_path / "run")
    first, second, third = found.conditions
    assert [each.responds.tolist() for each in found.conditions] == [[False, False], [True, True], [True, False]]
    assert np.array_equal(second.slope, result.conditions[1].slope)
    assert {each.quantity.split(", ")[1] for each in found.comparisons} == {"reshuffled"}
    assert conclusions(found)[-1] == (
        "No direction with the response of a minimum, and so no temperature: with replacement, S=12 (2 of 2 seeds), "
        "persistent, S=12 (1 of 2 seeds)."
    )
    rows = temperatures_table(found).rows
    assert rows[0][3:8] == ("-", "-", "-", "-", "-")
    assert rows[1] == temperatures_table(result).rows[1]
    written = {name: table.to_csv() for name, table in arrays(found).items()}
    assert not [name for name, text in written.items() if "nan" in text]
    assert all(each.comparison.predicted.value == 0 for each in found.findings)
    assert (first.unanswered == 2).all()
    assert third.unanswered.tolist() == [0, 2]


def test_a_finished_run_is_only_read(result: EffectiveTemperature, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("write_whole", "write_json", "make_directory", "opened"):
        monkeypatch.setattr(paired_trainings.disk, name, lambda *_, **__: pytest.fail("wrote"))
    again = run_effective_temperature(tiny(), result.directory, tolerance=0.5)
    assert same(again, result)
    assert again.tolerance == 0.5
    with pytest.raises(RunDirectoryError):
        run_effective_temperature(tiny(field=0.2), result.directory)


def test_interrupted_runs_go_on_to_the_same_bits(result: EffectiveTemperature, tmp_path: Path) -> None:
    """In training, and between windows of the temperature."""
    stops = [5, 9]

    def stop(done: int, total: int, text: str) -> None:
        if stops and done == stops[0]:
            stops.pop(0)
            raise Interrupted("asked to")

    while stops:
        with pytest.raises(Interrupted, match="stopped after epoch"):
            run_effective_temperature(tiny(), tmp_path / "run", progress=stop)
    assert same(run_effective_temperature(tiny(), tmp_path / "run"), result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "schedule='cosine' must be 'constant' here"),
        ({"members": 1}, "members must be >= 2"),
        ({"runs": 1}, "runs=1"),
        ({"stay": 1.0}, "stay=1.0 must be > 1"),
        ({"field": 0.0}, "field=0.0 must be > 0"),
        ({"quantile": 1.0}, "quantile=1.0 must be strictly between 0 and 1"),
        ({"orders": ["sgd", "reshuffled", "persistent"]}, "order='sgd' must be one of"),
        ({"orders": ["reshuffled"]}, "at least 3 are needed"),
        ({"orders": []}, "must be a list of at least one"),
        ({"batch_sizes": [12, 12]}, "must be different from one another"),
        ({"early": 7}, "early=7 must be at most epochs=6"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": [60]}, "gives 1 batch per epoch"),
        ({"batch_sizes": [5]}, "window=10 must be longer than an epoch of 12 batches"),
        ({"orders": ["shuffled_once", "reshuffled", "persistent"], "batch_sizes": [13]}, "must divide the 60 samples"),
    ],
)
def test_experiments_that_cannot_be_done_leave_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_effective_temperature(tiny(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
