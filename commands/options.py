"""Options that several commands have: those of the same meaning have the same name and the same words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def with_options(*options: Decorator) -> Decorator:
    """Several options as one decorator.

    Args:
        options: of ``click.option``, or of this function, in the order of the help.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


output_options = with_options(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."),
    click.option("--quiet", is_flag=True, help="No progress and no hints on stderr."),
)
"""Of every command."""

out_option = click.option("--out", type=click.Path(path_type=Path), help="Directory for CSV files and figures.")
"""Of predictions and simulations."""

RUN_DIRECTORY = "Directory of the run; resumed if it exists."

run_option = click.option("--out", type=click.Path(path_type=Path), help=RUN_DIRECTORY)
"""Of commands that train."""

seed_option = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all random numbers."
)

LEARNING_RATE = ("--lr", "--learning-rate", "learning_rate")
"""Names of the option, and of its parameter."""


def learning_rate_option(default: float) -> Decorator:
    """Of a theory or a simulation.

    Args:
        default: > 0.

    Returns:
        A decorator.
    """
    return click.option(*LEARNING_RATE, default=default, show_default=True, help="eta > 0.")


def momentum_option(default: float) -> Decorator:
    """Of a theory or a simulation.

    Args:
        default: 0 <= beta < 1.

    Returns:
        A decorator.
    """
    words = "beta, heavy ball: 0 <= beta < 1; 0 is plain SGD."
    return click.option("--momentum", default=default, show_default=True, help=words)


def tolerance_option(default: float) -> Decorator:
    """Of a comparison of networks with theory.

    Args:
        default: relative.

    Returns:
        A decorator.
    """
    return click.option(
        "--tolerance",
        default=default,
        show_default=True,
        type=click.FloatRange(0, 1, max_open=True),
        help="Model error that theory is granted: no network is quadratic.",
    )


def simulation_options(*, runs: int) -> Decorator:
    """Options of all simulations.

    Args:
        runs: the default number of runs.

    Returns:
        A decorator.
    """
    return with_options(
        click.option(
            "--runs",
            default=runs,
            show_default=True,
            type=click.IntRange(2, 10**9),
            help="Independent runs behind each row; errors fall with their square root.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1, 1024),
            help="Of the process. Default: one per core. No influence on results.",
        ),
        seed_option,
        out_option,
    )


def refuse_options(context: click.Context, names: Sequence[str], belong_to: str) -> None:
    """Refuse options that would be ignored.

    Args:
        context: of the command.
        names: of its parameters.
        belong_to: the option without which they mean nothing.

    Raises:
        ValueError: if one of them was given.
    """
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise ValueError(f"{', '.join(given)} can only be used with {belong_to}")


def parse_perturbation(text: str, *, option: str = "perturbation option") -> dict[str, Any]:
    """``shrink_perturb:shrink=0.7,noise=0.3`` as a dictionary; values are JSON, or text if they are not.

    Args:
        text: a name and what belongs to it.
        option: what a message calls that.

    Returns:
        ``name`` and the values.

    Raises:
        ValueError: for a value without a name, or a second one of a name.
    """
    name, _, options = text.partition(":")
    result: dict[str, Any] = {"name": name.strip()}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{option} {item!r} must have the form name=value")
        key = key.strip()
        if key in result:
            raise ValueError(f"{option} {item!r}: {key} is given twice in {text!r}")
        try:
            result[key] = json.loads(value)
        except ValueError:  # no JSON, or a number of thousands of digits
            result[key] = value.strip()
    return result
