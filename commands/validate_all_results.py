"""All comparisons of ``jostle validate all`` as one family: its table, its files, and its page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.experiment_report import COMPARISONS, REPORT, is_written, typeset, write_files
from commands.files import write_csv
from commands.shared import estimate_json
from commands.validate_all_parts import NETWORKS, PHENOMENA, SIMULATION, Outcome, Part, Row

if TYPE_CHECKING:
    from theory.estimate import Comparison

SIGNIFICANCE = 0.01
"""Of all comparisons together."""

MOST_ROWS = 5
"""Of a group that disagree and are shown; all are in the files."""

NEAR = 0.2
"""Relative difference of what is measured from what was measured before, for a disagreement to be a known one."""

HEADER = ("phenomenon", "by", "quantity", "predicted", "measured", "z", "p", "verdict")

FOOTER = (
    "One row of each group is shown whatever it says, and those that disagree; all are in comparisons.csv.",
    "z: (predicted - measured) / standard error, beyond the model error that is granted; of a group the largest, and",
    "the smallest p. seen from: a deviation, beyond that model error, by which half of a group's rows would disagree.",
)

UNPREDICTED = "What networks did where theory predicts no number (by their own tests, not among the comparisons above):"


@dataclass(frozen=True)
class Group:
    """The comparisons of a phenomenon with one kind of measurement.

    Attributes:
        phenomenon: of ``PHENOMENA``.
        by: simulation or networks.
        comparisons: with the verdicts of the whole family.
        headlines: places of those that are shown whatever they say.
        known: for each, where its disagreement was found before, and why; "" if it agrees, or this is new.
        tested: comparisons of the whole family.
    """

    phenomenon: str
    by: str
    comparisons: tuple[Comparison, ...]
    headlines: tuple[int, ...]
    known: tuple[str, ...]
    tested: int

    @property
    def inside(self) -> list[Comparison]:
        """Those within their regime."""
        return [each for each in self.comparisons if not each.reasons]

    @property
    def disagreeing(self) -> list[int]:
        """Places of those that disagree, the most certain first."""
        found = [place for place, each in enumerate(self.comparisons) if each.verdict == "disagrees"]
        return sorted(found, key=lambda place: self.comparisons[place].p_value)

    @property
    def seen_from(self) -> float | None:
        """The relative deviation, beyond the model error granted, by which half of the rows would disagree.

        None if no row has an error and a prediction other than zero.
        """
        found = [each.seen_from(SIGNIFICANCE / self.tested) for each in self.inside]
        deviations = [deviation for deviation in found if deviation is not None]
        return statistics.median(deviations) if deviations else None


@dataclass(frozen=True)
class Findings:
    """What all parts found.

    Attributes:
        groups: with their comparisons, in the order of ``PHENOMENA``.
        remarks: (phenomenon, sentence).
        failed: (part, reason).
    """

    groups: tuple[Group, ...]
    remarks: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def inside(self) -> list[Comparison]:
        """The family that is tested together."""
        return [each for group in self.groups for each in group.inside]

    @property
    def agrees(self) -> bool:
        """Whether nothing disagrees."""
        return not any(group.disagreeing for group in self.groups)


def gathered(
    outcomes: Sequence[tuple[Part, Outcome]], phenomena: Sequence[str], failed: Sequence[tuple[str, str]]
) -> Findings:
    """One family of all comparisons.

    Args:
        outcomes: of the parts that were finished.
        phenomena: that were asked for; a part may tell about others.
        failed: (part, reason) of the others.

    Returns:
        With verdicts at 1 % for all of them together.
    """
    from theory.estimate import holm

    rows: list[tuple[Row, bool, str]] = []
    for part, outcome in outcomes:
        asked = [row for row in outcome.rows if row.phenomenon in phenomena]
        for phenomenon in dict.fromkeys(row.phenomenon for row in asked):
            of_one = [row for row in asked if row.phenomenon == phenomenon]
            headline = _headline([row.comparison for row in of_one], part.headline)
            rows += [(row, place == headline, _known(row.comparison, part)) for place, row in enumerate(of_one)]
    corrected = holm([row.comparison for row, _, _ in rows], SIGNIFICANCE)
    tested = sum(not each.reasons for each in corrected)
    groups = []
    for phenomenon in PHENOMENA:
        for by in (SIMULATION, NETWORKS):
            members = [k for k, (row, _, _) in enumerate(rows) if (row.phenomenon, row.by) == (phenomenon, by)]
            if members:
                headlines = tuple(place for place, k in enumerate(members) if rows[k][1])
                found = tuple(corrected[k] for k in members)
                known = tuple(rows[k][2] if corrected[k].verdict == "disagrees" else "" for k in members)
                groups.append(Group(phenomenon, by, found, headlines, known, tested))
    remarks = [each for _, outcome in outcomes for each in outcome.remarks if each[0] in phenomena]
    return Findings(tuple(groups), tuple(remarks), tuple(failed))


def _headline(comparisons: Sequence[Comparison], words: str) -> int | None:
    """The last one with these words that is inside its regime; without one, the last that is inside."""
    inside = [place for place, each in enumerate(comparisons) if not each.reasons]
    named = [place for place in inside if words in comparisons[place].quantity]
    return (named or inside or [None])[-1]


def _known(comparison: Comparison, part: Part) -> str:
    """The note of a disagreement that was found before, if this one is as large: another one is not known."""
    for words, before, why in part.known:
        if words in comparison.quantity and abs(comparison.measured.value / before - 1) <= NEAR:
            return why
    return ""


def _notes(findings: Findings) -> list[str]:
    """What is known of disagreements, each once; the table refers to their numbers."""
    return list(dict.fromkeys(why for group in findings.groups for why in group.known if why))


def numbered_notes(findings: Findings) -> list[str]:
    """What is known of disagreements, with the numbers by which the table refers to it.

    Args:
        findings: of all parts.

    Returns:
        Lines.
    """
    return [f"[{number}] {why}" for number, why in enumerate(_notes(findings), 1)]


def table_rows(findings: Findings) -> list[tuple[str, ...]]:
    """The table: a row for each group, and below it what is worth seeing.

    Args:
        findings: of all parts.

    Returns:
        Cells under ``HEADER``.
    """
    rows, numbered = [], _notes(findings)
    for group in findings.groups:
        inside, outside = group.inside, len(group.comparisons) - len(group.inside)
        text = f"{len(inside)} comparison{'s' * (len(inside) != 1)}"
        text += f", {outside} more outside their regime" if outside else ""
        name = (group.phenomenon, group.by, text)
        if not inside:
            rows.append((*name, "", "", "", "", "outside regime"))
            continue
        wrong = group.disagreeing
        verdict = f"{len(wrong)} of {len(inside)} disagree" if wrong else "all agree" if len(inside) > 1 else "agrees"
        seen = group.seen_from
        worst = max(inside, key=lambda each: abs(each.z))
        smallest = min(each.p_value for each in inside)
        seen_from = "" if seen is None else f"seen from {100 * seen:.2g} %"
        rows.append((*name, "", seen_from, f"{worst.z:+.1f}", _p(smallest), verdict))
        shown = list(dict.fromkeys((*group.headlines, *wrong[:MOST_ROWS])))
        for place in shown:
            why = group.known[place]
            mark = f" [{numbered.index(why) + 1}]" if why else ""
            *cells, verdict = _cells(group.comparisons[place])
            rows.append(("", "", *cells, verdict + mark))
        if len(wrong) > MOST_ROWS:
            rows.append(("", "", f"  and {len(wrong) - MOST_ROWS} more that disagree", "", "", "", "", ""))
    return rows


def _cells(each: Comparison) -> tuple[str, ...]:
    measured = f"{each.measured.value:.5g} +- {each.measured.standard_error:.2g}"
    return (
        f"  {each.quantity}",
        f"{each.predicted.value:.5g}",
        measured,
        f"{each.z:+.1f}",
        _p(each.p_value),
        each.verdict,
    )


def _p(p_value: float) -> str:
    return f"{p_value:.2f}" if p_value >= 0.01 else f"{p_value:.1g}"


def conclusions(findings: Findings) -> list[str]:
    """What came out, in plain words.

    Args:
        findings: of all parts.

    Returns:
        Sentences.
    """
    inside = findings.inside
    wrong = sum(len(group.disagreeing) for group in findings.groups)
    outside = sum(len(group.comparisons) for group in findings.groups) - len(inside)
    if not inside:
        return ["Nothing was held against theory."]
    lines = [
        f"{len(inside) - wrong} of {len(inside)} comparisons with theory agree, at {100 * SIGNIFICANCE:g} % for all of "
        f"them together (Holm)" + (f"; {outside} are outside their regime." if outside else ".")
    ]
    if wrong:
        where = ", ".join(f"{group.phenomenon} ({group.by})" for group in findings.groups if group.disagreeing)
        known = sum(bool(why) for group in findings.groups for why in group.known)
        lines.append(f"Theory and measurement disagree in {wrong}: {where}. {known} of these are known: see the notes.")
    return lines


def records(findings: Findings) -> dict[str, Any]:
    """All as plain JSON.

    Args:
        findings: of all parts.

    Returns:
        Every comparison, groups, sentences and failures.
    """
    comparisons = [
        {
            "phenomenon": group.phenomenon,
            "by": group.by,
            "quantity": each.quantity,
            "predicted": each.predicted.value,
            "predicted_standard_error": each.predicted.standard_error,
            "measured": estimate_json(each.measured),
            "z": each.z if math.isfinite(each.z) else None,
            "p_value": each.p_value,
            "verdict": each.verdict,
            "reasons": list(each.reasons),
            "known": why or None,
        }
        for group in findings.groups
        for each, why in zip(group.comparisons, group.known, strict=True)
    ]
    groups = [
        {
            "phenomenon": group.phenomenon,
            "by": group.by,
            "tested": len(group.inside),
            "disagree": len(group.disagreeing),
            "outside_regime": len(group.comparisons) - len(group.inside),
            "seen_from": group.seen_from,
        }
        for group in findings.groups
    ]
    return {
        "significance": SIGNIFICANCE,
        "tested": len(findings.inside),
        "agrees": findings.agrees,
        "groups": groups,
        "comparisons": comparisons,
        "not_predicted": [{"phenomenon": name, "finding": text} for name, text in findings.remarks],
        "failed": [{"part": name, "reason": reason} for name, reason in findings.failed],
    }


def write_all(directory: Path, findings: Findings, parts: Sequence[Part], environment: dict[str, Any]) -> None:
    """``comparisons.csv``, ``report.html`` and ``comparisons.json``, unless exactly these are there.

    Args:
        directory: RUN.
        findings: of all parts.
        parts: that were asked for.
        environment: of the page.
    """
    record = records(findings)
    if is_written(directory, record):
        return
    header = ("phenomenon", "by", "quantity", "predicted", "predicted_standard_error", "measured",
              "measured_standard_error", "n", "z", "p_value", "verdict", "reasons")  # fmt: skip
    rows: list[tuple[Any, ...]] = [header]
    for group in findings.groups:
        for c in group.comparisons:
            numbers = (c.predicted.value, c.predicted.standard_error, c.measured.value, c.measured.standard_error)
            last = (c.measured.n, c.z, c.p_value, c.verdict, "; ".join(c.reasons))
            rows.append((group.phenomenon, group.by, c.quantity, *numbers, *last))
    write_csv(directory / f"{Path(COMPARISONS).stem}.csv", rows)
    write_files(directory, {}, _page(directory, findings, parts, environment), record)


def _page(directory: Path, findings: Findings, parts: Sequence[Part], environment: dict[str, Any]) -> str:
    from figures.report import ReportSection, ReportTable, render_report

    rows = [[typeset(cell) for cell in row] for row in table_rows(findings)]
    table, known = ReportTable(HEADER, rows, "verdict"), numbered_notes(findings)
    sections = [ReportSection("Predicted and measured", [" ".join(FOOTER)], table=table, notes=known)]
    if findings.remarks:
        found = [(name, typeset(text)) for name, text in findings.remarks]
        sections.append(
            ReportSection("Not predicted", [UNPREDICTED], table=ReportTable(("phenomenon", "finding"), found))
        )
    if findings.failed:
        sections.append(ReportSection("Failed", table=ReportTable(("part", "reason"), findings.failed)))
    pages = [f"{part.name}/{REPORT}" for part in parts if part.by == NETWORKS]
    there = [page for page in pages if (directory / page).exists()]
    if there:
        sections.append(
            ReportSection("Reports of the networks", table=ReportTable(("page",), [[page] for page in there]))
        )
    page = render_report(
        title="Does this installation do what the theory says?",
        lead=" ".join(conclusions(findings)),
        sections=sections,
        environment=environment,
    )
    for name in there:  # names of ours: the page escapes everything that is not
        page = page.replace(f">{name}<", f'><a href="{name}">{name}</a><')
    return page
