"""What the theory of SGD refuses, with the argument's name and its range: numbers that are none, and extremes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from theory.absorbing import whole_number
from theory.effective_temperature import lag_temperature, response, spectral_temperature, susceptibility
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    TabulatedNoise,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import number, real_numbers, reduced_angle
from theory.state_dependent_noise import residual_noise, state_dependent_fraction, state_dependent_variances
from theory.weight_covariance import stationary_covariance
from theory.weight_variance import squared_displacements, stationary_variances
from theory.weight_variance_limits import crossover_function
from theory.weight_variance_spectrum import variances_from_spectrum
from theory.widening_valley import (
    Valley,
    anti_pgd_floor,
    anti_pgd_flow,
    anti_pgd_moments,
    pgd_flow,
    pgd_moments,
    sharpness_flow,
)

MODES = HeavyBall(0.1, 1.0, 0.5)
VALLEY = Valley(3, 0.1)
NOISES: list[GradientNoise] = [
    WhiteNoise(),
    AntiCorrelatedIncrements(),
    Reshuffled(5),
    ReshuffledEvery(5, 3),
    ShuffledOnce(5),
    Persistent(0.5),
    TabulatedNoise([1.0, 0.3]),
    Reshuffled(5) + WhiteNoise(),
]
anything: Any = lambda value: value  # noqa: E731 - arguments of the wrong type, on purpose


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeavyBall(anything("0.1"), 1.0), "learning_rate='0.1' must be a number"),
        (lambda: HeavyBall(anything(np.array([0.1, 0.2])), 1.0), r"learning_rate=array\(.*\) must be a number"),
        (lambda: HeavyBall(10**400, 1.0), "learning_rate=1000.* must be finite and > 0"),
        (lambda: HeavyBall(1e300, 1e300), r"learning_rate=1e\+300 must lie between 1e-100 and 1e\+100"),
        (lambda: HeavyBall(1e-200, 1.0), "learning_rate=1e-200 must lie between"),
        (lambda: HeavyBall(1e90, 1e300), "must be < 2"),
        (lambda: HeavyBall(0.1, 1.0, anything("0.5")), "momentum='0.5' must be a number"),
        (lambda: HeavyBall(0.1, 1.0, anything(None)), "momentum=None must be a number"),
        (lambda: HeavyBall(0.1, anything("a")), "curvature='a' must be real numbers"),
        (lambda: HeavyBall(0.1, anything(1 + 0j)), r"curvature=\(1\+0j\) must be real numbers"),
        (lambda: HeavyBall(0.1, anything(None)), "curvature=None must be real numbers"),
        (lambda: HeavyBall(0.1, anything([[1.0], [1.0, 2.0]])), "curvature=.* must be real numbers"),
        (lambda: WhiteNoise(anything("1")), "variance='1' must be a number"),
        (lambda: WhiteNoise(anything([1.0, 2.0])), r"variance=\[1.0, 2.0\] must be a number"),
        (lambda: WhiteNoise(10**400), "variance=1000.* must be finite"),
        (lambda: WhiteNoise(1e100), r"variance=1e\+100 must be at most 1e\+80; change the units"),
        (lambda: WhiteNoise() * anything("a"), "factor='a' must be a number"),
        (lambda: Persistent(anything("0.5")), "correlation='0.5' must be a number"),
        (lambda: Persistent(math.nan), "correlation=nan must satisfy"),
        (lambda: AntiCorrelatedIncrements.of_weights(1e200, 0.1), r"standard_deviation=1e\+200 must be 0 or lie"),
        (lambda: TabulatedNoise(anything(["a"])), r"values=\['a'\] must be real numbers"),
        (lambda: WhiteNoise().autocovariance(np.int64(-(2**63))), "lags=-9223372036854775808 must be >= -10000"),
        (lambda: Reshuffled(5).autocovariance(np.uint64(2**63 + 5)), "lags=9223372036854775813 must be at most 1e"),
        (lambda: WhiteNoise().autocovariance(10**30), "lags of type object must be whole numbers"),
        (lambda: squared_displacements(MODES, WhiteNoise(), anything(math.inf)), "updates=inf must be a whole number"),
        (lambda: stationary_variances(MODES, WhiteNoise()).scaled(anything("a")), "factor='a' must be real numbers"),
        (lambda: crossover_function(anything("a")), "scaled_curvature='a' must be real numbers"),
        (lambda: variances_from_spectrum(MODES, WhiteNoise().spectrum, tolerance=math.nan), "tolerance=nan must be >"),
        (
            lambda: stationary_covariance(anything([["a"]]), [[1.0]], WhiteNoise(), 0.1),
            "hessian=.* must be real numbers",
        ),
        (lambda: residual_noise(np.empty((0, 3)), np.ones(3), 1), r"inputs of shape \(0, 3\) must be finite numbers"),
        (lambda: residual_noise(np.eye(4), np.ones(4), anything(2.5)), "batch_size=2.5 must be a whole number"),
        (lambda: state_dependent_fraction(anything("1"), 1.0), "excess_loss='1' must be a number"),
        (lambda: state_dependent_variances(MODES, 50, 1.0, anything("a")), "residual='a' must be real numbers"),
        (lambda: lag_temperature(MODES, WhiteNoise(), [0]), "lags=0 must be >= 1"),
        (lambda: Valley(anything("3"), 0.1), "dimension='3' must be a whole number >= 1"),
        (lambda: Valley(3, 1e300), r"learning_rate=1e\+300 must lie between"),
        (lambda: pgd_moments(VALLEY, anything([0.1, 0.2]), 1.0, 2), r"noise_scale=\[0.1, 0.2\] must be a number"),
        (lambda: pgd_moments(VALLEY, 0.1, anything("a"), 2), "sharpness='a' must be a number"),
        (lambda: anti_pgd_moments(VALLEY, 1e80, 1.0, 3), r"=1e\+80 must be 0 or lie between 1e-40 and 1e\+40"),
        (lambda: anti_pgd_moments(VALLEY, 1e39, 1.0, 3), "the moments diverge at step 2"),
        (lambda: anti_pgd_moments(VALLEY, 0.1, 1.0, 3, law=anything(["gaussian"])), "law=.* must be one of gaussian"),
        (lambda: anti_pgd_floor(VALLEY, 1e-90), "noise_scale=1e-90 must be 0 or lie between"),
        (lambda: anti_pgd_floor(VALLEY, 1e39), "is too strong for a fixed point"),
        (lambda: anti_pgd_floor(VALLEY, 0.0), "noise_scale=0.0 must be > 0: without noise"),
        (lambda: pgd_flow(VALLEY, 1e200, 1.0, [1]), r"noise_scale=1e\+200 must be 0 or lie between"),
        (lambda: pgd_flow(VALLEY, 0.1, anything([1.0, 2.0]), [1]), r"sharpness=\[1.0, 2.0\] must be a number"),
        (lambda: sharpness_flow(VALLEY, WhiteNoise(), 1.0, anything(["a"])), r"steps=\['a'\] must be real numbers"),
    ],
)  # fmt: skip
def test_arguments_are_named_with_their_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 2.5, "3", "abc", None, [3], np.array([3, 4]), 1j])
def test_whole_numbers_name_their_argument(value: Any) -> None:
    with pytest.raises(ValueError, match=r"epochs=.* must be a whole number >= 1"):
        whole_number("epochs", value, 1)


def test_whole_numbers_become_ints() -> None:
    for value in (3, 3.0, np.int8(3), np.float64(3), np.array(3)):
        result = whole_number("epochs", value, 1)  # pyright: ignore[reportArgumentType]
        assert (result, type(result)) == (3, int)


@pytest.mark.parametrize("frequency", ["a", [0.1, math.nan], math.inf, None, 1j])
def test_frequencies_are_finite_numbers_everywhere(frequency: Any) -> None:
    functions: list[Callable[[Any], object]] = [noise.spectrum for noise in NOISES]
    functions += [MODES.transfer_function, MODES.power_gain, lambda omega: susceptibility(MODES, omega)]
    functions += [lambda omega: spectral_temperature(MODES, WhiteNoise(), omega)]
    for function in functions:
        with pytest.raises(ValueError, match=r"frequency=.* must be (finite|real numbers)"):
            function(frequency)


@pytest.mark.parametrize("noise", NOISES)
def test_empty_lists_and_large_frequencies(noise: GradientNoise) -> None:
    assert noise.autocovariance([]).shape == noise.spectrum([]).shape == (0,)
    assert lag_temperature(MODES, noise, []).shape == response(MODES, []).shape == (0,)
    assert np.isfinite(noise.spectrum([1e300, -1.7e308])).all()
    assert noise.spectrum(math.tau * 3 + 0.4) == pytest.approx(noise.spectrum(0.4), rel=1e-12)


def test_numbers() -> None:
    assert number("x", np.array(2)) == number("x", np.float32(2)) == 2.0
    assert number("x", -(10**400)) == -math.inf
    assert real_numbers("x", [10**30, 1]).tolist() == [1e30, 1.0]
    assert HeavyBall(1e-50, 10**30).contraction == pytest.approx(1e-20)
    assert reduced_angle([1e-300, 7.0, -4.0]) == pytest.approx([1e-300, 7 - math.tau, math.tau - 4], rel=1e-14)


def test_extremes_give_numbers() -> None:
    assert crossover_function(1e300) == 1.0
    for rate in (1e-100, 1e100):
        modes = HeavyBall(rate, [0.0, 0.5 / rate], 0.5)
        for noise in (Reshuffled(5, 1e80), Reshuffled(5, 1e-80), Persistent(0.5, 1e80), ShuffledOnce(5)):
            result = stationary_variances(modes, noise)
            assert np.isfinite(result.velocity).all()
            assert np.isfinite(result.weight[1])
    assert pgd_flow(VALLEY, 0.1, 1.0, 1e300) == pytest.approx(VALLEY.pgd_saturation)
    assert anti_pgd_flow(VALLEY, 0.1, 1.0, 1e300) == 0
    assert np.isfinite(pgd_flow(Valley(10**5, 1e100), 1e40, 1e-300, [0, 1, 1e300])).all()


def test_no_noise_is_a_plain_zero() -> None:
    for noise in (WhiteNoise(0.0), Persistent(0.5, 0.0), Reshuffled(5, 0.0), WhiteNoise(0.0) + Persistent(0.5, 0.0)):
        result = stationary_variances(HeavyBall(0.1, [0.0, 1.0]), noise)
        for values in (result.weight, result.velocity):
            assert values.tolist() == [0.0, 0.0]
            assert not np.signbit(values).any()
