"""Autocovariances and spectra against enumeration, drawn batches and extended precision (sgd_noise.md 2.1, 3, 7)."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.batch_order import persistent_epochs, reshuffled_epochs, shuffled_once_epochs, with_replacement_epochs
from sim.random_streams import stream
from theory.absorbing import Floats
from theory.estimate import agreement
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
from theory.weight_variance import squared_displacements, stationary_variances

FINITE = [
    WhiteNoise(2.0),
    AntiCorrelatedIncrements(0.5),
    Reshuffled(2),
    Reshuffled(7, 3.0),
    ReshuffledEvery(2, 3),
    ReshuffledEvery(5, 4, 0.3),
    ReshuffledEvery(6, 1),
    TabulatedNoise([1.0, 0.3, -0.2]),
    Reshuffled(5) + 0.25 * AntiCorrelatedIncrements(),
]
NOISES = [*FINITE, Persistent(0.9, 2.0), Persistent(-0.6), WhiteNoise(0.1) + Persistent(0.5)]
PERIODIC = [ShuffledOnce(2), ShuffledOnce(7, 3.0), ShuffledOnce(4) + Reshuffled(4)]
MODES = HeavyBall(0.5, [0.0, 1e-6, 0.01, 0.4, 3.0, 6.0], 0.6)
PAST = 400
"""Lags after which the autocovariances above are below 1e-16."""


# ---- One interface ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES + PERIODIC)
def test_spectrum_and_lines_are_the_transform_of_the_autocovariance(noise: GradientNoise) -> None:
    count = 420  # divisible by the periods; angles between the lines
    omega = math.tau * (np.arange(2 * count) + 0.5) / (2 * count)
    frequencies, variances = noise.lines
    lags = np.arange(-5, 30)
    transform = (noise.spectrum(omega) * np.cos(np.multiply.outer(lags, omega))).mean(axis=-1)
    lines = np.cos(np.multiply.outer(lags, frequencies)) @ variances
    assert transform + lines == pytest.approx(noise.autocovariance(lags), abs=1e-13)
    assert noise.autocovariance(0) == pytest.approx(noise.variance, rel=1e-15)
    assert noise.spectrum(0.0) == pytest.approx(noise.sum_of_autocovariance, abs=1e-13)
    assert (noise.spectrum(omega) >= 0).all()


@pytest.mark.parametrize("noise", NOISES)
def test_sums_over_lags_are_those_of_the_table(noise: GradientNoise) -> None:
    table = TabulatedNoise(noise.autocovariance(np.arange(PAST)))
    sums, expected = noise.lag_sums(MODES), table.lag_sums(MODES)
    for one, other in ((sums.tail, expected.tail), (sums.contrast, expected.contrast)):
        assert one.constant == pytest.approx(other.constant, rel=1e-11, abs=1e-12)
        assert one.slope == pytest.approx(other.slope, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("noise", NOISES + PERIODIC)
def test_forcing_is_the_response_before(noise: GradientNoise) -> None:
    modes = HeavyBall(1.0, [0.05, 0.4, 2.9], 0.6)
    response = np.zeros((PAST, 3))
    response[0], response[1] = 1.0, 1.6 - modes.contraction
    for j in range(2, PAST):
        response[j] = (1.6 - modes.contraction) * response[j - 1] - 0.6 * response[j - 2]
    for h, phi in enumerate(noise.forcing(modes, 25)):
        assert phi == pytest.approx(noise.autocovariance(h + np.arange(PAST)) @ response, abs=1e-11)


@pytest.mark.parametrize("noise", NOISES + PERIODIC)
def test_sources_add_and_scale(noise: GradientNoise) -> None:
    lags, omega = np.arange(12), np.linspace(-3, 3, 7)
    twice, both = 2.0 * noise, noise + noise
    assert twice.variance == pytest.approx(2 * noise.variance, rel=1e-15)
    assert noise.normalised().variance == pytest.approx(1.0, rel=1e-15)
    for sums in (twice, both):
        assert sums.autocovariance(lags) == pytest.approx(2 * noise.autocovariance(lags), rel=1e-14)
        assert sums.spectrum(omega) == pytest.approx(2 * noise.spectrum(omega), rel=1e-14)
        assert sums.sum_of_autocovariance == pytest.approx(2 * noise.sum_of_autocovariance, rel=1e-14)
        assert sums.lines[1].sum() == pytest.approx(2 * noise.lines[1].sum(), rel=1e-14)
        assert sums.lag_sums(MODES).tail.slope == pytest.approx(2 * noise.lag_sums(MODES).tail.slope, rel=1e-12)


@given(st.integers(2, 12), st.integers(1, 6))
def test_epoch_noise_sums_to_zero_between_fresh_and_single_orders(batches: int, epochs: int) -> None:
    noise, lags = ReshuffledEvery(batches, epochs), np.arange(batches * epochs)
    values = noise.autocovariance(lags)
    assert values[0] + 2 * values[1:].sum() == pytest.approx(0.0, abs=1e-13)
    fresh, single = Reshuffled(batches), ShuffledOnce(batches)
    share = 1 - lags / (batches * epochs)
    assert values == pytest.approx(share * single.autocovariance(lags), abs=1e-15)
    if epochs == 1:
        assert values == pytest.approx(fresh.autocovariance(lags), abs=1e-15)


@pytest.mark.parametrize(("batches", "epochs"), [(2, 1), (10, 1), (1000, 1), (10, 3), (1000, 20)])
def test_spectrum_has_all_digits_at_small_frequencies(batches: int, epochs: int) -> None:
    noise = ReshuffledEvery(batches, epochs)
    assert ReshuffledEvery(batches, 1).spectrum(1e-3) == pytest.approx(Reshuffled(batches).spectrum(1e-3), rel=1e-14)
    with mpmath.workdps(50):
        for omega in (1e-9, 1e-5, 1e-3, 0.01, 0.3, 3.0):
            half = mpmath.mpf(omega) / 2
            ratio = mpmath.sin(batches * half) / mpmath.sin(half) / batches
            fejer = (mpmath.sin(epochs * batches * half) / mpmath.sin(batches * half)) ** 2 / epochs
            exact = float(mpmath.mpf(batches) / (batches - 1) * (1 - ratio**2) * fejer)
            assert noise.spectrum(omega) == pytest.approx(exact, rel=1e-11, abs=1e-13)
    small = 1e-3 / (batches * epochs)
    assert noise.spectrum(small) == pytest.approx(epochs * batches * (batches + 1) * small**2 / 12, rel=1e-6)


# ---- Exact enumeration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "batch_size", "epochs"), [(4, 1, 1), (4, 1, 2), (4, 2, 3), (6, 2, 1), (6, 3, 2)])
def test_all_orders_of_a_small_data_set(samples: int, batch_size: int, epochs: int) -> None:
    gradients = np.array([0.3, -1.2, 2.0, 0.7, -0.1, 1.9])[:samples]
    batches = samples // batch_size
    orders = np.array(list(itertools.permutations(gradients))).reshape(-1, batches, batch_size).mean(axis=-1)
    orders = orders - gradients.mean()
    block = np.tile(orders, epochs)
    # Lags within a block from each order; across blocks the orders are independent, so the means factorise (to zero).
    period = batches * epochs
    covariance = block.T @ block / len(block)
    across = np.outer(block.mean(axis=0), block.mean(axis=0))
    both = np.block([[covariance, across]])
    measured = [np.mean([both[k, k + h] for k in range(period)]) for h in range(period)]
    noise = ReshuffledEvery.of_examples(gradients.var(), samples, batch_size, epochs)
    assert noise.autocovariance(np.arange(period)) == pytest.approx(measured, abs=1e-14)
    single = ShuffledOnce.of_examples(gradients.var(), samples, batch_size)
    assert single.autocovariance(np.arange(batches)) == pytest.approx(covariance[0, :batches], abs=1e-14)
    if epochs == 1:
        fresh = Reshuffled.of_examples(gradients.var(), samples, batch_size)
        assert fresh.autocovariance(np.arange(period)) == pytest.approx(measured, abs=1e-14)


def test_scales_with_and_without_replacement() -> None:
    white = WhiteNoise.with_replacement(2.0, samples=60, batch_size=6)
    fresh = Reshuffled.of_examples(2.0, samples=60, batch_size=6)
    assert white.variance == pytest.approx(2 / 6, rel=1e-15)
    assert white.variance / fresh.variance == pytest.approx(59 / 54, rel=1e-14)
    assert fresh.autocovariance([0, 1, 3, 9, 10, 12]) / fresh.variance == pytest.approx(
        [1, -0.1, -7 / 90, -1 / 90, 0, 0], rel=1e-14
    )


# ---- Drawn batches ---------------------------------------------------------------------------------------------------

Epochs = Iterator[Iterable[np.ndarray]]


@functools.cache
def drawn_products(order: str, seed: int) -> Floats:
    """dg_k dg_{k+h}, averaged over two periods of k, for h = 0 .. 24: shape (runs, 25). N = 60, S = 6, M = 10."""
    orders: dict[str, Callable[[np.random.Generator], Epochs]] = {
        "with replacement": lambda rng: with_replacement_epochs(60, 6, rng),
        "reshuffled": lambda rng: reshuffled_epochs(60, 6, rng),
        "every 2": lambda rng: reshuffled_epochs(60, 6, rng, every=2),
        "once": lambda rng: shuffled_once_epochs(60, 6, rng),
        "persistent": lambda rng: persistent_epochs(60, 6, rng, entry_probability=0.02),
    }
    gradients = centred_gradients()
    products = np.empty((400, 25))
    for run in range(len(products)):
        epochs = itertools.islice(orders[order](stream(seed, order, run)), 7)
        noise = np.array([gradients[batch].sum() / 6 for epoch in epochs for batch in epoch])
        products[run] = [(noise[:40] * noise[h : 40 + h]).mean() for h in range(25)]
    return products


def centred_gradients() -> Floats:
    gradients = np.random.default_rng(5).normal(size=60)
    return gradients - gradients.mean()


@pytest.mark.parametrize(
    ("order", "noise", "wrong", "lag"),
    [
        ("with replacement", WhiteNoise.with_replacement, Reshuffled.of_examples, 1),
        ("reshuffled", Reshuffled.of_examples, WhiteNoise.with_replacement, 1),
        ("every 2", functools.partial(ReshuffledEvery.of_examples, epochs=2), Reshuffled.of_examples, 10),
        ("once", ShuffledOnce.of_examples, functools.partial(ReshuffledEvery.of_examples, epochs=2), 10),
        ("persistent", functools.partial(Persistent.two_state, entry_probability=0.02), WhiteNoise.with_replacement, 5),
    ],
)
def test_noise_of_drawn_batches(
    order: str, noise: Callable[..., GradientNoise], wrong: Callable[..., GradientNoise], lag: int, seed: int
) -> None:
    products = drawn_products(order, seed)
    variance = float(centred_gradients().var())
    predicted = noise(variance, 60, 6).autocovariance(np.arange(25))
    for h in (0, 1, 2, 5, 9, 10, 12, 20):
        assert agreement(products[:, h], predicted[h]), h
    assert not agreement(products[:, lag], float(wrong(variance, 60, 6).autocovariance(lag)))


def test_without_replacement_batches_vary_less(seed: int) -> None:
    # One epoch each: with replacement c_0 is (N - 1) / (N - S) = 1.09 times larger.
    variance, gradients = float(centred_gradients().var()), centred_gradients()
    rng = stream(seed, "variance")
    epochs = itertools.islice(reshuffled_epochs(60, 6, rng), 20000)
    squares = [float((gradients[epoch].mean(axis=1) ** 2).mean()) for epoch in epochs]
    assert agreement(squares, Reshuffled.of_examples(variance, 60, 6).variance, detects=0.09)
    assert not agreement(squares, WhiteNoise.with_replacement(variance, 60, 6).variance)


# ---- Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [2, 3, 7, 20, 59])
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_tables_whose_sum_is_rounding_do_not_diffuse(batches: int, epochs: int) -> None:
    exact = ReshuffledEvery(batches, epochs, 0.3)
    table = TabulatedNoise(exact.autocovariance(np.arange(batches * epochs)))
    assert table.sum_of_autocovariance == 0
    modes = HeavyBall(1.0, [0.0, 1e-12, 0.1])
    expected, result = stationary_variances(modes, exact), stationary_variances(modes, table)
    assert result.weight == pytest.approx(expected.weight, rel=1e-11)
    assert result.velocity == pytest.approx(expected.velocity, rel=1e-11)


def test_tables_that_diffuse_do_so_in_time_as_well() -> None:
    table, modes = TabulatedNoise([1.0, -0.4, 0.05]), HeavyBall(1.0, [0.0, 0.05])
    assert table.sum_of_autocovariance == pytest.approx(0.3, rel=1e-14)
    assert stationary_variances(modes, table).weight[0] == math.inf
    displacements = squared_displacements(modes, table, 1000)
    assert np.diff(displacements[:, 0])[2:] == pytest.approx(np.full(998, 0.3), rel=1e-12)
    assert displacements[-1, 1] / 2 == pytest.approx(stationary_variances(modes, table).weight[1], rel=1e-12)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([1.0, -0.9], r"-0\.8 at omega = 0;"),
        ([1.0, 0.9], r"-0\.8 at omega = 3\.14;"),
        ([1.0, 0.0, 0.8], r"omega = 1\.5"),
    ],
)
def test_tables_without_a_noise_are_refused(values: list[float], where: str) -> None:
    with pytest.raises(ValueError, match=rf"values has the spectrum S\(omega\) = .*{where}.* it must be >= 0"):
        TabulatedNoise(values)
    # What the message advises makes a table of it, if it is one that was cut off.
    cut = np.cos(np.arange(40) * 0.7)
    with pytest.raises(ValueError, match="must be >= 0"):
        TabulatedNoise(cut)
    assert TabulatedNoise(cut * (1 - np.arange(40) / 40)).spectrum(np.linspace(0, math.pi, 500)).min() >= 0


def test_tables_may_be_rounded() -> None:
    rounded = TabulatedNoise(Reshuffled(7).autocovariance(np.arange(7)).round(10))
    assert abs(rounded.sum_of_autocovariance) < 1e-8
    assert (rounded.spectrum(np.linspace(0, 0.1, 50)) >= 0).all()


# ---- Digits and cost -------------------------------------------------------------------------------------------------


def test_a_line_at_pi_is_as_sharp_as_one_at_zero() -> None:
    for r in (0.5, 0.999999, 1 - 1e-12):
        for angle in (0.0, 1e-9, 1e-3, 1.0):
            with mpmath.workdps(50):
                exact = float(
                    (1 - mpmath.mpf(r) ** 2)
                    / ((1 - mpmath.mpf(r)) ** 2 + 4 * mpmath.mpf(r) * mpmath.sin(angle / 2) ** 2)
                )
            assert Persistent(r).spectrum(angle) == pytest.approx(exact, rel=1e-14)
    # pi is not a float: at the nearest one the distance to it is 1.2e-16.
    assert Persistent(-1 + 1e-12).spectrum(math.pi) == pytest.approx(2e12, rel=1e-4)


@pytest.mark.parametrize("noise", [ReshuffledEvery(3, 4), ReshuffledEvery(6, 1), Reshuffled(5), ReshuffledEvery(10, 3)])
def test_forcing_is_the_same_however_much_of_it_is_asked_for(noise: Reshuffled | ReshuffledEvery) -> None:
    full = noise.forcing(MODES, noise.reach + 6)
    table = TabulatedNoise(noise.autocovariance(np.arange(noise.reach + 1))).forcing(MODES, noise.reach + 6)
    assert full == pytest.approx(table, abs=1e-13 * np.abs(table).max())
    assert (full[noise.reach + 1 :] == 0).all()
    for count in range(1, noise.reach + 6):
        assert noise.forcing(MODES, count) == pytest.approx(full[:count], abs=1e-13 * np.abs(full).max())


def test_few_lags_of_long_orders_cost_little() -> None:
    noise = ReshuffledEvery(10, 10**9)
    once = squared_displacements(MODES, ShuffledOnce(10), 7)
    assert squared_displacements(MODES, noise, 7)[:, 2:] == pytest.approx(once[:, 2:], rel=1e-4)
    long = Reshuffled(10**12)
    assert squared_displacements(MODES, long, 3)[:, 3:] == pytest.approx(
        squared_displacements(MODES, WhiteNoise(), 3)[:, 3:], rel=1e-9
    )


# ---- Units and errors ------------------------------------------------------------------------------------------------


def test_noise_that_acts_on_weights_is_given_in_units_of_the_gradient() -> None:
    assert AntiCorrelatedIncrements.of_weights(0.05, 0.01).variance == pytest.approx(2 * 5.0**2, rel=1e-14)
    # SGLD: sqrt(2 eta T) on the weight is a gradient noise of variance 2 T / eta.
    assert WhiteNoise.thermal(0.3, 0.01).variance == pytest.approx(60.0, rel=1e-14)
    assert WhiteNoise.thermal(0.3, 0.01, 0.9).variance == pytest.approx(6.0, rel=1e-14)


def test_a_persistent_batch_with_fresh_draws_is_white() -> None:
    noise = Persistent.two_state(1.0, samples=20, batch_size=5, entry_probability=0.25)
    assert noise.correlation == 0.0
    assert noise.sum_of_autocovariance == noise.variance == pytest.approx(0.75 / 5, rel=1e-15)


@pytest.mark.parametrize("whole", [int, float, np.float64, np.int8, np.int32])
def test_whole_numbers_are_kept_as_ints(whole: type) -> None:
    noises = (Reshuffled(whole(100)), ReshuffledEvery(whole(100), whole(5)), ShuffledOnce(whole(100)))
    plain = (Reshuffled(100), ReshuffledEvery(100, 5), ShuffledOnce(100))
    modes = HeavyBall(0.1, [0.0, 1.0], 0.5)
    for noise, other in zip(noises, plain, strict=True):
        assert type(noise.batches_per_epoch) is int
        assert noise == other
        assert (stationary_variances(modes, noise).weight == stationary_variances(modes, other).weight).all()
        assert (noise.autocovariance([0, 1, 100]) == other.autocovariance([0, 1, 100])).all()
    assert Reshuffled.of_examples(1.0, whole(60), whole(6)) == Reshuffled.of_examples(1.0, 60, 6)
    assert Reshuffled(np.int32(100_000)).autocovariance(1) == pytest.approx(-1e-5, rel=1e-12)  # pyright: ignore


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reshuffled(1), "batches_per_epoch=1 must be a whole number >= 2"),
        (lambda: ReshuffledEvery(3, 0), "epochs=0 must be a whole number >= 1"),
        (lambda: ShuffledOnce(1), "batches_per_epoch=1 must be a whole number >= 2"),
        (lambda: WhiteNoise(-1.0), r"variance=-1\.0 must be finite and >= 0"),
        (lambda: WhiteNoise() * math.inf, "factor=inf must be finite and >= 0"),
        (lambda: Persistent(1.0), r"correlation=1\.0 must satisfy -1 < correlation < 1"),
        (lambda: Reshuffled.of_examples(1.0, 60, 7), "batch_size=7 must divide samples=60"),
        (lambda: ShuffledOnce.of_examples(1.0, 60, 60), "batch_size=60 must divide samples=60 into at least two"),
        (lambda: ReshuffledEvery.of_examples(1.0, 60, 61, 2), "batch_size=61 must lie between 1 and the 60"),
        (lambda: Persistent.two_state(1.0, 10, 2, 0.3), r"entry_probability=0\.3 must be > 0 and at most"),
        (lambda: WhiteNoise.with_replacement(-1.0, 10, 2), r"example_variance=-1\.0 must be"),
        (lambda: WhiteNoise().autocovariance(0.5), "lags of type float64 must be whole numbers"),
        (lambda: WhiteNoise(0.0).normalised(), "variance=0 must be > 0"),
        (lambda: TabulatedNoise([1.0, 2.0]), r"values has an entry 2\.0; none may exceed c_0 = 1\.0"),
        (lambda: Reshuffled.of_examples(1.0, 7, 3.5), r"batch_size=3\.5 must be a whole number"),  # pyright: ignore
        (lambda: WhiteNoise.with_replacement(1.0, 60, 2.5), r"batch_size=2\.5 must be a whole number"),  # pyright: ignore
        (lambda: Persistent.two_state(1.0, 10, 2.5, 0.1), r"batch_size=2\.5 must be a whole number"),  # pyright: ignore
        (lambda: Reshuffled(10**16), r"batches_per_epoch=1e\+16 must be at most 1e\+15"),
        (lambda: TabulatedNoise([]), r"values of shape \(0,\) must be finite numbers"),
    ],
)
def test_errors_name_the_bound(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
