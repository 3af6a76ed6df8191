import math

import numpy as np
import pytest
from scipy import optimize

from theory.study_size import StudySize


def random_problem(rng: np.random.Generator, labels: int, intervals: int) -> StudySize:
    shape = (labels, intervals)
    return StudySize(
        parent_variances=rng.gamma(1.0, 2.0, shape),
        child_variances=rng.gamma(1.0, 1.0, shape) * rng.integers(0, 2, shape),
        squared_errors=rng.uniform(0.05, 0.4, shape),
        fewest_parents=1.0,
        fewest_children=rng.uniform(1.0, 12.0, labels),
        parent_cost=float(rng.uniform(2.0, 20.0)),
        child_costs=rng.uniform(1.0, 10.0, labels),
        survival=float(rng.uniform(0.05, 1.0)),
    )


def is_allowed(size: StudySize, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    errors = size.parent_variances[..., None] / n + size.child_variances[..., None] / m[:, None]
    enough = (m <= n * size.survival + 1e-9) & (m >= size.fewest_children[:, None] - 1e-9)
    precise = errors <= size.squared_errors[..., None] * (1 + 1e-12)
    return np.logical_and(precise.all(axis=(0, 1)), enough.all(axis=0))


@pytest.mark.parametrize("problem", range(12))
def test_no_whole_numbers_are_cheaper(problem: int) -> None:
    size = random_problem(np.random.default_rng(problem), 1, 3)
    n, m = np.meshgrid(np.arange(1, 700), np.arange(1, 700))
    n, m = n.ravel(), m.ravel()
    allowed = is_allowed(size, n, m[None])
    best = (n * size.parent_cost + m * size.child_costs[0])[allowed].min()
    parents = size.cheapest()
    assert size.cost(parents) == pytest.approx(best, rel=1e-12)
    assert is_allowed(size, np.array([parents]), size.children(parents)[:, None]).all()
    # Each n in turn, as long as n alone is cheaper.
    every = [size.cost(k) for k in range(size.fewest(), math.ceil(best / size.parent_cost) + 2)]
    assert min(every) == pytest.approx(best, rel=1e-12)
    too_few = size.fewest() - 1
    assert not allowed[n == too_few].any()


@pytest.mark.parametrize("problem", range(8))
def test_relaxed_optimum_of_scipy_is_a_run_of_each_kind_away_at_most(problem: int) -> None:
    size = random_problem(np.random.default_rng(100 + problem), 3, 4)

    def slack(x: np.ndarray) -> np.ndarray:
        errors = size.parent_variances / x[0] + size.child_variances / x[1:, None]
        return np.concatenate([(1 - errors / size.squared_errors).ravel(), (x[0] * size.survival - x[1:]) / x[0]])

    costs = np.array([size.parent_cost, *size.child_costs])
    start = np.array([1e4, *np.full(3, 1e4 * size.survival)])
    bounds = [(1, None), *((low, None) for low in size.fewest_children)]
    found = optimize.minimize(
        lambda x: costs @ x / 1e3,
        start,
        method="SLSQP",
        bounds=bounds,
        constraints={"type": "ineq", "fun": slack},
        options={"maxiter": 2000, "ftol": 1e-13},
    )
    assert found.success
    ours, relaxed = size.cost(size.cheapest()), 1e3 * found.fun
    assert -1e-6 * relaxed < ours - relaxed < costs[0] / size.survival + costs.sum()


@pytest.mark.parametrize("shrink", [1, 100, 10**4])
def test_one_number_has_a_closed_optimum(shrink: int) -> None:
    a, b, c, d, squared = 9.0, 4.0, 4.0, 1.0, 0.1 / shrink
    one = np.ones((1, 1))
    size = StudySize(a * one, b * one, squared * one, 1.0, np.ones(1), c, np.full(1, d), 1.0)
    n = (a + math.sqrt(a * b * d / c)) / squared
    m = (b + math.sqrt(a * b * c / d)) / squared
    cost = (math.sqrt(a * c) + math.sqrt(b * d)) ** 2 / squared
    assert n * c + m * d == pytest.approx(cost)
    parents = size.cheapest(limited=False)
    assert parents == pytest.approx(n, rel=0.02 / math.sqrt(shrink) + 1e-6)
    assert size.children(parents)[0] == pytest.approx(m, rel=0.02 / math.sqrt(shrink) + 1e-6)
    assert 0 <= size.cost(parents) - cost <= c + d
    # Here m > n: with one child each, n is found by a / n + b / n = epsilon^2.
    assert size.cheapest() == size.fewest() == math.ceil((a + b) / squared - 1e-9)


def test_too_precise_sizes_are_refused() -> None:
    one = np.ones((1, 1))
    for a, survival in [(1.0, 1.0), (1e-9, 1e-3)]:
        size = StudySize(a * one, one, 1e-9 * one / 1.5, 1.0, np.ones(1), 1.0, np.ones(1), survival)
        with pytest.raises(ValueError, match=r"the wanted error needs more than 1e\+09 runs: ask for less precision"):
            size.cheapest()
