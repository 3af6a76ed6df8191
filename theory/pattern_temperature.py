"""The share P of activation patterns that a step changes, its temperature T, and what N patterns can show of them.

T = -log2(1 - P) is the surprise, in bits, that a pattern stayed as it was. Both directions keep their digits where P is
small; where 1 - P is, take T from counts.

Reference: [actcoolr2021]
"""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.noise_arguments import real_numbers

LN2 = math.log(2.0)


def checked_shares(name: str, values: npt.ArrayLike) -> Floats:
    """Check shares.

    Args:
        name: what the message calls them.
        values: the numbers, any shape.

    Returns:
        The numbers as floats.

    Raises:
        ValueError: unless all are between 0 and 1.
    """
    shares = real_numbers(name, values)
    bad = shares[~((shares >= 0) & (shares <= 1))]
    if bad.size:
        raise ValueError(f"{name}={bad.flat[0]} must lie between 0 and 1: the share of patterns that changed")
    return shares


def checked_temperatures(name: str, values: npt.ArrayLike) -> Floats:
    """Check activation-pattern temperatures.

    Args:
        name: what the message calls them.
        values: the numbers, any shape.

    Returns:
        The numbers as floats; ``inf`` is one.

    Raises:
        ValueError: unless all are >= 0.
    """
    temperatures = real_numbers(name, values)
    bad = temperatures[~(temperatures >= 0)]
    if bad.size:
        raise ValueError(f"{name}={bad.flat[0]} must be >= 0, in bits")
    return temperatures


def checked_log_rates(name: str, values: npt.ArrayLike) -> Floats:
    """Check logarithms of learning rates.

    Args:
        name: what the message calls them.
        values: the numbers, any shape.

    Returns:
        The numbers as floats; ``-inf`` (a learning rate of 0) is one.

    Raises:
        ValueError: for nan.
    """
    log_rates = real_numbers(name, values)
    if np.isnan(log_rates).any():
        raise ValueError(f"{name}=nan must be the logarithm of a learning rate; take it of rates > 0")
    return log_rates


def temperature_of(share: npt.ArrayLike) -> Floats:
    """T = -log2(1 - P).

    A share close to 1 has few digits of 1 - P left: take `temperature_of_counts`.

    Args:
        share: P, of the patterns that changed, any shape.

    Returns:
        T, in the same shape [bits]; ``inf`` for P = 1.

    Raises:
        ValueError: for a share outside 0 .. 1.

    Example:
        >>> temperature_of([0.0, 0.5, 0.75]).tolist()
        [0.0, 1.0, 2.0]

    Reference: [actcoolr2021]
    """
    with np.errstate(divide="ignore"):
        return np.abs(np.log1p(-checked_shares("share", share))) / LN2


def share_of(temperature: npt.ArrayLike) -> Floats:
    """P = 1 - 2^-T.

    Args:
        temperature: T >= 0, any shape [bits].

    Returns:
        P, in the same shape.

    Raises:
        ValueError: for a temperature below 0.

    Example:
        >>> share_of([0.0, 1.0, 2.0, np.inf]).round(12).tolist()
        [0.0, 0.5, 0.75, 1.0]
    """
    return np.abs(np.expm1(-LN2 * checked_temperatures("temperature", temperature)))


def temperature_of_counts(changed: npt.ArrayLike, patterns: npt.ArrayLike) -> Floats:
    """T of counted patterns, none or all of which may have changed: those count as half a pattern from there.

    P is clipped to 1 / (2 N) .. 1 - 1 / (2 N), at both ends (the paper does so at P = 1 only), so that every
    measurement has a finite logarithm.

    Args:
        changed: number of patterns that changed, 0 .. patterns, any shape.
        patterns: N >= 1 compared, any shape that goes with it.

    Returns:
        T, in the common shape [bits], from `coldest_temperature` to `hottest_temperature`.

    Raises:
        ValueError: for counts out of range.

    Example:
        >>> temperature_of_counts([0, 64, 128], 128).round(6).tolist()
        [0.005647, 1.0, 8.0]

    Reference: [actcoolr2021] section 4.1 for half a pattern at P = 1
    """
    total, some = real_numbers("patterns", patterns), real_numbers("changed", changed)
    if not (np.isfinite(total) & (total >= 1)).all():
        raise ValueError(f"patterns={patterns} must be finite and >= 1")
    if not ((some >= 0) & (some <= total)).all():
        raise ValueError(f"changed={changed} must lie between 0 and the {patterns} patterns")
    changed_share = np.clip(some, 0.5, total - 0.5) / total
    unchanged = np.clip(total - some, 0.5, total - 0.5)
    # Whichever of the two shares is the smaller has all its digits.
    return np.where(2 * changed_share < 1, temperature_of(np.minimum(changed_share, 0.5)), np.log2(total / unchanged))


def coldest_temperature(patterns: int) -> float:
    """The lowest T that N patterns can show, -log2(1 - 1 / (2 N)). Below it a target is out of sight: cool blindly.

    Args:
        patterns: N >= 1.

    Returns:
        T [bits].

    Raises:
        ValueError: if N is not a whole number >= 1.

    Example:
        >>> round(coldest_temperature(128), 6)
        0.005647
    """
    return float(temperature_of(0.5 / whole_number("patterns", patterns, 1)))


def hottest_temperature(patterns: int) -> float:
    """The highest T that N patterns can show, log2(2 N).

    Args:
        patterns: N >= 1.

    Returns:
        T [bits].

    Raises:
        ValueError: if N is not a whole number >= 1.

    Example:
        >>> hottest_temperature(8192)
        14.0
    """
    return math.log2(2 * whole_number("patterns", patterns, 1))
