"""Advice in words: the same on the terminal, in a notebook and in the report."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from html import escape

from nnval.advice import Advice
from nnval.advice_tables import SOURCES, percent, ranking_table, with_interval
from nnval.protocol_evidence import FULL_RESET, UNPERTURBED
from nnval.tables import Table
from theory.predicted_time import Prediction
from theory.protocol_choice import ProtocolChoice
from theory.study_design import Design

FEW_RUNS = 20
"""Fewer unperturbed runs than this are pointed out: intervals from them are rough."""

SURE = 0.95
"""Probability of being best, or of helping, that is called sure."""

RANKING_NOTE = "Times at the best P allow for its choice; helps, best: probabilities of beating none, and all."
"""Below the ranking."""

_NUMBER = re.compile(r"-|[<>+-]?(\d+([.]\d+)?|inf)%?( \+- \d+([.]\d+)?)?")


def survival_sentence(advice: Advice) -> str:
    """Who gets there, and when.

    Args:
        advice: of the runs.

    Returns:
        One line.
    """
    curves, survival = advice.curves, advice.survival
    sign = ">=" if curves.direction == "up" else "<="
    line = f"{curves.n:,} runs, {curves.metric} {sign} {advice.target:g}: "
    low, high = (band[-1] for band in survival.band())
    unfinished = float(survival.values[-1])
    if unfinished == 0:
        line += f"all get there by epoch {survival.horizon}"
    else:
        line += f"{unfinished:.1%} are unfinished at epoch {survival.horizon} ({low:.1%} to {high:.1%})"
    censored = int((~advice.first_passages.observed & (advice.first_passages.times < survival.horizon)).sum())
    if censored:
        line += f", {censored:,} stopped earlier"
    return line if curves.unit == "epoch" else f"{line}; an epoch stands for {curves.unit}"


def diagnosis(advice: Advice) -> list[str]:
    """What the unperturbed runs are like: is there a quasi-steady state, and is the hazard constant?

    Args:
        advice: of the runs.

    Returns:
        Sentences.
    """
    steady = advice.stationarity
    if steady is None:
        return ["Quasi-steady state: too few runs are unfinished late to look for one."]
    lines = []
    if steady.relaxation_epoch is None:
        lines.append(
            f"Quasi-steady state: none found; unfinished runs keep changing up to epoch {steady.reference[1]}."
        )
    else:
        low, high = steady.relaxation_interval
        until = "never" if high is None else str(high)
        lines.append(
            f"Quasi-steady state: unfinished runs look alike from epoch {steady.relaxation_epoch} on "
            f"(95 %: {low} to {until}; distance below {steady.tolerance:g} standard deviations)."
        )
    if advice.hazard_test is not None:
        lines.append(f"{_capital(advice.hazard_test.describe())}.")
    return lines


def recommendation(advice: Advice) -> list[str]:
    """What to do, first, and why.

    Args:
        advice: with or without a ranking.

    Returns:
        Sentences.
    """
    if advice.best is None:
        return _nobody_there(advice)
    lines = [_what_to_do(advice, advice.best), *_why(advice, advice.best)]
    return lines + list(_unproven(advice.unproven))


def _nobody_there(advice: Advice) -> list[str]:
    n, horizon = advice.survival.n, advice.survival.horizon
    share = 1 - 0.05 ** (1 / n)
    return [
        f"Nothing can be said about perturbations: no run reaches {advice.target:g} by epoch {horizon}. With 95 % "
        f"confidence fewer than {share:.1%} of such runs do. Choose a target that some runs reach, or train longer."
    ]


def _what_to_do(advice: Advice, best: ProtocolChoice) -> str:
    if best.label == UNPERTURBED:
        return _not(advice)
    what = f"{_verb(best.label)} every {best.interval} epochs"
    gain = (
        f"{with_interval(best.restricted_mean)} epochs on average, {with_interval(best.speed_up)} times as fast as "
        "without"
    )
    rivals = [c for c in advice.choices if c is not best and c.best > 1 - SURE]
    if best.helps < SURE:
        return (
            f"No clear difference: to {what} helps with probability {percent(best.helps)}. It takes {gain}; more runs "
            "will tell."
        )
    if rivals:
        others = " or ".join(f"{c.label} every {c.interval} ({percent(c.best)})" for c in rivals)
        if max(c.best for c in rivals) > best.best:
            return f"Not decided which is best: {what} ({percent(best.best)}) or {others}. The first takes {gain}."
        return (
            f"{_capital(what)}: {gain}. That is the best with probability {percent(best.best)}; the best may also be "
            f"{others}."
        )
    return f"{_capital(what)}: {gain}."


def _not(advice: Advice) -> str:
    others = [c for c in advice.choices if c.label != UNPERTURBED]
    if not others:
        return "Don't perturb, as far as these data go: no perturbation is known at an interval inside its regime."
    if advice.survival.is_complete and all(advice.survival.at(c.interval) == 0 for c in others):
        return (
            f"Don't perturb: all runs are there by epoch {advice.survival.horizon}, and no perturbation before that is "
            "faster."
        )
    closest = max(others, key=lambda c: c.helps)
    return (
        f"Don't perturb: nothing that was examined is faster. {closest.label} every {closest.interval} epochs comes "
        f"closest, and helps with probability {percent(closest.helps)}."
    )


def _verb(label: str) -> str:
    return "restart from scratch" if label == FULL_RESET else f"apply {label}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _why(advice: Advice, best: ProtocolChoice) -> Iterable[str]:
    chosen = advice.choice(FULL_RESET) if best.label == UNPERTURBED else best
    psi = advice.survival.padded(advice.horizon)
    if chosen is not None and psi[chosen.interval] > 0:
        p = chosen.interval
        left_alone = float(psi[p : advice.horizon].sum() / psi[p])
        perturbed = float((chosen.restricted_mean.value - psi[:p].sum()) / psi[p])
        done = "restarted" if chosen.label == FULL_RESET else f"with {chosen.label}"
        yield (
            f"Why: {psi[p]:.0%} of the runs are unfinished at epoch {p}; left alone those need {left_alone:.1f} epochs "
            f"more on average (counted up to epoch {advice.horizon}), {done} {perturbed:.1f}."
        )
    if best.is_boundary:
        yield f"P = {best.interval} is the end of what is known of {best.label}: a better interval may lie beyond."
    if advice.survival.n < FEW_RUNS:
        yield f"These are few runs ({advice.survival.n}): take the intervals as rough."


def _unproven(found: Sequence[tuple[str, Prediction]]) -> Iterable[str]:
    """Predictions outside their regime; those with the same reasons in one sentence."""
    together: dict[tuple[str, ...], list[str]] = {}
    for label, p in found:
        words = f"{label} every {p.interval} epochs takes {with_interval(p.restricted_mean)} by {SOURCES[p.predictor]}"
        together.setdefault(p.reasons, []).append(words)
    for reasons, several in together.items():
        yield (
            f"Promising but unproven: {' and '.join(several)}, outside its regime: {'; '.join(reasons)}. To find out, "
            "train some runs that way, or perturb some once at another epoch."
        )


def design_sentences(design: Design, precision: float) -> list[str]:
    """The cheapest study and its limits.

    Args:
        design: of an ``Advice``.
        precision: relative standard error that it aims at.

    Returns:
        Sentences.
    """
    intervals = ", ".join(str(p) for p in sorted({point.interval for point in design.points}))
    aim = f"To know E[min(T_P,{design.horizon})] at P = {intervals} with a standard error of {100 * precision:.3g} %"
    return [f"{aim}: {design.describe()}", *(f"{limit.removesuffix('.')}." for limit in design.limits)]


def sections(advice: Advice, *, assumptions: bool = True) -> list[tuple[str, list[str]]]:
    """All that is said in words, under headings, in the order of reading.

    Args:
        advice: the advice.
        assumptions: whether to end with what was guessed in reading.

    Returns:
        (heading, sentences) pairs; none is empty.
    """
    design = design_sentences(advice.design, advice.precision) if advice.design else []
    parts = [
        ("Advice", recommendation(advice)),
        ("Unperturbed training", diagnosis(advice)),
        ("Not known", list(advice.needs)),
        ("Cheapest study", design),
        ("Read as", list(advice.assumptions) if assumptions else []),
    ]
    return [(heading, lines) for heading, lines in parts if lines]


def as_text(advice: Advice, *, width: int | None = None, assumptions: bool = True) -> str:
    """The advice on one screen.

    Args:
        advice: the advice.
        width: columns at which sentences are wrapped; tables are as wide as they are. None: not at all.
        assumptions: whether to end with what was guessed in reading.

    Returns:
        Lines.
    """
    lines = wrapped(survival_sentence(advice), width)
    if advice.choices:
        lines += ["", *aligned(ranking_table(advice)), *wrapped(RANKING_NOTE, width)]
    for heading, sentences in sections(advice, assumptions=assumptions):
        lines += ["", f"{heading}:"]
        for sentence in sentences:
            lines += wrapped(sentence, width, "  ")
    return "\n".join(lines)


def wrapped(sentence: str, width: int | None, indent: str = "") -> list[str]:
    """A sentence as lines; those after the first are indented further.

    Args:
        sentence: without line breaks.
        width: of the lines; None: one line.
        indent: of the first line.

    Returns:
        Lines.

    Example:
        >>> wrapped("Restart every 18 epochs.", 16, "  ")
        ['  Restart every', '    18 epochs.']
    """
    if width is None:
        return [indent + sentence]
    further = indent + "  " if indent else ""
    return textwrap.wrap(
        sentence,
        width,
        initial_indent=indent,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def aligned(table: Table) -> list[str]:
    """A table as lines: text flush left, numbers flush right.

    Args:
        table: of text.

    Returns:
        Header, rule and rows.

    Example:
        >>> aligned(Table(("what", "n"), (("a", "5"), ("b", "12"))))
        ['what   n', '----  --', 'a      5', 'b     12']
    """
    cells = [[str(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    right = [all(_NUMBER.fullmatch(row[i]) for row in cells[1:]) for i in range(len(table.header))]
    lines = [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def as_html(advice: Advice) -> str:
    """The advice for a notebook: escaped text in a table and paragraphs, no scripts, no styles of its own.

    Args:
        advice: the advice.

    Returns:
        HTML.
    """
    parts = [f"<p>{escape(survival_sentence(advice))}</p>"]
    if advice.choices:
        table = ranking_table(advice)
        head = "".join(f"<th>{escape(str(cell))}</th>" for cell in table.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in table.rows
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts.append(f"<p>{escape(RANKING_NOTE)}</p>")
    for heading, sentences in sections(advice):
        parts.append(f"<p><b>{escape(heading)}</b><br>{'<br>'.join(map(escape, sentences))}</p>")
    return "<div>" + "".join(parts) + "</div>"
