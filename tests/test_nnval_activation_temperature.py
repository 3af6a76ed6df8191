"""The experiment on activation-pattern temperatures: runs on disk, and what comes of them."""

import dataclasses
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnval.activation_temperature import run_cooling_study
from nnval.activation_temperature_arrays import arrays, results_json
from nnval.activation_temperature_schedules import Schedule
from nnval.activation_temperature_study import (
    CoolingStudy,
    CoolingStudyConfig,
    ScheduleRuns,
    StageSweeps,
    error_differences,
)
from nnval.activation_temperature_tables import (
    conclusions,
    differences_table,
    facts,
    fitted,
    layers_of,
    links_table,
    results_table,
)
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.experiment_files import save_tables
from nnval.measure.pattern_counts import RateSweep
from tests.activation_temperature_configs import tiny
from theory.activation_temperature import CloglogLink, ErfLink, target_curve

# ---- Runs on disk ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CoolingStudy:
    return run_cooling_study(tiny(budgets=[3, 5]), tmp_path_factory.mktemp("cooling") / "run")


def records(directory: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(directory.glob("seeds/*/*/*.json")):
        found[str(path.relative_to(directory))] = json.loads(path.read_text())
        del found[str(path.relative_to(directory))]["overhead"]  # a time
    return found


def test_all_is_there(study: CoolingStudy) -> None:
    assert [(runs.schedule.label, runs.budget) for runs in study.runs] == [
        ("step", 3),
        ("actcoolr", 3),
        ("step", 5),
        ("actcoolr", 5),
    ]
    assert study.layers == 1
    assert study.parameters == 64 * 12 + 12 + 12 * 10 + 10
    for runs in study.runs:
        assert runs.test_accuracy.shape == (2, runs.budget)
        assert runs.temperature.shape == runs.rate.shape == (2, len(runs.steps))
        assert np.isfinite(runs.temperature).all()
        assert np.isfinite(runs.target).any() == runs.is_cooled
        assert np.isnan(runs.overhead).all() != runs.is_cooled
        assert len(runs.sweeps) == (2 if (runs.schedule.label, runs.budget) == ("step", 5) else 0)
    assert study.runs[2].sweeps[0].steps.tolist() == [1, 13, 25]
    assert study.runs[2].steps.tolist() == list(range(2, 26, 4))
    assert len(study.differences) == 2


def test_members_share_beginnings_but_not_with_each_other(study: CoolingStudy) -> None:
    step, cooled = study.runs[2], study.runs[3]
    assert (step.rate[:, 0] == cooled.rate[:, 0]).all()
    assert (step.temperature[:, 0] == cooled.temperature[:, 0]).all()
    assert step.temperature[0, 0] != step.temperature[1, 0]


def test_a_finished_run_is_only_read(study: CoolingStudy) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.directory.rglob("*.json")}

    def refused(*_: Any) -> None:
        raise AssertionError("trained again")

    again = run_cooling_study(study.config, study.directory, progress=refused)
    assert results_json(again) == results_json(study)
    assert before == {path: path.stat().st_mtime_ns for path in study.directory.rglob("*.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was saved after each epoch; not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_cooling_study(tiny(), out, checkpoint_seconds=0)
    assert not list(out.rglob("*.pt"))
    return out


@pytest.mark.parametrize("stop_at", [2, 6, 9])
def test_interrupted_runs_go_on_with_the_same_numbers(whole: Path, tmp_path: Path, stop_at: int) -> None:
    config = tiny()
    calls = []

    def stop(done: int, total: int, _: str) -> None:
        calls.append((done, total))
        if len(calls) == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="run the same command again"):
        run_cooling_study(config, tmp_path / "broken", progress=stop)
    told: list[int] = []
    run_cooling_study(config, tmp_path / "broken", progress=lambda done, _, __: told.append(done))
    assert records(tmp_path / "broken") == records(whole)
    assert told[0] == stop_at + 1
    assert told[-1] == 20
    assert not list(tmp_path.rglob("*.pt"))


def test_schedules_and_seeds_can_be_added(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    before = records(out)
    more = tiny(schedules=["cosine", "step"], members=3)
    told: list[str] = []
    grown = run_cooling_study(more, out, progress=lambda _, __, text: told.append(text))
    assert {name: record for name, record in records(out).items() if name in before} == before
    assert len(grown.runs[0].errors) == 3
    assert {text.split(",")[1].strip() for text in told if text.startswith("seed 0")} == {"cosine"}
    with pytest.raises(RunDirectoryError, match="every: 4 there, 5 asked for"):
        run_cooling_study(tiny(every=5), out)


def test_damaged_files(whole: Path, tmp_path: Path) -> None:
    config = tiny(schedules=["step"])
    shutil.copytree(whole, tmp_path / "run")
    path = next((tmp_path / "run").glob("seeds/0001/5/step.json"))
    path.write_text("{}")
    with pytest.raises(RunDirectoryError, match="is damaged: remove it to train that network again"):
        run_cooling_study(config, tmp_path / "run")
    path.unlink()
    run_cooling_study(config, tmp_path / "run")
    path.unlink()
    path.with_suffix(".pt").write_bytes(b"no checkpoint")
    with pytest.raises(RunDirectoryError, match="remove it to train that network anew"):
        run_cooling_study(config, tmp_path / "run")


def test_augmented_networks_with_normalisation_run(tmp_path: Path) -> None:
    config = tiny(
        model="nnval.activation_temperature_networks:convnet_bn",
        augmentation="crop_flip",
        schedules=["actcoolr:lr_max=10,t_start=3.17", "constant:lr=1e30"],
        swept=["constant:lr=1e30"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_cooling_study(config, tmp_path / "run")
    cooled, broken = result.runs
    assert result.layers == 3
    assert not cooled.diverged.any()
    assert broken.diverged.all()
    assert (broken.errors == 0.9).all()
    assert not result.trained(broken).any()
    assert np.isnan(broken.train_loss[:, -1]).all()
    # Tables say so without nan.
    assert "nan" not in str([results_table(result).rows, links_table(result).rows])
    json.dumps(results_json(result), allow_nan=False)


# ---- Results ---------------------------------------------------------------------------------------------------------


def runs_of(label: str, errors: list[float], **changes: Any) -> ScheduleRuns:
    n, nothing = len(errors), np.full((len(errors), 3), np.nan)
    curves = ("rate", "temperature", "first", "last", "target", "gradient", "weights")
    values: dict[str, Any] = dict.fromkeys(curves, nothing)
    values |= dict.fromkeys(("share_at_cap", "sigma", "overhead"), np.full(n, np.nan))
    accuracy = 1 - np.array(errors)[:, None]
    whole = {"coldest": np.full(n, 0.01), "diverged": np.zeros(n, bool)} | values | changes
    return ScheduleRuns(Schedule.parsed(label), 1, 3, accuracy, np.zeros((n, 1)), np.array([2, 6, 10]), **whole)


def test_tracking_errors_are_medians_over_targets_that_can_be_seen() -> None:
    measured = np.array([[2.0, 1.0, 0.5], [2.0, np.nan, 0.5], [1.0, 1.0, 1.0]])
    target = np.array([[1.0, 1.0, 0.019], [np.nan, 1.0, 0.25], [np.nan] * 3])
    found = runs_of("actcoolr", [0.1] * 3, temperature=measured, target=target).tracking_errors
    assert found[:2] == pytest.approx([np.median([math.log(2), 0]), math.log(2)])
    assert np.isnan(found[2])


def a_study(*runs: ScheduleRuns) -> CoolingStudy:
    return CoolingStudy(tiny(budgets=[1]), Path(), 10, 10, 2, runs, error_differences(runs))


def test_starts_are_read_off_the_targets(study: CoolingStudy) -> None:
    cooled = study.runs[3]
    known = np.isfinite(cooled.target)
    assert known.any(axis=1).all()
    whole = target_curve(cooled.steps / 25, 1.0, 1.0) * cooled.starts[:, None]
    assert cooled.target[known] == pytest.approx(whole[known], rel=1e-12)
    assert np.isnan(study.runs[2].starts).all()
    again = runs_of("actcoolr:gamma=2", [0.1, 0.2], target=np.array([[np.nan, 3.0, 0.0], [np.nan] * 3]))
    late = dataclasses.replace(again, steps_per_epoch=12)
    assert late.starts[0] == pytest.approx(3.0 / (1 - 0.5**2))
    assert np.isnan(late.starts[1])


def test_who_trained_is_seen_beside_the_best_of_the_budget() -> None:
    good, broken = runs_of("cosine", [0.1, 0.12, 0.2]), runs_of("actcoolr", [0.1, 0.6, 0.9])
    study = a_study(good, broken)
    assert study.trained(good).all()
    assert study.trained(broken).tolist() == [True, False, False]  # halfway between 0.88 and 0.1 is 0.49
    assert "actcoolr, 1 epoch: only 1 of 3 seeds trained." in conclusions(study)


def test_differences_are_those_of_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common = rng.uniform(0.1, 0.5, 8)
    better, same = common - 0.02 + rng.normal(0, 1e-3, 8), common + rng.normal(0, 1e-4, 8)
    runs = (runs_of("step", common.tolist()), runs_of("actcoolr", better.tolist()), runs_of("cosine", same.tolist()))
    study = a_study(*runs)
    against_step = study.differences[0]
    assert (against_step.method, against_step.reference, against_step.shown) == ("actcoolr", "step", True)
    first = study.differences[0].difference
    assert first.value == pytest.approx(np.mean(better - common))
    assert first.standard_error == pytest.approx(np.std(better - common, ddof=1) / math.sqrt(8))
    assert first.standard_error < 0.1 * runs[0].error.standard_error
    assert any("is lower than that of step" in line for line in conclusions(study))
    assert differences_table(study).rows[0][-1] == "lower"
    reverse = a_study(runs_of("step", better.tolist()), runs_of("actcoolr", common.tolist()))
    assert differences_table(reverse).rows[0][-1] == "higher"
    nothing = a_study(runs_of("step", [0.1, 0.2]), runs_of("actcoolr", [0.2, 0.1]))
    assert conclusions(nothing)[-1].startswith("No difference")


def test_the_cap_is_told() -> None:
    capped = runs_of("actcoolr", [0.1, 0.1, 0.1], share_at_cap=np.array([0.9, 0.8, 0.1]))
    assert any("80% of the steps were at the cap" in line for line in conclusions(a_study(capped)))
    free = runs_of("actcoolr", [0.1, 0.1, 0.1], share_at_cap=np.array([0.9, 0.1, 0.1]))
    assert not any("cap" in line for line in conclusions(a_study(free)))


def test_seeds_that_did_not_train_are_told_of_every_schedule() -> None:
    lines = conclusions(a_study(runs_of("constant", [0.9, 0.9, 0.9]), runs_of("step", [0.1, 0.1, 0.9])))
    assert "constant, 1 epoch: none of 3 seeds trained." in lines
    assert "step, 1 epoch: only 2 of 3 seeds trained." in lines


def sweep_of(link: ErfLink | CloglogLink, patterns: int = 10**7) -> RateSweep:
    rates = np.geomspace(1e-4, 1e2, 25)
    changed = np.round(patterns * link.share(np.log(rates))).astype(np.int64)[:, None].repeat(2, axis=1)
    return RateSweep(changed, np.array([patterns] * 2), np.ones(25, bool), rates=rates)


def test_fits_find_planted_links() -> None:
    stages = StageSweeps(
        np.array([1, 5]), np.array([0.1, 0.1]), (sweep_of(ErfLink(-2.0, 1.4)), sweep_of(CloglogLink(-1.0)))
    )
    fit = fitted([stages, stages])
    assert fit.location[:, 0] == pytest.approx([-2.0] * 2, abs=1e-4)
    assert fit.sigma[:, 0] == pytest.approx([1.4] * 2, abs=1e-4)
    assert fit.exponent[:, 1] == pytest.approx([1.0] * 2, abs=1e-4)
    assert (fit.error[:, 0] < 1e-5).all()
    assert (fit.error[:, 1] > 0.01).all()
    assert fit.sigma[0, 1] == pytest.approx(1.17, abs=0.02)  # of proportional flips, see theory.gaussian_flips
    # None: nothing changes.
    dead = RateSweep(
        np.zeros((25, 2), np.int64), np.array([9, 9]), np.ones(25, bool), rates=np.geomspace(1e-4, 1e2, 25)
    )
    alive = StageSweeps(np.array([1]), np.array([0.1]), (dead,))
    assert np.isnan(fitted([alive]).sigma).all()


def test_tables_and_files(study: CoolingStudy) -> None:
    results, links = results_table(study), links_table(study)
    assert len(results.rows) == 4
    assert len(links.rows) == len(layers_of(study)) == 1  # one ReLU is the network
    assert len(facts(study)) == 5
    files = arrays(study)
    assert {name: len(table.rows) for name, table in files.items()} == {
        "results": 8,
        "epochs": 2 * 2 * (3 + 5),
        "steps": 2 * 2 * (4 + 6),
        "sweeps": 2 * 3 * 25,
        "links": 2 * 3,
    }
    for table in files.values():
        assert {len(row) for row in table.rows} == {len(table.header)}
    save_tables(study.directory, arrays(study))
    text = (study.directory / "arrays" / "results.csv").read_text()
    assert text.startswith("schedule,budget,seed,test_error,trained")
    assert "nan" not in text
    errors = [float(row[3]) for row in files["results"].rows if row[:2] == ("actcoolr", 5)]
    assert errors == study.runs[3].errors.tolist()
    record = results_json(study)
    json.dumps(record, allow_nan=False)
    assert record["schedules"][3]["errors"] == errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 1}, "members must be >= 2"),
        ({"schedules": []}, "schedules is empty"),
        ({"schedules": "step"}, "schedules='step' must be a list of names"),
        ({"schedules": ["step", "step"]}, "must be different ones"),
        ({"every": 1}, "every=1 must be a whole number >= 2"),
        ({"sweeps": 1}, "sweeps=1 must be a whole number >= 2"),
        ({"budgets": [0]}, "budgets=0 must be a whole number >= 1"),
        ({"schedule": "cosine"}, "schedule='cosine' must be 'constant' here"),
        ({"target": 0.9}, "target=0.9 must be None here"),
        ({"budget": 3}, "unknown field 'budget'"),
    ],
)
def test_configs_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_configs_are_plain_json_and_back() -> None:
    config = tiny(schedules=["actcoolr: gamma=2", "step"])
    assert CoolingStudyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.schedules == ("actcoolr:gamma=2", "step")
    assert dataclasses.replace(config, budgets=()).budgets == (30,)


def test_too_short_a_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the smallest budget of 1 epochs has 5 steps, fewer than two intervals"):
        run_cooling_study(tiny(budgets=[1]), tmp_path / "run")
    assert not os.path.exists(tmp_path / "run")
