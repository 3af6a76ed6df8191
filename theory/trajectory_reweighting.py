"""The mean under restarts that depend on state and time, predicted from trajectories without any restart.

After each unsuccessful epoch s the run would be restarted with probability p(X_s, s); s counts from the last restart.
W_t = prod_{s=1..t} (1 - p(X_s, s)) is the probability that a given trajectory gets through t epochs, and by renewal

    E[T] = E[ sum_{t=0}^{T-1} W_t ] / E[ W_{T-1} ]

over unperturbed trajectories. A constant p gives the geometric restart of theory.discrete_resetting.

Derived for jostle in discrete time; arXiv 2409.14419 reweights so in continuous time.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.estimate import Estimate

RestartProbability = Callable[[npt.NDArray, npt.NDArray[np.int64]], npt.ArrayLike]
"""(states X_1..X_m, epochs 1..m) -> p in [0, 1], one number or shape (m,)."""


def reweighted_mean(trajectories: Sequence[npt.ArrayLike], restart_probability: RestartProbability) -> Estimate:
    """E[T] under a restart rule, from complete unperturbed runs.

    The error of the ratio is to first order (delta method), and so is its bias neglected, of order 1 / n. Rules that
    rarely let a run through, E[W_{T-1}] << 1, leave few runs with weight: then the standard error is large too.

    Args:
        trajectories: of each run the states after its unsuccessful epochs X_1, ..., X_{T-1}, shape (T - 1, ...): a run
            with T = 1 is an empty array. All runs have reached the target.
        restart_probability: p(X_s, s), called once for each trajectory.

    Returns:
        The estimate [epochs]; ``inf`` if no run has any chance to finish under the rule.

    Raises:
        ValueError: for fewer than two runs, or probabilities outside [0, 1].

    Example:
        >>> runs = [np.zeros(0), np.zeros(1), np.zeros(3)]  # T = 1, 2, 4
        >>> reweighted_mean(runs, lambda states, epochs: 0.0).value
        2.3333333333333335
        >>> reweighted_mean(runs, lambda states, epochs: np.where(epochs == 2, 1.0, 0.0)).value  # sharp: P = 2
        2.5
    """
    if len(trajectories) < 2:
        raise ValueError(f"trajectories holds {len(trajectories)} runs; a standard error needs at least 2")
    duration, success = reweighted_sums(trajectories, restart_probability)
    n, probability = len(duration), success.mean()
    if probability == 0:
        return Estimate(math.inf, math.inf, n)
    mean = duration.mean() / probability
    deviation = np.std(duration - mean * success, ddof=1)
    return Estimate(float(mean), float(deviation / math.sqrt(n) / probability), n)


def reweighted_sums(
    trajectories: Sequence[npt.ArrayLike], restart_probability: RestartProbability
) -> tuple[Floats, Floats]:
    """Of each run: sum_{t=0}^{T-1} W_t, its mean time in a cycle, and W_{T-1}, its chance to end the last one.

    Args:
        trajectories: the states X_1, ..., X_{T-1} of each run, as for ``reweighted_mean``.
        restart_probability: p(X_s, s).

    Returns:
        Two arrays of shape (n,), the first [epochs].

    Raises:
        ValueError: for probabilities outside [0, 1].
    """
    duration, success = np.empty(len(trajectories)), np.empty(len(trajectories))
    for i, trajectory in enumerate(trajectories):
        states = np.atleast_1d(trajectory)
        epochs = np.arange(1, len(states) + 1)
        p = np.broadcast_to(np.asarray(restart_probability(states, epochs), dtype=float), len(states))
        if not ((p >= 0) & (p <= 1)).all():
            bad = p[~((p >= 0) & (p <= 1))][0]
            raise ValueError(f"restart_probability gives {bad} in run {i}; it must be from 0 to 1")
        weights = np.cumprod(1 - p)
        duration[i] = 1 + weights.sum()
        success[i] = weights[-1] if len(weights) else 1.0
    return duration, success
