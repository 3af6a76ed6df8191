"""Processes and comparisons that the tests of simulated first passages share."""

from typing import Any

from sim.first_passage import Diffusion
from sim.lanes import KERNEL
from theory.absorbing import Floats
from theory.diffusion_laws import OrnsteinUhlenbeck
from theory.passage_law_base import PassageLaw
from theory.potentials import Potential

# Not cached: numba would not see that what is inlined has changed.
UNCACHED: dict[str, Any] = {**KERNEL, "cache": False}
ORNSTEIN_UHLENBECK = OrnsteinUhlenbeck(start=0.0, target=1.0, stiffness=1.0, diffusivity=1.0)
WELL = Potential("x**4/4 - x**2/2")
TABLED_WELL = Potential("x**4/4 - x**2/2 + 1e-9*cos(x)")


def in_well(potential: Potential, diffusivity: float = 0.2) -> Diffusion:
    return Diffusion.of_potential(potential, diffusivity=diffusivity, start=-1.0, target=0.5)


def fits(times: Floats, law: PassageLaw) -> bool:
    """Kolmogorov-Smirnov test of the law of T."""
    from scipy.stats import kstest

    return bool(kstest(times, law.arrived).pvalue > 1e-6)
