"""The gallery: its entries, tables, images and page belong together, and its sentences say what the tables say."""

import csv
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import gallery_toys
from figures.catalogue import PAPERS, catalogue, not_drawn
from figures.gallery_figure import SOURCES, GalleryFigure, gallery_png, rows_of
from figures.gallery_meir import FIGURES, NETWORKS
from figures.gallery_page import gallery_page
from figures.published_curves import (
    HORIZON,
    first_passages,
    intervals,
    measured_speed_up,
    prediction_data,
    residual_time,
)
from figures.published_summaries import summaries
from theory.discrete_resetting import optimal_restart_interval
from theory.survival import Survival

ROOT = Path(__file__).resolve().parents[1]
GALLERY, DATA = ROOT / "figures" / "gallery", ROOT / "figures" / "data"
ENTRIES = catalogue()
BY_NAME = {entry.name: entry for entry in ENTRIES}

LARGEST_IMAGE = 200_000
"""Bytes."""


def quick_ones() -> list[GalleryFigure]:
    """One of each paper that is drawn from tables alone; the slow test draws all."""
    from_tables = [entry for entry in ENTRIES if not {"theory", "simulation"} & set(entry.sources)]
    return [entry for paper in PAPERS for entry in [e for e in from_tables if e.paper == paper][:1]]


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def share_changed(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the pixels that differ by an eighth of the range or more: text and lines that moved."""
    return float((np.abs(one - other).max(axis=-1) > 32).mean())


# ---- Entries ---------------------------------------------------------------------------------------------------------


def test_entries_are_complete() -> None:
    for entry in ENTRIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
        assert set(entry.sources) <= set(SOURCES), entry.name
        assert entry.sources, entry.name
        assert entry.title, entry.name
        assert entry.agrees.endswith("."), entry.name
        assert not entry.differs or entry.differs.endswith("."), entry.name
        recorded = {"measured", "published curves"} & set(entry.sources)
        assert entry.data or not recorded, f"{entry.name}: what is recorded is in tables"


def test_papers_are_in_the_references() -> None:
    references = (ROOT / "theory" / "references.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{(\w+),", references, re.MULTILINE))
    assert set(PAPERS) <= keys
    assert {entry.paper for entry in ENTRIES} == set(PAPERS)
    assert {item.paper for item in not_drawn()} <= set(PAPERS)
    order = [list(PAPERS).index(entry.paper) for entry in ENTRIES]
    assert order == sorted(order)


def test_names_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BY_NAME) == len(ENTRIES)
    monkeypatch.setattr("figures.gallery_kuehn.FIGURES", FIGURES[:1])
    with pytest.raises(ValueError, match=r"must have names of their own; used twice: digits_demo_training_time"):
        catalogue()


@pytest.mark.parametrize("name", sorted({name for entry in ENTRIES for name in entry.data}))
def test_tables_say_where_they_come_from(name: str) -> None:
    lines = (DATA / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    provenance = [line for line in lines if line.startswith("#")]
    assert lines[: len(provenance)] == provenance, "comments stand above the header"
    assert re.search(r"\b2026-\d\d-\d\d\b", " ".join(provenance)), "a date"
    assert rows_of(name)


def test_a_table_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"figures/data/nothing\.csv does not exist"):
        rows_of("nothing")
    with pytest.raises(ValueError, match=r"no published runs with perturbation='full_reset', interval=20"):
        first_passages("full_reset", 20)


# ---- Images and page -------------------------------------------------------------------------------------------------


def test_committed_images_are_those_of_the_catalogue() -> None:
    assert {path.stem for path in GALLERY.glob("*.png")} == set(BY_NAME)
    assert {path.suffix for path in GALLERY.iterdir()} == {".png"}
    large = {path.name: path.stat().st_size for path in GALLERY.iterdir() if path.stat().st_size > LARGEST_IMAGE}
    assert large == {}


def test_committed_page_is_what_the_command_writes() -> None:
    page = gallery_page(ENTRIES, not_drawn(), images="../figures/gallery", tables="../figures/data")
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == page


def test_page_shows_a_selection() -> None:
    page = gallery_page(FIGURES[:1], not_drawn(), images="images", tables="tables")
    assert page.count("![") == 1
    assert "](images/digits_demo_training_time.png)" in page
    assert "[digits_demo.csv](tables/digits_demo.csv)" in page
    assert "| meir2025 | Fig. 1 |" in page
    assert "kuhn2023" not in page


@pytest.mark.parametrize("entry", quick_ones(), ids=lambda entry: entry.name)
def test_figures_draw(entry: GalleryFigure) -> None:
    figure = entry.draw()
    assert isinstance(figure, Figure)
    assert figure.axes


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_committed_images_are_redrawn(entry: GalleryFigure) -> None:
    drawn, committed = pixels(gallery_png(entry.draw())), pixels((GALLERY / f"{entry.name}.png").read_bytes())
    assert drawn.shape == committed.shape
    assert share_changed(drawn, committed) < 0.002
    # The same picture a few points lower is told from it.
    assert share_changed(np.roll(drawn, 8, axis=0), committed) > 0.01


def test_images_are_reproducible_and_small() -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2, 3])
    first, second = gallery_png(figure), gallery_png(figure)
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert len(first) < 10_000


# ---- Tables, and what is said about them -----------------------------------------------------------------------------


def test_published_first_passages() -> None:
    survival = Survival.of(first_passages())
    assert survival.n == 1000
    assert [round(survival.at(epoch), 3) for epoch in (11, 20, 50, 100, 200)] == [0.991, 0.455, 0.363, 0.331, 0.293]
    assert survival.restricted_mean(200).value == pytest.approx(76.963, abs=1e-9)
    assert Survival.of(first_passages(target=0.715)).restricted_mean(200).value == pytest.approx(28.672, abs=1e-9)
    assert not first_passages(target=0.75).observed.any()
    assert intervals("shrink_perturb") == [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100]
    assert all(first_passages(name, p).observed.all() for name in MEANS for p in intervals(name))


MEANS = {"shrink_perturb": {2: 5.828, 3: 6.319, 100: 44.328}, "partial_reset": {4: 11.564, 20: 19.617}}


@pytest.mark.parametrize("perturbation", list(MEANS))
def test_published_means(perturbation: str) -> None:
    for interval, mean in MEANS[perturbation].items():
        times = Survival.of(first_passages(perturbation, interval)).mean()
        assert times.value == pytest.approx(mean, abs=5e-4)
        ratio = measured_speed_up(perturbation, interval)
        assert ratio.value == pytest.approx(76.963 / times.value, rel=1e-12)
        # Both means err.
        assert ratio.standard_error / ratio.value > times.standard_error / times.value


def test_relaxation_epochs_as_told() -> None:
    rows = {row["target"]: row for row in rows_of("meir2025_relaxation")}
    published = [rows[target]["published"] for target in ("0.75", "0.72", "0.715")]
    assert published == ["18", "29", "27"]
    ours = sorted(int(row["relaxation"]) for row in rows.values())
    assert (ours[0], ours[-1]) == (14, 20)
    hazards = [float(rows["0.72"][f"hazard_{span}"]) for span in ("31_100", "101_200")]
    assert [f"{hazard:.4f}" for hazard in hazards] == ["0.0026", "0.0012"]
    assert float(rows["0.72"]["constant_hazard_p_value"]) == pytest.approx(1.2e-6, rel=0.05)
    said = BY_NAME["meir_quasi_steady_state"]
    assert "18, 29 and 27" in said.agrees
    assert "14 to 20" in said.differs
    # 1-based, from the p-values themselves.
    for target, epoch in (("0.75", 18), ("0.72", 29), ("0.715", 27)):
        values = [float(row["p_value"]) for row in rows_of("meir2025_accuracy") if row["target"] == target]
        assert next(t for t, p in enumerate(values, start=1) if p > 0.05) == epoch


def test_trajectories_as_told() -> None:
    arrival = {}
    for row in rows_of("meir2025_trajectories"):
        if int(row["after"]) > 0 and float(row["mean"]) >= 0.72:
            arrival.setdefault((row["perturbation"], row["interval"]), int(row["after"]))
    assert len(arrival) == 8
    assert set(arrival.values()) == {5, 6}
    assert residual_time("shrink_perturb", 100).value == pytest.approx(4.1702, abs=5e-5)


def test_residual_times_as_told() -> None:
    times = {p: residual_time("shrink_perturb", p) for p in intervals("shrink_perturb")}
    early, late = [times[p].value for p in (3, 4, 5, 7)], [times[p].value for p in times if p >= 10]
    assert (round(min(early), 1), round(max(early), 1)) == (3.2, 3.5)
    assert (round(min(late), 1), round(max(late), 1)) == (3.8, 4.2)
    above = [time for p, time in times.items() if time.value < p]
    weights = np.array([1 / time.standard_error**2 for time in above])
    values = np.array([time.value for time in above])
    chi_square = float((weights * (values - np.average(values, weights=weights)) ** 2).sum())
    assert (round(chi_square), len(above) - 1) == (69, 8)
    assert "chi-square 69 at 8 degrees of freedom" in BY_NAME["meir_residual_time"].differs


def test_speed_ups_as_told() -> None:
    deviations = {}
    for perturbation in MEANS:
        data = prediction_data(perturbation)
        for interval in intervals(perturbation):
            measured = Survival.of(first_passages(perturbation, interval)).mean()
            predicted = data.predict("rare", interval).mean
            assert predicted is not None
            error = math.hypot(predicted.standard_error, measured.standard_error)
            deviations[perturbation, interval] = abs(predicted.value - measured.value) / error
    assert max(z for (_, interval), z in deviations.items() if interval >= 10) < 2.6
    assert min(deviations["shrink_perturb", interval] for interval in (3, 5, 7)) > 4  # the control
    assert prediction_data("shrink_perturb").predict("rare", 3).speed_up.value == pytest.approx(10.7, abs=0.05)
    assert measured_speed_up("shrink_perturb", 2).value == pytest.approx(13.2, abs=0.05)
    assert optimal_restart_interval(prediction_data("full_reset").psi).interval == 18
    best = prediction_data("full_reset").best_interval("restart", range(1, 101))
    assert (best.interval, best.low, best.high) == (18, 17, 20)
    assert f"up to {HORIZON} epochs" in BY_NAME["meir_speed_up"].differs


def test_demo_tables_belong_together() -> None:
    predictions = {
        (row["perturbation"], row["predictor"], row["interval"]): row for row in rows_of("digits_demo_predictions")
    }
    assert float(predictions["none", "", ""]["predicted"]) == pytest.approx(46.125)
    compared = rows_of("digits_demo")
    for row in compared:
        predicted = predictions[row["perturbation"], row["predictor"], row["interval"]]
        assert float(predicted["predicted"]) == pytest.approx(float(row["predicted"]), rel=1e-4)
        assert (predicted["valid"] == "yes") == (row["verdict"] != "outside regime")
    assert sum(row["verdict"] == "agrees" for row in compared) == 7
    assert not any(row["verdict"] == "disagrees" for row in compared)
    rare = [row for row in compared if row["predictor"] == "rare"]
    assert all(row["verdict"] == "outside regime" for row in rare)
    worst = max(rare, key=lambda row: float(row["predicted"]) - float(row["measured"]))
    assert (round(float(worst["predicted"])), round(float(worst["measured"]))) == (67, 37)
    assert NETWORKS == 256


def test_toys_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_toys, "CELLS", 80)
    monkeypatch.setattr(gallery_toys, "PERTURBED_EVERY", ())  # simulated ones: the slow test
    (ax,) = gallery_toys.draw_trap_speed_up().axes
    assert ax.get_title(loc="left") == "Trap with a barrier, shrink and perturb (0.4, 0.1)"
    assert len(gallery_toys.draw_trap_quasi_steady_state().axes) == 2
    with pytest.raises(KeyboardInterrupt):  # what Ctrl-C has cut short is no figure
        gallery_toys._complete(199, 200)


@pytest.mark.slow
def test_trap_with_barrier_as_told() -> None:
    from figures.gallery_toys import BRANCH_EPOCH, CELLS, NOISE, SHRINK
    from theory import markov_chain, perturbed_chain
    from theory.epoch_walk import TRAP_WITH_BARRIER
    from theory.perturbation import perturbed_mean, renewal_mean

    grid = TRAP_WITH_BARRIER.chain(CELLS)
    chain, kernel = grid.chain, grid.shrink_and_perturb(SHRINK, NOISE)
    assert markov_chain.mean_first_passage_time(chain) == pytest.approx(1470.2, abs=0.1)
    survival = markov_chain.survival(chain, 100)
    residuals = perturbed_chain.residual_survival_once(chain, kernel, BRANCH_EPOCH, 100)
    residual_mean = perturbed_chain.residual_mean(chain, kernel, BRANCH_EPOCH)
    for interval, rare_error in ((10, 0.12), (20, 0.07)):
        exact = perturbed_chain.periodic_mean(chain, kernel, interval)
        rare = float(perturbed_mean(survival, interval, residual_mean))
        assert rare / exact - 1 == pytest.approx(rare_error, abs=0.005)
        assert abs(float(renewal_mean(survival, residuals, interval)) / exact - 1) < 0.003
    exact = perturbed_chain.periodic_mean(chain, kernel, 4)
    assert float(renewal_mean(survival, residuals, 4)) / exact > 1.05


@pytest.mark.slow
@pytest.mark.shared
def test_summaries_of_the_published_curves_are_the_committed_ones(shared_data: Path) -> None:
    written = summaries(shared_data / "meir2025_cifar10_resnet18")
    assert set(written) == {path.stem for path in DATA.glob("meir2025_*.csv")}
    for name, text in written.items():
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        anew, committed = list(csv.DictReader(lines)), rows_of(name)
        assert len(anew) == len(committed)
        for new, old in zip(anew, committed, strict=True):
            assert list(new) == list(old)
            for key, cell in new.items():
                try:
                    assert float(cell) == pytest.approx(float(old[key]), rel=1e-3, abs=1e-6), (name, key)
                except ValueError:
                    assert cell == old[key], (name, key)
