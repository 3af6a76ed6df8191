"""The command line as a user meets it: output, errors, exit codes."""

import json
import re
import shutil

import numpy as np
import pytest

import cli
from nnval.engine import run_directory
from tests.command_line import jostle
from tests.restart_example import EXAMPLE


@pytest.fixture
def curves(tmp_path):
    """100 runs that have exactly the law of the worked example."""
    times = np.repeat(EXAMPLE[0], np.round(100 * np.array(EXAMPLE[1])).astype(int))
    assert len(times) == 100
    below = np.random.default_rng(0).uniform(0.1, 0.8, size=(100, 60))
    lines = ["run,epoch,accuracy"]
    for run, time in enumerate(times):
        lines += [f"{run},{epoch},{0.9 if epoch >= time else below[run, epoch - 1]:.3f}" for epoch in range(1, 61)]
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


TRAIN = ("train", "--members", 4, "--epochs", 3, "--train-size", 100, "--hidden", "8", "--execution", "stacked")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    result = jostle(*TRAIN, "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    return out


def test_help_of_every_command_has_an_example():
    for words in (
        [],
        ["predict", "resetting"],
        ["predict", "perturbation"],
        ["simulate", "resetting"],
        ["simulate", "perturbation"],
        ["validate", "perturbation"],
        ["train"],
    ):
        result = jostle(*words, "-h")
        assert result.exit_code == 0
        assert "jostle " + " ".join(words) in result.output


def test_predict_resetting_gives_the_worked_example(curves):
    result = jostle("predict", "resetting", "--curves", curves, "--target", 0.9, "-P", 2, "-P", 5, "-P", 8, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["schema"] == 1
    assert record["seed"] == 0
    means = {p["interval"]: p["mean"]["value"] for p in record["result"]["predictions"]}
    assert means == pytest.approx({2: 40, 5: 6.2307692307692, 8: 6.4285714285714}, rel=1e-12)
    assert record["result"]["best"]["interval"] == 5
    assert not record["result"]["best"]["is_boundary"]


def test_predict_resetting_prints_a_table_and_an_infinite_mean(curves):
    result = jostle("predict", "resetting", "--curves", curves, "--target", 0.9, "-P", 1, "-P", 5)
    assert result.exit_code == 0
    assert re.search(r"^1 +restart +inf .*only 0 runs finish within P=1", result.stdout, re.MULTILINE)
    assert re.search(r"^5 +restart +6\.23 .*valid$", result.stdout, re.MULTILINE)
    assert "best: restart every 5 epochs" in result.stdout
    assert "E[T] / E[T_P] >= 2.47" in result.stdout  # 15.39 / 6.2308


def test_out_holds_the_numbers_and_the_figure(curves, tmp_path):
    out = tmp_path / "new" / "out"
    result = jostle("predict", "resetting", "--curves", curves, "--target", 0.9, "--out", out, "--replicates", 100)
    assert result.exit_code == 0, result.output
    rows = (out / "predictions.csv").read_text().splitlines()
    assert rows[0].startswith("perturbation,predictor,interval,horizon,restricted_mean")
    assert len(rows) > 40
    assert (out / "training_time.png").read_bytes().startswith(b"\x89PNG")
    curves.with_name("file").write_text("")
    assert (
        jostle("predict", "resetting", "--curves", curves, "--target", 0.9, "--out", curves.parent / "file").exit_code
        == 2
    )


def test_infinity_is_text_in_json(curves):
    result = jostle("predict", "resetting", "--curves", curves, "--target", 0.9, "-P", 1, "--json")
    assert json.loads(result.stdout)["result"]["predictions"][0]["mean"]["value"] == "inf"


def test_same_seed_same_output(curves):
    words = ("predict", "resetting", "--curves", curves, "--target", 0.9, "--replicates", 200)
    assert jostle(*words).stdout == jostle(*words, "--seed", 0).stdout
    assert jostle(*words).stdout != jostle(*words, "--seed", 1).stdout


def test_predict_perturbation_from_two_files(curves, tmp_path):
    rows = [f"{run},{epoch},{0.9 if epoch >= 2 + run % 3 else 0.1}" for run in range(30) for epoch in range(1, 21)]
    once = tmp_path / "once.csv"
    once.write_text("run,epoch,accuracy\n" + "\n".join(rows) + "\n")
    words = ("predict", "perturbation", "--curves", curves, "--target", 0.9, "--replicates", 100)
    result = jostle(*words, "--once", f"shuffle:20={once}", "-P", 5, "--json")
    assert result.exit_code == 0, result.output
    restart, shuffle = json.loads(result.stdout)["result"]["perturbations"]
    assert restart["perturbation"] == "full_reset"
    rare, renewal = shuffle["predictions"]
    # sum of Psi(t) for t < 5, and Psi(5) times the mean residual of 3 epochs; no residual exceeds 4
    assert rare["mean"]["value"] == pytest.approx(1 + 1 + 0.95 + 0.65 + 0.45 + 0.35 * 3)
    assert renewal["mean"]["value"] == pytest.approx(rare["mean"]["value"])
    beyond = jostle(*words, "--once", f"shuffle:200={once}")
    assert beyond.exit_code == 2
    assert "epoch 200 must be below 60" in beyond.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--curves", "nowhere.csv", "--target", 0.9), "does not exist"),
        (("--curves", "{curves}", "--target", 0.95), "no run finishes by epoch 60"),
        (("--curves", "{curves}", "--target", "nan"), "target=nan must be finite"),
        (("--curves", "{curves}", "--target", 0.9, "-P", 0), "must be a whole number of epochs"),
        (("--curves", "{curves}", "--target", 0.9, "-P", 61), "interval=61 must be"),
        (("--curves", "{curves}", "--target", 0.9, "--horizon", 61, "-P", 61), None),
        (("--curves", "{curves}", "--target", 0.9, "--metric", "loss"), "no metric 'loss'"),
        (("--curves", "{curves}", "--target", 0.9, "--count", "from-zero"), "begin at 1, not at 0"),
        (("--curves", "{curves}", "--target", 0.9, "--zero-based"), "No such option"),
        (("--curves", "{curves}", "--target", 0.9, "--seed", -1), "-1 is not in the range"),
        (("--curves", "{curves}"), "--target is missing"),
    ],
)
def test_bad_input_to_predict_is_a_usage_error(curves, words, message):
    result = jostle("predict", "resetting", *[str(word).format(curves=curves) for word in words])
    if message is None:  # every run finished, so Psi is known to be zero beyond the data
        assert result.exit_code == 0
        return
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_train_writes_curves_that_predict_reads(run):
    result = jostle("predict", "resetting", "--curves", run, "--target", 0.3)
    assert result.exit_code == 0, result.output
    assert "4 runs, validation_accuracy" in result.stdout


def test_training_again_does_nothing_and_says_so(run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    result = jostle(*TRAIN, "--out", run)
    assert result.exit_code == 0
    assert "finished already; nothing was trained" in result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--perturbation", "full_reset", "-P", 0), "interval=0 must be a whole number >= 1"),
        (("--target", 1.5), "target=1.5 must be a number in (0, 1]"),
        (("--lr", -0.1), "learning_rate=-0.1 must be a number > 0"),
        (("--data", "imagenet"), "imagenet"),
        (("--model", "transformer"), "transformer"),
        (("--perturbation", "shake", "-P", 5), "shake"),
        (("--perturbation", "shrink_perturb:shrink=2", "-P", 5), "shrink=2"),
        (("--perturbation", "shrink_perturb:colour=1", "-P", 5), "colour"),
        (("--perturbation", "shrink_perturb:shrink", "-P", 5), "must have the form name=value"),
        (("--perturbation", "shrink_perturb:shrink=0.5,shrink=0.6", "-P", 5), "shrink is given twice"),
        (("--perturbation", "shrink_perturb:name=full_reset", "-P", 5), "name is given twice"),
        (("--hidden", "a,b"), "hidden='a,b' must be whole numbers"),
        (("--batch-size", 0), "batch_size=0"),
        (("--momentum", 1), "momentum=1"),
        (("--members", 0), "members='0' must be a number >= 1"),
        (("--device", "tpu"), "tpu"),
        (("--train-size", 5000), "5000"),
    ],
)
def test_bad_input_to_train_is_a_usage_error_and_leaves_nothing(tmp_path, words, message):
    result = jostle("train", "--out", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_directory_of_another_run_is_refused_with_the_differences(run):
    result = jostle(*TRAIN, "--out", run, "--lr", 0.3)
    assert result.exit_code == 2
    assert "learning_rate: 0.1 there, 0.3 asked for" in result.output


def test_directory_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    result = jostle(*TRAIN, "--out", tmp_path)
    assert result.exit_code == 2
    assert "thesis.tex" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_full_disk_fails_cleanly_and_the_run_goes_on_later(tmp_path, monkeypatch):
    out = tmp_path / "run"

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "_write", full)
        result = jostle(*TRAIN, "--out", out)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert "Traceback" not in result.output
    assert jostle(*TRAIN, "--out", out).exit_code == 0


def test_ctrl_c_is_exit_code_4_and_resumes(tmp_path, monkeypatch):
    from nnval.engine import ensemble

    out = tmp_path / "run"

    def interrupted(*_args, **_options):
        raise run_directory.Interrupted("stopped after epoch 1; run the same command again")

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "_train_blocks", interrupted)
        result = jostle(*TRAIN, "--out", out)
    assert result.exit_code == 4
    assert "run the same command again" in result.output
    assert jostle(*TRAIN, "--out", out).exit_code == 0


def test_diverged_members_are_recorded_and_the_run_ends_well(tmp_path):
    result = jostle(*TRAIN, "--out", tmp_path / "run", "--lr", 1e30)
    assert result.exit_code == 0, result.output
    assert "4 diverged" in result.stdout
    text = (tmp_path / "run" / "curves.csv").read_text() + (tmp_path / "run" / "members.csv").read_text()
    assert "nan" not in text


STUDY = """
target = 0.85
branch_epochs = [4]
follow = 8
intervals = [4, 6]
periodic_members = 12
replicates = 200
[training]
members = 16
epochs = 12
train_size = 200
label_noise = 0.0
learning_rate = 0.2
hidden = [16]
execution = "stacked"
[perturbations.full_reset]
name = "full_reset"
[perturbations.shrink]
name = "shrink_perturb"
shrink = 0.7
noise = 0.3
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    directory = tmp_path_factory.mktemp("study")
    preset = directory / "small.toml"
    preset.write_text(STUDY)
    return preset, directory / "out"


def test_validate_perturbation_from_a_preset_file(study):
    preset, out = study
    result = jostle("validate", "perturbation", "--preset", preset, "--out", out, "--workers", 1)
    assert result.exit_code in (0, cli.DISAGREES), result.output
    assert re.search(r"full_reset +4 +restart", result.stdout)
    assert re.search(r"shrink +6 +renewal", result.stdout)
    assert "report.html" in result.stderr
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    pictures = {"training_time", "speed_up", "curves", "survival", "residual_time", "quasi_steady_state"}
    assert {p.stem for p in out.glob("*.png")} == pictures
    assert (out / "arrays" / "survival.csv").read_text().startswith("epoch,survival,standard_error,low,high\n")


def test_second_call_says_that_nothing_was_trained_and_prints_the_same(study):
    preset, out = study
    first = jostle("report", out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    second = jostle("validate", "perturbation", "--preset", preset, "--out", out)
    assert "finished already; nothing was trained" in second.stderr
    assert second.stdout == first.stdout
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def test_validate_json_is_one_object(study):
    preset, out = study
    result = jostle("validate", "perturbation", "--preset", preset, "--out", out, "--json", "--quiet")
    record = json.loads(result.stdout)
    assert result.stderr == ""
    assert len(record["result"]["comparisons"]) == 6
    assert record["parameters"]["training"]["members"] == 16


def test_disagreement_is_exit_code_3(study, monkeypatch):
    from nnval.study import Study

    preset, out = study
    monkeypatch.setattr(Study, "agrees", property(lambda self: False))
    assert jostle("validate", "perturbation", "--preset", preset, "--out", out).exit_code == 3


def test_validate_resetting_shows_the_full_resets_of_a_study(study, run):
    _, out = study
    result = jostle("validate", "resetting", out)
    assert result.exit_code == 0, result.output
    assert re.findall(r"^ *(\d+)  restart", result.stdout, re.MULTILINE) == ["4", "6"]
    assert "renewal" not in result.stdout
    record = json.loads(jostle("validate", "resetting", out, "--json").stdout)
    assert {row["predictor"] for row in record["result"]["comparisons"]} == {"restart"}
    assert "holds no study" in jostle("validate", "resetting", run).output


def test_predict_perturbation_reads_a_study(study):
    _, out = study
    once = ("--once", out / "perturbed_once" / "shrink" / "P0004", "--every", out / "periodic" / "*" / "P*")
    words = ("--curves", out / "unperturbed", "--target", 0.85, "-P", 3, "--replicates", 100)
    result = jostle("predict", "perturbation", *words, *once)
    assert result.exit_code == 0, result.output
    for label, interval in (("full_reset", 4), ("full_reset", 6), ("shrink", 4), ("shrink", 6), ("shrink", 3)):
        assert re.search(rf"^{label} +{interval} ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nothing"), "preset 'nothing' does not exist; choose digits-demo"),
        (("--target", 1.5), "target=1.5 must lie in (0, 1]"),
        (("-P", 0), "intervals=[0] must be whole epochs"),
        (("--lr", -1), "learning_rate=-1"),
        (("--perturbation", "shake"), "shake"),
        (("--follow", 3), "follow=3"),
    ],
)
def test_bad_input_to_validate(tmp_path, words, message):
    result = jostle("validate", "perturbation", "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_validate_needs_a_directory_and_shows_its_preset():
    assert "--out is missing" in jostle("validate", "perturbation").output
    shown = jostle("validate", "perturbation", "--show-preset")
    assert shown.exit_code == 0
    assert "[perturbations.shrink_perturb]" in shown.stdout


def test_broken_preset_file(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("target = \n")
    result = jostle("validate", "perturbation", "--preset", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not TOML" in result.output


def test_report_of_something_else_is_refused(run, tmp_path):
    assert jostle("report", tmp_path).exit_code == 2
    result = jostle("report", run)
    assert result.exit_code == 2
    assert "holds no study" in result.output


def test_report_trains_nothing(study, tmp_path):
    _, out = study
    copy = shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(copy / "periodic" / "shrink" / "P0004")
    result = jostle("report", copy)
    assert result.exit_code == 2
    assert "periodic/shrink/P0004 is missing" in result.output
    assert not (copy / "periodic" / "shrink" / "P0004").exists()
