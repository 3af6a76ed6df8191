"""Anchors are from the derivations in reference/first_passage.md, checked there by a second route."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.restart_example import SHARP_RESTARTS, check_mistakes, example_of_2_3
from theory.markov_chain import (
    Chain,
    mean_first_passage_time,
    restart_kernel,
    rising_factorial_moment,
    second_moment,
    survival,
)
from theory.perturbed_chain import (
    cyclic_mean,
    geometric_mean,
    periodic_mean,
    periodic_second_moment,
    periodic_survival,
    perturbed_survivors,
    residual_mean,
    residual_mean_once,
    residual_survival_once,
)
from theory.quasi_stationary import quasi_stationary_state
from theory.toy_chains import (
    ToyChain,
    rational_chain,
)

RATIONAL = rational_chain()
EXACT = 1e-10


def random_toy(seed: int, states: int = 5) -> ToyChain:
    rng = np.random.default_rng(seed)
    kernel, perturbation = rng.dirichlet(np.full(states, 0.4), size=states), rng.dirichlet(np.ones(states), size=states)
    target = np.arange(states) == 0
    kernel = 0.98 * kernel + 0.02 * target  # nothing outlives a sum over 4,000 epochs
    return ToyChain(Chain.from_kernel(kernel, target, rng.dirichlet(np.ones(states))), perturbation)


# ---- Restarts of a given law (2.3) -----------------------------------------------------------------------------------


def test_waiting_time_chain_has_the_moments_of_its_law() -> None:
    chain = example_of_2_3()
    assert mean_first_passage_time(chain) == pytest.approx(15.39, rel=EXACT)
    assert second_moment(chain) == pytest.approx(736.75, rel=EXACT)


@pytest.mark.parametrize(("interval", "mean", "square", "restarted_there", "summed_to_interval"), SHARP_RESTARTS)
def test_periodic_restart_has_no_off_by_one(
    interval: int, mean: float, square: float, restarted_there: float, summed_to_interval: float
) -> None:
    chain = example_of_2_3()
    exact = periodic_mean(chain, restart_kernel(chain), interval)
    assert exact == pytest.approx(mean, rel=1e-10)
    assert periodic_second_moment(chain, restart_kernel(chain), interval) == pytest.approx(square, rel=1e-9)
    check_mistakes(survival(chain, 60), interval, exact, restarted_there, summed_to_interval)


def test_geometric_restart_in_both_conventions() -> None:
    chain = example_of_2_3()
    restart = restart_kernel(chain)
    after_failure = geometric_mean(chain, restart, 0.1, consumes_epoch=False)
    in_place = geometric_mean(chain, restart, 0.1, consumes_epoch=True)
    assert after_failure == pytest.approx(8.302373975818, rel=1e-12)
    assert in_place == pytest.approx(9.224859973131, rel=1e-12)
    assert after_failure == pytest.approx(0.9 * in_place, rel=1e-12)


def test_geometric_timer_limits() -> None:
    chain, perturbation = RATIONAL.chain, RATIONAL.perturbation
    for consumes_epoch in (False, True):
        assert geometric_mean(chain, perturbation, 0, consumes_epoch=consumes_epoch) == pytest.approx(29.5, rel=EXACT)
    every_epoch = periodic_mean(chain, perturbation, 1)
    assert geometric_mean(chain, perturbation, 1, consumes_epoch=False) == pytest.approx(every_epoch, rel=EXACT)
    assert geometric_mean(chain, perturbation, 1, consumes_epoch=True) == math.inf


def test_state_dependent_restart() -> None:
    chain = RATIONAL.chain
    mean = geometric_mean(chain, restart_kernel(chain), np.array([0, 0, 0.5]), consumes_epoch=False)
    assert mean == pytest.approx(11.103773584905664, rel=EXACT)


# ---- The rational chain (2.4) ----------------------------------------------------------------------------------------


def test_rational_chain_unperturbed() -> None:
    chain = RATIONAL.chain
    mean, square = mean_first_passage_time(chain), second_moment(chain)
    assert mean == pytest.approx(59 / 2, rel=EXACT)
    assert square == pytest.approx(2351, rel=EXACT)
    assert square / mean**2 - 1 == pytest.approx(1.7015225510, rel=EXACT)
    psi, t = survival(chain, 3000), np.arange(3001)
    third = (psi * 3 * (t + 1) * (t + 2)).sum()  # sum by parts of E[T (T+1) (T+2)]
    assert rising_factorial_moment(chain, 3) == pytest.approx(third, rel=EXACT)


def test_rational_chain_quasi_stationary() -> None:
    law = quasi_stationary_state(RATIONAL.chain)
    assert law.survival_rate == pytest.approx(0.9762985702, rel=1e-9)
    assert law.hazard == pytest.approx(1 - 0.9762985702, abs=1e-10)
    assert law.relaxation_epochs == pytest.approx(-1 / math.log(0.5 / 0.9762985702), rel=1e-9)
    assert law.distribution == pytest.approx([0, 0.0205635, 0.9794365], abs=1e-7)
    once = mean_first_passage_time(replace(RATIONAL.chain, initial=law.distribution @ RATIONAL.perturbation))
    assert once == pytest.approx(28.0102817493, rel=1e-11)


@pytest.mark.parametrize(
    ("interval", "mean", "psi", "residual", "once", "restart"),
    [
        (1, 31 / 2, 1, 14.5, 29, math.inf),
        (2, 4345 / 413, 0.9, 9.4673123487, 28.6944444444, 20),
        (3, 676135 / 67386, 0.797, 8.9507662758, 28.4714554580, 14.285714285714),
        (5, 20785476839755 / 1908444295598, 0.6570573, 9.8599157800, 28.1946925710, 12.867426540935),
        (10, 14.524084908477, 0.527874247923, 13.5409443989, 28.0216007636, 15.623314414237),
        (30, 22.803046797984, 0.324437138767, 21.5497875079, 28.0102817889, 23.404921000273),
        (100, 28.588496952498, 0.060522419554, 27.1309624639, 28.0102817493, 28.682393300502),
    ],
)
def test_rational_chain_table(
    interval: int, mean: float, psi: float, residual: float, once: float, restart: float
) -> None:
    chain, perturbation = RATIONAL.chain, RATIONAL.perturbation
    assert periodic_mean(chain, perturbation, interval) == pytest.approx(mean, rel=1e-12)
    assert survival(chain, interval)[-1] == pytest.approx(psi, rel=1e-11)
    assert residual_mean(chain, perturbation, interval) == pytest.approx(residual, rel=1e-11)
    assert residual_mean_once(chain, perturbation, interval) == pytest.approx(once, rel=1e-11)
    assert periodic_mean(chain, restart_kernel(chain), interval) == pytest.approx(restart, rel=1e-12)


@pytest.mark.parametrize(("interval", "square"), [(2, 186.166807860748), (3, 170.255258889192), (5, 211.098306750252)])
def test_rational_chain_second_moments(interval: int, square: float) -> None:
    assert periodic_second_moment(RATIONAL.chain, RATIONAL.perturbation, interval) == pytest.approx(square, rel=1e-13)


# ---- Any chain: solves against sums over the law, identities, limits -------------------------------------------------


def kernel_by_kernel(toy: ToyChain, interval: int, epochs: int) -> list[Fraction]:
    """Pr(T_P > t) in rational arithmetic, state by state: slow and naive."""
    states = range(toy.chain.states)
    moves = [[Fraction(x) for x in row] for row in toy.chain.transient.tolist()]
    kick = [[Fraction(x) for x in row] for row in toy.perturbation.tolist()]
    law, result = [Fraction(x) for x in toy.chain.initial.tolist()], [Fraction(1)]
    for t in range(1, epochs + 1):
        law = [sum((law[i] * moves[i][j] for i in states), Fraction(0)) for j in states]
        result.append(sum(law, Fraction(0)))
        if t % interval == 0:
            law = [sum((law[i] * kick[i][j] for i in states), Fraction(0)) for j in states]
    return result


def test_periodic_survival_against_rational_arithmetic() -> None:
    naive = np.array([float(x) for x in kernel_by_kernel(RATIONAL, 3, 14)])
    assert periodic_survival(RATIONAL.chain, RATIONAL.perturbation, 3, 14) == pytest.approx(naive, rel=1e-13)


@pytest.mark.parametrize("interval", [1, 2, 7])
def test_moments_are_sums_over_the_law(seed: int, interval: int) -> None:
    toy = random_toy(seed)
    psi = periodic_survival(toy.chain, toy.perturbation, interval, 4000)
    assert psi[-1] < 1e-25
    mean, square = psi.sum(), ((2 * np.arange(4001) + 1) * psi).sum()
    assert periodic_mean(toy.chain, toy.perturbation, interval) == pytest.approx(mean, rel=EXACT)
    assert periodic_second_moment(toy.chain, toy.perturbation, interval) == pytest.approx(square, rel=EXACT)


def test_identities(seed: int) -> None:
    toy, interval = random_toy(seed), 4
    chain, perturbation, same = toy.chain, toy.perturbation, np.eye(toy.chain.states)
    psi = survival(chain, interval)
    mean = periodic_mean(chain, perturbation, interval)
    # [meir2025] Eq. (3)
    assert mean == pytest.approx(psi[:-1].sum() + psi[-1] * residual_mean(chain, perturbation, interval), rel=EXACT)
    # [meir2025] Eq. (5)
    restart = psi[:-1].sum() / (1 - psi[-1])
    assert periodic_mean(chain, restart_kernel(chain), interval) == pytest.approx(restart, rel=EXACT)
    # a map that does nothing
    assert periodic_mean(chain, same, interval) == pytest.approx(mean_first_passage_time(chain), rel=EXACT)
    assert periodic_second_moment(chain, same, interval) == pytest.approx(second_moment(chain), rel=EXACT)
    # cycles of maps
    assert cyclic_mean(chain, [perturbation] * 3, interval) == pytest.approx(mean, rel=EXACT)
    skipped = cyclic_mean(chain, [same, perturbation], interval)
    assert skipped == pytest.approx(periodic_mean(chain, perturbation, 2 * interval), rel=EXACT)
    assert cyclic_mean(chain, [perturbation, same], interval) != pytest.approx(skipped, rel=1e-6)


def test_residual_survival_sums_to_the_residual_mean() -> None:
    chain, perturbation = RATIONAL.chain, RATIONAL.perturbation
    psi = residual_survival_once(chain, perturbation, 5, 3000)
    assert psi.sum() == pytest.approx(residual_mean_once(chain, perturbation, 5), rel=EXACT)
    # Exact error of taking runs perturbed once (E7): psi_res(P) (taubar'_P - MRL_res(P)).
    late = perturbed_survivors(perturbed_survivors(chain, perturbation, 5), perturbation, 5)
    error = psi[5] * (periodic_mean(late, perturbation, 5) - psi[5:].sum() / psi[5])
    difference = residual_mean(chain, perturbation, 5) - residual_mean_once(chain, perturbation, 5)
    assert difference == pytest.approx(error, rel=EXACT)


def test_a_perturbation_into_the_target_counts_at_the_next_evaluation() -> None:
    chain = Chain.from_kernel(np.eye(2), [False, True], [1.0, 0.0])
    jump = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert mean_first_passage_time(chain) == math.inf
    assert periodic_mean(chain, jump, 3) == 4
    assert periodic_survival(chain, jump, 3, 5).tolist() == [1, 1, 1, 1, 0, 0]


def test_infinite_means_are_returned() -> None:
    # 0 -> 1 -> target; 2 is closed, 3 may fall into it
    chain = Chain(
        np.array([[0.5, 0.5, 0, 0], [0, 0.9, 0, 0], [0, 0, 1, 0], [0.3, 0, 0.1, 0.6]]), np.array([1.0, 0, 0, 0])
    )
    fall = np.eye(4)[[0, 2, 2, 3]]
    assert mean_first_passage_time(chain) == pytest.approx(12, rel=EXACT)
    assert mean_first_passage_time(replace(chain, initial=np.array([0.9, 0, 0, 0.1]))) == math.inf
    assert second_moment(replace(chain, initial=np.array([0, 0, 1.0, 0]))) == math.inf
    assert periodic_mean(chain, fall, 3) == math.inf
    assert periodic_second_moment(chain, fall, 3) == math.inf
    assert residual_mean(chain, fall, 3) == math.inf
    assert residual_mean_once(chain, restart_kernel(chain), 3) == pytest.approx(12, rel=EXACT)
    assert periodic_mean(chain, restart_kernel(chain), 1) == math.inf
    assert math.isfinite(periodic_mean(chain, restart_kernel(chain), 2))


@pytest.mark.parametrize("states", [7, 40, 100])  # within a block of the elimination, and across blocks
def test_means_beyond_the_digits_of_a_float(states: int) -> None:
    # A ladder climbed with probability 0.1 a rung, else back to the bottom: E = (10^n - 1) / 0.9.
    down_up = np.zeros((states, states))
    down_up[:, 0] = 0.9
    down_up[np.arange(states - 1), np.arange(1, states)] = 0.1
    chain = Chain(down_up, np.eye(states)[0])
    assert mean_first_passage_time(chain) == pytest.approx((10.0**states - 1) / 0.9, rel=1e-12)
    assert mean_first_passage_time(replace(chain, initial=np.eye(states)[-1])) > 10.0 ** (states - 2)


def test_elimination_across_blocks_agrees_with_a_linear_solve(seed: int) -> None:
    toy = random_toy(seed, states=90)
    solution = np.linalg.solve(np.eye(90) - toy.chain.transient, np.ones(90))
    assert mean_first_passage_time(toy.chain) == pytest.approx(toy.chain.initial @ solution, rel=EXACT)
    cycle = np.linalg.matrix_power(toy.chain.transient, 3) @ toy.perturbation
    duration = np.ones(90) + toy.chain.transient.sum(axis=1) + (toy.chain.transient @ toy.chain.transient).sum(axis=1)
    solution = np.linalg.solve(np.eye(90) - cycle, duration)
    assert periodic_mean(toy.chain, toy.perturbation, 3) == pytest.approx(toy.chain.initial @ solution, rel=EXACT)


# ---- Refusals --------------------------------------------------------------------------------------------------------

CHAIN, KICK = RATIONAL.chain, RATIONAL.perturbation
E1 = np.array([1.0, 0.0])
HALF = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Chain(np.ones((2, 3)) / 9, E1), r"transient has shape \(2, 3\); it must be \(2, 2\)"),
        (lambda: Chain(np.array([[-0.5, 0], [0, 0]]), E1), r"transient has an entry -0\.5; .* must be finite and >= 0"),
        (lambda: Chain(np.array([[math.nan, 0], [0, 0]]), E1), r"transient has an entry nan"),
        (
            lambda: Chain(np.array([[0.5, 0], [0.7, 0.4]]), E1),
            r"row 1 sums to 1\.1; probabilities sum to <= 1",
        ),
        (lambda: Chain(HALF, np.ones(3) / 3), r"initial has shape \(3,\); it must be \(2,\)"),
        (lambda: Chain(HALF, np.array([0.5, 0.4])), r"initial sums to 0\.9; it must be 1: divide by the sum"),
        (lambda: Chain.from_kernel(HALF * 0.9, [True, False], E1), r"kernel has a row that sums to 0\.9; it must be 1"),
        (lambda: Chain.from_kernel(HALF, [1, 0], E1), r"dtype int64; it must be \(2,\) and bool"),
        (lambda: Chain.from_kernel(HALF, [True], E1), r"target has shape \(1,\)"),
        (lambda: periodic_mean(CHAIN, np.eye(2), 3), r"perturbation has shape \(2, 2\); it must be \(3, 3\)"),
        (lambda: periodic_mean(CHAIN, np.eye(3) * 2, 3), r"perturbation has a row that sums to 2"),
        (lambda: periodic_mean(CHAIN, KICK, 0), r"interval=0 must be a whole number >= 1"),
        (lambda: periodic_survival(CHAIN, KICK, 0, 4), r"interval=0 must be a whole number >= 1"),
        (lambda: residual_mean(CHAIN, KICK, 2.5), r"interval=2\.5 must be a whole number"),
        (lambda: residual_mean(example_of_2_3(), np.eye(60), 60), r"interval=60: no run survives epoch 60"),
        (lambda: survival(CHAIN, -1), r"epochs=-1 must be a whole number >= 0"),
        (lambda: rising_factorial_moment(CHAIN, 0), r"order=0 must be a whole number >= 1"),
        (lambda: cyclic_mean(CHAIN, [], 3), r"perturbations is empty; give at least one map"),
        (lambda: geometric_mean(CHAIN, KICK, 1.5, consumes_epoch=True), r"probability=1\.5 must lie in \[0, 1\]"),
        (lambda: quasi_stationary_state(example_of_2_3()), r"every run meets the target within 60 epochs"),
        (
            lambda: quasi_stationary_state(Chain(np.eye(2) * 0.9, E1 / 2 + 0.25)),
            r"two modes survive at the same rate 0\.9",
        ),
        (lambda: quasi_stationary_state(Chain(np.eye(2)[::-1] * 0.9, E1)), r"two modes survive at the same rate 0\.9"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_chains_are_immutable_copies() -> None:
    kernel = HALF * 0.9
    chain = Chain(kernel, E1)
    kernel[0, 0] = 0
    assert chain.transient[0, 0] == 0.45
    with pytest.raises(ValueError, match="read-only"):
        chain.transient[0, 0] = 0
