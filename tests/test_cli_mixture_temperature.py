"""``jostle predict effective-temperature --model mixture`` and the same of ``simulate``, as a user meets them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import cli
import commands.mixture_results as results_module
from commands.model_choice import ModelCommand
from tests.command_line import jostle, rows_of
from theory.batch_selection import PersistentBatches
from theory.estimate import Estimate
from theory.mean_field_solution import MeanFieldSolution

PREDICT, SIMULATE = ("predict", "effective-temperature"), ("simulate", "effective-temperature")
MIXTURE = ("--model", "mixture")
BERNOULLI, PERSISTENT = "bernoulli:b=0.25", "persistent:b=0.25,tau=6.4"
ORDERS = ("--order", BERNOULLI, "--order", "persistent:tau=6.4, b=0.25")
SHORT = (*MIXTURE, "--steps", 24, "--particles", 200, "--populations", 6, "--lag", 1, "--lag", 3, "--quiet")
RIDGE = ("--loss", "square", "--order", BERNOULLI)
SMALL = ("--dimensions", 80, "--runs", 40, "--threads", 1)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    import figures.style

    out, patch = tmp_path_factory.mktemp("predict") / "new" / "out", pytest.MonkeyPatch()
    patch.setattr(figures.style, "DOTS_PER_INCH", 40)  # drawing takes most of the time
    result = jostle(*PREDICT, *SHORT, *ORDERS, "--order", "gd:b=0.25", "--out", out)
    patch.undo()
    assert result.exit_code == 0, result.output
    return result, out


@pytest.fixture(scope="module")
def ridge() -> dict[str, Any]:
    result = jostle(*PREDICT, *SHORT, *RIDGE, "--populations", 8, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    import figures.style

    out, patch = tmp_path_factory.mktemp("simulate"), pytest.MonkeyPatch()
    patch.setattr(figures.style, "png_bytes", lambda figure: b"")
    result = jostle(*SIMULATE, *SHORT, *ORDERS, *SMALL, "--seed", 3, "--json", "--out", out)
    patch.undo()
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), out


# ---- Which model -----------------------------------------------------------------------------------------------------


def test_help_says_what_belongs_to_which_model() -> None:
    for words in (PREDICT, SIMULATE):
        both = jostle(*words, "-h").stdout
        quadratic, _, rest = both.partition("Options of --model mixture:")
        mixture, _, common = rest.partition("Options of all models:")
        assert "--curvature" in quadratic
        assert "--curvature" not in mixture
        assert "--sample-ratio" in mixture
        assert "--json" in common
        assert "--json" not in mixture
        assert both.count("--help") == 1
        one = jostle(*words, *MIXTURE, "-h").stdout
        assert "--sample-ratio" in one
        assert "--curvature" not in one
        assert "--sample-ratio" not in jostle(*words, "--model=quadratic", "--help").stdout


def test_short_help_is_there_after_a_run_without_a_group() -> None:
    command = cli.simulate.commands["effective-temperature"]
    assert isinstance(command, ModelCommand)
    for model in command.models.values():
        model._help_option = None  # as in a new process
    for name in command.models:
        with command.make_context(command.name, ["--model", name]):  # as `validate all` does
            pass
        assert "simulate effective-temperature [OPTIONS]" in jostle(*SIMULATE, "--model", name, "-h").stdout


def test_the_default_model_is_as_before() -> None:
    assert jostle(*PREDICT).stdout == jostle(*PREDICT, "--model", "quadratic").stdout


@pytest.mark.parametrize(
    ("words", "arguments", "message"),
    [
        (
            PREDICT,
            (*MIXTURE, "--curvature", 1),
            "can only be used with --model quadratic, not with mixture",
        ),
        (PREDICT, ("--sample-ratio", 2), "--sample-ratio can only be used with --model mixture, not with quadratic"),
        (PREDICT, ("--model", "cubic"), "'cubic' is not one of 'quadratic', 'mixture'"),
        (PREDICT, (*MIXTURE, "--bogus", 1), "No such option"),
        (PREDICT, (*MIXTURE, "--margin", 2), "--margin can only be used with --loss squared_hinge or perceptron"),
        (PREDICT, (*MIXTURE, "--loss", "squared_hinge", "--smoothing", 1), "can only be used with --loss perceptron"),
        (PREDICT, (*MIXTURE, "--door-width", 1), "--door-width can only be used with --activation door"),
        (PREDICT, (*MIXTURE, "--order", "sorted"), "--order 'sorted' is unknown; choose from gd:b=B"),
        (PREDICT, (*MIXTURE, "--order", "bernoulli"), "b is missing"),
        (PREDICT, (*MIXTURE, "--order", "reshuffled:M=4,b=1"), "reshuffled has no b"),
        (PREDICT, (*MIXTURE, "--order", "bernoulli:b=half"), "b=half must be a number"),
        (
            PREDICT,
            (*MIXTURE, "--order", "bernoulli:b=0"),
            "batch_fraction=0 must be > 0",
        ),
        (PREDICT, (*MIXTURE, "--order", "persistent:b=0.25,tau=1"), "persistence_time=1 must be at least 1.2"),
        (
            PREDICT,
            (*MIXTURE, "--order", "reshuffled:M=50"),
            "less than an epoch of M=50 updates",
        ),
        (PREDICT, (*MIXTURE, "--start", 77), "--start 77 must be at most 76"),
        (PREDICT, (*MIXTURE, "--lag", 30), "--lag 30 must be less than 20"),
        (PREDICT, (*MIXTURE, "--particles", 100), "particles=100 must be a multiple of 8 and at least 4"),
        (PREDICT, (*MIXTURE, "--steps", 3000, "--particles", 10**5), "GB, more than 16: take fewer particles"),
        (PREDICT, (*MIXTURE, "--sample-ratio", 0), "sample_ratio=0.0 must be finite and > 0"),
        (
            SIMULATE,
            (*MIXTURE, "--order", "reshuffled:M=7"),
            "'reshuffled:M=7': batch_fraction=0.142857 of",
        ),
        (SIMULATE, (*MIXTURE, "--dimensions", 4), "dimensions"),
    ],
)
def test_usage_errors(words: tuple[str, ...], arguments: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    result = jostle(*words, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == cli.USAGE
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_the_advice_of_a_long_epoch_can_be_followed() -> None:
    words = (*MIXTURE, "--order", "reshuffled:M=6", "--lag", 1, "--populations", 2, "--quiet")
    assert "take at least 24" in jostle(*PREDICT, *words, "--steps", 16).stderr
    assert jostle(*PREDICT, *words, "--steps", 24, "--replicas", 1).exit_code == 0


# ---- predict ---------------------------------------------------------------------------------------------------------


def test_predictions_as_tables(predicted: tuple[Result, Path]) -> None:
    result, _ = predicted
    assert result.stderr == ""
    assert "logistic loss" in result.stdout.splitlines()[0]
    for name in ("overlap m", "replica distance", "margin, 10 %", "T_eff(3)", "slope"):
        assert name in result.stdout
    for order in (BERNOULLI, PERSISTENT, "gd:b=0.25"):  # in the words of the program
        assert sum(line.startswith(order) for line in result.stdout.splitlines()) >= 3
    assert result.stdout.splitlines()[-1] == "6 populations of 200 particles; seed 0"
    assert "exact" not in result.stdout


def test_the_files_of_a_prediction(predicted: tuple[Result, Path]) -> None:
    _, out = predicted
    arrays = {f"theory_{name}.npz" for name in ("bernoulli_b=0.25", "persistent_b=0.25_tau=6.4", "gd_b=0.25")}
    pictures = {f"{name}.png" for name in ("relaxation", "temperatures", "replicas", "temperature_distance")}
    assert {path.name for path in out.iterdir()} == arrays | {"times.csv", "lags.csv"} | pictures
    solution = MeanFieldSolution.load(out / "theory_persistent_b=0.25_tau=6.4.npz")
    assert solution.selection == PersistentBatches(0.25, 6.4)
    rows = rows_of(out / "times.csv")
    last = {row["quantity"]: row for row in rows if row["order"] == PERSISTENT and row["time"] == "24"}
    assert len(last) == 9
    assert float(last["overlap m"]["theory"]) == solution.estimate("overlap", 24).value
    assert float(last["train error"]["theory"]) == pytest.approx(1 - solution.estimate("train_accuracy", 24).value)
    assert last["overlap m"]["simulated"] == last["overlap m"]["exact"] == ""
    response = {row["lag"]: row for row in rows_of(out / "lags.csv") if row["quantity"] == "R(n)"}
    assert float(response["1"]["theory"]) == 1.0
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_noisier_batches_are_hotter_and_part_replicas_more(predicted: tuple[Result, Path]) -> None:
    rows = [row for row in rows_of(predicted[1] / "times.csv") if row["time"] == "24"]
    distance = {row["order"]: float(row["theory"]) for row in rows if row["quantity"] == "replica distance"}
    assert distance["gd:b=0.25"] == 0 < 2 * distance[BERNOULLI] < distance[PERSISTENT]


def test_the_exact_solution_is_beside_the_sampled_one(ridge: dict[str, Any]) -> None:
    from theory.batch_selection import BernoulliBatches
    from theory.mean_field_ridge import solve_ridge
    from theory.mean_field_temperature import temperature_of_solution
    from theory.mixture_model import MixturePerceptron, PerceptronTraining

    model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
    solved = solve_ridge(model, PerceptronTraining(0.4), BernoulliBatches(0.25), 24)
    found = ridge["result"]["orders"][BERNOULLI]
    exact = found["exact"]
    assert exact["final"]["overlap m"] == solved.overlap[-1]
    assert exact["final"]["replica distance"] == solved.replica_distance[-1]
    temperature = temperature_of_solution(solved, (1, 3), start=12)
    assert list(exact["temperature_by_lag"].values()) == [e.value for e in temperature.by_lag]
    assert exact["temperature_by_slope"] == temperature.by_slope.value
    for name, value in exact["final"].items():
        sampled = found["final"][name]
        assert abs(sampled["value"] - value) < 6 * sampled["standard_error"] + 0.02 * abs(value), name
    assert ridge["parameters"]["lags"] == [1, 3]
    assert ridge["parameters"]["model"] == "mixture"
    assert ridge["seed"] == 0


def test_what_particles_cannot_tell_is_refused_and_said() -> None:
    words = ("--steps", 24, "--particles", 104, "--populations", 2, "--order", PERSISTENT, "--replicas", 1)
    result = jostle(*PREDICT, *MIXTURE, *words, "--lag", 1, "--lag", 5, "--quiet")
    assert result.exit_code == 0, result.output
    refusal = next(line for line in result.stdout.splitlines() if line.startswith("? "))
    assert refusal.startswith(f"? {PERSISTENT}: T_")
    assert "take about" in refusal
    assert "replica distance" not in result.stdout


def test_a_correlation_that_still_falls_is_said(predicted: tuple[Result, Path]) -> None:
    slow = [line for line in predicted[0].stdout.splitlines() if "C(n) still falls" in line]
    assert [line.partition(": ")[0] for line in slow if line.startswith("persistent")] == [PERSISTENT]


def test_time_and_memory_are_said_before() -> None:
    words = [word for word in SHORT if word != "--quiet"]
    result = jostle(*PREDICT, *words, *RIDGE, "--replicas", 1)
    assert result.stderr.startswith("theory: 1 x 6 populations of 200 particles, 24 steps: about 1 s on one core, 1 MB")


def test_predictions_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    import theory.mean_field as module

    whole, steps = module.solve_mean_field, []

    def interrupted(*arguments: Any, progress: Any, **settings: Any) -> MeanFieldSolution:
        def stop(done: int, total: int, text: str) -> None:
            steps.append(done)
            if len(steps) == 24 * (6 + 3):  # the second order has three populations
                raise KeyboardInterrupt

        return whole(*arguments, progress=stop, **settings)

    monkeypatch.setattr(module, "solve_mean_field", interrupted)
    result = jostle(*PREDICT, *SHORT, *ORDERS, "--order", "gd", "--replicas", 1)
    assert result.exit_code == cli.STOPPED
    assert "not solved: gd:b=1" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 populations of 200 particles; seed 0"
    assert "stopped early" in result.stderr


# ---- simulate --------------------------------------------------------------------------------------------------------


def test_simulations_agree(simulated: tuple[dict[str, Any], Path]) -> None:
    record, out = simulated
    found = record["result"]["comparisons"]
    assert [row["quantity"] for row in found[:2]] == [f"{BERNOULLI}, overlap m", f"{BERNOULLI}, norm C"]
    assert len(found) == 2 * (9 + 2 + 2)
    assert {row["verdict"] for row in found} == {"agrees"}
    assert found[0]["simulated"]["n"] == 40
    assert not record["result"]["stopped_early"]
    assert record["parameters"] | {"dimensions": 80, "runs": 40} == record["parameters"]
    rows = rows_of(out / "times.csv")
    last = [row for row in rows if row["order"] == BERNOULLI and row["time"] == "24" and row["quantity"] == "overlap m"]
    assert float(last[0]["simulated"]) == found[0]["simulated"]["value"]
    lags = [row for row in rows_of(out / "lags.csv") if row["simulated"] and row["quantity"] == "R(n)"]
    assert [row["lag"] for row in lags] == ["1", "3"] * 2


def test_simulations_against_the_exact_solution_are_tabled_and_repeatable() -> None:
    command = (*SIMULATE, *SHORT, *RIDGE, "--dimensions", 80, "--runs", 16)
    one, two = jostle(*command, "--threads", 1), jostle(*command, "--threads", 2)
    assert one.exit_code == two.exit_code == 0
    assert one.stdout == two.stdout
    lines = one.stdout.splitlines()
    assert lines[-1] == "16 runs; seed 0"
    row = next(line for line in lines if line.startswith(f"{BERNOULLI}, T_eff(1)"))
    assert "(" not in row.split()[2]  # exact: no error
    assert "beyond 4 / N = 0.05 of the value" in one.stdout


def test_boundaries_when_all_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import figures.style

    monkeypatch.setattr(figures.style, "png_bytes", lambda figure: b"")
    hinge = ("--loss", "squared_hinge", "--sample-ratio", 0.5, "--noise-variance", 1, "--weight-decay", 0)
    words = (*SIMULATE, *SHORT, *hinge, "--dimensions", 80, "--runs", 16, "--replicas", 1)
    orders = ("--order", "bernoulli:b=0.5", "--order", "persistent:b=0.5,tau=6.4")
    record = json.loads(jostle(*words, *orders, "--until-learned", 2000, "--json", "--out", tmp_path).stdout)
    few, many = record["result"]["learned"].values()
    assert few["learned"]["value"] == many["learned"]["value"] == 1.0
    assert few["steps"]["value"] < many["steps"]["value"]
    assert few["replica distance"]["value"] < many["replica distance"]["value"]
    rows = rows_of(tmp_path / "learned.csv")
    assert [row["quantity"] for row in rows[:3]] == ["learned", "steps", "margin, 1 %"]
    assert float(rows[1]["simulated"]) == few["steps"]["value"]
    assert (tmp_path / "learned.png").exists()
    given_up = jostle(*words, "--order", "bernoulli:b=0.5", "--until-learned", 5).stdout
    assert "not all had learned after 5 steps" in given_up
    row = next(line for line in reversed(given_up.splitlines()) if line.startswith("bernoulli:b=0.5 "))
    assert row.split()[1:] == ["0%", *"------"]


def test_a_wrong_theory_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    import theory.mean_field_ridge as module

    exact = module.solve_ridge
    monkeypatch.setattr(
        module, "solve_ridge", lambda model, training, selection, steps: exact(model, training, Wrong, steps)
    )
    from theory.batch_selection import BernoulliBatches

    Wrong = BernoulliBatches(0.35)
    result = jostle(*SIMULATE, *SHORT, *RIDGE, *SMALL)
    assert result.exit_code == cli.DISAGREES
    assert result.stdout.count("disagrees") >= 2


def test_simulations_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.perceptron_replicas as module

    whole = module.run_in_chunks

    def interrupted(kernel: Any, runs: int, **settings: Any) -> int:
        whole(kernel, runs, **settings)
        return 10

    monkeypatch.setattr(module, "run_in_chunks", interrupted)
    result = jostle(*SIMULATE, *SHORT, *ORDERS, *SMALL)
    assert result.exit_code == cli.STOPPED
    assert result.stdout.splitlines()[-1] == "10 runs; seed 0"
    assert f"not simulated: {PERSISTENT}\n" in result.stdout
    assert "stopped early" in result.stderr


def test_rounding_is_zero_and_one_number_has_no_error() -> None:
    assert results_module.estimate_of(np.array([1e-12, -1e-12])) == Estimate(0.0, 0.0, 2)
    assert results_module.estimate_of(np.array([1e-12])) == Estimate(1e-12, 0.0, 1)
