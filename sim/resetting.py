"""Restarted processes, simulated: the time to the target of runs that are begun anew when a clock rings.

Where the law of a single attempt can be drawn, it is, and the result is exact; other diffusions take time steps (see
sim.first_passage).
"""

import math

import numpy as np

from sim.ensemble import Progress, run_in_chunks
from sim.first_passage import Diffusion, Passages, allocate, check_runs, simulate_diffusion
from sim.random_streams import kernel_key
from theory.diffusion_laws import DriftDiffusion, Interval
from theory.law_arguments import nonnegative
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic
from theory.resetting import Restarted
from theory.restart_attempt import attempt
from theory.waiting_times import Exponential

MOST_ATTEMPTS = 1e7
"""Attempts per run, on average, beyond which a simulation would not end."""

DRAWN_AT_ONCE = 2**16
"""Runs in a chunk where the law has a sampler and no kernel."""


def simulate_restarted(
    law: PassageLaw,
    timer: PassageLaw | None,
    runs: int,
    rng: np.random.Generator,
    *,
    overhead: float = 0.0,
    horizon: float = math.inf,
    method: str = "auto",
    time_step: float | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Passages:
    """First passages under restarts.

    Args:
        law: of a single attempt.
        timer: law of the time from the beginning of an attempt to its restart; None for no restarts.
        runs: number of runs.
        rng: source of randomness.
        overhead: time lost at each restart.
        horizon: runs are stopped then.
        method: ``"exact"`` draws times from the law; ``"bridge"`` steps through time; ``"auto"`` takes the exact one
            where there is one.
        time_step: of the second; by default chosen for an error below 0.1 % of E[T].
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of runs.

    Returns:
        The passages; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for an invalid number, a method that the law or the timer does not have, or restarts so early that
            hardly any attempt succeeds.

    Example:
        >>> from theory.diffusion_laws import Brownian
        >>> law, timer = Brownian(distance=1.0, diffusivity=1.0), Exponential(2.5)
        >>> mean = simulate_restarted(law, timer, 2000, np.random.default_rng(0)).mean()
        >>> bool(abs(mean.value - Restarted(law, timer).mean) < 4 * mean.standard_error)
        True
    """
    if method not in ("auto", "exact", "bridge"):
        raise ValueError(f"method={method!r} must be 'auto', 'exact' or 'bridge'")
    overhead = float(nonnegative("overhead", overhead))
    if not horizon > 0:
        raise ValueError(f"horizon={horizon} must be > 0")
    _refuse_endless(law, timer, horizon)
    steps = method == "bridge" or (method == "auto" and isinstance(law, OrnsteinUhlenbeck | Interval))
    if time_step is not None and not steps:
        raise ValueError(f"time_step={time_step} has no use: times of this law are drawn exactly; take method='bridge'")
    clock = _clock(timer)
    if steps:
        if clock is None:
            raise ValueError(f"timer {type(timer).__name__}: time steps know exponential and deterministic timers only")
        return simulate_diffusion(
            Diffusion.of_law(law),
            runs,
            rng,
            clock=clock,
            overhead=overhead,
            horizon=horizon,
            time_step=time_step,
            threads=threads,
            progress=progress,
        )
    if isinstance(law, DriftDiffusion) and clock is not None:
        return _simulate_drift_diffusion(law, clock, overhead, horizon, runs, rng, threads, progress)
    check_runs(runs)
    drawn = law if timer is None else Restarted(law, timer, overhead=overhead)
    times = np.empty(runs)

    def draw(first: int, stop: int) -> None:
        times[first:stop] = drawn.sample(stop - first, rng)

    # One chunk after the other, since they share the generator.
    n = run_in_chunks(draw, runs, threads=1, chunk=DRAWN_AT_ONCE, progress=progress)
    arrived = times[:n] <= horizon
    return Passages(np.minimum(times[:n], horizon), arrived, arrived, None, runs, "exact")


def _clock(timer: PassageLaw | None) -> tuple[int, float] | None:
    """The timer as kernels know it; None for one they do not."""
    from sim.langevin import NEVER, POISSON, SHARP

    if timer is None:
        return NEVER, 0.0
    if isinstance(timer, Exponential):
        return POISSON, timer.rate
    return (SHARP, timer.time) if isinstance(timer, Deterministic) else None


def _refuse_endless(law: PassageLaw, timer: PassageLaw | None, horizon: float) -> None:
    if math.isfinite(horizon):
        return
    if timer is None:
        if law.arrival_probability < 1:
            raise ValueError(
                f"only {law.arrival_probability:.3%} of the runs ever arrive: give a horizon to stop the others"
            )
        return
    success = attempt(law, timer).success
    if success < 1 / MOST_ATTEMPTS:
        raise ValueError(
            f"an attempt succeeds with probability {success:.3g} before its restart: simulating more than "
            f"{MOST_ATTEMPTS:.0e} attempts for each run would not end; restart later, or give a horizon"
        )


def _simulate_drift_diffusion(
    law: DriftDiffusion,
    clock: tuple[int, float],
    overhead: float,
    horizon: float,
    runs: int,
    rng: np.random.Generator,
    threads: int | None,
    progress: Progress | None,
) -> Passages:
    from sim.exact_passages import draw_passages, restarted_passages
    from sim.langevin import CENSORED, NEVER, UPPER

    key = kernel_key(rng)
    times, status, restarts = allocate(runs)
    # Floats: for an integer the kernels would be compiled once more.
    distance, drift, diffusivity = float(law.distance), float(law.drift), float(law.diffusivity)

    def kernel(first: int, stop: int) -> None:
        if clock[0] == NEVER and drift >= 0 and math.isinf(horizon):
            draw_passages(times[first:stop], key, first, distance, drift, diffusivity)
            status[first:stop] = UPPER
            return
        restarted_passages(
            times[first:stop],
            status[first:stop],
            restarts[first:stop],
            key,
            first,
            distance,
            distance,
            drift,
            diffusivity,
            float(horizon),
            clock[0],
            float(clock[1]),
            overhead,
        )

    n = run_in_chunks(kernel, runs, threads=threads, progress=progress)
    arrived = status[:n] != CENSORED
    return Passages(times[:n], arrived, arrived, restarts[:n], runs, "exact")
