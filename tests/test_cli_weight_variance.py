"""`predict weight-variance` and `simulate weight-variance`, as a user meets them."""

import csv
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
from theory import weight_variance
from theory.gradient_noise import WhiteNoise


def jostle(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def result_of(*arguments: object) -> dict:
    run = jostle(*arguments, "--json", "--quiet")
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)["result"]


def test_prediction_is_the_table_of_the_literature() -> None:
    words = ("--learning-rate", 0.5, "--momentum", 0.9, "--batches", 50, "--curvature", 0.002, "--order", "reshuffled")
    result = result_of("predict", "weight-variance", *words)
    (row,) = result["directions"]
    assert row["weight_variance"] == pytest.approx(487.5128584452093, rel=1e-12)
    assert row["velocity_variance"] == pytest.approx(3.931768196905718, rel=1e-12)
    assert row["correlation_time"] == pytest.approx(247.9865719596, rel=1e-12)
    assert result["crossover_curvature"] == pytest.approx(3 * 0.1 / (0.5 * 50))


def test_simulation_agrees_and_draws(tmp_path: Path) -> None:
    words = ("--batches", 7, "--momentum", 0.5, "--learning-rate", 1, "--curvature", 0.05, "--curvature", 1)
    run = jostle("simulate", "weight-variance", *words, "--epochs", 100, "--out", tmp_path / "out")
    assert run.exit_code == 0, run.output
    assert run.stdout.count("agrees") == 8 + 8  # variances; noise of real batches
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "variances.csv",
        "simulated.csv",
        "noise.csv",
        "variances.png",
        "autocovariance.png",
    }
    simulated = list(csv.DictReader((tmp_path / "out" / "simulated.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["quantity"] for row in simulated} == {"weight_variance", "velocity_variance", "correlation_time"}
    noise = list(csv.DictReader((tmp_path / "out" / "noise.csv").read_text(encoding="utf-8").splitlines()))
    (neighbours,) = [row for row in noise if (row["order"], row["lag"]) == ("reshuffled", "1")]
    assert abs(float(neighbours["value"]) + 1 / 7) < 5 * float(neighbours["standard_error"])
    rows = list(csv.DictReader((tmp_path / "out" / "variances.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["order"] for row in rows} == {"reshuffled", "with_replacement"}
    assert len(rows) == 2 * 241


def test_disagreement_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    right = weight_variance.stationary_variances
    # The theory of batches drawn with replacement, for batches that are not.
    monkeypatch.setattr(weight_variance, "stationary_variances", lambda modes, _noise: right(modes, WhiteNoise()))
    words = ("--batches", 7, "--momentum", 0, "--learning-rate", 1, "--curvature", 0.05, "--order", "reshuffled")
    run = jostle("simulate", "weight-variance", *words, "--epochs", 64)
    assert run.exit_code == cli.DISAGREES, run.output
    assert "disagrees" in run.stdout


def test_latex_prints_derivations() -> None:
    run = jostle("predict", "weight-variance", "--latex")
    assert run.exit_code == 0, run.output
    assert run.stdout.count(r"\begin{align*}") == run.stdout.count(r"\end{align*}") >= 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--momentum 1", "momentum=1.0 must satisfy 0 <= momentum < 1"),
        ("--curvature 400", "must be < 2 (1 + momentum) = 3.8"),
        ("--curvature -1", "curvature=-1.0 must be finite and >= 0"),
        ("--batches 1", "batches_per_epoch=1 must be a whole number >= 2"),
        ("--order sorted", "order 'sorted' is unknown"),
        ("--order persistent", "misses its option"),
        ("--order persistent:correlation=1", "correlation=1 must satisfy"),
        ("--order persistent:correlation=a", "must be a number"),
        ("--learning-rate 0", "learning_rate=0.0 must be finite and > 0"),
    ],
)
def test_bad_input_is_a_usage_error(words: str, message: str) -> None:
    run = jostle("predict", "weight-variance", *shlex.split(words))
    assert run.exit_code == 2, run.output
    assert message in run.output
    assert "Traceback" not in run.output
