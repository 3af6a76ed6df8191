"""What the report of a study shows: well-formed, complete, escaped, and in need of nothing from elsewhere."""

import base64
import re
from html.parser import HTMLParser

import pytest

from figures.report import ReportFigure, ReportSection, ReportTable, render_report

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


PNG = b"\x89PNG\r\n\x1a\n synthetic"
NASTY = '<script>alert("x")</script> & <b>1 < 2</b>'
TABLE = ReportTable(
    header=("perturbation", "P", "predicted", "verdict"),
    rows=(
        ("full_reset", "5", "10.1 +- 0.3", "agrees"),
        ("full_reset", "10", "inf", "outside regime [1]"),
        ("shrink_perturb", "5", "9 +- 1", "disagrees"),
    ),
    verdict_column="verdict",
)


def report(text: str = "plain") -> str:
    sections = [
        ReportSection("Setting", (text, "Second paragraph."), table=ReportTable(("name", "value"), [(text, text)])),
        ReportSection("Result", figure=ReportFigure(PNG, text, text), table=TABLE, notes=("[1] " + text,)),
        ReportSection("Nothing", table=ReportTable(("a", "b"), ())),
    ]
    return render_report(title=text, lead=text, sections=sections, environment={"python": "3.11", "seed": 0, "x": text})


def test_report_is_well_formed_and_complete() -> None:
    page = Page(report())
    assert len(page.all("section")) == 3
    assert len(page.all("table")) == 3
    assert len(page.all("h1")) == 1
    for words in ("Second paragraph.", "shrink_perturb", "outside regime [1]", "[1] plain", "3.11"):
        assert words in page.text
    (image,) = page.all("img")
    assert image["alt"] == "plain"
    source = image["src"] or ""
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG


def test_report_escapes_all_text() -> None:
    html = report(NASTY)
    page = Page(html)
    assert "<script" not in html
    assert page.all("b") == []
    assert page.text.count(NASTY) == 8, "shown as it is, in each place"
    assert page.all("img")[0]["alt"] == NASTY


def test_report_needs_nothing_from_elsewhere() -> None:
    html = report()
    page = Page(html)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "a"} == set()
    assert re.findall(r"https?:|url\(|@import|//", re.sub(r"base64,[^\"]*", "", html)) == []
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_report_colours_verdicts_beside_the_words() -> None:
    page = Page(report())
    classes = [row.get("class") for row in page.all("tr")]
    assert [kind for kind in classes if kind] == ["agrees", "outside", "disagrees"]
    assert TABLE.numeric_columns == [False, True, True, False]
    assert ReportTable(("a",), [("3 of 4 runs finish",), ("2",)]).numeric_columns == [False]


def test_report_is_the_same_each_time() -> None:
    assert report("Ψ ± τ") == report("Ψ ± τ")
    assert "Ψ ± τ" in report("Ψ ± τ")


def test_report_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        ReportTable(("a", "b"), [("only one",)])
    with pytest.raises(ValueError, match="verdict_column='c' is none of a, b"):
        ReportTable(("a", "b"), [], verdict_column="c")
    with pytest.raises(ValueError, match="not the content of a PNG"):
        ReportFigure(b"GIF89a", "caption", "alternative")
