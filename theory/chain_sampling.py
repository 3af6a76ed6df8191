"""Exact simulation of first passages on a finite chain: states are drawn, no formula for T is used.

All runs advance together. The cumulative rows of a kernel, row i shifted by i, form one sorted array, so that an epoch
of all runs is one searchsorted: well below a microsecond per run and epoch. For many small data sets draw all of their
runs at once and cut: ``sample_first_passages(chain, 500 * 300, ...)`` is 500 independent sets of 300.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.markov_chain import Chain
from theory.survival import FirstPassages

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BranchedPassages:
    """Unperturbed runs, and perturbed children of those that survived the branch epoch.

    Attributes:
        unperturbed: the n runs; ``times`` and ``observed`` have shape (n,).
        residual: the children, perturbed once. Their times count from the branch: 1 is the first epoch after it.
        parent: the run that each child continues, in increasing order, shape of ``residual.times``. Children of one
            parent are dependent.
    """

    unperturbed: FirstPassages
    residual: FirstPassages
    parent: Integers


def sample_first_passages(
    chain: Chain,
    n: int,
    rng: np.random.Generator,
    *,
    horizon: int,
    perturbation: npt.ArrayLike | None = None,
    interval: int | None = None,
) -> FirstPassages:
    """Independent samples of T, or of T_P under a perturbation after epochs P, 2P, ...

    Args:
        chain: the chain.
        n: number of runs, >= 1.
        rng: source of randomness.
        horizon: runs are stopped after this epoch, >= 1, and censored there.
        perturbation: K, row-stochastic, shape (n, n); none by default.
        interval: P >= 1 [epochs], together with the perturbation.

    Returns:
        ``times`` (int, 1-based; the horizon where censored) and ``observed`` (bool), each of shape (n,).

    Raises:
        ValueError: for an invalid size, horizon, perturbation or interval, or one of the last two without the other.

    Example:
        >>> coin = Chain(np.array([[0.75]]), np.array([1.0]))
        >>> runs = sample_first_passages(coin, 10**5, np.random.default_rng(0), horizon=1000)
        >>> bool(runs.observed.all()), round(float(runs.times.mean()), 1)
        (True, 4.0)
    """
    n, horizon = whole_number("n", n, 1), whole_number("horizon", horizon, 1)
    if (perturbation is None) != (interval is None):
        raise ValueError(f"interval={interval} and perturbation belong together: give both or neither")
    kick = None if perturbation is None else _Rows(chain.checked(perturbation))
    period = horizon if interval is None else whole_number("interval", interval, 1)
    passages, _ = _follow(_epoch(chain), _initial_states(chain, n, rng), rng, horizon, kick, period)
    return passages


def sample_branched(
    chain: Chain,
    perturbation: npt.ArrayLike,
    branch_epoch: int,
    n: int,
    rng: np.random.Generator,
    *,
    horizon: int,
    follow: int,
    children: int = 1,
) -> BranchedPassages:
    """The experiment behind the predictors: n unperturbed runs, and their survivors perturbed once.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        branch_epoch: runs with T above this are copied, and the copies perturbed; 1 <= branch_epoch <= horizon.
        n: number of unperturbed runs, >= 1.
        rng: source of randomness.
        horizon: unperturbed runs are stopped after this epoch.
        follow: children are stopped this many epochs after the branch, >= 1.
        children: copies of each survivor, >= 1; one by default, which keeps all residuals independent.

    Returns:
        The unperturbed runs, and the residual times of the children.

    Raises:
        ValueError: for an invalid argument, or if no run survives the branch epoch.
    """
    n, children = whole_number("n", n, 1), whole_number("children", children, 1)
    branch_epoch, horizon = whole_number("branch_epoch", branch_epoch, 1), whole_number("horizon", horizon, 1)
    if branch_epoch > horizon:
        raise ValueError(f"branch_epoch={branch_epoch} must be <= horizon={horizon}: later survivors are not known")
    epoch, kick = _epoch(chain), _Rows(chain.checked(perturbation))
    before, states = _follow(epoch, _initial_states(chain, n, rng), rng, branch_epoch)
    survivors = np.flatnonzero(~before.observed)
    if len(survivors) == 0:
        raise ValueError(f"branch_epoch={branch_epoch}: all n={n} runs have finished; branch earlier or take more runs")
    times, observed = before.times.copy(), before.observed.copy()
    if horizon > branch_epoch:
        after, _ = _follow(epoch, states, rng, horizon - branch_epoch)
        times[survivors], observed[survivors] = branch_epoch + after.times, after.observed
    residual, _ = _follow(epoch, kick.draw(np.repeat(states, children), rng), rng, whole_number("follow", follow, 1))
    return BranchedPassages(FirstPassages(times, observed), residual, np.repeat(survivors, children))


class _Rows:
    """Draws from the rows of a stochastic matrix."""

    def __init__(self, rows: Floats) -> None:
        cumulative = np.cumsum(rows, axis=1)
        # Exactly 1 from the last positive entry on: entries of probability zero are never drawn.
        cumulative /= cumulative[:, -1:]
        self.columns = rows.shape[1]
        self._sorted = (cumulative + np.arange(len(rows))[:, None]).ravel()

    def draw(self, row: Integers, rng: np.random.Generator) -> Integers:
        """A column for each row, drawn by inversion."""
        # row + u may round up to the next row
        position = np.minimum(row + rng.random(len(row)), np.nextafter(row + 1.0, 0.0))
        return self._sorted.searchsorted(position, side="right") - row * self.columns


def _epoch(chain: Chain) -> _Rows:
    """One epoch; the last column is the target."""
    return _Rows(np.column_stack([chain.transient, chain.exits]))


def _initial_states(chain: Chain, n: int, rng: np.random.Generator) -> Integers:
    return _Rows(chain.initial[None]).draw(np.zeros(n, dtype=np.int64), rng)


def _follow(
    epoch: _Rows, states: Integers, rng: np.random.Generator, horizon: int, kick: _Rows | None = None, interval: int = 1
) -> tuple[FirstPassages, Integers]:
    """First passages from given states, and the states of the censored runs after the horizon."""
    times, observed = np.full(len(states), horizon), np.zeros(len(states), dtype=bool)
    alive, target = np.arange(len(states)), epoch.columns - 1
    for t in range(1, horizon + 1):
        states = epoch.draw(states, rng)
        arrived = states == target
        if arrived.any():
            times[alive[arrived]], observed[alive[arrived]] = t, True
            alive, states = alive[~arrived], states[~arrived]
        if len(alive) == 0:
            break
        if kick is not None and t % interval == 0:
            states = kick.draw(states, rng)
    return FirstPassages(times, observed), states
