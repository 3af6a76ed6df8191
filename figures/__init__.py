"""Figures and reports of finished results: they draw, and compute nothing but the summaries that are drawn.

Each function takes arrays or results, and gives a matplotlib ``Figure``; nothing is shown, and no state of pyplot is
used. What draws from a user's own numbers is here by name, with an example in its docstring, and imported when it is
used. ``figures.measured_...`` draw the experiments of `nnval`, ``figures.gallery_...`` the figures of the papers, and
`figures.catalogue` lists those.

Training times, and accuracies on the way:
    figure_training_time, figure_speed_up, figure_curves, figure_survival, figure_toy_speed_up,
    figure_restart_mean, RestartMeans
Weights under gradient noise:
    figure_variances, NoiseVariances, figure_autocovariance, NoiseAutocovariance, figure_effective_temperature,
    LagTemperatures, figure_widening_valley, SharpnessPath
Activation patterns:
    figure_flip_shares, SimulatedShares
Anything that was measured in pairs:
    figure_paired_differences, PairedDifferences
The style, and a page with text, tables and figures:
    styled, png_bytes, render_report, ReportSection, ReportTable, ReportFigure
"""

from typing import TYPE_CHECKING

from theory.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from figures.activation_temperature import SimulatedShares as SimulatedShares
    from figures.activation_temperature import figure_flip_shares as figure_flip_shares
    from figures.effective_temperature import LagTemperatures as LagTemperatures
    from figures.effective_temperature import figure_effective_temperature as figure_effective_temperature
    from figures.first_passage import figure_curves as figure_curves
    from figures.first_passage import figure_survival as figure_survival
    from figures.paired_differences import PairedDifferences as PairedDifferences
    from figures.paired_differences import figure_paired_differences as figure_paired_differences
    from figures.perturbation import figure_speed_up as figure_speed_up
    from figures.perturbation import figure_training_time as figure_training_time
    from figures.report import ReportFigure as ReportFigure
    from figures.report import ReportSection as ReportSection
    from figures.report import ReportTable as ReportTable
    from figures.report import render_report as render_report
    from figures.resetting import RestartMeans as RestartMeans
    from figures.resetting import figure_restart_mean as figure_restart_mean
    from figures.style import png_bytes as png_bytes
    from figures.style import styled as styled
    from figures.toy_perturbation import figure_toy_speed_up as figure_toy_speed_up
    from figures.weight_variance import NoiseAutocovariance as NoiseAutocovariance
    from figures.weight_variance import NoiseVariances as NoiseVariances
    from figures.weight_variance import figure_autocovariance as figure_autocovariance
    from figures.weight_variance import figure_variances as figure_variances
    from figures.widening_valley import SharpnessPath as SharpnessPath
    from figures.widening_valley import figure_widening_valley as figure_widening_valley

_SUBMODULES = {
    "figure_training_time": "perturbation",
    "figure_speed_up": "perturbation",
    "figure_curves": "first_passage",
    "figure_survival": "first_passage",
    "figure_toy_speed_up": "toy_perturbation",
    "figure_restart_mean": "resetting",
    "RestartMeans": "resetting",
    "figure_variances": "weight_variance",
    "NoiseVariances": "weight_variance",
    "figure_autocovariance": "weight_variance",
    "NoiseAutocovariance": "weight_variance",
    "figure_effective_temperature": "effective_temperature",
    "LagTemperatures": "effective_temperature",
    "figure_widening_valley": "widening_valley",
    "SharpnessPath": "widening_valley",
    "figure_flip_shares": "activation_temperature",
    "SimulatedShares": "activation_temperature",
    "figure_paired_differences": "paired_differences",
    "PairedDifferences": "paired_differences",
    "styled": "style",
    "png_bytes": "style",
    "render_report": "report",
    "ReportSection": "report",
    "ReportTable": "report",
    "ReportFigure": "report",
}

if not TYPE_CHECKING:
    __all__ = list(_SUBMODULES)
    __getattr__, __dir__ = lazy_exports(__name__, _SUBMODULES)
