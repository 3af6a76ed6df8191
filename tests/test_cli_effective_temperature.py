"""``jostle predict effective-temperature`` and ``jostle simulate effective-temperature`` as a user meets them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import cli
import theory.effective_temperature
from tests.command_line import jostle, rows_of

PREDICT, SIMULATE = ("predict", "effective-temperature"), ("simulate", "effective-temperature")
ONE_MODE = ("--learning-rate", 0.5, "--momentum", 0.8, "--batches", 20, "--curvature", 0.1)  # eta lambda = 0.05
ORDERS = ("--order", "reshuffled", "--order", "with_replacement", "--order", "persistent:correlation=0.9")
SHORT = ("--runs", 200, "--epochs", 40, "--lag", 1, "--lag", 4, "--quiet")


def result_of(*arguments: Any) -> dict[str, Any]:
    result = jostle(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_help_has_examples() -> None:
    for words in (PREDICT, SIMULATE):
        result = jostle(*words, "-h")
        assert result.exit_code == 0
        assert "jostle " + " ".join(words) + " --" in result.output


def test_predictions_are_the_anchors() -> None:
    record = result_of(*PREDICT, *ONE_MODE, *ORDERS, "--order", "anti_pgd", "--frequency", 0.3068, "--lag", 1)
    static = {row["order"]: row for row in record["result"]["static"]}
    expected = {
        "reshuffled": (1.56000858298, 2.40366346657),
        "with_replacement": (2.53521126761, 2.53521126761),
        "persistent:correlation=0.9": (18.3021416168, 5.97337449354),
        "anti_pgd": (0.140845070423 / 2, 1.14084507042 / 2),  # of noise of unit variance
    }
    assert set(static) == set(expected)
    for order, (configurational, kinetic) in expected.items():
        assert static[order]["configurational"] == pytest.approx(configurational, rel=1e-11)
        assert static[order]["kinetic"] == pytest.approx(kinetic, rel=1e-11)
        assert static[order]["equipartition_index"] == pytest.approx(configurational / kinetic, rel=1e-10)
    spectral = {row["order"]: row["temperature"] for row in record["result"]["spectral"]}
    assert spectral["reshuffled"] == pytest.approx(2.630, abs=1e-3)
    assert spectral["persistent:correlation=0.9"] == pytest.approx(5.05, abs=1e-2)
    assert spectral["with_replacement"] == pytest.approx(2.5, rel=1e-14)
    assert [row["temperature"] for row in record["result"]["lags"] if row["order"] == "with_replacement"] == [
        pytest.approx(2.5, rel=1e-12)
    ]
    assert record["seed"] is None
    assert record["parameters"]["lags"] == [1]


def test_predictions_as_tables() -> None:
    result = jostle(*PREDICT)
    assert result.exit_code == 0, result.output
    assert "of independent batches at all frequencies: 5" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[2].split() == [
        *("order", "curvature", "configurational", "kinetic", "ratio"),
        *("lag", "1", "lag", "2", "lag", "5", "lag", "10"),
    ]
    flattest = next(line for line in lines if line.startswith("with_replacement")).split()
    assert flattest[1] == "0.2"
    assert flattest[-4:] == ["5", "5", "5", "5"]
    assert "frequency 0.001" in result.stdout
    assert "configurational = curvature * Var(theta)" in result.stdout


def test_lines_and_peaks_in_json() -> None:
    orders = ("--order", "reshuffled", "--order", "shuffled_once", "--order", "reshuffled_every:epochs=4")
    lines, peaks = result_of(*PREDICT, *ONE_MODE, *orders)["result"]["lines"]
    assert (lines["order"], lines["number"], lines["width"]) == ("shuffled_once", 19, 0.0)
    assert lines["frequencies"] == pytest.approx([math.tau * k / 20 for k in range(1, 20)])
    assert sum(lines["variances"]) == pytest.approx(1)
    assert peaks["order"] == "reshuffled_every:epochs=4"
    assert peaks["width"] == pytest.approx(math.tau / 80)


def test_default_curvatures_have_answers_at_the_default_lags() -> None:
    for words in ("--momentum 0 --batches 10", "--momentum 0 --batches 2", "--momentum 0.5 --batches 2"):
        result = jostle(*PREDICT, *words.split())
        assert result.exit_code == 0, result.output


def test_a_short_burn_in_is_no_disagreement() -> None:
    words = ("--curvature", 0.01, "--curvature", 1, "--burn-in", 2, "--epochs", 20, "--runs", 16, "--quiet")
    result = jostle(*SIMULATE, *ONE_MODE[:-2], *words, "--order", "with_replacement")
    flat = [line for line in result.stdout.splitlines() if "curvature 0.01," in line and "outside regime" in line]
    assert len(flat) == 3 + 4 + 1
    assert "outside regime: burn-in of 40 updates is shorter than 12 relaxation times" in result.stdout


def test_the_figure_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import figures.effective_temperature as module

    titles = []
    draw = module.figure_effective_temperature
    monkeypatch.setattr(
        module,
        "figure_effective_temperature",
        lambda title, *rest, **more: [titles.append(title), draw(title, *rest, **more)][1],
    )
    curvatures = [word for k in range(1, 8) for word in ("--curvature", k)]
    assert jostle(*PREDICT, *curvatures, "--out", tmp_path).exit_code == 0
    assert titles == ["learning rate 0.01, momentum 0.9, epochs of 50 batches; 5 of 7 curvatures"]


def test_the_files_of_a_prediction(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    result = jostle(*PREDICT, *ONE_MODE, *ORDERS, "--order", "shuffled_once", "--out", out)
    assert result.exit_code == 0, result.output
    assert "shuffled_once *" in result.stdout
    assert "* shuffled_once: 19 lines at 2 pi k / 20, each of variance 0.05263, infinitely hot" in result.stdout
    assert result.stderr == ""
    assert sorted(path.name for path in out.iterdir()) == ["lags.csv", "spectra.csv", "temperatures.png"]
    spectra = rows_of(out / "spectra.csv")
    assert {row["order"] for row in spectra} == {*ORDERS[1::2], "shuffled_once"}
    assert float(spectra[0]["temperature"]) < 1e-3  # reshuffled: slow motion is cold
    white = [float(row["temperature"]) for row in spectra if row["order"] == "with_replacement"]
    assert white == pytest.approx([2.5] * 801, rel=1e-14)
    # Lines end before the answer changes its sign, here after 15 updates.
    assert max(int(row["lag"]) for row in rows_of(out / "lags.csv")) < 15
    assert (out / "temperatures.png").read_bytes().startswith(b"\x89PNG")


def test_simulations_agree(tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = result_of(*SIMULATE, *ONE_MODE, *ORDERS, *SHORT, "--seed", 3, "--out", out)
    found = record["result"]["comparisons"]
    assert len(found) == 3 * 5
    assert {row["verdict"] for row in found} == {"agrees"}
    assert found[0]["quantity"] == "reshuffled, curvature 0.1, configurational"
    assert found[0]["predicted"] == pytest.approx(1.56000858298, rel=1e-11)
    assert found[0]["simulated"]["n"] == 200
    assert not record["result"]["stopped_early"]
    assert record["seed"] == 3
    assert record["parameters"] | {"epochs": 40, "replicas": 200, "lags": [1, 4]} == record["parameters"]
    simulated = rows_of(out / "simulated.csv")
    assert [(row["order"], row["lag"]) for row in simulated[:2]] == [("reshuffled", "1"), ("reshuffled", "4")]
    assert float(simulated[0]["temperature"]) == found[3]["simulated"]["value"]
    assert (out / "temperatures.png").exists()
    compared = rows_of(out / "comparisons.csv")
    assert [row["quantity"] for row in compared] == [row["quantity"] for row in found]


def test_a_long_table_shows_what_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (*SIMULATE, "--batches", 20, "--order", "reshuffled", *SHORT)  # lags 1 and 4, four curvatures
    command = (*command, "--lag", 2, "--lag", 3)
    short = jostle(*command, "--out", tmp_path).stdout
    assert "7 of 28 rows: of each order and temperature the curvature with the largest |z|" in short
    rows = rows_of(tmp_path / "comparisons.csv")
    assert len(rows) == 28
    assert short.count("  agrees") == 7
    z = {
        row["quantity"]: abs(float(row["predicted"]) - float(row["simulated"])) / float(row["standard_error"])
        for row in rows
    }
    for name in ("configurational", "kinetic", "ratio", "lag 1", "lag 4"):
        largest = max((quantity for quantity in z if quantity.endswith(f", {name}")), key=lambda quantity: z[quantity])
        assert largest in short
    # All that disagree are shown.
    exact = theory.effective_temperature.lag_temperature
    monkeypatch.setattr(theory.effective_temperature, "lag_temperature", lambda *arguments: 1.5 * exact(*arguments))
    wrong = jostle(*command).stdout
    assert "19 of 28 rows" in wrong
    assert wrong.count("disagrees") == 16


def test_simulations_are_repeatable_and_tabled() -> None:
    command = (*SIMULATE, *ONE_MODE, *SHORT, "--burn-in", 10)
    one, two = jostle(*command, "--threads", 1), jostle(*command, "--threads", 2)
    assert one.exit_code == two.exit_code == 0
    assert one.stdout == two.stdout
    assert one.stdout != jostle(*command, "--seed", 1).stdout
    assert one.stdout.splitlines()[-1] == "200 runs of 40 epochs; seed 0"
    assert one.stdout.count("agrees") == 2 * 5


def test_a_wrong_theory_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = theory.effective_temperature.lag_temperature
    monkeypatch.setattr(theory.effective_temperature, "lag_temperature", lambda *arguments: 1.1 * exact(*arguments))
    result = jostle(*SIMULATE, *ONE_MODE, *SHORT, "--order", "reshuffled")
    assert result.exit_code == cli.DISAGREES
    assert result.stdout.count("disagrees") == 2  # both lags, and no static temperature


def test_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.effective_temperature as module

    whole = module.run_in_chunks

    def interrupted(kernel: Any, runs: int, **settings: Any) -> int:
        whole(kernel, runs, **settings)
        return 50

    monkeypatch.setattr(module, "run_in_chunks", interrupted)
    result = jostle(*SIMULATE, *ONE_MODE, *ORDERS, *SHORT)
    assert result.exit_code == cli.STOPPED
    assert "50 runs of 40 epochs" in result.stdout
    assert "with_replacement, curvature" not in result.stdout
    assert "not simulated: with_replacement, persistent:correlation=0.9" in result.stdout
    assert "stopped early" in result.stderr


@pytest.mark.parametrize(
    ("words", "arguments", "message"),
    [
        (PREDICT, ("--order", "sorted"), "order 'sorted' is unknown"),
        (PREDICT, ("--frequency", 4), "must lie between 0 and pi"),
        (PREDICT, ("--learning-rate", 0), "learning_rate=0.0 must be finite and > 0"),
        (PREDICT, ("--curvature", 100, "--momentum", 0, "--lag", 2), "lags=2: a mode does not answer"),
        (SIMULATE, ("--curvature", 100, "--momentum", 0, "--lag", 2), "lags=2: a mode does not answer"),
        (SIMULATE, ("--curvature", 0), "--curvature 0: simulated temperatures need a curvature > 0"),
        (SIMULATE, ("--batches", 1), "batches"),
        (SIMULATE, ("--lag", 0), "0 is not in the range"),
    ],
)
def test_usage_errors(words: tuple[str, ...], arguments: tuple[Any, ...], message: str) -> None:
    result = jostle(*words, *arguments)
    assert result.exit_code == cli.USAGE
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_units_do_not_depend_on_the_learning_rate() -> None:
    small = ("--learning-rate", 0.005, "--momentum", 0.8, "--batches", 20, "--curvature", 10, "--lag", 2)
    one = result_of(*PREDICT, *small)["result"]["lags"][0]["temperature"]
    other = result_of(*PREDICT, *ONE_MODE, "--lag", 2)["result"]["lags"][0]["temperature"]
    assert math.isclose(one, other, rel_tol=1e-12)
