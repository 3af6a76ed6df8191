"""One training of the study of noises: plain SGD without noise, the same bits after a resumption, time."""

import copy
import dataclasses
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nnval.adaptive_noise_methods import Method, NoiseOptions
from nnval.adaptive_noise_training import NoisyTraining
from nnval.paired_trainings import SharedSeed
from tests.noise_studies import tiny
from theory.noise_schedule import NoiseSchedule

PLAIN = Method("baseline", "sgd", "constant", "none")
LOUD = Method("full", "sgd", "constant", "full")


def begin(method: Method, noise: NoiseSchedule | None, **changes: Any) -> tuple[NoisyTraining, SharedSeed]:
    training = tiny(**changes).training
    seed = SharedSeed(dataclasses.replace(training, device="cpu"), 0)
    options = NoiseOptions(min_dwell=3, horizon=3)
    return NoisyTraining(seed.network(), seed.data, method, training, noise, options, 7), seed


def weights_of(training: NoisyTraining) -> torch.Tensor:
    return torch.cat([each.detach().reshape(-1) for each in training.module.parameters()])


def trained(method: Method, noise: NoiseSchedule | None, epochs: int = 3, **changes: Any) -> NoisyTraining:
    training, seed = begin(method, noise, **changes)
    for epoch in range(1, epochs + 1):
        training.train_epoch(*seed.epoch(epoch))
    return training


def test_without_noise_it_is_plain_sgd() -> None:
    training, seed = begin(PLAIN, NoiseSchedule("none"), schedule="cosine")
    plain = copy.deepcopy(training.module)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    for epoch in (1, 2):
        training.train_epoch(*seed.epoch(epoch))
        for samples in seed.epoch(epoch)[0]:
            optimizer.zero_grad()
            F.cross_entropy(plain(seed.data.train.inputs(samples)), seed.data.train.labels[samples]).backward()
            optimizer.step()
        scheduler.step()
    assert torch.equal(weights_of(training), torch.cat([each.detach().reshape(-1) for each in plain.parameters()]))
    assert training.record()["test_accuracy"] == seed.test_accuracy(plain.eval())


def test_all_methods_begin_alike_and_see_the_same_batches() -> None:
    silent = NoiseSchedule("full", (0.0, 0.0, 0.0))
    reference = trained(PLAIN, NoiseSchedule("none"))
    assert torch.equal(weights_of(trained(LOUD, silent)), weights_of(reference))
    assert torch.equal(weights_of(trained(Method("sgd", "sgd", "constant", None), None)), weights_of(reference))
    # The control: noise makes a difference.
    assert not torch.equal(weights_of(trained(LOUD, NoiseSchedule("full"))), weights_of(reference))


def test_a_training_goes_on_with_the_same_bits() -> None:
    whole, seed = begin(LOUD, NoiseSchedule("full", decay=0.1))
    content = io.BytesIO()
    for epoch in (1, 2, 3):
        whole.train_epoch(*seed.epoch(epoch))
        if epoch == 1:
            torch.save(whole.state_dict(), content)
    content.seek(0)
    resumed, _ = begin(LOUD, NoiseSchedule("full", decay=0.1))
    resumed.load_state_dict(torch.load(content, weights_only=True))
    for epoch in (2, 3):
        resumed.train_epoch(*seed.epoch(epoch))
    assert torch.equal(weights_of(resumed), weights_of(whole))
    first, second = whole.record(), resumed.record()
    for record in (first, second):
        for name in ("seconds", "overhead"):
            assert record.pop(name) > 0
        record["log"] = [row[:3] for row in record["log"]]
    assert first == second


def test_noise_is_as_long_as_epsilon_says() -> None:
    record = trained(LOUD, NoiseSchedule("fixed", (0.3, 0.2, 0.03)), epochs=5, hidden=[64]).record()
    assert record["noise"]["ratio"] == pytest.approx(0.2, rel=0.05)  # 4,700 weights, two measurements
    assert record["noise"]["injected"] == pytest.approx(25 * 0.2**2, rel=1e-12)


def test_time_of_what_only_observes_is_not_counted() -> None:
    training = trained(PLAIN, NoiseSchedule("none"))
    record = training.record()
    assert record["overhead"] > 0
    assert record["log"][-1][3] == pytest.approx(record["seconds"] / (1 + record["overhead"]))
    loud = trained(LOUD, NoiseSchedule("full")).record()
    assert loud["log"][-1][3] == loud["seconds"]
    assert trained(Method("adam", "adam", "constant", None), None).record()["overhead"] is None
