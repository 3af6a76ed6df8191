"""The gallery's figures of adaptive noise: the claims of [satybaldiev2025] beside what we measured, and theory."""

from figures import adaptive_noise_claims, noise_scale
from figures.gallery_figure import GalleryFigure

PAPER = "satybaldiev2025"
SUMMARY, SEEDS, EPOCHS = adaptive_noise_claims.SUMMARY, adaptive_noise_claims.SEEDS, adaptive_noise_claims.EPOCHS

FIGURES: tuple[GalleryFigure, ...] = (
    GalleryFigure(
        name="satybaldiev_time_to_target",
        paper=PAPER,
        answers="Table I",
        title="Epochs to the target accuracy, full noise against others",
        sources=("measured",),
        data=(SUMMARY, SEEDS),
        draw=adaptive_noise_claims.draw_time_to_target,
        agrees="The mean is 0.5 epochs below SGD's (2.3 below to 1.3 above, n = 8), and the paper's percentages (9 to "
        "24 % less time) lie inside all four intervals.",
        differs="Zero lies inside all four, too, so that nothing is shown; epochs are counted, since hours of other "
        "machines and networks cannot be compared.",
    ),
    GalleryFigure(
        name="satybaldiev_stability",
        paper=PAPER,
        answers="Table II",
        title="Variation of the validation loss over the last epochs",
        sources=("measured",),
        data=(SUMMARY, SEEDS),
        draw=adaptive_noise_claims.draw_stability,
        agrees="The loss varies less than with Adam, by 0.66 points (0.02 to 1.31, n = 8), about the paper's size, but "
        "not after Holm's correction.",
        differs="Against SGD (0.06 less, 0.00 to 0.12) and fixed noise (0.03 less, 0.07 less to 0.01 more) the paper's "
        "sizes are outside the intervals (n = 8), and a cosine without any noise is steadier by 0.78 points (0.56 to "
        "0.99), which is shown.",
    ),
    GalleryFigure(
        name="satybaldiev_accuracy",
        paper=PAPER,
        answers="Table III",
        title="Test accuracy, full noise against others",
        sources=("measured",),
        data=(SUMMARY, SEEDS),
        draw=adaptive_noise_claims.draw_accuracy,
        agrees="The means against SGD and fixed noise have the paper's sign: 0.05 points (-0.09 to 0.20) and 0.04 "
        "(-0.05 to 0.12), n = 8, not decided.",
        differs="All sizes of the paper (0.4 to 2.4 points) are outside the intervals, and Adam, with a learning rate "
        "of its own, has 0.54 points more (0.19 to 0.88, n = 8), not decided after Holm's correction.",
    ),
    GalleryFigure(
        name="satybaldiev_ablation",
        paper=PAPER,
        answers="Table IV",
        title="Test accuracy of the parts of the method, and of equally much noise",
        sources=("measured",),
        data=(SUMMARY, SEEDS),
        draw=adaptive_noise_claims.draw_ablation,
        agrees="Six of the seven means have the paper's sign, the largest is 0.09 points (-0.02 to 0.20, n = 8); none "
        "is decided.",
        differs="All sizes of the paper (0.4 to 1.5 points) are outside the intervals, and with equal noise phases and "
        "decay differ from fixed noise by at most 0.04 points (-0.09 to 0.16, n = 8).",
    ),
    GalleryFigure(
        name="satybaldiev_phases",
        paper=PAPER,
        answers="Fig. 1",
        title="Shares of the phases over training",
        sources=("measured",),
        data=(EPOCHS,),
        draw=adaptive_noise_claims.draw_phases,
        agrees="Exploration, convergence and fine-tuning follow one another in the paper's order in all runs (n = 8), "
        "with two changes in each.",
        differs="The shares are those of the task and of our thresholds: fine-tuning has 100 % of the last third, not "
        "92 %, begins after a quarter of the training, and does so without noise as well; the paper has no thresholds "
        "to repeat.",
    ),
    GalleryFigure(
        name="satybaldiev_noise_scale",
        paper=PAPER,
        answers="Section III.A",
        title="What the printed noise does to a weight",
        sources=("theory",),
        data=(),
        draw=noise_scale.draw_noise_scale,
        agrees="Theory only: with the paper's learning rate and weight decay an epsilon of 1e-4 ends with a standard "
        "deviation of 0.020 in each weight without curvature, as much as a wide layer begins with (0.021).",
        differs="The paper states no epsilon, so nobody can say where on these lines its trainings were; curvature, "
        "which makes the deviation smaller, is left out.",
    ),
)
