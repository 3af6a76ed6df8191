"""Arguments of first-passage laws: parameters, times, rates and orders, checked before they are computed with."""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number

Complexes = npt.NDArray[np.complex128]

LARGEST = 1e100
"""Of a parameter; the smallest is its inverse."""

HIGHEST_ORDER = 1000
"""Of a moment; factorials of much less are no floats."""

SHORTEST_DIFFUSION = 1e-250
"""Time to diffuse the distance; squares and inverses of times must be floats."""


def nonnegative(name: str, values: npt.ArrayLike) -> Floats:
    """Check times or rates.

    Args:
        name: what the message calls them.
        values: the numbers, any shape.

    Returns:
        The numbers as floats.

    Raises:
        ValueError: unless all are finite and >= 0.
    """
    result = np.asarray(values, dtype=float)
    bad = result[~(np.isfinite(result) & (result >= 0))]
    if bad.size:
        raise ValueError(f"{name}={bad.flat[0]} must be finite and >= 0")
    return result


def positive(name: str, value: float) -> float:
    """Check a parameter that must be positive, and not so extreme that its square or its inverse is no float.

    Args:
        name: what the message calls it.
        value: the number.

    Returns:
        The number as a float.

    Raises:
        ValueError: unless it is finite and > 0, and from 1e-100 to 1e100.
    """
    if np.ndim(value):
        raise ValueError(f"{name} has shape {np.shape(value)}; it must be one number")
    number = float(value)  # numpy's short floats overflow sooner
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name}={value} must be finite and > 0")
    if not 1 / LARGEST <= number <= LARGEST:
        raise ValueError(f"{name}={value} must be from {1 / LARGEST:g} to {LARGEST:g}; choose other units")
    return number


def keep_positive(law: object, *names: str) -> None:
    """Check parameters of a frozen dataclass that must be positive, and keep them as floats.

    Args:
        law: the instance, in its ``__post_init__``.
        names: of its fields.

    Raises:
        ValueError: as `positive`.
    """
    for name in names:
        object.__setattr__(law, name, positive(name, getattr(law, name)))


def integral_arguments(order: int, rate: float, upper: float) -> tuple[int, float, float]:
    """Check the arguments of `PassageLaw.survival_integral`.

    Args:
        order, rate, upper: as there.

    Returns:
        The arguments as int, float, float.

    Raises:
        ValueError: unless order is a whole number from 0 to 1000, rate finite and >= 0, upper >= 0 (``inf`` too).
    """
    if not upper >= 0:
        raise ValueError(f"upper={upper} must be >= 0 (inf for the integral over all times)")
    if (order := whole_number("order", order, 0)) > HIGHEST_ORDER:
        raise ValueError(f"order={order} must be {HIGHEST_ORDER} at most")
    return order, float(nonnegative("rate", rate)), float(upper)


def right_half_plane(rates: npt.ArrayLike) -> Complexes:
    """Check arguments of a Laplace transform.

    Args:
        rates: s, any shape [1 / time].

    Returns:
        The arguments as complex numbers.

    Raises:
        ValueError: unless all have Re s > 0 and are finite.
    """
    s: Complexes = np.asarray(rates, dtype=complex)
    bad = s[~(np.isfinite(s) & (s.real > 0))]
    if bad.size:
        raise ValueError(f"rates={bad.flat[0]} must be finite with a real part > 0")
    return s


def probabilities_of_quantiles(probability: npt.ArrayLike) -> Floats:
    """Check the argument of `PassageLaw.quantile`.

    Args:
        probability: numbers, any shape.

    Returns:
        The numbers as floats.

    Raises:
        ValueError: unless all are from 0 to 1.
    """
    p = np.asarray(probability, dtype=float)
    bad = p[~((p >= 0) & (p <= 1))]
    if bad.size:
        raise ValueError(f"probability={bad.flat[0]} must be from 0 to 1")
    return p


def check_diffusion_scale(name: str, length: float, diffusivity: float) -> None:
    """Refuse units in which the time of diffusion is no ordinary float.

    Args:
        name: of the length.
        length: to be diffused.
        diffusivity: D.

    Raises:
        ValueError: unless length^2 / D is from 1e-250 to 1e250.
    """
    if not SHORTEST_DIFFUSION < length * length / diffusivity < 1 / SHORTEST_DIFFUSION:
        raise ValueError(
            f"{name}={length} with diffusivity={diffusivity}: {name}^2 / diffusivity must lie between "
            f"{SHORTEST_DIFFUSION:g} and {1 / SHORTEST_DIFFUSION:g}; choose other units"
        )
