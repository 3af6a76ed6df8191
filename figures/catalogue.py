"""The gallery: every figure of the five papers that a number can be put to, and what of them is not drawn, and why."""

from dataclasses import dataclass

from figures.gallery_figure import GalleryFigure

PAPERS = {
    "meir2025": "Perturbed training: Meir, Keidar, Reuveni and Hirshberg, arXiv 2502.04121 (v1)",
    "evans2011": "Restarts: Evans and Majumdar, Physical Review Letters 106, 160601",
    "kuhn2023": "The noise of mini-batches: Kühn and Rosenow, arXiv 2306.05300, and their slides of 2025",
    "mignacco2022": "How hot SGD is: Mignacco and Urbani, arXiv 2112.10852",
    "actcoolr2021": "Cooling by activation patterns: ActCooLR, OpenReview yqj6q_eNTJd",
    "satybaldiev2025": "Noise by the phase of training: Satybaldiev, manuscript",
}
"""Key in ``theory/references.bib`` -> heading, in the order of the page."""


@dataclass(frozen=True)
class NotDrawn:
    """A figure or table of a paper that is not in the gallery.

    Attributes:
        paper: key in ``theory/references.bib``.
        item: such as ``"Fig. 1"``.
        reason: why not.
    """

    paper: str
    item: str
    reason: str


def catalogue() -> tuple[GalleryFigure, ...]:
    """All figures of the gallery.

    Returns:
        By paper, in the order of ``PAPERS``.

    Raises:
        ValueError: if two figures have one name.

    Example:
        >>> catalogue()[0].name
        'digits_demo_training_time'
    """
    from figures import gallery_actcoolr, gallery_kuehn, gallery_meir, gallery_mignacco, gallery_satybaldiev

    modules = (gallery_meir, gallery_kuehn, gallery_mignacco, gallery_actcoolr, gallery_satybaldiev)
    found = [entry for module in modules for entry in module.FIGURES]
    names = [entry.name for entry in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"figures of the gallery must have names of their own; used twice: {', '.join(twice)}")
    order = list(PAPERS)
    return tuple(sorted(found, key=lambda entry: order.index(entry.paper)))


def not_drawn() -> tuple[NotDrawn, ...]:
    """Figures and tables of the five papers that no number can be put to, or that were not measured.

    Returns:
        By paper, in the order of ``PAPERS``.

    Example:
        >>> not_drawn()[0].item
        'Fig. 1'
    """
    return _NOT_DRAWN


_NOT_DRAWN = (
    NotDrawn("meir2025", "Fig. 1", "A schematic; `meir_trajectories` shows measured curves around a perturbation."),
    NotDrawn(
        "meir2025",
        "Fig. 6, trained full resets",
        "Not among the published curves; the line is exact (Eq. 5), and those of networks of ours are in "
        "`digits_demo_training_time`.",
    ),
    NotDrawn("meir2025", "Supporting information", "Not at hand."),
    NotDrawn("kuhn2023", "Figs. 4 and 5", "Examples of data sets."),
    NotDrawn("kuhn2023", "Fig. 8", "A picture of a loss landscape."),
    NotDrawn("kuhn2023", "Fig. 11", "A schematic of how examples are selected."),
    NotDrawn("kuhn2023", "Figs. 6, 7, 9, 10, 14, 15, 18 and 19", "Without a caption in the text that was at hand."),
    NotDrawn("kuhn2023", "Figs. 22 and 23", "A ResNet in place of LeNet: not measured."),
    NotDrawn(
        "mignacco2022",
        "The paper's own figures",
        "Only its abstract was at hand: what it claims is drawn, at parameters of ours.",
    ),
    NotDrawn(
        "actcoolr2021",
        "Figs. 1 to 3 and Tables 1 and 2, as printed",
        "ResNets and VGG-16 on CIFAR-10 and ImageNet, and Fashion-MNIST: not trained. Small networks on digits take "
        "their place.",
    ),
    NotDrawn("actcoolr2021", "Appendix", "Not at hand."),
    NotDrawn(
        "satybaldiev2025",
        "Tables I to IV and Fig. 1, as printed",
        "ResNet-18, VGG-16 and EfficientNet-B0 on CIFAR and ImageNet for 200 epochs: not trained. The same quantities "
        "are drawn for small networks on digits.",
    ),
)
