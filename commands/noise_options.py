"""Options of adaptive noise on the weights, for predictions, simulations and experiments alike."""

from __future__ import annotations

from typing import Any

import click

from commands.options import Decorator

MODES = ("absolute", "relative_update", "relative_weight", "sgld")


def mode_option(**default: Any) -> Decorator:
    """What an epsilon is.

    Args:
        **default: of the option, if it has one.

    Returns:
        A decorator.
    """
    return click.option("--mode", type=click.Choice(MODES), help="What an epsilon is.", **default)


def phase_epsilons_option(*names: str, more: str = "", **default: Any) -> Decorator:
    """Three epsilons, of the phases of a training.

    Args:
        *names: other names of the option, and that of its parameter.
        more: what else there is to say.
        **default: of the option, if it has one.

    Returns:
        A decorator.
    """
    words = f"Epsilons of exploration, convergence and fine-tuning.{more}"
    return click.option("--phase-epsilons", *names, nargs=3, type=float, metavar="E E E", help=words, **default)


def decay_option(**default: Any) -> Decorator:
    """How fast epsilons decay.

    Args:
        **default: of the option, if it has one.

    Returns:
        A decorator.
    """
    words = "Rate at which epsilons decay, lambda >= 0 [1/steps]."
    return click.option("--decay", type=float, help=words, **default)


def min_dwell_option(**attributes: Any) -> Decorator:
    """How long a phase lasts at least.

    Args:
        **attributes: type and default.

    Returns:
        A decorator.
    """
    return click.option("--min-dwell", help="Steps for which a phase is kept at least.", **attributes)
