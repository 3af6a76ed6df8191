import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bootstrap import bootstrap_weights
from theory.chain_sampling import sample_first_passages
from theory.estimate import agreement
from theory.survival import FirstPassages, Survival, restricted_mean, survival_from_counts, survival_from_hazard
from theory.toy_chains import rational_chain

RUNS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=30)


def first_passages(runs: list[tuple[int, bool]]) -> FirstPassages:
    times, observed = zip(*runs, strict=True)
    return FirstPassages(np.array(times), np.array(observed))


def naive_kaplan_meier(runs: list[tuple[int, bool]], horizon: int) -> list[Fraction]:
    """Epoch by epoch and run by run, in fractions."""
    survival = [Fraction(1)]
    for epoch in range(1, horizon + 1):
        at_risk = sum(1 for time, _ in runs if time >= epoch)
        passages = sum(1 for time, observed in runs if observed and time == epoch)
        survival.append(survival[-1] * (1 - Fraction(passages, at_risk)))
    return survival


def censored_samples(seed: int, sets: int, n: int) -> list[FirstPassages]:
    """A hazard of 0.05 per epoch up to epoch 20, and independent stops at uniform epochs for 60 % of the runs."""
    rng = np.random.default_rng(seed)
    times = rng.geometric(0.05, size=(sets, n))
    stops = np.where(rng.random((sets, n)) < 0.6, rng.integers(1, 20, size=(sets, n)), 20)
    return [FirstPassages(np.minimum(t, s), t <= s) for t, s in zip(times, stops, strict=True)]


# ---- Kaplan and Meier ------------------------------------------------------------------------------------------------

# Three of the six runs are censored, one of them at an epoch at which another finishes.
HAND = [(2, True), (3, True), (3, False), (5, True), (6, False), (6, False)]


def test_kaplan_meier_by_hand() -> None:
    survival = Survival.of(first_passages(HAND))
    assert survival.at_risk.tolist() == [6, 6, 5, 3, 3, 2]
    assert survival.events.tolist() == [0, 1, 1, 0, 1, 0]
    assert survival.values == pytest.approx([1, 1, 5 / 6, 2 / 3, 2 / 3, 4 / 9, 4 / 9], rel=1e-14)
    assert survival.hazard == pytest.approx([0, 1 / 6, 1 / 5, 0, 1 / 3, 0], rel=1e-14)
    # 1/(6 5) + 1/(5 4) + 1/(3 2) = 1/4
    assert survival.standard_error[[0, 1, 2, 5, 6]] == pytest.approx(
        [0, 0, 5 / 6 * math.sqrt(1 / 30), 2 / 9, 2 / 9], rel=1e-14
    )
    mean = survival.restricted_mean(6)
    assert mean.value == pytest.approx(1 + 1 + 5 / 6 + 2 / 3 + 2 / 3 + 4 / 9, rel=1e-14)
    tails = np.array([5 / 6 + 2 / 3 + 2 / 3 + 4 / 9, 2 / 3 + 2 / 3 + 4 / 9, 4 / 9])
    assert mean.standard_error == pytest.approx(math.sqrt(tails**2 @ [1 / 30, 1 / 20, 1 / 6]), rel=1e-14)
    assert mean.n == 6
    # Leaving censored runs out, or counting their stop as a passage, gives something else.
    finished = Survival.of(first_passages([run for run in HAND if run[1]]))
    assert finished.values[5] == 0
    assert Survival.of(first_passages([(t, True) for t, _ in HAND])).values[3] == pytest.approx(0.5)


@given(RUNS)
def test_kaplan_meier_is_the_naive_product(runs: list[tuple[int, bool]]) -> None:
    survival = Survival.of(first_passages(runs))
    assert survival.values == pytest.approx([float(x) for x in naive_kaplan_meier(runs, survival.horizon)], rel=1e-12)
    assert (np.diff(survival.values) <= 0).all()


@given(RUNS, st.integers(1, 15))
def test_without_censoring_everything_is_an_average(runs: list[tuple[int, bool]], horizon: int) -> None:
    times = np.array([time for time, _ in runs])
    survival = Survival.of(FirstPassages(times, np.full(len(times), True)))
    fraction = (times[:, None] > np.arange(horizon + 1)).mean(axis=0)
    assert survival.padded(horizon) == pytest.approx(fraction, abs=1e-14)
    binomial = np.sqrt(fraction * (1 - fraction) / len(times))
    greenwood = np.pad(survival.standard_error, (0, horizon))[: horizon + 1]
    assert greenwood == pytest.approx(binomial, abs=1e-14)
    mean = survival.restricted_mean(horizon)
    short = np.minimum(times, horizon)
    assert mean.value == pytest.approx(short.mean(), rel=1e-12)
    assert mean.standard_error == pytest.approx(short.std() / math.sqrt(len(times)), abs=1e-12)
    assert survival.mean().value == pytest.approx(times.mean(), rel=1e-12)


@given(RUNS, st.randoms())
def test_order_and_empty_runs_do_not_matter(runs: list[tuple[int, bool]], shuffler: object) -> None:
    survival = Survival.of(first_passages(runs))
    shuffled = [*runs, (0, False), (0, False)]
    shuffler.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]  hypothesis' Random
    again = Survival.of(first_passages(shuffled))
    assert again.values.tolist() == survival.values.tolist()
    assert again.n == survival.n == len(runs)


def test_kaplan_meier_is_unbiased_under_censoring_and_finished_runs_are_not(seed: int) -> None:
    chain = rational_chain().chain
    rng = np.random.default_rng(seed)
    runs = sample_first_passages(chain, 40_000, rng, horizon=40)
    stops = rng.integers(1, 80, size=runs.n)
    sets = [
        FirstPassages(np.minimum(t, s), o & (t <= s))
        for t, o, s in zip(*(x.reshape(400, 100) for x in (runs.times, runs.observed, stops)), strict=True)
    ]
    exact = np.linalg.matrix_power(chain.transient, 20)[0].sum()
    assert agreement([Survival.of(s).at(20) for s in sets], exact, detects=0.1)
    only_finished = [(s.times[s.observed] > 20).mean() for s in sets]
    assert not agreement(only_finished, exact)


def test_greenwood_is_the_variance_under_censoring(seed: int) -> None:
    sets = [Survival.of(sample) for sample in censored_samples(seed, 3000, 100)]
    exact = 0.95 ** np.arange(21)
    for epoch in (5, 15, 20):
        squared_errors = np.array([(s.values[epoch] - exact[epoch]) ** 2 for s in sets])
        variances = np.array([s.standard_error[epoch] ** 2 for s in sets])
        assert agreement(squared_errors - variances, 0.0)
        # The binomial variance of as many runs, none of them censored, is too small.
        binomial = np.array([s.values[epoch] * (1 - s.values[epoch]) / 100 for s in sets])
        assert epoch == 5 or not agreement(squared_errors - binomial, 0.0)
    means = [s.restricted_mean(20) for s in sets]
    errors = np.array([(m.value - exact[:20].sum()) ** 2 for m in means])
    assert agreement(errors - np.array([m.standard_error**2 for m in means]), 0.0)
    naive = [np.minimum(sample.times, 20).var() / 100 for sample in censored_samples(seed, 3000, 100)]
    assert not agreement(errors - np.array(naive), 0.0)


# ---- What is not identified ------------------------------------------------------------------------------------------


def test_mean_needs_every_run_to_finish() -> None:
    with pytest.raises(
        ValueError,
        match=r"44\.4% of the runs are unfinished at epoch 6: E\[T\] is not identified\. Use restricted_mean\(6\)",
    ):
        Survival.of(first_passages(HAND)).mean()
    complete = Survival.of(first_passages([(2, True), (3, False), (7, True)]))
    assert complete.is_complete
    assert complete.mean().value == pytest.approx(1 + 1 + 5 * 2 / 3, rel=1e-14)
    assert (complete.at(7), complete.at(1000)) == (0.0, 0.0)
    assert complete.padded(9).tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 0, 0, 0])
    assert complete.restricted_mean(1000).value == pytest.approx(complete.mean().value, rel=1e-14)
    assert complete.restricted_mean(1000).standard_error == pytest.approx(complete.mean().standard_error, rel=1e-14)


# ---- Bands -----------------------------------------------------------------------------------------------------------


def test_band_covers_and_walds_does_not(seed: int) -> None:
    exact = 0.95 ** np.arange(21)
    covered, wald_covered = [], []
    for sample in censored_samples(seed, 1500, 60):
        survival = Survival.of(sample)
        low, high = survival.band()
        known = np.arange(survival.horizon + 1)
        assert (low <= survival.values).all()
        assert (survival.values <= high).all()
        assert (low >= 0).all()
        assert (high <= 1).all()
        padded = np.full((2, 21), np.nan)
        padded[:, known] = low, high
        covered.append((padded[0] <= exact) & (exact <= padded[1]))
        wald = 1.96 * np.pad(survival.standard_error, (0, 20 - survival.horizon))
        values = np.pad(survival.values, (0, 20 - survival.horizon))
        wald_covered.append(np.abs(values - exact) <= wald)
    share, wald_share = np.mean(covered, axis=0), np.mean(wald_covered, axis=0)
    assert (share[1:20] > 0.92).all()
    assert (share[3:20] < 0.98).all()  # at epochs 1 and 2 the counts are few and coarse
    assert wald_share[1:20].min() < 0.92


def test_band_where_greenwoods_error_vanishes() -> None:
    # 1 - 0.025^(1/n): the exact binomial bound for no event among n
    low, high = Survival.of(first_passages([(5, True)] * 40)).band()
    assert low.tolist() == pytest.approx([1, *[0.025 ** (1 / 40)] * 4, 0])
    assert high.tolist() == pytest.approx([1, 1, 1, 1, 1, 1 - 0.025 ** (1 / 40)])
    # Of 100 runs 98 stopped after the first epoch: two passages do not show that Psi is below 4 %.
    few = Survival.of(first_passages([(1, False)] * 98 + [(2, True)] * 2))
    assert few.band()[1][2] == pytest.approx(1 - 0.025**0.5)
    low, high = Survival.of(first_passages([(1, True), (2, True), (3, True)])).band(0.9)
    assert high[3] == pytest.approx(min(high[2], 1 - 0.05))


# ---- Curves ----------------------------------------------------------------------------------------------------------

NAN = math.nan


@pytest.mark.parametrize(
    ("curve", "direction", "time", "observed"),
    [
        ([0.9, 0.1, 0.1], "up", 1, True),  # the first evaluation is that of epoch 1
        ([0.1, 0.5, 0.1], "up", 2, True),  # equality counts, and so does the first hit, sustained or not
        ([0.1, 0.2, 0.3], "up", 3, False),
        ([0.1, 0.2, NAN], "up", 2, False),
        ([0.1, NAN, 0.6], "up", 3, True),
        ([0.1, NAN, 0.2], "up", 3, False),
        ([NAN, NAN, NAN], "up", 0, False),
        ([0.6, 0.5, 0.1], "down", 2, True),
        ([0.9, math.inf, math.inf], "down", 3, False),  # it overflowed, and was followed to the end
        ([0.9, -math.inf, 0.6], "up", 1, True),
    ],
)
def test_from_curves(curve: list[float], direction: str, time: int, observed: bool) -> None:
    runs = FirstPassages.from_curves([curve, [0.2, 0.7, 0.3]], 0.5, direction=direction)
    assert (runs.times[0], runs.observed[0]) == (time, observed)
    assert runs.times[1] == (2 if direction == "up" else 1)


def test_times_of_curves_are_one_based() -> None:
    rng = np.random.default_rng(0)
    curves = rng.random((50, 9))
    runs = FirstPassages.from_curves(curves, 0.8)
    for curve, time, observed in zip(curves, runs.times, runs.observed, strict=True):
        hits = [epoch for epoch, value in enumerate(curve, start=1) if value >= 0.8]
        assert (time, observed) == ((hits[0], True) if hits else (9, False))


# ---- Counts ----------------------------------------------------------------------------------------------------------


def test_weighted_counts_are_those_of_the_repeated_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = FirstPassages(rng.integers(0, 9, size=30) + 1, rng.random(30) < 0.7)
    weights = bootstrap_weights(30, 20, rng)
    for horizon in (3, 9, 14):
        at_risk, events = runs.counts(weights, horizon)
        assert at_risk.shape == events.shape == (20, horizon)
        for b in range(20):
            drawn = np.repeat(np.arange(30), weights[b])
            naive = [(runs.times[i], runs.observed[i]) for i in drawn]
            assert at_risk[b].tolist() == [sum(1 for t, _ in naive if t >= s) for s in range(1, horizon + 1)]
            assert events[b].tolist() == [sum(1 for t, o in naive if o and t == s) for s in range(1, horizon + 1)]
            known = [t for t in range(horizon + 1) if t == 0 or at_risk[b][t - 1] > 0]
            values = survival_from_counts(at_risk[b], events[b])
            assert values[known] == pytest.approx([float(x) for x in naive_kaplan_meier(naive, known[-1])], abs=1e-12)


def test_counts_of_a_horizon_of_zero_epochs_are_empty() -> None:
    at_risk, events = first_passages(HAND).counts(horizon=0)
    assert at_risk.shape == events.shape == (0,)


def test_survival_from_hazard_takes_complex_steps() -> None:
    hazard = np.array([0.1, 0.0, 0.5])
    step = np.imag(survival_from_hazard(hazard + 1j * 1e-30 * np.eye(3))) / 1e-30
    assert step[:, 3] == pytest.approx([-0.5, -0.45, -0.9], rel=1e-14)  # -Psi / (1 - h)
    assert step[2].tolist() == [0, 0, 0, -0.9]


# ---- Refusals --------------------------------------------------------------------------------------------------------

SURVIVAL = Survival.of(first_passages(HAND))
TRUE, FALSE = np.array([True]), np.array([False])


def test_a_whole_number_may_be_a_float() -> None:
    assert SURVIVAL.restricted_mean(np.float64(2.0)) == SURVIVAL.restricted_mean(2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FirstPassages(np.array([]), np.array([], dtype=bool)), r"times \(0,\) and observed \(0,\) must be eq"),
        (lambda: FirstPassages(np.array([1, 2]), TRUE), r"times \(2,\) and observed \(1,\) must be equally long"),
        (lambda: FirstPassages(np.array([1]), np.array([1])), r"observed has dtype int64; it must be bool"),
        (lambda: FirstPassages(np.array([1.5]), TRUE), r"times must be whole epochs"),
        (lambda: FirstPassages(np.array([NAN]), FALSE), r"times must be whole epochs"),
        (
            lambda: FirstPassages(np.array([0]), TRUE),
            r"times=0: epochs are 1-based, the earliest first passage is 1; add 1",
        ),
        (lambda: FirstPassages(np.array([-1]), FALSE), r"times=-1: epochs are 1-based"),
        (
            lambda: FirstPassages.from_curves([[0.1]], 0.5, direction="left"),
            r"direction='left' must be 'up' \(accuracy\)",
        ),
        (
            lambda: FirstPassages.from_curves([0.1, 0.2], 0.5),
            r"values have shape \(2,\); they must be \(runs, epochs\)",
        ),
        (lambda: FirstPassages.from_curves([[0.1]], NAN), r"target=nan must be finite"),
        (lambda: Survival.of(FirstPassages(np.array([0]), FALSE)), r"none of the 1 runs was followed for an epoch"),
        (lambda: SURVIVAL.at(-1), r"epoch=-1 must be >= 0"),
        (
            lambda: SURVIVAL.at(7),
            r"epoch=7 lies beyond the horizon 6, where 44\.4% of the runs are unfinished: train long",
        ),
        (lambda: SURVIVAL.padded(7), r"epoch=7 lies beyond the horizon 6"),
        (lambda: SURVIVAL.restricted_mean(7), r"epoch=7 lies beyond the horizon 6"),
        (lambda: SURVIVAL.restricted_mean(0), r"horizon=0 must be a whole number >= 1"),
        (lambda: SURVIVAL.band(1.0), r"level=1\.0 must lie strictly between 0 and 1"),
        (lambda: restricted_mean(np.ones(3), 4), r"horizon=4 must lie between 0 and 3, where the survival ends"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
