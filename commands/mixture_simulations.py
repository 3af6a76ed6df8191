"""The simulations of ``effective-temperature --model mixture``: beside theory, and until everything is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import write_csv, write_figure
from commands.mixture_options import Setting
from commands.mixture_results import estimate_of
from commands.shared import estimate_json, hint, print_table
from commands.words import brief, duration, size_words

if TYPE_CHECKING:
    import numpy as np

    from sim.ensemble import Progress
    from sim.perceptron import SimulatedPerceptron
    from sim.perceptron_convergence import ConvergedPerceptrons
    from theory.batch_selection import BatchSelection
    from theory.estimate import Estimate

CURVE_POINTS = 12
"""Recorded times of a simulation between start and end, besides those that temperatures need."""

WIDTHS = ("margin, 1 %", "margin, 10 %", "margin, 50 %")

COLUMNS = ("learned", "steps", *WIDTHS, "replica distance", "test error")
"""Of what is known when all training samples are learned."""


@dataclass(frozen=True)
class SimulationPlan:
    """What is simulated beside theory.

    Attributes:
        setting: what the options name.
        dimensions: N.
        runs: independent ones.
        threads: None for one on each core.
    """

    setting: Setting
    dimensions: int
    runs: int
    threads: int | None

    def arguments(self, selection: BatchSelection) -> dict[str, Any]:
        """Those of `simulate_perceptron` and of its cost, for one order.

        Args:
            selection: its batches.

        Returns:
            Name -> value.
        """
        setting = self.setting
        starts = list(setting.simulated_starts(selection))
        times = {0, setting.steps} | {round(setting.steps * k / CURVE_POINTS) for k in range(CURVE_POINTS)}
        times |= {t + n + shift for t in starts for n in setting.lags for shift in (-1, 0, 1)} | set(starts)
        return {
            "dimensions": self.dimensions,
            "times": sorted(times),
            "replicas": self.runs,
            "two_replicas": setting.replicas == 2,
            "field_times": starts,
            "threads": self.threads,
        }

    def simulate(
        self, selection: BatchSelection, rng: np.random.Generator, progress: Progress | None
    ) -> SimulatedPerceptron:
        """Simulate one order.

        Args:
            selection: its batches.
            rng: source of randomness.
            progress: told after each run.

        Returns:
            The runs; fewer after Ctrl-C.
        """
        from sim.perceptron import simulate_perceptron

        setting, arguments = self.setting, self.arguments(selection)
        return simulate_perceptron(setting.model, setting.training, selection, rng, progress=progress, **arguments)

    def announce(self, quiet: bool) -> None:
        """Say what the simulation will take, before it starts.

        Args:
            quiet: do not.

        Raises:
            ValueError: for dimensions with which a batch would not be a whole number of samples.
        """
        from sim.perceptron import cost

        costs = []
        for text, selection in self.setting.orders.items():
            try:
                costs.append(cost(self.setting.model, selection, **self.arguments(selection)))
            except ValueError as error:
                raise ValueError(f"--order {text!r}: {error}") from None
        hint(
            f"simulation: {len(costs)} x {self.runs} runs in {self.dimensions} dimensions: about "
            f"{duration(sum(one.seconds for one in costs))}, {size_words(max(one.memory for one in costs))}",
            quiet,
        )


# ---- Until everything is learned -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvergencePlan:
    """Trainings that are followed until all training samples are right.

    Attributes:
        setting: what the options name.
        dimensions: N.
        runs: independent ones, of two trajectories each.
        most_steps: after which they are given up.
        threads: None for one on each core.
    """

    setting: Setting
    dimensions: int
    runs: int
    most_steps: int
    threads: int | None

    def announce(self, quiet: bool) -> None:
        """Say what the trainings will take at most.

        Args:
            quiet: do not.

        Raises:
            ValueError: for dimensions with which a batch would not be a whole number of samples.
        """
        from sim.perceptron_convergence import cost_at_most

        sizes = {"dimensions": self.dimensions, "most_steps": self.most_steps, "replicas": self.runs}
        costs = [
            cost_at_most(self.setting.model, selection, threads=self.threads, **sizes)
            for selection in self.setting.orders.values()
        ]
        hint(
            f"until learned: {len(costs)} x {self.runs} runs of {self.most_steps} steps at most: less than "
            f"{duration(sum(one.seconds for one in costs))}, {size_words(max(one.memory for one in costs))}",
            quiet,
        )

    def simulate(
        self, selection: BatchSelection, rng: np.random.Generator, progress: Progress | None
    ) -> ConvergedPerceptrons:
        """Train one order.

        Args:
            selection: its batches.
            rng: source of randomness; of the same for all orders, data and starts are the same.
            progress: told after each run.

        Returns:
            The runs; fewer after Ctrl-C.
        """
        from sim.perceptron_convergence import simulate_to_convergence

        return simulate_to_convergence(
            self.setting.model,
            self.setting.training,
            selection,
            rng,
            dimensions=self.dimensions,
            most_steps=self.most_steps,
            replicas=self.runs,
            threads=self.threads,
            progress=progress,
        )


def learned(found: ConvergedPerceptrons) -> dict[str, Estimate | None]:
    """What is known when all training samples are learned.

    Args:
        found: the trainings of an order.

    Returns:
        ``COLUMNS`` -> estimate; None behind ``learned`` unless all trainings got there.
    """
    if found.converged.value < 1:
        return dict.fromkeys(COLUMNS) | {"learned": found.converged}
    widths = {name: found.estimate("margin_quantiles", level) for level, name in enumerate(WIDTHS)}
    return {
        "learned": found.converged,
        "steps": found.estimate("steps"),
        **widths,
        "replica distance": estimate_of(found.samples("replica_distance")),
        "test error": found.estimate("test_error"),
    }


def print_learned(results: Mapping[str, ConvergedPerceptrons]) -> None:
    """Print a table, a row for each order.

    Args:
        results: by order.
    """
    one = next(iter(results.values()))
    click.echo(f"\nwhen all training samples are right and their mean loss is {one.loss_bound:g} (simulated):")
    table = []
    for text, found in results.items():
        numbers = learned(found)
        cells = ["-" if (e := numbers[name]) is None else brief(e) for name in COLUMNS[1:]]
        table.append((text, f"{found.converged.value:.0%}", *cells))
    print_table(("order", *COLUMNS), table)
    if any(found.converged.value < 1 for found in results.values()):
        click.echo(f"-: not all had learned after {one.most_steps} steps, and the others alone would mislead")


def learned_json(results: Mapping[str, ConvergedPerceptrons]) -> dict[str, Any]:
    """The same for ``--json``.

    Args:
        results: by order.

    Returns:
        Order -> quantity -> estimate.
    """
    return {
        text: {name: estimate_json(estimate) for name, estimate in learned(found).items()}
        for text, found in results.items()
    }


def write_learned(directory: Path, setting: Setting, results: Mapping[str, ConvergedPerceptrons]) -> None:
    """``learned.csv``, and ``learned.png`` of the orders that have learned all.

    Args:
        directory: which exists.
        setting: what the options name.
        results: by order.
    """
    from figures.replica_distance import OrderPoint, figure_replicas

    rows: list[tuple[Any, ...]] = [("order", "quantity", "simulated", "standard_error", "runs")]
    points = []
    for text, found in results.items():
        numbers = learned(found)
        rows += [(text, name, e.value, e.standard_error, e.n) for name, e in numbers.items() if e is not None]
        if numbers["steps"] is not None:
            point = OrderPoint(
                text.partition(":")[0].replace("_", " "),
                found.selection.batch_fraction,
                getattr(found.selection, "persistence_time", None),
                simulated_distance=numbers["replica distance"],
                simulated_margin=numbers["margin, 10 %"],
            )
            points.append(point)
    write_csv(directory / "learned.csv", rows)
    if points:
        write_figure(directory / "learned.png", figure_replicas(f"{setting.title}; when all is learned", points))
