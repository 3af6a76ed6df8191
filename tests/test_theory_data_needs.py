import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from theory.chain_sampling import sample_branched
from theory.data_needs import (
    HorizonNeeded,
    ResolutionNeeded,
    RunsNeeded,
    horizon_needed,
    resolution_needed,
    runs_needed,
)
from theory.estimate import Estimate
from theory.prediction import PerturbationData, PerturbedOnce
from theory.predictor_variance import run_variances
from theory.survival import FirstPassages, Survival
from theory.toy_chains import rational_chain

H = 60


def cut(times: npt.NDArray[np.int64], horizon: int) -> FirstPassages:
    """Complete times, as they are known from runs that stop at a horizon."""
    return FirstPassages(np.minimum(times, horizon), times <= horizon)


def experiment(runs: int, rng: np.random.Generator, *, children: int = 1, linked: bool = True) -> PerturbationData:
    """The rational chain, with survivors of epoch 30 perturbed once."""
    toy = rational_chain()
    sample = sample_branched(toy.chain, toy.perturbation, 30, runs, rng, horizon=H, follow=H, children=children)
    once = PerturbedOnce(sample.residual, 30, H, sample.parent if linked else None)
    return PerturbationData(sample.unperturbed, once, horizon=H, replicates=20, rng=rng)


# ---- Runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predictor", ["rare", "renewal"])
def test_runs_needed_are_those_of_the_two_variances(predictor: str, seed: int) -> None:
    data = experiment(400, np.random.default_rng(seed))
    assert data.perturbed_once is not None
    n, m = 400, data.perturbed_once.residuals.n
    a, b = run_variances(predictor, data.psi, data.residual_psi, 20, H)
    need = runs_needed(data, (predictor, 20), relative_error=0.01)
    value = data.predict(predictor, 20).restricted_mean
    assert (need.estimate.value, need.estimate.n) == (pytest.approx(value.value, rel=1e-12), value.n)
    assert need.estimate.standard_error == pytest.approx(value.standard_error, rel=1e-9)
    assert need.estimate.interval95 == pytest.approx(value.interval95, rel=1e-12)
    assert (need.parents, need.children, need.relative_error) == (n, m, 0.01)
    assert need.error_of_parents == pytest.approx(math.sqrt(a / n), rel=1e-9)
    assert need.error_of_children == pytest.approx(math.sqrt(b / m), rel=1e-9)
    wanted = 0.01 * value.value
    # As many as that, in this proportion, have just the wanted error.
    factor = need.parents_needed / n
    assert need.children_needed == pytest.approx(factor * m, abs=1)
    assert a / need.parents_needed + b / need.children_needed == pytest.approx(wanted**2, rel=0.005)
    assert a / need.parents_needed + b / need.children_needed <= wanted**2 * (1 + 1e-9)
    assert not need.is_met
    assert runs_needed(data, (predictor, 20), relative_error=1.0).is_met
    finer = runs_needed(data, (predictor, 20), relative_error=0.001)
    assert finer.parents_needed == pytest.approx(100 * need.parents_needed, rel=0.001)


def test_runs_needed_in_a_second_sample_have_the_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    need = runs_needed(experiment(500, rng), ("renewal", 20), relative_error=0.02)
    again = experiment(need.parents_needed, rng).predict("renewal", 20).restricted_mean
    assert again.standard_error / again.value == pytest.approx(0.02, rel=0.15)
    assert need.parents_needed != pytest.approx(500, rel=0.5)  # so that it is not the first sample's error


def test_what_to_add_is_what_lowers_the_variance_per_epoch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, residuals = rng.geometric(0.03, 2000), rng.geometric(0.2, 10_000)
    for children, add in [(50, "children"), (10_000, "parents")]:
        once = PerturbedOnce(cut(residuals[:children], 200), 20, 200)
        data = PerturbationData(cut(times, 150), once, replicates=2, rng=rng)
        need = runs_needed(data, ("rare", 20), relative_error=0.001)
        assert need.add == add
        a, b = run_variances("rare", data.psi, data.residual_psi, 20, 150)
        per_epoch_of_parents = a / 2000**2 / data.unperturbed.times.mean()
        per_epoch_of_children = b / children**2 / once.residuals.times.mean()
        assert (per_epoch_of_parents > per_epoch_of_children) == (add == "parents")


def test_children_of_one_parent_are_no_more_than_one(seed: int) -> None:
    # Copies say nothing new: three of each child have the error of one, where three strangers would have less.
    rng = np.random.default_rng(seed)
    runs, residuals = cut(rng.geometric(0.03, 300), 150), rng.geometric(0.2, 300)
    parents = np.flatnonzero(runs.times > 20)
    errors = []
    for copies, linked in [(1, True), (3, True), (3, False)]:
        family = np.repeat(parents, copies)
        once = PerturbedOnce(cut(residuals[family], 200), 20, 200, family if linked else None)
        data = PerturbationData(runs, once, replicates=2, rng=rng)
        errors.append(runs_needed(data, ("renewal", 20), relative_error=0.01).error_of_children)
    assert errors[1] == pytest.approx(errors[0], rel=1e-9)
    assert errors[2] == pytest.approx(errors[0] / math.sqrt(3), rel=1e-9)


def test_any_functional_will_do(seed: int) -> None:
    data = experiment(300, np.random.default_rng(seed))
    assert data.perturbed_once is not None
    of_psi = runs_needed(data, lambda psi, _: psi[..., 30], relative_error=0.01)
    share = data.psi[30]
    assert of_psi.error_of_children == 0
    assert (of_psi.children_needed, of_psi.add) == (of_psi.children, "parents")
    assert of_psi.parents_needed == math.ceil((1 - share) / share / 0.01**2 - 1e-6)
    of_residuals = runs_needed(data, lambda _, residual_psi: np.asarray(residual_psi)[..., 20], relative_error=0.01)
    share = np.asarray(data.residual_psi)[20]
    assert of_residuals.error_of_parents == 0
    assert (of_residuals.parents_needed, of_residuals.add) == (300, "children")
    assert of_residuals.children_needed == math.ceil((1 - share) / share / 0.01**2 - 1e-6)
    restart = runs_needed(data, ("restart", 10), relative_error=0.01)
    assert (restart.error_of_children, restart.add) == (0, "parents")
    constant = runs_needed(data, lambda psi, _: psi[..., 0], relative_error=0.01)
    assert (constant.add, constant.is_met) == ("neither", True)
    alone = PerturbationData(data.unperturbed, horizon=H, replicates=2, rng=np.random.default_rng(0))
    of_alone = runs_needed(alone, ("restart", 10), relative_error=0.01)
    assert of_alone == replace(restart, children=0, children_needed=0, estimate=of_alone.estimate)


def test_runs_needed_in_words() -> None:
    need = RunsNeeded(Estimate(40.0, 2.0, 100), 0.01, 1000, 90, 25_000, 2250, 1.6, 1.2, "parents")
    assert need.describe() == (
        "40 has an error of 5 % from 1,000 parents and 90 children; 1 % takes 25,000 parents and 2,250 children, "
        "or fewer epochs with more parents first (36% of the variance is due to children)."
    )
    alone = replace(need, children=0, children_needed=0)
    assert alone.describe() == "40 has an error of 5 % from 1,000 runs; 1 % takes 25,000 runs."
    enough = replace(need, relative_error=0.1, parents_needed=250, children_needed=23)
    assert enough.describe() == (
        "40 has an error of 5 % from 1,000 parents and 90 children, as small as wanted (10 %)."
    )


# ---- Horizon ---------------------------------------------------------------------------------------------------------


def geometric_counts(hazard: float, horizon: int, runs: float = 1000.0) -> Survival:
    alive = runs * (1 - hazard) ** np.arange(horizon)
    return Survival(alive.astype(np.float64), (hazard * alive).astype(np.float64))


@pytest.mark.parametrize("unfinished", [0.3, 0.1, 0.01, 1e-6])
@pytest.mark.parametrize("start", [0, 20])
def test_horizon_of_a_geometric_law(unfinished: float, start: int) -> None:
    need = horizon_needed(geometric_counts(0.02, 40), start, unfinished=unfinished)
    assert need.epoch == math.ceil(math.log(unfinished) / math.log(0.98))
    assert (need.horizon, need.unfinished) == (40, unfinished)
    assert need.unfinished_now == pytest.approx(0.98**40)
    assert need.hazard is not None
    assert need.hazard.value == pytest.approx(0.02)
    low, high = need.interval95
    assert high is not None
    assert 0 < low < need.epoch < high
    # An interval in the logarithm of the epochs since the start
    assert (low - start) * (high - start) == pytest.approx((need.epoch - start) ** 2, rel=0.05)


@pytest.mark.parametrize(
    ("hazard", "horizon", "runs", "start", "unfinished"), [(0.02, 40, 10_000.0, 15, 1e-9), (0.3, 8, 150.0, 3, 1e-2)]
)
def test_error_of_the_horizon_is_the_delta_method(
    hazard: float, horizon: int, runs: float, start: int, unfinished: float
) -> None:
    survival = geometric_counts(hazard, horizon, runs)

    def epoch(h: np.ndarray) -> float:
        pooled = float((survival.at_risk * h)[start:].sum() / survival.at_risk[start:].sum())
        return horizon + (math.log(unfinished) - np.log1p(-h).sum()) / math.log1p(-pooled)

    h, step = survival.hazard, 1e-7
    slopes = np.array([(epoch(h + step * unit) - epoch(h - step * unit)) / (2 * step) for unit in np.eye(horizon)])
    error = math.sqrt(float((slopes**2 * h * (1 - h) / survival.at_risk).sum()))
    need = horizon_needed(survival, start, unfinished=unfinished)
    elapsed = epoch(h) - start
    assert need.interval95 == (
        math.floor(start + elapsed * math.exp(-1.959963984540054 * error / elapsed)),
        math.ceil(start + elapsed * math.exp(1.959963984540054 * error / elapsed)),
    )


def test_intervals_of_the_horizon_cover_it(seed: int) -> None:
    rng, hits, blind, replicas = np.random.default_rng(seed), 0, 0, 400
    exact = math.log(0.05) / math.log(0.98)
    for times in rng.geometric(0.02, (replicas, 300)):
        survival = Survival.of(cut(times, 60))
        try:
            need = horizon_needed(survival, 20, unfinished=0.05)
        except ValueError:  # one in a hundred constant hazards is rejected
            replicas -= 1
            continue
        low, high = need.interval95
        assert high is not None
        hits += low <= exact <= high
        # The error of Psi(H) alone, with the hazard taken for exact
        half_width = 1.96 * survival.standard_error[-1] / survival.values[-1] / 0.0202
        blind += abs(need.epoch - exact) <= half_width
    assert replicas > 370
    assert stats.binom.cdf(hits, replicas, 0.92) > 1e-5
    assert stats.binom.cdf(blind, replicas, 0.92) < 1e-5


def test_where_the_data_reach_far_enough_they_are_read_off() -> None:
    survival = Survival.of(FirstPassages(np.arange(1, 101), np.ones(100, dtype=bool)))  # the hazard is not constant
    need = horizon_needed(survival, 0, unfinished=0.25)
    assert (need.epoch, need.hazard, need.unfinished_now) == (75, None, 0)
    low_band, high_band = survival.band()
    low, high = need.interval95
    assert high is not None
    assert low_band[low] <= 0.25 < low_band[low - 1]
    assert high_band[high] <= 0.25 < high_band[high - 1]
    assert horizon_needed(Survival(np.array([20.0]), np.array([15.0])), 0, unfinished=0.26).interval95 == (1, None)


def test_horizons_are_refused_without_a_constant_hazard() -> None:
    falling = Survival(np.array([1000.0, 800, 700, 690]), np.array([200.0, 100, 10, 10]))
    with pytest.raises(
        ValueError, match=r"68 % of the runs are unfinished at epoch 4, and when it will be 10 % is not"
    ):
        horizon_needed(falling, 0, unfinished=0.1)
    with pytest.raises(ValueError, match=r"the hazard is not constant after epoch 0 .* it changes .*; train longer"):
        horizon_needed(falling, 0, unfinished=0.1)
    few = Survival.of(FirstPassages(np.array([3, 9, 20, 30, 50, 60]), np.array([True] * 5 + [False])))
    with pytest.raises(
        ValueError, match=r"too few first passages to tell whether the hazard is constant after epoch 5"
    ):
        horizon_needed(few, 5, unfinished=0.1)
    none = Survival.of(FirstPassages(np.full(50, 60), np.zeros(50, dtype=bool)))
    with pytest.raises(ValueError, match=r"100 % of the runs are unfinished at epoch 60.*too few first passages"):
        horizon_needed(none, 0, unfinished=0.9)


def test_horizon_in_words() -> None:
    need = HorizonNeeded(0.05, 1485, (1300, 1720), 60, 0.298, Estimate(0.02, 0.001, 300))
    assert need.describe() == (
        "At most 5 % of the runs are unfinished from epoch 1,485 on (95 % interval 1,300 to 1,720), if the hazard "
        "stays at 0.02 per epoch; at epoch 60, where the data end, 29.8 % are."
    )
    assert replace(need, epoch=50, interval95=(45, None), hazard=None).describe() == (
        "At most 5 % of the runs are unfinished from epoch 50 on (95 % interval 45 or more), which the data reach."
    )


# ---- Resolution ------------------------------------------------------------------------------------------------------


def test_resolution_has_the_power_it_promises(seed: int) -> None:
    rng = np.random.default_rng(seed)
    need = resolution_needed(Estimate(-0.3, 0.2, 50))
    assert need.runs is not None

    # Differences of n runs with the deviation that was seen, 0.2 sqrt(50), tested at 5 %
    def found(runs: int) -> int:
        deviation = 0.2 * math.sqrt(50)
        means = rng.normal(-0.3, deviation / math.sqrt(runs), 20_000)
        return int((np.abs(means) > stats.norm.ppf(0.975) * deviation / math.sqrt(runs)).sum())

    assert found(need.runs) / 20_000 == pytest.approx(0.8, abs=0.015)
    assert found(50) / 20_000 < 0.4  # with a standard error below the difference, as was seen


@pytest.mark.parametrize(("power", "multiple"), [(0.5, 1.959963984540054), (0.8, 2.801585218512968), (0.9, 3.2415155)])
def test_resolution_needed(power: float, multiple: float) -> None:
    need = resolution_needed(Estimate(2.0, 1.0, 1000, (0.1, 4.0)), power=power)
    assert need.runs == math.ceil(1000 * (multiple / 2) ** 2)
    assert need.runs_at_least == math.ceil(1000 * (multiple / 4) ** 2)
    assert need.is_met == (power == 0.5)
    strict = resolution_needed(Estimate(2.0, 1.0, 1000, (0.1, 4.0)), power=power, significance=0.001)
    assert strict.runs is not None
    assert need.runs is not None
    assert strict.runs > need.runs
    student = resolution_needed(Estimate(2.0, 1.0, 1000), power=power)
    assert student.runs_at_least == pytest.approx(1000 * (multiple / 3.96) ** 2, rel=0.01)


def test_resolution_at_the_ends() -> None:
    equal = resolution_needed(Estimate(0.0, 1.0, 100))
    assert (equal.runs, equal.is_met) == (None, False)
    assert equal.describe() == "A difference of 0 +- 1 was seen: no number of runs tells equal protocols apart."
    exact = resolution_needed(Estimate(1.0, 0.0, 100))
    assert (exact.runs, exact.runs_at_least, exact.is_met) == (1, 1, True)
    assert resolution_needed(Estimate(0.0, 0.0, 100)).runs is None


def test_resolution_in_words() -> None:
    need = ResolutionNeeded(Estimate(-1.5, 0.8, 300), 0.8, 0.05, 670, 160)
    assert need.describe() == (
        "To find a difference of -1.5 +- 0.8 with probability 80% takes 670 runs in place of 300 (160 if it is as "
        "large as it may be)."
    )
    assert replace(need, runs=200).describe() == (
        "A difference of -1.5 +- 0.8 is found with probability 80% by the present 300 runs."
    )


# ---- Refusals and the published curves -------------------------------------------------------------------------------

DATA = experiment(100, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: runs_needed(DATA, ("rare", 10), relative_error=0.0), r"relative_error=0.0 must be finite and > 0"),
        (
            lambda: runs_needed(DATA, ("rare", 10), relative_error=math.inf),
            r"relative_error=inf must be finite and > 0",
        ),
        (lambda: runs_needed(DATA, ("rare", 61), relative_error=0.1), r"interval=61 must be a whole number of epochs"),
        (
            lambda: runs_needed(DATA, lambda psi, _: 0 * psi[..., 1], relative_error=0.1),
            r"the value is 0.0: it has no relative error; ask for a restricted mean",
        ),
        (
            lambda: runs_needed(DATA, lambda psi, _: math.inf + 0 * psi[..., 1], relative_error=0.1),
            r"the value is inf: it has no relative error",
        ),
        (lambda: horizon_needed(geometric_counts(0.1, 9), 0, unfinished=0.0), r"unfinished=0.0 must lie strictly"),
        (
            lambda: horizon_needed(geometric_counts(0.1, 9), 9, unfinished=0.1),
            r"start=9, stop=9 must satisfy 0 <= start",
        ),
        (lambda: resolution_needed(Estimate(math.inf, math.inf, 9)), r"difference=inf \+- inf must be finite: compare"),
        (lambda: resolution_needed(Estimate(1.0, 1.0, 9), power=0.4), r"power=0.4 must be >= 0.5 and < 1"),
        (lambda: resolution_needed(Estimate(1.0, 1.0, 9), power=1.0), r"power=1.0 must be >= 0.5 and < 1"),
        (lambda: resolution_needed(Estimate(1.0, 1.0, 9), significance=0.0), r"significance=0.0 must lie strictly"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.shared
def test_published_curves(shared_data: Path) -> None:
    def curves(name: str) -> FirstPassages:
        file = shared_data / "meir2025_cifar10_resnet18" / f"{name}.csv.gz"
        run, epoch, accuracy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
        values = np.full((1 + int(run.max()), int(epoch.max())), np.nan)
        values[run.astype(int), epoch.astype(int) - 1] = accuracy
        return FirstPassages.from_curves(values[~np.isnan(values).all(axis=1)], 0.72)

    unperturbed, runs = curves("unperturbed"), curves("shrink_perturb_P100")
    late = runs.times > 100
    once = PerturbedOnce(FirstPassages(runs.times[late] - 100, runs.observed[late]), 100, 100)
    data = PerturbationData(unperturbed, once, replicates=20, rng=np.random.default_rng(0))
    # se = .600 at P = 50, first_passage.md 1.5, of 30.09
    need = runs_needed(data, ("renewal", 50), relative_error=0.01)
    assert need.parents_needed == pytest.approx(1000 * (0.600 / 0.3009) ** 2, rel=0.01)
    # A child takes four epochs and a parent 77, which pays for more children although most of the error is parents'.
    assert need.add == "children"
    assert need.error_of_children < 0.35 * need.error_of_parents
    assert need.error_of_children == pytest.approx(0.363 * 1.37 / math.sqrt(94), rel=0.02)
    with pytest.raises(ValueError, match=r"29.3 % of the runs are unfinished at epoch 200.*hazard is not constant"):
        horizon_needed(Survival.of(unperturbed), 30, unfinished=0.1)
    reached = horizon_needed(Survival.of(unperturbed), 30, unfinished=0.4)
    assert (reached.epoch, reached.hazard) == (29, None)
