"""The finished experiment of ``jostle validate weight-variance`` as tables and sentences."""

import math
import statistics
from collections.abc import Sequence

from nnval.experiment_words import network_words
from nnval.tables import Table, plus_minus
from nnval.weight_variance_comparison import OrderResult
from nnval.weight_variance_study import VarianceStudy
from theory.estimate import Comparison, Estimate

QUANTITIES = {"weight": "Var(theta)", "velocity": "Var(v)", "correlation_time": "correlation time"}
"""Attributes of ``OrderResult``, and what they are called."""


def number(estimate: Estimate) -> str:
    """``1.23e-05 +- 4e-07``: for numbers of any size.

    Args:
        estimate: with its error.

    Returns:
        Text.
    """
    return f"{estimate.value:.3g} +- {estimate.standard_error:.2g}"


def percent(estimate: Estimate) -> str:
    """A relative deviation, in per cent.

    Args:
        estimate: 0.01 is one per cent.

    Returns:
        Text.
    """
    digits = 1 if estimate.standard_error < 0.1 else 0
    return f"{100 * estimate.value:+.{digits}f} % +- {100 * estimate.standard_error:.{digits}f} %"


def facts(study: VarianceStudy) -> list[tuple[str, str]]:
    """What was trained and measured.

    Args:
        study: finished.

    Returns:
        (name, sentence) pairs.
    """
    result, config = study.result, study.result.config
    training, first = config.training, result.orders[0]
    pairs, recording = result.eigenpairs, first.recording
    directions = len(first.spectrum.curvature)
    lines = [
        ("network", network_words(training, result.weights, result.samples)),
        ("trained", f"loss {result.training_loss:.4g}, test accuracy {result.test_accuracy:.4f}"),
        (
            "then",
            f"learning rate {recording.learning_rate:g}, momentum {recording.momentum:g}, weight decay "
            f"{recording.weight_decay:g}, {first.batches_per_epoch} batches of {recording.batch_size} in an epoch",
        ),
        (
            "recorded",
            f"{recording.runs} runs of {recording.epochs} epochs after {recording.burn_in}, every update, "
            f"{directions} directions",
        ),
        (
            "Hessian",
            f"the {len(pairs.curvatures)} largest curvatures, {pairs.curvatures[0]:.4g} to "
            f"{pairs.curvatures[-1]:.4g}; {pairs.products} products; residuals up to {pairs.residuals.max():.1g}"
            + ("" if pairs.confirmed else "; a second start found others: not all of the largest are there"),
        ),
        ("tolerance", f"theory is granted a model error of {100 * result.tolerance:g} % in each direction"),
        ("crossover", f"weight variance without replacement is suppressed below a curvature of {first.crossover:.4g}"),
    ]
    for each in study.noise[:1]:
        commutation = each.commutation
        commutator = (
            "" if commutation.commutator is None else f", commutator with the Hessian {commutation.commutator:.2g}"
        )
        lines.append(
            ("noise", f"share of its covariance off the diagonal {commutation.off_diagonal_share:.2g}{commutator}")
        )
    for order in result.orders:
        lines += [(order.order.label, text) for text in _doubts(order)]
    return lines


def _doubts(order: OrderResult) -> list[str]:
    """What was not compared, or is outside the regime of theory, and why."""
    found = []
    curvature, left_out = order.spectrum.curvature, ~order.stationary
    negative = int((left_out & (curvature < 0)).sum())
    flat = int((left_out & (curvature >= 0) & (curvature <= order.spectrum.residuals)).sum())
    for count, why in (
        (negative, "have a negative curvature, and so no stationary variance"),
        (flat, "have a curvature that may be zero or negative, within its uncertainty"),
        (int(left_out.sum()) - negative - flat, "are steeper than the bound of stability"),
    ):
        if count:
            found.append(f"{count} directions {why}: not compared")
    kinds: dict[str, int] = {}
    for comparison in order.weight:
        for reason in comparison.reasons:
            kind = "have eigenvectors that did not converge" if reason.startswith("no eigen") else "relax too slowly"
            kinds[kind] = kinds.get(kind, 0) + 1
    found += [f"{count} directions {kind}: outside the regime" for kind, count in kinds.items()]
    if (slow := int((order.measured.slope > 1).sum())) > 0:
        where = f"{slow} direction{'s' * (slow > 1)}"
        found.append(f"along {where} the runs drift together: the network is still on its way there")
    return found


def deviation_table(study: VarianceStudy) -> Table:
    """How far weight variances are from theory.

    Args:
        study: finished.

    Returns:
        A row for each order and side of the crossover: medians over directions of measured / theory - 1.
    """
    rows = []
    for order in study.result.orders:
        for side, plain, driven in (
            ("above", order.above, order.driven_above),
            ("below", order.below, order.driven_below),
        ):
            if plain is None or driven is None:
                rows.append((order.order.label, side, 0, "-", "-", "-"))
            else:
                size = percent(plain.median_absolute).lstrip("+")
                rows.append(
                    (order.order.label, side, plain.directions, percent(plain.median), size, percent(driven.median))
                )
    header = ("order", "crossover", "directions", "median deviation", "of its size", "from the noise in motion")
    return Table(header, tuple(rows))


def force_table(study: VarianceStudy) -> Table:
    """How stiff the network is where it moves, and what is left of the deviations with that.

    Args:
        study: finished.

    Returns:
        A row for each order and side of the crossover, medians over directions; none without full gradients.
    """
    rows = []
    for order in study.result.orders:
        moving = order.in_motion
        if moving is None:
            continue
        for side, stiffer, left, plain in (
            ("above", moving.stiffer_above, moving.above, order.above),
            ("below", moving.stiffer_below, moving.below, order.below),
        ):
            shown = [percent(each.median) if each else "-" for each in (stiffer, plain, left)]
            rows.append((order.order.label, side, stiffer.directions if stiffer else 0, *shown))
    header = ("order", "crossover", "directions", "curvature in motion", "median deviation", "left with that")
    return Table(header, tuple(rows))


def verdict_table(study: VarianceStudy) -> Table:
    """How many directions agree with theory.

    Args:
        study: finished.

    Returns:
        A row for each order and quantity; verdicts hold at 1 % for a row together. Few runs agree with anything, so the
        last column says what deviation a direction must have, in the median, to be seen.
    """
    rows = []
    for order in study.result.orders:
        for attribute, name in QUANTITIES.items():
            counts = verdicts(getattr(order, attribute))
            missing = len(order.stationary) - sum(counts)
            seen = detectable(getattr(order, attribute))
            shown = "-" if seen is None else f"{100 * seen:.0f} %"
            rows.append((order.order.label, name, *counts, missing, shown))
    header = ("order", "quantity", "agree", "disagree", "outside regime", "not compared", "seen from")
    return Table(header, tuple(rows))


def detectable(comparisons: Sequence[Comparison]) -> float | None:
    """The relative deviation from which a direction would disagree, all of them being tested together at 1 %.

    Args:
        comparisons: of one quantity, with their reasons.

    Returns:
        The median over those inside their regime, the tolerance included; None without any.
    """
    from scipy.special import stdtrit

    inside = [c for c in comparisons if not c.reasons]
    if not inside:
        return None
    sizes = []
    for c in inside:
        samples = [e.n for e in (c.predicted, c.measured) if e.standard_error > 0]
        error = math.hypot(c.predicted.standard_error, c.measured.standard_error)
        quantile = stdtrit(max(min(samples, default=2) - 1, 1), 1 - 0.005 / len(inside))
        sizes.append(c.margin + quantile * error / c.predicted.value)
    return float(statistics.median(sizes))


def verdicts(comparisons: Sequence[Comparison]) -> tuple[int, int, int]:
    """Numbers of those that agree, disagree, and are outside their regime.

    Args:
        comparisons: with their verdicts.

    Returns:
        Three counts.
    """
    words = [comparison.verdict for comparison in comparisons]
    agree, disagree = words.count("agrees"), words.count("disagrees")
    return agree, disagree, len(words) - agree - disagree


def noise_table(study: VarianceStudy) -> Table:
    """The noise of batches at fixed weights.

    Args:
        study: finished.

    Returns:
        A row for each order and lag; verdicts hold at 1 % for an order together.
    """
    rows = [
        (
            *c.quantity.split(", noise at lag "),
            f"{c.predicted.value:.5g}",
            f"{c.measured.value:.5g} +- {c.measured.standard_error:.1g}",
            f"{c.z:+.1f}",
            c.verdict,
        )
        for noise in study.noise
        for c in noise.comparisons
    ]
    return Table(("order", "lag", "theory", "measured", "z", "verdict"), tuple(rows))


def loss_table(study: VarianceStudy) -> Table:
    """How much the fluctuations cost.

    Args:
        study: finished.

    Returns:
        A row for each order with a stationary direction: (1/2) sum lambda Var(theta) over the directions.
    """
    rows = []
    for order in study.result.orders:
        loss = order.loss
        if loss is not None:
            share = loss.reduction
            measured = f"{100 * share.value:.1f} % +- {100 * share.standard_error:.1f} %"
            theory = f"{100 * loss.predicted.reduction_to_constant:.1f} %"
            rows.append((order.order.label, number(loss.measured), number(loss.isotropic), measured, theory))
    return Table(("order", "excess loss", "if isotropic", "spared", "theory"), tuple(rows))


def second_crossover_table(study: VarianceStudy) -> Table:
    """Whether the flattest directions rise above the plateau.

    Args:
        study: finished.

    Returns:
        A row for each order where that can be asked.
    """
    rows = []
    for order in study.result.orders:
        second = order.second_crossover
        if second is not None:
            share, amplitude = plus_minus(second.share), plus_minus(second.amplitude)
            sides = (f"{second.curvature:.3g}", second.below, second.plateau)
            rows.append((order.order.label, share, *sides, amplitude, second.verdict))
    header = ("order", "rho", "second crossover", "flatter", "between", "rise / theory", "verdict")
    return Table(header, tuple(rows))


def accuracy_table(study: VarianceStudy) -> Table:
    """Test accuracies with two orders.

    Args:
        study: finished.

    Returns:
        A row for each order, and one for the difference; none without accuracies.
    """
    found = study.accuracy
    if found is None:
        return Table(("training", "n", "test accuracy", "95 % interval"), ())
    low, high = found.interval
    rows = [
        (label, mean.n, plus_minus(mean), "{:.4f} to {:.4f}".format(*mean.interval()))
        for label, mean in zip(found.orders, (found.first, found.second), strict=True)
    ]
    difference = f"{found.difference.value:+.4f} +- {found.difference.standard_error:.4f}"
    rows.append((" - ".join(reversed(found.orders)), found.difference.n, difference, f"{low:+.4f} to {high:+.4f}"))
    return Table(("training", "n", "test accuracy", "95 % interval"), tuple(rows))


def scan_table(study: VarianceStudy) -> Table:
    """The experiment at other hyper-parameters.

    Args:
        study: finished.

    Returns:
        A row for each point of the scan and order.
    """
    rows = []
    for point in study.scan:
        for order in point.result.orders:
            all_ = [comparison for name in QUANTITIES for comparison in getattr(order, name)]
            agree, disagree, _ = verdicts(all_)
            medians = (percent(side.median) if side else "-" for side in (order.above, order.below))
            label = f"{point.name.replace('_', ' ')} {point.value:g}"
            rows.append((label, order.order.label, f"{order.crossover:.3g}", *medians, agree, disagree))
    header = ("scan", "order", "crossover", "deviation above", "below", "agree", "disagree")
    return Table(header, tuple(rows))


def _of_the_force(order: OrderResult) -> list[str]:
    moving = order.in_motion
    if moving is None:
        return []
    found = [
        (f"{percent(stiffer.median)} {where} the crossover", percent(left.median))
        for where, stiffer, left in (
            ("above", moving.stiffer_above, moving.above),
            ("below", moving.stiffer_below, moving.below),
        )
        if stiffer is not None and left is not None
    ]
    if not found:
        return []
    return [
        f"{order.order.label}: where the weights move, the mean gradient is steeper than the Hessian says by "
        f"{' and '.join(each for each, _ in found)}; with that, and the noise in motion, "
        f"{' and '.join(each for _, each in found)} is left."
    ]


def conclusions(study: VarianceStudy) -> list[str]:
    """What came out, in plain words.

    Args:
        study: finished.

    Returns:
        Sentences.
    """
    lines = []
    for order in study.result.orders:
        sides = [
            f"{percent(side.median)} {where} the crossover (median of {side.directions} directions)"
            for where, side in (("above", order.above), ("below", order.below))
            if side is not None
        ]
        agree, disagree, _ = verdicts([c for name in QUANTITIES for c in getattr(order, name)])
        name = order.order.label
        if sides:
            lines.append(
                f"{name}: weight variances deviate from theory by {' and '.join(sides)}; {agree} of {agree + disagree} "
                "comparisons agree."
            )
        else:
            lines.append(f"{name}: no direction can be held against theory.")
        lines += _of_the_force(order)
        second = order.second_crossover
        if second is not None and second.verdict == "seen":
            lines.append(
                f"{name}: the flattest variances rise above the plateau, {plus_minus(second.amplitude)} times as much "
                f"as the noise that weights add to it explains (rho = {plus_minus(second.share)})."
            )
    first = study.result.orders[0]
    if first.loss is not None:
        share = first.loss.reduction
        lines.append(
            f"{first.order.label}: the loss fluctuates {100 * share.value:.0f} % +- {100 * share.standard_error:.0f} % "
            f"less than if all weights had the largest variance (theory: "
            f"{100 * first.loss.predicted.reduction_to_constant:.0f} %)."
        )
    if study.accuracy is not None:
        found = study.accuracy
        low, high = (100 * end for end in found.interval)
        side = "not shown to be different" if not found.shown else "higher" if low > 0 else "lower"
        lines.append(
            f"Test accuracy of {found.orders[1]} is {side}: {low:+.2f} to {high:+.2f} percentage points beside "
            f"{found.orders[0]} (95 %, {found.difference.n} pairs)."
        )
    return lines
