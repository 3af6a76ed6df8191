"""The gallery's figures of activation-pattern temperature, beside [actcoolr2021]: trainings on digits, and theory."""

from figures import actcoolr_links, actcoolr_trainings
from figures.gallery_figure import GalleryFigure

PAPER = "actcoolr2021"
STEPS, EPOCHS, SEEDS = actcoolr_trainings.STEPS, actcoolr_trainings.EPOCHS, actcoolr_trainings.SEEDS

FIGURES: tuple[GalleryFigure, ...] = (
    GalleryFigure(
        name="actcoolr_schedules",
        paper=PAPER,
        answers="Fig. 1",
        title="Learning rate, temperature and error under five schedules",
        sources=("measured",),
        data=(STEPS, EPOCHS),
        draw=actcoolr_trainings.draw_schedules,
        agrees="Under all five schedules T goes to zero, and at a constant learning rate it does so by itself, that of "
        "the first ReLU from 0.45 to 0.002 bits (medians of 4 seeds), as the paper says.",
        differs="1-cycle does not cool in a straight line here: T rises with the learning rate, and from its highest "
        "on a line explains 71 % of the median's variance, as much as at a constant learning rate (70 %).",
    ),
    GalleryFigure(
        name="actcoolr_rate_sweeps",
        paper=PAPER,
        answers="Fig. 2",
        title="Temperature of the same step at other learning rates, over a training",
        sources=("measured",),
        data=(actcoolr_links.SWEEPS,),
        draw=actcoolr_links.draw_rate_sweeps,
        agrees="Sigma hardly moves, 1.09 to 1.51 in all 96 sweeps (4 seeds), while mu moves by 6 units, as in the "
        "paper; the erf link fits P within 0.018 (root mean square, median).",
        differs="What it leaves is no scatter: in 95 of 96 sweeps more patterns change at small learning rates (where "
        "it has P below 0.1) than it says.",
    ),
    GalleryFigure(
        name="actcoolr_links",
        paper=PAPER,
        answers="Fig. 2",
        title="Shares of changed patterns, with the paper's link and ours",
        sources=("measured",),
        data=(actcoolr_links.SWEEPS,),
        draw=actcoolr_links.draw_links,
        agrees="Eq. (5) fits the share of changed patterns of the first ReLU within 0.020 (root mean square, median of "
        "96 sweeps of 4 seeds).",
        differs="T in proportion to a power of the learning rate, our cloglog link, fits it within 0.007 and better in "
        "93 of 96 sweeps; for the mean of the layers neither is better (0.018 and 0.020, 41 of 96).",
    ),
    GalleryFigure(
        name="actcoolr_flip_law",
        paper=PAPER,
        answers="Eq. (5)",
        title="The paper's law of flips beside simulated ones, and their exact law",
        sources=("theory", "simulation"),
        data=(),
        draw=actcoolr_links.draw_flip_law,
        agrees="Simulated shares of patterns (200 walks of 256 patterns) agree with the exact law at all 13 lengths of "
        "a step.",
        differs="Gaussian pre-activations do not make Eq. (5), which the paper argues from them: fitted as in the "
        "paper it is off by up to 0.038 in P, and proportionality, the law of small steps, by up to 0.007.",
    ),
    GalleryFigure(
        name="actcoolr_cooling",
        paper=PAPER,
        answers="Fig. 3",
        title="Cooling along several targets, and with several numbers of epochs",
        sources=("measured",),
        data=(STEPS, EPOCHS),
        draw=actcoolr_trainings.draw_cooling,
        agrees="T stays within a factor of 1.2 to 1.5 of its targets (median over steps and 4 seeds), and is higher "
        "for longer with a larger gamma, as in the paper.",
        differs="The paper finds gamma above 1 favourable; from its start of 3.17 bits gamma = 2 breaks 2 of 4 "
        "networks and 0.5 none (error 1.7 %, 0.9 to 2.5), and from 1 bit none breaks and no gamma stands out (4 "
        "seeds).",
    ),
    GalleryFigure(
        name="actcoolr_error_by_epochs",
        paper=PAPER,
        answers="Table 2",
        title="Error against the number of epochs",
        sources=("measured",),
        data=(SEEDS,),
        draw=actcoolr_trainings.draw_error_by_epochs,
        agrees="From 5 to 25 epochs the error falls as in the paper, with its start of 3.17 bits from 6.7 % (3.8 to "
        "9.6) to 2.4 % (0.6 to 4.2; 4 seeds).",
        differs="With 50 epochs it does not: from 3.17 bits none of 4 networks trains (errors of 56 to 90 %), and from "
        "1 bit one of 4 ends with 39 %, after learning rates had risen to hold T.",
    ),
    GalleryFigure(
        name="actcoolr_final_errors",
        paper=PAPER,
        answers="Table 1",
        title="Test errors of nine schedules",
        sources=("measured",),
        data=(SEEDS,),
        draw=actcoolr_trainings.draw_final_errors,
        agrees="With 25 epochs errors of ActCooLR from 1 bit are 2.3 % (1.1 to 3.5, 4 seeds), those of the four other "
        "schedules 1.8 to 2.0 %.",
        differs="None of the five variants drawn has a lower mean than a constant learning rate there, 1.8 % (1.3 to "
        "2.3), and without a cap one of 4 networks breaks; the paper's networks and data, ABEL and AutoLRS were not "
        "trained.",
    ),
    GalleryFigure(
        name="actcoolr_differences",
        paper=PAPER,
        answers="Table 1",
        title="Errors of ActCooLR less those of other schedules, seed by seed",
        sources=("measured",),
        data=(SEEDS,),
        draw=actcoolr_trainings.draw_differences,
        agrees="With 25 epochs ActCooLR from 1 bit has 0.3 to 0.5 points more errors than others, and the paper's own "
        "0.3 to 0.6 points more lie in these intervals (4 pairs).",
        differs="No difference is shown in either direction (Holm, 1 %); that ActCooLR exceeds tuned schedules, as the "
        "abstract says, is seen neither here nor in Table 1, where it is behind each of these three.",
    ),
)
