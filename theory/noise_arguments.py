"""Checks of the arguments of everything about SGD: numbers, frequencies, lags, batch sizes, and their ranges.

Ranges are far beyond use, and such that products of what they bound stay finite: a learning rate and its square, the
inverse of that, and both times a variance.
"""

import math
import numbers
import reprlib

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number

SMALLEST_RATE, LARGEST_RATE = 1e-100, 1e100
"""Of learning rates."""

LARGEST_VARIANCE = 1e80
"""Of gradient noise."""

SMALLEST_SCALE, LARGEST_SCALE = 1e-40, 1e40
"""Standard deviations of noise on the weights, unless zero."""

LARGEST_COUNT = 10**15
"""Batches, epochs, lags: their products with themselves are whole numbers of 64 bits or exact enough as floats."""


def number(name: str, value: object) -> float:
    """Check that something is a real number.

    Args:
        name: what the message calls it.
        value: what should be a number.

    Returns:
        It as a float; ``inf`` for whole numbers beyond all floats, nan for nan: ranges are for the caller to check.

    Raises:
        ValueError: for texts, arrays, complex numbers and the like.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, numbers.Real):
        raise ValueError(f"{name}={reprlib.repr(value)} must be a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf  # pyright: ignore[reportArgumentType]


def real_numbers(name: str, values: npt.ArrayLike) -> Floats:
    """Check that something is an array of real numbers.

    Args:
        name: what the message calls them.
        values: the numbers, any shape.

    Returns:
        A copy as floats: ranges are for the caller to check.

    Raises:
        ValueError: for texts, complex numbers, ragged lists and the like.
    """
    try:
        raw = np.asarray(values)
        if raw.dtype.kind in "fiub":
            return raw.astype(float)
        if raw.dtype.kind == "O":  # such as whole numbers of more than 64 bits
            return np.array([number(name, value) for value in raw.flat]).reshape(raw.shape)
    except ValueError:
        pass
    raise ValueError(f"{name}={reprlib.repr(values)} must be real numbers, in an array or alone")


def checked_rate(name: str, value: float) -> float:
    """Check a learning rate.

    Args:
        name: what the message calls it.
        value: the number.

    Returns:
        The number as a float.

    Raises:
        ValueError: unless it is finite and > 0, and between ``SMALLEST_RATE`` and ``LARGEST_RATE``.
    """
    rate = number(name, value)
    if not 0 < rate < math.inf:
        raise ValueError(f"{name}={value} must be finite and > 0")
    if not SMALLEST_RATE <= rate <= LARGEST_RATE:
        raise ValueError(f"{name}={rate:g} must lie between {SMALLEST_RATE:g} and {LARGEST_RATE:g}; change the units")
    return rate


def checked_variance(name: str, value: float) -> float:
    """Check a variance.

    Args:
        name: what the message calls it.
        value: the number.

    Returns:
        The number as a float.

    Raises:
        ValueError: unless it is finite and >= 0, and at most ``LARGEST_VARIANCE``.
    """
    variance = number(name, value)
    if not 0 <= variance < math.inf:
        raise ValueError(f"{name}={value} must be finite and >= 0")
    if variance > LARGEST_VARIANCE:
        raise ValueError(f"{name}={variance:g} must be at most {LARGEST_VARIANCE:g}; change the units")
    return variance


def checked_scale(name: str, value: float) -> float:
    """Check a standard deviation of noise on the weights.

    Args:
        name: what the message calls it.
        value: the number.

    Returns:
        The number as a float.

    Raises:
        ValueError: unless it is zero, or between ``SMALLEST_SCALE`` and ``LARGEST_SCALE``.
    """
    scale = number(name, value)
    if not 0 <= scale < math.inf:
        raise ValueError(f"{name}={value} must be finite and >= 0")
    if scale and not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise ValueError(
            f"{name}={scale:g} must be 0 or lie between {SMALLEST_SCALE:g} and {LARGEST_SCALE:g}; change the units"
        )
    return scale


def checked_count(name: str, value: int, least: int) -> int:
    """Check a number of batches, epochs or dimensions.

    Args:
        name: what the message calls it.
        value: the number.
        least: the smallest allowed.

    Returns:
        The number as an int.

    Raises:
        ValueError: if it is not whole, too small, or above ``LARGEST_COUNT``.
    """
    count = whole_number(name, value, least)
    if count > LARGEST_COUNT:
        raise ValueError(f"{name}={count:.3g} must be at most {LARGEST_COUNT:.0e}")
    return count


def checked_batch_size(samples: int, batch_size: int) -> tuple[int, int]:
    """Check the size of a data set and of its batches.

    Args:
        samples: N, the number of training samples.
        batch_size: S, samples in a batch.

    Returns:
        N and S as ints.

    Raises:
        ValueError: unless both are whole and 1 <= batch_size <= samples.
    """
    total = checked_count("samples", samples, 1)
    if not 1 <= number("batch_size", batch_size) <= total:
        raise ValueError(f"batch_size={batch_size} must lie between 1 and the {total} training samples")
    return total, whole_number("batch_size", batch_size, 1)


def checked_entry_probability(samples: int, batch_size: int, entry_probability: float) -> tuple[int, int, float]:
    """Check persistent batches, which samples enter and leave.

    Args:
        samples: N, the number of training samples.
        batch_size: S, mean number of samples in a batch.
        entry_probability: p, of a sample out of the batch to enter it, per update.

    Returns:
        N and S as ints, p as a float.

    Raises:
        ValueError: unless 1 <= S < N and, with b = S / N, 0 < p <= min(1, b / (1 - b)).
    """
    total, size = checked_batch_size(samples, batch_size)
    fraction, entering = size / total, number("entry_probability", entry_probability)
    if not 0 < entering <= 1 or entering * (1 - fraction) > fraction or fraction == 1:
        raise ValueError(
            f"entry_probability={entry_probability} must be > 0 and at most min(1, b / (1 - b)) with b = batch_size / "
            f"samples = {fraction:g} < 1, or samples would leave with a probability above 1"
        )
    return total, size, entering


def finite_frequencies(frequency: npt.ArrayLike) -> Floats:
    """Check frequencies.

    Args:
        frequency: omega [radians per update], any shape.

    Returns:
        The frequencies as floats.

    Raises:
        ValueError: unless all are finite numbers.
    """
    omega = real_numbers("frequency", frequency)
    bad = omega[~np.isfinite(omega)]
    if bad.size:
        raise ValueError(f"frequency={bad.flat[0]} must be finite")
    return omega


def reduced_angle(angle: npt.ArrayLike) -> Floats:
    """An angle modulo 2 pi.

    Args:
        angle: finite, any shape.

    Returns:
        The angle in [-pi, pi], in the same shape; small ones stay as they are.
    """
    turned = np.fmod(angle, math.tau)
    return np.asarray(turned - math.tau * np.rint(turned / math.tau))


def signed_lags(lags: npt.ArrayLike, least: int = -LARGEST_COUNT) -> npt.NDArray[np.int64]:
    """Check lags.

    Args:
        lags: whole numbers of updates, any shape; an empty list too.
        least: the smallest allowed.

    Returns:
        The lags as integers of 64 bits, in the same shape.

    Raises:
        ValueError: for lags that are not of an integer type, or out of range.
    """
    h = np.asarray(lags)
    if not h.size:
        h = h.astype(np.int64)
    if h.dtype.kind not in "iu":
        raise ValueError(f"lags of type {h.dtype} must be whole numbers of updates: pass integers")
    if h.size and h.min() < least:
        raise ValueError(f"lags={h.min()} must be >= {least}")
    if h.size and h.max() > LARGEST_COUNT:
        raise ValueError(f"lags={h.max()} must be at most {LARGEST_COUNT:.0e}")
    return h.astype(np.int64)


def whole_lags(lags: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Check lags and drop their signs.

    Args:
        lags: whole numbers of updates, any shape.

    Returns:
        |h|, in the same shape.

    Raises:
        ValueError: for lags that are not of an integer type, or out of range.
    """
    return np.abs(signed_lags(lags))
