"""What the experiment of nnval.adaptive_noise is made of: its config and its results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nnval.adaptive_noise_methods import BASELINE, METHODS, OTHERS, Method, NoiseOptions, methods_of
from nnval.adaptive_noise_statistics import (
    accuracy_errors,
    detrended_variation,
    epochs_to_target,
    variation,
)
from nnval.engine.config import TrainingConfig
from nnval.paired_config import PairedConfig
from nnval.paired_differences import PairedDifference
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.noise_arguments import LARGEST_SCALE
from theory.survival import FirstPassages

PLAIN: dict[str, Any] = {
    "optimizer": "sgd",
    "perturbation": None,
    "interval": None,
    "target": None,
    "snapshots": (),
    "compiled": False,
    "execution": "auto",
    "stack_size": None,
}
"""Fields of a training that must be so."""

FIRST_TUNING_SEED = 1_000_000
"""Seeds from here on choose learning rates, and are never reported."""

QUANTITIES = {
    "epochs": "epochs to the target",
    "cv": "CV of the loss, %",
    "cv_detrended": "detrended CV, %",
    "cv_error": "CV of the error, %",
    "test_accuracy": "test accuracy, %",
    "best_test_accuracy": "test accuracy at the best epoch, %",
}
"""What methods are compared by, seed by seed, and how tables call it."""


def _quick_training() -> TrainingConfig:
    return TrainingConfig(
        label_noise=0.0,
        model="lenet",
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=25,
        epochs=40,
        members=5,
    )


@dataclass(frozen=True, kw_only=True)
class NoiseStudyConfig(PairedConfig):
    """What is trained and measured.

    Attributes:
        training: network, data, momentum, weight decay, batch size, epochs and seeds; with the optimizer and schedule
            of all methods of the ablation. Member k has the initial weights and batches of member k of ``jostle
            train``, and its own split of the data (``data_seed`` + k), in all of which methods share. Its
            ``learning_rate`` is the middle of the grid of SGD. Other fields must be as in ``PLAIN``.
        methods: of ``METHODS``, the baseline among them; more can be added to a finished run.
        equal_noise: whether each noisy method is there a second time with rescaled epsilons, so that along the phases
            of the baseline of its seed the time-averaged epsilon^2 is ``budget``. Can be added later.
        budget: from 1e-40 to 1e40; None: that of the fixed noise, which then is not rescaled.
        noise: what is common to all noises.
        rate_factors: times the middle: the grid of learning rates of each method, ascending, each > 0.
        adam_learning_rate: the middle of the grid of Adam, > 0.
        tuning_seeds: networks from which the learning rate of each method is chosen, by its validation accuracy over
            the last epochs; they are not reported. With a single factor there is nothing to choose.
        target_accuracy: validation accuracy in (0, 1]; the time to it is measured. Can be changed later.
        last_epochs: K of the stability, 3 at least.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> NoiseStudyConfig(methods=["baseline", "full"], target_accuracy=0.9).target_accuracy
        0.9
    """

    training: TrainingConfig = field(default_factory=_quick_training)
    methods: Sequence[str] = METHODS
    equal_noise: bool = False
    budget: float | None = None
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    rate_factors: Sequence[float] = (0.316, 1.0, 3.16)
    adam_learning_rate: float = 0.001
    tuning_seeds: int = 2
    target_accuracy: float = 0.95
    last_epochs: int = 20

    def __post_init__(self) -> None:
        training = self.training
        self.check_training(PLAIN, "nothing but noise, optimizer and learning rate may differ")
        if training.first_member + training.members > FIRST_TUNING_SEED:
            raise ValueError(f"seeds must be below {FIRST_TUNING_SEED}: from there on they choose learning rates")
        if isinstance(self.methods, str) or not set(self.methods) <= set(METHODS) or BASELINE not in self.methods:
            raise ValueError(f"methods={self.methods!r} must be {BASELINE} and others of {', '.join(METHODS)}")
        object.__setattr__(self, "methods", tuple(name for name in METHODS if name in self.methods))
        if len(self.trained) < 2:
            raise ValueError(f"methods={list(self.methods)} are one and the same: name another one")
        self._check_noise()
        factors = self.rate_factors
        if isinstance(factors, str) or not all(_is_positive(factor) for factor in factors):
            raise ValueError(f"rate_factors={factors!r} must be a list of numbers > 0")
        if not factors or list(factors) != sorted(set(factors)):
            raise ValueError(f"rate_factors={list(factors)} must be ascending, at least one")
        object.__setattr__(self, "rate_factors", tuple(map(float, factors)))
        for name in ("adam_learning_rate", "target_accuracy"):
            value = getattr(self, name)
            if not _is_positive(value) or (name == "target_accuracy" and value > 1):
                allowed = "in (0, 1]" if name == "target_accuracy" else "> 0"
                raise ValueError(f"{name}={value!r} must be a number {allowed}")
            object.__setattr__(self, name, float(value))
        for method in self.trained:
            rates = self.rates(method)
            if not all(_is_positive(rate) for rate in rates) or len(set(rates)) < len(rates):
                raise ValueError(
                    f"rate_factors={list(self.rate_factors)}: the learning rates of {method.name} would be "
                    f"{', '.join(map(str, rates))}; all must be finite, > 0 and different"
                )
        object.__setattr__(self, "tuning_seeds", whole_number("tuning_seeds", self.tuning_seeds, 1))
        last = whole_number("last_epochs", self.last_epochs, 3)
        if last > training.epochs:
            raise ValueError(f"last_epochs={last} must be at most epochs={training.epochs}")
        object.__setattr__(self, "last_epochs", last)

    def _check_noise(self) -> None:
        if not isinstance(self.equal_noise, bool):
            raise ValueError(f"equal_noise={self.equal_noise!r} must be true or false")
        if self.equal_noise and self.noise.mode == "sgld":
            raise ValueError(
                "equal_noise: in mode 'sgld' the variance of the noise is proportional to epsilon, not epsilon^2, so "
                "that no budget of epsilon^2 makes noises equal; choose another mode, or equal_noise=False"
            )
        if self.budget is not None:
            if not _is_positive(self.budget) or not 1 / LARGEST_SCALE <= self.budget <= LARGEST_SCALE:
                raise ValueError(
                    f"budget={self.budget!r} must be a number from {1 / LARGEST_SCALE:g} to {LARGEST_SCALE:g}, the "
                    "mean of epsilon^2 over the steps"
                )
            object.__setattr__(self, "budget", float(self.budget))
        elif self.equal_noise and not self.noise.epsilon[1]:
            raise ValueError("equal_noise: the medium epsilon is 0, so that it gives no budget; set budget")
        if self.equal_noise and "schedule_only" in self.methods and not self.noise.epsilon[0]:
            raise ValueError(
                "equal_noise: the high epsilon is 0, so that schedule_only has no noise that could be rescaled; leave "
                "that method out, or set another epsilon"
            )

    @property
    def mean_square(self) -> float:
        """The budget that counts: the wanted mean of epsilon^2 over the steps."""
        return self.noise.epsilon[1] ** 2 if self.budget is None else self.budget

    @property
    def trained(self) -> tuple[Method, ...]:
        """Each once: an SGD baseline with the schedule of the training is the ablation's baseline."""
        return methods_of(
            tuple(self.methods),
            self.training,
            equal_noise=self.equal_noise,
            fixed_is_equal=self.budget is None or math.isclose(self.budget, self.noise.epsilon[1] ** 2),
        )

    def same_as(self, name: str) -> str:
        """The trained method that stands for one of ``METHODS``; ``name`` itself for most.

        Example:
            >>> NoiseStudyConfig().same_as("sgd"), NoiseStudyConfig().same_as("cosine")
            ('baseline', 'cosine')
        """
        return BASELINE if OTHERS.get(name) == ("sgd", self.training.schedule) else name

    def rates(self, method: Method) -> tuple[float, ...]:
        """The grid of its learning rates; six digits of each."""
        middle = self.adam_learning_rate if method.optimizer == "adam" else self.training.learning_rate
        return tuple(float(f"{factor * middle:.6g}") for factor in self.rate_factors)

    @property
    def tuning_members(self) -> range:
        """The seeds that choose learning rates; none if there is nothing to choose."""
        count = self.tuning_seeds if len(self.rate_factors) > 1 else 0
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """See ``PairedConfig``; ``noise`` is a table too."""
        chosen = dict(values)
        if "noise" in chosen:
            if not isinstance(chosen["noise"], Mapping):
                raise ValueError(f"noise={chosen['noise']!r} must be a table")
            chosen["noise"] = NoiseOptions.from_dict(chosen["noise"])
        return super().from_dict(chosen)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@dataclass(frozen=True, eq=False)
class RateChoice:
    """How the learning rate of a method was chosen.

    Attributes:
        rates: the grid, ascending.
        accuracies: mean validation accuracy over the last epochs, of each rate and tuning seed, shape (rates, seeds);
            without seeds if there was nothing to choose.
    """

    rates: tuple[float, ...]
    accuracies: Floats

    @property
    def place(self) -> int:
        """Of the chosen one: the highest mean; of equal ones the smallest rate."""
        return int(np.argmax(self.accuracies.mean(axis=1))) if self.accuracies.size else 0

    @property
    def rate(self) -> float:
        """The chosen one."""
        return self.rates[self.place]

    @property
    def at_edge(self) -> bool:
        """Whether it is the first or the last of several: beyond there may be a better one."""
        return len(self.rates) > 1 and self.place in (0, len(self.rates) - 1)


@dataclass(frozen=True, eq=False)
class MethodRuns:
    """What one method did at its learning rate, seed by seed. What is not known or not defined is nan.

    Attributes:
        method: the method.
        choice: of its learning rate.
        steps_per_epoch: of the training.
        train_loss: mean over each epoch, shape (n, epochs); nan after divergence.
        validation_loss: after each epoch, likewise.
        validation_accuracy: likewise, in [0, 1]; that of guessing from the epoch on in which a network diverged.
        seconds: that training took up to the end of each epoch, without evaluation, and without what observes methods
            that need no observation, likewise.
        test_accuracy: after the last epoch, shape (n,).
        best_epoch: the first with the highest validation accuracy, shape (n,).
        best_test_accuracy: after that, shape (n,).
        diverged: shape (n,).
        phases: share of the steps of each epoch in each of ``PHASES``, shape (n, epochs, 3).
        changes: of the phase, shape (n,).
        mean_square: realised epsilon^2, mean over the steps, shape (n,).
        noise_ratio: norm of the noise over that of the update, mean over some steps, shape (n,).
        overhead: time of tracker and noise over that of the training without them, shape (n,).
    """

    method: Method
    choice: RateChoice
    steps_per_epoch: int
    train_loss: Floats
    validation_loss: Floats
    validation_accuracy: Floats
    seconds: Floats
    test_accuracy: Floats
    best_epoch: npt.NDArray[np.int64]
    best_test_accuracy: Floats
    diverged: npt.NDArray[np.bool_]
    phases: Floats
    changes: Floats
    mean_square: Floats
    noise_ratio: Floats
    overhead: Floats

    @property
    def thirds(self) -> Floats:
        """Share of each phase in each third of the epochs, shape (n, 3, 3); nan where there is none."""
        parts = np.array_split(self.phases, 3, axis=1)
        return np.stack([part.mean(axis=1) if part.shape[1] else part.sum(axis=1) * np.nan for part in parts], axis=1)

    @property
    def rate(self) -> float:
        """Its learning rate."""
        return self.choice.rate


@dataclass(frozen=True, eq=False)
class NoiseStudy:
    """The result.

    Attributes:
        config: with device and check sum of the data filled in.
        directory: of the run.
        weights: d, of the network.
        runs: one for each of ``config.trained``.
        differences: of all pairs that were trained, see ``adaptive_noise_statistics.method_differences``.

    Example:
        >>> import tempfile
        >>> from nnval.adaptive_noise import run_noise_study
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=3, members=2)
        >>> config = NoiseStudyConfig(training=training, methods=["baseline", "fixed"], last_epochs=3, rate_factors=[1])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_noise_study(config, directory)
        >>> result.of("fixed").validation_accuracy.shape  # seeds, epochs
        (2, 3)
    """

    config: NoiseStudyConfig
    directory: Path
    weights: int
    runs: tuple[MethodRuns, ...]
    differences: tuple[PairedDifference, ...]

    def of(self, name: str) -> MethodRuns:
        """What a method did.

        Raises:
            ValueError: if it was not trained.
        """
        for runs in self.runs:
            if runs.method.name == name:
                return runs
        raise ValueError(f"method={name!r} must be one of {', '.join(each.method.name for each in self.runs)}")

    def passages(self, runs: MethodRuns) -> FirstPassages:
        """First passages to the target, in epochs; unfinished runs, and those that diverged, are censored at H."""
        return FirstPassages.from_curves(runs.validation_accuracy, self.config.target_accuracy)

    def seconds_to_target(self, runs: MethodRuns) -> Floats:
        """min(T, H) in seconds, shape (n,); for H seconds every run of every method was followed, or diverged."""
        ends = np.concatenate([each.seconds[~each.diverged, -1] for each in self.runs])
        horizon = float(ends.min()) if ends.size else max(float(each.seconds.max()) for each in self.runs)
        passages = self.passages(runs)
        times = runs.seconds[np.arange(passages.n), passages.times - 1]
        return np.where(passages.observed, np.minimum(times, horizon), horizon)

    def values(self, runs: MethodRuns, quantity: str) -> Floats:
        """One number for each seed, shape (n,); see ``quantity_values``."""
        return quantity_values(runs, quantity, self.config)

    def ratio(self, runs: MethodRuns, reference: MethodRuns, *, seconds: bool = False) -> Estimate:
        """Mean time to the target over that of another method, both restricted to the same horizon, in pairs."""
        measure = self.seconds_to_target if seconds else lambda each: self.values(each, "epochs")
        return Estimate.ratio_of_columns(measure(runs)[:, None], measure(reference)[:, None])[0]


def quantity_values(runs: MethodRuns, quantity: str, config: NoiseStudyConfig) -> Floats:
    """What methods are compared by, of each seed.

    Args:
        runs: of a method.
        quantity: of ``QUANTITIES``.
        config: with the target and the number of last epochs.

    Returns:
        Shape (n,); nan where it is not defined. Accuracies and CVs are in percent.
    """
    last = slice(-config.last_epochs, None)
    match quantity:
        case "epochs":
            return epochs_to_target(runs.validation_accuracy, config.target_accuracy)
        case "cv":
            return variation(runs.validation_loss[:, last])
        case "cv_detrended":
            return detrended_variation(runs.validation_loss[:, last])
        case "cv_error":
            return variation(accuracy_errors(runs.validation_accuracy, runs.diverged)[:, last])
    return 100 * getattr(runs, quantity)
