"""The published runs of [meir2025] as tables of ``figures/data`` hold them, ready for the theory.

Epochs are 1-based and completed; the target is a test accuracy of 0.72 unless another is named.
"""

import functools
import math

import numpy as np

from figures.gallery_figure import rows_of
from theory.estimate import Estimate
from theory.perturbed_once import PerturbedOnce
from theory.prediction import PerturbationData
from theory.survival import FirstPassages, Survival

HORIZON = 200
"""H, epochs for which all runs were followed."""

BRANCH_EPOCH = 100
"""P* of the paper."""

NAMES = {"shrink_perturb": "shrink and perturb", "partial_reset": "partial reset", "full_reset": "full reset"}

REPLICATES = 1000


@functools.cache
def first_passages(perturbation: str = "none", interval: int | None = None, target: float = 0.72) -> FirstPassages:
    """First passages of an ensemble.

    Args:
        perturbation: ``"none"``, ``"shrink_perturb"`` or ``"partial_reset"``.
        interval: P; None for the unperturbed runs.
        target: test accuracy; of perturbed runs only 0.72 is there.

    Returns:
        One for each run.

    Raises:
        ValueError: if there is no such ensemble.

    Example:
        >>> first_passages("shrink_perturb", 2).n
        87
    """
    wanted = (perturbation, "" if interval is None else str(interval), f"{target:g}")
    rows = [
        row
        for row in rows_of("meir2025_first_passages")
        if (row["perturbation"], row["interval"], row["target"]) == wanted
    ]
    if not rows:
        raise ValueError(f"no published runs with perturbation={perturbation!r}, interval={interval}, target={target}")
    runs = [int(row["runs"]) for row in rows]
    return FirstPassages(
        np.repeat([int(row["epoch"]) for row in rows], runs), np.repeat([row["reached"] == "yes" for row in rows], runs)
    )


def intervals(perturbation: str) -> list[int]:
    """The perturbation intervals that were trained.

    Args:
        perturbation: ``"shrink_perturb"`` or ``"partial_reset"``.

    Returns:
        P, ascending.

    Example:
        >>> intervals("shrink_perturb")[:4]
        [1, 2, 3, 4]
    """
    rows = rows_of("meir2025_first_passages")
    return sorted({int(row["interval"]) for row in rows if row["perturbation"] == perturbation})


def residual_time(perturbation: str, interval: int) -> Estimate:
    """taubar_P: mean epochs from the first perturbation to the target, with the perturbation every P epochs.

    Args:
        perturbation: ``"shrink_perturb"`` or ``"partial_reset"``.
        interval: P.

    Returns:
        The mean over the runs that were unfinished at epoch P [epochs].

    Example:
        >>> round(residual_time("shrink_perturb", 100).value, 3)
        4.17
    """
    times = first_passages(perturbation, interval).times
    return Estimate.from_samples(times[times > interval] - interval)


def measured_speed_up(perturbation: str, interval: int) -> Estimate:
    """E[min(T, H)] / E[T_P]: all perturbed runs reached the target before H, so that E[min(T_P, H)] is E[T_P].

    Args:
        perturbation: ``"shrink_perturb"`` or ``"partial_reset"``.
        interval: P.

    Returns:
        The ratio, with the errors of both means.

    Example:
        >>> round(measured_speed_up("shrink_perturb", 2).value, 1)
        13.2
    """
    perturbed = Survival.of(first_passages(perturbation, interval)).mean()
    unperturbed = Survival.of(first_passages()).restricted_mean(HORIZON)
    ratio = unperturbed.value / perturbed.value
    relative = math.hypot(unperturbed.standard_error / unperturbed.value, perturbed.standard_error / perturbed.value)
    return Estimate(ratio, ratio * relative, perturbed.n)


@functools.cache
def prediction_data(perturbation: str) -> PerturbationData:
    """What predictions are made from: the unperturbed runs, and residuals of runs perturbed at epoch 100.

    Args:
        perturbation: ``"shrink_perturb"``, ``"partial_reset"``, or ``"full_reset"``, which needs no residuals.

    Returns:
        The data, with a seeded bootstrap.

    Example:
        >>> round(prediction_data("full_reset").predict("restart", 18).restricted_mean.value, 1)
        30.4
    """
    once = None
    if perturbation != "full_reset":
        once = PerturbedOnce.from_periodic(first_passages(perturbation, BRANCH_EPOCH), BRANCH_EPOCH)
    rng = np.random.default_rng(0)
    return PerturbationData(first_passages(), once, horizon=HORIZON, replicates=REPLICATES, rng=rng)
