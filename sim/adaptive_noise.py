"""Adaptive noise in closed loop on toy landscapes: metrics, phase machine, schedule and weights, the counterpart of
theory.adaptive_noise.

A landscape is a sum of quartics, one for each coordinate: a quadratic, or a double well whose better well is to be
found, beside quadratic coordinates that make the phases. The gradient noise may grow with the loss, as that of networks
does; without that, and at a constant epsilon, everything quadratic is known (`theory.adaptive_noise.noisy_variances`).
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from theory.absorbing import Floats, whole_number
from theory.adaptive_noise import MODES
from theory.estimate import Estimate
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import checked_rate, number, real_numbers
from theory.noise_schedule import KINDS, NoiseSchedule
from theory.training_phases import PHASES, PhaseMachine

CHUNK = 64
"""Replicas in a chunk: a group of lanes."""

RECORDED = 200
"""Steps at which phase and loss are recorded, at most."""


# ---- Landscapes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Landscape:
    """A sum of quartics, its gradient noise, and where training starts.

    Attributes:
        slope: coefficients of U'(x) = sum_k c_k x^k of each coordinate, shape (n, 4), finite; the highest that is not
            zero is c_1 or c_3, and > 0.
        start: of each coordinate, shape (n,), finite.
        noise: standard deviation of the gradient noise of each coordinate at the bottom, shape (n,), finite and >= 0.
        noise_gain: the variance of the gradient noise is this much larger, as a factor less one, at the loss of the
            start, and linear in between and beyond; >= 0.
        target: where the first coordinate has found what it looks for; ``inf`` for nothing.
        bottom: the lowest loss, by the coefficients.
        height: the loss of the start above the bottom.

    Example:
        >>> landscape = Landscape(slope=[[0.0, 1.0, 0.0, 0.0]], start=[2.0], noise=[0.1])  # U = x^2 / 2
        >>> landscape.height
        2.0
    """

    slope: Floats
    start: Floats
    noise: Floats
    noise_gain: float = 0.0
    target: float = math.inf
    bottom: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        slope, start, noise = (real_numbers(n, getattr(self, n)) for n in ("slope", "start", "noise"))
        if slope.ndim != 2 or slope.shape[1] != 4 or not len(slope) or {start.shape, noise.shape} != {slope.shape[:1]}:
            raise ValueError(
                f"slope, start and noise of shapes {slope.shape}, {start.shape} and {noise.shape}: give four "
                "coefficients, a start and a deviation for each coordinate"
            )
        if not all(np.isfinite(each).all() for each in (slope, start, noise)) or (noise < 0).any():
            raise ValueError("slope and start must be finite, noise finite and >= 0")
        for row in slope:
            highest = max(np.flatnonzero(row), default=0)
            if highest % 2 == 0 or row[highest] < 0:
                raise ValueError(f"slope={row.tolist()} must be that of a coordinate with a lowest loss")
        gain, target = number("noise_gain", self.noise_gain), number("target", self.target)
        if not 0 <= gain < math.inf:
            raise ValueError(f"noise_gain={self.noise_gain} must be finite and >= 0")
        if not target > -math.inf:
            raise ValueError(f"target={self.target} must be a number, or inf for none")
        primitive = slope / np.arange(1, 5)
        values = [np.polynomial.Polynomial([0, *row]) for row in primitive]
        with np.errstate(over="ignore", invalid="ignore"):
            lowest = sum(float(min(u(x.real) for x in u.deriv().roots())) for u in values)
            height = sum(float(u(x)) for u, x in zip(values, start, strict=True)) - lowest
        if not math.isfinite(height):
            raise ValueError("slope and start are too large: the loss of the start is infinite; change the units")
        if gain and height <= 0:
            raise ValueError(f"noise_gain={gain} needs a start above the bottom")
        found = {"slope": slope, "start": start, "noise": noise, "noise_gain": gain, "target": target}
        for name, value in (found | {"bottom": lowest, "height": height}).items():
            object.__setattr__(self, name, value)


def quadratic_landscape(
    curvature: npt.ArrayLike, *, start: npt.ArrayLike = 0.0, noise: npt.ArrayLike = 1.0, noise_gain: float = 0.0
) -> Landscape:
    """U = sum_i lambda_i x_i^2 / 2.

    Args:
        curvature: lambda_i > 0, shape (n,).
        start: of each coordinate, or of all.
        noise: standard deviation of the gradient noise at the bottom, likewise.
        noise_gain: how much its variance grows with the loss.

    Returns:
        The landscape.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> quadratic_landscape([1.0, 0.5], start=2.0, noise=0.1).height
        3.0
    """
    curvature = np.atleast_1d(real_numbers("curvature", curvature))
    slope = np.zeros((len(curvature), 4))
    slope[:, 1] = curvature
    starts, noises = (
        np.broadcast_to(real_numbers(name, each), curvature.shape)
        for name, each in (("start", start), ("noise", noise))
    )
    return Landscape(slope, starts, noises, noise_gain)


def double_well_landscape(
    *,
    barrier: float = 1.0,
    tilt: float = 0.2,
    curvature: npt.ArrayLike = (),
    start: npt.ArrayLike = 3.0,
    noise: npt.ArrayLike = 1.0,
    noise_gain: float = 0.0,
) -> Landscape:
    """U = barrier (x_0^2 - 1)^2 - tilt x_0 + sum_i lambda_i x_i^2 / 2, from the minimum of the worse well on the left.

    Found is the minimum of the better one.

    Args:
        barrier: > 0.
        tilt: how much better the right well is, over 2; 0 <= tilt < 1.5 barrier (beyond 1.54 there is one well only).
        curvature: lambda_i > 0 of the other coordinates, shape (n,).
        start: of the others, or of each.
        noise: standard deviation of the gradient noise at the bottom, of all coordinates.
        noise_gain: how much its variance grows with the loss.

    Returns:
        The landscape.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> well = double_well_landscape(barrier=1.0, tilt=0.2)
        >>> float(well.start[0].round(4)), round(well.target, 4)
        (-0.974, 1.0241)
    """
    height, lean = number("barrier", barrier), number("tilt", tilt)
    if not 0 < height < math.inf:
        raise ValueError(f"barrier={barrier} must be finite and > 0")
    if not 0 <= lean < 1.5 * height:
        raise ValueError(f"tilt={tilt} must be >= 0 and below 1.5 times the barrier: else there are no two wells")
    well = [-lean, -4 * height, 0.0, 4 * height]
    minima = np.sort(np.polynomial.Polynomial(well).roots().real)[[0, 2]]
    others = np.ravel(real_numbers("curvature", curvature))
    slope = np.zeros((1 + len(others), 4))
    slope[0], slope[1:, 1] = well, others
    starts = np.concatenate([minima[:1], np.broadcast_to(real_numbers("start", start), others.shape)])
    noises = np.broadcast_to(real_numbers("noise", noise), starts.shape)
    return Landscape(slope, np.asarray(starts, np.float64), noises, noise_gain, float(minima[1]))


# ---- The loop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SimulatedTrainings:
    """What replicas of one schedule did.

    Attributes:
        landscape: on which.
        schedule: of the noise.
        steps: of each replica.
        passage_steps: the first step after which the first coordinate was at the target, ``inf`` for those that never
            were, shape (n,).
        injected: the variance of the noise of a weight, averaged over the steps, shape (n,) [weight^2].
        weight_variance: <x^2> of each coordinate after the burn-in.
        update_variance: <p^2>, likewise.
        recorded: steps at which the following were recorded, shape (m,).
        phases: number of the phase in ``theory.training_phases.PHASES``, shape (n, m).
        losses: above the bottom, shape (n, m).
        gradient_variances: the machine's first metric, shape (n, m).
        update_sizes: its second, before the noise, shape (n, m).
        replicas: that are complete.
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> found = simulate_adaptive_noise(
        ...     double_well_landscape(), NoiseSchedule("fixed", (0.2, 0.2, 0.2)), np.random.default_rng(0),
        ...     learning_rate=0.05, steps=100, replicas=8
        ... )
        >>> found.replicas, found.phases.shape == found.losses.shape, bool(0 <= found.found.value <= 1)
        (8, True, True)
    """

    landscape: Landscape
    schedule: NoiseSchedule
    steps: int
    passage_steps: Floats
    injected: Floats
    weight_variance: tuple[Estimate, ...]
    update_variance: tuple[Estimate, ...]
    recorded: npt.NDArray[np.int64]
    phases: npt.NDArray[np.int8]
    losses: Floats
    gradient_variances: Floats
    update_sizes: Floats
    replicas: int
    requested: int

    @property
    def found(self) -> Estimate:
        """The share of replicas that have reached the target."""
        return Estimate.from_samples(np.isfinite(self.passage_steps).astype(float))

    @property
    def restricted_passage(self) -> Estimate:
        """The mean of min(T, steps): a mean first-passage time that runs without passage do not spoil [steps]."""
        return Estimate.from_samples(np.minimum(self.passage_steps, self.steps))

    @property
    def final_loss(self) -> Estimate:
        """The mean loss above the bottom over the last tenth of the recorded steps."""
        last = max(1, len(self.recorded) // 10)
        return Estimate.from_samples(self.losses[:, -last:].mean(axis=1))

    @property
    def phase_shares(self) -> Floats:
        """The share of replicas in each phase at each recorded step, shape (3, m)."""
        return np.array([(self.phases == phase).mean(axis=0) for phase in range(len(PHASES))])


def simulate_adaptive_noise(
    landscape: Landscape,
    schedule: NoiseSchedule,
    rng: np.random.Generator,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    mode: str = "absolute",
    machine: PhaseMachine | None = None,
    steps: int,
    burn_in: int = 0,
    replicas: int = 256,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedTrainings:
    """Train replicas with noise in closed loop: gradient step, metrics, phase, noise.

    Generators of equal state give runs with equal random numbers, which differ by their schedules only.

    Args:
        landscape: what is trained.
        schedule: of the noise.
        rng: source of randomness: two draws make the key of all replicas.
        learning_rate: eta.
        momentum: beta, 0 <= beta < 1.
        mode: absolute or relative_update (the standard deviation is epsilon |p| / sqrt(coordinates)).
        machine: whose options are used, its state is not; by default those of `PhaseMachine`.
        steps: of each replica.
        burn_in: steps that count in no variance, below ``steps``.
        replicas: independent trainings, >= 2.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of replicas.

    Returns:
        The trainings; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for numbers out of range, or if a replica diverges.

    Example:
        >>> from theory.adaptive_noise import injected_variances
        >>> landscape = quadratic_landscape([1.0, 0.5], noise=0.0)
        >>> found = simulate_adaptive_noise(
        ...     landscape, NoiseSchedule("fixed", (0.1, 0.1, 0.1)), np.random.default_rng(0),
        ...     learning_rate=0.1, steps=400, burn_in=200, replicas=64
        ... )
        >>> exact = injected_variances(HeavyBall(0.1, [1.0, 0.5]), 0.1).weight
        >>> [bool(abs(one.value - e) < 4 * one.standard_error) for one, e in zip(found.weight_variance, exact)]
        [True, True]
    """
    from sim.phased_noise import run_phased_noise

    rate, options = checked_rate("learning_rate", learning_rate), PhaseMachine() if machine is None else machine
    HeavyBall(rate, 0.0, momentum)  # refuses what is no momentum
    if mode not in MODES[:2]:
        raise ValueError(f"mode={mode!r} must be {' or '.join(MODES[:2])} here")
    steps, replicas = whole_number("steps", steps, 1), whole_number("replicas", replicas, 2)
    before = whole_number("burn_in", burn_in, 0)
    if before >= steps:
        raise ValueError(f"burn_in={burn_in} must be below the {steps} steps")
    every = math.ceil(steps / RECORDED)
    points, coordinates = steps // every, len(landscape.start)
    passages, phases = np.zeros(replicas, np.int64), np.zeros((replicas, points), np.int8)
    injected, weights, updates = (
        np.empty(replicas),
        np.empty((replicas, coordinates)),
        np.empty((replicas, coordinates)),
    )
    losses, variances, sizes = (np.empty((replicas, points)) for _ in range(3))
    limits = options.thresholds
    numbers = (limits.variance_high, limits.update_high, limits.variance_low, limits.update_low)
    key, cancel = kernel_key(rng), np.zeros(1, np.bool_)
    height = landscape.height if landscape.height > 0 else 1.0

    def kernel(first: int, stop: int) -> None:
        part = slice(first, stop)
        run_phased_noise(
            tuple(each[part] for each in (passages, injected, weights, updates, phases, losses, variances, sizes)),
            key,
            first,
            (
                landscape.slope,
                landscape.start,
                landscape.noise,
                landscape.noise_gain,
                height,
                landscape.bottom,
                landscape.target,
            ),
            (rate, float(momentum)),
            (numbers, (options.horizon, options.min_dwell, options.monotone, limits.absolute)),
            (KINDS.index(schedule.kind), schedule.epsilon, schedule.decay, mode == "relative_update"),
            steps,
            before,
            every,
            cancel,
        )

    with np.errstate(over="ignore", invalid="ignore"):  # of replicas that diverge
        done = run_in_chunks(kernel, replicas, threads=threads, chunk=CHUNK, progress=progress, cancel=cancel)
    if done < 2:
        raise KeyboardInterrupt
    bad = ~np.isfinite(losses[:done]).all(axis=0)
    if bad.any() or not np.isfinite(weights[:done]).all():
        raise ValueError(
            f"learning_rate={learning_rate}: replicas diverge; lower the learning rate, epsilon or the gradient noise"
        )
    steps_to_target = np.where(passages[:done] > 0, passages[:done], np.inf)
    return SimulatedTrainings(
        landscape,
        schedule,
        steps,
        steps_to_target,
        injected[:done] / steps,
        Estimate.from_columns(weights[:done] / (steps - before)),
        Estimate.from_columns(updates[:done] / (steps - before)),
        every * np.arange(1, points + 1),
        phases[:done],
        losses[:done],
        variances[:done],
        sizes[:done],
        done,
        replicas,
    )


def constant_of_equal_noise(found: SimulatedTrainings) -> NoiseSchedule:
    """The control of an adaptive schedule: constant absolute noise of the same variance in all.

    Args:
        found: trainings with the adaptive schedule.

    Returns:
        A fixed schedule, whose epsilon^2 is the mean over steps and replicas; for absolute noise.

    Raises:
        ValueError: if there was more noise than an epsilon can be.

    Example:
        >>> found = simulate_adaptive_noise(
        ...     double_well_landscape(), NoiseSchedule("fixed", (0.2, 0.2, 0.2)), np.random.default_rng(0),
        ...     learning_rate=0.05, steps=100, replicas=8
        ... )
        >>> [round(epsilon, 12) for epsilon in constant_of_equal_noise(found).epsilon]
        [0.2, 0.2, 0.2]
    """
    epsilon = math.sqrt(float(found.injected.mean()))
    return NoiseSchedule("fixed", (epsilon, epsilon, epsilon))
