"""Kernel for first passages of dx = F(x) dt + sqrt(2 D) dW, unbiased by the time step at the target.

A walker seen only at multiples of dt overlooks excursions beyond the target, and its mean first-passage time is wrong
by O(sqrt(dt)): several per cent at dt = 0.001. Here the path between two points is a Brownian bridge, which meets a
target at distances h and h' from them with probability p = exp(-2 h h' / (2 D dt)). A run has met it in the first step
in which the product of all 1 - p falls below one uniform number of the run; the moment within the step is then drawn
from its law, dt q / (1 + q) with q inverse Gaussian. For a constant force this is exact for any dt; otherwise what
remains is the error of the force (Heun's scheme, second order in dt) and of taking it constant within a step.

Of two targets a step meets one or the other: that it might meet both is neglected, exp(-distance^2 / (D dt)).

A run may be abandoned and begun anew: its clock is drawn when an attempt begins, and since the moment of passage is
known within the step, comparing the two is exact.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import (
    GAMMA,
    KERNEL,
    LANES,
    aligned_floats,
    aligned_words,
    direction,
    event_bits,
    exp_of_minus,
    exponential,
    hashed,
    normal_pairs,
    seed_lane,
    uniform,
    wide_vectors,
)

CENSORED, UPPER, LOWER = np.int8(0), np.int8(1), np.int8(2)
"""How a run ended."""

NEVER, POISSON, SHARP = 0, 1, 2
"""When an attempt is given up."""

_FAR = np.int64(2**62)

# One array holds all lanes' numbers, at fixed places: of several arrays the compiler would have to fear that they
# overlap.
START, MIDDLE, END, MIDDLE_ALIVE, ALIVE, THRESHOLD, NORMALS = (k * LANES for k in range(7))
ELAPSED, GIVEN_UP, DRIFT, AGAIN, SCRATCH, WORK = (k * LANES for k in range(8, 14))

_U1 = np.uint64(1)


@njit(**KERNEL, inline="always")
def _meets(gap, next_gap, sharpness):
    """Probability that a bridge meets a target at these distances from its ends; sharpness = 1 / (D dt)."""
    product = gap * next_gap
    return exp_of_minus((product if product > 0.0 else 0.0) * sharpness)


@njit(**KERNEL)
def _watch_one(work, upper, sharpness):
    """Probability of having missed the target, over two steps; whether any run has met it."""
    wide_vectors()
    hits = np.int64(0)
    for i in range(LANES):
        x, y, z = upper - work[START + i], upper - work[MIDDLE + i], upper - work[END + i]
        first = work[ALIVE + i] * (1.0 - _meets(x, y, sharpness))
        second = first * (1.0 - _meets(y, z, sharpness))
        work[MIDDLE_ALIVE + i], work[ALIVE + i] = first, second
        hits |= np.int64(second <= work[THRESHOLD + i])
    return hits


@njit(**KERNEL)
def _watch_two(work, lower, upper, sharpness):
    """The same for two targets."""
    wide_vectors()
    hits = np.int64(0)
    for i in range(LANES):
        x, y, z = work[START + i], work[MIDDLE + i], work[END + i]
        first = 1.0 - _meets(upper - x, upper - y, sharpness) - _meets(x - lower, y - lower, sharpness)
        second = 1.0 - _meets(upper - y, upper - z, sharpness) - _meets(y - lower, z - lower, sharpness)
        first = work[ALIVE + i] * (first if first > 0.0 else 0.0)
        second = first * (second if second > 0.0 else 0.0)
        work[MIDDLE_ALIVE + i], work[ALIVE + i] = first, second
        hits |= np.int64(second <= work[THRESHOLD + i])
    return hits


@njit(**KERNEL)
def _advance_constant(work, force, noise):
    """Two steps of all lanes under a constant force."""
    wide_vectors()
    drift = force[0]
    for i in range(LANES):
        x = work[END + i]
        y = x + drift + noise * work[NORMALS + i]
        work[START + i], work[MIDDLE + i] = x, y
        work[END + i] = y + drift + noise * work[NORMALS + LANES + i]


@njit(**KERNEL)
def _advance_cubic(work, force, noise):
    """Two steps of all lanes by Heun's scheme, the force a cubic in x."""
    wide_vectors()
    c0, c1, c2, c3 = force[0], force[1], force[2], force[3]
    for i in range(LANES):
        x = work[END + i]
        kick = noise * work[NORMALS + i]
        drift = ((c3 * x + c2) * x + c1) * x + c0
        y = x + drift + kick
        y = x + 0.5 * (drift + (((c3 * y + c2) * y + c1) * y + c0)) + kick
        work[START + i], work[MIDDLE + i] = x, y
        kick = noise * work[NORMALS + LANES + i]
        drift = ((c3 * y + c2) * y + c1) * y + c0
        z = y + drift + kick
        work[END + i] = y + 0.5 * (drift + (((c3 * z + c2) * z + c1) * z + c0)) + kick


@njit(**KERNEL, inline="always")
def force_from_table(work, at, result, scratch, table, window, nodes):
    """A force by linear interpolation in a table over ``window`` = (low, high), constant outside, for all lanes.

    Args:
        work: one array of all lanes' numbers.
        at: where the positions are in it.
        result: where the forces go.
        scratch: place of LANES more numbers.
        table: the force at equally spaced places from low to high.
        window: (low, high).
        nodes: working memory, int64, shape (LANES,).
    """
    low, last = window[0], len(table) - 1.0
    scale = last / (window[1] - low)
    for i in range(LANES):
        z = (work[at + i] - low) * scale
        z = z if z > 0.0 else 0.0
        z = z if z < last else last * (1.0 - 1e-15)
        nodes[i] = np.int64(z)
        work[scratch + i] = z - np.float64(nodes[i])
    # No vectors here: to the compiler, what is written might be part of the table. But this is all that is slow.
    for i in range(LANES):
        node = np.uint64(nodes[i])
        here = table[node]
        work[result + i] = here + work[scratch + i] * (table[node + _U1] - here)


@njit(**KERNEL, inline="always")
def _heun_from_table(work, before, after, normals, table, noise, window, nodes):
    force_from_table(work, before, DRIFT, SCRATCH, table, window, nodes)
    for i in range(LANES):
        work[after + i] = work[before + i] + work[DRIFT + i] + noise * work[normals + i]
    force_from_table(work, after, AGAIN, SCRATCH, table, window, nodes)
    for i in range(LANES):
        drift = 0.5 * (work[DRIFT + i] + work[AGAIN + i])
        work[after + i] = work[before + i] + drift + noise * work[normals + i]


@njit(**KERNEL)
def _advance_table(work, table, noise, window, nodes):
    """Two steps of all lanes by Heun's scheme, the force from a table."""
    wide_vectors()
    for i in range(LANES):
        work[START + i] = work[END + i]
    _heun_from_table(work, START, MIDDLE, NORMALS, table, noise, window, nodes)
    _heun_from_table(work, MIDDLE, END, NORMALS + LANES, table, noise, window, nodes)


@njit(**KERNEL, inline="always")
def _moment_within_step(gap, increment, ticket):
    """When, as a fraction of the step, a bridge over ``increment`` meets a target at ``gap``, in units of its noise.

    q / (1 + q) with q inverse Gaussian of mean gap / |increment - gap| and shape gap^2, by the method of Michael,
    Schucany and Haas, its roots written without a cancellation.
    """
    cosine, _ = direction(hashed(ticket + GAMMA))
    chi = 2.0 * exponential(hashed(ticket)) * cosine * cosine / (gap * gap)
    inverse_mean = abs(increment - gap) / gap
    q = 1.0 / (inverse_mean + 0.5 * chi + math.sqrt(chi * (0.25 * chi + inverse_mean)))
    other = uniform(hashed(ticket + GAMMA + GAMMA)) * (1.0 + q * inverse_mean) > 1.0
    q = 1.0 / (inverse_mean * inverse_mean * q) if other else q
    return 1.0 / (1.0 + 1.0 / q)


@njit(**KERNEL)
def _add_moments(times, gaps, increments, tickets, time_step):
    """Complete the times of runs that met a target (gap > 0) by the moment within their last step.

    In whole blocks of lanes, to which all arrays but the times are padded: what remains of a vector loop is computed by
    instructions that round otherwise, and the last bit of a run would depend on its place in the chunk.
    """
    wide_vectors()
    moments = np.zeros(LANES)
    for first in range(0, len(times), LANES):
        for i in range(LANES):
            met = gaps[first + i] > 0.0
            gap = gaps[first + i] if met else 1.0
            moment = _moment_within_step(gap, increments[first + i], tickets[first + i])
            moments[i] = time_step * moment if met else 0.0
        for i in range(min(LANES, len(times) - first)):
            times[first + i] += moments[i]


@njit(**KERNEL, inline="always")
def _meets_upper(x, y, lower, upper, sharpness, tickets, lane):
    """Which target a step from x to y met, known to have met one."""
    above, below = (upper - x) * (upper - y), (x - lower) * (y - lower)
    if below == math.inf or above <= 0.0 or below <= 0.0:
        return above < below
    odds = math.exp(min(sharpness * (above - below), 700.0))  # of the lower one
    return uniform(event_bits(tickets, lane)) * (1.0 + odds) < 1.0


@njit(**KERNEL)
def first_passages(
    times,
    status,
    restarts,
    key,
    first_number,
    start,
    again,
    force,
    window,
    noise,
    time_step,
    lower,
    upper,
    horizon,
    kind,
    parameter,
    overhead,
    cancel,
):
    """First passages of ``len(times)`` runs.

    Args:
        times: filled with the time of passage, or the horizon, shape (n,).
        status: filled with how each run ended, int8, shape (n,).
        restarts: filled with the number of restarts, int64, shape (n,).
        key: of the run, uint64, shape (2,).
        first_number: number of the first trajectory.
        start: place of the first attempt.
        again: place of later ones.
        force: F dt: one number, a constant; 4, the coefficients of a cubic in x; more, a table over the window.
        window: (low, high), the ends of the table.
        noise: sqrt(2 D dt).
        time_step: dt.
        lower, upper: targets; the lower may be -inf.
        horizon: runs are stopped then.
        kind, parameter: NEVER; POISSON and the rate; SHARP and the interval.
        overhead: time lost at each restart.
        cancel: give up when it becomes true, shape (1,).

    Returns:
        Number of steps computed for running trajectories.
    """
    n = len(times)
    work = aligned_floats(WORK)
    normals, nodes = work[NORMALS : NORMALS + 2 * LANES], np.zeros(LANES, np.int64)
    padded = n + LANES - 1
    gaps, increments, events = np.zeros(padded), np.zeros(padded), np.zeros(padded, np.uint64)
    state, tickets = aligned_words(4 * LANES), np.zeros(LANES, np.uint64)
    # A lane without a run is due at once, to be given the next one.
    number, begun, due = np.full(LANES, -1), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    work[THRESHOLD : THRESHOLD + LANES] = -1.0
    sharpness = 2.0 / (noise * noise)
    hits, pair, next_due, following, finished, steps = np.int64(0), np.int64(0), np.int64(0), 0, 0, np.int64(0)
    while finished < n and not cancel[0]:
        if hits != 0 or pair >= next_due:
            next_due = _FAR
            for i in range(LANES):
                hit = work[ALIVE + i] <= work[THRESHOLD + i]
                if not hit and pair < due[i]:
                    next_due = min(next_due, due[i])
                    continue
                run, where, begins_anew = number[i], CENSORED, False
                if hit:
                    in_first = work[MIDDLE_ALIVE + i] <= work[THRESHOLD + i]
                    x = work[START + i] if in_first else work[MIDDLE + i]
                    y = work[MIDDLE + i] if in_first else work[END + i]
                    before = (2.0 * (pair - begun[i]) - (2.0 if in_first else 1.0)) * time_step
                    at_upper = _meets_upper(x, y, lower, upper, sharpness, tickets, i)
                    gap = (upper - x if at_upper else x - lower) / noise
                    increment = (y - x if at_upper else x - y) / noise
                    tickets[i] += GAMMA
                    # Only if the clock may have run out within this step, it matters now when the target was met.
                    moment = 0.0
                    if before + time_step > work[GIVEN_UP + i]:
                        moment = _moment_within_step(gap, increment, tickets[i])
                    if before + time_step * moment <= work[GIVEN_UP + i]:
                        where = UPPER if at_upper else LOWER
                        work[ELAPSED + i] += before
                        gaps[run], increments[run], events[run] = gap, increment, tickets[i]
                    tickets[i] += GAMMA + GAMMA
                if run >= 0:
                    steps += 2 * (pair - begun[i])
                    if where == CENSORED:
                        begins_anew = work[ELAPSED + i] + work[GIVEN_UP + i] < horizon
                        restarts[run] += np.int64(begins_anew)
                        work[ELAPSED + i] += work[GIVEN_UP + i] + overhead
                        begins_anew &= work[ELAPSED + i] < horizon
                        work[ELAPSED + i] = min(work[ELAPSED + i], horizon)
                    if not begins_anew:
                        times[run], status[run] = work[ELAPSED + i], where
                        finished += 1
                if not begins_anew:
                    if following == n:
                        number[i], due[i], work[THRESHOLD + i] = -1, _FAR, -1.0
                        continue
                    seed_lane(state, i, tickets, key, first_number + following)
                    restarts[following], number[i], work[ELAPSED + i] = 0, following, 0.0
                    following += 1
                work[END + i], work[ALIVE + i] = again if begins_anew else start, 1.0
                work[THRESHOLD + i] = uniform(event_bits(tickets, i))
                clock = parameter if kind == SHARP else math.inf
                if kind == POISSON:
                    clock = exponential(event_bits(tickets, i)) / parameter
                clock = min(clock, horizon - work[ELAPSED + i])
                work[GIVEN_UP + i], begun[i], due[i] = clock, pair, _FAR
                if clock < 2.0**60 * time_step:
                    due[i] = pair + max(np.int64(math.ceil(clock / (2.0 * time_step))), 1)
                next_due = min(next_due, due[i])
        normal_pairs(state, normals)
        if len(force) == 1:
            _advance_constant(work, force, noise)
        elif len(force) == 4:
            _advance_cubic(work, force, noise)
        else:
            _advance_table(work, force, noise, window, nodes)
        if lower == -math.inf:
            hits = _watch_one(work, upper, sharpness)
        else:
            hits = _watch_two(work, lower, upper, sharpness)
        pair += 1
    _add_moments(times, gaps, increments, events, time_step)
    return steps
