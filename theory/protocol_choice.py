"""Which protocol is best, and how sure is that? Ranking with the selection inside the bootstrap.

Each protocol (no perturbation, full resetting, shrink-and-perturb, ...) offers one or several intervals P at which its
training time E[min(T_P, H)] is predicted or measured. The smallest of several estimates is too small on average: the
minimum finds the luckiest error as much as the best interval. So the bootstrap repeats the choice. In replicate b the
interval P_b is chosen from m_b(P), whose truth is m(P), and its claim is off by the factor m_b(P_b) / m(P_b), where
that of the data's choice P^ is off by m_b(P^) / m(P^). The ratio of the two, at most one, is what the choice gained by
luck. Replicates m_b(P^) divided by it are draws of the true training time at P^: their quantiles are the interval, and
their comparison across protocols the probability of being best. The luck is taken from another replicate: in its own
it is correlated with m_b(P^), since a bad draw there is why another interval was chosen.

The protocol that comes out first was chosen, too, and its draws are corrected once more in the same way. Replicates of
different protocols share the resamples of the unperturbed runs, so that what is common to them cancels. A perturbation
that never happens in a replicate, as all runs are done before P, is not faster there than training without it: a tie is
"none".

Equal intervals with independent errors are the hardest case, as the data's spread among them is taken for real: about
half of the bias goes away (two intervals: from 0.56 to 0.33 standard errors, five: from 1.16 to 0.45), and intervals
cover more than they say.

Derived for jostle; coverage and calibration were measured: docs/advice.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.bootstrap import percentile_interval
from theory.estimate import Estimate
from theory.law_arguments import LARGEST
from theory.survival import Floats


@dataclass(frozen=True, eq=False)
class ProtocolMeans:
    """What is known of one protocol: its training time at some intervals.

    Attributes:
        label: name of the protocol.
        intervals: P, shape (k,) [epochs]; a single 0 for training without perturbation.
        sources: how each number came about: ``"unperturbed"``, ``"restart"``, ``"rare"``, ``"renewal"`` or
            ``"measured"``.
        means: E[min(T_P, H)], shape (k,) [epochs], finite and > 0.
        replicates: of their bootstrap, shape (B, k).
        n: number of independent runs behind them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> means, intervals = np.array([16.0, 15.0]), np.array([5, 10])
        >>> replicates = rng.normal(means, 1.0, (500, 2))
        >>> restart = ProtocolMeans("restart", intervals, ("restart",) * 2, means, replicates, n=400)
        >>> int(restart.intervals[restart.means.argmin()])
        10
    """

    label: str
    intervals: npt.NDArray[np.int64]
    sources: tuple[str, ...]
    means: Floats
    replicates: Floats
    n: int

    def __post_init__(self) -> None:
        k = len(self.means)
        if k == 0 or len(self.intervals) != k or len(self.sources) != k or self.replicates.shape[1:] != (k,):
            raise ValueError(
                f"{self.label}: {len(self.intervals)} intervals, {len(self.sources)} sources, {k} means and replicates "
                f"of shape {self.replicates.shape} do not belong together"
            )
        for name, numbers in (("means", self.means), ("replicates", self.replicates)):
            if not ((numbers >= 1 / LARGEST) & (numbers <= LARGEST)).all():
                raise ValueError(
                    f"{self.label}: {name} must be finite and > 0; restricted means are, from {1 / LARGEST:g} to "
                    f"{LARGEST:g}"
                )


@dataclass(frozen=True, eq=False)
class ProtocolChoice:
    """A protocol at its best interval, beside the others.

    Attributes:
        label: name of the protocol.
        interval: P^, the interval with the smallest training time [epochs]; the shortest of several equal ones; 0 for
            training without perturbation.
        low, high: 95 % bootstrap interval of P^ [epochs].
        source: how its training time is known.
        restricted_mean: E[min(T_P, H)] at P^, corrected for the choice, as is its interval [epochs].
        speed_up: E[min(T, H)] / E[min(T_P, H)], corrected likewise.
        helps: probability that it is faster than training without perturbation; a tie is none.
        best: probability that it is the fastest of all protocols compared; equal ones share it, but a tie with training
            without perturbation counts for that.
        is_boundary: whether P^ is the first (other than 1) or the last of several intervals, so that a better one may
            lie beyond.
        draws: of the true training time at P^, one for each bootstrap replicate, shape (B,) [epochs]; those of two
            protocols belong together.
    """

    label: str
    interval: int
    low: int
    high: int
    source: str
    restricted_mean: Estimate
    speed_up: Estimate
    helps: float
    best: float
    is_boundary: bool
    draws: Floats

    def slower_by(self, other: "ProtocolChoice") -> Estimate:
        """How many epochs more it takes than another protocol, with the error of the paired difference.

        Args:
            other: of the same ranking.

        Returns:
            The difference of the training times [epochs].
        """
        return _estimate_of(self.draws - other.draws, min(self.restricted_mean.n, other.restricted_mean.n))


def choose_protocol(unperturbed: ProtocolMeans, others: Sequence[ProtocolMeans]) -> tuple[ProtocolChoice, ...]:
    """Rank protocols by their training time at their best intervals.

    Args:
        unperturbed: training without perturbation, at one interval.
        others: the protocols beside it, at the same horizon, with as many replicates.

    Returns:
        All of them, the fastest first. Its training time is also corrected for the choice among protocols, so that it
        may come out above that of a second one that is about as fast.

    Raises:
        ValueError: if the numbers of replicates differ, or a label is used twice.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> def protocol(label, intervals, source, means):
        ...     replicates = rng.normal(means, 1.0, (500, len(means)))
        ...     sources = (source,) * len(means)
        ...     return ProtocolMeans(label, np.array(intervals), sources, np.array(means), replicates, n=400)
        >>> none = protocol("none", [0], "unperturbed", [20.0])
        >>> first, second = choose_protocol(none, [protocol("restart", [5, 10], "restart", [16.0, 15.0])])
        >>> first.label, first.interval, round(first.helps, 2)
        ('restart', 10, 0.99)

    Reference: Derived for jostle; see docs/advice.md
    """
    protocols = [unperturbed, *others]
    labels = [protocol.label for protocol in protocols]
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels {labels} must be different")
    if len({len(protocol.replicates) for protocol in protocols}) > 1:
        raise ValueError(f"replicates of {labels} must be equally many")
    draws = np.stack([selected_draws(protocol) for protocol in protocols])
    without, claims = draws[0].copy(), np.median(draws, axis=1)
    winner = int(np.argmin(claims))
    # By two replicates, as those of each protocol already carry the luck of the one before.
    draws[winner] /= np.roll(_luck(claims, draws.T), 2)
    idle = np.stack([_idle(protocol, unperturbed) for protocol in others]) if others else np.empty((0, len(without)))
    draws[1:] = np.where(idle, np.maximum(draws[1:], draws[0]), draws[1:])
    # Protocols that are equal share the probability, but nothing is shared with training without perturbation.
    fastest = draws == draws.min(axis=0)
    fastest[1:] &= ~fastest[0]
    best = (fastest / fastest.sum(axis=0)).mean(axis=1)
    choices = []
    for protocol, times, probability in zip(protocols, draws, best.tolist(), strict=True):
        compared = times if protocol is unperturbed else without
        place = int(np.argmin(protocol.means))
        intervals, interval = protocol.intervals, int(protocol.intervals[place])
        low, high = percentile_interval(intervals[np.argmin(protocol.replicates, axis=1)])
        choices.append(
            ProtocolChoice(
                label=protocol.label,
                interval=interval,
                low=int(low),
                high=int(high),
                source=protocol.sources[place],
                restricted_mean=_positive_estimate(times, protocol.n),
                speed_up=_positive_estimate(compared / times, min(protocol.n, unperturbed.n)),
                helps=float((times < compared).mean()),
                best=probability,
                is_boundary=len(intervals) > 1
                and (interval == intervals.max() or (interval == intervals.min() and interval > 1)),
                draws=times,
            )
        )
    return tuple(choices[i] for i in sorted(range(len(choices)), key=lambda i: claims[i]))


def selected_draws(protocol: ProtocolMeans) -> Floats:
    """Draws of the true training time at the interval that the data chose.

    Args:
        protocol: its means and their replicates.

    Returns:
        Shape (B,) [epochs].
    """
    at_best = protocol.replicates[:, np.argmin(protocol.means)]
    return at_best / np.roll(_luck(protocol.means, protocol.replicates), 1)


def _idle(protocol: ProtocolMeans, unperturbed: ProtocolMeans) -> npt.NDArray[np.bool_]:
    """In which replicates the protocol, at the interval that the data chose, never acts: all runs finish before."""
    at_best = protocol.replicates[:, np.argmin(protocol.means)]
    return np.isclose(at_best, unperturbed.replicates[:, 0], rtol=1e-12, atol=0)


def _luck(means: Floats, replicates: Floats) -> Floats:
    """What choosing the smallest of several gains by luck in each replicate: a factor <= 1, shape (B,)."""
    errors = replicates / means
    chosen = np.argmin(replicates, axis=1)
    return np.take_along_axis(errors, chosen[:, None], axis=1)[:, 0] / errors[:, np.argmin(means)]


def _positive_estimate(draws: Floats, n: int) -> Estimate:
    """Median of draws > 0 with their spread on the logarithmic scale."""
    logarithm = _estimate_of(np.log(draws), n)
    middle, (low, high) = math.exp(logarithm.value), logarithm.interval()
    return Estimate(middle, middle * logarithm.standard_error, n, (math.exp(low), math.exp(high)))


def _estimate_of(draws: Floats, n: int) -> Estimate:
    """Median of the draws; spread and interval are wider by what Student's t for n runs is wider than the normal."""
    from scipy.special import stdtrit

    wider = float(stdtrit(max(n - 1, 1), 0.975)) / 1.959964 * math.sqrt(n / max(n - 1, 1))
    middle = float(np.median(draws))
    low, high = (middle + wider * (end - middle) for end in percentile_interval(draws))
    return Estimate(middle, wider * float(draws.std()), n, (low, high))
