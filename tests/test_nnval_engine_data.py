"""Data sets, splits, networks, devices."""

import operator
import sys

import numpy as np
import pytest
import torch

from nnval.engine import datasets
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import LabelledImages, data_options, load_data
from nnval.engine.device import environment, resolve_device, thread_count
from nnval.engine.models import build_model, lenet, mlp
from sim.random_streams import stream


def digits():
    return datasets.DATASETS["digits"](TrainingConfig(), datasets.Loading())


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
    for size in (1397, None):
        with pytest.raises(
            ValueError,
            match=rf"train_size={size} and validation_size=400 must leave test samples: digits has 1797 images",
        ):
            load_data(TrainingConfig(train_size=size, validation_size=400))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"scikit-learn, which is missing: pip install"):
        load_data(TrainingConfig())


def test_constant_channel_stays_finite(monkeypatch):
    whole = datasets.LabelledImages(np.zeros((30, 2, 3, 3), np.float32), np.arange(30) % 3, 3)
    monkeypatch.setitem(datasets.DATASETS, "flat", lambda config, loading: whole)
    data = load_data(TrainingConfig(data="flat", train_size=9, validation_size=9, batch_size=3))
    assert data.train.pixels.eq(0).all()
    assert data.shape == (2, 3, 3)


# ---- Official test images, and pixels that are bytes ----------------------------------------------------------------


def official(train=60, tests=30, classes=3, channels=3):
    """Images of which each holds its own number in all pixels of a channel, and noise in the others."""
    pixels = np.random.default_rng(0).integers(0, 256, (train + tests, channels, 4, 4), dtype=np.uint8)
    pixels[:, 0] = np.arange(train + tests)[:, None, None]
    return LabelledImages(pixels, np.arange(train + tests) % classes, classes, test_images=tests)


def loaded(monkeypatch, whole, **options):
    monkeypatch.setitem(datasets.DATASETS, "mine", lambda config, loading: whole)
    return load_data(TrainingConfig(data="mine", batch_size=3, **{"label_noise": 0, **options}))


def numbers(images):
    return images.pixels[:, 0, 0, 0].tolist()


def parts(data):
    return [numbers(images) for images in (data.train, data.validation, data.test)]


@pytest.mark.parametrize("size", [None, 42, 9])
def test_official_test_images_report(monkeypatch, size, seed):
    data = loaded(monkeypatch, official(), train_size=size, validation_size=18, data_seed=seed)
    train, validation, test = parts(data)
    assert test == list(range(60, 90))
    assert len(train) == (size or 42)
    assert len(validation) == 18
    assert len({*train, *validation}) == len(train) + 18
    assert max(*train, *validation) < 60
    for images in (data.train, data.validation, data.test):
        assert len(set(images.labels.bincount().tolist())) == 1
        assert images.labels.tolist() == [number % 3 for number in numbers(images)]


@pytest.mark.parametrize(("size", "validation"), [(None, 9), (12, 30)])
def test_validation_from_test(monkeypatch, size, validation, seed):
    data = loaded(
        monkeypatch,
        official(),
        train_size=size,
        validation_size=validation,
        validation_from="test",
        data_seed=seed,
    )
    train, deciding, reporting = parts(data)
    assert len(train) == len(set(train)) == (size or 60)
    assert max(train) < 60
    assert len(deciding) == validation
    if validation < 30:
        assert sorted(deciding + reporting) == list(range(60, 90))
    else:
        assert sorted(deciding) == sorted(reporting) == list(range(60, 90))
    assert len(set(data.validation.labels.bincount().tolist())) == 1


def test_validation_from_test_leaves_the_training_images_of_a_size_alone(monkeypatch):
    one, other = (
        loaded(monkeypatch, official(), train_size=12, validation_size=size, validation_from="test") for size in (6, 9)
    )
    assert one.train.pixels.equal(other.train.pixels)


def test_sizes_that_do_not_fit(monkeypatch):
    for options, message in (
        ({"train_size": 43, "validation_size": 18}, r"train_size=43 and validation_size=18 must fit into the 60 train"),
        ({"train_size": None, "validation_size": 60}, r"train_size=None and validation_size=60 must fit into the 60"),
        (
            {"train_size": 61, "validation_from": "test", "validation_size": 1},
            r"train_size=61 must be <= 60, the t",
        ),
        (
            {"train_size": 9, "validation_from": "test", "validation_size": 31},
            r"validation_size=31 must be <= 30, the t",
        ),
        ({"train_size": None, "validation_size": 58}, r"batch_size=3 must be <= 2, the training samples"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded(monkeypatch, official(), **options)


def test_bytes_are_normalised_exactly_by_the_training_images(monkeypatch):
    data = loaded(monkeypatch, official(600, 30), train_size=480, validation_size=60)
    assert data.train.pixels.dtype == torch.uint8
    pixels = data.train.pixels.numpy().astype(np.float64)
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    for images in (data.train, data.validation, data.test):
        assert images.scale is not None
        assert images.offset is not None
        assert (images.scale.shape, images.scale.dtype) == ((3, 1, 1), torch.float32)
        np.testing.assert_allclose(images.scale.flatten().numpy(), 1 / deviation, rtol=1e-7)
        np.testing.assert_allclose(images.offset.flatten().numpy(), -mean / deviation, rtol=1e-7)
    inputs = data.train.all_inputs().double()
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-6
    assert (inputs.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6


def test_constant_channel_of_bytes_is_zero(monkeypatch):
    whole = official()
    whole.images[:, 1] = 255
    data = loaded(monkeypatch, whole, train_size=9, validation_size=9)
    assert data.train.all_inputs()[:, 1].eq(0).all()


def test_sums_of_many_white_pixels_do_not_overflow():
    pixels = np.full((700, 1, 64, 64), 255, np.uint8)
    pixels[:350] = 254
    scale, offset = datasets._scale_and_offset(pixels)
    assert (float(scale), float(offset)) == (2, -509)


def test_data_is_the_one_that_was_asked_for(monkeypatch):
    sha256 = official().sha256
    data = loaded(monkeypatch, official(), train_size=9, validation_size=9, data_sha256=sha256)
    assert data.sha256 == data.to(torch.device("cpu")).sha256 == sha256
    other = loaded(monkeypatch, official(), train_size=12, validation_size=3, data_seed=1, label_noise=0.5)
    assert other.sha256 == sha256
    with pytest.raises(ValueError, match=rf"data_sha256={'0' * 64} was expected of mine, but found {sha256}: other im"):
        loaded(monkeypatch, official(), train_size=9, validation_size=9, data_sha256="0" * 64)


def test_data_options(tmp_path, monkeypatch):
    assert data_options("cifar10") == {"data": "cifar10"}
    assert data_options(str(tmp_path)) == {"data": "image_folder", "data_dir": str(tmp_path)}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert data_options("digits") == {"data": "digits"}
    assert data_options("./digits") == {"data": "image_folder", "data_dir": str(tmp_path / "digits")}
    for text in ("cifar11", "", "../nowhere.tar.xz"):
        with pytest.raises(ValueError, match=rf"data='{text}' must be one of digits, cifar10, .*, or an existing path"):
            data_options(text)


def test_image_folder_needs_a_path(tmp_path):
    with pytest.raises(ValueError, match=r"data='image_folder' needs data_dir"):
        load_data(TrainingConfig(data="image_folder"))
    with pytest.raises(ValueError, match=r"data_dir='.*nowhere' must be an existing folder or tar archive"):
        load_data(TrainingConfig(data="image_folder", data_dir=str(tmp_path / "nowhere")))


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
