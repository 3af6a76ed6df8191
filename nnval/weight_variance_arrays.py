"""Every number of the finished experiment of ``jostle validate weight-variance``: plain JSON, and CSV files."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnval.measure.batch_orders import order_file
from nnval.tables import Table
from nnval.weight_variance_comparison import OrderResult
from nnval.weight_variance_study import VarianceStudy
from nnval.weight_variance_tables import QUANTITIES
from theory.estimate import Comparison, Estimate


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def comparisons_json(study: VarianceStudy) -> list[dict[str, Any]]:
    """The comparisons of the experiment as plain JSON, those of the scan included.

    Args:
        study: finished.

    Returns:
        One record for each direction and quantity.
    """
    records = []
    points = [({}, study.result), *(({p.name: p.value}, p.result) for p in study.scan)]
    for changed, result in points:
        for order in result.orders:
            curvatures = order.spectrum.curvature[order.stationary].tolist()
            for attribute, name in QUANTITIES.items():
                for curvature, c in zip(curvatures, getattr(order, attribute), strict=True):
                    where = {"order": order.order.label, **changed, "quantity": name, "curvature": curvature}
                    records.append(where | _comparison_json(c))
    for noise in study.noise:
        records += [{"order": noise.order, "quantity": c.quantity} | _comparison_json(c) for c in noise.comparisons]
    return records


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "predicted": comparison.predicted.value,
        "predicted_standard_error": comparison.predicted.standard_error,
        "measured": comparison.measured.value,
        "measured_standard_error": comparison.measured.standard_error,
        "tolerance": comparison.margin,
        "n": comparison.measured.n,
        "z": _finite(comparison.z),
        "p_value": comparison.p_value,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
    }


def arrays(study: VarianceStudy) -> dict[str, Table]:
    """Every number of the study: file name -> table.

    Args:
        study: finished.

    Returns:
        ``directions_ORDER`` for each order, ``autocovariance``, and ``accuracy`` and ``scan`` where they were measured.
    """
    found = {f"directions_{order_file(o.order.label)}": _directions(o) for o in study.result.orders}
    found["autocovariance"] = Table(
        ("order", "lag", "theory", "correlation", "standard_error", "replicas"),
        tuple(
            (noise.order, lag, theory, measured.value, measured.standard_error, measured.n)
            for noise in study.noise
            for lag, theory, measured in zip(
                noise.lags.tolist(), noise.predicted.tolist(), noise.correlation, strict=True
            )
        ),
    )
    if study.accuracy is not None:
        rows = enumerate(study.accuracy.accuracy.tolist())
        found["accuracy"] = Table(("pair", *study.accuracy.orders), tuple((pair, *row) for pair, row in rows))
    for point in study.scan:
        for order in point.result.orders:
            name = f"scan_{point.name}_{point.value:g}_{order_file(order.order.label)}"
            found[name] = _directions(order)
    return found


def _directions(order: OrderResult) -> Table:
    measured, noise, spectrum = order.measured, order.noise, order.spectrum
    columns: dict[str, Sequence[Any]] = {
        "curvature": spectrum.curvature.tolist(),
        "curvature_before": spectrum.before.tolist(),
        "residual": spectrum.residuals.tolist(),
        "converged": spectrum.converged.tolist(),
        "stationary": order.stationary.tolist(),
        "drift_in_standard_deviations": measured.slope.tolist(),
    }
    places = np.flatnonzero(order.stationary).tolist()
    for attribute, estimates in (
        ("weight", measured.weight),
        ("velocity", measured.velocity),
        ("correlation_time", measured.correlation_time),
    ):
        _add(columns, attribute, estimates)
        compared: list[Comparison | None] = [None] * len(estimates)
        for place, comparison in zip(places, getattr(order, attribute), strict=True):
            compared[place] = comparison
        columns[f"{attribute}_theory"] = [c and c.predicted.value for c in compared]
        columns[f"{attribute}_theory_standard_error"] = [c and c.predicted.standard_error for c in compared]
        columns[f"{attribute}_z"] = [c and c.z for c in compared]
        columns[f"{attribute}_verdict"] = [c and c.verdict for c in compared]
    _add(columns, "noise_variance", order.noise_variance)
    _add(columns, "residual_share", order.residual_share)
    _add(columns, "noise_variance_in_motion", noise.variance)
    _add(columns, "zero_frequency_share", noise.zero_frequency_share)
    if order.in_motion is not None:
        _add(columns, "curvature_in_motion", order.in_motion.curvature)
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _add(columns: dict[str, Sequence[Any]], name: str, estimates: Sequence[Estimate]) -> None:
    columns[name] = [each.value for each in estimates]
    columns[f"{name}_standard_error"] = [each.standard_error for each in estimates]
