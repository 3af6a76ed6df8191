"""The measurement of the noise of real batches, against the theory of each order."""

import pytest

from sim.noise_autocovariance import measured_autocovariance
from sim.random_streams import stream
from theory.estimate import AGREEMENT_P_VALUE, Estimate, compare
from theory.gradient_noise import (
    AntiCorrelatedIncrements,
    GradientNoise,
    Persistent,
    Reshuffled,
    ReshuffledEvery,
    ShuffledOnce,
    WhiteNoise,
)

BATCHES, BATCH_SIZE = 5, 4
LAGS = [0, 1, 3, 5, 7]


@pytest.mark.parametrize(
    ("noise", "wrong"),
    [
        (WhiteNoise(7.0), Reshuffled(BATCHES)),
        (Reshuffled(BATCHES), WhiteNoise()),
        (ReshuffledEvery(BATCHES, 2), ReshuffledEvery(BATCHES, 3)),
        (ShuffledOnce(BATCHES), ReshuffledEvery(BATCHES, 3)),
        (Persistent(0.7), Persistent(0.5)),
    ],
    ids=lambda noise: type(noise).__name__,
)
def test_every_order_has_its_autocovariance_and_no_other(seed: int, noise: GradientNoise, wrong: GradientNoise) -> None:
    found = measured_autocovariance(
        noise,
        stream(seed, "measured"),
        batches_per_epoch=BATCHES,
        batch_size=BATCH_SIZE,
        lags=LAGS,
        epochs=60,
        replicas=400,
    )

    def p_values(of: GradientNoise) -> list[float]:
        predicted = of.normalised().autocovariance(LAGS)
        pairs = zip(predicted.tolist(), found, strict=True)
        return [compare("c_h", Estimate(value, 0.0, 1), measured).p_value for value, measured in pairs]

    assert min(p_values(noise)) > AGREEMENT_P_VALUE
    assert min(p_values(wrong)) < AGREEMENT_P_VALUE


@pytest.mark.parametrize(
    ("noise", "settings", "message"),
    [
        (AntiCorrelatedIncrements(), {}, "is made by no order of batches"),
        (Reshuffled(7), {}, "batches_per_epoch=5 must be that of noise=Reshuffled"),
        (Reshuffled(5), {"batches_per_epoch": 1}, "batches_per_epoch=1 must be a whole number >= 2"),
        (Reshuffled(5), {"batch_size": 0}, "batch_size=0 must be a whole number >= 1"),
        (Reshuffled(5), {"lags": [-1]}, "lags=-1 must be a whole number >= 0"),
        (Reshuffled(5), {"replicas": 1}, "replicas=1 must be a whole number >= 2"),
        (Persistent(-0.9), {}, "or samples would leave"),
    ],
)
def test_refuses(noise: GradientNoise, settings: dict, message: str) -> None:
    options = {"batches_per_epoch": BATCHES, "batch_size": BATCH_SIZE, "lags": LAGS, "epochs": 2} | settings
    with pytest.raises(ValueError, match=message):
        measured_autocovariance(noise, stream(0, "refused"), **options)
