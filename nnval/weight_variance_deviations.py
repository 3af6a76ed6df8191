"""Deviations of recorded variances from theory in groups of directions, and what is left of them in motion.

Theory takes the Hessian and the noise at fixed weights. Where a recording says what noise drove it
(nnval.measure.fluctuations) and what force held it (nnval.measure.restoring_force), theory can be asked what it makes
of those. For white noise the answer is little more than the balance of what noise adds and what the force takes, which
holds in any stationary state; that it comes out right says that a deviation is neither of the instrument nor of the
noise, but one of curvature.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.fluctuations import EpochSums, NoiseInMotion, noise_in_motion
from nnval.measure.recording_files import Floats
from nnval.measure.restoring_force import RestoringForce
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import recorded_variances

REPLICATES = 1000
"""Of bootstraps over runs."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Deviation:
    """How far variances are from theory in a group of directions.

    Attributes:
        directions: how many.
        median: of measured / predicted - 1.
        median_absolute: of its modulus, which noise in the measurement enlarges.
    """

    directions: int
    median: Estimate
    median_absolute: Estimate


@dataclass(frozen=True, eq=False)
class InMotion:
    """What the force in motion says about the deviations from theory.

    Attributes:
        curvature: lambda_eff of all k directions.
        stiffer_above: lambda_eff / lambda - 1 above the crossover; None without directions there.
        stiffer_below: below it.
        above: deviation of Var(theta) from theory with curvature and noise in motion, above the crossover.
        below: below it.
    """

    curvature: tuple[Estimate, ...]
    stiffer_above: Deviation | None
    stiffer_below: Deviation | None
    above: Deviation | None
    below: Deviation | None


def deviation(runs: Floats, predicted: Floats, group: Mask, rng: np.random.Generator) -> Deviation | None:
    """Medians over a group of directions of means over runs, in units of what is predicted, minus one.

    Args:
        runs: (R, n), of each run.
        predicted: (n,).
        group: (n,), the directions that count.
        rng: of the bootstrap over runs.

    Returns:
        The deviation; None of an empty group.
    """
    return _medians(runs[:, group], np.broadcast_to(predicted[group], runs[:, group].shape), rng)


def _medians(above: Floats, below: Floats, rng: np.random.Generator) -> Deviation | None:
    """Of sum over runs of ``above`` / that of ``below``, minus one; the bootstrap draws n - 1 of n and has no bias."""
    count, directions = above.shape
    if not directions:
        return None
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=REPLICATES)
    values, replicates = above.mean(0) / below.mean(0) - 1, (drawn @ above) / (drawn @ below) - 1
    estimates = [
        Estimate(float(np.median(of(values))), float(np.median(of(replicates), axis=1).std(ddof=1)), count)
        for of in (np.asarray, np.abs)
    ]
    return Deviation(directions, *estimates)


def driven_variances(
    unit: GradientNoise, modes: HeavyBall, noise: NoiseInMotion, chosen: npt.NDArray[np.intp], updates: int, drift: str
) -> Floats:
    """Variances expected of the noise that drove the runs.

    Args:
        unit: the noise of the order of batches.
        modes: of the chosen directions.
        noise: of all directions.
        chosen: which of them.
        updates: T, of a recording.
        drift: what is removed from it.

    Returns:
        In the order of the chosen ones.
    """
    expected = recorded_variances(modes, unit.normalised(), updates, drift).weight
    variance = np.array([noise.variance[i].value for i in chosen])
    if unit.sum_of_autocovariance > 0:
        return expected * variance
    white = np.minimum([noise.zero_frequency[i].value for i in chosen], variance)
    return expected * (variance - white) + recorded_variances(modes, WhiteNoise(), updates, drift).weight * white


def in_motion(
    force: RestoringForce,
    sums: EpochSums,
    runs: Floats,
    unit: GradientNoise,
    modes: HeavyBall,
    chosen: npt.NDArray[np.intp],
    above: Mask,
    below: Mask,
    rng: np.random.Generator,
    drift: str,
) -> InMotion:
    """Theory with the curvature and the noise in motion.

    Args:
        force: in motion.
        sums: of the recording.
        runs: (R, n), Var(theta) of each run along the chosen directions.
        unit: the noise of the order of batches.
        modes: of the chosen directions, with the curvatures of the Hessian.
        chosen: n of the k directions.
        above: (n,), those above the crossover.
        below: (n,), those below it.
        rng: of the bootstrap over runs.
        drift: what is removed from the recording.

    Returns:
        The comparison. Directions without a restoring force are left out of it.
    """
    slope = np.array([each.value for each in force.curvature])
    noise = noise_in_motion(sums, slope, modes.learning_rate, modes.momentum)
    held = (slope > 0) & (slope < 2 * (1 + modes.momentum) / modes.learning_rate)
    curvature = np.where(held[chosen], slope[chosen], modes.curvature)
    moving = HeavyBall(modes.learning_rate, curvature, modes.momentum)
    predicted = driven_variances(unit, moving, noise, chosen, sums.updates, drift)
    products, squares = force.products[:, chosen], force.squares[:, chosen] * np.asarray(modes.curvature)
    return InMotion(
        force.curvature,
        *(_medians(products[:, group], squares[:, group], rng) for group in (above, below)),
        *(deviation(runs, predicted, group & held[chosen], rng) for group in (above, below)),
    )
