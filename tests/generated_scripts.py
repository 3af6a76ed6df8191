"""Generated scripts on few images: written, executed, killed, compared; for their tests."""

import contextlib
import hashlib
import importlib.util
import io
import itertools
import pickle
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from nnval import script_data
from nnval.engine import datasets
from nnval.engine.config import TrainingConfig
from nnval.engine.labelled_images import LabelledImages
from nnval.training_script import files_beside
from sim.random_streams import stream


@contextlib.contextmanager
def of_60_images() -> Iterator[None]:
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


@contextlib.contextmanager
def torch_put_back() -> Iterator[None]:
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


def perturbed(name: str, **options: Any) -> dict[str, Any]:
    return {"perturbation": {"name": name, **options}, "interval": 1}
