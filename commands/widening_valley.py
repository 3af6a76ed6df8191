"""``jostle predict widening-valley`` and ``jostle simulate widening-valley``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.shared import (
    comparison_json,
    comparison_row,
    emit_json,
    end_simulation,
    output_options,
    print_table,
    refuse_options,
    simulation_options,
    simulation_progress,
    write_csv,
)

if TYPE_CHECKING:
    from theory.absorbing import Floats
    from theory.estimate import Estimate
    from theory.gradient_noise import GradientNoise
    from theory.widening_valley import Valley

KINDS = {"pgd": "PGD", "anti_pgd": "Anti-PGD", "reshuffled": "reshuffled"}
"""Noise on the weights, as an option and in words."""

STEPS = (100, 1000, 10_000, 40_000)
"""At which the sharpness is told, by default; brought up to whole epochs."""

MARGINS = {"pgd": 0.04, "anti_pgd": 0.005, "reshuffled": 0.005}
"""Model error allowed, as a fraction: no form is exact, least of all the moment map of PGD at the edge of stability."""

LARGEST_MARGIN = 0.05
"""Beyond it a prediction of the flow is outside its regime."""

PGD_DIMENSION, PGD_NOISE = 100, 0.02
"""Where the margin for PGD was measured: d from, and eta d s^2 up to."""

LARGEST_DIMENSION = 10**5


@dataclass(frozen=True)
class Setting:
    """What both commands are told.

    Attributes:
        valley: d and eta.
        noise_scale: s.
        sharpness: |u|^2 at the start.
        kinds: of noise.
        batches: M.
        steps: ascending.
        law: of xi.
    """

    valley: Valley
    noise_scale: float
    sharpness: float
    kinds: tuple[str, ...]
    batches: int
    steps: tuple[int, ...]
    law: str

    def law_of(self, kind: str) -> str:
        """The law of xi: that of reshuffled batches is always Gaussian."""
        return "gaussian" if kind == "reshuffled" else self.law

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dimension": self.valley.dimension,
            "learning_rate": self.valley.learning_rate,
            "noise_scale": self.noise_scale,
            "sharpness": self.sharpness,
            "kinds": list(self.kinds),
            "batches": self.batches,
            "steps": list(self.steps),
            "law": self.law,
        }


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--law",
            type=click.Choice(("gaussian", "rademacher")),
            default="gaussian",
            show_default=True,
            help="Of xi, for pgd and anti_pgd; reshuffled batches are gaussian.",
        ),
        click.option(
            "--steps",
            "steps",
            multiple=True,
            type=click.IntRange(1, 10**6),
            help=f"Repeatable; default {', '.join(map(str, STEPS))}. Whole epochs, for reshuffled.",
        ),
        click.option(
            "--batches", default=20, show_default=True, type=click.IntRange(2, 10**6), help="M in an epoch, reshuffled."
        ),
        click.option(
            "--kind", "kinds", multiple=True, type=click.Choice(tuple(KINDS)), help="Repeatable; default all."
        ),
        click.option("--sharpness", default=100.0, show_default=True, help="|u|^2 > 0 at the start, below 2 / eta."),
        click.option("--noise-scale", default=0.05, show_default=True, help="s, of each coordinate at each step."),
        click.option("--learning-rate", default=0.005, show_default=True, help="eta."),
        click.option(
            "--dimension", default=100, show_default=True, type=click.IntRange(1, LARGEST_DIMENSION), help="d, of u."
        ),
    ):
        command = option(command)
    return command


def _setting(
    dimension: int,
    learning_rate: float,
    noise_scale: float,
    sharpness: float,
    kinds: Sequence[str],
    batches: int,
    steps: Sequence[int],
    law: str,
) -> Setting:
    from theory.passage_law_base import positive
    from theory.widening_valley import Valley

    chosen = tuple(kind for kind in KINDS if kind in kinds or not kinds)
    context = click.get_current_context()
    if "reshuffled" not in chosen:
        refuse_options(context, ["batches"], "--kind reshuffled")
    elif len(chosen) == 1:
        refuse_options(context, ["law"], "--kind pgd or --kind anti_pgd")
    epoch = batches if "reshuffled" in chosen else 1
    at = sorted(set(steps or (epoch * -(-step // epoch) for step in STEPS)))
    broken = [step for step in at if step % epoch]
    if broken:
        raise ValueError(f"--steps {broken[0]} must be a whole number of epochs, each of {epoch} steps")
    valley = Valley(dimension, learning_rate)
    scale, start = positive("noise_scale", noise_scale), positive("sharpness", sharpness)
    return Setting(valley, scale, start, chosen, batches, tuple(at), law)


def _noise(setting: Setting, kind: str) -> GradientNoise:
    """Of the gradient, so that the noise on the weights has the scale s."""
    from theory import gradient_noise

    eta, scale = setting.valley.learning_rate, setting.noise_scale
    if kind == "anti_pgd":
        return gradient_noise.AntiCorrelatedIncrements.of_weights(scale, eta)
    variance = (scale / eta) ** 2
    if kind == "pgd":
        return gradient_noise.WhiteNoise(variance)
    return gradient_noise.Reshuffled(setting.batches, variance)


def _flow(setting: Setting, kind: str, steps: Sequence[int]) -> Floats:
    """The sharpness with v eliminated."""
    from theory.widening_valley import anti_pgd_flow, pgd_flow, sharpness_flow

    if kind == "reshuffled":
        return sharpness_flow(setting.valley, _noise(setting, kind), setting.sharpness, steps)
    flow = pgd_flow if kind == "pgd" else anti_pgd_flow
    return flow(setting.valley, setting.noise_scale, setting.sharpness, steps)


def _moments(setting: Setting, kind: str, steps: Sequence[int]) -> Floats | None:
    """The sharpness followed step by step; None for reshuffled batches, which have no such map."""
    from theory.widening_valley import anti_pgd_moments, pgd_moments

    start = (setting.valley, setting.noise_scale, setting.sharpness, steps[-1])
    if kind == "pgd":
        return pgd_moments(*start).sharpness[list(steps)]
    if kind == "anti_pgd":
        return anti_pgd_moments(*start, law=setting.law).sharpness[list(steps)]
    return None


def _regulariser(setting: Setting, kind: str, steps: Sequence[int]) -> Floats | None:
    """q_0 e^{-2 eta s_eff^2 n}: the effective regulariser alone; None for noise that has none."""
    import numpy as np

    from theory.widening_valley import smoothing_variance

    square = smoothing_variance(setting.valley, _noise(setting, kind))
    if np.isinf(square):
        return None
    return setting.sharpness * np.exp(-2 * setting.valley.learning_rate * square * np.asarray(steps, dtype=float))


def _limits(setting: Setting, kind: str, predicted: float) -> tuple[float, tuple[str, ...]]:
    """The margin of a prediction, and why it is outside its regime."""
    from theory.widening_valley import smoothing_variance

    valley = setting.valley
    if kind == "pgd":
        strength = valley.learning_rate * valley.dimension * setting.noise_scale**2
        if valley.dimension < PGD_DIMENSION or strength > PGD_NOISE:
            known = f"d >= {PGD_DIMENSION} and eta d s^2 <= {PGD_NOISE}"
            return MARGINS[kind], (f"pgd: the error of the moment map is known for {known} only",)
    if kind == "reshuffled":
        # Within an epoch |u|^2 is on average d s_eff^2 higher than at its ends, which the flow neglects.
        excess = valley.dimension * smoothing_variance(valley, _noise(setting, kind))
        margin = MARGINS[kind] + excess / (2 * predicted) if predicted > 0 else 1.0
        weak = margin <= LARGEST_MARGIN
        return margin, () if weak else ("reshuffled: within an epoch the noise adds too much to a low sharpness",)
    return MARGINS[kind], ()


def _write(out: Path, setting: Setting, simulated: dict[str, Sequence[Estimate]]) -> None:
    """``valley.csv`` and ``valley.png``, from a tenth of the first step to the last."""
    import numpy as np

    from figures.style import png_bytes
    from figures.widening_valley import SharpnessPath, figure_widening_valley
    from nnval.engine.run_directory import write_whole

    grid = np.unique(np.geomspace(max(setting.steps[0] / 10, 1), setting.steps[-1], 120).round().astype(int)).tolist()
    out.mkdir(parents=True, exist_ok=True)
    header = ("kind", "step", "flow", "moments", "regulariser", "simulated", "standard_error")
    paths, rows = [], list[tuple[Any, ...]]([header])
    for kind in setting.kinds:
        estimates = dict(zip(setting.steps, simulated[kind], strict=True)) if kind in simulated else {}
        steps = sorted({*grid, *setting.steps})
        flow = _flow(setting, kind, steps)
        moments, regulariser = _moments(setting, kind, steps), _regulariser(setting, kind, steps)
        for number, step in enumerate(steps):
            cells = ["" if column is None else float(column[number]) for column in (flow, moments, regulariser)]
            found = estimates.get(step)
            rows.append((kind, step, *cells, *(("", "") if found is None else (found.value, found.standard_error))))
        points = tuple(estimates.items())
        predicted = flow if moments is None else moments
        paths.append(SharpnessPath(KINDS[kind], np.array(steps, dtype=float), predicted, regulariser, points))
    write_csv(out / "valley.csv", rows)
    edge = setting.valley.edge_of_stability if "pgd" in setting.kinds else None
    title = f"valley $v^2|u|^2/2$, d = {setting.valley.dimension}, $\\eta$ = {setting.valley.learning_rate:g}"
    figure = figure_widening_valley(f"{title}, s = {setting.noise_scale:g}", paths, edge=edge)
    write_whole(out / "valley.png", png_bytes(figure))


@click.command("widening-valley")
@_options
@click.option("--out", type=click.Path(path_type=Path), help="Directory for a CSV file and a figure.")
@output_options
def predict_widening_valley(out: Path | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """Sharpness |u|^2 in the valley v^2 |u|^2 / 2 under noise: PGD climbs, anti-correlated noise flattens.

    \b
    jostle predict widening-valley --dimension 100 --learning-rate 0.005 --noise-scale 0.05
    jostle predict widening-valley --kind reshuffled --batches 50 --steps 10000 --out valley
    """
    setting = _setting(**given)
    columns = (_flow, _moments, _regulariser)
    rows = []
    for kind in setting.kinds:
        values = [of(setting, kind, setting.steps) for of in columns]
        for number, step in enumerate(setting.steps):
            rows.append((kind, step, *(None if value is None else float(value[number]) for value in values)))
    if out is not None:
        _write(out, setting, {})
    if as_json:
        keys = ("kind", "step", "flow", "moments", "regulariser")
        result = {
            "edge_of_stability": setting.valley.edge_of_stability,
            "pgd_saturation": setting.valley.pgd_saturation,
            "sharpness": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        emit_json("predict widening-valley", setting.parameters(), None, result)
        return
    click.echo(f"sharpness |u|^2; edge of stability {setting.valley.edge_of_stability:g}")
    table = [(kind, step, *("-" if x is None else f"{x:.6g}" for x in values)) for kind, step, *values in rows]
    print_table(("noise", "step", "flow", "moment map", "regulariser alone"), table)


@click.command("widening-valley")
@_options
@simulation_options(runs=64)
@output_options
def simulate_widening_valley(
    runs: int, threads: int | None, seed: int, out: Path | None, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Simulate noise in the valley and hold the sharpness against the theory. Exit code 3 if they disagree.

    The prediction is the moment map, or the flow for reshuffled batches. Neither is exact: z and verdict allow a margin
    of 0.5 %, for PGD of 4 %, and more for reshuffled batches where their noise is not small beside the valley.

    \b
    jostle simulate widening-valley --kind anti_pgd --steps 1000 --steps 10000
    """
    from sim.random_streams import stream
    from sim.widening_valley import simulate_valley
    from theory.estimate import Estimate, compare, holm

    setting = _setting(**given)
    comparisons, flows, points, done = [], [], {}, runs
    with simulation_progress(quiet) as progress:
        for kind in setting.kinds:
            flow, moments = _flow(setting, kind, setting.steps), _moments(setting, kind, setting.steps)
            simulated = simulate_valley(
                setting.valley,
                kind,
                stream(seed, f"simulate widening-valley {kind}"),
                noise_scale=setting.noise_scale,
                sharpness=setting.sharpness,
                steps=setting.steps,
                replicas=runs,
                law=setting.law_of(kind),
                batches_per_epoch=setting.batches if kind == "reshuffled" else None,
                threads=threads,
                progress=progress,
            )
            done, points[kind] = simulated.replicas, simulated.sharpness
            for step, value, estimate in zip(
                setting.steps, flow if moments is None else moments, simulated.sharpness, strict=True
            ):
                margin, reasons = _limits(setting, kind, float(value))
                predicted, what = Estimate(float(value), 0.0, 1), f"{kind}, step {step}"
                comparisons.append(compare(what, predicted, estimate, margin=margin, reasons=reasons))
            flows += flow.tolist()
            if done < runs:
                break
    comparisons = holm(comparisons)
    if out is not None:
        _write(out, setting, points)
    if as_json:
        rows = [
            {**comparison_json(c), "flow": flow, "margin": c.margin, "reasons": list(c.reasons)}
            for c, flow in zip(comparisons, flows, strict=True)
        ]
        result = {"comparisons": rows, "stopped_early": done < runs}
        emit_json("simulate widening-valley", setting.parameters() | {"replicas": runs}, seed, result)
    else:
        rows = []
        for c, flow in zip(comparisons, flows, strict=True):
            quantity, theory, measured, z, verdict = comparison_row(c)
            rows.append((quantity, f"{flow:.6g}", theory, f"{c.margin:.1%}", measured, z, verdict))
        header = ("sharpness |u|^2", "flow", "theory", "margin", "simulated", "z", "verdict")
        print_table(header, rows, left=(0, 6))
        click.echo("theory: moment map, or the flow for reshuffled; not exact, so that z counts from beyond the margin")
        for reason in sorted({reason for c in comparisons for reason in c.reasons}):
            click.echo(f"outside regime: {reason}")
        click.echo(f"{done} replicas; seed {seed}")
    end_simulation(comparisons, done < runs)
