"""``jostle validate all`` as a user meets it: one family of comparisons, resumption, and parts that fail."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from commands import validate_all, validate_all_experiments
from commands.perturbation import simulate_perturbation
from commands.shared import STOPPED, fail
from commands.validate_all_parts import NETWORKS, PHENOMENA, SIMULATION, Experiment, Outcome, Part, Row, Simulation
from commands.validate_all_results import SIGNIFICANCE, Findings, conclusions, gathered, numbered_notes, table_rows
from nnval import widening_valley
from nnval.engine.run_directory import Interrupted
from tests.command_line import files_of
from theory.estimate import Estimate, compare

TINY = """
noise_scale = 0.02
methods = ["pgd", "anti_pgd"]
measure_every = 2
probes = 2
[training]
train_size = 60
validation_size = 10
hidden = [4]
epochs = 2
members = 2
"""

WALKS = ("--chain", "rational", "-P", "3", "-P", "5", "--runs", "2000")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Part, ...]:
    path = tmp_path_factory.mktemp("preset") / "tiny.toml"
    path.write_text(TINY)
    valley = next(part for part in validate_all_experiments.all_parts(True) if part.name == "widening-valley"
                  and part.by == NETWORKS)  # fmt: skip
    assert isinstance(valley, Experiment)
    simulation = Simulation("walks", "perturbation", simulate_perturbation, WALKS, prefix="E[T_P], ", headline="P = 3")
    return simulation, dataclasses.replace(valley, preset=str(path), seconds=1.0)


@pytest.fixture(autouse=True)
def tiny(parts: tuple[Part, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_all, "all_parts", lambda quick: parts)
    # Drawing would take longer than all the rest, and has its own tests.
    monkeypatch.setattr("figures.style.png_bytes", lambda figure: b"\x89PNG" + bytes(len(figure.axes)))


def validate(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.main, ["validate", "all", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(parts: tuple[Part, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate_all, "all_parts", lambda quick: parts)
        patch.setattr("figures.style.png_bytes", lambda figure: b"\x89PNG" + bytes(len(figure.axes)))
        result = validate("--quick", "--out", out)
    assert result.exit_code == 0, result.output
    assert "of one core" in result.stderr.splitlines()[0]
    return out


def test_table_and_files(finished: Path) -> None:
    before = files_of(finished)
    result = validate("--quick", "--out", finished)
    assert result.exit_code == 0
    assert "2 of 2 parts are finished and only read" in result.stderr
    assert files_of(finished) == before  # only read
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["phenomenon", "by", "quantity", "predicted", "measured", "z", "p", "verdict"]
    assert lines[2].split()[:4] == ["perturbation", "simulation", "2", "comparisons"]
    assert lines[2].endswith("all agree")
    assert lines[3].split()[:4] == ["E[T_P],", "P", "=", "3"]
    assert lines[3].endswith("agrees")
    assert any(line.startswith("  widening-valley: Anti-PGD against PGD") for line in lines)
    assert "2 of 2 comparisons with theory agree" in result.stdout
    with (finished / "comparisons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phenomenon"] for row in rows] == ["perturbation", "perturbation"]
    page = (finished / "report.html").read_text()
    assert '<a href="widening-valley/report.html">' in page
    assert (finished / "widening-valley" / "report.html").exists()
    assert (finished / "simulations" / "walks" / "perturbed_mean.csv").exists()


def test_json(finished: Path) -> None:
    result = validate("--quick", "--out", finished, "--json", "--quiet")
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert record["command"] == "validate all"
    found = record["result"]
    assert (found["tested"], found["agrees"], found["significance"]) == (2, True, SIGNIFICANCE)
    assert json.loads((finished / "comparisons.json").read_text())["comparisons"] == found["comparisons"]
    assert {each["phenomenon"] for each in found["not_predicted"]} == {"widening-valley"}
    assert found["groups"][0]["seen_from"] > 0


def test_only_some(finished: Path) -> None:
    result = validate("--quick", "--out", finished, "--only", "widening-valley", "--json", "--quiet")
    assert json.loads(result.stdout)["result"]["tested"] == 0
    assert validate("--quick", "--out", finished, "--json", "--quiet").exit_code == 0  # as it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--out is missing"),
        (("--seed", 1, "--quick"), "seed: 0 there, 1 asked for"),
        ((), "quick: true there, false asked for"),
    ],
)
def test_bad_input(finished: Path, options: tuple[Any, ...], message: str) -> None:
    before = files_of(finished)
    result = validate(*options, *(() if "missing" in message else ("--out", finished)))
    assert result.exit_code == 2
    assert message in result.stderr
    assert files_of(finished) == before


def unfinished(finished: Path, tmp_path: Path) -> Path:
    """A copy without the simulation and the files of all."""
    out = shutil.copytree(finished, tmp_path / "run")
    for path in (*out.glob("*.csv"), out / "comparisons.json", out / "report.html"):
        path.unlink()
    shutil.rmtree(out / "simulations")
    return out


def stopped_simulation(*arguments: Any, **options: Any) -> Any:
    fail("stopped early; the table holds some runs", STOPPED)  # there is no table here


def stopped_training(*arguments: Any, **options: Any) -> Any:
    raise Interrupted("training was stopped")


def stopped_anywhere(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "stop"),
    [
        ("simulation", stopped_simulation),
        ("simulation", stopped_anywhere),
        ("networks", stopped_training),
        ("networks", stopped_anywhere),
    ],
)
def test_resumed_after_an_interruption(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, stop: Callable[..., Any]
) -> None:
    out = unfinished(finished, tmp_path)
    target = (simulate_perturbation, "callback") if where == "simulation" else (widening_valley, "run_widening_valley")
    with monkeypatch.context() as patch:
        patch.setattr(*target, stop)
        result = validate("--quick", "--out", out)
    assert result.exit_code == 4
    assert "run the same command again" in result.stderr
    assert "table" not in result.stderr
    assert not (out / "report.html").exists()
    simulated = files_of(out / "simulations")
    assert bool(simulated) == (where == "networks")
    result = validate("--quick", "--out", out)
    assert result.exit_code == 0
    assert set(simulated.items()) <= set(files_of(out / "simulations").items())
    assert (out / "comparisons.csv").read_bytes() == (finished / "comparisons.csv").read_bytes()


def test_a_part_that_fails_keeps_the_others(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = unfinished(finished, tmp_path)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(simulate_perturbation, "callback", full)
        result = validate("--quick", "--out", out, "--quiet")
    assert result.exit_code == 1
    assert "Error: perturbation, simulation failed: No space left on device: somewhere" in result.stderr
    assert "Anti-PGD" in result.stdout
    assert "Nothing was held against theory." in result.stdout
    assert "No space left" in (out / "report.html").read_text()
    again = validate("--quick", "--out", out, "--quiet")
    assert again.exit_code == 0
    assert "2 of 2 comparisons" in again.stdout


def test_a_wrong_prediction_is_rejected(
    parts: tuple[Part, ...], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: in one of the phenomena theory is wrong by a fifth."""
    found = parts[0].run(validate_all.Asked(finished, 0), None).rows
    assert all(row.comparison.verdict == "agrees" for row in found)

    def tampered(asked: Any, progress: Any) -> Outcome:
        rows = [row._replace(phenomenon="adaptive-noise", comparison=_wrong_by(row, 1.2)) for row in found]
        return Outcome(tuple(rows))

    other = dataclasses.replace(parts[0], name="other")
    object.__setattr__(other, "run", tampered)
    monkeypatch.setattr(validate_all, "all_parts", lambda quick: (parts[0], other))
    result = validate("--quick", "--out", tmp_path / "run", "--quiet")
    assert result.exit_code == 3
    assert "Theory and measurement disagree in 2: adaptive-noise (simulation)." in result.stdout


def _wrong_by(row: Row, factor: float) -> Any:
    c = row.comparison
    return compare(c.quantity, Estimate(factor * c.predicted.value, 0.0, 1), c.measured)


HEAT = next(part for part in validate_all_experiments.all_parts(True) if isinstance(part, Experiment))


def rows_of(phenomenon: str, p_sized: list[float]) -> Outcome:
    """Comparisons with these z, of many samples."""
    one = Estimate(1.0, 0.1, 10**6)
    rows = [
        Row(phenomenon, SIMULATION, compare(f"{k}", Estimate(1 + 0.1 * z, 0.0, 1), one)) for k, z in enumerate(p_sized)
    ]
    return Outcome(tuple(rows))


def family(z: float, others: int) -> Findings:
    part = Simulation("resetting", "resetting", simulate_perturbation)
    outcomes = [(part, rows_of("resetting", [z])), (part, rows_of("adaptive-noise", [0.1] * others))]
    return gathered(outcomes, PHENOMENA, [])


def test_verdicts_are_those_of_all_phenomena_together() -> None:
    assert not family(4.0, 99).agrees  # p = 6e-5, below 1 % / 100
    assert family(4.0, 999).agrees  # above 1 % / 1000: more comparisons elsewhere make it agree
    assert not family(6.0, 999).agrees
    assert family(4.0, 99).groups[0].seen_from == pytest.approx(0.389 / 1.4, rel=0.01)  # 3.89 errors of 0.1


def test_long_families_do_not_flood_the_table() -> None:
    part = Simulation("resetting", "resetting", simulate_perturbation, headline="13")
    findings = gathered([(part, rows_of("resetting", [0.0] * 40 + [9.0] * 8))], PHENOMENA, [])
    rows = table_rows(findings)
    assert rows[0][2:3] + rows[0][-1:] == ("48 comparisons", "8 of 48 disagree")
    assert len(rows) == 1 + 1 + 5 + 1
    assert rows[-1][2] == "  and 3 more that disagree"
    assert "40 of 48" in conclusions(findings)[0]
    aware = dataclasses.replace(HEAT, known=(("47", 1.1, "known: nobody knows"), ("46", 1.3, "as large as never")))
    known = gathered([(aware, rows_of("resetting", [0.0] * 40 + [9.0] * 7 + [9.1]))], PHENOMENA, [])
    assert table_rows(known)[1][2:][0::5] == ("  47", "disagrees [1]")
    assert numbered_notes(known) == ["[1] known: nobody knows"]
    assert "disagree in 8" in conclusions(known)[1]
    assert "1 of these are known" in conclusions(known)[1]
    assert not known.agrees
    agreeing = gathered([(aware, rows_of("resetting", [0.0] * 48))], PHENOMENA, [])
    assert numbered_notes(agreeing) == []
    none = gathered([(part, Outcome(()))], PHENOMENA, [])
    assert table_rows(none) == []
    assert conclusions(none) == ["Nothing was held against theory."]


@pytest.mark.parametrize("quick", [True, False])
def test_every_phenomenon_is_there(quick: bool) -> None:
    parts = validate_all_experiments.all_parts(quick)
    for by in (SIMULATION, NETWORKS):
        assert {name for part in parts for name in part.phenomena if part.by == by} >= set(PHENOMENA) - {"resetting"}
    assert len({part.name for part in parts if part.by == SIMULATION}) == 8
    seconds = sum(part.seconds for part in parts)
    assert seconds < 540 if quick else seconds > 900
