"""The noise of mini-batches in networks, drawn from what was measured: the tables of ``figures/data``.

Reference: [kuhn2023] the quantities and their measurement
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from figures.gallery_figure import rows_of
from theory.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.loss_fluctuations import SparedLoss
    from figures.measured_weight_variance import MeasuredVariances
    from theory.absorbing import Floats

LENET_RATE, LENET_MOMENTUM, LENET_BATCHES, LENET_EPOCHS, LENET_RUNS = 0.0004, 0.9, 100, 20, 8
"""Of ``weight_variance_lenet.csv``."""

LENET_TITLE = "LeNet, 62,006 weights, on 5,000 images of CIFAR-10"

SCAN_RATE, SCAN_MOMENTUM, SCAN_BATCH = 0.005, 0.9, 20
"""Of ``variance_scan_digits.csv``: what is not changed."""

SCAN_SAMPLES, SCAN_EPOCHS, SCAN_RUNS = 1200, 20, 16

SCAN_TITLE = "MLP, 910 weights, on digits; reshuffled batches"

METHODS = {"with_replacement": "with replacement", "reshuffled": "reshuffled", "pgd": "PGD", "anti_pgd": "Anti-PGD"}
"""Of ``widening_valley_digits.csv``."""


def _column(rows: Sequence[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) for row in rows])


def _estimates(rows: Sequence[dict[str, str]], name: str, runs: int) -> list[Estimate]:
    errors = _column(rows, f"{name}_standard_error").tolist()
    return [Estimate(value, error, runs) for value, error in zip(_column(rows, name).tolist(), errors, strict=True)]


# ---- LeNet -----------------------------------------------------------------------------------------------------------


def lenet_variances() -> dict[str, MeasuredVariances]:
    """The measurement in LeNet.

    Returns:
        Order, in words, -> its 60 directions.
    """
    from figures.measured_weight_variance import MeasuredVariances
    from theory.weight_variance import ModeVariances

    table = rows_of("weight_variance_lenet")
    found = {}
    for order in dict.fromkeys(row["order"] for row in table):
        rows = [row for row in table if row["order"] == order]
        words = order.replace("_", " ")
        found[words] = MeasuredVariances(
            label=words,
            curvature=_column(rows, "curvature"),
            weight=_estimates(rows, "weight", LENET_RUNS),
            velocity=_estimates(rows, "velocity", LENET_RUNS),
            correlation_time=_estimates(rows, "correlation_time", LENET_RUNS),
            predicted=ModeVariances(_column(rows, "weight_theory"), _column(rows, "velocity_theory")),
            unit=LENET_RATE**2 * _column(rows, "noise_variance"),
            inside=np.ones(len(rows), bool),
        )
    return found


def _lenet_crossover() -> float:
    from theory.weight_variance_limits import crossover_curvature

    return crossover_curvature(LENET_RATE, LENET_BATCHES, LENET_MOMENTUM)


def draw_lenet_weight_variance() -> Figure:
    """Weight and velocity variances of LeNet as they are.

    Returns:
        The figure.
    """
    from figures.measured_weight_variance import figure_measured_variances

    return figure_measured_variances(LENET_TITLE, list(lenet_variances().values()), crossover=_lenet_crossover())


def draw_lenet_correlation_time() -> Figure:
    """The same in units of the noise of each direction, and the correlation time.

    Returns:
        The figure.
    """
    from figures.measured_weight_variance import Limits, figure_scaled_variances
    from theory.gradient_noise import Reshuffled, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.recording_window import recorded_variances

    orders, crossover = lenet_variances(), _lenet_crossover()
    curvatures = np.concatenate([each.curvature for each in orders.values()])
    grid = np.geomspace(curvatures.min() / 1.3, curvatures.max() * 1.3, 60)
    modes = HeavyBall(LENET_RATE, grid, LENET_MOMENTUM)
    noises = {"reshuffled": Reshuffled(LENET_BATCHES), "with replacement": WhiteNoise()}
    lines = {
        words: (
            grid,
            recorded_variances(modes, noises[words], LENET_EPOCHS * LENET_BATCHES).scaled(LENET_RATE**-2),
        )
        for words in orders
    }
    limits = Limits(LENET_RATE, LENET_MOMENTUM, LENET_BATCHES, crossover)
    return figure_scaled_variances(LENET_TITLE, list(orders.values()), lines, limits)


def draw_lenet_training() -> Figure:
    """Loss and accuracy of LeNet in training.

    Returns:
        The figure.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    from figures.batch_orders import looks_of
    from figures.style import legend_below, panels, styled, title_above

    table = rows_of("lenet_cifar10")
    with styled():
        figure, axes = panels(2, sharey=False, extra_height=0.7)
        title_above(figure, "LeNet on CIFAR-10")
        entries = []
        runs = list(dict.fromkeys(row["run"] for row in table))
        for run, look in looks_of(runs).items():
            rows = [row for row in table if row["run"] == run]
            style = {"color": look.colour, "linestyle": look.style, "marker": look.marker, "markersize": 4}
            for ax, name in zip(axes, ("train_loss", "validation_accuracy"), strict=True):
                ax.plot(_column(rows, "epoch"), _column(rows, name), linewidth=1.4, **style)
            entries.append((Line2D([], [], **style), f"training {int(run) + 1}"))
        for ax, label in zip(axes, ("training loss", "validation accuracy"), strict=True):
            ax.set_xlabel("epoch")
            ax.set_title(label, fontweight="normal")
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes[1].yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        legend_below(figure, entries, columns=2)
    return figure


# ---- Networks on digits ----------------------------------------------------------------------------------------------


def _scan() -> dict[tuple[float, float, int], list[dict[str, str]]]:
    """(learning rate, momentum, batch size) -> the rows of that experiment, by rising curvature."""
    rows = rows_of("variance_scan_digits")

    def setting(row: dict[str, str]) -> tuple[float, float, int]:
        return float(row["learning_rate"]), float(row["momentum"]), int(row["batch_size"])

    rows.sort(key=lambda row: (setting(row), float(row["curvature"])))
    return {key: list(found) for key, found in groupby(rows, setting)}


def draw_variance_scan() -> Figure:
    """Correlation times in a network, for several learning rates, momenta and batch sizes.

    Returns:
        The figure.
    """
    from figures.variance_scan import ScannedPoint, figure_scanned_times
    from theory.gradient_noise import Reshuffled
    from theory.heavy_ball import HeavyBall
    from theory.recording_window import recorded_variances

    scans: dict[str, list[ScannedPoint]] = {}
    for (rate, momentum, size), rows in _scan().items():
        batches, curvature = SCAN_SAMPLES // size, _column(rows, "curvature")
        grid = np.geomspace(curvature[0] / 1.3, curvature[-1] * 1.3, 40)
        modes = HeavyBall(rate, grid, momentum)
        line = recorded_variances(modes, Reshuffled(batches), SCAN_EPOCHS * batches).correlation_time
        times = _estimates(rows, "correlation_time", SCAN_RUNS)
        here, base = (rate, momentum, float(size)), (SCAN_RATE, SCAN_MOMENTUM, float(SCAN_BATCH))
        for name, value, others in (
            (r"learning rate $\eta$", rate, (1, 2)),
            (r"momentum $\beta$", momentum, (0, 2)),
            ("batch size S", float(size), (0, 1)),
        ):
            if all(here[k] == base[k] for k in others):
                point = ScannedPoint(value, curvature, times, (grid, line), None, None)
                scans.setdefault(name, []).append(point)
    return figure_scanned_times(SCAN_TITLE, {n: sorted(found, key=lambda p: p.value) for n, found in scans.items()})


def draw_variance_collapse_digits() -> Figure:
    """Weight variances of all these on one curve.

    Returns:
        The figure.
    """
    from figures.variance_collapse import ScaledVariances, figure_collapse
    from theory.gradient_noise import Reshuffled, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import stationary_variances

    settings = {}
    for (rate, momentum, size), rows in _scan().items():
        curvature, batches = _column(rows, "curvature"), SCAN_SAMPLES // size
        variance = _estimates(rows, "weight", SCAN_RUNS)
        white = stationary_variances(HeavyBall(rate, curvature, momentum), WhiteNoise())
        unit = (white.weight * _column(rows, "noise_variance")).tolist()
        ratio = [each.scaled(1 / of) for each, of in zip(variance, unit, strict=True)]
        words = rf"$\eta$ = {rate:g}, $\beta$ = {momentum:g}, S = {size}"
        scaled = rate * curvature * batches / (1 - momentum)
        grid = np.geomspace(curvature[0] / 1.1, curvature[-1] * 1.1, 40)
        exact, independent = (
            stationary_variances(HeavyBall(rate, grid, momentum), noise).weight
            for noise in (Reshuffled(batches), WhiteNoise())
        )
        line = rate * grid * batches / (1 - momentum), exact / independent
        settings[words] = ScaledVariances(curvature, scaled, variance, ratio, line)
    return figure_collapse(SCAN_TITLE, settings, y_label="weight variance", measured=True)


def draw_loss_fluctuations() -> Figure:
    """How much loss drawing without replacement spares.

    Returns:
        The figure.
    """
    from figures.loss_fluctuations import SparedLoss, figure_spared_loss
    from theory.gradient_noise import Reshuffled
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import loss_fluctuations

    exponents = np.linspace(0, 2, 41)
    spectra = {}
    for rate, momentum, batches in ((0.005, 0.9, 1000), (0.02, 0.9, 1000), (0.01, 0.0, 500)):
        spared = []
        for exponent in exponents:
            curvature = 10 * np.arange(1.0, 2001.0) ** -exponent
            modes = HeavyBall(rate, curvature, momentum)
            spared.append(loss_fluctuations(modes, Reshuffled(batches), curvature).reduction_to_constant)
        spectra[rf"$\eta$ = {rate:g}, $\beta$ = {momentum:g}, M = {batches}"] = np.array(spared)
    measured: dict[str, list[SparedLoss]] = {}
    for row in rows_of("loss_fluctuations_digits"):
        estimate = Estimate(float(row["reduction"]), float(row["reduction_error"]), SCAN_RUNS)
        where = f"MLP on digits, {row['order'].replace('_', ' ')}"
        measured.setdefault(where, []).append(SparedLoss(float(row["predicted_reduction"]), estimate))
    for words, each in lenet_variances().items():
        measured[f"LeNet, {words}"] = [lenet_spared(each, words)]
    title = "Loss fluctuations spared, beside directions of equal variance"
    return figure_spared_loss(title, exponents, spectra, measured, published=0.62)


def lenet_spared(order: MeasuredVariances, words: str) -> SparedLoss:
    """By how much (1/2) sum lambda Var(theta) of LeNet is smaller than with the largest variance in all directions.

    Args:
        order: its directions.
        words: ``"reshuffled"`` or ``"with replacement"``.

    Returns:
        Predicted and measured; the error takes directions as independent. The largest variance is that of the direction
        in which theory has it, as the largest of 60 measured ones is too large by chance.
    """
    from figures.loss_fluctuations import SparedLoss
    from theory.gradient_noise import Reshuffled, WhiteNoise
    from theory.heavy_ball import HeavyBall
    from theory.weight_variance import loss_fluctuations

    curvature, largest = order.curvature, int(order.predicted.weight.argmax())
    variance, error = (np.array([getattr(e, name) for e in order.weight]) for name in ("value", "standard_error"))
    share = curvature * variance / (variance[largest] * curvature.sum())
    noise = np.where(np.arange(len(curvature)) == largest, (1 - share.sum() / share[largest]) * share, share)
    spread = math.sqrt(float(((noise * error / variance) ** 2).sum()))
    kind = Reshuffled(LENET_BATCHES) if words == "reshuffled" else WhiteNoise()
    modes = HeavyBall(LENET_RATE, np.sort(curvature), LENET_MOMENTUM)
    ordered = (order.unit / LENET_RATE**2)[np.argsort(curvature)]
    predicted = loss_fluctuations(modes, kind, ordered).reduction_to_constant
    return SparedLoss(predicted, Estimate(1 - float(share.sum()), spread, LENET_RUNS))


def draw_replacement_accuracy() -> Figure:
    """Test accuracies of networks that begin alike, without replacement minus with.

    Returns:
        The figure.
    """
    from figures.paired_differences import PairedDifferences, figure_paired_differences

    rows = rows_of("replacement_accuracy_digits")
    pairs = 100 * (_column(rows, "reshuffled") - _column(rows, "with_replacement"))
    mean = Estimate.from_samples(pairs)
    found = PairedDifferences("reshuffled - with replacement", pairs, mean, mean.interval()[0] > 0)
    title = "MLP, 910 weights, on digits: 64 pairs that begin alike"
    return figure_paired_differences(title, {"test accuracy [percentage points]": [found]}, test="5 %")


def draw_anti_pgd_digits() -> Figure:
    """Sharpness, loss and accuracy of Anti-PGD minus those of other descents, seed by seed.

    Returns:
        The figure.
    """
    from figures.paired_differences import PairedDifferences, figure_paired_differences

    rows = rows_of("widening_valley_digits")
    columns = {"trace": "trace of the Hessian", "training_loss": "training loss", "test_accuracy": "test accuracy"}
    pairs = (("anti_pgd", "with_replacement"), ("anti_pgd", "reshuffled"), ("reshuffled", "with_replacement"))
    quantities: dict[str, list[PairedDifferences]] = {}
    for name, label in columns.items():
        values = {method: _column([row for row in rows if row["method"] == method], name) for method in METHODS}
        for first, second in pairs:
            difference = values[first] - values[second]
            mean = Estimate.from_samples(difference)
            low, high = mean.interval(1 - 0.01 / (len(pairs) * len(columns)))  # Bonferroni
            words = f"{METHODS[first]} - {METHODS[second]}"
            quantities.setdefault(label, []).append(PairedDifferences(words, difference, mean, low > 0 or high < 0))
    return figure_paired_differences("MLP on digits after 60 epochs, 8 seeds", quantities)


def draw_relu_kinks() -> Figure:
    """How much stiffer than its Hessian a network of ReLUs is.

    Returns:
        The figure.
    """
    from figures.beyond_fixed_noise import Stiffness, figure_stiffness

    table = rows_of("weight_variance_kinks")
    orders = {}
    for order in dict.fromkeys(row["order"] for row in table):
        rows = [row for row in table if row["order"] == order]
        names = ("below", "below_first_quartile", "below_third_quartile")
        columns = (_column(rows, name) / 100 for name in names)
        orders[order.replace("_", " ")] = Stiffness(_column(rows, "displacement"), *columns)
    return figure_stiffness("A network of ReLUs is stiffer than its Hessian (17 flat directions)", orders)
