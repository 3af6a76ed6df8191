"""Variances of weights and velocities along directions, from a recording, with errors that know about correlations.

For each run the mean of the recording, or its straight line, is subtracted from the weights and the mean from the
velocities; theory.recording_window says what theory expects of that. Variances are means over all runs of squares, and
their errors come from resampling pieces of the data that are independent, or nearly so:

- with ``ENOUGH_RUNS`` runs or more: whole runs, which are independent however slow a direction is;
- with fewer: blocks of 1, 2, 4, .. epochs of all runs, and whole runs, for each direction whichever gives the largest
  error. Too short a recording then widens errors, and does not hide in them. Fewer than ``LEAST_RUNS`` are refused.

The errors are those of a block bootstrap in the limit of many replicates; quotients have those of their linear part.

The recording also tells what noise has driven it. With the curvature lambda of a direction,
e_k = v_k - beta v_{k-1} + eta lambda (theta_{k-1} - minimum) is -eta times the noise of the k-th gradient, and its sums
over whole epochs, which are zero for reshuffled noise that does not depend on the weights, give S(0), the noise at zero
frequency (theory.state_dependent_noise). Derived for jostle.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnval.measure.recording_files import Floats, WeightRecording
from theory.estimate import Estimate
from theory.recording_window import DRIFTS

LEAST_RUNS = 4
"""Fewer runs are refused: nothing would betray what is slower than the recording."""

ENOUGH_RUNS = 16
"""From here on errors come from whole runs alone."""

LEAST_BLOCKS = 20
"""Blocks of a length that is used for errors, of all runs together."""


@dataclass(frozen=True, eq=False)
class EpochSums:
    """Sums over the M updates of each epoch; all arrays (R, E, k), of weights as distances from where they began.

    Attributes:
        batches: M.
        weight: of theta.
        weight_squared: of theta^2.
        weight_late: of t theta, t = 0 .. M - 1.
        velocity: of v.
        velocity_squared: of v^2.
        velocity_product: of v_t v_{t-1}.
        push: of v_t theta_{t-1}.
        late_push: of v_{t-1} theta_{t-1}.
        weight_before: theta before the first update of the epoch, and, one more, after the last one: (R, E + 1, k).
        velocity_before: v likewise.
    """

    batches: int
    weight: Floats
    weight_squared: Floats
    weight_late: Floats
    velocity: Floats
    velocity_squared: Floats
    velocity_product: Floats
    push: Floats
    late_push: Floats
    weight_before: Floats
    velocity_before: Floats

    @property
    def updates(self) -> int:
        """T, recorded updates of each run."""
        return self.batches * self.weight.shape[1]


def epoch_sums(recording: WeightRecording) -> EpochSums:
    """One pass through a recording, an epoch in memory at a time.

    Args:
        recording: finished.

    Returns:
        The sums.
    """
    names = ("weight", "weight_squared", "weight_late", "velocity", "velocity_squared", "velocity_product", "push",
             "late_push")  # fmt: skip
    sums: dict[str, list[Floats]] = {name: [] for name in names}
    before, velocity_before = [np.zeros_like(recording.before)], [recording.velocity_before]
    late = np.arange(float(recording.batches))
    for epoch in recording.epochs():
        theta = epoch.weights - recording.before
        v = epoch.velocities
        previous = np.concatenate([before[-1][None], theta[:-1]])
        v_previous = np.concatenate([velocity_before[-1][None], v[:-1]])
        values = (theta.sum(0), (theta**2).sum(0), np.tensordot(late, theta, 1), v.sum(0), (v**2).sum(0),
                  (v * v_previous).sum(0), (v * previous).sum(0), (v_previous * previous).sum(0))  # fmt: skip
        for name, value in zip(names, values, strict=True):
            sums[name].append(value)
        before.append(theta[-1])
        velocity_before.append(v[-1])
    stacked = {name: np.stack(values, axis=1) for name, values in sums.items()}
    ends = {"weight_before": np.stack(before, axis=1), "velocity_before": np.stack(velocity_before, axis=1)}
    return EpochSums(batches=recording.batches, **stacked, **ends)


@dataclass(frozen=True, eq=False)
class Fluctuations:
    """What a recording says about each of k directions.

    Attributes:
        weight: Var(theta) within the recording.
        velocity: Var(v), likewise.
        correlation_time: 2 Var(theta) / Var(v) [updates].
        weight_squares: (R, E, k), squares of the residuals of the weights, mean over each epoch.
        velocity_squares: (R, E, k), likewise.
        slope: (k,), how far the runs drifted together in the recording, in standard deviations of the weight; beyond
            about 1 the network is still on its way.
        drift: what was removed, ``"mean"`` or ``"line"``.
        updates: T, of each run.
    """

    weight: tuple[Estimate, ...]
    velocity: tuple[Estimate, ...]
    correlation_time: tuple[Estimate, ...]
    weight_squares: Floats
    velocity_squares: Floats
    slope: Floats
    drift: str
    updates: int


def fluctuations(sums: EpochSums, drift: str = "mean") -> Fluctuations:
    """Variances along each direction, with errors.

    Args:
        sums: of a recording.
        drift: ``"mean"`` or ``"line"``, what is removed from the weights of each run.

    Returns:
        The variances, to be held against ``theory.recording_window.recorded_variances`` for the same drift.

    Raises:
        ValueError: for an unknown drift, fewer than ``LEAST_RUNS`` runs, or a direction that does not move at all.
    """
    if drift not in DRIFTS:
        raise ValueError(f"drift={drift!r} must be one of {', '.join(DRIFTS)}")
    runs, epochs, _ = sums.weight.shape
    if runs < LEAST_RUNS:
        raise ValueError(
            f"runs={runs} must be >= {LEAST_RUNS}: fewer do not tell how far variances differ from run to run"
        )
    batches, total = sums.batches, sums.updates
    mean = sums.weight.sum(1, keepdims=True) / total
    # Time counted from the middle of the recording: t + first - (T - 1) / 2.
    first = (batches * np.arange(epochs) - (total - 1) / 2)[:, None]
    moment = sums.weight_late + first * sums.weight
    slope = moment.sum(1, keepdims=True) / (total * (total**2 - 1) / 12)
    times = batches * first + batches * (batches - 1) / 2
    times_squared = (
        batches * first**2 + first * batches * (batches - 1) + batches * (batches - 1) * (2 * batches - 1) / 6
    )
    squares = sums.weight_squared - 2 * mean * sums.weight + batches * mean**2
    if drift == "line":
        squares += -2 * slope * moment + 2 * mean * slope * times + slope**2 * times_squared
    squares = np.maximum(squares, 0.0) / batches
    speed = sums.velocity.sum(1, keepdims=True) / total
    velocity = np.maximum(sums.velocity_squared - 2 * speed * sums.velocity + batches * speed**2, 0.0) / batches
    if not (velocity.mean((0, 1)) > 0).all():
        raise ValueError("a direction does not move at all: its weights have no gradient, or the rounding hides it")
    return Fluctuations(
        pooled(squares),
        pooled(velocity),
        pooled_ratio(2 * squares, velocity),
        squares,
        velocity,
        np.abs(slope.mean(0)[0]) * total / np.sqrt(squares.mean((0, 1))),
        drift,
        total,
    )


def _pieces(values: Floats) -> list[Floats]:
    """The values of pieces of the data, (n, k) for each length of a piece that is used for errors."""
    runs, epochs, size = values.shape
    pieces = [values.mean(1)]
    length = 1
    while runs < ENOUGH_RUNS and length <= epochs // 2 and runs * (epochs // length) >= LEAST_BLOCKS:
        whole = epochs // length * length
        pieces.append(values[:, :whole].reshape(runs, -1, length, size).mean(2).reshape(-1, size))
        length *= 2
    return pieces


def _largest_error(of_pieces: list[tuple[Estimate, ...]], values: Floats) -> tuple[Estimate, ...]:
    widest = [max(of_one, key=lambda each: each.standard_error) for of_one in zip(*of_pieces, strict=True)]
    return tuple(
        Estimate(value, each.standard_error, each.n) for value, each in zip(values.tolist(), widest, strict=True)
    )


def pooled(values: Floats) -> tuple[Estimate, ...]:
    """Means over runs and epochs; errors as the module says.

    Args:
        values: (R, E, k), one for each epoch of each run.

    Returns:
        k estimates, whose n is the number of pieces that the error comes from.
    """
    return _largest_error([Estimate.from_columns(piece) for piece in _pieces(values)], values.mean((0, 1)))


def pooled_ratio(above: Floats, below: Floats) -> tuple[Estimate, ...]:
    """Quotients of such means, in which common fluctuations cancel.

    Args:
        above: (R, E, k).
        below: likewise, with means > 0.

    Returns:
        k estimates.
    """
    pairs = zip(_pieces(above), _pieces(below), strict=True)
    ratio = above.mean((0, 1)) / below.mean((0, 1))
    return _largest_error([Estimate.ratio_of_columns(*pair) for pair in pairs], ratio)


@dataclass(frozen=True, eq=False)
class NoiseInMotion:
    """The gradient noise that drove the runs, for each of k directions.

    Attributes:
        variance: of single batches [gradient^2].
        zero_frequency: S(0), the variance of sums over epochs divided by M [gradient^2].
        zero_frequency_share: S(0) over the variance.
    """

    variance: tuple[Estimate, ...]
    zero_frequency: tuple[Estimate, ...]
    zero_frequency_share: tuple[Estimate, ...]


def noise_in_motion(sums: EpochSums, curvature: npt.ArrayLike, learning_rate: float, momentum: float) -> NoiseInMotion:
    """The noise of the gradients while the weights fluctuate, about the mean of each run.

    Args:
        sums: of a recording.
        curvature: lambda of each direction, weight decay included, shape (k,).
        learning_rate: eta of the recording.
        momentum: beta of the recording.

    Returns:
        The noise. What is not linear in the weights counts as noise, as does a wrong curvature.
    """
    x, beta = learning_rate * np.asarray(curvature, dtype=float), momentum
    batches, epochs = sums.batches, sums.weight.shape[1]
    # Sums over the epoch of theta_{t-1}, v_{t-1} and their squares.
    earlier = sums.weight - np.diff(sums.weight_before, axis=1)
    v_earlier = sums.velocity - np.diff(sums.velocity_before, axis=1)
    earlier_squared = sums.weight_squared - np.diff(sums.weight_before**2, axis=1)
    v_earlier_squared = sums.velocity_squared - np.diff(sums.velocity_before**2, axis=1)
    total = sums.velocity - beta * v_earlier + x * earlier
    squared = (
        sums.velocity_squared
        + beta**2 * v_earlier_squared
        + x**2 * earlier_squared
        - 2 * beta * sums.velocity_product
        + 2 * x * sums.push
        - 2 * beta * x * sums.late_push
    )
    centre = total.mean(1, keepdims=True)  # where the minimum is: the mean gradient of the run is zero
    variance = np.maximum(squared - 2 * centre * total / batches + centre**2 / batches, 0.0)
    variance = variance / (batches * learning_rate**2)
    zero = (total - centre) ** 2 * (epochs / (epochs - 1)) / (batches * learning_rate**2)
    return NoiseInMotion(pooled(variance), pooled(zero), pooled_ratio(zero, variance))
