"""What the experiment of nnval.effective_temperature tests: boundary widths, rank correlations, linear theory."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnval.effective_temperature_study import STOPS, TEMPERATURES, WIDTHS, ConditionResult, Finding
from theory.absorbing import Floats
from theory.estimate import Comparison, Estimate, compare, holm

# ---- When one stops --------------------------------------------------------------------------------------------------


def widths_when_stopped(
    conditions: Sequence[ConditionResult], epochs: Sequence[int], early: int
) -> dict[tuple[str, str], Floats]:
    """Both widths of all conditions and seeds, at each of ``STOPS``.

    Equal loss is, for each seed, the lowest that all of its conditions have come to in training; between measurements
    widths go in a straight line with the logarithm of the loss. Zero error is the first measurement at which both
    replicas are right about all training points.

    Args:
        conditions: with the same seeds.
        epochs: at which they were measured.
        early: epoch of the early comparison.

    Returns:
        (stop, width) -> (conditions, seeds); nan where a network did not get there.
    """
    loss = np.log(np.stack([each.curves["train_loss"] for each in conditions]))
    error = np.stack([each.curves["train_error"] for each in conditions])
    level = loss.min(axis=2).max(axis=0)  # of each seed
    first = int(np.searchsorted(epochs, early))
    found = {}
    for name in WIDTHS:
        curve = np.stack([each.curves[name] for each in conditions])
        found["early", name], found["late", name] = curve[:, :, first], curve[:, :, -1]
        found["at_rest", name] = np.stack([each.rest[name] for each in conditions])
        at_level, at_zero = np.full((2, *curve.shape[:2]), np.nan)
        for place in np.ndindex(*curve.shape[:2]):
            after = int(np.argmax(loss[place] <= level[place[1]]))
            at_level[place] = curve[place][after]
            if after:
                share = (loss[place][after - 1] - level[place[1]]) / (loss[place][after - 1] - loss[place][after])
                at_level[place] = (1 - share) * curve[place][after - 1] + share * curve[place][after]
            right = np.flatnonzero(error[place] == 0)
            if len(right):
                at_zero[place] = curve[place][right[0]]
        found["equal_loss", name], found["zero_error", name] = at_level, at_zero
    return found


# ---- What is tested --------------------------------------------------------------------------------------------------


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's, over the places where both are numbers; 0 if one is constant, None for fewer than two places.

    Example:
        >>> rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 4.0]))
        1.0
    """
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 2:
        return None
    x, y = (rankdata(each[both]) for each in (first, second))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size else 0.0


def _over_seeds(values: Sequence[float | None]) -> Estimate | None:
    known = [each for each in values if each is not None]
    return Estimate.from_samples(known) if len(known) >= 2 else None


def _groups(conditions: Sequence[ConditionResult], same: Callable[[ConditionResult], Any]) -> list[list[int]]:
    """Places of conditions that have something in common."""
    groups: dict[Any, list[int]] = {}
    for place, each in enumerate(conditions):
        groups.setdefault(same(each), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def findings_of(conditions: Sequence[ConditionResult], stops: Mapping[tuple[str, str], Floats]) -> tuple[Finding, ...]:
    """Rank correlations over conditions, seed by seed, against none at all.

    Args:
        conditions: with the same seeds.
        stops: of ``widths_when_stopped``.

    Returns:
        Findings; those for which fewer than two seeds have networks that got there are left out.
    """
    heat = np.stack([each.slope[:, TEMPERATURES.index("slow")] for each in conditions])
    seeds = range(heat.shape[1])
    everything = list(range(len(conditions)))
    cases = {
        "all conditions": [everything],
        "over orders, at equal batch size": _groups(conditions, lambda each: each.batch_size),
        "over batch sizes, in equal order": _groups(conditions, lambda each: each.order),
    }

    def chance(values: Floats, groups: list[list[int]]) -> float:
        """Standard deviation of the mean correlation if each seed had its values in random order."""
        variances, both = [], np.isfinite(heat) & np.isfinite(values)
        for seed in seeds:
            sizes = [int(both[group, seed].sum()) for group in groups]
            known = [1 / (size - 1) for size in sizes if size > 1]
            if known:
                variances.append(sum(known) / len(known) ** 2)
        return math.sqrt(sum(variances)) / len(variances)

    def correlation(values: Floats, groups: list[list[int]]) -> Estimate | None:
        of_seeds = []
        for seed in seeds:
            each = [rank_correlation(heat[group, seed], values[group, seed]) for group in groups]
            known = [one for one in each if one is not None]
            of_seeds.append(float(np.mean(known)) if known else None)
        return _over_seeds(of_seeds)

    found: list[tuple[str, str, Estimate]] = []
    random: list[float] = []
    for name, words in (("distance", "distance of weights"), ("disagreement", "share of different predictions")):
        values = np.stack([each.curves[name][:, -1] for each in conditions])
        for case, groups in cases.items():
            if groups and (estimate := correlation(values, groups)) is not None:
                found.append(("replicas", f"{words}, {case}", estimate))
                random.append(chance(values, groups))
    for name in WIDTHS:
        for stop in STOPS:
            if (estimate := correlation(stops[stop, name], [everything])) is not None:
                found.append((name, stop, estimate))
                random.append(chance(stops[stop, name], [everything]))
    nothing = Estimate(0.0, 0.0, 1)
    compared = []
    for (question, quantity, measured), spread in zip(found, random, strict=True):
        plain = compare(f"{question}: {quantity}", nothing, measured)
        # A few seeds that are all alike have no error, and a correlation of two conditions is 1 or -1 by chance.
        by_chance = math.erfc(abs(measured.value) / spread / math.sqrt(2))
        compared.append(dataclasses.replace(plain, p_value=max(plain.p_value, by_chance)))
    return tuple(Finding(*each, comparison) for each, comparison in zip(found, holm(compared), strict=True))


def theory_comparisons(
    conditions: Sequence[ConditionResult], tolerance: float, *, stationary: float = 0.1
) -> tuple[Comparison, ...]:
    """Measured over predicted, against one: slow temperature, response, and the whole field against half of it.

    Args:
        conditions: with the same seeds.
        tolerance: model error that is granted.
        stationary: median drift beyond which a condition is outside the regime of the theory.

    Returns:
        Comparisons whose verdicts hold together at 1 %; none for conditions in which fewer than two seeds respond.
    """
    compared = []
    one = Estimate(1.0, 0.0, 1)
    slow = TEMPERATURES.index("slow")
    for each in (condition for condition in conditions if condition.is_known):
        drift = float(np.mean(each.drift))
        reasons = [f"still on its way: the runs drift together by {drift:.2g}"] if drift > stationary else []
        if each.unanswered.any():
            reasons.append(f"{each.unanswered.sum()} directions without the response of a minimum, or beyond stability")
        for name, values, about_theory in (
            ("temperature", each.slope[:, slow] / each.predicted_slope[:, slow], True),
            ("response", each.response, True),
            ("linearity", each.linearity, False),
        ):
            label = f"{name}, {each.order}, S={each.batch_size}"
            why = reasons if about_theory or each.unanswered.any() else []
            measured = Estimate.from_samples(values[each.responds])
            compared.append(compare(label, one, measured, margin=tolerance, reasons=why))
    return tuple(holm(compared))
