"""Residual times of runs that were perturbed once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import whole_number
from theory.survival import FirstPassages


@dataclass(frozen=True, eq=False)
class PerturbedOnce:
    """Residual times of runs that survived to an epoch and were perturbed there once.

    Attributes:
        residuals: epochs from the perturbation to the target; 1 is the first epoch after it.
        epoch: P*, after whose evaluation the perturbation acted.
        followed: F, epochs for which the perturbed runs were followed. Some may have stopped earlier; if all unfinished
            ones did, residuals are known up to the last stop only.
        parents: for each residual the index of its unperturbed run, or None if the perturbed runs had parents of their
            own (they are then resampled independently).
    """

    residuals: FirstPassages
    epoch: int
    followed: int
    parents: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        whole_number("epoch", self.epoch, 1)
        whole_number("followed", self.followed, 1)
        if self.residuals.horizon > self.followed:
            raise ValueError(f"followed={self.followed} is below the longest residual {self.residuals.horizon}")
        if self.parents is None:
            return
        parents = np.asarray(self.parents)
        if parents.shape != (self.residuals.n,) or parents.dtype.kind not in "iu":
            raise ValueError(
                f"parents of shape {parents.shape} and type {parents.dtype} for {self.residuals.n} residuals: each "
                "needs the number of its unperturbed run"
            )
        object.__setattr__(self, "parents", parents)

    @classmethod
    def from_periodic(cls, first_passages: FirstPassages, interval: int) -> "PerturbedOnce":
        """What runs perturbed every P epochs tell about one perturbation: their first, up to the second.

        Args:
            first_passages: of runs perturbed after epochs P, 2 P, ..., counted from the start of training.
            interval: P [epochs].

        Returns:
            Residuals of the runs that survived epoch P, censored at the second perturbation.

        Raises:
            ValueError: if no run is followed beyond epoch P, or the interval is below 1.

        Example:
            >>> runs = FirstPassages(np.array([2, 5, 9]), np.array([True, True, True]))
            >>> PerturbedOnce.from_periodic(runs, 3).residuals
            FirstPassages(times=array([2, 3]), observed=array([ True, False]))
        """
        late = first_passages.times > interval
        if interval < 1 or not late.any():
            raise ValueError(f"interval={interval} must be >= 1, and some run must be followed beyond it")
        times, observed = first_passages.times[late] - interval, first_passages.observed[late]
        residuals = FirstPassages(np.minimum(times, interval), observed & (times <= interval))
        return cls(residuals, interval, interval)
