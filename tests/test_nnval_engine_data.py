"""Data sets, splits, networks, devices."""

import operator
import sys

import numpy as np
import pytest
import torch

from nnval.engine import datasets
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.device import environment, resolve_device, thread_count
from nnval.engine.models import build_model, lenet, mlp
from sim.random_streams import stream


def digits():
    return datasets.DATASETS["digits"](TrainingConfig())


def test_digits_are_the_embedded_images():
    whole = digits()
    assert whole.images.shape == (1797, 1, 8, 8)
    assert whole.images.dtype == np.float32
    assert (whole.images.min(), whole.images.max()) == (0, 1)


@pytest.mark.parametrize("sizes", [(500, 400), (61, 39), (1, 1), (1700, 96)])
def test_splits_are_disjoint_and_complete_and_stratified(sizes, seed):
    labels = digits().labels
    parts = datasets._split(labels, 10, sizes, stream(seed, "split"))
    assert [len(part) for part in parts] == [*sizes, 1797 - sum(sizes)]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1797))
    of_class = np.bincount(labels, minlength=10)
    # Each split is within one of its share of what the splits before left over, so these bounds follow.
    for part, slack in zip(parts, (1, 2, 2), strict=True):
        share = of_class * len(part) / 1797
        assert np.abs(np.bincount(labels[part], minlength=10) - share).max() < slack


def test_split_of_one_class_in_a_hundred_is_exact():
    labels = np.repeat([0, 1], [99 * 4, 4])
    parts = datasets._split(labels, 2, (100, 200), np.random.default_rng(0))
    assert [int(labels[part].sum()) for part in parts] == [1, 2, 1]


def test_normalised_by_the_training_images():
    data = load_data(TrainingConfig())
    train = data.train.pixels.double()
    assert float(train.mean()) == pytest.approx(0, abs=1e-6)
    assert float(train.std(correction=0)) == pytest.approx(1, rel=1e-6)
    assert abs(float(data.test.pixels.mean())) > 1e-6
    assert (data.train.pixels.dtype, data.train.labels.dtype) == (torch.float32, torch.int64)
    assert (data.shape, data.classes) == ((1, 8, 8), 10)


@pytest.mark.parametrize("fraction", [0, 0.2, 0.333, 1])
def test_label_noise_is_exact_and_in_training_only(fraction, seed):
    clean = load_data(TrainingConfig(label_noise=0, data_seed=seed))
    noisy = load_data(TrainingConfig(label_noise=fraction, data_seed=seed))
    assert int((clean.train.labels != noisy.train.labels).sum()) == round(500 * fraction)
    assert noisy.train.labels.min() >= 0
    assert noisy.train.labels.max() < 10
    for name in ("train.pixels", "validation.pixels", "validation.labels", "test.pixels", "test.labels"):
        assert torch.equal(operator.attrgetter(name)(clean), operator.attrgetter(name)(noisy))


def test_wrong_labels_are_uniform_over_the_others():
    labels = np.repeat(3, 90_000)
    noisy = datasets._with_label_noise(labels, 10, 1.0, np.random.default_rng(0))
    counts = np.bincount(noisy, minlength=10)
    assert counts[3] == 0
    assert np.abs(np.delete(counts, 3) - 10_000).max() < 5 * np.sqrt(10_000)


def test_splits_depend_on_the_data_seed_only():
    first, same, other = (load_data(TrainingConfig(data_seed=s, seed=t)) for s, t in ((0, 0), (0, 1), (1, 0)))
    assert torch.equal(first.train.pixels, same.train.pixels)
    assert not torch.equal(first.train.pixels, other.train.pixels)


def test_data_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"data='cifar11' must be one of digits"):
        load_data(TrainingConfig(data="cifar11"))
    with pytest.raises(ValueError, match=r"must leave test samples: digits has 1797 images"):
        load_data(TrainingConfig(train_size=1397, validation_size=400))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"scikit-learn, which is missing: pip install"):
        load_data(TrainingConfig())


def test_constant_channel_stays_finite(monkeypatch):
    whole = datasets.LabelledImages(np.zeros((30, 2, 3, 3), np.float32), np.arange(30) % 3, 3)
    monkeypatch.setitem(datasets.DATASETS, "flat", lambda config: whole)
    data = load_data(TrainingConfig(data="flat", train_size=9, validation_size=9, batch_size=3))
    assert data.train.pixels.eq(0).all()
    assert data.shape == (2, 3, 3)


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("shape", "classes", "count"),
    [((3, 32, 32), 10, 62006), ((1, 32, 32), 10, 61706), ((1, 28, 28), 10, 61706), ((3, 32, 32), 100, 69656)],
)
def test_lenet_has_the_published_number_of_weights(shape, classes, count):
    assert weights(lenet(shape, classes)) == count


@pytest.mark.parametrize("side", [4, 5, 7, 8, 12, 15, 16, 17, 28, 31, 32, 33, 64])
def test_lenet_takes_any_side(side):
    assert lenet((2, side, side + 3), 7)(torch.zeros(5, 2, side, side + 3)).shape == (5, 7)


def test_mlp_sizes():
    assert weights(mlp((3, 4, 5), 7, (11, 13))) == 60 * 11 + 11 + 11 * 13 + 13 + 13 * 7 + 7
    assert weights(mlp((3, 4, 5), 7, ())) == 60 * 7 + 7


def test_model_errors():
    with pytest.raises(ValueError, match=r"model='resnet19' must be one of mlp, lenet"):
        build_model(TrainingConfig(model="resnet19"), (1, 8, 8), 10)
    with pytest.raises(ValueError, match=r"needs images of at least 4x4 pixels, not 3x8; use model='mlp'"):
        build_model(TrainingConfig(model="lenet"), (1, 3, 8), 10)


@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_building_leaves_the_global_generator_alone(model):
    before = torch.random.get_rng_state()
    build_model(TrainingConfig(model=model), (1, 8, 8), 10)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_device_errors():
    with pytest.raises(ValueError, match=r"device='abacus' cannot be used here .*device='cpu' always can"):
        resolve_device("abacus")
    with pytest.raises(ValueError, match=r"device='cuda:99' cannot be used here"):
        resolve_device("cuda:99")
    with pytest.raises(ValueError, match=r"device='meta' computes no numbers"):
        resolve_device("meta")


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
        assert environment(torch.device("cpu"))["threads"] == before + 1
    assert torch.get_num_threads() == before
    with thread_count(None):
        assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match=r"threads=0 must be >= 1"), thread_count(0):
        pass
