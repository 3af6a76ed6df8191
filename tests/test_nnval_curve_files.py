"""Files and directories as curves: one answer whatever they are written in, compressed or not."""

import bz2
import gzip
import json
import lzma
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnval.measure.curves import Curves, read_curves

NAN = np.nan


def said(curves: Curves, words: str) -> bool:
    return any(words in note for note in curves.assumptions)


def long_table(seed: int = 0) -> pd.DataFrame:
    """Runs of unequal length with gaps; accuracies of four decimals, as most are."""
    rng = np.random.default_rng(seed)
    run, epoch = (index.ravel() for index in np.meshgrid(np.arange(12), np.arange(1, 31), indexing="ij"))
    kept = (epoch <= 30 - run) & (rng.random(len(run)) < 0.9)
    kept |= epoch == 1
    acc = rng.integers(1000, 9999, len(run)) / 10_000
    return pd.DataFrame({"run": run, "epoch": epoch, "val_acc": acc, "val_loss": -np.log(acc)}).loc[kept]


def wide_table(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index="epoch", columns="run", values="val_acc").reset_index()


def write_events(folder: Path, tags: Mapping[str, Sequence[tuple[int, float]]]) -> Path:
    """An event file as TensorBoard's own writer makes it."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'jostle[logs]'")
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    before = set(folder.glob("*tfevents*"))
    writer = EventFileWriter(str(folder))
    for tag, points in tags.items():
        for step, value in points:
            event = event_pb2.Event(step=step)  # pyright: ignore[reportAttributeAccessIssue]
            event.summary.value.add(tag=tag, simple_value=value)
            writer.add_event(event)
    writer.close()
    (file,) = set(folder.glob("*tfevents*")) - before
    return file


# ---- One answer ----------------------------------------------------------------------------------------------------


def test_the_same_data_in_every_format(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'jostle[logs]'")
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'jostle[logs]'")
    table = long_table(seed)
    table.to_csv(tmp_path / "long.csv", index=False)
    wide_table(table).to_csv(tmp_path / "wide.csv", index=False)
    table.to_parquet(tmp_path / "long.parquet")
    table.set_index(["run", "epoch"]).to_parquet(tmp_path / "indexed.parquet")
    table.astype({"val_acc": "float32"}).to_parquet(tmp_path / "single.parquet")
    table.to_json(tmp_path / "long.jsonl", orient="records", lines=True, double_precision=15)
    (tmp_path / "files").mkdir()
    for run, rows in table.groupby("run"):
        write_events(
            tmp_path / "events" / f"run_{run}",
            {"val_acc": list(zip(rows["epoch"], rows["val_acc"], strict=True)), "val_loss": [(1, 2.0)]},
        )
        rows.drop(columns="run").to_csv(tmp_path / "files" / f"run_{run}.csv", index=False)
    expected = read_curves(table)
    assert expected.values.shape == (12, 30)
    assert expected.metric == "val_acc"
    for name in ("long.csv", "long.parquet", "indexed.parquet", "single.parquet", "long.jsonl", "files", "events"):
        curves = read_curves(tmp_path / name, metric="val_acc")
        np.testing.assert_array_equal(curves.values, expected.values, err_msg=name)
        assert curves.runs in (expected.runs, tuple(f"run_{run}" for run in range(12))), name
        assert (curves.metric, curves.direction) == ("val_acc", "up"), name
    np.testing.assert_array_equal(read_curves(tmp_path / "wide.csv").values, expected.values)
    assert read_curves(tmp_path / "wide.csv").runs == expected.runs
    assert said(read_curves(tmp_path / "events"), "single precision")
    assert said(read_curves(tmp_path / "files"), "12 files, read as one run each")


def test_every_double_is_read_exactly(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.random(5000), np.exp(rng.normal(0, 30, 5000)), rng.integers(0, 50_001, 5000) / 50_000])
    rows = "\n".join(f"{k + 1},{value!r}" for k, value in enumerate(values.tolist()))
    (tmp_path / "long.csv").write_text(f"epoch,loss\n{rows}\n")
    np.testing.assert_array_equal(read_curves(tmp_path / "long.csv").values[0], values)
    objects = (json.dumps({"epoch": k + 1, "loss": value}) for k, value in enumerate(values.tolist()))
    (tmp_path / "long.jsonl").write_text("\n".join(objects))
    np.testing.assert_array_equal(read_curves(tmp_path / "long.jsonl").values[0], values)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip", ""])
def test_compressed_files_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    text = b"run,epoch,acc\n0,1,0.1\n0,2,0.2\n"
    path = tmp_path / f"curves.csv{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/inner.csv", text)
            archive.writestr("__MACOSX/folder/._inner.csv", b"\0\0")
    else:
        compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, "": bytes}[suffix]
        path.write_bytes(compress(text))
    assert read_curves(path).values.tolist() == [[0.1, 0.2]]
    misnamed = path.rename(tmp_path / "curves.csv.gz")
    assert read_curves(str(misnamed)).values.tolist() == [[0.1, 0.2]]


@pytest.mark.parametrize(
    "text",
    [
        "run;epoch;acc\na;1;0,1\na;2;0,25\n",
        "run;epoch;acc\na;1;0.1\na;2;0.25\n",
        "run\tepoch\tacc\na\t1\t0.1\na\t2\t0.25\n",
        "run|epoch|acc\na|1|0.1\na|2|0.25\n",
        "run, epoch, acc\na, 1, 0.1\na, 2, 0.25\n",
        '"run","epoch","acc"\n"a","1","0.1"\n"a","2","0.25"\n',
        "run,epoch,acc\r\na,1,0.1\r\na,2,0.25\r\n",
        "run,epoch,acc\ra,1,0.1\ra,2,0.25\r",
        "\ufeffrun,epoch,acc\na,1,0.1\na,2,0.25\n",
        "run,epoch,acc\na,1,0.1\na,2,0.25",
        "run,epoch,acc\n\na,1,0.1\n\na,2,0.25\n\n",
        "\n\nrun,epoch,acc\na,1,0.1\na,2,0.25\n",
        ",run,epoch,acc,\n0,a,1,0.1,\n1,a,2,0.25,\n",
        'acc,note,epoch,run\n0.1,"one, ""two""\nthree",1,a\n0.25,,2,a\n',
        "run,epoch,acc\na,2,0.25\na,1,+1e-1\n",
        "run,epoch,acc\na,1.0,0.1\na,2.0,.25\n",
    ],
)
def test_dialects_of_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(text, encoding="utf-8", newline="")
    curves = read_curves(path)
    assert curves.runs == ("a",)
    assert curves.values.tolist() == [[0.1, 0.25]]
    path.write_text(text.removeprefix("\ufeff"), encoding="utf-16", newline="")
    assert read_curves(path).values.tolist() == [[0.1, 0.25]]


def test_runs_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("run,epoch,acc\n007,1,0.1\n7,1,0.2\nNA,1,0.3\nnan,1,0.4\nnull,1,0.5\n1e3,1,0.6\nß,1,0.7\n")
    curves = read_curves(path)
    assert dict(zip(curves.runs, curves.values[:, 0], strict=True)) == {
        "007": 0.1, "7": 0.2, "NA": 0.3, "nan": 0.4, "null": 0.5, "1e3": 0.6, "ß": 0.7,
    }  # fmt: skip


def test_what_is_still_being_written(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("run,epoch,acc\n0,1,0.1\n0,2")
    assert read_curves(path).values.tolist() == [[0.1]]
    assert said(read_curves(path), "the last row of curves.csv is cut off")
    path = tmp_path / "curves.jsonl"
    path.write_text('{"run": 0, "epoch": 1, "acc": 0.1}\n{"run": 0, "ep')
    assert read_curves(path).values.tolist() == [[0.1]]
    assert said(read_curves(path), "the last row of curves.jsonl is cut off")


def test_many_rows_are_read_in_linear_memory(tmp_path: Path) -> None:
    """A fiftieth of 10^7 rows, to be quick: memory is what the file and its columns take, a few times over."""
    n, horizon = 1_000, 200
    run, epoch = np.repeat(np.arange(n), horizon), np.tile(np.arange(1, horizon + 1), n)
    acc = np.random.default_rng(0).integers(0, 10_000, n * horizon) / 10_000
    lines = zip(run.tolist(), epoch.tolist(), acc.tolist(), strict=True)
    path = tmp_path / "curves.csv"
    path.write_text("run,epoch,acc\n" + "".join(f"{r},{e},{a!r}\n" for r, e, a in lines))
    read_curves(pd.DataFrame({"epoch": [1], "val_acc": [0.1]}))  # imports
    tracemalloc.start()
    curves = read_curves(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(curves.values, acc.reshape(n, horizon))
    assert peak < 100 * n * horizon


@pytest.mark.parametrize("block", [1, 7, 20, 1000])
@pytest.mark.parametrize("bad", ["a,3\n", "a,3,0.1,5\n", "a\n", ",,,\n"])
@pytest.mark.parametrize("row", [2, 5, 7])
def test_uneven_rows_are_found_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, bad: str, row: int
) -> None:
    monkeypatch.setattr("nnval.measure.curve_files._BLOCK", block)
    lines = ["run,epoch,acc\n", *(f"a,{epoch},0.{epoch}\n" for epoch in range(1, 7))]
    path = tmp_path / "curves.csv"
    path.write_text("".join(lines))
    assert read_curves(path).horizon == 6
    path.write_text("".join([*lines[: row - 1], bad, *lines[row - 1 :]]))
    if bad == ",,,\n":  # empty cells too many
        assert read_curves(path).horizon == 6
    else:
        with pytest.raises(ValueError, match=f"row {row} has {bad.count(',') + 1} cells, but the header has 3"):
            read_curves(path)


def test_json_lines_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnval.measure.curve_files._LINES", 2)
    path = tmp_path / "curves.jsonl"
    good = '{"epoch": 1, "loss": 2}\n{"epoch": 1, "val_acc": 0.5}\n\n{"epoch": 2, "loss": 1, "val_acc": 0.6}\n'
    path.write_text(good)
    assert read_curves(path).values.tolist() == [[0.5, 0.6]]
    path.write_text(good + '{"epoch": 3\n{"epoch": 4}\n')
    with pytest.raises(ValueError, match="line 5 is not JSON"):
        read_curves(path)


# ---- Directories ---------------------------------------------------------------------------------------------------


def write_run(directory: Path, members: str, curves: str, *, target: float | None = None, epochs: int = 3) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"config": {"target": target, "epochs": epochs}}))
    (directory / "members.csv").write_text(members)
    (directory / "curves.csv").write_text("run,epoch,train_loss,validation_accuracy\n" + curves)
    return directory


def test_run_of_jostle(tmp_path: Path) -> None:
    members = "run,parent,status,epoch,test_accuracy\n4,2,horizon,3,0.3\n5,2,diverged,1,\n6,3,reached,2,0.5\n"
    curves = "4,1,2,0.1\n4,2,2,0.2\n4,3,2,0.3\n5,1,2,0.1\n6,1,1,0.1\n6,2,1,0.5\n"
    result = read_curves(write_run(tmp_path / "run", members, curves, target=0.5))
    assert result.runs == ("4", "5", "6")
    assert result.parents == ("2", "2", "3")
    np.testing.assert_array_equal(result.values, [[0.1, 0.2, 0.3], [0.1, -np.inf, -np.inf], [0.1, 0.5, NAN]])
    assert result.first_passages(0.5).times.tolist() == [3, 3, 2]  # who diverged was followed to the horizon
    with pytest.raises(ValueError, match="where runs were stopped"):
        result.first_passages(0.6)
    losses = read_curves(tmp_path / "run", metric="train_loss")
    assert losses.values[1].tolist() == [2, np.inf, np.inf]
    assert losses.first_passages(1).times.tolist() == [3, 3, 1]


def test_members_that_diverged_in_their_first_epoch_count(tmp_path: Path) -> None:
    members = "run,status,epoch,test_accuracy\n0,horizon,2,0.3\n1,diverged,0,\n"
    result = read_curves(write_run(tmp_path / "run", members, "0,1,2,0.1\n0,2,2,0.2\n", epochs=2))
    assert (result.runs, result.parents) == (("0", "1"), None)
    assert result.first_passages(0.9).times.tolist() == [2, 2]
    assert result.stopped_at is None


def test_run_of_jostle_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "run" / "members").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run of jostle that is not finished"):
        read_curves(tmp_path / "run")


def test_directory_of_files_alike(tmp_path: Path) -> None:
    """The folders of Lightning's CSVLogger."""
    for version in (10, 2):
        folder = tmp_path / "logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text("lr: 0.1\n")
        (folder / "metrics.csv").write_text(f"epoch,step,val_acc,train_loss\n0,9,0.{version},\n0,9,,1.0\n1,19,0.5,\n")
    (tmp_path / "logs" / ".hidden.csv").write_text("nonsense")
    curves = read_curves(tmp_path / "logs")
    assert curves.runs == ("version_2", "version_10")
    assert curves.values.tolist() == [[0.2, 0.5], [0.1, 0.5]]


def test_directory_of_files_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("epoch,val_acc\n1,0.1\n")
    (tmp_path / "b.csv").write_text("epoch,test_acc\n1,0.1\n")
    with pytest.raises(ValueError, match="has a column 'epoch' but neither runs nor metrics"):
        read_curves(tmp_path)
    (tmp_path / "b.csv").write_text("run,epoch,val_acc\n0,1,0.1\n1,1,0.1\n")
    with pytest.raises(ValueError, match=r"b\.csv holds 2 runs"):
        read_curves(tmp_path)
    (tmp_path / "b.csv").write_text("run,epoch,val_acc\n7,1,0.2\n")
    assert read_curves(tmp_path).runs == ("a", "b")


# ---- TensorBoard ---------------------------------------------------------------------------------------------------


def test_event_folders(tmp_path: Path) -> None:
    file = write_events(tmp_path / "logs" / "a", {"acc/val": [(390, 0.5), (781, 0.71)], "lr": [(1, 0.1)]})
    write_events(tmp_path / "logs" / "b" / "c", {"acc/val": [(390, 0.25)]})
    write_events(tmp_path / "logs" / "d", {"other": [(1, 0.1)]})
    curves = read_curves(tmp_path / "logs", metric="acc/val")
    assert curves.runs == ("a", "b/c")
    assert curves.unit == "391 steps"
    np.testing.assert_array_equal(curves.values, [[0.5, 0.71], [0.25, NAN]])
    assert said(curves, "1 folders without 'acc/val' (such as d): left out")
    with pytest.raises(ValueError, match="has the metrics acc/val, other: say which"):
        read_curves(tmp_path / "logs")
    assert read_curves(file).runs == ("a",)
    assert read_curves(tmp_path / "logs" / "a").runs == ("a",)


def test_resumed_runs_of_tensorboard_that_disagree(tmp_path: Path) -> None:
    first = write_events(tmp_path / "a", {"acc": [(1, 0.5), (2, 0.6)]})
    first.rename(tmp_path / "a" / "events.out.tfevents.0")
    write_events(tmp_path / "a", {"acc": [(2, 0.6), (3, 0.7)]})
    assert read_curves(tmp_path).values.tolist() == [[0.5, 0.6, 0.7]]
    write_events(tmp_path / "a", {"acc": [(3, 0.75)]}).rename(tmp_path / "a" / "events.out.tfevents.9")
    with pytest.raises(ValueError, match=r"run a has two values at step 3: 0\.7 and 0\.75"):
        read_curves(tmp_path)


def test_scalars_of_tensorflow_2_and_of_double_precision(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'jostle[logs]'")
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.scalar import metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(tmp_path / "a"))
    for step, value in enumerate([np.float32(0.71), np.float64(1 / 3), np.zeros(3, np.float32)], start=1):
        event = event_pb2.Event(step=step)  # pyright: ignore[reportAttributeAccessIssue]
        event.summary.value.add(
            tag="acc", tensor=make_tensor_proto(value), metadata=metadata.create_summary_metadata("acc", "")
        )
        writer.add_event(event)
    writer.close()
    assert read_curves(tmp_path).values.tolist() == [[0.71, 1 / 3]]


def test_event_files_that_are_cut_off_or_damaged(tmp_path: Path) -> None:
    file = write_events(tmp_path / "a", {"acc": [(1, 0.5), (2, 0.6)]})
    whole = file.read_bytes()
    for cut in range(1, 30):
        file.write_bytes(whole[:-cut])
        curves = read_curves(tmp_path)
        assert curves.values.tolist() == [[0.5]]
        assert said(curves, "is cut off: left out")
    file.write_bytes(whole + bytes(100))
    assert read_curves(tmp_path).values.tolist() == [[0.5, 0.6]]
    last = len(whole) - 10
    file.write_bytes(whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :])
    with pytest.raises(ValueError, match="is damaged at byte"):
        read_curves(tmp_path)
    file.write_bytes(struct.pack("<QI", 5, 0) + b"nonsense")
    with pytest.raises(ValueError, match="is no file of TensorBoard events"):
        read_curves(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="hold no scalars"):
        read_curves(tmp_path)


# ---- Without the extra, and elsewhere ------------------------------------------------------------------------------


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.compat.proto.event_pb2", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"pip install 'jostle\[logs\]'"):
        read_curves(tmp_path / "a.parquet")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install 'jostle\[logs\]'"):
        read_curves(tmp_path)


def test_names_that_look_like_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "a[0-9]" / "*?{b}"
    folder.mkdir(parents=True)
    (folder / "run[1]*.csv").write_text("epoch,val_acc\n1,0.5\n")
    (folder / "run[2]*.csv").write_text("epoch,val_acc\n1,0.6\n")
    assert read_curves(folder / "run[1]*.csv").runs == ("run[1]*",)
    assert read_curves(folder).runs == ("run[1]*", "run[2]*")
    os.symlink(folder, tmp_path / "link")
    assert read_curves(tmp_path / "link").n == 2
