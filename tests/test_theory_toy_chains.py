"""Anchors are from the derivations in reference/first_passage.md, section 6, checked there by Monte Carlo."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from theory.markov_chain import (
    mean_first_passage_time,
    periodic_mean,
    residual_mean,
    residual_mean_once,
    restart_kernel,
    second_moment,
    survival,
)
from theory.quasi_stationary import quasi_stationary
from theory.toy_chains import double_well, hidden_label_chain, trap_with_barrier, waiting_time_chain


@pytest.mark.parametrize(
    ("interval", "residual"),
    [
        (1, 11.4691943128),
        (5, 13.2962345840),
        (10, 15.3117930893),
        (20, 18.0137517974),
        (50, 19.9029988586),
        (100, 19.9994716011),
    ],
)
def test_hidden_label(interval: int, residual: float) -> None:
    toy = hidden_label_chain()
    assert residual_mean(toy.chain, toy.perturbation, interval) == pytest.approx(residual, rel=1e-11)
    assert residual_mean_once(toy.chain, toy.perturbation, interval) == pytest.approx(residual, rel=1e-11)


TRAP = {  # P: E[T_P] under shrink-and-perturb (0.2, 0.1), (0.4, 0.1), restart
    2: (3.63537137, 3.92858611, 14.11741105),
    3: (4.10681260, 4.46714479, 7.98238955),
    5: (4.96064243, 5.43225910, 7.43926042),
    10: (6.94544744, 7.53738202, 10.06906248),
    20: (10.82247727, 11.51880115, 16.31551851),
    100: (41.43172065, 42.85142524, 65.39090146),
}


@pytest.mark.parametrize("intervals", [(10,), pytest.param((2, 3, 5, 20, 100), marks=pytest.mark.slow)])
def test_trap_with_barrier(intervals: tuple[int, ...]) -> None:
    toy = trap_with_barrier()
    maps = [toy.shrink_and_perturb(0.2, 0.1), toy.shrink_and_perturb(0.4, 0.1), restart_kernel(toy.chain)]
    for interval in intervals:
        means = [periodic_mean(toy.chain, perturbation, interval) for perturbation in maps]
        assert means == pytest.approx(TRAP[interval], abs=1e-8)


def test_trap_with_barrier_quasi_stationary() -> None:
    toy = trap_with_barrier()
    mean, square = mean_first_passage_time(toy.chain), second_moment(toy.chain)
    assert mean == pytest.approx(1447.75752453, rel=1e-11)
    assert square / mean**2 - 1 == pytest.approx(4.124713, rel=1e-6)
    psi = survival(toy.chain, 100)[[5, 10, 20, 100]]
    assert psi == pytest.approx([0.459723, 0.392640, 0.386951, 0.378676], abs=1e-6)
    law = quasi_stationary(toy.chain)
    assert law.survival_rate == pytest.approx(0.99973089, abs=1e-8)
    assert law.relaxation_epochs == pytest.approx(2.07, abs=0.005)
    for shrink, once, repeated in [(0.2, 2.121914, 2.119905), (0.4, 93.268368, 5.869037)]:
        perturbation = toy.shrink_and_perturb(shrink, 0.1)
        late = replace(toy.chain, initial=law.distribution @ perturbation)
        assert mean_first_passage_time(late) == pytest.approx(once, abs=1e-6)
        assert residual_mean(toy.chain, perturbation, 100) == pytest.approx(repeated, abs=1e-6)


def test_trap_grid_matters_for_the_escape_and_not_for_perturbed_means() -> None:
    coarse = trap_with_barrier(cells=401)
    assert mean_first_passage_time(coarse.chain) == pytest.approx(1383, abs=0.5)
    assert periodic_mean(coarse.chain, coarse.shrink_and_perturb(0.4, 0.1), 10) == pytest.approx(TRAP[10][1], rel=6e-4)


@pytest.mark.slow
def test_double_well() -> None:
    toy = double_well()
    chain, weak, strong = toy.chain, toy.shrink_and_perturb(0.4, 0.1), toy.shrink_and_perturb(0.4, 0.5)
    assert mean_first_passage_time(chain) == pytest.approx(2275.804, abs=1e-3)
    for perturbation, interval, mean, digits in [
        (weak, 2, 28.51932788, 1e-8),
        (weak, 5, 64.80614337, 1e-8),
        (weak, 10, 120.43, 5e-3),
        (strong, 2, 15.15045547, 1e-8),
        (strong, 10, 37.63337965, 1e-8),
        (strong, 20, 70.28624834, 1e-8),
        (restart_kernel(chain), 1, 7.45114740, 1e-8),
        (restart_kernel(chain), 10, 13.06674778, 1e-8),
    ]:
        assert periodic_mean(chain, perturbation, interval) == pytest.approx(mean, abs=digits)
    law = quasi_stationary(chain)
    assert law.survival_rate == pytest.approx(0.99977969, abs=1e-8)
    assert mean_first_passage_time(replace(chain, initial=law.distribution @ weak)) == pytest.approx(4353, abs=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: waiting_time_chain([0, 2], [0.5, 0.5]), r"must be whole numbers >= 1"),
        (lambda: waiting_time_chain([1, 2], [0.5, 0.6]), r"probabilities sums to 1\.1; it must be 1"),
        (lambda: trap_with_barrier(cells=20).shrink_and_perturb(0.4, 0), r"perturb=0 must be > 0"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
