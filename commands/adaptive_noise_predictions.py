"""What ``predict adaptive-noise`` computes: an epsilon in weights, its spread along directions, and the schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.files import write_figure, write_records

if TYPE_CHECKING:
    from theory.absorbing import Floats
    from theory.adaptive_noise import NoisyVariances
    from theory.gradient_noise import WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.noise_schedule import NoiseSchedule

RELATIVE = ("relative_update", "relative_weight")


@dataclass(frozen=True)
class Setting:
    """What the command is told.

    Attributes:
        mode: what an epsilon is.
        weights: d.
        steps: of the training.
        learning_rate: eta.
        momentum: beta.
        weight_decay: w >= 0.
        fan_in: of He's initialisation.
        gradient_noise: standard deviation of the batch noise of a weight's gradient.
        phase_epsilons: (high, medium, low) of the schedules.
        decay: of epsilon [1/steps].
        phase_shares: of exploration, convergence and fine-tuning in the training, in any unit.
    """

    mode: str
    weights: int
    steps: int
    learning_rate: float
    momentum: float
    weight_decay: float
    fan_in: int
    gradient_noise: float
    phase_epsilons: tuple[float, float, float]
    decay: float
    phase_shares: tuple[float, float, float]

    def __post_init__(self) -> None:
        from theory.noise_arguments import LARGEST_SCALE

        for name in ("weight_decay", "gradient_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name):g} must be finite and >= 0")
        if self.gradient_noise > LARGEST_SCALE:  # its square may be no float
            raise ValueError(f"--gradient-noise {self.gradient_noise:g} must be at most {LARGEST_SCALE:g}")
        shares = self.phase_shares
        if not all(0 <= share < math.inf for share in shares) or not 0 < sum(shares) < math.inf:
            words = " ".join(f"{share:g}" for share in shares)
            raise ValueError(f"--phase-shares {words} must be finite and >= 0, and not all 0")
        self.modes([0.0])  # refuses rates out of range
        _ = self.schedules, self.batches

    def modes(self, curvatures: Sequence[float]) -> HeavyBall:
        """Directions of these curvatures, with weight decay."""
        from theory.heavy_ball import HeavyBall

        if not all(0 <= curvature < math.inf for curvature in curvatures):
            raise ValueError(f"--curvature {min(curvatures):g} must be finite and >= 0")
        total = [curvature + self.weight_decay for curvature in curvatures]
        return HeavyBall(self.learning_rate, total, self.momentum)

    @property
    def batches(self) -> WhiteNoise:
        """The noise of batches."""
        from theory.gradient_noise import WhiteNoise

        return WhiteNoise(self.gradient_noise**2)

    @property
    def schedules(self) -> dict[str, NoiseSchedule]:
        """Of all kinds."""
        from theory.noise_schedule import KINDS, NoiseSchedule

        return {kind: NoiseSchedule(kind, self.phase_epsilons, self.decay) for kind in KINDS}

    @property
    def phases(self) -> list[str]:
        """One for each step."""
        from theory.training_phases import PHASES

        path: list[str] = []
        for phase, end in zip(PHASES, self.phase_ends[1:], strict=True):
            path += [phase] * (end - len(path))
        return path

    @property
    def phase_ends(self) -> list[int]:
        """Steps at which the phases begin, and the last end."""
        first, second, third = self.phase_shares
        whole = first + second + third
        return [0, round(first / whole * self.steps), round((first + second) / whole * self.steps), self.steps]

    def deviation(self, epsilon: float) -> float:
        """Of the noise of a weight in a step; for relative modes in units of an update's or a weight's own size."""
        from theory.adaptive_noise import noise_deviation

        return noise_deviation(
            self.mode, epsilon, learning_rate=self.learning_rate, update_norm=1.0, weights=1, weight_rms=1.0
        )

    def spread(self, curvature: float, epsilon: float) -> NoisyVariances:
        """Stationary variances, as if all directions had this curvature."""
        from theory.adaptive_noise import noisy_variances, relative_variances

        modes = self.modes([curvature])
        if self.mode in RELATIVE:
            return relative_variances(modes, self.mode, epsilon, self.batches)
        return noisy_variances(modes, self.deviation(epsilon), self.batches)

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def epsilon_rows(setting: Setting, epsilons: Sequence[float]) -> list[dict[str, Any]]:
    """What an epsilon is, and what it makes of a weight without curvature, by the end and in the long run.

    Args:
        setting: what was told.
        epsilons: of the mode.

    Returns:
        A row for each.
    """
    from theory.adaptive_noise import (
        he_deviation,
        injected_variances,
        noise_norm,
        relative_gain,
        self_feeding_curvature,
    )

    rows: list[dict[str, Any]] = []
    decay, he = setting.modes([0.0]), he_deviation(setting.fan_in)
    for epsilon in epsilons:
        deviation = setting.deviation(epsilon)
        row: dict[str, Any] = {"epsilon": epsilon}
        if setting.mode == "relative_update":
            beta = setting.momentum
            row["norm_over_updates"] = deviation
            row["flat_factor"] = math.sqrt(1 + epsilon**2 * (1 - beta) / (1 + beta))
            row["self_feeding_curvature"] = self_feeding_curvature(setting.learning_rate, beta, epsilon)
        elif setting.mode == "relative_weight":
            # A weight whose noise is so large compared to itself grows by this factor, without decay.
            growth = setting.steps / 2 * math.log1p(epsilon**2)
            gain = relative_gain(decay, setting.mode, epsilon)
            row["norm_over_weights"] = deviation
            row["growth"] = math.exp(growth) if growth < 700 else math.inf
            row |= {"gain_by_decay": gain, "stationary": gain < 1}
        else:
            end = deviation * math.sqrt(setting.steps)
            kept = math.sqrt(float(injected_variances(decay, deviation).weight[0]))
            row |= {"deviation": deviation, "norm": noise_norm(deviation, setting.weights), "end": end}
            row |= {"stationary": kept, "end_over_he": end / he, "stationary_over_he": kept / he}
        rows.append(row)
    return rows


def curvature_rows(setting: Setting, epsilons: Sequence[float], curvatures: Sequence[float]) -> list[dict[str, float]]:
    """Spread of weights, and size of updates, along directions.

    Args:
        setting: what was told.
        epsilons: of the mode.
        curvatures: without decay.

    Returns:
        A row for each of both.
    """
    rows = []
    for curvature in curvatures:
        plain = setting.spread(curvature, 0.0)
        for epsilon in epsilons:
            found = setting.spread(curvature, epsilon)
            columns = (plain.weight, found.weight, plain.update, found.update)
            values = [math.sqrt(float(column[0])) for column in columns]
            names = ("weight_by_batches", "weight", "update_by_batches", "update")
            rows.append({"curvature": curvature, "epsilon": epsilon, **dict(zip(names, values, strict=True))})
    return rows


def schedule_rows(setting: Setting) -> list[dict[str, Any]]:
    """What each schedule injects in all.

    Args:
        setting: what was told.

    Returns:
        A row for each kind: the sum of variances over the steps, in the units of ``Setting.deviation``; the standard
        deviation of a weight at the end, without curvature and without or with decay (None for relative modes); the
        factor on its epsilons that makes its noise that of the fixed schedule (None without noise).
    """
    import numpy as np

    from theory.adaptive_noise import final_variance
    from theory.noise_schedule import scales

    phases, rows = setting.phases, []
    # Temperatures enter by their roots. Not step by step: an epsilon that has decayed is smaller than one may be given.
    unit, power = (setting.deviation(1.0), 0.5) if setting.mode == "sgld" else (1.0, 1.0)
    deviations = {
        name: unit * np.array(scales(schedule, phases)) ** power for name, schedule in setting.schedules.items()
    }
    budget = float((deviations["fixed"] ** 2).sum())
    for name, found in deviations.items():
        total = float((found**2).sum())
        factor = (budget / total) ** (0.5 / power) if total > 0 and budget > 0 else None
        end = kept = None
        if setting.mode not in RELATIVE:
            end = math.sqrt(total)
            kept = math.sqrt(float(final_variance(setting.modes([0.0]), found)[0]))
        rows.append({"schedule": name, "injected": total, "mean": total / setting.steps, "end": end, "kept": kept})
        rows[-1]["equal_noise_factor"] = factor
    return rows


def write_predictions(out: Path, setting: Setting, epsilons: Sequence[float], tables: dict[str, Any]) -> None:
    """``epsilons.csv``, ``curvatures.csv``, ``schedules.csv`` and ``adaptive_noise.png``.

    Args:
        out: directory, which exists.
        setting: what was told.
        epsilons: of the mode.
        tables: name -> rows.
    """
    import numpy as np

    from figures.adaptive_noise import NoisePlan, figure_noise_plan
    from theory.adaptive_noise import he_deviation
    from theory.noise_schedule import scales

    for name, rows in tables.items():
        write_records(out / f"{name}.csv", rows)
    positive = sorted({epsilon for epsilon in epsilons if epsilon > 0}) or [1.0]
    ends = (positive[0], positive[-1]) if len(positive) > 1 else (positive[0] / 10, positive[0] * 10)
    grid = np.geomspace(max(ends[0], 1e-40), min(ends[1], 1e40), 41)
    deviations, words, reference = _deviations(setting, grid)
    steepest = 2 * (1 + setting.momentum) / setting.learning_rate
    curvatures = np.geomspace(1e-6 * steepest, 0.5 * steepest, 61)
    spreads: dict[str, Floats] = {}
    for epsilon in [0.0, *positive[:: max(1, len(positive) // 4)]]:
        found = [math.sqrt(float(setting.spread(float(c), epsilon).weight[0])) for c in curvatures]
        spreads[f"$\\epsilon$ = {epsilon:g}" if epsilon else "batches only"] = np.array(found)
    if not setting.gradient_noise:
        del spreads["batches only"]
    if not any((each > 0).any() for each in spreads.values()):
        spreads = {"no noise": np.zeros_like(curvatures)}
    chosen = np.unique(np.linspace(0, setting.steps - 1, 400).astype(int))
    phases = setting.phases
    lines = {name: np.array(scales(each, phases))[chosen] for name, each in setting.schedules.items() if name != "none"}
    first, second, third = setting.phase_ends[:3]
    plan = NoisePlan(
        grid,
        deviations,
        words,
        None if setting.mode in RELATIVE else he_deviation(setting.fan_in),
        reference,
        curvatures + setting.weight_decay,
        spreads,
        chosen.astype(float),
        lines,
        (first, second, third),
    )
    write_figure(out / "adaptive_noise.png", figure_noise_plan(plan))


def _deviations(setting: Setting, grid: Floats) -> tuple[dict[str, Floats], str, str]:
    """Curves of the first panel, what they are, and what the line to compare with is."""
    import numpy as np

    if setting.mode not in RELATIVE:
        rows = epsilon_rows(setting, grid.tolist())
        curves = {"end, no decay": np.array([row["end"] for row in rows])}
        if setting.weight_decay > 0:
            curves["long run, decay"] = np.array([row["stationary"] for row in rows])
        return curves, "std of a flat weight", "He initialisation"
    curves = {}
    for part in (1e-4, 1e-2, 1e-1):
        curvature = part * (1 - setting.momentum) / setting.learning_rate
        plain = setting.spread(curvature, 0.0).weight[0]
        if plain > 0:
            values = [math.sqrt(float(setting.spread(curvature, e).weight[0] / plain)) for e in grid.tolist()]
            curves[f"curvature {curvature:.2g}"] = np.array(values)
    return curves or {"no batch noise": np.zeros_like(grid)}, "std of a weight, times", ""


def phase_words(setting: Setting) -> str:
    """The phases of the training in words.

    Args:
        setting: what was told.

    Returns:
        Such as ``"exploration 0-99"``.
    """
    from theory.training_phases import PHASES

    spans = pairwise(setting.phase_ends)
    return ", ".join(f"{p} {a}-{b - 1}" for p, (a, b) in zip(PHASES, spans, strict=True) if b > a)
