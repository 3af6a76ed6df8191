"""Options that name SGD with momentum on a quadratic and the orders of its batches; the simulation of each order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from commands.shared import parse_perturbation, simulation_progress

if TYPE_CHECKING:
    import numpy as np

    from sim.ensemble import Progress
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

Simulated = TypeVar("Simulated")

ORDERS = "reshuffled, with_replacement, shuffled_once, reshuffled_every:epochs=E, persistent:correlation=R, anti_pgd"


def mode_options(*, learning_rate: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that name SGD with momentum on a quadratic, and the orders of its batches.

    Args:
        learning_rate: the default.

    Returns:
        A decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--order", "orders", multiple=True, help=f"Of the batches; repeatable: {ORDERS}."),
            click.option("--curvature", "curvatures", multiple=True, type=float, help="Of a direction; repeatable."),
            click.option("--batches", default=50, show_default=True, help="M, batches in an epoch."),
            click.option("--momentum", default=0.9, show_default=True),
            click.option("--learning-rate", default=learning_rate, show_default=True),
        ):
            command = option(command)
        return command

    return decorate


def parse_orders(orders: Sequence[str], batches: int) -> dict[str, GradientNoise]:
    """The noise of each order, of unit variance, by the text that names it.

    Args:
        orders: as given.
        batches: M, of an epoch.

    Returns:
        Text -> noise.

    Raises:
        ValueError: for an unknown order, or options that it does not have.
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
    for text in orders:
        options = parse_perturbation(text)
        name = str(options.pop("name")).replace("-", "_")
        if name not in makers or set(options) != makers[name][1]:
            raise ValueError(f"order {text!r} is unknown or misses its option; choose from {ORDERS}")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in options.values()):
            raise ValueError(f"order {text!r}: its option must be a number")
        noises[text] = makers[name][0](**options)
    return noises


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

    results: dict[str, Simulated] = {}
    with simulation_progress(quiet) as progress:
        for number, (order, noise) in enumerate(noises.items()):

            def whole(done: int, total: int, text: str, number: int = number, order: str = order) -> None:
                if progress is not None:
                    progress(number * total + done, len(noises) * total, f"{order}: {text}")

            try:
                result = simulate(noise, stream(seed, name, number), None if progress is None else whole)
            except KeyboardInterrupt:
                if not results:
                    raise
                break
            results[order] = result
            if result.replicas < result.requested:  # pyright: ignore[reportAttributeAccessIssue]
                break
    return results
