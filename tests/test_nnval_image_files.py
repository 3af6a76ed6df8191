"""Image folders and archives: their layouts, formats and hidden files, and that they are decoded once."""

import io
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from nnval.engine import image_files
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import data_options, load_data
from nnval.engine.image_layout import by_class, parts_of
from nnval.engine.labelled_images import LabelledImages
from tests.small_image_sets import COMPRESSIONS, contents, encoded, make_archive, make_folder, member, pixels_of, read

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("around", ["", "pictures/"])
@pytest.mark.parametrize("splits", [("train", "test"), ("train",), ()])
def test_folder_and_archive_give_the_same_images(tmp_path, splits, around):
    files = {around + name: content for name, content in contents(splits).items()}
    folder = read(make_folder(tmp_path / "folder", files))
    backwards = {f"./{name}": files[name] for name in reversed(files)}
    archive = read(make_archive(tmp_path / "archive", backwards))
    assert folder.sha256 == archive.sha256
    official = splits == ("train", "test")
    assert folder.test_images == 6 * official
    assert folder.images.shape == (12 if official else 6, 3, 6, 5)
    for number, image in enumerate(folder.images):
        assert np.array_equal(image.transpose(1, 2, 0), pixels_of(number))
    assert folder.labels.tolist() == [0, 0, 0, 1, 1, 1] * (1 + official)
    assert (folder.classes, folder.images.dtype, folder.labels.dtype) == (2, np.uint8, np.int64)


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_all_compressions(tmp_path, ending):
    path = make_archive(tmp_path / f"images{ending}", contents(), COMPRESSIONS[ending])
    assert read(path).sha256 == read(make_folder(tmp_path / "folder", contents())).sha256


def test_sha256_knows_pixels_labels_classes_and_test_images():
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2
    other = images.copy()
    other[3, 0, 1, 1] = 1
    variants = [
        LabelledImages(images, labels, 2),
        LabelledImages(other, labels, 2),
        LabelledImages(images, 1 - labels, 2),
        LabelledImages(images, labels, 3),
        LabelledImages(images, labels, 2, test_images=2),
        LabelledImages(images.reshape(4, 1, 1, 4), labels, 2),
        LabelledImages(images.astype(np.float32), labels, 2),
    ]
    assert len({whole.sha256 for whole in variants}) == len(variants)
    assert LabelledImages(images[:, :, ::-1], labels.astype(">i8"), 2).sha256 == variants[0].sha256


def test_grey_stays_grey_and_becomes_colour_among_colour(tmp_path):
    files = contents(shape=(6, 5))
    grey = read(make_folder(tmp_path / "grey", files))
    assert grey.images.shape == (12, 1, 6, 5)
    assert np.array_equal(grey.images[7, 0], pixels_of(7, (6, 5)))
    mixed = read(make_folder(tmp_path / "mixed", files | {"train/dog/9.png": encoded(pixels_of(99))}))
    assert mixed.images.shape == (13, 3, 6, 5)
    assert np.array_equal(mixed.images[0], np.repeat(grey.images[0], 3, axis=0))
    assert np.array_equal(mixed.images[6].transpose(1, 2, 0), pixels_of(99))


@pytest.mark.parametrize(("format", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "CMYK"), ("BMP", "RGB")])
def test_formats_and_modes(tmp_path, format, mode):
    file = io.BytesIO()
    Image.new("RGB", (5, 6), (250, 10, 10)).convert(mode).save(file, format)
    whole = read(make_folder(tmp_path / "images", {f"{name}/x": file.getvalue() for name in "ab"}))
    assert np.abs(whole.images[0].reshape(3, -1).mean(1) - [250, 10, 10]).max() < 6


def test_palette_with_transparency_does_not_warn(tmp_path):
    file = io.BytesIO()
    Image.new("P", (5, 6), 1).save(file, "PNG", transparency=bytes([0, 128]))
    assert read(make_folder(tmp_path / "images", {f"{name}/x": file.getvalue() for name in "ab"})).images.shape[1] == 3


def test_hidden_files_are_skipped(tmp_path):
    hidden = {"train/.DS_Store": b"x", "train/cat/._0.png": b"x", ".git/config": b"x", "._train": b"x"}
    expected = read(make_folder(tmp_path / "plain", contents())).sha256
    assert read(make_folder(tmp_path / "folder", contents() | hidden)).sha256 == expected
    link = member("train/.link", tarfile.SYMTYPE, "/etc/passwd")
    assert read(make_archive(tmp_path / "archive", hidden | contents(), extra=[link])).sha256 == expected


def test_links_in_a_folder_are_followed(tmp_path):
    target = make_folder(tmp_path / "target", contents())
    (tmp_path / "link").mkdir()
    for split in ("train", "test"):
        (tmp_path / "link" / split).symlink_to(target / split)
    assert read(tmp_path / "link").sha256 == read(target).sha256


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_progress_ends_at_the_whole(tmp_path, kind):
    files = contents(each=40)
    path = make_folder(tmp_path / "x", files) if kind == "folder" else make_archive(tmp_path / "x", files)
    calls = []
    read(path, progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert calls[-1][0] == calls[-1][1] == (160 if kind == "folder" else path.stat().st_size)
    assert calls[-1][2] == "160 images decoded"


def test_large_images_in_threads(tmp_path):
    files = contents((), each=150, shape=(100, 100))
    whole = read(make_archive(tmp_path / "x.tar", files, ""))
    for number in (0, 149, 299):
        assert np.array_equal(whole.images[number, 0], pixels_of(number, (100, 100)))


def test_names():
    assert parts_of("./a//b/./c", "x") == ("a", "b", "c")
    # A class may be called train or test, as long as there are others.
    assert list(by_class([("bus", "1"), ("train", "1")], [], "x")[0]) == ["bus", "train"]
    train, test = by_class([("a", "train", "c", "1"), ("a", "train", "d", "1")], [], "x")
    assert (list(train), test) == (["c", "d"], {})


# ---- Through the cache ----------------------------------------------------------------------------------------------


def never(*arguments):
    raise AssertionError("decoded again")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_loading_twice_decodes_once(tmp_path, monkeypatch, kind):
    path = make_folder(tmp_path / "x", contents()) if kind == "folder" else make_archive(tmp_path / "x", contents())
    config = TrainingConfig(**data_options(str(path)), train_size=4, validation_size=2, batch_size=2)
    first = load_data(config)
    monkeypatch.setattr(image_files, "_decode", never)
    second = load_data(config)
    assert (first.sha256, first.notices) == (second.sha256, ())
    assert first.train.pixels.equal(second.train.pixels)


@pytest.mark.slow
@pytest.mark.shared
def test_cifar10_archive(shared_data):
    path = shared_data / "cifar10-jpeg.tar.xz"
    config = TrainingConfig(**data_options(str(path)), train_size=None, validation_size=5000, label_noise=0)
    data = load_data(config)
    assert (len(data.train), len(data.validation), len(data.test), data.classes) == (45_000, 5_000, 10_000, 10)
    assert data.train.labels.bincount().tolist() == [4500] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    # The usual mean and standard deviation of CIFAR-10, to what JPEG and the choice of 45,000 images change.
    assert data.train.scale is not None
    assert data.train.offset is not None
    deviation = 1 / data.train.scale.flatten() / 255
    mean = -data.train.offset.flatten() * deviation
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.002)
    assert deviation.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=0.004)
    begin = time.perf_counter()
    assert load_data(config).sha256 == data.sha256
    assert time.perf_counter() - begin < 10  # it is 0.5 s, and decoding 15 s
