"""`predict` and `simulate` of closed forms and toy processes, as a user meets them."""

import csv
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from tests.command_line import jostle

BROWNIAN = ("--law", "brownian:distance=1,diffusivity=1")
WELL = (
    *("--potential", "(x**2 - 1)**2", "--diffusivity", 0.15, "--epoch", 0.2, "--time-step", 0.02, "--initial-mean", 0),
    *("--initial-deviation", 0.6, "--target", 0.9, "--limits", -2.6, 2.6, "--cells", 260),
)


def result_of(*arguments: object) -> dict:
    run = jostle(*arguments, "--json", "--quiet")
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)["result"]


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


# ---- predict resetting -----------------------------------------------------------------------------------------------


def test_brownian_motion_has_the_known_optima() -> None:
    result = result_of("predict", "resetting", *BROWNIAN, "-r", 1, "-P", 0.5)
    assert result["mean"] == result["cv_squared"] == "inf"
    assert result["optimal_rate"]["value"] == pytest.approx(2.53963828218816532, rel=1e-12)
    assert result["optimal_rate"]["mean"] == pytest.approx(1.54413865237087009, rel=1e-12)
    assert result["optimal_rate"]["boundary"] is None
    assert result["optimal_interval"]["value"] == pytest.approx(0.45850276945959186, rel=1e-10)
    means = {row["restart"]: row["mean"] for row in result["restarted"]}
    assert means["Poisson, rate"] == pytest.approx(math.e - 1, rel=1e-14)
    assert means["sharp, every"] == pytest.approx(1.33831123184767913, rel=1e-12)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        ("erlang:stages=2,rate=1", ["rare restarts do not shorten", "rate: never restart", "interval: never restart"]),
        ("exponential:rate=2", ["rate: all are equal, E[T] = 0.5 (no memory)"]),
        ("hyperexponential:weights=0.5/0.5,rates=10/0.1", ["the more often the better, E[T] -> 0.19802", "rate inf"]),
        ("brownian:distance=1,diffusivity=1", ["best rate: 2.53964, E[T] = 1.54414"]),
    ],
)
def test_boundary_optima_are_said_to_be_there(law: str, words: list[str]) -> None:
    output = jostle("predict", "resetting", "--law", law).stdout
    for word in words:
        assert word in output


def test_overhead_makes_restarts_dearer() -> None:
    law = ("--law", "drift-diffusion:distance=1,drift=0.5,diffusivity=1")
    result = result_of("predict", "resetting", *law, "--rate", 2, "--overhead", 0.3)
    assert result["restarted"][0]["mean"] == pytest.approx(1.8195357576, abs=1e-10)


def test_empirical_law_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "times.txt"
    file.write_text("1\n2\n3\n10\n")
    result = result_of("predict", "resetting", "--law", f"empirical:{file}", "-P", 3)
    assert result["mean"] == 4
    assert result["restarted"][0]["mean"] == pytest.approx((1 + 2 + 3 + 3) / 3)  # success at 3 counts


def test_latex_prints_a_derivation() -> None:
    run = jostle("predict", "resetting", *BROWNIAN, "--latex")
    assert run.exit_code == 0, run.output
    assert run.stdout.count(r"\begin{align*}") == run.stdout.count(r"\end{align*}") >= 2
    assert run.stdout.count("{") == run.stdout.count("}")
    refused = jostle("predict", "resetting", "--law", "pareto:shape=2,scale=1", "--latex")
    assert refused.exit_code == 2
    assert "pareto" in refused.output


def test_files_of_a_prediction(tmp_path: Path) -> None:
    assert jostle("predict", "resetting", *BROWNIAN, "--out", tmp_path / "out").exit_code == 0
    rows = read_csv(tmp_path / "out" / "restart_mean.csv")
    poisson = [row for row in rows if row["restart"].startswith("Poisson")]
    assert len(poisson) == 161
    rate, mean = float(poisson[40]["parameter"]), float(poisson[40]["mean"])
    assert mean == pytest.approx(math.expm1(math.sqrt(rate)) / rate, rel=1e-12)
    assert (tmp_path / "out" / "restart_mean.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_rate_and_speed_ups_of_any_size() -> None:
    result = result_of("predict", "resetting", "--law", "hyperexponential:weights=1,rates=2")
    assert result["mean"] == 0.5
    output = jostle("predict", "resetting", "--law", "ornstein_uhlenbeck:start=19,target=20,stiffness=1,diffusivity=1")
    assert max(len(line) for line in output.stdout.splitlines()) < 120


def test_measured_times_are_not_printed(tmp_path: Path) -> None:
    file = tmp_path / "times.txt"
    file.write_text("\n".join(str(k) for k in range(1, 2001)))
    output = jostle("predict", "resetting", "--law", f"empirical:{file}").stdout
    assert output.startswith("EmpiricalLaw(2000 times from 1 to 2000): E[T] = 1000.5")


# ---- simulate resetting ----------------------------------------------------------------------------------------------


def test_simulation_stands_beside_the_theory() -> None:
    run = jostle("simulate", "resetting", *BROWNIAN, "--rate", 1, "-P", 0.5, "--runs", 50_000)
    assert run.exit_code == 0, run.output
    assert re.search(
        r"^Poisson, rate 1 +1\.71828 +1\.7\d+ \+- 0\.00\d+ +[+-]\d\.\d +agrees +exact$", run.stdout, re.MULTILINE
    )
    assert "50000 runs each; seed 0" in run.stdout


def test_heavy_tails_and_idle_runs_are_no_disagreement() -> None:
    # 1 run in 1e5 carries the mean: few samples underrate their error.
    for law in ("interval:length=1,start=0.00001,diffusivity=1", "log_normal:location=0,deviation=3.5"):
        run = jostle("simulate", "resetting", "--law", law, "--runs", 2000)
        assert run.exit_code == 0, run.output
    run = jostle(
        "simulate", "resetting", *BROWNIAN, "--horizon", 1e-3, "--runs", 2000
    )  # nobody arrives: no error at all
    assert run.exit_code == 0, run.output


@pytest.mark.parametrize("words", [("resetting", *BROWNIAN, "-r", 1), ("perturbation", "--chain", "rational", "-P", 2)])
def test_agreement_of_two_runs_says_that_it_is_too_few(words: tuple[object, ...]) -> None:
    note = "agrees, in 1 of 1 rows: too few runs to tell: a prediction that is off by 100 % would agree, too"
    assert note in jostle("simulate", *words, "--runs", 2).stdout
    assert "too few" not in jostle("simulate", *words, "--runs", 2000).stdout


def test_simulation_depends_on_the_seed_and_not_on_threads() -> None:
    words = ("simulate", "resetting", "--law", "ornstein_uhlenbeck:start=0,target=1,stiffness=1,diffusivity=1")
    words += ("--rate", 1, "--runs", 20_000)
    one, two, other = (result_of(*words, *more) for more in (("--threads", 1), ("--threads", 2), ("--seed", 1)))
    assert one == two
    assert one["comparisons"][0]["simulated"]["value"] != other["comparisons"][0]["simulated"]["value"]
    assert one["comparisons"][0]["method"] == "bridge"


def test_disagreement_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    from theory.diffusion_laws import DriftDiffusion

    monkeypatch.setattr(DriftDiffusion, "laplace", lambda self, rate: math.exp(-1.03 * rate**0.5))  # 3 % too far
    run = jostle("simulate", "resetting", *BROWNIAN, "--rate", 1, "--runs", 100_000)
    assert run.exit_code == cli.DISAGREES, run.output
    assert "disagrees" in run.stdout


def test_horizon_compares_restricted_means() -> None:
    words = ("simulate", "resetting", *BROWNIAN, "-P", 0.5, "--horizon", 1.25, "--runs", 50_000)
    run = jostle(*words)
    assert run.exit_code == 0, run.output
    assert "E[min(T, 1.25)]" in run.stdout


def test_interrupted_simulation_keeps_what_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import shared

    class Stop:
        calls = 0

        def __call__(self, _done: int, _total: int, _text: str) -> None:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt

    class Bar:
        def __enter__(self) -> Stop:
            return Stop()

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(shared, "progress_bar", lambda quiet: Bar())
    run = jostle("simulate", "resetting", *BROWNIAN, "--rate", 1, "--runs", 10**6, "--threads", 1)
    assert run.exit_code == cli.STOPPED, run.output
    runs = int(re.search(r"^(\d+) runs each", run.stdout, re.MULTILINE)[1])
    assert 0 < runs < 10**5
    assert "stopped early" in run.stderr


# ---- predict and simulate perturbation ------------------------------------------------------------------------------


def test_rational_chain_is_exact() -> None:
    result = result_of("predict", "perturbation", "--chain", "rational", "-P", 2, "-P", 10)
    assert result["unperturbed_mean"] == pytest.approx(29.5, rel=1e-12)
    assert [row["mean"] for row in result["intervals"]] == pytest.approx([4345 / 413, 14.524084908477], rel=1e-12)
    assert result["quasi_steady_state"]["survival_rate"] == pytest.approx(0.9762985702, rel=1e-9)
    assert result["intervals"][1]["rare"] / result["intervals"][1]["mean"] - 1 == pytest.approx(0.49, abs=0.005)


def test_potential_of_the_user_equals_the_ready_made_one() -> None:
    words = ("--perturbation", "shrink_perturb:shrink=0.4,noise=0.5", "-P", 10)
    own = result_of("predict", "perturbation", *WELL, *words)
    ready = result_of("predict", "perturbation", "--chain", "double_well", "--cells", 260, *words)
    assert own == ready
    assert own["intervals"][0]["mean"] == pytest.approx(37.63337965, rel=4e-3)  # on 1041 cells


def test_toy_simulation_agrees_and_draws(tmp_path: Path) -> None:
    words = ("--chain", "trap_with_barrier", "--cells", 401, "-P", 3, "-P", 10, "--runs", 20_000)
    run = jostle("simulate", "perturbation", *words, "--out", tmp_path / "out")
    assert run.exit_code == 0, run.output
    assert len(re.findall(r"^P = \d+ .* agrees$", run.stdout, re.MULTILINE)) == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "perturbed_mean.csv",
        "speed_up.png",
        "quasi_steady_state.png",
    }
    rows = read_csv(tmp_path / "out" / "perturbed_mean.csv")
    assert float(rows[2]["mean"]) == pytest.approx(4.46714479, rel=2e-3)


def test_toy_without_a_coordinate_is_simulated_too() -> None:
    result = result_of(
        "simulate", "perturbation", "--chain", "hidden-label", "-P", 5, "--horizon", 50, "--runs", 20_000
    )
    assert result["comparisons"][0]["verdict"] == "agrees"


def test_infinite_mean_asks_for_a_horizon() -> None:
    words = ("simulate", "perturbation", "--chain", "rational", "--perturbation", "full_reset", "-P", 1)
    refused = jostle(*words)
    assert refused.exit_code == 2
    assert "give a --horizon" in refused.output
    assert "50" in jostle(*words, "--horizon", 50, "--runs", 100).stdout


# ---- Bad input ------------------------------------------------------------------------------------------------------


RESETTING, PERTURBATION = "predict resetting", "predict perturbation"
FREE = "--law brownian:distance=1,diffusivity=1"
AWAY = "--law drift_diffusion:distance=1,drift=-1,diffusivity=1"
IN_WELL = PERTURBATION + " " + shlex.join(str(word) for word in WELL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (RESETTING, "give either --law, for closed forms, or --curves"),
        (f"{RESETTING} --law levy", "law 'levy' is unknown; choose from brownian"),
        (f"{RESETTING} --law brownian:distance=1", "needs diffusivity: write brownian:distance=...,"),
        (f"{RESETTING} --law brownian:distance=1,diffusivity=-1", "diffusivity=-1.0 must be finite and > 0"),
        (f"{RESETTING} --law brownian:distance=x,diffusivity=1", "distance=x must be a number"),
        (f"{RESETTING} --law brownian:size=1", "'size=1' is no parameter of brownian"),
        (f"{RESETTING} --law interval:length=1,start=2,diffusivity=1", "start=2.0 must be inside"),
        (f"{RESETTING} --law empirical:", "needs a file"),
        (f"{RESETTING} --law empirical:nowhere", "nowhere does not exist"),
        (f"{RESETTING} {FREE} --rate -1", "rate=-1.0 must be"),
        (f"{RESETTING} {FREE} --overhead -1", "overhead=-1.0 must be"),
        (f"{RESETTING} {FREE} --target 0.9", "--target can only be used with --curves"),
        (f"{RESETTING} --curves x.csv --target 1 --rate 1", "--rate can only be used with --law"),
        ("simulate resetting", "--law is missing"),
        (f"simulate resetting {FREE} -P 1e-4", "would not end"),
        ("simulate resetting --law pareto:shape=0.1,scale=1", "give --rate, --interval or --horizon"),
        (
            "simulate resetting --law pareto:shape=1.5,scale=1 --rate 1e-300",
            "rate=1e-300 must be from 1e-100 to 1e+100",
        ),
        (f"{RESETTING} --law brownian:distance=1,diffusivity=1/2", "diffusivity=1/2 must be a number"),
        (f"{RESETTING} --law erlang:stages=1.5,rate=1", "stages=1.5 must be a whole number"),
        (f"{RESETTING} --law hyperexponential:weights=1,rates=a", "rates=a must be numbers separated by /"),
        (f"{RESETTING} --law hyperexponential:weights=0.5/0.5,rates=2", "weights has shape (2,)"),
        (f"{RESETTING} {FREE} --latex --json", "--json can only be used with closed forms, without --latex"),
        (f"{RESETTING} {FREE} --latex --rate 1 -P 2 --overhead 1 --out x", "without --latex"),
        (f"{RESETTING} --law brownian:distance=-1,diffusivity=1 --latex", "distance=-1.0 must be finite and > 0"),
        (f"{PERTURBATION} --chain rational --curves x", "--chain can only be used with toy processes"),
        (f"{PERTURBATION} --chain trap_with_barrier --perturbation partial_reset:fraction=1e9", "up to 1e+06"),
        (
            f"{IN_WELL.replace('0.15', '1e-9').replace('(x**2 - 1)**2', '-x')} --perturbation full_reset",
            "--branch-epoch",
        ),
        (f"simulate resetting {AWAY} --rate 1 --time-step 1", "has no use"),
        ("simulate resetting --law gamma:shape=1,scale=1 --method bridge", "has no diffusion behind it"),
        (f"simulate resetting {FREE} --runs 1", "--runs"),
        (f"{RESETTING} {FREE} -P 0", "--interval 0 must be finite and > 0"),
        (f"simulate resetting {FREE} -P -1", "--interval -1 must be finite and > 0"),
        (PERTURBATION, "give --curves"),
        (f"{PERTURBATION} --chain triangle", "chain 'triangle' is unknown"),
        (f"{PERTURBATION} --chain rational --perturbation shrink_perturb", "rational has no coordinate to act on"),
        (f"{PERTURBATION} --chain rational --diffusivity 1", "--diffusivity can only be used with --potential"),
        (f"{PERTURBATION} --potential x**2", "--potential needs"),
        (f"{IN_WELL} --potential \"__import__('os')\"", "__import__"),
        (f"{IN_WELL} --perturbation shake", "must be one of shrink_perturb"),
        (f"{IN_WELL} --perturbation shrink_perturb:shrink=a,noise=1", "shrink=a must be a number"),
        (f"{IN_WELL} --time-step 0.03", "time_step=0.03 must divide"),
        (f"{IN_WELL} --target 3", "inside the limits"),
        (f"{PERTURBATION} --chain rational --metric a", "--metric can only be used with --curves"),
        ("simulate perturbation", "give either --chain"),
    ],
)
def test_bad_input_is_a_usage_error(words: str, message: str) -> None:
    run = jostle(*shlex.split(words))
    assert run.exit_code == 2, run.output
    assert message in run.output
    assert "Traceback" not in run.output


@pytest.mark.slow  # tests/test_sim_ensemble.py has the announcement alone
def test_first_compilation_is_announced_and_kept(tmp_path: Path) -> None:
    code = "import cli, sys; sys.argv[0] = 'jostle'; cli.main()"
    words = ["simulate", "perturbation", "--chain", "double_well", "--cells", "60", "-P", "5", "--runs", "100"]

    def notices() -> int:
        run = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(cli.__file__).parent,
            env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""},
        )
        return run.stderr.count("compiling the simulator")

    assert [notices(), notices()] == [1, 0]


@pytest.mark.slow
def test_means_of_a_law_with_noise_in_its_survival() -> None:
    # Its survival is an inverted transform, good to 1e-9; the optimum must not be misled.
    law = "ornstein_uhlenbeck:start=0,target=1,stiffness=1,diffusivity=1"
    result = result_of("predict", "resetting", "--law", law)
    best = result["optimal_interval"]
    assert best["boundary"] is None
    assert best["value"] == pytest.approx(0.5291056, rel=1e-4)
    assert best["mean"] == pytest.approx(1.563154173, rel=1e-8)


def test_json_repeats_what_was_asked_for() -> None:
    words = ("simulate", "resetting", *BROWNIAN, "--rate", 2, "-P", 0.5, "--runs", 1000, "--json", "--quiet")
    parameters = json.loads(jostle(*words).stdout)["parameters"]
    assert (parameters["rates"], parameters["intervals"], parameters["runs"]) == ([2.0], [0.5], 1000)
