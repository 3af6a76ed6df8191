"""What the simulations of several things one after the other share: one progress bar, and remarks below the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from commands.shared import estimate_json, noted_interrupts, simulation_progress

if TYPE_CHECKING:
    from sim.ensemble import Progress
    from theory.estimate import Comparison, Estimate

Simulated = TypeVar("Simulated")

Z_FOOTER = "z = (theory - simulated) / standard error; p by Student's t, verdicts at 1 % for all rows together (Holm)"

NotCompared = list[tuple[str, float, "Estimate"]]
"""(quantity, infinite theory, what was simulated)."""


def simulate_each(
    names: Sequence[str], simulate: Callable[[str, Progress | None], Simulated], *, quiet: bool
) -> dict[str, Simulated]:
    """Simulate one thing after the other, with one progress bar for all.

    Args:
        names: of the things.
        simulate: from name and progress; after Ctrl-C its result holds what was complete.
        quiet: no progress.

    Returns:
        Name -> result; after Ctrl-C those that were begun, of which the last may hold fewer replicas than asked for.

    Raises:
        KeyboardInterrupt: if nothing was complete.
    """
    results: dict[str, Simulated] = {}
    with noted_interrupts() as interrupted, simulation_progress(quiet) as progress:
        for number, name in enumerate(names):

            def whole(done: int, total: int, text: str, number: int = number, name: str = name) -> None:
                if progress is not None:
                    progress(number * total + done, len(names) * total, f"{name}: {text}")

            try:
                result = simulate(name, None if progress is None else whole)
            except KeyboardInterrupt:
                if not results:
                    raise
                break
            results[name] = result
            if interrupted() or result.replicas < result.requested:  # pyright: ignore[reportAttributeAccessIssue]
                break
    return results


def not_compared_json(rows: Sequence[tuple[str, float, Estimate]]) -> list[dict[str, Any]]:
    """What was simulated where theory is infinite, for ``--json``.

    Args:
        rows: (quantity, theory, simulated).

    Returns:
        A dictionary for each.
    """
    return [{"quantity": q, "predicted": theory, "simulated": estimate_json(e)} for q, theory, e in rows]


def print_remarks(
    comparisons: Sequence[Comparison],
    not_compared: Sequence[tuple[str, float, Estimate]] = (),
    not_simulated: Sequence[str] = (),
) -> None:
    """Print what a table does not say by itself.

    Args:
        comparisons: whose reasons are printed.
        not_compared: (quantity, infinite theory, simulated).
        not_simulated: what Ctrl-C left out.
    """
    for reason in sorted({reason for c in comparisons for reason in c.reasons}):
        click.echo(f"outside regime: {reason}")
    for quantity, theory, estimate in not_compared:
        click.echo(
            f"not compared: infinite {quantity}; theory {theory:g}, simulated {estimate.value:.6g} in this many steps"
        )
    if not_simulated:
        click.echo(f"not simulated: {', '.join(not_simulated)}")
