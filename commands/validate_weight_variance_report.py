"""The figures and the HTML page of ``jostle validate weight-variance``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from commands.experiment_report import report_figures, report_table, typeset, write_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.measured_weight_variance import Limits, MeasuredVariances
    from figures.variance_scan import ScannedPoint
    from nnval.tables import Table
    from nnval.weight_variance_comparison import OrderResult
    from nnval.weight_variance_study import VarianceStudy
    from theory.absorbing import Floats
    from theory.weight_variance import ModeVariances

_GRID = 60
"""Curvatures of a line of theory."""

Drawn = dict[str, tuple["Figure", str, str]]
"""Name -> figure, caption, and what it shows in words."""


def write_report(study: VarianceStudy, record: dict[str, Any]) -> None:
    """Arrays, figures and the page of a study.

    Args:
        study: finished.
        record: what ``comparisons.json`` says.

    Raises:
        StorageError: if a file can't be written; the run is intact.
    """
    from figures.report import ReportSection
    from nnval import weight_variance_tables as tables
    from nnval.weight_variance_arrays import arrays

    figures = report_figures(_figures(study))

    def section(heading: str, text: str, figure: str | None = None, table: Table | None = None) -> ReportSection:
        shown = None
        if table is not None and table.rows:
            verdict = "verdict" if table.header[-1] == "verdict" and heading.startswith("Noise of") else None
            shown = report_table(table, verdict)
        return ReportSection(heading, [typeset(text)] if text else [], figure=figures.get(figure or ""), table=shown)

    sections = [
        section("Beside theory", _DEVIATIONS, "scaled", tables.deviation_table(study)),
        section("Direction by direction", _VERDICTS, "ratios", tables.verdict_table(study)),
        section("As measured", "", "variances"),
        section("Fluctuations of the loss", _LOSS, None, tables.loss_table(study)),
    ]
    force = tables.force_table(study)
    if force.rows:
        sections.insert(1, section("Stiffness where the weights move", _FORCE, None, force))
    second = tables.second_crossover_table(study)
    if second.rows:
        sections.append(section("Noise that comes with the weights", _SECOND, None, second))
    sections.append(section("Noise of batches at fixed weights", _NOISE, "autocovariance", tables.noise_table(study)))
    if study.accuracy is not None:
        sections.append(section("Test accuracy", _ACCURACY, "accuracy", tables.accuracy_table(study)))
    if study.scan:
        sections.append(section("Scan", _SCAN, "scan_times", tables.scan_table(study)))
        sections.append(section("Scan: deviations", "", "scan_deviations"))
    write_run(
        study.result.directory,
        record,
        arrays=arrays(study),
        title="Fluctuations of the weights of a network",
        conclusions=tables.conclusions(study),
        sections=sections,
        facts=tables.facts(study),
        figures=figures,
        seed=study.result.config.seed,
    )


def _words(label: str) -> str:
    return label.replace("_", " ")


def _figures(study: VarianceStudy) -> Drawn:
    from figures.measured_weight_variance import figure_measured_variances, figure_ratios, figure_scaled_variances
    from figures.paired_differences import PairedDifferences, figure_paired_differences
    from figures.variance_scan import figure_scanned_deviations, figure_scanned_times
    from figures.weight_variance import NoiseAutocovariance, figure_autocovariance
    from nnval.experiment_words import data_name

    result = study.result
    config, first = result.config, result.orders[0]
    title = f"{config.training.model}, {result.weights} weights, on {data_name(config.training)}"
    drawn: Drawn = {}
    measured = [found for order in result.orders if (found := _measured(order)) is not None]
    if measured:
        seconds = {
            _words(o.order.label): o.second_crossover.curvature
            for o in result.orders
            if o.second_crossover is not None and o.second_crossover.curvature > 0
        }
        lines = {
            _words(order.order.label): _line(order, result.samples, config.drift)
            for order in result.orders
            if order.stationary.any()
        }
        drawn |= {
            "scaled": (
                figure_scaled_variances(title, measured, lines, _limits(first)),
                typeset(_SCALED),
                "weight variance, velocity variance and correlation time against curvature",
            ),
            "variances": (
                figure_measured_variances(title, measured, crossover=first.crossover),
                "Variances as they are. Theory takes the noise of each direction from gradients at fixed weights, and "
                "is not fitted.",
                "weight and velocity variance against curvature",
            ),
            "ratios": (
                figure_ratios(title, measured, crossover=first.crossover, second_crossovers=seconds),
                "Each direction beside theory. Errors are those of the measured variance; 95 % intervals.",
                "measured over predicted weight variance against curvature",
            ),
        }
    noises = {
        _words(noise.order): NoiseAutocovariance(
            noise.lags, noise.predicted, list(zip(noise.lags.tolist(), noise.correlation, strict=True))
        )
        for noise in study.noise
    }
    drawn["autocovariance"] = (
        figure_autocovariance(
            "gradient noise at fixed weights",
            noises,
            batches_per_epoch=first.batches_per_epoch,
            y_label="autocorrelation $c_h / c_0$",
        ),
        "Autocorrelation of the noise of real batches, averaged over the directions, and that of theory.",
        "autocorrelation of gradient noise against the lag",
    )
    if study.accuracy is not None:
        found = study.accuracy
        difference = PairedDifferences(
            " - ".join(map(_words, reversed(found.orders))),
            found.accuracy[:, 1] - found.accuracy[:, 0],
            found.difference,
            found.shown,
        )
        drawn["accuracy"] = (
            figure_paired_differences("networks in pairs", {"test accuracy": [difference]}, test="5 %"),
            "Each dot is a pair of networks that begin alike.",
            "difference of test accuracies with its interval",
        )
    scans = _scans(study)
    if scans:
        scanned = f"{title}; {study.scan[0].result.orders[0].order.label}"
        drawn["scan_times"] = (
            figure_scanned_times(scanned, scans),
            "Correlation time for each value of a hyper-parameter, all from the same trained network.",
            "correlation time against curvature",
        )
        drawn["scan_deviations"] = (
            figure_scanned_deviations(scanned, scans),
            "Medians over directions of measured over predicted weight variance, minus one.",
            "deviation from theory against the hyper-parameter",
        )
    return drawn


def _measured(order: OrderResult) -> MeasuredVariances | None:
    """What is drawn of an order: its stationary directions; None without any."""
    import numpy as np

    from figures.measured_weight_variance import MeasuredVariances
    from theory.weight_variance import ModeVariances

    if not order.stationary.any():
        return None
    predicted = [[c.predicted.value for c in comparisons] for comparisons in (order.weight, order.velocity)]
    noise = np.array([each.value for each in order.noise_variance])[order.stationary]
    return MeasuredVariances(
        label=_words(order.order.label),
        curvature=order.spectrum.curvature[order.stationary],
        weight=[c.measured for c in order.weight],
        velocity=[c.measured for c in order.velocity],
        correlation_time=[c.measured for c in order.correlation_time],
        predicted=ModeVariances(*map(np.array, predicted)),
        unit=order.recording.learning_rate**2 * noise,
        inside=np.array([not c.reasons for c in order.weight]),
        left_out=int((~order.stationary).sum()),
    )


def _line(order: OrderResult, samples: int, drift: str) -> tuple[Floats, ModeVariances]:
    """What theory expects of a recording as long as this one, in units of eta^2 sigma^2."""
    import numpy as np

    from theory.heavy_ball import HeavyBall
    from theory.recording_window import recorded_variances

    recording = order.recording
    there = order.spectrum.curvature[order.stationary]
    bound = 2 * (1 + recording.momentum) / recording.learning_rate
    grid = np.geomspace(there.min() / 1.3, min(there.max() * 1.3, 0.99 * bound), _GRID)
    modes = HeavyBall(recording.learning_rate, grid, recording.momentum)
    unit = order.order.noise(samples, recording.batch_size).normalised()
    found = recorded_variances(modes, unit, order.measured.updates, drift)
    return grid, found.scaled(recording.learning_rate**-2)


def _limits(order: OrderResult) -> Limits:
    from figures.measured_weight_variance import Limits

    recording = order.recording
    return Limits(recording.learning_rate, recording.momentum, order.batches_per_epoch, order.crossover)


def _scans(study: VarianceStudy) -> dict[str, list[ScannedPoint]]:
    """Hyper-parameter -> what is drawn, the experiment itself included."""
    from figures.variance_scan import ScannedPoint

    result = study.result
    names = dict.fromkeys(point.name for point in study.scan)
    found: dict[str, list[ScannedPoint]] = {}
    for name in names:
        points = [(point.value, point.result.orders[0]) for point in study.scan if point.name == name]
        here = result.orders[0]
        value = float(getattr(here.recording, name))
        if value not in dict(points):
            points.append((value, here))
        drawn = [
            ScannedPoint(
                value,
                order.spectrum.curvature[order.stationary],
                [c.measured for c in order.correlation_time],
                (line[0], line[1].correlation_time),
                order.above and order.above.median,
                order.below and order.below.median,
            )
            for value, order in sorted(points, key=lambda pair: pair[0])
            if order.stationary.any()
            for line in (_line(order, result.samples, result.config.drift),)
        ]
        if drawn:
            found[name.replace("_", " ")] = drawn
    return found


_DEVIATIONS = (
    "Medians over directions of measured over predicted weight variance, minus one. Theory takes the curvature and the "
    "noise of each direction at fixed weights; 'from the noise in motion' takes the noise that drove the runs instead."
)
_FORCE = (
    "Curvature in motion is the slope of the full gradient against the displacement of the weights, beside the Hessian "
    "at their mean; networks of ReLUs are stiffer than their Hessian, whose second derivatives see no kinks. The last "
    "column is what is left of the deviations with that curvature and the noise in motion."
)
_SCALED = (
    "In units of the squared learning rate times the noise variance of each direction, where all directions fall on "
    "one line for each order of batches. The dashed limits are for epochs of many updates beside 1 / (1 - beta)."
)
_VERDICTS = (
    "Directions whose curvature is negative, or not known to be positive, have no stationary variance and are not "
    "compared. Verdicts hold at 1 % for each row together, beyond the model error that theory is granted; 'seen from' "
    "is the deviation that a direction must have to disagree, in the median: with few runs much agrees."
)
_LOSS = (
    "The mean loss above the minimum in these directions, and what it would be if all had the largest of their "
    "variances, as noise proportional to the Hessian without correlations would make them. The largest is that of the "
    "direction where theory expects it: a deviation of this one direction is in what is spared."
)
_SECOND = (
    "What the noise of an epoch does not sum to zero by, because the weights move in it, raises the variance of the "
    "flattest directions. rho is that share of the noise."
)
_NOISE = "Real batches at weights that do not move. Verdicts hold at 1 % for each order together."
_ACCURACY = "Networks of a pair begin with the same weights and see the same data; the interval is Student's."
_SCAN = "The experiment again from the same trained network, with one hyper-parameter changed at a time."
