"""Perturbations of solvable dynamics: what is stationary under partial resetting, and under shrink-and-perturb.

Brownian motion that is moved from x to a x at the events of a Poisson process of rate r is, in the stationary state, a
sum of independent Laplace variables of scales s_j = a^j sqrt(D / r), j = 0, 1, ...: the last reset left a x, which
itself is a times such a sum. For first-passage times there is no closed form; ``theory.fokker_planck`` has them.

Reference: [talfriedman2022]
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.law_arguments import LARGEST

LARGEST_FRACTION_OF_MIXTURE = 0.8
"""Above this the density as a sum of exponentials cancels; it is then calculated from the characteristic function."""


@dataclass(frozen=True)
class PerturbedVariance:
    """Variances of a process that is perturbed periodically, in its periodic state.

    Attributes:
        before: just before a perturbation.
        after: just after it.
    """

    before: float
    after: float


def characteristic_function(wave_number: npt.ArrayLike, *, fraction: float, rate: float, diffusivity: float) -> Floats:
    """<e^{iqx}> = prod_{j>=0} 1 / (1 + a^{2j} D q^2 / r) of Brownian motion under partial resetting.

    Args:
        wave_number: q [1 / length], any shape.
        fraction: a in [0, 1): a reset moves x to a x; 0 is a full reset.
        rate: r > 0 of the resets [1 / time].
        diffusivity: D > 0 [length^2 / time].

    Returns:
        Shape of q, in (0, 1].

    Raises:
        ValueError: for a fraction outside [0, 1), or a rate or diffusivity that is not above 0.

    Example:
        >>> float(characteristic_function(1.0, fraction=0.0, rate=1.0, diffusivity=1.0))  # Laplace: 1 / (1 + q^2)
        0.5

    Reference: [talfriedman2022]
    """
    scale, square = _check(fraction, rate, diffusivity), fraction**2
    factor = (scale * np.asarray(wave_number, dtype=float)) ** 2
    logarithm = np.zeros_like(factor)
    while factor.max(initial=0) > 0.01:
        logarithm -= np.log1p(factor)
        factor = square * factor
    # What is left of the sum over j: log(1 + f) in powers of f, each a geometric series.
    for power in range(1, 10):
        logarithm += (-factor) ** power / (power * (1 - square**power))
    return np.exp(logarithm)[()]


def variance(*, fraction: float, rate: float, diffusivity: float) -> float:
    """<x^2> = 2 D / (r (1 - a^2)) of Brownian motion under partial resetting.

    Args:
        fraction: a in [0, 1): a reset moves x to a x.
        rate: r > 0 of the resets [1 / time].
        diffusivity: D > 0 [length^2 / time].

    Returns:
        [length^2].

    Raises:
        ValueError: for a fraction outside [0, 1), or a rate or diffusivity that is not above 0.

    Reference: [talfriedman2022]
    """
    scale = _check(fraction, rate, diffusivity)
    return 2 * scale**2 / (1 - fraction**2)


def fourth_moment(*, fraction: float, rate: float, diffusivity: float) -> float:
    """<x^4> = 12 D <x^2> / (r (1 - a^4)) of Brownian motion under partial resetting.

    Args:
        fraction: a in [0, 1): a reset moves x to a x.
        rate: r > 0 of the resets [1 / time].
        diffusivity: D > 0 [length^2 / time].

    Returns:
        [length^4].

    Raises:
        ValueError: for a fraction outside [0, 1), or a rate or diffusivity that is not above 0.

    Example:
        >>> round(fourth_moment(fraction=0.5, rate=1.0, diffusivity=1.0), 6)
        34.133333

    Reference: [talfriedman2022]
    """
    second = variance(fraction=fraction, rate=rate, diffusivity=diffusivity)
    return 12 * diffusivity / rate * second / (1 - fraction**4)


def density(x: npt.ArrayLike, *, fraction: float, rate: float, diffusivity: float) -> Floats:
    """Stationary density of Brownian motion under partial resetting.

    Partial fractions of the characteristic function give a sum of Laplace densities,

        p(x) = sum_j c_j e^{-|x| / s_j} / (2 s_j),   c_j = prod_{k != j} 1 / (1 - a^{2 (k - j)}),

    The c_j alternate, and grow beyond all bounds as a -> 1. Above a = 0.8 the Fourier integral is summed instead, with
    an absolute error of about 1e-15 of the peak: far in the tail, where p is smaller, the result is 0 or noise.

    Args:
        x: position, any shape [length].
        fraction: a in [0, 1): a reset moves x to a x.
        rate: r > 0 of the resets [1 / time].
        diffusivity: D > 0 [length^2 / time].

    Returns:
        Shape of x, >= 0 [1 / length].

    Raises:
        ValueError: for a fraction outside [0, 1), a rate or diffusivity that is not above 0, or x that is nan.

    Example:
        >>> float(density(0.0, fraction=0.0, rate=4.0, diffusivity=1.0))  # sqrt(r / D) / 2
        1.0

    Reference: [talfriedman2022] the law; both ways to its density are derived for jostle
    """
    scale = _check(fraction, rate, diffusivity)
    distances = np.abs(np.asarray(x, dtype=float)) / scale
    if np.isnan(distances).any():
        raise ValueError("x has an entry nan; positions must be numbers")
    form = _mixture if fraction <= LARGEST_FRACTION_OF_MIXTURE else _fourier_sum
    return np.maximum(form(distances.ravel(), fraction).reshape(distances.shape), 0)[()] / scale


def perturbed_variance(
    *, stiffness: float, diffusivity: float, interval: float, shrink: float, perturb: float
) -> PerturbedVariance:
    """Variance of dx = -k x dt + sqrt(2 D) dW under x -> lambda x + gamma xi every P, xi a unit normal.

    In the periodic state x is normal with mean 0, and with e = e^{-2kP}

        before = ((D / k) (1 - e) + e gamma^2) / (1 - lambda^2 e),   after = lambda^2 before + gamma^2.

    Args:
        stiffness: k [1 / time]; 0 for Brownian motion, negative for a hilltop.
        diffusivity: D >= 0 [length^2 / time].
        interval: P > 0 [time].
        shrink: lambda.
        perturb: gamma >= 0, the standard deviation of the noise [length].

    Returns:
        [length^2]; ``inf`` if the perturbation does not shrink as much as the hilltop spreads, |lambda| e^{-kP} >= 1.

    Raises:
        ValueError: for parameters out of range.

    Example:
        >>> law = perturbed_variance(stiffness=1.0, diffusivity=1.0, interval=0.5, shrink=0.4, perturb=0.1)
        >>> round(law.before, 12), round(law.after, 12)
        (0.675563500953, 0.118090160153)

    Reference: Derived for jostle
    """
    stiffness, diffusivity, interval = float(stiffness), float(diffusivity), float(interval)
    shrink, perturb = float(shrink), float(perturb)
    for name, value in [("diffusivity", diffusivity), ("perturb", perturb)]:
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value} must be finite and >= 0")
    if not (interval > 0 and math.isfinite(interval)):
        raise ValueError(f"interval={interval} must be finite and > 0")
    if not (math.isfinite(stiffness) and math.isfinite(shrink)):
        raise ValueError(f"stiffness={stiffness} and shrink={shrink} must be finite")
    for name, value in (("stiffness", stiffness), ("diffusivity", diffusivity), ("interval", interval)):
        if abs(value) > LARGEST:
            raise ValueError(f"{name}={value} must be {LARGEST:g} at most in size; choose other units")
    if abs(shrink) > LARGEST or abs(perturb) > LARGEST:
        raise ValueError(f"shrink={shrink} and perturb={perturb} must be {LARGEST:g} at most in size")
    exponent = -2 * stiffness * interval
    if shrink != 0 and 2 * math.log(abs(shrink)) + exponent >= 0:
        return PerturbedVariance(math.inf, math.inf)
    if exponent > 700:
        raise ValueError(f"stiffness * interval = {stiffness * interval} must be above -350: the hilltop overflows")
    spread = -math.expm1(exponent) / stiffness if stiffness != 0 else 2 * interval
    # 1 - lambda^2 e^{-2kP}, also where that is tiny
    lost = -math.expm1(2 * math.log(abs(shrink)) + exponent) if shrink != 0 else 1.0
    before = (diffusivity * spread + math.exp(exponent) * perturb**2) / lost
    return PerturbedVariance(before, shrink**2 * before + perturb**2)


def _mixture(distances: Floats, fraction: float) -> Floats:
    """Sum of Laplace densities, of |x| in units of sqrt(D / r)."""
    # Terms decrease as a^(j^2).
    terms = 1 if fraction < 1e-17 else math.ceil(math.sqrt(41 / -math.log(fraction))) + 2
    weight = 1 / math.prod(1 - fraction ** (2 * k) for k in range(1, 400))
    total = np.zeros_like(distances)
    for j in range(terms):
        scale = fraction**j
        with np.errstate(over="ignore"):
            total += weight / (2 * scale) * np.exp(-distances / scale)
        power = fraction ** (2 * (j + 1))
        weight *= power / (power - 1)
    return total


def _fourier_sum(distances: Floats, fraction: float) -> Floats:
    """(1/pi) int_0^inf cos(qx) p^(q) dq by the trapezoidal rule, of |x| in units of sqrt(D / r).

    The rule is exact but for the copies of p that it puts at multiples of the period.
    """
    # 9 standard deviations where the law is nearly normal, and its exponential tail: beyond, nothing is left.
    farthest = 60 + 9 * math.sqrt(2 / (1 - fraction**2))
    step = math.pi / farthest
    highest = 1.0
    while characteristic_function(highest, fraction=fraction, rate=1.0, diffusivity=1.0) > 1e-18:
        highest *= 1.5
    wave_numbers = step * np.arange(math.ceil(highest / step) + 1)
    transform = characteristic_function(wave_numbers, fraction=fraction, rate=1.0, diffusivity=1.0)
    transform[0] /= 2
    result = np.zeros_like(distances)
    near = np.flatnonzero(distances < farthest)
    for part in np.array_split(near, len(near) // 1000 + 1):
        result[part] = step / math.pi * (np.cos(np.outer(distances[part], wave_numbers)) @ transform)
    return result


def _check(fraction: float, rate: float, diffusivity: float) -> float:
    """The scale sqrt(D / r)."""
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction={fraction} must be in [0, 1); at 1 nothing is reset, and nothing stationary")
    for name, value in [("rate", rate), ("diffusivity", diffusivity)]:
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value} must be finite and > 0")
    return math.sqrt(diffusivity / rate)
