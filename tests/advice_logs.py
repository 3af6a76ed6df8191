"""Logs of runs with a known law, for the tests of the command that gives advice."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

WORKED = np.repeat([2, 3, 4, 5, 6, 7, 8, 9, 10, 60], [5, 30, 20, 10, 5, 5, 2, 2, 1, 20])
"""100 runs with the law of the worked example: restarting every 5 epochs is best, 6.2307692308 epochs on average."""

SHUFFLED = np.repeat([2, 3, 4], 10)
"""Residual times after one perturbation: 3 epochs on average."""


def write_log(
    path: Path, times: Iterable[int], *, horizon: int = 60, first: int = 1, metric: str = "val_acc", best: float = 0.9
) -> Path:
    """A log in which run i meets the target 0.9 (or a loss of 0.1) at epoch times[i], counted from 1."""
    rng = np.random.default_rng(0)
    lines = [f"run,epoch,{metric}"]
    for run, time in enumerate(times):
        below = rng.uniform(0.1, 0.8, horizon)
        lines += [
            f"{run},{t + first},{best if t + 1 >= time else (below[t] if best > 0.5 else 1 - below[t]):.4f}"
            for t in range(horizon)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def perturbed_times(interval: int, seed: int = 1) -> np.ndarray:
    """What shuffling every P epochs makes of the worked example: no residual exceeds 4."""
    residuals = np.random.default_rng(seed).choice(SHUFFLED, len(WORKED))
    return np.where(interval < WORKED, interval + residuals, WORKED)


def write_logs(directory: Path) -> Path:
    """Unperturbed, perturbed once at epoch 30, and perturbed every 5, 10 and 20 epochs."""
    write_log(directory / "plain.csv", WORKED)
    write_log(directory / "once.csv", SHUFFLED, horizon=30)
    for interval in (5, 10, 20):
        write_log(directory / f"shuffle_P{interval:02d}.csv", perturbed_times(interval))
    return directory
