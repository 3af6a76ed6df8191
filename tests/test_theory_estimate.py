import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from theory.bootstrap import bootstrap_weights, percentile_interval
from theory.estimate import AGREEMENT_P_VALUE, Agreement, Comparison, Estimate, agreement, compare, holm


def comparison(p_value: float, reasons: tuple[str, ...] = ()) -> Comparison:
    estimate = Estimate(1.0, 0.1, 100)
    return Comparison("x", estimate, estimate, 0.0, p_value, "outside regime" if reasons else "agrees", 0.0, reasons)


# ---- Estimate --------------------------------------------------------------------------------------------------------


def test_estimate_from_samples() -> None:
    estimate = Estimate.from_samples([1, 2, 3, 6])
    assert (estimate.value, estimate.n) == (3.0, 4)
    assert estimate.standard_error == pytest.approx(math.sqrt(14 / 3 / 4), rel=1e-14)
    t = stats.t.ppf(0.95, 3)
    assert estimate.interval(0.9) == pytest.approx((3 - t * estimate.standard_error, 3 + t * estimate.standard_error))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (28.71, 1.13, "28.7 +- 1.1"),
        (-3.2, 0.04, "-3.200 +- 0.040"),
        (56789.3, 1234.0, "56789 +- 1234"),
        (0.1234567, 5.1e-5, "0.1235 +- 0.0001"),
        (0.1234567, 4.9e-5, "0.123457 +- 4.9e-05"),
        (0.5001234, 1.3e-6, "0.5001234 +- 1.3e-06"),
        (3.12e-5, 2e-6, "3.12e-05 +- 2e-06"),
        (3e-9, 2e-6, "3e-09 +- 2e-06"),
        (0.0, 2e-6, "0 +- 2e-06"),
        (10.0, 0.0, "10.0 +- 0.0"),
        (math.pi, 0.0, "3.14159 +- 0"),
        (math.inf, math.inf, "inf"),
        (2.0, math.inf, "2 +- inf"),
    ],
)
def test_estimates_are_printed_with_the_digits_that_the_error_leaves(value: float, error: float, text: str) -> None:
    assert str(Estimate(value, error, 10)) == f"{Estimate(value, error, 10)}" == text
    assert repr(Estimate(value, error, 10)) == f"Estimate(value={value}, standard_error={error}, n=10, interval95=None)"


def test_interval_is_the_bootstrap_one_only_at_its_level() -> None:
    estimate = Estimate(3.0, 0.5, 1000, interval95=(1.0, math.inf))
    assert estimate.interval() == (1.0, math.inf)
    low, high = estimate.interval(0.9)
    assert (low, high) == pytest.approx((3 - 1.6464 * 0.5, 3 + 1.6464 * 0.5), abs=1e-4)
    assert Estimate(math.inf, math.inf, 10).interval() == (math.inf, math.inf)


# ---- Bootstrap -------------------------------------------------------------------------------------------------------


def test_bootstrap_weights_are_draws_with_replacement(seed: int) -> None:
    weights = bootstrap_weights(7, 20_000, np.random.default_rng(seed))
    assert weights.shape == (20_000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert agreement(weights[:, 0], 1.0, detects=0.1)
    assert agreement((weights[:, 0] - 1.0) ** 2, 6 / 7)  # binomial variance
    assert agreement((weights[:, 0] - 1.0) * (weights[:, 1] - 1.0), -1 / 7)
    assert not agreement((weights[:, 0] - 1.0) * (weights[:, 1] - 1.0), 0.0)  # not Poisson weights


def test_bootstrap_of_a_mean_has_its_standard_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=200)
    means = bootstrap_weights(200, 20_000, rng) @ x / 200
    assert agreement((means - x.mean()) ** 2, x.var() / 200, detects=0.2)
    assert not agreement((means - x.mean()) ** 2, 1.1 * x.var() / 200)
    low, high = percentile_interval(means)
    assert (low, high) == pytest.approx(
        (x.mean() - 1.96 * x.std() / 200**0.5, x.mean() + 1.96 * x.std() / 200**0.5), abs=0.05
    )


def test_percentile_interval_never_interpolates_into_infinity() -> None:
    assert percentile_interval(np.arange(1.0, 102.0)) == (3.0, 99.0)
    mostly_finite, one_infinite = np.arange(1000.0), np.arange(1000.0)
    mostly_finite[974:], one_infinite[-1] = math.inf, math.inf
    assert percentile_interval(mostly_finite) == (24.0, math.inf)
    assert percentile_interval(one_infinite) == (24.0, 975.0)
    assert percentile_interval([math.inf] * 9) == (math.inf, math.inf)
    assert percentile_interval([1.0, math.inf, 2.0]) == (1.0, math.inf)


# ---- Agreement -------------------------------------------------------------------------------------------------------


def p_values(seed: int, prediction: float) -> list[float]:
    rng = np.random.default_rng(seed)
    return [agreement(rng.exponential(size=400), prediction).p_value for _ in range(1000)]


def test_agreement_p_values_are_uniform_for_a_true_prediction_only(seed: int) -> None:
    assert stats.kstest(p_values(seed, 1.0), "uniform").pvalue > AGREEMENT_P_VALUE
    assert stats.kstest(p_values(seed, 1.06), "uniform").pvalue < AGREEMENT_P_VALUE


def test_agreement_is_students_t_test(seed: int) -> None:
    x = np.random.default_rng(seed).normal(1.0, 2.0, size=250)
    result, expected = agreement(x, 1.1), stats.ttest_1samp(x, 1.1)
    assert (result.t, result.p_value) == pytest.approx(tuple(expected), rel=1e-9)


def test_agreement_with_enough_samples_sees_what_it_must(seed: int) -> None:
    x = np.random.default_rng(seed).exponential(size=50_000)
    assert agreement(x, 1.0, detects=0.05)
    assert not agreement(x, 1.05, detects=0.05)
    with pytest.raises(
        ValueError, match=r"standard error 0\.0\d+ is above a tenth of the error to be seen \(0\.05 x 1\)"
    ):
        agreement(x[:20_000], 1.0, detects=0.05)


def test_agreement_without_noise_is_equality() -> None:
    assert agreement(np.ones(200), 1.0) == Agreement(Estimate(1.0, 0.0, 200), 1.0, 0.0, 1.0)
    assert not agreement(np.ones(200), 1.0 + 1e-12)
    assert not agreement(np.arange(300.0), math.inf)


# ---- Comparison ------------------------------------------------------------------------------------------------------


def test_compare_combines_both_errors() -> None:
    result = compare("x", Estimate(10.0, 0.3, 900), Estimate(11.0, 0.4, 400))
    assert result.z == pytest.approx(-2.0)
    assert result.p_value == pytest.approx(2 * stats.t.sf(2.0, 399))
    assert result.verdict == "agrees"
    assert compare("x", Estimate(10.0, 0.3, 900), Estimate(11.5, 0.4, 400)).verdict == "disagrees"


@pytest.mark.parametrize(("measured", "z"), [(10.4, 0.0), (9.5, 0.0), (10.7, -2.0), (9.1, 4.0)])
def test_margin_is_subtracted_from_the_difference(measured: float, z: float) -> None:
    result = compare("x", Estimate(10.0, 0.1, 1000), Estimate(measured, 0.0, 1000), margin=0.05)
    assert result.z == pytest.approx(z)
    assert result.p_value == pytest.approx(2 * stats.t.sf(abs(z), 999))


def test_a_closed_form_does_not_weaken_the_comparison() -> None:
    # Its n is 1, and a t-test with 0 or 1 degrees of freedom would never reject anything.
    result = compare("E[T]", Estimate(29.5, 0.0, 1), Estimate(30.5, 0.1, 1000))
    assert result.p_value == pytest.approx(2 * stats.t.sf(10, 999))
    assert result.verdict == "disagrees"
    assert compare("E[T]", Estimate(2.0, 0.0, 1), Estimate(2.0, 0.0, 1)).verdict == "agrees"
    assert compare("E[T]", Estimate(2.0, 0.0, 1), Estimate(2.1, 0.0, 1)).verdict == "disagrees"


def test_seen_from_is_where_half_of_all_comparisons_disagree(seed: int) -> None:
    rng, n, margin = np.random.default_rng(seed), 30, 0.02
    typical = compare("x", Estimate(10.0, 0.05, 50), Estimate(10.0, 1 / math.sqrt(n), n), margin=margin)
    seen_from = typical.seen_from()
    assert seen_from is not None
    for factor, share in ((0.5, 0.09), (1.0, 0.5), (1.5, 0.9)):
        truth = 10.0 * (1 + margin + factor * seen_from)
        found = [
            compare(
                "x",
                Estimate(rng.normal(10.0, 0.05), 0.05, 50),
                Estimate.from_samples(rng.normal(truth, 1.0, n)),
                margin=margin,
            ).verdict
            for _ in range(400)
        ]
        assert found.count("disagrees") / 400 == pytest.approx(share, abs=0.1)
    assert typical.seen_from(0.001) == pytest.approx(seen_from * stats.t.ppf(0.9995, 29) / stats.t.ppf(0.995, 29))
    exact, two = Estimate(10.0, 0.0, 1), Estimate(11.0, 1.0, 2)
    assert compare("x", exact, two).seen_from() == pytest.approx(stats.t.ppf(0.995, 1) / 10)
    assert compare("x", exact, Estimate(10.0, 0.0, 5)).seen_from() is None
    assert compare("x", Estimate(0.0, 0.0, 1), two).seen_from() is None


def test_compare_outside_the_regime() -> None:
    result = compare("x", Estimate(10.0, 0.1, 100), Estimate(99.0, 0.1, 100), reasons=["no steady state"])
    assert (result.verdict, result.reasons) == ("outside regime", ("no steady state",))
    assert result.p_value < 1e-9  # still told


def test_compare_is_calibrated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, wrong = [], []
    for _ in range(2000):
        x, y = rng.normal(size=30), rng.normal(scale=3.0, size=300)
        p.append(compare("x", Estimate.from_samples(x), Estimate.from_samples(y)).p_value)
        wrong.append(compare("x", Estimate.from_samples(x), Estimate(float(y.mean()), 0.0, 300)).p_value)
    assert stats.binomtest(int((np.array(p) < 0.05).sum()), 2000, 0.05).pvalue > AGREEMENT_P_VALUE
    assert stats.binomtest(int((np.array(wrong) < 0.05).sum()), 2000, 0.05).pvalue < AGREEMENT_P_VALUE


# ---- Holm ------------------------------------------------------------------------------------------------------------


def test_holm_steps_down_in_order() -> None:
    # Sorted: .001 < .01/5, .0024 < .01/4, .0034 > .01/3, after which nothing is rejected.
    family = [comparison(p) for p in (0.0034, 0.0024, 0.9, 0.001, 0.004)]
    assert [c.verdict for c in holm(family)] == ["agrees", "disagrees", "agrees", "disagrees", "agrees"]
    assert [c.p_value for c in holm(family)] == [c.p_value for c in family]
    # Bonferroni would keep .0024, and no correction would reject .0034 and .004.
    assert [c.verdict for c in holm(family, 0.05)] == ["disagrees", "disagrees", "agrees", "disagrees", "disagrees"]


def test_holm_leaves_out_what_is_outside_its_regime() -> None:
    family = [comparison(0.009), *[comparison(0.0, ("too early",))] * 9]
    assert [c.verdict for c in holm(family)] == ["disagrees", *["outside regime"] * 9]
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error_rate(seed: int) -> None:
    families = np.random.default_rng(seed).uniform(size=(4000, 5))
    any_rejected = [any(c.verdict == "disagrees" for c in holm([comparison(p) for p in ps])) for ps in families]
    uncorrected = (families < 0.01).any(axis=1)
    assert stats.binomtest(sum(any_rejected), 4000, 1 - (1 - 0.01 / 5) ** 5).pvalue > AGREEMENT_P_VALUE
    assert stats.binomtest(int(uncorrected.sum()), 4000, 0.01).pvalue < AGREEMENT_P_VALUE


# ---- Refusals --------------------------------------------------------------------------------------------------------

ONE = Estimate(1.0, 0.1, 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Estimate(math.nan, 0.1, 3), r"value=nan, standard_error=0\.1: neither may be nan"),
        (lambda: Estimate(1.0, -0.1, 3), r"standard_error=-0\.1: neither may be nan, nor the error < 0"),
        (lambda: Estimate(1.0, 0.1, 0), r"n=0 must be >= 1: an estimate needs data"),
        (lambda: Estimate.from_samples([1.0]), r"samples of shape \(1,\): need one dimension and at least two"),
        (
            lambda: Estimate.from_samples([1.0, math.inf]),
            r"samples must be finite: censored runs need a restricted mean",
        ),
        (lambda: ONE.interval(1.0), r"level=1\.0 must lie strictly between 0 and 1"),
        (lambda: bootstrap_weights(0, 5, np.random.default_rng(0)), r"n=0 and replicates=5 must both be >= 1"),
        (
            lambda: percentile_interval([1.0, math.nan]),
            r"replicates of shape \(2,\) must be numbers \(or inf\).*no nan",
        ),
        (lambda: percentile_interval([]), r"replicates of shape \(0,\) must be numbers"),
        (lambda: percentile_interval([1.0], level=0), r"level=0 must lie strictly between 0 and 1"),
        (lambda: agreement(np.ones(199), 1.0), r"n=199 samples: agreement needs at least 200 independent ones"),
        (lambda: compare("E[T]", ONE, ONE, margin=-0.1), r"margin=-0\.1 must be >= 0"),
        (
            lambda: compare("E[T]", Estimate(math.inf, math.inf, 9), ONE),
            r"E\[T\]: predicted value is inf; compare restr",
        ),
        (
            lambda: compare("E[T]", ONE, Estimate(math.inf, math.inf, 9)),
            r"E\[T\]: measured value is inf; compare restr",
        ),
        (lambda: holm([], 0.0), r"significance=0\.0 must lie strictly between 0 and 1"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
