"""``jostle validate weight-variance`` as a user meets it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import cli
from nnval import weight_variance
from nnval.experiment_presets import experiment_presets, load_experiment
from nnval.weight_variance_config import VarianceConfig
from nnval.weight_variance_study import VarianceStudy
from nnval.weight_variance_tables import detectable
from tests.command_line import (
    check_bad_presets,
    check_finished,
    check_help,
    check_only_read,
    check_refused,
    check_stopped,
    files_of,
    jostle,
    own_networks,
    record_of,
    rows_of,
    stopped_when,
    text_file,
)
from theory.estimate import Comparison, Estimate, compare, holm

TINY = """
runs = 5
burn_in = 3
directions = 6
full_gradients = 1
pairs = 3
[training]
train_size = 200
validation_size = 100
hidden = [8]
learning_rate = 0.05
momentum = 0.5
weight_decay = 0.001
batch_size = 20
epochs = 20
"""

DONE = (0, cli.DISAGREES)
"""A network of 600 weights on 200 images is nobody's quadratic; what is found is not what is tested here."""


def validate(*arguments: Any) -> Result:
    return jostle("validate", "weight-variance", *arguments)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_file(tmp_path_factory.mktemp("preset") / "tiny.toml", TINY)


@pytest.fixture(scope="module")
def finished(preset: Path) -> Path:
    out = preset.parent / "run"
    result = validate("--preset", preset, "--out", out, "--scan", "momentum=0")
    check_finished(result, DONE)
    return out


def again(finished: Path, preset: Path, *words: Any) -> Result:
    return validate("--preset", preset, "--out", finished, "--scan", "momentum=0", *words)


def test_help_has_examples_and_presets_are_shown() -> None:
    check_help("validate", "weight-variance", examples=4)
    assert experiment_presets("weight-variance") == ["digits", "lenet-cifar10", "quick"]
    for name in experiment_presets("weight-variance"):
        shown = validate("--show-preset", "--preset", name)
        assert shown.exit_code == 0
        assert "burn_in" in shown.stdout
        values = load_experiment("weight-variance", name)
        assert values.pop("pairs") >= (0 if name == "quick" else 2)
        assert len(VarianceConfig.from_dict(values).orders) == 2


def test_tables_and_files(finished: Path, preset: Path) -> None:
    result = again(finished, preset)
    assert result.exit_code in DONE
    for words in (
        "median deviation",
        "Var(theta)",
        "correlation time",
        "not compared",
        "seen from",
        "Loss fluctuations",
        "Stiffness where the weights move",
        "beyond 10 %",
        "granted a model error of 10 %",
        "the mean gradient is steeper than the Hessian says by",
        "c_h / c_0",
        "Test accuracy",
        "momentum 0",
        "reshuffled - with_replacement",
    ):
        assert words in result.stdout
    pictures = {"variances", "scaled", "ratios", "autocovariance", "accuracy", "scan_times", "scan_deviations"}
    assert {path.stem for path in finished.glob("*.png")} == pictures
    assert (finished / "report.html").read_text().count("data:image/png;base64,") == len(pictures)
    rows = rows_of(finished / "arrays" / "directions_reshuffled.csv")
    assert len(rows) == 6
    for row in rows:
        if row["stationary"] == "True":
            ratio = 2 * float(row["weight"]) / float(row["velocity"])
            assert float(row["correlation_time"]) == pytest.approx(ratio)
            assert float(row["curvature_in_motion"]) > 0
            assert row["weight_verdict"] in ("agrees", "disagrees", "outside regime")
        else:
            assert row["weight_theory"] == ""
    assert len(rows_of(finished / "arrays" / "accuracy.csv")) == 3
    assert (finished / "arrays" / "scan_momentum_0_reshuffled.csv").exists()


def test_a_finished_run_is_only_read(finished: Path, preset: Path) -> None:
    check_only_read(finished, lambda: again(finished, preset))


def test_json_is_one_object(finished: Path, preset: Path) -> None:
    result = again(finished, preset, "--json", "--quiet")
    record = record_of(result)
    assert record["command"] == "validate weight-variance"
    found = record["result"]
    assert [each["order"] for each in found["orders"]] == ["reshuffled", "with_replacement", "reshuffled"]
    assert found["orders"][2]["momentum"] == 0
    for order in found["orders"]:
        assert sum(order["verdicts"]["weight"].values()) + order["not_compared"] == 6
    low, high = found["accuracy"]["difference"]["interval95"]
    assert low <= found["accuracy"]["difference"]["value"] <= high
    at_zero = [c for c in found["comparisons"] if c["quantity"] == "reshuffled, noise at lag 1"]
    assert at_zero[0]["predicted"] == pytest.approx(-1 / 10)  # -(M - 1) / (M (M - 1)) of M = 10 batches
    disagreeing = [c for c in found["comparisons"] if c["verdict"] == "disagrees"]
    assert found["agrees"] == (not disagreeing)
    assert found["tolerance"] == 0.1
    assert {c["tolerance"] for c in found["comparisons"]} == {0.0, 0.1}  # noise at fixed weights has no model error
    for order in found["orders"]:
        sides = [order["deviation"][f"stiffer_{side}"] for side in ("above", "below")]
        assert sum(side["directions"] for side in sides if side) + order["not_compared"] == 6
    assert result.exit_code == (0 if found["agrees"] else cli.DISAGREES)
    assert json.loads((finished / "comparisons.json").read_text())["comparisons"] == found["comparisons"]


def test_a_tolerance_trains_nothing(finished: Path, preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    module = "commands.validate_weight_variance_report.write_report"
    monkeypatch.setattr(module, lambda study, record: written.append(record["tolerance"]))
    before = files_of(finished)
    least = []
    for tolerance in (0, 0.5):
        result = again(finished, preset, "--json", "--quiet", "--tolerance", tolerance)
        record = json.loads(result.stdout)["result"]
        assert result.exit_code == (0 if record["agrees"] else cli.DISAGREES)
        least.append(min(c["p_value"] for c in record["comparisons"] if c["quantity"] == "Var(theta)"))
    assert least[0] < least[1]
    assert written == [0, 0.5]
    assert files_of(finished) == before
    assert "beyond" not in again(finished, preset, "--tolerance", 0).stdout


def test_the_exit_code_is_that_of_the_verdicts(
    finished: Path, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.setattr("commands.experiment_report.is_written", lambda directory, record: True)
    for agrees in (True, False):
        monkeypatch.setattr(VarianceStudy, "agrees", property(lambda self, agrees=agrees: agrees))
        assert again(copy, preset).exit_code == (0 if agrees else 3)


@pytest.mark.slow  # of the experiment itself: test_interrupted_in_every_stage
def test_resumed_after_an_interruption(
    finished: Path, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    stopping = stopped_when(
        weight_variance.measure_weight_variance, lambda done, total, text: "recording: epoch 11 of 23" in text
    )
    with monkeypatch.context() as patch:
        patch.setattr(weight_variance, "measure_weight_variance", stopping)
        result = validate("--preset", preset, "--out", out)
    check_stopped(result, out)
    assert validate("--preset", preset, "--out", out, "--pairs", 0, "--quiet").exit_code in DONE
    assert "Test accuracy" not in (out / "report.html").read_text()
    assert json.loads((out / "comparisons.json").read_text())["accuracy"] is None
    for name in ("directions_reshuffled.csv", "directions_with_replacement.csv", "autocovariance.csv"):
        assert (out / "arrays" / name).read_text() == (finished / "arrays" / name).read_text()


def test_a_deviation_is_seen_from_where_the_table_says() -> None:
    def family(deviation: float) -> list[Comparison]:
        """One of ten directions deviates."""
        pairs = [(1.0 + deviation, 0.03), *[(1.0, 0.03)] * 9]
        found = [compare(f"{i}", Estimate(1.0, 0.04, 8), Estimate(*pair, 5)) for i, pair in enumerate(pairs)]
        return holm([*found, compare("another", Estimate(1.0, 0.0, 1), Estimate(9.0, 1.0, 5), reasons=["too flat"])])

    seen = detectable(family(0.0))
    assert seen is not None
    assert seen == pytest.approx(0.05 * 8.610302, rel=1e-6)  # Student's t of 4 degrees of freedom at 1 - 0.005 / 10
    assert family(0.99 * seen)[0].verdict == "agrees"
    assert family(1.01 * seen)[0].verdict == "disagrees"
    assert detectable(family(0.0)[-1:]) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nothing"), "preset 'nothing' does not exist; choose digits, lenet-cifar10, quick or"),
        (("--runs", 3), "runs=3 must be a whole number >= 4"),
        (("--recorded", 5), "epochs=5 must be >= 20"),
        (("--order", "sorted"), "order='sorted' must be one of"),
        (("--order", "reshuffled", "--order", "reshuffled"), "must be different ones"),
        (("--directions", 0), "directions=0"),
        (("--drift", "curve"), "'curve' is not one of"),
        (("--tolerance", 1), "1.0 is not in the range 0<=x<1"),
        (("--full-gradients", -1), "full_gradients=-1"),
        (("--full-gradients", 61), "full_gradients=61 must be at most 60, the updates of an epoch"),
        (("--pairs", 1), "pairs=1 must be 0, or a whole number >= 2"),
        (("--scan", "momentum"), "must have the form momentum=0,0.5"),
        (("--scan", "colour=1"), "scan over 'colour' is none of"),
        (("--scan", "momentum=0,0"), "values must be different ones"),
        (("--scan", "momentum=0.1,0.10000001"), "values must be different ones"),
        (("--scan", "batch-size=inf"), "values must be a list of finite numbers"),
        (("--scan", "batch-size=nan"), "values must be a list of finite numbers"),
        (("--tolerance", "nan"), "tolerance=nan must be in [0, 1)"),
        (("--scan", "momentum=1"), "momentum=1"),
        (("--scan", "batch-size=2.5"), "must be whole numbers"),
        (("--scan", "batch-size=1000"), "batch_size=1000 of 1200 samples gives 1 batch per epoch"),
        (("--lr", -1), "learning_rate=-1"),
        (("--batch-size", 1000), "gives 1 batch per epoch"),
        (("--data", "nowhere"), "data='nowhere' must be one of"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_bad_input_is_a_usage_error_and_leaves_nothing(tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    check_refused(validate("--out", tmp_path / "run", *words), message, tmp_path / "run")


def test_presets_that_theory_is_not_about(tmp_path: Path) -> None:
    assert "--out is missing" in validate().output
    messages = {
        "runs =": "is not TOML",
        "colour = 1": "unknown field 'colour'",
        "scan = {momentum = 0.5}": "values must be a list of finite numbers",
        "scan = {momentum = [0.5, 'a']}": "values must be a list of finite numbers",
        "scan = {momentum = [[0.5]]}": "values must be a list of finite numbers",
        "scan = 1": "[scan] must be a table",
        "[training]\naugmentation = 'crop_flip'": "augmentation='crop_flip' must be 'none'",
        "[training]\noptimizer = 'adam'": "optimizer='adam'",
    }
    check_bad_presets(validate, tmp_path, messages)


@pytest.mark.parametrize(("name", "layer"), [("dropping", "Dropout"), ("normalising", "BatchNorm1d")])
def test_networks_that_are_no_function_of_their_weights(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch, name: str, layer: str
) -> None:
    module = own_networks(tmp_path, monkeypatch)
    result = validate("--preset", preset, "--model", f"{module}:{name}", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert layer in result.output
    assert not (tmp_path / "run").exists()  # before anything is trained
