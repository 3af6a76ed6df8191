"""The gallery's figures of trainings: what is drawn is what the tables, the papers and theory say; so are the words."""

import math
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from scipy.special import stdtrit

from figures import actcoolr_links, actcoolr_trainings, adaptive_noise_claims, gallery_actcoolr, gallery_satybaldiev
from figures.actcoolr_links import fitted_links, sweeps_of
from figures.actcoolr_trainings import band_of, errors_by_epochs, final_errors
from figures.claimed_differences import ClaimedDifference, figure_claimed_differences
from figures.gallery_figure import SOURCES, GalleryFigure, rows_of
from figures.noise_scale import STEPS, weight_deviations
from tests.figure_checks import bars_of
from theory.activation_temperature import ErfLink, GaussianFlips, share_of
from theory.estimate import Estimate

ALL = (*gallery_actcoolr.FIGURES, *gallery_satybaldiev.FIGURES)
NAMED = {figure.name: figure for figure in ALL}


SWEPT = [(schedule, seed) for schedule in ("one_cycle", "step") for seed in range(4)]


def numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)


def y_of(ax: Axes, line: int) -> np.ndarray:
    return numbers(ax.lines[line].get_ydata())


def means_of(ax: Axes) -> list[float]:
    """Where the diamonds are, from above."""
    return [float(numbers(each.lines[0].get_xdata())[0]) for each in bars_of(ax)]


def intervals_of(ax: Axes) -> np.ndarray:
    return np.array([each.lines[2][0].get_segments()[0][:, 0] for each in bars_of(ax)])


def are_shown(ax: Axes) -> list[bool]:
    return [each.lines[0].get_markerfacecolor() != "white" for each in bars_of(ax)]


def marks_of(ax: Axes, marker: str) -> list[list[float]]:
    return [numbers(line.get_xdata()).tolist() for line in ax.lines if line.get_marker() == marker]


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_an_entry_says_what_it_is(entry: GalleryFigure) -> None:
    assert entry.paper in ("actcoolr2021", "satybaldiev2025")
    assert entry.answers
    assert set(entry.sources) <= set(SOURCES)
    assert ("measured" in entry.sources) == bool(entry.data)
    for name in entry.data:
        assert rows_of(name)
    for words in (entry.agrees, entry.differs):
        assert words.endswith(".")
        assert 40 < len(words) < 330


def test_names_are_different() -> None:
    assert len(NAMED) == len(ALL) == 14


# ---- Differences and claims ------------------------------------------------------------------------------------------


def test_rows_hold_pairs_means_intervals_and_claims() -> None:
    pairs = np.array([1.0, 2.0, 6.0])
    rows = [ClaimedDifference("a - b", pairs, True, (8.0, -1.0)), ClaimedDifference("c - d", -pairs)]
    figure = figure_claimed_differences("title", {"x": rows}, claim="claimed")
    (ax,) = figure.axes
    assert marks_of(ax, "o") == [[1.0, 2.0, 6.0], [-1.0, -2.0, -6.0]]
    assert means_of(ax) == [3.0, -3.0]
    assert marks_of(ax, "v") == [[-1.0, 8.0]]
    low, high = Estimate.from_samples(pairs).interval()
    assert intervals_of(ax)[0] == pytest.approx([low, high])
    assert ax.get_xlim()[0] < -high
    assert ax.get_xlim()[1] > high
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a \N{MINUS SIGN} b", "c \N{MINUS SIGN} d"]
    assert are_shown(ax) == [True, False]
    assert figure.legends[0].get_texts()[-1].get_text() == "claimed"


def test_rows_are_checked() -> None:
    with pytest.raises(ValueError, match=r"a: pairs of shape \(1,\) must be at least two finite numbers"):
        ClaimedDifference("a", np.array([1.0]))
    with pytest.raises(ValueError, match=r"a: claims=\(inf,\) must be finite"):
        ClaimedDifference("a", np.array([1.0, 2.0]), False, (math.inf,))
    with pytest.raises(ValueError, match="quantities is empty"):
        figure_claimed_differences("title", {})
    rows = [ClaimedDifference(label, np.array([1.0, 2.0])) for label in "ab"]
    with pytest.raises(ValueError, match="the same differences, in the same order"):
        figure_claimed_differences("title", {"x": rows, "y": rows[::-1]})


def summary(quantity: str, method: str, reference: str) -> dict[str, str]:
    """Of the table that the study itself wrote."""
    key = (quantity, method, reference)
    (row,) = [
        row for row in rows_of("adaptive_noise_digits") if (row["quantity"], row["method"], row["reference"]) == key
    ]
    return row


@pytest.mark.parametrize(
    ("name", "quantity", "references", "claims"),
    [
        # Sizes from the tables, by hand: 1 - 3.2 / 4.2 = 23.8 % and so on; 92.3 -> 93.8 is 1.5 points.
        ("time_to_target", "epochs", ("baseline", "fixed", "adam", "cosine"), (-0.238, -0.086, -0.158, -0.111)),
        ("stability", "cv", ("baseline", "fixed", "adam", "cosine"), (-0.447, -0.160, -0.276, None)),
        ("accuracy", "test_accuracy", ("baseline", "fixed", "adam", "cosine"), (1.5, 0.4, 0.7, None)),
    ],
)
def test_tables_of_noise_hold_our_differences_and_the_claims(
    name: str, quantity: str, references: tuple[str, ...], claims: tuple[float | None, ...]
) -> None:
    ax = NAMED[f"satybaldiev_{name}"].draw().axes[0]
    rows = [summary(quantity, "full", reference) for reference in references]
    assert means_of(ax) == pytest.approx([float(row["value"]) for row in rows], rel=1e-4)
    expected = np.array([[float(row["low"]), float(row["high"])] for row in rows])
    assert intervals_of(ax) == pytest.approx(expected, abs=1e-3)
    drawn = iter(marks_of(ax, "v"))
    for reference, claim in zip(references, claims, strict=True):
        if claim is not None:
            scale = 1.0 if name == "accuracy" else float(summary(quantity, reference, "")["value"])
            assert min(abs(found - claim * scale) for found in next(drawn)) < 6e-4 * abs(scale)
    assert next(drawn, None) is None


def test_the_cosine_is_the_only_difference_shown() -> None:
    for ax in NAMED["satybaldiev_stability"].draw().axes:
        assert are_shown(ax) == [False, False, False, True]
    for name in ("time_to_target", "accuracy", "ablation"):
        assert not any(are_shown(NAMED[f"satybaldiev_{name}"].draw().axes[0]))


def test_the_ablation_holds_equal_noise_without_claims() -> None:
    ax = NAMED["satybaldiev_ablation"].draw().axes[0]
    rows = [summary("test_accuracy", *pair) for pair in adaptive_noise_claims.ABLATION_PAIRS]
    assert means_of(ax) == pytest.approx([float(row["value"]) for row in rows], abs=1e-6)
    assert [claim for (claim,) in marks_of(ax, "v")] == pytest.approx([1.1, 0.6, 0.9, 1.5, 0.4, 0.9, 0.6])
    assert sum(mean > 0 for mean in means_of(ax)[:7]) == 6  # as the words say
    low, high = (max(abs(float(row[end])) for row in rows[-3:]) for end in ("low", "high"))
    assert max(low, high) < 0.161


def test_words_on_noise_are_those_of_the_table() -> None:
    words = {
        "time_to_target": [("epochs", "baseline")],
        "stability": [("cv", reference) for reference in ("adam", "baseline", "fixed", "cosine")],
        "accuracy": [("test_accuracy", reference) for reference in ("baseline", "fixed", "adam")],
    }
    for name, rows in words.items():
        entry = NAMED[f"satybaldiev_{name}"]
        digits = 1 if name == "time_to_target" else 2
        for quantity, reference in rows:
            row = summary(quantity, "full", reference)
            for column in ("value", "low", "high"):
                found = f"{abs(float(row[column])):.{digits}f}"
                assert found in entry.agrees + entry.differs, (name, reference, column)


def test_runs_below_the_target_are_those_of_the_table() -> None:
    ax = NAMED["satybaldiev_time_to_target"].draw().axes[1]
    for line, method in zip(ax.lines, adaptive_noise_claims.HOURS, strict=True):
        epochs = [float(row["epochs"]) for row in rows_of("adaptive_noise_digits_seeds") if row["method"] == method]
        assert numbers(line.get_xdata()).tolist() == [0.0, *sorted(epochs)]
        assert numbers(line.get_ydata()) == pytest.approx(1 - np.arange(9) / 8, abs=0.02)


def test_phases_are_those_of_the_table_and_of_the_paper() -> None:
    paper, full, _ = NAMED["satybaldiev_phases"].draw().axes
    bars = [each for each in paper.patches if isinstance(each, Rectangle)][::2]
    assert [bar.get_height() for bar in bars] == pytest.approx([0.78, 0.85, 0.92])
    assert [bar.get_width() for bar in bars] == [40, 80, 80]
    shares = np.array([patch.get_data()[0] for patch in full.patches if isinstance(patch, StepPatch)])
    assert shares[-1] == pytest.approx(np.ones(40), abs=1e-3)
    assert shares[0] == pytest.approx(adaptive_noise_claims.phases_of("full")[:, 0])
    thirds = [shares[0][:14].mean(), float(summary("exploration_first_third", "full", "")["value"])]
    assert thirds[0] == pytest.approx(thirds[1], abs=0.02)  # thirds of 800 steps are no whole epochs
    with pytest.raises(ValueError, match="method='adam' has no phases"):
        adaptive_noise_claims.phases_of("adam")


def test_noise_has_the_size_of_the_reference_table() -> None:
    """Against the table made by hand for eps of 1e-5, 1e-4, 1e-3, and a sum of the plain recursion."""
    ends = [weight_deviations(eps, weight_decay=0.0)[-1] for eps in (1e-5, 1e-4, 1e-3, 1e-2)]
    assert ends == pytest.approx([0.0028, 0.028, 0.280, 2.80], rel=2e-3)
    variance, kept = 0.0, 1 - 0.1 * 1e-4
    for _ in range(1000):
        variance = kept**2 * variance + 1e-8
    assert weight_deviations(1e-4)[999] == pytest.approx(math.sqrt(variance), rel=1e-9)
    left, right = NAMED["satybaldiev_noise_scale"].draw().axes
    assert y_of(left, 0) == pytest.approx(np.geomspace(1e-6, 1e-2, 41) * math.sqrt(STEPS), rel=1e-9)
    assert y_of(right, 0)[[0, -1]] == pytest.approx([1e-5, 1e-5 * math.sqrt(STEPS)], rel=1e-9)
    words = NAMED["satybaldiev_noise_scale"].agrees
    assert f"{weight_deviations(1e-4)[-1]:.3f}" == "0.020"
    assert "0.020" in words
    assert "0.021" in words


# ---- ActCooLR --------------------------------------------------------------------------------------------------------


def test_schedules_are_those_of_the_table() -> None:
    figure = NAMED["actcoolr_schedules"].draw()
    grid = np.array(figure.axes).reshape(4, 5)
    for column, schedule in enumerate(actcoolr_trainings.SCHEDULES):
        for ax, quantity in zip(grid[:, column], ("rate", "first", "network", "error"), strict=True):
            assert y_of(ax, 0) == pytest.approx(band_of(quantity, schedule, 25).median)
    assert len(grid[2, 4].lines) == 2  # with its target
    assert len(grid[2, 0].lines) == 1
    rates = band_of("rate", "cosine", 25)
    known = 0.05 * (1 + np.cos(np.pi * (rates.epochs * 12 - 1) / 300))  # step 1 has the whole learning rate
    assert rates.median == pytest.approx(known, abs=1e-3)
    with pytest.raises(ValueError, match="schedule='cosine' with budget=7 is not in"):
        band_of("rate", "cosine", 7)


def straightness(schedule: str, quantity: str, *, from_highest: bool) -> float:
    """The part of a median's variance that a straight line explains."""
    band, rate = band_of(quantity, schedule, 25), band_of("rate", schedule, 25)
    some = slice(int(rate.median.argmax()) if from_highest else 0, None)
    x, y = band.epochs[some], band.median[some]
    return 1 - float(np.var(y - np.polyval(np.polyfit(x, y, 1), x)) / np.var(y))


def test_words_on_schedules_are_those_of_the_table() -> None:
    entry, constant = NAMED["actcoolr_schedules"], band_of("first", "constant", 25)
    assert f"from {constant.median.max():.2f} to {constant.median[-1]:.3f} bits" in entry.agrees
    line = straightness("one_cycle", "first", from_highest=True)
    assert f"{line:.0%}".replace("%", " %") in entry.differs
    assert f"({straightness('constant', 'first', from_highest=False):.0%})".replace("%", " %") in entry.differs


def test_links_are_fitted_to_what_is_drawn() -> None:
    figure = NAMED["actcoolr_links"].draw()
    upper, lower = np.array(figure.axes).reshape(2, 4)
    for column, (layer, stage) in enumerate(actcoolr_links.STAGES):
        sweep = sweeps_of("one_cycle", 0, layer)[stage]
        shares = share_of(sweep.temperature)
        assert y_of(upper[column], 0) == pytest.approx(shares)
        location, scale, error = fitted_links("one_cycle", 0, layer, "erf")[stage]
        x = np.log(sweep.rates)
        by_hand = np.array([0.5 * (1 + math.erf((at - location) / (scale * math.sqrt(2)))) for at in x])
        residuals = y_of(lower[column], 1)
        assert residuals == pytest.approx(shares - by_hand, abs=1e-12)
        assert error == pytest.approx(float(np.sqrt(np.mean(residuals**2))))
        for moved, stretched in ((0.05, 1.0), (-0.05, 1.0), (0.0, 1.05), (0.0, 1 / 1.05)):
            other = ErfLink(location + moved, scale * stretched)
            assert np.mean((shares - other.share(x)) ** 2) > error**2


@pytest.mark.slow
def test_words_on_links_are_those_of_the_sweeps() -> None:
    fits = {
        (layer, link): np.array([fit for which in SWEPT for fit in fitted_links(*which, layer, link)])
        for layer in ("first", "network")
        for link in ("erf", "cloglog")
    }
    entry = NAMED["actcoolr_links"]
    assert {found.shape for found in fits.values()} == {(96, 3)}
    median = {key: f"{np.median(found[:, 2]):.3f}" for key, found in fits.items()}
    assert f"within {median['first', 'erf']}" in entry.agrees
    assert f"within {median['first', 'cloglog']}" in entry.differs
    assert f"({median['network', 'erf']} and {median['network', 'cloglog']}" in entry.differs
    for layer in ("first", "network"):
        better = fits[layer, "cloglog"][:, 2] < fits[layer, "erf"][:, 2]
        assert f"{better.sum()} of 96" in entry.differs
    sigmas, locations = fits["network", "erf"][:, 1], fits["network", "erf"][:, 0]
    assert f"{sigmas.min():.2f} to {sigmas.max():.2f}" in NAMED["actcoolr_rate_sweeps"].agrees
    assert f"moves by {np.ptp(locations):.0f} units" in NAMED["actcoolr_rate_sweeps"].agrees
    assert f"within {median['network', 'erf']}" in NAMED["actcoolr_rate_sweeps"].agrees
    above = 0
    for which in SWEPT:
        for sweep, (location, scale, _) in zip(
            sweeps_of(*which, "network"), fitted_links(*which, "network", "erf"), strict=True
        ):
            shares, link = share_of(sweep.temperature), ErfLink(location, scale).share(np.log(sweep.rates))
            some = (link < 0.1) & (shares > 0.005)  # less than one of the patterns is not seen
            above += bool((shares - link)[some].mean() > 0)
    assert f"in {above} of 96 sweeps" in NAMED["actcoolr_rate_sweeps"].differs


def test_the_map_holds_mean_temperatures() -> None:
    figure = NAMED["actcoolr_rate_sweeps"].draw()
    (mesh,) = [each for each in figure.axes[1].collections if isinstance(each, QuadMesh)]
    drawn = np.asarray(mesh.get_array()).reshape(25, 12)
    expected = np.mean([[sweep.temperature for sweep in sweeps_of("step", k, "network")] for k in range(4)], axis=0)
    assert drawn == pytest.approx(expected.T)
    assert mesh.get_cmap().N == actcoolr_links.LEVELS


def test_simulated_flips_follow_the_exact_law_and_not_the_papers() -> None:
    left, right = NAMED["actcoolr_flip_law"].draw().axes
    (bars,) = bars_of(left)
    strides, shares = (numbers(values) for values in bars.lines[0].get_data())
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    errors = (ends[:, 1] - ends[:, 0]) / 2 / float(stdtrit(199, 0.975)) + 1e-5  # in the last ones all patterns change
    exact = GaussianFlips(16, 1.0).share(np.log(strides))
    assert len(strides) == 13
    assert (np.abs(shares - exact) < 5 * errors).all()
    paper, small, none = (y_of(right, i) for i in range(3))
    assert none == pytest.approx(np.zeros(160), abs=1e-12)
    law = exact + np.interp(np.log(strides), np.log(numbers(right.lines[0].get_xdata())), paper)
    assert (np.abs(shares - law) > 8 * errors).sum() >= 5  # the same walks reject Eq. (5)
    entry = NAMED["actcoolr_flip_law"]
    assert f"up to {np.abs(paper).max():.3f} in P" in entry.differs
    assert f"by up to {np.abs(small).max():.3f}." in entry.differs


def test_cooling_lines_are_those_of_the_table() -> None:
    figure = NAMED["actcoolr_cooling"].draw()
    grid = np.array(figure.axes).reshape(3, 3)
    for column, lines in enumerate(actcoolr_trainings.COLUMNS.values()):
        for place, (_, schedule, budget) in enumerate(lines):
            assert y_of(grid[0, column], 2 * place) == pytest.approx(band_of("network", schedule, budget).median)
            assert y_of(grid[1, column], place) == pytest.approx(band_of("rate", schedule, budget).median)
            assert y_of(grid[2, column], place) == pytest.approx(band_of("error", schedule, budget).median)
            target = band_of("target", schedule, budget)
            gamma = float((re.findall(r"gamma=([\d.]+)", schedule) or ["1"])[0])
            start = 3.17 if "3.17" in schedule else 1.0
            assert target.median == pytest.approx(start * (1 - (target.epochs / budget) ** gamma), rel=2e-3, abs=2e-3)
        assert len({str(line._unscaled_dash_pattern) for line in grid[1, column].lines}) == len(lines)  # for print


def test_words_on_cooling_are_those_of_the_table() -> None:
    factors, broken = [], {}
    for _, schedule, budget in [line for lines in list(actcoolr_trainings.COLUMNS.values())[:2] for line in lines]:
        rows = [row for row in rows_of(actcoolr_trainings.SEEDS) if row["schedule"] == schedule]
        rows = [row for row in rows if row["budget"] == str(budget)]
        factors.append(math.exp(np.median([float(row["tracking_error"]) for row in rows])))
        broken[schedule] = sum(row["trained"] == "0" for row in rows)
    entry = NAMED["actcoolr_cooling"]
    assert f"a factor of {min(factors):.1f} to {max(factors):.1f}" in entry.agrees
    assert {name for name, count in broken.items() if count} == {"actcoolr:t_start=3.17,gamma=2"}
    assert f"breaks {max(broken.values())} of 4" in entry.differs
    best = Estimate.from_samples(100 * final_errors("actcoolr:t_start=3.17,gamma=0.5", 25))
    assert "{:.1f} %, {:.1f} to {:.1f}".format(best.value, *best.interval()) in entry.differs


def test_errors_and_their_words() -> None:
    figure: Figure = NAMED["actcoolr_error_by_epochs"].draw()
    assert list(y_of(figure.axes[0], 0)) == list(actcoolr_trainings.PAPER_EPOCHS.values())
    found = {budget: mean for budget, _, mean in errors_by_epochs("actcoolr:t_start=3.17")}
    words = " to ".join("{:.1f} % ({:.1f} to {:.1f}".format(found[b].value, *found[b].interval()) for b in (5, 25))
    assert words.replace(" to 2.4", ") to 2.4") in NAMED["actcoolr_error_by_epochs"].agrees
    assert found[50].interval()[1] == 100
    broken = 100 * final_errors("actcoolr:t_start=3.17", 50)
    assert f"{broken.min():.0f} to {broken.max():.0f} %" in NAMED["actcoolr_error_by_epochs"].differs
    assert f"{100 * final_errors('actcoolr', 50).max():.0f} %" in NAMED["actcoolr_error_by_epochs"].differs
    panels = NAMED["actcoolr_final_errors"].draw().axes
    expected = [final_errors(schedule, 25).mean() for schedule in actcoolr_trainings.WORDS]
    assert means_of(panels[1]) == pytest.approx(expected)
    for name in ("actcoolr", "constant"):
        mean = Estimate.from_samples(100 * final_errors(name, 25))
        entry = NAMED["actcoolr_final_errors"]
        low, high = mean.interval()
        assert f"{mean.value:.1f} % ({low:.1f} to {high:.1f}" in entry.agrees + entry.differs
    with pytest.raises(ValueError, match="schedule='cosine' with budget=50 is not in"):
        final_errors("cosine", 50)


def test_differences_to_other_schedules_are_those_of_pairs() -> None:
    ten, all_epochs = NAMED["actcoolr_differences"].draw().axes
    expected = [
        100 * float(np.mean(final_errors(schedule, 25) - final_errors(other, 25)))
        for schedule in ("actcoolr", "actcoolr:t_start=3.17")
        for other in ("constant", "step", "cosine", "one_cycle")
    ]
    assert means_of(all_epochs) == pytest.approx(expected)
    assert [claim for (claim,) in marks_of(ten, "v")] == pytest.approx([0.34, 0.52, 0.61] * 2)
    assert not any(are_shown(ten))
    means = expected[:4]
    assert f"{min(means):.1f} to {max(means):.1f} points more" in NAMED["actcoolr_differences"].agrees
