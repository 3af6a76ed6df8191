"""``jostle figures``: the gallery, redrawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import prepared_directory, write_file
from commands.options import output_options
from commands.shared import STOPPED, emit_json, fail, hint, noted_interrupts, print_table, progress_bar

if TYPE_CHECKING:
    from figures.gallery_figure import GalleryFigure


def _chosen(names: Sequence[str], paper: str | None) -> list[GalleryFigure]:
    """The figures asked for, in the order of the catalogue."""
    from difflib import get_close_matches

    from figures.catalogue import catalogue

    found = list(catalogue())
    if paper is not None:
        papers = list(dict.fromkeys(entry.paper for entry in found))
        if paper not in papers:
            raise ValueError(f"--paper {paper!r} is unknown; choose from {', '.join(papers)}")
        found = [entry for entry in found if entry.paper == paper]
    known = [entry.name for entry in found]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5) or [other for other in known if name in other][:3]
            meant = f"did you mean {' or '.join(near)}?" if near else "`jostle figures --list` names them"
            among = "" if paper is None else f" of {paper}"
            raise ValueError(f"there is no figure {name!r}{among}: {meant}")
    return [entry for entry in found if not names or entry.name in names]


@click.command("figures", short_help="Redraw the gallery of the papers' figures, and ours.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("gallery"),
    show_default=True,
    help="Directory of the images, NAME.png each.",
)
@click.option("--list", "only_list", is_flag=True, help="Draw nothing: name the figures.")
@click.option("--paper", metavar="KEY", help="Those of one paper, such as meir2025.")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    help="Write a page that shows the images in --out, with what agrees and what does not; with --list, without "
    "drawing them.",
)
@output_options
def draw_figures(
    names: tuple[str, ...],
    out: Path,
    only_list: bool,
    paper: str | None,
    markdown: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Redraw the gallery: the figures of the papers, and ours, from theory, simulation and recorded measurements.

    \b
    jostle figures --list
    jostle figures meir_speed_up weight_variance --out gallery
    jostle figures --paper meir2025
    jostle figures --out figures/gallery --markdown docs/gallery.md
    """
    chosen = _chosen(names, paper)
    if markdown is not None and markdown.is_dir():
        raise ValueError(f"--markdown {markdown} is a directory: name a file in it, such as {markdown / 'gallery.md'}")
    seconds: list[float] = []
    if not only_list:
        seconds = _draw(chosen, prepared_directory(out), quiet)
    if markdown is not None:
        _write_page(markdown, chosen, out)
    if as_json:
        rows = [
            _described(entry) | ({} if only_list else {"file": str(out / f"{entry.name}.png"), "seconds": took})
            for entry, took in zip(chosen, seconds or [0.0] * len(chosen), strict=True)
        ]
        parameters = {"names": list(names), "out": str(out), "paper": paper, "list": only_list}
        parameters |= {"markdown": None if markdown is None else str(markdown)}
        emit_json("figures", parameters, 0, {"figures": rows})
        return
    header = ["name", "paper", "figure", "source"] + ([] if only_list else ["seconds"])
    rows = [[entry.name, entry.paper, entry.answers or "ours", ", ".join(entry.sources)] for entry in chosen]
    for row, took in zip(rows, seconds, strict=False):
        row.append(f"{took:.1f}")
    print_table(header, rows, left=(0, 1, 2, 3))
    if not only_list:
        hint(f"{len(chosen)} image{'s' if len(chosen) != 1 else ''} in {out}", quiet)
    if markdown is not None:
        hint(f"page: {markdown}", quiet)


def _draw(chosen: Sequence[GalleryFigure], out: Path, quiet: bool) -> list[float]:
    """Draw and write each; what Ctrl-C leaves are whole images."""
    from figures.gallery_figure import gallery_png

    seconds: list[float] = []
    try:
        with noted_interrupts() as interrupted, progress_bar(quiet) as progress:
            for number, entry in enumerate(chosen):
                if progress is not None:
                    progress(number, len(chosen), entry.name)
                begin = time.monotonic()
                png = gallery_png(entry.draw())
                # A simulation that was cut short made another figure.
                if interrupted():
                    raise KeyboardInterrupt
                write_file(out / f"{entry.name}.png", png)
                seconds.append(time.monotonic() - begin)
    except KeyboardInterrupt:
        fail(f"stopped; {len(seconds)} of {len(chosen)} images were written to {out}", STOPPED)
    return seconds


def _write_page(markdown: Path, chosen: Sequence[GalleryFigure], out: Path) -> None:
    """The page, its links relative to it."""
    import os
    from importlib import resources

    from figures.catalogue import not_drawn
    from figures.gallery_page import gallery_page

    here = prepared_directory(markdown.parent).resolve()

    def link(target: Path) -> str:
        return Path(os.path.relpath(target.resolve(), here)).as_posix()

    tables = Path(str(resources.files("figures"))) / "data"
    page = gallery_page(chosen, not_drawn(), images=link(out), tables=link(tables))
    write_file(markdown, page.encode())


def _described(entry: GalleryFigure) -> dict[str, Any]:
    return {
        "name": entry.name,
        "paper": entry.paper,
        "answers": entry.answers,
        "title": entry.title,
        "sources": list(entry.sources),
        "data": list(entry.data),
        "agrees": entry.agrees,
        "differs": entry.differs,
    }
