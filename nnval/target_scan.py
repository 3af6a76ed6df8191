"""Advice at several targets: which protocol is the fastest to each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nnval.advice import READING, Advice, Source, advise, as_curves
from nnval.protocol_evidence import PerturbedCurves
from sim.ensemble import Progress


@dataclass(frozen=True, eq=False)
class TargetScan:
    """The best protocol as a function of the target.

    Attributes:
        advice: one for each target, in their order.

    Example:
        >>> import numpy as np
        >>> from nnval.measure.curves import Curves
        >>> slow = np.arange(30) % 5 == 0  # a fifth of the runs never gets there, the others at once
        >>> accuracy = np.where((np.arange(1, 41) >= 4) & ~slow[:, None], 0.95, 0.5)
        >>> curves = Curves("accuracy", tuple(map(str, range(30))), accuracy)
        >>> scan = scan_targets(curves, [0.4, 0.9], replicates=200)
        >>> [round(float(each.survival.restricted_mean(40).value), 6) for each in scan.advice]
        [1.0, 11.2]
    """

    advice: tuple[Advice, ...]


def scan_targets(
    curves: Source,
    targets: Sequence[float],
    *,
    perturbed: Iterable[PerturbedCurves] = (),
    progress: Progress | None = None,
    **options: Any,
) -> TargetScan:
    """Advice at several targets: what is fastest to a low target need not be so, or get anywhere, at a high one.

    Args:
        curves: of unperturbed runs.
        targets: values of the metric.
        perturbed: curves of perturbed runs.
        progress: called with targets done, all of them, and a text.
        **options: those of ``advise``.

    Returns:
        The advice at each target.

    Raises:
        ValueError: as ``advise``, or for no targets.

    Example:
        >>> import numpy as np
        >>> from nnval.measure.curves import Curves
        >>> slow = np.arange(30) % 5 == 0  # a fifth of the runs never gets there, the others at once
        >>> accuracy = np.where((np.arange(1, 41) >= 4) & ~slow[:, None], 0.95, 0.5)
        >>> curves = Curves("accuracy", tuple(map(str, range(30))), accuracy)
        >>> scan = scan_targets(curves, [0.4, 0.9], replicates=200)
        >>> [each.target for each in scan.advice]
        [0.4, 0.9]
    """
    if len(targets) == 0:
        raise ValueError("targets is empty: give two or more values of the metric")
    reading = {key: options.pop(key) for key in READING if key in options}
    read, perturbed, found = as_curves(curves, reading), tuple(perturbed), []
    for done, target in enumerate(targets):
        found.append(advise(read, target=target, perturbed=perturbed, **options))
        if progress is not None:
            progress(done + 1, len(targets), f"target {target:g}")
    return TargetScan(tuple(found))
