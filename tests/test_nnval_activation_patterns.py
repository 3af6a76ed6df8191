"""Activation patterns: which ReLUs are seen, counts by hand and by brute force, and that measuring leaves no trace."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnval.engine.residual_networks import thin_resnet
from nnval.measure.activation_patterns import PatternChanges, lr_sweep, pattern_temperature, step_direction
from nnval.measure.pattern_passes import PatternRule, as_inputs, patterns_of, unwrapped
from nnval.measure.relu_calls import ReluCalls
from tests.torch_helpers import generator_from
from theory.activation_temperature import coldest_temperature, hottest_temperature, share_of

Weights = dict[str, torch.Tensor]


def built(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def weights_of(model: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(weights: Weights, size: float, seed: int = 1) -> Weights:
    generator = generator_from(seed)
    return {name: w + size * torch.randn(w.shape, generator=generator) for name, w in weights.items()}


def conv_net(dropout: float = 0.0) -> nn.Module:
    layers = [nn.Conv2d(2, 13, 3), nn.BatchNorm2d(13), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Conv2d(13, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def small_conv_net(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    def make() -> nn.Module:
        net = conv_net(dropout)
        net(torch.zeros(2, 2, 8, 8))  # the lazy layer takes its shape
        return net

    return built(make, seed)


# ---- What is a layer -------------------------------------------------------------------------------------------------


def test_calls_count_not_modules() -> None:
    """A module that is called three times is three layers; a whole network of the paper's kind."""
    relu = nn.ReLU()
    model = built(lambda: nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 5), relu, nn.Linear(5, 6), relu))
    assert pattern_temperature(model, torch.randn(7, 3), {}, {}).patterns.tolist() == [7, 7, 7]
    resnet = built(lambda: thin_resnet((3, 8, 8), 10, 3))
    assert sum(isinstance(module, nn.ReLU) for module in resnet.modules()) == 10
    assert pattern_temperature(resnet, torch.randn(4, 3, 8, 8), {}, {}).patterns.tolist() == 7 * [256] + 6 * [
        64
    ] + 6 * [16]


@pytest.mark.parametrize("train_mode", [True, False])
def test_transformer_layers_in_both_modes(train_mode: bool) -> None:
    """In evaluation a fused kernel would hide the ReLU; the switch for it is put back."""
    model = built(lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)).eval()
    changes = pattern_temperature(model, torch.randn(3, 5, 6), {}, {}, channel_dim=-1, train_mode=train_mode)
    assert changes.patterns.tolist() == [15]
    assert torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ValueError, match="called no ReLU"):
        pattern_temperature(nn.Tanh(), torch.zeros(2, 3), {}, {})
    assert torch.backends.mha.get_fastpath_enabled()


# ---- Counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["position", "sample", "bit"])
def test_the_layout_in_memory_does_not_matter(pattern: str) -> None:
    model = small_conv_net()
    inputs, after = torch.randn(4, 2, 8, 8, generator=generator_from(0)), moved(weights_of(model), 0.1)
    expected = pattern_temperature(model, inputs, {}, after, pattern).changed.tolist()
    model.to(memory_format=torch.channels_last)
    found = pattern_temperature(model, inputs.to(memory_format=torch.channels_last), {}, after, pattern)
    assert np.abs(found.changed - expected).max() <= 1  # sums are rounded in another order


def test_known_flips_of_a_linear_network() -> None:
    """Two layers. Sample 1 flips one unit of the first, sample 2 two units; the second layer reverses for sample 3."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False), nn.ReLU())
    inputs = torch.tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    before = {"0.weight": torch.eye(3), "2.weight": torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])}
    after = {"0.weight": torch.diag(torch.tensor([-1.0, 1.0, -1.0])), "2.weight": before["2.weight"]}
    counted = {p: pattern_temperature(model, inputs, before, after, p) for p in ("position", "sample", "bit")}
    # First layer: units 0 (samples 1, 2) and 2 (sample 2). Second: sample 2 has input (0,0,1) -> (1,0,0): stays on.
    assert counted["position"].changed.tolist() == [2, 0]
    assert counted["sample"].changed.tolist() == [2, 0]
    assert counted["bit"].changed.tolist() == [3, 0]
    assert counted["bit"].patterns.tolist() == [12, 8]
    negated = {**before, "2.weight": -before["2.weight"]}
    assert pattern_temperature(model, inputs, before, negated, "bit").changed.tolist() == [0, 3]


def test_known_flips_of_a_convolution_and_of_a_sequence() -> None:
    """A shift by a bias flips what is just below: 2 channels, 2x2 positions, 2 samples."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    eye = torch.eye(2).reshape(2, 2, 1, 1)
    before = {"0.weight": eye, "0.bias": torch.zeros(2)}
    after = {"0.weight": eye, "0.bias": torch.full((2,), 0.2)}
    images = torch.ones(2, 2, 2, 2)
    images[0, :, 0, 0] = -0.1  # both channels at one position
    images[0, 1, 1, 1] = -0.1  # one channel at another
    for pattern, changed, patterns in (("position", 2, 8), ("sample", 1, 2), ("bit", 3, 16)):
        changes = pattern_temperature(model, images, before, after, pattern)
        assert (changes.changed.tolist(), changes.patterns.tolist()) == ([changed], [patterns])
    sequence = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    flat = {"0.weight": torch.eye(2), "0.bias": before["0.bias"]}, {"0.weight": torch.eye(2), "0.bias": after["0.bias"]}
    tokens = images.flatten(2).transpose(1, 2)  # (batch, time, channels)
    for pattern, changed, patterns in (("position", 2, 8), ("sample", 1, 2), ("bit", 3, 16)):
        changes = pattern_temperature(sequence, tokens, *flat, pattern, channel_dim=-1)
        assert (changes.changed.tolist(), changes.patterns.tolist()) == ([changed], [patterns])
    wrong = pattern_temperature(sequence, tokens, *flat)  # time taken for channels: another number
    assert wrong.patterns.tolist() == [4]


@pytest.mark.parametrize("pattern", ["position", "sample", "bit"])
def test_counts_by_brute_force(pattern: str, seed: int) -> None:
    """Against copies of the network with hooks, in training mode: another way to the same counts."""
    model = small_conv_net(seed)
    inputs = torch.randn(6, 2, 8, 8, generator=generator_from(seed))
    before = weights_of(model)
    after = moved(before, 0.03, seed)

    def masks(weights: Weights) -> list[torch.Tensor]:
        clone, found = copy.deepcopy(model).train(), []
        clone.load_state_dict(weights, strict=False)
        for layer in clone:
            if isinstance(layer, nn.ReLU):
                layer.register_forward_pre_hook(lambda _, args: found.append(args[0].detach() > 0))
        clone(inputs)
        return found

    expected = []
    for one, other in zip(masks(before), masks(after), strict=True):
        differing = one != other
        by = {"position": differing.any(1), "sample": differing.flatten(1).any(1), "bit": differing}[pattern]
        expected.append((int(by.sum()), by.numel()))
    changes = pattern_temperature(model, inputs, before, after, pattern)
    assert list(zip(changes.changed.tolist(), changes.patterns.tolist(), strict=True)) == expected
    assert all(changed > 0 for changed, _ in expected)
    assert changes.finite


def test_both_ends_and_reductions() -> None:
    nothing = PatternChanges(np.array([0, 0]), np.array([128, 8192]), np.array(True))
    everything = PatternChanges(nothing.patterns, nothing.patterns, np.array(True))
    assert everything.layers.tolist() == [8.0, 14.0]
    assert everything.layers.tolist() == [hottest_temperature(128), hottest_temperature(8192)]
    assert np.allclose(nothing.layers, [coldest_temperature(128), coldest_temperature(8192)], rtol=1e-12)
    assert float(nothing.temperature) == pytest.approx(nothing.coldest, rel=1e-12)
    half = PatternChanges(np.array([64, 96]), np.array([128, 128]), np.array(True))
    assert float(half.temperature) == pytest.approx(1.5, rel=1e-12)
    assert float(half.share) == pytest.approx(1 - np.sqrt(0.5 * 0.25), rel=1e-12)  # geometric mean of the unchanged
    plain = PatternChanges(half.changed, half.patterns, half.finite, "probability")
    assert float(plain.share) == pytest.approx(0.625, rel=1e-12)
    assert plain.coldest == pytest.approx(coldest_temperature(128), rel=1e-12)


def test_position_does_not_depend_on_the_size_of_the_batch_but_sample_does(seed: int) -> None:
    """The reason for the default. Without normalisation: there is nothing else that depends on the batch then."""
    model = built(lambda: nn.Sequential(nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()), seed)
    before = weights_of(model)
    after = moved(before, 0.01, seed)
    inputs = torch.randn(256, 2, 8, 8, generator=generator_from(seed))
    found = {
        (pattern, size): float(pattern_temperature(model, inputs[:size], before, after, pattern).temperature)
        for pattern in ("position", "sample")
        for size in (16, 256)
    }
    assert found["position", 16] == pytest.approx(found["position", 256], rel=0.25)
    assert found["sample", 256] > found["sample", 16] + 1


# ---- No trace --------------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Normalisation, spectral normalisation, dropout, a counter in a buffer that is replaced, layers in two modes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 6, 3))
        self.norm, self.frozen = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.last = nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.frozen.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        hidden = F.dropout(self.norm(self.first(images)).relu_(), 0.3, self.training)
        hidden = hidden * torch.rand(hidden.shape[0], 1, 1, 1)  # noise of somebody's own
        return self.last(F.relu(self.frozen(hidden)).mean((2, 3)))


@pytest.mark.parametrize("train_mode", [True, False])
def test_measuring_leaves_no_trace(train_mode: bool) -> None:
    model = built(Everything)
    model(torch.randn(4, 2, 6, 6)).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    tensors = dict(model.state_dict(keep_vars=True))
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    step = moved(weights_of(model), 0.1)
    changes = pattern_temperature(
        model, torch.randn(4, 2, 6, 6, generator=generator_from(0)), {}, step, train_mode=train_mode
    )
    lr_sweep(model, torch.zeros(4, 2, 6, 6), weights_of(model), step, [0.1, 1.0], train_mode=train_mode)
    assert (changes.changed > 0).all()
    after = model.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(after[name] is tensors[name] and torch.equal(after[name], before[name]) for name in before)
    assert all(torch.equal(a, b.grad) for a, b in zip(gradients, model.parameters(), strict=True) if b.grad is not None)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.requires_grad for p in model.parameters())


def test_a_failing_pass_leaves_no_trace_either() -> None:
    model = built(Everything)
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|expected input"):
        pattern_temperature(model, torch.zeros(4, 5, 6, 6), {}, {})
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.frozen.training


def test_dropout_shares_its_random_numbers() -> None:
    """No step, no change; and that is not for want of dropout."""
    model = small_conv_net(dropout=0.5)
    inputs = torch.randn(16, 2, 8, 8, generator=generator_from(0))
    changes = pattern_temperature(model, inputs, {}, {})
    assert changes.changed.tolist() == [0, 0]
    assert float(changes.temperature) == pytest.approx(changes.coldest, rel=1e-12)
    layers: list[list[torch.Tensor]] = [[], []]
    for found in layers:
        with torch.no_grad(), ReluCalls(lambda x, found=found: found.append(x > 0)):
            model(inputs)
    live = (layers[0][1] != layers[1][1]).any(1).float().mean()
    assert live > 0.5


def test_training_mode_normalises_by_the_batch() -> None:
    model = small_conv_net().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.fill_(0.7)
    inputs = torch.randn(16, 2, 8, 8, generator=generator_from(0))
    after = moved(weights_of(model), 0.05)
    trained = pattern_temperature(model, inputs, {}, after)
    assert (
        trained.changed.tolist()
        == pattern_temperature(copy.deepcopy(model).train(), inputs, {}, after).changed.tolist()
    )
    assert trained.changed.tolist() != pattern_temperature(model, inputs, {}, after, train_mode=False).changed.tolist()


def test_memory_is_a_bit_for_each_activation() -> None:
    model = built(lambda: nn.Sequential(nn.Conv2d(2, 32, 3), nn.ReLU()))
    patterns = patterns_of(model, as_inputs(torch.randn(8, 2, 10, 10)), PatternRule())
    assert patterns.signs.numel() * patterns.signs.element_size() == 8 * 32 * 8 * 8 // 8


# ---- Sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_the_temperature_at_each_rate(seed: int) -> None:
    model = small_conv_net(seed)
    inputs = torch.randn(16, 2, 8, 8, generator=generator_from(seed))
    before = weights_of(model)
    after = moved(before, 0.01, seed)
    direction = step_direction(before, after, 0.1)
    rates = np.geomspace(1e-3, 1e2, 11).tolist()
    sweep = lr_sweep(model, inputs, before, direction, rates)
    for number in (0, 5, 10):
        there = {name: before[name] + rates[number] * step for name, step in direction.items()}
        one = pattern_temperature(model, inputs, before, there)
        assert sweep.row(number).changed.tolist() == one.changed.tolist()
        assert float(sweep.temperature[number]) == float(one.temperature)
    fit, layer = sweep.fit(), sweep.fit(layer=0)
    assert 0.8 < fit.link.scale < 2.0
    assert fit.error < 0.05
    assert layer.link.location != fit.link.location
    assert np.allclose(layer.shares, share_of(sweep.layers[:, 0]))
    assert sweep.fit("cloglog").link.location == pytest.approx(fit.link.location, abs=0.5)


def test_infinite_activations_are_told_and_not_fitted() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()))
    before, inputs = weights_of(model), torch.randn(64, 3, generator=generator_from(0))
    direction = {name: torch.randn(w.shape, generator=generator_from(1)) for name, w in before.items()}
    rates = [*np.geomspace(1e-3, 10, 9).tolist(), 1e30]
    sweep = lr_sweep(model, inputs, before, direction, rates)
    assert sweep.finite.tolist() == [True] * 9 + [False]
    assert len(sweep.fit().log_rates) == 9
    ruined = {"0.weight": torch.full((64, 3), float("nan"))}
    assert not pattern_temperature(model, inputs, {}, ruined).finite
    assert not pattern_temperature(model, inputs, ruined, {}).finite


# ---- Arguments -------------------------------------------------------------------------------------------------------


def test_ways_to_give_a_batch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return self.linear(one + other).relu()

    model, one, other = built(Two), torch.randn(5, 3), torch.randn(5, 3)
    after = moved(weights_of(model), 0.5)
    counts = [
        pattern_temperature(model, batch, {}, after).changed.tolist()
        for batch in ((one, other), [one, other], {"one": one, "other": other})
    ]
    assert counts[0] == counts[1] == counts[2]
    assert pattern_temperature(nn.Sequential(model.linear, nn.ReLU()), one + other, {}, {}).patterns.tolist() == [5]


def test_wrappers_are_looked_through() -> None:
    model = small_conv_net()
    inputs, after = torch.randn(4, 2, 8, 8), moved(weights_of(model), 0.1)
    expected = pattern_temperature(model, inputs, {}, after).changed.tolist()
    compiled: Any = torch.compile(model, backend="eager")
    for wrapped in (compiled, nn.DataParallel(model), nn.DataParallel(compiled)):
        assert unwrapped(wrapped) is model
        assert pattern_temperature(wrapped, inputs, {}, after).changed.tolist() == expected
    inner = nn.Sequential(compiled)  # compiled within: run eagerly meanwhile
    inside = {f"0._orig_mod.{name}": tensor for name, tensor in after.items()}
    compiled(inputs)
    assert pattern_temperature(inner, inputs, {}, inside).changed.tolist() == expected


def test_networks_without_relu_are_refused_with_the_remedy() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 4), nn.GELU()))
    with pytest.raises(
        ValueError, match=r"Sequential called no ReLU .* It called silu 1 times, gelu 1 times: smooth=True"
    ):
        pattern_temperature(model, torch.zeros(2, 3), {}, {})
    assert pattern_temperature(model, torch.zeros(2, 3), {}, {}, smooth=True).patterns.tolist() == [2, 2]
    with pytest.raises(ValueError, match="Use one with ReLUs"):
        pattern_temperature(nn.Linear(3, 2), torch.zeros(2, 3), {}, {})


def test_arguments_out_of_range() -> None:
    model, inputs = small_conv_net(), torch.zeros(2, 2, 8, 8)
    own = weights_of(model)
    with pytest.raises(ValueError, match="pattern='neuron' must be one of position, sample, bit"):
        pattern_temperature(model, inputs, {}, {}, "neuron")
    with pytest.raises(ValueError, match="reduce='sum' must be one of temperature, probability"):
        pattern_temperature(model, inputs, {}, {}, reduce="sum")
    with pytest.raises(ValueError, match="channel_dim=0 must not be the first"):
        pattern_temperature(model, inputs, {}, {}, channel_dim=0)
    with pytest.raises(ValueError, match=r"channel_dim=4 must be a dimension .* shape \(2, 13, 6, 6\)"):
        pattern_temperature(model, inputs, {}, {}, channel_dim=4)
    with pytest.raises(ValueError, match=r"'module.0.weight' is no parameter of Sequential; it has 0.weight, 0.bias"):
        pattern_temperature(model, inputs, {"module.0.weight": own["0.weight"]}, {})
    with pytest.raises(ValueError, match=r"'0.bias' has the shape \(3,\), the model's \(13,\)"):
        pattern_temperature(model, inputs, {}, {"0.bias": torch.zeros(3)})
    for rates in ([], [0.0], [float("nan")], [1.0, float("inf")]):
        with pytest.raises(ValueError, match=r"rates=.* must be one or more finite numbers > 0"):
            lr_sweep(model, inputs, own, own, rates)
    with pytest.raises(ValueError, match=r"the direction has \['0.bias'\], which the weights before the step lack"):
        lr_sweep(model, inputs, {}, {"0.bias": own["0.bias"]}, [1.0])
    with pytest.raises(ValueError, match="rate=0 must be finite and > 0"):
        step_direction(own, own, 0)


def test_a_network_that_chooses_its_way_is_refused() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            hidden = (inputs @ self.weight).relu()
            return hidden.relu() if self.weight[0, 0] > 0 else hidden

    with pytest.raises(ValueError, match=r"other shapes \(2 and 1 calls\): a network that chooses its way"):
        pattern_temperature(Chooses(), torch.ones(2, 3), {}, {"weight": -torch.ones(3, 3)})
