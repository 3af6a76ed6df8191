"""Weight and velocity variance from the spectrum of the noise, for noise of which nothing else is known.

Var(theta) = (1 / 2 pi) int_-pi^pi S(omega) |G(omega)|^2 d omega, with the transfer function G of theory.heavy_ball; for
the velocity times 4 sin^2(omega / 2). An independent route to theory.weight_variance.
"""

import math
from collections.abc import Callable

import numpy as np

from theory.absorbing import Floats
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import number
from theory.weight_variance import ModeVariances

MOST_POINTS = 10**6
"""The last step is taken from fewer points than this; more would mean a jump in the spectrum or a narrow line."""


def variances_from_spectrum(
    modes: HeavyBall,
    spectrum: Callable[[Floats], Floats],
    lines: tuple[Floats, Floats] | None = None,
    tolerance: float = 1e-12,
) -> ModeVariances:
    """Weight and velocity variance of each mode, by quadrature over all frequencies.

    By the midpoint rule, which converges geometrically for smooth periodic functions, in a phase phi that dwells on low
    frequencies: tan(omega / 2) = c tan(phi / 2), c^2 ~ the relaxation rate. Points are tripled until the answer stands.

    Args:
        modes: the modes, of positive curvature.
        spectrum: S(omega) for an array of omega in (-pi, pi) [gradient^2], such as ``noise.spectrum``.
        lines: frequencies and variances of a periodic part, such as ``noise.lines``.
        tolerance: relative change at the last step, > 0.

    Returns:
        The variances.

    Raises:
        ValueError: for a mode of zero curvature, or a spectrum that is not smooth enough.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> modes = HeavyBall(learning_rate=1.0, curvature=0.01, momentum=0.9)
        >>> float(variances_from_spectrum(modes, Reshuffled(10).spectrum).weight.round(10))
        38.8641490545
    """
    if (modes.contraction == 0).any():
        raise ValueError("curvature=0: its response at frequency 0 is infinite; use theory.weight_variance")
    if not number("tolerance", tolerance) > 0:
        raise ValueError(f"tolerance={tolerance} must be > 0")
    variances = np.empty((2, *modes.contraction.shape))
    for index, curvature in np.ndenumerate(np.asarray(modes.curvature)):
        mode = HeavyBall(modes.learning_rate, curvature, modes.momentum)
        variances[:, *index] = _integrate(mode, spectrum, tolerance)
        if lines is not None:
            variances[:, *index] += _gains(mode, lines[0]) @ lines[1]
    return ModeVariances(variances[0], variances[1])


def _integrate(mode: HeavyBall, spectrum: Callable[[Floats], Floats], tolerance: float) -> Floats:
    relaxation = float(mode.contraction) / (1 - mode.momentum)
    scale = min(math.sqrt(relaxation), 1.0)

    def total(phases: Floats) -> Floats:
        omega = 2 * np.arctan(scale * np.tan(phases / 2))
        # d omega / d phi, with cos^2 + c^2 sin^2 in the denominator.
        jacobian = scale / (np.cos(phases / 2) ** 2 + (scale * np.sin(phases / 2)) ** 2)
        return _gains(mode, omega) @ (spectrum(omega) * jacobian)

    # An even number of midpoints avoids omega = 0.
    points, mean = 64, np.full(2, math.inf)
    while points < MOST_POINTS:
        points = 3 * points
        previous, mean = mean, total(math.pi * (2 * np.arange(points) + 1 - points) / points) / points
        if (np.abs(mean - previous) <= tolerance * np.abs(mean)).all():
            return mean
    raise ValueError(f"spectrum needs more than {MOST_POINTS} points at curvature={mode.curvature}: is it smooth?")


def _gains(mode: HeavyBall, omega: Floats) -> Floats:
    """|G|^2 and 4 sin^2(omega / 2) |G|^2, shape (2, n)."""
    gain = mode.learning_rate**2 * mode.power_gain(omega)
    return np.stack([gain, 4 * np.sin(omega / 2) ** 2 * gain])
