"""The parts of ``jostle validate all``: simulations and experiments with networks, each as its own command runs it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from commands.experiment_report import COMPARISONS, REPORT
from commands.shared import DISAGREES, STOPPED, Progress

if TYPE_CHECKING:
    from theory.estimate import Comparison

PHENOMENA = (
    "resetting",
    "perturbation",
    "weight-variance",
    "effective-temperature",
    "widening-valley",
    "activation-temperature",
    "adaptive-noise",
)
SIMULATION, NETWORKS = "simulation", "networks"
"""By what a phenomenon is measured."""

SIMULATIONS, RESULT = "simulations", "result.json"


class Row(NamedTuple):
    """One prediction beside one measurement.

    Attributes:
        phenomenon: of ``PHENOMENA``.
        by: ``SIMULATION`` or ``NETWORKS``.
        comparison: of the two.
    """

    phenomenon: str
    by: str
    comparison: Comparison


@dataclass(frozen=True)
class Outcome:
    """What a part found.

    Attributes:
        rows: predictions beside measurements.
        remarks: (phenomenon, sentence) of what is measured, but not predicted as a number.
    """

    rows: tuple[Row, ...]
    remarks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is the same for all parts.

    Attributes:
        directory: RUN.
        seed: of all random numbers.
        workers: processes for networks that do not wait for each other.
    """

    directory: Path
    seed: int
    workers: int = 1


def invoked(command: click.Command, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command of jostle in this process, with ``--json --quiet``.

    Args:
        command: of those that end with 0, or with 3 where theory disagrees.
        arguments: of its command line.

    Returns:
        ``result`` of its JSON object.

    Raises:
        KeyboardInterrupt: if it was stopped early.
    """
    output, errors, code = io.StringIO(), _BehindBar(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            context = command.make_context(command.name, [*arguments, "--json", "--quiet"])
            with context:
                context.command.invoke(context)
        except SystemExit as end:
            code = end.code
    if code == STOPPED:
        raise KeyboardInterrupt
    if code not in (0, DISAGREES):
        raise RuntimeError(f"{command.name} ended with {code}: {errors.getvalue().strip()}")
    return json.loads(output.getvalue())["result"]


class _BehindBar(io.StringIO):
    """What a command says on stderr, while the progress bar around it goes on there."""

    def __init__(self) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


@dataclass(frozen=True)
class Simulation:
    """A simulation beside theory; its files are in ``RUN/simulations/NAME``.

    Attributes:
        name: of the directory.
        phenomenon: of ``PHENOMENA``.
        command: ``jostle simulate ...``.
        arguments: of it, but for ``--seed`` and ``--out``.
        seconds: that it takes about, of one core.
        prefix: put before each quantity, which must speak for itself among all others.
        headline: words of the one quantity that is shown in any case.
    """

    name: str
    phenomenon: str
    command: click.Command
    arguments: tuple[str, ...] = ()
    seconds: float = 1.0
    prefix: str = ""
    headline: str = ""

    by = SIMULATION
    known = ()

    @property
    def phenomena(self) -> tuple[str, ...]:
        """That it tells about."""
        return (self.phenomenon,)

    def place(self, asked: Asked) -> Path:
        """Its directory."""
        return asked.directory / SIMULATIONS / self.name

    def is_finished(self, asked: Asked) -> bool:
        """Whether it has only to be read."""
        return self._read(asked) is not None

    def _read(self, asked: Asked) -> dict[str, Any] | None:
        from nnval.engine.run_directory import read_json

        path = self.place(asked) / RESULT
        record = read_json(path) if path.exists() else {}
        return record["result"] if record.get("arguments") == self._arguments(asked) else None

    def _arguments(self, asked: Asked) -> list[str]:
        return [*self.arguments, "--seed", str(asked.seed)]

    def run(self, asked: Asked, progress: Progress | None) -> Outcome:
        """Simulate, or read what is there.

        Args:
            asked: where, and with which seed.
            progress: not told anything: it takes seconds.

        Returns:
            The comparisons.
        """
        from nnval.engine.run_directory import write_json

        result = self._read(asked)
        if result is None:
            place, arguments = self.place(asked), self._arguments(asked)
            result = invoked(self.command, [*arguments, "--out", str(place)])
            write_json(place / RESULT, {"arguments": arguments, "result": result})  # last: the rest is there
        return Outcome(tuple(self._row(record) for record in result["comparisons"]))

    def _row(self, record: dict[str, Any]) -> Row:
        from theory.estimate import Comparison, Estimate

        simulated = record["simulated"]
        comparison = Comparison(
            self.prefix + record["quantity"],
            Estimate(record["predicted"], 0.0, 1),
            Estimate(simulated["value"], simulated["standard_error"], simulated["n"]),
            float(record["z"]),
            record["p_value"],
            record["verdict"],
            record.get("margin", 0.0),
            tuple(record["reasons"]),
        )
        return Row(self.phenomenon, self.by, comparison)


@dataclass(frozen=True)
class Experiment:
    """Networks beside theory, or beside each other; a run of ``jostle validate NAME`` in ``RUN/NAME``.

    Attributes:
        name: of the command.
        phenomena: that it tells about.
        command: ``jostle validate ...``.
        preset: of it.
        seconds: that it takes about, of one core.
        train: trains and measures, or reads, with progress: (preset, directory, asked, progress) -> result.
        told: what that says.
        headline: words of the one quantity that is shown in any case.
        known: (words of a quantity, what was measured before, note) of disagreements that were found before.
    """

    name: str
    phenomena: tuple[str, ...]
    command: click.Command
    preset: str
    seconds: float
    train: Callable[[str, Path, Asked, Progress | None], Any]
    told: Callable[[Any], Outcome]
    headline: str = ""
    known: tuple[tuple[str, float, str], ...] = ()

    by = NETWORKS

    def place(self, asked: Asked) -> Path:
        """Its directory."""
        return asked.directory / self.name

    def is_finished(self, asked: Asked) -> bool:
        """Whether it has only to be read."""
        return all((self.place(asked) / name).exists() for name in (COMPARISONS, REPORT))

    def run(self, asked: Asked, progress: Progress | None) -> Outcome:
        """Train and measure, write the files of the command, or read what is there.

        Args:
            asked: where, and with which seed.
            progress: called with work done and in all, and a text.

        Returns:
            Comparisons and remarks.
        """
        place, finished = self.place(asked), self.is_finished(asked)
        result = self.train(self.preset, place, asked, progress)
        if not finished:
            # The command finds everything trained, and writes its files as it always does.
            workers = ["--workers", str(asked.workers)] if self.name == "perturbation" else []
            seed = ["--seed", str(asked.seed)]
            invoked(self.command, ["--preset", self.preset, *seed, *workers, "--out", str(place)])
        return self.told(result)


Part = Simulation | Experiment
