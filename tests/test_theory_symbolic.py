"""Every symbolic result against the numeric code at random parameters, and its LaTeX against the simplest mistakes."""

import functools
import math

import numpy as np
import pytest

from tests.derivation_checks import check_latex
from theory import linear_response, symbolic
from theory.derivations import derivation_names, derive
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval
from theory.enzyme_turnover import michaelis_menten
from theory.heavy_tailed_times import Weibull
from theory.optimal_restart import optimal_rate
from theory.passage_laws import Deterministic, PassageLaw
from theory.resetting import Restarted
from theory.waiting_times import Exponential, Gamma, Hyperexponential, erlang

EXACT = 1e-10
derived = functools.cache(derive)  # each takes up to seconds


def random_law(name: str, rng: np.random.Generator) -> tuple[PassageLaw, list[float]]:
    """A law and its parameters in the order of the symbols."""
    a, b, c = (float(x) for x in rng.uniform(0.5, 2, size=3))
    p = float(rng.uniform(0.2, 0.8))
    return {
        "brownian": lambda: (Brownian(a, b), [a, b]),
        "drift_diffusion": lambda: (DriftDiffusion(a, b, c), [a, b, c]),
        "interval": lambda: (Interval(a, p * a, c), [a, p * a, c]),
        "exponential": lambda: (Exponential(a), [a]),
        "gamma": lambda: (Gamma(a, b), [a, b]),
        "erlang_2": lambda: (erlang(2, a), [a]),
        "hyperexponential": lambda: (Hyperexponential((p, 1 - p), (a, b)), [p, a, b]),
        "weibull_half": lambda: (Weibull(0.5, a), [a]),
    }[name]()


CASES = [(name, law) for name, _, law in (full.partition(" ") for full in derivation_names("restart")) if law]


@pytest.mark.parametrize(("name", "law"), CASES)
def test_function_is_the_numeric_code(name: str, law: str) -> None:
    rng = np.random.default_rng(7)
    result = derived(f"{name} {law}")
    function = result.function()
    for _ in range(8):
        passage, parameters = random_law(law, rng)
        rate = float(rng.uniform(0.5, 3))
        poisson = Restarted(passage, Exponential(rate))
        if name == "poisson_mean":
            value, expected = function(*parameters, rate), poisson.mean
        elif name == "poisson_second_moment":
            value, expected = function(*parameters, rate), poisson.moment(2)
        elif name == "poisson_optimum":  # (D_0^2 - D_1) / T~^2, see theory.optimal_restart
            d0, d1 = passage.survival_integral(0, rate), passage.survival_integral(1, rate)
            value, expected = function(*parameters, rate), (d0**2 - d1) / passage.laplace(rate) ** 2
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-12 * poisson.moment(2))
            continue
        elif name == "poisson_slope":
            value = function(*parameters)
            expected = linear_response.poisson_slope(passage.mean, passage.moment(2), passage.mean)
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-12 * passage.moment(2))
            continue
        elif name == "sharp_mean":
            value, expected = function(*parameters, rate), Restarted(passage, Deterministic(rate)).mean
        elif name == "michaelis_menten":
            value = function(*parameters, 0.7, rate)
            expected = michaelis_menten(0.7, passage, Exponential(rate))
        else:
            assert name == "scaled_optimum"
            return
        assert value == pytest.approx(expected, rel=EXACT)


def test_scaled_optima_vanish_at_the_best_rates() -> None:
    z = 1.59362426004004009
    assert derived("scaled_optimum brownian").function()(z) == pytest.approx(0, abs=1e-14)
    assert derived("scaled_optimum brownian").function()(1.5) == pytest.approx(0.75 - 1 + math.exp(-1.5), rel=1e-13)
    condition = derived("scaled_optimum drift_diffusion").function()
    for peclet, y in ((-0.5, 1.95628765889609269), (0.25, 1.42795103000375774), (0.9, 1.05093961383653814)):
        assert condition(peclet, y) == pytest.approx(0, abs=1e-14)
        rate = optimal_rate(DriftDiffusion(1.0, 2 * peclet, 1.0)).value
        assert condition(peclet, math.sqrt(peclet**2 + rate)) == pytest.approx(0, abs=1e-11)
        assert abs(condition(peclet, 1.01 * y)) > 1e-5


def test_linear_response_and_its_inverse() -> None:
    rng = np.random.default_rng(3)
    for mean, rest, slope in rng.uniform(0.5, 2, size=(20, 3)):
        square = 2 * mean**2
        forward = linear_response.poisson_slope(mean, square, rest)
        assert derived("linear_response").function()(mean, square, rest) == pytest.approx(forward, rel=EXACT, abs=1e-14)
        small = slope - 2  # so that a law with such moments exists
        back = linear_response.cv_squared_from_slope(mean, rest + mean, small)
        assert derived("inverse_response").function()(mean, rest + mean, small) == pytest.approx(back, rel=EXACT)


def test_known_forms() -> None:
    assert str(derived("poisson_mean brownian").result) == "(exp(L*sqrt(r)/sqrt(D)) - 1)/r"
    assert str(derived("poisson_mean exponential").result) == "1/k"
    assert str(derived("poisson_slope exponential").result) == "0"
    assert str(derived("poisson_optimum exponential").result) == "0"
    import sympy

    tau, k_off, k = sympy.symbols("tau_on k_off k", positive=True)
    assert sympy.simplify(derived("michaelis_menten exponential").result - (tau * (1 + k_off / k) + 1 / k)) == 0
    u, length, d = sympy.symbols("u ell D", positive=True)
    start = sympy.Symbol("x_0", positive=True)
    slope = derived("poisson_slope interval").result.subs(start, u * length)
    mean, square = u * (1 - u) * length**2 / (2 * d), length**4 / (12 * d**2) * u * (1 - 2 * u**2 + u**3)
    assert sympy.simplify(slope - (mean**2 - square / 2)) == 0


@pytest.mark.parametrize("name", derivation_names("restart"))
def test_latex_is_one_complete_block(name: str) -> None:
    result = derived(name)
    assert result.name == name
    lines = check_latex(result).split("\n")[1:-2]
    assert all(line.count("&") == 1 for line in lines)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"law='levy' is not one of those with this derivation: brownian, drift_di"):
        symbolic.poisson_mean("levy")
    with pytest.raises(ValueError, match=r"law='brownian' is not one of .*: drift_diffusion, interval"):
        symbolic.poisson_slope("brownian")
    with pytest.raises(ValueError, match=r"name='nothing' is not a derivation; derivation_names\(\) lists them"):
        derive("nothing")
    with pytest.raises(ValueError, match="subject='escape' must be one of restart, weight_variance"):
        derivation_names("escape")
