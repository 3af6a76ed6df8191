"""Anchors are from reference/first_passage.md, section 4.8; densities are held against sums with 80 digits."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from sim.random_streams import stream
from theory.estimate import agreement
from theory.fokker_planck import grid_chain, refine
from theory.partial_resetting import (
    characteristic_function,
    density,
    fourth_moment,
    perturbed_variance,
    variance,
)
from theory.potentials import harmonic

EXACT = 1e-10
UNIT = {"rate": 1.0, "diffusivity": 1.0}


def exact_density(x: float, fraction: float) -> float:
    with mpmath.workdps(80):
        a, total, j = mpmath.mpf(fraction), mpmath.mpf(0), 0
        weight = 1 / mpmath.qp(a * a)
        while j < 4 or abs(weight / a**j) > mpmath.mpf(10) ** -40:
            total += weight * mpmath.exp(-mpmath.mpf(x) / a**j) / (2 * a**j)
            j += 1
            weight *= a ** (2 * j) / (a ** (2 * j) - 1)
        return float(total)


def test_moments() -> None:
    assert variance(fraction=0.5, **UNIT) == pytest.approx(8 / 3, rel=1e-14)
    assert fourth_moment(fraction=0.5, **UNIT) == pytest.approx(34.1333333333, rel=1e-11)
    # Full resetting: a Laplace law; units: lengths go with sqrt(D / r).
    assert fourth_moment(fraction=0.0, **UNIT) == 24
    assert variance(fraction=0.3, rate=4.0, diffusivity=9.0) == pytest.approx(9 / 4 * variance(fraction=0.3, **UNIT))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_characteristic_function_obeys_its_equation(fraction: float) -> None:
    # Stationary: D q^2 p(q) = r (p(a q) - p(q)).
    q = np.array([0.0, 1e-3, 0.04, 0.7, 3.0, 20.0])
    parameters = {"fraction": fraction, "rate": 2.0, "diffusivity": 3.0}
    left = (3 * q**2 + 2) * characteristic_function(q, **parameters)
    assert left == pytest.approx(2 * characteristic_function(fraction * q, **parameters), rel=1e-11)
    # 1 - variance q^2 / 2 + fourth moment q^4 / 24
    small = 1e-2 * math.sqrt(1 - fraction)
    series = 1 - variance(**parameters) * small**2 / 2 + fourth_moment(**parameters) * small**4 / 24
    assert characteristic_function(small, **parameters) == pytest.approx(series, abs=1e-9)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.81, 0.9, 0.97])
def test_density(fraction: float) -> None:
    x = [0.0, 0.3, 2.0, 10.0, 30.0]
    exact = np.array([exact_density(value, fraction) for value in x])
    found = density(x, fraction=fraction, **UNIT)
    assert found == pytest.approx(exact, abs=2e-14 * exact[0])
    if fraction <= 0.8:
        assert found == pytest.approx(exact, rel=1e-12)
    assert density([[-2.0], [2.0]], fraction=fraction, **UNIT) == pytest.approx(found[2], rel=1e-13)
    assert density(6.0, fraction=fraction, rate=1.0, diffusivity=9.0) == pytest.approx(found[2] / 3, rel=1e-12)


@pytest.mark.parametrize("fraction", [1e-300, 1e-9, 0.6, 0.99])
def test_density_has_the_moments(fraction: float) -> None:
    deviation = math.sqrt(variance(fraction=fraction, **UNIT))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    # Squared, so that nodes are dense at the cusp.
    t = (nodes + 1) / 2
    x, weights = 40 * deviation * t**2, weights * 40 * deviation * t
    law = density(x, fraction=fraction, **UNIT)
    assert 2 * weights @ law == pytest.approx(1, rel=1e-7)
    assert 2 * weights @ (law * x**2) == pytest.approx(deviation**2, rel=EXACT)
    assert 2 * weights @ (law * x**4) == pytest.approx(fourth_moment(fraction=fraction, **UNIT), rel=EXACT)


def test_density_against_a_simulation(seed: int) -> None:
    # x = a x' + the path since the last reset: exponential time, so sqrt(2 D t) xi; 60 resets forget the start.
    rng = stream(seed, "partial resetting")
    x = np.zeros(100_000)
    for _ in range(60):
        x = 0.5 * x + np.sqrt(2 * rng.exponential(size=x.size)) * rng.standard_normal(x.size)
    inside = np.abs(x) < 1
    edges = np.linspace(0, 1, 2001)
    law = density((edges[1:] + edges[:-1]) / 2, fraction=0.5, **UNIT)
    probability = 2 * law.mean()
    assert agreement(inside, probability, detects=0.05)
    assert agreement(x**2, variance(fraction=0.5, **UNIT), detects=0.1)
    # Resetting a x with 1 - a in place of a, and a Gaussian of the right variance
    assert not agreement(x**2, variance(fraction=0.6, **UNIT))
    assert not agreement(inside, math.erf(1 / math.sqrt(2 * 8 / 3)))


# ---- Shrink-and-perturb of an Ornstein-Uhlenbeck process -------------------------------------------------------------


def test_perturbed_variance() -> None:
    law = perturbed_variance(stiffness=1.0, diffusivity=1.0, interval=0.5, shrink=0.4, perturb=0.1)
    assert law.before == pytest.approx(0.6755635009533167, rel=1e-14)
    # A fixed point: relaxation towards D / k takes it back.
    decay = math.exp(-1)
    assert decay * law.after + (1 - decay) == pytest.approx(law.before, rel=1e-14)


def test_perturbed_variance_in_its_limits() -> None:
    def law(stiffness: float = 1.0, interval: float = 0.5, shrink: float = 0.4, perturb: float = 0.1) -> float:
        return perturbed_variance(
            stiffness=stiffness, diffusivity=1.0, interval=interval, shrink=shrink, perturb=perturb
        ).before

    assert law(interval=50.0) == pytest.approx(1, rel=1e-14)  # equilibrium: D / k
    assert law(interval=1e-12) == pytest.approx(0.01 / (1 - 0.16), rel=1e-9)  # perturbations alone
    assert law(shrink=1.0, perturb=0.0) == pytest.approx(1, rel=1e-14)
    assert law(stiffness=0.0) == pytest.approx(law(stiffness=1e-9), rel=1e-8)
    assert law(stiffness=0.0) == pytest.approx((2 * 0.5 + 0.01) / (1 - 0.16), rel=1e-14)
    assert law(shrink=-0.4) == law()
    assert law(stiffness=-1.0) > law(stiffness=0.0)
    assert law(stiffness=-2.0, interval=0.5, shrink=0.4) == math.inf  # 0.4 e > 1
    assert law(stiffness=0.0, shrink=1.0) == math.inf
    assert law(stiffness=-2.0, shrink=0.0) == pytest.approx(math.expm1(2) / 2 + 0.01 * math.exp(2), rel=1e-14)


def test_perturbed_variance_on_a_grid() -> None:
    def before(cells: int) -> float:
        grid = grid_chain(
            harmonic(),
            diffusivity=1.0,
            epoch=0.5,
            limits=(-6.0, 7.0),
            cells=cells,
            initial_mean=0.0,
            initial_deviation=1.0,
            target=6.9,  # nobody arrives
        )
        kick, law = grid.shrink_and_perturb(0.4, 0.1), grid.chain.initial
        for _ in range(30):
            law = law @ grid.chain.transient @ kick
        law = law @ grid.chain.transient
        return float(law @ grid.centres**2 / law.sum())

    assert refine(before, 130).extrapolated == pytest.approx(0.6755635009533167, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance(fraction=1.0, **UNIT), r"fraction=1\.0 must be in \[0, 1\); at 1 nothing is reset"),
        (lambda: fourth_moment(fraction=-0.1, **UNIT), r"fraction=-0\.1 must be in \[0, 1\)"),
        (lambda: density(0.0, fraction=0.5, rate=0.0, diffusivity=1.0), r"rate=0\.0 must be finite and > 0"),
        (lambda: density(math.nan, fraction=0.5, **UNIT), r"x has an entry nan"),
        (
            lambda: characteristic_function(1.0, fraction=0.5, rate=1.0, diffusivity=math.inf),
            r"diffusivity=inf must be finite and > 0",
        ),
        (
            lambda: perturbed_variance(stiffness=1.0, diffusivity=-1.0, interval=1.0, shrink=0.5, perturb=0.1),
            r"diffusivity=-1\.0 must be finite and >= 0",
        ),
        (
            lambda: perturbed_variance(stiffness=1.0, diffusivity=1.0, interval=0.0, shrink=0.5, perturb=0.1),
            r"interval=0\.0 must be finite and > 0",
        ),
        (
            lambda: perturbed_variance(stiffness=math.nan, diffusivity=1.0, interval=1.0, shrink=0.5, perturb=0.1),
            r"stiffness=nan and shrink=0\.5 must be finite",
        ),
        (
            lambda: perturbed_variance(stiffness=-1.0, diffusivity=1.0, interval=999.0, shrink=0.0, perturb=0.1),
            r"stiffness \* interval = -999\.0 must be above -350",
        ),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
