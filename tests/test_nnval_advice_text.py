"""Advice in words and tables, on studies whose answer is known."""

import dataclasses
import html
import math
import re

import numpy as np
import pytest

from nnval.advice import Advice, advise, every, once
from nnval.advice_tables import arrays, interval_table, percent, ranking_table, target_rows, target_table, with_interval
from nnval.advice_text import aligned, as_text, recommendation, sections, survival_sentence, wrapped
from nnval.measure.curves import Curves
from nnval.tables import Table
from nnval.target_scan import scan_targets
from theory.estimate import Estimate

WORKED = np.repeat([2, 3, 4, 5, 6, 7, 8, 9, 10, 60], [5, 30, 20, 10, 5, 5, 2, 2, 1, 20])
SHUFFLED = np.repeat([2, 3, 4], 10)


def curves(times: np.ndarray, horizon: int = 60, **options) -> Curves:
    """Runs that meet 0.9 at these epochs."""
    below = np.random.default_rng(0).uniform(0.1, 0.8, (len(times), horizon))
    values = np.where(np.arange(1, horizon + 1) >= times[:, None], 0.9, below)
    return Curves("accuracy", tuple(map(str, range(len(times)))), values, **options)


def advised(times: np.ndarray = WORKED, **options) -> Advice:
    return advise(curves(times), **{"target": 0.9, "replicates": 200} | options)


def shuffled_every(interval: int) -> np.ndarray:
    residuals = np.random.default_rng(interval).choice(SHUFFLED, len(WORKED))
    return np.where(interval < WORKED, interval + residuals, WORKED)


@pytest.fixture(scope="module")
def advice() -> Advice:
    perturbed = [once("shuffle", 30, curves(SHUFFLED, 30))]
    perturbed += [every("shuffle", p, curves(shuffled_every(p))) for p in (5, 20)]
    return advised(perturbed=perturbed)


# ---- Words ----------------------------------------------------------------------------------------------------------


def test_survival_sentence() -> None:
    assert survival_sentence(advised()) == "100 runs, accuracy >= 0.9: all get there by epoch 60"
    late = np.where(WORKED == 60, 100, WORKED)
    assert re.fullmatch(
        r"100 runs, accuracy >= 0\.9: 20\.0% are unfinished at epoch 60 \(12\.\d% to 28\.\d%\)",
        survival_sentence(advised(late)),
    )
    cut = curves(late)
    values = cut.values.copy()
    values[-5:, 30:] = np.nan
    stopped = Curves("loss", cut.runs, 1 - values, "down", unit="391 steps")
    sentence = survival_sentence(advise(stopped, target=0.1, replicates=100))
    assert sentence.startswith("100 runs, loss <= 0.1: ")
    assert sentence.endswith(", 5 stopped earlier; an epoch stands for 391 steps")


def test_recommendation_and_its_reason() -> None:
    what, why, *_ = recommendation(advised())
    assert what.startswith("Restart from scratch every 5 epochs: 6.")
    assert why.startswith("Why: 35% of the runs are unfinished at epoch 5; left alone those need 32.4 epochs more")
    # 20 of 35 stay until 60: (20 * 55 + the rest) / 35
    rest = sum(t - 5 for t in WORKED if 5 < t < 60)
    assert (20 * 55 + rest) / 35 == pytest.approx(32.4, abs=0.05)


def test_no_recommendation_without_a_reason_to_perturb() -> None:
    steady = recommendation(advised(np.arange(10, 110)))  # the later the hazard is the higher
    assert re.match(
        r"Don't perturb: nothing that was examined is faster\. full_reset every \d+ epochs comes closest, and helps "
        r"with probability (<1|\d)%\.",
        steady[0],
    )
    assert steady[1].startswith("Why: ")
    early = recommendation(advised(np.tile(np.arange(10, 16), 10)))
    assert early == ["Don't perturb: all runs are there by epoch 15, and no perturbation before that is faster."]
    assert recommendation(advised(target=0.05))[0].startswith("Don't perturb: all runs are there by epoch 1, ")
    (nobody,) = recommendation(advised(target=0.95))
    assert "no run reaches 0.95 by epoch 60. With 95 % confidence fewer than 3.0% of such runs do." in nobody


def test_doubt_is_said() -> None:
    few = recommendation(advised(np.array([3, 3, 4, 12, 14])))
    assert few[-1] == "These are few runs (5): take the intervals as rough."
    assert few[0].startswith(("No clear difference", "Don't perturb"))


def test_rivals_are_named(advice: Advice) -> None:
    best, second, *others = advice.choices
    close = dataclasses.replace(
        advice, choices=(dataclasses.replace(best, best=0.6), dataclasses.replace(second, best=0.4), *others)
    )
    sentence = recommendation(close)[0]
    assert f"the best may also be {second.label} every {second.interval} (40%)" in sentence
    assert "the best may also be" not in recommendation(advice)[0]
    open_question = dataclasses.replace(
        advice, choices=(dataclasses.replace(best, best=0.4), dataclasses.replace(second, best=0.6), *others)
    )
    sentence = recommendation(open_question)[0]  # the smaller estimate comes first, and is no recommendation
    assert sentence.startswith("Not decided which is best: ")
    assert f"(40%) or {second.label} every {second.interval} (60%). The first takes " in sentence


def test_unproven_predictions_with_one_reason_share_a_sentence(advice: Advice) -> None:
    p = next(p for p in advice.evidence[1].predictions["rare"] if p.interval == 10)
    p = dataclasses.replace(p, reasons=("it is new",))
    together = dataclasses.replace(advice, unproven=(("a", p), ("b", p)))
    (sentence,) = [s for s in recommendation(together) if s.startswith("Promising")]
    words = r"a every 10 epochs takes .* by Eq\. \(9\) and b every 10 .*, outside its regime: it is new\. To find out,"
    assert re.search(words, sentence)
    apart = dataclasses.replace(advice, unproven=(("a", p), ("b", dataclasses.replace(p, reasons=("it is old",)))))
    assert sum(s.startswith("Promising") for s in recommendation(apart)) == 2


def test_text_has_all_sections_and_can_be_wrapped(advice: Advice) -> None:
    text = str(advice)
    headings = re.findall(r"^([A-Z][a-z ]+):$", text, re.MULTILINE)
    assert headings == [heading for heading, _ in sections(advice)]
    assert headings[0] == "Advice"
    narrow = as_text(advice, width=70, assumptions=False)
    assert "Read as" not in narrow
    prose = narrow.split("\nAdvice:\n")[1]
    assert max(map(len, prose.splitlines())) <= 70
    assert " ".join(recommendation(advice)[0].split()) in " ".join(narrow.split())


def test_wrapping_keeps_every_word() -> None:
    sentence = "one two-three " * 20
    lines = wrapped(sentence, 30, "  ")
    assert " ".join(" ".join(lines).split()) == sentence.strip()
    assert all(len(line) <= 30 for line in lines)
    assert wrapped("a" * 50, 20) == ["a" * 50]  # words are not broken


def test_columns_of_numbers_are_flush_right() -> None:
    lines = aligned(
        Table(("what", "share", "z", "time"), (("a", "<1%", "+12.0", "5 (4 to 6)"), ("b", "99%", "-", "1")))
    )
    assert lines == [
        "what  share      z  time",
        "----  -----  -----  ----------",
        "a       <1%  +12.0  5 (4 to 6)",
        "b       99%      -  1",
    ]
    assert aligned(Table(("a", "b"), ())) == ["a  b", "-  -"]


def test_html_is_escaped(advice: Advice) -> None:
    odd = dataclasses.replace(
        advice,
        curves=dataclasses.replace(advice.curves, metric="<script>alert(1)</script>"),
        choices=tuple(dataclasses.replace(choice, label=f"<b>{choice.label}") for choice in advice.choices),
        needs=("a < b & c",),
        assumptions=("<i>",),
    )
    page = odd._repr_html_()
    for tag in ("<script", "<i>", "a < b"):
        assert tag not in page
    assert "&lt;script&gt;" in page
    assert page.count("<b>") == page.count("</b>") == len(sections(odd))
    assert html.unescape(page).count("<b>shuffle") >= 1


# ---- Tables ---------------------------------------------------------------------------------------------------------


def test_ranking_is_that_of_the_advice(advice: Advice) -> None:
    table = ranking_table(advice)
    assert [row[0] for row in table.rows] == [choice.label for choice in advice.choices]
    none = next(row for row in table.rows if row[0] == "none")
    assert none[1:] == ("-", with_interval(advice.choices[-1].restricted_mean), "1", "-", none[5], "unperturbed")


def test_predictions_beside_measurements(advice: Advice) -> None:
    table, notes = interval_table(advice, [])
    assert [(row[0], row[1]) for row in table.rows] == [("shuffle", 5), ("shuffle", 20)]
    shuffle = advice.evidence[1]
    for row in table.rows:
        compared = next(c for c in shuffle.compared if c.prediction.interval == row[1])
        assert row[2] == "Eq. (9), renewal"  # equal numbers share a row
        assert float(row[4].split()[0]) == pytest.approx(shuffled_every(row[1]).mean(), abs=0.06)
        assert float(row[6]) == pytest.approx(compared.z, abs=0.051)
        marks = re.findall(r"\d+", row[7])
        assert all(f"[{mark}]" in "".join(notes) for mark in marks)
    more, _ = interval_table(advice, [1, 5, 40])
    assert [(row[0], row[1], row[2]) for row in more.rows] == [
        ("full_reset", 1, "Eq. (5), exact"),
        ("full_reset", 5, "Eq. (5), exact"),
        ("full_reset", 40, "Eq. (5), exact"),
        ("shuffle", 1, "Eq. (9)"),
        ("shuffle", 1, "renewal"),
        ("shuffle", 5, "Eq. (9), renewal"),
        ("shuffle", 20, "Eq. (9), renewal"),
    ]


def test_notes_do_not_repeat_numbers_of_single_intervals(advice: Advice) -> None:
    _, notes = interval_table(advice, [1, 2, 3])
    assert len(set(notes)) == len(notes)
    assert sum("residuals exceed P" in note for note in notes) == 1
    assert not any(re.search(r"P=\d", note) for note in notes)
    few = [note for note in notes if "runs finish within P" in note]
    assert sorted(note.split("] ")[1] for note in few) == [
        "fewer than 10 perturbed runs finish within P: too few for its standard error",
        "fewer than 10 runs finish within P: too few for its standard error",
    ]


def test_measurements_alone_have_their_row() -> None:
    done, late = curves(np.tile([3, 4], 20), 55), curves(np.tile([3, 4, 99], 20), 55)
    table, notes = interval_table(advised(perturbed=[every("done", 50, done), every("late", 50, late)]), [])
    assert len(notes) == 1
    assert notes[0].startswith("(H=...): runs behind this row were not followed long enough to know E[min(T_P,120)]")
    mean, error = 3.5, 0.5 / np.sqrt(40)
    assert table.rows[0] == ("done", 50, "-", "-", f"{mean:.3f} +- {error:.3f}", "-", "-", "n = 40")
    assert re.fullmatch(r"2\d\.\d \+- 3\.\d \(H=55\)", table.rows[1][4])
    assert table.rows[1][7] == "n = 60"


def test_arrays_hold_the_numbers(advice: Advice) -> None:
    tables = arrays(advice)
    assert list(tables) == ["survival", "predictions", "measured", "comparisons", "ranking", "quasi_steady_state"]
    ranking = [dict(zip(tables["ranking"].header, row, strict=True)) for row in tables["ranking"].rows]
    for row, choice in zip(ranking, advice.choices, strict=True):
        assert row["restricted_mean"] == choice.restricted_mean.value
        assert (row["low"], row["high"]) == choice.restricted_mean.interval()
    compared = [dict(zip(tables["comparisons"].header, row, strict=True)) for row in tables["comparisons"].rows]
    assert len(compared) == 4
    assert {row["verdict"] for row in compared} <= {"agrees", "disagrees", "outside regime"}
    assert len(tables["survival"].rows) == advice.survival.horizon + 1
    assert not any("nan" in tables[name].to_csv() for name in ("survival", "predictions", "measured", "ranking"))


def test_targets_in_a_table() -> None:
    scan = scan_targets(curves(WORKED), [0.5, 0.9, 0.95], replicates=100)
    rows = target_table(scan).rows
    assert [row[0] for row in rows] == ["0.5", "0.9", "0.95"]
    assert rows[1][1:5] == ("0%", "120", "full_reset", "5")
    assert rows[2][1:] == ("100%", "60", "nobody gets there", "-", "-", "-", "-")
    numbers = target_rows(scan)
    assert numbers.header[:3] == ("target", "protocol", "interval")
    assert [(row[0], row[1]) for row in numbers.rows if row[0] == 0.9] == [(0.9, "full_reset"), (0.9, "none")]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (30.5866, 1.057, "30.6 (28.5 to 32.7)"),
        (5.8271, 0.112, "5.83 (5.61 to 6.05)"),
        (77.0, 26.0, "77 (26 to 128)"),
        (2.0, 0.0, "2.0 (2.0 to 2.0)"),
        (math.inf, 0.0, "inf"),
    ],
)
def test_numbers_have_the_digits_that_their_error_leaves(value: float, error: float, text: str) -> None:
    interval = (value - 1.96 * error, value + 1.96 * error) if math.isfinite(value) else None
    assert with_interval(Estimate(value, error, 1000, interval)) == text


def test_probabilities_are_never_certain() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.006, 0.5, 0.994, 0.996, 1.0)] == [
        "<1%", "<1%", "1%", "50%", "99%", ">99%", ">99%"
    ]  # fmt: skip
