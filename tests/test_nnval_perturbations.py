"""Perturbations and initialisations: exact maps, policies for all that a run remembers, timing, resume, laws."""

import copy
import io
import json
import math
import subprocess
import sys

import pytest
import scipy.stats
import torch
from torch import nn
from torch.optim import lr_scheduler

from nnval.drop_in import perturbations
from nnval.drop_in.initialisation import fresh_state, initialise
from nnval.drop_in.perturbations import (
    PERTURBATIONS,
    FullReset,
    GaussianNoise,
    PartialReset,
    Perturbation,
    ShrinkPerturb,
    WarmRestart,
    make_perturbation,
)
from nnval.drop_in.perturber import Perturber, at, geometric, periodic
from theory.estimate import agreement


def generator_from(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def lenet() -> nn.Module:
    """Like LeNet, with batch norm: convolutions without and with bias, counters and running statistics."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def initialised(build, seed: int) -> nn.Module:
    model = build()
    initialise(model, "torch_default", generator_from(seed))
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    generator = generator_from(7)
    shape = (8, 1, 16, 16) if isinstance(model[0], nn.Conv2d) else (8, 64)
    inputs, labels = torch.randn(shape, generator=generator), torch.arange(8)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def trained_lenet(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = initialised(lenet, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, optimizer, 5)
    return model, optimizer


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def constant_fresh(tensors: dict[str, torch.Tensor], value: float = 1e6):
    return lambda: ({name: torch.full_like(tensor, value) for name, tensor in tensors.items()}, {})


def never():
    raise AssertionError("a fresh network was built without need")


# --- Maps: exact -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "perturbation",
    [
        ShrinkPerturb(1, 0), ShrinkPerturb(1, 0, buffers="mix"), ShrinkPerturb(1, 0, fresh="gaussian"),
        PartialReset(0), PartialReset(0, by="random", scope="tensor"), WarmRestart(), GaussianNoise(0),
    ],
    ids=repr,
)  # fmt: skip
def test_identities_are_bitwise_and_need_no_fresh_network(perturbation):
    model, _ = trained_lenet()
    before = snapshot(model)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    perturbation.perturb(parameters, buffers, fresh=never, generator=generator_from(0))
    assert equal(before, snapshot(model))


def test_shrink_perturb_is_the_formula():
    model, _ = trained_lenet()
    before = snapshot(model)
    fresh, fresh_buffers = fresh_state(model, generator_from(3))
    ShrinkPerturb(0.4, 0.1).apply(model, generator=generator_from(3))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), 0.4 * before[name] + 0.1 * fresh[name])
        assert not torch.equal(parameter, before[name])
    assert fresh_buffers.keys() == dict(model.named_buffers()).keys()


def test_shrink_perturb_with_shrink_0_and_noise_1_is_a_full_reset_of_the_weights():
    model, _ = trained_lenet()
    other = copy.deepcopy(model)
    ShrinkPerturb(0, 1).apply(model, generator=generator_from(3))
    FullReset().apply(other, generator=generator_from(3))
    assert equal(dict(model.named_parameters()), dict(other.named_parameters()))


def test_full_reset_is_a_new_network():
    model, _ = trained_lenet()
    FullReset().apply(model, generator=generator_from(3))
    new = lenet()
    initialise(new, "torch_default", generator_from(3))
    assert equal(snapshot(model), snapshot(new))


@pytest.mark.parametrize("by", ["smallest", "largest", "random"])
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("values", ["normal", "ties", "all equal", "not finite"])
@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.5, 0.777, 1])
def test_partial_reset_redraws_exactly_the_fraction(by, scope, values, fraction, seed):
    generator = generator_from(seed)
    shapes = {"a.weight": (7, 11), "b.weight": (3, 4, 5), "a.bias": (7,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for tensor in tensors.values():
        if values == "ties":
            tensor.round_()
        elif values == "all equal":
            tensor.fill_(0.5)
        elif values == "not finite":
            tensor.view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    PartialReset(fraction, by=by, scope=scope).perturb(
        tensors, {}, fresh=constant_fresh(tensors), generator=generator_from(seed)
    )
    touched = {name: tensor == 1e6 for name, tensor in tensors.items()}
    counts = {name: int(mask.sum()) for name, mask in touched.items()}
    if scope == "tensor":
        assert counts == {"a.weight": round(fraction * 77), "b.weight": round(fraction * 60), "a.bias": 0}
        groups = [["a.weight"], ["b.weight"]]
    else:
        assert counts["a.weight"] + counts["b.weight"] == round(fraction * 137)
        assert counts["a.bias"] == 0
        groups = [["a.weight", "b.weight"]]
    for name, mask in touched.items():  # the others bit by bit as they were
        assert torch.equal(tensors[name][~mask].nan_to_num(9), before[name][~mask].nan_to_num(9))
    if by != "random":
        for names in groups:
            sizes = torch.cat([before[name].flatten() for name in names]).abs().nan_to_num(math.inf, math.inf)
            mask = torch.cat([touched[name].flatten() for name in names])
            inner, outer = (sizes[mask], sizes[~mask]) if by == "smallest" else (sizes[~mask], sizes[mask])
            assert not len(inner) or not len(outer) or inner.max() <= outer.min()


def test_partial_reset_breaks_ties_by_position():
    tensors = {"weight": torch.tensor([2.0, 1.0, -1.0, 1.0, 3.0, -1.0])}
    PartialReset(1 / 3).perturb(tensors, {}, fresh=constant_fresh(tensors, 0.0), generator=generator_from(0))
    assert tensors["weight"].tolist() == [2, 0, 0, 1, 3, -1]


def test_partial_reset_at_random_takes_each_entry_equally_often(seed):
    generator, hits = generator_from(seed), torch.zeros(50)
    for _ in range(2000):
        tensors = {"weight": torch.zeros(50)}
        PartialReset(0.3, by="random").perturb(tensors, {}, fresh=constant_fresh(tensors, 1.0), generator=generator)
        hits += tensors["weight"]
    assert hits.sum() == 2000 * 15
    # Exactly 15 of 50 each time: counts are hypergeometric, so the statistic is (49/50)/(1 - 0.3) of Pearson's.
    pearson = float(((hits - 600) ** 2 / 600).sum()) * (49 / 50) / 0.7
    assert scipy.stats.chi2.sf(pearson, 49) > 1e-6
    biased = hits + 60 * torch.cat([torch.ones(25), -torch.ones(25)])
    assert scipy.stats.chi2.sf(float(((biased - 600) ** 2 / 600).sum()) * 1.4, 49) < 1e-6


def test_partial_reset_takes_part_in_scales_but_not_in_biases_by_default():
    model, _ = trained_lenet()
    names = [name for name, _ in model.named_parameters()]
    tensors = {name: tensor.detach() for name, tensor in model.named_parameters()}
    PartialReset(1).perturb(tensors, {}, fresh=constant_fresh(tensors), generator=generator_from(0))
    assert {name for name in names if (tensors[name] == 1e6).all()} == {n for n in names if n.endswith("weight")}
    assert (tensors["1.weight"] == 1e6).all()
    PartialReset(1, parameters="all").perturb(tensors, {}, fresh=constant_fresh(tensors), generator=generator_from(0))
    assert all((tensors[name] == 1e6).all() for name in names)


def test_partial_reset_beyond_the_limit_of_quantile():
    n = 2**24 + 3  # torch.quantile refuses more than 2^24
    tensors = {"weight": torch.arange(n, dtype=torch.float32)}
    PartialReset(0.25).perturb(tensors, {}, fresh=constant_fresh(tensors, -1.0), generator=generator_from(0))
    assert int((tensors["weight"] == -1).sum()) == round(n / 4)
    assert (tensors["weight"][: round(n / 4) - 2] == -1).all()


# --- Laws ------------------------------------------------------------------------------------------------------------


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


# --- Policies --------------------------------------------------------------------------------------------------------


ALL = [ShrinkPerturb(), PartialReset(), FullReset(), WarmRestart(), GaussianNoise(0.1)]


def test_the_documented_policies():
    policies = {p.name: (p.optimizer_state, p.buffers, p.learning_rate) for p in ALL}
    assert policies == {
        "shrink_perturb": ("clear", "keep", "keep"),
        "partial_reset": ("keep", "keep", "keep"),
        "full_reset": ("clear", "reset", "restart"),
        "warm_restart": ("clear", "keep", "restart"),
        "gaussian_noise": ("keep", "keep", "keep"),
    }
    rows = [line for line in perturbations.__doc__.splitlines() if line.startswith("``")]
    written = {PERTURBATIONS[name].__name__: policy for name, policy in policies.items()}
    assert {row.split("``")[1]: tuple(row.split()[-3:]) for row in rows} == written


@pytest.mark.parametrize("policy", ["keep", "clear"])
@pytest.mark.parametrize("perturbation", ALL, ids=lambda p: p.name)
def test_optimizer_state_is_kept_or_cleared(perturbation, policy):
    model, optimizer = trained_lenet()
    momenta = copy.deepcopy(optimizer.state_dict()["state"])
    options = perturbation.to_dict() | {"optimizer_state": policy}
    Perturbation.from_dict(options).apply(model, optimizer, generator=generator_from(0))
    if policy == "clear":
        assert not optimizer.state
    else:
        state = optimizer.state_dict()["state"]
        assert all(torch.equal(momenta[k]["momentum_buffer"], state[k]["momentum_buffer"]) for k in momenta)
    train(model, optimizer)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Rprop", "LBFGS", "NAdam"])
def test_after_clearing_an_optimizer_goes_on_like_a_new_one(kind):
    model = initialised(mlp, 0)
    options = {"initial_accumulator_value": 0.5, "lr": 0.02} if kind == "Adagrad" else {"lr": 0.02}

    def new_optimizer(network):
        return getattr(torch.optim, kind)(network.parameters(), **options)

    def run(network, optimizer):
        inputs = torch.randn(8, 64, generator=generator_from(7))

        def closure():
            optimizer.zero_grad()
            loss = network(inputs).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)

    optimizer = new_optimizer(model)
    run(model, optimizer)
    WarmRestart().apply(model, optimizer, generator=generator_from(0))
    twin = copy.deepcopy(model)
    assert optimizer.state_dict()["state"].keys() == new_optimizer(twin).state_dict()["state"].keys()
    run(model, optimizer)
    run(twin, new_optimizer(twin))
    assert equal(snapshot(model), snapshot(twin))


def test_buffers_are_kept_reset_or_mixed():
    results = {}
    for policy in ("keep", "reset", "mix"):
        model, _ = trained_lenet()
        before = snapshot(model)
        ShrinkPerturb(0.4, 0.1, buffers=policy).apply(model, generator=generator_from(0))
        results[policy] = snapshot(model)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(results["keep"][name], before[name])
    assert before["1.num_batches_tracked"] == 5
    assert results["reset"]["1.num_batches_tracked"] == 0
    assert (results["reset"]["5.running_mean"] == 0).all()
    assert (results["reset"]["5.running_var"] == 1).all()
    torch.testing.assert_close(results["mix"]["5.running_mean"], 0.4 * before["5.running_mean"])
    torch.testing.assert_close(results["mix"]["5.running_var"], 0.4 * before["5.running_var"] + 0.1)
    assert results["mix"]["1.num_batches_tracked"] == 2  # 0.4 * 5 + 0.1 * 0
    assert results["mix"]["1.num_batches_tracked"].dtype == torch.int64
    for name in ("0.weight", "1.weight", "1.bias"):
        assert torch.equal(results["keep"][name], results["mix"][name])


@pytest.mark.parametrize("counted", [3, 4, 2**24 * 10 + 7])
def test_mixing_does_what_the_released_code_of_meir_et_al_does(counted):
    model, _ = trained_lenet()
    model[1].num_batches_tracked.fill_(counted)
    new, twin = initialised(lenet, 3), copy.deepcopy(model)
    old_state, new_state = model.state_dict(), new.state_dict()
    twin.load_state_dict({key: 0.4 * old_state[key].double() + 0.1 * new_state[key] for key in old_state})
    ShrinkPerturb(0.4, 0.1, buffers="mix").apply(model, generator=generator_from(3))
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
    assert model[1].num_batches_tracked == math.floor(0.4 * counted)


def test_mixing_leaves_indices_alone():
    model = initialised(mlp, 0)
    model.register_buffer("positions", torch.arange(5))
    model.register_buffer("mask", torch.tensor([True, False]))
    ShrinkPerturb(0.4, 0.1, buffers="mix").apply(model, generator=generator_from(0))
    assert model.positions.tolist() == [0, 1, 2, 3, 4]
    assert model.mask.tolist() == [True, False]


@pytest.mark.parametrize("perturbation", [*ALL, ShrinkPerturb(buffers="mix")], ids=lambda p: p.name)
def test_frozen_modules_and_gradients_are_left_alone(perturbation):
    model, optimizer = trained_lenet()
    for module in model[:2]:
        module.requires_grad_(False)
    before, gradients = snapshot(model), [p.grad.clone() for p in model.parameters()]
    perturbation.apply(model, optimizer, generator=generator_from(0))
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(("0.", "1.")))
    assert all(torch.equal(old, p.grad) for old, p in zip(gradients, model.parameters(), strict=True))
    assert [p.requires_grad for p in model.parameters()] == [False] * 3 + [True] * 8
    assert all(p.is_leaf for p in model.parameters())


# --- One implementation, one stream ----------------------------------------------------------------------------------


MANY = [
    *ALL, ShrinkPerturb(fresh="gaussian"), ShrinkPerturb(0.5, 0.2, buffers="mix"), PartialReset(by="largest"),
    PartialReset(by="random", scope="tensor"), GaussianNoise(0.1, mode="relative_weight"),
]  # fmt: skip


@pytest.mark.parametrize("perturbation", MANY, ids=repr)
def test_module_and_stacked_tensors_agree_bitwise_and_neighbours_stay(perturbation, seed):
    model, _ = trained_lenet(seed)
    members = 3
    stack = {name: torch.stack([tensor] * members) for name, tensor in model.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in stack.items()}
    names = dict(model.named_parameters()).keys()
    parameters = {name: stack[name][1] for name in stack if name in names}
    buffers = {name: stack[name][1] for name in stack if name not in names}
    generator, calls = generator_from(seed), []

    def fresh():
        calls.append(1)
        new = lenet()
        initialise(new, "torch_default", generator)
        state = new.state_dict()
        return {n: state[n] for n in parameters}, {n: state[n] for n in buffers}

    perturbation.perturb(parameters, buffers, fresh=fresh, generator=generator)
    perturbation.apply(model, generator=generator_from(seed))
    assert len(calls) <= 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(stack[name][1], tensor)
        for neighbour in (0, 2):
            assert torch.equal(stack[name][neighbour], before[name][neighbour])


@pytest.mark.parametrize("perturbation", MANY, ids=repr)
@pytest.mark.parametrize("init_fn", [None, lenet], ids=["torch_default", "init_fn"])
def test_reproducible_and_independent_of_the_global_rng(perturbation, init_fn, capsys):
    results = []
    with torch.random.fork_rng(devices=[]):
        for global_seed in (1, 2):
            model, optimizer = trained_lenet()
            torch.manual_seed(global_seed)
            state = torch.get_rng_state()
            perturbation.apply(model, optimizer, generator=generator_from(5), init_fn=init_fn)
            assert torch.equal(torch.get_rng_state(), state)
            results.append(snapshot(model))
    assert equal(*results)
    other, _ = trained_lenet()
    perturbation.apply(other, generator=generator_from(6), init_fn=init_fn)
    random = not isinstance(perturbation, WarmRestart)
    assert equal(results[0], snapshot(other)) != random
    assert capsys.readouterr() == ("", "")


def test_init_fn_is_run_with_the_seed_that_the_generator_gives():
    model = initialised(mlp, 0)
    FullReset().apply(model, generator=generator_from(4), init_fn=mlp)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**63 - 1, (), generator=generator_from(4))))
        new = mlp()
    assert equal(snapshot(model), snapshot(new))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight


@pytest.mark.parametrize("init_fn", [None, Tied])
def test_tied_weights_are_perturbed_once_and_stay_tied(init_fn):
    model = Tied()
    before = model.encoder.weight.detach().clone()
    ShrinkPerturb(0.5, 0, buffers="reset").apply(model, generator=generator_from(0), init_fn=init_fn)
    assert torch.equal(model.encoder.weight, 0.5 * before)
    ShrinkPerturb(0.5, 0.1).apply(model, generator=generator_from(0), init_fn=init_fn)
    assert model.decoder.weight is model.encoder.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("perturbation", MANY, ids=repr)
def test_other_precisions_keep_their_type(perturbation, dtype):
    model = initialised(lenet, 0).to(dtype)
    perturbation.apply(model, generator=generator_from(0))
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(p.isfinite().all() for p in model.parameters())


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


# --- Configs and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("perturbation", MANY, ids=repr)
def test_config_round_trip(perturbation):
    options = json.loads(json.dumps(perturbation.to_dict()))
    assert options["name"] == perturbation.name
    assert Perturbation.from_dict(options) == perturbation
    name = options.pop("name")
    assert make_perturbation(name, **options) == perturbation


def test_registry_and_defaults():
    assert list(PERTURBATIONS) == ["shrink_perturb", "partial_reset", "full_reset", "warm_restart", "gaussian_noise"]
    assert make_perturbation("shrink_perturb") == ShrinkPerturb(0.4, 0.1, fresh="init") == ShrinkPerturb()
    assert make_perturbation("shrink_perturb", shrink=1).to_dict()["shrink"] == 1.0
    assert make_perturbation("partial_reset") == PartialReset(0.3, by="smallest", scope="global", parameters="weights")
    with pytest.raises(TypeError, match="abstract"):
        Perturbation(optimizer_state="keep", buffers="keep", learning_rate="keep")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("shrink", {}, "perturbation='shrink' must be one of shrink_perturb, partial_reset, full_reset"),
        ("shrink_perturb", {"lambda": 1}, "has no option 'lambda'; its options are .*shrink, noise, fresh"),
        ("shrink_perturb", {"shrink": 1.5}, r"shrink_perturb: shrink=1.5 must be a number in \[0, 1\]: 1 keeps"),
        ("shrink_perturb", {"shrink": "0.4"}, "shrink='0.4' must be a number"),
        ("shrink_perturb", {"shrink": True}, "shrink=True must be a number"),
        ("shrink_perturb", {"noise": -0.1}, "noise=-0.1 must be a number >= 0 and finite"),
        ("shrink_perturb", {"noise": math.inf}, "noise=inf must be a number >= 0 and finite"),
        ("shrink_perturb", {"noise": math.nan}, "noise=nan must be"),
        ("shrink_perturb", {"fresh": "normal"}, "fresh='normal' must be one of 'init', 'gaussian'"),
        ("partial_reset", {"fraction": 30}, r"fraction=30 must be a number in \[0, 1\]: 0.3 draws 30 %"),
        ("partial_reset", {"by": "size"}, "by='size' must be one of 'smallest', 'largest', 'random'"),
        ("partial_reset", {"scope": "layer"}, "scope='layer' must be one of 'global', 'tensor'"),
        ("partial_reset", {"buffers": "mix"}, "buffers='mix' must be one of 'keep', 'reset'"),
        ("full_reset", {"optimizer_state": "reset"}, "optimizer_state='reset' must be one of 'keep', 'clear'"),
        ("warm_restart", {"learning_rate": True}, "learning_rate=True must be one of 'keep', 'restart'"),
        ("gaussian_noise", {}, "gaussian_noise: .*missing.*'std'"),
        ("gaussian_noise", {"std": 1, "mode": "sgld"}, "mode='sgld' must be one of 'absolute', 'relative_weight'"),
    ],
)
def test_errors_of_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        make_perturbation(name, **options)


def test_errors_of_use():
    model, generator = initialised(mlp, 0), generator_from(0)
    with pytest.raises(ValueError, match=r"has no 'name'.*shrink_perturb"):
        Perturbation.from_dict({"shrink": 0.4})
    with pytest.raises(ValueError, match="scheme='xavier' must be one of torch_default, kaiming_fan_out"):
        initialise(model, "xavier", generator)
    with pytest.raises(ValueError, match="finds no name with 'weight' among a, b; use parameters='all'"):
        PartialReset().perturb({"a": torch.ones(2), "b": torch.ones(2)}, {}, fresh=never, generator=generator)
    with pytest.raises(ValueError, match="no parameter with requires_grad=True"):
        FullReset().apply(nn.ReLU(), generator=generator)
    with pytest.raises(ValueError, match="init_fn returned the perturbed model itself"):
        FullReset().apply(model, generator=generator, init_fn=lambda: model)
    with pytest.raises(ValueError, match=r"init_fn returned a dict: it must build a new nn.Module"):
        FullReset().apply(model, generator=generator, init_fn=dict)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"without a '4.weight' of shape \(10, 32\) \(2 of 6 tensors differ"):
        FullReset().apply(model, generator=generator, init_fn=lambda: nn.Sequential(*mlp()[:4], nn.Linear(32, 11)))
    with pytest.raises(ValueError, match=r"without a 'module.0.weight'.*pass the module inside"):
        FullReset().apply(nn.DataParallel(model), generator=generator, init_fn=mlp)
    assert equal(before, snapshot(model))


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


def test_import_is_quiet_and_light():
    code = (
        "import sys, torch; before = torch.get_rng_state(); import nnval.drop_in.perturbations; "
        "assert torch.equal(before, torch.get_rng_state()); "
        "assert not {'torchvision', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
