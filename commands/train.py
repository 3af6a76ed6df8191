"""``jostle train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.options import output_options
from commands.shared import emit_json, hint, print_table, progress_bar
from commands.training_options import (
    GROUPS,
    GroupedCommand,
    config_of,
    given_options,
    parse_workers,
    refuse_beside,
)
from commands.words import duration

if TYPE_CHECKING:
    from nnval.engine.results import EnsembleResult
    from nnval.engine.status import RunStatus


@click.command(cls=GroupedCommand, groups=GROUPS, short_help="Train an ensemble of networks; resumable.")
@output_options
@click.pass_context
def train(
    context: click.Context,
    out: Path | None,
    preset: str | None,
    status: Path | None,
    download: bool,
    workers: str,
    scheduler: str | None,
    threads: int,
    no_lock: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train an ensemble; resumable, extended by more --members, and a finished run is only read.

    Several processes, here or on other machines, may train in one directory at once: each takes what is free.

    \b
    jostle train --members 64 --epochs 100 --lr 0.2 --out runs/plain
    jostle train --members 64:96 --epochs 100 --lr 0.2 --workers 2 --out runs/plain
    jostle train --status runs/plain
    jostle train --perturbation shrink_perturb:shrink=0.7,noise=0.3 -P 10 --target 0.94 --out runs/perturbed
    jostle train --preset meir2025-small --members 4 --epochs 2 --out runs/lenet
    """
    given = given_options(context)
    if status is not None:
        refuse_beside(given, "--status", ("status", "as_json", "quiet"))
        _print_status(status, as_json)
        return
    if out is None:
        raise ValueError("--out is missing: name the directory of the run, such as --out runs/plain")
    processes = parse_workers(workers)
    if scheduler is not None:
        refuse_beside({name: text for name, text in given.items() if name in ("workers", "no_lock")}, "--scheduler", ())
    if no_lock and processes != 1:
        raise ValueError("--workers cannot be used with --no-lock: one process alone may train in the directory")
    config = config_of(options, preset, given)
    from nnval.engine.datasets import load_data
    from nnval.engine.ensemble import train_ensemble

    with progress_bar(quiet) as progress:
        data = load_data(config, download=download, progress=progress)
    for notice in data.notices:
        hint(notice, quiet)
    before = _time_of_end(out)
    with progress_bar(quiet) as progress:
        result = train_ensemble(
            config,
            out,
            progress=progress,
            threads=threads,
            workers=processes,
            scheduler=scheduler,
            lock=not no_lock,
            data=data,
        )
    if config.device == "auto" and result.config.device == "cpu":
        hint("on the CPU, since torch found no CUDA device when the run began; --device cpu asks for that", quiet)
    if before is not None and before == _time_of_end(out):
        hint(f"{out} was finished already; nothing was trained", quiet)
    _print_result(result, as_json)


def _time_of_end(out: Path) -> int | None:
    try:
        return (out / "done.json").stat().st_mtime_ns
    except OSError:
        return None


def _print_result(result: EnsembleResult, as_json: bool) -> None:
    counts = {status: int((result.status == status).sum()) for status in ("reached", "horizon", "diverged")}
    config = result.config
    if as_json:
        summary = {"directory": str(result.directory), "members": len(result.members), **counts}
        emit_json("train", config.to_dict(), config.seed, summary)
        return
    finite = result.test_accuracy[result.test_accuracy == result.test_accuracy]
    click.echo(f"{len(result.members)} networks: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n))
    if len(finite):
        click.echo(f"test accuracy at the end: mean {finite.mean():.4f}, from {finite.min():.4f} to {finite.max():.4f}")
    click.echo(f"curves: {result.directory / 'curves.csv'}; seed {config.seed}")


def _print_status(run: Path, as_json: bool) -> None:
    from nnval.engine.status import run_status

    status = run_status(run)
    if as_json:
        emit_json("train --status", {"run": str(run)}, None, status.to_dict())
        return
    click.echo(f"{run}: {status.state}")
    print_table(("members", "number"), _rows(status))
    share = status.work / status.total_work if status.total_work else 0.0
    click.echo(f"{status.work} of {status.total_work} member-epochs ({share:.1%})", nl=False)
    if status.rate is not None and status.seconds_left is not None:
        click.echo(f", {status.rate:.3g} per second, about {duration(status.seconds_left)} left", nl=False)
    click.echo("" if status.last_written is None else f"; last written {duration(status.last_written)} ago")


def _rows(status: RunStatus) -> list[tuple[str, int]]:
    states = [("planned", status.planned), ("done", status.done), ("training", status.training)]
    ended = [(f"ended: {name}", count) for name, count in status.ended.items()]
    return [*states, ("waiting", status.waiting), *ended]
