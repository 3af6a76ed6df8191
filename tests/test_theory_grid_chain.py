"""The chain on a grid and its generator: convergence, mirror images, the simulated process, what is refused.

Anchors are from reference/first_passage.md, sections 4.2 and 7.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sim.random_streams import stream
from theory import continuous_chain, escape
from theory.absorbing import Floats
from theory.estimate import agreement
from theory.fokker_planck import GridChain, generator, grid_chain, point_cells, refine
from theory.markov_chain import Chain, mean_first_passage_time, restart_kernel
from theory.perturbed_chain import periodic_mean
from theory.potentials import Potential, double_well, harmonic, linear, trap_with_barrier

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
