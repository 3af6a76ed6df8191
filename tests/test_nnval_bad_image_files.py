"""Image folders and archives that are wrong, damaged or hostile: each error names the file."""

import contextlib
import os
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image

from nnval.engine import image_files
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import data_options, load_data
from nnval.engine.image_files import list_folder, read_archive
from tests.small_image_sets import (
    COMPRESSIONS,
    contents,
    encoded,
    make_archive,
    make_folder,
    member,
    pixels_of,
    put,
    read,
)

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


def test_failed_decoding_leaves_no_entry(tmp_path, own_cache):
    path = make_folder(tmp_path / "x", put(contents(), train__cat__x=b"text"))
    for _ in range(2):
        with pytest.raises(ValueError, match="is not an image"):
            load_data(TrainingConfig(**data_options(str(path)), train_size=4, validation_size=2, batch_size=2))
    with contextlib.suppress(FileNotFoundError):
        assert list((own_cache / "images").iterdir()) == []
