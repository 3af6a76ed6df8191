"""Anchors are from the derivations in reference/first_passage.md, checked there by a second route."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from theory import continuous_chain
from theory.continuous_chain import ContinuousChain, poisson_mean
from theory.toy_chains import rational_chain

KICK = rational_chain().perturbation
CONTINUOUS = ContinuousChain(
    np.array([[-2.0, 1.5, 0.3], [0.2, -1.0, 0.5], [0.05, 0.0, -0.15]]), np.array([1.0, 0.0, 0.0])
)
EXACT = 1e-10


def test_continuous_moments() -> None:
    for order, value in enumerate([7.037037037037, 119.250114311843, 3144.676455147421], start=1):
        assert continuous_chain.moment(CONTINUOUS, order) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("rate", "mean"), [(0, 7.037037037037), (0.1, 6.232686980609), (1, 4.615384615385)])
def test_poisson_mean(rate: float, mean: float) -> None:
    assert poisson_mean(CONTINUOUS, KICK, rate) == pytest.approx(mean, rel=1e-12)


def test_poisson_mean_has_the_linear_response_of_its_moments() -> None:
    # Derivative at r = 0 by Richardson extrapolation, against E[T] taubar - E[T^2] / 2.
    def slope(kernel: np.ndarray) -> float:
        def quotient(rate: float) -> float:
            return (poisson_mean(CONTINUOUS, kernel, rate) - poisson_mean(CONTINUOUS, kernel, 0)) / rate

        return 2 * quotient(5e-6) - quotient(1e-5)

    assert slope(KICK) == pytest.approx(-10.653863740283, rel=1e-6)
    assert slope(np.tile(CONTINUOUS.initial, (3, 1))) == pytest.approx(-10.105166895290, rel=1e-6)


def test_periodic_mean_in_continuous_time() -> None:
    def mean(interval: float) -> float:
        return continuous_chain.periodic_mean(CONTINUOUS, KICK, interval)

    assert mean(1) == pytest.approx(4.304267922260, rel=1e-12)
    assert mean(5) == pytest.approx(5.656650205436, rel=1e-12)
    unperturbed = continuous_chain.moment(CONTINUOUS, 1)
    assert mean(20) - unperturbed == pytest.approx(-0.1624405053, abs=1e-10)
    assert mean(60) - unperturbed == pytest.approx(-0.0016309075, abs=1e-10)
    assert mean(1e-7) == pytest.approx(poisson_mean(CONTINUOUS, KICK, 1e7), rel=1e-5)


@pytest.mark.parametrize("interval", [1e-3, 0.7, 30.0])
def test_propagator_against_scipy(interval: float) -> None:
    from scipy.linalg import expm

    propagator, duration, exits = continuous_chain._stretch(CONTINUOUS, interval)
    assert propagator == pytest.approx(expm(CONTINUOUS.generator * interval), rel=1e-12)
    assert exits == pytest.approx(1 - propagator.sum(axis=1), rel=1e-11)
    solved = np.linalg.solve(-CONTINUOUS.generator, 1 - propagator.sum(axis=1))
    assert duration == pytest.approx(solved, rel=1e-9)


def test_continuous_chain_that_never_arrives() -> None:
    stuck = ContinuousChain(np.array([[-1.0, 0.5], [0.0, 0.0]]), np.array([1.0, 0.0]))
    assert continuous_chain.moment(stuck, 1) == math.inf
    assert continuous_chain.periodic_mean(stuck, np.eye(2), 2.0) == math.inf
    # E_0 = 1 + E_1 / 2 and E_1 = 1 + E_0, both rates of leaving being 1
    assert poisson_mean(stuck, np.eye(2)[[0, 0]], 1.0) == pytest.approx(3, rel=EXACT)


E1 = np.array([1.0, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ContinuousChain(np.ones((2, 3)), E1), r"generator has shape \(2, 3\); it must be a square matrix"),
        (lambda: ContinuousChain(np.array([[-1, -0.5], [0, -1]]), E1), r"generator has a rate -0\.5; off the diagonal"),
        (lambda: ContinuousChain(np.array([[-1, 1.5], [0, -1]]), E1), r"row that sums to 0\.5; <= 0 is needed"),
        (lambda: poisson_mean(CONTINUOUS, KICK, -1), r"rate=-1 must be finite and >= 0"),
        (lambda: continuous_chain.periodic_mean(CONTINUOUS, KICK, 0), r"interval=0 must be finite and > 0"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
