"""``jostle validate widening-valley`` as a user meets it."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from commands import validate_widening_valley as command
from nnval import widening_valley
from nnval.experiment_presets import experiment_presets, load_experiment
from nnval.noisy_descent import METHODS
from nnval.widening_valley_study import WideningValleyConfig
from tests.command_line import (
    check_bad_presets,
    check_finished,
    check_help,
    check_only_read,
    check_refused,
    check_stopped,
    jostle,
    own_networks,
    record_of,
    stopped_when,
    text_file,
)

TINY = """
noise_scale = 0.02
measure_every = 3
probes = 3
[training]
train_size = 60
validation_size = 10
hidden = [4]
epochs = 4
members = 3
"""


def validate(*arguments: Any) -> Result:
    return jostle("validate", "widening-valley", *arguments)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_file(tmp_path_factory.mktemp("preset") / "tiny.toml", TINY)


@pytest.fixture(scope="module")
def finished(preset: Path) -> Path:
    out = preset.parent / "run"
    result = validate("--preset", preset, "--out", out)
    check_finished(result)
    return out


def test_help_has_examples_and_presets_are_shown() -> None:
    assert command.METHODS == METHODS
    check_help("validate", "widening-valley", examples=3)
    shown = validate("--show-preset")
    assert shown.exit_code == 0
    assert "noise_scale" in shown.stdout
    for name in experiment_presets("widening-valley"):
        values = load_experiment("widening-valley", name)
        assert WideningValleyConfig.from_dict(values).training.members >= 2


def test_tables_and_files(finished: Path, preset: Path) -> None:
    result = validate("--preset", preset, "--out", finished)
    assert result.exit_code == 0
    for words in ("SGD, with replacement", "SGD, reshuffled", "PGD", "Anti-PGD", "Anti-PGD - PGD", "95 % interval"):
        assert words in result.stdout
    assert result.stdout.rstrip().endswith("seed 0")
    assert {path.name for path in finished.glob("*.png")} == {"training.png", "differences.png"}
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    with (finished / "arrays" / "seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3 * 3  # methods, seeds, epochs 0, 3 and 4
    assert {row["epoch"] for row in rows} == {"0", "3", "4"}
    with (finished / "arrays" / "differences.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["method"] == "anti_pgd" and row["reference"] == "pgd"]
    # The difference of means is the mean of differences.
    ends = {
        method: [float(row["trace"]) for row in rows if row["method"] == method and row["epoch"] == "4"]
        for method in METHODS
    }
    assert float(found[0]["difference"]) == pytest.approx((sum(ends["anti_pgd"]) - sum(ends["pgd"])) / 3)


def test_a_finished_run_is_only_read(finished: Path, preset: Path) -> None:
    check_only_read(finished, lambda: validate("--preset", preset, "--out", finished))


def test_json_is_one_object(finished: Path, preset: Path) -> None:
    result = validate("--preset", preset, "--out", finished, "--json", "--quiet")
    record = record_of(result)
    assert record["command"] == "validate widening-valley"
    assert record["parameters"]["noise_scale"] == 0.02
    found = record["result"]
    assert found["seeds"] == [0, 1, 2]
    assert [each["method"] for each in found["methods"]] == list(METHODS)
    assert len(found["differences"]) == 12
    assert json.loads((finished / "comparisons.json").read_text())["differences"] == found["differences"]


def test_more_seeds_are_added(finished: Path, preset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    trained = (copy / "seeds" / "0001" / "pgd.json").stat().st_mtime_ns
    result = validate("--preset", preset, "--out", copy, "--seeds", 4, "--json", "--quiet")
    assert json.loads(result.stdout)["result"]["seeds"] == [0, 1, 2, 3]
    assert (copy / "seeds" / "0001" / "pgd.json").stat().st_mtime_ns == trained
    assert json.loads((copy / "comparisons.json").read_text())["seeds"] == [0, 1, 2, 3]


@pytest.mark.slow  # of the experiment itself: tests/test_nnval_widening_valley.py
def test_resumed_after_an_interruption(
    finished: Path, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    stopping = stopped_when(widening_valley.run_widening_valley, lambda done, total, text: done == 10)
    with monkeypatch.context() as patch:
        patch.setattr(widening_valley, "run_widening_valley", stopping)
        result = validate("--preset", preset, "--out", out)
    check_stopped(result, out)
    assert validate("--preset", preset, "--out", out, "--quiet").exit_code == 0
    assert (out / "comparisons.json").read_text() == (finished / "comparisons.json").read_text()


def test_methods_without_a_pair(preset: Path, tmp_path: Path) -> None:
    words = ("--method", "anti_pgd", "--method", "with_replacement", "--seeds", 2)
    result = validate("--preset", preset, "--out", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    assert "Seed by seed" not in result.stdout
    assert not (tmp_path / "run" / "differences.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nothing"), "preset 'nothing' does not exist; choose digits, quick or the path of a .toml"),
        (("--preset", "nowhere.toml"), "preset 'nowhere.toml' does not exist"),
        (("--seeds", 1), "members must be >= 2"),
        (("--sigma", 0), "noise_scale=0 must be > 0"),
        (("--sigma", "nan"), "noise_scale=nan"),
        (("--method", "pgd"), "must be two or more of"),
        (("--method", "adam"), "'adam' is not one of"),
        (("--measure-every", 1000), "measure_every=1000"),
        (("--probes", 1), "probes=1"),
        (("--lr", -1), "learning_rate=-1"),
        (("--batch-size", 400), "gives one batch per epoch"),
        (("--data", "nowhere"), "data='nowhere' must be one of"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_bad_input_is_a_usage_error_and_leaves_nothing(tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    check_refused(validate("--out", tmp_path / "run", *words), message, tmp_path / "run")


def test_bad_presets(tmp_path: Path) -> None:
    assert "--out is missing" in validate().output
    messages = {
        "probes =": "is not TOML",
        "colour = 1": "unknown field 'colour'",
        "training = 1": "[training] must be a table",
        "[training]\nschedule = 'cosine'": "schedule='cosine' must be 'constant' here",
    }
    check_bad_presets(validate, tmp_path, messages)


def test_dropout_is_refused(tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = own_networks(tmp_path, monkeypatch)
    result = validate("--preset", preset, "--model", f"{module}:dropping", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Dropout" in result.output
