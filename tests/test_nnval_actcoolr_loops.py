"""ActCooLR in anybody's loop: closures, skipped steps, mixed precision, many processes, and what it does in trouble."""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.actcoolr import ActCooLR
from nnval.drop_in.observed_step import ObservedStep
from nnval.measure.activation_patterns import PatternRule, pattern_temperature
from tests.actcoolr_loop import Loop, batch_of, network, sgd

# ---- Trouble ---------------------------------------------------------------------------------------------------------


def test_numbers_that_are_none_leave_the_rate_as_it_is() -> None:
    loop = Loop().run(12)
    rate = loop.optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        next(loop.model.parameters()).fill_(math.nan)
    with pytest.warns(RuntimeWarning, match="activations at step 15 are not finite"):
        loop.run(3)
    assert loop.scheduler is not None
    held = loop.optimizer.param_groups[0]["lr"]
    assert loop.rates[-1] == held != rate
    loop.run(7)  # told once
    assert set(loop.rates[15:]) == {held}
    metrics = loop.scheduler.last_metrics
    assert (metrics["apt/lost"], metrics["apt/measurements"]) == (2, 4)
    assert "apt/temperature" not in metrics


def test_losses_that_explode_make_the_rate_fall() -> None:
    loop = Loop(t_start=0.3, total_steps=200).run(40)
    rate = loop.rates[-1]
    for number in range(20):  # gradients a hundred times as large
        inputs, labels = batch_of(100 + number)
        loop.optimizer.zero_grad()
        (100 * F.cross_entropy(loop.model(inputs), labels)).backward()
        loop.optimizer.step()
        assert loop.scheduler is not None
        loop.scheduler.step()
    assert loop.optimizer.param_groups[0]["lr"] < 0.2 * rate
    assert loop.scheduler is not None
    assert loop.scheduler.last_metrics["apt/lost"] == 0


def test_closures_give_the_same() -> None:
    """By position and by name, as Lightning passes them; and when one is evaluated twice, the first time counts."""
    expected = Loop().run(30)

    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                loss = closure()
                gradients = [p.grad.clone() for group in self.param_groups for p in group["params"]]
                closure()
            for p, gradient in zip((p for group in self.param_groups for p in group["params"]), gradients, strict=True):
                p.grad = gradient
            super().step()
            return loss

    for kind, keyword in ((torch.optim.SGD, False), (torch.optim.SGD, True), (Twice, False)):
        model = network()
        optimizer = kind(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        scheduler = ActCooLR(optimizer, model, 60, t_start=0.5, sigma=1.2, every=5)
        rates = []
        for number in range(30):
            inputs, labels = batch_of(number)

            def closure(inputs: torch.Tensor = inputs, labels: torch.Tensor = labels) -> torch.Tensor:
                optimizer.zero_grad()  # noqa: B023
                loss = F.cross_entropy(model(inputs), labels)  # noqa: B023
                loss.backward()
                return loss

            rates.append(optimizer.param_groups[0]["lr"])
            loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
            assert torch.isfinite(loss)
            scheduler.step()
        assert rates == expected.rates


def test_accumulated_gradients_count_as_one_step() -> None:
    """Whether or not step() is called for each part; the last part is measured with."""
    paths = []
    for each in (False, True):
        loop = Loop()
        assert loop.scheduler is not None
        for number in range(20):
            inputs, labels = batch_of(number)
            loop.optimizer.zero_grad()
            before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
            for part in range(3):
                rows = slice(16 * part, 16 * part + 16)
                (F.cross_entropy(loop.model(inputs[rows]), labels[rows]) / 3).backward()
                if each and part < 2:
                    loop.scheduler.step()
            loop.optimizer.step()
            loop.scheduler.step()
            paths.append(loop.scheduler.get_last_lr()[0])
            if number % 5 == 4:
                expected = float(pattern_temperature(loop.model, inputs[32:], before, {}).temperature)
                assert loop.scheduler.last_metrics["apt/temperature"] == expected
        assert loop.scheduler.last_epoch == 20
    assert paths[:20] == paths[20:]
    assert len(set(paths[5:20])) > 10


SKIPPED = (1, 4, 11, 14)  # not the first: fused SGD of torch 2.14 then keeps momentum that was never written


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_do_not_count(fused: bool) -> None:
    """Infinite gradients in steps that were to be measured, and in others: those that are made go on all the same."""
    expected = Loop().run(30)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, fused=fused)
    scheduler = ActCooLR(optimizer, model, 60, t_start=0.5, sigma=1.2, every=5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    rates, number, skipped = [], 0, 0
    while number < 30:
        inputs, labels = batch_of(number)
        overflow = number in SKIPPED and skipped == SKIPPED.index(number)
        statistics = copy.deepcopy(dict(model.named_buffers()))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs * 3 if overflow else inputs), labels)
        scaler.scale(loss * math.inf if overflow else loss).backward()
        rate = optimizer.param_groups[0]["lr"]
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        if overflow:
            skipped += 1
            for name, buffer in model.named_buffers():
                buffer.copy_(statistics[name])
            assert scheduler.get_last_lr() == [rate]
        else:
            rates.append(rate)
            number += 1
    assert skipped == 4
    assert scheduler.last_epoch == 30
    assert np.allclose(rates, expected.rates, rtol=1e-3 if fused else 1e-12)


def test_mixed_precision_is_taken_over() -> None:
    """Half precision rounds: T of small steps is that of a network that computes so, not the one in float32."""
    found = {}
    for mixed in (True, False):
        loop = Loop(t_start=0.05)
        for number in range(5):
            inputs, labels = batch_of(number)
            before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
            loop.optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                loss = F.cross_entropy(loop.model(inputs), labels)
            loss.backward()
            loop.optimizer.step()
            assert loop.scheduler is not None
            loop.scheduler.step()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            expected = pattern_temperature(loop.model, batch_of(4)[0][:32], before, {})
        assert loop.scheduler is not None
        found[mixed] = loop.scheduler.last_metrics["apt/temperature"]
        assert found[mixed] == float(expected.temperature)
    assert found[True] != found[False]


def test_calls_in_the_wrong_place() -> None:
    loop = Loop()
    assert loop.scheduler is not None
    loop.scheduler.step()  # before the first step of the optimizer: nothing to count
    assert loop.scheduler.last_epoch == 0
    loop.run(4)
    inputs, labels = batch_of(4)
    F.cross_entropy(loop.model(inputs), labels).backward()
    loop.optimizer.step()
    loop.optimizer.step()
    with pytest.raises(RuntimeError, match=r"the optimizer made 2 steps since the last step\(\) of ActCooLR: call it"):
        loop.scheduler.step()
    with pytest.raises(ValueError, match=r"epoch=3 must be left out"):
        loop.scheduler.step(3)


def test_steps_that_fail_are_none() -> None:
    """Nor do they hide the next one."""
    loop = Loop(every=3)
    assert loop.scheduler is not None
    loop.run(2)

    def fails() -> float:
        F.cross_entropy(loop.model(batch_of(2)[0]), batch_of(2)[1])
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        loop.optimizer.step(fails)
    loop.run(2)
    assert loop.scheduler.last_epoch == 4
    assert loop.scheduler.last_metrics["apt/measurements"] == 1
    assert loop.rates[3] != loop.rates[2]


def test_subclasses_that_call_their_parents_step() -> None:
    """Both have hooks."""

    class Child(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    def trained(kind: type[torch.optim.SGD]) -> Loop:
        loop = Loop(plain=True)
        loop.optimizer = kind(loop.model.parameters(), lr=0.05)
        loop.scheduler = ActCooLR(loop.optimizer, loop.model, 60, t_start=0.5, sigma=1.2, every=5)
        return loop.run(12)

    parent, child = trained(torch.optim.SGD), trained(Child)
    assert child.rates == parent.rates
    assert parent.rates[11] != parent.rates[0]


def test_the_small_last_batches_of_epochs_do_no_harm() -> None:
    """One sample: each layer behind the convolutions has one pattern, and T = 1 whatever happens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scheduler = ActCooLR(optimizer, model, 60, sigma=1.2, every=4, calibration=24)
    measured = []
    for number in range(60):
        inputs, labels = batch_of(number, 1 if number % 16 == 15 else 48)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        scheduler.step()
        measured.append(scheduler.last_metrics.get("apt/temperature"))
    assert [measured[number] for number in (15, 31, 47)] == [1.0, 1.0, 1.0]
    assert scheduler.t_start == pytest.approx(np.median([measured[number] for number in (19, 23)]))
    assert scheduler.t_start is not None
    assert scheduler.t_start < 0.5
    assert scheduler.get_last_lr() == [1e-8]


def test_one_that_is_thrown_away_measures_no_more() -> None:
    model = network()
    optimizer = sgd(model)
    scheduler = ActCooLR(optimizer, model, 60, t_start=0.5)
    scheduler = ActCooLR(optimizer, model, 60, t_start=0.5)
    hooks = (model._forward_pre_hooks, optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    assert list(map(len, hooks)) == [1, 1, 1]
    assert scheduler.last_epoch == 0


def test_a_network_that_was_not_called_is_an_error_with_the_remedy() -> None:
    inner = network()
    optimizer = sgd(inner)
    scheduler = ActCooLR(optimizer, nn.Sequential(inner), 60, t_start=0.5, sigma=1.2, every=1)
    F.cross_entropy(inner(batch_of(0)[0]), batch_of(0)[1]).backward()
    with pytest.raises(RuntimeError, match="no batch went through Sequential in training mode since the last step"):
        optimizer.step()
    scheduler.remove()
    optimizer.step()

    class Ignores(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            return None

    model = network()
    optimizer = Ignores(model.parameters(), lr=0.1)
    scheduler = ActCooLR(optimizer, model, 60, t_start=0.5, every=1)
    optimizer.step(lambda: 0.0)
    with pytest.raises(RuntimeError, match="its closure was never called"):
        scheduler.step()


def test_noise_from_elsewhere_is_an_error_with_the_remedy(seed: int) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.rng = network(), np.random.default_rng(seed)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images + torch.from_numpy(self.rng.normal(size=images.shape)).float())

    loop = Loop(model=Noisy())
    with pytest.raises(RuntimeError, match=r"differ in .*% of the patterns of a layer: .* elsewhere than from torch's"):
        loop.run(5)


# ---- Other people's loops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam])
def test_other_optimizers(make: Callable[..., torch.optim.Optimizer]) -> None:
    model = network()
    optimizer = make(model.parameters(), lr=1e-3)
    scheduler = ActCooLR(optimizer, model, 60, t_start=0.2, every=5, lr_max=0.03)
    errors = []
    for number in range(60):
        inputs, labels = batch_of(number)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        scheduler.step()
        if 20 <= number < 45 and number % 5 == 4:
            errors.append(math.log(scheduler.last_metrics["apt/temperature"] / scheduler.last_metrics["apt/target"]))
    assert np.median(np.abs(errors)) < 0.7


def test_a_compiled_network(seed: int) -> None:
    """The compiled one is given, as the loop calls it; torch's own warnings would be errors here."""
    expected = Loop(model=network(seed)).run(12)
    compiled: Any = torch.compile(network(seed), backend="eager")
    assert np.allclose(Loop(model=compiled).run(12).rates, expected.rates, rtol=1e-9)


def test_inputs_by_name_in_dictionaries_and_odd_lengths() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, *, data: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
            return {"logits": self.network(data["images"] * scale) + data["offset"]}

    model = Named()
    optimizer = sgd(model)
    observed = ObservedStep(optimizer, model, PatternRule(), samples=10)
    observed.arm()
    images, labels = batch_of(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    outputs = model(data={"images": images, "offset": torch.zeros(3)}, scale=0.5)
    images.zero_()  # somebody reuses the memory
    F.cross_entropy(outputs["logits"], labels).backward()
    optimizer.step()
    assert observed.is_pending
    assert observed.steps_made() == 1
    changes = observed.measure()
    expected = pattern_temperature(
        model, {"data": {"images": batch_of(0)[0][:10], "offset": torch.zeros(3)}, "scale": 0.5}, before, {}
    )
    assert changes.changed.tolist() == expected.changed.tolist()
    assert changes.patterns.tolist() == [10 * 36, 10]


def in_a_group(rank: int, folder: str) -> None:
    """One of two processes that train one network on different batches."""
    import torch.distributed as distributed

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(network())
    loop = Loop(model=model, sigma=None)
    loop.number = 1000 * rank
    loop.run(22)
    assert loop.scheduler is not None
    torch.save([loop.rates, loop.scheduler.last_metrics, model.module.state_dict()], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_that_train_together_agree(tmp_path: Any) -> None:
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=in_a_group, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one[0] == other[0]
    assert len(set(one[0])) > 15
    assert one[1] == other[1]
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2] if "running" not in name)
