"""Precision, memory format, compilation, determinism, augmentation and layers that draw random numbers."""

import contextlib
import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.checkpoint import from_bytes, to_bytes
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.device import Numerics, deterministic_algorithms, resolve_device, seeded_generators
from nnval.engine.images import AUGMENTATIONS, Images
from nnval.engine.loop import InitialWeights, TrainingLoop
from nnval.engine.member_stack import MemberStack
from nnval.engine.models import build_model, lenet, mlp
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import ChainExecution, Epoch, LoopExecution, MappedExecution, executions

CPU = torch.device("cpu")
SGD = Optimizer()
CONFIG = TrainingConfig(
    train_size=60, validation_size=50, hidden=(8,), batch_size=10, epochs=5, learning_rate=0.1, execution="loop"
)
WAYS = [ChainExecution, MappedExecution, LoopExecution]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randn(60, 1, 8, 8, generator=generator), torch.randint(0, 5, (60,), generator=generator))


def noisy():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))


def stack_of(module, members, optimizer=SGD):
    initial = InitialWeights(module, "torch_default", CPU)
    return MemberStack.of(members, [initial(member) for member in members], slots=optimizer.slots)


def epoch_of(members, steps=4, size=10, **options):
    rows = [np.random.default_rng(member).integers(60, size=(steps, size)) for member in members]
    return Epoch(torch.from_numpy(np.stack(rows)), [0.1] * steps, **options)


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


# ---- Random numbers of layers --------------------------------------------------------------------------------------


@functools.cache
def digits():
    """None of the configs here differ in their data."""
    return load_data(CONFIG)


def loop_of(config, module=None, members=(0, 1, 2)):
    data = digits()
    module = build_model(config, data.shape, data.classes) if module is None else module
    way = executions(module, config)["stacked" if config.execution == "stacked" else "loop"]
    loop = TrainingLoop(config, data, module, way, None, CPU)
    return loop, loop.initial_state(list(members))


def train(loop, state, until=None):
    for record in loop.epochs(state, lambda state: None):
        if record.epoch == until:
            break
    return state


def test_generators_are_seeded_for_a_while():
    before = torch.random.get_rng_state()
    with seeded_generators(3, CPU):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with contextlib.suppress(KeyError), seeded_generators(3, CPU):
        assert torch.equal(torch.rand(3), first)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)


TRAININGS = {
    "momentum": {"momentum": 0.9, "nesterov": True, "schedule": "step", "milestones": (2, 4)},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "schedule": "one_cycle"},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "execution": "stacked"},
    "sgdr": {"schedule": "sgdr", "cycle_epochs": 2, "execution": "stacked", "augmentation": "crop_flip"},
    "augmented": {"augmentation": "crop_flip", "momentum": 0.5},
    "bfloat16": {"precision": "bfloat16", "momentum": 0.5},
}


@pytest.mark.parametrize("values", [*TRAININGS.values(), "dropout"], ids=[*TRAININGS, "dropout"])
def test_resuming_and_companions_do_not_change_a_bit(values):
    """Each stopped after epoch 3 and read back from its bytes; some members alone and in another order."""
    module = noisy() if values == "dropout" else None
    config = CONFIG if values == "dropout" else dataclasses.replace(CONFIG, **values)
    whole = train(*loop_of(config, module))
    loop, state = loop_of(config, module)
    middle = to_bytes(train(loop, state, until=3))
    state = from_bytes(middle)
    assert state.stack.steps == 18
    assert to_bytes(state) == middle
    assert set(state.stack.slots) == set(Optimizer.of(config).slots)
    torch.manual_seed(8)  # what else happens in the process does not matter
    state = train(loop_of(config, module)[0], state)
    assert to_bytes(state) == to_bytes(whole)
    others = train(*loop_of(config, module, members=(2, 0)))
    for row, member in enumerate((2, 0)):
        here, there = others.stack.member(row), whole.stack.member(member)
        assert here.parameters.keys() == there.parameters.keys()
        for name in here.parameters:
            assert torch.equal(here.parameters[name], there.parameters[name])
            for slot in here.slots:
                assert torch.equal(here.slots[slot][name], there.slots[slot][name])


def test_dropout_differs_between_members_epochs_and_streams():
    """With equal weights and equal batches only the noise is left."""

    def losses(epoch, **changes):
        config = dataclasses.replace(CONFIG, learning_rate=1e-30, **changes)
        loop, state = loop_of(config, noisy())
        state.stack = stack_of(noisy(), [0, 0, 0])
        state.stack.members = np.arange(3)
        state.epoch = epoch - 1
        epoch = loop._epoch(state, epoch)
        same = dataclasses.replace(epoch, batches=loop.batches(np.zeros(3, np.int64), 1))
        return loop._execution.train_epoch(state.stack, digits().train, Optimizer(), same).tolist()

    assert losses(1) == losses(1)
    assert len({*losses(1), *losses(2), *losses(1, stream="other"), *losses(1, seed=1)}) == 12


def test_evaluation_does_not_drop_out(images):
    module = noisy()
    stack = stack_of(module, [0])
    way = LoopExecution(module)
    before = torch.random.get_rng_state()
    assert len({int(way.correct(stack, images)[0]) for _ in range(5)}) == 1
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- Augmentation --------------------------------------------------------------------------------------------------


def test_augmentations_are_the_members_own():
    config = dataclasses.replace(CONFIG, augmentation="crop_flip")
    loop, _ = loop_of(config)
    codes = loop.augmentations(np.array([0, 1]), 1)
    assert codes.shape == loop.batches(np.array([0, 1]), 1).shape
    assert codes.min() >= 0
    assert codes.max() < AUGMENTATIONS
    assert torch.equal(loop.augmentations(np.array([1]), 1)[0], codes[1])
    for members, epoch in (([1, 0], 1), ([0, 1], 2)):
        assert not torch.equal(loop.augmentations(np.array(members), epoch), codes)
    assert loop_of(CONFIG)[0].augmentations(np.array([0, 1]), 1) is None
    # The shuffles are what they are without it.
    assert torch.equal(loop.batches(np.array([0]), 1), loop_of(CONFIG)[0].batches(np.array([0]), 1))


@pytest.mark.parametrize("way", [ChainExecution, LoopExecution])
def test_training_sees_augmented_images_and_evaluation_does_not(way, images):
    module = mlp((1, 8, 8), 5, (16,))
    codes = torch.from_numpy(np.random.default_rng(0).integers(AUGMENTATIONS, size=(2, 4, 10)))
    augmented, plain = stack_of(module, [4, 2]), stack_of(module, [4, 2])
    epoch = epoch_of([4, 2], augmentations=codes)
    way(module).train_epoch(augmented, images, Optimizer(), epoch)
    # The same training on images that were augmented before.
    ready = Images(
        images.inputs(epoch.batches.reshape(-1), codes.reshape(-1)), images.labels[epoch.batches.reshape(-1)]
    )
    others = dataclasses.replace(epoch, batches=torch.arange(80).view(2, 4, 10), augmentations=None)
    way(module).train_epoch(plain, ready, Optimizer(), others)
    for name, tensor in plain.parameters.items():
        assert torch.equal(augmented.parameters[name], tensor)


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
