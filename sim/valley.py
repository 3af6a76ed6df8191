"""Kernel for gradient descent with noise in the valley L = v^2 |u|^2 / 2, many coordinates of u to a vector loop.

    u' = u - eta v^2 u + zeta_u,    v' = v - eta v |u|^2 + zeta_v

A replica is a sequential recursion; its coordinates, of which v is the last, fill the lanes. Lanes that are left over
follow along and are never looked at.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import KERNEL, LANES, normal_pairs, seed_lane, wide_vectors

PGD, ANTI_PGD, RESHUFFLED = 0, 1, 2
"""Noise: independent; its increments; of zero sum in each epoch."""


@njit(**KERNEL)
def _noise(noise, normals, memory, kind, scale, rademacher, batch, batches):
    """The noise of a step from normal numbers, for a block of coordinates.

    Memory is the last xi for ANTI_PGD, the sum since the epoch began for RESHUFFLED, where the numbers to come have the
    mean -memory / (batches left): they bring the sum back to zero.
    """
    wide_vectors()
    if rademacher:
        for i in range(LANES):
            normals[i] = 1.0 if normals[i] > 0.0 else -1.0
    if kind == PGD:
        for i in range(LANES):
            noise[i] = scale * normals[i]
    elif kind == ANTI_PGD:
        for i in range(LANES):
            xi = scale * normals[i]
            noise[i] = xi - memory[i]
            memory[i] = xi
    else:
        left = np.float64(batches - batch)
        spread, pull, size = math.sqrt((left - 1.0) / left), 1.0 / left, scale * math.sqrt(batches / (batches - 1.0))
        first = 0.0 if batch == 0 else 1.0
        for i in range(LANES):
            total = first * memory[i]
            u = spread * normals[i] - pull * total
            memory[i] = total + u
            noise[i] = size * u


@njit(**KERNEL)
def _descend(w, noise, factor):
    """Take a step, w' = factor w + noise, for a block of coordinates."""
    wide_vectors()
    for i in range(LANES):
        w[i] = factor * w[i] + noise[i]


@njit(**KERNEL)
def run_valley(
    sharpness, across, key, first_number, dimension, start, learning_rate, kind, scale, rademacher, batches, recorded
):
    """Follow replicas from v = 0 and record |u|^2 and v^2, for ANTI_PGD of the weights without the last noise.

    Args:
        sharpness: filled with |u|^2, shape (n, len(recorded)).
        across: filled with v^2, likewise.
        key: of the run, uint64, shape (2,).
        first_number: number of the first replica.
        dimension: d of u, >= 1.
        start: |u|^2 at the start, equal in all coordinates.
        learning_rate: eta.
        kind: PGD, ANTI_PGD or RESHUFFLED.
        scale: standard deviation s of each coordinate of the noise xi.
        rademacher: whether xi is +-s instead of normal; not for RESHUFFLED.
        batches: M >= 2 of an epoch for RESHUFFLED, 1 otherwise.
        recorded: steps at which to record, >= 0 and ascending, int64.
    """
    blocks = (dimension + 1 + LANES - 1) // LANES
    width = blocks * LANES
    state, tickets = np.zeros((blocks, 4 * LANES), np.uint64), np.zeros(LANES, np.uint64)
    for replica in range(sharpness.shape[0]):
        w, memory = np.zeros(width), np.zeros(width)
        noise, normals = np.zeros(LANES), np.zeros((blocks, 2 * LANES))
        w[:dimension] = math.sqrt(start / dimension)
        for block in range(blocks):
            for i in range(LANES):
                seed_lane(state[block], i, tickets, key, (first_number + replica) * width + block * LANES + i)
        if kind == ANTI_PGD:
            # z = w - xi starts where the weights do: the first xi is drawn before the first step.
            for block in range(blocks):
                begin = block * LANES
                normal_pairs(state[block], normals[block])
                _noise(noise, normals[block][:LANES], memory[begin : begin + LANES], kind, scale, rademacher, 0, 1)
                w[begin : begin + LANES] += noise
        following = 0
        for step in range(recorded[-1] + 1):
            if step == recorded[following]:
                total, top = 0.0, 0.0
                for i in range(dimension + 1):
                    z = w[i] - memory[i] if kind == ANTI_PGD else w[i]
                    if i < dimension:
                        total += z * z
                    else:
                        top = z * z
                sharpness[replica, following], across[replica, following] = total, top
                following += 1
                if following == len(recorded):
                    break
            v, q = w[dimension], 0.0
            for i in range(dimension):
                q += w[i] * w[i]
            place = LANES * (step % 2)  # normal numbers come in twos
            for block in range(blocks):
                if step % 2 == 0:
                    normal_pairs(state[block], normals[block])
                begin = block * LANES
                _noise(
                    noise,
                    normals[block][place : place + LANES],
                    memory[begin : begin + LANES],
                    kind,
                    scale,
                    rademacher,
                    step % batches,
                    batches,
                )
                shift = noise[dimension - begin] if begin <= dimension < begin + LANES else 0.0
                _descend(w[begin : begin + LANES], noise, 1.0 - learning_rate * v * v)
                if begin <= dimension < begin + LANES:
                    w[dimension] = v - learning_rate * v * q + shift
