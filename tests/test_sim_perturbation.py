"""Simulated perturbed walks against the exact chains of the same walks: sections 6.3 and 6.5 of the reference."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from sim import perturbation as simulator
from sim.ensemble import run_in_chunks
from sim.epochs import perturbed_passages
from sim.perturbation import Perturbation, full_reset, shrink_and_perturb, simulate_perturbed
from sim.random_streams import stream
from theory.epoch_walk import DOUBLE_WELL, TRAP_WITH_BARRIER, EpochWalk
from theory.estimate import agreement
from theory.fokker_planck import GridChain, refine
from theory.markov_chain import restart_kernel, survival
from theory.perturbed_chain import periodic_mean, periodic_survival
from theory.potentials import Potential, double_well, harmonic, trap_with_barrier
from theory.survival import FirstPassages

END = 10**6
"""A horizon that no perturbed run sees."""

SMALL = EpochWalk(harmonic(), 1.0, 0.2, 0.04, -0.5, 0.3, 0.9, (-5.0, 4.0))
"""A walk of five steps per epoch whose coarse chain is quick and accurate."""

STRONG, WEAK = shrink_and_perturb(0.2, 0.1, 0.2), shrink_and_perturb(0.4, 0.1, 0.2)

TRAP = [
    (2, 3.63537137, 3.92858611, 14.11741105),
    (3, 4.10681260, 4.46714479, 7.98238955),
    (5, 4.96064243, 5.43225910, 7.43926042),
    (10, 6.94544744, 7.53738202, 10.06906248),
    (20, 10.82247727, 11.51880115, 16.31551851),
    (100, 41.43172065, 42.85142524, 65.39090146),
]


def simulate(
    walk: EpochWalk, runs: int, seed: int, change: Perturbation | None, interval: int | None, horizon: int = END
) -> FirstPassages:
    rng = stream(seed, f"{walk} {change} {interval}")
    return simulate_perturbed(walk, runs, rng, horizon=horizon, perturbation=change, interval=interval)


# ---- The tables of the reference -------------------------------------------------------------------------------------


@cache
def chain(walk: EpochWalk, cells: int) -> GridChain:
    return walk.chain(cells)


@cache
def exact(walk: EpochWalk, shrink: float, perturb: float, interval: int, cells: int) -> float:
    """E[T_P], extrapolated from two grids that have an edge at the target. The map (0, 0) is the restart."""

    def mean(cells: int) -> float:
        grid = chain(walk, cells)
        kernel = grid.shrink_and_perturb(shrink, perturb) if perturb else restart_kernel(grid.chain)
        return periodic_mean(grid.chain, kernel, interval)

    return refine(mean, cells).extrapolated


def held_against_the_chain(
    walk: EpochWalk, cells: int, shrink: float, perturb: float, interval: int, table: float, detects: float, seed: int
) -> None:
    """A table is off by up to 0.8 %, for the target is no edge of its cells. P + 1 must be rejected, if it matters."""
    change = shrink_and_perturb(shrink, perturb, walk.initial_deviation)
    if perturb == 0:
        change = full_reset(walk.initial_mean, walk.initial_deviation)
    expected = exact(walk, shrink, perturb, interval, cells)
    assert expected == pytest.approx(table, rel=8e-3)
    passages = simulate(walk, 200_000, seed, change, interval)
    assert passages.observed.all()
    assert passages.times.min() >= 1
    assert agreement(passages.times, expected, detects=detects)
    other = exact(walk, shrink, perturb, interval + 1, cells)
    assert abs(other / expected - 1) < detects or not agreement(passages.times, other, detects=detects)


@pytest.mark.parametrize(("shrink", "perturb"), [(0.2, 0.1), (0.4, 0.1), (0.0, 0.0)])
@pytest.mark.parametrize("row", TRAP, ids=lambda row: f"P={row[0]}")
def test_trap_with_barrier(row: tuple[int, float, float, float], shrink: float, perturb: float, seed: int) -> None:
    table = row[1 + [0.2, 0.4, 0.0].index(shrink)]
    held_against_the_chain(TRAP_WITH_BARRIER, 200, shrink, perturb, row[0], table, 0.05, seed)


@pytest.mark.parametrize(
    ("shrink", "perturb", "interval", "table"),
    [
        (0.4, 0.1, 2, 28.51932788),
        (0.4, 0.1, 5, 64.80614337),
        (0.4, 0.5, 2, 15.15045547),
        (0.4, 0.5, 10, 37.63337965),
        (0.4, 0.5, 20, 70.28624834),
        (0.0, 0.0, 1, 7.45114740),
        (0.0, 0.0, 10, 13.06674778),
    ],
)
def test_double_well(shrink: float, perturb: float, interval: int, table: float, seed: int) -> None:
    held_against_the_chain(DOUBLE_WELL, 260, shrink, perturb, interval, table, 0.04, seed)


def test_maps_of_the_trap_are_told_apart(seed: int) -> None:
    # Where P + 1 makes no difference to speak of, such as at P = 100.
    for shrink, other in ((0.2, 0.4), (0.4, 0.2)):
        change = shrink_and_perturb(shrink, 0.1, 0.2)
        times = simulate(TRAP_WITH_BARRIER, 200_000, seed, change, 5).times
        assert agreement(times, exact(TRAP_WITH_BARRIER, shrink, 0.1, 5, 200), detects=0.05)
        assert not agreement(times, exact(TRAP_WITH_BARRIER, other, 0.1, 5, 200), detects=0.05)


# ---- The chain of the same walk --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grid() -> GridChain:
    return SMALL.chain(180)


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize(
    "change",
    [shrink_and_perturb(0.5, 0.8, 0.3), full_reset(-0.5, 0.3), Perturbation(0.0)],
    ids=["shrink", "full", "zero"],
)
def test_laws_are_those_of_the_chain(change: Perturbation, interval: int, grid: GridChain, seed: int) -> None:
    kernel = grid.partial_reset(0.0) if change.spread == 0 else grid.shrink_and_perturb(change.factor, 0.8)
    if change.shift:
        kernel = restart_kernel(grid.chain)
    times = simulate(SMALL, 300_000, seed, change, interval).times
    assert agreement(times, periodic_mean(grid.chain, kernel, interval), detects=0.03)
    assert not agreement(times, periodic_mean(grid.chain, kernel, interval + 1))
    psi = periodic_survival(grid.chain, kernel, interval, 12)
    for epoch in (1, 2, 3, 4, 7, 12):
        assert agreement(times > epoch, float(psi[epoch]), detects=0.2)
        assert not agreement(times >= epoch, float(psi[epoch]), detects=0.2)  # epochs that count from 0


def test_partial_reset(grid: GridChain, seed: int) -> None:
    kernel, passages = grid.partial_reset(0.5), simulate(SMALL, 300_000, seed, Perturbation(0.5), 2)
    assert agreement(passages.times, periodic_mean(grid.chain, kernel, 2), detects=0.03)
    assert not agreement(passages.times, periodic_mean(grid.chain, grid.partial_reset(0.25), 2), detects=0.03)


def test_unperturbed(grid: GridChain, seed: int) -> None:
    passages = simulate(SMALL, 200_000, seed, None, None, horizon=20)
    psi = survival(grid.chain, 20)
    assert agreement(passages.times, float(psi[:20].sum()), detects=0.03)
    assert agreement(~passages.observed, float(psi[20]), detects=0.5)
    assert (passages.times[~passages.observed] == 20).all()
    assert passages.times.max() == passages.horizon == 20
    assert not agreement(passages.times, float(psi[:20].sum()) - 1)  # epochs that count from 0
    # The identity is no perturbation, whatever its interval.
    same = simulate_perturbed(
        SMALL,
        2000,
        stream(seed, f"{SMALL} {None} {None}"),
        horizon=20,
        perturbation=Perturbation(1.0),
        interval=30,
    )
    assert same.times.tolist() == passages.times[:2000].tolist()


def test_horizon_cuts_off_the_same_runs(seed: int) -> None:
    free = simulate(SMALL, 5000, seed, STRONG, 2)
    stopped = simulate(SMALL, 5000, seed, STRONG, 2, horizon=4)
    assert stopped.times.tolist() == np.minimum(free.times, 4).tolist()
    assert stopped.observed.tolist() == (free.times <= 4).tolist()
    assert 0 < (~stopped.observed).sum() < 5000
    one = simulate(SMALL, 5000, seed, STRONG, 1, horizon=1)
    assert set(one.times) == {1}


# ---- Tables and mirrors ----------------------------------------------------------------------------------------------


def test_the_table_follows_the_cubic(seed: int) -> None:
    tabled = replace(
        TRAP_WITH_BARRIER, potential=Potential(f"{trap_with_barrier().expression} + 1e-9*cos(x)"), limits=(-2.5, 2.5)
    )
    cubic, table = (
        simulate_perturbed(walk, 20_000, stream(seed, "table"), horizon=END, perturbation=WEAK, interval=5)
        for walk in (TRAP_WITH_BARRIER, tabled)
    )
    assert (cubic.times == table.times).mean() > 0.99
    assert agreement(table.times, 5.43225910, detects=0.1)
    assert not agreement(table.times, 4.96064243, detects=0.08)


@pytest.mark.parametrize("wiggle", ["", " + 1e-9*cos(x)"], ids=["cubic", "table"])
def test_a_target_below_is_the_mirror_image(wiggle: str, seed: int) -> None:
    # -0.4 (x - 1) with noise, and its mirror image.
    above = EpochWalk(Potential("0.2*(x - 1)**2" + wiggle), 0.5, 0.2, 0.1, -0.5, 0.3, 0.9, (-6.0, 6.0))
    below = EpochWalk(Potential("0.2*(x + 1)**2" + wiggle), 0.5, 0.2, 0.1, 0.5, 0.3, -0.9, (-6.0, 6.0))
    one = simulate_perturbed(
        above, 20_000, stream(seed, "mirror"), horizon=END, perturbation=Perturbation(0.7, 0.3, 0.2), interval=3
    )
    other = simulate_perturbed(
        below, 20_000, stream(seed, "mirror"), horizon=END, perturbation=Perturbation(0.7, -0.3, 0.2), interval=3
    )
    assert (one.times == other.times).mean() > 0.999
    wrong = simulate_perturbed(
        below, 20_000, stream(seed, "mirror"), horizon=END, perturbation=Perturbation(0.7, 0.3, 0.2), interval=3
    )
    assert wrong.times.mean() > 1.05 * one.times.mean()


# ---- Determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [None, WEAK, Perturbation(0.9)])
def test_neither_threads_nor_chunks_nor_the_number_of_runs_matter(
    change: Perturbation | None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passages(runs: int, threads: int | None = None) -> list[list[int]]:
        result = simulate_perturbed(
            SMALL,
            runs,
            stream(seed, "chunks"),
            horizon=40,
            perturbation=change,
            interval=None if change is None else 3,
            threads=threads,
        )
        return [result.times.tolist(), result.observed.tolist()]

    whole = passages(3003)
    for threads in (1, 2):
        for chunk in (13, 64, 1000, 8192):
            monkeypatch.setattr(simulator, "run_in_chunks", partial(run_in_chunks, chunk=chunk))
            for runs in (3003, 1, 701):
                assert passages(runs, threads) == [column[:runs] for column in whole]


def test_whole_numbers_do_not_need_another_kernel() -> None:
    simulate_perturbed(SMALL, 10, stream(0, ""), horizon=10, perturbation=WEAK, interval=3)
    compiled = len(perturbed_passages.signatures)
    whole = EpochWalk(harmonic(), 1, 1, 1, 0, 1, 2, (-5, 5))
    simulate_perturbed(whole, 10, stream(0, ""), horizon=10, perturbation=Perturbation(1, 0, 0), interval=3)
    tabled = replace(whole, potential=Potential("x**6"))
    simulate_perturbed(tabled, 10, stream(0, ""), horizon=10)
    assert len(perturbed_passages.signatures) == compiled


# ---- Maps and refusals -----------------------------------------------------------------------------------------------


def test_maps() -> None:
    assert shrink_and_perturb(0.4, 0.1, 0.2) == Perturbation(0.4, 0.0, 0.1 * 0.2)
    assert shrink_and_perturb(0.4, -0.1, 0.2).spread == 0.1 * 0.2
    assert full_reset(-0.5, 0.2) == Perturbation(0.0, -0.5, 0.2)


def walked(**arguments: object) -> object:
    return simulate_perturbed(**{"walk": SMALL, "runs": 10, "rng": stream(0, ""), "horizon": 10, **arguments})  # pyright: ignore


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Perturbation(math.nan), r"factor=nan and shift=0.0 must be finite"),
        (lambda: Perturbation(0.5, math.inf), r"factor=0.5 and shift=inf must be finite"),
        (lambda: Perturbation(0.5, 0.0, -0.1), r"spread=-0.1 must be finite and >= 0"),
        (lambda: walked(runs=0), r"runs=0 must be .*>= 1"),
        (lambda: walked(horizon=0), r"horizon=0 must be .*>= 1"),
        (lambda: walked(horizon=1.5), r"horizon=1.5 must be a whole number"),
        (lambda: walked(interval=3), r"interval=3 and perturbation belong together: give both or neither"),
        (lambda: walked(perturbation=WEAK), r"interval=None and perturbation belong together"),
        (lambda: walked(perturbation=WEAK, interval=0), r"interval=0 must be .*>= 1"),
        (lambda: walked(threads=0), r"threads=0 must be >= 1"),
        (lambda: replace(SMALL, time_step=0.03), r"time_step=0.03 must divide the epoch of 0.2 into whole steps"),
        (lambda: replace(SMALL, time_step=0.3), r"time_step=0.3 must divide the epoch"),
        (lambda: replace(SMALL, target=5.0), r"target=5.0 and initial_mean=-0.5 must lie inside the limits"),
        (lambda: replace(SMALL, target=-0.5), r"initial_mean=-0.5 is the target; they must differ"),
        (lambda: replace(SMALL, diffusivity=0.0), r"diffusivity=0.0 must be finite and > 0"),
        (lambda: replace(SMALL, initial_deviation=-1.0), r"initial_deviation=-1.0 must be finite and >= 0"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_steps_too_long_for_the_force_are_refused() -> None:
    walk = EpochWalk(double_well(), 0.15, 10.0, 0.5, -1.0, 0.3, 0.9, (-2.6, 2.6))
    with pytest.raises(ValueError, match=r"time_step=0\.5 is too long for this force"):
        simulate_perturbed(walk, 1000, stream(0, "diverges"), horizon=10**8)
