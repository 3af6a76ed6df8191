"""ActCooLR: what it measures and sets, that it disturbs nothing, resumes with the same bits, and keeps its limits."""

import copy
import io
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.actcoolr import PROBE_FACTORS, ActCooLR
from nnval.drop_in.cooling_schedule import CoolingSchedule
from nnval.measure.activation_patterns import lr_sweep, pattern_temperature, step_direction
from tests.actcoolr_loop import Loop, batch_of, network, same_weights, sgd
from tests.torch_helpers import generator_from
from theory.activation_temperature import ErfLink, target_curve

# ---- What is measured ------------------------------------------------------------------------------------------------


def test_measures_the_step_that_was_made_on_the_batch_it_was_made_with(seed: int) -> None:
    loop = Loop(model=network(seed), probe_samples=20)
    for number in range(30):
        before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
        loop.step()
        if number % 5 == 4:
            assert loop.scheduler is not None
            metrics = loop.scheduler.last_metrics
            expected = pattern_temperature(loop.model, batch_of(number)[0][:20], before, {})
            assert metrics["apt/temperature"] == float(expected.temperature)
            assert metrics["apt/learning_rate"] == loop.rates[-1]
            assert metrics["apt/target"] == pytest.approx(float(target_curve((number + 1) / 60, 1.0, 0.5)))
            assert metrics["apt/measurements"] == (number + 1) / 5
            assert metrics["apt/lost"] == 0
    assert float(expected.temperature) > 2 * expected.coldest


def test_learning_rates_follow_from_the_measurements_in_straight_lines() -> None:
    loop = Loop(t_start=0.5)
    seen = {}
    for number in range(1, 61):
        loop.step()
        assert loop.scheduler is not None
        seen[number] = loop.scheduler.last_metrics.get("apt/temperature")
    assert loop.rates[:5] == [0.05] * 5
    for made in range(5, 55, 5):
        rate, following = loop.rates[made - 1], loop.rates[made + 4]
        wanted = float(np.exp(ErfLink(0, 1.2).corrected(math.log(rate), seen[made] or 0, 0.5 * (1 - (made + 5) / 60))))
        assert following == pytest.approx(min(wanted, 0.15), rel=1e-12)
        line = rate + (following - rate) * np.arange(1, 6) / 5
        assert np.allclose(loop.rates[made : made + 5], line, rtol=1e-12, atol=0)
    assert loop.rates[59] == loop.optimizer.param_groups[0]["lr"] == 1e-8
    loop.run(3)
    assert loop.rates[-1] == 1e-8


def test_sigma_is_fitted_to_a_sweep_of_the_first_measured_step() -> None:
    loop = Loop(sigma=None)
    loop.run(4)
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    loop.step()
    assert loop.scheduler is not None
    direction = step_direction(before, dict(loop.model.named_parameters()), 0.05)
    rates = [0.05 * factor for factor in PROBE_FACTORS]
    fit = lr_sweep(loop.model, batch_of(4)[0][:32], before, {n: d.detach() for n, d in direction.items()}, rates).fit()
    assert loop.scheduler.last_metrics["apt/sigma"] == fit.link.scale
    assert 0.8 < fit.link.scale < 2
    loop.run(5)
    assert loop.scheduler.last_metrics["apt/sigma"] == fit.link.scale


def test_a_sigma_that_cannot_be_fitted_is_told() -> None:
    """The step is so short that no pattern changes at any of the rates."""
    loop = Loop(sigma=None, lr=1e-11, lr_min=1e-14)
    with pytest.warns(RuntimeWarning, match=r"1\.2 is used; give sigma, or link='cloglog'"):
        loop.run(5)
    assert loop.scheduler is not None
    assert loop.scheduler.last_metrics["apt/sigma"] == 1.2


def test_without_a_start_the_temperature_of_the_own_rate_is_taken() -> None:
    loop = Loop(t_start=None, calibration=20, total_steps=80)
    seen = []
    for number in range(1, 31):
        loop.step()
        assert loop.scheduler is not None
        if number in (15, 20):
            seen.append(loop.scheduler.last_metrics["apt/temperature"])
        assert ("apt/target" in loop.scheduler.last_metrics) == (number >= 20)
    assert loop.rates[:20] == [0.05] * 20
    assert loop.rates[20] != 0.05
    assert loop.scheduler is not None
    assert loop.scheduler.last_metrics["apt/target"] == pytest.approx(np.mean(seen) * (1 - 30 / 80), rel=1e-12)
    assert CoolingSchedule(0.1, 10_000).calibration == 500
    assert CoolingSchedule(0.1, 600).calibration == 50
    assert CoolingSchedule(0.1, 40).calibration == 20


def test_a_learning_rate_that_is_too_hot_is_not_kept_and_does_not_set_the_start() -> None:
    loop = Loop(model=network(1), t_start=None, calibration=10, total_steps=80, lr=1.0)
    assert loop.scheduler is not None
    assert loop.scheduler.t_start is loop.scheduler.target(40) is None
    loop.run(5)
    assert loop.scheduler.last_metrics["apt/temperature"] > 2
    assert loop.scheduler.t_start is None
    loop.run(5)
    assert loop.rates[:5] == [1.0] * 5
    assert sorted(loop.rates[5:], reverse=True) == loop.rates[5:]
    assert loop.rates[9] < 0.3
    hot = Loop(model=network(1), t_start=None, calibration=5, total_steps=80, lr=1.0).run(5).scheduler
    assert hot is not None
    assert hot.t_start == 1.0
    assert hot.last_metrics["apt/target"] == hot.target(5) == 1 - 5 / 80


def test_the_curve_can_be_asked_for() -> None:
    loop = Loop(t_start=0.5, gamma=2.0, sigma=None)
    scheduler = loop.scheduler
    assert scheduler is not None
    assert [scheduler.target(step) for step in (0, 30, 60)] == [0.5, 0.375, 0.0]
    assert (scheduler.t_start, scheduler.sigma) == (0.5, None)
    loop.run(5)
    assert scheduler.sigma == scheduler.last_metrics["apt/sigma"]
    assert Loop(sigma=1.3).scheduler.sigma == 1.3  # pyright: ignore[reportOptionalMemberAccess]
    other = Loop(link="cloglog", sigma=None).scheduler
    assert other is not None
    assert other.sigma is None
    with pytest.raises(ValueError, match="step=61 must be at most total_steps=60"):
        scheduler.target(61)
    with pytest.raises(ValueError, match="step=-1 must be a whole number >= 0"):
        scheduler.target(-1)


def test_a_start_that_cannot_be_seen_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"starts at T=0.0\d+ bits, but 0.0\d+ is the least that can be seen: raise"):
        Loop(t_start=None, lr=1e-12, lr_min=1e-15).run(40)
    with pytest.raises(
        RuntimeError, match=r"starts at T=0.001 bits, but .* raise t_start to 0.0\d+ or more, or measure"
    ):
        Loop(t_start=0.001).run(5)


def test_adam_on_a_small_network_is_told_what_to_do_and_trains_by_each_advice() -> None:
    """A dense layer has one pattern for each sample, and Adam's usual rate changes next to none of them."""
    inputs = torch.randn(400, 8, generator=generator_from(0))
    labels = (inputs[:, 0] > 0).long()

    def train(lr: float = 1e-5, **options: Any) -> ActCooLR:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        scheduler = ActCooLR(optimizer, model, 100, sigma=1.2, **options)
        for number in range(100):
            some = slice(number % 10 * 40, number % 10 * 40 + 40)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[some]), labels[some]).backward()
            optimizer.step()
            scheduler.step()
        return scheduler

    with pytest.raises(RuntimeError, match="At the optimizer's learning rate, 1e-05, a step changes too few") as error:
        train()
    assert "Adam at 1e-3" in str(error.value)
    advised = float(re.findall(r"such as t_start=([\d.]+),", str(error.value))[0])
    assert advised == 0.1
    assert train(t_start=advised).last_metrics["apt/measurements"] == 9
    more = torch.randn(20_000, 8, generator=generator_from(1))
    assert 0 < (train(batch=more, probe_samples=None).t_start or 0.0) < 0.0454
    assert (train(lr=0.03).t_start or 0.0) > 0.0454


def test_batches_given_by_hand_and_batches_seen() -> None:
    inputs = batch_of(500)[0]
    given = Loop(batch=inputs, probe_samples=None)
    for _ in range(5):
        before = {name: p.detach().clone() for name, p in given.model.named_parameters()}
        given.step()
    assert given.scheduler is not None
    expected = float(pattern_temperature(given.model, inputs, before, {}).temperature)
    assert given.scheduler.last_metrics["apt/temperature"] == expected

    seen, undisturbed = Loop(), Loop().run(5)
    assert seen.scheduler is not None
    assert undisturbed.scheduler is not None
    seen.run(4)
    batch, labels = batch_of(4)
    loss = F.cross_entropy(seen.model(batch), labels)
    with torch.no_grad():
        seen.model(inputs * 5)  # neither this
    statistics = copy.deepcopy(seen.model.state_dict())
    seen.model.eval()
    seen.model(inputs * 5)  # nor that is what the step is made with
    seen.model.train()
    loss.backward()
    seen.optimizer.zero_grad()
    seen.model.load_state_dict(statistics)
    for parameter in seen.model.parameters():
        parameter.grad = None
    F.cross_entropy(seen.model(batch), labels).backward()
    seen.model.eval()
    seen.model(inputs * 5)
    seen.model.train()
    seen.optimizer.step()
    seen.scheduler.step()
    assert seen.scheduler.last_metrics["apt/temperature"] == undisturbed.scheduler.last_metrics["apt/temperature"]


# ---- Nothing is disturbed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_is_bit_by_bit_what_it_is_without_as_long_as_the_rate_is_the_same(dropout: float) -> None:
    """Parameters, buffers, momentum, and what dropout draws, while eight measurements are made."""
    measured = Loop(model=network(dropout=dropout), t_start=None, calibration=40, sigma=None)
    plain = Loop(model=network(dropout=dropout), plain=True)
    for loop in (measured, plain):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            loop.run(40)
            loop.last_numbers = torch.rand(3)
    assert measured.scheduler is not None
    assert measured.scheduler.last_metrics["apt/measurements"] == 8
    assert same_weights(measured.model, plain.model)
    assert torch.equal(measured.last_numbers, plain.last_numbers)
    for one, other in zip(measured.model.parameters(), plain.model.parameters(), strict=True):
        momenta = [loop.optimizer.state[p]["momentum_buffer"] for loop, p in ((measured, one), (plain, other))]
        assert torch.equal(*momenta)


def test_remove_takes_all_hooks_off() -> None:
    loop = Loop().run(7)
    assert loop.scheduler is not None
    loop.scheduler.remove()
    loop.run(2)
    assert loop.rates[-1] == loop.rates[-2]
    assert not loop.model._forward_pre_hooks
    assert not loop.optimizer._optimizer_step_pre_hooks
    assert not loop.optimizer._optimizer_step_post_hooks


# ---- Resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "start"), [(3, None), (5, 0.5), (12, None), (22, 0.5), (30, None), (57, 0.5)])
def test_a_resumed_training_is_bit_by_bit_the_uninterrupted_one(at: int, start: float | None) -> None:
    """In the middle of an interval and at its ends, before sigma is known, while calibrating, with dropout."""
    options: dict[str, Any] = {"t_start": start, "sigma": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        loop = Loop(model=network(dropout=0.2), **options)
        loop.run(at)
        file = io.BytesIO()
        assert loop.scheduler is not None
        state = (loop.model.state_dict(), loop.optimizer.state_dict(), loop.scheduler.state_dict())
        torch.save([*state, torch.get_rng_state()], file)
        loop.run(60 - at)
        file.seek(0)
        model, optimizer, scheduler, random = torch.load(file, weights_only=True)
        resumed = Loop(model=network(seed=9, dropout=0.2), **options)
        resumed.number = at
        resumed.model.load_state_dict(model)
        assert resumed.scheduler is not None
        resumed.scheduler.load_state_dict(scheduler)
        resumed.optimizer.load_state_dict(optimizer)
        assert resumed.scheduler.get_last_lr() == [loop.rates[at]]
        torch.set_rng_state(random)
        resumed.run(60 - at)
    assert resumed.rates == loop.rates[at:]
    assert len(set(loop.rates[40:])) > 15  # and it is no constant
    assert same_weights(resumed.model, loop.model)
    assert resumed.scheduler.last_metrics == loop.scheduler.last_metrics
    assert len(pickle.dumps(loop.scheduler.state_dict())) < 2000


def test_states_of_others_and_half_done_ones_are_refused() -> None:
    loop = Loop().run(3)
    assert loop.scheduler is not None
    state = loop.scheduler.state_dict()
    other = Loop(total_steps=90, gamma=2.0)
    assert other.scheduler is not None
    before = other.scheduler.state_dict()
    with pytest.raises(
        ValueError, match=r"another ActCooLR: total_steps=60, not 90, gamma=1.0, not 2.0; make one alike"
    ):
        other.scheduler.load_state_dict(state)
    assert other.scheduler.state_dict() == before
    loop.optimizer.step()
    with pytest.raises(RuntimeError, match=r"take the state of ActCooLR after its step\(\)"):
        loop.scheduler.state_dict()


# ---- Limits ----------------------------------------------------------------------------------------------------------


def test_the_cap_holds_and_is_reported() -> None:
    loop = Loop(t_start=6.0, lr_max=0.06)
    with pytest.warns(RuntimeWarning, match=r"\d+ of \d+ steps were at lr_max=0.06, where the temperature is not"):
        loop.run(60)
    assert loop.scheduler is not None
    assert max(loop.rates) == 0.06
    capped = sum(rate == 0.06 for rate in loop.rates[:55])
    assert capped > 20
    assert loop.scheduler.last_metrics["apt/share_at_cap"] == pytest.approx(capped / 55)
    free = Loop(t_start=0.1).run(60)
    assert free.scheduler is not None
    assert free.scheduler.last_metrics["apt/share_at_cap"] == 0.0
    assert max(Loop(t_start=0.5).run(60).rates) <= 3 * 0.05  # the default


def test_the_limit_on_changes_holds_and_is_reported() -> None:
    loop = Loop(t_start=0.05, largest_change=math.log(1.5)).run(30)
    assert loop.scheduler is not None
    measured = np.array(loop.rates[4:30:5])
    assert np.all(measured[1:] >= measured[:-1] / 1.5 * (1 - 1e-12))
    assert 0 < loop.scheduler.last_metrics["apt/share_limited"] <= 1
    free = Loop(t_start=0.05).run(30)
    assert free.scheduler is not None
    assert free.rates[9] < free.rates[4] / 1.5
    assert free.scheduler.last_metrics["apt/share_limited"] == 0


def test_all_groups_keep_their_ratio_and_tensors_stay_tensors() -> None:
    model = network()
    rates = [0.02, torch.tensor(0.05, dtype=torch.float64), 0.0]
    parameters = [list(model[0].parameters()), list(model[6].parameters()), list(model[8].parameters())]
    groups = [{"params": p, "lr": rate} for p, rate in zip(parameters, rates, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.05)
    scheduler = ActCooLR(optimizer, model, 40, t_start=0.5, sigma=1.2, every=5)
    tensor = optimizer.param_groups[1]["lr"]
    for number in range(40):
        inputs, labels = batch_of(number)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        scheduler.step()
        now = [float(group["lr"]) for group in optimizer.param_groups]
        assert now[0] == pytest.approx(0.4 * now[1], rel=1e-12)
        assert now[2] == 0
    assert optimizer.param_groups[1]["lr"] is tensor
    assert float(tensor) == 1e-8


def test_arguments_out_of_range() -> None:
    model = network()
    optimizer = sgd(model)

    def refused(match: str, *, other: Any = None, of: nn.Module | None = None, **options: Any) -> None:
        with pytest.raises(ValueError, match=match):
            ActCooLR(other or optimizer, of or model, **({"total_steps": 100} | options))

    refused(r"total_steps=10 must be a whole number >= 11", total_steps=10)
    refused(r"every=0 must be a whole number >= 1", every=0)
    refused(r"every=2.5 must be a whole number >= 1", every=2.5)
    refused(r"start=0 must be finite and > 0", t_start=0)
    refused(r"gamma=-1 must be finite and > 0", gamma=-1)
    refused(r"link='probit' must be one of erf, cloglog", link="probit")
    refused(r"sigma=1.2 belongs to link='erf'", link="cloglog", sigma=1.2)
    refused(r"sigma=0.0 must lie between", sigma=0.0)
    refused(r"lr_max=0.01 must be >= the optimizer's own learning rate, 0.05", lr_max=0.01)
    refused(r"lr_max='high' must be a number", lr_max="high")
    refused(r"lr_min=0 must be > 0 and below the optimizer's own learning rate, 0.05", lr_min=0)
    refused(r"lr_min=0.05 must be > 0 and below the optimizer's own learning rate, 0.05", lr_min=0.05)
    refused(r"largest_change=0 must be > 0", largest_change=0)
    refused(r"calibration=100 must end before total_steps=100", calibration=100)
    refused(r"calibration=3 must be a whole number >= 10", calibration=3)
    refused(r"probe_samples=0 must be a whole number >= 1", probe_samples=0)
    refused(r"pattern='all' must be one of", pattern="all")
    refused(r"the optimizer trains no parameter of this Sequential", of=network())
    refused(r"LBFGS makes steps whose length is not in proportion", other=torch.optim.LBFGS(model.parameters()))
    refused(r"Rprop makes steps whose length", other=torch.optim.Rprop(model.parameters()))
    refused(r"the optimizer's learning rate, 0.0, must be finite and > 0", other=sgd(model, lr=0.0))
    assert not model._forward_pre_hooks  # none of these has left a hook
