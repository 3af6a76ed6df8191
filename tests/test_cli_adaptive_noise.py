"""``jostle predict | simulate adaptive-noise`` as a user meets them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import cli
from tests.command_line import check_help, jostle, rows_of

PNG = b"\x89PNG"


def predict(*arguments: Any) -> Result:
    return jostle("predict", "adaptive-noise", *arguments)


def simulate(*arguments: Any) -> Result:
    return jostle("simulate", "adaptive-noise", "--quiet", *arguments)


QUICK = ("--runs", 128, "--steps", 2000, "--learning-rate", 0.002, "--coordinates", 2, "--threads", 1)


@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_help_has_an_example(words: str) -> None:
    check_help(words, "adaptive-noise")


# ---- predict ---------------------------------------------------------------------------------------------------------


def test_predictions_are_the_anchors() -> None:
    record = json.loads(predict("--momentum", 0, "--json").output)
    assert record["command"] == "predict adaptive-noise"
    assert record["parameters"]["weights"] == 11_173_962
    found = {row["epsilon"]: row for row in record["result"]["epsilons"]}
    for epsilon, norm, end, stationary in ((1e-5, 0.0334, 0.0028, 0.00224), (1e-2, 33.4, 2.80, 2.24)):
        row = found[epsilon]
        assert row["norm"] == pytest.approx(norm, rel=2e-3)
        assert row["end"] == pytest.approx(end, rel=2e-3)
        assert row["stationary"] == pytest.approx(stationary, rel=2e-3)
    assert found[1e-4]["end_over_he"] == pytest.approx(0.02796 / 0.02083, rel=1e-3)
    directions = {(row["curvature"], row["epsilon"]): row for row in record["result"]["curvatures"]}
    # eta lambda = 1 without momentum: a weight forgets at once, and keeps the noise of one step.
    row = directions[10.0, 1e-2]
    assert row["weight"] == pytest.approx(math.sqrt(0.1**2 * 0.01**2 + 0.01**2), rel=1e-4)
    assert row["update_by_batches"] == pytest.approx(math.sqrt(2) * 1e-3, rel=1e-4)


def test_schedules_are_compared_by_their_noise_in_all() -> None:
    options = ("--steps", 300, "--phase-epsilons", 4, 2, 1, "--phase-shares", 1, 1, 1, "--json")
    found = {row["schedule"]: row for row in json.loads(predict(*options).output)["result"]["schedules"]}
    assert found["phase_only"]["injected"] == pytest.approx(100 * (16 + 4 + 1))
    assert found["fixed"]["injected"] == pytest.approx(300 * 4)
    assert found["schedule_only"]["end"] == pytest.approx(4 * math.sqrt(300))
    assert found["phase_only"]["equal_noise_factor"] == pytest.approx(math.sqrt(4 / 7))
    assert found["none"]["equal_noise_factor"] is None
    heated = {
        row["schedule"]: row for row in json.loads(predict("--mode", "sgld", *options).output)["result"]["schedules"]
    }
    assert heated["phase_only"]["injected"] == pytest.approx(0.2 * 100 * 7)
    assert heated["phase_only"]["equal_noise_factor"] == pytest.approx(6 / 7)


def test_an_epsilon_may_decay_below_all_that_may_be_given() -> None:
    result = predict("--decay", 0.1, "--json")
    assert result.exit_code == 0, result.output
    found = {row["schedule"]: row for row in json.loads(result.output)["result"]["schedules"]}
    assert found["schedule_only"]["injected"] == pytest.approx(9e-8 / (1 - math.exp(-0.2)), rel=1e-6)


def test_relative_modes_say_when_noise_feeds_itself() -> None:
    record = json.loads(
        predict("--mode", "relative_update", "--epsilon", 1, "--curvature", 1, "--curvature", 10, "--json").output
    )
    (row,) = record["result"]["epsilons"]
    assert row["self_feeding_curvature"] == pytest.approx(1.9)
    assert row["flat_factor"] == pytest.approx(math.sqrt(1 + 0.1 / 1.9))
    assert [each["weight"] == "inf" for each in record["result"]["curvatures"]] == [False, True]
    assert record["result"]["schedules"][1]["end"] is None
    record = json.loads(predict("--mode", "relative_weight", "--momentum", 0, "--json").output)
    stationary = {row["epsilon"]: row["stationary"] for row in record["result"]["epsilons"]}
    assert stationary == {1e-4: True, 1e-3: True, 1e-2: False, 3e-2: False}


@pytest.mark.parametrize("mode", ["absolute", "relative_update", "relative_weight"])
def test_predictions_as_tables(mode: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / "plan"
    result = predict("--mode", mode, "--steps", 1000, "--weights", 500, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{mode} noise on 500 weights, 1000 steps; learning rate 0.1, momentum 0.9")
    assert "exploration 0-332, convergence 333-666, fine_tuning 667-999" in result.output
    assert max(map(len, result.output.splitlines())) <= 112
    assert (out / "adaptive_noise.png").read_bytes().startswith(PNG)
    epsilons = {row["epsilon"] for row in rows_of(out / "epsilons.csv")}
    assert len(epsilons) >= 4
    assert len(rows_of(out / "curvatures.csv")) == 4 * len(epsilons)
    assert [row["schedule"] for row in rows_of(out / "schedules.csv")][-1] == "full"


def test_nothing_to_draw_is_drawn(tmp_path: Path) -> None:
    quiet = ("--gradient-noise", 0, "--weight-decay", 0, "--epsilon", 0, "--phase-epsilons", 0, 0, 0, "--steps", 1)
    result = predict(*quiet, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "adaptive_noise.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epsilon", "nan"), "epsilon=nan must be finite and >= 0"),
        (("--curvature", -1), "--curvature -1 must be finite and >= 0"),
        (("--curvature", 1000), "must be < 2 (1 + momentum) = 3.8: beyond it SGD diverges"),
        (("--weight-decay", -1), "--weight-decay -1 must be finite and >= 0"),
        (("--gradient-noise", "inf"), "--gradient-noise inf must be finite and >= 0"),
        (("--gradient-noise", "1e200"), "--gradient-noise 1e+200 must be at most 1e+40"),
        (("--phase-shares", 0, 0, 0), "--phase-shares 0 0 0 must be finite and >= 0, and not all 0"),
        (("--mode", "big"), "'big' is not one of"),
    ],
)
def test_wrong_usage_of_predict(options: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    result = predict(*options, "--out", tmp_path / "out")
    assert result.exit_code == cli.USAGE
    assert message in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--learning-rate", 0), "learning_rate=0.0 must be finite and > 0"),
        (("--momentum", 1), "momentum"),
        (("--phase-epsilons", 1, 1, -1), "epsilon=-1.0 must be finite and >= 0"),
        (("--decay", -1), "decay=-1.0 must be finite and >= 0"),
    ],
)
@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_wrong_usage(words: str, options: tuple[Any, ...], message: str) -> None:
    result = jostle(words, "adaptive-noise", *options)
    assert result.exit_code == cli.USAGE
    assert message in result.output


# ---- simulate --------------------------------------------------------------------------------------------------------


def test_simulations_agree_with_the_theory_and_show_the_loop(tmp_path: Path) -> None:
    result = simulate(*QUICK, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    agreed = [line for line in result.output.splitlines() if line.endswith("agrees")]
    assert len(agreed) == 13
    assert "128 runs; seed 0" in result.output
    assert len(rows_of(tmp_path / "comparisons.csv")) == 13
    schedules = rows_of(tmp_path / "schedules.csv")
    assert [row["schedule"] for row in schedules] == ["none", "constant", "adaptive", "equal noise"]
    none, constant, adaptive, equal = schedules
    assert float(none["epsilon_rms"]) == 0
    assert float(constant["epsilon_rms"]) == pytest.approx(0.03)
    assert float(equal["epsilon_rms"]) == pytest.approx(float(adaptive["epsilon_rms"]))
    assert sum(float(adaptive[phase]) for phase in ("exploration", "convergence", "fine_tuning")) == pytest.approx(1)
    assert (tmp_path / "adaptive_noise.png").read_bytes().startswith(PNG)


def test_simulations_as_json_and_without_a_passage() -> None:
    cold = ("--phase-epsilons", 0, 0.01, 0, "--steps", 200, "--monotone")
    record = json.loads(simulate(*QUICK, *cold, "--json").output)
    assert record["parameters"]["monotone"] is True
    assert len(record["result"]["comparisons"]) == 12
    assert [row["schedule"] for row in record["result"]["loop"]][2] == "adaptive"
    assert not record["result"]["stopped_early"]


def test_small_steps_are_asked_for() -> None:
    result = simulate(*QUICK, "--learning-rate", 0.004, "--steps", 100, "--noise-gain", 0)
    assert "outside regime: mean steps out of a well: learning rate" in result.output


def test_small_noise_is_asked_for() -> None:
    # Such jumps take 13 % more steps than a diffusion, as 2000 runs show.
    result = simulate(*QUICK, "--phase-epsilons", 0.5, 0.03, 0.01, "--steps", 100, "--noise-gain", 0)
    assert "outside regime: mean steps out of a well: epsilon 0.5 is 0.25 of the way" in result.output
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--momentum", 0.999), "--momentum 0.999 must be at most 0.99"),
        (("--barrier", 0), "barrier=0.0 must be finite and > 0"),
        (("--tilt", 2), "tilt=2.0 must be >= 0 and below 1.5 times the barrier"),
        (("--noise-gain", -1), "noise_gain=-1.0 must be finite and >= 0"),
        (("--learning-rate", 5), "replicas diverge; lower the learning rate"),
    ],
)
def test_wrong_usage_of_simulate(options: tuple[Any, ...], message: str) -> None:
    result = simulate("--runs", 2, "--steps", 1000, *options)
    assert result.exit_code == cli.USAGE
    assert message in result.output
