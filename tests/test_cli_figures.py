"""``jostle figures``: what it draws, lists, writes and refuses; its figures: tests/test_figures_catalogue.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from cli import STOPPED, USAGE, main
from figures.catalogue import catalogue
from figures.gallery_figure import GalleryFigure


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["figures", *arguments])


def small() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    return figure


def stop() -> Figure:
    raise KeyboardInterrupt


def entry(name: str, draw: Callable[[], Figure] = small) -> GalleryFigure:
    paper = "kuhn2023" if name.startswith("noise") else "meir2025"
    return GalleryFigure(name, paper, "Fig. 3", f"About {name}", ("theory",), (), draw, "All of it.")


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery that costs nothing to draw."""
    entries = (entry("first"), entry("second"), entry("noise"))
    monkeypatch.setattr("figures.catalogue.catalogue", lambda: entries)


def test_list_names_every_figure() -> None:
    result = run("--list")
    assert result.exit_code == 0
    header, rule, *rows = result.stdout.splitlines()
    assert header.split() == ["name", "paper", "figure", "source"]
    assert set(rule) == {"-", " "}
    assert [row.split()[0] for row in rows] == [figure.name for figure in catalogue()]


def test_list_of_a_paper_as_json() -> None:
    result = run("--list", "--paper", "meir2025", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["command"], record["schema"], record["parameters"]["paper"]) == ("figures", 1, "meir2025")
    figures = {figure["name"]: figure for figure in record["result"]["figures"]}
    assert figures["meir_speed_up"]["answers"] == "Fig. 6"
    assert figures["meir_speed_up"]["sources"] == ["published curves"]
    assert all(figure["paper"] == "meir2025" for figure in figures.values())


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    result = run("meir_residual_time", "--out", str(tmp_path / "images"))
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["meir_residual_time.png"]
    assert (tmp_path / "images" / "meir_residual_time.png").read_bytes().startswith(b"\x89PNG")
    row = result.stdout.splitlines()[-1].split()
    assert row[:4] == ["meir_residual_time", "meir2025", "Fig.", "5"]
    assert float(row[-1]) >= 0
    assert f"1 image in {tmp_path / 'images'}" in result.stderr


@pytest.mark.usefixtures("three")
def test_all_are_drawn_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        result = run("--out", str(tmp_path), "--quiet")
        assert (result.exit_code, result.stderr) == (0, "")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "noise.png", "second.png"]


@pytest.mark.usefixtures("three")
def test_json_of_what_was_drawn(tmp_path: Path) -> None:
    record = json.loads(run("second", "--out", str(tmp_path), "--json", "--quiet").stdout)
    (figure,) = record["result"]["figures"]
    assert figure["file"] == str(tmp_path / "second.png")
    assert figure["seconds"] >= 0


@pytest.mark.usefixtures("three")
def test_markdown(tmp_path: Path) -> None:
    result = run("--list", "--markdown", str(tmp_path / "docs" / "page.md"), "--out", str(tmp_path / "images"))
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "images").exists()
    page = (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")
    assert "![About first](../images/first.png)" in page
    assert page.index("first.png") < page.index("noise.png")
    assert "## What is not drawn" in page
    assert run("first", "--markdown", str(tmp_path / "docs" / "page.md"), "--out", str(tmp_path)).exit_code == 0
    assert "![About first](../first.png)" in (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fist"], "there is no figure 'fist': did you mean first?"),
        (["eco"], "there is no figure 'eco': did you mean second?"),
        (["xyz"], "there is no figure 'xyz': `jostle figures --list` names them"),
        (["first", "--paper", "kuhn2023"], "there is no figure 'first' of kuhn2023"),
        (["--paper", "nobody"], "--paper 'nobody' is unknown; choose from meir2025, kuhn2023"),
    ],
)
def test_unknown_names(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments, "--out", str(tmp_path / "images"))
    assert result.exit_code == USAGE
    assert message in result.stderr
    assert not (tmp_path / "images").exists()


@pytest.mark.usefixtures("three")
def test_paths_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("first", "--out", str(tmp_path / "file"))
    assert result.exit_code == USAGE
    assert "Traceback" not in result.output
    assert str(tmp_path / "file") in result.stderr
    result = run("first", "--out", str(tmp_path / "images"), "--markdown", str(tmp_path))
    assert result.exit_code == USAGE
    assert "is a directory: name a file in it" in result.stderr
    assert not (tmp_path / "images").exists()


def test_stopping_leaves_whole_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (entry("first"), entry("second", stop), entry("third"))
    monkeypatch.setattr("figures.catalogue.catalogue", lambda: entries)
    result = run("--out", str(tmp_path))
    assert result.exit_code == STOPPED
    assert f"stopped; 1 of 3 images were written to {tmp_path}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]


def test_a_figure_of_a_cut_simulation_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulations end at a first Ctrl-C with the runs that they have.
    import signal

    def cut() -> Figure:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return small()
        raise AssertionError("Ctrl-C did not come")

    monkeypatch.setattr("figures.catalogue.catalogue", lambda: (entry("first", cut),))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # parallel test processes ignore the signal
    try:
        assert run("--out", str(tmp_path)).exit_code == STOPPED
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []
