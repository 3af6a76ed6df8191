"""The experiment on activation-pattern temperatures: schedules, one training, runs on disk, and what comes of them."""

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
import torch
import torch.nn.functional as F
from torch import nn

from nnval import activation_temperature_training as training_module
from nnval.activation_temperature import run_cooling_study
from nnval.activation_temperature_arrays import arrays, results_json
from nnval.activation_temperature_schedules import OPTIONS, Schedule
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
from nnval.activation_temperature_training import ScheduledTraining
from nnval.drop_in.actcoolr import ActCooLR
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.feedforward_networks import mlp
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.engine.schedules import learning_rate_at
from nnval.experiment_files import save_tables
from nnval.measure.activation_patterns import pattern_temperature
from nnval.measure.pattern_counts import RateSweep
from theory.activation_temperature import CloglogLink, ErfLink, target_curve

TRAINING = {"model": "mlp", "hidden": [12], "train_size": 100, "batch_size": 20, "members": 2}
TINY = {"schedules": ["step", "actcoolr"], "budgets": [5], "every": 4, "samples": 20, "swept": ["step"], "sweeps": 3}


def tiny(**changes: Any) -> CoolingStudyConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in vars(TrainingConfig())}
    return CoolingStudyConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})


# ---- Schedules -------------------------------------------------------------------------------------------------------


def rates_of(schedule: str, steps: int, every: int = 4) -> list[float]:
    """Learning rates of all steps of a network that is not trained."""
    module, parsed = nn.Linear(2, 2), Schedule.parsed(schedule)
    optimizer = torch.optim.SGD(module.parameters(), lr=parsed.rate(0.5))
    scheduler, rates = parsed.on(optimizer, module, steps, every), []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def test_references_are_the_schedules_of_the_engine() -> None:
    # An epoch of one batch is a step.
    for schedule in ("constant", "cosine", "one_cycle"):
        config = TrainingConfig(schedule=schedule, learning_rate=0.5, epochs=20)
        expected = [learning_rate_at(config, epoch) for epoch in range(1, 21)]
        assert rates_of(schedule, 20) == pytest.approx(expected, rel=1e-12)
    assert rates_of("step", 8) == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005] * 2)
    assert rates_of("constant:lr=0.25", 2) == [0.25] * 2
    warm = TrainingConfig(schedule="one_cycle", learning_rate=0.4, epochs=30, warm_up=0.1)
    assert rates_of("one_cycle:lr=0.4,warm_up=0.1", 30) == pytest.approx(
        [learning_rate_at(warm, epoch) for epoch in range(1, 31)], rel=1e-12
    )


def test_labels_are_read_again() -> None:
    text = "actcoolr: t_start=3.17 ,lr_max=inf, link=cloglog, sigma=none,gamma=2,pattern=sample"
    schedule = Schedule.parsed(text)
    assert schedule.options["lr_max"] == math.inf
    assert schedule.options["sigma"] is None
    assert Schedule.parsed(schedule.label) == schedule
    assert not set(schedule.file_name) & set(':,=/ "')
    assert Schedule.parsed("actcoolr").label == "actcoolr"
    exact = Schedule.parsed("actcoolr:t_start=1.23456789,gamma=2.0")
    assert exact.label == "actcoolr:t_start=1.23456789,gamma=2"
    assert Schedule.parsed(exact.label) == exact


def test_options_are_those_of_actcoolr() -> None:
    import inspect

    assert set(OPTIONS) <= set(inspect.signature(ActCooLR.__init__).parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("polynomial", "'polynomial' must be one of constant, step, cosine, one_cycle, actcoolr"),
        ("cosine:gamma=2", "has no option 'gamma'; known are lr$"),
        ("actcoolr:gama=2", "has no option 'gama'"),
        ("actcoolr:gamma", "'gamma' must have the form option=value"),
        ("actcoolr:gamma=", "'gamma=' must have the form option=value"),
        ("actcoolr:gamma=1,gamma=2", "has 'gamma' twice"),
        ("constant:lr=0", "lr=0 must be a finite number > 0"),
        ("constant:lr=high", "lr=high must be a finite number > 0"),
        ("one_cycle:warm_up=1.5", "warm_up=1.5 must be the part"),
    ],
)
def test_schedules_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule.parsed(text)


@pytest.mark.parametrize("option", [*OPTIONS, "gamma=-1", "every=0", "lr_max=0"])
def test_options_out_of_range_are_refused_before_anything_is_trained(option: str) -> None:
    text = f"actcoolr:{option}" if "=" in option else f"actcoolr:{option}=high"
    name = option.partition("=")[0]
    found = {"t_start": "start"}.get(name, name)
    with pytest.raises(ValueError, match=f"^schedule {text!r}: {found}="):
        Schedule.parsed(text).check(0.1, 20, 4)
    with pytest.raises(ValueError, match=f"^{found}="):
        rates_of(text, 20)


# ---- One training ----------------------------------------------------------------------------------------------------


def images() -> ImageData:
    return load_data(tiny().training)


def training_of(schedule: str, sweep_steps: tuple[int, ...] = (), **changes: Any) -> ScheduledTraining:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = mlp((1, 8, 8), 10, (12,))
    parsed = Schedule.parsed(schedule)
    options: dict[str, Any] = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-3} | changes
    return ScheduledTraining(
        module,
        images(),
        parsed,
        **options,
        epochs=4,
        steps_per_epoch=5,
        every=4,
        samples=20,
        sweep_steps=sweep_steps,
    )


def batches(epoch: int) -> torch.Tensor:
    return torch.randperm(100, generator=torch.Generator().manual_seed(epoch)).view(5, 20)


def train(training: ScheduledTraining, epochs: int = 4) -> ScheduledTraining:
    for epoch in range(training.epoch, epochs):
        training.train_epoch(batches(epoch), None, epoch)
    return training


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_training_is_torchs_own_loop_and_its_measurements_those_of_its_steps(nesterov: bool) -> None:
    measured = train(training_of("actcoolr:t_start=1,sigma=1.2", (3, 7), nesterov=nesterov))
    twin, data = training_of("constant").module, images()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=nesterov)
    scheduler = ActCooLR(optimizer, twin, 20, every=4, t_start=1, sigma=1.2)
    rows, number = {row[0]: row for row in measured.measured}, 0
    assert sorted(rows) == [2, 6, 10, 14, 18]
    for epoch in range(4):
        twin.train()
        for batch in batches(epoch):
            number += 1
            inputs, rate = data.train.inputs(batch), optimizer.param_groups[0]["lr"]
            before = {name: each.detach().clone() for name, each in twin.named_parameters()}
            optimizer.zero_grad()
            F.cross_entropy(twin(inputs), data.train.labels[batch]).backward()
            optimizer.step()
            scheduler.step()
            if number in rows:
                assert rows[number][1] == rate
                assert rows[number][2] == float(pattern_temperature(twin, inputs, before, {}).temperature)
                target = float(target_curve(number / 20, 1.0, 1.0)) if number > 4 else None
                assert rows[number][5] == target
    for one, other in zip(measured.module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    summary = measured.summary()
    assert summary["share_at_cap"] == scheduler.last_metrics["apt/share_at_cap"]
    assert summary["sigma"] == 1.2
    assert summary["overhead"] > 0


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_a_sweep_repeats_the_step_that_was_made(
    monkeypatch: pytest.MonkeyPatch, momentum: float, nesterov: bool
) -> None:
    seen: list[float] = []
    original = training_module.lr_sweep

    def watched(model: nn.Module, inputs: Any, before: Any, direction: Any, rates: Any) -> Any:
        now = dict(model.named_parameters())
        assert before.keys() == direction.keys() == now.keys()
        for name, each in before.items():
            assert torch.allclose(each + 0.1 * direction[name], now[name], rtol=1e-5, atol=1e-7)
            assert not torch.allclose(each + 0.12 * direction[name], now[name], rtol=1e-5, atol=1e-7)
        seen.append(1.0)
        return original(model, inputs, before, direction, rates)

    monkeypatch.setattr(training_module, "lr_sweep", watched)
    swept = train(training_of("constant", (1, 8), momentum=momentum, nesterov=nesterov), 2)
    assert len(seen) == 2
    assert [each["step"] for each in swept.swept] == [1, 8]
    assert np.shape(swept.swept[0]["changed"]) == (25, 1)
    plain = train(training_of("constant", momentum=momentum, nesterov=nesterov), 2)
    for one, other in zip(swept.module.parameters(), plain.module.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("schedule", ["actcoolr", "actcoolr:link=cloglog,t_start=0.5", "step", "one_cycle", "cosine"])
def test_a_training_goes_on_from_its_state_with_the_same_bits(schedule: str) -> None:
    whole, half = train(training_of(schedule, (3, 17))), train(training_of(schedule, (3, 17)), 2)
    path = torch.serialization.io.BytesIO()
    torch.save(half.state_dict(), path)
    path.seek(0)
    resumed = training_of(schedule, (3, 17))
    resumed.load_state_dict(torch.load(path, weights_only=True))
    train(resumed)
    assert resumed.measured == whole.measured
    assert resumed.epochs_log == whole.epochs_log
    assert resumed.swept == whole.swept
    for one, other in zip(resumed.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_network_that_diverges_guesses_from_then_on() -> None:
    broken = train(training_of("constant:lr=1e30"), 1)
    assert broken.diverged
    assert broken.epochs_log[0][1] == 0.1
    assert math.isnan(broken.epochs_log[0][0])


def test_a_start_that_cannot_be_seen_is_told_with_the_schedule() -> None:
    with pytest.raises(ValueError, match=r"actcoolr:t_start=0\.001: the curve starts at T=0\.001 bits"):
        train(training_of("actcoolr:t_start=0.001"))


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
