"""The laws of perturbed weights and of the initialisations they are mixed with."""

import math

import pytest
import scipy.stats
import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.drop_in.perturbations import (
    GaussianNoise,
    ShrinkPerturb,
)
from tests.perturbed_networks import equal, initialised, lenet, mlp, never, snapshot
from tests.torch_helpers import generator_from
from theory.estimate import agreement


@pytest.mark.parametrize("fresh", ["init", "gaussian"])
def test_variance_of_shrink_and_perturb(fresh, seed):
    shrink, noise, fan_in = 0.5, 0.3, 400
    layer = nn.Linear(fan_in, 1000)
    generator = generator_from(seed)
    with torch.no_grad():
        layer.weight.normal_(0, 0.04, generator=generator)
    variance, variance_fresh = 0.04**2, 1 / (3 * fan_in) if fresh == "init" else 0.04**2
    ShrinkPerturb(shrink, noise, fresh=fresh).apply(layer, generator=generator)
    squares = layer.weight.detach().double().square().flatten().numpy()
    assert agreement(squares, shrink**2 * variance + noise**2 * variance_fresh, detects=0.05)
    assert not agreement(squares, shrink**2 * variance)  # noise forgotten
    assert not agreement(squares, (shrink * math.sqrt(variance) + noise * math.sqrt(variance_fresh)) ** 2)  # correlated
    assert not agreement(squares, shrink * variance + noise * variance_fresh)  # not squared


@pytest.mark.parametrize(("mode", "scale"), [("absolute", 1.0), ("relative_weight", 0.2)])
def test_variance_of_gaussian_noise(mode, scale, seed):
    generator = generator_from(seed)
    before = 0.2 * torch.randn(400, 1000, generator=generator)
    tensors = {"weight": before.clone(), "bias": torch.zeros(3)}
    GaussianNoise(0.3, mode=mode).perturb(tensors, {}, fresh=never, generator=generator)
    assert bool((tensors["bias"] != 0).all()) == (mode == "absolute")
    added = (tensors["weight"] - before).double().flatten().numpy()
    assert agreement(added**2, (0.3 * scale) ** 2, detects=0.05)
    assert not agreement(added**2, 0.3 * scale**2)
    assert agreement(added * before.double().flatten().numpy(), 0.0)


def test_laws_of_the_initialisations(seed):
    generator = generator_from(seed)
    conv, linear, embedding = nn.Conv2d(8, 32, 3), nn.Linear(50, 400), nn.Embedding(100, 40, padding_idx=3)
    transposed = nn.ConvTranspose2d(8, 32, 3)
    for scheme in ("torch_default", "kaiming_fan_out"):
        for module in (conv, linear, embedding, transposed):
            initialise(module, scheme, generator)
        uniform = {"linear": (linear.weight, 1 / math.sqrt(50)), "linear bias": (linear.bias, 1 / math.sqrt(50))}
        uniform["conv bias"] = (conv.bias, 1 / math.sqrt(72))
        uniform["transposed"] = (transposed.weight, 1 / math.sqrt(32 * 9))  # torch's fan in counts its outputs
        if scheme == "torch_default":
            uniform["conv"] = (conv.weight, 1 / math.sqrt(72))
        else:
            weights = conv.weight.detach().flatten().numpy() / math.sqrt(2 / (32 * 9))
            assert scipy.stats.kstest(weights, "norm").pvalue > 1e-6
            assert scipy.stats.kstest(weights * math.sqrt(32 / 8), "norm").pvalue < 1e-6  # fan in instead of fan out
        for tensor, bound in uniform.values():
            values = tensor.detach().flatten().numpy()
            assert abs(values).max() <= bound
            assert scipy.stats.kstest(values, scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-6
        rows = embedding.weight.detach()
        assert (rows[3] == 0).all()
        assert scipy.stats.kstest(torch.cat([rows[:3], rows[4:]]).flatten().numpy(), "norm").pvalue > 1e-6


@pytest.mark.parametrize(
    "build",
    [
        mlp,
        lenet,
        lambda: lenet().to(memory_format=torch.channels_last),
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, groups=1), nn.Conv1d(4, 8, 3, groups=4), nn.Conv3d(1, 2, 2)),
        lambda: nn.Sequential(nn.Embedding(5, 4, padding_idx=2), nn.EmbeddingBag(5, 4), nn.Bilinear(3, 4, 5)),
        lambda: nn.Sequential(nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), nn.GRUCell(3, 4), nn.RNN(3, 4)),
        lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.PReLU()),
        lambda: mlp().double(),
    ],
    ids=["mlp", "lenet", "channels_last", "conv", "embedding", "recurrent", "norm", "double"],
)
def test_torch_default_is_bitwise_what_reset_parameters_draws(build, seed):
    ours, theirs = build(), build()
    for model in (ours, theirs):
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.fill_(3)
    state = torch.get_rng_state()
    initialise(ours, "torch_default", generator_from(seed))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in theirs.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    assert equal(snapshot(ours), snapshot(theirs))


def test_a_new_torch_model_is_bitwise_torch_default():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        new = lenet()
    assert equal(snapshot(new), snapshot(initialised(lenet, 11)))


class Scaled(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.gain = nn.Parameter(torch.ones(2))


class OwnLaw(nn.Linear):
    def reset_parameters(self):
        nn.init.zeros_(self.weight)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Scaled, "'model' is a Scaled with its own gain.*init_fn"),
        (lambda: nn.Sequential(nn.Linear(2, 2), OwnLaw(2, 2)), "'1' is a OwnLaw with its own weight, bias.*init_fn"),
        (lambda: nn.MultiheadAttention(4, 2), "MultiheadAttention with its own in_proj_weight"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "ParametrizationList with its own original0"),
    ],
    ids=["subclass with more", "subclass with other law", "attention", "parametrised"],
)
def test_unknown_modules_are_refused_before_anything_is_drawn(build, words):
    model = build()
    before = snapshot(model)
    with pytest.raises(ValueError, match=words):
        initialise(model, "torch_default", generator_from(0))
    with pytest.raises(ValueError, match=words):
        ShrinkPerturb(0.4, 0.1).apply(model, generator=generator_from(0))
    assert equal(before, snapshot(model))
    ShrinkPerturb(0.4, 0.1).apply(model, generator=generator_from(0), init_fn=build)
    ShrinkPerturb(0.4, 0.1, fresh="gaussian").apply(model, generator=generator_from(0))
    assert not equal(before, snapshot(model))
