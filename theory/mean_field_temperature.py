r"""How hot SGD on the Gaussian mixture is: fluctuation against response in the stationary state of mean-field theory.

A force f in the gradient moves w(t+1) by eta f, so chi(n) = eta R(t + n, t), n >= 1. With C(n) = C(t + n, t), averaged
over the start times t of a window in which nothing changes any more (whole epochs for batches without replacement),

    T_eff(n) = -[C(n + 1) - C(n - 1)] / (2 chi(n)),            at one lag: a temperature for each time scale,
    T_slope = [C(0) - C(L)] / sum_{n=1}^{L} chi(n),            the slope of C against the integrated response,

where C(L) is an average over the last M lags for batches without replacement, whose C(n) need not settle. Equilibrium
would have all T_eff(n) equal, and at small learning rates T_slope too; else it is larger by half of C(0) - C(1) over
the sum, as it is one-sided.

Bernoulli batches have, exactly for the square loss and else up to higher orders of eta,

    T_eff(1) = eta alpha Delta b (1 - b) <l'^2> / (2 (1 - beta)).

Derived for jostle.

Reference: [mignacco2022] the effective temperature of persistent SGD
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats, whole_number
from theory.batch_selection import BernoulliBatches
from theory.estimate import Estimate
from theory.mean_field_ridge import RidgeMeanField
from theory.mean_field_solution import MeanFieldSolution, resolved
from theory.noise_arguments import signed_lags

RELATIVE_ERROR = 0.5
"""Most that the 95 % confidence interval of a temperature may reach to either side, in units of the highest one."""

LARGEST_DRIFT = 0.1
"""Most that C(t, t) may change over the window, in units of C(0) - C(L), for the state to count as stationary."""


@dataclass(frozen=True)
class MeanFieldTemperature:
    """Temperatures of a stationary state [loss per dimension]; errors are zero for an exact solution.

    Attributes:
        lags: n.
        by_lag: T_eff(n) of each.
        by_slope: T_slope.
        correlation: C(n) for n = 0..L.
        response: chi(n) for n = 0..L; chi(0) = 0.
        drift: change of C(t, t) from the first to the second half of all times from the first start time on, both in
            whole epochs, in units of C(0) - C(L); 0 if there are less than two epochs.
        reasons: why the state is not stationary, if so; the temperatures then mean little.
    """

    lags: tuple[int, ...]
    by_lag: tuple[Estimate, ...]
    by_slope: Estimate
    correlation: tuple[Estimate, ...]
    response: tuple[Estimate, ...]
    drift: Estimate
    reasons: tuple[str, ...]


def temperature_of_solution(
    solution: RidgeMeanField | MeanFieldSolution,
    lags: Sequence[int] = (1,),
    *,
    start: int | None = None,
    longest_lag: int | None = None,
    relative_error: float = RELATIVE_ERROR,
) -> MeanFieldTemperature:
    """Temperature by lag and by slope, from the later part of a solution.

    Args:
        solution: exact or sampled.
        lags: n >= 1.
        start: first start time t; half of all steps by default, which should be beyond the transient.
        longest_lag: L > all lags; half of what is left by default.
        relative_error: most that the 95 % confidence intervals may reach to either side: of by_slope in units of
            itself, of by_lag in those of the highest temperature among the lags.

    Returns:
        The temperatures.

    Raises:
        ValueError: for times or lags out of range, a lag with no measurable response, or too few particles.

    Example:
        >>> from theory.mean_field_ridge import solve_ridge
        >>> from theory.mixture_model import MixturePerceptron, PerceptronTraining
        >>> model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
        >>> solved = solve_ridge(model, PerceptronTraining(0.4), BernoulliBatches(0.25), steps=300)
        >>> [round(t.value, 6) for t in temperature_of_solution(solved, [1, 3, 20]).by_lag]
        [0.013632, 0.011773, 0.005235]
    """
    wanted = signed_lags(np.asarray(lags), least=1)
    if wanted.ndim != 1 or not wanted.size:
        raise ValueError(f"lags of shape {wanted.shape} must be a list of at least one")
    window = _window(solution, start, longest_lag, int(wanted.max()))
    correlation, response, sizes = _averages(solution, *window)
    particles = solution.particles if isinstance(solution, MeanFieldSolution) else 0
    by_lag = [
        _ratio(f"T_eff({n})", (correlation[:, n - 1] - correlation[:, n + 1]) / 2, response[:, n]) for n in wanted
    ]
    highest = max(abs(temperature.value) for temperature in by_lag)
    for n, temperature in zip(wanted, by_lag, strict=True):
        resolved(f"T_eff({n})", temperature, particles, relative_error, highest)
    fluctuation = correlation[:, 0] - correlation[:, -min(solution.selection.period, window[2]) :].mean(axis=1)
    by_slope = _ratio("T_slope", fluctuation, response[:, 1:].sum(axis=1))
    drift, reasons = drift_of(sizes, fluctuation, window[0], solution.selection.period)
    return MeanFieldTemperature(
        tuple(wanted.tolist()),
        tuple(by_lag),
        resolved("T_slope", by_slope, particles, relative_error),
        _columns(correlation),
        _columns(response),
        drift,
        reasons,
    )


def first_lag_temperature(solution: RidgeMeanField | MeanFieldSolution, *, start: int | None = None) -> Estimate:
    """T_eff(1) of Bernoulli batches from the sizes of gradients, eta alpha Delta b (1 - b) <l'^2> / (2 (1 - beta)).

    Args:
        solution: exact or sampled, with ``BernoulliBatches``.
        start: as in `temperature_of_solution`.

    Returns:
        The temperature; exact for the square loss.

    Raises:
        ValueError: for other batches, or a time out of range.
    """
    if not isinstance(solution.selection, BernoulliBatches):
        raise ValueError(
            f"selection={solution.selection.label!r} must be Bernoulli ones: others have noise with a memory"
        )
    model, training, b = solution.model, solution.training, solution.selection.fraction
    squared = np.atleast_2d(solution.squared_slope)
    first = _checked_start(start, squared.shape[1] - 1)
    scale = training.learning_rate * model.sample_ratio * model.noise_variance * b * (1 - b)
    return _mean(squared[:, first:].mean(axis=1) * scale / (2 * (1 - training.momentum)))


def _checked_start(start: int | None, steps: int) -> int:
    first = steps // 2 if start is None else whole_number("start", start, 0)
    if first >= steps:
        raise ValueError(f"start={first} must be less than the {steps} steps of the solution")
    return first


def _window(
    solution: RidgeMeanField | MeanFieldSolution, start: int | None, longest_lag: int | None, lag: int
) -> tuple[int, int, int]:
    """First start time, number of start times and L."""
    steps, period = solution.overlap.shape[-1] - 1, solution.selection.period
    first = _checked_start(start, steps)
    longest = (steps - first) // 2 if longest_lag is None else whole_number("longest_lag", longest_lag, 2)
    if lag >= longest:
        raise ValueError(
            f"lags={lag} must be less than longest_lag={longest}: ask for shorter ones or solve more steps"
        )
    count = (steps - first - longest + 1) // period * period
    if count < 1:
        raise ValueError(
            f"start={first} and longest_lag={longest} leave no whole epoch of start times in {steps} steps: solve at "
            f"least {first + longest + period - 1}"
        )
    return first, count, longest


def _averages(
    solution: RidgeMeanField | MeanFieldSolution, first: int, count: int, longest: int
) -> tuple[Floats, Floats, Floats]:
    """C(n) and chi(n), shape (B, L+1), and C(t, t) from the first start time on, shape (B, times)."""
    steps = solution.overlap.shape[-1]
    correlation = solution.correlation.reshape(-1, steps, steps)
    response = solution.training.learning_rate * solution.response.reshape(-1, steps, steps)
    times = first + np.arange(count)
    later = times + np.arange(longest + 1)[:, None]
    return (
        correlation[:, later, times].mean(axis=2),
        response[:, later, times].mean(axis=2),
        np.diagonal(correlation, axis1=1, axis2=2)[:, first:],
    )


def _mean(samples: Floats) -> Estimate:
    return Estimate(float(samples[0]), 0.0, 1) if len(samples) == 1 else Estimate.from_samples(samples)


def _columns(samples: Floats) -> tuple[Estimate, ...]:
    return tuple(_mean(column) for column in samples.T)


def _ratio(what: str, above: Floats, below: Floats) -> Estimate:
    """A ratio of means with the error of its linear part; below it may have either sign, but not be lost in noise."""
    answer = _mean(below)
    if answer.value == 0 or abs(answer.value) < 4 * answer.standard_error:
        raise ValueError(
            f"{what}: its response {answer.value:.3g} +- {answer.standard_error:.2g} cannot be told from zero; take "
            f"shorter lags or more particles"
        )
    ratio = above.mean() / answer.value
    return _mean(ratio + (above - ratio * below) / answer.value)


def drift_of(sizes: Floats, fluctuation: Floats, first: int, period: int) -> tuple[Estimate, tuple[str, ...]]:
    """How far C(t, t) is from stationary, from its first to its second half in whole epochs: it changes within them.

    Args:
        sizes: C(t, t) at all times from the first on, shape (B, times).
        fluctuation: C(0) - C(L), shape (B,).
        first: the first of the times.
        period: M, of the batches.

    Returns:
        The change in units of the fluctuation, and why that is not stationary, if so.
    """
    sizes = sizes[:, : sizes.shape[1] // period * period]
    half = sizes.shape[1] // (2 * period) * period
    if half == 0 or not fluctuation.mean() > 1e-9 * sizes.mean():
        return Estimate(0.0, 0.0, 1), ()
    drift = _mean((sizes[:, -half:].mean(axis=1) - sizes[:, :half].mean(axis=1)) / fluctuation.mean())
    if abs(drift.value) <= max(LARGEST_DRIFT, 3 * drift.standard_error):
        return drift, ()
    return drift, (
        f"C(t, t) changes by {drift.value:.2g} of C(0) - C(L) between t={first} and {first + sizes.shape[1] - 1}: the "
        f"state is not stationary yet; start later",
    )
