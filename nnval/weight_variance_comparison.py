"""Variances along the eigenvectors of a Hessian, beside theory.weight_variance, direction by direction.

Along a direction of curvature lambda (of the mean loss, plus weight decay) theory expects eta^2 sigma^2 times a number
that the order of batches, eta, beta, lambda and the length of the recording determine. sigma^2 is measured at fixed
weights that the runs have gone through, so that it contains noise that comes with the fluctuations of the weights; how
large that is shows in comparison with sigma^2 at their mean.

It does not contain what a network remembers of single samples: reshuffled batches are made of those samples that were
not seen for longest. Therefore theory is also held against the noise that drove the runs, taken from the recording
itself, as noise that sums to zero over an epoch and white noise of strength S(0) beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.batch_orders import BatchOrder
from nnval.measure.fluctuations import EpochSums, Fluctuations, NoiseInMotion, fluctuations, noise_in_motion
from nnval.measure.recording_files import Floats, RecordingConfig
from theory.estimate import Comparison, Estimate, compare, holm
from theory.gradient_noise import GradientNoise, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.recording_window import recorded_variances
from theory.state_dependent_noise import second_crossover_curvature
from theory.weight_variance import LossFluctuations, loss_fluctuations
from theory.weight_variance_limits import crossover_curvature

LEAST_RELAXATIONS = 3.0
"""Relaxation times of a direction that the burn-in must last, if its noise has a part at zero frequency."""

REPLICATES = 1000
"""Of bootstraps over runs."""

LEAST_FLAT = 3
"""Directions below the first crossover that a fit needs."""

SEEN = 4.0
"""Standard errors by which a second crossover must show."""


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
class LossShare:
    """The mean loss above the minimum in the measured directions, (1 / 2) sum_i lambda_i Var(theta_i).

    Attributes:
        measured: of the recorded variances.
        isotropic: if every direction had the largest of these variances.
        reduction: 1 - measured / isotropic.
        predicted: the same three of theory, and with replacement, for recordings without end.
    """

    measured: Estimate
    isotropic: Estimate
    reduction: Estimate
    predicted: LossFluctuations


@dataclass(frozen=True, eq=False)
class SecondCrossover:
    """Whether the variance of the flattest directions rises above the plateau (theory.state_dependent_noise).

    Attributes:
        share: rho, S(0) over the variance of the noise, median over the directions below the first crossover.
        curvature: lambda_2 = rho lambda_cross.
        below: how many compared directions are flatter than that.
        amplitude: of the rise in units of what S(0) of each direction explains, fitted below the first crossover beside
            a deviation that all directions share: 0 without a second crossover, 1 if the theory holds.
        verdict: ``"seen"`` (amplitude above 0 by ``SEEN`` errors), ``"not seen"``, or ``"not reached"`` if no direction
            is flat enough.
    """

    share: Estimate
    curvature: float
    below: int
    amplitude: Estimate
    verdict: str


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
        loss: fluctuations of the loss; None without a stationary direction.
        second_crossover: None for orders whose noise has a part at zero frequency anyway, or fewer than ``LEAST_FLAT``
            directions below the first crossover.
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
    loss: LossShare | None
    second_crossover: SecondCrossover | None


def compared(
    config: RecordingConfig,
    samples: int,
    sums: EpochSums,
    spectrum: Spectrum,
    rng: np.random.Generator,
    *,
    drift: str = "mean",
    theory: BatchOrder | None = None,
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

    Returns:
        The comparison.

    Raises:
        ValueError: for too few runs, or a spectrum of another shape than the recording.
    """
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
        name: _held(name, values, ratios, spectrum.curvature, variance, chosen, reasons)
        for name, values, ratios in (
            ("Var(theta)", measured.weight, expected.weight),
            ("Var(v)", measured.velocity, expected.velocity),
            ("correlation time", measured.correlation_time, expected.correlation_time),
        )
    }
    predicted = expected.weight * np.array([variance[i].value for i in chosen])
    driven = _driven(unit, modes, noise, expected.weight, chosen, measured.updates, drift)
    # Runs are the independent samples; what their noise variance adds to the error of a prediction is left out here.
    runs = measured.weight_squares.mean(1)[:, chosen]
    inside = np.array([not why for why in reasons], dtype=bool)
    flat = spectrum.curvature[chosen] < crossover
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
        above=_deviation(runs, predicted, inside & ~flat, rng),
        below=_deviation(runs, predicted, inside & flat, rng),
        driven_above=_deviation(runs, driven, inside & ~flat, rng),
        driven_below=_deviation(runs, driven, inside & flat, rng),
        loss=_loss(runs, spectrum.curvature[chosen], modes, unit, spectrum.at_runs.mean(0)[chosen]),
        second_crossover=_second_crossover(
            unit, modes, noise, runs, predicted, chosen[flat], flat, sums.batches, measured, drift
        ),
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
) -> tuple[Comparison, ...]:
    comparisons = []
    for ratio, i, why in zip(ratios.tolist(), chosen.tolist(), reasons, strict=True):
        exact = Estimate(ratio, 0.0, 1)
        prediction = exact if name == "correlation time" else variance[i].scaled(ratio)
        comparisons.append(compare(f"{name}, curvature {curvature[i]:.4g}", prediction, measured[i], reasons=why))
    return tuple(holm(comparisons))


def _driven(
    unit: GradientNoise,
    modes: HeavyBall,
    noise: NoiseInMotion,
    expected: Floats,
    chosen: npt.NDArray[np.intp],
    updates: int,
    drift: str,
) -> Floats:
    """Variances expected of the noise that drove the runs; ``expected`` is for a variance of 1."""
    variance = np.array([noise.variance[i].value for i in chosen])
    if unit.sum_of_autocovariance > 0:
        return expected * variance
    white = np.minimum([noise.zero_frequency[i].value for i in chosen], variance)
    return expected * (variance - white) + recorded_variances(modes, WhiteNoise(), updates, drift).weight * white


def _deviation(
    runs: Floats, predicted: Floats, group: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Deviation | None:
    """Medians over a group of directions, with a bootstrap over runs, n - 1 of n at a time, which has no bias."""
    if not group.any():
        return None
    count = len(runs)
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=REPLICATES) / (count - 1)
    ratio = runs[:, group] / predicted[group]
    values, replicates = ratio.mean(0) - 1, drawn @ ratio - 1
    estimates = [
        Estimate(float(np.median(of(values))), float(np.median(of(replicates), axis=1).std(ddof=1)), count)
        for of in (np.asarray, np.abs)
    ]
    return Deviation(int(group.sum()), *estimates)


def _loss(
    runs: Floats, curvature: Floats, modes: HeavyBall, unit: GradientNoise, example_variance: Floats
) -> LossShare | None:
    if not len(curvature):
        return None
    largest = int(runs.mean(0).argmax())
    measured = runs @ curvature / 2
    isotropic = runs[:, largest] * math.fsum(curvature) / 2
    (ratio,) = Estimate.ratio_of_columns(measured[:, None], isotropic[:, None])
    return LossShare(
        Estimate.from_samples(measured),
        Estimate.from_samples(isotropic),
        Estimate(1 - ratio.value, ratio.standard_error, ratio.n),
        loss_fluctuations(modes, unit, example_variance * unit.variance),
    )


def _second_crossover(
    unit: GradientNoise,
    modes: HeavyBall,
    noise: NoiseInMotion,
    runs: Floats,
    predicted: Floats,
    directions: npt.NDArray[np.intp],
    flat: npt.NDArray[np.bool_],
    batches: int,
    measured: Fluctuations,
    drift: str,
) -> SecondCrossover | None:
    if unit.sum_of_autocovariance > 0 or len(directions) < LEAST_FLAT:
        return None
    flat_modes = HeavyBall(modes.learning_rate, np.asarray(modes.curvature)[flat], modes.momentum)
    white = recorded_variances(flat_modes, WhiteNoise(), measured.updates, drift).weight
    rise = white * np.array([noise.zero_frequency[i].value for i in directions])
    # A line through what directions deviate by, in units of their plateaus: what all have in common is another matter.
    plateau = predicted[flat]
    slope = rise / plateau - (rise / plateau).mean()
    amplitude = Estimate.from_samples((runs[:, flat] / plateau) @ slope / (slope @ slope))
    shares = [noise.zero_frequency_share[i] for i in directions]
    middle = sorted(shares, key=lambda each: each.value)[len(shares) // 2]
    second = second_crossover_curvature(middle.value, modes.learning_rate, batches, modes.momentum)
    below = int((np.asarray(flat_modes.curvature) < second).sum())
    seen = amplitude.value > SEEN * amplitude.standard_error
    return SecondCrossover(middle, second, below, amplitude, "seen" if seen else "not seen" if below else "not reached")
