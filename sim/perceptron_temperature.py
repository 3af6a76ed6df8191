r"""How hot SGD on the Gaussian mixture is, from simulated replicas: the counterpart of theory.mean_field_temperature.

With C(n) and chi(n) = eta R(t + n, t) averaged over start times t of a stationary window,

    T_eff(n) = -[C(n + 1) - C(n - 1)] / (2 chi(n)),    T_slope = [C(0) - C(L)] / sum_{n=1}^{L} chi(n).

The window begins with the first field; fluctuations are averaged over all its times, responses over the fields.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sim.perceptron import SimulatedPerceptron
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.mean_field_temperature import MeanFieldTemperature, drift_of
from theory.noise_arguments import signed_lags


def simulated_temperature(
    found: SimulatedPerceptron, lags: Sequence[int] = (1,), *, longest_lag: int | None = None
) -> MeanFieldTemperature:
    """Temperature by lag and by slope.

    Args:
        found: replicas recorded at all times from the first field on; for batches without replacement with as many
            fields in each phase of an epoch.
        lags: n >= 1.
        longest_lag: L > all lags; by default what the last field leaves.

    Returns:
        The temperatures; their errors come from the replicas.

    Raises:
        ValueError: for lags out of range, times that are missing, a field that was too strong, or a response that is
            lost in its error.

    Example:
        >>> from sim.perceptron import simulate_perceptron
        >>> from theory.batch_selection import BernoulliBatches
        >>> from theory.mixture_model import MixturePerceptron, PerceptronTraining
        >>> model = MixturePerceptron(2.0, 0.5, weight_decay=0.5)
        >>> found = simulate_perceptron(
        ...     model,
        ...     PerceptronTraining(0.4),
        ...     BernoulliBatches(0.25),
        ...     np.random.default_rng(0),
        ...     dimensions=200,
        ...     times=range(20, 41),
        ...     field_times=[20, 25],
        ...     replicas=20,
        ... )
        >>> by_lag = simulated_temperature(found, [1]).by_lag[0]
        >>> abs(by_lag.value - 0.0136322489) < 4 * by_lag.standard_error  # theory.mean_field_temperature
        True
    """
    wanted = signed_lags(np.asarray(lags), least=1)
    if wanted.ndim != 1 or not wanted.size:
        raise ValueError(f"lags of shape {wanted.shape} must be a list of at least one")
    if not found.field_times:
        raise ValueError("temperatures need the response to a field: simulate with field_times")
    first, last, period = found.field_times[0], found.times[-1], found.selection.period
    if set(range(first, last + 1)) - set(found.times):
        raise ValueError(f"times must have all from {first}, that of the first field, to {last}")
    longest = last - found.field_times[-1] if longest_lag is None else whole_number("longest_lag", longest_lag, 2)
    if not wanted.max() < longest <= last - found.field_times[-1]:
        raise ValueError(
            f"lags={lags} must be less than longest_lag={longest}, and that at most {last - found.field_times[-1]}, "
            f"the times after the last field: simulate more of them"
        )
    phases = Counter(t % period for t in found.field_times)
    if len(phases) < period or len(set(phases.values())) > 1:
        raise ValueError(
            f"field_times={list(found.field_times)} must have equally many in each phase of the epochs of {period} "
            f"updates, such as {list(range(first, first + period))}"
        )
    count = (last - longest - first + 1) // period * period  # >= period, as fields of all phases are before last - L
    start = found.times.index(first)
    begins = start + np.arange(count)
    later = begins + np.arange(longest + 1)[:, None]
    correlation = found.correlation[:, later, begins].mean(axis=2)
    response = np.zeros_like(correlation)
    for t in found.field_times:
        response[:, 1:] += np.stack([found.samples("response", t + n, t) for n in range(1, longest + 1)], axis=1)
    response *= found.training.learning_rate / len(found.field_times)
    by_lag = tuple(
        _ratio(f"T_eff({n})", (correlation[:, n - 1] - correlation[:, n + 1]) / 2, response[:, n]) for n in wanted
    )
    fluctuation = correlation[:, 0] - correlation[:, -min(period, longest) :].mean(axis=1)
    by_slope = _ratio("T_slope", fluctuation, response[:, 1:].sum(axis=1))
    sizes = np.diagonal(found.correlation, axis1=1, axis2=2)[:, start:]
    drift, reasons = drift_of(sizes, fluctuation, first, period)
    return MeanFieldTemperature(
        tuple(wanted.tolist()),
        by_lag,
        by_slope,
        Estimate.from_columns(correlation),
        Estimate.from_columns(response),
        drift,
        reasons,
    )


def _ratio(what: str, above: Floats, below: Floats) -> Estimate:
    """A ratio of means with the error of its linear part; below it may have either sign, but not be lost in noise."""
    answer = Estimate.from_samples(below)
    if answer.value == 0 or abs(answer.value) < 4 * answer.standard_error:
        raise ValueError(
            f"{what}: its response {answer.value:.3g} +- {answer.standard_error:.2g} cannot be told from zero; take "
            f"shorter lags, more fields or more replicas"
        )
    ratio = above.mean() / answer.value
    return Estimate.from_samples(ratio + (above - ratio * below) / answer.value)
