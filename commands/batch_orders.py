"""SGD with momentum on a quadratic, and the orders of its batches: options that name them, and their simulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from commands.options import Decorator, learning_rate_option, momentum_option, parse_perturbation, with_options
from commands.simulations import Simulated, simulate_each

if TYPE_CHECKING:
    from theory.gradient_noise import GradientNoise
    from theory.heavy_ball import HeavyBall

ORDERS = "reshuffled, with_replacement, shuffled_once, reshuffled_every:epochs=E, persistent:correlation=R, anti_pgd"

DEFAULT_ORDERS = ("reshuffled", "with_replacement")

DEFAULT_CURVATURES = "1/3, 1, 3 and 9 times the crossover 3 (1 - beta) / (eta M), less where that is near the bound"
"""Those of `default_curvatures`, in words."""

MOST_BATCHES = 10**6
"""In an epoch, and in epochs that share an order, where costs grow with it."""

ANTI_PGD_FOOTER = "anti_pgd: the unit variance is that of the whole increment xi_{k+1} - xi_k, twice the variance of xi"


def mode_options(*, batches: int = MOST_BATCHES, curvatures: str = DEFAULT_CURVATURES) -> Decorator:
    """Options of `quadratic_of`.

    Args:
        batches: the most in an epoch.
        curvatures: the default ones, in words.

    Returns:
        A decorator.
    """
    return with_options(
        learning_rate_option(0.01),
        momentum_option(0.9),
        click.option(
            "--batches", default=50, show_default=True, type=click.IntRange(2, batches), help="M, batches in an epoch."
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
            "--order",
            "orders",
            multiple=True,
            help=f"How batches are drawn, repeatable: {ORDERS}. E >= 1: epochs in the same order; -1 < R < 1: "
            "correlation of successive gradients' noise; anti_pgd: increments of independent noise, no batches. "
            f"Default: {', '.join(DEFAULT_ORDERS)}.",
        ),
    )


window_options = with_options(
    click.option(
        "--epochs",
        default=200,
        show_default=True,
        type=click.IntRange(1, 10**6),
        help="Recorded in each run, M updates each; rounded up to whole groups for reshuffled_every.",
    ),
    click.option(
        "--burn-in",
        type=click.IntRange(0, 10**7),
        help="Epochs before that. Default: 12 relaxation times of the flattest direction, at least 10 epochs.",
    ),
)
"""What is recorded of a simulation."""


@dataclass(frozen=True, eq=False)
class Quadratic:
    """What the options name.

    Attributes:
        batches: M, of an epoch.
        modes: the directions, by ascending curvature.
        noises: order -> noise of unit variance.
    """

    batches: int
    modes: HeavyBall
    noises: dict[str, GradientNoise]

    @property
    def curvatures(self) -> list[float]:
        """Of the directions."""
        import numpy as np

        return np.ravel(self.modes.curvature).tolist()

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "learning_rate": self.modes.learning_rate,
            "momentum": self.modes.momentum,
            "batches": self.batches,
            "curvatures": self.curvatures,
            "orders": list(self.noises),
        }

    @property
    def has_epochs(self) -> bool:
        """Whether there is an order whose epochs hold every sample once."""
        return any(hasattr(noise, "batches_per_epoch") for noise in self.noises.values())

    @property
    def footer(self) -> str | None:
        """What a table says of the noises, if anything."""
        from theory.gradient_noise import AntiCorrelatedIncrements

        increments = any(isinstance(noise, AntiCorrelatedIncrements) for noise in self.noises.values())
        return ANTI_PGD_FOOTER if increments else None

    def steps(self, noise: GradientNoise, epochs: int) -> int:
        """Steps of so many epochs, rounded up to whole groups of those that share an order."""
        from sim.gaussian_noise import filter_of

        period = filter_of(noise).period
        return -(-epochs * self.batches // period) * period

    def forgets_too_late(self, burn_in: int | None) -> dict[str, list[tuple[str, ...]]]:
        """Why comparisons of some directions mean nothing: a burn-in that is too short for them.

        Args:
            burn_in: that was asked for [epochs]; None for the default, which is long enough.

        Returns:
            Order -> reasons for each direction; mostly none.
        """
        from sim.weight_variance import relaxation_steps

        needed = relaxation_steps(self.modes).tolist()
        reasons: dict[str, list[tuple[str, ...]]] = {}
        for order, noise in self.noises.items():
            before = None if burn_in is None else self.steps(noise, burn_in)
            reasons[order] = [
                ()
                if before is None or steps <= before
                else (
                    f"burn-in of {before} updates is shorter than 12 relaxation times of curvature {curvature:.4g}, "
                    f"{steps:.3g}",
                )
                for curvature, steps in zip(self.curvatures, needed, strict=True)
            ]
        return reasons


def quadratic_of(
    *,
    learning_rate: float,
    momentum: float,
    batches: int,
    curvatures: Sequence[float],
    orders: Sequence[str],
    default: Callable[[float, float, int], list[float]] | None = None,
    most: int = MOST_BATCHES,
) -> Quadratic:
    """The directions and the noises that the options name.

    Args:
        learning_rate, momentum, batches, curvatures, orders: as given.
        default: makes curvatures of the first three if none are given; `default_curvatures` if left out.
        most: batches in epochs that share an order.

    Returns:
        The setting.

    Raises:
        ValueError: for an unknown order, or what is out of range.
    """
    from theory.heavy_ball import HeavyBall

    noises = parse_orders(orders, batches, most=most)
    HeavyBall(learning_rate, (), momentum)  # refuses what would divide by zero
    chosen = curvatures or (default or default_curvatures)(learning_rate, momentum, batches)
    return Quadratic(batches, HeavyBall(learning_rate, sorted(set(chosen)), momentum), noises)


def default_curvatures(learning_rate: float, momentum: float, batches: int) -> list[float]:
    """A decade and a half around the crossover, or as near to it as is well below the bound of stability.

    Args:
        learning_rate, momentum: of SGD.
        batches: M, of an epoch.

    Returns:
        Four curvatures; the steepest is below a quarter of the bound.
    """
    from theory.weight_variance_limits import crossover_curvature

    steepest = 2 * (1 + momentum) / learning_rate
    base = min(crossover_curvature(learning_rate, batches, momentum), steepest / 40)
    return [base * 3.0**k for k in (-1, 0, 1, 2)]


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

    def reshuffled_every(epochs: float) -> GradientNoise:
        if not (isinstance(epochs, int) and 1 <= epochs <= most // batches):
            raise ValueError(f"epochs={epochs} must be a whole number from 1 to {most // batches}")
        return gradient_noise.ReshuffledEvery(batches, epochs)

    makers: dict[str, tuple[Callable[..., GradientNoise], tuple[str, ...]]] = {
        "reshuffled": (lambda: gradient_noise.Reshuffled(batches), ()),
        "with_replacement": (gradient_noise.WhiteNoise, ()),
        "shuffled_once": (lambda: gradient_noise.ShuffledOnce(batches), ()),
        "reshuffled_every": (reshuffled_every, ("epochs",)),
        "persistent": (gradient_noise.Persistent, ("correlation",)),
        "anti_pgd": (gradient_noise.AntiCorrelatedIncrements, ()),
    }
    needed = {name: options for name, (_, options) in makers.items()}
    noises = {}
    for text in orders or DEFAULT_ORDERS:
        name, numbers = parse_order(text, needed, ORDERS)
        try:
            noises[text] = makers[name][0](*numbers.values())
        except ValueError as error:
            raise ValueError(f"--order {text!r}: {error}") from None
    return noises


def parse_order(
    text: str, needed: Mapping[str, Sequence[str]], choice: str, *, defaults: Mapping[str, float] | None = None
) -> tuple[str, dict[str, float]]:
    """One order of batches.

    Args:
        text: such as ``persistent:correlation=0.9``.
        needed: name -> its options, all numbers.
        choice: all orders in words, for messages.
        defaults: ``NAME:option`` -> number where it is left out.

    Returns:
        Its name, and its options in the order of ``needed``.

    Raises:
        ValueError: for an unknown order, or options that it lacks, does not have, or that are no numbers.

    Example:
        >>> parse_order("persistent: tau=6.4, b=0.25", {"persistent": ("b", "tau")}, "")
        ('persistent', {'b': 0.25, 'tau': 6.4})
    """
    given = parse_perturbation(text, option=f"--order {text!r}:")
    name = str(given.pop("name")).replace("-", "_")
    if name not in needed:
        raise ValueError(f"--order {text!r} is unknown; choose from {choice}")
    options = {key: given.pop(key, (defaults or {}).get(f"{name}:{key}")) for key in needed[name]}
    if missing := [key for key, value in options.items() if value is None]:
        raise ValueError(f"--order {text!r}: {missing[0]} is missing; choose from {choice}")
    if given:
        raise ValueError(f"--order {text!r}: {name} has no {min(given)}; choose from {choice}")
    for key, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"--order {text!r}: {key}={value} must be a number")
    return name, options


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


def simulate_orders(
    quadratic: Quadratic,
    simulate: Callable[..., Simulated],
    *,
    name: str,
    seed: int,
    epochs: int,
    burn_in: int | None,
    quiet: bool,
    **sizes: Any,
) -> dict[str, Simulated]:
    """Simulate one order of batches after the other, with one progress.

    Args:
        quadratic: what the options name.
        simulate: from modes, noise, generator, and these by name: steps, burn_in, progress, and the sizes. Its result
            has ``replicas`` and ``requested``.
        name: of the stream of random numbers.
        seed: of the same.
        epochs, burn_in: of `window_options`.
        quiet: no progress.
        **sizes: handed on.

    Returns:
        Order -> result; after Ctrl-C those that were begun, of which the last has fewer replicas than requested.
    """
    from sim.random_streams import stream

    places = {order: number for number, order in enumerate(quadratic.noises)}

    def one(order: str, progress: Any) -> Simulated:
        noise = quadratic.noises[order]
        return simulate(
            quadratic.modes,
            noise,
            stream(seed, name, places[order]),
            steps=quadratic.steps(noise, epochs),
            burn_in=None if burn_in is None else quadratic.steps(noise, burn_in),
            progress=progress,
            **sizes,
        )

    return simulate_each(list(quadratic.noises), one, quiet=quiet)
