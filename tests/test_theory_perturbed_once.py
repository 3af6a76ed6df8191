import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.chain_sampling import sample_first_passages
from theory.perturbed_chain import residual_survival_once
from theory.perturbed_once import PerturbedOnce
from theory.survival import FirstPassages, Survival
from theory.toy_chains import rational_chain


def passages(times: list[int], observed: list[bool] | bool = True) -> FirstPassages:
    return FirstPassages(np.array(times), np.broadcast_to(observed, len(times)).copy())


def test_periodic_runs_are_residuals_up_to_their_second_perturbation() -> None:
    # P = 4: done before, at P itself (complete, not perturbed), within the next 4, at its end, later; and censored.
    runs = passages([2, 4, 5, 8, 9, 4, 6, 8, 20], [True, True, True, True, True, False, False, False, False])
    once = PerturbedOnce.from_periodic(runs, 4)
    assert once.residuals.times.tolist() == [1, 4, 4, 2, 4, 4]
    assert once.residuals.observed.tolist() == [True, True, False, False, False, False]
    assert (once.epoch, once.followed, once.parents) == (4, 4, None)


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_no_residual_exceeds_the_interval_and_none_is_lost(seed: int, interval: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.integers(1, 60, size=40)
    runs = FirstPassages(np.append(times, 60), np.append(rng.random(40) < 0.7, False))
    once = PerturbedOnce.from_periodic(runs, interval)
    residuals = once.residuals
    assert residuals.n == (runs.times > interval).sum()
    assert (residuals.times >= 1).all()
    assert residuals.horizon <= interval
    within = (runs.times > interval) & (runs.times <= 2 * interval) & runs.observed
    assert residuals.observed.sum() == within.sum()


def test_periodic_runs_know_the_exact_law_after_the_first_perturbation(seed: int) -> None:
    toy, interval = rational_chain(), 10
    rng = np.random.default_rng(seed)
    runs = sample_first_passages(toy.chain, 40_000, rng, horizon=60, perturbation=toy.perturbation, interval=interval)
    once = PerturbedOnce.from_periodic(runs, interval)
    estimate = Survival.of(once.residuals)
    exact = residual_survival_once(toy.chain, toy.perturbation, interval, interval)
    error = np.sqrt(exact * (1 - exact) / once.residuals.n)
    assert (np.abs(estimate.values - exact)[1:] < 5 * error[1:] + 1e-12).all()
    # Counted from the start of training, or with the second perturbation let in, it is another law.
    uncensored = np.minimum(runs.times[runs.times > interval] - interval, 2 * interval)
    wrong = (uncensored > 2 * interval - 1).mean()
    assert abs(wrong - residual_survival_once(toy.chain, toy.perturbation, interval, 20)[19]) > 5 * error.max()


@pytest.mark.parametrize(("times", "interval"), [([3, 5], 5), ([3, 5], 0), ([3, 5], -1)])
def test_no_run_beyond_the_interval_is_refused(times: list[int], interval: int) -> None:
    with pytest.raises(ValueError, match=rf"interval={interval} must be >= 1, and some run must be followed beyond it"):
        PerturbedOnce.from_periodic(passages(times), interval)


def test_nonsense_is_refused() -> None:
    residuals = passages([1, 5])
    with pytest.raises(ValueError, match=r"epoch=0 must be a whole number >= 1"):
        PerturbedOnce(residuals, 0, 5)
    with pytest.raises(ValueError, match=r"followed=4 is below the longest residual 5"):
        PerturbedOnce(residuals, 1, 4)
    for parents in (np.array([0]), np.array([0.0, 1.0]), np.array([[0, 1]])):
        with pytest.raises(ValueError, match=r"each needs the number of its unperturbed run"):
            PerturbedOnce(residuals, 1, 5, parents)
