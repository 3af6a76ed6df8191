"""Training with a perturbation every P epochs: predicted, and measured.

Restricted means are drawn, E[min(T_P, H)], because they exist although some runs never reach the target. Predictions
for a shorter horizon than the measurements' are another quantity; they are left out and the figure says so. Outside its
regime a prediction is dashed and pale. Protocols keep their colour by their order in the mapping.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.style import (
    GREY,
    INK,
    Entries,
    colours_of,
    epoch_axis,
    first_column,
    last_row,
    legend_below,
    panels,
    stretches,
    styled,
    tint,
)
from theory.estimate import Estimate
from theory.predicted_time import Prediction

Predictions = Mapping[str, Mapping[str, Sequence[Prediction]]]
"""Protocol -> predictor -> predictions, one per interval."""

Quantity = Callable[[Prediction], Estimate]


Measured = Mapping[str, Sequence[tuple[int, Estimate]]]
"""Protocol -> (epoch or interval, measurement)."""

PREDICTORS = {"restart": "full resetting, exact (Eq. 5)", "renewal": "renewal", "rare": "rare (Eq. 9)"}
"""Words for the legend, in its order."""

MEASURED = "measured: trained with the perturbation every P epochs"

_OUTSIDE = (0, (3, 1.8))


def _restricted_mean(prediction: Prediction) -> Estimate:
    return prediction.restricted_mean


def _speed_up(prediction: Prediction) -> Estimate:
    return prediction.speed_up


def predictor_colour(predictor: str, protocol_colour: str) -> str:
    """Eq. (9) is grey, the predictors that go beyond it have their protocol's colour.

    Args:
        predictor: one of ``PREDICTORS``.
        protocol_colour: of the panel.

    Returns:
        The colour.
    """
    return GREY if predictor == "rare" else protocol_colour


def plot_predictions(
    ax: Axes,
    predictions: Sequence[Prediction],
    quantity: Quantity,
    *,
    colour: str,
    ceiling: float,
    linewidth: float = 1.8,
    band: bool = True,
) -> None:
    """A predicted quantity against P with its 95 % band: solid inside the predictor's regime, dashed and pale outside.

    Args:
        ax: to draw on.
        predictions: at one horizon.
        quantity: which of their numbers to draw.
        colour: of line and band.
        ceiling: above it nothing is drawn; values beyond, such as ``inf``, are marked by triangles at the top.
        linewidth: of the solid line.
        band: whether to draw the band.
    """
    predictions = sorted(predictions, key=lambda prediction: prediction.interval)
    if not predictions:
        return
    at = np.array([prediction.interval for prediction in predictions])
    estimates = [quantity(prediction) for prediction in predictions]
    value = np.array([estimate.value for estimate in estimates])
    low, high = np.minimum(np.array([estimate.interval() for estimate in estimates]).T, ceiling)
    beyond = value > ceiling
    value = np.where(beyond, np.nan, value)
    for begin, end, valid in stretches([prediction.valid for prediction in predictions]):
        # What is outside a regime is drawn up to its edge, so that a line goes on.
        wide = slice(begin, end) if valid else slice(max(begin - 1, 0), end + 1)
        style = (
            {"color": colour, "linewidth": linewidth, "marker": "." if end - begin == 1 else "", "zorder": 3}
            if valid
            else {"color": tint(colour, 0.62), "linewidth": 0.7 * linewidth, "linestyle": _OUTSIDE, "zorder": 2.5}
        )
        ax.plot(at[wide], value[wide], **style)
        if band:
            alpha = 0.24 if valid else 0.10
            ax.fill_between(at[wide], low[wide], high[wide], color=colour, alpha=alpha, linewidth=0, zorder=1)
    if beyond.any():
        top = ax.get_xaxis_transform()
        ax.plot(at[beyond], np.full(beyond.sum(), 0.985), "^", color=tint(colour, 0.62), markersize=3.5, transform=top)


def plot_measured(
    ax: Axes, measured: Sequence[tuple[float, Estimate]], *, colour: str = INK, marker: str = "o", filled: bool = True
) -> None:
    """Measured points with 95 % intervals; infinite ones are left out.

    Args:
        ax: to draw on.
        measured: (epoch or interval, estimate).
        colour: of points and bars.
        marker: of the points.
        filled: whether the points are filled.
    """
    finite = [(x, estimate) for x, estimate in measured if math.isfinite(estimate.value)]
    if not finite:
        return
    at, value = np.array([(x, estimate.value) for x, estimate in finite]).T
    low, high = np.array([estimate.interval() for _, estimate in finite]).T
    ax.errorbar(
        at,
        value,
        yerr=np.maximum([value - low, high - value], 0),
        fmt=marker,
        color=colour,
        markersize=5,
        markerfacecolor=colour if filled else "white",
        markeredgecolor="white" if filled else colour,
        markeredgewidth=0.7 if filled else 1.2,
        elinewidth=1.2,
        capsize=2.5,
        capthick=1.2,
        zorder=4,
    )


def _comparable(predictions: Predictions, horizon: int) -> dict[str, dict[str, list[Prediction]]]:
    """The predictions of the quantity that was measured: those at the full horizon."""
    return {
        label: {name: [p for p in found if p.horizon == horizon] for name, found in by_predictor.items()}
        for label, by_predictor in predictions.items()
    }


def _omitted(label: str, predictions: Predictions, horizon: int) -> str:
    """What is not drawn in a panel, in words."""
    notes = []
    for name, found in predictions.get(label, {}).items():
        shorter = [p.interval for p in found if p.horizon != horizon]
        if shorter:
            words = f"P = {min(shorter)} to {max(shorter)}" if len(shorter) > 1 else f"P = {shorter[0]}"
            notes.append(f"{PREDICTORS.get(name, name)} is not known at\n{words}: runs were not followed to H")
    return "\n".join(notes)


def _intervals(predictions: Predictions, measured: Measured) -> tuple[int, int]:
    """Smallest and largest P that is drawn."""
    drawn = [p.interval for by_predictor in predictions.values() for found in by_predictor.values() for p in found]
    drawn += [interval for points in measured.values() for interval, _ in points]
    return min(drawn, default=1), max(drawn, default=1)


def _prediction_legend(
    predictions: Predictions,
    colours: Mapping[str, str],
    measured: Measured,
    quantity: Quantity,
    ceiling: float,
    *,
    predictors: bool = True,
) -> Entries:
    """Entries for what was drawn: a handle shows each colour in which it occurs."""
    drawn = [
        (label, name, p)
        for label, by_predictor in predictions.items()
        for name, found in by_predictor.items()
        for p in found
    ]
    entries: Entries = []
    known = [*PREDICTORS, *dict.fromkeys(name for _, name, _ in drawn if name not in PREDICTORS)]
    for predictor in known if predictors else ():
        labels = dict.fromkeys(label for label, name, _ in drawn if name == predictor)
        shades = dict.fromkeys(predictor_colour(predictor, colours[label]) for label in labels)
        if shades:
            words = PREDICTORS.get(predictor, predictor)
            entries.append((tuple(Line2D([], [], color=shade) for shade in shades), f"predicted: {words}"))
    if any(not p.valid for _, _, p in drawn):
        shades = dict.fromkeys(predictor_colour(name, colours[label]) for label, name, p in drawn if not p.valid)
        lines = tuple(Line2D([], [], color=tint(c, 0.62), linewidth=1.3, linestyle=(0, (2, 1.2))) for c in shades)
        entries.append((lines, "the same outside its regime"))
    if drawn:
        shades = dict.fromkeys(predictor_colour(name, colours[label]) for label, name, _ in drawn)
        patches = tuple(Patch(facecolor=tint(shade, 0.24)) for shade in shades)
        entries.append((patches, "95 % band of a prediction (bootstrap)"))
    if any(quantity(p).value > ceiling for _, _, p in drawn):
        entries.append(
            (Line2D([], [], color=GREY, marker="^", markersize=3.5, linestyle=""), "predicted above the axis")
        )
    if any(points for points in measured.values()):
        handle = Line2D([], [], color=INK, marker="o", markersize=5, linestyle="")
        entries.append((handle, f"{MEASURED} (95 %)"))
    return entries


@styled()
def figure_training_time(
    unperturbed: Estimate,
    predictions: Predictions,
    measured: Measured,
    *,
    horizon: int,
) -> Figure:
    """E[min(T_P, H)] against the perturbation interval P: predicted from few runs, and measured.

    Args:
        unperturbed: E[min(T, H)].
        predictions: protocol -> predictor -> predictions; those for a horizon below H are left out.
        measured: protocol -> (P, E[min(T_P, H)]).
        horizon: H [epochs].

    Returns:
        The figure, with one panel per protocol.

    Example:
        >>> measured = {"shrink": [(5, Estimate(14.0, 0.8, 60)), (10, Estimate(16.0, 0.8, 60))]}
        >>> len(figure_training_time(Estimate(20.0, 1.0, 100), {}, measured, horizon=40).axes)
        1

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6, in epochs instead of ratios
    """
    labels = list(dict.fromkeys([*predictions, *measured]))
    colours = colours_of(labels)
    drawn = _comparable(predictions, horizon)
    figure, axes = panels(max(len(labels), 1), extra_height=1.0)
    first, last = _intervals(drawn, measured)
    low, high = unperturbed.interval()
    for ax in axes:
        ax.axhspan(low, high, color=tint(GREY, 0.13), linewidth=0, zorder=0.2)
        ax.axhline(unperturbed.value, color=GREY, linewidth=1.2, zorder=2)
        epoch_axis(ax, first, last)
    for ax, label in zip(axes, labels, strict=False):
        for name in sorted(drawn.get(label, {}), key=lambda name: name != "rare"):
            colour = predictor_colour(name, colours[label])
            plot_predictions(ax, drawn[label][name], _restricted_mean, colour=colour, ceiling=horizon)
        plot_measured(ax, measured.get(label, ()))
        ax.set_title(label, color=colours[label])
        ax.annotate(
            _omitted(label, predictions, horizon), (0.02, 0.02), xycoords="axes fraction", fontsize=7, color=GREY
        )
    axes[0].set_ylim(0, 1.06 * horizon)
    for ax in first_column(axes):
        ax.set_ylabel(f"mean training time [epochs]\n(unfinished runs count as H = {horizon})")
    for ax in last_row(axes):
        ax.set_xlabel("perturbation interval P [epochs]")
    entries = _prediction_legend(drawn, colours, measured, _restricted_mean, horizon)
    handle = (Line2D([], [], color=GREY, linewidth=1.2), Patch(facecolor=tint(GREY, 0.13)))
    entries.append((handle, f"unperturbed: {unperturbed.value:.3g} epochs (95 %: {low:.3g} to {high:.3g})"))
    legend_below(figure, entries, columns=2)
    return figure


@styled()
def figure_speed_up(predictions: Predictions, measured: Measured, *, horizon: int) -> Figure:
    """E[min(T, H)] / E[min(T_P, H)] against P, all protocols in one panel: which one, and how often?

    Args:
        predictions: protocol -> predictor -> predictions; those for a horizon below H are left out.
        measured: protocol -> (P, measured ratio).
        horizon: H [epochs].

    Returns:
        The figure.

    Example:
        >>> measured = {"shrink": [(5, Estimate(1.4, 0.1, 60)), (10, Estimate(1.2, 0.1, 60))]}
        >>> len(figure_speed_up({}, measured, horizon=40).axes)
        1

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 6; a ratio of restricted means, where they extrapolated
    """
    labels = list(dict.fromkeys([*predictions, *measured]))
    colours = colours_of(labels)
    drawn = {
        label: {name: found for name, found in by_predictor.items() if name != "rare" or len(by_predictor) == 1}
        for label, by_predictor in _comparable(predictions, horizon).items()
    }
    figure, (ax,) = panels(1, extra_height=1.3)
    values = [p.speed_up.value for by_predictor in drawn.values() for found in by_predictor.values() for p in found]
    values += [estimate.interval()[1] for points in measured.values() for _, estimate in points]
    ceiling = 1.15 * max([1.5, *(value for value in values if math.isfinite(value))])
    ax.axhline(1, color=GREY, linewidth=1.2, zorder=0.9)
    ax.annotate(
        "as fast as unperturbed", (1, 1), xycoords=ax.get_yaxis_transform(), xytext=(-2, -3),
        textcoords="offset points", ha="right", va="top", fontsize=7.5, color=GREY,
    )  # fmt: skip
    entries: Entries = []
    for label in labels:
        for name, found in drawn.get(label, {}).items():
            plot_predictions(ax, found, _speed_up, colour=colours[label], ceiling=ceiling)
            if found:
                line = Line2D([], [], color=colours[label])
                entries.append((line, f"{label}, predicted: {PREDICTORS.get(name, name)}"))
        plot_measured(
            ax, _side_by_side(measured.get(label, ()), labels.index(label), len(labels)), colour=colours[label]
        )
    epoch_axis(ax, *_intervals(drawn, measured))
    ax.set_ylim(0, ceiling)
    ax.set_xlabel("perturbation interval P [epochs]")
    ax.set_ylabel(f"speed-up: mean training time without / with\nthe perturbation, both restricted to {horizon} epochs")
    entries += _prediction_legend(drawn, colours, measured, _speed_up, ceiling, predictors=False)
    legend_below(figure, entries, columns=2)
    return figure


def _side_by_side(points: Sequence[tuple[int, Estimate]], place: int, places: int) -> list[tuple[float, Estimate]]:
    """Points moved by a few percent, so that they don't hide those of others at the same epoch."""
    return [(at * 1.022 ** (place - (places - 1) / 2), estimate) for at, estimate in points]


@styled()
def figure_residual_time(*, measured: Measured, once: Measured, horizon: int, followed: int) -> Figure:
    """Mean time from the first perturbation to the target: does it depend on when that was, and on later ones?

    All means are restricted, because training ends: with the perturbation every P epochs to the H - P epochs that are
    left, after a single one to those for which the runs were followed. Points near a limit say little.

    Args:
        measured: protocol -> (P, mean residual with the perturbation every P epochs).
        once: protocol -> (epoch, mean residual after one perturbation at that epoch).
        horizon: H, at which training ends [epochs].
        followed: epochs for which runs perturbed once were followed.

    Returns:
        The figure.

    Reference: [meir2025] arXiv 2502.04121 v1, Fig. 5
    """
    labels = list(dict.fromkeys([*measured, *once]))
    colours = colours_of(labels)
    figure, (ax,) = panels(1, extra_height=1.1)
    drawn = sorted({at for some in (*measured.values(), *once.values()) for at, _ in some}) or [1]
    ticks = [at for i, at in enumerate(drawn) if i == 0 or at > 1.2 * drawn[i - 1]]
    epoch_axis(ax, drawn[0], drawn[-1], ticks=ticks)
    left, right = ax.get_xlim()
    epochs = np.linspace(left, right, 300)
    ax.fill_between(epochs, epochs, 1.02 * horizon, color=GREY, alpha=0.10, linewidth=0, zorder=0.2)
    ax.plot(epochs, np.maximum(horizon - epochs, 0), color=GREY, linewidth=1.2, linestyle="--", zorder=0.9)
    if any(once.values()):
        ax.axhline(followed, color=GREY, linewidth=1.2, linestyle=":", zorder=0.9)
    drawable = [
        (label, marker, points[label])
        for label in labels
        for marker, points in (("o", measured), ("D", once))
        if points.get(label)
    ]
    for place, (label, marker, points) in enumerate(drawable):
        moved = _side_by_side(points, place, len(drawable))
        plot_measured(ax, moved, colour=colours[label], marker=marker, filled=marker == "o")
    ax.set_xlim(left, right)
    ax.set_ylim(0, 1.02 * horizon)
    ax.set_xlabel("epoch of the first perturbation, P")
    ax.set_ylabel("mean epochs from the first\nperturbation to the target")
    entries: Entries = [(Patch(facecolor=colours[label]), label) for label in labels]
    entries.append(
        (Line2D([], [], color=INK, marker="o", linestyle="", markersize=5), "perturbed every P epochs (95 %)")
    )
    if any(once.values()):
        diamond = Line2D([], [], color=INK, marker="D", markerfacecolor="white", linestyle="", markersize=5)
        entries.append((diamond, "perturbed once, at P (95 %)"))
    entries.append((Patch(facecolor=tint(GREY, 0.10)), "mean above P: runs meet further perturbations"))
    entries.append(
        (Line2D([], [], color=GREY, linewidth=1.2, linestyle="--"), f"largest possible mean: H − P, H = {horizon}")
    )
    if any(once.values()):
        words = f"largest possible, perturbed once: {followed} followed"
        entries.append((Line2D([], [], color=GREY, linewidth=1.2, linestyle=":"), words))
    legend_below(figure, entries, columns=2)
    return figure
