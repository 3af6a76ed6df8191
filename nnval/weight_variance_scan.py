"""The experiment of nnval.weight_variance at several learning rates, momenta and batch sizes."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnval.engine.datasets import load_data
from nnval.weight_variance import Progress, VarianceResult, measure_weight_variance
from nnval.weight_variance_config import VarianceConfig


@dataclass(frozen=True, eq=False)
class ScanPoint:
    """One experiment of a scan.

    Attributes:
        name: ``"learning_rate"``, ``"momentum"`` or ``"batch_size"``.
        value: of that.
        result: of the experiment.
    """

    name: str
    value: float
    result: VarianceResult


def scan(
    config: VarianceConfig,
    directory: str | Path,
    *,
    learning_rates: Sequence[float] = (),
    momenta: Sequence[float] = (),
    batch_sizes: Sequence[int] = (),
    progress: Progress | None = None,
    threads: int | None = 1,
    tolerance: float = 0.0,
) -> tuple[ScanPoint, ...]:
    """The experiment again with one hyper-parameter changed at a time, from the same trained network.

    Args:
        config: of the experiment; what is scanned is replaced.
        directory: of the run that trained, which need not be there; each experiment is in a directory inside of it,
            ``scan/momentum_0.5`` and so on.
        learning_rates: frozen ones.
        momenta: while settling and recording.
        batch_sizes: likewise.
        progress: see ``measure_weight_variance``.
        threads: of torch.
        tolerance: see ``measure_weight_variance``.

    Returns:
        The experiments, in the order of the arguments.

    Raises:
        ValueError: if nothing is scanned, and what ``measure_weight_variance`` raises.
    """
    named = (("learning_rate", learning_rates), ("momentum", momenta), ("batch_size", batch_sizes))
    points: list[tuple[str, float]] = [(name, value) for name, values in named for value in values]
    if not points:
        raise ValueError("nothing to scan: give learning_rates, momenta or batch_sizes")
    configs = [dataclasses.replace(config, **{name: value}) for name, value in points]
    data = load_data(config.training)
    results = []
    for number, ((name, value), changed) in enumerate(zip(points, configs, strict=True)):

        def report(
            done: int, total: int, text: str, number: int = number, name: str = name, value: float = value
        ) -> None:
            if progress is not None:
                share = math.floor(1000 * done / max(total, 1))
                progress(1000 * number + share, 1000 * len(points), f"{name}={value:g}: {text}")

        result = measure_weight_variance(
            changed,
            Path(directory) / "scan" / f"{name}_{value:g}",
            trained=Path(directory) / "training",
            progress=report,
            threads=threads,
            data=data,
            tolerance=tolerance,
        )
        results.append(ScanPoint(name, value, result))
    return tuple(results)
