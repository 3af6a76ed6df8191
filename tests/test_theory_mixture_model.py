"""The Gaussian-mixture perceptron: derivatives against differences, test error against sampling, refusals."""

import numpy as np
import pytest

from sim.random_streams import stream
from theory.estimate import agreement
from theory.mixture_model import ACTIVATIONS, LOSSES, MixturePerceptron, PerceptronTraining


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_are_those_of_the_loss(loss: str, activation: str) -> None:
    model = MixturePerceptron(1.0, 1.0, loss=loss, activation=activation, margin=0.7, smoothing=0.4, door_width=0.8)
    field = np.linspace(-3, 3, 401) + 1e-4  # off the kinks
    label = np.where(np.arange(401) % 3 == 0, -1.0, 1.0)
    slope, curvature = model.derivatives(label, field)
    step = 1e-5
    ahead, behind = (model.losses(model.margins(label, field + sign * step)) for sign in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), abs=1e-8)
    slopes = [model.derivatives(label, field + sign * step)[0] for sign in (1, -1)]
    assert curvature == pytest.approx((slopes[0] - slopes[1]) / (2 * step), abs=1e-6)


def test_losses() -> None:
    margins = np.array([-800.0, -0.5, 0.0, 0.9, 1.0, 3.0, 800.0])
    assert MixturePerceptron(1, 1).losses(margins[1:6]).tolist() == pytest.approx([1.125, 0.5, 0.005, 0.0, 2.0])
    logistic = MixturePerceptron(1, 1, loss="logistic")
    assert logistic.losses(margins) == pytest.approx([800.0, *np.log1p(np.exp(-margins[1:6])), 0.0])
    assert np.isfinite(logistic.derivatives(np.ones(7), margins)).all()
    sharp = MixturePerceptron(1, 1, loss="perceptron", smoothing=1e-6)
    assert sharp.losses(margins) == pytest.approx(np.maximum(1 - margins, 0), abs=1e-6)
    wide = MixturePerceptron(1, 1, loss="perceptron", smoothing=1e4)  # nothing is beyond the rounding
    hinge = MixturePerceptron(1, 1, loss="squared_hinge")
    assert 1e4 * wide.losses(margins) == pytest.approx(hinge.losses(margins))


def test_samples_have_exact_shares() -> None:
    two = MixturePerceptron(1, 1).stratified_samples(16)
    assert (two[0] == two[1]).all()
    assert two[0].sum() == 0
    centre, label = MixturePerceptron(1, 1, clusters=3).stratified_samples(16)
    assert [(centre == c).sum() for c in (-1, 0, 1)] == [4, 8, 4]
    assert (label == np.where(centre == 0, -1, 1)).all()
    assert (centre[:8] == centre[8:]).all()


@pytest.mark.parametrize("clusters", [2, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_test_error(clusters: int, activation: str, seed: int) -> None:
    model = MixturePerceptron(1.0, 0.6, clusters=clusters, activation=activation, door_width=0.7)
    rng = stream(seed, "test error")
    which = rng.choice(clusters, size=40000, p=model.probabilities)
    centre, label = np.array(model.centres)[which], np.array(model.labels)[which]
    field = 0.8 * centre + np.sqrt(0.6 * 1.3) * rng.standard_normal(40000)
    wrong = (model.margins(label, field) < 0).astype(float)
    assert agreement(wrong, float(model.test_error(0.8, 1.3)), detects=0.15)
    if (clusters == 2) == (activation == "linear"):
        assert not agreement(wrong, float(model.test_error(0.8, 1.3 / 0.6)))  # the noise variance forgotten
    else:  # labels and activation have opposite symmetries
        assert float(model.test_error(0.8, 1.3)) == pytest.approx(0.5)


def test_test_error_of_arrays() -> None:
    model = MixturePerceptron(1.0, 1.0)
    assert model.test_error([0.0, 50.0], [[1.0], [2.0]]) == pytest.approx(np.array([[0.5, 0.0], [0.5, 0.0]]))
    with pytest.raises(ValueError, match=r"norm=0\.0 must be > 0"):
        model.test_error(0.0, 0.0)
    with pytest.raises(ValueError, match="overlap=nan must be a number"):
        model.test_error([0.1, np.nan], 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_ratio": 0.0}, r"sample_ratio=0\.0 must be finite and > 0"),
        ({"noise_variance": float("nan")}, "noise_variance=nan must be finite and > 0"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0 must be finite and >= 0"),
        ({"margin": -0.1}, r"margin=-0\.1 must be finite and >= 0"),
        ({"smoothing": 0.0}, r"smoothing=0\.0 must be finite and > 0"),
        ({"door_width": 1e9}, r"door_width=1e\+09 must lie between"),
        ({"loss": "hinge"}, "loss='hinge' must be one of square, logistic, squared_hinge, perceptron"),
        ({"activation": "relu"}, "activation='relu' must be one of linear, door"),
        ({"clusters": 4}, "clusters=4 must be 2 or 3"),
    ],
)
def test_models_that_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixturePerceptron(**{"sample_ratio": 1.0, "noise_variance": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate=0\.0 must be finite and > 0"),
        ({"momentum": 1.0}, r"momentum=1\.0 must satisfy 0 <= momentum < 1"),
        ({"initial_overlap": float("inf")}, "initial_overlap=inf must be finite"),
        ({"initial_spread": -1.0}, r"initial_spread=-1\.0 must be finite, >= 0"),
        ({"initial_spread": 0.0}, "weights must start somewhere"),
    ],
)
def test_training_that_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerceptronTraining(**{"learning_rate": 0.1, **arguments})


def test_wrong_number_of_samples() -> None:
    with pytest.raises(ValueError, match="count=12 must be a positive multiple of 8"):
        MixturePerceptron(1, 1).stratified_samples(12)
