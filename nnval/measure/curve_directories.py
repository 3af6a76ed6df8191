"""Directories with curves: a run of jostle, TensorBoard events, or files of one run each."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnval.measure.curve_columns import Layout, chosen_metric, direction_of, shown
from nnval.measure.curve_files import is_table, stem, table_at
from nnval.measure.curve_numbers import Table, natural_order
from nnval.measure.curve_tables import curves_of
from nnval.measure.curves import Curves
from nnval.measure.tensorboard_events import is_event_file, read_scalars

if TYPE_CHECKING:
    import pandas as pd

_ENTRIES = 200_000


def curves_in(path: Path, *, metric: str | None, count: str, direction: str | None) -> Curves:
    """The curves in a directory, or in a single file of TensorBoard events.

    Args:
        path: of it.
        metric, count, direction: see ``nnval.measure.curves.read_curves``.

    Raises:
        ValueError: see there.
    """
    if not path.is_dir():
        table = _event_table({path.resolve().parent.name or "run": [path]}, metric, str(path))
        return curves_of([table], count=count, direction=direction)
    if (path / "curves.csv").is_file():
        return _of_jostle(path, metric, count, direction)
    if (path / "config.json").is_file() and (path / "members").is_dir():
        raise ValueError(f"{path} has no curves.csv: it is a run of jostle that is not finished; train it to its end")
    files = sorted(_files(path))
    events: dict[str, list[Path]] = {}
    for file in files:
        if is_event_file(file.name):
            folder = file.parent.relative_to(path).as_posix()
            events.setdefault(path.resolve().name or "run" if folder == "." else folder, []).append(file)
    if events:
        table = _event_table(events, metric, str(path))
        return curves_of([table], count=count, direction=direction)
    files = [file for file in files if is_table(file.name)]
    ours = ("config.json", "members.csv")
    runs = [f.parent for f in files if f.name == "curves.csv" and all((f.parent / name).is_file() for name in ours)]
    if runs:  # such as a study, whose folders hold networks of different kinds
        example = path / "unperturbed" if path / "unperturbed" in runs else runs[0]
        raise ValueError(f"{path} holds {len(runs)} runs of jostle: give one of them, such as {example}")
    if not files:
        raise ValueError(
            f"{path} holds no curves: neither curves.csv of a run, nor files of TensorBoard events, nor CSV, JSON "
            "lines or Parquet; links to folders are not followed"
        )
    names = _names([file.relative_to(path) for file in files])
    order = natural_order(names)
    tables = []
    for i in order:
        table = table_at(files[i], metric, whole=True)
        tables.append(Table(table.frame, table.where, table.first_row, names[i], table.notes))
    return curves_of(tables, metric=metric, count=count, direction=direction, where=str(path))


def _files(path: Path) -> Iterator[Path]:
    """Files below a directory, without hidden ones."""

    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror or error}") from error

    seen = 0
    for folder, folders, files in os.walk(path, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen += len(folders) + len(files)
        if seen > _ENTRIES:
            raise ValueError(f"{path} holds more than {_ENTRIES:,} files: give the directory that has the curves")
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of runs: of the files, or of their folders if all files are called alike (version_0/metrics.csv)."""
    alike = len(paths) > 1 and len({path.name for path in paths}) == 1
    names = [
        path.parent.as_posix() if alike else (path.parent / stem(path.name)).as_posix().removeprefix("./")
        for path in paths
    ]
    return names if len(set(names)) == len(names) else [path.as_posix() for path in paths]


def _event_table(events: dict[str, list[Path]], metric: str | None, where: str) -> Table:
    import pandas as pd

    tags, cut = read_scalars(list(events.values()))
    if not tags:
        raise ValueError(f"{where}: its TensorBoard events hold no scalars: nothing was logged yet")
    name, notes = chosen_metric(sorted(tags), metric, where)
    run, step, value = tags[name].columns()
    names = np.array(list(events), dtype=object)
    silent = sorted(set(range(len(events))) - set(run.tolist()))
    if silent:
        notes += (f"{len(silent)} folders without {name!r} (such as {shown(names[silent], 3)}): left out",)
    if cut:
        notes += (f"the last record of {shown((file.name for file in cut), 3)} is cut off: left out",)
    if any(tags[name].is_single):
        notes += ("values are stored in single precision: read as the shortest decimals that round to them",)
    frame = pd.DataFrame({0: pd.Categorical.from_codes(run, names), 1: step, 2: value})
    frame.columns = ["run", "step", name]
    return Table(frame, where, place=Layout(name, 1, False, 0, None, (2,), None, notes))


# ---- Runs of jostle ------------------------------------------------------------------------------------------------


def _of_jostle(path: Path, metric: str | None, count: str, direction: str | None) -> Curves:
    """Members that diverged were followed to the horizon; what stopped at the target says nothing beyond it."""
    where = str(path / "curves.csv")
    table = table_at(path / "curves.csv", metric, whole=True)
    frame = table.frame
    config = _config(path)
    if (path / "members.csv").is_file() and {"run", "epoch"} <= set(frame.columns):
        members = table_at(path / "members.csv", None, whole=True).frame
        if {"run", "status", "epoch"} <= set(members.columns):
            frame = _with_ends(frame, members, config.get("epochs"))
    name, _ = chosen_metric([str(c) for c in frame.columns if c not in ("run", "epoch", "parent")], metric, where)
    target = config.get("target")
    stopped = float(target) if name == "validation_accuracy" and isinstance(target, int | float) else None
    table = Table(frame, where, table.first_row, table.name, table.notes)
    return curves_of([table], metric=metric, count=count, direction=direction, stopped_at=stopped)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))["config"]
        return config if isinstance(config, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # curves.csv may have been copied alone, or have another origin


def _with_ends(frame: "pd.DataFrame", members: "pd.DataFrame", horizon: object) -> "pd.DataFrame":
    """Rows of members without any, infinite ones where a diverged member was no longer trained, and parents."""
    import pandas as pd

    metrics = [column for column in frame.columns if column not in ("run", "epoch", "parent")]
    worst = {name: np.inf if (direction_of(str(name)) or ("up",))[0] == "down" else -np.inf for name in metrics}
    there = set(frame["run"].tolist())
    more: list[dict[str, Any]] = []
    for run, status, epoch in zip(members["run"], members["status"], members["epoch"], strict=True):
        if status == "diverged" and isinstance(horizon, int):
            more += [{"run": run, "epoch": t, **worst} for t in range(int(epoch) + 1, horizon + 1)]
        elif run not in there:
            more.append({"run": run, "epoch": 1, **dict.fromkeys(metrics, np.nan)})
    if more:
        frame = pd.concat([frame, pd.DataFrame(more)], ignore_index=True)
    if "parent" in members.columns:
        frame = frame.merge(members[["run", "parent"]], on="run", how="left")
    return frame
