"""Weight and velocity variances of SGD with momentum on a quadratic, simulated: the counterpart of
theory.weight_variance.

The noise is Gaussian with the autocovariance of the batch order; real batches of indices are in sim.batch_order. Each
(direction, replica) is a recursion of its own (sim.quadratic), so that replicas give honest errors however slow a mode
is.
"""

import math
from dataclasses import dataclass

import numpy as np

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall

CHUNK = 1024
"""Recursions in a chunk at most: sixteen groups of lanes."""

UPDATES_IN_CHUNK = 10**8
"""A fifth of a second."""

RELAXATIONS = 12
"""Of the slowest mode, before anything is recorded: of the start, e^-24 of a variance is left."""

LONGEST_BURN_IN = 10**7
"""A longer one has to be asked for."""


@dataclass(frozen=True, eq=False)
class SimulatedVariances:
    """What replicas of each direction gave.

    Attributes:
        modes: the directions.
        weight_variance: <theta^2> for each direction, in the order of ``modes.curvature``.
        velocity_variance: <v^2>, likewise.
        correlation_time: 2 <theta^2> / <v^2>, likewise [updates].
        window_variance: variance about the mean of the recorded steps, likewise; smaller for modes that are slower than
            the window.
        replicas: of each direction that are complete.
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> modes, rng = HeavyBall(learning_rate=0.1, curvature=[0.5, 2.0]), np.random.default_rng(0)
        >>> found = simulate_weight_variance(modes, WhiteNoise(), rng, steps=100, replicas=8)
        >>> found.replicas, len(found.weight_variance)
        (8, 2)
        >>> bool(found.correlation_time[0].value > found.correlation_time[1].value)  # flat directions are slow
        True
    """

    modes: HeavyBall
    weight_variance: tuple[Estimate, ...]
    velocity_variance: tuple[Estimate, ...]
    correlation_time: tuple[Estimate, ...]
    window_variance: tuple[Estimate, ...]
    replicas: int
    requested: int


def simulate_weight_variance(
    modes: HeavyBall,
    noise: GradientNoise,
    rng: np.random.Generator,
    *,
    steps: int,
    replicas: int = 256,
    burn_in: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedVariances:
    """Variances along each direction of a quadratic, averaged over whole epochs.

    Args:
        modes: the directions, curvature of shape (D,).
        noise: WhiteNoise, Reshuffled, ReshuffledEvery, ShuffledOnce, AntiCorrelatedIncrements or Persistent.
        rng: source of randomness: two draws make the key of all recursions.
        steps: that are recorded, a whole number of epochs if the noise has epochs.
        replicas: independent recursions of each direction.
        burn_in: steps before, likewise; by default 12 relaxation times of the slowest mode and at least ten epochs.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of recursions.

    Returns:
        The variances; of fewer replicas than asked for after Ctrl-C.

    Raises:
        ValueError: for a noise that has no simulation here, numbers out of range, steps that are no whole epochs, or a
            mode so flat that the default burn-in would exceed 10^7 steps.

    Example:
        >>> from theory.epoch_noise import Reshuffled
        >>> from theory.weight_variance import stationary_variances
        >>> modes, noise = HeavyBall(learning_rate=0.1, curvature=[0.5, 2.0], momentum=0.9), Reshuffled(10)
        >>> found = simulate_weight_variance(modes, noise, np.random.default_rng(0), steps=200, replicas=64)
        >>> exact = stationary_variances(modes, noise).weight
        >>> [bool(abs(one.value - e) < 4 * one.standard_error) for one, e in zip(found.weight_variance, exact)]
        [True, True]
    """
    from sim.gaussian_noise import filter_of
    from sim.quadratic import run_quadratic

    noise_filter = filter_of(noise)
    period = noise_filter.period
    steps, replicas = whole_number("steps", steps, 1), whole_number("replicas", replicas, 2)
    before = steps_to_forget(modes, period) if burn_in is None else whole_number("burn_in", burn_in, 0)
    for name, value in (("steps", steps), ("burn_in", before)):
        if value % period:
            raise ValueError(
                f"{name}={value} must be a whole number of epochs (those of a shared order together), {period} steps"
            )
    scaled = modes.learning_rate * np.ravel(modes.curvature)
    # Replica by replica, so that what is complete after Ctrl-C is complete for all directions.
    recursions = np.tile(scaled, replicas)
    sums, squares, velocities = (np.empty(len(recursions)) for _ in range(3))
    key, cancel = kernel_key(rng), np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        run_quadratic(
            sums[first:stop],
            squares[first:stop],
            velocities[first:stop],
            key,
            first,
            recursions[first:stop],
            float(modes.momentum),
            noise_filter,
            before,
            steps,
            cancel,
        )

    done = run_in_chunks(
        kernel,
        len(recursions),
        threads=threads,
        chunk=chunk_of_recursions(before + steps, CHUNK),
        progress=progress,
        cancel=cancel,
    ) // len(scaled)
    if done < 2:
        raise KeyboardInterrupt
    unit = modes.learning_rate**2 * noise.variance
    mean, square, velocity = (
        values[: done * len(scaled)].reshape(done, len(scaled)) / steps for values in (sums, squares, velocities)
    )
    return SimulatedVariances(
        modes,
        weight_variance=Estimate.from_columns(unit * square),
        velocity_variance=Estimate.from_columns(unit * velocity),
        correlation_time=Estimate.ratio_of_columns(2 * square, velocity),
        window_variance=Estimate.from_columns(unit * (square - mean**2)),
        replicas=done,
        requested=replicas,
    )


def relaxation_steps(modes: HeavyBall) -> Floats:
    """Steps until each direction has forgotten its start: 12 relaxation times.

    Args:
        modes: the directions.

    Returns:
        In the order of ``modes.curvature``, flattened; inf for curvature 0.
    """
    contraction, momentum = modes.learning_rate * np.ravel(modes.curvature), modes.momentum
    trace = 1 + momentum - contraction
    root = np.sqrt(np.maximum(trace**2 - 4 * momentum, 0.0))
    # Roots z of z^2 - trace z + momentum. With 1 - z_+ = (1 - trace + momentum) / (1 - z_-) nothing cancels for flat
    # directions, and with 1 + z_- = (1 + trace + momentum) / (1 + z_+) near the edge of stability.
    lost = np.where(
        trace > 0,
        contraction / (1 - (trace - root) / 2),
        (2 * (1 + momentum) - contraction) / (1 + (trace + root) / 2),
    )
    lost = np.where(trace**2 < 4 * momentum, 1 - math.sqrt(momentum), np.clip(lost, 0.0, 1 - 1e-16))
    rates = -np.log1p(-lost)
    return np.divide(RELAXATIONS, rates, out=np.full_like(rates, np.inf), where=rates > 0)


def steps_to_forget(modes: HeavyBall, period: int) -> int:
    """Steps until the start is forgotten in all directions, a whole number of periods and ten at least.

    Args:
        modes: the directions.
        period: of the noise, in steps.

    Returns:
        The steps.

    Raises:
        ValueError: if they were more than 10^7.
    """
    steps = relaxation_steps(modes)
    if steps.max() > LONGEST_BURN_IN:
        flattest = float(np.ravel(modes.curvature)[steps.argmax()])
        raise ValueError(
            f"curvature={flattest:.6g} is so flat that forgetting the start would take more than {LONGEST_BURN_IN} "
            "steps; give burn_in, or leave it out"
        )
    return period * max(math.ceil(float(steps.max()) / period), 10)


def chunk_of_recursions(steps: int, most: int) -> int:
    """Recursions in a chunk, whole groups of lanes: Ctrl-C shall not have to wait for more than about a second.

    Args:
        steps: of each recursion.
        most: recursions.

    Returns:
        At least one group.
    """
    from sim.lanes import LANES

    return max(LANES, min(most, UPDATES_IN_CHUNK // steps // LANES * LANES))
