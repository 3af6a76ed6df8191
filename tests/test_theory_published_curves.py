"""The published curves of [meir2025], ResNet-18 on CIFAR-10, against reference/first_passage.md, sections 1.5 and 7.

Epochs count from 1; the paper's own numbers count from 0 and are one less.
"""

import functools
import math
from pathlib import Path

import numpy as np
import pytest

from tests.published_numbers import BRUTE
from theory.discrete_resetting import optimal_restart_interval, sharp_restart_mean
from theory.estimate import Estimate, agreement
from theory.hazard import constant_hazard_test, geometric_tail_mean
from theory.perturbed_once import PerturbedOnce
from theory.predicted_time import speed_up_lower_bound
from theory.prediction import PerturbationData
from theory.survival import FirstPassages, Survival

pytestmark = pytest.mark.shared

PERTURBATIONS = {"shrink_perturb": (94, 4.1702, 0.14), "partial_reset": (73, 6.2603, 0.085)}


@functools.cache
def read_curves(file: Path) -> np.ndarray:
    """Test accuracies, shape (runs, epochs)."""
    run, epoch, accuracy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    _, row = np.unique(run, return_inverse=True)
    values = np.full((row.max() + 1, int(epoch.max())), np.nan)
    values[row, epoch.astype(int) - 1] = accuracy
    return values


@pytest.fixture
def directory(shared_data: Path) -> Path:
    return shared_data / "meir2025_cifar10_resnet18"


@pytest.fixture
def unperturbed(directory: Path) -> FirstPassages:
    return FirstPassages.from_curves(read_curves(directory / "unperturbed.csv.gz"), 0.72)


def perturbed_every(directory: Path, perturbation: str, interval: int) -> FirstPassages:
    return FirstPassages.from_curves(read_curves(directory / f"{perturbation}_P{interval:03d}.csv.gz"), 0.72)


def perturbed_once(directory: Path, perturbation: str) -> PerturbedOnce:
    """Runs perturbed at epoch 100 (and at 200, which none of them lives to see)."""
    return PerturbedOnce.from_periodic(perturbed_every(directory, perturbation, 100), 100)


def prediction_data(directory: Path, unperturbed: FirstPassages, perturbation: str) -> PerturbationData:
    once = perturbed_once(directory, perturbation)
    return PerturbationData(unperturbed, once, replicates=500, rng=np.random.default_rng(0))


# ---- Unperturbed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "survival", "restricted_200"),
    [
        (
            0.72,
            {10: 1, 11: 0.991, 12: 0.907, 13: 0.736, 14: 0.637, 15: 0.571, 16: 0.522, 17: 0.498, 18: 0.479, 19: 0.469}
            | {20: 0.455, 25: 0.414, 30: 0.395, 40: 0.373, 50: 0.363, 100: 0.331, 150: 0.311, 200: 0.293},
            76.963,
        ),
        (0.715, {20: 0.125, 30: 0.105, 50: 0.088, 100: 0.082, 200: 0.067}, 28.672),
        (0.75, {1: 1, 100: 1, 200: 1}, 200),
    ],
)
def test_survival(directory: Path, target: float, survival: dict[int, float], restricted_200: float) -> None:
    curves = read_curves(directory / "unperturbed.csv.gz")
    assert curves.shape == (1000, 200)
    estimate = Survival.of(FirstPassages.from_curves(curves, target))
    assert {epoch: round(estimate.at(epoch), 10) for epoch in survival} == survival
    assert estimate.restricted_mean(200).value == pytest.approx(restricted_200, abs=1e-9)
    with pytest.raises(ValueError, match=r"of the runs are unfinished at epoch 200: E\[T\] is not identified"):
        estimate.mean()


def test_counts_and_restricted_means(directory: Path, unperturbed: FirstPassages) -> None:
    counts = "9 84 171 99 66 49 24 19 10 14 9 8 10 4 10 5 2 4 4 4 3 0 0 3 4 3 1 2 4 2"
    survival = Survival.of(unperturbed)
    assert survival.events[10:40].tolist() == [float(c) for c in counts.split()]
    assert survival.events[:10].sum() == 0
    assert (int(unperturbed.observed.sum()), int((~unperturbed.observed).sum())) == (707, 293)
    assert survival.restricted_mean(100).value == pytest.approx(45.734, abs=1e-9)
    # The criterion is >=; accuracies of 10,000 images often are 0.72 exactly.
    above = FirstPassages.from_curves(read_curves(directory / "unperturbed.csv.gz"), math.nextafter(0.72, 1))
    assert Survival.of(above).restricted_mean(100).value == pytest.approx(46.25, abs=0.005)


def test_hazard_is_not_constant_although_accuracies_look_stationary(unperturbed: FirstPassages) -> None:
    survival = Survival.of(unperturbed)
    early, late = constant_hazard_test(survival, 30, 100).hazard, constant_hazard_test(survival, 100).hazard
    assert early.value == pytest.approx(0.00259, abs=5e-6)
    assert late.value == pytest.approx(0.00122, abs=5e-6)
    assert constant_hazard_test(survival, 30).is_rejected
    with pytest.raises(ValueError, match=r"no geometric tail: the hazard is not constant after epoch 30"):
        geometric_tail_mean(survival, 30)


# ---- Restarts --------------------------------------------------------------------------------------------------------


def test_best_restart(unperturbed: FirstPassages) -> None:
    data = PerturbationData(unperturbed, replicates=2000, rng=np.random.default_rng(0))
    optimum = optimal_restart_interval(data.psi)
    assert (optimum.interval, optimum.is_boundary) == (18, False)
    assert optimum.mean == pytest.approx(30.4453, abs=5e-5)
    for interval, mean in [(15, 33.27), (20, 30.844), (100, 68.36)]:
        assert sharp_restart_mean(data.psi, interval) == pytest.approx(mean, abs=0.005)
    # Counted from 0 and put into the same formula, times give another optimum, which is wrong by two epochs.
    from_zero = data.psi[1:]
    naive = optimal_restart_interval(from_zero)
    assert (naive.interval, naive.mean) == (17, pytest.approx(28.53, abs=0.005))
    best = data.best_interval("restart", range(1, 201))
    assert best.interval == 18
    assert (best.low, best.high) in [(16, 20), (17, 20), (17, 19), (16, 19)]
    estimate = data.predict("restart", 18).mean
    assert estimate is not None
    assert estimate.interval95 == pytest.approx((28.5, 32.4), abs=0.35)
    assert estimate.standard_error == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("interval", [1, 5, 10])
def test_restarts_before_the_first_passage_never_end(unperturbed: FirstPassages, interval: int) -> None:
    data = PerturbationData(unperturbed, replicates=10, rng=np.random.default_rng(0))
    prediction = data.predict("restart", interval)
    assert prediction.mean is not None
    assert (prediction.mean.value, prediction.restricted_mean.value) == (math.inf, 200)
    assert prediction.reasons == (f"only 0 runs finish within P={interval}: too few for its standard error",)


# ---- Perturbed once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("perturbation", "counts"),
    [("shrink_perturb", [0, 0, 16, 14, 19, 28, 17]), ("partial_reset", [0, 0, 0, 0, 0, 8, 42, 19, 4])],
)
def test_residuals(directory: Path, perturbation: str, counts: list[int]) -> None:
    residuals = perturbed_once(directory, perturbation).residuals
    assert np.bincount(residuals.times).tolist() == counts
    n, mean, error = PERTURBATIONS[perturbation]
    assert residuals.n == n
    estimate = Survival.of(residuals).mean()
    assert estimate.value == pytest.approx(mean, abs=5e-5)
    assert estimate.standard_error == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("perturbation", list(BRUTE))
def test_brute_force_and_equation_9(directory: Path, unperturbed: FirstPassages, perturbation: str) -> None:
    data = prediction_data(directory, unperturbed, perturbation)
    for interval, (mean, error, rare) in BRUTE[perturbation].items():
        runs = perturbed_every(directory, perturbation, interval)
        assert runs.observed.all()
        measured = Estimate.from_samples(runs.times)
        assert measured.value == pytest.approx(mean, abs=5e-4)
        assert measured.standard_error == pytest.approx(error, rel=0.06)
        predicted = data.predict("rare", interval).mean
        assert predicted is not None
        assert predicted.value == pytest.approx(rare, abs=6e-4)


def test_delta_errors_of_equation_9_and_their_bootstrap(directory: Path, unperturbed: FirstPassages) -> None:
    data = prediction_data(directory, unperturbed, "shrink_perturb")
    for interval, error in [(5, 0.14), (15, 0.124), (20, 0.176), (30, 0.313), (50, 0.600)]:
        estimate = data.predict("rare", interval).mean
        assert estimate is not None
        assert estimate.standard_error == pytest.approx(error, abs=0.0011)
        low, high = estimate.interval()
        assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.12)


def test_equation_9_holds_late_and_fails_early(directory: Path, unperturbed: FirstPassages) -> None:
    data = prediction_data(directory, unperturbed, "shrink_perturb")
    deviations = {}
    for interval in BRUTE["shrink_perturb"]:
        predicted = data.predict("rare", interval).mean
        assert predicted is not None
        measured = Estimate.from_samples(perturbed_every(directory, "shrink_perturb", interval).times)
        error = math.hypot(predicted.standard_error, measured.standard_error)
        deviations[interval] = (predicted.value - measured.value) / error
    assert all(abs(deviations[p]) < 2 for p in (10, 15, 20, 30, 50, 100))
    assert all(deviations[p] > 4 for p in (3, 5, 7))


def test_equation_9_has_no_interior_optimum_here(directory: Path, unperturbed: FirstPassages) -> None:
    survival = Survival.of(unperturbed)
    assert survival.hazard.max() == pytest.approx(0.189, abs=5e-4)
    assert int(survival.hazard.argmax()) + 1 == 13
    data = prediction_data(directory, unperturbed, "shrink_perturb")
    assert survival.hazard.max() < 1 / 4.17
    best = data.best_interval("rare", range(29, 101))
    assert (best.interval, best.low, best.high, best.is_boundary) == (29, 29, 29, True)


def test_renewal_fails_before_the_quasi_steady_state_and_says_so(directory: Path, unperturbed: FirstPassages) -> None:
    data = prediction_data(directory, unperturbed, "shrink_perturb")
    early = data.predict("renewal", 2, relaxation_epoch=14)
    assert early.mean is not None
    assert early.mean.value == pytest.approx(13.75, abs=0.005)
    assert early.reasons == ("P=2 lies before the quasi-steady state, which begins at epoch 14",)
    # From P = 7 on all residuals (at most 6) end before the next perturbation: it is Eq. (9).
    for interval in (7, 20, 100):
        renewal, rare = data.predict("renewal", interval).mean, data.predict("rare", interval).mean
        assert renewal is not None
        assert rare is not None
        assert renewal.value == pytest.approx(rare.value, rel=1e-12)
        assert renewal.standard_error == pytest.approx(rare.standard_error, rel=1e-9)


def test_speed_up_has_a_lower_bound_only(directory: Path, unperturbed: FirstPassages) -> None:
    data = prediction_data(directory, unperturbed, "shrink_perturb")
    survival = Survival.of(unperturbed)
    prediction = data.predict("rare", 30)
    assert prediction.mean is not None
    assert speed_up_lower_bound(survival, prediction) == pytest.approx(76.963 / 22.680, rel=1e-4)
    brute = Estimate.from_samples(perturbed_every(directory, "shrink_perturb", 2).times)
    assert survival.restricted_mean(200).value / brute.value == pytest.approx(13.2, abs=0.05)


def test_restricted_means_of_predictions_and_brute_force_agree(directory: Path, unperturbed: FirstPassages) -> None:
    # What is compared when runs are cut at 40 epochs: both sides at that horizon.
    data = PerturbationData(
        unperturbed,
        perturbed_once(directory, "partial_reset"),
        horizon=40,
        replicates=10,
        rng=np.random.default_rng(0),
    )
    times = perturbed_every(directory, "partial_reset", 20).times
    prediction = data.predict("rare", 20)
    cut = np.minimum(times, 40)
    error = math.hypot(prediction.restricted_mean.standard_error, cut.std() / math.sqrt(len(cut)))
    assert abs(prediction.restricted_mean.value - cut.mean()) < 3 * error
    assert agreement(cut, prediction.restricted_mean.value)
    assert not agreement(cut, prediction.restricted_mean.value * 1.15)
