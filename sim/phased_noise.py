"""Kernel for adaptive noise in closed loop: SGD with momentum on a sum of quartics, its metrics, the phase machine and
the noise, for many replicas.

    p' = momentum p - eta (U'(theta) + noise),    theta' = theta + p' + epsilon xi

A lane is a replica with all its coordinates. The machine is that of theory.training_phases, and the schedules are those
of theory.noise_schedule, in the same order of operations. Each coordinate takes a pair of normal numbers a step, one
for the gradient and one for the weight: runs of the same key differ by their schedules only.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import KERNEL, LANES, aligned_words, normal_pairs, seed_lane, wide_vectors

# Numbers of a coordinate, in one array of its own; and of a replica, in one array for all: of more arrays the compiler
# would have to fear that they overlap.
THETA, MOMENTUM, MEAN, SQUARES, WEIGHTS, UPDATES, NORMALS, OF_COORDINATE = (k * LANES for k in (0, 1, 2, 3, 4, 5, 6, 8))
LEVEL, VARIANCE, UPDATE, SCALE, LOSS, SUM, OF_REPLICA = (k * LANES for k in range(7))

# Numbers of a machine, in the order of an array of LANES each.
_VARIANCE, _UPDATE, _VARIANCE_PEAK, _UPDATE_PEAK = range(4)


@njit(**KERNEL)
def _step_of_coordinate(work, lane, force, rate, momentum, deviation, share, weight):
    """A gradient step of one coordinate, and its part of both metrics, for all lanes."""
    wide_vectors()
    c0, c1, c2, c3 = force[0], force[1], force[2], force[3]
    scale = 1.0 / weight
    for i in range(LANES):
        at = work[THETA + i]
        gradient = ((c3 * at + c2) * at + c1) * at + c0 + deviation * lane[LEVEL + i] * work[NORMALS + i]
        mean = work[MEAN + i] + share * (gradient - work[MEAN + i])
        square = work[SQUARES + i] + share * (gradient * gradient - work[SQUARES + i])
        work[MEAN + i], work[SQUARES + i] = mean, square
        lane[VARIANCE + i] += scale * square - scale * mean * scale * mean
        moved = momentum * work[MOMENTUM + i] - rate * gradient
        work[MOMENTUM + i] = moved
        lane[UPDATE + i] += moved * moved
        work[THETA + i] = at + moved


@njit(**KERNEL)
def _kick_of_coordinate(work, lane, force, keep):
    """The noise of one coordinate, and what is summed and recorded after it, for all lanes."""
    wide_vectors()
    c0, c1, c2, c3 = force[0], force[1] / 2, force[2] / 3, force[3] / 4
    for i in range(LANES):
        at = work[THETA + i] + lane[SCALE + i] * work[NORMALS + LANES + i]
        work[THETA + i] = at
        lane[LOSS + i] += (((c3 * at + c2) * at + c1) * at + c0) * at
        work[WEIGHTS + i] += keep * at * at
        work[UPDATES + i] += keep * work[MOMENTUM + i] * work[MOMENTUM + i]


@njit(**KERNEL)
def _phase_of(v, d, thresholds):
    if v > thresholds[0] and d > thresholds[1]:
        return 0
    if v < thresholds[2] and d < thresholds[3]:
        return 2
    return 1


@njit(**KERNEL)
def _update_machine(state, phase, dwelled, counted, i, variance, update, thresholds, options, share, weight):
    """One call of PhaseMachine.update for a lane, metrics finite; returns t_phase."""
    horizon, dwell, monotone, absolute = options
    state[_VARIANCE, i] += share * ((variance if variance > 0.0 else 0.0) - state[_VARIANCE, i])
    state[_UPDATE, i] += share * ((update if update > 0.0 else 0.0) - state[_UPDATE, i])
    v, d = state[_VARIANCE, i] / weight, state[_UPDATE, i] / weight
    early = counted <= horizon
    if early or v > state[_VARIANCE_PEAK, i]:
        state[_VARIANCE_PEAK, i] = v
    if early or d > state[_UPDATE_PEAK, i]:
        state[_UPDATE_PEAK, i] = d
    if not absolute:
        v = v / state[_VARIANCE_PEAK, i] if v > 0.0 else 0.0
        d = d / state[_UPDATE_PEAK, i] if d > 0.0 else 0.0
    if dwelled[i] >= dwell:
        found = _phase_of(v, d, thresholds)
        if found != phase[i] and not (monotone and found < phase[i]):
            phase[i] = found
            dwelled[i] = 0
    age = dwelled[i]
    dwelled[i] += 1
    return age


@njit(**KERNEL)
def _epsilon(kind, epsilons, decay, phase, age, step):
    """NoiseSchedule.scale; kinds by their number in KINDS."""
    if kind == 0:
        return 0.0
    if kind == 1:
        return epsilons[1]
    if kind == 3:
        return epsilons[0] * math.exp(-decay * step)
    return epsilons[phase] * (math.exp(-decay * age) if kind == 4 else 1.0)


@njit(**KERNEL)
def run_phased_noise(
    results, key, first_number, landscape, optimizer, machine, schedule, steps, burn_in, every, cancel
):
    """Run replicas from their start, at rest.

    Args:
        results: (passages, injected, weights, updates, phases, losses, variances, sizes), filled: the step of the first
            passage, 0 if there is none, and the sum of epsilon^2 in weights, shape (n,); sums of theta^2 and p^2 after
            ``burn_in``, shape (n, coordinates); at each recorded step phase, loss and both metrics, shape (n, steps //
            every).
        key: of the run, uint64, shape (2,).
        first_number: number of the first replica.
        landscape: (coefficients of U', shape (coordinates, 4); start and deviation of the gradient noise, shape
            (coordinates,); how much its variance grows with the loss; the loss at the start and at the bottom; where
            the first coordinate has passed, inf for nowhere).
        optimizer: (learning rate, momentum).
        machine: (four thresholds; (horizon, least dwell, monotone, absolute)).
        schedule: (number of the kind, three epsilons, decay, whether they are relative to the update).
        steps: in all.
        burn_in: steps whose squares are not summed.
        every: a step is recorded after so many.
        cancel: give up when it becomes true, shape (1,).
    """
    passages, injected, weights, updates, phases, losses, variances, sizes = results
    force, start, deviation, gain, loss_at_start, bottom, target = landscape
    rate, momentum = optimizer
    thresholds, options = machine
    kind, epsilons, decay, relative = schedule
    n, coordinates = len(passages), len(start)
    share = 1.0 / options[0]
    words, tickets = aligned_words(4 * LANES), np.zeros(LANES, np.uint64)
    for begin in range(0, n, LANES):
        lanes = min(LANES, n - begin)
        for i in range(LANES):
            seed_lane(words, i, tickets, key, first_number + begin + i)
        work, lane, state = np.zeros((coordinates, OF_COORDINATE)), np.zeros(OF_REPLICA), np.zeros((4, LANES))
        for c in range(coordinates):
            work[c, THETA : THETA + LANES] = start[c]
        phase, dwelled, hit = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
        lane[LEVEL : LEVEL + LANES] = math.sqrt(1.0 + gain)
        weight = 0.0
        for step in range(steps):
            if cancel[0]:
                return
            weight += share * (1.0 - weight)
            lane[VARIANCE : VARIANCE + LANES] = 0.0
            lane[UPDATE : UPDATE + LANES] = 0.0
            lane[LOSS : LOSS + LANES] = 0.0
            for c in range(coordinates):
                normal_pairs(words, work[c, NORMALS:OF_COORDINATE])
                _step_of_coordinate(work[c], lane, force[c], rate, momentum, deviation[c], share, weight)
            for i in range(LANES):
                size = math.sqrt(lane[UPDATE + i])
                age = _update_machine(
                    state, phase, dwelled, step + 1, i, lane[VARIANCE + i], size, thresholds, options, share, weight
                )
                scale = _epsilon(kind, epsilons, decay, phase[i], age, step)
                if relative:
                    scale *= size / math.sqrt(coordinates)
                lane[SCALE + i] = scale
                lane[SUM + i] += scale * scale
            keep = 1.0 if step >= burn_in else 0.0
            for c in range(coordinates):
                _kick_of_coordinate(work[c], lane, force[c], keep)
            for i in range(LANES):
                above = (lane[LOSS + i] - bottom) / loss_at_start
                lane[LEVEL + i] = math.sqrt(1.0 + gain * (above if above > 0.0 else 0.0))
                if hit[i] == 0 and work[0, THETA + i] >= target:
                    hit[i] = step + 1
            if (step + 1) % every == 0:
                place = (step + 1) // every - 1
                for i in range(lanes):
                    phases[begin + i, place] = phase[i]
                    losses[begin + i, place] = lane[LOSS + i] - bottom
                    variances[begin + i, place] = lane[VARIANCE + i]
                    sizes[begin + i, place] = math.sqrt(lane[UPDATE + i])
        for i in range(lanes):
            passages[begin + i], injected[begin + i] = hit[i], lane[SUM + i]
            for c in range(coordinates):
                weights[begin + i, c], updates[begin + i, c] = work[c, WEIGHTS + i], work[c, UPDATES + i]
