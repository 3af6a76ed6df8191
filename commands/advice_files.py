"""``--out`` of advice from curves: numbers as CSV files, figures, and an HTML page with all of it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.experiment_report import report_figures, report_table, typeset
from commands.files import prepared_directory, write_file

if TYPE_CHECKING:
    from figures.report import ReportFigure, ReportSection
    from nnval.advice import Advice
    from nnval.tables import Table
    from nnval.target_scan import TargetScan

INTERVALS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
"""P in the table of the report, unless others are asked for."""


def write_advice(out: Path, advice: Advice, intervals: Sequence[int]) -> None:
    """``arrays/*.csv``, the figures and, when these are there, ``report.html``.

    Args:
        out: directory, which is made if it isn't there.
        advice: the advice.
        intervals: P of the report's table; none: round ones.

    Raises:
        OSError: if a file cannot be written.
    """
    from nnval.advice_tables import arrays

    drawn = _figures(advice)
    page = _report(advice, drawn, intervals)
    _write(out, arrays(advice), drawn, page)


def write_scan(out: Path, scan: TargetScan) -> None:
    """``arrays/targets.csv``, ``targets.png`` and ``report.html``.

    Args:
        out: directory, which is made if it isn't there.
        scan: of targets.

    Raises:
        OSError: if a file cannot be written.
    """
    from figures.report import ReportSection, render_report
    from nnval.advice_tables import target_rows, target_table

    drawn, first = _scan_figure(scan), scan.advice[0]
    assumptions = list(dict.fromkeys(text for advice in scan.advice for text in advice.assumptions))
    sections = [
        ReportSection("The best protocol at each target", figure=drawn.get("targets")),
        ReportSection("In numbers", table=report_table(target_table(scan))),
        *([ReportSection("Read as", assumptions)] if assumptions else []),
    ]
    lead = f"{first.curves.n:,} runs, {first.curves.metric}: what is fastest to a low target need not be to a high one."
    page = render_report(
        title="Training to several targets", lead=lead, sections=sections, environment=_environment(first)
    )
    _write(out, {"targets": target_rows(scan)}, drawn, page)


def _write(out: Path, tables: Mapping[str, Table], drawn: Mapping[str, ReportFigure], page: str) -> None:
    """Everything has been made by now: what can go wrong is writing."""
    prepared_directory(out / "arrays")
    for name, table in tables.items():
        write_file(out / "arrays" / f"{name}.csv", table.to_csv().encode())
    for name, figure in drawn.items():
        write_file(out / f"{name}.png", figure.png)
    write_file(out / "report.html", page.encode())


def _environment(advice: Advice) -> dict[str, object]:
    import numpy
    import scipy

    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__}
    return {"seed": advice.seed, "horizon": advice.horizon, **versions}


# ---- Figures --------------------------------------------------------------------------------------------------------


def _figures(advice: Advice) -> dict[str, ReportFigure]:
    from figures import advice as draw
    from nnval.protocol_evidence import FULL_RESET

    curves, horizon = advice.curves, advice.horizon
    measured = {
        e.label: [(m.interval, mean) for m in e.measured if (mean := m.restricted_mean(horizon)) is not None]
        for e in advice.evidence
    }
    drawn: dict[str, tuple[Any, str, str]] = {}
    if advice.choices:
        drawn["ranking"] = (
            draw.figure_ranking(advice.choices, labels=list(measured), horizon=horizon),
            "Each protocol at its best interval P. The intervals of its time allow for that choice; percentages are "
            "probabilities of being the fastest of these.",
            "mean training time of each protocol with its 95 % interval",
        )
        drawn["training_time"] = (
            draw.figure_times(
                advice.survival.restricted_mean(horizon),
                {e.label: e.predictions for e in advice.evidence},
                measured,
                horizon=horizon,
            ),
            "Training time against the perturbation interval. Bands are 95 % bootstrap intervals; dashed stretches are "
            "outside the predictor's regime.",
            "predicted and measured training time for every perturbation interval",
        )
    restart = advice.choice(FULL_RESET)
    drawn["survival"] = (
        draw.figure_who_is_left(
            advice.survival,
            advice.first_passages,
            restart=restart if restart is not None and restart.helps > 0.5 else None,
            residuals={e.label: sorted(e.once, key=lambda entry: entry[0] == e.branch_epoch) for e in advice.evidence},
        ),
        "The share of runs that have not reached the target, and of perturbed survivors that have not.",
        "survival against epochs",
    )
    if advice.stationarity is not None:
        drawn["quasi_steady_state"] = (
            draw.figure_settling(
                curves.values,
                advice.first_passages,
                advice.stationarity,
                metric=curves.metric,
                target=advice.target,
            ),
            f"{curves.metric} of the unfinished runs, and its distance from their late distribution.",
            "violins of the metric and distance from the quasi-steady state",
        )
    return report_figures(drawn)


def _scan_figure(scan: TargetScan) -> dict[str, ReportFigure]:
    from figures.advice import figure_targets
    from nnval.protocol_evidence import UNPERTURBED

    first = scan.advice[0]
    labels = list(dict.fromkeys(e.label for advice in scan.advice for e in advice.evidence))
    best = {
        label: [(advice.target, choice) for advice in scan.advice if (choice := advice.choice(label)) is not None]
        for label in (*labels, UNPERTURBED)
    }
    if not any(best.values()):
        return {}
    figure = figure_targets(
        {label: points for label, points in best.items() if points},
        labels=labels,
        metric=first.curves.metric,
        horizons=[advice.horizon for advice in scan.advice],
        direction=first.curves.direction,
    )
    caption = "Training time of each protocol at its best interval, and the interval of the fastest one."
    return report_figures({"targets": (figure, caption, "training time of each protocol against the target")})


# ---- Report ---------------------------------------------------------------------------------------------------------


def _report(advice: Advice, drawn: Mapping[str, ReportFigure], intervals: Sequence[int]) -> str:
    from figures.report import ReportSection, render_report
    from nnval.advice_tables import interval_table, ranking_table
    from nnval.advice_text import RANKING_NOTE, recommendation, sections, survival_sentence

    words = {heading: [typeset(sentence) for sentence in several] for heading, several in sections(advice)}
    lead, *reasons = map(typeset, recommendation(advice))
    table, notes = interval_table(advice, intervals or INTERVALS)
    how = (
        f"E[min(T_P, {advice.horizon})] in epochs; ± is one standard error. z counts those of the difference. Verdicts "
        "grant Eq. (9) and the renewal predictor 5 % of model error, and hold at 1 % for all rows together."
    )
    parts = [
        ReportSection(
            "Protocols",
            [typeset(survival_sentence(advice))],
            figure=drawn.get("ranking"),
            table=report_table(ranking_table(advice)) if advice.choices else None,
            notes=[RANKING_NOTE] if advice.choices else [],
        ),
        *_if(reasons, ReportSection("Reasons", reasons)),
        *_if("training_time" in drawn, ReportSection("Training time", figure=drawn.get("training_time"))),
        *_if(table.rows, ReportSection("Predicted and measured", [how], None, report_table(table, "validity"), notes)),
        ReportSection("Survival", figure=drawn["survival"]),
        ReportSection("Unperturbed training", words["Unperturbed training"], drawn.get("quasi_steady_state")),
        *(
            ReportSection(heading, words[heading])
            for heading in ("Not known", "Cheapest study", "Read as")
            if heading in words
        ),
    ]
    return render_report(
        title="Advice from training curves", lead=lead, sections=parts, environment=_environment(advice)
    )


def _if(there: object, section: ReportSection) -> Iterable[ReportSection]:
    return [section] if there else []
