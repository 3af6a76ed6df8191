"""Every symbolic variance against the numeric code and the recursion itself, and its LaTeX against simple mistakes."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.linalg import matrix_power

from tests.derivation_checks import check_latex
from theory.derivations import derivation_names, derive
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.symbolic_weight_variance import (
    NOISES,
    NOISES_WITH_TIME,
    correlation_time,
    velocity_variance,
    weight_variance,
)
from theory.weight_variance import stationary_variances

derived = functools.cache(derive)


@functools.cache
def function_of(name: str) -> Callable[..., Any]:
    return derived(name).function()


# Batches per epoch, eta lambda, beta, then sigma_theta^2, sigma_v^2 and tau in units of eta^2 sigma^2.
PUBLISHED = [
    (2, 0.1, 0, 0.5263157894736842, 1.105263157894737, 0.95238095238095),
    (10, 0.001, 0, 1.830587088414539, 1.000999168581493, 3.6575196980606),
    (10, 1.5, 0, 1.425520833333333, 4.41484375, 0.64578540671268),
    (10, 0.01, 0.9, 38.86414905445464, 1.929960906510912, 40.274545378969),
    (10, 1, 0.9, 7.257747628571429, 7.762975734285714, 1.8698364846143),
    (50, 0.05, 0.5, 13.97128416257535, 1.367047581449579, 20.440084679073),
    (100, 0.001, 0.95, 3246.702738071824, 8.484199559149961, 765.35275141433),
]


def noise_covariance(batches: int | None, steps: int) -> np.ndarray:
    """Autocovariance in units of sigma^2; None for white noise."""
    lags = np.arange(steps)
    if batches is None:
        return np.where(lags == 0, 1.0, 0.0)
    return np.where(lags == 0, 1.0, np.where(lags < batches, -(batches - lags) / (batches * (batches - 1)), 0.0))


def by_brute_force(eta_lambda: float, momentum: float, batches: int | None) -> tuple[float, float]:
    """The double sum over all pairs of past kicks, until they are forgotten."""
    steps = 600
    propagator = np.array([[1 + momentum - eta_lambda, -momentum], [1.0, 0.0]])
    response = np.array([matrix_power(propagator, n)[0, 0] for n in range(steps)])
    assert abs(response[-1]) < 1e-14
    velocity = np.diff(response, prepend=0.0)
    lags = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    covariance = noise_covariance(batches, steps)[lags]
    return float(response @ covariance @ response), float(velocity @ covariance @ velocity)


def arguments(noise: str, parameters: tuple[float, float, float, float], batches: int) -> list[complex]:
    eta, curvature, beta, sigma = parameters
    if noise == "reshuffled":
        return [eta, complex(curvature), beta, sigma, batches]
    if noise == "reshuffled_flat":
        return [eta, beta, sigma, batches]
    return [eta, curvature, beta, sigma]


@pytest.mark.parametrize("noise", ["white", "reshuffled", "reshuffled_2", "reshuffled_3"])
def test_functions_are_the_recursion(noise: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(6):
        eta, beta, sigma = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.85), rng.uniform(0.5, 2)
        curvature = rng.uniform(0.2, 1.9) * (1 + beta) / eta
        batches = {"white": None, "reshuffled": int(rng.integers(2, 30))}.get(noise, int(noise[-1:] == "3") + 2)
        weight, velocity = by_brute_force(eta * curvature, beta, batches)
        given = arguments(noise, (eta, curvature, beta, sigma), batches or 0)
        unit = (eta * sigma) ** 2
        assert function_of(f"weight_variance {noise}")(*given) == pytest.approx(unit * weight, rel=1e-10)
        assert function_of(f"velocity_variance {noise}")(*given) == pytest.approx(unit * velocity, rel=1e-10)
        time = function_of(f"correlation_time {noise}")(*given)
        assert time == pytest.approx(2 * weight / velocity, rel=1e-10)


@pytest.mark.parametrize("noise", [noise for noise in NOISES if noise != "reshuffled_1"])
def test_functions_are_the_numeric_code(noise: str) -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        eta, beta, sigma = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.9), rng.uniform(0.5, 2)
        curvature = 0.0 if noise == "reshuffled_flat" else rng.uniform(0.1, 1.95) * (1 + beta) / eta
        batches = {"reshuffled_2": 2, "reshuffled_3": 3}.get(noise, int(rng.integers(2, 300)))
        modes = HeavyBall(eta, curvature, beta)
        source = WhiteNoise(sigma**2) if noise == "white" else Reshuffled(batches, sigma**2)
        numeric = stationary_variances(modes, source)
        values = arguments(noise, (eta, curvature, beta, sigma), batches)
        # The flat form cancels where beta is close to 1.
        tolerance = 1e-8 if noise == "reshuffled_flat" else 1e-10
        for quantity, expected in (
            ("weight_variance", numeric.weight),
            ("velocity_variance", numeric.velocity),
            ("correlation_time", numeric.correlation_time),
        ):
            assert function_of(f"{quantity} {noise}")(*values) == pytest.approx(float(expected), rel=tolerance)


@pytest.mark.parametrize(("batches", "eta_lambda", "beta", "weight", "velocity", "time"), PUBLISHED)
def test_reference_table(
    batches: int, eta_lambda: float, beta: float, weight: float, velocity: float, time: float
) -> None:
    given = (0.1, complex(10 * eta_lambda), beta, 3.0, batches)
    # To what the general form is good for in floating point.
    assert function_of("weight_variance reshuffled")(*given) == pytest.approx(0.09 * weight, rel=1e-9)
    assert function_of("velocity_variance reshuffled")(*given) == pytest.approx(0.09 * velocity, rel=1e-9)
    assert function_of("correlation_time reshuffled")(*given) == pytest.approx(time, rel=1e-9)


@pytest.mark.parametrize(
    ("batches", "beta", "weight", "velocity"),
    [
        (10, 0.9, 39.97606605964912, 1.592858525263158),
        (50, 0.9, 515.7003032402977, 3.714441075107803),
        (100, 0.5, 64.71946127946128, 1.306936026936027),
        (1000, 0.9, 16218.09862494073, 5.169274537695),
        (10, 0, 11 / 6, 1),
    ],
)
def test_flat_modes(batches: int, beta: float, weight: float, velocity: float) -> None:
    given = (0.5, beta, 2.0, batches)
    assert function_of("weight_variance reshuffled_flat")(*given) == pytest.approx(weight, rel=1e-11)
    assert function_of("velocity_variance reshuffled_flat")(*given) == pytest.approx(velocity, rel=1e-11)
    assert function_of("correlation_time reshuffled_flat")(*given) == pytest.approx(2 * weight / velocity, rel=1e-11)


def test_general_form_in_high_precision() -> None:
    import mpmath

    with mpmath.workdps(60):
        result = derived("weight_variance reshuffled")
        expression = result.result.subs(dict(zip(result.symbols[2:], (mpmath.mpf(9) / 10, 1, 1000), strict=True)))
        tiny = expression.subs({result.symbols[0]: 1, result.symbols[1]: mpmath.mpf(10) ** -5})
        assert float(tiny.evalf(25)) == pytest.approx(15838.52448993499, rel=1e-15)


def test_known_forms() -> None:
    import sympy

    eta, curvature, beta, sigma, batches = sympy.symbols("eta lambda beta sigma M", positive=True)
    common = (1 - beta) * (2 * (1 + beta) - eta * curvature)
    expected = {
        "weight_variance white": eta * sigma**2 * (1 + beta) / (curvature * common),
        "velocity_variance white": 2 * eta**2 * sigma**2 / common,
        "correlation_time white": (1 + beta) / (eta * curvature),
        "weight_variance reshuffled_1": sympy.Integer(0),
        "velocity_variance reshuffled_1": sympy.Integer(0),
        "weight_variance reshuffled_2": eta**2 * sigma**2 / common,
        "weight_variance reshuffled_3": eta**2 * sigma**2 * (2 * (2 + beta) - eta * curvature) / (3 * common),
        "correlation_time reshuffled_2": 2 / (2 * (1 - beta) + eta * curvature),
    }
    for name, form in expected.items():
        assert sympy.simplify(derived(name).result - form) == 0
    for count in (2, 3):
        given = {batches: count}
        for quantity in ("weight_variance", "velocity_variance", "correlation_time"):
            steep = derived(f"{quantity} reshuffled_{count}").result
            flat = derived(f"{quantity} reshuffled_flat").result.subs(given)
            assert sympy.simplify(steep.subs(curvature, 0) - flat) == 0
            general = derived(f"{quantity} reshuffled").result.subs(given)
            numbers = {eta: sympy.Rational(1, 3), curvature: 2, beta: sympy.Rational(2, 5), sigma: 1}
            assert abs((general - steep).subs(numbers).evalf(30)) < 1e-25
    without_momentum = derived("correlation_time reshuffled_flat").result.subs(beta, 0)
    assert sympy.simplify(without_momentum - (batches + 1) / 3) == 0


@pytest.mark.parametrize("name", derivation_names("weight_variance"))
def test_latex_is_one_complete_block(name: str) -> None:
    result = derived(name)
    assert result.name == name
    text = check_latex(result)
    assert text.count(r"\begin{matrix}") == text.count(r"\end{matrix}") > 0
    assert "True" not in text
    assert "False" not in text


def test_names() -> None:
    assert len(derivation_names("weight_variance")) == 2 * len(NOISES) + len(NOISES_WITH_TIME) == 17
    assert weight_variance("white").name == "weight_variance white"
    assert [str(symbol) for symbol in velocity_variance("reshuffled_flat").symbols] == ["eta", "beta", "sigma", "M"]


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"noise='pink' is not one of those with this derivation: white, reshuffled"):
        weight_variance("pink")
    with pytest.raises(ValueError, match=r"noise='reshuffled_1' is not one of those with a correlation time: white"):
        correlation_time("reshuffled_1")
