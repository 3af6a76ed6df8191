"""What `jostle predict perturbation --curves` refuses, and what it says then."""

import shlex
from pathlib import Path

import pytest

from tests.advice_logs import write_log, write_logs
from tests.command_line import jostle


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs"))


PLAIN = "--curves {logs}/plain.csv --target 0.9"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--curves {logs}/nothing.csv --target 0.9", "nothing.csv does not exist"),
        ("--curves {logs}/plain.csv", "--target is missing"),
        (f"{PLAIN} --perturbed-once {{logs}}/once.csv", "No such option"),
        (f"{PLAIN} --branch-epoch 30", "--branch-epoch can only be used with toy processes"),
        (
            f"{PLAIN} --once {{logs}}/once.csv",
            "does not say the name of the perturbation; write --once NAME:EPOCH=PATH",
        ),
        (f"{PLAIN} --once shuffle={{logs}}/once.csv", "does not say the epoch"),
        (f"{PLAIN} --once shuffle:thirty={{logs}}/once.csv", "epoch 'thirty' must be a whole number, at least 1"),
        (f"{PLAIN} --once shuffle:0={{logs}}/once.csv", "epoch '0' must be a whole number, at least 1"),
        (f"{PLAIN} --once shuffle:60={{logs}}/once.csv", "epoch 60 must be below 60, where the unperturbed curves end"),
        (f"{PLAIN} --once shuffle:30=", "names no file"),
        (f"{PLAIN} --once ' :30={{logs}}/once.csv'", "has an empty name"),
        (f"{PLAIN} --once shuffle:30={{logs}}/nothing.csv", "nothing.csv does not exist"),
        (f"{PLAIN} --once none:30={{logs}}/once.csv", "label 'none' stands for training without perturbation"),
        (f"{PLAIN} --once full_reset:30={{logs}}/once.csv", "unperturbed curves alone decide about full_reset"),
        (f"{PLAIN} --every shuffle={{logs}}/plain.csv", "does not say P; write --every NAME:P=PATH"),
        (f"{PLAIN} --every '{{logs}}/shuffle_P*.csv'", "does not say the name of the perturbation"),
        (f"{PLAIN} --every 'shuffle={{logs}}/nothing_P*.csv'", "no file fits"),
        (f"{PLAIN} --every 'shuffle:5={{logs}}/shuffle_P*.csv'", "shuffle every 5 is given twice"),
        (f"{PLAIN} --every x:5={{logs}}/once.csv --every x:5={{logs}}/plain.csv", "x every 5 is given twice"),
        (f"{PLAIN} --metric loss", "no metric 'loss'"),
        (f"{PLAIN} --horizon 1", "horizon=1 must be >= 2"),
        (f"{PLAIN} --horizon 5000", "horizon=5000 is more than ten times"),
        (f"{PLAIN} --precision 0", "--precision"),
        (f"{PLAIN} --replicates 10", "--replicates"),
        (f"{PLAIN} -P 0", "--interval"),
        (f"{PLAIN} --out {{logs}}/once.csv", "a file is in the way"),
        (f"{PLAIN} --scan 0.8:0.9:0.1", "--target can only be used with one target, not with --scan"),
        ("--curves {logs}/plain.csv --scan 0.8:0.9:0.1 -P 5", "--interval can only be used with one target"),
        ("--curves {logs}/plain.csv --scan 0.8:0.9", "must have the form LOW:HIGH:STEP"),
        ("--curves {logs}/plain.csv --scan a:b:c", "must have the form LOW:HIGH:STEP"),
        ("--curves {logs}/plain.csv --scan 0.8:0.9:0", "with STEP > 0 and LOW <= HIGH"),
        ("--curves {logs}/plain.csv --scan 0.9:0.8:0.1", "with STEP > 0 and LOW <= HIGH"),
        ("--curves {logs}/plain.csv --scan 0:1:1e-9", "with 200 targets at most"),
        ("--curves {logs}/plain.csv --scan 0:inf:1", "finite numbers"),
        ("--curves {logs}/plain.csv --scan 80:90:5", "is above 1 but val_acc is a fraction"),
        ("--chain rational --once a:3=b", "--once can only be used with --curves"),
        ("--chain rational --scan 0:1:1", "--scan can only be used with --curves"),
    ],
)
def test_bad_input_is_a_usage_error(logs: Path, words: str, message: str) -> None:
    run = jostle("predict", "perturbation", *shlex.split(words.format(logs=logs)))
    assert run.exit_code == 2, run.output
    assert message in run.stderr
    assert "Traceback" not in run.output
    assert run.stdout == ""


def test_one_run_is_too_few(tmp_path: Path) -> None:
    log = write_log(tmp_path / "one.csv", [7])
    run = jostle("predict", "perturbation", "--curves", log, "--target", 0.9)
    assert run.exit_code == 2
    assert "there is one run" in run.stderr


def test_a_file_that_cannot_be_read_is_named(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("run,epoch,val_acc\n0,1,high\n")
    words = ("--curves", logs / "plain.csv", "--target", 0.9, "--once", f"x:30={tmp_path / 'broken.csv'}")
    run = jostle("predict", "perturbation", *words)
    assert run.exit_code == 2
    assert "broken.csv" in run.stderr
    assert "high" in run.stderr
