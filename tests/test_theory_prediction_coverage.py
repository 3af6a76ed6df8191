"""Do the intervals of predictions cover, and does the best interval?"""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from tests.passage_samples import FOLLOW, P_STAR, H, censored, passages
from theory.chain_sampling import sample_branched, sample_first_passages
from theory.estimate import Estimate
from theory.markov_chain import Chain, restart_kernel, survival
from theory.perturbation import predicted_mean, predicted_restricted_mean
from theory.perturbed_chain import periodic_mean, periodic_survival, residual_survival_once
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import BestInterval, Prediction, best_prediction
from theory.prediction import Functional, PerturbationData
from theory.toy_chains import ToyChain, hidden_label_chain, rational_chain

# ---- Do the intervals cover? -----------------------------------------------------------------------------------------


# docs/decisions/004-intervals.md has the table. The exact values come from the chains.
Case = tuple[str, int]  # predictor, P


def trap_for_ever(failures: float) -> ToyChain:
    """Two runs in seven end in a trap and stay there, so that E[T] is infinite; perturbations free all but a few."""
    transient = np.array([[0.75, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    return ToyChain(Chain(transient, np.array([1.0, 0.0, 0.0])), np.tile([0.0, failures, 1 - failures], (3, 1)))


def exact_means(toy: ToyChain, case: Case) -> dict[str, float]:
    """E[T_P] and E[min(T_P, H)] under the perturbation every P epochs (for restarts: under restarts)."""
    perturbation = restart_kernel(toy.chain) if case[0] == "restart" else toy.perturbation
    law = periodic_survival(toy.chain, perturbation, case[1], H)
    return {"mean": periodic_mean(toy.chain, perturbation, case[1]), "restricted": float(law[:H].sum())}


def count_covered(
    toy: ToyChain,
    n: int,
    cases: list[Case],
    sets: int,
    seed: int,
    *,
    children: int = 1,
    censoring: bool = False,
    quantities: tuple[str, ...] = ("mean", "restricted"),
    blind_to: str | None = None,
) -> dict[tuple[str, int, str], int]:
    """How many intervals of each kind cover the exact value, of as many independent experiments."""
    rng, hits = np.random.default_rng(seed), Counter()
    exact = {case: exact_means(toy, case) for case in cases}
    for _ in range(sets):
        sample = sample_branched(
            toy.chain, toy.perturbation, P_STAR, n, rng, horizon=H, follow=FOLLOW, children=children
        )
        runs, residuals = sample.unperturbed, sample.residual
        if censoring:
            runs, residuals = censored(runs, P_STAR, H, rng), censored(residuals, 1, FOLLOW, rng)
        once = PerturbedOnce(residuals, P_STAR, FOLLOW, sample.parent)
        data = PerturbationData(runs, once, horizon=H, replicates=300, rng=rng)
        for case in cases:
            prediction = data.predict(*case)
            estimates = {"mean": prediction.mean, "restricted": prediction.restricted_mean}
            if blind_to is not None:
                estimates["restricted"] = data.estimate(blinded(data, case, blind_to))
            for quantity in quantities:
                estimate, value = estimates[quantity], exact[case][quantity]
                assert estimate is not None
                low, high = estimate.interval()
                # With n = 100 and Psi(2) = 0.9 the exact value is one of those that an interval can end at.
                hits[*case, f"{quantity}, percentile"] += low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
                error = 1.96 * estimate.standard_error
                hits[*case, f"{quantity}, delta"] += abs(estimate.value - value) <= error
    return dict(hits)


def blinded(data: PerturbationData, case: Case, to: str) -> Functional:
    """E[min(T_P, H)] as a functional that takes one of the two survivals for granted."""
    if to == "residuals":
        return lambda psi, _: predicted_restricted_mean(case[0], psi, data.residual_psi, case[1], H)
    return lambda _, residual_psi: predicted_restricted_mean(case[0], data.psi, residual_psi, case[1], H)


def covers(hits: int, sets: int) -> bool:
    """Whether so many hits are possible with a true coverage between 92 and 98 %."""
    return bool(min(stats.binom.cdf(hits, sets, 0.92), stats.binom.sf(hits - 1, sets, 0.98)) > 1e-5)


RATIONAL_CASES = [("restart", 2), ("restart", 5), ("restart", 10), ("restart", 30), ("renewal", 10), ("renewal", 30)]
TRAP_CASES = [("restart", 2), ("restart", 20), ("rare", 10), ("rare", 20), ("renewal", 3), ("renewal", 10)]


@pytest.mark.parametrize(("toy", "cases"), [(rational_chain(), RATIONAL_CASES), (trap_for_ever(0.0), TRAP_CASES)])
def test_predictors_are_exact_enough_to_test_their_intervals(toy: ToyChain, cases: list[Case]) -> None:
    psi = survival(toy.chain, H)
    residual_psi = residual_survival_once(toy.chain, toy.perturbation, P_STAR, 3000)
    residual_psi[-1] = 0.0
    for case in cases:
        exact, restricted = exact_means(toy, case), predicted_restricted_mean(case[0], psi, residual_psi, case[1], H)
        assert predicted_mean(case[0], psi, residual_psi, case[1]) == pytest.approx(exact["mean"], rel=1e-3)
        assert restricted == pytest.approx(exact["restricted"], rel=1e-3)


@pytest.mark.parametrize(("toy", "cases"), [(rational_chain(), RATIONAL_CASES), (trap_for_ever(0.0), TRAP_CASES)])
def test_intervals_cover(toy: ToyChain, cases: list[Case], seed: int) -> None:
    hits = count_covered(toy, 250, cases[::2], 120, seed)
    assert {k: h for k, h in hits.items() if not covers(h, 120)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 250, 1000])
@pytest.mark.parametrize(
    ("toy", "cases"),
    [(rational_chain(), RATIONAL_CASES), (trap_for_ever(0.0), TRAP_CASES)],
    ids=["rational chain", "trap for ever"],
)
def test_intervals_cover_at_every_size(toy: ToyChain, cases: list[Case], n: int, seed: int) -> None:
    hits = count_covered(toy, n, cases, 500, seed)
    assert {k: h for k, h in hits.items() if not covers(h, 500)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("censoring", [False, True])
def test_intervals_cover_with_families_censoring_and_failures(censoring: bool, seed: int) -> None:
    cases = [("renewal", 10), ("renewal", 30)]
    hits = count_covered(rational_chain(), 250, cases, 500, seed, children=3, censoring=censoring)
    assert {k: h for k, h in hits.items() if not covers(h, 500)} == {}
    hits = count_covered(trap_for_ever(0.1), 250, [("renewal", 3), ("renewal", 20)], 500, seed, censoring=censoring)
    assert {k: h for k, h in hits.items() if not covers(h, 500)} == {}


@pytest.mark.parametrize(("blind_to", "case"), [("residuals", ("renewal", 10)), ("survival", ("renewal", 30))])
def test_intervals_that_ignore_one_sample_cover_too_seldom(blind_to: str, case: Case, seed: int) -> None:
    hits = count_covered(rational_chain(), 250, [case], 120, seed, quantities=("restricted",), blind_to=blind_to)
    assert len(hits) == 2
    assert not any(covers(h, 120) for h in hits.values())


@pytest.mark.parametrize("linked", [True, False])
def test_siblings_taken_for_strangers_make_intervals_cover_too_seldom(linked: bool, seed: int) -> None:
    # All children of a parent are of its hidden kind, so that ten of them say little more than one.
    kinds, rng, hits = np.diag([0.97, 0.97, 0.5, 0.95]), np.random.default_rng(seed), np.zeros(2, dtype=int)
    toy = ToyChain(Chain(kinds, np.array([0.5, 0.5, 0.0, 0.0])), hidden_label_chain().perturbation)
    exact = residual_survival_once(toy.chain, toy.perturbation, P_STAR, FOLLOW)[:FOLLOW].sum()

    def residual_mean(_: np.ndarray, residual_psi: np.ndarray | None) -> np.ndarray:
        assert residual_psi is not None
        return residual_psi[..., :FOLLOW].sum(axis=-1)

    for _ in range(120):
        sample = sample_branched(toy.chain, toy.perturbation, P_STAR, 100, rng, horizon=H, follow=FOLLOW, children=10)
        once = PerturbedOnce(sample.residual, P_STAR, FOLLOW, sample.parent if linked else None)
        data = PerturbationData(sample.unperturbed, once, horizon=H, replicates=300, rng=rng)
        estimate = data.estimate(residual_mean)
        low, high = estimate.interval()
        hits += [low <= exact <= high, abs(estimate.value - exact) <= 1.96 * estimate.standard_error]
    assert [covers(int(h), 120) for h in hits] == [linked, linked]


# ---- Choosing --------------------------------------------------------------------------------------------------------


def test_best_interval_finds_the_exact_optimum(seed: int) -> None:
    toy = rational_chain()
    exact = min(range(1, 31), key=lambda p: exact_means(toy, ("restart", p))["restricted"])
    runs = sample_first_passages(toy.chain, 20_000, np.random.default_rng(seed), horizon=H)
    data = PerturbationData(runs, horizon=H, replicates=100, rng=np.random.default_rng(seed))
    best = data.best_interval("restart", range(1, 31))
    assert best.low <= exact <= best.high
    assert best.high - best.low <= 2
    assert not best.is_boundary
    assert data.best_interval("restart", range(exact + 3, 31)).is_boundary


def test_best_interval_covers_the_optimum(seed: int) -> None:
    toy, rng, hits = rational_chain(), np.random.default_rng(seed), 0
    exact = min(range(1, 16), key=lambda p: exact_means(toy, ("restart", p))["restricted"])
    for _ in range(100):
        runs = sample_first_passages(toy.chain, 200, rng, horizon=H)
        best = PerturbationData(runs, horizon=H, replicates=100, rng=rng).best_interval("restart", range(1, 16))
        hits += best.low <= exact <= best.high
    assert stats.binom.cdf(hits, 100, 0.92) > 1e-5


def test_best_interval_of_equation_9_is_the_end_of_its_regime() -> None:
    runs = passages(np.repeat([5, 20, 60], [10, 30, 60]), np.repeat([True, False], [40, 60]))
    data = PerturbationData(
        runs, PerturbedOnce(passages([2, 4] * 10), 30, 5), replicates=50, rng=np.random.default_rng(0)
    )
    best = data.best_interval("rare", [*range(20, 31), *range(8, 20)])
    assert best == BestInterval(8, 8, 8, 60, is_boundary=True)
    # One interval more, and then the shortest possible one, which no shorter one can beat.
    assert data.best_interval("rare", range(1, 31)).interval == 1
    assert not data.best_interval("rare", range(1, 31)).is_boundary


def test_best_prediction() -> None:
    def prediction(value: float, why: tuple[str, ...] = (), horizon: int = 60) -> Prediction:
        estimate = Estimate(value, 0.1, 10)
        return Prediction("rare", 3, horizon, estimate, None, estimate, why)

    worst, best, invalid = prediction(20.0), prediction(10.0), prediction(5.0, ("too early",))
    assert best_prediction([worst, best, invalid]) is best
    assert best_prediction([invalid]) is None
    assert best_prediction([]) is None
    assert best_prediction([best, prediction(1.0, ("too early",), 40)]) is best
    with pytest.raises(ValueError, match=r"predictions at horizons \[40, 60\] cannot be compared; choose those at one"):
        best_prediction([best, prediction(7.0, horizon=40)])
