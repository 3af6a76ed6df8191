"""Numbers in few words: with errors, times, amounts of memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theory.estimate import Estimate

NEGLIGIBLE = 1e-6
"""Relative errors that are not printed."""


def brief(estimate: Estimate) -> str:
    """A number with its standard error in units of its last digits.

    Args:
        estimate: the number.

    Returns:
        Such as ``"0.123(4)"``; two digits of errors that begin with 1, and none of errors that do not matter.

    Example:
        >>> from theory.estimate import Estimate
        >>> pairs = (0.1234, 0.0043), (0.1234, 0.0013), (12.3, 4.0), (-3.21e-7, 4e-9), (0.1234, 1e-12)
        >>> [brief(Estimate(*pair, 8)) for pair in pairs]
        ['0.123(4)', '0.1234(13)', '12(4)', '-3.21(4)e-07', '0.1234']
    """
    value, error = estimate.value, estimate.standard_error
    if error <= NEGLIGIBLE * abs(value):
        return f"{value:.6g}"
    size = math.floor(math.log10(max(abs(value), error)))
    if not -5 <= size < 6:
        return f"{_digits(value / 10.0**size, error / 10.0**size)}e{size:+03d}"
    return _digits(value, error)


def _digits(value: float, error: float) -> str:
    exponent = math.floor(math.log10(error))
    digits = max(1 - exponent if error < 1.95 * 10.0**exponent else -exponent, 0)
    return f"{value:.{digits}f}({round(error * 10**digits)})"


def duration(seconds: float) -> str:
    """A time in words.

    Args:
        seconds: >= 0.

    Returns:
        A second at least; larger units from two of them on.

    Example:
        >>> duration(14.2), duration(150), duration(10_000), duration(200_000)
        ('14 s', '2 minutes', '3 hours', '2 days')
    """
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def size_words(memory: float) -> str:
    """An amount of memory in words.

    Args:
        memory: in bytes.

    Returns:
        Such as ``"35 MB"``.
    """
    return f"{max(memory / 1e6, 1):.0f} MB" if memory < 1e9 else f"{memory / 1e9:.1f} GB"
