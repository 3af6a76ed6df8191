"""``jostle validate adaptive-noise`` as a user meets it."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from commands import noise_options
from commands import validate_adaptive_noise as command
from nnval import adaptive_noise
from nnval.adaptive_noise_methods import METHODS
from nnval.adaptive_noise_study import NoiseStudyConfig
from nnval.experiment_presets import experiment_presets, load_experiment
from tests.command_line import (
    check_bad_presets,
    check_finished,
    check_help,
    check_only_read,
    check_refused,
    check_stopped,
    jostle,
    record_of,
    stopped_when,
    text_file,
)
from theory.adaptive_noise import MODES

TINY = """
methods = ["baseline", "fixed", "full", "adam"]
equal_noise = true
rate_factors = [0.5, 1]
tuning_seeds = 1
target_accuracy = 0.5
last_epochs = 3
[noise]
min_dwell = 3
horizon = 3
[training]
train_size = 60
validation_size = 50
model = "mlp"
hidden = [8]
learning_rate = 0.05
batch_size = 20
epochs = 4
members = 2
"""


def validate(*arguments: Any) -> Result:
    return jostle("validate", "adaptive-noise", *arguments)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_file(tmp_path_factory.mktemp("preset") / "tiny.toml", TINY)


@pytest.fixture(scope="module")
def finished(preset: Path) -> Path:
    out = preset.parent / "run"
    result = validate("--preset", preset, "--out", out)
    check_finished(result)
    return out


def without_seconds(path: Path) -> Any:
    found = json.loads(path.read_text())
    for method in found["methods"]:
        for name in ("seconds", "overhead"):
            del method[name]
    return found


def test_help_has_examples_and_presets_are_shown() -> None:
    assert command.METHODS == METHODS
    assert noise_options.MODES == MODES
    check_help("validate", "adaptive-noise", examples=3)
    shown = validate("--show-preset")
    assert shown.exit_code == 0
    assert "equal_noise" in shown.stdout
    assert experiment_presets("adaptive-noise") == ["cifar10-resnet18", "digits", "quick"]
    for name in experiment_presets("adaptive-noise"):
        config = NoiseStudyConfig.from_dict(load_experiment("adaptive-noise", name))
        assert config.equal_noise
        assert config.training.members >= (4 if name == "quick" else 5)
        assert len(config.trained) >= (5 if name == "quick" else 10)


def test_tables_and_files(finished: Path, preset: Path) -> None:
    result = validate("--preset", preset, "--out", finished)
    assert result.exit_code == 0
    for words in (
        "1 other seed, not reported",
        "Time to a validation accuracy of 0.5 (the paper's Table I):",
        "Stability over the last 3 epochs (Table II):",
        "Accuracy (Tables III and IV):",
        "Phases and noise (Figure 1):",
        "full, equal noise - fixed noise",
        "What the paper says",
        "claims of the paper's tables: 0 supported, 0 the opposite",
        "at the edge of the grid",
        "No difference between any two methods shown (2 seeds)",
    ):
        assert words in result.stdout
    assert result.stdout.rstrip().endswith("seed 0")
    pictures = {"times.png", "training.png", "phases.png", "differences.png"}
    assert {path.name for path in finished.glob("*.png")} == pictures
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    with (finished / "arrays" / "seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2  # methods, seeds
    with (finished / "arrays" / "epochs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5 * 2 * 4
    with (finished / "arrays" / "differences.csv").open() as file:
        found = {(row["quantity"], row["method"], row["reference"]): row for row in csv.DictReader(file)}
    means = {
        method: sum(float(row["test_accuracy"]) for row in rows if row["method"] == method) / 2
        for method in ("full", "baseline")
    }
    difference = float(found["test_accuracy", "full", "baseline"]["difference"])
    assert difference == pytest.approx(means["full"] - means["baseline"])
    assert (finished / "arrays" / "claims.csv").exists()
    assert (finished / "arrays" / "rates.csv").exists()


def test_a_finished_run_is_only_read(finished: Path, preset: Path) -> None:
    check_only_read(finished, lambda: validate("--preset", preset, "--out", finished))


def test_json_is_one_object(finished: Path, preset: Path) -> None:
    result = validate("--preset", preset, "--out", finished, "--json", "--quiet")
    record = record_of(result)
    assert record["command"] == "validate adaptive-noise"
    assert record["parameters"]["noise"]["min_dwell"] == 3
    found = record["result"]
    assert found["seeds"] == [0, 1]
    assert not set(found["seeds"]) & set(found["tuning_seeds"])
    assert [each["method"] for each in found["methods"]] == ["baseline", "fixed", "full", "full_equal", "adam"]
    assert json.loads((finished / "comparisons.json").read_text())["differences"] == found["differences"]


def without_figures(_: Any) -> dict[str, Any]:
    return {}


def test_another_target_needs_no_training(
    finished: Path, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_figures", without_figures)
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in (copy / "seeds").rglob("*.json")}
    result = validate("--preset", preset, "--out", copy, "--target", 0.9, "--own-noise", "--quiet")
    assert result.exit_code == 0
    assert "Time to a validation accuracy of 0.9" in result.stdout
    assert "--equal-noise tells apart" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (copy / "seeds").rglob("*.json")} == before


def test_resumed_after_an_interruption(
    finished: Path, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_figures", without_figures)
    out = tmp_path / "run"
    total_epochs = 5 * (2 + 2) * 4
    stopping = stopped_when(
        adaptive_noise.run_noise_study, lambda done, total, text: (done, total) == (50, total_epochs)
    )
    with monkeypatch.context() as patch:
        patch.setattr(adaptive_noise, "run_noise_study", stopping)
        result = validate("--preset", preset, "--out", out)
    check_stopped(result, out)
    assert validate("--preset", preset, "--out", out, "--quiet").exit_code == 0
    assert without_seconds(out / "comparisons.json") == without_seconds(finished / "comparisons.json")


def test_options_go_where_they_belong(tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[NoiseStudyConfig] = []

    def noted(config: NoiseStudyConfig, *_: Any, **__: Any) -> None:
        configs.append(config)
        raise ValueError("enough")

    monkeypatch.setattr(adaptive_noise, "run_noise_study", noted)
    words = ("--method", "fixed", "--own-noise", "--factor", 1, "--epsilon", 0.6, 0.2, 0.1, "--mode", "absolute")
    more = ("--lr", 0.1, "--adam-lr", 0.01, "--seeds", 7, "--decay", 0.5, "--last-epochs", 4)
    assert validate("--preset", preset, "--out", tmp_path / "run", *words, *more).exit_code == 2
    (config,) = configs
    assert config.methods == ("baseline", "fixed")
    assert not config.equal_noise
    assert config.noise.epsilon == (0.6, 0.2, 0.1)
    assert (config.noise.mode, config.noise.min_dwell, config.noise.decay) == ("absolute", 3, 0.5)
    assert (config.training.learning_rate, config.adam_learning_rate) == (0.1, 0.01)
    assert (len(config.members), len(config.tuning_members), config.last_epochs) == (7, 0, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nothing"), "preset 'nothing' does not exist; choose cifar10-resnet18, digits, quick or"),
        (("--seeds", 1), "members must be >= 2"),
        (("--method", "rmsprop"), "'rmsprop' is not one of"),
        (("--method", "sgd"), "are one and the same"),
        (("--epsilon", -1, 0.1, 0.1), "epsilon=-1"),
        (("--epsilon", 0.1), "requires 3 arguments"),
        (("--mode", "sgld"), "makes noises equal"),
        (("--budget", 0), "budget=0.0 must be a number from 1e-40 to 1e+40"),
        (("--factor", 2, "--factor", 1), "must be ascending"),
        (("--target", 2), "target_accuracy=2.0"),
        (("--epochs", 10), "last_epochs=20 must be at most epochs=10"),
        (("--decay", "nan"), "decay=nan"),
        (("--min-dwell", -1), "min_dwell=-1"),
        (("--lr", -1), "learning_rate=-1"),
        (("--data", "nowhere"), "data='nowhere' must be one of"),
        (("--model", "transformer"), "model='transformer' must be one of"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_bad_input_is_a_usage_error_and_leaves_nothing(tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    check_refused(validate("--out", tmp_path / "run", *words), message, tmp_path / "run")


def test_bad_presets(tmp_path: Path) -> None:
    assert "--out is missing" in validate().output
    messages = {
        "epsilon =": "is not TOML",
        "colour = 1": "unknown field 'colour'",
        "training = 1": "[training] must be a table",
        "noise = 1": "noise=1 must be a table",
        "[training]\noptimizer = 'adam'\nmomentum = 0.0": "optimizer='adam' must be 'sgd' here",
    }
    check_bad_presets(validate, tmp_path, messages)
