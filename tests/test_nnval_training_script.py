"""A generated script has the library's own bits, also when it is resumed after being killed anywhere."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnval import script_data
from nnval.adaptive_noise_methods import NoiseOptions
from nnval.drop_in.adaptive_noise import AdaptiveNoise
from nnval.engine import datasets
from nnval.engine.checkpoint import read_state
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.ensemble import train_ensemble
from nnval.engine.labelled_images import LabelledImages
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.schedules import learning_rates
from nnval.training_script import ScriptNoise, files_beside, library_script, standalone_script
from sim.batch_order import reshuffled
from sim.random_streams import CountedStream, stream
from theory.noise_schedule import KINDS


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """Digits and CIFAR of 60 images: the scripts read them as they read the whole."""
    whole = datasets._digits(TrainingConfig(), datasets.Loading())
    few = LabelledImages(whole.images[:60], whole.labels[:60], classes=10)
    rng = stream(0, "pixels")
    cifar = LabelledImages(
        rng.integers(256, size=(60, 3, 32, 32), dtype=np.uint8), np.arange(60) % 10, classes=10, test_images=20
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script_data, "_digits", lambda: few)
        patch.setattr(script_data, "_CIFAR_IMAGES", 60)
        patch.setattr(script_data, "_CIFAR_TESTS", 20)
        patch.setitem(datasets.DATASETS, "digits", lambda config, loading: few)
        patch.setitem(datasets.DATASETS, "cifar10", lambda config, loading: cifar)
        script_data.digits_file.cache_clear()
        yield
    script_data.digits_file.cache_clear()


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def config_of(**fields: Any) -> TrainingConfig:
    few = {
        "train_size": 30,
        "validation_size": 20,
        "batch_size": 10,
        "epochs": 3,
        "label_noise": 0.1,
        "first_member": 3,
    }
    return TrainingConfig(**(few | {"seed": 5, "members": 1, "execution": "loop", "learning_rate": 0.05} | fields))


def cifar_archive(path: Path) -> str:
    """The stand-in for CIFAR-10 in the format of the original archive; returns its SHA-256."""
    cifar = datasets.DATASETS["cifar10"](TrainingConfig(), datasets.Loading())
    pieces = np.split(np.arange(60), [8, 16, 24, 32, 40])
    with tarfile.open(path, "w:gz") as archive:
        for name, piece in zip(script_data._ARCHIVES["cifar10"].files, pieces, strict=True):
            batch = {"data": cifar.images[piece].reshape(len(piece), -1), "labels": cifar.labels[piece].tolist()}
            content = pickle.dumps(batch)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(text: str, config: TrainingConfig, directory: Path, name: str = "train.py") -> Path:
    """The script with what lies beside it; it saves after each epoch."""
    for beside, content in files_beside(config).items():
        (directory / beside).write_bytes(content)
    if config.data == "cifar10":
        digest = cifar_archive(directory / "cifar-10-python.tar.gz")
        text = text.replace(script_data._ARCHIVES["cifar10"].sha256, digest)
        text = text.replace('DATA_DIRECTORY = "."', f"DATA_DIRECTORY = {str(directory)!r}")
    (directory / name).write_text(
        text.replace("CHECKPOINT_SECONDS = 5.0", "CHECKPOINT_SECONDS = 0.0"), encoding="utf-8"
    )
    return directory / name


def loaded(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["script"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def executed(script: Path, *arguments: object) -> str:
    """What the script prints."""
    module = loaded(script)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        with contextlib.redirect_stdout(io.StringIO()) as output:
            module.main()
    return output.getvalue()


class Killed(BaseException):
    pass


def killed(script: Path, out: Path, writes: int) -> None:
    """The script, killed when it is about to put the k-th file in its place."""
    module = loaded(script)
    whole, count = module.write_whole, itertools.count(1)

    def write_whole(path: Path, content: bytes) -> None:
        if next(count) == writes:
            path.with_name(f".{path.name}.tmp").write_bytes(content[:50])
            raise Killed
        whole(path, content)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(module, "write_whole", write_whole)
        patch.setattr(sys, "argv", [str(script), "--out", str(out)])
        with pytest.raises(Killed):
            module.main()


def checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(out / "checkpoint.pt", weights_only=True)


def assert_same(first: Any, second: Any) -> None:
    """Bit equality of nested states."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


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


def perturbed(name: str, **options: Any) -> dict[str, Any]:
    return {"perturbation": {"name": name, **options}, "interval": 1}


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
