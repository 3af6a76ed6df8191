"""Ornstein-Uhlenbeck passages: anchors, parabolic cylinder functions against mpmath, the inverted law.

Anchors are from reference/first_passage.md, section 4.5.
"""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.diffusion_laws import OrnsteinUhlenbeck
from theory.parabolic_cylinder import complex_laplace, complex_survival_integral, passage_transform
from theory.passage_laws import PassageLaw


@pytest.mark.parametrize(
    ("start", "target", "mean", "square", "cv_squared", "laplace", "restarted"),
    [
        (0.0, 1.0, 2.093406649678322, 10.22437920333646, 1.333080638215377, 0.3604531094695993, 1.77428595767001),
        (-1.0, 1.0, 2.995314662331128, 15.66502143207424, 0.7460074343838236, 0.1885734173450602, 4.302974375068754),
        (0.0, 2.0, 10.42840939799595, 214.0269261210286, 0.9680325153370931, 0.06924292735204352, 13.44190819541496),
    ],
)
def test_ornstein_uhlenbeck_anchors(
    start: float, target: float, mean: float, square: float, cv_squared: float, laplace: float, restarted: float
) -> None:
    for sign in (1, -1):
        law = OrnsteinUhlenbeck(start=sign * start, target=sign * target, stiffness=1.0, diffusivity=1.0)
        assert law.mean == pytest.approx(mean, rel=1e-14)
        assert law.moment(2) == pytest.approx(square, rel=1e-14)
        assert law.coefficient_of_variation**2 == pytest.approx(cv_squared, rel=1e-13)
        assert law.laplace(1.0) == pytest.approx(laplace, rel=1e-14)
        assert law.survival_integral(0, 1.0) / law.laplace(1.0) == pytest.approx(
            restarted, rel=1e-14
        )  # under Poisson restart
    other_units = OrnsteinUhlenbeck(start * 3, target * 3, stiffness=0.2, diffusivity=9 * 0.2)
    assert other_units.mean == pytest.approx(mean / 0.2, rel=1e-13)


def test_ornstein_uhlenbeck_to_the_centre() -> None:
    law = OrnsteinUhlenbeck(1.0, 0.0, 1.0, 1.0)
    assert law.mean == pytest.approx(0.9019080126528065, rel=1e-14)
    assert PassageLaw.survival_integral(law) == pytest.approx(0.9019080126528065, rel=1e-12)


def cylinder_ratio(order: Any, start: float, target: float) -> Any:
    """The printed form of T~."""
    y, a = mpmath.mpf(start), mpmath.mpf(target)
    return mpmath.exp((y**2 - a**2) / 4) * mpmath.pcfd(-order, -y) / mpmath.pcfd(-order, -a)


@pytest.mark.parametrize(
    ("order", "start", "target"),
    [
        (1e-9, -1, 1),
        (0.01, -6, -5),
        (0.3, -8, 3),
        (0.999, 0, 1),
        (1.0, 0, 1),
        (5, 3, 3.001),
        (300, 0, 0.5),
        (1e5, 0.1, 0.2),
    ],
)
def test_real_orders(order: float, start: float, target: float) -> None:
    found = passage_transform(order, start, target)
    with mpmath.workdps(50):
        nu, step = mpmath.mpf(order), mpmath.mpf(order) * mpmath.mpf(10) ** -15
        laplace = cylinder_ratio(nu, start, target)
        integral, above, below = ((1 - cylinder_ratio(x, start, target)) / x for x in (nu, nu + step, nu - step))
        age = (below - above) / (2 * step) / integral
    assert found.laplace == pytest.approx(float(laplace), rel=1e-12)
    assert found.survival_integral == pytest.approx(float(integral), rel=1e-12)
    assert found.mean_age == pytest.approx(float(age), rel=1e-12)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.floats(-2, 2.7), st.floats(-1.56, 1.56), st.floats(-3, 4), st.floats(-2, 0.7))
def test_complex_orders(log_size: float, angle: float, target: float, log_distance: float) -> None:
    order = complex(10**log_size * np.exp(1j * angle))
    start = target - 10**log_distance
    with mpmath.workdps(40):
        laplace = cylinder_ratio(mpmath.mpc(order), start, target)
        integral = complex((1 - laplace) / order)
        laplace = complex(laplace)
    found = complex(complex_laplace(np.array([order]), start, target)[0])
    assert abs(found - laplace) <= 1e-12 * abs(laplace)
    assert abs(complex(complex_survival_integral(np.array([order]), start, target)[0]) - integral) <= 1e-12 * abs(
        integral
    )


# ---- Ornstein-Uhlenbeck by inversion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.1, -1.0, 4.0])
def test_inverted_law_agrees_with_the_closed_form_at_the_centre(start: float) -> None:
    closed, inverted = OrnsteinUhlenbeck(start, 0.0, 2.0, 0.7), OrnsteinUhlenbeck(start, 1e-13, 2.0, 0.7)
    t = np.geomspace(1e-4, 4, 8)
    assert np.abs(inverted.survival(t) - closed.survival(t)).max() < 1e-9
    assert np.abs(inverted.density(t) - closed.density(t)).max() < 1e-8 * float(closed.density(t).max())
    assert np.abs(inverted.arrived(t) - closed.arrived(t)).max() < 1e-9
    assert inverted.hazard(t[:4]) == pytest.approx(closed.hazard(t[:4]), abs=1e-5)
    for rate in (0.0, 1.0):
        for upper in (1e-2, 0.5):
            for order, accuracy in ((0, 1e-9), (1, 2e-9), (2, 1e-8)):
                exact = closed.survival_integral(order, rate, upper)
                assert inverted.survival_integral(order, rate, upper) == pytest.approx(exact, rel=accuracy)
    assert (inverted.survival(0.0), inverted.density(0.0), inverted.restricted_mean(0.0)) == (1, 0, 0)
    assert inverted.survival(np.ones((2, 1))).shape == (2, 1)


def test_higher_moments_by_cauchy_agree_with_quadrature() -> None:
    law = OrnsteinUhlenbeck(-1.0, 0.0, 2.0, 0.7)
    for order in (2, 3, 4):
        for rate in (0.0, 0.5, 30.0):
            exact = PassageLaw.survival_integral(law, order, rate)
            assert law.survival_integral(order, rate) == pytest.approx(exact, rel=1e-10)
    # Beyond a barrier times are exponential.
    high = OrnsteinUhlenbeck(0.0, 6.0, 1.0, 1.0)
    assert high.moment(3) == pytest.approx(6 * high.mean**3, rel=1e-6)
    assert high.moment(2) == pytest.approx(2 * high.mean**2, rel=1e-6)


def test_high_barriers_do_not_overflow() -> None:
    law = OrnsteinUhlenbeck(-25.0, 25.0, 1.0, 1.0)
    # Kramers' time and its first correction.
    assert law.mean == pytest.approx(math.sqrt(2 * math.pi) / 25 * math.exp(25**2 / 2) * (1 + 1 / 25**2), rel=1e-5)
    assert law.coefficient_of_variation == pytest.approx(1, rel=1e-9)
    assert OrnsteinUhlenbeck(0.0, 36.9, 1.0, 1.0).mean > 1e290
    assert OrnsteinUhlenbeck(-1e6, -30.0, 1.0, 1.0).mean == pytest.approx(math.log(1e6 / 30), rel=1e-3)
    assert 0 < OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0).laplace(1e5) < 1e-130
