"""What is predicted for the sharpness in a widening valley, how well, and where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.absorbing import Floats
    from theory.gradient_noise import GradientNoise
    from theory.widening_valley import Valley

KINDS = {"pgd": "PGD", "anti_pgd": "Anti-PGD", "reshuffled": "reshuffled"}
"""Noise on the weights, as an option and in words."""

MARGINS = {"pgd": 0.04, "anti_pgd": 0.005, "reshuffled": 0.005}
"""Model error allowed, as a fraction: no form is exact, least of all the moment map of PGD at the edge of stability."""

LARGEST_MARGIN = 0.05
"""Beyond it a prediction of the flow is outside its regime."""

PGD_DIMENSION, PGD_NOISE = 100, 0.02
"""Where the margin for PGD was measured: d from, and eta d s^2 up to."""


@dataclass(frozen=True)
class Setting:
    """What both commands are told.

    Attributes:
        valley: d and eta.
        noise_scale: s.
        sharpness: |u|^2 at the start.
        kinds: of noise.
        batches: M.
        steps: ascending.
        law: of xi.
    """

    valley: Valley
    noise_scale: float
    sharpness: float
    kinds: tuple[str, ...]
    batches: int
    steps: tuple[int, ...]
    law: str

    def law_of(self, kind: str) -> str:
        """The law of xi: that of reshuffled batches is always Gaussian."""
        return "gaussian" if kind == "reshuffled" else self.law

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dimension": self.valley.dimension,
            "learning_rate": self.valley.learning_rate,
            "noise_scale": self.noise_scale,
            "sharpness": self.sharpness,
            "kinds": list(self.kinds),
            "batches": self.batches,
            "steps": list(self.steps),
            "law": self.law,
        }


def noise_of(setting: Setting, kind: str) -> GradientNoise:
    """Of the gradient, so that the noise on the weights has the scale s.

    Args:
        setting: what the command was told.
        kind: of noise.

    Returns:
        The noise.
    """
    from theory import gradient_noise

    eta, scale = setting.valley.learning_rate, setting.noise_scale
    if kind == "anti_pgd":
        return gradient_noise.AntiCorrelatedIncrements.of_weights(scale, eta)
    variance = (scale / eta) ** 2
    if kind == "pgd":
        return gradient_noise.WhiteNoise(variance)
    return gradient_noise.Reshuffled(setting.batches, variance)


def sharpness_of_flow(setting: Setting, kind: str, steps: Sequence[int]) -> Floats:
    """The sharpness with v eliminated.

    Args:
        setting: what the command was told.
        kind: of noise.
        steps: ascending.

    Returns:
        [length^2], for each step.
    """
    from theory.widening_valley import anti_pgd_flow, pgd_flow, sharpness_flow

    if kind == "reshuffled":
        return sharpness_flow(setting.valley, noise_of(setting, kind), setting.sharpness, steps)
    flow = pgd_flow if kind == "pgd" else anti_pgd_flow
    return flow(setting.valley, setting.noise_scale, setting.sharpness, steps)


def sharpness_of_moments(setting: Setting, kind: str, steps: Sequence[int]) -> Floats | None:
    """The sharpness followed step by step; None for reshuffled batches, which have no such map.

    Args:
        setting: what the command was told.
        kind: of noise.
        steps: ascending.

    Returns:
        [length^2], for each step; or None.
    """
    from theory.widening_valley import anti_pgd_moments, pgd_moments

    start = (setting.valley, setting.noise_scale, setting.sharpness, steps[-1])
    if kind == "pgd":
        return pgd_moments(*start).sharpness[list(steps)]
    if kind == "anti_pgd":
        return anti_pgd_moments(*start, law=setting.law).sharpness[list(steps)]
    return None


def sharpness_of_regulariser(setting: Setting, kind: str, steps: Sequence[int]) -> Floats | None:
    """q_0 e^{-2 eta s_eff^2 n}: the effective regulariser alone; None for noise that has none.

    Args:
        setting: what the command was told.
        kind: of noise.
        steps: ascending.

    Returns:
        [length^2], for each step; or None.
    """
    import numpy as np

    from theory.widening_valley import smoothing_variance

    square = smoothing_variance(setting.valley, noise_of(setting, kind))
    if np.isinf(square):
        return None
    return setting.sharpness * np.exp(-2 * setting.valley.learning_rate * square * np.asarray(steps, dtype=float))


def limits(setting: Setting, kind: str, predicted: float) -> tuple[float, tuple[str, ...]]:
    """The margin of a prediction, and why it is outside its regime.

    Args:
        setting: what the command was told.
        kind: of noise.
        predicted: sharpness [length^2].

    Returns:
        (margin as a fraction, reasons; none of them within the regime).
    """
    from theory.widening_valley import smoothing_variance

    valley = setting.valley
    if kind == "pgd":
        strength = valley.learning_rate * valley.dimension * setting.noise_scale**2
        if valley.dimension < PGD_DIMENSION or strength > PGD_NOISE:
            known = f"d >= {PGD_DIMENSION} and eta d s^2 <= {PGD_NOISE}"
            return MARGINS[kind], (f"pgd: the error of the moment map is known for {known} only",)
    if kind == "reshuffled":
        # Within an epoch |u|^2 is on average d s_eff^2 higher than at its ends, which the flow neglects: it loses too
        # much, by 0.7 of that over |u|^2 in simulations.
        excess = valley.dimension * smoothing_variance(valley, noise_of(setting, kind))
        margin = MARGINS[kind] + 0.75 * excess / predicted if predicted > 0 else 1.0
        weak = margin <= LARGEST_MARGIN
        return margin, () if weak else ("reshuffled: within an epoch the noise adds too much to a low sharpness",)
    return MARGINS[kind], ()
