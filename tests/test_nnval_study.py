"""A whole study on real data, small: predictions, measurements, resume, and that workers do not change results."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from nnval import perturbation
from nnval.engine.config import TrainingConfig
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.perturbation import run_study, with_comparisons
from nnval.study import StudyConfig, measured_speed_up
from nnval.study_tables import arrays, comparison_table, conclusions, facts, is_saved, save
from theory.estimate import Estimate

SMALL = {
    "training": {
        "members": 24,
        "epochs": 12,
        "train_size": 200,
        "label_noise": 0.0,
        "learning_rate": 0.2,
        "hidden": [16],
        "execution": "stacked",
    },
    "perturbations": {
        "full_reset": {"name": "full_reset"},
        "shrink_perturb": {"name": "shrink_perturb", "shrink": 0.7, "noise": 0.3},
    },
    "intervals": [4, 6],
    "branch_epochs": [4, 6],
    "follow": 6,
    "target": 0.87,
    "periodic_members": 16,
    "replicates": 200,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_study(StudyConfig.from_dict(SMALL), tmp_path_factory.mktemp("study"))


def test_every_measurement_has_its_predictions(study):
    assert [row[:3] for row in study.rows] == [
        (label, predictor, interval)
        for label, predictors in (("full_reset", ["restart"]), ("shrink_perturb", ["rare", "renewal"]))
        for interval in (4, 6)
        for predictor in predictors
    ]
    assert all(c.verdict in ("agrees", "disagrees", "outside regime") for c in study.comparisons)
    assert all(bool(c.reasons) == (c.verdict == "outside regime") for c in study.comparisons)


def test_children_are_the_survivors(study):
    protocol = study.protocols[1]
    for once in protocol.once:
        survivors = study.unperturbed.members[study.first_passages.times > once.epoch]
        assert once.ensemble.parents.tolist() == survivors.tolist()
        assert once.data.residuals.n == len(survivors)
    assert study.protocols[0].once == ()  # full resetting needs no survivors


def test_measured_and_unperturbed_runs_are_independent_and_equal_up_to_the_first_perturbation(study):
    """Before P nothing has acted, so both have the same law but not the same numbers."""
    plain = study.unperturbed.curves["validation_accuracy"][:, :4]
    perturbed = study.protocols[0].periodic[0].ensemble.curves["validation_accuracy"][:, :4]
    assert not np.isin(perturbed[:, 0], plain[:, 0]).all()
    difference = Estimate.from_samples(plain[:, 0]).value - Estimate.from_samples(perturbed[:, 0]).value
    assert abs(difference) < 5 * np.hypot(plain[:, 0].std() / 24**0.5, perturbed[:, 0].std() / 16**0.5)


def test_a_wrong_prediction_disagrees(study):
    """Negative control: predictions made for twice the interval are rejected where the true ones are not."""
    protocol = study.protocols[0]
    predictions = {p.interval: p for p in protocol.predictions["restart"]}
    wrong = dataclasses.replace(predictions[4].restricted_mean, value=0.5 * predictions[4].restricted_mean.value)
    shifted = tuple(dataclasses.replace(predictions[4], restricted_mean=wrong, reasons=()) for _ in range(1))
    changed = dataclasses.replace(protocol, predictions={"restart": shifted}, periodic=protocol.periodic[:1])
    judged = with_comparisons(dataclasses.replace(study, protocols=(changed,)))
    assert [c.verdict for c in judged.comparisons] == ["disagrees"]
    assert not judged.agrees


def test_second_call_reads_and_trains_nothing(study):
    files = {path: path.stat().st_mtime_ns for path in study.directory.rglob("*") if path.is_file()}
    again = run_study(study.config, study.directory)
    assert [c.predicted for c in again.comparisons] == [c.predicted for c in study.comparisons]
    assert files == {path: path.stat().st_mtime_ns for path in study.directory.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_workers_do_not_change_the_result(study, tmp_path):
    parallel = run_study(study.config, tmp_path / "study", workers=2)
    assert parallel.comparisons == study.comparisons


def test_a_stopped_study_goes_on(study, tmp_path):
    calls = 0

    def stop_later(done, total, text):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="run the same command again"):
        run_study(study.config, tmp_path / "study", progress=stop_later)
    resumed = run_study(study.config, tmp_path / "study")
    assert resumed.comparisons == study.comparisons


def test_progress_grows_and_ends_complete(study, tmp_path):
    seen = []
    run_study(study.config, tmp_path / "study", progress=lambda done, total, text: seen.append((done, total)))
    assert all(0 <= done <= total for done, total in seen)
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]


def test_diverged_networks_never_reach_the_target(study):
    ensemble = study.unperturbed
    status = ensemble.status.astype("U16")
    unfinished = int(np.flatnonzero(study.first_passages.times == 12)[0])
    status[unfinished] = "diverged"
    epochs = ensemble.epochs.copy()
    epochs[unfinished] = 3
    curves = {name: values.copy() for name, values in ensemble.curves.items()}
    curves["validation_accuracy"][unfinished, 3:] = np.nan
    diverged = dataclasses.replace(ensemble, status=status, epochs=epochs, curves=curves)
    passages = perturbation._first_passages(diverged, study.target)
    assert (passages.times[unfinished], passages.observed[unfinished]) == (12, False)
    assert passages.times.tolist() == study.first_passages.times.tolist()


def test_directory_of_another_study_is_refused(study):
    other = StudyConfig.from_dict(SMALL | {"target": 0.5})
    with pytest.raises(RunDirectoryError, match=r"target: 0.87 there, 0.5 asked for"):
        run_study(other, study.directory)


def test_target_is_the_median_best_accuracy_by_default(study, tmp_path):
    chosen = run_study(StudyConfig.from_dict({k: v for k, v in SMALL.items() if k != "target"}), tmp_path / "study")
    best = np.nanmax(chosen.unperturbed.curves["validation_accuracy"], axis=1)
    assert chosen.target == np.median(best)
    assert 0.3 < chosen.survival.values[-1] < 0.7


def test_target_that_all_reach_at_once_cannot_be_branched(tmp_path):
    with pytest.raises(ValueError, match=r"runs are unfinished at epoch 4.*raise the target"):
        run_study(StudyConfig.from_dict(SMALL | {"target": 0.01}), tmp_path / "study")


def test_divergence_is_reported(tmp_path):
    values = SMALL | {"training": SMALL["training"] | {"learning_rate": 1e20}}
    with pytest.raises(ValueError, match=r"members of unperturbed diverged.*lower learning_rate"):
        run_study(StudyConfig.from_dict(values), tmp_path / "study")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intervals": [0]}, "intervals=.* must be whole epochs from 1"),
        ({"intervals": [13]}, "horizon epochs=12"),
        ({"intervals": []}, "intervals"),
        ({"branch_epochs": [12]}, "must lie before the horizon"),
        ({"follow": 5}, "follow=5 must be >= P"),
        ({"target": 1.5}, r"target=1.5 must lie in \(0, 1\]"),
        ({"perturbations": {}}, "perturbations is empty"),
        ({"perturbations": {"a/b": {"name": "full_reset"}}}, "label 'a/b'"),
        ({"perturbations": {"x": {"name": "shake"}}}, "shake"),
        ({"periodic_members": 1}, ">= 2"),
        ({"replicates": 5}, "replicates=5"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"follow": 6.5}, "follow=6.5 must be a whole number"),
        ({"intervals": 5}, "intervals=5 must be a list"),
        ({"target": "high"}, "target='high' must be a number"),
        ({"perturbations": {"x": {"nome": "full_reset"}}}, "must be a table with a 'name'"),
    ],
)
def test_bad_configs(change, message):
    with pytest.raises(ValueError, match=message):
        StudyConfig.from_dict(SMALL | change)


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="missing field 'follow'"):
        StudyConfig.from_dict({k: v for k, v in SMALL.items() if k != "follow"})


def test_config_round_trip():
    config = StudyConfig.from_dict(SMALL)
    assert StudyConfig.from_dict(config.to_dict()) == config
    assert isinstance(config.training, TrainingConfig)


def test_tables_say_what_the_study_found(study, tmp_path):
    table, notes = comparison_table(study)
    assert len(table.rows) == len(study.comparisons)
    for row in table.rows:
        if "outside regime" in row[-1]:
            assert row[-1].endswith("]")
    assert all(note.startswith(f"[{k + 1}]") for k, note in enumerate(notes))
    assert any("validation accuracy >= 0.87" in text for _, text in facts(study))
    assert any("easured" in line for line in conclusions(study))
    assert set(arrays(study)) >= {"survival", "predictions", "measurements", "residual_survival"}


def test_saved_arrays_hold_every_number(study):
    save(study)
    assert is_saved(study.directory)
    records = json.loads((study.directory / "comparisons.json").read_text())
    assert [r["measured"] for r in records] == [c.measured.value for c in study.comparisons]
    with (study.directory / "arrays" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    restart = [row for row in rows if row["predictor"] == "restart"]
    assert [int(row["interval"]) for row in restart] == list(range(1, 13))
    assert float(restart[3]["restricted_mean"]) == study.protocols[0].predictions["restart"][3].restricted_mean.value


def test_speed_up_is_a_ratio_of_restricted_means(study):
    run = study.protocols[0].periodic[0]
    ratio = measured_speed_up(study, run)
    assert ratio.value == study.survival.restricted_mean(12).value / run.survival.restricted_mean(12).value
    assert ratio.standard_error > 0
