"""Expected totals of a Markov process before it is absorbed, computed without a subtraction.

The means of theory.markov_chain and theory.continuous_chain solve (D - A) x = b. A >= 0 holds the probabilities (or
rates) of moves between states, e >= 0 those of absorption, D = diag(A 1 + e). A general solver gets D - A by
subtraction, loses digits when absorption is rare and cannot tell a mean of 1e17 from an infinite one. Removing one
state after the other, with the probabilities of what happens *between* visits to the others, only adds, multiplies and
divides positive numbers. An infinite mean is then an honest division by an exact zero.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SUM_TOLERANCE = 1e-9
"""Rows may miss their sum by this much, as kernels read from files do; they are normalised."""

SMALLEST_EXIT = 1e-12
"""An absorption probability that is known as 1 - (a sum) and smaller than this is rounding, and counts as zero."""

SMALLEST_DEPARTURE = 1e-290
"""Below this a state counts as never left: dividing by it would overflow."""

BLOCK = 32
"""States that are removed before the rest is updated; a matter of speed only."""


def probabilities(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Check nonnegative numbers and their shape; the result is a read-only copy.

    Args:
        name: what the message calls them.
        values: the numbers.
        shape: the shape they must have.

    Returns:
        Shape as given.

    Raises:
        ValueError: for another shape, negative or non-finite entries.
    """
    result = np.array(values, dtype=float)
    if result.shape != shape:
        raise ValueError(f"{name} has shape {result.shape}; it must be {shape}")
    bad = result[~(np.isfinite(result) & (result >= 0))]
    if bad.size:
        raise ValueError(f"{name} has an entry {bad[0]}; probabilities must be finite and >= 0")
    result.flags.writeable = False
    return result


def distributions(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Check probabilities that sum to one along the last axis; the result is normalised and read-only.

    Args:
        name: what the message calls them.
        values: the probabilities.
        shape: the shape they must have.

    Returns:
        Shape as given.

    Raises:
        ValueError: for another shape, negative entries, or a sum other than one.
    """
    result = probabilities(name, values, shape)
    with np.errstate(over="ignore"):
        sums = result.sum(axis=-1, keepdims=True)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > SUM_TOLERANCE:
        what = "sums" if result.ndim == 1 else "has a row that sums"
        raise ValueError(f"{name} {what} to {worst:.12g}; it must be 1: divide by the sum if that is what was meant")
    result = result / sums
    result.flags.writeable = False
    return result


def whole_number(name: str, value: int, least: int) -> int:
    """Check a number of epochs.

    Args:
        name: what the message calls it.
        value: the number.
        least: the smallest allowed.

    Returns:
        The number as an int.

    Raises:
        ValueError: if it is not whole, or too small.
    """
    try:
        whole = bool(value == int(value) and value >= least)
    except (TypeError, ValueError, OverflowError):  # texts, None, arrays, nan, infinity
        whole = False
    if not whole:
        shown = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{name}={shown} must be a whole number >= {least}")
    return int(value)


def average(weights: Floats, values: Floats) -> Floats:
    """Sum of weights times values that may be infinite; a weight of zero times infinity is zero.

    Args:
        weights: >= 0, shape (..., n).
        values: > 0, possibly infinite, shape (n,).

    Returns:
        Shape (...).
    """
    finite = np.isfinite(values)
    total = weights[..., finite] @ values[finite]
    return np.where((weights[..., ~finite] > 0).any(axis=-1), np.inf, total)


class Absorption:
    """The process with moves A and absorption e, prepared for expected totals.

    States are removed from the last to the first. Removing k, left at D_k = sum_{j<k} A_kj + e_k, sends its share of
    everything to the rest: A_ij += A_ik A_kj / D_k, and e and b likewise. D_k = 0 means that a process in k stays in k
    and the states removed before it: never absorbed, its total is infinite, and so are those that can lead to it.
    Costs n^3 / 3 multiplications once and n^2 for each total.

    Args:
        moves: A, probabilities or rates, shape (n, n); the diagonal is not used.
        exits: e, shape (n,).

    Reference: [grassmann1985] state reduction, here with absorption
    """

    def __init__(self, moves: Floats, exits: Floats) -> None:
        moves, exits = moves.copy(), exits.copy()
        departures = np.empty(len(exits))
        # In blocks: one state at a time updates the rows and columns of its block, a matrix product then all the rest.
        for stop in range(len(exits), 0, -BLOCK):
            start = max(stop - BLOCK, 0)
            for k in range(stop - 1, start - 1, -1):
                departure = moves[k, :k].sum() + exits[k]
                departures[k] = departure if departure > SMALLEST_DEPARTURE else 0.0
                column = moves[:k, k]
                if departures[k] > 0:
                    column /= departures[k]
                    moves[:k, start:k] += np.outer(column, moves[k, start:k])
                    moves[start:k, :start] += np.outer(column[start:], moves[k, :start])
                    exits[:k] += column * exits[k]
            leaving = start + np.flatnonzero(departures[start:stop])
            moves[:start, :start] += moves[:start, leaving] @ moves[leaving, :start]
        self._moves, self._departures = moves, departures

    def expected_total(self, reward: Floats) -> Floats:
        """Expected sum of the rewards of all visits until absorption: x = (D - A)^-1 b.

        Args:
            reward: b > 0 of each visit (of each unit of time, if A holds rates), shape (n,).

        Returns:
            x for each initial state, ``inf`` where absorption may never happen, shape (n,).
        """
        total = reward.astype(float)
        with np.errstate(divide="ignore", over="ignore"):
            for k in range(len(total) - 1, -1, -1):
                column = self._moves[:k, k]
                if self._departures[k] > 0 and np.isfinite(total[k]):
                    total[:k] += column * total[k]
                else:
                    total[k] = np.inf
                    total[:k][column > 0] = np.inf
            for k in range(len(total)):
                if np.isfinite(total[k]):
                    total[k] = (total[k] + average(self._moves[k, :k], total[:k])) / self._departures[k]
        return total
