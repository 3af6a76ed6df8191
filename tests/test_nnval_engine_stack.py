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
from nnval.engine.stack import (
    ChainExecution,
    LoopExecution,
    MappedExecution,
    MemberStack,
    SgdStep,
    executions,
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


def stack_of(module, members, *, momentum=False):
    initial = InitialWeights(module, "torch_default", CPU)
    return MemberStack.of(members, [initial(member) for member in members], momentum=momentum)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randn(60, *SHAPE, generator=generator), torch.randint(0, CLASSES, (60,), generator=generator))


def batches_of(members, steps=6, size=10):
    rows = [np.random.default_rng(member).integers(60, size=(steps, size)) for member in members]
    return torch.from_numpy(np.stack(rows))


def plain(module, state, images, batches, *, momentum, weight_decay, learning_rate):
    """One member on a real module with torch's own optimiser."""
    module = copy.deepcopy(module)
    module.load_state_dict({**state[0], **state[1]})
    optimiser = torch.optim.SGD(module.parameters(), learning_rate, momentum=momentum, weight_decay=weight_decay)
    losses = []
    for samples in batches:
        loss = F.cross_entropy(module(images.pixels[samples]), images.labels[samples])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return module, optimiser, losses


@pytest.mark.parametrize(("model", "way"), WAYS)
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.01)])
def test_every_way_is_plain_pytorch(model, way, momentum, weight_decay, images):
    module = MODELS[model]()
    members = [3, 0, 8]
    stack = stack_of(module, members, momentum=momentum > 0)
    batches = batches_of(members)
    step = SgdStep(0.1, momentum, weight_decay)
    losses = way(module).train_epoch(stack, images, batches, step)
    counts = way(module).correct(stack, images)
    for row, member in enumerate(members):
        state = InitialWeights(module, "torch_default", CPU)(member)
        trained, optimiser, reference = plain(
            module, state, images, batches[row], momentum=momentum, weight_decay=weight_decay, learning_rate=0.1
        )
        assert losses[row] == pytest.approx(np.mean(reference), rel=1e-6)
        # The loop computes the very same operations, so its bits agree too.
        tolerance = {"rtol": 0, "atol": 0} if way is LoopExecution else {"rtol": 1e-5, "atol": 1e-6}
        view = stack.member(row)
        for name, parameter in trained.named_parameters():
            torch.testing.assert_close(view.parameters[name], parameter.detach(), **tolerance)
            if momentum:
                buffer = optimiser.state[parameter]["momentum_buffer"]
                torch.testing.assert_close(view.velocity[name], buffer, **tolerance)
        assert counts[row] == int((trained(images.pixels).argmax(1) == images.labels).sum())


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.01)])
def test_step_is_torch_sgd_bit_by_bit(momentum, weight_decay):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, 7, 3, generator=generator)
    ours, velocity = start.clone(), torch.zeros_like(start) if momentum else None
    theirs = [nn.Parameter(row.clone()) for row in start]
    optimiser = torch.optim.SGD(theirs, 0.3, momentum=momentum, weight_decay=weight_decay)
    for _ in range(10):
        gradient = torch.randn(5, 7, 3, generator=generator)
        SgdStep(0.3, momentum, weight_decay).update([ours], [gradient], None if velocity is None else [velocity])
        for parameter, row in zip(theirs, gradient, strict=True):
            parameter.grad = row.clone()
        optimiser.step()
    assert torch.equal(ours, torch.stack([parameter.detach() for parameter in theirs]))


@pytest.mark.parametrize(("model", "way"), WAYS)
@pytest.mark.parametrize(
    "members", [[7], [7, 1], [1, 7], [30, 31, 7, 32], [*range(40, 72), 7]], ids=lambda members: f"K{len(members)}"
)
def test_companions_do_not_change_a_bit(model, way, members, images):
    module = MODELS[model]()

    def trained(members):
        stack = stack_of(module, members, momentum=True)
        losses = way(module).train_epoch(stack, images, batches_of(members), SgdStep(0.1, 0.9, 1e-3))
        counts = way(module).correct(stack, images)
        row = members.index(7)
        return losses[row], counts[row], stack.member(row)

    with thread_count(1):
        loss, count, view = trained(members)
        loss_there, count_there, there = trained(list(range(16)))
    assert (loss, count) == (loss_there, count_there)
    for name in view.parameters:
        assert torch.equal(view.parameters[name], there.parameters[name])
        assert torch.equal(view.velocity[name], there.velocity[name])


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
    way.train_epoch(both, images, batches_of([0, 1], size=20), SgdStep(0.05))
    way.train_epoch(alone, images, batches_of([1], size=20), SgdStep(0.05))
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
            way(module).train_epoch(stack, images, batches_of([0, 1, 2], steps=2), SgdStep(0.1))
        stacks.append(stack)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if model == "lenet" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, **tolerance)


def test_batch_normalisation_keeps_its_statistics_per_member(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))
    ways = executions(module)
    assert list(ways) == ["loop"]
    members = [0, 1]
    stack, batches = stack_of(module, members), batches_of(members)
    assert stack.buffers["2.num_batches_tracked"].dtype == torch.int64
    ways["loop"].train_epoch(stack, images, batches, SgdStep(0.1))
    counts = ways["loop"].correct(stack, images)
    for row, member in enumerate(members):
        state = InitialWeights(module, "torch_default", CPU)(member)
        trained, _, _ = plain(module, state, images, batches[row], momentum=0, weight_decay=0, learning_rate=0.1)
        for name, buffer in trained.named_buffers():
            assert torch.equal(stack.member(row).buffers[name], buffer)
        assert counts[row] == int((trained.eval()(images.pixels).argmax(1) == images.labels).sum())


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
    LoopExecution(module).train_epoch(stack, images, batches_of([0, 1], steps=3), SgdStep(0.1))
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
    assert not MappedExecution.suits(nn.Flatten())


def test_layers_without_bias(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.Tanh(), nn.Linear(8, CLASSES))
    stacks = []
    for way in (ChainExecution, LoopExecution):
        stack = stack_of(module, [0, 1])
        way(module).train_epoch(stack, images, batches_of([0, 1]), SgdStep(0.1))
        stacks.append(stack)
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, rtol=1e-5, atol=1e-6)


def test_the_architecture_is_never_written_to(images):
    for model, way in WAYS:
        module = MODELS[model]()
        before = copy.deepcopy(module.state_dict())
        stack = stack_of(module, [0, 1])
        way(module).train_epoch(stack, images, batches_of([0, 1]), SgdStep(0.1))
        torch.testing.assert_close(dict(module.state_dict()), dict(before), rtol=0, atol=0)


def test_views_and_selection():
    stack = stack_of(MODELS["mlp"](), [4, 6, 9], momentum=True)
    stack.member(1).parameters["1.bias"].fill_(5)
    stack.member(1).velocity["1.bias"].fill_(6)
    assert stack.parameters["1.bias"][1].eq(5).all()
    for rows in (np.array([2, 1]), np.array([False, True, True])):
        some = stack.select(rows)
        row = some.members.tolist().index(6)
        assert sorted(some.members.tolist()) == [6, 9]
        assert some.velocity["1.bias"][row].eq(6).all()
        some.member(row).parameters["1.bias"].fill_(0)
        assert stack.parameters["1.bias"][1].eq(5).all()
    nobody = stack.select(np.zeros(3, bool))
    assert len(nobody) == 0
    assert nobody.finite().shape == (0,)


def test_finite_sees_weights_and_buffers():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    stack = stack_of(module, [0, 1, 2])
    stack.parameters["1.bias"][0, 1] = torch.nan
    stack.buffers["2.running_mean"][2, 0] = torch.inf
    assert stack.finite().tolist() == [False, True, False]


def test_timing_leaves_the_members_alone(images):
    for model, way in WAYS:
        module = MODELS[model]()
        stack = stack_of(module, [0, 1, 2], momentum=True)
        before = copy.deepcopy(stack)
        assert seconds_per_member_step(way(module), stack, images, 10) > 0
        torch.testing.assert_close(stack.parameters, before.parameters, rtol=0, atol=0)
        torch.testing.assert_close(stack.velocity, before.velocity, rtol=0, atol=0)


def test_initial_weights_are_named_by_seed_and_touch_no_global_state():
    config = TrainingConfig()
    module = mlp(SHAPE, CLASSES, config.hidden)
    initial = InitialWeights(module, "torch_default", CPU)
    before = torch.random.get_rng_state()
    first, other, again = initial(1), initial(2), initial(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0]["1.weight"], again[0]["1.weight"])
    assert not torch.equal(first[0]["1.weight"], other[0]["1.weight"])
