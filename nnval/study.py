"""What a perturbation study is made of: its config, its runs and its results."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnval.drop_in.perturbations import make_perturbation
from nnval.engine.results import EnsembleResult
from nnval.experiment_config import ExperimentConfig
from theory.estimate import Comparison, Estimate
from theory.hazard import HazardTest
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import Prediction
from theory.quasi_steady_state import Stationarity
from theory.survival import FirstPassages, Survival


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r} must be a whole number")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ExperimentConfig):
    """What a study trains.

    Attributes:
        training: the unperturbed ensemble; its ``epochs`` are the horizon H of all means. ``target``, ``perturbation``,
            ``interval``, ``snapshots`` and ``stream`` are set by the study.
        perturbations: name shown in tables -> the perturbation, as ``{"name": ..., options}``.
        intervals: P at which training is repeated with the perturbation every P epochs; 1 <= P <= H.
        target: validation accuracy at which training is over; None takes the median of the best accuracies.
        branch_epochs: epochs at which survivors are perturbed once. Predictions use the last, P*; the others show
            whether residuals depend on it.
        follow: epochs for which perturbed survivors are followed, at least P* (the renewal predictor needs that).
        periodic_members: networks trained at each interval.
        tolerance: distance from the quasi-steady state that counts as reached, in standard deviations.
        replicates: bootstrap replicates.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> from nnval.engine.config import TrainingConfig
        >>> config = StudyConfig(
        ...     training=TrainingConfig(epochs=60), perturbations={"reset": {"name": "full_reset"}}, intervals=[20, 10],
        ...     branch_epochs=[20], follow=40,
        ... )
        >>> config.intervals
        (10, 20)
    """

    perturbations: Mapping[str, Mapping[str, Any]]
    intervals: Sequence[int]
    branch_epochs: Sequence[int]
    follow: int
    target: float | None = None
    periodic_members: int = 200
    tolerance: float = 0.25
    replicates: int = 2000

    def __post_init__(self) -> None:
        horizon = self.training.epochs
        for name in ("follow", "periodic_members", "replicates"):
            _whole(name, getattr(self, name))
        for name in ("target", "tolerance"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name}={value!r} must be a number")
        for name in ("intervals", "branch_epochs"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ValueError(f"{name}={values!r} must be a list of epochs")
            for value in values:
                _whole(name, value)
        if not isinstance(self.perturbations, Mapping):
            raise ValueError("perturbations must be a table: name -> options")
        for label, options in self.perturbations.items():
            if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
                raise ValueError(f"perturbation {label!r} must be a table with a 'name', such as name = \"full_reset\"")
        spelled_out = {label: make_perturbation(**options).to_dict() for label, options in self.perturbations.items()}
        if not spelled_out:
            raise ValueError("perturbations is empty: name at least one, such as full_reset")
        for label in spelled_out:
            if not label or not all(c.isalnum() or c in "_-." for c in label) or label.startswith("."):
                raise ValueError(f"perturbation label {label!r} must be made of letters, digits, '_', '-' and '.'")
        for name, values in (("intervals", self.intervals), ("branch_epochs", self.branch_epochs)):
            if not values or any(not 1 <= v <= horizon for v in values):
                raise ValueError(f"{name}={list(values)} must be whole epochs from 1 to the horizon epochs={horizon}")
        branch_epochs = tuple(sorted(set(self.branch_epochs)))
        if branch_epochs[-1] >= horizon:
            raise ValueError(f"branch_epochs={list(branch_epochs)} must lie before the horizon epochs={horizon}")
        if self.follow < branch_epochs[-1]:
            raise ValueError(f"follow={self.follow} must be >= P*={branch_epochs[-1]}: renewal predicts up to P=follow")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"target={self.target} must lie in (0, 1]: it is a validation accuracy")
        if self.periodic_members < 2 or self.training.members < 2:
            raise ValueError("members and periodic_members must be >= 2: one network has no standard error")
        if not self.tolerance > 0 or self.replicates < 100:
            raise ValueError(f"tolerance={self.tolerance} must be > 0 and replicates={self.replicates} >= 100")
        training = dataclasses.replace(
            self.training, stream="unperturbed", perturbation=None, interval=None, target=None, snapshots=branch_epochs
        )
        for name, value in (
            ("training", training),
            ("perturbations", spelled_out),
            ("intervals", tuple(sorted(set(self.intervals)))),
            ("branch_epochs", branch_epochs),
        ):
            object.__setattr__(self, name, value)

    @property
    def branch_epoch(self) -> int:
        """P*, the epoch whose perturbed survivors predictions are made from."""
        return self.branch_epochs[-1]


@dataclass(frozen=True)
class PerturbedOnceRun:
    """Survivors of one epoch, perturbed once and followed.

    Attributes:
        epoch: the epoch of the perturbation.
        ensemble: the perturbed runs.
        data: their residuals.
        survival: Psi_res.
    """

    epoch: int
    ensemble: EnsembleResult
    data: PerturbedOnce
    survival: Survival


@dataclass(frozen=True)
class PeriodicRun:
    """Training with a perturbation every P epochs: the measurement that predictions are held against.

    Attributes:
        interval: P [epochs].
        ensemble: the runs.
        survival: of T_P.
        residual_mean: restricted mean of T_P - P among runs with T_P > P; None if there are fewer than two.
        test_accuracy: at the end of the runs that reached the target; None if fewer than two did.
    """

    interval: int
    ensemble: EnsembleResult
    survival: Survival
    residual_mean: Estimate | None
    test_accuracy: Estimate | None


@dataclass(frozen=True)
class Protocol:
    """One perturbation: predicted at every interval, measured at some.

    Attributes:
        label: as named in the config.
        perturbation: its options.
        once: survivors perturbed once, by branch epoch; empty for full resetting, which needs none.
        predictions: by predictor, then by interval.
        periodic: the measurements.
    """

    label: str
    perturbation: Mapping[str, Any]
    once: tuple[PerturbedOnceRun, ...]
    predictions: Mapping[str, tuple[Prediction, ...]]
    periodic: tuple[PeriodicRun, ...]


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes:
        config: what was trained.
        directory: where.
        target: the validation accuracy at which training is over.
        unperturbed: the ensemble without perturbations.
        first_passages: of its members.
        survival: Psi(t).
        quasi_steady_state: distance of survivors' accuracies from their late distribution; None without survivors.
        published_relaxation_epoch: the published criterion (first p > 0.05), for comparison.
        hazard_test: of a constant hazard after the relaxation epoch; None if there is no such epoch.
        protocols: one per perturbation.
        comparisons: predictions beside measurements, with verdicts corrected for their number.
        rows: (label, predictor, interval, horizon) of each comparison.

    Example:
        >>> import tempfile
        >>> from nnval.perturbation import run_study
        >>> from nnval.engine.config import TrainingConfig
        >>> config = StudyConfig(
        ...     training=TrainingConfig(train_size=40, hidden=(4,), epochs=4, members=4, execution="loop"),
        ...     perturbations={"reset": {"name": "full_reset"}}, intervals=[2], branch_epochs=[2], follow=2, target=0.2,
        ...     periodic_members=4, replicates=100,
        ... )
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     study = run_study(config, directory)
        >>> study.target, len(study.first_passages.times), study.survival.horizon
        (0.2, 4, 4)
    """

    config: StudyConfig
    directory: Path
    target: float
    unperturbed: EnsembleResult
    first_passages: FirstPassages
    survival: Survival
    quasi_steady_state: Stationarity | None
    published_relaxation_epoch: int | None
    hazard_test: HazardTest | None
    protocols: tuple[Protocol, ...]
    comparisons: tuple[Comparison, ...] = ()
    rows: tuple[tuple[str, str, int, int], ...] = ()

    @property
    def relaxation_epoch(self) -> int | None:
        """t_r, from which on the survivors look stationary."""
        return None if self.quasi_steady_state is None else self.quasi_steady_state.relaxation_epoch

    @property
    def agrees(self) -> bool:
        """Whether no prediction inside its regime disagrees with its measurement."""
        return all(c.verdict != "disagrees" for c in self.comparisons)


def measured_speed_up(study: Study, run: PeriodicRun) -> Estimate:
    """E[min(T, H)] / E[min(T_P, H)], both measured, with the delta-method error of a ratio.

    Args:
        study: for the unperturbed runs.
        run: the perturbed ones.

    Returns:
        The ratio.
    """
    horizon = study.config.training.epochs
    plain, perturbed = study.survival.restricted_mean(horizon), run.survival.restricted_mean(horizon)
    ratio = plain.value / perturbed.value
    relative = math.hypot(plain.standard_error / plain.value, perturbed.standard_error / perturbed.value)
    return Estimate(ratio, ratio * relative, min(plain.n, perturbed.n))
