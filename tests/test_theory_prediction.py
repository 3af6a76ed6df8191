import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from theory.chain_sampling import sample_branched, sample_first_passages
from theory.estimate import Estimate, percentile_interval
from theory.hazard import constant_hazard_test
from theory.markov_chain import Chain, restart_kernel, survival
from theory.perturbation import predicted_mean, predicted_restricted_mean
from theory.perturbed_chain import periodic_mean, periodic_survival, residual_survival_once
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import BestInterval, Prediction, best_prediction, speed_up_lower_bound
from theory.prediction import Functional, PerturbationData
from theory.survival import FirstPassages, Survival, survival_from_counts
from theory.toy_chains import ToyChain, hidden_label_chain, rational_chain

H, P_STAR, FOLLOW = 60, 30, 60


def passages(times: list[int] | np.ndarray, observed: bool | list[bool] | np.ndarray = True) -> FirstPassages:
    times = np.asarray(times)
    return FirstPassages(times, np.broadcast_to(observed, times.shape).copy())


def censored(runs: FirstPassages, earliest: int, horizon: int, rng: np.random.Generator) -> FirstPassages:
    """Half of the runs are stopped at epochs between two limits, whatever they are doing."""
    stops = np.where(rng.random(runs.n) < 0.5, rng.integers(earliest, horizon + 1, runs.n), horizon)
    stops[0] = horizon
    return FirstPassages(np.minimum(runs.times, stops), runs.observed & (runs.times <= stops))


def experiment(
    seed: int, n: int = 200, *, children: int = 1, censoring: bool = False, replicates: int = 50, linked: bool = True
) -> PerturbationData:
    """The rational chain, with survivors of epoch 30 perturbed once."""
    toy, rng = rational_chain(), np.random.default_rng(seed)
    sample = sample_branched(toy.chain, toy.perturbation, P_STAR, n, rng, horizon=H, follow=FOLLOW, children=children)
    runs, residuals = sample.unperturbed, sample.residual
    if censoring:
        runs, residuals = censored(runs, P_STAR, H, rng), censored(residuals, 1, FOLLOW, rng)
    once = PerturbedOnce(residuals, P_STAR, FOLLOW, sample.parent if linked else None)
    return PerturbationData(runs, once, horizon=min(H, runs.horizon), replicates=replicates, rng=rng)


# ---- The delta-method error ------------------------------------------------------------------------------------------


def test_delta_error_of_equation_9_is_the_closed_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, residuals, p = rng.geometric(0.03, size=300), rng.geometric(0.2, size=40), 20
    once = PerturbedOnce(passages(residuals), 20, 100)
    data = PerturbationData(passages(np.minimum(times, 150), times <= 150), once, replicates=10, rng=rng)
    estimate = data.predict("rare", p).mean
    assert estimate is not None
    taubar = residuals.mean()
    composed = np.minimum(times, p) + (times > p) * taubar
    of_runs, of_residuals = composed.var() / 300, (times > p).mean() ** 2 * residuals.var() / 40
    assert estimate.value == pytest.approx(composed.mean(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(math.sqrt(of_runs + of_residuals), rel=1e-10)
    # neither part can be left out
    assert estimate.standard_error > 1.02 * math.sqrt(max(of_runs, of_residuals))


@pytest.mark.parametrize(
    ("children", "interval", "too_small"),
    [
        (1, 15, 1.0),  # parents differ only after P* = 20, so that before it each child is as good as a stranger
        (1, 40, 0.97),
        (3, 15, 0.9),
    ],
)
def test_delta_error_of_families_is_that_of_their_sums(
    children: int, interval: int, too_small: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = rng.geometric(0.03, size=300)
    parents = np.repeat(np.flatnonzero(times > 20), children)
    residuals = 1 + np.minimum(times, 60)[parents] - 20 + rng.integers(0, 3, len(parents))  # children take after them
    runs, once = passages(np.minimum(times, 150), times <= 150), PerturbedOnce(passages(residuals), 20, 100, parents)
    estimate = PerturbationData(runs, once, replicates=10, rng=rng).predict("rare", interval).mean
    assert estimate is not None
    share, taubar = (times > interval).mean(), residuals.mean()
    composed = np.minimum(times, interval) + (times > interval) * taubar
    influence = (composed - composed.mean()) / 300
    influence += share * np.bincount(parents, residuals - taubar, minlength=300) / len(parents)
    assert estimate.standard_error == pytest.approx(math.sqrt((influence**2).sum()), rel=1e-10)
    strangers = PerturbationData(runs, PerturbedOnce(once.residuals, 20, 100), replicates=10, rng=rng)
    wrong = strangers.predict("rare", interval).mean
    assert wrong is not None
    if too_small == 1:
        assert wrong.standard_error == pytest.approx(estimate.standard_error, rel=1e-10)
    else:
        assert wrong.standard_error < too_small * estimate.standard_error


@pytest.mark.parametrize("predictor", ["restart", "rare", "renewal"])
@pytest.mark.parametrize("linked", [True, False])
def test_delta_error_is_the_derivative_by_the_weights_of_the_runs(predictor: str, linked: bool, seed: int) -> None:
    # With censoring in mid-horizon and two children each: no closed formula, but every weight can be moved a little.
    data = experiment(seed, 60, children=2, censoring=True, linked=linked)
    once = data.perturbed_once
    assert once is not None
    prediction = data.predict(predictor, 10)
    runs, children = data.unperturbed, once.residuals
    parents = np.zeros(children.n, dtype=int) if once.parents is None else once.parents

    def value(weights: np.ndarray, of_children: np.ndarray) -> float:
        psi = survival_from_counts(*runs.counts(weights, data.horizon))
        residual_psi = survival_from_counts(*children.counts(of_children, FOLLOW))
        return float(predicted_restricted_mean(predictor, psi, residual_psi, 10, prediction.horizon))

    ones, many, step = np.ones(runs.n), np.ones(children.n), 1e-5
    assert value(ones, many) == pytest.approx(prediction.restricted_mean.value, rel=1e-12)
    squares = 0.0
    for unit in np.eye(runs.n) * step:
        followers = unit[parents] if linked else 0 * many
        squares += ((value(ones + unit, many + followers) - value(ones - unit, many - followers)) / (2 * step)) ** 2
    if not linked:
        for unit in np.eye(children.n) * step:
            squares += ((value(ones, many + unit) - value(ones, many - unit)) / (2 * step)) ** 2
    assert prediction.restricted_mean.standard_error == pytest.approx(math.sqrt(squares), rel=1e-6)


def test_delta_error_and_interval_are_those_of_a_naive_bootstrap(seed: int) -> None:
    data = experiment(seed, 250, children=2, censoring=True, replicates=1000)
    once = data.perturbed_once
    assert once is not None
    assert once.parents is not None
    prediction, rng, values = data.predict("renewal", 10), np.random.default_rng(seed + 1), []
    for _ in range(600):
        drawn = rng.integers(0, 250, size=250)
        children = np.concatenate([np.flatnonzero(once.parents == i) for i in drawn])
        runs = FirstPassages(data.unperturbed.times[drawn], data.unperturbed.observed[drawn])
        residuals = FirstPassages(once.residuals.times[children], once.residuals.observed[children])
        psi = survival_from_counts(*runs.counts(horizon=data.horizon))
        residual_psi = survival_from_counts(*residuals.counts(horizon=FOLLOW))
        values.append(float(predicted_restricted_mean("renewal", psi, residual_psi, 10, prediction.horizon)))
    estimate = prediction.restricted_mean
    # sd of a standard deviation from 600: 2.9 %; that of its percentiles about 6 % of the width
    assert estimate.standard_error == pytest.approx(np.std(values), rel=0.2)
    assert estimate.interval95 is not None
    width = np.diff(percentile_interval(values))[0]
    assert estimate.interval95 == pytest.approx(percentile_interval(values), abs=0.25 * width)


def test_n_is_that_of_the_smaller_sample(seed: int) -> None:
    data = experiment(seed, 200, children=3)
    assert data.perturbed_once is not None
    assert data.perturbed_once.parents is not None
    families = len(np.unique(data.perturbed_once.parents))
    assert families < 200
    assert data.predict("renewal", 10).restricted_mean.n == families
    assert data.predict("restart", 10).restricted_mean.n == 200
    strangers = experiment(seed, 200, linked=False)
    assert strangers.predict("renewal", 10).restricted_mean.n == families


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


# ---- What is identified ----------------------------------------------------------------------------------------------


def test_means_of_unfinished_residuals_are_none_and_the_horizon_is_lowered() -> None:
    runs = passages([5, 15, 25, 60, 60, 60], [True, True, True, False, False, False])
    residuals = passages([2, 4, 8], [True, True, False])
    data = PerturbationData(runs, PerturbedOnce(residuals, 30, 8), replicates=20, rng=np.random.default_rng(0))
    rare = data.predict("rare", 10)
    assert (rare.mean, rare.horizon, rare.interval) == (None, 18, 10)
    assert rare.restricted_mean.value == pytest.approx(10 - 5 / 6 + 5 / 6 * (2 + 2 * 2 / 3 + 4 / 3))
    assert data.predict("rare", 58).horizon == 60
    renewal = data.predict("renewal", 8)  # identified: 2 of 3 finish within P, whatever comes later
    assert renewal.mean is not None
    assert renewal.horizon == 60
    assert renewal.mean.value == pytest.approx(8 - 3 / 6 + 5 / 6 * (2 + 2 * 2 / 3 + 4 / 3) / (2 / 3))
    restart = data.predict("restart", 4)
    assert restart.mean is not None
    assert (restart.mean.value, restart.mean.standard_error) == (math.inf, math.inf)
    assert restart.restricted_mean.value == 60
    assert restart.speed_up.value == pytest.approx(data.psi[:60].sum() / 60)
    bound = speed_up_lower_bound(Survival.of(runs), renewal)
    assert bound == pytest.approx(data.psi[:60].sum() / renewal.mean.value)
    assert speed_up_lower_bound(Survival.of(runs), rare) is None


def test_residuals_are_known_until_the_last_unfinished_run_was_stopped() -> None:
    runs, residuals = passages([60] * 4, False), passages([2, 1, 4, 5], [True, False, False, True])
    data = PerturbationData(runs, PerturbedOnce(residuals, 30, 40), rng=np.random.default_rng(0))
    assert data.predict("rare", 30).horizon == 60  # the last to stop was a finished one
    stopped = passages([2, 1, 7, 5], [True, False, False, True])
    data = PerturbationData(runs, PerturbedOnce(stopped, 30, 40), rng=np.random.default_rng(0))
    assert (data.predict("rare", 30).horizon, data.predict("rare", 30).mean) == (37, None)
    with pytest.raises(ValueError, match=r"interval=8 exceeds the 7 epochs for which perturbed runs were followed"):
        data.predict("renewal", 8)


def test_finished_residuals_are_known_to_the_end() -> None:
    runs = passages([5, 15, 60, 60], [True, True, False, False])
    # One child was stopped early; the others show that nothing outlasts epoch 4.
    residuals = passages([2, 1, 4], [True, False, True])
    data = PerturbationData(runs, PerturbedOnce(residuals, 30, 5), replicates=20, rng=np.random.default_rng(0))
    prediction = data.predict("rare", 30)
    assert prediction.horizon == 60
    assert prediction.mean is not None
    assert prediction.mean.value == pytest.approx(5 / 4 + 15 / 4 + 15 + 0.5 * (2 + 2 * 0.5))
    assert data.predict("renewal", 50).mean is not None  # beyond the five epochs that were followed


def test_speed_up_is_a_ratio_of_restricted_means_with_correlated_errors() -> None:
    data = experiment(0, 400, replicates=2000)
    prediction = data.predict("renewal", 30)
    plain = Survival.of(data.unperturbed).restricted_mean(H)
    ratio, other = prediction.speed_up, prediction.restricted_mean
    assert ratio.value == pytest.approx(plain.value / other.value, rel=1e-12)
    # Both means are over the same runs; errors added in squares would be too large.
    independent = math.hypot(plain.standard_error / plain.value, other.standard_error / other.value) * ratio.value
    assert ratio.standard_error < 0.8 * independent
    low, high = ratio.interval()
    assert high - low == pytest.approx(2 * 1.96 * ratio.standard_error, rel=0.15)


def test_equal_generators_give_equal_resamples_of_the_unperturbed_runs() -> None:
    data = experiment(0)
    other = passages([1, 2, 3, 4, 5])
    twice = [
        PerturbationData(data.unperturbed, once, horizon=H, replicates=50, rng=np.random.default_rng(7))
        for once in (data.perturbed_once, PerturbedOnce(other, 30, 5))
    ]
    first, second = (d.predict("restart", 10).restricted_mean.interval95 for d in twice)
    assert first == second


# ---- Why a predictor is outside its regime ---------------------------------------------------------------------------


def reasons(predictor: str, interval: int, residuals: np.ndarray | None = None, **arguments: object) -> str:
    runs = passages(np.arange(1, 101))
    short = np.tile([1, 2, 3, 4], 10) if residuals is None else residuals
    data = PerturbationData(runs, PerturbedOnce(passages(short), 50, 60), replicates=5, rng=np.random.default_rng(0))
    prediction = data.predict(predictor, interval, **arguments)  # pyright: ignore[reportArgumentType]
    assert prediction.valid == (prediction.reasons == ())
    return "; ".join(prediction.reasons)


@pytest.mark.parametrize("predictor", ["rare", "renewal"])
def test_reasons(predictor: str) -> None:
    assert reasons(predictor, 20, relaxation_epoch=20) == ""
    assert reasons(predictor, 50, relaxation_epoch=20) == ""
    assert reasons(predictor, 20) == "no quasi-steady state was found"
    assert reasons(predictor, 19, relaxation_epoch=20) == (
        "P=19 lies before the quasi-steady state, which begins at epoch 20"
    )
    assert reasons(predictor, 51, relaxation_epoch=20) == "P=51 lies beyond P*=50, where the runs were perturbed"
    few = np.array([2] * 9 + [30])
    assert reasons(predictor, 20, few, relaxation_epoch=9).startswith(
        "only 9 perturbed runs finish within P=20: too few for its standard error"
    )
    falling = Survival(np.array([1000.0, 800, 700, 600]), np.array([200.0, 100, 10, 10]))
    constant = Survival(np.array([1000.0, 900, 810]), np.array([100.0, 90, 81]))
    rejected, passed = constant_hazard_test(falling, 0), constant_hazard_test(constant, 0)
    assert reasons(predictor, 20, relaxation_epoch=20, hazard_test=passed) == ""
    assert reasons(predictor, 20, relaxation_epoch=20, hazard_test=rejected) == rejected.describe()


def test_reasons_for_long_residuals_concern_equation_9_only() -> None:
    residuals = np.array([1] * 36 + [21] * 4)
    assert reasons("rare", 20, residuals, relaxation_epoch=9) == (
        "10% of the residuals exceed P=20 and would be perturbed again"
    )
    assert reasons("rare", 21, residuals, relaxation_epoch=9) == ""
    assert reasons("rare", 20, np.array([1] * 39 + [21]), relaxation_epoch=9) == ""  # up to 5 % are tolerated
    assert reasons("renewal", 20, residuals, relaxation_epoch=9) == ""


def test_restarts_need_completions_only() -> None:
    assert reasons("restart", 10) == ""
    assert reasons("restart", 9) == "only 9 runs finish within P=9: too few for its standard error"


def test_siblings_are_not_independent_completions() -> None:
    runs = passages([20] * 12, False)
    once = PerturbedOnce(passages([1, 2] * 9), 10, 10, np.repeat(np.arange(9), 2))
    data = PerturbationData(runs, once, replicates=5, rng=np.random.default_rng(0))
    prediction = data.predict("renewal", 10, relaxation_epoch=5)
    assert prediction.reasons == ("only 9 perturbed runs finish within P=10: too few for its standard error",)


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


# ---- Edges and refusals ----------------------------------------------------------------------------------------------


def test_where_everyone_finishes_before_the_perturbation() -> None:
    runs, slow = passages([1, 2, 2, 3]), PerturbedOnce(passages([4, 4]), 1, 4)
    data = PerturbationData(runs, slow, horizon=4, replicates=20, rng=np.random.default_rng(0))
    estimate = data.predict("renewal", 3).mean
    assert estimate is not None
    assert estimate.value == 2.0
    assert estimate.standard_error == pytest.approx(math.sqrt(0.5 / 4))


def test_resamples_without_children_count_as_infinite() -> None:
    runs = passages([5] * 9 + [60], [True] * 9 + [False])
    data = PerturbationData(
        runs, PerturbedOnce(passages([2]), 30, 30, np.array([9])), replicates=300, rng=np.random.default_rng(0)
    )
    estimate = data.predict("rare", 30).mean
    assert estimate is not None
    assert estimate.value == pytest.approx(0.9 * 5 + 0.1 * 32)
    assert estimate.interval()[1] < math.inf  # without the child there is no one to perturb either
    renewal = PerturbationData(
        passages([60] * 10, False), PerturbedOnce(passages([2]), 30, 30, np.array([9])), rng=np.random.default_rng(0)
    ).predict("renewal", 30)
    assert renewal.mean is not None
    assert renewal.mean.interval()[1] == math.inf


RUNS = passages([5, 15, 60], [True, True, False])
ONCE = PerturbedOnce(passages([1, 2, 9], [True, True, False]), 10, 9)
RNG = np.random.default_rng(0)
DATA = PerturbationData(RUNS, ONCE, replicates=5, rng=RNG)


def with_parents(parents: list[int] | list[float]) -> PerturbedOnce:
    return PerturbedOnce(passages([3] * len(parents)), 10, 9, np.array(parents))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PerturbedOnce(passages([3]), 0, 9), r"epoch=0 and followed=9 must be >= 1"),
        (lambda: PerturbedOnce(passages([3]), 5, 2), r"followed=2 is below the longest residual 3"),
        (
            lambda: PerturbedOnce(passages([3]), 5, 9, np.array([1, 2])),
            r"parents of shape \(2,\) and type int64 for 1 res",
        ),
        (
            lambda: with_parents([0.5]),
            r"parents of shape \(1,\) and type float64 for 1 residuals: each needs the number",
        ),
        (lambda: PerturbationData(RUNS, with_parents([3]), rng=RNG), r"parents must lie between 0 and 2"),
        (lambda: PerturbationData(RUNS, with_parents([-1]), rng=RNG), r"parents must lie between 0 and 2"),
        (
            lambda: PerturbationData(RUNS, with_parents([2, 0]), rng=RNG),
            r"run 0 \(time 5\) is not known to have survived epoch 10, and can't have been perturbed there",
        ),
        (
            lambda: PerturbationData(passages([10, 20]), with_parents([0]), rng=RNG),  # T = P is complete
            r"run 0 \(time 10\) is not known to have survived epoch 10",
        ),
        (
            lambda: PerturbationData(passages([9, 20], [False, True]), with_parents([0]), rng=RNG),
            r"run 0 \(time 9\) is not known to have survived epoch 10",
        ),
        (lambda: PerturbationData(RUNS, horizon=61, rng=RNG), r"epoch=61 lies beyond the horizon 60"),
        (lambda: PerturbationData(RUNS, horizon=0, rng=RNG), r"horizon=0 must be >= 1"),
        (
            lambda: DATA.predict("renewal", 10),
            r"interval=10 exceeds the 9 epochs for which perturbed runs were followed",
        ),
        (lambda: DATA.predict("rare", 61), r"interval=61 must be a whole number of epochs from 1 to 60"),
        (lambda: DATA.predict("restart", 0), r"interval=0 must be a whole number of epochs from 1 to 60"),
        (lambda: DATA.predict("eq9", 5), r"predictor='eq9' is unknown; choose from restart, rare, renewal"),
        (
            lambda: PerturbationData(RUNS, rng=RNG).predict("rare", 5),
            r"predictor='rare' needs residuals of runs perturbed once",
        ),
        (lambda: DATA.best_interval("restart", []), r"intervals is empty: there is nothing to choose from"),
        (lambda: DATA.best_interval("restart", [61]), r"interval=61 must be a whole number of epochs from 1 to 60"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_censored_parent_at_its_last_epoch_may_have_children() -> None:
    PerturbationData(passages([10, 60], [False, False]), with_parents([0]), rng=RNG)
