"""Image folders and archives, their layouts and errors, and that they are decoded once."""

import contextlib
import io
import os
import tarfile
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from nnval.engine import image_files
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import data_options, load_data
from nnval.engine.image_files import list_folder, read_archive, read_folder
from nnval.engine.image_layout import by_class, parts_of
from nnval.engine.labelled_images import LabelledImages

COMPRESSIONS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("JOSTLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pixels_of(number, shape=(6, 5, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def contents(splits=("train", "test"), classes=("cat", "dog"), each=3, shape=(6, 5, 3)):
    """Names and bytes of a small data set; the images are numbered in the order of their names."""
    prefixes = [f"{split}/" for split in splits] or [""]
    names = [f"{prefix}{name}/{n:03}.png" for prefix in prefixes for name in classes for n in range(each)]
    return {name: encoded(pixels_of(number, shape)) for number, name in enumerate(names)}


def make_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_archive(path, files, compression="xz", extra=()):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member)
    return path


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(path, **options):
    return read_folder(list_folder(path), **options) if path.is_dir() else read_archive(path, **options)


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


# ---- Layouts that are wrong -----------------------------------------------------------------------------------------


def put(files, **changes):
    """A copy with files added, or removed where the content is None; ``__`` stands for a slash."""
    changed = files | {name.replace("__", "/"): content for name, content in changes.items()}
    return {name: content for name, content in changed.items() if content is not None}


IMAGE = encoded(pixels_of(0))
WRONG = {
    "class only in test": (put(contents(), test__fox__1=IMAGE), "the class 'fox' is in test, but not in train"),
    "class only in train": (put(contents(), train__fox__1=IMAGE), "the class 'fox' is in train, but not in test"),
    "nothing": ({}, "holds no images; expected train/<class>/<image>"),
    "one class": (contents(classes=("cat",)), r"train: classes \['cat'\] are too few, two are needed"),
    "no classes": (put({}, train__a=IMAGE, test__a=IMAGE), "'t.*/a' is not where an image is expected"),
    "at the top": (put(contents(), x=IMAGE), "'x' is not where an image is expected"),
    "too deep": (put(contents(), train__cat__more__x=IMAGE), "'train/cat/more/x' is not where an image is expected"),
    "val instead of test": (
        contents(("train", "val")),
        "not where .* expected: .* at the top there are 'train', 'v",
    ),
    "test alone": (contents(("test",)), "has a folder test and no folder train"),
    "a text": (
        put(contents(), train__cat__notes=b"a note"),
        "'train/cat/notes' is not an image of BMP, .* or its beg",
    ),
    "empty file": (put(contents(), train__cat__0=b""), "'train/cat/0' is not an image of BMP"),
    "EPS": (put(contents(), train__cat__x=b"%!PS-Adobe-3.0 EPSF-3.0\n"), "'train/cat/x' is not an image of BMP"),
    "another size": (
        put(contents(), train__dog__x=encoded(pixels_of(0, (6, 7, 3)))),
        "'train/dog/x' has 7x6 pixels, but '.*' has 5x6: all images must be of one size",
    ),
    "cut short": (put(contents(), train__cat__x=IMAGE[:-40]), "'train/cat/x' cannot be decoded .*cut short or damaged"),
    "damaged": (
        put(contents(), train__cat__x=IMAGE[:60] + bytes([IMAGE[60] ^ 255]) + IMAGE[61:]),
        "'train/cat/x' cannot be decoded .*cut short or damaged",
    ),
    "JPEG cut short": (
        put(contents(), train__cat__x=encoded(pixels_of(0), "JPEG")[:-10]),
        r"'train/cat/x' cannot be decoded \(image file is truncated",
    ),
    "16 bits": (
        put(contents(), train__cat__x=encoded(np.zeros((6, 5), np.uint16))),
        "'train/cat/x' has pixels of kind I;16, which 8 bits cannot hold",
    ),
}


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_named(tmp_path, case, kind):
    files, message = WRONG[case]
    path = tmp_path / "x"
    path.mkdir() if kind == "folder" and not files else None
    path = make_folder(path, files) if kind == "folder" else make_archive(path, files)
    with pytest.raises(ValueError, match=rf"{path}.*{message}"):
        read(path)
    with pytest.raises(ValueError, match=message):
        load_data(TrainingConfig(**data_options(str(path)), train_size=4, validation_size=1, batch_size=2))


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize(
    ("files", "where"), [(contents(), "train/fox"), (contents(), "test/fox"), (contents(()), "fox")]
)
def test_empty_class_is_named(tmp_path, kind, files, where):
    if kind == "folder":
        path = make_folder(tmp_path / "x", files)
        (path / where).mkdir()
    else:
        path = make_archive(tmp_path / "x", files, extra=[member(where, tarfile.DIRTYPE)])
    with pytest.raises(ValueError, match=r"the class 'fox' is an empty folder"):
        read(path)


def test_decompression_bomb_is_an_error_where_pillow_warns(tmp_path, monkeypatch):
    path = make_folder(tmp_path / "x", contents())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # 30 are more, but less than twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"'test/cat/000.png' is refused: Image size \(30 pixels\) exceeds limit"):
            read(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"is refused: Image size \(30 pixels\) exceeds limit"):
        read(path)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_huge_file_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(image_files, "MOST_BYTES", 50)
    path = make_folder(tmp_path / "x", contents()) if kind == "folder" else make_archive(tmp_path / "x", contents())
    with pytest.raises(ValueError, match=r"'t.*/cat/000.png' has more than 50 bytes, as no image does"):
        read(path)


def test_pipes_broken_links_and_circles_in_a_folder(tmp_path):
    pipe = make_folder(tmp_path / "pipe", contents())
    os.mkfifo(pipe / "train" / "cat" / "pipe")
    broken = make_folder(tmp_path / "broken", contents())
    (broken / "train" / "cat" / "link").symlink_to("nowhere")
    for path, name in ((pipe, "pipe"), (broken, "link")):
        with pytest.raises(ValueError, match=rf"'train/cat/{name}' is no regular file \(a broken link, a pipe"):
            read(path)
    circle = make_folder(tmp_path / "circle", contents())
    (circle / "train" / "cat" / "up").symlink_to(circle)
    with pytest.raises(ValueError, match=r"'train/cat/up/.*' is nested too deeply"):
        read(circle)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("train/cat/x", tarfile.SYMTYPE, "/etc/passwd"), "'train/cat/x' is a link"),
        (member("train/cat/x", tarfile.LNKTYPE, "train/cat/000.png"), "'train/cat/x' is a link"),
        (member("train/cat/x", tarfile.CHRTYPE), "'train/cat/x' is a device or a pipe"),
        (member("train/cat/x", tarfile.FIFOTYPE), "'train/cat/x' is a device or a pipe"),
        (member("../x", tarfile.REGTYPE), r"'../x' leads out of the archive"),
        (member("train/../../x", tarfile.REGTYPE), r"leads out of the archive"),
        (member("/train/cat/x", tarfile.REGTYPE), "'/train/cat/x' leads out of the archive"),
        (member("train/cat/000.png", tarfile.REGTYPE), "'train/cat/000.png' is in the archive twice"),
        (member("train/cat/\x1b[2J", tarfile.REGTYPE), r"'train/cat/\\x1b\[2J' is not an image"),
    ],
)
def test_hostile_members(tmp_path, extra, message):
    path = make_archive(tmp_path / "x.tar", contents(), "", extra=[extra])
    with pytest.raises(ValueError, match=message):
        read(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_archive_cut_short_anywhere(tmp_path, ending):
    path = make_archive(tmp_path / f"images{ending}", contents(), COMPRESSIONS[ending])
    whole = path.read_bytes()
    # A plain archive is complete when its files are and one empty block follows.
    lengths = {len(whole) * k // 17 for k in range(1, 17)} if ending != ".tar" else set(range(1, 24 * 512, 256))
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged or cut short after \d+ files|or its beginning is damaged"):
            read(path)


@pytest.mark.parametrize("block", [0, 2, 10])
def test_damaged_header_is_not_taken_for_the_end(tmp_path, block):
    path = make_archive(tmp_path / "x.tar", contents(), "")
    content = bytearray(path.read_bytes())
    content[512 * block + 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad checksum"):
        read(path)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_damaged_checksum_at_the_end(tmp_path, ending):
    path = make_archive(tmp_path / f"x{ending}", contents(each=100), COMPRESSIONS[ending])
    content = bytearray(path.read_bytes())
    content[-7] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or cut short after [1-9]\d* files"):
        read(path)


def test_no_archive_at_all(tmp_path):
    for content in (b"", b"PK\x03\x04" + bytes(600), b"some text " * 200):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match=r"is neither a folder nor a tar archive \(.tar, .tar.gz"):
            read(tmp_path / "x")
    with pytest.raises(ValueError, match=r"cannot read the archive"):
        read_archive(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"cannot read the image folder"):
        list_folder(tmp_path / "nowhere")


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


def test_failed_decoding_leaves_no_entry(tmp_path, cache):
    path = make_folder(tmp_path / "x", put(contents(), train__cat__x=b"text"))
    for _ in range(2):
        with pytest.raises(ValueError, match="is not an image"):
            load_data(TrainingConfig(**data_options(str(path)), train_size=4, validation_size=2, batch_size=2))
    with contextlib.suppress(FileNotFoundError):
        assert list((cache / "images").iterdir()) == []


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
