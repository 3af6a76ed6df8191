"""``jostle validate effective-temperature`` as a user meets it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from nnval import effective_temperature
from nnval.effective_temperature_study import EffectiveTemperatureConfig
from nnval.experiment_presets import experiment_presets, load_experiment
from tests.command_line import (
    check_finished,
    check_help,
    check_refused,
    check_stopped,
    files_of,
    jostle,
    record_of,
    stopped_when,
    text_file,
)

TINY = """
orders = ["reshuffled", "with_replacement", "persistent"]
batch_sizes = [12]
measure_every = 2
early = 2
rest = 2
directions = 2
runs = 2
burn_in = 2
window = 8
windows = 2
[training]
train_size = 60
validation_size = 10
hidden = [8]
learning_rate = 0.2
weight_decay = 0.02
batch_size = 12
epochs = 3
members = 2
"""


def validate(*arguments: Any) -> Result:
    return jostle("validate", "effective-temperature", *arguments)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_file(tmp_path_factory.mktemp("preset") / "tiny.toml", TINY)


@pytest.fixture(scope="module")
def finished(preset: Path) -> Path:
    out = preset.parent / "run"
    with pytest.MonkeyPatch.context() as patch:  # drawing would take longer than all the rest, and has its own tests
        patch.setattr("figures.style.png_bytes", lambda figure: b"\x89PNG" + bytes(len(figure.axes)))
        result = validate("--preset", preset, "--out", out, "--tolerance", 0.99)
    check_finished(result, (0, 3))
    return out


def test_help_has_examples_and_presets_are_shown() -> None:
    check_help("validate", "effective-temperature", examples=3)
    shown = validate("--show-preset")
    assert shown.exit_code == 0
    assert "batch_sizes" in shown.stdout
    assert {"digits", "lenet-cifar10", "lenet-cifar10-small"} <= set(experiment_presets("effective-temperature"))
    for name in experiment_presets("effective-temperature"):
        values = load_experiment("effective-temperature", name)
        config = EffectiveTemperatureConfig.from_dict(values)
        assert config.training.members >= 2
        samples = config.training.train_size
        assert samples is not None
        for order, size in config.conditions:  # all of them have a theory
            assert config.order(order, samples, size).noise(samples, size).variance > 0
            assert samples // size < config.window


def test_tables_and_files(finished: Path, preset: Path) -> None:
    before = files_of(finished)
    result = validate("--preset", preset, "--out", finished, "--tolerance", 0.99)
    assert "finished already; nothing was trained" in result.stderr
    assert files_of(finished) == before
    for words in ("T slow", "predictions differ", "equal loss", "at rest", "rank correlation", "95 % interval",
                  "Does the distance of replicas rise with the temperature?", "verdict"):  # fmt: skip
        assert words in result.stdout
    assert result.stdout.rstrip().endswith("seed 0")
    assert {path.name for path in finished.glob("*.png")} == {"heat.png", "margin.png", "input_distance.png"}
    assert (finished / "report.html").read_text().count("data:image/png;base64,") == 3
    tables = {
        path.stem: list(csv.DictReader(path.read_text().splitlines())) for path in (finished / "arrays").glob("*.csv")
    }
    assert set(tables) == {"curves", "temperatures", "seeds", "findings", "theory"}
    assert len(tables["curves"]) == 3 * 2 * 3  # conditions, seeds, epochs 0, 2 and 3
    assert len(tables["seeds"]) == 3 * 2
    assert len(tables["theory"]) == 3 * 3
    assert float(tables["seeds"][0]["margin_late"]) == pytest.approx(float(tables["curves"][2]["margin"]))


def test_json_is_one_object(finished: Path, preset: Path) -> None:
    result = validate("--preset", preset, "--out", finished, "--tolerance", 0.99, "--json", "--quiet")
    record = record_of(result)
    assert record["command"] == "validate effective-temperature"
    found = record["result"]
    assert found["seeds"] == [0, 1]
    assert [(each["order"], each["batch_size"]) for each in found["conditions"]] == [
        (order, 12) for order in ("reshuffled", "with_replacement", "persistent")
    ]
    assert all(each["n"] == 2 for each in found["theory"])
    assert json.loads((finished / "comparisons.json").read_text())["findings"] == found["findings"]


def test_disagreement_with_theory_is_an_exit_code(
    finished: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnval.effective_temperature_study.EffectiveTemperature.all_agree", False)
    assert validate("--preset", preset, "--out", finished, "--tolerance", 0.99, "--quiet").exit_code == 3
    monkeypatch.setattr("nnval.effective_temperature_study.EffectiveTemperature.all_agree", True)
    assert validate("--preset", preset, "--out", finished, "--tolerance", 0.99, "--quiet").exit_code == 0


def test_stopped_by_the_user(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = stopped_when(effective_temperature.run_effective_temperature, lambda done, total, text: True)
    monkeypatch.setattr(effective_temperature, "run_effective_temperature", stopping)
    result = validate("--preset", preset, "--out", tmp_path / "run")
    check_stopped(result, tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nothing"), "preset 'nothing' does not exist; choose digits, lenet-cifar10, lenet-"),
        (("--seeds", 1), "members must be >= 2"),
        (("--sizes", "20,many"), "must be whole numbers with commas"),
        (("--sizes", "2,80"), "must be longer than an epoch of 200 batches"),
        (("--sizes", "400,80"), "gives 1 batch per epoch"),
        (("--order", "sgd", "--order", "reshuffled"), "order='sgd' must be one of"),
        (("--order", "reshuffled"), "at least 3 are needed"),
        (("--stay", 0.5), "stay=0.5 must be > 1"),
        (("--field", "nan"), "field=nan"),
        (("--windows", 1), "windows=1"),
        (("--tolerance", 1), "--tolerance"),
        (("--measure-every", 1000), "measure_every=1000"),
        (("--directions", 0), "directions=0"),
        (("--lr", -1), "learning_rate=-1"),
        (("--data", "nowhere"), "data='nowhere' must be one of"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_bad_input_is_a_usage_error_and_leaves_nothing(tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    check_refused(validate("--out", tmp_path / "run", *words), message, tmp_path / "run")


def test_no_directory() -> None:
    assert "--out is missing" in validate().output
