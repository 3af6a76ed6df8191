"""``jostle validate all``: every phenomenon, theory beside simulation and beside networks, in one table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from commands.experiment_options import run_directory
from commands.experiment_report import REPORT
from commands.options import output_options, run_option, seed_option
from commands.shared import (
    DISAGREES,
    FAILED,
    STOPPED,
    Progress,
    emit_json,
    fail,
    failure_in_words,
    hint,
    print_table,
    progress_bar,
)
from commands.validate_all_experiments import all_parts
from commands.validate_all_parts import PHENOMENA, Asked, Outcome, Part
from commands.validate_all_results import (
    FOOTER,
    HEADER,
    UNPREDICTED,
    conclusions,
    gathered,
    numbered_notes,
    records,
    table_rows,
    write_all,
)
from commands.words import duration

PARTS = 1000
"""Of a second, in which progress is counted."""


@click.command("all", short_help="Every phenomenon: theory beside simulation and networks, in one table.")
@run_option
@click.option("--quick", is_flag=True, help="Smaller experiments with networks: minutes instead of half an hour.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PHENOMENA),
    metavar="PHENOMENON",
    help=f"Repeatable: {', '.join(PHENOMENA)}. Others can be added later.",
)
@seed_option
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes for networks under perturbation; the other experiments take one. No influence on results.",
)
@output_options
def validate_all(
    out: Path | None, quick: bool, only: tuple[str, ...], seed: int, workers: int, as_json: bool, quiet: bool
) -> None:
    """Every phenomenon: theory beside simulation and beside networks, one table, verdicts that hold for all together.

    Does this installation, on this machine, do what the theory says? Runs the simulations with their default sizes, and
    the experiments with networks with their presets ("quick" with --quick, else "digits"). RUN/PHENOMENON are runs of
    the single commands. Ctrl-C is safe at any moment: the same command goes on. Exit code 3 if anything disagrees; a
    note says where that is known.

    \b
    jostle validate all --quick --out runs/proof
    jostle validate all --only resetting --only weight-variance --out runs/some
    """
    asked = Asked(run_directory(out, "runs/proof"), seed, workers)
    phenomena = [name for name in PHENOMENA if name in only or not only]
    parts = [part for part in all_parts(quick) if set(part.phenomena) & set(phenomena)]
    from nnval.engine.config import fingerprint_of
    from nnval.engine.run_directory import SCHEMA, opened

    config = {"command": "validate all", "quick": quick, "seed": seed}
    description = {"schema": SCHEMA, "fingerprint": fingerprint_of(config), "config": config, "branch": None}
    environment, begin = _environment(), time.monotonic()
    with opened(asked.directory, description, environment):
        outcomes, failed = _carried_out(parts, asked, quiet)
        findings = gathered(outcomes, phenomena, failed)
        write_all(asked.directory, findings, parts, {"seed": seed, **environment})
    if as_json:
        found = {"directory": str(asked.directory), **records(findings)}
        emit_json("validate all", {"quick": quick, "only": list(only)}, seed, found)
    else:
        print_table(HEADER, table_rows(findings), left=(0, 1, 2, 7))
        for line in (*numbered_notes(findings), *FOOTER):
            click.echo(line)
        if findings.remarks:
            click.echo(f"\n{UNPREDICTED}")
            for name, text in findings.remarks:
                click.echo(f"  {name}: {text}")
        click.echo()
        for line in conclusions(findings):
            click.echo(line)
        click.echo(f"seed {seed}")
    hint(f"report: {asked.directory / REPORT} ({time.monotonic() - begin:.0f} s)", quiet)
    for name, reason in failed:
        click.echo(f"Error: {name} failed: {reason}", err=True)
    if failed:
        sys.exit(FAILED)
    if not findings.agrees:
        sys.exit(DISAGREES)


def _environment() -> dict[str, Any]:
    """Versions and processor; without torch, what is there."""
    import platform

    try:
        import torch

        from nnval.engine.device import environment
    except ModuleNotFoundError:
        import numpy

        return {"python": platform.python_version(), "numpy": numpy.__version__, "system": platform.system()}
    return environment(torch.device("cpu"))


def _carried_out(
    parts: Sequence[Part], asked: Asked, quiet: bool
) -> tuple[list[tuple[Part, Outcome]], list[tuple[str, str]]]:
    """Run one part after the other under one progress bar; one that fails does not keep the others."""
    pending = {id(part) for part in parts if not part.is_finished(asked)}
    _announce(parts, pending, quiet)
    total = sum(part.seconds for part in parts if id(part) in pending)
    outcomes, failed, before = [], [], 0.0
    with progress_bar(quiet) as progress:
        for part in parts:
            weight = part.seconds if id(part) in pending else 0.0
            text = f"{part.phenomena[0]}, {part.by}"
            within = None
            if progress is not None:
                progress(round(PARTS * before), max(round(PARTS * total), 1), text)
                within = _part_of(progress, before, weight, total, text)
            try:
                outcomes.append((part, part.run(asked, within)))
            except KeyboardInterrupt:
                _stop()
            except Exception as error:  # whatever it is, the others are not lost by it; the end is exit code 1
                if type(error).__name__ == "Interrupted":  # its module imports torch's neighbours: by name only
                    _stop()
                failed.append((text, _reason(error)))
            before += weight
    return outcomes, failed


def _part_of(progress: Progress, before: float, weight: float, total: float, name: str) -> Progress:
    """Progress of a part, as that of all."""
    furthest = before

    def report(done: int, whole: int, text: str) -> None:
        nonlocal furthest
        # Some experiments count several stages anew: what is done never becomes less.
        furthest = max(furthest, before + weight * min(done / max(whole, 1), 1.0))
        progress(round(PARTS * furthest), max(round(PARTS * total), 1), f"{name}: {text}")

    return report


def _stop() -> None:
    fail("stopped; run the same command again to go on", STOPPED)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError | OSError):
        return failure_in_words(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    return str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"


def _announce(parts: Sequence[Part], pending: set[int], quiet: bool) -> None:
    left = [part for part in parts if id(part) in pending]
    seconds = sum(part.seconds for part in left)
    if len(left) < len(parts):
        hint(f"{len(parts) - len(left)} of {len(parts)} parts are finished and only read", quiet)
    if not left:
        return
    hint(f"about {duration(seconds)} of one core (2.8 GHz); Ctrl-C is safe, the same command goes on:", quiet)
    for part in left:
        hint(f"  {', '.join(part.phenomena):30}  {part.by:10}  {part.seconds:4.0f} s", quiet)
