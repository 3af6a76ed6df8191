"""Anchors are from reference/first_passage.md, sections 4.2 to 4.5; the second routes are closed forms and mpmath."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.escape import interval_exit, mean_escape_time, second_moment
from theory.log_quadrature import MOST_PANELS, resolve
from theory.potentials import Potential, double_well, harmonic, linear, logarithmic, trap_with_barrier

EXACT = 1e-10
quad: Any = mpmath.quad


def both(potential: Potential, **arguments: float) -> tuple[float, float]:
    return mean_escape_time(potential, **arguments), second_moment(potential, **arguments)


# ---- Anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("start", "target", "mean", "square"),
    [
        (0, 1, 2.093406649678322, 10.22437920333646),
        (-1, 1, 2.995314662331128, 15.66502143207424),
        (0, 2, 10.42840939799595, 214.0269261210286),
    ],
)
def test_ornstein_uhlenbeck(sign: int, start: float, target: float, mean: float, square: float) -> None:
    found = both(harmonic(), diffusivity=1.0, start=sign * start, target=sign * target)
    assert found == pytest.approx((mean, square), rel=1e-13)
    # The same in other units: lengths times 3 about another centre, times by 1 / 2.
    elsewhere = both(harmonic(2.0, 7.0), diffusivity=18.0, start=7 + 3 * sign * start, target=7 + 3 * sign * target)
    assert elsewhere == pytest.approx((mean / 2, square / 4), rel=1e-12)


def test_ornstein_uhlenbeck_to_its_centre() -> None:
    mean = mean_escape_time(harmonic(), diffusivity=1.0, start=1.0, target=0.0)
    assert mean == pytest.approx(0.9019080126528065, rel=1e-13)


@pytest.mark.parametrize(("drift", "diffusivity", "length"), [(0.5, 2.0, 3.0), (1.0, 1e-3, 1.0), (2.0, 50.0, 0.1)])
def test_drift_diffusion(drift: float, diffusivity: float, length: float) -> None:
    mean, variance = length / drift, 2 * diffusivity * length / drift**3
    found = both(linear(drift), diffusivity=diffusivity, start=0.0, target=length)
    assert found == pytest.approx((mean, mean**2 + variance), rel=1e-11)
    found = both(linear(-drift), diffusivity=diffusivity, start=0.0, target=-length)
    assert found == pytest.approx((mean, mean**2 + variance), rel=1e-11)


@pytest.mark.parametrize("strength", [1.01, 1.1, 2.0, 3.0, 3.01, 3.5, 5.0, 40.0])
def test_logarithmic_potential_to_the_origin(strength: float) -> None:
    found = both(logarithmic(strength), diffusivity=1.0, start=1.3, target=0.0)
    square = 1.3**4 / ((strength - 1) * 4 * (strength - 3)) if strength > 3 else math.inf
    assert found == pytest.approx((1.3**2 / (2 * (strength - 1)), square), rel=1e-12)
    # Not an exact power far out: (3/2) ln(1 + x^2) has the same tail as 3 ln x.
    if strength == 3:
        smooth = both(Potential("1.5*log(1+x**2)"), diffusivity=1.0, start=1.3, target=0.0)
        exact = quad(lambda y: (1 + y * y) ** 1.5 * quad(lambda z: (1 + z * z) ** -1.5, [y, 10, mpmath.inf]), [0, 1.3])
        assert smooth == pytest.approx((float(exact), math.inf), rel=1e-12)


def test_logarithmic_potential_away_from_the_origin() -> None:
    # The origin as it is: not reached, reached and reflecting, or attracting for good.
    def up(strength: float) -> float:
        return mean_escape_time(logarithmic(strength), diffusivity=1.0, start=0.5, target=2.0)

    assert mean_escape_time(logarithmic(3.0), diffusivity=1.0, start=2.0, target=0.5) == pytest.approx(15 / 16)
    assert up(-3.0) == pytest.approx((4 - 0.25) / 8, rel=EXACT)
    assert up(0.5) == pytest.approx(3.75, rel=EXACT)
    assert up(0.99) == pytest.approx(3.75 / 0.02, rel=EXACT)
    assert up(1.5) == math.inf


@pytest.mark.parametrize("strength", [-0.99, -0.9, 0.5])
def test_target_at_the_origin_with_a_wall_above(strength: float) -> None:
    s, wall, start = strength, 2.0, 0.5
    mean = (wall ** (1 - s) * start ** (1 + s) / (1 + s) - start**2 / 2) / (1 - s)
    found = mean_escape_time(logarithmic(s), diffusivity=1.0, start=start, target=0.0, reflecting=wall)
    assert found == pytest.approx(mean, rel=EXACT)


@pytest.mark.parametrize(("start", "diffusivity"), [(0.1, 1.0), (0.25, 2.0), (0.5, 0.1), (0.9, 1.0)])
def test_free_interval(start: float, diffusivity: float) -> None:
    found = interval_exit(linear(0.0), diffusivity=diffusivity, start=start, lower=0.0, upper=1.0)
    assert found.mean == pytest.approx(start * (1 - start) / (2 * diffusivity), rel=1e-12)
    square = start * (1 - 2 * start**2 + start**3) / (12 * diffusivity**2)
    assert found.second_moment == pytest.approx(square, rel=1e-12)
    assert found.upper_probability == pytest.approx(start, rel=1e-12)
    if start == 0.1:
        assert found.second_moment / found.mean**2 - 1 == pytest.approx(3.037037037, rel=1e-9)


@pytest.mark.parametrize("drift", [-30.0, -2.0, 2.0, 400.0])
def test_interval_with_drift(drift: float) -> None:
    found = interval_exit(linear(drift), diffusivity=0.5, start=0.3, lower=0.0, upper=1.0)
    up = math.expm1(-2 * drift * 0.3) / math.expm1(-2 * drift)
    assert found.upper_probability == pytest.approx(up, rel=1e-11)
    assert found.mean == pytest.approx((up - 0.3) / drift, rel=1e-10)


# ---- Identities and other routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("potential", "exponent"),
    [
        (Potential("x**4/4 - x + sin(3*x)"), lambda x: x**4 / 4 - x + mpmath.sin(3 * x)),
        (Potential("abs(x) + 1/(1+x**2)"), lambda x: abs(x) + 1 / (1 + x**2)),
        (Potential("cosh(x) - 2*x**2"), lambda x: mpmath.cosh(x) - 2 * x**2),
    ],
)
def test_against_adaptive_quadrature(potential: Potential, exponent: Callable) -> None:
    def density(z: Any) -> Any:
        return mpmath.exp(-exponent(z) / 0.7)

    breaks = [-40, -10, -6, -4, -3, -2, -1, 0, 0.5, 0.8]
    total = quad(density, breaks[: breaks.index(-1) + 1])

    def inner(y: Any) -> Any:
        return total + quad(density, [-1, *(b for b in (0, 0.5) if b < y), y])

    exact = quad(lambda y: inner(y) / density(y), [-0.9, 0, 0.8]) / 0.7
    found = mean_escape_time(potential, diffusivity=0.7, start=-0.9, target=0.8)
    assert found == pytest.approx(float(exact), rel=1e-11)


@settings(max_examples=40)
@given(st.floats(-1.5, 0.8), st.floats(0.05, 2.0))
def test_means_add_up_and_the_interval_closes(middle: float, diffusivity: float) -> None:
    well = trap_with_barrier()

    def mean(start: float, target: float) -> float:
        return mean_escape_time(well, diffusivity=diffusivity, start=start, target=target)

    assert mean(-1.6, middle) + mean(middle, 0.9) == pytest.approx(mean(-1.6, 0.9), rel=1e-9)
    # To 0.9: leave (-1.6, 0.9), and if that was below, come back up from there.
    found = interval_exit(well, diffusivity=diffusivity, start=middle, lower=-1.6, upper=0.9)
    beyond = (1 - found.upper_probability) * mean(-1.6, 0.9)
    assert found.mean + beyond == pytest.approx(mean(middle, 0.9), rel=1e-8)


def test_a_far_wall_is_none_and_a_near_one_hurries() -> None:
    def mean(reflecting: float | None) -> float:
        return mean_escape_time(harmonic(), diffusivity=1.0, start=0.0, target=1.0, reflecting=reflecting)

    assert mean(-9.0) == pytest.approx(mean(None), rel=1e-12)
    assert mean(0.0) < mean(-1.0) < mean(-2.0) < mean(None)
    assert mean(0.0) == pytest.approx(
        float(quad(lambda y: mpmath.exp(y * y / 2) * quad(lambda z: mpmath.exp(-z * z / 2), [0, y]), [0, 1]))
    )


@pytest.mark.parametrize("barrier", [30, 100, 300, 600])
def test_kramers(barrier: float) -> None:
    # The relative correction is (3/8) D / barrier here; and T is exponential, E[T^2] = 2 E[T]^2.
    mean, square = both(double_well(barrier), diffusivity=1.0, start=-1.0, target=1.0)
    kramers = 2 * math.pi / math.sqrt(8 * barrier * 4 * barrier) * math.exp(barrier)
    assert mean / kramers - 1 == pytest.approx(0.375 / barrier, rel=0.1)
    if barrier < 350:
        assert square == pytest.approx(2 * mean**2, rel=1e-9)
    else:
        assert square == math.inf


@pytest.mark.parametrize(
    ("potential", "start", "target", "reflecting"),
    [
        (linear(-1.0), 0.0, 1.0, None),
        (linear(0.0), 0.0, 1.0, None),
        (Potential("-x**4"), 0.0, 1.0, None),
        (Potential("100*cos(x)"), 0.0, 5.0, None),
        (Potential("exp(x)"), 0.0, 1.0, None),
        (logarithmic(1.0), 1.0, 0.0, None),
        (logarithmic(0.5), 1.0, 0.0, None),
        (logarithmic(-1.0), 1.0, 0.0, 2.0),
        (Potential("1/x", (0.0, math.inf)), 1.0, 0.0, 2.0),
        (double_well(800), -1.0, 1.0, None),
    ],
)
def test_infinite(potential: Potential, start: float, target: float, reflecting: float | None) -> None:
    for function in (mean_escape_time, second_moment):
        assert function(potential, diffusivity=1.0, start=start, target=target, reflecting=reflecting) == math.inf


def test_a_well_far_behind_a_barrier_is_seen() -> None:
    # The runs first fall into the well 30 lengths behind the start; its depth sets the time.
    well = Potential("x**2*(x + 30)**2/100 + x")
    assert mean_escape_time(well, diffusivity=2.0, start=0.0, target=0.1) > 1e4
    assert mean_escape_time(harmonic(1.0, -100.0), diffusivity=300.0, start=0.0, target=1e-3) > 1e3


def test_nothing_to_do() -> None:
    assert both(harmonic(), diffusivity=1.0, start=0.5, target=0.5) == (0, 0)
    assert interval_exit(harmonic(), diffusivity=1.0, start=1.0, lower=0.0, upper=1.0).upper_probability == 1
    assert interval_exit(harmonic(), diffusivity=1.0, start=0.0, lower=0.0, upper=1.0).mean == 0


def test_panels_resolve_what_they_integrate() -> None:
    mesh = resolve(lambda x: 40 * np.sin(5 * x), np.linspace(0.0, 4.0, 3))
    up, down = mesh.integral_up_to(mesh.heights), mesh.integral_from(mesh.heights)
    with mpmath.workdps(30):
        exact = mpmath.log(quad(lambda x: mpmath.exp(40 * mpmath.sin(5 * x)), mpmath.linspace(0, 4, 41)))
    assert up.edges[-1] == pytest.approx(float(exact), rel=1e-13)
    assert np.logaddexp(up.nodes, down.nodes) == pytest.approx(float(exact), rel=1e-13)


WELL = harmonic()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: both(WELL, diffusivity=0.0, start=0, target=1), r"diffusivity=0\.0 must be finite and > 0"),
        (lambda: both(WELL, diffusivity=1.0, start=0, target=math.inf), r"start=0\.0 and target=inf must be finite"),
        (lambda: both(logarithmic(), diffusivity=1.0, start=-1, target=1), r"in the domain 0\.0 < x < inf"),
        (lambda: both(logarithmic(), diffusivity=1.0, start=0, target=1), r"in the domain 0\.0 < x < inf"),
        (lambda: both(WELL, diffusivity=1.0, start=0, target=1, reflecting=0.5), r"reflecting=0\.5 must lie inside"),
        (lambda: both(WELL, diffusivity=1.0, start=0, target=-1, reflecting=-0.5), r"away from target=-1"),
        (
            lambda: both(logarithmic(), diffusivity=1.0, start=1, target=2, reflecting=0),
            r"reflecting=0 must lie inside",
        ),
        (
            lambda: both(Potential("1/x**2"), diffusivity=1.0, start=-1, target=1, reflecting=-2),
            rf"U/D varies too much for {MOST_PANELS} panels",
        ),
        (
            lambda: both(Potential("log(x)"), diffusivity=1.0, start=1, target=2),
            r"U of the potential log\(x\) is -?\w+ at x=-?\d",
        ),
        (lambda: both(linear(1.0), diffusivity=1e-9, start=0, target=1), r"U/D varies too much .* larger diffusivity"),
        (lambda: resolve(np.sign, np.array([-1.0, 0.1, 1.0])), r"U has a jump or a pole near x=-?\d"),
        (lambda: resolve(lambda x: np.where(x > 0, np.inf, 0), np.array([-1.0, 1.0])), r"U is infinite at x=0\.0"),
        (
            lambda: interval_exit(WELL, diffusivity=1.0, start=2.0, lower=0.0, upper=1.0),
            r"start=2\.0 must lie between lower=0\.0 and upper=1\.0",
        ),
        (
            lambda: interval_exit(logarithmic(), diffusivity=1.0, start=0.5, lower=0.0, upper=1.0),
            r"x=0\.0 is outside the domain",
        ),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
