"""Predictors with errors: the delta method, what is identified, reasons, edges and refusals."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.passage_samples import FOLLOW, H, experiment, passages
from theory.bootstrap import percentile_interval
from theory.hazard import constant_hazard_test
from theory.perturbation import predicted_restricted_mean
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import speed_up_lower_bound
from theory.prediction import PerturbationData
from theory.survival import FirstPassages, Survival, survival_from_counts

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
        (lambda: PerturbedOnce(passages([3]), 0, 9), r"epoch=0 must be a whole number >= 1"),
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
        (lambda: PerturbationData(RUNS, horizon=0, rng=RNG), r"horizon=0 must be a whole number >= 1"),
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
