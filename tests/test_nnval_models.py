"""The networks by name: sizes, shapes, initial weights, what they refuse; and a user's own."""

import copy
import importlib
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.engine import torchvision_pair
from nnval.engine.config import TrainingConfig
from nnval.engine.models import MODELS, build_model
from nnval.engine.torchvision_pair import import_torchvision, matching_torchvision

COLOUR, GREY = (3, 32, 32), (1, 8, 8)
FAMILIES = ("mlp", "lenet", "convnet4", "resnet18", "resnet20", "vgg16", "efficientnet_b0")
LEAST = dict.fromkeys(MODELS, (1, 8, 8)) | {"vgg16": (1, 32, 32), "efficientnet_b0": (1, 4, 4)}


def network(model: str, shape: tuple[int, int, int] = COLOUR, classes: int = 10) -> nn.Module:
    return build_model(TrainingConfig(model=model), shape, classes)


def size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def initialised(model: str, scheme, seed: int = 3) -> nn.Module:
    module = network(model, LEAST[model])
    initialise(module, scheme, torch.Generator().manual_seed(seed))
    return module


def images(shape: tuple[int, int, int], count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("model", "shape", "classes", "expected"),
    [
        ("lenet", COLOUR, 10, 62_006),
        ("lenet", (1, 32, 32), 10, 61_706),
        ("mlp", GREY, 10, 3_466),
        ("convnet4", (1, 28, 28), 10, 421_642),
        ("resnet18", COLOUR, 10, 11_173_962),
        ("resnet18", COLOUR, 100, 11_220_132),
        ("resnet18", COLOUR, 1000, 11_681_832),  # as Meir et al. released it
        ("resnet20", COLOUR, 10, 269_722),
        ("resnet32", COLOUR, 10, 464_154),
        ("resnet44", COLOUR, 10, 658_586),
        ("resnet56", COLOUR, 10, 853_018),
        ("vgg16", COLOUR, 10, 14_728_266),
        ("efficientnet_b0", COLOUR, 10, 4_020_358),
        ("efficientnet_b0", COLOUR, 100, 4_135_648),
    ],
)
def test_number_of_parameters(model, shape, classes, expected) -> None:
    assert size(network(model, shape, classes)) == expected


@pytest.mark.parametrize("model", FAMILIES)
def test_one_step_of_sgd_lowers_the_loss(model) -> None:
    module = initialised(model, "kaiming_fan_out").train()
    batch, labels = images(LEAST[model], 8), torch.arange(8)

    def loss_of_batch() -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # so that dropout leaves the same out
            return F.cross_entropy(module(batch), labels)

    loss = loss_of_batch()
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    # Not so far that BatchNorm's curvature matters: the loss falls by nearly 1 % if the gradient is right.
    step = 0.01 * loss.item() / sum(float((gradient**2).sum()) for gradient in gradients)
    with torch.no_grad():
        for weights, gradient in zip(parameters, gradients, strict=True):
            weights.sub_(gradient, alpha=step)
        fallen = 1 - loss_of_batch().item() / loss.item()
    assert fallen == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("scheme", ["torch_default", "kaiming_fan_out"])
@pytest.mark.parametrize("model", ["lenet", "resnet56", "efficientnet_b0"])
def test_the_generator_alone_decides_the_weights(model, scheme) -> None:
    before = torch.get_rng_state()
    first, again, other = initialised(model, scheme), initialised(model, scheme), initialised(model, scheme, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, weights), same in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weights, same), name
    drawn = [name for name, weights in first.named_parameters() if weights.dim() > 1]
    different = dict(other.named_parameters())
    assert not [name for name in drawn if torch.equal(first.get_parameter(name), different[name])]
    assert all(bool(buffer.isfinite().all()) for buffer in first.buffers())


@pytest.mark.parametrize("model", ["vgg16", "efficientnet_b0", "resnet20", "resnet18"])
def test_torch_default_is_what_the_layers_draw_themselves(model) -> None:
    """Layer after layer, from the global generator with the same seed: grouped and depthwise convolutions too."""
    ours, theirs = initialised(model, "torch_default", seed=7), network(model, LEAST[model])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for module in theirs.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # pyright: ignore[reportCallIssue]
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


@pytest.mark.parametrize("model", ["resnet18", "vgg16", "efficientnet_b0"])
def test_kaiming_fan_out_is_the_law_of_torchvision_for_convolutions(model) -> None:
    """And for normalisation layers. Of linear layers and biases of convolutions torchvision has other laws by model."""
    module = initialised(model, "kaiming_fan_out", seed=5)
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000]
    for layer in convolutions:
        channels, _, rows, columns = layer.weight.shape
        expected = (2 / (channels * rows * columns)) ** 0.5  # torchvision too takes all outputs of a depthwise one
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert abs(layer.weight.mean().item()) < 0.1 * expected
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert bool((layer.weight == 1).all())
            assert bool((layer.bias == 0).all())
    if model == "resnet18":  # whose convolutions have no biases that would be drawn in between: bit by bit
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            for layer in (layer for layer in module.modules() if isinstance(layer, nn.Conv2d)):
                theirs = nn.init.kaiming_normal_(torch.empty_like(layer.weight), mode="fan_out", nonlinearity="relu")
                assert torch.equal(layer.weight, theirs)


def test_option_a_skips_pixels_and_adds_channels_of_zeros() -> None:
    block = initialised("resnet20", "torch_default")[6]  # pyright: ignore[reportIndexIssue] -- Sequential
    assert (block.conv1.in_channels, block.conv1.out_channels, block.conv1.stride) == (16, 32, (2, 2))
    nn.init.zeros_(block.conv2.weight)
    batch = images((16, 7, 7), 2).abs()
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, :16] = batch[:, :, ::2, ::2]
    assert torch.equal(block.eval()(batch), expected)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("resnet18", (1, 1, 1)),
        ("resnet20", (2, 5, 9)),
        ("efficientnet_b0", (1, 3, 2)),
        ("vgg16", (1, 40, 70)),
        ("convnet4", (3, 4, 5)),
        ("lenet", (3, 4, 9)),
        ("mlp", (3, 1, 2)),
    ],
)
def test_images_of_odd_sizes(model, shape) -> None:
    assert network(model, shape, 3).eval()(images(shape, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("vgg16", GREY, "model='vgg16' needs images of at least 32x32 pixels, not 8x8; use model='convnet4'"),
        ("vgg16", (1, 28, 28), "at least 32x32 pixels, not 28x28"),
        ("convnet4", (1, 3, 9), "model='convnet4' needs images of at least 4x4 pixels, not 3x9; use model='mlp'"),
        ("lenet", (1, 9, 3), "at least 4x4 pixels, not 9x3"),
        ("resnet19", COLOUR, "model='resnet19' must be one of mlp, lenet, .*, or package.module:function"),
    ],
)
def test_what_cannot_be_built_says_why(model, shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        network(model, shape)


@pytest.mark.parametrize("model", FAMILIES)
def test_building_leaves_the_global_generator_alone(model) -> None:
    before = torch.get_rng_state()
    assert network(model, LEAST[model]).training
    assert torch.equal(torch.get_rng_state(), before)


# ---- torchvision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("torch_version", "expected"), [("2.14.1+cu130", "0.29"), ("2.11.0", "0.26"), ("3.0.0", None)])
def test_the_torchvision_of_a_torch(torch_version, expected) -> None:
    assert matching_torchvision(torch_version) == expected


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ModuleNotFoundError("No module named 'torchvision'", name="torchvision"),
            "torchvision cannot be imported .No",
        ),
        (RuntimeError("operator torchvision::nms does not exist\nmore"), "does not fit torch 2.13.0.cpu .operator"),
    ],
)
def test_a_torchvision_that_does_not_import_names_the_pair(monkeypatch, error, message) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    with pytest.raises(ValueError, match=message) as caught:
        network("resnet18")
    assert "pip install 'torch==2.13.*' 'torchvision==0.28.*'" in str(caught.value)
    assert torchvision_pair.import_torchvision is import_torchvision


# ---- a network of one's own ------------------------------------------------------------------------------------------

OWN = """
import torch
from torch import nn
import helper_of_mine

def small(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

def lazy(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

class Whole(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Conv2d(shape[0], classes, 1)

    def forward(self, images):
        return self.layer(images).mean((2, 3))

class Positions(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(classes))

    def forward(self, images):
        return self.positions + images.mean((1, 2, 3))[:, None]

number = 3
def nothing(shape, classes): return None
def fails(shape, classes): raise KeyError("oops")
def too_few(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
def pictures(shape, classes): return nn.Conv2d(1, 10, 1)

class Pair(Whole):
    def forward(self, images):
        return images, 0
def for_colour(shape, classes): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(classes))
def fixed(shape, classes): return small(shape, classes).requires_grad_(False)
"""


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Modules in a current directory that Python would not look in."""
    (tmp_path / "networks_of_mine.py").write_text(OWN)
    (tmp_path / "helper_of_mine.py").write_text("")
    (tmp_path / "broken_of_mine.py").write_text("import absent_of_mine\n")
    (tmp_path / "stops_of_mine.py").write_text("raise RuntimeError('half way')\n")
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "networks.py").write_text("from networks_of_mine import small\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if "of_mine" in name:
            del sys.modules[name]


@pytest.mark.parametrize("name", ["networks_of_mine:small", "networks_of_mine:lazy", "package_of_mine.networks:small"])
def test_own_function(own_files, name) -> None:
    path, generator = list(sys.path), torch.get_rng_state()
    module = network(name, GREY)
    assert (size(module), module.training) == (650, True)
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), generator)
    initialise(module, "torch_default", torch.Generator().manual_seed(1))
    twin = copy.deepcopy(network(name, GREY))
    initialise(twin, "torch_default", torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))


def test_own_class(own_files) -> None:
    assert network("networks_of_mine:Whole", COLOUR, 4)(images(COLOUR, 3)).shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "absent_of_mine:net",
            "no module 'absent_of_mine', neither in the current directory .* nor installed; change to",
        ),
        ("package_of_mine.absent:net", "no module 'package_of_mine.absent'"),
        ("networks_of_mine.deeper:net", "no module 'networks_of_mine.deeper'"),
        (
            "broken_of_mine:net",
            "importing broken_of_mine failed .ModuleNotFoundError: No module named 'absent_of_mine'",
        ),
        ("stops_of_mine:net", "importing stops_of_mine failed .RuntimeError: half way"),
        (
            "networks_of_mine:absent",
            r"networks_of_mine.py has no 'absent'; define it there, as def absent\(shape, classes\)",
        ),
        ("networks_of_mine:number", "number is a int, which cannot be called; it must be a function"),
        ("networks_of_mine:nothing", "returned a NoneType; it must return a new torch.nn.Module"),
        ("networks_of_mine:fails", r"calling it with \(1, 8, 8\), 10 failed .KeyError: 'oops'"),
        ("networks_of_mine:too_few", r"makes shape \(2, 1\) of two images; it must return logits .*, here \(2, 10\)"),
        ("networks_of_mine:pictures", r"makes shape \(2, 10, 8, 8\) of two images"),
        (
            "networks_of_mine:for_colour",
            r"does not take .* = \(1, 8, 8\) on the CPU .RuntimeError: .*build it for the shape",
        ),
        ("networks_of_mine:Pair", "makes a tuple of two images; it must return logits"),
        ("networks_of_mine:fixed", "no parameter with requires_grad=True: there is nothing to train"),
        (
            "networks_of_mine:Positions",
            "cannot be initialised by name, .* 'model' is a Positions with its own positions",
        ),
        ("networks_of_mine:", "must be package.module:function"),
        (":small", "must be package.module:function"),
        ("networks_of_mine:small:2", "must be package.module:function"),
        ("./networks_of_mine.py:small", "must be package.module:function"),
    ],
)
def test_own_function_that_does_not_do_says_why(own_files, name, message) -> None:
    path = list(sys.path)
    with pytest.raises(ValueError, match=message) as caught:
        network(name, GREY)
    assert re.search(rf"model={name!r}", str(caught.value))
    assert sys.path == path
