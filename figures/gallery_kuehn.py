"""The gallery's figures of the noise of mini-batches: Kühn and Rosenow's, and what we found beside them.

Figures are numbered as in the authors' slides of 2025, which are what could be read.

Reference: [kuhn2023] anti-correlated noise in SGD
"""

from figures import measured_noise, simulated_noise
from figures.gallery_figure import GalleryFigure

PAPER = "kuhn2023"

FIGURES: tuple[GalleryFigure, ...] = (
    GalleryFigure(
        name="noise_autocovariance",
        paper=PAPER,
        answers="Figs. 12 and 13",
        title="Correlation of the noise of mini-batches in time, without and with replacement",
        sources=("theory", "simulation"),
        data=(),
        draw=simulated_noise.draw_noise_autocovariance,
        agrees="Real batches of indices have the paper's autocovariance: without replacement, -1/M at first and then "
        "a straight line to zero at M; with replacement, none.",
        differs="Weights do not move here; in a network they do, and the noise of an epoch no longer sums to zero.",
    ),
    GalleryFigure(
        name="weight_trajectory",
        paper=PAPER,
        answers="Fig. 16",
        title="Weights in a toy loss: without replacement the flat direction is hardly explored",
        sources=("theory", "simulation"),
        data=(),
        draw=simulated_noise.draw_weight_trajectory,
        agrees="Where the noise is as strong as the curvature, weights drawn with replacement spread alike in both "
        "directions, and reshuffled ones little in the flat one, as theory (dashed) says.",
        differs="The paper's toy loss is not known; this one is a linear regression of two inputs.",
    ),
    GalleryFigure(
        name="weight_variance",
        paper=PAPER,
        answers="Fig. 17, theory",
        title="Weight variance, velocity variance and correlation time against curvature, by order of batches",
        sources=("theory", "simulation"),
        data=(),
        draw=simulated_noise.draw_weight_variance,
        agrees="The paper's equations 14 to 18 are right: variances agree with simulations, and with three other "
        "exact methods.",
        differs="Its approximations 19 and 20 are of leading order in the length of epochs: with 50 batches, far "
        "below the crossover, weight variance, velocity variance and correlation time are 38, 29 and 12 % below them. "
        "Shuffling once is ours.",
    ),
    GalleryFigure(
        name="lenet_weight_variance",
        paper=PAPER,
        answers="Figs. 17 and 24",
        title="Weight and velocity variance along 60 eigenvectors of the Hessian of LeNet",
        sources=("theory", "measured"),
        data=("weight_variance_lenet",),
        draw=measured_noise.draw_lenet_weight_variance,
        agrees="Reshuffling cools flat directions, from the predicted crossover curvature on; drawing with "
        "replacement leaves variances that do not depend on the curvature.",
        differs="In 8 runs of one network, variances are below theory: by 20.4 +- 1.6 % reshuffled and 31.7 +- 1.5 % "
        "with replacement (medians below the crossover); kinks of the ReLUs explain a part. The paper took more "
        "directions and all of CIFAR-10.",
    ),
    GalleryFigure(
        name="lenet_correlation_time",
        paper=PAPER,
        answers="Fig. 17 and the correlation times after it",
        title="The same in units of the noise of each direction, and the correlation time",
        sources=("theory", "measured"),
        data=("weight_variance_lenet",),
        draw=measured_noise.draw_lenet_correlation_time,
        agrees="All directions fall on one line for each order, and the correlation time bends where theory has it: "
        "towards a plateau reshuffled, on as 1 / curvature with replacement.",
        differs="60 directions reach to half the crossover curvature only, not far into the plateau; correlation "
        "times are short of theory, as variances are.",
    ),
    GalleryFigure(
        name="variance_collapse",
        paper=PAPER,
        answers="Figs. 20 and 21, theory",
        title="One curve for all learning rates, momenta and epochs",
        sources=("theory",),
        data=(),
        draw=simulated_noise.draw_variance_collapse,
        agrees="In units of independent batches all settings follow one function of x without parameters, which "
        "passes 0.54 at the paper's crossover; that function is ours.",
        differs="It is that of long epochs: at x = 0.1 the exact variance is 2.6 % below it where (1 - beta) M is "
        "100, and 22 % where it is 10.",
    ),
    GalleryFigure(
        name="variance_scan",
        paper=PAPER,
        answers="Figs. 20 and 21",
        title="Correlation time in a network for several learning rates, momenta and batch sizes",
        sources=("theory", "measured"),
        data=("variance_scan_digits",),
        draw=measured_noise.draw_variance_scan,
        agrees="Correlation times move with each hyper-parameter as theory says; of 1,260 comparisons of variances "
        "and times (60 directions, 16 runs, 10 % granted), 1,258 agree.",
        differs="A small network on digits stands in for LeNet; with 16 runs a direction must be some 30 to 40 % off "
        "to disagree.",
    ),
    GalleryFigure(
        name="variance_collapse_digits",
        paper=PAPER,
        answers="Figs. 20 and 21",
        title="Weight variances of a network, for all these, on one curve",
        sources=("theory", "measured"),
        data=("variance_scan_digits",),
        draw=measured_noise.draw_variance_collapse_digits,
        agrees="Variances that span a factor of 1,400 fall near one curve, and on the exact lines of their epochs; "
        "the noise of each direction is measured, nothing is fitted.",
        differs="Epochs of (1 - beta) M = 3 to 60 updates are too short for the one curve; and medians below the "
        "crossover are 2 to 15 % above theory, most for the highest learning rate, as noise comes with moving "
        "weights.",
    ),
    GalleryFigure(
        name="loss_fluctuations",
        paper=PAPER,
        answers="62 % less loss fluctuation",
        title="How much loss drawing without replacement spares",
        sources=("theory", "measured"),
        data=("loss_fluctuations_digits", "weight_variance_lenet"),
        draw=measured_noise.draw_loss_fluctuations,
        agrees="Reshuffled, fluctuations are smaller as predicted: by 31 +- 3 % in a network on digits (theory: 31 %; "
        "16 runs), by 30 +- 4 % in LeNet (theory: 25 %; 8 runs).",
        differs="62 % is a property of the paper's network: theory gives anything from 0 to 63 % here, by spectrum, "
        "momentum and epoch; and with replacement, -4 +- 5 % on digits where theory has 19 %: the direction that "
        "others are compared with is flat there, and measured 24 +- 4 % narrower than in theory; the loss itself is 5 "
        "% below it.",
    ),
    GalleryFigure(
        name="replacement_accuracy",
        paper=PAPER,
        answers="0.7 +- 0.2 % higher test accuracy",
        title="Test accuracy without replacement minus that with, in pairs of networks",
        sources=("measured",),
        data=("replacement_accuracy_digits",),
        draw=measured_noise.draw_replacement_accuracy,
        agrees="Reshuffled networks are better: by 0.39 points, with a 95 % interval from 0.04 to 0.74 (64 pairs).",
        differs="That is a small network on digits with 20 % wrong labels; LeNet on CIFAR-10 has not been repeated.",
    ),
    GalleryFigure(
        name="widening_valley",
        paper=PAPER,
        answers="Fig. 25",
        title="Noise in a widening valley: independent climbs, anti-correlated flattens",
        sources=("theory", "simulation"),
        data=(),
        draw=simulated_noise.draw_widening_valley,
        agrees="As in the paper: independent noise climbs to the edge of stability, anti-correlated noise goes to the "
        "flat end, and so does the noise of reshuffled batches; simulations (8 runs) are where our flow has them.",
        differs="The regulariser alone (dotted) is 19 % too high for Anti-PGD after 40,000 steps, and far too fast "
        "for reshuffled batches: 42 where 73 is right after 10,000 steps.",
    ),
    GalleryFigure(
        name="anti_pgd_digits",
        paper=PAPER,
        answers="Anti-PGD and flatter minima",
        title="Sharpness, loss and accuracy under Anti-PGD and under batches, in pairs",
        sources=("measured",),
        data=("widening_valley_digits",),
        draw=measured_noise.draw_anti_pgd_digits,
        agrees="Anti-PGD ends flatter than SGD with either order of batches: the trace of the Hessian is lower by 15 "
        "and 16 of 72 (8 fresh seeds).",
        differs="Its higher accuracy is not shown at 1 % for all nine comparisons drawn together (95 %: +1.8 to +5.8 "
        "and +1.2 to +4.2 points); reshuffled batches are not shown to end flatter; PGD, not drawn, hardly learns at "
        "this noise.",
    ),
    GalleryFigure(
        name="second_crossover",
        paper=PAPER,
        answers="",
        title="A second crossover, below which flat directions fluctuate more again",
        sources=("theory", "simulation", "measured"),
        data=("second_crossover_digits",),
        draw=simulated_noise.draw_second_crossover,
        agrees="In linear regression the variance rises above the paper's plateau as our theory says (16 runs), and "
        "does not with the noise kept fixed; in a network of tanh the rise is 1.02 +- 0.03 of theory (32 runs).",
        differs="In a network of ReLUs it is 0.62 +- 0.02 of theory with the Hessian; none of 200 directions of the "
        "smooth network is flatter than the second crossover; theory knows the noise within a factor of two (grey).",
    ),
    GalleryFigure(
        name="relu_kinks",
        paper=PAPER,
        answers="",
        title="A network of ReLUs is stiffer than its Hessian, as soon as weights move",
        sources=("measured",),
        data=("weight_variance_kinks",),
        draw=measured_noise.draw_relu_kinks,
        agrees="Over a ten-thousandth of a standard deviation the slope of the gradient is the Hessian's within 3 %, "
        "over more it is 12 to 41 % steeper: kinks, which no automatic differentiation sees.",
        differs="One small network, 17 directions, 6 runs; in the same network of tanh there is nothing of the kind.",
    ),
    GalleryFigure(
        name="lenet_training",
        paper=PAPER,
        answers="Fig. 26",
        title="Loss and accuracy of LeNet in training",
        sources=("measured",),
        data=("lenet_cifar10",),
        draw=measured_noise.draw_lenet_training,
        agrees="After 20 epochs LeNet has 65.0 and 63.8 % test accuracy (2 trainings); the paper gives 63.8 to 64.5 %.",
        differs="The paper's schedule, number of epochs and weight decay are not known; our images are coded as JPEG.",
    ),
)
