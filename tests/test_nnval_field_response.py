"""Temperatures of a linear network by theory, at all lags, and the descents beside each other that measure them."""

import numpy as np
import pytest
import torch
from torch import nn

from nnval.measure.batch_gradients import BatchGradients, Loss
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.example_variance import example_variance
from nnval.measure.field_response import Heat, HeatMeasurement, PredictedHeat, predicted_heat
from nnval.measure.full_loss import FullLoss
from nnval.measure.parallel_descent import ParallelDescent
from sim.random_streams import stream
from theory.estimate import Estimate, agreement
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance import stationary_variances

SAMPLES, BATCH, RUNS, LAGS = 60, 6, 200, (1, 4, 15, 33)
RATE, MOMENTUM = 0.1, 0.5
STIFFNESS = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)


def stiff_squares(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (STIFFNESS * (outputs - labels) ** 2).sum() / 2


def stiff_forces(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Samples without a curvature, which only weight decay makes: that of batches of any size is the same."""
    return -(STIFFNESS * outputs * labels).sum()


def regression(seed: int, order: str, *, loss: Loss = stiff_squares, decay: float = 0.0) -> tuple[Heat, PredictedHeat]:
    """Three outputs on one constant input, whose Hessian every sample shares, begun at their minimum."""
    inputs = torch.ones(SAMPLES + 1, 1, dtype=torch.float64)
    inputs[-1] = 0  # for padding
    labels = torch.from_numpy(stream(seed, "labels").normal(1, 1, size=(SAMPLES + 1, 3)))
    labels[-1] = 0
    module = nn.Linear(1, 3, bias=False).double()
    best = labels[:-1].mean(0) * (STIFFNESS / decay if decay else 1.0)
    of_batches = BatchOrder.parsed(order)
    descent = ParallelDescent(
        BatchGradients(module, inputs, labels, loss=loss, dtype=torch.float64),
        of_batches,
        BATCH,
        [lambda run=run: stream(seed, f"batches/{order}", run) for run in range(RUNS)],
        best.repeat(RUNS, 1),
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=decay,
    )
    for _ in range(40):
        descent.step()
    axes = torch.eye(3, dtype=torch.float64)
    measurement = HeatMeasurement(
        descent, axes, np.array([0.3, 0.1, 0.05]), 35, lambda window: stream(seed, f"signs/{order}", window)
    )
    for _ in range(2):
        measurement.run_window()
    full = FullLoss(module, inputs[:-1], labels[:-1], loss=loss)
    curvature = full.product(best, axes).diagonal().numpy() + decay
    variance = example_variance(full, best, axes, about_zero=not of_batches.same_size)
    modes, noise = HeavyBall(RATE, curvature, MOMENTUM), of_batches.noise(SAMPLES, BATCH)
    return measurement.result(), predicted_heat(modes, noise, variance, LAGS)


@pytest.mark.parametrize(
    ("order", "other"),
    [
        ("with_replacement", "reshuffled"),
        ("reshuffled", "with_replacement"),
        ("shuffled_once", "with_replacement"),
    ],
)
def test_linear_networks_have_the_temperature_of_theory(order: str, other: str, seed: int) -> None:
    """At all lags, within 4 standard errors, and the temperature of another order is rejected where they differ."""
    heat, predicted = regression(seed, order)
    wrong = predicted_heat(
        HeavyBall(RATE, STIFFNESS.numpy(), MOMENTUM),
        BatchOrder(other).noise(SAMPLES, BATCH),
        np.ones(3),
        LAGS,
    )
    right = predicted_heat(
        HeavyBall(RATE, STIFFNESS.numpy(), MOMENTUM), BatchOrder(order).noise(SAMPLES, BATCH), np.ones(3), LAGS
    )
    rejected = []
    for number, lag in enumerate(LAGS):
        # Responses do not know about the noise: the Hessian of all batches is the same.
        assert np.allclose(heat.responses[:, lag], predicted.responses[number], rtol=1e-9)
        assert np.allclose(heat.half_responses[:, lag], predicted.responses[number], rtol=1e-9)
        found = Estimate.ratio_of_columns(heat.fluctuations([lag])[:, 0], heat.responses[:, lag])
        assert np.allclose([each.value for each in found], heat.temperatures([lag])[0])
        for column, each in enumerate(found):
            expected = predicted.temperatures[number, column]
            assert abs(each.value - expected) < 4 * each.standard_error
            if lag >= 15:
                of_other = expected * wrong.temperatures[number, column] / right.temperatures[number, column]
                rejected.append(abs(each.value - of_other) > 6 * each.standard_error)
    # One order for good is as hot as white noise along some directions.
    assert any(rejected) if order == "shuffled_once" else all(rejected)
    samples = heat.fluctuations([33])[:, 0, 1] / predicted.responses[3, 1]
    assert agreement(samples, predicted.temperatures[3, 1])
    assert (heat.drift < 0.05).all()


def test_persistent_batches_have_the_temperature_of_theory(seed: int) -> None:
    """Of forces that do not depend on the weights: from lag 1 to 33 the temperature rises by a factor of 3."""
    order = "persistent:entry_probability=0.02"
    heat, predicted = regression(seed, order, loss=stiff_forces, decay=0.5)
    assert (predicted.temperatures[-1] > 2.5 * predicted.temperatures[0]).all()
    found = [Estimate.ratio_of_columns(heat.fluctuations([lag])[:, 0], heat.responses[:, lag]) for lag in LAGS]
    for number, lag in enumerate(LAGS):
        assert np.allclose(heat.responses[:, lag], predicted.responses[number], rtol=1e-9)
        for column, each in enumerate(found[number]):
            expected = predicted.temperatures[number, column]
            assert abs(each.value - expected) < 4 * each.standard_error
            # About the mean gradient instead of about zero, half of it: sizes of batches fluctuate.
            assert abs(each.value - expected / 2) > 6 * each.standard_error


def test_temperature_of_white_noise_is_the_same_at_all_lags() -> None:
    """eta sigma^2 / (2 (1 - beta)), also near the stability bound; that of one-sided differences is not."""
    modes = HeavyBall(0.1, np.array([0.3, 5.0, 28.0]), 0.5)
    found = predicted_heat(modes, WhiteNoise(2.0), np.ones(3), range(1, 40))
    assert np.allclose(found.temperatures, 0.1 * 2.0 / (2 * 0.5), rtol=1e-9)
    # The long-lag limit: lambda (C(0) - Var(v) / 4).
    cold = predicted_heat(HeavyBall(0.1, np.array([2.0]), 0.0), Reshuffled(5, 1.0), np.ones(1), [400])
    variances = stationary_variances(HeavyBall(0.1, np.array([2.0]), 0.0), Reshuffled(5, 1.0))
    assert cold.temperatures[0, 0] == pytest.approx(2.0 * (variances.weight[0] - variances.velocity[0] / 4), rel=1e-9)
    assert cold.responses[0, 0] == pytest.approx(1 / 2.0, rel=1e-9)


# ---- Several networks beside each other ------------------------------------------------------------------------------


def test_padded_batches_are_those_of_the_order() -> None:
    """Persistent batches, beside each other, against a loop over each by itself with torch's optimizer."""
    order = BatchOrder("persistent", entry_probability=0.1)
    inputs = torch.randn(21, 3, generator=torch.Generator().manual_seed(0)).double()
    inputs[-1] = 0
    labels = torch.ones(21, 1).double()
    labels[-1] = 0
    module = nn.Linear(3, 1, bias=False).double()

    def squares(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return ((outputs - wanted) ** 2).sum() / 2

    def made() -> ParallelDescent:
        return ParallelDescent(
            BatchGradients(module, inputs, labels, loss=squares, dtype=torch.float64),
            order,
            5,
            [lambda run=run: stream(0, "runs", run) for run in range(2)],
            torch.zeros(2, 3, dtype=torch.float64),
            learning_rate=0.05,
            momentum=0.3,
            weight_decay=0.1,
        )

    descent = made()
    for _ in range(10):
        descent.step()
    for run in range(2):
        weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=0.05, momentum=0.3, weight_decay=0.1)
        epochs = order.epochs(20, 5, stream(0, "runs", run))
        for batch in [*next(epochs), *next(epochs), *next(epochs)][:10]:
            optimizer.zero_grad()
            (((inputs[batch] @ weight - 1) ** 2).sum() / 10).backward()
            optimizer.step()
        assert torch.allclose(descent.weights[run], weight.detach(), rtol=1e-12)
    # And on from a state in the middle of an epoch, with a copy of one of them.
    descent.copy_rows([1, 1])
    other = made()
    other.load_state_dict(descent.state_dict())
    for each in (descent, other):
        for _ in range(7):
            each.step()
    assert torch.equal(descent.weights, other.weights)
    assert torch.equal(descent.weights[0], descent.weights[1])


def test_bad_fields() -> None:
    gradients = BatchGradients(nn.Linear(1, 1), torch.ones(5, 1), torch.ones(5, 1))
    descent = ParallelDescent(
        gradients, BatchOrder(), 2, [lambda: stream(0, "x")], torch.zeros(1, 2), learning_rate=0.1
    )
    with pytest.raises(ValueError, match="must be 2 finite numbers > 0"):
        HeatMeasurement(descent, torch.eye(2), np.array([0.1, 0.0]), 5, lambda _: stream(0, "signs"))
