"""Perturbations: exact maps, one implementation for modules and stacks, one stream of random numbers, options."""

import copy
import json
import math
import subprocess
import sys

import pytest
import scipy.stats
import torch
from torch import nn

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
from tests.perturbed_networks import ALL, equal, initialised, lenet, mlp, never, snapshot, trained_lenet
from tests.torch_helpers import generator_from


def constant_fresh(tensors: dict[str, torch.Tensor], value: float = 1e6):
    return lambda: ({name: torch.full_like(tensor, value) for name, tensor in tensors.items()}, {})


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


def test_import_is_quiet_and_light():
    code = (
        "import sys, torch; before = torch.get_rng_state(); import nnval.drop_in.perturbations; "
        "assert torch.equal(before, torch.get_rng_state()); "
        "assert not {'torchvision', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
