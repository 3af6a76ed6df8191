"""The figures and the HTML page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnval.study import Study


def _study_figures(study: Study) -> dict[str, tuple[bytes, str, str]]:
    """File name -> (PNG, caption, what it shows in words) of a study."""
    from figures import first_passage, perturbation
    from figures.style import png_bytes
    from nnval.study import measured_speed_up

    config, accuracy = study.config, study.unperturbed.curves["validation_accuracy"]
    horizon = config.training.epochs
    protocols = study.protocols
    fastest = {p.label: min(p.periodic, key=lambda r: r.survival.restricted_mean(horizon).value) for p in protocols}
    curves = {label: (r.interval, r.ensemble.curves["validation_accuracy"]) for label, r in fastest.items()}
    predictions = {p.label: p.predictions for p in protocols}
    means = {p.label: [(r.interval, r.survival.restricted_mean(horizon)) for r in p.periodic] for p in protocols}
    ratios = {p.label: [(r.interval, measured_speed_up(study, r)) for r in p.periodic] for p in protocols}
    residuals = {p.label: [(r.interval, r.residual_mean) for r in p.periodic if r.residual_mean] for p in protocols}
    once = {
        p.label: [(o.epoch, o.survival.restricted_mean(config.follow)) for o in p.once] for p in protocols if p.once
    }
    drawn = {
        "training_time": (
            perturbation.figure_training_time(
                study.survival.restricted_mean(horizon), predictions, means, horizon=horizon
            ),
            "Training time against the perturbation interval. Bands are 95 % bootstrap intervals; dashed stretches are "
            "outside the predictor's regime.",
            "predicted and measured training time for every perturbation interval",
        ),
        "speed_up": (
            perturbation.figure_speed_up(predictions, ratios, horizon=horizon),
            f"The same as a ratio of means restricted to {horizon} epochs.",
            "predicted and measured speed-up for every perturbation interval",
        ),
        "curves": (
            first_passage.figure_curves(accuracy, study.target, perturbed=curves),
            "Validation accuracy without perturbation, and with each at its best measured interval.",
            "accuracy against epochs",
        ),
        "survival": (
            first_passage.figure_survival(
                study.survival,
                residuals={p.label: [(o.epoch, o.survival) for o in p.once] for p in protocols},
                relaxation_epoch=study.relaxation_epoch,
                hazard_test=study.hazard_test,
            ),
            "The share of runs that have not reached the target, and of perturbed survivors that have not.",
            "survival against epochs",
        ),
        "residual_time": (
            perturbation.figure_residual_time(measured=residuals, once=once, horizon=horizon, followed=config.follow),
            "Time from the first perturbation to the target. Eq. (9) takes it to be the same for all P.",
            "residual training time against the perturbation interval",
        ),
    }
    if study.quasi_steady_state is not None:
        drawn["quasi_steady_state"] = (
            first_passage.figure_quasi_steady_state(
                accuracy,
                study.first_passages,
                study.quasi_steady_state,
                target=study.target,
                published_relaxation_epoch=study.published_relaxation_epoch,
            ),
            "Accuracy of the unfinished runs, and its distance from their late distribution.",
            "violins of accuracy and distance from the quasi-steady state",
        )
    return {name: (png_bytes(figure), caption, words) for name, (figure, caption, words) in drawn.items()}


def _typeset(text: str) -> str:
    """What a terminal can't be trusted with."""
    return text.replace("+-", "±").replace(">=", "≥")


def write_report(study: Study) -> None:
    """The figures as PNG files, and all of the study in one HTML page."""
    from figures.report import ReportFigure, ReportSection, ReportTable, render_report
    from nnval.engine.run_directory import ENVIRONMENT, read_json, write_whole
    from nnval.study_tables import comparison_table, conclusions, facts, measurement_table

    figures = {name: ReportFigure(*content) for name, content in _study_figures(study).items()}
    for name, figure in figures.items():
        write_whole(study.directory / f"{name}.png", figure.png)

    def cells(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
        return [[_typeset(str(cell)) for cell in row] for row in rows]

    table, notes = comparison_table(study)
    measured = measurement_table(study)
    horizon = study.config.training.epochs
    how = (
        f"Each row is one prediction and an independent measurement of E[min(T_P, {horizon})], in epochs. Errors of "
        "predictions include the sampling error of the survival curves. Eq. (9) and the renewal predictor are granted "
        "5 % of model error; z counts standard errors beyond that, and verdicts hold at 1 % for all rows together."
    )
    sections = [
        ReportSection(
            "Predicted and measured", [how], table=ReportTable(table.header, cells(table.rows), "verdict"), notes=notes
        ),
        ReportSection("Training time", figure=figures["training_time"]),
        ReportSection("Speed-up", figure=figures["speed_up"]),
        ReportSection(
            "Measured",
            [
                "Validation accuracy decides when a network is done; the test accuracy is that of other images, then "
                "(at the horizon for unperturbed networks)."
            ],
            table=ReportTable(measured.header, cells(measured.rows)),
        ),
        ReportSection("The ensembles", table=ReportTable(("what", "finding"), cells(facts(study)))),
        ReportSection("Curves", figure=figures["curves"]),
        ReportSection("Survival", figure=figures["survival"]),
    ]
    if "quasi_steady_state" in figures:
        sections.append(ReportSection("Quasi-steady state", figure=figures["quasi_steady_state"]))
    sections.append(ReportSection("Residual time", figure=figures["residual_time"]))
    environment = {"seed": study.config.training.seed, **read_json(study.directory / ENVIRONMENT)}
    lead, title = " ".join(_typeset(line) for line in conclusions(study)), "Training under perturbations"
    page = render_report(title=title, lead=lead, sections=sections, environment=environment)
    write_whole(study.directory / "report.html", page.encode())
