"""What is simulated of cooling by activation patterns, beside what theory says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.activation_temperature import SimulatedFlips
    from theory.activation_temperature import ErfLink
    from theory.estimate import Comparison

FEWEST = 5.0
"""Patterns that must be expected to change, and to stay, in all runs together: else there is nothing to compare."""

MEASUREMENTS = 80
"""Of a simulated loop: its first error has died out by then for any gain up to 1.9."""

NOISE_MARGIN = 0.02
"""Of the variance that counting leaves, which is known to first order in 1 / sqrt(patterns)."""

ROUNDING = 1e-11
"""Of ln(rate), in a loop of so many measurements."""

LARGEST_GAIN, LEAST_GAIN = 1.8, 0.1
"""Of the loops whose steady state is simulated."""


@dataclass(frozen=True)
class Setting:
    """What both commands are told.

    Attributes:
        rate_at_one: the learning rate at which T = 1.
        sigma: of the network's erf link.
        t_start: T at which cooling begins.
        ratios: the controller's sigma over the network's, for each loop.
        patterns: N that are counted.
        drift: of the network's link from one measurement to the next, in ln(rate).
    """

    rate_at_one: float
    sigma: float
    t_start: float
    ratios: tuple[float, ...]
    patterns: int
    drift: float

    @property
    def truth(self) -> ErfLink:
        """The network's link."""
        from theory.activation_temperature import ErfLink

        return ErfLink(math.log(self.rate_at_one), self.sigma)

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "ratios": list(self.ratios)}


def channels_in_words(count: int) -> str:
    """A number of channels.

    Args:
        count: >= 1.

    Returns:
        Text.

    Example:
        >>> channels_in_words(1), channels_in_words(16)
        ('1 channel', '16 channels')
    """
    return f"{count} channels" if count > 1 else "1 channel"


def flip_comparisons(found: SimulatedFlips) -> tuple[list[Comparison], list[str]]:
    """Shares of patterns that change in random walks.

    Args:
        found: of one number of channels.

    Returns:
        Those that can be compared, and in words those that cannot.
    """
    import numpy as np

    from theory.estimate import Estimate, compare

    comparisons, left_out = [], []
    predicted = found.flips.share(np.log(found.learning_rates)).tolist()
    for rate, share, estimate in zip(found.learning_rates.tolist(), predicted, found.shares, strict=True):
        what = f"{channels_in_words(found.flips.channels)}, step {rate:g} sd"
        if min(share, 1 - share) * found.patterns < FEWEST:
            left_out.append(what)
        else:
            comparisons.append(compare(f"P, {what}", Estimate(share, 0.0, 1), estimate))
    return comparisons, left_out


def loop_comparisons(setting: Setting, volatility: float, runs: int, seed: int) -> list[Comparison]:
    """Error by drift, and the variances that a random drift and counting leave.

    Args:
        setting: what was told; its loops with a gain out of range are left out.
        volatility: standard deviation of the random part of the drift.
        runs: replicas.
        seed: of the random numbers.

    Returns:
        One to three comparisons for each loop.
    """
    import numpy as np

    from sim.activation_temperature import simulate_cooling
    from sim.random_streams import stream
    from theory.activation_temperature import CoolingController, CoolingLoop, measurement_deviation
    from theory.estimate import Estimate, compare

    truth, comparisons = setting.truth, []
    targets, best = np.full(MEASUREMENTS, setting.t_start), float(setting.truth.log_rate(setting.t_start))
    for ratio in setting.ratios:
        loop, link = CoolingLoop(ratio), truth.stretched(ratio)
        if not LEAST_GAIN <= ratio <= LARGEST_GAIN:
            continue
        controller = CoolingController(link, lowest_rate=1e-300, highest_rate=math.inf)
        rng = stream(seed, "simulate activation-temperature loops", round(1000 * ratio))
        drifting = simulate_cooling(
            controller,
            truth,
            targets,
            rng,
            start_log_rate=best,
            drift=setting.drift,
            volatility=volatility,
            replicas=runs,
        )
        ends = drifting.errors[:, -1]
        mean = loop.error_of_drift(setting.drift)
        what = f"error of ln(rate), sigma x {ratio:g}"
        # A loop without noise is followed to the last digits of ln(rate), and one without drift stays where it is.
        exact = 1e-6 + ROUNDING / abs(mean) if volatility == 0 and mean else 0.0
        if volatility > 0 or mean:
            predicted = Estimate(mean, 0.0, 1)
            comparisons.append(compare(f"{what}: drift", predicted, Estimate.from_samples(ends), margin=exact))
        if volatility > 0:
            variance = loop.variance_of_noise(volatility**2)
            squares = Estimate.from_samples((ends - mean) ** 2)
            comparisons.append(compare(f"{what}: variance by random drift", Estimate(variance, 0.0, 1), squares))
        counting = simulate_cooling(
            controller, truth, targets, rng, start_log_rate=best, patterns=setting.patterns, replicas=runs
        )
        noise = float(measurement_deviation(link, setting.t_start, setting.patterns))
        reasons = (f"counting {setting.patterns} patterns is no small noise",) if noise > 0.1 else ()
        variance = Estimate(loop.variance_of_noise(noise**2), 0.0, 1)
        squares = Estimate.from_samples(counting.errors[:, -1] ** 2)
        comparisons.append(
            compare(f"{what}: variance by counting", variance, squares, margin=NOISE_MARGIN, reasons=reasons)
        )
    return comparisons


def boundary_comparisons(setting: Setting) -> list[Comparison]:
    """Where the paper's controller becomes unstable, found by trial beside the prediction.

    Args:
        setting: what was told.

    Returns:
        A comparison for each kind of network.
    """
    from sim.activation_temperature import stability_boundary
    from theory.activation_temperature import CloglogLink, GaussianFlips, critical_stretch
    from theory.estimate import Estimate, compare

    link, location = setting.truth, math.log(setting.rate_at_one)
    truths = {"erf": link, "T ~ rate": CloglogLink(location), "16 channels": GaussianFlips(16, 1 / setting.rate_at_one)}
    comparisons = []
    for name, truth in truths.items():
        if name == "16 channels" and not setting.t_start < 15:
            continue
        predicted = Estimate(float(critical_stretch(link, truth, setting.t_start)), 0.0, 1)
        found = Estimate(stability_boundary(link, truth, setting.t_start), 0.0, 1)
        comparisons.append(compare(f"critical stretch of sigma, network: {name}", predicted, found, margin=1e-4))
    return comparisons
