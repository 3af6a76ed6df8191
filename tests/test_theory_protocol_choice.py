import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bootstrap import percentile_interval
from theory.estimate import agreement
from theory.protocol_choice import ProtocolChoice, ProtocolMeans, choose_protocol, selected_draws


def means(
    label: str, replicates: np.ndarray, values: list[float], n: int = 10_000, source: str = "measured"
) -> ProtocolMeans:
    k = len(values)
    intervals = np.arange(1, k + 1) if label != "none" else np.array([0])
    return ProtocolMeans(label, intervals, (source,) * k, np.array(values), np.asarray(replicates, dtype=float), n)


def noisy(
    label: str,
    rng: np.random.Generator,
    values: list[float],
    error: float = 0.05,
    resamples: int = 1000,
    n: int = 10_000,
) -> ProtocolMeans:
    """Independent errors at each interval."""
    replicates = np.array(values) * np.exp(error * rng.standard_normal((resamples, len(values))))
    return means(label, replicates, values, n)


def by_label(choices: tuple[ProtocolChoice, ...]) -> dict[str, ProtocolChoice]:
    return {choice.label: choice for choice in choices}


# ---- One interval: nothing is selected -------------------------------------------------------------------------------


def test_without_a_choice_it_is_the_percentile_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    none, one = noisy("none", rng, [20.0]), noisy("one", rng, [10.0])
    found = by_label(choose_protocol(none, [one]))
    draws = one.replicates[:, 0]
    assert (selected_draws(one) == draws).all()
    assert found["one"].restricted_mean.value == pytest.approx(np.median(draws), rel=1e-3)
    assert found["one"].restricted_mean.interval() == pytest.approx(percentile_interval(draws), rel=1e-3)
    assert found["one"].restricted_mean.standard_error == pytest.approx(0.5, rel=0.1)
    ratio = none.replicates[:, 0] / draws
    assert found["one"].speed_up.interval() == pytest.approx(percentile_interval(ratio), rel=1e-3)
    assert (found["one"].interval, found["one"].low, found["one"].high) == (1, 1, 1)
    assert not found["one"].is_boundary
    assert found["one"].source == "measured"


def test_few_runs_make_wider_intervals_as_student_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    none, one = noisy("none", rng, [20.0]), noisy("one", rng, [10.0])
    few = dataclasses.replace(one, n=5)
    widths = []
    for known in (one, few):
        estimate = by_label(choose_protocol(none, [known]))["one"].restricted_mean
        widths.append(math.log(estimate.interval()[1] / estimate.interval()[0]))
        assert estimate.n == known.n
    # t(4, 0.975) = 2.7764, and the bootstrap's variance lacks a factor 5 / 4
    assert widths[1] / widths[0] == pytest.approx(2.7764 / 1.95996 * math.sqrt(5 / 4), rel=2e-3)


def test_training_without_perturbation_is_as_fast_as_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for others in ([], [noisy("one", rng, [19.0, 21.0])], [noisy("one", rng, [20.5])], [noisy("one", rng, [40.0])]):
        none = by_label(choose_protocol(noisy("none", rng, [20.0]), others))["none"]
        assert none.speed_up.value == 1
        assert none.speed_up.interval() == (1, 1)
        assert none.speed_up.standard_error == 0
        assert (none.helps, none.interval, none.is_boundary) == (0, 0, False)


def test_probability_of_being_best_is_that_of_the_normal_law(seed: int) -> None:
    rng, error = np.random.default_rng(seed), 0.05
    ahead = 2 * math.sqrt(2) * error  # two standard errors of the difference of logarithms
    none = noisy("none", rng, [20.0], error, 20_000)
    other = noisy("one", rng, [20 * math.exp(-ahead)], error, 20_000)
    one = by_label(choose_protocol(none, [other]))["one"]
    # The winner is less sure than Phi(2) = 0.977: that it was chosen counts against it.
    assert 0.955 < one.best < 0.977
    far = by_label(choose_protocol(none, [noisy("one", rng, [10.0], error, 20_000)]))
    assert far["one"].best == far["one"].helps == 1
    assert far["none"].best == 0


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_equal_protocols_share_the_probability(copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = noisy("0", rng, [10.0, 9.0, 11.0])
    same = [dataclasses.replace(one, label=str(i)) for i in range(copies)]
    found = by_label(choose_protocol(noisy("none", rng, [20.0]), same))
    assert [found[str(i)].best for i in range(copies)] == pytest.approx([1 / copies] * copies)
    assert found["0"].helps == 1


def test_a_perturbation_that_never_happens_is_no_other_protocol(seed: int) -> None:
    rng = np.random.default_rng(seed)
    none = noisy("none", rng, [20.0], resamples=4000)
    rounded = none.replicates * (1 + 1e-15)  # another order of additions
    for never in (none.replicates, rounded, none.replicates / (1 + 1e-15)):
        found = by_label(choose_protocol(none, [means("idle", never, [20.0])]))
        assert (found["idle"].helps, found["idle"].best, found["none"].best) == (0, 0, 1)
        assert found["idle"].speed_up.interval() == pytest.approx((1, 1), abs=1e-12)
    # The usual case: a second interval that acts tempts some replicates, and leaves its luck in others.
    tempting = np.hstack([none.replicates, none.replicates * np.exp(rng.normal(0.01, 0.02, (4000, 1)))])
    found = by_label(choose_protocol(none, [means("late", tempting, [20.0, 20.2])]))
    assert (found["late"].helps, found["late"].best, found["none"].best) == (0, 0, 1)
    # It counts where it acts: in a quarter of the replicates, in one of ten of which it harms.
    acts, helps = rng.random(4000) < 0.25, rng.random(4000) < 0.9
    partly = none.replicates[:, 0] * np.where(acts, np.where(helps, 0.99, 1.01), 1)
    found = by_label(choose_protocol(none, [means("late", partly[:, None], [20.0])]))
    assert found["late"].helps == pytest.approx(0.225, abs=0.03)
    assert found["late"].best == pytest.approx(0.225, abs=0.03)
    # What is nearly as fast, but not the same, is another protocol: the negative control.
    similar = means("similar", none.replicates * np.exp(rng.normal(0, 1e-6, (4000, 1))), [20.0])
    found = by_label(choose_protocol(none, [similar]))
    assert 0.2 < found["similar"].helps < 0.8
    assert 0.2 < found["similar"].best < 0.8


# ---- Choosing --------------------------------------------------------------------------------------------------------


def test_best_interval_its_bounds_and_the_boundary() -> None:
    none = means("none", np.full((200, 1), 20.0), [20.0])
    replicates = np.tile([9.0, 8.0, 8.0, 9.0], (200, 1))
    replicates[:100, 2] = 7.0
    inner = by_label(choose_protocol(none, [means("one", replicates, [9.0, 8.0, 8.0, 9.0])]))["one"]
    assert (inner.interval, inner.low, inner.high, inner.is_boundary) == (2, 2, 3, False)  # the shortest of equal ones
    last = by_label(choose_protocol(none, [means("one", replicates[:, ::-1], [9.0, 8.5, 8.2, 8.0])]))["one"]
    assert (last.interval, last.is_boundary) == (4, True)
    # P = 1 is an end, but there is nothing shorter; P = 2 as the first one known may have a better neighbour.
    first = means("one", replicates, [7.0, 8.0, 8.0, 9.0])
    assert not by_label(choose_protocol(none, [first]))["one"].is_boundary
    later = dataclasses.replace(first, intervals=np.array([2, 3, 4, 5]))
    assert by_label(choose_protocol(none, [later]))["one"].is_boundary


def test_the_fastest_comes_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    others = [noisy("slow", rng, [40.0]), noisy("fast", rng, [10.0, 12.0]), noisy("middle", rng, [30.0, 15.0])]
    assert [c.label for c in choose_protocol(noisy("none", rng, [20.0]), others)] == ["fast", "middle", "none", "slow"]


def test_what_is_common_cancels_in_the_difference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common, own = np.exp(0.2 * rng.standard_normal((1000, 1))), np.exp(0.01 * rng.standard_normal((1000, 2)))
    none = means("none", 20 * common * own[:, :1], [20.0])
    found = by_label(choose_protocol(none, [means("one", 18 * common * own[:, 1:], [18.0])]))
    difference = found["none"].slower_by(found["one"])
    assert difference.value == pytest.approx(2, rel=0.1)
    assert difference.standard_error < 0.2 * found["one"].restricted_mean.standard_error
    assert found["one"].helps > 0.999
    low, high = difference.interval()
    assert 0 < low < 2 < high
    assert found["one"].slower_by(found["none"]).value == pytest.approx(-difference.value)


@given(st.integers(0, 10_000), st.floats(0.1, 100), st.integers(1, 4))
def test_another_unit_of_time_changes_nothing(seed: int, factor: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.uniform(5, 20, size=k).tolist() for _ in range(2)]
    protocols = [noisy(name, rng, v, 0.1, 50) for name, v in zip(("one", "other"), values, strict=True)]
    none = noisy("none", rng, [12.0], 0.1, 50)
    scaled = [
        dataclasses.replace(p, means=factor * p.means, replicates=factor * p.replicates) for p in (none, *protocols)
    ]
    for a, b in zip(choose_protocol(none, protocols), choose_protocol(scaled[0], scaled[1:]), strict=True):
        assert (a.label, a.interval, a.low, a.high, a.is_boundary) == (
            b.label,
            b.interval,
            b.low,
            b.high,
            b.is_boundary,
        )
        assert (a.helps, a.best) == (b.helps, b.best)
        assert b.restricted_mean.interval() == pytest.approx([factor * x for x in a.restricted_mean.interval()])
        assert b.speed_up.interval() == pytest.approx(a.speed_up.interval())


@given(st.integers(0, 10_000))
def test_order_of_protocols_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    none = noisy("none", rng, [12.0], 0.1, 50)
    protocols = [noisy(name, rng, rng.uniform(8, 14, size=3).tolist(), 0.1, 50) for name in "abc"]
    forwards, backwards = choose_protocol(none, protocols), choose_protocol(none, protocols[::-1])
    assert [c.label for c in forwards] == [c.label for c in backwards]
    for a, b in zip(forwards, backwards, strict=True):
        assert (a.draws == b.draws).all()
        assert (a.best, a.helps, a.restricted_mean, a.speed_up) == (b.best, b.helps, b.restricted_mean, b.speed_up)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_correction_only_ever_makes_slower_and_best_adds_up(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    protocol = noisy("one", rng, rng.uniform(8, 14, size=k).tolist(), 0.1, 60)
    assert (selected_draws(protocol) >= protocol.replicates[:, protocol.means.argmin()] * (1 - 1e-12)).all()
    choices = choose_protocol(noisy("none", rng, [11.0], 0.1, 60), [protocol])
    assert sum(c.best for c in choices) == pytest.approx(1)
    for c in choices:
        low, high = c.restricted_mean.interval()
        assert 0 < low <= c.restricted_mean.value <= high < math.inf
        assert 0 <= c.helps <= 1


# ---- The winner's curse ----------------------------------------------------------------------------------------------

SMALLEST_OF = {2: -0.56419, 5: -1.16296}
"""Mean of the smallest of k standard normal numbers."""


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("k", [2, 5])
def test_correction_takes_most_of_the_winners_curse_away(k: int, correlation: float, seed: int) -> None:
    """Equal intervals are the worst case: there is nothing but luck to choose by."""
    rng, error, studies, resamples = np.random.default_rng(seed), 0.02, 800, 200

    def errors(*size: int) -> np.ndarray:
        common = np.sqrt(correlation) * rng.standard_normal((*size, 1))
        return error * (common + np.sqrt(1 - correlation) * rng.standard_normal((*size, k)))

    claimed, corrected, hits, naive_hits = np.empty(studies), np.empty(studies), 0, 0
    for i in range(studies):
        values = np.exp(errors())
        known = means("one", values * np.exp(errors(resamples)), values.tolist())
        draws = selected_draws(known)
        claimed[i], corrected[i] = math.log(values.min()), np.median(np.log(draws))
        low, high = percentile_interval(draws)
        hits += low <= 1 <= high
        low, high = percentile_interval(known.replicates.min(axis=1))
        naive_hits += low <= 1 <= high
    bias = SMALLEST_OF[k] * error * math.sqrt(1 - correlation)
    assert agreement(claimed, bias)  # what is claimed is as wrong as the order statistics of normal numbers say
    assert not agreement(claimed, 0.0)
    assert abs(corrected.mean()) < 0.8 * abs(bias)
    assert hits / studies > 0.93
    if correlation == 0:
        assert naive_hits / studies < (0.93 if k == 2 else 0.75)


def test_the_winner_among_protocols_is_corrected_too(seed: int) -> None:
    rng, error, studies = np.random.default_rng(seed), 0.02, 400
    claims, corrected, hits, naive_hits = np.empty(studies), np.empty(studies), 0, 0
    for i in range(studies):
        known = [
            noisy(name, rng, [float(np.exp(error * rng.standard_normal()))], error, 200) for name in ("none", *"abcd")
        ]
        first = choose_protocol(known[0], known[1:])[0]
        original = next(p for p in known if p.label == first.label)
        claims[i], corrected[i] = math.log(original.means[0]), math.log(first.restricted_mean.value)
        low, high = first.restricted_mean.interval()
        hits += low <= 1 <= high
        low, high = percentile_interval(original.replicates[:, 0])
        naive_hits += low <= 1 <= high
    # Five equal protocols; the medians of 200 replicates decide, which hardly differ from the means.
    assert agreement(claims, SMALLEST_OF[5] * error)
    assert corrected.mean() > 0.55 * claims.mean()
    assert hits / studies > 0.94
    assert naive_hits / studies < 0.92


def test_a_clear_winner_is_not_corrected(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = [noisy("none", rng, [30.0]), noisy("one", rng, [10.0, 20.0, 20.0]), noisy("other", rng, [20.0])]
    first = choose_protocol(known[0], known[1:])[0]
    assert first.draws == pytest.approx(known[1].replicates[:, 0], rel=1e-12)
    assert first.best == 1


# ---- Errors ----------------------------------------------------------------------------------------------------------


def test_what_does_not_belong_together_is_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.raises(ValueError, match=r"one: 2 intervals, 2 sources, 2 means and replicates of shape \(50, 3\)"):
        means("one", np.ones((50, 3)), [1.0, 1.0])
    with pytest.raises(ValueError, match=r"one: 0 intervals"):
        means("one", np.ones((50, 0)), [])
    for wrong in (math.inf, math.nan, 0.0, -1.0):
        with pytest.raises(ValueError, match=r"one: means must be finite and > 0"):
            means("one", np.ones((50, 1)), [wrong])
        with pytest.raises(ValueError, match=r"one: replicates must be finite and > 0"):
            means("one", np.full((50, 1), wrong), [1.0])
    none, one = noisy("none", rng, [2.0]), noisy("one", rng, [1.0])
    with pytest.raises(ValueError, match=r"labels \['none', 'one', 'one'\] must be different"):
        choose_protocol(none, [one, one])
    with pytest.raises(ValueError, match=r"replicates of \['none', 'one'\] must be equally many"):
        choose_protocol(none, [noisy("one", rng, [1.0], resamples=7)])
