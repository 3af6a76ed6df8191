"""Stacks of members and the ways to train them, against plain PyTorch."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.config import TrainingConfig
from nnval.engine.device import thread_count
from nnval.engine.images import Images
from nnval.engine.loop import InitialWeights
from nnval.engine.models import lenet, mlp
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import (
    ChainExecution,
    Epoch,
    LoopExecution,
    MappedExecution,
    MemberStack,
    seconds_per_member_step,
)

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 5
MODELS = {"mlp": lambda: mlp(SHAPE, CLASSES, (16, 7)), "lenet": lambda: lenet(SHAPE, CLASSES)}
WAYS = [
    ("mlp", ChainExecution),
    ("mlp", MappedExecution),
    ("mlp", LoopExecution),
    ("lenet", MappedExecution),
    ("lenet", LoopExecution),
]


OPTIMIZERS = [
    Optimizer(),
    Optimizer(momentum=0.9),
    Optimizer(weight_decay=0.01),
    Optimizer(momentum=0.9, weight_decay=0.01),
    Optimizer(momentum=0.9, nesterov=True, weight_decay=0.01),
    Optimizer("adam", weight_decay=0.01),
    Optimizer("adamw", betas=(0.8, 0.99), weight_decay=0.01),
]
SGD = Optimizer()
MOMENTUM = Optimizer(momentum=0.9, weight_decay=1e-3)


def optimizer_id(optimizer):
    return f"{optimizer.name}{optimizer.momentum:g}{'n' * optimizer.nesterov}-{optimizer.weight_decay:g}"


def stack_of(module, members, optimizer=SGD):
    initial = InitialWeights(module, "torch_default", CPU)
    return MemberStack.of(members, [initial(member) for member in members], slots=optimizer.slots)


def train(way, stack, images, batches, optimizer=SGD, learning_rate=0.1):
    """One epoch; a list of learning rates is one per step."""
    rates = learning_rate if isinstance(learning_rate, list) else [learning_rate] * batches.shape[1]
    return way.train_epoch(stack, images, optimizer, Epoch(batches, rates))


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randn(60, *SHAPE, generator=generator), torch.randint(0, CLASSES, (60,), generator=generator))


def batches_of(members, steps=6, size=10):
    rows = [np.random.default_rng(member).integers(60, size=(steps, size)) for member in members]
    return torch.from_numpy(np.stack(rows))


def torch_optimizer(optimizer, parameters, learning_rate=0.1):
    options = {"lr": learning_rate, "weight_decay": optimizer.weight_decay}
    if optimizer.name == "sgd":
        return torch.optim.SGD(parameters, momentum=optimizer.momentum, nesterov=optimizer.nesterov, **options)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer.name](
        parameters, betas=optimizer.betas, **options
    )


TORCH_SLOTS = {"velocity": "momentum_buffer", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}


def plain(module, state, images, batches, optimizer=SGD, learning_rate=0.1):
    """One member on a real module with torch's own optimiser."""
    module = copy.deepcopy(module)
    module.load_state_dict({**state[0], **state[1]})
    theirs = torch_optimizer(optimizer, module.parameters())
    rates = learning_rate if isinstance(learning_rate, list) else [learning_rate] * len(batches)
    losses = []
    for samples, rate in zip(batches, rates, strict=True):
        theirs.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(module(images.pixels[samples]), images.labels[samples])
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        losses.append(loss.item())
    return module, theirs, losses


@pytest.mark.parametrize(("model", "way"), WAYS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_every_way_is_plain_pytorch(model, way, optimizer, images):
    """Two epochs: the second begins with what the first left in the slots."""
    module = MODELS[model]()
    members = [3, 0, 8]
    stack = stack_of(module, members, optimizer)
    batches = batches_of(members)
    rates = [0.1, 0.05, 0.02, 0.1, 0.0, 0.1] if optimizer.name == "sgd" else [0.01, 0.005, 0.002, 0.01, 0.0, 0.01]
    for half, some in ((batches[:, :2], rates[:2]), (batches[:, 2:], rates[2:])):
        losses = train(way(module), stack, images, half, optimizer, some)
    assert stack.steps == 6
    counts = way(module).correct(stack, images)
    for row, member in enumerate(members):
        state = InitialWeights(module, "torch_default", CPU)(member)
        trained, theirs, reference = plain(module, state, images, batches[row], optimizer, rates)
        assert losses[row] == pytest.approx(np.mean(reference[2:]), rel=1e-5)
        # The loop computes the very same operations, so its bits agree too.
        tolerance = {"rtol": 0, "atol": 0} if way is LoopExecution else {"rtol": 1e-4, "atol": 1e-5}
        view = stack.member(row)
        for name, parameter in trained.named_parameters():
            torch.testing.assert_close(view.parameters[name], parameter.detach(), **tolerance)
            for slot in optimizer.slots:
                torch.testing.assert_close(
                    view.slots[slot][name], theirs.state[parameter][TORCH_SLOTS[slot]], **tolerance
                )
        assert counts[row] == int((trained(images.pixels).argmax(1) == images.labels).sum())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_an_optimizer_is_that_of_torch_bit_by_bit(optimizer):
    """On a stack as well: each row like a tensor of its own."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, 7, 3, generator=generator)
    ours = start.clone()
    update = optimizer.on([ours], {slot: [torch.zeros_like(start)] for slot in optimizer.slots}, 0)
    theirs = [nn.Parameter(row.clone()) for row in start]
    optimiser = torch_optimizer(optimizer, theirs)
    for step in range(10):
        gradient = torch.randn(5, 7, 3, generator=generator)
        kept = gradient.clone()
        rate = 0.3 / (1 + step)
        update([gradient], rate)
        assert torch.equal(gradient, kept) or optimizer.name == "adam"
        for parameter, row in zip(theirs, kept, strict=True):
            parameter.grad = row.clone()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    assert torch.equal(ours, torch.stack([parameter.detach() for parameter in theirs]))


@pytest.mark.parametrize(("model", "way"), WAYS)
@pytest.mark.parametrize(
    "members", [[7], [7, 1], [1, 7], [30, 31, 7, 32], [*range(40, 72), 7]], ids=lambda members: f"K{len(members)}"
)
@pytest.mark.parametrize("optimizer", [MOMENTUM, Optimizer("adamw", weight_decay=1e-3)], ids=optimizer_id)
def test_companions_do_not_change_a_bit(model, way, optimizer, members, images):
    module = MODELS[model]()

    def trained(members):
        stack = stack_of(module, members, optimizer)
        losses = train(
            way(module), stack, images, batches_of(members), optimizer, 0.1 if optimizer is MOMENTUM else 0.01
        )
        counts = way(module).correct(stack, images)
        row = members.index(7)
        return losses[row], counts[row], stack.member(row)

    with thread_count(1):
        loss, count, view = trained(members)
        loss_there, count_there, there = trained(list(range(16)))
    assert (loss, count) == (loss_there, count_there)
    for name in view.parameters:
        assert torch.equal(view.parameters[name], there.parameters[name])
        for slot in optimizer.slots:
            assert torch.equal(view.slots[slot][name], there.slots[slot][name])


@pytest.mark.parametrize(
    ("features", "hidden", "classes"), [(1, (33,), 2), (16, (1, 20), 100), (64, (33, 1), 10), (64, (), 2)]
)
def test_a_single_member_has_no_kernel_of_its_own(features, hidden, classes):
    """Sizes of 1 are where torch takes another matrix product for a batch of one."""
    generator = torch.Generator().manual_seed(2)
    images = Images(
        torch.randn(60, 1, 1, features, generator=generator), torch.randint(0, 2, (60,), generator=generator)
    )
    module = mlp((1, 1, features), classes, hidden)
    both, alone = stack_of(module, [0, 1]), stack_of(module, [1])
    way = ChainExecution(module)
    train(way, both, images, batches_of([0, 1], size=20), learning_rate=0.05)
    train(way, alone, images, batches_of([1], size=20), learning_rate=0.05)
    for name in alone.parameters:
        assert torch.equal(both.parameters[name][1], alone.parameters[name][0])


@pytest.mark.parametrize(("model", "way"), WAYS)
def test_number_of_threads(model, way, images):
    """Bit by bit for matrix products; the gradient of a plain convolution is summed over threads, hence rounding."""
    module = MODELS[model]()
    stacks = []
    for threads in (1, 2):
        stack = stack_of(module, [0, 1, 2])
        with thread_count(threads):
            train(way(module), stack, images, batches_of([0, 1, 2], steps=2))
        stacks.append(stack)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if model == "lenet" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, **tolerance)


NORMALISED = nn.Sequential(
    nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES)
)


@pytest.mark.parametrize("way", [LoopExecution, MappedExecution])
def test_batch_normalisation_keeps_its_statistics_per_member(way, images):
    members = [0, 1, 5]
    stack, batches = stack_of(NORMALISED, members), batches_of(members)
    assert stack.buffers["1.num_batches_tracked"].dtype == torch.int64
    train(way(NORMALISED), stack, images, batches)
    counts = way(NORMALISED).correct(stack, images)
    tolerance = {"rtol": 0, "atol": 0} if way is LoopExecution else {"rtol": 1e-4, "atol": 1e-5}
    for row, member in enumerate(members):
        state = InitialWeights(NORMALISED, "torch_default", CPU)(member)
        trained, _, _ = plain(NORMALISED, state, images, batches[row])
        for name, buffer in trained.named_buffers():
            torch.testing.assert_close(stack.member(row).buffers[name], buffer, **tolerance)
        assert counts[row] == int((trained.eval()(images.pixels).argmax(1) == images.labels).sum())


@pytest.mark.parametrize("members", [[5], [5, 0], [0, 1, 2, 3, 4, 5, 6]], ids=len)
def test_batch_normalisation_does_not_see_companions(members, images):
    states = []
    for each in (members, list(range(9))):
        stack = stack_of(NORMALISED, each)
        with thread_count(1):
            train(MappedExecution(NORMALISED), stack, images, batches_of(each))
        states.append(stack.member(each.index(5)))
    for here, there in zip(states[0].parameters.values(), states[1].parameters.values(), strict=True):
        assert torch.equal(here, there)
    assert states[0].buffers["1.num_batches_tracked"] == 6
    for here, there in zip(states[0].buffers.values(), states[1].buffers.values(), strict=True):
        assert torch.equal(here, there)


class AssignsItsBuffer(nn.Module):
    """Some modules replace a buffer instead of writing to it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls = self.calls + 1
        return self.layer(images.flatten(1))


def test_replaced_buffers_are_stored(images):
    module = AssignsItsBuffer()
    stack = stack_of(module, [0, 1])
    train(LoopExecution(module), stack, images, batches_of([0, 1], steps=3))
    assert stack.buffers["calls"].tolist() == [3, 3]
    assert module.calls == 0


def test_evaluation_in_chunks_is_the_same(images, monkeypatch):
    for model, way in WAYS:
        module = MODELS[model]()
        stack = stack_of(module, [0, 1, 2])
        whole = way(module).correct(stack, images)
        with monkeypatch.context() as patch:
            patch.setattr("nnval.engine.stack._EVALUATION_VALUES", 64 * 7)
            assert np.array_equal(way(module).correct(stack, images), whole)


def test_which_modules_are_chains():
    flatten, linear = nn.Flatten(), nn.Linear(64, 3)
    assert ChainExecution.suits(nn.Sequential(flatten, linear, nn.Tanh(), nn.Linear(3, 2, bias=False)))

    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    others = [
        linear,
        nn.Sequential(),
        nn.Sequential(linear),
        nn.Sequential(nn.Flatten(2), linear),
        nn.Sequential(flatten, Doubled(64, 3)),
        nn.Sequential(flatten, linear, nn.Softmax(-1)),
        nn.Sequential(flatten, linear, nn.PReLU()),
        lenet(SHAPE, CLASSES),
    ]
    assert not any(ChainExecution.suits(module) for module in others)


def test_layers_without_bias(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.Tanh(), nn.Linear(8, CLASSES))
    stacks = []
    for way in (ChainExecution, LoopExecution):
        stack = stack_of(module, [0, 1])
        train(way(module), stack, images, batches_of([0, 1]))
        stacks.append(stack)
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, rtol=1e-5, atol=1e-6)


def test_the_architecture_is_never_written_to(images):
    for model, way in WAYS:
        module = MODELS[model]()
        before = copy.deepcopy(module.state_dict())
        stack = stack_of(module, [0, 1])
        train(way(module), stack, images, batches_of([0, 1]))
        torch.testing.assert_close(dict(module.state_dict()), dict(before), rtol=0, atol=0)


def test_views_and_selection():
    stack = stack_of(MODELS["mlp"](), [4, 6, 9], MOMENTUM)
    stack.steps = 8
    stack.member(1).parameters["1.bias"].fill_(5)
    stack.member(1).slots["velocity"]["1.bias"].fill_(6)
    assert stack.parameters["1.bias"][1].eq(5).all()
    for rows in (np.array([2, 1]), np.array([False, True, True])):
        some = stack.select(rows)
        row = some.members.tolist().index(6)
        assert sorted(some.members.tolist()) == [6, 9]
        assert some.slots["velocity"]["1.bias"][row].eq(6).all()
        assert some.steps == some.to("cpu").steps == 8
        some.member(row).parameters["1.bias"].fill_(0)
        assert stack.parameters["1.bias"][1].eq(5).all()
    nobody = stack.select(np.zeros(3, bool))
    assert len(nobody) == 0
    assert nobody.finite().shape == (0,)
    stack.clear_slots()
    assert stack.slots["velocity"]["1.bias"].eq(0).all()
    assert stack.steps == 0


def test_finite_sees_weights_and_buffers():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    stack = stack_of(module, [0, 1, 2])
    stack.parameters["1.bias"][0, 1] = torch.nan
    stack.buffers["2.running_mean"][2, 0] = torch.inf
    assert stack.finite().tolist() == [False, True, False]


@pytest.mark.parametrize("optimizer", [MOMENTUM, Optimizer("adam")], ids=optimizer_id)
def test_timing_leaves_the_members_alone(optimizer, images, monkeypatch):
    for model, way in WAYS:
        module = MODELS[model]()
        stack = stack_of(module, [0, 1, 2], optimizer)
        before = copy.deepcopy(stack)
        assert seconds_per_member_step(way(module), stack, images, 10) > 0
        torch.testing.assert_close(stack.parameters, before.parameters, rtol=0, atol=0)
        torch.testing.assert_close(stack.slots, before.slots, rtol=0, atol=0)
        assert stack.steps == 0
    monkeypatch.setattr("nnval.engine.stack._LONG_STEP_SECONDS", 0)
    assert seconds_per_member_step(LoopExecution(module), stack, images, 10) > 0


def test_initial_weights_are_named_by_seed_and_touch_no_global_state():
    config = TrainingConfig()
    module = mlp(SHAPE, CLASSES, config.hidden)
    initial = InitialWeights(module, "torch_default", CPU)
    before = torch.random.get_rng_state()
    first, other, again = initial(1), initial(2), initial(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0]["1.weight"], again[0]["1.weight"])
    assert not torch.equal(first[0]["1.weight"], other[0]["1.weight"])
