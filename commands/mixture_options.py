"""Options that name a perceptron on the Gaussian mixture, its training and its batches, and how theory samples them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from commands.batch_orders import parse_order
from commands.options import learning_rate_option, momentum_option, refuse_options, with_options

if TYPE_CHECKING:
    from theory.batch_selection import BatchSelection
    from theory.mixture_model import MixturePerceptron, PerceptronTraining

ORDERS = "gd:b=B, bernoulli:b=B, persistent:b=B,tau=TAU, reshuffled:M=M, shuffled_once:M=M"

DEFAULT_ORDERS = ("bernoulli:b=0.25", "persistent:b=0.25,tau=6.4", "reshuffled:M=4", "shuffled_once:M=4")

LAGS = (1, 2, 5, 10)
"""For the columns of a table."""

FEWEST_PARTICLES = 1000
"""By default; more if there are many steps."""

SIMULATED_STARTS = 4
"""Start times of a simulated answer, if batches have no epochs."""

MOST_STARTS = 8
"""Of the same; each costs a twin."""

_model_options = with_options(
    click.option("--sample-ratio", default=2.0, show_default=True, help="alpha > 0, training samples per dimension."),
    click.option("--noise-variance", default=0.5, show_default=True, help="Delta > 0, of the data around the centres."),
    click.option(
        "--loss",
        default="logistic",
        show_default=True,
        type=click.Choice(("square", "logistic", "squared_hinge", "perceptron")),
        help="Of the margin v. Square loss, two clusters and batches of gd or bernoulli have an exact solution.",
    ),
    click.option(
        "--clusters",
        default="2",
        show_default=True,
        type=click.Choice(("2", "3")),
        help="At -1 and 1 with labels -1 and 1; or at -1, 0 and 1 with labels 1, -1 and 1, for the door.",
    ),
    click.option(
        "--activation",
        default="linear",
        show_default=True,
        type=click.Choice(("linear", "door")),
        help="Of the output u; door: u^2 - L^2.",
    ),
    click.option("--margin", default=1.0, show_default=True, help="kappa >= 0 of squared_hinge and perceptron."),
    click.option("--smoothing", default=0.5, show_default=True, help="h > 0, width of the kink of perceptron."),
    click.option("--door-width", default=1.0, show_default=True, help="L > 0 of door."),
    click.option("--weight-decay", default=0.5, show_default=True, help="lambda >= 0."),
)
_training_options = with_options(
    learning_rate_option(0.4),
    momentum_option(0.0),
    click.option("--initial-overlap", default=0.0, show_default=True, help="m(0), with the direction of the centres."),
    click.option("--initial-spread", default=1.0, show_default=True, help="Std >= 0 of the other initial weights."),
    click.option(
        "--order",
        "orders",
        multiple=True,
        help=f"How batches are drawn, repeatable: {ORDERS}. B: part of all samples in a batch, 0 < B <= 1 (1 for gd "
        "if left out); TAU >= eta: how long samples stay out, in units of the learning rate; M: batches in an epoch. "
        f"Default: {', '.join(DEFAULT_ORDERS)}.",
    ),
)
_solution_options = with_options(
    click.option("--steps", default=80, show_default=True, type=click.IntRange(4, 5000), help="T, updates."),
    click.option(
        "--start",
        type=click.IntRange(0, 5000),
        help="First update of the stationary state, where temperatures are measured. Default: T / 2.",
    ),
    click.option(
        "--lag",
        "lags",
        multiple=True,
        type=click.IntRange(1, 5000),
        help=f"n, updates between force and answer, repeatable. Default: {', '.join(map(str, LAGS))}, as far as they "
        "fit.",
    ),
    click.option(
        "--particles",
        type=click.IntRange(8, 10**7),
        help=f"K, samples that theory follows in each population; its bias is ~ 1 / K. Default: {FEWEST_PARTICLES}, or "
        "4 (T + 1) if that is more.",
    ),
    click.option(
        "--populations",
        default=16,
        show_default=True,
        type=click.IntRange(2, 10**4),
        help="Independent solutions; the errors of theory are their spread.",
    ),
    click.option(
        "--replicas",
        default="2",
        show_default=True,
        type=click.Choice(("1", "2")),
        help="2: also how far two trainings of equal start and data and independent batches get apart; twice the work.",
    ),
)


mixture_options = with_options(_model_options, _training_options, _solution_options)
"""All options of `setting_of`."""


@dataclass(frozen=True)
class Setting:
    """What the options name.

    Attributes:
        model: the perceptron and its data.
        training: how it starts and moves.
        orders: text -> batches.
        steps: T.
        start: first time of the stationary state.
        lags: n, rising.
        particles: K.
        populations: of K particles each.
        replicas: 1 or 2.
    """

    model: MixturePerceptron
    training: PerceptronTraining
    orders: dict[str, BatchSelection]
    steps: int
    start: int
    lags: tuple[int, ...]
    particles: int
    populations: int
    replicas: int

    @property
    def longest_lag(self) -> int:
        """L, of the theory's averages."""
        return (self.steps - self.start) // 2

    def starts(self, selection: BatchSelection) -> range:
        """Start times of the theory's averages: whole epochs, as in theory.mean_field_temperature.

        Args:
            selection: how batches are made.

        Returns:
            At least one.
        """
        count = (self.steps - self.start - self.longest_lag + 1) // selection.period * selection.period
        return range(self.start, self.start + count)

    def simulated_starts(self, selection: BatchSelection) -> range:
        """Start times that a simulation has, and the theory that is held against it: an epoch, if it is short.

        Args:
            selection: how batches are made.

        Returns:
            At least one.
        """
        wanted = selection.period if selection.period > 1 else SIMULATED_STARTS
        return range(self.start, self.start + min(wanted, MOST_STARTS, self.steps - self.start - self.lags[-1]))

    @property
    def title(self) -> str:
        """Of figures and tables, in one line."""
        model, training = self.model, self.training
        words = f"{model.loss.replace('_', ' ')} loss, \N{GREEK SMALL LETTER ALPHA} = {model.sample_ratio:g}, "
        words += f"\N{GREEK CAPITAL LETTER DELTA} = {model.noise_variance:g}, "
        words += f"\N{GREEK SMALL LETTER LAMDA} = {model.weight_decay:g}, "
        words += f"\N{GREEK SMALL LETTER ETA} = {training.learning_rate:g}"
        if training.momentum:
            words += f", \N{GREEK SMALL LETTER BETA} = {training.momentum:g}"
        if model.clusters == 3:
            words += ", 3 clusters"
        return words + (", door" if model.activation == "door" else "")

    def parameters(self) -> dict[str, Any]:
        """For ``--json``."""
        record = dataclasses.asdict(self.model) | dataclasses.asdict(self.training)
        record |= {"orders": list(self.orders), "steps": self.steps, "start": self.start, "lags": list(self.lags)}
        record |= {"particles": self.particles, "populations": self.populations, "replicas": self.replicas}
        return {"model": "mixture"} | record


def setting_of(
    *,
    orders: Sequence[str],
    steps: int,
    start: int | None,
    lags: Sequence[int],
    particles: int | None,
    populations: int,
    replicas: str,
    clusters: str,
    learning_rate: float,
    momentum: float,
    initial_overlap: float,
    initial_spread: float,
    **model: Any,
) -> Setting:
    """Check the options of a command before anything is computed.

    Args:
        orders, steps, start, lags, particles, populations, replicas, clusters, learning_rate, momentum: as given.
        initial_overlap, initial_spread: as given.
        model: the other fields of the model.

    Returns:
        The setting.

    Raises:
        ValueError: for what is out of range, does not go together, or would be ignored.
    """
    from theory.mixture_model import MixturePerceptron, PerceptronTraining

    context = click.get_current_context()
    if model["loss"] not in ("squared_hinge", "perceptron"):
        refuse_options(context, ["margin"], "--loss squared_hinge or perceptron")
    if model["loss"] != "perceptron":
        refuse_options(context, ["smoothing"], "--loss perceptron")
    if model["activation"] != "door":
        refuse_options(context, ["door_width"], "--activation door")
    perceptron = MixturePerceptron(clusters=int(clusters), **model)
    training = PerceptronTraining(learning_rate, momentum, initial_overlap, initial_spread)
    selections = parse_orders(orders or DEFAULT_ORDERS)
    for text, selection in selections.items():
        try:
            selection.check(training.learning_rate)
        except ValueError as error:
            raise ValueError(f"--order {text!r}: {error}") from None
    first = steps // 2 if start is None else start
    longest = (steps - first) // 2
    if longest < 2:
        raise ValueError(f"--start {first} must be at most {steps - 4}: --steps {steps} leave too few updates after it")
    period = max(selection.period for selection in selections.values())
    if steps - first - longest + 1 < period:
        raise ValueError(
            f"--steps {steps} leave less than an epoch of M={period} updates after --start {first}: take at least "
            f"{4 * period if start is None else first + 2 * period}"
        )
    chosen = tuple(sorted(set(lags or [n for n in LAGS if n < longest])))
    if chosen[-1] >= longest:
        raise ValueError(
            f"--lag {chosen[-1]} must be less than {longest}, half of what --steps {steps} leave after --start {first}"
        )
    followed = particles if particles is not None else max(FEWEST_PARTICLES, -(-4 * (steps + 1) // 8) * 8)
    return Setting(
        perceptron, training, selections, steps, first, chosen, followed, populations, replicas=int(replicas)
    )


def parse_orders(orders: Sequence[str]) -> dict[str, BatchSelection]:
    """The batches of each order, by a text that names them; those named twice are there once.

    Args:
        orders: as given.

    Returns:
        Text -> batches.

    Raises:
        ValueError: for an unknown order, or options that it does not have or that are out of range.

    Example:
        >>> parse_orders(["persistent:tau=6.4, b=0.25"])
        {'persistent:b=0.25,tau=6.4': PersistentBatches(fraction=0.25, persistence_time=6.4)}
    """
    from theory import batch_selection as made

    makers: dict[str, tuple[Callable[..., BatchSelection], tuple[str, ...]]] = {
        "gd": (made.FullBatch, ("b",)),
        "bernoulli": (made.BernoulliBatches, ("b",)),
        "persistent": (made.PersistentBatches, ("b", "tau")),
        "reshuffled": (made.ReshuffledBatches, ("M",)),
        "shuffled_once": (made.ShuffledOnceBatches, ("M",)),
    }
    needed = {name: options for name, (_, options) in makers.items()}
    selections = {}
    for text in orders:
        name, numbers = parse_order(text, needed, ORDERS, defaults={"gd:b": 1.0})
        try:
            selection = makers[name][0](*numbers.values())
        except ValueError as error:
            raise ValueError(f"--order {text!r}: {error}") from None
        words = ",".join(f"{key}={value:.12g}" for key, value in numbers.items())
        selections[f"{name}:{words}"] = selection
    return selections
