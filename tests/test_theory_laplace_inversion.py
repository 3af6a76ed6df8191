"""Pairs of functions and transforms that are known in closed form, and the refusal of what is not smooth."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from theory.laplace_inversion import invert

TIMES = np.geomspace(1e-8, 30, 40)


def gamma_survival(shape: float) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.special import gammaincc

    return lambda t: gammaincc(shape, shape * t)


def brownian_survival(t: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(0.5 / np.sqrt(t))


@pytest.mark.parametrize(
    ("transform", "function"),
    [
        (lambda s: 1 / (s + 1), lambda t: np.exp(-t)),
        (lambda s: s / (s**2 + 1), np.cos),
        (lambda s: -np.expm1(-np.sqrt(s)) / s, brownian_survival),
        (lambda s: np.exp(-np.sqrt(s)), lambda t: np.exp(-0.25 / t) / np.sqrt(4 * math.pi * t**3)),
        (lambda s: -np.expm1(-50 * np.log1p(s / 50)) / s, gamma_survival(50)),
        (lambda s: -np.expm1(-1000 * np.log1p(s / 1000)) / s, gamma_survival(1000)),
    ],
)
def test_absolute_accuracy(
    transform: Callable[[np.ndarray], np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert np.abs(invert(transform, TIMES) - function(TIMES)).max() < 1e-9


def test_accuracy_is_that_of_the_functions_own_size() -> None:
    for size in (1e-200, 1e200):
        found = invert(lambda s, size=size: size / (s + 1), TIMES)
        assert np.abs(found / size - np.exp(-TIMES)).max() < 1e-9
    assert invert(lambda s: 1 / s**2, TIMES) == pytest.approx(TIMES, rel=1e-9)


def test_scale_of_time_does_not_matter() -> None:
    for scale in (1e-12, 1.0, 1e12):
        found = invert(lambda s, scale=scale: scale / (s * scale + 1), TIMES * scale)
        assert np.abs(found - np.exp(-TIMES)).max() < 1e-9


def test_keeps_the_shape() -> None:
    assert invert(lambda s: 1 / (s + 1), np.ones((2, 3))).shape == (2, 3)
    assert np.shape(invert(lambda s: 1 / (s + 1), 1.0)) == ()
    assert invert(lambda s: 1 / (s + 1), np.empty(0)).shape == (0,)


def test_narrow_features_get_more_terms() -> None:
    evaluated = []

    def transform(s: np.ndarray) -> np.ndarray:
        evaluated.append(s.shape[1])
        return -np.expm1(-1000 * np.log1p(s / 1000)) / s

    invert(transform, [1.0])
    assert max(evaluated) > 2 * min(evaluated)


def test_refuses_jumps_and_times() -> None:
    with pytest.raises(ValueError, match=r"inverse transform at t=1\.0 does not settle with 4096 terms: .* smooth"):
        invert(lambda s: np.exp(-s) / s, [0.5, 1.0])
    for time in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"times={time} must be finite and > 0"):
            invert(lambda s: 1 / s, [1.0, time])
