"""Temperatures of a linear network by theory, responses of twins, what is compared, and runs on disk."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from nnval import paired_trainings
from nnval.effective_temperature import run_effective_temperature
from nnval.effective_temperature_findings import (
    findings_of,
    rank_correlation,
    theory_comparisons,
    widths_when_stopped,
)
from nnval.effective_temperature_study import (
    MEASURED,
    STOPS,
    WIDTHS,
    ConditionResult,
    EffectiveTemperature,
    EffectiveTemperatureConfig,
)
from nnval.effective_temperature_tables import conclusions
from nnval.engine.run_directory import Interrupted, RunDirectoryError
from nnval.measure.batch_gradients import BatchGradients, Loss
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.example_variance import example_variance
from nnval.measure.field_response import Heat, HeatMeasurement, PredictedHeat, predicted_heat
from nnval.measure.full_loss import FullLoss
from nnval.measure.parallel_descent import ParallelDescent
from sim.random_streams import stream
from theory.estimate import Estimate, agreement
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall

TRAINING = {
    "train_size": 60,
    "validation_size": 30,
    "hidden": [8],
    "learning_rate": 0.2,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "batch_size": 12,
    "epochs": 6,
    "members": 2,
}
TINY = {
    "training": TRAINING,
    "orders": ["with_replacement", "reshuffled", "persistent"],
    "batch_sizes": [12],
    "measure_every": 4,
    "early": 4,
    "rest": 5,
    "directions": 2,
    "runs": 2,
    "burn_in": 5,
    "window": 10,
    "windows": 3,
    "field": 0.1,
}


def tiny(**changes: Any) -> EffectiveTemperatureConfig:
    training = {name: changes.pop(name) for name in list(changes) if name in TRAINING or name == "schedule"}
    return EffectiveTemperatureConfig.from_dict({**TINY, **changes, "training": {**TRAINING, **training}})


# ---- Linear regression: theory is exact ------------------------------------------------------------------------------

SAMPLES, BATCH, RUNS, LAGS = 60, 6, 200, (1, 4, 15, 33)
RATE, MOMENTUM = 0.1, 0.5
STIFFNESS = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)


def stiff_squares(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (STIFFNESS * (outputs - labels) ** 2).sum() / 2


def stiff_forces(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Samples without a curvature, which only weight decay makes: that of batches of any size is the same."""
    return -(STIFFNESS * outputs * labels).sum()


def regression(seed: int, order: str, *, loss: Loss = stiff_squares, decay: float = 0.0) -> tuple[Heat, PredictedHeat]:
    """Three outputs on one constant input, whose Hessian every sample shares, begun at their minimum."""
    inputs = torch.ones(SAMPLES + 1, 1, dtype=torch.float64)
    inputs[-1] = 0  # for padding
    labels = torch.from_numpy(stream(seed, "labels").normal(1, 1, size=(SAMPLES + 1, 3)))
    labels[-1] = 0
    module = nn.Linear(1, 3, bias=False).double()
    best = labels[:-1].mean(0) * (STIFFNESS / decay if decay else 1.0)
    of_batches = BatchOrder.parsed(order)
    descent = ParallelDescent(
        BatchGradients(module, inputs, labels, loss=loss, dtype=torch.float64),
        of_batches,
        BATCH,
        [lambda run=run: stream(seed, f"batches/{order}", run) for run in range(RUNS)],
        best.repeat(RUNS, 1),
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=decay,
    )
    for _ in range(40):
        descent.step()
    axes = torch.eye(3, dtype=torch.float64)
    measurement = HeatMeasurement(
        descent, axes, np.array([0.3, 0.1, 0.05]), 35, lambda window: stream(seed, f"signs/{order}", window)
    )
    for _ in range(2):
        measurement.run_window()
    full = FullLoss(module, inputs[:-1], labels[:-1], loss=loss)
    curvature = full.product(best, axes).diagonal().numpy() + decay
    variance = example_variance(full, best, axes, about_zero=not of_batches.same_size)
    modes, noise = HeavyBall(RATE, curvature, MOMENTUM), of_batches.noise(SAMPLES, BATCH)
    return measurement.result(), predicted_heat(modes, noise, variance, LAGS)


@pytest.mark.parametrize(
    ("order", "other"),
    [
        ("with_replacement", "reshuffled"),
        ("reshuffled", "with_replacement"),
        ("shuffled_once", "with_replacement"),
    ],
)
def test_linear_networks_have_the_temperature_of_theory(order: str, other: str, seed: int) -> None:
    """At all lags, within 4 standard errors, and the temperature of another order is rejected where they differ."""
    heat, predicted = regression(seed, order)
    wrong = predicted_heat(
        HeavyBall(RATE, STIFFNESS.numpy(), MOMENTUM),
        BatchOrder(other).noise(SAMPLES, BATCH),
        np.ones(3),
        LAGS,
    )
    right = predicted_heat(
        HeavyBall(RATE, STIFFNESS.numpy(), MOMENTUM), BatchOrder(order).noise(SAMPLES, BATCH), np.ones(3), LAGS
    )
    rejected = []
    for number, lag in enumerate(LAGS):
        # Responses do not know about the noise: the Hessian of all batches is the same.
        assert np.allclose(heat.responses[:, lag], predicted.responses[number], rtol=1e-9)
        assert np.allclose(heat.half_responses[:, lag], predicted.responses[number], rtol=1e-9)
        found = Estimate.ratio_of_columns(heat.fluctuations([lag])[:, 0], heat.responses[:, lag])
        assert np.allclose([each.value for each in found], heat.temperatures([lag])[0])
        for column, each in enumerate(found):
            expected = predicted.temperatures[number, column]
            assert abs(each.value - expected) < 4 * each.standard_error
            if lag >= 15:
                of_other = expected * wrong.temperatures[number, column] / right.temperatures[number, column]
                rejected.append(abs(each.value - of_other) > 6 * each.standard_error)
    # One order for good is as hot as white noise along some directions.
    assert any(rejected) if order == "shuffled_once" else all(rejected)
    samples = heat.fluctuations([33])[:, 0, 1] / predicted.responses[3, 1]
    assert agreement(samples, predicted.temperatures[3, 1])
    assert (heat.drift < 0.05).all()


def test_persistent_batches_have_the_temperature_of_theory(seed: int) -> None:
    """Of forces that do not depend on the weights: from lag 1 to 33 the temperature rises by a factor of 3."""
    order = "persistent:entry_probability=0.02"
    heat, predicted = regression(seed, order, loss=stiff_forces, decay=0.5)
    assert (predicted.temperatures[-1] > 2.5 * predicted.temperatures[0]).all()
    found = [Estimate.ratio_of_columns(heat.fluctuations([lag])[:, 0], heat.responses[:, lag]) for lag in LAGS]
    for number, lag in enumerate(LAGS):
        assert np.allclose(heat.responses[:, lag], predicted.responses[number], rtol=1e-9)
        for column, each in enumerate(found[number]):
            expected = predicted.temperatures[number, column]
            assert abs(each.value - expected) < 4 * each.standard_error
            # About the mean gradient instead of about zero, half of it: sizes of batches fluctuate.
            assert abs(each.value - expected / 2) > 6 * each.standard_error


def test_temperature_of_white_noise_is_the_same_at_all_lags() -> None:
    """eta sigma^2 / (2 (1 - beta)), also near the stability bound; that of one-sided differences is not."""
    modes = HeavyBall(0.1, np.array([0.3, 5.0, 28.0]), 0.5)
    found = predicted_heat(modes, WhiteNoise(2.0), np.ones(3), range(1, 40))
    assert np.allclose(found.temperatures, 0.1 * 2.0 / (2 * 0.5), rtol=1e-9)
    # The long-lag limit: lambda (C(0) - Var(v) / 4).
    cold = predicted_heat(HeavyBall(0.1, np.array([2.0]), 0.0), Reshuffled(5, 1.0), np.ones(1), [400])
    from theory.weight_variance import stationary_variances

    variances = stationary_variances(HeavyBall(0.1, np.array([2.0]), 0.0), Reshuffled(5, 1.0))
    assert cold.temperatures[0, 0] == pytest.approx(2.0 * (variances.weight[0] - variances.velocity[0] / 4), rel=1e-9)
    assert cold.responses[0, 0] == pytest.approx(1 / 2.0, rel=1e-9)


# ---- Several networks beside each other ------------------------------------------------------------------------------


def test_padded_batches_are_those_of_the_order() -> None:
    """Persistent batches, beside each other, against a loop over each by itself with torch's optimizer."""
    order = BatchOrder("persistent", entry_probability=0.1)
    inputs = torch.randn(21, 3, generator=torch.Generator().manual_seed(0)).double()
    inputs[-1] = 0
    labels = torch.ones(21, 1).double()
    labels[-1] = 0
    module = nn.Linear(3, 1, bias=False).double()

    def squares(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return ((outputs - wanted) ** 2).sum() / 2

    def made() -> ParallelDescent:
        return ParallelDescent(
            BatchGradients(module, inputs, labels, loss=squares, dtype=torch.float64),
            order,
            5,
            [lambda run=run: stream(0, "runs", run) for run in range(2)],
            torch.zeros(2, 3, dtype=torch.float64),
            learning_rate=0.05,
            momentum=0.3,
            weight_decay=0.1,
        )

    descent = made()
    for _ in range(10):
        descent.step()
    for run in range(2):
        weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=0.05, momentum=0.3, weight_decay=0.1)
        epochs = order.epochs(20, 5, stream(0, "runs", run))
        for batch in [*next(epochs), *next(epochs), *next(epochs)][:10]:
            optimizer.zero_grad()
            (((inputs[batch] @ weight - 1) ** 2).sum() / 10).backward()
            optimizer.step()
        assert torch.allclose(descent.weights[run], weight.detach(), rtol=1e-12)
    # And on from a state in the middle of an epoch, with a copy of one of them.
    descent.copy_rows([1, 1])
    other = made()
    other.load_state_dict(descent.state_dict())
    for each in (descent, other):
        for _ in range(7):
            each.step()
    assert torch.equal(descent.weights, other.weights)
    assert torch.equal(descent.weights[0], descent.weights[1])


def test_bad_fields() -> None:
    gradients = BatchGradients(nn.Linear(1, 1), torch.ones(5, 1), torch.ones(5, 1))
    descent = ParallelDescent(
        gradients, BatchOrder(), 2, [lambda: stream(0, "x")], torch.zeros(1, 2), learning_rate=0.1
    )
    with pytest.raises(ValueError, match="must be 2 finite numbers > 0"):
        HeatMeasurement(descent, torch.eye(2), np.array([0.1, 0.0]), 5, lambda _: stream(0, "signs"))


# ---- What is compared ------------------------------------------------------------------------------------------------


def made_up(order: str, size: int, heat: float, **curves: Any) -> ConditionResult:
    """Six seeds, four epochs: the loss falls, and the width rises with the time."""
    ones = np.ones((6, 4))
    rng = stream(0, order, size)
    found = {name: ones * rng.normal(1, 1e-3, size=(6, 4)) for name in MEASURED}
    found["train_loss"] = ones * np.array([2.0, 0.5, 0.1, 0.05])
    found["train_error"] = ones * np.array([0.9, 0.1, 0.0, 0.0])
    found["margin"] = ones * np.array([-1.0, 0.0, 0.3, 0.4])
    found |= {name: ones * values for name, values in curves.items()}
    slope = np.full((6, 2), heat) * rng.normal(1, 0.01, size=(6, 2))
    near_one = rng.normal(1, 0.01, size=(3, 6))
    return ConditionResult(
        order, size, found, {name: values[:, -1] for name, values in found.items()}, slope[:, :1], slope[:, :1], slope,
        slope * near_one[0][:, None], near_one[1], near_one[2], np.full(6, 0.01),
        np.zeros(6, dtype=int),
    )  # fmt: skip


def test_widths_at_each_stop() -> None:
    slow = {"train_loss": np.array([2.0, 1.0, 0.5, 0.2]), "train_error": np.array([0.9, 0.5, 0.1, 0.1])}
    conditions = [made_up("reshuffled", 5, 1.0), made_up("persistent", 5, 9.0, **slow)]
    found = widths_when_stopped(conditions, (0, 10, 20, 30), early=8)
    assert set(found) == {(stop, width) for stop in STOPS for width in WIDTHS}
    margin = {stop: found[stop, "margin"] for stop in STOPS}
    assert np.allclose(margin["early"], 0.0)  # epoch 10
    assert np.allclose(margin["late"], 0.4)
    # The loss that both come to is 0.2; one gets there at its end, the other between its second and third measurement.
    share = np.log(0.5 / 0.2) / np.log(0.5 / 0.1)
    assert np.allclose(margin["equal_loss"][0], 0.3 * share)
    assert np.allclose(margin["equal_loss"][1], 0.4)
    assert np.allclose(margin["zero_error"][0], 0.3)
    assert np.isnan(margin["zero_error"][1]).all()


def test_rank_correlations_are_spearmans() -> None:
    rng = stream(0, "ranks")
    for _ in range(5):
        x, y = rng.integers(0, 6, size=(2, 9)).astype(float)
        assert rank_correlation(x, y) == pytest.approx(np.asarray(scipy.stats.spearmanr(x, y))[0])
    assert rank_correlation(np.array([1.0, np.nan, 2.0]), np.array([3.0, 9.0, 1.0])) == -1.0
    assert rank_correlation(np.array([1.0, np.nan]), np.array([3.0, 9.0])) is None
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_what_rises_with_heat_is_shown_and_what_does_not_is_not() -> None:
    hot = {("reshuffled", 5): 1.0, ("reshuffled", 10): 0.5, ("persistent", 5): 9.0, ("persistent", 10): 4.0,
           ("with_replacement", 5): 2.0, ("with_replacement", 10): 1.5}  # fmt: skip
    conditions = [made_up(*name, heat, distance=heat, margin=-heat) for name, heat in hot.items()]
    stops = widths_when_stopped(conditions, (0, 10, 20, 30), early=10)
    found = {(each.question, each.quantity): each for each in findings_of(conditions, stops)}
    for case in ("all conditions", "over orders, at equal batch size", "over batch sizes, in equal order"):
        risen = found["replicas", f"distance of weights, {case}"]
        assert risen.estimate.value > 0.95
        assert risen.shown
        assert not found["replicas", f"share of different predictions, {case}"].shown
    assert found["margin", "late"].shown
    assert found["margin", "late"].estimate.value < -0.95
    assert not found["input_distance", "late"].shown
    assert found["margin", "late"].estimate.n == 6


def test_theory_is_judged_beyond_its_tolerance_and_where_it_holds() -> None:
    good = made_up("reshuffled", 5, 1.0)
    off = dataclasses.replace(good, order="persistent", response=1.6 * good.response)
    moving = dataclasses.replace(off, order="with_replacement", drift=np.full(6, 0.5))
    dumb = dataclasses.replace(off, order="shuffled_once", unanswered=np.array([0, 0, 2, 0, 0, 0]))
    compared = theory_comparisons([good, off, moving, dumb], 0.1)
    found = {each.quantity: each.verdict for each in compared}
    assert {found[f"{name}, shuffled_once, S=5"] for name in ("temperature", "response", "linearity")} == {
        "outside regime"
    }
    assert any(
        "2 directions without the response of a minimum" in reason for each in compared for reason in each.reasons
    )
    assert found["response, reshuffled, S=5"] == found["temperature, persistent, S=5"] == "agrees"
    assert found["response, persistent, S=5"] == "disagrees"
    assert found["response, with_replacement, S=5"] == "outside regime"
    assert found["linearity, with_replacement, S=5"] == "agrees"


# ---- The experiment --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EffectiveTemperature:
    return run_effective_temperature(tiny(), tmp_path_factory.mktemp("heat") / "run")


def same(first: EffectiveTemperature, second: EffectiveTemperature) -> bool:
    arrays = ("temperature", "predicted_temperature", "slope", "predicted_slope", "response", "linearity", "drift")
    pairs = list(zip(first.conditions, second.conditions, strict=True))
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in arrays) and all(
        np.array_equal(a.curves[name], b.curves[name]) and np.array_equal(a.rest[name], b.rest[name])
        for a, b in pairs
        for name in MEASURED
    )


def test_what_is_measured(result: EffectiveTemperature) -> None:
    assert result.config.epochs == (0, 4, 6)
    assert [(each.order, each.batch_size) for each in result.conditions] == list(result.config.conditions)
    first = result.conditions[0]
    for each in result.conditions:
        assert all(each.curves[name].shape == (2, 3) and each.rest[name].shape == (2,) for name in MEASURED)
        assert each.temperature.shape == each.predicted_temperature.shape == (2, len(result.config.lags))
        assert (each.curves["distance"][:, 0] == 0).all()
        assert (each.curves["distance"][:, 1:] > 0).all()
        assert (each.slope[:, 0] > 0).all()
        assert np.allclose(each.temperature[:, 0], each.slope[:, 0])
        # All conditions begin as one network; and the descent without noise goes on downwards.
        for name in ("margin", "input_distance", "train_loss", "test_accuracy"):
            assert np.array_equal(each.curves[name][:, 0], first.curves[name][:, 0])
        assert (each.curves["train_loss"][:, -1] < each.curves["train_loss"][:, 0]).all()
    assert len({each.curves["distance"][0, -1] for each in result.conditions}) == 3
    assert {each.quantity.split(",")[0] for each in result.comparisons} == {"temperature", "response", "linearity"}


def test_directions_that_do_not_respond_are_left_out(
    result: EffectiveTemperature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And told; where there are no others, the condition is named."""
    answers, measured = np.array([1.0, -1.0]), HeatMeasurement.result

    def turned(measurement: HeatMeasurement) -> Heat:
        heat = measured(measurement)
        return dataclasses.replace(
            heat, responses=heat.responses * answers, half_responses=heat.half_responses * answers
        )

    monkeypatch.setattr(HeatMeasurement, "result", turned)
    found = run_effective_temperature(tiny(), tmp_path / "run")
    for each, whole in zip(found.conditions, result.conditions, strict=True):
        assert (each.unanswered == 1).all()
        assert (whole.unanswered == 0).all()
        assert (each.slope > 0).all()
        assert not np.array_equal(each.slope, whole.slope)
    assert {each.verdict for each in found.comparisons} == {"outside regime"}
    assert (
        "left out of with replacement, S=12 (2), reshuffled, S=12 (2), persistent, S=12 (2)." in conclusions(found)[-1]
    )
    answers[0] = -1.0
    with pytest.raises(ValueError, match="with_replacement with batches of 12, seed 0: no direction responds"):
        run_effective_temperature(tiny(), tmp_path / "other")


def test_a_finished_run_is_only_read(result: EffectiveTemperature, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("write_whole", "write_json", "make_directory", "opened"):
        monkeypatch.setattr(paired_trainings.disk, name, lambda *_, **__: pytest.fail("wrote"))
    again = run_effective_temperature(tiny(), result.directory, tolerance=0.5)
    assert same(again, result)
    assert again.tolerance == 0.5
    with pytest.raises(RunDirectoryError):
        run_effective_temperature(tiny(field=0.2), result.directory)


def test_interrupted_runs_go_on_to_the_same_bits(result: EffectiveTemperature, tmp_path: Path) -> None:
    """In training, and between windows of the temperature."""
    stops = [5, 9]

    def stop(done: int, total: int, text: str) -> None:
        if stops and done == stops[0]:
            stops.pop(0)
            raise Interrupted("asked to")

    while stops:
        with pytest.raises(Interrupted, match="stopped after epoch"):
            run_effective_temperature(tiny(), tmp_path / "run", progress=stop)
    assert same(run_effective_temperature(tiny(), tmp_path / "run"), result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "schedule='cosine' must be 'constant' here"),
        ({"members": 1}, "members must be >= 2"),
        ({"runs": 1}, "runs=1"),
        ({"stay": 1.0}, "stay=1.0 must be > 1"),
        ({"field": 0.0}, "field=0.0 must be > 0"),
        ({"quantile": 1.0}, "quantile=1.0 must be strictly between 0 and 1"),
        ({"orders": ["sgd", "reshuffled", "persistent"]}, "order='sgd' must be one of"),
        ({"orders": ["reshuffled"]}, "at least 3 are needed"),
        ({"orders": []}, "must be a list of at least one"),
        ({"batch_sizes": [12, 12]}, "must be different from one another"),
        ({"early": 7}, "early=7 must be at most epochs=6"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": [60]}, "gives 1 batch per epoch"),
        ({"batch_sizes": [5]}, "window=10 must be longer than an epoch of 12 batches"),
        ({"orders": ["shuffled_once", "reshuffled", "persistent"], "batch_sizes": [13]}, "must divide the 60 samples"),
    ],
)
def test_experiments_that_cannot_be_done_leave_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_effective_temperature(tiny(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
