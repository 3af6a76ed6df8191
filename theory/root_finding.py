"""Roots of many increasing functions at once."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats

Function = Callable[[Floats, npt.NDArray[np.intp]], Floats]


def increasing_root(function: Function, low: Floats, high: Floats) -> Floats:
    """The points where increasing functions change sign, to the last digits, by Chandrupatla's method.

    Inverse quadratic interpolation where that is safe and bisection elsewhere: about ten evaluations where the function
    is smooth, and never many more than bisection, jumps included.

    Args:
        function: given points and the numbers of the functions they belong to, each of shape (m,), the values there.
        low, high: ends of the brackets, shape (n,).

    Returns:
        Shape (n,); the end itself where a function has no change of sign between the ends.

    Example:
        >>> increasing_root(lambda x, which: x**2 - np.array([2.0, 9.0])[which], np.zeros(2), np.full(2, 4.0)).round(8)
        array([1.41421356, 3.        ])

    Reference: [chandrupatla1997] Advances in Engineering Software 28, 145 (1997)
    """
    everything = np.arange(len(low))
    f_low, f_high = function(low, everything), function(high, everything)
    result = np.where(f_low >= 0, low, high)
    index = np.flatnonzero((f_low < 0) & (f_high > 0))
    a, b, c = high[index], low[index], high[index]
    fa, fb, fc = f_high[index], f_low[index], f_high[index]
    fraction = np.full(len(index), 0.5)
    while len(index):
        x = a + fraction * (b - a)
        fx = function(x, index)
        same = (fx > 0) == (fa > 0)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        closest = np.where(np.abs(fa) < np.abs(fb), a, b)
        tolerance = 2 * np.spacing(np.abs(closest))
        width = np.abs(b - a)
        done = (width <= 2 * tolerance) | (fx == 0)
        result[index[done]] = np.where(fx == 0, x, closest)[done]
        index, left = index[~done], ~done
        a, b, c, fa, fb, fc = a[left], b[left], c[left], fa[left], fb[left], fc[left]
        smallest = tolerance[left] / width[left]
        # Interpolate where the inverse function is close to a parabola through the three points.
        with np.errstate(divide="ignore", invalid="ignore"):
            xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
            smooth = (1 - np.sqrt(np.maximum(1 - xi, 0)) < phi) & (phi < np.sqrt(np.maximum(xi, 0)))
            fraction = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        fraction = np.where(smooth, fraction, 0.5)
        fraction = np.clip(fraction, smallest, 1 - smallest)
    return result
