"""What simulations beside theory share: one progress bar for all, a table of comparisons, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from commands.shared import (
    DISAGREES,
    STOPPED,
    estimate_json,
    fail,
    noted_interrupts,
    print_table,
    simulation_progress,
)

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


def completeness(names: Sequence[str], results: Mapping[str, Any]) -> tuple[list[str], int, bool]:
    """What Ctrl-C left of `simulate_each`.

    Args:
        names: of all things.
        results: of those that were begun.

    Returns:
        Names of those that were not; replicas that all others have; and whether anything was cut short.
    """
    missing = [name for name in names if name not in results]
    done = min(found.replicas for found in results.values())
    return missing, done, bool(missing) or any(found.replicas < found.requested for found in results.values())


def print_comparisons(heading: str, comparisons: Sequence[Comparison]) -> None:
    """Print theory beside simulation.

    Args:
        heading: of the column of quantities.
        comparisons: with their verdicts.
    """
    rows = [comparison_row(comparison) for comparison in comparisons]
    print_table((heading, "theory", "simulated", "z", "verdict"), rows, left=(0, 4))


def comparison_row(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """A comparison of a closed form with a simulation, as cells of a table.

    Args:
        comparison: with its verdict.

    Returns:
        (quantity, theory, simulated, z, verdict).
    """
    measured = comparison.measured
    simulated = f"{measured.value:.6g} +- {measured.standard_error:.2g}"
    return (
        comparison.quantity,
        f"{comparison.predicted.value:.6g}",
        simulated,
        f"{comparison.z:+.1f}",
        comparison.verdict,
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison of a closed form with a simulation, for ``--json``.

    Args:
        comparison: with its verdict.

    Returns:
        Quantity, prediction, measurement, z, p-value, verdict and reasons.
    """
    return {
        "quantity": comparison.quantity,
        "predicted": comparison.predicted.value,
        "simulated": estimate_json(comparison.measured),
        "z": comparison.z,
        "p_value": comparison.p_value,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
    }


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
    from nnval.tables import LOOSE_WORDS, is_loose

    for reason in sorted({reason for c in comparisons for reason in c.reasons}):
        click.echo(f"outside regime: {reason}")
    loose = sum(is_loose(c) for c in comparisons)
    if loose:
        click.echo(f"agrees, in {loose} of {len(comparisons)} rows: {LOOSE_WORDS}")
    for quantity, theory, estimate in not_compared:
        click.echo(
            f"not compared: infinite {quantity}; theory {theory:g}, simulated {estimate.value:.6g} in this many steps"
        )
    if not_simulated:
        click.echo(f"not simulated: {', '.join(not_simulated)}")


def end_simulation(comparisons: Sequence[Comparison], stopped: bool) -> None:
    """Leave with the exit code of what was found, if it is not 0.

    Args:
        comparisons: with their verdicts.
        stopped: whether Ctrl-C came before all runs were done.
    """
    if stopped:
        fail("stopped early; the table holds the runs that were complete", STOPPED)
    if any(comparison.verdict == "disagrees" for comparison in comparisons):
        sys.exit(DISAGREES)
