"""Filters of normal numbers against the autocovariance of each batch order: exactly, by linear algebra."""

import numpy as np
import numpy.typing as npt
import pytest

from sim.gaussian_noise import NoiseFilter, bridge_filter, draw_epoch, filter_of, redraw, stationary_filter
from sim.lanes import LANES, normal_pairs, seed_lane
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)


def covariance(noise: NoiseFilter, steps: int) -> npt.NDArray[np.float64]:
    """Of so many steps of the filter's noise: L L^T, if the noise is L z; the last z makes the first memory."""
    rows, memory = np.zeros((steps, steps + 1)), np.zeros(steps + 1)
    memory[steps] = noise.start
    for step in range(steps):
        batch = step % noise.batches
        rows[step] = noise.pull[batch] * memory
        rows[step, step] += noise.fresh[batch]
        memory = noise.kept[batch] * memory + rows[step]
    return rows @ rows.T


@pytest.mark.parametrize("batches", [2, 3, 10])
def test_an_epoch_of_the_bridge_is_that_of_exchangeable_numbers_of_zero_sum(batches: int) -> None:
    found = covariance(bridge_filter(batches), 3 * batches)
    epoch = (np.eye(batches) - 1 / batches) * batches / (batches - 1)
    np.testing.assert_allclose(found, np.kron(np.eye(3), epoch), rtol=0, atol=2e-15)


@pytest.mark.parametrize(
    "noise", [WhiteNoise(3.0), AntiCorrelatedIncrements(3.0), Persistent(0.8, 3.0), Persistent(-0.3)], ids=repr
)
def test_stationary_filters_have_the_autocovariance_of_their_noise(noise: GradientNoise) -> None:
    found = covariance(filter_of(noise), 10)
    lags = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    np.testing.assert_allclose(found, noise.normalised().autocovariance(lags), rtol=0, atol=1e-14)


def test_reshuffled_orders_have_the_autocovariance_of_their_noise_averaged_over_the_epoch() -> None:
    batches = 6
    found = covariance(filter_of(Reshuffled(batches)), 4 * batches)
    for lag in range(2 * batches):
        mean = np.mean([found[batches + place, batches + place + lag] for place in range(batches)])
        assert mean == pytest.approx(float(Reshuffled(batches).autocovariance(lag)), abs=1e-14)
    periods = [
        filter_of(noise(batches)).period for noise in (Reshuffled, ShuffledOnce, lambda m: ReshuffledEvery(m, 3))
    ]
    assert periods == [batches, batches, 3 * batches]


def test_a_noise_without_filter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise=.* has no Gaussian simulation"):
        filter_of(WhiteNoise() + Reshuffled(5))


@pytest.mark.parametrize("noise", [bridge_filter(5, epochs=2), stationary_filter(1.0, 0.0, 0.0, 0.0)])
def test_the_first_epoch_is_the_filter_applied_to_normal_numbers(noise: NoiseFilter) -> None:
    def generators() -> npt.NDArray[np.uint64]:
        state, tickets = np.zeros(4 * LANES, np.uint64), np.zeros(LANES, np.uint64)
        for lane in range(LANES):
            seed_lane(state, lane, tickets, np.array([1, 2], np.uint64), lane)
        return state

    epoch, normals = np.empty(noise.batches * LANES), np.empty(2 * LANES)
    draw_epoch(epoch, generators(), normals, noise)
    state, drawn = generators(), []
    for _ in range(0, noise.batches, 2):
        normal_pairs(state, normals)
        drawn += [normals[:LANES].copy(), normals[LANES:].copy()]
    memory = np.zeros(LANES)
    for batch in range(noise.batches):
        xi = noise.fresh[batch] * drawn[batch] + noise.pull[batch] * memory
        memory = noise.kept[batch] * memory + xi
        np.testing.assert_allclose(epoch[batch * LANES : (batch + 1) * LANES], xi, rtol=0, atol=1e-15)


def test_epochs_that_share_a_draw() -> None:
    noise = bridge_filter(3, epochs=2)
    state, tickets = np.zeros(4 * LANES, np.uint64), np.zeros(LANES, np.uint64)
    for lane in range(LANES):
        seed_lane(state, lane, tickets, np.array([1, 2], np.uint64), lane)
    epoch, normals = np.zeros(3 * LANES), np.zeros(2 * LANES)
    kept, uses = [], 0
    for _ in range(4):
        uses = redraw(epoch, state, normals, noise, uses)
        kept.append(epoch.copy().reshape(3, LANES))
    epochs = np.array(kept)
    np.testing.assert_array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(epochs[2], epochs[3])
    assert (epochs[1] != epochs[2]).all()
    np.testing.assert_allclose(epochs.sum(axis=1), 0, atol=1e-14)
