"""MNIST and CIFAR through torchvision, with files made here: nothing is downloaded."""

import hashlib
import pathlib
import pickle
import sys
import urllib.error

import numpy as np
import pytest
import torch

from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.torchvision_pair import import_torchvision


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def write_cifar(directory, monkeypatch, loader, *, official=True):
    """Files as those of CIFAR, with 20 images each; torchvision takes them for the official ones if it is told so."""
    fine = loader.__name__ == "CIFAR100"
    rng, folder = np.random.default_rng(0), directory / loader.base_folder
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}

    def write(name, value):
        (folder / name).write_bytes(pickle.dumps(value))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for which, entries in lists.items():
        for name, _ in getattr(loader, which):
            images = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
            labels = {"fine_labels" if fine else "labels": (np.arange(20) % 10).tolist()}
            entries.append([name, write(name, {"data": images, **labels})])
    meta = {**loader.meta, "md5": write(loader.meta["filename"], {loader.meta["key"]: ["a"]})}
    if official:
        for name, value in {**lists, "meta": meta}.items():
            monkeypatch.setattr(loader, name, value)
    return folder


def write_idx(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def write_mnist(folder, labels=10):
    rng = np.random.default_rng(0)
    for name, count in (("train", 50), ("t10k", 30)):
        write_idx(folder / f"{name}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{name}-labels-idx1-ubyte", (np.arange(count) % labels).astype(np.uint8))


@pytest.mark.parametrize(("name", "loader", "count"), [("cifar10", "CIFAR10", 100), ("cifar100", "CIFAR100", 20)])
def test_cifar_through_torchvision(tmp_path, monkeypatch, name, loader, count):
    loader = getattr(import_torchvision("torchvision.datasets"), loader)
    write_cifar(tmp_path, monkeypatch, loader)
    config = TrainingConfig(data=name, data_dir=str(tmp_path), train_size=None, validation_size=10, batch_size=5)
    data = load_data(config)
    assert (len(data.train), len(data.validation), len(data.test)) == (count - 10, 10, 20)
    assert (data.shape, data.classes) == ((3, 32, 32), 100 if name == "cifar100" else 10)
    expected = loader(tmp_path, train=False)
    assert data.test.pixels.permute(0, 2, 3, 1).numpy().tolist() == expected.data.tolist()
    assert data.test.labels.tolist() == expected.targets
    monkeypatch.setitem(sys.modules, "torchvision", None)  # the second time it comes from the cache
    assert load_data(config).sha256 == data.sha256


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_through_torchvision(tmp_path, name, folder):
    write_mnist(tmp_path / folder / "raw")
    options = {"train_size": None, "validation_size": 10, "batch_size": 5}
    data = load_data(TrainingConfig(data=name, data_dir=str(tmp_path), **options))
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 30)
    assert (data.shape, data.classes, data.train.pixels.dtype) == ((1, 28, 28), 10, torch.uint8)


def test_pickles_other_than_the_official_ones_are_not_loaded(tmp_path, monkeypatch):
    folder = write_cifar(tmp_path / "data", monkeypatch, import_torchvision("torchvision.datasets").CIFAR10)
    config = TrainingConfig(data="cifar10", data_dir=str(tmp_path / "data"), train_size=20, validation_size=10)
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
        with pytest.raises(
            ValueError, match=r"data='cifar10' in .* is incomplete, damaged .*--data-dir, .* --download"
        ):
            load_data(config)
        assert not (tmp_path / "trapped").exists()
        (folder / name).write_bytes(before)
    load_data(config)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion-mnist"])
def test_missing_data_set_says_what_helps(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # not needed to say so
    with pytest.raises(ValueError, match=rf"data='{name}' is not in {tmp_path}: .* by --data-dir, .* by --download"):
        load_data(TrainingConfig(data=name, data_dir=str(tmp_path)))
    monkeypatch.setenv("JOSTLE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=rf"data='{name}' is not in {tmp_path}/cache/downloads: "):
        load_data(TrainingConfig(data=name))


def test_download_is_asked_for(tmp_path, monkeypatch):
    loader = import_torchvision("torchvision.datasets").MNIST
    asked = []

    def download(self):
        asked.append(self.root)
        write_mnist(tmp_path / "MNIST" / "raw")

    monkeypatch.setattr(loader, "download", download)
    config = TrainingConfig(data="mnist", data_dir=str(tmp_path), train_size=20, validation_size=10)
    with pytest.raises(ValueError, match="--download"):
        load_data(config)
    assert asked == []
    assert len(load_data(config, download=True).train) == 20
    assert set(map(str, asked)) == {str(tmp_path)}


def test_download_that_fails(tmp_path, monkeypatch):
    def offline(self):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(import_torchvision("torchvision.datasets").MNIST, "download", offline)
    with pytest.raises(ValueError, match=r"could not be fetched \(<urlopen error no network>\): .*--data-dir"):
        load_data(TrainingConfig(data="mnist", data_dir=str(tmp_path)), download=True)


def test_mnist_files_that_are_wrong(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    config = TrainingConfig(data="mnist", data_dir=str(tmp_path), train_size=20, validation_size=10)
    write_mnist(raw, labels=11)
    with pytest.raises(ValueError, match=r"damaged .*\(labels from 0 to 10\)"):
        load_data(config)
    write_mnist(raw)
    images = raw / "t10k-images-idx3-ubyte"
    for content in (images.read_bytes()[:-100], b"", b"\0" * 100):
        images.write_bytes(content)
        with pytest.raises(ValueError, match=r"data='mnist' in .* is incomplete, damaged"):
            load_data(config)


class Mismatch:
    """An import of torchvision beside a torch it was not built for."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")


def test_torchvision_of_another_torch(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Mismatch(), *sys.meta_path])
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    write_mnist(tmp_path / "MNIST" / "raw")
    with pytest.raises(ValueError, match=r"nms does not exist.*pip install 'torch==2.13.\*' 'torchvision==0.28.\*'"):
        load_data(TrainingConfig(data="mnist", data_dir=str(tmp_path)))
