"""How much noise the weights get at each step: by the phase of the training, by its age, by both, or by none.

    none           0
    fixed          epsilon_medium
    phase_only     epsilon_phase
    schedule_only  epsilon_high exp(-decay t)
    full           epsilon_phase exp(-decay t_phase)

with t the steps since the start and t_phase those since the phase was entered. The keys are those of the ablation. They
differ in how much noise they inject in all, so that one of them being better may mean no more than that another
magnitude is better: `with_budget` makes their time-averaged epsilon^2 equal. What an epsilon is in weights depends on
the mode of the noise, see theory.adaptive_noise.

Reference: [satybaldiev2025] the schedules; which epsilon decays without phases, and equal budgets, are jostle's
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from theory.noise_arguments import checked_scale, number
from theory.training_phases import PHASES, checked_phase

KINDS = ("none", "fixed", "phase_only", "schedule_only", "full")
"""Of schedules, the keys of the ablation."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The epsilon of each step.

    Attributes:
        kind: of ``KINDS``.
        epsilon: (high, medium, low), of exploration, convergence and fine-tuning, each zero or from 1e-40 to 1e40; in
            no order.
        decay: lambda, finite and >= 0 [1/steps]; 1/500 is a factor of e in 500 steps. Without it ``full`` is
            ``phase_only``, and ``schedule_only`` constant.

    Example:
        >>> schedule = NoiseSchedule("full", (0.3, 0.1, 0.03), decay=0.01)
        >>> schedule.scale("exploration", 0, 0), round(schedule.scale("convergence", 100, 700), 9)
        (0.3, 0.036787944)
    """

    kind: str = "full"
    epsilon: tuple[float, float, float] = (0.3, 0.1, 0.03)
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")
        try:
            values = tuple(self.epsilon)
        except TypeError:
            values = ()
        if len(values) != 3 or isinstance(self.epsilon, str):
            raise ValueError(f"epsilon={self.epsilon!r} must be three numbers: high, medium and low")
        high, medium, low = (checked_scale("epsilon", value) for value in values)
        decay = number("decay", self.decay)
        if not 0 <= decay < math.inf:
            raise ValueError(f"decay={self.decay} must be finite and >= 0, in 1/steps")
        object.__setattr__(self, "epsilon", (high, medium, low))
        object.__setattr__(self, "decay", decay)

    def scale(self, phase: str, steps_in_phase: int, step: int) -> float:
        """Epsilon of a step.

        Args:
            phase: of ``PHASES``.
            steps_in_phase: t_phase >= 0, steps since it was entered.
            step: t >= 0, steps since the start.

        Returns:
            Epsilon >= 0, 0 where it has decayed below all floats.

        Raises:
            ValueError: for a phase that is none, or steps that are no finite numbers >= 0.
        """
        if not (0 <= steps_in_phase < math.inf and 0 <= step < math.inf):
            raise ValueError(f"steps_in_phase={steps_in_phase} and step={step} must be whole numbers >= 0")
        kind = self.kind
        if kind == "none":
            return 0.0
        if kind == "fixed":
            return self.epsilon[1]
        if kind == "schedule_only":
            return self.epsilon[0] * math.exp(-self.decay * step)
        epsilon = self.epsilon[PHASES.index(checked_phase(phase))]
        return epsilon * math.exp(-self.decay * steps_in_phase) if kind == "full" else epsilon

    @property
    def has_phases(self) -> bool:
        """Whether the phase matters."""
        return self.kind in ("phase_only", "full")


def scales(schedule: NoiseSchedule, phases: Sequence[str]) -> list[float]:
    """Epsilon of each step along a recorded path of phases.

    Args:
        schedule: the schedule.
        phases: one for each step, such as `theory.training_phases.phase_path` gives.

    Returns:
        As many numbers.

    Raises:
        ValueError: for a phase that is none.

    Example:
        >>> scales(NoiseSchedule("full", (4.0, 2.0, 1.0), decay=0.0), ["exploration", "convergence"])
        [4.0, 2.0]
    """
    found, before, age = [], None, 0
    for step, phase in enumerate(phases):
        age = age + 1 if phase == before else 0
        found.append(schedule.scale(checked_phase(phase), age, step))
        before = phase
    return found


def injected(schedule: NoiseSchedule, phases: Sequence[str]) -> float:
    """The noise in all, sum of epsilon^2 over the steps: without curvature, the variance that a weight ends with.

    Args:
        schedule: the schedule.
        phases: one for each step.

    Returns:
        The sum; over the number of steps it is the budget of ``with_budget``.

    Raises:
        ValueError: for a phase that is none.

    Example:
        >>> path = ["exploration"] * 2 + ["convergence"] * 3
        >>> injected(NoiseSchedule("phase_only", (4.0, 2.0, 1.0)), path), injected(NoiseSchedule("none"), path)
        (44.0, 0.0)
    """
    return math.fsum(epsilon**2 for epsilon in scales(schedule, phases))


def with_budget(schedule: NoiseSchedule, phases: Sequence[str], budget: float) -> NoiseSchedule:
    """The same schedule, all its epsilons times one factor, with a given time-averaged epsilon^2: equal noise for all.

    Args:
        schedule: the schedule.
        phases: one for each step, at least one.
        budget: the mean of epsilon^2 over the steps, finite and >= 0.

    Returns:
        The schedule.

    Raises:
        ValueError: for a budget out of range, no phases, or a schedule without noise on this path if the budget has
            some.

    Example:
        >>> path = ["exploration"] * 50 + ["convergence"] * 50
        >>> fair = with_budget(NoiseSchedule("phase_only", (0.3, 0.1, 0.03)), path, 0.01)
        >>> [round(epsilon, 6) for epsilon in fair.epsilon]
        [0.134164, 0.044721, 0.013416]
    """
    wanted = number("budget", budget)
    if not 0 <= wanted < math.inf:
        raise ValueError(f"budget={budget} must be finite and >= 0")
    if not phases:
        raise ValueError("phases is empty: a budget needs at least one step")
    if wanted == 0:
        return replace(schedule, epsilon=(0.0, 0.0, 0.0))
    mean = injected(schedule, phases) / len(phases)
    if mean == 0:
        raise ValueError(
            f"budget={budget} cannot be met: the schedule {schedule.kind!r} has no noise on this path of phases"
        )
    factor = math.sqrt(wanted / mean)
    high, medium, low = (factor * epsilon for epsilon in schedule.epsilon)
    return replace(schedule, epsilon=(high, medium, low))
