"""``jostle predict perturbation --curves``: which perturbation, how often, how sure?"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.advice_json import advice_json, scan_json
from commands.curves import check_target, reading_options, show_assumptions, terminal_width
from commands.files import prepared_directory
from commands.perturbed_files import PerturbedFile, perturbed_files
from commands.shared import emit_json, hint, progress_bar

if TYPE_CHECKING:
    from nnval.advice import Advice
    from nnval.measure.curves import Curves
    from nnval.protocol_evidence import PerturbedCurves

COMMAND = "predict perturbation"

MOST_TARGETS = 200
"""Of a scan: each takes a second or more."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a prediction from curves, as given.

    Attributes:
        curves: unperturbed runs.
        once: ``[NAME:EPOCH=]PATH`` of runs perturbed once.
        every: ``NAME[:P]=PATH`` of runs perturbed every P epochs.
        metric, count, direction: of reading.
        horizon: H of the restricted means.
        intervals: P of interest.
        precision: relative standard error to plan for.
        tolerance: of the quasi-steady state.
        replicates, seed: of the bootstrap.
        out: directory for files.
        as_json, quiet: of the output.
    """

    curves: str
    once: tuple[str, ...]
    every: tuple[str, ...]
    metric: str | None
    count: str
    direction: str | None
    horizon: int | None
    intervals: tuple[int, ...]
    precision: float
    tolerance: float | None
    replicates: int
    seed: int
    out: Path | None
    as_json: bool
    quiet: bool

    @property
    def _reading(self) -> dict[str, Any]:
        return {"metric": self.metric, "count": self.count, "direction": self.direction}

    def read(self) -> tuple[Curves, list[PerturbedCurves]]:
        """Read all files.

        Returns:
            The unperturbed curves, and the perturbed ones.

        Raises:
            ValueError: for a file that is missing or can't be read.
        """
        from nnval.measure.curves import read_curves

        files, reading = perturbed_files(self.once, self.every), reading_options(self._reading)
        _refuse_reset_once(files)
        curves = read_curves(self.curves, **reading)
        for file in files:
            if not file.repeated and file.epoch >= curves.horizon:
                raise ValueError(
                    f"--once {file.path}: epoch {file.epoch} must be below {curves.horizon}, where the unperturbed "
                    "curves end: what unperturbed runs are like by then is not known"
                )
        return curves, [file.read(**reading) for file in files]

    @property
    def settings(self) -> dict[str, Any]:
        """What ``advise`` takes beside curves and target."""
        names = ("horizon", "intervals", "tolerance", "precision", "replicates", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        given = {"curves": self.curves, "once": list(self.once), "every": list(self.every), **self._reading}
        return given | {name: value for name, value in self.settings.items() if name != "seed"}


def _refuse_reset_once(files: list[PerturbedFile]) -> None:
    from nnval.protocol_evidence import FULL_RESET

    for file in files:
        if file.label == FULL_RESET and not file.repeated:
            raise ValueError(
                f"--once {file.path}: runs that begin anew need no prediction from it; unperturbed curves alone decide "
                f"about {FULL_RESET}, and --every measures it"
            )


def advise_from_curves(asked: Asked, target: float | None) -> None:
    """Advice for one target: compute, print and write it.

    Args:
        asked: the options.
        target: value of the metric at which training is over.

    Raises:
        ValueError: for options, files or curves that can't be used.
    """
    from nnval.advice import advise

    target = check_target(target)
    curves, perturbed = asked.read()
    if asked.out is not None:
        prepared_directory(asked.out)
    advice = advise(curves, target=target, perturbed=perturbed, **asked.settings)
    if asked.as_json:
        result = advice_json(advice, asked.intervals)
        emit_json(COMMAND, asked.parameters | {"target": target}, asked.seed, result)
    else:
        _print_advice(advice, asked)
    if asked.out is not None:
        from commands.advice_files import write_advice

        write_advice(asked.out, advice, asked.intervals)
        hint(f"written: {asked.out / 'report.html'}", asked.quiet)


def _print_advice(advice: Advice, asked: Asked) -> None:
    from nnval.advice_tables import interval_table
    from nnval.advice_text import aligned, as_text, wrapped

    width = terminal_width()
    if asked.intervals or any(e.measured for e in advice.evidence):
        table, notes = interval_table(advice, asked.intervals)
        if table.rows:
            click.echo(f"Predicted and measured E[min(T_P,{advice.horizon})] [epochs]; +- is one standard error:")
            lines = [*aligned(table), *(line for note in notes for line in wrapped(note, width, "  "))]
            click.echo("\n".join(lines) + "\n")
    _show_unknown(advice, asked)
    click.echo(as_text(advice, width=width, assumptions=False))
    show_assumptions(advice.assumptions, asked.quiet)


def _show_unknown(advice: Advice, asked: Asked) -> None:
    """Which of the wanted intervals are not in the table, and why."""
    for e in advice.evidence:
        known = {p.interval for several in e.predictions.values() for p in several} | {m.interval for m in e.measured}
        unknown = [str(interval) for interval in sorted(set(asked.intervals) - known)]
        if not unknown:
            continue
        if e.branch_epoch is None and e.predictions:
            why = f"beyond H = {advice.horizon}"
        elif e.branch_epoch is None:
            why = "not measured, and there are no runs perturbed once"
        else:
            why = f"beyond P* = {e.branch_epoch}, or what perturbed runs were followed for"
        hint(f"{e.label}: P = {', '.join(unknown)} left out: {why}", asked.quiet)


def scan_from_curves(asked: Asked, scan: str) -> None:
    """Advice for several targets: compute, print and write it.

    Args:
        asked: the options.
        scan: ``LOW:HIGH:STEP``.

    Raises:
        ValueError: for options, files or curves that can't be used.
    """
    from nnval.advice_tables import target_table
    from nnval.advice_text import aligned
    from nnval.target_scan import scan_targets

    targets = parse_scan(scan)
    curves, perturbed = asked.read()
    if asked.out is not None:
        prepared_directory(asked.out)
    with progress_bar(asked.quiet) as progress:
        found = scan_targets(curves, targets, perturbed=perturbed, progress=progress, **asked.settings)
    assumptions = list(dict.fromkeys(text for advice in found.advice for text in advice.assumptions))
    if asked.as_json:
        emit_json(COMMAND, asked.parameters | {"targets": targets}, asked.seed, scan_json(found, assumptions))
    else:
        click.echo(f"{curves.n:,} runs, {curves.metric}: the best protocol at each target")
        click.echo("\n".join(aligned(target_table(found))))
        show_assumptions(assumptions, asked.quiet)
    if asked.out is not None:
        from commands.advice_files import write_scan

        write_scan(asked.out, found)
        hint(f"written: {asked.out / 'report.html'}", asked.quiet)


def parse_scan(text: str) -> list[float]:
    """The targets of ``--scan``.

    Args:
        text: ``LOW:HIGH:STEP``.

    Returns:
        LOW, LOW + STEP, ... up to HIGH, as decimals are added: no 0.7200000000000001.

    Raises:
        ValueError: for another form, a step that is not > 0, or too many targets.

    Example:
        >>> parse_scan("0.7:0.8:0.05")
        [0.7, 0.75, 0.8]
    """
    form = f"--scan {text!r} must have the form LOW:HIGH:STEP, such as 0.7:0.8:0.01"
    try:
        low, high, step = (decimal.Decimal(part.strip()) for part in text.split(":"))
    except (ValueError, decimal.InvalidOperation):
        raise ValueError(form) from None
    if not all(number.is_finite() and abs(number) < 10**12 for number in (low, high, step)):
        raise ValueError(f"{form}, finite numbers")
    if step <= 0 or high < low:
        raise ValueError(f"{form}, with STEP > 0 and LOW <= HIGH")
    count = int((high - low) / step) + 1 if (high - low) < step * MOST_TARGETS else MOST_TARGETS + 1
    if count > MOST_TARGETS:
        raise ValueError(f"{form}, with {MOST_TARGETS} targets at most: take a larger STEP")
    return [float(low + k * step) for k in range(count)]
