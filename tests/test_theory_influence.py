import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.discrete_resetting import sharp_restart_mean, sharp_restart_restricted_mean
from theory.influence import influence
from theory.survival import FirstPassages, Survival, restricted_mean, survival_from_counts

H = 12


def sample(seed: int, n: int = 40, horizon: int = 20) -> FirstPassages:
    """Geometric times, a quarter of the runs censored somewhere."""
    rng = np.random.default_rng(seed)
    times, stops = rng.geometric(0.15, size=n), np.where(rng.random(n) < 0.25, rng.integers(0, horizon, n), horizon)
    stops[0] = horizon
    return FirstPassages(np.minimum(times, stops), times <= stops)


def at_epochs(psi: np.ndarray) -> np.ndarray:
    return psi[..., 1 : H + 1]


def several(psi: np.ndarray) -> np.ndarray:
    """Of many kinds: survival, restricted mean, a ratio, a restarted mean, a logarithm, a constant."""
    intervals, horizons = np.array([3, 5]), np.array([H, H])
    restarts = sharp_restart_restricted_mean(psi, intervals, horizons)
    means = restricted_mean(psi, np.array([1, H]))
    ratio = (means[..., 1] / restarts[..., 0])[..., None]
    return np.concatenate(
        [psi[..., [4]], means, restarts, ratio, np.log(psi[..., [2]]), 0 * psi[..., [0]] + 7], axis=-1
    )


@given(st.integers(0, 10_000), st.integers(5, 60))
def test_influences_add_up_to_zero(seed: int, n: int) -> None:
    runs = sample(seed, n)
    values = influence(runs, runs.counts(horizon=H), at_epochs)
    assert values.shape == (n, H)
    assert values.sum(axis=0) == pytest.approx(np.zeros(H), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(5, 60))
def test_their_squares_are_greenwoods_formula(seed: int, n: int) -> None:
    runs = sample(seed, n)
    estimate = Survival.of(runs)
    last = min(H, estimate.horizon)
    values = influence(runs, runs.counts(horizon=H), at_epochs)
    assert np.sqrt((values**2).sum(axis=0))[:last] == pytest.approx(
        estimate.standard_error[1 : last + 1], rel=1e-10, abs=1e-12
    )
    of_mean = influence(runs, runs.counts(horizon=last), lambda psi: restricted_mean(psi, np.array([last])))
    assert math.sqrt((of_mean**2).sum()) == pytest.approx(estimate.restricted_mean(last).standard_error, rel=1e-10)


def test_without_censoring_it_is_the_deviation_of_each_run() -> None:
    runs = FirstPassages(np.array([1, 4, 4, 9]), np.ones(4, dtype=bool))
    values = influence(runs, runs.counts(), lambda psi: restricted_mean(psi, np.array([9, 4])))
    assert values[:, 0] == pytest.approx((runs.times - 4.5) / 4)
    assert values[:, 1] == pytest.approx((np.minimum(runs.times, 4) - 3.25) / 4)


def test_several_functionals_are_each_one_alone(seed: int) -> None:
    runs = sample(seed)
    counts = runs.counts(horizon=H)
    together = influence(runs, counts, several)
    assert together.shape == (runs.n, 8)
    for i in range(together.shape[1]):
        alone = influence(runs, counts, lambda psi, i=i: several(psi)[..., [i]])
        assert (alone[:, 0] == together[:, i]).all()
    assert not together[:, -1].any()  # a constant owes nothing to anybody


@pytest.mark.parametrize("number", range(8))
def test_influence_is_the_derivative_by_the_weight_of_a_run(number: int, seed: int) -> None:
    runs = sample(seed)
    values = influence(runs, runs.counts(horizon=H), several)[:, number]

    def value(weights: np.ndarray) -> float:
        return float(several(survival_from_counts(*runs.counts(weights, H)))[number])

    step, ones = 1e-5, np.ones(runs.n)
    slopes = [(value(ones + unit) - value(ones - unit)) / (2 * step) for unit in step * np.eye(runs.n)]
    assert values == pytest.approx(slopes, rel=1e-6, abs=1e-9)


def test_leaving_a_run_out_is_influence_up_to_higher_orders(seed: int) -> None:
    runs = sample(seed, 2000)
    values = influence(runs, runs.counts(horizon=H), several)
    everybody = several(survival_from_counts(*runs.counts(horizon=H)))
    chosen = np.random.default_rng(seed).choice(runs.n, size=60, replace=False)
    weights = np.ones((60, runs.n))
    weights[np.arange(60), chosen] = 0
    without = several(survival_from_counts(*runs.counts(weights, H)))
    assert (everybody - without) * (1 - 1 / runs.n) == pytest.approx(values[chosen], rel=0.02, abs=1e-7)
    # A different run each, so that a wrong order of runs would show.
    assert (everybody - without)[::-1, 1:3] != pytest.approx(values[chosen][:, 1:3], rel=0.02, abs=1e-7)


def test_a_passage_beyond_the_horizon_is_survival() -> None:
    early = FirstPassages(np.array([2, 5, 7]), np.array([True, True, True]))
    late = FirstPassages(np.array([2, 5, 90]), np.array([True, True, True]))
    censored = FirstPassages(np.array([2, 5, 6]), np.array([True, True, False]))
    of = [influence(runs, runs.counts(horizon=6), lambda psi: psi[..., [3, 6]]) for runs in (early, late, censored)]
    assert (of[0] == of[1]).all()
    assert of[1] == pytest.approx(of[2])


def test_only_epochs_with_first_passages_are_moved() -> None:
    runs = FirstPassages(np.array([3, 8, 8, 10]), np.array([True, True, False, False]))
    shapes = []

    def seen(psi: np.ndarray) -> np.ndarray:
        shapes.append(psi.shape)
        return psi[..., [5]]

    influence(runs, runs.counts(), seen)
    assert shapes == [(2, 11)]
    # Nobody ever finishes: nothing to differentiate, and no influence.
    never = FirstPassages(np.array([5, 9]), np.array([False, False]))
    assert not influence(never, never.counts(), lambda psi: psi[..., [4]]).any()


def test_infinite_means_have_finite_influence_nowhere() -> None:
    # Before the first passage a restarted mean is infinite at every weight; there is no slope but zero.
    runs = FirstPassages(np.array([6, 7, 9]), np.array([True, True, True]))
    values = influence(runs, runs.counts(), lambda psi: sharp_restart_mean(psi, np.array([3, 8])))
    assert not values[:, 0].any()
    assert np.isfinite(values[:, 1]).all()
    assert values[:, 1].any()
