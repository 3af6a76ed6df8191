"""Is there a second crossover? What counts as seen, fixed before any network was asked.

Noise that comes with the weights (theory.state_dependent_noise) does not sum to zero over an epoch. What is left of it
at zero frequency, S(0) = rho sigma^2, is expected to lift the variance of reshuffled SGD above its plateau, to twice
the plateau at lambda_2 = rho lambda_cross. The recording itself gives S(0) of each direction. It is *seen* if

1. there are at least ``LEAST_EACH`` compared directions on either side of lambda_2: flatter ones, and ones between it
   and lambda_cross, where the plateau is; otherwise it is *not reached*, whatever the flattest directions do;
2. rho itself is above zero by ``SEEN`` standard errors;
3. variances below the first crossover rise with what S(0) of each direction explains: the slope of measured / plateau
   against that, beside a deviation that all directions share, is above zero by ``SEEN`` errors over runs;
4. and measured / plateau is larger below lambda_2 than above it by ``SEEN`` errors of the difference of the medians.

Directions along which the runs drift together by more than a standard deviation take no part: a network that is still
on its way has a variance in excess, most of all where it is flat. If 1 holds and any of 2 to 4 fails, it is
*not seen*. The runs are the independent samples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.fluctuations import Fluctuations, NoiseInMotion
from nnval.measure.recording_files import Floats
from nnval.weight_variance_deviations import REPLICATES
from theory.estimate import Estimate
from theory.gradient_noise import WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import recorded_variances
from theory.state_dependent_noise import second_crossover_curvature

SEEN = 4.0
"""Standard errors by which everything must show."""

LEAST_EACH = 3
"""Directions that are needed on either side of lambda_2."""


@dataclass(frozen=True)
class SecondCrossover:
    """Whether the variance of the flattest directions rises above the plateau.

    Attributes:
        share: rho, S(0) over the variance of the noise, median over the directions below the first crossover.
        curvature: lambda_2 = rho lambda_cross.
        below: how many directions that take part are flatter than that.
        plateau: how many are between that and the first crossover.
        amplitude: of the rise in units of what S(0) of each direction explains, fitted below the first crossover beside
            a deviation that all directions share: 0 without a second crossover, 1 if the theory holds.
        step: median of measured / plateau below lambda_2 minus that above it; None with one side empty.
        verdict: ``"seen"``, ``"not seen"`` or ``"not reached"``; the module says what these mean.
    """

    share: Estimate
    curvature: float
    below: int
    plateau: int
    amplitude: Estimate
    step: Estimate | None
    verdict: str


def second_crossover(
    modes: HeavyBall,
    noise: NoiseInMotion,
    runs: Floats,
    predicted: Floats,
    directions: npt.NDArray[np.intp],
    batches: int,
    measured: Fluctuations,
    rng: np.random.Generator,
) -> SecondCrossover | None:
    """Look for it.

    Args:
        modes: n directions below the first crossover.
        noise: in motion, of all k directions.
        runs: (R, n), Var(theta) of each run.
        predicted: (n,), the plateau: theory without noise that comes with the weights.
        directions: (n,), which of the k they are.
        batches: M.
        measured: of all k directions.
        rng: of the bootstrap over runs.

    Returns:
        What was found; None with fewer than ``LEAST_EACH`` directions that do not drift.
    """
    still = np.flatnonzero(measured.slope[directions] <= 1)
    if len(still) < LEAST_EACH:
        return None
    directions, ratios = directions[still], runs[:, still] / predicted[still]
    curvature = np.asarray(modes.curvature)[still]
    remaining = HeavyBall(modes.learning_rate, curvature, modes.momentum)
    white = recorded_variances(remaining, WhiteNoise(), measured.updates, measured.drift).weight
    rise = white * np.array([noise.zero_frequency[i].value for i in directions]) / predicted[still]
    # A line through what directions deviate by, in units of their plateaus: what all have in common is another matter.
    slope = rise - rise.mean()
    amplitude = Estimate.from_samples(ratios @ slope / (slope @ slope))
    shares = sorted((noise.zero_frequency_share[i] for i in directions), key=lambda each: each.value)
    share = shares[len(shares) // 2]
    second = second_crossover_curvature(share.value, modes.learning_rate, batches, modes.momentum)
    flat = curvature < second
    below, plateau = int(flat.sum()), int((~flat).sum())
    step = _step(ratios, flat, rng) if below and plateau else None
    verdict = "not reached"
    if step is not None and min(below, plateau) >= LEAST_EACH:
        seen = all(each.value > SEEN * each.standard_error for each in (share, amplitude, step))
        verdict = "seen" if seen else "not seen"
    return SecondCrossover(share, second, below, plateau, amplitude, step, verdict)


def _step(ratios: Floats, flat: npt.NDArray[np.bool_], rng: np.random.Generator) -> Estimate:
    count = len(ratios)
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=REPLICATES) / (count - 1)

    def of(values: Floats) -> Floats:
        return np.median(values[..., flat], axis=-1) - np.median(values[..., ~flat], axis=-1)

    return Estimate(float(of(ratios.mean(0))), float(of(drawn @ ratios).std(ddof=1)), count)
