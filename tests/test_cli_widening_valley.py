"""``jostle predict widening-valley`` and ``jostle simulate widening-valley`` as a user meets them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import cli
from commands import widening_valley
from sim.widening_valley import KINDS
from tests.command_line import jostle


def predict(*arguments: Any) -> Result:
    return jostle("predict", "widening-valley", *arguments)


def simulate(*arguments: Any) -> Result:
    return jostle("simulate", "widening-valley", "--quiet", *arguments)


QUICK = ("--steps", 100, "--steps", 400, "--runs", 32)


def test_help_has_an_example() -> None:
    assert tuple(widening_valley.KINDS) == KINDS
    for words in ("predict", "simulate"):
        result = jostle(words, "widening-valley", "-h")
        assert result.exit_code == 0
        assert f"jostle {words} widening-valley" in result.output


def test_predictions_are_the_anchors() -> None:
    result = predict()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "sharpness |u|^2; edge of stability 400"
    assert lines[1].split() == ["noise", "step", "flow", "moment", "map", "regulariser", "alone", "margin"]
    rows = {(cells[0], int(cells[1])): cells[2:] for cells in map(str.split, lines[3:15])}
    assert rows["anti_pgd", 10_000] == ["72.7338", "72.7336", "77.8801", "0.5%"]
    assert rows["pgd", 100] == ["124.652", "124.656", "-", "4.0%"]
    assert rows["reshuffled", 40_000][1] == "-"
    assert len(rows) == 12


def test_predictions_as_json_agree_with_the_table() -> None:
    arguments = ("--kind", "reshuffled", "--noise-scale", 0.02, "--batches", 5, "--steps", 4000, "--steps", 12_000)
    record = json.loads(predict(*arguments, "--json").output)
    assert record["command"] == "predict widening-valley"
    assert record["parameters"]["steps"] == [4000, 12_000]
    assert record["result"]["pgd_saturation"] == pytest.approx(396)
    rows = record["result"]["sharpness"]
    assert [row["flow"] for row in rows] == pytest.approx([98.531, 95.655], abs=6e-4)
    assert [row["moments"] for row in rows] == [None, None]
    assert f"{rows[1]['flow']:.6g}" in predict(*arguments).output


def test_default_steps_are_whole_epochs() -> None:
    record = json.loads(predict("--batches", 7, "--json").output)
    assert record["parameters"]["steps"] == [105, 1001, 10_003, 40_005]


def test_simulations_agree_with_the_theory() -> None:
    result = simulate(*QUICK)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.endswith("agrees")]
    assert len(rows) == 6
    assert rows[2].startswith("anti_pgd, step 100")
    assert "not exact" in result.output
    assert "32 runs; seed 0" in result.output


def test_simulations_as_json() -> None:
    record = json.loads(simulate(*QUICK, "--kind", "anti_pgd", "--law", "rademacher", "--json").output)
    assert record["parameters"]["law"] == "rademacher"
    assert not record["result"]["stopped_early"]
    (first, second) = record["result"]["comparisons"]
    assert first["quantity"] == "anti_pgd, step 100"
    assert first["simulated"]["n"] == 32
    assert second["predicted"] == pytest.approx(second["flow"], rel=1e-4)
    assert second["simulated"]["value"] == pytest.approx(second["predicted"], rel=5e-3)
    again = json.loads(simulate(*QUICK, "--kind", "anti_pgd", "--law", "rademacher", "--json", "--threads", 1).output)
    assert again["result"] == record["result"]


def test_a_wrong_theory_ends_with_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widening_valley, "sharpness_of_moments", widening_valley.sharpness_of_regulariser)
    result = simulate("--kind", "anti_pgd", "--steps", 3000, "--runs", 16)
    assert result.exit_code == 3
    assert "disagrees" in result.output


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--kind", "pgd", "--dimension", 10), "pgd: the error of the moment map is known for d >= 100"),
        (("--kind", "pgd", "--noise-scale", 0.3), "pgd: the error of the moment map is known for d >= 100"),
        (("--kind", "reshuffled", "--sharpness", 5), "reshuffled: within an epoch the noise adds too much"),
    ],
)
def test_outside_the_regime_nothing_is_claimed(options: tuple[Any, ...], reason: str) -> None:
    result = simulate(*QUICK, *options)
    assert result.exit_code == 0, result.output
    assert "disagrees" not in result.output
    assert f"outside regime: {reason}" in result.output
    arguments = (*QUICK[:4], *options)
    assert f"outside regime: {reason}" in predict(*arguments).output
    rows = json.loads(predict(*arguments, "--json").output)["result"]["sharpness"]
    kind = reason.partition(":")[0]
    assert any(row["reasons"] and row["reasons"][0].startswith(reason) for row in rows if row["kind"] == kind)


def test_margins_that_say_nothing_are_not_told() -> None:
    lines = predict("--kind", "reshuffled", "--sharpness", 0.01, "--steps", 1000).output.splitlines()
    assert lines[3].split()[-1] == "-"


def test_after_ctrl_c_what_was_simulated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.widening_valley as module

    whole = module.simulate_valley

    def pressed(valley: Any, kind: str, *arguments: Any, **settings: Any) -> Any:
        if kind != "pgd":
            raise KeyboardInterrupt
        return whole(valley, kind, *arguments, **settings)

    monkeypatch.setattr(module, "simulate_valley", pressed)
    result = simulate(*QUICK)
    assert result.exit_code == cli.STOPPED
    assert "pgd, step 400" in result.output
    assert "not simulated: anti_pgd, reshuffled" in result.output


def test_a_single_step_is_drawn_as_a_line(tmp_path: Path) -> None:
    assert predict("--kind", "anti_pgd", "--steps", 1, "--out", tmp_path).exit_code == 0
    with (tmp_path / "valley.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 11))


@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path, words: str) -> None:
    (tmp_path / "file").touch()
    result = jostle(words, "widening-valley", "--out", tmp_path / "file")
    assert result.exit_code == cli.USAGE
    assert "a file is in the way; choose another one" in result.output


@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_files(tmp_path: Path, words: str) -> None:
    out = tmp_path / "new" / "valley"
    result = jostle(words, "widening-valley", "--quiet", "--out", out, *QUICK[: 4 if words == "predict" else 6])
    assert result.exit_code == 0, result.output
    assert (out / "valley.png").read_bytes().startswith(b"\x89PNG")
    with (out / "valley.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == set(KINDS)
    simulated = [row for row in rows if row["simulated"]]
    assert len(simulated) == (6 if words == "simulate" else 0)
    for row in simulated:
        value, error = float(row["simulated"]), float(row["standard_error"])
        assert abs(value - float(row["flow"])) < 5 * error
        assert abs(value - 100) > 5 * error  # where it began
    last = next(row for row in rows if row["kind"] == "pgd" and row["step"] == "100")
    assert float(last["moments"]) == pytest.approx(124.656189, abs=1e-6)
    assert last["regulariser"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sharpness", 500), "below the edge of stability"),
        (("--sharpness", 0), "--sharpness 0 must be > 0 and below"),
        (("--sharpness", 399.9), "2 / learning-rate - dimension * noise-scale^2 = 399.75"),
        (("--noise-scale", 0), "noise_scale=0.0 must be"),
        (("--learning-rate", -1), "learning_rate=-1.0 must be"),
        (("--steps", 105), "--steps 105 must be a whole number of epochs, each of 20 steps"),
        (("--kind", "pgd", "--batches", 5), "--batches can only be used with --kind reshuffled"),
        (("--kind", "reshuffled", "--law", "rademacher"), "--law can only be used with --kind pgd or --kind anti_pgd"),
        (("--kind", "sgd"), "'sgd' is not one of 'pgd', 'anti_pgd', 'reshuffled'"),
    ],
)
@pytest.mark.parametrize("words", ["predict", "simulate"])
def test_wrong_usage(words: str, options: tuple[Any, ...], message: str) -> None:
    result = jostle(words, "widening-valley", "--quiet", *options)
    assert result.exit_code == 2
    assert message in result.output
