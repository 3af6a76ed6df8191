"""The methods that nnval.adaptive_noise compares, by name: an ablation, its control with equal noise, and baselines."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nnval.engine.config import TrainingConfig
from nnval.measure.training_metrics import METRICS
from theory.absorbing import whole_number
from theory.adaptive_noise import MODES
from theory.noise_schedule import NoiseSchedule
from theory.training_phases import PhaseMachine, PhaseThresholds

BASELINE, FIXED, FULL = "baseline", "fixed", "full"

ABLATION = {
    BASELINE: "none",
    FIXED: "fixed",
    "phase_only": "phase_only",
    "schedule_only": "schedule_only",
    FULL: "full",
}
"""Method -> kind of its noise schedule; all with the optimizer and the learning-rate schedule of the training."""

OTHERS = {"sgd": ("sgd", "constant"), "adam": ("adam", "constant"), "cosine": ("sgd", "cosine")}
"""Method without noise -> optimizer and schedule of the learning rate."""

METHODS = (*ABLATION, *OTHERS)

EQUAL = "_equal"
"""Ending of the names of methods whose noise is rescaled to a budget."""


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: such as ``"full"``, ``"full_equal"`` or ``"adam"``.
        optimizer: ``"sgd"`` or ``"adam"``.
        schedule: of the learning rate, of ``config.SCHEDULES``.
        noise: of ``noise_schedule.KINDS``; None if nothing is attached to the optimizer.
        equal: whether epsilons are rescaled so that their time-averaged square is the budget.
    """

    name: str
    optimizer: str
    schedule: str
    noise: str | None
    equal: bool = False

    @property
    def is_noisy(self) -> bool:
        """Whether weights get noise."""
        return self.noise not in (None, "none")


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Noise, and the machine that tells phases: the same for all methods.

    Attributes:
        mode: what epsilon means, of ``theory.adaptive_noise.MODES``.
        epsilon: (high, medium, low).
        decay: lambda of the schedules that decay [1/steps].
        metric: by which phases are told, of ``training_metrics.METRICS``.
        thresholds: the fields of ``PhaseThresholds`` that are not its defaults.
        horizon: W of metric and machine [steps], >= 2.
        min_dwell: steps for which a phase is kept at least.
        monotone: whether phases only go forward.
        include_norm: whether parameters of one dimension get noise too.

    Raises:
        ValueError: if a value is out of its range.
    """

    mode: str = "relative_update"
    epsilon: tuple[float, ...] = (0.3, 0.1, 0.03)
    decay: float = 0.002
    metric: str = METRICS[0]
    thresholds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    horizon: int = 20
    min_dwell: int = 50
    monotone: bool = False
    include_norm: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("mode", MODES), ("metric", METRICS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        schedule = self.schedule(FULL)
        object.__setattr__(self, "epsilon", schedule.epsilon)
        object.__setattr__(self, "decay", schedule.decay)
        known = [each.name for each in dataclasses.fields(PhaseThresholds)]
        if not isinstance(self.thresholds, Mapping) or not set(self.thresholds) <= set(known):
            raise ValueError(f"thresholds={self.thresholds!r} must be a table with some of {', '.join(known)}")
        object.__setattr__(self, "thresholds", dataclasses.asdict(PhaseThresholds(**self.thresholds)))
        object.__setattr__(self, "horizon", whole_number("horizon", self.horizon, 2))
        object.__setattr__(self, "min_dwell", whole_number("min_dwell", self.min_dwell, 0))
        for name in ("monotone", "include_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be true or false")

    def schedule(self, kind: str) -> NoiseSchedule:
        """The schedule of a method, before any budget.

        Args:
            kind: of ``noise_schedule.KINDS``.
        """
        return NoiseSchedule(kind, self.epsilon, self.decay)  # pyright: ignore[reportArgumentType] -- it checks that there are three

    def machine(self) -> PhaseMachine:
        """A new one."""
        return PhaseMachine(
            PhaseThresholds(**self.thresholds),
            horizon=self.horizon,
            min_dwell=self.min_dwell,
            monotone=self.monotone,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Those of a preset's table ``[noise]``.

        Raises:
            ValueError: for an unknown field, or a value out of range.

        Example:
            >>> NoiseOptions.from_dict({"epsilon": [0.6, 0.2, 0.06]}).schedule("fixed").epsilon
            (0.6, 0.2, 0.06)
        """
        known = [each.name for each in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(f"unknown field noise.{', noise.'.join(unknown)}; noise has {', '.join(known)}")
        return cls(**values)


def methods_of(
    names: tuple[str, ...], training: TrainingConfig, *, equal_noise: bool, fixed_is_equal: bool
) -> tuple[Method, ...]:
    """What is trained.

    Args:
        names: of ``METHODS``.
        training: whose schedule of the learning rate the ablation has.
        equal_noise: whether each noisy method is there a second time, with rescaled epsilons.
        fixed_is_equal: whether the fixed noise has the budget already, and is not rescaled.

    Returns:
        The methods in the order of ``METHODS``, without SGD baselines that are the ablation's baseline.

    Example:
        >>> found = methods_of(METHODS, TrainingConfig(), equal_noise=True, fixed_is_equal=True)
        >>> [method.name for method in found if method.equal], "sgd" in [method.name for method in found]
        (['phase_only_equal', 'schedule_only_equal', 'full_equal'], False)
    """
    found = [Method(name, "sgd", training.schedule, kind) for name, kind in ABLATION.items() if name in names]
    if equal_noise:
        found += [
            Method(each.name + EQUAL, each.optimizer, each.schedule, each.noise, equal=True)
            for each in found
            if each.is_noisy and not (each.name == FIXED and fixed_is_equal)
        ]
    for name, (optimizer, schedule) in OTHERS.items():
        if name in names and (optimizer, schedule) != ("sgd", training.schedule):
            found.append(Method(name, optimizer, schedule, None))
    return tuple(found)
