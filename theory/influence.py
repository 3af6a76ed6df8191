"""What each run contributes to an estimate: the infinitesimal jackknife for functionals of a Kaplan-Meier survival."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from theory.survival import FirstPassages, Floats, survival_from_hazard


def influence(
    sample: FirstPassages, counts: tuple[Floats, Floats], functional: Callable[[npt.NDArray], npt.NDArray]
) -> Floats:
    """First-order effect of each run on functionals of Psi: sum_t dF/dh_t (dN_i(t) - h_t Y_i(t)) / n_t.

    Influences add up to zero; their squares, over independent runs, to the variance of the estimate (the infinitesimal
    jackknife, of which Greenwood's formula is the case F = Psi(t)). The slopes dF/dh_t are complex-step derivatives:
    exact to machine precision, for any functional. Only epochs with first passages have a hazard to vary.

    Args:
        sample: n runs.
        counts: runs at risk and first passages at each epoch, each of shape (H,): ``sample.counts(horizon=H)``.
        functional: maps Psi(0..H) of shape (..., H + 1), real or complex, to numbers of shape (..., k).

    Returns:
        Shape (n, k).
    """
    at_risk, events = counts
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    step, passages = 1e-30, np.flatnonzero(events)
    moved = functional(survival_from_hazard(hazard + 1j * step * np.eye(len(hazard))[passages]))
    per_event = np.zeros((len(hazard), moved.shape[-1]))
    per_event[passages] = np.imag(moved) / step / at_risk[passages, None]
    compensator = np.concatenate([np.zeros_like(per_event[:1]), np.cumsum(per_event * hazard[:, None], axis=0)])
    last = np.minimum(sample.times, len(per_event))
    # A passage beyond the horizon is survival as far as the functional can see.
    passed = sample.observed & (sample.times <= len(per_event))
    return np.where(passed[:, None], per_event[last - 1], 0.0) - compensator[last]
