"""The finished experiment of nnval.widening_valley as tables and sentences: for the terminal, the report and files."""

from typing import Any

from nnval.experiment_words import network_words
from nnval.paired_differences import PairedDifference
from nnval.tables import Table, plus_minus
from nnval.widening_valley_study import WideningValley
from theory.estimate import Estimate

METHOD_NAMES = {
    "with_replacement": "SGD, with replacement",
    "reshuffled": "SGD, reshuffled",
    "pgd": "PGD",
    "anti_pgd": "Anti-PGD",
}

QUANTITY_NAMES = {"trace": "trace of the Hessian", "train_loss": "training loss", "test_accuracy": "test accuracy"}


def facts(result: WideningValley) -> list[tuple[str, str]]:
    """What was trained, and what is the same for all methods.

    Args:
        result: finished.

    Returns:
        (name, sentence) pairs.
    """
    config, training = result.config, result.config.training
    lines = [
        ("network", network_words(training, result.weights, training.train_size)),
        (
            "training",
            f"{training.epochs} epochs with learning rate {training.learning_rate:g}, momentum {training.momentum:g}; "
            f"batches of {training.batch_size}",
        ),
        ("seeds", f"{training.members}, each with initial weights and a split of the data that all methods share"),
    ]
    if {"pgd", "anti_pgd"} & set(config.methods):
        lines.append(
            (
                "injected noise",
                f"{config.distribution}, sigma = {config.noise_scale:g}; to Anti-PGD it is the regulariser (sigma^2 / "
                f"2) Tr H = {config.noise_scale**2 / 2:.3g} Tr H",
            )
        )
    worst = max(float(curves.probe_error[:, -1].max()) for curves in result.curves)
    lines.append(
        ("traces", f"from {config.probes} random vectors, the same for all methods: +- {worst:.2g} for one network")
    )
    return lines


def methods_table(result: WideningValley) -> Table:
    """What each method came to.

    Args:
        result: finished.

    Returns:
        A row for each method: means over seeds after the last epoch.
    """
    rows = tuple(
        (
            METHOD_NAMES[curves.method],
            len(curves.trace),
            *(plus_minus(curves.estimates(quantity)[-1]) for quantity in QUANTITY_NAMES),
        )
        for curves in result.curves
    )
    return Table(("method", "n", *QUANTITY_NAMES.values()), rows)


def differences_table(result: WideningValley) -> Table:
    """Methods against each other, seed by seed.

    Args:
        result: finished.

    Returns:
        A row for each quantity and pair; verdicts hold together at 1 %.
    """
    rows = []
    for each in result.differences:
        digits = _digits(each.difference)
        low, high = each.difference.interval()
        rows.append(
            (
                QUANTITY_NAMES[each.quantity],
                f"{METHOD_NAMES[each.method]} - {METHOD_NAMES[each.reference]}",
                f"{each.difference.value:+.{digits}f}",
                f"{low:+.{digits}f} to {high:+.{digits}f}",
                each.difference.n,
                each.verdict,
            )
        )
    return Table(("quantity", "difference", "mean", "95 % interval", "n", "verdict"), tuple(rows))


def _digits(estimate: Estimate) -> int:
    """Decimals that ``plus_minus`` gives it."""
    return len(plus_minus(estimate).partition(" ")[0].partition(".")[2])


def conclusions(result: WideningValley) -> list[str]:
    """What came out, in plain words.

    Args:
        result: finished.

    Returns:
        A sentence for each pair of methods.
    """
    by_pair: dict[tuple[str, str], dict[str, PairedDifference]] = {}
    for each in result.differences:
        by_pair.setdefault((each.method, each.reference), {})[each.quantity] = each
    lines = []
    for (method, reference), found in by_pair.items():
        text = f"{METHOD_NAMES[method]} against {METHOD_NAMES[reference]}: "
        clauses = [
            f"{QUANTITY_NAMES[each.quantity]} {each.verdict}, by {_span(each)}" for each in found.values() if each.shown
        ]
        text += "; ".join(clauses) + "." if clauses else "no difference shown."
        if found["train_loss"].shown:
            text += " At different training losses, traces say little about the flatness of minima."
        lines.append(text)
    return lines


def _span(difference: PairedDifference) -> str:
    """The size of a difference that is shown, and so is on one side of zero."""
    low, high = sorted(abs(end) for end in difference.difference.interval())
    if difference.quantity == "test_accuracy":
        return f"{100 * low:.2g} to {100 * high:.2g} percentage points"
    return f"{low:.2g} to {high:.2g}"


def comparisons_json(result: WideningValley) -> list[dict[str, Any]]:
    """The paired differences as plain JSON.

    Args:
        result: finished.

    Returns:
        One record for each.
    """
    return [
        {
            "quantity": each.quantity,
            "method": each.method,
            "reference": each.reference,
            "epoch": result.epochs[-1],
            **each.numbers(),
        }
        for each in result.differences
    ]


def arrays(result: WideningValley) -> dict[str, Table]:
    """Every number of the experiment: file name -> table.

    Args:
        result: finished.

    Returns:
        ``curves``, means over seeds; ``seeds``, every measurement; ``differences``.
    """
    quantities = tuple(QUANTITY_NAMES)
    curves = []
    for each in result.curves:
        columns = [each.estimates(quantity) for quantity in quantities]
        for epoch, estimates in zip(result.epochs, zip(*columns, strict=True), strict=True):
            numbers = (number for e in estimates for number in (e.value, e.standard_error))
            curves.append((each.method, epoch, *numbers, estimates[0].n))
    header = tuple(name for quantity in quantities for name in (quantity, f"{quantity}_standard_error"))
    seeds = [
        (
            each.method,
            member,
            epoch,
            *(float(getattr(each, name)[row, column]) for name in ("trace", "probe_error", *quantities[1:])),
        )
        for each in result.curves
        for row, member in enumerate(result.config.members)
        for column, epoch in enumerate(result.epochs)
    ]
    records = comparisons_json(result)
    for record in records:
        record["low"], record["high"] = record.pop("interval95")
    return {
        "curves": Table(("method", "epoch", *header, "n"), tuple(curves)),
        "seeds": Table(("method", "seed", "epoch", "trace", "probe_error", *quantities[1:]), tuple(seeds)),
        "differences": Table(
            tuple(records[0]) if records else ("quantity",), tuple(tuple(record.values()) for record in records)
        ),
    }
