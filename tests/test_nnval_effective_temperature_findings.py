"""What is concluded from measured temperatures: widths at equal stops, ranks over conditions, theory in its regime."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from nnval.effective_temperature_findings import findings_of, rank_correlation, theory_comparisons, widths_when_stopped
from nnval.effective_temperature_study import MEASURED, STOPS, WIDTHS, ConditionResult
from sim.random_streams import stream


def made_up(order: str, size: int, heat: float, **curves: Any) -> ConditionResult:
    """Six seeds, four epochs: the loss falls, and the width rises with the time."""
    ones = np.ones((6, 4))
    rng = stream(0, order, size)
    found = {name: ones * rng.normal(1, 1e-3, size=(6, 4)) for name in MEASURED}
    found["train_loss"] = ones * np.array([2.0, 0.5, 0.1, 0.05])
    found["train_error"] = ones * np.array([0.9, 0.1, 0.0, 0.0])
    found["margin"] = ones * np.array([-1.0, 0.0, 0.3, 0.4])
    found |= {name: ones * values for name, values in curves.items()}
    slope = np.full((6, 2), heat) * rng.normal(1, 0.01, size=(6, 2))
    near_one = rng.normal(1, 0.01, size=(3, 6))
    return ConditionResult(
        order, size, found, {name: values[:, -1] for name, values in found.items()}, slope[:, :1], slope[:, :1], slope,
        slope * near_one[0][:, None], near_one[1], near_one[2], np.full(6, 0.01),
        np.zeros(6, dtype=int),
    )  # fmt: skip


def test_widths_at_each_stop() -> None:
    slow = {"train_loss": np.array([2.0, 1.0, 0.5, 0.2]), "train_error": np.array([0.9, 0.5, 0.1, 0.1])}
    conditions = [made_up("reshuffled", 5, 1.0), made_up("persistent", 5, 9.0, **slow)]
    found = widths_when_stopped(conditions, (0, 10, 20, 30), early=8)
    assert set(found) == {(stop, width) for stop in STOPS for width in WIDTHS}
    margin = {stop: found[stop, "margin"] for stop in STOPS}
    assert np.allclose(margin["early"], 0.0)  # epoch 10
    assert np.allclose(margin["late"], 0.4)
    # The loss that both come to is 0.2; one gets there at its end, the other between its second and third measurement.
    share = np.log(0.5 / 0.2) / np.log(0.5 / 0.1)
    assert np.allclose(margin["equal_loss"][0], 0.3 * share)
    assert np.allclose(margin["equal_loss"][1], 0.4)
    assert np.allclose(margin["zero_error"][0], 0.3)
    assert np.isnan(margin["zero_error"][1]).all()


def test_rank_correlations_are_spearmans() -> None:
    rng = stream(0, "ranks")
    for _ in range(5):
        x, y = rng.integers(0, 6, size=(2, 9)).astype(float)
        assert rank_correlation(x, y) == pytest.approx(np.asarray(scipy.stats.spearmanr(x, y))[0])
    assert rank_correlation(np.array([1.0, np.nan, 2.0]), np.array([3.0, 9.0, 1.0])) == -1.0
    assert rank_correlation(np.array([1.0, np.nan]), np.array([3.0, 9.0])) is None
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_what_rises_with_heat_is_shown_and_what_does_not_is_not() -> None:
    hot = {("reshuffled", 5): 1.0, ("reshuffled", 10): 0.5, ("persistent", 5): 9.0, ("persistent", 10): 4.0,
           ("with_replacement", 5): 2.0, ("with_replacement", 10): 1.5}  # fmt: skip
    conditions = [made_up(*name, heat, distance=heat, margin=-heat) for name, heat in hot.items()]
    stops = widths_when_stopped(conditions, (0, 10, 20, 30), early=10)
    found = {(each.question, each.quantity): each for each in findings_of(conditions, stops)}
    for case in ("all conditions", "over orders, at equal batch size", "over batch sizes, in equal order"):
        risen = found["replicas", f"distance of weights, {case}"]
        assert risen.estimate.value > 0.95
        assert risen.shown
        assert not found["replicas", f"share of different predictions, {case}"].shown
    assert found["margin", "late"].shown
    assert found["margin", "late"].estimate.value < -0.95
    assert not found["input_distance", "late"].shown
    assert found["margin", "late"].estimate.n == 6


def test_ranks_of_two_conditions_are_chance_where_the_others_never_got_there() -> None:
    conditions = [made_up(f"persistent{heat}", 5, heat) for heat in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)]
    widths = np.full((6, 6), np.nan)
    widths[:2] = [[1.0], [2.0]]
    stops = {(stop, name): widths for stop in STOPS for name in WIDTHS}
    found = {(each.question, each.quantity): each for each in findings_of(conditions, stops)}
    assert found["margin", "late"].estimate.value == 1.0
    assert found["margin", "late"].comparison.p_value > 0.01  # six signs
    widths[2:, :] = np.nan
    widths[:, 1:4] = np.nan  # three seeds are left: their signs alone
    fewer = {(each.question, each.quantity): each for each in findings_of(conditions, stops)}
    expected = math.erfc(math.sqrt(3 / 2))
    assert fewer["margin", "late"].estimate.n == 3
    assert fewer["margin", "late"].comparison.p_value == pytest.approx(expected)
    assert not fewer["margin", "late"].shown


def test_theory_is_judged_beyond_its_tolerance_and_where_it_holds() -> None:
    good = made_up("reshuffled", 5, 1.0)
    off = dataclasses.replace(good, order="persistent", response=1.6 * good.response)
    moving = dataclasses.replace(off, order="with_replacement", drift=np.full(6, 0.5))
    dumb = dataclasses.replace(off, order="shuffled_once", unanswered=np.array([0, 0, 2, 0, 0, 0]))
    compared = theory_comparisons([good, off, moving, dumb], 0.1)
    found = {each.quantity: each.verdict for each in compared}
    assert {found[f"{name}, shuffled_once, S=5"] for name in ("temperature", "response", "linearity")} == {
        "outside regime"
    }
    assert any(
        "2 directions without the response of a minimum" in reason for each in compared for reason in each.reasons
    )
    assert found["response, reshuffled, S=5"] == found["temperature, persistent, S=5"] == "agrees"
    assert found["response, persistent, S=5"] == "disagrees"
    assert found["response, with_replacement, S=5"] == "outside regime"
    assert found["linearity, with_replacement, S=5"] == "agrees"
