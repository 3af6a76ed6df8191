"""A report as one HTML file that needs nothing else: no scripts, no fonts or images from elsewhere, figures inside."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

VERDICTS = {"agrees": "agrees", "disagrees": "disagrees", "outside regime": "outside"}
"""Words with which a verdict begins -> the class that colours its row."""

_NUMBER = re.compile(r"[-+−±<>≥≤]*\s*(\d|inf\b)[^A-Za-z]*$")
"""A number, perhaps with an error or a unit sign; not a sentence that begins with one."""


@dataclass(frozen=True)
class ReportTable:
    """Rows of text under a header.

    Attributes:
        header: names of the columns.
        rows: cells, as they are to be read.
        verdict_column: name of the column by which rows are coloured: its cells begin with a word of ``VERDICTS``.

    Example:
        >>> ReportTable(("quantity", "verdict"), [("E[T]", "agrees")], verdict_column="verdict").header
        ('quantity', 'verdict')
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict_column: str | None = None

    def __post_init__(self) -> None:
        uneven = [row for row in self.rows if len(row) != len(self.header)]
        if uneven:
            raise ValueError(f"row {uneven[0]} has {len(uneven[0])} cells for {len(self.header)} columns")
        if self.verdict_column is not None and self.verdict_column not in self.header:
            raise ValueError(f"verdict_column={self.verdict_column!r} is none of {', '.join(self.header)}")

    def verdict(self, row: Sequence[str]) -> str:
        """The class of a row.

        Args:
            row: of this table.

        Returns:
            A value of ``VERDICTS``, or nothing.
        """
        if self.verdict_column is None:
            return ""
        cell = row[list(self.header).index(self.verdict_column)]
        return next((kind for words, kind in VERDICTS.items() if cell.startswith(words)), "")

    @property
    def numeric_columns(self) -> list[bool]:
        """Which columns hold numbers only (or nothing), and are set flush right."""
        columns = [[cell for cell in column if cell not in ("", "-")] for column in zip(*self.rows, strict=True)]
        return [bool(cells) and all(_NUMBER.match(cell) for cell in cells) for cells in columns] or [False] * len(
            self.header
        )


@dataclass(frozen=True)
class ReportFigure:
    """An image with what it shows.

    Attributes:
        png: content of a PNG file.
        caption: what is seen, and how to read it.
        alternative: what the image shows, for those who can't see it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from figures.style import png_bytes
        >>> ReportFigure(png_bytes(Figure(figsize=(1, 1))), "Nothing.", "An empty square.").source[:22]
        'data:image/png;base64,'
    """

    png: bytes
    caption: str
    alternative: str

    def __post_init__(self) -> None:
        if not self.png.startswith(b"\x89PNG"):
            raise ValueError("png is not the content of a PNG file; figures.style.png_bytes makes one")

    @property
    def source(self) -> str:
        """The image as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class ReportSection:
    """A heading and what stands under it, in this order.

    Attributes:
        heading: of the section.
        paragraphs: text.
        figure: an image.
        table: a table.
        notes: small print below, such as the numbered notes of the table.

    Example:
        >>> ReportSection("Means", ["Both agree."], table=ReportTable(("a", "b"), [("1", "1")])).heading
        'Means'
    """

    heading: str
    paragraphs: Sequence[str] = ()
    figure: ReportFigure | None = None
    table: ReportTable | None = None
    notes: Sequence[str] = ()


def render_report(
    *, title: str, lead: str, sections: Sequence[ReportSection], environment: Mapping[str, object]
) -> str:
    """The report as HTML. All text is escaped: nothing in it can become markup.

    Args:
        title: of the report.
        lead: the result in a sentence or two.
        sections: in their order.
        environment: name -> value of what the numbers depend on, such as versions and the seed.

    Returns:
        A stand-alone page.

    Example:
        >>> page = render_report(
        ...     title="Restart", lead="It helps.", sections=[ReportSection("Means", ["a < b"])], environment={"seed": 0}
        ... )
        >>> "<h2>Means</h2>" in page, "a &lt; b" in page
        (True, True)
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = templates.get_template("report.html.j2")
    return page.render(title=title, lead=lead, sections=sections, environment=environment)
