"""Effective temperatures of mean-field theory: anchors of the square loss, the identity of the first lag, refusals."""

import numpy as np
import pytest

from sim.random_streams import stream
from theory.batch_selection import (
    BernoulliBatches,
    FullBatch,
    PersistentBatches,
    ReshuffledBatches,
    ShuffledOnceBatches,
)
from theory.estimate import Estimate
from theory.mean_field import solve_mean_field
from theory.mean_field_ridge import RidgeMeanField, solve_ridge
from theory.mean_field_solution import MeanFieldSolution
from theory.mean_field_temperature import drift_of, first_lag_temperature, temperature_of_solution
from theory.mixture_model import MixturePerceptron, PerceptronTraining

RIDGE = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
LOGISTIC = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, loss="logistic", weight_decay=0.5)
TRAINING = PerceptronTraining(learning_rate=0.4)


@pytest.fixture(scope="module")
def exact() -> RidgeMeanField:
    return solve_ridge(RIDGE, TRAINING, BernoulliBatches(0.25), steps=240)


@pytest.fixture(scope="module")
def sampled() -> MeanFieldSolution:
    return solve_mean_field(
        LOGISTIC, TRAINING, BernoulliBatches(0.25), 48, stream(0, "logistic"), particles=800, populations=8
    )


@pytest.mark.parametrize(
    ("learning_rate", "fraction", "first_lag", "slope"),
    [
        (0.4, 0.10, 0.00966893, 0.01023284),
        (0.4, 0.25, 0.01363225, 0.01395771),
        (0.4, 0.50, 0.01378546, 0.01406616),
        (0.4, 0.75, 0.00895800, 0.00947335),
        (0.2, 0.10, 0.00477403, 0.00470474),
        (0.2, 0.25, 0.00667381, 0.00619940),
        (0.2, 0.50, 0.00673583, 0.00594572),
        (0.2, 0.75, 0.00440849, 0.00380740),
    ],
)
def test_anchors(learning_rate: float, fraction: float, first_lag: float, slope: float) -> None:
    solved = solve_ridge(RIDGE, PerceptronTraining(learning_rate), BernoulliBatches(fraction), steps=320)
    found = temperature_of_solution(solved, start=150, longest_lag=160)
    assert found.by_lag[0].value == pytest.approx(first_lag, abs=6e-9)
    assert found.by_slope.value == pytest.approx(slope, abs=6e-9)
    assert found.by_lag[0].value == pytest.approx(first_lag_temperature(solved, start=150).value, rel=1e-8)
    assert found.by_lag[0].standard_error == 0
    assert not found.reasons


def test_temperature_falls_with_the_lag(exact: RidgeMeanField) -> None:
    by_lag = [t.value for t in temperature_of_solution(exact, [1, 3, 8, 20]).by_lag]
    assert by_lag == pytest.approx([0.0136, 0.0118, 0.0085, 0.0052], abs=6e-5)


def test_identity_with_momentum() -> None:
    solved = solve_ridge(RIDGE, PerceptronTraining(0.2, momentum=0.6), BernoulliBatches(0.25), steps=240)
    found = temperature_of_solution(solved).by_lag[0].value
    assert found == pytest.approx(first_lag_temperature(solved).value, rel=1e-9)
    assert found == pytest.approx(0.0170922750, rel=1e-8)


def test_gradient_descent_is_cold() -> None:
    found = temperature_of_solution(solve_ridge(RIDGE, TRAINING, FullBatch(0.25), steps=200))
    assert abs(found.by_lag[0].value) < 1e-13
    assert abs(found.by_slope.value) < 1e-13
    assert found.drift == Estimate(0.0, 0.0, 1)


def test_sampled_beside_exact(exact: RidgeMeanField, seed: int) -> None:
    found = temperature_of_solution(
        solve_mean_field(
            RIDGE, TRAINING, BernoulliBatches(0.25), 48, stream(seed, "ridge"), particles=800, populations=8
        ),
        [1, 2],
        start=16,
        longest_lag=24,
    )
    right = temperature_of_solution(exact, [1, 2], longest_lag=24)
    for temperature, value in zip((*found.by_lag, found.by_slope), (*right.by_lag, right.by_slope), strict=True):
        assert abs(temperature.value - value.value) < 12 * temperature.standard_error  # Student's t with 7 degrees
        assert temperature.value == pytest.approx(value.value, rel=0.2)
    # With forces divided by the batch fraction T_eff(1) would be four times as high.
    assert abs(found.by_lag[0].value - 4 * right.by_lag[0].value) > 12 * found.by_lag[0].standard_error


def test_logistic_temperatures(sampled: MeanFieldSolution) -> None:
    found = temperature_of_solution(sampled, start=16, longest_lag=24)
    assert found.by_lag[0].value == pytest.approx(0.0060, rel=0.04)
    assert found.by_slope.value == pytest.approx(0.0066, rel=0.08)
    # The identity: the size of the gradients knows T_eff(1) a hundred times better.
    identity = first_lag_temperature(sampled, start=16)
    assert identity.value == pytest.approx(0.00597, rel=0.005)
    assert abs(found.by_lag[0].value - identity.value) < 6 * found.by_lag[0].standard_error
    assert identity.standard_error < found.by_lag[0].standard_error / 10
    assert not found.reasons


def test_order_of_the_batch_orders(sampled: MeanFieldSolution, seed: int) -> None:
    """Reshuffled < SGD < persistent, at the same batch fraction."""
    slopes = [
        temperature_of_solution(
            solve_mean_field(LOGISTIC, TRAINING, selection, 48, stream(seed, "x"), particles=800, populations=4),
            start=16,
            longest_lag=22,
        ).by_slope.value
        for selection in (ReshuffledBatches(4), PersistentBatches(0.25, 3.2))
    ]
    assert slopes == pytest.approx([0.0023, 0.0133], rel=0.4)
    assert 1.5 * slopes[0] < temperature_of_solution(sampled, start=16).by_slope.value < slopes[1] / 1.5


def test_a_transient_has_no_temperature() -> None:
    found = temperature_of_solution(solve_ridge(RIDGE, TRAINING, BernoulliBatches(0.25), 30), start=0, longest_lag=10)
    assert abs(found.drift.value) > 0.1
    assert "the state is not stationary yet" in found.reasons[0]


def test_phases_of_an_epoch_are_no_drift(seed: int) -> None:
    """C(t, t) goes up and down within epochs, as steep as it would between halves of a window that cut one in two."""
    phases = np.array([1.0, 1.3, 1.5, 1.1])
    level = np.tile(phases, (2, 3))[:, :11]  # three times beyond two epochs
    drift, reasons = drift_of(level, np.full(2, 0.5), first=7, period=4)
    assert drift.value == pytest.approx(0, abs=1e-12)
    assert not reasons
    drift, reasons = drift_of(level + 0.05 * (np.arange(11) > 3), np.full(2, 0.5), first=7, period=4)
    assert drift.value == pytest.approx(0.1)
    drift, reasons = drift_of(level + 0.06 * (np.arange(11) > 3), np.full(2, 0.5), first=7, period=4)
    assert "between t=7 and 14: the state is not stationary yet" in reasons[0]
    solved = solve_mean_field(
        LOGISTIC, TRAINING, ShuffledOnceBatches(8), 60, stream(seed, "phases"), particles=248, populations=2
    )
    found = temperature_of_solution(solved, start=31, longest_lag=14, relative_error=1e3)
    assert abs(found.drift.value) < 0.02
    assert not found.reasons


def test_windows_are_whole_epochs(seed: int) -> None:
    solved = solve_mean_field(
        LOGISTIC, TRAINING, ReshuffledBatches(4), 30, stream(seed, "x"), particles=160, populations=2
    )
    found = temperature_of_solution(solved, start=13, longest_lag=8, relative_error=1e3)
    rows = np.arange(13, 21)  # ten start times would fit
    assert found.correlation[0].value == pytest.approx(solved.correlation[:, rows, rows].mean())
    assert found.correlation[3].value == pytest.approx(solved.correlation[:, rows + 3, rows].mean())
    with pytest.raises(ValueError, match="leave no whole epoch of start times in 30 steps: solve at least 33"):
        temperature_of_solution(solved, start=20, longest_lag=10)


def test_what_is_refused(exact: RidgeMeanField) -> None:
    with pytest.raises(ValueError, match="lags=0 must be >= 1"):
        temperature_of_solution(exact, [0])
    with pytest.raises(ValueError, match="must be a list of at least one"):
        temperature_of_solution(exact, [])
    with pytest.raises(ValueError, match="lags=60 must be less than longest_lag=60"):
        temperature_of_solution(exact, [60])
    with pytest.raises(ValueError, match="start=240 must be less than the 240 steps"):
        temperature_of_solution(exact, start=240)
    few = solve_mean_field(LOGISTIC, TRAINING, BernoulliBatches(0.25), 30, stream(0, "x"), particles=128, populations=2)
    with pytest.raises(
        ValueError, match=r"T_eff\(1\)=\S+ is known to .* worse than 0\.1 of \S+: take about \d+ particles"
    ):
        temperature_of_solution(few, relative_error=0.1)
    with pytest.raises(ValueError, match=r"selection='reshuffled, M=4' must be Bernoulli ones"):
        first_lag_temperature(
            solve_mean_field(LOGISTIC, TRAINING, ReshuffledBatches(4), 3, stream(0, "x"), particles=16, populations=2)
        )


def test_a_lag_without_response() -> None:
    """eta lambda = 1 and nothing else pulls: the weights forget a force at once."""
    model = MixturePerceptron(1e-6, 1e-6, weight_decay=1.0)
    solved = solve_ridge(model, PerceptronTraining(1.0), FullBatch(1e-6), steps=40)
    solved.response[np.tril_indices(41, -2)] = 0
    with pytest.raises(ValueError, match=r"T_eff\(5\): its response 0 \+- 0 cannot be told from zero"):
        temperature_of_solution(solved, [5])
