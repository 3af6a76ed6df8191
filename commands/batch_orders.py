"""Options that name SGD with momentum on a quadratic and the orders of its batches; the simulation of each order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from commands.shared import parse_perturbation
from commands.simulations import Simulated, simulate_each

if TYPE_CHECKING:
    import numpy as np

    from sim.ensemble import Progress
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

ORDERS = "reshuffled, with_replacement, shuffled_once, reshuffled_every:epochs=E, persistent:correlation=R, anti_pgd"

DEFAULT_ORDERS = ("reshuffled", "with_replacement")

MOST_BATCHES = 10**6
"""In an epoch, and in epochs that share an order, where costs grow with it."""

ANTI_PGD_FOOTER = "anti_pgd: the unit variance is that of the whole increment xi_{k+1} - xi_k, twice the variance of xi"


def mode_options(*, batches: int, curvatures: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that name SGD with momentum on a quadratic, and the orders of its batches.

    Args:
        batches: the most in an epoch.
        curvatures: the default ones, in words.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option(
                "--order",
                "orders",
                multiple=True,
                help=f"How batches are drawn, repeatable: {ORDERS}. E >= 1: epochs in the same order; -1 < R < 1: "
                "correlation of successive gradients' noise; anti_pgd: increments of independent noise, no batches. "
                f"Default: {' and '.join(DEFAULT_ORDERS)}.",
            ),
            click.option(
                "--curvature",
                "curvatures",
                multiple=True,
                type=float,
                help="Eigenvalue lambda of the Hessian along a direction, repeatable: 0 <= lambda < 2 (1 + momentum) / "
                f"learning-rate. Default: {curvatures}.",
            ),
            click.option(
                "--batches",
                default=50,
                show_default=True,
                type=click.IntRange(2, batches),
                help="M, batches in an epoch.",
            ),
            click.option(
                "--momentum", default=0.9, show_default=True, help="beta, heavy ball: 0 <= beta < 1; 0 is plain SGD."
            ),
            click.option("--learning-rate", default=0.01, show_default=True, help="eta > 0."),
        ):
            command = option(command)
        return command

    return decorate


def parse_orders(orders: Sequence[str], batches: int, *, most: int = MOST_BATCHES) -> dict[str, GradientNoise]:
    """The noise of each order, of unit variance, by the text that names it.

    Args:
        orders: as given; without any the default ones.
        batches: M, of an epoch.
        most: batches in epochs that share an order.

    Returns:
        Text -> noise.

    Raises:
        ValueError: for an unknown order, or options that it does not have or that are out of range.
    """
    from theory import gradient_noise

    makers: dict[str, tuple[Callable[..., GradientNoise], set[str]]] = {
        "reshuffled": (lambda: gradient_noise.Reshuffled(batches), set()),
        "with_replacement": (gradient_noise.WhiteNoise, set()),
        "shuffled_once": (lambda: gradient_noise.ShuffledOnce(batches), set()),
        "reshuffled_every": (lambda epochs: gradient_noise.ReshuffledEvery(batches, epochs), {"epochs"}),
        "persistent": (gradient_noise.Persistent, {"correlation"}),
        "anti_pgd": (gradient_noise.AntiCorrelatedIncrements, set()),
    }
    noises = {}
    for text in orders or DEFAULT_ORDERS:
        options = parse_perturbation(text, option=f"--order {text!r}:")
        name = str(options.pop("name")).replace("-", "_")
        if name not in makers:
            raise ValueError(f"--order {text!r} is unknown; choose from {ORDERS}")
        maker, needed = makers[name]
        missing, strange = sorted(needed - set(options)), sorted(set(options) - needed)
        if missing:
            raise ValueError(f"--order {text!r}: {missing[0]} is missing; choose from {ORDERS}")
        if strange:
            raise ValueError(f"--order {text!r}: {name} has no {strange[0]}; choose from {ORDERS}")
        for key, value in options.items():
            _check_number(text, key, value, most // batches)
        try:
            noises[text] = maker(**options)
        except ValueError as error:
            raise ValueError(f"--order {text!r}: {error}") from None
    return noises


def _check_number(order: str, name: str, value: Any, most: int) -> None:
    """Refuse what is no number, and epochs that are not a whole one or too many."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"--order {order!r}: {name}={value} must be a number")
    if name == "epochs" and not (isinstance(value, int) and 1 <= value <= most):
        raise ValueError(f"--order {order!r}: epochs={value} must be a whole number from 1 to {most}")


def without_replacement(noise: GradientNoise) -> bool:
    """Whether the noise is that of batches whose epochs hold every sample once.

    Args:
        noise: of an order.

    Returns:
        True for all that have epochs.
    """
    return hasattr(noise, "batches_per_epoch")


def default_curvatures(learning_rate: float, momentum: float, batches: int) -> list[float]:
    """A decade and a half around the crossover, or as near to it as is well below the bound of stability.

    Args:
        learning_rate, momentum: of SGD.
        batches: M, of an epoch.

    Returns:
        Four curvatures; the steepest is below a quarter of the bound.

    Raises:
        ValueError: for arguments out of range.
    """
    from theory.weight_variance_limits import crossover_curvature

    parse_modes(learning_rate, momentum, ())  # refuses what would divide by zero
    steepest = 2 * (1 + momentum) / learning_rate
    base = min(crossover_curvature(learning_rate, batches, momentum), steepest / 40)
    return [base * 3.0**k for k in (-1, 0, 1, 2)]


def check_flattest(modes: HeavyBall) -> None:
    """Refuse directions for which the default burn-in would be too long.

    Args:
        modes: the directions.

    Raises:
        ValueError: for a direction that is too flat.
    """
    import numpy as np

    from sim.weight_variance import LONGEST_BURN_IN, relaxation_steps

    steps = relaxation_steps(modes)
    if steps.max(initial=0.0) > LONGEST_BURN_IN:
        flattest = float(np.ravel(modes.curvature)[steps.argmax()])
        needed = f"{steps.max():.2g} updates" if np.isfinite(steps.max()) else "for ever"
        raise ValueError(
            f"--curvature {flattest:g}: forgetting the start takes {needed}, {LONGEST_BURN_IN:g} at most are spent by "
            "default; leave it out, or give --burn-in: then flat directions are simulated, and said to be outside the "
            "regime"
        )


def forgets_too_late(modes: HeavyBall, before: int | None) -> list[tuple[str, ...]]:
    """Why comparisons of some directions mean nothing: a burn-in that is too short for them.

    Args:
        modes: the directions.
        before: the burn-in that was asked for [updates]; None for the default, which is long enough.

    Returns:
        Reasons for each direction; mostly none.
    """
    import numpy as np

    from sim.weight_variance import relaxation_steps

    reasons: list[tuple[str, ...]] = []
    for curvature, needed in zip(np.ravel(modes.curvature).tolist(), relaxation_steps(modes).tolist(), strict=True):
        short = before is not None and needed > before
        what = f"burn-in of {before} updates is shorter than 12 relaxation times of curvature {curvature:.4g}"
        reasons.append((f"{what}, {needed:.3g}",) if short else ())
    return reasons


def parse_modes(learning_rate: float, momentum: float, curvatures: Sequence[float]) -> HeavyBall:
    """The directions that the options name.

    Args:
        learning_rate, momentum: of SGD.
        curvatures: in any order, possibly repeated.

    Returns:
        The modes, by ascending curvature.

    Raises:
        ValueError: where SGD has no stationary state.
    """
    from theory.heavy_ball import HeavyBall

    return HeavyBall(learning_rate, sorted(set(curvatures)), momentum)


def mode_parameters(
    learning_rate: float, momentum: float, batches: int, modes: HeavyBall, noises: dict[str, GradientNoise]
) -> dict[str, Any]:
    """The options as ``--json`` repeats them.

    Args:
        learning_rate, momentum, batches: as given.
        modes: whose curvatures were used.
        noises: the orders.

    Returns:
        Name -> value.
    """
    import numpy as np

    return {
        "learning_rate": learning_rate,
        "momentum": momentum,
        "batches": batches,
        "curvatures": np.ravel(modes.curvature).tolist(),
        "orders": list(noises),
    }


def recorded_steps(noise: GradientNoise, epochs: int, batches: int) -> int:
    """Steps of so many epochs, rounded up to whole groups of those that share an order.

    Args:
        noise: of an order of batches.
        epochs: as asked for.
        batches: M, of an epoch.

    Returns:
        The steps.
    """
    from sim.gaussian_noise import filter_of

    period = filter_of(noise).period
    return -(-epochs * batches // period) * period


def simulate_orders(
    noises: dict[str, GradientNoise],
    simulate: Callable[[GradientNoise, np.random.Generator, Progress | None], Simulated],
    *,
    name: str,
    seed: int,
    quiet: bool,
) -> dict[str, Simulated]:
    """Simulate one order of batches after the other, with one progress.

    Args:
        noises: the orders.
        simulate: from noise, generator and progress; its result has ``replicas`` and ``requested``.
        name: of the stream of random numbers.
        seed: of the same.
        quiet: no progress.

    Returns:
        Order -> result; after Ctrl-C those that were begun, of which the last has fewer replicas than requested.
    """
    from sim.random_streams import stream

    places = {order: number for number, order in enumerate(noises)}

    def one(order: str, progress: Progress | None) -> Simulated:
        return simulate(noises[order], stream(seed, name, places[order]), progress)

    return simulate_each(list(noises), one, quiet=quiet)
