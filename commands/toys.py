"""Toy processes with an exact answer, as a user names them: a ready-made chain, or a coordinate in a potential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from commands.options import Decorator, parse_perturbation, with_options

if TYPE_CHECKING:
    from sim.perturbation import Perturbation
    from theory.absorbing import Floats
    from theory.epoch_walk import EpochWalk
    from theory.fokker_planck import GridChain
    from theory.markov_chain import Chain

CHAINS = ("trap_with_barrier", "double_well", "rational", "hidden_label")
WALK_ONLY = ("diffusivity", "epoch", "time_step", "initial_mean", "initial_deviation", "limits")
TOY_ONLY = (*WALK_ONLY, "cells", "perturbation")

CELLS = 400
"""Of a grid by default. Of the ready-made walks, this and half of it have the target at an edge of cells."""

LARGEST = 1e6
"""Of the numbers of a perturbation."""

PERTURBATIONS = "shrink_perturb:shrink=0.4,noise=0.1, partial_reset:fraction=0.5 or full_reset"


@dataclass(frozen=True, eq=False)
class Toy:
    """A process whose perturbed mean is known exactly.

    Attributes:
        name: of the process, for headings.
        chain: the chain.
        kernel: K of the perturbation.
        perturbation: the perturbation in words.
        walk: the coordinate behind the chain, if there is one.
        grid: its grid.
        change: the perturbation of the coordinate.
    """

    name: str
    chain: Chain
    kernel: Floats
    perturbation: str
    walk: EpochWalk | None = None
    grid: GridChain | None = None
    change: Perturbation | None = None

    def coarser(self) -> Toy:
        """The same process on a grid of half as many cells.

        Returns:
            The process.

        Raises:
            ValueError: if it has no grid.
        """
        if self.walk is None or self.grid is None:
            raise ValueError(f"{self.name} has no grid")
        return _of_walk(self.name, self.walk, self.perturbation, len(self.grid.centres) // 2)


def toy_options(*, with_target: bool) -> Decorator:
    """Options that name a toy process and its perturbation.

    Args:
        with_target: whether ``--target`` is among them; another decorator may have brought it.

    Returns:
        A decorator.
    """
    target = [click.option("--target", type=float, help="x at or beyond which the target is met.")]
    return with_options(
        click.option("--chain", help=f"A ready-made process: {', '.join(CHAINS)}."),
        click.option(
            "--potential", help="U(x): an expression such as 'x**4/4 - x**2/2', or a built-in NAME:parameter=value."
        ),
        click.option("--diffusivity", type=float, help="D."),
        click.option("--epoch", type=float, help="Duration of an epoch, a whole number of time steps."),
        click.option("--time-step", type=float, help="dt of x' = x - U'(x) dt + sqrt(2 D dt) N(0, 1)."),
        click.option("--initial-mean", type=float, help="Mean of the normal initial law."),
        click.option("--initial-deviation", type=float, help="Standard deviation of the initial law."),
        *(target if with_target else ()),
        click.option("--limits", type=(float, float), metavar="LOW HIGH", help="Ends of the grid."),
        click.option(
            "--cells", type=click.IntRange(10, 5000), help=f"Of the grid. Default: {CELLS}, for double_well 520."
        ),
        click.option("--perturbation", help=f"What acts every P epochs: {PERTURBATIONS}."),
    )


def make_toy(
    *,
    chain: str | None,
    potential: str | None,
    perturbation: str | None,
    cells: int | None,
    target: float | None,
    **walk_settings: Any,
) -> Toy:
    """The process that the options name.

    Args:
        chain, potential, perturbation, cells, target: the options.
        **walk_settings: the options of ``WALK_ONLY``.

    Returns:
        The process.

    Raises:
        ValueError: for missing, superfluous or invalid options.
    """
    from theory import epoch_walk, toy_chains

    if (chain is None) == (potential is None):
        raise ValueError(f"give either --chain ({', '.join(CHAINS)}) or --potential")
    if potential is not None:
        return _in_potential(potential, potential, perturbation, cells or CELLS, target=target, **walk_settings)
    assert chain is not None
    name = chain.replace("-", "_")
    given = [
        f"--{key.replace('_', '-')}" for key, value in {**walk_settings, "target": target}.items() if value is not None
    ]
    if given:
        raise ValueError(f"{', '.join(given)} can only be used with --potential: --chain {chain} has its own")
    walks = {"trap_with_barrier": epoch_walk.TRAP_WITH_BARRIER, "double_well": epoch_walk.DOUBLE_WELL}
    if name in walks:
        return _of_walk(name, walks[name], perturbation, cells or (520 if name == "double_well" else CELLS))
    ready_made = {"rational": toy_chains.rational_chain, "hidden_label": toy_chains.hidden_label_chain}
    if name not in ready_made:
        raise ValueError(f"chain {chain!r} is unknown; choose from {', '.join(CHAINS)}")
    toy = ready_made[name]()
    if perturbation is None:
        return Toy(name, toy.chain, toy.perturbation, "its own perturbation")
    if parse_perturbation(perturbation) != {"name": "full_reset"}:
        raise ValueError(
            f"perturbation {perturbation!r}: {name} has no coordinate to act on; leave --perturbation out, for its "
            "own, or give full_reset"
        )
    from theory.markov_chain import restart_kernel

    return Toy(name, toy.chain, restart_kernel(toy.chain), "full_reset")


def _in_potential(name: str, text: str, perturbation: str | None, cells: int, **settings: Any) -> Toy:
    from theory.epoch_walk import EpochWalk
    from theory.potentials import potential as parse_potential

    missing = [f"--{key.replace('_', '-')}" for key, value in settings.items() if value is None]
    if missing:
        raise ValueError(f"--potential needs {', '.join(missing)} as well")
    return _of_walk(name, EpochWalk(parse_potential(text), **settings), perturbation, cells)


def _of_walk(name: str, walk: EpochWalk, perturbation: str | None, cells: int) -> Toy:
    from sim.perturbation import Perturbation, full_reset, shrink_and_perturb
    from theory.markov_chain import restart_kernel

    text = perturbation or "shrink_perturb:shrink=0.4,noise=0.1"
    options = parse_perturbation(text)
    kind = options.pop("name")
    grid = walk.chain(cells)
    expected = {"shrink_perturb": {"shrink", "noise"}, "partial_reset": {"fraction"}, "full_reset": set()}
    if kind not in expected or set(options) != expected[kind]:
        raise ValueError(f"perturbation {text!r} must be one of {PERTURBATIONS}")
    for key, value in options.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
            raise ValueError(f"perturbation {text!r}: {key}={value} must be a number up to {LARGEST:g} in size")
    if kind == "shrink_perturb":
        shrink, noise = float(options["shrink"]), float(options["noise"])
        kernel = grid.shrink_and_perturb(shrink, noise)
        change = shrink_and_perturb(shrink, noise, walk.initial_deviation)
    elif kind == "partial_reset":
        kernel, change = grid.partial_reset(float(options["fraction"])), Perturbation(float(options["fraction"]))
    else:
        kernel, change = restart_kernel(grid.chain), full_reset(walk.initial_mean, walk.initial_deviation)
    return Toy(name, grid.chain, kernel, text, walk, grid, change)
