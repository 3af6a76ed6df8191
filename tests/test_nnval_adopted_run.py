"""A run of `jostle train` as the unperturbed ensemble of a study."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli

TRAINING = ("--hidden", "8", "--members", 12, "--epochs", 8, "--lr", 0.2, "--quiet")
STUDY = ("--perturbation", "shrink_perturb:shrink=0.7,noise=0.3", "-P", 4, "--periodic-members", 6, "--quiet")


def jostle(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "plain"
    trained = jostle("train", *TRAINING, "--snapshots", "3", "--out", path)
    assert trained.exit_code == 0, trained.output
    return path


def study(run: Path, out: Path, *more: object) -> Result:
    return jostle("validate", "perturbation", "--run", run, *STUDY, "--workers", 1, "--out", out, *more)


def test_a_study_begins_with_the_networks_that_are_there(run: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    first = study(run, tmp_path / "study")
    assert first.exit_code in (0, cli.DISAGREES), first.output
    config = json.loads((tmp_path / "study" / "config.json").read_text())["config"]
    assert config["branch_epochs"] == [3]
    assert (config["training"]["members"], config["training"]["epochs"], config["training"]["hidden"]) == (12, 8, [8])
    assert (tmp_path / "study" / "unperturbed").samefile(run)
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: at for path, at in before.items() if path.name != ".lock"}  # nothing was trained there
    # Again: everything is there. And what other commands make of it.
    assert study(run, tmp_path / "study").stdout == first.stdout
    assert jostle("report", tmp_path / "study").stdout == first.stdout


def test_a_run_without_what_a_study_needs_is_refused(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    assert jostle("train", *TRAINING, "--out", bare).exit_code == 0
    stopped = tmp_path / "stopped"
    assert jostle("train", *TRAINING, "--snapshots", "3", "--target", 0.9, "--out", stopped).exit_code == 0
    for path, message in (
        (bare, "no snapshots of its survivors: train it with --snapshots"),
        (stopped, "the target 0.9, where members stopped"),
        (tmp_path / "nothing", "holds no run"),
    ):
        refused = study(path, tmp_path / "study")
        assert refused.exit_code == cli.USAGE, refused.output
        assert message in refused.output
        assert not (tmp_path / "study").exists()


def test_what_the_run_says_cannot_be_said_otherwise(run: Path, tmp_path: Path) -> None:
    for option in (("--epochs", 9), ("--lr", 0.1), ("--members", 4), ("--seed", 1), ("--branch-epoch", 2)):
        refused = study(run, tmp_path / "study", *option)
        assert refused.exit_code == cli.USAGE
        assert f"{option[0]} can only be used with a new training, not with --run" in refused.output


@pytest.mark.slow
def test_another_run_in_the_same_study_is_refused(run: Path, tmp_path: Path) -> None:
    assert study(run, tmp_path / "study").exit_code in (0, cli.DISAGREES)
    other = tmp_path / "other"
    assert jostle("train", *TRAINING, "--snapshots", "3", "--out", other).exit_code == 0
    refused = study(other, tmp_path / "study")
    assert refused.exit_code == cli.USAGE, refused.output
    assert "choose another directory for the study" in refused.output
