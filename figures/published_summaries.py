"""Summaries of the published curves of [meir2025], from which the gallery draws that paper's figures.

The curves themselves (their authors' repository OptPerturbationsNN) are not part of jostle. Where they are,

    python -m figures.published_summaries ../shared/data/meir2025_cifar10_resnet18

writes the tables ``figures/data/meir2025_*.csv`` anew; a test holds these against what is written. Epochs are 1-based
and completed; the paper's own numbers count from 0 and are one less.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from sim.random_streams import stream
from theory.hazard import constant_hazard_test
from theory.quasi_steady_state import Stationarity, kolmogorov_smirnov_p_values, stationarity, survivors
from theory.survival import FirstPassages, Floats, Survival

TARGETS = (0.715, 0.72, 0.75)
MAIN_TARGET = 0.72
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

SHOWN = 100
"""Epochs of the paper's Fig. 3; the runs were followed for 200."""

REFERENCE = (20, 100)
"""Epochs of the late distribution, those of the paper."""

AROUND = 15
"""Epochs before and after the perturbation in the table of trajectories."""

_SOURCE = (
    "summary of the published training curves of Meir et al., arXiv 2502.04121: ResNet-18 on CIFAR-10, SGD with "
    "learning rate 0.02, test accuracy after each of 200 epochs; github.com/Hirshberg-Lab/OptPerturbationsNN, commit "
    "5be6f0e of 2025-04-10"
)
_MADE = (
    "python -m figures.published_summaries CURVES, 2026-11-23, with seed 0 where there is a bootstrap; "
    "epochs are 1-based and completed"
)


def read_curves(file: Path) -> Floats:
    r"""Accuracies of one ensemble.

    Args:
        file: a table with the columns run, epoch and test_accuracy, possibly compressed (``.csv.gz``).

    Returns:
        Shape (runs, epochs); column t - 1 is the evaluation after epoch t.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     file = Path(directory) / "curves.csv"
        ...     _ = file.write_text("run,epoch,test_accuracy\n0,1,0.4\n0,2,0.5\n1,1,0.3\n1,2,0.6\n")
        ...     read_curves(file).tolist()
        [[0.4, 0.5], [0.3, 0.6]]
    """
    run, epoch, accuracy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    _, row = np.unique(run, return_inverse=True)
    values = np.full((row.max() + 1, int(epoch.max())), np.nan)
    values[row, epoch.astype(int) - 1] = accuracy
    return values


def summaries(curves: Path) -> dict[str, str]:
    """All tables.

    Args:
        curves: directory of the published curves, ``unperturbed.csv.gz``, ``shrink_perturb_P001.csv.gz`` and so on.

    Returns:
        Name of the table -> its text, with lines that begin with # for where it comes from.

    Raises:
        OSError: if there are no such files.
    """
    unperturbed = read_curves(curves / "unperturbed.csv.gz")
    perturbed = {
        (perturbation, int(file.name[-10:-7])): read_curves(file)
        for perturbation in ("shrink_perturb", "partial_reset")
        for file in sorted(curves.glob(f"{perturbation}_P*.csv.gz"))
    }
    return {
        "meir2025_first_passages": _first_passages(unperturbed, perturbed),
        "meir2025_accuracy": _accuracy(unperturbed),
        "meir2025_relaxation": _relaxation(unperturbed),
        "meir2025_trajectories": _trajectories(perturbed),
    }


def _table(about: str, header: str, rows: list[list[Any]]) -> str:
    lines = [f"# {_SOURCE}", f"# {about}", f"# {_MADE}", header]
    return "\n".join([*lines, *(",".join(_cell(cell) for cell in row) for row in rows)]) + "\n"


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)


def _first_passages(unperturbed: Floats, perturbed: dict[tuple[str, int], Floats]) -> str:
    ensembles = [("none", None, target, unperturbed) for target in TARGETS]
    ensembles += [(name, interval, MAIN_TARGET, values) for (name, interval), values in perturbed.items()]
    rows: list[list[Any]] = []
    for name, interval, target, values in ensembles:
        passages = FirstPassages.from_curves(values, target)
        for reached in (True, False):
            epochs, runs = np.unique(passages.times[passages.observed == reached], return_counts=True)
            rows += [
                [name, interval, target, epoch, "yes" if reached else "no", n]
                for epoch, n in zip(epochs.tolist(), runs.tolist(), strict=True)
            ]
    about = (
        "runs whose accuracy first is >= target after this epoch (reached: yes), or never is up to it (no); "
        f"{len(unperturbed)} unperturbed runs, {sum(map(len, perturbed.values()))} with a perturbation every "
        "interval epochs; full resets were not published"
    )
    return _table(about, "perturbation,interval,target,epoch,reached,runs", rows)


def _stationarity(unperturbed: Floats, target: float) -> Stationarity:
    rng = stream(0, "published curves", TARGETS.index(target))
    return stationarity(unperturbed, FirstPassages.from_curves(unperturbed, target), reference=REFERENCE, rng=rng)


def _accuracy(unperturbed: Floats) -> str:
    rows: list[list[Any]] = []
    for target in TARGETS:
        passages = FirstPassages.from_curves(unperturbed, target)
        alive = survivors(unperturbed, passages)
        p_values = kolmogorov_smirnov_p_values(unperturbed, passages, reference=REFERENCE)
        distance = _stationarity(unperturbed, target)
        for t in range(SHOWN):
            accuracy = unperturbed[alive[:, t], t]
            found = [float(accuracy.mean()), *np.quantile(accuracy, QUANTILES).tolist(), float(p_values[t])]
            bands = [float(part[t]) for part in (distance.distance, distance.low, distance.high)]
            rows.append([target, t + 1, len(accuracy), *found, *bands])
    about = (
        "test accuracy of the unperturbed runs that are unfinished after each epoch (n: column unfinished), the "
        f"published p-value of a Kolmogorov-Smirnov test against the mean distribution of epochs {REFERENCE[0]} to "
        f"{REFERENCE[1]}, and the Wasserstein distance from it in its standard deviations with a 95 % bootstrap band"
    )
    quantiles = ",".join(f"q{100 * q:02.0f}" for q in QUANTILES)
    return _table(about, f"target,epoch,unfinished,mean,{quantiles},p_value,distance,distance_low,distance_high", rows)


def _relaxation(unperturbed: Floats) -> str:
    rows: list[list[Any]] = []
    for target in TARGETS:
        passages = FirstPassages.from_curves(unperturbed, target)
        p_values = kolmogorov_smirnov_p_values(unperturbed, passages, reference=REFERENCE)
        found = _stationarity(unperturbed, target)
        survival = Survival.of(passages)
        hazards = [constant_hazard_test(survival, *span).hazard.value for span in ((30, 100), (100, 200))]
        rows.append(
            [
                target,
                int(survival.at_risk[SHOWN]),
                int((p_values > 0.05).argmax()) + 1,
                found.relaxation_epoch,
                *found.relaxation_interval,
                *hazards,
                constant_hazard_test(survival, 30).p_value,
            ]
        )
    about = (
        "relaxation epoch of the 1000 unperturbed runs: the first with p > 0.05 (the paper's, plus one), and by a "
        "Wasserstein distance within 0.25 standard deviations, with its 95 % bootstrap interval; hazards per epoch in "
        "epochs 31 to 100 and 101 to 200, p-value of a constant hazard after epoch 30"
    )
    header = (
        "target,unfinished_at_100,published,relaxation,low,high,hazard_31_100,hazard_101_200,constant_hazard_p_value"
    )
    return _table(about, header, rows)


def _trajectories(perturbed: dict[tuple[str, int], Floats]) -> str:
    rows: list[list[Any]] = []
    for (name, interval), values in perturbed.items():
        if interval not in (10, 20, 50, 100):
            continue
        passages = FirstPassages.from_curves(values, MAIN_TARGET)
        late = values[passages.times > interval]
        # Up to the next perturbation, whose effect begins one epoch after it.
        for after in range(max(1 - interval, -AROUND), min(interval, AROUND) + 1):
            accuracy = late[:, interval + after - 1]
            deciles = np.quantile(accuracy, [0.1, 0.9]).tolist()
            rows.append([name, interval, after, len(late), float(accuracy.mean()), *deciles])
    about = (
        f"test accuracy of the n runs that were below {MAIN_TARGET} up to the first perturbation, at the end of epoch "
        "interval + after: mean and deciles over runs, also of those that have reached the target since"
    )
    return _table(about, "perturbation,interval,after,n,mean,decile_1,decile_9", rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m figures.published_summaries DIRECTORY_OF_THE_PUBLISHED_CURVES")
    for table, text in summaries(Path(sys.argv[1])).items():
        (Path(__file__).parent / "data" / f"{table}.csv").write_text(text, encoding="utf-8")
