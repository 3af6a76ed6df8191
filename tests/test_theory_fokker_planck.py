"""A trap with a barrier and a double well. Anchors are from reference/first_passage.md, sections 6.3 and 6.5, some
checked there by Monte Carlo. They are of the chain whose steps are normal laws rounded to cells; that of theory has the
same grid, and the rounding's variance taken off, which the last section is about.

The tables are computed here by linear solvers; theory.markov_chain, which removes states one by one, is held against
them where it would take too long to use it throughout.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from theory import toy_chains
from theory.absorbing import Floats
from theory.epoch_walk import DOUBLE_WELL, TRAP_WITH_BARRIER, EpochWalk
from theory.fokker_planck import GridChain, gaussian_cells
from theory.markov_chain import Chain, mean_first_passage_time, restart_kernel, second_moment, survival
from theory.perturbation import perturbed_mean, renewal_mean
from theory.perturbed_chain import periodic_mean, residual_survival_once
from theory.quasi_stationary import QuasiStationary, quasi_stationary_state

EXACT = 1e-10


def rounded(walk: EpochWalk, cells: int) -> GridChain:
    """The chain of the anchors: each step is a normal law from the centre of a cell, rounded to cells."""
    grid = walk.chain(cells)
    means = grid.centres + walk.time_step * walk.potential.force(grid.centres)
    step = gaussian_cells(grid.centres, means, math.sqrt(2 * walk.diffusivity * walk.time_step))
    kernel = np.linalg.matrix_power(step, walk.substeps)
    chain = Chain.from_kernel(kernel, grid.centres >= walk.target, grid.chain.initial)
    return GridChain(grid.centres, grid.fresh_deviation, chain)


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
    return Solved(rounded(TRAP_WITH_BARRIER, 801))


@pytest.fixture(scope="module")
def trapped(trap: Solved) -> QuasiStationary:
    return quasi_stationary_state(trap.chain)


@pytest.fixture(scope="module")
def wells() -> Solved:
    return Solved(rounded(DOUBLE_WELL, 1041))


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


def test_rounding_matters_for_the_escape_and_not_for_perturbed_means(trap: Solved) -> None:
    coarse = Solved(rounded(TRAP_WITH_BARRIER, 401))
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


# ---- Rounding taken off ----------------------------------------------------------------------------------------------


def test_steps_have_the_variance_of_the_process() -> None:
    walk = replace(TRAP_WITH_BARRIER, epoch=0.02)  # one step
    variance = 2 * walk.diffusivity * walk.time_step
    for cells, excess in (
        (100, 1 / 6),
        (200, 0.0),
        (400, 0.0),
    ):  # h = 2, 1 and 0.5 times the step's deviation / sqrt(2)
        grid = walk.chain(cells)
        left = grid.centres < -1.5  # far from the target: all that is reached is transient
        centres, law = grid.centres[: grid.chain.states], grid.chain.transient[np.flatnonzero(left)[-1]]
        start = grid.centres[left][-1]
        mean = law @ centres
        assert mean == pytest.approx(start + walk.time_step * walk.potential.force(start), abs=0.02 * excess + 1e-7)
        assert law @ (centres - mean) ** 2 / variance - 1 == pytest.approx(excess, abs=0.02 if excess else 1e-6)


def test_escape_from_the_trap_needs_no_fine_grid(trap: Solved) -> None:
    """Right by extrapolation of the rounded chains, whose own errors are 6 % and 1.5 %."""
    means = {cells: mean_first_passage_time(rounded(TRAP_WITH_BARRIER, cells).chain) for cells in (200, 400, 800)}
    first, second = ((4 * means[2 * cells] - means[cells]) / 3 for cells in (200, 400))
    extrapolated = (16 * second - first) / 15
    assert means[400] / extrapolated - 1 == pytest.approx(-0.06, abs=0.002)
    for cells, error in ((200, 5e-4), (400, 2e-4), (800, 2e-4)):
        mean = mean_first_passage_time(TRAP_WITH_BARRIER.chain(cells).chain)
        assert mean == pytest.approx(extrapolated, rel=error)
    grid = Solved(toy_chains.trap_with_barrier())
    for name in (STRONG, WEAK, RESTART):  # these did not need it
        assert grid.mean(*name, 10) == pytest.approx(trap.mean(*name, 10), rel=1e-3)


def test_escape_between_wells_needs_no_fine_grid(wells: Solved) -> None:
    fine = mean_first_passage_time(wells.chain)
    extrapolated = (4 * fine - mean_first_passage_time(rounded(DOUBLE_WELL, 520).chain)) / 3
    assert mean_first_passage_time(DOUBLE_WELL.chain(520).chain) == pytest.approx(extrapolated, rel=1e-4)
    assert fine / extrapolated - 1 == pytest.approx(-0.0023, abs=1e-4)
