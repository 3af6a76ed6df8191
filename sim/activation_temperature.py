"""Flips of activation patterns, and the scheduler that cools by them, simulated: beside theory.activation_temperature.

`simulate_flips` lets Gaussian pre-activations make a random walk and counts the patterns that change.
`simulate_cooling` closes the loop: a controller measures T in a finite number of patterns and sets the next learning
rate, while the network's own link drifts. `stability_boundary` finds by trial where that loop becomes unstable.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from theory.absorbing import Floats, whole_number
from theory.activation_temperature import (
    CloglogLink,
    CoolingController,
    ErfLink,
    FlipCurve,
    GaussianFlips,
    coldest_temperature,
    share_of,
    temperature_of_counts,
)
from theory.estimate import Estimate
from theory.noise_arguments import number, real_numbers

CHUNK = 8
"""Replicas in a chunk."""

SMALL_ERROR = 1e-6
"""Of ln(rate), at which a loop is still linear."""

# ---- Flips -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SimulatedFlips:
    """What random walks of pre-activations gave.

    Attributes:
        flips: the model.
        learning_rates: shape (n,).
        shares: P at each of them, by the replicas.
        bit_shares: the share of single ReLUs that flipped, likewise.
        changed: patterns that changed at each rate, in all steps of all replicas, shape (n,).
        patterns: compared at each rate.
        replicas: that are complete.
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> found = simulate_flips(GaussianFlips(4, 1.0), [0.0, 0.1], np.random.default_rng(0), replicas=8)
        >>> int(found.changed[0]), len(found.shares), found.replicas
        (0, 2, 8)
    """

    flips: GaussianFlips
    learning_rates: Floats
    shares: tuple[Estimate, ...]
    bit_shares: tuple[Estimate, ...]
    changed: npt.NDArray[np.int64]
    patterns: int
    replicas: int
    requested: int


def simulate_flips(
    flips: GaussianFlips,
    learning_rates: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    patterns: int = 256,
    steps: int = 1,
    replicas: int = 200,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedFlips:
    """Count the patterns that change in a random walk of pre-activations.

    Each step adds an independent Gaussian of rate * displacement to every pre-activation and divides by its standard
    deviation, as batch normalisation does: the walk is stationary. Patterns of consecutive steps are not independent
    (one that just changed is near its boundary), replicas are.

    Args:
        flips: number of channels, and displacement for a unit of the learning rate.
        learning_rates: finite and >= 0, shape (n,).
        rng: source of randomness: two draws make the key of all replicas.
        patterns: of each replica, >= 1.
        steps: that each replica makes at each learning rate, >= 1.
        replicas: independent, >= 2.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of replicas.

    Returns:
        Shares and counts; of fewer replicas than asked for after Ctrl-C.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> simulated = simulate_flips(GaussianFlips(4, 1.0), [0.0, 0.1], np.random.default_rng(0), replicas=8)
        >>> simulated.shares[0].value, simulated.patterns, bool(simulated.changed[1] > 0)
        (0.0, 2048, True)
    """
    rates = real_numbers("learning_rates", learning_rates)
    if rates.ndim != 1 or not len(rates) or not (np.isfinite(rates) & (rates >= 0)).all():
        raise ValueError(f"learning_rates={rates.tolist()} must be a list of finite numbers >= 0, at least one")
    patterns, steps = whole_number("patterns", patterns, 1), whole_number("steps", steps, 1)
    replicas = whole_number("replicas", replicas, 2)
    changed, flipped = np.empty((replicas, len(rates)), np.int64), np.empty((replicas, len(rates)), np.int64)
    key = kernel_key(rng)

    def kernel(first: int, stop: int) -> None:
        for replica in range(first, stop):
            normals = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, replica]))
            for i, rate in enumerate(rates * flips.displacement):
                changed[replica, i], flipped[replica, i] = _walk(normals, float(rate), patterns, flips.channels, steps)

    done = run_in_chunks(kernel, replicas, threads=threads, chunk=CHUNK, progress=progress)
    changed, flipped = changed[:done], flipped[:done]
    return SimulatedFlips(
        flips,
        rates,
        Estimate.from_columns(changed / (patterns * steps)),
        Estimate.from_columns(flipped / (patterns * steps * flips.channels)),
        changed.sum(axis=0),
        patterns * steps * done,
        done,
        replicas,
    )


def _walk(normals: np.random.Generator, stride: float, patterns: int, channels: int, steps: int) -> tuple[int, int]:
    """Numbers of patterns that changed and of bits that flipped."""
    activation = normals.standard_normal((patterns, channels))
    deviation, changed, flipped = math.hypot(1.0, stride), 0, 0
    for _ in range(steps):
        moved = (activation + stride * normals.standard_normal((patterns, channels))) / deviation
        bits = (moved > 0) != (activation > 0)
        changed += int(bits.any(axis=1).sum())
        flipped += int(bits.sum())
        activation = moved
    return changed, flipped


# ---- The scheduler in closed loop ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CooledLoops:
    """What a controller did with networks whose link drifts.

    Attributes:
        targets: C at each measurement, shape (n,) [bits].
        log_rates: ln(learning rate) at each measurement, shape (replicas, n).
        best_log_rates: the one that would have met the target, likewise.
        temperatures: T of all patterns there are, likewise [bits].
        measured: T of those that were looked at, likewise [bits].
        capped: whether the rate was at the cap, likewise.

    Example:
        >>> controller, truth = CoolingController(ErfLink(0.0, 1.2)), ErfLink(-3.0, 1.2)
        >>> rng = np.random.default_rng(0)
        >>> loops = simulate_cooling(controller, truth, [3.0, 2.0, 1.0], rng, start_log_rate=-2.0, replicas=2)
        >>> loops.log_rates.shape, loops.capped_shares.tolist()
        ((2, 3), [0.0, 0.0])
    """

    targets: Floats
    log_rates: Floats
    best_log_rates: Floats
    temperatures: Floats
    measured: Floats
    capped: npt.NDArray[np.bool_]

    @property
    def errors(self) -> Floats:
        """Of ln(learning rate), > 0 where it is too high, shape (replicas, n)."""
        return self.log_rates - self.best_log_rates

    @property
    def tracking_errors(self) -> Floats:
        """The median of abs(ln(T / C)) over the measurements, of each replica; ``inf`` where T is mostly 0."""
        with np.errstate(divide="ignore"):
            return np.median(np.abs(np.log(self.temperatures / self.targets)), axis=1)

    @property
    def capped_shares(self) -> Floats:
        """The share of measurements at the cap, of each replica: the temperature was not under control there."""
        return self.capped.mean(axis=1)


def simulate_cooling(
    controller: CoolingController,
    truth: FlipCurve,
    targets: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    start_log_rate: float,
    patterns: int | None = None,
    drift: npt.ArrayLike = 0.0,
    volatility: float = 0.0,
    replicas: int = 200,
) -> CooledLoops:
    """The scheduler in closed loop against a planted link that drifts.

    At each measurement so many patterns change as the true curve and chance have it; the controller locates its link by
    them (unless the target is below the coldest temperature that so many patterns can show: then it goes on with where
    the link was) and sets the rate of the next measurement. Learning rates in between don't matter here.

    Args:
        controller: with its limits.
        truth: what relates T to ln(rate) at the first measurement.
        targets: C at each measurement, finite and > 0, shape (n,), n >= 2 [bits].
        rng: source of randomness: of the counts, and of the random part of the drift.
        start_log_rate: ln(learning rate) at the first measurement.
        patterns: N that are looked at, >= 1; None for infinitely many, T without error.
        drift: of the true curve along ln(rate) from one measurement to the next, finite, a number or shape (n - 1,).
        volatility: standard deviation of an independent normal part of each drift, >= 0.
        replicas: independent loops, >= 1.

    Returns:
        The loops.

    Raises:
        ValueError: for arguments out of range, and without ``patterns`` if a loop diverges until T is 0 or infinite as
            a float.

    Example:
        >>> controller, truth = CoolingController(ErfLink(0.0, 1.2)), ErfLink(-3.0, 1.2)
        >>> rng = np.random.default_rng(0)
        >>> loops = simulate_cooling(controller, truth, [3.0, 2.0, 1.0], rng, start_log_rate=-2.0, replicas=1)
        >>> loops.temperatures[0].round(9).tolist()  # after one measurement it is on target
        [2.305229391, 2.0, 1.0]
    """
    goals = real_numbers("targets", targets)
    if goals.ndim != 1 or len(goals) < 2 or not (np.isfinite(goals) & (goals > 0)).all():
        raise ValueError(f"targets={goals.tolist()} must be a list of at least two finite numbers > 0, in bits")
    start, spread = number("start_log_rate", start_log_rate), number("volatility", volatility)
    if not math.isfinite(start):
        raise ValueError(f"start_log_rate={start_log_rate} must be finite")
    if not 0 <= spread < math.inf:
        raise ValueError(f"volatility={volatility} must be finite and >= 0")
    drifts = real_numbers("drift", drift)
    if drifts.shape not in ((), (len(goals) - 1,)) or not np.isfinite(drifts).all():
        raise ValueError(f"drift of shape {drifts.shape} must be a finite number or one for each of the intervals")
    runs, count = whole_number("replicas", replicas, 1), None
    if patterns is not None:
        count = whole_number("patterns", patterns, 1)
    changes = np.broadcast_to(drifts, (runs, len(goals) - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        if spread > 0:
            changes = changes + spread * rng.standard_normal(changes.shape)
        shifts = np.concatenate([np.zeros((runs, 1)), np.cumsum(changes, axis=1)], axis=1)
    if not np.isfinite(shifts).all():
        raise ValueError(f"drift={drift} and volatility={volatility} must be smaller: they add up to no float")

    visible = goals >= (coldest_temperature(count) if count else 0.0)
    log_rates, temperatures, measured = (np.empty((runs, len(goals))) for _ in range(3))
    x, location = np.full(runs, start), np.zeros(runs)
    for n in range(len(goals)):
        log_rates[:, n] = x
        temperatures[:, n] = truth.temperature(x - shifts[:, n])
        measured[:, n] = temperatures[:, n]
        if count:
            measured[:, n] = temperature_of_counts(rng.binomial(count, share_of(temperatures[:, n])), count)
        lost = measured[:, n][~((measured[:, n] > 0) & np.isfinite(measured[:, n]))]
        if lost.size:
            raise ValueError(
                f"measurement {n + 1} of a loop is T={lost[0]:g}: without patterns the rate must stay where T is a "
                "positive float; lower drift or volatility, start closer, or take a stable link"
            )
        if visible[n] or n == 0:
            location = controller.link.located(x, measured[:, n])
        if n + 1 < len(goals):
            x = controller.next_log_rate(x, location, goals[n + 1])
    return CooledLoops(
        goals, log_rates, truth.log_rate(goals) + shifts, temperatures, measured, controller.is_capped(log_rates)
    )


def stability_boundary(
    link: ErfLink | CloglogLink, truth: FlipCurve, temperature: float, *, measurements: int = 50
) -> float:
    """The factor on the scale of the controller's link from which the closed loop is unstable, found by trial.

    Loops at a constant target start from an error of 1e-6 in ln(rate) and are watched for whether it grows; bisection
    does the rest. The prediction is `theory.cooling_controller.critical_stretch`.

    Args:
        link: of the controller.
        truth: what relates T to ln(rate) really.
        temperature: the target, finite and > 0 [bits].
        measurements: after which a larger error counts as grown, >= 2.

    Returns:
        The factor, to about six digits.

    Raises:
        ValueError: for arguments out of range, or if loops are stable, or unstable, for all factors from 1e-3 to 1e3.

    Example:
        >>> round(stability_boundary(ErfLink(0.0, 1.2), ErfLink(-3.0, 1.2), 3.17), 5)
        2.0
    """
    target = number("temperature", temperature)
    if not 0 < target < math.inf:
        raise ValueError(f"temperature={temperature} must be finite and > 0")
    limit, best = whole_number("measurements", measurements, 2), float(truth.log_rate(target))
    if not math.isfinite(best):
        raise ValueError(f"temperature={temperature} must be one that a finite learning rate reaches")

    def grows(factor: float) -> bool:
        tried, x = link.stretched(factor), best + SMALL_ERROR
        for _ in range(limit):
            x = float(tried.corrected(x, truth.temperature(x), target))
            # Beyond this it is decided, and the loop is no longer linear.
            if abs(x - best) > 100 * SMALL_ERROR:
                return True
        return abs(x - best) > SMALL_ERROR

    low, high = 1e-3, 1e3
    if grows(low) or not grows(high):
        raise ValueError(f"temperature={temperature}: loops do not become unstable for any factor from 1e-3 to 1e3")
    while high > low * (1 + 1e-8):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if grows(middle) else (middle, high)
    return math.sqrt(low * high)
