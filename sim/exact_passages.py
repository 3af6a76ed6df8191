"""Kernel for first passages of (drifted) Brownian motion to one target, drawn from their law without a time step.

Without drift T = L^2 / (2 D z^2) with z normal (Levy's law). Toward the target T is inverse Gaussian with mean L / v
and shape L^2 / (2 D). Away from it T is infinite, except with probability exp(-|v| L / D), and then as if the drift
pointed toward the target.
"""

import math

import numpy as np
from numba import njit

from sim.lanes import GAMMA, KERNEL, LANES, direction, exponential, hashed, uniform, wide_vectors
from sim.langevin import CENSORED, POISSON, SHARP, UPPER


@njit(**KERNEL, inline="always")
def _passage(ticket, inverse_mean, inverse_shape):
    """An inverse Gaussian number, from three tickets; Levy's law if the mean is infinite.

    The method of Michael, Schucany and Haas, its roots written without a cancellation.
    """
    cosine, _ = direction(hashed(ticket + GAMMA))
    chi = 2.0 * exponential(hashed(ticket)) * cosine * cosine * inverse_shape
    time = 1.0 / (inverse_mean + 0.5 * chi + math.sqrt(chi * (0.25 * chi + inverse_mean)))
    other = uniform(hashed(ticket + GAMMA + GAMMA)) * (1.0 + time * inverse_mean) > 1.0
    return 1.0 / (inverse_mean * inverse_mean * time) if other else time


@njit(**KERNEL, inline="always")
def _first_ticket(key, number):
    return hashed(key[0] + np.uint64(number) * GAMMA) ^ (hashed(key[1] + np.uint64(number) * GAMMA) << np.uint64(1))


@njit(**KERNEL)
def draw_passages(times, key, first_number, distance, drift, diffusivity):
    """T of ``len(times)`` runs without restarts, for a drift >= 0.

    Args:
        times: filled, shape (n,).
        key: of the run, uint64, shape (2,).
        first_number: number of the first run.
        distance: L > 0 to the target.
        drift: v >= 0, toward it.
        diffusivity: D > 0.
    """
    wide_vectors()
    inverse_mean, inverse_shape = drift / distance, 2.0 * diffusivity / (distance * distance)
    # In whole blocks: what remains of a vector loop is computed by instructions that round otherwise.
    block = np.zeros(LANES)
    for first in range(0, len(times), LANES):
        for i in range(LANES):
            block[i] = _passage(_first_ticket(key, first_number + first + i), inverse_mean, inverse_shape)
        for i in range(min(LANES, len(times) - first)):
            times[first + i] = block[i]


@njit(**KERNEL)
def restarted_passages(
    times, status, restarts, key, first_number, distance, again, drift, diffusivity, horizon, kind, parameter, overhead
):
    """T of ``len(times)`` runs that may be restarted, for a drift of either sign.

    Args:
        times: filled with the time of passage, or the horizon, shape (n,).
        status: filled with UPPER or CENSORED, int8, shape (n,).
        restarts: filled with the number of restarts, int64, shape (n,).
        key: of the run, uint64, shape (2,).
        first_number: number of the first run.
        distance: L > 0 to the target in the first attempt.
        again: the same in later ones.
        drift: v, toward the target if > 0.
        diffusivity: D > 0.
        horizon: runs are stopped then.
        kind, parameter: NEVER; POISSON and the rate; SHARP and the interval.
        overhead: time lost at each restart.
    """
    for run in range(len(times)):
        ticket, elapsed, length, where = _first_ticket(key, first_number + run), 0.0, distance, CENSORED
        restarts[run] = 0
        while True:
            passage = math.inf
            if drift >= 0.0 or uniform(hashed(ticket + np.uint64(4) * GAMMA)) < math.exp(drift * length / diffusivity):
                passage = _passage(ticket, abs(drift) / length, 2.0 * diffusivity / (length * length))
            clock = parameter if kind == SHARP else math.inf
            if kind == POISSON:
                clock = exponential(hashed(ticket + np.uint64(3) * GAMMA)) / parameter
            ticket += np.uint64(5) * GAMMA
            if passage <= min(clock, horizon - elapsed):
                elapsed, where = elapsed + passage, UPPER
                break
            if elapsed + clock >= horizon:
                break
            restarts[run] += 1
            elapsed, length = elapsed + clock + overhead, again
            if elapsed >= horizon:
                break
        times[run], status[run] = min(elapsed, horizon) if where == UPPER else horizon, where
