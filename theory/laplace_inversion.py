"""Functions of time from their Laplace transforms, by the Euler algorithm of Abate and Whitt.

The Bromwich integral is a sum with alternating signs (trapezoidal rule at Re s = A / 2t), and binomial averages of the
partial sums find its limit. The rule itself errs by about e^{-A} of the function; rounding of the transform is
amplified by e^{A/2}. A = 23 makes both about 1e-10.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats

Transform = Callable[[npt.NDArray[np.complex128]], npt.NDArray[np.complex128]]

DECAY = 23.0
"""A; Re s = A / 2t."""

FIRST_TERMS, MOST_TERMS = 32, 4096
AVERAGED = 16
"""Partial sums that are averaged with binomial weights."""

TOLERANCE = 1e-9

SHORTEST_TIME = 1e-290
"""Rates are a few hundred times the inverse of the time, and must be floats; a shorter time counts as 0."""


def invert(transform: Transform, times: npt.ArrayLike) -> Floats:
    """f(t) from F(s) = int_0^inf e^{-st} f(t) dt, for smooth f.

    Absolute accuracy 1e-9 of the size of f up to a few t; for a survival function, 1e-9. Narrow features need more
    terms, which are added until the sum stands still. Functions with jumps or kinks (from restarts at fixed times) are
    not for this method: the sum then settles slowly, or not at all.

    Args:
        transform: F, takes complex s with Re s > 0 of any shape and returns the shape; accurate to rounding.
        times: t > 0, any shape [time].

    Returns:
        f, the shape of ``times``.

    Raises:
        ValueError: for times that are not positive, or if the sum does not settle.

    Example:
        >>> invert(lambda s: 1 / (s + 1), [1.0, 2.0]).round(9).tolist()
        [0.367879441, 0.135335283]

    Reference: [abate1995] ORSA Journal on Computing 7, 36 (1995)
    """
    t = np.asarray(times, dtype=float)
    bad = t[~((t >= SHORTEST_TIME) & (t <= 1 / SHORTEST_TIME))]
    if bad.size:
        raise ValueError(f"times={bad.flat[0]} must be finite and > 0, from {SHORTEST_TIME:g} to {1 / SHORTEST_TIME:g}")
    result, left, terms = np.empty(t.size), np.arange(t.size), FIRST_TERMS
    while len(left):
        values, changes = _euler(transform, t.ravel()[left], terms)
        result[left] = values
        left = left[changes > TOLERANCE / 4]
        terms *= 2
        if len(left) and terms > MOST_TERMS:
            raise ValueError(
                f"the inverse transform at t={t.flat[left[0]]} does not settle with {MOST_TERMS} terms: the function "
                "must be smooth there, without jumps or kinks"
            )
    return result.reshape(t.shape)[()]


def inverted_survival(transform: Transform, times: Floats) -> Floats:
    """Psi(t) from int_0^inf e^{-st} Psi(t) dt, with Psi(0) = 1.

    Args:
        transform: as for `invert`.
        times: t >= 0, any shape [time].

    Returns:
        Psi, the shape of ``times``; not yet clipped to 0..1.

    Raises:
        ValueError: as for `invert`.

    Example:
        >>> inverted_survival(lambda s: 1 / (s + 1), np.array([0.0, 1.0])).round(9).tolist()
        [1.0, 0.367879441]
    """
    result = np.ones(times.shape)
    later = times >= SHORTEST_TIME
    result[later] = invert(transform, times[later])
    return result


def inverted_density(transform: Transform, times: Floats) -> Floats:
    """A density from its transform, to 1e-9 / t, what transforms of restarted laws are good for.

    1 / t is added before and taken away after, so that the inversion does not try for more.

    Args:
        transform: as for `invert`.
        times: t >= 0, any shape [time].

    Returns:
        The density, the shape of ``times``; 0 at 0, and not yet clipped [1 / time].

    Raises:
        ValueError: as for `invert`.

    Example:
        >>> inverted_density(lambda s: 2 / (s + 2), np.array([0.0, 1.0])).round(9).tolist()  # 2 e^-2
        [0.0, 0.270670566]
    """
    result = np.zeros(times.shape)
    for index in np.flatnonzero(times >= SHORTEST_TIME):
        offset = 1 / float(times.flat[index])
        result.flat[index] = invert(lambda s, x=offset: transform(s) + x / s, times.flat[index]) - offset
    return result


def _euler(transform: Transform, times: Floats, terms: int) -> tuple[Floats, Floats]:
    """The inverse at times of shape (n,), and how much it moves when three quarters of the terms are used."""
    k = np.arange(terms + AVERAGED)
    s = (DECAY / 2 + 1j * math.pi * k) / times[:, None]
    transformed = transform(s.astype(np.complex128)).real
    size = np.abs(transformed[:, 0]) * DECAY / (2 * times)
    series = transformed * np.where(k % 2, -1.0, 1.0)
    series[:, 0] /= 2
    sums = np.cumsum(series, axis=1) * (math.exp(DECAY / 2) / times)[:, None]
    binomial = np.array([math.comb(AVERAGED, j) for j in range(AVERAGED + 1)]) / 2.0**AVERAGED
    last, earlier = terms - 1, 3 * terms // 4 - 1
    value = sums[:, last : last + AVERAGED + 1] @ binomial
    before = sums[:, earlier : earlier + AVERAGED + 1] @ binomial
    change = np.abs(value - before)
    return value, np.divide(change, size, out=np.zeros_like(change), where=change > 0)
