"""The activation-pattern temperature of a network, and the curves it is cooled along.

A step of the optimiser changes a share P of the activation patterns (which ReLUs are on) of a batch. T = -log2(1 - P)
is the activation-pattern temperature of a layer in bits, and the mean over layers that of the network. It is no
temperature of statistical physics: it measures how non-linear a step is. Parts of the theory:

    theory.pattern_temperature  P <-> T, and what can be seen of them in N patterns
    theory.flip_rate_link       links between T and ln(learning rate)
    theory.gaussian_flips       a random walk of pre-activations, whose share of flips follows exactly
    theory.flip_rate_fit        links fitted to counts or shares, with standard errors
    theory.cooling_controller   choosing learning rates so that T follows a curve: gain, stability, errors

Reference: [actcoolr2021]; what is ours is named there
"""

import math

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.cooling_controller import CoolingController, CoolingLoop, critical_stretch, loop_gain, measurement_deviation
from theory.flip_rate_fit import LinkFit, fit_link_to_counts, fit_link_to_shares
from theory.flip_rate_link import LINKS, CloglogLink, ErfLink, FlipCurve, Link
from theory.gaussian_flips import GaussianFlips
from theory.noise_arguments import number, real_numbers
from theory.pattern_temperature import (
    coldest_temperature,
    hottest_temperature,
    share_of,
    temperature_of,
    temperature_of_counts,
)

__all__ = [
    "LINKS",
    "PAPER_START",
    "CloglogLink",
    "CoolingController",
    "CoolingLoop",
    "ErfLink",
    "FlipCurve",
    "GaussianFlips",
    "Link",
    "LinkFit",
    "coldest_temperature",
    "critical_stretch",
    "fit_link_to_counts",
    "fit_link_to_shares",
    "hottest_temperature",
    "loop_gain",
    "measurement_deviation",
    "share_of",
    "target_curve",
    "temperature_of",
    "temperature_of_counts",
]

PAPER_START = 3.17
"""T at which the paper starts to cool: log2(9) to three digits, P = 8 / 9 ("a 89 % chance"). See [actcoolr2021]."""


def target_curve(progress: npt.ArrayLike, gamma: float, start: float, end: float = 0.0) -> Floats:
    """C(s) = start + (end - start) s^gamma: the temperature wanted after a part s of the steps.

    gamma > 1 stays hot for longer, gamma < 1 cools early. For end = 0 it is start (1 - s^gamma), evaluated without loss
    of digits as s -> 1.

    Args:
        progress: s, step over all steps, 0 .. 1, any shape.
        gamma: > 0.
        start: T at s = 0, finite and > 0 [bits].
        end: T at s = 1, >= 0 [bits]; 0 means a learning rate of 0.

    Returns:
        C, in the shape of the progress [bits].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> target_curve([0.0, 0.5, 1.0], 2.0, 3.0).tolist()
        [3.0, 2.25, 0.0]

    Reference: [actcoolr2021] Eq. (8)
    """
    s = real_numbers("progress", progress)
    bad = s[~((s >= 0) & (s <= 1))]
    if bad.size:
        raise ValueError(f"progress={bad.flat[0]} must lie between 0 and 1: the part of all steps that was made")
    power, first, last = number("gamma", gamma), number("start", start), number("end", end)
    if not 0 < power < math.inf:
        raise ValueError(f"gamma={gamma} must be finite and > 0")
    if not 0 < first < math.inf:
        raise ValueError(f"start={start} must be finite and > 0, in bits")
    if not 0 <= last < math.inf:
        raise ValueError(f"end={end} must be finite and >= 0, in bits")
    with np.errstate(divide="ignore", over="ignore"):
        exponent = power * np.log(s)
    return first * np.abs(np.expm1(exponent)) + last * np.exp(exponent)
