"""What ``effective-temperature --out`` writes: tables of spectra, lags and points, and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.files import write_csv, write_figure

if TYPE_CHECKING:
    from commands.batch_orders import Quadratic
    from theory.absorbing import Floats
    from theory.estimate import Estimate
    from theory.gradient_noise import GradientNoise

Points = dict[str, dict[tuple[float, int], "Estimate"]]
"""Order -> (curvature, lag) -> simulated temperature."""

DRAWN = 5
"""The figure has panels for so many curvatures, the lowest."""

FADED = 0.1
"""Lines end where a mode's answer has fallen to this fraction of its highest: soon after, T_eff(n) may be infinite."""

MOST_FREQUENCIES = 20_000
"""In the figure, for spectra with peaks."""


def white_temperature(momentum: float) -> float:
    """Temperature of independent batches, over learning rate and variance.

    Args:
        momentum: beta.

    Returns:
        1 / (2 (1 - beta)).
    """
    return 1 / (2 * (1 - momentum))


def write_temperatures(directory: Path, quadratic: Quadratic, lags: Sequence[int], simulated: Points) -> None:
    """``spectra.csv`` and ``lags.csv`` of the lines, ``simulated.csv`` of the points, ``temperatures.png`` of all.

    Args:
        directory: which exists.
        quadratic: what the options name.
        lags: that were asked for.
        simulated: the points; empty for a prediction.
    """
    import numpy as np

    from figures.effective_temperature import LagTemperatures, figure_effective_temperature
    from theory.effective_temperature import lag_temperature, response, spectral_temperature
    from theory.heavy_ball import HeavyBall

    modes, noises, curvatures = quadratic.modes, quadratic.noises, quadratic.curvatures
    unit = modes.learning_rate
    frequencies = np.geomspace(1e-3, np.pi, 801)
    spectral_rows: list[tuple[Any, ...]] = [("order", "frequency", "temperature")]
    for order, noise in noises.items():
        values = spectral_temperature(modes, noise, frequencies) / unit
        spectral_rows += [(order, *row) for row in np.stack((frequencies, values), axis=-1).tolist()]
    lag_rows: list[tuple[Any, ...]] = [("order", "curvature", "lag", "temperature")]
    drawn: dict[str, dict[str, LagTemperatures]] = {}
    for place, curvature in enumerate(curvatures):
        mode = HeavyBall(modes.learning_rate, curvature, modes.momentum)
        answers = response(mode, np.arange(1, 4 * max(lags) + 1))
        faded = np.flatnonzero(answers[answers.argmax() :] < FADED * answers.max())
        line = np.arange(1, len(answers) + 1 if not faded.size else int(answers.argmax() + faded[0]) + 1)
        panel = {}
        for order, noise in noises.items():
            values = lag_temperature(mode, noise, line) / unit
            points = [(float(n), e) for (at, n), e in simulated.get(order, {}).items() if at == curvature]
            panel[order] = LagTemperatures(line, values, points)
            lag_rows += [(order, curvature, n, v) for n, v in zip(line.tolist(), values.tolist(), strict=True)]
        if place < DRAWN:
            drawn[f"curvature {curvature:.3g}"] = panel
    fine = _drawn_frequencies(noises)
    title = f"learning rate {modes.learning_rate:g}, momentum {modes.momentum:g}"
    if quadratic.has_epochs:
        title += f", epochs of {quadratic.batches} batches"
    if len(curvatures) > DRAWN:
        title += f"; {DRAWN} of {len(curvatures)} curvatures"
    figure = figure_effective_temperature(
        title,
        fine,
        {order: spectral_temperature(modes, noise, fine) / unit for order, noise in noises.items()},
        drawn,
        white=white_temperature(modes.momentum),
        lines={order: noise.lines[0] for order, noise in noises.items() if noise.lines[0].size},
        y_label="effective temperature / (ησ²)",
    )
    write_csv(directory / "spectra.csv", spectral_rows)
    write_csv(directory / "lags.csv", lag_rows)
    if simulated:
        rows: list[tuple[Any, ...]] = [("order", "curvature", "lag", "temperature", "standard_error", "replicas")]
        for order, found in simulated.items():
            rows += [(order, at, n, e.value, e.standard_error, e.n) for (at, n), e in found.items()]
        write_csv(directory / "simulated.csv", rows)
    write_figure(directory / "temperatures.png", figure)


def _drawn_frequencies(noises: dict[str, GradientNoise]) -> Floats:
    """On a logarithmic grid, and eight in each peak of batches that are repeated, if they are not too many."""
    import numpy as np

    grid = np.geomspace(1e-3, np.pi, 801)
    longest = max(getattr(noise, "epochs", 0) * getattr(noise, "batches_per_epoch", 0) for noise in noises.values())
    if longest:
        even = np.linspace(grid[0], math.pi, min(4 * longest + 1, MOST_FREQUENCIES))
        grid = np.unique(np.concatenate([grid, even[even >= grid[0]]]))
    return grid
