"""The sampled solution of mean-field theory: estimates with errors, a test whether they answer a question, files.

Each population of particles has a solution of its own (theory.mean_field), so whatever is computed from one, nonlinear
or not, has a standard error from their spread. Derived for jostle.
"""

import dataclasses
import io
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from theory import batch_selection
from theory.absorbing import Floats
from theory.batch_selection import BatchSelection
from theory.estimate import Estimate
from theory.mixture_model import MixturePerceptron, PerceptronTraining

QUANTILE_LEVELS = (0.01, 0.1, 0.5)
"""Of the normalised margins."""

RELATIVE_ERROR = 0.2
"""An estimate whose 95 % confidence interval reaches further than this part of its value answers no question."""

_FORMAT = "jostle mean field 1"
_SELECTIONS = ("FullBatch", "BernoulliBatches", "PersistentBatches", "ReshuffledBatches", "ShuffledOnceBatches")


@dataclass(frozen=True, eq=False)
class MeanFieldSolution:
    """Solutions of B independent populations of particles at the times 0..T; all arrays have B first.

    Attributes:
        model: the perceptron and its data.
        training: how it starts and moves.
        selection: which samples are in the batch.
        particles: K of each population.
        populations_asked: those that were asked for; more than B after Ctrl-C.
        overlap: m(t), shape (B, T+1).
        correlation: C(t, t'), shape (B, T+1, T+1).
        response: R(t, t'), shape (B, T+1, T+1).
        replica_correlation: C_12(t, t'), shape (B, T+1, T+1); None for one replica.
        train_loss: mean over the training samples, without weight decay, shape (B, T+1).
        train_accuracy: part of the training samples with v > 0, shape (B, T+1).
        squared_slope: <l'^2> over the training samples, shape (B, T+1).
        test_error: probability that a new sample has v < 0, shape (B, T+1).
        margin_quantiles: of v / sqrt(C(t, t)) over the training samples, at ``QUANTILE_LEVELS``: the width of the
            boundary, shape (B, T+1, levels).

    Example:
        >>> from theory import BernoulliBatches, solve_mean_field
        >>> model, training = MixturePerceptron(2.0, 0.5), PerceptronTraining(0.1)
        >>> rng = np.random.default_rng(0)
        >>> solved = solve_mean_field(model, training, BernoulliBatches(0.5), 4, rng, particles=512, populations=4)
        >>> overlap = solved.estimate("overlap", 4)
        >>> abs(overlap.value - 0.307160938) < 4 * overlap.standard_error  # theory.mean_field_ridge
        True
    """

    model: MixturePerceptron
    training: PerceptronTraining
    selection: BatchSelection
    particles: int
    populations_asked: int
    overlap: Floats
    correlation: Floats
    response: Floats
    replica_correlation: Floats | None
    train_loss: Floats
    train_accuracy: Floats
    squared_slope: Floats
    test_error: Floats
    margin_quantiles: Floats

    @property
    def replica_distance(self) -> Floats:
        """|w_1 - w_2|^2 / N = 2 [C(t, t) - C_12(t, t)], shape (B, T+1).

        Raises:
            ValueError: for one replica.
        """
        if self.replica_correlation is None:
            raise ValueError("replica_distance needs two replicas: solve with replicas=2")
        return 2 * np.diagonal(self.correlation - self.replica_correlation, axis1=1, axis2=2)

    def samples(self, quantity: str, *index: int) -> Floats:
        """A quantity in each population.

        Args:
            quantity: the name of an array, or ``replica_distance``.
            index: times, and the number of a quantile; negative ones count from the end.

        Returns:
            Shape (B, ...) with what the index leaves.

        Raises:
            ValueError: for a name that is none of these, or without the replicas it needs.
            IndexError: beyond the last time.
        """
        values = getattr(self, quantity, None) if quantity in _QUANTITIES else None
        if values is None:
            if quantity == "replica_correlation":
                raise ValueError("replica_correlation needs two replicas: solve with replicas=2")
            raise ValueError(f"quantity={quantity!r} must be one of {', '.join(_QUANTITIES)}")
        return values[(slice(None), *index)]

    def estimate(self, quantity: str, *index: int) -> Estimate:
        """One number with its error, Student's t with B - 1 degrees of freedom.

        Args:
            quantity: as in ``samples``.
            index: all indices of one number.

        Returns:
            The mean over the populations.

        Raises:
            ValueError: for an unknown quantity, or too few indices.
            IndexError: beyond the last time.
        """
        return Estimate.from_samples(self.samples(quantity, *index))

    def series(self, quantity: str, *index: int) -> tuple[Estimate, ...]:
        """The estimates of a quantity along the one index that is left, such as m(t) for t = 0..T.

        Args:
            quantity: as in ``samples``.
            index: all but the last index.

        Returns:
            The estimates.

        Raises:
            ValueError: for an unknown quantity, or too few indices.
            IndexError: beyond the last time.
        """
        return Estimate.from_columns(self.samples(quantity, *index))

    def resolved(self, quantity: str, *index: int, relative_error: float = RELATIVE_ERROR) -> Estimate:
        """``estimate``, refused where the particles are too few to know it.

        Args:
            quantity: as in ``samples``.
            index: all indices of one number.
            relative_error: most that the 95 % confidence interval may reach to either side, in units of the value.

        Returns:
            The estimate.

        Raises:
            ValueError: if it is not known well enough; says how many particles would do. Also as ``estimate``.
            IndexError: beyond the last time.
        """
        what = f"{quantity}({', '.join(map(str, index))})"
        return resolved(what, self.estimate(quantity, *index), self.particles, relative_error)

    def save(self, path: Path | str) -> None:
        """Write all to one file, whole or not at all.

        Args:
            path: a name that ends in .npz.
        """
        described = {
            "format": _FORMAT,
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "selection": type(self.selection).__name__,
            "selected": vars(self.selection),
            "particles": self.particles,
            "populations_asked": self.populations_asked,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        content = io.BytesIO()
        np.savez(content, description=json.dumps(described), **{k: v for k, v in arrays.items() if v is not None})
        target = Path(path)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_bytes(content.getvalue())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> "MeanFieldSolution":
        """Read what ``save`` wrote.

        Args:
            path: the file; one from a stranger cannot run code.

        Returns:
            The solution, bit by bit.

        Raises:
            ValueError: for another kind of file.
            OSError: if it cannot be read.
        """
        with Path(path).open("rb") as file:
            try:
                saved = np.load(file, allow_pickle=False)
                described = json.loads(str(saved["description"]))
                arrays = {name: saved[name] for name in _ARRAYS if name in saved}
            except (EOFError, IndexError, KeyError, ValueError, zipfile.BadZipFile):
                raise ValueError(f"{path}: not a solution of mean-field theory, or damaged") from None
        if described.get("format") != _FORMAT or described.get("selection") not in _SELECTIONS:
            raise ValueError(f"{path}: not a solution of mean-field theory of this version")
        lacking = [name for name in _ARRAYS if name not in arrays and name != "replica_correlation"]
        if lacking:
            raise ValueError(f"{path}: damaged solution of mean-field theory without {', '.join(lacking)}")
        return cls(
            MixturePerceptron(**described["model"]),
            PerceptronTraining(**described["training"]),
            getattr(batch_selection, described["selection"])(**described["selected"]),
            described["particles"],
            described["populations_asked"],
            **{"replica_correlation": None, **arrays},
        )


_ARRAYS = tuple(
    field.name
    for field in dataclasses.fields(MeanFieldSolution)
    if field.name not in ("model", "training", "selection", "particles", "populations_asked")
)
_QUANTITIES = (*_ARRAYS, "replica_distance")


def resolved(
    what: str, estimate: Estimate, particles: int, relative_error: float, scale: float | None = None
) -> Estimate:
    """Pass an estimate on if the particles are enough to know it.

    The criterion: half the width of its 95 % confidence interval, by Student's t, is at most ``relative_error`` times
    the scale. With two populations the interval is 12.7 standard errors to either side, with eight 2.4.

    Args:
        what: what the message calls it.
        estimate: from the populations.
        particles: K of each.
        relative_error: most that the interval may reach to either side, in units of the scale.
        scale: what the error is compared with; by default the size of the estimate itself.

    Returns:
        The same.

    Raises:
        ValueError: if its error is too large; says how many particles would do.

    Example:
        >>> resolved("m(5)", Estimate(1.0, 0.3, 8), 2000, relative_error=0.2)
        Traceback (most recent call last):
        ...
        ValueError: m(5)=1 is known to +-0.71 only (95 %), worse than 0.2 of it: take about 25168 particles ...
    """
    if not 0 < relative_error < math.inf:
        raise ValueError(f"relative_error={relative_error} must be finite and > 0")
    size = abs(estimate.value) if scale is None else scale
    low, high = estimate.interval()
    error, allowed = (high - low) / 2, relative_error * size
    if error <= max(allowed, 1e-12):  # what is zero but for rounding is known
        return estimate
    if allowed < 0.01 * error:
        raise ValueError(
            f"{what}={estimate.value:.3g} is lost in the sampling error of the particles, +-{error:.2g} (95 %)"
        )
    wanted = 8 * math.ceil(particles * (error / allowed) ** 2 / 8)
    raise ValueError(
        f"{what}={estimate.value:.3g} is known to +-{error:.2g} only (95 %), worse than {relative_error:g} of "
        f"{'it' if scale is None else f'{scale:.3g}'}: take about {wanted} particles instead of {particles}, or more "
        f"populations"
    )
