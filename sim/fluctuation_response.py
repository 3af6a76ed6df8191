"""Kernel for fluctuations and answers of SGD with momentum on a quadratic: autocovariances, and twins under a force.

Beside each recursion (sim.quadratic) runs a twin for some steps, with the same noise; in its first step a force acts on
it alone. Their difference is the answer, free of sampling error because the recursion is linear.
"""

import numpy as np
from numba import njit

from sim.gaussian_noise import redraw
from sim.lanes import KERNEL, LANES, aligned_floats, aligned_words, normal_pairs, seed_lane, wide_vectors
from sim.quadratic import CURVATURE, MEMORY, NORMALS, THETA, VELOCITIES, VELOCITY, filtered, update

_TWIN, _TWIN_VELOCITY, _WORK = (NORMALS + k * LANES for k in (2, 3, 4))


@njit(**KERNEL)
def _step(work, momentum, fresh, pull, kept, keep):
    """One step of all lanes; adds v^2 to its sum if ``keep`` is 1, and leaves the noise in place of the normals."""
    wide_vectors()
    for i in range(LANES):
        xi = filtered(work, i, work[NORMALS + i], fresh, pull, kept)
        work[NORMALS + i] = xi
        update(work, i, momentum, xi)
        work[VELOCITIES + i] += keep * work[VELOCITY + i] * work[VELOCITY + i]


@njit(**KERNEL)
def _step_of_twins(work, momentum, force):
    """The same step of the twins, under a force."""
    wide_vectors()
    for i in range(LANES):
        velocity = momentum * work[_TWIN_VELOCITY + i] - work[CURVATURE + i] * work[_TWIN + i] - work[NORMALS + i]
        velocity += force
        work[_TWIN_VELOCITY + i] = velocity
        work[_TWIN + i] += velocity


@njit(**KERNEL)
def _split(work):
    """Let the twins begin where their siblings are."""
    work[_TWIN : _TWIN + LANES] = work[THETA : THETA + LANES]
    work[_TWIN_VELOCITY : _TWIN_VELOCITY + LANES] = work[VELOCITY : VELOCITY + LANES]


@njit(**KERNEL)
def _answer(work, answers, lag):
    for i in range(LANES):
        answers[lag * LANES + i] = work[_TWIN + i] - work[THETA + i]


@njit(**KERNEL)
def _remember(work, ring, products, step, keep):
    """Put theta into the ring, which has a place for each lag, and add its products with all that is there."""
    wide_vectors()
    places = len(ring) // LANES
    place = step % places
    ring[place * LANES : (place + 1) * LANES] = work[THETA : THETA + LANES]
    if not keep:
        return
    for lag in range(places):
        past = (place - lag if lag <= place else place - lag + places) * LANES
        for i in range(LANES):
            products[lag * LANES + i] += work[THETA + i] * ring[past + i]


@njit(**KERNEL)
def run_fluctuation_response(
    products,
    answers,
    velocities,
    key,
    first_number,
    curvature,
    momentum,
    noise,
    force,
    burn_in,
    steps,
    cancel,
):
    """Run recursions from theta = v = 0, with noise of unit variance and learning rate times noise 1.

    Args:
        products: filled with the sums of theta_k theta_{k-h} over the recorded steps k, shape (n, largest lag + 1).
        answers: filled with the differences of the twins h steps after the split, 0 for h = 0, likewise.
        velocities: filled with the sums of v^2, shape (n,).
        key: of the run, uint64, shape (2,).
        first_number: number of the first recursion.
        curvature: learning rate times curvature of each recursion, shape (n,).
        momentum: beta.
        noise: a sim.gaussian_noise.NoiseFilter.
        force: on the twins, in the step after the burn-in, in units of the standard deviation of the noise.
        burn_in: steps that are not recorded, a whole number of epochs and no fewer than the largest lag.
        steps: that are recorded, likewise.
        cancel: give up when it becomes true, shape (1,).
    """
    n, lags = products.shape
    batches = len(noise.fresh)
    fresh, pull, kept = noise.fresh, noise.pull, noise.kept
    kept_epochs = noise.epochs > 1
    epoch, drawn = aligned_floats(batches * LANES if kept_epochs else 0), aligned_floats(2 * LANES)
    if kept_epochs:
        fresh, pull, kept = np.ones(batches), np.zeros(batches), np.zeros(batches)
    state, tickets = aligned_words(4 * LANES), np.zeros(LANES, np.uint64)
    for begin in range(0, n, LANES):
        work, ring = aligned_floats(_WORK), aligned_floats(lags * LANES)
        sums, differences = aligned_floats(lags * LANES), aligned_floats(lags * LANES)
        normals = work[NORMALS:_TWIN]
        lanes = min(LANES, n - begin)
        for i in range(LANES):
            seed_lane(state, i, tickets, key, first_number + begin + i)
            work[CURVATURE + i] = curvature[begin + min(i, lanes - 1)]
        if noise.start > 0.0:
            normal_pairs(state, normals)
            for i in range(LANES):
                work[MEMORY + i] = noise.start * normals[i]
        batch, uses = 0, 0
        for step in range(burn_in + steps):
            if cancel[0]:
                return
            # Noise is always taken from the first of two places: a step compiled twice would take twice as long.
            if kept_epochs:
                if batch == 0:
                    uses = redraw(epoch, state, drawn, noise, uses)
                normals[:LANES] = epoch[batch * LANES : (batch + 1) * LANES]
            elif step % 2 == 0:
                normal_pairs(state, normals)
            else:
                normals[:LANES] = normals[LANES:]
            lag = step - burn_in + 1  # of the twins after this step
            keep, twin, pushed = lag >= 1, 1 <= lag < lags, force if lag == 1 else 0.0
            if lag == 1:
                _split(work)
            _step(work, momentum, fresh[batch], pull[batch], kept[batch], 1.0 if keep else 0.0)
            if twin:
                _step_of_twins(work, momentum, pushed)
                _answer(work, differences, lag)
            _remember(work, ring, sums, step, keep)
            batch = batch + 1 if batch + 1 < batches else 0
        for i in range(lanes):
            velocities[begin + i] = work[VELOCITIES + i]
            for lag in range(lags):
                products[begin + i, lag] = sums[lag * LANES + i]
                answers[begin + i, lag] = differences[lag * LANES + i]
