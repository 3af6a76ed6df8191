"""What a perturbation does to all else that a run remembers: optimizer, buffers, gradients."""

import copy
import math

import pytest
import torch

from nnval.drop_in import perturbations
from nnval.drop_in.perturbations import (
    PERTURBATIONS,
    Perturbation,
    ShrinkPerturb,
    WarmRestart,
)
from tests.perturbed_networks import ALL, equal, initialised, lenet, mlp, snapshot, train, trained_lenet
from tests.torch_helpers import generator_from


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
