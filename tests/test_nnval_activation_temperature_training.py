"""One training of the experiment on activation-pattern temperatures: schedules, steps, measurements, resumption."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval import activation_temperature_training as training_module
from nnval.activation_temperature_schedules import OPTIONS, Schedule
from nnval.activation_temperature_training import ScheduledTraining
from nnval.drop_in.actcoolr import ActCooLR
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.feedforward_networks import mlp
from nnval.engine.schedules import learning_rate_at
from nnval.measure.activation_patterns import pattern_temperature
from tests.activation_temperature_configs import tiny
from theory.activation_temperature import target_curve

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
