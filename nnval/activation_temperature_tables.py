"""The finished experiment of nnval.activation_temperature as tables and sentences: for terminal, report and files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnval.activation_temperature_study import CoolingStudy, StageSweeps
from nnval.engine.config import TrainingConfig
from nnval.tables import Table, median_text
from theory.absorbing import Floats
from theory.estimate import Estimate

MANY_AT_CAP = 0.2
"""Share of the steps at the cap from which on it is said that T was not under control."""


def facts(result: CoolingStudy) -> list[tuple[str, str]]:
    """What was trained, and what is the same for all schedules.

    Args:
        result: finished.

    Returns:
        (name, sentence) pairs.
    """
    config, training = result.config, result.config.training
    size = "all" if training.train_size is None else training.train_size
    noise = f", {training.label_noise:.0%} of the labels wrong" if training.label_noise else ""
    return [
        (
            "network",
            f"{training.model}, {result.parameters} weights and {result.layers} ReLUs, on {size} images of "
            f"{data_name(training)}{noise}",
        ),
        (
            "training",
            f"SGD with learning rate {training.learning_rate:g} (the highest of one_cycle), momentum "
            f"{training.momentum:g}, weight decay {training.weight_decay:g}; batches of {training.batch_size}",
        ),
        ("budgets", ", ".join(map(epochs_in_words, config.budgets))),
        ("seeds", f"{training.members}, each with initial weights, batches and a split that all schedules share"),
        (
            "temperature",
            f"every {config.every} steps on {config.samples} samples of the batch, half an interval after ActCooLR's",
        ),
    ]


def epochs_in_words(count: int) -> str:
    """A number of epochs.

    Args:
        count: >= 1.

    Returns:
        Text.

    Example:
        >>> epochs_in_words(1), epochs_in_words(30)
        ('1 epoch', '30 epochs')
    """
    return f"{count} epochs" if count > 1 else "1 epoch"


def data_name(training: TrainingConfig) -> str:
    """What was trained on, in a word.

    Args:
        training: its data.

    Returns:
        The name of the data set; of images in a folder or archive, that of the file.
    """
    return training.data if training.data_dir is None else Path(training.data_dir).name


def percent(estimate: Estimate) -> str:
    """Mean and standard error of a part of a whole.

    Args:
        estimate: of it, 0 to 1.

    Returns:
        Text, in percent.

    Example:
        >>> percent(Estimate(0.0123, 0.00123, 4))
        '1.23 +- 0.12'
    """
    error = 100 * estimate.standard_error
    digits = 2 if error == 0 else min(max(1 - math.floor(math.log10(error)), 0), 2)
    return f"{100 * estimate.value:.{digits}f} +- {error:.{digits}f}"


def results_table(result: CoolingStudy) -> Table:
    """What each schedule came to with each budget.

    Args:
        result: finished.

    Returns:
        A row for each: mean test error after the last epoch with standard error [%]; medians over seeds (and steps) of
        the learning rate, first target, abs(ln(T / C)), share of the steps at the cap, and overhead.
    """
    rows = []
    for runs in result.runs:
        trained = result.trained(runs)
        cap = runs.share_at_cap
        rows.append(
            (
                runs.budget,
                runs.schedule.label,
                f"{int(trained.sum())} of {len(trained)}",
                percent(runs.error),
                median_text(runs.rate),
                _largest(runs.rate),
                median_text(runs.starts),
                median_text(runs.tracking_errors),
                f"{np.median(cap):.0%}" if np.isfinite(cap).all() else "-",
                f"{np.median(runs.overhead):.0%}" if np.isfinite(runs.overhead).all() else "-",
            )
        )
    header = ("epochs", "schedule", "trained", "test error, %", "rate", "highest")
    header += ("T start", "|ln T/C|", "at cap", "overhead")
    return Table(header, tuple(rows))


def _largest(rates: Floats) -> str:
    return f"{np.nanmax(rates):.2g}" if np.isfinite(rates).any() else "-"


def differences_table(result: CoolingStudy) -> Table:
    """ActCooLR against the other schedules, seed by seed.

    Args:
        result: finished.

    Returns:
        A row for each pair: difference of test errors in percentage points; verdicts hold together at 1 %.
    """
    rows = []
    for each in result.differences:
        low, high = each.difference.interval()
        rows.append(
            (
                each.budget,
                f"{each.method} - {each.reference}",
                f"{100 * each.difference.value:+.2f}",
                f"{100 * low:+.2f} to {100 * high:+.2f}",
                each.difference.n,
                each.verdict,
            )
        )
    return Table(("epochs", "difference of errors", "mean", "95 % interval", "n", "verdict"), tuple(rows))


@dataclass(frozen=True, eq=False)
class FittedStages:
    """Links fitted to the sweeps of one schedule, seed by seed and stage by stage; nan where there is no best fit.

    Attributes:
        location: mu of the erf link, ln(learning rate) of T = 1, shape (n, stages).
        sigma: of it, likewise.
        error: root mean square of its residuals in P, likewise.
        exponent: k of the complementary log-log link, likewise.
        cloglog_error: of that, likewise.
    """

    location: Floats
    sigma: Floats
    error: Floats
    exponent: Floats
    cloglog_error: Floats


def fitted(sweeps: Sequence[StageSweeps], layer: int | None = None) -> FittedStages:
    """Fits of both links.

    Args:
        sweeps: of each seed, with equally many stages.
        layer: 0-based; None for the network.

    Returns:
        The fits.
    """
    columns = np.full((5, len(sweeps), len(sweeps[0].sweeps)), np.nan)
    for k, of_seed in enumerate(sweeps):
        for stage, sweep in enumerate(of_seed.sweeps):
            try:
                erf, cloglog = sweep.fit("erf", layer), sweep.fit("cloglog", layer)
            except ValueError:  # such as the sweep of a network that has diverged
                continue
            columns[:, k, stage] = (
                erf.link.location,
                erf.link.scale,
                erf.error,
                1 / cloglog.link.scale,
                cloglog.error,
            )
    return FittedStages(*columns)


def layers_of(result: CoolingStudy) -> dict[str, int | None]:
    """What links are fitted to: the network, and single ReLUs of it.

    Args:
        result: finished.

    Returns:
        Name -> 0-based number of the layer.
    """
    layers = {"first ReLU": 0, "middle ReLU": result.layers // 2, "last ReLU": result.layers - 1}
    if result.layers < 3:
        del layers["middle ReLU"]
    return {"network": None, **(layers if result.layers > 1 else {})}


def links_table(result: CoolingStudy) -> Table:
    """Links that sweeps of the learning rate gave.

    Args:
        result: finished.

    Returns:
        A row for each swept schedule and layer: medians over seeds and stages, and the range of mu and sigma.
    """
    rows = []
    for runs in result.runs:
        if not runs.sweeps:
            continue
        for name, layer in layers_of(result).items():
            fit = fitted(runs.sweeps, layer)
            count = f"{np.isfinite(fit.sigma).sum()} of {fit.sigma.size}"
            rows.append(
                (
                    runs.schedule.label,
                    name,
                    count,
                    _range(fit.location, ".1f"),
                    median_text(fit.sigma, ".2f"),
                    _range(fit.sigma, ".2f"),
                    median_text(fit.error, ".3f"),
                    median_text(fit.exponent, ".2f"),
                    median_text(fit.cloglog_error, ".3f"),
                )
            )
    header = ("schedule", "layer", "fits", "mu", "sigma", "its range", "error in P", "exponent", "error in P, cloglog")
    return Table(header, tuple(rows))


def _range(values: Floats, digits: str) -> str:
    known = values[np.isfinite(values)]
    return f"{known.min():{digits}} to {known.max():{digits}}" if known.size else "-"


def conclusions(result: CoolingStudy) -> list[str]:
    """What came out, in plain words.

    Args:
        result: finished.

    Returns:
        Sentences.
    """
    lines = []
    for budget in result.config.budgets:
        here = [runs for runs in result.runs if runs.budget == budget]
        best = min(here, key=lambda runs: runs.error.value)
        lines.append(
            f"{epochs_in_words(budget)}: the lowest mean error is that of {best.schedule.label}, "
            f"{percent(best.error)} %."
        )
    for runs in result.runs:
        trained, where = result.trained(runs), f"{runs.schedule.label}, {epochs_in_words(runs.budget)}"
        if not trained.all():
            count = f"only {trained.sum()}" if trained.any() else "none"
            lines.append(f"{where}: {count} of {len(trained)} seeds trained.")
        share = float(np.median(runs.share_at_cap)) if np.isfinite(runs.share_at_cap).all() else 0.0
        if share > MANY_AT_CAP:
            lines.append(
                f"{where}: {share:.0%} of the steps were at the cap, where the temperature is not under control."
            )
    shown = [each for each in result.differences if each.shown]
    for each in shown:
        low, high = sorted(100 * abs(end) for end in each.difference.interval())
        lines.append(
            f"{epochs_in_words(each.budget)}: the error of {each.method} is {each.verdict} than that of "
            f"{each.reference}, by {low:.2g} to {high:.2g} percentage points."
        )
    if result.differences and not shown:
        lines.append("No difference of errors between ActCooLR and another schedule is shown.")
    return lines
