"""``jostle validate perturbation``, ``jostle validate resetting`` and ``jostle report``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.experiment_options import PRESET, SHOW_PRESET, run_directory
from commands.experiment_report import REPORT, Shown, print_findings
from commands.options import LEARNING_RATE, output_options, parse_perturbation, refuse_options, run_option
from commands.shared import DISAGREES, emit_json, estimate_json, hint, print_table, progress_bar
from commands.study_report import write_report

if TYPE_CHECKING:
    from nnval.study import Study, StudyConfig


def _around(run: Path) -> dict[str, Any]:
    """Fields of a study whose unperturbed ensemble is a run that is there; they replace those of a preset."""
    from nnval.adopted_run import adoptable

    training = adoptable(run)
    last = max(training.snapshots)
    return {
        "training": training.to_dict(),
        "target": None,
        "branch_epochs": training.snapshots,
        "follow": training.epochs,
        "intervals": sorted({max(1, last // 4), max(1, last // 2), last}),
    }


def _study_config(
    preset: str,
    run: Path | None,
    overrides: dict[str, Any],
    training: dict[str, Any],
    perturbations: Sequence[str],
) -> StudyConfig:
    from nnval.engine.recipes import load_study
    from nnval.study import StudyConfig

    values = load_study(preset)
    if run is not None:
        values |= _around(run)
    values |= {key: value for key, value in overrides.items() if value is not None and value != ()}
    values["training"] |= {key: value for key, value in training.items() if value is not None}
    if perturbations:
        parsed = [parse_perturbation(text) for text in perturbations]
        names = [p["name"] for p in parsed]
        labels = [n if names.count(n) == 1 else f"{n}_{names[:k].count(n) + 1}" for k, n in enumerate(names)]
        values["perturbations"] = dict(zip(labels, parsed, strict=True))
    return StudyConfig.from_dict(values)


@click.command(
    "perturbation", short_help="Train, perturb survivors once, predict every interval, and check the predictions."
)
@run_option
@click.option("--preset", default="digits-demo", show_default=True, help=PRESET)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="A finished 'jostle train' with --snapshots: its networks are the unperturbed ones.",
)
@click.option("--show-preset", is_flag=True, help=SHOW_PRESET)
@click.option("--members", type=int, help="Unperturbed networks.")
@click.option("--periodic-members", type=int, help="Networks at each interval.")
@click.option("--epochs", type=int, help="Of a training at most: the horizon.")
@click.option(*LEARNING_RATE, type=float, help="Learning rate, the highest of the schedule.")
@click.option("--target", type=float, help="Validation accuracy at which training is over.")
@click.option("--perturbation", "perturbations", multiple=True, help="NAME or NAME:option=value,..., repeatable.")
@click.option(
    "--interval", "-P", "intervals", multiple=True, type=int, help="The perturbation acts every P epochs, repeatable."
)
@click.option("--branch-epoch", "branch_epochs", multiple=True, type=int, help="Epoch of one perturbation, repeatable.")
@click.option("--follow", type=int, help="Epochs for which perturbed survivors are followed.")
@click.option("--seed", type=click.IntRange(min=0), help="Of all random numbers. Default: the preset's.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes. Default: one per core, at most 4.")
@output_options
def validate_perturbation(
    out: Path | None,
    preset: str,
    run: Path | None,
    show_preset: bool,
    members: int | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int | None,
    perturbations: tuple[str, ...],
    workers: int | None,
    as_json: bool,
    quiet: bool,
    **overrides: Any,
) -> None:
    """Train, perturb survivors once, predict every interval, and check against training with the perturbation.

    \b
    jostle validate perturbation --preset digits-demo --out runs/demo
    jostle validate perturbation --perturbation full_reset -P 15 -P 30 --members 128 --out runs/reset
    jostle validate perturbation --run runs/plain --perturbation shrink_perturb --out runs/study
    jostle validate perturbation --show-preset > my.toml
    """
    if show_preset:
        from nnval.engine.recipes import load_study, preset_text

        load_study(preset)
        click.echo(preset_text(preset), nl=False)
        return
    directory = run_directory(out, "runs/demo")
    training = {"members": members, "epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    if run is not None:
        refuse_options(
            click.get_current_context(),
            ("members", "epochs", "learning_rate", "seed", "branch_epochs"),
            "a new training, not with --run",
        )
    config = _study_config(preset, run, overrides, training, perturbations)
    from nnval.perturbation import run_study, untrained
    from nnval.study_tables import is_saved, save

    finished = is_saved(directory) and (directory / REPORT).exists() and not untrained(config, directory)
    begin = time.monotonic()
    with progress_bar(quiet) as progress:
        study = run_study(config, directory, progress=progress, workers=workers or _default_workers(), unperturbed=run)
    if finished:
        hint(f"{directory} was finished already; nothing was trained", quiet)
    else:
        save(study)
        write_report(study)
    print_study(study, as_json)
    hint(f"report: {directory / REPORT} ({time.monotonic() - begin:.0f} s)", quiet)
    if not study.agrees:
        sys.exit(DISAGREES)


def _default_workers() -> int:
    import os

    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@click.command(short_help="Write the report of a finished study anew, and print its table.")
@click.argument("run", type=click.Path(path_type=Path))
@output_options
def report(run: Path, as_json: bool, quiet: bool) -> None:
    """Write the figures and the report of a finished study anew, and print its table.

    \b
    jostle report runs/demo
    """
    study = _finished_study(run)
    from nnval.study_tables import save

    save(study)
    write_report(study)
    print_study(study, as_json)
    hint(f"report: {run / REPORT}", quiet)


@click.command("resetting", short_help="Full resets of a finished study beside Eq. (5), from unperturbed runs alone.")
@click.argument("run", type=click.Path(path_type=Path))
@output_options
def validate_resetting(run: Path, as_json: bool, quiet: bool) -> None:
    """Full resets of a finished 'validate perturbation' beside Eq. (5), which needs the unperturbed runs only.

    \b
    jostle validate perturbation --preset digits-demo --out runs/demo
    jostle validate resetting runs/demo
    """
    study = _finished_study(run)
    from nnval.study_tables import comparison_table, comparisons_json

    restarts = [predictor == "restart" for _, predictor, _, _ in study.rows]
    if not any(restarts):
        raise ValueError(f"{run} measured no full resets: run jostle validate perturbation --perturbation full_reset")
    rows = [row for row, wanted in zip(comparisons_json(study), restarts, strict=True) if wanted]
    agrees = all(c.verdict != "disagrees" for c, wanted in zip(study.comparisons, restarts, strict=True) if wanted)
    if as_json:
        result = {"directory": str(study.directory), "target": study.target, "comparisons": rows, "agrees": agrees}
        emit_json("validate resetting", {"run": str(run)}, study.config.training.seed, result)
    else:
        table, _ = comparison_table(study)
        click.echo(
            f"E[min(T_P, {study.config.training.epochs})], epochs to the target with a full reset every P epochs:"
        )
        print_table(
            table.header[1:], [row[1:] for row, wanted in zip(table.rows, restarts, strict=True) if wanted], left=(1, 5)
        )
        hint("verdicts hold at 1 % for all rows of the study together", quiet)
    if not agrees:
        sys.exit(DISAGREES)


def _finished_study(run: Path) -> Study:
    from nnval.engine.run_directory import read_description

    plain = read_description(run)["config"]
    if "perturbations" not in plain:
        raise ValueError(f"{run} holds no study of 'jostle validate perturbation'")
    from nnval.perturbation import run_study, untrained  # torch: after what can be refused without
    from nnval.study import StudyConfig

    config = StudyConfig.from_dict(plain)
    if missing := untrained(config, run):
        raise ValueError(f"{run} is not finished ({missing[0]} is missing): run jostle validate perturbation again")
    return run_study(config, run)


def print_study(study: Study, as_json: bool) -> None:
    """Print the tables and conclusions of a study.

    Args:
        study: finished.
        as_json: as one JSON object instead.
    """
    from nnval.study_tables import comparison_table, comparisons_json, conclusions, facts, measurement_table

    if as_json:
        result = {
            "directory": str(study.directory),
            "target": study.target,
            "relaxation_epoch": study.relaxation_epoch,
            "unperturbed": estimate_json(study.survival.restricted_mean(study.config.training.epochs)),
            "comparisons": comparisons_json(study),
            "agrees": study.agrees,
        }
        emit_json("validate perturbation", study.config.to_dict(), study.config.training.seed, result)
        return
    table, notes = comparison_table(study)
    times = f"E[min(T_P, {study.config.training.epochs})], epochs to the target with a perturbation every P epochs:"
    measured = "Measured (unperturbed networks are tested at the horizon, others where they reached the target):"
    granted = (
        "z: beyond 5 % of model error, which Eq. (9) and renewal are granted; verdicts: at 1 % for all rows together"
    )
    below = "\n".join([granted, *notes])
    tables = (Shown(times, table, (0, 2, 6), below), Shown(measured, measurement_table(study)))
    print_findings(facts(study), tables, conclusions(study), study.config.training.seed)
