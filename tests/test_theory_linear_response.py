"""Anchors are from reference/first_passage.md, sections 2.3 and 3."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.restart_example import example_of_2_3
from theory import continuous_chain, markov_chain, perturbed_chain
from theory.continuous_chain import ContinuousChain, moment, periodic_mean, poisson_mean
from theory.linear_response import (
    chain_erlang_coefficient,
    chain_geometric_slope,
    chain_moment_slope,
    chain_periodic_change,
    chain_perturbed_mean,
    chain_poisson_slope,
    cv_squared_from_slope,
    erlang_coefficient,
    moment_slope,
    poisson_slope,
    second_moment_from_slope,
    timer_slope,
)
from theory.markov_chain import Chain

GENERATOR = np.array([[-2.0, 1.5, 0.3], [0.2, -1.0, 0.5], [0.05, 0.0, -0.15]])
PERTURBATION = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]])
CHAIN = ContinuousChain(GENERATOR, np.array([1.0, 0.0, 0.0]))
RESTART = np.tile(CHAIN.initial, (3, 1))


def erlang_timed(chain: ContinuousChain, perturbation: np.ndarray, rate: float, stages: int) -> ContinuousChain:
    """The chain together with its timer's stage, which advances at rate k r and perturbs at the end of the last one."""
    n, speed = len(chain.initial), stages * rate
    generator = np.kron(np.eye(stages), chain.generator - speed * np.eye(n)).astype(float)
    for k in range(stages):
        after = (k + 1) % stages
        move = perturbation if after == 0 else np.eye(n)
        generator[k * n : (k + 1) * n, after * n : (after + 1) * n] += speed * move
    return ContinuousChain(generator, np.concatenate([chain.initial, np.zeros((stages - 1) * n)]))


def random_chain(seed: int) -> tuple[ContinuousChain, np.ndarray]:
    rng = np.random.default_rng(seed)
    rates = rng.exponential(size=(4, 5))
    generator = rates[:, :4] - np.diag(rates.sum(axis=1))
    return ContinuousChain(generator, rng.dirichlet(np.ones(4))), rng.dirichlet(np.ones(4), size=4)


# ---- Anchors ---------------------------------------------------------------------------------------------------------


def test_chain_in_continuous_time() -> None:
    moments = [moment(CHAIN, order) for order in (1, 2, 3)]
    assert moments == pytest.approx([7.037037037037, 119.250114311843, 3144.676455147421], rel=1e-12)
    assert chain_perturbed_mean(CHAIN, PERTURBATION) == pytest.approx(6.959064327485, rel=1e-12)
    assert chain_poisson_slope(CHAIN, PERTURBATION) == pytest.approx(-10.653863740283, rel=1e-12)
    assert chain_moment_slope(CHAIN, PERTURBATION, 2) == pytest.approx(-435.677713988947, rel=1e-12)
    assert chain_poisson_slope(CHAIN, RESTART) == pytest.approx(-10.105166895290, rel=1e-12)
    assert chain_erlang_coefficient(CHAIN, PERTURBATION, 2) == pytest.approx(-438.878445584740, rel=1e-12)
    assert chain_erlang_coefficient(CHAIN, PERTURBATION, 3) == pytest.approx(-26758.8932731949, rel=1e-12)
    assert poisson_mean(CHAIN, PERTURBATION, 0.1) == pytest.approx(6.232686980609, rel=1e-12)
    assert poisson_mean(CHAIN, PERTURBATION, 1.0) == pytest.approx(4.615384615385, rel=1e-12)
    assert periodic_mean(CHAIN, PERTURBATION, 1.0) == pytest.approx(4.304267922260, rel=1e-12)
    assert periodic_mean(CHAIN, PERTURBATION, 5.0) == pytest.approx(5.656650205436, rel=1e-12)


@pytest.mark.parametrize(
    ("interval", "exact", "first_order"),
    [(20.0, -0.1624405053, -0.1497480178), (60.0, -0.0016309075, -0.0016295208)],
)
def test_periodic_change(interval: float, exact: float, first_order: float) -> None:
    change = chain_periodic_change(CHAIN, PERTURBATION, interval)
    assert change.exact == pytest.approx(exact, abs=1e-10)
    assert change.first_order == pytest.approx(first_order, abs=1e-10)
    difference = periodic_mean(CHAIN, PERTURBATION, interval) - moment(CHAIN, 1)
    assert change.exact == pytest.approx(difference, abs=1e-12)


def test_discrete_example() -> None:
    chain = example_of_2_3()
    restart = markov_chain.restart_kernel(chain)
    slope = chain_geometric_slope(chain, restart, consumes_epoch=False)
    assert slope == pytest.approx(-139.2179, abs=5e-5)
    assert slope == pytest.approx(14.39 * 15.39 - (736.75 - 15.39) / 2, rel=1e-12)
    consuming = chain_geometric_slope(chain, restart, consumes_epoch=True)
    assert consuming == pytest.approx(slope + 15.39, rel=1e-12)  # each restart costs an epoch more


# ---- Second route: finite differences of exact means -----------------------------------------------------------------


def forward_difference(function, step: float) -> float:
    values = [function(k * step) for k in range(5)]
    return (-25 * values[0] + 48 * values[1] - 36 * values[2] + 16 * values[3] - 3 * values[4]) / (12 * step)


@given(st.integers(0, 10_000))
def test_slopes_are_derivatives(seed: int) -> None:
    chain, perturbation = random_chain(seed)
    step = 1e-3 / moment(chain, 1)
    slope = forward_difference(lambda r: poisson_mean(chain, perturbation, r), step)
    scale = moment(chain, 2)
    assert chain_poisson_slope(chain, perturbation) == pytest.approx(slope, rel=1e-7, abs=1e-8 * scale)

    def second_moment(rate: float) -> float:  # perturbed at random times, the chain is a chain again
        return moment(ContinuousChain(chain.generator + rate * (perturbation - np.eye(4)), chain.initial), 2)

    slope = forward_difference(second_moment, step)
    assert chain_moment_slope(chain, perturbation, 2) == pytest.approx(slope, rel=1e-7, abs=1e-8 * moment(chain, 3))


@given(st.integers(0, 10_000), st.booleans())
def test_discrete_slope_is_a_derivative(seed: int, consumes_epoch: bool) -> None:
    rng = np.random.default_rng(seed)
    kernel = rng.dirichlet(np.ones(5), size=4)
    chain, perturbation = Chain(kernel[:, :4], rng.dirichlet(np.ones(4))), rng.dirichlet(np.ones(4), size=4)
    slope = forward_difference(
        lambda p: perturbed_chain.geometric_mean(chain, perturbation, p, consumes_epoch=consumes_epoch), 1e-4
    )
    exact = chain_geometric_slope(chain, perturbation, consumes_epoch=consumes_epoch)
    assert exact == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_erlang_timers_respond_at_the_order_of_their_stages(stages: int) -> None:
    coefficient = chain_erlang_coefficient(CHAIN, PERTURBATION, stages)

    def error(rate: float) -> float:
        change = moment(erlang_timed(CHAIN, PERTURBATION, rate, stages), 1) - moment(CHAIN, 1)
        return change / rate**stages - coefficient

    coarse, fine = error(4e-4), error(2e-4)
    assert abs(fine) < 0.05 * abs(coefficient)
    assert coarse / fine == pytest.approx(2, abs=0.1)  # the next term is linear in r


def test_erlang_difference_of_the_notes() -> None:
    change = moment(erlang_timed(CHAIN, PERTURBATION, 1e-4, 2), 1) - moment(CHAIN, 1)
    assert change / 1e-8 == pytest.approx(-437.3, abs=0.1)


# ---- Identities ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_formulas_with_moments_are_those_of_the_chain(seed: int) -> None:
    chain, perturbation = random_chain(seed)
    mean, square, cube = (moment(chain, order) for order in (1, 2, 3))
    rest, slope = chain_perturbed_mean(chain, perturbation), chain_poisson_slope(chain, perturbation)
    scale = 1e-12 * square
    assert poisson_slope(mean, square, rest) == pytest.approx(slope, rel=1e-9, abs=scale)
    assert timer_slope(0.25, mean, square, rest) == pytest.approx(slope / 4, rel=1e-9, abs=scale)
    assert second_moment_from_slope(mean, rest, slope) == pytest.approx(square, rel=1e-10)
    assert cv_squared_from_slope(mean, rest, slope) == pytest.approx(square / mean**2 - 1, rel=1e-9)
    # Restarts: taubar = E[T], and the weighted residual of Erlang-k is E[T] E[T^k] / k.
    restart = np.tile(chain.initial, (4, 1))
    assert chain_perturbed_mean(chain, restart) == pytest.approx(mean, rel=1e-12)
    assert erlang_coefficient(1, mean * mean, square) == pytest.approx(
        chain_poisson_slope(chain, restart), rel=1e-9, abs=scale
    )
    assert erlang_coefficient(2, mean * square / 2, cube) == pytest.approx(
        chain_erlang_coefficient(chain, restart, 2), rel=1e-9, abs=1e-11 * cube
    )
    assert moment_slope(square, mean * mean + square / 2) == pytest.approx(
        chain_poisson_slope(chain, restart), rel=1e-9, abs=scale
    )


def test_without_memory_nothing_responds() -> None:
    chain = ContinuousChain(np.array([[-0.5]]), np.array([1.0]))
    one = np.array([[1.0]])
    assert chain_poisson_slope(chain, one) == 0
    assert chain_moment_slope(chain, one, 3) == pytest.approx(0, abs=1e-12)
    assert chain_erlang_coefficient(chain, one, 4) == 0
    assert chain_periodic_change(chain, one, 3.0).exact == pytest.approx(0, abs=1e-14)
    for probability in (0.1, 0.75):
        coin = Chain(np.array([[probability]]), np.array([1.0]))
        assert chain_geometric_slope(coin, one, consumes_epoch=False) == pytest.approx(0, abs=1e-12)
        mean = 1 / (1 - probability)
        assert chain_geometric_slope(coin, one, consumes_epoch=True) == pytest.approx(mean, rel=1e-12)


def test_survivors_of_a_chain() -> None:
    assert continuous_chain.survival(CHAIN, 0.0) == 1
    scipy_linalg = pytest.importorskip("scipy.linalg")
    law = CHAIN.initial @ scipy_linalg.expm(GENERATOR * 3.0)
    assert continuous_chain.survival(CHAIN, 3.0) == pytest.approx(law.sum(), rel=1e-12)
    rest = continuous_chain.survivors(CHAIN, 3.0)
    assert rest.initial == pytest.approx(law / law.sum(), rel=1e-12)
    perturbed = continuous_chain.survivors(CHAIN, 3.0, PERTURBATION)
    assert perturbed.initial == pytest.approx(law @ PERTURBATION / law.sum(), rel=1e-12)


# ---- Infinite answers and refusals -----------------------------------------------------------------------------------


def test_infinite_answers() -> None:
    assert poisson_slope(1.0, math.inf, 1.0) == -math.inf
    assert poisson_slope(1.0, 2.0, math.inf) == math.inf
    # A perturbation that leads to a state from which nothing leads on.
    closed = ContinuousChain(np.array([[-1.0, 0.0], [0.0, 0.0]]), np.array([1.0, 0.0]))
    into = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert chain_poisson_slope(closed, into) == math.inf
    assert chain_perturbed_mean(closed, into) == math.inf
    assert chain_erlang_coefficient(closed, into, 2) == math.inf
    change = chain_periodic_change(closed, into, 1.0)
    assert (change.exact, change.first_order) == (math.inf, math.inf)
    coin = Chain(np.array([[0.5, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0]))
    assert chain_geometric_slope(coin, into, consumes_epoch=False) == math.inf
    assert chain_geometric_slope(coin, into, consumes_epoch=True) == math.inf


def test_refusals() -> None:
    with pytest.raises(ValueError, match="mean=inf must be finite and > 0: an infinite mean has no linear response"):
        poisson_slope(math.inf, math.inf, 1.0)
    with pytest.raises(ValueError, match=r"second_moment=3 must be >= mean\^2=4"):
        poisson_slope(2, 3, 1.0)
    with pytest.raises(ValueError, match="perturbed_mean=-1 must be >= 0"):
        poisson_slope(1.0, 2.0, -1)
    with pytest.raises(ValueError, match="second_moment=inf and perturbed_mean=inf: one must be finite"):
        poisson_slope(1.0, math.inf, math.inf)
    with pytest.raises(ValueError, match="density_at_zero=-1 must be finite and >= 0"):
        timer_slope(-1, 1.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="stages=0 must be a whole number >= 1"):
        erlang_coefficient(0, 1.0, 2.0)
    with pytest.raises(ValueError, match=r"slope=9.0 implies E\[T\^2\]=-16.0, which must be finite and >= E\[T\]\^2=1"):
        second_moment_from_slope(1.0, 1.0, 9.0)
    with pytest.raises(ValueError, match="slope=nan implies"):
        cv_squared_from_slope(1.0, 1.0, math.nan)
    never = ContinuousChain(np.array([[0.0]]), np.array([1.0]))
    with pytest.raises(ValueError, match="chain has an infinite mean first-passage time"):
        chain_poisson_slope(never, np.array([[1.0]]))
    with pytest.raises(ValueError, match="time=0 must be finite and > 0"):
        continuous_chain.survivors(CHAIN, 0)
    with pytest.raises(ValueError, match="time=inf must be finite and > 0"):
        continuous_chain.survival(CHAIN, math.inf)
