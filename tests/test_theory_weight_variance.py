"""Four independent routes to the same variances; limits, drawn batches, whole spectra.

Anchors are from reference/sgd_noise.md, sections 2.2 to 2.9 and 3.
"""

import functools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.batch_order import reshuffled_epochs
from sim.random_streams import stream
from theory.absorbing import Floats
from theory.estimate import agreement
from theory.gradient_noise import (
    Persistent,
    Reshuffled,
    ShuffledOnce,
    WhiteNoise,
)
from theory.heavy_ball import HeavyBall
from theory.weight_variance import (
    ModeVariances,
    loss_fluctuations,
    squared_displacements,
    stationary_variances,
    window_variances,
)
from theory.weight_variance_limits import crossover_curvature, crossover_function, leading_correlation_time
from theory.weight_variance_phases import phase_variances
from theory.weight_variance_spectrum import variances_from_spectrum

TABLE = [
    (2, 0.1, 0, 0.5263157894736842, 1.105263157894737, 0.95238095238095),
    (10, 0.001, 0, 1.830587088414539, 1.000999168581493, 3.6575196980606),
    (10, 0.1, 0, 1.592858525263158, 1.093412683052632, 2.9135541409967),
    (10, 0.5, 0, 1.096238425925926, 1.451880787037037, 1.5100942662973),
    (10, 1.5, 0, 1.425520833333333, 4.41484375, 0.64578540671268),
    (10, 0.01, 0.5, 5.027860661578463, 1.123789121004503, 8.9480500702557),
    (10, 0.01, 0.9, 38.86414905445464, 1.929960906510912, 40.274545378969),
    (10, 1, 0.9, 7.257747628571429, 7.762975734285714, 1.8698364846143),
    (50, 0.0001, 0.9, 512.7905383747577, 3.737543034968047, 274.39980413718),
    (50, 0.001, 0.9, 487.5128584452093, 3.931768196905718, 247.9865719596),
    (50, 0.006, 0.9, 372.9984870323323, 4.656432743150059, 160.20782758262),
    (50, 0.05, 0.5, 13.97128416257535, 1.367047581449579, 20.440084679073),
    (50, 0.5, 0.5, 2.366040816404382, 1.630693877570483, 2.9018822587713),
    (100, 0.001, 0.95, 3246.702738071824, 8.484199559149961, 765.35275141433),
    (1000, 0.00001, 0.9, 15838.52448993499, 5.173956335545621, 6122.4036164058),
    (1000, 0.0003, 0.9, 9000.406846770382, 5.237037382979722, 3437.2131373442),
    (1000, 0.01, 0.9, 491.8158263804702, 5.281323539898738, 186.24718696552),
    (1000, 0.0001, 0, 162.7606213239587, 1.00009838223201, 325.48922029193),
]


def variances(batches: int, contraction: float, momentum: float) -> ModeVariances:
    return stationary_variances(HeavyBall(1.0, contraction, momentum), Reshuffled(batches))


# ---- Four routes -----------------------------------------------------------------------------------------------------


def matrix_form(batches: int, contraction: float, momentum: float) -> tuple[float, float]:
    """Kühn & Rosenow's Eqs. (14)-(16) as printed, in 60 digits."""
    with mpmath.workdps(60):
        el, beta, m = mpmath.mpf(contraction), mpmath.mpf(momentum), mpmath.mpf(batches)
        d = mpmath.matrix([[1 + beta - el, -beta], [1, 0]])
        one, e1 = mpmath.eye(2), mpmath.matrix([[1, 0], [0, 0]])
        inverse = (one - d) ** -1
        e = d * (d**batches + (one - d) * m - one) * inverse * inverse * e1 / (m * (m - 1))
        f = mpmath.matrix([[(1 + beta) / el, 2 * beta * (el - 1 - beta) / el], [2, 2 * (el - 2)]])
        result = f * ((e1 - (e + e.T)) * mpmath.matrix([1, 0])) / ((1 - beta) * (2 * (1 + beta) - el))
        return float(result[0]), float(result[1])


def positive_recursion(batches: int, contraction: float, momentum: float) -> tuple[float, float]:
    """Section 2.3: O(M) terms, all positive, in double precision."""
    level = (1 + momentum) / ((1 - momentum) * (2 * (1 + momentum) - contraction))
    f = [0.0, level / (1 + momentum)]
    for _ in range(batches):
        f.append((1 + momentum - contraction) * f[-1] - momentum * f[-2] + level)
    lags = range(1, batches)
    weights = [2 * (batches - h) / (batches * (batches - 1)) for h in lags]
    curvature = sum(w * (f[h - 1] + f[h + 1] - 2 * f[h]) for w, h in zip(weights, lags, strict=True))
    return sum(w * f[h] for w, h in zip(weights, lags, strict=True)), 2 * f[1] - curvature


@pytest.mark.parametrize(("batches", "contraction", "momentum", "weight", "velocity", "time"), TABLE)
def test_reference_table(
    batches: int, contraction: float, momentum: float, weight: float, velocity: float, time: float
) -> None:
    result = variances(batches, contraction, momentum)
    assert result.weight == pytest.approx(weight, rel=1e-12)
    assert result.velocity == pytest.approx(velocity, rel=1e-12)
    assert result.correlation_time == pytest.approx(time, rel=1e-12)
    assert matrix_form(batches, contraction, momentum) == pytest.approx((weight, velocity), rel=1e-14)
    assert positive_recursion(batches, contraction, momentum) == pytest.approx((weight, velocity), rel=2e-12)
    modes = HeavyBall(1.0, contraction, momentum)
    by_phase = phase_variances(modes, Reshuffled(batches)).average
    assert (by_phase.weight, by_phase.velocity) == (
        pytest.approx(weight, rel=1e-12),
        pytest.approx(velocity, rel=1e-12),
    )
    by_spectrum = variances_from_spectrum(modes, Reshuffled(batches).spectrum)
    assert by_spectrum.weight == pytest.approx(weight, rel=1e-11)
    assert by_spectrum.velocity == pytest.approx(velocity, rel=1e-11)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("batches", [2, 3, 50, 1000])
def test_no_digits_are_lost_at_flat_steep_or_critically_damped_modes(batches: int, momentum: float) -> None:
    critical = (1 - momentum**0.5) ** 2
    for contraction in (1e-12, 1e-7, 1e-4, critical, critical * 1.001, 0.3, 1.0, 1.999, 1.9999 * (1 + momentum)):
        result = variances(batches, contraction, momentum)
        weight, velocity = matrix_form(batches, contraction, momentum)
        assert result.weight == pytest.approx(weight, rel=1e-12)
        assert result.velocity == pytest.approx(velocity, rel=1e-12)


def test_the_printed_form_fails_where_this_one_does_not() -> None:
    el, beta, m = 1e-7, 0.9, 1000
    d = np.array([[1 + beta - el, -beta], [1, 0]])
    inverse = np.linalg.inv(np.eye(2) - d)
    x = (d @ (np.linalg.matrix_power(d, m) + (np.eye(2) - d) * m - np.eye(2)) @ inverse @ inverse)[:, 0] / (m * (m - 1))
    vector = np.array([1 - 2 * x[0], -x[1]])
    literal = (
        np.array([(1 + beta) / el, 2 * beta * (el - 1 - beta) / el]) @ vector / ((1 - beta) * (2 * (1 + beta) - el))
    )
    assert literal != pytest.approx(matrix_form(m, el, beta)[0], rel=1e-3)
    assert variances(m, el, beta).weight == pytest.approx(matrix_form(m, el, beta)[0], rel=1e-12)


@given(st.integers(2, 60), st.floats(0, 0.98), st.floats(1e-3, 0.999))
def test_routes_agree_anywhere(batches: int, momentum: float, share: float) -> None:
    contraction = 2 * (1 + momentum) * share
    result = variances(batches, contraction, momentum)
    modes = HeavyBall(1.0, contraction, momentum)
    assert (result.weight, result.velocity) == pytest.approx(matrix_form(batches, contraction, momentum), rel=1e-11)
    average = phase_variances(modes, Reshuffled(batches)).average
    assert average.weight == pytest.approx(result.weight, rel=1e-11)
    assert average.velocity == pytest.approx(result.velocity, rel=1e-11)


# ---- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "momentum", "weight", "velocity", "time"),
    [
        (50, 0.9, 515.7003032402977, 3.714441075107803, 277.67316417872),
        (1000, 0.9, 16218.09862494073, 5.169274537695, 6274.8064575307),
        (100, 0.5, 64.71946127946128, 1.306936026936027, 99.039983511954),
        (10, 0.9, 39.97606605964912, 1.592858525263158, 50.1941200999560),
    ],
)
def test_flat_limit(batches: int, momentum: float, weight: float, velocity: float, time: float) -> None:
    result = variances(batches, 0.0, momentum)
    assert result.weight == pytest.approx(weight, rel=1e-12)
    assert result.velocity == pytest.approx(velocity, rel=1e-12)
    assert result.correlation_time == pytest.approx(time, rel=1e-12)
    assert variances(batches, 1e-14, momentum).weight == pytest.approx(weight, rel=1e-10)
    with mpmath.workdps(40):
        m, b = mpmath.mpf(batches), mpmath.mpf(momentum)
        flat = m**3 * (1 - b) ** 3 * (1 + b) - 6 * m**2 * b * (1 - b) ** 2 - m * (1 - b**2) * (b**2 - 8 * b + 1)
        flat = (flat - 12 * b**2 * (1 - b**m)) / (6 * m * (m - 1) * (1 - b) ** 5 * (1 + b))
    assert result.weight == pytest.approx(float(flat), rel=1e-13)


@given(st.integers(2, 10**6))
def test_flat_limit_without_momentum(batches: int) -> None:
    result = variances(batches, 0.0, 0.0)
    assert result.weight == pytest.approx((batches + 1) / 6, rel=1e-13)
    assert result.velocity == pytest.approx(1.0, rel=1e-13)


@given(st.floats(0, 0.999), st.floats(1e-9, 0.999))
def test_white_noise(momentum: float, share: float) -> None:
    contraction = 2 * (1 + momentum) * share
    result = stationary_variances(HeavyBall(1.0, contraction, momentum), WhiteNoise())
    bound = (1 - momentum) * (2 * (1 + momentum) - contraction)
    assert result.weight == pytest.approx((1 + momentum) / (contraction * bound), rel=1e-12)
    assert result.velocity == pytest.approx(2 / bound, rel=1e-12)
    assert result.correlation_time == pytest.approx((1 + momentum) / contraction, rel=1e-12)


def test_crossover_function() -> None:
    x = np.array([0.1, 1, 3, 10, 30])
    expected = [0.0325163928, 0.2642411177, 0.5444917626, 0.8199990920, 0.9355555556]
    assert crossover_function(x) == pytest.approx(expected, abs=5e-11)
    with mpmath.workdps(40):
        for small in (1e-12, 1e-5, 0.3, 0.999, 1.001, 50.0):
            x_exact = mpmath.mpf(small)
            exact = 1 - 2 * (x_exact - 1 + mpmath.exp(-x_exact)) / x_exact**2
            assert crossover_function(small) == pytest.approx(float(exact), rel=2e-15)


@pytest.mark.parametrize(
    ("batches", "momentum", "ratio"),
    [(10, 0.0, 0.6494386994), (1000, 0.0, 0.5454533659), (50, 0.9, 0.4468914505), (1000, 0.9, 0.5399817773)],
)
def test_suppression_at_the_crossover(batches: int, momentum: float, ratio: float) -> None:
    modes = HeavyBall(0.01, crossover_curvature(0.01, batches, momentum), momentum)
    shuffled, white = (stationary_variances(modes, noise).weight for noise in (Reshuffled(batches), WhiteNoise()))
    assert shuffled / white == pytest.approx(ratio, rel=1e-9)


def test_crossover_function_is_the_scaling_limit() -> None:
    x = np.array([0.1, 1.0, 3.0, 10.0])
    errors = []
    for batches in (1000, 10000):
        modes = HeavyBall(1.0, x * 0.1 / batches, 0.9)
        ratio = (
            stationary_variances(modes, Reshuffled(batches)).weight / stationary_variances(modes, WhiteNoise()).weight
        )
        errors.append(np.abs(ratio / crossover_function(x) - 1).max())
    assert errors[0] < 0.04
    assert errors[1] < 0.12 * errors[0]


def test_leading_correlation_times_meet_at_the_crossover() -> None:
    crossover = crossover_curvature(0.05, 50, 0.9)
    modes = HeavyBall(0.05, crossover * np.array([1e-9, 0.5, 1.0, 2.0]), 0.9)
    assert leading_correlation_time(modes, 50) == pytest.approx(50 / 3 * 19 * np.array([1, 1, 1, 0.5]), rel=1e-12)
    exact = stationary_variances(modes, Reshuffled(50)).correlation_time
    assert 316.6666666 / exact[0] == pytest.approx(316.6666666 / 277.67316417872, rel=1e-6)


# ---- Drawn batches ---------------------------------------------------------------------------------------------------


@functools.cache
def simulated(contraction: float, momentum: float, seed: int) -> tuple[Floats, Floats]:
    """theta^2 and v^2 of 400 runs, averaged over 30 epochs of 10 batches: shapes (400, 10)."""
    runs, batches, epochs, burn_in = 400, 10, 50, 20
    offsets = np.array([1.1, -0.4, 0.3, 0.9, -1.5, 0.2, -0.8, 1.4, -0.3, -0.9])
    offsets = (offsets - offsets.mean()) / offsets.std()
    order = [reshuffled_epochs(batches, 1, stream(seed, "reshuffled", run)) for run in range(runs)]
    theta, velocity = np.zeros((2, runs))
    squares = np.zeros((2, runs, batches))
    for epoch in range(epochs):
        noise = offsets[np.concatenate([next(epochs) for epochs in order], axis=1).T].T.reshape(batches, runs)
        for k in range(batches):
            velocity = momentum * velocity - contraction * theta - noise[k]
            theta = theta + velocity
            if epoch >= burn_in:
                squares[:, :, k] += theta**2, velocity**2
    return squares[0] / (epochs - burn_in), squares[1] / (epochs - burn_in)


@pytest.mark.parametrize(("contraction", "momentum"), [(0.1, 0.0), (0.02, 0.6)])
def test_simulated_sgd(contraction: float, momentum: float, seed: int) -> None:
    weight, velocity = simulated(contraction, momentum, seed)
    modes = HeavyBall(1.0, contraction, momentum)
    result, white = stationary_variances(modes, Reshuffled(10)), stationary_variances(modes, WhiteNoise())
    assert agreement(weight.mean(axis=1), float(result.weight), detects=0.3)
    assert agreement(velocity.mean(axis=1), float(result.velocity), detects=0.3)
    assert not agreement(weight.mean(axis=1), float(white.weight))
    # Sampled at the end of epochs only, as checkpoints are, the variance is not the mean one.
    phases = phase_variances(modes, Reshuffled(10))
    for k in (0, 4, 9):
        assert agreement(weight[:, k], float(phases.weight[k]))
        assert agreement(velocity[:, k], float(phases.velocity[k]))
    assert not agreement(weight[:, 9], float(result.weight))


# ---- Whole spectra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "batches", "learning_rate", "momentum", "reduction", "to_constant"),
    [
        (0.5, 1000, 0.005, 0.9, 0.129793, 0.137937),
        (1.0, 1000, 0.005, 0.9, 0.358535, 0.363557),
        (1.0, 1000, 0.02, 0.9, 0.214935, 0.248921),
        (1.0, 500, 0.01, 0.0, 0.599798, 0.602175),
        (1.5, 1000, 0.005, 0.9, 0.144087, 0.147578),
    ],
)
def test_loss_fluctuations(
    power: float, batches: int, learning_rate: float, momentum: float, reduction: float, to_constant: float
) -> None:
    curvature = 10 / np.arange(1, 5001) ** power
    losses = loss_fluctuations(HeavyBall(learning_rate, curvature, momentum), Reshuffled(batches, 7.0), curvature)
    assert losses.reduction == pytest.approx(reduction, abs=5.1e-7)
    assert losses.reduction_to_constant == pytest.approx(to_constant, abs=5.1e-7)


def test_flat_modes_count_with_their_limit_in_the_loss() -> None:
    curvature, scale = np.array([0.0, 0.01, 1.0]), np.array([2.0, 1.0, 3.0])
    nearly = np.array([1e-12, 0.01, 1.0])
    flat, limit = (
        loss_fluctuations(HeavyBall(0.1, values, 0.5), Reshuffled(10), scale) for values in (curvature, nearly)
    )
    assert flat.excess_loss == pytest.approx(limit.excess_loss, rel=1e-9)
    assert flat.white == pytest.approx(limit.white, rel=1e-9)
    assert flat.constant == pytest.approx(limit.constant, rel=1e-9)
    # lambda Var(theta) -> eta sigma^2 / (2 (1 - beta)) with replacement.
    steep = loss_fluctuations(HeavyBall(0.1, curvature[1:], 0.5), Reshuffled(10), scale[1:])
    assert flat.white - steep.white == pytest.approx(0.1 * 2.0 / (2 * 0.5) / 2, rel=1e-12)
    for noise in (WhiteNoise(), Persistent(0.5), Reshuffled(10) + WhiteNoise(0.1)):
        with pytest.raises(ValueError, match=r"curvature=0.0 must be > 0 for noise of S\(0\) > 0: .*leave it out"):
            loss_fluctuations(HeavyBall(0.1, curvature, 0.5), noise, scale)


def test_shapes_and_scales() -> None:
    modes = HeavyBall(0.1, [[0.1, 1.0, 2.0], [0.0, 3.0, 4.0]], 0.5)
    result = stationary_variances(modes, Reshuffled(10, 4.0))
    assert result.weight.shape == result.velocity.shape == (2, 3)
    unit = stationary_variances(HeavyBall(1.0, 0.1 * np.asarray(modes.curvature), 0.5), Reshuffled(10))
    assert result.weight == pytest.approx(0.01 * 4 * unit.weight, rel=1e-13)
    assert squared_displacements(modes, ShuffledOnce(4), 5).shape == (6, 2, 3)
    assert phase_variances(modes, Reshuffled(10, 4.0)).average.weight == pytest.approx(result.weight, rel=1e-12)
    assert variances_from_spectrum(HeavyBall(0.1, [[1.0], [2.0]]), WhiteNoise().spectrum).weight.shape == (2, 1)


# ---- Errors ----------------------------------------------------------------------------------------------------------


def test_errors_name_the_bound() -> None:
    with pytest.raises(ValueError, match=r"learning_rate \* curvature = 3.8 must be < 2 \(1 \+ momentum\) = 3.8"):
        HeavyBall(1.9, [0.1, 2.0], 0.9)
    for momentum in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="must satisfy 0 <= momentum < 1"):
            HeavyBall(0.1, 1.0, momentum)
    with pytest.raises(ValueError, match=r"curvature=-1.0 must be finite and >= 0"):
        HeavyBall(0.1, [1.0, -1.0])
    with pytest.raises(ValueError, match=r"learning_rate=0 must be finite and > 0"):
        HeavyBall(0, 1.0)
    modes = HeavyBall(0.1, 1.0)
    with pytest.raises(ValueError, match="updates=1 must be a whole number >= 2"):
        window_variances(modes, WhiteNoise(), 1)
    with pytest.raises(ValueError, match=r"scaled_curvature=-1.0 must be finite and >= 0"):
        crossover_function(-1.0)
    with pytest.raises(ValueError, match="batches_per_epoch=1 must be a whole number >= 2"):
        crossover_curvature(0.1, 1)
    with pytest.raises(ValueError, match="frequency=0 with curvature=0"):
        HeavyBall(0.1, 0.0).transfer_function(0.0)
    with pytest.raises(ValueError, match="curvature=0: its response"):
        variances_from_spectrum(HeavyBall(0.1, 0.0), WhiteNoise().spectrum)
    with pytest.raises(ValueError, match="spectrum needs more than"):
        variances_from_spectrum(modes, lambda omega: (np.abs(omega) > 1).astype(float))
    with pytest.raises(ValueError, match=r"velocity=0 somewhere"):
        _ = stationary_variances(modes, WhiteNoise(0.0)).correlation_time
    with pytest.raises(ValueError, match=r"factor=0.0 must be finite and > 0"):
        stationary_variances(modes, WhiteNoise()).scaled(0.0)
    with pytest.raises(ValueError, match="must have one dimension and a positive entry"):
        loss_fluctuations(HeavyBall(0.1, [0.0]), WhiteNoise(), 1.0)
