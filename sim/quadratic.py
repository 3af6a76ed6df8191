"""Kernel for SGD with momentum on a quadratic: many directions and replicas, each a recursion of its own.

    v' = momentum v - eta lambda theta - eta xi,    theta' = theta + v'

Directions of a quadratic whose noise covariance commutes with its Hessian do not know of each other, so that a lane is
a (direction, replica). Two steps are taken in one loop, because numbers in registers cost less than numbers in memory.
"""

import numpy as np
from numba import njit

from sim.gaussian_noise import redraw
from sim.lanes import KERNEL, LANES, aligned_floats, aligned_words, normal_pairs, seed_lane, wide_vectors

THETA, VELOCITY, MEMORY, CURVATURE, SUM, SQUARES, VELOCITIES, NORMALS, _WORK = (
    k * LANES for k in (0, 1, 2, 3, 4, 5, 6, 7, 9)
)


@njit(**KERNEL, inline="always")
def filtered(work, i, normal, fresh, pull, kept):
    """The noise of a step of a lane from a standard normal number, see sim.gaussian_noise."""
    xi = fresh * normal + pull * work[MEMORY + i]
    work[MEMORY + i] = kept * work[MEMORY + i] + xi
    return xi


@njit(**KERNEL, inline="always")
def update(work, i, momentum, xi):
    """One step of a lane, its noise in units of eta."""
    velocity = momentum * work[VELOCITY + i] - work[CURVATURE + i] * work[THETA + i] - xi
    work[VELOCITY + i] = velocity
    work[THETA + i] += velocity


@njit(**KERNEL, inline="always")
def _add(work, i, keep):
    """Add to the sums of a lane, if ``keep`` is 1."""
    theta, velocity = work[THETA + i], work[VELOCITY + i]
    work[SUM + i] += keep * theta
    work[SQUARES + i] += keep * theta * theta
    work[VELOCITIES + i] += keep * velocity * velocity


@njit(**KERNEL)
def _two_steps(work, momentum, fresh, pull, kept, keep, next_fresh, next_pull, next_kept, next_keep):
    wide_vectors()
    for i in range(LANES):
        update(work, i, momentum, filtered(work, i, work[NORMALS + i], fresh, pull, kept))
        _add(work, i, keep)
        update(work, i, momentum, filtered(work, i, work[NORMALS + LANES + i], next_fresh, next_pull, next_kept))
        _add(work, i, next_keep)


@njit(**KERNEL)
def run_quadratic(sums, squares, velocities, key, first_number, curvature, momentum, noise, burn_in, steps, cancel):
    """Run recursions from theta = v = 0, with noise of unit variance and learning rate times noise 1.

    Args:
        sums: filled with the sums of theta over the recorded steps, shape (n,).
        squares: the same of theta^2.
        velocities: the same of v^2.
        key: of the run, uint64, shape (2,).
        first_number: number of the first recursion.
        curvature: learning rate times curvature of each recursion, shape (n,).
        momentum: beta.
        noise: a sim.gaussian_noise.NoiseFilter.
        burn_in: steps that are not recorded; a whole number of epochs.
        steps: that are recorded.
        cancel: give up when it becomes true, shape (1,).
    """
    n, batches = len(curvature), len(noise.fresh)
    fresh, pull, kept = noise.fresh, noise.pull, noise.kept
    kept_epochs = noise.epochs > 1
    epoch, drawn = aligned_floats(batches * LANES if kept_epochs else 0), aligned_floats(2 * LANES)
    if kept_epochs:
        fresh, pull, kept = np.ones(batches), np.zeros(batches), np.zeros(batches)
    state, tickets = aligned_words(4 * LANES), np.zeros(LANES, np.uint64)
    for begin in range(0, n, LANES):
        work = aligned_floats(_WORK)
        normals = work[NORMALS:_WORK]
        lanes = min(LANES, n - begin)
        for i in range(LANES):
            seed_lane(state, i, tickets, key, first_number + begin + i)
            work[CURVATURE + i] = curvature[begin + min(i, lanes - 1)]
        if noise.start > 0.0:
            normal_pairs(state, normals)
            for i in range(LANES):
                work[MEMORY + i] = noise.start * normals[i]
        batch, uses = 0, 0
        for step in range(0, burn_in + steps, 2):
            if cancel[0]:
                return
            following = batch + 1 if batch + 1 < batches else 0
            if kept_epochs:
                if batch == 0:
                    uses = redraw(epoch, state, drawn, noise, uses)
                normals[:LANES] = epoch[batch * LANES : (batch + 1) * LANES]
                if following == 0:
                    uses = redraw(epoch, state, drawn, noise, uses)
                normals[LANES:] = epoch[following * LANES : (following + 1) * LANES]
            else:
                normal_pairs(state, normals)
            # The last of an odd number of steps is one too many; it is not recorded.
            keep = 1.0 if step >= burn_in else 0.0
            next_keep = 1.0 if burn_in <= step + 1 < burn_in + steps else 0.0
            _two_steps(
                work,
                momentum,
                fresh[batch],
                pull[batch],
                kept[batch],
                keep,
                fresh[following],
                pull[following],
                kept[following],
                next_keep,
            )
            batch = following + 1 if following + 1 < batches else 0
        for i in range(lanes):
            sums[begin + i] = work[SUM + i]
            squares[begin + i] = work[SQUARES + i]
            velocities[begin + i] = work[VELOCITIES + i]
