"""Curves of studies small enough to know the answer, and the advice on them; for the tests of the advisor."""

from typing import Any

import numpy as np
import pandas as pd

from nnval.advice import Advice, advise
from nnval.measure.curves import Curves
from nnval.protocol_evidence import PerturbedCurves, ProtocolEvidence

TARGET, H = 0.9, 60
HEAVY = np.repeat([2, 3, 4, 5, 6, 7, 8, 9, 10, 100], [5, 30, 20, 10, 5, 5, 2, 2, 1, 20])
"""Most runs are done early, a fifth never is: restarting helps."""
STEADY = np.repeat(np.arange(10, 21), [2, 4, 7, 11, 15, 18, 15, 11, 7, 4, 2])
"""All runs take about as long: nothing helps."""
EARLY, LATE = np.repeat([2, 3, 4], 10), np.repeat([12, 13, 14], 10)


def curves(times: np.ndarray, horizon: int = H, *, seed: int = 0, **options: Any) -> Curves:
    """Runs that meet 0.9 at these epochs and are stationary before."""
    below = np.random.default_rng(seed).uniform(0.1, 0.8, (len(times), horizon))
    values = np.where(np.arange(1, horizon + 1) >= times[:, None], 0.9, below)
    return Curves("accuracy", tuple(map(str, range(len(times)))), values, **options)


def frame(times: np.ndarray, horizon: int = H, *, first: int = 1) -> pd.DataFrame:
    """The same, a row per evaluation."""
    values = curves(times, horizon).values
    run, epoch = np.indices(values.shape)
    return pd.DataFrame({"run": run.ravel(), "epoch": epoch.ravel() + first, "accuracy": values.ravel()})


def shuffled_every(interval: int, residuals: np.ndarray = EARLY) -> np.ndarray:
    drawn = np.random.default_rng(interval).choice(residuals, len(HEAVY))
    return np.where(interval < HEAVY, interval + drawn, HEAVY)


def advised(times: np.ndarray = HEAVY, *perturbed: PerturbedCurves, **options: Any) -> Advice:
    given: dict[str, Any] = {"replicates": 200, **options}
    return advise(curves(times), target=TARGET, perturbed=perturbed, **given)


def evidence_of(advice: Advice, label: str) -> ProtocolEvidence:
    return next(e for e in advice.evidence if e.label == label)
