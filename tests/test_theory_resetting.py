"""Anchors are from reference/first_passage.md, sections 2.3 and 2.4, checked there by Monte Carlo."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.markov_chain import (
    Chain,
    periodic_mean,
    periodic_second_moment,
    periodic_survival,
    restart_kernel,
    survival,
)
from theory.resetting import (
    check_interval,
    optimal_restart_interval,
    sharp_restart_mean,
    sharp_restart_restricted_mean,
    sharp_restart_second_moment,
    sharp_restart_survival,
)
from theory.toy_chains import rational_chain, waiting_time_chain

EXACT = 1e-10


def example_of_2_3() -> np.ndarray:
    times = [2, 3, 4, 5, 6, 7, 8, 9, 10, 60]
    return survival(waiting_time_chain(times, [0.05, 0.3, 0.2, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.2]), 60)


def random_chain(seed: int) -> Chain:
    rng = np.random.default_rng(seed)
    kernel, target = rng.dirichlet(np.full(4, 0.5), size=4), np.arange(4) == 0
    return Chain.from_kernel(0.97 * kernel + 0.03 * target, target, rng.dirichlet(np.ones(4)))


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "mean", "square", "restarted_at_the_target", "summed_to_interval"),
    [
        (2, 40, 3120, math.inf, 59),
        (3, 8.4285714286, 118.91836735, 59, 10.2857),
        (4, 6.5454545455, 67.02479339, 10.2857, 7.3636),
        (5, 6.2307692308, 60.24260355, 7.3636, 6.7692),
        (8, 6.4285714286, 68.19109462, 6.6, 6.7273),
    ],
)
def test_sharp_restart_has_no_off_by_one(
    interval: int, mean: float, square: float, restarted_at_the_target: float, summed_to_interval: float
) -> None:
    psi = example_of_2_3()
    exact = sharp_restart_mean(psi, interval)
    assert exact == pytest.approx(mean, rel=1e-10)
    assert sharp_restart_second_moment(psi, interval) == pytest.approx(square, rel=1e-9)

    # Both plausible mistakes give the wrong columns of the table, and not the exact one.
    wrong_ending = psi[:interval].sum() / max(1 - psi[interval - 1], 1e-300)
    wrong_sum = psi[: interval + 1].sum() / (1 - psi[interval])
    assert (
        wrong_ending > 1e15
        if restarted_at_the_target == math.inf
        else wrong_ending == pytest.approx(restarted_at_the_target, rel=1e-5)
    )
    assert wrong_sum == pytest.approx(summed_to_interval, rel=1e-5)
    assert min(wrong_ending, wrong_sum) > 1.02 * exact


@pytest.mark.parametrize(
    ("interval", "mean"),
    [
        (1, math.inf),
        (2, 20),
        (3, 14.285714285714),
        (5, 12.867426540935),
        (10, 15.623314414237),
        (30, 23.404921000273),
        (100, 28.682393300502),
    ],
)
def test_sharp_restart_of_the_rational_chain(interval: int, mean: float) -> None:
    psi = survival(rational_chain().chain, 100)
    assert sharp_restart_mean(psi, interval) == pytest.approx(mean, rel=1e-12)
    assert (sharp_restart_second_moment(psi, interval) == math.inf) == (mean == math.inf)


def test_times_counted_from_zero_need_another_formula() -> None:
    psi = example_of_2_3()
    from_zero = psi[1:]  # Pr(T - 1 > t)
    right = from_zero[:5].sum() + 1  # E[min(T, P)] of the 1-based law, P = 5
    assert right == pytest.approx(psi[:5].sum() + psi[5], rel=EXACT)
    assert sharp_restart_mean(from_zero, 5) != pytest.approx(sharp_restart_mean(psi, 5) - 1, rel=0.01)
    first_cycle, success = from_zero[:4].sum() + 1, 1 - from_zero[4]
    assert first_cycle / success == pytest.approx(sharp_restart_mean(psi, 5), rel=EXACT)


# ---- The law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [3, 4, 8, 60])
def test_law_sums_to_its_moments(interval: int) -> None:
    psi = example_of_2_3()
    law = sharp_restart_survival(psi, interval, 6000)
    t = np.arange(len(law))
    assert law[-1] < 1e-30
    assert law.sum() == pytest.approx(sharp_restart_mean(psi, interval), rel=EXACT)
    assert ((2 * t + 1) * law).sum() == pytest.approx(sharp_restart_second_moment(psi, interval), rel=EXACT)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 60))
def test_every_formula_is_that_of_the_chain_with_a_restart_kernel(seed: int, interval: int, horizon: int) -> None:
    chain = random_chain(seed)
    restart = restart_kernel(chain)
    psi = survival(chain, interval)  # the formulas need no more
    mean, square = periodic_mean(chain, restart, interval), periodic_second_moment(chain, restart, interval)
    law = periodic_survival(chain, restart, interval, horizon)
    assert sharp_restart_mean(psi, interval) == pytest.approx(mean, rel=1e-9)
    assert sharp_restart_second_moment(psi, interval) == pytest.approx(square, rel=1e-9)
    assert sharp_restart_survival(psi, interval, horizon) == pytest.approx(law, rel=1e-9, abs=1e-300)
    assert sharp_restart_restricted_mean(psi, interval, horizon) == pytest.approx(law[:horizon].sum(), rel=1e-9)


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(0, 100))
def test_restricted_mean_is_the_sum_of_the_law(seed: int, interval: int, horizon: int) -> None:
    rng = np.random.default_rng(seed)
    psi = np.cumprod(np.concatenate([np.ones((3, 1)), rng.choice([1.0, 0.9, 0.5, 0.0], size=(3, 20))], axis=1), axis=1)
    law = sharp_restart_survival(psi, interval, max(horizon - 1, 0))[..., :horizon]
    assert law.shape == (3, horizon)
    closed_form = sharp_restart_restricted_mean(psi, interval, horizon)
    assert closed_form == pytest.approx(law.sum(axis=-1), rel=1e-12)
    # At most what the endless law has, which may be infinite.
    assert (closed_form <= sharp_restart_mean(psi, interval) * (1 + 1e-12)).all()


def test_without_success_before_the_restart_the_mean_is_infinite_and_the_restricted_mean_is_the_horizon() -> None:
    psi = np.array([[1.0, 1.0, 1.0, 0.2], [1.0, 0.5, 0.5, 0.2]])
    assert sharp_restart_mean(psi, 2).tolist() == [math.inf, 3.0]
    assert sharp_restart_second_moment(psi, 2).tolist() == [math.inf, (1 + 3 * 0.5 + 4 * 0.5 * 3) / 0.5]
    assert sharp_restart_restricted_mean(psi, 2, 50).tolist() == pytest.approx([50, 3], rel=1e-6)


def test_restarts_of_a_process_without_memory_change_nothing() -> None:
    psi = 0.9 ** np.arange(41)
    for interval in (1, 7, 40):
        assert sharp_restart_mean(psi, interval) == pytest.approx(10, rel=1e-12)
        assert sharp_restart_second_moment(psi, interval) == pytest.approx(190, rel=1e-12)
        assert sharp_restart_survival(psi, interval, 90) == pytest.approx(0.9 ** np.arange(91), rel=1e-12)


# ---- The optimum -----------------------------------------------------------------------------------------------------


def test_optimal_interval() -> None:
    optimum = optimal_restart_interval(example_of_2_3())
    assert (optimum.interval, optimum.is_boundary) == (5, False)
    assert optimum.mean == pytest.approx(81 / 13, rel=1e-12)
    cut = optimal_restart_interval(example_of_2_3()[:4])
    assert (cut.interval, cut.is_boundary) == (3, True)


def test_optimal_interval_of_a_rising_hazard_is_no_restart_at_all() -> None:
    psi = survival(waiting_time_chain([4, 5, 6], [0.2, 0.3, 0.5]), 6)
    optimum = optimal_restart_interval(psi)
    assert (optimum.interval, optimum.is_boundary) == (6, True)
    assert optimum.mean == pytest.approx(5.3, rel=1e-12)


def test_optimal_interval_of_a_falling_hazard_is_the_shortest() -> None:
    psi = 0.5 * 0.9 ** np.arange(41) + 0.5 * 0.999 ** np.arange(41)
    optimum = optimal_restart_interval(psi)
    assert (optimum.interval, optimum.is_boundary) == (1, False)
    assert optimum.mean == pytest.approx(1 / (1 - psi[1]), rel=1e-12)


def test_optimal_interval_without_memory_is_not_chosen_by_rounding() -> None:
    assert optimal_restart_interval(0.9 ** np.arange(200)).interval == 1
    assert optimal_restart_interval(0.3 ** np.arange(30)).interval == 1


# ---- Refusals --------------------------------------------------------------------------------------------------------

PSI = np.array([1.0, 0.8, 0.5, 0.2])


def test_whole_numbers_of_any_type_are_intervals() -> None:
    for interval in (2.0, np.int32(2), np.int64(2)):
        assert check_interval(PSI, interval) == 2  # pyright: ignore[reportArgumentType]
        assert sharp_restart_mean(PSI, interval) == sharp_restart_mean(PSI, 2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("interval", [0, -1, 4, 2.5, math.nan, math.inf])
@pytest.mark.parametrize(
    "function",
    [
        check_interval,
        sharp_restart_mean,
        sharp_restart_second_moment,
        lambda psi, interval: sharp_restart_survival(psi, interval, 9),
        lambda psi, interval: sharp_restart_restricted_mean(psi, interval, 9),
    ],
)
def test_refuses_intervals(function: Callable[[np.ndarray, float], object], interval: float) -> None:
    with pytest.raises(
        ValueError, match=rf"interval={interval} must be a whole number of epochs from 1 to 3, the last"
    ):
        function(PSI, interval)


def test_refuses_to_optimise_where_nobody_finishes() -> None:
    with pytest.raises(
        ValueError, match=r"no run finishes by epoch 5: every restart interval up to there has E\[T_P\] = i"
    ):
        optimal_restart_interval(np.ones(6))
