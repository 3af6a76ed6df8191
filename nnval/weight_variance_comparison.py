"""Variances along the eigenvectors of a Hessian, beside theory.weight_variance, direction by direction.

Along a direction of curvature lambda (of the mean loss, plus weight decay) theory expects eta^2 sigma^2 times a number
that the order of batches, eta, beta, lambda and the length of the recording determine. sigma^2 is measured at fixed
weights that the runs have gone through, so that it contains noise that comes with the fluctuations of the weights; how
large that is shows in comparison with sigma^2 at their mean.

It does not contain what a network remembers of single samples: reshuffled batches are made of those samples that were
not seen for longest. Therefore theory is also held against the noise that drove the runs, taken from the recording
itself, as noise that sums to zero over an epoch and white noise of strength S(0) beside it. Nor is a network as stiff
as its Hessian says (nnval.measure.restoring_force): with that known, a third comparison takes the curvature in motion
and the noise in motion. What then agrees is the theory of how noise becomes fluctuations; noise and force are measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.batch_orders import BatchOrder
from nnval.measure.fluctuations import EpochSums, Fluctuations, NoiseInMotion, fluctuations, noise_in_motion
from nnval.measure.recording_files import Floats, RecordingConfig
from nnval.measure.restoring_force import RestoringForce
from nnval.weight_variance_deviations import Deviation, InMotion, deviation, driven_variances, in_motion
from nnval.weight_variance_second_crossover import SecondCrossover, second_crossover
from theory.estimate import Comparison, Estimate, compare, holm
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import recorded_variances
from theory.weight_variance import LossFluctuations, loss_fluctuations
from theory.weight_variance_limits import crossover_curvature

LEAST_RELAXATIONS = 3.0
"""Relaxation times of a direction that the burn-in must last, if its noise has a part at zero frequency."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Directions and what is known of them at fixed weights.

    Attributes:
        curvature: (k,), along each direction at the mean of the recorded weights, weight decay included.
        before: (k,), eigenvalues at the weights from which the directions are, weight decay included.
        residuals: (k,), of the eigenpairs there.
        converged: (k,), whether they are eigenpairs.
        at_mean: (k,), C_0, the variance of the gradients of single samples, at the mean of the recorded weights.
        at_runs: (R, k), C_0 at weights of each run, at phases that are spread over an epoch.
    """

    curvature: Floats
    before: Floats
    residuals: Floats
    converged: npt.NDArray[np.bool_]
    at_mean: Floats
    at_runs: Floats


@dataclass(frozen=True, eq=False)
class LossShare:
    """The mean loss above the minimum in the measured directions, (1 / 2) sum_i lambda_i Var(theta_i).

    Attributes:
        measured: of the recorded variances.
        isotropic: if every direction had the largest of these variances. That is measured where theory expects it: the
            largest measured one is too large, by some standard errors if many directions compete.
        reduction: 1 - measured / isotropic.
        predicted: the same three of theory, and with replacement, for recordings without end.
    """

    measured: Estimate
    isotropic: Estimate
    reduction: Estimate
    predicted: LossFluctuations


@dataclass(frozen=True, eq=False)
class OrderResult:
    """What one order of batches gave.

    Attributes:
        order: of the batches.
        recording: what was recorded.
        batches_per_epoch: M.
        spectrum: the directions.
        stationary: (k,), where there is a stationary state to compare with: curvature above its uncertainty and below
            the bound of stability. All else that is said here of theory is about these, in their order.
        crossover: lambda_cross.
        measured: variances of all k directions.
        noise: the noise that drove the runs, of all k directions.
        noise_variance: sigma^2 of a batch at fixed weights, of all k.
        residual_share: how much larger it is at the weights of the runs than at their mean, relative, of all k.
        weight: comparisons of Var(theta).
        velocity: of Var(v).
        correlation_time: of 2 Var(theta) / Var(v).
        above: deviation of Var(theta) above the crossover; None without directions there.
        below: below it.
        driven_above: likewise above the crossover, from theory with the noise that drove the runs.
        driven_below: below it.
        in_motion: what the force in motion says about that; None if no full gradients were recorded.
        loss: fluctuations of the loss; None without a stationary direction.
        second_crossover: None for orders whose noise has a part at zero frequency anyway, or too few directions below
            the first crossover.
    """

    order: BatchOrder
    recording: RecordingConfig
    batches_per_epoch: int
    spectrum: Spectrum
    stationary: npt.NDArray[np.bool_]
    crossover: float
    measured: Fluctuations
    noise: NoiseInMotion
    noise_variance: tuple[Estimate, ...]
    residual_share: tuple[Estimate, ...]
    weight: tuple[Comparison, ...]
    velocity: tuple[Comparison, ...]
    correlation_time: tuple[Comparison, ...]
    above: Deviation | None
    below: Deviation | None
    driven_above: Deviation | None
    driven_below: Deviation | None
    in_motion: InMotion | None
    loss: LossShare | None
    second_crossover: SecondCrossover | None


def checked_tolerance(tolerance: float) -> float:
    """The tolerance, if it is one.

    Args:
        tolerance: see ``compared``.

    Raises:
        ValueError: outside [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance} must be in [0, 1): 0.1 grants theory a tenth of what it predicts")
    return tolerance


def compared(
    config: RecordingConfig,
    samples: int,
    sums: EpochSums,
    spectrum: Spectrum,
    rng: np.random.Generator,
    *,
    drift: str = "mean",
    theory: BatchOrder | None = None,
    force: RestoringForce | None = None,
    tolerance: float = 0.0,
) -> OrderResult:
    """Hold a recording against theory.

    Args:
        config: of the recording.
        samples: N.
        sums: of the recording.
        spectrum: its directions.
        rng: of the bootstrap over runs.
        drift: what is removed from the weights, ``"mean"`` or ``"line"``.
        theory: the order that theory takes; None: that of the recording. Another one is for negative controls.
        force: of the recording; None if it has no full gradients.
        tolerance: model error that theory is granted in each direction, as a fraction of its prediction.

    Returns:
        The comparison.

    Raises:
        ValueError: for too few runs, a spectrum of another shape than the recording, or a tolerance out of range.
    """
    checked_tolerance(tolerance)
    if spectrum.curvature.shape != sums.weight.shape[2:]:
        raise ValueError(
            f"spectrum has {len(spectrum.curvature)} directions, the recording {sums.weight.shape[2]}: they must be "
            "the same"
        )
    unit = (config.order if theory is None else theory).noise(samples, config.batch_size)
    measured = fluctuations(sums, drift)
    noise = noise_in_motion(sums, spectrum.curvature, config.learning_rate, config.momentum)
    variance = tuple(each.scaled(unit.variance) for each in Estimate.from_columns(spectrum.at_runs))
    crossover = crossover_curvature(config.learning_rate, sums.batches, config.momentum)
    uncertainty = np.maximum(spectrum.residuals, 0.0)
    bound = 2 * (1 + config.momentum) / config.learning_rate
    stationary = (spectrum.curvature > uncertainty) & (spectrum.curvature < bound)
    chosen = np.flatnonzero(stationary)
    modes = HeavyBall(config.learning_rate, spectrum.curvature[chosen], config.momentum)
    expected = recorded_variances(modes, unit.normalised(), measured.updates, drift)
    reasons = [_reasons(config, spectrum, unit, modes, sums.batches, place, i) for place, i in enumerate(chosen)]
    comparisons = {
        name: _held(name, values, ratios, spectrum.curvature, variance, chosen, reasons, tolerance)
        for name, values, ratios in (
            ("Var(theta)", measured.weight, expected.weight),
            ("Var(v)", measured.velocity, expected.velocity),
            ("correlation time", measured.correlation_time, expected.correlation_time),
        )
    }
    predicted = expected.weight * np.array([variance[i].value for i in chosen])
    driven = driven_variances(unit, modes, noise, chosen, measured.updates, drift)
    # Runs are the independent samples; what their noise variance adds to the error of a prediction is left out here.
    runs = measured.weight_squares.mean(1)[:, chosen]
    inside = np.array([not why for why in reasons], dtype=bool)
    flat = spectrum.curvature[chosen] < crossover
    above, below = inside & ~flat, inside & flat
    second = None
    if flat.any() and unit.sum_of_autocovariance == 0:
        flat_modes = HeavyBall(config.learning_rate, spectrum.curvature[chosen[flat]], config.momentum)
        plateau = predicted[flat]
        second = second_crossover(flat_modes, noise, runs[:, flat], plateau, chosen[flat], sums.batches, measured, rng)
    return OrderResult(
        order=config.order,
        recording=config,
        batches_per_epoch=sums.batches,
        spectrum=spectrum,
        stationary=stationary,
        crossover=crossover,
        measured=measured,
        noise=noise,
        noise_variance=variance,
        residual_share=tuple(
            Estimate(each.value / mean - 1, each.standard_error / mean, each.n)
            for each, mean in zip(Estimate.from_columns(spectrum.at_runs), spectrum.at_mean.tolist(), strict=True)
        ),
        weight=comparisons["Var(theta)"],
        velocity=comparisons["Var(v)"],
        correlation_time=comparisons["correlation time"],
        above=deviation(runs, predicted, above, rng),
        below=deviation(runs, predicted, below, rng),
        driven_above=deviation(runs, driven, above, rng),
        driven_below=deviation(runs, driven, below, rng),
        in_motion=None
        if force is None
        else in_motion(force, sums, runs, unit, modes, chosen, above, below, rng, drift),
        loss=_loss(runs, spectrum.curvature[chosen], predicted, modes, unit, spectrum.at_runs.mean(0)[chosen]),
        second_crossover=second,
    )


def _reasons(
    config: RecordingConfig,
    spectrum: Spectrum,
    unit: GradientNoise,
    modes: HeavyBall,
    batches: int,
    place: int,
    direction: np.intp,
) -> list[str]:
    """Why theory does not claim to describe a direction."""
    reasons = []
    if not spectrum.converged[direction]:
        reasons.append(f"no eigenvector: its residual is {spectrum.residuals[direction]:.2g}")
    relaxation = (1 - modes.momentum) / float(modes.contraction[place])  # updates, of a direction that is not steep
    if unit.sum_of_autocovariance > 0 and config.burn_in * batches < LEAST_RELAXATIONS * relaxation:
        reasons.append(
            f"the burn-in of {config.burn_in} epochs is shorter than {LEAST_RELAXATIONS:g} relaxation times of "
            f"{relaxation / batches:.3g} epochs"
        )
    return reasons


def _held(
    name: str,
    measured: Sequence[Estimate],
    ratios: Floats,
    curvature: Floats,
    variance: Sequence[Estimate],
    chosen: npt.NDArray[np.intp],
    reasons: Sequence[Sequence[str]],
    tolerance: float,
) -> tuple[Comparison, ...]:
    comparisons = []
    for ratio, i, why in zip(ratios.tolist(), chosen.tolist(), reasons, strict=True):
        exact = Estimate(ratio, 0.0, 1)
        prediction = exact if name == "correlation time" else variance[i].scaled(ratio)
        quantity = f"{name}, curvature {curvature[i]:.4g}"
        comparisons.append(compare(quantity, prediction, measured[i], margin=tolerance, reasons=why))
    return tuple(holm(comparisons))


def _loss(
    runs: Floats,
    curvature: Floats,
    predicted: Floats,
    modes: HeavyBall,
    unit: GradientNoise,
    example_variance: Floats,
) -> LossShare | None:
    if not len(curvature):
        return None
    largest = int(predicted.argmax())
    measured = runs @ curvature / 2
    isotropic = runs[:, largest] * math.fsum(curvature) / 2
    (ratio,) = Estimate.ratio_of_columns(measured[:, None], isotropic[:, None])
    return LossShare(
        Estimate.from_samples(measured),
        Estimate.from_samples(isotropic),
        Estimate(1 - ratio.value, ratio.standard_error, ratio.n),
        loss_fluctuations(modes, unit, example_variance * unit.variance),
    )
