"""What the tests of figures ask of each of them."""

from matplotlib.figure import Figure

from figures.style import png_bytes, styled


def words_of(figure: Figure) -> list[str]:
    """Those of its legends."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def check_drawn(figure: Figure) -> bytes:
    """Its image; its legends fit."""
    image = png_bytes(figure)
    assert image.startswith(b"\x89PNG")
    with styled():
        figure.canvas.draw()
    for legend in figure.legends:
        assert legend.get_window_extent().x1 <= figure.bbox.width
    return image
