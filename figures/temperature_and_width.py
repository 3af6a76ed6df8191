"""How hot SGD is, how far its replicas get apart, and how wide its boundaries are: drawn from ``figures/data``.

In the mixture model, theory and simulation; in networks, what was measured.

Reference: [mignacco2022] effective temperature, distance of replicas, wider boundaries
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from figures.gallery_figure import rows_of
from theory.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.mean_field import Relaxation
    from figures.measured_effective_temperature import HotNetworks
    from figures.replica_distance import OrderPoint

POPULATIONS, RUNS = 8, 24
"""Of theory and of the simulation in ``mixture_relaxation.csv`` and ``mixture_noise.csv``."""

OVER_POPULATIONS = 4
"""Of theory in its over-parametrised setting."""

UNDER = "logistic loss, α = 2, Δ = 0.5, λ = 0.5, η = 0.4"
"""The under-parametrised setting."""

NETWORK = "MLP, 2,410 weights, on digits"

FIRST_SEEDS = 6
"""Of the networks: seeds 0 to 5; those after them were trained later, with nothing changed."""

STOPS = {
    "early": "equal time, early",
    "late": "equal time, late",
    "equal_loss": "equal training loss",
    "zero_error": "first zero training error",
    "at_rest": "at rest, without noise",
}

WIDTHS = {"margin": "normalised margin", "input_distance": "distance along the gradient"}


def order_words(order: str) -> str:
    """An order of batches as the legends call it.

    Args:
        order: as in the tables of the mixture.

    Returns:
        Words.

    Example:
        >>> order_words("persistent:b=0.25,tau=6.4"), order_words("reshuffled:M=4")
        ('persistent, b = 0.25, τ = 6.4', 'reshuffled, b = 1/4')
    """
    kind, _, options = order.partition(":")
    words = options.replace("M=", "b = 1/").replace("tau=", "τ = ").replace("b=", "b = ").replace(",", ", ")
    return f"{kind}, {words}"


# ---- The mixture model -----------------------------------------------------------------------------------------------


def relaxations() -> dict[str, Relaxation]:
    """Correlation, response and temperature of five orders.

    Returns:
        Words for the order -> theory and simulation.
    """
    from figures.mean_field import Relaxation

    table = rows_of("mixture_relaxation")
    found = {}
    for order in dict.fromkeys(row["order"] for row in table):
        theory: dict[str, list[tuple[float, Estimate]]] = {}
        simulated: dict[str, list[tuple[float, Estimate]]] = {}
        for quantity in ("C(0) - C(n)", "R(n)", "T_eff(n)"):
            rows = [row for row in table if row["order"] == order and row["quantity"] == quantity]
            theory[quantity] = [
                (int(row["lag"]), Estimate(float(row["theory"]), float(row["standard_error"]), POPULATIONS))
                for row in rows
            ]
            simulated[quantity] = [
                (int(row["lag"]), Estimate(float(row["simulated"]), float(row["simulated_error"]), RUNS))
                for row in rows
                if row["simulated"]
            ]
        found[order_words(order)] = Relaxation(
            fluctuation=theory["C(0) - C(n)"],
            response=theory["R(n)"],
            temperature=theory["T_eff(n)"],
            simulated_fluctuation=simulated["C(0) - C(n)"],
            simulated_response=simulated["R(n)"],
            simulated_temperature=simulated["T_eff(n)"],
        )
    return found


def draw_mixture_temperature() -> Figure:
    """Effective temperature against the lag.

    Returns:
        The figure.
    """
    from figures.mean_field import figure_lag_temperatures

    return figure_lag_temperatures(f"Perceptron on two clusters: {UNDER}", relaxations())


def draw_mixture_relaxation() -> Figure:
    """Correlation and response, and one against the other.

    Returns:
        The figure.
    """
    from figures.mean_field import figure_relaxation

    return figure_relaxation(f"Perceptron on two clusters: {UNDER}", relaxations())


def order_points(*, over: bool = False) -> dict[str, OrderPoint]:
    """Temperature, distance and margin of twelve orders.

    Args:
        over: take distances and margins of the over-parametrised setting.

    Returns:
        Order -> what is drawn.
    """
    from figures.replica_distance import OrderPoint

    begin = "over_" if over else ""
    found = {}
    for row in rows_of("mixture_noise"):
        kind, _, options = row["order"].partition(":")
        named = dict(option.split("=") for option in options.split(","))

        def estimate(name: str, n: int, row: dict[str, str] = row) -> Estimate:
            return Estimate(float(row[name]), float(row[f"{name}_error"]), n)

        populations = OVER_POPULATIONS if over else POPULATIONS
        found[row["order"]] = OrderPoint(
            kind=kind,
            fraction=float(named["b"]) if "b" in named else 1 / float(named["M"]),
            persistence_time=float(named["tau"]) if "tau" in named else None,
            temperature=estimate("temperature", POPULATIONS),
            distance=estimate(f"{begin}distance", populations),
            margin=estimate(f"{begin}margin", populations),
            simulated_distance=estimate(f"{begin}simulated_distance", RUNS),
            simulated_margin=estimate(f"{begin}simulated_margin", RUNS),
        )
    return found


def draw_mixture_noise() -> Figure:
    """Temperature and distance of replicas against the batch fraction and the persistence time.

    Returns:
        The figure.
    """
    from figures.replica_distance import figure_replicas

    title = f"Perceptron on two clusters: {UNDER}; after 160 steps"
    points = [dataclasses.replace(each, margin=None, simulated_margin=None) for each in order_points().values()]
    return figure_replicas(title, points, temperature=True)


def draw_mixture_temperature_distance() -> Figure:
    """Temperature where training errors remain against the distance of replicas where none do.

    Returns:
        The figure.
    """
    from figures.replica_distance import figure_temperature_distance

    title = "Temperature (under-parametrised) against distance of replicas (over-parametrised)"
    return figure_temperature_distance(title, order_points(over=True))


def draw_mixture_boundary_width() -> Figure:
    """Widths of boundaries at the end of training, beside those of full batches.

    Returns:
        The figure.
    """
    from figures.boundary_width import figure_width_differences

    losses: dict[str, dict[str, list[tuple[str, Estimate]]]] = {}
    for row in rows_of("mixture_boundary_width"):
        if float(row["replica_distance"]) == 0:
            continue  # full batches, the reference
        loss = {
            "squared_hinge, kappa 1": "squared hinge, until its loss is 1e-4",
            "perceptron, kappa 0, kink 0.05": "perceptron loss, until all are right",
        }[row["loss"]]
        kind, _, options = row["batches"].partition(",")
        time = options.rpartition("tau=")[2]
        words = {"reshuffled": "re-\nshuffled", "sgd": "Bernoulli"}.get(kind, f"persistent\nτ = {time}")
        for size in (1, 10, 50):
            difference = float(row[f"margin_{size}_difference"])
            estimate = Estimate(difference, float(row[f"margin_{size}_error"]), int(row["replicas"]))
            losses.setdefault(loss, {}).setdefault(f"{size} % quantile", []).append((words, estimate))
    title = "Perceptron on two clusters, α = 1.5: width of the boundary after training"
    return figure_width_differences(title, losses, label="margin / |w|, minus that of full batches")


# ---- Networks --------------------------------------------------------------------------------------------------------


def hot_networks() -> list[HotNetworks]:
    """Eight conditions of the networks, means over seeds 0 to 5.

    Returns:
        One for each order and batch size.
    """
    from figures.measured_effective_temperature import HotNetworks

    curves, seeds = rows_of("effective_temperature_curves_digits"), rows_of("effective_temperature_digits")
    found = []
    for order, size in dict.fromkeys((row["order"], row["batch_size"]) for row in curves):
        mine = [row for row in curves if (row["order"], row["batch_size"]) == (order, size)]
        parts = {
            name: [
                (int(row["at"]), Estimate(float(row["mean"]), float(row["standard_error"]), int(row["n"])))
                for row in mine
                if row["quantity"] == name
            ]
            for name in ("temperature", "predicted_temperature", "distance", "disagreement")
        }
        first = [
            row
            for row in seeds
            if (row["order"], row["batch_size"]) == (order, size) and int(row["seed"]) < FIRST_SEEDS
        ]
        found.append(
            HotNetworks(
                order=order.replace("_", " "),
                batch_size=int(size),
                lags=np.array([lag for lag, _ in parts["temperature"]]),
                temperature=[estimate for _, estimate in parts["temperature"]],
                predicted=np.array([estimate.value for _, estimate in parts["predicted_temperature"]]),
                slow=Estimate.from_samples([float(row["slow"]) for row in first]),
                epochs=np.array([epoch for epoch, _ in parts["distance"]]),
                distance=[estimate for _, estimate in parts["distance"]],
                disagreement=parts["disagreement"][-1][1],
                widths={words: _known(first, f"margin_{stop}") for stop, words in STOPS.items()},
            )
        )
    return found


def _known(rows: Sequence[dict[str, str]], name: str) -> Estimate | None:
    """The mean over the seeds that have it, if there are two."""
    values = [float(row[name]) for row in rows if row[name] not in ("", "nan")]
    return Estimate.from_samples(values) if len(values) > 1 else None


def draw_network_temperature() -> Figure:
    """Temperatures of networks against the lag, and the distance of their replicas in training.

    Returns:
        The figure.
    """
    from figures.measured_effective_temperature import figure_heat

    return figure_heat(f"{NETWORK}; 6 seeds", hot_networks())


def draw_network_widths() -> Figure:
    """Distance of replicas and widths of boundaries against the temperature.

    Returns:
        The figure.
    """
    from figures.measured_effective_temperature import figure_rises_with_heat

    return figure_rises_with_heat(f"{NETWORK}; 6 seeds", hot_networks(), WIDTHS["margin"])


def rank_correlations(width: str, stop: str, seeds: Sequence[int]) -> Estimate:
    """Rank correlation of a width with the slow temperature over the eight conditions, mean over seeds.

    Args:
        width: one of ``WIDTHS``.
        stop: one of ``STOPS``.
        seeds: in each, conditions that never stopped are left out.

    Returns:
        The mean.
    """
    from scipy.stats import rankdata

    table = rows_of("effective_temperature_digits")
    found = []
    for seed in seeds:
        rows = [row for row in table if int(row["seed"]) == seed and row[f"{width}_{stop}"] not in ("", "nan")]
        slow, wide = ([float(row[name]) for row in rows] for name in ("slow", f"{width}_{stop}"))
        found.append(float(np.corrcoef(rankdata(slow), rankdata(wide))[0, 1]))
    return Estimate.from_samples(found)


def draw_network_width_ranks() -> Figure:
    """Whether hotter networks have wider boundaries, by when one stops.

    Returns:
        The figure.
    """
    from figures.boundary_width import figure_rank_correlations

    sets = {"seeds 0 to 5": range(FIRST_SEEDS), "fresh seeds 6 to 11": range(FIRST_SEEDS, 2 * FIRST_SEEDS)}
    widths = {
        words: {
            name: [(STOPS[stop], rank_correlations(width, stop, seeds)) for stop in STOPS]
            for name, seeds in sets.items()
        }
        for width, words in WIDTHS.items()
    }
    return figure_rank_correlations(f"Are boundaries wider where it is hotter? {NETWORK}", widths)
