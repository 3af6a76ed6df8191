"""One figure of the gallery: what it shows, whose figure it answers, and from what it is drawn."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from matplotlib.figure import Figure

from figures.style import png_bytes

SOURCES = ("theory", "simulation", "published curves", "measured")
"""From what a figure is drawn: closed forms; a seeded simulation, made on the spot or, where that takes long, recorded
in ``figures/data``; curves that a paper's authors have published, summarised there; trainings of ours, recorded there.
"""


@dataclass(frozen=True)
class GalleryFigure:
    """An entry of the gallery.

    Attributes:
        name: of the file in ``figures/gallery``, without ending, and what ``jostle figures`` calls it.
        paper: key in ``theory/references.bib``.
        answers: the paper's figure or table, such as ``"Fig. 6"``; empty if the figure is ours alone.
        title: what is seen, in a few words.
        sources: some of ``SOURCES``.
        data: names of the tables in ``figures/data`` that it is drawn from, without ending.
        draw: makes the figure.
        agrees: one sentence: what agrees with the paper or the theory.
        differs: one sentence: what does not, or what the figure cannot show; empty if there is nothing to say.
    """

    name: str
    paper: str
    answers: str
    title: str
    sources: tuple[str, ...]
    data: tuple[str, ...]
    draw: Callable[[], Figure]
    agrees: str
    differs: str = ""


def gallery_png(figure: Figure) -> bytes:
    """The figure as PNG with 256 colours: a third of the size of the full one, and the eye sees no difference.

    Args:
        figure: to be drawn.

    Returns:
        The file's content; equal figures have equal bytes.

    Example:
        >>> gallery_png(Figure(figsize=(1, 1)))[1:4]
        b'PNG'
    """
    from PIL import Image  # comes with matplotlib

    small = io.BytesIO()
    with Image.open(io.BytesIO(png_bytes(figure))) as full:
        palette = full.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        palette.save(small, format="PNG", optimize=True)
    return small.getvalue()


def rows_of(name: str) -> list[dict[str, str]]:
    """A table of ``figures/data``, without the lines that say where it comes from.

    Args:
        name: of the file, without ``.csv``.

    Returns:
        Its rows, as text by column; an empty cell is an empty string.

    Raises:
        ValueError: if there is no such table.

    Example:
        >>> rows_of("digits_demo")[0]["perturbation"]
        'full_reset'
    """
    file = resources.files("figures") / "data" / f"{name}.csv"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"figures/data/{name}.csv does not exist; `jostle figures --list` names the tables") from None
    return list(csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#")))
