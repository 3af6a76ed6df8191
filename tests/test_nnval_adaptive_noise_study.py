"""Noises and optimizers beside each other: statistics, configs, and runs on disk."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnval.adaptive_noise import run_noise_study
from nnval.adaptive_noise_methods import METHODS, methods_of
from nnval.adaptive_noise_statistics import (
    CLAIMS,
    FINDINGS,
    detrended_variation,
    epochs_to_target,
    method_differences,
    pairs_of,
    variation,
)
from nnval.adaptive_noise_study import FIRST_TUNING_SEED, QUANTITIES, NoiseStudy, NoiseStudyConfig
from nnval.adaptive_noise_tables import claims_table, conclusions, differences_table, rates_table, time_table
from nnval.engine.config import TrainingConfig
from nnval.engine.run_directory import RunDirectoryError
from nnval.paired_differences import PairedDifference
from sim.random_streams import stream
from tests.noise_studies import TINY, tiny
from theory.noise_schedule import injected
from theory.survival import FirstPassages, Survival
from theory.training_phases import PHASES, phase_path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> NoiseStudy:
    return run_noise_study(tiny(), tmp_path_factory.mktemp("noise") / "run")


# ---- Statistics ------------------------------------------------------------------------------------------------------


def test_variation_is_that_of_numpy() -> None:
    losses = stream(0, "losses").uniform(1, 2, size=(3, 20))
    assert variation(losses) == pytest.approx(100 * losses.std(axis=1, ddof=1) / losses.mean(axis=1), rel=1e-12)
    # Divergence is no stability.
    losses[1, 3] = np.nan
    assert np.isnan(variation(losses)).tolist() == [False, True, False]


def test_detrended_variation_is_that_of_a_fitted_line() -> None:
    losses = stream(0, "losses").uniform(1, 2, size=(4, 20)) + np.linspace(3, 0, 20)
    time = np.arange(20)
    for found, row in zip(detrended_variation(losses), losses, strict=True):
        _, squares, *_ = np.polyfit(time, row, 1, full=True)
        assert found == pytest.approx(100 * np.sqrt(squares[0] / 18) / row.mean(), rel=1e-10)
    # A trend is no instability, but for the plain one it is.
    line = np.linspace(2, 1, 20)[None]
    assert detrended_variation(line)[0] < 1e-10 < 20 < variation(line)[0]


def test_restricted_means_are_those_of_kaplan_and_meier() -> None:
    accuracy = stream(1, "accuracy").uniform(size=(30, 8))
    passages = FirstPassages.from_curves(accuracy, 0.8)
    assert not passages.observed.all()
    restricted = Survival.of(passages).restricted_mean(8)
    assert epochs_to_target(accuracy, 0.8).mean() == pytest.approx(restricted.value, rel=1e-12)


def differences(values: dict[str, Any], pairs: list[tuple[str, str]]) -> tuple[PairedDifference, ...]:
    return method_differences({"epochs": lambda name: np.array(values[name], dtype=float)}, pairs)


def test_differences_are_those_of_pairs_and_corrected_together() -> None:
    noise = stream(2, "noise").normal(size=(4, 8))
    seeds = 50 * np.arange(8.0)  # seeds differ by more than methods do
    values = {"a": seeds + 0.3 * noise[0] + 5, "b": seeds + 0.3 * noise[1], "c": seeds + 0.3 * noise[2]}
    better, nothing = differences(values, [("a", "b"), ("c", "b")])
    assert better.shown
    assert better.difference.value == pytest.approx((values["a"] - values["b"]).mean())
    assert not nothing.shown
    # The control: without pairs the seeds hide it.
    values["b"] = np.roll(values["b"], 1)
    assert not differences(values, [("a", "b")])[0].shown
    # What is shown alone is not shown as one of many.
    small = {"a": np.array([1.0, 2, 3, 2, 1, 2]), "b": np.zeros(6), **{str(k): np.arange(6.0) for k in range(20)}}
    assert differences(small, [("a", "b")])[0].shown
    assert not differences(small, [("a", "b"), *((str(k), "0") for k in range(20))])[0].shown


def test_equal_differences_of_few_seeds_show_nothing() -> None:
    (found,) = differences({"a": [4, 5, 6, 7, 8], "b": [5, 6, 7, 8, 9]}, [("a", "b")])
    assert found.comparison.p_value == 2**-4  # Student's t would be infinite
    assert not found.shown
    (many,) = differences({"a": np.arange(8.0), "b": np.arange(8.0) + 1}, [("a", "b")])
    assert many.comparison.p_value == 2**-7
    assert many.shown
    # One image of 280, in percent: not quite the same number for each seed.
    right = np.array([261, 270, 265, 274])
    accuracies = {"a": 100 * ((right + 1) / 280), "b": 100 * (right / 280)}
    assert np.ptp(accuracies["a"] - accuracies["b"]) > 0
    (found,) = differences(accuracies, [("a", "b")])
    assert found.comparison.p_value == 2**-3
    assert not found.shown


def test_no_interval_where_all_seeds_agree(study: NoiseStudy) -> None:
    missed = dataclasses.replace(study, config=dataclasses.replace(study.config, target_accuracy=1.0))
    runs = [
        dataclasses.replace(each, validation_accuracy=np.full_like(each.validation_accuracy, 0.3))
        for each in study.runs
    ]
    rows = time_table(dataclasses.replace(missed, runs=tuple(runs))).rows
    assert [row[5] for row in rows[1:]] == ["1.00 (-)"] * (len(rows) - 1)
    alike = differences({"full": [5, 5, 5], "baseline": [5, 5, 5]}, [("full", "baseline")])
    found = dataclasses.replace(study, differences=alike)
    assert differences_table(found).rows[0][2] == "+0.00 +- - "
    (claim,) = claims_table(found).rows
    assert claim[2:4] == ("+0.00", "-")


def test_seeds_of_which_one_is_not_known_are_left_out() -> None:
    (found,) = differences({"a": [1, 2, np.nan, 4], "b": [0, 0, 0, np.nan]}, [("a", "b")])
    assert found.difference.n == 2
    assert differences({"a": [1, np.nan], "b": [0, 0]}, [("a", "b")]) == ()


def test_claims_are_about_pairs_that_are_compared() -> None:
    for schedule in ("constant", "cosine"):
        config = tiny(methods=METHODS, schedule=schedule, equal_noise=False)
        names = [method.name for method in config.trained]
        pairs = pairs_of(names, config.same_as("sgd"), "fixed")
        assert len(set(pairs)) == len(pairs)
        for claim in CLAIMS:
            assert (config.same_as(claim.method), config.same_as(claim.reference)) in pairs
            assert claim.quantity in QUANTITIES
    claim = next(each for each in CLAIMS if each.sign < 0)
    rng = stream(3, "noise")
    for mean, finding in ((-5.0, "supported"), (5.0, "the opposite"), (0.0, "not decided")):
        (found,) = differences({"a": mean + rng.normal(size=9), "b": np.zeros(9)}, [("a", "b")])
        assert claim.finding(found) == finding


# ---- Methods and config ----------------------------------------------------------------------------------------------


def test_an_sgd_baseline_of_the_same_schedule_is_trained_once() -> None:
    for schedule, missing in (("constant", "sgd"), ("cosine", "cosine"), ("one_cycle", None)):
        config = tiny(methods=METHODS, schedule=schedule, equal_noise=False)
        names = [method.name for method in config.trained]
        assert [name for name in METHODS if name not in names] == ([missing] if missing else [])
        assert config.same_as("sgd") in names
    fair = methods_of(METHODS, TrainingConfig(), equal_noise=True, fixed_is_equal=False)
    assert [method.name for method in fair if method.equal] == [
        "fixed_equal",
        "phase_only_equal",
        "schedule_only_equal",
        "full_equal",
    ]


def test_grids_are_equally_large() -> None:
    config = tiny(rate_factors=[0.1, 1, 10], adam_learning_rate=0.002)
    grids = {method.name: config.rates(method) for method in config.trained}
    assert grids["adam"] == (0.0002, 0.002, 0.02)
    assert {grids[name] for name in grids if name != "adam"} == {(0.005, 0.05, 0.5)}


def test_tuning_seeds_are_other_ones() -> None:
    config = tiny(tuning_seeds=3)
    assert not set(config.tuning_members) & set(config.members)
    assert len(config.tuning_members) == 3
    assert not tiny(rate_factors=[1.0]).tuning_members


def test_config_round_trip() -> None:
    config = tiny(noise={"thresholds": {"variance_high": 0.6}, "epsilon": [1, 2, 3]}, budget=0.5)
    again = NoiseStudyConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.noise.machine().thresholds.variance_high == 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["fixed"]}, "must be baseline and others"),
        ({"methods": ["baseline", "rmsprop"]}, "must be baseline and others"),
        ({"methods": ["baseline", "sgd"]}, "are one and the same"),
        ({"members": 1}, "members must be >= 2"),
        ({"first_member": FIRST_TUNING_SEED - 1}, "seeds must be below 1000000"),
        ({"optimizer": "adam", "momentum": 0.0}, "optimizer='adam' must be 'sgd' here"),
        ({"target": 0.9}, "target=0.9 must be None here"),
        ({"rate_factors": []}, "must be ascending, at least one"),
        ({"rate_factors": [2, 1]}, "must be ascending, at least one"),
        ({"rate_factors": [0, 1]}, "must be a list of numbers > 0"),
        ({"adam_learning_rate": 0}, "adam_learning_rate=0 must be a number > 0"),
        ({"target_accuracy": 1.5}, r"target_accuracy=1.5 must be a number in \(0, 1\]"),
        ({"last_epochs": 6}, "last_epochs=6 must be at most epochs=5"),
        ({"last_epochs": 2}, "last_epochs=2"),
        ({"tuning_seeds": 0}, "tuning_seeds=0"),
        ({"budget": -1.0}, "budget=-1.0 must be a number from 1e-40 to 1e\\+40"),
        ({"budget": 1e300}, "budget=1e\\+300 must be a number from 1e-40 to 1e\\+40"),
        ({"noise": {"epsilon": [0, 0.1, 0.03]}}, "the high epsilon is 0, so that schedule_only has no noise"),
        ({"rate_factors": [1e-330, 1.0]}, "must be a list of numbers > 0"),
        ({"rate_factors": [1e-323, 1.0]}, "learning rates of baseline would be 0.0, "),
        ({"rate_factors": [1.0, 1e308], "adam_learning_rate": 1e9}, "learning rates of adam would be .*inf"),
        ({"rate_factors": [1.0, 1.00000001]}, "must be finite, > 0 and different"),
        ({"equal_noise": "yes"}, "equal_noise='yes' must be true or false"),
        ({"noise": {"mode": "sgld"}}, "no budget of epsilon\\^2 makes noises equal"),
        ({"noise": {"epsilon": [0.1, 0, 0]}}, "the medium epsilon is 0"),
        ({"noise": {"epsilon": [0.1]}}, "must be three numbers"),
        ({"noise": {"mode": "loud"}}, "mode='loud' must be one of"),
        ({"noise": {"metric": "loss"}}, "metric='loss' must be one of"),
        ({"noise": {"thresholds": {"tau": 1}}}, "must be a table with some of variance_high"),
        ({"noise": {"thresholds": {"variance_high": 2}}}, "variance_high=2"),
        ({"noise": {"loudness": 1}}, "unknown field noise.loudness"),
        ({"noise": {"horizon": 1}}, "horizon=1"),
        ({"noise": {"monotone": 1}}, "monotone=1 must be true or false"),
        ({"noise": 1}, "noise=1 must be a table"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


# ---- Studies ---------------------------------------------------------------------------------------------------------


def test_rates_are_chosen_by_other_seeds(study: NoiseStudy) -> None:
    assert sorted(path.name for path in (study.directory / "tuning").iterdir()) == [str(FIRST_TUNING_SEED)]
    assert sorted(path.name for path in (study.directory / "seeds").iterdir()) == ["0000", "0001"]
    for runs in study.runs:
        directory = study.directory / "tuning" / str(FIRST_TUNING_SEED) / runs.method.name
        logs = {rate: json.loads((directory / f"{rate:g}.json").read_text())["log"] for rate in runs.choice.rates}
        ends = {rate: np.mean([row[2] for row in log[-3:]]) for rate, log in logs.items()}
        assert runs.rate == max(ends, key=lambda rate: ends[rate])
        record = json.loads((study.directory / "seeds" / "0001" / f"{runs.method.name}.json").read_text())
        assert record["learning_rate"] == runs.rate
        assert runs.choice.at_edge  # of two
    assert any("edge of the grid" in line for line in conclusions(study))
    assert len(rates_table(study).rows) == len(study.runs)


def test_noise_in_all_is_equal_only_in_the_control(study: NoiseStudy) -> None:
    budget = study.config.mean_square
    assert budget == pytest.approx(0.01)
    assert study.of("fixed").mean_square == pytest.approx(budget, rel=1e-12)
    # This one does not depend on phases, so that the budget is met.
    assert study.of("schedule_only_equal").mean_square == pytest.approx(budget, rel=1e-12)
    assert (study.of("schedule_only").mean_square > 2 * budget).all()
    for k, member in enumerate(study.config.members):
        found = json.loads((study.directory / "seeds" / f"{member:04d}" / "baseline.json").read_text())["noise"]
        path = phase_path([(step, phase) for step, phase in found["changes"]], found["steps"])
        own = injected(study.config.noise.schedule("full"), path) / len(path)
        # Along the path of the baseline; noise may move the phases a little.
        ratio = study.of("full").mean_square[k] / study.of("full_equal").mean_square[k]
        assert ratio == pytest.approx(own / budget, rel=0.3)


def test_results_have_one_row_for_each_seed(study: NoiseStudy) -> None:
    for runs in study.runs:
        assert runs.validation_accuracy.shape == (2, 5)
        assert (np.diff(runs.seconds) > 0).all()
        assert (runs.best_epoch == 1 + runs.validation_accuracy.argmax(axis=1)).all()
        at_end = runs.best_epoch == 5
        assert (runs.test_accuracy[at_end] == runs.best_test_accuracy[at_end]).all()
        if runs.method.noise is not None:
            assert runs.phases.sum(axis=2) == pytest.approx(1.0)
            assert runs.thirds.shape == (2, 3, len(PHASES))
            weights = np.array([2, 2, 1])[:, None] / 5  # of five epochs
            assert (runs.thirds * weights).sum(axis=1) == pytest.approx(runs.phases.mean(axis=1))
        else:
            assert np.isnan(runs.thirds).all()
    assert study.ratio(study.of("full"), study.of("full")).value == 1.0
    assert len(differences_table(study).rows) == len(pairs_of([r.method.name for r in study.runs], "baseline", "fixed"))
    assert {row[5] for row in claims_table(study).rows} <= set(FINDINGS)
    with pytest.raises(ValueError, match="method='rmsprop' must be one of baseline"):
        study.of("rmsprop")


def test_seconds_are_restricted_to_what_all_runs_saw(study: NoiseStudy) -> None:
    horizon = min(runs.seconds[:, -1].min() for runs in study.runs)
    for runs in study.runs:
        seconds = study.seconds_to_target(runs)
        assert (seconds <= horizon).all()
        missed = ~study.passages(runs).observed
        assert (seconds[missed] == horizon).all()


def test_methods_targets_and_the_control_are_added_later(study: NoiseStudy) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in study.directory.rglob("*.json")}
    again = run_noise_study(tiny(methods=[*TINY["methods"], "cosine"], target_accuracy=0.6), study.directory)
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    assert len(again.runs) == len(study.runs) + 1
    assert again.of("full").rate == study.of("full").rate
    with pytest.raises(RunDirectoryError, match="another config"):
        run_noise_study(tiny(tuning_seeds=2), study.directory)
    with pytest.raises(RunDirectoryError, match="another config"):
        run_noise_study(tiny(noise={}), study.directory)


def test_divergence_is_a_result(tmp_path: Path) -> None:
    config = tiny(learning_rate=1e9, rate_factors=[1.0], equal_noise=False, methods=["baseline", "fixed", "adam"])
    found = run_noise_study(config, tmp_path / "run")
    wild, tame = found.of("baseline"), found.of("adam")
    assert wild.diverged.all()
    assert not tame.diverged.any()
    assert (wild.test_accuracy == 0.1).all()
    assert np.isnan(found.values(wild, "cv")).all()
    assert np.isnan(found.values(wild, "cv_error")).all()
    assert (found.values(wild, "epochs") == 5).all()  # known to have survived
    assert not any(each.quantity == "cv" and each.method == "fixed" for each in found.differences)
    assert any("2 of 2 runs diverged" in line for line in conclusions(found))
    assert [row[1] for row in time_table(found).rows][:2] == ["0 of 2", "0 of 2"]
