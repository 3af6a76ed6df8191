"""What ``effective-temperature --model mixture --out`` writes: arrays of theory, tables, and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.files import write_csv, write_figure
from commands.mixture_options import Setting
from commands.mixture_results import FINAL, OrderResult, at_time, estimate_of, relaxation, temperature_at

if TYPE_CHECKING:
    from figures.mean_field import Points, Relaxation
    from figures.replica_distance import OrderPoint
    from theory.estimate import Estimate

UNCERTAIN = 0.5
"""T_eff(n) is drawn and listed up to the first lag where its 95 % interval is wider, in units of the highest one,"""

FADED = 0.1
"""or where the response has fallen to this fraction of its highest: soon after, T_eff(n) may be infinite."""

ESTIMATE = ("theory", "standard_error", "simulated", "simulated_error", "exact")


def write_mixture(directory: Path, setting: Setting, results: Mapping[str, OrderResult]) -> None:
    """``times.csv``, ``lags.csv``, an ``.npz`` of all arrays of theory for each order, and four figures.

    Args:
        directory: which exists.
        setting: what the options name.
        results: by order.
    """
    from figures.mean_field import figure_lag_temperatures, figure_relaxation
    from figures.replica_distance import figure_replicas, figure_temperature_distance

    write_csv(directory / "times.csv", _time_rows(setting, results))
    relaxations = {text: _relaxation(setting, result) for text, result in results.items()}
    write_csv(directory / "lags.csv", _lag_rows(relaxations))
    for text, result in results.items():
        result.solution.save(directory / f"theory_{re.sub('[^A-Za-z0-9.=_-]+', '_', text)}.npz")
    points = {text: _point(setting, text, result) for text, result in results.items()}
    title, ended = f"{setting.title}; from step {setting.start}", f"{setting.title}; after {setting.steps} steps"
    figures = {
        "relaxation": figure_relaxation(title, relaxations),
        "temperatures": figure_lag_temperatures(title, relaxations),
        "replicas": figure_replicas(ended, list(points.values())),
    }
    if any(point.distance is not None and point.temperature is not None for point in points.values()):
        figures["temperature_distance"] = figure_temperature_distance(ended, points)
    for name, figure in figures.items():
        write_figure(directory / f"{name}.png", figure)


def _time_rows(setting: Setting, results: Mapping[str, OrderResult]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [("order", "time", "quantity", *ESTIMATE)]
    for text, result in results.items():
        recorded = () if result.simulated is None else result.simulated.times
        for time in range(setting.steps + 1):
            for name in FINAL:
                theory = at_time(result.solution, name, time)
                if theory is not None:
                    simulated = at_time(result.simulated, name, time) if time in recorded else None
                    exact = None if result.exact is None else at_time(result.exact, name, time)
                    rows.append((text, time, name, *_cells(theory, simulated, exact and exact.value)))
    return rows


def _cells(theory: Estimate, simulated: Estimate | None, exact: float | None) -> tuple[Any, ...]:
    found = (None, None) if simulated is None else (simulated.value, simulated.standard_error)
    return theory.value, theory.standard_error, *found, exact


def _lag_rows(relaxations: Mapping[str, Relaxation]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [("order", "lag", "quantity", *ESTIMATE)]
    for text, found in relaxations.items():
        for name, points, simulated, exact in (
            ("C(0) - C(n)", found.fluctuation, found.simulated_fluctuation, ()),
            ("R(n)", found.response, found.simulated_response, ()),
            ("T_eff(n)", found.temperature, found.simulated_temperature, found.exact),
        ):
            measured, known = dict(simulated), dict(exact)
            rows += [(text, int(n), name, *_cells(e, measured.get(n), known.get(n))) for n, e in points]
    return rows


def _relaxation(setting: Setting, result: OrderResult) -> Relaxation:
    """Theory at all lags, the simulation at those that were asked for."""
    from figures.mean_field import Relaxation

    starts, rate = setting.starts(result.selection), setting.training.learning_rate
    lags = range(1, setting.longest_lag)
    parts = {n: relaxation(result.solution, starts, n) for n in lags}
    found: dict[str, Points] = {}
    if result.simulated is not None:
        begun, simulated = setting.simulated_starts(result.selection), result.simulated
        averages = {n: relaxation(simulated, begun, n) for n in setting.lags}
        measured = {n: temperature_at(simulated, begun, n, rate) for n in setting.lags}
        found["simulated_fluctuation"] = [(n, estimate_of(lost)) for n, (lost, _, _) in averages.items()]
        found["simulated_response"] = [(n, estimate_of(answer)) for n, (_, _, answer) in averages.items()]
        found["simulated_temperature"] = [(n, e) for n, e in measured.items() if e is not None]
    sizes = [float(parts[n][2].mean()) for n in lags]
    peak = max(range(len(sizes)), key=lambda place: sizes[place])
    lasting = next((n for n, size in zip(lags, sizes, strict=True) if n > peak and size < FADED * sizes[peak]), None)
    temperatures = [(n, temperature_at(result.solution, starts, n, rate)) for n in lags[: lasting and lasting - 1]]
    known = _certain(temperatures)
    return Relaxation(
        fluctuation=[(n, estimate_of(lost)) for n, (lost, _, _) in parts.items()],
        response=[(n, estimate_of(answer)) for n, (_, _, answer) in parts.items()],
        temperature=known,
        exact=[
            (n, e.value)
            for n, _ in known
            if result.exact is not None and (e := temperature_at(result.exact, starts, n, rate)) is not None
        ],
        **found,
    )


def _certain(temperatures: list[tuple[int, Estimate | None]]) -> list[tuple[int, Estimate]]:
    highest = 0.0
    kept: list[tuple[int, Estimate]] = []
    for lag, estimate in temperatures:
        if estimate is None:
            break
        low, high = estimate.interval()
        highest = max(highest, abs(estimate.value))
        if (high - low) / 2 > UNCERTAIN * highest:
            break
        kept.append((lag, estimate))
    return kept


def _point(setting: Setting, text: str, result: OrderResult) -> OrderPoint:
    from figures.replica_distance import OrderPoint

    time, width = setting.steps, "margin, 10 %"
    margin, simulated = at_time(result.solution, width, time), result.simulated
    assert margin is not None
    return OrderPoint(
        kind=text.partition(":")[0].replace("_", " "),
        fraction=result.selection.batch_fraction,
        persistence_time=getattr(result.selection, "persistence_time", None),
        temperature=None if result.temperature is None else result.temperature.by_slope,
        distance=at_time(result.solution, "replica distance", time),
        margin=margin,
        simulated_distance=None if simulated is None else at_time(simulated, "replica distance", time),
        simulated_margin=None if simulated is None else at_time(simulated, width, time),
    )
