"""Learning rates against torch's own schedulers."""

import dataclasses

import pytest
import torch
from torch.optim import lr_scheduler

from nnval.engine.config import TrainingConfig
from nnval.engine.schedules import learning_rate_at, learning_rates

EPOCHS, BATCHES = 12, 7
CONFIG = TrainingConfig(learning_rate=0.3, epochs=EPOCHS)
CASES = [
    ({"schedule": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    (
        {"schedule": "step", "milestones": (3, 4, 9), "decay": 0.2},
        lambda o: lr_scheduler.MultiStepLR(o, [3, 4, 9], 0.2),
    ),
    ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS)),
    ({"schedule": "sgdr", "cycle_epochs": 5}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5)),
    (
        {"schedule": "sgdr", "cycle_epochs": 2, "cycle_growth": 2},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
    ),
]


def of_torch(make, steps, learning_rate=0.3):
    """The learning rates that torch's scheduler gives to so many steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], learning_rate)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("values", "make"), CASES, ids=lambda case: str(case.values()) if isinstance(case, dict) else ""
)
def test_schedules_by_epoch_are_those_of_torch(values, make):
    config = dataclasses.replace(CONFIG, **values)
    ours = [learning_rate_at(config, epoch) for epoch in range(1, EPOCHS + 1)]
    assert ours == pytest.approx(of_torch(make, EPOCHS), rel=1e-12)
    for epoch, rate in enumerate(ours, start=1):
        assert learning_rates(config, epoch, BATCHES) == (rate,) * BATCHES
        # Counted from the last restart, or from a beginning before epoch 0.
        assert learning_rate_at(config, epoch + 5, origin=5) == rate
        if epoch > 3:
            assert learning_rate_at(config, epoch - 3, origin=-3, length=EPOCHS) == rate


@pytest.mark.parametrize("warm_up", [0.3, 0.5, 0.01, 0.99])
@pytest.mark.parametrize(("epochs", "batches"), [(12, 7), (1, 5), (3, 1)])
def test_one_cycle_is_that_of_torch(warm_up, epochs, batches):
    config = dataclasses.replace(CONFIG, schedule="one_cycle", warm_up=warm_up, epochs=epochs)
    steps = epochs * batches

    def make(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, 0.3, steps, pct_start=warm_up, cycle_momentum=False)

    theirs = [*of_torch(make, steps - 1), None]
    ours = [rate for epoch in range(1, epochs + 1) for rate in learning_rates(config, epoch, batches)]
    assert ours[:-1] == pytest.approx(theirs[:-1], rel=1e-12)
    assert ours[-1] == pytest.approx(0.3 / 25e4, rel=1e-12)
    assert learning_rates(config, epochs + 3, batches) == (ours[-1],) * batches
    restarted = [
        rate for epoch in range(1, epochs + 1) for rate in learning_rates(config, epoch + 4, batches, 4, epochs)
    ]
    assert restarted == ours


def test_one_cycle_whose_top_is_its_first_step():
    """Torch divides by zero there."""
    config = dataclasses.replace(CONFIG, schedule="one_cycle", warm_up=0.1, epochs=1)
    assert learning_rates(config, 1, 10)[0] == 0.3
    assert learning_rates(config, 1, 1) == (0.3 / 25e4,)


def test_cosine_keeps_its_last_value():
    config = dataclasses.replace(CONFIG, schedule="cosine")
    assert learning_rate_at(config, EPOCHS + 1) == learning_rate_at(config, EPOCHS + 50) == 0
