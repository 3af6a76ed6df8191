"""Simulated first passages against laws, quadratures and a slow reference; problems from reference/simulators.md."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numba import njit

from sim import first_passage
from sim.ensemble import run_in_chunks
from sim.first_passage import Diffusion, Passages, simulate_diffusion
from sim.lanes import LANES
from sim.langevin import NEVER, POISSON, SHARP, _meets_upper, first_passages
from sim.random_streams import kernel_key, stream
from tests.simulated_passages import ORNSTEIN_UHLENBECK, TABLED_WELL, UNCACHED, WELL, fits, in_well
from theory.absorbing import Floats
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval
from theory.estimate import agreement
from theory.passage_laws import Deterministic
from theory.potentials import Potential, linear, logarithmic

DRIFTED = DriftDiffusion(distance=1.0, drift=1.0, diffusivity=0.5)
DECISION = Diffusion(np.array([1.0]), 0.5, 0.0, 1.0, -1.0)  # drift 1, D = 1/2, targets at -1 and 1
"""The drift-diffusion model of decisions: E[T] = tanh 1, whichever target, and Pr(upper) = 1 / (1 + e^-2)."""


# ---- Each trajectory has its own random numbers ----------------------------------------------------------------------


PROCESSES: dict[str, Callable[..., Passages]] = {
    "constant force": lambda rng, runs, threads=None: simulate_diffusion(
        Diffusion.of_law(DRIFTED), runs, rng, threads=threads
    ),
    "restarts": lambda rng, runs, threads=None: simulate_diffusion(
        Diffusion.of_law(Brownian(1.0, 1.0)),
        runs,
        rng,
        threads=threads,
        clock=(POISSON, 1.0),
        overhead=0.1,
        again=0.25,
        horizon=3.0,
    ),
    "two targets": lambda rng, runs, threads=None: simulate_diffusion(
        DECISION, runs, rng, threads=threads, clock=(SHARP, 0.3)
    ),
    "cubic force": lambda rng, runs, threads=None: simulate_diffusion(in_well(WELL, 0.4), runs, rng, threads=threads),
    "table": lambda rng, runs, threads=None: simulate_diffusion(in_well(TABLED_WELL, 0.4), runs, rng, threads=threads),
}


@pytest.mark.parametrize("process", PROCESSES)
def test_neither_threads_nor_chunks_nor_the_number_of_runs_matter(
    process: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate = PROCESSES[process]
    whole = simulate(stream(seed, process), 2503)
    for threads in (1, 2):
        for chunk in (13, 64, 1000, 8192):
            monkeypatch.setattr(first_passage, "run_in_chunks", partial(run_in_chunks, chunk=chunk))
            for runs in (2503, 701):
                part = simulate(stream(seed, process), runs, threads)
                for name in ("times", "arrived", "at_upper", "restarts"):
                    assert getattr(part, name).tolist() == getattr(whole, name)[:runs].tolist(), (name, chunk, threads)
    assert len(set(whole.times[whole.arrived])) == whole.arrived.sum()  # no trajectory twice
    assert simulate(stream(seed, "another"), 100).times.tolist() != whole.times[:100].tolist()


def test_a_trajectory_can_be_replayed_alone(seed: int) -> None:
    key, dt = kernel_key(stream(seed, "replay")), 0.05

    def run(first: int, runs: int) -> tuple[list[float], list[int], list[int]]:
        times, status, restarts = np.empty(runs), np.zeros(runs, np.int8), np.zeros(runs, np.int64)
        force, noise = np.array([0.0, -dt, 0.0, 0.0]), math.sqrt(2 * dt)
        place = (0.0, 0.3, force, (0.0, 1.0), noise, dt, -math.inf, 1.0)
        steps = first_passages(
            times, status, restarts, key, first, *place, math.inf, POISSON, 0.5, 0.2, np.zeros(1, np.bool_)
        )
        assert steps >= 2 * (runs + restarts.sum())
        return times.tolist(), status.tolist(), restarts.tolist()

    whole = run(0, 300)
    for j in (0, 1, 63, 64, 200, *range(290, 300)):
        assert run(j, 1) == tuple([column[j]] for column in whole)


# ---- One target and a constant force: exact for any step -------------------------------------------------------------


def naive(rng: np.random.Generator, runs: int, dt: float) -> Floats:
    """The same walk, looked at after each step only: what people write first."""
    x, times, running, steps = np.zeros(runs), np.zeros(runs), np.arange(runs), 0
    while len(running):
        steps += 1
        x[running] += dt + math.sqrt(dt) * rng.standard_normal(len(running))
        arrived = x[running] >= 1
        times[running[arrived]] = steps * dt
        running = running[~arrived]
    return times


def test_drifted_brownian_motion_is_exact_for_huge_steps(seed: int) -> None:
    passages = simulate_diffusion(Diffusion.of_law(DRIFTED), 10**6, stream(seed, "drifted"), time_step=0.25)
    assert (passages.method, passages.time_step, passages.n, passages.requested) == ("bridge", 0.25, 10**6, 10**6)
    assert passages.arrived.all()
    assert passages.at_upper.all()
    assert not passages.restarts.any()
    looked_at = naive(stream(seed, "naive"), 50_000, 0.25)
    for times, right in ((passages.times, True), (looked_at, False)):
        assert bool(agreement(times, DRIFTED.mean, detects=0.1)) is right
        assert bool(agreement(np.exp(-times), DRIFTED.laplace(1.0), detects=0.1)) is right
        assert fits(times[:50_000], DRIFTED) is right
    # Smaller steps do not help the naive walk much.
    assert not agreement(naive(stream(seed, "naive"), 20_000, 0.01), DRIFTED.mean, detects=0.1)
    assert agreement(passages.times, DRIFTED.mean, detects=0.02)
    assert agreement((passages.times - 1) ** 2, DRIFTED.variance, detects=0.05)


@pytest.mark.parametrize("time_step", [None, 0.003, 3.0, 100.0])
def test_brownian_motion_is_exact_for_any_step(time_step: float | None, seed: int) -> None:
    law = Brownian(1.0, 1.0)
    process = Diffusion.of_law(law)
    passages = simulate_diffusion(process, 50_000, stream(seed, "brownian"), time_step=time_step, horizon=20.0)
    transform = np.where(passages.arrived, np.exp(-3 * passages.times), 0.0)
    assert agreement(transform, law.laplace(3.0), detects=0.1)
    assert agreement(passages.times, law.restricted_mean(20.0), detects=0.1)
    assert agreement(passages.arrived, float(law.arrived(20.0)), detects=0.1)
    assert not agreement(passages.arrived, float(Brownian(1.0, 0.5).arrived(20.0)), detects=0.05)


def test_away_from_the_target(seed: int) -> None:
    law = DriftDiffusion(1.0, -0.5, 1.0)
    process = Diffusion.of_potential(linear(-0.5), diffusivity=1.0, start=0.0, target=1.0)
    assert process.force.tolist() == [-0.5]
    passages = simulate_diffusion(process, 10**5, stream(seed, "away"), horizon=8.0)
    assert agreement(passages.arrived, float(law.arrived(8.0)), detects=0.05)
    assert not agreement(passages.arrived, float(DriftDiffusion(1.0, 0.0, 1.0).arrived(8.0)), detects=0.05)
    assert agreement(passages.times, law.restricted_mean(8.0), detects=0.05)


# ---- Two targets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.1, 0.25, 0.5, 0.9])
def test_interval(start: float, seed: int) -> None:
    law = Interval(1.0, start, 1.0)
    passages = simulate_diffusion(Diffusion.of_law(law), 400_000, stream(seed, f"interval {start}"))
    assert agreement(passages.times, start * (1 - start) / 2, detects=0.03)
    assert agreement(passages.times**2, law.moment(2), detects=0.1)
    assert agreement(passages.at_upper, start, detects=0.06)
    assert fits(passages.times[:50_000], law)
    # Of a mistaken factor 2 in D; the probability of the nearer end.
    assert not agreement(passages.times, start * (1 - start), detects=0.03)
    assert start == 0.5 or not agreement(passages.at_upper, 1 - start, detects=0.06)


def test_a_start_close_to_one_of_two_targets(seed: int) -> None:
    """Most runs end at once. Those of a step that might have met both targets must not be counted as long ones."""
    law = Interval(1.0, 1e-3, 1.0)
    process, late = Diffusion.of_law(law), float(law.survival(0.01))
    times = simulate_diffusion(process, 10**6, stream(seed, "close")).times
    assert agreement(times > 0.01, late, detects=0.2)
    coarse = simulate_diffusion(process, 10**6, stream(seed, "close"), time_step=0.05).times
    assert not agreement(coarse > 0.01, late)


def test_decision(seed: int) -> None:
    passages = simulate_diffusion(DECISION, 10**6, stream(seed, "decision"))
    upper = 1 / (1 + math.exp(-2))
    assert upper == pytest.approx(0.880797, abs=1e-6)
    assert agreement(passages.times, math.tanh(1), detects=0.02)
    assert agreement(passages.at_upper, upper, detects=0.02)
    assert agreement(passages.times[passages.at_upper], math.tanh(1), detects=0.02)
    assert agreement(passages.times[~passages.at_upper], math.tanh(1), detects=0.04)
    assert not agreement(passages.times, math.tanh(1) * 1.02, detects=0.02)  # the naive walk at dt = 0.001: + 3 %
    assert not agreement(passages.at_upper, 1 / (1 + math.exp(-1)), detects=0.02)  # e^{-vL / 2D}


@njit(**UNCACHED)
def chosen(upper_met, x, y, lower, upper, sharpness, tickets):
    for i in range(len(upper_met)):
        upper_met[i] = _meets_upper(x, y, lower, upper, sharpness, tickets, i % LANES)


def test_a_step_that_meets_one_of_two_targets(seed: int) -> None:
    # Long steps only end up here often: e^{-h h' / (D dt)} for either target.
    tickets = stream(seed, "tickets").integers(2**64, size=LANES, dtype=np.uint64)
    for x, y in ((0.4, 0.45), (0.7, 0.6), (0.5, 0.5)):
        upper_met = np.zeros(40_000, np.bool_)
        chosen(upper_met, x, y, 0.0, 1.0, 5.0, tickets)
        above, below = math.exp(-5 * (1 - x) * (1 - y)), math.exp(-5 * x * y)
        assert agreement(upper_met, above / (above + below), detects=0.1)
        if x != y:
            halved = math.sqrt(above) / (math.sqrt(above) + math.sqrt(below))
            assert not agreement(upper_met, halved, detects=0.1)
    for x, y, expected in ((0.5, 1.1, True), (0.5, -0.1, False), (0.5, 1.0, True), (0.5, 0.0, False)):
        chosen(upper_met[:1], x, y, 0.0, 1.0, 5.0, tickets)
        assert upper_met[0] == expected
    chosen(upper_met[:1], 0.5, 0.5, -math.inf, 1.0, 5.0, tickets)
    assert upper_met[0]


# ---- Horizon ---------------------------------------------------------------------------------------------------------


def test_horizon(seed: int) -> None:
    process = Diffusion.of_law(ORNSTEIN_UHLENBECK)
    free = simulate_diffusion(process, 20_000, stream(seed, "horizon"))
    stopped = simulate_diffusion(process, 20_000, stream(seed, "horizon"), horizon=1.7)
    assert (stopped.times[~stopped.arrived] == 1.7).all()
    assert not stopped.at_upper[~stopped.arrived].any()
    assert stopped.arrived.tolist() == (free.times <= 1.7).tolist()
    assert stopped.times == pytest.approx(np.minimum(free.times, 1.7), rel=1e-12)
    with pytest.raises(
        ValueError, match=r"\d+\.\d+% of the runs were stopped at the horizon: E\[T\] is not identified"
    ):
        stopped.mean()
    assert free.mean().value == free.times.mean() == free.restricted_mean().value
    assert stopped.restricted_mean().value == stopped.times.mean()
    assert stopped.restricted_mean(0.5).value == np.minimum(free.times, 0.5).mean()
    assert free.restricted_mean(1e6).value == free.times.mean()
    with pytest.raises(ValueError, match=r"horizon=2\.0 must be <= 1\.7, where runs were stopped"):
        stopped.restricted_mean(2.0)
    with pytest.raises(ValueError, match=r"horizon=0 must be finite and > 0"):
        stopped.restricted_mean(0)


@pytest.mark.parametrize("horizon", [0.1, 0.4, 1.0])
def test_restricted_mean(horizon: float, seed: int) -> None:
    passages = simulate_diffusion(Diffusion.of_law(DRIFTED), 200_000, stream(seed, "restricted"), horizon=horizon)
    assert agreement(passages.times, DRIFTED.restricted_mean(horizon), detects=0.02)
    if horizon > 0.1:
        assert agreement(passages.arrived, float(DRIFTED.arrived(horizon)), detects=0.05)
        finished = passages.times[passages.arrived]
        assert not agreement(finished, DRIFTED.restricted_mean(horizon), detects=0.05)


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Diffusion(np.zeros(1), -1.0, 0.0, 1.0), r"diffusivity=-1.0 must be finite and > 0"),
        (lambda: Diffusion(np.zeros(1), 1.0, 1.0, 1.0), r"start=1.0 must lie between the targets -inf and 1.0"),
        (lambda: Diffusion(np.zeros(1), 1.0, -2.0, 1.0, -1.0), r"start=-2.0 must lie between the targets -1.0 and 1.0"),
        (lambda: Diffusion(np.zeros(1), 1.0, math.nan, 1.0), r"start=nan must lie between"),
        (lambda: Diffusion(np.zeros(1), 1.0, 0.0, math.inf), r"between the targets -inf and inf"),
        (lambda: Diffusion.of_law(Deterministic(1.0)), r"Deterministic has no diffusion behind it; .* law.sample"),
        (
            lambda: Diffusion.of_potential(WELL, diffusivity=1.0, start=0.5, target=0.5),
            r"start=0.5 is the target; they must differ",
        ),
        (
            lambda: Diffusion.of_potential(WELL, diffusivity=0.0, start=0.0, target=0.5),
            r"diffusivity=0.0 must be finite and > 0",
        ),
        (
            lambda: Diffusion.of_potential(Potential("sin(x)"), diffusivity=1.0, start=0.0, target=0.5),
            r"the potential sin\(x\) does not confine the particle .*: give limits",
        ),
        (
            lambda: Diffusion.of_potential(logarithmic(2.0), diffusivity=0.1, start=1.0, target=-0.5),
            r"is outside the domain 0.0 < x < inf",
        ),
    ],
)
def test_refuses_a_process(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_step": 0.0}, r"time_step=0.0 must be finite and > 0"),
        ({"time_step": -1.0}, r"time_step=-1.0 must be finite and > 0"),
        ({"time_step": math.nan}, r"time_step=nan must be finite and > 0"),
        ({"horizon": 0.0}, r"horizon=0.0 must be > 0"),
        ({"horizon": math.nan}, r"horizon=nan must be > 0"),
        ({"again": 1.0}, r"again=1.0 must lie between the targets -inf and 1.0"),
        ({"runs": 0}, r"runs=0 must lie between 1 and 10\^9"),
        ({"runs": 10**10}, r"runs=10000000000 must lie between 1 and 10\^9"),
        ({"threads": 0}, r"threads=0 must be >= 1"),
    ],
)
def test_refuses_an_argument(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_diffusion(**{"diffusion": Diffusion.of_law(DRIFTED), "runs": 10, "rng": stream(0, ""), **arguments})


def test_refuses_steps_too_long_for_the_force(seed: int) -> None:
    # Runs that leave for infinity were counted as arrivals once, at a time that was no number.
    process = Diffusion.of_potential(WELL, diffusivity=1.0, start=-1.0, target=3.0)
    with pytest.raises(ValueError, match=r"time_step=0.6 is too long for this force: runs left for infinity"):
        simulate_diffusion(process, 500, stream(seed, "diverging"), time_step=0.6)


def test_whole_numbers_do_not_need_another_kernel() -> None:
    simulate_diffusion(Diffusion.of_law(DRIFTED), 10, stream(0, ""))
    compiled = len(first_passages.signatures)
    process = Diffusion(np.array([1.0]), 1, 0, 1, -1)
    simulate_diffusion(process, 10, stream(0, ""), clock=(SHARP, 1), overhead=1, again=0, horizon=5, time_step=1)
    simulate_diffusion(Diffusion.of_law(Interval(2, 1, 1)), 10, stream(0, ""), clock=(NEVER, 0))
    simulate_diffusion(
        Diffusion.of_potential(TABLED_WELL, diffusivity=1, start=-1, target=1, limits=(-4, 2)), 10, stream(0, "")
    )
    assert len(first_passages.signatures) == compiled
