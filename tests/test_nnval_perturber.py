"""When the perturber acts, how it restarts schedules, and that it resumes with the same bits."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from nnval.drop_in.perturbations import (
    FullReset,
    GaussianNoise,
    PartialReset,
    ShrinkPerturb,
    WarmRestart,
)
from nnval.drop_in.perturber import Perturber, at, geometric, periodic
from tests.perturbed_networks import equal, initialised, mlp, snapshot, train, trained_lenet
from tests.torch_helpers import generator_from
from theory.estimate import agreement

# --- When: the Perturber ---------------------------------------------------------------------------------------------


def test_perturber_acts_after_epochs_P_and_2P_and_not_before():
    model = initialised(mlp, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    perturber = Perturber(ShrinkPerturb(0.5, 0), 3, model, optimizer, generator=generator_from(0))
    before = snapshot(model)
    acted = []
    for epoch in range(1, 8):
        train(model, optimizer)
        after_training = snapshot(model)
        if perturber.step(epoch):
            acted.append(epoch)
            assert torch.equal(model[0].weight, 0.5 * after_training["0.weight"])
            assert not optimizer.state
        else:
            assert equal(after_training, snapshot(model))
            assert optimizer.state
    assert acted == [3, 6]
    assert perturber.count == 2
    assert not equal(before, snapshot(model))


def test_schedules():
    model, generator = initialised(mlp, 0), generator_from(0)

    def acted(when, epochs=12):
        perturber = Perturber(GaussianNoise(0.1), None, model, when=when, generator=generator)
        return [epoch for epoch in range(1, epochs + 1) if perturber.step(epoch)]

    assert acted(periodic(5)) == [5, 10]
    assert acted(periodic(1), 3) == [1, 2, 3]
    assert acted(at([1, 7, 8, 99])) == [1, 7, 8]
    assert acted(lambda epoch: epoch > 10) == [11, 12]
    assert acted(geometric(1), 3) == [1, 2, 3]


def test_geometric_intervals(seed):
    # WarmRestart draws nothing, so the intervals are independent and geometric: mean 1/p, variance (1-p)/p^2.
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    perturber = Perturber(WarmRestart(), None, model, optimizer, when=geometric(0.5), generator=generator_from(seed))
    epochs = [0] + [epoch for epoch in range(1, 14001) if perturber.step(epoch)]
    intervals = torch.tensor(epochs).diff().double()
    assert agreement(intervals.numpy(), 2.0, detects=0.1)
    assert not agreement(intervals.numpy(), 1.0)  # counting failures only
    assert agreement((intervals.numpy() - 2.0) ** 2, 2.0)


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=30),
    "warm up": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.StepLR(o, 2)], [3]
    ),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "multi step": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "chained": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(o, 0.9), lr_scheduler.StepLR(o, 3)]),
}


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())
def test_restart_of_the_schedule(make_scheduler, tensor_lr):
    model = initialised(mlp, 0)
    rate = torch.tensor(0.1) if tensor_lr else 0.1
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": rate / 2}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    scheduler = make_scheduler(optimizer)
    perturber = Perturber(WarmRestart(), 7, model, optimizer, scheduler, generator=generator_from(0))
    history = []
    for epoch in range(1, 22):
        history.append([(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups])
        train(model, optimizer)
        scheduler.step()
        perturber.step(epoch)
    assert history[0] != history[1] or history[0] != history[2]
    assert history[:7] == history[7:14] == history[14:]
    assert perturber.count == 3


def test_restart_without_scheduler_restores_the_learning_rate_alone():
    model = initialised(mlp, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    perturber = Perturber(FullReset(), 2, model, optimizer, generator=generator_from(0))
    optimizer.param_groups[0].update(lr=0.01, momentum=0.5)
    assert not perturber.step(1)
    assert perturber.step(2)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0]["momentum"] == 0.5
    assert equal(snapshot(model), snapshot(initialised(mlp, 0)))


def test_learning_rate_is_kept_when_the_policy_says_so():
    model = initialised(mlp, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    perturber = Perturber(ShrinkPerturb(), 2, model, optimizer, scheduler, generator=generator_from(0))
    for epoch in (1, 2):
        train(model, optimizer)
        scheduler.step()
        perturber.step(epoch)
    assert optimizer.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize(
    ("perturbation", "schedule"),
    [
        (ShrinkPerturb(), {"interval": 3}), (PartialReset(by="random"), {"interval": None, "when": geometric(0.4)}),
        (FullReset(), {"interval": 4}), (WarmRestart(), {"interval": 2}), (GaussianNoise(0.01), {"interval": 1}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_resume_is_bit_identical(perturbation, schedule, stop):
    def new_run():
        model = initialised(mlp, 0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 9)
        return model, optimizer, scheduler

    def perturber_of(run, seed):
        options = dict(schedule)
        return Perturber(perturbation, options.pop("interval"), *run, **options, generator=generator_from(seed))

    def epochs(run, perturber, first, last):
        for epoch in range(first, last + 1):
            train(*run[:2])
            run[2].step()
            perturber.step(epoch)

    run = new_run()
    perturber = perturber_of(run, 1)
    epochs(run, perturber, 1, stop)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (*run, perturber)], file)
    epochs(run, perturber, stop + 1, 9)

    file.seek(0)
    states = torch.load(file, weights_only=True)
    resumed = new_run()
    for part, state in zip(resumed, states, strict=False):
        part.load_state_dict(state)
    # Built from a scheduler in mid-course and with another seed: all that matters is in its state.
    second = perturber_of(resumed, 2)
    second.load_state_dict(states[-1])
    epochs(resumed, second, stop + 1, 9)
    assert equal(snapshot(run[0]), snapshot(resumed[0]))
    assert run[1].param_groups[0]["lr"] == resumed[1].param_groups[0]["lr"]
    assert second.count == perturber.count
    assert torch.equal(second.generator.get_state(), perturber.generator.get_state())


def test_a_perturbation_that_cannot_act_is_refused_at_once_and_trying_changes_nothing():
    model = nn.MultiheadAttention(4, 2)
    with pytest.raises(ValueError, match="pass init_fn"):
        Perturber(FullReset(), 50, model, torch.optim.SGD(model.parameters()), generator=generator_from(0))
    model, optimizer = trained_lenet()
    before, generator = snapshot(model), generator_from(0)
    state = generator.get_state()
    Perturber(FullReset(), 50, model, optimizer, generator=generator)
    assert equal(before, snapshot(model))
    assert optimizer.state
    assert torch.equal(generator.get_state(), state)


def test_init_fn_that_seeds_the_global_generator_gives_one_network_and_leaves_torchs_numbers_alone():
    def seeded():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        return mlp()

    def networks_and_numbers(init_fn):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        model, found = initialised(mlp, 0), []
        perturber = Perturber(FullReset(), 1, model, torch.optim.SGD(model.parameters()),
                              generator=generator_from(1), init_fn=init_fn)  # fmt: skip
        for epoch in (1, 2):
            perturber.step(epoch)
            found.append(snapshot(model))
        return found, torch.rand(3), np.random.rand()  # noqa: NPY002

    (first, second), of_torch, of_numpy = networks_and_numbers(seeded)
    assert equal(first, second)
    (other, another), undisturbed, of_numpy_undisturbed = networks_and_numbers(mlp)
    assert not equal(other, another)
    assert torch.equal(of_torch, undisturbed)
    assert of_numpy != of_numpy_undisturbed


# --- Configs and errors ----------------------------------------------------------------------------------------------


def test_errors_of_the_perturber():
    model, generator = initialised(mlp, 0), generator_from(0)
    for interval in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="must be a whole number of epochs >= 1"):
            Perturber(ShrinkPerturb(), interval, model, generator=generator)
    with pytest.raises(ValueError, match="give exactly one of them"):
        Perturber(ShrinkPerturb(), None, model, generator=generator)
    with pytest.raises(ValueError, match="give exactly one of them"):
        Perturber(ShrinkPerturb(), 3, model, when=at([3]), generator=generator)
    with pytest.raises(ValueError, match="warm_restart restarts the learning rate: pass the optimizer"):
        Perturber(WarmRestart(), 3, model, generator=generator)
    for epochs in ([], [0, 4]):
        with pytest.raises(ValueError, match="must be one or more, all >= 1"):
            at(epochs)
    for probability in (0, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
            geometric(probability)
    perturber = Perturber(ShrinkPerturb(), 3, model, generator=generator)
    with pytest.raises(ValueError, match=r"epoch=0 must be > 0.*count completed epochs from 1"):
        perturber.step(0)
    perturber.step(1)
    with pytest.raises(ValueError, match="epoch=1 must be > 1"):
        perturber.step(1)


def test_fresh_networks_come_without_what_hooks_hold():
    from nnval.drop_in.actcoolr import ActCooLR
    from nnval.drop_in.adaptive_noise import AdaptiveNoise

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ActCooLR(optimizer, model, 100)
    AdaptiveNoise(optimizer, seed=0)  # can't be copied, and ActCooLR's hooks hold the optimizer that holds it
    model.register_forward_hook(lambda *_: None)
    hooks = [dict(table) for module in model.modules() for name, table in vars(module).items() if "_hooks" in name]
    Perturber(ShrinkPerturb(0.4, 0.1), 1, model, optimizer, generator=torch.Generator().manual_seed(0)).step(1)
    assert any(hooks)
    assert hooks == [dict(t) for module in model.modules() for name, t in vars(module).items() if "_hooks" in name]
