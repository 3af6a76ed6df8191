"""`jostle predict perturbation --curves`, as somebody with a log file meets it."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import cli
from commands.advice import parse_scan
from tests.advice_logs import SHUFFLED, WORKED, perturbed_times, write_log, write_logs
from tests.command_line import jostle


def advised(*arguments: object) -> Result:
    run = jostle("predict", "perturbation", *arguments, "--replicates", 100)
    assert run.exit_code == 0, run.output
    return run


def result_of(*arguments: object) -> dict:
    return json.loads(advised(*arguments, "--json", "--quiet").stdout)["result"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs"))


# ---- What it says ---------------------------------------------------------------------------------------------------


def test_restart_of_the_worked_example(logs: Path) -> None:
    run = advised("--curves", logs / "plain.csv", "--target", 0.9)
    assert run.stdout.startswith("100 runs, val_acc >= 0.9: all get there by epoch 60\n")
    assert re.search(r"^full_reset +5 .*Eq. \(5\), exact$", run.stdout, re.MULTILINE)
    assert re.search(r"^  Restart from scratch every 5 epochs: 6\.\d", run.stdout, re.MULTILINE)
    assert "Why: 35% of the runs are unfinished at epoch 5" in run.stdout
    best = result_of("--curves", logs / "plain.csv", "--target", 0.9)["choices"][0]
    assert (best["perturbation"], best["interval"], best["source"]) == ("full_reset", 5, "restart")
    assert best["restricted_mean"]["value"] == pytest.approx(6.2307692308, rel=0.08)  # corrected for the choice
    assert best["probability_best"] > 0.95


def test_standard_case_fits_on_a_screen_and_guesses_are_on_stderr(logs: Path) -> None:
    words = ("--curves", logs / "plain.csv", "--target", 0.9, "--once", f"shuffle:30={logs / 'once.csv'}")
    run = advised(*words)
    assert len(run.stdout.splitlines()) <= 40
    assert max(map(len, run.stdout.splitlines())) <= 120
    assert "Read as" not in run.stdout
    assert "Read as:\n  direction up because the name says acc\n" in run.stderr
    quiet = advised(*words, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (run.stdout, "")
    assert "direction up because the name says acc" in result_of(*words)["assumptions"]


def test_text_is_wrapped_to_the_terminal(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    words = ("--curves", logs / "plain.csv", "--target", 0.9, "--once", f"shuffle:30={logs / 'once.csv'}")
    text = advised(*words).stdout.split("\nAdvice:\n")[1]
    assert 60 < max(map(len, text.splitlines())) <= 72
    assert "\n    " in text  # what goes on is indented


def test_predictions_stand_beside_measurements(logs: Path) -> None:
    words = ("--curves", logs / "plain.csv", "--target", 0.9, "--once", f"shuffle:30={logs / 'once.csv'}")
    assert "Predicted and measured" not in advised(*words).stdout
    asked = advised(*words, "-P", 5).stdout
    assert re.search(r"^shuffle +5 +Eq. \(9\), renewal +\d", asked, re.MULTILINE)
    every = ("--every", f"shuffle={logs / 'shuffle_P*.csv'}")
    run = advised(*words, *every)
    for interval in (5, 10, 20):
        pattern = rf"^shuffle +{interval} +Eq. \(9\), renewal +[\d.]+ \+- [\d.]+ +[\d.]+ \+- [\d.]+ +[+-][\d.]+%"
        assert re.search(pattern, run.stdout, re.MULTILINE)
    result = result_of(*words, *every)
    shuffle = result["perturbations"][1]
    assert [m["interval"] for m in shuffle["measured"]] == [5, 10, 20]
    at_10 = next(c for c in shuffle["comparisons"] if c["interval"] == 10 and c["predictor"] == "renewal")
    assert at_10["measured"]["value"] == pytest.approx(perturbed_times(10).mean())
    error = np.hypot(at_10["predicted"]["standard_error"], at_10["measured"]["standard_error"])
    assert at_10["z"] == pytest.approx((at_10["predicted"]["value"] - at_10["measured"]["value"]) / error)
    assert abs(at_10["z"]) < 3
    assert at_10["verdict"] != "disagrees"


def test_json_has_everything(logs: Path) -> None:
    words = ("--curves", logs / "plain.csv", "--target", 0.9, "--once", f"shuffle:30={logs / 'once.csv'}")
    run = advised(*words, "--json")
    record = json.loads(run.stdout)
    assert (record["schema"], record["command"], record["seed"]) == (1, "predict perturbation", 0)
    assert record["parameters"]["target"] == 0.9
    result = record["result"]
    assert result["recommendation"][0] in " ".join(advised(*words).stdout.split())
    survival = result["survival"]
    assert survival["survival"][5] == pytest.approx(0.35)
    assert survival["low"][5] < 0.35 < survival["high"][5]
    assert len(survival["epoch"]) == len(survival["survival"]) == 61
    predictions = result["perturbations"][0]["predictions"]
    assert predictions[0]["mean"]["value"] == "inf"
    means = [p["mean"]["value"] for p in predictions[1:5]]
    assert means == pytest.approx([40, 8.4285714286, 6.5454545454, 6.2307692308], rel=1e-9)
    assert {"unproven", "needs", "design", "assumptions"} <= result.keys()
    assert result["diagnosis"]["sentences"]
    only = result_of(*words, "-P", 3)["perturbations"]
    assert {p["interval"] for of_one in only for p in of_one["predictions"]} == {3}


def test_unknown_intervals_are_said_to_be_left_out(logs: Path) -> None:
    run = advised("--curves", logs / "plain.csv", "--target", 0.9, "-P", 5, "-P", 500)
    assert "full_reset: P = 500 left out: beyond H = 120" in run.stderr


def test_same_seed_same_output(logs: Path) -> None:
    words = ("--curves", logs / "plain.csv", "--target", 0.9)
    assert advised(*words).stdout == advised(*words, "--seed", 0).stdout
    assert advised(*words).stdout != advised(*words, "--seed", 1).stdout


# ---- Advice that is no recommendation -------------------------------------------------------------------------------


def test_dont_is_an_answer(tmp_path: Path) -> None:
    # Waiting for a steady process that needs ten epochs to begin: restarts lose those.
    log = write_log(tmp_path / "steady.csv", 10 + np.arange(60) % 6)
    run = advised("--curves", log, "--target", 0.9)
    assert "Don't perturb" in run.stdout
    assert re.search(r"^none ", run.stdout.split("--\n")[1])
    assert result_of("--curves", log, "--target", 0.9)["recommendation"][0].startswith("Don't perturb")


def test_nobody_gets_there(logs: Path, tmp_path: Path) -> None:
    run = advised("--curves", logs / "plain.csv", "--target", 0.95, "--out", tmp_path / "out")
    assert "Nothing can be said about perturbations: no run reaches 0.95 by epoch 60" in run.stdout
    assert (tmp_path / "out" / "report.html").is_file()
    result = result_of("--curves", logs / "plain.csv", "--target", 0.95)
    assert result["choices"] == []
    assert result["survival"]["survival"][-1] == 1


def test_all_get_there_at_once(logs: Path, tmp_path: Path) -> None:
    run = advised("--curves", logs / "plain.csv", "--target", 0.05, "--out", tmp_path / "out")
    assert "Don't perturb: all runs are there by epoch 1" in run.stdout
    assert (tmp_path / "out" / "report.html").is_file()


# ---- Reading --------------------------------------------------------------------------------------------------------


def test_epochs_from_zero_give_the_same_answer_and_a_note(logs: Path, tmp_path: Path) -> None:
    shifted = write_log(tmp_path / "shifted.csv", WORKED, first=0)
    expected = advised("--curves", logs / "plain.csv", "--target", 0.9, "--quiet").stdout
    for count in ("auto", "from-zero"):
        run = advised("--curves", shifted, "--target", 0.9, "--count", count)
        assert run.stdout == expected
        assert ("epochs begin at 0" in run.stderr) == (count == "auto")
    dropped = result_of("--curves", shifted, "--target", 0.9, "--count", "untrained-first")
    assert dropped["choices"][0]["interval"] == 4  # one epoch fewer
    assert (
        "begin" in jostle("predict", "perturbation", "--curves", shifted, "--target", 0.9, "--count", "from-one").stderr
    )


def test_losses_go_down(tmp_path: Path) -> None:
    log = write_log(tmp_path / "loss.csv", WORKED, metric="val_loss", best=0.1)
    run = advised("--curves", log, "--target", 0.1)
    assert "val_loss <= 0.1" in run.stdout
    assert "Restart from scratch every 5 epochs" in run.stdout
    asked = jostle(
        "predict", "perturbation", "--curves", log, "--target", 0.1, "--direction", "up", "--replicates", 100
    )
    assert "all get there by epoch 1" in asked.stdout


def write_run(path: Path, *, interval: int | None, branch: int | None, stream: str = "", name: str = "shake") -> Path:
    """A finished run of jostle, as far as its reader looks."""
    path.mkdir(parents=True)
    config = {"perturbation": {"name": name}, "interval": interval, "stream": stream, "epochs": 60, "target": 0.9}
    description = {"schema": 2, "fingerprint": "", "config": config, "branch": branch and {"epoch": branch}}
    (path / "config.json").write_text(json.dumps(description))
    horizon = 60 if branch is None else 30
    write_log(path / "curves.csv", SHUFFLED if branch else perturbed_times(interval or 1), horizon=horizon)
    return path


def test_runs_of_jostle_know_what_was_done_to_them(logs: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    stream = "perturbed_once/wilder/P0030"
    once = write_run(study / stream, interval=None, branch=30, stream=stream)
    for interval in (5, 20):
        place = f"periodic/wilder/P{interval:04d}"
        write_run(study / place, interval=interval, branch=None, stream=place)
    own = write_run(tmp_path / "own", interval=10, branch=None)
    plain = ("--curves", logs / "plain.csv", "--target", 0.9)
    every = study / "periodic" / "*" / "P*"
    result = result_of(*plain, "--once", once, "--every", every, "--every", own, "--every", f"mine={own}")
    found = {e["perturbation"]: [m["interval"] for m in e["measured"]] for e in result["perturbations"]}
    assert found == {"full_reset": [], "wilder": [5, 20], "shake": [10], "mine": [10]}
    assert result["perturbations"][1]["branch_epoch"] == 30

    def refused(*words: object) -> str:
        run = jostle("predict", "perturbation", *plain, *words)
        assert run.exit_code == 2, run.output
        return run.stderr

    assert "were perturbed once, at epoch 30; they belong to --once" in refused("--every", once)
    assert "were perturbed every 10; they belong to --every" in refused("--once", own)
    assert "epoch 7 was given" in refused("--every", f"mine:7={own}")
    unperturbed = write_run(tmp_path / "unperturbed", interval=None, branch=None)
    assert "neither once nor every P epochs" in refused("--every", f"mine:7={unperturbed}")
    reset = write_run(tmp_path / "reset", interval=5, branch=None, stream="periodic/anew/P0005", name="full_reset")
    measured = result_of(*plain, "--every", reset)["perturbations"]
    assert [(e["perturbation"], len(e["measured"])) for e in measured] == [("full_reset", 1)]


# ---- Targets --------------------------------------------------------------------------------------------------------


def test_scan_of_targets(logs: Path, tmp_path: Path) -> None:
    words = ("--curves", logs / "plain.csv", "--scan", "0.7:0.95:0.05")
    run = advised(*words, "--out", tmp_path / "out")
    rows = [line.split() for line in run.stdout.splitlines()[3:]]
    assert [row[0] for row in rows] == ["0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    assert rows[4][3:5] == ["full_reset", "5"]
    assert rows[5][3:6] == ["nobody", "gets", "there"]
    result = result_of(*words)
    assert [t["target"] for t in result["targets"]] == [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert result["targets"][4]["choices"][0]["perturbation"] == rows[4][3]
    table = list(csv.DictReader((tmp_path / "out" / "arrays" / "targets.csv").read_text().splitlines()))
    assert {row["target"] for row in table} == {"0.7", "0.75", "0.8", "0.85", "0.9"}
    every = ("--every", f"s:5={logs / 'shuffle_P05.csv'}")
    with_shuffle = result_of("--curves", logs / "plain.csv", "--scan", "0.9:0.9:1", *every)
    assert {choice["perturbation"] for choice in with_shuffle["targets"][0]["choices"]} == {"none", "full_reset", "s"}
    assert (tmp_path / "out" / "targets.png").read_bytes().startswith(b"\x89PNG")
    assert "The best protocol at each target" in (tmp_path / "out" / "report.html").read_text()


def test_targets_are_decimals() -> None:
    assert parse_scan("0.7:0.8:0.05") == [0.7, 0.75, 0.8]
    assert parse_scan("70:75:2") == [70, 72, 74]
    assert parse_scan("-1:-1:1") == [-1]
    assert len(parse_scan("0:1.99:0.01")) == 200


# ---- Files ----------------------------------------------------------------------------------------------------------


def test_files(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    words = ("--once", f"shuffle:30={logs / 'once.csv'}", "--every", f"shuffle={logs / 'shuffle_P*.csv'}")
    run = advised("--curves", logs / "plain.csv", "--target", 0.9, *words, "--out", out)
    assert f"written: {out / 'report.html'}" in run.stderr
    tables = ("survival", "predictions", "measured", "comparisons", "ranking", "quasi_steady_state")
    assert sorted(p.name for p in (out / "arrays").iterdir()) == sorted(f"{name}.csv" for name in tables)
    pictures = ("ranking", "training_time", "survival", "quasi_steady_state")
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["arrays", "report.html", *(f"{name}.png" for name in pictures)]
    )
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "Apply shuffle every" in page or "Restart from scratch" in page
    survival = list(csv.DictReader((out / "arrays" / "survival.csv").read_text().splitlines()))
    assert float(survival[5]["survival"]) == pytest.approx(0.35)
    predictions = list(csv.DictReader((out / "arrays" / "predictions.csv").read_text().splitlines()))
    assert {row["predictor"] for row in predictions} == {"restart", "rare", "renewal"}
    assert len(list(csv.DictReader((out / "arrays" / "measured.csv").read_text().splitlines()))) == 3


def test_nothing_is_written_when_the_report_fails(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from figures import advice as draw

    def broken(*_: object, **__: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(draw, "figure_ranking", broken)
    run = jostle("predict", "perturbation", "--curves", logs / "plain.csv", "--target", 0.9, "--out", tmp_path / "out")
    assert run.exit_code == 2
    assert "no ink" in run.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    metric = "val/$acc_{x}$<b>"
    log = write_log(tmp_path / "plain.csv", WORKED, metric=metric)
    once = write_log(tmp_path / "once.csv", SHUFFLED, horizon=30, metric=metric)
    words = ("--curves", log, "--target", 0.9, "--once", f"$x_{{<i>$:30={once}", "--out", tmp_path / "out")
    assert metric in advised(*words, "--metric", metric).stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<i>" not in page
    assert "&lt;i&gt;" in page


# ---- The program ----------------------------------------------------------------------------------------------------


def test_help_has_an_example_for_each_mode() -> None:
    text = jostle("predict", "perturbation", "-h").stdout
    examples = [line for line in text.splitlines() if line.strip().startswith("jostle predict perturbation")]
    for option in ("--target", "--once", "--every", "--scan", "--out", "--chain", "--potential"):
        assert any(option in example for example in examples), option
    for count in ("from-zero", "from-one", "untrained-first"):
        assert count in text


def test_advice_needs_no_torch(logs: Path, tmp_path: Path) -> None:
    words: Sequence[object] = ("--curves", logs / "plain.csv", "--target", 0.9, "--out", tmp_path / "out", "--quiet")
    code = f"""
import sys
import cli
cli.main({[*("predict", "perturbation"), *map(str, words), "--replicates", "100"]!r}, standalone_mode=False)
print(*[name for name in ("torch", "sklearn", "numba") if name in sys.modules], file=sys.stderr)
"""
    root = Path(cli.__file__).parent
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert run.returncode == 0, run.stderr
    assert run.stderr.strip() == ""


# ---- Published curves -----------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_published_curves(shared_data: Path) -> None:
    directory = shared_data / "meir2025_cifar10_resnet18"
    plain = ("--curves", directory / "unperturbed.csv.gz", "--target", 0.72)
    run = jostle("predict", "perturbation", *plain)
    assert run.exit_code == 0, run.output
    assert "1,000 runs, test_accuracy >= 0.72: 29.3% are unfinished at epoch 200" in run.stdout
    assert re.search(r"^full_reset +18 \(17 to 20\) +30\.[56] \(28\.\d to 32\.\d\) +2\.52 \(", run.stdout, re.MULTILINE)
    assert len(run.stdout.splitlines()) <= 40
    words = [f"shrink_perturb={directory}/shrink_perturb_P{interval}.csv.gz" for interval in ("002", "?00", "015")]
    run = advised(*plain, *(word for text in words for word in ("--every", text)))
    assert re.search(r"^shrink_perturb +2 .*5\.83 \+- 0\.11 .*outside regime", run.stdout, re.MULTILINE)
    assert re.search(r"^shrink_perturb +15 .*16\.65 \+- 0\.1\d +16\.54 \+- 0\.30 ", run.stdout, re.MULTILINE)
    assert re.search(r"^shrink_perturb +100 .*47\.1 \+- 1\.3 +44\.3 \+- 2\.3 ", run.stdout, re.MULTILINE)
    assert "Apply shrink_perturb every 2 epochs: 5.8" in run.stdout
    assert re.search(r"brute force takes [\d,]+ \(\d+%\s+saved\)", run.stdout)
