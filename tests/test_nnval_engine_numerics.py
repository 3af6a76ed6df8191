"""Precision, memory format, compilation, determinism, and what can be stacked."""

import contextlib
import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.checkpoint import to_bytes
from nnval.engine.device import Numerics, deterministic_algorithms, resolve_device
from nnval.engine.images import Images
from nnval.engine.loop import InitialWeights
from nnval.engine.models import lenet, mlp
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import ChainExecution, LoopExecution, MappedExecution, executions
from tests.stacked_networks import CONFIG, CPU, epoch_of, loop_of, noisy, random_images, stack_of

WAYS = [ChainExecution, MappedExecution, LoopExecution]


@pytest.fixture(scope="module")
def images():
    return random_images()


# ---- Precision and memory format -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_is_that_of_torch(way, precision, images):
    module = mlp((1, 8, 8), 5, (16,))
    numerics = Numerics(precision)
    stack = stack_of(module, [4, 2])
    epoch = epoch_of([4, 2])
    losses = way(module, numerics).train_epoch(stack, images, Optimizer(), epoch)
    trained = mlp((1, 8, 8), 5, (16,))
    trained.load_state_dict(InitialWeights(module, "torch_default", CPU)(4)[0])
    theirs = torch.optim.SGD(trained.parameters(), 0.1)
    reference = []
    for samples in epoch.batches[0]:
        with torch.autocast("cpu", dtype=getattr(torch, precision)):
            logits = trained(images.pixels[samples])
        loss = F.cross_entropy(logits.float(), images.labels[samples])
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        reference.append(loss.item())
    exact = way is LoopExecution
    assert losses[0] == pytest.approx(np.mean(reference), rel=1e-7 if exact else 1e-2)
    for name, parameter in trained.named_parameters():
        assert stack.parameters[name].dtype == torch.float32
        difference = (stack.parameters[name][0] - parameter.detach()).abs().max()
        assert difference == 0 if exact else difference < 0.01
    # It does make a difference.
    plain = stack_of(module, [4, 2])
    way(module).train_epoch(plain, images, Optimizer(), epoch)
    assert not torch.equal(plain.parameters["1.weight"], stack.parameters["1.weight"])
    counts = way(module, numerics).correct(stack, images)
    with torch.no_grad():
        assert abs(counts[0] - int((trained(images.pixels).argmax(1) == images.labels).sum())) <= 2


def test_channels_last_is_rounding_only():
    generator = torch.Generator().manual_seed(0)
    images = Images(torch.randn(60, 3, 8, 8, generator=generator), torch.arange(60) % 5)
    module = lenet((3, 8, 8), 5)
    seen = []

    def look(layer, arguments):
        seen.append(arguments[0].is_contiguous(memory_format=torch.channels_last))

    stacks = []
    for channels_last in (False, True):
        stack = stack_of(module, [1])
        way = LoopExecution(module, Numerics(channels_last=channels_last))
        way._module[0].register_forward_pre_hook(look)
        way.train_epoch(stack, images, Optimizer(), epoch_of([1]))
        way.correct(stack, images)
        assert set(seen) == {channels_last}
        seen.clear()
        stacks.append(stack)
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, rtol=1e-4, atol=1e-5)


# ---- Compilation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_compiler(monkeypatch):
    """Graphs are captured and checked as ever; only the code generation is left out."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
@pytest.mark.parametrize("way", WAYS)
def test_compiled_networks_train_alike(way, images, quick_compiler):
    module = mlp((1, 8, 8), 5, (16,))
    stacks = []
    for compiled in (False, True):
        stack = stack_of(module, [4, 2])
        execution = way(module, Numerics(compiled=compiled))
        for _ in range(2):
            execution.train_epoch(stack, images, Optimizer(), epoch_of([4, 2]))
        execution.correct(stack, images)
        stacks.append(stack)
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, rtol=1e-4, atol=1e-5)


class CannotBeCompiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 5)

    def forward(self, images):
        if float(images.sum()) > 0:  # a number, so the graph ends here
            return self.layer(images.flatten(1))
        return -self.layer(images.flatten(1))


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_compiled_is_an_error(images, quick_compiler):
    module = CannotBeCompiled()
    way = LoopExecution(module, Numerics(compiled=True))
    with pytest.raises(ValueError, match=r"compiled=True: torch.compile failed \(.*\); use compiled=False"):
        way.train_epoch(stack_of(module, [0]), images, Optimizer(), epoch_of([0]))
    LoopExecution(module).train_epoch(stack_of(module, [0]), images, Optimizer(), epoch_of([0]))


# ---- Devices -------------------------------------------------------------------------------------------------------


def test_auto_is_a_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ValueError, match=r"device='abacus' cannot be used here"):
        resolve_device("abacus")


def test_deterministic_algorithms_are_for_a_while(monkeypatch):
    def settings():
        cudnn = torch.backends.cudnn
        return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark

    before = settings()
    with deterministic_algorithms(False, CPU):
        assert settings() == before
    with contextlib.suppress(KeyError), deterministic_algorithms(True, CPU):
        assert settings() == (True, True, False)
        raise KeyError
    assert settings() == before
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with (
        pytest.raises(ValueError, match=r"needs the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8"),
        deterministic_algorithms(True, torch.device("cuda")),
    ):
        pass


def test_a_deterministic_run_is_the_same_on_a_cpu():
    states = []
    for deterministic in (False, True):
        loop, state = loop_of(dataclasses.replace(CONFIG, deterministic=deterministic))
        for _ in loop.epochs(state, lambda state: None):
            assert not torch.are_deterministic_algorithms_enabled()
        states.append(to_bytes(state))
    assert states[0] == states[1]


# ---- What is offered -----------------------------------------------------------------------------------------------


class KeepsCount(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        return self.layer(images.flatten(1))


def frozen():
    module = mlp((1, 8, 8), 5, (4,))
    module[1].weight.requires_grad_(False)
    return module


OBSTACLES = [
    (nn.Flatten(), "which has no parameters"),
    (KeepsCount(), "which has buffers"),
    (noisy(), "which draws random numbers in each pass"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.RReLU()), "which draws random numbers in each pass"),
    (frozen(), "which has parameters that are not trained"),
]


@pytest.mark.parametrize(("module", "obstacle"), OBSTACLES)
def test_what_cannot_be_stacked(module, obstacle):
    assert MappedExecution.obstacle(module) == obstacle
    assert list(executions(module, CONFIG)) == ["loop"]
    stacked = dataclasses.replace(CONFIG, execution="stacked")
    with pytest.raises(ValueError, match=rf"execution='stacked' cannot train model='mlp', {obstacle}; use 'loop'"):
        executions(module, stacked)


def test_what_is_offered():
    chain = mlp((1, 8, 8), 5)
    normalised = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5))
    own = dataclasses.replace(CONFIG, model="package.module:function")
    assert type(executions(chain, CONFIG)["stacked"]) is ChainExecution
    assert type(executions(lenet((1, 8, 8), 5), CONFIG)["stacked"]) is MappedExecution
    assert list(executions(chain, own)) == ["loop"]
    assert list(executions(normalised, CONFIG)) == ["loop"]
    for module, config in ((chain, own), (normalised, CONFIG)):
        assert list(executions(module, dataclasses.replace(config, execution="stacked"))) == ["loop", "stacked"]


def test_frozen_parameters_stay(images):
    module = frozen()
    stack = stack_of(module, [0], Optimizer(momentum=0.5))
    before = stack.parameters["1.weight"].clone()
    LoopExecution(module).train_epoch(stack, images, Optimizer(momentum=0.5), epoch_of([0]))
    assert torch.equal(stack.parameters["1.weight"], before)
    assert stack.slots["velocity"]["3.weight"].abs().max() > 0


class Decides(nn.Module):
    """By the value of a tensor, which vmap does not know."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 5)

    def forward(self, images):
        return self.layer(images.flatten(1)) if images.sum() > 0 else self.layer(-images.flatten(1))


def test_a_network_that_vmap_refuses(images):
    module = Decides()
    with pytest.raises(ValueError, match=r"execution='stacked' cannot train this network \(.*\); use 'loop'"):
        MappedExecution(module).train_epoch(stack_of(module, [0, 1]), images, Optimizer(), epoch_of([0, 1]))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_gpu_trains_like_a_cpu(name, images):
    gpu = torch.device("cuda")
    module = lenet((1, 8, 8), 5)
    optimizer = Optimizer(name, momentum=0.9 * (name == "sgd"), nesterov=name == "sgd", weight_decay=0.01)
    for way in (LoopExecution, MappedExecution):
        here, there = stack_of(module, [0, 1], optimizer), stack_of(module, [0, 1], optimizer).to(gpu)
        epoch = dataclasses.replace(epoch_of([0, 1]), learning_rates=[0.01] * 4)
        on_gpu = dataclasses.replace(epoch, batches=epoch.batches.to(gpu))
        way(module).train_epoch(here, images, optimizer, epoch)
        way(module).train_epoch(there, images.to(gpu), optimizer, on_gpu)
        torch.testing.assert_close(here.parameters, there.to("cpu").parameters, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
def test_dropout_on_a_gpu_is_the_members_own(images):
    gpu = torch.device("cuda")
    module = noisy()
    rows = []
    for members in ([0, 1], [1]):
        stack = stack_of(module, members).to(gpu)
        epoch = epoch_of(members, noise_seed=lambda member: member)
        on_gpu = dataclasses.replace(epoch, batches=epoch.batches.to(gpu))
        LoopExecution(module).train_epoch(stack, images.to(gpu), Optimizer(), on_gpu)
        rows.append(stack.member(members.index(1)).parameters["1.weight"].cpu())
    assert torch.equal(*rows)
