"""What the advisor makes of curves: on studies small enough to know the answer."""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnval.advice import Advice, advise, every, once
from nnval.measure.curves import Curves
from nnval.protocol_evidence import PerturbedCurves, ProtocolEvidence
from nnval.target_scan import scan_targets
from theory.discrete_resetting import sharp_restart_restricted_mean
from theory.survival import FirstPassages, Survival

TARGET, H = 0.9, 60
HEAVY = np.repeat([2, 3, 4, 5, 6, 7, 8, 9, 10, 100], [5, 30, 20, 10, 5, 5, 2, 2, 1, 20])
"""Most runs are done early, a fifth never is: restarting helps."""
STEADY = np.repeat(np.arange(10, 21), [2, 4, 7, 11, 15, 18, 15, 11, 7, 4, 2])
"""All runs take about as long: nothing helps."""
EARLY, LATE = np.repeat([2, 3, 4], 10), np.repeat([12, 13, 14], 10)


def curves(times: np.ndarray, horizon: int = H, *, seed: int = 0, **options: Any) -> Curves:
    """Runs that meet 0.9 at these epochs and are stationary before."""
    below = np.random.default_rng(seed).uniform(0.1, 0.8, (len(times), horizon))
    values = np.where(np.arange(1, horizon + 1) >= times[:, None], 0.9, below)
    return Curves("accuracy", tuple(map(str, range(len(times)))), values, **options)


def frame(times: np.ndarray, horizon: int = H, *, first: int = 1) -> pd.DataFrame:
    """The same, a row per evaluation."""
    values = curves(times, horizon).values
    run, epoch = np.indices(values.shape)
    return pd.DataFrame({"run": run.ravel(), "epoch": epoch.ravel() + first, "accuracy": values.ravel()})


def shuffled_every(interval: int, residuals: np.ndarray = EARLY) -> np.ndarray:
    drawn = np.random.default_rng(interval).choice(residuals, len(HEAVY))
    return np.where(interval < HEAVY, interval + drawn, HEAVY)


def advised(times: np.ndarray = HEAVY, *perturbed: PerturbedCurves, **options: Any) -> Advice:
    given: dict[str, Any] = {"replicates": 200, **options}
    return advise(curves(times), target=TARGET, perturbed=perturbed, **given)


def evidence_of(advice: Advice, label: str) -> ProtocolEvidence:
    return next(e for e in advice.evidence if e.label == label)


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
    # The last interval that is examined changes nothing, as nobody lives to see it: it was chosen for that.
    assert restart.interval == 20
    assert 0.3 < restart.helps <= 0.5
    assert restart.best + advice.best.best == pytest.approx(1)
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([once("none", 30, curves(EARLY, 30))], r"label 'none' stands for training without perturbation"),
        ([once("a", 0, curves(EARLY, 30))], r"a once at epoch 0: the perturbation must act after epoch 1 or later"),
        ([every("a", -3, curves(HEAVY))], r"a every -3: the perturbation must act after epoch 1 or later"),
        (
            [once("a", 30, dataclasses.replace(curves(EARLY, 30), metric="loss"))],
            r"a once at epoch 30: its metric is 'loss', that of the unperturbed runs is 'accuracy'",
        ),
        ([every("a", 5, curves(HEAVY, direction="down"))], r"a every 5: its direction is 'down', that of"),
        ([every("a", 5, curves(HEAVY, unit="391 steps"))], r"a every 5: its unit is '391 steps', that of"),
        (
            [every("a", 5, curves(HEAVY)), every("a", 5, curves(HEAVY))],
            r"a every 5 is given twice: put its",
        ),
        ([once("a", 5, curves(EARLY)), once("a", 5, curves(LATE))], r"a once at epoch 5 is given twice"),
    ],
)
def test_perturbed_runs_that_do_not_fit_are_refused(given: list[PerturbedCurves], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        advised(HEAVY, *given)


def test_one_label_once_and_every_at_one_epoch_is_no_repetition() -> None:
    advice = advised(HEAVY, once("a", 5, curves(EARLY, 30)), every("a", 5, curves(shuffled_every(5))))
    assert evidence_of(advice, "a").branch_epoch == 5


# ---- Parents ---------------------------------------------------------------------------------------------------------

SURVIVORS = tuple(str(i) for i in np.flatnonzero(HEAVY > 30))  # 20 of them


def children(copies: int, parents: tuple[str, ...] | None) -> PerturbedCurves:
    """Residuals of the survivors of epoch 30, each written down several times."""
    times = np.repeat(np.resize([2, 10, 20, 28], len(SURVIVORS)), copies)
    return once("a", 30, curves(times, 30, parents=parents and tuple(np.repeat(parents, copies).tolist())))


def error_of(advice: Advice) -> tuple[float, int]:
    prediction = next(p for p in evidence_of(advice, "a").predictions["renewal"] if p.interval == 20)
    return prediction.restricted_mean.standard_error, prediction.restricted_mean.n


def test_copies_of_children_are_no_new_information() -> None:
    alone, n = error_of(advised(HEAVY, children(1, SURVIVORS)))
    copied, families = error_of(advised(HEAVY, children(9, SURVIVORS)))
    assert copied == pytest.approx(alone, rel=1e-9)
    assert n == families == 20
    strangers, many = error_of(advised(HEAVY, children(9, None)))
    assert strangers < 0.95 * alone
    assert many == 100
    # Parents that are somewhere else are as good as none.
    elsewhere, _ = error_of(advised(HEAVY, children(9, tuple(f"other {i}" for i in range(20)))))
    assert elsewhere == strangers


def test_children_go_where_their_parents_go_in_the_bootstrap() -> None:
    def interval(parents: tuple[str, ...] | None) -> tuple[float, float]:
        advice = advised(HEAVY, children(5, parents), replicates=2000)
        prediction = next(p for p in evidence_of(advice, "a").predictions["renewal"] if p.interval == 20)
        return prediction.restricted_mean.interval()

    together, apart = interval(SURVIVORS), interval(None)
    assert together[1] - together[0] > 1.03 * (apart[1] - apart[0])


def test_parents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a once at epoch 30: its parents x are not among the unperturbed runs, but"):
        advised(HEAVY, children(1, ("x", *SURVIVORS[1:])))
    with pytest.raises(ValueError, match=r"a once at epoch 30: its parent 0 had reached the target by then, or was"):
        advised(HEAVY, children(1, ("0", *SURVIVORS[1:])))
    # One that was stopped at the branch epoch itself is known to have survived it.
    stopped = curves(HEAVY)
    values = stopped.values.copy()
    values[int(SURVIVORS[0]), 30:] = np.nan
    at_branch = dataclasses.replace(stopped, values=values)
    assert advise(at_branch, target=TARGET, perturbed=[children(1, SURVIVORS)], replicates=50).choices
    values[int(SURVIVORS[0]), 29:] = np.nan
    before = dataclasses.replace(stopped, values=values)
    with pytest.raises(ValueError, match=r"its parent 80 had reached the target by then, or was not followed that"):
        advise(before, target=TARGET, perturbed=[children(1, SURVIVORS)], replicates=50)


# ---- Perturbed runs --------------------------------------------------------------------------------------------------


def test_a_helpful_perturbation_wins_and_its_predictions_are_held_against_measurements() -> None:
    given = [once("shuffle", 30, curves(EARLY, 30, seed=1))]
    given += [every("shuffle", p, curves(shuffled_every(p), seed=p)) for p in (5, 15)]
    advice = advised(HEAVY, *given)
    e = evidence_of(advice, "shuffle")
    assert (e.branch_epoch, [epoch for epoch, _ in e.once]) == (30, [5, 15, 30])
    assert [m.interval for m in e.measured] == [5, 15]
    assert set(e.predictions) == {"rare", "renewal"}
    compared = {(c.prediction.predictor, c.prediction.interval): c for c in e.compared}
    assert set(compared) == {(predictor, p) for predictor in ("rare", "renewal") for p in (5, 15)}
    for (_, p), c in compared.items():
        exact = np.minimum(HEAVY, p).mean() + (p < HEAVY).mean() * 3
        assert c.prediction.restricted_mean.value == pytest.approx(exact, rel=1e-9)
        assert c.comparison.measured.value == pytest.approx(shuffled_every(p).mean(), rel=1e-9)
        assert c.relative_difference == pytest.approx(exact / shuffled_every(p).mean() - 1, rel=1e-6)
        assert abs(c.z) < 3
    best = advice.best
    assert best is not None
    assert best.label == "shuffle"
    assert (best.interval, best.source) in [
        (5, "measured"),
        (5, "renewal"),
        (4, "renewal"),
        (6, "renewal"),
        (3, "renewal"),
    ]
    assert best.helps > 0.99


def test_measurements_with_the_runs_that_predict_are_no_test() -> None:
    advice = advised(HEAVY, every("shuffle", 15, curves(shuffled_every(15))))
    e = evidence_of(advice, "shuffle")
    assert e.branch_epoch == 15
    assert {c.comparison.verdict for c in e.compared} == {"outside regime"}
    assert all("measured with the very runs that the prediction rests on" in c.comparison.reasons for c in e.compared)
    (choice,) = [c for c in advice.choices if c.label == "shuffle"]
    assert choice.interval <= 15


def test_measured_restarts_stand_beside_the_exact_prediction() -> None:
    rng = np.random.default_rng(0)
    times, left = np.zeros(100, dtype=int), np.ones(100, dtype=bool)
    for cycle in range(15):
        drawn = rng.choice(HEAVY, 100)
        times[left] = 4 * cycle + drawn[left]
        left &= drawn > 4
    advice = advised(HEAVY, every("full_reset", 4, curves(np.where(left, 100, times))))
    assert [e.label for e in advice.evidence] == ["full_reset"]
    (compared,) = evidence_of(advice, "full_reset").compared
    assert compared.comparison.verdict == "agrees"
    assert compared.comparison.margin == 0
    assert [c.label for c in advice.choices].count("full_reset") == 1


def test_long_intervals_and_short_measurements_are_not_ranked() -> None:
    half = H // 2
    late = advised(HEAVY, every("a", half + 1, curves(np.minimum(shuffled_every(half + 1), H))))
    choice = late.choice("a")
    assert choice is None or choice.interval <= half
    unfinished = np.where(HEAVY > 10, 100, HEAVY)  # followed for 40 epochs only, a fifth of them in vain
    short = advised(HEAVY, every("a", 5, curves(unfinished, 40)))
    measured = evidence_of(short, "a").measured[0]
    assert measured.restricted_mean(H) is None
    assert measured.restricted_mean(40) is not None
    assert all(c.source != "measured" for c in short.choices)


def test_branch_epochs_that_agree_waive_the_hazard_and_others_refuse() -> None:
    # The hazard of the unperturbed runs is anything but constant.
    drifting = np.concatenate([np.repeat(np.arange(1, 16), 12), np.repeat([35, 36, 37], 10), np.full(40, 100)])
    agreeing = [once("a", p, curves(EARLY, 30, seed=p)) for p in (15, 25)]
    differing = [once("a", 15, curves(LATE, 30)), once("a", 25, curves(EARLY, 30, seed=1))]

    def reasons(*given: PerturbedCurves) -> dict[int, tuple[str, ...]]:
        predictions = evidence_of(advised(drifting, *given, tolerance=5.0), "a").predictions["renewal"]
        return {p.interval: p.reasons for p in predictions}

    alone = reasons(agreeing[1])
    assert any("the hazard is not constant" in reason for reason in alone[10])
    assert not any("hazard" in reason for reason in alone[25])  # at P = P* nothing is transferred
    together = reasons(*agreeing)
    assert together[10] == ()
    refused = reasons(*differing)
    assert any("the epoch of the one perturbation matters" in reason for reason in refused[10])


def test_faster_but_unproven_predictions_are_offered_for_measurement() -> None:
    drifting = np.concatenate([np.repeat(np.arange(1, 16), 12), np.repeat([35, 36, 37], 10), np.full(40, 100)])
    advice = advised(drifting, once("a", 25, curves(EARLY, 30, seed=1)))
    ((label, prediction),) = advice.unproven
    assert label == "a"
    assert not prediction.valid
    assert prediction.restricted_mean.value < advice.choices[0].restricted_mean.interval()[0]
    assert f"Promising but unproven: a every {prediction.interval} epochs" in str(advice)
    # Measured, it is not a promise any more.
    measured = [every("a", p, curves(np.minimum(drifting, p + 3))) for p in range(1, 26)]
    assert not advised(drifting, once("a", 25, curves(EARLY, 30, seed=1)), *measured).unproven
    # And one that is no faster is none.
    assert not advised(drifting, once("a", 25, curves(np.full(30, 100), 30))).unproven


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


def test_design_needs_runs_perturbed_once() -> None:
    assert advised(HEAVY).design is None
    design = advised(HEAVY, children(1, SURVIVORS), precision=0.1).design
    assert design is not None
    assert design.parents > 0
    assert [label for label, _ in design.children] == ["a"]
    text = str(advised(HEAVY, children(1, SURVIVORS), precision=0.1))
    assert "Cheapest study:" in text


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
