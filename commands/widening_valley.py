"""``jostle predict widening-valley`` and ``jostle simulate widening-valley``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import prepared_directory, write_csv, write_figure
from commands.options import (
    learning_rate_option,
    out_option,
    output_options,
    refuse_options,
    simulation_options,
    with_options,
)
from commands.shared import emit_json, print_table
from commands.simulations import (
    Z_FOOTER,
    comparison_json,
    comparison_row,
    completeness,
    end_simulation,
    print_remarks,
    simulate_each,
)
from commands.valley_predictions import (
    KINDS,
    Setting,
    limits,
    sharpness_of_flow,
    sharpness_of_moments,
    sharpness_of_regulariser,
)

if TYPE_CHECKING:
    from sim.ensemble import Progress
    from sim.widening_valley import SimulatedValley
    from theory.estimate import Estimate

STEPS = (100, 1000, 10_000, 40_000)
"""At which the sharpness is told, by default; brought up to whole epochs."""

LARGEST_DIMENSION = 10**5

WEAKEST, STRONGEST = 1e-40, 1e40
"""Noise, so that no power of it leaves the range of numbers."""

SHORTEST = 10
"""Steps that are drawn at least."""

COLUMNS = (
    "flow: E|u|^2 with v eliminated; moment map: E|u|^2 and E v^2 followed step by step; regulariser alone: "
    "q_0 exp(-2 eta s_eff^2 n)\n-: has none (PGD has no regulariser, reshuffled batches have no moment map)"
)


_options = with_options(
    click.option(
        "--dimension",
        default=100,
        show_default=True,
        type=click.IntRange(1, LARGEST_DIMENSION),
        help="d, coordinates of u.",
    ),
    learning_rate_option(0.005),
    click.option(
        "--noise-scale",
        default=0.05,
        show_default=True,
        help="s > 0, standard deviation of each coordinate of xi, or of the noise of a step for reshuffled.",
    ),
    click.option(
        "--sharpness",
        default=100.0,
        show_default=True,
        help="|u|^2 at the start: > 0, below the edge of stability 2 / eta; for anti_pgd below 2 / eta - d s^2.",
    ),
    click.option(
        "--kind",
        "kinds",
        multiple=True,
        type=click.Choice(tuple(KINDS)),
        help="Of noise, repeatable: independent xi_n (pgd), increments xi_n - xi_{n-1} (anti_pgd), or noise that sums "
        "to zero in each epoch (reshuffled). Default: all.",
    ),
    click.option(
        "--batches",
        default=20,
        show_default=True,
        type=click.IntRange(2, 10**6),
        help="M, batches in an epoch, for reshuffled.",
    ),
    click.option(
        "--steps",
        "steps",
        multiple=True,
        type=click.IntRange(1, 10**6),
        help="At which |u|^2 is told, repeatable; with reshuffled whole epochs. Default: "
        f"{', '.join(map(str, STEPS))}, brought up to whole epochs.",
    ),
    click.option(
        "--law",
        "--distribution",
        "law",
        type=click.Choice(("gaussian", "rademacher")),
        default="gaussian",
        show_default=True,
        help="Of each coordinate of xi, for pgd and anti_pgd (rademacher: +s or -s); reshuffled is gaussian.",
    ),
)


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
    from theory.law_arguments import positive
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
    scale = positive("noise_scale", noise_scale)
    if not WEAKEST <= scale <= STRONGEST:
        raise ValueError(f"--noise-scale {scale:g} must lie between {WEAKEST:g} and {STRONGEST:g}; change the units")
    bound, words = valley.edge_of_stability, "2 / learning-rate"
    if "anti_pgd" in chosen:
        bound, words = bound - dimension * scale * scale, f"{words} - dimension * noise-scale^2"
        if bound <= 0:
            raise ValueError(f"--noise-scale {scale:g} is too strong: {words} = {bound:g} must be > 0; lower it")
    if not 0 < sharpness < bound:
        raise ValueError(
            f"--sharpness {sharpness:g} must be > 0 and below the edge of stability, here {words} = {bound:g}; lower "
            "the learning rate or the noise"
        )
    return Setting(valley, scale, sharpness, chosen, batches, tuple(at), law)


def _percent(margin: float) -> str:
    """A margin, unless it says nothing."""
    return f"{margin:.1%}" if margin < 1 else "-"


def _write(out: Path, setting: Setting, simulated: dict[str, Sequence[Estimate]]) -> None:
    """``valley.csv`` and ``valley.png``, from a tenth of the first step to the last, ten steps at least."""
    import numpy as np

    from figures.widening_valley import SharpnessPath, figure_widening_valley

    ends = max(setting.steps[0] / 10, 1), max(setting.steps[-1], SHORTEST)
    grid = np.unique(np.geomspace(*ends, 120).round().astype(int)).tolist()
    header = ("kind", "step", "flow", "moments", "regulariser", "simulated", "standard_error")
    rows: list[tuple[Any, ...]] = [header]
    paths = []
    for kind in setting.kinds:
        estimates = dict(zip(setting.steps, simulated[kind], strict=True)) if kind in simulated else {}
        steps = sorted({*grid, *setting.steps})
        flow = sharpness_of_flow(setting, kind, steps)
        moments = sharpness_of_moments(setting, kind, steps)
        regulariser = sharpness_of_regulariser(setting, kind, steps)
        for number, step in enumerate(steps):
            cells = [None if column is None else float(column[number]) for column in (flow, moments, regulariser)]
            found = estimates.get(step)
            rows.append((kind, step, *cells, *((None, None) if found is None else (found.value, found.standard_error))))
        points = tuple(estimates.items())
        predicted = flow if moments is None else moments
        outside = np.array([bool(limits(setting, kind, value)[1]) for value in predicted.tolist()])
        at = np.array(steps, dtype=float)
        paths.append(SharpnessPath(KINDS[kind], at, predicted, regulariser, points, outside))
    write_csv(out / "valley.csv", rows)
    edge = setting.valley.edge_of_stability if "pgd" in setting.kinds else None
    title = f"valley $v^2|u|^2/2$, d = {setting.valley.dimension}, $\\eta$ = {setting.valley.learning_rate:g}"
    title += f", s = {setting.noise_scale:g}"
    if "reshuffled" in setting.kinds:
        title += f", M = {setting.batches}"
    write_figure(out / "valley.png", figure_widening_valley(title, paths, edge=edge))


@click.command(
    "widening-valley", short_help="Sharpness in a widening valley: PGD climbs, anti-correlated noise flattens."
)
@_options
@out_option
@output_options
def predict_widening_valley(out: Path | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """Sharpness |u|^2 in the valley v^2 |u|^2 / 2 under noise: PGD climbs, anti-correlated noise flattens.

    \b
    jostle predict widening-valley --dimension 100 --learning-rate 0.005 --noise-scale 0.05
    jostle predict widening-valley --kind reshuffled --batches 50 --steps 10000 --out valley
    """
    setting = _setting(**given)
    directory = None if out is None else prepared_directory(out)
    columns = (sharpness_of_flow, sharpness_of_moments, sharpness_of_regulariser)
    rows, bounds = [], []
    for kind in setting.kinds:
        flow, moments, regulariser = (of(setting, kind, setting.steps) for of in columns)
        assert flow is not None
        for number, step in enumerate(setting.steps):
            values = (None if x is None else float(x[number]) for x in (flow, moments, regulariser))
            rows.append((kind, step, *values))
            bounds.append(limits(setting, kind, float((flow if moments is None else moments)[number])))
    reasons: dict[str, list[str]] = {}
    for (_, step, *_), (_, found) in zip(rows, bounds, strict=True):
        for reason in found:
            reasons.setdefault(reason, []).append(str(step))
    if as_json:
        keys = ("kind", "step", "flow", "moments", "regulariser")
        result = {
            "edge_of_stability": setting.valley.edge_of_stability,
            "pgd_saturation": setting.valley.pgd_saturation,
            "sharpness": [
                dict(zip(keys, row, strict=True)) | {"margin": margin, "reasons": list(found)}
                for row, (margin, found) in zip(rows, bounds, strict=True)
            ],
        }
        emit_json("predict widening-valley", setting.parameters(), None, result)
    else:
        click.echo(f"sharpness |u|^2; edge of stability {setting.valley.edge_of_stability:g}")
        table = [
            (kind, step, *("-" if x is None else f"{x:.6g}" for x in values), _percent(margin))
            for (kind, step, *values), (margin, _) in zip(rows, bounds, strict=True)
        ]
        print_table(("noise", "step", "flow", "moment map", "regulariser alone", "margin"), table)
        click.echo(COLUMNS)
        click.echo("margin: error that the moment map, or the flow for reshuffled, may have")
        for reason, at in reasons.items():
            click.echo(f"outside regime: {reason}; step {', '.join(at)}")
    if directory is not None:
        _write(directory, setting, {})


@click.command("widening-valley", short_help="Noise in a widening valley, beside the theory of its sharpness.")
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
    directory = None if out is None else prepared_directory(out)

    def simulate(kind: str, progress: Progress | None) -> SimulatedValley:
        return simulate_valley(
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

    results = simulate_each(setting.kinds, simulate, quiet=quiet)
    comparisons, flows = [], []
    for kind, found in results.items():
        flow = sharpness_of_flow(setting, kind, setting.steps)
        moments = sharpness_of_moments(setting, kind, setting.steps)
        predictions = (flow if moments is None else moments).tolist()
        for step, value, estimate in zip(setting.steps, predictions, found.sharpness, strict=True):
            margin, reasons = limits(setting, kind, value)
            what = f"{kind}, step {step}"
            comparisons.append(compare(what, Estimate(value, 0.0, 1), estimate, margin=margin, reasons=reasons))
        flows += flow.tolist()
    comparisons = holm(comparisons)
    missing, done, stopped = completeness(setting.kinds, results)
    if as_json:
        rows = [
            {**comparison_json(c), "flow": flow, "margin": c.margin} for c, flow in zip(comparisons, flows, strict=True)
        ]
        result = {"comparisons": rows, "not_simulated": missing, "stopped_early": stopped}
        emit_json("simulate widening-valley", setting.parameters() | {"replicas": runs}, seed, result)
    else:
        rows = []
        for c, flow in zip(comparisons, flows, strict=True):
            quantity, theory, measured, z, verdict = comparison_row(c)
            rows.append((quantity, f"{flow:.6g}", theory, _percent(c.margin), measured, z, verdict))
        header = ("sharpness |u|^2", "flow", "theory", "margin", "simulated", "z", "verdict")
        print_table(header, rows, left=(0, 6))
        click.echo("flow: E|u|^2 with v eliminated; theory: moment map, E|u|^2 and E v^2 step by step, or the flow for")
        click.echo("reshuffled; not exact, so that z counts from beyond the margin (-: no margin is known)")
        click.echo(Z_FOOTER)
        print_remarks(comparisons, (), missing)
        click.echo(f"{done} runs; seed {seed}")
    if directory is not None:
        _write(directory, setting, {kind: found.sharpness for kind, found in results.items()})
    end_simulation(comparisons, stopped)
