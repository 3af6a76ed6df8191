"""``jostle predict | simulate | validate activation-temperature`` as a user meets them."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import cli
from commands import activation_temperature as commands
from nnval.activation_temperature_study import CoolingStudyConfig
from nnval.experiment_presets import experiment_presets, load_experiment
from tests.command_line import check_help, jostle

PNG = b"\x89PNG"


def predict(*arguments: Any) -> Result:
    return jostle("predict", "activation-temperature", *arguments)


def simulate(*arguments: Any) -> Result:
    return jostle("simulate", "activation-temperature", "--quiet", *arguments)


QUICK = ("--channels", 16, "--step", 0.1, "--runs", 100, "--sigma-ratio", 0.7, "--sigma-ratio", 2.5)


@pytest.mark.parametrize("words", ["predict", "simulate", "validate"])
def test_help_has_an_example(words: str) -> None:
    check_help(words, "activation-temperature")


# ---- predict ---------------------------------------------------------------------------------------------------------


def test_predictions_are_the_anchors() -> None:
    record = json.loads(predict("--rate-at-one", 1, "--json").output)
    assert record["command"] == "predict activation-temperature"
    result = record["result"]
    rows = {row["temperature"]: row for row in result["temperatures"]}
    for temperature, share, ratio in ((0.1, 0.06697, 0.1655), (3.0, 0.875, 3.977), (8.0, 0.99609, 24.34)):
        assert rows[temperature]["share"] == pytest.approx(share, abs=6e-6)
        assert rows[temperature]["rate_erf"] == pytest.approx(ratio, rel=4e-4)
        assert rows[temperature]["rate_cloglog"] == pytest.approx(temperature)
    assert rows[3.17]["gain"] == pytest.approx(1.547, abs=1e-3)
    assert rows[3.17]["critical_stretch"] == pytest.approx(2 / 1.5469, rel=1e-4)
    assert result["hottest"] == 14
    targets = {(row["gamma"], row["progress"]): row for row in result["targets"]}
    assert targets[2.0, 0.5]["target"] == pytest.approx(0.75 * 3.17)
    assert targets[1.0, 1.0]["rate"] == 0
    loops = {row["sigma_ratio"]: row for row in result["loops"]}
    assert loops[0.5]["drift_error"] == pytest.approx(-0.04)
    assert loops[1.5]["multiplier"] == -0.5
    assert not loops[2.5]["stable"]
    assert loops[2.5]["drift_error"] is None
    assert loops[2.5]["measurements_to_1_percent"] == "inf"


def test_predictions_as_tables(tmp_path: Path) -> None:
    out = tmp_path / "new" / "plan"
    result = predict("--temperature", 1, "--gamma", 3, "--sigma-ratio", 1.25, "--rate-at-one", 0.05, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "T of 8192 patterns: 8.81e-05 to 14 bits can be seen"
    assert lines[3].split()[:4] == ["1", "0.5", "0.05", "0.05"]
    assert lines[-1].split()[:3] == ["1.25", "-0.25", "yes"]
    assert (out / "activation_temperature.png").read_bytes().startswith(PNG)
    for name, count in (("temperatures", 1), ("targets", 6), ("loops", 1)):
        with (out / f"{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate-at-one", 0), "--rate-at-one 0 must lie between 1e-50 and 1e+50"),
        (("--rate-at-one", 1e308), "--rate-at-one 1e+308 must lie between 1e-50 and 1e+50"),
        (("--sigma", 0), "--sigma 0 must lie between 0.01 and 10"),
        (("--sigma", "nan"), "--sigma nan must lie between 0.01 and 10"),
        (("--t-start", 15), "--t-start 15 must be > 0 and below 14"),
        (("--t-start", 0), "--t-start 0 must be > 0"),
        (("--sigma-ratio", -1), "--sigma-ratio -1 must lie between 0.001 and 1000"),
        (("--drift", "inf"), "--drift inf must be finite"),
        (("--patterns", 0), "0 is not in the range"),
    ],
)
@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_wrong_usage(words: str, options: tuple[Any, ...], message: str) -> None:
    result = jostle(words, "activation-temperature", *options)
    assert result.exit_code == cli.USAGE
    assert message in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--temperature", 0), "--temperature 0 must be finite and > 0"),
        (("--gamma", 0), "gamma=0.0 must be finite and > 0"),
    ],
)
def test_wrong_usage_of_predict(options: tuple[Any, ...], message: str) -> None:
    result = predict(*options)
    assert result.exit_code == cli.USAGE
    assert message in result.output


def test_rates_beyond_all_floats_are_infinite(recwarn: pytest.WarningsRecorder) -> None:
    result = predict("--temperature", 1e17, "--sigma", 10, "--gamma", 1e300, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["result"]["temperatures"][0]["rate_erf"] == "inf"
    assert not recwarn.list


# ---- simulate --------------------------------------------------------------------------------------------------------


def test_simulations_agree_with_the_theory(tmp_path: Path) -> None:
    result = simulate(*QUICK, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    agreed = [line for line in result.output.splitlines() if line.endswith("agrees")]
    assert len(agreed) == 1 + 3 + 3
    assert "no steady state within 80 measurements is compared for sigma x 2.5" in result.output
    assert "100 runs; seed 0" in result.output
    assert (tmp_path / "flips.png").read_bytes().startswith(PNG)
    with (tmp_path / "comparisons.csv").open() as file:
        assert {row["verdict"] for row in csv.DictReader(file)} == {"agrees"}


def test_simulations_as_json_do_not_depend_on_threads() -> None:
    one, two = (json.loads(simulate(*QUICK, "--json", "--threads", threads).output) for threads in (1, 2))
    assert one["result"] == two["result"]
    rows = {row["quantity"]: row for row in one["result"]["comparisons"]}
    drift = rows["error of ln(rate), sigma x 0.7: drift"]
    assert drift["predicted"] == pytest.approx(-0.02 / 0.7)
    assert drift["simulated"]["n"] == 100
    boundary = rows["critical stretch of sigma, network: T ~ rate"]
    assert boundary["simulated"]["value"] == pytest.approx(2 / 1.5469, rel=1e-4)
    assert one["result"]["no_steady_state"] == [2.5]


def test_without_randomness_loops_are_followed_exactly() -> None:
    record = json.loads(simulate(*QUICK, "--volatility", 0, "--json").output)
    rows = {row["quantity"]: row for row in record["result"]["comparisons"]}
    drift = rows["error of ln(rate), sigma x 0.7: drift"]
    assert drift["simulated"]["value"] == pytest.approx(drift["predicted"], rel=1e-9)
    assert drift["verdict"] == "agrees"
    assert not any("random drift" in quantity for quantity in rows)


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("theory.cooling_controller.CoolingLoop.variance_of_noise", lambda self, variance: variance),
        ("theory.cooling_controller.CoolingLoop.error_of_drift", lambda self, drift, target_drift=0.0: -drift),
        ("theory.gaussian_flips.GaussianFlips.share", lambda self, log_rate: 0.35 + 0 * log_rate),
        ("theory.activation_temperature.critical_stretch", lambda link, truth, t: 1.9),
    ],
)
def test_a_wrong_theory_ends_with_exit_code_3(monkeypatch: pytest.MonkeyPatch, target: str, wrong: Any) -> None:
    monkeypatch.setattr(target, wrong)
    result = simulate(*QUICK, "--runs", 1000, "--sigma-ratio", 0.4)
    assert result.exit_code == cli.DISAGREES
    assert "disagrees" in result.output


@pytest.mark.parametrize("drift", [0, 1e-13, -0.3])
def test_rounding_is_no_disagreement(drift: float) -> None:
    result = simulate(*QUICK, "--volatility", 0, "--drift", drift, "--rate-at-one", 1e-40, "--sigma", 5)
    assert result.exit_code == 0, result.output
    assert ("drift" in result.output) == (drift != 0)


def test_what_cannot_be_compared_is_named() -> None:
    result = simulate("--channels", 200, "--step", 1, "--runs", 10, "--sigma-ratio", 1)
    assert result.exit_code == 0, result.output
    assert "expected to change, or to stay: 200 channels, step 1 sd" in result.output
    few = simulate(*QUICK, "--patterns", 50)
    assert "outside regime: counting 50 patterns is no small noise" in few.output


def test_after_ctrl_c_what_was_simulated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.activation_temperature as module

    whole = module.simulate_flips

    def pressed(flips: Any, *arguments: Any, **settings: Any) -> Any:
        if flips.channels == 2:
            raise KeyboardInterrupt
        return whole(flips, *arguments, **settings)

    monkeypatch.setattr(module, "simulate_flips", pressed)
    result = simulate("--channels", 1, "--channels", 2, "--runs", 10)
    assert result.exit_code == cli.STOPPED
    assert "not simulated: 2 channels" in result.output
    assert "critical stretch" not in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step", 0), "--step 0 must be finite and > 0"),
        (("--volatility", -1), "--volatility -1 must be finite and >= 1e-06, or 0"),
        (("--volatility", 1e-300), "--volatility 1e-300 must be finite and >= 1e-06, or 0"),
        (("--t-start", 1e-9), "--t-start 1e-09 must be at least 8.81e-05, the coldest that 8192 patterns can show"),
        (("--volatility", 1e308, "--runs", 10), "volatility=1e+308 must be smaller: they add up to no float"),
        (("--drift", 1e6, "--runs", 10), "lower drift or volatility"),
    ],
)
def test_wrong_usage_of_simulate(options: tuple[Any, ...], message: str) -> None:
    result = simulate(*options)
    assert result.exit_code == cli.USAGE
    assert message in result.output


@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path, words: str) -> None:
    (tmp_path / "file").touch()
    result = jostle(words, "activation-temperature", "--out", tmp_path / "file")
    assert result.exit_code == cli.USAGE
    assert "a file is in the way; choose another one" in result.output


def test_defaults_show_both_sides_of_the_boundary() -> None:
    assert min(commands.RATIOS) < 1 < 2 < max(commands.RATIOS)
    assert any(math.isclose(t, 3.17) for t in commands.TEMPERATURES)


# ---- validate --------------------------------------------------------------------------------------------------------

SETTINGS = ("--model", "mlp", "--train-size", 100, "--batch-size", 20, "--seeds", 2, "--every", 4, "--samples", 20)
TINY = (*SETTINGS, "--sweeps", 3, "--quiet", "--schedule", "step", "--schedule", "actcoolr:t_start=1")


def validate(*arguments: Any) -> Result:
    return jostle("validate", "activation-temperature", *arguments)


def test_an_experiment_from_beginning_to_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Two kinds of cooling: there is a figure for them.
    arguments = (*TINY, "--schedule", "actcoolr:gamma=2", "--budget", 3, "--budget", 4, "--out", out)
    result = validate(*arguments)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip().startswith(("3 ", "4 "))]
    assert [row[:2] for row in rows[:6]] == [
        [budget, name] for budget in "34" for name in ("step", "actcoolr:t_start=1", "actcoolr:gamma=2")
    ]
    assert rows[0][2:5] == ["2", "of", "2"]
    assert "verdicts hold at 1 %" in result.output
    assert "Links fitted to sweeps" in result.output
    for name in ("errors", "schedules", "cooling", "sweeps"):
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    page = (out / "report.html").read_text()
    assert "Cooling by activation patterns" in page
    assert page.count("data:image/png") == 4
    with (out / "arrays" / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    # Again: nothing is trained or written.
    stamp = (out / "report.html").stat().st_mtime_ns
    again = jostle("validate", "activation-temperature", *[a for a in arguments if a != "--quiet"], "--json")
    assert "was finished already; nothing was trained" in again.output
    assert (out / "report.html").stat().st_mtime_ns == stamp
    record = json.loads(again.output[again.output.index("{") : again.output.rindex("}") + 1])
    assert record["command"] == "validate activation-temperature"
    assert record["parameters"]["budgets"] == [3, 4]
    runs = record["result"]["schedules"]
    assert len(runs) == 6
    assert runs[0]["tracking_error"] == [None, None]
    assert runs[1]["trained"] == [True, True]


def test_epochs_are_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CoolingStudyConfig] = []

    def noted(config: CoolingStudyConfig, *_: Any, **__: Any) -> None:
        asked.append(config)
        raise ValueError("no training")

    monkeypatch.setattr("nnval.activation_temperature.run_cooling_study", noted)
    for options in (("--epochs", 3), ("--epochs", 3, "--budget", 4)):
        assert "no training" in validate(*TINY, *options, "--out", tmp_path).output
    assert [config.budgets for config in asked] == [(3,), (4,)]


def test_presets_are_valid_and_shown() -> None:
    presets = ["cifar10-resnet20", "cifar10-resnet20-small", "digits", "quick"]
    assert experiment_presets("activation-temperature") == presets
    for name in presets:
        config = CoolingStudyConfig.from_dict(load_experiment("activation-temperature", name))
        assert set(config.swept) <= set(config.schedules)
        assert len(config.schedules) >= (4 if name == "quick" else 6)
        shown = validate("--preset", name, "--show-preset")
        assert shown.exit_code == 0
        assert "[training]" in shown.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--out is missing: name the directory of the run, such as --out runs/cooling"),
        (("--out", "x", "--preset", "nothing"), "preset 'nothing' does not exist; choose cifar10-resnet20, "),
        (("--out", "x", "--schedule", "warm"), "schedule 'warm' must be one of"),
        (("--out", "x", "--sweep", "step:gamma=1"), "has no option 'gamma'"),
        (("--out", "x", "--sweep", "constant:lr=3"), "--sweep constant:lr=3 must be one of the schedules: constant, "),
        (
            ("--out", "x", "--schedule", "constant", "--schedule", "actcoolr:gamma=-1"),
            "schedule 'actcoolr:gamma=-1': gamma=-1 must",
        ),
        (("--out", "x", "--seeds", 1), "members must be >= 2"),
        (("--out", "x", "--budget", 0), "budgets=0 must be a whole number >= 1"),
    ],
)
def test_wrong_usage_of_validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[Any, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = validate(*options)
    assert result.exit_code == cli.USAGE
    assert message in result.output
    assert not (tmp_path / "x").exists()


def test_networks_without_relus_are_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smooth_nets.py").write_text(
        "from torch import nn\n\n\ndef smooth(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    result = validate(*TINY, "--model", "smooth_nets:smooth", "--epochs", 3, "--out", tmp_path / "run")
    assert result.exit_code == cli.USAGE
    assert "called no ReLU" in result.output
