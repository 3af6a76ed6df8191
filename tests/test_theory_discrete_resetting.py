"""Anchors are from reference/first_passage.md, sections 2.2 to 2.4, checked there by Monte Carlo."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.restart_example import SHARP_RESTARTS, check_mistakes, example_of_2_3
from theory.discrete_resetting import (
    check_interval,
    geometric_restart_helps,
    geometric_restart_mean,
    optimal_restart_interval,
    random_interval_mean,
    random_interval_second_moment,
    sharp_restart_mean,
    sharp_restart_restricted_mean,
    sharp_restart_second_moment,
    sharp_restart_survival,
)
from theory.linear_response import chain_geometric_slope
from theory.markov_chain import Chain, mean_first_passage_time, restart_kernel, second_moment, survival
from theory.perturbed_chain import geometric_mean, periodic_mean, periodic_second_moment, periodic_survival
from theory.toy_chains import rational_chain, waiting_time_chain

EXACT = 1e-10


def survival_of_2_3() -> np.ndarray:
    return survival(example_of_2_3(), 60)


def random_chain(seed: int) -> Chain:
    rng = np.random.default_rng(seed)
    kernel, target = rng.dirichlet(np.full(4, 0.5), size=4), np.arange(4) == 0
    return Chain.from_kernel(0.97 * kernel + 0.03 * target, target, rng.dirichlet(np.ones(4)))


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "mean", "square", "restarted_there", "summed_to_interval"), SHARP_RESTARTS)
def test_sharp_restart_has_no_off_by_one(
    interval: int, mean: float, square: float, restarted_there: float, summed_to_interval: float
) -> None:
    psi = survival_of_2_3()
    exact = sharp_restart_mean(psi, interval)
    assert exact == pytest.approx(mean, rel=1e-10)
    assert sharp_restart_second_moment(psi, interval) == pytest.approx(square, rel=1e-9)
    check_mistakes(psi, interval, exact, restarted_there, summed_to_interval)


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
    psi = survival_of_2_3()
    from_zero = psi[1:]  # Pr(T - 1 > t)
    right = from_zero[:5].sum() + 1  # E[min(T, P)] of the 1-based law, P = 5
    assert right == pytest.approx(psi[:5].sum() + psi[5], rel=EXACT)
    assert sharp_restart_mean(from_zero, 5) != pytest.approx(sharp_restart_mean(psi, 5) - 1, rel=0.01)
    first_cycle, success = from_zero[:4].sum() + 1, 1 - from_zero[4]
    assert first_cycle / success == pytest.approx(sharp_restart_mean(psi, 5), rel=EXACT)


# ---- The law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [3, 4, 8, 60])
def test_law_sums_to_its_moments(interval: int) -> None:
    psi = survival_of_2_3()
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
    optimum = optimal_restart_interval(survival_of_2_3())
    assert (optimum.interval, optimum.is_boundary) == (5, False)
    assert optimum.mean == pytest.approx(81 / 13, rel=1e-12)
    cut = optimal_restart_interval(survival_of_2_3()[:4])
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


# ---- Random intervals ------------------------------------------------------------------------------------------------


def test_geometric_anchors() -> None:
    psi = survival_of_2_3()
    assert geometric_restart_mean(psi, 0.1, consumes_epoch=False) == pytest.approx(8.302373975818, rel=1e-12)
    assert geometric_restart_mean(psi, 0.1, consumes_epoch=True) == pytest.approx(9.224859973131, rel=1e-12)
    slope = (geometric_restart_mean(psi, 1e-5, consumes_epoch=False) - 15.39) / 1e-5
    assert slope == pytest.approx(-139.2227, abs=1e-4)


@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.booleans())
def test_geometric_restart_is_that_of_the_chain(seed: int, probability: float, consumes_epoch: bool) -> None:
    chain = random_chain(seed)
    exact = geometric_mean(chain, restart_kernel(chain), probability, consumes_epoch=consumes_epoch)
    psi = survival(chain, 3000)
    assert geometric_restart_mean(psi, probability, consumes_epoch=consumes_epoch) == pytest.approx(exact, rel=1e-9)


def test_geometric_limits() -> None:
    psi = survival_of_2_3()
    assert geometric_restart_mean(psi, 1e-14, consumes_epoch=False) == pytest.approx(15.39, rel=1e-12)
    assert geometric_restart_mean(psi, 1.0, consumes_epoch=False) == math.inf  # nobody succeeds in one epoch
    assert geometric_restart_mean(0.75 ** np.arange(9), 1.0, consumes_epoch=False) == 4.0
    assert geometric_restart_mean(0.75 ** np.arange(9), 1.0, consumes_epoch=True) == math.inf
    both = geometric_restart_mean(np.stack([psi, 0.5 ** np.arange(61)]), 0.5, consumes_epoch=False)
    assert both.shape == (2,)
    assert both[1] == pytest.approx(2, rel=1e-12)


def test_random_interval_of_one_value_is_sharp() -> None:
    psi = survival_of_2_3()
    for interval in (2, 5, 60):
        law = np.eye(interval)[-1]
        assert random_interval_mean(psi, law) == pytest.approx(sharp_restart_mean(psi, interval), rel=1e-13)
        square = sharp_restart_second_moment(psi, interval)
        assert random_interval_second_moment(psi, law) == pytest.approx(square, rel=1e-13)


def test_random_interval_with_geometric_law() -> None:
    psi = survival_of_2_3()
    law = 0.1 * 0.9 ** np.arange(60)
    law[-1] += 0.9**60  # later than 60 is never reached
    assert random_interval_mean(psi, law) == pytest.approx(8.302373975818, rel=1e-11)
    chain = waiting_time_chain(np.flatnonzero(-np.diff(psi) > 0) + 1, -np.diff(psi)[-np.diff(psi) > 0])
    restarted = Chain(chain.transient @ (0.9 * np.eye(60) + 0.1 * restart_kernel(chain)), chain.initial)
    assert random_interval_second_moment(psi, law) == pytest.approx(second_moment(restarted), rel=1e-10)


@given(st.integers(0, 10_000))
def test_no_random_interval_beats_the_best_sharp_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    psi = np.concatenate([[1.0], np.cumprod(1 - rng.beta(0.5, 2, size=30))])
    law = rng.dirichlet(np.full(30, 0.3))
    best = optimal_restart_interval(psi).mean
    assert random_interval_mean(psi, law) >= best * (1 - 1e-12)


def test_rare_random_restart_helps_exactly_where_the_slope_is_negative() -> None:
    assert geometric_restart_helps(survival_of_2_3()).helps
    assert geometric_restart_helps(survival_of_2_3()).cv_squared == pytest.approx(736.75 / 15.39**2 - 1, rel=1e-12)
    for times, probabilities in (([1, 2, 3], [0.5, 0.25, 0.25]), ([1, 9], [0.9, 0.1]), ([1, 2, 12], [0.6, 0.3, 0.1])):
        chain = waiting_time_chain(times, probabilities)
        criterion = geometric_restart_helps(survival(chain, max(times)))
        assert criterion.threshold == pytest.approx(1 - 1 / mean_first_passage_time(chain), rel=1e-12)
        slope = chain_geometric_slope(chain, restart_kernel(chain), consumes_epoch=False)
        assert criterion.helps == (slope < 0)


# ---- Overhead --------------------------------------------------------------------------------------------------------


def test_overhead_is_a_longer_way_home() -> None:
    """A restart of cost c is a run that waits c epochs before it begins anew."""
    psi = survival_of_2_3()
    times = np.flatnonzero(-np.diff(psi) > 0) + 1
    late = waiting_time_chain(times + 3, -np.diff(psi)[times - 1])
    delayed = survival(late, 63)
    for interval in (4, 5, 8):
        # All cycles of length P + 3, the first of them with a wait too many.
        mean = float(sharp_restart_mean(delayed, interval + 3)) - 3
        assert sharp_restart_mean(psi, interval, overhead=3) == pytest.approx(mean, rel=1e-12)
        square = float(sharp_restart_second_moment(delayed, interval + 3)) - 6 * (mean + 3) + 9
        assert sharp_restart_second_moment(psi, interval, overhead=3) == pytest.approx(square, rel=1e-12)


def test_overhead_makes_the_best_interval_longer() -> None:
    psi = survival_of_2_3()
    optima = [optimal_restart_interval(psi, overhead) for overhead in (0, 1, 30, 1000)]
    assert [o.interval for o in optima] == sorted(o.interval for o in optima)
    assert optima[-1].interval == 60
    assert optima[0].interval == 5


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


def test_refuses_what_random_restarts_do_not_know() -> None:
    with pytest.raises(ValueError, match=r"probability=0.0 must be > 0 and <= 1; without restarts take the mean"):
        geometric_restart_mean(PSI, 0.0, consumes_epoch=False)
    with pytest.raises(ValueError, match=r"survival ends at epoch 3, too early for restarts of probability=0.1: a sh"):
        geometric_restart_mean(PSI, 0.1, consumes_epoch=False)
    with pytest.raises(ValueError, match=r"interval_law has shape \(4,\); it must give .* with m <= 3, the last"):
        random_interval_mean(PSI, np.full(4, 0.25))
    with pytest.raises(ValueError, match=r"interval_law sums to 0.5; it must be 1"):
        random_interval_mean(PSI, [0.25, 0.25])
    with pytest.raises(ValueError, match=r"survival ends at epoch 3 with Psi=0.2: the moments of T are unknown"):
        geometric_restart_helps(PSI)
    with pytest.raises(ValueError, match="overhead=-1 must be finite and >= 0"):
        sharp_restart_mean(PSI, 2, overhead=-1)
