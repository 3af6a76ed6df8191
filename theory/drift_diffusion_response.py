"""Two solvable answers to rare perturbations: drift-diffusion that is reset with feedback, or changes its potential.

A particle starts at x0 > 0, drifts with velocity v > 0 towards the absorbing origin and diffuses with D, so that
E[T] = x0 / v and E[T^2] = x0^2 / v^2 + 2 D x0 / v^3. A Poisson process of rate r perturbs it:

    feedback reset      back to x0, but only if it is beyond a threshold: never away from the target (theta = x0);
    logarithmic switch  for good to the potential U0 ln x, where the force -U0 / x grows as the target comes near.

Everything is written without the subtractions that lose digits at small rates, drifts or distances.

Reference: [keidar2024] abstract names both examples; the formulas were derived for jostle and checked numerically.
"""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.linear_response import poisson_slope
from theory.passage_laws import nonnegative, positive


def occupation_density(position: npt.ArrayLike, start: float, drift: float, diffusivity: float) -> Floats:
    """G(x): the mean time that a run spends at x, per length. Its integral is E[T] = x0 / v.

    (1 - e^{-v x / D}) / v below the start and e^{-v (x - x0) / D} (1 - e^{-v x0 / D}) / v above it.

    Args:
        position: x >= 0, any shape [length].
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].

    Returns:
        The shape of ``position`` [time / length].

    Raises:
        ValueError: for a negative position, or a parameter that is not > 0.
    """
    x, x0, v, d = nonnegative("position", position), *_parameters(start, drift, diffusivity)
    return -np.exp(-np.maximum(x - x0, 0) * v / d) * np.expm1(-np.minimum(x, x0) * v / d) / v


# ---- Reset with feedback ---------------------------------------------------------------------------------------------


def feedback_mean(start: float, drift: float, diffusivity: float, rate: float) -> float:
    """E[T_r] when resets return the particle to x0 only if it is beyond x0.

    x0 / v + (D / v) (1 - e^{-v x0 / D}) (-k / r - 1 / v) with k = (v - sqrt(v^2 + 4 D r)) / (2 D).

    Args:
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].
        rate: r >= 0 [1 / time]; ``inf`` gives the limit of a wall behind the start.

    Returns:
        [time]; it falls from x0 / v to x0 / v - (D / v^2) (1 - e^{-v x0 / D}) as r grows.

    Raises:
        ValueError: for a parameter that is not > 0 or a negative rate.

    Example:
        >>> round(feedback_mean(1.0, 1.0, 1.0, 1.0), 12)
        0.758551431515
    """
    x0, v, d = _parameters(start, drift, diffusivity)
    if not rate >= 0:
        raise ValueError(f"rate={rate} must be >= 0 (inf for the limit of frequent resets)")
    rate = float(rate)
    if 1e100 < rate < math.inf:
        raise ValueError(f"rate={rate} must be at most 1e100, or inf; choose other units")
    # -k / r - 1 / v = -4 D r / (v (v + s)^2) with s = sqrt(v^2 + 4 D r): (s - v) / (s + v) without the subtraction.
    share = 1.0 if math.isinf(rate) else 4 * d * rate / (v + math.sqrt(v**2 + 4 * d * rate)) ** 2
    return x0 / v + d / v**2 * math.expm1(-v * x0 / d) * share


def feedback_slope(start: float, drift: float, diffusivity: float, threshold: float | None = None) -> float:
    """dE[T_r] / dr at r = 0 when resets to x0 happen only beyond the threshold c: int_c^inf G(x) (x0 - x) / v dx.

    At c = x0, where it is lowest: -(D^2 / v^4) (1 - e^{-v x0 / D}), always < 0. At c = 0, for plain resets:
    x0^2 / (2 v^2) - D x0 / v^3, which is < 0 if v x0 / (2 D) < 1.

    Args:
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].
        threshold: c >= 0 [length]; the start by default.

    Returns:
        [time^2].

    Raises:
        ValueError: for a parameter that is not > 0, or a negative threshold.

    Example:
        >>> round(feedback_slope(1.0, 1.0, 1.0), 12), round(feedback_slope(1.0, 1.0, 1.0, threshold=0.0), 12)
        (-0.632120558829, -0.5)
    """
    x0, v, d = _parameters(start, drift, diffusivity)
    c = x0 if threshold is None else float(nonnegative("threshold", threshold))
    above = max(c - x0, 0.0)  # a reset from beyond the start is a gain
    slope = d / v**3 * math.expm1(-v * x0 / d) * math.exp(-v * above / d) * (above + d / v)
    if c < x0:  # below the start it is a loss: int_0^h u (1 - e^{-v (x0 - u) / D}) du / v^2, h = x0 - c
        h = x0 - c
        slope += (h / v) ** 2 * (0.5 - math.exp(-v * c / d) * _exponential_rest(2, v * h / d))
    return slope


# ---- Switch of the potential -----------------------------------------------------------------------------------------


def logarithmic_mean(start: float, diffusivity: float, strength: float) -> float:
    """E[T] = x0^2 / (2 (U0 - D)) in the potential U0 ln x, for U0 > D.

    Args:
        start: x0 > 0 [length].
        diffusivity: D > 0 [length^2 / time].
        strength: U0 >= 0, of the force -U0 / x [length^2 / time].

    Returns:
        [time]; ``inf`` for U0 <= D.

    Raises:
        ValueError: for a parameter out of range.
    """
    x0, d = positive("start", start), positive("diffusivity", diffusivity)
    excess = float(nonnegative("strength", strength)) - d
    return x0**2 / (2 * excess) if excess > 0 else math.inf


def logarithmic_switch_mean(start: float, drift: float, diffusivity: float, strength: float, rate: float) -> float:
    """E[T_r] when the first event of the Poisson process replaces the drift by the force -U0 / x, for good.

    E[min(T, R)] + r int_0^inf e^{-rt} E[x^2; T > t] dt / (2 (U0 - D)), by the resolvent of drift-diffusion.

    Args:
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].
        strength: U0 >= 0 [length^2 / time].
        rate: r >= 0 [1 / time].

    Returns:
        [time]; ``inf`` for U0 <= D and r > 0.

    Raises:
        ValueError: for a parameter out of range.

    Example:
        >>> round(logarithmic_switch_mean(1.0, 1.0, 1.0, 3.0, 1.0), 12)
        0.671993834552
    """
    x0, v, d = _parameters(start, drift, diffusivity)
    strength, r = float(nonnegative("strength", strength)), float(nonnegative("rate", rate))
    if r == 0:
        return x0 / v
    if strength <= d:
        return math.inf
    # T~(r) = e^{-w x0}, and r = w q
    w = 2 * r / (v + math.sqrt(v**2 + 4 * d * r))
    return -math.expm1(-w * x0) / r + r * _occupied_square(x0, v, d, w) / (2 * (strength - d))


def logarithmic_switch_perturbed_mean(start: float, drift: float, diffusivity: float, strength: float) -> float:
    """Taubar = <x^2> / (2 (U0 - D)), with <x^2> = x0^2 / 3 + D x0 / v + 2 D^2 / v^2 where undisturbed runs spend time.

    Args:
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].
        strength: U0 >= 0 [length^2 / time].

    Returns:
        [time]; ``inf`` for U0 <= D.

    Raises:
        ValueError: for a parameter out of range.
    """
    x0, v, d = _parameters(start, drift, diffusivity)
    excess = float(nonnegative("strength", strength)) - d
    return _occupied_square(x0, v, d, 0.0) / (x0 / v) / (2 * excess) if excess > 0 else math.inf


def logarithmic_switch_slope(start: float, drift: float, diffusivity: float, strength: float) -> float:
    """dE[T_r] / dr at r = 0: (x0 / v) taubar - x0^2 / (2 v^2) - D x0 / v^3. Its sign depends on U0.

    Args:
        start: x0 > 0 [length].
        drift: v > 0, towards the target [length / time].
        diffusivity: D > 0 [length^2 / time].
        strength: U0 >= 0 [length^2 / time].

    Returns:
        [time^2]; ``inf`` for U0 <= D.

    Raises:
        ValueError: for a parameter out of range.

    Example:
        >>> round(logarithmic_switch_slope(1.0, 1.0, 1.0, 3.0), 12)
        -0.666666666667
    """
    x0, v, d = _parameters(start, drift, diffusivity)
    perturbed = logarithmic_switch_perturbed_mean(x0, v, d, strength)
    return poisson_slope(x0 / v, (x0 / v) ** 2 + 2 * d * x0 / v**3, perturbed)


def _occupied_square(x0: float, v: float, d: float, w: float) -> float:
    """int_0^inf e^{-rt} E[x^2; T > t] dt, r = w (v + D w): D u'' - v u' - r u = -x^2, u(0) = 0, as positive terms."""
    q = v + d * w
    return (d * x0 * (2 * d + x0 * v) + 2 * (d * w * q + v**2) * x0**3 * _exponential_rest(3, w * x0)) / q**3


def _exponential_rest(order: int, z: float) -> float:
    """(-1)^order (e^{-z} - its Taylor polynomial of degree order - 1) / z^order, for z >= 0."""
    if z < 1:
        return math.fsum((-z) ** n / math.factorial(n + order) for n in range(18))
    polynomial = math.fsum((-z) ** n / math.factorial(n) for n in range(order))
    return (-1) ** order * (math.exp(-z) - polynomial) / z**order


def _parameters(start: float, drift: float, diffusivity: float) -> tuple[float, float, float]:
    return positive("start", start), positive("drift", drift), positive("diffusivity", diffusivity)
