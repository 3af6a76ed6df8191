import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from theory.chain_sampling import sample_first_passages
from theory.hazard import constant_hazard_test
from theory.quasi_steady_state import (
    MINIMUM_SURVIVORS,
    distance_to,
    kolmogorov_smirnov_p_values,
    kolmogorov_smirnov_relaxation,
    stationarity,
    survivors,
)
from theory.survival import FirstPassages, Survival
from theory.toy_chains import hidden_label_chain


def unfinished(n: int, epochs: int) -> FirstPassages:
    return FirstPassages(np.full(n, epochs), np.full(n, False))


def persistent(n: int, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal at each epoch, with correlation 0.5 between any two epochs of a run."""
    return (rng.normal(size=(n, 1)) + rng.normal(size=(n, epochs))) / math.sqrt(2)


def relaxing(n: int, epochs: int, rng: np.random.Generator, rate: float = 0.6) -> np.ndarray:
    """Shifted by 3 * rate^(t - 1) standard deviations; by default 0.389 at epoch 5, 0.233 at 6, 0.024 at 10."""
    return persistent(n, epochs, rng) - 3 * rate ** np.arange(epochs)


# ---- Who survives ----------------------------------------------------------------------------------------------------


def test_survivors() -> None:
    values = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, np.nan, 3.0, 4.0], [1.0, 2.0, np.nan, np.nan]])
    runs = FirstPassages(np.array([3, 4, 2]), np.array([True, False, False]))
    assert survivors(values, runs).tolist() == [
        [True, True, False, False],  # T = 3: it no longer counts after epoch 3
        [True, False, True, True],  # an evaluation was left out
        [True, True, False, False],  # stopped after epoch 2
    ]


# ---- Distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "largest_bias"), [(20, 0.06), (50, 0.03), (200, 0.02)])
@pytest.mark.parametrize("kind", ["wasserstein", "kolmogorov_smirnov"])
def test_distances_of_one_law_are_zero_on_average(kind: str, n: int, largest_bias: float, seed: int) -> None:
    rng, found, naive = np.random.default_rng(seed), [], []
    for _ in range(60):
        x = persistent(n, 16, rng)
        found.append(stationarity(x, unfinished(n, 16), reference=(5, 16), rng=rng, kind=kind, replicates=60).distance)
        late = x[:, 4:].ravel()
        naive.append(
            stats.wasserstein_distance(x[:, 0], late) if kind == "wasserstein" else stats.ks_2samp(x[:, 0], late)[0]
        )
    assert abs(np.mean(found)) < largest_bias
    assert np.mean(naive) > 2 * largest_bias  # what samples of one law are apart by chance


@pytest.mark.parametrize(("n", "shift"), [(50, 0.5), (50, 1.0), (300, 0.25), (300, 0.5)])
def test_distance_of_a_shift_is_the_shift(n: int, shift: float, seed: int) -> None:
    rng, distance, covered = np.random.default_rng(seed), [], []
    for _ in range(60):
        x = persistent(n, 24, rng)
        x[:, :4] += shift
        result = stationarity(x, unfinished(n, 24), reference=(5, 24), rng=rng, replicates=100)
        distance.append(result.distance[:4])
        covered.append((result.low[:4] <= shift) & (shift <= result.high[:4]))
    assert np.mean(distance) == pytest.approx(shift, abs=0.06)
    # 240 intervals, correlated within a data set
    assert 0.87 < np.mean(covered) < 0.995


def test_wasserstein_distance_is_that_of_scipy_and_does_not_depend_on_units(seed: int) -> None:
    x = relaxing(2000, 12, np.random.default_rng(seed))
    late = x[:, 7:].ravel()

    def first_distance(values: np.ndarray) -> float:
        rng = np.random.default_rng(seed)
        result = stationarity(values, unfinished(2000, 12), reference=(8, 12), rng=rng, replicates=30)
        return float(result.distance[0])

    expected = stats.wasserstein_distance(x[:, 0], late) / late.std()
    assert first_distance(x) == pytest.approx(expected, rel=0.05)  # 200 points, few of them so far out
    assert first_distance(3e-4 * x + 0.7) == pytest.approx(first_distance(x), rel=1e-6)


def test_a_narrow_late_law_is_resolved_beside_wide_early_ones(seed: int) -> None:
    # As with accuracies, which rise from 0.1 to 0.7 and then stay within 0.01.
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, 40))
    x[:, :10], x[:, 10] = 200 * x[:, :10] - 300, x[:, 10] - 0.3
    result = stationarity(x, unfinished(1000, 40), reference=(21, 40), rng=rng, replicates=30)
    expected = stats.wasserstein_distance(x[:, 10], x[:, 20:].ravel()) / x[:, 20:].std()
    assert result.distance[10] == pytest.approx(expected, rel=0.03)


def test_distance_is_nan_where_fewer_than_two_survive(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.repeat([4, 7, 12], [30, 29, 1])
    runs = FirstPassages(times, times < 12)
    result = stationarity(rng.normal(size=(60, 12)), runs, reference=(2, 6), rng=rng, replicates=50)
    known = np.isfinite(result.distance)
    assert known.tolist() == [True] * 6 + [False] * 6
    assert (np.isfinite(result.low) == known).all()
    assert (result.low[known] <= result.high[known]).all()


# ---- The relaxation epoch --------------------------------------------------------------------------------------------


def test_relaxation_epoch_of_a_known_process(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = relaxing(2000, 40, rng)
    for tolerance, epoch in [(0.3, 6), (0.5, 5)]:
        result = stationarity(x, unfinished(2000, 40), reference=(15, 40), rng=rng, tolerance=tolerance)
        assert result.relaxation_epoch == epoch
        low, high = result.relaxation_interval
        assert low is not None
        assert high is not None
        assert low <= epoch <= high <= low + 2


def test_relaxation_epoch_does_not_grow_with_the_number_of_runs_but_the_published_one_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    by_distance, by_p_value = [], []
    for n in (100, 400, 3200):
        x = relaxing(n, 50, rng, 0.75)  # 0.400 at epoch 8, 0.300 at 9, 0.225 at 10
        result = stationarity(x, unfinished(n, 50), reference=(25, 50), rng=rng, tolerance=0.26, replicates=60)
        by_distance.append(result.relaxation_epoch)
        by_p_value.append(kolmogorov_smirnov_relaxation(x, unfinished(n, 50), reference=(25, 50)))
    assert by_distance[0] in range(6, 15)
    assert by_distance[1] in range(8, 13)
    assert by_distance[2] in (9, 10, 11)
    assert by_p_value[2] >= by_p_value[0] + 3


def test_a_drift_never_relaxes_unless_it_is_small(seed: int) -> None:
    rng, drift = np.random.default_rng(seed), np.linspace(0, 1, 50)
    x = persistent(400, 50, rng)
    for kind in ("wasserstein", "kolmogorov_smirnov"):
        large = stationarity(x + 4 * drift, unfinished(400, 50), reference=(20, 50), rng=rng, kind=kind)
        assert large.relaxation_epoch is None
        assert large.relaxation_interval[1] is None
        small = stationarity(x + 0.1 * drift, unfinished(400, 50), reference=(20, 50), rng=rng, kind=kind)
        assert small.relaxation_epoch == 1
    # The published criterion takes the moment at which the drift crosses its own mean for a steady state.
    assert kolmogorov_smirnov_relaxation(x[:60] + 1.5 * drift, unfinished(60, 50), reference=(20, 50)) is not None


def test_a_handful_of_late_survivors_cannot_spoil_the_relaxation_epoch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = persistent(300, 60, rng)
    x[:, 49:52] += 3.0  # three epochs at which something happened
    found = {}
    for late in (MINIMUM_SURVIVORS - 1, MINIMUM_SURVIVORS):
        times = np.where(np.arange(300) < late, 60, 40)
        result = stationarity(x, FirstPassages(times, times < 60), reference=(5, 60), rng=rng)
        assert (result.low[49:52] > result.tolerance).all()
        found[late] = result.relaxation_epoch
    assert found[MINIMUM_SURVIVORS - 1] == 1
    assert found[MINIMUM_SURVIVORS] is None or found[MINIMUM_SURVIVORS] > 52


def test_hidden_labels_look_stationary_from_the_first_epoch_and_the_hazard_tells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = sample_first_passages(hidden_label_chain().chain, 1000, rng, horizon=60)
    x = rng.normal(size=(1000, 60))  # whatever is observed has nothing to do with the label
    result = stationarity(x, runs, reference=(20, 60), rng=rng)
    assert result.relaxation_epoch == 1
    assert kolmogorov_smirnov_p_values(x, runs, reference=(20, 60)).min() > 1e-6
    assert constant_hazard_test(Survival.of(runs), result.relaxation_epoch).is_rejected
    # Negative control: as many runs with one hazard pass both.
    geometric = rng.geometric(0.02, size=1000)
    plain = FirstPassages(np.minimum(geometric, 60), geometric <= 60)
    assert stationarity(x, plain, reference=(20, 60), rng=rng).relaxation_epoch == 1
    assert constant_hazard_test(Survival.of(plain), 1).p_value > 1e-6


# ---- Another ensemble ------------------------------------------------------------------------------------------------


def test_distance_to_another_ensemble(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, runs, shifts = 5 + 2 * persistent(1000, 20, rng), unfinished(1000, 20), np.array([1.0, 0.5, 0.0])
    squares = []
    for _ in range(100):
        x = 5 + 2 * (persistent(30, 3, rng) - shifts)
        distance = distance_to(x, unfinished(30, 3), reference, runs, reference=(5, 20))
        squares.append(np.sign(distance) * distance**2)
    assert np.sqrt(np.mean(squares, axis=0)[:2]) == pytest.approx(shifts[:2], abs=0.15)
    assert abs(np.mean(squares, axis=0)[2]) < 0.02
    # The distance itself is far from zero, so that without a correction 30 runs would not look steady.
    plain = [stats.wasserstein_distance(rng.normal(size=30), reference[:, 9] / 2 - 2.5) for _ in range(50)]
    assert np.mean(plain) > 0.18


def test_distance_to_is_nan_where_nobody_survives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, times = rng.normal(size=(10, 4)), np.full(10, 3)
    reference = rng.normal(size=(50, 6))
    distance = distance_to(x, FirstPassages(times, np.full(10, True)), reference, unfinished(50, 6), reference=(2, 6))
    assert np.isfinite(distance).tolist() == [True, True, False, False]


# ---- The published criterion -----------------------------------------------------------------------------------------


def test_published_p_values_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, times = relaxing(80, 12, rng), rng.integers(6, 30, size=80)
    runs = FirstPassages(np.minimum(times, 12), times <= 12)
    alive = survivors(x, runs)
    late = [np.sort(x[alive[:, t], t]) for t in range(5, 11)]

    def mean_distribution(at: np.ndarray) -> np.ndarray:
        return np.mean([np.searchsorted(sample, at, side="right") / len(sample) for sample in late], axis=0)

    p_values = kolmogorov_smirnov_p_values(x, runs, reference=(6, 11))
    for t in (0, 3, 8):
        sample = np.sort(x[alive[:, t], t])
        empirical = np.searchsorted(sample, np.sort(x[alive]), side="right") / len(sample)
        statistic = np.abs(empirical - mean_distribution(np.sort(x[alive]))).max()
        assert p_values[t] == pytest.approx(stats.kstwobign.sf(statistic * math.sqrt(len(sample))), rel=1e-9)
    first = np.flatnonzero(p_values > 0.05)[0] + 1
    assert kolmogorov_smirnov_relaxation(x, runs, reference=(6, 11)) == first


def test_published_p_values_are_nan_where_nobody_survives(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(40, 6))
    runs = FirstPassages(np.full(40, 4), np.full(40, True))
    p_values = kolmogorov_smirnov_p_values(x, runs, reference=(1, 6))
    assert np.isnan(p_values).tolist() == [False] * 3 + [True] * 3


@functools.cache
def read_curves(file: Path) -> np.ndarray:
    run, epoch, accuracy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    values = np.full((int(run.max()) + 1, int(epoch.max())), np.nan)
    values[run.astype(int), epoch.astype(int) - 1] = accuracy
    return values


@pytest.fixture
def published_curves(shared_data: Path) -> np.ndarray:
    """Test accuracies of 1,000 unperturbed runs, shape (1000, 200)."""
    return read_curves(shared_data / "meir2025_cifar10_resnet18" / "unperturbed.csv.gz")


@pytest.mark.shared
@pytest.mark.parametrize(("target", "published"), [(0.72, 29), (0.75, 18), (0.715, 27)])
def test_published_relaxation_epochs(published_curves: np.ndarray, target: float, published: int) -> None:
    runs = FirstPassages.from_curves(published_curves, target)
    assert kolmogorov_smirnov_relaxation(published_curves, runs, reference=(20, 100)) == published
    # On a tenth of the runs the same criterion finds steadiness sooner, as a distance does at once.
    few = FirstPassages.from_curves(published_curves[:100], target)
    sooner = kolmogorov_smirnov_relaxation(published_curves[:100], few, reference=(20, 100))
    assert sooner is not None
    assert sooner < published - 2


@pytest.mark.shared
def test_relaxation_by_distance_is_that_of_a_fraction_of_the_published_runs(published_curves: np.ndarray) -> None:
    found = []
    for first, last in [(0, 100), (0, 500), (500, 1000), (0, 1000)]:
        curves = published_curves[first:last]
        runs = FirstPassages.from_curves(curves, 0.72)
        result = stationarity(curves[:, :100], runs, reference=(20, 100), rng=np.random.default_rng(0), replicates=60)
        found.append(result.relaxation_epoch)
    assert found == [14, 14, 13, 14]
    # E5 of reference/first_passage.md: what looks stationary is not a quasi-steady state.
    assert constant_hazard_test(Survival.of(runs), 29).is_rejected


# ---- Refusals --------------------------------------------------------------------------------------------------------

X, RUNS, RNG = np.arange(12.0).reshape(3, 4), unfinished(3, 4), np.random.default_rng(0)
CONSTANT = np.ones((3, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: survivors(X, unfinished(2, 4)), r"values of shape \(3, 4\) do not belong to 2 runs"),
        (lambda: survivors(X[0], RUNS), r"values of shape \(4,\) do not belong to 3 runs"),
        (
            lambda: stationarity(X, RUNS, reference=(2, 4), rng=RNG, kind="energy"),
            r"kind='energy' is unknown; choose from wasserstein, kolmogorov_smirnov",
        ),
        (
            lambda: stationarity(X, RUNS, reference=(2, 5), rng=RNG),
            r"reference=\(2, 5\) must be two epochs between 1 and 4",
        ),
        (
            lambda: stationarity(X, RUNS, reference=(3, 2), rng=RNG),
            r"reference=\(3, 2\) must be two epochs .* in order",
        ),
        (lambda: kolmogorov_smirnov_p_values(X, RUNS, reference=(0, 2)), r"reference=\(0, 2\) must be two epochs"),
        (
            lambda: stationarity(X[:1], unfinished(1, 4), reference=(2, 4), rng=RNG),
            r"fewer than two runs survive epochs 2 to 4: there is no reference distribution",
        ),
        (
            lambda: stationarity(CONSTANT, RUNS, reference=(2, 4), rng=RNG),
            r"all survivors of epochs 2 to 4 have one value",
        ),
        (
            lambda: distance_to(X, RUNS, CONSTANT, RUNS, reference=(2, 4)),
            r"all survivors of epochs 2 to 4 have one value: there is no scale to compare with",
        ),
        (lambda: distance_to(X, RUNS, X, RUNS, reference=(2, 9)), r"reference=\(2, 9\) must be two epochs"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
