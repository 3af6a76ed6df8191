"""Weight variances for any noise: a table, orders that are kept for several epochs, sums of sources.

Anchors are from reference/sgd_noise.md.
"""

import mpmath
import numpy as np
import pytest

from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    TabulatedNoise,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import (
    stationary_variances,
)
from theory.weight_variance_spectrum import variances_from_spectrum


@pytest.mark.parametrize(
    ("contraction", "momentum", "anchors"),
    [
        (0.1, 0.0, "5.26315789473684 1.05263157894737 1.05263157894737 2.21052631578947 50.1385041551247 "
         ".554016620498615 13.8755980861244 .956937799043062 .998127868861164 1.1000208014571"),
        (0.01, 0.9, "501.31926121372 5.27704485488127 5.27704485488127 1.10817941952507 6454.95665284583 "
         "34.1123256690539 1476.63022992838 13.663776856389 1.92954288325322 1.03729600879941"),
        (0.001, 0.9, "5001.31613582522 5.26454330086865 5.26454330086865 1.0581732034746 90715.4884715761 "
         "47.8835345455892 14976.2402848395 13.8540613180754 1.84426459803652 1.00191520108844"),
        (0.5, 0.5, "2.4 1.6 1.6 2.4 4.25346534653465 .459405940594059 4.0 1.6 2.27252032520325 1.71880758807588"),
    ],
)  # fmt: skip
def test_table_of_noises(contraction: float, momentum: float, anchors: str) -> None:
    # Anti-PGD with xi of variance 1, that is c_0 = 2.
    noises = [WhiteNoise(), AntiCorrelatedIncrements(2.0), Persistent(0.9), Persistent(0.5), ShuffledOnce(10)]
    modes = HeavyBall(1.0, contraction, momentum)
    values = [
        float(x) for noise in noises for v in [stationary_variances(modes, noise)] for x in (v.weight, v.velocity)
    ]
    assert values == pytest.approx([float(word) for word in anchors.split()], rel=1e-12)
    for noise in noises:
        by_spectrum = variances_from_spectrum(modes, noise.spectrum, noise.lines)
        result = stationary_variances(modes, noise)
        assert by_spectrum.weight == pytest.approx(result.weight, rel=1e-11)
        assert by_spectrum.velocity == pytest.approx(result.velocity, rel=1e-11)


def test_thermal_noise_heats_all_modes_alike() -> None:
    modes = HeavyBall(0.1, [0.5, 2.0], 0.0)
    noise = WhiteNoise.thermal(0.3, 0.1)
    result = stationary_variances(modes, noise).weight * np.asarray(modes.curvature)
    assert result == pytest.approx(0.3 / (1 - modes.contraction / 2), rel=1e-13)


def exact_variances(noise: ReshuffledEvery, contraction: float, momentum: float, lags: int) -> tuple[float, float]:
    """sum_h c_h kappa(h) in 60 digits, with rational c_h."""
    with mpmath.workdps(60):
        el, beta = mpmath.mpf(contraction), mpmath.mpf(momentum)
        kappa = [(1 + beta) / (el * (1 - beta) * (2 * (1 + beta) - el))]
        kappa.append(kappa[0] * (1 + beta - el) / (1 + beta))
        while len(kappa) < lags + 2:
            kappa.append((1 + beta - el) * kappa[-1] - beta * kappa[-2])
        m, period = noise.batches_per_epoch, noise.batches_per_epoch * noise.epochs
        weight, velocity = kappa[0], 2 * (kappa[0] - kappa[1])
        for h in range(1, period):
            c = mpmath.mpf(period - h) / period * ((m if h % m == 0 else 0) - 1) / mpmath.mpf(m - 1)
            weight += 2 * c * kappa[h]
            velocity += 2 * c * (2 * kappa[h] - kappa[h - 1] - kappa[h + 1])
        return float(weight), float(velocity)


@pytest.mark.parametrize(("batches", "epochs"), [(2, 3), (10, 5), (50, 20), (10, 300)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_one_order_for_several_epochs(batches: int, epochs: int, momentum: float) -> None:
    noise = ReshuffledEvery(batches, epochs)
    for contraction in (1e-9, 1e-5, 1e-3, 0.05, 1.0):
        result = stationary_variances(HeavyBall(1.0, contraction, momentum), noise)
        weight, velocity = exact_variances(noise, contraction, momentum, batches * epochs)
        assert result.weight == pytest.approx(weight, rel=1e-12)
        assert result.velocity == pytest.approx(velocity, rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_variance_against_how_long_an_order_is_kept(momentum: float) -> None:
    modes = HeavyBall(1.0, [0.0, 1e-4, 0.01, 0.1, 0.8], momentum)
    weight = np.array([stationary_variances(modes, ReshuffledEvery(8, e)).weight for e in (1, 2, 5, 100, 10**7)])
    once = stationary_variances(modes, ShuffledOnce(8)).weight
    assert weight[0] == pytest.approx(stationary_variances(modes, Reshuffled(8)).weight, rel=1e-14)
    assert weight[-1, 1:] == pytest.approx(once[1:], rel=1e-2)
    assert weight[-1, 2:] == pytest.approx(once[2:], rel=1e-4)
    if momentum == 0:
        assert (np.diff(weight[:, 1:], axis=0) < 0).all()
        # A mode that never relaxes does not see how long an order is kept, unless that is for ever.
        assert weight[:, 0] == pytest.approx(9 / 6, rel=1e-12)
        assert once[0] == pytest.approx(9 / 12, rel=1e-14)
    else:
        assert weight[1, 0] > 1.02 * weight[0, 0]


@pytest.mark.parametrize("batches", [2, 7, 1000])
def test_one_order_for_all_epochs_is_a_sum_over_lines(batches: int) -> None:
    noise = ShuffledOnce(batches)
    for momentum in (0.0, 0.9, 0.99):
        modes = HeavyBall(1.0, [0.0, 1e-9, 1e-3, (1 - momentum**0.5) ** 2, 0.5, 1.9 * (1 + momentum)], momentum)
        frequencies, weights = noise.lines
        gain = np.abs(modes.transfer_function(frequencies[:, None])) ** 2
        result = stationary_variances(modes, noise)
        assert result.weight == pytest.approx(weights @ gain, rel=1e-11)
        assert result.velocity == pytest.approx(4 * np.sin(frequencies / 2) ** 2 * weights @ gain, rel=1e-11)


def test_noise_sources_add() -> None:
    modes = HeavyBall(0.1, [0.01, 1.0], 0.5)
    a, b = Reshuffled(10, 2.0), Persistent(0.5, 0.1)
    total, parts = stationary_variances(modes, a + b), [stationary_variances(modes, noise) for noise in (a, b)]
    assert total.weight == pytest.approx((parts[0] + parts[1]).weight, rel=1e-14)
    assert total.velocity == pytest.approx((parts[0] + parts[1]).velocity, rel=1e-14)


def test_diffusing_modes_are_infinite_and_nothing_is_nan() -> None:
    modes = HeavyBall(1.0, [0.0, 0.1], 0.5)
    for noise in (WhiteNoise(), Persistent(0.5), Reshuffled(5) + WhiteNoise(0.01), TabulatedNoise([1.0, 0.3])):
        result = stationary_variances(modes, noise)
        assert result.weight[0] == result.correlation_time[0] == np.inf
        assert np.isfinite(result.velocity).all()
        assert np.isfinite(result.weight[1])
