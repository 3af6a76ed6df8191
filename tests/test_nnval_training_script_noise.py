"""Adaptive noise in a generated script has the bits of the drop-in, also after the script was killed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnval.adaptive_noise_methods import NoiseOptions
from nnval.drop_in.adaptive_noise import AdaptiveNoise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.schedules import learning_rates
from nnval.training_script import ScriptNoise, library_script, standalone_script
from sim.batch_order import reshuffled
from sim.random_streams import CountedStream
from tests.generated_scripts import (
    assert_same,
    checkpoint,
    config_of,
    executed,
    killed,
    of_60_images,
    torch_put_back,
    written,
)
from theory.noise_schedule import KINDS


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    with of_60_images():
        yield


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    with torch_put_back():
        yield


def noisy_reference(
    config: TrainingConfig, noise: ScriptNoise
) -> tuple[list[torch.Tensor], list[float], AdaptiveNoise]:
    """A plain loop with the drop-in."""
    data = load_data(config)
    network = build_model(config, data.shape, data.classes)

    def numbers(purpose: str) -> CountedStream:
        return CountedStream(config.seed, f"{config.stream}/{purpose}", config.first_member)

    initial = InitialWeights(network, config.initialisation, torch.device("cpu"))
    parameters, buffers = initial(numbers("initialisation").seed_at(0))
    network.load_state_dict(parameters | buffers)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=config.momentum)
    options = noise.options
    attached = AdaptiveNoise(
        optimizer,
        noise.schedule,
        mode=options.mode,
        machine=options.machine(),
        metric=options.metric,
        horizon=options.horizon,
        include_norm=options.include_norm,
        seed=numbers("adaptive_noise").seed_at(0),
    )
    network.train()
    losses = []
    for epoch in range(1, config.epochs + 1):
        batches = torch.from_numpy(reshuffled(len(data.train), config.batch_size, numbers("batch_order").at(epoch)))
        some = []
        for samples, rate in zip(batches, learning_rates(config, epoch, len(batches)), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss = F.cross_entropy(network(data.train.inputs(samples)), data.train.labels[samples])
            loss.backward()
            optimizer.step()
            some.append(loss.item())
        losses.append(float(np.cumsum(some)[-1] / len(some)))
    return list(network.state_dict().values()), losses, attached


MODES = ("absolute", "relative_update", "relative_weight", "sgld")
METRICS = ("gradient_variance", "gradient_norm")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_noise_of_the_script_is_that_of_the_drop_in(kind: str, mode: str, tmp_path: Path) -> None:
    number = KINDS.index(kind) + MODES.index(mode)
    options = NoiseOptions(
        mode=mode,
        metric=METRICS[number % 2],
        monotone=number % 3 == 0,
        include_norm=number % 3 == 1,
        epsilon=(0.01, 0.003, 0.001),
        decay=0.01,
        horizon=4,
        min_dwell=3,
        thresholds={"variance_high": 0.8, "update_high": 0.8, "variance_low": 0.7, "update_low": 0.7},
    )
    noise = ScriptNoise(kind, options)
    config = config_of(momentum=0.9, epochs=8, schedule=("cosine", "one_cycle")[number % 2], hidden=(8,))
    weights, losses, attached = noisy_reference(config, noise)
    script = written(standalone_script(config, noise=noise), config, tmp_path)
    executed(script, "--out", tmp_path / "run")
    found = checkpoint(tmp_path / "run")
    assert_same(list(found["network"].values()), weights)
    rows = [line.split(",") for line in found["curve"].splitlines()]
    assert [float(row[2]) for row in rows] == pytest.approx(losses, rel=1e-8)
    assert float(rows[-1][4]) == attached.scale
    if noise.schedule.has_phases:
        assert attached.changes, "the phase must change for a test of phases"
        assert {int(row[5]) for row in rows} != {0}
    header = (tmp_path / "run" / "curves.csv").read_text().splitlines()[0]
    assert header.split(",")[4:] == ["epsilon", "phase"][: 2 if noise.schedule.has_phases else 1]
    scripts = [script]
    if mode == "relative_update":
        scripts.append(written(library_script(config, noise=noise), config, tmp_path, "library.py"))
    for each in scripts:
        killed(each, tmp_path / each.stem, 9)
        executed(each, "--out", tmp_path / each.stem)
        resumed = checkpoint(tmp_path / each.stem)
        assert_same(list(resumed["network"].values()), weights)
        assert resumed["curve"] == found["curve"]


def test_no_noise_is_the_script_without(tmp_path: Path) -> None:
    assert standalone_script(config_of(), noise=ScriptNoise("none")) == standalone_script(config_of())
