"""How many parents and children a study needs: the smallest n c + sum_l m_l d_l that meets all wanted errors, exactly.

    a_l(P) / n + b_l(P) / m_l <= epsilon_l(P)^2 for all l and P,        m_l <= n Psi(P*),

in whole numbers. For a given n the children are m_l(n) = max_P b / (epsilon^2 - a / n), rounded up, which falls with n:
if survivors are enough for some n they are for all larger ones. Without the rounding the cost is convex in n. Rounding
adds less than one child of each kind, so that only those n can be optimal whose relaxed cost is below the cost of any
known design. These are consecutive, some sqrt(n) of them, and all are tried.

With one label and one interval, and survivors enough, the relaxed optimum is n = (a + sqrt(a b d / c)) / epsilon^2,
m = (b + sqrt(a b c / d)) / epsilon^2, at a cost of (sqrt(a c) + sqrt(b d))^2 / epsilon^2.

Derived for jostle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.survival import Floats

LARGEST_STUDY = 10**9
"""Parents; a precision that needs more is refused."""

TOO_PRECISE = f"the wanted error needs more than {LARGEST_STUDY:.0e} runs: ask for less precision"

ROUNDING = 1e-9
"""Runs by which a bound on their number may be missed through rounding."""


@dataclass(frozen=True, eq=False)
class StudySize:
    """The problem in numbers of runs; see theory.study_design for where they come from.

    Attributes:
        parent_variances: a, shape (labels, intervals) [epochs^2].
        child_variances: b, shape (labels, intervals) [epochs^2].
        squared_errors: epsilon^2 > 0, shape (labels, intervals) [epochs^2].
        fewest_parents: lower bound of n, >= 1.
        fewest_children: lower bounds of m_l, shape (labels,).
        parent_cost: c > 0 [epochs].
        child_costs: d_l, shape (labels,) [epochs].
        survival: Psi(P*) > 0.

    Example:
        >>> one = np.ones((1, 1))
        >>> size = StudySize(9 * one, 4 * one, one / 100, 1.0, np.ones(1), 4.0, np.ones(1), 0.5)
        >>> n = size.cheapest()
        >>> n, size.children(n).tolist(), size.cost(n)  # (900 + 300, 400 + 1200), were there survivors enough
        (1700, [850.0], 7650.0)
    """

    parent_variances: Floats
    child_variances: Floats
    squared_errors: Floats
    fewest_parents: float
    fewest_children: Floats
    parent_cost: float
    child_costs: Floats
    survival: float

    def children(self, parents: int) -> Floats:
        """The children that are needed beside n parents.

        Args:
            parents: n.

        Returns:
            m_l(n) in whole numbers, shape (labels,); ``inf`` where no number of children makes up for too few parents.
        """
        return self._rounded(np.array([parents]))[:, 0]

    def cost(self, parents: int) -> float:
        """The expected cost of n parents and the children needed beside them.

        Args:
            parents: n.

        Returns:
            [epochs]
        """
        return float(self._costs(np.array([parents]), self.children(parents)[:, None])[0])

    def fewest(self, *, limited: bool = True) -> int:
        """The smallest n with which the wanted errors can be met; so they can with all larger ones.

        Args:
            limited: whether survivors must be enough for the children.

        Returns:
            n.

        Raises:
            ValueError: if more than 10^9 parents are needed.
        """
        least = float((self.parent_variances / self.squared_errors).max())
        if least > LARGEST_STUDY:
            raise ValueError(TOO_PRECISE)
        low = math.ceil(max(least, self.fewest_parents, 1.0) - ROUNDING)

        def is_enough(n: int) -> bool:
            most = float(self.children(n).max())
            return math.isfinite(most) and (not limited or most <= n * self.survival + ROUNDING)

        high = low
        while not is_enough(high):
            low, high = high + 1, 2 * high
            if high > LARGEST_STUDY:
                raise ValueError(TOO_PRECISE)
        return _first(is_enough, low, high)

    def cheapest(self, *, limited: bool = True) -> int:
        """The n of the cheapest study, the smallest of several equal ones.

        Args:
            limited: whether survivors must be enough for the children.

        Returns:
            n.

        Raises:
            ValueError: if more than 10^9 parents are needed.
        """
        low = self.fewest(limited=limited)

        def relaxed(n: int) -> float:
            parents = np.array([n])
            return float(self._costs(parents, self._relaxed(parents))[0])

        def is_rising(n: int) -> bool:
            return relaxed(n + 1) >= relaxed(n)

        high = low
        while not is_rising(high):
            high *= 2
        near = _first(is_rising, low, high)
        known = max(self.cost(near), relaxed(near)) * (1 + 1e-12)
        start = _first(lambda n: relaxed(n) <= known, low, near)
        stop = _first(lambda n: relaxed(n) > known, near, math.floor(known / self.parent_cost) + 2)
        candidates = np.arange(start, stop)
        costs = self._costs(candidates, self._rounded(candidates))
        return int(candidates[np.flatnonzero(costs <= costs.min() * (1 + 1e-12))[0]])

    def _relaxed(self, parents: npt.NDArray) -> Floats:
        """m_l(n) as real numbers, shape (labels, n)."""
        rest = self.squared_errors[..., None] - self.parent_variances[..., None] / parents
        b = np.broadcast_to(self.child_variances[..., None], rest.shape)
        m = np.divide(b, rest, out=np.where(b > 0, np.inf, 0.0), where=(rest > 0) & (b > 0))
        return np.maximum(m.max(axis=1), self.fewest_children[:, None])

    def _rounded(self, parents: npt.NDArray) -> Floats:
        return np.maximum(np.ceil(self._relaxed(parents) - ROUNDING), 0.0)

    def _costs(self, parents: npt.NDArray, children: Floats) -> Floats:
        return parents * self.parent_cost + self.child_costs @ children


def _first(is_true: Callable[[int], bool], low: int, high: int) -> int:
    """The first n in low..high from which on a condition holds; it holds at ``high``."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_true(middle) else (middle + 1, high)
    return low
