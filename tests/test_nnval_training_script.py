"""A generated script has the library's own bits, also when it is resumed after being killed anywhere."""

import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nnval.adaptive_noise_methods import NoiseOptions
from nnval.engine.checkpoint import read_state
from nnval.engine.ensemble import train_ensemble
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.training_script import ScriptNoise, library_script, standalone_script
from tests.generated_scripts import (
    assert_same,
    checkpoint,
    config_of,
    executed,
    killed,
    loaded,
    of_60_images,
    perturbed,
    torch_put_back,
    written,
)


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    with of_60_images():
        yield


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    with torch_put_back():
        yield


def library_weights(directory: Path) -> list[torch.Tensor]:
    found = read_state(directory / "members" / "0003" / "checkpoint.pt").stack
    return [tensor[0] for tensor in (*found.parameters.values(), *found.buffers.values())]


def script_weights(network: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Weights, then statistics: the order of the library's."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return [
        *(tensor for name, tensor in network.items() if not name.endswith(statistics)),
        *(tensor for name, tensor in network.items() if name.endswith(statistics)),
    ]


LARGE: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "efficientnet_b0": {},
    "vgg16": {"data": "cifar10", "validation_from": "test", "validation_size": 10},
}
OPTION_SETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "warm restart": {"schedule": "sgdr", "cycle_epochs": 2, "momentum": 0.9, **perturbed("warm_restart")},
    "nesterov": {"model": "lenet", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "schedule": "one_cycle"}
    | perturbed("shrink_perturb", learning_rate="restart"),
    "adam": {"model": "convnet4", "optimizer": "adam", "schedule": "cosine", "initialisation": "kaiming_fan_out"}
    | perturbed("partial_reset", optimizer_state="keep"),
    "adamw": {"model": "resnet20", "optimizer": "adamw", "weight_decay": 0.1, "schedule": "step", "milestones": (1,)}
    | {"augmentation": "crop_flip", "betas": (0.8, 0.99), "epochs": 2, "train_size": 20}
    | perturbed("shrink_perturb", buffers="mix"),
    "mixed and shrunk": {"model": "resnet20", "momentum": 0.5, "train_size": 20, "epochs": 2}
    | {**perturbed("shrink_perturb", noise=0, buffers="mix")},
    "gaussian fresh": {"model": "lenet", **perturbed("shrink_perturb", fresh="gaussian", buffers="reset")},
    "random reset": {"optimizer": "adam"} | perturbed("partial_reset", by="random", scope="tensor", parameters="all"),
    "largest reset": {"model": "lenet", **perturbed("partial_reset", by="largest", fraction=0.5)},
    "no reset": perturbed("partial_reset", fraction=0),
    "full reset": {"model": "resnet20", "epochs": 2, "train_size": 20, **perturbed("full_reset")},
    "absolute noise": {"momentum": 0.9, **perturbed("gaussian_noise", std=0.1, optimizer_state="clear")},
    "relative noise": {"model": "lenet", **perturbed("gaussian_noise", std=0.1, mode="relative_weight")},
    "half precision": {"model": "lenet", "precision": "bfloat16", "channels_last": True, "deterministic": True},
    "bytes": {"data": "cifar10", "model": "lenet", "augmentation": "crop_flip", "train_size": None}
    | {"validation_size": 10},
    "bytes, test decides": {"data": "cifar10", "model": "lenet", "validation_from": "test", "validation_size": 10},
    "nothing reports": {"data": "cifar10", "model": "lenet", "validation_from": "test", "label_noise": 0},
    "target": {"target": 0.2, "epochs": 9, "learning_rate": 0.2},
    "diverges": {"learning_rate": 1e30, "momentum": 0.9},
    "odd names": {"stream": "a\n'\"\u2028", "hidden": ()},
}


OPTION_SETS |= {
    model: {"model": model, "train_size": 20, "epochs": 2, "momentum": 0.9, **options}
    for model, options in LARGE.items()
}


@pytest.mark.parametrize(
    "name",
    # The large ones are compared in a single step below.
    [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in OPTION_SETS],
)
def test_script_is_the_library_bit_for_bit_and_survives_being_killed(name: str, tmp_path: Path) -> None:
    config = config_of(**OPTION_SETS[name])
    result = train_ensemble(config, tmp_path / "library")
    script = written(standalone_script(config), config, tmp_path)
    executed(script, "--out", tmp_path / "whole")
    found = checkpoint(tmp_path / "whole")
    assert (tmp_path / "whole" / "curves.csv").read_bytes() == (tmp_path / "library" / "curves.csv").read_bytes()
    accuracy = None if result.status[0] == "diverged" else result.test_accuracy[0]
    assert found["result"] == {"status": result.status[0], "epoch": result.epochs[0], "test_accuracy": accuracy}
    assert json.loads((tmp_path / "whole" / "result.json").read_text()) == found["result"]
    assert result.status[0] == {"target": "reached", "diverges": "diverged"}.get(name, "horizon")
    if result.status[0] == "horizon":
        weights = library_weights(tmp_path / "library")
        assert len(weights) == len(found["network"])
        assert_same(script_weights(found["network"]), weights)
    if name in LARGE or name == "diverges":
        return
    # Two writes an epoch: after the curve of the first or second epoch, or before it.
    out = tmp_path / "killed"
    killed(script, out, 3 + list(OPTION_SETS).index(name) % 2)
    executed(script, "--out", out)
    assert_same(checkpoint(out), found)
    assert (out / "curves.csv").read_bytes() == (tmp_path / "whole" / "curves.csv").read_bytes()


@pytest.mark.parametrize("model", LARGE)
def test_large_networks_have_the_same_weights_logits_and_gradients(model: str, tmp_path: Path) -> None:
    config = config_of(**OPTION_SETS[model])
    script = written(standalone_script(config), config, tmp_path)
    module = loaded(script)
    shape = (3, 32, 32) if model == "vgg16" else (1, 8, 8)
    network = build_model(config, shape, 10)
    parameters, buffers = InitialWeights(network, config.initialisation, torch.device("cpu"))(7)
    network.load_state_dict(parameters | buffers)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    with torch.random.fork_rng():
        for each in (network, module.initialise(module.build_network(), 7)):
            torch.manual_seed(1)  # for dropout and the like
            logits = each(images)
            logits[:, 3].sum().backward()
            gradients = [weights.grad for weights in each.parameters()]
            found.append([list(each.parameters()), logits, gradients, list(each.buffers())])
    assert_same(found[0], found[1])
    assert ("network_noise" in script.read_text()) == (model == "efficientnet_b0")


def test_finished_training_is_only_read_and_others_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of()
    script = written(standalone_script(config), config, tmp_path)
    first = executed(script, "--out", tmp_path / "run")
    before = checkpoint(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()  # as if killed before it was written
    assert executed(script, "--out", tmp_path / "run", "--data", tmp_path / "nowhere") == first
    assert_same(checkpoint(tmp_path / "run"), before)
    assert (tmp_path / "run" / "result.json").exists()

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            executed(script, *arguments)
        assert ended.value.code == 2
        return capsys.readouterr().err

    with contextlib.redirect_stderr(io.StringIO()):
        refused("--out", tmp_path / "run", "--epochs", 4)
        refused("--out", tmp_path / "run", "--seed", 6)
        refused("--out", tmp_path / "run", "--member", 4)
        refused("--out", tmp_path / "new", "--data", tmp_path / "nowhere")
        refused("--out", tmp_path / "new", "--data", script)
        refused("--out", tmp_path / "new", "--device", "nonsense")
        refused("--out", tmp_path / "new", "--epochs", 0)
        refused("--out", tmp_path / "new", "--seed", -1)
    assert not (tmp_path / "new").exists()
    path = tmp_path / "run" / "checkpoint.pt"
    content = path.read_bytes()
    place = content.index(found_bytes := before["network"]["1.weight"].numpy().tobytes())
    flipped = content[: place + 2] + bytes([found_bytes[2] ^ 1]) + content[place + 3 :]  # a weight is another one
    wrong_name = content.replace(b"network", b"\xff\xff\xff\xff\xff\xff\xff")
    for damaged in (b"", b"damaged", content[:-200], flipped, wrong_name, content.replace(b"settings", b"somethin")):
        assert damaged != content
        path.write_bytes(damaged)
        refused("--out", tmp_path / "run")
    script.write_text(script.read_text() + "# edited\n")
    executed(script, "--out", tmp_path / "other")
    (tmp_path / "run" / "checkpoint.pt").write_bytes((tmp_path / "other" / "checkpoint.pt").read_bytes())
    script.write_text(script.read_text() + "# again\n")
    refused("--out", tmp_path / "run")


def test_options_of_the_script_are_those_of_the_library(tmp_path: Path) -> None:
    config = config_of()
    script = written(standalone_script(config), config, tmp_path)
    executed(script, "--out", tmp_path / "run", "--epochs", 2, "--seed", 8, "--member", 11)
    other = dataclasses.replace(config, epochs=2, seed=8, first_member=11)
    train_ensemble(other, tmp_path / "library")
    curves = (tmp_path / "run" / "curves.csv").read_bytes()
    assert curves == (tmp_path / "library" / "curves.csv").read_bytes()
    assert curves != b""


def test_library_script_is_a_run_of_the_library(tmp_path: Path) -> None:
    config = config_of(model="lenet", **perturbed("shrink_perturb"))
    script = tmp_path / "train.py"
    script.write_text(library_script(config), encoding="utf-8")
    executed(script, "--out", tmp_path / "run")
    train_ensemble(config, tmp_path / "library")
    for name in ("curves.csv", "members.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "library" / name).read_bytes()
    with pytest.raises(SystemExit) as ended:
        executed(script, "--out", tmp_path / "run", "--seed", 6)
    assert ended.value.code == 2


def test_killed_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = config_of(model="lenet", epochs=60, **perturbed("shrink_perturb", shrink=0.99, noise=0.01))
    script = written(standalone_script(config, noise=ScriptNoise("full", NoiseOptions(min_dwell=5))), config, tmp_path)
    script.write_text(script.read_text().replace("CHECKPOINT_SECONDS = 0.0", "CHECKPOINT_SECONDS = 0.1"))
    command = [sys.executable, "-W", "error", script.name, "--out", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    curves = tmp_path / "killed" / "curves.csv"
    while process.poll() is None and not (curves.exists() and curves.read_text().count("\n") > 2):
        time.sleep(0.005)
    process.kill()  # after two epochs at least
    _, errors = process.communicate()
    assert process.returncode == -9, errors.decode()
    assert checkpoint(tmp_path / "killed")["result"] is None
    ended = executed(script, "--out", tmp_path / "killed")
    assert ended.startswith("horizon at epoch 60; test accuracy 0.")
    executed(script, "--out", tmp_path / "whole")
    assert_same(checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole"))


@pytest.mark.slow  # importing torch takes most of it; the test above trains in a process, too
@pytest.mark.parametrize("write", [standalone_script, library_script])
def test_process_trains_to_its_end(write: Any, tmp_path: Path) -> None:
    config = config_of(epochs=2)
    script = written(write(config), config, tmp_path)
    patched = (
        script.read_text()
        .replace("train_size=30", "train_size=500")
        .replace("validation_size=20", "validation_size=400")
    )
    script.write_text(patched)  # the process has no few digits
    command = [sys.executable, "-W", "error", script.name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("horizon at epoch 2; test accuracy 0.")
