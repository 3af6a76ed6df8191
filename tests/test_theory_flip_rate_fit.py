"""Links fitted to counts and shares, against exact data, scipy and repetitions; wrong ways must be seen."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from sim.random_streams import stream
from theory.activation_temperature import (
    CloglogLink,
    ErfLink,
    GaussianFlips,
    LinkFit,
    fit_link_to_counts,
    fit_link_to_shares,
    temperature_of_counts,
)
from theory.estimate import agreement

ERF, CLOGLOG = ErfLink(-3.0, 1.2), CloglogLink(-2.0, 0.9)
SWEEP = np.linspace(math.log(1e-4), math.log(1e2), 37)
X = [-3.0, -2.0, -1.0]


@pytest.mark.parametrize("link", [ERF, CLOGLOG, ErfLink(1.0, 0.5), CloglogLink(0.5, 2.0)])
def test_exact_data_are_recovered(link: ErfLink | CloglogLink) -> None:
    kind = "erf" if isinstance(link, ErfLink) else "cloglog"
    x = np.linspace(link.location - 3, link.location + 3, 13)
    fits = [
        fit_link_to_shares(x, link.share(x), kind),
        fit_link_to_counts(x, 1000 * link.share(x), 1000, kind),
    ]
    for fit in fits:
        assert fit.link.location == pytest.approx(link.location, abs=1e-8)
        assert fit.link.scale == pytest.approx(link.scale, rel=1e-8)
        assert fit.slope.value * fit.scale.value == pytest.approx(1, rel=1e-12)
        assert fit.error < 1e-8
        assert fit.dispersion == 1
    assert fits[0].location.standard_error < 1e-7
    assert (fits[1].degrees_of_freedom, fits[1].p_value) == (int((_least_counts(link, x, 1000) >= 5).sum()) - 2, 1)
    shuffled = np.random.default_rng(0).permutation(13)
    again = fit_link_to_counts(x[shuffled], 1000 * link.share(x[shuffled]), 1000, kind)
    assert again.location == fits[1].location
    assert (again.log_rates == x).all()


def _least_counts(link: ErfLink | CloglogLink, x: np.ndarray, patterns: int) -> np.ndarray:
    return patterns * np.minimum(link.share(x), 1 - link.share(x))


@pytest.mark.parametrize("kind", ["erf", "cloglog"])
def test_fits_agree_with_those_of_scipy(kind: str, seed: int) -> None:
    from scipy.optimize import curve_fit, minimize

    rng = stream(seed, "scipy", len(kind))
    x, patterns = np.linspace(-7.0, 1.0, 10), 500
    truth = ERF if kind == "erf" else CLOGLOG
    counts = rng.binomial(patterns, truth.share(x))

    def share(x: np.ndarray, location: float, scale: float) -> np.ndarray:
        link = ErfLink(location, scale) if kind == "erf" else CloglogLink(location, 1 / scale)
        return link.share(x)

    def loss(parameters: np.ndarray) -> float:
        p = np.clip(share(x, parameters[0], math.exp(parameters[1])), 1e-300, 1 - 1e-16)
        return -float(counts @ np.log(p) + (patterns - counts) @ np.log1p(-p))

    fit = fit_link_to_counts(x, counts, patterns, kind)
    options = {"xatol": 1e-9, "fatol": 1e-9, "initial_simplex": [[-2.5, 0.0], [-3.5, 0.2], [-3.0, -0.4]]}
    best = minimize(loss, [-2.5, 0.0], method="Nelder-Mead", options=options)
    assert best.success
    assert (fit.location.value, math.log(fit.scale.value)) == pytest.approx(tuple(best.x), abs=2e-6)
    # Fisher's information of the two parameters, by differences.
    parameters, h = np.array([fit.location.value, fit.scale.value]), 1e-5
    slopes = np.array([(share(x, *(parameters + d)) - share(x, *(parameters - d))) / (2 * h) for d in h * np.eye(2)])
    p = share(x, *parameters)
    assert fit.covariance == pytest.approx(np.linalg.inv(slopes * patterns / (p * (1 - p)) @ slopes.T), rel=1e-4)

    squares = fit_link_to_shares(x, counts / patterns, kind)
    values, covariance = curve_fit(share, x, counts / patterns, p0=[-2.5, 1.0], full_output=False)
    assert (squares.location.value, squares.scale.value) == pytest.approx(tuple(values), abs=1e-5)
    scale = math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert squares.covariance / scale == pytest.approx(covariance / scale, abs=1e-3)
    assert squares.location.standard_error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-3)


def test_standard_errors_of_counts_are_those_of_repetitions_and_the_wrong_link_is_seen(seed: int) -> None:
    x, patterns = np.linspace(-7.0, 1.0, 12), 4000
    rng = stream(seed, "repetitions")
    fits: list[LinkFit] = []
    wrong = []
    for _ in range(240):
        counts = rng.binomial(patterns, ERF.share(x))
        fits.append(fit_link_to_counts(x, counts, patterns))
        wrong.append(fit_link_to_counts(x, counts, patterns, "cloglog").p_value)
    for name, planted in (("location", -3.0), ("scale", 1.2), ("slope", 1 / 1.2)):
        found = [getattr(fit, name) for fit in fits]
        values = np.array([each.value for each in found])
        # Without the dispersion, which is at least 1.
        deviations = [each.standard_error / math.sqrt(fit.dispersion) for each, fit in zip(found, fits, strict=True)]
        pulls = (values - planted) / np.array(deviations)
        assert agreement(values, planted, detects=0.02)
        assert agreement(pulls**2, 1.0, detects=1.5)
        assert not agreement(pulls**2, 2.0)
    # Chi-square has its degrees of freedom.
    excess = np.array([fit.chi_square - fit.degrees_of_freedom for fit in fits])
    assert agreement(excess, 0.0)
    assert not agreement(excess, 3.0)
    assert not agreement(excess, -3.0)
    assert agreement([fit.p_value for fit in fits], 0.5, detects=0.5)
    assert not agreement([fit.p_value for fit in fits], 0.3)
    assert max(wrong) < 1e-6
    assert all(fit.location.n == 11 for fit in fits)


def test_patterns_that_change_together_widen_the_errors(seed: int) -> None:
    # Groups of ten: each counts as one.
    x, rng = np.linspace(-6.0, 0.0, 41), stream(seed, "groups")
    counts = 10 * rng.binomial(2000, ERF.share(x))
    fit = fit_link_to_counts(x, counts, 20_000)
    independent = np.sqrt(np.diag(fit.covariance))
    assert 2.5 < fit.dispersion < 25
    assert fit.p_value < 1e-6
    assert fit.location.standard_error == pytest.approx(independent[0] * math.sqrt(fit.dispersion), rel=1e-12)
    assert fit.scale.standard_error == pytest.approx(independent[1] * math.sqrt(fit.dispersion), rel=1e-12)
    assert fit.location.value == pytest.approx(-3.0, abs=6 * fit.location.standard_error)
    alone = fit_link_to_counts(x, counts // 10, 2000)
    assert alone.link.location == pytest.approx(fit.link.location, abs=1e-7)
    assert alone.covariance == pytest.approx(10 * fit.covariance, rel=1e-6)


def test_fits_find_the_least_squares_of_noisy_shares(seed: int) -> None:
    rng = stream(seed, "noisy")
    grid = [(mu, sigma) for mu in np.linspace(-5, 3, 33) for sigma in np.geomspace(0.1, 8, 25)]
    x = np.linspace(-9.0, 4.0, 27)
    for _ in range(20):
        truth = ErfLink(rng.uniform(-5, 1), math.exp(rng.uniform(-0.3, 1)))
        shares = np.clip(truth.share(x) + 0.05 * rng.standard_normal(27), 0, 1)
        fit = fit_link_to_shares(x, shares)
        best = min(float(np.mean((ErfLink(mu, sigma).share(x) - shares) ** 2)) for mu, sigma in grid)
        assert fit.error <= math.sqrt(best) * (1 + 1e-9)
        assert fit.residuals == pytest.approx(shares - fit.link.share(x), abs=1e-12)


def test_the_sigma_of_networks_is_that_of_proportional_flips() -> None:
    exponential = CloglogLink(-2.0)
    # As a law of ln(rate) it is Gumbel's, of standard deviation pi / sqrt(6).
    x = np.linspace(-42.0, 10.0, 40_001)
    law = np.diff(exponential.share(x))
    middle = (x[1:] + x[:-1]) / 2
    assert math.sqrt(law @ middle**2 - (law @ middle) ** 2) == pytest.approx(math.pi / math.sqrt(6), rel=1e-5)
    fit = fit_link_to_shares(SWEEP, exponential.share(SWEEP))
    assert (fit.scale.value, fit.error, fit.explained) == pytest.approx((1.1718, 0.01869, 0.9983), abs=5e-5)
    for channels, sigma, error in ((16, 1.172, 0.0179), (64, 1.166, 0.0186)):
        fit = fit_link_to_shares(SWEEP, GaussianFlips(channels, 10.0).share(SWEEP))
        assert (fit.scale.value, fit.error) == pytest.approx((sigma, error), abs=6e-4)
        ours = fit_link_to_shares(SWEEP, GaussianFlips(channels, 10.0).share(SWEEP), "cloglog")
        assert ours.slope.value == pytest.approx(1, abs=5e-3)
        assert ours.error < 0.1 * fit.error


@pytest.mark.parametrize(("patterns", "regressed"), [(128, 1.939), (8192, 1.552), (131072, 1.432)])
def test_where_the_link_is_not_exact_the_way_to_fit_decides_on_sigma(patterns: int, regressed: float) -> None:
    share = CloglogLink(-2.0).share(SWEEP)
    counts = np.round(patterns * share)
    line = np.polyfit(SWEEP, ErfLink.score(temperature_of_counts(counts, patterns)), 1)
    assert 1 / line[0] == pytest.approx(regressed, abs=6e-4)
    likely = fit_link_to_counts(SWEEP, counts, patterns)
    assert likely.scale.value == pytest.approx(1.30, abs=0.03)
    assert likely.dispersion > 2
    assert fit_link_to_shares(SWEEP, counts / patterns).scale.value == pytest.approx(1.172, abs=0.01)
    assert fit_link_to_counts(SWEEP, counts, patterns, "cloglog").scale.value == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_link_to_counts(X, [1, 5, 9], 10, "logit"), "link='logit' must be one of erf, cloglog"),
        (lambda: fit_link_to_counts([1.0], [1], 10), "log_rates of shape (1,) must be one dimension"),
        (lambda: fit_link_to_counts(X, [1, 5], 10), "changed of shape (2,) must have the shape of log_rates, (3,)"),
        (lambda: fit_link_to_counts(X, [1, 5, 11], 10), "changed=[1, 5, 11] must lie between 0 and the 10 patterns"),
        (lambda: fit_link_to_counts(X, [1, 5, 9], 0), "patterns=0 must be finite and >= 1"),
        (lambda: fit_link_to_counts(X, [0, 0, 0], 10), "none of the patterns changed at all rates: sweep higher"),
        (lambda: fit_link_to_counts(X, [10] * 3, 10), "all of the patterns changed at all rates: sweep lower"),
        (lambda: fit_link_to_counts(X, [0, 5, 10], 10), "patterns begin to change at ln(rate)=-2, and all do beyond"),
        (lambda: fit_link_to_counts(X, [10, 5, 0], 10), "the share of changed patterns does not rise with"),
        (lambda: fit_link_to_counts(X, [9, 5, 2], 10), "the share of changed patterns does not rise with"),
        (lambda: fit_link_to_shares(X[:2], [0.2, 0.7]), "must hold at least three different ones"),
        (lambda: fit_link_to_shares(X, [1e-5, 0.7, 1.0]), "shares must lie between 0.001 and 0.999 at two rates"),
        (lambda: fit_link_to_shares(X, [0.9, 0.5, 0.1]), "the share of changed patterns does not rise with"),
        (lambda: fit_link_to_shares(X, [0.9, 0.5, 1.1]), "shares=1.1 must lie between 0 and 1"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
