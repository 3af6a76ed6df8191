"""What the advisor makes of perturbed runs and of their parents, and which it refuses."""

import dataclasses

import numpy as np
import pytest

from nnval.advice import Advice, advise, every, once
from nnval.protocol_evidence import PerturbedCurves
from tests.advised_studies import EARLY, HEAVY, LATE, TARGET, H, advised, curves, evidence_of, shuffled_every

# ---- Refusals --------------------------------------------------------------------------------------------------------


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


def test_design_needs_runs_perturbed_once() -> None:
    assert advised(HEAVY).design is None
    design = advised(HEAVY, children(1, SURVIVORS), precision=0.1).design
    assert design is not None
    assert design.parents > 0
    assert [label for label, _ in design.children] == ["a"]
    text = str(advised(HEAVY, children(1, SURVIVORS), precision=0.1))
    assert "Cheapest study:" in text
