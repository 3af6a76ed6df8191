"""The page of the gallery, in Markdown: every figure with what agrees and what does not, then what is not drawn."""

from collections.abc import Sequence

from figures.catalogue import PAPERS, NotDrawn
from figures.gallery_figure import GalleryFigure

_LEAD = """\
# Gallery

Every figure of the five papers that a number can be put to, redrawn from theory, seeded simulation, the authors'
published curves or trainings of ours, and figures of our own. `jostle figures` draws them all, `jostle figures NAME`
one of them; this page is written by `jostle figures --out figures/gallery --markdown docs/gallery.md`.

- *theory*: closed forms and deterministic numerics
- *simulation*: seeded, made on the spot; where that takes long, recorded in a table
- *published curves*: what a paper's authors have put online, summarised in tables
- *measured*: networks that we trained; the tables say how many, when, on what machine, and by which command
"""


def gallery_page(figures: Sequence[GalleryFigure], not_drawn: Sequence[NotDrawn], *, images: str, tables: str) -> str:
    """The page.

    Args:
        figures: in their order.
        not_drawn: what is left out; of papers that have a figure here, only.
        images: directory of the images, as seen from the page, without a slash at the end.
        tables: directory of the tables, likewise.

    Returns:
        Markdown.

    Example:
        >>> from figures.gallery_meir import FIGURES
        >>> page = gallery_page(FIGURES[:1], (), images="gallery", tables="data")
        >>> "](gallery/digits_demo_training_time.png)" in page
        True
    """
    shown = list(dict.fromkeys(figure.paper for figure in figures))
    parts = [_LEAD]
    for paper in shown:
        parts.append(f"## {PAPERS.get(paper, paper)}\n")
        parts += [_section(figure, images, tables) for figure in figures if figure.paper == paper]
    missing = [item for item in not_drawn if item.paper in shown]
    if missing:
        rows = [f"| {item.paper} | {item.item} | {item.reason} |" for item in missing]
        parts.append(
            "\n".join(["## What is not drawn\n", "| paper | figure or table | why |", "|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _section(figure: GalleryFigure, images: str, tables: str) -> str:
    answers = f"{figure.answers}; " if figure.answers else "ours; "
    data = ", ".join(f"[{name}.csv]({tables}/{name}.csv)" for name in figure.data)
    lines = [
        f"### {figure.title}",
        "",
        f"![{figure.title}]({images}/{figure.name}.png)",
        "",
        f"`{figure.name}`: {answers}{', '.join(figure.sources)}" + (f" ({data})" if data else "") + ".",
        "",
    ]
    lines += [f"- *{word}:* {text}" for word, text in (("Agrees", figure.agrees), ("Does not", figure.differs)) if text]
    return "\n".join([*lines, ""])
