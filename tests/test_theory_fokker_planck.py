"""Anchors are from reference/first_passage.md, sections 4.2, 6.3, 6.5 and 7, some checked there by Monte Carlo.

The tables are computed here by linear solvers; theory.markov_chain, which removes states one by one, is held against
them where it would take too long to use it throughout.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sim.random_streams import stream
from theory import continuous_chain, escape, toy_chains
from theory.absorbing import Floats
from theory.estimate import agreement
from theory.fokker_planck import GridChain, generator, grid_chain, point_cells, refine
from theory.markov_chain import Chain, mean_first_passage_time, restart_kernel, second_moment, survival
from theory.perturbation import perturbed_mean, renewal_mean
from theory.perturbed_chain import periodic_mean, residual_survival_once
from theory.potentials import Potential, double_well, harmonic, linear, trap_with_barrier
from theory.quasi_stationary import QuasiStationary, quasi_stationary_state

EXACT = 1e-10


class Solved:
    """Means by numpy's linear solver; what several tests need is kept. The restart is the map (0, 0)."""

    def __init__(self, grid: GridChain) -> None:
        self.grid, self.chain = grid, grid.chain
        self.psi = survival(self.chain, 100)
        self.kernel, self.stretch = cache(self._kernel), cache(self._stretch)
        self.residual, self.psi_res = cache(self._residual), cache(self._psi_res)

    def _kernel(self, shrink: float, perturb: float) -> Floats:
        return self.grid.shrink_and_perturb(shrink, perturb) if perturb else restart_kernel(self.chain)

    def _stretch(self, interval: int) -> tuple[np.ndarray, Floats]:
        """Q^P and sum_{t<P} Q^t 1."""
        duration, alive = np.zeros(self.chain.states), np.ones(self.chain.states)
        for _ in range(interval):
            duration, alive = duration + alive, self.chain.transient @ alive
        return np.linalg.matrix_power(self.chain.transient, interval), duration

    def means(self, shrink: float, perturb: float, interval: int) -> np.ndarray:
        """E[T_P] from each state."""
        power, duration = self.stretch(interval)
        cycle = power @ self.kernel(shrink, perturb)
        return np.linalg.solve(np.eye(self.chain.states) - cycle, duration)

    def mean(self, shrink: float, perturb: float, interval: int) -> float:
        return float(self.chain.initial @ self.means(shrink, perturb, interval))

    def _residual(self, shrink: float, perturb: float, interval: int) -> float:
        survivors = self.chain.initial @ self.stretch(interval)[0]
        means = self.means(shrink, perturb, interval)
        return float(survivors @ self.kernel(shrink, perturb) @ means / survivors.sum())

    def _psi_res(self, shrink: float, perturb: float) -> Floats:
        return residual_survival_once(self.chain, self.kernel(shrink, perturb), 100, 100)

    def errors(self, shrink: float, perturb: float, interval: int) -> tuple[float, float]:
        """Of renewal, from runs perturbed once at 100, and of Eq. (9), with the residual mean repeated every 100."""
        exact = self.mean(shrink, perturb, interval)
        rare = perturbed_mean(self.psi, interval, self.residual(shrink, perturb, 100))
        renewal = renewal_mean(self.psi, self.psi_res(shrink, perturb), interval)
        return float(renewal) / exact - 1, float(rare) / exact - 1


@pytest.fixture(scope="module")
def trap() -> Solved:
    return Solved(toy_chains.trap_with_barrier())


@pytest.fixture(scope="module")
def trapped(trap: Solved) -> QuasiStationary:
    return quasi_stationary_state(trap.chain)


@pytest.fixture(scope="module")
def wells() -> Solved:
    return Solved(toy_chains.double_well())


# ---- Trap with barrier, section 6.3 ----------------------------------------------------------------------------------

STRONG, WEAK, RESTART = (0.2, 0.1), (0.4, 0.1), (0.0, 0.0)


@pytest.mark.parametrize(
    ("interval", "strong", "strong_error", "weak", "weak_error", "restart"),
    [
        (2, 3.63537137, 5.0e-2, 3.92858611, 0.79, 14.11741105),
        (3, 4.10681260, 2.7e-2, 4.46714479, 0.48, 7.98238955),
        (5, 4.96064243, 6.7e-3, 5.43225910, 0.24, 7.43926042),
        (10, 6.94544744, 3.5e-4, 7.53738202, 0.12, 10.06906248),
        (20, 10.82247727, 3e-6, 11.51880115, 0.066, 16.31551851),
        (100, 41.43172065, 0, 42.85142524, 0, 65.39090146),
    ],
)
def test_trap_with_barrier(
    trap: Solved,
    interval: int,
    strong: float,
    strong_error: float,
    weak: float,
    weak_error: float,
    restart: float,
) -> None:
    means = [trap.mean(*name, interval) for name in (STRONG, WEAK, RESTART)]
    assert means == pytest.approx([strong, weak, restart], abs=1e-8)
    # The table's errors have two digits at best.
    for name, error in [(STRONG, strong_error), (WEAK, weak_error)]:
        assert trap.errors(*name, interval)[1] == pytest.approx(error, rel=0.1, abs=1e-12)
    # A restart renews exactly.
    assert trap.errors(*RESTART, interval)[0] == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize(("name", "mean"), [(STRONG, 6.94544744), (WEAK, 7.53738202), (RESTART, 10.06906248)])
def test_trap_by_state_reduction(trap: Solved, name: tuple[float, float], mean: float) -> None:
    assert periodic_mean(trap.chain, trap.kernel(*name), 10) == pytest.approx(mean, abs=1e-8)


def test_equation_9_is_far_off_for_restarts(trap: Solved) -> None:
    assert max(trap.errors(*RESTART, interval)[1] for interval in (2, 3, 5, 10, 20)) == pytest.approx(4.6, rel=0.01)


def test_trap_unperturbed(trap: Solved, trapped: QuasiStationary) -> None:
    mean = mean_first_passage_time(trap.chain)
    assert mean == pytest.approx(1447.75752453, rel=1e-11)
    assert second_moment(trap.chain) / mean**2 - 1 == pytest.approx(4.124713, rel=1e-6)
    assert trap.psi[[5, 10, 20, 100]] == pytest.approx([0.459723, 0.392640, 0.386951, 0.378676], abs=1e-6)
    assert trapped.survival_rate == pytest.approx(0.99973089, abs=1e-8)
    assert trapped.relaxation_epochs == pytest.approx(2.07, abs=0.005)


@pytest.mark.parametrize(("name", "once", "repeated"), [(STRONG, 2.121914, 2.119905), (WEAK, 93.268368, 5.869037)])
def test_trap_residuals(
    trap: Solved, trapped: QuasiStationary, name: tuple[float, float], once: float, repeated: float
) -> None:
    late = replace(trap.chain, initial=trapped.distribution @ trap.kernel(*name))
    assert mean_first_passage_time(late) == pytest.approx(once, abs=1e-6)
    assert trap.residual(*name, 100) == pytest.approx(repeated, abs=1e-6)


@pytest.mark.parametrize(
    ("interval", "shrink", "perturb", "renewal", "rare"),
    [
        (5, 0.4, 0.1, 4.5e-2, 2.4e-1),
        (10, 0.4, 0.1, 2.8e-3, 1.2e-1),
        (20, 0.4, 0.1, 1.8e-5, 6.6e-2),
        (30, 0.4, 0.1, 1.2e-7, 4.3e-2),
        (10, 0.7, 0.5, 6.2e-2, 5.6),
        (20, 0.7, 0.5, 4.9e-4, 2.6),
    ],
)
def test_renewal_on_the_trap(
    trap: Solved, interval: int, shrink: float, perturb: float, renewal: float, rare: float
) -> None:
    errors = trap.errors(shrink, perturb, interval)
    assert errors == (pytest.approx(renewal, rel=0.04), pytest.approx(rare, rel=0.04))


def test_trap_grid_matters_for_the_escape_and_not_for_perturbed_means(trap: Solved) -> None:
    coarse = Solved(toy_chains.trap_with_barrier(cells=401))
    assert mean_first_passage_time(coarse.chain) == pytest.approx(1383, abs=0.5)
    assert coarse.mean(*WEAK, 10) == pytest.approx(trap.mean(*WEAK, 10), rel=6e-4)


# ---- Double well, section 6.5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "interval", "mean", "digits"),
    [
        ((0.4, 0.1), 2, 28.51932788, 1e-8),
        ((0.4, 0.1), 5, 64.80614337, 1e-8),
        ((0.4, 0.1), 10, 120.43, 5e-3),
        ((0.4, 0.5), 2, 15.15045547, 1e-8),
        ((0.4, 0.5), 10, 37.63337965, 1e-8),
        ((0.4, 0.5), 20, 70.28624834, 1e-8),
        (RESTART, 1, 7.45114740, 1e-8),
        (RESTART, 10, 13.06674778, 1e-8),
    ],
)
def test_double_well(wells: Solved, name: tuple[float, float], interval: int, mean: float, digits: float) -> None:
    assert wells.mean(*name, interval) == pytest.approx(mean, abs=digits)


def test_double_well_unperturbed(wells: Solved) -> None:
    assert mean_first_passage_time(wells.chain) == pytest.approx(2275.804, abs=1e-3)
    law = quasi_stationary_state(wells.chain)
    assert law.survival_rate == pytest.approx(0.99977969, abs=1e-8)
    late = replace(wells.chain, initial=law.distribution @ wells.kernel(0.4, 0.1))
    assert mean_first_passage_time(late) == pytest.approx(4353, abs=0.5)


# ---- The grid chain --------------------------------------------------------------------------------------------------


def small(time_step: float | None, cells: int = 240, *, mirrored: bool = False) -> GridChain:
    sign = -1 if mirrored else 1
    return grid_chain(
        harmonic(1.5, 0.2 * sign),
        diffusivity=0.4,
        epoch=0.3,
        limits=(-3.0, 3.0),
        cells=cells,
        initial_mean=-0.5 * sign,
        initial_deviation=0.3,
        target=0.8 * sign,
        time_step=time_step,
    )


@pytest.mark.parametrize("time_step", [None, 0.1])
def test_a_target_below_is_the_mirror_image(time_step: float | None) -> None:
    above, below = small(time_step), small(time_step, mirrored=True)
    assert below.chain.transient[::-1, ::-1] == pytest.approx(above.chain.transient, abs=1e-12)
    assert mean_first_passage_time(below.chain) == pytest.approx(mean_first_passage_time(above.chain), rel=1e-9)


def test_small_steps_approach_the_propagator() -> None:
    # Euler-Maruyama has an error of first order in dt: Richardson leaves that of the grid.
    exact = mean_first_passage_time(small(None, 480).chain)
    coarse, fine = (mean_first_passage_time(small(step, 480).chain) for step in (0.15, 0.075))
    assert abs(coarse / exact - 1) > 0.02
    assert abs(fine - exact) < 0.6 * abs(coarse - exact)
    assert 2 * fine - coarse == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("time_step", [None, 0.1])
def test_error_is_of_second_order_in_the_cell_size(time_step: float | None) -> None:
    # The target is an edge on all grids.
    means = [mean_first_passage_time(small(time_step, cells).chain) for cells in (60, 120, 240)]
    assert (means[0] - means[1]) / (means[1] - means[2]) == pytest.approx(4, rel=0.15)


def test_propagator_is_that_of_the_rates() -> None:
    from scipy.linalg import expm

    grid = grid_chain(
        Potential("50*x**2"),  # steep: U/D rises by up to 25 from cell to cell
        diffusivity=0.2,
        epoch=0.05,
        limits=(-2.0, 2.0),
        cells=20,
        initial_mean=-1.0,
        initial_deviation=0.0,
        target=1.89,  # only the last cell
    )
    h, heights = 0.2, 50 * grid.centres**2 / 0.2
    rises = np.diff(heights)
    rates = np.diag(0.2 / h**2 * rises / np.expm1(rises), 1) + np.diag(-0.2 / h**2 * rises / np.expm1(-rises), -1)
    rates -= np.diag(rates.sum(axis=1))
    exact = expm(0.05 * rates)
    assert grid.chain.transient[:, :-1] == pytest.approx(exact[:, :-1], abs=1e-13)
    assert grid.chain.exits[-2] == pytest.approx(exact[-2, -1], rel=1e-6, abs=1e-12)
    boltzmann = np.exp(-heights) / np.exp(-heights).sum()
    assert boltzmann @ exact == pytest.approx(boltzmann, abs=1e-14)  # detailed balance


def test_a_point_is_split_so_that_its_mean_is_exact() -> None:
    centres = np.linspace(-1, 1, 9)
    x = np.array([-1.0, -0.3, 0.0, 0.11, 1.0])
    kernel = point_cells(centres, x)
    assert kernel @ centres == pytest.approx(x, abs=1e-15)
    assert kernel.sum(axis=1) == pytest.approx(1, rel=1e-15)
    assert ((kernel > 0).sum(axis=1) <= 2).all()
    grid = small(None)
    assert grid.partial_reset(1.0) == pytest.approx(np.eye(240), abs=1e-11)
    assert grid.partial_reset(0.3) @ grid.centres == pytest.approx(0.3 * grid.centres, abs=1e-12)
    assert grid.partial_reset(0.0) == pytest.approx(np.tile(grid.partial_reset(0.0)[0], (240, 1)))


def test_the_chain_is_the_simulated_process(seed: int) -> None:
    # Euler-Maruyama with a full and with a partial reset every second epoch; the target is watched at ends of epochs.
    rng = stream(seed, "grid chain")
    grid = small(0.1, 480)
    for fraction, wrong in [(0.5, 0.7), (0.0, 0.5)]:
        kernel = grid.partial_reset(fraction)
        x, times, alive = -0.5 + 0.3 * rng.standard_normal(40_000), np.zeros(40_000), np.ones(40_000, dtype=bool)
        epoch = 0
        while alive.any():
            for _ in range(3):
                x[alive] += -1.5 * (x[alive] - 0.2) * 0.1 + np.sqrt(0.08) * rng.standard_normal(alive.sum())
            times[alive] += 1
            epoch += 1
            alive &= x < 0.8
            if epoch % 2 == 0:
                x[alive] *= fraction
        assert agreement(times, periodic_mean(grid.chain, kernel, 2), detects=0.06)
        assert not agreement(times, periodic_mean(grid.chain, grid.partial_reset(wrong), 2))
        assert not agreement(times, periodic_mean(grid.chain, kernel, 1))
        assert not agreement(times, mean_first_passage_time(grid.chain))


# ---- The generator: watched at all times -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("potential", "diffusivity", "reflecting", "target", "start"),
    [
        (harmonic(), 1.0, -5.0, 1.0, 0.0),
        (harmonic(), 1.0, 4.0, -1.0, 0.25),
        (double_well(), 0.3, -2.0, 1.0, -0.8),
        (trap_with_barrier(), 0.05, -2.0, 0.9, -0.55),
        (linear(3.0), 0.5, 0.0, 1.0, 0.0),
    ],
)
def test_moments_converge_at_second_order(
    potential: Potential, diffusivity: float, reflecting: float, target: float, start: float
) -> None:
    where = {"diffusivity": diffusivity, "reflecting": reflecting, "target": target}
    for order, exact in [
        (1, escape.mean_escape_time(potential, start=start, **where)),
        (2, escape.second_moment(potential, start=start, **where)),
    ]:

        def moment(cells: int, order: int = order) -> float:
            grid = generator(potential, cells=cells, initial_mean=start, **where)
            return continuous_chain.moment(grid.chain, order)

        result = refine(moment, 120)
        assert (result.coarse - exact) / (result.fine - exact) == pytest.approx(4, rel=0.05)
        assert result.fine == pytest.approx(exact, rel=5e-3)
        assert result.extrapolated == pytest.approx(exact, rel=2e-5)


def test_brownian_motion_restarted_at_events_and_periodically() -> None:
    def free(cells: int) -> tuple[continuous_chain.ContinuousChain, Floats]:
        grid = generator(linear(0.0), diffusivity=1.0, reflecting=-12.0, target=1.0, cells=cells, initial_mean=0.0)
        return grid.chain, grid.partial_reset(0.0)

    poisson = refine(lambda cells: continuous_chain.poisson_mean(*free(cells), 1.0), 130)
    assert poisson.extrapolated == pytest.approx(1.71828182845904524, rel=1e-5)
    sharp = refine(lambda cells: continuous_chain.periodic_mean(*free(cells), 1.0), 130)
    assert sharp.extrapolated == pytest.approx(1.50185802435836428, rel=1e-5)


def test_partial_resets_lie_between_none_and_full_ones() -> None:
    grid = generator(linear(0.0), diffusivity=1.0, reflecting=-12.0, target=1.0, cells=260, initial_mean=0.0)
    means = [continuous_chain.poisson_mean(grid.chain, grid.partial_reset(a), 1.0) for a in (0.0, 0.5, 0.9, 1.0)]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(continuous_chain.moment(grid.chain, 1), rel=1e-9)
    assert means[-1] == pytest.approx(0.5 + 12.0, rel=1e-3)  # (L^2 / 2 + 12 L) / D


def test_a_landing_beyond_the_target_is_an_arrival() -> None:
    # Thrown far about at rate 5, half of the throws end it; in between the diffusion hardly moves. On both sides.
    for target in (1.0, -1.0):

        def mean(cells: int, target: float = target) -> float:
            grid = generator(
                linear(0.0),
                diffusivity=1e-2,
                reflecting=-target,
                target=target,
                cells=cells,
                initial_mean=0.0,
                initial_deviation=1.0,
            )
            start = replace(grid.chain, initial=point_cells(grid.centres, np.zeros(1))[0])
            return continuous_chain.poisson_mean(start, grid.shrink_and_perturb(0.0, 1e3), 5.0)

        assert mean(200) == pytest.approx(2 / 5, rel=0.02)
        assert refine(mean, 200).extrapolated == pytest.approx(2 / 5, rel=2e-3)


# ---- What is refused -------------------------------------------------------------------------------------------------

CHAIN = {
    "diffusivity": 1.0,
    "epoch": 1.0,
    "limits": (-2.0, 2.0),
    "cells": 20,
    "initial_mean": 0.0,
    "initial_deviation": 0.5,
    "target": 1.0,
}
RATES = {"diffusivity": 1.0, "reflecting": -2.0, "target": 1.0, "cells": 20, "initial_mean": 0.0}


def chain(text: str = "x**2", **changes: object) -> GridChain:
    return grid_chain(Potential(text), **{**CHAIN, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chain(diffusivity=0.0), r"diffusivity=0\.0 must be finite and > 0"),
        (lambda: chain(epoch=math.inf), r"epoch=inf must be finite and > 0"),
        (lambda: chain(time_step=-0.1), r"time_step=-0\.1 must be finite and > 0"),
        (lambda: chain(time_step=0.3), r"time_step=0\.3 must divide epoch=1\.0"),
        (lambda: chain(time_step=2.0), r"time_step=2\.0 must divide epoch=1\.0"),
        (lambda: chain(cells=1), r"cells=1 must be a whole number >= 2"),
        (lambda: chain(target=2.0), r"target=2\.0 and initial_mean=0\.0 must differ, and lie between the limits"),
        (lambda: chain(target=0.0), r"target=0\.0 and initial_mean=0\.0 must differ"),
        (lambda: chain(initial_mean=3.0), r"initial_mean=3\.0 must differ, and lie between"),
        (lambda: chain(initial_deviation=-1.0), r"initial_deviation=-1\.0 must be finite and >= 0"),
        (lambda: chain("log(x)"), r"U of the potential log\(x\) is nan at x=-1\.9"),
        (lambda: chain().shrink_and_perturb(0.4, 0), r"perturb=0 must be > 0"),
        (lambda: chain(initial_deviation=0.0).shrink_and_perturb(0.4, 0.1), r"the deviation 0\.0 of a fresh draw"),
        (lambda: chain().partial_reset(1.1), r"fraction=1\.1 must be in \[0, 1\]"),
        (
            lambda: chain(limits=(0.5, 2.0), initial_mean=0.7).partial_reset(0.5),
            r"x=0\.\d+ is outside the grid 0\.53\d* to",
        ),
        (lambda: generator(linear(), **{**RATES, "target": -2.0}), r"initial_mean=0\.0 must lie between"),
        (lambda: generator(linear(), **{**RATES, "initial_mean": 1.5}), r"initial_mean=1\.5 must lie between"),
        (lambda: generator(linear(), **{**RATES, "diffusivity": -1.0}), r"diffusivity=-1\.0 must be finite"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_kernels_are_accepted_by_the_chain() -> None:
    grid = chain()
    assert isinstance(grid.chain, Chain)
    for kernel in (grid.shrink_and_perturb(0.4, 0.1), grid.partial_reset(0.5), restart_kernel(grid.chain)):
        assert grid.chain.checked(kernel) == pytest.approx(kernel, abs=1e-12)
