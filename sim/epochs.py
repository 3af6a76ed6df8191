"""Kernel for a coordinate that diffuses in steps, is watched at the end of epochs, and perturbed every P of them.

x' = x + F(x) dt + sqrt(2 D dt) N(0, 1), the Euler-Maruyama process itself and not an approximation to a diffusion: with
theory.fokker_planck.grid_chain(time_step=dt) it has an exact counterpart. Lanes wait for each other at the end of an
epoch only, where a run that is done is replaced by the next one.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import (
    KERNEL,
    LANES,
    aligned_floats,
    aligned_words,
    direction,
    event_bits,
    exponential,
    normal_pairs,
    seed_lane,
    wide_vectors,
)
from sim.langevin import force_from_table

_X, _NORMALS, _DRIFT, _SCRATCH, _WORK = (k * LANES for k in (0, 1, 3, 4, 5))


@njit(**KERNEL, inline="always")
def _step_cubic(work, normals, force, noise):
    c0, c1, c2, c3 = force[0], force[1], force[2], force[3]
    for i in range(LANES):
        x = work[_X + i]
        work[_X + i] = x + (((c3 * x + c2) * x + c1) * x + c0) + noise * work[normals + i]


@njit(**KERNEL, inline="always")
def _step_table(work, normals, force, noise, window, nodes):
    force_from_table(work, _X, _DRIFT, _SCRATCH, force, window, nodes)
    for i in range(LANES):
        work[_X + i] += work[_DRIFT + i] + noise * work[normals + i]


@njit(**KERNEL)
def _epoch(work, state, substeps, force, noise, window, nodes):
    """All steps of an epoch, of all lanes."""
    wide_vectors()
    normals = work[_NORMALS:_DRIFT]
    for substep in range(0, substeps, 2):
        normal_pairs(state, normals)
        if len(force) == 4:
            _step_cubic(work, _NORMALS, force, noise)
        else:
            _step_table(work, _NORMALS, force, noise, window, nodes)
        if substep + 1 == substeps:
            break
        if len(force) == 4:
            _step_cubic(work, _NORMALS + LANES, force, noise)
        else:
            _step_table(work, _NORMALS + LANES, force, noise, window, nodes)


@njit(**KERNEL, inline="always")
def _normal(tickets, lane):
    cosine, _ = direction(event_bits(tickets, lane))
    return math.sqrt(2.0 * exponential(event_bits(tickets, lane))) * cosine


@njit(**KERNEL)
def perturbed_passages(
    epochs,
    arrived,
    key,
    first_number,
    initial,
    target,
    force,
    window,
    noise,
    substeps,
    interval,
    change,
    horizon,
    cancel,
):
    """First passages of ``len(epochs)`` runs.

    Args:
        epochs: filled with the epoch of passage, or the horizon, int64; -1 for runs that diverged, shape (n,).
        arrived: filled with whether the target was met, bool, shape (n,).
        key: of the run, uint64, shape (2,).
        first_number: number of the first run.
        initial: (mean, standard deviation) of the normal initial law.
        target: met by x >= target at the end of an epoch.
        force: F dt: 4 coefficients of a cubic in x, or a table over the window.
        window: (low, high), the ends of the table.
        noise: sqrt(2 D dt).
        substeps: steps in an epoch.
        interval: P; 0 for no perturbation.
        change: (factor, shift, spread): x -> factor x + shift + spread N(0, 1).
        horizon: runs are stopped after this epoch.
        cancel: give up when it becomes true, shape (1,).
    """
    n = len(epochs)
    work = aligned_floats(_WORK)
    x = work[_X:_NORMALS]
    nodes, state, tickets = np.zeros(LANES, np.int64), aligned_words(4 * LANES), np.zeros(LANES, np.uint64)
    number, age = np.full(LANES, -1), np.zeros(LANES, np.int64)
    following, finished = 0, 0
    while finished < n and not cancel[0]:
        for i in range(LANES):
            run = number[i]
            if run >= 0:
                age[i] += 1
                # A walk whose steps are too long for its force ends at infinity, or at nan.
                met, diverged = x[i] >= target, not abs(x[i]) < math.inf
                if not met and age[i] < horizon and not diverged:
                    if interval > 0 and age[i] % interval == 0:
                        x[i] = change[0] * x[i] + change[1] + change[2] * _normal(tickets, i)
                    continue
                epochs[run], arrived[run] = -1 if diverged else age[i], met
                finished += 1
            if following < n:
                seed_lane(state, i, tickets, key, first_number + following)
                number[i], age[i] = following, 0
                x[i] = initial[0] + initial[1] * _normal(tickets, i)
                following += 1
            else:
                number[i], x[i] = -1, initial[0]
        _epoch(work, state, substeps, force, noise, window, nodes)
