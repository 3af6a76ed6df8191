"""What ``simulate adaptive-noise`` holds against theory, and how it shows the closed loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.files import write_comparisons, write_csv, write_figure
from commands.shared import estimate_json

if TYPE_CHECKING:
    from sim.adaptive_noise import Landscape, SimulatedTrainings
    from sim.ensemble import Progress
    from theory.estimate import Comparison
    from theory.training_phases import PhaseMachine

CURVATURES = (1.0, 5.0, 20.0)
"""Of the quadratic, as shares of 1 / (100 learning rates)."""

PASSAGE_MARGIN = 0.05
"""Of mean steps out of a well, which hold for small steps."""

SMALL_STEPS = 0.1
"""eta |U''| / (1 - beta)^2 in the wells up to which steps are small."""

SMALL_NOISE = 0.05
"""Epsilon over the way from well to well up to which a weight does not jump past the target by itself."""

PASSAGES = 15
"""A run that waits for a passage is given up after so many mean passage times."""

MOST_STEPS = 10**6
"""Of a run that waits for a passage; theory that expects longer is not compared."""


@dataclass(frozen=True)
class Loop:
    """What the command is told.

    Attributes:
        learning_rate: eta.
        momentum: beta.
        phase_epsilons: (high, medium, low), of absolute noise.
        decay: of epsilon [1/steps].
        barrier: of the double well.
        tilt: likewise.
        coordinates: quadratic ones beside it.
        noise_gain: of the gradient noise.
        steps: of each training.
        horizon: of the machine.
        min_dwell: of the machine.
        monotone: whether phases only go forward.
    """

    learning_rate: float
    momentum: float
    phase_epsilons: tuple[float, float, float]
    decay: float
    barrier: float
    tilt: float
    coordinates: int
    noise_gain: float
    steps: int
    horizon: int
    min_dwell: int
    monotone: bool

    def __post_init__(self) -> None:
        from theory.heavy_ball import HeavyBall
        from theory.noise_schedule import NoiseSchedule

        HeavyBall(self.learning_rate, 0.0, self.momentum)  # these refuse what is out of range
        NoiseSchedule("full", self.phase_epsilons, self.decay)
        _ = self.landscape

    @property
    def machine(self) -> PhaseMachine:
        """Its options."""
        from theory.training_phases import PhaseMachine

        return PhaseMachine(horizon=self.horizon, min_dwell=self.min_dwell, monotone=self.monotone)

    @property
    def landscape(self) -> Landscape:
        """A double well, quiet itself, beside coordinates that take the training through its phases."""
        import numpy as np

        from sim.adaptive_noise import double_well_landscape

        curvature = np.geomspace(0.03, 1.0, self.coordinates)
        return double_well_landscape(
            barrier=self.barrier,
            tilt=self.tilt,
            curvature=curvature,
            start=4.0 / np.sqrt(curvature),
            noise=[0.3, *[1.0] * self.coordinates],
            noise_gain=self.noise_gain,
        )

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "phase_epsilons": list(self.phase_epsilons)}


def quadratic_comparisons(loop: Loop, runs: int, seed: int, threads: int | None) -> list[Comparison]:
    """Variances of weights and updates on a quadratic at constant noise, absolute and relative to updates.

    Args:
        loop: what was told; its medium epsilon counts.
        runs: replicas.
        seed: of the random numbers.
        threads: at most.

    Returns:
        Two comparisons for each direction and mode.
    """
    from sim.adaptive_noise import quadratic_landscape, simulate_adaptive_noise
    from sim.random_streams import stream
    from sim.weight_variance import steps_to_forget
    from theory.adaptive_noise import noisy_variances, relative_gain, relative_variances
    from theory.estimate import Estimate, compare
    from theory.gradient_noise import WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.noise_schedule import NoiseSchedule

    curvatures = [share * (1 - loop.momentum) ** 2 / (100 * loop.learning_rate) for share in CURVATURES]
    modes = HeavyBall(loop.learning_rate, curvatures, loop.momentum)
    epsilon = loop.phase_epsilons[1]
    before = steps_to_forget(modes, 1)
    comparisons = []
    # As much noise of batches as of epsilon, in the direction in the middle; relative noise far from feeding itself.
    deviation = epsilon * (1 - loop.momentum) / loop.learning_rate or 1.0
    batches = WhiteNoise(deviation**2)
    ratio = math.sqrt(0.1 / max(relative_gain(modes, "relative_update", 1.0), 1e-3))
    for mode, scale in (("absolute", epsilon), ("relative_update", min(ratio, 1.0))):
        found = simulate_adaptive_noise(
            quadratic_landscape(curvatures, noise=deviation),
            NoiseSchedule("fixed", (0.0, scale, 0.0)),
            stream(seed, "simulate adaptive-noise quadratic", len(comparisons)),
            learning_rate=loop.learning_rate,
            momentum=loop.momentum,
            mode=mode,
            machine=loop.machine,
            steps=3 * before,
            burn_in=before,
            replicas=runs,
            threads=threads,
        )
        if mode == "absolute":
            exact = noisy_variances(modes, scale, batches)
        else:
            exact = relative_variances(modes, mode, scale, batches)
        for curvature, weight, update, w, u in zip(
            curvatures,
            exact.weight.tolist(),
            exact.update.tolist(),
            found.weight_variance,
            found.update_variance,
            strict=True,
        ):
            for name, value, estimate in (("weight", weight, w), ("update", update, u)):
                what = f"{name} variance, {mode} {scale:.3g}, curvature {curvature:.3g}"
                comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate))
    return comparisons


def passage_comparison(loop: Loop, runs: int, seed: int, threads: int | None) -> list[Comparison]:
    """Mean steps out of the worse well at constant noise of the high epsilon.

    Args:
        loop: what was told.
        runs: replicas.
        seed: of the random numbers.
        threads: at most.

    Returns:
        One comparison, or none where theory expects more than ``MOST_STEPS``.
    """
    import numpy as np

    from sim.adaptive_noise import double_well_landscape, simulate_adaptive_noise
    from sim.random_streams import stream
    from theory.adaptive_noise import mean_passage_steps, noise_temperature
    from theory.estimate import Estimate, compare
    from theory.noise_schedule import NoiseSchedule
    from theory.potentials import Potential

    epsilon = loop.phase_epsilons[0]
    rate, momentum = loop.learning_rate, loop.momentum
    if noise_temperature(rate, momentum, epsilon) == 0:
        return []
    well = double_well_landscape(barrier=loop.barrier, tilt=loop.tilt, noise=0.0)
    potential = Potential(f"{loop.barrier!r} * (x**2 - 1)**2 - {loop.tilt!r} * x")
    start = float(well.start[0])
    predicted = mean_passage_steps(
        potential, learning_rate=rate, momentum=momentum, epsilon=epsilon, start=start, target=well.target
    )
    limit = PASSAGES * predicted
    if not limit <= MOST_STEPS:
        return []
    found = simulate_adaptive_noise(
        well,
        NoiseSchedule("fixed", (epsilon, epsilon, epsilon)),
        stream(seed, "simulate adaptive-noise passage"),
        learning_rate=rate,
        momentum=momentum,
        steps=max(math.ceil(limit), 2),
        replicas=runs,
        threads=threads,
    )
    steepest = 12 * loop.barrier * float(np.square([start, well.target]).max()) - 4 * loop.barrier
    reasons = []
    if rate * steepest > SMALL_STEPS * (1 - momentum) ** 2:
        reasons.append(
            f"mean steps out of a well: learning rate times curvature is {rate * steepest:.2g} in a "
            f"well, above {SMALL_STEPS:g} (1 - momentum)^2"
        )
    way = well.target - start
    if epsilon > SMALL_NOISE * way:
        reasons.append(
            f"mean steps out of a well: epsilon {epsilon:g} is {epsilon / way:.2g} of the way to the other, above "
            f"{SMALL_NOISE:g}"
        )
    what = f"mean steps to the better well, epsilon {epsilon:g}"
    exact = Estimate(predicted, 0.0, 1)
    return [compare(what, exact, found.restricted_passage, margin=PASSAGE_MARGIN, reasons=reasons)]


def train_in_closed_loop(
    loop: Loop, name: str, others: dict[str, SimulatedTrainings], runs: int, seed: int, threads: int | None,
    progress: Progress | None,
) -> SimulatedTrainings:  # fmt: skip
    """One schedule on the double well; all with the same random numbers.

    Args:
        loop: what was told.
        name: none, constant, adaptive or equal noise.
        others: trainings with the schedules before; those of the adaptive one tell how much equal noise is.
        runs: replicas.
        seed: of the random numbers.
        threads: at most.
        progress: told after each chunk of replicas.

    Returns:
        The trainings.
    """
    from sim.adaptive_noise import constant_of_equal_noise, simulate_adaptive_noise
    from sim.random_streams import stream
    from theory.noise_schedule import NoiseSchedule

    kinds = {"none": "none", "constant": "fixed", "adaptive": "full"}
    if name in kinds:
        schedule = NoiseSchedule(kinds[name], loop.phase_epsilons, loop.decay)
    else:
        schedule = constant_of_equal_noise(others["adaptive"])
    return simulate_adaptive_noise(
        loop.landscape,
        schedule,
        stream(seed, "simulate adaptive-noise loop"),
        learning_rate=loop.learning_rate,
        momentum=loop.momentum,
        machine=loop.machine,
        steps=loop.steps,
        replicas=runs,
        threads=threads,
        progress=progress,
    )


def loop_rows(results: dict[str, SimulatedTrainings]) -> list[dict[str, Any]]:
    """What the schedules did.

    Args:
        results: name -> trainings.

    Returns:
        A row for each.
    """
    rows = []
    for name, found in results.items():
        shares = found.phase_shares.mean(axis=1).tolist()
        rows.append(
            {
                "schedule": name,
                "epsilon_rms": math.sqrt(float(found.injected.mean())),
                "found": estimate_json(found.found),
                "restricted_steps": estimate_json(found.restricted_passage),
                "final_loss": estimate_json(found.final_loss),
                "phases": shares,
            }
        )
    return rows


def loop_cells(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The same as cells of a table.

    Args:
        rows: of ``loop_rows``.

    Returns:
        A tuple for each.
    """

    def cell(estimate: dict[str, Any], digits: str) -> str:
        return f"{estimate['value']:{digits}} +- {estimate['standard_error']:.2g}"

    return [
        (
            row["schedule"],
            f"{row['epsilon_rms']:.4g}",
            cell(row["found"], ".3f"),
            cell(row["restricted_steps"], ".0f"),
            cell(row["final_loss"], ".4g"),
            " ".join(f"{100 * share:.0f}" for share in row["phases"]),
        )
        for row in rows
    ]


def write_simulation(out: Path, results: dict[str, SimulatedTrainings], comparisons: Sequence[Comparison]) -> None:
    """``comparisons.csv``, ``schedules.csv`` and ``adaptive_noise.png``.

    Args:
        out: directory, which exists.
        results: name -> trainings.
        comparisons: with their verdicts.
    """
    from figures.adaptive_noise import LoopCurves, figure_closed_loop

    write_comparisons(out / "comparisons.csv", comparisons)
    measured = ("found", "restricted_steps", "final_loss")
    header = ["schedule", "epsilon_rms", *(f"{name}{end}" for name in measured for end in ("", "_standard_error"))]
    lines: list[list[Any]] = [[*header, "exploration", "convergence", "fine_tuning", "replicas"]]
    for row, found in zip(loop_rows(results), results.values(), strict=True):
        values = [row[name][part] for name in measured for part in ("value", "standard_error")]
        lines.append([row["schedule"], row["epsilon_rms"], *values, *row["phases"], found.replicas])
    write_csv(out / "schedules.csv", lines)
    curves = {
        name: LoopCurves(found.recorded, found.losses, found.passage_steps, found.phase_shares)
        for name, found in results.items()
    }
    shown = "adaptive" if "adaptive" in curves else next(iter(curves))
    title = "A double well and quadratic directions, trained with noise"
    write_figure(out / "adaptive_noise.png", figure_closed_loop(title, curves, phases_of=shown))
