"""Running integrals of positive functions that span hundreds of orders of magnitude, kept as logarithms.

The functions are built from e^{h(x)} and e^{-h(x)} of a given h. A mesh of panels is halved until both are polynomials
of degree 15 to 12 digits in each panel; Gauss-Legendre nodes then give the integrals up to every node and every edge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from theory.absorbing import Floats

NODES = 16
"""Gauss-Legendre nodes in a panel."""

LARGEST_RISE = 4.0
"""A panel in which h varies by more is halved: what varies by e^4 needs about 16 nodes."""

TOLERANCE = 1e-12
"""Of the highest Legendre coefficients, in units of the largest value in the panel."""

MOST_PANELS = 100_000

MOST_HALVINGS = 50

Height = Callable[[Floats], Floats]
"""h(x), of an array."""


@dataclass(frozen=True, eq=False)
class RunningIntegral:
    """Logarithm of an integral from one end of the mesh.

    Attributes:
        nodes: to each node, shape (p, NODES).
        edges: to each edge, shape (p + 1,).
    """

    nodes: Floats
    edges: Floats


@dataclass(frozen=True, eq=False)
class Mesh:
    """Panels that resolve e^h and e^-h.

    Attributes:
        edges: of the p panels, ascending, shape (p + 1,).
        nodes: Gauss-Legendre nodes of each panel, shape (p, NODES).
        heights: h at the nodes, shape (p, NODES).
    """

    edges: Floats
    nodes: Floats
    heights: Floats

    def edge(self, position: float) -> int:
        """Index of the edge at a position that was an edge from the beginning.

        Args:
            position: x of the edge.

        Returns:
            Index into ``edges``.
        """
        return int(np.searchsorted(self.edges, position))

    def integral_up_to(self, logs: Floats, before: float = -math.inf) -> RunningIntegral:
        """Log of the integral of f from the lower end of the mesh.

        Args:
            logs: log f at the nodes, shape (p, NODES).
            before: log of what the integral is at the lower end.

        Returns:
            The integral to all nodes and edges.
        """
        return _running(logs, np.diff(self.edges), before)

    def integral_from(self, logs: Floats, beyond: float = -math.inf) -> RunningIntegral:
        """Log of the integral of f up to the upper end of the mesh.

        Args:
            logs: log f at the nodes, shape (p, NODES).
            beyond: log of what the integral is at the upper end.

        Returns:
            The integral from all nodes and edges.
        """
        mirrored = _running(logs[::-1, ::-1], np.diff(self.edges)[::-1], beyond)
        return RunningIntegral(mirrored.nodes[::-1, ::-1], mirrored.edges[::-1])


def resolve(height: Height, edges: Floats) -> Mesh:
    """Halve panels until e^h and e^-h are resolved in each.

    Args:
        height: h.
        edges: to begin with, ascending, shape (p + 1,). What is much narrower than these panels may be missed.

    Returns:
        The mesh; it keeps the given edges.

    Raises:
        ValueError: if h has a jump or a pole, or varies by so much that it takes more than ``MOST_PANELS``.

    Example:
        >>> mesh = resolve(lambda x: 5 * x, np.array([0.0, 200.0]))
        >>> float(mesh.integral_up_to(mesh.heights).edges[-1]) + math.log(5)  # log of e^1000 - 1
        1000.000000000
    """
    offsets, highest = _rule().offsets, _rule().highest_coefficients
    left, right = edges[:-1], edges[1:]
    done: list[tuple[Floats, Floats, Floats]] = []
    panels = 0
    for _ in range(MOST_HALVINGS + 1):
        nodes = left[:, None] + (right - left)[:, None] * offsets
        heights = height(nodes)
        if not np.isfinite(heights).all():
            raise ValueError(f"U is infinite at x={nodes[~np.isfinite(heights)][0]}, between start and end")
        top, bottom = heights.max(axis=1, keepdims=True), heights.min(axis=1, keepdims=True)
        # What rounding of h leaves in the coefficients cannot be halved away.
        tolerance = TOLERANCE + 1e-14 * np.abs(heights).max(axis=1)
        good = (top - bottom)[:, 0] <= LARGEST_RISE
        for scaled in (np.exp(np.maximum(heights - top, -50)), np.exp(np.maximum(bottom - heights, -50))):
            good &= np.abs(scaled @ highest.T).max(axis=1) <= tolerance
        done.append((left[good], nodes[good], heights[good]))
        panels += len(left)
        if good.all():
            break
        middle = (left[~good] + right[~good]) / 2
        left, right = np.append(left[~good], middle), np.append(middle, right[~good])
        if panels + len(left) > MOST_PANELS:
            raise ValueError(f"U/D varies too much for {MOST_PANELS} panels of a quadrature; take a larger diffusivity")
    else:
        raise ValueError(f"U has a jump or a pole near x={left[0]}; a smooth potential is needed between start and end")
    lefts, all_nodes, all_heights = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(lefts)
    return Mesh(np.append(lefts[order], edges[-1]), all_nodes[order], all_heights[order])


def _running(logs: Floats, widths: Floats, before: float) -> RunningIntegral:
    scale = logs.max(axis=1)
    values = np.exp(logs - scale[:, None])
    scale = scale + np.log(widths)
    panels = scale + np.log(values @ _rule().weights)
    # Positive in exact arithmetic; the first node's may come out as rounding where the integrand is tiny.
    inside = scale[:, None] + np.log(np.maximum(values @ _rule().antiderivative.T, 1e-300))
    edges = np.logaddexp.accumulate(np.append(before, panels))
    return RunningIntegral(np.logaddexp(edges[:-1, None], inside), edges)


@dataclass(frozen=True, eq=False)
class _Rule:
    """Gauss-Legendre on [0, 1]; matrices act on values at the nodes."""

    offsets: Floats
    weights: Floats
    antiderivative: Floats  # integral from 0 to each node
    highest_coefficients: Floats  # of the last three Legendre polynomials


@cache
def _rule() -> _Rule:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    polynomials = np.polynomial.legendre.legvander(nodes, NODES)
    degrees = np.arange(NODES)
    coefficients = (2 * degrees + 1)[:, None] / 2 * (weights[:, None] * polynomials[:, :-1]).T
    # int_-1^t P_k = (P_{k+1}(t) - P_{k-1}(t)) / (2 k + 1), with P_{-1} = -1
    lower = np.column_stack([-np.ones(NODES), polynomials[:, : NODES - 1]])
    integrals = (polynomials[:, 1:] - lower) / (2 * degrees + 1)
    return _Rule((nodes + 1) / 2, weights / 2, integrals @ coefficients / 2, coefficients[-3:])
