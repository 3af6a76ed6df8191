"""Training as a coordinate that diffuses in a potential and is watched at the ends of epochs: one description for the
exact chain (theory.fokker_planck) and the simulator (sim.perturbation).
"""

import math
from dataclasses import dataclass

from theory.fokker_planck import GridChain, grid_chain
from theory.law_arguments import keep_positive, nonnegative
from theory.potentials import Potential, double_well, trap_with_barrier


@dataclass(frozen=True)
class EpochWalk:
    """x' = x - U'(x) dt + sqrt(2 D dt) N(0, 1), with a target that is checked after each epoch.

    Attributes:
        potential: U.
        diffusivity: D > 0.
        epoch: duration of an epoch [time].
        time_step: dt; an epoch holds a whole number of steps.
        initial_mean: of the normal initial law.
        initial_deviation: of the initial law, and of fresh draws of shrink-and-perturb, >= 0.
        target: met at or beyond it, as seen from the initial mean.
        limits: (low, high), the ends of the grid; a simulated walk goes beyond them, rarely if they are well chosen.

    Example:
        >>> walk = EpochWalk(double_well(), 0.15, 0.2, 0.02, 0.0, 0.6, 0.9, (-2.6, 2.6))
        >>> walk.substeps, len(walk.chain(260).centres)
        (10, 260)
    """

    potential: Potential
    diffusivity: float
    epoch: float
    time_step: float
    initial_mean: float
    initial_deviation: float
    target: float
    limits: tuple[float, float]

    def __post_init__(self) -> None:
        keep_positive(self, "diffusivity", "epoch", "time_step")
        nonnegative("initial_deviation", self.initial_deviation)
        low, high = map(float, self.limits)
        for name in ("initial_mean", "initial_deviation", "target"):  # numpy's short floats overflow sooner
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (math.isfinite(low) and math.isfinite(high) and low < min(self.target, self.initial_mean)) or not (
            high > max(self.target, self.initial_mean)
        ):
            raise ValueError(
                f"target={self.target} and initial_mean={self.initial_mean} must lie inside the limits {self.limits}"
            )
        if self.target == self.initial_mean:
            raise ValueError(f"initial_mean={self.initial_mean} is the target; they must differ")
        if self.substeps < 1 or abs(self.epoch / self.time_step - self.substeps) > 1e-9 * self.substeps:
            raise ValueError(f"time_step={self.time_step} must divide the epoch of {self.epoch} into whole steps")

    @property
    def substeps(self) -> int:
        """Steps in an epoch."""
        return round(self.epoch / self.time_step)

    def chain(self, cells: int) -> GridChain:
        """The chain of this process on a grid.

        Args:
            cells: number of cells between the limits, >= 2.

        Returns:
            The chain; its states are the cells.

        Raises:
            ValueError: for too few cells.
        """
        return grid_chain(
            self.potential,
            diffusivity=self.diffusivity,
            epoch=self.epoch,
            limits=self.limits,
            cells=cells,
            initial_mean=self.initial_mean,
            initial_deviation=self.initial_deviation,
            target=self.target,
            time_step=self.time_step,
        )


TRAP_WITH_BARRIER = EpochWalk(trap_with_barrier(), 0.02, 0.2, 0.02, -0.5, 0.2, 0.9, (-2.0, 2.0))
"""See theory.toy_chains.trap_with_barrier."""

DOUBLE_WELL = EpochWalk(double_well(), 0.15, 0.2, 0.02, 0.0, 0.6, 0.9, (-2.6, 2.6))
"""See theory.toy_chains.double_well."""
