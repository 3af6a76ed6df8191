"""Random tables, logs and bytes, and good files with a few bytes changed: a ValueError or a sound answer."""

import contextlib
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnval.measure.curves import COUNTS, Curves, read_curves
from tests.curve_texts import GOOD, HEADER, parquet, zipped


def assert_sound(source: Any, **options: Any) -> bool:
    """Curves that hold together and give first passages, or a ValueError with a message."""
    problem: ValueError | None = None
    try:
        curves = read_curves(source, **options)
    except ValueError as error:
        problem, curves = error, None
    if curves is None:
        assert type(problem) is ValueError
        assert len(str(problem)) > 10
        return False
    assert isinstance(curves, Curves)
    assert curves.values.shape == (len(curves.runs), curves.horizon)
    assert curves.values.dtype == float
    assert len(set(curves.runs)) == curves.n
    assert np.isfinite(curves.values).any()
    assert not np.isnan(curves.values[:, -1]).all(), "the horizon is the last evaluation"
    assert curves.direction in ("up", "down")
    assert all(isinstance(note, str) and note for note in curves.assumptions)
    target = float(np.nanmedian(np.where(np.isfinite(curves.values), curves.values, np.nan)))
    try:
        passages = curves.first_passages(target)
    except ValueError as error:
        assert "would meet any target" in str(error) or "percent" in str(error)  # noqa: PT017
        return True
    assert passages.n == curves.n
    assert passages.observed.any()
    return True


CELLS = st.one_of(
    st.floats(width=64),
    st.integers(-3, 12),
    st.sampled_from(["nan", "-", "", "x", "0.5", "1e400", None, True, "٣", "a,b"]),
)  # fmt: skip
NAMES = st.sampled_from(
    ["run", "epoch", "acc", "loss", "step", "seed", "", "Epoch", "a - acc", "b - acc__MIN", "parent", " run", "x", "é"]
)  # fmt: skip


@settings(max_examples=200)
@given(
    st.integers(1, 6).flatmap(
        lambda width: st.tuples(
            st.lists(NAMES, min_size=width, max_size=width),
            st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=8),
        )
    ),
    st.sampled_from(COUNTS),
    st.sampled_from([None, "acc", "x"]),
)  # fmt: skip
def test_random_tables(table: tuple[list[str], list[list[Any]]], count: str, metric: str | None) -> None:
    names, rows = table
    assert_sound(pd.DataFrame(rows, columns=pd.Index(names)), count=count, metric=metric)


EPOCHS = st.one_of(st.integers(-1, 8), st.integers(0, 4).map(lambda k: 100 * k), st.sampled_from([0.5, "x", None]))
VALUES = st.one_of(st.floats(0, 1), st.floats(), st.sampled_from(["nan", "inf", "-inf", "", None, "?", 71.0]))


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", 3, None]), EPOCHS, VALUES), min_size=1, max_size=12),
    st.sampled_from(["epoch", "step"]),
    st.sampled_from(COUNTS),
    st.sampled_from(["csv", "jsonl", "frame"]),
)
def test_random_logs(rows: list[tuple[Any, Any, Any]], clock: str, count: str, kind: str) -> None:
    table = pd.DataFrame(rows, columns=pd.Index(["run", clock, "loss"]))
    if kind == "frame":
        assert_sound(table, count=count)
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"curves.{kind}"
        if kind == "csv":
            table.to_csv(path, index=False)
        else:
            path.write_text("\n".join(json.dumps(dict(zip(table.columns, row, strict=True))) for row in rows))
        assert_sound(path, count=count)


def test_random_logs_are_often_read() -> None:
    """So that the tests above are not about errors only."""
    read = 0
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = int(rng.integers(1, 8))
        values = rng.choice([0.1, 0.5, np.nan, np.inf, 0.7], size)
        table = pd.DataFrame({"run": rng.choice(["a", "b"], size), "epoch": rng.integers(0, 9, size), "loss": values})
        read += assert_sound(table)
    assert read > 100


MAGIC = [b"PAR1", b"\x1f\x8b", b"BZh9", b"PK\x03\x04", b"\xfd7zXZ\x00", b"{", b"\xff\xfe", HEADER.encode()]


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(bytes.__add__, st.sampled_from(MAGIC), st.binary(max_size=200)),
        st.text(alphabet='run,epochac;|\t"{}[]:0123456789.e-\n\r ', max_size=200).map(str.encode),
        st.text(alphabet='ab,0123."\n\r -', max_size=60).map(lambda rest: HEADER.encode() + rest.encode()),
    ),
    st.sampled_from(["curves.csv", "curves.jsonl", "curves.parquet", "curves.csv.gz", "events.out.tfevents.1"]),
)  # fmt: skip
def test_random_bytes(content: bytes, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        assert_sound(path)


@settings(max_examples=150)
@given(st.data())
def test_good_files_with_a_few_bytes_changed(data: st.DataObject) -> None:
    import tempfile

    good = data.draw(st.sampled_from(GOOD_BYTES))
    content = bytearray(good[1])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / good[0]
        path.write_bytes(bytes(content))
        assert_sound(path)


GOOD_BYTES = [
    ("curves.csv", GOOD.encode()),
    ("curves.csv.gz", gzip.compress(GOOD.encode())),
    ("curves.csv.xz", lzma.compress(GOOD.encode())),
    ("curves.zip", zipped(("a.csv", GOOD.encode()))),
    ("curves.jsonl", b'{"run": "a", "epoch": 1, "acc": 0.1}\n{"run": "a", "epoch": 2, "acc": 0.2}\n'),
]
with contextlib.suppress(pytest.skip.Exception):
    GOOD_BYTES.append(("curves.parquet", parquet()))
