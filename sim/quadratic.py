"""Kernel for SGD with momentum on a quadratic: many directions and replicas, each a recursion of its own.

    v' = momentum v - eta lambda theta - eta xi,    theta' = theta + v'

Directions of a quadratic whose noise covariance commutes with its Hessian do not know of each other, so that a lane is
a (direction, replica). Reshuffled batches have noise that sums to zero over an epoch; as Gaussian numbers this is a
bridge, and
it is drawn without storing the epoch: with j numbers drawn and sum S, the next one is

    u = sqrt((M - j - 1) / (M - j)) z - S / (M - j),    xi = sqrt(M / (M - 1)) u.

Reference: Derived for jostle: this has exactly the law of (M normal numbers minus their mean) sqrt(M / (M - 1)).
"""

import math

import numpy as np
from numba import njit

from sim.lanes import KERNEL, LANES, normal_pairs, seed_lane, wide_vectors

WHITE, RESHUFFLED, SHUFFLED_ONCE, INCREMENTS, PERSISTENT = 0, 1, 2, 3, 4
"""Noise: independent; of zero sum in each epoch; one such epoch again and again; increments of independent noise; one
that remembers the last with a correlation."""

THETA, VELOCITY, MEMORY, SUM, SQUARES, VELOCITIES, CURVATURE, NORMALS, _WORK = (
    k * LANES for k in (0, 1, 2, 3, 4, 5, 6, 7, 9)
)


@njit(**KERNEL, inline="always")
def _update(work, noise, momentum, keep):
    """One step of all lanes, the noise at ``noise`` in units of eta; adds to the sums if ``keep`` is 1."""
    for i in range(LANES):
        velocity = momentum * work[VELOCITY + i] - work[CURVATURE + i] * work[THETA + i] - work[noise + i]
        theta = work[THETA + i] + velocity
        work[VELOCITY + i], work[THETA + i] = velocity, theta
        work[SUM + i] += keep * theta
        work[SQUARES + i] += keep * theta * theta
        work[VELOCITIES + i] += keep * velocity * velocity


@njit(**KERNEL, inline="always")
def _bridge(work, at, batch, batches):
    """Turn normal numbers into those of a reshuffled epoch; MEMORY holds their sum."""
    left = np.float64(batches - batch)
    spread, pull, scale = math.sqrt((left - 1.0) / left), 1.0 / left, math.sqrt(batches / (batches - 1.0))
    first = 0.0 if batch == 0 else 1.0
    for i in range(LANES):
        total = first * work[MEMORY + i]
        u = spread * work[at + i] - pull * total
        work[MEMORY + i] = total + u
        work[at + i] = scale * u


@njit(**KERNEL, inline="always")
def _increments(work, at):
    for i in range(LANES):
        z = math.sqrt(0.5) * work[at + i]
        work[at + i] = z - work[MEMORY + i]
        work[MEMORY + i] = z


@njit(**KERNEL, inline="always")
def _persistent(work, at, correlation):
    fresh = math.sqrt(1.0 - correlation * correlation)
    for i in range(LANES):
        xi = correlation * work[MEMORY + i] + fresh * work[at + i]
        work[MEMORY + i] = xi
        work[at + i] = xi


@njit(**KERNEL, inline="always")
def correlate(work, at, kind, batch, batches, correlation):
    """Turn the normal numbers of all lanes at ``at`` into noise of a kind; ``batch`` counts within the epoch."""
    if kind == RESHUFFLED:
        _bridge(work, at, batch, batches)
    elif kind == INCREMENTS:
        _increments(work, at)
    elif kind == PERSISTENT:
        _persistent(work, at, correlation)


@njit(**KERNEL)
def _two_steps(work, kind, batch, next_batch, batches, correlation, momentum, keep, keep_next):
    # With both places written out: of a place that it does not know, the compiler would fear that it overlaps others.
    wide_vectors()
    correlate(work, NORMALS, kind, batch, batches, correlation)
    _update(work, NORMALS, momentum, keep)
    correlate(work, NORMALS + LANES, kind, next_batch, batches, correlation)
    _update(work, NORMALS + LANES, momentum, keep_next)


@njit(**KERNEL)
def draw_epoch(epoch, work, state, normals, batches):
    """The noise of an epoch for all lanes, into ``epoch``, shape (batches * LANES,)."""
    for batch in range(batches):
        if batch % 2 == 0:
            normal_pairs(state, normals)
            _bridge(work, NORMALS, batch, batches)
            epoch[batch * LANES : (batch + 1) * LANES] = normals[:LANES]
        else:
            _bridge(work, NORMALS + LANES, batch, batches)
            epoch[batch * LANES : (batch + 1) * LANES] = normals[LANES:]


@njit(**KERNEL)
def run_quadratic(
    sums, squares, velocities, key, first_number, curvature, momentum, kind, batches, correlation, burn_in, steps
):
    """Run recursions from theta = v = 0, with noise of unit variance and learning rate times noise 1.

    Args:
        sums: filled with the sums of theta over the recorded steps, shape (n,).
        squares: the same of theta^2.
        velocities: the same of v^2.
        key: of the run, uint64, shape (2,).
        first_number: number of the first recursion.
        curvature: learning rate times curvature of each recursion, shape (n,).
        momentum: beta.
        kind: WHITE, RESHUFFLED, SHUFFLED_ONCE, INCREMENTS or PERSISTENT.
        batches: M, of an epoch, for the second and the third.
        correlation: of PERSISTENT noise from step to step.
        burn_in: steps that are not recorded; a whole number of epochs.
        steps: that are recorded.
    """
    n = len(curvature)
    epoch = np.zeros(batches * LANES if kind == SHUFFLED_ONCE else 0)
    state, tickets = np.zeros(4 * LANES, np.uint64), np.zeros(LANES, np.uint64)
    for begin in range(0, n, LANES):
        work = np.zeros(_WORK)
        normals = work[NORMALS:_WORK]
        lanes = min(LANES, n - begin)
        for i in range(LANES):
            seed_lane(state, i, tickets, key, first_number + begin + i)
            work[CURVATURE + i] = curvature[begin + min(i, lanes - 1)]
        if kind == SHUFFLED_ONCE:
            draw_epoch(epoch, work, state, normals, batches)
        batch = 0
        for step in range(0, burn_in + steps, 2):
            next_batch = batch + 1 if batch + 1 < batches else 0
            if kind == SHUFFLED_ONCE:
                normals[:LANES] = epoch[batch * LANES : (batch + 1) * LANES]
                normals[LANES:] = epoch[next_batch * LANES : (next_batch + 1) * LANES]
            else:
                normal_pairs(state, normals)
            # The last of an odd number of steps is one too many; it is not recorded.
            keep = 1.0 if step >= burn_in else 0.0
            keep_next = 1.0 if burn_in <= step + 1 < burn_in + steps else 0.0
            _two_steps(work, kind, batch, next_batch, batches, correlation, momentum, keep, keep_next)
            batch = next_batch + 1 if next_batch + 1 < batches else 0
        for i in range(lanes):
            sums[begin + i] = work[SUM + i]
            squares[begin + i] = work[SQUARES + i]
            velocities[begin + i] = work[VELOCITIES + i]
