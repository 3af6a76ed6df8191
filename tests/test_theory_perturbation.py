"""Anchors are from reference/first_passage.md, sections 2.4, 6.3, 6.4 and 7."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.discrete_resetting import sharp_restart_mean, sharp_restart_restricted_mean, sharp_restart_survival
from theory.fokker_planck import GridChain
from theory.markov_chain import Chain, restart_kernel, survival
from theory.perturbation import (
    PREDICTORS,
    perturbed_mean,
    predicted_mean,
    predicted_restricted_mean,
    predicted_survival,
    rare_survival,
    renewal_mean,
    renewal_survival,
)
from theory.perturbed_chain import (
    periodic_mean,
    periodic_survival,
    residual_mean,
    residual_mean_once,
    residual_survival_once,
)
from theory.toy_chains import ToyChain, hidden_label_chain, rational_chain, trap_with_barrier

EXACT = 1e-10


def random_toy(seed: int) -> ToyChain:
    rng = np.random.default_rng(seed)
    kernel, target = rng.dirichlet(np.full(4, 0.5), size=4), np.arange(4) == 0
    chain = Chain.from_kernel(0.95 * kernel + 0.05 * target, target, rng.dirichlet(np.ones(4)))
    return ToyChain(chain, rng.dirichlet(np.ones(4), size=4))


def random_survival(seed: int, epochs: int) -> np.ndarray:
    """Three laws, some with stretches of no success and some that come to an end."""
    steps = np.random.default_rng(seed).choice([1.0, 0.9, 0.6, 0.0], p=[0.4, 0.3, 0.25, 0.05], size=(3, epochs))
    return np.cumprod(np.concatenate([np.ones((3, 1)), steps], axis=1), axis=1)


# ---- Exact identities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1, 2, 3, 5, 10, 30, 100])
def test_equation_3_is_exact_with_residuals_under_repeated_perturbations(interval: int) -> None:
    toy = rational_chain()
    psi, exact = survival(toy.chain, interval + 1), periodic_mean(toy.chain, toy.perturbation, interval)
    taubar = residual_mean(toy.chain, toy.perturbation, interval)
    assert perturbed_mean(psi, interval, taubar) == pytest.approx(exact, rel=EXACT)
    # Off by one in the sum or (from P = 2 on, where runs may finish) in the share of survivors it is not.
    assert psi[: interval + 1].sum() + psi[interval] * taubar > 1.001 * exact
    assert interval == 1 or psi[:interval].sum() + psi[interval + 1] * taubar < 0.999 * exact


@given(st.integers(0, 10_000), st.integers(1, 15))
def test_equation_3_on_random_chains(seed: int, interval: int) -> None:
    toy = random_toy(seed)
    exact = periodic_mean(toy.chain, toy.perturbation, interval)
    taubar = residual_mean(toy.chain, toy.perturbation, interval)
    assert perturbed_mean(survival(toy.chain, interval), interval, taubar) == pytest.approx(exact, rel=1e-9)


def test_equation_9_changes_with_the_interval_by_the_hazard() -> None:
    psi = survival(rational_chain().chain, 61)
    hazard = 1 - psi[1:] / psi[:-1]  # h(t + 1) at index t
    for taubar in (3.0, 28.0):
        values = np.array([perturbed_mean(psi, p, taubar) for p in range(1, 62)])
        predicted = psi[1:61] * (1 - hazard[1:61] * taubar)
        assert np.diff(values) == pytest.approx(predicted, rel=1e-9)
        # An interior optimum needs a hazard above 1 / taubar, reached here at taubar = 28 only.
        assert (np.diff(values) < 0).any() == (hazard.max() * taubar > 1)
    assert not (np.diff([perturbed_mean(psi, p, 3.0) for p in range(1, 62)]) < 0).any()


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 70))
def test_renewal_contains_restart(seed: int, interval: int, horizon: int) -> None:
    psi = random_survival(seed, 20)
    assert renewal_mean(psi, psi, interval) == pytest.approx(sharp_restart_mean(psi, interval), rel=1e-12)
    assert renewal_survival(psi, psi, interval, horizon) == pytest.approx(
        sharp_restart_survival(psi, interval, horizon), rel=1e-12
    )
    assert predicted_restricted_mean("renewal", psi, psi, interval, horizon) == pytest.approx(
        sharp_restart_restricted_mean(psi, interval, horizon), rel=1e-12
    )


def test_renewal_contains_rare_when_all_residuals_are_short() -> None:
    psi = survival(rational_chain().chain, 40)
    residuals = np.array([1.0, 0.7, 0.2, 0.05, 0.0] + [0.0] * 36)
    for interval in (4, 7, 30):
        assert renewal_mean(psi, residuals, interval) == pytest.approx(
            perturbed_mean(psi, interval, residuals.sum()), rel=EXACT
        )
        assert renewal_survival(psi, residuals, interval, 34) == pytest.approx(
            rare_survival(psi, residuals, interval, 34), rel=EXACT, abs=1e-300
        )
    # One residual in twenty longer than P = 3 makes the difference.
    assert renewal_mean(psi, residuals, 3) > perturbed_mean(psi, 3, residuals.sum()) * 1.002


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_renewal_is_exact_if_every_perturbation_leads_to_one_law(seed: int, interval: int) -> None:
    chain = random_toy(seed).chain
    fresh = np.tile(np.random.default_rng(seed + 1).dirichlet(np.ones(4)), (4, 1))
    psi, psi_res = survival(chain, interval), residual_survival_once(chain, fresh, 1, interval)
    exact = periodic_survival(chain, fresh, interval, 50)
    assert renewal_mean(psi, psi_res, interval) == pytest.approx(periodic_mean(chain, fresh, interval), rel=1e-9)
    assert renewal_survival(psi, psi_res, interval, 50) == pytest.approx(exact, rel=1e-9, abs=1e-300)


# ---- Restricted means are sums of laws -------------------------------------------------------------------------------


@pytest.mark.parametrize("predictor", PREDICTORS)
@given(seed=st.integers(0, 1000), interval=st.integers(1, 15), horizon=st.integers(1, 60))
def test_restricted_mean_is_the_sum_of_the_law(predictor: str, seed: int, interval: int, horizon: int) -> None:
    psi, psi_res = random_survival(seed, 20), random_survival(seed + 1, 15)
    if predictor == "rare":
        horizon = min(horizon, interval + 15)
    law = predicted_survival(predictor, psi, psi_res, interval, horizon)
    assert law.shape == (3, horizon + 1)
    assert (np.diff(law, axis=-1) <= 1e-15).all()
    expected = law[:, :horizon].sum(axis=-1)
    assert predicted_restricted_mean(predictor, psi, psi_res, interval, horizon) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_mean_is_the_endless_restricted_mean(predictor: str) -> None:
    toy = rational_chain()
    psi, psi_res = survival(toy.chain, 3000), residual_survival_once(toy.chain, toy.perturbation, 10, 3000)
    psi_res[-1] = 0.0
    mean = predicted_mean(predictor, psi, psi_res, 10)
    assert predicted_restricted_mean(predictor, psi, psi_res, 10, 3000) == pytest.approx(mean, rel=EXACT)


# ---- How wrong the predictors are ------------------------------------------------------------------------------------


def relative_errors(toy: ToyChain | GridChain, perturbation: np.ndarray, interval: int) -> tuple[float, float]:
    """Of renewal, from runs perturbed once at 100, and of Eq. (9), with the residual mean repeated every 100 epochs."""
    psi = survival(toy.chain, 100)
    psi_res = residual_survival_once(toy.chain, perturbation, 100, 100)
    rare = perturbed_mean(psi, interval, residual_mean(toy.chain, perturbation, 100))
    exact = periodic_mean(toy.chain, perturbation, interval)
    return float(renewal_mean(psi, psi_res, interval)) / exact - 1, float(rare) / exact - 1


@pytest.mark.parametrize(
    ("interval", "renewal", "rare"), [(3, -7.4e-2, 1.4), (5, -1.4e-2, 1.04), (10, -3.6e-4, 4.9e-1)]
)
def test_errors_on_the_rational_chain(interval: int, renewal: float, rare: float) -> None:
    toy = rational_chain()
    errors = relative_errors(toy, toy.perturbation, interval)
    assert errors == (pytest.approx(renewal, rel=0.03), pytest.approx(rare, rel=0.04))


@pytest.mark.parametrize("interval", [30, 50])
def test_equation_9_on_the_rational_chain_at_long_intervals(interval: int) -> None:
    toy = rational_chain()
    assert relative_errors(toy, toy.perturbation, interval)[1] == pytest.approx(
        {30: 0.079, 50: 0.020}[interval], rel=0.03
    )


@pytest.fixture(scope="module")
def trap() -> GridChain:
    return trap_with_barrier(cells=801)


@pytest.mark.slow
def test_errors_on_the_trap(trap: GridChain) -> None:
    perturbation = trap.shrink_and_perturb(0.4, 0.1)
    for interval, renewal, rare in [
        (5, 4.5e-2, 2.4e-1),
        (10, 2.8e-3, 1.2e-1),
        (20, 1.8e-5, 6.6e-2),
        (30, 1.2e-7, 4.3e-2),
    ]:
        errors = relative_errors(trap, perturbation, interval)
        assert errors == (pytest.approx(renewal, rel=0.04), pytest.approx(rare, rel=0.04))


@pytest.mark.slow
def test_errors_with_a_map_that_does_not_fail_and_one_that_often_does(trap: GridChain) -> None:
    perturbation = trap.shrink_and_perturb(0.2, 0.1)
    for interval, rare in [(2, 5.0e-2), (3, 2.7e-2), (5, 6.7e-3), (10, 3.5e-4), (20, 3e-6)]:
        assert relative_errors(trap, perturbation, interval)[1] == pytest.approx(rare, rel=0.15)
    hot = trap.shrink_and_perturb(0.7, 0.5)
    for interval, renewal, rare in [(10, 6.2e-2, 5.6), (20, 4.9e-4, 2.6)]:
        assert relative_errors(trap, hot, interval) == (pytest.approx(renewal, rel=0.02), pytest.approx(rare, rel=0.02))


@pytest.mark.slow
def test_renewal_is_exact_for_restarts_and_equation_9_far_off(trap: GridChain) -> None:
    restart = restart_kernel(trap.chain)
    errors = np.array([relative_errors(trap, restart, p) for p in (2, 3, 5, 10, 20)])
    assert errors[:, 0] == pytest.approx(0, abs=1e-12)
    assert errors[:, 1].max() == pytest.approx(4.6, rel=0.01)


def test_errors_of_renewal_on_a_coarse_trap() -> None:
    # A fast stand-in for the slow tests: the law depends on the grid, what renewal and Eq. (9) miss hardly does.
    trap = trap_with_barrier(cells=201)
    for interval, renewal, rare in [(5, 4.5e-2, 2.4e-1), (10, 2.8e-3, 1.2e-1), (20, 1.8e-5, 6.6e-2)]:
        errors = relative_errors(trap, trap.shrink_and_perturb(0.4, 0.1), interval)
        assert errors == (pytest.approx(renewal, rel=0.3), pytest.approx(rare, rel=0.1))


def test_hidden_labels_deceive_equation_9() -> None:
    toy = hidden_label_chain()
    psi = survival(toy.chain, 100)
    late = residual_mean_once(toy.chain, toy.perturbation, 100)
    assert late == pytest.approx(19.9994716011, rel=1e-11)
    for interval, taubar in [(1, 11.4691943128), (5, 13.2962345840), (20, 18.0137517974)]:
        exact = periodic_mean(toy.chain, toy.perturbation, interval)
        assert perturbed_mean(psi, interval, taubar) == pytest.approx(exact, rel=EXACT)
        assert perturbed_mean(psi, interval, late) > 1.04 * exact
    # Renewal is deceived as well: what a run is, it stays.
    psi_res = residual_survival_once(toy.chain, toy.perturbation, 100, 100)
    exact = periodic_mean(toy.chain, toy.perturbation, 5)
    assert renewal_mean(psi, psi_res, 5) > 1.3 * exact


# ---- Where nobody is left, or nobody finishes ------------------------------------------------------------------------


def test_nobody_left_to_perturb() -> None:
    psi, never = np.array([1.0, 0.5, 0.0, 0.0]), np.ones(4)
    assert renewal_mean(psi, never, 2) == 1.5
    assert perturbed_mean(psi, 3, math.inf) == 1.5
    assert renewal_mean(psi, never, 1) == math.inf
    complex_psi = psi + 1e-30j  # a complex step on top of zero
    assert np.real(renewal_mean(complex_psi, never, 2)) == 1.5


def test_unfinished_residuals_have_no_mean() -> None:
    psi = np.array([1.0, 0.8, 0.5, 0.2])
    finished, unfinished = np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.5, 0.1])
    with pytest.raises(
        ValueError, match=r"Psi_res\(2\) > 0: some perturbed runs are unfinished, so that the mean residual"
    ):
        predicted_mean("rare", psi, unfinished, 2)
    both = predicted_mean("rare", np.tile(psi, (2, 1)), np.stack([finished, unfinished]), 2)
    assert both.tolist() == [1.8 + 0.5 * 1.5, math.inf]
    assert predicted_restricted_mean("rare", psi, unfinished, 2, 4) == pytest.approx(1.8 + 0.5 * 1.5)


# ---- Many intervals at once ------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(20, 45))
def test_many_intervals_at_once_are_each_alone(seed: int, intervals: list[int], horizon: int) -> None:
    psi, residuals = random_survival(seed, 20), random_survival(seed + 1, 25)
    several, horizons = np.array(intervals), np.minimum(horizon, np.array(intervals) + 25)
    for predictor in PREDICTORS:
        mean = predicted_mean(predictor, psi, residuals, several) if predictor != "rare" else None
        restricted = predicted_restricted_mean(predictor, psi, residuals, several, horizons)
        assert restricted.shape == (3, len(intervals))
        for i, p in enumerate(intervals):
            alone = predicted_restricted_mean(predictor, psi, residuals, p, int(horizons[i]))
            assert restricted[:, i] == pytest.approx(alone, rel=1e-13)
            law = predicted_survival(predictor, psi, residuals, p, int(horizons[i]))
            assert alone == pytest.approx(law[:, : horizons[i]].sum(axis=1), rel=1e-12)
            if mean is not None:
                assert mean[:, i] == pytest.approx(predicted_mean(predictor, psi, residuals, p), rel=1e-13)
    taubar = np.arange(1.0, 1 + len(intervals))
    composed = perturbed_mean(psi, several, taubar)
    assert composed[:, -1] == pytest.approx(perturbed_mean(psi, intervals[-1], taubar[-1]), rel=1e-13)
    assert sharp_restart_mean(psi, several, 2.0)[:, 0] == pytest.approx(
        sharp_restart_mean(psi, intervals[0], 2.0), rel=1e-13
    )
    # One horizon for all of them is the same as that horizon for each.
    common, each = 20, np.full(len(intervals), 20)
    assert sharp_restart_restricted_mean(psi, several, common) == pytest.approx(
        sharp_restart_restricted_mean(psi, several, each), rel=1e-14
    )


def test_rare_means_at_many_intervals_keep_what_is_not_identified() -> None:
    psi = survival(rational_chain().chain, 10)
    residuals = np.array([[1.0, 0.5, 0.0], [1.0, 0.5, 0.1]])
    means = predicted_mean("rare", psi, residuals, np.array([2, 5, 10]))
    assert means.shape == (2, 3)
    assert np.isfinite(means[0]).all()
    assert (means[1] == math.inf).all()
    alone = [float(predicted_mean("rare", psi, residuals[0], p)) for p in (2, 5, 10)]
    assert means[0] == pytest.approx(alone, rel=1e-13)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_derivatives_at_many_intervals_are_each_alone(predictor: str) -> None:
    # Complex steps, as the delta method takes them, must pass through the sum over cycles also where Psi(P) = 1.
    rng = np.random.default_rng(0)
    psi, residuals = (np.cumprod(np.append(1.0, rng.choice([1.0, 0.8], size=30))) for _ in range(2))
    psi[:4] = 1.0
    moved, several = psi + 1e-30j * np.arange(31), np.array([1, 3, 7, 12])
    together = predicted_restricted_mean(predictor, moved, residuals + 0j, several, np.full(4, 30))
    for i, p in enumerate(several.tolist()):
        alone = predicted_restricted_mean(predictor, moved, residuals + 0j, p, 30)
        assert np.imag(alone) != 0
        assert together[i] == pytest.approx(alone, rel=1e-13)


@pytest.mark.parametrize("wrong", [np.array([2, 4]), np.array([0, 2]), np.array([1.5]), np.array([[1, 2]])])
def test_one_wrong_interval_among_many_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"interval=(4|0|1.5|array of shape \(1, 2\)) must be a whole number of"):
        predicted_restricted_mean("restart", PSI, None, wrong, 3)


# ---- Refusals --------------------------------------------------------------------------------------------------------

PSI, RESIDUALS = np.array([1.0, 0.8, 0.5, 0.2]), np.array([1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: perturbed_mean(PSI, 4, 1.0), r"interval=4 must be a whole number of epochs from 1 to 3"),
        (lambda: renewal_mean(PSI, RESIDUALS, 3), r"interval=3 must be a whole number of epochs from 1 to 2"),
        (lambda: renewal_survival(PSI, RESIDUALS, 3, 9), r"interval=3 must be a whole number of epochs from 1 to 2"),
        (
            lambda: rare_survival(PSI, RESIDUALS, 2, 5),
            r"horizon=5 exceeds interval \+ 2 = 4: perturbed runs were followed",
        ),
        (
            lambda: predicted_restricted_mean("rare", PSI, RESIDUALS, 1, 4),
            r"horizon=4 exceeds interval \+ 2 = 3: perturbed runs were followed for 2 epochs",
        ),
        (
            lambda: predicted_mean("eq9", PSI, RESIDUALS, 2),
            r"predictor='eq9' is unknown; choose from restart, rare, ren",
        ),
        (lambda: predicted_mean("rare", PSI, None, 2), r"predictor='rare' needs residuals of runs perturbed once"),
        (lambda: predicted_survival("renewal", PSI, None, 2, 3), r"predictor='renewal' needs residuals"),
        (lambda: predicted_restricted_mean("eq9", PSI, None, 2, 3), r"predictor='eq9' is unknown"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
