"""Restarted processes: anchors of reference/first_passage.md, sections 4.1 to 4.5, by both methods."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from sim import resetting
from sim.ensemble import run_in_chunks
from sim.exact_passages import restarted_passages
from sim.first_passage import Diffusion, simulate_diffusion
from sim.langevin import POISSON, SHARP
from sim.random_streams import stream
from sim.resetting import MOST_ATTEMPTS, simulate_restarted
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval, OrnsteinUhlenbeck
from theory.estimate import agreement
from theory.heavy_tailed_times import LogNormal
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic, EmpiricalLaw
from theory.resetting import Restarted
from theory.waiting_times import Exponential, Gamma

RUNS = 200_000
FREE = Brownian(1.0, 1.0)
AWAY = DriftDiffusion(1.0, -1.0, 1.0)
TOWARD = DriftDiffusion(1.0, 0.5, 1.0)

ANCHORS: list[tuple[PassageLaw, PassageLaw, float, float]] = [
    (FREE, Exponential(1.0), 0.0, 1.71828182845904524),
    (FREE, Exponential(2.0), 0.0, 1.55662518939146376),
    (Brownian(1.0, 0.5), Exponential(1.0), 0.0, 3.11325037878292752),
    (FREE, Deterministic(0.5), 0.0, 1.33831123184767913),
    (FREE, Deterministic(1.0), 0.0, 1.50185802435836428),
    (AWAY, Exponential(1.0), 0.0, 4.04316564336002865),
    (DriftDiffusion(1.0, 1.0, 1.0), Exponential(1.0), 0.0, 0.855276958614304728),
    (DriftDiffusion(2.0, 0.5, 1.0), Exponential(0.1), 0.0, 3.5828893938578527),
    (TOWARD, Exponential(2.0), 0.3, 1.8195357576),
]


@pytest.mark.parametrize("method", ["exact", "bridge"])
@pytest.mark.parametrize(("law", "timer", "overhead", "mean"), ANCHORS)
def test_anchors(law: PassageLaw, timer: PassageLaw, overhead: float, mean: float, method: str, seed: int) -> None:
    assert Restarted(law, timer, overhead).mean == pytest.approx(mean, rel=1e-9)
    passages = simulate_restarted(law, timer, RUNS, stream(seed, f"anchor {mean}"), overhead=overhead, method=method)
    assert (passages.method, passages.n, passages.requested) == (method, RUNS, RUNS)
    assert passages.arrived.all()
    assert agreement(passages.times, mean, detects=0.04)
    failure = 1 - law.laplace(timer.rate) if isinstance(timer, Exponential) else float(law.survival(timer.mean))
    assert agreement(passages.restarts, failure / (1 - failure), detects=0.1)
    # Forgotten: the restarts before the last (E[T] of those that need none); the overhead.
    assert not agreement(passages.times, law.restricted_mean(timer.mean))
    assert overhead == 0 or not agreement(passages.times, Restarted(law, timer).mean, detects=0.04)


def test_restart_at_another_place(seed: int) -> None:
    # From 1 with the target at 0, restarted at 2.
    process = Diffusion(np.zeros(1), 1.0, -1.0, 0.0)
    passages = simulate_diffusion(process, 400_000, stream(seed, "again"), clock=(POISSON, 1.0), again=-2.0)
    assert agreement(passages.times, 4.67077427047160499, detects=0.04)
    assert not agreement(passages.times, math.expm1(1), detects=0.1)  # restarted where it began
    assert not agreement(passages.times, Restarted(Brownian(2.0, 1.0), Exponential(1.0)).mean, detects=0.04)
    sharp = simulate_diffusion(process, 400_000, stream(seed, "again"), clock=(SHARP, 1.0), again=-2.0, overhead=0.5)
    law = Restarted(FREE, Deterministic(1.0), 0.5, after=Brownian(2.0, 1.0))
    assert agreement(sharp.times, law.mean, detects=0.04)


@pytest.mark.parametrize("method", ["exact", "bridge"])
def test_the_interval_matters(method: str, seed: int) -> None:
    times = simulate_restarted(FREE, Deterministic(1.0), RUNS, stream(seed, "interval"), method=method).times
    for interval, right in ((1.0, True), (0.7, False), (1.5, False)):
        assert bool(agreement(times, Restarted(FREE, Deterministic(interval)).mean, detects=0.04)) is right
    # Poisson restarts at the rate of the sharp ones.
    assert not agreement(times, Restarted(FREE, Exponential(1.0)).mean, detects=0.04)


@pytest.mark.parametrize(
    ("law", "timer", "mean"),
    [
        (OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0), Exponential(1.0), 1.77428595767001),
        (OrnsteinUhlenbeck(-1.0, 1.0, 1.0, 1.0), Exponential(1.0), 4.302974375068754),
        (OrnsteinUhlenbeck(1.0, -1.0, 1.0, 1.0), Exponential(1.0), 4.302974375068754),
        (OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0), Deterministic(1.0), None),
        (Interval(1.0, 0.1, 1.0), Exponential(253.9443514162387), 0.01544133253423609),
        (Interval(1.0, 0.25, 1.0), Deterministic(0.05), None),
    ],
)
def test_laws_that_take_steps(law: PassageLaw, timer: PassageLaw, mean: float | None, seed: int) -> None:
    exact = Restarted(law, timer).mean
    assert mean is None or exact == pytest.approx(mean, rel=1e-9)
    passages = simulate_restarted(law, timer, RUNS, stream(seed, f"steps {law} {timer}"))
    assert passages.method == "bridge"
    assert agreement(passages.times, exact, detects=0.04)
    assert not agreement(passages.times, law.mean, detects=0.04)


@pytest.mark.parametrize("method", ["exact", "bridge"])
@pytest.mark.parametrize(("law", "overhead"), [(FREE, 0.0), (AWAY, 0.0), (TOWARD, 0.3)])
def test_law_under_sharp_restart(law: PassageLaw, overhead: float, method: str, seed: int) -> None:
    from scipy.stats import kstest

    timer, runs = Deterministic(0.7), 50_000
    times = simulate_restarted(law, timer, runs, stream(seed, "sharp"), overhead=overhead, method=method).times
    for interval, right in ((0.7, True), (0.8, False)):
        restarted = Restarted(law, Deterministic(interval), overhead)
        assert bool(kstest(times, lambda t, one=restarted: 1 - one.survival(t)).pvalue > 1e-6) is right
    if overhead:
        assert not ((times % 1.0 > 0.7 + 1e-9) & (times % 1.0 < 1 - 1e-9)).any()  # nobody arrives while waiting
        assert kstest(times, lambda t: 1 - Restarted(law, timer).survival(t)).pvalue < 1e-6


@pytest.mark.parametrize("method", ["exact", "bridge"])
def test_law_under_poisson_restart(method: str, seed: int) -> None:
    times = simulate_restarted(FREE, Exponential(1.0), RUNS, stream(seed, "poisson"), method=method).times
    assert agreement(times**2, 6.62326671248416475, detects=0.1)
    law = Restarted(FREE, Exponential(1.0))
    for t in (0.1, 0.5, 2.0, 6.0):
        assert agreement(times > t, float(law.survival(t)), detects=0.2)
    assert agreement(np.exp(-times), law.laplace(1.0), detects=0.04)
    assert not agreement(times**2, 2 * math.expm1(1) ** 2, detects=0.1)  # if T were exponential


def test_without_a_timer(seed: int) -> None:
    passages = simulate_restarted(TOWARD, None, RUNS, stream(seed, "free"))
    assert (passages.method, passages.time_step) == ("exact", None)
    assert passages.restarts is not None
    assert not passages.restarts.any()
    assert agreement(passages.times, 2.0, detects=0.05)
    assert agreement(np.exp(-passages.times), TOWARD.laplace(1.0), detects=0.04)
    assert not agreement(passages.times, FREE.restricted_mean(1e3), detects=0.04)
    # Levy's law, whose mean is infinite.
    times = simulate_restarted(FREE, None, RUNS, stream(seed, "levy")).times
    assert np.isfinite(times).all()
    assert agreement(np.exp(-times), math.exp(-1), detects=0.04)
    assert agreement(times > 1.099, 0.5, detects=0.04)
    steps = simulate_restarted(Interval(1.0, 0.5, 1.0), None, RUNS, stream(seed, "interval"), method="bridge")
    assert agreement(steps.times, 0.125, detects=0.04)


@pytest.mark.parametrize("timer", [Gamma(2.0, 0.8), LogNormal(0.0, 0.5)])
def test_other_timers_are_sampled(timer: PassageLaw, seed: int) -> None:
    passages = simulate_restarted(LogNormal(0.0, 1.0), timer, RUNS, stream(seed, "generic"), overhead=0.1)
    law = Restarted(LogNormal(0.0, 1.0), timer, 0.1)
    assert passages.method == "exact"
    assert agreement(passages.times, law.mean, detects=0.04)
    assert not agreement(passages.times, Restarted(law.law, timer).mean, detects=0.04)
    brownian = simulate_restarted(FREE, Gamma(2.0, 0.8), 50_000, stream(seed, "brownian"))
    assert agreement(brownian.times, Restarted(FREE, Gamma(2.0, 0.8)).mean, detects=0.1)


def test_anchor_of_a_gamma_timer(seed: int) -> None:
    times = simulate_restarted(LogNormal(0.0, 1.0), Gamma(2.0, 0.8), RUNS, stream(seed, "gamma")).times
    assert agreement(times, 1.535004838107, detects=0.04)
    assert not agreement(times, 1.535004838107 + 0.1, detects=0.04)


# ---- Horizon and determinism -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["exact", "bridge"])
@pytest.mark.parametrize("timer", [None, Exponential(1.0), Deterministic(0.7)])
def test_horizon(timer: PassageLaw | None, method: str, seed: int) -> None:
    overhead = 0.0 if timer is None else 0.3
    passages = simulate_restarted(
        AWAY, timer, RUNS, stream(seed, "horizon"), overhead=overhead, horizon=2.5, method=method
    )
    assert (passages.times[~passages.arrived] == 2.5).all()
    assert passages.times.max() <= 2.5 * (1 + 1e-14)
    law = AWAY if timer is None else Restarted(AWAY, timer, overhead)
    arrived = float(law.arrived(2.5))
    assert agreement(passages.arrived, arrived, detects=0.05)
    assert agreement(passages.times, law.restricted_mean(2.5), detects=0.02)
    assert passages.restricted_mean().value == passages.times.mean()
    with pytest.raises(ValueError, match=r"stopped at the horizon: E\[T\] is not identified"):
        passages.mean()
    assert not agreement(passages.arrived, float(AWAY.arrived(2.5)) if timer else 1.0, detects=0.05)
    if isinstance(timer, Deterministic):
        # At 0.7, 1.7 and, in the third attempt, not any more before 2.5.
        assert set(passages.restarts[~passages.arrived]) == {2}


def test_horizon_of_sampled_times(seed: int) -> None:
    passages = simulate_restarted(LogNormal(0.0, 1.0), Gamma(2.0, 0.8), 1000, stream(seed, "sampled"), horizon=1.0)
    assert (passages.times[~passages.arrived] == 1.0).all()
    assert passages.times.max() == 1.0
    never = simulate_restarted(
        EmpiricalLaw(np.array([2.0])), EmpiricalLaw(np.array([1.0])), 5, stream(seed, "never"), horizon=9.0
    )
    assert never.times.tolist() == [9.0] * 5
    assert not never.arrived.any()


@pytest.mark.parametrize("timer", [None, Exponential(1.0), Deterministic(0.7)])
def test_neither_threads_nor_chunks_nor_the_number_of_runs_matter(
    timer: PassageLaw | None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    law = TOWARD if timer is None else AWAY

    def simulate(runs: int, threads: int | None = None) -> list[list[float]]:
        passages = simulate_restarted(law, timer, runs, stream(seed, "chunks"), overhead=0.1, threads=threads)
        return [passages.times.tolist(), passages.restarts.tolist()]

    whole = simulate(3003)
    for threads in (1, 2):
        for chunk in (13, 64, 1000, 8192):
            monkeypatch.setattr(resetting, "run_in_chunks", partial(run_in_chunks, chunk=chunk))
            for runs in (3003, 1, 701):
                assert simulate(runs, threads) == [column[:runs] for column in whole]


def test_whole_numbers_do_not_need_another_kernel() -> None:
    simulate_restarted(FREE, Deterministic(1.0), 10, stream(0, ""))
    compiled = len(restarted_passages.signatures)
    simulate_restarted(DriftDiffusion(1, 1, 1), Deterministic(1), 10, stream(0, ""), overhead=1, horizon=5)
    assert len(restarted_passages.signatures) == compiled


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda rng: simulate_restarted(FREE, None, 1, rng, method="euler"),
            r"method='euler' must be 'auto', 'exact' or",
        ),
        (lambda rng: simulate_restarted(FREE, None, 1, rng, overhead=-1.0), r"overhead=-1.0 must be finite and >= 0"),
        (lambda rng: simulate_restarted(FREE, None, 1, rng, horizon=0.0), r"horizon=0.0 must be > 0"),
        (lambda rng: simulate_restarted(FREE, None, 0, rng), r"runs=0 must lie between 1 and 10\^9"),
        (lambda rng: simulate_restarted(FREE, Gamma(2.0, 1.0), 0, rng), r"runs=0 must lie between 1 and 10\^9"),
        (
            lambda rng: simulate_restarted(FREE, None, 1, rng, time_step=0.1),
            r"time_step=0.1 has no use: .*method='bridge'",
        ),
        (
            lambda rng: simulate_restarted(FREE, None, 1, rng, time_step=0.0, method="bridge"),
            r"time_step=0.0 must be finite and > 0",
        ),
        (
            lambda rng: simulate_restarted(FREE, Gamma(2.0, 1.0), 1, rng, method="bridge"),
            r"timer Gamma: time steps know exponential and deterministic timers only",
        ),
        (
            lambda rng: simulate_restarted(LogNormal(0.0, 1.0), Exponential(1.0), 1, rng, method="bridge"),
            r"LogNormal has no diffusion behind it; its times can be drawn",
        ),
        (
            lambda rng: simulate_restarted(OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0), None, 1, rng, method="exact"),
            r"samples of an Ornstein-Uhlenbeck law are in closed form for target=0 only",
        ),
    ],
)
def test_refuses(call: Callable[[np.random.Generator], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(stream(0, "refused"))


@pytest.mark.parametrize("method", ["exact", "bridge"])
def test_refuses_what_would_not_end(method: str) -> None:
    rng = stream(0, "refused")
    with pytest.raises(ValueError, match=r"only 36\.788% of the runs ever arrive: give a horizon"):
        simulate_restarted(AWAY, None, 10, rng, method=method)
    for timer in (Deterministic(0.005), Exponential(1e4)):
        with pytest.raises(ValueError, match=r"an attempt succeeds with probability .*e-\d+ before its restart"):
            simulate_restarted(FREE, timer, 10, rng, method=method)
        stopped = simulate_restarted(FREE, timer, 10, rng, horizon=1.0, method=method)
        assert stopped.times.tolist() == [1.0] * 10
    # Just not refused: a success in a million attempts.
    assert 1 / MOST_ATTEMPTS < float(FREE.arrived(0.0209)) < 2e-6


@pytest.mark.parametrize("timer", [Deterministic(1.0), EmpiricalLaw(np.array([0.5, 1.0])), Gamma(2.0, 1e-9)])
def test_refuses_attempts_that_cannot_succeed(timer: PassageLaw) -> None:
    # Runs that never arrived were returned as arrivals at infinity once, for timers that are sampled.
    with pytest.raises(ValueError, match=r"an attempt succeeds with probability 0 before its restart"):
        simulate_restarted(EmpiricalLaw(np.array([2.0, 3.0])), timer, 10, stream(0, "refused"))


def test_progress_of_laws_that_are_drawn_at_once(seed: int) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int, _text: str) -> None:
        if told:
            raise KeyboardInterrupt
        told.append((done, total))

    runs = 3 * resetting.DRAWN_AT_ONCE
    part = simulate_restarted(Gamma(2.0, 1.0), None, runs, stream(seed, "drawn"), progress=progress)
    assert told == [(resetting.DRAWN_AT_ONCE, runs)]
    assert resetting.DRAWN_AT_ONCE <= part.n < part.requested == runs
    assert agreement(part.times, 2.0)
