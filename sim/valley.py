"""Kernel for gradient descent with noise in the valley L = v^2 |u|^2 / 2, many coordinates of u to a vector loop.

    u' = u - eta v^2 u + zeta_u,    v' = v - eta v |u|^2 + zeta_v

A replica is a sequential recursion; its coordinates, of which v is the last, fill the lanes. Lanes that are left over
follow along and are never looked at.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import KERNEL, LANES, aligned_floats, aligned_words, normal_pairs, seed_lane, wide_vectors


@njit(**KERNEL)
def _shake(kick, normals, memory, rademacher, fresh, pull, kept):
    """The noise of a step from normal numbers, see sim.gaussian_noise, for a block of coordinates."""
    wide_vectors()
    if rademacher:
        for i in range(LANES):
            normals[i] = 1.0 if normals[i] > 0.0 else -1.0
    for i in range(LANES):
        xi = fresh * normals[i] + pull * memory[i]
        memory[i] = kept * memory[i] + xi
        kick[i] = xi


@njit(**KERNEL)
def _descend(w, kick, factor):
    """Take a step, w' = factor w + kick, for a block of coordinates."""
    wide_vectors()
    for i in range(LANES):
        w[i] = factor * w[i] + kick[i]


@njit(**KERNEL)
def run_valley(
    sharpness,
    across,
    key,
    first_number,
    dimension,
    start,
    learning_rate,
    noise,
    rademacher,
    increments,
    recorded,
    cancel,
):
    """Follow replicas from v = 0 and record |u|^2 and v^2, for increments of the weights without the last noise.

    Args:
        sharpness: filled with |u|^2, shape (n, len(recorded)).
        across: filled with v^2, likewise.
        key: of the run, uint64, shape (2,).
        first_number: number of the first replica.
        dimension: d of u, >= 1.
        start: |u|^2 at the start, equal in all coordinates.
        learning_rate: eta.
        noise: a sim.gaussian_noise.NoiseFilter, in units of length.
        rademacher: whether its normal numbers are replaced by their signs.
        increments: whether its memory is the last noise, whose increments it gives.
        recorded: steps at which to record, >= 0 and ascending, int64.
        cancel: give up when it becomes true, shape (1,).
    """
    fresh, pull, kept = noise.fresh, noise.pull, noise.kept
    blocks = (dimension + 1 + LANES - 1) // LANES
    width = blocks * LANES
    state, tickets = aligned_words(4 * LANES * blocks).reshape(blocks, 4 * LANES), np.zeros(LANES, np.uint64)
    for replica in range(sharpness.shape[0]):
        w, memory = aligned_floats(width), aligned_floats(width)
        kick, normals = aligned_floats(LANES), aligned_floats(2 * width).reshape(blocks, 2 * LANES)
        w[:dimension] = math.sqrt(start / dimension)
        for block in range(blocks):
            for i in range(LANES):
                seed_lane(state[block], i, tickets, key, (first_number + replica) * width + block * LANES + i)
        if increments:
            # z = w - xi starts where the weights do: the first xi is drawn before the first step.
            for block in range(blocks):
                begin = block * LANES
                normal_pairs(state[block], normals[block])
                last = memory[begin : begin + LANES]
                _shake(kick, normals[block][:LANES], last, rademacher, fresh[0], pull[0], kept[0])
                w[begin : begin + LANES] += kick
        following = 0
        for step in range(recorded[-1] + 1):
            if cancel[0]:
                return
            if step == recorded[following]:
                total, top = 0.0, 0.0
                for i in range(dimension + 1):
                    z = w[i] - memory[i] if increments else w[i]
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
            batch, place = step % len(fresh), LANES * (step % 2)  # normal numbers come in twos
            for block in range(blocks):
                if step % 2 == 0:
                    normal_pairs(state[block], normals[block])
                begin = block * LANES
                _shake(
                    kick,
                    normals[block][place : place + LANES],
                    memory[begin : begin + LANES],
                    rademacher,
                    fresh[batch],
                    pull[batch],
                    kept[batch],
                )
                shift = kick[dimension - begin] if begin <= dimension < begin + LANES else 0.0
                _descend(w[begin : begin + LANES], kick, 1.0 - learning_rate * v * v)
                if begin <= dimension < begin + LANES:
                    w[dimension] = v - learning_rate * v * q + shift
