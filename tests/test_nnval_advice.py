"""What the advisor makes of unperturbed curves: on studies small enough to know the answer."""

import math

import numpy as np
import pytest

from nnval.advice import Advice, advise, every, once
from nnval.measure.curves import Curves
from nnval.target_scan import scan_targets
from tests.advised_studies import (
    EARLY,
    HEAVY,
    LATE,
    STEADY,
    TARGET,
    H,
    advised,
    curves,
    evidence_of,
    frame,
    shuffled_every,
)
from theory.discrete_resetting import sharp_restart_restricted_mean
from theory.survival import FirstPassages, Survival

# ---- Unperturbed runs ------------------------------------------------------------------------------------------------


def test_three_lines_from_a_data_frame_to_the_best_restart() -> None:
    advice = advise(frame(HEAVY), target=TARGET, replicates=500)
    psi = Survival.of(FirstPassages(np.minimum(HEAVY, H), HEAVY <= H)).values
    assert advice.survival.values.tolist() == psi.tolist()
    exact = [float(sharp_restart_restricted_mean(psi, p, H)) for p in range(1, 31)]
    best = advice.best
    assert best is not None
    assert (best.label, best.interval, best.source) == ("full_reset", 1 + int(np.argmin(exact)), "restart")
    assert best.low <= best.interval <= best.high
    assert best.restricted_mean.value == pytest.approx(min(exact), rel=0.03)
    low, high = best.restricted_mean.interval()
    assert low < min(exact) < high
    assert best.speed_up.value == pytest.approx(psi[:H].sum() / min(exact), rel=0.05)
    assert best.helps > 0.99
    assert best.best > 0.99
    assert (advice.horizon, advice.target, advice.curves.n) == (H, TARGET, 100)
    assert advice.choice("none") is advice.choices[1]
    assert advice.choice("shrink_perturb") is None
    predictions = evidence_of(advice, "full_reset").predictions["restart"]
    assert [p.restricted_mean.value for p in predictions[:30]] == pytest.approx(exact, rel=1e-12)
    assert f"Restart from scratch every {best.interval} epochs" in str(advice)


def test_nothing_helps_runs_that_take_equally_long() -> None:
    advice = advised(STEADY)
    assert advice.horizon == 2 * 20  # all finished: known for ever
    assert advice.best is not None
    assert advice.best.label == "none"
    assert advice.best.speed_up.interval() == (1, 1)
    restart = advice.choice("full_reset")
    assert restart is not None
    # The last interval that is examined changes nothing, as nobody lives to see it: it was chosen for that, and is not
    # another protocol.
    assert restart.interval == 20
    assert (restart.helps, restart.best, advice.best.best) == (0, 0, 1)
    assert "Don't perturb" in str(advice)


def test_nobody_gets_there() -> None:
    advice = advised(np.full(30, 100))
    assert (advice.best, advice.choices, advice.unproven, advice.design) == (None, (), (), None)
    assert "no run reaches 0.9 by epoch 60" in str(advice)
    assert "fewer than 9.5%" in str(advice)  # 1 - 0.05^(1/30)
    assert any("E[T] is not identified: 100.0% of the runs are unfinished" in need for need in advice.needs)


def test_everybody_gets_there_at_once() -> None:
    advice = advised(np.ones(30, dtype=int))
    assert advice.horizon == 2
    assert {c.label: c.restricted_mean.value for c in advice.choices} == {"none": 1, "full_reset": 1}
    assert advice.stationarity is None
    assert advice.needs == ("All 30 runs finished, but up to 9.5% of others may be far slower (95 %).",)


def test_a_target_that_all_but_one_reach_and_two_runs() -> None:
    advice = advised(np.array([3, 100]))
    assert advice.best is not None
    assert "These are few runs (2)" in str(advice)
    assert all(math.isfinite(c.restricted_mean.value) for c in advice.choices)


def test_html_is_escaped_and_has_no_scripts() -> None:
    nasty = Curves(
        "acc<uracy", curves(HEAVY).runs, curves(HEAVY).values, assumptions=("<script>alert(1)</script> & so",)
    )
    shuffle = once('<img src="x">', 30, Curves("acc<uracy", curves(EARLY).runs, curves(EARLY, 30).values))
    html = advise(nasty, target=TARGET, perturbed=[shuffle], replicates=100)._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so" in html
    assert "acc&lt;uracy" in html
    assert "&lt;img src=" in html
    for forbidden in ("<script", "<img", "acc<"):
        assert forbidden not in html
    for tag in ("div", "table", "tbody", "p", "b", "td"):
        assert html.count(f"<{tag}>") == html.count(f"</{tag}>") > 0


# ---- Reading ---------------------------------------------------------------------------------------------------------


def test_epochs_from_zero_give_the_same_answer_and_a_warning_when_it_was_guessed() -> None:
    from_one = advise(frame(HEAVY), target=TARGET, replicates=100)
    told = advise(frame(HEAVY, first=0), target=TARGET, replicates=100, count="from_zero")
    guessed = advise(frame(HEAVY, first=0), target=TARGET, replicates=100)
    wrong = advise(frame(HEAVY, first=0), target=TARGET, replicates=100, count="untrained_first")
    for advice in (told, guessed):
        assert advice.choices[0].interval == from_one.choices[0].interval
        assert advice.choices[0].restricted_mean == from_one.choices[0].restricted_mean
    assert wrong.choices[0].interval == from_one.choices[0].interval - 1
    assert not any("epoch 0" in text or "begin" in text for text in (*from_one.assumptions, *told.assumptions))
    (text,) = [text for text in guessed.assumptions if "zero" in text]
    assert "--count" in text or "count" in text
    assert text in str(guessed)


def test_losses_get_better_downwards() -> None:
    down = frame(HEAVY).assign(loss=lambda table: 1 - table["accuracy"]).drop(columns="accuracy")
    advice = advise(down, target=0.1 + 1e-12, replicates=100)
    assert advice.curves.direction == "down"
    assert (
        advice.choices[0].restricted_mean
        == advise(frame(HEAVY), target=TARGET, replicates=100).choices[0].restricted_mean
    )
    assert "loss <= 0.1" in str(advice)


def test_runs_that_were_stopped_are_censored_and_not_failures() -> None:
    table = frame(HEAVY)
    late = table["run"] >= 80  # those that never finish; half of them are stopped at epoch 20
    cut = table.loc[~(late & (table["run"] % 2 == 0) & (table["epoch"] > 20))]
    advice = advise(cut, target=TARGET, replicates=200)
    assert advice.first_passages.observed.sum() == 80
    assert (advice.first_passages.times == 20).sum() == 10
    assert advice.horizon == H
    assert advice.survival.at(H) == pytest.approx(0.2)  # dropped or failed they would give 1 / 9 or 0
    assert advice.choices[0].interval == advised().choices[0].interval
    assert "10 stopped earlier" in str(advice)


def test_assumptions_about_perturbed_runs_carry_their_name() -> None:
    table = frame(EARLY, 30, first=0)
    advice = advise(frame(HEAVY), target=TARGET, perturbed=[once("shuffle", 30, table)], replicates=100)
    assert any(text.startswith("shuffle once at epoch 30: ") for text in advice.assumptions)
    direction = [text for text in advice.assumptions if "direction" in text]
    assert len(direction) == 1  # the same for all: said once


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is one run: how long training takes varies"):
        advised(np.array([3]))
    for precision in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"precision=.* must lie strictly between 0 and 1"):
            advised(precision=precision)
    with pytest.raises(ValueError, match=r"horizon=1 must be >= 2"):
        advised(horizon=1)
    with pytest.raises(ValueError, match=r"epoch=61 lies beyond the horizon 60, where 20.0% of the runs are unfi"):
        advised(horizon=61)
    with pytest.raises(ValueError, match=r"horizon=1001 is more than ten times the 20 epochs of the data"):
        advised(STEADY, horizon=1001)
    assert advised(STEADY, horizon=200).horizon == 200


# ---- What is not known -----------------------------------------------------------------------------------------------


def test_needs_name_what_is_missing() -> None:
    constant = np.random.default_rng(0).geometric(0.02, size=400)
    advice = advised(constant)
    (horizon,) = [need for need in advice.needs if need.startswith("E[T] is not identified")]
    assert "At most 1 % of the runs are unfinished from epoch" in horizon
    close = [need for need in advice.needs if " or " in need and "?" in need]
    assert len(close) == 1  # without memory restarting neither helps nor harms
    few = advised(HEAVY[::2], precision=0.02)
    assert any(need.startswith("full_reset every") for need in few.needs)
    assert advised(np.repeat(HEAVY, 50), precision=0.05).needs[0].startswith("E[T] is not identified: 20.0%")
    refused = advised(np.concatenate([np.repeat(np.arange(1, 16), 12), np.repeat([35, 36, 37], 10), np.full(40, 100)]))
    assert any("nothing allows to continue them" in need or "At most" in need for need in refused.needs)


# ---- Targets, seeds, order -------------------------------------------------------------------------------------------


def rising(n: int = 60) -> Curves:
    """Runs that rise and level off at different accuracies."""
    rng = np.random.default_rng(0)
    level, rate = rng.uniform(0.6, 0.95, (n, 1)), rng.uniform(0.1, 0.4, (n, 1))
    noise = 0.01 * rng.standard_normal((n, H))
    values = level * (1 - np.exp(-rate * np.arange(1, H + 1))) + noise
    return Curves("accuracy", tuple(map(str, range(n))), values)


def test_scan_is_advice_at_each_target() -> None:
    targets, calls = [0.5, 0.7, 0.85, 1.0], []
    scan = scan_targets(rising(), targets, replicates=50, progress=lambda *state: calls.append(state))
    assert [a.target for a in scan.advice] == targets
    unfinished = [float(a.survival.values[-1]) for a in scan.advice]
    assert unfinished == sorted(unfinished)
    assert scan.advice[-1].best is None
    alone = advise(rising(), target=0.7, replicates=50)
    assert [(c.label, c.interval, c.restricted_mean) for c in scan.advice[1].choices] == [
        (c.label, c.interval, c.restricted_mean) for c in alone.choices
    ]
    assert calls == [(1, 4, "target 0.5"), (2, 4, "target 0.7"), (3, 4, "target 0.85"), (4, 4, "target 1")]
    with pytest.raises(ValueError, match=r"targets is empty: give two or more values of the metric"):
        scan_targets(rising(), [])
    (told,) = scan_targets(frame(HEAVY, first=0), [0.9], count="untrained_first", replicates=50).advice
    assert told.first_passages.times.min() == HEAVY.min() - 1


def numbers(advice: Advice) -> list[tuple]:
    found = [
        (c.label, c.interval, c.low, c.high, c.source, c.restricted_mean, c.speed_up, c.helps, c.best)
        for c in advice.choices
    ]
    predictions = sorted((e.label, k, p) for e in advice.evidence for k, p in e.predictions.items())
    return [*found, *predictions]


def test_equal_seeds_give_equal_numbers_and_the_order_of_the_files_does_not_matter() -> None:
    given = [once("a", 30, curves(EARLY, 30)), every("a", 5, curves(shuffled_every(5)))]
    given += [once("b", 20, curves(LATE, 30)), every("b", 10, curves(shuffled_every(10, LATE)))]
    first = advised(HEAVY, *given)
    again, backwards, other = advised(HEAVY, *given), advised(HEAVY, *given[::-1]), advised(HEAVY, *given, seed=1)
    assert str(first) == str(again)
    assert all((a.draws == b.draws).all() for a, b in zip(first.choices, again.choices, strict=True))
    assert numbers(first) == numbers(again) == numbers(backwards)
    assert numbers(first) != numbers(other)
    # A further protocol leaves the others' numbers alone, if it does not win.
    fewer = advised(HEAVY, *given[:2])
    assert evidence_of(fewer, "a").predictions == evidence_of(first, "a").predictions


def test_intervals_of_interest_are_examined_where_others_are_thinned_out() -> None:
    long = np.concatenate([np.repeat(np.arange(1, 16), 4), np.full(20, 1000)])
    advice = advise(curves(long, 900), target=TARGET, intervals=[777], replicates=20)
    known = [p.interval for p in evidence_of(advice, "full_reset").predictions["restart"]]
    assert 777 in known
    assert len(known) <= 202
    assert known == sorted(set(known))
    assert known[:50] == list(range(1, 51))
    assert known[-1] == 900
