"""The finished experiment of nnval.adaptive_noise as tables and sentences: for the terminal, the report and files."""

import math
from collections.abc import Sequence

import numpy as np

from nnval.adaptive_noise_methods import ABLATION, BASELINE, EQUAL
from nnval.adaptive_noise_statistics import CLAIMS, FINDINGS
from nnval.adaptive_noise_study import QUANTITIES, MethodRuns, NoiseStudy
from nnval.experiment_words import network_words
from nnval.paired_differences import PairedDifference
from nnval.tables import Table, median_text, plus_minus
from theory.absorbing import Floats
from theory.estimate import Estimate

METHOD_NAMES = {
    BASELINE: "no noise",
    "fixed": "fixed noise",
    "phase_only": "phases only",
    "schedule_only": "decay only",
    "full": "full",
    "sgd": "SGD, constant rate",
    "adam": "Adam",
    "cosine": "SGD, cosine",
}

MATRIX = ("epochs", "cv", "cv_detrended", "test_accuracy")
"""Quantities whose differences are shown beside each other; files have all."""


def method_name(name: str) -> str:
    """A method in words.

    Args:
        name: of a trained method.

    Example:
        >>> method_name("full_equal")
        'full, equal noise'
    """
    plain = name.removesuffix(EQUAL)
    return METHOD_NAMES[plain] + (", equal noise" if name != plain else "")


def facts(result: NoiseStudy) -> list[tuple[str, str]]:
    """What was trained, and what is the same for all methods.

    Args:
        result: finished.

    Returns:
        (name, sentence) pairs.
    """
    config, training, noise = result.config, result.config.training, result.config.noise
    epsilon = ", ".join(f"{each:g}" for each in noise.epsilon)
    lines = [
        ("network", network_words(training, result.weights, training.train_size)),
        (
            "training",
            f"{training.epochs} epochs of {result.runs[0].steps_per_epoch} steps; SGD with momentum "
            f"{training.momentum:g} and a {training.schedule} learning rate, weight decay {training.weight_decay:g}; "
            f"batches of {training.batch_size}",
        ),
        ("seeds", f"{training.members}, each with initial weights, batches and a split that all methods share"),
        (
            "noise",
            f"{noise.mode}, epsilon {epsilon} (exploration, convergence, fine-tuning), decay {noise.decay:g} per step",
        ),
        ("target", f"validation accuracy {config.target_accuracy:g}; runs that miss it count as {training.epochs}"),
    ]
    count = len(config.tuning_members)
    chosen = "one for each optimizer, nothing was chosen"
    if count:
        chosen = (
            f"of each method the best of {len(config.rate_factors)}, by validation accuracy over the last "
            f"{config.last_epochs} epochs of {count} other seed{'s' if count > 1 else ''}, not reported"
        )
    lines.insert(3, ("learning rates", chosen))
    if config.equal_noise:
        lines.append(("equal noise", f"mean of epsilon^2 over the steps: {config.mean_square:g}"))
    return lines


def _mean(values: Floats) -> str:
    """Mean and standard error of what is known."""
    known = values[np.isfinite(values)]
    return plus_minus(Estimate.from_samples(known)) if len(known) > 1 else "-"


def _ratio(estimate: Estimate) -> str:
    if estimate.standard_error < 1e-12:  # such as of runs that all missed the target: that is no certainty
        return f"{estimate.value:.2f} (-)"
    low, high = estimate.interval()
    return f"{estimate.value:.2f} ({low:.2f} to {high:.2f})"


def time_table(result: NoiseStudy) -> Table:
    """Time to the target, in the manner of the paper's Table I.

    Args:
        result: finished.

    Returns:
        A row for each method: how many runs reached the target; restricted means; ratios to SGD in pairs.
    """
    named = {runs.method.name: runs for runs in result.runs}
    sgd = named.get(result.config.same_as("sgd"))
    rows = []
    for runs in result.runs:
        passages, epochs = result.passages(runs), result.values(runs, "epochs")
        ratios = ("-", "-") if sgd is None else ("1", "1")
        if sgd is not None and runs is not sgd:
            ratios = tuple(_ratio(result.ratio(runs, sgd, seconds=seconds)) for seconds in (False, True))
        rows.append(
            (
                method_name(runs.method.name),
                f"{int(passages.observed.sum())} of {passages.n}",
                _mean(epochs),
                f"{epochs.mean() * runs.steps_per_epoch:.0f}",
                _mean(result.seconds_to_target(runs)),
                *ratios,
            )
        )
    header = ("method", "reached", "epochs", "steps", "seconds", "epochs over SGD's", "seconds over SGD's")
    return Table(header, tuple(rows))


def stability_table(result: NoiseStudy) -> Table:
    """Stability over the last epochs, in the manner of the paper's Table II.

    Args:
        result: finished.

    Returns:
        A row for each method: coefficients of variation, means over the seeds for which they are defined.
    """
    quantities = ("cv", "cv_detrended", "cv_error")
    rows = []
    for runs in result.runs:
        values = [result.values(runs, quantity) for quantity in quantities]
        known = "/".join(str(int(np.isfinite(each).sum())) for each in values)
        rows.append((method_name(runs.method.name), known, *map(_mean, values)))
    return Table(("method", "n", *(QUANTITIES[each] for each in quantities)), tuple(rows))


def accuracy_table(result: NoiseStudy) -> Table:
    """Accuracies, in the manner of the paper's Tables III and IV.

    Args:
        result: finished.

    Returns:
        A row for each method: test accuracy after the last epoch, and that of the epoch with the best validation
        accuracy, which is another number: it was picked by validation images.
    """
    rows = tuple(
        (
            method_name(runs.method.name),
            len(runs.test_accuracy),
            _mean(100 * runs.validation_accuracy[:, -1]),
            _mean(100 * runs.test_accuracy),
            _mean(100 * runs.best_test_accuracy),
            median_text(runs.best_epoch.astype(float), ".0f"),
        )
        for runs in result.runs
    )
    return Table(("method", "n", "validation, %", "test, %", "test at the best epoch, %", "best epoch"), rows)


def phases_table(result: NoiseStudy) -> Table:
    """Phases and noise over training, in the manner of the paper's Figure 1.

    Args:
        result: finished.

    Returns:
        A row for each method whose phases were told: shares of exploration / convergence / fine-tuning in each third
        of the epochs, means over seeds [%]; median changes of the phase; realised noise; overhead.
    """
    rows = []
    for runs in result.runs:
        if runs.method.noise is None:
            continue
        thirds = runs.thirds[~runs.diverged]
        shares = [
            "/".join(f"{100 * share:.0f}" for share in thirds[:, k].mean(axis=0)) if len(thirds) else "-"
            for k in range(3)
        ]
        rows.append(
            (
                method_name(runs.method.name),
                *shares,
                median_text(runs.changes, ".0f"),
                median_text(runs.mean_square, ".3g"),
                median_text(runs.noise_ratio, ".3g"),
                f"{100 * np.nanmedian(runs.overhead):.0f}%" if np.isfinite(runs.overhead).any() else "-",
            )
        )
    header = ("method", "first third", "second", "last", "changes", "epsilon^2", "noise/update", "overhead")
    return Table(header, tuple(rows))


def rates_table(result: NoiseStudy) -> Table:
    """How learning rates were chosen.

    Args:
        result: finished.

    Returns:
        A row for each method: the mean validation accuracy of each learning rate on the seeds that choose [%].
    """
    factors = result.config.rate_factors
    rows = []
    for runs in result.runs:
        choice = runs.choice
        cells = []
        for place, rate in enumerate(choice.rates):
            accuracy = f": {100 * choice.accuracies[place].mean():.1f}" if choice.accuracies.size else ""
            cells.append(f"{rate:.3g}{accuracy}")
        rows.append((method_name(runs.method.name), *cells, f"{choice.rate:.3g}", "yes" if choice.at_edge else "no"))
    header = ("method", *(f"x {factor:g}" for factor in factors), "chosen", "at the edge")
    return Table(header, tuple(rows))


def differences_table(result: NoiseStudy) -> Table:
    """Methods against each other, seed by seed: quantities beside each other.

    Args:
        result: finished.

    Returns:
        A row for each pair: mean +- half of the 95 % interval; an asterisk where a difference is shown.
    """
    by_pair: dict[tuple[str, str], dict[str, PairedDifference]] = {}
    for each in result.differences:
        by_pair.setdefault((each.method, each.reference), {})[each.quantity] = each
    rows = []
    for (method, reference), found in by_pair.items():
        n = min(each.difference.n for each in found.values())
        cells = [_cell(found[quantity]) if quantity in found else "-" for quantity in MATRIX]
        rows.append((f"{method_name(method)} - {method_name(reference)}", n, *cells))
    return Table(("difference", "n", *(QUANTITIES[quantity] for quantity in MATRIX)), tuple(rows))


def _cell(each: PairedDifference) -> str:
    if each.difference.standard_error == 0:
        return f"{_rounded(each.difference.value, 0)} +- -{'*' if each.shown else ' '}"
    half = each.difference.interval()[1] - each.difference.value
    value, half_width = (_rounded(number, half) for number in (each.difference.value, half))
    return f"{value} +- {half_width[1:]}{'*' if each.shown else ' '}"


def _rounded(value: float, error: float) -> str:
    """With the digits that the error leaves, and a sign."""
    digits = 2 if error == 0 else min(max(1 - math.floor(math.log10(error)), 0), 3)
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: no minus before zero


def claims_table(result: NoiseStudy) -> Table:
    """What the paper's tables say, held against what was measured here.

    Args:
        result: finished.

    Returns:
        A row for each claim about methods that were trained.
    """
    measured = {(each.quantity, each.method, each.reference): each for each in result.differences}
    rows = []
    for claim in CLAIMS:
        method, reference = (result.config.same_as(name) for name in (claim.method, claim.reference))
        found = measured.get((claim.quantity, method, reference))
        if found is not None:
            low, high = found.difference.interval()
            value, *ends = (_rounded(number, (high - low) / 10) for number in (found.difference.value, low, high))
            interval = " to ".join(ends) if high > low else "-"
            rows.append((claim.where, claim.text, value, interval, found.difference.n, claim.finding(found)))
    return Table(("of the paper", "claim", "difference", "95 % interval", "n", "finding"), tuple(rows))


def conclusions(result: NoiseStudy) -> list[str]:
    """What came out, in plain words.

    Args:
        result: finished.

    Returns:
        Sentences: what was shown, what was not, and what limits it.
    """
    lines, without = [], []
    for quantity, name in QUANTITIES.items():
        shown = [each for each in result.differences if each.quantity == quantity and each.shown]
        for each in shown:
            low, high = sorted(abs(end) for end in each.difference.interval())
            lines.append(
                f"{name[0].upper()}{name[1:]}: {method_name(each.method)} {each.verdict} than "
                f"{method_name(each.reference)}, by {low:.2g} to {high:.2g}."
            )
        if not shown:
            without.append(name.removesuffix(", %"))
    if without:
        lines.append(
            f"No difference between any two methods shown ({result.config.training.members} seeds): "
            f"{', '.join(without)}."
        )
    findings = [row[-1] for row in claims_table(result).rows]
    if findings:
        counts = [f"{findings.count(finding)} {finding}" for finding in FINDINGS]
        lines.append(f"Of {len(findings)} claims of the paper's tables: {', '.join(counts)}.")
    lines += _warnings(result)
    return lines


def _names(found: Sequence[MethodRuns]) -> str:
    return "; ".join(method_name(runs.method.name) for runs in found)


def _warnings(result: NoiseStudy) -> list[str]:
    lines = []
    edge = [runs for runs in result.runs if runs.choice.at_edge]
    if edge:
        lines.append(
            f"Warning: learning rates were chosen at the edge of the grid for {_names(edge)}: a wider grid "
            "(rate_factors) may hold better ones."
        )
    for runs in result.runs:
        if runs.diverged.any():
            count = f"{int(runs.diverged.sum())} of {len(runs.diverged)}"
            lines.append(f"{method_name(runs.method.name)}: {count} runs diverged.")
    missed = [runs for runs in result.runs if not result.passages(runs).observed.any()]
    if missed:
        lines.append(f"No run reached the target with {_names(missed)}: their time to it is only known to be longer.")
    noisy = [runs for runs in result.runs if runs.method.name in ABLATION and runs.method.is_noisy]
    if len(noisy) > 1 and not result.config.equal_noise:
        lines.append(
            "Noises differ in how much they inject (epsilon^2 above): better and more are two things, which "
            "--equal-noise tells apart."
        )
    return lines
