"""Files that nobody should trust: each gives a clear ValueError or the right answer, soon."""

import bz2
import gzip
import lzma
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnval.measure.curves import read_curves
from tests.curve_texts import GOOD, HEADER, parquet, zipped

ROWS = [[0.1, 0.2]]
LONG_ROWS = "".join(f"{r},{e},0.{e}\n" for r in range(100) for e in range(1, 10))

TEXTS = {
    "empty": ("", "is empty"),
    "white space": (" \n\n\t\n", "is empty but for white space"),
    "header only": (HEADER, "has no rows"),
    "header twice": (GOOD + GOOD, "'acc' in column 'acc', row 4, is not a number; is the header written again"),
    "no header": ("a,1,0.1\na,2,0.2\n", "no column 'epoch'"),
    "one run": (GOOD, ROWS),
    "constant": (HEADER + "a,1,0.1\na,2,0.1\n", [[0.1, 0.1]]),
    "one value": (HEADER + "a,1,0.1\n", [[0.1]]),
    "nan only": (HEADER + "a,1,nan\na,2,nan\n", "no finite values"),
    "inf only": (HEADER + "a,1,inf\na,2,inf\n", "no finite values"),
    "nan between": (HEADER + "a,1,0.1\na,2,nan\na,3,0.3\n", [[0.1, np.nan, 0.3]]),
    "inf at the end": (HEADER.replace("acc", "loss") + "a,1,2\na,2,inf\n", [[2, np.inf]]),
    "dashes": (HEADER + "a,1,-\na,2,0.2\n", [[np.nan, 0.2]]),
    "text among the numbers": (HEADER + "a,1,0.1\na,2,high\n", "'high' in column 'acc', row 3, is not a number"),
    "percent signs": (HEADER + "a,1,10%\n", "'10%' in column 'acc', row 2"),
    "wrong separator": ("run epoch acc\na 1 0.1\n", "has one cell; it must name the columns, separated by"),
    "mixed separators": (HEADER + "a,1,0.1\na;2;0.2\n", "row 3 has 1 cells, but the header has 3"),
    "decimal commas among commas": (HEADER + "a,1,0,1\na,2,0,2\n", "row 2 has 4 cells, but the header has 3"),
    "a row too long": (GOOD + "a,3,0.3,0.4\n", "row 4 has 4 cells"),
    "a row too short": (HEADER + "a,1,0.1\na,2\na,3,0.3\n", "row 3 has 2 cells"),
    "a row too long and one too short": (HEADER + "a,1,0.1,5\na,2\na,3,0.3\n", "row 2 has 4 cells"),
    "an open quote": (HEADER + 'a,1,"0.1\n', "can't be read as CSV"),
    "missing column": ("run,acc\na,0.1\n", "no column 'epoch'"),
    "missing metric": ("run,epoch\na,1\n", "has the metrics none"),
    "column twice": ("run,epoch,acc,acc\na,1,0.1,0.2\n", "2 columns 'acc'"),
    "epoch twice": ("run,epoch,epoch,acc\na,1,1,0.2\n", "several columns 'epoch'"),
    "negative epochs": (HEADER + "a,-1,0.1\na,0,0.1\n", "epoch -1 in row 2 is negative"),
    "fractional epochs": (HEADER + "a,0.5,0.1\n", r"epoch 0\.5 in row 2: these must be whole numbers"),
    "dates as epochs": (HEADER + "a,2024-01-31,0.1\n", "'2024-01-31' in column 'epoch', row 2, is not a number"),
    "no epoch": (HEADER + "a,,0.1\n", "row 2 has a value but nothing in column 'epoch'"),
    "no run": (HEADER + "a,1,0.1\n,2,0.2\n", "row 3 names no run"),
    "duplicated epochs": (HEADER + "a,1,0.1\na,1,0.1\na,2,0.2\n", ROWS),
    "two values for one epoch": (HEADER + "a,1,0.1\na,1,0.2\n", r"run a has two values at epoch 1: 0\.1 and 0\.2"),
    "huge epoch": (HEADER + "a,1000000000,0.1\n", "epoch 1e\\+09 in row 2 is beyond 1,000,000"),
    "epoch beyond any number": (HEADER + f"a,{10**400},0.1\n", "in column 'epoch', row 2, is not a number"),
    "huge step": ("run,step,acc\na,99999999999999999999,0.1\n", "step 1e\\+20 in row 2 is beyond"),
    "lonely epoch far away": (HEADER + LONG_ROWS + "0,999999,0.5\n", "so almost all would be missing"),
    "huge values": (HEADER + "a,1,1e300\na,2,-1e300\n", [[1e300, -1e300]]),
    "values beyond any number": (HEADER.replace("acc", "loss") + "a,1,2\na,2,1e999\n", [[2, np.inf]]),
    "percent beside fractions": (HEADER + "a,1,71.0\nb,1,0.72\n", "run b looks like a fraction"),
    "irregular steps": (
        "run,step,acc\na,100,1\na,200,2\na,300,3\na,400,4\na,450,5\n",
        "step 450 is not on the grid",
    ),
    "counted from 0 and from 1": (HEADER + "a,0,0.1\nb,1,0.2\n", "run a begins at epoch 0 and run b at 1"),
    "a long line": ("epoch," + ",".join(f"r{i}" for i in range(4_000)) + "\n1" + ",0.5" * 4_000 + "\n", None),
    "a long cell": (HEADER + "a" * 10**6 + ",1,0.1\n", [[0.1]]),
    "a column for each of many runs": (
        "epoch," + ",".join(map(str, range(200_000))) + "\n",
        "has 200,001 columns, more than 200,000: write a row for each run and epoch",
    ),
    "a long header": ("x" * 10**6 + ",epoch,run,acc\n0,1,a,0.1\n", "can't be read as CSV"),
    "UTF-8 with a mark": ("\ufeff" + GOOD, ROWS),
    "a web page": ("<!DOCTYPE html>\n<html><body>404</body></html>\n", "has one cell"),
    "a git pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "has one cell"),
    "a JSON array": ('[{"run": "a", "epoch": 1, "acc": 0.1}]', "is a JSON array: write one object per line"),
    "broken JSON line": ('{"epoch": 1, "acc": 0.1}\n{"epoch": 2, "acc"}\n{"epoch": 3}\n', "line 2 is not JSON"),
    "two objects in a line": ('{"epoch": 1, "acc": 0.1}, {"epoch": 2, "acc": 0.1}\n', "line 1 is not JSON"),
    "JSON of something else": ('{"epoch": 1, "acc": 0.1}\n[1, 2]\n', "line 2 is not a JSON object"),
    "deep JSON": ('{"epoch": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1 is not JSON"),
    "lists in JSON": ('{"epoch": 1, "acc": [0.1]}\n', r"\[0\.1\] in column 'acc', row 1, is not a number"),
    "numbers in JSON that are none": ('{"epoch": 1, "acc": NaN}\n{"epoch": 2, "acc": 0.2}\n', [[np.nan, 0.2]]),
}


def check(source: Any, expected: Any, **options: Any) -> None:
    """One outcome or the other, within two seconds of processor time."""
    read_curves(pd.DataFrame({"epoch": [1], "val_acc": [0.1]}))  # imports
    start = time.process_time()
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected) as caught:
            read_curves(source, **options)
        assert type(caught.value) is ValueError
        assert len(str(caught.value)) < 1000
    else:
        curves = read_curves(source, **options)
        if expected is not None:
            np.testing.assert_array_equal(curves.values, expected)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("case", TEXTS)
def test_malformed_text(tmp_path: Path, case: str) -> None:
    text, expected = TEXTS[case]
    path = tmp_path / "curves.csv"
    path.write_text(text, encoding="utf-8")
    check(path, expected)


def _encrypted() -> bytes:
    """A zip archive that says it needs a password."""
    data = bytearray(zipped(("curves.csv", GOOD.encode())))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


BYTES: dict[str, tuple[str, Callable[[], bytes], Any]] = {
    "binary": ("curves.csv", lambda: bytes(range(256)) * 10, "is binary"),
    "no text": ("curves.csv", lambda: bytes(range(1, 256)) * 10, "is not UTF-8: byte 0x80 at position 127"),
    "PNG": ("curves.csv", lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG image, not a log"),
    "Excel": ("curves.csv", lambda: b"\xd0\xcf\x11\xe0" + bytes(50), "is an Excel or Word file"),
    "Excel since 2007": ("c.csv", lambda: zipped(("a.xml", b""), ("b.xml", b"")), "holds 2 files: it must hold one"),
    "Latin-1": ("curves.csv", lambda: (HEADER + "ü,1,0.1\n").encode("latin-1"), "is not UTF-8: byte 0xfc"),
    "UTF-16": ("curves.csv", lambda: GOOD.encode("utf-16"), ROWS),
    "UTF-16 that ends early": ("curves.csv", lambda: GOOD.encode("utf-16")[:-1], "is not the UTF-16 that it begins as"),
    "UTF-16 without a mark": ("curves.csv", lambda: GOOD.encode("utf-16-le"), "is binary"),
    "gzip that is none": ("curves.csv.gz", lambda: b"not gzip at all", "has one cell"),
    "gzip that ends early": ("curves.csv.gz", lambda: gzip.compress(GOOD.encode() * 99)[:-20], "ends early"),
    "gzip that is damaged": ("c.csv.gz", lambda: gzip.compress(GOOD.encode())[:15] + b"x" * 50, "cannot be read"),
    "bzip2 that is damaged": ("curves.csv.bz2", lambda: b"BZh91AY&SY" + b"x" * 50, "cannot be read"),
    "xz that is damaged": ("curves.csv.xz", lambda: lzma.compress(GOOD.encode())[:20] + b"x" * 50, "cannot be read"),
    "zip that is damaged": ("curves.csv.zip", lambda: zipped(("a.csv", GOOD.encode()))[:40], "cannot be read"),
    "zip without files": ("curves.csv.zip", lambda: zipped(), "holds 0 files"),
    "zip with a password": ("curves.csv.zip", _encrypted, "cannot be read: .*password"),
    "gzip bomb": (
        "curves.csv.gz",
        lambda: gzip.compress(bytes(2**24), 1) * 8,
        "expands to more than 100 times its size",
    ),
    "bzip2 bomb": ("curves.csv.bz2", lambda: bz2.compress(bytes(2**24)) * 8, "expands to more than 100 times"),
    "xz bomb": ("curves.csv.xz", lambda: lzma.compress(bytes(2**24), preset=0) * 8, "expands to more than 100 times"),
    "zip bomb": ("curves.csv.gz", lambda: zipped(("a.csv", bytes(2**27))), "expands to more than 100 times its size"),
    "zip in zip": ("curves.zip", lambda: zipped(("a.zip", zipped(("b.csv", GOOD.encode())))), "has one cell|is binary"),
    "Parquet that is none": ("curves.parquet", lambda: GOOD.encode(), "cannot be read as Parquet"),
    "Parquet that ends early": ("curves.parquet", lambda: parquet()[:-30], "cannot be read as Parquet"),
    "Parquet that is damaged": (
        "curves.parquet",
        lambda: b"PAR1" + bytes(999) + parquet()[-8:],
        "Parquet",
    ),
    "text among Parquet": ("c.parquet", lambda: parquet(acc="high"), "'high' in column 'acc', row 0, is not a number"),
    "events that are none": ("events.out.tfevents.1", lambda: GOOD.encode(), "is no file of TensorBoard events"),
    "length of events": ("events.out.tfevents.1", lambda: struct.pack("<QI", 2**63, 0), "is no file of TensorBoard"),
}


@pytest.mark.parametrize("case", BYTES)
def test_malformed_bytes(tmp_path: Path, case: str) -> None:
    name, content, expected = BYTES[case]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'jostle[logs]'")
    if "tfevents" in name:
        pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'jostle[logs]'")
    (tmp_path / name).write_bytes(content())
    check(tmp_path / name, expected)


def test_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnval.measure.curve_bytes.MAXIMUM", 2**20)
    (tmp_path / "curves.csv").write_text(HEADER + "a,1,0.1\n" * 2**18)
    check(tmp_path / "curves.csv", "has more than .* GiB of text")
    monkeypatch.setattr("nnval.measure.curve_files._LARGEST_TABLE", 3 * 10**5)
    (tmp_path / "curves.parquet").write_bytes(parquet(rows=10**5 + 1))  # known before it is decompressed
    check(tmp_path / "curves.parquet", "has 100,001 rows, more than 100,000")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    check(tmp_path / "nothing.csv", "does not exist")
    check("\0", "does not exist")
    check("x" * 500, "cannot be read: File name too long")
    os.symlink(tmp_path / "loop.csv", tmp_path / "loop.csv")
    check(tmp_path / "loop.csv", "is a symbolic link that leads nowhere")
    (tmp_path / "folder").mkdir()
    check(tmp_path / "folder", "holds no curves")
    os.symlink(tmp_path, tmp_path / "folder" / "around")
    check(tmp_path / "folder", "holds no curves: .*links to folders are not followed")
    for run in ("periodic", "unperturbed"):
        (tmp_path / "study" / run).mkdir(parents=True)
        for name in ("curves.csv", "config.json", "members.csv"):
            (tmp_path / "study" / run / name).touch()
    check(tmp_path / "study", "holds 2 runs of jostle: give one of them, such as .*unperturbed")
    os.mkfifo(tmp_path / "pipe.csv")
    check(tmp_path / "pipe.csv", "is not a regular file")
    check("/dev/zero", "is not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text(GOOD)
    (tmp_path / "curves.csv").chmod(0)
    check(tmp_path / "curves.csv", "cannot be read: Permission denied")
    (tmp_path / "folder").mkdir(mode=0)
    check(tmp_path / "folder", "cannot be read: Permission denied")


def test_files_that_may_not_be_read_by_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, who may read everything."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "somewhere")

    (tmp_path / "curves.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(ValueError, match="cannot be read: Permission denied"):
            read_curves(tmp_path / "curves.csv")
    (tmp_path / "curves.csv").unlink()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        read_curves(tmp_path)


def test_directories_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnval.measure.curve_directories._ENTRIES", 10)
    for number in range(11):
        (tmp_path / f"{number}.dat").touch()
    check(tmp_path, "holds more than 10 files: give the directory that has the curves")


@pytest.mark.parametrize("members", ["", "nonsense\n", "run,status,epoch\n0,diverged,x\n", "run,status,epoch\n0,ok,\n"])
@pytest.mark.parametrize("config", ["", "[]", '{"config": 3}', '{"config": {"epochs": 1e99, "target": "x"}}'])
def test_runs_of_jostle_that_somebody_changed(tmp_path: Path, config: str, members: str) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "members.csv").write_text(members)
    (tmp_path / "curves.csv").write_text("run,epoch,train_loss,validation_accuracy\n0,1,2.0,0.1\n")
    try:
        curves = read_curves(tmp_path)
    except ValueError as error:
        assert "members.csv" in str(error)  # noqa: PT017
    else:
        assert curves.values.tolist() == [[0.1]]
