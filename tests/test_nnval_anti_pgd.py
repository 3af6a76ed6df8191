"""Anti-PGD as a drop-in: what it adds, its exact removal, state, and the valley's theory."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnval.drop_in.anti_pgd import AntiPGD
from nnval.drop_in.perturbations import ShrinkPerturb
from tests.anti_pgd_networks import network, noise_of, step
from tests.torch_helpers import generator_from, through_file, weights
from theory.estimate import agreement
from theory.widening_valley import Valley, anti_pgd_moments, pgd_moments

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "weight_decay": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05),
}
both_laws = pytest.mark.parametrize("law", ["gaussian", "rademacher"])


# ---- What is added ---------------------------------------------------------------------------------------------------


@both_laws
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_recursions(law: str, momentum: float, seed: int) -> None:
    """Against the definition, on L = (1/2) w A w: both kinds, with xi as it was drawn."""
    curvatures = torch.linspace(0.1, 3.0, 6, dtype=torch.float64)
    for correlation in ("anti", "white"):
        weight = nn.Parameter(torch.ones(6, dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=0.2, momentum=momentum)
        noise = AntiPGD(optimizer, 0.3, correlation=correlation, distribution=law, generator=generator_from(seed))
        draws, signs = generator_from(seed), law == "rademacher"
        expected, velocity, before = torch.ones(6, dtype=torch.float64), torch.zeros(6), torch.zeros(6)
        for number in range(30):
            optimizer.zero_grad()
            (0.5 * curvatures @ weight**2).backward()
            optimizer.step()
            drawn = torch.empty(6, dtype=torch.float64)
            xi = 0.3 * (drawn.random_(0, 2, generator=draws) * 2 - 1 if signs else drawn.normal_(generator=draws))
            velocity = momentum * velocity - 0.2 * curvatures * expected
            expected = expected + velocity + xi - (before if correlation == "anti" else 0)
            before = xi
            assert torch.allclose(weight.detach(), expected, rtol=0, atol=1e-13)
            assert noise.steps == number + 1
        if correlation == "anti":
            assert torch.equal(noise_of(noise), before)


@both_laws
def test_moments_of_the_noise(law: str, seed: int) -> None:
    weight = nn.Parameter(torch.zeros(4000))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    noise = AntiPGD(optimizer, 0.3, distribution=law, generator=generator_from(seed))
    weight.grad, paths = torch.zeros(4000), []
    for _ in range(3):
        optimizer.step()
        paths.append(noise_of(noise).double().numpy())
    for xi in paths:
        assert agreement(xi, 0.0)
        if law == "gaussian":
            assert agreement(xi**2, 0.09)
            assert agreement(xi**4, 3 * 0.09**2)
            assert not agreement(xi**2, 0.3)
        else:
            assert set(np.unique(xi.astype(np.float32))) == {np.float32(-0.3), np.float32(0.3)}
    assert agreement(paths[0] * paths[1], 0.0)
    # The increments are anti-correlated; those of white noise would not be.
    increments = np.diff(np.stack([np.zeros(4000), *paths]), axis=0)
    assert agreement(increments[1] * increments[2], -0.09)
    assert not agreement(increments[1] * increments[2], 0.0)


def test_noise_of_each_group_and_frozen_parameters() -> None:
    sizes = (3000, 3000, 50)
    loud, quiet, frozen = (nn.Parameter(torch.ones(size)) for size in sizes)
    frozen.requires_grad_(False)
    none = nn.Parameter(torch.ones(50))
    groups = [{"params": [loud, frozen]}, {"params": [quiet]}, {"params": [none]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    noise = AntiPGD(optimizer, [0.5, 0.01, 0.0], generator=generator_from(0))
    for parameter in (loud, quiet, none):
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    assert float((loud - 1).detach().std()) == pytest.approx(0.5, rel=0.1)
    assert float((quiet - 1).detach().std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(frozen, torch.ones(50))
    assert torch.equal(none, torch.ones(50))
    # Frozen later: the noise that it has stays until it is removed.
    quiet.requires_grad_(False)
    before = quiet.clone()
    optimizer.step()
    assert torch.equal(quiet, before)
    noise.sigma = [0.0, 0.01, 0.0]  # as a schedule may do
    optimizer.step()
    assert torch.equal(loud, torch.ones(3000))
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    with pytest.raises(ValueError, match="one for each of the 4 parameter groups"):
        optimizer.step()
    noise.remove()
    assert torch.equal(quiet, torch.ones(3000))


def test_groups_added_later_get_the_same_noise() -> None:
    first, second = nn.Parameter(torch.zeros(500)), nn.Parameter(torch.zeros(500))
    optimizer = torch.optim.SGD([first], lr=0.1)
    noise = AntiPGD(optimizer, 0.2, generator=generator_from(0))
    first.grad = second.grad = torch.zeros(500)
    optimizer.step()
    optimizer.add_param_group({"params": [second]})
    optimizer.step()
    assert float(second.detach().std()) == pytest.approx(0.2, rel=0.2)
    noise.remove()
    assert torch.equal(first, second)


def test_nobodys_random_numbers_are_touched() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    AntiPGD(optimizer, 0.2, generator=generator_from(0))
    before = torch.get_rng_state()
    for number in range(3):
        step(model, optimizer, number)
    assert torch.equal(torch.get_rng_state(), before)


# ---- Removal ---------------------------------------------------------------------------------------------------------


@both_laws
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_removal_gives_what_training_without_noise_gives_bit_by_bit(name: str, law: str) -> None:
    """Gradients that do not depend on the weights: whatever differs is noise that was left, or rounding."""

    def trained(sigma: float | None, naive: bool = False) -> torch.Tensor:
        parameters = [nn.Parameter(torch.linspace(-3, 3, 300)), nn.Parameter(torch.full((7,), 1e-12))]
        optimizer = OPTIMIZERS[name](parameters)
        noise = None if sigma is None else AntiPGD(optimizer, sigma, distribution=law, generator=generator_from(0))
        draws, xi = generator_from(0), [torch.zeros(300), torch.zeros(7)]
        for number in range(300):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator_from(number)) * 1e-3
            optimizer.step()
            if naive:  # the increments, added to the weights
                new = [torch.randn(each.shape, generator=draws) for each in xi]
                with torch.no_grad():
                    for parameter, after, before in zip(parameters, new, xi, strict=True):
                        parameter += after - before
                xi = new
        if noise is not None:
            noise.remove()
        return torch.cat([p.detach() - left for p, left in zip(parameters, xi, strict=True)])

    plain = trained(None)
    assert torch.equal(trained(1.0), plain)
    naive = trained(None, naive=True)
    assert float((naive - plain).abs().max()) > 1e-7  # the negative control: rounding adds up


def test_the_noise_in_the_weights_is_the_last_one_alone() -> None:
    """Telescoping: after K steps w - z is xi_K, to the rounding of one addition."""
    weight = nn.Parameter(torch.linspace(-1, 1, 1000))
    start = weight.detach().clone()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    noise = AntiPGD(optimizer, 1e-3, generator=generator_from(0))
    weight.grad = torch.zeros(1000)
    for _ in range(1000):
        optimizer.step()
    assert torch.equal(weight.detach(), start + noise_of(noise))
    noise.remove()
    assert torch.equal(weight.detach(), start)


@pytest.mark.parametrize("correlation", ["anti", "white"])
def test_after_removal_the_optimizer_is_as_it_was(correlation: str) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AntiPGD(optimizer, 0.2, correlation=correlation, generator=generator_from(0))
    step(model, optimizer)
    before = weights(model)
    noise.remove()
    assert torch.equal(weights(model), before) == (correlation == "white")
    noise.remove()
    twin = copy.deepcopy(model)
    step(model, optimizer, 1)
    step(twin, torch.optim.SGD(twin.parameters(), lr=0.1), 1)
    assert torch.equal(weights(model), weights(twin))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("correlation", ["anti", "white"])
def test_evaluation_without_noise_changes_nothing(correlation: str) -> None:
    def trained(look: bool) -> torch.Tensor:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        noise = AntiPGD(optimizer, 0.2, correlation=correlation, generator=generator_from(0))
        for number in range(5):
            step(model, optimizer, number)
            if look:
                before = weights(model)
                with noise.without_noise():
                    assert torch.equal(weights(model), before) == (correlation == "white")
                    inside = weights(model)
                    with noise.without_noise():
                        assert torch.equal(weights(model), inside)
                assert torch.equal(weights(model), before)
        return weights(model)

    assert torch.equal(trained(True), trained(False))


def test_weights_that_others_change() -> None:
    weight = nn.Parameter(torch.ones(10, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    noise = AntiPGD(optimizer, 0.2, generator=generator_from(0))
    weight.grad = torch.zeros(10, dtype=torch.float64)
    optimizer.step()
    with torch.no_grad():
        weight[:5] += 3.0  # between two steps: z moves along
    optimizer.step()
    model = nn.ParameterList([weight])

    def unused() -> Any:
        raise AssertionError("no fresh weights are needed without noise")

    with noise.without_noise():
        assert torch.equal(weight[5:], torch.ones(5))
        assert weight[:5].tolist() == pytest.approx([4.0] * 5, abs=1e-15)
        ShrinkPerturb(0.5, 0.0).perturb(dict(model.named_parameters()), {}, fresh=unused, generator=generator_from(1))
        shrunk = weight.detach().clone()
    assert torch.equal(weight.detach(), shrunk + noise_of(noise))
    noise.remove()
    assert weight.tolist() == pytest.approx([2.0] * 5 + [0.5] * 5, abs=1e-15)


# ---- State -----------------------------------------------------------------------------------------------------------


@both_laws
@pytest.mark.parametrize("correlation", ["anti", "white"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumption_is_exact(name: str, correlation: str, law: str) -> None:
    def attached(model: nn.Module, seed: int, sigma: float) -> tuple[torch.optim.Optimizer, AntiPGD]:
        optimizer = OPTIMIZERS[name](model.parameters())
        generator = generator_from(seed)
        return optimizer, AntiPGD(optimizer, sigma, correlation=correlation, distribution=law, generator=generator)

    model = network()
    optimizer, noise = attached(model, 0, 0.2)
    for number in range(4):
        step(model, optimizer, number)
    saved = through_file([model.state_dict(), optimizer.state_dict(), noise.state_dict()])
    other = network(1)
    other_optimizer, other_noise = attached(other, 1, 0.1)
    step(other, other_optimizer)
    for target, state in ((other_noise, saved[2]), (other, saved[0]), (other_optimizer, saved[1])):
        target.load_state_dict(state)
    for number in range(4, 8):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
    assert torch.equal(weights(model), weights(other))
    assert (other_noise.steps, other_noise.sigma) == (8, 0.2)
    noise.remove()
    other_noise.remove()
    assert torch.equal(weights(model), weights(other))


def test_bad_states() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = AntiPGD(optimizer, 0.2, generator=generator_from(0))
    step(model, optimizer)
    state = noise.state_dict()
    with noise.without_noise(), pytest.raises(RuntimeError, match="inside of without_noise"):
        noise.state_dict()
    white = AntiPGD(optimizer, 0.2, correlation="white", generator=generator_from(0))
    with pytest.raises(ValueError, match="the state has correlation='anti', this one 'white'"):
        white.load_state_dict(state)
    small = AntiPGD(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), 0.2, generator=generator_from(0))
    with pytest.raises(ValueError, match="the state is of 4 parameters, which are not the 1"):
        small.load_state_dict(state)
    turned = nn.Sequential(nn.Linear(4, 5), nn.Linear(3, 4))
    other = AntiPGD(torch.optim.SGD(turned.parameters(), lr=0.1), 0.2, generator=generator_from(0))
    with pytest.raises(ValueError, match="which are not the 4 of this optimizer"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "sigma=-1.0 must be finite and >= 0"),
        ({"sigma": math.nan}, "sigma=nan must be finite and >= 0"),
        ({"sigma": [0.1, 0.2]}, "one for each of the 1 parameter groups"),
        ({"sigma": 0.1, "correlation": "pink"}, "correlation='pink' must be one of anti, white"),
        ({"sigma": 0.1, "distribution": "cauchy"}, "distribution='cauchy' must be one of gaussian, rademacher"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(ValueError, match=message):
        AntiPGD(optimizer, generator=generator_from(0), **options)
    assert not optimizer._optimizer_step_post_hooks


def test_complex_parameters_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    noise = AntiPGD(optimizer, 0.1, generator=generator_from(0))
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(ValueError, match="cannot get noise; use sigma=0"):
        optimizer.step()
    noise.sigma = 0.0
    optimizer.step()


# ---- The valley of theory.widening_valley ----------------------------------------------------------------------------


@pytest.mark.parametrize(("correlation", "law"), [("anti", "gaussian"), ("anti", "rademacher"), ("white", "gaussian")])
def test_sharpness_in_the_valley(correlation: str, law: str, seed: int) -> None:
    """L = v^2 |u|^2 / 2 in 240 replicas with one optimizer: Anti-PGD flattens and PGD sharpens, as the maps say."""
    valley, scale, steps, replicas = Valley(dimension=40, learning_rate=0.01), 0.06, 300, 240
    start = 60.0
    u = nn.Parameter(torch.full((replicas, 40), math.sqrt(start / 40), dtype=torch.float64))
    v = nn.Parameter(torch.zeros(replicas, dtype=torch.float64))
    optimizer = torch.optim.SGD([u, v], lr=valley.learning_rate)
    noise = AntiPGD(optimizer, scale, correlation=correlation, distribution=law, generator=generator_from(seed))
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * v**2 * (u**2).sum(1)).sum().backward()
        optimizer.step()
    noise.remove()
    sharpness = (u.detach() ** 2).sum(1).numpy()
    anti = anti_pgd_moments(valley, scale, start, steps, law=law).sharpness[-1]
    white = pgd_moments(valley, scale, start, steps).sharpness[-1]
    right, wrong = (anti, white) if correlation == "anti" else (white, anti)
    assert agreement(sharpness, right)
    assert not agreement(sharpness, wrong)
    assert not agreement(sharpness, start)
    if correlation == "anti":
        assert sharpness.mean() < start < white
        # The small-curvature form of the regulariser is too slow in so sharp a valley.
        assert not agreement(sharpness, start * math.exp(-2 * valley.learning_rate * scale**2 * steps))
