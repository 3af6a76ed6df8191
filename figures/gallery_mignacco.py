"""The gallery's figures of how hot SGD is: the three claims of Mignacco and Urbani, in their model and in networks.

Of the paper only the abstract could be read: its figures are not numbered here, and parameters are ours.

Reference: [mignacco2022] effective temperature, distance of replicas, wider boundaries
"""

from figures import temperature_and_width as drawn
from figures.gallery_figure import GalleryFigure

PAPER = "mignacco2022"

FIGURES: tuple[GalleryFigure, ...] = (
    GalleryFigure(
        name="mixture_temperature",
        paper=PAPER,
        answers="effective temperature",
        title="Effective temperature of SGD on a mixture, by order of batches",
        sources=("theory", "simulation"),
        data=("mixture_relaxation",),
        draw=drawn.draw_mixture_temperature,
        agrees="From fluctuation and response, by mean-field theory, SGD has a temperature that rises with "
        "persistence; simulations with N = 800 agree (80 of 80 comparisons, 24 runs).",
        differs="It is no single temperature: with the lag it falls to zero for reshuffled batches and rises 15 times "
        "for persistent ones of tau = 12.8. The paper's parameters are not known.",
    ),
    GalleryFigure(
        name="mixture_relaxation",
        paper=PAPER,
        answers="effective temperature",
        title="Correlation and response of SGD on a mixture, and one against the other",
        sources=("theory", "simulation"),
        data=("mixture_relaxation",),
        draw=drawn.draw_mixture_relaxation,
        agrees="The response is the same for all orders, the fluctuations are not: that is the temperature, the slope "
        "of one against the other.",
        differs="In equilibrium the third panel would have straight lines; only that of Bernoulli batches is nearly "
        "one.",
    ),
    GalleryFigure(
        name="mixture_noise",
        paper=PAPER,
        answers="both measures of noise against the parameters",
        title="Effective temperature and distance of replicas against batch fraction and persistence",
        sources=("theory", "simulation"),
        data=("mixture_noise",),
        draw=drawn.draw_mixture_noise,
        agrees="Both measures rise with persistence, and behave alike in the batch fraction: rank correlation 0.99 "
        "over 12 orders by theory, both in one setting; simulated distances (N = 400, 24 runs) agree.",
        differs="Neither always rises as batches get smaller; the force of a batch is not divided by its fraction b "
        "here.",
    ),
    GalleryFigure(
        name="mixture_temperature_distance",
        paper=PAPER,
        answers="both measures of noise beside each other",
        title="Temperature where training errors stay against distance of replicas where they vanish",
        sources=("theory",),
        data=("mixture_noise",),
        draw=drawn.draw_mixture_temperature_distance,
        agrees="Noisy orders are noisy in both regimes: rank correlation 0.91 over 12 orders, between two settings, as "
        "in the paper; where both are taken in the first (`mixture_noise`) it is 0.99.",
        differs="Not within Bernoulli batches: from b = 0.25 to 0.1 the temperature falls by 38 % and the distance "
        "becomes 2.6 times as large. At step 100, 0 to 5 % of the training samples were still wrong.",
    ),
    GalleryFigure(
        name="mixture_boundary_width",
        paper=PAPER,
        answers="wider decision boundaries",
        title="Width of the boundary after noisy training of the mixture, by loss and quantile",
        sources=("simulation",),
        data=("mixture_boundary_width",),
        draw=drawn.draw_mixture_boundary_width,
        agrees="If training stops at the first boundary that is right, persistent noise makes it wider: by 0.016 +- "
        "0.002 at the 10 % quantile, tau = 12.8 (10 replicas).",
        differs="If all margins have to be reached, noise makes the boundary narrower where it is narrow (-0.017 +- "
        "0.001 at tau = 25.6, 16 replicas) and wider in the middle.",
    ),
    GalleryFigure(
        name="network_temperature",
        paper=PAPER,
        answers="both measures of noise, in a network",
        title="Temperature of networks against the lag, and distance of their replicas in training",
        sources=("theory", "measured"),
        data=("effective_temperature_curves_digits", "effective_temperature_digits"),
        draw=drawn.draw_network_temperature,
        agrees="Batches with replacement have the temperature of linear theory (1.01 +- 0.03 and 0.96 +- 0.04 of it, "
        "6 seeds) at all lags; reshuffled ones are colder, persistent ones hotter.",
        differs="Persistent batches of 20 are at 0.13 +- 0.01 of linear theory, small reshuffled ones 1.5 times as "
        "hot as it.",
    ),
    GalleryFigure(
        name="network_widths",
        paper=PAPER,
        answers="replicas and boundaries, in a network",
        title="Distance of replicas and width of the boundary against the temperature, in networks",
        sources=("measured",),
        data=("effective_temperature_curves_digits", "effective_temperature_digits"),
        draw=drawn.draw_network_widths,
        agrees="The distance of replicas rises with the temperature: rank correlation 0.92 over 8 conditions (95 %: "
        "0.84 to 0.99, 6 seeds).",
        differs="Whether the boundary widens depends on when one stops.",
    ),
    GalleryFigure(
        name="network_width_ranks",
        paper=PAPER,
        answers="wider decision boundaries, in a network",
        title="Are boundaries wider where it is hotter? By when training stops",
        sources=("measured",),
        data=("effective_temperature_digits",),
        draw=drawn.draw_network_width_ranks,
        agrees="At equal training loss hotter networks have larger margins: rank correlation 0.65 (95 %: 0.45 to "
        "0.84, 6 seeds), and 0.74 (0.48 to 1.00) with fresh seeds.",
        differs="After equal short times they have smaller ones, and once the noise is switched off no difference is "
        "shown; nor is there one in the distance along the gradient at equal loss.",
    ),
)
