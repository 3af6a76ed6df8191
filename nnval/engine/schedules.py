"""The learning rate of every epoch and step, as torch's schedulers have it, in closed form.

A schedule is counted from its last restart (``BlockState.schedule_origin``), so there is no scheduler to checkpoint.
"""

import bisect
import math

from nnval.engine.config import TrainingConfig

ONE_CYCLE_START = 25.0
"""One-cycle schedules begin at the learning rate over this; torch's default."""

ONE_CYCLE_END = 1e4
"""They end at that over this; torch's default."""


def _half_cosine(begin: float, end: float, phase: float) -> float:
    """From ``begin`` at phase 0 to ``end`` at phase 1."""
    return end + (begin - end) / 2.0 * (1 + math.cos(math.pi * phase))


def _warm_restarts(config: TrainingConfig, passed: int) -> float:
    cycle = config.cycle_epochs
    assert cycle is not None  # the config saw to it
    while passed >= cycle:
        passed, cycle = passed - cycle, cycle * config.cycle_growth
    return _half_cosine(config.learning_rate, 0.0, passed / cycle)


def _one_cycle(config: TrainingConfig, step: int, steps: int) -> float:
    """Of step ``step`` of ``steps``, counted from 0; the last value beyond."""
    lowest = config.learning_rate / ONE_CYCLE_START
    top, last = config.warm_up * steps - 1, float(steps - 1)
    step = min(step, steps - 1)
    if step <= top:
        return _half_cosine(lowest, config.learning_rate, step / top if top > 0 else 1.0)
    return _half_cosine(config.learning_rate, lowest / ONE_CYCLE_END, (step - top) / (last - top))


def learning_rate_at(
    config: TrainingConfig,
    epoch: int,
    origin: int = 0,
    length: int | None = None,
    *,
    batch: int = 0,
    batches: int = 1,
) -> float:
    """The learning rate of a step, k = epoch - 1 - origin epochs after the beginning of the schedule.

    - ``"constant"``: eta.
    - ``"step"``: eta decay^(milestones <= k), torch's MultiStepLR.
    - ``"cosine"``: eta (1 + cos(pi k / L)) / 2, torch's CosineAnnealingLR; 0 beyond.
    - ``"sgdr"``: eta (1 + cos(pi j / C)) / 2, j epochs into a cycle of C, torch's CosineAnnealingWarmRestarts.
    - ``"one_cycle"``: half cosines from eta / 25 up to eta and down to eta / 250,000 in the L * batches steps, torch's
      OneCycleLR without its change of momentum; the last value beyond.

    Args:
        config: its ``learning_rate`` and ``schedule``, and the options of the latter, matter.
        epoch: 1-based.
        origin: epoch after which the schedule began; 0 is the beginning of training.
        length: L; None is the horizon.
        batch: 0-based; only ``"one_cycle"`` changes within an epoch.
        batches: in an epoch.

    Example:
        >>> config = TrainingConfig(learning_rate=1, schedule="cosine", epochs=4)
        >>> [round(learning_rate_at(config, epoch), 3) for epoch in (1, 2, 3, 4)]
        [1.0, 0.854, 0.5, 0.146]

    Reference: [loshchilov2017] for the cosines and their restarts.
    """
    passed, length = epoch - 1 - origin, length or config.epochs
    match config.schedule:
        case "step":
            return config.learning_rate * config.decay ** bisect.bisect_right(config.milestones, passed)
        case "cosine":
            phase = min(passed / length, 1.0)
            return config.learning_rate * (1 + math.cos(math.pi * phase)) / 2
        case "sgdr":
            return _warm_restarts(config, passed)
        case "one_cycle":
            return _one_cycle(config, passed * batches + batch, length * batches)
    return config.learning_rate


def learning_rates(
    config: TrainingConfig, epoch: int, batches: int, origin: int = 0, length: int | None = None
) -> tuple[float, ...]:
    """Those of all batches of an epoch, see ``learning_rate_at``.

    Example:
        >>> config = TrainingConfig(learning_rate=1, schedule="one_cycle", epochs=2)
        >>> [round(rate, 3) for rate in learning_rates(config, 1, 5)]
        [0.04, 0.52, 1.0, 0.95, 0.812]
    """
    if config.schedule != "one_cycle":
        return (learning_rate_at(config, epoch, origin, length),) * batches
    return tuple(
        learning_rate_at(config, epoch, origin, length, batch=batch, batches=batches) for batch in range(batches)
    )
