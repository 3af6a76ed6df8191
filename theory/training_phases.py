"""Phases of training, told by how noisy gradients are and how far weights move: the machine behind adaptive noise.

After each optimizer step the machine is given two metrics, the gradient variance V = tr Cov(g) and the update size
D = |theta_t - theta_(t-1)| before any noise is added. It smooths both by exponential moving averages, divides them by
their peaks so far, v and d, and goes through the printed decision tree:

    exploration   if v > variance_high and d > update_high
    fine_tuning   if v < variance_low and d < update_low
    convergence   else

What the paper leaves open is chosen here: references are running peaks, because training may begin on a plateau where V
is far below what comes; a phase is kept for ``min_dwell`` steps at least; ``monotone`` machines never go back. The
second difference of the loss (`smoothness`) is defined, but the printed tree never asks for it, nor does this one.

Reference: [satybaldiev2025] the tree; its smoothing, peaks and dwelling are jostle's
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from theory.absorbing import whole_number
from theory.noise_arguments import number

PHASES = ("exploration", "convergence", "fine_tuning")
"""In the order of training."""

EXPLORATION, CONVERGENCE, FINE_TUNING = PHASES


@dataclass(frozen=True)
class PhaseThresholds:
    """Between high, moderate and low metrics: the four thresholds of the decision tree.

    Attributes:
        variance_high: tau_1, of the gradient variance: exploration lies above.
        update_high: tau_2, of the update size: exploration lies above.
        variance_low: tau_3, at most the high one: fine-tuning lies below.
        update_low: tau_4, likewise.
        absolute: whether thresholds are in the units of the metrics; else they are shares of the metrics' peaks so far,
            below 1.

    Example:
        >>> thresholds = PhaseThresholds()
        >>> thresholds.phase(0.9, 0.8), thresholds.phase(0.9, 0.05), thresholds.phase(0.01, 0.05)
        ('exploration', 'convergence', 'fine_tuning')
    """

    variance_high: float = 0.5
    update_high: float = 0.5
    variance_low: float = 0.1
    update_low: float = 0.1
    absolute: bool = False

    def __post_init__(self) -> None:
        for name in ("variance", "update"):
            high, low = (number(f"{name}_{end}", getattr(self, f"{name}_{end}")) for end in ("high", "low"))
            if not 0 <= high < (math.inf if self.absolute else 1):
                allowed = "finite and >= 0" if self.absolute else ">= 0 and < 1, a share of the peak (or absolute=True)"
                raise ValueError(f"{name}_high={high} must be {allowed}")
            if not 0 <= low <= high:
                raise ValueError(f"{name}_low={low} must lie between 0 and {name}_high={high}")
            object.__setattr__(self, f"{name}_high", high)
            object.__setattr__(self, f"{name}_low", low)

    def phase(self, variance: float, update: float) -> str:
        """The printed decision tree.

        Args:
            variance: of gradients, in units of its peak unless thresholds are absolute.
            update: size of an update, likewise.

        Returns:
            One of ``PHASES``.
        """
        if variance > self.variance_high and update > self.update_high:
            return EXPLORATION
        if variance < self.variance_low and update < self.update_low:
            return FINE_TUNING
        return CONVERGENCE


class PhaseMachine:
    """Tells the phase of a training from its metrics, step by step; one to two microseconds each.

    It starts in exploration. Averages are bias-corrected: that of the first value is this value. Until there are
    ``horizon`` values the peak is the present average, so that a single value is no peak for ever. A metric that has
    always been zero counts as low.

    Args:
        thresholds: of the tree.
        horizon: W >= 1, steps over which metrics are averaged; the newest value has the weight 1 / W.
        min_dwell: steps for which a phase is kept at least, >= 0.
        monotone: whether phases only go forward.

    Attributes:
        phase: the present one, of ``PHASES``.
        steps_in_phase: t_phase, 0 at the step that entered it.
        steps: calls of ``update``.
        ignored: those among them that brought a metric that was not finite.
        changes: (step, phase entered) of each change, steps counted from 1.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> machine = PhaseMachine(horizon=1, min_dwell=2)
        >>> [machine.update(v, v)[:4] for v in (8.0, 9.0, 3.0, 2.0, 0.5, 0.4, 0.3)]
        ['expl', 'expl', 'conv', 'conv', 'fine', 'fine', 'fine']
        >>> machine.changes
        [(3, 'convergence'), (5, 'fine_tuning')]
    """

    _COUNTS = ("steps", "ignored", "steps_in_phase", "_dwelled")
    _AVERAGES = ("_variance", "_update", "_weight", "_variance_peak", "_update_peak")

    def __init__(
        self,
        thresholds: PhaseThresholds | None = None,
        *,
        horizon: int = 20,
        min_dwell: int = 50,
        monotone: bool = False,
    ) -> None:
        self.thresholds = PhaseThresholds() if thresholds is None else thresholds
        self.horizon = whole_number("horizon", horizon, 1)
        self.min_dwell = whole_number("min_dwell", min_dwell, 0)
        self.monotone = bool(monotone)
        self._share, self._relative = 1.0 / self.horizon, not self.thresholds.absolute
        self.phase = EXPLORATION
        self.steps = self.ignored = self.steps_in_phase = 0
        self.changes: list[tuple[int, str]] = []
        self._dwelled = 0  # updates that found the machine in this phase, that which entered it too
        self._variance = self._update = self._weight = 0.0
        self._variance_peak = self._update_peak = 0.0

    def update(self, variance: float, update: float) -> str:
        """Take the metrics of one optimizer step.

        Args:
            variance: V of the gradients; what rounding makes negative counts as zero.
            update: D, the size of the step before noise is added.

        Returns:
            The phase from now on. If a metric is not finite the call is counted in ``ignored`` and changes nothing.
        """
        self.steps += 1
        # Comparisons with nan are false; this is faster than two calls of isfinite.
        if not (-math.inf < variance < math.inf and -math.inf < update < math.inf):
            self.ignored += 1
            return self.phase
        share = self._share
        self._weight = weight = self._weight + share * (1.0 - self._weight)
        self._variance += share * ((variance if variance > 0.0 else 0.0) - self._variance)
        self._update += share * ((update if update > 0.0 else 0.0) - self._update)
        v, d = self._variance / weight, self._update / weight
        early = self.steps - self.ignored <= self.horizon
        if early or v > self._variance_peak:
            self._variance_peak = v
        if early or d > self._update_peak:
            self._update_peak = d
        if self._relative:
            v = v / self._variance_peak if v else 0.0
            d = d / self._update_peak if d else 0.0
        if self._dwelled >= self.min_dwell:
            found = self.thresholds.phase(v, d)
            if found != self.phase and not (self.monotone and PHASES.index(found) < PHASES.index(self.phase)):
                self.phase = found
                self.changes.append((self.steps, found))
                self._dwelled = 0
        self.steps_in_phase = self._dwelled
        self._dwelled += 1
        return self.phase

    @property
    def smoothed(self) -> tuple[float, float]:
        """Averages of gradient variance and update size, in their own units; zeros before the first step."""
        return (self._variance / self._weight, self._update / self._weight) if self._weight else (0.0, 0.0)

    @property
    def relative(self) -> tuple[float, float]:
        """The averages over their peaks, each between 0 and 1; 0 where a peak is."""
        v, d = self.smoothed
        return v / self._variance_peak if v else 0.0, d / self._update_peak if d else 0.0

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs to go on exactly: numbers, texts and lists. Options are not in it.

        Returns:
            A new dictionary.
        """
        state: dict[str, Any] = {name.lstrip("_"): getattr(self, name) for name in self._COUNTS + self._AVERAGES}
        return state | {"phase": self.phase, "changes": [list(change) for change in self.changes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another machine stood.

        Args:
            state: of its ``state_dict``.

        Raises:
            ValueError: for a state that is none; the machine is as it was then.
        """
        names = {name.lstrip("_"): name for name in self._COUNTS + self._AVERAGES}
        missing = [name for name in (*names, "phase", "changes") if name not in state]
        if missing:
            raise ValueError(f"state lacks {', '.join(missing)}: it is not that of a PhaseMachine")
        changes = [(whole_number("step", step, 1), checked_phase(phase)) for step, phase in state["changes"]]
        phase = checked_phase(state["phase"])
        values: dict[str, float] = {}
        for key, name in names.items():
            values[name] = whole_number(key, state[key], 0) if name in self._COUNTS else number(key, state[key])
            if not 0 <= values[name] < math.inf:
                raise ValueError(f"{key}={state[key]} must be finite and >= 0")
        for name, value in values.items():
            setattr(self, name, value)
        self.phase, self.changes = phase, changes


def checked_phase(phase: Any) -> str:
    """Check the name of a phase.

    Args:
        phase: which should be of ``PHASES``.

    Returns:
        It.

    Raises:
        ValueError: for any other.
    """
    if phase not in PHASES:
        raise ValueError(f"phase={phase!r} must be one of {', '.join(PHASES)}")
    return phase


def phase_path(changes: Sequence[tuple[int, str]], steps: int) -> list[str]:
    """The phase at each step, from the changes of a machine.

    Args:
        changes: (step, phase entered), steps counted from 1 and ascending.
        steps: in all, >= 0.

    Returns:
        A phase for each step.

    Raises:
        ValueError: for steps out of order, or phases that are none.

    Example:
        >>> phase_path([(3, "convergence")], 4)
        ['exploration', 'exploration', 'convergence', 'convergence']
    """
    steps = whole_number("steps", steps, 0)
    path: list[str] = []
    phase, last = EXPLORATION, 0
    for step, entered in changes:
        if not last < step <= steps:
            raise ValueError(f"changes: step {step} must be above {last} and at most the {steps} steps in all")
        path += [phase] * (step - 1 - len(path))
        phase, last = checked_phase(entered), step
    return path + [phase] * (steps - len(path))


def smoothness(losses: Sequence[float], window: int) -> float:
    """Roughness of a loss curve, |L3 - 2 L2 + L1| with the means of its last three windows: to be logged only.

    Args:
        losses: of steps, the newest at the end; at least three windows, all finite.
        window: W >= 1, steps in a window.

    Returns:
        S, 0 for a straight line [loss].

    Raises:
        ValueError: for fewer losses, or if one is not finite.

    Example:
        >>> smoothness([9.0, 9.0, 4.0, 4.0, 1.0, 1.0], 2), smoothness([3.0, 2.0, 1.0], 1)
        (2.0, 0.0)
    """
    window = whole_number("window", window, 1)
    if len(losses) < 3 * window:
        raise ValueError(f"{len(losses)} losses: three windows of {window} steps need {3 * window}")
    newest = list(losses)[-3 * window :]
    if not all(math.isfinite(loss) for loss in newest):
        raise ValueError("losses must be finite")
    first, second, third = (math.fsum(newest[k * window : (k + 1) * window]) / window for k in range(3))
    return abs(third - 2 * second + first)
