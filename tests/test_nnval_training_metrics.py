"""Gradient variance and update size against their definitions, and what must not spoil them."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from nnval.measure.training_metrics import StepMetrics, TrainingMetrics
from sim.random_streams import stream
from theory.adaptive_noise import averaged_variance_share
from theory.estimate import agreement

SHAPES = ((4, 3), (5,), ())


def weights_of(shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in shapes]


def step(
    metrics: TrainingMetrics,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Any],
    rate: float = 0.1,
    **options: Any,
) -> StepMetrics | None:
    """A step of gradient descent, measured."""
    for weight, gradient in zip(parameters, gradients, strict=True):
        weight.grad = None if gradient is None else torch.as_tensor(gradient, dtype=weight.dtype).reshape(weight.shape)
    metrics.keep(parameters)
    with torch.no_grad():
        for weight in parameters:
            if weight.grad is not None and rate:
                weight -= rate * weight.grad
    return metrics.measure([weight for weight in parameters if weight.grad is not None], **options)


def drawn(rng: np.random.Generator, shapes: Sequence[tuple[int, ...]] = SHAPES, mean: float = 0.0) -> list[Any]:
    return [mean + rng.normal(size=shape) for shape in shapes]


def direct(history: Sequence[Sequence[Any]], horizon: int, corrected: bool = True) -> float:
    """By the definition: two averages for each weight."""
    flat = np.array([np.concatenate([np.ravel(part) for part in gradients]) for gradients in history])
    beta = 1 - 1 / horizon
    first: npt.NDArray[np.float64] = np.zeros(flat.shape[1])
    second = np.zeros(flat.shape[1])
    for gradient in flat:
        first = beta * first + (1 - beta) * gradient
        second = beta * second + (1 - beta) * gradient**2
    scale = 1 - beta ** len(flat) if corrected else 1.0
    return float((second / scale - (first / scale) ** 2).sum())


@pytest.mark.parametrize("horizon", [2, 7, 20])
def test_gradient_variance_is_that_of_two_averages_per_weight(horizon: int, seed: int) -> None:
    rng, history = stream(seed, "gradients"), []
    weights, metrics = weights_of(), TrainingMetrics(horizon=horizon)
    for number in range(50):
        history.append(drawn(rng, mean=0.1 * number))
        measured = step(metrics, weights, history[-1])
        assert measured is not None
        assert measured.variance == pytest.approx(direct(history, horizon), rel=1e-10, abs=1e-13)
        assert measured.update == pytest.approx(0.1 * np.sqrt(sum((part**2).sum() for part in history[-1])), rel=1e-12)
        if number == 3 and horizon > 2:  # the negative control: without bias correction
            assert abs(measured.variance / direct(history, horizon, corrected=False) - 1) > 0.01


def test_its_expectation_for_independent_gradients(seed: int) -> None:
    """The share that averages see of tr Cov; the trace itself is the negative control."""
    horizon, deviations = 5, np.array([1.0, 2.0, 0.5, 1.5])
    rng, found, second = stream(seed, "expectation"), [], []
    for _ in range(250):
        weights, metrics = weights_of([(4,)]), TrainingMetrics(horizon=horizon)
        for number in range(20):
            step(metrics, weights, [3 + deviations * rng.normal(size=4)])
            if number == 1:
                second.append(metrics.variance)
        found.append(metrics.variance)
    trace = float((deviations**2).sum())
    assert agreement(found, averaged_variance_share(horizon) * trace)
    assert not agreement(found, trace)
    # Of two gradients: 2 w1 w2 = 1 - w1^2 - w2^2 with weights in the ratio 4 to 5.
    assert agreement(second, 2 * 20 / 81 * trace)


def test_a_large_mean_costs_no_digits(seed: int) -> None:
    """Gradients a thousand times their noise, in float32: the difference of two averages there is worthless."""
    rng, history = stream(seed, "gradients"), []
    weights, metrics = weights_of([(50,)], torch.float32), TrainingMetrics()
    for _ in range(40):
        history.append([(1000 + 0.1 * rng.normal(size=50)).astype(np.float32)])
        step(metrics, weights, history[-1], rate=0.0)
    exact = direct([[part.astype(float) for part in each] for each in history], 20)
    assert metrics.variance == pytest.approx(exact, rel=1e-3)
    assert abs(direct(history, 20) / exact - 1) > 0.1  # the negative control, in single precision


def test_variance_of_the_gradient_norm(seed: int) -> None:
    rng, norms = stream(seed, "gradients"), []
    weights, metrics = weights_of(), TrainingMetrics("gradient_norm", horizon=6)
    for _ in range(20):
        gradients = drawn(rng)
        norms.append(math.sqrt(sum(float((part**2).sum()) for part in gradients)))
        measured = step(metrics, weights, gradients)
        assert measured is not None
        expected = np.var(norms[-6:], ddof=1) if len(norms) > 1 else 0.0
        assert measured.variance == pytest.approx(expected, rel=1e-10)
    # Gradients that turn but keep their length: the other metric sees them.
    turning = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
    values = []
    for metric in ("gradient_norm", "gradient_variance"):
        weights, metrics = weights_of([(2,)]), TrainingMetrics(metric)
        for number in range(40):
            step(metrics, weights, [turning[number % 4]])
        values.append(metrics.variance)
    assert values == pytest.approx([0.0, 1.0], abs=0.05)


def test_norms_of_weights_behind_the_step() -> None:
    weights, metrics = weights_of([(2, 2), (3,)]), TrainingMetrics()
    measured = step(metrics, weights, [np.ones((2, 2)), np.zeros(3)], rate=0.5, weights=True)
    assert measured is not None
    assert measured.weight_norms == pytest.approx([1.0, math.sqrt(3)])
    assert measured.update == 1.0


# ---- What must not spoil it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("metric", ["gradient_variance", "gradient_norm"])
def test_what_is_not_finite_leaves_no_trace(metric: str, bad: float, seed: int) -> None:
    gradients = [drawn(stream(seed, "gradients", number)) for number in range(12)]

    def run(spoilt: Sequence[int]) -> float:
        weights, metrics = weights_of(), TrainingMetrics(metric)
        for number, each in enumerate(gradients):
            if number in spoilt:
                for weight in weights:
                    weight.data.fill_(1.0)
                poisoned = [each[0], np.full(5, bad), each[2]]
                measured = step(metrics, weights, poisoned, rate=0.0)
                assert measured is not None
                assert not measured.finite
                assert math.isfinite(measured.variance)
                for weight in weights:
                    weight.data.fill_(1.0)
            measured = step(metrics, weights, each)
            assert measured is not None
            assert measured.finite
        return metrics.variance

    assert run([0, 5, 6]) == run([])


def test_squares_beyond_all_floats() -> None:
    weights, metrics = weights_of([(2,)]), TrainingMetrics()
    step(metrics, weights, [[1e200, 0.0]], rate=0.0)
    measured = step(metrics, weights, [[-1e200, 0.0]], rate=0.0)
    assert measured is not None
    assert not measured.finite
    assert metrics.variance == 0.0


def test_steps_that_were_none() -> None:
    weights, metrics = weights_of([(2,)]), TrainingMetrics()
    inf = torch.tensor(1.0)
    assert step(metrics, weights, [[math.inf, 0.0]], rate=0.0, skipped=inf) is None
    assert step(metrics, weights, [[1.0, 0.0]], skipped=torch.tensor(0.0)) is not None
    assert step(metrics, weights, [[9.0, 9.0]], rate=0.0, skipped=inf) is None
    measured = step(metrics, weights, [[0.0, 3.0]])
    assert measured is not None
    assert measured.variance == pytest.approx(direct([[[1.0, 0.0]], [[0.0, 3.0]]], 20), rel=1e-12)


def test_parameters_that_come_and_go(seed: int) -> None:
    """The first gradient of a parameter is no deviation; a missing one leaves its average."""
    rng = stream(seed, "gradients")
    weights, metrics = weights_of([(3,), (2,)]), TrainingMetrics()
    alone = TrainingMetrics()
    single = weights_of([(3,)])
    for number in range(10):
        gradient = rng.normal(size=3)
        step(metrics, weights, [gradient, [100.0, 100.0] if number in (4, 7) else None])
        step(alone, single, [gradient])
    assert metrics.variance == pytest.approx(alone.variance, rel=1e-12)
    step(metrics, weights, [np.zeros(3), [0.0, 0.0]])
    assert metrics.variance > 100


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_single(dtype: torch.dtype, seed: int) -> None:
    rng, history = stream(seed, "gradients"), []
    shapes = ((30, 10), (20,))
    weights, metrics = weights_of(shapes, dtype), TrainingMetrics()
    weights.append(nn.Parameter(torch.ones(2)))  # and one in single precision, as layers of normalisation often are
    for _ in range(30):
        gradients = [torch.tensor(part).to(dtype) for part in drawn(rng, shapes)] + [torch.ones(2)]
        history.append([part.double().numpy() for part in gradients])
        step(metrics, weights, gradients)
    assert metrics.variance == pytest.approx(direct(history, 20), rel=1e-5)
    assert all(mean.dtype == torch.float32 for mean in metrics.state_dict(weights)["means"])
    # Norms beyond the largest number in float16, 65504.
    measured = step(metrics, weights, [np.full(300, 6e4), np.zeros(20), np.zeros(2)], rate=1.0)
    assert measured is not None
    assert measured.finite
    assert measured.update == pytest.approx(6e4 * math.sqrt(300), rel=5e-3)


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    metrics = TrainingMetrics()
    metrics.keep([embedding.weight])
    with pytest.raises(ValueError, match="gradients must be dense to be measured: use sparse=False"):
        metrics.measure([embedding.weight])


# ---- State -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["gradient_variance", "gradient_norm"])
def test_resumption_is_exact(metric: str, seed: int) -> None:
    rng = stream(seed, "gradients")
    weights, metrics = weights_of(), TrainingMetrics(metric, horizon=5)
    for _ in range(9):
        step(metrics, weights, drawn(rng))
    file = io.BytesIO()
    torch.save(metrics.state_dict(weights), file)
    file.seek(0)
    others, resumed = weights_of(), TrainingMetrics(metric, horizon=5)
    resumed.load_state_dict(torch.load(file, weights_only=True), others)
    for _ in range(4):
        gradients = drawn(rng)
        step(metrics, weights, gradients)
        step(resumed, others, gradients)
        assert metrics.variance == resumed.variance
    with pytest.raises(ValueError, match="the state is of 3 parameters, which are not the 2 of this optimizer"):
        resumed.load_state_dict(metrics.state_dict(weights), weights_of([(4, 3), (5,)]))
    if metric == "gradient_variance":
        with pytest.raises(ValueError, match="which are not the 3 of this optimizer"):
            resumed.load_state_dict(metrics.state_dict(weights), weights_of([(3, 4), (5,), ()]))
    assert metrics.variance == resumed.variance
    resumed.clear()
    step(resumed, others, drawn(rng))
    assert resumed.variance == 0.0


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="metric='loss' must be one of gradient_variance, gradient_norm"):
        TrainingMetrics("loss")
    with pytest.raises(ValueError, match="horizon=1 must be a whole number >= 2"):
        TrainingMetrics(horizon=1)
