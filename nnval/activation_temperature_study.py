"""What the experiment of nnval.activation_temperature is made of: its config and its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnval.activation_temperature_schedules import COOLED, Schedule
from nnval.engine.config import TrainingConfig
from nnval.measure.pattern_counts import RateSweep
from nnval.paired_config import PairedConfig
from nnval.paired_differences import PairedDifference, paired_differences
from theory.absorbing import Floats, whole_number
from theory.activation_temperature import target_curve
from theory.estimate import Estimate

PLAIN: dict[str, Any] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "perturbation": None,
    "interval": None,
    "target": None,
    "snapshots": (),
    "precision": "float32",
    "compiled": False,
    "execution": "auto",
    "stack_size": None,
}
"""Fields of a training that must be so: nothing but the schedule may differ."""

SWEPT_RATES = np.geomspace(1e-4, 1e2, 25)
"""Learning rates of a sweep, the paper's range."""


def _quick_training() -> TrainingConfig:
    return TrainingConfig(
        train_size=800,
        label_noise=0.0,
        model="convnet4",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=40,
        epochs=30,
        members=5,
    )


@dataclass(frozen=True, kw_only=True)
class CoolingStudyConfig(PairedConfig):
    """What is trained and measured.

    Attributes:
        training: network, data, learning rate, momentum, weight decay, batch size and seeds: member k has the initial
            weights and batches of member k of ``jostle train``, and its own split of the data (``data_seed`` + k), in
            all of which the schedules share. ``epochs`` is the budget if there are no ``budgets``. Other fields must be
            as in ``PLAIN``.
        schedules: what is compared, as `Schedule.parsed` reads it; more can be added to a finished run.
        budgets: epochs of the trainings, each with a schedule of its own; none is ``training.epochs``.
        every: steps between two measurements of T, in all trainings alike, >= 2; of ActCooLR too by default. Both are
            half an interval apart: what is reported is not what the schedule saw.
        samples: of each batch to measure T with.
        swept: schedules in which learning rates are swept, at the largest budget.
        sweeps: how many sweeps there are, equally far apart from the first step to the last, >= 2.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> config = CoolingStudyConfig(schedules=["cosine", "actcoolr:gamma=2"], budgets=[10, 30])
        >>> [(schedule.label, budget) for schedule, budget in config.settings][-1]
        ('actcoolr:gamma=2', 30)
    """

    training: TrainingConfig = field(default_factory=_quick_training)
    schedules: Sequence[str] = ("constant", "step", "cosine", "one_cycle", "actcoolr", "actcoolr:t_start=3.17")
    budgets: Sequence[int] = ()
    every: int = 10
    samples: int = 32
    swept: Sequence[str] = ("one_cycle", "step")
    sweeps: int = 12

    def __post_init__(self) -> None:
        self.check_training(PLAIN, "nothing but the schedule may differ")
        for name in ("schedules", "swept"):
            texts = getattr(self, name)
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name}={texts!r} must be a list of names")
            labels = tuple(Schedule.parsed(text).label for text in texts)
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name}={list(texts)} must be different ones")
            object.__setattr__(self, name, labels)
        if not self.schedules:
            raise ValueError("schedules is empty: name at least one")
        budgets = tuple(whole_number("budgets", each, 1) for each in self.budgets) or (self.training.epochs,)
        object.__setattr__(self, "budgets", tuple(sorted(set(budgets))))
        for name, least in (("every", 2), ("samples", 1), ("sweeps", 2)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))

    @property
    def settings(self) -> tuple[tuple[Schedule, int], ...]:
        """Schedule and budget of each training, for one seed."""
        parsed = [Schedule.parsed(text) for text in self.schedules]
        return tuple((schedule, budget) for budget in self.budgets for schedule in parsed)

    def sweep_steps(self, schedule: Schedule, budget: int, total_steps: int) -> tuple[int, ...]:
        """Steps, from 1, in which learning rates are swept; none for most trainings."""
        if schedule.label not in self.swept or budget != self.budgets[-1]:
            return ()
        return tuple(sorted({round(step) for step in np.linspace(1, total_steps, self.sweeps).tolist()}))


@dataclass(frozen=True, eq=False)
class StageSweeps:
    """Sweeps of the learning rate at stages of one training.

    Attributes:
        steps: of the stages, from 1, shape (s,).
        used: the learning rate of those steps, shape (s,).
        sweeps: one for each.
    """

    steps: npt.NDArray[np.int64]
    used: Floats
    sweeps: tuple[RateSweep, ...]


@dataclass(frozen=True, eq=False)
class ScheduleRuns:
    """What one schedule did with one budget, seed by seed. What was not reached or not defined is nan.

    Attributes:
        schedule: the schedule.
        budget: epochs.
        steps_per_epoch: of the training.
        test_accuracy: after each epoch, in [0, 1], shape (n, budget); that of guessing from the epoch on in which a
            network diverged.
        train_loss: mean over each epoch, likewise; nan after divergence.
        steps: that were measured, from 1, shape (m,).
        rate: learning rates of these, shape (n, m).
        temperature: T of the network, likewise [bits].
        first, last: T of the first and the last ReLU, likewise [bits].
        target: C, likewise; nan where there is none [bits].
        gradient, weights: norms of the gradient and of all parameters, likewise.
        coldest: the lowest T that can be seen, shape (n,) [bits].
        diverged: whether a network's weights ended as no numbers, shape (n,).
        share_at_cap: of the steps, shape (n,); nan for other schedules than ActCooLR, as all below.
        sigma: that ActCooLR worked with, shape (n,).
        overhead: CPU time of ActCooLR over that of the training without it, shape (n,); nan on a GPU too.
        sweeps: of each seed, or none.
    """

    schedule: Schedule
    budget: int
    steps_per_epoch: int
    test_accuracy: Floats
    train_loss: Floats
    steps: npt.NDArray[np.int64]
    rate: Floats
    temperature: Floats
    first: Floats
    last: Floats
    target: Floats
    gradient: Floats
    weights: Floats
    coldest: Floats
    diverged: npt.NDArray[np.bool_]
    share_at_cap: Floats
    sigma: Floats
    overhead: Floats
    sweeps: tuple[StageSweeps, ...] = ()

    @property
    def is_cooled(self) -> bool:
        """Whether ActCooLR set the learning rates."""
        return self.schedule.name == COOLED

    @property
    def errors(self) -> Floats:
        """1 - test accuracy after the last epoch, shape (n,)."""
        return 1 - self.test_accuracy[:, -1]

    @property
    def error(self) -> Estimate:
        """Their mean."""
        return Estimate.from_samples(self.errors)

    @property
    def starts(self) -> Floats:
        """C at the beginning, of each seed; nan where there is no target [bits]."""
        parts = self.steps / (self.budget * self.steps_per_epoch)
        shape = target_curve(np.minimum(parts, 1.0), float(self.schedule.options.get("gamma", 1.0)), 1.0)
        # Where the target is not almost 0; there it is the same at all steps.
        ratios = np.where(shape > 0.01, self.target, np.nan) / np.maximum(shape, 0.01)
        known = np.isfinite(ratios)
        return np.array([row[some][0] if some.any() else np.nan for row, some in zip(ratios, known, strict=True)])

    @property
    def tracking_errors(self) -> Floats:
        """The median of abs(ln(T / C)) of each seed, over targets of at least twice what can be seen; nan if none."""
        found = np.full(len(self.target), np.nan)
        for k, (t, c) in enumerate(zip(self.temperature, self.target, strict=True)):
            usable = np.isfinite(t) & np.isfinite(c) & (t > 0)
            usable[usable] = c[usable] >= 2 * self.coldest[k]
            if usable.any():
                found[k] = np.median(np.abs(np.log(t[usable] / c[usable])))
        return found


@dataclass(frozen=True)
class ErrorDifference(PairedDifference):
    """ActCooLR against another schedule with the same budget: their final test errors, 1 - accuracy.

    Attributes:
        budget: epochs.
    """

    budget: int


@dataclass(frozen=True, eq=False)
class CoolingStudy:
    """The result.

    Attributes:
        config: with device and check sum of the data filled in.
        directory: of the run.
        parameters: of the network.
        classes: of the data.
        layers: ReLUs that the network calls.
        runs: one for each of ``config.settings``.
        differences: of each ActCooLR from each other schedule with the same budget.

    Example:
        >>> import tempfile
        >>> from nnval.activation_temperature import run_cooling_study
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=2, members=2)
        >>> config = CoolingStudyConfig(training=training, schedules=["constant", "cosine"], every=2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_cooling_study(config, directory)
        >>> result.layers, result.classes
        (1, 10)
    """

    config: CoolingStudyConfig
    directory: Path
    parameters: int
    classes: int
    layers: int
    runs: tuple[ScheduleRuns, ...]
    differences: tuple[ErrorDifference, ...]

    def trained(self, runs: ScheduleRuns) -> npt.NDArray[np.bool_]:
        """Which seeds trained: their accuracy is closer to the best than to guessing. Best: the highest median of all
        schedules with that budget.
        """
        medians = [float(np.median(each.test_accuracy[:, -1])) for each in self.runs if each.budget == runs.budget]
        return runs.test_accuracy[:, -1] > (max(medians) + 1 / self.classes) / 2


def error_differences(runs: Sequence[ScheduleRuns]) -> tuple[ErrorDifference, ...]:
    """Differences of final errors, with verdicts that hold together.

    Args:
        runs: whose seeds are the same, in the same order; at least two.

    Returns:
        One for each ActCooLR and each other schedule of the same budget.
    """
    pairs = [
        (one, other)
        for one in runs
        for other in runs
        if one.is_cooled and not other.is_cooled and one.budget == other.budget
    ]
    found = paired_differences(
        ("error", one.schedule.label, other.schedule.label, one.errors, other.errors) for one, other in pairs
    )
    return tuple(ErrorDifference(**vars(each), budget=one.budget) for each, (one, _) in zip(found, pairs, strict=True))
