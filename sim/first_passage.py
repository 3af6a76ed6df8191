"""First passages of a diffusing coordinate, simulated: dx = F(x) dt + sqrt(2 D) dW until it meets a target.

The kernel (sim.langevin) is exact for a constant force and any time step; see there for what remains otherwise.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from theory.absorbing import Floats
from theory.diffusion_laws import DriftDiffusion, Interval
from theory.estimate import Estimate
from theory.law_arguments import positive
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck
from theory.passage_law_base import PassageLaw
from theory.potentials import Potential

TABLE_NODES = 4096
"""Of the table of a force that is no cubic."""

STEPS_PER_RELAXATION = 20
"""Steps in 1 / max |F'|: with them, E[T] of an Ornstein-Uhlenbeck process was right to 0.05 %."""

STEPS_PER_DISTANCE = 10
"""Steps in L^2 / (2 D), L the distance to the only target; larger ones are not faster."""

STEPS_BETWEEN_TARGETS = 40
"""Steps in L^2 / (2 D), L the distance between two targets. That a step may meet both is neglected: with 10, two in a
thousand do, and runs that met the nearer one at once lasted a step. From 0.001 L, E[T] was wrong by a tenth.
"""


@dataclass(frozen=True, eq=False)
class Passages:
    """First-passage times of n simulated runs.

    Attributes:
        times: of passage, or the horizon if the run was stopped there, shape (n,).
        arrived: whether the run met a target; ``times`` of the others are not passages, shape (n,).
        at_upper: whether the target met was the upper one; False where there are two and it was the lower, shape (n,).
        restarts: how often each run was begun anew, shape (n,); None where the law of all attempts was drawn at once.
        requested: runs asked for; n is less after Ctrl-C.
        method: ``"exact"`` (drawn from the law) or ``"bridge"`` (time steps).
        time_step: dt; None without.

    Example:
        >>> arrived = np.array([True, False, True])
        >>> passages = Passages(np.array([0.5, 2.0, 1.1]), arrived, arrived, None, 3, "exact")
        >>> passages.restricted_mean().value
        1.2
        >>> passages.mean()
        Traceback (most recent call last):
        ValueError: 33.333% of the runs were stopped at the horizon: E[T] is not identified. ...
    """

    times: Floats
    arrived: npt.NDArray[np.bool_]
    at_upper: npt.NDArray[np.bool_]
    restarts: npt.NDArray[np.int64] | None
    requested: int
    method: str
    time_step: float | None = None

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.times)

    def mean(self) -> Estimate:
        """E[T].

        Returns:
            The estimate.

        Raises:
            ValueError: if a run was stopped at the horizon: a mean of the others would be too small.
        """
        if not self.arrived.all():
            raise ValueError(
                f"{np.mean(~self.arrived):.3%} of the runs were stopped at the horizon: E[T] is not identified. Use "
                "restricted_mean(), or a longer horizon"
            )
        return Estimate.from_samples(self.times)

    def restricted_mean(self, horizon: float | None = None) -> Estimate:
        """E[min(T, H)].

        Args:
            horizon: H, at most that of the simulation, which is the default.

        Returns:
            The estimate.

        Raises:
            ValueError: if the horizon is not above 0, or lies beyond that of the simulation.
        """
        end = math.inf if self.arrived.all() else float(self.times[~self.arrived].min())
        last = end if horizon is None else positive("horizon", horizon)
        if last > end:
            raise ValueError(f"horizon={horizon} must be <= {end}, where runs were stopped")
        return Estimate.from_samples(np.minimum(self.times, last))


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A process and its targets, as the kernel takes them.

    Attributes:
        force: F, as one number (constant), four coefficients of a cubic in x, or a table over the window.
        diffusivity: D > 0.
        start: between the targets.
        upper: target.
        lower: second target; -inf for none.
        window: (low, high), the places of the table's first and last entry; the force is constant outside.
        steepness: largest |F'| where it matters; 0 for a constant force.

    Example:
        >>> from theory.potentials import double_well
        >>> particle = Diffusion.of_potential(double_well(), diffusivity=0.2, start=-1.0, target=1.0)
        >>> (particle.force + 0.0).tolist()  # coefficients of 4 x - 4 x^3
        [0.0, 4.0, 0.0, -4.0]
    """

    force: Floats
    diffusivity: float
    start: float
    upper: float
    lower: float = -math.inf
    window: tuple[float, float] = (0.0, 1.0)
    steepness: float = 0.0

    def __post_init__(self) -> None:
        positive("diffusivity", self.diffusivity)
        if not (math.isfinite(self.start) and self.lower < self.start < self.upper < math.inf):
            raise ValueError(f"start={self.start} must lie between the targets {self.lower} and {self.upper}")

    @classmethod
    def of_law(cls, law: PassageLaw) -> "Diffusion":
        """The process behind a law of theory.diffusion_laws.

        Args:
            law: Brownian, DriftDiffusion, OrnsteinUhlenbeck or Interval.

        Returns:
            The process; one that starts above its target is seen in a mirror.

        Raises:
            ValueError: for a law without a process behind it.
        """
        if isinstance(law, DriftDiffusion):  # Brownian is one
            return cls(np.array([law.drift]), law.diffusivity, 0.0, law.distance)
        if isinstance(law, Interval):
            return cls(np.zeros(1), law.diffusivity, law.start, law.length, 0.0)
        if isinstance(law, OrnsteinUhlenbeck):
            side = 1.0 if law.start < law.target else -1.0
            force = np.array([0.0, -law.stiffness, 0.0, 0.0])
            return cls(force, law.diffusivity, side * law.start, side * law.target, steepness=law.stiffness)
        raise ValueError(
            f"{type(law).__name__} has no diffusion behind it; its times can be drawn: law.sample(n, rng), or "
            "--method exact"
        )

    @classmethod
    def of_potential(
        cls,
        potential: Potential,
        *,
        diffusivity: float,
        start: float,
        target: float,
        limits: tuple[float, float] | None = None,
    ) -> "Diffusion":
        """A particle in a potential with one target.

        Args:
            potential: U; F = -U'.
            diffusivity: D.
            start: on either side of the target.
            target: its place.
            limits: (low, high) for a force that is no cubic: outside it is taken to be that at the nearer end. By
                default where U exceeds its value at the start by less than 50 D.

        Returns:
            The process; one that starts above its target is seen in a mirror.

        Raises:
            ValueError: if start and target coincide, or U is not defined where the particle may go.
        """
        positive("diffusivity", diffusivity)
        if start == target:
            raise ValueError(f"start={start} is the target; they must differ")
        side = 1.0 if start < target else -1.0
        between = np.linspace(start, target, 1001)
        polynomial = potential.force_polynomial()
        if polynomial is not None and len(polynomial) <= 4:
            slope = np.polynomial.Polynomial(polynomial).deriv()(between)
            mirrored = np.pad(polynomial * side ** np.arange(1, len(polynomial) + 1), (0, 4 - len(polynomial)))
            force = mirrored if np.any(mirrored[1:]) else mirrored[:1]
            window = (0.0, 1.0)
        else:
            low, high = limits or _reach(potential, diffusivity, start, target)
            places = np.linspace(low, high, TABLE_NODES)
            force = potential.force(places)
            slope = np.interp(between, places, np.gradient(force, places))
            if side < 0:
                force, low, high = -force[::-1], -high, -low
            window = (float(low), float(high))
        steepness = float(np.abs(slope).max())
        return cls(np.ascontiguousarray(force), diffusivity, side * start, side * target, -math.inf, window, steepness)

    @property
    def default_time_step(self) -> float:
        """dt: short beside the times in which noise covers the distance to or between targets and the force relaxes."""
        distance, steps = self.upper - self.start, STEPS_PER_DISTANCE
        if math.isfinite(self.lower):
            distance, steps = self.upper - self.lower, STEPS_BETWEEN_TARGETS
        noise_time = distance**2 / (2 * self.diffusivity) / steps
        return min(noise_time, 1 / (STEPS_PER_RELAXATION * self.steepness) if self.steepness > 0 else math.inf)


def _reach(potential: Potential, diffusivity: float, start: float, target: float) -> tuple[float, float]:
    """Where the particle may go before it meets the target: U below U(start) + 50 D, and a little beyond the target."""
    side = 1.0 if target > start else -1.0
    distance = abs(target - start)
    beyond = target + side * 0.5 * distance
    if not potential.domain[0] < beyond < potential.domain[1]:
        beyond = target
    top = float(potential.value(start)) + 50 * diffusivity
    back, width = start, 0.25 * distance
    for _ in range(200):
        following = back - side * width
        if not potential.domain[0] < following < potential.domain[1]:
            width /= 2
            if width < 1e-6 * distance:
                break
            continue
        back = following
        if float(potential.value(back)) > top:
            break
    else:
        raise ValueError(
            f"the potential {potential} does not confine the particle on the side away from the target: give limits"
        )
    return min(back, beyond), max(back, beyond)


def simulate_diffusion(
    diffusion: Diffusion,
    runs: int,
    rng: np.random.Generator,
    *,
    clock: tuple[int, float] = (0, 0.0),
    overhead: float = 0.0,
    again: float | None = None,
    horizon: float = math.inf,
    time_step: float | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Passages:
    """First passages by time steps, with Brownian bridges at the targets.

    A process that may never arrive needs a horizon or restarts: without them it is simulated for ever.

    Args:
        diffusion: the process and its targets.
        runs: number of runs.
        rng: source of randomness: two draws make the key of all runs.
        clock: (sim.langevin.NEVER | POISSON | SHARP, rate or interval) of restarts.
        overhead: time lost at each restart.
        again: place after a restart; by default the start.
        horizon: runs are stopped then.
        time_step: dt; by default ``diffusion.default_time_step``.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of runs.

    Returns:
        The passages; fewer than asked for after Ctrl-C.

    Raises:
        ValueError: for an invalid number.

    Example:
        >>> process = Diffusion.of_law(DriftDiffusion(distance=1.0, drift=1.0, diffusivity=1.0))
        >>> found = simulate_diffusion(process, 500, np.random.default_rng(0), horizon=1.0)
        >>> exact = DriftDiffusion(1.0, 1.0, 1.0).survival(1.0)
        >>> bool(abs(np.mean(~found.arrived) - exact) < 0.1), found.method
        (True, 'bridge')
    """
    from sim.langevin import CENSORED, LOWER, UPPER, first_passages

    dt = positive("time_step", diffusion.default_time_step if time_step is None else time_step)
    place = diffusion.start if again is None else again
    if not diffusion.lower < place < diffusion.upper:
        raise ValueError(f"again={again} must lie between the targets {diffusion.lower} and {diffusion.upper}")
    if not horizon > 0:
        raise ValueError(f"horizon={horizon} must be > 0")
    key = kernel_key(rng)
    times, status, restarts = allocate(runs)
    force, noise = diffusion.force * dt, math.sqrt(2 * diffusion.diffusivity * dt)

    cancel = np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        first_passages(
            times[first:stop],
            status[first:stop],
            restarts[first:stop],
            key,
            first,
            # Floats all of them: for an integer the kernel would be compiled once more.
            float(diffusion.start),
            float(place),
            force,
            diffusion.window,
            noise,
            dt,
            float(diffusion.lower),
            float(diffusion.upper),
            float(horizon),
            clock[0],
            float(clock[1]),
            float(overhead),
            cancel,
        )

    n = run_in_chunks(kernel, runs, threads=threads, progress=progress, cancel=cancel)
    if math.isinf(diffusion.lower) and (status[:n] == LOWER).any():
        # Steps too long for a growing force end at x = -inf or nan, which the kernel takes for the lower target.
        raise ValueError(f"time_step={dt} is too long for this force: runs left for infinity; take a shorter one")
    return Passages(times[:n], status[:n] != CENSORED, status[:n] == UPPER, restarts[:n], runs, "bridge", dt)


def check_runs(runs: int) -> None:
    """Refuse a number of runs that is no ensemble, or more than memory is likely to hold.

    Args:
        runs: how many.

    Raises:
        ValueError: unless 1 <= runs <= 10^9.
    """
    if not 1 <= runs <= 10**9:
        raise ValueError(f"runs={runs} must lie between 1 and 10^9")


def allocate(runs: int) -> tuple[Floats, npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Arrays for the times, ends and restarts of so many runs.

    Args:
        runs: how many.

    Returns:
        (times, status, restarts), each of shape (runs,).

    Raises:
        ValueError: unless 1 <= runs <= 10^9.
    """
    check_runs(runs)
    return np.empty(runs), np.zeros(runs, np.int8), np.zeros(runs, np.int64)
