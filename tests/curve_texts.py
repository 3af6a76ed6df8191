"""A small good file of curves, plain and packed."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest

HEADER = "run,epoch,acc\n"
GOOD = HEADER + "a,1,0.1\na,2,0.2\n"


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def parquet(*, acc: Any = 0.5, rows: int = 3) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'jostle[logs]'")
    from pyarrow import parquet as pq

    table = pa.table({"run": pa.array(["a"] * rows), "epoch": np.arange(rows), "acc": pa.array([acc] * rows)})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()
