"""Simulated first passages under forces that are not constant, against laws and quadratures."""

import math

import numpy as np
import pytest

from sim.first_passage import TABLE_NODES, Diffusion, simulate_diffusion
from sim.random_streams import stream
from tests.simulated_passages import ORNSTEIN_UHLENBECK, TABLED_WELL, WELL, in_well
from theory import escape
from theory.diffusion_laws import Interval, OrnsteinUhlenbeck
from theory.estimate import agreement
from theory.potentials import Potential, harmonic, linear, logarithmic, quartic


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (0.0, 2.0)])
def test_ornstein_uhlenbeck(ends: tuple[float, float], seed: int) -> None:
    law = OrnsteinUhlenbeck(*ends, 1.0, 1.0)
    times = simulate_diffusion(Diffusion.of_law(law), 200_000, stream(seed, f"ornstein {ends}")).times
    assert agreement(times, law.mean, detects=0.04)
    assert agreement(np.exp(-times), law.laplace(1.0), detects=0.06)
    assert not agreement(times, 1.04 * law.mean, detects=0.04)  # the naive walk at dt = 0.001
    other = OrnsteinUhlenbeck(*ends, 1.0, 0.5).mean  # 2 D taken for D
    assert not agreement(times, other, detects=0.04)


@pytest.mark.slow
def test_default_step_is_right_to_a_thousandth(seed: int) -> None:
    process = Diffusion.of_law(ORNSTEIN_UHLENBECK)
    mean = simulate_diffusion(process, 2 * 10**7, stream(seed, "default step")).mean()
    assert abs(mean.value / ORNSTEIN_UHLENBECK.mean - 1) < 1e-3 + 5 * mean.standard_error / mean.value


@pytest.mark.slow
def test_error_is_of_second_order_in_the_step(seed: int) -> None:
    # Rather better here: 2.1, 0.7 and 0.01 per cent, each to 0.06. The first order would halve them.
    process, errors = Diffusion.of_law(ORNSTEIN_UHLENBECK), []
    for step in (0.4, 0.2, 0.1):
        mean = simulate_diffusion(process, 4 * 10**6, stream(seed, f"order {step}"), time_step=step).mean()
        errors.append(mean.value / ORNSTEIN_UHLENBECK.mean - 1)
        assert mean.standard_error / mean.value < 6.5e-4
    assert 0.017 < errors[0] < 0.025
    assert 0 < errors[1] < 0.5 * errors[0]
    assert abs(errors[2]) < 0.3 * errors[0]
    assert abs(errors[2]) < 0.75 * errors[1]


@pytest.mark.parametrize("potential", [WELL, TABLED_WELL], ids=["cubic", "table"])
def test_escape_from_a_well(potential: Potential, seed: int) -> None:
    process = in_well(potential)
    assert len(process.force) == (4 if potential is WELL else TABLE_NODES)
    times = simulate_diffusion(process, 150_000, stream(seed, "escape")).times
    exact = escape.mean_escape_time(potential, diffusivity=0.2, start=-1.0, target=0.5)
    assert agreement(times, exact, detects=0.03)
    kramers = 2 * math.pi / math.sqrt(2) * math.exp(0.25 / 0.2)
    assert not agreement(times, kramers, detects=0.03)


def test_the_table_follows_the_cubic(seed: int) -> None:
    cubic, table = (simulate_diffusion(in_well(one), 5000, stream(seed, "follow")).times for one in (WELL, TABLED_WELL))
    # The same random numbers; a path that only just meets or misses the target may differ.
    assert np.isclose(cubic, table, rtol=1e-3).mean() > 0.99


@pytest.mark.parametrize("target", [0.5, 0.25])
def test_logarithmic_potential_above_its_target(target: float, seed: int) -> None:
    # (x^2 - b^2) / (2 (U0 - D)).
    process = Diffusion.of_potential(logarithmic(2.0), diffusivity=0.1, start=1.0, target=target)
    times = simulate_diffusion(process, 50_000, stream(seed, "logarithm")).times
    exact = escape.mean_escape_time(logarithmic(2.0), diffusivity=0.1, start=1.0, target=target)
    assert exact == pytest.approx((1 - target**2) / 3.8, rel=1e-9)
    assert agreement(times, exact, detects=0.05)
    assert not agreement(times, (1 - target**2) / 4, detects=0.05)  # the noise forgotten


def test_limits_of_a_table(seed: int) -> None:
    process = Diffusion.of_potential(logarithmic(2.0), diffusivity=1.0, start=1.0, target=0.5, limits=(0.25, 40.0))
    assert process.window == (-40.0, -0.25)
    times = simulate_diffusion(process, 50_000, stream(seed, "limits"), horizon=10.0).times
    chopped = Diffusion.of_potential(logarithmic(2.0), diffusivity=1.0, start=1.0, target=0.5, limits=(0.5, 1.0))
    other = simulate_diffusion(chopped, 50_000, stream(seed, "limits"), horizon=10.0).times
    assert times.mean() > 1.1 * other.mean()  # stronger force outside: it does not fade


SKEW, SKEW_MIRRORED = Potential("x**4/4 + x**3/6 - x**2/2"), Potential("x**4/4 - x**3/6 - x**2/2")


@pytest.mark.parametrize("wiggle", ["", " + 1e-9*cos(x)"], ids=["cubic", "table"])
def test_a_target_below_is_the_mirror_image(wiggle: str, seed: int) -> None:
    below, above = Potential(SKEW.expression + wiggle), Potential(SKEW_MIRRORED.expression + wiggle)
    one = Diffusion.of_potential(below, diffusivity=0.3, start=0.8, target=-0.3)
    other = Diffusion.of_potential(above, diffusivity=0.3, start=-0.8, target=0.3)
    assert (one.start, one.upper, one.lower) == (other.start, other.upper, other.lower)
    assert one.window == pytest.approx(other.window, rel=1e-12)
    assert one.force == pytest.approx(other.force, rel=1e-9, abs=1e-9)
    times = simulate_diffusion(one, 100_000, stream(seed, "mirror")).times
    assert agreement(times, escape.mean_escape_time(below, diffusivity=0.3, start=0.8, target=-0.3), detects=0.04)
    wrong = escape.mean_escape_time(above, diffusivity=0.3, start=0.8, target=-0.3)
    assert not agreement(times, wrong, detects=0.04)


def test_forces_of_potentials() -> None:
    def force(potential: Potential, start: float = 0.0) -> list[float]:
        return Diffusion.of_potential(potential, diffusivity=1.0, start=start, target=1.0).force.tolist()

    assert force(linear(2.0)) == [2.0]
    assert force(linear(2.0), 2.0) == [-2.0]
    assert force(harmonic(2.0, 0.5)) == [1.0, -2.0, 0.0, 0.0]
    assert force(harmonic(2.0, 0.5), 2.0) == [-1.0, -2.0, 0.0, 0.0]
    assert force(quartic(2.0)) == [0.0, 0.0, 0.0, -2.0]
    assert len(force(Potential("x**6"))) == TABLE_NODES
    assert Diffusion.of_law(Interval(2.0, 0.5, 1.0)).lower == 0.0
    above, below = Diffusion.of_law(OrnsteinUhlenbeck(2.0, -1.0, 3.0, 1.0)), Diffusion.of_law(ORNSTEIN_UHLENBECK)
    assert (above.start, above.upper, above.steepness) == (-2.0, 1.0, 3.0)
    assert below.default_time_step == 0.05
