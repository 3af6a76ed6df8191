"""What the noise of [satybaldiev2025] does to weights, in the paper's setting: theory only.

N(0, epsilon^2) is added to every weight in every step. Without decay and curvature a weight makes a random walk.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from figures.batch_orders import power
from figures.style import COLOURS, GREY, WIDTH, legend_below, styled, title_above
from theory.absorbing import Floats
from theory.adaptive_noise import he_deviation, weight_responses
from theory.heavy_ball import HeavyBall

# ResNet-18 in the paper's setting: weights, 200 epochs of 391 steps, and what the steps are made with.
WEIGHTS, STEPS, LEARNING_RATE, WEIGHT_DECAY, FAN_IN = 11_173_962, 200 * 391, 0.1, 1e-4, 9 * 512


def weight_deviations(epsilon: float, *, weight_decay: float = WEIGHT_DECAY, momentum: float = 0.0) -> Floats:
    """Standard deviation of a weight without curvature by the noise of 1, 2, ... ``STEPS`` steps.

    Args:
        epsilon: standard deviation of the noise of a step, absolute, as in the paper.
        weight_decay: 0 for a random walk.
        momentum: of SGD.

    Returns:
        Shape (STEPS,) [weight].

    Example:
        >>> weight_deviations(1e-4, weight_decay=0.0)[[0, -1]].round(4).tolist()
        [0.0001, 0.028]
    """
    responses = weight_responses(HeavyBall(LEARNING_RATE, weight_decay, momentum), STEPS)
    return epsilon * np.sqrt(np.cumsum(responses**2))


SETTINGS = (
    ("no decay", {"weight_decay": 0.0}, "--"),
    ("weight decay", {}, "-"),
    ("weight decay, momentum 0.9", {"momentum": 0.9}, ":"),
)
"""Words, options of ``weight_deviations``, and dashes."""


def draw_noise_scale() -> Figure:
    """What N(0, epsilon^2) on each weight and step does to the weights, in the paper's setting.

    Returns:
        The figure.
    """
    epsilons, he = np.geomspace(1e-6, 1e-2, 41), he_deviation(FAN_IN)
    chosen = np.unique(np.geomspace(1, STEPS, 81).astype(int))
    entries = []
    with styled():
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        title_above(figure, "What the printed noise does to a weight: ResNet-18, 200 epochs of 391 steps")
        for (words, options, dashes), colour in zip(SETTINGS, (COLOURS[1], COLOURS[0], COLOURS[2]), strict=True):
            unit = weight_deviations(1.0, **options)
            (line,) = left.plot(epsilons, epsilons * unit[-1], color=colour, linestyle=dashes)
            entries.append((line, words))
            for epsilon in (1e-5, 1e-4, 1e-3):
                right.plot(chosen, epsilon * unit[chosen - 1], color=colour, linestyle=dashes)
        for epsilon in (1e-5, 1e-4, 1e-3):
            place = (1.3, epsilon * 2.2)
            right.annotate(f"$\\epsilon$ = {power(epsilon)}", place, fontsize=8.5, ha="left", va="bottom")
        left.set_xlabel("$\\epsilon$, standard deviation of the noise of a step")
        left.set_ylabel("standard deviation of a weight")
        left.set_title("after 200 epochs", fontweight="normal")
        right.set_xlabel("step")
        right.set_title("over training", fontweight="normal")
        left.set_xlim(1e-6, 1e-2)
        right.set_xlim(1, STEPS)
        left.set_ylim(1e-5, 3)
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_yscale("log")
            of_he = ax.axhline(he, color=GREY, linestyle=(0, (8, 2, 1, 2)), linewidth=1.3, zorder=1)
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(LogLocator(numticks=8))
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(power))
        entries.append((of_he, f"He's initialisation: {he:.3f}"))
        legend_below(figure, entries, columns=4)
    return figure
