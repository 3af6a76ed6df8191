"""``jostle train`` as a user meets it: options, presets, parts of a run, and its status."""

import json
import re

import pytest
import torch
from click.testing import CliRunner

import cli
from nnval.engine.run_directory import Interrupted

SMALL = ("--epochs", 3, "--train-size", 100, "--hidden", "8", "--execution", "stacked", "--device", "cpu")
OWN = """
from torch import nn

def network(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, classes))
"""


def jostle(*arguments):
    return CliRunner().invoke(cli.main, ["train", *map(str, arguments)])


def trained(out, *words):
    result = jostle("--out", out, "--quiet", *words)
    assert result.exit_code == 0, result.output
    return json.loads((out / "config.json").read_text())["config"]


def test_every_option_becomes_its_field(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "--epochs 2 --members 5:7 --model my_networks:network --train-size 90 --validation-size 100 --label-noise 0.1 "
        "--optimizer adamw --betas 0.8,0.9 --lr 0.01 --weight-decay 0.1 --batch-size 30 --schedule step --milestones 1 "
        "--decay 0.5 --device cpu --deterministic --no-channels-last --seed 3 --stack-size 1 --execution loop"
    )
    config = trained(tmp_path / "run", *text.split())
    expected = {
        "epochs": 2, "model": "my_networks:network", "train_size": 90, "validation_size": 100, "label_noise": 0.1,
        "optimizer": "adamw", "betas": [0.8, 0.9], "learning_rate": 0.01, "weight_decay": 0.1, "batch_size": 30,
        "schedule": "step", "milestones": [1], "decay": 0.5, "device": "cpu", "deterministic": True, "seed": 3,
        "channels_last": False, "stack_size": 1, "execution": "loop",
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
    assert sorted(path.name for path in (tmp_path / "run" / "members").iterdir()) == ["0005", "0006"]


def test_options_override_a_preset(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[training]\ntrain_size = "all"\nhidden = [4]\nepochs = 9\nmembers = 3\nseed = 4\n')
    config = trained(tmp_path / "run", "--preset", recipe, "--epochs", 1, "--train-size", 50, "--device", "cpu")
    assert (config["hidden"], config["epochs"], config["train_size"], config["seed"]) == ([4], 1, 50, 4)
    assert len((tmp_path / "run" / "members.csv").read_text().splitlines()) == 1 + 3
    assert "choose" in jostle("--preset", "nothing", "--out", tmp_path / "no").output


def test_a_run_in_parts_extended_and_its_status(tmp_path):
    run = tmp_path / "run"
    trained(run, "--members", "2:4", *SMALL)
    result = jostle("--out", run, "--members", 4, *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("4 networks: 4 horizon\n")
    assert "nothing was trained" not in result.stderr
    again = jostle("--out", run, "--members", "1:3", *SMALL, "--json")
    assert "nothing was trained" in again.stderr
    record = json.loads(again.stdout)
    assert record["result"]["members"] == 2
    assert (record["parameters"]["first_member"], record["parameters"]["members"]) == (1, 2)
    status = jostle("--status", run)
    assert status.exit_code == 0
    assert status.stdout.startswith(f"{run}: finished\n")
    assert re.search(r"^planned +4$", status.stdout, re.MULTILINE)
    assert re.search(r"^ended: horizon +4$", status.stdout, re.MULTILINE)
    assert re.search(r"^12 of 12 member-epochs \(100.0%\); last written \d+ s ago$", status.stdout, re.MULTILINE)
    record = json.loads(jostle("--status", run, "--json").stdout)
    assert record["result"]["state"] == "finished"
    assert record["result"]["ended"] == {"reached": 0, "horizon": 4, "diverged": 0}


def test_status_of_a_stopped_run(tmp_path, monkeypatch):
    from nnval.engine import ensemble

    def stop(*_):
        raise Interrupted("enough")

    with monkeypatch.context() as patch:
        patch.setattr(ensemble._ProgressBoard, "report", stop)
        assert jostle("--out", tmp_path / "run", "--members", 2, *SMALL).exit_code == cli.STOPPED
    status = jostle("--status", tmp_path / "run")
    assert status.exit_code == 0
    assert status.stdout.startswith(f"{tmp_path / 'run'}: stopped\n")
    assert "2 of 6 member-epochs (33.3%)" in status.stdout


def test_a_machine_without_gpu_is_mentioned_unless_the_device_was_named(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("has a CUDA device")
    words = ("--members", 2, *SMALL[:-2])
    assert "no CUDA device" in jostle("--out", tmp_path / "auto", *words).stderr
    assert "no CUDA device" not in jostle("--out", tmp_path / "cpu", *words, "--device", "cpu").stderr
    result = jostle("--out", tmp_path / "cuda", *words, "--device", "cuda")
    assert result.exit_code == cli.USAGE
    assert "device='cuda' cannot be used here" in result.output
    assert not (tmp_path / "cuda").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--out is missing"),
        (("--status", "nowhere"), "nowhere holds no run"),
        (("--status", "nowhere", "--members", 3), "--members cannot be used with --status"),
        (("--members", "3:"), "members='3:' must be a number >= 1, or A:B"),
        (("--members", "3:3"), "members='3:3' must be a number >= 1, or A:B"),
        (("--members", "4:2"), "members='4:2' must be a number >= 1"),
        (("--workers", "0"), "workers='0' must be a whole number from 1 to 256"),
        (("--workers", "9999"), "workers='9999' must be a whole number from 1 to 256"),
        (("--train-size", "some"), "train_size='some' must be a whole number, or all"),
        (("--workers", "many"), "workers='many' must be a whole number from 1 to 256, or auto"),
        (("--workers", 2, "--scheduler", "tcp://x:1"), "--workers cannot be used with --scheduler"),
        (("--workers", 2, "--no-lock"), "--workers cannot be used with --no-lock"),
        (("--scheduler", "here"), "scheduler='here' must be an address"),
        (("--milestones", "3"), "--milestones can only be used with --schedule step"),
        (("--cycle-epochs", 3), "--cycle-epochs can only be used with --schedule sgdr"),
        (("--warm-up", 0.5), "--warm-up can only be used with --schedule one_cycle"),
        (("--momentum", 0.5, "--optimizer", "adam"), "momentum"),
        (("--betas", "0.5,0.6"), "--betas can only be used with --optimizer adam or adamw"),
        (("--hidden", "8", "--model", "lenet"), "--hidden can only be used with --model mlp"),
        (("--nesterov",), "nesterov=True needs momentum"),
        (("--milestones", "a", "--schedule", "step"), "milestones='a' must be whole numbers"),
        (("--data-dir", "/tmp"), "--data-dir cannot be used with --data digits"),
        (("--download",), "--download cannot be used with --data digits"),
        (("--data", "nowhere.tar"), "data='nowhere.tar' must be one of"),
        (("--optimizer", "lion"), "lion"),
    ],
)
def test_bad_options_are_usage_errors_and_leave_nothing(tmp_path, words, message):
    out = () if not words or words[0] == "--status" else ("--out", tmp_path / "run")
    result = jostle(*out, *words)
    assert result.exit_code == cli.USAGE, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_help_is_grouped():
    text = jostle("-h").output
    for title in ("Run:", "Data:", "Network and optimizer:", "Computation:", "Output:"):
        assert f"\n{title}\n" in text
    assert "[default: 0.1]" in text
