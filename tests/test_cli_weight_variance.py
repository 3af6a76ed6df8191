"""`predict weight-variance` and `simulate weight-variance`, as a user meets them."""

import contextlib
import csv
import json
import math
import shlex
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest

import cli
import sim.noise_autocovariance
import sim.weight_variance
from nnval.engine import run_directory
from tests.command_line import jostle
from theory import weight_variance
from theory.gradient_noise import WhiteNoise


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
    assert min(float(row["curvature"]) for row in rows) < 1e-5


def test_figures_see_the_crossover_and_the_resonances(tmp_path: Path) -> None:
    words = ("--momentum", 0.999, "--batches", 20, "--order", "shuffled_once", "--curvature", 1)
    run = jostle("predict", "weight-variance", *words, "--out", tmp_path)
    assert run.exit_code == 0, run.output
    rows = list(csv.DictReader((tmp_path / "variances.csv").read_text(encoding="utf-8").splitlines()))
    found = {float(row["curvature"]): float(row["velocity_variance"]) for row in rows}
    assert min(found) <= 1.001 * 3 * 0.001 / (0.01 * 20) / 100
    # A mode that rings with the first line of the spectrum: eta lambda = 1 + beta - 2 sqrt(beta) cos(2 pi / M).
    peak = (1.999 - 2 * math.sqrt(0.999) * math.cos(math.tau / 20)) / 0.01
    near = {at: value for at, value in found.items() if abs(at / peak - 1) < 0.1}
    assert max(near, key=lambda at: near[at]) == pytest.approx(peak, rel=1e-3)
    assert max(near.values()) > 50 * min(near.values())


@pytest.mark.slow
def test_default_curvatures_are_stable() -> None:
    for words in ("--momentum 0 --batches 10", "--momentum 0 --batches 2", "--momentum 0.99 --batches 2"):
        run = jostle("simulate", "weight-variance", *words.split(), "--runs", 8, "--epochs", 20, "--quiet")
        assert run.exit_code in (0, cli.DISAGREES), run.output
        assert run.stdout.count(", curvature ") == 2 * 2 * 4


def test_what_is_infinite_or_too_flat_is_said(tmp_path: Path) -> None:
    words = ("--curvature", 0, "--curvature", 20, "--burn-in", 5, "--epochs", 20, "--runs", 16, "--quiet")
    run = jostle("simulate", "weight-variance", *words, "--order", "with_replacement", "--out", tmp_path)
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert "not compared: infinite with_replacement, curvature 0, weight; theory inf, simulated " in run.stdout
    assert next(line for line in lines if "curvature 0, velocity" in line).endswith("outside regime")
    assert next(line for line in lines if "curvature 20, weight" in line).endswith("agrees")
    assert "burn-in of 250 updates is shorter than 12 relaxation times of curvature 0, inf" in run.stdout
    record = json.loads(jostle("simulate", "weight-variance", *words, "--json").stdout)["result"]
    assert record["units"].startswith("in units of (learning rate)^2")
    (infinite,) = record["not_compared"]
    assert (infinite["quantity"], infinite["predicted"]) == ("with_replacement, curvature 0, weight", "inf")
    verdicts = {c["quantity"]: (c["verdict"], bool(c["reasons"])) for c in record["comparisons"]}
    assert verdicts["reshuffled, curvature 0, weight"] == ("outside regime", True)
    assert record["not_simulated"] == []


def test_crossover_is_told_where_there_is_one() -> None:
    assert "suppressed below a curvature of about" in jostle("predict", "weight-variance").stdout
    alone = jostle("predict", "weight-variance", "--order", "with_replacement", "--order", "anti_pgd")
    assert "suppressed" not in alone.stdout
    assert "anti_pgd: the unit variance is that of the whole increment" in alone.stdout
    assert result_of("predict", "weight-variance", "--order", "with_replacement")["crossover_curvature"] is None


def test_an_unusable_directory_is_noticed_before_the_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: Any, **_settings: Any) -> NoReturn:
        raise AssertionError("simulated")

    monkeypatch.setattr(sim.weight_variance, "simulate_weight_variance", never)
    (tmp_path / "file").touch()
    for words in ("predict", "simulate"):
        run = jostle(words, "weight-variance", "--out", tmp_path / "file")
        assert run.exit_code == 2
        assert "file is in the way; choose another one" in run.stderr


def test_what_was_computed_is_printed_before_files_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(path: Path, _content: bytes) -> NoReturn:
        raise run_directory.StorageError(28, "the engine's words: go on from there") from OSError(28, "No space left")

    monkeypatch.setattr(run_directory, "write_whole", full)
    run = jostle("predict", "weight-variance", "--out", tmp_path)
    assert run.exit_code == cli.FAILED
    assert "with_replacement" in run.stdout
    assert "variances.csv (No space left); make room or choose another --out, and run it again" in run.stderr
    assert "go on" not in run.stderr


def test_after_ctrl_c_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right, words = sim.weight_variance.simulate_weight_variance, ("--runs", 4, "--epochs", 10, "--quiet")

    def pressed(modes: Any, noise: Any, rng: Any, **settings: Any) -> Any:
        if isinstance(noise, WhiteNoise):
            raise KeyboardInterrupt
        return right(modes, noise, rng, **settings)

    monkeypatch.setattr(sim.weight_variance, "simulate_weight_variance", pressed)
    run = jostle("simulate", "weight-variance", *words)
    assert run.exit_code == cli.STOPPED
    assert "not simulated: with_replacement, noise of real batches" in run.stdout
    first = jostle("simulate", "weight-variance", *words, "--order", "with_replacement")
    assert (first.exit_code, first.stdout, first.stderr) == (cli.STOPPED, "", "stopped\n")


def test_ctrl_c_while_noise_is_measured_keeps_the_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_arguments: Any, **_settings: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sim.noise_autocovariance, "measured_autocovariance", pressed)
    run = jostle("simulate", "weight-variance", "--runs", 4, "--epochs", 10, "--quiet")
    assert run.exit_code == cli.STOPPED
    assert run.stdout.count("with_replacement, curvature") == 8
    assert "not simulated: noise of real batches" in run.stdout


def test_out_of_memory_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*_arguments: Any, **_settings: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(sim.weight_variance, "simulate_weight_variance", large)
    run = jostle("simulate", "weight-variance", "--quiet")
    assert (run.exit_code, run.stderr) == (cli.FAILED, "Error: out of memory: take fewer --runs\n")


def test_many_batches_are_no_burden(tmp_path: Path) -> None:
    words = ("--batches", 10**7, "--order", "shuffled_once", "--order", "reshuffled_every:epochs=300")
    run = jostle("predict", "weight-variance", *words, "--out", tmp_path)
    assert run.exit_code == 0, run.output


def test_disagreement_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    right = weight_variance.stationary_variances
    # The theory of batches drawn with replacement, for batches that are not.
    monkeypatch.setattr(weight_variance, "stationary_variances", lambda modes, _noise: right(modes, WhiteNoise()))
    words = ("--batches", 7, "--momentum", 0, "--learning-rate", 1, "--curvature", 0.05, "--order", "reshuffled")
    run = jostle("simulate", "weight-variance", *words, "--epochs", 64)
    assert run.exit_code == cli.DISAGREES, run.output
    assert "disagrees" in run.stdout


@pytest.mark.slow
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
        ("--batches 1", "'--batches': 1 is not in the range"),
        ("--order sorted", "--order 'sorted' is unknown"),
        ("--order persistent", "--order 'persistent': correlation is missing"),
        ("--order reshuffled:epochs=3", "reshuffled has no epochs"),
        ("--order reshuffled_every:3", "--order 'reshuffled_every:3': '3' must have the form name=value"),
        ("--order reshuffled_every:epochs=2.0", "epochs=2.0 must be a whole number from 1 to"),
        ("--order reshuffled_every:epochs=1e3", "epochs=1000.0 must be a whole number"),
        ("--order reshuffled_every:epochs=Infinity", "epochs=inf must be a whole number"),
        ("--order reshuffled_every:epochs=NaN", "epochs=nan must be a whole number"),
        ("--order reshuffled_every:epochs=0", "epochs=0 must be a whole number"),
        ("--order reshuffled_every:epochs=true", "epochs=True must be a number"),
        ("--order persistent:correlation=Infinity", "correlation=inf must satisfy"),
        ("--latex --json --out x --momentum 0.5", "--momentum, --out, --json can only be used with numbers"),
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


def test_too_flat_a_direction_is_refused_with_advice() -> None:
    run = jostle("simulate", "weight-variance", "--curvature", 1e-9)
    assert run.exit_code == 2
    assert "--curvature 1e-09: forgetting the start takes 1.2e+11 updates" in run.stderr
    assert "or give --burn-in" in run.stderr


def test_ctrl_c_in_the_last_moment_of_an_order_stops_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sim.weight_variance.run_in_chunks

    def interrupted(*arguments: Any, **settings: Any) -> int:
        done = whole(*arguments, **settings)
        with contextlib.suppress(KeyboardInterrupt):  # as run_in_chunks does when everything is complete
            signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(sim.weight_variance, "run_in_chunks", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # parallel test processes ignore the signal
    try:
        run = jostle("simulate", "weight-variance", "--curvature", 5, "--epochs", 4, "--runs", 8)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.exit_code == cli.STOPPED, run.output
    assert "not simulated: with_replacement" in run.output
