"""What the tests of figures ask of each of them, and what they read off it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import png_bytes, styled


def words_of(figure: Figure) -> list[str]:
    """Those of its legends."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def x_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), dtype=float).tolist()


def y_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def bars_of(ax: Axes) -> list[ErrorbarContainer]:
    """Its sets of points with error bars, in the order of drawing."""
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def check_drawn(figure: Figure) -> bytes:
    """Its image; its legends fit."""
    image = png_bytes(figure)
    assert image.startswith(b"\x89PNG")
    with styled():
        figure.canvas.draw()
    for legend in figure.legends:
        assert legend.get_window_extent().x1 <= figure.bbox.width
    return image
